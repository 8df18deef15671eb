"""Look, write and paint: GXN's embedding, a decoder that writes the sentence from the picture's grounded vector, and a
painter that paints the picture from the sentence's.

A vector that is only compared may forget whatever does not tell a batch's pictures apart. One from which the sentence,
or the picture, can be made again may not. So all train the encoders: with v_l, t_l the grounded vectors of a pair,

    L = L_R+ (i, c)  +  write_weight L_xe (c | v_l)  +  paint_weight L_G (i | t_l)

L_G is the loss of the painter, whose judge is trained in steps of its own: see `gxn_paint`.

Cross-entropy shows the decoder true sentences alone, and asks for their next word. Reinforcement lets it write, as it
will have to, and asks how good the whole sentence is: with r the reward of a sentence, c' one that was drawn from p
and b a baseline,

    L_rl (i) = - E [ (r(c') - b) log p(c' | v_l) ],    L_xe+rl = (1 - gamma) L_xe + gamma L_rl,

L_xe+rl in place of L_xe, once that has taught the decoder enough to write something worth a reward.

Generators are for training; a search needs `embed_image` and `embed_text` alone. Without decoder and painter this is
`GXNLook`; without the ranking (``rank=False``) it writes captions, or paints them.

Reference: J. Gu, J. Cai, S. Joty, L. Niu, G. Wang, "Look, imagine and match: improving textual-visual cross-modal
retrieval with generative models", CVPR 2018.

DEVIATIONS
- Which v_l the decoder reads, and which t_l the painter, is not said: here the vector that is matched, of length 1, so
  that what is asked of them shapes what is searched. ``pre_norm=True``: the linear head's output.
- The losses are minimised together, in one step, the judge's in another; GXN's algorithm takes its paths one after the
  other.
- The decoder has a word table of its own.
- What b is, and how many sentences are drawn, is not said. Here, after self-critical training: five, and the reward of
  the greedy sentence, written as in use: in evaluation mode, without dropout. ``baseline="others"``: the mean reward of
  the other sentences drawn for the same picture.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from commonspace.losses import leave_one_out, reinforce_loss
from commonspace.models._embed import embed
from commonspace.models.gxn_look import GXNLook, check_batch
from commonspace.models.gxn_paint import GXNPaint
from commonspace.models.sentence_decoder import SentenceDecoder
from commonspace.training.checkpoint import load_model, save_model

Reward = Callable[[list[str], Tensor, Tensor], Tensor]  # sentences, the row of the picture of each, which have ended
BASELINES = ("greedy", "others")


class GXN(nn.Module):
    """The embedding ``look``; ``decoder``, which reads what of an image is grounded, and ``painter``, which reads what
    of a sentence is (None: there is none).

    ``write_weight``, ``paint_weight`` > 0: of L_xe and L_G. ``rank=False``: these alone. ``pre_norm``: see DEVIATIONS.
    Where ``look`` has abstract vectors alone, both read these. Raises ValueError for parts that do not fit and where
    there is nothing to learn.
    """

    def __init__(
        self,
        look: GXNLook,
        decoder: SentenceDecoder | None = None,
        write_weight: float = 1.0,
        rank: bool = True,
        pre_norm: bool = False,
        painter: GXNPaint | None = None,
        paint_weight: float = 1.0,
    ):
        super().__init__()
        dim = look.image_heads[-1].out_features
        if decoder is not None and decoder.image_dim != dim:
            raise ValueError(f"the decoder reads {decoder.image_dim} numbers of a picture, look gives {dim}: set both")
        if painter is not None and painter.config["text_dim"] != dim:
            raise ValueError(
                f"the painter reads {painter.config['text_dim']} numbers of a sentence, look gives {dim}: set text_dim"
            )
        for name, weight, without in (
            ("write_weight", write_weight, "decoder"),
            ("paint_weight", paint_weight, "painter"),
        ):
            if not 0 < weight < float("inf"):
                raise ValueError(f"{name} must be a number above 0, got {weight!r}; {without}=None is without")
        if decoder is None and painter is None and not rank:
            raise ValueError("without a decoder or a painter and with rank=False there is nothing to learn")
        self.look, self.decoder, self.painter = look, decoder, painter
        self.settings = {
            "write_weight": float(write_weight),
            "rank": rank,
            "pre_norm": pre_norm,
            "paint_weight": float(paint_weight),
        }

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The weights that are trained against each other: ``judge``, the painter's, and ``model``, all others."""
        judge = [] if self.painter is None else self.painter.players()["judge"]
        of_judge = {id(p) for p in judge}
        return {"model": [p for p in self.parameters() if id(p) not in of_judge], "judge": judge}

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
        ``cross_entropy`` (L_xe [nats a token]) and ``token_accuracy``; of the painter ``game`` and ``kl``. Arguments as
        those of `GXNLook.losses`.
        """
        return self._losses(images, texts, image_id, gather, mining)

    def reward_losses(
        self,
        images: Any,
        texts: Sequence[str],
        reward: Reward,
        gamma: float = 0.9,
        samples: int = 5,
        baseline: Literal["greedy", "others"] = "greedy",
        image_id: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] | None = None,
        mining: Literal["all", "hardest"] | None = None,
        max_length: int = 30,
        per: Literal["token", "sentence"] = "token",
    ) -> dict[str, Tensor]:
        """`losses` with L_xe+rl in place of L_xe: of B pairs, ``samples`` sentences are drawn for each picture.

        ``reward(sentences, rows, ended)``: for N sentences (N,) numbers, the more the better; ``rows`` (N,) int64 says
        for which of the B pictures each was written, ``ended`` (N,) bool which have come to an end and were not cut at
        ``max_length`` tokens. ``gamma`` in [0, 1]: of L_rl, 1 - gamma of L_xe. ``per``: see `losses.reinforce_loss`.
        The others as those of `losses`. Sentences are drawn with dropout where the decoder is in training mode.

        Beside the scalars of `losses`: ``reinforce`` (L_rl), and the means ``reward``, of what was drawn, and
        ``baseline``. Raises ValueError without a decoder, for gamma or ``baseline`` outside of what they may be, and
        for "others" with one sentence of each picture.
        """
        if not 0 <= gamma <= 1 or baseline not in BASELINES:
            raise ValueError(f"gamma must be in [0, 1] and baseline one of {BASELINES}; got {gamma!r} and {baseline!r}")
        if baseline == "others" and samples < 2:
            raise ValueError(f"samples={samples} leaves no others: draw two or more, or take baseline='greedy'")
        decoder = self._writer()

        def earned(sentences: list[str], rows: Tensor) -> Tensor:
            ended = torch.tensor([len(sentence.split()) < max_length for sentence in sentences])
            return torch.as_tensor(reward(sentences, rows, ended))

        def reinforce(vectors: Tensor) -> dict[str, Tensor]:
            drawn, log_probs, counts = decoder.sample(vectors, max_length, n=samples, dropout=decoder.training)
            each = torch.arange(len(vectors))
            own = earned(drawn, each.repeat_interleave(samples))
            if baseline == "others":
                other = leave_one_out(own, samples)
            else:
                other = earned(self.write(images, 1, max_length), each).repeat_interleave(samples)
            loss = reinforce_loss(log_probs, counts, own, other, per, gather)
            return {"reinforce": loss, "reward": own.mean(), "baseline": other.mean()}

        return self._losses(images, texts, image_id, gather, mining, gamma, reinforce)

    def _losses(
        self,
        images: Any,
        texts: Sequence[str],
        image_id: Tensor | None,
        gather: Callable[[Tensor], Tensor] | None,
        mining: Literal["all", "hardest"] | None,
        gamma: float = 0.0,
        reinforce: Callable[[Tensor], dict[str, Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """``reinforce``: what the decoder reads of the pictures -> what L_rl is, and more to tell."""
        check_batch(images, texts, image_id)
        found: dict[str, Tensor] = {}
        loss = 0.0
        if self.settings["rank"] or self.decoder is not None:
            heads = self.look.image_heads_of(images)
            vectors = self.look.place(heads)
        if self.settings["rank"] or self.painter is not None:
            text_heads = self.look.text_heads_of(texts)
            text_vectors = self.look.place_texts(text_heads)
        if self.settings["rank"]:
            ranked = self.look.rank_losses(vectors, text_vectors, image_id, gather, mining)
            found |= {"rank": ranked["loss"], "accuracy": ranked["accuracy"]}
            loss = ranked["loss"]
        if self.painter is not None:
            painted = self.painter.painter_losses(self._grounded(text_heads, text_vectors))
            found |= {name: value for name, value in painted.items() if name != "loss"}
            loss = loss + self.settings["paint_weight"] * painted["loss"]
        if self.decoder is not None:
            read = self._grounded(heads, vectors)
            written = self.decoder.losses(read, texts, gather)
            found |= {"cross_entropy": written["loss"], "token_accuracy": written["accuracy"]}
            mixed = written["loss"]
            if reinforce is not None:
                found |= reinforce(read)
                mixed = (1 - gamma) * mixed + gamma * found["reinforce"]
            loss = loss + self.settings["write_weight"] * mixed
        return {"loss": loss} | found

    def judge_losses(self, images: Tensor, texts: Sequence[str], wrong_texts: Sequence[str]) -> dict[str, Tensor]:
        """The loss of the painter's judge, see `GXNPaint.judge_losses`: of B uint8 pictures, their sentences and as
        many that are not of them. It reaches the judge's weights alone. Raises ValueError without a painter."""
        return self._the_painter().judge_losses(images, self._grounded_text(texts), self._grounded_text(wrong_texts))

    @torch.no_grad()
    def _grounded_text(self, texts: Sequence[str]) -> Tensor:
        heads = self.look.text_heads_of(texts)
        return self._grounded(heads, self.look.place_texts(heads))

    def _the_painter(self) -> GXNPaint:
        if self.painter is None:
            raise ValueError("this model has no painter: train one with paths='paint' or 'look+paint'")
        return self.painter

    def _writer(self) -> SentenceDecoder:
        if self.decoder is None:
            raise ValueError("this model has no decoder, so it cannot write: train one with paths='look+write'")
        return self.decoder

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

    def grounded_text(self, texts: Sequence[str]) -> Tensor:
        """n sentences -> what the painter reads of them, (n, dim) float32 on the CPU."""
        return embed(self.look, texts, call=self._grounded_text)

    def paint(self, texts: Sequence[str], generator: torch.Generator | None = None) -> Tensor:
        """A picture for each of n sentences, uint8 (n, 3, height, width) on the CPU, see `GXNPaint.paint`.

        Raises ValueError without a painter."""
        return self._the_painter().paint(self.grounded_text(texts), generator)

    def write(self, images: Any, width: int = 1, max_length: int = 30, **options: Any) -> list[str]:
        """A sentence for each of n images: the greedy one, or by beam search of that ``width``.

        ``max_length`` in tokens, the end among them; ``options`` of `SentenceDecoder.beam`. Raises ValueError without
        a decoder.
        """
        decoder = self._writer()
        vectors = self.grounded_image(images).to(decoder.output.weight)  # its device and precision
        if width == 1 and not options:
            return decoder.greedy(vectors, max_length)
        return decoder.beam(vectors, width, max_length, **options)[0]

    def save(self, folder: str | Path) -> None:
        """Write ``weights.safetensors`` and ``config.json``, whole or not at all."""
        decoder = None if self.decoder is None else self.decoder.config
        painter = None if self.painter is None else self.painter.config
        parts = {"look": self.look.config, "decoder": decoder, "painter": painter}
        save_model(self, folder, parts | self.settings)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The model that `save` wrote, in evaluation mode on the CPU."""
        weights, config = load_model(folder)
        look, decoder = GXNLook.from_config(config.pop("look")), config.pop("decoder")
        painter = config.pop("painter", None)
        model = cls(look, decoder and SentenceDecoder(**decoder), painter=painter and GXNPaint(**painter), **config)
        model.load_state_dict(weights)
        return model.eval()
