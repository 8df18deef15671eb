"""Get CSS (Vo et al. 2019): pictures of coloured solids on a grid, and sentences that change them.

    python data_scripts/get_css.py                by https from its authors
    python data_scripts/get_css.py --from PATH    from the archive, or the folder it unpacks to, fetched by hand
    python data_scripts/get_css.py --verify       check what was prepared

The pictures are checked and packed, unchanged, into one images.zip beside the authors' file of scenes. That file is a
pickle: numbers and text are read from it, and nothing in it is run. Run twice, it does nothing.
"""

import sys
from pathlib import Path

from commonspace.data.css import SCENES, picture_name, read_scenes
from commonspace.data.css_queries import CSSDraws
from commonspace.data.download import DataError, new_file, new_folder, read_manifest, write_manifest
from commonspace.data.pictures import listing
from commonspace.data.script import Script, Source, below, facts_size, opened, zip_pictures

# Not reached when this was written.
URL = "https://storage.googleapis.com/image_retrieval_css/CSS.zip"
PAGE = "https://github.com/google/tirg"
ABOUT = f"""\
CSS: scenes of coloured solids, and about 16,000 queries each to train and to test
  size     not measured here: the set has not been seen by us
  source   {URL}
  terms    we know of none stated for the pictures. Cite Vo et al., CVPR 2019
  check    the owners publish no checksum: the file of scenes must be whole and every picture there, each is decoded"""
BY_HAND = f"""\
by hand: fetch {URL}
(if it does not answer: {PAGE} and its issues have had other links), and pass the archive, or the folder
it unpacks to, with --from. At any depth it holds {SCENES}
and css_train_000000.png, css_test_000000.png, ..., up to 5 % of which may be missing.
Without the set, commonspace.data.Scenes makes the like of it, of any size."""
NEEDED_MB = 6000


def gather(source: Source) -> Path:
    """The archive or folder. Raises DataError."""
    if source.given is not None:
        return source.given
    try:
        return source.download(URL)
    except DataError as error:
        raise DataError(f"{error}. By hand: --help") from None


def prepare(path: Path, folder: Path, work: Path) -> None:
    """Check and write, all or nothing. Raises DataError, ValueError."""
    folders = opened(path, work, inside=(URL.rpartition("/")[2], "images.zip"))
    scenes = below(folders, SCENES)
    wanted = [picture_name(name, i) for name, split in read_scenes(scenes).items() for i in range(len(split.label))]
    found = {picture.name: picture for place in folders for picture in sorted(place.rglob("css_*.png"))}
    lacking = [name for name in wanted if name not in found]
    if len(lacking) > 0.05 * len(wanted):
        raise DataError(f"{len(lacking):,} of {len(wanted):,} pictures are missing, such as {lacking[0]}")
    with new_folder(folder) as new:
        with new_file(new / SCENES) as file:
            file.write(scenes.read_bytes())
        zip_pictures({name: found[name] for name in wanted if name in found}, new / "images.zip")
        write_manifest(new, dataset="css")


def statistics(folder: Path) -> list[tuple[str, str]]:
    """Numbers of the prepared data; the expected ones are at the end of this file."""
    pictures, rows = listing(folder)[1], []
    for name, split in read_scenes(folder / SCENES).items():
        m = len(split.label)
        draws = CSSDraws(split, range(m), list(range(m)))  # no picture is needed to count queries
        here = sum(picture_name(name, i) in pictures for i in range(m))
        rows += [
            (f"{name}: pictures here", f"{here:,} of {m:,}"),
            (f"{name}: different scenes", f"{len({*split.label}):,}"),
            (f"{name}: modifications", f"{len(split.changes):,}"),
            (f"{name}: queries", f"{len(draws.queries):,}"),
            (f"{name}: without an answer", f"{draws.unanswerable:,}"),
        ]
    return [*rows, facts_size(read_manifest(folder))]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return Script("css", __doc__, BY_HAND, ABOUT, NEEDED_MB, gather, prepare, statistics).main(argv)


if __name__ == "__main__":
    sys.exit(main())

# Expected by what the paper says; the set has not been seen here.
#   train: queries                about 16,000
#   test: queries                 about 16,000
