"""Look and write: GXN's embedding, and a decoder that writes the sentence from the picture's grounded vector.

A vector that is only compared may forget whatever does not tell a batch's pictures apart. One from which the sentence
can be written may not. So both train the image encoder: with v_l the grounded vector of an image, (i, c) a pair,

    L = L_R+ (i, c)  +  write_weight L_xe (c | v_l)

Generators are for training; a search needs `embed_image` and `embed_text` alone. Without a decoder this is `GXNLook`,
without the ranking (``rank=False``) it is a captioning model.

Reference: J. Gu, J. Cai, S. Joty, L. Niu, G. Wang, "Look, imagine and match: improving textual-visual cross-modal
retrieval with generative models", CVPR 2018.

DEVIATIONS
- Which v_l the decoder reads is not said: here the vector that is matched, of length 1, so that what is asked of the
  writer shapes what is searched. ``pre_norm=True``: the linear head's output.
- The two losses are minimised together, in one step; GXN's algorithm takes its paths one after the other.
- The decoder has a word table of its own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from torch import Tensor, nn

from commonspace.models._embed import embed
from commonspace.models.gxn_look import GXNLook, check_batch
from commonspace.models.sentence_decoder import SentenceDecoder
from commonspace.training.checkpoint import load_model, save_model


class GXN(nn.Module):
    """The embedding ``look``, and ``decoder``, which reads what of an image is grounded (None: there is none).

    ``write_weight`` > 0: of L_xe. ``rank=False``: L_xe alone. ``pre_norm``: see DEVIATIONS. Where ``look`` has
    abstract vectors alone, the decoder reads these. Raises ValueError for parts that do not fit and for neither loss.
    """

    def __init__(
        self,
        look: GXNLook,
        decoder: SentenceDecoder | None = None,
        write_weight: float = 1.0,
        rank: bool = True,
        pre_norm: bool = False,
    ):
        super().__init__()
        dim = look.image_heads[-1].out_features
        if decoder is not None and decoder.image_dim != dim:
            raise ValueError(f"the decoder reads {decoder.image_dim} numbers of a picture, look gives {dim}: set both")
        if not 0 < write_weight < float("inf"):
            raise ValueError(f"write_weight must be a number above 0, got {write_weight!r}; decoder=None is without")
        if decoder is None and not rank:
            raise ValueError("without a decoder and with rank=False there is nothing to learn")
        self.look, self.decoder = look, decoder
        self.settings = {"write_weight": float(write_weight), "rank": rank, "pre_norm": pre_norm}

    # ---- training ----

    def losses(
        self,
        images: Any,
        texts: Sequence[str],
        image_id: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] | None = None,
        mining: Literal["all", "hardest"] | None = None,
    ) -> dict[str, Tensor]:
        """Of a batch of B pairs, scalars: ``loss``; of the ranking ``rank`` (L_R+) and ``accuracy``; of the decoder
        ``cross_entropy`` (L_xe [nats a token]) and ``token_accuracy``. Arguments as those of `GXNLook.losses`.
        """
        check_batch(images, texts, image_id)
        heads = self.look.image_heads_of(images)
        vectors = self.look.place(heads)
        found: dict[str, Tensor] = {}
        loss = 0.0
        if self.settings["rank"]:
            ranked = self.look.rank_losses(vectors, self.look.text_vectors(texts), image_id, gather, mining)
            found |= {"rank": ranked["loss"], "accuracy": ranked["accuracy"]}
            loss = ranked["loss"]
        if self.decoder is not None:
            written = self.decoder.losses(self._grounded(heads, vectors), texts, gather)
            found |= {"cross_entropy": written["loss"], "token_accuracy": written["accuracy"]}
            loss = loss + self.settings["write_weight"] * written["loss"]
        return {"loss": loss} | found

    def _grounded(self, heads: Tensor, vectors: Tensor) -> Tensor:
        return (heads if self.settings["pre_norm"] else vectors)[:, -1]

    # ---- use ----

    def embed_image(self, images: Any) -> Tensor:
        """n images -> rows on the CPU that `similarity` compares, see `GXNLook.embed_image`."""
        return self.look.embed_image(images)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """n sentences -> rows of the same width."""
        return self.look.embed_text(texts)

    def similarity(self, image_emb: Tensor, text_emb: Tensor) -> Tensor:
        """s* of all pairs of embedded rows, (N, M), higher is closer."""
        return self.look.similarity(image_emb, text_emb)

    def grounded_image(self, images: Any) -> Tensor:
        """n images -> what the decoder reads of them, (n, dim) float32 on the CPU."""

        def of(batch: Any) -> Tensor:
            heads = self.look.image_heads_of(batch)
            return self._grounded(heads, self.look.place(heads))

        return embed(self.look, images, call=of)

    def write(self, images: Any, width: int = 1, max_length: int = 30, **options: Any) -> list[str]:
        """A sentence for each of n images: the greedy one, or by beam search of that ``width``.

        ``max_length`` in tokens, the end among them; ``options`` of `SentenceDecoder.beam`. Raises ValueError without
        a decoder.
        """
        if self.decoder is None:
            raise ValueError("this model has no decoder, so it cannot write: train one with paths='look+write'")
        vectors = self.grounded_image(images).to(self.decoder.output.weight.device)
        if width == 1 and not options:
            return self.decoder.greedy(vectors, max_length)
        return self.decoder.beam(vectors, width, max_length, **options)[0]

    def save(self, folder: str | Path) -> None:
        """Write ``weights.safetensors`` and ``config.json``, whole or not at all."""
        decoder = None if self.decoder is None else self.decoder.config
        save_model(self, folder, {"look": self.look.config, "decoder": decoder} | self.settings)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The model that `save` wrote, in evaluation mode on the CPU."""
        weights, config = load_model(folder)
        look, decoder = GXNLook.from_config(config.pop("look")), config.pop("decoder")
        model = cls(look, decoder and SentenceDecoder(**decoder), **config)
        model.load_state_dict(weights)
        return model.eval()
