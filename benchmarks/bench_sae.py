"""The semantic autoencoder beside scipy's Sylvester solver, at equal maps: python benchmarks/bench_sae.py

Both start from the rows and form the Gram matrices. scipy takes any square matrices and brings them to Schur form; ours
knows that they are symmetric and positive semi-definite, and needs their eigenvectors alone. What must be equal is the
map itself; how far each is from solving the equation stands beside it.
"""

import _bench
import numpy as np
from scipy import linalg

from commonspace.models import SemanticAutoencoder

SIZES = [(512, 85), (1024, 300), (2048, 300)]  # features, semantic dimensions
LAM = 0.5


def rows(n: int, d: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) and the semantic vectors (n, k) that explain half of them."""
    rng = np.random.default_rng(seed)
    S = rng.normal(size=(n, k))
    return S @ rng.normal(size=(k, d)) / np.sqrt(k) + rng.normal(size=(n, d)), S


def by_scipy(X: np.ndarray, S: np.ndarray) -> np.ndarray:
    """W (k, d) from scipy."""
    return linalg.solve_sylvester(S.T @ S, LAM * (X.T @ X), (1 + LAM) * (S.T @ X))


METHODS = {
    "commonspace": lambda X, S: SemanticAutoencoder(LAM, relative=False).fit(X, S).weights_,
    "scipy": by_scipy,
}


def residual(W: np.ndarray, X: np.ndarray, S: np.ndarray) -> float:
    """Of the Sylvester equation, relative to its right side."""
    right = (1 + LAM) * (S.T @ X)
    return float(linalg.norm(S.T @ S @ W + W @ (LAM * (X.T @ X)) - right) / linalg.norm(right))


def compare(n: int, d: int, k: int, repeats: int) -> list[dict]:
    """Rows of the table for one size."""
    X, S = rows(n, d, k)
    maps = {name: method(X, S) for name, method in METHODS.items()}
    largest = np.abs(maps["commonspace"]).max()
    # How far each map is from ours, in its largest entry.
    apart = {name: float(np.abs(W - maps["commonspace"]).max() / largest) for name, W in maps.items()}
    _bench.same(apart, within=1e-9)
    residuals = {name: residual(W, X, S) for name, W in maps.items()}
    assert max(residuals.values()) < 1e-10, residuals
    timed = _bench.race({name: lambda name=name: METHODS[name](X, S) for name in METHODS}, repeats)
    size = {"n": n, "features": d, "semantic": k}
    return [size | row | {"residual": f"{residuals[row['method']]:.0e}"} for row in timed]


def run(tiny: bool = False) -> list[dict]:
    if tiny:
        return compare(60, 20, 8, repeats=2)
    return [row for d, k in SIZES for row in compare(4000, d, k, repeats=5)]


if __name__ == "__main__":
    _bench.main("sae", "Semantic autoencoder, 4,000 rows", run, peers=("scipy",))
