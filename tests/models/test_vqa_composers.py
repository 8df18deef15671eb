"""The composers from captioning and question answering: formulas by loops, sizes, invariances, gradients, refusals."""

import pytest
import torch
from torch.nn import functional as F

from commonspace.encoders import SmallConvNet
from commonspace.models import MRN, FiLM, ParameterHashing, Relationship, ShowAndTell


def drawn(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng) for shape in shapes]


def words(seed: int, lengths: list[int], dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Word vectors with random numbers also where there is no word, and the mask."""
    (vectors,) = drawn(seed, (len(lengths), max(lengths), dim))
    return vectors, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


# ---- Show and Tell --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_show_and_tell_reads_the_image_and_then_word_by_word(seed):
    torch.manual_seed(seed)
    composer = ShowAndTell(6, 4, 5)
    (image,) = drawn(seed, (3, 6))
    text, mask = words(seed, [3, 1, 2], 4)
    psi = composer(image, (text, mask))
    rnn = composer.rnn
    for row, n in enumerate(mask.sum(dim=1).tolist()):
        h, c = torch.zeros(5), torch.zeros(5)
        for x in [composer.first_word(image[row]), *text[row, :n]]:
            i, f, g, o = (rnn.weight_ih_l0 @ x + rnn.bias_ih_l0 + rnn.weight_hh_l0 @ h + rnn.bias_hh_l0).chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(composer.head(h), psi[row])


def test_show_and_tell_never_reads_the_filling_and_minds_the_order():
    composer = ShowAndTell(6, 4, 5)
    (image,) = drawn(2, (2, 6))
    text, mask = words(2, [4, 2], 4)
    psi = composer(image, (text, mask))
    other = text.clone()
    other[~mask] += 9
    assert torch.equal(composer(image, (other, mask)), psi)
    torch.testing.assert_close(composer(image[1:], (text[1:, :2], mask[1:, :2])), psi[1:])
    assert not torch.allclose(composer(image, (text.flip(1), mask.flip(1)))[0], psi[0])


# ---- parameter hashing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_parameter_hashing_puts_the_text_s_numbers_into_a_matrix(seed):
    torch.manual_seed(seed)
    composer = ParameterHashing(4, 3, 5, candidates=7, seed=seed)
    image, text = drawn(seed, (3, 4, 2, 3), (3, 3))
    psi = composer(image, text)
    for row in range(3):
        x, p = image[row].mean(dim=(1, 2)), composer.candidates(text[row])
        for m in range(5):
            expected = sum(composer.sign[m, n] * p[composer.place[m, n]] * x[n] for n in range(4))
            torch.testing.assert_close(psi[row, m], expected)
    assert set(composer.sign.flatten().tolist()) == {-1.0, 1.0}


def test_the_hash_is_fixed_by_its_seed_and_spread_over_all_candidates():
    one, same, other = (ParameterHashing(64, 3, 64, candidates=16, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.place, same.place)
    assert torch.equal(one.sign, same.sign)
    assert not torch.equal(one.place, other.place)
    counts = one.place.flatten().bincount(minlength=16)
    assert counts.min() > 0.7 * 64 * 64 / 16
    assert abs(one.sign.mean()) < 0.1
    assert {"place", "sign"} <= one.state_dict().keys()


# ---- relationship ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_relationship_is_the_mean_over_all_pairs(seed):
    torch.manual_seed(seed)
    composer = Relationship(4, 3, 5, cells=3)
    image, text = drawn(seed, (2, 4, 6, 3), (2, 3))
    psi = composer(image, text)
    first = torch.cat([composer.first.weight, composer.second.weight, composer.text.weight], dim=1)  # of [x_i, x_j, t]
    for row in range(2):
        places = [image[row, :, 2 * y : 2 * y + 2, x].mean(dim=1) for y in range(3) for x in range(3)]
        answers = [
            F.relu(composer.hidden(F.relu(first @ torch.cat([places[i], places[j], text[row]]) + composer.text.bias)))
            for i in range(9)
            for j in range(9)
        ]
        torch.testing.assert_close(psi[row], composer.head(torch.stack(answers).mean(dim=0)))


def test_relationship_does_not_ask_where_places_are():
    composer = Relationship(4, 3, 5, cells=3)
    image, text = drawn(3, (2, 4, 3, 3), (2, 3))
    shuffled = image.flatten(2)[:, :, torch.randperm(9)].unflatten(2, (3, 3))
    torch.testing.assert_close(composer(shuffled, text), composer(image, text))
    assert composer(image[:, :, :1, :2], text).shape == (2, 5)  # a map of fewer places than cells


# ---- FiLM -----------------------------------------------------------------------------------------------------------


def test_film_changes_every_layer_s_channels():
    torch.manual_seed(0)
    encoder = SmallConvNet(4, feature_map=True)
    composer = FiLM(16, 3, 5, channels=encoder.channels)
    (text,) = drawn(0, (3, 3))
    pictures = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    encoder(pictures)
    encoder.eval()
    psi = composer((encoder, pictures), text)
    numbers = composer.modulation(text)
    gammas, betas = numbers[:, :30], numbers[:, 30:]
    x, start = (pictures / 255 - 0.5) / 0.5, 0
    for layer in range(4):
        for part in encoder.body[4 * layer : 4 * layer + 4]:
            x = part(x)
        n = 2 * 2**layer
        gamma, beta = (part[:, start : start + n, None, None] for part in (gammas, betas))
        x, start = (1 + gamma) * x + beta, start + n
    torch.testing.assert_close(psi, x)
    assert psi.shape == (3, 16, 2, 2)


def test_film_without_a_say_leaves_the_net_alone():
    encoder = SmallConvNet(4, feature_map=True).eval()
    pictures, text = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8), torch.randn(3, 3)
    composer = FiLM(16, 3, 5, channels=encoder.channels)
    assert not torch.allclose(composer((encoder, pictures), text), encoder(pictures))
    for p in composer.parameters():
        torch.nn.init.zeros_(p)
    torch.testing.assert_close(composer((encoder, pictures), text), encoder(pictures))


def test_film_may_change_the_last_map_alone():
    torch.manual_seed(1)
    encoder = SmallConvNet(4, feature_map=True).eval()
    pictures, (text,) = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8), drawn(5, (2, 3))
    composer = FiLM(16, 3, 5)
    gamma, beta = composer.modulation(text)[:, :, None, None].chunk(2, dim=1)
    torch.testing.assert_close(composer((encoder, pictures), text), (1 + gamma) * encoder(pictures) + beta)


# ---- MRN ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_mrn_is_its_formula_row_by_row(seed):
    torch.manual_seed(seed)
    composer = MRN(4, 3, 5).eval()
    image, text = drawn(seed, (6, 4), (6, 3))
    a1, a2, b, c = composer.image[1], composer.image[4], composer.text[1], composer.shortcut[1]
    for x, t, psi in zip(image, text, composer(image, text), strict=True):
        v = (a2.weight @ (a1.weight @ x + a1.bias).tanh() + a2.bias).tanh()
        torch.testing.assert_close(psi, v * (b.weight @ t + b.bias).tanh() + c.weight @ t + c.bias)


def test_mrn_drops_units_in_training_alone():
    image, text = drawn(0, (6, 4), (6, 3))
    composer = MRN(4, 3, 5)
    assert not torch.equal(composer(image, text), composer(image, text))
    composer.eval()
    assert torch.equal(composer(image, text), composer(image, text))
    composer = MRN(4, 3, 5, dropout=0.0)
    assert torch.equal(composer(image, text), composer(image, text))


# ---- all ------------------------------------------------------------------------------------------------------------


def cases() -> dict:
    image, text, grid = drawn(11, (4, 6), (4, 3), (4, 6, 3, 3))
    pictures = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    vectors, mask = words(11, [2, 3, 1, 3], 3)
    encoder = SmallConvNet(4, feature_map=True).double().eval()
    return {
        "ShowAndTell": (ShowAndTell(6, 3, 5), lambda c, i, t: c(i, (t, mask)), image, vectors),
        "ParameterHashing": (ParameterHashing(6, 3, 5, candidates=9), lambda c, i, t: c(i, t), grid, text),
        "Relationship": (Relationship(6, 3, 5, cells=3), lambda c, i, t: c(i, t), grid, text),
        "FiLM": (FiLM(16, 3, 5, channels=encoder.channels), lambda c, i, t: c((encoder, i), t), pictures, text),
        "MRN": (MRN(6, 3, 5, dropout=0.0), lambda c, i, t: c(i, t), image, text),
    }


@pytest.mark.parametrize("name", ["ShowAndTell", "ParameterHashing", "Relationship", "FiLM", "MRN"])
def test_gradients_are_right_and_reach_every_weight(name):
    torch.manual_seed(0)
    composer, call, image, text = cases()[name]
    composer = composer.double()
    given = [text.double().requires_grad_()] if name == "FiLM" else [x.double().requires_grad_() for x in (image, text)]
    images = (image.double(),) if name == "FiLM" else ()
    assert torch.autograd.gradcheck(lambda *x: call(composer, *images, *x), given, atol=1e-5)
    (call(composer, *images, *given) ** 2).sum().backward()
    for weight, p in composer.named_parameters():
        assert p.grad.abs().sum() > 0, weight


@pytest.mark.parametrize("name", ["ShowAndTell", "ParameterHashing", "Relationship", "FiLM", "MRN"])
def test_a_query_does_not_hang_on_its_batch_and_on_both_sides(name):
    torch.manual_seed(0)
    composer, call, image, text = cases()[name]
    composer, image, text = composer.double().eval(), image.double(), text.double()
    psi = call(composer, image, text)
    assert len(psi) == 4
    assert not torch.allclose(call(composer, image.roll(1, 0), text), psi)
    assert not torch.allclose(call(composer, image, text + 1), psi)
    if name != "ShowAndTell":  # whose mask would have to move along, see its own test
        order = torch.tensor([2, 0, 3, 1])
        torch.testing.assert_close(call(composer, image[order], text[order]), psi[order])
        torch.testing.assert_close(call(composer, image[1:2], text[1:2]), psi[1:2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ParameterHashing(4, 4, 4, candidates=0), "candidates must be at least 1, got 0"),
        (lambda: Relationship(4, 4, 4, cells=0), "cells must be at least 1, got 0"),
        (lambda: FiLM(4, 4, 4, channels=[2, 3]), r"the last of channels=\[2, 3\] must be that of the last map"),
        (lambda: FiLM(4, 4, 4, channels=[]), "the last of channels"),
        (
            lambda: FiLM(4, 4, 4, channels=[3, 4])((SmallConvNet(2), torch.zeros(1, 3, 16, 16)), torch.zeros(1, 4)),
            r"made for layers of \[3, 4\] channels; this encoder's: \(1, 2, 4, 8\)",
        ),
        (lambda: MRN(0, 4, 4), "must be at least 1"),
    ],
)
def test_they_refuse_what_cannot_work(make, message):
    with pytest.raises(ValueError, match=message):
        make()
