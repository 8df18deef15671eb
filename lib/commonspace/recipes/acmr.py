"""ACMR on feature rows, or on pixels and words end to end.

    python -m commonspace.recipes.acmr --profile lesson --data wikipedia
    python -m commonspace.recipes.acmr --profile paper --data wikipedia --seed 1
    torchrun --nproc-per-node 2 -m commonspace.recipes.acmr --profile paper --data fashion-products

Two players, two optimisers: on every batch the modality classifier takes ``classifier_steps`` steps and then the
projectors ``projector_steps``.
"""

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from commonspace.losses import reversal_strength
from commonspace.metrics import modality_probe
from commonspace.models.acmr import ACMR
from commonspace.recipes import common_space, datasets
from commonspace.recipes.config import BaseConfig
from commonspace.recipes.report import Report, run_folder, write_report
from commonspace.training import all_gather, is_main, seeded, setup, train


@dataclass(frozen=True)
class Config(BaseConfig):
    """ACMR's settings; `BaseConfig` has the fields common to all recipes."""

    dim: int = 8
    """numbers in a code"""
    hidden: tuple[int, ...] = (256,)
    """widths of the hidden layers of each projector"""
    activation: Literal["relu", "tanh", "gelu"] = "relu"
    """between the layers of a projector"""
    final_activation: Literal["tanh", "none"] = "tanh"
    """of the codes"""
    dropout: float = 0.2
    """share of hidden units dropped in training"""
    power: float = 1.0
    """exponent of the image features before they are standardised; 0.5 for histograms"""
    weight_decay: float = 1e-4
    """of the projectors: the paper's penalty on the squares of the weights"""
    classifier_lr: float = 1e-3
    """learning rate of the modality classifier"""
    projector_steps: int = 1
    """steps of the projectors on a batch: the paper's k"""
    classifier_steps: int = 3
    """steps of the modality classifier on a batch; the paper takes one"""
    gradient_penalty: float = 0.1
    """weight of the classifier's, which brings the game to rest"""
    triplet_weight: float = 0.1
    """alpha"""
    label_weight: float = 1.0
    """beta"""
    adversarial_weight: float = 10.0
    """multiplies the schedule of the reversal; 0 switches the game off"""
    margin: float = 1.0
    """mu, in units of the codes"""
    gamma: float = 1.0
    """weight of the negatives, absolute form"""
    form: Literal["absolute", "relative"] = "absolute"
    """of the triplets"""
    mining: Literal["all", "hardest"] = "all"
    """negatives of an anchor"""
    same_modality: bool = False
    """negatives of the anchor's own modality as well"""
    as_released: bool = False
    """the graph of the authors' demo, where the reversal reaches no projector"""
    width: int = 32
    """channels of the first convolution, for pictures"""
    min_count: int = 5
    """texts a word must stand in to be counted, for texts"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of the networks"""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "lesson": {"lr": 3e-4, "epochs": 40},
        "lesson/wikipedia": {"power": 0.5},
        "lesson/emoji": {"dim": 16, "dropout": 0.3, "batch_size": 128, "epochs": 30},
        "lesson/fashion-products": {"dim": 64, "batch_size": 128, "classifier_steps": 1, "lr": 1e-3, "epochs": 1},
        "paper": {"lr": 3e-4, "epochs": 80},
        "paper/wikipedia": {"power": 0.5},
        "paper/emoji": {"dim": 16, "dropout": 0.3},
        "paper/fashion-products": {"dim": 64, "batch_size": 128, "lr": 1e-3, "epochs": 12},
    }


OF_THE_MODEL = (
    "triplet_weight", "label_weight", "margin", "gamma", "form", "mining", "same_modality", "gradient_penalty",
    "as_released",
)  # fmt: skip
BETAS = (0.5, 0.999)  # of Adam, both players: little momentum, as a game wants and as the authors' demo has it


def build(pairs: datasets.Pairs, config: Config) -> ACMR:
    """The untrained model for these pairs: sizes, scales and, for texts, words are read off them."""
    common_space.need_labels(pairs, "training", "ACMR")
    with seeded(config.seed, 0):
        image, text = common_space.projectors(
            pairs,
            config.hidden,
            config.dim,
            width=config.width,
            min_count=config.min_count,
            power=config.power,
            activation=config.activation,
            dropout=config.dropout,
            final_activation=None if config.final_activation == "none" else config.final_activation,
        )
        return ACMR(
            image, text, common_space.n_classes(pairs), **{name: getattr(config, name) for name in OF_THE_MODEL}
        )


def fit(train_pairs: datasets.Pairs, config: Config, validation: datasets.Pairs | None = None, **loop: Any) -> ACMR:
    """Train on the pairs, which must have labels.

    With ``validation`` the epoch with the highest class mAP on it (mean of both directions) is taken, else the last.
    ``loop``: further arguments of `training.train`, such as ``output`` for a run that can be killed and resumed.
    """
    model = build(train_pairs, config)
    if validation is not None:
        common_space.need_labels(validation, "validation", "ACMR")
    players = model.players()
    optimizers = {
        "projector": torch.optim.Adam(players["projector"], config.lr, BETAS, weight_decay=config.weight_decay),
        "classifier": torch.optim.Adam(players["classifier"], config.classifier_lr, BETAS),
    }

    def step(module: ACMR, ids: torch.Tensor, epoch: int, player: str) -> dict[str, torch.Tensor]:
        image, text, label = common_space.batch(train_pairs, ids)
        if player == "classifier":
            return module.modality_losses(image, text)
        strength = config.adversarial_weight * reversal_strength(epoch / config.epochs)
        return module.losses(image, text, label, strength, gather=all_gather)

    def judge(module: ACMR) -> float:
        return common_space.class_map(module, validation)

    train(
        model,
        step,
        len(train_pairs),
        optimizers=optimizers,
        order=("classifier",) * config.classifier_steps + ("projector",) * config.projector_steps,
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        device=config.device,
        precision=config.precision,
        validate=None if validation is None else judge,
        config={key: str(value) for key, value in vars(config).items() if key not in ("output", "device")},
        **loop,
    )
    return model


def evaluate(model: ACMR, test: datasets.Pairs, relevant: torch.Tensor | None = None) -> dict[str, float]:
    """Per direction R@1, R@5, R@10, median rank and class mAP (`common_space.evaluate`), and ``modality_probe``: how
    often a classifier trained afresh on one half of these codes names the modality of the other half; 0.5 is chance."""
    images, texts = datasets.views(test)
    found = common_space.evaluate(model, test, relevant)
    return found | {"modality_probe": modality_probe(model.embed_image(images), model.embed_text(texts))}


def run(config: Config) -> Report:
    """Load the data, train (resuming a run that was killed), evaluate on the test pairs, write the report."""
    start, folder = time.perf_counter(), run_folder("acmr", config)
    splits = datasets.load(config.data, config.seed)
    with setup():
        model = fit(splits.train, config, splits.validation, output=folder / "training")
        metrics = evaluate(model, splits.test, splits.relevant)
        if is_main():
            model.save(folder / "model")
        return write_report("acmr", config, metrics, time.perf_counter() - start, write=is_main())


if __name__ == "__main__":
    from commonspace.recipes.shell import main

    main(Config, run)
