"""Batch softmax and soft triplets, forward and backward: python benchmarks/bench_losses.py

Ours beside a loop over queries, each with its own small softmax, as one writes the formula down, and beside
pytorch-metric-learning, whose losses take any labels: its NT-Xent loss, which over one positive each is the batch
softmax, and its smooth triplet loss, which lists all triplets. float32, rows of 512 numbers; values and gradients are
compared first.
"""

from collections.abc import Callable

import _bench
import torch
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import NTXentLoss, TripletMarginLoss
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor
from torch.nn import functional as F

from commonspace.losses import batch_softmax_loss, soft_triplet_loss

SIZES = [(32, 512), (256, 512)]  # batch, numbers a row
_dot = DotProductSimilarity(normalize_embeddings=False)
_nt_xent = NTXentLoss(temperature=1.0, distance=_dot)
_smooth = TripletMarginLoss(margin=0.0, smooth_loss=True, distance=_dot, reducer=MeanReducer())


def softmax_by_queries(query: Tensor, target: Tensor) -> Tensor:
    return sum(torch.logsumexp(target @ q, dim=0) - q @ t for q, t in zip(query, target, strict=True)) / len(query)


def triplets_by_queries(query: Tensor, target: Tensor) -> Tensor:
    total = 0.0
    for i, q in enumerate(query):
        sim = target @ q
        cost = F.softplus(sim - sim[i])
        total = total + cost.sum() - cost[i]
    return total / (len(query) * (len(query) - 1))


def in_the_library(loss: Callable) -> Callable[[Tensor, Tensor], Tensor]:
    def of(query: Tensor, target: Tensor) -> Tensor:
        label = torch.arange(len(query))
        return loss(query, label, ref_emb=target, ref_labels=label.clone())

    return of


LOSSES = {
    "batch softmax": {
        "commonspace": batch_softmax_loss,
        "loop over queries": softmax_by_queries,
        "pytorch-metric-learning": in_the_library(_nt_xent),
    },
    "soft triplet": {
        "commonspace": soft_triplet_loss,
        "loop over queries": triplets_by_queries,
        "pytorch-metric-learning": in_the_library(_smooth),
    },
}


def batch(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Rows of length 4, each target near its query."""
    rng = torch.Generator().manual_seed(n)
    query = torch.randn(n, d, generator=rng)
    target = query + 2 * torch.randn(n, d, generator=rng)
    return 4 * F.normalize(query, dim=1), 4 * F.normalize(target, dim=1)


def forward_backward(loss: Callable, query: Tensor, target: Tensor) -> tuple[float, Tensor]:
    """The loss, and its gradient with respect to both sides, (2, n, d)."""
    query, target = query.detach().requires_grad_(), target.detach().requires_grad_()
    value = loss(query, target)
    value.backward()
    return value.item(), torch.stack([query.grad, target.grad])


def compare(name: str, n: int, d: int, repeats: int) -> list[dict]:
    """Rows of the table for one loss and size."""
    query, target = batch(n, d)
    runs = {who: lambda loss=loss: forward_backward(loss, query, target) for who, loss in LOSSES[name].items()}
    found = {who: run() for who, run in runs.items()}
    _bench.same({who: value for who, (value, _) in found.items()}, within=1e-4)
    ours = found["commonspace"][1]
    _bench.same({who: ((grad - ours).norm() / ours.norm()).item() for who, (_, grad) in found.items()}, within=1e-3)
    return [
        {"loss": name, "batch": n, "numbers a row": d, "method": row["method"]}
        | {"ms": 1e3 * row["seconds"], "repeats": row["repeats"], "ratio": row["ratio"]}
        for row in _bench.race(runs, repeats)
    ]


def run(tiny: bool = False) -> list[dict]:
    sizes, repeats = ([(8, 16)], 2) if tiny else (SIZES, 31)
    return [row for name in LOSSES for n, d in sizes for row in compare(name, n, d, repeats)]


if __name__ == "__main__":
    _bench.main("losses", "Batch softmax and soft triplets, with gradient", run, peers=("pytorch-metric-learning",))
