"""Checks of chapter 00, find the match: ranks with ties, recall at K, three average precisions."""

import numpy as np

from commonspace.checks.exercise import Exercise, Mistake


def _tied_scores(rng: np.random.Generator) -> tuple:
    scores = rng.integers(0, 4, size=10).astype(float)
    scores[[0, -1]] = scores.max()  # a tie at the top, whatever was drawn
    relevant = np.zeros(10, dtype=bool)
    relevant[rng.choice(9, size=rng.integers(1, 4), replace=False)] = True  # the last one never
    return scores, relevant


def _rank(scores, relevant) -> int:
    best = max(s for s, r in zip(scores, relevant, strict=True) if r)
    return sum(1 for s, r in zip(scores, relevant, strict=True) if not r and s >= best)


rank = Exercise(
    name="rank",
    inputs=_tied_scores,
    reference=_rank,
    mistakes=(
        Mistake(
            "strictly greater",
            "you count the items that score strictly more. Then a model that gives every item the same score has rank "
            "0 everywhere and wins. A tie must count against the query: >= instead of >.",
            lambda s, r: int((s > s[r].max()).sum()),
        ),
        Mistake(
            "counts right answers",
            "right answers are counted too, the best one itself among them. Count only items that are not relevant.",
            lambda s, r: int((s >= s[r].max()).sum()),
        ),
        Mistake(
            "one-based",
            "your ranks start at 1. Here the best rank is 0: nothing wrong stands above the right answer.",
            lambda s, r: _rank(s, r) + 1,
        ),
        Mistake(
            "position in a sort",
            "the position after sorting depends on the order in which equal scores happened to stand. Count instead.",
            lambda s, r: int(np.flatnonzero(r[np.argsort(-s, kind="stable")])[0]),
        ),
        Mistake(
            "position in an unstable sort",
            "the position after sorting depends on the order in which equal scores happened to stand. Count instead.",
            lambda s, r: int(np.flatnonzero(r[np.argsort(-s)])[0]),
        ),
        Mistake(
            "lowest first",
            "you count the items that score at most as much. Higher is closer everywhere in this course: >=.",
            lambda s, r: int((~r & (s <= s[r].max())).sum()),
        ),
        Mistake(
            "worst right answer",
            "you take the right answer with the lowest score. One right answer on top is enough: take the best.",
            lambda s, r: int((~r & (s >= s[r].min())).sum()),
        ),
    ),
    well_done="A constant score can no longer win.",
    trials=20,
)


def _many_right(rng: np.random.Generator) -> tuple:
    relevant = rng.random((3, 5)) < 0.3
    relevant[:, 0] = True
    relevant[0, :3] = True
    return rng.permutation(15).reshape(3, 5) / 10, relevant, int(rng.integers(1, 4))


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-scores, axis=1)[:, :k]


def _recall_at_k(scores, relevant, k) -> float:
    hits = 0
    for row, right in zip(scores, relevant, strict=True):
        hits += any(right[i] for i in sorted(range(len(row)), key=lambda i: -row[i])[:k])
    return hits / len(scores)


def _found(scores, relevant, k) -> np.ndarray:
    return np.take_along_axis(relevant, _top(scores, k), axis=1).sum(axis=1)


recall_at_k = Exercise(
    name="recall_at_k",
    inputs=_many_right,
    reference=_recall_at_k,
    mistakes=(
        Mistake(
            "divides by K",
            "you divide the right answers found by K: that is precision. R@K asks one thing of a query, yes or no: is "
            "any right answer among the first K?",
            lambda s, r, k: float((_found(s, r, k) / k).mean()),
        ),
        Mistake(
            "divides by the right answers",
            "you divide by the number of right answers: that is recall as in information retrieval. In this field R@K "
            "asks of a query, yes or no: is any right answer among the first K?",
            lambda s, r, k: float((_found(s, r, k) / r.sum(axis=1)).mean()),
        ),
        Mistake(
            "one too many",
            "you look at the first K + 1 items. With ranks from 0, a hit is rank < K.",
            lambda s, r, k: _recall_at_k(s, r, k + 1),
        ),
        Mistake(
            "lowest first",
            "you take the K lowest scores. Higher is closer everywhere in this course.",
            lambda s, r, k: _recall_at_k(-s, r, k),
        ),
        Mistake(
            "counts hits, not queries",
            "several right answers of one query count several times. A query is found or not: at most one hit each.",
            lambda s, r, k: float(_found(s, r, k).mean()),
        ),
        Mistake(
            "all right answers",
            "you ask whether ALL of the right answers are among the first K. Any one of them is enough.",
            lambda s, r, k: float((_found(s, r, k) == r.sum(axis=1)).mean()),
        ),
        Mistake(
            "only the first right answer",
            "you look up one right answer a query, the first in its row. Any of them among the first K is a hit.",
            lambda s, r, k: float(np.mean([right.argmax() in top for right, top in zip(r, _top(s, k), strict=True)])),
        ),
        Mistake(
            "hits, not their share",
            "you return the number of queries with a hit. R@K is their share: divide by the number of queries.",
            lambda s, r, k: _recall_at_k(s, r, k) * len(s),
        ),
    ),
    well_done="One right answer among the first K is a hit, however many there are.",
    trials=20,
)


def _a_ranking(rng: np.random.Generator) -> tuple:
    relevance = rng.random(12) < 0.4
    relevance[[1, 3, 9, 10, 11]] = [True, False, True, True, True]  # hits before and after every cut-off drawn
    return relevance, int(rng.integers(3, 9)), str(rng.choice(["hits", "min", "total"]))


def _precision_sum(relevance, k: int) -> tuple[float, int]:
    found, total = 0, 0.0
    for position, right in enumerate(relevance[:k], start=1):
        if right:
            found += 1
            total += found / position
    return total, found


def _average_precision(relevance, k, normalise) -> float:
    total, found = _precision_sum(relevance, k)
    right = int(np.sum(relevance))
    return total / {"hits": max(found, 1), "min": min(k, right), "total": right}[normalise]


average_precision = Exercise(
    name="average_precision",
    inputs=_a_ranking,
    reference=_average_precision,
    mistakes=(
        Mistake(
            "always divides by hits",
            "you divide by the hits among the first k whatever `normalise` says, or you counted R on the cut ranking. "
            "That rewards a ranking for finding little: one hit on top and nothing more scores 1. R counts the right "
            "answers of the whole ranking.",
            lambda r, k, how: _average_precision(r, k, "hits"),
        ),
        Mistake(
            "always divides by all right answers",
            'you divide by all right answers whatever `normalise` says. Only "total" does so.',
            lambda r, k, how: _average_precision(r, k, "total"),
        ),
        Mistake(
            "precision at every position",
            "you add the precision at every position. Add it only at positions that hold a right answer.",
            lambda r, k, how: float(
                (np.cumsum(r[:k]) / np.arange(1, len(r[:k]) + 1)).sum()
                / {"hits": max(int(r[:k].sum()), 1), "min": min(k, int(r.sum())), "total": int(r.sum())}[how]
            ),
        ),
        Mistake(
            "min is always k",
            'for "min" you always divide by k. It is the smaller of k and R: with R < k, all right answers found first '
            "must score 1.",
            lambda r, k, how: _precision_sum(r, k)[0] / k if how == "min" else _average_precision(r, k, how),
        ),
        Mistake(
            "no hit is not a number",
            "without a hit among the first k you divide 0 by 0, which is nan. It is 0, whatever `normalise` says.",
            lambda r, k, how: _average_precision(r, k, how) if how != "hits" or r[:k].any() else float("nan"),
        ),
        Mistake(
            "hits and total swapped",
            '"hits" and "total" are exchanged: "hits" are those among the first k, "total" is R of the whole ranking.',
            lambda r, k, how: _average_precision(r, k, {"hits": "total", "total": "hits"}.get(how, how)),
        ),
        Mistake(
            "max for min",
            'for "min" you divide by the larger of k and R. It is the smaller one.',
            lambda r, k, how: (
                _precision_sum(r, k)[0] / max(k, int(r.sum())) if how == "min" else _average_precision(r, k, how)
            ),
        ),
        Mistake(
            "ignores k",
            "you look at the whole ranking. Hits after position k do not count.",
            lambda r, k, how: _average_precision(r, len(r), how),
        ),
    ),
    well_done="You can now read a table of mAP and ask which of the three it shows.",
    always=tuple(
        (np.array(relevance, dtype=bool), k, normalise)
        for normalise in ("hits", "min", "total")
        for relevance, k in [([0, 0, 0, 1], 2), ([1, 0, 1, 0, 0, 0], 5), ([0, 1, 1], 5)]  # no hit; R < k; n < k
    ),
    trials=24,
)
