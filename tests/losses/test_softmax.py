"""The softmax losses against loops over queries and candidates, finite differences and pytorch-metric-learning."""

import math
from functools import partial
from itertools import combinations, product
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from commonspace.encoders import ScaledUnitNorm
from commonspace.losses import batch_softmax_loss, candidate_softmax_loss, soft_triplet_loss

SCRIPT = Path(__file__).parent / "softmax_two_processes.py"
KERNELS = ["dot", "euclidean"]


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(seed: int, n: int = 7, d: int = 4, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    draw = rng(seed)
    return tuple(torch.randn(n, d, generator=draw, dtype=dtype) for _ in range(2))


def twins(seed: int, n: int = 7) -> torch.Tensor:
    """Which targets answer which queries besides the own: a query may have twins that have not it."""
    return (torch.rand(n, n, generator=rng(seed)) < 0.3) & ~torch.eye(n, dtype=torch.bool)


def table(query, target, kernel="dot") -> list[list[float]]:
    """k by loops."""
    rows = [query.tolist(), target.tolist()]
    if kernel == "dot":
        return [[sum(x * y for x, y in zip(a, b, strict=True)) for b in rows[1]] for a in rows[0]]
    return [[-math.dist(a, b) for b in rows[1]] for a in rows[0]]


def choice(own: float, others: list[float]) -> float:
    """-log of the probability of one candidate."""
    return math.log(sum(math.exp(x - own) for x in [own, *others]))


def mean(numbers) -> float:
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


def others(row: list[float], i: int, same=None) -> list[float]:
    return [x for j, x in enumerate(row) if j != i and not (same is not None and same[i][j])]


def softmax_by_loops(k, same=None) -> float:
    return mean(choice(row[i], others(row, i, same)) for i, row in enumerate(k))


def triplets_by_loops(k, same=None) -> float:
    means = []
    for i, row in enumerate(k):
        costs = [math.log1p(math.exp(x - row[i])) for x in others(row, i, same)]
        means.append(mean(costs) if costs else 0.0)
    return mean(means)


# ---- the values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_batch_softmax_equals_loops_and_the_cross_entropy_of_the_diagonal(seed, kernel):
    q, t = batch(seed)
    k = table(q, t, kernel)
    found = batch_softmax_loss(q, t, kernel=kernel)
    assert found.item() == pytest.approx(softmax_by_loops(k), abs=1e-12)
    cross_entropy = F.cross_entropy(torch.tensor(k, dtype=torch.float64), torch.arange(7))
    assert found.item() == pytest.approx(cross_entropy.item(), abs=1e-12)
    back = softmax_by_loops([list(column) for column in zip(*k, strict=True)])
    both = batch_softmax_loss(q, t, symmetric=True, kernel=kernel)
    assert both.item() == pytest.approx((softmax_by_loops(k) + back) / 2, abs=1e-12)
    assert abs(both.item() - found.item()) > 1e-3
    single = batch_softmax_loss(q.float(), t.float(), kernel=kernel)
    assert single.item() == pytest.approx(found.item(), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.25, 3.0])
def test_similarities_are_divided_by_the_temperature(temperature):
    q, t = batch(3)
    cool = [[x / temperature for x in row] for row in table(q, t)]
    for given in (temperature, torch.tensor(temperature, dtype=torch.float64)):
        assert batch_softmax_loss(q, t, given).item() == pytest.approx(softmax_by_loops(cool), abs=1e-12)
        one = candidate_softmax_loss(q, t, 7, temperature=given)
        assert one.item() == pytest.approx(softmax_by_loops(cool), abs=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_soft_triplet_equals_loops_over_all_pairs(seed, kernel):
    q, t = batch(seed)
    k = table(q, t, kernel)
    softplus = [math.log1p(math.exp(k[i][j] - k[i][i])) for i, j in product(range(7), repeat=2) if i != j]
    found = soft_triplet_loss(q, t, kernel=kernel).item()
    assert found == pytest.approx(mean(softplus), abs=1e-12)
    with_diagonal = (sum(softplus) + 7 * math.log(2)) / 49
    for wrong in (with_diagonal, sum(softplus) / 49):  # the diagonal included; divided by B^2
        assert abs(found - wrong) > 1e-3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_right_answers_besides_the_own_are_no_negatives(seed):
    q, t = batch(seed)
    same = twins(seed)
    assert 3 < same.sum() < 30
    assert not torch.equal(same, same.T)
    k, back = table(q, t), table(t, q)
    kept = same | torch.eye(7, dtype=torch.bool)  # what it says of the own pair makes no difference
    for given in (same, kept):
        found = batch_softmax_loss(q, t, same=given).item()
        assert found == pytest.approx(softmax_by_loops(k, same.tolist()), abs=1e-12)
        both = batch_softmax_loss(q, t, symmetric=True, same=given).item()
        assert both == pytest.approx((found + softmax_by_loops(back, same.T.tolist())) / 2, abs=1e-12)
        triplets = soft_triplet_loss(q, t, same=given).item()
        assert triplets == pytest.approx(triplets_by_loops(k, same.tolist()), abs=1e-12)
        assert candidate_softmax_loss(q, t, 7, same=given).item() == pytest.approx(found, abs=1e-12)
    assert abs(found - softmax_by_loops(k)) > 1e-2
    assert abs(triplets - triplets_by_loops(k)) > 1e-3


def test_twins_that_nobody_marks_cannot_be_told_apart():
    rows = 50 * torch.eye(3).repeat(2, 1)  # rows 0 and 3 are one picture
    same = torch.eye(3, dtype=torch.bool).repeat(2, 2)
    assert batch_softmax_loss(rows, rows).item() == pytest.approx(math.log(2))
    assert batch_softmax_loss(rows, rows, same=same).item() == pytest.approx(0)
    assert soft_triplet_loss(rows, rows).item() == pytest.approx(math.log(2) / 5)
    assert soft_triplet_loss(rows, rows, same=same).item() == pytest.approx(0)
    released = soft_triplet_loss(rows, rows, "release", same=same, generator=rng(0))
    assert released.item() == pytest.approx(0)
    everything = torch.ones(6, 6, dtype=torch.bool)
    for loss in LOSSES.values():
        query = rows.clone().requires_grad_()
        value = loss(query, rows, same=everything)
        value.backward()
        assert value == 0
        assert not query.grad.any()


# ---- candidates: K and M --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_both_losses_are_cases_of_candidates(kernel):
    q, t = batch(4)
    for seed in range(3):
        dealt = partial(candidate_softmax_loss, q, t, kernel=kernel, generator=rng(seed))
        assert dealt(7, 1).item() == pytest.approx(batch_softmax_loss(q, t, kernel=kernel).item(), abs=1e-12)
        assert dealt(7, 4).item() == pytest.approx(batch_softmax_loss(q, t, kernel=kernel).item(), abs=1e-12)
        assert dealt(2, 6).item() == pytest.approx(soft_triplet_loss(q, t, kernel=kernel).item(), abs=1e-12)
        assert abs(dealt(2, 5).item() - soft_triplet_loss(q, t, kernel=kernel).item()) > 1e-4


@pytest.mark.parametrize("kernel", KERNELS)
def test_with_two_pairs_both_losses_are_one(kernel):
    q, t = batch(5, 2)
    softmax = batch_softmax_loss(q, t, kernel=kernel).item()
    assert softmax > 0.01
    assert soft_triplet_loss(q, t, kernel=kernel).item() == pytest.approx(softmax, abs=1e-12)
    assert candidate_softmax_loss(q, t, 2, kernel=kernel).item() == pytest.approx(softmax, abs=1e-12)


def partitions(cards: list[float], size: int) -> list[list[tuple]]:
    """Every way to deal all cards into sets of a size."""
    if not cards:
        return [[]]
    found = []
    for rest in combinations(range(1, len(cards)), size - 1):
        first = (cards[0], *[cards[i] for i in rest])
        left = [card for i, card in enumerate(cards) if i and i not in rest]
        found += [[first, *more] for more in partitions(left, size)]
    return found


@pytest.mark.parametrize(("n", "K", "M"), [(4, 3, 1), (5, 3, 2), (5, 4, 1)])
def test_every_draw_is_a_way_to_deal(n, K, M):
    """The value is that of one of all ways to choose the sets of each query: disjoint, without the own target."""
    q, t = batch(6, n)
    ways = []
    for i, row in enumerate(table(q, t)):
        cards = others(row, i)
        hands = partitions(cards, K - 1) if M > 1 else [[hand] for hand in combinations(cards, K - 1)]
        ways.append([mean(choice(row[i], hand) for hand in sets) for sets in hands])
    sums = torch.zeros(1, dtype=torch.float64)
    for way in ways:
        sums = (sums[:, None] + torch.tensor(way, dtype=torch.float64) / n).flatten()
    assert len(sums) == math.prod(map(len, ways))
    found = {candidate_softmax_loss(q, t, K, M, generator=rng(seed)).item() for seed in range(6)}
    assert len(found) > 1
    for value in found:
        assert (sums - value).abs().min() < 1e-12
    assert found == {candidate_softmax_loss(q, t, K, M, generator=rng(seed)).item() for seed in range(6)}
    if M > 1:  # twice as many sets are from two shuffles, not twice from one
        found = [candidate_softmax_loss(q, t, K, 2 * M, generator=rng(seed)).item() for seed in range(6)]
        assert max((sums - value).abs().min() for value in found) > 1e-6


@pytest.mark.parametrize(("K", "M"), [(3, 1), (3, 5), (4, 3), (2, 9)])
def test_candidates_are_drawn_uniformly(K, M):
    q, t = batch(7, 6)
    expected = mean(
        mean(choice(row[i], hand) for hand in combinations(others(row, i), K - 1)) for i, row in enumerate(table(q, t))
    )
    draw = rng(0)
    values = torch.stack([candidate_softmax_loss(q, t, K, M, generator=draw) for _ in range(1500)])
    error = values.std() / len(values) ** 0.5
    assert 0 < error < 0.02
    assert abs(values.mean() - expected) < 4 * error
    assert abs(expected - softmax_by_loops(table(q, t))) > 8 * error  # another K is another loss


def test_candidates_that_are_right_are_never_drawn():
    """Query i has i negatives besides its own: never more, and each at most once in a set."""
    n = 6
    same = torch.ones(n, n).triu(1).bool()
    sim = torch.diag(torch.full((n,), 2.0, dtype=torch.float64)).masked_fill(same, 500.0)  # k: own 2, negatives 0
    for K, M, seed in product((2, 3, 6), (1, 2, 7), range(3)):
        found = candidate_softmax_loss(sim, torch.eye(n).double(), K, M, same=same, generator=rng(seed)).item()
        assert found == pytest.approx(mean(choice(2.0, [0.0] * min(i, K - 1)) for i in range(n)), abs=1e-12)


# ---- the release's form ---------------------------------------------------------------------------------------------


def squared(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def release_costs(q, t) -> list[list[float]]:
    """Per anchor, all its triplets' costs by loops."""
    rows, n = [*q.tolist(), *t.tolist()], len(q)
    costs = []
    for a in range(2 * n):
        near = squared(rows[a], rows[(a + n) % (2 * n)])
        far = [squared(rows[a], rows[b]) for b in range(2 * n) if b % n != a % n]
        costs.append([math.log1p(math.exp(near - x)) for x in far])
    return costs


def test_the_release_draws_three_triplets_an_anchor_from_both_halves():
    q, t = (x / 2 for x in batch(8, 3))
    costs = release_costs(q, t)
    assert [len(of) for of in costs] == [4] * 6
    sums = torch.zeros(1, dtype=torch.float64)
    for of in costs:
        triples = torch.tensor([sum(three) for three in combinations(of, 3)], dtype=torch.float64)
        sums = (sums[:, None] + triples / 18).flatten()
    values = [soft_triplet_loss(q, t, "release", generator=rng(seed)).item() for seed in range(20)]
    assert max((sums - value).abs().min() for value in values) < 1e-12
    assert len(set(values)) > 10
    assert values[3] == soft_triplet_loss(q, t, "release", generator=rng(3)).item()
    two = soft_triplet_loss(q[:2], t[:2], "release").item()  # two negatives, so nothing is drawn
    assert two == pytest.approx(mean(mean(of) for of in release_costs(q[:2], t[:2])), abs=1e-12)


def test_the_release_leaves_out_marked_pairs_of_both_halves_and_both_ways():
    q, t = (x / 2 for x in batch(8, 3))
    same = torch.zeros(3, 3, dtype=torch.bool)
    same[0, 1] = True
    rows = [*q.tolist(), *t.tolist()]
    cost = {
        (a, b): math.log1p(math.exp(squared(rows[a], rows[(a + 3) % 6]) - squared(rows[a], rows[b])))
        for a, b in product(range(6), repeat=2)
    }
    fixed = sum(cost[a, b] for a, b in product((0, 1, 3, 4), (2, 5)))  # pairs 0 and 1 have pair 2 alone
    of_pair_2 = [[sum(cost[a, b] for b in three) for three in combinations((0, 1, 3, 4), 3)] for a in (2, 5)]
    expected = torch.tensor([(fixed + one + other) / 14 for one, other in product(*of_pair_2)], dtype=torch.float64)
    for seed in range(8):
        found = soft_triplet_loss(q, t, "release", same=same, generator=rng(seed))
        assert (expected - found).abs().min() < 1e-12


def test_the_release_draws_uniformly():
    q, t = (x / 2 for x in batch(9, 8))
    draw = rng(0)
    values = torch.stack([soft_triplet_loss(q, t, "release", generator=draw) for _ in range(1500)])
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean() - mean(mean(of) for of in release_costs(q, t))) < 4 * error


def test_the_releases_gradient_is_half_the_true_one():
    q, t = (x / 2 for x in batch(10, 6))
    q.requires_grad_(), t.requires_grad_()

    def value(q, t):
        return soft_triplet_loss(q, t, "release", generator=rng(0))

    value(q, t).backward()
    h = 1e-6
    with torch.no_grad():
        for x in (q, t):
            for i, j in product(range(6), range(4)):
                step = torch.zeros_like(x)
                step[i, j] = h
                up, down = (value(q + s, t) if x is q else value(q, t + s) for s in (step, -step))
                true = ((up - down) / (2 * h)).item()
                assert x.grad[i, j].item() == pytest.approx(true / 2, abs=1e-8)
    assert q.grad.abs().max() > 1e-2
    # Both sides of one length: squared distances differ by twice the dot products.
    q, t = (2 * F.normalize(x.detach(), dim=1) for x in (q, t))
    rows = torch.cat([q, t])
    dot = rows @ rows.T
    drawn = torch.arange(12)[:, None] % 6 != torch.arange(12) % 6
    every = F.softplus(2 * (dot - dot.gather(1, torch.arange(12).roll(6)[:, None])))[drawn].mean().item()
    assert mean(mean(of) for of in release_costs(q, t)) == pytest.approx(every, abs=1e-12)


# ---- another library ------------------------------------------------------------------------------------------------


def in_the_library(loss, q, t) -> torch.Tensor:
    label = torch.arange(len(q))
    return loss(q, label, ref_emb=t, ref_labels=label.clone())  # one tensor twice would be taken for one set


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_pytorch_metric_learning(seed):
    from pytorch_metric_learning.distances import DotProductSimilarity, LpDistance
    from pytorch_metric_learning.losses import NTXentLoss, TripletMarginLoss
    from pytorch_metric_learning.reducers import MeanReducer

    q, t = batch(seed, 12, dtype=torch.float32)
    dot, plain = DotProductSimilarity(normalize_embeddings=False), LpDistance(normalize_embeddings=False)
    theirs = in_the_library(NTXentLoss(temperature=0.7, distance=dot), q, t)
    torch.testing.assert_close(batch_softmax_loss(q, t, 0.7), theirs, atol=1e-5, rtol=1e-5)
    for kernel, distance in [("dot", dot), ("euclidean", plain)]:
        soft = TripletMarginLoss(margin=0.0, smooth_loss=True, distance=distance, reducer=MeanReducer())
        found = soft_triplet_loss(q, t, kernel=kernel)
        torch.testing.assert_close(found, in_the_library(soft, q, t), atol=1e-5, rtol=1e-5)
    squares = LpDistance(normalize_embeddings=False, power=2)
    soft = TripletMarginLoss(margin=0.0, smooth_loss=True, distance=squares, reducer=MeanReducer())
    every = soft(torch.cat([q, t]), torch.arange(12).repeat(2)).item()
    assert mean(mean(of) for of in release_costs(q, t)) == pytest.approx(every, rel=1e-5)


# ---- gradients and numbers that are hard ----------------------------------------------------------------------------


LOSSES = {
    "softmax": batch_softmax_loss,
    "symmetric": partial(batch_softmax_loss, symmetric=True),
    "euclidean": partial(batch_softmax_loss, kernel="euclidean"),
    "triplet": soft_triplet_loss,
    "triplet, euclidean": partial(soft_triplet_loss, kernel="euclidean"),
    "candidates": lambda *a, **k: candidate_softmax_loss(*a, n_candidates=3, repeats=4, generator=rng(1), **k),
    "release": lambda *a, **k: soft_triplet_loss(*a, form="release", generator=rng(1), **k),
}


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "release"])
def test_the_gradient_equals_finite_differences(name):
    q, t = (x.requires_grad_() for x in batch(11, 5))
    same = twins(3, 5)
    assert torch.autograd.gradcheck(LOSSES[name], (q, t))
    assert torch.autograd.gradcheck(lambda q, t: LOSSES[name](q, t, same=same), (q, t))


def test_a_learned_temperature_has_its_gradient():
    q, t = batch(12, 5)
    temperature = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    for loss in (batch_softmax_loss, partial(candidate_softmax_loss, n_candidates=5)):
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(q, t, temperature=x), (temperature,))


@pytest.mark.parametrize("name", LOSSES)
def test_large_values_do_not_overflow(name):
    for size in (1e-8, 1e3, 1e7):
        q, t = (size * x for x in batch(13, dtype=torch.float32))
        q.requires_grad_(), t.requires_grad_()
        loss = LOSSES[name](q, t)
        loss.backward()
        assert loss.isfinite()
        assert q.grad.isfinite().all()
        assert t.grad.isfinite().all()
    wide = 1e6 * torch.eye(3)
    assert batch_softmax_loss(wide, wide) == 0
    assert batch_softmax_loss(wide, wide.roll(1, 0)).item() == pytest.approx(1e12)
    assert soft_triplet_loss(wide, wide.roll(1, 0)).item() == pytest.approx((1e12 + math.log(2)) / 2)


@pytest.mark.parametrize("n", [2, 5, 9])
def test_where_all_rows_are_equal_the_loss_is_log_K(n):
    for value in (0.0, 0.7):
        for name, loss in LOSSES.items():
            q, t = (torch.full((n, 3), value, requires_grad=True) for _ in range(2))
            found = loss(q, t) if n > 2 or name != "candidates" else candidate_softmax_loss(q, t, 2)
            K = {"candidates": min(3, n)}.get(name, 2 if "triplet" in name or name == "release" else n)
            assert found.item() == pytest.approx(math.log(K), abs=1e-6)
            found.backward()
            assert q.grad.isfinite().all()
            assert t.grad.isfinite().all()


def test_the_order_of_pairs_does_not_count_and_shuffled_targets_cost_more():
    q, _ = batch(14, 20)
    t = q + 0.3 * batch(15, 20)[0]
    order = torch.randperm(20, generator=rng(2))
    for name, loss in LOSSES.items():
        value = loss(q, t)
        if name not in ("candidates", "release"):  # they draw: only their expectation is free of the order
            torch.testing.assert_close(loss(q[order], t[order]), value)
        assert loss(q, t[order]) > value + 0.5
    many = [soft_triplet_loss(q[order], t[order], "release", generator=rng(s)).item() for s in range(300)]
    other = [soft_triplet_loss(q, t, "release", generator=rng(s + 300)).item() for s in range(300)]
    spread = torch.tensor(many).std().item() * (2 / 300) ** 0.5
    assert abs(mean(many) - mean(other)) < 4 * spread


def test_it_runs_under_autocast_in_float32():
    q, t = batch(16, 12, dtype=torch.float32)
    for name, loss in LOSSES.items():
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(q.bfloat16(), t.bfloat16())
        assert found.dtype == torch.float32, name
        torch.testing.assert_close(found, loss(q.bfloat16().float(), t.bfloat16().float()))


def test_without_a_generator_torchs_own_draws():
    q, t = batch(17)
    for loss in (partial(candidate_softmax_loss, n_candidates=3), partial(soft_triplet_loss, form="release")):
        torch.manual_seed(1)
        first, second = loss(q, t), loss(q, t)
        torch.manual_seed(1)
        assert loss(q, t) == first != second


# ---- several processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 3, 6])
@pytest.mark.parametrize("name", ["softmax", "euclidean", "triplet"])
def test_the_mean_over_parts_is_the_whole_batch(name, parts):
    """As several processes do it: each with its own queries, against all targets, at its place among them."""
    loss, n = LOSSES[name], 12
    q, t = batch(18, n)
    same = twins(4, n)
    net = torch.nn.Linear(4, 4).double()
    norm = ScaledUnitNorm().double()
    weights = [*net.parameters(), *norm.parameters()]
    whole = loss(norm(net(q)), norm(t), same=same)
    expected = torch.autograd.grad(whole, weights)
    found = [torch.zeros_like(w) for w in weights]
    values = []
    for rows in torch.arange(n).chunk(parts):
        value = loss(norm(net(q[rows])), norm(t), same=same[rows], offset=int(rows[0]))
        values.append(value.item())
        for total, grad in zip(found, torch.autograd.grad(value, weights), strict=True):
            total += grad / parts
    assert mean(values) == pytest.approx(whole.item(), abs=1e-12)
    assert len(set(values)) == parts
    torch.testing.assert_close(found, list(expected), rtol=0, atol=1e-12)
    dealt = [
        candidate_softmax_loss(norm(net(q[rows])), norm(t), n, offset=int(rows[0])).item()
        for rows in torch.arange(n).chunk(parts)
    ]
    assert mean(dealt) == pytest.approx(batch_softmax_loss(norm(net(q)), norm(t)).item(), abs=1e-12)


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("batch softmax", "rows"),
        ("soft triplet", "rows"),
        *[(kind, "whole") for kind in ("batch softmax", "symmetric", "soft triplet", "release", "candidates")],
    ],
)
def test_gradients_of_two_processes_are_those_of_the_whole_batch(alone, both, kind, way):
    expected = alone.gradients(kind)
    assert {"query.layers.0.weight", "target.layers.0.weight", "norm.scale"} <= expected.keys()
    assert expected["norm.scale"].abs() > 1e-2
    for found in both:
        assert found[kind][way].keys() == expected.keys()
        for name, grad in expected.items():
            torch.testing.assert_close(found[kind][way][name], grad, rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("kind", ["batch softmax", "soft triplet"])
def test_the_negatives_of_each_process_alone_are_another_loss(alone, both, kind):
    expected = alone.gradients(kind)["query.layers.0.weight"]
    assert (both[0][kind]["not gathered"]["query.layers.0.weight"] - expected).abs().max() > 1e-3


# ---- bad input ------------------------------------------------------------------------------------------------------

PAIRS = torch.zeros(5, 3), torch.zeros(5, 3)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((torch.zeros(5, 3), torch.zeros(5, 2)), {}, r"\(5, 3\) and .*\(5, 2\)"),
        ((torch.zeros(5), torch.zeros(5)), {}, r"\(5,\) and .*\(5,\)"),
        ((torch.zeros(1, 3), torch.zeros(1, 3)), {}, "at least 2 targets"),
        ((torch.zeros(0, 3), torch.zeros(4, 3)), {}, r"\(0, 3\) and .*\(4, 3\)"),
        (PAIRS, {"same": torch.zeros(5, 5)}, r"bool of shape \(5, 5\), got torch.float32"),
        (PAIRS, {"same": torch.zeros(5, 4, dtype=torch.bool)}, r"\(5, 5\), got torch.bool \(5, 4\)"),
        (PAIRS, {"offset": 1}, "5 queries from offset 1 on need as many targets, but there are 5"),
        (PAIRS, {"offset": -1}, "offset -1"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name, arguments, options, message):
    if name == "release" and arguments[0].shape != arguments[1].shape:
        message = "as many queries as targets"
    with pytest.raises(ValueError, match=message):
        LOSSES[name](*arguments, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batch_softmax_loss(torch.zeros(6, 3), PAIRS[0]), "6 queries from offset 0 on .* there are 5"),
        (lambda: batch_softmax_loss(*PAIRS, 0.0), "temperature: a number > 0, got 0.0"),
        (lambda: batch_softmax_loss(*PAIRS, torch.tensor(-2.0)), "got -2.0"),
        (lambda: candidate_softmax_loss(*PAIRS, 3, temperature=math.nan), "got nan"),
        (lambda: batch_softmax_loss(*PAIRS, kernel="cosine"), "'dot', 'euclidean'.* got 'cosine'"),
        (lambda: batch_softmax_loss(PAIRS[0][:2], PAIRS[1], symmetric=True), r"as many .* got \(2, 5\)"),
        (lambda: soft_triplet_loss(*PAIRS, "hard"), "'paper' or 'release'.*form='hard'"),
        (lambda: soft_triplet_loss(*PAIRS, "release", kernel="euclidean"), "its own kernel.*'euclidean'"),
        (lambda: soft_triplet_loss(PAIRS[0][:2], PAIRS[1], "release"), "as many queries as targets"),
        (lambda: candidate_softmax_loss(*PAIRS, 1), "2 to 5, .* got 1 and 1"),
        (lambda: candidate_softmax_loss(*PAIRS, 6), "got 6 and 1"),
        (lambda: candidate_softmax_loss(*PAIRS, 3, 0), "got 3 and 0"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
