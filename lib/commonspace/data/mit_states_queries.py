"""Queries on MIT-States: a photo of "fresh tomato" and the word "diced" ask for the photos of "diced tomato"."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from commonspace.data.composed import ComposedQueries, DrawnQueries, numbered
from commonspace.data.scene_chance import below, chance


@dataclass(frozen=True, eq=False)
class MITStatesQueries(ComposedQueries):
    """Queries whose modification is one word, the adjective asked for.

    Of the pictures: ``captions``, m strings "adjective noun"; ``attributes``, (m, 2) int64, noun and adjective as
    numbers: a right answer keeps the first and changes the second.
    """

    captions: list[str] | None = field(default=None, metadata={"of_images": True})
    attributes: torch.Tensor | None = field(default=None, metadata={"of_images": True})


def _blocks(values: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of values of which equal ones stand together: each block's first place, each value's block, each block's size."""
    first = [i for i, value in enumerate(values) if i == 0 or value != values[i - 1]]
    size = np.diff([*first, len(values)])
    return np.array(first), np.arange(len(first)).repeat(size), size


class MITStatesDraws(DrawnQueries):
    """Queries over m photos: all of them once (``queries()``), and the authors' way to draw them for training.

    ``captions``: m strings "adjective noun", sorted by noun and then adjective; they are the ``texts`` as well.
    ``release``: as in the authors' code, the adjective asked for may be the source's own. Right is then every other
    photo of the caption; their code may draw the source itself as the target, this never does. By default the adjective
    is another one, as in test queries. A noun of one adjective is never asked about.

    Raises ValueError for captions that are not so and when no noun has two adjectives.
    """

    def __init__(self, images: Any, captions: list[str], release: bool = False):
        self.images, self.release = images, release
        self.texts = self.captions = captions
        words = [tuple(reversed(caption.split())) for caption in captions]
        if any(len(one) != 2 for one in words) or words != sorted(words):
            raise ValueError('captions must be "adjective noun", sorted by noun and then adjective')
        self.attributes = numbered([noun for noun, _ in words], [adjective for _, adjective in words])
        # The photos of a caption stand together, and so do the captions of a noun.
        self._first, self._caption, self._count = _blocks(captions)
        self._adjective = [words[i][1] for i in self._first]
        start, noun, states = _blocks([words[i][0] for i in self._first])
        noun = noun[self._caption]
        # Of each photo: the first caption of its noun, how many there are, and its own place among them.
        self._base, self._states = start[noun], states[noun]
        self._own = self._caption - self._base
        self._right = [list(range(i, i + n)) for i, n in zip(self._first.tolist(), self._count.tolist(), strict=True)]
        self._asking = np.flatnonzero(self._states > 1)
        if not len(self._asking):
            raise ValueError(f"none of {len(start)} nouns is there with two adjectives: there is nothing to ask for")

    def __len__(self) -> int:
        return len(self._asking)

    def _composed(self, source: np.ndarray, caption: np.ndarray, target: np.ndarray) -> MITStatesQueries:
        relevant = [self._right[c] for c in caption.tolist()]  # one list a caption, in all of its queries
        for i in np.flatnonzero(self._caption[source] == caption).tolist():
            relevant[i] = [photo for photo in relevant[i] if photo != source[i]]
        modification = [self._adjective[c] for c in caption.tolist()]
        return MITStatesQueries(self.images, source, modification, target, relevant, self.texts, self.attributes)

    def queries(self) -> MITStatesQueries:
        """Every photo with every other adjective of its noun. The target is the first of the right answers."""
        others = self._states - 1
        source = np.arange(len(self.texts)).repeat(others)
        place = np.arange(len(source)) - (others.cumsum() - others).repeat(others)
        caption = self._base[source] + place + (place >= self._own[source])
        return self._composed(source, caption, self._first[caption])

    def draw(self, seed: int, epoch: int) -> MITStatesQueries:
        """len(self) queries, in pairs of one source (rows 0 and 1, 2 and 3, ...) and two different adjectives.

        So half of the photos are sources, other ones in every epoch. The adjectives of a noun are equally likely, and
        so are the photos of a caption. Where a noun has one other adjective alone, both rows ask for it. A function of
        (seed, epoch) alone.
        """
        row = np.arange(len(self))
        pair = row // 2
        source = self._asking[chance(seed, epoch, row, 0).argsort(kind="stable")][pair]
        # To choose from: the adjectives of the noun, without the source's own where it may not or cannot be asked for.
        without = np.logical_or(not self.release, self._count[self._caption[source]] == 1)
        choices = self._states[source] - without
        first = below(choices, seed, epoch, pair, 1).numpy()
        second = below((choices - 1).clip(min=1), seed, epoch, pair, 2).numpy()
        second = np.where(choices > 1, second + (second >= first), first)
        place = np.where(row % 2 == 0, first, second)
        caption = self._base[source] + place + (without & (place >= self._own[source]))
        same = caption == self._caption[source]
        photo = self._first[caption] + below(self._count[caption] - same, seed, epoch, row, 3).numpy()
        return self._composed(source, caption, photo + (same & (photo >= source)))
