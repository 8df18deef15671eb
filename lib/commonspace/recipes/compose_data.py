"""The data sets of composed queries a recipe can be run on, by name; and which queries share a batch."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from commonspace import metrics
from commonspace.data import ComposedQueries, DrawnQueries
from commonspace.data.composed import numbered
from commonspace.training import epoch_order

TEXT_MODES = ("modification", "complete")


@dataclass(frozen=True)
class QuerySplits:
    """Training, validation and test queries, each over pictures of its own.

    ``train`` may be drawn afresh for every epoch. The papers' sets have no ``validation``. ``test`` may be several sets
    by name, each with its own gallery.
    """

    train: ComposedQueries | DrawnQueries
    validation: ComposedQueries | None
    test: ComposedQueries | dict[str, ComposedQueries]

    def completed(self) -> Self:
        """All of them with the target's whole caption as text; see `ComposedQueries.completed`."""
        validation = None if self.validation is None else self.validation.completed()
        several = isinstance(self.test, dict)
        test = {name: one.completed() for name, one in self.test.items()} if several else self.test.completed()
        return replace(self, train=self.train.completed(), validation=validation, test=test)


def names() -> list[str]:
    """The data sets of composed queries there are."""
    return sorted(_LOADERS)


def load(name: str, seed: int = 0, size: int | None = None, text_mode: str = "modification") -> QuerySplits:
    """The data set ``name``; ``seed`` draws what its owners left open, ``size`` is the height of its pictures in pixels
    (None: its own). ``text_mode``: what a query says, "modification", what is to change, or "complete", all of its
    target (`ComposedQueries.completed`). Raises ValueError for an unknown name or mode and for "complete" where a data
    set's pictures have no captions."""
    if text_mode not in TEXT_MODES:
        raise ValueError(f"text_mode must be one of {', '.join(map(repr, TEXT_MODES))}; got {text_mode!r}")
    if name not in _LOADERS:
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no data set of composed queries is called {name!r}; there are {', '.join(names())}{hint}")
    splits = _LOADERS[name](seed, size)
    return splits if text_mode == "modification" else splits.completed()


def groups(source: Tensor, size: int, seed: int, epoch: int) -> Tensor:
    """The rows of an epoch in groups of ``size`` that share a source picture: (n // size, size) int64.

    ``source``: (n,) picture of each row. A batch of such groups holds, for every query, others that start from the same
    picture: their targets are the hardest negatives, told from its own by the text alone. Which rows meet is drawn
    afresh for every (seed, epoch); rows left over, fewer than ``size`` of one source, are grouped at random. Each row
    comes once, but for n % size rows that come not at all.
    """
    order = epoch_order(len(source), seed, epoch)
    order = order[source[order].argsort(stable=True)]  # sources one behind the other, the rows of each shuffled
    _, of, count = torch.unique_consecutive(source[order], return_inverse=True, return_counts=True)
    place = torch.arange(len(order)) - (count.cumsum(0) - count)[of]
    full = place < (count - count % size)[of]
    rest = order[~full]
    rest = rest[epoch_order(len(rest), seed, epoch)]
    rows = torch.cat([order[full], rest])
    return rows[: len(rows) // size * size].reshape(-1, size)


def same_answer(relevant: Sequence[Sequence[int]], target: Tensor) -> Tensor:
    """Which targets of a batch are right answers to which of its queries: B lists of ids, (B,) -> (B, B) bool."""
    distinct, column = target.cpu().unique(return_inverse=True)
    ids = np.concatenate([np.asarray(one, dtype=np.int64) for one in relevant])
    rows = np.repeat(np.arange(len(relevant)), [len(one) for one in relevant])
    place = np.searchsorted(distinct.numpy(), ids).clip(max=len(distinct) - 1)
    here = distinct.numpy()[place] == ids
    right = torch.zeros(len(relevant), len(distinct), dtype=torch.bool)
    right[torch.from_numpy(rows[here]), torch.from_numpy(place[here])] = True
    return right[:, column]


def same_source(source: Tensor, target: Tensor, texts: Sequence[str]) -> Tensor:
    """Which sources of a batch may be the answer to (target, text), where sources are looked for: (B, B) bool.

    ``source``, ``target``: (B,) ids of pictures. Row i, column j: query j starts from the source of query i, or it has
    the same target and text, which then may have come from the source of j as well. Raises ValueError for lengths that
    differ.
    """
    if source.ndim != 1 or target.shape != source.shape or len(texts) != len(source):
        raise ValueError(
            "source and target are ids of shape (B,), and texts B strings; got "
            f"{tuple(source.shape)}, {tuple(target.shape)} and {len(texts)}"
        )
    source = source.cpu()
    asked = numbered(list(zip(target.tolist(), texts, strict=True)))[:, 0]
    return (source[:, None] == source) | (asked[:, None] == asked)


def kept_and_changed(queries: ComposedQueries, answer: Tensor) -> dict[str, float]:
    """Mean over queries of what the answers (n,) keep of the source and of what they change as asked, "kept" and
    "changed" in [0, 1]; nothing where the pictures' attributes are not known.

    Scenes say it by their own ``kept`` and ``changed``; emoji and articles by their ``attributes``
    (`metrics.kept_and_changed`).
    """
    if hasattr(queries, "kept"):
        return {name: float(getattr(queries, name)(answer).nanmean()) for name in ("kept", "changed")}
    found = getattr(queries, "attributes", None)
    return {} if found is None else metrics.kept_and_changed(found, queries.source, queries.target, answer)


def by_length(queries: ComposedQueries, answer: Tensor) -> dict[str, float]:
    """ "R@1 of 1 edit", "R@1 of 2 edits", ...: of the queries whose sentence joins so many edits, the share whose
    answer (n,) is right. Nothing where no sentence has more than one. The edits are those between source and target,
    also where the text is the target's caption.
    """
    edits = getattr(queries, "edits", None)
    if edits is None or edits.shape[1] == 1:
        return {}
    right = torch.tensor([one in row for one, row in zip(answer.tolist(), queries.relevant, strict=True)])
    count = (edits[:, :, 0] >= 0).sum(dim=1)
    of = {f"R@1 of {n} edit{'s' * (n > 1)}": right[count == n] for n in range(1, edits.shape[1] + 1)}
    return {name: float(rows.float().mean()) for name, rows in of.items() if len(rows)}


def types(queries: ComposedQueries) -> Tensor | None:
    """What type of article each query's source is, (n,) int64; None where pictures have no ``kind``."""
    kind = getattr(queries, "kind", None)
    return None if kind is None else numbered([kind[i] for i in queries.source.tolist()])[:, 0]


# ---- the data sets --------------------------------------------------------------------------------------------------


def _scenes(seed: int, size: int | None, **rest: Any) -> QuerySplits:
    """1,000 scenes with 16 changes each to train on, 2,000 test queries; test has colours of shapes never seen."""
    from commonspace.data import Scenes

    return QuerySplits(*Scenes(**{"n": 1000, "size": size or 32, "novel": True, "seed": seed} | rest).queries())


def _solid_scenes(seed: int, size: int | None) -> QuerySplits:
    """The same, with solids on a table instead of flat shapes."""
    return _scenes(seed, size or 64, dimensions=3)


def _joined_scenes(seed: int, size: int | None) -> QuerySplits:
    """Flat scenes, and sentences of one to four changes."""
    return _scenes(seed, size, edits=(1, 4))


def _crowded_scenes(seed: int, size: int | None) -> QuerySplits:
    """Flat scenes of 5 to 8 objects, none quite in the middle of its place, and sentences of one or two changes."""
    return _scenes(seed, size, objects=(5, 8), jitter=0.1, edits=(1, 2))


def _emoji(attribute: str) -> Callable[[int, int | None], QuerySplits]:
    def loader(seed: int, size: int | None) -> QuerySplits:
        from commonspace.data import Emoji

        return QuerySplits(*Emoji(size=size or 32).queries(attribute, seed))

    return loader


def _fashion_products(seed: int, size: int | None) -> QuerySplits:
    """Photos of articles and a colour: "the same in red"."""
    from commonspace.data import FashionProducts

    return QuerySplits(*FashionProducts(size=(size or 64, (size or 64) * 3 // 4)).queries(seed))


def _css(seed: int, size: int | None) -> QuerySplits:
    """The papers' own scenes; ``size`` None is the pictures' own size."""
    from commonspace.data import CSS

    css = CSS(size=None if size is None else (size, size))
    return QuerySplits(css.train, None, css.test)


def _mit_states(seed: int, size: int | None) -> QuerySplits:
    from commonspace.data import MITStates

    photos = MITStates(size=(size or 224, size or 224))
    return QuerySplits(photos.train, None, photos.test)


def _fashion200k(seed: int, size: int | None) -> QuerySplits:
    from commonspace.data import Fashion200k

    clothes = Fashion200k(size=(size or 224, size or 224))
    return QuerySplits(clothes.train, None, clothes.test)


def _fashion_iq(protocol: str) -> Callable[[int, int | None], QuerySplits]:
    """The numbers of two protocols cannot be compared, so each is a data set."""

    def loader(seed: int, size: int | None) -> QuerySplits:
        from commonspace.data import FashionIQ

        clothes = FashionIQ(size=(size or 224, size or 224))
        return QuerySplits(clothes.training(), None, clothes.evaluations(protocol=protocol))

    return loader


_LOADERS: dict[str, Callable[[int, int | None], QuerySplits]] = {
    "scenes": _scenes,
    "scenes-3d": _solid_scenes,
    "scenes-joined": _joined_scenes,
    "scenes-crowded": _crowded_scenes,
    "emoji-skin-tone": _emoji("skin_tone"),
    "emoji-gender": _emoji("gender"),
    "emoji-hair": _emoji("hair"),
    "fashion-products": _fashion_products,
    "css": _css,
    "mit-states": _mit_states,
    "fashion200k": _fashion200k,
    "fashion-iq-original": _fashion_iq("original"),
    "fashion-iq-original-excluded": _fashion_iq("original-excluded"),
    "fashion-iq-cosmo": _fashion_iq("cosmo"),
    "fashion-iq-union": _fashion_iq("union"),
}
