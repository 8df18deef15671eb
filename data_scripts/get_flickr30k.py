"""Get Flickr30k (Young et al. 2014) with the captions and parts of Karpathy and Fei-Fei: photos, five captions each.

    python data_scripts/get_flickr30k.py                  says what to fetch by hand: the photos are given on request
    python data_scripts/get_flickr30k.py --from FOLDER    from a folder that holds the archives, or what is in them
    python data_scripts/get_flickr30k.py --verify         check what was prepared

The photos are checked and packed, unchanged, into one images.zip beside the captions. Run twice, it does nothing.
"""

import functools
import sys
from pathlib import Path

from commonspace.data.download import DataError
from commonspace.data.karpathy import Flickr30k
from commonspace.data.karpathy_files import CAPTIONS, prepare, statistics
from commonspace.data.script import Script, Source

# Not reached when this was written.
PAGE = "https://shannon.cs.illinois.edu/DenotationGraph/"
ARCHIVES = ("flickr30k-images.tar.gz", "flickr30k-images.tar", "flickr30k-images.zip")
ABOUT = f"""\
Flickr30k: about 31,000 photos with five captions each, in Karpathy's parts
  size     not measured here: several GB
  source   {CAPTIONS}
           {PAGE} (photos, on request)
  terms    non-commercial research and teaching only; the photos are under Flickr's terms of use
           Cite Young et al., TACL 2, 2014; Karpathy and Fei-Fei, CVPR 2015
  check    the owners publish no checksum: every photo is decoded, the numbers below can be compared"""
BY_HAND = f"""\
by hand: the photos, {ARCHIVES[0]}, are given on request: the form is at
  {PAGE}
Put them, packed or unpacked, and dataset_flickr30k.json, or {CAPTIONS.rpartition("/")[2]}, which has it, from
  {CAPTIONS}
into one folder and pass it with --from. Part of the photos will do: the others are left out. --mirror takes
{CAPTIONS.rpartition("/")[2]} and {ARCHIVES[0]} from a server of your own."""
NEEDED_MB = 15_000


def gather(source: Source) -> Path:
    """The folder with the archives, or what was given. Raises DataError that tells the step by hand."""
    if source.given is not None:
        return source.given
    if source.mirror is None:
        raise DataError(
            f"the photos are given on request: see {PAGE} and --help, then run "
            "python data_scripts/get_flickr30k.py --from FOLDER"
        )
    source.download(CAPTIONS)
    source.download(ARCHIVES[0])
    return source.keep


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    steps = functools.partial(prepare, Flickr30k, ARCHIVES), functools.partial(statistics, Flickr30k)
    return Script("flickr30k", __doc__, BY_HAND, ABOUT, NEEDED_MB, gather, *steps).main(argv)


if __name__ == "__main__":
    sys.exit(main())

# The set has not been seen here, so no numbers are promised.
