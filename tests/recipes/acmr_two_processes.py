"""What test_acmr.py starts under torchrun: ``acmr_two_processes.py folder`` writes one file of results a process."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from commonspace.data import PairedFeatures
from commonspace.models import ACMR
from commonspace.recipes import acmr
from commonspace.training import all_gather, rank, setup, world_size
from commonspace.training.distributed import wrap

N = 24
KINDS = {
    "integers": {},
    "booleans": {},
    "hardest": {"mining": "hardest", "form": "relative", "same_modality": True},
    "as released": {"as_released": True, "margin": 100.0},
    "not gathered": {},
}


def pairs(several: bool = False) -> PairedFeatures:
    """Classes that lie in order, so that halves of the batch have unlike classes."""
    rng = torch.Generator().manual_seed(3)
    label = torch.arange(N) // 5
    rows = 2 * torch.randn(5, 9, generator=rng)[label] + torch.randn(N, 9, generator=rng)
    if several:
        label = torch.nn.functional.one_hot(label, 5).bool() | (torch.rand(N, 5, generator=rng) < 0.2)
    return PairedFeatures(rows[:, :5], rows[:, 5:], label)


def config(**overrides) -> acmr.Config:
    small = {"data": "digits", "dim": 3, "hidden": (6,), "dropout": 0.0, "epochs": 3, "batch_size": 8, "device": "cpu"}
    return acmr.Config.profile("lesson", **(small | overrides))


class Losses(nn.Module):
    """Both players' losses as a forward, which is what DDP wraps."""

    def __init__(self, model: ACMR, gather):
        super().__init__()
        self.model, self.gather = model, gather

    def forward(self, image: Tensor, text: Tensor, label: Tensor) -> Tensor:
        ours = self.model.losses(image, text, label, strength=0.7, gather=self.gather)["loss"]
        return ours + 3.0 * self.model.modality_losses(image, text)["loss"]


def gradients(kind: str) -> dict[str, Tensor]:
    """The gradient of every weight, of this process's half of the rows (alone: of all)."""
    data = pairs(kind == "booleans")
    model = acmr.build(data, config(**KINDS[kind]))
    rows = torch.arange(N).chunk(world_size())[rank()]
    whole = wrap(Losses(model, None if kind == "not gathered" else all_gather), torch.device("cpu"))
    whole(data.image[rows], data.text[rows], data.label[rows]).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def trained(several: bool, **overrides) -> dict[str, Tensor]:
    """The weights after three epochs."""
    return acmr.fit(pairs(several), config(**overrides)).state_dict()


def main(folder: Path) -> None:
    with setup("cpu"):
        found = {kind: gradients(kind) for kind in KINDS}
        found["trained"] = [trained(several) for several in (False, True)]
        found["bfloat16"] = trained(True, precision="bfloat16")
        torch.save(found, folder / f"{rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
