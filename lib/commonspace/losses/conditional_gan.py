"""The game of a painter and a judge who can read, on logits: above 0 says "a real picture with its own sentence".

    the judge minimises    E -log D(i, t) - beta_f E log(1 - D(i^, t)) - beta_w E log(1 - D(i, t'))
    the painter minimises  E -log D(i^, t),       or as it was first written   E log(1 - D(i^, t))

D = sigmoid(logit), i a real picture with its sentence t, i^ a painted one, t' a sentence of another picture. Both forms
of the painter's loss push the logit up; where the judge is sure, the first with slope 1 and the second with slope 0.

References: I. Goodfellow et al., "Generative adversarial nets", NeurIPS 2014. S. Reed et al., "Generative adversarial
text to image synthesis", ICML 2016, algorithm 1 (the wrong pairs; both weights are 0.5).
"""

import math

from torch import Tensor
from torch.nn import functional as F


def judge_loss(
    real: Tensor,
    fake: Tensor,
    wrong: Tensor,
    fake_weight: float = 0.5,
    wrong_weight: float = 0.5,
    smoothing: float = 0.0,
) -> Tensor:
    """Logits (n,), (m,), (k,) of real, painted and wrong pairs -> a scalar >= 0.

    ``fake_weight``, ``wrong_weight`` >= 0: beta_f and beta_w. ``smoothing`` s in [0, 0.5): real pairs are to be called
    real with 1 - s in place of 1, painted and wrong ones with 0 still (T. Salimans et al., "Improved techniques for
    training GANs", 2016). Raises ValueError for other shapes and weights.
    """
    for name, logits in (("real", real), ("fake", fake), ("wrong", wrong)):
        _check_logits(name, logits)
    for name, weight, most in (
        ("fake_weight", fake_weight, math.inf),
        ("wrong_weight", wrong_weight, math.inf),
        ("smoothing", smoothing, 0.5),
    ):
        if not 0 <= weight < most:
            raise ValueError(f"{name} must be a number in [0, {most}); got {weight!r}")
    loss = (1 - smoothing) * F.softplus(-real).mean()
    if smoothing:
        loss = loss + smoothing * F.softplus(real).mean()
    return loss + fake_weight * F.softplus(fake).mean() + wrong_weight * F.softplus(wrong).mean()


def painter_loss(fake: Tensor, saturating: bool = False) -> Tensor:
    """Logits (n,) of painted pairs -> a scalar: -log D >= 0, or ``saturating`` log(1 - D) <= 0.

    Raises ValueError for other shapes.
    """
    _check_logits("fake", fake)
    return -F.softplus(fake).mean() if saturating else F.softplus(-fake).mean()


def _check_logits(name: str, logits: Tensor) -> None:
    if logits.ndim != 1 or len(logits) == 0:
        raise ValueError(f"{name} must be logits (n,), one a pair and at least one; got shape {tuple(logits.shape)}")
