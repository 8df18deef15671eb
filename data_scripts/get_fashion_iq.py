"""Get FashionIQ (Wu et al. 2019): captions that lead from one picture of a shop to another, and the pictures.

    python data_scripts/get_fashion_iq.py                by https: captions, lists, and each picture that is still there
    python data_scripts/get_fashion_iq.py --from PATH    from a folder or archive that holds them
    python data_scripts/get_fashion_iq.py --verify       check what was prepared

Many pictures are gone from the shop: they are left out, their names are in missing.txt, and the exit code is 3. The
others are checked and packed, unchanged, into one images.zip. A run that was stopped continues; run twice, it does
nothing.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from commonspace.data import files
from commonspace.data.download import DataError, fetch, new_file, new_folder, read_manifest, write_manifest
from commonspace.data.fashion_iq_files import (
    CATEGORIES,
    PARTS,
    SUFFIXES,
    captions_file,
    list_file,
    picture_places,
    read_captions,
    read_list,
)
from commonspace.data.script import Script, Source, below, facts_size, opened, zip_pictures

# Not reached when this was written.
OWNERS = "https://raw.githubusercontent.com/XiaoxiaoGuo/fashion-iq/master"
ADDRESSES = "https://raw.githubusercontent.com/hongwang600/fashion-iq-metadata/master/image_url"
ABOUT = f"""\
FashionIQ: pictures of dresses, shirts and tops, and what people said that leads from one to another
  size     not measured here: captions are a few MB, the pictures of the training and validation lists some 60,000
  source   {OWNERS}
           addresses of the pictures: {ADDRESSES}
  terms    captions and lists: Community Data License Agreement; the pictures are the shop's
           Cite Wu et al., arXiv:1905.12794
  check    the owners publish no checksum: captions and lists must agree, every picture is decoded"""
BY_HAND = """\
by hand: the files cap.*.json and split.*.json of the owners' folders captions/ and image_splits/, and the pictures,
<name>.jpg or <name>.png, into one folder at any depth; pass it with --from. Thousands of addresses were reported dead
as early as 2021 (XiaoxiaoGuo/fashion-iq, issues 8, 10, 13): authors of later papers pass copies on in issues of their
repositories, and ask you to write to FashionIQ's authors. --mirror takes cap.*.json, split.*.json and asin2url.*.txt
from a server of your own; the pictures come from the addresses in these."""
NEEDED_MB = 10_000
AT_ONCE = 8  # downloads
SILENT = 100  # pictures in a row without an answer: the network is gone, and not the pictures
SMALLEST = 10  # pixels a side: what shops send for a picture that is gone has 1


def addresses(path: Path) -> dict[str, str]:
    """Address by picture; a line of asin2url.*.txt is a name, a tab, an address."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2}


def fetch_pictures(urls: dict[str, str], folder: Path) -> None:
    """Fetch what is there, as <name>.jpg or .png, once; pass over what is gone. Raises DataError if none answers."""

    def get(name: str) -> str:
        suffix = ".png" if urls[name].lower().endswith(".png") else ".jpg"
        try:
            fetch(urls[name], folder / f"{name}{suffix}")
        except DataError as error:
            return str(error)
        return ""

    came = silent = 0
    print(f"  fetching {len(urls):,} pictures", flush=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for n, problem in enumerate(pool.map(get, urls), 1):
            came += not problem
            silent = silent + 1 if problem and "the server answered" not in problem else 0
            if silent == SILENT:
                pool.shutdown(cancel_futures=True)
                raise DataError(f"{SILENT} pictures in a row did not come, the last: {problem}. Run again to continue")
            if n % 1000 == 0:
                print(f"  {n:,} asked for, {came:,} came", flush=True)


def gather(source: Source) -> Path:
    """The folder with captions, lists and pictures, or what was given. Raises DataError."""
    if source.given is not None:
        return source.given
    urls, names = {}, {}
    for category in CATEGORIES:
        urls |= addresses(source.download(f"{ADDRESSES}/asin2url.{category}.txt"))
    for category, part in product(CATEGORIES, PARTS):
        captions = source.download(f"{OWNERS}/{captions_file(category, part)}")
        listed = source.download(f"{OWNERS}/{list_file(category, part)}")
        try:
            names |= dict.fromkeys(own := read_list(listed))
            read_captions(captions, category, set(own))
        except ValueError as error:  # now, while there are no pictures that would be thrown away with it
            captions.unlink()
            listed.unlink()
            raise DataError(f"{error}; run again to fetch it anew") from None
    fetch_pictures({name: urls[name] for name in names if name in urls}, source.keep / "images")
    return source.keep


def is_picture(path: Path) -> bool:
    """Whether a file can be decoded and is no placeholder."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return min(image.size) >= SMALLEST
    except (OSError, ValueError, SyntaxError):  # Pillow's words for what is no picture, or cut short
        return False


def prepare(path: Path, folder: Path, work: Path) -> None:
    """Check and write, all or nothing. Raises DataError, ValueError."""
    folders = opened(path, work, inside=("images.zip",))
    with new_folder(folder) as new:
        names: dict[str, None] = {}
        for category, part in product(CATEGORIES, PARTS):
            for name in (captions_file(category, part), list_file(category, part)):
                with new_file(new / name) as file:
                    file.write(below(folders, Path(name).name).read_bytes())
            own = read_list(new / list_file(category, part))
            read_captions(new / captions_file(category, part), category, set(own))
            names |= dict.fromkeys(own)
        found = {}
        for file in (file for inside in folders for file in sorted(inside.rglob("*"))):
            if file.stem in names and file.suffix.lower() in SUFFIXES and file.stem not in found and is_picture(file):
                found[file.stem] = file
        if not found:
            raise DataError(f"none of the {len(names):,} pictures of the lists was found")
        zip_pictures({file.name: file for file in found.values()}, new / "images.zip")
        with new_file(new / "missing.txt") as file:
            file.write("".join(f"{name}\n" for name in names if name not in found).encode())
        write_manifest(new, dataset="fashion-iq")


def statistics(folder: Path) -> list[tuple[str, str]]:
    """Numbers of the prepared data; the expected ones are at the end of this file."""
    places = picture_places(folder)[1]
    rows = []
    for part, category in product(PARTS, CATEGORIES):
        names = read_list(folder / list_file(category, part))
        queries = read_captions(folder / captions_file(category, part), category, set(names))
        rows.append((f"{part} {category}: pictures here", f"{sum(n in places for n in names):,} of {len(names):,}"))
        rows.append((f"{part} {category}: queries", f"{len(queries):,}"))
    return [*rows, facts_size(read_manifest(folder))]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code: 3 when all is prepared but for missing pictures."""
    code = Script("fashion-iq", __doc__, BY_HAND, ABOUT, NEEDED_MB, gather, prepare, statistics).main(argv)
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--root", type=Path, default=files.cache_dir())
    folder = parser.parse_known_args(argv)[0].root / "fashion-iq"
    if code or not (missing := (folder / "missing.txt").read_text(encoding="utf-8").split()):
        return code
    print(
        f"get_fashion_iq: {len(missing):,} pictures are missing, such as {', '.join(missing[:3])}; all names are in "
        f"{files.shown(folder / 'missing.txt')}. To add some, put them and what is prepared into one folder, delete "
        f"{files.shown(folder)} and pass the folder with --from",
        file=sys.stderr,
    )
    return 3


if __name__ == "__main__":
    sys.exit(main())

# Expected. The training files were seen here; of the validation files only the numbers of pictures are known, from
# FAME-ViL's repository, issue 8.
#   train dress: pictures here    11,452 of 11,452, less those that are gone
#   train dress: queries          5,985
#   train shirt: pictures here    19,036 of 19,036
#   train shirt: queries          5,988
#   train toptee: pictures here   16,121 of 16,121
#   train toptee: queries         6,027
#   val pictures                  3,817, 6,346 and 5,373
