"""Losses: functions that take tensors and return one scalar to be minimised."""

from commonspace.losses.adversarial import (
    gradient_penalty,
    modality_accuracy,
    modality_loss,
    reversal_strength,
    reverse_gradient,
)
from commonspace.losses.conditional_gan import judge_loss, painter_loss
from commonspace.losses.correlation import correlation_loss
from commonspace.losses.order import order_similarity
from commonspace.losses.pairs import contrastive_loss, hinge_loss, triplet_margin_loss
from commonspace.losses.ranking import intermodal_triplet_loss, share_a_label
from commonspace.losses.reconstruction import reconstruction_loss
from commonspace.losses.reinforce import leave_one_out, mixing_weight, reinforce_loss
from commonspace.losses.softmax import batch_softmax_loss, candidate_softmax_loss, soft_triplet_loss

__all__ = [
    "batch_softmax_loss",
    "candidate_softmax_loss",
    "contrastive_loss",
    "correlation_loss",
    "gradient_penalty",
    "hinge_loss",
    "intermodal_triplet_loss",
    "judge_loss",
    "leave_one_out",
    "mixing_weight",
    "modality_accuracy",
    "modality_loss",
    "order_similarity",
    "painter_loss",
    "reconstruction_loss",
    "reinforce_loss",
    "reversal_strength",
    "reverse_gradient",
    "share_a_label",
    "soft_triplet_loss",
    "triplet_margin_loss",
]
