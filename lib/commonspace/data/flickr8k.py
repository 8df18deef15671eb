"""Flickr8k: 8,091 photos of people and animals doing something, each with five captions.

M. Hodosh, P. Young and J. Hockenmaier, Framing Image Description as a Ranking Task, JAIR 47, 2013. For research and
teaching only; the photos are their photographers'. ``python data_scripts/get_flickr8k.py`` prepares it.
"""

import re
from pathlib import Path

from commonspace.data import files
from commonspace.data.download import mendable
from commonspace.data.pictures import Pictures, check_size, listing
from commonspace.data.samples import PairedSamples

COMMAND = "python data_scripts/get_flickr8k.py"
CAPTIONS = "Flickr8k.token.txt"
LISTS = {part: f"Flickr_8k.{part}Images.txt" for part in ("train", "dev", "test")}
N_CAPTIONS = 5


def read_captions(path: Path) -> dict[str, list[str]]:
    """Five captions by the picture's file name. Raises ValueError that names the line or picture which will not do.

    A line is ``picture.jpg#number``, a tab, the caption. One picture's first caption stands under ``.jpg.1``.
    """
    captions: dict[str, dict[str, str]] = {}
    for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = re.fullmatch(r"(.+?\.jpg)(?:\.\d+)?#(\d)\t(.*\S.*)", line)
        if match is None:
            raise ValueError(f"{path.name} line {n} must be picture.jpg#number, a tab, the caption; got {line[:60]!r}")
        name, number, caption = match.groups()
        captions.setdefault(name, {})[number] = caption.strip()
    for name, of_one in captions.items():
        if len(of_one) != N_CAPTIONS:
            raise ValueError(f"{path.name}: {name} has {len(of_one)} captions, {N_CAPTIONS} were expected")
    return {name: [of_one[number] for number in sorted(of_one)] for name, of_one in captions.items()}


def read_list(path: Path, captions: dict[str, list[str]]) -> list[str]:
    """The file names of one part's pictures. Raises ValueError for one without captions."""
    if not path.is_file():
        raise ValueError(f"{path.name} is missing")
    names = path.read_text(encoding="utf-8").split()
    if unknown := [name for name in names if name not in captions]:
        raise ValueError(f"{path.name}: {len(unknown)} pictures have no captions, the first is {unknown[0]!r}")
    return names


class Flickr8k:
    """``Flickr8k().train``, ``.validation`` and ``.test``: `PairedSamples`, the official 6,000, 1,000 and 1,000.

    ``images``: `Pictures` of ``size`` = (height, width) pixels, decoded when asked for; a container's
    ``train.images[ids]`` is (b, 3, h, w) uint8. ``texts``: n lists of 5 captions. Pictures that are not there are left
    out, and their number is printed. ``root``: a folder to look in instead of ``$COMMONSPACE_DATA`` and the cache.

    Raises FileNotFoundError that names the command when the data is missing, ValueError for damaged data or a bad size.
    """

    def __init__(self, root: str | Path | None = None, size: tuple[int, int] = (128, 128)):
        size = check_size(size)
        folder = files.find("flickr8k", CAPTIONS, COMMAND, root).parent
        with mendable(folder, COMMAND, by_size=("images.zip",)):
            captions = read_captions(folder / CAPTIONS)
            lists = {part: read_list(folder / name, captions) for part, name in LISTS.items()}
            where, places = listing(folder)
        samples, counts = {}, []
        for part, names in lists.items():
            here = [name for name in names if name in places]
            samples[part] = PairedSamples(
                images=Pictures(where, [places[name] for name in here], size),
                texts=[captions[name] for name in here],
            )
            counts.append(f"{len(here):,} of {len(names):,} {part}")
        self.train, self.validation, self.test = (samples[part] for part in ("train", "dev", "test"))
        print(
            f"Flickr8k: {', '.join(counts)} pictures are here, {size[0]}x{size[1]}, {N_CAPTIONS} captions each, "
            f"from {files.shown(folder)}"
        )
