"""The stages of a run of the recipe `gxn`: what is trained first, what then, and by what each one's epoch is chosen.

    look     the ranking alone                             look_epochs, none by default
    all      every path, the decoder by cross-entropy      epochs; before each of its steps, the painter's judge has one
    reward   every path, the decoder by L_xe+rl as well    reward_epochs, none by default

Each is a run of `training.train`, with its own optimisers, and begins with the weights that the one before has chosen.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from commonspace.losses import mixing_weight
from commonspace.metrics import CaptionReward
from commonspace.models import GXN
from commonspace.recipes.caption_data import Captioned
from commonspace.recipes.caption_measures import LONGEST, likelihood, plain, search, spoken
from commonspace.recipes.compose_data import groups
from commonspace.recipes.wrong_captions import WrongCaptions
from commonspace.training import all_gather
from commonspace.training.seed import epoch_order

if TYPE_CHECKING:
    from commonspace.recipes.gxn import Config

JUDGED = 1000  # pictures by which an epoch is chosen
GAME_BETAS = (0.5, 0.999)  # of Adam, for painter and judge, as in DCGAN and StackGAN
WHITENED = 5000  # captions with which the painter's condition begins
WRITTEN = 300  # pictures for which sentences are written to choose one


@dataclass(frozen=True)
class Stage:
    """A run of `training.train`: its ``name`` and the arguments in which it differs from the others.

    ``judge``: the validation, higher is better; None: the last epoch is taken. ``optimizers``, ``schedulers``: one, or
    several by name. ``before``: what is to be done once, as the stage begins.
    """

    name: str
    epochs: int
    step: Callable[..., Mapping[str, Tensor]]
    judge: Callable[[GXN], float] | None
    optimizers: Optimizer | dict[str, Optimizer]
    schedulers: LRScheduler | dict[str, LRScheduler] | None
    before: Callable[[], None] | None = None


class Batches:
    """What a step sees: ``batches(ids, epoch)`` are the pictures, captions and image ids of rows that were dealt out.

    ``n``: rows an epoch, ``size``: of them a batch. ``epoch`` counts through all stages.
    """

    def __init__(self, captioned: Captioned, config: "Config"):
        self._wrong = WrongCaptions(captioned, config.wrong, config.seed) if "paint" in config.paths else None
        self.captioned, self.masked, self.size = captioned, config.mask_same_image, config.batch_size // config.share
        self._rows = lru_cache(maxsize=1)(lambda epoch: epoch_rows(captioned.image_of, config, epoch))
        self._place = lru_cache(maxsize=1)(lambda epoch: epoch_order(self.n, config.seed, epoch).argsort())
        self.n = len(self._rows(0))

    def pictures(self, ids: Tensor, epoch: int) -> Tensor:
        """Of which picture each pair is."""
        return self.captioned.image_of[self._chosen(ids, epoch)]

    def __call__(self, ids: Tensor, epoch: int) -> tuple[Tensor, list[str], Tensor | None]:
        images, back = self.pictures(ids, epoch).unique(return_inverse=True)
        return (
            self.captioned.images[images][back].to(ids.device),
            [self.captioned.captions[i] for i in self._chosen(ids, epoch).tolist()],
            self.captioned.group[images[back]].to(ids.device) if self.masked else None,
        )

    def with_wrong(self, ids: Tensor, epoch: int) -> tuple[Tensor, list[str], list[str]]:
        """The pictures, their captions, and as many sentences that are not of them."""
        images, captions, _ = self(ids, epoch)
        return images, captions, self._wrong(self.pictures(ids, epoch), captions, ids, epoch)

    def done(self, ids: Tensor, epoch: int, epochs: int) -> float:
        """The share of a stage of so many epochs that is done when ids come, in its own ``epoch``; 0 at the first."""
        steps = self.n // self.size
        return (epoch * steps + int(self._place(epoch)[ids[0].cpu()]) // self.size) / (epochs * steps)

    def _chosen(self, ids: Tensor, epoch: int) -> Tensor:
        return self._rows(epoch)[ids.cpu()].flatten()


def stages(model: GXN, batches: Batches, config: "Config", validation: Captioned | None) -> list[Stage]:
    """The stages that ``config`` asks for, one after the other."""
    first = {"look": 0, "all": config.look_epochs, "reward": config.look_epochs + config.epochs}  # epoch of each
    rewards = None
    if config.reward_epochs:
        references = plain(batches.captioned)
        rewards = CaptionReward(references, config.cider_weight, config.bleu_weight)

    def mining(epoch: int) -> str | None:
        return "all" if epoch < config.sum_epochs else None

    def look(module: GXN, ids: Tensor, epoch: int) -> dict[str, Tensor]:
        return module.look.losses(*batches(ids, epoch), all_gather, mining(epoch))

    def every_path(module: GXN, ids: Tensor, epoch: int, player: str = "model") -> dict[str, Tensor]:
        epoch += first["all"]
        if player == "judge":
            return module.judge_losses(*batches.with_wrong(ids, epoch))
        return module.losses(*batches(ids, epoch), all_gather, mining(epoch))

    def reward(module: GXN, ids: Tensor, epoch: int, player: str = "model") -> dict[str, Tensor]:
        gamma = mixing_weight(batches.done(ids, epoch, config.reward_epochs), config.gamma, config.ramp)
        epoch += first["reward"]
        if player == "judge":
            return module.judge_losses(*batches.with_wrong(ids, epoch))
        images, texts, image_id = batches(ids, epoch)
        places = batches.pictures(ids, epoch)
        return module.reward_losses(
            images,
            texts,
            lambda sentences, rows, ended: rewards.reward(sentences, places[rows], ended),
            gamma,
            config.samples,
            config.baseline,
            image_id,
            all_gather,
            mining(epoch),
            LONGEST,
        )

    def found(module: GXN) -> float:
        return search(module, validation.first(JUDGED))["rsum"]

    def told(module: GXN) -> float:
        return likelihood(module, validation.first(JUDGED))

    def written(module: GXN) -> float:
        return spoken(module, validation.first(WRITTEN))["CIDEr-D"]

    def whiten() -> None:
        if config.whiten and model.painter is not None:
            captions = batches.captioned.captions
            model.painter.augmentation.whiten(model.grounded_text(captions[:: math.ceil(len(captions) / WHITENED)]))

    judges = {"write": told, "paint": None}
    table = [
        ("look", config.look_epochs, look, found, 1.0),
        ("all", config.epochs, every_path, judges.get(config.paths, found), 1.0),
        ("reward", config.reward_epochs, reward, written, config.reward_lr),
    ]
    made = []
    for name, epochs, step, judge, lr in table:
        if epochs:
            optimizers = make_optimizers(model, config, lr, plays=name != "look")
            steps = batches.n // batches.size
            constant = name == "reward"
            schedulers = {
                player: scheduler
                for player, optimizer in optimizers.items()
                if not constant and (scheduler := make_scheduler(optimizer, config, steps, epochs))
            }
            if len(optimizers) == 1:
                optimizers, schedulers = optimizers["model"], schedulers.get("model")
            made.append(Stage(name, epochs, step, judge, optimizers, schedulers, whiten if name == "all" else None))
    return made


def epoch_rows(image_of: Tensor, config: "Config", epoch: int) -> Tensor:
    """Which captions an epoch has, in groups that go into a batch together: (rows, share) ids. ``image_of``: (m,)."""
    if config.sampling == "image":
        first = torch.searchsorted(image_of, torch.arange(int(image_of.max()) + 1))
        draw = torch.from_numpy(np.random.default_rng([config.seed, epoch, 1]).random(len(first)))
        return (first + (draw * image_of.bincount()).long())[:, None]
    return (
        groups(image_of, config.share, config.seed, epoch) if config.share > 1 else torch.arange(len(image_of))[:, None]
    )


def make_optimizers(model: GXN, config: "Config", times: float = 1.0, plays: bool = True) -> dict[str, Optimizer]:
    """Adam for "model", with ``times`` the learning rate, those of the image encoder, of the sentence encoders and of
    the painter with one of their own; and, if the painter ``plays``, for its "judge", whose steps come first."""
    lr = config.lr * times
    body, readers = model.look.image_encoder.parameters(), model.look.text_encoders.parameters()
    special: list[tuple[list, dict]] = [
        ([p for p in body if p.requires_grad], {"lr": lr * config.body_lr}),
        (list(readers) if plays and model.painter is not None else [], {"lr": lr * config.text_lr}),
    ]
    if model.painter is not None:
        augmentation = list(model.painter.augmentation.parameters())
        special += [
            (list(model.painter.painter.parameters()), {"lr": config.painter_lr * times, "betas": GAME_BETAS}),
            (augmentation, {"lr": config.condition_lr * times, "betas": GAME_BETAS}),
        ]
    own = {id(p) for weights, _ in special for p in weights}
    own |= {id(p) for p in model.look.image_encoder.parameters()}  # also those that are never trained
    rest = [p for p in model.players()["model"] if id(p) not in own]
    groups = [{"params": rest, "lr": lr}] + [{"params": weights} | how for weights, how in special if weights]
    judge = model.players()["judge"] if plays else []
    game = {"judge": torch.optim.Adam(judge, config.judge_lr * times, GAME_BETAS)} if judge else {}
    return game | {"model": torch.optim.Adam(groups)}


def make_scheduler(optimizer: Optimizer, config: "Config", steps: int, epochs: int | None = None) -> LRScheduler | None:
    """The schedule of the learning rate over so many epochs (None: ``config.epochs``) of ``steps`` steps."""
    if config.schedule == "one_cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        # At 10 its tenth would be one point, and torch divides by 0.
        total = max(11, steps * (config.epochs if epochs is None else epochs) + 1)
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total, pct_start=0.1, cycle_momentum=False)
    return torch.optim.lr_scheduler.StepLR(optimizer, config.decay_every * steps) if config.schedule == "step" else None
