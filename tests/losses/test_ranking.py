"""The triplet losses against loops over triples, finite differences and pytorch-metric-learning."""

import math
from itertools import product

import pytest
import torch

from commonspace.losses import intermodal_triplet_loss, share_a_label
from commonspace.losses.ranking import distances

FORMS, MINING = ["absolute", "relative"], ["all", "hardest"]


def batch(seed: int, n: int = 9, d: int = 3, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, d, generator=rng, dtype=dtype) * 0.6 for _ in range(2))


def labels(seed: int, kind: str, n: int = 9) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    if kind == "single":
        return torch.randint(0, 3, (n,), generator=rng)
    several = torch.rand(n, 5, generator=rng) < 0.25
    several[0], several[1] = False, False  # no label at all, ...
    several[1, :4] = True  # ... and many
    return several


def share(label: torch.Tensor, i: int, j: int) -> bool:
    if label.ndim == 1:
        return int(label[i]) == int(label[j])
    return any(bool(x) and bool(y) for x, y in zip(label[i], label[j], strict=True))


def by_loops(v, t, label, margin=1.0, gamma=1.0, form="absolute", mining="all", same_modality=False) -> float:
    total = 0.0
    for anchors, others in [(v.tolist(), t.tolist()), (t.tolist(), v.tolist())]:
        n, means = len(anchors), []
        for i in range(n):
            positives = [math.dist(anchors[i], others[j]) for j in range(n) if share(label, i, j)]
            negatives = [math.dist(anchors[i], others[k]) for k in range(n) if not share(label, i, k)]
            if same_modality:
                negatives += [math.dist(anchors[i], anchors[k]) for k in range(n) if not share(label, i, k)]
            if not positives or not negatives:
                continue
            if mining == "hardest":
                negatives = [min(negatives)]
            costs = []
            for p, q in product(positives, negatives):
                costs.append(p + gamma * max(0, margin - q) if form == "absolute" else max(0, margin + p - q))
            means.append(sum(costs) / len(costs))
        total += sum(means) / len(means) if means else 0.0
    return total


@pytest.mark.parametrize("same_modality", [False, True])
@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["single", "several"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_loops_over_triples(seed, kind, form, mining, same_modality):
    v, t = batch(seed)
    label = labels(seed, kind)
    options = {"margin": 1.3, "gamma": 0.4, "form": form, "mining": mining, "same_modality": same_modality}
    expected = by_loops(v, t, label, **options)
    found = intermodal_triplet_loss(v, t, label, **options)
    assert found.item() == pytest.approx(expected, abs=1e-12)
    single = intermodal_triplet_loss(v.float(), t.float(), label, **options)
    assert single.item() == pytest.approx(expected, abs=1e-5)
    assert found.item() == pytest.approx(intermodal_triplet_loss(t, v, label, **options).item())  # both ways count
    for other in [{"form": next(f for f in FORMS if f != form)}, {"mining": next(m for m in MINING if m != mining)}]:
        assert abs(intermodal_triplet_loss(v, t, label, **(options | other)).item() - expected) > 1e-3


@pytest.mark.parametrize("same_modality", [False, True])
@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_equals_finite_differences(form, mining, same_modality):
    v, t = (x.requires_grad_() for x in batch(4, 6))
    label = torch.tensor([0, 0, 1, 1, 2, 2])
    options = {"form": form, "mining": mining, "same_modality": same_modality, "gamma": 0.7}
    assert torch.autograd.gradcheck(lambda v, t: intermodal_triplet_loss(v, t, label, **options), (v, t))


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_pytorch_metric_learning(seed):
    """Its mean over all triples is ours where every anchor has as many of them: classes of one size."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.reducers import MeanReducer

    v, t = batch(seed, 12, dtype=torch.float32)
    label = torch.arange(12) % 4
    theirs = TripletMarginLoss(margin=0.8, distance=LpDistance(normalize_embeddings=False), reducer=MeanReducer())
    # A copy of the labels: where both sides have one tensor, it takes them for one set and leaves out pairs (i, i).
    expected = theirs(v, label, ref_emb=t, ref_labels=label.clone())
    expected = expected + theirs(t, label, ref_emb=v, ref_labels=label.clone())
    found = intermodal_triplet_loss(v, t, label, margin=0.8, form="relative")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_negative_that_shares_a_label_is_another_loss():
    v, t = batch(5)
    label = labels(5, "several")
    right = intermodal_triplet_loss(v, t, label).item()
    first = intermodal_triplet_loss(v, t, label.int().argmax(dim=1)).item()  # as if only the first label counted
    others = intermodal_triplet_loss(v, t, torch.arange(9)).item()  # as if only the own pair were positive
    for wrong in (first, others):
        assert abs(wrong - right) > 1e-2
        assert wrong != pytest.approx(by_loops(v, t, label), abs=1e-2)


@pytest.mark.parametrize("kind", ["single", "several"])
def test_which_pairs_share_a_label(kind):
    label = labels(6, kind)
    expected = [[share(label, i, j) for j in range(9)] for i in range(9)]
    assert share_a_label(label).tolist() == expected
    assert share_a_label(label[:4], label).tolist() == expected[:4]
    one_hot = torch.nn.functional.one_hot(torch.arange(6) % 3).bool()
    assert torch.equal(share_a_label(one_hot), share_a_label(torch.arange(6) % 3))


@pytest.mark.parametrize("form", FORMS)
def test_equal_rows_have_a_finite_gradient(form):
    for value in (0.0, 0.3):
        v, t = (torch.full((6, 3), value, requires_grad=True) for _ in range(2))
        loss = intermodal_triplet_loss(v, t, torch.arange(6) % 2, form=form, same_modality=True)
        loss.backward()
        assert loss.item() == pytest.approx(2.0)  # positives at 0, negatives the whole margin too close, both ways
        assert v.grad.isfinite().all()
        assert t.grad.isfinite().all()


def test_distances_of_close_rows_are_not_drowned():
    rng = torch.Generator().manual_seed(0)
    a = 100 + torch.randn(40, 8, generator=rng)
    b = a + 1e-4
    exact = torch.tensor([[math.dist(x, y) for y in b.tolist()] for x in a.tolist()])
    torch.testing.assert_close(distances(a, b), exact, rtol=1e-5, atol=1e-7)
    by_squares = torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
    assert (by_squares - exact).abs().max() > 1e-3


@pytest.mark.parametrize("same_modality", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("label", [torch.zeros(5, dtype=torch.long), torch.zeros(5, 3, dtype=torch.bool)])
def test_without_a_triple_loss_and_gradient_are_0(label, form, same_modality):
    """One class alone has no negatives, pairs without a label have no positives."""
    v, t = (x.requires_grad_() for x in batch(0, 5))
    loss = intermodal_triplet_loss(v, t, label, form=form, same_modality=same_modality)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(v.grad, torch.zeros_like(v))
    assert torch.equal(t.grad, torch.zeros_like(t))


def test_an_anchor_without_negatives_does_not_count():
    v, t = batch(1, 4)
    label = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 0]]).bool()  # item 0 shares a label with all
    assert intermodal_triplet_loss(v, t, label).item() == pytest.approx(by_loops(v, t, label), abs=1e-12)


def test_the_margin_is_a_distance_or_a_difference_of_distances():
    """On a line: images at 0 and 10, texts at 1 and 14; classes 0 and 1."""
    v, t = torch.tensor([[0.0], [10.0]]), torch.tensor([[1.0], [14.0]])
    label = torch.tensor([0, 1])
    positives = 1 + 4  # sums over the two anchors; negatives: image 0 at 14, image 1 at 9, text 0 at 9, text 1 at 14
    for margin, gamma, hinges in [(5.0, 1.0, 0.0), (10.0, 1.0, 1 + 1), (10.0, 3.0, 6.0), (15.0, 1.0, 2 * (1 + 6))]:
        found = intermodal_triplet_loss(v, t, label, margin=margin, gamma=gamma).item()
        assert found == pytest.approx(2 * positives / 2 + hinges / 2)
        relative = [margin + p - q for p, q in [(1, 14), (4, 9), (1, 9), (4, 14)]]
        found = intermodal_triplet_loss(v, t, label, margin=margin, gamma=gamma, form="relative").item()
        assert found == pytest.approx(sum(max(0, x) for x in relative) / 2)


def test_it_does_not_depend_on_the_order_of_pairs_and_is_no_less_for_shuffled_texts():
    label = torch.arange(30) % 3
    centres = 3 * torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v, t = (centres[label] + x for x in batch(2, 30, 4))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    for form in FORMS:
        value = intermodal_triplet_loss(v, t, label, form=form)
        torch.testing.assert_close(intermodal_triplet_loss(v[order], t[order], label[order], form=form), value)
        assert intermodal_triplet_loss(v, t[order], label, form=form) > value + 1


def test_it_runs_under_autocast_in_float32():
    v, t = batch(3, 12, dtype=torch.float32)
    label = torch.arange(12) % 3
    with torch.autocast("cpu", torch.bfloat16):
        found = intermodal_triplet_loss(v.bfloat16(), t.bfloat16(), label)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, intermodal_triplet_loss(v, t, label), rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_emb": torch.zeros(4, 3)}, r"\(4, 3\) and \(5, 3\) with 5 labels"),
        ({"text_emb": torch.zeros(5, 2)}, r"\(5, 3\) and \(5, 2\)"),
        ({"image_emb": torch.zeros(5), "text_emb": torch.zeros(5)}, r"both must be \(n, d\)"),
        ({"label": torch.zeros(4)}, "with 4 labels"),
        ({"form": "squared"}, "got 'squared' and 'all'"),
        ({"mining": "semihard"}, "got 'absolute' and 'semihard'"),
        ({"margin": -1.0}, "margin and gamma must be >= 0; got -1.0 and 1.0"),
        ({"gamma": -0.5}, "must be >= 0"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {"image_emb": torch.zeros(5, 3), "text_emb": torch.zeros(5, 3), "label": torch.arange(5)} | change
    with pytest.raises(ValueError, match=message):
        intermodal_triplet_loss(**arguments)
