"""Four proofs of each check of chapter 10: stub, solution, wrong answers by name, a right answer made otherwise."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from commonspace.checks import ch10
from commonspace.models._writing import beam_search as library_search

EXERCISES = ("teacher_forcing", "masked_cross_entropy", "beam_search")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch10, exercise)
    assert check(stub("10", exercise)).status == "not attempted"
    assert check(solution("10", exercise)).status == "passed"
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


# ---- 1: teacher forcing ---------------------------------------------------------------------------------------------


def column(ids, number):
    return torch.full((len(ids), 1), number)


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda ids, start: ids.clone(), "no shift", "the loss falls to 0"),
        (lambda ids, start: ids.index_fill(1, torch.tensor([0]), start), "no shift", "the token BEFORE it"),
        (lambda ids, start: torch.cat([ids[:, 1:], column(ids, start)], 1), "shifted the wrong way", "to the left"),
        (lambda ids, start: F.pad(ids[:, 1:], (0, 1), value=start), "shifted the wrong way", "one place to the right"),
        (lambda ids, start: torch.roll(ids, -1, dims=1), "shifted the wrong way", "the token AFTER"),
        (lambda ids, start: ids[:, 1:], "shifted the wrong way", "what comes before"),
        (lambda ids, start: torch.roll(ids, 1, dims=1), "start forgotten", "does not stand at place 0"),
        (lambda ids, start: torch.cat([ids[:, -1:], ids[:, :-1]], 1), "start forgotten", "the shift is right"),
        (lambda ids, start: torch.cat([ids[:, :1], ids[:, :-1]], 1), "start forgotten", "has read nothing"),
        (lambda ids, start: F.pad(ids[:, :-1], (1, 0)), "start forgotten", "what it reads then is start"),
        (lambda ids, start: ids[:, :-1], "start forgotten", "does not stand at place 0"),
        (lambda ids, start: torch.roll(ids, 1), "start forgotten", "the shift is right"),
        (lambda ids, start: torch.cat([column(ids, start), ids], 1), "last token not cut off", "T + 1 places"),
        (lambda ids, start: [[start, *row] for row in ids.tolist()], "last token not cut off", "is never read"),
        (lambda ids, start: torch.cat([ids[:, :-1], column(ids, start)], 1), "start at the end", "read first"),
        (lambda ids, start: F.pad(ids[:-1], (0, 0, 1, 0), value=start), "sentences shifted, not places", "dim 1"),
    ],
)
def test_what_is_read_wrongly_gets_its_hint(answer, mistake, words):
    failed_as(ch10.teacher_forcing, answer, mistake, words)


def written_in(ids, start):
    read = torch.empty_like(ids)
    read[:, 0] = start
    read[:, 1:] = ids[:, :-1]
    return read


@pytest.mark.parametrize(
    "answer",
    [
        written_in,
        lambda ids, start: [[start, *row[:-1]] for row in ids.tolist()],
        lambda ids, start: F.pad(ids[:, :-1], (1, 0), value=start),
        lambda ids, start: np.concatenate([np.full((len(ids), 1), start), ids.numpy()[:, :-1]], axis=1),
        lambda ids, start: ids.roll(1, 1).index_fill(1, torch.tensor([0]), start).int(),
        lambda ids, start: torch.stack([column(ids, start)[:, 0], *ids.T[:-1]], dim=1),
    ],
)
def test_what_is_read_made_otherwise_passes(answer):
    passes(ch10.teacher_forcing, answer)


def test_ids_must_be_whole_numbers_and_stay_as_they_were():
    failed_as(
        ch10.teacher_forcing,
        lambda ids, start: torch.cat([torch.ones(len(ids), 1) * start, ids[:, :-1]], dim=1),
        "no integers",
        "nn.Embedding takes ids, which are integers",
    )

    def in_place(ids, start):
        ids[:, 1:] = ids[:, :-1].clone()
        ids[:, 0] = start
        return ids

    assert "changes its arguments in place" in ch10.teacher_forcing(in_place).message


# ---- 2: masked cross-entropy ----------------------------------------------------------------------------------------


def costs(logits, ids):
    """-log p at each place, (B, T)."""
    return F.cross_entropy(logits.transpose(1, 2), ids, reduction="none")


def words_alone(mask):
    return F.pad(mask[:, 1:], (0, 1))  # the end is the last that is real


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda x, ids, mask: costs(x, ids).mean(), "filling averaged in", "the longest sentence of the batch"),
        (lambda x, ids, mask: F.cross_entropy(x.flatten(0, 1), ids.flatten()), "filling averaged in", "mask is True"),
        (lambda x, ids, mask: costs(x, ids).sum() / mask.sum(), "filling averaged in", "above and below the line"),
        (lambda x, ids, mask: (costs(x, ids) * mask).mean(), "divided by B T", "mask.sum()"),
        (lambda x, ids, mask: costs(x, ids)[words_alone(mask)].mean(), "end left out", "writes on and on"),
        (lambda x, ids, mask: costs(x * mask[:, :, None], ids).mean(), "logits multiplied by mask", "costs log V"),
        (
            lambda x, ids, mask: (costs(x, ids) * words_alone(mask)).sum() / mask.sum(),
            "end left out",
            "The end is not".lower(),
        ),
        (
            lambda x, ids, mask: (costs(x, ids) * mask).sum() / (mask.sum(1) - 1).sum(),
            "end left out",
            "the same id as the end",
        ),
        (
            lambda x, ids, mask: ((costs(x, ids) * mask).sum(1) / mask.sum(1)).mean(),
            "mean of the sentences' means",
            "counts less",
        ),
        (lambda x, ids, mask: costs(x, ids)[mask].sum(), "summed", "you return the sum"),
        (lambda x, ids, mask: (costs(x, ids) * mask).sum(1).mean(), "summed", "the number of sentences"),
        (
            lambda x, ids, mask: -x.gather(2, ids[:, :, None])[:, :, 0][mask].mean(),
            "logits taken for log p",
            "log_softmax over the last axis",
        ),
        (
            lambda x, ids, mask: -x.softmax(2).gather(2, ids[:, :, None])[:, :, 0][mask].mean(),
            "no logarithm",
            "minus their LOGARITHM",
        ),
        (
            lambda x, ids, mask: F.cross_entropy(x.softmax(2)[mask], ids[mask]),
            "softmax twice",
            "expects the logits themselves",
        ),
        (
            lambda x, ids, mask: -x.log_softmax(1).gather(2, ids[:, :, None])[:, :, 0][mask].mean(),
            "softmax over the wrong axis",
            "the last axis",
        ),
        (
            lambda x, ids, mask: F.cross_entropy(
                x.reshape(len(x), x.shape[2], -1), ids, reduction="none"
            )[mask].mean(),
            "reshaped, not transposed",
            ".transpose(1, 2)",
        ),
        (
            lambda x, ids, mask: F.cross_entropy(x[:, :-1][mask[:, 1:]], ids[:, 1:][mask[:, 1:]]),
            "shifted once more",
            "logits[:, t] already tell ids[:, t]",
        ),
        (
            lambda x, ids, mask: F.cross_entropy(x[mask], ids[mask], ignore_index=0),
            "0 taken for the filling",
            "a word like others",
        ),
        (
            lambda x, ids, mask: F.cross_entropy(x.transpose(1, 2), ids, ignore_index=0),
            "0 taken for the filling",
            "mask says what counts",
        ),
        (lambda x, ids, mask: costs(x, ids).masked_fill(mask, 0).sum() / (~mask).sum(), "mask turned round", "True"),
        (lambda x, ids, mask: -F.cross_entropy(x[mask], ids[mask]), "sign", "MINUS"),
        (lambda x, ids, mask: F.cross_entropy(x[mask], ids[mask]).exp(), "perplexity", "exp of what"),
        (
            lambda x, ids, mask: -(costs(x, ids) * mask).mean(),
            "divided by B T; sign",
            "And then: the sign is wrong",
        ),
        (
            lambda x, ids, mask: F.nll_loss((x[mask].exp() / x[mask].exp().sum(1, keepdim=True)).log(), ids[mask]),
            "exp overflows",
            "until logits are large",
        ),
        (
            lambda x, ids, mask: (x[mask].exp().sum(1).log() - x[mask].gather(1, ids[mask][:, None])[:, 0]).mean(),
            "exp overflows",
            "subtracts the maximum",
        ),
        (lambda x, ids, mask: F.nll_loss(x[mask].softmax(1).log(), ids[mask]), "log of 0", "its logarithm infinite"),
        (lambda x, ids, mask: F.nll_loss((x[mask].softmax(1) + 1e-9).log(), ids[mask]), "lifted", "no such help"),
    ],
)  # fmt: skip
def test_wrong_costs_get_their_hint(answer, mistake, words):
    failed_as(ch10.masked_cross_entropy, answer, mistake, words)


def place_by_place(logits, ids, mask):
    total, n = 0.0, 0
    for b in range(len(ids)):
        for t in range(ids.shape[1]):
            if mask[b, t]:
                total = total + torch.logsumexp(logits[b, t], 0) - logits[b, t, ids[b, t]]
                n += 1
    return total / n


def with_einsum(logits, ids, mask):
    right = F.one_hot(ids, logits.shape[2]).float() * mask[:, :, None]
    return -torch.einsum("btv,btv->", right, F.log_softmax(logits, dim=-1)) / mask.float().sum()


def ignoring(logits, ids, mask):
    return F.cross_entropy(logits.transpose(1, 2), ids.masked_fill(~mask, -100))


@pytest.mark.parametrize(
    "answer",
    [
        place_by_place,
        with_einsum,
        ignoring,
        lambda x, ids, mask: F.cross_entropy(x[mask], ids[mask]),
        lambda x, ids, mask: F.cross_entropy(x.double()[mask], ids[mask]),
        lambda x, ids, mask: (costs(x, ids) * mask).sum() / mask.sum(),
        lambda x, ids, mask: [F.cross_entropy(x[mask], ids[mask])],
        lambda x, ids, mask: torch.where(mask, costs(x, ids), torch.nan).nanmean(),
        lambda x, ids, mask: (costs(x, ids) * mask).sum(1).dot(torch.ones(len(x))) / mask.sum(),
        lambda x, ids, mask: F.nll_loss(x.log_softmax(2)[mask], ids[mask]),
    ],
)
def test_costs_made_otherwise_pass(answer):
    passes(ch10.masked_cross_entropy, answer)


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda x, ids, mask: ignoring(x, ids, mask).item(), "no gradient", "mere number"),
        (lambda x, ids, mask: ignoring(x.detach(), ids, mask), "no gradient", "nothing can be trained"),
        (
            lambda x, ids, mask: (x.detach().logsumexp(2) - x.gather(2, ids[:, :, None])[:, :, 0])[mask].mean(),
            "part of it detached",
            "a constant",
        ),
    ],
)
def test_right_costs_without_gradient_get_their_hint(answer, mistake, words):
    failed_as(ch10.masked_cross_entropy, answer, mistake, words)


def test_who_gives_cross_entropy_another_axis_is_told_which():
    message = ch10.masked_cross_entropy(lambda x, ids, mask: F.cross_entropy(x, ids)).message
    assert "Expected target size" in message
    assert "F.cross_entropy expects the V classes in dim 1" in message
    message = ch10.masked_cross_entropy(lambda x, ids, mask: x @ torch.ones(77)).message
    assert "cross_entropy expects" not in message


# ---- 3: beam search -------------------------------------------------------------------------------------------------


def beams_of(
    step, state, start, end, width, max_length,
    *, ends=True, grow=None, best=lambda total, ids: total, keep=True, cut=True, stop=math.inf, fewer=False,
    all_ends=False,
):  # fmt: skip
    """Beams as tuples, sorted; what is set otherwise goes wrong."""
    beams, finished = [(0.0, [], state)], []
    for _ in range(max_length):
        grown = []
        for total, ids, its in beams[:grow]:
            log_p, after = step(ids[-1] if ids else start, its)
            grown += [(total + log_p[i].item(), [*ids, i], after) for i in range(len(log_p))]
        if all_ends:
            finished += [beam for beam in grown if beam[1][-1] == end]
            grown = [beam for beam in grown if beam[1][-1] != end]
        kept = sorted(grown, key=lambda beam: beam[0], reverse=True)[: width if keep else None]
        if not ends:
            beams = kept
            continue
        over = [beam for beam in kept if beam[1][-1] == end]
        finished += over
        beams = [beam for beam in kept if beam[1][-1] != end]
        width -= len(over) * fewer
        if len(finished) >= stop:
            break
    total, ids, _ = max(finished + (beams if cut or not finished else []), key=lambda beam: best(*beam[:2]))
    return ids, total


def written_greedily(step, state, start, end, width, max_length):
    ids, total, token = [], 0.0, start
    while token != end and len(ids) < max_length:
        log_p, state = step(token, state)
        total, token = total + log_p.max().item(), log_p.argmax().item()
        ids.append(token)
    return ids, total


def forgetting(step, state, start, end, width, max_length):
    """A beam that ends is dropped."""
    beams = [(0.0, [], state)]
    for _ in range(max_length):
        grown = []
        for total, ids, its in beams:
            log_p, after = step(ids[-1] if ids else start, its)
            grown += [(total + p, [*ids, i], after) for i, p in enumerate(log_p.tolist())]
        grown = sorted(grown, key=lambda beam: -beam[0])[:width]
        beams = [beam for beam in grown if beam[1][-1] != end]
    return beams[0][1], beams[0][0]


def staying(step, state, start, end, width, max_length):
    """A finished beam stays among the others."""
    beams = [(0.0, [], state)]
    for _ in range(max_length):
        grown = []
        for beam in beams:
            total, ids, its = beam
            if ids and ids[-1] == end:
                grown.append(beam)
                continue
            log_p, after = step(ids[-1] if ids else start, its)
            grown += [(total + p, [*ids, i], after) for i, p in enumerate(log_p.tolist())]
        beams = sorted(grown, key=lambda beam: -beam[0])[:width]
    return beams[0][1], beams[0][0]


def with_one_state(step, state, start, end, width, max_length, each=False):
    """``state`` is one variable, written over in the loop over beams; ``each``: the first one every time."""
    first, beams, finished = state, [([], 0.0)], []
    for _ in range(max_length):
        grown = []
        for ids, total in beams:
            log_p, state = step(ids[-1] if ids else start, first if each else state)
            grown += [([*ids, i], total + p) for i, p in enumerate(log_p.tolist())]
        kept = sorted(grown, key=lambda beam: -beam[1])[:width]
        finished += [beam for beam in kept if beam[0][-1] == end]
        beams = [beam for beam in kept if beam[0][-1] != end]
    return max(finished + beams, key=lambda beam: beam[1])


def by_the_last(step, state, start, end, width, max_length, total_at_last=True):
    """Compares log p of the last token as beams grow."""
    beams, finished = [(0.0, 0.0, [], state)], []
    for _ in range(max_length):
        grown = []
        for _, total, ids, its in beams:
            log_p, after = step(ids[-1] if ids else start, its)
            grown += [(p, total + p, [*ids, i], after) for i, p in enumerate(log_p.tolist())]
        kept = sorted(grown, key=lambda beam: -beam[0])[:width]
        finished += [beam for beam in kept if beam[2][-1] == end]
        beams = [beam for beam in kept if beam[2][-1] != end]
    found = max(finished + beams, key=lambda beam: beam[total_at_last])
    return found[2], found[1]


def each_its_likeliest(step, state, start, end, width, max_length):
    """``width`` first tokens, each continued greedily."""
    log_p, after = step(start, state)
    found = []
    for i in log_p.argsort(descending=True)[:width].tolist():
        ids, total = written_greedily(step, after, i, end, 1, max_length - 1) if i != end else ([], 0.0)
        found.append(([i, *ids], log_p[i].item() + total))
    return max(found, key=lambda beam: beam[1])


def copies(step, state, start, end, width, max_length):
    """Begins with ``width`` beams that are alike."""
    beams, finished = [([], 0.0, state)] * width, []
    for _ in range(max_length):
        grown = []
        for ids, total, its in beams:
            log_p, after = step(ids[-1] if ids else start, its)
            grown += [([*ids, i], total + p, after) for i, p in enumerate(log_p.tolist())]
        kept = sorted(grown, key=lambda beam: -beam[1])[:width]
        finished += [beam for beam in kept if beam[0][-1] == end]
        beams = [beam for beam in kept if beam[0][-1] != end]
    return max(finished + beams, key=lambda beam: beam[1])[:2]


def up_to_the_end(found, end):
    ids, total = found
    return ids[: ids.index(end) + 1] if end in ids else ids, total


def changed(ids=lambda ids, start, end: ids, total=lambda total, ids: total, more=0):
    """Right but for what is returned, or for ``max_length``."""

    def answer(step, state, start, end, width, max_length):
        found, value = beams_of(step, state, start, end, width, max_length + more)
        return ids(found, start, end), total(value, found)

    return answer


def filled_up(*given):
    ids, total = beams_of(*given)
    return [*ids, *[given[3]] * (given[5] - len(ids))], total


def without_end(ids, start, end):
    return [i for i in ids if i != end]


def set_otherwise(**settings):
    return lambda *given: beams_of(*given, **settings)


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (written_greedily, "greedy", "whatever width is"),
        (set_otherwise(grow=1), "greedy", "you grow the best beam alone"),
        (copies, "greedy", "copies of ONE beam"),
        (each_its_likeliest, "one token for each beam", "Grow each by ALL tokens"),
        (set_otherwise(ends=False), "finished beams grow on", "go on after the end"),
        (lambda *given: up_to_the_end(beams_of(*given, ends=False), given[3]), "finished beams grow on", "set aside"),
        (forgetting, "finished beams forgotten", "in a list of their own"),
        (staying, "finished beams keep their places", "pushed out by them"),
        (set_otherwise(fewer=True), "beams become fewer", "at each step"),
        (set_otherwise(all_ends=True), "every end set aside", "Else width 1 is not greedy"),
        (set_otherwise(stop=1, cut=False), "stops too early", "Another that ends later"),
        (set_otherwise(stop=1), "stops too early", "you stop as soon as one beam has ended"),
        (lambda *given: beams_of(*given, stop=given[4]), "stops too early", "as many as width"),
        (by_the_last, "step by step, not the sum", "the SUM of their log-probabilities"),
        (lambda *given: by_the_last(*given, total_at_last=False), "step by step, not the sum", "the last token alone"),
        (set_otherwise(best=lambda total, ids: total / len(ids)), "divided by the length", "favour long sentences"),
        (with_one_state, "one state for all beams", "keep with each beam the state"),
        (lambda *given: with_one_state(*given, each=True), "always the first state", "remembers nothing"),
        (set_otherwise(keep=False), "width ignored", "ALL beams together"),
        (set_otherwise(cut=False), "cut beams not compared", "Both are compared"),
        (changed(more=1), "another length", "one further"),
        (changed(more=-1), "another length", "stop one short"),
        (changed(ids=without_end), "start or end among the ids", "with the end"),
        (filled_up, "start or end among the ids", "with the end, once"),
        (lambda *given: beams_of(*given[:2], given[3], *given[3:]), "another start", "reads the end there"),
        (changed(ids=lambda ids, start, end: [start, *ids]), "start or end among the ids", "only read"),
        (changed(total=lambda total, ids: math.exp(total)), "another number", "not its exp"),
        (changed(total=lambda total, ids: -total), "another number", "not minus it"),
        (changed(total=lambda total, ids: total / len(ids)), "another number", "no mean"),
    ],
)  # fmt: skip
def test_wrong_searches_get_their_hint(answer, mistake, words):
    failed_as(ch10.beam_search, answer, mistake, words)


def with_topk(step, state, start, end, width, max_length):
    """Sums in one tensor, topk over all of them, and an early stop."""
    ids, states, totals = [[]], [state], torch.zeros(1)
    best = (-math.inf, None)
    for t in range(max_length):
        told = [step(i[-1] if i else start, its) for i, its in zip(ids, states, strict=True)]
        grown = totals[:, None] + torch.stack([log_p for log_p, _ in told])
        values, places = grown.flatten().topk(min(width, grown.numel()))
        going = []
        for value, place in zip(values, places.tolist(), strict=True):
            parent, token = divmod(place, grown.shape[1])
            said = [*ids[parent], torch.tensor(token)]
            if token == end or t == max_length - 1:
                best = max(best, (value, said), key=lambda found: found[0])
            else:
                going.append((value, said, told[parent][1].clone()))
        if not going or best[0] >= going[0][0]:
            break
        totals, ids, states = torch.stack([g[0] for g in going]), [g[1] for g in going], [g[2] for g in going]
    return best[1], best[0]


def in_words_of_the_library(step, state, start, end, width, max_length):
    """The library's, whose ``step`` reads many rows; there what is read first is the end."""
    begun = False

    def rows(tokens, states):
        nonlocal begun
        read = tokens.tolist() if begun else [start] * len(tokens)
        begun = True
        told = [step(token, its.long()) for token, its in zip(read, states[0][0], strict=True)]
        return torch.stack([log_p for log_p, _ in told]), (torch.stack([after.double() for _, after in told])[None],)

    ids, log_p = library_search(rows, (state.reshape(1, 1).double(),), end, width, max_length)
    return up_to_the_end((ids[0].tolist(), log_p[0]), end)


def recursive(step, state, start, end, width, max_length):
    def search(beams):
        grown = [
            (total + p, (*ids, i), after)
            for total, ids, its in beams
            for log_p, after in [step(ids[-1] if ids else start, its)]
            for i, p in enumerate(log_p)
        ]
        grown.sort(key=lambda beam: float(beam[0]))
        kept = grown[-width:]
        over = [b for b in kept if b[1][-1] == end or len(b[1]) == max_length]
        on = [b for b in kept if b not in over]
        return over + (search(on) if on else [])

    total, ids, _ = max(search([(0.0, (), state)]), key=lambda beam: beam[0])
    return torch.tensor(ids), total


@pytest.mark.parametrize("answer", [beams_of, with_topk, recursive, lambda *given: [*beams_of(*given)]])
def test_searches_made_otherwise_pass(answer):
    passes(ch10.beam_search, answer)


def test_the_reference_is_greedy_with_width_1_and_misses_nothing_where_it_is_wide():
    for seed in range(20):
        language, state, start, end, _, _ = ch10._language(np.random.default_rng(seed))
        V, T = language.shape[1], 3
        greedy = ch10._searched(written_greedily)(language, state, start, end, 1, T)
        narrow = ch10._read_anew(language, state, start, end, 1, T)
        assert (greedy["ids"], greedy["log p"]) == (narrow["ids"], pytest.approx(narrow["log p"]))

        said = {}
        for ids in product(range(V), repeat=T):
            step, its, total, read, ids = ch10._step(language), state, 0.0, start, list(ids)
            ids = ids[: ids.index(end) + 1] if end in ids else ids
            for token in ids:
                log_p, its = step(read, its)
                total, read = total + log_p[token].item(), token
            said[tuple(ids)] = total
        best = max(said, key=said.get)
        found = ch10._read_anew(language, state, start, end, V**T, T)
        assert (tuple(found["ids"]), found["log p"]) == (best, pytest.approx(said[best]))


def test_the_reference_is_the_librarys():
    for seed in range(20):
        language, state, start, end, width, T = ch10._language(np.random.default_rng(seed))
        found = ch10._searched(in_words_of_the_library)(language, state, start, end, min(width, language.shape[1]), T)
        expected = ch10._read_anew(language, state, start, end, min(width, language.shape[1]), T)
        assert found["ids"] == expected["ids"]
        assert found["log p"] == pytest.approx(expected["log p"])


def test_what_is_left_without_a_beam_is_told_by_its_mistake_or_by_its_error():
    result = ch10.beam_search(forgetting)
    assert result.mistake == "finished beams forgotten"
    assert "got []" in result.message

    def never_finished(step, state, start, end, width, max_length):
        step(start, state)
        return max([])

    assert "stopped with ValueError: max()" in ch10.beam_search(never_finished).message

    def last_of_nothing(step, state, start, end, width, max_length):
        return step([][-1], state)

    assert "stopped with IndexError: list index out of range" in ch10.beam_search(last_of_nothing).message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda step, state, *rest: (step, state)[2], "stopped with IndexError: tuple index out of range"),
        (lambda step, state, *rest: step(99, state), "step reads one token, a whole number; got 99"),
        (lambda step, state, start, *rest: step(start, None), "step takes the state you were given"),
        (lambda step, state, start, *rest: step(start, state)[0].topk(9), "min(width, how many)"),
        (lambda *given: [1, 2, 3], "return two things"),
        (lambda *given: "ab", "return two things"),
        (lambda *given: (-1.0, [1, 2]), "return the list of ids first"),
        (lambda *given: (7, -1.0), "return the list of ids first"),
        (lambda *given: ([1, 2], "p"), "stopped with ValueError"),
        (lambda *given: ([1, 2], None), "stopped with TypeError"),
        (lambda *given: (["a"], 1.0), "stopped with ValueError"),
        (lambda *given: (None, -math.inf), "got []"),
        (lambda *given: ([1, 2], math.nan), "got nan"),
        (lambda *given: (torch.ones(2, 2), 1.0), "stopped with"),
    ],
)
def test_what_is_no_search_is_told_in_words(answer, words):
    result = ch10.beam_search(answer)
    assert (result.status, result.mistake) == ("failed", None)
    assert words in result.message


def test_a_loop_without_end_is_stopped():
    def on_and_on(step, state, start, end, width, max_length):
        while True:
            _, state = step(start, state)

    assert "Do your loops come to an end at max_length?" in ch10.beam_search(on_and_on).message


def test_what_step_gives_may_be_written_over():
    def in_place(step, state, start, end, width, max_length):
        def added(token, its):
            log_p, after = step(token, its)
            kept = log_p.clone(), after.clone()
            log_p.zero_(), after.zero_(), its.add_(0)
            return kept

        return beams_of(added, state, start, end, width, max_length)

    passes(ch10.beam_search, in_place)


@pytest.mark.parametrize("rare", ["finished beams keep their places", "beams become fewer", "stops too early"])
def test_for_each_mistake_a_language_is_drawn_on_which_it_goes_wrong(rare):
    """These go wrong on one language in some dozens or hundreds: the others that are tried mostly let them pass."""
    drawn_alone = replace(ch10._beam_search, always=(), trials=0)
    ways = next(ways for name, _, *ways in ch10.SEARCHES if name == rare)
    for way in ways:
        assert drawn_alone(ch10._search(**way), 1).mistake == rare


# ---- all three ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda *given: "three", "return one tensor of numbers; got a str"),
        (lambda *given: {"loss": 1}, "return one tensor of numbers; got a dict"),
        (lambda *given: [[1.0, 2.0], [3.0]], "stopped with ValueError"),
        (lambda *given: [], "the shape must be"),
        (lambda *given: torch.ones(2, 2, 2), "the shape must be"),
        (lambda only: only, "stopped with TypeError"),
        (lambda *given: None, "returned None"),
    ],
)
def test_what_is_no_answer_is_told_in_words(answer, words):
    for exercise in ("teacher_forcing", "masked_cross_entropy"):
        result = getattr(ch10, exercise)(answer)
        assert (result.status, result.mistake) == ("failed", None)
        assert words in result.message
    assert "returned None" in ch10.beam_search(lambda *given: None).message


def test_no_numbers_are_refused():
    assert ch10.masked_cross_entropy(lambda x, ids, mask: x.mean() * torch.nan).status == "failed"
    assert ch10.teacher_forcing(lambda ids, start: ids * torch.nan).status == "failed"


@pytest.mark.parametrize("exercise", EXERCISES[:2])
def test_inputs_tell_every_known_mistake_from_the_right_answer_and_from_the_others(exercise):
    check = getattr(ch10, f"_{exercise}")
    for mistake in check.mistakes:
        if ";" not in mistake.name:
            for seed in range(3):
                assert check(mistake.answer, seed).mistake == mistake.name


def test_languages_tell_every_known_search_from_the_right_one_and_from_the_others():
    passes(ch10.beam_search, ch10._search())
    for name, _, *ways in ch10.SEARCHES:
        for way in ways:
            assert ch10.beam_search(ch10._search(**way), 0).mistake == name
