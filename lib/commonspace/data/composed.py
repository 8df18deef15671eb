"""What a composed query is: a source image and a sentence that says what to change ask for a target image."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, Self

import numpy as np
import torch

from commonspace.data.samples import check_pictures, row_ids


def _ids(ids: Any, name: str, n_images: int) -> torch.Tensor:
    try:
        ids = ids if isinstance(ids, torch.Tensor) else torch.as_tensor(np.asarray(ids))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be whole numbers of shape (n,), rows of images; {error}") from None
    ids = ids.long() if ids.shape == (0,) else ids
    if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise ValueError(
            f"{name} must be whole numbers of shape (n,), rows of images; got {ids.dtype} {tuple(ids.shape)}"
        )
    ids = ids.long()
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= n_images):
        raise ValueError(f"{name} runs from {int(ids.min())} to {int(ids.max())}, but there are {n_images} images")
    return ids


def numbered(*columns: Sequence[Hashable]) -> torch.Tensor:
    """Attributes as numbers, (m, len(columns)) int64: in each column 0, 1, ... in order of first appearance.

    >>> numbered(["red", "blue", "red"], ["big", None, ""]).tolist()
    [[0, 0], [1, 1], [0, 2]]
    """
    numbers = []
    for column in columns:
        known: dict[Hashable, int] = {}
        numbers.append(torch.tensor([known.setdefault(value, len(known)) for value in column]))
    return torch.stack(numbers, dim=1)


def _known(queries: "ComposedQueries | DrawnQueries") -> list[str]:
    if queries.captions is None:
        raise ValueError(
            f"{type(queries).__name__} has no captions that say all of a picture, so its queries cannot be completed; "
            "keep their modifications, or take a data set with captions, such as Scenes or MITStates"
        )
    return queries.captions


@dataclass(frozen=True, eq=False)
class ComposedQueries:
    """n queries over m pictures, each picture there once.

    ``images``: (m, 3, h, w) uint8, or a sequence that decodes lazily and is indexed by a tensor of ids; they are the
    gallery. ``source``, ``target``: (n,) int64, rows of ``images``. ``modification``: n sentences. ``relevant``: n
    lists of rows of ``images``, every right answer, the target among them and the source not (by default the target
    alone).

    ``captions``: m strings, each all that decides whether its picture is a right answer, "" where that is not known; or
    None, where the data set has none.

    A slice, ids or a mask choose *queries*; the pictures stay, so that ids keep their meaning. A subclass may add
    fields of one entry a query and, with ``field(metadata={"of_images": True})``, of one entry a picture; either may be
    None. Raises ValueError for lengths that do not match, ids out of range, an empty sentence, a target that is not
    relevant and a source that is; IndexError for a bad index.
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
        relevant = self.target[:, None].tolist() if self.relevant is None else self.relevant
        relevant = [row if isinstance(row, list) else np.atleast_1d(row).tolist() for row in relevant]
        object.__setattr__(self, "relevant", relevant)
        for f in fields(self)[1:]:
            values, of_images = getattr(self, f.name), f.metadata.get("of_images")
            n, whole, one = (len(self.images), "images", "a picture") if of_images else (len(self), "source", "a query")
            if values is not None and len(values) != n:
                raise ValueError(f"{whole} has {n} entries, {f.name} has {len(values)}: one each {one}")
        for i, text in enumerate(self.modification):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"modification[{i}] is {text!r}: every sentence must be a string with a word in it")
        self._check_relevant()

    def _check_relevant(self) -> None:
        """In arrays and not query by query: the 82,732 queries of MIT-States have two million right answers."""
        query = np.repeat(np.arange(len(self)), [len(row) for row in self.relevant])
        flat = _ids(list(chain.from_iterable(self.relevant)), "relevant", len(self.images)).numpy()
        source, target = self.source.cpu().numpy(), self.target.cpu().numpy()
        with_target = np.zeros(len(self), dtype=bool)
        with_target[query[flat == target[query]]] = True
        with_source = np.zeros(len(self), dtype=bool)
        with_source[query[flat == source[query]]] = True
        if (wrong := ~with_target | with_source).any():
            i = int(wrong.argmax())
            what = f"source {source[i]} is" if with_source[i] else f"target {target[i]} is not"
            raise ValueError(f"query {i}: {what} among its right answers {self.relevant[i][:8]}")

    def __len__(self) -> int:
        return len(self.source)

    @property
    def captions(self) -> list[str] | None:
        return None

    def completed(self) -> Self:
        """The same queries with the whole caption of the target as their text, as ComposeAE has them.

        Where the modification leaves something open, the caption does not: of the right answers those remain whose
        caption is the target's. As the caption says all of the target, such numbers are to be compared with those of
        text alone. Raises ValueError when there are no captions and when a target has none.
        """
        captions = _known(self)
        without = next((i for i, t in enumerate(self.target.tolist()) if not captions[t]), None)
        if without is not None:
            raise ValueError(
                f"query {without}: its target, picture {int(self.target[without])}, has no caption; leave such queries "
                "out before they are completed"
            )
        # In arrays, for the two million right answers of MIT-States; a list that stays whole is not copied.
        number = numbered(captions)[:, 0].numpy()
        query = np.repeat(np.arange(len(self)), [len(row) for row in self.relevant])
        flat = np.fromiter(chain.from_iterable(self.relevant), dtype=np.int64, count=len(query))
        asked = number[self.target.cpu().numpy()]
        modification, relevant = [captions[t] for t in self.target.tolist()], list(self.relevant)
        for i in np.unique(query[number[flat] != asked[query]]).tolist():
            relevant[i] = [row for row in relevant[i] if captions[row] == modification[i]]
        return replace(self, modification=modification, relevant=relevant)

    def shuffled(self, seed: int = 0) -> Self:
        """The same queries with their sentences in another order: a control, whose sentences say nothing."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).tolist()
        return replace(self, modification=[self.modification[i] for i in order])

    def __getitem__(self, rows: Any) -> Self:
        """The queries of a slice, of integer ids or of a boolean mask, over the same pictures."""
        index = row_ids(rows, len(self))
        cut = {}
        for f in fields(self)[1:]:
            values = getattr(self, f.name)
            if values is not None and not f.metadata.get("of_images"):
                take = isinstance(values, (np.ndarray, torch.Tensor))
                cut[f.name] = values[index] if take else [values[i] for i in index.tolist()]
        return replace(self, **cut)


class DrawnQueries(ABC):
    """Training queries that are drawn afresh for every epoch, from pictures with captions.

    ``images``, ``captions``: as in `ComposedQueries`. ``texts``: the sentences a vocabulary is built from. ``len()``:
    queries an epoch. A data set that draws its targets is a subclass.
    """

    images: Any
    texts: list[str]
    captions: list[str] | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def draw(self, seed: int, epoch: int) -> ComposedQueries:
        """The len(self) queries of an epoch, over ``images``: a function of (seed, epoch) alone."""

    def completed(self) -> "DrawnQueries":
        """The same draws, `ComposedQueries.completed`; ``texts`` are the captions. Raises ValueError without them."""
        return _Completed(self)


class _Completed(DrawnQueries):
    def __init__(self, drawn: DrawnQueries):
        self._drawn, self.images = drawn, drawn.images
        self.captions = _known(drawn)
        self.texts = self.captions

    def __len__(self) -> int:
        return len(self._drawn)

    def draw(self, seed: int, epoch: int) -> ComposedQueries:
        return self._drawn.draw(seed, epoch).completed()
