"""NUS-WIDE-10k: 10,000 photos and their tags, 1,000 of each of ten classes, one class a photo.

From NUS-WIDE, T.-S. Chua et al., CIVR 2009. The subset is that of F. Feng, X. Wang and R. Li, Cross-modal Retrieval
with Correspondence Autoencoder, ACM Multimedia 2014, who drew it, and its 8,000/1,000/1,000, at random. We found no
public list of theirs, so it is drawn here by a stated rule (`select`), and numbers of theirs compare in kind only.
``python data_scripts/get_nus_wide_10k.py`` prepares it.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from commonspace.data import files
from commonspace.data.download import mendable
from commonspace.data.pictures import Pictures, check_size, listing
from commonspace.data.samples import PairedSamples

COMMAND = "python data_scripts/get_nus_wide_10k.py"
PAIRS = "pairs.tsv"
CLASSES = ("animal", "clouds", "flowers", "food", "grass", "person", "sky", "toy", "water", "window")
PARTS = ("train", "validation", "test")
SIZES = (800, 100, 100)  # of each class


class Pair(NamedTuple):
    """One line of pairs.tsv: part, class, ``folder/number_id.jpg`` as in NUS-WIDE, tags joined by spaces."""

    part: str
    label: str
    photo: str
    tags: str


def _lines(path: Path) -> list[str]:
    """Lines end with a line feed alone: tags hold stranger characters, some of which Python takes for line ends too."""
    return path.read_text(encoding="utf-8-sig", errors="replace").rstrip("\n").split("\n")


def read_owners(image_list: Path, tags: Path, labels: Sequence[Path]) -> tuple[list[str], list[str], np.ndarray]:
    """Photos (n), tags (n) and labels (classes, n) bool of NUS-WIDE's own files, which share one order.

    ``image_list``: Imagelist.txt, lines ``folder\\number_id.jpg``. ``tags``: All_Tags.txt, lines of an id and words.
    ``labels``: Labels_<class>.txt, lines 0 or 1. Raises ValueError that names the file and the line.
    """
    photos = [line.strip().replace("\\", "/") for line in _lines(image_list)]
    words = [line.split() for line in _lines(tags)]
    if len(words) != len(photos):
        raise ValueError(f"{tags.name} has {len(words):,} lines, {image_list.name} has {len(photos):,}")
    for n, (photo, line) in enumerate(zip(photos, words, strict=True), 1):
        if not line or photo_id(photo) != line[0]:
            raise ValueError(
                f"line {n} of {image_list.name} is {photo!r}, of {tags.name} {' '.join(line)[:40]!r}: the id must agree"
            )
    rows = []
    for path in labels:
        row = [line.strip() for line in _lines(path)]
        if len(row) != len(photos) or not {*row} <= {"0", "1"}:
            raise ValueError(f"{path.name} must have {len(photos):,} lines of 0 or 1; it has {len(row):,}")
        rows.append([value == "1" for value in row])
    return photos, [" ".join(line[1:]) for line in words], np.array(rows)


def photo_id(photo: str) -> str:
    """Flickr's number of ``folder/number_id.jpg``."""
    return photo.rpartition("/")[2].removesuffix(".jpg").rpartition("_")[2]


def select(photos: list[str], tags: list[str], labels: np.ndarray, sizes: Sequence[int] = SIZES) -> list[Pair]:
    """The 10,000: of each class the photos with it, none of the other nine, and a tag, ranked by SHA-256 of the id.

    The first ``sizes[0]`` are train, the next validation, the next test. Of a photo that is listed twice the first line
    counts. In NUS-WIDE's order. Raises ValueError when a class has too few.
    """
    ranked: dict[str, list[tuple[str, int]]] = {name: [] for name in CLASSES}
    known: set[str] = set()
    for i in range(len(photos)):
        number = photo_id(photos[i])
        if number not in known and labels[:, i].sum() == 1 and tags[i]:
            rank = hashlib.sha256(number.encode()).hexdigest()
            ranked[CLASSES[int(labels[:, i].argmax())]].append((rank, i))
        known.add(number)
    chosen = {}
    for name, own in ranked.items():
        if len(own) < sum(sizes):
            raise ValueError(f"{name} has {len(own):,} photos of this one class and with tags, {sum(sizes):,} needed")
        part_of = [part for part, size in zip(PARTS, sizes, strict=True) for _ in range(size)]
        for (_, i), part in zip(sorted(own), part_of, strict=False):
            chosen[i] = Pair(part, name, photos[i], tags[i])
    return [chosen[i] for i in sorted(chosen)]


def read_pairs(path: Path) -> list[Pair]:
    """The lines of pairs.tsv. Raises ValueError that names the line which will not do."""
    pairs = []
    for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        values = line.split("\t")
        if len(values) != 4 or values[0] not in PARTS or values[1] not in CLASSES or not values[3].strip():
            raise ValueError(f"{path.name} line {n} must be part, class, photo and tags, with tabs; got {line[:60]!r}")
        pairs.append(Pair(*values))
    return pairs


class NusWide10k:
    """``NusWide10k().train``, ``.validation`` and ``.test``: `PairedSamples`, 8,000, 1,000 and 1,000.

    ``images``: `Pictures` of ``size`` = (height, width) pixels, decoded when asked for. ``texts``: the tags, joined by
    spaces. ``label``: 0..9 into ``classes``. Photos that are not there are left out, and their number is printed.
    ``root``: a folder to look in instead of ``$COMMONSPACE_DATA`` and the cache.

    Raises FileNotFoundError that names the command when the data is missing, ValueError for damaged data or a bad size.
    """

    def __init__(self, root: str | Path | None = None, size: tuple[int, int] = (128, 128)):
        size = check_size(size)
        folder = files.find("nus-wide-10k", PAIRS, COMMAND, root).parent
        with mendable(folder, COMMAND, by_size=("images.zip",)):
            pairs = read_pairs(folder / PAIRS)
            where, places = listing(folder)
        samples, counts = [], []
        for part in PARTS:
            own = [(pair, pair.photo.rpartition("/")[2]) for pair in pairs if pair.part == part]
            here = [(pair, name) for pair, name in own if name in places]
            samples.append(
                PairedSamples(
                    images=Pictures(where, [places[name] for _, name in here], size),
                    texts=[pair.tags for pair, _ in here],
                    label=torch.tensor([CLASSES.index(pair.label) for pair, _ in here], dtype=torch.long),
                    classes=list(CLASSES),
                )
            )
            counts.append(f"{len(here):,} of {len(own):,} {part}")
        self.train, self.validation, self.test = samples
        print(
            f"NUS-WIDE-10k: {', '.join(counts)} photos are here, {size[0]}x{size[1]}, {len(CLASSES)} classes, from "
            f"{files.shown(folder)}"
        )
