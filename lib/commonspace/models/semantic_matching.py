"""Semantic matching: two classifiers name the classes of a picture and of a text, and the names are compared.

SM, semantic matching: a multinomial logistic regression of each view, softmax(W v + w), gives the probabilities of the
c classes; these vectors already share a space. SCM, semantic correlation matching: the same after CCA has projected
both views onto k correlated directions. CCA alone is what the paper calls CM, correlation matching.

Reference: N. Rasiwasia, J. Costa Pereira, E. Coviello, G. Doyle, G. Lanckriet, R. Levy and N. Vasconcelos, "A new
approach to cross-modal multimedia retrieval", ACM Multimedia 2010.

The best measure for probabilities is their normalised correlation, the cosine of vectors less their own mean. With
``centred=True`` the mean of each row is taken off here, so that the plain cosine of `metrics.evaluate` is that measure.
"""

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from commonspace.models._rows import as_labels, as_pairs, as_rows, number, whole_number
from commonspace.models.cca import CCA


class SemanticMatching(BaseEstimator):
    """SM, or with ``n_components`` SCM: rows become probabilities of the classes, in both views the same classes.

    Parameters
    ----------
    n_components : int or None
        None: SM, the classifiers see the features. k: SCM, they see k canonical variates of a CCA of the pairs.
    C : float > 0
        Of the logistic regressions: the inverse of the penalty on the squares of W, so it depends on the units of the
        features. The default serves histograms and unit vectors, and canonical variates.
    regularization : float >= 0
        The ridge of the CCA, as in `CCA`; without ``n_components`` it does nothing.
    centred : bool
        Embeddings less their row's mean, for the normalised correlation. False: the probabilities themselves.

    ``classes_`` (c,), after fit, are the labels in the order of an embedding's columns.
    """

    def __init__(
        self, n_components: int | None = None, C: float = 30.0, regularization: float = 0.0, centred: bool = True
    ):
        self.n_components = n_components
        self.C = C
        self.regularization = regularization
        self.centred = centred

    def fit(self, image, text, label):
        """Fit on paired rows image (n, p) and text (n, q) with integer labels (n,), of 2 classes at least.

        Raises ValueError for rows or labels that do not match, values that are not finite, one class alone, or more
        components than the views have directions. scikit-learn warns where a classifier did not converge.
        """
        if self.n_components is not None:
            whole_number(self.n_components, "n_components", 1)
        number(self.C, "C", above_zero=True)
        number(self.regularization, "regularization")
        image, text = as_pairs(image, text, names=("image", "text"))
        label = as_labels(label, len(image))
        self.n_features_in_, self.n_text_features_in_ = image.shape[1], text.shape[1]
        self.classes_ = np.unique(label)
        self.cca_ = None
        if self.n_components is not None:
            self.cca_ = CCA(self.n_components, self.regularization).fit(image, text)
            image, text = self.cca_.transform(image, text)
        self.image_classifier_ = LogisticRegression(C=self.C, max_iter=5000).fit(image, label)
        self.text_classifier_ = LogisticRegression(C=self.C, max_iter=5000).fit(text, label)
        return self

    def embed_image(self, image) -> torch.Tensor:
        """Image features (n, p) -> (n, c) float32: the probabilities of the classes, less 1 / c where ``centred``."""
        check_is_fitted(self)
        image = as_rows(image, "image", self.n_features_in_)
        if self.cca_ is not None:
            image = (image - self.cca_.x_mean_) @ self.cca_.x_weights_
        return self._embed(self.image_classifier_, image)

    def embed_text(self, text) -> torch.Tensor:
        """Text features (n, q) -> (n, c) float32, as `embed_image`."""
        check_is_fitted(self)
        text = as_rows(text, "text", self.n_text_features_in_)
        if self.cca_ is not None:
            text = (text - self.cca_.y_mean_) @ self.cca_.y_weights_
        return self._embed(self.text_classifier_, text)

    def _embed(self, classifier: LogisticRegression, rows: np.ndarray) -> torch.Tensor:
        probabilities = classifier.predict_proba(rows)
        if self.centred:
            probabilities = probabilities - probabilities.mean(axis=1, keepdims=True)  # the mean is 1 / c
        return torch.from_numpy(probabilities).float()
