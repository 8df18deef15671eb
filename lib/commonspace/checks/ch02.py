"""Checks of chapter 02, deep CCA: centre a test kernel, the trace norm and its gradient, the final linear CCA."""

import numpy as np

from commonspace.checks.exercise import Exercise, Mistake
from commonspace.models import CCA


def _two_kernels(rng: np.random.Generator) -> tuple:
    """The kernel of 6 training rows with each other, and of 3 new rows with the 6: Gaussian, of random points."""
    rows = rng.normal(size=(9, 2)) + rng.normal(size=2)
    K = np.exp(-((rows[:, None] - rows[None]) ** 2).sum(axis=2) / 4)
    return K[:6, :6], K[6:, :6]


def _centre_in_features(K_train, K_new) -> np.ndarray:
    """Another road: features whose inner products are the kernel, centred by their training mean."""
    s, V = np.linalg.eigh(K_train)
    features = V * np.sqrt(s)  # (n, n): features @ features.T = K_train
    features_new = np.linalg.solve(features, K_new.T).T  # features_new @ features.T = K_new
    mean = features.mean(axis=0)
    return (features_new - mean) @ (features - mean).T


centre_new_kernel = Exercise(
    name="centre_new_kernel",
    inputs=_two_kernels,
    reference=_centre_in_features,
    mistakes=(
        Mistake(
            "test means",
            "you subtract the means of the new rows' own columns. The origin of the feature space is the mean of the "
            "TRAINING rows: column means and grand mean of K_train.",
            lambda K, N: N - N.mean(axis=0) - N.mean(axis=1, keepdims=True) + N.mean(),
        ),
        Mistake(
            "test grand mean",
            "the column means are right, but the grand mean you add is that of the new kernel. It belongs to K_train.",
            lambda K, N: N - K.mean(axis=0) - N.mean(axis=1, keepdims=True) + N.mean(),
        ),
        Mistake(
            "no grand mean",
            "you subtract row and column means, but what both have in common is then subtracted twice: add the grand "
            "mean of K_train.",
            lambda K, N: N - K.mean(axis=0) - N.mean(axis=1, keepdims=True),
        ),
        Mistake(
            "columns only",
            "you subtract the column means alone. The training side is still off its mean: subtract each new row's "
            "mean over the training rows, and add the grand mean.",
            lambda K, N: N - K.mean(axis=0),
        ),
        Mistake(
            "rows only",
            "you subtract each row's mean alone. The new rows are not centred yet: also subtract the column means "
            "of K_train and add its grand mean.",
            lambda K, N: N - N.mean(axis=1, keepdims=True),
        ),
    ),
    well_done="Your kernel is that of features centred by their training mean.",
)


def _outputs(rng: np.random.Generator) -> tuple:
    hidden = rng.normal(size=(30, 2))
    A = hidden @ rng.normal(size=(2, 3)) + rng.normal(size=(30, 3)) + rng.normal(size=3)
    B = hidden @ rng.normal(size=(2, 4)) + rng.normal(size=(30, 4)) + rng.normal(size=4)
    return A, B, float(rng.choice([0.01, 0.1]))


def _parts(A, B, ridge, ddof=1, centred=True):
    if centred:
        A, B = A - A.mean(axis=0), B - B.mean(axis=0)
    m = len(A) - ddof
    S11, S22 = A.T @ A / m + ridge * np.eye(A.shape[1]), B.T @ B / m + ridge * np.eye(B.shape[1])
    W1, W2 = np.linalg.inv(np.linalg.cholesky(S11)).T, np.linalg.inv(np.linalg.cholesky(S22)).T
    U, s, Vt = np.linalg.svd(W1.T @ (A.T @ B / m) @ W2, full_matrices=False)
    return A, B, W1 @ U, s, W2 @ Vt.T, m


def _value(A, B, ridge) -> float:
    """By eigenvalues, neither Cholesky nor SVD: the correlations are roots of those of S11^-1 S12 S22^-1 S21."""
    C = np.cov(A, B, rowvar=False)
    p = A.shape[1]
    S11, S22 = C[:p, :p] + ridge * np.eye(p), C[p:, p:] + ridge * np.eye(B.shape[1])
    M = np.linalg.solve(S11, C[:p, p:]) @ np.linalg.solve(S22, C[p:, :p])
    return float(np.sqrt(np.clip(np.linalg.eigvals(M).real, 0, None)).sum())


def _by_differences(A, B, ridge) -> tuple[float, np.ndarray]:
    """The total correlation, and its gradient by A from central differences: no formula for it at all."""
    gradient = np.zeros_like(A)
    for index in np.ndindex(*A.shape):
        step = np.zeros_like(A)
        step[index] = 1e-5
        gradient[index] = (_value(A + step, B, ridge) - _value(A - step, B, ridge)) / 2e-5
    return _value(A, B, ridge), gradient


def _slip(*, ddof=1, centred=True, sign=1.0, shrink=True, ridge_used=True, norm="trace"):
    """The formula with one slip."""

    def answer(A, B, ridge):
        Ac, Bc, P, s, Q, m = _parts(A, B, ridge if ridge_used else 1e-12, ddof, centred)
        gradient = sign * (Bc @ Q - (Ac @ P * s if shrink else 0)) @ P.T / m
        if norm == "frobenius":
            return float(np.sqrt((s**2).sum())), gradient
        if norm == "elementwise":
            S11 = Ac.T @ Ac / m + ridge * np.eye(A.shape[1])
            S22 = Bc.T @ Bc / m + ridge * np.eye(B.shape[1])
            roots = []
            for S in (S11, S22):
                e, V = np.linalg.eigh(S)
                roots.append((V / np.sqrt(e)) @ V.T)
            T = roots[0] @ (Ac.T @ Bc / m) @ roots[1]
            return float(np.trace(np.sqrt(np.abs(T.T @ T)))), gradient
        return float(s.sum()), gradient

    return answer


trace_norm = Exercise(
    name="trace_norm",
    inputs=_outputs,
    reference=_by_differences,
    tolerance=2e-6,
    mistakes=(
        Mistake(
            "m for m - 1",
            "you divide by m. The covariances, and with them the gradient, divide by m - 1.",
            _slip(ddof=0),
        ),
        Mistake(
            "not centred",
            "you do not centre the outputs. A network may shift its outputs by any constant: subtract the batch mean.",
            _slip(centred=False),
        ),
        Mistake(
            "sign",
            "the value is right, the gradient points downhill. Asked for is the gradient of the correlation itself, "
            "not of the loss.",
            _slip(sign=-1.0),
        ),
        Mistake(
            "without the second term",
            "the gradient lacks - A P diag(s): it then rewards outputs that merely grow larger and larger, which the "
            "correlation does not care about.",
            _slip(shrink=False),
        ),
        Mistake(
            "gradient not divided",
            "the value is right, the gradient is m - 1 times too large: it divides by m - 1 as the covariances do.",
            lambda A, B, ridge: (_slip()(A, B, ridge)[0], (len(A) - 1) * _slip()(A, B, ridge)[1]),
        ),
        Mistake(
            "Frobenius norm",
            "your value is the root of the sum of SQUARED singular values. The trace norm is their sum.",
            _slip(norm="frobenius"),
        ),
        Mistake(
            "elementwise root",
            "your value is the trace of the square roots of the ENTRIES of T'T. Meant is the root of the matrix: the "
            "sum of T's singular values.",
            _slip(norm="elementwise"),
        ),
        Mistake(
            "no ridge",
            "you do not add the ridge to the covariances. With small batches T then has singular values near 1 for "
            "nothing, and Cholesky may fail.",
            _slip(ridge_used=False),
        ),
    ),
    well_done="Value and gradient agree with finite differences, which know no formula.",
)


def _network_outputs(rng: np.random.Generator) -> tuple:
    """Outputs whose columns correspond only after a mixing, as a network's do."""
    hidden = rng.normal(size=(90, 3))
    A = (hidden + 0.4 * rng.normal(size=(90, 3))) @ rng.normal(size=(3, 3)) + rng.normal(size=3)
    B = (hidden + 0.4 * rng.normal(size=(90, 3))) @ rng.normal(size=(3, 3)) + rng.normal(size=3)
    return A[:60], B[:60], A[60:], B[60:]


def _column_correlations(a, b) -> float:
    return float(sum(np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(a.shape[1])))


def _held_out_total(A, B, A_test, B_test) -> float:
    """By QR of the training outputs, without the library."""
    (Qa, Ra), (Qb, Rb) = (np.linalg.qr(V - V.mean(axis=0)) for V in (A, B))
    U, _, Vt = np.linalg.svd(Qa.T @ Qb)
    a = (A_test - A.mean(axis=0)) @ np.linalg.solve(Ra, U)
    return _column_correlations(a, (B_test - B.mean(axis=0)) @ np.linalg.solve(Rb, Vt.T))


def _fitted_on(A, B, A_test, B_test) -> float:
    return CCA(A.shape[1]).fit(A_test, B_test).score(A_test, B_test)


final_linear_cca = Exercise(
    name="final_linear_cca",
    inputs=_network_outputs,
    reference=_held_out_total,
    mistakes=(
        Mistake(
            "fitted on the test outputs",
            "you fit the linear CCA on the test outputs. Then the test pairs choose the directions they are judged by: "
            "fit on the training outputs.",
            _fitted_on,
        ),
        Mistake(
            "skipped",
            "you correlate column i of one output with column i of the other, without a linear CCA. Nothing in the "
            "loss makes column i of one network go with column i of the other.",
            lambda A, B, A_test, B_test: _column_correlations(A_test, B_test),
        ),
        Mistake(
            "the training total",
            "you return the total on the training outputs. Asked for is the one on the test outputs.",
            lambda A, B, A_test, B_test: CCA(A.shape[1]).fit(A, B).score(A, B),
        ),
        Mistake(
            "two components",
            "you take 2 directions, the default of CCA. Asked for are all d: CCA(n_components=A.shape[1]).",
            lambda A, B, A_test, B_test: CCA().fit(A, B).score(A_test, B_test),
        ),
        Mistake(
            "mean instead of sum",
            "you return the mean of the correlations. The total is their sum.",
            lambda A, B, A_test, B_test: _held_out_total(A, B, A_test, B_test) / A.shape[1],
        ),
    ),
    well_done="The linear CCA belongs to the model, and the model is fitted on training pairs.",
)
