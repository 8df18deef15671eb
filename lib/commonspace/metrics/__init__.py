"""How good is a ranking: ranks, R@K, median rank and mean average precision. How good is a caption: BLEU and CIDEr-D.
How good are painted pictures: the Frechet distance of features, and how much the pictures differ.

Higher scores are closer.
"""

from commonspace.metrics.captions import bleu, sentence_bleu
from commonspace.metrics.chance import chance_map
from commonspace.metrics.cider import CiderD
from commonspace.metrics.composed import first_answers, kept_and_changed
from commonspace.metrics.evaluate import evaluate
from commonspace.metrics.folds import evaluate_both_ways, evaluate_folds
from commonspace.metrics.images import frechet_distance, pairwise_diversity
from commonspace.metrics.macro import macro_average
from commonspace.metrics.probe import linear_probe, modality_probe
from commonspace.metrics.retrieval import mean_average_precision, median_rank, ranks, recall_at_k
from commonspace.metrics.reward import CaptionReward

__all__ = [
    "CaptionReward",
    "CiderD",
    "bleu",
    "chance_map",
    "evaluate",
    "evaluate_both_ways",
    "evaluate_folds",
    "first_answers",
    "frechet_distance",
    "kept_and_changed",
    "linear_probe",
    "macro_average",
    "mean_average_precision",
    "median_rank",
    "modality_probe",
    "pairwise_diversity",
    "ranks",
    "recall_at_k",
    "sentence_bleu",
]
