"""Four proofs of each check of chapter 08: stub, solution, wrong answers by name, a right answer made otherwise."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from commonspace.checks import ch08
from commonspace.losses import batch_softmax_loss
from commonspace.models.composeae import Rotation


@pytest.mark.parametrize("exercise", ["rotation", "rotate_back", "collapse", "note_softmax"])
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch08, exercise)
    assert check(stub("08", exercise)).status == "not attempted"
    assert check(solution("08", exercise)).status == "passed"
    assert "Pass the function itself" in check(3).message


def delta(gamma):
    return torch.exp(1j * gamma)


def on_the_circle(gamma, *, real=torch.cos, imaginary=torch.sin, mirror=(1, -1)):
    """Points by real and imaginary part, and what ``mirror`` makes of both for the conjugate."""
    parts = torch.stack([real(gamma), imaginary(gamma)], dim=-1)
    return torch.view_as_complex(parts), torch.view_as_complex(parts * torch.tensor(mirror))


def polar(modulus, angle):
    return torch.polar(modulus, angle), torch.polar(modulus, angle).conj()


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda g: (torch.exp(g), torch.exp(-g)), "no j", "The j is missing"),
        (lambda g: (math.e**g, 1 / math.e**g), "no j", "multiplying by it stretches"),
        (lambda g: (g.exp(), g.exp().conj()), "no j", "has modulus 1"),
        (lambda g: (g.exp() + 0j, (-g).exp() + 0j), "no j", "exp of a real number"),
        (lambda g: on_the_circle(g, mirror=(-1, -1)), "minus delta", "-delta^2, not 1"),
        (lambda g: on_the_circle(g, mirror=(-1, 1)), "real part negated", "its product with delta is -1"),
        (lambda g: on_the_circle(g, mirror=(1, 1)), "not conjugated", "turns twice as far"),
        (lambda g: on_the_circle(g)[::-1], "swapped", "first"),
        (lambda g: tuple(part.real for part in on_the_circle(g)), "real part alone", "no way back"),
        (lambda g: (g.cos(), (-g).cos()), "real part alone", "gamma from -gamma"),
        (lambda g: on_the_circle(g, real=torch.sin, imaginary=torch.cos), "cos and sin exchanged", "turn nothing"),
        (
            lambda g: on_the_circle(g, real=torch.sin, imaginary=torch.cos, mirror=(-1, 1)),
            "cos and sin exchanged",
            "exp(0) = 1",
        ),
        (lambda g: (1j * g, (1j * g).conj()), "no exp", "exp is missing"),
        (lambda g: (g, -g), "no exp", "and stretches"),
        (lambda g: (g + 0j, (g + 0j).conj()), "no exp", "is the exponent"),
        (lambda g: (g.cos(), g.sin()), "cos and sin apart", "two parts of ONE number"),
        (lambda g: (g.cos(), (-g).sin()), "cos and sin apart", "torch.complex(gamma.cos(), gamma.sin())"),
        (lambda g: on_the_circle(g * math.pi / 180), "degrees", "in radians"),
        (lambda g: (delta(torch.deg2rad(g)), delta(-torch.deg2rad(g))), "degrees", "use it as it is"),
        (lambda g: on_the_circle(g * 180 / math.pi), "degrees", "between degrees and radians"),
        (lambda g: (delta(g * (180 / math.pi)), delta(-g * (180 / math.pi))), "degrees", "as it is"),
        (lambda g: polar(g, torch.ones_like(g)), "modulus and angle exchanged", "takes the modulus first"),
        (
            lambda g: (torch.polar(g, torch.ones_like(g)), torch.polar(-g, torch.ones_like(g))),
            "modulus and angle exchanged",
            "your angle 1",
        ),
    ],
)
def test_wrong_rotations_get_their_hint(answer, mistake, words):
    for seed in range(3):
        result = ch08.rotation(answer, seed)
        assert (result.status, result.mistake) == ("failed", mistake)
        assert words in result.message


def test_rotations_made_otherwise_pass():
    def by_division(gamma):
        return delta(gamma), 1 / delta(gamma)

    def by_angle_doubling(gamma):  # from half the angle, by another formula for cos and for sin
        half = (gamma / 2).sin(), (gamma / 2).cos()
        turned = torch.complex(1 - 2 * half[0] ** 2, 2 * half[0] * half[1])
        return [turned, turned.conj().resolve_conj()]

    def by_polar(gamma):
        return torch.polar(torch.ones_like(gamma), gamma), torch.polar(torch.ones(gamma.shape), -gamma)

    def by_the_library(gamma):
        rotation = Rotation(3, gamma.shape[1], gamma.shape[1], eta_complex=True, batch_norm=False, dropout=0.0)
        rotation.of_text = nn.Identity()
        return rotation.delta(gamma), rotation.delta(gamma, conjugate=True)

    for answer in (on_the_circle, by_division, by_angle_doubling, by_polar, by_the_library):
        assert ch08.rotation(answer).status == "passed"


def by_numpy(gamma):
    turned = np.exp(1j * gamma.numpy())
    return [turned, turned.conj()]


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda g: (delta(g.detach()), delta(-g.detach())), "no gradient", "without .item(), float(), .detach()"),
        (lambda g: (delta(g), delta(g).detach().conj()), "no gradient", "part of its conjugate summed"),
        (lambda g: on_the_circle(g.data), "no gradient", "part of its delta summed"),
        (by_numpy, "no gradient", "nothing can be trained"),
        (lambda g: on_the_circle(g, real=lambda g: g.detach().cos()), "part of it detached", "not learned"),
        (lambda g: (delta(g), torch.complex(g.cos(), -g.data.sin())), "part of it detached", "its conjugate summed"),
    ],
)
def test_a_right_rotation_without_gradient_gets_its_hint(answer, mistake, words):
    for seed in range(3):
        result = ch08.rotation(answer, seed)
        assert (result.status, result.mistake) == ("failed", mistake)
        assert words in result.message


def test_what_is_transposed_is_told():
    for answer in (lambda g: (delta(g), delta(g).mH), lambda g: (delta(g), delta(g).H)):
        assert "conjugate is transposed. .mH and .H transpose" in ch08.rotation(answer).message
    assert "delta is transposed" in ch08.rotation(lambda g: (delta(g).T, delta(-g))).message
    turned = ch08.rotate_back(lambda e, g, y: (delta(g) * e, (delta(g) * y.conj()).mH))
    assert "back is transposed" in turned.message
    spread = ch08.rotate_back(lambda e, g, y: (delta(g) * e, delta(g).mH * y)).message
    assert "back must have the shape (1, 2); got (2, 2)" in spread
    assert ".conj() keeps the shape, .mH transposes" in spread


def test_only_what_is_wrong_of_the_two_is_shown_with_both_its_parts():
    result = ch08.rotation(lambda g: (delta(g), delta(g) ** 2))
    assert (result.status, result.mistake) == ("failed", None)
    assert "conjugate: expected [[ 1.   -0.j     0.54 -0.841j" in result.message
    assert "delta: expected" not in result.message
    assert ch08.rotation(lambda g: (delta(g), delta(-g) + 1e-3j)).status == "failed", "an imaginary part alone"


def test_what_is_not_two_of_the_right_shape_is_answered_in_words():
    for check in (ch08.rotation, ch08.rotate_back, ch08.note_softmax):
        assert "returned None" in check(lambda *a: None).message
        assert "with a comma between them; got one Tensor" in check(lambda first, *rest: first).message
        assert "got 3 of them" in check(lambda first, *rest: (first, first, first)).message
    side_by_side = ch08.rotation(lambda g: (torch.stack([g.cos(), g.sin()], dim=2), delta(-g))).message
    assert "delta must have the shape (1, 5); got (1, 5, 2)" in side_by_side
    assert "torch.complex(cos, sin)" in side_by_side
    product = ch08.rotate_back(lambda e, g, y: (delta(g) * e, (delta(g).conj() * y).sum(dim=1))).message
    assert "back must have the shape (1, 2); got (1,)" in product
    each = ch08.note_softmax(lambda q, y: (math.log(len(q)), F.cross_entropy(q @ y.T, own(q), reduction="none")))
    assert "right must have the shape (); got (2,). A loss is one number." in each.message


def test_complex_arguments_changed_in_place_are_refused():
    def in_place(eta, gamma, target):
        return delta(gamma) * eta, target.mul_(delta(-gamma))

    def imaginary_part(eta, gamma, target):
        turned = delta(gamma) * eta, delta(-gamma) * target
        target.imag.neg_()
        return turned

    for answer in (in_place, imaginary_part):
        assert "changes its arguments in place" in ch08.rotate_back(answer).message


def with_parts(eta, gamma, target, *, back=-1, forward=1, mirrored=False, both=False):
    """Real and imaginary part by hand, by angles ``forward`` and ``back`` times gamma."""
    if both:
        target = torch.complex(target.real, -target.imag)
    turned = []
    for z, times in ((eta, forward), (target, back)):
        c, s = torch.cos(times * gamma), torch.sin(times * gamma)
        turned.append(torch.complex(c * z.real - s * z.imag, c * z.imag + s * z.real))
    return turned[0], turned[1].conj() if mirrored else turned[1]


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda e, g, y: (delta(g) * e, torch.conj(delta(g) * e)), "phi conjugated", "eta exp(-j gamma), not eta"),
        (lambda e, g, y: (delta(g) * e, torch.conj(y)), "phi conjugated", "turn nothing"),
        (lambda e, g, y: with_parts(e, g, y, back=1, mirrored=True), "product conjugated", "comes out mirrored"),
        (lambda e, g, y: with_parts(e, g, y, both=True), "product conjugated", "Conjugate delta alone"),
        (lambda e, g, y: with_parts(e, g, y, back=1), "turned on", "twice as far"),
        (lambda e, g, y: (delta(g) * e, delta(-g) * (delta(g) * e)), "eta turned back", "which you had"),
        (lambda e, g, y: with_parts(e, g, y, back=0), "target as it came", "as it came"),
        (lambda e, g, y: with_parts(e, g, y)[::-1], "swapped", "phi first"),
        (lambda e, g, y: with_parts(e, g, y, forward=-1), "both turned back", "only the target goes back"),
        (lambda e, g, y: (delta(g) * e, delta(g) * y.conj()), "target conjugated, not delta", "the conjugate of what"),
        (lambda e, g, y: with_parts(e, g, y, mirrored=True), "target conjugated, not delta", "leave the target"),
        (lambda e, g, y: with_parts(e, g, y, forward=-1, back=1), "both reversed", "eta goes forward"),
        (lambda e, g, y: with_parts(y, g, e), "eta and target exchanged", "the source, eta, that the text turns"),
        (lambda e, g, y: (g.exp() * e, (-g).exp() * y), "no j", "The j is missing"),
        (lambda e, g, y: (g.exp() * e, g.exp().conj() * y), "no j", "multiplying by it stretches"),
        (lambda e, g, y: (1j * g * e, (1j * g).conj() * y), "no exp", "exp is missing"),
        (lambda e, g, y: (g * e, g.conj() * y), "no exp", "modulus |gamma|"),
        (lambda e, g, y: (g * e, -g * y), "no exp", "exp(j gamma) has modulus 1"),
        (lambda e, g, y: with_parts(e, torch.deg2rad(g), y), "degrees", "in radians"),
        (lambda e, g, y: (g.cos() * e, g.sin() * y), "cos and sin apart", "ONE number"),
        (lambda e, g, y: (g.cos() * e, g.cos() * y), "real part alone", "gamma from -gamma"),
    ],
)
def test_wrong_ways_back_get_their_hint(answer, mistake, words):
    for seed in range(3):
        result = ch08.rotate_back(answer, seed)
        assert (result.status, result.mistake) == ("failed", mistake)
        assert words in result.message


def test_ways_back_made_otherwise_pass():
    def by_division(eta, gamma, target):
        return eta / delta(-gamma), target / delta(gamma)

    def conjugated_twice(eta, gamma, target):
        return delta(gamma) * eta, (delta(gamma) * target.conj()).conj()

    for answer in (with_parts, by_division, conjugated_twice):
        assert ch08.rotate_back(answer).status == "passed"


def test_a_target_that_is_never_phi_is_always_among_the_inputs(monkeypatch):
    """Else giving eta back, or mirroring the target where eta is real, would pass now and then."""
    draw = ch08._rotate_back.inputs

    def phi(rng):
        eta, gamma, _ = draw(rng)
        eta = torch.complex(eta.real, 0 * eta.imag)
        return eta, gamma, delta(gamma) * eta

    monkeypatch.setattr(ch08, "_rotate_back", replace(ch08._rotate_back, inputs=phi))
    assert ch08.rotate_back(lambda e, g, y: (delta(g) * e, e)).mistake == "eta turned back"
    mirrored = ch08.rotate_back(lambda e, g, y: (delta(g) * e, delta(g) * y.conj()))
    assert mirrored.mistake == "target conjugated, not delta"


def test_sources_are_real_and_targets_are_phi_in_part_of_the_trials():
    """Only so the released code's case is among them, and the way back to eta; where both hold, conj(phi) is wrong."""
    found = set()
    for seed in range(40):
        eta, gamma, target = ch08._sources(np.random.default_rng(seed))
        real, own = not eta.imag.any().item(), torch.allclose(target, delta(gamma) * eta, atol=1e-6)
        found.add((real, own))
        if own:
            back = delta(-gamma) * target
            assert torch.allclose(back, eta, atol=1e-5)
            assert not torch.allclose(target.conj(), eta, atol=1e-3)
    assert len(found) == 4


def filled(weight, bias):
    """A layer of these, as wide as they are; without a bias where that is None."""

    def answer(first, second):
        W, b = weight(first, second), bias(first, second)
        one = nn.Linear(W.shape[1], W.shape[0], bias=b is not None)
        one.weight = nn.Parameter(W.detach().clone())
        if b is not None:
            one.bias = nn.Parameter(b.detach().clone())
        return one

    return answer


def fresh(first, second, *, weight=None, bias=None):
    """A new layer, into which what is given is written; False: without a bias."""
    one = nn.Linear(first.in_features, second.out_features, bias=bias is not False)
    with torch.no_grad():
        for parameter, value in ((one.weight, weight), (one.bias, bias)):
            if isinstance(value, torch.Tensor):
                parameter.copy_(value)
    return one


def product_of(first, second):
    return second.weight @ first.weight


def through(first, second):
    return second(first.bias)


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (filled(product_of, lambda f, s: s.bias), "W2 b1 lost", "goes through second as well"),
        (filled(product_of, lambda f, s: s.weight @ f.bias), "b2 lost", "second's own bias"),
        (filled(product_of, lambda f, s: s.bias + f.bias), "b1 not multiplied", "goes through it"),
        (filled(product_of, lambda f, s: None), "no bias", "has no bias"),
        (filled(product_of, lambda f, s: torch.zeros_like(s.bias)), "no bias", "one of zeros"),
        (filled(lambda f, s: f.weight @ s.weight, through), "wrong order", "second first"),
        (filled(lambda f, s: f.weight @ s.weight, lambda f, s: f(s.bias)), "wrong order", "stands on the left"),
        (filled(lambda f, s: f.weight @ s.weight, lambda f, s: s.bias), "wrong order", "W2 (W1 x)"),
        (filled(lambda f, s: f.weight.T @ s.weight.T, through), "transposed", "transposes by itself"),
        (filled(lambda f, s: s.weight.T @ f.weight.T, through), "transposed", "(out, in)"),
        (filled(lambda f, s: product_of(f, s).T, lambda f, s: f.bias + s.bias), "transposed", "as they are"),
        (lambda f, s: fresh(f, s), "not filled", "random numbers"),
        (lambda f, s: fresh(f, s, bias=False), "not filled", "every new nn.Linear begins with"),
        (lambda f, s: fresh(f, s, weight=product_of(f, s)), "not filled", "Write into both"),
        (lambda f, s: fresh(f, s, bias=through(f, s)), "not filled", "one.weight.copy_"),
        (lambda f, s: fresh(f, s, bias=f.bias + s.bias), "not filled", "one.bias.copy_"),
        (lambda f, s: fresh(f, s, weight=f.weight @ s.weight), "wrong order", "second first"),
    ],
)
def test_wrong_layers_get_their_hint(answer, mistake, words):
    for seed in range(3):
        result = ch08.collapse(answer, seed)
        assert (result.status, result.mistake) == ("failed", mistake)
        assert words in result.message


def test_layers_made_otherwise_pass():
    @torch.no_grad()
    def by_questions(first, second):
        one = nn.Linear(first.in_features, second.out_features)
        one.bias.copy_(second(first(torch.zeros(first.in_features))))
        one.weight.copy_((second(first(torch.eye(first.in_features))) - one.bias).T)
        return one

    def by_hand(first, second):
        one = nn.Linear(first.in_features, second.out_features)
        for i, row in enumerate(second.weight):
            one.bias.data[i] = second.bias[i] + sum(w * b for w, b in zip(row, first.bias, strict=True))
            one.weight.data[i] = sum(w * of for w, of in zip(row, first.weight, strict=True))
        return one

    for answer in (filled(product_of, through), by_questions, by_hand):
        assert ch08.collapse(answer).status == "passed"


def test_who_cannot_write_into_a_layer_is_told_how():
    def copied(first, second):
        one = fresh(first, second)
        one.weight.copy_(product_of(first, second))

    def row_by_row(first, second):
        one = fresh(first, second)
        one.bias[0] = 0.0

    def assigned(first, second):
        one = fresh(first, second)
        one.weight = product_of(first, second)

    for answer, words in ((copied, "leaf Variable"), (row_by_row, "leaf Variable"), (assigned, "as parameter")):
        message = ch08.collapse(answer).message
        assert words in message
        assert "Write under torch.no_grad()" in message
    for another in ("a size does not fit", "no such thing"):
        message = ch08.collapse(raising(RuntimeError(another))).message
        assert f"RuntimeError: {another}" in message
        assert "no_grad" not in message


def raising(error):
    def answer(first, second):
        raise error

    return answer


def test_the_learners_random_numbers_stay_as_they_were():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(1)
    ch08._begun_alike(nn.Linear, 2, 2)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_the_two_layers_stay_as_they_were():
    def into_second(first, second):
        with torch.no_grad():
            second.bias.copy_(second(first.bias))
        second.weight = nn.Parameter((second.weight @ first.weight).detach())
        return second

    def bias_shared(first, second):
        one = filled(product_of, through)(first, second)
        one.bias = second.bias
        with torch.no_grad():
            one.bias += second.weight @ first.bias
        return one

    for answer in (into_second, bias_shared):
        result = ch08.collapse(answer)
        assert result.status == "failed"
        assert "you changed first or second" in result.message


def test_what_is_no_such_layer_is_answered_in_words():
    assert "return ONE nn.Linear; got a Sequential" in ch08.collapse(lambda f, s: nn.Sequential(f, s)).message
    assert "got a Tensor" in ch08.collapse(product_of).message
    assert "returned None" in ch08.collapse(lambda f, s: None).message

    result = ch08.collapse(filled(lambda f, s: product_of(f, s)[:, :3], through))
    assert "its weight must have the shape (out, in), here (2, 4); got (2, 3)" in result.message, "of three widths"


def own(query):
    return torch.arange(len(query))


def right(query, target):
    return F.cross_entropy(query @ target.T, own(query))


def one_by_one(query, target, *, below="y_i", log=torch.logsumexp, total=torch.mean, sign=1):
    """Query by query; ``below`` says what stands in the denominator."""
    costs = []
    for i, (q, y) in enumerate(zip(query, target, strict=True)):
        terms = {
            "y_i": lambda i=i: torch.stack([query[i] @ target[i] for _ in query]),
            "y_j": lambda i=i: torch.stack([query[i] @ other for other in target]),
            "q_j, y_j": lambda: (query * target).sum(dim=1),
            "q_j": lambda i=i: torch.stack([other @ target[i] for other in query]),
            "others": lambda i=i: torch.stack([query[i] @ target[j] for j in range(len(target)) if j != i]),
        }[below]()
        costs.append(log(terms, 0) - q @ y)
    return sign * total(torch.stack(costs))


def lifted(query, target, by):
    """With a little added to the probability, so that its log stays finite."""
    return -torch.log(F.softmax(query @ target.T, 1).diagonal() + by).mean()


def below_maximum(query, target, *, rows=False, printed=False, log=True):
    """Scores by what they lie below the highest of all, or of their row."""
    S = query @ target.T
    S = S - (S.amax(dim=1, keepdim=True) if rows else S.max())
    below = (S.diagonal()[:, None].expand_as(S) if printed else S).exp().sum(dim=1)
    return (below.log() - S.diagonal() if log else -torch.log(S.diagonal().exp() / below)).mean()


def naive_log(terms, dim):
    return terms.exp().sum(dim).log()


def constant(query, target):
    return math.log(len(query))


@pytest.mark.parametrize(
    ("printed", "second", "mistake", "words"),
    [
        (right, right, "printed read as meant", "no m stands in them"),
        (lambda q, y: one_by_one(q, y, below="y_j"), right, "printed read as meant", "Every term"),
        (lambda q, y: one_by_one(q, y, below="y_j", log=naive_log), right, "printed read as meant", "the same"),
        (one_by_one, one_by_one, "both as printed", "nothing to choose from"),
        (constant, constant, "both as printed", "belongs to target m"),
        (right, one_by_one, "swapped", "the printed one first"),
        (lambda q, y: one_by_one(q, y, below="q_j"), right, "queries run in the printed one", "its own target"),
        (constant, lambda q, y: right(y, q), "targets choose", "dim=1"),
        (constant, lambda q, y: -F.log_softmax(q @ y.T, 0).diagonal().mean(), "targets choose", "targets choose"),
        (constant, lambda q, y: -F.log_softmax(q @ y.T, 1).mean(), "every target right", "the diagonal"),
        (constant, lambda q, y: one_by_one(q, y, below="others"), "own target left out", "one of the candidates"),
        (constant, lambda q, y: right(q, y) * len(q), "summed", "means over queries"),
        (lambda q, y: one_by_one(q, y, total=torch.sum), right, "summed", "divide by N"),
        (lambda q, y: constant(q, y) * len(q), lambda q, y: len(q) * right(q, y), "summed", "divide by N"),
        (lambda q, y: -constant(q, y), lambda q, y: -right(q, y), "sign", "MINUS the logarithm"),
        (lambda q, y: 0.0, right, "one term", "N of them"),
        (lambda q, y: -torch.log(torch.ones(3)).mean(), right, "one term", "each quotient is 1 / N"),
        (lambda q, y: one_by_one(q, y, below="q_j, y_j"), right, "others' own scores", "kappa(theta_i, y_i), N times"),
        (lambda q, y: math.log(len(q[0])), right, "log d", "len(query)"),
        (constant, lambda q, y: right(F.normalize(q), F.normalize(y)), "cosines", "as they come"),
        (constant, lambda q, y: (right(q, y) + right(y, q)) / 2, "both directions", "only queries choose"),
        (constant, lambda q, y: lifted(q, y, 1e-9), "lifted", "cut off there"),
        (lambda q, y: -math.log(1 / len(q) + 1e-6), lambda q, y: lifted(q, y, 1e-6), "lifted", "cost too little"),
        (constant, lambda q, y: lifted(q, y, torch.finfo(torch.float64).eps), "lifted", "no such help"),
        (constant, lambda q, y: lifted(q, y, 0.0), "log of 0", "log of 0 is infinite"),
        (constant, lambda q, y: F.nll_loss(F.softmax(q @ y.T, 1).log(), own(q)), "log of 0", "torch.log_softmax"),
        (lambda q, y: below_maximum(q, y, rows=True, printed=True), right, "log of 0", "lie far apart"),
        (constant, lambda q, y: below_maximum(q, y), "one maximum for all", "Each row's own maximum"),
        (constant, lambda q, y: below_maximum(q, y, log=False), "one maximum for all", "ONE maximum"),
        (lambda q, y: below_maximum(q, y, printed=True), right, "one maximum for all", "torch.logsumexp"),
        (
            lambda q, y: below_maximum(q, y, printed=True, log=False),
            lambda q, y: below_maximum(q, y),
            "one maximum for all",
            "a whole row",
        ),
        (lambda q, y: one_by_one(q, y, log=naive_log), right, "exp overflows", "scores are large"),
        (constant, lambda q, y: one_by_one(q, y, below="y_j", log=naive_log), "exp overflows", "torch.logsumexp"),
    ],
)
def test_wrong_losses_get_their_hint(printed, second, mistake, words):
    for seed in range(3):
        result = ch08.note_softmax(lambda q, y: (printed(q, y), second(q, y)), seed)
        assert (result.status, result.mistake) == ("failed", mistake)
        assert words in result.message


def test_quotients_of_exp_are_recognised_in_one_loss_and_in_both():
    def quotient(query, target, below):
        return -torch.log((query * target).sum(1).exp() / below(query, target).exp().sum(1)).mean()

    def as_printed(query, target):
        return (query * target).sum(dim=1, keepdim=True).repeat(1, len(query))

    def scores(query, target):
        return query @ target.T

    for answer in (
        lambda q, y: (quotient(q, y, as_printed), quotient(q, y, scores)),
        lambda q, y: (quotient(q, y, as_printed), one_by_one(q, y, below="y_j", log=naive_log)),
        lambda q, y: (constant(q, y), quotient(q, y, scores)),
    ):
        result = ch08.note_softmax(answer)
        assert (result.status, result.mistake) == ("failed", "exp overflows")
    twice = ch08.note_softmax(lambda q, y: (quotient(q, y, scores), quotient(q, y, scores)))
    assert twice.mistake == "printed read as meant"


@pytest.mark.parametrize(
    ("second", "mistake", "words"),
    [
        (lambda q, y: right(q, y).item(), "no gradient", "mere number"),
        (lambda q, y: right(q, y).detach(), "no gradient", "its second loss"),
        (lambda q, y: right(q.data, y), "part of it detached", "its gradient is not"),
        (lambda q, y: right(q, y.detach()), "part of it detached", "a constant"),
    ],
)
def test_a_right_loss_without_gradient_gets_its_hint(second, mistake, words):
    result = ch08.note_softmax(lambda q, y: (one_by_one(q, y), second(q, y)))
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message
    assert result.message.startswith("note_softmax")
    assert "temperature" not in result.message, "chapter 05's argument, which this function has not"


def test_losses_made_otherwise_pass():
    by_the_library = ch08.note_softmax(lambda q, y: (torch.tensor(len(q)).log(), batch_softmax_loss(q, y)))
    assert by_the_library.status == "passed"
    assert "log N, whatever query and target are" in by_the_library.message
    shifted = ch08.note_softmax(lambda q, y: (constant(q, y), below_maximum(q, y, rows=True)))
    assert shifted.status == "passed"
    loops = ch08.note_softmax(lambda q, y: [one_by_one(q, y), one_by_one(q, y, below="y_j")])
    assert loops.status == "passed"
