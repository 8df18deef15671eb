"""Checks of chapter 08, ComposeAE: rotation, turning back, two linear layers in one, the softmax as printed."""

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product

import numpy as np
import torch
from torch import Tensor, nn

from commonspace.checks.ch05 import NAIVE, _choice_by_choice, _large, _Loss, _pairs, _softmax, batch_softmax
from commonspace.checks.exercise import PASSED, Exercise, Mistake, Result


@dataclass(frozen=True)
class _InTwoSteps(Exercise):
    """Who passes is given ``then``, a further check."""

    then: Callable[[Callable, np.random.Generator], Result] | None = None

    def _check(self, answer: Callable, rng: np.random.Generator) -> Result:
        result = super()._check(answer, rng)
        further = self.then(answer, rng) if result.status == PASSED else result
        return result if further.status == PASSED else further


def _two(names: tuple[str, str], advice: str, answer: Callable, shape: tuple | None = None) -> Callable:
    """What is returned, by name, so that what differs is shown alone. ``shape``: None is the first argument's."""

    def by_name(*arguments):
        got = answer(*arguments)
        if got is None:
            return None
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            came = f"{len(got)} of them" if isinstance(got, (tuple, list)) else f"one {type(got).__name__}"
            raise ValueError(f"return two tensors, {names[0]} and {names[1]}, with a comma between them; got {came}")
        found = {name: torch.as_tensor(value) for name, value in zip(names, got, strict=True)}
        wanted = tuple(arguments[0].shape if shape is None else shape)
        for name, value in found.items():
            if value.shape == wanted[::-1] != wanted:
                raise ValueError(f"{name} is transposed. .mH and .H transpose and conjugate, .conj() conjugates alone.")
            if value.shape != wanted:
                raise ValueError(f"{name} must have the shape {wanted}; got {tuple(value.shape)}. {advice}")
        return found

    return by_name


# ---- 1: rotation ----------------------------------------------------------------------------------------------------

_delta = partial(_two, ("delta", "conjugate"), "One complex number holds cos and sin: torch.complex(cos, sin).")


def _angles(rng: np.random.Generator) -> tuple:
    return (torch.tensor(rng.normal(scale=3.0, size=rng.integers(2, 6, size=2)), dtype=torch.float32),)


def _number_by_number(gamma) -> dict:
    """Each angle's point on the circle, and its mirror image below the real axis."""
    delta = [[complex(math.cos(g), math.sin(g)) for g in row] for row in gamma.tolist()]
    return {"delta": np.array(delta), "conjugate": np.array([[complex(d.real, -d.imag) for d in row] for row in delta])}


def _turn(gamma: Tensor) -> Tensor:
    return torch.complex(gamma.cos(), gamma.sin())


# Name, hint, one or more answers with the slip: delta and its conjugate of the angles g.
ROTATIONS = (
    (
        "no j",
        "you take exp of a real number: it is real, and as large or small as you like, so multiplying by it stretches. "
        "exp(j gamma) has modulus 1, multiplying by it turns. The j is missing: 1j * gamma.",
        lambda g: (g.exp(), (-g).exp()),
        lambda g: (g.exp(), g.exp()),
    ),
    (
        "minus delta",
        "your conjugate is -delta. That is delta turned by half a circle more, and their product is -delta^2, not 1. "
        "The conjugate keeps the real part and changes the sign of the imaginary one: exp(-j gamma).",
        lambda g: (_turn(g), -_turn(g)),
    ),
    (
        "real part negated",
        "your conjugate changes the sign of the REAL part, not of the imaginary one: its product with delta is -1.",
        lambda g: (_turn(g), -_turn(-g)),
    ),
    (
        "not conjugated",
        "your conjugate is delta once more: the product is delta^2, which turns twice as far, not back.",
        lambda g: (_turn(g), _turn(g)),
    ),
    (
        "swapped",
        "you return (conjugate, delta). Asked for is delta = exp(j gamma) first.",
        lambda g: (_turn(-g), _turn(g)),
    ),
    (
        "real part alone",
        "you take cos(gamma), the real part alone. It does not tell gamma from -gamma, so there is no way back: "
        "cos(gamma) + j sin(gamma).",
        lambda g: (g.cos(), g.cos()),
    ),
    (
        "cos and sin exchanged",
        "your real part is the sine. It is the cosine: an angle of 0 must turn nothing, and exp(0) = 1 = cos(0).",
        lambda g: (1j * _turn(-g), -1j * _turn(g)),
        lambda g: (1j * _turn(-g), 1j * _turn(g)),
    ),
    (
        "no exp",
        "exp is missing: j gamma is the exponent. By itself it has modulus |gamma| and stretches; exp(j gamma) has "
        "modulus 1 and turns.",
        lambda g: (1j * g, -1j * g),
        lambda g: (g, -g),
        lambda g: (g, g),
    ),
    (
        "cos and sin apart",
        "cos(gamma) and sin(gamma) are the two parts of ONE number, delta: torch.complex(gamma.cos(), gamma.sin()). "
        "Its conjugate is the other number asked for.",
        lambda g: (g.cos(), g.sin()),
        lambda g: (g.cos(), -g.sin()),
    ),
    (
        "degrees",
        "you convert between degrees and radians. gamma is in radians, as exp, cos and sin expect: use it as it is.",
        *(
            lambda g, converted=converted: (_turn(converted(g)), _turn(-converted(g)))
            for converted in (torch.deg2rad, torch.rad2deg, lambda g: g * 180 / math.pi, lambda g: g / math.pi * 180)
        ),
    ),
    (
        "modulus and angle exchanged",
        "your modulus is gamma and your angle 1. torch.polar takes the modulus first: torch.polar(ones, gamma).",
        lambda g: (g * cmath.exp(1j), g * cmath.exp(-1j)),
        lambda g: (g * cmath.exp(1j), -g * cmath.exp(1j)),
    ),
)


def _sum_of_parts(sign: int, gamma: Tensor) -> float:
    return (gamma.cos() + sign * gamma.sin()).sum().item()


def _its_sum_of_parts(answer: Callable, name: str, gamma: Tensor) -> Tensor:
    number = answer(gamma.float())[name]
    return (number.real + number.imag).sum()


def _gradients(answer: Callable, rng: np.random.Generator) -> Result:
    """Chapter 05's look at the gradient, of delta and of its conjugate."""
    for name, sign in (("delta", 1), ("conjugate", -1)):
        result = _Loss(
            name=f"rotation, real and imaginary part of its {name} summed,",
            inputs=lambda rng: (_angles(rng)[0].double(),),
            reference=partial(_sum_of_parts, sign),
            mistakes=(),
            well_done="",
            tolerance=1e-5,  # of float32
        )._check(partial(_its_sum_of_parts, answer, name), rng)
        if result.status != PASSED:
            break
    return result


_rotation = _InTwoSteps(
    name="rotation",
    inputs=_angles,
    reference=_number_by_number,
    mistakes=tuple(Mistake(name, hint, _delta(slip)) for name, hint, *slips in ROTATIONS for slip in slips),
    well_done="Every number has modulus 1, and delta times its conjugate is 1.",
    always=((torch.tensor([[0.0, 1.0, -1.0, 2.0, 4.0]]),),),
    then=_gradients,
    tolerance=1e-5,  # of float32
)


def rotation(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(gamma)``, exp(j gamma) and exp(-j gamma), and the gradient of both."""
    return _rotation(_delta(answer) if callable(answer) else answer, seed)


# ---- 2: turning back ------------------------------------------------------------------------------------------------

_turned = partial(
    _two, ("phi", "back"), "Each number has an angle of its own; .conj() keeps the shape, .mH transposes."
)


def _sources(rng: np.random.Generator) -> tuple:
    """eta real in half of the trials, as in the released code; in half of them the target is phi."""
    B, k = rng.integers(2, 6, size=2)
    eta, gamma, target = (torch.tensor(part, dtype=torch.float32) for part in rng.normal(size=(3, B, k, 2)))
    eta[..., 1] *= float(rng.integers(0, 2))
    eta, gamma, target = torch.view_as_complex(eta), 2 * gamma[..., 0], torch.view_as_complex(target)
    return eta, gamma, _turn(gamma) * eta if rng.random() < 0.5 else target


def _by_polar_coordinates(eta, gamma, target) -> dict:
    """The angle of each number moved, its modulus kept."""
    eta, gamma, target = (part.numpy().astype(kind) for part, kind in ((eta, "c16"), (gamma, "f8"), (target, "c16")))

    def moved(z, by):
        angle = np.angle(z) + by
        return np.abs(z) * np.cos(angle) + 1j * np.abs(z) * np.sin(angle)

    return {"phi": moved(eta, gamma), "back": moved(target, -gamma)}


# As above: phi and back of eta e, delta d and target y.
TURNS = (
    (
        "phi conjugated",
        "you conjugate phi, or the target, and turn nothing: its angle changes sign, that is all. If eta is real, "
        "conj(phi) is eta exp(-j gamma), not eta. Conjugate delta, and multiply the target by that.",
        lambda e, d, y: (d * e, (d * e).conj()),
        lambda e, d, y: (d * e, y.conj()),
    ),
    (
        "product conjugated",
        "you conjugate the target along with delta. For a real target that is the same; a complex one comes out "
        "mirrored. Conjugate delta alone, then multiply.",
        lambda e, d, y: (d * e, (d * y).conj()),
    ),
    (
        "turned on",
        "you turn the target by delta once more: it ends twice as far from where it should come back to. Back is by "
        "the conjugate, exp(-j gamma).",
        lambda e, d, y: (d * e, d * y),
    ),
    (
        "eta turned back",
        "you turn phi back, not the target, and get eta, which you had. What is turned back is the target: only if it "
        "is where it should be do you find eta.",
        lambda e, d, y: (d * e, e),
    ),
    ("target as it came", "you return the target as it came.", lambda e, d, y: (d * e, y)),
    ("swapped", "you return (back, phi). Asked for is phi first.", lambda e, d, y: (d.conj() * y, d * e)),
    (
        "both turned back",
        "you turn eta by the conjugate, too. The text turns eta by delta = exp(j gamma); only the target goes back.",
        lambda e, d, y: (d.conj() * e, d.conj() * y),
    ),
    (
        "target conjugated, not delta",
        "you conjugate the target, not delta. What comes out is mirrored: the conjugate of what is asked for. "
        "Conjugate delta, and leave the target as it is.",
        lambda e, d, y: (d * e, d * y.conj()),
    ),
    (
        "both reversed",
        "both turn the wrong way. eta goes forward, by delta = exp(j gamma), and the target back, by the conjugate.",
        lambda e, d, y: (d.conj() * e, d * y),
    ),
    (
        "eta and target exchanged",
        "you turn the target by delta, and eta back. It is the source, eta, that the text turns; the target goes back.",
        lambda e, d, y: (d * y, d.conj() * e),
    ),
)


def _by(delta: Callable, eta, gamma, target) -> tuple:
    """phi and back with ``delta(gamma)``, a number and its conjugate, in the place of the right ones."""
    forward, backward = delta(gamma)
    return forward * eta, backward * target


REAL, QUARTERS = torch.tensor([[2.0 + 0j, -1.0 + 0j]]), torch.tensor([[math.pi / 2, math.pi / 2]])
_rotate_back = Exercise(
    name="rotate_back",
    inputs=_sources,
    reference=_by_polar_coordinates,
    mistakes=tuple(
        Mistake(name, hint, _turned(lambda eta, gamma, target, slip=slip: slip(eta, _turn(gamma), target)))
        for name, hint, *slips in TURNS
        for slip in slips
    )
    + tuple(Mistake(name, hint, _turned(partial(_by, slip))) for name, hint, *slips in ROTATIONS for slip in slips),
    well_done="Where the target is phi, you are back at eta.",
    always=(
        (REAL, QUARTERS, torch.complex(0 * QUARTERS, REAL.real)),  # the target is phi
        (torch.tensor([[1 + 2j, 2 - 1j]]), QUARTERS / 2, torch.tensor([[3 - 1j, 1 + 1j]])),  # nothing real, nor phi
    ),
    tolerance=1e-5,  # of float32
)


def rotate_back(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(eta, gamma, target)``, exp(j gamma) eta and exp(-j gamma) target."""
    return _rotate_back(_turned(answer) if callable(answer) else answer, seed)


# ---- 3: two layers in one -------------------------------------------------------------------------------------------


def _begun_alike(make: Callable, *arguments):
    """Made with the same random numbers every time, so that a layer left as it began is known."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(*arguments)


def _merged(answer: Callable) -> Callable:
    """Weight and bias of the layer that ``answer`` makes of two, which must stay as they were."""

    def by_name(W1, b1, W2, b2):
        layers = [nn.Linear(W.shape[1], W.shape[0]) for W in (W1, W2)]
        for layer, W, b in zip(layers, (W1, W2), (b1, b2), strict=True):
            layer.load_state_dict({"weight": W, "bias": b})
        try:
            one = _begun_alike(answer, *layers)
        except (RuntimeError, TypeError) as error:
            if not any(words in str(error) for words in ("leaf Variable", "as parameter")):
                raise
            write = "Write under torch.no_grad(), as in: with torch.no_grad(): one.weight.copy_(...)"
            raise type(error)(f"{error}\n{write}") from error
        if one is None:
            return None
        kept = [[layer.weight, layer.bias] for layer in layers]
        if not all(map(torch.equal, [*kept[0], *kept[1]], [W1, b1, W2, b2])):
            raise ValueError(
                "you changed first or second. Leave both, fill one of your own: nn.Linear(first.in_features, ...)"
            )
        if not isinstance(one, nn.Linear):
            raise ValueError(f"return ONE nn.Linear; got a {type(one).__name__}")
        shape = (len(W2), W1.shape[1])
        if one.weight.shape != shape:
            raise ValueError(f"its weight must have the shape (out, in), here {shape}; got {tuple(one.weight.shape)}")
        return {"weight": one.weight, "bias": torch.zeros(len(W2)) if one.bias is None else one.bias}

    return by_name


def _layers(*widths: int) -> Callable:
    """Two layers of these widths; where all are the same, a product taken the wrong way round can be told."""

    def draw(rng: np.random.Generator) -> tuple:
        shapes = [part for into, out in pairwise(widths) for part in ((out, into), (out,))]
        return tuple(torch.tensor(rng.normal(size=shape), dtype=torch.float32) for shape in shapes)

    return draw


def _by_questions(W1, b1, W2, b2) -> dict:
    """What two layers give at 0 is the bias, and what each unit vector adds to that a column of the weight."""

    def both(x):
        hidden = [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(W1, b1, strict=True)]
        return [sum(w * v for w, v in zip(row, hidden, strict=True)) + b for row, b in zip(W2, b2, strict=True)]

    W1, b1, W2, b2 = (part.double().tolist() for part in (W1, b1, W2, b2))
    n = len(W1[0])
    bias = np.array(both([0.0] * n))
    columns = [np.array(both([float(i == j) for j in range(n)])) - bias for i in range(n)]
    return {"weight": np.stack(columns, axis=1), "bias": bias}


def _fresh(W1, W2) -> nn.Linear:
    return _begun_alike(nn.Linear, W1.shape[1], len(W2))


NOT_FILLED = (
    "weight, bias or both are still the random numbers that every new nn.Linear begins with. Write into both: "
    "with torch.no_grad(): one.weight.copy_(...), and one.bias.copy_(...)."
)
# Biases and weights with a slip, of (W1, b1, W2, b2); a wrong weight is told whatever the bias.
BIASES = (
    (
        "W2 b1 lost",
        "your bias is second's alone. What first adds, b1, goes through second as well, and comes out as W2 b1.",
        lambda W1, b1, W2, b2: b2,
    ),
    (
        "b2 lost",
        "second's own bias is missing: W2 b1 is what becomes of first's, and b2 comes on top.",
        lambda W1, b1, W2, b2: W2 @ b1,
    ),
    (
        "b1 not multiplied",
        "you add the two biases. b1 is added before second, and so goes through it: W2 b1.",
        lambda W1, b1, W2, b2: b1 + b2,
    ),
    (
        "no bias",
        "your layer has no bias, or one of zeros. Both layers had one, and W2 b1 + b2 is left of them.",
        lambda W1, b1, W2, b2: 0 * b2,
    ),
    ("not filled", NOT_FILLED, lambda W1, b1, W2, b2: _fresh(W1, W2).bias),
)
WEIGHTS = (
    (
        "wrong order",
        "your weight is W1 W2: that is second first. x meets first's weight first, W2 (W1 x): W2 stands on the left.",
        lambda W1, W2: W1 @ W2,
    ),
    (
        "transposed",
        "your weight is transposed. nn.Linear keeps (out, in) and transposes by itself: W2 W1, as they are.",
        lambda W1, W2: (W2 @ W1).T,
        lambda W1, W2: (W1 @ W2).T,
    ),
    ("not filled", NOT_FILLED, lambda W1, W2: _fresh(W1, W2).weight),
)


def _filled(weight: Callable, bias: Callable) -> Callable:
    return lambda W1, b1, W2, b2: {"weight": weight(W1, W2), "bias": bias(W1, b1, W2, b2)}


_of_three_widths = Exercise("collapse", _layers(4, 3, 2), _by_questions, (), well_done="", tolerance=1e-5)
_collapse = _InTwoSteps(
    name="collapse",
    inputs=_layers(3, 3, 3),
    reference=_by_questions,
    mistakes=(
        *(Mistake(name, hint, _filled(lambda W1, W2: W2 @ W1, bias)) for name, hint, bias in BIASES),
        *(
            Mistake(name, hint, _filled(weight, bias))
            for name, hint, *weights in WEIGHTS
            for weight in weights
            for bias in (
                lambda W1, b1, W2, b2: W2 @ b1 + b2,
                lambda W1, b1, W2, b2: W1 @ b2 + b1,
                *(slip for _, _, slip in BIASES),
            )
        ),
    ),
    well_done="Two layers with nothing between them are one: depth without a bend buys nothing.",
    always=(tuple(map(torch.tensor, ([[1.0, 2.0], [0.0, 1.0]], [1.0, 0.0], [[0.0, 1.0], [3.0, 0.0]], [0.0, 5.0]))),),
    then=_of_three_widths._check,
    tolerance=1e-5,  # of float32
)


def collapse(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(first, second)``, one nn.Linear in place of two."""
    return _collapse(_merged(answer) if callable(answer) else answer, seed)


# ---- 4: the softmax as printed --------------------------------------------------------------------------------------

_losses = partial(_two, ("printed", "right"), "A loss is one number.", shape=())
_with_gradient = replace(  # chapter 05's look at the gradient
    batch_softmax,
    name="note_softmax, its second loss,",
    inputs=_pairs,
    reference=lambda query, target: _choice_by_choice(query, target, 1.0),
    always=(),
    mistakes=(),
)


def _term_by_term(query, target) -> dict:
    """As printed, N equal terms; and each query's choice in turn."""
    own = [float(q @ y) for q, y in zip(query, target, strict=True)]
    printed = np.mean([np.logaddexp.reduce([k for _ in own]) - k for k in own])
    return {"printed": printed, "right": _choice_by_choice(query, target, 1.0)}


def _loss(**slip) -> Callable:
    return partial(_softmax(**slip), temperature=1.0)


AS_PRINTED, RIGHT = _loss(below="own"), _loss()


def _others_own(query, target):
    own = (query * target).sum(dim=1)
    return (own.logsumexp(dim=0) - own).mean()


SMALL = (*(10.0**-n for n in range(5, 17)), *(torch.finfo(kind).eps for kind in (torch.float32, torch.float64)))
# Name, hint, and pairs of losses with the slip.
LOSSES = (
    (
        "one term",
        "your printed loss is 0: your denominator is the one term exp(kappa(theta_i, y_i)). The sum "
        "over m has N terms. They are equal, but there are N of them, and each quotient is 1 / N.",
        (lambda query, target: 0.0, RIGHT),
    ),
    (
        "others' own scores",
        "your printed denominator sums exp(kappa(theta_m, y_m)), each query with its own target. "
        "There is no m in the printed terms: it is kappa(theta_i, y_i), N times over.",
        (_others_own, RIGHT),
    ),
    (
        "log d",
        "your printed loss is log d. The sum has a term for each of the N pairs, not for each of the d "
        "numbers: len(query).",
        (lambda query, target: math.log(query.shape[1]), RIGHT),
    ),
    (
        "printed read as meant",
        "your two losses are the same. Look at the printed denominator again: m counts the terms, but no m stands "
        "in them. Every term is exp(kappa(theta_i, y_i)). Compute just that.",
        (RIGHT, RIGHT),
    ),
    (
        "both as printed",
        "both your losses are as printed. In the right one term m of the denominator belongs to target m, "
        "exp(kappa(theta_i, y_m)): without other targets there is nothing to choose from.",
        (AS_PRINTED, AS_PRINTED),
    ),
    ("swapped", "you return (right, printed). Asked for is the printed one first.", (RIGHT, AS_PRINTED)),
    (
        "queries run in the printed one",
        "in your printed denominator the query changes from term to term, exp(kappa(theta_m, y_i)). "
        "There is no m in the "
        "printed terms: it is query i with its own target, N times over.",
        (_loss(swapped=True), RIGHT),
    ),
    (
        "targets choose",
        "in your right loss the softmax runs over the queries: targets choose. Here queries choose among targets, "
        "each row of query @ target.T is one choice (dim=1).",
        (AS_PRINTED, _loss(swapped=True)),
    ),
    (
        "both directions",
        "your right loss is the mean of both directions. Here only queries choose among targets.",
        (AS_PRINTED, _loss(ways=2)),
    ),
    (
        "every target right",
        "you average -log p over all targets of a row, as if each were the right one. Of row i only entry i "
        "counts, the diagonal.",
        (AS_PRINTED, lambda query, target: -torch.log_softmax(query @ target.T, dim=1).mean()),
    ),
    (
        "own target left out",
        "your right denominator leaves the own target out. It is one of the candidates, j runs over all.",
        (AS_PRINTED, _loss(below="others")),
    ),
    (
        "cosines",
        "you normalise the rows. k is the dot product of the rows as they come.",
        (AS_PRINTED, _loss(unit=True)),
    ),
    (
        "summed",
        "divide by N: both losses are means over queries.",
        (AS_PRINTED, _loss(mean=False)),
        (_loss(below="own", mean=False), RIGHT),
        (_loss(below="own", mean=False), _loss(mean=False)),
    ),
    (
        "sign",
        "the sign is wrong: a loss is MINUS the logarithm of the probability.",
        (_loss(below="own", sign=-1.0), _loss(sign=-1.0)),
    ),
    (
        "lifted",
        "you add a small number inside the log (or cut off there). Then no pair can cost more than the log of that, "
        "and the worst pairs cost too little. torch.logsumexp and torch.log_softmax need no such help.",
        *(
            (printed, lambda q, y, by=by: -(torch.softmax(q @ y.T, dim=1).diagonal() + by).log().mean())
            for by in SMALL
            for printed in (AS_PRINTED, lambda q, y, by=by: -math.log(1 / len(q) + by))
        ),
    ),
)
# Ways that go wrong on large scores: name, hint, what is subtracted before exp is taken.
RANGES = (
    (
        "exp overflows",
        "it is right until scores are large. exp of a number above 709 is infinite (in float32 above 88), and "
        "infinite over infinite is no number. torch.logsumexp subtracts the maximum first; use it in both losses.",
        lambda S: 0.0,
    ),
    (
        "one maximum for all",
        "it is right until scores lie far apart. You subtract ONE maximum from all of them, and exp makes 0 of a whole "
        "row that lies far below. Each row's own maximum is to be subtracted, S.amax(dim=1, keepdim=True): "
        "torch.logsumexp does that.",
        lambda S: S.max(),
    ),
    (
        "log of 0",
        "it is right until scores lie far apart. Then exp, or a probability made of it, is too small for a number and "
        "becomes 0, and log of 0 is infinite. Take the logarithm with torch.logsumexp or torch.log_softmax, in both "
        "losses: they do without the probability.",
        lambda S: S.amax(dim=1, keepdim=True),
    ),
)


def _pair(printed: Callable, right: Callable) -> Callable:
    return _losses(lambda query, target: (printed(query, target), right(query, target)))


def _out_of_range() -> tuple[Mistake, ...]:
    """Each way in the right loss, the printed one or both, where the right one's is named."""
    ways = [
        (name, hint, {"logits": lambda S, t, less=less: S - less(S), "naive": naive})
        for name, hint, less in RANGES
        for naive in NAIVE
    ]
    safe = ("", "", {})  # first, as some ways do no harm in one of the two
    return tuple(
        Mistake(
            *(right if right is not safe else printed)[:2], _pair(_loss(below="own", **printed[2]), _loss(**right[2]))
        )
        for right, printed in product((safe, *ways), repeat=2)
        if (right, printed) != (safe, safe)
    )


def _square(*scores: float) -> tuple:
    """Pairs without anything in common, whose own scores are the squares of these."""
    rows = torch.diag(torch.tensor(scores, dtype=torch.float64))
    return rows, rows


_on_large_scores = _InTwoSteps(
    name="note_softmax",
    inputs=_pairs,
    reference=_term_by_term,
    mistakes=_out_of_range(),
    well_done="",
    always=(_large(), _square(40.0, 40.0), _square(40.0, 1.0)),  # which way it was, only all of them tell
    trials=0,
    then=lambda answer, rng: _with_gradient._check(lambda *given: answer(*given)["right"], rng),
)
UNLIKELY = torch.tensor([[6.0, 0.0, 0.0], [0.0, 6.0, 0.0]], dtype=torch.float64)  # the own target has p = exp(-36)
_note_softmax = _InTwoSteps(
    name="note_softmax",
    inputs=_pairs,
    reference=_term_by_term,
    mistakes=tuple(Mistake(name, hint, _pair(*pair)) for name, hint, *pairs in LOSSES for pair in pairs),
    well_done="The printed loss is log N, whatever query and target are: it cannot teach anything.",
    always=(_square(1.0, 1.0), (UNLIKELY, UNLIKELY.flip(0))),
    then=_on_large_scores._check,
)


def note_softmax(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(query, target)``, the loss as printed and the right one, and the gradient of the right one."""
    return _note_softmax(_losses(answer) if callable(answer) else answer, seed)
