"""Get Wikipedia (Rasiwasia et al. 2010): pairs of a picture and an article section, as features, in ten classes.

    python data_scripts/get_wikipedia.py                 by http from its owners
    python data_scripts/get_wikipedia.py --from PATH     from the archive, or a folder, fetched by hand
    python data_scripts/get_wikipedia.py --verify        check what was prepared

Four files are kept of the archive: the features, the two lists and the names of the classes. Run twice, it
does nothing.
"""

import sys
from pathlib import Path

from commonspace.data.download import DataError, new_file, new_folder, read_manifest, sha256, write_manifest
from commonspace.data.script import Script, Source, below, facts_size, unpacked
from commonspace.data.wikipedia import CLASSES, FEATURES, LISTS, read_pairs

# Not reached when this was written.
URL = "http://www.svcl.ucsd.edu/projects/crossmodal/wikipedia_dataset.zip"
ABOUT = f"""\
Wikipedia: 2,866 pairs of a picture and a text in ten classes
  size     prepared 1.3 MB; the download holds the pictures too, and its size was not measured here
  source   {URL}
  terms    the owners state none; the articles are from Wikipedia (CC BY-SA). Cite Rasiwasia et al., ACM MM 2010
  check    the owners publish no checksum: rows and classes are counted, and the features compared with ours"""
BY_HAND = f"""\
by hand: fetch {URL}
(links: http://www.svcl.ucsd.edu/projects/crossmodal/), or any folder that holds, at any depth,
{FEATURES}, {CLASSES}, {LISTS["tr"]} and {LISTS["te"]}; pass it with --from."""
FILES = (FEATURES, CLASSES, *LISTS.values())
FEATURES_SHA256 = "ca628f765a69575e168ab29eb97f5ade12fadf47b31de1328c7ff631c7f225ae"
ROWS = (2173, 693)
DIMENSIONS = (128, 10)
NEEDED_MB = 50


def gather(source: Source) -> Path:
    """The archive or folder. Raises DataError."""
    if source.given is not None:
        return source.given
    try:
        return source.download(URL)
    except DataError as error:
        raise DataError(f"{error}. By hand: --help") from None


def prepare(path: Path, folder: Path, work: Path) -> None:
    """Check the four files and write them, all or nothing. Raises DataError, ValueError."""
    source = unpacked(path, work, FILES)
    found = {name: below([source], name) for name in FILES}
    with new_folder(folder) as new:
        for name in FILES:
            with new_file(new / name) as file:
                file.write(found[name].read_bytes())
        pairs = read_pairs(new)
        if (got := tuple(len(part) for part in pairs)) != ROWS:
            raise DataError(
                f"{got[0]:,} train and {got[1]:,} test pairs came, {ROWS[0]:,} and {ROWS[1]:,} were expected"
            )
        if (got := (pairs[0].image.shape[1], pairs[0].text.shape[1])) != DIMENSIONS:
            raise DataError(f"image and text features have {got} dimensions, {DIMENSIONS} were expected")
        write_manifest(new, dataset="wikipedia", features_are_known=sha256(new / FEATURES) == FEATURES_SHA256)


def statistics(folder: Path) -> list[tuple[str, str]]:
    """Numbers of the prepared data; the expected ones are at the end of this file."""
    manifest = read_manifest(folder)
    train, test = read_pairs(folder)
    rows = [
        ("train, test pairs", f"{len(train):,}, {len(test):,}"),
        ("image, text dimensions", f"{train.image.shape[1]}, {train.text.shape[1]}"),
    ]
    for i, name in enumerate(train.classes):
        rows.append((f"train, test of {name}", f"{int((train.label == i).sum())}, {int((test.label == i).sum())}"))
    known = "the known file" if manifest["features_are_known"] else "another version than we checked with"
    return [*rows, ("features", known), facts_size(manifest)]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return Script("wikipedia", __doc__, BY_HAND, ABOUT, NEEDED_MB, gather, prepare, statistics).main(argv)


if __name__ == "__main__":
    sys.exit(main())

# Expected:
#   train, test pairs             2,173, 693
#   image, text dimensions        128, 10
#   train, test of art            138, 34
#   train, test of biology        272, 88
#   train, test of geography      244, 96
#   train, test of history        248, 85
#   train, test of literature     202, 65
#   train, test of media          178, 58
#   train, test of music          186, 51
#   train, test of royalty        144, 41
#   train, test of sport          214, 71
#   train, test of warfare        347, 104
#   features                      the known file
#   size                          1.3 MB
