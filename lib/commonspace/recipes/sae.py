"""Two semantic autoencoders, one a modality, into the space of class embeddings.

    python -m commonspace.recipes.sae --data wikipedia
    python -m commonspace.recipes.sae --profile paper --data fashion-products

Closed form: nothing is trained step by step, and a second run computes the same again. Pairs of pictures and texts are
read as feature rows (`datasets.as_features`).
"""

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from commonspace.data import PairedFeatures
from commonspace.models import CrossModalSAE
from commonspace.recipes import common_space, datasets
from commonspace.recipes.config import BaseConfig
from commonspace.recipes.report import Report, write_report


@dataclass(frozen=True)
class Config(BaseConfig):
    """The semantic autoencoders' settings. Of the fields common to all recipes, epochs, batch_size, lr and device do
    nothing here."""

    image_lam: float = 10.0
    """weight of encoding beside decoding, for images"""
    text_lam: float = 10.0
    """the same for texts"""
    search: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0)
    """with validation pairs: values for both weights, of which the best on these pairs is taken; none: no search"""
    relative: bool = True
    """weights in units of the data's scale; false: as the paper writes them"""
    standardise: bool = True
    """features to mean 0 and variance 1, class embeddings to mean 0"""
    permute_classes: bool = False
    """a control: every class gets the embedding of another"""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "lesson": {},
        "lesson/fashion-products": {"search": (1.0, 100.0)},
        "paper": {"search": (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)},
    }


def fit(
    train_pairs: PairedFeatures,
    config: Config,
    validation: PairedFeatures | None = None,
    class_embeddings: torch.Tensor | None = None,
) -> CrossModalSAE:
    """Fit on feature rows with labels; ``class_embeddings`` (c, e) are MiniLM's of ``train_pairs.classes`` by default.

    With ``validation`` the weight of `Config.search` with the highest class mAP on it (mean of both directions) is
    taken, else ``image_lam`` and ``text_lam`` are.
    """
    label = common_space.need_labels(train_pairs, "training", "SAE")
    if class_embeddings is None:
        class_embeddings = common_space.class_embeddings(train_pairs.classes, config.permute_classes, config.seed)
    weights = []
    if validation is not None:
        common_space.need_labels(validation, "validation", "SAE")
        weights = [(lam, lam) for lam in config.search]
    best, chosen = -1.0, None
    for image_lam, text_lam in weights or [(config.image_lam, config.text_lam)]:
        model = CrossModalSAE(image_lam, text_lam, config.relative, config.standardise)
        model.fit(train_pairs.image, train_pairs.text, label, class_embeddings)
        value = common_space.class_map(model, validation) if weights else 0.0
        if value > best:
            best, chosen = value, model
    return chosen


def evaluate(model: CrossModalSAE, test: PairedFeatures, relevant: torch.Tensor | None = None) -> dict[str, float]:
    """Per direction R@1, R@5, R@10, median rank and class mAP: `common_space.evaluate`."""
    return common_space.evaluate(model, test, relevant)


def run(config: Config) -> Report:
    """Load the data, fit, evaluate on the test pairs, write the report, which names the weights that were taken."""
    start = time.perf_counter()
    splits = datasets.as_features(datasets.load(config.data, config.seed))
    model = fit(splits.train, config, splits.validation)
    taken = {"image_lam": model.image_lam, "text_lam": model.text_lam}
    metrics = evaluate(model, splits.test, splits.relevant) | taken
    return write_report("sae", config, metrics, time.perf_counter() - start)


if __name__ == "__main__":
    from commonspace.recipes.shell import main

    main(Config, run)
