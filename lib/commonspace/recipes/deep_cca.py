"""Deep CCA on feature rows, or on pixels and words end to end.

    python -m commonspace.recipes.deep_cca --profile lesson --data digits
    python -m commonspace.recipes.deep_cca --profile paper --data wikipedia --seed 1
    torchrun --nproc-per-node 2 -m commonspace.recipes.deep_cca --profile paper --data fashion-products

Pairs of feature rows are read by multi-layer perceptrons. Pairs of pictures and texts are read as Yan and Mikolajczyk
set it up: a convolutional network for pictures, TF-IDF and fully connected layers with ReLU and dropout for texts.
"""

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from commonspace.data import PairedSamples
from commonspace.models.deep_cca import DeepCCA, feature_towers
from commonspace.recipes import common_space, datasets
from commonspace.recipes.config import BaseConfig
from commonspace.recipes.report import Report, run_folder, write_report
from commonspace.training import all_gather, is_main, seeded, setup, train


@dataclass(frozen=True)
class Config(BaseConfig):
    """Deep CCA's settings; `BaseConfig` has the fields common to all recipes."""

    n_components: int = 10
    """directions of the common space"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of each perceptron"""
    out_dim: int | None = None
    """numbers that each network gives; n_components by default"""
    dropout: float = 0.0
    """share of hidden units dropped in training"""
    weight_decay: float = 1e-4
    """Adam's"""
    ridge: float = 1e-3
    """absolute, added to the variances of a batch"""
    form: Literal["trace", "frobenius"] = "trace"
    """trace norm (sum of correlations), or the sum of their squares"""
    reconstruction: float = 0.0
    """weight of DCCAE's reconstruction; needs feature rows"""
    width: int = 32
    """channels of the first convolution, for pictures"""
    min_count: int = 5
    """texts a word must stand in to be counted, for texts"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of the networks; the linear algebra of the loss never goes below float32"""
    compile: bool = False
    """torch.compile the networks"""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "lesson": {},
        "lesson/emoji": {"n_components": 32, "hidden": (512,), "dropout": 0.3, "batch_size": 280, "epochs": 20},
        "lesson/wikipedia": {"n_components": 7, "hidden": (128,), "batch_size": 489, "epochs": 20},
        "lesson/fashion-products": {"n_components": 64, "hidden": (256,), "batch_size": 512, "epochs": 1},
        "paper": {"epochs": 100},
        "paper/emoji": {"n_components": 32, "hidden": (512,), "dropout": 0.3, "batch_size": 280},
        "paper/wikipedia": {"n_components": 7, "hidden": (128,), "dropout": 0.2, "batch_size": 489},
        "paper/fashion-products": {
            "n_components": 64,
            "hidden": (512,),
            "dropout": 0.2,
            "batch_size": 512,
            "epochs": 12,
            "ridge": 1e-2,
        },
    }


def build(pairs: datasets.Pairs, config: Config) -> DeepCCA:
    """The untrained model for these pairs: their sizes and, for texts, their words are read off them."""
    with seeded(config.seed, 0):
        return _build(pairs, config, config.out_dim or config.n_components)


def _build(pairs: datasets.Pairs, config: Config, out_dim: int) -> DeepCCA:
    if isinstance(pairs, PairedSamples):
        if config.reconstruction:
            raise ValueError("reconstruction needs feature rows: pictures and texts have no decoder here")
        parts = _end_to_end(pairs, config, out_dim)
    else:
        parts = feature_towers(
            pairs.image.shape[1],
            pairs.text.shape[1],
            config.hidden,
            out_dim,
            decoders=config.reconstruction > 0,
            dropout=config.dropout,
        )
    return DeepCCA(
        **parts,
        n_components=config.n_components,
        ridge=config.ridge,
        form=config.form,
        reconstruction=config.reconstruction,
    )


def _end_to_end(pairs: PairedSamples, config: Config, out_dim: int) -> dict[str, torch.nn.Module]:
    from commonspace.data.vocabulary import Vocabulary
    from commonspace.encoders import MLP, BagOfWords, Sequence, SmallConvNet

    picture = SmallConvNet(width=config.width)
    words = BagOfWords(Vocabulary.build(pairs.texts, config.min_count), weighting="tfidf").fit(pairs.texts)
    return {
        "image_encoder": Sequence(picture, MLP([picture.out_dim, out_dim])),
        "text_encoder": Sequence(words, MLP([words.out_dim, *config.hidden, out_dim], dropout=config.dropout)),
    }


def fit(train_pairs: datasets.Pairs, config: Config, validation: datasets.Pairs | None = None, **loop: Any) -> DeepCCA:
    """Train on the pairs and fit the final linear CCA on all of them.

    With ``validation`` the epoch with the highest total correlation on it is taken, else the last. ``loop``: further
    arguments of `training.train`, such as ``output`` for a run that can be killed and resumed.
    """
    images, texts = datasets.views(train_pairs)
    model = build(train_pairs, config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)

    def step(module: DeepCCA, ids: torch.Tensor, epoch: int) -> dict[str, torch.Tensor]:
        image, text = datasets.views(train_pairs[ids.cpu()])
        text = text.to(ids.device) if isinstance(text, torch.Tensor) else text
        return module.losses(image.to(ids.device), text, gather=all_gather)

    def total_correlation(module: DeepCCA) -> float:
        return module.fit_linear(images, texts).score(*datasets.views(validation))

    train(
        model,
        step,
        len(train_pairs),
        optimizers=optimizer,
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        device=config.device,
        precision=config.precision,
        compile=config.compile,
        validate=None if validation is None else total_correlation,
        config={key: str(value) for key, value in vars(config).items() if key not in ("epochs", "output", "device")},
        **loop,
    )
    return model.fit_linear(images, texts).eval()


def evaluate(model: DeepCCA, test: datasets.Pairs, relevant: torch.Tensor | None = None) -> dict[str, float]:
    """Total correlation, and per direction R@1, R@5, R@10, median rank and mAP (`common_space.evaluate`)."""
    images, texts = datasets.views(test)
    return {"total_correlation": model.score(images, texts)} | common_space.evaluate(model, test, relevant)


def run(config: Config) -> Report:
    """Load the data, train (resuming a run that was killed), evaluate on the test pairs, write the report."""
    start, folder = time.perf_counter(), run_folder("deep_cca", config)
    splits = datasets.load(config.data, config.seed)
    with setup():
        model = fit(splits.train, config, splits.validation, output=folder / "training")
        metrics = evaluate(model, splits.test, splits.relevant)
        if is_main():
            model.save(folder / "model")
        return write_report("deep_cca", config, metrics, time.perf_counter() - start, write=is_main())


if __name__ == "__main__":
    from commonspace.recipes.shell import main

    main(Config, run)
