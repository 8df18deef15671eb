"""The Deep CCA loss, forward and backward in float32: ours beside the inverse square roots by eigh, and cca-zoo's.

The peer of ``form="trace"``: symmetric inverse square roots by eigendecomposition, as the paper writes them, and
autograd. The peer of ``form="frobenius"``: cca-zoo's CCALoss, which takes the inverse square roots by eigh as well and
sums the squares of the correlations. Then the batches on which a derivative through eigenvectors divides by 0.
"""

from collections.abc import Callable
from functools import partial

import _bench
import torch
from cca_zoo.deep.objectives import CCALoss

from commonspace.losses import correlation_loss

SIZES = [(800, 10), (800, 50), (1024, 128), (2048, 512)]  # batch, outputs
RIDGE = 1e-3


def eigh_form(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Minus the trace norm of S_11^(-1/2) S_12 S_22^(-1/2): (m, d), (m, d) -> scalar."""
    A, B = a - a.mean(dim=0), b - b.mean(dim=0)
    S11, S22, S12 = A.T @ A / (len(A) - 1), B.T @ B / (len(B) - 1), A.T @ B / (len(A) - 1)
    return -torch.linalg.svdvals(_inverse_root(S11) @ S12 @ _inverse_root(S22)).sum()


def _inverse_root(S: torch.Tensor) -> torch.Tensor:
    w, V = torch.linalg.eigh(S + RIDGE * torch.eye(len(S)))
    return V * w.rsqrt() @ V.T


_cca_zoo = CCALoss(reg_covar=RIDGE)
TRACE, EIGH = "commonspace, trace norm", "eigh and autograd, trace norm"
FROBENIUS, ZOO = "commonspace, Frobenius", "cca-zoo, Frobenius"
LOSSES = {
    TRACE: lambda a, b: correlation_loss(a, b, RIDGE),
    EIGH: eigh_form,
    FROBENIUS: lambda a, b: correlation_loss(a, b, RIDGE, form="frobenius"),
    ZOO: lambda a, b: _cca_zoo([a, b]),
}


def batch(m: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of variance about 1 that correlate in half of their directions."""
    rng = torch.Generator().manual_seed(d)
    shared = torch.randn(m, (d + 1) // 2, generator=rng)
    views = [shared @ torch.randn(shared.shape[1], d, generator=rng) / d**0.5 for _ in range(2)]
    return tuple(0.7 * view + 0.7 * torch.randn(m, d, generator=rng) for view in views)


def forward_backward(loss, a: torch.Tensor, b: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The loss, and its gradient with respect to both views, (2, m, d)."""
    a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
    value = loss(a, b)
    value.backward()
    return value.item(), torch.stack([a.grad, b.grad])


def dead(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight outputs that are 0 for every pair, as behind a ReLU that never opens."""
    a, b = a.clone(), b.clone()
    a[:, :8] = b[:, :8] = 0
    return a, b


def equal_eigenvalues(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of one variance, uncorrelated within a view: columns of a Hadamard matrix of at most m rows."""
    H = torch.ones(1, 1)
    while 2 * len(H) <= len(a):
        H = torch.cat([torch.cat([H, H], 1), torch.cat([H, -H], 1)])
    d = a.shape[1]
    return H[:, 1 : d + 1], H[:, d // 2 : d // 2 + d]


def compare(ours: str, peer: str, a: torch.Tensor, b: torch.Tensor, repeats: int) -> list[dict]:
    """Rows for one batch: equal values and gradients first, then the times. The error is the gradient's, in norm."""
    runs = {name: partial(forward_backward, LOSSES[name], a, b) for name in (ours, peer)}
    found = {name: run() for name, run in runs.items()}
    _bench.same({name: value for name, (value, _) in found.items()}, within=1e-4 * a.shape[1])
    exact = forward_backward(LOSSES[ours], a.double(), b.double())[1]
    errors = {name: ((gradient - exact).norm() / exact.norm()).item() for name, (_, gradient) in found.items()}
    assert max(errors.values()) < 1e-3, errors
    return [
        {"batch": len(a), "outputs": a.shape[1], "values": "random", "method": row["method"]}
        | {"ms": 1e3 * row["seconds"], "repeats": row["repeats"], "ratio": row["ratio"]}
        | {"gradient": f"error {errors[row['method']]:.0e}"}
        for row in _bench.race(runs, repeats)
    ]


def hard(case: Callable, m: int = 256, d: int = 32) -> list[dict]:
    """Rows for one hard batch: whether the gradient is a number. Asserts that ours is."""
    a, b = case(*batch(m, d))
    finite = {name: bool(forward_backward(loss, a, b)[1].isfinite().all()) for name, loss in LOSSES.items()}
    assert all(finite[name] for name in (TRACE, FROBENIUS)), finite
    what = {"batch": m, "outputs": d, "values": case.__name__.replace("_", " ")}
    return [what | {"method": name, "gradient": "finite" if well else "NaN"} for name, well in finite.items()]


def run(tiny: bool = False) -> list[dict]:
    """Per size and form first ours, then the peer with its ratio to ours; then the hard batches."""
    rows = []
    for m, d in SIZES[:1] if tiny else SIZES:
        for ours, peer in [(TRACE, EIGH), (FROBENIUS, ZOO)]:
            rows += compare(ours, peer, *batch(m, d), repeats=3 if tiny else 15)
    return rows + hard(dead) + hard(equal_eigenvalues)


if __name__ == "__main__":
    _bench.main("dcca_loss", "Deep CCA's loss and its gradient, float32", run, peers=("cca-zoo",))
