"""evaluate against the full-matrix metrics and pytorch-metric-learning; ties, blocks, memory."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from commonspace.metrics import evaluate, mean_average_precision, median_rank, ranks, recall_at_k

SIMILARITIES = {
    "cosine": lambda q, g: (q / np.linalg.norm(q, axis=1)[:, None]) @ (g / np.linalg.norm(g, axis=1)[:, None]).T,
    "dot": lambda q, g: q @ g.T,
    "euclidean": lambda q, g: -np.sqrt(((q[:, None] - g) ** 2).sum(axis=2)),
}


def full(sim, relevant, same_label=None, ks=(1, 5, 10), **options):
    """What evaluate should return, from the whole matrix."""
    recalls = {f"R@{k}": v for k, v in recall_at_k(sim, relevant, ks, **options).items()}
    mean_ap = mean_average_precision(sim, relevant if same_label is None else same_label, **options)
    return {**recalls, "median_rank": median_rank(sim, relevant, **options), "mAP": pytest.approx(mean_ap, abs=1e-12)}


@pytest.fixture(params=range(3))
def rng(request):
    return np.random.default_rng(request.param)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("block", [1, 7, 40, 1024])
def test_equals_the_metrics_of_the_full_matrix(rng, similarity, block):
    query, gallery = rng.normal(size=(40, 6)), rng.normal(size=(90, 6)) + 0.3
    sim = SIMILARITIES[similarity](query, gallery)
    labels, gallery_labels = rng.integers(0, 3, 40), rng.integers(0, 3, 90)
    same = labels[:, None] == gallery_labels
    ids, excluded = rng.integers(0, 45, 40), rng.integers(45, 90, (40, 2))
    several = [rng.choice(45, size, replace=False) for size in rng.integers(1, 30, 40)]
    both = {"query_labels": labels, "gallery_labels": gallery_labels}
    options = {"similarity": similarity, "block": block}
    for relevant in (ids, several, rng.random((40, 90)) < 0.5):
        assert evaluate(query, gallery, relevant=relevant, **options) == full(sim, relevant)
    assert evaluate(query, gallery, **both, **options) == full(sim, same)
    assert evaluate(query, gallery, relevant=ids, **both, **options) == full(sim, ids, same)
    got = evaluate(query, gallery, relevant=ids, **both, exclude=excluded, ks=(2, 200), **options)
    assert got == full(sim, ids, same, (2, 200), exclude=excluded)
    assert evaluate(query, gallery[:40], ks=3, **options) == full(sim[:, :40], np.arange(40), ks=3)


def test_any_similarity_may_be_given_as_a_function(rng):
    """One that is not symmetric, so that queries and items cannot be mistaken for each other."""
    query, gallery = rng.normal(size=(40, 6)), np.repeat(rng.normal(size=(30, 6)), 3, axis=0)
    ids, seen = rng.integers(0, 90, 40), []

    def order(q, g):
        seen.append((tuple(q.shape), tuple(g.shape), torch.is_grad_enabled()))
        return -(g[None] - q[:, None]).clamp(min=0).pow(2).sum(dim=2)

    sim = -(np.maximum(gallery[None] - query[:, None], 0) ** 2).sum(axis=2)
    found = evaluate(query, gallery, relevant=ids, similarity=order, block=15)
    assert found == full(sim, ids)
    assert found != full(-(np.maximum(query[:, None] - gallery[None], 0) ** 2).sum(axis=2), ids)
    assert found["R@1"] == 0  # every item is there three times, and equal rows tie
    assert seen == [((n, 6), (30, 6), False) for n in (15, 15, 10)]


@pytest.mark.parametrize(("block", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (1024, [5])])
def test_block_bounds_the_queries_at_a_time(monkeypatch, block, sizes):
    module, seen = sys.modules[evaluate.__module__], []
    count = module.count_above

    def noting(sim, *rest, **options):
        seen.append(len(sim))
        return count(sim, *rest, **options)

    monkeypatch.setattr(module, "count_above", noting)
    evaluate(np.eye(5), np.eye(5), block=block)
    assert seen == sizes


def test_shared_labels_of_several(rng):
    query, gallery = rng.normal(size=(20, 4)), rng.normal(size=(50, 4))
    labels, gallery_labels = rng.random((20, 6)) < 0.3, rng.random((50, 6)) < 0.3
    labels[3] = False
    same = np.array([[bool(set(np.flatnonzero(a)) & set(np.flatnonzero(b))) for b in gallery_labels] for a in labels])
    sim = SIMILARITIES["cosine"](query, gallery)
    given = {"query_labels": labels, "gallery_labels": torch.tensor(gallery_labels)}
    for mode in ("skip", "miss"):
        got = evaluate(query, gallery, **given, no_relevant=mode, block=7)
        assert got == full(sim, same, no_relevant=mode)
    with pytest.raises(ValueError, match=r"of 20 queries have no relevant item"):
        evaluate(query, gallery, **given)


def test_each_metric_leaves_out_its_own_queries(rng):
    """With relevant and labels, a query without a right answer may still have a class."""
    query, gallery = rng.normal(size=(6, 4)), rng.normal(size=(9, 4))
    relevant, labels, gallery_labels = [[0], [], [2], [3], [], [5]], [0, 1, 2, 5, 0, 1], [0, 1, 2] * 3
    same = np.array(labels)[:, None] == np.array(gallery_labels)
    given = {"relevant": relevant, "query_labels": torch.tensor(labels), "gallery_labels": gallery_labels}
    for mode in ("skip", "miss"):
        got = evaluate(query, gallery, **given, no_relevant=mode)
        assert got == full(SIMILARITIES["cosine"](query, gallery), relevant, same, no_relevant=mode)
    with pytest.raises(ValueError, match=r"2 of 6 queries .*query 1"):
        evaluate(query, gallery, **given)
    with pytest.raises(ValueError, match=r"1 of 6 queries .*query 3"):
        evaluate(query, gallery, **{**given, "relevant": np.arange(6)})


@pytest.mark.parametrize("with_itself", [False, True])
def test_equals_pytorch_metric_learning(rng, with_itself):
    accuracy_calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")

    def nearest(query, k, reference, ref_includes_query):
        distance = torch.cdist(query, reference)
        if ref_includes_query:
            distance.fill_diagonal_(torch.inf)
        return distance.topk(k, largest=False)

    classes, each = 4, 15
    query = rng.normal(size=(classes * each, 5)).astype("f4")
    labels = np.repeat(np.arange(classes), each)
    gallery, gallery_labels, exclude = query, labels, np.arange(len(query))
    if not with_itself:
        gallery, gallery_labels, exclude = rng.normal(size=(80, 5)).astype("f4"), np.arange(80) % classes, None
    named = ("precision_at_1", "mean_average_precision", "mean_average_precision_at_r")
    calculator = accuracy_calculator.AccuracyCalculator(named, device=torch.device("cpu"), knn_func=nearest)
    reference = () if with_itself else (gallery, gallery_labels)
    theirs = calculator.get_accuracy(query, labels, *reference)
    given = {"query_labels": labels, "gallery_labels": gallery_labels, "exclude": exclude}
    ours = evaluate(query, gallery, similarity="euclidean", **given)
    assert ours["R@1"] == pytest.approx(theirs["precision_at_1"], abs=1e-6)
    assert ours["mAP"] == pytest.approx(theirs["mean_average_precision"], abs=1e-6)
    sim, same = SIMILARITIES["euclidean"](query, gallery), labels[:, None] == gallery_labels
    r = int(same[0].sum()) - with_itself
    for rule in ("total", "min"):
        at_r = mean_average_precision(sim, same, r, rule, exclude=exclude)
        assert at_r == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)


def test_what_comes_back(rng):
    query = torch.tensor(rng.normal(size=(12, 3)), requires_grad=True)
    got = evaluate(query, query.detach().numpy().tolist())
    assert got == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "median_rank": 1, "mAP": 1.0}
    assert [type(value) for value in got.values()] == [float, float, float, int, float]
    assert list(evaluate([[1.0]], [[2.0]], ks=4)) == ["R@4", "median_rank", "mAP"]


# ---- ties and numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(("n", "d"), [(203, 33), (1030, 7), (517, 130)])
def test_equal_gallery_rows_tie_exactly(rng, similarity, n, d):
    """Every item has a twin somewhere that is not relevant: no query has rank 0, whatever the product's rounding."""
    half = rng.normal(size=(n, d)).astype("f4")
    twins = rng.permutation(n)
    gallery = np.concatenate([half, half[twins]])
    query = half + 0.1 * rng.normal(size=(n, d)).astype("f4")
    for block in (1, 50, 1024):
        got = evaluate(query, gallery, relevant=np.arange(n), similarity=similarity, block=block)
        assert got["R@1"] == 0
        assert got["mAP"] <= 0.5
    first_and_twin = np.stack([np.arange(n), n + np.argsort(twins)], axis=1)
    one_sided = evaluate(half, gallery, relevant=first_and_twin, similarity="euclidean")
    assert one_sided["R@1"] == one_sided["mAP"] == 1


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_collapsed_embeddings_find_nothing(rng, similarity):
    same = np.tile(rng.normal(size=(1, 24)).astype("f4"), (30, 1))
    got = evaluate(same, same, similarity=similarity, ks=(1, 29, 30))
    assert got == {"R@1": 0, "R@29": 0, "R@30": 1, "median_rank": 30, "mAP": pytest.approx(1 / 30)}


def test_a_row_of_zeros_has_cosine_zero(rng):
    gallery = np.array([[1.0, 0], [0, 0], [-1, 0]])
    assert evaluate([[2.0, 0]], gallery, relevant=[1], ks=(1, 2)) == {"R@1": 0, "R@2": 1, "median_rank": 2, "mAP": 0.5}
    assert evaluate([[0.0, 0]], gallery, relevant=[1], ks=2) == {
        "R@2": 0,
        "median_rank": 3,
        "mAP": pytest.approx(1 / 3),
    }


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e30])
def test_cosine_of_tiny_and_huge_rows(rng, scale):
    query = rng.normal(size=(30, 5)).astype("f4")
    gallery = query + rng.normal(size=(30, 5)).astype("f4")
    shrunk = (query.astype("f8") * scale).astype("f4")
    expected = full(SIMILARITIES["cosine"](shrunk.astype("f8"), gallery.astype("f8")), np.arange(30))
    assert evaluate(shrunk, gallery) == expected
    assert evaluate(shrunk * np.float32(1), torch.tensor(gallery)) == expected


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_precision(rng, similarity):
    query, gallery = rng.normal(size=(60, 40)) * 300, rng.normal(size=(60, 40)) * 300
    for dtype in (torch.float16, torch.bfloat16):
        half = torch.tensor(query).to(dtype), torch.tensor(gallery).to(dtype)
        single = evaluate(half[0].float(), half[1].float(), similarity=similarity)
        assert evaluate(*half, similarity=similarity) == single
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert evaluate(*half, similarity=similarity) == single
            assert evaluate(half[0].float(), half[1].float(), similarity=similarity) == single
    tiny = 1e-12 if similarity == "dot" else 1e-7
    near = np.array([[1.0, 0], [1 + tiny, 0], [1 + 2 * tiny, tiny]])
    if similarity != "cosine":
        expected = full(SIMILARITIES[similarity](near, near), np.arange(3))
        assert evaluate(near, near, similarity=similarity) == expected


def test_euclidean_far_from_the_origin(rng):
    """In float32, |q|^2 + |g|^2 - 2 q.g would lose everything here."""
    query = rng.normal(size=(50, 4)).astype("f4") + np.float32(3000)
    gallery = rng.normal(size=(50, 4)).astype("f4") + np.float32(3000)
    exact = SIMILARITIES["euclidean"](query.astype("f8"), gallery.astype("f8"))
    assert evaluate(query, gallery, similarity="euclidean") == full(exact, np.arange(50))


@pytest.mark.parametrize("similarity", ["dot", "euclidean"])
def test_integer_embeddings_tie_as_integers_do(rng, similarity):
    query, gallery = rng.integers(-2, 3, (40, 3)), rng.integers(-2, 3, (40, 3))
    sim = SIMILARITIES[similarity](query, gallery)
    expected = full(np.round(-(sim**2)) if similarity == "euclidean" else sim, np.arange(40))
    assert evaluate(query, gallery, similarity=similarity) == expected
    assert evaluate(query.astype("f4"), gallery.astype("f4"), similarity=similarity) == expected


def test_random_embeddings_reach_the_chance_level(rng):
    n = 400
    got = evaluate(rng.normal(size=(n, 64)), rng.normal(size=(n, 64)), ks=(1, 40))
    assert got["R@40"] == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / n))
    assert got["median_rank"] == pytest.approx(n / 2, abs=60)
    assert got["mAP"] == pytest.approx(sum(1 / i for i in range(1, n + 1)) / n, abs=0.02)


def test_embeddings_are_left_alone(rng):
    query, gallery = torch.tensor(rng.normal(size=(9, 4))), torch.tensor(rng.normal(size=(9, 4)))
    before = query.clone(), gallery.clone()
    for similarity in SIMILARITIES:
        evaluate(query, gallery, similarity=similarity)
    assert torch.equal(query, before[0])
    assert torch.equal(gallery, before[1])


# ---- what is refused -----------------------------------------------------------------------------------------------

a, b = np.eye(4), np.eye(5)[:, :4]
nan = a.copy()
nan[1, 2] = np.nan


@pytest.mark.parametrize(
    ("query", "gallery", "options", "message"),
    [
        (a[0], a, {}, r"query_emb must have shape \(n_query, d\).*got \(4,\)"),
        (a, a[:0], {}, r"gallery_emb must have shape \(n_gallery, d\), at least one row"),
        (a, nan, {}, "gallery_emb has NaN or infinite values in 1 row.*row 1"),
        (a, a > 0, {}, "gallery_emb must hold real numbers"),
        (a, a[:, :3], {}, r"query_emb \(4, 4\) and gallery_emb \(4, 3\) must have the same width"),
        (a, b, {}, "4 queries and 5 gallery items cannot be pairs of rows: pass relevant="),
        (a, b, {"exclude": [0, 1, 2, 3]}, "pass relevant="),
        (a, a, {"similarity": "l2"}, "similarity must be one of 'cosine', 'dot', 'euclidean'; got 'l2'"),
        (
            a,
            b,
            {"similarity": lambda q, g: g @ q.T, "relevant": [0] * 4},
            r"scores \(4, 5\) .* got torch.float64 \(5, 4\)",
        ),
        (a, a, {"similarity": lambda q, g: q @ g.T > 0}, "higher is closer; got torch.bool"),
        (a, a, {"similarity": lambda q, g: (q @ g.T).numpy()}, "must give a tensor of scores .* got ndarray"),
        (a, a, {"similarity": lambda q, g: q @ g.T / 0}, "similarity's result .* has NaN or infinite values"),
        (a, a, {"no_relevant": "zero"}, "no_relevant must be one of"),
        (a, a, {"ks": (1, 0)}, "positive integer; got 0"),
        (a, a, {"block": 0}, "block must be a positive integer; got 0"),
        (a, a, {"block": None}, "block must be a positive integer; got None"),
        (a, b, {"relevant": [0, 1, 2, 5]}, "relevant gives query 3 the id 5"),
        (a, b, {"relevant": a > 0}, r"relevant has shape \(4, 4\); the scores have \(4, 5\)"),
        (a, a, {"exclude": [4, 0, 0, 0]}, "exclude gives query 0 the id 4"),
        (a, a, {"exclude": [0, 1, 2, 3]}, "4 of 4 queries have no relevant item left"),
        (a, a, {"query_labels": [0, 1, 2, 3]}, "gallery_labels is missing"),
        (a, a, {"gallery_labels": [0, 1, 2, 3], "relevant": [0, 1, 2, 3]}, "query_labels is missing"),
        (a, b, {"query_labels": [0] * 4, "gallery_labels": [0] * 4}, "gallery_labels has 4 entries for 5 embeddings"),
        (a, a, {"query_labels": [0.5] * 4, "gallery_labels": [0] * 4}, "query_labels must be integers of shape"),
        (a, a, {"query_labels": ["x"] * 4, "gallery_labels": [0] * 4}, "query_labels must be an array of numbers"),
        (a, a, {"query_labels": [True] * 4, "gallery_labels": [0] * 4}, "query_labels must be integers of shape"),
        (a, a, {"query_labels": a.astype(int), "gallery_labels": a > 0}, "query_labels must be integers of shape"),
        (a, a, {"query_labels": a > 0, "gallery_labels": [0] * 4}, "do not match"),
        (a, b, {"query_labels": a > 0, "gallery_labels": np.eye(5) > 0}, "do not match"),
        (a, a, {"query_labels": [0] * 4, "gallery_labels": [1] * 4}, "4 of 4 queries have no relevant item"),
        ((a * 1e30).astype("f4"), (a * 1e30).astype("f4"), {"similarity": "dot"}, "dot similarity .*overflows"),
    ],
)
def test_bad_input_is_refused(query, gallery, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(query, gallery, **options)


# ---- size and device -----------------------------------------------------------------------------------------------

LARGE = """
import resource, sys
import torch
from commonspace.metrics import evaluate
torch.set_num_threads(1)
torch.manual_seed(int(sys.argv[1]))
gallery = torch.randn(30_000, 16)
query = gallery + 0.3 * torch.randn(30_000, 16)
evaluate(query[:50], gallery[:50])  # what is loaded on first use is not counted
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = evaluate(query, gallery)
assert 0.3 < found["R@1"] < 1 and found["median_rank"] < 100 and found["R@1"] < found["mAP"] < found["R@10"], found
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read in the unit that Linux reports")
def test_thirty_thousand_against_thirty_thousand_without_the_full_matrix():
    """The matrix would take 3.6 GB; the peak may grow by a quarter of one. About 5 s on one core."""
    done = subprocess.run([sys.executable, "-c", LARGE, "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.25


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_gpu_gives_the_same(rng, similarity):
    query, gallery = rng.normal(size=(60, 8)), np.repeat(rng.normal(size=(30, 8)), 2, axis=0)
    labels, gallery_labels = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    given = {"query_labels": labels, "gallery_labels": gallery_labels, "similarity": similarity}
    there = evaluate(torch.tensor(query, device="cuda"), gallery, **given)
    expected = evaluate(query, gallery, **given)
    assert there == {**expected, "mAP": pytest.approx(expected["mAP"], abs=1e-12)}
    assert ranks(torch.tensor(query @ gallery.T, device="cuda"), labels).is_cuda
