"""Kernel CCA: canonical correlation analysis of functions of the two views instead of their linear combinations.

A kernel k(x, x') is an inner product of features phi(x) that need not be written down. A direction in their space is a
combination of the n training rows, so all that is needed are the n x n matrices of inner products, centred: K_x, K_y.
With a penalty kappa on the length of a direction, without which any two views correlate perfectly, the pairs solve

    max_{a, b}  a' K_x K_y b    subject to    a'(K_x^2 + n kappa K_x) a = b'(K_y^2 + n kappa K_y) b = n - 1,      (1)

With R = K (K + n kappa I)^-1 of each view, the correlations are the singular values of

    R_x^(1/2) R_y^(1/2) = U S V',    a = sqrt(n - 1) (K_x (K_x + n kappa I))^(-1/2) u,  b likewise.               (2)

For the linear kernel (1) is ridge CCA with the absolute ridge kappa n / (n - 1). The form="R" takes R_x R_y = U S V'
and a = sqrt(n - 1) (K_x + n kappa I)^-1 u instead, which is no ridge CCA.

No square root is ever computed: R v = v - n kappa (K + n kappa I)^-1 v costs one Cholesky factor a view, and the first
k pairs come from products with R_x and R_y alone (`_top_eigenpairs`). Beyond a few thousand rows n^2 is too much; then
a sample of m rows, the landmarks, stands for all (Nystroem): K is replaced by Z Z', Z = K_nm V D^(-1/2), where
K_mm = V D V', and (2) is solved in the features Z, which needs one pass over the rows.

References: P. L. Lai and C. Fyfe, "Kernel and nonlinear canonical correlation analysis", IJNS 10, 2000; D. R. Hardoon,
S. Szedmak and J. Shawe-Taylor, "Canonical correlation analysis: an overview", Neural Computation 16, 2004 (1);
C. Williams and M. Seeger, "Using the Nystroem method to speed up kernel machines", NIPS 2000.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy import linalg
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from commonspace.models._kernels import View, median_gamma
from commonspace.models._rows import as_pairs, as_rows, number, paired_correlations, whole_number

_EXACT = 3000  # up to so many rows the whole kernel is used
_LANDMARKS = 500  # beyond, so many rows stand for all
_NULL = 1e-12  # eigenvalues below this share of the largest are rounding


def _top_eigenpairs(C: Callable, M: Callable, n: int, k: int, seed: int, tol: float = 1e-9):
    """The largest t, descending, with M C M g = t M g, and G (n, r) with G' M G = I; r <= k pairs with t > 0.

    ``C`` and ``M`` multiply (n, b) by a symmetric matrix with eigenvalues in [0, 1]. Block Krylov with Rayleigh-Ritz:
    the space of V, C M V, (C M)^2 V, ... grows, orthonormal in M, until the k best pairs leave residuals below ``tol``.
    """
    W = np.random.default_rng(seed).normal(size=(n, min(n, 2 * k + 8)))
    Q = P = np.empty((n, 0))  # an orthonormal basis, and M times it
    H, t, Y = np.empty((0, 0)), np.empty(0), np.empty((0, 0))
    while True:
        for _ in range(2):  # once is not enough in floating point
            W = W - Q @ (P.T @ W)
        MW = M(W)
        gram = W.T @ MW
        best = Y[len(Q.T) - W.shape[1] :, :k] if len(t) else Y
        if len(t) and np.einsum("ij,ik,kj->j", best, gram, best).max() < tol**2:
            break
        s, E = linalg.eigh((gram + gram.T) / 2)
        E = E[:, s > 1e-14 * (W**2).sum(axis=0).max()]
        if E.shape[1] == 0:
            break
        E = E / np.sqrt(np.einsum("ij,ik,kj->j", E, gram, E))
        Q, P = np.hstack([Q, W @ E]), np.hstack([P, MW @ E])
        W = C(P[:, -E.shape[1] :])
        column = P.T @ W
        H = np.block([[H, column[: len(H)]], [column.T]])
        t, Y = linalg.eigh((H + H.T) / 2)
        t, Y = t[::-1], Y[:, ::-1]
    keep = t[:k] > 1e-14
    return t[:k][keep], Q @ Y[:, :k][:, keep]


class KernelCCA(BaseEstimator):
    """Kernel CCA of two views, with scikit-learn's contract.

    Parameters
    ----------
    n_components : int
        How many pairs of directions, k.
    kernel : "rbf", "linear" or a function
        exp(-gamma |a - b|^2), a'b, or kernel(A (n, d), B (m, d)) -> (n, m), symmetric and positive semidefinite.
    gamma : float > 0 or None
        Of the RBF, for both views. None: of each view its own, 1 / (2 median^2) of the distances in training.
    kappa : float > 0
        The penalty on the length of a direction. It compares with the eigenvalues of K / n, whose sum for the RBF is at
        most 1; small lets any views correlate, large leaves little but the directions of large variance.
    landmarks : int or None
        How many training rows stand for all. None: all rows up to 3,000, else 500 of them.
    form : "sqrt" or "R"
        Equation (2) with R^(1/2), or with R.
    correlation_power : float >= 0
        As in `CCA`: scales direction i of the embeddings by correlations_[i] ** correlation_power.
    seed : int
        Draws the landmarks and the rows of the median. Two fits of the same rows are equal.

    Attributes (after fit)
    ----------------------
    correlations_ : (k,) in [0, 1], descending, of the penalised problem: smaller than the training correlations.
    gamma_ : the gamma of both views, (float, float); None where the kernel has none.

    Variates have mean 0 and variance at most 1 over the training rows. Exact, two n x n matrices are held; with m
    landmarks some n m^2 operations are done and no n x m matrix is held.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> angle = rng.uniform(-1, 1, size=(300, 1)) * np.pi
    >>> X, Y = angle + rng.normal(size=(300, 1)) / 9, np.cos(angle) + rng.normal(size=(300, 1)) / 9
    >>> KernelCCA(n_components=1).fit(X, Y).score(X, Y).__round__(2)
    0.98
    """

    def __init__(
        self,
        n_components: int = 2,
        kernel: str | Callable = "rbf",
        gamma: float | None = None,
        kappa: float = 1e-3,
        landmarks: int | None = None,
        form: str = "sqrt",
        correlation_power: float = 0.0,
        seed: int = 0,
    ):
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.kappa = kappa
        self.landmarks = landmarks
        self.form = form
        self.correlation_power = correlation_power
        self.seed = seed

    def fit(self, X, Y):
        """Fit on paired rows X (n, p) and Y (n, q), n >= 2; numpy or torch. Computed in float64.

        Raises ValueError for rows that do not match, values that are not finite, a view whose rows are all equal to the
        kernel, or more components than the views have directions in common.
        """
        self._check_parameters()
        X, Y = as_pairs(X, Y)
        n = len(X)
        if self.landmarks is not None and self.landmarks > n:
            raise ValueError(f"landmarks={self.landmarks}, but there are only {n} rows to draw them from")
        self.n_features_in_ = X.shape[1]
        exact = self.landmarks is None and n <= _EXACT
        m = n if exact else self.landmarks or _LANDMARKS
        chosen = np.sort(np.random.default_rng(self.seed).choice(n, m, replace=False))
        self.x_view_, self.y_view_ = self._view(X, chosen, "X"), self._view(Y, chosen, "Y")
        self.gamma_ = self.x_view_.gamma, self.y_view_.gamma
        solve = self._solve_exactly if exact else self._solve_by_landmarks
        correlations, self.x_view_.dual, self.y_view_.dual = solve(X, Y)
        if len(correlations) < self.n_components:
            raise ValueError(
                f"n_components={self.n_components}, but under this kernel these {n} pairs have only "
                f"{len(correlations)} directions in common: ask for at most {len(correlations)}"
            )
        self.correlations_ = np.clip(correlations, 0.0, 1.0)
        return self

    def transform(self, X, Y=None):
        """Canonical variates: X (n, p) -> (n, k); with Y (n, q) the pair ((n, k), (n, k))."""
        check_is_fitted(self)
        x_scores = self._scores(X, "X", self.x_view_)
        return x_scores if Y is None else (x_scores, self._scores(Y, "Y", self.y_view_))

    def fit_transform(self, X, Y):
        """Fit, then transform both views of the same pairs: ((n, k), (n, k))."""
        return self.fit(X, Y).transform(X, Y)

    def score(self, X, Y) -> float:
        """Total correlation: the sum over components of the correlation of both views' variates, on these pairs.

        In [-k, k]; on held-out pairs it says how much of the correlation is real.
        """
        check_is_fitted(self)
        X, Y = as_pairs(X, Y, (len(self.x_view_.offset), len(self.y_view_.offset)))
        return float(paired_correlations(*self.transform(X, Y)).sum())

    def embed_image(self, image) -> torch.Tensor:
        """Image features (n, p), the first view, -> (n, k) float32 in the common space."""
        check_is_fitted(self)
        return self._embed(self._scores(image, "image", self.x_view_))

    def embed_text(self, text) -> torch.Tensor:
        """Text features (n, q), the second view, -> (n, k) float32 in the common space."""
        check_is_fitted(self)
        return self._embed(self._scores(text, "text", self.y_view_))

    def _embed(self, scores: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(scores * self.correlations_**self.correlation_power).float()

    def _scores(self, rows, name: str, view: View) -> np.ndarray:
        return view.project(as_rows(rows, name, len(view.offset)))

    def _view(self, rows: np.ndarray, chosen, name: str) -> View:
        if (rows == rows[0]).all():
            raise ValueError(f"every row of {name} is the same: there is nothing to correlate")
        own, gamma = callable(self.kernel), None
        offset = np.zeros(rows.shape[1]) if own else rows.mean(axis=0)
        if self.kernel == "rbf":
            gamma = median_gamma(rows, self.seed) if self.gamma is None else float(self.gamma)
        return View(rows[chosen] - offset, offset, self.kernel if own else None, gamma)

    def _solve_exactly(self, X: np.ndarray, Y: np.ndarray):
        n, penalty = len(X), len(X) * self.kappa
        x_factor, y_factor = self._factor(self.x_view_, X, penalty, "X"), self._factor(self.y_view_, Y, penalty, "Y")

        def invert(factor, V):  # (K + penalty I)^-1 V
            return linalg.cho_solve((factor, True), V, check_finite=False)

        def Rx(V):
            return V - penalty * invert(x_factor, V)

        def Ry(V):
            return V - penalty * invert(y_factor, V)

        if self.form == "sqrt":  # u = R_x^(1/2) g, so a = (K_x + penalty I)^-1 g
            t, G = _top_eigenpairs(Ry, Rx, n, self.n_components, self.seed)
            v = Rx(G) / np.sqrt(t)
        else:
            t, G = _top_eigenpairs(lambda V: Rx(Ry(Ry(Rx(V)))), lambda V: V, n, self.n_components, self.seed)
            v = Ry(Rx(G)) / np.sqrt(t)
        x_dual, y_dual = np.sqrt(n - 1) * invert(x_factor, G), np.sqrt(n - 1) * invert(y_factor, v)
        # A new row's kernel less the training means is centred once; the second time falls to the weights.
        return np.sqrt(t), x_dual - x_dual.mean(axis=0), y_dual - y_dual.mean(axis=0)

    @staticmethod
    def _factor(view: View, rows: np.ndarray, penalty: float, name: str) -> np.ndarray:
        """Lower Cholesky factor of the centred kernel of all training rows plus penalty I."""
        K = view.kernel(rows)
        view.means = K.mean(axis=0)
        K -= view.means
        K -= K.mean(axis=1)[:, None]
        K.flat[:: len(K) + 1] += penalty
        try:
            return linalg.cholesky(K.T, lower=True, overwrite_a=True, check_finite=False)
        except linalg.LinAlgError:
            raise ValueError(
                f"the kernel of {name} plus kappa is not positive definite: kappa={penalty / len(K):g} is lost beside "
                f"its largest values (raise kappa, or scale {name} down), or the kernel is no inner product"
            ) from None

    def _solve_by_landmarks(self, X: np.ndarray, Y: np.ndarray):
        n, penalty = len(X), len(X) * self.kappa
        x_map, y_map = self._features(self.x_view_, "X"), self._features(self.y_view_, "Y")
        rx, ry = x_map.shape[1], y_map.shape[1]
        # One pass. What is summed is taken relative to the landmarks' mean, or the squares would swallow the variance.
        x_near, y_near = self.x_view_.means, self.y_view_.means
        total, gram = np.zeros(rx + ry), np.zeros((rx + ry, rx + ry))
        x_sum, y_sum = np.zeros(len(x_near)), np.zeros(len(y_near))
        for Kx, Ky in zip(self.x_view_.chunks(X), self.y_view_.chunks(Y), strict=True):
            x_sum += (Kx - x_near).sum(axis=0)
            y_sum += (Ky - y_near).sum(axis=0)
            Z = np.hstack([(Kx - x_near) @ x_map, (Ky - y_near) @ y_map])
            total += Z.sum(axis=0)
            gram += Z.T @ Z
        self.x_view_.means, self.y_view_.means = x_near + x_sum / n, y_near + y_sum / n
        gram -= np.outer(total, total) / n
        Wx, Wy = (_penalised_whitening(block, penalty, self.form) for block in (gram[:rx, :rx], gram[rx:, rx:]))
        U, s, Vt = linalg.svd(Wx.T @ gram[:rx, rx:] @ Wy, full_matrices=False)
        k = min(self.n_components, int((s > 1e-7).sum()))
        scale = np.sqrt(n - 1)
        return s[:k], scale * x_map @ Wx @ U[:, :k], scale * y_map @ Wy @ Vt[:k].T

    @staticmethod
    def _features(view: View, name: str) -> np.ndarray:
        """V D^(-1/2) of the landmarks' kernel, (m, rank); leaves their mean kernel in ``view.means``."""
        K = view.kernel(view.rows + view.offset)
        view.means = K.mean(axis=0)
        D, V = linalg.eigh((K + K.T) / 2, overwrite_a=True, check_finite=False)
        keep = D > D[-1] * _NULL
        if D[-1] <= 0:
            raise ValueError(f"the kernel of {name} is zero on the landmarks: there is nothing to correlate")
        return V[:, keep] / np.sqrt(D[keep])

    def _check_parameters(self) -> None:
        whole_number(self.n_components, "n_components", 1)
        if not callable(self.kernel) and self.kernel not in ("rbf", "linear"):
            raise ValueError(f"kernel must be 'rbf', 'linear' or a function of two sets of rows; got {self.kernel!r}")
        if self.gamma is not None:
            number(self.gamma, "gamma", above_zero=True)
        number(self.kappa, "kappa", above_zero=True)
        if self.landmarks is not None:
            whole_number(self.landmarks, "landmarks", 2)
        if self.form not in ("sqrt", "R"):
            raise ValueError(f"form must be 'sqrt' or 'R'; got {self.form!r}")
        number(self.correlation_power, "correlation_power")
        whole_number(self.seed, "seed", 0)


def _penalised_whitening(gram: np.ndarray, penalty: float, form: str) -> np.ndarray:
    """W (d, r) so that the singular values of W_x' Z_x' Z_y W_y are those of (2), for features Z with Z'Z = ``gram``.

    With Z = Q S V', R = Q S^2 (S^2 + penalty)^-1 Q'; so W = V S^-1 R^(1/2), or V S^-1 R.
    """
    s2, V = linalg.eigh(gram)
    keep = s2 > s2[-1] * _NULL
    s2, V = s2[keep], V[:, keep]
    R = s2 / (s2 + penalty)
    return V * (np.sqrt(R) if form == "sqrt" else R) / np.sqrt(s2)
