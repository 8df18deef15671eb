"""ComposeAE: its sizes, the identities of a rotation, its equations by loops, its losses term by term, its refusals."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from commonspace.data import Vocabulary
from commonspace.encoders import MLP, BagOfWords, Sequence
from commonspace.losses import batch_softmax_loss, soft_triplet_loss
from commonspace.models import ComposeAE, ComposedRetrieval
from commonspace.models.composeae import FORMS
from commonspace.models.composers import build_composer

REAL = {"space": "real", "symmetry_weight": 0}
MAKES = {
    "paper": {},
    "release": {"form": "release"},
    "paper, no norm": {"batch_norm": False},
    "release, no norm": {"form": "release", "batch_norm": False},
    "paper, real eta": {"eta_complex": False},
    "paper, two projections": {"share_projection": False},
    "paper, conv first": {"order": "conv_mlp"},
    "release, complex eta": {"form": "release", "eta_complex": True},
    "release, MLP first": {"form": "release", "order": "mlp_conv"},
    "paper, real space": REAL,
    "release, real space": {"form": "release"} | REAL,
    "paper, rho alone": {"parts": "rho"},
    "release, rho_conv alone": {"form": "release", "parts": "rho_conv"},
}
COMPLEX = [name for name, settings in MAKES.items() if "space" not in settings]
TERMS = ("symmetry", "image_recon", "text_recon")


def inputs(seed: int, n: int = 5, dim: int = 6, text_dim: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, d, generator=rng, dtype=torch.float64) for d in (dim, text_dim))


def trained(seed: int = 0, dim: int = 6, text_dim: int = 4, **settings) -> ComposeAE:
    """In float64 and evaluation mode; angles of several radians, running statistics that are no longer 0 and 1."""
    torch.manual_seed(seed)
    composer = ComposeAE(dim, text_dim, dim, **{"weights": (0.7, 1.9), **settings}).double()
    for rotation in composer.rotations:
        torch.nn.init.normal_(rotation.of_text[-1].weight, std=2.0)
    for i in range(3):
        image, text = inputs(100 + i, dim=dim, text_dim=text_dim)
        composed = composer(2 * image + 1, text - 1)
        for decoder in (composer.image_decoder, composer.text_decoder):
            _ = None if decoder is None else decoder(composed)
    return composer.eval()


def size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# ---- sizes ----------------------------------------------------------------------------------------------------------


def test_the_release_has_as_many_parameters_as_the_specification_counts():
    """Less two: the release keeps two numbers that nothing uses."""
    composer = ComposeAE(512, 768, 512, form="release")
    assert size(composer) == 5_460_484 - 2
    assert [size(rotation) for rotation in composer.rotations] == [1_184_256] * 2
    assert size(composer.rho) == size(composer.rho_conv.layers) == 789_504
    assert size(ComposeAE(512, 768, 512, form="release", **REAL)) == 3_354_372 - 2


def test_the_paper_s_sizes_add_up():
    d, h = 6, 4
    composer = ComposeAE(d, h, d)
    (rotation,) = composer.rotations
    assert size(rotation.of_image) == 2 * d + (d * d + d) + (d * 2 * d + 2 * d)
    assert size(rotation.of_text) == 2 * h + (h * d + d) + (d * d + d)
    assert size(composer.rho) == 4 * d + (2 * d * d + d) + (d * d + d)
    assert size(composer.rho_conv) == 2 * (3 * d + h) + ((3 * d + h) * d + d) + (d * d + d) + (64 * 3 + 64)
    assert size(composer.image_decoder) == 2 * d + 2 * (d * d + d)
    assert size(composer.text_decoder) == 2 * d + (d * h + h) + (h * h + h)
    whole = ComposeAE(d, h, d, parts="rho"), ComposeAE(d, h, d, parts="rho_conv")
    assert [size(part) for part in whole] == [
        size(composer) - size(composer.rho_conv),
        size(composer) - size(composer.rho),
    ]


def test_each_form_has_its_layers():
    opened = ["BatchNorm1d", "ReLU", "Linear", "ReLU", "Linear"]
    expected = {
        "paper": [["BatchNorm1d", "Linear", "ReLU", "Linear"]] * 2 + [opened] * 4,
        "release": [["BatchNorm1d", "Linear", "Dropout", "ReLU", "Linear"], opened[:1] + opened[2:], *[opened] * 4],
        "no norm": [["Linear", "ReLU", "Linear"]] * 6,
    }
    for form, layers in expected.items():
        composer = ComposeAE(6, 4, 6, **{"batch_norm": False} if form == "no norm" else {"form": form})
        rotation, decoders = composer.rotations[-1], (composer.image_decoder, composer.text_decoder)
        parts = rotation.of_image, rotation.of_text, composer.rho, composer.rho_conv.layers, *decoders
        assert [[type(layer).__name__ for layer in part] for part in parts] == layers
    composer = ComposeAE(6, 4, 6, form="release")
    assert composer.rotations[0].of_image[2].p == 0.5
    assert composer.rho_conv.conv.weight.shape == (64, 5, 3)


# ---- the rotation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPLEX)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_rotation_keeps_lengths_and_its_conjugate_undoes_it(name, seed):
    composer = trained(seed, **MAKES[name])
    image, text = inputs(seed)
    for rotation in composer.rotations:
        phi, eta, gamma = rotation(image, text)
        assert phi.is_complex()
        assert phi.shape == eta.shape == gamma.shape == (5, 6)
        assert eta.is_complex() == composer.settings["eta_complex"]
        assert gamma.abs().max() > 1  # radians: an angle worth the name
        torch.testing.assert_close(phi.real**2 + phi.imag**2, eta.abs() ** 2)
        delta = rotation.delta(text)
        torch.testing.assert_close(delta.abs(), torch.ones_like(gamma))
        torch.testing.assert_close(delta, torch.exp(1j * gamma))
        assert torch.equal(rotation.delta(text, conjugate=True), delta.conj().resolve_conj())
        back = rotation.delta(text, conjugate=True) * phi
        torch.testing.assert_close(back, eta + 0j, rtol=0, atol=4e-16 * float(eta.detach().abs().max()))
        assert (rotation.delta(text) * phi - eta).abs().max() > 0.1  # turned on, not back


@pytest.mark.parametrize("name", COMPLEX)
def test_an_angle_of_0_is_the_identity(name):
    composer = trained(**MAKES[name])
    image, text = inputs(3)
    theta = composer(image, text)
    with torch.no_grad():
        for rotation in composer.rotations:
            rotation.of_text[-1].weight.zero_()
            rotation.of_text[-1].bias.zero_()
            phi, eta, _ = rotation(image, text)
            assert torch.equal(phi, eta + 0j)
            assert eta.is_complex() or phi.imag.eq(0).all()
    torch.testing.assert_close(composer(image, text, conjugate=True), composer(image, text))
    assert (composer(image, text) - theta).abs().max() > 0.01


def test_a_real_eta_s_conjugate_changes_the_imaginary_part_alone():
    image, text = inputs(4)
    (of_real,), (of_complex,) = (trained(eta_complex=kind).rotations for kind in (False, True))
    phi, eta, gamma = of_real(image, text)
    back = of_real(image, text, conjugate=True)[0]
    assert torch.equal(back, phi.conj().resolve_conj())
    torch.testing.assert_close(phi.real, eta * gamma.cos())
    torch.testing.assert_close(phi.imag, eta * gamma.sin())
    phi, back = of_complex(image, text)[0], of_complex(image, text, conjugate=True)[0]
    assert (back.real - phi.real).abs().max() > 0.1
    assert (back.imag + phi.imag).abs().max() > 0.1
    torch.testing.assert_close(back.abs(), phi.abs())


def test_the_angles_hang_on_the_text_and_the_lengths_on_the_image():
    (rotation,) = trained().rotations
    (image, text), (other, words) = inputs(5), inputs(6)
    assert torch.equal(rotation(image, text)[2], rotation(other, text)[2])
    assert torch.equal(rotation(image, text)[1], rotation(image, words)[1])
    torch.testing.assert_close(rotation(image, text)[0].abs(), rotation(image, words)[0].abs())
    assert (rotation(image, text)[0] - rotation(image, words)[0]).abs().amax(dim=1).min() > 0.01


# ---- its equations, row by row --------------------------------------------------------------------------------------


def by_hand(layers: torch.nn.Sequential, row: np.ndarray) -> np.ndarray:
    """A perceptron on one row, in evaluation mode, from its numbers alone."""
    for layer in layers:
        kind, p = type(layer).__name__, {k: v.detach().numpy() for k, v in layer.state_dict().items()}
        if kind == "Linear":
            row = np.array([sum(w * x for w, x in zip(ws, row, strict=True)) for ws in p["weight"]]) + p["bias"]
        elif kind == "BatchNorm1d":
            row = (row - p["running_mean"]) / np.sqrt(p["running_var"] + layer.eps) * p["weight"] + p["bias"]
        elif kind == "ReLU":
            row = np.array([max(x, 0.0) for x in row])
        else:
            assert kind == "Dropout"
    return row


def convolved(conv: torch.nn.Conv1d, channels: list[np.ndarray], n: int) -> np.ndarray:
    """All filters' answers one behind the other, pooled to n numbers."""
    weight, bias, length = conv.weight.detach().numpy(), conv.bias.detach().numpy(), len(channels[0])
    answers = []
    for f, i in itertools.product(range(64), range(length)):
        places = [(c, o) for c in range(len(channels)) for o in (-1, 0, 1) if 0 <= i + o < length]
        answers.append(bias[f] + sum(weight[f, c, o + 1] * channels[c][i + o] for c, o in places))
    m = len(answers)
    return np.array([max(answers[i * m // n : -(-(i + 1) * m // n)]) for i in range(n)])


def theta_by_hand(composer: ComposeAE, z: np.ndarray, q: np.ndarray, conjugate: bool) -> np.ndarray:
    of, dim = composer.settings, len(z)
    planes = []  # of phi, eta and gamma, for rho and for rho_conv
    for rotation in composer.rotations:
        gamma, eta = by_hand(rotation.of_text, q), by_hand(rotation.of_image, z)
        angle = -gamma if conjugate else gamma
        re, im = (eta[:dim], eta[dim:]) if of["eta_complex"] else (eta, 0 * eta)
        phi = [re * np.cos(angle) - im * np.sin(angle), re * np.sin(angle) + im * np.cos(angle)]
        planes.append((phi, [re, im] if of["eta_complex"] else [re], gamma))
    (phi_1, _, _), (phi_2, eta, gamma) = (planes[0], planes[-1]) if planes else (([z, q], 0, 0), ([z, q], 0, 0))
    a, b = composer.weights.tolist()
    theta = np.zeros(dim)
    if of["parts"] != "rho_conv":
        theta += a * by_hand(composer.rho, np.concatenate(phi_1))
    if of["parts"] != "rho":
        conv, layers = composer.rho_conv.conv, composer.rho_conv.layers
        if of["order"] == "mlp_conv":
            row = np.concatenate(phi_2 if of["space"] == "real" else [*phi_2, z, q])
            theta += b * convolved(conv, [np.maximum(by_hand(layers, row), 0)], dim)
        elif of["space"] == "real":
            theta += b * by_hand(layers, convolved(conv, [np.concatenate(phi_2)], len(z) + len(q)))
        else:
            theta += b * by_hand(layers, convolved(conv, [*eta, gamma, z, *phi_2], 2 * dim))
    return theta


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_its_equations_row_by_row(name, seed):
    composer = trained(seed, **MAKES[name])
    image, text = inputs(seed, n=3)
    for conjugate in (False, True) if name in COMPLEX else (False,):
        found = composer(image, text, conjugate=conjugate).detach().numpy()
        for z, q, theta in zip(image.numpy(), text.numpy(), found, strict=True):
            np.testing.assert_allclose(theta, theta_by_hand(composer, z, q, conjugate), rtol=1e-9, atol=1e-12)
    if name in COMPLEX:
        assert np.abs(found - composer(image, text).detach().numpy()).max() > 1e-3


def test_each_filter_is_pooled_by_itself_where_64_divides_the_width():
    for order, channels in [("mlp_conv", 1), ("conv_mlp", 5)]:
        part = trained(dim=128, order=order, eta_complex=False).rho_conv
        rows = torch.randn(3, channels, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        if order == "mlp_conv":
            rows = torch.randn(3, 3 * 128 + 4, dtype=torch.float64)
            expected = F.adaptive_max_pool1d(part.conv(F.relu(part.layers(rows))[:, None]), 2).flatten(1)
        else:
            expected = part.layers(F.adaptive_max_pool1d(part.conv(rows), 4).flatten(1))
        torch.testing.assert_close(part(rows), expected)


@pytest.mark.parametrize("form", ["paper", "release"])
def test_the_parts_alone_add_up_to_both(form):
    composer = trained(form=form)
    image, text = inputs(7)
    total = 0
    for parts in ("rho", "rho_conv"):
        alone = ComposeAE(6, 4, 6, form=form, parts=parts).double().eval()
        weights = {n: v for n, v in composer.state_dict().items() if n.split(".")[0] in (parts, "weights")}
        rotation = composer.rotations[0 if parts == "rho" else -1].state_dict()
        weights |= {f"rotations.0.{n}": v for n, v in rotation.items()}
        missing, unexpected = alone.load_state_dict(weights, strict=False)
        assert not unexpected
        assert all("decoder" in n for n in missing)
        total = total + alone(image, text)
        assert (alone.rho is None) == (parts == "rho_conv")
        assert (alone.rho_conv is None) == (parts == "rho")
    torch.testing.assert_close(total, composer(image, text))


@pytest.mark.parametrize("name", MAKES)
def test_a_query_does_not_hang_on_its_batch(name):
    composer = trained(**MAKES[name])
    image, text = inputs(9, n=33)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(0))
    whole = composer(image, text)
    assert whole.shape == (33, 6)
    torch.testing.assert_close(composer(image[order], text[order]), whole[order])
    torch.testing.assert_close(composer(image[2:3], text[2:3]), whole[2:3])


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize(("dim", "text_dim"), [(6, 1), (5, 9), (64, 768)])
def test_any_widths_will_do(name, dim, text_dim):
    composer = trained(dim=dim, text_dim=text_dim, **MAKES[name])
    theta = composer(*inputs(0, dim=dim, text_dim=text_dim))
    assert theta.shape == composer.image_decoder(theta).shape == (5, dim)
    assert composer.text_decoder(theta).shape == (5, text_dim)


def test_units_are_dropped_in_eta_while_the_release_trains():
    image, text = inputs(0)
    composer = trained(form="release").train()
    rotation = composer.rotations[0]
    assert not torch.equal(rotation.eta(image), rotation.eta(image))
    assert torch.equal(rotation.gamma(text), rotation.gamma(text))
    composer.eval()
    assert torch.equal(composer(image, text), composer(image, text))
    composer = trained(form="release", dropout=0.0).train()
    assert torch.equal(composer(image, text), composer(image, text))


@pytest.mark.parametrize("name", MAKES)
def test_gradients_are_right(name):
    torch.manual_seed(1)
    composer = ComposeAE(3, 2, 3, **MAKES[name] | {"dropout": 0.0}).double()
    image, text = (x.requires_grad_() for x in inputs(4, n=4, dim=3, text_dim=2))
    names, weights = zip(*composer.named_parameters(), strict=True)

    def composed(image, text, *weights):
        given = dict(zip(names, weights, strict=True))
        one = torch.func.functional_call(composer, given, (image, text))
        if name not in COMPLEX:
            return one
        return one, torch.func.functional_call(composer, given, (image, text), {"conjugate": True})

    fixed = [p.detach() for p in weights]
    assert torch.autograd.gradcheck(composed, (image, text, *fixed), atol=1e-5)
    assert torch.autograd.gradcheck(composed, (image.detach(), text.detach(), *weights), atol=1e-4, fast_mode=True)
    if composer.rotations:
        assert torch.autograd.gradcheck(lambda *x: composer.rotations[0](*x)[0], (image, text))  # complex


@pytest.mark.parametrize("name", MAKES)
def test_gradients_reach_every_weight(name):
    torch.manual_seed(0)
    composer = ComposeAE(16, 12, 16, **MAKES[name]).double()
    theta = composer(*inputs(4, n=16, dim=16, text_dim=12))
    rebuilt = composer.image_decoder(theta), composer.text_decoder(theta)
    sum(rows.square().sum() for rows in (theta, *rebuilt)).backward()
    used = {"rho": [True, False], "rho_conv": [False, True]}.get(composer.settings["parts"], [True, True])
    assert composer.weights.grad.ne(0).tolist() == used
    for where, p in composer.named_parameters():
        assert p.grad is not None, where
        assert p.grad.abs().sum() > 0, where


# ---- its losses, in composed retrieval ------------------------------------------------------------------------------

TEXTS = ["make the cube red", "add a small sphere", "remove it", "make the cube blue", "red and small"]


def make(loss: str = "batch_softmax", retrieval_form: str = "paper", seed: int = 0, **settings) -> ComposedRetrieval:
    """Of rows of 9 numbers, in float64 and evaluation mode: no dropout, and BatchNorm with its own statistics."""
    words = BagOfWords(Vocabulary.build(TEXTS))
    torch.manual_seed(seed)
    parts = MLP([9, 7, 7]), Sequence(words, MLP([words.out_dim, 4])), trained(seed, **settings)
    return ComposedRetrieval(*parts, scale=2.0, loss=loss, form=retrieval_form).double().eval()


def batch(seed: int, n: int = 5) -> tuple[torch.Tensor, list[str], torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    source, target = (torch.randn(n, 9, generator=rng, dtype=torch.float64) for _ in range(2))
    return source, [TEXTS[i % 5] for i in range(n)], target


def features(model: ComposedRetrieval, source, texts, target) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """z, q and y."""
    z, y = (model.image_head(model.image_encoder(rows)) for rows in (source, target))
    return z, model.text_encoder(texts), y


@pytest.mark.parametrize("name", COMPLEX)
@pytest.mark.parametrize("loss", ["batch_softmax", "soft_triplet"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_term_is_its_formula(name, loss, seed):
    lambdas = {"symmetry_weight": 0.3, "image_recon_weight": 0.7, "text_recon_weight": 1.1}
    model = make(loss, seed=seed, **MAKES[name] | lambdas)
    found = model.losses(*batch(seed))
    z, q, y = features(model, *batch(seed))
    theta, back = model.composer(z, q), model.composer(y, q, conjugate=True)
    for term, (query, answer) in {"base": (theta, y), "symmetry": (back, z)}.items():
        sim = 4 * F.cosine_similarity(query[:, None], answer[None], dim=2)
        if loss == "batch_softmax":
            expected = sum(sim[i].logsumexp(0) - sim[i, i] for i in range(5)) / 5
        else:
            pairs = list(itertools.permutations(range(5), 2))
            expected = sum(F.softplus(sim[i, j] - sim[i, i]) for i, j in pairs) / len(pairs)
        torch.testing.assert_close(found[term], expected)
    decoders = model.composer.image_decoder, model.composer.text_decoder
    for term, wanted, decoder in zip(TERMS[1:], (z, q), decoders, strict=True):
        rows = zip(wanted.detach().numpy(), theta.detach().numpy(), strict=True)
        squares = [(w - r) ** 2 for want, row in rows for w, r in zip(want, by_hand(decoder, row), strict=True)]
        np.testing.assert_allclose(found[term].item(), sum(squares) / len(squares))
    total = found["base"] + sum(lambdas[f"{term}_weight"] * found[term] for term in TERMS)
    torch.testing.assert_close(found["loss"], total)
    assert set(found) == {"loss", "base", *TERMS, "accuracy", "scale"}


def gradient(model: ComposedRetrieval, scalar: torch.Tensor) -> dict[str, torch.Tensor]:
    names, weights = zip(*model.named_parameters(), strict=True)
    given = torch.autograd.grad(scalar, weights, allow_unused=True, retain_graph=True)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, weights, given, strict=True)}


@pytest.mark.parametrize("form", ["paper", "release"])
@pytest.mark.parametrize("term", TERMS)
def test_a_lambda_of_0_takes_its_term_away_and_nothing_else(form, term):
    model, without = make(form=form), make(form=form, **{f"{term}_weight": 0})
    kept = without.state_dict().keys()
    without.load_state_dict({n: v for n, v in model.state_dict().items() if n in kept})
    gone = {n.split(".")[1] for n in model.state_dict().keys() - kept}
    assert gone == {"symmetry": set(), "image_recon": {"image_decoder"}, "text_recon": {"text_decoder"}}[term]
    found, less = model.losses(*batch(3)), without.losses(*batch(3))
    assert found.keys() - less.keys() == {term}
    for name in less.keys() - {"loss"}:
        torch.testing.assert_close(less[name], found[name])
    weight = model.composer.settings[f"{term}_weight"]
    assert weight > 0
    torch.testing.assert_close(found["loss"] - weight * found[term], less["loss"])
    whole, part, rest = gradient(model, found["loss"]), gradient(model, found[term]), gradient(without, less["loss"])
    for name, grad in rest.items():
        torch.testing.assert_close(whole[name] - weight * part[name], grad)
    assert max(float(g.abs().max()) for g in part.values()) > 1e-3


def test_without_lambdas_the_retrieval_loss_is_all():
    model = make(symmetry_weight=0, image_recon_weight=0, text_recon_weight=0)
    assert model.composer.image_decoder is model.composer.text_decoder is None
    found = model.losses(*batch(3))
    assert set(found) == {"loss", "accuracy", "scale"}
    z, q, y = features(model, *batch(3))
    torch.testing.assert_close(found["loss"], batch_softmax_loss(*map(model.unit, (model.composer(z, q), y))))


def test_a_sum_of_squares_is_its_mean_times_the_width():
    mean, total = (make(recon=kind).losses(*batch(2)) for kind in ("mean", "sum"))
    torch.testing.assert_close(total["image_recon"], 6 * mean["image_recon"])
    torch.testing.assert_close(total["text_recon"], 4 * mean["text_recon"])
    torch.testing.assert_close(total["base"], mean["base"])


@pytest.mark.parametrize("detach", [False, True])
def test_what_is_rebuilt_goes_to_meet_its_copy_unless_detached(detach):
    composer = make(detach_recon=detach).composer
    rows = [x.requires_grad_() for x in (*inputs(1), inputs(2)[0])]
    image, text, theta = rows
    terms = composer.auxiliary(theta, image, text, image, lambda query: query.sum())
    for name, decoder in [("image_recon", composer.image_decoder), ("text_recon", composer.text_decoder)]:
        theta.grad = None
        terms[name][1].backward()
        wanted = (image if name == "image_recon" else text).detach()
        (expected,) = torch.autograd.grad(F.mse_loss(decoder(theta), wanted), theta)
        torch.testing.assert_close(theta.grad, expected)
    assert (image.grad is None) == (text.grad is None) == detach
    if not detach:
        expected = 2 * (image - composer.image_decoder(theta)) / image.numel()
        torch.testing.assert_close(image.grad, expected.detach())


def test_the_symmetric_pass_has_no_negatives_among_queries_of_one_source():
    model = make()
    pictures, texts, target = batch(5)
    source = torch.tensor([0, 1, 0, 2, 1])
    found = model.losses(pictures[:3], texts, target, source=source)
    z, q, y = features(model, pictures[source], texts, target)
    back, wanted = model.unit(model.composer(y, q, conjugate=True)), model.unit(z)
    twins = source[:, None] == source
    torch.testing.assert_close(found["symmetry"], batch_softmax_loss(back, wanted, same=twins))
    assert abs(found["symmetry"] - batch_softmax_loss(back, wanted)) > 0.1
    each = model.losses(pictures[source], texts, target, same_source=twins)  # said, not seen
    for name in found:
        torch.testing.assert_close(each[name], found[name])
    other = torch.eye(5, dtype=torch.bool)
    other[0, 3] = True
    each = model.losses(pictures[:3], texts, target, source=source, same_source=other)
    torch.testing.assert_close(each["symmetry"], batch_softmax_loss(back, wanted, same=other))
    torch.testing.assert_close(each["base"], found["base"])


@pytest.mark.parametrize("said", [False, True])
def test_the_symmetric_pass_sees_the_global_batch(said):
    """Another process, here one with the same rows in reverse: its sources are other pictures, unless it is said."""
    model = make()
    pictures, texts, target = batch(6)
    source = torch.tensor([0, 1, 0, 2, 1])

    def both(rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows, rows.flip(0)])

    everyones = both(source)
    same = everyones[:, None] == everyones
    z, q, y = features(model, pictures[source], texts, target)
    found = model.losses(pictures[:3], texts, target, source=source, gather=both, same_source=same if said else None)
    back, wanted = (both(model.unit(x)) for x in (model.composer(y, q, conjugate=True), z))
    if not said:
        process = torch.arange(10) // 5
        same = same & (process[:, None] == process)
    torch.testing.assert_close(found["symmetry"], batch_softmax_loss(back, wanted, same=same))
    theta = model.composer(z, q)
    torch.testing.assert_close(found["base"], batch_softmax_loss(both(model.unit(theta)), both(model.unit(y))))


def test_the_symmetric_pass_has_the_loss_of_the_first_in_the_release_s_form_too():
    model = make("soft_triplet", "release")
    torch.manual_seed(3)
    found = model.losses(*batch(3))
    z, q, y = features(model, *batch(3))
    torch.manual_seed(3)
    for term, query, answer in [
        ("base", model.composer(z, q), y),
        ("symmetry", model.composer(y, q, conjugate=True), z),
    ]:
        dice = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
        expected = soft_triplet_loss(model.unit(query), model.unit(answer), "release", generator=dice)
        torch.testing.assert_close(found[term], expected)


@pytest.mark.parametrize("name", MAKES)
def test_a_saved_model_answers_the_same(name, tmp_path):
    model = make(**MAKES[name] | {"recon": "sum", "detach_recon": True, "text_recon_weight": 0.3}).float().train()
    source, texts, target = batch(1)
    model.losses(source.float(), texts, target.float())["loss"].backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    model.save(tmp_path / "model")
    loaded = ComposedRetrieval.load(tmp_path / "model")
    assert torch.equal(loaded.embed_query(source.float(), texts), model.embed_query(source.float(), texts))
    assert loaded.composer.config == model.composer.config
    assert loaded.composer.settings == model.composer.settings
    expected, found = (one.eval().losses(source.float(), texts, target.float()) for one in (model, loaded))
    assert all(torch.equal(expected[term], found[term]) for term in expected)


@pytest.mark.parametrize("name", MAKES)
def test_bfloat16_trains_it(name):
    model = make(**MAKES[name]).float().train()
    source, texts, target = batch(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.losses(source.float(), texts, target.float())
    found["loss"].backward()
    assert found["loss"].dtype == torch.float32
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model.embed_query(source[:1].float(), texts[:1]).shape == (1, 6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", MAKES)
def test_a_gpu_gives_the_same_losses_and_gradients(name):
    model = make(**MAKES[name])
    source, texts, target = batch(1)
    found = model.losses(source, texts, target)
    expected = gradient(model, found["loss"])
    model.cuda()
    there = model.losses(source.cuda(), texts, target.cuda(), source=torch.arange(5).cuda())
    for term in found:
        torch.testing.assert_close(there[term].cpu(), found[term])
    for where, grad in gradient(model, there["loss"]).items():
        torch.testing.assert_close(grad.cpu(), expected[where], msg=where)


# ---- its settings, and what it refuses ------------------------------------------------------------------------------


def test_a_form_sets_what_is_not_given():
    for form, of in FORMS.items():
        assert of.items() <= ComposeAE(6, 4, 6, form=form).config.items()
        for name, value in FORMS["release" if form == "paper" else "paper"].items():
            assert ComposeAE(6, 4, 6, form=form, **{name: value}).config == ComposeAE(6, 4, 6, form=form).config | {
                name: value
            }
    assert all(FORMS["paper"][name] != FORMS["release"][name] for name in FORMS["paper"])


@pytest.mark.parametrize("settings", [*MAKES.values(), {"weights": (10, 1), "recon": "sum", "detach_recon": True}])
def test_its_config_builds_it_again(settings):
    composer = ComposeAE(6, 4, 6, **settings)
    again = build_composer(composer.config)
    assert again.config == composer.config
    assert again.settings == composer.settings
    assert str(again) == str(composer)
    assert torch.equal(again.weights, composer.weights)
    assert composer.reads == "vectors"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "code"}, "form must be one of 'paper', 'release'; got 'code'"),
        ({"order": "conv"}, "order must be one of 'mlp_conv', 'conv_mlp'; got 'conv'"),
        ({"parts": "none"}, "parts must be one of 'both', 'rho', 'rho_conv'; got 'none'"),
        ({"space": "R"}, "space must be one of 'complex', 'real'; got 'R'"),
        ({"recon": "max"}, "recon must be one of 'mean', 'sum'; got 'max'"),
        ({"weights": (1.0,)}, r"weights are two, of rho and of rho_conv at the start; got \[1.0\]"),
        ({"dropout": 1.0}, "dropout must be a probability in .*; got 1.0"),
        ({"symmetry_weight": -1}, "symmetry_weight must be a number >= 0; got -1.0"),
        ({"image_recon_weight": float("nan")}, "image_recon_weight must be a number >= 0; got nan"),
        ({"text_recon_weight": float("inf")}, "text_recon_weight must be a number >= 0; got inf"),
        ({"space": "real"}, "no rotation to turn back: give it symmetry_weight=0"),
        ({"image_dim": 5}, "ComposeAE keeps the width: image_dim=5 must equal dim=6"),
        ({"text_dim": 0}, "must be at least 1; got 6, 0 and 6"),
    ],
)
def test_it_refuses_what_cannot_work(settings, message):
    with pytest.raises(ValueError, match=message):
        ComposeAE(**{"image_dim": 6, "text_dim": 4, "dim": 6} | settings)


def test_it_refuses_rows_of_other_widths_and_a_conjugate_without_a_rotation():
    image, text = inputs(0)
    with pytest.raises(ValueError, match=r"takes text rows \(B, 4\); got \(5, 6\)"):
        trained()(image, image)
    with pytest.raises(ValueError, match=r"takes image rows \(B, 6\); got \(5, 6, 1\)"):
        trained()(image[:, :, None], text)
    with pytest.raises(ValueError, match="space='real' has no rotation, and so no conjugate"):
        trained(**REAL)(image, text, conjugate=True)
