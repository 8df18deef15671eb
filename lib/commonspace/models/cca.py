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

from commonspace.models._rows import as_pairs, as_rows, number, paired_correlations, whole_number

# A column of which less than this share of variance is left, given the columns before it, is taken as collinear.
_COLLINEAR = 1e-9
_BLOCK = 2048  # rows that are centred at once


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
    return whitening_of(centred.T @ centred / (n - 1), ridge)


def whitening_of(covariance: np.ndarray, ridge: float = 0.0) -> np.ndarray:
    """``whitening`` of n > d rows from their covariance (d, d) alone."""
    R, d = covariance.copy(), len(covariance)
    if ridge > 0:
        R.flat[:: d + 1] += ridge
    # At ridge 0 the answer does not depend on the columns' units, so take them away: what is small is then collinear.
    scale = np.sqrt(np.diag(R))
    scale[scale == 0] = 1.0
    R /= scale
    R /= scale[:, None]
    try:
        L = linalg.cholesky(R, lower=True, check_finite=False)
        if ridge > 0 or np.diag(L).min() ** 2 > _COLLINEAR:
            inverse, _ = linalg.lapack.dtrtri(L, lower=1)
            return inverse.T / scale[:, None]
    except linalg.LinAlgError:
        pass
    s, V = linalg.eigh(R)
    keep = s > s[-1] * _COLLINEAR
    return V[:, keep] / np.sqrt(s[keep]) / scale[:, None]


def _column_scale(centred: np.ndarray, ridge: float) -> np.ndarray:
    """Each column's norm (1 where it is 0), or ones with a ridge, whose meaning depends on the units."""
    scale = np.ones(centred.shape[1]) if ridge > 0 else np.linalg.norm(centred, axis=0)
    return np.where(scale > 0, scale, 1.0)


def joint_covariance(X: np.ndarray, Y: np.ndarray, x_mean: np.ndarray, y_mean: np.ndarray) -> np.ndarray:
    """Covariance (p + q, p + q), by n - 1, of the columns of X (n, p) and Y (n, q) side by side.

    Rows are centred some at a time, before they are multiplied: neither a copy of the views nor digits are lost.
    """
    mean = np.concatenate([x_mean, y_mean])
    C = np.zeros((len(mean), len(mean)))
    for start in range(0, len(X), _BLOCK):
        rows = np.hstack([X[start : start + _BLOCK], Y[start : start + _BLOCK]])
        rows -= mean
        C += rows.T @ rows
    C /= len(X) - 1
    return C


def top_singular(T: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k largest singular values of T (p, q) and their vectors: U (p, k), s (k,) descending, V (q, k).

    By the eigenvectors of T'T, in a third of the time of a full decomposition; squares halve the digits of what is
    small, so that beside a value below a thousandth of the largest the full decomposition decides.
    """
    if T.shape[0] < T.shape[1]:
        V, s, U = top_singular(T.T, k)
        return U, s, V
    q = T.shape[1]
    t, V = linalg.eigh(T.T @ T, subset_by_index=[q - k, q - 1])
    if t[0] > 1e-6 * t[-1]:
        s, V = np.sqrt(t[::-1]), V[:, ::-1]
        return T @ V / s, s, V
    U, s, Vt = linalg.svd(T, full_matrices=False)
    return U[:, :k], s[:k], Vt[:k].T


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
        X, Y = as_pairs(X, Y)
        self.n_features_in_ = X.shape[1]
        self.x_mean_, self.y_mean_ = X.mean(axis=0), Y.mean(axis=0)
        n, p = X.shape
        if n > max(p, Y.shape[1]):
            C = joint_covariance(X, Y, self.x_mean_, self.y_mean_)
            Cxx, Cyy, Cxy = C[:p, :p], C[p:, p:], C[:p, p:]
            Wx = whitening_of(Cxx, self._ridge(np.trace(Cxx) / p, self.x_mean_, "X"))
            Wy = whitening_of(Cyy, self._ridge(np.trace(Cyy) / len(Cyy), self.y_mean_, "Y"))
        else:
            Xc, Yc = X - self.x_mean_, Y - self.y_mean_
            Wx = whitening(Xc, self._ridge(Xc.var(axis=0, ddof=1).mean(), self.x_mean_, "X"))
            Wy = whitening(Yc, self._ridge(Yc.var(axis=0, ddof=1).mean(), self.y_mean_, "Y"))
            Cxy = Xc.T @ Yc / (n - 1)
        rank, k = min(Wx.shape[1], Wy.shape[1]), self.n_components
        if k > rank:
            raise ValueError(
                f"n_components={k}, but {n} pairs of {p} and {Y.shape[1]} columns "
                f"have only {rank} directions in common: ask for at most {rank}"
            )
        U, s, V = top_singular(Wx.T @ Cxy @ Wy, k)
        self.correlations_ = np.clip(s, 0.0, 1.0)
        self.x_weights_, self.y_weights_ = Wx @ U, Wy @ V
        return self

    def transform(self, X, Y=None):
        """Canonical variates: X (n, p) -> (n, k); with Y (n, q) the pair ((n, k), (n, k))."""
        check_is_fitted(self)
        x_scores = (as_rows(X, "X", len(self.x_mean_)) - self.x_mean_) @ self.x_weights_
        if Y is None:
            return x_scores
        return x_scores, (as_rows(Y, "Y", len(self.y_mean_)) - self.y_mean_) @ self.y_weights_

    def fit_transform(self, X, Y):
        """Fit, then transform both views of the same pairs: ((n, k), (n, k))."""
        return self.fit(X, Y).transform(X, Y)

    def score(self, X, Y) -> float:
        """Total correlation: the sum over components of the correlation of both views' variates, on these pairs.

        In [-k, k]; on held-out pairs it says how much of the correlation is real.
        """
        check_is_fitted(self)
        X, Y = as_pairs(X, Y, (len(self.x_mean_), len(self.y_mean_)))
        return float(paired_correlations(*self.transform(X, Y)).sum())

    def embed_image(self, image) -> torch.Tensor:
        """Image features (n, p), the first view, -> (n, k) float32 in the common space."""
        return self._embed(self.transform(image))

    def embed_text(self, text) -> torch.Tensor:
        """Text features (n, q), the second view, -> (n, k) float32 in the common space."""
        check_is_fitted(self)
        text = as_rows(text, "text", len(self.y_mean_))
        return self._embed((text - self.y_mean_) @ self.y_weights_)

    def _embed(self, scores: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(scores * self.correlations_**self.correlation_power).float()

    def _ridge(self, mean_variance: float, mean: np.ndarray, name: str) -> float:
        """The absolute ridge of a view whose columns have these means and this mean variance."""
        # Rounding leaves a column of equal values a variance of some eps^2, never 0.
        if mean_variance <= (np.finfo(float).eps * max(1.0, np.abs(mean).max())) ** 2:
            raise ValueError(f"every column of {name} is constant: there is nothing to correlate")
        return self.regularization * mean_variance

    def _check_parameters(self) -> None:
        whole_number(self.n_components, "n_components", 1)
        number(self.regularization, "regularization")
        number(self.correlation_power, "correlation_power")
