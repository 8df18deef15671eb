"""TIRG: its sizes, its equations written out row by row, what its parts are, and what it refuses."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from commonspace.models import TIRG
from commonspace.models.composers import build_composer

FORMS = list(itertools.product(["fc", "conv"], ["paper", "release"]))


def inputs(seed: int, at: str, n: int = 6, dim: int = 5, text_dim: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shape = (n, dim) if at == "fc" else (n, dim, 3, 4)
    return torch.randn(shape, generator=rng), torch.randn(n, text_dim, generator=rng)


def trained(at: str, seed: int = 0, **settings) -> TIRG:
    """In evaluation mode, with running statistics that are no longer 0 and 1, and weights unlike each other."""
    torch.manual_seed(seed)
    composer = TIRG(5, 4, 5, at=at, weights=(0.7, 1.9), **settings)
    for i in range(3):
        image, text = inputs(100 + i, at)
        composer(2 * image + 1, text - 1)
    return composer.eval()


def size(composer: TIRG) -> int:
    return sum(p.numel() for p in composer.parameters())


def test_the_release_has_as_many_parameters_as_the_specification_counts():
    """Less two: the release keeps two numbers that nothing uses."""
    assert size(TIRG(512, 512, 512, form="release")) == 2_103_300 - 2
    assert size(TIRG(512, 512, 512, at="conv", form="release")) == 28_318_724 - 2


def test_the_paper_s_branches_have_two_layers_each():
    hidden, last, norm = 9 * 9 + 9, 9 * 5 + 5, 2 * 9
    assert size(TIRG(5, 4, 5)) == 2 * (hidden + norm + last) + 2
    assert size(TIRG(5, 4, 5, at="conv")) == 2 * (9 * 81 + 9 + norm + 9 * 45 + 5) + 2


def by_hand(composer: TIRG, branch: torch.nn.Sequential, z: torch.Tensor) -> torch.Tensor:
    """A branch on one vector or one map ``z``, whose channels come first, from its weights alone."""
    at, form = composer.config["at"], composer.config["form"]

    def normed(x, norm):
        shape = (-1,) + (1,) * (x.ndim - 1)
        mean, var, weight, bias = (
            p.reshape(shape) for p in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        return (x - mean) / (var + norm.eps).sqrt() * weight + bias

    def layer(x, part):
        if at == "fc":
            return part.weight @ x + part.bias
        padded = F.pad(x, (1, 1, 1, 1))
        out = torch.empty(len(part.weight), *x.shape[1:])
        for y, c in itertools.product(range(x.shape[1]), range(x.shape[2])):
            window = padded[:, y : y + 3, c : c + 3]
            out[:, y, c] = (part.weight * window).sum(dim=(1, 2, 3)) + part.bias
        return out

    norm = next(part for part in branch if "Norm" in type(part).__name__)
    layers = [part for part in branch if type(part).__name__ in ("Linear", "Conv2d")]
    if form == "paper":
        return layer(normed(layer(z, layers[0]), norm).clamp(min=0), layers[1])
    z = normed(z, norm)
    z = z.clamp(min=0) if at == "fc" else z
    for part in layers[:-1]:
        z = layer(z, part).clamp(min=0)
    return layer(z, layers[-1])


@pytest.mark.parametrize(("at", "form"), FORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_its_equations_row_by_row(at, form, seed):
    composer = trained(at, seed, form=form)
    image, text = inputs(seed, at)
    with torch.no_grad():
        for x, t, psi in zip(image, text, composer(image, text), strict=True):
            tiled = t if at == "fc" else t[:, None, None].expand(-1, 3, 4)
            z = torch.cat([x, tiled])
            gate = 1 / (1 + torch.exp(-by_hand(composer, composer.gate, z)))
            expected = 0.7 * gate * x + 1.9 * by_hand(composer, composer.residual, z)
            torch.testing.assert_close(psi, expected)
    assert len([m for m in composer.gate if hasattr(m, "kernel_size") or hasattr(m, "in_features")]) == (
        1 if (at, form) == ("fc", "release") else 2
    )


@pytest.mark.parametrize(("at", "form"), FORMS)
def test_the_parts_alone_add_up_to_both(at, form):
    composer = trained(at, form=form)
    image, text = inputs(7, at)
    alone = {}
    for part in ("gate", "residual"):
        alone[part] = TIRG(5, 4, 5, at=at, form=form, parts=part).eval()
        alone[part].load_state_dict(
            {name: value for name, value in composer.state_dict().items() if name.split(".")[0] in (part, "weights")}
        )
    torch.testing.assert_close(alone["gate"](image, text) + alone["residual"](image, text), composer(image, text))
    assert alone["gate"].residual is None
    assert alone["residual"].gate is None


@pytest.mark.parametrize("at", ["fc", "conv"])
def test_an_open_gate_and_no_residual_leave_the_image(at):
    composer = trained(at)
    image, text = inputs(8, at)
    with torch.no_grad():
        composer.gate[-1].weight.zero_()
        composer.gate[-1].bias.fill_(50)
        composer.weights.copy_(torch.tensor([1.0, 0.0]))
        torch.testing.assert_close(composer(image, text), image)
        composer.gate[-1].bias.fill_(-50)
        assert composer(image, text).abs().max() < 1e-6  # shut


@pytest.mark.parametrize(("at", "form"), FORMS)
def test_a_query_does_not_hang_on_its_batch(at, form):
    composer = trained(at, form=form)
    image, text = inputs(9, at)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    whole = composer(image, text)
    torch.testing.assert_close(composer(image[order], text[order]), whole[order])
    torch.testing.assert_close(composer(image[2:3], text[2:3]), whole[2:3])


def test_a_map_shifted_gives_a_map_shifted_inside_its_edges():
    composer = trained("conv")
    rng = torch.Generator().manual_seed(3)
    image, text = torch.randn(2, 5, 8, 8, generator=rng), torch.randn(2, 4, generator=rng)
    one, other = composer(image, text), composer(image.roll(1, dims=3), text)
    torch.testing.assert_close(one[..., 2:-3], other[..., 3:-2])
    assert not torch.allclose(one[..., :-1], other[..., 1:])


@pytest.mark.parametrize(("at", "form"), FORMS)
@pytest.mark.parametrize("parts", ["both", "gate", "residual"])
def test_gradients_are_right_and_reach_every_weight(at, form, parts):
    torch.manual_seed(0)
    composer = TIRG(3, 2, 3, at=at, form=form, parts=parts).double()
    image, text = (x.double().requires_grad_() for x in inputs(4, at, n=4, dim=3, text_dim=2))
    assert torch.autograd.gradcheck(composer, (image, text), atol=1e-4)
    (composer(image, text) ** 2).sum().backward()
    used = {"both": [True, True], "gate": [True, False], "residual": [False, True]}[parts]
    assert composer.weights.grad.ne(0).tolist() == used
    before_a_norm = "0.bias" if form == "paper" else None  # BatchNorm takes a bias before it away
    for name, p in composer.named_parameters():
        assert p.grad.abs().sum() > 0 or (before_a_norm and name.endswith(before_a_norm)), name


def test_what_it_reads_hangs_on_the_place():
    assert TIRG(5, 4, 5).reads == TIRG.reading(at="fc") == TIRG.reading() == "vectors"
    assert TIRG(7, 4, 5, at="conv").reads == TIRG.reading(at="conv") == "map"


@pytest.mark.parametrize("settings", [{}, {"at": "conv", "form": "release"}, {"weights": (1, 10), "parts": "gate"}])
def test_its_config_builds_it_again(settings):
    composer = TIRG(5, 4, 5, **settings)
    again = build_composer(composer.config)
    assert again.config == composer.config
    assert str(again) == str(composer)
    assert torch.equal(again.weights, composer.weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"at": "map"}, "got 'map', 'paper', 'both'"),
        ({"form": "code"}, "form 'paper' or 'release'"),
        ({"parts": "none"}, "parts 'both', 'gate' or 'residual'"),
        ({"weights": (1.0,)}, r"weights are two, .*; got \[1.0\]"),
        ({"image_dim": 6}, "TIRG keeps the width: image_dim=6 must equal dim=5"),
    ],
)
def test_it_refuses_what_cannot_work(settings, message):
    with pytest.raises(ValueError, match=message):
        TIRG(**({"image_dim": 5, "text_dim": 4, "dim": 5} | settings))
