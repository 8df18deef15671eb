"""Composers: an image and a text that says what to change become one vector, the composed query psi.

With phi_x the image's features and phi_t the text's, both (B, d), and [ , ] one behind the other:

    ImageOnly            psi = phi_x
    TextOnly             psi = phi_t
    Concat               psi = W_2 drop(relu(bn(W_1 relu(bn([phi_x, phi_t])))))
    AttributeAsOperator  psi = T_t phi_x, a matrix for every text

`TIRG` and `ComposeAE` have files of their own, and the five that come from captioning and question answering share one
(`vqa_composers`).

The first two are what every other one must beat: one keeps everything and changes nothing, the other changes and keeps
nothing. All are built alike, ``(image_dim, text_dim, dim)``, and `ComposedRetrieval` puts any of them between encoders.

References: N. Vo, L. Jiang, C. Sun, K. Murphy, L.-J. Li, L. Fei-Fei, J. Hays, "Composing text and image for image
retrieval: an empirical odyssey", CVPR 2019 (TIRG), which compares them all; T. Nagarajan and K. Grauman, "Attributes as
operators", ECCV 2018.

DEVIATIONS
- `AttributeAsOperator`: the paper's table of matrices, one for each of a closed set of texts, is there by ``texts``.
  The default makes the matrix from phi_t, T_t = I + U(phi_t) V(phi_t)' with U and V of ``rank`` columns, so that it
  holds for a sentence never seen and for free text. Both begin as the identity: an untrained one leaves the image be.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from commonspace.models.composeae import ComposeAE
from commonspace.models.composer import Composer
from commonspace.models.tirg import TIRG
from commonspace.models.vqa_composers import MRN, FiLM, ParameterHashing, Relationship, ShowAndTell


class ImageOnly(Composer):
    """psi = phi_x: the answer looks like the source. No parameters. Raises ValueError if image_dim is not dim."""

    def __init__(self, image_dim: int, text_dim: int, dim: int):
        super().__init__(image_dim, text_dim, dim)
        self._need_same("image_dim")

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """(B, dim), (B, text_dim) -> (B, dim)."""
        return image


class TextOnly(Composer):
    """psi = phi_t: the answer has what the text names. No parameters. Raises ValueError if text_dim is not dim."""

    def __init__(self, image_dim: int, text_dim: int, dim: int):
        super().__init__(image_dim, text_dim, dim)
        self._need_same("text_dim")

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """(B, image_dim), (B, dim) -> (B, dim)."""
        return text


class Concat(Composer):
    """Both features one behind the other, through a perceptron of two layers that is as wide as they are together.

    >>> sum(p.numel() for p in Concat(512, 512, 512).parameters())
    1578496
    """

    def __init__(self, image_dim: int, text_dim: int, dim: int, dropout: float = 0.1):
        super().__init__(image_dim, text_dim, dim, dropout=dropout)
        both = image_dim + text_dim
        self.layers = nn.Sequential(
            nn.BatchNorm1d(both),
            nn.ReLU(),
            nn.Linear(both, both),
            nn.BatchNorm1d(both),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(both, dim),
        )

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """(B, image_dim), (B, text_dim) -> (B, dim)."""
        return self.layers(torch.cat([image, text], dim=1))


class AttributeAsOperator(Composer):
    """The text is a matrix that moves the image's vector: psi = T_t phi_x.

    T_t = I + U V', where U and V (dim, ``rank``) are each a linear function of phi_t. With ``texts``, a closed set of
    them (115 adjectives, say), T_t is a row of a table (n, dim, dim) instead, and the text encoder is not used; such a
    composer raises ValueError for any other text. Raises ValueError if image_dim is not dim.
    """

    def __init__(self, image_dim: int, text_dim: int, dim: int, rank: int = 32, texts: Sequence[str] | None = None):
        super().__init__(image_dim, text_dim, dim, rank=rank, texts=None if texts is None else list(texts))
        self._need_same("image_dim")
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        self.rank, self._row = rank, None
        if texts is None:
            self.u, self.v = nn.Linear(text_dim, dim * rank), nn.Linear(text_dim, dim * rank)
            nn.init.zeros_(self.v.weight)  # one factor alone: with both at 0 neither would ever get a gradient
            nn.init.zeros_(self.v.bias)
            return
        self._row = {text: i for i, text in enumerate(texts)}
        if len(self._row) != len(texts) or not texts:
            raise ValueError(f"texts must be a closed set, at least one and each once; got {len(texts)} of them")
        self.table = nn.Parameter(torch.eye(dim).repeat(len(texts), 1, 1))

    @classmethod
    def reading(cls, **settings: Any) -> str:
        return "vectors" if settings.get("texts") is None else "texts"

    def forward(self, image: Tensor, text: Tensor | Sequence[str]) -> Tensor:
        """(B, dim), and (B, text_dim) or, with a table, B strings of its texts -> (B, dim)."""
        if self._row is None:
            u, v = (part(text).unflatten(1, (self.dim, self.rank)) for part in (self.u, self.v))  # (B, dim, rank)
            return image + (u @ (v.transpose(1, 2) @ image[:, :, None]))[:, :, 0]
        if unknown := [one for one in text if one not in self._row]:
            raise ValueError(
                f"the table has no matrix for {unknown[0]!r}; it knows {', '.join(list(self._row)[:5])}..."
            )
        rows = torch.tensor([self._row[one] for one in text], device=image.device)
        return torch.einsum("bde,be->bd", self.table[rows], image)


_KINDS = (
    ImageOnly, TextOnly, Concat, AttributeAsOperator, ShowAndTell, ParameterHashing, Relationship, FiLM, MRN, TIRG,
    ComposeAE,
)  # fmt: skip
COMPOSERS = {kind.__name__: kind for kind in _KINDS}


def build_composer(config: dict[str, Any]) -> Composer:
    """A composer from the ``config`` of another: of the same make, its weights still random.

    >>> build_composer({"composer": "Concat", "image_dim": 4, "text_dim": 4, "dim": 4}).dim
    4
    """
    arguments = dict(config)
    kind = arguments.pop("composer", None)
    if kind not in COMPOSERS:
        raise ValueError(f"a composer is one of {', '.join(COMPOSERS)}; got {kind!r}")
    return COMPOSERS[kind](**arguments)
