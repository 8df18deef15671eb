"""What test_composed_two_processes.py starts under torchrun: ``composed_two_processes.py folder``, a file a process."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from commonspace.encoders import GRU, SmallConvNet
from commonspace.models import TIRG, ComposeAE, ComposedRetrieval, ShowAndTell
from commonspace.training import all_gather, rank, seeded, setup, world_size
from commonspace.training.distributed import wrap

N = 8
WORDS = ["red", "blue", "small", "add", "remove"]
COMPOSERS = {
    "TIRG at the fc layer": lambda: TIRG(6, 6, 6),
    "TIRG at the map": lambda: TIRG(8, 6, 6, at="conv"),
    "Show and Tell": lambda: ShowAndTell(6, 5, 6),  # which leaves a part of the text encoder without work
    "ComposeAE": lambda: ComposeAE(6, 6, 6, symmetry_weight=1.0),  # which searches for the sources as well
}
LOSSES = {
    "batch softmax": {"loss": "batch_softmax"},
    "soft triplet": {"loss": "soft_triplet"},
    "release": {"loss": "soft_triplet", "form": "release"},
}


class Step(nn.Module):
    """The model's losses as a forward, which is what DDP wraps. BatchNorm has its statistics: each half has others."""

    def __init__(self, composer: str, loss: str):
        super().__init__()
        with seeded(2):
            text = GRU({"words": WORDS, "pattern": "[a-z]+"}, dim=5, out_dim=6, dropout=0.0)
            parts = SmallConvNet(2, feature_map=True), text, COMPOSERS[composer]()
            self.model = ComposedRetrieval(*parts, grid=2, **LOSSES[loss]).double().eval()

    def forward(self, *batch: Tensor | list[str], gather: bool = True, **rest: Tensor) -> dict[str, Tensor]:
        with seeded(5):  # the negatives that the release draws
            return self.model.losses(*batch, gather=all_gather if gather else None, **rest)


def gradients(composer: str, loss: str, gather: bool = True) -> dict[str, Tensor]:
    """The gradient of every weight, of this process's half of the queries (alone: of all)."""
    rng = torch.Generator().manual_seed(1)
    source, target = (torch.rand(N, 3, 16, 16, generator=rng, dtype=torch.float64) for _ in range(2))
    texts = [" ".join(WORDS[i % 5 : i % 5 + 1 + i % 3]) for i in range(N)]
    same = torch.eye(N, dtype=torch.bool)
    same[0, 7] = same[5, 2] = True  # right answers of the other half, or of one's own
    rows = torch.arange(N).chunk(world_size())[rank()]
    pictures, shared = torch.tensor([0, 1, 2, 2, 4, 5, 6, 5])[rows].unique(return_inverse=True)
    step = Step(composer, loss)
    whole = wrap(step, torch.device("cpu"))  # DDP, which has to live until the backward pass is over
    batch = source[pictures], [texts[i] for i in rows.tolist()], target[rows]
    found = whole(*batch, gather=gather, source=shared, same=same if gather else None)
    found["loss"].backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in step.named_parameters()}


def main(folder: Path) -> None:
    with setup("cpu"):
        found = {f"{c}, {kind}": gradients(c, kind) for c in COMPOSERS for kind in LOSSES}
        found["not gathered"] = gradients("TIRG at the fc layer", "batch softmax", gather=False)
        torch.save(found, folder / f"{rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
