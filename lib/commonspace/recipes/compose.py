"""Composed retrieval: a picture and a sentence that says what to change find the picture changed so.

    python -m commonspace.recipes.compose --profile lesson --data scenes
    python -m commonspace.recipes.compose --profile lesson --data emoji-gender --composer AttributeAsOperator
    torchrun --nproc-per-node 2 -m commonspace.recipes.compose --profile paper --data scenes-3d

Any composer of `models.composers` between an image encoder and a text encoder, trained to pick each query's target.
"""

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from commonspace.data import ComposedQueries, DrawnQueries, Vocabulary
from commonspace.encoders import GRU, LSTM, MLP, BagOfWords, Bert, ResNet, Sequence, SmallConvNet
from commonspace.encoders.image import ImageEncoder
from commonspace.metrics import evaluate as evaluate_embeddings
from commonspace.metrics import first_answers
from commonspace.models.composed import ComposedRetrieval
from commonspace.models.composers import COMPOSERS, build_composer
from commonspace.recipes import compose_data
from commonspace.recipes.config import BaseConfig
from commonspace.recipes.report import Report, run_folder, write_report
from commonspace.training import all_gather, is_main, seeded, setup, train


@dataclass(frozen=True)
class Config(BaseConfig):
    """Composed retrieval's settings; `BaseConfig` has the fields common to all recipes."""

    data: str = "scenes"
    """queries, one of `commonspace.recipes.compose_data.names()`"""
    text_mode: Literal["modification", "complete"] = "modification"
    """what a query says: what to change, or all of its target; with that, compare with TextOnly"""
    size: int | None = None
    """height of the pictures in pixels; None is the data set's own"""
    composer: str = "Concat"
    """what makes one vector of image and text, one of `commonspace.models.composers.COMPOSERS`"""
    dropout: float = 0.1
    """share of hidden units that Concat drops in training"""
    rank: int = 8
    """of the matrices of AttributeAsOperator, less the identity"""
    cells: int = 4
    """a side, of the places whose pairs Relationship looks at"""
    at: Literal["fc", "conv"] = "fc"
    """where TIRG composes: vectors, or the last maps"""
    weights: tuple[float, float] = (1.0, 1.0)
    """of the two parts of TIRG or ComposeAE when training begins; they are learned"""
    parts: Literal["both", "gate", "residual", "rho", "rho_conv"] = "both"
    """of TIRG (gate, residual) or ComposeAE (rho, rho_conv): both, or one alone"""
    space: Literal["complex", "real"] = "complex"
    """where ComposeAE composes; "real" is the concatenation and needs symmetry_weight 0"""
    batch_norm: bool = True
    """before every perceptron of ComposeAE"""
    symmetry_weight: float = 0.01
    """lambda_sym of ComposeAE: turning the target back finds the source; 0 is without"""
    image_recon_weight: float = 0.1
    """lambda_ri of ComposeAE: the image from the composed vector; 0 is without"""
    text_recon_weight: float = 0.1
    """lambda_rt of ComposeAE: the text from the composed vector; 0 is without"""
    detach_recon: bool = False
    """whether ComposeAE's decoders must meet image and text as they are, without pulling them nearer"""
    dim: int = 512
    """numbers in the vector of a picture and of a query"""
    image: Literal["small", "resnet18"] = "small"
    """encoder of pictures: four convolutions, or ResNet-18"""
    width: int = 32
    """channels of the small encoder's second convolution"""
    pretrained: bool = False
    """begin the ResNet with the weights of ImageNet"""
    grid: int = 1
    """cells a side to which the last map is averaged; 1, the mean over the whole of it, is the paper's"""
    text: Literal["gru", "lstm", "bag", "bert"] = "gru"
    """encoder of sentences"""
    bert: str = "all-MiniLM-L6-v2"
    """which BERT, of `commonspace.encoders.Bert`"""
    bert_layer: int = -1
    """whose states are averaged over a sentence's tokens: -1 is the last, -2 the one before"""
    finetune: bool = False
    """whether the BERT is trained too, with the learning rate of the image encoder; else its vectors are kept"""
    word_dim: int = 128
    """numbers in a word's vector, and in the state of GRU and LSTM"""
    text_dim: int | None = None
    """numbers in the vector of a sentence; None is dim, and of a BERT what it gives, without a layer behind it"""
    scale: float = 4.0
    """length of the vectors when training begins; it is learned"""
    loss: Literal["batch_softmax", "soft_triplet"] = "batch_softmax"
    """one choice among all targets of the batch, or one against each"""
    form: Literal["paper", "release"] = "paper"
    """of TIRG, ComposeAE and the soft triplet: as the paper has them, or as its authors' code"""
    share: int = 8
    """queries of a batch that start from one picture"""
    batch_size: int = 128
    """queries a step, over all processes"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or stochastic gradient descent with momentum 0.9"""
    schedule: Literal["one_cycle", "step", "constant"] = "one_cycle"
    """of the learning rate: up for a tenth of the steps and then down to nothing, down in steps, or none"""
    decay_every: int = 50_000
    """steps after which the schedule "step" divides the learning rate by ten"""
    body_lr: float = 1.0
    """learning rate of the image encoder and of a BERT that is trained, times that of everything else"""
    weight_decay: float = 0.0
    """of all weights"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of the networks"""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "lesson": {"epochs": 6, "lr": 1e-3},
        "lesson/emoji-skin-tone": {"epochs": 10},
        "lesson/emoji-gender": {"epochs": 20},
        "lesson/emoji-hair": {"epochs": 30},
        "lesson/fashion-products": {"epochs": 4, "size": 40},
        "paper": {
            "image": "resnet18", "pretrained": True, "text": "lstm", "word_dim": 512, "loss": "soft_triplet",
            "share": 2, "batch_size": 32, "optimizer": "sgd", "schedule": "constant", "lr": 1e-2, "weight_decay": 1e-6,
            "epochs": 300,
        },
        "paper/fashion-products": {"loss": "batch_softmax", "body_lr": 0.1, "epochs": 30},
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.composer not in COMPOSERS:
            raise ValueError(f"composer must be one of {', '.join(COMPOSERS)}; got {self.composer!r}")
        with torch.random.fork_rng(devices=[]):  # now and not after the data was read
            COMPOSERS[self.composer](1, 1, 1, **composer_settings(self))
        if self.decay_every < 1:
            raise ValueError(f"decay_every is a number of steps, at least 1; got {self.decay_every}")
        if self.share < 1 or self.batch_size % self.share:
            raise ValueError(f"batch_size={self.batch_size} must be a multiple of share={self.share}, which is >= 1")


OF_COMPOSERS = {
    "Concat": ("dropout",),
    "AttributeAsOperator": ("rank",),
    "Relationship": ("cells",),
    "TIRG": ("at", "weights", "form", "parts"),
    "ComposeAE": (
        "form",
        "weights",
        "parts",
        "space",
        "batch_norm",
        "symmetry_weight",
        "image_recon_weight",
        "text_recon_weight",
        "detach_recon",
    ),
}  # settings that are fields of Config; other composers keep their own


def composer_settings(config: Config) -> dict[str, Any]:
    """Those of the composer's settings that are fields of ``config``."""
    return {name: getattr(config, name) for name in OF_COMPOSERS.get(config.composer, ())}


def build(queries: ComposedQueries | DrawnQueries, config: Config) -> ComposedRetrieval:
    """The untrained model; its vocabulary is that of the queries' sentences."""
    with seeded(config.seed, 0):
        if config.image == "small":
            image = SmallConvNet(config.width, feature_map=True)
        else:
            image = ResNet("resnet18", "DEFAULT" if config.pretrained else None, feature_map=True)
        composer = build_composer(composer_config(config, image))
        parts = image, text_encoder(queries, config), composer
        return ComposedRetrieval(*parts, scale=config.scale, grid=config.grid, loss=config.loss, form=config.form)


def composer_config(config: Config, image: ImageEncoder) -> dict[str, Any]:
    """What `build_composer` makes the composer from: its settings, and widths that fit what it reads."""
    settings = composer_settings(config)
    if config.composer == "FiLM":
        settings["channels"] = image.channels
    reads = COMPOSERS[config.composer].reading(**settings)
    widths = {
        "image_dim": image.out_dim if reads in ("map", "layers") else config.dim,
        "text_dim": config.word_dim if reads == "words" else text_width(config),
        "dim": config.dim,
    }
    return {"composer": config.composer} | widths | settings


def text_width(config: Config) -> int:
    """Numbers in the vector of a sentence: ``text_dim``, or what its None stands for."""
    bare = config.text_dim is None and config.text == "bert" and config.composer != "TextOnly"
    return Bert(config.bert, cache=False).out_dim if bare else config.text_dim or config.dim


def text_encoder(queries: ComposedQueries | DrawnQueries, config: Config) -> nn.Module:
    """Sentences -> (B, text_width): a recurrent network, or a bag of words or a BERT with a linear layer behind it.

    The layers are untrained. A BERT of the width that is asked for stands alone.
    """
    text_dim = text_width(config)
    if config.text == "bert":
        words = Bert(config.bert, finetune=config.finetune, layer=config.bert_layer)
        if text_dim == words.out_dim:
            return words
    else:
        vocabulary = Vocabulary.build(queries.texts if isinstance(queries, DrawnQueries) else queries.modification)
        if config.text != "bag":
            return {"gru": GRU, "lstm": LSTM}[config.text](vocabulary, config.word_dim, text_dim)
        words = BagOfWords(vocabulary)
    return Sequence(words, MLP([words.out_dim, text_dim]))


def fit(
    queries: ComposedQueries | DrawnQueries, config: Config, validation: ComposedQueries | None = None, **loop: Any
) -> ComposedRetrieval:
    """Train on the queries; those of a `DrawnQueries` are others in every epoch.

    With ``validation`` the epoch is taken in which R@1, R@5 and R@10 on it are highest together, else the last.
    ``loop``: further arguments of `training.train`, such as ``output`` for a run that can be killed and resumed.
    """
    model = build(queries, config)
    running = {}  # of the epoch that is running: its queries, and their rows in groups that share a picture

    def step(module: ComposedRetrieval, ids: torch.Tensor, epoch: int) -> dict[str, torch.Tensor]:
        if epoch not in running:
            running.clear()
            drawn = queries.draw(config.seed, epoch) if isinstance(queries, DrawnQueries) else queries
            running[epoch] = drawn, compose_data.groups(drawn.source, config.share, config.seed, epoch)
        now, rows = running[epoch]
        chosen = rows[ids.cpu()].flatten()
        pictures, source = now.source[chosen].unique(return_inverse=True)
        everyones = all_gather(chosen.to(ids.device)).cpu()
        relevant = [now.relevant[i] for i in everyones.tolist()]
        texts = [now.modification[i] for i in everyones.tolist()]
        same_source = compose_data.same_source(now.source[everyones], now.target[everyones], texts)
        return module.losses(
            now.images[pictures].to(ids.device),
            [now.modification[i] for i in chosen.tolist()],
            now.images[now.target[chosen]].to(ids.device),
            source=source.to(ids.device),
            same=compose_data.same_answer(relevant, now.target[everyones]).to(ids.device),
            same_source=same_source.to(ids.device),
            gather=all_gather,
        )

    def judge(module: ComposedRetrieval) -> float:
        found = evaluate(module, validation)
        return found["R@1"] + found["R@5"] + found["R@10"]

    n_groups = len(queries) // config.share
    optimizer = make_optimizer(model, config)
    steps = n_groups // (config.batch_size // config.share) * config.epochs
    train(
        model,
        step,
        n_groups,
        optimizers=optimizer,
        schedulers=make_scheduler(optimizer, config, steps),
        epochs=config.epochs,
        batch_size=config.batch_size // config.share,
        seed=config.seed,
        device=config.device,
        precision=config.precision,
        validate=None if validation is None else judge,
        config={key: str(value) for key, value in vars(config).items() if key not in ("output", "device")},
        **loop,
    )
    return model


def make_optimizer(model: ComposedRetrieval, config: Config) -> torch.optim.Optimizer:
    """Adam or SGD over all weights, those of the image encoder and of a BERT with a learning rate of their own."""
    body = list(model.image_encoder.parameters())
    body += [p for module in model.text_encoder.modules() if isinstance(module, Bert) for p in module.parameters()]
    of_body = {id(p) for p in body}
    rest = [p for p in model.parameters() if id(p) not in of_body]
    parts = [{"params": rest, "lr": config.lr}, {"params": body, "lr": config.lr * config.body_lr}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(parts, momentum=0.9, weight_decay=config.weight_decay)
    return torch.optim.AdamW(parts, weight_decay=config.weight_decay)


def make_scheduler(
    optimizer: torch.optim.Optimizer, config: Config, steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The schedule of the learning rate over ``steps`` steps."""
    if config.schedule == "one_cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        # Of 10 steps a tenth is a single point, and torch divides by 0.
        total = 11 if steps + 1 == 10 else max(2, steps + 1)
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total, pct_start=0.1, cycle_momentum=False)
    return torch.optim.lr_scheduler.StepLR(optimizer, config.decay_every) if config.schedule == "step" else None


KS = (1, 5, 10, 50)


def evaluate(model: ComposedRetrieval, test: ComposedQueries | dict[str, ComposedQueries]) -> dict[str, float]:
    """R@1, 5, 10 and 50, median rank and mAP; each query's own source is out of its gallery, all other pictures are in.

    Where the pictures' attributes are known, also ``kept`` and ``changed`` of the first answers
    (`compose_data.kept_and_changed`); where sentences join several edits, "R@1 of 2 edits" and so on; and where the
    sources are of several types, "macro R@1" and so on, the mean over types of each type's (`compose_data.types`).
    Queries whose ``exclude_source`` is False may find their source. Of
    several sets by name the measures are there as "name/R@1", and their means over the sets as "R@1".
    """
    if isinstance(test, dict):
        each = {name: evaluate(model, queries) for name, queries in test.items()}
        means = {m: sum(found[m] for found in each.values()) / len(each) for m in next(iter(each.values()))}
        return means | {f"{name}/{m}": value for name, found in each.items() for m, value in found.items()}
    query, gallery = model.embed_all(test.images, test.source, test.modification)
    exclude = test.source if getattr(test, "exclude_source", True) else None
    types = compose_data.types(test)
    macro = False if types is None else types
    found = evaluate_embeddings(query, gallery, relevant=test.relevant, exclude=exclude, macro=macro, ks=KS)
    answer = first_answers(query, gallery, exclude=exclude)
    return found | compose_data.kept_and_changed(test, answer) | compose_data.by_length(test, answer)


def run(config: Config, recipe: str = "compose") -> Report:
    """Load the data, train (resuming a run that was killed), evaluate on the test queries, write the report.

    ``recipe``: the name it is written under. A data set without validation queries gives the weights of the last epoch.
    """
    start, folder = time.perf_counter(), run_folder(recipe, config)
    splits = compose_data.load(config.data, config.seed, config.size, config.text_mode)
    with setup():
        model = fit(splits.train, config, splits.validation, output=folder / "training")
        metrics = evaluate(model, splits.test)
        if is_main():
            model.save(folder / "model")
        return write_report(recipe, config, metrics, time.perf_counter() - start, write=is_main())


if __name__ == "__main__":
    from commonspace.recipes.shell import main

    main(Config, run)
