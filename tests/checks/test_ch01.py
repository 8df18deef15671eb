"""Four proofs of each check of chapter 01: stub, solution, wrong answers by name, a right answer made otherwise."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from commonspace.checks import ch01
from commonspace.models import CCA


@pytest.mark.parametrize("exercise", ["cca", "project", "choose_ridge"])
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch01, exercise)
    assert check(stub("01", exercise)).status == "not attempted"
    assert check(solution("01", exercise)).status == "passed"


def by_cholesky(
    X,
    Y,
    X_new,
    Y_new,
    k,
    *,
    ddof=1,
    root=True,
    whiten=True,
    own_mean=False,
    transpose=True,
    upper=True,
    weights=True,
    centre=True,
):
    """CCA by whitening with Cholesky, and a switch for each slip."""
    x_mean, y_mean = X.mean(0), Y.mean(0)
    Xc, Yc, n = X - x_mean, Y - y_mean, len(X) - ddof

    def matrix(view):
        C = view.T @ view / n
        if not whiten:
            return np.eye(len(C))
        if not root:
            return np.linalg.inv(C)
        W = np.linalg.inv(np.linalg.cholesky(C))
        return W.T if upper else W

    Wx, Wy = matrix(Xc), matrix(Yc)
    U, _, Vt = np.linalg.svd(Wx.T @ (Xc.T @ Yc / n) @ Wy)
    V = Vt.T if transpose else Vt
    if own_mean:
        x_mean, y_mean = X_new.mean(0), Y_new.mean(0)
    if not centre:
        x_mean, y_mean = 0, 0
    A, B = (Wx @ U, Wy @ V) if weights else (U, V)
    return (X_new - x_mean) @ A[:, :k], (Y_new - y_mean) @ B[:, :k]


def symmetric_without_transpose(X, Y, X_new, Y_new, k):
    """V not transposed, with the symmetric root, as one writes who whitens by C^(-1/2)."""
    x_mean, y_mean = X.mean(0), Y.mean(0)
    C = np.cov(X.T, Y.T)
    p = X.shape[1]

    def root(block):
        s, V = np.linalg.eigh(block)
        return V @ np.diag(1 / np.sqrt(s)) @ V.T

    Wx, Wy = root(C[:p, :p]), root(C[p:, p:])
    U, _, V = np.linalg.svd(Wx @ C[:p, p:] @ Wy)
    return (X_new - x_mean) @ Wx @ U[:, :k], (Y_new - y_mean) @ Wy @ V[:, :k]


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda *a: by_cholesky(*a, own_mean=True), "own mean", "keep the one of the training rows"),
        (lambda *a: by_cholesky(*a, whiten=False), "not whitened", "partial least squares"),
        (lambda *a: by_cholesky(*a, root=False), "inverse for inverse root", "goes too far"),
        (lambda *a: by_cholesky(*a, ddof=0), "divides by n", "n - 1"),
        (symmetric_without_transpose, "V not transposed", "Vt.T"),
        (lambda *a: by_cholesky(*a, transpose=False), "V not transposed, Cholesky", "Vt.T"),
        (lambda *a: by_cholesky(*a, upper=False), "L^-1 for L^-T", "the identity"),
        (lambda *a: by_cholesky(*a, weights=False), "U for W U", "whitened coordinates"),
        (lambda *a: by_cholesky(*a, centre=False), "not centred", "training means"),
        (lambda X, Y, X_new, Y_new, k: by_cholesky(X, Y, X, Y, k), "the training rows", "X_new"),
    ],
)
def test_wrong_ccas_get_their_hint(answer, mistake, words):
    result = ch01.cca(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_a_flipped_sign_of_one_view_fails_and_of_both_passes():
    def flipped(x_sign, y_sign):
        def answer(X, Y, X_new, Y_new, k):
            a, b = by_cholesky(X, Y, X_new, Y_new, k)
            return x_sign * a, y_sign * b

        return ch01.cca(answer).status

    assert flipped(-1, 1) == "failed"
    assert flipped(-1, -1) == "passed"


def test_a_cca_by_qr_passes():
    def cca(X, Y, X_new, Y_new, k):
        (Qx, Rx), (Qy, Ry) = (np.linalg.qr(view - view.mean(0)) for view in (X, Y))
        U, _, Vt = np.linalg.svd(Qx.T @ Qy)
        scale = np.sqrt(len(X) - 1)
        A, B = np.linalg.solve(Rx, U[:, :k]) * scale, np.linalg.solve(Ry, Vt.T[:, :k]) * scale
        return (X_new - X.mean(0)) @ A, (Y_new - Y.mean(0)) @ B

    assert ch01.cca(cca).status == "passed"


def standardised(rows, mean, deviation):
    return (rows - mean) / deviation


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda X, W, new: standardised(new, X.mean(0), new.std(0)) @ W, "own deviation", "training deviation"),
        (
            lambda X, W, new: standardised(new, new.mean(0), new.std(0)) @ W,
            "own mean and deviation",
            "both were learned",
        ),
        (lambda X, W, new: StandardScaler().fit_transform(new) @ W, "a scaler of its own", "both were learned"),
        (lambda X, W, new: standardised(new, new.mean(0), X.std(0)) @ W, "own mean", "land at 0"),
        (lambda X, W, new: new @ W - X.mean(0) @ W, "not scaled", "do not divide"),
        (lambda X, W, new: new / X.std(0) @ W, "not centred", "subtract"),
        (lambda X, W, new: (new - np.mean(X)) / np.std(X) @ W, "one number for all columns", "axis=0"),
        (lambda X, W, new: new @ W, "neither", "standardised"),
        (
            lambda X, W, new: StandardScaler().fit(np.concatenate([X, new])).transform(new) @ W,
            "training and new rows together",
            "changes all others",
        ),
        (lambda X, W, new: standardised(new, X.mean(0), X.std(0, ddof=1)) @ W, "divides by n - 1", "divide by n"),
    ],
)
def test_wrong_projections_get_their_hint(answer, mistake, words):
    result = ch01.project(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_a_projection_that_stops_or_drops_an_axis_for_one_new_row_fails():
    def squeezed(X, W, new):
        return np.squeeze(standardised(new, X.mean(0), X.std(0)) @ W)

    assert ch01.project(squeezed).status == "failed"


def test_a_projection_by_a_fitted_scaler_passes():
    assert ch01.project(lambda X, W, new: StandardScaler().fit(X).transform(new) @ W).status == "passed"


@pytest.mark.parametrize(
    ("choose", "mistake", "words"),
    [
        (
            lambda models, train, _: max(models, key=lambda r: models[r].score(*train)),
            "on the training pairs",
            "always",
        ),
        (lambda models, _, val: min(models, key=lambda r: models[r].score(*val)), "the lowest total", "argmax"),
        (lambda models, _, val: max(m.score(*val) for m in models.values()), "the total itself", "the ridge"),
        (lambda models, _, val: np.argmax([m.score(*val) for m in models.values()]), "the position", "position"),
    ],
)
def test_wrong_ridges_get_their_hint(choose, mistake, words):
    def answer(X, Y, X_val, Y_val, ridges, k):
        models = {r: CCA(k, regularization=r).fit(X, Y) for r in ridges}
        return choose(models, (X, Y), (X_val, Y_val))

    result = ch01.choose_ridge(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_comparing_the_models_own_correlations_is_the_training_mistake():
    def answer(X, Y, X_val, Y_val, ridges, k):
        return max(ridges, key=lambda r: CCA(k, regularization=r).fit(X, Y).correlations_.sum())

    assert ch01.choose_ridge(answer).mistake == "on the training pairs"


def test_a_loop_that_keeps_the_best_passes():
    def answer(X, Y, X_val, Y_val, ridges, k):
        best, best_total = None, -np.inf
        for r in ridges:
            a, b = CCA(k, regularization=r).fit(X, Y).transform(X_val, Y_val)
            total = np.corrcoef(a, b, rowvar=False)[:k, k:].trace()
            if total > best_total:
                best, best_total = r, total
        return best

    assert ch01.choose_ridge(answer).status == "passed"
