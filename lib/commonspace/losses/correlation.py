"""The objective of Deep CCA: minus the total correlation of a batch.

Two networks turn the pairs of a batch into outputs A (m, d1) and B (m, d2). With the columns centred, and a ridge r so
that the inverses exist,

    S_11 = A'A / (m - 1) + r I,    S_22 = B'B / (m - 1) + r I,    S_12 = A'B / (m - 1),
    T = S_11^(-1/2) S_12 S_22^(-1/2),    loss = -(the sum of the singular values of T).

Any square roots give the same singular values, so Cholesky factors serve: S_11 = L_1 L_1', T = L_1^-1 S_12 L_2^-T. With
T = U diag(s) V', P = L_1^-T U and Q = L_2^-T V, the gradient is

    d loss / dA = (A P diag(s) - B Q) P' / (m - 1),    d loss / dB = (B Q diag(s) - A P) Q' / (m - 1).

It follows from d s_i = p_i' dS_12 q_i - s_i (p_i' dS_11 p_i + q_i' dS_22 q_i) / 2, holds for the largest k singular
values with k columns of P and Q, and divides by no difference of eigenvalues, as the derivative of an eigenvector does.

Reference: G. Andrew, R. Arora, J. Bilmes, K. Livescu, "Deep Canonical Correlation Analysis", ICML 2013.
"""

import math
import warnings
from functools import cache

import torch


def correlation_loss(
    a: torch.Tensor,
    b: torch.Tensor,
    ridge: float = 1e-3,
    form: str = "trace",
    n_components: int | None = None,
) -> torch.Tensor:
    """Minus the total correlation of a batch of pairs: a (m, d1), b (m, d2) -> a scalar in [-min(d1, d2), 0].

    ``form="trace"``: minus the sum of T's singular values, the canonical correlations (shrunk by the ridge); with
    ``n_components=k`` minus the sum of the largest k. ``form="frobenius"``: minus the sum of their squares, which needs
    no singular value decomposition. ``ridge``, >= 0, is absolute: added to the variance of every output.

    It is neither the square root of trace(T'T), nor the trace of an elementwise square root of T'T, which also pass for
    the trace norm: the first is the Frobenius norm, the second a sum of column norms with NaN for a gradient.

    Computed in float32 or float64 whatever autocast says; float32 batches too close to singular in float64. Raises
    ValueError for shapes that do not match, m < 2, values that are not finite, and outputs so nearly collinear that
    the ridge is lost in rounding. Warns, once, where the batch is not larger than the outputs are wide.
    """
    _check(a, b, ridge, form, n_components)
    if len(a) <= max(a.shape[1], b.shape[1]):
        _warn_of_small_batch(len(a), max(a.shape[1], b.shape[1]))
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    with torch.autocast(a.device.type, enabled=False):
        a, b = a.to(dtype), b.to(dtype)
        if form == "trace":
            return _TraceNorm.apply(a, b, ridge, n_components)
        *_, T = _whitened(a, b, ridge)
        return -T.square().sum().to(dtype)


def _whitened(a: torch.Tensor, b: torch.Tensor, ridge: float) -> tuple[torch.Tensor, ...]:
    """Centred outputs (m, d1), (m, d2), Cholesky factors (d1, d1), (d2, d2) of their covariances, and T (d1, d2)."""
    A, B = a - a.mean(dim=0), b - b.mean(dim=0)
    L1, L2 = _cholesky(A, ridge), _cholesky(B, ridge)
    if L1 is None or L2 is None:
        if a.dtype != torch.float64:
            return _whitened(a.double(), b.double(), ridge)
        raise ValueError(
            f"the outputs of one side are constant or collinear to within rounding at ridge={ridge:g}: "
            "use a larger ridge (1e-3 serves for outputs of variance about 1), or BatchNorm before the loss"
        )
    S12 = A.T @ B / (len(A) - 1)
    T = torch.linalg.solve_triangular(L1, S12, upper=False)  # L_1^-1 S_12
    return A, B, L1, L2, torch.linalg.solve_triangular(L2.T, T, upper=True, left=False)


def _cholesky(A: torch.Tensor, ridge: float) -> torch.Tensor | None:
    """L with L L' = A'A / (m - 1) + ridge I, or None where rounding would show in the result."""
    S = A.T @ A / (len(A) - 1) + ridge * torch.eye(A.shape[1], dtype=A.dtype, device=A.device)
    L, failed = torch.linalg.cholesky_ex(S)
    # The share of each output's variance (and ridge) that the outputs before it do not explain. Measured in float32:
    # from about 1e4 times its rounding up, loss and gradient are good to 1e-3 and better.
    unexplained = L.detach().diagonal().square() / S.detach().diagonal()
    sound = (failed == 0) & (unexplained > 1e4 * torch.finfo(A.dtype).eps).all()
    return L if sound else None


class _TraceNorm(torch.autograd.Function):
    """Minus the sum of the singular values of T, with the gradient in the docstring above."""

    @staticmethod
    def forward(ctx, a, b, ridge, n_components):
        A, B, L1, L2, T = _whitened(a, b, ridge)
        U, s, Vt = torch.linalg.svd(T, full_matrices=False)
        U, s, V = U[:, :n_components], s[:n_components], Vt[:n_components].T
        if any(ctx.needs_input_grad):  # here and not in backward, where autocast may be on again
            # Where s is 0 the trace norm has a kink, and u, v are arbitrary: 0 is the smallest of its subgradients.
            kink = s <= max(T.shape) * torch.finfo(T.dtype).eps
            P = torch.linalg.solve_triangular(L1.T, U.masked_fill(kink, 0.0), upper=True)  # (d1, k)
            Q = torch.linalg.solve_triangular(L2.T, V.masked_fill(kink, 0.0), upper=True)  # (d2, k)
            AP, BQ = A @ P, B @ Q  # (m, k): the canonical variates
            grad_a, grad_b = (AP * s - BQ) @ (P.T / (len(A) - 1)), (BQ * s - AP) @ (Q.T / (len(A) - 1))
            ctx.save_for_backward(grad_a.to(a.dtype), grad_b.to(b.dtype))
        return -s.sum().to(a.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        grad_a, grad_b = ctx.saved_tensors
        return grad * grad_a, grad * grad_b, None, None


def _check(a: torch.Tensor, b: torch.Tensor, ridge: float, form: str, n_components: int | None) -> None:
    for name, x in [("a", a), ("b", b)]:
        if x.ndim != 2 or x.shape[1] == 0 or not x.is_floating_point():
            raise ValueError(f"{name} must be floats of shape (m, d), one row a pair; got {x.dtype} {tuple(x.shape)}")
        if not torch.isfinite(x).all():
            bad = (~torch.isfinite(x).all(dim=1)).nonzero()[:, 0]
            raise ValueError(f"{name} has NaN or infinite values in {len(bad)} row(s), the first is row {int(bad[0])}")
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"a has {len(a)} rows and b has {len(b)}: row i of both must be one pair, of at least 2")
    if not (math.isfinite(ridge) and ridge >= 0):
        raise ValueError(f"ridge must be a number >= 0, got {ridge!r}")
    if form not in ("trace", "frobenius"):
        raise ValueError(f"form must be 'trace' or 'frobenius', got {form!r}")
    if n_components is not None and (form != "trace" or not 1 <= n_components <= min(a.shape[1], b.shape[1])):
        raise ValueError(
            f"n_components goes with form='trace' and is 1 to {min(a.shape[1], b.shape[1])} for {a.shape[1]} and "
            f"{b.shape[1]} outputs; got n_components={n_components!r}, form={form!r}"
        )


@cache
def _warn_of_small_batch(m: int, width: int) -> None:
    warnings.warn(
        f"batch of {m} for {width} outputs: with no more pairs than outputs, nearly every correlation is 1 whatever "
        f"the networks do; use batch_size of at least {4 * width} (4 x the outputs) or a narrower output",
        stacklevel=3,
    )
