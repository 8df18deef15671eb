"""What ComposeAE costs beside TIRG: python benchmarks/bench_composeae.py

One of its criticisms is that it is costly. Pictures have 512 numbers, texts 768, and the texts' vectors are fixed, as a
frozen BERT's are. Three things are timed:

- the rotation in complex tensors, as ours has it, beside the same with the cosine and sine of real ones: by itself, and
  in the whole composition; without gradient, and with it; for a batch and for a block of an embedding. Results and
  gradients are compared first;
- a training step of 32 queries (losses, backward, SGD), two from each source, as the paper profile has it: with
  ResNet-18 on pictures of 224 pixels, and from picture vectors that are given, where the composers stand alone;
- the embedding of 2,000 queries from picture vectors that are given.

Ratios are to complex tensors in the first, and to TIRG in the others.
"""

from collections.abc import Callable

import _bench
import torch
from torch import Tensor, nn

from commonspace.encoders import ResNet, SmallConvNet
from commonspace.models import TIRG, ComposeAE, ComposedRetrieval, Concat
from commonspace.models.composeae import Rotation
from commonspace.recipes import compose, tirg

NO_FURTHER_LOSS = {"symmetry_weight": 0, "image_recon_weight": 0, "text_recon_weight": 0}
COMPOSERS = {
    "TIRG": (TIRG, {}),
    "Concat": (Concat, {}),
    "ComposeAE": (ComposeAE, {}),
    "ComposeAE, release": (ComposeAE, {"form": "release"}),
    "ComposeAE, retrieval loss alone": (ComposeAE, NO_FURTHER_LOSS),
}


class Given(nn.Module):
    """An encoder of what is encoded already: (B, ``out_dim``) stays as it is."""

    def __init__(self, out_dim: int):
        super().__init__()
        self.out_dim = out_dim

    def forward(self, rows: Tensor) -> Tensor:
        return rows


def in_ms(what: str, n: int, row: dict) -> dict:
    """A row of a race, for the table."""
    kept = {name: row[name] for name in ("repeats", "ratio")}
    return {"what": what, "queries": n, "method": row["method"], "ms": 1e3 * row["seconds"]} | kept


# ---- the rotation ---------------------------------------------------------------------------------------------------


def turned(rotation: Rotation, image: Tensor, text: Tensor) -> Tensor:
    """[Re phi, Im phi], (B, 2 k)."""
    phi, _, _ = rotation(image, text)
    return torch.cat([phi.real, phi.imag], dim=1)


def turned_in_reals(rotation: Rotation, image: Tensor, text: Tensor) -> Tensor:
    real, imaginary = rotation.of_image(image).chunk(2, dim=1)
    gamma = rotation.of_text(text)
    c, s = gamma.cos(), gamma.sin()
    return torch.cat([c * real - s * imaginary, s * real + c * imaginary], dim=1)


def composed_in_reals(model: ComposeAE, image: Tensor, text: Tensor) -> Tensor:
    phi = turned_in_reals(model.rotations[0], image, text)
    a, b = model.weights
    return a * model.rho(phi) + b * model.rho_conv(torch.cat([phi, image, text], dim=1))


METHODS = {
    "rotation": {"complex tensors": turned, "cosine and sine": turned_in_reals},
    "composition": {"complex tensors": lambda model, *given: model(*given), "cosine and sine": composed_in_reals},
}


def bare_rotation(dim: int) -> Rotation:
    """Without its networks: (B, 2 dim) is eta, real and imaginary part one behind the other, and (B, dim) gamma."""
    rotation = Rotation(dim, dim, dim, eta_complex=True, batch_norm=False, dropout=0.0)
    rotation.of_image, rotation.of_text = nn.Identity(), nn.Identity()
    return rotation


def forward(method: Callable, model: nn.Module, image: Tensor, text: Tensor) -> Tensor:
    with torch.no_grad():
        return method(model, image, text)


def with_gradient(method: Callable, model: nn.Module, image: Tensor, text: Tensor) -> Tensor:
    """The gradient of the sum of squares, of image and text (B, both)."""
    image, text = image.detach().requires_grad_(), text.detach().requires_grad_()
    return torch.cat(torch.autograd.grad(method(model, image, text).square().sum(), [image, text]), dim=1)


def rotations(n: int, text_dim: int, dim: int, repeats: int) -> list[dict]:
    """Rows of the table: complex tensors beside real ones."""
    torch.manual_seed(n)
    inputs = {
        "rotation": (bare_rotation(dim), torch.randn(n, 2 * dim), torch.randn(n, dim)),
        "composition": (ComposeAE(dim, text_dim, dim).eval(), torch.randn(n, dim), torch.randn(n, text_dim)),
    }
    rows = []
    for what, methods in METHODS.items():
        for kind, run in (("", forward), (" with gradient", with_gradient)):
            # In float32 a last bit may decide which of two numbers the pooling takes, and so where a gradient goes.
            given = [part.double() for part in inputs[what]]
            found = {who: run(method, *given) for who, method in methods.items()}
            ours = found["complex tensors"]
            _bench.same({who: ((one - ours).norm() / ours.norm()).item() for who, one in found.items()}, within=1e-9)
            given = [part.float() for part in inputs[what]]
            runs = {who: lambda m=method, r=run, g=given: r(m, *g) for who, method in methods.items()}
            rows += [in_ms(what + kind, n, row) for row in _bench.race(runs, repeats)]
    return rows


# ---- beside TIRG ----------------------------------------------------------------------------------------------------


def model_of(name: str, image_encoder: nn.Module, text_dim: int, dim: int) -> ComposedRetrieval:
    kind, settings = COMPOSERS[name]
    return ComposedRetrieval(image_encoder, Given(text_dim), kind(dim, text_dim, dim, **settings))


def training_step(model: ComposedRetrieval, pictures: Tensor, texts: Tensor) -> Callable[[], float]:
    """A step on ``texts`` (B, k), ``pictures`` being B / 2 sources and then B targets; it gives the loss."""
    optimizer = compose.make_optimizer(model.train(), tirg.Config.profile("paper"))
    sources, targets = pictures.tensor_split([len(texts) // 2])
    source = torch.arange(len(sources)).repeat_interleave(2)

    def step() -> float:
        optimizer.zero_grad()
        loss = model.losses(sources, texts, targets, source=source)["loss"]
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def beside_tirg(what: str, n: int, make: Callable[[str], tuple[ComposedRetrieval, Callable]], repeats: int) -> list:
    """Rows of the table: what ``make`` gives for each composer, with the numbers its composer learns."""
    made = {name: make(name) for name in COMPOSERS}
    rows = _bench.race({name: run for name, (_, run) in made.items()}, repeats)
    sizes = {name: sum(p.numel() for p in model.composer.parameters()) for name, (model, _) in made.items()}
    return [in_ms(what, n, row) | {"numbers to learn": sizes[row["method"]]} for row in rows]


def training(n: int, pixels: int | None, text_dim: int, dim: int, repeats: int) -> list[dict]:
    """A step of ``n`` queries, from pictures or, without ``pixels``, from their vectors."""
    torch.manual_seed(n)
    texts = torch.randn(n, text_dim)
    pictures = torch.randn(n // 2 + n, dim) if pixels is None else torch.rand(n // 2 + n, 3, pixels, pixels)

    def make(name: str) -> tuple[ComposedRetrieval, Callable]:
        torch.manual_seed(0)
        encoder = Given(dim)
        if pixels is not None:
            encoder = ResNet("resnet18", feature_map=True) if pixels > 64 else SmallConvNet(8, feature_map=True)
        model = model_of(name, encoder, text_dim, dim)
        return model, training_step(model, pictures, texts)

    where = "vectors given" if pixels is None else f"pictures of {pixels} pixels"
    return beside_tirg(f"training step, {where}", n, make, repeats)


def embedding(n: int, text_dim: int, dim: int, repeats: int) -> list[dict]:
    torch.manual_seed(n)
    pictures, texts = torch.randn(n, dim), torch.randn(n, text_dim)

    def make(name: str) -> tuple[ComposedRetrieval, Callable]:
        model = model_of(name, Given(dim), text_dim, dim)
        return model, lambda: model.embed_query(pictures, texts)

    return beside_tirg("embedding, vectors given", n, make, repeats)


def run(tiny: bool = False) -> list[dict]:
    batch, block, many, pixels, *dims = (8, 20, 40, 32, 12, 16) if tiny else (32, 512, 2_000, 224, 768, 512)
    few, some, often = (2, 2, 2) if tiny else (3, 5, 31)
    rows = rotations(batch, *dims, repeats=often) + rotations(block, *dims, repeats=some)
    rows += training(batch, pixels, *dims, repeats=few) + training(batch, None, *dims, repeats=often)
    rows += embedding(many, *dims, repeats=some)
    return rows


if __name__ == "__main__":
    _bench.main("composeae", "ComposeAE beside TIRG, and its rotation in complex and in real tensors", run, peers=())
