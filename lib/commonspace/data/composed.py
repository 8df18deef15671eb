"""What a composed query is: a source image and a sentence that says what to change ask for a target image."""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch

from commonspace.data.samples import check_pictures


def _ids(ids: Any, name: str, n_images: int) -> torch.Tensor:
    ids = torch.as_tensor(np.asarray(ids))
    if ids.ndim != 1 or ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(
            f"{name} must be whole numbers of shape (n,), rows of images; got {ids.dtype} {tuple(ids.shape)}"
        )
    ids = ids.long()
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= n_images):
        raise ValueError(f"{name} runs from {int(ids.min())} to {int(ids.max())}, but there are {n_images} images")
    return ids


@dataclass(frozen=True, eq=False)
class ComposedQueries:
    """n queries over m pictures, each picture there once.

    ``images``: (m, 3, h, w) uint8, or a sequence that decodes lazily and is indexed by a tensor of ids; they are the
    gallery. ``source``, ``target``: (n,) int64, rows of ``images``. ``modification``: n sentences. ``relevant``: n
    lists of rows of ``images``, every right answer, the target among them and the source not (by default the target
    alone).

    A slice, ids or a mask choose *queries*; the pictures stay, so that ids keep their meaning. Raises ValueError for
    lengths that do not match, ids out of range, an empty sentence, a target that is not relevant and a source that is.
    """

    images: Any
    source: torch.Tensor
    modification: list[str]
    target: torch.Tensor
    relevant: list[list[int]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", check_pictures(self.images))
        for name in ("source", "target"):
            object.__setattr__(self, name, _ids(getattr(self, name), name, len(self.images)))
        if self.relevant is None:
            object.__setattr__(self, "relevant", [[i] for i in self.target.tolist()])
        n = len(self.source)
        for name in ("modification", "target", "relevant"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"source has {n} entries, {name} has {len(getattr(self, name))}: one each a query")
        for i, text in enumerate(self.modification):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"modification[{i}] is {text!r}: every sentence must be a string with a word in it")
        rows = zip(self.source.tolist(), self.target.tolist(), self.relevant, strict=True)
        for i, (source, target, relevant) in enumerate(rows):
            if target not in relevant or source in relevant:
                what = f"target {target} is not" if target not in relevant else f"source {source} is"
                raise ValueError(f"query {i}: {what} among its right answers {list(relevant)[:8]}")
            if min(relevant) < 0 or max(relevant) >= len(self.images):
                raise ValueError(f"query {i}: right answers {list(relevant)[:8]} for {len(self.images)} images")

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Any) -> Self:
        """The queries of a slice, of integer ids or of a boolean mask, over the same pictures."""
        index = torch.arange(len(self))[rows if isinstance(rows, slice) else torch.as_tensor(np.asarray(rows))]
        if index.ndim == 0:
            raise IndexError(f"index one query with a list, data[[{rows}]]: a container always holds rows")
        cut = {}
        for f in fields(self):
            values = getattr(self, f.name)
            if f.name == "images" or not f.init or f.metadata.get("of_images"):
                continue
            cut[f.name] = values[index] if isinstance(values, torch.Tensor) else [values[i] for i in index.tolist()]
        return replace(self, **cut)
