"""The Frechet distance against closed forms, scipy's root of a matrix and torchmetrics; diversity against loops."""

import itertools

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from commonspace.metrics import frechet_distance, pairwise_diversity


@pytest.fixture(params=range(3))
def rng(request):
    return np.random.default_rng(request.param)


def features(rng, n: int, d: int) -> np.ndarray:
    """Rows that are correlated, of unlike scales, and off the origin."""
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def by_definition(a: np.ndarray, b: np.ndarray) -> float:
    C_a, C_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(C_a + C_b - 2 * sqrtm(C_a @ C_b).real))


# ---- the Frechet distance --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "d"), [(50, 80, 6), (200, 31, 30), (7, 9, 2)])
def test_equals_the_definition_with_scipys_root(rng, n, m, d):
    a, b = features(rng, n, d), features(rng, m, d)
    expected = by_definition(a, b)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(torch.tensor(a, requires_grad=True), b.tolist()) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(a.astype(np.float32), b.astype(np.float32)) == pytest.approx(expected, rel=1e-5)


def test_equals_torchmetrics(rng):
    from torchmetrics.image.fid import _compute_fid

    a, b = features(rng, 60, 5), features(rng, 90, 5)
    moments = [torch.tensor(m) for x in (a, b) for m in (x.mean(0), np.cov(x, rowvar=False))]
    assert frechet_distance(a, b) == pytest.approx(float(_compute_fid(*moments)), rel=1e-8)


@pytest.mark.parametrize(("n", "m"), [(40, 60), (4, 3)])
def test_of_one_number_it_is_that_of_two_normal_distributions(rng, n, m):
    a, b = rng.normal(3, 2, (n, 1)), rng.normal(-1, 0.5, (m, 1))
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert abs(frechet_distance(a, b) - ((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2)) > 1e-4


def test_where_the_axes_are_shared_it_is_a_sum_over_them(rng):
    """C_a and C_b commute: of orthogonal, centred columns, only the scales differ."""
    Q = np.linalg.qr(np.c_[np.ones(30), rng.normal(size=(30, 4))])[0][:, 1:]
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    one, other = rng.uniform(0.1, 5, 4), rng.uniform(0.1, 5, 4)
    a, b = (29**0.5 * Q * scale @ turn for scale in (one, other))
    assert frechet_distance(a, b + 2) == pytest.approx(16 + np.square(one - other).sum(), rel=1e-10)


@pytest.mark.parametrize(("n", "m", "d"), [(10, 12, 40), (10, 100, 40), (100, 10, 40), (2, 2, 300)])
def test_with_fewer_rows_than_columns_it_is_as_right(rng, n, m, d):
    """Both sets, seen along the axes that they span, have as many columns as it takes: then the root is tame."""
    a, b = rng.normal(size=(n, d)), rng.normal(size=(m, d)) * 3 + 1
    found = frechet_distance(a, b)
    # The trace of the root from the n x n matrix of products, whose eigenvalues are the same.
    X, Y = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b))
    shared = np.sqrt(np.linalg.eigvals(X @ Y.T @ Y @ X.T).real.clip(0)).sum()
    expected = np.square(a.mean(0) - b.mean(0)).sum() + (X**2).sum() + (Y**2).sum() - 2 * shared
    assert found == pytest.approx(expected, rel=1e-6)
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    assert frechet_distance(a @ basis, b @ basis) == pytest.approx(found, rel=1e-10)  # it turns with the features
    padded = [np.c_[x, np.zeros((len(x), 50))] for x in (a, b)]  # and columns that say nothing change nothing
    assert frechet_distance(*padded) == pytest.approx(found, rel=1e-10)


@pytest.mark.parametrize("shape", [(50, 6), (5, 60)])
def test_of_the_same_rows_it_is_nothing_and_of_moved_ones_the_way(rng, shape):
    a = features(rng, *shape)
    scale = np.square(a - a.mean(0)).sum() / len(a)
    assert 0 <= frechet_distance(a, rng.permutation(a)) < 1e-12 * scale
    move = rng.normal(size=shape[1])
    assert frechet_distance(a, a + move) == pytest.approx(np.square(move).sum(), rel=1e-8)
    assert frechet_distance(3 * a, 3 * a + move) == pytest.approx(np.square(move).sum(), rel=1e-8)
    stretched = a.mean(0) + 2 * (a - a.mean(0))
    assert frechet_distance(a, stretched) == pytest.approx(np.trace(np.cov(a, rowvar=False)), rel=1e-8)


def test_sets_of_one_distribution_are_nearer_than_of_two_and_more_rows_bring_them_closer(rng):
    few, many = ([rng.normal(size=(n, 8)) for _ in range(2)] for n in (40, 4000))
    assert frechet_distance(*many) < 0.1 * frechet_distance(*few)
    assert frechet_distance(*few) < frechet_distance(few[0], few[1] * 2)


def test_it_is_as_exact_far_from_the_origin(rng):
    a, b = features(rng, 50, 4), features(rng, 50, 4)
    assert frechet_distance(a + 1e6, b + 1e6) == pytest.approx(frechet_distance(a, b), rel=1e-7)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((5, 3)), np.ones((5, 4)), r"features_a \(5, 3\) and features_b \(5, 4\) must have equal widths"),
        (np.ones((1, 3)), np.ones((5, 3)), "at least two rows; got 1 of features_a, 5 of features_b"),
        (np.ones((5, 3)), np.ones((1, 3)), "at least two rows; got 5 of features_a, 1 of features_b"),
        (np.ones((0, 3)), np.ones((5, 3)), r"features_a must have shape \(n, d\)"),
        (np.ones((5, 3)), np.ones(3), r"features_b must have shape \(n, d\)"),
        (np.ones((5, 3)), np.array([[1.0], [np.nan], [2.0]]), "features_b has NaN .* the first is row 1"),
        (np.array([[np.inf]] * 2), np.ones((5, 1)), "features_a has NaN or infinite"),
        (np.ones((5, 3)), "pictures", "features_b must be an array of numbers"),
    ],
)
def test_bad_features_are_named(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)


# ---- diversity -------------------------------------------------------------------------------------------------------


def by_loops(pictures: np.ndarray) -> float:
    pairs = itertools.combinations(pictures.astype(np.float64), 2)
    return float(np.mean([np.abs(x - y).mean() for x, y in pairs]))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (11, 3, 8, 8), (40, 7), (3, 3, 300, 300)])
def test_diversity_is_the_mean_over_pairs(rng, shape):
    values = rng.random(shape)
    assert pairwise_diversity(values) == pytest.approx(by_loops(values), abs=1e-12)
    assert pairwise_diversity(torch.tensor(values).float()) == pytest.approx(by_loops(values), abs=1e-6)
    whole = rng.integers(0, 256, shape, dtype=np.uint8)
    assert pairwise_diversity(whole) == pytest.approx(by_loops(whole) / 255, abs=1e-12)
    assert abs(pairwise_diversity(values) - np.abs(values - values.mean(0)).mean()) > 0.02  # not that from the mean


def test_diversity_does_not_depend_on_how_much_is_sorted_at_a_time():
    whole = np.random.default_rng(0).integers(0, 256, (2000, 4300), dtype=np.uint8)  # 2 ** 22 values at a time
    parts = [pairwise_diversity(whole[:, some]) for some in np.split(np.arange(4300), 10)]
    assert pairwise_diversity(whole) == pytest.approx(np.mean(parts), abs=1e-12)
    counts = [np.bincount(column, minlength=256) for column in whole[:, :30].T]
    apart = np.abs(np.subtract.outer(np.arange(256), np.arange(256))) / 255
    expected = np.mean([count @ apart @ count / (2000 * 1999) for count in counts])
    assert pairwise_diversity(whole[:, :30]) == pytest.approx(expected, abs=1e-12)


def test_diversity_tells_a_painter_who_paints_one_picture(rng):
    one = rng.random((1, 3, 6, 6))
    assert pairwise_diversity(one.repeat(20, axis=0)) == 0
    few = pairwise_diversity((one + 0.01 * rng.random((20, 3, 6, 6))).clip(0, 1))
    assert 0 < few < 0.01 < pairwise_diversity(rng.random((20, 3, 6, 6)))
    black_and_white = np.zeros((20, 3, 6, 6), dtype=np.uint8)
    black_and_white[::2] = 255
    assert pairwise_diversity(black_and_white) == pytest.approx(20 / 19 / 2)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (np.zeros((1, 3, 4, 4)), r"at least two; got \(1, 3, 4, 4\)"),
        (np.zeros((4, 0, 4, 4)), r"at least two; got \(4, 0, 4, 4\)"),
        (np.zeros(5), r"at least two; got \(5,\)"),
        (np.zeros((2, 3), dtype=np.int64), "uint8 or floats in .* got torch.int64"),
        (np.array([[0.0], [-0.5]]), r"got -0.5 to 0. Bring \[-1, 1\] there by"),
        (np.array([[0.0], [255.0]]), "got 0 to 255"),
        (np.array([[0.0], [np.nan]]), "NaN or infinite values in 1 row.* row 1"),
    ],
)
def test_bad_pictures_are_named(pictures, message):
    with pytest.raises(ValueError, match=message):
        pairwise_diversity(pictures)
