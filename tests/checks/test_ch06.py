"""Four proofs of each check of chapter 06: stub, solution, wrong answers by name, a right answer made otherwise."""

import numpy as np
import pytest
import torch

from commonspace import metrics
from commonspace.checks import ch06


@pytest.mark.parametrize("exercise", ["rank", "kept_and_changed", "operator", "queries_by_caption"])
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch06, exercise)
    assert check(stub("06", exercise)).status == "not attempted"
    assert check(solution("06", exercise)).status == "passed"
    assert "Pass the function itself" in check(3).message


def by_sorting(scores, relevant, source, *, wanted=None, out=None, keep_source=False, lucky=False, start=0):
    """Where the first of ``wanted`` stands in a list sorted by score, those in ``out`` struck from it; ties are placed
    behind wrong answers, or before them for the ``lucky``."""
    wanted = relevant if wanted is None else wanted
    out = [i for i in relevant if i not in wanted] if out is None else out
    left = [i for i in range(len(scores)) if i not in out and (keep_source or i != source)]
    left.sort(key=lambda i: (-scores[i], (i in wanted) != lucky))
    return start + next(place for place, i in enumerate(left) if i in wanted)


def by_order(scores, relevant, source, order=None):
    """Where the first right answer stands in a sort that leaves ties as they come."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i]) if order is None else order.tolist()
    order.remove(source)
    return min(order.index(i) for i in relevant)


def worst(scores, relevant):
    return [min(relevant, key=lambda i: scores[i])]


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (
            lambda s, r, x: by_sorting(s, r, x, wanted=r[:1], out=[]),
            "counts one of them only",
            "stand in its way",
        ),
        (
            lambda s, r, x: by_sorting(s, r, x, wanted=r[:1]),
            "counts one of them only, others left out",
            "do not count as found",
        ),
        (
            lambda s, r, x: by_sorting(s, r, x, wanted=r[:1], out=[], keep_source=True),
            "counts one of them only, source included",
            "any right answer will do",
        ),
        (lambda s, r, x: by_sorting(s, r, x, wanted=worst(s, r)), "the last of them", "One is enough"),
        (lambda s, r, x: by_sorting(s, r, x, keep_source=True), "source not excluded", "has it already"),
        (lambda s, r, x: by_sorting(s, r, x, lucky=True), "ties for the query", "at least as high"),
        (by_order, "ties by position", "that is luck"),
        (lambda s, r, x: by_order(s[::-1], [len(s) - 1 - i for i in r], len(s) - 1 - x), "ties by position", "Do not"),
        (lambda s, r, x: by_order(s, r, x, np.argsort(-s)), "ties by position", "at least as high"),
        (lambda s, r, x: by_order(s, r, x, np.argsort(s)[::-1]), "ties by position", "the sort puts first"),
        (lambda s, r, x: by_sorting(s, r, x, start=1), "counts from 1", "Rank 0 is the best"),
    ],
)
def test_wrong_ranks_get_their_hint(answer, mistake, words):
    result = ch06.rank(answer, 0)  # on unlucky inputs two of these mistakes look alike
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_ranks_by_sorting_and_by_the_library_pass():
    assert ch06.rank(by_sorting).status == "passed"
    assert ch06.rank(lambda s, r, x: metrics.ranks(s[None], [r], exclude=[x])[0]).status == "passed"


def by_loops(attributes, source, target, sim, *, leaves="own", group=None, right="target", weigh="query", strict=False):
    """(kept, changed) in plain loops, with a switch for each slip."""
    totals = {"kept": [], "changed": []}
    for i, (s, t) in enumerate(zip(source.tolist(), target.tolist(), strict=True)):
        out = {"own": {s}, "nobody": set(), "all": set(source.tolist())}[leaves]
        a = max((j for j in range(sim.shape[1]) if j not in out), key=lambda j: sim[i, j])
        columns = range(attributes.shape[1])
        stays = [k for k in columns if attributes[s, k] == attributes[t, k]]
        moves = [k for k in columns if k not in stays]
        totals["kept"].append([attributes[a, k] == attributes[t, k] for k in stays])
        counted = columns if group == "all" else moves
        if right == "target":
            hits = [attributes[a, k] == attributes[t, k] for k in counted]
        else:
            hits = [attributes[a, k] != attributes[s, k] for k in counted]
        whole = all(attributes[a] == attributes[t])
        totals["changed"].append([whole] if strict else hits)
    if weigh == "query":
        return tuple(np.mean([np.mean(hits) for hits in rows]) for rows in totals.values())
    return tuple(np.mean(np.concatenate(rows)) for rows in totals.values())


def over_all(attributes, source, target, sim):
    """Kept as the share of all attributes in which the answer agrees with the source."""
    _, changed = by_loops(attributes, source, target, sim)
    sim = sim.copy()
    sim[np.arange(len(sim)), source] = -np.inf
    return np.mean(attributes[sim.argmax(axis=1)] == attributes[source]), changed


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda *a: by_loops(*a, leaves="nobody"), "source not excluded", "source itself"),
        (lambda *a: by_loops(*a, leaves="all"), "sources of all queries excluded", "its own source only"),
        (lambda *a: by_loops(*a, group="all"), "unchanged attributes counted as changed", "to stay"),
        (lambda *a: by_loops(*a, right="different"), "changed into anything", "the target's value"),
        (lambda *a: by_loops(*a, right="different", group="all"), "every difference is a change", "all attributes"),
        (lambda *a: by_loops(*a, strict=True), "all or nothing", "one by one"),
        (over_all, "kept over all attributes", "perfect answer"),
        (lambda *a: by_loops(*a, weigh="attribute"), "pooled", "each query first"),
        (lambda *a: by_loops(*a)[::-1], "swapped", "kept first"),
    ],
)
def test_wrong_shares_get_their_hint(answer, mistake, words):
    result = ch06.kept_and_changed(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_shares_by_loops_and_by_the_library_pass():
    def library(attributes, source, target, sim):
        sim = torch.from_numpy(sim).scatter(1, torch.from_numpy(source)[:, None], -torch.inf)
        found = metrics.kept_and_changed(attributes, source, target, sim.argmax(dim=1))
        return [found["kept"], found["changed"]]

    assert ch06.kept_and_changed(by_loops).status == "passed"
    assert ch06.kept_and_changed(library).status == "passed"
    assert ch06.kept_and_changed(lambda *a: 0.5).status == "failed"


def by_torch(image, text, U, V, *, text_of=None, turned=False, identity=True, factors="UV", summed=False):
    """The operator as a batch of full matrices in torch."""
    image, text, U, V = (torch.from_numpy(part) for part in (image, text, U, V))
    text = text if text_of is None else text_of(text)
    weights = {"U": U, "V": V}
    u, v = (torch.tensordot(text, weights[name], dims=1) for name in factors)  # (B, d, r)
    T = torch.bmm(u, v.mT)
    T = T.sum(dim=0, keepdim=True).expand_as(T) if summed else T
    T = T + torch.eye(image.shape[1]) if identity else T
    rows = torch.bmm(image[:, None], T) if turned else torch.bmm(image[:, None], T.mT)
    return rows[:, 0]


@pytest.mark.parametrize(
    ("slip", "mistake", "words"),
    [
        ({"text_of": lambda t: t[0].expand_as(t)}, "one matrix for the whole batch: the first text's", "of its own"),
        ({"text_of": lambda t: t.mean(0).expand_as(t)}, "one matrix for the whole batch: the mean text's", "mean text"),
        ({"text_of": lambda t: t.sum(0).expand_as(t)}, "one matrix for the whole batch: the summed texts'", "ONE text"),
        ({"summed": True}, "one matrix for the whole batch: summed", "batch's letter"),
        ({"turned": True}, "transposed", "the transpose"),
        ({"identity": False}, "identity forgotten", "image itself is missing"),
        ({"identity": False, "turned": True}, "transposed, identity forgotten", "changed places"),
        ({"factors": "VU"}, "transposed", "V meet the image first"),
        ({"factors": "UU"}, "U twice", "V(t)'"),
        ({"factors": "VV"}, "V twice", "U(t)"),
    ],
)
def test_wrong_operators_get_their_hint(slip, mistake, words):
    result = ch06.operator(lambda *a: by_torch(*a, **slip))
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_large_inputs_are_shown_by_their_shape_and_first_entries():
    for exercise, wrong in (
        (ch06.operator, lambda image, text, U, V: image * 3),
        (ch06.kept_and_changed, lambda *a: 3),
    ):
        shown = exercise(wrong).message.split("     for ")[1]
        assert shown.count("an array of shape") == 4
        assert "\n" not in shown


def test_an_operator_that_does_nothing_gets_its_hint_and_full_matrices_pass():
    assert ch06.operator(lambda image, text, U, V: image.copy()).mistake == "nothing moved"
    assert ch06.operator(by_torch).status == "passed"


def by_grouping(
    noun, adjective, *, own=False, nouns="same", adjectives="asked", ask="noun", answers=slice(None), me=""
):
    """Queries from a table of captions, with a switch for each slip."""
    things = list(zip(noun.tolist(), adjective.tolist(), strict=True))
    queries = {}
    for s, (thing, has) in enumerate(things):
        for asked in {a for n, a in things if (n == thing or ask == "any") and (a != has or own)}:
            found = {
                i
                for i, (n, a) in enumerate(things)
                if (n == thing or nouns == "any") and (a == asked or adjectives == "any")
            }
            found = found | {s} if me == "in" else found - {s} if me.startswith("out") else found
            if found or me != "out, none empty":
                queries[s, asked] = sorted(found)[answers]
    return queries


@pytest.mark.parametrize(
    ("slip", "mistake", "words"),
    [
        ({"own": True}, "own adjective asked", "every OTHER"),
        ({"nouns": "any"}, "any noun will do", "The noun must stay"),
        ({"adjectives": "any"}, "the adjective does not matter", "must have the adjective"),
        ({"ask": "any"}, "queries without an answer", "occur with its noun"),
        ({"answers": slice(1)}, "one right answer", "Every picture"),
        ({"me": "in"}, "source among the answers", "so it is none"),
        ({"own": True, "me": "out"}, "own adjective asked, source left out", "asks for no change"),
        ({"own": True, "me": "out, none empty"}, "own adjective asked, source left out", "It is the ADJECTIVE"),
    ],
)
def test_wrong_queries_get_their_hint(slip, mistake, words):
    result = ch06.queries_by_caption(lambda *a: by_grouping(*a, **slip))
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_queries_in_another_order_and_of_other_numbers_pass():
    def other(noun, adjective):
        found = reversed(by_grouping(noun, adjective).items())
        return {(np.int64(s), np.int32(a)): np.array(ids[::-1]) for (s, a), ids in found}

    assert ch06.queries_by_caption(by_grouping).status == "passed"
    assert ch06.queries_by_caption(other).status == "passed"
    assert ch06.queries_by_caption(lambda n, a: {0: [1]}).status == "failed"
    assert ch06.queries_by_caption(lambda n, a: [1, 2]).status == "failed"
    assert "returned None" in ch06.queries_by_caption(lambda n, a: None).message
