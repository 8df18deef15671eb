"""Composed queries on Fashion200k: drawn for training (`Fashion200kTraining`), listed for the test."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from commonspace.data.composed import ComposedQueries, DrawnQueries
from commonspace.data.fashion200k_captions import CaptionPairs, first_difference, one_word_apart, sentence


@dataclass(frozen=True, eq=False)
class Fashion200kQueries(ComposedQueries):
    """Composed queries on Fashion200k. ``captions``: m strings, one a picture."""

    captions: list[str] | None = field(default=None, metadata={"of_images": True})


class Fashion200kTraining(DrawnQueries):
    """Training queries: every epoch, each picture is a source, and its target is drawn (`CaptionPairs.draw`).

    A picture that cannot be one, since no caption differs from its own in one word, gives its turn to another, drawn
    from those that can, ``can``: (n,) bool. ``texts``: the captions, of which the papers' vocabulary is made.
    """

    def __init__(self, images: Any, captions: list[str], release: bool = False, text: str = "release"):
        self.images, self.text = images, text
        self.texts = self.captions = captions
        distinct = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
        self.pairs = CaptionPairs(list(distinct), release)
        self._caption = np.array([distinct[caption] for caption in captions])
        self._rows = np.argsort(self._caption, kind="stable")
        count = np.bincount(self._caption)
        self._of = [rows.tolist() for rows in np.split(self._rows, count.cumsum()[:-1])]
        self._first, self._count = count.cumsum() - count, count
        self.can = self.pairs.can[self._caption]

    def __len__(self) -> int:
        return len(self.texts)

    def draw(self, seed: int, epoch: int) -> Fashion200kQueries:
        """One query a picture; a function of (seed, epoch, index). 172,000 take half a second."""
        chance = np.random.default_rng([seed, epoch]).random((4, len(self)))
        able = np.flatnonzero(self.can)
        source = np.where(self.can, np.arange(len(self)), able[(chance[0] * len(able)).astype(np.int64)])
        ask, answer = self.pairs.draw(self._caption[source], chance[1:3])
        caption = self.pairs.caption[answer]
        target = self._rows[self._first[caption] + (chance[3] * self._count[caption]).astype(np.int64)]
        asked = zip(ask.tolist(), answer.tolist(), strict=True)
        return Fashion200kQueries(
            images=self.images,
            source=source,
            modification=[sentence(self.pairs.words(s, t), self.text) for s, t in asked],
            target=target,
            relevant=[self._of[c] for c in caption.tolist()],
            captions=self.captions,
        )


def listed_queries(
    images: Any, captions: list[str], pairs: list[tuple[int, int]], release: bool = False, text: str = "release"
) -> Fashion200kQueries:
    """The queries of (source, target) rows of ``images``, but for those whose source alone has the target's caption.

    What is replaced: the word in which the captions differ; where they differ in more, or with ``release``, by
    `first_difference`.
    """
    same: dict[str, list[int]] = {}
    for row, caption in enumerate(captions):
        same.setdefault(caption, []).append(row)
    rows, sentences, relevant = [], [], []
    for source, target in pairs:
        before, after = captions[source], captions[target]
        right = same[after] if before != after else [row for row in same[after] if row != source]
        if right:
            words = (None if release else one_word_apart(before, after)) or first_difference(before, after)
            sentences.append(sentence(words, text))
            relevant.append(right)
            rows.append((source, target if target != source else right[0]))
    source, target = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    return Fashion200kQueries(images, source, sentences, target, relevant, captions)
