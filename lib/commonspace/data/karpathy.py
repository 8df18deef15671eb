"""Flickr30k and COCO, with the captions and parts of A. Karpathy and L. Fei-Fei: photos, each with five captions.

A. Karpathy and L. Fei-Fei, Deep visual-semantic alignments for generating image descriptions, CVPR 2015, published one
JSON file a set, which most papers on captions and retrieval use. The photos are their owners':

Flickr30k   P. Young, A. Lai, M. Hodosh and J. Hockenmaier, From image descriptions to visual denotations, TACL 2, 2014.
            For research and teaching only. ``python data_scripts/get_flickr30k.py`` prepares it.
COCO        T.-Y. Lin et al., Microsoft COCO: common objects in context, ECCV 2014; captions by X. Chen et al., 2015.
            ``python data_scripts/get_coco.py`` prepares it.
"""

import json
from pathlib import Path
from typing import ClassVar, NamedTuple

from commonspace.data import files
from commonspace.data.download import mendable
from commonspace.data.pictures import Pictures, check_size, listing
from commonspace.data.samples import PairedSamples

PARTS = ("train", "restval", "val", "test")
N_CAPTIONS = 5


class Captioned(NamedTuple):
    """One photo of the JSON file: its part, one of ``PARTS``, its file name, and its captions, five or more."""

    part: str
    name: str
    captions: list[str]


def read_captions(path: Path) -> list[Captioned]:
    """The photos in the file's order. Raises ValueError that names the file, and the entry which will not do."""
    try:
        entries = json.loads(path.read_bytes())["images"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is damaged, or not in Karpathy's layout ({error!r})") from None
    found = []
    for i, entry in enumerate(entries):
        match entry:
            case {"split": str(part), "filename": str(name), "sentences": [*sentences]} if part in PARTS and name:
                captions = [
                    s["raw"].strip() for s in sentences if isinstance(s, dict) and isinstance(s.get("raw"), str)
                ]
            case _:
                raise ValueError(
                    f"{path.name}, entry {i} must have split ({', '.join(PARTS)}), filename and sentences; "
                    f"got {str(entry)[:80]!r}"
                )
        if "/" in name or "\\" in name:
            raise ValueError(f"{path.name}, entry {i}: filename must be without folders, got {name!r}")
        if len(captions) < max(N_CAPTIONS, len(sentences)) or not all(captions):
            raise ValueError(f"{path.name}: {name} must have {N_CAPTIONS} captions or more, none of them empty")
        found.append(Captioned(part, name, captions))
    if len({photo.name for photo in found}) < len(found) or not found:
        raise ValueError(f"{path.name} has no photos, or one of them twice")
    return found


class Karpathy:
    """What `Flickr30k` and `Coco` share: where the files are, and how they are read."""

    title: ClassVar[str]
    dataset: ClassVar[str]
    captions: ClassVar[str]  # the JSON file's name
    command: ClassVar[str]
    folders: ClassVar[tuple[str, ...]]  # the photos', as their owners name them
    train: PairedSamples
    validation: PairedSamples
    test: PairedSamples

    def __init__(self, root: str | Path | None, size: tuple[int, int], n_captions: int | None, parts: dict) -> None:
        size = check_size(size)
        if n_captions is not None and not 1 <= n_captions <= N_CAPTIONS:
            raise ValueError(f"n_captions must be from 1 to {N_CAPTIONS}, or None for all; got {n_captions!r}")
        folder = files.find(self.dataset, self.captions, self.command, root).parent
        with mendable(folder, self.command, by_size=("images.zip",)):
            photos = read_captions(folder / self.captions)
            where, places = self.places(folder)
        counts = []
        for part, own in parts.items():
            wanted = [photo for photo in photos if photo.part in own]
            here = [photo for photo in wanted if photo.name in places]
            samples = PairedSamples(
                images=Pictures(where, [places[photo.name] for photo in here], size),
                texts=[photo.captions[:n_captions] for photo in here],
            )
            setattr(self, part, samples)
            counts.append(f"{len(here):,} of {len(wanted):,} {part}")
        print(f"{self.title}: {', '.join(counts)} photos are here, {size[0]}x{size[1]}, from {files.shown(folder)}")

    @classmethod
    def places(cls, folder: Path) -> tuple[Path, dict[str, str]]:
        """Where the photos are, and the place in there of each by file name. Raises ValueError for a damaged zip."""
        where, places = listing(folder)
        if places:
            return where, places
        own = (path for name in cls.folders if (folder / name).is_dir() for path in (folder / name).iterdir())
        return folder, {path.name: f"{path.parent.name}/{path.name}" for path in own if path.is_file()}


class Flickr30k(Karpathy):
    """``Flickr30k().train``, ``.validation`` and ``.test``: `PairedSamples` of Karpathy's parts.

    ``images``: `Pictures` of ``size`` = (height, width) pixels, decoded when asked for. ``texts``: n lists of the first
    ``n_captions`` captions, None for all. Photos that are not there are left out, and their number is printed; they may
    be in ``images.zip``, ``images/`` or the owners' ``flickr30k-images/``. ``root``: a folder to look in instead of
    ``$COMMONSPACE_DATA`` and the cache.

    Raises FileNotFoundError that names the command when the data is missing, ValueError for damaged data or a bad size.
    """

    title, dataset, captions = "Flickr30k", "flickr30k", "dataset_flickr30k.json"
    command = "python data_scripts/get_flickr30k.py"
    folders = ("flickr30k-images", "flickr30k_images")

    def __init__(
        self,
        root: str | Path | None = None,
        size: tuple[int, int] = (128, 128),
        n_captions: int | None = N_CAPTIONS,
    ):
        super().__init__(root, size, n_captions, {"train": ("train",), "validation": ("val",), "test": ("test",)})


class Coco(Karpathy):
    """``Coco().train``, ``.validation`` and ``.test``: `PairedSamples` of Karpathy's parts.

    ``restval``: train has the part "restval" as well, those photos of COCO's own validation set that Karpathy put into
    neither validation nor test; 113,287 in place of COCO's train set alone. Some photos have six captions or more.
    The owners' folders are ``train2014/`` and ``val2014/``. Everything else as in `Flickr30k`.
    """

    title, dataset, captions = "COCO", "coco", "dataset_coco.json"
    command = "python data_scripts/get_coco.py"
    folders = ("train2014", "val2014")

    def __init__(
        self,
        root: str | Path | None = None,
        size: tuple[int, int] = (128, 128),
        n_captions: int | None = N_CAPTIONS,
        restval: bool = True,
    ):
        train = ("train", "restval") if restval else ("train",)
        super().__init__(root, size, n_captions, {"train": train, "validation": ("val",), "test": ("test",)})
