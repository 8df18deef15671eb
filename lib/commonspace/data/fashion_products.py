"""FashionProducts: small photos of fashion articles and their titles in a shop.

Kaggle's "Fashion Product Images (Small)" by Param Aggarwal (MIT licence there; the photos are Myntra's), in its layout:
styles.csv and images/ or images.zip. ``python data_scripts/get_fashion_products.py`` prepares it.
"""

import csv
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from commonspace.data import files
from commonspace.data.composed import ComposedQueries
from commonspace.data.download import mendable
from commonspace.data.pictures import Pictures, check_size, listing
from commonspace.data.samples import PairedSamples, per_row

COMMAND = "python data_scripts/get_fashion_products.py"
HEADER = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"
COLUMNS = HEADER.split(",")


def read_styles(path: Path) -> dict[int, dict[str, str]]:
    """Rows of styles.csv by id, in rising order. Raises ValueError that names the line which will not do.

    The title is the last column and Kaggle's file does not quote it: the commas beyond the others belong to it.
    """
    rows: dict[int, dict[str, str]] = {}
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        if next(reader, None) != COLUMNS:
            raise ValueError(f"{path.name}: the first line must be {HEADER}")
        for row in reader:
            if len(row) < len(COLUMNS) or not row[0].isdecimal() or int(row[0]) in rows:
                raise ValueError(
                    f"{path.name} line {reader.line_num}: a row has {len(COLUMNS)} columns and an id of its own; "
                    f"got {','.join(row)[:60]!r}"
                )
            values = [*row[: len(COLUMNS) - 1], ",".join(row[len(COLUMNS) - 1 :])]
            rows[int(row[0])] = dict(zip(COLUMNS, (value.strip() for value in values), strict=True))
    return dict(sorted(rows.items()))


def normalised(title: str) -> str:
    """Lower-case alphanumeric words joined by one space: what makes two titles the same."""
    return " ".join(re.findall(r"[^\W_]+", title.lower()))


def side(title: str) -> int:
    """0..9 from the title alone, by SHA-256 as one whole number: 0 is test, 1 validation, the others train."""
    return int(hashlib.sha256(normalised(title).encode()).hexdigest(), 16) % 10


@dataclass(frozen=True, eq=False)
class FashionSamples(PairedSamples):
    """Photos of articles and their titles; ``label`` is the kind of article, such as Tshirts, in ``classes``.

    ``images``: (n, 3, h, w) uint8. ``texts``: n titles. ``ids``: (n,) int64, rising. ``gender``, ``master_category``,
    ``sub_category``, ``base_colour``, ``usage``: n strings, "" where the shop gave none.
    """

    ids: torch.Tensor | None = per_row(default=None)
    gender: list[str] | None = per_row(default=None)
    master_category: list[str] | None = per_row(default=None)
    sub_category: list[str] | None = per_row(default=None)
    base_colour: list[str] | None = per_row(default=None)
    usage: list[str] | None = per_row(default=None)


class FashionProducts:
    """The shop's articles: ``FashionProducts(size=(64, 48)).split()`` gives train, validation and test.

    ``size``: (height, width) of the pictures in pixels; the photos are 80 x 60. ``root``: a folder to look in instead
    of ``$COMMONSPACE_DATA`` and the cache. ``samples`` holds all articles that have a photo and a title, by rising id.
    The first time at a size decodes all photos into the cache (24,136: 8 s).

    Raises FileNotFoundError that names the command when the data is missing, ValueError for damaged data or a bad size.
    """

    def __init__(self, root: str | Path | None = None, size: tuple[int, int] = (64, 48)):
        size = check_size(size)
        folder = files.find("fashion-products", "styles.csv", COMMAND, root).parent
        with mendable(folder, COMMAND, by_size=("images.zip",)):
            styles = read_styles(folder / "styles.csv")
            where, places = listing(folder)
            with_photo = {i: row for i, row in styles.items() if f"{i}.jpg" in places}
            rows = {i: row for i, row in with_photo.items() if normalised(row["productDisplayName"])}
            if not rows:
                raise ValueError("no article of styles.csv has a photo and a title")
            images = Pictures(where, [places[f"{i}.jpg"] for i in rows], size).kept("fashion-products-pixels")
        classes = sorted({row["articleType"] for row in rows.values()})
        number = {name: i for i, name in enumerate(classes)}
        print(
            f"FashionProducts: {len(rows):,} photos, {size[0]}x{size[1]}, {len(classes)} kinds of article, from "
            f"{files.shown(folder)} (left out: {len(styles) - len(with_photo):,} without a photo, "
            f"{len(with_photo) - len(rows):,} without a title)"
        )
        self.samples = FashionSamples(
            images=images,
            texts=[row["productDisplayName"] for row in rows.values()],
            label=torch.tensor([number[row["articleType"]] for row in rows.values()]),
            classes=classes,
            ids=torch.tensor(list(rows)),
            gender=[row["gender"] for row in rows.values()],
            master_category=[row["masterCategory"] for row in rows.values()],
            sub_category=[row["subCategory"] for row in rows.values()],
            base_colour=[row["baseColour"] for row in rows.values()],
            usage=[row["usage"] for row in rows.values()],
        )

    def __len__(self) -> int:
        return len(self.samples)

    def split(self) -> tuple[FashionSamples, FashionSamples, FashionSamples]:
        """Train, validation and test: about 80, 10 and 10 %, by the title's hash.

        A third of the articles share their title with another: a split by id would put the same title on two sides.
        """
        sides = torch.tensor([side(title) for title in self.samples.texts])
        return self.samples[sides > 1], self.samples[sides == 1], self.samples[sides == 0]

    def queries(self, seed: int = 0, per_source: int = 1) -> tuple[ComposedQueries, ComposedQueries, ComposedQueries]:
        """Train, validation and test `FashionQueries`: "the same in red", between the articles of each part of `split`.

        A source; a sentence with a colour that another article of its gender, kind and usage has, drawn by the seed
        from those there are (``per_source`` of them, or as many as there are), each as likely; and a target drawn from
        those articles. All of them are right. An article whose gender, kind, usage or colour is not known is no source
        and no answer. The gallery is all articles of the part. Raises ValueError for a ``per_source`` below 1.
        """
        from commonspace.data.fashion_queries import fashion_queries

        train, validation, test = (fashion_queries(part, seed, per_source) for part in self.split())
        return train, validation, test

    def pool(self, n: int = 1000) -> tuple[FashionSamples, torch.Tensor]:
        """The ``n`` test articles of the smallest ids, and which are relevant to which: (n, n) bool.

        Those of the same normalised title are relevant, to a photo as to a title: 1.8 on average for n = 1000. Raises
        ValueError when test has fewer than ``n``.
        """
        test = [row for row, title in enumerate(self.samples.texts) if side(title) == 0]
        if not 1 <= n <= len(test):
            raise ValueError(f"a pool has 1 to {len(test):,} articles, as many as test has; got n={n}")
        pool = self.samples[test[:n]]
        titles: dict[str, int] = {}
        title = torch.tensor([titles.setdefault(normalised(text), len(titles)) for text in pool.texts])
        return pool, title[:, None] == title[None, :]
