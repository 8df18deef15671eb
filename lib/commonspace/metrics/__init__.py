"""How good is a ranking: ranks, R@K, median rank and mean average precision. Higher scores are closer."""

from commonspace.metrics.chance import chance_map
from commonspace.metrics.composed import first_answers, kept_and_changed
from commonspace.metrics.evaluate import evaluate
from commonspace.metrics.macro import macro_average
from commonspace.metrics.probe import linear_probe, modality_probe
from commonspace.metrics.retrieval import mean_average_precision, median_rank, ranks, recall_at_k

__all__ = [
    "chance_map",
    "evaluate",
    "first_answers",
    "kept_and_changed",
    "linear_probe",
    "macro_average",
    "mean_average_precision",
    "median_rank",
    "modality_probe",
    "ranks",
    "recall_at_k",
]
