"""MASLN: a common space for classes that were never seen, learned by rebuilding each modality from the other's code.

Encoders f_V, f_T make codes of one space. Decoders rebuild both sides of a pair from either code with the embedding s_y
of the pair's class beside it, a common softmax layer names the class, and a modality classifier D must not be able to
tell which side a code is from. Of a pair (v, t) of class y, with the four rebuilt rows of `losses.reconstruction`,

    L_corr = ||f_V(v) - f_T(t)||^2                                                       correlation
    L_rec  = L_I + L_T, of decoders that read [f_V(v), s_y] and [f_T(t), s_y]            reconstruction, four terms
    L_dis  = -y (log p(f_V(v)) + log p(f_T(t)))                                          discrimination
    L_adv  = modality classifier: sigmoid cross-entropy with the one-hot of the modality
    encoders, decoders, softmax:  min  L_corr + L_rec + L_dis - strength L_adv,  each term with its weight
    classifier:                   min  L_adv

The minus sign is a gradient reversal between code and classifier (`losses.adversarial`). Nothing of a class is needed
to embed: a test item is its code.

Reference: X. Xu et al., "Modal-adversarial semantic learning network for extendable cross-modal retrieval", ICMR
2018. No code of it is public: this is a RECONSTRUCTION from the equations as
published. The paper does not fix what is said below; every choice is ours.

DEVIATIONS
- Cross-entropies are printed without their minus sign. Here they have it: classifier and softmax layer minimise theirs.
- One decoder a modality reads the codes of both, since these are to be one space. ``rebuild="cross"`` keeps the two
  cross terms alone; with ``reconstruction_weight=0`` there are no decoders to train.
- ``head="embeddings"``: the code is mapped linearly into the space of class embeddings, and the logit of a class is the
  product with its embedding, divided by sqrt(e), in place of a free softmax layer.
- ``gradient_penalty``, of the classifier, brings the game to rest (`losses.adversarial`); 0 leaves it out.
- Rows are rebuilt as the encoders see them: where an encoder begins with `Standardize`, the standardised rows are.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commonspace.encoders.build import Sequence, build_encoder
from commonspace.encoders.mlp import MLP
from commonspace.encoders.scale import Standardize
from commonspace.losses import (
    gradient_penalty,
    modality_accuracy,
    modality_loss,
    reconstruction_loss,
    reverse_gradient,
)
from commonspace.models._embed import embed
from commonspace.training.checkpoint import load_model, save_model

WEIGHTS = ("correlation_weight", "reconstruction_weight", "label_weight", "modality_weight")


class MASLN(nn.Module):
    """Encoders, decoders, softmax layer and modality classifier.

    ``image_encoder`` and ``text_encoder`` are encoders of `commonspace.encoders`, both giving codes of one width, (B,
    dim). ``image_decoder`` and ``text_decoder`` take (B, dim + e) and give the rows that are rebuilt; they may be None
    where ``reconstruction_weight`` is 0, as they must be for pictures and lists of texts. ``class_embeddings``: (c, e),
    one row a class of the training labels; kept as they are and saved with the model.

    The weight of a term of 0 takes that term, and nothing else, away. ``rebuild``, ``head``: see DEVIATIONS.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        class_embeddings: Tensor,
        image_decoder: nn.Module | None = None,
        text_decoder: nn.Module | None = None,
        correlation_weight: float = 1.0,
        reconstruction_weight: float = 1.0,
        label_weight: float = 1.0,
        modality_weight: float = 1.0,
        rebuild: Literal["four", "cross"] = "four",
        head: Literal["classes", "embeddings"] = "classes",
        gradient_penalty: float = 0.1,
    ):
        super().__init__()
        settings = {
            "correlation_weight": correlation_weight,
            "reconstruction_weight": reconstruction_weight,
            "label_weight": label_weight,
            "modality_weight": modality_weight,
            "rebuild": rebuild,
            "head": head,
            "gradient_penalty": gradient_penalty,
        }
        class_embeddings = torch.as_tensor(class_embeddings, dtype=torch.float32)
        _check(image_encoder, text_encoder, class_embeddings, settings)
        dim, (n_classes, width) = image_encoder.out_dim, class_embeddings.shape
        for name, decoder in [("image_decoder", image_decoder), ("text_decoder", text_decoder)]:
            if decoder is None and reconstruction_weight > 0:
                raise ValueError(f"reconstruction needs {name}: give one, or set reconstruction_weight=0")
            if getattr(decoder, "in_dim", dim + width) != dim + width:
                raise ValueError(
                    f"{name} takes {decoder.in_dim} numbers; a code and a class embedding are {dim + width}"
                )
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.image_decoder, self.text_decoder = image_decoder, text_decoder
        self.label_predictor = nn.Linear(dim, n_classes if head == "classes" else width)
        self.modality_classifier = MLP([dim, 50, 2])
        self.register_buffer("class_embeddings", class_embeddings.clone())
        self.settings = settings

    def forward(self, image: Any, text: Any) -> tuple[Tensor, Tensor]:
        """The codes of both modalities: (B, dim), (B, dim)."""
        return self.image_encoder(image), self.text_encoder(text)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The weights of each player of the game, for one optimiser each: "projector" and "classifier".

        Decoders and the softmax layer play on the encoders' side.
        """
        classifier = list(self.modality_classifier.parameters())
        theirs = {id(weight) for weight in classifier}
        return {"projector": [p for p in self.parameters() if id(p) not in theirs], "classifier": classifier}

    def losses(
        self,
        image: Any,
        text: Any,
        label: Tensor,
        strength: float = 1.0,
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The encoders' step on a batch of pairs: ``loss`` and the terms it is made of, before their weights; scalars.

        ``label``: (B,) integers in 0 .. c - 1. ``strength`` >= 0 multiplies the reversed gradient. ``gather`` is taken
        for the sake of one interface and not called: every term is a mean over single pairs.
        """
        of = self.settings
        self._check_labels(label)
        v, t = self(image, text)
        found = {}
        if of["correlation_weight"]:
            found["correlation"] = (v - t).square().sum(dim=1).mean()
        if of["reconstruction_weight"]:
            rows = [_as_seen(encoder, x) for encoder, x in [(self.image_encoder, image), (self.text_encoder, text)]]
            found["reconstruction"] = reconstruction_loss(
                *rows, self.decode(v, label), self.decode(t, label), of["rebuild"]
            )
        if of["label_weight"]:
            found["label"] = F.cross_entropy(self.logits(v), label) + F.cross_entropy(self.logits(t), label)
        if of["modality_weight"]:
            fooled = [self.modality_classifier(reverse_gradient(code, strength)) for code in (v, t)]
            # Added, not subtracted: the reversal turns its gradient, and so -strength L_adv is what is minimised.
            found["modality"] = modality_loss(*fooled, form="sigmoid")
        return found | {"loss": sum(of[f"{name}_weight"] * term for name, term in found.items())}

    def modality_losses(self, image: Any, text: Any) -> dict[str, Tensor]:
        """The classifier's step: ``loss``, made of its cross-entropy ``modality`` and its ``slope`` times the gradient
        penalty's weight; and ``accuracy``, the share that it tells right.

        The codes are taken as they are, so no gradient reaches the encoders.
        """
        with torch.no_grad():
            codes = self(image, text)
        logits = [self.modality_classifier(code) for code in codes]
        found = {"modality": modality_loss(*logits, form="sigmoid"), "accuracy": modality_accuracy(*logits)}
        found["loss"] = found["modality"]
        if self.settings["gradient_penalty"]:
            found["slope"] = gradient_penalty(self.modality_classifier, *codes)
            found["loss"] = found["loss"] + self.settings["gradient_penalty"] * found["slope"]
        return found

    def decode(self, code: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, dim) of either modality and the labels of their pairs (B,) -> image and text rows as rebuilt."""
        known = torch.cat([code, self.class_embeddings[label]], dim=1)  # (B, dim + e)
        return self.image_decoder(known), self.text_decoder(known)

    def logits(self, code: Tensor) -> Tensor:
        """Codes (B, dim) -> (B, c) scores of the classes that were trained on."""
        scores = self.label_predictor(code)
        if self.settings["head"] == "classes":
            return scores
        return scores @ self.class_embeddings.T / self.class_embeddings.shape[1] ** 0.5

    def embed_image(self, images: Any) -> Tensor:
        """Images, in whatever form the encoder takes, -> their codes (n, dim) float32 on the CPU."""
        return embed(self.image_encoder, images)

    def embed_text(self, texts: Any) -> Tensor:
        """Texts, in whatever form the encoder takes, -> their codes (n, dim) float32 on the CPU."""
        return embed(self.text_encoder, texts)

    def save(self, folder: str | Path) -> None:
        """Write ``weights.safetensors`` and ``config.json``, whole or not at all."""
        parts = ("image_encoder", "text_encoder", "image_decoder", "text_decoder")
        configs = {name: getattr(self, name).config for name in parts if getattr(self, name) is not None}
        save_model(self, folder, {"parts": configs, "settings": self.settings})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The model that `save` wrote, in evaluation mode on the CPU."""
        weights, config = load_model(folder)
        parts = {name: build_encoder(part) for name, part in config["parts"].items()}
        model = cls(**parts, class_embeddings=weights["class_embeddings"], **config["settings"])
        model.load_state_dict(weights)
        return model.eval()

    def _check_labels(self, label: Tensor) -> None:
        if label.ndim != 1 or label.is_floating_point() or label.dtype == torch.bool:
            raise ValueError(
                f"label must be integers of shape (B,), one class a pair; got {label.dtype} {tuple(label.shape)}"
            )
        if label.numel() and (int(label.min()) < 0 or int(label.max()) >= len(self.class_embeddings)):
            raise ValueError(
                f"labels run from {int(label.min())} to {int(label.max())}, but class_embeddings has "
                f"{len(self.class_embeddings)} rows: a label is the 0-based row of its class"
            )


def decoders(image_encoder: nn.Module, text_encoder: nn.Module, embedding_dim: int, **mlp: Any) -> dict[str, MLP]:
    """The mirror images of two encoders, each a perceptron, or `Standardize` and one: code and embedding to rows."""
    found = {}
    for name, encoder in [("image_decoder", image_encoder), ("text_decoder", text_encoder)]:
        perceptron = encoder.parts[-1] if isinstance(encoder, Sequence) else encoder
        first = perceptron.config["sizes"]
        found[name] = MLP([first[-1] + embedding_dim, *reversed(first[:-1])], **mlp)
    return found


def _as_seen(encoder: nn.Module, rows: Any) -> Tensor:
    """What is to be rebuilt: feature rows, standardised where the encoder begins with that."""
    if not isinstance(rows, Tensor) or rows.ndim != 2:
        raise ValueError("reconstruction needs feature rows (B, d) on both sides; for others reconstruction_weight=0")
    first = encoder.parts[0] if isinstance(encoder, Sequence) else encoder
    return first(rows) if isinstance(first, Standardize) else rows


def _check(image_encoder: nn.Module, text_encoder: nn.Module, class_embeddings: Tensor, settings: dict) -> None:
    if image_encoder.out_dim != text_encoder.out_dim:
        raise ValueError(
            f"the encoders give {image_encoder.out_dim} and {text_encoder.out_dim} numbers: both must make codes of "
            "one space"
        )
    if class_embeddings.ndim != 2 or len(class_embeddings) < 2 or not class_embeddings.isfinite().all():
        raise ValueError(
            "class_embeddings must be finite numbers (c, e), one row a class and at least 2 classes; got shape "
            f"{tuple(class_embeddings.shape)}"
        )
    for name in (*WEIGHTS, "gradient_penalty"):
        if not 0 <= settings[name] < float("inf"):
            raise ValueError(f"{name} must be a number >= 0, got {settings[name]!r}")
    if not any(settings[name] for name in WEIGHTS[:3]):
        raise ValueError(
            f"one of {', '.join(WEIGHTS[:3])} must be above 0: fooling the classifier alone needs no codes"
        )
    for name, known in [("rebuild", ("four", "cross")), ("head", ("classes", "embeddings"))]:
        if settings[name] not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {settings[name]!r}")
