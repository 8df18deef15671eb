"""Composed retrieval: a source image and a text that says what to change are one query, for the image changed so.

One image encoder reads sources, targets and gallery alike; a text encoder reads the modification; a composer makes one
vector of both (`models.composers`), which is trained to lie nearest to the target's vector. With h the linear layer
behind the pooled map, s a learned number and k the dot product,

    phi_x = h(pool(f_img(x))),   psi = composer(phi_x, f_text(t)),   k(psi, phi) = s psi/|psi| . s phi/|phi|

and the loss lets each query pick its own target among those of the batch (`losses.softmax`): all of them at once
("batch_softmax", K = B), or one against one ("soft_triplet", K = 2).

Reference: N. Vo, L. Jiang, C. Sun, K. Murphy, L.-J. Li, L. Fei-Fei, J. Hays, "Composing text and image for image
retrieval: an empirical odyssey", CVPR 2019, section 3.

DEVIATIONS
- The learned scale s, 4 at the start, is the released code's; the paper does not mention it.
- ``form="release"``: the soft triplet of the released code instead of the paper's, see `losses.softmax`.
- ``grid``: 1 is the paper's pooling, the mean over the whole map. A larger one takes the means over grid x grid cells,
  one behind the other, and so keeps where things are.
- Sources and targets of a batch pass the image encoder together, so BatchNorm sees both; the released code calls twice.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commonspace.encoders import ScaledUnitNorm, build_encoder
from commonspace.losses import batch_softmax_loss, soft_triplet_loss
from commonspace.models.composers import Composer, build_composer
from commonspace.training.checkpoint import load_model, save_model

READS = ("vectors", "map", "layers", "words", "texts")


class ComposedRetrieval(nn.Module):
    """An image encoder, a text encoder and any composer between them.

    ``image_encoder`` gives a map (``feature_map=True``), or vectors if the composer reads no map. ``text_encoder``
    gives (B, composer.text_dim); ``Sequence(encoder, MLP([k, text_dim]))`` makes any of them do so. ``composer`` says
    what it ``reads`` (see `Composer`): a new one is a subclass, listed in ``COMPOSERS`` so that a saved model finds it
    again. ``scale``: s above. ``loss``, ``form``: see above.

    Raises ValueError for parts whose widths do not fit each other.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        composer: Composer,
        scale: float = 4.0,
        grid: int = 1,
        loss: Literal["batch_softmax", "soft_triplet"] = "batch_softmax",
        form: Literal["paper", "release"] = "paper",
    ):
        super().__init__()
        has_map = getattr(image_encoder, "feature_map", False)
        of_map = composer.reads in ("map", "layers")
        if composer.reads not in READS:
            raise ValueError(
                f"a composer reads one of {', '.join(READS)}; {type(composer).__name__} {composer.reads!r}"
            )
        if grid < 1 or (not has_map and (of_map or grid > 1)):
            raise ValueError(
                f"grid={grid} and a composer that reads {composer.reads!r}: grid must be at least 1, and one above 1, "
                "or a composer of the map, needs an image encoder made with feature_map=True"
            )
        given = image_encoder.out_dim if of_map else composer.dim
        if composer.image_dim != given:
            raise ValueError(
                f"{type(composer).__name__} takes images of {composer.image_dim} numbers, but gets {given}"
            )
        words = composer.reads == "words"
        if words and not hasattr(text_encoder, "embedding"):
            raise ValueError(
                f"{type(composer).__name__} reads a sentence word by word: it needs an LSTM or GRU as text encoder; "
                f"got {type(text_encoder).__name__}"
            )
        given = text_encoder.embedding.embedding_dim if words else text_encoder.out_dim
        if composer.text_dim != given and composer.reads != "texts":
            raise ValueError(
                f"{type(composer).__name__} takes texts of {composer.text_dim} numbers, but gets {given}: put an MLP "
                "behind the text encoder, or change its out_dim"
            )
        if loss not in ("batch_softmax", "soft_triplet") or form not in ("paper", "release"):
            raise ValueError(
                f"loss is 'batch_softmax' or 'soft_triplet', form 'paper' or 'release'; got {loss!r}, {form!r}"
            )
        self.image_encoder, self.text_encoder, self.composer = image_encoder, text_encoder, composer
        self.image_head = nn.Linear(image_encoder.out_dim * grid**2, composer.dim)
        self.unit = ScaledUnitNorm(scale)
        self.settings = {"scale": scale, "grid": grid, "loss": loss, "form": form}

    # ---- from pictures and texts to vectors, step by step ----

    def read(self, images: Tensor) -> Tensor:
        """What the composer reads of pictures (B, 3, h, w): vectors (B, dim), the map, or the pictures themselves."""
        if self.composer.reads == "layers":
            return images
        features = self.image_encoder(images)
        return features if self.composer.reads == "map" else self._pooled(features)

    def vector(self, read: Tensor) -> Tensor:
        """phi of pictures that were `read`: (B, dim), of any length."""
        if self.composer.reads == "layers":
            read = self.image_encoder(read)
        return self._pooled(read) if self.composer.reads in ("map", "layers") else read

    def compose(self, read: Tensor, texts: Sequence[str]) -> Tensor:
        """psi of source pictures that were `read`, and of one text each: (B, dim), of any length."""
        return self._composed(read, self._text(texts))

    def _composed(self, read: Tensor, text: Any) -> Tensor:
        psi = self.composer((self.image_encoder, read) if self.composer.reads == "layers" else read, text)
        return psi if psi.ndim == 2 else self._pooled(psi)

    def _text(self, texts: Sequence[str]) -> Any:
        if self.composer.reads == "texts":
            return texts
        if self.composer.reads == "words":
            ids, mask = self.text_encoder.tokens(texts)
            return self.text_encoder.embedding(ids), mask
        return self.text_encoder(texts)

    def _pooled(self, features: Tensor) -> Tensor:
        if features.ndim == 4:
            features = F.adaptive_avg_pool2d(features, self.settings["grid"]).flatten(1)
        return self.image_head(features)

    # ---- training ----

    def losses(
        self,
        source_images: Any,
        modifications: Sequence[str],
        target_images: Any,
        source: Tensor | None = None,
        same: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] | None = None,
        same_source: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Of a batch of B queries: ``loss``; ``accuracy``, the share of them whose own target lies nearest; ``scale``.

        If the composer has further terms (`Composer.auxiliary`), each is there under its name, before its weight, and
        the loss of retrieval alone as ``base``; ``loss`` is ``base`` and the terms times their weights.

        ``source`` (B,): which of ``source_images`` each query starts from, where several share one, which is then
        encoded once; else query i has source_images[i]. ``target_images`` (B, ...). ``same`` (G, G) bool: which other
        targets are right answers too, and no negatives. ``gather`` brings the queries and targets of all processes
        together (`training.all_gather`); G counts all of theirs. ``same_source`` (G, G) bool: which queries start from
        one picture, for terms that search for sources; None: those of one process that share a row of ``source``.
        """
        gather = gather or (lambda rows: rows)
        n = len(source_images)
        read = self.read(torch.cat([source_images, target_images]))
        image, text = read[:n] if source is None else read[source], self._text(modifications)
        composed = self._composed(image, text)
        psi, target = gather(self.unit(composed)), gather(self.unit(self.vector(read[n:])))
        base = self._retrieval(psi, target, same, gather)

        def find_sources(query: Tensor) -> Tensor:
            back = self.unit(query if query.ndim == 2 else self._pooled(query))
            twins = _sharing(source, gather) if same_source is None else same_source
            return self._retrieval(gather(back), gather(self.unit(self.vector(image))), twins, gather)

        terms = self.composer.auxiliary(composed, image, text, read[n:], find_sources)
        found = {name: term for name, (_, term) in terms.items()} | ({"base": base} if terms else {})
        with torch.no_grad():
            hit = (psi @ target.T).argmax(dim=1) == torch.arange(len(psi), device=psi.device)
        loss = base + sum(weight * term for weight, term in terms.values())
        return found | {"loss": loss, "accuracy": hit.float().mean(), "scale": self.unit.scale.detach()}

    def _retrieval(
        self, query: Tensor, target: Tensor, same: Tensor | None, gather: Callable[[Tensor], Tensor]
    ) -> Tensor:
        if self.settings["loss"] == "batch_softmax":
            return batch_softmax_loss(query, target, same=same)
        return soft_triplet_loss(query, target, self.settings["form"], same=same, generator=self._dice(gather))

    def _dice(self, gather: Callable[[Tensor], Tensor]) -> torch.Generator | None:
        """For the release's negatives: all processes must draw the same, so they take the seed of the first."""
        if self.settings["form"] != "release":
            return None
        drawn = torch.randint(2**31, (1,), device=self.unit.scale.device)
        return torch.Generator().manual_seed(int(gather(drawn)[0]))

    # ---- use ----

    def embed_image(self, images: Any) -> Tensor:
        """Pictures -> unit rows (n, dim) float32 on the CPU: dot products with queries are cosines."""
        return self._embed(lambda rows: self.vector(self.read(self._here(images[rows]))), len(images))

    def embed_query(self, images: Any, texts: Sequence[str]) -> Tensor:
        """n source pictures, n texts -> unit rows (n, dim) float32 on the CPU."""
        if len(images) != len(texts):
            raise ValueError(f"there are {len(images)} source pictures for {len(texts)} texts; a query has one of each")
        return self._embed(lambda rows: self.compose(self.read(self._here(images[rows])), texts[rows]), len(texts))

    def embed_all(self, images: Any, source: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Queries (n, dim) and gallery (m, dim), as `embed_query` and `embed_image` give them, each picture read ONCE.

        ``images``: m pictures. ``source``: (n,) rows of them, ``texts``: n strings. Queries are taken in the order of
        their sources, so that no more than one block of maps is held.
        """
        order, (n, m) = torch.as_tensor(source).argsort(stable=True), (len(texts), len(images))
        sorted_source = torch.as_tensor(source)[order].contiguous()
        queries = torch.empty(n, self.composer.dim)

        def block(rows: slice) -> Tensor:
            read = self.read(self._here(images[rows]))
            first, last = torch.searchsorted(sorted_source, torch.tensor([rows.start, rows.stop])).tolist()
            for mine in order[first:last].split(512) if first < last else ():
                psi = self.compose(read[source[mine].to(read.device) - rows.start], [texts[i] for i in mine.tolist()])
                queries[mine] = F.normalize(psi.float(), dim=1).cpu()
            return self.vector(read)

        gallery = self._embed(block, m)
        return queries, gallery

    def _here(self, images: Tensor) -> Tensor:
        return images.to(self.unit.scale.device)

    @torch.no_grad()
    def _embed(self, rows_to_vectors: Callable[[slice], Tensor], n: int, batch_size: int = 512) -> Tensor:
        """Unit rows of all n items, block by block, in evaluation mode; the model's mode is put back."""
        if n == 0:
            raise ValueError("there is nothing to embed: the number of items is 0")
        was_training = self.training
        self.eval()
        try:
            blocks = (slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size))
            return torch.cat([F.normalize(rows_to_vectors(rows).float(), dim=1).cpu() for rows in blocks])
        finally:
            self.train(was_training)

    def save(self, folder: str | Path) -> None:
        """Write ``weights.safetensors`` and ``config.json``, whole or not at all."""
        parts = {name: getattr(self, name).config for name in ("image_encoder", "text_encoder", "composer")}
        save_model(self, folder, parts | self.settings)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The model that `save` wrote, in evaluation mode on the CPU."""
        weights, config = load_model(folder)
        encoders = [build_encoder(config.pop(name)) for name in ("image_encoder", "text_encoder")]
        model = cls(*encoders, build_composer(config.pop("composer")), **config)
        model.load_state_dict(weights)
        return model.eval()


def _sharing(source: Tensor | None, gather: Callable[[Tensor], Tensor]) -> Tensor | None:
    """(B,) rows of each process's own pictures -> (G, G) bool: which queries are of one process and of one row."""
    if source is None:
        return None
    sizes = gather(torch.tensor([len(source)], device=source.device))
    process = torch.arange(len(sizes), device=source.device).repeat_interleave(sizes)
    source = gather(source)
    return (process[:, None] == process) & (source[:, None] == source)
