"""Get Flickr8k (Hodosh, Young and Hockenmaier 2013): 8,091 photos with five captions each.

    python data_scripts/get_flickr8k.py                  by https
    python data_scripts/get_flickr8k.py --from PATH      from a folder that holds the two archives, or what is in them
    python data_scripts/get_flickr8k.py --verify         check what was prepared

The photos are checked and packed, unchanged, into one images.zip beside the captions. Run twice, it does nothing.
"""

import sys
from pathlib import Path

from commonspace.data.download import DataError, new_file, new_folder, read_manifest, sha256, write_manifest
from commonspace.data.flickr8k import CAPTIONS, LISTS, read_captions
from commonspace.data.pictures import listing
from commonspace.data.script import Script, Source, below, facts_size, opened, pictures_below, zip_pictures

# The authors' own server is gone; their form is the official way. Not reached when this was written.
BASE = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k"
ARCHIVES = ("Flickr8k_text.zip", "Flickr8k_Dataset.zip")
ABOUT = f"""\
Flickr8k: 8,091 photos with five captions each
  size     download 1.1 GB; prepared 1.1 GB
  source   {BASE}, a copy of the authors' files
  terms    research and teaching only, not to be passed on; the photos are their photographers'
           Cite Hodosh et al., JAIR 47, 2013
  check    the owners publish no checksum: captions are compared with ours, every photo is decoded"""
BY_HAND = f"""\
by hand: {" and ".join(ARCHIVES)} into one folder, from
  {BASE}
or by the authors' form at https://forms.illinois.edu/sec/1713398 (whether it still answers was not checked); pass the
folder with --from."""
CAPTIONS_SHA256 = "9b8608b02da9040581f1e3d4c8738db1fb6f63314342100432adc3962f77d71a"
NEEDED_MB = 4000


def gather(source: Source) -> Path:
    """The folder with both archives, or what was given. Raises DataError."""
    if source.given is not None:
        return source.given
    try:
        for name in ARCHIVES:
            source.download(f"{BASE}/{name}")
    except DataError as error:
        raise DataError(f"{error}. By hand: --help") from None
    return source.keep


def prepare(path: Path, folder: Path, work: Path) -> None:
    """Check and write, all or nothing. Raises DataError, ValueError."""
    folders = opened(path, work, inside=(*ARCHIVES, "images.zip"))
    texts = {name: below(folders, name) for name in (CAPTIONS, *LISTS.values())}
    captions = read_captions(texts[CAPTIONS])
    pictures = {name: photo for name, photo in pictures_below(folders).items() if name in captions}
    if not pictures:
        raise DataError(f"none of the {len(captions):,} photos that have captions was found")
    with new_folder(folder) as new:
        for name, text in texts.items():
            with new_file(new / name) as file:
                file.write(text.read_bytes())
        zip_pictures(pictures, new / "images.zip")
        write_manifest(new, dataset="flickr8k", captions_are_known=sha256(texts[CAPTIONS]) == CAPTIONS_SHA256)


def statistics(folder: Path) -> list[tuple[str, str]]:
    """Numbers of the prepared data; the expected ones are at the end of this file."""
    manifest = read_manifest(folder)
    captions = read_captions(folder / CAPTIONS)
    photos = listing(folder)[1]
    rows = [
        ("photos with captions", f"{len(captions):,}"),
        ("captions", f"{sum(map(len, captions.values())):,}"),
        ("photos here", f"{len(photos):,}"),
    ]
    for part, name in LISTS.items():
        names = (folder / name).read_text(encoding="utf-8").split()
        rows.append((f"photos of {part} here", f"{sum(n in photos for n in names):,} of {len(names):,}"))
    known = "the known file" if manifest["captions_are_known"] else "another version than we checked with"
    return [*rows, ("caption file", known), facts_size(manifest)]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return Script("flickr8k", __doc__, BY_HAND, ABOUT, NEEDED_MB, gather, prepare, statistics).main(argv)


if __name__ == "__main__":
    sys.exit(main())

# Expected. The captions and lists were seen here, all the photos were not: of 875 that were, 753 are of train and 113
# of dev. One picture that has captions has no photo in the published archive.
#   photos with captions          8,092
#   captions                      40,460
#   photos here                   8,091
#   photos of train here          6,000 of 6,000
#   photos of dev here            1,000 of 1,000
#   photos of test here           1,000 of 1,000
#   caption file                  the known file
