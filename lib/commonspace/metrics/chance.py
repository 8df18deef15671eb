"""What a ranking by chance scores, in expectation and exactly: the line that every table needs.

Of n items in a random order R are relevant. Item k of the ranking is relevant with probability R / n, and then each of
the k - 1 before it with probability (R - 1) / (n - 1). With AP = (1 / R) sum over relevant k of P(k),

    E[AP] = 1/n sum_{k=1..n} (1 + (k - 1) (R - 1) / (n - 1)) / k = (H_n + (n - H_n) (R - 1) / (n - 1)) / n,

H_n = 1 + 1/2 + ... + 1/n. For large n it is a little above R / n, the share of relevant items.
"""

from typing import Any

import torch

from commonspace.metrics.evaluate import SameLabel
from commonspace.metrics.macro import macro_average
from commonspace.metrics.retrieval import NO_RELEVANT, answerable, as_tensor, by_blocks, check_choice, row_blocks


def chance_map(query_labels: Any, gallery_labels: Any, *, macro: bool = False, no_relevant: str = "raise") -> float:
    """The expected mAP@all in [0, 1] of random scores without ties, exactly; relevant is what shares a label.

    Labels as in ``evaluate``: (n,) integers, or (n, c) bool where an item may have several. ``macro``: the mean over
    the queries' classes instead of over queries, as ``evaluate(..., macro=True)`` gives; for integers only. Raises
    ValueError for other labels, and for queries with no relevant item as ``ranks`` does.
    """
    check_choice(no_relevant, "no_relevant", NO_RELEVANT)
    query, gallery = as_tensor(query_labels, "query_labels"), as_tensor(gallery_labels, "gallery_labels")
    if not (query.ndim and gallery.ndim and len(query) and len(gallery)):
        raise ValueError(
            f"labels must be one a query and one a gallery item; got {tuple(query.shape)} and {tuple(gallery.shape)}"
        )
    n = len(gallery)
    same = SameLabel(query, gallery, len(query), n, query.device)
    (relevant,) = by_blocks(row_blocks(len(query), n), len(query), lambda rows: (same[rows].sum(dim=1),))
    harmonic = float((1 / torch.arange(1, n + 1, dtype=torch.float64)).sum())
    expected = (harmonic + (n - harmonic) * (relevant.cpu().double() - 1) / max(n - 1, 1)) / n
    expected[relevant.cpu() == 0] = 0
    kept = answerable(relevant, no_relevant).cpu()
    return macro_average(expected[kept], query.cpu()[kept]) if macro else float(expected[kept].mean())
