"""Four proofs of each check of chapter 00: stub, solution, wrong answers by name, a right answer made otherwise."""

import numpy as np
import pytest

from commonspace.checks import ch00


@pytest.mark.parametrize("exercise", ["rank", "recall_at_k", "average_precision"])
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch00, exercise)
    assert check(stub("00", exercise)).status == "not attempted"
    assert check(solution("00", exercise)).status == "passed"


def strict(scores, relevant):
    return int(np.sum(scores > np.max(scores[relevant])))


def counts_itself(scores, relevant):
    return int(np.sum(scores >= np.max(scores[relevant])))


def from_one(scores, relevant):
    return 1 + int(np.sum(scores[~relevant] >= scores[relevant].max()))


def by_sorting(scores, relevant):
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return min(order.index(i) for i in np.flatnonzero(relevant))


def worst_one(scores, relevant):
    return int(np.sum(scores[~relevant] >= scores[relevant].min()))


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (strict, "strictly greater", "has rank 0 everywhere and wins"),
        (counts_itself, "counts right answers", "not relevant"),
        (from_one, "one-based", "start at 1"),
        (by_sorting, "position in a sort", "order in which equal scores"),
        (lambda s, r: np.argmax(r[np.argsort(-s)]), "position in an unstable sort", "order in which equal scores"),
        (lambda s, r: int(np.sum(s[~r] <= s[r].max())), "lowest first", "Higher is closer"),
        (worst_one, "worst right answer", "take the best"),
    ],
)
def test_wrong_ranks_get_their_hint(answer, mistake, words):
    result = ch00.rank(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_a_rank_by_a_pessimistic_sort_passes():
    def rank(scores, relevant):
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], relevant[i]))
        return next(above for above, i in enumerate(order) if relevant[i])

    assert ch00.rank(rank).status == "passed"


def top(scores, relevant, k):
    return [row[list(np.argsort(s)[::-1][:k])] for s, row in zip(scores, relevant, strict=True)]


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda s, r, k: np.mean([t.sum() / k for t in top(s, r, k)]), "divides by K", "that is precision"),
        (
            lambda s, r, k: np.mean([t.sum() / row.sum() for t, row in zip(top(s, r, k), r, strict=True)]),
            "divides by the right answers",
            "recall as in information retrieval",
        ),
        (lambda s, r, k: np.mean([t.any() for t in top(s, r, k + 1)]), "one too many", "rank < K"),
        (lambda s, r, k: np.mean([t.any() for t in top(-s, r, k)]), "lowest first", "Higher is closer"),
        (lambda s, r, k: np.mean([t.sum() for t in top(s, r, k)]), "counts hits, not queries", "at most one hit"),
        (
            lambda s, r, k: np.mean([t.sum() == row.sum() for t, row in zip(top(s, r, k), r, strict=True)]),
            "all right answers",
            "Any one of them",
        ),
        (
            lambda s, r, k: np.mean([(s[i] > s[i, np.argmax(r[i])]).sum() < k for i in range(len(s))]),
            "only the first right answer",
            "Any of them",
        ),
        (lambda s, r, k: sum(t.any() for t in top(s, r, k)), "hits, not their share", "number of queries"),
    ],
)
def test_wrong_recalls_get_their_hint(answer, mistake, words):
    result = ch00.recall_at_k(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_a_recall_by_counting_passes():
    def recall(scores, relevant, k):
        best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
        return np.mean((scores > best).sum(axis=1) < k)

    assert ch00.recall_at_k(recall).status == "passed"


def ap(relevance, k, z):
    k = min(k, len(relevance))
    total = sum(sum(relevance[:j]) / j for j in range(1, k + 1) if relevance[j - 1])
    return total / z if z else 0.0


def z_of(relevance, k, normalise):
    return {"hits": sum(relevance[:k]), "min": min(k, sum(relevance)), "total": sum(relevance)}[normalise]


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda r, k, how: ap(r, k, sum(r[:k])), "always divides by hits", "finding little"),
        (lambda r, k, how: ap(r, k, sum(r)), "always divides by all right answers", "all right answers"),
        (
            lambda r, k, how: sum(sum(r[:j]) / j for j in range(1, min(k, len(r)) + 1)) / max(z_of(r, k, how), 1),
            "precision at every position",
            "only at positions",
        ),
        (lambda r, k, how: ap(r, len(r), z_of(r, len(r), how)), "ignores k", "after position k"),
        (lambda r, k, how: ap(r, k, k if how == "min" else z_of(r, k, how)), "min is always k", "smaller of k and R"),
        (
            lambda r, k, how: ap(r, k, max(k, sum(r)) if how == "min" else z_of(r, k, how)),
            "max for min",
            "the smaller one",
        ),
        (
            lambda r, k, how: ap(r, k, z_of(r, k, {"hits": "total", "total": "hits"}.get(how, how))),
            "hits and total swapped",
            "exchanged",
        ),
        (
            lambda r, k, how: ap(r, k, z_of(r, k, how)) if z_of(r, k, how) else np.float64(0) / 0,
            "no hit is not a number",
            "0 by 0",
        ),
    ],
)
def test_wrong_average_precisions_get_their_hint(answer, mistake, words):
    result = ch00.average_precision(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_an_average_precision_from_positions_passes():
    def average_precision(relevance, k, normalise):
        positions = np.flatnonzero(relevance[:k]) + 1
        precisions = np.arange(1, len(positions) + 1) / positions
        z = z_of(relevance, k, normalise)
        return precisions.sum() / z if z else 0.0

    assert ch00.average_precision(average_precision).status == "passed"
