"""Get NUS-WIDE-10k (Chua et al. 2009; Feng et al. 2014): 10,000 photos and their tags in ten classes.

    python data_scripts/get_nus_wide_10k.py                says what to fetch by hand: the photos are given on request
    python data_scripts/get_nus_wide_10k.py --from PATH    from a folder that holds the archives, or what is in them
    python data_scripts/get_nus_wide_10k.py --verify       check what was prepared

The 10,000 are chosen from NUS-WIDE's own lists, and their photos checked and packed, unchanged, into one images.zip
beside pairs.tsv. Run twice, it does nothing.
"""

import sys
from pathlib import Path

from commonspace.data import nus_wide_10k
from commonspace.data.download import DataError, new_file, new_folder, read_manifest, write_manifest
from commonspace.data.nus_wide_10k import CLASSES, PAIRS, PARTS, Pair, read_owners, read_pairs, select
from commonspace.data.pictures import listing
from commonspace.data.script import Script, Source, below, facts_size, pictures_below, unpacked, zip_pictures

# Not reached when this was written.
PAGE = "https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html"
LISTS = ("ImageList.zip", "NUS_WID_Tags.zip", "Groundtruth.zip")
PHOTOS = "Flickr.zip"
WANTED = ("Imagelist.txt", "All_Tags.txt", *(f"Labels_{name}.txt" for name in CLASSES))
ABOUT = f"""\
NUS-WIDE-10k: 10,000 photos and their tags, 1,000 of each of ten classes
  size     not measured here: of NUS-WIDE's 269,648 photos 10,000 are kept
  source   {PAGE}
  terms    photos on request, for research and teaching; they are their photographers'
           Cite Chua et al., CIVR 2009, and for the subset Feng et al., ACM MM 2014
  check    the owners publish no checksum: the lists must agree line by line, every photo is decoded"""
BY_HAND = f"""\
by hand: {", ".join(LISTS)} lie beside
  {PAGE}
The photos (Flickr/, 704 folders, such as Flickr/actor/0001_2124494179.jpg) are given on request: the page has the
form. Put the archives, or what is in them, and Flickr/ or {PHOTOS} into one folder and pass it with --from. On the
same page NUS-WIDE-urls.rar has the photos' addresses at Flickr, many of which are gone; up to 5 % may be missing.
--mirror takes {", ".join(LISTS)} and {PHOTOS} from a server of your own.
The authors' own choice of the 10,000 is not public; ours is by a rule: see commonspace/data/nus_wide_10k.py."""
SIZES = nus_wide_10k.SIZES
NEEDED_MB = 6000


def gather(source: Source) -> Path:
    """The folder with the archives, or what was given. Raises DataError that tells the step by hand."""
    if source.given is not None:
        return source.given
    if source.mirror is None:
        raise DataError(
            f"the photos are given on request: see {PAGE} and --help, then run "
            "python data_scripts/get_nus_wide_10k.py --from FOLDER"
        )
    for name in (*LISTS, PHOTOS):
        source.download(name)
    return source.keep


def chosen_pairs(folders: list[Path]) -> list[Pair]:
    """The pairs, from an earlier pairs.tsv or from the owners' lists. Raises DataError, ValueError."""
    for folder in folders:
        for path in folder.rglob(PAIRS):
            return read_pairs(path)
    image_list, tags, *labels = (below(folders, name) for name in WANTED)
    return select(*read_owners(image_list, tags, labels), SIZES)


def prepare(path: Path, folder: Path, work: Path) -> None:
    """Check and write, all or nothing. Raises DataError, ValueError."""
    top = unpacked(path, work)
    folders = [top, *(unpacked(found, work, WANTED) for name in LISTS for found in sorted(top.rglob(name)))]
    pairs = chosen_pairs(folders)
    wanted = {pair.photo.rpartition("/")[2] for pair in pairs}
    for name in (PHOTOS, "images.zip"):
        folders += [unpacked(found, work, wanted) for found in sorted(top.rglob(name))]
    photos = {name: photo for name, photo in pictures_below(folders).items() if name in wanted}
    if len(photos) < 0.95 * len(wanted):
        raise DataError(f"{len(photos):,} of the {len(wanted):,} photos were found, nearly all were expected")
    with new_folder(folder) as new:
        with new_file(new / PAIRS) as file:
            file.write("".join("\t".join(pair) + "\n" for pair in pairs).encode())
        zip_pictures(photos, new / "images.zip")
        write_manifest(new, dataset="nus-wide-10k")


def statistics(folder: Path) -> list[tuple[str, str]]:
    """Numbers of the prepared data; the expected ones are at the end of this file."""
    pairs = read_pairs(folder / PAIRS)
    parts = [pair.part for pair in pairs]
    labels = [pair.label for pair in pairs]
    tags = sum(len(pair.tags.split()) for pair in pairs)
    return [
        ("pairs", f"{len(pairs):,}"),
        ("photos here", f"{len(listing(folder)[1]):,}"),
        ("train, validation, test", ", ".join(f"{parts.count(part):,}" for part in PARTS)),
        ("classes", f"{len({*labels})}, {min(map(labels.count, CLASSES)):,} pairs or more each"),
        ("tags a pair", f"{tags / len(pairs):.1f}"),
        facts_size(read_manifest(folder)),
    ]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return Script("nus-wide-10k", __doc__, BY_HAND, ABOUT, NEEDED_MB, gather, prepare, statistics).main(argv)


if __name__ == "__main__":
    sys.exit(main())

# Expected by the rule. Neither the lists nor the photos have been seen here.
#   pairs                         10,000
#   photos here                   10,000
#   train, validation, test       8,000, 1,000, 1,000
#   classes                       10, 1,000 pairs or more each
