"""Get FashionProducts: small photos of fashion articles and their titles in a shop, from Kaggle.

    python data_scripts/get_fashion_products.py                  says what to fetch by hand: Kaggle asks for an account
    python data_scripts/get_fashion_products.py --from PATH      from Kaggle's zip, or from a folder
    python data_scripts/get_fashion_products.py --verify         check what was prepared

The photos are checked and packed, unchanged, into one images.zip beside styles.csv. Run twice, it does nothing.
"""

import sys
from pathlib import Path

from commonspace.data.download import DataError, new_file, new_folder, read_manifest, write_manifest
from commonspace.data.fashion_products import normalised, read_styles, side
from commonspace.data.pictures import listing
from commonspace.data.script import Script, Source, below, facts_size, opened, pictures_below, zip_pictures

PAGE = "https://www.kaggle.com/datasets/paramaggarwal/fashion-product-images-small"
ABOUT = f"""\
FashionProducts: photos of 80 x 60 pixels and titles of some 44,000 fashion articles
  size     the download, by hand, is some 600 MB: it holds everything twice; prepared some 70 MB
  source   {PAGE}
  terms    MIT as its uploader states; the photos are Myntra's: for study, not for a shop
  check    the owner publishes no checksum: every row is parsed, every photo decoded"""
BY_HAND = f"""\
by hand: sign in at
  {PAGE}
press Download, then
  python data_scripts/get_fashion_products.py --from archive.zip
or pass a folder that holds styles.csv and images/ or images.zip. Hugging Face has the same as
ashraq/fashion-product-images-small, in parquet files, which this script does not read. --mirror takes archive.zip
from a server of your own."""
NEEDED_MB = 1500


def gather(source: Source) -> Path:
    """The archive or folder. Raises DataError that tells the step by hand."""
    if source.given is not None:
        return source.given
    if source.mirror is None:
        raise DataError(
            f"Kaggle gives this set to signed-in people only: download {PAGE} by hand, then run "
            "python data_scripts/get_fashion_products.py --from archive.zip"
        )
    return source.download("archive.zip")


def prepare(path: Path, folder: Path, work: Path) -> None:
    """Check and write, all or nothing. Raises DataError, ValueError."""
    folders = opened(path, work, inside=("images.zip",))
    styles = below(folders, "styles.csv")
    rows = read_styles(styles)
    wanted = {f"{i}.jpg" for i in rows}
    pictures = {name: photo for name, photo in pictures_below(folders).items() if name in wanted}
    if len(pictures) < 0.95 * len(rows) or not rows:
        raise DataError(f"{len(pictures):,} of {len(rows):,} articles have a photo, nearly all were expected")
    with new_folder(folder) as new:
        with new_file(new / "styles.csv") as file:
            file.write(styles.read_bytes())
        zip_pictures(pictures, new / "images.zip")
        write_manifest(new, dataset="fashion-products")


def statistics(folder: Path) -> list[tuple[str, str]]:
    """Numbers of the prepared data; the expected ones are at the end of this file."""
    styles = read_styles(folder / "styles.csv")
    photos = listing(folder)[1]
    rows = [row for i, row in styles.items() if f"{i}.jpg" in photos]
    titles = [row["productDisplayName"] for row in rows if normalised(row["productDisplayName"])]
    sides = [side(title) for title in titles]
    return [
        ("articles", f"{len(styles):,}"),
        ("without a photo", f"{len(styles) - len(rows):,}"),
        ("without a title", f"{len(rows) - len(titles):,}"),
        ("different titles", f"{len(set(map(normalised, titles))):,}"),
        ("kinds of article", f"{len({row['articleType'] for row in rows})}"),
        ("train, validation, test", f"{sum(s > 1 for s in sides):,}, {sides.count(1):,}, {sides.count(0):,}"),
        facts_size(read_manifest(folder)),
    ]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return Script("fashion-products", __doc__, BY_HAND, ABOUT, NEEDED_MB, gather, prepare, statistics).main(argv)


if __name__ == "__main__":
    sys.exit(main())

# Expected, with the 24,136 photos that the course's numbers were measured on. Kaggle's whole has some 44,000; what it
# prints has not been seen here.
#   articles                      24,136
#   without a photo               0
#   without a title               0
#   different titles              18,301
#   kinds of article              131
#   train, validation, test       19,007, 2,511, 2,618
#   size                          39.6 MB
