"""What test_gxn_look_two_processes.py starts under torchrun: ``gxn_look_two_processes.py folder``, a file a process."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from commonspace.encoders import Standardize
from commonspace.models import LOOK_CONFIGURATIONS, GXNLook, sentence_encoders
from commonspace.training import all_gather, rank, seeded, setup, world_size
from commonspace.training.distributed import wrap

N = 8
WORDS = ["red", "blue", "small", "large", "square"]


class Step(nn.Module):
    """The model's losses as a forward, which is what DDP wraps."""

    def __init__(self, name: str):
        super().__init__()
        with seeded(2):
            texts = sentence_encoders({"words": WORDS, "pattern": "[a-z]+"}, 6, 4, grounded=name == "GXN")
            self.model = GXNLook(Standardize(5), *texts, **(LOOK_CONFIGURATIONS[name] | {"margin": 0.3})).double()

    def forward(self, images: Tensor, texts: list[str], gather: bool, image_id: Tensor | None) -> dict[str, Tensor]:
        return self.model.losses(images, texts, image_id, gather=all_gather if gather else None)


def gradients(name: str, gather: bool = True) -> dict[str, Tensor]:
    """The gradient of every weight, and the loss, of this process's half of the pairs (alone: of all)."""
    images = torch.randn(N, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    texts = [" ".join(WORDS[i % 5 : i % 5 + 1 + i % 3]) for i in range(N)]
    image_id = torch.tensor([0, 1, 2, 3, 4, 0, 6, 4])  # captions of one image in both halves
    rows = torch.arange(N).chunk(world_size())[rank()]
    step = Step(name)
    whole = wrap(step, torch.device("cpu"))  # DDP, which has to live until the backward pass is over
    found = whole(images[rows], [texts[i] for i in rows.tolist()], gather, image_id[rows] if gather else None)
    found["loss"].backward()
    grads = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in step.named_parameters()}
    return grads | {name: value.detach() for name, value in found.items()}


def main(folder: Path) -> None:
    with setup("cpu"):
        found = {name: gradients(name) for name in LOOK_CONFIGURATIONS}
        found["not gathered"] = gradients("GXN", gather=False)
        torch.save(found, folder / f"{rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
