"""The modality probe on codes whose answer is known, and the leak it must not have."""

import pytest
import torch

from commonspace.metrics import linear_probe, modality_probe


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


# ---- the linear probe -----------------------------------------------------------------------------------------------


def rows(seed: int, n: int, d: int = 5, k: int = 3, noise: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of unlike scales and offsets, and what is to be read: a linear map of them, the same for all seeds."""
    rng = torch.Generator().manual_seed(seed)
    X = torch.randn(n, d, generator=rng, dtype=torch.float64) * torch.arange(1, d + 1) + 3
    W = torch.randn(d, k, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return X, X @ W + noise * torch.randn(n, k, generator=rng, dtype=torch.float64) - 2


@pytest.mark.parametrize("ridge", [1e-3, 0.01, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_linear_probe_is_the_closed_form(seed, ridge):
    (X, Y), (X_test, Y_test) = rows(seed, 60), rows(seed + 10, 40)
    mean, scale = X.mean(dim=0), X.std(dim=0, correction=0)
    A, A_test = (X - mean) / scale, (X_test - mean) / scale
    W = torch.linalg.solve(A.T @ A / len(A) + ridge * torch.eye(5, dtype=torch.float64), A.T @ (Y - Y.mean(0)) / len(A))
    left = (Y_test - Y.mean(dim=0) - A_test @ W).square().sum()
    expected = 1 - left / (Y_test - Y_test.mean(dim=0)).square().sum()
    assert linear_probe(X, Y, X_test, Y_test, ridge) == pytest.approx(expected.item(), abs=1e-9)


def test_the_linear_probe_finds_what_is_there_and_nothing_in_mixed_rows():
    (X, Y), (X_test, Y_test) = rows(3, 200, noise=0.0), rows(4, 100, noise=0.0)
    assert linear_probe(X, Y, X_test, Y_test, ridge=1e-9) == pytest.approx(1, abs=1e-6)
    assert linear_probe(X, Y.flip(0), X_test, Y_test) < 0.1
    assert linear_probe(X.square(), Y, X_test.square(), Y_test) < 0.99
    assert linear_probe(X.float().numpy(), Y.requires_grad_(), X_test, Y_test) > 0.9
    assert linear_probe(7 * X - 1, Y, 7 * X_test - 1, Y_test) == pytest.approx(linear_probe(X, Y, X_test, Y_test))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wanted": torch.ones(9, 3)}, "equal rows"),
        ({"test_codes": torch.ones(8, 4)}, "equal widths"),
        ({"test_wanted": torch.ones(8, 3)}, "no variance"),
        ({"codes": torch.full((10, 5), torch.nan)}, "finite"),
        ({"ridge": 0.0}, "ridge must be greater than 0"),
        ({"test_codes": torch.ones(1, 5), "test_wanted": torch.ones(1, 3)}, "at least two rows"),
    ],
)
def test_the_linear_probe_refuses_bad_input(change, message):
    (X, Y), (X_test, Y_test) = rows(0, 10), rows(1, 8)
    given = {"codes": X, "wanted": Y, "test_codes": X_test, "test_wanted": Y_test} | change
    with pytest.raises(ValueError, match=message):
        linear_probe(**given)
