"""Wikipedia: 2,866 pairs of a picture and the article section around it, as features, in ten classes.

The features of N. Rasiwasia et al., A New Approach to Cross-Modal Multimedia Retrieval, ACM Multimedia 2010: a picture
is a bag of 128 SIFT words, a text is its shares in 10 LDA topics. ``python data_scripts/get_wikipedia.py`` gets them.
"""

from pathlib import Path

import numpy as np

from commonspace.data import files
from commonspace.data.download import mendable
from commonspace.data.samples import PairedFeatures

COMMAND = "python data_scripts/get_wikipedia.py"
FEATURES, CLASSES = "raw_features.mat", "categories.list"
LISTS = {"tr": "trainset_txt_img_cat.list", "te": "testset_txt_img_cat.list"}


class Wikipedia:
    """``Wikipedia().train`` and ``.test``: `PairedFeatures`, the official 2,173 and 693 pairs in the owners' order.

    ``image``: (n, 128), each row sums to 1. ``text``: (n, 10), each row sums to 1. ``label``: 0..9, the ten of
    ``classes``. ``root``: a folder to look in instead of ``$COMMONSPACE_DATA`` and the cache. Raises FileNotFoundError
    that names the command when the data is missing, ValueError for damaged data.
    """

    def __init__(self, root: str | Path | None = None):
        folder = files.find("wikipedia", FEATURES, COMMAND, root).parent
        with mendable(folder, COMMAND):
            self.train, self.test = read_pairs(folder)
        print(
            f"Wikipedia: {len(self.train):,} train and {len(self.test):,} test pairs, "
            f"{len(self.train.classes)} classes, from {files.shown(folder)}"
        )


def read_pairs(folder: Path) -> tuple[PairedFeatures, PairedFeatures]:
    """Train and test from a folder of the owners' four files. Raises ValueError that names a file which will not do."""
    from scipy.io import loadmat

    for name in (CLASSES, *LISTS.values()):
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
    classes = (folder / CLASSES).read_text(encoding="utf-8").split()
    try:
        matrices = loadmat(folder / FEATURES, variable_names=[f"{kind}_{part}" for kind in "IT" for part in LISTS])
        parts = {part: (matrices[f"I_{part}"], matrices[f"T_{part}"]) for part in LISTS}
    except Exception as error:  # scipy answers a damaged file with a dozen kinds of exception
        raise ValueError(f"{FEATURES} is damaged or another file ({type(error).__name__}: {error})") from None
    pairs = []
    for part, (image, text) in parts.items():
        lines = [line.split() for line in (folder / LISTS[part]).read_text(encoding="utf-8").splitlines() if line]
        if any(len(line) != 3 or not line[2].isdecimal() for line in lines):
            raise ValueError(f"{LISTS[part]}: a line is text, picture and class number, separated by tabs")
        if len(lines) != len(image):
            raise ValueError(f"{LISTS[part]} has {len(lines):,} lines, {FEATURES} has {len(image):,} rows for it")
        label = np.array([int(line[2]) - 1 for line in lines], dtype=np.int64)  # theirs are 1-based
        pairs.append(PairedFeatures(image, text, label, classes))
    return pairs[0], pairs[1]
