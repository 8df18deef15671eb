"""What a sample is: pairs of feature rows, pairs of pictures and texts.

Rows are pairs: row ``i`` of the image side and row ``i`` of the text side belong together. Every container can be
indexed by a slice, by ids or by a boolean mask, and gives back the same type.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch


def per_row(**kwargs: Any) -> Any:
    """A dataclass field with one entry a row: it is cut when the container is indexed."""
    return field(metadata={"per_row": True}, **kwargs)


def _take(values: Any, index: Any) -> Any:
    if values is None:
        return None
    if isinstance(values, (list, tuple)):
        return [values[i] for i in index.tolist()]
    return values[index]


def row_ids(rows: Any, n: int) -> torch.Tensor:
    """A slice, integer ids or a boolean mask as ids of rows, (k,) int64 in 0..n - 1. Raises IndexError."""
    if isinstance(rows, slice):
        return torch.tensor(range(n)[rows], dtype=torch.long)
    index = torch.as_tensor(np.asarray(rows))
    if index.ndim == 0:
        raise IndexError(f"index one row with a list, data[[{rows}]]: a container always holds rows")
    if index.dtype == torch.bool:
        if len(index) != n:
            raise IndexError(f"the mask has {len(index)} entries for {n} rows")
        index = index.nonzero()[:, 0]
    elif index.numel() == 0:
        index = index.long()
    elif index.is_floating_point():
        raise IndexError(f"rows are chosen by a slice, by integer ids or by a boolean mask, not by {index.dtype}")
    if index.numel() and (int(index.min()) < -n or int(index.max()) >= n):
        raise IndexError(f"ids run from {int(index.min())} to {int(index.max())}, but there are {n} rows")
    return torch.where(index < 0, index + n, index)


class _Rows:
    """Length, indexing and the checks shared by every container of rows."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def __getitem__(self, rows: Any):
        """The same container with the rows of a slice, of integer ids or of a boolean mask."""
        index = row_ids(rows, len(self))
        cut = {f.name: _take(getattr(self, f.name), index) for f in fields(self) if f.metadata.get("per_row")}
        return replace(self, **cut)

    def _check_rows(self) -> None:
        n = len(self)
        for f in fields(self):
            values = getattr(self, f.name)
            if f.metadata.get("per_row") and values is not None and len(values) != n:
                raise ValueError(
                    f"{type(self).__name__}: {fields(self)[0].name} has {n} rows, {f.name} has {len(values)}; "
                    "row i of each must describe the same pair"
                )


def _features(x: Any, name: str) -> torch.Tensor:
    x = torch.as_tensor(x)
    if x.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d), one row a sample; got {tuple(x.shape)}")
    x = x.to(torch.float32)
    if not torch.isfinite(x).all():
        bad = (~torch.isfinite(x)).any(dim=1).nonzero()[:, 0]
        raise ValueError(f"{name} has NaN or infinite values in {len(bad)} row(s), the first is row {int(bad[0])}")
    return x


def _label(label: Any, classes: Any) -> torch.Tensor | None:
    if label is None:
        return None
    label = torch.as_tensor(label)
    if label.ndim == 2 and label.dtype == torch.bool:  # several labels a row
        if classes is not None and label.shape[1] != len(classes):
            raise ValueError(f"label has {label.shape[1]} columns for {len(classes)} class names")
        return label
    if label.ndim != 1 or label.is_floating_point() or label.dtype == torch.bool:
        raise ValueError(
            f"label must be integers of shape (n,), or booleans of shape (n, classes); "
            f"got {label.dtype} of shape {tuple(label.shape)}"
        )
    label = label.long()
    if classes is not None and label.numel() and (int(label.min()) < 0 or int(label.max()) >= len(classes)):
        raise ValueError(
            f"labels run from {int(label.min())} to {int(label.max())}, but there are {len(classes)} class names: "
            f"a label is a 0-based position in classes"
        )
    return label


def check_pictures(images: Any) -> Any:
    """Pictures in memory as a tensor (n, 3, h, w) uint8; a sequence that decodes lazily stays. Raises ValueError.

    So do rows of features, (n, d) floats: what an encoder made of the pictures.
    """
    if not isinstance(images, (np.ndarray, torch.Tensor)):
        return images
    images = torch.as_tensor(images)
    if images.ndim == 2 and images.is_floating_point():
        return images
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
        raise ValueError(
            f"images must be uint8 of shape (n, 3, h, w), or features, floats of shape (n, d); "
            f"got {images.dtype} of shape {tuple(images.shape)}"
        )
    return images


@dataclass(frozen=True, eq=False)
class PairedFeatures(_Rows):
    """Pairs of feature vectors.

    ``image``: (n, dv) float32. ``text``: (n, dt) float32. ``label``: (n,) int64, or (n, c) bool where a row may have
    several; ``classes``: their names. Raises ValueError when the rows do not match or a value is not finite.
    """

    image: torch.Tensor = per_row()
    text: torch.Tensor = per_row()
    label: torch.Tensor | None = per_row(default=None)
    classes: list[str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", _features(self.image, "image"))
        object.__setattr__(self, "text", _features(self.text, "text"))
        object.__setattr__(self, "label", _label(self.label, self.classes))
        self._check_rows()


@dataclass(frozen=True, eq=False)
class PairedSamples(_Rows):
    """Pairs of a picture and its text.

    ``images``: (n, 3, h, w) uint8, or a sequence that decodes lazily and is indexed by a tensor of ids; or feature rows
    of the pictures, (n, d) floats or such a sequence. ``texts``: n strings, or n lists of captions. ``label``,
    ``classes``: as in `PairedFeatures`.
    """

    images: Any = per_row()
    texts: list = per_row()
    label: torch.Tensor | None = per_row(default=None)
    classes: list[str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", check_pictures(self.images))
        for i, text in enumerate(self.texts):
            captions = [text] if isinstance(text, str) else text
            if (
                not isinstance(captions, (list, tuple))
                or not captions
                or not all(isinstance(caption, str) and caption.strip() for caption in captions)
            ):
                raise ValueError(f"texts[{i}] is {text!r}; a text is a string with a word in it, or a list of such")
        object.__setattr__(self, "label", _label(self.label, self.classes))
        self._check_rows()
