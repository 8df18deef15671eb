"""Chance against every order there is, against loops, and against simulation."""

import itertools

import numpy as np
import pytest
import torch

from commonspace.metrics import chance_map, evaluate, mean_average_precision


def average_precision(relevant) -> float:
    hits, total = 0, 0.0
    for k, is_relevant in enumerate(relevant, 1):
        hits += is_relevant
        total += is_relevant * hits / k
    return total / hits


def expected_by_sum(n_relevant: int, n: int) -> float:
    """The sum of the module's docstring, term by term."""
    return sum((1 + (k - 1) * (n_relevant - 1) / (n - 1)) / k for k in range(1, n + 1)) / n


@pytest.mark.parametrize("n", range(1, 8))
def test_equals_the_mean_over_every_order(n):
    for n_relevant in range(1, n + 1):
        gallery = [0] * n_relevant + [1] * (n - n_relevant)
        orders = itertools.combinations(range(n), n_relevant)
        every = [average_precision([k in places for k in range(n)]) for places in map(set, orders)]
        assert chance_map([0], gallery) == pytest.approx(sum(every) / len(every), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_equals_loops_over_queries_and_classes(seed):
    rng = np.random.default_rng(seed)
    query, gallery = rng.choice(5, 40, p=[0.6, 0.1, 0.1, 0.1, 0.1]), np.r_[np.arange(5), rng.integers(0, 5, 60)]
    each = [expected_by_sum(int((gallery == label).sum()), len(gallery)) for label in query]
    assert chance_map(query, gallery) == pytest.approx(np.mean(each), abs=1e-12)
    macro = np.mean([np.mean([e for e, q in zip(each, query, strict=True) if q == c]) for c in set(query.tolist())])
    assert chance_map(torch.tensor(query), gallery.tolist(), macro=True) == pytest.approx(macro, abs=1e-12)
    several, of_gallery = rng.random((40, 3)) < 0.5, np.r_[np.ones((1, 3)), rng.random((50, 3)) < 0.4].astype(bool)
    several[:, 0] = True
    each = [expected_by_sum(sum(bool((q & g).any()) for g in of_gallery), len(of_gallery)) for q in several]
    assert chance_map(several, of_gallery) == pytest.approx(np.mean(each), abs=1e-12)


def test_random_scores_come_to_it():
    rng = np.random.default_rng(0)
    share = [0.7, 0.1, 0.1, 0.1]
    labels, gallery = rng.choice(4, 30, p=share), np.r_[np.arange(4), rng.choice(4, 26, p=share)]
    same = labels[:, None] == gallery
    runs = np.array([mean_average_precision(rng.random(same.shape), same) for _ in range(400)])
    assert abs(runs.mean() - chance_map(labels, gallery)) < 5 * runs.std() / 20
    both = {"query_labels": labels, "gallery_labels": gallery, "macro": True}
    runs = np.array(
        [evaluate(rng.normal(size=(30, 2)), rng.normal(size=(30, 2)), **both)["macro mAP"] for _ in range(400)]
    )
    assert abs(runs.mean() - chance_map(labels, gallery, macro=True)) < 5 * runs.std() / 20
    assert chance_map(labels, gallery) - chance_map(labels, gallery, macro=True) > 0.1


@pytest.mark.parametrize(
    ("sizes", "value"),
    [
        ([34, 88, 96, 85, 65, 58, 51, 41, 71, 104], 0.118),  # the test pairs of Wikipedia
        ([5] * 20, 0.090),  # of Pascal Sentences
        ([100] * 10, 0.106),  # of NUS-WIDE-10k
        ([10] * 10, 0.137),
        ([5] * 10, 0.162),
    ],
)
def test_the_known_levels(sizes, value):
    """Measured once, in another program, with random scores: the small sets' last digits are luck."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    assert chance_map(labels, labels) == pytest.approx(value, abs=0.003)


def test_a_query_without_an_answer():
    with pytest.raises(ValueError, match="1 of 2 queries have no relevant item"):
        chance_map([0, 9], [0, 1, 1])
    expected = expected_by_sum(1, 3)
    assert chance_map([0, 9], [0, 1, 1], no_relevant="skip") == pytest.approx(expected, abs=1e-12)
    assert chance_map([0, 9], [0, 1, 1], no_relevant="miss") == pytest.approx(expected / 2, abs=1e-12)
    assert chance_map([0, 0, 9], [0, 1, 1], no_relevant="miss", macro=True) == pytest.approx(expected / 2, abs=1e-12)


@pytest.mark.parametrize(
    ("query", "gallery", "options", "message"),
    [
        ([], [0], {}, "one a query and one a gallery item"),
        ([0], [], {}, "one a query and one a gallery item"),
        (0, [0], {}, "one a query and one a gallery item"),
        ([0.5], [0], {}, "query_labels must be integers"),
        ([0], [[True]], {}, "do not match"),
        ([[True]], [[True]], {"macro": True}, "one entry a query"),
        ([0], [0], {"no_relevant": "drop"}, "no_relevant must be one of"),
    ],
)
def test_bad_labels_are_named(query, gallery, options, message):
    with pytest.raises(ValueError, match=message):
        chance_map(query, gallery, **options)
