"""Extendable retrieval: half of the classes are seen in training, the other half only when the model is tested.

A split by classes, not by pairs: if one pair of an unseen class were trained on, the class would be seen. The class
lists are published in ``data/lists/<name>.json``, fixed before any result was known, by a rule that each file states.
"""

import difflib
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import torch

from commonspace.data.samples import PairedFeatures, PairedSamples

Pairs = PairedFeatures | PairedSamples


@dataclass(frozen=True)
class ClassSplit:
    """The names of the classes that are trained on, ``seen``, and of those that are not, ``unseen``.

    Raises ValueError when a side is empty, or a class comes twice, on one side or on both.
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...]

    def __post_init__(self) -> None:
        for side in ("seen", "unseen"):
            names = getattr(self, side)
            if isinstance(names, str) or not names or not all(isinstance(name, str) for name in names):
                raise ValueError(f"{side} must be class names, one at least; got {names!r}")
            object.__setattr__(self, side, tuple(names))
        if both := sorted(set(self.seen) & set(self.unseen)):
            raise ValueError(f"a class is seen or unseen, not both: {', '.join(both)}")
        if len({*self.seen, *self.unseen}) < len(self.seen) + len(self.unseen):
            raise ValueError(f"a class may come once; got seen={self.seen}, unseen={self.unseen}")


def _halves(classes: Sequence[str], prefix: str = "") -> ClassSplit:
    """Unseen is the half, rounded down, whose SHA-256 of prefix + name is smallest. Both in alphabetical order."""
    ranked = sorted(classes, key=lambda name: hashlib.sha256((prefix + name).encode()).hexdigest())
    half = len(ranked) // 2
    return ClassSplit(tuple(sorted(ranked[half:])), tuple(sorted(ranked[:half])))


def fixed_class_split(name: str) -> ClassSplit:
    """The published split of a data set: "wikipedia", "emoji", "fashion-products", "pascal-sentences", "nus-wide-10k".

    Raises ValueError that names the nearest for another name.
    """
    lists = resources.files("commonspace.data") / "lists"
    names = sorted(file.name.removesuffix(".json") for file in lists.iterdir() if file.name.endswith(".json"))
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no class split is published for {name!r}; there are {', '.join(names)}{hint}")
    published = json.loads((lists / f"{name}.json").read_text(encoding="utf-8"))
    return ClassSplit(published["seen"], published["unseen"])


def random_class_splits(classes: Sequence[str], n: int = 20, seed: int = 0) -> list[ClassSplit]:
    """``n`` different splits of the classes, half of them (rounded down) unseen.

    Drawn by a hash: the same names give the same splits on every machine and in any order. The published files list
    those of n = 20, seed = 0. Raises ValueError for fewer than 2 classes, for one that comes twice, and when there are
    fewer than ``n`` different halves.
    """
    if isinstance(classes, str) or len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes must be at least 2 different names; got {classes!r}")
    if not 1 <= n <= math.comb(len(classes), len(classes) // 2):
        possible = math.comb(len(classes), len(classes) // 2)
        raise ValueError(f"{len(classes)} classes have {possible:,} different halves; n must be 1 to that, got {n!r}")
    splits: list[ClassSplit] = []
    draw = 0
    while len(splits) < n:
        split = _halves(classes, f"{seed} {draw} ")
        splits += [] if split in splits else [split]
        draw += 1
    return splits


def _present(pairs: Pairs) -> set[str]:
    return {pairs.classes[i] for i in pairs.label.unique().tolist()}


@dataclass(frozen=True, eq=False)
class ExtendableSplit:
    """Pairs for extendable retrieval; a label below ``len(train.classes)`` is a seen class, in every part.

    ``train`` and ``validation`` (or None): seen classes only, ``classes`` names no other. ``seen`` and ``unseen``: test
    pairs of either kind, each its own query set and gallery. ``gallery``: both together, for the generalised protocol
    (``unseen`` queries against all). ``classes`` of these three: seen ones first, then unseen ones.

    Raises ValueError when an unseen class has a pair in training or validation (the split was by pairs, not by
    classes), when a class tested as seen was not trained on, and when ``gallery`` is not seen + unseen.
    """

    train: Pairs
    seen: Pairs
    unseen: Pairs
    gallery: Pairs
    validation: Pairs | None = None

    def __post_init__(self) -> None:
        trained, unseen = _present(self.train), _present(self.unseen)
        for part in ("train", "seen", "validation"):
            pairs = getattr(self, part)
            if pairs is not None and (both := sorted(_present(pairs) & unseen)):
                raise ValueError(
                    f"unseen classes have pairs in {part}: {', '.join(both)}; split the classes, not the pairs"
                )
            if pairs is not None and (new := sorted(_present(pairs) - trained)):
                raise ValueError(f"{part} has classes that train lacks: {', '.join(new)}; they are not seen")
        if len(self.gallery) != len(self.seen) + len(self.unseen) or _present(self.gallery) - trained - unseen:
            raise ValueError(
                f"gallery must be the {len(self.seen):,} seen and the {len(self.unseen):,} unseen test pairs; got "
                f"{len(self.gallery):,}"
            )


def _check(pairs: Pairs, name: str, split: ClassSplit) -> None:
    if pairs.label is None or pairs.classes is None:
        raise ValueError(f"{name} needs label and classes: which class is each pair of?")
    if pairs.label.ndim == 2:
        raise ValueError(
            f"{name} has several labels a pair, {tuple(pairs.label.shape)} bool: a pair of a seen and an unseen class "
            "belongs to neither side; give integer labels, one class a pair"
        )
    for unknown in {*split.seen, *split.unseen} - set(pairs.classes):
        near = difflib.get_close_matches(unknown, pairs.classes, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} has no class {unknown!r}{hint}")


def extendable(train: Pairs, test: Pairs, split: ClassSplit, validation: Pairs | None = None) -> ExtendableSplit:
    """Training (and validation) pairs of the seen classes; test pairs of the seen, of the unseen, and of all classes.

    Unseen pairs come from ``test`` alone, so that every query set has its data set's own test pairs. Pairs of classes
    in neither half are left out. Labels are numbered anew, seen classes first (see `ExtendableSplit`); everything else
    of the pairs, such as an emoji's characters, stays.

    Raises ValueError for pairs without labels or with several each, for a class of the split that the pairs do not
    know (the nearest is named), a seen class without a training pair, and an unseen one without a test pair.
    """
    classes = [*split.seen, *split.unseen]
    n_seen = len(split.seen)

    def part(pairs: Pairs, name: str, start: int, end: int, names: list[str]) -> Any:
        _check(pairs, name, split)
        new = torch.full((len(pairs.classes),), -1)
        new[[pairs.classes.index(c) for c in classes]] = torch.arange(len(classes))
        label = new[pairs.label]
        rows = (label >= start) & (label < end)
        return replace(pairs[rows], label=label[rows], classes=names)

    made = ExtendableSplit(
        train=part(train, "train", 0, n_seen, list(split.seen)),
        seen=part(test, "test", 0, n_seen, classes),
        unseen=part(test, "test", n_seen, len(classes), classes),
        gallery=part(test, "test", 0, len(classes), classes),
        validation=None if validation is None else part(validation, "validation", 0, n_seen, list(split.seen)),
    )
    for pairs, name, needed in ((made.train, "train", split.seen), (made.unseen, "test", split.unseen)):
        if empty := sorted(set(needed) - _present(pairs)):
            raise ValueError(f"{name} has no pair of {', '.join(empty)}; leave the class out of the split")
    return made
