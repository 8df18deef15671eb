"""Checks of chapter 12, GXN paints: a sentence's cloud, wrong sentences, what the judge and the painter are taught."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commonspace.checks.ch05 import NO_GRADIENT
from commonspace.checks.ch08 import _InTwoSteps
from commonspace.checks.ch09 import _returned, _single, _slips
from commonspace.checks.ch11 import _advised
from commonspace.checks.exercise import FAILED, PASSED, Exercise, Mistake, Result

# ---- 1: the cloud ---------------------------------------------------------------------------------------------------


def _clouds(rng: np.random.Generator) -> tuple:
    size = (int(rng.integers(2, 4)), int(rng.integers(2, 5)))
    return tuple(torch.from_numpy(np.round(rng.normal(size=size), 2)) for _ in range(3))


def _coordinate_by_coordinate(mu, logvar, eps) -> dict:
    """By the standard deviation of each coordinate; ln of the two densities' quotient, integrated."""
    c, kl = np.zeros(mu.shape), np.zeros(mu.shape)
    for at in np.ndindex(*mu.shape):
        mean, deviation = float(mu[at]), np.sqrt(np.e ** float(logvar[at]))
        c[at] = mean + deviation * float(eps[at])
        kl[at] = (mean**2 + deviation**2 - 1) / 2 - np.log(deviation)
    return {"c": c, "KL": kl.mean()}


def _cloud(*, scale="deviation", by="eps", at="mu", var="variance", mean="squared", log=1.0, one=1.0, sign=1.0,
           half=0.5, over="all", way="to the unit cloud"):  # fmt: skip
    """The point and the KL with one slip. ``scale``: what stands before eps; ``by``: what in its place."""

    def answer(mu, logvar, eps):
        spread = {
            "deviation": (logvar / 2).exp(),
            "variance": logvar.exp(),
            "half the variance": logvar.exp() / 2,
            "logvar": logvar,
            "half logvar": logvar / 2,
            "inverse": (-logvar / 2).exp(),
            "one": torch.ones_like(logvar),
        }[scale]
        c = {"eps": spread * eps, "none": torch.zeros_like(mu), "one": spread, "added": spread + eps}[by]
        c = {"mu": mu + c, "none": c, "scaled": mu * spread + c}[at]
        # variance and its logarithm, if logvar is taken for what it is, or for the logarithm of the deviation
        v = {"variance": logvar, "deviation": logvar / 2, "square": 2 * logvar, "none": torch.zeros_like(logvar)}[var]
        log_v = log * (v if var == "square" else torch.zeros_like(logvar) if var == "none" else logvar)
        square = {"squared": mu.square(), "plain": mu, "none": torch.zeros_like(mu), "abs": mu.abs()}[mean]
        kl = square + v.exp() - one - log_v
        if way == "turned round":
            kl = (mu.square() + 1) * (-logvar).exp() - 1 + logvar
        kl = sign * half * kl
        B, D = mu.shape
        return c, kl.sum() / {"all": B * D, "sum": 1, "sentences": B, "coordinates": D}[over]

    return answer


CLOUDS = (
    (
        "variance taken for the deviation",
        "you multiply eps by exp(logvar). That is the VARIANCE; the standard deviation is its root, exp(logvar / 2). "
        "With a variance of 9 your points lie three times too far out.",
        {"scale": "variance"},
        {"scale": "half the variance"},
    ),
    (
        "no exp",
        "you multiply eps by logvar itself, or half of it. It is a logarithm, and may be negative: the standard "
        "deviation is exp(logvar / 2).",
        {"scale": "logvar"},
        {"scale": "half logvar"},
    ),
    (
        "minus logvar",
        "you multiply eps by exp(-logvar / 2): a wide cloud becomes narrow. The deviation is exp(+logvar / 2).",
        {"scale": "inverse"},
    ),
    (
        "no deviation",
        "eps stands there without its deviation: each cloud is as wide as any other, and logvar learns nothing from "
        "the pictures. Multiply eps by exp(logvar / 2).",
        {"scale": "one"},
    ),
    (
        "no eps",
        "eps is not in your point, or not as a factor: the point must lie eps deviations from mu. Without chance the "
        "cloud is a point, and sentences near to this one are never painted.",
        {"by": "none"},
        {"by": "one"},
        {"by": "added"},
    ),
    (
        "mu in the wrong place",
        "mu is missing from your point, or is multiplied by the deviation. The cloud lies around mu: mu is added, as "
        "it is.",
        {"at": "none"},
        {"at": "scaled"},
    ),
    (
        "deviation in the KL",
        "your KL takes exp(logvar / 2), the deviation, or the square of the variance. It has the VARIANCE in it, which "
        "is exp(logvar), and its logarithm, which is logvar.",
        {"var": "deviation"},
        {"var": "square"},
    ),
    (
        "variance half missing",
        "your KL looks at mu alone. Then nothing keeps the deviation: it shrinks to 0, and the cloud to a point. "
        "sigma^2 - 1 - log sigma^2 is the other half.",
        {"var": "none"},
    ),
    (
        "mean half missing",
        "the squares of mu are not in your KL, or not squared. They keep the clouds near to 0.",
        {"mean": "none"},
        {"mean": "plain"},
        {"mean": "abs"},
    ),
    (
        "a term of the KL",
        "a term of your KL is missing, or has the wrong sign: it is mu^2 + exp(logvar) - 1 - logvar. For mu = 0 and "
        "logvar = 0 it must be 0, and nowhere less.",
        {"log": 0.0},
        {"log": -1.0},
        {"one": 0.0},
        {"one": -1.0},
    ),
    ("KL without the half", "your KL is twice as large: the 1/2 before it is missing.", {"half": 1.0}),
    (
        "sign of the KL",
        "your KL has the wrong sign. A distance of clouds is 0 or more; the textbooks' minus stands before 1 + log "
        "sigma^2 - mu^2 - sigma^2.",
        {"sign": -1.0},
    ),
    (
        "KL turned round",
        "yours is the KL from N(0, 1) to the cloud. Asked for is the other way round; they differ.",
        {"way": "turned round"},
    ),
    (
        "KL not averaged",
        "your KL is a sum, over the sentences or the coordinates. Asked for is the mean over both: then its weight "
        "means the same whatever the number of coordinates.",
        {"over": "sum"},
        {"over": "sentences"},
        {"over": "coordinates"},
    ),
)
OWN_NOISE = (
    "your point is another one at each call: you draw the noise yourself. It is given here, eps, so that the same "
    "point can be made again."
)
CUT = {
    "mu detached": "the value is right, but no gradient flows from the point to mu: the sentence encoder learns "
    "nothing from the picture that is painted there. Leave mu as it is.",
    "logvar detached": "the value is right, but no gradient flows from the point to logvar: how wide a cloud may be is "
    "then never learned from the pictures. Leave logvar as it is; eps is what has no gradient.",
    "KL detached": "the value is right, but the KL's gradient is not: nothing keeps the clouds near N(0, 1). Return "
    "the KL itself, computed with torch from mu and logvar.",
}


def _point_and_kl(answer: Callable) -> Callable:
    """What is returned, by name."""

    def by_name(mu, logvar, eps):
        got = answer(mu, logvar, eps)
        if got is None:
            return None
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            came = f"{len(got)} of them" if isinstance(got, (tuple, list)) else f"one {type(got).__name__}"
            raise ValueError(f"return two things, the points c and the KL, with a comma between them; got {came}")
        wanted = (("c", tuple(mu.shape), "One point for each sentence."), ("KL", (), "The KL is one number, a mean."))
        return {
            name: _returned(lambda *_, shape=shape: [shape], f"{advice} c comes first.", lambda *_, part=part: part)()
            for part, (name, shape, advice) in zip(got, wanted, strict=True)
        }

    return by_name


def _slopes_of_both(answer: Callable, rng: np.random.Generator) -> Result:
    """The gradients of the points, weighed at random, and of the KL, with respect to mu and logvar."""
    mu, logvar, eps = (a.float() for a in _clouds(rng))
    weights, leaves = torch.from_numpy(rng.uniform(1, 2, size=mu.shape)).float(), (mu, logvar)
    expected = {
        "mu detached": weights,
        "logvar detached": weights * eps * (logvar / 2).exp() / 2,
        "KL detached": torch.cat([mu, (logvar.exp() - 1) / 2]) / mu.numel(),
    }
    mu.requires_grad_(), logvar.requires_grad_()
    try:
        found = answer(mu, logvar, eps)
    except (RuntimeError, TypeError):  # numpy takes no tensor that has a gradient
        found = {"c": torch.zeros(()), "KL": torch.zeros(())}
    if not any(part.requires_grad for part in found.values()):
        return Result(FAILED, f"condition is not right yet: the value is right, but {NO_GRADIENT}", "no gradient")
    to_mu, to_logvar = _slopes_back((weights * found["c"]).sum(), leaves)
    of_kl = torch.cat(_slopes_back(found["KL"], leaves))
    got = dict(zip(expected, (to_mu, to_logvar, of_kl), strict=True))
    cut = [name for name, slope in expected.items() if not torch.allclose(got[name], slope, rtol=1e-4, atol=1e-5)]
    if not cut:
        return Result(PASSED, "")
    hints = "\nAnd then: ".join(CUT[name] for name in cut)
    return Result(FAILED, f"condition is not right yet: {hints}", "; ".join(cut))


def _slopes_back(value: Tensor, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The gradient with respect to each of ``leaves``; 0 where there is none."""
    if not value.requires_grad:
        return tuple(torch.zeros_like(leaf) for leaf in leaves)
    return torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)


@dataclass(frozen=True)
class _Cloud(_InTwoSteps):
    """Who draws the noise himself is told so."""

    def _check(self, answer: Callable, rng: np.random.Generator) -> Result:
        result = super()._check(answer, rng)
        if result.status == FAILED and result.mistake is None:
            points = []
            with torch.random.fork_rng(devices=[]):
                for chance in (1, 2):
                    torch.manual_seed(chance)
                    try:
                        points.append(answer(*_single(_clouds)(np.random.default_rng(0)))["c"])
                    except Exception:  # it is in the result already
                        return result
            if not torch.allclose(*points, equal_nan=True):
                return Result(FAILED, f"{self.name} is not right yet: {OWN_NOISE}", "own noise")
        return result


_condition = _Cloud(
    name="condition",
    inputs=_single(_clouds),
    reference=_coordinate_by_coordinate,
    mistakes=_slips(lambda **way: _point_and_kl(_cloud(**way)), CLOUDS),
    well_done="The point lies eps deviations from mu, the KL is 0 for N(0, 1) alone, and both have their gradient.",
    always=(
        (torch.tensor([[1.0, -2.0]]), torch.tensor([[9.0, 0.25]]).log(), torch.tensor([[1.0, 2.0]])),
        (torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([[0.5, -1.0]])),
    ),
    then=_slopes_of_both,
    tolerance=1e-5,  # of float32
)


def condition(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(mu, logvar, eps)``, the points (B, D) and the mean KL, and their gradients."""
    return _condition(_point_and_kl(answer) if callable(answer) else answer, seed)


def _singly(make: Callable, slips: tuple[tuple, ...]) -> tuple[Mistake, ...]:
    """As `_slips`, but each alone."""
    return tuple(Mistake(name, hint, make(**way)) for name, hint, *ways in slips for way in ways)


# ---- 2: wrong sentences ---------------------------------------------------------------------------------------------

CALLS = 200  # so that what may come comes


def _pairs(rng: np.random.Generator) -> tuple:
    """Six or seven pairs, two of them of one image, and often two of another one."""
    image = rng.permutation([0, 0, 1, int(rng.integers(1, 3)), 3, 4, 5][: rng.integers(6, 8)])
    return (torch.from_numpy(rng.permutation(40)[image]),)


def _as_asked(image_id) -> dict:
    """What is seen of sentences that are all of another image, where each may come."""
    return {
        "a picture beside its own sentence": False,
        "beside another sentence of the same image": False,
        "beside a sentence of another image": True,
        "other sentences at another call": True,
        "all sentences of other images may come": True,
    }


def _seen_often(draw: Callable) -> Callable:
    """What is seen of the sentences that ``draw(image_id)`` chooses in many calls."""

    def seen(image_id):
        B, calls = len(image_id), []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(image_id.sum()))
            for _ in range(CALLS):
                wrong = draw(image_id)
                if wrong is None:
                    return None
                wrong = torch.as_tensor(wrong)
                if wrong.shape != (B,):
                    raise ValueError(f"return the number of one pair for each pair, ({B},); got {tuple(wrong.shape)}")
                if wrong.is_floating_point() or wrong.dtype == torch.bool:
                    raise ValueError(f"numbers of pairs are integers, to index mu with; got {wrong.dtype}")
                if wrong.min() < 0 or wrong.max() >= B:
                    raise ValueError(
                        f"the pairs have the numbers 0 to {B - 1}; got {wrong.tolist()}. Asked for are numbers of "
                        "pairs, places in the batch, not ids of images"
                    )
                calls.append(wrong.long())
        chosen = torch.stack(calls)  # (CALLS, B)
        may = torch.zeros(B, B, dtype=torch.bool)
        may[torch.arange(B).expand_as(chosen), chosen] = True
        own, other = torch.eye(B, dtype=torch.bool), image_id[:, None] != image_id
        facts = (
            (may & own).any(),
            (may & ~own & ~other).any(),
            (may & other).any(),
            (chosen != chosen[0]).any(),
            may[other].all(),
        )
        return dict(zip(_as_asked(image_id), (bool(fact) for fact in facts), strict=True))

    return seen


def _chosen(*, among="other", how="any"):
    """Wrong sentences with one slip. ``among``: which may be taken; ``how`` one of them is."""

    def draw(image_id):
        B = len(image_id)
        off, other = ~torch.eye(B, dtype=torch.bool), image_id[:, None] != image_id
        if among in ("roll", "roll back"):
            return torch.arange(B).roll(1 if among == "roll" else -1)
        may = {"other": other, "off": off, "all": off | ~off, "same": ~other, "self": ~off, "twins": off & ~other}[
            among
        ]
        if among == "twins":
            may = may | (~may.any(dim=1, keepdim=True) & ~off)  # who has no twin has itself
        if how == "one of each image":
            first = torch.tensor([i == image_id.tolist().index(one) for i, one in enumerate(image_id.tolist())])
            may = may & first
        if how == "first":
            return may.int().argmax(dim=1)
        return torch.multinomial(may.float(), 1)[:, 0]

    return draw


WRONG = (
    (
        "the same pairs",
        "you give each picture its own sentence: nothing about these pairs is wrong. The sentences must change places, "
        "and the pictures not.",
        {"among": "self"},
    ),
    (
        "own sentence",
        "a picture may get its own sentence: a shuffle leaves some in their places. The judge would then be taught "
        "that it is wrong. Draw among the pairs of OTHER images.",
        {"among": "all"},
    ),
    (
        "the same image",
        "no picture gets its own sentence, but it may get another one of the SAME image. That is a right sentence, and "
        "the judge would be taught to call it wrong. Leave out every pair with the same image_id.",
        {"among": "off"},
    ),
    (
        "rolled by one",
        "you roll the batch by one. Where neighbours are of the same image, the sentence is a right one; and each "
        "picture meets the same sentence at each call. Compare image_id, and draw.",
        {"among": "roll"},
        {"among": "roll back"},
    ),
    (
        "mask turned round",
        "you draw among the pairs of the SAME image: all of these sentences are right. Draw where the ids differ.",
        {"among": "same"},
        {"among": "twins"},
    ),
    (
        "always the same",
        "the sentences are of other images, but at each call the same ones. The judge would know these few by heart: "
        "draw anew at each call, among all that may be.",
        {"how": "first"},
    ),
    (
        "some never come",
        "the sentences are of other images, but some can never come: you draw an image first, and take one sentence of "
        "it. Draw among all PAIRS of other images.",
        {"how": "one of each image"},
    ),
)
_wrong_captions = Exercise(
    name="wrong_captions",
    inputs=_pairs,
    reference=_as_asked,
    mistakes=_singly(lambda **way: _seen_often(_chosen(**way)), WRONG),
    well_done="No picture meets a sentence of its own image, and each other one may come.",
    always=((torch.tensor([4, 4, 9, 0, 9, 2]),),),
    trials=5,
)


def wrong_captions(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(image_id)``, for each pair the number of one of another image (B,), by many calls."""
    return _wrong_captions(_seen_often(answer) if callable(answer) else answer, seed)


# ---- 3: what the judge is taught ------------------------------------------------------------------------------------

NUMPY = (
    ("that requires grad", "numpy has no gradient to give: nothing could be trained with it. Compute with torch."),
)


class _Judge(nn.Module):
    """Each pixel with each coordinate of the sentence: images (B, P), mu (B, D), weights (P + 1, D + 1) -> (B,)."""

    def __init__(self, weights: Tensor):
        super().__init__()
        self.weights = nn.Parameter(weights.clone())

    def forward(self, images: Tensor, mu: Tensor) -> Tensor:
        pixels, words = (F.pad(part, (0, 1), value=1.0) for part in (torch.tanh(images), mu))
        return torch.einsum("bp,pd,bd->b", pixels, self.weights, words)


def _trial(rng: np.random.Generator, large: float = 1.0) -> tuple:
    """A judge, real pictures, fakes, sentences and others, two weights that are neither 1 nor alike."""
    B, P, D = int(rng.integers(3, 6)), 4, 3
    sizes = (P + 1, D + 1), (B, P), (B, P), (B, D), (B, D)
    judge, *shown = (torch.tensor(rng.normal(size=size), dtype=torch.float32) for size in sizes)
    return large * judge, *shown, *rng.permutation([0.25, 0.5, 2.0])[:2].tolist()


def _logit(weights: np.ndarray, picture: Tensor, mu: Tensor) -> tuple:
    """What the judge says of one picture and sentence, and the gradient with respect to its weights."""
    slope = np.outer([*np.tanh(picture.double().numpy()), 1.0], [*mu.tolist(), 1.0])
    return float((weights * slope).sum()), slope


def _sentenced(judge, images, fake, mu, wrong_mu, fake_weight, wrong_weight) -> dict:
    """Each picture in turn: what it costs, and how the judge's weights must change. All others get nothing."""
    loss, slope, W = 0.0, np.zeros(judge.shape), judge.double().numpy()
    for i in range(len(images)):
        for picture, words, real, weight in (
            (images[i], mu[i], True, 1.0),
            (fake[i], mu[i], False, fake_weight),
            (images[i], wrong_mu[i], False, wrong_weight),
        ):
            x, of_weights = _logit(W, picture, words)
            loss += weight * np.logaddexp(0.0, -x if real else x) / len(images)
            slope += weight * (1 / (1 + np.exp(-x)) - real) * of_weights / len(images)
    nothing = {f"gradient to {name}": np.zeros(part.shape) for name, part in (("fake", fake), ("mu", mu))}
    return {"loss": loss, "gradient to the judge": slope, **nothing, "gradient to wrong_mu": np.zeros(wrong_mu.shape)}


def _gone_back(loss: Tensor, leaves: dict[str, Tensor]) -> dict:
    """The loss, and the gradients that a backward pass leaves behind."""
    if loss.requires_grad:
        loss.backward()
    gradients = {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()}
    return {"loss": loss.detach(), **{f"gradient to {name}": gradient for name, gradient in gradients.items()}}


_number = partial(_returned, lambda *_: [()], "A loss is one number: the mean over the batch.")


def _teaching(answer: Callable) -> Callable:
    """The loss, and to whom its gradient flows."""

    def teach(judge, images, fake, mu, wrong_mu, fake_weight, wrong_weight):
        network = _Judge(judge)
        leaves = {"fake": fake, "mu": mu, "wrong_mu": wrong_mu}
        leaves = {name: part.clone().requires_grad_() for name, part in leaves.items()}
        shown = (leaf.clone() for leaf in leaves.values())  # they come out of other networks
        loss = _number(answer)(network, images.clone(), *shown, fake_weight, wrong_weight)
        return None if loss is None else _gone_back(loss, {"the judge": network.weights, **leaves})

    return teach


def _minus_log(of: str) -> Callable:
    """-log of the sigmoid of x, computed in that way; ``yes=False``: -log of 1 less it."""

    def cost(x: Tensor, yes: bool) -> Tensor:
        if of == "probability":
            return -(torch.sigmoid(x) if yes else 1 - torch.sigmoid(x)).log()
        if of == "clamped":
            return F.binary_cross_entropy(torch.sigmoid(x), torch.full_like(x, float(yes)), reduction="none")
        if of == "logit taken for D":
            return -(x if yes else 1 - x).log()
        if of.startswith("lifted"):
            lift = float(of.split()[1])
            return -((torch.sigmoid(x) if yes else 1 - torch.sigmoid(x)) + lift).log()
        x = torch.sigmoid(x) if of == "twice" else x
        return F.softplus(-x if yes else x)

    return cost


HOW = (
    (
        "sigmoid twice",
        "the sigmoid is taken twice. The judge gives logits, and softplus (or F.binary_cross_entropy_with_logits) "
        "takes them as they are.",
        {"of": "twice"},
    ),
    (
        "logits taken for probabilities",
        "you take the logarithm of the logits. They are any numbers, and of a negative one there is none: D is their "
        "sigmoid.",
        {"of": "logit taken for D"},
    ),
    (
        "log of 0",
        "it is right until a logit is large: then the sigmoid is 0 or 1 to the last digit, and its logarithm infinite "
        "(or cut off at 100). -log D is softplus(-logit), and -log(1 - D) is softplus(logit).",
        {"of": "probability"},
        {"of": "clamped"},
    ),
    (
        "lifted",
        "you add a small number before you take the logarithm. Then a judge that is surely wrong costs no more than "
        "the logarithm of that, and learns nothing. softplus needs no such help.",
        *({"of": f"lifted 1e-{n}"} for n in range(5, 13)),
    ),
    ("not averaged", "you sum over the batch. Asked for is the mean.", {"over": "sum"}),
)


def _discriminator(
    *, of="softplus", over="mean", sign=1.0, labels="right", wrong_is="a lie", fake_by="its own", wrong_by="its own",
    weights="right", fakes="fake, mu", wrongs="images, wrong_mu", loose_fake=False, loose_mu=False, loose_wrong=False,
    divided=1.0, dead="no",
):  # fmt: skip
    """The judge's loss with one slip."""
    cost = _minus_log(of)

    def answer(judge, images, fake, mu, wrong_mu, fake_weight, wrong_weight):
        parts = {
            "images": images,
            "fake": fake if loose_fake else fake.detach(),
            "mu": mu if loose_mu else mu.detach(),
            "wrong_mu": wrong_mu if loose_wrong else wrong_mu.detach(),
        }
        if weights == "exchanged":
            fake_weight, wrong_weight = wrong_weight, fake_weight
        made, lies = (
            {"its own": weight, "one": 1.0, "none": 0.0}[by]
            for by, weight in ((fake_by, fake_weight), (wrong_by, wrong_weight))
        )
        swapped, total = labels == "swapped", 0.0
        for shown, yes, weight in (
            ("images, mu", not swapped, made if weights == "on real" else 1.0),
            (fakes, swapped, 1.0 if weights == "on real" else made),
            (wrongs, (wrong_is != "a lie") != swapped, lies),
        ):
            logits = judge(*(parts[name] for name in shown.split(", ")))
            logits = logits.detach() if dead == shown else logits
            each = weight * cost(logits, yes)
            total = total + (each.mean() if over == "mean" else each.sum())
        loss = sign * total / {"by weights": 1 + made + lies}.get(divided, divided)
        return loss.detach() if dead == "yes" else loss

    return answer


TAUGHT = (
    (
        "labels swapped",
        "you have real and fake exchanged: the judge is taught to give LOW logits to real pictures with their "
        "sentences. -log D is the real pairs' part, -log(1 - D) that of fakes and wrong pairs.",
        {"labels": "swapped"},
    ),
    (
        "wrong pairs called right",
        "your wrong pairs cost -log D: real pictures, so you call them right. But the sentence is not theirs, and that "
        "is what the judge shall notice: -log(1 - D).",
        {"wrong_is": "right"},
    ),
    (
        "fakes not weighted",
        "the fakes' part is not weighted by fake_weight, or is missing.",
        {"fake_by": "one"},
        {"fake_by": "none"},
    ),
    (
        "wrong pairs not weighted",
        "the wrong pairs' part is not weighted by wrong_weight.",
        {"wrong_by": "one"},
    ),
    (
        "no wrong pairs",
        "the wrong pairs are not in it. Without them a judge need not read: to know a real picture from a fake one is "
        "enough, and the painter may paint anything real.",
        {"wrong_by": "none"},
    ),
    (
        "weights in the wrong place",
        "fake_weight and wrong_weight are exchanged, or one of them stands before the real pairs. fake_weight belongs "
        "to the fakes, wrong_weight to real pictures with wrong sentences, and the real pairs count once.",
        {"weights": "exchanged"},
        {"weights": "on real"},
    ),
    (
        "wrong pairs with fakes",
        "your wrong pairs are FAKES with wrong sentences. That they are fake is all that is seen. REAL pictures with "
        "wrong sentences are what makes the judge read.",
        {"wrongs": "fake, wrong_mu"},
    ),
    (
        "wrong sentence not used",
        "your wrong pairs are the real pictures with their own sentences: that is taught to be right, and wrong, at "
        "once. Show them with wrong_mu.",
        {"wrongs": "images, mu"},
    ),
    (
        "fakes with wrong sentences",
        "you show the fakes with wrong_mu. They were painted for mu, and are to be found out with mu.",
        {"fakes": "fake, wrong_mu"},
    ),
    (
        "fake not detached",
        "the value is right, but a gradient flows back into fake, and so to the painter. It would learn from the "
        "judge's loss, which is small when fakes are FOUND OUT. fake.detach().",
        {"loose_fake": True},
    ),
    (
        "sentences not detached",
        "the value is right, but a gradient flows back into mu or wrong_mu, and so to the sentence encoder: it would "
        "send sentences where the judge's work is easy, whatever they say. .detach() both.",
        {"loose_mu": True},
        {"loose_wrong": True},
        {"loose_mu": True, "loose_wrong": True},
    ),
    (
        "judge without gradient",
        "the value is right, but the judge itself gets no gradient, or none from a part of it. Detach what it is "
        "SHOWN; its own answers must keep their gradient: no torch.no_grad() around it, no .item(), no .detach() "
        "behind it.",
        *({"dead": dead} for dead in ("yes", "images, mu", "fake, mu", "images, wrong_mu")),
    ),
)
TAUGHT_ELSE = (
    *HOW,
    (
        "divided",
        "you divide by the number of parts, or by their weights. Asked for is the sum of the three, weighted.",
        {"divided": 3.0},
        {"divided": 2.0},
        {"divided": "by weights"},
    ),
    (
        "sign",
        "the sign is wrong: yours is what the judge MAKES LARGE. A loss is made small: minus the logarithms.",
        {"sign": -1.0},
    ),
)
_discriminator_loss = Exercise(
    name="discriminator_loss",
    inputs=_trial,
    reference=_sentenced,
    mistakes=(
        *_slips(lambda **way: _teaching(_discriminator(**way)), TAUGHT),
        *_singly(lambda **way: _teaching(_discriminator(**way)), TAUGHT_ELSE),
    ),
    well_done="Real, fake and wrong pairs have their say, and the judge alone learns from it.",
    always=tuple(_trial(np.random.default_rng(seed), large) for seed, large in enumerate((1.0, 100.0, 100.0))),
    trials=5,
    tolerance=1e-4,  # of float32, where logits are in the hundreds
)


def discriminator_loss(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(judge, images, fake, mu, wrong_mu, fake_weight, wrong_weight)``, and who learns from it."""
    return _discriminator_loss(_teaching(_advised(NUMPY, answer)) if callable(answer) else answer, seed)


# ---- 4: what the painter is taught ----------------------------------------------------------------------------------


class _Painter(nn.Module):
    """Noise (B, Z) and code (B, D), weights (Z + D, P) -> pictures (B, P) in (-1, 1)."""

    def __init__(self, weights: Tensor):
        super().__init__()
        self.weights = nn.Parameter(weights.clone())

    def forward(self, noise: Tensor, code: Tensor) -> Tensor:
        return torch.tanh(torch.cat([noise, code], dim=1) @ self.weights)


def _studio(rng: np.random.Generator, large: float = 1.0) -> tuple:
    """A painter, a judge, noise, points of the clouds and their means."""
    B, P, D, Z = int(rng.integers(3, 6)), 4, 3, 2
    sizes = (Z + D, P), (P + 1, D + 1), (B, Z), (B, D), (B, D)
    painter, judge, *given = (torch.tensor(rng.normal(size=size), dtype=torch.float32) for size in sizes)
    return painter / 2, large * judge, *given


def _picture_by_picture(painter, judge, noise, code, mu) -> dict:
    """The chain rule by hand: from each logit to its pixels, from there to the painter's weights and to the code."""
    W, V, B = painter.double().numpy(), judge.double().numpy(), len(noise)
    loss, to_painter, to_code = 0.0, np.zeros(W.shape), np.zeros(code.shape)
    for i in range(B):
        told = np.array([*noise[i].tolist(), *code[i].tolist()])
        picture = np.tanh(told @ W)
        seen, words = np.tanh(picture), np.array([*mu[i].tolist(), 1.0])
        x = float(np.array([*seen, 1.0]) @ V @ words)
        loss += np.logaddexp(0.0, -x) / B
        to_pixels = -1 / (1 + np.exp(x)) / B * (V @ words)[:-1] * (1 - seen**2) * (1 - picture**2)
        to_painter += np.outer(told, to_pixels)
        to_code[i] = (W @ to_pixels)[noise.shape[1] :]
    return {
        "loss": loss,
        "gradient to the painter": to_painter,
        "gradient to code": to_code,
        "gradient to mu": np.zeros(mu.shape),
        "gradient to the judge": np.zeros(V.shape),
        "judge.requires_grad": True,
    }


def _leading(answer: Callable) -> Callable:
    """The loss, to whom its gradient flows, and whether the judge is as it was."""

    def lead(painter, judge, noise, code, mu):
        network, critic = _Painter(painter), _Judge(judge)
        leaves = {name: part.clone().requires_grad_() for name, part in (("code", code), ("mu", mu))}
        loss = _number(answer)(network, critic, noise.clone(), *(leaf.clone() for leaf in leaves.values()))
        if loss is None:
            return None
        learns = critic.weights.requires_grad
        found = _gone_back(loss, {"the painter": network.weights, **leaves, "the judge": critic.weights})
        return {**found, "judge.requires_grad": learns}

    return lead


def _generator(
    *,
    of="softplus",
    over="mean",
    form="-log D",
    paints="code",
    shown="picture",
    reads="mu, detached",
    judge_is="frozen",
):
    """The painter's loss with one slip. ``paints``, ``reads``: what the painter is told, and the judge."""
    cost = _minus_log(of)

    def answer(painter, judge, noise, code, mu):
        told = {"code": code, "mu": mu, "code, detached": code.detach(), "mu, detached": mu.detach()}
        fake = painter(noise, told[paints])
        judge.requires_grad_(judge_is == "learning")
        logits = judge(fake if shown == "picture" else fake.detach(), told[reads])
        judge.requires_grad_(judge_is != "left frozen")
        each = {
            "-log D": lambda: cost(logits, True),
            "log D": lambda: -cost(logits, True),
            "-log(1 - D)": lambda: cost(logits, False),
            "log(1 - D)": lambda: -cost(logits, False),
            "logit": lambda: -logits,
        }[form]()
        return each.mean() if over == "mean" else each.sum()

    return answer


LED = (
    (
        "saturating",
        "yours is log(1 - D), the form that GXN prints. Where the judge is sure that a picture is fake, it is flat: a "
        "painter that paints badly learns least. Asked for is -log D.",
        {"form": "log(1 - D)"},
    ),
    (
        "the judge's side",
        "yours is -log(1 - D), the judge's part: the painter is taught to be FOUND OUT. It wants its pictures held for "
        "real: -log D.",
        {"form": "-log(1 - D)"},
    ),
    ("sign", "the sign is wrong: a loss is made small, and log D must become large.", {"form": "log D"}),
    (
        "logits themselves",
        "you take minus the logits. A game of its own, in which nothing is ever good enough; asked for is -log D.",
        {"form": "logit"},
    ),
    (
        "mu not detached",
        "the judge's reading of mu has a gradient: the sentence encoder can please the judge by moving the sentence, "
        "and the painter need not paint better. judge(fake, mu.detach()).",
        {"reads": "mu"},
    ),
    (
        "judge reads the code",
        "you show the judge the code, a point of the cloud. The painter paints from it; the judge reads mu, as it did "
        "in its own step.",
        {"reads": "code"},
        {"reads": "code, detached"},
    ),
    (
        "painted from mu",
        "your painter paints from mu. Then chance is only in the noise, and the cloud's width is never learned: it "
        "paints from code.",
        {"paints": "mu"},
        {"paints": "mu, detached"},
    ),
    (
        "code detached",
        "the painter learns, but no gradient flows through the picture back to code: the sentence encoder is never "
        "told which sentence would have been easier to paint. Detach what the JUDGE reads, not what the painter is "
        "told.",
        {"paints": "code, detached"},
    ),
    (
        "picture detached",
        "the painter gets no gradient. The picture is detached, or was judged inside torch.no_grad(): that is for the "
        "judge's step. Here the gradient must pass the judge, from the logits to the picture, to the painter.",
        {"shown": "detached"},
    ),
    (
        "the judge learns, too",
        "backward() leaves a gradient in the judge's weights: that they should please the painter. Freeze them while "
        "the picture is judged: judge.requires_grad_(False) before, and True after. The gradient passes all the same.",
        {"judge_is": "learning"},
    ),
    (
        "left frozen",
        "you leave the judge frozen: in its own next step it learns nothing. judge.requires_grad_(True) when the "
        "picture is judged.",
        {"judge_is": "left frozen"},
    ),
)
_generator_loss = Exercise(
    name="generator_loss",
    inputs=_studio,
    reference=_picture_by_picture,
    mistakes=(
        *_slips(lambda **way: _leading(_generator(**way)), LED),
        *_singly(lambda **way: _leading(_generator(**way)), HOW),
    ),
    well_done="The gradient passes the judge and leaves it as it was; the sentence hears of it by the picture alone.",
    always=tuple(_studio(np.random.default_rng(seed), large) for seed, large in enumerate((1.0, 100.0, 100.0))),
    trials=5,
    tolerance=1e-4,  # of float32, where logits are in the hundreds
)


def generator_loss(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(painter, judge, noise, code, mu)``, to whom its gradient flows, and how the judge is left."""
    return _generator_loss(_leading(_advised(NUMPY, answer)) if callable(answer) else answer, seed)
