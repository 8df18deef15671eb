"""A view seen through a kernel: its values for new rows, centred by what was seen in training."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist

_MEDIAN_OF = 1000  # the median distance is taken among at most so many rows
_AT_ONCE = 2**22  # entries of a kernel that are held at once where there is a choice: 32 MiB


@dataclass
class View:
    """One view's kernel against the rows that carry it: every training row, or the landmarks."""

    rows: np.ndarray  # (m, d), less ``offset``
    offset: np.ndarray  # (d,), what is taken from every row first: distances keep their digits
    function: Callable | None  # a kernel of the user's, or None
    gamma: float | None  # of the RBF; None: linear
    means: np.ndarray | None = None  # (m,), the mean over ALL training rows of the kernel with each of ``rows``
    dual: np.ndarray | None = None  # (m, k): f(x) = (k(x, rows) - means) @ dual

    def kernel(self, new: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """k(new, rows), (n_new, m): not centred."""
        rows = self.rows if rows is None else rows
        new = new - self.offset
        if self.function is not None:
            K = np.asarray(self.function(new, rows), dtype=np.float64)
            if K.shape != (len(new), len(rows)) or not np.isfinite(K).all():
                raise ValueError(
                    f"kernel(a, b) must give finite numbers of shape (len(a), len(b)) = {(len(new), len(rows))}; "
                    f"got shape {K.shape}"
                )
            return K
        K = new @ rows.T
        if self.gamma is None:
            return K
        K *= 2 * self.gamma  # exp(-gamma |a - b|^2), in place
        K -= self.gamma * (new**2).sum(axis=1)[:, None]
        K -= self.gamma * (rows**2).sum(axis=1)
        np.minimum(K, 0.0, out=K)
        return np.exp(K, out=K)

    def chunks(self, new: np.ndarray) -> Iterator[np.ndarray]:
        """k(new, rows) some rows at a time."""
        step = max(1, _AT_ONCE // len(self.rows))
        for start in range(0, len(new), step):
            yield self.kernel(new[start : start + step])

    def project(self, new: np.ndarray) -> np.ndarray:
        """The variates of new rows, (n_new, k): centred by what was seen in training."""
        return np.concatenate([(K - self.means) @ self.dual for K in self.chunks(new)])


def median_gamma(rows: np.ndarray, seed: int = 0) -> float:
    """1 / (2 median^2) of the distances between different rows (n, d), or between 1,000 of them drawn by ``seed``.

    Raises ValueError when all rows are equal.
    """
    if len(rows) > _MEDIAN_OF:
        rows = rows[np.random.default_rng(seed).choice(len(rows), _MEDIAN_OF, replace=False)]
    distances = pdist(rows)
    distances = distances[distances > 0]
    if len(distances) == 0:
        raise ValueError("all rows are equal: no distance to take the width of the kernel from")
    return float(1 / (2 * np.median(distances) ** 2))
