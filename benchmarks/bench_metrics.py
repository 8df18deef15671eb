"""mAP@all beside torchmetrics, pytorch-metric-learning and loops: python benchmarks/bench_metrics.py

Queries and gallery are noisy copies of 10 class means in 64 dimensions. All get the same cosines. torchmetrics drops
relevant items whose score is not above 0, so it gets the scores plus 2, which ranks the same. All must give the same
mAP. The memory is what the peak rises by, for ours from embeddings to the result.
"""

import _bench
import numpy as np
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from torch.nn.functional import normalize

from commonspace.metrics import evaluate

CLASSES, WIDTH = 10, 64


def embeddings(n: int, seed: int = 0):
    """Unit rows (n, 64) of queries and of gallery, and their labels (n,)."""
    torch.manual_seed(seed)
    means = torch.randn(CLASSES, WIDTH)
    labels = torch.randint(CLASSES, (2, n))
    query, gallery = (normalize(means[side] * 0.3 + torch.randn(n, WIDTH)) for side in labels)
    return query, gallery, labels[0], labels[1]


def ours(query, gallery, query_labels, gallery_labels) -> float:
    return evaluate(query, gallery, query_labels=query_labels, gallery_labels=gallery_labels)["mAP"]


def by_torchmetrics(query, gallery, query_labels, gallery_labels) -> float:
    from torchmetrics.retrieval import RetrievalMAP

    scores = query @ gallery.T + 2
    relevant = query_labels[:, None] == gallery_labels
    of_query = torch.arange(len(query))[:, None].expand_as(scores)
    return float(RetrievalMAP()(scores.flatten(), relevant.flatten(), indexes=of_query.flatten()))


def by_torchmetrics_functional(query, gallery, query_labels, gallery_labels) -> float:
    from torchmetrics.functional.retrieval import retrieval_average_precision

    scores = query @ gallery.T + 2
    relevant = query_labels[:, None] == gallery_labels
    return float(torch.stack([retrieval_average_precision(*row) for row in zip(scores, relevant, strict=True)]).mean())


def by_pytorch_metric_learning(query, gallery, query_labels, gallery_labels) -> float:
    from pytorch_metric_learning.distances import CosineSimilarity

    calculator = AccuracyCalculator(
        include=("mean_average_precision",),
        k=len(gallery),
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity(), batch_size=512),
    )
    return calculator.get_accuracy(query, query_labels, gallery, gallery_labels)["mean_average_precision"]


def by_argsort_loop(query, gallery, query_labels, gallery_labels) -> float:
    query, gallery = query.numpy(), gallery.numpy()
    query_labels, gallery_labels = query_labels.numpy(), gallery_labels.numpy()
    precisions = []
    for row, label in zip(query, query_labels, strict=True):
        order = np.argsort(-(gallery @ row), kind="stable")
        positions = np.flatnonzero(gallery_labels[order] == label)
        precisions.append((np.arange(1, len(positions) + 1) / (positions + 1)).mean())
    return float(np.mean(precisions))


METHODS = {
    "commonspace": ours,
    "torchmetrics, functional": by_torchmetrics_functional,
    "torchmetrics, RetrievalMAP": by_torchmetrics,
    "pytorch-metric-learning": by_pytorch_metric_learning,
    "argsort a query": by_argsort_loop,
}


def measured(n: int):
    """The function that is measured for its memory."""
    data = embeddings(n)
    return lambda: ours(*data)


def compare(n: int, repeats: int) -> list[dict]:
    """Rows of the table for n queries and a gallery of n."""
    data = embeddings(n)
    found = {}
    kept = {name: lambda name=name: found.update({name: METHODS[name](*data)}) for name in METHODS}
    rows = _bench.race(kept, repeats)
    _bench.same(found, within=1e-5)
    return [{"n": n} | row | {"mAP": found[row["method"]]} for row in rows]


def alone(n: int) -> dict:
    """A row of the table for ours, with its memory."""
    seconds, grown = _bench.peak_memory("bench_metrics", "measured", n=n)
    value = ours(*embeddings(n))
    return {"n": n, "method": "commonspace", "seconds": seconds, "repeats": 1, "mAP": value, "peak MiB": round(grown)}


def run(tiny: bool = False) -> list[dict]:
    if tiny:
        return [*compare(60, 2), alone(100)]
    return [*compare(5_000, 3), alone(5_000), alone(30_000)]


if __name__ == "__main__":
    peers = ("torchmetrics", "pytorch-metric-learning")
    _bench.main("metrics", "mAP@all, n queries and a gallery of n, 10 classes", run, peers=peers)
