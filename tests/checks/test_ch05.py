"""Four proofs of each check of chapter 05: stub, solution, wrong answers by name, a right answer made otherwise."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from commonspace.checks import ch05
from commonspace.losses import batch_softmax_loss, candidate_softmax_loss, hinge_loss, soft_triplet_loss


@pytest.mark.parametrize("exercise", ["batch_softmax", "soft_triplet", "hardest_hinge", "last_state"])
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch05, exercise)
    assert check(stub("05", exercise)).status == "not attempted"
    assert check(solution("05", exercise)).status == "passed"
    assert "Pass the function itself" in check(3).message


def diagonal_label(q, t, tau, *, divide=True, reduction="mean", T=False):
    S = q @ t.T / tau if divide else q @ t.T * tau
    return F.cross_entropy(S.T if T else S, torch.arange(len(q)), reduction=reduction)


def quotient(q, t, tau, below):
    """-log of a quotient of exponentials as numpy computes them; ``below``(e) is the denominator, (B,)."""
    e = np.exp(q.numpy() @ t.numpy().T / tau)
    return float(-np.log(e.diagonal() / below(e)).mean())


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda q, t, tau: quotient(q, t, tau, lambda e: e.sum(axis=1)), "exp overflows", "subtract the maximum"),
        (
            lambda q, t, tau: ((q @ t.T / tau).exp().sum(dim=1).log() - (q * t).sum(dim=1) / tau).mean(),
            "exp overflows",
            "right until scores are large",
        ),
        (lambda q, t, tau: diagonal_label(q, t, tau, divide=False), "temperature multiplied", "divided by it"),
        (lambda q, t, tau: diagonal_label(q, t, 1.0), "temperature ignored", "does nothing"),
        (
            lambda q, t, tau: quotient(q, t, tau, lambda e: len(e) * e.diagonal()),
            "constant denominator",
            "whatever the model",
        ),
        (lambda q, t, tau: float(np.log(len(q))), "constant denominator", "log B"),
        (lambda q, t, tau: diagonal_label(q, t, tau, T=True), "targets choose", "other direction"),
        (
            lambda q, t, tau: (diagonal_label(q, t, tau) + diagonal_label(t, q, tau)) / 2,
            "both directions",
            "only queries choose",
        ),
        (lambda q, t, tau: diagonal_label(q, t, tau, reduction="sum"), "summed", "mean over queries"),
        (
            lambda q, t, tau: quotient(q, t, tau, lambda e: e.sum(axis=1) - e.diagonal()),
            "own target left out",
            "one of the candidates",
        ),
        (
            lambda q, t, tau: -F.log_softmax((q @ t.T / tau).flatten(), 0).view(len(q), -1).diagonal().mean(),
            "one softmax over the matrix",
            "over its row",
        ),
        (lambda q, t, tau: -diagonal_label(q, t, tau), "sign", "MINUS"),
        (lambda q, t, tau: diagonal_label(unit(q), unit(t), tau), "cosines", "as they come"),
    ],
)
def test_wrong_batch_softmaxes_get_their_hint(answer, mistake, words):
    result = ch05.batch_softmax(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def shifted(query, target, temperature):
    S = query @ target.T / temperature
    S = S - S.amax(dim=1, keepdim=True)
    return (S.exp().sum(dim=1).log() - S.diagonal()).mean()


def test_a_batch_softmax_without_cross_entropy_passes():
    assert ch05.batch_softmax(shifted).status == "passed"
    assert ch05.batch_softmax(batch_softmax_loss).status == "passed"
    assert ch05.batch_softmax(lambda q, t, tau: candidate_softmax_loss(q, t, len(q), 2, tau)).status == "passed"


def in_numpy(query, target, temperature):
    S = query.numpy() @ target.numpy().T / temperature
    return np.mean(np.logaddexp.reduce(S, axis=1) - S.diagonal())


def written_over(query, target, temperature):
    S = query @ target.T / temperature
    S = S - S.amax(dim=1, keepdim=True)
    e = S.exp()
    loss = (e.sum(dim=1).log() - S.diagonal()).mean()
    e.zero_()  # the gradient of exp is computed from its result
    return loss


def without_gradient(query, target, temperature):
    with torch.no_grad():
        return shifted(query, target, temperature)


@pytest.mark.parametrize(
    ("exercise", "answer", "mistake", "words"),
    [
        ("batch_softmax", lambda q, t, tau: shifted(q, t, tau).item(), "no gradient", "without .item()"),
        ("batch_softmax", lambda q, t, tau: float(shifted(q, t, tau)), "no gradient", "float()"),
        ("batch_softmax", lambda q, t, tau: shifted(q, t, tau).detach(), "no gradient", "mere number"),
        ("batch_softmax", lambda q, t, tau: shifted(q.detach(), t.data, tau), "no gradient", "nothing can be trained"),
        ("batch_softmax", without_gradient, "no gradient", "torch.no_grad()"),
        ("batch_softmax", in_numpy, "no gradient", "with torch alone"),
        ("batch_softmax", written_over, "no gradient to be computed", "inplace"),
        ("batch_softmax", lambda q, t, tau: shifted(q, t.detach(), tau), "part of it detached", "not learned"),
        ("batch_softmax", lambda q, t, tau: shifted(q.detach(), t, tau), "part of it detached", "its gradient is not"),
        ("soft_triplet", lambda q, t: soft_triplet_loss(q, t).item(), "no gradient", "mere number"),
        (
            "soft_triplet",
            lambda q, t: off_diagonal(F.softplus(q @ t.T - (q * t).sum(1, keepdim=True).detach())).mean(),
            "part of it detached",
            "a constant",
        ),
        (
            "hardest_hinge",
            lambda s, same, m: torch.tensor(hinge(s.detach(), m, where_not(s.detach(), same, -np.inf, np.max))),
            "no gradient",
            "mere number",
        ),
        (
            "hardest_hinge",
            lambda s, same, m: hinge_loss(torch.where(same, s, s.detach()), m, mining="hardest", same=same),
            "part of it detached",
            "a constant",
        ),
    ],
)
def test_losses_that_cannot_be_trained_with_get_their_hint(exercise, answer, mistake, words):
    result = getattr(ch05, exercise)(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message
    assert "the value is right" in result.message


def off_diagonal(x):
    return x[~torch.eye(len(x), dtype=torch.bool)]


def gaps(q, t):
    S = q @ t.T
    return S - S.diag()[:, None]


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda q, t: off_diagonal((1 + gaps(q, t).exp()).log()).mean(), "exp overflows", "F.softplus"),
        (
            lambda q, t: (
                -off_diagonal(
                    ((q * t).sum(1).exp()[:, None] / ((q * t).sum(1).exp()[:, None] + (q @ t.T).exp())).log()
                ).mean()
            ),
            "exp overflows",
            "infinite",
        ),
        (lambda q, t: F.softplus(gaps(q, t)).mean(), "diagonal included", "costs log 2"),
        (lambda q, t: (1 + gaps(q, t).exp()).log().mean(), "diagonal included", "costs log 2"),
        (lambda q, t: F.softplus(gaps(q, t)).sum() / (len(q) * (len(q) - 1)), "diagonal summed", "adds log 2"),
        (lambda q, t: off_diagonal(F.softplus(gaps(q, t))).sum() / len(q) ** 2, "divided by B squared", "B (B - 1)"),
        (lambda q, t: off_diagonal(F.softplus(-gaps(q, t))).mean(), "sign", "own target comes nearer"),
        (
            lambda q, t: F.softplus((q * t.roll(-1, 0)).sum(1) - (q * t).sum(1)).mean(),
            "one wrong target",
            "each of the others in turn",
        ),
        (
            lambda q, t: off_diagonal(F.softplus(gaps(q, t))).sum() / len(q),
            "summed over wrong targets",
            "mean is over all",
        ),
        (lambda q, t: off_diagonal(F.softplus(gaps(q, t))).sum(), "summed", "their mean"),
        (lambda q, t: off_diagonal(F.softplus(gaps(t, q))).mean(), "targets as anchors", "from row i"),
        (lambda q, t: off_diagonal(F.relu(1 + gaps(q, t))).mean(), "hinge", "lets go"),
        (
            lambda q, t: off_diagonal(F.softplus((q - t).square().sum(1)[:, None] - torch.cdist(q, t) ** 2)).mean(),
            "squared distances",
            "released code",
        ),
    ],
)
def test_wrong_soft_triplets_get_their_hint(answer, mistake, words):
    result = ch05.soft_triplet(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_soft_triplets_made_otherwise_pass():
    def loops(query, target):
        B = len(query)
        costs = [-F.logsigmoid(query[i] @ (target[i] - target[j])) for i in range(B) for j in range(B) if j != i]
        return sum(costs) / len(costs)

    assert ch05.soft_triplet(loops).status == "passed"
    assert ch05.soft_triplet(soft_triplet_loss).status == "passed"
    two_of_all = ch05.soft_triplet(lambda q, t: candidate_softmax_loss(q, t, 2, len(q) - 1))
    assert two_of_all.status == "passed"


def hinge(sim, margin, chosen, own=None):
    return np.maximum(0, margin + chosen - (sim.diagonal() if own is None else own).numpy()).mean()


def where_not(sim, mask, value, pick):
    return pick(np.where(mask.numpy(), value, sim.numpy()), axis=1)


def eye(sim):
    return torch.eye(len(sim), dtype=torch.bool)


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda s, same, m: hinge(s, m, where_not(s, eye(s), -np.inf, np.max)), "diagonal only", "Mask all of same"),
        (lambda s, same, m: hinge(s, m, where_not(s, same, 0, np.max)), "masked by zero", "minus infinity"),
        (
            lambda s, same, m: hinge(s, m, where_not(s, eye(s), 0, np.max)),
            "diagonal only, masked by zero",
            "A twin is a right answer too",
        ),
        (
            lambda s, same, m: hinge_loss(s, m, mining="all", same=same),
            "all wrong targets",
            "hardest alone",
        ),
        (lambda s, same, m: hinge(s, m, where_not(s, same, np.inf, np.min)), "the easiest", "Higher is closer"),
        (
            lambda s, same, m: hinge(s, m, where_not(s, same, -np.inf, np.max), s.where(same, -torch.inf).amax(1)),
            "best right answer",
            "own target",
        ),
        (
            lambda s, same, m: (m + where_not(s, same, -np.inf, np.max) - s.diagonal().numpy()).mean(),
            "no hinge",
            "Cut it off at 0",
        ),
        (
            lambda s, same, m: max(0.0, (m + where_not(s, same, -np.inf, np.max) - s.diagonal().numpy()).mean()),
            "hinge after the mean",
            "cut off first",
        ),
        (lambda s, same, m: hinge(s, -m, where_not(s, same, -np.inf, np.max)), "margin subtracted", "BY the margin"),
        (lambda s, same, m: hinge(s, m, where_not(s.T, same.T, -np.inf, np.max)), "columns", "Rows are queries"),
    ],
)
def test_wrong_hinges_get_their_hint(answer, mistake, words):
    result = ch05.hardest_hinge(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_hardest_negatives_made_otherwise_pass():
    def by_sorting(sim, same, margin):
        order = sim.argsort(dim=1, descending=True)
        first = (~same.gather(1, order)).int().argmax(dim=1)
        hardest = sim.gather(1, order).gather(1, first[:, None])[:, 0]
        return F.relu(margin + hardest - sim.diagonal()).mean()

    assert ch05.hardest_hinge(by_sorting).status == "passed"
    assert ch05.hardest_hinge(lambda s, same, m: hinge_loss(s, m, mining="hardest", same=same)).status == "passed"


def at(states, column):
    """The states (B, d) in column (B,) of each row, by gather."""
    return states.gather(1, column[:, None, None].expand(-1, 1, states.shape[2]))[:, 0]


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda h, ids, p: h[:, -1, :], "last column", "longest text of the batch"),
        (lambda h, ids, p: h[:, (ids != p).sum(1).max() - 1], "length of the longest", "length of its own"),
        (lambda h, ids, p: h[:, (ids != p).sum(1) - 1], "all columns of all texts", "(B, B, d)"),
        (lambda h, ids, p: h[:, (ids != p).sum(1) - 1][:, 0], "length of the first", "one column for all"),
        (
            lambda h, ids, p: at(h, (((ids > 0) & (ids != p)).sum(1) - 1) % h.shape[1]),
            "unknown words not counted",
            "An unknown word is a word",
        ),
        (lambda h, ids, p: at(h, (ids > 0).sum(1) - 1), "0 taken for the filling", "an id of its own"),
        (lambda h, ids, p: at(h, (ids != p).sum(1)), "one too far", "Subtract 1"),
        (lambda h, ids, p: at(h, ((ids != p).sum(1) - 2) % h.shape[1]), "one too early", "one column too early"),
        (lambda h, ids, p: h[:, 0], "first column", "one word"),
        (
            lambda h, ids, p: torch.stack([row[i != p].mean(0) for row, i in zip(h, ids, strict=True)]),
            "mean over the words",
            "last state",
        ),
    ],
)
def test_wrong_last_states_get_their_hint(answer, mistake, words):
    for seed in range(3):
        result = ch05.last_state(answer, seed)
        assert (result.status, result.mistake) == ("failed", mistake)
        assert words in result.message


def test_last_states_made_otherwise_pass():
    def by_mask(states, ids, padding):
        word = ids != padding
        last = word & ~F.pad(word, (0, 1))[:, 1:]
        return states[last]

    assert ch05.last_state(by_mask).status == "passed"
    loop = ch05.last_state(lambda h, ids, p: torch.stack([row[i != p][-1] for row, i in zip(h, ids, strict=True)]))
    assert loop.status == "passed"


def test_where_the_highest_id_stands_is_no_answer():
    """It is right only where the filling has the highest id."""
    result = ch05.last_state(lambda states, ids, padding: states[torch.arange(len(ids)), ids.argmax(dim=1) - 1])
    assert result.status == "failed"
