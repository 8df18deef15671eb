"""CSS: scenes of coloured solids on a 3x3 grid, and sentences that change them ("make yellow sphere small").

N. Vo et al., Composing Text and Image for Image Retrieval - An Empirical Odyssey, CVPR 2019 (TIRG), who drew it with
the CLEVR toolkit. ``python data_scripts/get_css.py`` prepares it; `commonspace.data.Scenes` makes the like of it, flat
or solid. The flat pictures of the authors' 2D-to-3D task are left out: their released code does not train on them.
"""

import io
import zipfile
from pathlib import Path

from commonspace.data import files
from commonspace.data.css_queries import CSSDraws, Split, caption
from commonspace.data.download import mendable
from commonspace.data.pictures import Pictures, check_size, listing
from commonspace.data.plain_pickle import load_npy

COMMAND = "python data_scripts/get_css.py"
SCENES = "css_toy_dataset_novel2_small.dup.npy"
SPLITS = ("train", "test")


def picture_name(split: str, i: int) -> str:
    """The file name of a split's picture i, ``css_train_000012.png``."""
    return f"css_{split}_{i:06d}.png"


def _scene(objects: list[dict]) -> str:
    """The same text for the same objects in any order."""
    kinds = [
        (*(str(one[x]) for x in ("color", "shape", "size")), *(round(x, 6) for x in one["pos"])) for one in objects
    ]
    return str(sorted(kinds))


def _captions(scenes: list[list[dict]]) -> list[str] | None:
    try:
        return [caption(objects) for objects in scenes]
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def read_scenes(path: Path) -> dict[str, Split]:
    """The authors' file, by split. Without ``labels`` in it, scenes of the same objects in any order are one.

    (Their code would then take each picture for a scene of its own.) Raises ValueError that says what will not do.
    """
    data, splits = load_npy(path), {}
    for name in SPLITS:
        try:
            own = data[name]
            n = len(own["objects_img"])
            label = list(map(str, own["labels"] if "labels" in own else map(_scene, own["objects_img"])))
            changes = [(change["to_str"], list(change["from"]), list(change["to"])) for change in own["mods"]]
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{path.name}: {name} is not laid out as expected ({error!r})") from None
        if len(label) != n:
            raise ValueError(f"{path.name}: {name} has {len(label):,} labels for {n:,} pictures")
        for i, (sentence, source, target) in enumerate(changes):
            if not isinstance(sentence, str) or not sentence.strip():
                raise ValueError(f"{path.name}: modification {i} of {name} is {sentence!r}, a sentence was expected")
            if len(source) != len(target) or not all(type(x) is int and 0 <= x < n for x in source + target):
                raise ValueError(
                    f"{path.name}: modification {i} of {name} must lead from pictures to as many, of 0 to {n - 1:,}"
                )
        splits[name] = Split(changes, label, _captions(own["objects_img"]))
    return splits


def _size_of(where: Path, place: str) -> tuple[int, int]:
    """(height, width) of a picture in a folder or zip. Raises ValueError for a damaged one."""
    from PIL import Image

    try:
        data = (where / place).read_bytes() if where.is_dir() else zipfile.ZipFile(where).read(place)
        with Image.open(io.BytesIO(data)) as image:
            return image.height, image.width
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"the picture {place} is damaged ({error})") from None


class CSS:
    """``CSS().train``: `CSSDraws`, drawn afresh for every epoch; ``.test``: `CSSQueries`, each query once.

    The gallery is all pictures of the split; some colours of shapes are in one split alone. Right is every picture of
    the target's scene but the source. ``unanswerable``: how many test queries have none and are left out, although the
    papers count them as missed (see `CSSDraws`).

    ``size``: (height, width) of the pictures, decoded when asked for; None: their own. Pictures that are not there are
    left out, and their number is printed. ``root``: a folder to look in instead of ``$COMMONSPACE_DATA`` and the cache.

    Raises FileNotFoundError that names the command when the data is missing, ValueError for a bad size, damaged data,
    or a file of scenes that asks for more than numbers and text.
    """

    def __init__(self, root: str | Path | None = None, size: tuple[int, int] | None = None):
        size = size if size is None else check_size(size)
        folder = files.find("css", SCENES, COMMAND, root).parent
        made, counts = {}, []
        with mendable(folder, COMMAND, by_size=("images.zip",)):
            splits = read_scenes(folder / SCENES)
            where, places = listing(folder)
            for name, split in splits.items():
                here = [i for i in range(len(split.label)) if picture_name(name, i) in places]
                if not here:
                    raise ValueError(f"none of the {len(split.label):,} {name} pictures is here")
                own = [places[picture_name(name, i)] for i in here]
                size = size or _size_of(where, own[0])
                made[name] = CSSDraws(split, Pictures(where, own, size), here)
                counts.append(f"{len(here):,} of {len(split.label):,} {name}")
        self.train, self.test, self.unanswerable = made["train"], made["test"].queries, made["test"].unanswerable
        print(
            f"CSS: {', '.join(counts)} pictures are here, {size[0]}x{size[1]}, {len(self.test):,} test queries and "
            f"{self.unanswerable:,} without an answer but their source, from {files.shown(folder)}"
        )
