"""SM and SCM against their definition, the published way of comparing, and the figures of real Wikipedia articles."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from commonspace.data.wikipedia import Wikipedia
from commonspace.metrics import evaluate, mean_average_precision
from commonspace.models import CCA
from commonspace.models.semantic_matching import SemanticMatching

SEEDS = [0, 1, 2]


def articles(seed: int, n: int = 150, classes: int = 4):
    """Two views whose rows scatter around the means of their class; labels are not 0, 1, 2, ..."""
    rng = np.random.default_rng(seed)
    label = np.sort(rng.choice(50, classes, replace=False))[rng.integers(classes, size=n)]
    image = rng.normal(size=(50, 6))[label] + rng.normal(size=(n, 6))
    text = rng.normal(size=(50, 5))[label] + rng.normal(size=(n, 5))
    return image, text, label


@pytest.mark.parametrize("seed", SEEDS)
def test_sm_gives_each_views_own_probabilities(seed):
    image, text, label = articles(seed)
    model = SemanticMatching(C=2.0, centred=False).fit(image[:100], text[:100], label[:100])
    for view, embed in [(image, model.embed_image), (text, model.embed_text)]:
        expected = LogisticRegression(C=2.0, max_iter=5000).fit(view[:100], label[:100]).predict_proba(view[100:])
        assert embed(view[100:]).dtype == torch.float32
        np.testing.assert_allclose(embed(torch.from_numpy(view[100:])), expected, atol=1e-6)
    np.testing.assert_array_equal(model.classes_, np.unique(label))


@pytest.mark.parametrize("seed", SEEDS)
def test_scm_classifies_canonical_variates_of_the_training_cca(seed):
    image, text, label = articles(seed)
    model = SemanticMatching(n_components=3, regularization=0.1, C=2.0, centred=False)
    model.fit(image[:100], text[:100], label[:100])
    cca = CCA(3, 0.1).fit(image[:100], text[:100])
    for view, embed, which in [(image, model.embed_image, 0), (text, model.embed_text, 1)]:
        train, test = cca.transform(image[:100], text[:100])[which], cca.transform(image[100:], text[100:])[which]
        expected = LogisticRegression(C=2.0, max_iter=5000).fit(train, label[:100]).predict_proba(test)
        np.testing.assert_allclose(embed(view[100:]), expected, atol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("k", [None, 3])
def test_the_cosine_of_centred_embeddings_is_the_correlation_of_probabilities(seed, k):
    image, text, label = articles(seed)
    p, q = embedded(SemanticMatching(k, centred=False), image, text, label)
    correlation = np.corrcoef(p, q)[: len(p), len(p) :]
    a, b = embedded(SemanticMatching(k), image, text, label)
    expected = mean_average_precision(correlation, label[:, None] == label)
    assert evaluate(a, b, query_labels=label, gallery_labels=label)["mAP"] == pytest.approx(expected, abs=1e-4)
    np.testing.assert_allclose(a.sum(dim=1), 0.0, atol=1e-6)


def embedded(model, image, text, label):
    model.fit(image, text, label)
    return model.embed_image(image), model.embed_text(text)


def test_two_classes_have_two_columns():
    image, text, label = articles(0, classes=2)
    assert SemanticMatching().fit(image, text, label).embed_image(image).shape == (150, 2)


def test_scikit_learns_contract():
    image, text, label = articles(1)
    model = SemanticMatching(n_components=2, C=3.0, regularization=0.2, centred=False)
    copy = clone(model)
    assert copy.get_params() == {"n_components": 2, "C": 3.0, "regularization": 0.2, "centred": False}
    assert copy.fit(image, text, label) is copy
    with pytest.raises(NotFittedError):
        model.embed_image(image)
    with pytest.raises(NotFittedError):
        model.embed_text(text)


def test_fitting_again_without_components_forgets_the_cca():
    image, text, label = articles(2)
    again = SemanticMatching(2).fit(image, text, label).set_params(n_components=None).fit(image, text, label)
    torch.testing.assert_close(again.embed_image(image), SemanticMatching().fit(image, text, label).embed_image(image))


IMAGE, TEXT, LABEL = articles(3, n=20)


@pytest.mark.parametrize(
    ("image", "text", "label", "message"),
    [
        (IMAGE * np.nan, TEXT, LABEL, "image has NaN or infinite values in 20 row"),
        (IMAGE, TEXT[:19], LABEL, "image has 20 rows and text has 19"),
        (IMAGE, TEXT, LABEL[:19], "label has 19 entries for 20 pairs"),
        (IMAGE, TEXT, LABEL * 1.0, r"label must be integers of shape \(n,\).*float64"),
        (IMAGE, TEXT, LABEL[:, None] == np.unique(LABEL), "one class a pair; got bool of shape"),
        (IMAGE, TEXT, LABEL * 0 + 7, "every label is 7"),
    ],
)
def test_bad_data_is_refused_with_the_reason(image, text, label, message):
    with pytest.raises(ValueError, match=message):
        SemanticMatching().fit(image, text, label)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "n_components must be a whole number >= 1, got 0"),
        ({"n_components": 6}, "ask for at most 5"),
        ({"C": 0.0}, "C must be a number > 0, got 0.0"),
        ({"regularization": -1}, "regularization must be a number >= 0"),
    ],
)
def test_bad_parameters_are_refused_with_the_reason(parameters, message):
    with pytest.raises(ValueError, match=message):
        SemanticMatching(**parameters).fit(IMAGE, TEXT, LABEL)


def test_new_rows_must_have_the_fitted_columns():
    model = SemanticMatching().fit(IMAGE, TEXT, LABEL)
    with pytest.raises(ValueError, match="image has 5 columns, but the model was fitted with 6"):
        model.embed_image(TEXT)
    with pytest.raises(ValueError, match="text has 6 columns, but the model was fitted with 5"):
        model.embed_text(IMAGE)


@pytest.fixture(scope="module")
def wikipedia():
    try:
        data = Wikipedia()
        return data.train, data.test
    except FileNotFoundError as error:
        pytest.skip(f"the Wikipedia articles are not here: {error}")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("model", "i2t", "t2i", "mean", "within"),
    [
        (CCA(7), 0.247, 0.201, 0.224, 0.003),
        (SemanticMatching(), None, None, 0.259, 0.005),
        (SemanticMatching(n_components=7), None, None, 0.265, 0.005),
    ],
    ids=["CM", "SM", "SCM"],
)
def test_wikipedia_as_measured_before(wikipedia, model, i2t, t2i, mean, within):
    train, test = wikipedia
    model.fit(train.image, train.text, *([] if isinstance(model, CCA) else [train.label]))
    image, text = model.embed_image(test.image), model.embed_text(test.text)
    labels = {"query_labels": test.label, "gallery_labels": test.label}
    found = [evaluate(a, b, **labels)["mAP"] for a, b in [(image, text), (text, image)]]
    assert np.mean(found) == pytest.approx(mean, abs=within)
    if i2t is not None:
        assert found == pytest.approx([i2t, t2i], abs=within)
