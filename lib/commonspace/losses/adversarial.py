"""The game of an adversarial common space: a classifier guesses the modality of a code, projectors make it guess wrong.

The classifier minimises the modality loss; the projectors maximise it. Gradient reversal puts both into one backward
pass: a layer that is the identity forward and multiplies the gradient by -strength backward,

    R(x) = x,    dR/dx = -strength * I.

What lies behind the layer (the classifier) receives the true gradient, what lies before it (the projectors) the
reversed one. The value of the loss is not changed: it is the gradient that is reversed.

References: Y. Ganin and V. Lempitsky, "Unsupervised domain adaptation by backpropagation", ICML 2015; B. Wang, Y. Yang,
X. Xu, A. Hanjalic, H. T. Shen, "Adversarial cross-modal retrieval", ACM Multimedia 2017; of the gradient penalty: L.
Mescheder, A. Geiger, S. Nowozin, "Which training methods for GANs do actually converge?", ICML 2018.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEXT, IMAGE = 0, 1  # one-hot 10 and 01


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.strength * grad, None


def reverse_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """``x`` of any shape, unchanged; its gradient comes back multiplied by ``-strength``.

    ``strength`` >= 0; at 0 nothing comes back. Raises ValueError for a strength that is negative (it would help the
    classifier instead of fooling it) or not finite.
    """
    if not (math.isfinite(strength) and strength >= 0):
        raise ValueError(f"strength must be a number >= 0, got {strength!r}: the sign is turned here, once")
    return _Reverse.apply(x, float(strength))


def reversal_strength(progress: float) -> float:
    """Ganin and Lempitsky's schedule 2 / (1 + exp(-10 p)) - 1: 0 at the start, 0.99 at half, close to 1 at the end.

    ``progress`` p in [0, 1]: the share of training that is done. The classifier needs a start, or its first gradients,
    which know nothing yet, disturb the projectors.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is the share of training that is done, from 0 to 1; got {progress!r}")
    return 2 / (1 + math.exp(-10 * progress)) - 1


def modality_loss(image_logits: Tensor, text_logits: Tensor, form: str = "softmax") -> Tensor:
    """Cross-entropy of the modality classifier: logits (n, 2) of image codes and (m, 2) of text codes -> a scalar >= 0.

    Column 0 stands for text (one-hot 10), column 1 for image (01). The mean over images and the mean over texts are
    averaged, so both modalities weigh the same. A classifier that cannot tell has log 2 = 0.69. ``form="sigmoid"``: the
    two columns are judged apart, each by its own logistic loss, and summed (MASLN); not knowing then costs 2 log 2.

    Raises ValueError for other shapes.
    """
    for name, logits in [("image_logits", image_logits), ("text_logits", text_logits)]:
        if logits.ndim != 2 or logits.shape[1] != 2 or len(logits) == 0:
            raise ValueError(f"{name} must have shape (n, 2), a column a modality; got {tuple(logits.shape)}")
    if form not in ("softmax", "sigmoid"):
        raise ValueError(f"form must be 'softmax' or 'sigmoid', got {form!r}")
    losses = []
    for logits, modality in [(image_logits, IMAGE), (text_logits, TEXT)]:
        if form == "softmax":
            losses.append(-F.log_softmax(logits, dim=1)[:, modality].mean())
        else:
            right = torch.zeros_like(logits)
            right[:, modality] = 1.0
            losses.append(F.binary_cross_entropy_with_logits(logits, right, reduction="none").sum(dim=1).mean())
    return (losses[0] + losses[1]) / 2


def modality_accuracy(image_logits: Tensor, text_logits: Tensor) -> Tensor:
    """The share that the classifier gets right, mean of both modalities, a scalar in [0, 1] without gradient.

    0.5 is chance. A tie counts half.
    """
    shares = []
    for logits, sign in [(image_logits, 1), (text_logits, -1)]:
        ahead = sign * (logits[:, IMAGE] - logits[:, TEXT]).detach()
        shares.append((ahead > 0).float().mean() + (ahead == 0).float().mean() / 2)
    return (shares[0] + shares[1]) / 2


def gradient_penalty(classifier: nn.Module, *codes: Tensor) -> Tensor:
    """How steep the classifier is: mean squared length of d(image logit - text logit) / d(code), summed over ``codes``.

    ``codes``: one (n, d) tensor a modality -> a scalar >= 0, which trains the classifier and not the codes. A
    classifier that is steep around the codes throws the projectors from side to side, and the game runs in circles;
    with a little of this penalty it comes to rest.
    """
    total = codes[0].new_zeros(())
    for code in codes:
        code = code.detach().requires_grad_()
        with torch.enable_grad():
            logits = classifier(code)
            ahead = (logits[:, IMAGE] - logits[:, TEXT]).sum()
            (slope,) = torch.autograd.grad(ahead, code, create_graph=True)
        total = total + slope.square().sum(dim=1).mean()
    return total
