"""GXN: an image finds its sentence and a sentence its image, by an embedding that may have to write and paint as well.

    python -m commonspace.recipes.gxn --profile lesson --data scenes --paths look+write
    python -m commonspace.recipes.gxn --profile lesson --data scenes --paths write --reward-epochs 1
    python -m commonspace.recipes.gxn --profile lesson --data scenes-one
    python -m commonspace.recipes.gxn --profile lesson --data fashion-products --similarity cosine --mining hardest
    python data_scripts/extract_features.py --data flickr30k --network resnet152, and then
    python -m commonspace.recipes.gxn --profile paper --data flickr30k
    torchrun --nproc-per-node 2 -m commonspace.recipes.gxn --profile paper --data coco --image resnet152 --body-lr 0.1

Paths: "look" is the embedding (`models.GXNLook`), "write" a decoder that writes the sentence from the picture, "paint"
a painter that paints the picture from the sentence, "look+write" and so on several at once (`models.GXN`). With
``look_epochs`` the embedding learns alone first, with ``reward_epochs`` the decoder learns by reinforcement at last
(`gxn_stages`). The relatives of GXN's embedding:

    order-embeddings    --no-grounded
    VSE0                --no-grounded --similarity cosine --margin 0.2 --no-unit-images
    VSE++               --no-grounded --similarity cosine --margin 0.2 --mining hardest

In the "paper" profile images are rows of ResNet-152 that `data_scripts/extract_features.py` made. GXN's learning rate,
margin and number of epochs could not be found; these are VSE++'s (2e-4, a tenth of it after 15 of 30 epochs, batches of
128, gradients of norm 2 at most) with the margin of order-embeddings.
"""

import csv
import math
import time
from collections.abc import Callable
from collections.abc import Sequence as Several
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from commonspace.data import Vocabulary
from commonspace.encoders import Cells, ResNet, Sequence, SmallConvNet, Standardize
from commonspace.models import GXN, GXNLook, GXNPaint, SentenceDecoder, sentence_encoders
from commonspace.recipes import caption_data
from commonspace.recipes.caption_data import Captioned
from commonspace.recipes.caption_measures import painting, search, spoken, writing
from commonspace.recipes.config import BaseConfig
from commonspace.recipes.gxn_stages import Batches, stages
from commonspace.recipes.gxn_stages import make_scheduler as make_scheduler  # chapters call it
from commonspace.recipes.report import Report, run_folder, write_report
from commonspace.training import is_main, seeded, setup, train

_PAINTED = {  # scenes of one, two or three objects: for a painter to learn on, 2,500 to 3,200 steps
    "paths": "paint", "captions": "first", "batch_size": 64, "lr": 2e-3, "dim": 64, "cells": 2, "wrong": "word",
    "text_lr": 0.03, "schedule": "constant", "limit": 0.8,
}  # fmt: skip


@dataclass(frozen=True)
class Config(BaseConfig):
    """GXN's settings; `BaseConfig` has the fields common to all recipes."""

    data: str = "scenes"
    """captioned pictures, one of `commonspace.recipes.caption_data.names()`"""
    size: int | None = None
    """height of the pictures in pixels; None is the data set's own"""
    paths: Literal["look", "write", "look+write", "paint", "look+paint", "look+write+paint"] = "look"
    """what is trained: the embedding, the decoder that writes sentences, the painter of pictures, or several at once"""
    captions: Literal["all", "first"] = "all"
    """of a picture to train on: all, or the first, which of scenes is the one that says everything"""
    grounded: bool = True
    """a grounded vector beside the abstract one; without it order-embeddings and VSE"""
    weight: float = 0.5
    """lambda: share of the abstract vectors' similarity, in [0, 1]"""
    similarity: Literal["order", "cosine"] = "order"
    """of vectors: minus the squared order violation, or the cosine"""
    direction: Literal["order", "gxn"] = "order"
    """of the violation: what the text has beyond the image, or, as GXN prints it, the other way"""
    margin: float = 0.05
    """of the ranking loss"""
    mining: Literal["all", "hardest"] = "all"
    """the sum over all negatives of the batch, or the hardest alone"""
    sum_epochs: int = 0
    """epochs in which the sum over all negatives is taken before "hardest" begins"""
    mask_same_image: bool = True
    """captions of one image are no negatives of each other"""
    sampling: Literal["caption", "image"] = "caption"
    """an epoch is every caption once, or every image once with one of its captions, drawn"""
    share: int = 1
    """captions of one image that stand in a batch together, with sampling "caption"; 1 leaves it to chance"""
    absolute: bool | None = None
    """absolute values of the vectors; None: with "order" """
    unit_features: bool = True
    """rows of the image encoder are brought to length 1 before its heads"""
    unit_images: bool = True
    """images are brought to length 1 behind them"""
    dim: int = 256
    """numbers in a vector of either kind"""
    image: Literal["small", "resnet18", "resnet50", "resnet152", "vgg19", "features"] = "small"
    """encoder of pictures, or rows that were computed before"""
    features: str = "resnet152"
    """which rows, with image "features": the network they are of, see data_scripts/extract_features.py"""
    width: int = 16
    """channels of the small encoder's second convolution"""
    cells: int = 1
    """parts a side that the small encoder's or a ResNet's last map is averaged over; 1 is its mean"""
    pretrained: bool = False
    """begin a ResNet or VGG with the weights of ImageNet"""
    word_dim: int = 64
    """numbers in a word's vector"""
    min_count: int = 1
    """how often a word must come in the training captions to have a vector of its own"""
    write_weight: float = 1.0
    """of the decoder's cross-entropy beside the ranking loss"""
    pre_norm: bool = False
    """the decoder reads an image's grounded vector before it is brought to length 1"""
    start: Literal["input", "state"] = "input"
    """the decoder reads the picture before the first word, or begins in a state made of it"""
    hidden_dim: int = 256
    """numbers in the decoder's state"""
    dropout: float = 0.0
    """of the decoder's state"""
    look_epochs: int = 0
    """epochs of a stage before all others in which the embedding is trained alone"""
    reward_epochs: int = 0
    """epochs of a last stage in which the decoder is trained by reinforcement as well; 0: there is none"""
    gamma: float = 0.9
    """share of the reinforcement's loss in the decoder's, the rest is cross-entropy's"""
    ramp: float = 0.1
    """share of the last stage over which gamma rises from 0"""
    reward_lr: float = 0.1
    """learning rate of the last stage, which is constant, times lr"""
    samples: int = 5
    """sentences that are drawn for each picture"""
    baseline: Literal["greedy", "others"] = "greedy"
    """what is taken off their rewards: that of the greedy sentence, or the mean of the others'"""
    cider_weight: float = 1.0
    """of CIDEr-D, which goes up to 10, in the reward"""
    bleu_weight: float = 0.0
    """of BLEU-4, which goes up to 1"""
    paint_weight: float = 1.0
    """of the painter's loss beside the others"""
    paint_size: int = 32
    """side of the pictures that are painted, in pixels: 8, 16, 32, 64, 128 or 256"""
    condition_dim: int = 32
    """numbers in t_c, what the painter reads of a sentence"""
    noise_dim: int = 16
    """numbers in z, what else it reads"""
    painter_width: int = 64
    """channels of its first map; every doubling of the picture halves them, down to 8"""
    judge_width: int = 16
    """channels of the judge's first map; every halving of the picture doubles them"""
    painter_lr: float = 2e-3
    """learning rate of the painter"""
    judge_lr: float = 5e-4
    """learning rate of the judge"""
    condition_lr: float = 1e-4
    """learning rate of the layer between the sentence's vector and t_c"""
    text_lr: float = 1.0
    """learning rate of the sentence encoders where there is a painter, times lr; 0 keeps them as they are"""
    whiten: bool = True
    """that layer begins with mu of variance 1 and without correlation over the training sentences"""
    sigma: float = 0.2
    """where the spread of t_c about mu begins"""
    augment: bool = True
    """t_c is drawn, and its KL is paid for; without, the painter reads [z, t]"""
    kl_weight: float = 0.02
    """of the KL, a mean over coordinates"""
    fake_weight: float = 0.5
    """of painted pictures in the judge's loss"""
    wrong_weight: float = 0.5
    """of real pictures with a wrong sentence in the judge's loss"""
    wrong: Literal["other", "word"] = "other"
    """a wrong sentence is a caption of another picture, or, of scenes, the own one with one word changed"""
    saturating: bool = False
    """the painter minimises log(1 - D), as GXN prints it, in place of -log D"""
    norm: Literal["batch", "none"] = "batch"
    """of the judge's maps"""
    smoothing: float = 0.0
    """the judge is to say 1 - smoothing of real pairs"""
    instance_noise: float = 0.0
    """standard deviation of noise on what the judge sees, where pictures go from -1 to 1"""
    penalty: float = 0.0
    """weight of the judge's squared slope at real pictures"""
    spread: bool = False
    """the judge is told how much the pictures of a batch differ"""
    limit: float = 1.0
    """the judge has no gradient from a batch of which it gets a larger share right"""
    beam: int = 5
    """beams when sentences are written for evaluation; 1 is greedy"""
    shuffle: bool = False
    """a control: train on captions of other pictures"""
    batch_size: int = 128
    """pairs a step, over all processes"""
    schedule: Literal["one_cycle", "step", "constant"] = "one_cycle"
    """of the learning rate: up for a tenth of the steps and then down to nothing, a tenth after decay_every, or none"""
    decay_every: int = 15
    """epochs after which the schedule "step" divides the learning rate by ten"""
    body_lr: float = 1.0
    """learning rate of the image encoder, times that of everything else; 0 keeps it as it is"""
    clip: float = 2.0
    """largest norm of the gradient"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of the networks"""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "lesson": {"epochs": 4, "lr": 1e-3, "start": "state", "pre_norm": True},
        "lesson/fashion-products": {
            "epochs": 8, "lr": 2e-3, "width": 32, "cells": 2, "word_dim": 128, "min_count": 5, "similarity": "cosine",
            "margin": 0.2, "mining": "hardest", "sum_epochs": 1,
        },
        "lesson/scenes-one": _PAINTED | {"look_epochs": 30, "epochs": 500},
        "lesson/scenes-two": _PAINTED | {"look_epochs": 8, "epochs": 70, "painter_width": 128},
        "lesson/scenes-three": _PAINTED | {"look_epochs": 8, "epochs": 70, "painter_width": 128},
        "lesson/flickr8k": {"size": 64, "min_count": 3},
        "lesson/flickr8k-dev": {"size": 64, "min_count": 3},
        "paper": {
            "image": "features", "dim": 1024, "word_dim": 300, "hidden_dim": 1024, "dropout": 0.5, "min_count": 5,
            "epochs": 30, "lr": 2e-4, "schedule": "step",
            "paint_size": 64, "condition_dim": 128, "noise_dim": 100, "painter_width": 1024, "judge_width": 64,
            "painter_lr": 2e-4, "judge_lr": 2e-4, "condition_lr": 2e-4, "sigma": 1.0, "kl_weight": 2.0,
        },
        "paper/scenes": {"image": "small", "width": 32},
        "paper/scenes-3d": {"image": "small", "width": 32},
        "paper/fashion-products": {"image": "small", "width": 32},
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.share < 1 or self.batch_size % self.share or (self.share > 1 and self.sampling == "image"):
            raise ValueError(
                f"share={self.share} must divide batch_size={self.batch_size}, and be 1 with sampling 'image', where "
                "an image comes once in an epoch"
            )
        if min(self.min_count, self.decay_every, self.beam, self.cells) < 1 or self.sum_epochs < 0:
            raise ValueError("min_count, decay_every, beam and cells must be at least 1, sum_epochs at least 0")
        if self.body_lr < 0 or not self.clip > 0:
            raise ValueError(f"body_lr must be at least 0 and clip above 0; got {self.body_lr} and {self.clip}")
        if self.body_lr == 0 and self.image == "small":
            raise ValueError("the small encoder has no weights of its own to keep: body_lr=0 is for a ResNet or VGG")
        if self.cells > 1 and self.image in ("vgg19", "features"):
            raise ValueError(f"cells={self.cells} needs an encoder with a map: image='small' or a ResNet")
        self._check_stages()
        with torch.device("meta"):  # now and not after the data was read; nothing is drawn, nothing takes memory
            _model(["word"] * self.min_count, image_encoder(self, 1) if self.image == "small" else Standardize(1), self)

    def _check_stages(self) -> None:
        if min(self.look_epochs, self.reward_epochs) < 0:
            raise ValueError("look_epochs and reward_epochs must be at least 0")
        if self.look_epochs and self.paths in ("look", "write"):
            raise ValueError(f"look_epochs={self.look_epochs} is for paths that look and do more, not {self.paths!r}")
        if "paint" in self.paths and self.image == "features":
            raise ValueError(
                "paths with 'paint' learn from pictures, and image='features' has rows: choose an encoder by image="
            )
        if self.wrong == "word" and not self.data.startswith("scenes"):
            raise ValueError(f"wrong='word' knows the words of scenes alone, not of {self.data!r}: take wrong='other'")
        if "paint" in self.paths and self.data.startswith("scenes") and not 32 <= self.paint_size <= 128:
            raise ValueError(f"paint_size={self.paint_size}: what is painted of scenes is read at 32, 64 or 128 pixels")
        rates = {name: getattr(self, name) for name in ("painter_lr", "judge_lr", "condition_lr", "text_lr")}
        if not all(0 <= lr < math.inf for lr in rates.values()) or 0 in (self.painter_lr, self.judge_lr):
            raise ValueError(
                f"painter_lr and judge_lr must be above 0, condition_lr and text_lr at least 0; got {rates}"
            )
        if self.reward_epochs and "write" not in self.paths:
            raise ValueError(f"reward_epochs={self.reward_epochs} needs a decoder: paths='look+write' or 'write'")
        if not (0 <= self.gamma <= 1 and 0 <= self.ramp <= 1 and self.reward_lr > 0):
            raise ValueError(
                "gamma and ramp must be in [0, 1] and reward_lr above 0; got "
                f"{self.gamma}, {self.ramp} and {self.reward_lr}"
            )
        if self.samples < (2 if self.baseline == "others" else 1):
            raise ValueError(f"samples={self.samples} must be at least 1, and 2 with baseline 'others'")
        if not (min(self.cider_weight, self.bleu_weight) >= 0 and 0 < self.cider_weight + self.bleu_weight < math.inf):
            raise ValueError(
                "cider_weight and bleu_weight must be at least 0 and one of them above; got "
                f"{self.cider_weight} and {self.bleu_weight}"
            )


OF_THE_PAINTER = (
    "condition_dim", "noise_dim", "painter_width", "judge_width", "kl_weight", "fake_weight", "wrong_weight", "sigma",
    "augment", "saturating", "norm", "smoothing", "instance_noise", "penalty", "spread", "limit",
)  # fmt: skip


def build(captions: Several[str], image_dim: int | None, config: Config) -> GXN:
    """The untrained model, with the words of the training ``captions``. ``image_dim``: width of rows that were computed
    before, with image "features". Raises ValueError where no word comes ``min_count`` times."""
    with seeded(config.seed, 0):
        return _model(captions, image_encoder(config, image_dim), config)


def _model(captions: Several[str], image: nn.Module, config: Config) -> GXN:
    vocabulary = Vocabulary.build(captions, config.min_count)
    if not vocabulary.words:
        raise ValueError(f"no word comes {config.min_count} times in the {len(captions):,} captions: lower min_count")
    look = GXNLook(
        image,
        *sentence_encoders(vocabulary, config.dim, config.word_dim, config.grounded),
        similarity=config.similarity,
        direction=config.direction,
        margin=config.margin,
        mining=config.mining,
        weight=config.weight,
        absolute=config.absolute,
        unit_features=config.unit_features,
        unit_images=config.unit_images,
    )
    decoder = painter = None
    if "write" in config.paths:
        widths = config.dim, config.word_dim, config.hidden_dim
        decoder = SentenceDecoder(vocabulary, *widths, start=config.start, dropout=config.dropout)
    if "paint" in config.paths:
        painter = GXNPaint(config.dim, config.paint_size, **{name: getattr(config, name) for name in OF_THE_PAINTER})
    rank = "look" in config.paths
    return GXN(look, decoder, config.write_weight, rank, config.pre_norm, painter, config.paint_weight)


def image_encoder(config: Config, image_dim: int | None = None) -> nn.Module:
    """Pictures, or rows of ``image_dim`` numbers, -> (B, out_dim)."""
    of_map = config.cells > 1
    if config.image == "features":
        if image_dim is None:
            raise ValueError("image='features' needs image_dim, the width of the rows that were computed before")
        return Standardize(image_dim)  # not fitted, so rows stay as they are
    weights = "DEFAULT" if config.pretrained else None
    trainable = "all" if config.body_lr else "none"
    if config.image == "vgg19":
        from commonspace.encoders import VGG

        return VGG("vgg19", weights, trainable)
    if config.image == "small":
        net = SmallConvNet(config.width, feature_map=of_map)
    else:
        net = ResNet(config.image, weights, trainable, feature_map=of_map)
    return Sequence(net, Cells(net.out_dim, config.cells)) if of_map else net


def fit(
    captioned: Captioned,
    config: Config,
    validation: Captioned | None = None,
    after: Callable[[str, GXN], None] | None = None,
    output: str | Path | None = None,
    **loop: Any,
) -> GXN:
    """Train on pictures and their captions, stage by stage (`gxn_stages`). ``loop``: arguments of `training.train`.

    With ``validation`` the epoch of a stage is taken in which its first 1,000 pictures and their captions find each
    other best (the sum of R@1, R@5 and R@10 both ways), for "write" alone, in which their captions are likeliest, and
    in the last stage, in which what is written greedily for the first 300 has the highest CIDEr-D; else the last one.
    ``after(name, model)`` is called behind every stage. ``output``: the folder of a run that can be stopped in or
    between its stages and goes on; where there are several, each has a folder of its name in it.
    """
    train_on = captioned.first_captions() if config.captions == "first" else captioned
    train_on = shuffled(train_on, config.seed) if config.shuffle else train_on
    of_rows = config.image == "features"
    model = build(train_on.captions, train_on.images[:1].shape[1] if of_rows else None, config)
    batches = Batches(train_on, config)
    several = stages(model, batches, config, validation)
    for stage in several:
        if stage.before is not None:
            stage.before()
        train(
            model,
            stage.step,
            batches.n,
            optimizers=stage.optimizers,
            schedulers=stage.schedulers,
            epochs=stage.epochs,
            batch_size=batches.size,
            seed=config.seed,
            device=config.device,
            precision=config.precision,
            clip=config.clip,
            validate=None if validation is None else stage.judge,
            order=list(stage.optimizers) if isinstance(stage.optimizers, dict) else None,
            config={key: str(value) for key, value in vars(config).items() if key not in ("output", "device")},
            output=None if output is None else log_folder(output, config, stage.name),
            **loop,
        )
        if after is not None:
            after(stage.name, model)
    return model


def log_folder(output: str | Path, config: Config, stage: str) -> Path:
    """Where in ``output`` a stage writes its log and its state: in a folder of its own if it is not the only one."""
    return Path(output) / stage if config.look_epochs or config.reward_epochs else Path(output)


def shuffled(captioned: Captioned, seed: int) -> Captioned:
    """Every picture with the captions of another: a control whose pictures and sentences have nothing in common."""
    # Not `epoch_order`: neighbours in it share a batch, and so a picture would have its own captions as negatives.
    order = torch.from_numpy(np.random.default_rng([seed, 0, 2]).permutation(len(captioned)))
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    own = captioned.by_image()
    texts = [own[i] for i in other.tolist()]
    return replace(
        captioned,
        captions=[caption for own in texts for caption in own],
        image_of=torch.tensor([i for i, own in enumerate(texts) for _ in own]),
        group=captioned.group[other],
    )


def evaluate(model: GXN, test: Captioned, beam: int = 5, dimensions: int = 2) -> dict[str, float]:
    """`search` of a model whose embedding was trained, `writing` of one that has a decoder, and `painting` of one that
    has a painter (``dimensions``: of scenes)."""
    found = search(model, test) if model.settings["rank"] else {}
    found |= writing(model, test, beam) if model.decoder is not None else {}
    return found | (painting(model, test, dimensions) if model.painter is not None else {})


def first_and_last(log: Path, name: str, of: str = "") -> dict[str, float]:
    """The mean of a scalar in the first and in the last epoch that ``log.csv`` tells of: "first <name>", ... ``of``:
    what stands before it there, the player's name if there are two."""
    with log.open(newline="") as file:
        values = [float(row[of + name]) for row in csv.DictReader(file)]
    return {f"first {name}": values[0], f"last {name}": values[-1]}


def run(config: Config) -> Report:
    """Load the data, train (resuming a run that was killed), evaluate on the test pictures, write the report.

    With a reward stage, "before/..." are the same measures before it, and "greedy/..." those of greedy sentences.
    """
    start, folder = time.perf_counter(), run_folder("gxn", config)
    features = config.features if config.image == "features" else None
    splits = caption_data.load(config.data, config.seed, config.size, features)
    metrics: dict[str, float] = {}
    dimensions = 3 if config.data == "scenes-3d" else 2

    def measure(stage: str, model: GXN) -> None:
        found = evaluate(model, splits.test, config.beam, dimensions) if stage in ("all", "reward") else {}
        if config.reward_epochs and found:
            found |= {f"greedy/{name}": value for name, value in spoken(model, splits.test).items()}
            found = {f"before/{name}": value for name, value in found.items()} if stage == "all" else found
        metrics.update(found)
        for name in {"all": ["loss"], "reward": ["reward"]}.get(stage, []):
            log = log_folder(folder / "training", config, stage) / "log.csv"
            metrics.update(first_and_last(log, name, "model/" if model.painter is not None else ""))

    with setup():
        model = fit(splits.train, config, splits.validation, measure, folder / "training")
        if is_main():
            model.save(folder / "model")
        return write_report("gxn", config, metrics, time.perf_counter() - start, write=is_main())


if __name__ == "__main__":
    from commonspace.recipes.shell import main

    main(Config, run)
