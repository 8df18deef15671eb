"""Canonical correlation analysis: the pairs of directions along which two views correlate most.

Given paired rows x_i, y_i, the first pair of directions solves

    max_{a, b}  corr(a'x, b'y),

and every next pair does the same among directions uncorrelated with the ones before. Whitening turns this into one
singular value decomposition: with covariances C_xx, C_yy, C_xy and W_x' (C_xx + r_x I) W_x = I (W_y likewise),

    W_x' C_xy W_y = U S V',    A = W_x U,    B = W_y V,    correlations = diag(S).

Reference: H. Hotelling, "Relations between two sets of variates", Biometrika 28, 1936. The ridge r: H. D. Vinod,
"Canonical ridge and econometrics of joint production", Journal of Econometrics 4, 1976.

Deviation: Vinod's ridge is absolute. Here it is relative, r_x = regularization * mean(diag C_xx), so that one number
means the same for pixels in [0, 1] and in [0, 255].
"""

import numpy as np
import torch
from scipy import linalg
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

# A column of which less than this share of variance is left, given the columns before it, is taken as collinear.
_COLLINEAR = 1e-9


def _as_rows(values, name: str, columns: int | None = None) -> np.ndarray:
    """``values`` as a finite float64 array of shape (n, d), or a ValueError that says what is wrong with it."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy() if values.dtype == torch.bfloat16 else values.detach().cpu()
    try:
        rows = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers of shape (n, d): {error}") from None
    if rows.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d), one row a sample; got {rows.shape}. One feature: x[:, None]")
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        raise ValueError(f"{name} is empty: its shape is {rows.shape}")
    if columns is not None and rows.shape[1] != columns:
        raise ValueError(f"{name} has {rows.shape[1]} columns, but the model was fitted with {columns}")
    if not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        raise ValueError(f"{name} has NaN or infinite values in {len(bad)} row(s), the first is row {bad[0]}")
    return rows


def _as_pairs(X, Y, columns: tuple[int | None, int | None] = (None, None)) -> tuple[np.ndarray, np.ndarray]:
    X, Y = _as_rows(X, "X", columns[0]), _as_rows(Y, "Y", columns[1])
    if len(X) != len(Y):
        raise ValueError(f"X has {len(X)} rows and Y has {len(Y)}; row i of both must describe the same pair")
    if len(X) < 2:
        raise ValueError("a correlation needs at least 2 pairs, got 1")
    return X, Y


def whitening(centred: np.ndarray, ridge: float = 0.0) -> np.ndarray:
    """A matrix W with W' (C + ridge I) W = I, where C is the covariance (by n - 1) of the centred rows.

    ``centred``: (n, d). ``ridge``: absolute, >= 0. Returns (d, rank). With a ridge of 0, directions of no variance are
    dropped (rank < d); with fewer rows than columns, so are those that no row reaches: they correlate with nothing.
    """
    n, d = centred.shape
    if n <= d:
        scale = _column_scale(centred, ridge)
        _, s, Vt = linalg.svd(centred / scale, full_matrices=False)
        keep = s > s[0] * max(n, d) * np.finfo(s.dtype).eps
        keep[n - 1 :] = False  # n centred rows span n - 1 dimensions
        return Vt[keep].T / np.sqrt(s[keep] ** 2 / (n - 1) + ridge) / scale[:, None]
    covariance = centred.T @ centred / (n - 1)
    if ridge > 0:
        covariance.flat[:: d + 1] += ridge
    # At ridge 0 the answer does not depend on the columns' units, so take them away: what is small is then collinear.
    scale = np.sqrt(np.diag(covariance))
    scale[scale == 0] = 1.0
    R = covariance / scale / scale[:, None]
    try:
        L = linalg.cholesky(R, lower=True)
        if ridge > 0 or np.diag(L).min() ** 2 > _COLLINEAR:
            return linalg.solve_triangular(L, np.eye(d), lower=True).T / scale[:, None]
    except linalg.LinAlgError:
        pass
    s, V = linalg.eigh(R)
    keep = s > s[-1] * _COLLINEAR
    return V[:, keep] / np.sqrt(s[keep]) / scale[:, None]


def _column_scale(centred: np.ndarray, ridge: float) -> np.ndarray:
    """Each column's norm (1 where it is 0), or ones with a ridge, whose meaning depends on the units."""
    scale = np.ones(centred.shape[1]) if ridge > 0 else np.linalg.norm(centred, axis=0)
    return np.where(scale > 0, scale, 1.0)


def paired_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of column i of ``a`` with column i of ``b``: (n, k), (n, k) -> (k,), each in [-1, 1].

    A column without variance correlates with nothing: 0.
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.divide((a * b).sum(axis=0), norms, out=np.zeros_like(norms), where=norms > 0)


class CCA(BaseEstimator):
    """Linear canonical correlation analysis of two views, with scikit-learn's contract.

    Parameters
    ----------
    n_components : int
        How many pairs of directions, k. At most the smaller of the two views' ranks.
    regularization : float >= 0
        Ridge, relative to the mean variance of a view's columns. 0 is plain CCA, which finds correlation 1 in
        anything once n - 1 <= the number of columns; 1 leaves little but the directions of large variance.
    correlation_power : float >= 0
        `embed_image` and `embed_text` scale direction i by correlations_[i] ** correlation_power, so that directions
        that correlate little count little in a similarity. 0 leaves all alike. `transform` never scales.

    Attributes (after fit)
    ----------------------
    correlations_ : (k,) in [0, 1], descending. The training correlations at regularization 0; with a ridge they are
        those of the regularised problem, which are smaller than the training correlations (shrunk).
    x_weights_, y_weights_ : (p, k), (q, k). A row's canonical variates are (row - mean) @ weights; over the training
        rows they have variance 1 (with a ridge, at most 1).
    x_mean_, y_mean_ : (p,), (q,), the training means; new rows are centred by these.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(500, 1))
    >>> X, Y = shared + rng.normal(size=(500, 3)), shared + rng.normal(size=(500, 4))
    >>> CCA(n_components=1).fit(X, Y).correlations_.round(2)
    array([0.77])
    """

    def __init__(self, n_components: int = 2, regularization: float = 0.0, correlation_power: float = 0.0):
        self.n_components = n_components
        self.regularization = regularization
        self.correlation_power = correlation_power

    def fit(self, X, Y):
        """Fit on paired rows X (n, p) and Y (n, q), n >= 2; numpy or torch. Computed in float64.

        Raises ValueError for rows that do not match, values that are not finite, a view whose columns are all
        constant, or more components than the views have directions.
        """
        self._check_parameters()
        X, Y = _as_pairs(X, Y)
        self.n_features_in_ = X.shape[1]
        self.x_mean_, self.y_mean_ = X.mean(axis=0), Y.mean(axis=0)
        Xc, Yc = X - self.x_mean_, Y - self.y_mean_
        Wx, Wy = self._whiten(Xc, "X"), self._whiten(Yc, "Y")
        rank = min(Wx.shape[1], Wy.shape[1])
        if self.n_components > rank:
            raise ValueError(
                f"n_components={self.n_components}, but {len(X)} pairs of {X.shape[1]} and {Y.shape[1]} columns "
                f"have only {rank} directions in common: ask for at most {rank}"
            )
        T = Wx.T @ (Xc.T @ Yc / (len(X) - 1)) @ Wy  # (rank_x, rank_y)
        U, s, Vt = linalg.svd(T, full_matrices=False)
        k = self.n_components
        self.correlations_ = np.clip(s[:k], 0.0, 1.0)
        self.x_weights_, self.y_weights_ = Wx @ U[:, :k], Wy @ Vt[:k].T
        return self

    def transform(self, X, Y=None):
        """Canonical variates: X (n, p) -> (n, k); with Y (n, q) the pair ((n, k), (n, k))."""
        check_is_fitted(self)
        x_scores = (_as_rows(X, "X", len(self.x_mean_)) - self.x_mean_) @ self.x_weights_
        if Y is None:
            return x_scores
        return x_scores, (_as_rows(Y, "Y", len(self.y_mean_)) - self.y_mean_) @ self.y_weights_

    def fit_transform(self, X, Y):
        """Fit, then transform both views of the same pairs: ((n, k), (n, k))."""
        return self.fit(X, Y).transform(X, Y)

    def score(self, X, Y) -> float:
        """Total correlation: the sum over components of the correlation of both views' variates, on these pairs.

        In [-k, k]; on held-out pairs it says how much of the correlation is real.
        """
        check_is_fitted(self)
        X, Y = _as_pairs(X, Y, (len(self.x_mean_), len(self.y_mean_)))
        return float(paired_correlations(*self.transform(X, Y)).sum())

    def embed_image(self, image) -> torch.Tensor:
        """Image features (n, p), the first view, -> (n, k) float32 in the common space."""
        return self._embed(self.transform(image))

    def embed_text(self, text) -> torch.Tensor:
        """Text features (n, q), the second view, -> (n, k) float32 in the common space."""
        check_is_fitted(self)
        text = _as_rows(text, "text", len(self.y_mean_))
        return self._embed((text - self.y_mean_) @ self.y_weights_)

    def _embed(self, scores: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(scores * self.correlations_**self.correlation_power).float()

    def _whiten(self, centred: np.ndarray, name: str) -> np.ndarray:
        # Rounding leaves a column of equal values a variance of some eps^2, never 0.
        mean_variance = (centred**2).sum() / (len(centred) - 1) / centred.shape[1]
        offset = self.x_mean_ if name == "X" else self.y_mean_
        if mean_variance <= (np.finfo(float).eps * max(1.0, np.abs(offset).max())) ** 2:
            raise ValueError(f"every column of {name} is constant: there is nothing to correlate")
        return whitening(centred, self.regularization * mean_variance)

    def _check_parameters(self) -> None:
        if not isinstance(self.n_components, (int, np.integer)) or self.n_components < 1:
            raise ValueError(f"n_components must be a whole number >= 1, got {self.n_components!r}")
        for name in ["regularization", "correlation_power"]:
            value = getattr(self, name)
            if not isinstance(value, (int, float, np.number)) or not np.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be a number >= 0, got {value!r}")
