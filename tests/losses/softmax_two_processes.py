"""What test_softmax.py starts under torchrun: ``softmax_two_processes.py folder`` writes a file a process."""

import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from commonspace.encoders import MLP, ScaledUnitNorm
from commonspace.losses import batch_softmax_loss, candidate_softmax_loss, soft_triplet_loss
from commonspace.training import all_gather, rank, seeded, setup, world_size
from commonspace.training.distributed import wrap

N = 24
LOSSES = {
    "batch softmax": batch_softmax_loss,
    "symmetric": partial(batch_softmax_loss, symmetric=True),
    "soft triplet": soft_triplet_loss,
    "release": lambda *a, **k: soft_triplet_loss(*a, "release", generator=torch.Generator().manual_seed(5), **k),
    "candidates": lambda *a, **k: candidate_softmax_loss(
        *a, n_candidates=5, repeats=3, generator=torch.Generator().manual_seed(5), **k
    ),
}
BY_ROWS = ("batch softmax", "soft triplet")  # those that are tried with the own queries and gathered targets as well


class Model(nn.Module):
    """Two encoders, one scale, and a loss: as a forward, which is what DDP wraps."""

    def __init__(self, kind: str, way: str):
        super().__init__()
        with seeded(3):
            self.query, self.target = MLP([6, 8, 5], "tanh"), MLP([7, 5])
        self.norm = ScaledUnitNorm()
        self.kind, self.way = kind, way

    def forward(self, query: Tensor, target: Tensor) -> Tensor:
        loss = LOSSES[self.kind]
        query, target = self.norm(self.query(query)), self.norm(self.target(target))
        if self.way == "rows":
            return loss(query, all_gather(target), offset=rank() * len(query))
        if self.way == "whole":
            return loss(all_gather(query), all_gather(target))
        return loss(query, target)


def gradients(kind: str, way: str = "whole") -> dict[str, Tensor]:
    """The gradient of every weight, of this process's half of the rows (alone: of all)."""
    rng = torch.Generator().manual_seed(7)
    query, target = (torch.randn(N, d, generator=rng, dtype=torch.float64) for d in (6, 7))
    rows = torch.arange(N).chunk(world_size())[rank()]
    model = Model(kind, way).double()
    whole = wrap(model, torch.device("cpu"))
    whole(query[rows], target[rows]).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def main(folder: Path) -> None:
    with setup("cpu"):
        found = {kind: {"whole": gradients(kind, "whole")} for kind in LOSSES}
        for kind in BY_ROWS:
            found[kind] |= {way: gradients(kind, way) for way in ("rows", "not gathered")}
        torch.save(found, folder / f"{rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
