"""Kernel CCA beside cca-zoo's on the same rows, at the same penalty: python benchmarks/bench_kernel_cca.py

Two views of 20 and 15 columns are curves of 10 shared hidden numbers. cca-zoo's constraint is
(1 - c) K^2 / (n - 1) + c K where ours is K^2 + n kappa K, so c = t / (1 + t) with t = n kappa / (n - 1) makes both
problems one: their variates of held-out rows, and so their held-out correlations, must be equal. Beyond 3,000 rows ours
goes by 500 landmarks, alone: theirs holds 2 n x 2 n numbers. Memory is what the peak rises by during the fit.
"""

import _bench
import numpy as np
from cca_zoo.nonparametric import KCCA

from commonspace.models._rows import paired_correlations
from commonspace.models.kernel_cca import KernelCCA

HELD_OUT = 1000
GAMMA, KAPPA = 0.02, 1e-3


def views(n: int, p: int = 20, q: int = 15, hidden: int = 10, seed: int = 0):
    """Rows X (n, p), Y (n, q)."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(hidden, p)) / np.sqrt(hidden), rng.normal(size=(hidden, q)) / np.sqrt(hidden)
    h = rng.normal(size=(n, hidden))
    noise = rng.normal(size=(n, p)) / 4, rng.normal(size=(n, q)) / 4
    return np.tanh(2 * h @ maps[0]) + noise[0], np.cos(2 * h @ maps[1] + 0.5) + noise[1]


def fit_of_ours(n: int, k: int = 8, landmarks: int | None = None):
    """The function that is measured for its memory."""
    X, Y = views(n)
    return lambda: KernelCCA(k, gamma=GAMMA, kappa=KAPPA, landmarks=landmarks).fit(X, Y)


def beside_cca_zoo(n: int, k: int, repeats: dict[str, int]) -> list[dict]:
    """Rows of the table for n pairs, both exact."""
    X, Y = views(n + HELD_OUT)
    train, test = (X[:n], Y[:n]), (X[n:], Y[n:])
    t = n * KAPPA / (n - 1)
    contestants = {
        "commonspace, exact": lambda: KernelCCA(k, gamma=GAMMA, kappa=KAPPA, landmarks=None).fit(*train),
        "cca-zoo": lambda: KCCA(k, kernel="rbf", gamma=GAMMA, shrinkage=t / (1 + t)).fit(list(train)),
    }
    fitted = {}
    kept = {name: lambda name=name: fitted.update({name: contestants[name]()}) for name in repeats}
    rows = _bench.race(kept, repeats)
    totals = {}
    for name, model in fitted.items():
        a, b = model.transform(list(test)) if name == "cca-zoo" else model.transform(*test)
        totals[name] = float(paired_correlations(np.asarray(a), np.asarray(b)).sum())
    _bench.same(totals, within=1e-4 * k)
    return [{"n": n, "k": k} | row | {"held-out total correlation": totals[row["method"]]} for row in rows]


def alone(n: int, k: int, name: str) -> dict:
    """A row of the table for ours, with its memory."""
    X, Y = views(n + HELD_OUT)
    model = KernelCCA(k, gamma=GAMMA, kappa=KAPPA).fit(X[:n], Y[:n])
    seconds, grown = _bench.peak_memory("bench_kernel_cca", "fit_of_ours", n=n, k=k)
    return {
        "n": n,
        "k": k,
        "method": name,
        "seconds": seconds,
        "repeats": 1,
        "held-out total correlation": model.score(X[n:], Y[n:]),
        "peak MiB": round(grown),
    }


def run(tiny: bool = False) -> list[dict]:
    if tiny:
        rows = beside_cca_zoo(150, 3, {"commonspace, exact": 2, "cca-zoo": 1})
        return [*rows, alone(200, 3, "commonspace, exact")]
    rows = beside_cca_zoo(2_000, 8, {"commonspace, exact": 7, "cca-zoo": 1})
    rows.append(alone(2_000, 8, "commonspace, exact"))
    return rows + [alone(n, 8, "commonspace, 500 landmarks") for n in (5_000, 10_000, 30_000, 100_000)]


if __name__ == "__main__":
    _bench.main("kernel_cca", "Kernel CCA, RBF", run, peers=("cca-zoo",))
