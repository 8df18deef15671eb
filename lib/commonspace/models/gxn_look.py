"""Look, the embedding of GXN: images and sentences in one space, ranked by what they say and by what they show.

Every image and every sentence has an ABSTRACT vector (h), which is only compared, and a GROUNDED one (l), from which
the other modality can also be made: a sentence from v_l, a picture from t_l. With linear maps P, one image encoder and
two sentence encoders (a bidirectional GRU for h, a GRU for l),

    v_k = |n(P_v^k f(image))|,    t_k = |n(P_t^k g_k(sentence))|,    k in {h, l},    n(x) = x / ||x||
    s* = lambda s(t_h, v_h) + (1 - lambda) s(t_l, v_l)
    L_R+ = 1/N sum over pairs  sum_t' [margin - s*(t, v) + s*(t', v)]_+  +  sum_v' [margin - s*(t, v) + s*(t, v')]_+

where s is minus the order violation (`losses.order_similarity`), or the cosine. Both are sums of products or squares
over coordinates, so s* of two vectors each is s of ONE: [sqrt(lambda) h, sqrt(1 - lambda) l], which `embed_image` and
`embed_text` give. With h alone, the same code is VSE0, VSE++ or order-embeddings: see `LOOK_CONFIGURATIONS`.

References: J. Gu, J. Cai, S. Joty, L. Niu, G. Wang, "Look, imagine and match: improving textual-visual cross-modal
retrieval with generative models", CVPR 2018. I. Vendrov et al., "Order-embeddings of images and language", ICLR 2016.
F. Faghri et al., "VSE++: improving visual-semantic embeddings with hard negatives", BMVC 2018.

DEVIATIONS
- ``direction="order"``: max(0, t - v), as order-embeddings and VSE++ have it; GXN prints max(0, v - t): "gxn".
- s is the squared violation, as in GXN and in order-embeddings; VSE++'s code takes the root. A margin for the one is
  none for the other.
- Rows of length 1, then absolute values (``absolute``), for h and l each: order-embeddings'; GXN does not say.
- ``mining="all"`` sums over negatives, as GXN prints it; "hardest" is VSE++'s. `losses` takes another one a call, so
  that training may begin with the sum and go on with the hardest.
- Once `losses` is told the ``image_id``, captions of one image are no negatives of each other; in VSE++ they are.
- The loss is divided by N, as GXN prints it; VSE++'s code does not. Adam cares little, clipping by the norm does.
- The published margin and lambda of GXN are not known here: 0.05 is order-embeddings', 0.5 weighs both alike.
- `sentence_encoders`: the state of the bidirectional GRU is the mean of its last forward and its first backward one,
  and sentences have a start and an end. In VSE++ and order-embeddings no linear layer follows the GRU, here one does.
  Its weights begin as torch draws them; order-embeddings has orthogonal recurrent ones.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from commonspace.encoders import GRU, build_encoder
from commonspace.losses import hinge_loss, order_similarity, share_a_label
from commonspace.losses.order import DIRECTIONS
from commonspace.losses.ranking import MINING
from commonspace.models._embed import embed
from commonspace.training.checkpoint import load_model, save_model

SIMILARITIES = ("order", "cosine")

LOOK_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "GXN": {"similarity": "order", "margin": 0.05, "mining": "all"},  # with two sentence encoders, the rest with one
    "order-embeddings": {"similarity": "order", "margin": 0.05, "mining": "all"},
    "VSE0": {"similarity": "cosine", "margin": 0.2, "mining": "all", "unit_images": False},
    "VSE++": {"similarity": "cosine", "margin": 0.2, "mining": "hardest"},
}


class GXNLook(nn.Module):
    """An image encoder with one linear head a sentence encoder, and one or two sentence encoders.

    ``image_encoder`` gives rows (B, k): a network, or ``Standardize(k)`` for features that were computed before.
    ``text_encoder`` and ``grounded_text_encoder`` (None: h alone) give (B, dim) both, their linear layer being P_t; any
    encoder of texts will do. ``share_words``: both read one table of word vectors.

    ``similarity``, ``direction``, ``margin`` >= 0, ``mining``, ``absolute`` (None: with "order" and not with "cosine"):
    see above. ``weight``: lambda, in [0, 1]. ``unit_features``: rows of the image encoder are brought to length 1
    before the heads. ``unit_images=False``: images are not brought to length 1 behind them, as in VSE0, so that the
    "cosine" is a dot product; not for "order", where an image with large coordinates would fit any text.

    Raises ValueError for parts that do not fit each other and for settings outside their range.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        grounded_text_encoder: nn.Module | None = None,
        similarity: Literal["order", "cosine"] = "order",
        direction: Literal["order", "gxn"] = "order",
        margin: float = 0.05,
        mining: Literal["all", "hardest"] = "all",
        weight: float = 0.5,
        absolute: bool | None = None,
        unit_features: bool = True,
        unit_images: bool = True,
        share_words: bool = True,
    ):
        super().__init__()
        encoders = [text_encoder] if grounded_text_encoder is None else [text_encoder, grounded_text_encoder]
        dim = text_encoder.out_dim
        if len({encoder.out_dim for encoder in encoders}) > 1:
            widths = [encoder.out_dim for encoder in encoders]
            raise ValueError(f"the sentence encoders give {widths} numbers; both must give as many: set their out_dim")
        if getattr(image_encoder, "feature_map", False) or not image_encoder.out_dim:
            raise ValueError("image_encoder must give rows (B, out_dim): no feature map, and a width of its own")
        for name, value, choices in (
            ("similarity", similarity, SIMILARITIES),
            ("direction", direction, DIRECTIONS),
            ("mining", mining, MINING),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {value!r}")
        if not 0 <= weight <= 1 or not 0 <= margin < float("inf"):
            raise ValueError(f"weight must lie in [0, 1] and margin be a number >= 0; got {weight!r} and {margin!r}")
        if similarity == "order" and not unit_images:
            raise ValueError("unit_images=False goes with similarity='cosine': by 'order' a long image fits any text")
        if len(encoders) == 2 and share_words:
            _share_words(*encoders)
        self.image_encoder, self.text_encoders = image_encoder, nn.ModuleList(encoders)
        self.image_heads = nn.ModuleList(nn.Linear(image_encoder.out_dim, dim) for _ in encoders)
        for head in self.image_heads:
            _as_xavier(head)
        self.settings = {
            "similarity": similarity,
            "direction": direction,
            "margin": margin,
            "mining": mining,
            "weight": weight,
            "absolute": similarity == "order" if absolute is None else absolute,
            "unit_features": unit_features,
            "unit_images": unit_images,
            "share_words": share_words,
        }

    @property
    def grounded(self) -> bool:
        """Whether there are grounded vectors beside the abstract ones."""
        return len(self.text_encoders) == 2

    # ---- from images and sentences to vectors, step by step ----

    def image_heads_of(self, images: Any) -> Tensor:
        """B images, as the encoder takes them -> P_v^h f and P_v^l f, (B, 2, dim); with h alone (B, 1, dim)."""
        features = self.image_encoder(images)
        if self.settings["unit_features"]:
            features = unit_rows(features)
        x = torch.stack([head(features) for head in self.image_heads], dim=1)
        return x.to(torch.promote_types(x.dtype, torch.float32))

    def place(self, heads: Tensor) -> Tensor:
        """What `image_heads_of` gave -> v_h and v_l, of the same shape: on the unit sphere, without their signs."""
        return self._absolute(unit_rows(heads) if self.settings["unit_images"] else heads)

    def image_vectors(self, images: Any) -> Tensor:
        """B images, as the encoder takes them -> v_h and v_l, (B, 2, dim); with h alone (B, 1, dim)."""
        return self.place(self.image_heads_of(images))

    def text_heads_of(self, texts: Sequence[str]) -> Tensor:
        """B sentences -> what the sentence encoders give, (B, 2, dim); with h alone (B, 1, dim)."""
        x = torch.stack([encoder(texts) for encoder in self.text_encoders], dim=1)
        return x.to(torch.promote_types(x.dtype, torch.float32))

    def place_texts(self, heads: Tensor) -> Tensor:
        """What `text_heads_of` gave -> t_h and t_l, of the same shape: on the unit sphere, without their signs."""
        return self._absolute(unit_rows(heads))

    def text_vectors(self, texts: Sequence[str]) -> Tensor:
        """B sentences -> t_h and t_l, (B, 2, dim); with h alone (B, 1, dim)."""
        return self.place_texts(self.text_heads_of(texts))

    def _absolute(self, x: Tensor) -> Tensor:
        return x.abs() if self.settings["absolute"] else x

    def joined(self, vectors: Tensor) -> Tensor:
        """(B, 2, dim) -> [sqrt(lambda) h, sqrt(1 - lambda) l], (B, 2 dim): its `similarity` is s*. With h alone: h."""
        if not self.grounded:
            return vectors[:, 0]
        shares = vectors.new_tensor([self.settings["weight"], 1 - self.settings["weight"]])
        return (vectors * shares.sqrt()[:, None]).flatten(1)

    def similarity(self, image_emb: Tensor, text_emb: Tensor) -> Tensor:
        """s* of all pairs of `joined` or embedded rows: (N, d), (M, d) -> (N, M), higher is closer."""
        if self.settings["similarity"] == "order":
            return order_similarity(image_emb, text_emb, self.settings["direction"])
        with torch.autocast(image_emb.device.type, enabled=False):
            return image_emb @ text_emb.T

    # ---- training ----

    def losses(
        self,
        images: Any,
        texts: Sequence[str],
        image_id: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] | None = None,
        mining: Literal["all", "hardest"] | None = None,
    ) -> dict[str, Tensor]:
        """Of a batch of B pairs: ``loss``, and ``accuracy``, the share of both directions whose first hit is right.

        ``image_id`` (B,) integers: pairs with the same one are of one image, and no negatives of each other. ``gather``
        brings the vectors of all processes together (`training.all_gather`): the loss is that of the whole batch.
        ``mining``: another than the model's, for this call.
        """
        check_batch(images, texts, image_id)
        return self.rank_losses(self.image_vectors(images), self.text_vectors(texts), image_id, gather, mining)

    def rank_losses(
        self,
        image_vectors: Tensor,
        text_vectors: Tensor,
        image_id: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] | None = None,
        mining: Literal["all", "hardest"] | None = None,
    ) -> dict[str, Tensor]:
        """`losses` of vectors that are there already, (B, 2, dim) each."""
        gather = gather or (lambda rows: rows)
        image, text = gather(self.joined(image_vectors)), gather(self.joined(text_vectors))
        same = None if image_id is None else share_a_label(gather(image_id.to(image.device)))
        sim = self.similarity(image, text)
        loss = hinge_loss(sim, self.settings["margin"], mining or self.settings["mining"], symmetric=True, same=same)
        with torch.no_grad():
            right = torch.eye(len(sim), dtype=torch.bool, device=sim.device) if same is None else same
            hits = [right.gather(1, scores.argmax(dim=1, keepdim=True)) for scores in (sim, sim.T)]
        return {"loss": loss, "accuracy": torch.cat(hits).float().mean()}

    # ---- use ----

    def embed_image(self, images: Any) -> Tensor:
        """n images -> (n, 2 dim) float32 on the CPU, (n, dim) with h alone: `similarity` compares them."""
        return embed(self, images, call=lambda batch: self.joined(self.image_vectors(batch)))

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """n sentences -> rows of the same width."""
        return embed(self, texts, call=lambda batch: self.joined(self.text_vectors(batch)))

    @property
    def config(self) -> dict[str, Any]:
        """What builds the model again, without its weights."""
        names = ("text_encoder", "grounded_text_encoder")
        texts = {name: encoder.config for name, encoder in zip(names, self.text_encoders, strict=False)}
        return {"image_encoder": self.image_encoder.config} | texts | self.settings

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A model of the same make as the one whose ``config`` this is, its weights still random."""
        return cls(**{name: build_encoder(x) if name.endswith("_encoder") else x for name, x in config.items()})

    def save(self, folder: str | Path) -> None:
        """Write ``weights.safetensors`` and ``config.json``, whole or not at all."""
        save_model(self, folder, self.config)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The model that `save` wrote, in evaluation mode on the CPU."""
        weights, config = load_model(folder)
        model = cls.from_config(config)
        model.load_state_dict(weights)
        return model.eval()


def check_batch(images: Any, texts: Sequence[str], image_id: Tensor | None) -> None:
    """Raises ValueError unless a batch has as many images as texts and, where there are any, ids."""
    if len(images) != len(texts) or (image_id is not None and image_id.shape != (len(texts),)):
        of = "none" if image_id is None else tuple(image_id.shape)
        raise ValueError(f"{len(images)} images, {len(texts)} texts, image_id {of}: a pair has one of each, (B,) ids")


def sentence_encoders(
    vocabulary: Any, dim: int = 1024, word_dim: int = 300, grounded: bool = True, dropout: float = 0.0
) -> tuple[GRU, ...]:
    """What reads the sentences: GXN's two, the bidirectional first, or for the others (``grounded=False``) one GRU.

    ``GXNLook(image_encoder, *sentence_encoders(vocabulary))``. Each gives (B, dim). Word vectors begin uniform in
    [-0.1, 0.1], linear layers as Xavier and Glorot have it. ``dropout``: before the linear layer.
    """
    options = {"word_dim": word_dim, "dropout": dropout, "brackets": True}
    both = {"bidirectional": True, "directions": "mean"}
    encoders = [GRU(vocabulary, dim, dim, **options, **extra) for extra in ([both, {}] if grounded else [{}])]
    for encoder in encoders:
        with torch.no_grad():
            encoder.embedding.weight.uniform_(-0.1, 0.1)[encoder.padding] = 0
        _as_xavier(encoder.head[1])
    return tuple(encoders)


def unit_rows(x: Tensor) -> Tensor:
    """Rows of length 1. A row shorter than 1e-8 becomes 0 and gets no gradient, which would be as large as 1e8."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.where(length <= 1e-8, 0.0, x / length.clamp(min=1e-8))


def _as_xavier(layer: nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)


def _share_words(one: nn.Module, other: nn.Module) -> None:
    """Both read the word vectors of ``one`` from now on. Raises ValueError where their ids do not mean the same."""
    names = ("vocabulary", "brackets", "word_dim")
    if not all(name in encoder.config for encoder in (one, other) for name in names) or any(
        one.config[name] != other.config[name] for name in names
    ):
        raise ValueError(
            "share_words=True needs two LSTM or GRU encoders with the same vocabulary, word_dim and brackets: make "
            "them so (`sentence_encoders`), or set share_words=False"
        )
    other.embedding = one.embedding
