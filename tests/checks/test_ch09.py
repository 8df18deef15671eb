"""Four proofs of each check of chapter 09: stub, solution, wrong answers by name, a right answer made otherwise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from commonspace.checks import ch09
from commonspace.losses import hinge_loss, order_similarity
from commonspace.metrics import ranks

EXERCISES = ("order_violation", "hardest_negative_loss", "caption_ranks")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch09, exercise)
    assert check(stub("09", exercise)).status == "not attempted"
    assert check(solution("09", exercise)).status == "passed"
    assert "Pass the function itself" in check(3).message


def failed_as(check, answer, mistake, words):
    for seed in range(3):
        result = check(answer, seed)
        assert (result.status, result.mistake) == ("failed", mistake), result.message
        assert words in result.message


# ---- 1: order violation ---------------------------------------------------------------------------------------------


def pairs(v, t):
    """t - v of all pairs, (N, M, D)."""
    return t[None] - v[:, None]


def relu(x):
    return torch.relu(x)


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda v, t: (relu(v[:, None] - t[None]) ** 2).sum(2), "v and t swapped", "how GXN prints it"),
        (lambda v, t: pairs(v, t).clamp(max=0).square().sum(2), "v and t swapped", "what the IMAGE has more"),
        (lambda v, t: relu(pairs(v, t)).norm(dim=2), "root", "the gradient easily becomes NaN"),
        (lambda v, t: relu(pairs(v, t).sum(2)) ** 2, "sum before the max", "max first, then the square"),
        (lambda v, t: relu(t.sum(1)[None] - v.sum(1)[:, None]), "sum before the max", "pays for"),
        (lambda v, t: torch.cdist(v, t) ** 2, "no max", "the same for (t, v) and (v, t)"),
        (lambda v, t: torch.cdist(v, t), "no max", "must cost nothing"),
        (lambda v, t: pairs(v, t).abs().sum(2), "no max", "squares and abs make it positive"),
        (lambda v, t: relu(pairs(v, t)).sum(2), "square in the wrong place", "is missing"),
        (lambda v, t: relu(pairs(v, t)).sum(2) ** 2, "square in the wrong place", "taken of the sum"),
        (lambda v, t: relu(pairs(v, t)).pow(2).mean(2), "mean", "is the sum"),
        (lambda v, t: pairs(v, t).max(dim=2).values.clamp(min=0) ** 2, "largest coordinate", "ONE difference"),
        (order_similarity, "sign", "s = -e"),
        (lambda v, t: (relu(t - v) ** 2).sum(1), "no all pairs", "row i with row i alone"),
        (lambda v, t: ((t - v) ** 2).sum(1), "no all pairs; no max", "image_emb[:, None]"),
        (lambda v, t: (relu(t[:, None] - v[None]) ** 2).sum(2), "rows and columns exchanged", "Images are rows"),
        (lambda v, t: -order_similarity(t, v), "rows and columns exchanged; v and t swapped", "And then: v and t"),
    ],
)
def test_wrong_violations_get_their_hint(answer, mistake, words):
    failed_as(ch09.order_violation, answer, mistake, words)


def by_loops(v, t):
    e = torch.zeros(len(v), len(t))
    for i in range(len(v)):
        for j in range(len(t)):
            for d in range(v.shape[1]):
                e[i, j] = e[i, j] + max(t[j, d] - v[i, d], torch.tensor(0.0)) ** 2
    return e


@pytest.mark.parametrize(
    "answer",
    [
        by_loops,
        lambda v, t: -order_similarity(v, t),
        lambda v, t: -order_similarity(v.double(), t.double()),
        lambda v, t: torch.einsum("nmd,nmd->nm", pairs(v, t), relu(pairs(v, t))),
        lambda v, t: torch.stack([(t - row).clamp(min=0).square().sum(dim=1) for row in v]),
        lambda v, t: [[torch.where(b > a, b - a, 0.0).square().sum() for b in t] for a in v],
        lambda v, t: (pairs(v, t) ** 2 * (pairs(v, t) >= 0)).sum(-1),
        lambda v, t: relu(pairs(v, t)).norm(dim=2) ** 2,  # torch gives this root the gradient 0 at 0
        lambda v, t: ((pairs(v, t) + pairs(v, t).abs()) / 2).square().sum(-1),
        lambda v, t: torch.maximum(pairs(v, t), torch.zeros(1)).pow(2).sum(-1),
        lambda v, t: torch.cdist(v, t).square() - (v[:, None] - t).clamp(min=0).square().sum(-1),
    ],
)
def test_violations_made_otherwise_pass(answer):
    for seed in range(3):
        result = ch09.order_violation(answer, seed)
        assert result.status == "passed", result.message


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (
            lambda v, t: pairs(v, t).clamp(min=0).square().sum(2).sqrt() ** 2,
            "root, squared again",
            "Do without the root",
        ),
        (lambda v, t: by_loops(v, t).detach(), "no gradient", "nothing can be trained"),
        (lambda v, t: np.maximum(pairs(v.numpy(), t.numpy()), 0).__pow__(2).sum(2), "no gradient", "torch alone"),
        (lambda v, t: -order_similarity(v.detach(), t), "part of it detached", "not learned"),
        (lambda v, t: -order_similarity(v, t.data), "part of it detached", "a constant"),
        (
            lambda v, t: torch.stack([torch.stack([relu(b - a).square().sum() for b in t]) for a in v[: len(t)]]),
            "N taken for M",
            "not for other numbers",
        ),
        (
            lambda v, t: torch.stack([relu(t[j] - v[i]).square().sum() for i in range(len(v)) for j in range(len(v))])
            .view(len(v), len(v)),
            "N taken for M",
            "is N taken for M somewhere?",
        ),
    ],
)  # fmt: skip
def test_violations_that_are_right_in_part_get_their_hint(answer, mistake, words):
    failed_as(ch09.order_violation, answer, mistake, words)


def test_a_root_that_is_squared_again_has_the_right_gradient_but_at_ties():
    """So the check must look there."""
    root_again = lambda v, t: pairs(v, t).clamp(min=0).square().sum(2).sqrt() ** 2  # noqa: E731
    v, t = torch.rand(3, 5).requires_grad_(), torch.rand(4, 5) + 0.1 + torch.eye(5)[:1]
    slopes = [torch.autograd.grad(of(v, t).sum(), v)[0] for of in (root_again, lambda v, t: -order_similarity(v, t))]
    assert torch.allclose(*slopes, atol=1e-5)
    (slope,) = torch.autograd.grad(root_again(v, v.detach()[:1])[0].sum(), v)
    assert slope[0].isnan().all()


# ---- 2: hardest negatives -------------------------------------------------------------------------------------------


def hinges(sim, margin, hardest_of_rows, hardest_of_columns, reduce=torch.mean):
    own = sim.diagonal()
    return reduce(relu(margin + hardest_of_rows - own) + relu(margin + hardest_of_columns - own))


def library(sim, image_id, margin, mining="hardest", symmetric=True):
    return hinge_loss(sim, margin, mining, symmetric, image_id[:, None] == image_id)


def filled(number, twins=True):
    """The loss with ``number`` in the places of right answers, or of the diagonal alone."""

    def answer(sim, image_id, margin):
        right = image_id[:, None] == image_id if twins else torch.eye(len(sim), dtype=torch.bool)
        wrong = torch.where(right, torch.tensor(float(number)), sim)
        return hinges(sim, margin, wrong.max(dim=1).values, wrong.max(dim=0).values)

    return answer


def by_pairs(sim, image_id, margin, *, rows=True, columns=True, best=max, hinge=lambda x: max(x, 0.0), sign=1):
    """One pair after the other, in Python."""
    total = 0.0
    for i, mine in enumerate(image_id):
        others = [j for j, other in enumerate(image_id) if other != mine]
        if rows:
            total += hinge(sign * margin + best(sim[i, j] for j in others) - sim[i, i])
        if columns:
            total += hinge(sign * margin + best(sim[j, i] for j in others) - sim[i, i])
    return total / len(sim)


def late(sim, image_id, margin):
    """Cut off at 0 after the mean."""
    return relu(by_pairs(sim, image_id, margin, hinge=lambda x: x))


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda s, i, m: hinge_loss(s, m, "hardest", symmetric=True), "diagonal only", "a RIGHT answer"),
        (filled(-torch.inf, twins=False), "diagonal only", "same image_id"),
        (lambda s, i, m: hinges(s, m, s.amax(1), s.amax(0)), "nothing masked", "The pair itself is there"),
        (filled(0), "masked by a number that wins", "Minus infinity never wins"),
        (lambda s, i, m: (lambda w: hinges(s, m, w.amax(1), w.amax(0)))(s * (i[:, None] != i)), *(
            "masked by a number that wins", "all below 0")),
        (filled(-1), "masked by a number that wins", "another fixed number"),
        (filled(0, twins=False), "diagonal only; masked by a number that wins", "And then: you put 0"),
        (lambda s, i, m: (lambda w: hinges(s, m, w.amax(1), w.amax(0)))(s - torch.inf * (i[:, None] == i)), *(
            "infinity times zero", "masked_fill")),
        (lambda s, i, m: library(s, i, m, "all"), "all negatives", "the hardest alone"),
        (lambda s, i, m: library(s, i, m, symmetric=False), "one direction only", "Add both"),
        (lambda s, i, m: library(s.T, i, m, symmetric=False), "one direction only", "along rows an image"),
        (lambda s, i, m: by_pairs(s, i, m, rows=False), "one direction only", "along columns"),
        (lambda s, i, m: library(s, i, m, symmetric=False) * 2, "one direction only", "twice in the same"),
        (lambda s, i, m: hinge_loss(s, m, "hardest"), "diagonal only; one direction only", "And then: you look in one"),
        (lambda s, i, m: library(s, i, m) / 2, "divided by 2N", "Divide by N"),
        (lambda s, i, m: library(s, i, m) * len(s), "not divided", "the mean over the N pairs"),
        (lambda s, i, m: by_pairs(s, i, m, best=min), "the easiest", "Higher is closer"),
        (lambda s, i, m: by_pairs(s, i, m, hinge=lambda x: x), "hinge in the wrong place", "is missing"),
        (late, "hinge in the wrong place", "a hinge of its own"),
        (lambda s, i, m: by_pairs(s, i, m, sign=-1), "margin not added", "must lead BY the margin"),
        (lambda s, i, m: library(s, i, 0.0), "margin not added", "or missing"),
    ],
)  # fmt: skip
def test_wrong_losses_get_their_hint(answer, mistake, words):
    failed_as(ch09.hardest_negative_loss, answer, mistake, words)


def with_one_maximum(sim, image_id, margin):
    wrong = sim.masked_fill(image_id[:, None] == image_id, -torch.inf)
    return hinges(sim, margin, wrong.max(), wrong.max())


def with_the_best_own(sim, image_id, margin):
    same = image_id[:, None] == image_id
    wrong = sim.masked_fill(same, -torch.inf)
    own = sim.masked_fill(~same, -torch.inf)
    return sum(relu(margin + wrong.amax(d) - own.amax(d)).mean() for d in (0, 1))


def with_the_larger(sim, image_id, margin):
    wrong = sim.masked_fill(image_id[:, None] == image_id, -torch.inf)
    return relu(margin + torch.maximum(wrong.amax(0), wrong.amax(1)) - sim.diagonal()).mean()


def test_other_wrong_losses_get_their_hint():
    check = ch09.hardest_negative_loss
    failed_as(check, with_one_maximum, "one for the whole batch", "the maximum along one dim")
    failed_as(check, with_the_best_own, "best own caption", "The pair's own is sim[i, i]")
    failed_as(check, with_the_larger, "larger of the two", "Asked for is their sum")


def by_sorting(sim, image_id, margin):
    """The first wrong one of each sorted row, found by gather."""
    cost = []
    for scores in (sim, sim.T):
        order = scores.argsort(dim=1, descending=True)
        wrong = image_id[order] != image_id[:, None]
        first = order.gather(1, wrong.float().argmax(dim=1, keepdim=True))
        cost.append((margin - scores.diagonal() + scores.gather(1, first)[:, 0]).clamp(min=0))
    return torch.cat(cost).sum() / len(sim)


@pytest.mark.parametrize(
    "answer",
    [
        library,
        by_pairs,
        by_sorting,
        filled(-1e9),
        lambda s, i, m: library(s.double(), i, m),
        lambda s, i, m: library(s, i, m)[None],  # one number in brackets
        lambda s, i, m: torch.stack([relu(m + s - s.diagonal()[:, None]), relu(m + s.T - s.diagonal()[:, None])])
        .masked_fill(i == i[:, None], 0).amax(dim=2).sum(dim=0).mean(),
    ],
)  # fmt: skip
def test_losses_made_otherwise_pass(answer):
    for seed in range(3):
        result = ch09.hardest_negative_loss(answer, seed)
        assert result.status == "passed", result.message


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda s, i, m: library(s, i, m).item(), "no gradient", "mere number"),
        (lambda s, i, m: float(by_pairs(s.detach(), i, m)), "no gradient", "without .item(), float()"),
        (
            lambda s, i, m: library(torch.where(torch.eye(len(s)) > 0, s, s.detach()), i, m),
            "part of it detached",
            "not learned",
        ),
    ],
)
def test_losses_that_cannot_be_trained_with_get_their_hint(answer, mistake, words):
    failed_as(ch09.hardest_negative_loss, answer, mistake, words)


def test_similarities_far_below_0_are_always_among_the_inputs(monkeypatch):
    """Else a 0 in the places of right answers would pass now and then."""
    near = replace(ch09._hardest_negative_loss, inputs=ch09._single(lambda rng: ch09._batch(rng, below=-9.0)))
    monkeypatch.setattr(ch09, "_hardest_negative_loss", near)
    assert ch09.hardest_negative_loss(filled(0)).mistake == "masked by a number that wins"


def test_no_input_lies_where_a_hinge_or_a_maximum_bends():
    """There the gradient by differences would accuse a right answer."""
    for seed in range(50):
        sim, image_id, margin = ch09._batch(np.random.default_rng(seed))
        wrong = image_id[:, None] != image_id
        for scores in (sim, sim.T):
            off = (margin + scores - scores.diagonal()[:, None])[wrong]
            assert off.abs().min() > 1e-3
            assert all(
                row[w].diff().numel() and len(row[w].unique()) == w.sum() for row, w in zip(scores, wrong, strict=True)
            )
    for seed in range(50):
        v, t = ch09._rows(3, 4)(np.random.default_rng(seed))
        assert pairs(v, t).abs().min() > 1e-3


# ---- 3: ranks among several captions --------------------------------------------------------------------------------


def own_of(sim, k):
    return torch.arange(sim.shape[1]) // k == torch.arange(len(sim))[:, None]


def against(sim, k, score, *, strict=False, everything=False):
    """How many captions score at least (more than) ``score`` (n,); those of other images, or all of them."""
    above = sim > score[:, None] if strict else sim >= score[:, None]
    return (above if everything else above & ~own_of(sim, k)).sum(dim=1)


def blocks(sim, k):
    """The scores of each image's own captions, (n, k)."""
    return torch.stack([sim[i, i * k : (i + 1) * k] for i in range(len(sim))])


def first_found(sim, k, *, start=0):
    """The place of the first own caption in the sorted row."""
    order = sim.argsort(dim=1, descending=True, stable=True)
    return own_of(sim, k).gather(1, order).float().argmax(dim=1) + start


def rows_of(sim):
    return enumerate(sim.numpy())


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda s, k: against(s, k, blocks(s, k)[:, 0]), "first caption", "the BEST"),
        (lambda s, k: against(s, k, blocks(s, k)[:, -1]), "first caption", "(or last)"),
        (lambda s, k: against(s, k, blocks(s, k).amin(1)), "worst caption", "take the best"),
        (lambda s, k: against(s, k, blocks(s, k).mean(1)), "mean of the captions", "One right answer suffices"),
        (
            lambda s, k: sum(against(s, k, b).double() for b in blocks(s, k).T) / k,
            "mean of the captions",
            "you take a mean",
        ),
        (lambda s, k: against(s, k, s.diagonal()), "one caption an image", "5 i to 5 i + 4"),
        (lambda s, k: against(s, k, blocks(s, k).amax(1), strict=True), "ties for the query", "rank 0 everywhere"),
        (
            lambda s, k: against(s, k, blocks(s, k).amax(1), everything=True) - 1,
            "own captions counted",
            "all but one",
        ),
        (
            lambda s, k: against(s, k, blocks(s, k).amax(1), everything=True),
            "own captions counted; 1-based",
            "And then: you begin at 1",
        ),
        (lambda s, k: ranks(s, own_of(s, k)) + 1, "1-based", "begin at 0"),
        (lambda s, k: -against(-s, k, -blocks(s, k).amin(1)) * -1, "lower is closer", "higher is closer"),
        (first_found, "sorted", "Do not sort"),
        (lambda s, k: first_found(s, k, start=1), "sorted", "in some order"),
        (lambda s, k: [next(p for p, j in enumerate(np.argsort(x)[::-1]) if j // k == i) for i, x in rows_of(s)], *(
            "sorted", "at least the best own one's")),
        (lambda s, k: [(x.argsort(descending=True) == k * i).nonzero().item() for i, x in enumerate(s)], *(
            "sorted", "Do not sort")),
        (
            lambda s, k: (ranks(s, own_of(s, k)) + against(s, k, blocks(s, k).amax(1), strict=True)) / 2,
            "ties by half",
            "counts in full",
        ),
        (
            lambda s, k: ranks(s, torch.arange(s.shape[1]) % len(s) == torch.arange(len(s))[:, None]),
            "every n-th column",
            "j // 5",
        ),
        (
            lambda s, k: ranks(s.view(len(s), -1, k).amax(2), torch.arange(len(s))),
            "images counted",
            "The gallery is made of captions",
        ),
        (lambda s, k: ranks(s.T, torch.arange(s.shape[1]) // k), "captions look for images", "along its row"),
        (
            lambda s, k: ranks(s.T, torch.arange(s.shape[1]) // k).view(-1, k).amin(1),
            "captions look for images",
            "the other direction",
        ),
        (lambda s, k: against(s, k, blocks(s, k)[:, 0], strict=True), "first caption; ties for the query", "And then"),
    ],
)  # fmt: skip
def test_wrong_ranks_get_their_hint(answer, mistake, words):
    failed_as(ch09.caption_ranks, answer, mistake, words)


def one_by_one(sim, captions_per_image=5):
    found = []
    for i, row in enumerate(sim.tolist()):
        own = range(captions_per_image * i, captions_per_image * (i + 1))
        best = max(row[j] for j in own)
        found.append(len([1 for j, score in enumerate(row) if score >= best and j not in own]))
    return found


def with_numpy(sim, captions_per_image=5):
    S, k = sim.numpy().copy(), captions_per_image
    best = np.array([S[i, i * k : (i + 1) * k].max() for i in range(len(S))])
    for i in range(len(S)):
        S[i, i * k : (i + 1) * k] = -np.inf
    return (S >= best[:, None]).sum(axis=1)


def sorted_with_ties_last(sim, captions_per_image=5):
    """Own captions a little lower than they are: the sorted place is then the rank."""
    return first_found(sim - 1e-3 * own_of(sim, captions_per_image), captions_per_image)


@pytest.mark.parametrize(
    "answer",
    [
        one_by_one,
        with_numpy,
        sorted_with_ties_last,
        lambda s, k: ranks(s, own_of(s, k)),
        lambda s, k: ranks(s, own_of(s, k)).double(),
        lambda s, k: torch.stack([against(s, k, b) for b in blocks(s, k).T]).amin(dim=0),
        lambda s, k: list(against(s, k, blocks(s, k).amax(1))),
        lambda s, k: against(s, k, s.view(len(s), -1, k).amax(dim=2).diagonal()),
    ],
)
def test_ranks_made_otherwise_pass(answer):
    for seed in range(3):
        result = ch09.caption_ranks(answer, seed)
        assert result.status == "passed", result.message


@pytest.mark.parametrize("answer", [lambda s, k: one_by_one(s), lambda s, k: ranks(s, own_of(s, 5))])
def test_who_takes_five_for_granted_is_told(answer):
    failed_as(ch09.caption_ranks, answer, "always five", "is there a 5 in your function?")


# ---- all three ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda *given: None, "returned None"),
        (lambda *given: "three", "return one tensor of numbers; got a str"),
        (lambda *given: {"loss": 1}, "return one tensor of numbers; got a dict"),
        (lambda *given: [[1.0, 2.0], [3.0]], "stopped with ValueError"),
        (lambda *given: [], "the shape must be"),
        (lambda *given: torch.ones(2, 2, 2), "the shape must be"),
        (lambda *given: torch.eye(2).to_sparse(), "return an ordinary tensor"),
        (lambda *given: torch.ones(2, dtype=torch.complex64), "of real numbers"),
        (lambda *given: given[0] @ torch.ones(77), "stopped with RuntimeError"),
        (lambda only: only, "stopped with TypeError"),
    ],
)
def test_what_is_no_answer_is_told_in_words(answer, words):
    for exercise in EXERCISES:
        result = getattr(ch09, exercise)(answer)
        assert (result.status, result.mistake) == ("failed", None)
        assert words in result.message


def test_no_numbers_and_arguments_changed_in_place_are_refused():
    assert "nan" in ch09.order_violation(lambda v, t: pairs(v, t).sum(2) * torch.nan).message
    assert ch09.caption_ranks(lambda s, k: torch.full((len(s),), torch.nan)).status == "failed"
    assert ch09.hardest_negative_loss(lambda s, i, m: torch.tensor(torch.nan)).mistake == "infinity times zero"

    def in_place(sim, image_id, margin):
        own = sim.diagonal().clone()
        sim[image_id[:, None] == image_id] = -torch.inf
        return relu(margin + sim.amax(0) - own).mean() + relu(margin + sim.amax(1) - own).mean()

    assert "changes its arguments in place" in ch09.hardest_negative_loss(in_place).message


def test_the_shape_that_is_asked_for_is_said():
    message = ch09.order_violation(lambda v, t: relu(pairs(v, t)).square().sum()).message
    assert "sum over the coordinates, the last axis" in message
    assert "A loss is one number" in ch09.hardest_negative_loss(lambda s, i, m: s.diagonal()).message
    assert "One number for each image" in ch09.caption_ranks(lambda s, k: s.mean()).message


@pytest.mark.parametrize("exercise", EXERCISES)
def test_inputs_tell_every_known_mistake_from_the_right_answer_and_from_the_others(exercise):
    check = getattr(ch09, f"_{exercise}")
    for mistake in check.mistakes:
        if ";" not in mistake.name:
            for seed in range(3):
                assert check(mistake.answer, seed).mistake == mistake.name
