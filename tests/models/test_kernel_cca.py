"""Kernel CCA against dense matrices from the textbook, ridge CCA and cca-zoo; its landmarks; what it must refuse."""

import numpy as np
import pytest
import torch
from scipy import linalg
from scipy.spatial.distance import cdist, pdist
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from commonspace.data import digits_halves
from commonspace.models import CCA
from commonspace.models import kernel_cca as module
from commonspace.models._kernels import median_gamma
from commonspace.models._rows import paired_correlations
from commonspace.models.kernel_cca import KernelCCA

SEEDS = [0, 1, 2]


def views(seed: int, n: int = 160, p: int = 6, q: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Rows that share hidden numbers by curves, far from the origin."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 3))
    X = np.tanh(hidden @ rng.normal(size=(3, p))) + rng.normal(size=(n, p)) / 4
    Y = np.cos(hidden @ rng.normal(size=(3, q))) + rng.normal(size=(n, q)) / 4
    return X + 5, Y - 3


def rbf(gamma: float):
    return lambda a, b: np.exp(-gamma * cdist(a, b) ** 2)


def dense(kernel, X, Y, kappa: float, k: int, form: str, X_new, Y_new):
    """Equation (2) with every n x n matrix written out: correlations, and the variates of new rows."""
    n = len(X)
    H = np.eye(n) - 1 / n
    roots, inverses = [], []
    for V in (X, Y):
        K = H @ kernel(V, V) @ H
        values, U = linalg.eigh(K)
        values = np.maximum(values, 0)
        R = values / (values + n * kappa)
        roots.append((U * R ** (0.5 if form == "sqrt" else 1.0)) @ U.T)
        inverse = np.where(
            values > 1e-9 * values[-1], 1 / np.sqrt(np.maximum(values * (values + n * kappa), 1e-300)), 0
        )
        inverses.append((U * (inverse if form == "sqrt" else 1 / (values + n * kappa))) @ U.T)
    U, s, Vt = linalg.svd(roots[0] @ roots[1])
    scores = []
    for V, new, u, inverse in zip((X, Y), (X_new, Y_new), (U, Vt.T), inverses, strict=True):
        K = kernel(V, V)
        k_new = kernel(new, V)  # centred by the training rows' means
        centred = k_new - k_new.mean(axis=1, keepdims=True) - K.mean(axis=0) + K.mean()
        scores.append(centred @ inverse @ u[:, :k] * np.sqrt(n - 1))
    return s[:k], *scores


def same_up_to_sign(a, b, atol):
    sign = np.sign((a * b).sum(axis=0))
    np.testing.assert_allclose(a * sign, b, atol=atol)
    return sign


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("form", ["sqrt", "R"])
@pytest.mark.parametrize("kappa", [1e-4, 1e-2])
@pytest.mark.parametrize("landmarks", [None, 160])
def test_the_textbook_with_dense_matrices(seed, form, kappa, landmarks):
    """All rows, and Nystroem with every row a landmark."""
    X, Y = views(seed)
    X_new, Y_new = views(seed + 10, n=30)
    s, a, b = dense(rbf(0.2), X, Y, kappa, 4, form, X_new, Y_new)
    model = KernelCCA(4, gamma=0.2, kappa=kappa, form=form, landmarks=landmarks).fit(X, Y)
    np.testing.assert_allclose(model.correlations_, s, atol=1e-9)
    ours = model.transform(X_new, Y_new)
    sign = same_up_to_sign(ours[0], a, 1e-5)
    np.testing.assert_allclose(ours[1] * sign, b, atol=1e-5)  # the same sign in both views


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kappa", [1e-3, 0.1])
@pytest.mark.parametrize("landmarks", [None, 60])
def test_the_linear_kernel_is_ridge_cca(seed, kappa, landmarks):
    X, Y = views(seed)
    n = len(X)
    X_new, Y_new = views(seed + 10, n=30)
    Cx, Cy = (np.cov(V, rowvar=False) for V in (X, Y))
    # CCA's ridge is relative to the mean variance: units in which both views' is 1 make one number of both ridges.
    X, X_new = (V / np.sqrt(np.trace(Cx) / 6) for V in (X, X_new))
    Y, Y_new = (V / np.sqrt(np.trace(Cy) / 5) for V in (Y, Y_new))
    ridge = CCA(4, regularization=kappa * n / (n - 1)).fit(X, Y)
    model = KernelCCA(4, kernel="linear", kappa=kappa, landmarks=landmarks).fit(X, Y)
    np.testing.assert_allclose(model.correlations_, ridge.correlations_, atol=1e-6)
    expected, found = ridge.transform(X_new, Y_new), model.transform(X_new, Y_new)
    sign = same_up_to_sign(found[0], expected[0], 1e-6)
    np.testing.assert_allclose(found[1] * sign, expected[1], atol=1e-6)
    other = KernelCCA(4, kernel="linear", kappa=kappa, landmarks=landmarks, form="R").fit(X, Y)
    assert np.abs(other.correlations_ - ridge.correlations_).max() > 1e-4


@pytest.mark.parametrize("seed", SEEDS)
def test_the_variates_equal_cca_zoos_at_its_matching_shrinkage(seed):
    """Theirs has (1 - c) K^2 / (n - 1) + c K where (1) has K^2 + n kappa K: c = t / (1 + t), t = n kappa / (n - 1)."""
    from cca_zoo.nonparametric import KCCA

    X, Y = views(seed)
    X_new, Y_new = views(seed + 10, n=30)
    kappa, n = 2e-3, len(X)
    t = n * kappa / (n - 1)
    theirs = KCCA(3, kernel="rbf", gamma=0.1, shrinkage=t / (1 + t)).fit([X, Y]).transform([X_new, Y_new])
    ours = KernelCCA(3, gamma=0.1, kappa=kappa).fit(X, Y).transform(X_new, Y_new)
    for a, b in zip(ours, theirs, strict=True):
        b = np.asarray(b)
        same_up_to_sign(a / np.linalg.norm(a, axis=0), b / np.linalg.norm(b, axis=0), 1e-5)


def test_landmarks_come_near_to_all_rows_and_nearer_with_more():
    X, Y = views(0, n=600)
    exact = KernelCCA(3, gamma=0.1, kappa=1e-2).fit(X, Y).correlations_
    errors = [
        np.abs(KernelCCA(3, gamma=0.1, kappa=1e-2, landmarks=m).fit(X, Y).correlations_ - exact).max()
        for m in (10, 50, 200)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3


def test_many_rows_go_by_landmarks_and_few_do_not(monkeypatch):
    X, Y = views(1, n=120)
    monkeypatch.setattr(module, "_EXACT", 120)
    monkeypatch.setattr(module, "_LANDMARKS", 30)
    assert len(KernelCCA(2).fit(X, Y).x_view_.rows) == 120
    monkeypatch.setattr(module, "_EXACT", 119)
    by_default = KernelCCA(2).fit(X, Y)
    np.testing.assert_array_equal(by_default.transform(X), KernelCCA(2, landmarks=30).fit(X, Y).transform(X))
    assert len(by_default.x_view_.rows) == 30


@pytest.mark.parametrize("landmarks", [None, 40])
def test_rows_in_pieces_give_the_same_as_at_once(monkeypatch, landmarks):
    import commonspace.models._kernels as kernels

    X, Y = views(2)
    model = KernelCCA(3, landmarks=landmarks).fit(X, Y)
    a, b = model.transform(X, Y)
    monkeypatch.setattr(kernels, "_AT_ONCE", 7 * len(model.x_view_.rows))
    again = KernelCCA(3, landmarks=landmarks).fit(X, Y)
    sign = same_up_to_sign(again.transform(X), a, 1e-6)
    np.testing.assert_allclose(again.transform(X, Y)[1] * sign, b, atol=1e-6)


@pytest.mark.parametrize("landmarks", [None, 40])
@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_training_variates_are_centred_and_penalised(kernel, landmarks):
    X, Y = views(3)
    model = KernelCCA(3, kernel, kappa=1e-2, landmarks=landmarks).fit(X, Y)
    for variates in model.transform(X, Y):
        np.testing.assert_allclose(variates.mean(axis=0), 0.0, atol=1e-8)
        assert (variates.var(axis=0, ddof=1) < 1).all()


@pytest.mark.parametrize("landmarks", [None, 40])
def test_new_rows_are_centred_by_the_training_rows(landmarks):
    """One row's variate does not depend on which rows come with it."""
    X, Y = views(4)
    model = KernelCCA(3, landmarks=landmarks).fit(X, Y)
    X_new, Y_new = views(14, n=20)
    a, b = model.transform(X_new, Y_new)
    np.testing.assert_allclose(model.transform(X_new[3:4]), a[3:4], atol=1e-10)
    np.testing.assert_allclose(model.transform(X_new, Y_new[:5])[1], b[:5], atol=1e-10)
    assert np.abs(model.transform(X_new[:3] + 0.5).mean(axis=0)).max() > 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_rows_and_a_shift_change_nothing(seed):
    X, Y = views(seed)
    order = np.random.default_rng(seed).permutation(len(X))
    a = KernelCCA(3).fit(X, Y)
    b = KernelCCA(3).fit(X[order], Y[order])
    c = KernelCCA(3).fit(X + 1e5, Y - 1e5)
    np.testing.assert_allclose(b.correlations_, a.correlations_, atol=1e-9)
    same_up_to_sign(b.transform(X), a.transform(X), 1e-5)
    np.testing.assert_allclose(c.correlations_, a.correlations_, atol=1e-7)
    same_up_to_sign(c.transform(X + 1e5), a.transform(X), 1e-4)


def test_gamma_is_of_each_view_the_median_distance():
    X, Y = views(5)
    model = KernelCCA(1).fit(X, 10 * Y)
    for V, gamma in [(X, model.gamma_[0]), (10 * Y, model.gamma_[1])]:
        assert gamma == pytest.approx(1 / (2 * np.median(pdist(V)) ** 2))
    assert KernelCCA(1, gamma=0.3).fit(X, Y).gamma_ == (0.3, 0.3)
    assert KernelCCA(1, "linear").fit(X, Y).gamma_ == (None, None)


def test_the_median_of_many_rows_is_that_of_a_drawn_sample_of_different_ones():
    rows = np.random.default_rng(0).normal(size=(1500, 4))
    whole = 1 / (2 * np.median(pdist(rows)) ** 2)
    assert median_gamma(rows, 1) == median_gamma(rows, 1) != median_gamma(rows, 2)
    assert median_gamma(rows) == pytest.approx(whole, rel=0.05)
    mostly_equal = np.vstack([np.zeros((50, 4)), np.ones((3, 4))])
    assert median_gamma(mostly_equal) == pytest.approx(1 / 8)
    with pytest.raises(ValueError, match="all rows are equal"):
        median_gamma(np.ones((5, 2)))


@pytest.mark.parametrize("landmarks", [None, 60])
def test_a_kernel_of_ones_own(landmarks):
    X, Y = views(6)
    model = KernelCCA(3, kernel=rbf(0.2), landmarks=landmarks).fit(X, Y)
    built_in = KernelCCA(3, gamma=0.2, landmarks=landmarks).fit(X, Y)
    np.testing.assert_allclose(model.correlations_, built_in.correlations_, atol=1e-9)
    same_up_to_sign(model.transform(X), built_in.transform(X), 1e-5)
    with pytest.raises(ValueError, match=r"kernel\(a, b\) must give finite numbers of shape .*got shape \(160,\)"):
        KernelCCA(1, kernel=lambda a, b: a.sum(axis=1)).fit(X, Y)
    with pytest.raises(ValueError, match="the kernel is no inner product"):
        KernelCCA(1, kernel=lambda a, b: -(a @ b.T)).fit(X, Y)
    with pytest.raises(ValueError, match="only 0 directions in common"):
        KernelCCA(1, kernel=lambda a, b: np.ones((len(a), len(b)))).fit(X, Y)


@pytest.mark.parametrize("landmarks", [None, 90])
def test_equal_rows_and_few_directions(landmarks):
    """Every row three times, and three different rows alone: kernels of rank 29 and of rank 2."""
    X, Y = views(7, n=30)
    X, Y = np.repeat(X, 3, axis=0), np.repeat(Y, 3, axis=0)
    found = KernelCCA(3, gamma=0.2, landmarks=landmarks).fit(X, Y)
    s, *_ = dense(rbf(0.2), X, Y, 1e-3, 3, "sqrt", X, Y)
    np.testing.assert_allclose(found.correlations_, s, atol=1e-8)
    places = X[::3][np.arange(90) // 30]
    model = KernelCCA(2, gamma=0.2, landmarks=landmarks).fit(places, Y)
    assert np.isfinite(model.transform(X)).all()
    with pytest.raises(ValueError, match=r"only 2 directions in common.*at most 2"):
        KernelCCA(3, gamma=0.2, landmarks=landmarks).fit(places, Y)


@pytest.mark.parametrize("landmarks", [None, 20])
def test_a_linear_kernel_has_as_many_directions_as_columns(landmarks):
    X, Y = views(8, n=40)
    assert KernelCCA(5, "linear", landmarks=landmarks).fit(X, Y).correlations_.shape == (5,)
    with pytest.raises(ValueError, match="only 5 directions in common"):
        KernelCCA(6, "linear", landmarks=landmarks).fit(X, Y)


@pytest.mark.parametrize("seed", SEEDS)
def test_halves_of_digits(seed):
    train, test = digits_halves(1300, seed)
    model = KernelCCA(10, gamma=0.3, kappa=1e-4).fit(train.image, train.text)
    assert model.score(test.image, test.text) >= 8.4
    assert CCA(10, 1e-3).fit(train.image, train.text).score(test.image, test.text) < 6


def test_score_is_the_sum_of_held_out_correlations():
    X, Y = views(9, n=200)
    model = KernelCCA(3, kappa=1e-2).fit(X[:150], Y[:150])
    a, b = model.transform(X[150:], Y[150:])
    assert model.score(X[150:], Y[150:]) == pytest.approx(paired_correlations(a, b).sum())
    assert model.score(X[150:], Y[150:]) > 1


def test_embeddings_are_the_variates_scaled_by_a_power_of_the_correlations():
    X, Y = views(5)
    model = KernelCCA(3, correlation_power=2.0).fit(X, Y)
    a, b = model.transform(X, Y)
    for embedded, variates in [(model.embed_image(X), a), (model.embed_text(torch.from_numpy(Y)), b)]:
        assert embedded.dtype == torch.float32
        np.testing.assert_allclose(embedded, variates * model.correlations_**2, rtol=1e-5, atol=1e-6)


def test_scikit_learns_contract():
    X, Y = views(7)
    model = KernelCCA(n_components=3, kappa=0.1, landmarks=20, seed=4)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert copy.set_params(n_components=2).fit(X, Y) is copy
    for use in (model.transform, model.embed_image, model.embed_text):
        with pytest.raises(NotFittedError):
            use(X)
    X0, Y0 = X.copy(), Y.copy()
    a, b = copy.fit_transform(X, Y)
    np.testing.assert_array_equal(a, copy.transform(X))
    np.testing.assert_array_equal(b, copy.transform(X, Y)[1])
    np.testing.assert_array_equal(a, clone(copy).fit(X, Y).transform(X))
    assert not np.allclose(a, clone(copy).set_params(seed=5).fit(X, Y).transform(X))
    np.testing.assert_array_equal(X, X0)
    np.testing.assert_array_equal(Y, Y0)


GOOD = np.random.default_rng(0).normal(size=(20, 4))


@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        (GOOD * np.nan, GOOD, "X has NaN or infinite values in 20 row"),
        (GOOD[:, 0], GOOD, r"X must have shape \(n, d\).*got \(20,\)"),
        (GOOD[:1], GOOD[:1], "at least 2 pairs, got 1"),
        (GOOD, GOOD[:19], "X has 20 rows and Y has 19"),
        (np.full((20, 4), 0.1), GOOD, "every row of X is the same"),
        (GOOD, np.full((20, 3), 1e9), "every row of Y is the same"),
    ],
)
@pytest.mark.parametrize("landmarks", [None, 2])
def test_bad_rows_are_refused_with_the_reason(X, Y, message, landmarks):
    with pytest.raises(ValueError, match=message):
        KernelCCA(1, landmarks=landmarks).fit(X, Y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "n_components must be a whole number >= 1, got 0"),
        ({"n_components": 20, "gamma": 1.0}, "have only 19 directions in common.*ask for at most 19"),
        ({"kernel": "cosine"}, "kernel must be 'rbf', 'linear' or a function.*got 'cosine'"),
        ({"gamma": 0.0}, "gamma must be a number > 0, got 0.0"),
        ({"gamma": "scale"}, "gamma must be a number > 0, got 'scale'"),
        ({"kappa": 0}, "kappa must be a number > 0, got 0"),
        ({"kappa": 1e-300}, "raise kappa"),
        ({"landmarks": 1}, "landmarks must be a whole number >= 2, got 1"),
        ({"landmarks": 21}, "landmarks=21, but there are only 20 rows"),
        ({"form": "dual"}, "form must be 'sqrt' or 'R'; got 'dual'"),
        ({"correlation_power": -1}, "correlation_power must be"),
        ({"seed": None}, "seed must be a whole number >= 0, got None"),
    ],
)
def test_bad_parameters_are_refused_with_the_reason(parameters, message):
    data = np.repeat(GOOD, 2, axis=0)[:20] if parameters.get("kappa") == 1e-300 else GOOD
    with pytest.raises(ValueError, match=message):
        KernelCCA(**parameters).fit(data, data + 1)


def test_new_rows_must_have_the_fitted_columns():
    model = KernelCCA(2).fit(GOOD, GOOD[:, :3] + 1)
    with pytest.raises(ValueError, match="X has 3 columns, but the model was fitted with 4"):
        model.transform(GOOD[:, :3])
    with pytest.raises(ValueError, match="text has 4 columns, but the model was fitted with 3"):
        model.embed_text(GOOD)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        model.score(GOOD[:1], GOOD[:1, :3])
