"""MASLN on feature rows.

    python -m commonspace.recipes.masln --profile lesson --data wikipedia
    python -m commonspace.recipes.masln --profile paper --data wikipedia --reconstruction-weight 0
    torchrun --nproc-per-node 2 -m commonspace.recipes.masln --profile paper --data fashion-products

Two players, two optimisers, as in `recipes.acmr`: on every batch the modality classifier takes ``classifier_steps``
steps, and then encoders, decoders and softmax layer take ``projector_steps``. Pairs of pictures and texts are read as
feature rows (`datasets.as_features`), since it is rows that are rebuilt.
"""

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from commonspace.data import PairedFeatures
from commonspace.losses import reversal_strength
from commonspace.metrics import modality_probe
from commonspace.models.masln import MASLN, WEIGHTS, decoders
from commonspace.recipes import common_space, datasets
from commonspace.recipes.config import BaseConfig
from commonspace.recipes.report import Report, run_folder, write_report
from commonspace.training import is_main, seeded, setup, train


@dataclass(frozen=True)
class Config(BaseConfig):
    """MASLN's settings; `BaseConfig` has the fields common to all recipes."""

    epochs: int = 40
    """passes over the training pairs"""
    lr: float = 3e-4
    """learning rate of all but the modality classifier"""
    dim: int = 16
    """numbers in a code"""
    hidden: tuple[int, ...] = (256,)
    """widths of the hidden layers of each encoder, and in reverse of each decoder"""
    activation: Literal["relu", "tanh", "gelu"] = "relu"
    """between the layers of an encoder or decoder"""
    final_activation: Literal["tanh", "none"] = "tanh"
    """of the codes"""
    dropout: float = 0.2
    """share of hidden units dropped in training"""
    power: float = 1.0
    """exponent of the image features before they are standardised; 0.5 for histograms"""
    weight_decay: float = 1e-4
    """of all but the modality classifier"""
    classifier_lr: float = 1e-3
    """learning rate of the modality classifier"""
    projector_steps: int = 1
    """steps of encoders, decoders and softmax layer on a batch"""
    classifier_steps: int = 3
    """steps of the modality classifier on a batch"""
    gradient_penalty: float = 0.1
    """weight of the classifier's, which brings the game to rest"""
    correlation_weight: float = 0.1
    """of the squared distance between the codes of a pair; 0 takes the term away, as below"""
    reconstruction_weight: float = 0.1
    """of the reconstruction, which is summed over features: more for unseen classes, less for seen ones"""
    label_weight: float = 1.0
    """of the softmax layer's cross-entropy"""
    modality_weight: float = 10.0
    """of the reversed modality loss, whose schedule goes from 0 to 1"""
    rebuild: Literal["four", "cross"] = "four"
    """all terms of the reconstruction, or text from image and image from text alone"""
    head: Literal["classes", "embeddings"] = "classes"
    """a free softmax layer, or products with the class embeddings"""
    permute_classes: bool = False
    """a control: every class gets the embedding of another"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of the networks"""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "lesson": {},
        "lesson/emoji": {"dim": 64, "batch_size": 280},
        "lesson/fashion-products": {"dim": 64, "batch_size": 256, "epochs": 4},
        "paper": {"epochs": 100},
        "paper/emoji": {"dim": 64, "batch_size": 280},
        "paper/fashion-products": {"dim": 64, "batch_size": 256, "epochs": 30},
    }


BETAS = (0.5, 0.999)  # of Adam, both players: little momentum, as a game wants


def build(pairs: PairedFeatures, config: Config, class_embeddings: torch.Tensor | None = None) -> MASLN:
    """The untrained model for these pairs; ``class_embeddings`` (c, e) are MiniLM's of ``pairs.classes`` by default."""
    common_space.need_labels(pairs, "training", "MASLN")
    if not isinstance(pairs, PairedFeatures):
        raise ValueError("MASLN rebuilds feature rows: turn pictures and texts into them with datasets.as_features")
    if class_embeddings is None:
        class_embeddings = common_space.class_embeddings(pairs.classes, config.permute_classes, config.seed)
    mlp = {"activation": config.activation, "dropout": config.dropout}
    final = None if config.final_activation == "none" else config.final_activation
    with seeded(config.seed, 0):
        encoders = common_space.projectors(
            pairs, config.hidden, config.dim, power=config.power, final_activation=final, **mlp
        )
        return MASLN(
            *encoders,
            class_embeddings,
            **decoders(*encoders, class_embeddings.shape[1], **mlp),
            **{name: getattr(config, name) for name in (*WEIGHTS, "rebuild", "head", "gradient_penalty")},
        )


def fit(
    train_pairs: PairedFeatures,
    config: Config,
    validation: PairedFeatures | None = None,
    class_embeddings: torch.Tensor | None = None,
    **loop: Any,
) -> MASLN:
    """Train on feature rows with labels, one class a pair.

    With ``validation`` the epoch with the highest class mAP on it (mean of both directions) is taken, else the last.
    ``loop``: further arguments of `training.train`, such as ``output`` for a run that can be killed and resumed.
    """
    model = build(train_pairs, config, class_embeddings)
    if validation is not None:
        common_space.need_labels(validation, "validation", "MASLN")
    players = model.players()
    optimizers = {
        "projector": torch.optim.Adam(players["projector"], config.lr, BETAS, weight_decay=config.weight_decay),
        "classifier": torch.optim.Adam(players["classifier"], config.classifier_lr, BETAS),
    }

    def step(module: MASLN, ids: torch.Tensor, epoch: int, player: str) -> dict[str, torch.Tensor]:
        image, text, label = common_space.batch(train_pairs, ids)
        if player == "classifier":
            return module.modality_losses(image, text)
        return module.losses(image, text, label, reversal_strength(epoch / config.epochs))

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
        validate=None if validation is None else lambda module: common_space.class_map(module, validation),
        config={key: str(value) for key, value in vars(config).items() if key not in ("output", "device")},
        **loop,
    )
    return model


def evaluate(model: MASLN, test: PairedFeatures, relevant: torch.Tensor | None = None) -> dict[str, float]:
    """Per direction R@1, R@5, R@10, median rank and class mAP (`common_space.evaluate`), and ``modality_probe``: how
    often a classifier trained afresh on one half of these codes names the modality of the other half; 0.5 is chance."""
    found = common_space.evaluate(model, test, relevant)
    return found | {"modality_probe": modality_probe(model.embed_image(test.image), model.embed_text(test.text))}


def run(config: Config) -> Report:
    """Load the data, train (resuming a run that was killed), evaluate on the test pairs, write the report."""
    start, folder = time.perf_counter(), run_folder("masln", config)
    splits = datasets.as_features(datasets.load(config.data, config.seed))
    with setup():
        model = fit(splits.train, config, splits.validation, output=folder / "training")
        metrics = evaluate(model, splits.test, splits.relevant)
        if is_main():
            model.save(folder / "model")
        return write_report("masln", config, metrics, time.perf_counter() - start, write=is_main())


if __name__ == "__main__":
    from commonspace.recipes.shell import main

    main(Config, run)
