"""Order violation: how far a text is from being more general than an image, coordinate by coordinate.

Of an image v and a text t with non-negative coordinates, a text that says less must not exceed the image anywhere:

    e(t, v) = ||max(0, t - v)||^2 = sum_d max(0, t_d - v_d)^2,    s(t, v) = -e(t, v),

squared and without a root. It is not symmetric. e(t, v) + e(v, t) = ||t - v||^2, which for rows of length 1 is
2 - 2 cos(t, v): the cosine falls apart into the two directions. The root of e has no gradient where e = 0.

All pairs of N images and M texts take N M D differences; they are made, cut at 0 and summed block by block, in memory
that stays in the processor's cache, and made again in the backward pass instead of being kept.

References: I. Vendrov, R. Kiros, S. Fidler, R. Urtasun, "Order-embeddings of images and language", ICLR 2016; J. Gu,
J. Cai, S. Joty, L. Niu, G. Wang, "Look, imagine and match: improving textual-visual cross-modal retrieval with
generative models", CVPR 2018, whose printed form has max(0, v - t).
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

DIRECTIONS = ("order", "gxn")


def order_similarity(
    image_emb: Tensor, text_emb: Tensor, direction: Literal["order", "gxn"] = "order", block: int | None = None
) -> Tensor:
    """image_emb (N, D), text_emb (M, D) -> s of all pairs, (N, M), at most 0, higher is closer; differentiable, once.

    ``direction``: "order" is max(0, t - v) above, "gxn" GXN's printed max(0, v - t). Its gradient is 0 where two
    coordinates are equal. ``block``: how many differences are held at a time, and at most as many sums of them; 2**18
    on a processor (1 MiB in float32) and else 2**19, the most that is allowed: then both take 8 MiB in float64. Rows in
    half precision are compared in float32, whatever autocast says.

    Raises ValueError for other shapes, an unknown ``direction`` and a ``block`` that is no integer from 1 to 2**19.
    """
    if image_emb.ndim != 2 or text_emb.ndim != 2 or image_emb.shape[1] != text_emb.shape[1] or not image_emb.shape[1]:
        raise ValueError(
            f"image_emb {tuple(image_emb.shape)} and text_emb {tuple(text_emb.shape)} must be (N, D) and (M, D), D >= 1"
        )
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {DIRECTIONS}, got {direction!r}")
    if block is None:
        block = 2**18 if image_emb.device.type == "cpu" else 2**19
    if not isinstance(block, int) or isinstance(block, bool) or not 1 <= block <= 2**19:
        raise ValueError(f"block is how many differences are held at a time, 1 to 2**19; got {block!r}")
    dtype = torch.promote_types(torch.promote_types(image_emb.dtype, text_emb.dtype), torch.float32)
    image_emb, text_emb = image_emb.to(dtype), text_emb.to(dtype)
    if direction == "gxn":
        return _Violation.apply(text_emb, image_emb, block).T.neg()
    return _Violation.apply(image_emb, text_emb, block).neg()


class _Violation(torch.autograd.Function):
    """a (N, D), b (M, D) -> sum_d max(0, b_jd - a_id)^2, (N, M)."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, block: int) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.block = block
        total = a.new_zeros(len(a), len(b))
        for rows, columns, _, excess in _excesses(a, b, block):
            total[rows, columns] += torch.linalg.vector_norm(excess, dim=2).square_()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b = ctx.saved_tensors
        grad_a, grad_b = torch.zeros_like(a), torch.zeros_like(b)
        for rows, columns, part, excess in _excesses(a, b, ctx.block):
            excess *= 2 * grad[rows, columns, None]
            grad_a[rows, part] -= excess.sum(dim=1)
            grad_b[columns, part] += excess[0] if len(excess) == 1 else excess.sum(dim=0)
        return grad_a, grad_b, None


def _excesses(a: Tensor, b: Tensor, block: int) -> Iterator[tuple[slice, slice, slice, Tensor]]:
    """max(0, b_jd - a_id) of rows i of a, rows j of b and coordinates d, block by block, in ONE buffer: (i, j, d)."""
    (N, D), M = a.shape, len(b)
    d = min(D, block)
    m = min(M, block // d)
    n = min(N, block // (d * max(m, 1)))
    buffer = a.new_empty(n * m * d)
    for part, columns in ((p, c) for p in _slices(D, d) for c in _slices(M, m)):
        ours = b[columns, part]  # read again for each row of a: it stays in the cache
        for rows in _slices(N, n):
            theirs = a[rows, part]
            shape = len(theirs), *ours.shape
            excess = buffer[: shape[0] * shape[1] * shape[2]].view(shape)
            torch.sub(ours, theirs[:, None], out=excess)
            yield rows, columns, part, excess.relu_()


def _slices(n: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, n)) for start in range(0, n, step)] if n else []
