"""Four proofs of each check of chapter 12: stub, solution, wrong answers by name, a right answer made otherwise."""

import copy
import random

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from commonspace.checks import ch12

EXERCISES = ("condition", "wrong_captions", "discriminator_loss", "generator_loss")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch12, exercise)
    assert check(stub("12", exercise)).status == "not attempted"
    assert check(solution("12", exercise)).status == "passed"
    assert "Pass the function itself" in check(3).message


def failed_as(check, answer, mistake, words):
    for seed in range(3):
        result = check(answer, seed)
        assert (result.status, result.mistake) == ("failed", mistake), result.message
        assert words in result.message


def passes(check, answer):
    for seed in range(3):
        result = check(answer, seed)
        assert result.status == "passed", result.message


# ---- 1: the cloud ---------------------------------------------------------------------------------------------------


def point(mu, logvar, eps):
    return mu + torch.exp(logvar / 2) * eps


def distance(mu, logvar, eps=None):
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).mean()


def with_point(c):
    return lambda m, s, e: (c(m, s, e), distance(m, s))


def with_kl(kl):
    return lambda m, s, e: (point(m, s, e), kl(m, s))


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (with_point(lambda m, s, e: m + s.exp() * e), "variance taken for the deviation", "three times too far out"),
        (with_point(lambda m, s, e: m + 0.5 * s.exp() * e), "variance taken for the deviation", "exp(logvar / 2)"),
        (with_point(lambda m, s, e: m + s * e), "no exp", "may be negative"),
        (with_point(lambda m, s, e: m + s / 2 * e), "no exp", "It is a logarithm"),
        (with_point(lambda m, s, e: m + (-s / 2).exp() * e), "minus logvar", "becomes narrow"),
        (with_point(lambda m, s, e: m + e), "no deviation", "logvar learns nothing"),
        (with_point(lambda m, s, e: m), "no eps", "the cloud is a point"),
        (with_point(lambda m, s, e: m + (s / 2).exp()), "no eps", "not as a factor"),
        (with_point(lambda m, s, e: m + (s / 2).exp() + e), "no eps", "eps deviations from mu"),
        (with_point(lambda m, s, e: (s / 2).exp() * e), "mu in the wrong place", "mu is missing"),
        (with_point(lambda m, s, e: (m + e) * (s / 2).exp()), "mu in the wrong place", "as it is"),
        (with_kl(lambda m, s: 0.5 * (m**2 + (s / 2).exp() - 1 - s).mean()), "deviation in the KL", "the VARIANCE"),
        (with_kl(lambda m, s: distance(m, 2 * s)), "deviation in the KL", "which is exp(logvar)"),
        (with_kl(lambda m, s: (m**2).mean() / 2), "variance half missing", "it shrinks to 0"),
        (with_kl(lambda m, s: distance(0 * m, s)), "mean half missing", "near to 0"),
        (with_kl(lambda m, s: (m + s.exp() - 1 - s).mean() / 2), "mean half missing", "not squared"),
        (with_kl(lambda m, s: (m**2 + s.exp() - 1).mean() / 2), "a term of the KL", "nowhere less"),
        (with_kl(lambda m, s: (m**2 + s.exp() - s).mean() / 2), "a term of the KL", "it must be 0"),
        (with_kl(lambda m, s: (m**2 + s.exp() - 1 + s).mean() / 2), "a term of the KL", "the wrong sign"),
        (with_kl(lambda m, s: 2 * distance(m, s)), "KL without the half", "twice as large"),
        (with_kl(lambda m, s: -distance(m, s)), "sign of the KL", "0 or more"),
        (
            with_kl(lambda m, s: ((1 + m**2) / s.exp() - 1 + s).mean() / 2),
            "KL turned round",
            "from N(0, 1) to the cloud",
        ),
        (with_kl(lambda m, s: distance(m, s) * m.numel()), "KL not averaged", "mean over both"),
        (with_kl(lambda m, s: distance(m, s) * m.shape[1]), "KL not averaged", "over the sentences or"),
        (with_kl(lambda m, s: distance(m, s) * len(m)), "KL not averaged", "its weight means"),
        (
            lambda m, s, e: (m + s.exp() * e, distance(m, 2 * s)),
            "variance taken for the deviation; deviation in the KL",
            "And then: your KL takes",
        ),
        (lambda m, s, e: (m, -distance(m, s)), "no eps; sign of the KL", "And then: your KL has the wrong sign"),
        (lambda m, s, e: (point(m, s, torch.randn_like(m)), distance(m, s)), "own noise", "the noise yourself"),
        (lambda m, s, e: (torch.normal(m, (s / 2).exp()), distance(m, s)), "own noise", "It is given here, eps"),
    ],
)  # fmt: skip
def test_wrong_clouds_get_their_hint(answer, mistake, words):
    failed_as(ch12.condition, answer, mistake, words)


def with_numpy(*given):
    mu, logvar, eps = (part.numpy() for part in given)
    return mu + np.exp(logvar / 2) * eps, np.mean(mu**2 + np.exp(logvar) - 1 - logvar) / 2


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (with_point(lambda m, s, e: point(m.detach(), s, e)), "mu detached", "the sentence encoder learns nothing"),
        (with_point(lambda m, s, e: point(m, s.detach(), e)), "logvar detached", "how wide a cloud may be"),
        (with_point(lambda m, s, e: point(m, s, e).detach()), "mu detached; logvar detached", "And then"),
        (with_kl(lambda m, s: distance(m, s).item()), "KL detached", "nothing keeps the clouds"),
        (with_kl(lambda m, s: distance(m.detach(), s)), "KL detached", "computed with torch"),
        (lambda *given: (point(*given).detach(), distance(*given).detach()), "no gradient", "mere number"),
        (with_numpy, "no gradient", "torch alone"),
    ],
)
def test_clouds_whose_gradient_is_cut_get_their_hint(answer, mistake, words):
    failed_as(ch12.condition, answer, mistake, words)


def by_distributions(mu, logvar, eps):
    cloud, unit = torch.distributions.Normal(mu, logvar.exp().sqrt()), torch.distributions.Normal(0.0, 1.0)
    return cloud.loc + cloud.scale * eps, torch.distributions.kl_divergence(cloud, unit).mean()


@pytest.mark.parametrize(
    "answer",
    [
        lambda *given: (point(*given), distance(*given)),
        by_distributions,
        lambda m, s, e: [torch.addcmul(m, e, s.mul(0.5).exp()), (m * m - s + s.expm1()).sum() / (2 * m.numel())],
        lambda m, s, e: (torch.stack([*map(point, m, s, e)]), sum(map(distance, m, s)) / len(m)),
    ],
)  # fmt: skip
def test_clouds_made_otherwise_pass(answer):
    passes(ch12.condition, answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            lambda *given: point(*given),
            "return two things, the points c and the KL, with a comma between them; got one",
        ),
        (lambda *given: (1, 2, 3), "got 3 of them"),
        (lambda *given: (distance(*given), point(*given)), "c comes first"),
        (lambda m, s, e: (point(m, s, e), (m**2 + s.exp() - 1 - s).mean(1) / 2), "The KL is one number, a mean"),
        (lambda m, s, e: ("c", 1.0), "return one tensor of numbers; got a str"),
        (lambda *given: None, "returned None"),
        (lambda only: only, "stopped with TypeError"),
        (lambda m, s, e: (point(m, s, e) * torch.nan, distance(m, s)), "c: expected"),
    ],
)
def test_what_is_no_cloud_is_told_in_words(answer, words):
    result = ch12.condition(answer)
    assert (result.status, result.mistake) == ("failed", None)
    assert words in result.message


def test_the_reference_is_that_of_torch():
    for seed in range(5):
        given = ch12._clouds(np.random.default_rng(seed))
        expected, (c, kl) = ch12._coordinate_by_coordinate(*given), by_distributions(*given)
        np.testing.assert_allclose(expected["c"], c)
        np.testing.assert_allclose(expected["KL"], kl)


# ---- 2: wrong sentences ---------------------------------------------------------------------------------------------


def drawn_from(mask):
    """One of the pairs that ``mask(image_id)`` (B, B) leaves, by chance."""
    return lambda image_id: torch.multinomial(mask(image_id).float(), 1)[:, 0]


def others(image_id):
    return image_id[:, None] != image_id


def off(image_id):
    return 1 - torch.eye(len(image_id))


def shuffled(image_id):
    """No pair keeps its own sentence: a shuffled batch is rolled by one."""
    order = torch.randperm(len(image_id))
    wrong = torch.empty_like(order)
    wrong[order] = order.roll(1)
    return wrong


def first_of_an_image(image_id):
    ids = image_id.tolist()
    return [ids.index(random.choice([other for other in ids if other != one])) for one in ids]


def always_alike(image_id):
    generator = torch.Generator().manual_seed(0)
    return torch.multinomial(others(image_id).float(), 1, generator=generator)[:, 0]


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda i: torch.arange(len(i)), "the same pairs", "nothing about these pairs is wrong"),
        (lambda i: torch.randperm(len(i)), "own sentence", "a shuffle leaves some in their places"),
        (lambda i: torch.randint(len(i), (len(i),)), "own sentence", "among the pairs of OTHER images"),
        (drawn_from(off), "the same image", "another one of the SAME image"),
        (shuffled, "the same image", "Leave out every pair with the same image_id"),
        (lambda i: torch.arange(len(i)).roll(random.randint(1, len(i) - 1)), "the same image", "a right sentence"),
        (lambda i: torch.arange(len(i)).roll(1), "rolled by one", "Where neighbours are of the same image"),
        (lambda i: (torch.arange(len(i)) + 1) % len(i), "rolled by one", "Compare image_id"),
        (drawn_from(lambda i: ~others(i)), "mask turned round", "all of these sentences are right"),
        (lambda i: others(i).int().argmax(1), "always the same", "know these few by heart"),
        (always_alike, "always the same", "anew at each call"),
        (first_of_an_image, "some never come", "among all PAIRS"),
    ],
)  # fmt: skip
def test_wrong_pairs_get_their_hint(answer, mistake, words):
    failed_as(ch12.wrong_captions, answer, mistake, words)


def until_it_fits(image_id):
    """A permutation, drawn again until no image is beside itself."""
    while (image_id[wrong := torch.randperm(len(image_id))] == image_id).any():
        pass
    return wrong


@pytest.mark.parametrize(
    "answer",
    [
        drawn_from(others),
        until_it_fits,
        lambda i: torch.rand(len(i), len(i)).masked_fill(~others(i), -1).argmax(dim=1).int(),
        lambda i: [random.choice([j for j in range(len(i)) if i[j] != own]) for own in i],
        lambda i: np.array([random.choice(np.flatnonzero(row)) for row in others(i).numpy()]),
    ],
)
def test_pairs_made_otherwise_pass(answer):
    passes(ch12.wrong_captions, answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (others, "return the number of one pair for each pair"),
        (lambda i: torch.rand(len(i)), "integers, to index mu with"),
        (lambda i: i[shuffled(i)] + 7, "not ids of images"),
        (lambda i: shuffled(i) - len(i), "the pairs have the numbers 0 to"),
        (lambda i: None, "returned None"),
        (lambda i: "ab", "stopped with TypeError"),
        (lambda i: torch.cat([torch.zeros(1), 1 + shuffled(i[1:])]).long(), "expected False"),
    ],
)
def test_what_are_no_pairs_is_told_in_words(answer, words):
    result = ch12.wrong_captions(answer, 0)
    assert (result.status, result.mistake) == ("failed", None)
    assert words in result.message


def test_ids_that_are_changed_in_place_are_seen():
    assert "changes its arguments in place" in ch12.wrong_captions(lambda i: i.copy_(drawn_from(others)(i))).message


# ---- 3: what the judge is taught ------------------------------------------------------------------------------------


def yes(x):
    return F.softplus(-x)


def no(x):
    return F.softplus(x)


def taught(
    *, real=yes, made=no, lies=no, fakes="fake, mu", wrongs="images, wrong_mu", weigh=lambda f, w: (1, f, w),
    reduce=torch.mean, loose=(), out=lambda loss: loss,
):  # fmt: skip
    """The right loss; what is set otherwise goes wrong."""

    def answer(judge, images, fake, mu, wrong_mu, fake_weight, wrong_weight):
        parts = {"images": images, "fake": fake, "mu": mu, "wrong_mu": wrong_mu}
        parts = {name: part if name in loose else part.detach() for name, part in parts.items()}
        logits = [judge(*(parts[name] for name in shown.split(", "))) for shown in ("images, mu", fakes, wrongs)]
        costs = [reduce(cost(x)) for cost, x in zip((real, made, lies), logits, strict=True)]
        return out(sum(w * cost for w, cost in zip(weigh(fake_weight, wrong_weight), costs, strict=True)))

    return answer


def of_all(change):
    """Logits are changed before each cost."""
    return taught(real=lambda x: yes(change(x)), made=lambda x: no(change(x)), lies=lambda x: no(change(x)))


def logarithm(lift=0.0, p=torch.sigmoid):
    def lies(x):
        return -(1 - p(x) + lift).log()

    return taught(real=lambda x: -(p(x) + lift).log(), made=lies, lies=lies)


def binary(x, target):
    return F.binary_cross_entropy(x.sigmoid(), torch.full_like(x, target))


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (taught(real=no, made=yes, lies=yes), "labels swapped", "LOW logits to real pictures"),
        (taught(lies=yes), "wrong pairs called right", "the sentence is not theirs"),
        (taught(weigh=lambda f, w: (1, 1, w)), "fakes not weighted", "by fake_weight"),
        (taught(weigh=lambda f, w: (1, 0, w)), "fakes not weighted", "or is missing"),
        (taught(weigh=lambda f, w: (1, f, 1)), "wrong pairs not weighted", "by wrong_weight"),
        (taught(weigh=lambda f, w: (1, 1, 1)), "fakes not weighted; wrong pairs not weighted", "And then"),
        (taught(weigh=lambda f, w: (1, f, 0)), "no wrong pairs", "a judge need not read"),
        (taught(weigh=lambda f, w: (1, w, f)), "weights in the wrong place", "are exchanged"),
        (taught(weigh=lambda f, w: (f, 1, w)), "weights in the wrong place", "the real pairs count once"),
        (taught(wrongs="fake, wrong_mu"), "wrong pairs with fakes", "REAL pictures with wrong sentences"),
        (taught(wrongs="images, mu"), "wrong sentence not used", "and wrong, at once"),
        (taught(fakes="fake, wrong_mu"), "fakes with wrong sentences", "painted for mu"),
        (of_all(torch.sigmoid), "sigmoid twice", "takes them as they are"),
        (logarithm(p=lambda x: x), "logits taken for probabilities", "of a negative one there is none"),
        (logarithm(), "log of 0", "its logarithm infinite"),
        (
            taught(real=lambda x: binary(x, 1.0), made=lambda x: binary(x, 0.0), lies=lambda x: binary(x, 0.0)),
            "log of 0",
            "cut off at 100",
        ),
        (logarithm(1e-8), "lifted", "softplus needs no such help"),
        (taught(reduce=torch.sum), "not averaged", "sum over the batch"),
        (taught(out=lambda loss: loss / 3), "divided", "the sum of the three"),
        (taught(weigh=lambda f, w: np.array([1, f, w]) / (1 + f + w)), "divided", "by their weights"),
        (taught(out=lambda loss: -loss), "sign", "what the judge MAKES LARGE"),
        (taught(loose=("fake",)), "fake not detached", "FOUND OUT"),
        (taught(loose=("mu", "wrong_mu")), "sentences not detached", "whatever they say"),
        (taught(loose=("mu",)), "sentences not detached", "mu or wrong_mu"),
        (taught(loose=("wrong_mu",)), "sentences not detached", ".detach() both"),
        (taught(loose=("fake", "mu", "wrong_mu")), "fake not detached; sentences not detached", "And then: the value"),
        (taught(loose=("fake",), weigh=lambda f, w: (1, f, 1)), "wrong pairs not weighted; fake not detached", "And"),
        (taught(out=lambda loss: loss.item()), "judge without gradient", "Detach what it is SHOWN"),
        (torch.no_grad()(taught()), "judge without gradient", "no torch.no_grad() around it"),
        (taught(made=lambda x: no(x.detach())), "judge without gradient", "or none from a part of it"),
    ],
)  # fmt: skip
def test_what_the_judge_is_taught_wrongly_gets_its_hint(answer, mistake, words):
    failed_as(ch12.discriminator_loss, answer, mistake, words)


def with_logits(judge, images, fake, mu, wrong_mu, fake_weight, wrong_weight):
    """One pass for all three, and cross-entropy with one weight for each."""
    B = len(images)
    shown = torch.cat([images, fake, images]).detach(), torch.cat([mu, mu, wrong_mu]).detach()
    target = torch.tensor([1.0, 0.0, 0.0]).repeat_interleave(B)
    weight = torch.tensor([1.0, fake_weight, wrong_weight]).repeat_interleave(B)
    return F.binary_cross_entropy_with_logits(judge(*shown), target, weight=weight, reduction="sum") / B


@pytest.mark.parametrize(
    "answer",
    [
        taught(),
        with_logits,
        taught(real=lambda x: -F.logsigmoid(x), made=lambda x: -F.logsigmoid(-x), lies=lambda x: x - F.logsigmoid(x)),
        taught(real=lambda x: torch.logaddexp(-x, torch.zeros_like(x)), out=lambda loss: [loss.reshape(1)]),
        lambda judge, images, fake, *rest: taught()(judge, images, fake.data.clone(), *rest),
    ],
)
def test_the_judges_loss_made_otherwise_passes(answer):
    passes(ch12.discriminator_loss, answer)


# ---- 4: what the painter is taught ----------------------------------------------------------------------------------


def led(
    *, cost=yes, told="code", read=lambda code, mu: mu.detach(), show=lambda fake: fake, frozen=True, after=True,
    reduce=torch.mean,
):  # fmt: skip
    """The right loss; what is set otherwise goes wrong."""

    def answer(painter, judge, noise, code, mu):
        fake = show(painter(noise, {"code": code, "mu": mu, "code, detached": code.detach()}[told]))
        for parameter in judge.parameters():
            parameter.requires_grad = not frozen
        loss = reduce(cost(judge(fake, read(code, mu))))
        for parameter in judge.parameters():
            parameter.requires_grad = after
        return loss

    return answer


@torch.no_grad()
def without_graph(painter, judge, noise, code, mu):
    return yes(judge(painter(noise, code), mu)).mean()


def judged_without_graph(painter, judge, noise, code, mu):
    with torch.no_grad():
        logits = judge(painter(noise, code), mu)
    return yes(logits).mean()


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (led(cost=lambda x: -no(x)), "saturating", "the form that GXN prints"),
        (led(cost=no), "the judge's side", "taught to be FOUND OUT"),
        (led(cost=lambda x: -yes(x)), "sign", "log D must become large"),
        (led(cost=lambda x: -x), "logits themselves", "nothing is ever good enough"),
        (led(cost=lambda x: yes(x.sigmoid())), "sigmoid twice", "takes them as they are"),
        (led(cost=lambda x: -x.log()), "logits taken for probabilities", "of a negative one there is none"),
        (led(cost=lambda x: -x.sigmoid().log()), "log of 0", "until a logit is large"),
        (led(cost=lambda x: binary(x, 1.0)), "log of 0", "cut off at 100"),
        (led(cost=lambda x: -(x.sigmoid() + 1e-12).log()), "lifted", "learns nothing"),
        (led(reduce=torch.sum), "not averaged", "the mean"),
        (led(read=lambda code, mu: mu), "mu not detached", "by moving the sentence"),
        (led(read=lambda code, mu: code.detach()), "judge reads the code", "the judge reads mu"),
        (led(read=lambda code, mu: code), "judge reads the code", "a point of the cloud"),
        (led(told="mu"), "painted from mu", "the cloud's width is never learned"),
        (led(told="code, detached"), "code detached", "Detach what the JUDGE reads"),
        (led(told="code, detached", read=lambda code, mu: mu), "mu not detached; code detached", "And then"),
        (led(show=torch.detach), "picture detached", "that is for the judge's step"),
        (without_graph, "picture detached", "inside torch.no_grad()"),
        (judged_without_graph, "picture detached", "must pass the judge"),
        (led(frozen=False), "the judge learns, too", "The gradient passes all the same"),
        (led(after=False), "left frozen", "in its own next step it learns nothing"),
        (led(frozen=False, read=lambda code, mu: mu), "mu not detached; the judge learns, too", "And then: backward()"),
        (led(frozen=False, show=torch.detach), "picture detached; the judge learns, too", "And then"),
        (led(cost=lambda x: -no(x), frozen=False), "saturating; the judge learns, too", "And then"),
    ],
)  # fmt: skip
def test_what_the_painter_is_taught_wrongly_gets_its_hint(answer, mistake, words):
    failed_as(ch12.generator_loss, answer, mistake, words)


def with_other_weights(painter, judge, noise, code, mu):
    """The judge is called with weights that have no graph; it is never frozen."""
    weights = {name: parameter.detach() for name, parameter in judge.named_parameters()}
    logits = torch.func.functional_call(judge, weights, (painter(noise, code), mu.detach()))
    return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


@pytest.mark.parametrize(
    "answer",
    [
        led(),
        with_other_weights,
        lambda p, judge, z, code, mu: yes(copy.deepcopy(judge)(p(z, code), mu.detach())).mean(),
        lambda p, judge, z, code, mu: led(cost=lambda x: -F.logsigmoid(x))(p, judge, z, code, mu.data),
        lambda p, judge, z, code, mu: led(reduce=torch.sum)(p, judge, z, code, mu) / len(z),
    ],
)
def test_the_painters_loss_made_otherwise_passes(answer):
    passes(ch12.generator_loss, answer)


def test_the_references_gradients_are_the_slopes_of_their_losses():
    """By differences, in each number that is to have a gradient."""

    def by_differences(loss, given, place):
        slope = torch.zeros(given[place].shape, dtype=torch.float64)
        for entry in np.ndindex(*slope.shape):
            sides = []
            for h in (1e-5, -1e-5):
                moved = given[place].clone()
                moved[entry] += h
                sides.append(loss(*given[:place], moved, *given[place + 1 :])["loss"])
            slope[entry] = (sides[0] - sides[1]) / 2e-5
        return slope

    def in_double(given):
        return [part.double() if isinstance(part, torch.Tensor) else part for part in given]

    rng = np.random.default_rng(0)
    given = in_double(ch12._trial(rng))
    slopes = ch12._sentenced(*given)
    np.testing.assert_allclose(slopes["gradient to the judge"], by_differences(ch12._sentenced, given, 0), atol=1e-7)
    given = in_double(ch12._studio(rng))
    slopes = ch12._picture_by_picture(*given)
    for name, place in (("gradient to the painter", 0), ("gradient to code", 3)):
        np.testing.assert_allclose(slopes[name], by_differences(ch12._picture_by_picture, given, place), atol=1e-7)


def test_large_logits_of_either_sign_are_always_among_the_inputs():
    judged, painted = [], []
    for judge, images, fake, mu, wrong_mu, *_ in ch12._discriminator_loss.always:
        network = ch12._Judge(judge)
        judged.append(torch.stack([network(images, mu), network(fake, mu), network(images, wrong_mu)]))
    for painter, judge, noise, code, mu in ch12._generator_loss.always:
        painted.append(ch12._Judge(judge)(ch12._Painter(painter)(noise, code), mu))
    real, *untrue = torch.cat(judged, dim=1)
    for logits in (-real, *untrue, -torch.cat(painted)):
        assert logits.max() > 150  # log(sigmoid) is infinite there, and cut off at 100


# ---- all four -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda *given: "three", "return one tensor of numbers; got a str"),
        (lambda *given: torch.ones(7), "A loss is one number: the mean over the batch"),
        (lambda only: only, "stopped with TypeError"),
        (lambda *given: None, "returned None"),
        (lambda *given: given[1](*given[2:4]), "stopped with"),
        (lambda *given: torch.tensor(3.0), "loss: expected"),
        (lambda *given: torch.tensor(given[3].numpy().mean()), "numpy has no gradient to give"),
    ],
)
def test_what_is_no_loss_is_told_in_words(answer, words):
    for exercise in ("discriminator_loss", "generator_loss"):
        result = getattr(ch12, exercise)(answer)
        assert (result.status, result.mistake) == ("failed", None)
        assert words in result.message


def test_a_check_leaves_chance_as_it_was():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    ch12.wrong_captions(shuffled, 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_inputs_tell_every_known_mistake_from_the_right_answer_and_from_the_others(exercise):
    check = getattr(ch12, f"_{exercise}")
    for mistake in check.mistakes:
        if ";" not in mistake.name:
            assert check(mistake.answer, 0).mistake == mistake.name
