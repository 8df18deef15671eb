"""The data sets of pictures with captions that a recipe can be run on, by name."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from commonspace.data import PairedSamples
from commonspace.data.composed import numbered
from commonspace.data.fashion_products import normalised
from commonspace.data.pictures import Pictures
from commonspace.encoders import features_of


@dataclass(frozen=True)
class Captioned:
    """Pictures, and captions of them as one list.

    ``images``: n pictures or feature rows, indexed by ids. ``captions``: m texts, picture by picture. ``image_of``:
    (m,) the picture of each. ``group``: (n,) integers; pictures of one group have a caption in common, so that what
    describes the one describes the other: they are no negatives of each other, and both are right. ``scenes``: (n, 9)
    codes of what is in pictures of scenes (`data.scene_grammar`), None for others.
    """

    images: Any
    captions: list[str]
    image_of: Tensor
    group: Tensor
    scenes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.group)

    @classmethod
    def of(cls, pairs: PairedSamples, same_text: bool = False) -> "Captioned":
        """The pictures of ``pairs`` with all their captions. ``same_text``: those with the same text are one group."""
        texts = [[text] if isinstance(text, str) else list(text) for text in pairs.texts]
        image_of = torch.tensor([i for i, own in enumerate(texts) for _ in own])
        group = torch.arange(len(texts))
        if same_text:
            group = numbered([normalised(" ".join(own)) for own in texts])[:, 0]
        scenes = getattr(pairs, "scenes", None)
        return cls(pairs.images, [text for own in texts for text in own], image_of, group, scenes)

    def first(self, n: int) -> "Captioned":
        """The first n pictures with their captions."""
        n = min(n, len(self))
        kept = int((self.image_of < n).sum())
        images = self.images.subset(range(n)) if isinstance(self.images, Pictures) else self.images[:n]
        scenes = None if self.scenes is None else self.scenes[:n]
        return Captioned(images, self.captions[:kept], self.image_of[:kept], self.group[:n], scenes)

    def first_captions(self) -> "Captioned":
        """The pictures with the first caption of each alone: of scenes the one that says everything."""
        first = torch.searchsorted(self.image_of, torch.arange(len(self)))
        return replace(self, captions=[self.captions[i] for i in first.tolist()], image_of=torch.arange(len(self)))

    def by_image(self) -> list[list[str]]:
        """n lists: the captions of each picture."""
        own: list[list[str]] = [[] for _ in range(len(self))]
        for caption, image in zip(self.captions, self.image_of.tolist(), strict=True):
            own[image].append(caption)
        return own


@dataclass(frozen=True)
class CaptionSplits:
    """Training, validation and test pictures with captions, none in two of them. ``validation`` may be None: the last
    epoch is then taken."""

    train: Captioned
    validation: Captioned | None
    test: Captioned


def names() -> list[str]:
    """The data sets of captioned pictures there are."""
    return sorted(_LOADERS)


def load(name: str, seed: int = 0, size: int | None = None, features: str | None = None) -> CaptionSplits:
    """The data set ``name``; ``seed`` draws what its owners left open, ``size`` is the height of its pictures in pixels
    (None: its own). ``features``: rows that data_scripts/extract_features.py made, in place of pictures: the network's
    name, with the weights behind it if they are not the default ones, and "10crop" for the mean of ten crops, such as
    "resnet152", "resnet152-IMAGENET1K_V1" or "vgg19-10crop".

    Raises ValueError for an unknown name, for features of pictures that are drawn here and where no picture of a part
    is here, FileNotFoundError that names the command where data or features are missing.
    """
    if name not in _LOADERS:
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no data set of captioned pictures is called {name!r}; there are {', '.join(names())}{hint}")
    if features is not None and name.startswith("scenes"):
        raise ValueError(
            f"{name} draws its pictures itself, there are no features of them: choose an encoder by image="
        )
    parts, same_text = _LOADERS[name](seed, size, _reader(name.removesuffix("-dev"), features))
    for part, what in zip(parts, ("training", "validation", "test"), strict=True):
        if part is not None and not len(part):
            dev = (
                f", or take {name}-dev, which is tested on the validation pictures" if f"{name}-dev" in names() else ""
            )
            raise ValueError(f"no {what} picture of {name} is here: get the whole data set{dev}")
    return CaptionSplits(*(None if part is None else Captioned.of(part, same_text) for part in parts))


# ---- the data sets: (training, validation, test), and whether pictures of the same text are alike -------------------

Parts = tuple[tuple[PairedSamples, PairedSamples | None, PairedSamples], bool]
Reader = Callable[..., list[PairedSamples]]  # the official parts by name -> the same, perhaps with rows for pictures


def _reader(data: str, features: str | None) -> Reader:
    if features is None:
        return lambda **parts: list(parts.values())
    network, *rest = features.split("-")
    crops = 10 if rest[-1:] == ["10crop"] else 1
    weights = "-".join(rest[:-1] if crops == 10 else rest) or "DEFAULT"

    def read(**parts: PairedSamples) -> list[PairedSamples]:
        names = {}
        for part, pairs in parts.items():
            ids = getattr(pairs, "ids", None)
            names[part] = pairs.images if ids is None else [f"{i}.jpg" for i in ids.tolist()]
        rows = features_of(data, network, names, crops, None if weights == "random" else weights)
        return [replace(pairs, images=rows[part]) for part, pairs in parts.items()]

    return read


def _scenes(seed: int, size: int | None, read: Reader, **rest: Any) -> Parts:
    """3,000 scenes to train on, 375 for validation and as many for test, five captions each."""
    from commonspace.data import Scenes

    return Scenes(**{"n": 3000, "size": size or 32, "seed": seed} | rest).captioned(), False


def _scenes_of(objects: int, n: int) -> "Callable[[int, int | None, Reader], Parts]":
    """Scenes of so many objects; of one there are 432, so 345 are to train on and 43 each for validation and test."""

    def loader(seed: int, size: int | None, read: Reader) -> Parts:
        return _scenes(seed, size, read, n=n, objects=(objects, objects))

    return loader


def _solid_scenes(seed: int, size: int | None, read: Reader) -> Parts:
    """The same, with solids on a table instead of flat shapes."""
    return _scenes(seed, size or 64, read, dimensions=3)


def _fashion_products(seed: int, size: int | None, read: Reader) -> Parts:
    """Photos and titles, split by title; the test gallery is the pool of 1,000, identical titles all right."""
    from commonspace.data import FashionProducts

    products = FashionProducts(size=(size or 64, (size or 64) * 3 // 4))
    train, validation, test = products.split()
    train, validation, test = read(train=train, validation=validation, test=test)
    return (train, validation, test[: len(products.pool()[0])]), True  # the pool is the first of them


def _photos(name: str) -> Callable[[int, int | None, Reader], Parts]:
    def loader(seed: int, size: int | None, read: Reader) -> Parts:
        from commonspace import data

        photos = getattr(data, name)(size=(size or 224, size or 224))
        return tuple(read(train=photos.train, validation=photos.validation, test=photos.test)), False

    return loader


def _flickr8k_dev(seed: int, size: int | None, read: Reader) -> Parts:
    """Flickr8k tested on its 1,000 validation pictures, after the last epoch, where the test pictures are missing."""
    from commonspace.data import Flickr8k

    photos = Flickr8k(size=(size or 224, size or 224))
    train, validation = read(train=photos.train, validation=photos.validation)
    return (train, None, validation), False


_LOADERS: dict[str, Callable[[int, int | None, Reader], Parts]] = {
    "scenes": _scenes,
    "scenes-3d": _solid_scenes,
    "scenes-one": _scenes_of(1, 345),
    "scenes-two": _scenes_of(2, 3000),
    "scenes-three": _scenes_of(3, 3000),
    "fashion-products": _fashion_products,
    "flickr8k": _photos("Flickr8k"),
    "flickr8k-dev": _flickr8k_dev,
    "flickr30k": _photos("Flickr30k"),
    "coco": _photos("Coco"),
}
