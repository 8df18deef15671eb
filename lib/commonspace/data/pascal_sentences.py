"""Pascal Sentences: 1,000 photos of PASCAL VOC 2008 in 20 classes, each with five sentences.

C. Rashtchian, P. Young, M. Hodosh and J. Hockenmaier, Collecting Image Annotations Using Amazon's Mechanical Turk,
NAACL 2010 workshop. ``python data_scripts/get_pascal_sentences.py`` prepares it. Cross-modal papers test on 100 pairs
after training on 800, but publish no lists; the split here is our own, by a stated rule (`divide`).
"""

import hashlib
from pathlib import Path

import torch

from commonspace.data import files
from commonspace.data.download import mendable
from commonspace.data.pictures import Pictures, check_size, listing
from commonspace.data.samples import PairedFeatures, PairedSamples

COMMAND = "python data_scripts/get_pascal_sentences.py"
SENTENCES = "sentences.tsv"
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
# Hu et al. (DSCMR, CVPR 2019) ship features in these, one variable each, named as the file.
FEATURES = tuple(f"{part}_{kind}.mat" for part in ("train", "test") for kind in ("img", "txt", "img_lab"))


def read_sentences(path: Path) -> dict[str, list[str]]:
    """The sentences by picture, ``class/picture.jpg``. Raises ValueError that names the line which will not do.

    A line is ``class/picture.jpg``, a tab, one sentence.
    """
    sentences: dict[str, list[str]] = {}
    for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        picture, _, sentence = line.partition("\t")
        name, _, file = picture.partition("/")
        if name not in CLASSES or not file.endswith(".jpg") or not sentence.strip():
            raise ValueError(f"{path.name} line {n} must be class/picture.jpg, a tab, a sentence; got {line[:60]!r}")
        sentences.setdefault(picture, []).append(sentence.strip())
    if not sentences:
        raise ValueError(f"{path.name} is empty")
    return sentences


def divide(pictures: list[str]) -> dict[str, list[str]]:
    """``class/picture.jpg`` names by part, in alphabetical order: 80, 10 and 10 % of each class (800/100/100 of 1,000).

    Within a class the names are ranked by their SHA-256; the first tenth is test, the next validation.
    """
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for name in CLASSES:
        own = [picture for picture in pictures if picture.startswith(f"{name}/")]
        own.sort(key=lambda picture: hashlib.sha256(picture.encode()).hexdigest())
        tenth = len(own) // 10
        parts["test"] += own[:tenth]
        parts["validation"] += own[tenth : 2 * tenth]
        parts["train"] += own[2 * tenth :]
    return {part: sorted(names) for part, names in parts.items()}


def photo_name(picture: str) -> str:
    """The name in images.zip: ``class_picture.jpg``, since a photo may have been drawn for two classes."""
    return picture.replace("/", "_")


class PascalSentences:
    """``PascalSentences().train``, ``.validation`` and ``.test``: `PairedSamples`, 800, 100 and 100.

    ``images``: `Pictures` of ``size`` = (height, width) pixels, decoded when asked for. ``texts``: n lists of sentences
    (5 each). ``label``: 0..19 into ``classes``. Pictures that are not there are left out, and their number is printed.
    ``root``: a folder to look in instead of ``$COMMONSPACE_DATA`` and the cache.

    Raises FileNotFoundError that names the command when the data is missing, ValueError for damaged data or a bad size.
    """

    def __init__(self, root: str | Path | None = None, size: tuple[int, int] = (128, 128)):
        size = check_size(size)
        folder = files.find("pascal-sentences", SENTENCES, COMMAND, root).parent
        with mendable(folder, COMMAND, by_size=("images.zip",)):
            sentences = read_sentences(folder / SENTENCES)
            where, places = listing(folder)
        samples, counts = {}, []
        for part, names in divide(list(sentences)).items():
            here = [name for name in names if photo_name(name) in places]
            samples[part] = PairedSamples(
                images=Pictures(where, [places[photo_name(name)] for name in here], size),
                texts=[sentences[name] for name in here],
                label=torch.tensor([CLASSES.index(name.split("/")[0]) for name in here], dtype=torch.long),
                classes=list(CLASSES),
            )
            counts.append(f"{len(here):,} of {len(names):,} {part}")
        self.train, self.validation, self.test = (samples[part] for part in ("train", "validation", "test"))
        print(
            f"Pascal Sentences: {', '.join(counts)} pictures are here, {size[0]}x{size[1]}, {len(CLASSES)} classes, "
            f"from {files.shown(folder)}"
        )


class PascalFeatures:
    """``PascalFeatures().train`` and ``.test``: `PairedFeatures`, the 800 and 100 pairs that DSCMR's authors ship.

    ``image``: (n, 4096), VGG-19. ``text``: (n, 300), a sentence CNN. ``label``: 0..19; the files hold numbers and no
    names, so that ``classes`` are "class 0", ..., and which of the 1,000 photos a row is, is not known. No validation
    pairs are shipped. ``root`` and what is raised: as for `PascalSentences`.
    """

    def __init__(self, root: str | Path | None = None):
        folder = files.find("pascal-sentences", FEATURES[0], COMMAND, root).parent
        with mendable(folder, COMMAND, by_size=("images.zip",)):
            self.train, self.test = read_features(folder)
        print(f"Pascal features: {len(self.train):,} train, {len(self.test):,} test pairs, from {files.shown(folder)}")


def read_features(folder: Path) -> tuple[PairedFeatures, PairedFeatures]:
    """Train and test from a folder of the six .mat files. Raises ValueError that names a file which will not do.

    Labels may be numbered from 0 or from 1.
    """
    from scipy.io import loadmat

    read = {}
    for name in FEATURES:
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
        try:
            read[name] = torch.as_tensor(loadmat(folder / name)[name.removesuffix(".mat")].astype("float32"))
        except Exception as error:  # scipy answers a damaged file with a dozen kinds of exception
            raise ValueError(f"{name} is damaged or another file ({type(error).__name__}: {error})") from None
    labels = [read[name].flatten().long() for name in (FEATURES[2], FEATURES[5])]
    first = min(int(label.min()) for label in labels)
    if first not in (0, 1) or max(int(label.max()) for label in labels) - first >= len(CLASSES):
        raise ValueError(f"{FEATURES[2]}, {FEATURES[5]}: labels must run from 0 or 1 over {len(CLASSES)} classes")
    classes = [f"class {i}" for i in range(len(CLASSES))]
    train, test = (
        PairedFeatures(read[image], read[text], label - first, classes)
        for (image, text, _), label in zip((FEATURES[:3], FEATURES[3:]), labels, strict=True)
    )
    return train, test
