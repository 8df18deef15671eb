"""Queries of one split of CSS: all of them once, and the authors' way to draw from them for training."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from commonspace.data.composed import ComposedQueries, DrawnQueries
from commonspace.data.scene_chance import below
from commonspace.data.scene_grammar import PLACES


class Split(NamedTuple):
    """``changes``: (sentence, source ids, target ids) of each modification; ``label``: of m pictures, equal scenes.

    ``captions``: of m pictures, `caption`; None where the file does not say it.
    """

    changes: list[tuple[str, list[int], list[int]]]
    label: list[str]
    captions: list[str] | None = None


@dataclass(frozen=True, eq=False)
class CSSQueries(ComposedQueries):
    """Composed queries on CSS. ``captions``: m strings, one a picture, or None (`caption`)."""

    captions: list[str] | None = field(default=None, metadata={"of_images": True})


def caption(objects: list[dict]) -> str:
    """All objects of a scene in reading order, by the file's words: "small red cube at top-left and ...".

    ``pos`` is (row, column), from 0 to 1 across the scene. Raises KeyError, IndexError, TypeError or ValueError
    for objects that are not so.

    >>> caption([{"size": "small", "color": "red", "shape": "cube", "pos": (0.2, 0.8)}]), caption([])
    ('small red cube at top-right', 'nothing')
    """
    said = []
    for one in objects:
        row, column = (float(x) for x in one["pos"])
        if not (0 <= row <= 1 and 0 <= column <= 1):
            raise ValueError(f"an object is at {row}, {column}, not within the scene")
        place = 3 * min(int(3 * row), 2) + min(int(3 * column), 2)
        said.append((place, f"{one['size']} {one['color']} {one['shape']} at {PLACES[place]}"))
    return " and ".join(words for _, words in sorted(said)) or "nothing"


class CSSDraws(DrawnQueries):
    """Queries over the pictures of one split that are here: ``rows``, their ids in ``split``.

    ``queries``: every (source, target) of every modification once, `CSSQueries`. Right is every picture of the
    target's scene but the source. ``change``: (n,) int64, the modification of each of these n. ``texts``: the sentence
    of every modification. ``unanswerable``: how many more have no right answer besides their source. They are left out
    of ``queries``, and in the papers they count as missed: their R@K is that of ``queries`` * n / (n + unanswerable).

    Raises ValueError when no query is left.
    """

    def __init__(self, split: Split, images: Any, rows: list[int]):
        self.images, self.texts = images, [sentence for sentence, _, _ in split.changes]
        self.captions = split.captions and [split.captions[row] for row in rows]
        place = {row: i for i, row in enumerate(rows)}
        alike: dict[str, list[int]] = {}
        for row, i in place.items():
            alike.setdefault(split.label[row], []).append(i)
        found, change, self.unanswerable = [], [], 0
        for n, (sentence, sources, targets) in enumerate(split.changes):
            for source, target in zip(sources, targets, strict=True):
                if source not in place:
                    continue
                right = alike.get(split.label[target], [])
                if split.label[source] == split.label[target]:
                    right = [i for i in right if i != place[source]]
                if not right:
                    self.unanswerable += 1
                    continue
                own = place.get(target)
                found.append((place[source], sentence, own if own in right else right[0], right))
                change.append(n)
        if not found:
            raise ValueError(f"none of {len(split.changes):,} modifications has an answer among {len(rows):,} pictures")
        self.queries = CSSQueries(images, *map(list, zip(*found, strict=True)), self.captions)
        self.change = np.array(change)
        # Blocks that a draw takes one of: queries of a modification; of a source; of a source and a modification.
        _, self._start, self._count = np.unique(self.change, return_index=True, return_counts=True)
        source = self.queries.source.numpy()
        both = source * len(split.changes) + self.change
        self._order = both.argsort(kind="stable")
        self._own, self._same = (
            [np.searchsorted(key[self._order], key, side) for side in ("left", "right")] for key in (source, both)
        )

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, seed: int, epoch: int) -> CSSQueries:
        """As many queries as pictures, in pairs of one source: rows 0 and 1, 2 and 3, ...

        The first is of a random modification, and of its sources a random one. The second is of the same source, and
        one of its other modifications at random; where it has none, drawn as the first is (the released code would look
        for ever). Row i is a function of (seed, epoch, i) alone.
        """
        pair = np.arange((len(self) + 1) // 2)

        def one_of(count: Any, what: int) -> np.ndarray:
            return below(count, seed, epoch, pair, what).numpy()

        def afresh(what: int) -> np.ndarray:
            change = one_of(len(self._start), what)
            return self._start[change] + one_of(self._count[change], what + 1)

        first = afresh(0)
        start, end, same, same_end = (side[first] for side in (*self._own, *self._same))
        others = (end - start) - (same_end - same)
        place = start + one_of(others, 2)
        place += (place >= same) * (same_end - same)
        second = np.where(others > 0, self._order[np.where(others > 0, place, 0)], afresh(3))
        return self.queries[np.stack([first, second], axis=1).reshape(-1)[: len(self)]]
