"""TIRG, and every other way to compose, on every data set of composed queries: the comparison of its paper.

    python -m commonspace.recipes.tirg --profile lesson --data scenes
    python -m commonspace.recipes.tirg --profile paper --data css --at conv
    python -m commonspace.recipes.tirg --profile paper --data fashion200k --composer Relationship
    torchrun --nproc-per-node 2 -m commonspace.recipes.tirg --profile paper --data scenes-3d --at conv

It is the recipe `compose`, whose settings and functions it shares, with TIRG for a start and the paper's schedules.

The "paper" profile is the released code's, with its 150,000 to 160,000 steps written as epochs: ResNet-18 with the
weights of ImageNet (from nothing on our scenes), an LSTM, SGD with momentum, 32 queries a step in pairs that share a
source. CSS and MIT-States are trained with the soft triplet (K = 2), Fashion200k and FashionIQ with the batch softmax
(K = B). Where TIRG composes is not part of it: the paper has the last map on CSS, the fc layer elsewhere (``--at``).
The release begins with a residual of weight 10 (``--weights 1 10``); here both parts begin with 1 in every profile, as
a residual of 10 can keep a net that starts from nothing from learning at all.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from commonspace.recipes import compose
from commonspace.recipes.compose import build, evaluate, fit
from commonspace.recipes.report import Report

__all__ = ["Config", "build", "evaluate", "fit", "run"]


PROTOCOLS = ("original", "original-excluded", "cosmo", "union")
FASHION_IQ = {"loss": "batch_softmax", "epochs": 284}


@dataclass(frozen=True)
class Config(compose.Config):
    """The settings of `compose.Config`, with TIRG and the paper's profiles."""

    composer: str = "TIRG"
    """what makes one vector of image and text, one of `commonspace.models.composers.COMPOSERS`"""

    profiles: ClassVar[dict[str, dict[str, Any]]] = compose.Config.profiles | {
        "paper": compose.Config.profiles["paper"] | {"schedule": "step", "body_lr": 0.1, "size": 224},
        "paper/css": {"body_lr": 1.0, "schedule": "constant", "size": None, "epochs": 300},
        "paper/scenes": {"body_lr": 1.0, "schedule": "constant", "size": 64, "pretrained": False},
        "paper/scenes-joined": {"body_lr": 1.0, "schedule": "constant", "size": 64, "pretrained": False},
        "paper/scenes-3d": {"body_lr": 1.0, "schedule": "constant", "size": 64, "pretrained": False},
        "paper/mit-states": {"weight_decay": 5e-5, "epochs": 118},
        "paper/fashion200k": {"loss": "batch_softmax", "epochs": 30},
        **{f"paper/fashion-iq-{protocol}": FASHION_IQ for protocol in PROTOCOLS},
        "paper/fashion-products": {"loss": "batch_softmax", "size": 80, "epochs": 30},
    }


def run(config: Config) -> Report:
    """As `compose.run`: load the data, train (resuming a run that was killed), evaluate, write the report."""
    return compose.run(config, recipe="tirg")


if __name__ == "__main__":
    from commonspace.recipes.shell import main

    main(Config, run)
