"""CCA against scikit-learn, cca-zoo, the eigenproblem and the definition; and everything it must refuse."""

import numpy as np
import pytest
import torch
from scipy import linalg
from sklearn.base import clone
from sklearn.cross_decomposition import CCA as SklearnCCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from commonspace.data import digits_halves, linnerud
from commonspace.models import CCA
from commonspace.models._rows import paired_correlations
from commonspace.models.cca import joint_covariance, top_singular, whitening

SEEDS = [0, 1, 2]


def views(seed: int, n: int = 200, p: int = 6, q: int = 5, shared: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Rows that share hidden numbers, in columns of other means and units."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, shared))
    X = hidden @ rng.normal(size=(shared, p)) + rng.normal(size=(n, p))
    Y = hidden @ rng.normal(size=(shared, q)) + rng.normal(size=(n, q))
    return X * 10.0 ** rng.integers(-2, 3, p) + rng.normal(size=p), Y + 100 * rng.normal(size=q)


def by_eigenproblem(X, Y, ridge_x=0.0, ridge_y=0.0):
    """All canonical correlations from C_xy (C_yy + r I)^-1 C_yx a = rho^2 (C_xx + r I) a."""
    p = X.shape[1]
    C = np.cov(np.hstack([X, Y]), rowvar=False)
    Cxx, Cyy, Cxy = C[:p, :p] + ridge_x * np.eye(p), C[p:, p:] + ridge_y * np.eye(C.shape[0] - p), C[:p, p:]
    rho2 = linalg.eigh(Cxy @ np.linalg.solve(Cyy, Cxy.T), Cxx, eigvals_only=True)[::-1]
    return np.sqrt(np.maximum(rho2, 0.0))


@pytest.mark.parametrize("seed", SEEDS)
def test_correlations_equal_scikit_learns(seed):
    X, Y = views(seed)
    ours = CCA(n_components=4).fit(X, Y)
    theirs = SklearnCCA(n_components=4, tol=1e-10, max_iter=100_000).fit(X, Y)
    a, b = theirs.transform(X, Y)
    np.testing.assert_allclose(ours.correlations_, paired_correlations(a, b), atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_correlations_equal_cca_zoos(seed):
    from cca_zoo.linear import CCA as ZooCCA

    X, Y = views(seed)
    ours = CCA(n_components=4).fit(X, Y)
    a, b = ZooCCA(n_components=4).fit([X, Y]).transform([X, Y])
    np.testing.assert_allclose(ours.correlations_, np.abs(paired_correlations(np.asarray(a), np.asarray(b))), atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("regularization", [0.0, 0.05, 2.0])
def test_ridge_equals_the_eigenproblem_with_a_relative_ridge(seed, regularization):
    X, Y = views(seed)
    expected = by_eigenproblem(X, Y, *(regularization * V.var(axis=0, ddof=1).mean() for V in (X, Y)))
    np.testing.assert_allclose(CCA(5, regularization).fit(X, Y).correlations_, expected[:5], atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_variates_have_variance_one_and_are_uncorrelated(seed):
    X, Y = views(seed)
    model = CCA(n_components=4).fit(X, Y)
    a, b = model.transform(X, Y)
    both = np.cov(np.hstack([a, b]), rowvar=False)
    expected = np.block([[np.eye(4), np.diag(model.correlations_)], [np.diag(model.correlations_), np.eye(4)]])
    np.testing.assert_allclose(both, expected, atol=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_invertible_mixing_of_columns_changes_no_variate(seed):
    X, Y = views(seed)
    rng = np.random.default_rng(seed)
    mixed = X @ rng.normal(size=(6, 6)) + rng.normal(size=6)
    np.testing.assert_allclose(CCA(3).fit(mixed, Y).correlations_, CCA(3).fit(X, Y).correlations_, atol=1e-8)


@pytest.mark.parametrize("regularization", [0.0, 0.3])
def test_the_ridge_is_relative_so_one_unit_for_a_whole_view_does_not_matter(regularization):
    X, Y = views(0)
    one, other = CCA(3, regularization).fit(X, Y), CCA(3, regularization).fit(255 * X, Y / 1000)
    np.testing.assert_allclose(one.transform(X)[:, 0] ** 2, other.transform(255 * X)[:, 0] ** 2, rtol=1e-6)


def test_known_correlations_of_linnerud():
    men = linnerud()
    np.testing.assert_allclose(CCA(3).fit(men.image, men.text).correlations_, [0.796, 0.201, 0.073], atol=5e-4)


def test_fewer_rows_than_columns_gives_correlation_one_in_noise_and_the_ridge_does_not():
    rng = np.random.default_rng(0)
    X, Y, X_new, Y_new = (rng.normal(size=shape) for shape in [(20, 50), (20, 40), (200, 50), (200, 40)])
    np.testing.assert_allclose(CCA(5).fit(X, Y).correlations_, 1.0, atol=1e-9)
    ridged = CCA(5, regularization=1.0).fit(X, Y)
    assert ridged.correlations_.max() < 0.95
    assert abs(ridged.score(X_new, Y_new)) < 1.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_both_ways_of_whitening_agree(seed, ridge):
    """n <= d goes over the SVD of the rows, n > d over Cholesky; at n = d + 1 both are possible."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(31, 30))
    centred = rows - rows.mean(axis=0)
    by_cholesky = whitening(centred, ridge)
    padded = whitening(np.hstack([centred, np.zeros((31, 5))]), ridge)  # columns of zeros: now n <= d
    onto = centred @ by_cholesky @ by_cholesky.T @ centred.T
    np.testing.assert_allclose(np.hstack([centred, np.zeros((31, 5))]) @ padded @ padded.T[:, :30] @ centred.T, onto)


@pytest.mark.parametrize(("n", "d", "rank"), [(100, 8, 5), (10, 30, 9), (12, 30, 4)])
def test_null_directions_are_dropped(n, d, rank):
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) * 10.0 ** rng.integers(-3, 4, d)
    W = whitening(rows - rows.mean(axis=0))
    assert W.shape == (d, min(rank, n - 1))
    np.testing.assert_allclose(W.T @ np.cov(rows, rowvar=False) @ W, np.eye(W.shape[1]), atol=1e-6)


@pytest.mark.parametrize("n", [9, 2048, 5000])
def test_the_covariance_by_blocks_keeps_its_digits(n):
    """Columns whose mean is a million times their spread, over no, one and several block borders."""
    X, Y = views(n, n=n)
    X, Y = 1e6 + X / X.std(axis=0), Y / Y.std(axis=0) - 1e6
    expected = np.cov(np.hstack([X, Y]), rowvar=False)
    np.testing.assert_allclose(joint_covariance(X, Y, X.mean(axis=0), Y.mean(axis=0)), expected, atol=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (6, 6)])
@pytest.mark.parametrize("smallest", [0.5, 1e-9])
def test_the_largest_singular_values_and_vectors(seed, shape, smallest):
    """Also where the squares of the values would have lost the last of them."""
    rng = np.random.default_rng(seed)
    U, V = linalg.qr(rng.normal(size=(shape[0], 5)), mode="economic")[0], linalg.qr(rng.normal(size=(shape[1], 5)))[0]
    values = np.array([1.0, 0.9, 0.7, 0.6, smallest])
    T = U * values @ V[:, :5].T
    for k in (1, 3, 5):
        left, s, right = top_singular(T, k)
        np.testing.assert_allclose(s, values[:k], rtol=1e-6)
        np.testing.assert_allclose(left.T @ left, np.eye(k), atol=1e-8)
        np.testing.assert_allclose(right.T @ right, np.eye(k), atol=1e-8)
        np.testing.assert_allclose(left.T @ T @ right, np.diag(s), atol=1e-12)


def test_the_wider_view_may_be_the_second():
    X, Y = views(0)
    one, other = CCA(4, 0.1).fit(X, Y), CCA(4, 0.1).fit(Y, X)
    np.testing.assert_allclose(one.correlations_, other.correlations_, atol=1e-12)
    np.testing.assert_allclose(np.abs(one.transform(X)), np.abs(other.transform(Y, X)[1]), atol=1e-9)


def test_constant_columns_and_copies_change_nothing():
    X, Y = views(3)
    more = np.hstack([X, np.full((len(X), 1), 7.0), X[:, :2], X[:, :1] + 3 * X[:, 1:2]])
    np.testing.assert_allclose(CCA(4).fit(more, Y).correlations_, CCA(4).fit(X, Y).correlations_, atol=1e-6)


def test_score_is_the_sum_of_held_out_correlations():
    X, Y = views(4, n=300)
    model = CCA(3).fit(X[:200], Y[:200])
    a, b = model.transform(X[200:], Y[200:])
    expected = sum(np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3))
    assert model.score(X[200:], Y[200:]) == pytest.approx(expected)
    assert model.score(X[:200], Y[:200]) == pytest.approx(model.correlations_.sum())


def test_paired_correlations_of_a_constant_column_are_zero():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 2))
    a[:, 1] = 4.0
    assert paired_correlations(a, rng.normal(size=(30, 2)))[1] == 0.0


def test_embeddings_are_the_variates_scaled_by_a_power_of_the_correlations():
    X, Y = views(5)
    model = CCA(3, correlation_power=2.0).fit(X, Y)
    a, b = model.transform(X, Y)
    for embedded, variates in [(model.embed_image(X), a), (model.embed_text(torch.from_numpy(Y)), b)]:
        assert embedded.dtype == torch.float32
        np.testing.assert_allclose(embedded, variates * model.correlations_**2, rtol=1e-5, atol=1e-6)


def test_torch_numpy_and_lists_give_the_same():
    X, Y = views(6, n=30)
    expected = CCA(2).fit(X, Y).correlations_
    for convert in (torch.from_numpy, lambda v: v.tolist()):
        np.testing.assert_allclose(CCA(2).fit(convert(X), convert(Y)).correlations_, expected, rtol=1e-12)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_tensors_on_the_gpu_are_accepted():
    X, Y = views(6, n=30)
    model = CCA(2).fit(torch.from_numpy(X).cuda(), torch.from_numpy(Y).cuda())
    np.testing.assert_allclose(model.correlations_, CCA(2).fit(X, Y).correlations_)


def test_scikit_learns_contract():
    X, Y = views(7)
    model = CCA(n_components=3, regularization=0.1)
    copy = clone(model)
    assert copy.get_params() == {"n_components": 3, "regularization": 0.1, "correlation_power": 0.0}
    assert copy.set_params(n_components=2).fit(X, Y) is copy
    with pytest.raises(NotFittedError):
        model.transform(X)
    a, b = copy.fit_transform(X, Y)
    np.testing.assert_array_equal(a, copy.transform(X))
    np.testing.assert_array_equal(b, copy.transform(X, Y)[1])


def test_grid_search_chooses_the_ridge_that_a_loop_over_folds_chooses():
    train, _ = digits_halves(80, seed=1)
    X, Y = train.image.numpy(), train.text.numpy()
    ridges = [0.0, 0.01, 0.3, 10.0]
    search = GridSearchCV(CCA(5), {"regularization": ridges}, cv=4).fit(X, Y)
    folds = np.array_split(np.arange(80), 4)
    totals = []
    for r in ridges:
        total = 0.0
        for fold in folds:
            rest = np.setdiff1d(np.arange(80), fold)
            total += CCA(5, r).fit(X[rest], Y[rest]).score(X[fold], Y[fold])
        totals.append(total)
    assert search.best_params_["regularization"] == ridges[int(np.argmax(totals))]
    assert search.best_params_["regularization"] > 0


def test_fitting_changes_neither_view():
    X, Y = views(8)
    X0, Y0 = X.copy(), Y.copy()
    CCA(2, 0.5).fit(X, Y).transform(X, Y)
    np.testing.assert_array_equal(X, X0)
    np.testing.assert_array_equal(Y, Y0)


GOOD = np.random.default_rng(0).normal(size=(20, 4))


def with_nan() -> np.ndarray:
    bad = GOOD.copy()
    bad[7, 2] = np.nan
    return bad


@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        (with_nan(), GOOD, "X has NaN or infinite values in 1 row.*row 7"),
        (GOOD, np.where(np.isnan(with_nan()), np.inf, GOOD), "Y has NaN or infinite"),
        (GOOD[:, 0], GOOD, r"X must have shape \(n, d\).*got \(20,\)"),
        (GOOD, GOOD[None], "Y must have shape"),
        (GOOD[:0], GOOD[:0], "X is empty"),
        (GOOD[:, :0], GOOD, "X is empty"),
        (GOOD[:1], GOOD[:1], "at least 2 pairs, got 1"),
        (GOOD, GOOD[:19], "X has 20 rows and Y has 19"),
        (np.full((20, 4), 0.1), GOOD, "every column of X is constant"),
        (GOOD, np.full((20, 3), 1e9), "every column of Y is constant"),
        (np.full((3, 4), 0.1), GOOD[:3], "every column of X is constant"),
        (np.where(GOOD == GOOD[7, 2], [[np.inf]], GOOD) * [1, 1, 1, -1], GOOD, "X has NaN or infinite.*row 7"),
        ([["a", "b"]] * 20, GOOD, "X must be numbers"),
    ],
)
def test_bad_rows_are_refused_with_the_reason(X, Y, message):
    with pytest.raises(ValueError, match=message):
        CCA(1).fit(X, Y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "n_components must be a whole number >= 1, got 0"),
        ({"n_components": 1.5}, "n_components must be a whole number"),
        ({"n_components": 5}, "have only 4 directions in common: ask for at most 4"),
        ({"regularization": -1.0}, "regularization must be a number >= 0"),
        ({"regularization": float("nan")}, "regularization must be a number"),
        ({"regularization": "0.1"}, "regularization must be a number >= 0, got '0.1'"),
        ({"correlation_power": -1}, "correlation_power must be"),
    ],
)
def test_bad_parameters_are_refused_with_the_reason(parameters, message):
    with pytest.raises(ValueError, match=message):
        CCA(**parameters).fit(GOOD, GOOD + 1)


def test_new_rows_must_have_the_fitted_columns():
    model = CCA(2).fit(GOOD, GOOD[:, :3] + 1)
    with pytest.raises(ValueError, match="X has 3 columns, but the model was fitted with 4"):
        model.transform(GOOD[:, :3])
    with pytest.raises(ValueError, match="text has 4 columns, but the model was fitted with 3"):
        model.embed_text(GOOD)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        model.score(GOOD[:1], GOOD[:1, :3])
