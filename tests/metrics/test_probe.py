"""The modality probe on codes whose answer is known, and the leak it must not have."""

import pytest
import torch

from commonspace.metrics import modality_probe


def codes(seed: int, n: int = 120, d: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=rng), torch.randn(n, d, generator=rng)


@pytest.mark.parametrize("kind", ["mlp", "linear"])
@pytest.mark.parametrize("seed", [0, 1])
def test_codes_apart_are_told_apart(seed, kind):
    v, t = codes(seed)
    assert modality_probe(v + 4, t, kind) > 0.99
    assert modality_probe(v, t + 4, kind) > 0.99  # whichever side is the higher


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_codes_of_one_distribution_are_at_chance(kind):
    found = torch.tensor([modality_probe(*codes(seed), kind) for seed in range(10)])
    assert abs(found.mean() - 0.5) < 0.04
    assert found.min() > 0.35
    assert found.max() < 0.65


def test_a_difference_of_means_is_seen_by_both_and_one_of_shape_by_the_mlp_alone():
    v, t = codes(2, 300)
    assert modality_probe(v + 1, t, "linear") > 0.8
    assert modality_probe(v + 1, t, "mlp") > 0.8
    shell = 3 * v / v.norm(dim=1, keepdim=True)  # around the other modality's codes on all sides
    assert abs(modality_probe(shell, 0.5 * t, "linear") - 0.5) < 0.1
    assert modality_probe(shell, 0.5 * t, "mlp") > 0.95


def leaky_probe(v: torch.Tensor, t: torch.Tensor) -> float:
    """What `modality_probe` must not be: all codes are cut into halves, whichever pair they are of."""
    from sklearn.neural_network import MLPClassifier

    rows, names = torch.cat([v, t]).numpy(), torch.tensor([1] * len(v) + [0] * len(t)).numpy()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).numpy()
    train, test = order[: len(v)], order[len(v) :]
    judge = MLPClassifier((50,), alpha=1e-2, max_iter=80, random_state=0, tol=0.01)
    return judge.fit(rows[train], names[train]).score(rows[test], names[test])


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_both_codes_of_a_pair_are_on_one_side(kind):
    """Both codes of a pair are equal, so whatever a classifier says is right for one of them: exactly 0.5.

    Where the halves cut through pairs, a twin of a test code with the other name is among those trained on, and the
    classifier falls below chance.
    """
    v, _ = codes(3, 80, 40)
    for seed in (0, 1):
        assert modality_probe(v, v.clone(), kind, seed) == 0.5
    assert leaky_probe(v, v.clone()) < 0.4


def test_scales_and_offsets_of_columns_do_not_matter_and_the_seed_repeats():
    v, t = codes(4, 60)
    v = v + 0.6
    once = modality_probe(v, t, "linear")
    assert modality_probe(v, t, "linear") == once
    scale = 10.0 ** torch.arange(-3, 3)
    assert modality_probe(v * scale + 100, t * scale + 100, "linear") == pytest.approx(once, abs=0.02)
    assert len({modality_probe(v, t, "linear", seed) for seed in range(4)}) > 1


def test_it_takes_numpy_half_precision_and_codes_with_a_gradient():
    v, t = codes(5, 21)  # an odd number of pairs
    found = modality_probe((v + 3).numpy(), t.numpy(), "linear")
    assert modality_probe((v + 3).requires_grad_(), t, "linear") == found
    assert modality_probe((v + 3).half(), t.half(), "linear") == pytest.approx(found, abs=0.05)


@pytest.mark.parametrize(
    ("v", "t", "kind", "message"),
    [
        (torch.zeros(30, 3), torch.zeros(29, 3), "mlp", r"\(30, 3\) and text_emb \(29, 3\) must be rows of one pair"),
        (torch.zeros(30, 3), torch.zeros(30, 2), "mlp", "must be rows of one pair"),
        (torch.zeros(30), torch.zeros(30), "mlp", r"image_emb must have shape \(n, d\)"),
        (torch.zeros(30, 3), torch.full((30, 3), torch.nan), "mlp", "text_emb"),
        (torch.zeros(19, 3), torch.zeros(19, 3), "mlp", "19 pairs are too few .* at least 20"),
        (torch.zeros(30, 3), torch.zeros(30, 3), "svm", "one of .*'mlp', 'linear'.*, got 'svm'"),
    ],
)
def test_bad_input_is_refused(v, t, kind, message):
    with pytest.raises(ValueError, match=message):
        modality_probe(v, t, kind)
