"""Feature rows on one scale: columns with mean 0 and standard deviation 1, or rows of one length that is learned."""

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Standardize(nn.Module):
    """(B, dim) -> (B, dim): (p(x) - mean) / standard deviation, as `fit` found them on the training rows.

    p(x) = sign(x) |x|^power. At 0.5, the square root, a few large bins of a histogram do not drown the many small ones;
    at 1 rows stay as they are. A column that is constant in the training rows becomes 0.

    >>> rows = torch.rand(100, 3)
    >>> Standardize(3).fit(rows)(rows).mean(dim=0).abs().max() < 1e-5
    tensor(True)
    """

    def __init__(self, dim: int, power: float = 1.0):
        super().__init__()
        if dim < 1 or not power > 0:
            raise ValueError(f"dim must be at least 1 and power greater than 0; got {dim} and {power!r}")
        self.in_dim = self.out_dim = int(dim)
        self.power = float(power)
        self.config = {"encoder": "Standardize", "dim": self.out_dim, "power": self.power}
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))  # 1 / standard deviation

    def fit(self, rows: Tensor) -> Self:
        """Learn mean and standard deviation of the columns of training rows (n, dim), n >= 2."""
        rows = self._powered(rows).double()
        if len(rows) < 2:
            raise ValueError(f"a standard deviation needs at least 2 rows, got {len(rows)}")
        if not rows.isfinite().all():
            raise ValueError("the training rows hold values that are not finite: no column of theirs has a mean")
        deviation = rows.std(dim=0)
        constant = deviation <= 1e-7 * rows.abs().amax(dim=0)
        self.mean.copy_(rows.mean(dim=0))
        self.scale.copy_(torch.where(constant, 0.0, 1 / deviation.masked_fill(constant, 1.0)))
        return self

    def forward(self, rows: Tensor) -> Tensor:
        """(B, dim) -> (B, dim). Raises ValueError for another shape."""
        return (self._powered(rows) - self.mean) * self.scale

    def _powered(self, rows: Tensor) -> Tensor:
        if rows.ndim != 2 or rows.shape[1] != self.in_dim:
            raise ValueError(f"rows must have shape (B, {self.in_dim}), got {tuple(rows.shape)}")
        return rows if self.power == 1.0 else rows.sign() * rows.abs() ** self.power


class ScaledUnitNorm(nn.Module):
    """Rows of any width, (B, d) -> (B, d): s x / max(|x|, 1e-6), with ONE learned number s for all rows.

    ``scale``: s at the start. Dot products of such rows are s^2 times their cosine, so 4 is a temperature of 1/16. Use
    one module for queries and targets. A row of zeros stays one.

    Source: the released code of N. Vo et al., "Composing text and image for image retrieval", CVPR 2019, whose text
    does not mention s; without it no softmax over a batch can be fitted, as cosines stay in [-1, 1].

    >>> ScaledUnitNorm()(torch.tensor([[3.0, 4.0]]))
    tensor([[2.4000, 3.2000]], grad_fn=<MulBackward0>)
    """

    out_dim = None  # as many as it gets

    def __init__(self, scale: float = 4.0):
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be a number > 0, got {scale!r}")
        self.config = {"encoder": "ScaledUnitNorm", "scale": float(scale)}
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def forward(self, rows: Tensor) -> Tensor:
        """(B, d) -> (B, d). Raises ValueError for another number of dimensions."""
        if rows.ndim != 2:
            raise ValueError(f"rows must have shape (B, d), got {tuple(rows.shape)}")
        return self.scale * F.normalize(rows, dim=1, eps=1e-6)
