"""What test_gxn_two_processes.py starts under torchrun: ``gxn_two_processes.py folder`` writes one file a process."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from commonspace.recipes import gxn, gxn_stages
from commonspace.recipes.caption_data import Captioned
from commonspace.training import rank, setup

KINDS = {
    "look+write": {"paths": "look+write", "write_weight": 0.5},
    "look": {"paths": "look", "similarity": "cosine", "margin": 0.3, "mining": "hardest", "share": 2},
    "write": {"paths": "write", "sampling": "image"},
    "not masked": {"paths": "look+write", "mask_same_image": False, "pre_norm": True, "grounded": False},
    "reward": {
        "paths": "write",
        "pre_norm": True,
        "reward_epochs": 2,
        "reward_lr": 1.0,
        "samples": 2,
        "gamma": 1.0,
        "ramp": 0.0,
    },
}
PAINTERS = {
    "paint": {},
    "look+paint": {"norm": "none", "penalty": 1.0, "spread": True, "look_epochs": 1, "lr": 0.01},
}
WORDS = ["red", "blue", "small", "large", "square", "round"]


def captioned() -> Captioned:
    """12 rows of numbers, with one to three captions of one to nine words: the halves of a batch differ in tokens."""
    rng = torch.Generator().manual_seed(4)
    image_of = torch.arange(12).repeat_interleave(torch.arange(12) % 3 + 1)
    lengths = torch.randint(1, 10, (len(image_of),), generator=rng).tolist()
    captions = [" ".join(WORDS[i] for i in torch.randint(6, (n,), generator=rng)) for n in lengths]
    rows = torch.randn(12, 5, generator=rng, dtype=torch.float64)
    return Captioned(rows, captions, image_of, torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 0]))


def drawn(p: Tensor, n: int, generator: None) -> Tensor:
    """In place of torch.multinomial, of two rows for each picture: whichever process draws, a row gives the same."""
    u = (0.37 * (torch.arange(len(p)) % 2) + 10 * p[:, 1]) % 1
    return (p.cumsum(dim=1) <= u[:, None]).sum(dim=1, keepdim=True).clamp(max=p.shape[1] - 1)


def trained(kind: str) -> dict[str, Tensor]:
    """The weights after three epochs, in float64: Adam makes much of differences between gradients of nearly 0."""
    small = {"epochs": 3, "batch_size": 8, "dim": 8, "hidden_dim": 8, "word_dim": 6, "lr": 0.01, "device": "cpu"}
    config = gxn.Config.profile("lesson", image="features", **small | KINDS[kind])
    build = gxn.build
    double = patch.object(gxn, "build", lambda *arguments: build(*arguments).double())
    with double, patch.object(torch, "multinomial", drawn):
        return gxn.fit(captioned(), config).state_dict()


def painted(paths: str) -> dict[str, Tensor]:
    """The weights of a painter and its judge: noise is each process's own, and so are a batch's mean and variance."""
    rng = torch.Generator().manual_seed(4)
    images = torch.randint(256, (12, 3, 8, 8), generator=rng, dtype=torch.uint8)
    small = {"epochs": 3, "batch_size": 6, "dim": 8, "word_dim": 6, "width": 4, "device": "cpu", "data": "rows"}
    sizes = {"paint_size": 8, "condition_dim": 4, "noise_dim": 3, "painter_width": 8, "judge_width": 4}
    config = gxn.Config.profile("lesson", paths=paths, **small | sizes | PAINTERS[paths])
    return gxn.fit(replace(captioned(), images=images), config).state_dict()


def main(folder: Path) -> None:
    os.environ["COMMONSPACE_CACHE"] = str(folder / "cache")
    with setup("cpu"):
        found = {kind: trained(kind) for kind in KINDS}
        with patch.object(gxn_stages, "all_gather", lambda rows: rows):
            found |= {f"{kind}, not gathered": trained(kind) for kind in ("look+write", "reward")}
        found |= {f"painted, {paths}": painted(paths) for paths in PAINTERS}
        torch.save(found, folder / f"{rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
