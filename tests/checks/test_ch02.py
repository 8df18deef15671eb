"""Four proofs of each check of chapter 02: stub, solution, wrong answers by name, a right answer made otherwise."""

import numpy as np
import pytest
import torch

from commonspace.checks import ch02
from commonspace.losses import correlation_loss
from commonspace.models import CCA


@pytest.mark.parametrize("exercise", ["centre_new_kernel", "trace_norm", "final_linear_cca"])
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch02, exercise)
    assert check(stub("02", exercise)).status == "not attempted"
    assert check(solution("02", exercise)).status == "passed"


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda K, N: N - N.mean(0) - N.mean(1)[:, None] + N.mean(), "test means", "TRAINING rows"),
        (lambda K, N: N - K.mean(0) - N.mean(1)[:, None] + N.mean(), "test grand mean", "belongs to K_train"),
        (lambda K, N: N - K.mean(0) - N.mean(1)[:, None], "no grand mean", "twice"),
        (lambda K, N: N - K.mean(0), "columns only", "still off its mean"),
        (lambda K, N: N - N.mean(1)[:, None], "rows only", "not centred yet"),
    ],
)
def test_wrong_centrings_get_their_hint(answer, mistake, words):
    result = ch02.centre_new_kernel(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_centring_by_a_projection_matrix_passes():
    def centred(K, N):
        n = len(K)
        onto = np.eye(n) - np.ones((n, n)) / n
        return (N - np.ones((len(N), n)) @ K / n) @ onto

    assert ch02.centre_new_kernel(centred).status == "passed"


def by_eigh(
    A, B, ridge, *, ddof=1, centre=True, sign=1, both=True, norm=lambda s, T: s.sum(), use_ridge=True, divide=True
):
    """The trace norm by symmetric roots, and a switch for each slip."""
    if centre:
        A, B = A - A.mean(0), B - B.mean(0)
    m = len(A) - ddof
    r = ridge if use_ridge else 1e-12

    def root(S):
        e, V = np.linalg.eigh(S + r * np.eye(len(S)))
        return (V / np.sqrt(e)) @ V.T

    R1, R2 = root(A.T @ A / m), root(B.T @ B / m)
    T = R1 @ (A.T @ B / m) @ R2
    U, s, Vt = np.linalg.svd(T, full_matrices=False)
    P, Q = R1 @ U, R2 @ Vt.T
    return float(norm(s, T)), sign * (B @ Q - both * (A @ P * s)) @ P.T / (m if divide else 1)


@pytest.mark.parametrize(
    ("slip", "mistake", "words"),
    [
        ({"ddof": 0}, "m for m - 1", "divide by m - 1"),
        ({"centre": False}, "not centred", "batch mean"),
        ({"sign": -1}, "sign", "downhill"),
        ({"both": False}, "without the second term", "larger and larger"),
        ({"norm": lambda s, T: np.sqrt((s**2).sum())}, "Frobenius norm", "SQUARED"),
        ({"norm": lambda s, T: np.sqrt(np.abs(T.T @ T)).trace()}, "elementwise root", "ENTRIES"),
        ({"use_ridge": False}, "no ridge", "ridge"),
        ({"divide": False}, "gradient not divided", "too large"),
    ],
)
def test_wrong_trace_norms_get_their_hint(slip, mistake, words):
    result = ch02.trace_norm(lambda A, B, ridge: by_eigh(A, B, ridge, **slip))
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_symmetric_roots_and_the_librarys_loss_pass():
    def by_the_library(A, B, ridge):
        a = torch.tensor(A, requires_grad=True)
        loss = correlation_loss(a, torch.tensor(B), ridge=ridge)
        return -loss.item(), -torch.autograd.grad(loss, a)[0].numpy()

    assert ch02.trace_norm(by_eigh).status == "passed"
    assert ch02.trace_norm(by_the_library).status == "passed"


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda A, B, C, D: CCA(3).fit(C, D).score(C, D), "fitted on the test outputs", "fit on the training outputs"),
        (lambda A, B, C, D: np.corrcoef(C.T, D.T)[:3, 3:].trace(), "skipped", "without a linear CCA"),
        (lambda A, B, C, D: CCA(3).fit(A, B).correlations_.sum(), "the training total", "training outputs"),
        (lambda A, B, C, D: CCA(3).fit(A, B).score(C, D) / 3, "mean instead of sum", "their sum"),
        (lambda A, B, C, D: CCA(2).fit(A, B).score(C, D), "two components", "all d"),
    ],
)
def test_wrong_last_steps_get_their_hint(answer, mistake, words):
    result = ch02.final_linear_cca(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_a_last_step_by_transform_and_corrcoef_passes():
    def answer(A, B, C, D):
        a, b = CCA(3).fit(A, B).transform(C, D)
        return sum(np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3))

    assert ch02.final_linear_cca(answer).status == "passed"
