"""Triplets between the modalities: items of one class close to each other, items of others at a distance.

With l2(a, b) the Euclidean distance, t_j+ a text that shares a label with image v_i, and t_k- one that shares none,
"absolute" is the form of the notes this course grew from,

    L_imi,V = sum_(i,j,k)  l2(v_i, t_j+) + gamma max(0, mu - l2(v_i, t_k-)),

which asks every negative to be farther than mu from the anchor, wherever the positive is; "relative" is the usual one,

    L_imi,V = sum_(i,j,k)  max(0, mu + l2(v_i, t_j+) - l2(v_i, t_k-)),

which only asks for order. L_imi,T is the same with texts as anchors, and L_imi their sum.

Reference: B. Wang, Y. Yang, X. Xu, A. Hanjalic, H. T. Shen, "Adversarial cross-modal retrieval", ACM Multimedia 2017.
"""

import torch
from torch import Tensor

FORMS = ("absolute", "relative")
MINING = ("all", "hardest")


def share_a_label(label: Tensor, other: Tensor | None = None) -> Tensor:
    """(n,) integers, or (n, c) bool where a row may have several -> (n, m) bool: which pairs have a label in common."""
    other = label if other is None else other
    if label.ndim == 2:
        return label.float() @ other.float().T > 0
    return label[:, None] == other[None]


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances between rows: (n, d), (m, d) -> (n, m). Where two rows are equal the gradient is 0, not NaN.

    By differences and not by the squares of the lengths, whose rounding would drown the distance of close rows.
    """
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def triplet_loss(
    positives: tuple[Tensor, Tensor],
    negatives: tuple[Tensor, Tensor],
    margin: float = 1.0,
    gamma: float = 1.0,
    form: str = "absolute",
    mining: str = "all",
) -> Tensor:
    """One direction, from the distances of n anchors: each argument is (distance (n, m), chosen (n, m) bool).

    The mean over the triples of each anchor, then over the anchors that have a positive and a negative. In the absolute
    form the mean over triples falls apart into the mean distance of the positives + gamma times the mean hinge of the
    negatives; ``gamma`` does nothing in the relative one, which holds n x positives x negatives numbers at once.
    ``mining="hardest"``: of every anchor's negatives only the closest. Without a single triple the loss is 0.
    """
    (near, positive), (far, negative) = positives, negatives
    usable = positive.any(dim=1) & negative.any(dim=1)
    if not usable.any():
        return near.sum() * 0.0
    near, positive, far, negative = near[usable], positive[usable], far[usable], negative[usable]
    if mining == "hardest":
        closest = far.detach().masked_fill(~negative, torch.inf).argmin(dim=1, keepdim=True)
        far, negative = far.gather(1, closest), negative.gather(1, closest)
    if form == "absolute":
        return (_mean(near, positive) + gamma * _mean((margin - far).clamp(min=0), negative)).mean()
    hinge = (margin + near[:, :, None] - far[:, None, :]).clamp(min=0)  # (n, positives, negatives)
    return _mean(hinge.flatten(1), (positive[:, :, None] & negative[:, None, :]).flatten(1)).mean()


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen values of each row: (n, m), (n, m) bool -> (n,)."""
    return torch.where(chosen, values, 0.0).sum(dim=1) / chosen.sum(dim=1)


def intermodal_triplet_loss(
    image_emb: Tensor,
    text_emb: Tensor,
    label: Tensor,
    margin: float = 1.0,
    gamma: float = 1.0,
    form: str = "absolute",
    mining: str = "all",
    same_modality: bool = False,
) -> Tensor:
    """L_imi = L_imi,V + L_imi,T of a batch of pairs: image_emb, text_emb (n, d), label (n,) or (n, c) bool -> a scalar.

    ``margin`` (mu) and ``gamma`` >= 0. ``mining``: "all" negatives of the batch, or only the "hardest" of each anchor.
    ``same_modality``: negatives of the anchor's own modality count too, images for an image and texts for a text. The
    note's prose asks for them; its formula has none.

    Raises ValueError for rows that do not match, unknown names and negative numbers.
    """
    if image_emb.ndim != 2 or image_emb.shape != text_emb.shape or len(label) != len(image_emb):
        raise ValueError(
            f"embeddings {tuple(image_emb.shape)} and {tuple(text_emb.shape)} with {len(label)} labels: both must be "
            "(n, d), row i of each and label i one pair"
        )
    if form not in FORMS or mining not in MINING:
        raise ValueError(f"form is one of {FORMS}, mining one of {MINING}; got {form!r} and {mining!r}")
    if margin < 0 or gamma < 0:
        raise ValueError(f"margin and gamma must be >= 0; got {margin!r} and {gamma!r}")
    positive = share_a_label(label)
    losses = []
    for anchor, across in [(image_emb, text_emb), (text_emb, image_emb)]:
        distance, negative = distances(anchor, across), ~positive
        negatives = (distance, negative)
        if same_modality:
            negatives = (
                torch.cat([distance, distances(anchor, anchor)], dim=1),
                torch.cat([negative, negative], dim=1),
            )
        losses.append(triplet_loss((distance, positive), negatives, margin, gamma, form, mining))
    return losses[0] + losses[1]
