"""Losses with a margin: on pairs that belong together or not, and on the negatives of a batch.

Contrastive, of pairs at distance d, with s = 1 for a pair that belongs together and 0 otherwise:

    L = 1/n sum  s d^2 / 2 + (1 - s) max(0, margin - d)^2 / 2.

Hinge, of similarities S (higher is closer), with query i's own target at i: L = 1/B sum_i sum_j max(0, margin + S_ij -
S_ii) over the negatives j, or over the hardest of them alone. Triplet: the same with S = -d or -d^2, and the mean over
a query's negatives. All three stop pulling once the margin is kept, where the losses of `losses.softmax` never do.

References: R. Hadsell, S. Chopra, Y. LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006 (its
Y is 1 - s); F. Schroff, D. Kalenichenko, J. Philbin, "FaceNet", CVPR 2015 (triplets, squared); F. Faghri, D. J. Fleet,
J. R. Kiros, S. Fidler, "VSE++: improving visual-semantic embeddings with hard negatives", BMVC 2018 (the hardest).
"""

import math

import torch
from torch import Tensor

from commonspace.losses.batch import both_ways, own_and_others, similarity
from commonspace.losses.ranking import MINING


def contrastive_loss(a: Tensor, b: Tensor, same: Tensor, margin: float = 1.0) -> Tensor:
    """a, b (n, d), row i of each one pair; ``same`` (n,) bool or 0/1: whether it belongs together -> a scalar >= 0.

    ``margin`` > 0: the distance from which on a pair that does not belong together costs nothing. Where such a pair
    falls on one point it has no direction to part in, and its gradient is 0. Raises ValueError for shapes that do not
    match and for other numbers in ``same``.
    """
    if a.ndim != 2 or a.shape != b.shape or not len(a) or same.shape != a.shape[:1]:
        raise ValueError(
            f"a {tuple(a.shape)}, b {tuple(b.shape)} and same {tuple(same.shape)} must be (n, d), (n, d), (n,), n >= 1"
        )
    if not ((same == 0) | (same == 1)).all():
        raise ValueError("same must be 1 (or True) for a pair that belongs together, and 0 for one that does not")
    if not 0 < margin < math.inf:
        raise ValueError(f"margin must be a number > 0, got {margin!r}")
    apart = a - b
    distance = torch.linalg.vector_norm(apart, dim=1)
    return torch.where(same.bool(), apart.square().sum(dim=1), (margin - distance).clamp(min=0).square()).mean() / 2


def hinge_loss(
    sim: Tensor,
    margin: float = 0.2,
    mining: str = "all",
    symmetric: bool = False,
    same: Tensor | None = None,
    offset: int = 0,
) -> Tensor:
    """sim (B, G), higher is closer, query i's own target in column ``offset`` + i -> a scalar >= 0.

    The hinges of a query's negatives are summed (``mining="all"``), or only the "hardest" counts, the negative with the
    highest similarity; then the mean over queries. ``symmetric`` adds the other direction, each target's own query
    against other queries, and needs B = G. ``same`` and ``offset``: see `losses.batch`. Where all similarities are
    equal the loss is margin (G - 1), or margin for the hardest.
    """
    cost = _hinges(sim, margin, mining, symmetric, same, offset)
    return sum(found.sum(dim=1).mean() if mining == "all" else found.amax(dim=1).mean() for found, _ in cost)


def triplet_margin_loss(
    query: Tensor,
    target: Tensor,
    margin: float = 1.0,
    squared: bool = False,
    mining: str = "all",
    symmetric: bool = False,
    same: Tensor | None = None,
    offset: int = 0,
) -> Tensor:
    """query (B, d), target (G, d): max(0, margin + d(query, own) - d(query, negative)), d Euclidean -> a scalar >= 0.

    The mean over a query's negatives, or the "hardest" alone, then over queries. ``squared``: of squared distances, the
    margin then being one as well. ``symmetric``, ``same``, ``offset``: as in `hinge_loss`. With labels and both ways it
    is the relative form of `intermodal_triplet_loss`.
    """
    sim = similarity(query, target, "euclidean")
    cost = _hinges(-sim.square() if squared else sim, margin, mining, symmetric, same, offset)
    if mining == "hardest":
        return sum(found.amax(dim=1).mean() for found, _ in cost)
    return sum((found.sum(dim=1) / negative.sum(dim=1).clamp(min=1)).mean() for found, negative in cost)


def _hinges(
    sim: Tensor, margin: float, mining: str, symmetric: bool, same: Tensor | None, offset: int
) -> list[tuple[Tensor, Tensor]]:
    """(the hinge of every pair, 0 where it is no negative; which are negatives), one such (B, G) pair a direction."""
    if mining not in MINING or not 0 <= margin < math.inf:
        raise ValueError(f"mining is one of {MINING} and margin a number >= 0; got {mining!r} and {margin!r}")
    if sim.ndim != 2 or not sim.numel() or sim.shape[1] < 2:
        raise ValueError(f"sim must be (B, G), queries against at least 2 targets; got {tuple(sim.shape)}")
    own, other = own_and_others(sim.shape, sim.device, same, offset)
    found = []
    for scores, negative in both_ways(sim, other, symmetric):
        hinge = (margin + scores - scores.gather(1, own[:, None])).clamp(min=0)
        found.append((torch.where(negative, hinge, 0.0), negative))
    return found
