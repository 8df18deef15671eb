"""Get Pascal Sentences (Rashtchian et al. 2010): 1,000 photos in 20 classes with five sentences each.

    python data_scripts/get_pascal_sentences.py                says what to fetch by hand: there is no archive
    python data_scripts/get_pascal_sentences.py --from PATH    from the folder fetched by hand, or an archive of it
    python data_scripts/get_pascal_sentences.py --verify       check what was prepared

The photos are checked and packed, unchanged, into one images.zip beside sentences.tsv. The features of DSCMR's authors
are taken as well where the folder holds them. Run twice, it does nothing.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path

from commonspace.data.download import DataError, new_file, new_folder, read_manifest, write_manifest
from commonspace.data.pascal_sentences import (
    CLASSES,
    FEATURES,
    SENTENCES,
    divide,
    photo_name,
    read_features,
    read_sentences,
)
from commonspace.data.pictures import listing
from commonspace.data.script import Script, Source, below, facts_size, opened, zip_pictures

# Not reached when this was written.
PAGE = "http://vision.cs.uiuc.edu/pascal-sentences/"
SECOND = "http://nlp.cs.illinois.edu/HockenmaierGroup/pascal-sentences/index.html"
DSCMR = "https://github.com/penghu-cs/DSCMR (data/pascal)"
ABOUT = f"""\
Pascal Sentences: 1,000 photos of PASCAL VOC 2008 in 20 classes with five sentences each
  size     not measured here: the set has not been seen by us
  source   {PAGE}
  terms    the owners state none; the photos are Flickr users', see PASCAL VOC. Cite Rashtchian et al., NAACL 2010
  check    the owners publish no checksum: photos, sentences and classes are counted, every photo is decoded"""
BY_HAND = f"""\
by hand: the owners' page shows all photos and sentences, and offers no archive. Copy it, photos included:
  wget --recursive --level=1 --no-parent --page-requisites {PAGE}
Where it does not answer, try {SECOND},
a copy in the Internet Archive, or a colleague's. Pass the folder, or an archive of it, with --from. It holds, at any
depth, folders named by class with the photos, such as aeroplane/2008_000716.jpg, and either index.html or text files
such as sentence/aeroplane/2008_000716.txt with a sentence a line. --mirror takes pascal-sentences.zip from a server of
your own. Features alone (VGG-19 and a sentence CNN, 800 train and 100 test rows) are in
  {DSCMR}:
{", ".join(FEATURES)};
to have both, put them into the same folder."""
NEEDED_MB = 500


class Page(HTMLParser):
    """The owners' page: a row of the table is the photo, ``class/picture.jpg``, and a table with a sentence a cell."""

    def __init__(self):
        super().__init__()
        self.sentences: dict[str, list[str]] = {}
        self.picture, self.text = "", ""

    def cell(self) -> None:
        """The text of one cell is complete."""
        if self.picture and self.text.strip():
            self.sentences[self.picture].append(" ".join(self.text.split()))
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.picture = "/".join((dict(attrs).get("src") or "").split("/")[-2:])
            self.sentences.setdefault(self.picture, [])
        if tag in ("img", "table", "td", "tr"):
            self.cell()

    def handle_endtag(self, tag: str) -> None:
        if tag in ("table", "td", "tr"):
            self.cell()

    def handle_data(self, data: str) -> None:
        self.text += data


def gather(source: Source) -> Path:
    """The archive or folder. Raises DataError that tells the step by hand."""
    if source.given is not None:
        return source.given
    if source.mirror is None:
        raise DataError(
            f"{PAGE} offers no archive: copy the page by hand (how: --help), then run "
            "python data_scripts/get_pascal_sentences.py --from FOLDER"
        )
    return source.download("pascal-sentences.zip")


def found_sentences(folders: list[Path]) -> dict[str, list[str]]:
    """Sentences by ``class/picture.jpg`` in whichever layout is there; of no layout an empty dictionary."""
    paths = sorted(path for folder in folders for path in folder.rglob("*"))
    for path in paths:
        if path.name == SENTENCES:
            return read_sentences(path)
    sentences: dict[str, list[str]] = {}
    for path in paths:
        if path.name == "index.html":
            page = Page()
            page.feed(path.read_text(encoding="utf-8", errors="replace"))
            sentences |= {k: v for k, v in page.sentences.items() if k.split("/")[0] in CLASSES and k.endswith(".jpg")}
        elif path.parent.name in CLASSES and path.name.endswith("txt"):  # a known copy's names lack the dot
            picture = f"{path.parent.name}/{path.name.removesuffix('txt').removesuffix('.')}.jpg"
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            sentences[picture] = [" ".join(line.split()) for line in lines if line.strip()]
    if silent := [picture for picture, own in sentences.items() if not own]:
        raise DataError(f"{len(silent):,} photos have no sentence, the first is {silent[0]}")
    return sentences


def prepare(path: Path, folder: Path, work: Path) -> None:
    """Check and write, all or nothing. Raises DataError, ValueError."""
    folders = opened(path, work, inside=("images.zip",))
    sentences = found_sentences(folders)
    has_features = any(True for place in folders for _ in place.rglob(FEATURES[0]))
    if not sentences and not has_features:
        raise DataError(f"neither index.html, nor sentence files, nor {FEATURES[0]} was found (layouts: --help)")
    with new_folder(folder) as new:
        if sentences:
            photos = {
                f"{file.parent.name}_{file.name}" if file.parent.name in CLASSES else file.name: file
                for place in folders
                for file in sorted(place.rglob("*.jpg"))
            }
            wanted = sorted(map(photo_name, sentences))
            if len(lacking := [name for name in wanted if name not in photos]) > 0.05 * len(wanted):
                raise DataError(f"{len(lacking):,} of {len(wanted):,} photos are missing, such as {lacking[0]}")
            with new_file(new / SENTENCES) as file:
                file.write("".join(f"{key}\t{line}\n" for key in sorted(sentences) for line in sentences[key]).encode())
            zip_pictures({name: photos[name] for name in wanted if name in photos}, new / "images.zip")
        if has_features:
            for name in FEATURES:
                with new_file(new / name) as file:
                    file.write(below(folders, name).read_bytes())
            read_features(new)
        write_manifest(new, dataset="pascal-sentences")


def statistics(folder: Path) -> list[tuple[str, str]]:
    """Numbers of the prepared data; the expected ones are at the end of this file."""
    rows = []
    if (folder / SENTENCES).is_file():
        sentences = read_sentences(folder / SENTENCES)
        photos = listing(folder)[1]
        classes = [picture.split("/")[0] for picture in sentences]
        parts = ", ".join(f"{len(names):,}" for names in divide(list(sentences)).values())
        rows = [
            ("photos with sentences", f"{len(sentences):,}"),
            ("photos here", f"{len(photos):,}"),
            ("with five sentences", f"{sum(len(own) == 5 for own in sentences.values()):,}"),
            ("classes", f"{len({*classes})}, {min(map(classes.count, classes))} photos or more each"),
            ("train, validation, test", parts),
        ]
    if (folder / FEATURES[0]).is_file():
        train, test = read_features(folder)
        rows.append(("features: train, test", f"{len(train):,}, {len(test):,}"))
        rows.append(("image, text dimensions", f"{train.image.shape[1]:,}, {train.text.shape[1]:,}"))
    return [*rows, facts_size(read_manifest(folder))]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return Script("pascal-sentences", __doc__, BY_HAND, ABOUT, NEEDED_MB, gather, prepare, statistics).main(argv)


if __name__ == "__main__":
    sys.exit(main())

# Expected by what is written about the set. Neither the photos nor the whole page have been seen here.
#   photos with sentences         1,000
#   photos here                   1,000
#   with five sentences           1,000
#   classes                       20, 50 photos or more each
#   train, validation, test       800, 100, 100
#   features: train, test         800, 100
#   image, text dimensions        4,096, 300
