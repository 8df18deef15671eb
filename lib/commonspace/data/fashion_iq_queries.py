"""Composed queries on FashionIQ, and the ways in which papers evaluate them: a protocol is a class.

Their numbers cannot be compared: the galleries differ, the sentences differ, and some leave the source picture in the
gallery. Each has its name as ``protocol`` and says by ``exclude_source`` whether a query's source is taken out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from commonspace.data.composed import ComposedQueries, DrawnQueries

FORMS = ("and", "reversed", "release")


class Triplet(NamedTuple):
    """One line of cap.*.json: two pictures by name, and what two people said to lead from the one to the other."""

    category: str
    candidate: str
    target: str
    captions: tuple[str, str]


def joined(triplet: Triplet, form: str) -> str:
    """Both captions as one sentence; of an empty one, the other alone.

    "and": "a and b". "reversed": "b and a". "release", of ComposeAE's code: "<category> a and it b" in lower case.

    >>> joined(Triplet("dress", "1", "2", ("Is red", "has a belt")), "release")
    'dress is red and it has a belt'
    """
    said = [caption.strip() for caption in triplet.captions if caption.strip()]
    if form == "release":
        return f"{triplet.category} {' and it '.join(said)}".lower()
    return " and ".join(said if form == "and" else said[::-1])


@dataclass(frozen=True, eq=False)
class FashionIQQueries(ComposedQueries):
    """Composed queries on FashionIQ; right is the target alone. ``category``: n strings. ``names``: m, of the pictures.

    ``protocol``: the name to print with every number. ``exclude_source``: whether each query's source is left out of
    its gallery.
    """

    category: list[str] | None = None
    names: list[str] | None = field(default=None, metadata={"of_images": True})
    protocol: ClassVar[str] = "training"
    exclude_source: ClassVar[bool] = True
    forms: ClassVar[tuple[str, ...]] = ("and",)


class Original(FashionIQQueries):
    """Each category against the pictures of its own list, split.*.val.json; the source stays. "a and b".

    So CLIP4Cir, Pic2Word, SPRC and most since 2021 (SEARLE with the mean of both orders).
    """

    protocol = "original"
    exclude_source = False


class OriginalExcluded(FashionIQQueries):
    """The same without the source: RTIC."""

    protocol = "original-excluded"


class BothOrders(FashionIQQueries):
    """As "original", but every query is there twice, "a and b" and "b and a": CoSMo.

    Whether CoSMo takes the source out was not found out; here it stays, as in "original".
    """

    protocol = "cosmo"
    exclude_source = False
    forms = ("and", "reversed")


class Union(FashionIQQueries):
    """All categories against the pictures of all, each once; the source stays. "<category> a and it b": ComposeAE."""

    protocol = "union"
    exclude_source = False
    forms = ("release",)


PROTOCOLS = {kind.protocol: kind for kind in (Original, OriginalExcluded, BothOrders, Union)}


def fashion_iq_queries(
    images: Any,
    names: list[str],
    triplets: list[Triplet],
    kind: type[FashionIQQueries] = FashionIQQueries,
    forms: Sequence[str] | None = None,
) -> FashionIQQueries:
    """The queries of the triplets whose pictures are both among ``names``, one in each form: by default, the kind's."""
    row = {name: i for i, name in enumerate(names)}
    here = [triplet for triplet in triplets if triplet.candidate in row and triplet.target in row]
    asked = [(triplet, form) for triplet in here for form in forms or kind.forms]
    return kind(
        images=images,
        source=[row[triplet.candidate] for triplet, _ in asked],
        modification=[joined(triplet, form) for triplet, form in asked],
        target=[row[triplet.target] for triplet, _ in asked],
        category=[triplet.category for triplet, _ in asked],
        names=names,
    )


class FashionIQTraining(DrawnQueries):
    """Training queries whose two captions are put in an order that is drawn every epoch: "a and b" or "b and a".

    ``texts``: the sentences in the first order.
    """

    def __init__(self, images: Any, names: list[str], triplets: list[Triplet]):
        self.images = images
        self._orders = [fashion_iq_queries(images, names, triplets, forms=[form]) for form in ("and", "reversed")]
        self.texts = self._orders[0].modification

    def __len__(self) -> int:
        return len(self.texts)

    def draw(self, seed: int, epoch: int) -> FashionIQQueries:
        """Every query once; a function of (seed, epoch, index)."""
        order = np.random.default_rng([seed, epoch]).integers(2, size=len(self))
        return replace(
            self._orders[0], modification=[self._orders[o].modification[i] for i, o in enumerate(order.tolist())]
        )
