"""What every composer is: an image and a text that says what to change become one vector, the composed query psi."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Composer(nn.Module):
    """What the composers have in common: sizes, a ``config`` that builds them again, and what they read.

    ``image_dim``, ``text_dim``: widths of what comes in. ``dim``: width of the composed query. ``reads`` says in which
    form `ComposedRetrieval` hands image and text over:

    - "vectors": (B, image_dim), (B, text_dim);
    - "map":     the image encoder's last map (B, image_dim, h, w), before it is pooled, and (B, text_dim);
    - "layers":  the pair (image encoder, pictures (B, 3, h, w)), and (B, text_dim): to change what its layers do;
    - "words":   (B, image_dim), and the pair (word vectors (B, T, text_dim), which are words (B, T) bool);
    - "texts":   (B, image_dim), and B strings.

    What comes out is psi (B, dim), or a map (B, channels of the encoder, h, w), which then goes the way of a target's:
    the same pooling, the same linear layer. A new composer is a subclass that sets ``reads``, or overrides `reading`
    where that hangs on its settings, and is added to `models.composers.COMPOSERS`, so that a saved one is found again.
    """

    reads = "vectors"

    def __init__(self, image_dim: int, text_dim: int, dim: int, **settings: Any):
        super().__init__()
        if min(image_dim, text_dim, dim) < 1:
            raise ValueError(f"image_dim, text_dim and dim must be at least 1; got {image_dim}, {text_dim} and {dim}")
        self.image_dim, self.text_dim, self.dim = int(image_dim), int(text_dim), int(dim)
        self.reads = self.reading(**settings)
        sizes = {"image_dim": self.image_dim, "text_dim": self.text_dim, "dim": self.dim}
        self.config = {"composer": type(self).__name__} | sizes | settings

    @classmethod
    def reading(cls, **settings: Any) -> str:
        """What a composer made with these settings will read: it decides which ``image_dim`` it needs."""
        return cls.reads

    def auxiliary(
        self, composed: Tensor, image: Any, text: Any, target: Any, find_sources: Callable[[Tensor], Tensor]
    ) -> dict[str, tuple[float, Tensor]]:
        """What is minimised besides the retrieval loss: by name a weight, and a scalar before it. Here nothing.

        ``composed``: psi (B, dim), of any length. ``image``, ``text``, ``target``: sources, texts and target pictures
        in the form that the composer reads. ``find_sources`` takes further queries, B of what `forward` gives, and
        returns the retrieval loss of a search in which query i should find source i, among all of the global batch.
        """
        return {}

    def _need_same(self, name: str) -> None:
        if (width := getattr(self, name)) != self.dim:
            raise ValueError(f"{type(self).__name__} keeps the width: {name}={width} must equal dim={self.dim}")
