"""FashionIQ's own files: queries, lists of pictures, and where the pictures are."""

import json
from collections.abc import Container
from pathlib import Path

from commonspace.data.fashion_iq_queries import Triplet
from commonspace.data.pictures import listing

CATEGORIES = ("dress", "shirt", "toptee")
PARTS = ("train", "val")
SUFFIXES = (".png", ".jpg", ".jpeg")


def captions_file(category: str, part: str) -> str:
    """Where the queries are: ``captions/cap.dress.train.json``."""
    return f"captions/cap.{category}.{part}.json"


def list_file(category: str, part: str) -> str:
    """Where the names of the pictures are: ``image_splits/split.dress.train.json``."""
    return f"image_splits/split.{category}.{part}.json"


def _read(path: Path) -> list:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path.name} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged ({error})") from None
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path.name} must hold a list that is not empty")
    return content


def read_list(path: Path) -> list[str]:
    """The names of a part's pictures. Raises ValueError that names the file, and the entry which will not do."""
    names = _read(path)
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name.isalnum():
            raise ValueError(f"{path.name}, entry {i}: a picture's name is letters and digits; got {str(name)[:60]!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{path.name} has a picture twice")
    return names


def read_captions(path: Path, category: str, known: Container[str]) -> list[Triplet]:
    """The queries between ``known`` pictures. Raises ValueError that names the file, and the entry that won't do."""
    triplets = []
    for i, entry in enumerate(_read(path)):
        match entry:
            case {"candidate": str(candidate), "target": str(target), "captions": [str(first), str(second)]}:
                triplets.append(Triplet(category, candidate, target, (first, second)))
            case _:
                raise ValueError(
                    f"{path.name}, entry {i} must have candidate, target and two captions; got {str(entry)[:80]!r}"
                )
        for name in (candidate, target):
            if name not in known:
                raise ValueError(f"{path.name}, entry {i}: the picture {name!r} is not in the list of its part")
    return triplets


def picture_places(folder: Path) -> tuple[Path, dict[str, str]]:
    """Where the pictures are, a zip or a folder, and the place in there of each by name. Raises ValueError."""
    where, places = listing(folder)
    return where, {Path(n).stem: p for n, p in places.items() if Path(n).suffix.lower() in SUFFIXES}
