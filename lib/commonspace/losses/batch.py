"""What losses on the negatives of a batch share: which target is a query's own, and which are its negatives.

``query`` (B, d), ``target`` (G, d): row i of the one belongs to row ``offset`` + i of the other. In one process G = B
and offset = 0. In several, a process gives its own queries, the targets gathered from all (`training.all_gather`) and
the place of its first query among them, and all must have as many queries; or it gathers both, with offset = 0, and
computes the loss of the whole batch. Either way DDP's mean over processes is the gradient of the whole batch.

``same`` (B, G) bool: which targets are right answers of which query. The own one always is; the others, twins of it in
the batch, are no negatives. None: there are no twins.
"""

import torch
from torch import Tensor

from commonspace.losses.ranking import distances

KERNELS = ("dot", "euclidean")


def rows_of(query: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one dtype, float32 at least. Raises ValueError for other shapes and for fewer than 2 targets."""
    if query.ndim != 2 or target.ndim != 2 or query.shape[1] != target.shape[1] or not len(query) or len(target) < 2:
        raise ValueError(
            f"query {tuple(query.shape)} and target {tuple(target.shape)} must be (B, d) and (G, d), with at least 2 "
            "targets: a single one has nothing to be told from"
        )
    dtype = torch.promote_types(torch.promote_types(query.dtype, target.dtype), torch.float32)
    return query.to(dtype), target.to(dtype)


def similarity(query: Tensor, target: Tensor, kernel: str = "dot") -> Tensor:
    """(B, d), (G, d) -> (B, G), higher is closer: dot products, or minus Euclidean distances.

    Computed in float32 or float64 whatever autocast says.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {KERNELS}, got {kernel!r}")
    query, target = rows_of(query, target)
    with torch.autocast(query.device.type, enabled=False):
        return query @ target.T if kernel == "dot" else -distances(query, target)


def own_and_others(
    shape: tuple[int, int], device: torch.device, same: Tensor | None = None, offset: int = 0
) -> tuple[Tensor, Tensor]:
    """Of B queries and G targets: the column of each query's own, (B,) int64, and which are negatives, (B, G) bool."""
    B, G = shape
    if not 0 <= offset <= G - B:
        raise ValueError(f"{B} queries from offset {offset} on need as many targets, but there are {G}: gather them")
    if same is not None and (same.dtype != torch.bool or same.shape != (B, G)):
        raise ValueError(f"same must be bool of shape {(B, G)}, got {same.dtype} {tuple(same.shape)}")
    own = torch.arange(offset, offset + B, device=device)
    other = torch.ones(B, G, dtype=torch.bool, device=device) if same is None else ~same
    return own, other.scatter(1, own[:, None], False)


def both_ways(sim: Tensor, other: Tensor, symmetric: bool) -> list[tuple[Tensor, Tensor]]:
    """(sim, negatives) with queries as rows and, if ``symmetric``, with targets as rows as well."""
    if symmetric and sim.shape[0] != sim.shape[1]:
        raise ValueError(
            f"symmetric needs as many queries as targets, got {tuple(sim.shape)}: gather both, or call once each way"
        )
    return [(sim, other), (sim.T, other.T)] if symmetric else [(sim, other)]
