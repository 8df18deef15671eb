"""CCA beside cca-zoo and scikit-learn on the same rows, at equal correlations: python benchmarks/bench_cca.py

Two views of 512 and 300 columns share 100 hidden factors, and each has 50 of its own. What must be equal is the total
correlation in training. scikit-learn finds one component after the other, by iterations over all rows, which takes it
one to two minutes for 64 of them at n = 2,000: it runs there alone, once, and as it comes (some components stop at its
500 iterations, which costs it less than 1e-4 of correlation a component).
"""

import warnings

import _bench
import numpy as np
from cca_zoo.linear import CCA as ZooCCA
from sklearn.cross_decomposition import CCA as SklearnCCA
from sklearn.exceptions import ConvergenceWarning

from commonspace.models import CCA
from commonspace.models._rows import paired_correlations


def views(n: int, p: int = 512, q: int = 300, shared: int = 100, private: int = 50, seed: int = 0):
    """Rows X (n, p), Y (n, q)."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, shared)) * np.linspace(2, 0.5, shared)
    sides = []
    for d in (p, q):
        own = rng.normal(size=(n, private)) @ rng.normal(size=(private, d))
        sides.append(hidden @ rng.normal(size=(shared, d)) + own + 3 * rng.normal(size=(n, d)))
    return sides


def compare(n: int, k: int, repeats: dict[str, int], **sizes) -> list[dict]:
    """Rows of the table for n pairs and k components; ``repeats`` names who takes part."""
    X, Y = views(n, **sizes)
    contestants = {
        "commonspace": lambda: CCA(k).fit(X, Y),
        "cca-zoo": lambda: ZooCCA(n_components=k).fit([X, Y]),
        "scikit-learn": lambda: iterate(k, X, Y),
    }
    fitted = {}
    kept = {name: lambda name=name: fitted.update({name: contestants[name]()}) for name in repeats}
    rows = _bench.race(kept, repeats)
    totals = {name: total(name, model, X, Y) for name, model in fitted.items()}
    _bench.same(totals, within=1e-4 * k)
    return [{"n": n, "k": k} | row | {"total correlation": totals[row["method"]]} for row in rows]


def iterate(k: int, X, Y) -> SklearnCCA:
    """scikit-learn's CCA, without its warning that some components stop at 500 iterations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return SklearnCCA(n_components=k).fit(X, Y)


def total(name: str, model, X, Y) -> float:
    """Total training correlation of a fitted model's variates; the signs are free."""
    a, b = model.transform([X, Y]) if name == "cca-zoo" else model.transform(X, Y)
    return float(np.abs(paired_correlations(np.asarray(a), np.asarray(b))).sum())


def run(tiny: bool = False) -> list[dict]:
    if tiny:
        small = {"p": 12, "q": 9, "shared": 4, "private": 2}
        return compare(200, 3, {"commonspace": 2, "cca-zoo": 2, "scikit-learn": 1}, **small)
    rows = compare(2_000, 64, {"commonspace": 7, "cca-zoo": 7, "scikit-learn": 1})
    rows += compare(10_000, 64, {"commonspace": 5, "cca-zoo": 5})
    return rows + compare(100_000, 64, {"commonspace": 3, "cca-zoo": 3})


if __name__ == "__main__":
    _bench.main("cca", "CCA of 512 and 300 columns", run, peers=("cca-zoo",))
