"""ACMR: two projectors into one space, and a classifier that must not be able to tell which modality a code is from.

The projectors f_V, f_T make codes that name the class (label prediction), lie near codes of the same class in the other
modality (triplets), and fool a modality classifier D, which is trained at the same time to see through them:

    L_imd = -1/n sum_i y_i (log p(v_i) + log p(t_i))                                    label prediction
    L_imi = L_imi,V + L_imi,T                       triplets both ways, see `losses.ranking`
    L_adv = -1/n sum_i (log D(v_i)[image] + log D(t_i)[text]) / 2                        modality classifier
    projectors:  min  alpha L_imi + beta L_imd - strength L_adv        (k steps)
    classifier:  min  L_adv                             (one step; the paper trains its projectors more often)

The minus sign is a gradient reversal between code and classifier (`losses.adversarial`). The paper's third term of the
projectors, the squares of the weights, is the optimiser's weight decay.

Reference: B. Wang, Y. Yang, X. Xu, A. Hanjalic, H. T. Shen, "Adversarial cross-modal retrieval", ACM Multimedia 2017.

DEVIATIONS. ``as_released=True`` builds the graph of the authors' released demo (triplet variant), which differs from
the paper, and where its gradients do not flow:
- the modality loss reaches the classifier and never the projectors: there is no game;
- the label predictor stays at its random initial weights, and the classifier is dim-20-10-2 without a non-linearity;
- one hinge for the whole batch, max(0, margin + 5 sum ||v - t||^2 / 2 - sum ||v - t-||^2 / 2), the negative being the
  item of another class whose INPUT is most similar to the anchor's (cosine, within the anchor's modality).
``gradient_penalty`` is ours, not the paper's: it brings the game to rest (`losses.adversarial`); 0 leaves it out.
Other forms by flag: ``form="relative"``, ``mining="hardest"``, ``same_modality=True`` (`losses.ranking`). With several
labels a pair its y_i is shared out equally among them, so that every pair weighs the same.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commonspace.encoders.build import build_encoder
from commonspace.encoders.mlp import MLP
from commonspace.losses import (
    gradient_penalty,
    intermodal_triplet_loss,
    modality_accuracy,
    modality_loss,
    reverse_gradient,
    share_a_label,
)
from commonspace.models._embed import embed
from commonspace.training.checkpoint import load_model, save_model


class ACMR(nn.Module):
    """Projectors, label predictor and modality classifier.

    ``image_encoder`` and ``text_encoder`` are encoders of `commonspace.encoders` (whatever they take: feature rows,
    pictures, lists of texts), both giving codes of one width, (B, dim). ``triplet_weight`` is alpha, ``label_weight``
    beta. ``margin``, ``gamma``, ``form``, ``mining``, ``same_modality``: of the triplets.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        n_classes: int,
        triplet_weight: float = 1.0,
        label_weight: float = 1.0,
        margin: float = 1.0,
        gamma: float = 1.0,
        form: Literal["absolute", "relative"] = "absolute",
        mining: Literal["all", "hardest"] = "all",
        same_modality: bool = False,
        gradient_penalty: float = 0.1,
        as_released: bool = False,
    ):
        super().__init__()
        if image_encoder.out_dim != text_encoder.out_dim:
            raise ValueError(
                f"the encoders give {image_encoder.out_dim} and {text_encoder.out_dim} numbers: both must project "
                "into the same space"
            )
        if n_classes < 2:
            raise ValueError(f"n_classes={n_classes}: label prediction needs at least 2 classes")
        dim = image_encoder.out_dim
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.label_predictor = nn.Linear(dim, n_classes)
        if as_released:
            self.label_predictor.requires_grad_(False)
            self.modality_classifier = nn.Sequential(nn.Linear(dim, 20), nn.Linear(20, 10), nn.Linear(10, 2))
        else:
            self.modality_classifier = MLP([dim, 50, 2])
        self.settings = {
            "n_classes": n_classes,
            "triplet_weight": triplet_weight,
            "label_weight": label_weight,
            "margin": margin,
            "gamma": gamma,
            "form": form,
            "mining": mining,
            "same_modality": same_modality,
            "gradient_penalty": gradient_penalty,
            "as_released": as_released,
        }

    def forward(self, image: Any, text: Any) -> tuple[Tensor, Tensor]:
        """The codes of both modalities: (B, dim), (B, dim)."""
        return self.image_encoder(image), self.text_encoder(text)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The weights of each player of the game, for one optimiser each: "projector" and "classifier".

        The label predictor plays on the projectors' side. As released it is trained by nobody.
        """
        projector = [*self.image_encoder.parameters(), *self.text_encoder.parameters()]
        if not self.settings["as_released"]:
            projector += self.label_predictor.parameters()
        return {"projector": projector, "classifier": list(self.modality_classifier.parameters())}

    def losses(
        self,
        image: Any,
        text: Any,
        label: Tensor,
        strength: float = 1.0,
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The projectors' step on a batch of pairs: ``loss`` and its terms, all scalars.

        ``label``: (B,) integers, or (B, n_classes) bool. ``strength`` >= 0 multiplies the reversed gradient. ``gather``
        brings the codes of all processes together (`training.all_gather`): triplets are those of the whole batch.
        """
        of = self.settings
        v, t = self(image, text)
        found = {"label": self.label_loss(v, label) + self.label_loss(t, label)}
        needed = (v, t, image, text, label) if of["as_released"] else (v, t, label)
        if gather is not None:
            needed = [gather(x) if isinstance(x, Tensor) else x for x in needed]
        if of["as_released"]:
            found["triplet"] = released_triplet_loss(*needed, of["margin"])
        else:
            names = ("margin", "gamma", "form", "mining", "same_modality")
            found["triplet"] = intermodal_triplet_loss(*needed, **{name: of[name] for name in names})
        found["loss"] = of["triplet_weight"] * found["triplet"] + of["label_weight"] * found["label"]
        if not of["as_released"]:
            fooled = [self.modality_classifier(reverse_gradient(code, strength)) for code in (v, t)]
            found["modality"] = modality_loss(*fooled)
            # Added, not subtracted: the reversal turns its gradient, and so -strength L_adv is what is minimised.
            found["loss"] = found["loss"] + found["modality"]
        return found

    def modality_losses(self, image: Any, text: Any) -> dict[str, Tensor]:
        """The classifier's step: ``loss``, made of its cross-entropy ``modality`` and its ``slope`` times the gradient
        penalty's weight; and ``accuracy``, the share that it tells right.

        The codes are taken as they are, so no gradient reaches the projectors.
        """
        with torch.no_grad():
            codes = self(image, text)
        logits = [self.modality_classifier(code) for code in codes]
        found = {"modality": modality_loss(*logits), "accuracy": modality_accuracy(*logits)}
        found["loss"] = found["modality"]
        if self.settings["gradient_penalty"] and not self.settings["as_released"]:
            found["slope"] = gradient_penalty(self.modality_classifier, *codes)
            found["loss"] = found["loss"] + self.settings["gradient_penalty"] * found["slope"]
        return found

    def label_loss(self, code: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy of the label predictor on codes (B, dim): label (B,), or (B, n_classes) bool -> a scalar.

        A pair without any label does not count. Raises ValueError for labels that do not fit the classes.
        """
        self._check_labels(label, len(code))
        logits = self.label_predictor(code)
        if label.ndim == 1:
            return F.cross_entropy(logits, label)
        count = label.sum(dim=1, keepdim=True)
        shares = label / count.clamp(min=1)
        return -(shares * F.log_softmax(logits, dim=1)).sum() / (count > 0).sum().clamp(min=1)

    def embed_image(self, images: Any) -> Tensor:
        """Images, in whatever form the encoder takes, -> their codes (n, dim) float32 on the CPU."""
        return embed(self.image_encoder, images)

    def embed_text(self, texts: Any) -> Tensor:
        """Texts, in whatever form the encoder takes, -> their codes (n, dim) float32 on the CPU."""
        return embed(self.text_encoder, texts)

    def save(self, folder: str | Path) -> None:
        """Write ``weights.safetensors`` and ``config.json``, whole or not at all."""
        encoders = {name: getattr(self, name).config for name in ("image_encoder", "text_encoder")}
        save_model(self, folder, encoders | self.settings)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The model that `save` wrote, in evaluation mode on the CPU."""
        weights, config = load_model(folder)
        encoders = {name: build_encoder(config.pop(name)) for name in ("image_encoder", "text_encoder")}
        model = cls(**encoders, **config)
        model.load_state_dict(weights)
        return model.eval()

    def _check_labels(self, label: Tensor, rows: int) -> None:
        n = self.settings["n_classes"]
        if len(label) != rows:
            raise ValueError(f"there are {len(label)} labels for {rows} codes; give one a pair")
        if label.ndim == 2 and label.dtype == torch.bool and label.shape[1] == n:
            return
        if label.ndim != 1 or label.is_floating_point() or label.dtype == torch.bool:
            raise ValueError(
                f"label must be integers (B,), or booleans (B, {n}) over the {n} classes; got {label.dtype} of shape "
                f"{tuple(label.shape)}"
            )
        if label.numel() and (int(label.min()) < 0 or int(label.max()) >= n):
            raise ValueError(f"labels run from {int(label.min())} to {int(label.max())}; they must lie in 0 .. {n - 1}")


def released_triplet_loss(
    v: Tensor, t: Tensor, image: Tensor, text: Tensor, label: Tensor, margin: float, alpha: float = 5.0
) -> Tensor:
    """The demo's triplets: codes v, t (B, dim) and inputs image (B, dv), text (B, dt) -> a scalar, SUMMED over pairs.

    Raises ValueError for a batch of one class, and for inputs that are not feature rows.
    """
    if not (isinstance(image, Tensor) and isinstance(text, Tensor) and image.ndim == text.ndim == 2):
        raise ValueError("as_released compares inputs by their cosine: it needs feature rows on both sides")
    positive = share_a_label(label)
    if positive.all(dim=1).any():
        raise ValueError("as_released needs an item of another class for every item: use larger, shuffled batches")
    total = v.new_zeros(())
    for code, across, rows in [(v, t, image), (t, v, text)]:
        rows = F.normalize(rows, dim=1)
        similar = (rows @ rows.T).masked_fill(positive, -torch.inf)
        pull = (code - across).square().sum() / 2
        push = (code - across[similar.argmax(dim=1)]).square().sum() / 2
        total = total + (margin + alpha * pull - push).clamp(min=0)
    return total
