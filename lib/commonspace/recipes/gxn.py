"""GXN: an image finds its sentence and a sentence its image, by an embedding that may also have to write.

    python -m commonspace.recipes.gxn --profile lesson --data scenes --paths look+write
    python -m commonspace.recipes.gxn --profile lesson --data fashion-products --similarity cosine --mining hardest
    python data_scripts/extract_features.py --data flickr30k --network resnet152, and then
    python -m commonspace.recipes.gxn --profile paper --data flickr30k
    torchrun --nproc-per-node 2 -m commonspace.recipes.gxn --profile paper --data coco --image resnet152 --body-lr 0.1

Paths: "look" is the embedding (`models.GXNLook`), "write" a decoder that writes the sentence from the picture, and
"look+write" both at once (`models.GXN`). The relatives of GXN's embedding:

    order-embeddings    --no-grounded
    VSE0                --no-grounded --similarity cosine --margin 0.2 --no-unit-images
    VSE++               --no-grounded --similarity cosine --margin 0.2 --mining hardest

In the "paper" profile images are rows of ResNet-152 that `data_scripts/extract_features.py` made. GXN's learning rate,
margin and number of epochs could not be found; these are VSE++'s (2e-4, a tenth of it after 15 of 30 epochs, batches of
128, gradients of norm 2 at most) with the margin of order-embeddings.
"""

import csv
import time
from collections.abc import Sequence as Several
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from commonspace.data import Vocabulary
from commonspace.encoders import Cells, ResNet, Sequence, SmallConvNet, Standardize
from commonspace.models import GXN, GXNLook, SentenceDecoder, sentence_encoders
from commonspace.recipes import caption_data
from commonspace.recipes.caption_data import Captioned
from commonspace.recipes.caption_measures import likelihood, search, writing
from commonspace.recipes.compose_data import groups
from commonspace.recipes.config import BaseConfig
from commonspace.recipes.report import Report, run_folder, write_report
from commonspace.training import all_gather, is_main, seeded, setup, train

JUDGED = 1000  # pictures by which an epoch is chosen


@dataclass(frozen=True)
class Config(BaseConfig):
    """GXN's settings; `BaseConfig` has the fields common to all recipes."""

    data: str = "scenes"
    """captioned pictures, one of `commonspace.recipes.caption_data.names()`"""
    size: int | None = None
    """height of the pictures in pixels; None is the data set's own"""
    paths: Literal["look", "write", "look+write"] = "look"
    """what is trained: the embedding, the decoder that writes sentences, or both at once"""
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
        "lesson/flickr8k": {"size": 64, "min_count": 3},
        "lesson/flickr8k-dev": {"size": 64, "min_count": 3},
        "paper": {
            "image": "features", "dim": 1024, "word_dim": 300, "hidden_dim": 1024, "dropout": 0.5, "min_count": 5,
            "epochs": 30, "lr": 2e-4, "schedule": "step",
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
        with torch.device("meta"):  # now and not after the data was read; nothing is drawn, nothing takes memory
            _model(["word"] * self.min_count, image_encoder(self, 1) if self.image == "small" else Standardize(1), self)


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
    decoder = None
    if config.paths != "look":
        widths = config.dim, config.word_dim, config.hidden_dim
        decoder = SentenceDecoder(vocabulary, *widths, start=config.start, dropout=config.dropout)
    return GXN(look, decoder, config.write_weight, config.paths != "write", config.pre_norm)


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


def fit(captioned: Captioned, config: Config, validation: Captioned | None = None, **loop: Any) -> GXN:
    """Train on pictures and their captions. ``loop``: further arguments of `training.train`.

    With ``validation`` the epoch is taken in which its first 1,000 pictures and their captions find each other best
    (the sum of R@1, R@5 and R@10 both ways), or, for "write" alone, in which their captions are likeliest; else the
    last one.
    """
    train_on = shuffled(captioned, config.seed) if config.shuffle else captioned
    of_rows = config.image == "features"
    model = build(train_on.captions, train_on.images[:1].shape[1] if of_rows else None, config)
    rows = {}  # of the epoch that is running

    def step(module: GXN, ids: Tensor, epoch: int) -> dict[str, Tensor]:
        if epoch not in rows:
            rows.clear()
            rows[epoch] = epoch_rows(train_on.image_of, config, epoch)
        chosen = rows[epoch][ids.cpu()].flatten()
        images, back = train_on.image_of[chosen].unique(return_inverse=True)
        return module.losses(
            train_on.images[images][back].to(ids.device),
            [train_on.captions[i] for i in chosen.tolist()],
            train_on.group[images[back]].to(ids.device) if config.mask_same_image else None,
            all_gather,
            "all" if epoch < config.sum_epochs else None,
        )

    def judge(module: GXN) -> float:
        some = validation.first(JUDGED)
        return likelihood(module, some) if config.paths == "write" else search(module, some)["rsum"]

    n_rows, per_step = len(epoch_rows(train_on.image_of, config, 0)), config.batch_size // config.share
    optimizer = make_optimizer(model, config)
    train(
        model,
        step,
        n_rows,
        optimizers=optimizer,
        schedulers=make_scheduler(optimizer, config, n_rows // per_step),
        epochs=config.epochs,
        batch_size=per_step,
        seed=config.seed,
        device=config.device,
        precision=config.precision,
        clip=config.clip,
        validate=None if validation is None else judge,
        config={key: str(value) for key, value in vars(config).items() if key not in ("output", "device")},
        **loop,
    )
    return model


def epoch_rows(image_of: Tensor, config: Config, epoch: int) -> Tensor:
    """Which captions an epoch has, in groups that go into a batch together: (rows, share) ids. ``image_of``: (m,)."""
    if config.sampling == "image":
        first = torch.searchsorted(image_of, torch.arange(int(image_of.max()) + 1))
        draw = torch.from_numpy(np.random.default_rng([config.seed, epoch, 1]).random(len(first)))
        return (first + (draw * image_of.bincount()).long())[:, None]
    return (
        groups(image_of, config.share, config.seed, epoch) if config.share > 1 else torch.arange(len(image_of))[:, None]
    )


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


def make_optimizer(model: GXN, config: Config) -> torch.optim.Optimizer:
    """Adam over all weights, those of the image encoder with a learning rate of their own."""
    body = list(model.look.image_encoder.parameters())
    of_body = {id(p) for p in body}
    parts = [{"params": [p for p in model.parameters() if id(p) not in of_body], "lr": config.lr}]
    trained = [p for p in body if p.requires_grad]
    return torch.optim.Adam(parts + [{"params": trained, "lr": config.lr * config.body_lr}] * bool(trained))


def make_scheduler(
    optimizer: torch.optim.Optimizer, config: Config, steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The schedule of the learning rate over epochs of ``steps`` steps."""
    if config.schedule == "one_cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        total = max(11, steps * config.epochs + 1)  # at 10 its tenth would be one point, and torch divides by 0
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total, pct_start=0.1, cycle_momentum=False)
    return torch.optim.lr_scheduler.StepLR(optimizer, config.decay_every * steps) if config.schedule == "step" else None


def evaluate(model: GXN, test: Captioned, beam: int = 5) -> dict[str, float]:
    """`search` of a model whose embedding was trained, and `writing` of one that has a decoder."""
    found = search(model, test) if model.settings["rank"] else {}
    return found | (writing(model, test, beam) if model.decoder is not None else {})


def training_loss(log: Path) -> dict[str, float]:
    """The mean training loss of the first and of the last epoch that ``log.csv`` tells of."""
    with log.open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    return {"first loss": losses[0], "last loss": losses[-1]}


def run(config: Config) -> Report:
    """Load the data, train (resuming a run that was killed), evaluate on the test pictures, write the report."""
    start, folder = time.perf_counter(), run_folder("gxn", config)
    features = config.features if config.image == "features" else None
    splits = caption_data.load(config.data, config.seed, config.size, features)
    with setup():
        model = fit(splits.train, config, splits.validation, output=folder / "training")
        metrics = evaluate(model, splits.test, config.beam) | training_loss(folder / "training" / "log.csv")
        if is_main():
            model.save(folder / "model")
        return write_report("gxn", config, metrics, time.perf_counter() - start, write=is_main())


if __name__ == "__main__":
    from commonspace.recipes.shell import main

    main(Config, run)
