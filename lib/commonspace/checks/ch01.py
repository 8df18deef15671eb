"""Checks of chapter 01, CCA: whiten and decompose, project a new pair, choose the ridge."""

import numpy as np
from scipy import linalg

from commonspace.checks.exercise import Exercise, Mistake
from commonspace.models import CCA


def _two_views(rng: np.random.Generator, n: int, p: int, q: int, shared: int, noise: float) -> tuple:
    """n pairs of rows that share ``shared`` hidden numbers, with columns of different means and units."""
    hidden = rng.normal(size=(n, shared))
    X = hidden @ rng.normal(size=(shared, p)) + noise * rng.normal(size=(n, p))
    Y = hidden @ rng.normal(size=(shared, q)) + noise * rng.normal(size=(n, q))
    return X * rng.uniform(0.5, 3, p) + rng.normal(size=p), Y * rng.uniform(0.5, 3, q) + rng.normal(size=q)


def _old_and_new(rng: np.random.Generator) -> tuple:
    X, Y = _two_views(rng, 67, 5, 4, 2, 1.0)
    return X[:60], Y[:60], X[60:], Y[60:], int(rng.integers(2, 4))


def _by_eigenproblem(X, Y, X_new, Y_new, k) -> tuple[np.ndarray, np.ndarray]:
    """The reference takes the other road: the generalised eigenproblem, no whitening and no SVD."""
    mx, my = X.mean(axis=0), Y.mean(axis=0)
    C = np.cov(np.hstack([X, Y]), rowvar=False)
    p = X.shape[1]
    Cxx, Cyy, Cxy = C[:p, :p], C[p:, p:], C[:p, p:]
    rho2, A = linalg.eigh(Cxy @ np.linalg.solve(Cyy, Cxy.T), Cxx)  # a'C_xx a = 1, ascending
    A, rho = A[:, ::-1][:, :k], np.sqrt(rho2[::-1][:k])
    return (X_new - mx) @ A, (Y_new - my) @ (np.linalg.solve(Cyy, Cxy.T @ A) / rho)


def _signs_aside(answer, X, Y, X_new, Y_new, k) -> tuple:
    """A pair of directions may change its sign, both together."""
    a, b = (np.asarray(view, dtype=float) for view in answer)
    sign = np.sign(a[np.abs(a).argmax(axis=0), np.arange(a.shape[1])])
    return a * sign, b * sign


def _slip(*, power=-0.5, own_mean=False, by_n=False, transposed=False, centred=True):
    """CCA by symmetric whitening with one slip: the power of C used to whiten, rows centred by their own mean, ..."""

    def answer(X, Y, X_new, Y_new, k):
        C = np.cov(np.hstack([X, Y]), rowvar=False, bias=by_n)
        p = X.shape[1]
        Wx, Wy = (_matrix_power(block, power) for block in (C[:p, :p], C[p:, p:]))
        U, _, Vt = np.linalg.svd(Wx @ C[:p, p:] @ Wy)
        V = Vt if transposed else Vt.T
        mx, my = (X_new.mean(axis=0), Y_new.mean(axis=0)) if own_mean else (X.mean(axis=0), Y.mean(axis=0))
        if not centred:
            mx, my = 0, 0
        return (X_new - mx) @ Wx @ U[:, :k], (Y_new - my) @ Wy @ V[:, :k]

    return answer


def _cholesky_slip(*, inverse_transposed=True, transposed=False, whitened_weights=True):
    """CCA by Cholesky whitening with one slip."""

    def answer(X, Y, X_new, Y_new, k):
        C = np.cov(np.hstack([X, Y]), rowvar=False)
        p = X.shape[1]
        Wx, Wy = (np.linalg.inv(np.linalg.cholesky(block)) for block in (C[:p, :p], C[p:, p:]))
        if inverse_transposed:
            Wx, Wy = Wx.T, Wy.T
        U, _, Vt = np.linalg.svd(Wx.T @ C[:p, p:] @ Wy)
        V = Vt if transposed else Vt.T
        A, B = (Wx @ U, Wy @ V) if whitened_weights else (U, V)
        return (X_new - X.mean(axis=0)) @ A[:, :k], (Y_new - Y.mean(axis=0)) @ B[:, :k]

    return answer


def _matrix_power(C: np.ndarray, power: float) -> np.ndarray:
    s, V = np.linalg.eigh(C)
    return (V * s**power) @ V.T


cca = Exercise(
    name="cca",
    inputs=_old_and_new,
    reference=_by_eigenproblem,
    compare_as=_signs_aside,
    mistakes=(
        Mistake(
            "own mean",
            "you centre the new rows by their own mean. A single new row would then always land at 0. The mean is part "
            "of what was learned: keep the one of the training rows.",
            _slip(own_mean=True),
        ),
        Mistake(
            "not whitened",
            "you decompose C_xy without whitening, so you maximise covariance, not correlation (this is partial least "
            "squares): a column in millimetres beats the same column in metres.",
            _slip(power=0.0),
        ),
        Mistake(
            "inverse for inverse root",
            "you whiten with C^-1. That goes too far: W'CW should be the identity, so W is an inverse ROOT of C.",
            _slip(power=-1.0),
        ),
        Mistake(
            "V not transposed",
            "numpy's svd returns V transposed: the directions of Y are columns of Vt.T, not of Vt.",
            _slip(transposed=True),
        ),
        Mistake(
            "V not transposed, Cholesky",
            "numpy's svd returns V transposed: the directions of Y are columns of Vt.T, not of Vt.",
            _cholesky_slip(transposed=True),
        ),
        Mistake(
            "L^-1 for L^-T",
            "you whiten with inv(L), but W = inv(L).T. Check that W.T @ C @ W is the identity.",
            _cholesky_slip(inverse_transposed=False),
        ),
        Mistake(
            "U for W U",
            "you multiply the rows by U and V. These live in whitened coordinates: the weights are A = W_x U and "
            "B = W_y V.",
            _cholesky_slip(whitened_weights=False),
        ),
        Mistake(
            "not centred",
            "you do not subtract the training means from the new rows.",
            _slip(centred=False),
        ),
        Mistake(
            "the training rows",
            "you return the variates of the training rows. Asked for are those of X_new and Y_new, one row each.",
            lambda X, Y, X_new, Y_new, k: _by_eigenproblem(X, Y, X, Y, k),
        ),
        Mistake(
            "divides by n",
            "the covariances divide by n. The course divides by n - 1, as numpy.cov does; your variates are off by the "
            "factor sqrt(n / (n - 1)).",
            _slip(by_n=True),
        ),
    ),
    well_done="Your function agrees with the eigenproblem, which whitens nothing and takes no SVD.",
)


def _weights_and_new_rows(rng: np.random.Generator) -> tuple:
    X, _ = _two_views(rng, 30 + rng.choice([1, 4]), 3, 3, 2, 1.0)  # one new row, or four
    return X[:30], rng.normal(size=(3, 2)), X[30:] + rng.normal(size=3)


def _project(X_train, weights, X_new) -> np.ndarray:
    n = len(X_train)
    mean = sum(X_train) / n
    deviation = (sum((row - mean) ** 2 for row in X_train) / n) ** 0.5
    return np.stack([((row - mean) / deviation) @ weights for row in X_new])


project = Exercise(
    name="project",
    inputs=_weights_and_new_rows,
    reference=_project,
    mistakes=(
        Mistake(
            "own deviation",
            "you divide by the standard deviation of the NEW rows. Then the same man gets other numbers in other "
            "company, and a man alone divides by 0. Divide by the training deviation.",
            lambda X, W, new: ((new - X.mean(axis=0)) / new.std(axis=0)) @ W,
        ),
        Mistake(
            "own mean and deviation",
            "you standardise the new rows by their own mean and deviation; both were learned from the training rows "
            "and belong to the weights.",
            lambda X, W, new: ((new - new.mean(axis=0)) / new.std(axis=0)) @ W,
        ),
        Mistake(
            "a scaler of its own",
            "you fit the scaler to the new rows. Mean and deviation: both were learned from the training rows, and "
            "belong to the weights.",
            lambda X, W, new: ((new - new.mean(axis=0)) / (new.std(axis=0) + (new.std(axis=0) == 0))) @ W,
        ),
        Mistake(
            "own mean",
            "you centre the new rows by their own mean. A man alone would land at 0 whatever he does.",
            lambda X, W, new: ((new - new.mean(axis=0)) / X.std(axis=0)) @ W,
        ),
        Mistake(
            "one number for all columns",
            "you take one mean and one deviation over all columns. Each column has its own: axis=0.",
            lambda X, W, new: ((new - X.mean()) / X.std()) @ W,
        ),
        Mistake(
            "neither",
            "you multiply the new rows as they are. The weights belong to standardised columns.",
            lambda X, W, new: new @ W,
        ),
        Mistake(
            "training and new rows together",
            "you take mean and deviation over training and new rows together. Then every new row changes all others.",
            lambda X, W, new: ((new - np.vstack([X, new]).mean(axis=0)) / np.vstack([X, new]).std(axis=0)) @ W,
        ),
        Mistake(
            "not scaled",
            "you centre but do not divide. The weights were found for columns of deviation 1.",
            lambda X, W, new: (new - X.mean(axis=0)) @ W,
        ),
        Mistake(
            "not centred",
            "you divide but do not subtract the training mean first.",
            lambda X, W, new: (new / X.std(axis=0)) @ W,
        ),
        Mistake(
            "divides by n - 1",
            "your deviation divides by n - 1. numpy's std, and this exercise, divide by n.",
            lambda X, W, new: ((new - X.mean(axis=0)) / X.std(axis=0, ddof=1)) @ W,
        ),
    ),
    well_done="What was learned from the training rows stays fixed for every row that comes after.",
    trials=16,
)

_RIDGES = (0.0, 0.01, 0.1, 1.0, 100.0)


def _few_pairs(rng: np.random.Generator) -> tuple:
    """Few pairs, drawn until the ridges that training, the lowest and the highest total choose are three."""
    while True:
        X, Y = _two_views(rng, 130, 14, 14, 4, 1.0)
        arguments = X[:40], Y[:40], X[40:], Y[40:], _RIDGES, 4
        choices = {_choose_ridge(*arguments), *(mistake.answer(*arguments) for mistake in _ridge_mistakes[:2])}
        if len(choices) == 3:
            return arguments


def _totals(X, Y, X_to, Y_to, ridges, k) -> list[float]:
    return [CCA(k, regularization=r).fit(X, Y).score(X_to, Y_to) for r in ridges]


def _choose_ridge(X, Y, X_val, Y_val, ridges, k) -> float:
    totals = []
    for r in ridges:
        a, b = CCA(k, regularization=r).fit(X, Y).transform(X_val, Y_val)
        totals.append(sum(np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(k)))
    return ridges[int(np.argmax(totals))]


_ridge_mistakes = (
    Mistake(
        "on the training pairs",
        "you compare the ridges on the pairs they were fitted to. There the smallest ridge always wins: that is how "
        "over-fitting looks from inside. Fit on the training pairs, score on the validation pairs.",
        lambda X, Y, Xv, Yv, ridges, k: ridges[int(np.argmax(_totals(X, Y, X, Y, ridges, k)))],
    ),
    Mistake(
        "the lowest total",
        "you return the ridge with the lowest total correlation. Higher is better: argmax.",
        lambda X, Y, Xv, Yv, ridges, k: ridges[int(np.argmin(_totals(X, Y, Xv, Yv, ridges, k)))],
    ),
    Mistake(
        "the total itself",
        "you return the best total correlation. The exercise asks for the ridge that reaches it.",
        lambda X, Y, Xv, Yv, ridges, k: max(_totals(X, Y, Xv, Yv, ridges, k)),
    ),
    Mistake(
        "the position",
        "you return the position of the best ridge in the list. The exercise asks for the ridge: ridges[...].",
        lambda X, Y, Xv, Yv, ridges, k: int(np.argmax(_totals(X, Y, Xv, Yv, ridges, k))),
    ),
)

choose_ridge = Exercise(
    name="choose_ridge",
    inputs=_few_pairs,
    reference=_choose_ridge,
    mistakes=_ridge_mistakes,
    well_done="Chosen where it was not fitted: that is all that validation means.",
    trials=4,
)
