"""ranks, recall_at_k, median_rank and mean_average_precision against loops, scikit-learn and closed forms."""

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from commonspace.metrics import mean_average_precision, median_rank, ranks, recall_at_k

RULES = ["total", "min", "hits"]
many = settings(max_examples=100, deadline=None)


# ---- the oracle: one query at a time, sorted in plain Python -------------------------------------------------------


def walk(scores, relevant, excluded):
    """True/False down the ranking: best score first, among equal scores the non-relevant first, excluded left out."""
    items = [(-score, bool(r)) for score, r, x in zip(scores, relevant, excluded, strict=True) if not x]
    return [r for _, r in sorted(items)]


def loop_rank(ranking, n_gallery):
    return ranking.index(True) if True in ranking else n_gallery


def loop_recall(rankings, k):
    return sum(any(ranking[:k]) for ranking in rankings) / len(rankings)


def loop_ap(ranking, k, normalise):
    k = len(ranking) if k is None else k
    hits, total = 0, 0.0
    for position, r in enumerate(ranking[:k], start=1):
        if r:
            hits += 1
            total += hits / position
    z = {"total": sum(ranking), "min": min(k, sum(ranking)), "hits": hits}[normalise]
    return total / z if hits else 0.0


@st.composite
def problems(draw, largest=7, answered=True):
    """Integer scores with many ties, relevance, and exclusion; ``answered``: every query keeps a relevant item."""
    n_query, n_gallery = draw(st.integers(1, 5)), draw(st.integers(1, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values, density = draw(st.sampled_from([1, 2, 4, 40])), draw(st.sampled_from([0.1, 0.4, 0.9]))
    sim = rng.integers(-values, values, (n_query, n_gallery)).astype(draw(st.sampled_from(["f4", "f8", "i8", "f2"])))
    relevant = rng.random((n_query, n_gallery)) < density
    excluded = rng.random((n_query, n_gallery)) < draw(st.sampled_from([0.0, 0.3]))
    if answered:
        kept = rng.integers(0, n_gallery, n_query)
        relevant[np.arange(n_query), kept], excluded[np.arange(n_query), kept] = True, False
    return sim, relevant, excluded


@many
@given(problems())
def test_ranks_recall_and_median_equal_the_loops(problem):
    sim, relevant, excluded = problem
    rankings = [walk(*row) for row in zip(*problem, strict=True)]
    expected = [loop_rank(ranking, sim.shape[1]) for ranking in rankings]
    got = ranks(sim, relevant, excluded)
    assert got.dtype == torch.int64
    assert got.tolist() == expected
    ks = range(1, sim.shape[1] + 3)
    assert recall_at_k(sim, relevant, ks, excluded) == {k: pytest.approx(loop_recall(rankings, k)) for k in ks}
    assert median_rank(sim, relevant, excluded) == math.floor(statistics.median(expected)) + 1


@many
@given(st.one_of(problems(), problems(largest=30)), st.sampled_from(RULES))
def test_mean_average_precision_equals_the_loops(problem, normalise):
    sim, relevant, excluded = problem
    rankings = [walk(*row) for row in zip(*problem, strict=True)]
    for k in [None, *range(1, sim.shape[1] + 3)]:
        expected = statistics.fmean(loop_ap(ranking, k, normalise) for ranking in rankings)
        assert mean_average_precision(sim, relevant, k, normalise, excluded) == pytest.approx(expected, abs=1e-12)


@many
@given(problems(largest=20, answered=False))
def test_queries_without_a_relevant_item(problem):
    sim, relevant, excluded = problem
    rankings = [walk(*row) for row in zip(*problem, strict=True)]
    left = [i for i, ranking in enumerate(rankings) if any(ranking)]
    n, k = sim.shape[1], sim.shape[1] + 5

    missed = [loop_rank(ranking, n) for ranking in rankings]
    assert ranks(sim, relevant, excluded, no_relevant="miss").tolist() == missed
    expected = {1: loop_recall(rankings, 1), k: loop_recall(rankings, k)}
    assert recall_at_k(sim, relevant, (1, k), excluded, no_relevant="miss") == pytest.approx(expected)
    assert median_rank(sim, relevant, excluded, no_relevant="miss") == math.floor(statistics.median(missed)) + 1
    for rule in RULES:
        expected = statistics.fmean(loop_ap(ranking, 3, rule) for ranking in rankings)
        got = mean_average_precision(sim, relevant, 3, rule, excluded, no_relevant="miss")
        assert got == pytest.approx(expected, abs=1e-12)

    calls = [
        lambda mode: ranks(sim, relevant, excluded, mode).tolist(),
        lambda mode: recall_at_k(sim, relevant, 2, excluded, mode),
        lambda mode: median_rank(sim, relevant, excluded, mode),
        lambda mode: mean_average_precision(sim, relevant, None, "total", excluded, mode),
    ]
    for call in calls:
        if len(left) < len(sim):
            first = next(i for i in range(len(sim)) if i not in left)
            with pytest.raises(ValueError, match=rf"{len(sim) - len(left)} of {len(sim)} .*query {first}.*skip.*miss"):
                call("raise")
        if not left:
            with pytest.raises(ValueError, match="no query has a relevant item"):
                call("skip")
    if left:
        kept = sim[left], relevant[left]
        assert ranks(*problem, no_relevant="skip").tolist() == ranks(*kept, excluded[left]).tolist()
        assert recall_at_k(*problem[:2], 2, excluded, "skip") == recall_at_k(*kept, 2, excluded[left])
        assert median_rank(*problem, no_relevant="skip") == median_rank(*kept, excluded[left])
        got = mean_average_precision(sim, relevant, exclude=excluded, no_relevant="skip")
        assert got == pytest.approx(mean_average_precision(*kept, exclude=excluded[left]), abs=1e-12)


def test_everything_excluded_leaves_nothing():
    sim, relevant, every = np.eye(3), np.eye(3, dtype=bool), np.ones((3, 3), dtype=bool)
    with pytest.raises(ValueError, match="3 of 3 queries"):
        ranks(sim, relevant, exclude=every)
    assert ranks(sim, relevant, exclude=every, no_relevant="miss").tolist() == [3, 3, 3]
    assert mean_average_precision(sim, relevant, exclude=every, no_relevant="miss") == 0


# ---- the forms in which things may be given ------------------------------------------------------------------------


def forms_of(mask):
    """The same sets of items in every form that can say them."""
    ids = [np.flatnonzero(row) for row in mask]
    forms = [
        mask,
        np.asfortranarray(mask),
        torch.tensor(mask),
        mask.tolist(),
        ids,
        [i.tolist() for i in ids],
        [torch.tensor(i) for i in ids],
        [set(i.tolist()) for i in ids],
        tuple(ids),
    ]
    if len({len(i) for i in ids}) == 1:
        forms += [np.array(ids), torch.tensor(np.array(ids)), np.array(ids).astype(np.uint16)]
        if len(ids[0]) == 1:
            one = np.concatenate(ids)
            forms += [one, torch.tensor(one), torch.tensor(one, dtype=torch.int32), one.tolist(), one.astype(np.int32)]
    return forms


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n_relevant", "n_excluded"), [(1, 1), (1, 0), (2, 1), (3, 3), (None, None)])
def test_every_form_says_the_same(seed, n_relevant, n_excluded):
    rng = np.random.default_rng(seed)
    sim = rng.integers(0, 4, (6, 9)).astype(float)
    order = rng.permuted(np.tile(np.arange(9), (6, 1)), axis=1)
    first = np.array([1, 2, 3, 1, 4, 2]) if n_relevant is None else np.full(6, n_relevant)
    last = np.array([0, 2, 1, 0, 3, 1]) if n_excluded is None else np.full(6, n_excluded)
    relevant, excluded = order < first[:, None], order >= 9 - last[:, None]
    rankings = [walk(*row) for row in zip(sim, relevant, excluded, strict=True)]
    rank = [loop_rank(ranking, 9) for ranking in rankings]
    ap = statistics.fmean(loop_ap(ranking, 4, "min") for ranking in rankings)
    for r in forms_of(relevant):
        assert ranks(sim, r, exclude=excluded).tolist() == rank
        assert mean_average_precision(sim, r, 4, "min", exclude=excluded) == pytest.approx(ap, abs=1e-12)
    for x in forms_of(excluded):
        assert ranks(sim, relevant, exclude=x).tolist() == rank
        assert mean_average_precision(sim, relevant, 4, "min", exclude=x) == pytest.approx(ap, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_scores_may_come_in_any_container_and_are_left_alone(seed):
    rng = np.random.default_rng(seed)
    sim = rng.integers(-9, 9, (12, 40)).astype("f4")
    relevant = rng.random((12, 40)) < 0.5
    relevant[:, 0] = True
    expected, ap = ranks(sim, relevant), mean_average_precision(sim, relevant)
    frozen = sim.copy()
    frozen.flags.writeable = False
    backwards = np.ascontiguousarray(sim[:, ::-1])[:, ::-1]
    tensors = [torch.tensor(sim).to(dtype) for dtype in (torch.float64, torch.bfloat16, torch.float16, torch.int8)]
    given_as = [frozen, backwards, np.asfortranarray(sim), sim.tolist(), torch.tensor(sim).T.contiguous().T, *tensors]
    for same in [*given_as, torch.tensor(sim, requires_grad=True)]:
        assert torch.equal(ranks(same, relevant), expected)
        assert mean_average_precision(same, relevant) == pytest.approx(ap, abs=1e-12)
    columns = np.ascontiguousarray(sim.T), np.ascontiguousarray(relevant.T)  # the other direction's, seen from here
    assert torch.equal(ranks(columns[0].T, columns[1].T), expected)
    assert mean_average_precision(columns[0].T, columns[1].T) == pytest.approx(ap, abs=1e-12)
    untouched, mask = sim.copy(), relevant.copy()
    mean_average_precision(sim, relevant, exclude=~relevant)
    ranks(torch.from_numpy(sim), torch.from_numpy(relevant), exclude=~relevant)
    assert (sim == untouched).all()
    assert (relevant == mask).all()


def test_double_precision_is_kept():
    close = [[1.0, 1.0 + 1e-12]]
    assert ranks(close, [1]).tolist() == [0]
    assert ranks(np.array(close), [0]).tolist() == [1]
    assert ranks(np.array([[2**40, 2**40 + 1]]), [1]).tolist() == [0]


# ---- other people's numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("density", [0.02, 0.1, 0.6])
def test_mean_average_precision_equals_scikit_learn_without_ties(seed, density):
    rng = np.random.default_rng(seed)
    sim = rng.normal(size=(40, 150))
    relevant = rng.random(sim.shape) < density
    relevant[:, 7] = True
    expected = np.mean([average_precision_score(r, s) for r, s in zip(relevant, sim, strict=True)])
    assert mean_average_precision(sim, relevant) == pytest.approx(expected, abs=1e-12)


def test_same_ranking_three_definitions():
    """Relevant at positions 1, 3, 6 and 8 of 8: P = 1, 2/3, 1/2, 1/2."""
    sim, relevant = [[8, 7, 6, 5, 4, 3, 2, 1]], [[0, 2, 5, 7]]
    sums = {1: 1, 2: 1, 3: 5 / 3, 5: 5 / 3, 6: 13 / 6, 8: 8 / 3, 20: 8 / 3}
    hits = {1: 1, 2: 1, 3: 2, 5: 2, 6: 3, 8: 4, 20: 4}
    for k, total in sums.items():
        assert mean_average_precision(sim, relevant, k) == pytest.approx(total / 4)
        assert mean_average_precision(sim, relevant, k, "min") == pytest.approx(total / min(k, 4))
        assert mean_average_precision(sim, relevant, k, "hits") == pytest.approx(total / hits[k])
    for rule in RULES:
        assert mean_average_precision(sim, relevant, None, rule) == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_random_scores_reach_the_chance_level(seed):
    """One relevant item of n: R@K = K/n. R of n: E[AP] = (H + (R - 1)(n - H)/(n - 1))/n, H the n-th harmonic number."""
    n_query, n, r = 4000, 50, 5
    sim = np.random.default_rng(seed).normal(size=(n_query, n))
    for k, recall in recall_at_k(sim, np.arange(n_query) % n).items():
        assert recall == pytest.approx(k / n, abs=5 * math.sqrt(k / n / n_query))
    harmonic = sum(1 / i for i in range(1, n + 1))
    chance = (harmonic + (r - 1) * (n - harmonic) / (n - 1)) / n
    relevant = np.tile(np.arange(n) < r, (n_query, 1))
    assert mean_average_precision(sim, relevant) == pytest.approx(chance, abs=0.01)


# ---- properties ----------------------------------------------------------------------------------------------------


@many
@given(problems(largest=20), st.integers(0, 2**32 - 1))
def test_order_of_items_and_of_queries_is_irrelevant(problem, seed):
    rng = np.random.default_rng(seed)
    items, queries = rng.permutation(problem[0].shape[1]), rng.permutation(len(problem[0]))
    shuffled = [part[queries][:, items] for part in problem]
    assert torch.equal(ranks(*shuffled), ranks(*problem)[queries])
    sim, relevant, excluded = problem
    moved = mean_average_precision(*shuffled[:2], 3, "min", shuffled[2])
    assert moved == pytest.approx(mean_average_precision(sim, relevant, 3, "min", excluded), abs=1e-12)


@many
@given(problems(largest=20))
def test_only_the_order_of_scores_matters(problem):
    sim, relevant, excluded = problem
    exact = sim.astype(float)
    for rising in (exact * 8 - 3, np.exp(exact / 8), np.arctan(exact / 8)):
        assert torch.equal(ranks(rising, relevant, excluded), ranks(sim, relevant, excluded))
        same = mean_average_precision(sim, relevant, exclude=excluded)
        assert mean_average_precision(rising, relevant, exclude=excluded) == pytest.approx(same, abs=1e-12)


@many
@given(problems(largest=20), st.integers(0, 2**32 - 1))
def test_raising_a_relevant_score_never_hurts(problem, seed):
    sim, relevant, excluded = problem
    rng = np.random.default_rng(seed)
    better = sim.astype(float) + relevant * rng.integers(0, 3, sim.shape)
    assert (ranks(better, relevant, excluded) <= ranks(sim, relevant, excluded)).all()
    for k in (None, 1, 3):
        for rule in ("total", "min"):
            before = mean_average_precision(sim, relevant, k, rule, excluded)
            assert mean_average_precision(better, relevant, k, rule, excluded) >= before - 1e-12


@pytest.mark.parametrize("n", [2, 3, 50])
@pytest.mark.parametrize("value", [0, -1.5, 7])
def test_constant_scores_find_nothing(n, value):
    sim = np.full((n, n), value)
    assert ranks(sim, np.arange(n)).tolist() == [n - 1] * n
    assert recall_at_k(sim, np.arange(n), (n - 1, n)) == {n - 1: 0, n: 1}
    assert median_rank(sim, np.arange(n)) == n
    assert mean_average_precision(sim, np.arange(n)) == pytest.approx(1 / n)


def test_constant_scores_where_everything_is_relevant():
    sim, every = np.zeros((3, 12)), np.ones((3, 12), dtype=bool)
    assert ranks(sim, every).tolist() == [0, 0, 0]
    assert mean_average_precision(sim, every) == mean_average_precision(sim, every, 5, "min") == 1


def test_one_item():
    assert ranks([[0.3]], [0]).tolist() == [0]
    assert recall_at_k([[0.3]], [[0]]) == {1: 1, 5: 1, 10: 1}
    assert median_rank([[0.3]], [0]) == 1
    assert mean_average_precision([[0.3]], [0]) == 1


def test_the_best_of_several_relevant_items_counts():
    """Five captions of an image: the hit is the best caption, and the other captions do not stand in its way."""
    sim = np.array([[0.1, 0.9, 0.8, 0.2, 0.3, 0.85, 0.95]])
    assert ranks(sim, [[0, 1, 2, 3, 4]]).tolist() == [1]
    assert ranks(sim, [[0, 2, 3]]).tolist() == [3]
    assert ranks(sim, [[0, 2, 3]], exclude=[[6, 1]]).tolist() == [1]


def test_an_excluded_item_does_not_count_even_when_it_is_relevant():
    assert ranks([[3, 2, 1]], [[0, 2]], exclude=[0]).tolist() == [1]
    assert mean_average_precision([[3, 2, 1]], [[0, 2]], exclude=[0]) == pytest.approx(1 / 2)
    assert mean_average_precision([[3, 2, 1]], [[0, 2]], 2, "total", exclude=[[0]]) == pytest.approx(1 / 2)
    assert mean_average_precision([[3, 2, 1]], [[0, 2]], 5, "min", exclude=[[0]]) == pytest.approx(1 / 2)


def test_types_of_what_comes_back():
    sim, ids = np.eye(4), np.arange(4)
    assert list(recall_at_k(sim, ids, np.int64(3))) == [3]
    assert all(type(value) is float for value in recall_at_k(sim, ids).values())
    assert type(median_rank(sim, ids)) is int
    assert type(mean_average_precision(sim, ids)) is float
    assert median_rank(np.array([[2, 1, 0], [0, 1, 2]]), [0, 0]) == 2  # ranks 0 and 2
    assert median_rank(np.array([[2, 1, 0], [1, 2, 0]]), [0, 0]) == 1  # ranks 0 and 1: floor(0.5) + 1


@pytest.mark.parametrize("seed", range(2))
def test_blocks_of_queries_change_nothing(seed):
    """90 x 60,000 scores are more than one block holds; each query alone is one."""
    rng = np.random.default_rng(seed)
    sim = rng.integers(0, 300, (90, 60_000)).astype("f4")
    relevant, excluded = rng.integers(0, 60_000, (90, 12)), rng.integers(0, 60_000, (90, 3))
    excluded[[5, 89]] = relevant[[5, 89], :3]
    alone = [(sim[i : i + 1], relevant[i : i + 1], excluded[i : i + 1]) for i in range(90)]
    assert ranks(sim, relevant, excluded).tolist() == [int(ranks(*one)) for one in alone]
    expected = statistics.fmean(mean_average_precision(s, r, exclude=x) for s, r, x in alone)
    assert mean_average_precision(sim, relevant, exclude=excluded) == pytest.approx(expected, abs=1e-12)


# ---- what is refused -----------------------------------------------------------------------------------------------

good = np.eye(4)
nan, inf = good.copy(), good.copy()
nan[2, 1], inf[1, 1] = np.nan, -np.inf


@pytest.mark.parametrize(
    ("sim", "relevant", "exclude", "message"),
    [
        (nan, np.arange(4), None, "sim has NaN or infinite values in 1 row.*row 2"),
        (inf, np.arange(4), None, "sim has NaN or infinite .*row 1"),
        (good[0], np.arange(4), None, r"sim must have shape \(n_query, n_gallery\).*got \(4,\)"),
        (np.zeros((0, 4)), [], None, "at least one row and one column"),
        (np.zeros((4, 0)), np.arange(4), None, "at least one row and one column"),
        (good > 0, np.arange(4), None, "sim must hold real numbers.*bool"),
        (good * 1j, np.arange(4), None, "sim must hold real numbers"),
        ([["a", "b"]], [0], None, "sim must be an array of numbers"),
        ([[1, 2], [3]], [0, 0], None, "sim must be an array of numbers"),
        (good, np.arange(3), None, r"relevant must have one entry a query, 4 in all; got shape \(3,\)"),
        (good, None, None, r"one entry a query, 4 in all; got .*None"),
        (good, 2, None, "relevant must have one entry a query"),
        (good, [], None, r"got shape \(0,\)"),
        (good, [[0], [1, 2]], None, r"got shape \(2,\)"),
        (good, [0, 1, 2, 4], None, "relevant gives query 3 the id 4; .*0 to 3"),
        (good, [0, -1, 2, 3], None, "query 1 the id -1"),
        (good, [[0], [1, 2], [3, 9], []], None, "query 2 the id 9"),
        (good, [0.0, 1.0, 2.0, 3.0], None, "integer ids into the gallery.*query 0"),
        (good, torch.rand(4, 4), None, "integer ids into the gallery"),
        (good, ["a", "b", "c", "d"], None, "integer ids into the gallery"),
        (good, [[0], [1], [2], [[3], [1, 2]]], None, "integer ids into the gallery.*query 3"),
        (good, [[0], [1], [2], [True, False]], None, "integer ids into the gallery.*query 3"),
        (good, np.ones(4, dtype=bool), None, "integer ids into the gallery"),
        (good, torch.ones(4, dtype=torch.bool), None, "integer ids into the gallery"),
        (good, np.zeros((4, 2, 2), dtype=int), None, "integer ids into the gallery"),
        (good, good[:, :3] > 0, None, r"relevant has shape \(4, 3\); the scores have \(4, 4\)"),
        (good, good[:3] > 0, None, r"one entry a query, 4 in all; got shape \(3, 4\)"),
        (good, good.astype(int), None, "looks like a matrix of 0 and 1.*boolean"),
        (good, np.ones((4, 4), dtype=int).tolist(), None, "looks like a matrix of 0 and 1"),
        (good, np.arange(4), [0, 1, 2], "exclude must have one entry a query, 4 in all"),
        (good, np.arange(4), [[], [], [7], []], "exclude gives query 2 the id 7"),
        (good, np.arange(4), [0.5, 1, 2, 3], "exclude must be"),
        (good, np.arange(4), good[:, :2] > 0, "exclude has shape"),
    ],
)
def test_bad_input_is_refused(sim, relevant, exclude, message):
    for metric in (ranks, recall_at_k, median_rank, mean_average_precision):
        with pytest.raises(ValueError, match=message):
            metric(sim, relevant, exclude=exclude)


@pytest.mark.parametrize("k", [0, -1, 2.0, "1", True, None])
def test_k_must_be_a_positive_integer(k):
    with pytest.raises(ValueError, match="must be a positive integer; got"):
        recall_at_k(good, np.arange(4), (1, k))
    if k is not None:
        with pytest.raises(ValueError, match="k must be a positive integer; got"):
            mean_average_precision(good, np.arange(4), k)


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="ks is empty"):
        recall_at_k(good, np.arange(4), ())
    for wrong in ("mean", None, ["min"]):
        with pytest.raises(ValueError, match="normalise must be one of 'total', 'min', 'hits'; got"):
            mean_average_precision(good, np.arange(4), normalise=wrong)
        for metric in (ranks, recall_at_k, median_rank, mean_average_precision):
            with pytest.raises(ValueError, match="no_relevant must be one of 'raise', 'skip', 'miss'; got"):
                metric(good, np.arange(4), no_relevant=wrong)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("seed", range(3))
def test_a_gpu_gives_the_same(seed):
    rng = np.random.default_rng(seed)
    sim = rng.integers(0, 30, (50, 200)).astype("f4")
    relevant, excluded = rng.random(sim.shape) < 0.1, rng.random(sim.shape) < 0.1
    relevant[:, 0], excluded[:, 0] = True, False
    there = torch.tensor(sim, device="cuda")
    for r in [*forms_of(relevant), torch.tensor(relevant, device="cuda")]:
        got = ranks(there, r, excluded)
        assert got.device == there.device
        assert torch.equal(got.cpu(), ranks(sim, relevant, excluded))
    expected = mean_average_precision(sim, relevant, exclude=excluded)
    assert mean_average_precision(there, relevant, exclude=excluded) == pytest.approx(expected, abs=1e-12)
