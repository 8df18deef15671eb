"""An epoch of ACMR beside a plain PyTorch loop of the same model: python benchmarks/bench_acmr.py

The loop is what one would write for this model and this data alone: feature rows standardised once, the two players'
steps one below the other, no checkpoints, no log, no checks. Both start from the same weights, read the same batches
and must end with the same losses. The second epoch and those after it have the reversal at work.
"""

import tempfile
from pathlib import Path

import _bench
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commonspace.data import PairedFeatures
from commonspace.losses import reversal_strength
from commonspace.recipes import acmr
from commonspace.training import batches

SIZES = [(2173, 128, 10, 10, 64), (8000, 500, 1000, 10, 128)]  # pairs, image and text features, classes, batch
EPOCHS = 4
OURS, PLAIN = "commonspace", "plain PyTorch loop"


def pairs(n: int, image_dim: int, text_dim: int, classes: int) -> PairedFeatures:
    """Noisy rows around a centre a class, on scales that differ from column to column."""
    rng = torch.Generator().manual_seed(n)
    label = torch.randint(0, classes, (n,), generator=rng)
    sides = []
    for d in (image_dim, text_dim):
        rows = torch.randn(classes, d, generator=rng)[label] + 2 * torch.randn(n, d, generator=rng)
        sides.append(rows * (0.1 + torch.rand(d, generator=rng)))
    return PairedFeatures(*sides, label, [str(i) for i in range(classes)])


# ---- the plain loop -------------------------------------------------------------------------------------------------


def standardised(rows: Tensor) -> Tensor:
    return (rows - rows.mean(dim=0)) / rows.std(dim=0)


def perceptron(layers: nn.Sequential, *last: nn.Module) -> nn.Sequential:
    """Two linear layers with the weights of the recipe's, so that both start alike."""
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    copies = [nn.Linear(layer.in_features, layer.out_features) for layer in linear]
    for copy, layer in zip(copies, linear, strict=True):
        copy.load_state_dict(layer.state_dict())
    return nn.Sequential(copies[0], nn.ReLU(), copies[1], *last)


def triplets(v: Tensor, t: Tensor, label: Tensor) -> Tensor:
    """Absolute margin 1, all negatives of the batch, both ways."""
    distance = torch.cdist(v, t, compute_mode="donot_use_mm_for_euclid_dist")
    same = (label[:, None] == label[None]).float()
    cost = 0.0
    for d in (distance, distance.T):
        near = (d * same).sum(dim=1) / same.sum(dim=1)
        far = ((1 - d).clamp(min=0) * (1 - same)).sum(dim=1) / (1 - same).sum(dim=1)
        cost = cost + (near + far).mean()
    return cost


class Plain:
    """The model, and a loop that trains it."""

    def __init__(self, data: PairedFeatures, config: acmr.Config):
        start = acmr.build(data, config)
        self.f = perceptron(start.image_encoder.parts[1].layers, nn.Tanh())
        self.g = perceptron(start.text_encoder.parts[1].layers, nn.Tanh())
        self.judge = perceptron(start.modality_classifier.layers)
        self.head = nn.Linear(config.dim, len(data.classes))
        self.head.load_state_dict(start.label_predictor.state_dict())
        self.image, self.text, self.label = standardised(data.image), standardised(data.text), data.label
        self.config = config

    def modality(self, v: Tensor, t: Tensor) -> Tensor:
        kind = torch.cat([torch.ones(len(v)), torch.zeros(len(t))]).long()
        return F.cross_entropy(self.judge(torch.cat([v, t])), kind)

    def losses(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the projectors minimise but for the classifier, and the classifier's cross-entropy."""
        v, t, label = self.f(self.image[ids]), self.g(self.text[ids]), self.label[ids]
        named = F.cross_entropy(self.head(v), label) + F.cross_entropy(self.head(t), label)
        return self.config.label_weight * named + self.config.triplet_weight * triplets(v, t, label), self.modality(
            v, t
        )

    def slope(self, code: Tensor) -> Tensor:
        code = code.requires_grad_()
        logits = self.judge(code)
        (slope,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), code, create_graph=True)
        return slope.square().sum(dim=1).mean()

    def train(self) -> None:
        c = self.config
        ours = [*self.f.parameters(), *self.g.parameters(), *self.head.parameters()]
        projector = torch.optim.Adam(ours, c.lr, acmr.BETAS, weight_decay=c.weight_decay)
        classifier = torch.optim.Adam(self.judge.parameters(), c.classifier_lr, acmr.BETAS)
        for epoch in range(c.epochs):
            strength = c.adversarial_weight * reversal_strength(epoch / c.epochs)
            for ids in batches(len(self.label), c.batch_size, c.seed, epoch):
                for _ in range(c.classifier_steps):
                    with torch.no_grad():
                        v, t = self.f(self.image[ids]), self.g(self.text[ids])
                    loss = self.modality(v, t) + c.gradient_penalty * (self.slope(v) + self.slope(t))
                    classifier.zero_grad()
                    loss.backward()
                    classifier.step()
                for _ in range(c.projector_steps):
                    rest, modality = self.losses(ids)
                    projector.zero_grad()
                    (rest - strength * modality).backward()
                    projector.step()


# ---- both -----------------------------------------------------------------------------------------------------------


def by_the_recipe(data: PairedFeatures, config: acmr.Config) -> acmr.ACMR:
    """With the checkpoints and the log of every run."""
    with tempfile.TemporaryDirectory() as folder:
        return acmr.fit(data, config, output=Path(folder) / "training")


def by_the_loop(data: PairedFeatures, config: acmr.Config) -> Plain:
    model = Plain(data, config)
    model.train()
    return model


def end_losses(ours: acmr.ACMR, plain: Plain, data: PairedFeatures) -> list[dict[str, float]]:
    """What is left of each loss, on the first pairs: the projectors', and the classifier's."""
    ids = torch.arange(min(512, len(data)))
    with torch.no_grad():
        found = ours.losses(data.image[ids], data.text[ids], data.label[ids])
        rest, modality = plain.losses(ids)
    projectors = float(found["loss"] - found["modality"])
    return [{OURS: projectors, PLAIN: float(rest)}, {OURS: float(found["modality"]), PLAIN: float(modality)}]


def compare(n: int, image_dim: int, text_dim: int, classes: int, batch: int, repeats: int) -> list[dict]:
    """Rows of the table for one size: equal losses before and after training first, then the times of an epoch."""
    data = pairs(n, image_dim, text_dim, classes)
    config = acmr.Config(
        data="digits", epochs=EPOCHS, batch_size=batch, dim=8, hidden=(256,), dropout=0.0, device="cpu"
    )
    for ours, plain, within in [
        (acmr.build(data, config), Plain(data, config), 1e-5),
        (by_the_recipe(data, config), by_the_loop(data, config), 1e-3),
    ]:
        for found in end_losses(ours, plain, data):
            _bench.same(found, within=within)
    runs = {OURS: lambda: by_the_recipe(data, config), PLAIN: lambda: by_the_loop(data, config)}
    size = {"pairs": n, "image": image_dim, "text": text_dim, "batch": batch}
    rows = _bench.race(runs, repeats)
    return [
        size | {"method": row["method"], "seconds an epoch": row["seconds"] / EPOCHS}
        | {"repeats": row["repeats"], "ratio": row["ratio"]}
        for row in rows
    ]  # fmt: skip


def run(tiny: bool = False) -> list[dict]:
    if tiny:
        return compare(200, 12, 7, 4, 50, repeats=2)
    return [row for size in SIZES for row in compare(*size, repeats=5)]


if __name__ == "__main__":
    _bench.main("acmr", "ACMR, an epoch on feature rows", run, peers=())
