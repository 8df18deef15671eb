"""Get MIT-States (Isola, Lim and Adelson 2015): photos of nouns in many states, such as "diced tomato".

    python data_scripts/get_mit_states.py                by http from its owners
    python data_scripts/get_mit_states.py --from PATH    from the archive, or the folder it unpacks to, fetched by hand
    python data_scripts/get_mit_states.py --verify       check what was prepared

The photos with a known adjective are checked and packed, unchanged, into one images.zip. Run twice, it does nothing.
"""

import sys
from pathlib import Path

from commonspace.data.download import DataError, new_folder, read_manifest, write_manifest
from commonspace.data.mit_states import caption_of, listing
from commonspace.data.mit_states_queries import MITStatesDraws
from commonspace.data.script import Script, Source, facts_size, opened, zip_pictures

# Not reached when this was written.
PAGE = "http://web.mit.edu/phillipi/Public/states_and_transformations/index.html"
URL = "http://wednesday.csail.mit.edu/joseph_result/state_and_transformation/release_dataset.zip"
ABOUT = f"""\
MIT-States: 53,753 photos of 245 nouns with 115 adjectives
  size     not measured here: the set has not been seen by us
  source   {URL}
  terms    we know of none stated; the photos are their photographers'. Cite Isola, Lim and Adelson, CVPR 2015
  check    the owners publish no checksum: photos and folders are counted, every photo is decoded"""
BY_HAND = f"""\
by hand: the archive is linked from
  {PAGE}
Pass it, or the folder it unpacks to, with --from. At any depth it holds folders of an adjective and a noun with the
photos, such as images/diced tomato/1.jpg; folders such as "adj tomato", of no known state, are passed over."""
PHOTOS = 53_753
NEEDED_MB = 8000


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
    found: dict[str, Path] = {}
    for place in opened(path, work, inside=(URL.rpartition("/")[2], "images.zip")):
        for photo in sorted(place.rglob("*")):
            name = f"{photo.parent.name}/{photo.name}"
            if caption_of(name):
                found.setdefault(name, photo)
    if len(found) < 0.95 * PHOTOS:
        raise DataError(f"{len(found):,} photos in folders of an adjective and a noun were found, {PHOTOS:,} expected")
    with new_folder(folder) as new:
        zip_pictures(found, new / "images.zip")
        write_manifest(new, dataset="mit-states")


def statistics(folder: Path) -> list[tuple[str, str]]:
    """Numbers of the prepared data; the expected ones are at the end of this file."""
    captions = {side: [caption_of(place) for place in places] for side, places in listing(folder)[1].items()}
    words = [caption.split() for own in captions.values() for caption in own]
    nouns = [len({caption.split()[1] for caption in own}) for own in captions.values()]
    test = MITStatesDraws(range(len(captions["test"])), captions["test"]).queries()  # counting needs no picture
    return [
        ("photos", f"{len(words):,}"),
        ("train, test photos", f"{len(captions['train']):,}, {len(captions['test']):,}"),
        ("train, test nouns", f"{nouns[0]}, {nouns[1]}"),
        ("adjectives", f"{len({adjective for adjective, _ in words})}"),
        ("test queries", f"{len(test):,}"),
        ("right answers a query", f"{sum(map(len, test.relevant)) / len(test):.1f}"),
        facts_size(read_manifest(folder)),
    ]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return Script("mit-states", __doc__, BY_HAND, ABOUT, NEEDED_MB, gather, prepare, statistics).main(argv)


if __name__ == "__main__":
    sys.exit(main())

# Expected by what is written about the set; it has not been seen here.
#   photos                        53,753
#   train, test photos            43,207, 10,546
#   train, test nouns             196, 49
#   adjectives                    115
#   test queries                  82,732
#   right answers a query         26.7
