"""Macro-averages against loops."""

import numpy as np
import pytest
import torch

from commonspace.metrics import evaluate, macro_average, mean_average_precision


def by_loops(values, labels) -> float:
    own = {}
    for value, label in zip(values, labels, strict=True):
        own.setdefault(int(label), []).append(float(value))
    return sum(sum(v) / len(v) for v in own.values()) / len(own)


@pytest.fixture(params=range(4))
def rng(request):
    return np.random.default_rng(request.param)


def test_equals_loops(rng):
    values, labels = rng.random(80), rng.choice([-3, 0, 7, 8, 1000], 80, p=[0.6, 0.2, 0.1, 0.05, 0.05])
    expected = by_loops(values, labels)
    assert macro_average(values, labels) == pytest.approx(expected, abs=1e-12)
    assert macro_average(torch.tensor(values), torch.tensor(labels)) == pytest.approx(expected, abs=1e-12)
    assert macro_average(values.tolist(), labels.tolist()) == pytest.approx(expected, abs=1e-12)
    assert abs(expected - values.mean()) > 1e-3  # the plain mean is another number


def test_of_classes_of_one_size_it_is_the_mean(rng):
    values, labels = rng.random(60), rng.permutation(np.repeat(np.arange(6), 10))
    assert macro_average(values, labels) == pytest.approx(values.mean(), abs=1e-12)


def test_a_rare_class_counts_as_much_as_a_frequent_one():
    assert macro_average([1.0] * 9 + [0.0], [0] * 9 + [5]) == 0.5
    assert macro_average(np.float32([0.25]), [3]) == 0.25


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        ([0.5, 1], [0], r"got \(2,\) and \(1,\)"),
        ([], [], "one entry a query"),
        ([[0.5]], [[0]], "one entry a query"),
        ([0.5, 1], [0.0, 1.0], "labels must be integers"),
        ([0.5, 1], [True, False], "labels must be integers"),
        ([0.5, np.nan], [0, 1], "the first for query 1"),
        ([0.5, 1], ["a", "b"], "labels must be an array of numbers"),
    ],
)
def test_bad_input_is_named(values, labels, message):
    with pytest.raises(ValueError, match=message):
        macro_average(values, labels)


@pytest.mark.parametrize("block", [1, 7, 1024])
def test_evaluate_averages_over_the_queries_classes(rng, block):
    query, gallery = rng.normal(size=(50, 4)), rng.normal(size=(70, 4))
    labels, gallery_labels = rng.choice(4, 50, p=[0.7, 0.1, 0.1, 0.1]), rng.integers(0, 4, 70)
    per_query = [
        evaluate(query[[i]], gallery, query_labels=labels[[i]], gallery_labels=gallery_labels)["mAP"] for i in range(50)
    ]
    options = {"query_labels": labels, "gallery_labels": gallery_labels, "block": block}
    result = evaluate(query, gallery, **options, macro=True)
    assert result.pop("macro mAP") == pytest.approx(by_loops(per_query, labels), abs=1e-12)
    assert result == evaluate(query, gallery, **options)


def test_evaluate_leaves_skipped_queries_out_of_their_class(rng):
    query, gallery = rng.normal(size=(20, 3)), rng.normal(size=(30, 3))
    labels, gallery_labels = rng.integers(0, 4, 20), rng.integers(0, 3, 30)  # class 3 is not in the gallery
    both = {"gallery_labels": gallery_labels, "macro": True}
    left = labels < 3
    expected = evaluate(query[left], gallery, query_labels=labels[left], **both)["macro mAP"]
    assert evaluate(query, gallery, query_labels=labels, **both, no_relevant="skip")["macro mAP"] == expected
    missed = evaluate(query, gallery, query_labels=labels, **both, no_relevant="miss")["macro mAP"]
    assert missed == pytest.approx(expected * 3 / 4, abs=1e-12)


def test_evaluate_with_ids_takes_the_average_precision_of_the_labels(rng):
    query, labels = rng.normal(size=(30, 3)), rng.integers(0, 3, 30)
    both = {"query_labels": labels, "gallery_labels": labels, "macro": True}
    ids = evaluate(query, query[::-1].copy(), relevant=np.arange(30)[::-1].copy(), **both)
    assert ids["macro mAP"] == evaluate(query, query[::-1].copy(), **both)["macro mAP"]
    sim = query @ query[::-1].T / np.outer(np.linalg.norm(query, axis=1), np.linalg.norm(query[::-1], axis=1))
    same = labels[:, None] == labels
    per_query = [mean_average_precision(sim[[i]], same[[i]]) for i in range(30)]
    assert ids["macro mAP"] == pytest.approx(by_loops(per_query, labels), abs=1e-9)


def test_evaluate_without_classes_has_no_macro_average(rng):
    query = rng.normal(size=(5, 3))
    several = np.eye(5, dtype=bool)
    for options in ({}, {"query_labels": several, "gallery_labels": several}):
        with pytest.raises(ValueError, match="macro averages over classes"):
            evaluate(query, query, macro=True, **options)


@pytest.mark.parametrize("block", [3, 1024])
def test_evaluate_averages_over_types_given_apart_from_labels(rng, block):
    query, gallery, relevant = rng.normal(size=(20, 6)), rng.normal(size=(9, 6)), rng.integers(0, 9, 20)
    types = rng.permutation([4] * 14 + [7] * 5 + [9])
    found = evaluate(query, gallery, relevant=relevant, ks=(1, 3, 50), macro=types, block=block)
    parts = [evaluate(query[types == t], gallery, relevant=relevant[types == t], ks=(1, 3, 50)) for t in (4, 7, 9)]
    for measure in ("R@1", "R@3", "R@50", "mAP"):
        assert found[f"macro {measure}"] == pytest.approx(np.mean([part[measure] for part in parts]))
    plain = evaluate(query, gallery, relevant=relevant, ks=(1, 3, 50))
    assert {name: value for name, value in found.items() if "macro" not in name} == plain


def test_types_leave_out_queries_that_are_skipped_and_count_misses(rng):
    query, gallery = rng.normal(size=(6, 4)), rng.normal(size=(5, 4))
    relevant, types = [[0], [], [2], [3], [], [1]], [0, 0, 0, 1, 2, 2]
    skipped = evaluate(query, gallery, relevant=relevant, macro=types, no_relevant="skip", ks=5)
    assert skipped["macro R@5"] == 1.0
    missed = evaluate(query, gallery, relevant=relevant, macro=types, no_relevant="miss", ks=5)
    assert missed["macro R@5"] == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)


@pytest.mark.parametrize("types", [[0, 1], [[0, 1, 2]], [0.0, 1.0, 2.0]])
def test_types_must_be_one_integer_a_query(rng, types):
    query = rng.normal(size=(3, 4))
    with pytest.raises(ValueError, match=r"one integer a query, 3 in all|labels must be integers"):
        evaluate(query, query, macro=types)
