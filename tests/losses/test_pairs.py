"""The losses with a margin against loops, closed forms, finite differences, torch's own and pytorch-metric-learning."""

import math
from functools import partial
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from commonspace.losses import contrastive_loss, hinge_loss, intermodal_triplet_loss, triplet_margin_loss

MINING = ["all", "hardest"]


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(seed: int, n: int = 7, d: int = 3, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    draw = rng(seed)
    return tuple(0.6 * torch.randn(n, d, generator=draw, dtype=dtype) for _ in range(2))


def twins(seed: int, n: int = 7) -> torch.Tensor:
    """Which targets answer which queries besides the own: a query may have twins that have not it."""
    return torch.rand(n, n, generator=rng(seed)) < 0.3


def mean(numbers) -> float:
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


# ---- contrastive ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.5, 1.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_contrastive_equals_a_loop_over_pairs(seed, margin):
    a, b = batch(seed, 12)
    same = torch.rand(12, generator=rng(seed)) < 0.4
    costs = []
    for x, y, s in zip(a.tolist(), b.tolist(), same.tolist(), strict=True):
        d = math.dist(x, y)
        costs.append(d**2 / 2 if s else max(0, margin - d) ** 2 / 2)
    for given in (same, same.long(), same.double()):
        assert contrastive_loss(a, b, given, margin).item() == pytest.approx(mean(costs), abs=1e-12)
    assert contrastive_loss(b, a, same, margin).item() == pytest.approx(mean(costs), abs=1e-12)
    assert contrastive_loss(a.float(), b.float(), same, margin).item() == pytest.approx(mean(costs), abs=1e-6)
    assert abs(contrastive_loss(a, b, ~same, margin).item() - mean(costs)) > 1e-2


def test_contrastive_equals_pytorch_metric_learning_on_one_kind_at_a_time():
    """It has no half, and squares only the distances of positives: so each kind is compared for itself."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import ContrastiveLoss
    from pytorch_metric_learning.reducers import MeanReducer

    a, b = batch(3, 10, dtype=torch.float32)
    label, i = torch.arange(10), torch.arange(10)
    options = {"distance": LpDistance(normalize_embeddings=False, power=2), "reducer": MeanReducer()}
    theirs = ContrastiveLoss(pos_margin=0, neg_margin=0, **options)
    none = torch.zeros(0, dtype=torch.long)
    expected = theirs(a, label, (i, i, none, none), ref_emb=b, ref_labels=label.clone()) / 2
    found = contrastive_loss(a, b, torch.ones(10))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_contrastive_negatives_are_torchs_hinge_embedding_squared():
    a, b = batch(4, 30)
    distance = (a - b).norm(dim=1)
    hinge = F.hinge_embedding_loss(distance, -torch.ones(30), margin=1.2, reduction="none")
    assert 0 < (hinge == 0).sum() < 30
    expected = (hinge**2).mean() / 2
    torch.testing.assert_close(contrastive_loss(a, b, torch.zeros(30), 1.2), expected)


def test_contrastive_by_hand_and_where_points_meet():
    a, b = torch.zeros(4, 2, requires_grad=True), torch.tensor([[0.0, 0], [0, 0], [0.6, 0], [0, 3.0]])
    loss = contrastive_loss(a, b, torch.tensor([1, 0, 0, 0]))
    assert loss.item() == pytest.approx((0 + 1 + 0.4**2 + 0) / 8)
    loss.backward()
    # The third is pushed away from b by 2 (margin - d) / 2 / 4, the others rest.
    torch.testing.assert_close(a.grad, torch.tensor([[0.0, 0], [0, 0], [0.1, 0], [0, 0]]))


# ---- hinges ---------------------------------------------------------------------------------------------------------


def hinges_by_loops(sim, margin, mining, symmetric, same, reduce) -> float:
    """``reduce``: "sum" or "mean" over a row's negatives."""
    total, n = 0.0, len(sim)
    for scores, skip in [(sim, same), (sim.T, same.T)][: 1 + symmetric]:
        rows = []
        for i in range(n):
            costs = [
                max(0.0, margin + scores[i, j].item() - scores[i, i].item())
                for j in range(n)
                if j != i and not skip[i, j]
            ]
            if mining == "hardest":
                costs = [max(costs, default=0.0)]
            rows.append(sum(costs) / (len(costs) if reduce == "mean" and costs else 1))
        total += mean(rows)
    return total


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("seed", [0, 1])
def test_hinges_equal_loops(seed, mining, symmetric, marked):
    q, t = batch(seed)
    same = twins(seed) if marked else torch.zeros(7, 7, dtype=torch.bool)
    options = {"mining": mining, "symmetric": symmetric, "same": same if marked else None}
    loops = partial(hinges_by_loops, mining=mining, symmetric=symmetric, same=same)
    found = hinge_loss(q @ t.T, 0.3, **options).item()
    assert found == pytest.approx(loops(q @ t.T, 0.3, reduce="sum"), abs=1e-12)
    distance = torch.tensor([[math.dist(x, y) for y in t.tolist()] for x in q.tolist()], dtype=torch.float64)
    for squared in (False, True):
        expected = loops(-(distance**2) if squared else -distance, 0.4, reduce="mean")
        found = triplet_margin_loss(q, t, 0.4, squared, **options).item()
        assert found == pytest.approx(expected, abs=1e-12)
        for other in [{"symmetric": not symmetric}, {"mining": next(m for m in MINING if m != mining)}]:
            assert abs(triplet_margin_loss(q, t, 0.4, squared, **(options | other)).item() - expected) > 1e-3
        assert abs(triplet_margin_loss(q, t, 0.4, not squared, **options).item() - expected) > 1e-3


@pytest.mark.parametrize("mining", MINING)
def test_plain_triplets_both_ways_are_the_relative_form_with_labels(mining):
    q, t = batch(5)
    expected = intermodal_triplet_loss(q, t, torch.arange(7), margin=0.7, form="relative", mining=mining)
    torch.testing.assert_close(triplet_margin_loss(q, t, 0.7, mining=mining, symmetric=True), expected)


def test_triplets_equal_torchs_own_over_all_negatives():
    q, t = batch(6)
    i, j = (~torch.eye(7, dtype=torch.bool)).nonzero().T
    expected = F.triplet_margin_loss(q[i], t[i], t[j], margin=0.5, eps=0)
    torch.testing.assert_close(triplet_margin_loss(q, t, 0.5), expected)
    squares = F.triplet_margin_with_distance_loss(
        q[i], t[i], t[j], distance_function=lambda x, y: (x - y).square().sum(dim=1), margin=0.5
    )
    torch.testing.assert_close(triplet_margin_loss(q, t, 0.5, squared=True), squares)
    sim = q @ t.T
    summed = F.margin_ranking_loss(sim[i, i], sim[i, j], torch.ones(42), margin=0.5, reduction="sum")
    torch.testing.assert_close(hinge_loss(sim, 0.5), summed / 7)


@pytest.mark.parametrize("n", [2, 6])
def test_a_collapsed_model_pays_the_margin(n):
    for value in (0.0, 0.3):
        sim = torch.full((n, n), value, requires_grad=True)
        assert hinge_loss(sim, 0.2).item() == pytest.approx(0.2 * (n - 1))
        assert hinge_loss(sim, 0.2, "hardest", symmetric=True).item() == pytest.approx(2 * 0.2)
        rows = torch.full((n, 3), value, requires_grad=True)
        for squared, mining in product([False, True], MINING):
            loss = triplet_margin_loss(rows, rows, 0.2, squared, mining)
            loss.backward()
            assert loss.item() == pytest.approx(0.2)
            assert rows.grad.isfinite().all()


def test_once_the_margin_is_kept_nothing_pulls():
    sim = (torch.eye(4) + 0.1).requires_grad_()
    for mining in MINING:
        loss = hinge_loss(sim, 0.99, mining)
        loss.backward()
        assert loss == 0
        assert not sim.grad.any()
        assert hinge_loss(sim, 1.01, mining) > 0


@pytest.mark.parametrize("parts", [2, 4])
def test_the_mean_over_parts_is_the_whole_batch(parts):
    q, t = batch(7, 8)
    same = twins(7, 8)
    for loss in (
        lambda q, **k: hinge_loss(q @ t.T, **k),
        lambda q, **k: triplet_margin_loss(q, t, **k),
        lambda q, **k: triplet_margin_loss(q, t, mining="hardest", squared=True, **k),
    ):
        shares = [loss(q[i], same=same[i], offset=int(i[0])).item() for i in torch.arange(8).chunk(parts)]
        assert mean(shares) == pytest.approx(loss(q, same=same).item(), abs=1e-12)
        assert len(set(shares)) == parts


@pytest.mark.parametrize("mining", MINING)
def test_gradients_equal_finite_differences(mining):
    q, t = (x.requires_grad_() for x in batch(8, 5))
    same = torch.tensor([1, 0, 0, 1, 0])
    assert torch.autograd.gradcheck(lambda q, t: contrastive_loss(q, t, same, 1.3), (q, t))
    assert torch.autograd.gradcheck(lambda q, t: hinge_loss(q @ t.T, 0.3, mining, symmetric=True), (q, t))
    for squared in (False, True):
        assert torch.autograd.gradcheck(lambda q, t, s=squared: triplet_margin_loss(q, t, 0.5, s, mining), (q, t))


def test_the_order_of_pairs_does_not_count_and_shuffled_targets_cost_more():
    q, _ = batch(9, 20)
    t = q + 0.1 * batch(10, 20)[0]
    order = torch.randperm(20, generator=rng(1))
    for loss in (lambda q, t: hinge_loss(q @ t.T), triplet_margin_loss, partial(triplet_margin_loss, mining="hardest")):
        value = loss(q, t)
        torch.testing.assert_close(loss(q[order], t[order]), value)
        assert loss(q, t[order]) > value + 0.3


# ---- bad input ------------------------------------------------------------------------------------------------------

A = torch.zeros(4, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: contrastive_loss(A, torch.zeros(4, 2), torch.ones(4)), r"a \(4, 3\), b \(4, 2\)"),
        (lambda: contrastive_loss(A, A, torch.ones(3)), r"same \(3,\)"),
        (lambda: contrastive_loss(A[:0], A[:0], torch.ones(0)), "n >= 1"),
        (lambda: contrastive_loss(A, A, torch.tensor([1, -1, 0, 1])), "same must be 1"),
        (lambda: contrastive_loss(A, A, torch.ones(4), margin=0.0), "margin must be a number > 0, got 0.0"),
        (lambda: hinge_loss(A @ A.T, mining="sum"), "'all', 'hardest'.* got 'sum'"),
        (lambda: hinge_loss(A @ A.T, margin=-0.1), "'all' and -0.1"),
        (lambda: hinge_loss(A @ A.T, margin=math.nan), "'all' and nan"),
        (lambda: hinge_loss(torch.zeros(4)), r"sim must be \(B, G\).* got \(4,\)"),
        (lambda: hinge_loss(torch.zeros(1, 1)), r"at least 2 targets; got \(1, 1\)"),
        (lambda: hinge_loss(torch.zeros(4, 3)), "4 queries from offset 0 on .* there are 3"),
        (lambda: hinge_loss(torch.zeros(3, 4), symmetric=True), r"as many .* got \(3, 4\)"),
        (lambda: hinge_loss(A @ A.T, same=torch.zeros(4, 4)), "bool of shape"),
        (lambda: triplet_margin_loss(A, torch.zeros(4, 2)), r"\(4, 3\) and .*\(4, 2\)"),
        (lambda: triplet_margin_loss(A, A, mining="semihard"), "got 'semihard'"),
        (lambda: triplet_margin_loss(A, A, offset=1), "offset 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
