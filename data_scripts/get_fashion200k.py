"""Get Fashion200k (Han et al. 2017): 201,838 cropped pictures of clothes with captions, and TIRG's test queries.

    python data_scripts/get_fashion200k.py                says what to fetch by hand: the pictures are given on request
    python data_scripts/get_fashion200k.py --from PATH    from a folder that holds the archives, or what is in them
    python data_scripts/get_fashion200k.py --verify       check what was prepared

The pictures are checked and packed, unchanged, into one images.zip beside labels/ and test_queries.txt, which is
fetched where the folder lacks it. Run twice, it does nothing.
"""

import sys
import tempfile
from pathlib import Path

from commonspace.data.download import DataError, extract, new_file, new_folder, read_manifest, write_manifest
from commonspace.data.fashion200k import QUERIES, places_in, read_labels, read_queries
from commonspace.data.fashion200k_captions import CaptionPairs
from commonspace.data.script import Script, Source, below, facts_size, zip_pictures

# Not reached when this was written.
PAGE = "https://github.com/xthan/fashion-200k"
LIST = f"https://storage.googleapis.com/image_retrieval_css/{QUERIES}"
PICTURES, LABELS = "women.tar.gz", "labels.zip"
ABOUT = f"""\
Fashion200k: 201,838 cropped pictures of clothes with a caption each, 33,480 test queries
  size     not measured here: the pictures have not been seen by us
  source   {PAGE}; the test queries, {LIST}
  terms    pictures on request, for research; they are their shops'
           Cite Han et al., ICCV 2017, and for the queries Vo et al., CVPR 2019
  check    the owners publish no checksum: labels and queries must agree line by line, every picture is decoded"""
BY_HAND = f"""\
by hand: ask for the data as {PAGE} says. Needed are labels/ (ten files such as
dress_train_detect_all.txt) and women.tar.gz, the *cropped* pictures; not the addresses of the whole ones, which are
another set and many of which are gone. Put them, packed or unpacked, into one folder and pass it with --from.
{QUERIES} (two pictures a line) is fetched from
  {LIST};
where that does not answer, put a copy from a colleague into the folder. --mirror takes {QUERIES}, {LABELS} and
{PICTURES} from a server of your own."""
NEEDED_MB = 30_000
LIMIT = 64 << 30  # bytes that an archive may unpack to


def gather(source: Source) -> list[Path]:
    """What was given, and where the downloads are. Raises DataError; with neither, it tells the step by hand."""
    if source.given is None and source.mirror is None:
        raise DataError(
            f"the pictures are given on request: see {PAGE} and --help, then run "
            "python data_scripts/get_fashion200k.py --from FOLDER"
        )
    if source.given is None:
        for name in (LIST, LABELS, PICTURES):
            source.download(name)
        return [source.keep]
    if not source.given.exists():
        raise DataError(f"--from {source.given}: there is no such folder or archive")
    if source.given.is_dir() and any(source.given.rglob(QUERIES)):
        return [source.given]
    try:
        return [source.given, source.download(LIST).parent]
    except DataError as error:  # an archive may hold it
        print(f"  {error}")
        return [source.given]


def opened(path: Path, work: Path) -> list[Path]:
    """The folder, or what the archive unpacks to, and what the known archives in it unpack to. Raises DataError."""
    if path.is_dir():
        inside = (found for name in (PICTURES, LABELS, "images.zip") for found in sorted(path.rglob(name)))
        return [path, *(folder for archive in inside for folder in opened(archive, work))]
    target = Path(tempfile.mkdtemp(prefix="unpacked-", dir=work))
    print(f"  unpacking {path.name}", flush=True)
    extract(path, target, limit=LIMIT)
    return opened(target, work)


def label_files(folders: list[Path]) -> dict[str, Path]:
    """The label files by name; of several with one name the first."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.txt")):
            if ("_train_" in path.name or "_test_" in path.name) and not path.name.startswith("._"):
                found.setdefault(path.name, path)
    return found


def prepare(paths: list[Path], folder: Path, work: Path) -> None:
    """Check and write, all or nothing. Raises DataError, ValueError."""
    folders = [inside for path in paths for inside in opened(path, work)]
    texts = {f"labels/{name}": path for name, path in label_files(folders).items()}
    texts[QUERIES] = below(folders, QUERIES)
    with new_folder(folder) as new:
        for name, text in texts.items():
            with new_file(new / name) as file:
                file.write(text.read_bytes())
        labels = {part: read_labels(new, part) for part in ("train", "test")}
        read_queries(new / QUERIES, labels["test"])
        wanted = labels["train"].keys() | labels["test"].keys()
        pictures = {}
        for path in (path for inside in folders for path in inside.absolute().rglob("*.jpeg")):
            name = f"women/{path.as_posix().rpartition('/women/')[2]}"
            if name in wanted:
                pictures.setdefault(name, path)
        if len(pictures) < 0.95 * len(wanted):
            raise DataError(f"{len(pictures):,} of the {len(wanted):,} pictures were found, nearly all were expected")
        zip_pictures(pictures, new / "images.zip")
        write_manifest(new, dataset="fashion200k")


def statistics(folder: Path) -> list[tuple[str, str]]:
    """Numbers of the prepared data; the expected ones are at the end of this file."""
    labels = {part: read_labels(folder, part) for part in ("train", "test")}
    places = places_in(folder)[1]
    rows = [
        (f"{part} pictures here", f"{sum(name in places for name in own):,} of {len(own):,}")
        for part, own in labels.items()
    ]
    pairs = {rule: CaptionPairs(list(dict.fromkeys(labels["train"].values())), rule) for rule in (False, True)}
    can = {rule: {c for c, can in zip(of.captions, of.can, strict=True) if can} for rule, of in pairs.items()}
    sources = {rule: sum(caption in able for caption in labels["train"].values()) for rule, able in can.items()}
    return [
        *rows,
        ("train captions", f"{len(pairs[False].captions):,}"),
        ("sources", f"{sources[False]:,}; by the release's rule {sources[True]:,}"),
        ("test queries", f"{len(read_queries(folder / QUERIES, labels['test'])):,}"),
        facts_size(read_manifest(folder)),
    ]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return Script("fashion200k", __doc__, BY_HAND, ABOUT, NEEDED_MB, gather, prepare, statistics).main(argv)


if __name__ == "__main__":
    sys.exit(main())

# Expected: as a run of Vo et al.'s program printed them in public, and Anwaar et al., WACV 2021, table 1. Of the data
# only 5,000 captions have been seen here.
#   train pictures here           172,049 of 172,049
#   test pictures here            29,789 of 29,789
#   train captions                53,099
#   sources                       by the release's rule 106,464
#   test queries                  33,480
