"""Composed queries on FashionProducts: a photo of an article, "the same in red", and articles that are so.

The shop's labels are the truth: right is every article of the side with the source's gender, kind (articleType) and
usage and with the colour asked for. Colours that a shopper may take for one another have labels of their own, see
`NEAR_COLOURS`: an answer in Navy Blue to "in blue" is counted as wrong, and `near_colour` tells how often that is so.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import torch

from commonspace.data.composed import ComposedQueries, numbered
from commonspace.data.fashion_products import FashionSamples

# Groups of the shop's colours that are shades or other names of one, as we see them: no label says so.
NEAR_COLOURS = (
    ("Blue", "Navy Blue", "Turquoise Blue", "Teal"),
    ("Green", "Sea Green", "Lime Green", "Fluorescent Green", "Olive", "Teal"),
    ("Grey", "Charcoal", "Grey Melange", "Silver", "Steel", "Metallic"),
    ("Black", "Charcoal"),
    ("White", "Off White", "Cream"),
    ("Cream", "Off White", "Beige", "Skin", "Nude", "Peach"),
    ("Brown", "Coffee Brown", "Mushroom Brown", "Tan", "Rust", "Khaki", "Taupe", "Bronze", "Copper"),
    ("Beige", "Khaki", "Tan", "Taupe", "Mushroom Brown", "Nude", "Skin"),
    ("Red", "Maroon", "Burgundy", "Rust"),
    ("Pink", "Magenta", "Rose", "Peach"),
    ("Purple", "Lavender", "Mauve", "Magenta", "Burgundy"),
    ("Yellow", "Mustard", "Gold"),
    ("Gold", "Bronze", "Copper"),
    ("Orange", "Rust", "Peach"),
)
FRAMES = ("the same in {}", "in {}", "i want it in {}", "change the colour to {}", "{} instead of this colour")
WORDS = {"Multi": "many colours", "Skin": "skin colour", "Metallic": "metallic colour"}  # others: in lower case


@dataclass(frozen=True, eq=False)
class FashionQueries(ComposedQueries):
    """Composed queries whose pictures are articles of the shop, all of one side of the split.

    ``asked``: n colours, as the shop writes them ("Navy Blue"). Of the pictures, m entries each: ``ids``, (m,) int64;
    ``gender``, ``kind``, ``usage``, ``base_colour``, strings, "" where the shop gave none.
    """

    asked: list[str] | None = None
    ids: torch.Tensor | None = field(default=None, metadata={"of_images": True})
    gender: list[str] | None = field(default=None, metadata={"of_images": True})
    kind: list[str] | None = field(default=None, metadata={"of_images": True})
    usage: list[str] | None = field(default=None, metadata={"of_images": True})
    base_colour: list[str] | None = field(default=None, metadata={"of_images": True})

    @cached_property
    def captions(self) -> list[str] | None:
        """Such as "women red tshirts, casual"; "" where a label is not known."""
        labels = (self.gender, self.base_colour, self.kind, self.usage)
        if any(column is None for column in labels):
            return None
        return [_caption(*one) if all(one) else "" for one in zip(*labels, strict=True)]

    @property
    def attributes(self) -> torch.Tensor:
        """Gender, kind, usage and colour of the pictures, (m, 4) int64: equal numbers where they agree."""
        return numbered(self.gender, self.kind, self.usage, self.base_colour)


def _in_words(colour: str) -> str:
    return WORDS.get(colour, colour.lower())


def _caption(gender: str, colour: str, kind: str, usage: str) -> str:
    return f"{gender} {_in_words(colour)} {kind}, {usage}".lower()


def near_colour(colour: str, other: str) -> bool:
    """Whether these are two labels of one group of `NEAR_COLOURS`.

    >>> near_colour("Blue", "Navy Blue"), near_colour("Blue", "Blue"), near_colour("Blue", "Olive")
    (True, False, False)
    """
    return colour != other and any(colour in group and other in group for group in NEAR_COLOURS)


def fashion_queries(samples: FashionSamples, seed: int = 0, per_source: int = 1) -> FashionQueries:
    """Queries between the articles of one side; see `FashionProducts.queries`.

    Raises ValueError for a ``per_source`` below 1 and when no article is there in two colours.
    """
    if not isinstance(per_source, int) or isinstance(per_source, bool) or per_source < 1:
        raise ValueError(f"per_source is how many colours are asked of a source, 1 or more; got {per_source!r}")
    kind = [samples.classes[label] for label in samples.label.tolist()]
    groups: dict[tuple[str, str, str], dict[str, list[int]]] = {}  # what stays -> colour -> rows
    for row, what in enumerate(zip(samples.gender, kind, samples.usage, strict=True)):
        if all(what) and samples.base_colour[row]:
            groups.setdefault(what, {}).setdefault(samples.base_colour[row], []).append(row)

    found = []
    for colours in groups.values():
        for source, own in ((row, own) for own, rows in colours.items() for row in rows):
            others = sorted(colours.keys() - {own})
            for i in range(min(per_source, len(others))):
                # A hash and not a random generator: it depends on no library's version and on no order of the table.
                digest = hashlib.sha256(f"{seed} {int(samples.ids[source])} {i}".encode()).digest()
                order = draw = int.from_bytes(digest, "big")
                draw, place = divmod(draw, len(others))
                colour = others.pop(place)
                draw, place = divmod(draw, len(FRAMES))
                sentence = FRAMES[place].format(_in_words(colour))
                target = colours[colour][draw % len(colours[colour])]
                found.append((order, source, sentence, target, colours[colour], colour))
    if not found:
        raise ValueError(f"no article of these {len(samples)} has another of its gender, kind and usage in a colour")
    _, source, modification, target, relevant, asked = (list(column) for column in zip(*sorted(found), strict=True))
    return FashionQueries(
        images=samples.images,
        source=source,
        modification=modification,
        target=target,
        relevant=relevant,
        asked=asked,
        ids=samples.ids,
        gender=samples.gender,
        kind=kind,
        usage=samples.usage,
        base_colour=samples.base_colour,
    )
