"""Semantic autoencoder: one matrix takes features to the meaning of their class, and its transpose takes them back.

Rows x_i (d) of features and s_i (k) of semantic vectors, the embedding of row i's class, are tied by W (k, d), which
encodes, s = W x, and whose transpose decodes, x = W' s. With the rows stacked to X (n, d) and S (n, k), W minimises

    ||X - S W||^2 + lam ||X W' - S||^2,                                                                       (1)

and its gradient is zero where the Sylvester equation holds,

    (S'S) W + W (lam X'X) = (1 + lam) S'X.                                                                    (2)

Both Gram matrices are symmetric and positive semi-definite, so that no Schur decomposition is needed: in their
eigenbases S'S = U diag(a) U' and X'X = V diag(b) V' every entry is an equation of its own,

    (U'W V)_ij = (1 + lam) (U'S'X V)_ij / (a_i + lam b_j).                                                    (3)

As lam grows, W becomes the least-squares map from X to S; as it shrinks, W' becomes the one from S to X. In between,
either of them is a regression whose ridge is the other side's Gram matrix.

Reference: E. Kodirov, T. Xiang, S. Gong, "Semantic autoencoder for zero-shot learning", CVPR 2017. `CrossModalSAE`
uses it for retrieval: one autoencoder a modality, and the space of class embeddings is the common space.

DEVIATIONS
- lam is relative: it is multiplied by tr(S'S) / tr(X'X), so that at 1 both terms of (2) weigh the same, whatever the
  units of X and S. ``relative=False`` is the paper's absolute lam (its zero-shot runs have values such as 5e5).
- The authors' script divides the rows of W by their length before it encodes; here W stays what (2) says.
- `CrossModalSAE` is not in the paper. It standardises the features and centres the class embeddings, since (1) has no
  intercept; ``standardise=False`` leaves both alone.
"""

import numpy as np
import torch
from scipy import linalg
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from commonspace.models._rows import as_labels, as_pairs, as_rows, number


def semantic_map(X: np.ndarray, S: np.ndarray, lam: float) -> np.ndarray:
    """The W (k, d) of equation (2) for X (n, d), S (n, k) and an absolute lam > 0, of smallest norm if there are many.

    Many there are where a direction is empty in both: a_i = b_j = 0, and the right side is 0 as well.
    """
    dual = len(X) < X.shape[1]
    # With fewer rows than columns, W = C X, and S'S C + C (lam X X') = (1 + lam) S' is the smaller equation.
    gram, moment = (X @ X.T, S.T) if dual else (X.T @ X, S.T @ X)
    a, U = linalg.eigh(S.T @ S, driver="evd")
    b, V = linalg.eigh(gram, driver="evd")
    sums = np.maximum(a, 0.0)[:, None] + lam * np.maximum(b, 0.0)
    empty = sums <= max(sums.shape) * np.finfo(float).eps * sums[-1, -1]
    sums[empty] = np.inf
    W = U @ ((1 + lam) * (U.T @ moment @ V) / sums) @ V.T
    return W @ X if dual else W


class SemanticAutoencoder(BaseEstimator):
    """W of the equations above for rows X and their semantic vectors S, with scikit-learn's contract.

    Parameters
    ----------
    lam : float > 0
        How much encoding counts beside decoding: small, W' rebuilds X from S; large, W predicts S from X.
    relative : bool
        lam in units of tr(S'S) / tr(X'X), so that a change of units in X or S changes an encoding by a factor alone,
        which no cosine sees. False: lam as it stands in (1).

    Attributes (after fit)
    ----------------------
    weights_ : (k, d), W.   lam_ : the absolute lam of (1) and (2).

    >>> import numpy as np
    >>> S = np.random.default_rng(0).normal(size=(50, 2))
    >>> X = S @ np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    >>> SemanticAutoencoder(lam=1e6, relative=False).fit(X, S).encode([[2.0, 4.0, 0.0]]).round(3)
    array([[1., 2.]])
    """

    def __init__(self, lam: float = 1.0, relative: bool = True):
        self.lam = lam
        self.relative = relative

    def fit(self, X, S):
        """Fit on features X (n, d) and the semantic vector of each row, S (n, k); numpy or torch, in float64.

        Nothing is centred or scaled. Raises ValueError for rows that do not match, values that are not finite, a side
        that is 0 throughout, or lam <= 0: at 0 the encoder is free wherever S is empty.
        """
        number(self.lam, "lam", above_zero=True)
        X, S = as_rows(X, "X"), as_rows(S, "S")
        if len(X) != len(S):
            raise ValueError(f"X has {len(X)} rows and S has {len(S)}; row i of S must be the semantic vector of row i")
        traces = {name: float((rows**2).sum()) for name, rows in [("X", X), ("S", S)]}  # of the Gram matrices
        for name, trace in traces.items():
            if trace == 0:
                raise ValueError(f"every value of {name} is 0: there is nothing to learn from")
        self.n_features_in_ = X.shape[1]
        self.lam_ = float(self.lam) * (traces["S"] / traces["X"] if self.relative else 1.0)
        self.weights_ = semantic_map(X, S, self.lam_)
        return self

    def encode(self, X) -> np.ndarray:
        """Features (n, d) -> semantic vectors X W' (n, k)."""
        check_is_fitted(self)
        return as_rows(X, "X", self.weights_.shape[1]) @ self.weights_.T

    def decode(self, S) -> np.ndarray:
        """Semantic vectors (n, k) -> features S W (n, d)."""
        check_is_fitted(self)
        return as_rows(S, "S", self.weights_.shape[0]) @ self.weights_


class CrossModalSAE(BaseEstimator):
    """Two semantic autoencoders, one a modality, onto the class embeddings of the same pairs: their space is common.

    No label is needed to embed, so classes may be compared that were never seen.

    Parameters
    ----------
    image_lam, text_lam : float > 0
        lam of each modality's autoencoder.
    relative : bool
        As in `SemanticAutoencoder`.
    standardise : bool
        Each feature to mean 0 and variance 1 over the training rows (a constant one stays 0), and class embeddings
        less their mean over the training rows. False: everything as it comes.

    Attributes (after fit)
    ----------------------
    image_autoencoder_, text_autoencoder_ : the fitted `SemanticAutoencoder` of each modality.
    """

    def __init__(self, image_lam: float = 1.0, text_lam: float = 1.0, relative: bool = True, standardise: bool = True):
        self.image_lam = image_lam
        self.text_lam = text_lam
        self.relative = relative
        self.standardise = standardise

    def fit(self, image, text, label, class_embeddings):
        """Fit on paired rows image (n, p) and text (n, q), labels (n,) in 0 .. c - 1 and class_embeddings (c, k).

        Raises ValueError for rows or labels that do not match, labels without an embedding, values that are not
        finite, training rows of one class alone, or classes whose embeddings are all the same.
        """
        number(self.image_lam, "image_lam", above_zero=True)
        number(self.text_lam, "text_lam", above_zero=True)
        image, text = as_pairs(image, text, names=("image", "text"))
        embeddings = as_rows(class_embeddings, "class_embeddings")
        label = as_labels(label, len(image))
        if label.min() < 0 or label.max() >= len(embeddings):
            raise ValueError(
                f"labels run from {label.min()} to {label.max()}, but class_embeddings has {len(embeddings)} rows: "
                "a label is the 0-based row of its class"
            )
        self.n_features_in_, self.n_text_features_in_ = image.shape[1], text.shape[1]
        S = embeddings[label]
        if self.standardise:
            S = S - S.mean(axis=0)
            if np.abs(S).max() <= 1e-12 * np.abs(embeddings).max():
                raise ValueError("the classes of the training rows all have the same embedding")
        self.image_mean_, self.image_scale_ = self._moments(image)
        self.text_mean_, self.text_scale_ = self._moments(text)
        self.image_autoencoder_ = SemanticAutoencoder(self.image_lam, self.relative)
        self.image_autoencoder_.fit((image - self.image_mean_) / self.image_scale_, S)
        self.text_autoencoder_ = SemanticAutoencoder(self.text_lam, self.relative)
        self.text_autoencoder_.fit((text - self.text_mean_) / self.text_scale_, S)
        return self

    def embed_image(self, image) -> torch.Tensor:
        """Image features (n, p) -> (n, k) float32 in the space of class embeddings."""
        check_is_fitted(self)
        image = as_rows(image, "image", self.n_features_in_)
        codes = self.image_autoencoder_.encode((image - self.image_mean_) / self.image_scale_)
        return torch.from_numpy(codes).float()

    def embed_text(self, text) -> torch.Tensor:
        """Text features (n, q) -> (n, k) float32 in the space of class embeddings."""
        check_is_fitted(self)
        text = as_rows(text, "text", self.n_text_features_in_)
        codes = self.text_autoencoder_.encode((text - self.text_mean_) / self.text_scale_)
        return torch.from_numpy(codes).float()

    def _moments(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is subtracted from the columns and what they are divided by, both (d,)."""
        if not self.standardise:
            return np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        constant = scale <= 1e-12 * np.abs(mean)  # what rounding leaves of equal values
        return mean, np.where(constant, 1.0, scale)
