"""Each query picks its own target among candidates from the batch, by a softmax.

With k(a, b) the closeness of query a and target b, and for query psi_i M sets N_i^m of K candidates each, its own
target phi_i and K - 1 targets of other queries of the batch (TIRG, eqs. 4 to 6),

    L = -1/(M B) sum_i sum_m log( exp k(psi_i, phi_i) / sum_(j in N_i^m) exp k(psi_i, phi_j) ),

    K = B, M = 1      batch softmax: one choice among all targets, a cross-entropy with the diagonal as label;
    K = 2, M = B - 1  soft triplet: B - 1 choices of two, the mean of log(1 + exp(k(psi_i, phi_j) - k(psi_i, phi_i))).

k is the dot product, or minus the Euclidean distance. Dot products of unit vectors stay in [-1, 1] and cannot tell B
candidates apart: divide by a ``temperature``, or scale the vectors (`encoders.ScaledUnitNorm`). ``same`` and ``offset``
are explained in `losses.batch`; every loss raises ValueError for shapes that do not fit.

Reference: N. Vo, L. Jiang, C. Sun, K. Murphy, L.-J. Li, L. Fei-Fei, J. Hays, "Composing text and image for image
retrieval: an empirical odyssey", CVPR 2019.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from commonspace.losses.batch import both_ways, own_and_others, rows_of, similarity


def batch_softmax_loss(
    query: Tensor,
    target: Tensor,
    temperature: float | Tensor = 1.0,
    symmetric: bool = False,
    kernel: str = "dot",
    same: Tensor | None = None,
    offset: int = 0,
) -> Tensor:
    """query (B, d), target (G, d) -> the cross-entropy of k / temperature, each query's own target the label, >= 0.

    ``symmetric``: the mean of that and of targets that pick their query. log G where all rows are equal.
    """
    sim = similarity(query, target, kernel) / _above_0(temperature)
    own, other = own_and_others(sim.shape, sim.device, same, offset)
    losses = []
    for logits, negative in both_ways(sim, other, symmetric):
        candidate = negative.scatter(1, own[:, None], True)
        losses.append(F.cross_entropy(logits.masked_fill(~candidate, -torch.inf), own))
    return sum(losses) / len(losses)


def soft_triplet_loss(
    query: Tensor,
    target: Tensor,
    form: str = "paper",
    kernel: str = "dot",
    same: Tensor | None = None,
    offset: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """query (B, d), target (G, d) -> the mean of log(1 + exp(k(negative) - k(own))) over each query's negatives, then
    over queries, >= 0. log 2 where all rows are equal.

    ``form="release"`` is what the authors released. Anchors are all 2B rows, queries and targets; the positive of each
    is its partner, and its negatives 3 rows of other pairs, from BOTH halves, drawn by ``generator`` (all, where there
    are fewer). k is minus the SQUARED distance, and the gradient, written by hand there, is half the true one: so it is
    here. It needs the whole batch: with several processes gather both, and seed all generators alike.
    """
    if form == "paper":
        sim = similarity(query, target, kernel)
        own, other = own_and_others(sim.shape, sim.device, same, offset)
        cost = -F.logsigmoid(sim.gather(1, own[:, None]) - sim)  # (B, G)
        return (torch.where(other, cost, 0.0).sum(dim=1) / other.sum(dim=1).clamp(min=1)).mean()
    if form != "release" or kernel != "dot" or query.shape != target.shape:
        raise ValueError(
            "form is 'paper' or 'release'; 'release' has its own kernel and needs as many queries as targets. "
            f"Got form={form!r}, kernel={kernel!r}, {tuple(query.shape)} and {tuple(target.shape)}"
        )
    rows = torch.cat(rows_of(query, target))  # (2B, d)
    _, other = own_and_others((len(query), len(target)), query.device, same, offset)
    other = (other & other.T).repeat(2, 2)  # (2B, 2B)
    drawn = _shuffled(other, 1, generator)[:, 0, : min(3, len(rows) - 2)]  # (2B, 3)
    usable = other.gather(1, drawn)
    near = (rows - rows.roll(len(query), dims=0)).square().sum(dim=1, keepdim=True)
    far = (rows[:, None] - rows[drawn]).square().sum(dim=2)
    loss = torch.where(usable, -F.logsigmoid(far - near), 0.0).sum() / usable.sum().clamp(min=1)
    return (loss + loss.detach()) / 2


def candidate_softmax_loss(
    query: Tensor,
    target: Tensor,
    n_candidates: int,
    repeats: int = 1,
    temperature: float | Tensor = 1.0,
    kernel: str = "dot",
    same: Tensor | None = None,
    offset: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """query (B, d), target (G, d), K = ``n_candidates`` from 2 to G, M = ``repeats`` >= 1 -> a scalar >= 0.

    A query's negatives are shuffled by ``generator`` and dealt like cards, K - 1 to a set, and shuffled anew when fewer
    than that are left: so K = 2, M = G - 1 has each negative once, and K = G, M = 1 has them all. A query with fewer
    than K - 1 negatives, because of ``same``, has smaller sets.
    """
    sim = similarity(query, target, kernel) / _above_0(temperature)
    own, other = own_and_others(sim.shape, sim.device, same, offset)
    (B, G), M, K = sim.shape, repeats, n_candidates
    if not 2 <= K <= G or M < 1:
        raise ValueError(f"n_candidates must be 2 to {G}, the targets, and repeats at least 1; got {K} and {M}")
    count = other.sum(dim=1)  # (B,)
    sets = (count // (K - 1)).clamp(min=1)[:, None]  # (B, 1): how many one shuffle gives
    order = _shuffled(other, -(-M // int(sets.min())), generator)  # (B, shuffles, G)
    m, card = torch.arange(M, device=sim.device), torch.arange(K - 1, device=sim.device)
    place = (m // sets * G + m % sets * (K - 1))[:, :, None] + card  # (B, M, K - 1)
    negative = sim.gather(1, order.flatten(1).gather(1, place.flatten(1))).reshape(B, M, K - 1)
    negative = negative.masked_fill(card >= count[:, None, None], -torch.inf)
    positive = sim.gather(1, own[:, None])[:, :, None].expand(B, M, 1)
    return -F.log_softmax(torch.cat([positive, negative], dim=2), dim=2)[:, :, 0].mean()


def _shuffled(chosen: Tensor, times: int, generator: torch.Generator | None) -> Tensor:
    """(n, m) bool -> (n, times, m) columns: the chosen ones of each row first, each time in another random order."""
    device = chosen.device if generator is None else generator.device
    keys = torch.rand(len(chosen), times, chosen.shape[1], generator=generator, device=device).to(chosen.device)
    return keys.masked_fill(~chosen[:, None], 2.0).argsort(dim=2)


def _above_0(temperature: float | Tensor) -> float | Tensor:
    value = temperature.item() if isinstance(temperature, Tensor) else temperature
    if not 0 < value < math.inf:
        raise ValueError(f"similarities are divided by temperature: a number > 0, got {value!r}")
    return temperature
