"""How good is a ranking: ranks, R@K, median rank and mean average precision. Higher scores are closer."""

from commonspace.metrics.evaluate import evaluate
from commonspace.metrics.retrieval import mean_average_precision, median_rank, ranks, recall_at_k

__all__ = ["evaluate", "mean_average_precision", "median_rank", "ranks", "recall_at_k"]
