"""Get COCO (Lin et al. 2014) with the captions and parts of Karpathy and Fei-Fei: 123,287 photos, five captions each.

    python data_scripts/get_coco.py                  by https and http
    python data_scripts/get_coco.py --from FOLDER    from a folder that holds the archives, or what is in them
    python data_scripts/get_coco.py --verify         check what was prepared

The photos are checked and packed, unchanged, into one images.zip beside the captions. Run twice, it does nothing.
"""

import functools
import sys
from pathlib import Path

from commonspace.data.download import DataError
from commonspace.data.karpathy import Coco
from commonspace.data.karpathy_files import CAPTIONS, prepare, statistics
from commonspace.data.script import Script, Source

# Not reached when this was written. The owners' server has the photos by http alone.
PHOTOS = "http://images.cocodataset.org/zips"
ARCHIVES = ("train2014.zip", "val2014.zip")
ABOUT = f"""\
COCO: 123,287 photos with five captions each, in Karpathy's parts
  size     download about 20 GB, prepared as much
  source   {CAPTIONS}
           {PHOTOS}/train2014.zip and val2014.zip
  terms    captions CC BY 4.0; the photos are under Flickr's terms of use, see https://cocodataset.org
           Cite Lin et al., ECCV 2014; Karpathy and Fei-Fei, CVPR 2015
  check    the owners publish no checksum: every photo is decoded, the numbers below can be compared"""
BY_HAND = f"""\
by hand: put {CAPTIONS.rpartition("/")[2]}, or dataset_coco.json out of it, and {" and ".join(ARCHIVES)}, or the
folders they unpack to, into one folder and pass it with --from. Sources:
  {CAPTIONS}
  {PHOTOS}
Zips are read without being unpacked. Part of the photos will do: the others are left out."""
NEEDED_MB = 42_000


def gather(source: Source) -> Path:
    """The folder with the archives, or what was given. Raises DataError."""
    if source.given is not None:
        return source.given
    try:
        for url in (CAPTIONS, *(f"{PHOTOS}/{name}" for name in ARCHIVES)):
            source.download(url)
    except DataError as error:
        raise DataError(f"{error}. By hand: --help") from None
    return source.keep


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    steps = functools.partial(prepare, Coco, ARCHIVES), functools.partial(statistics, Coco)
    return Script("coco", __doc__, BY_HAND, ABOUT, NEEDED_MB, gather, *steps).main(argv)


if __name__ == "__main__":
    sys.exit(main())

# Expected by what is published of Karpathy's parts, train and restval together 113,287; the set has not been seen here.
#   photos with captions          123,287
#   photos of val here            5,000 of 5,000
#   photos of test here           5,000 of 5,000
