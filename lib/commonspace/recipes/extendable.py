"""Extendable retrieval: every method on the same seen classes, tested on classes that none of them was trained on.

    python -m commonspace.recipes.extendable --data wikipedia --splits random
    python -m commonspace.recipes.extendable --data emoji --methods CCA SAE MASLN

Three ways to ask, each in both directions, by cosine, mAP of items of the same class: ``seen`` queries among seen
items, ``unseen`` among unseen, and ``generalised``, unseen queries among all.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, ClassVar, Literal

from commonspace.data import (
    ClassSplit,
    Emoji,
    ExtendableSplit,
    FashionProducts,
    PairedFeatures,
    Wikipedia,
    extendable,
    extendable_emoji,
    fixed_class_split,
    random_class_splits,
)
from commonspace.metrics import chance_map
from commonspace.metrics import evaluate as evaluate_embeddings
from commonspace.models import CCA, SemanticMatching
from commonspace.recipes import acmr, common_space, datasets, masln, sae
from commonspace.recipes.config import BaseConfig
from commonspace.recipes.report import Report, write_report

# Where a profile does not suit: ACMR's for Fashion Products is one of pictures, an epoch of which takes minutes, and
# those for emoji have nine groups and 1,120 pairs. Chosen on validation pairs, of seen classes alone.
SETTINGS = {
    ("ACMR", "fashion-products"): {"epochs": 20},
    ("ACMR", "emoji"): {"dim": 64, "epochs": 20, "batch_size": 64, "lr": 1e-3, "classifier_steps": 1},
    ("MASLN", "emoji"): {
        "epochs": 20,
        "batch_size": 64,
        "lr": 1e-3,
        "classifier_steps": 1,
        "modality_weight": 1.0,
        "reconstruction_weight": 0.01,
    },
}
GALLERIES = ("seen", "unseen", "generalised")
METHODS = ("chance", "CCA", "SCM", "SAE", "ACMR", "MASLN")


@dataclass(frozen=True)
class Config(BaseConfig):
    """Of the fields common to all recipes device, epochs, batch_size and lr do nothing here: every method has its own
    profile, ``size``."""

    data: str = "wikipedia"
    """wikipedia, emoji or fashion-products"""
    splits: Literal["fixed", "random"] = "fixed"
    """of the classes: the published one, each time with another seed, or the published random ones"""
    n: int = 3
    """how many splits, or seeds of the fixed one"""
    methods: tuple[str, ...] = METHODS
    """which to compare"""
    size: Literal["lesson", "paper"] = "lesson"
    """profile of the methods that are trained"""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "lesson": {},
        "paper": {"splits": "random", "n": 20, "size": "paper"},
        "paper/emoji": {"n": 10},
        "paper/fashion-products": {"n": 5},
    }


class Source:
    """The pairs of a data set, loaded once; `split` makes feature rows of them for any division of the classes."""

    def __init__(self, data: str):
        loaders: dict[str, Callable] = {"wikipedia": Wikipedia, "emoji": Emoji, "fashion-products": FashionProducts}
        if data not in loaders:
            raise ValueError(f"extendable retrieval is set up for {', '.join(loaders)}; got {data!r}")
        self.data, self.pairs = data, loaders[data]()
        fixed = fixed_class_split(data)
        self.classes = (*fixed.seen, *fixed.unseen)

    def splits(self, kind: str, n: int) -> list[tuple[ClassSplit, int]]:
        """``n`` divisions, each with its seed: the published one n times, or the first n of the 20 random ones, with
        seed 0."""
        if kind == "fixed":
            return [(fixed_class_split(self.data), seed) for seed in range(n)]
        published = random_class_splits(self.classes)
        if n > len(published):
            raise ValueError(f"{len(published)} random splits are published, n={n} asks for more")
        return [(split, 0) for split in published[:n]]

    def split(self, split: ClassSplit, seed: int = 0) -> ExtendableSplit:
        """Feature rows of training, validation, seen and unseen pairs; what is learned of features is learned on the
        training pairs of the seen classes. ``seed`` draws what the data set leaves open."""
        if self.data == "wikipedia":
            train, validation = datasets.held_out(self.pairs.train, 0.1, seed)
            return extendable(train, self.pairs.test, split, validation)
        if self.data == "emoji":
            made, _ = extendable_emoji(self.pairs, split, seed)
            read = _emoji_reader(made.train)
        else:
            train, validation, test = self.pairs.split()
            made = extendable(train, test, split, validation)
            read = datasets.feature_reader(made.train)
        parts = {name: read(getattr(made, name)) for name in ("train", "validation", "seen", "unseen", "gallery")}
        return ExtendableSplit(**parts)


def _emoji_reader(train: Any) -> Callable[[Any], PairedFeatures]:
    """Pictures as pixel features fitted to ``train``, names as sentence vectors."""
    from commonspace.encoders import Bert, PixelFeatures

    pixels, words = PixelFeatures().fit(train.images), Bert()
    return lambda p: PairedFeatures(pixels.transform(p.images), words.encode(p.texts), p.label, p.classes)


def fit(method: str, made: ExtendableSplit, size: str = "lesson", seed: int = 0, data: str = "wikipedia", **overrides):
    """A fitted model of ``method`` (one of METHODS but chance), with whatever is to be chosen chosen on validation.

    CCA and SCM: number of directions and ridge; SAE: its weight; ACMR and MASLN: the epoch, their other settings being
    those of their profile for ``data`` with `SETTINGS` and ``overrides``.
    """
    train, validation = made.train, made.validation
    if method in ("CCA", "SCM"):
        return _best_cca(method, train, validation)
    recipes = {"SAE": sae, "ACMR": acmr, "MASLN": masln}
    if method not in recipes:
        raise ValueError(f"method must be one of {', '.join(METHODS[1:])}; got {method!r}")
    settings = SETTINGS.get((method, data), {}) | overrides
    config = recipes[method].Config.profile(size, data=data, seed=seed, **settings)
    return recipes[method].fit(train, config, validation)


def _best_cca(method: str, train: PairedFeatures, validation: PairedFeatures):
    most = min(train.image.shape[1], train.text.shape[1])
    best = None
    for n_components in sorted({min(k, most - 1) for k in (7, 32, 96)}):
        for ridge in (1e-3, 1e-2, 1e-1, 1.0, 10.0):
            if method == "CCA":
                model = CCA(n_components, ridge, correlation_power=1).fit(train.image, train.text)
            else:
                model = SemanticMatching(n_components, C=1.0, regularization=ridge)
                model.fit(train.image, train.text, train.label)
            value = common_space.class_map(model, validation)
            if best is None or value > best[0]:
                best = value, model
    return best[1]


def evaluate(model: Any, made: ExtendableSplit) -> dict[str, float]:
    """mAP and macro mAP of each gallery, the mean of both directions: ``{"unseen/mAP": ..., "unseen/macro mAP": ...}``.

    ``model`` None gives what a random order would have on average.
    """
    found = {}
    for gallery, (queries, items) in zip(
        GALLERIES, [(made.seen, made.seen), (made.unseen, made.unseen), (made.unseen, made.gallery)], strict=True
    ):
        labels = {"query_labels": queries.label, "gallery_labels": items.label}
        if model is None:
            found[f"{gallery}/mAP"] = chance_map(**labels)
            found[f"{gallery}/macro mAP"] = chance_map(**labels, macro=True)
            continue
        ways = [
            evaluate_embeddings(model.embed_image(queries.image), model.embed_text(items.text), **labels, macro=True),
            evaluate_embeddings(model.embed_text(queries.text), model.embed_image(items.image), **labels, macro=True),
        ]
        for name in ("mAP", "macro mAP"):
            found[f"{gallery}/{name}"] = fmean(way[name] for way in ways)
    return found


def interval(values: list[float]) -> tuple[float, float]:
    """(mean, half the width of its 95 % interval by Student's t) of at least 2 numbers."""
    from scipy.stats import t

    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 numbers, got {len(values)}")
    return fmean(values), float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5


def compare(
    config: Config, variants: Mapping[str, tuple[str, dict]] | None = None
) -> dict[str, list[dict[str, float]]]:
    """Every method on every split: name -> one `evaluate` a split, in the same order for all, so that they pair up.

    ``variants``: name -> (method, overrides of its Config), in place of ``config.methods``: an ablation.
    """
    variants = {name: (name, {}) for name in config.methods} if variants is None else variants
    if unknown := sorted({method for method, _ in variants.values()} - set(METHODS)):
        raise ValueError(f"a method must be one of {', '.join(METHODS)}; got {', '.join(unknown)}")
    source = Source(config.data)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for split, seed in source.splits(config.splits, config.n):
        made = source.split(split, seed)
        for name, (method, overrides) in variants.items():
            model = None
            if method != "chance":
                model = fit(method, made, config.size, seed, config.data, **overrides)
            found[name].append(evaluate(model, made))
    return found


def run(config: Config) -> Report:
    """Compare, and write the report: mean and 95 % interval of every measure, and of its difference to CCA."""
    start = time.perf_counter()
    found = compare(config)
    metrics = {}
    for method, runs in found.items():
        for name in runs[0]:
            values = [run[name] for run in runs]
            metrics[f"{method}/{name}"] = fmean(values)
            if len(values) > 1:
                metrics[f"{method}/{name} ±"] = interval(values)[1]
            if "CCA" in found and method not in ("CCA", "chance") and len(values) > 1:
                differences = [a - b[name] for a, b in zip(values, found["CCA"], strict=True)]
                metrics[f"{method} - CCA/{name}"], metrics[f"{method} - CCA/{name} ±"] = interval(differences)
    return write_report("extendable", config, metrics, time.perf_counter() - start)


if __name__ == "__main__":
    from commonspace.recipes.shell import main

    main(Config, run)
