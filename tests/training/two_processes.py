"""What test_distributed.py starts under torchrun: ``two_processes.py folder`` writes one file of results a process."""

import math
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from commonspace.training import all_gather, is_main, rank, seeded, setup, train, world_size
from commonspace.training.distributed import wrap

N = 24


class Towers(nn.Module):
    """Two encoders and a temperature."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.image = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
        self.text = nn.Linear(5, 4)
        self.temperature = nn.Parameter(torch.tensor(math.log(5.0)))
        self.to(dtype)


def everything(dtype=torch.float32) -> tuple[Towers, Tensor, Tensor]:
    with seeded(11):
        model = Towers(dtype)
        image = torch.randn(N, 6)
        return model, image.to(dtype), (image[:, :5] + 0.5 * torch.randn(N, 5)).to(dtype)


def plain_gather(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x.detach())
    return torch.cat(parts)


def reinserted_gather(x: Tensor) -> Tensor:
    parts = list(plain_gather(x).chunk(world_size()))
    parts[rank()] = x
    return torch.cat(parts)


def contrastive(model: Towers, image: Tensor, text: Tensor, gather=all_gather, factor: float = 1.0) -> Tensor:
    """InfoNCE both ways: the mean over the local rows, against all rows."""
    v, t = (nn.functional.normalize(x, dim=1) for x in (model.image(image), model.text(text)))
    all_v, all_t = gather(v), gather(t)
    own = torch.arange(len(v)) + rank() * len(v)
    scale = model.temperature.exp()
    i2t = nn.functional.cross_entropy(scale * v @ all_t.T, own)
    return factor * (i2t + nn.functional.cross_entropy(scale * t @ all_v.T, own)) / 2


def trace_norm(model: Towers, image: Tensor, text: Tensor) -> Tensor:
    """Minus the sum of the canonical correlations of all rows, times the temperature, so that it too has a gradient."""
    v, t = (all_gather(encoder(x)) for encoder, x in ((model.image, image), (model.text, text)))
    v, t = v - v.mean(0), t - t.mean(0)
    ridge = 1e-2 * torch.eye(v.shape[1], dtype=v.dtype)
    lv, lt = (torch.linalg.cholesky(x.T @ x / (len(x) - 1) + ridge) for x in (v, t))
    left = torch.linalg.solve_triangular(lv, v.T @ t / (len(v) - 1), upper=False)
    return -torch.linalg.svdvals(torch.linalg.solve_triangular(lt, left.T, upper=False)).sum() * model.temperature


LOSSES = {
    "ours": contrastive,
    "trace norm": trace_norm,
    "plain": lambda *a: contrastive(*a, gather=plain_gather),
    "reinserted": lambda *a: contrastive(*a, gather=reinserted_gather, factor=world_size()),
}


class Loss(nn.Module):
    """A loss as a forward, which is what DDP wraps."""

    def __init__(self, model: Towers, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return self.loss(self.model, image, text)


def gradients(kind: str) -> dict[str, Tensor]:
    """The gradient of every weight, of this process's half of the rows (alone: of all)."""
    model, image, text = everything(torch.float64 if kind == "trace norm" else torch.float32)
    rows = torch.arange(N).chunk(world_size())[rank()]
    whole = wrap(Loss(model, LOSSES[kind]), torch.device("cpu"))
    whole(image[rows], text[rows]).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def contrastive_step(model, image, text):
    return lambda module, ids, epoch: {"loss": contrastive(module, image[ids], text[ids]), "rows": len(ids)}


def trained(output: Path | None, kind: str, **arguments) -> dict:
    """Weights and rows after a short run. Its last batch, if kept, has 4 rows."""
    model, image, text = everything()
    step = contrastive_step(model, image, text)
    optimizers = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    if kind == "adversarial":  # two optimisers, each on weights that the other's loss does not always reach

        def step(module, ids, epoch, name):
            v, t = module.image(image[ids]), module.text(text[ids])
            if name == "image":
                return {"loss": ((v - t.detach()) ** 2).mean(), "other": (t**2).mean()}
            return {"loss": ((t - 1) ** 2).mean() * module.temperature}

        optimizers = {
            "image": torch.optim.SGD(model.image.parameters(), lr=0.1),
            "text": torch.optim.SGD([*model.text.parameters(), model.temperature], lr=0.1),
        }
    if kind == "dropout":

        def step(module, ids, epoch):
            v = nn.functional.dropout(module.image(image[ids]), 0.5)
            return {"loss": ((v - module.text(text[ids])) ** 2).mean() * module.temperature, "draw": torch.rand(())}

    arguments = {"epochs": 3, "batch_size": 8, **arguments}
    history = train(model, step, N, optimizers=optimizers, device="cpu", output=output, **arguments)
    return {"weights": model.state_dict(), "rows": history.rows, "best": history.best_epoch}


def gathered_unevenly() -> dict:
    """3 rows on the first process, 5 on the second: values, gradients, integers, and what is refused."""
    n = (3, 5)[rank()]
    x = torch.arange(float(2 * n)).reshape(n, 2).add(100 * rank()).requires_grad_()
    weights = torch.arange(16.0).reshape(8, 2)
    every = all_gather(x)
    (every * weights * (rank() + 1)).sum().backward()
    labels = all_gather(torch.arange(n) + 10 * rank())
    try:
        all_gather(torch.zeros(2, 3 + rank()))
        refused = ""
    except ValueError as error:
        refused = str(error)
    return {"every": every.detach(), "grad": x.grad, "labels": labels, "refused": refused}


def main(folder: Path) -> None:
    with setup("cpu") as device:
        found = {kind: gradients(kind) for kind in LOSSES}
        found["uneven"] = gathered_unevenly()
        found["train"] = trained(folder / "train", "contrastive", validate=lambda module: 1.0)
        found["kept"] = trained(None, "adversarial", drop_last=False, batch_size=10)
        found["whole"] = trained(folder / "whole", "dropout", log_every=1)
        trained(folder / "resumed", "dropout", log_every=1, epochs=1)
        found["resumed"] = trained(folder / "resumed", "dropout", log_every=1)
        found["facts"] = [rank(), world_size(), is_main(), str(device)]
        torch.save(found, folder / f"{rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
