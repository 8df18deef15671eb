"""Macro-averages: every class counts the same, however many queries it has."""

from typing import Any

import torch

from commonspace.metrics.retrieval import as_tensor, double


def macro_average(per_query: Any, labels: Any) -> float:
    """The mean over classes of the mean over the class's queries.

    ``per_query``: (n,) finite numbers, such as average precisions. ``labels``: (n,) integers, which class each query is
    of; classes without a query do not count. Where every class has as many queries, this is the plain mean.

    Raises ValueError for other shapes, for labels that are not integers (of several labels a query none is its class)
    and for values that are not finite.
    """
    values, labels = as_tensor(per_query, "per_query"), as_tensor(labels, "labels")
    if values.ndim != 1 or len(values) == 0 or labels.shape != values.shape:
        raise ValueError(
            f"per_query and labels must have one entry a query, (n,) both; got {tuple(values.shape)} and "
            f"{tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, the one class of each query; got {labels.dtype}")
    values = double(values)
    if not values.isfinite().all():
        first = int((~values.isfinite()).nonzero()[0])
        raise ValueError(f"per_query has NaN or infinite values, the first for query {first}")
    _, member, count = labels.to(values.device).unique(return_inverse=True, return_counts=True)
    sums = values.new_zeros(len(count)).index_add_(0, member, values)
    return float((sums / count).mean())
