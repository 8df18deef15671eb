"""Standardised columns against scikit-learn and numpy; rows of one learned length against loops."""

import math

import numpy as np
import pytest
import torch

from commonspace.encoders import ScaledUnitNorm, Sequence, Standardize, build_encoder


def rows(seed: int, n: int = 50, d: int = 6, dtype=torch.float32) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    scale = 10.0 ** torch.arange(-2, d - 2)
    return ((torch.rand(n, d, generator=rng) - 0.3) * scale).to(dtype)  # of either sign


@pytest.mark.parametrize("power", [1.0, 0.5, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_numpy_and_scikit_learn(seed, power):
    from sklearn.preprocessing import StandardScaler

    train, test = rows(seed), rows(seed + 10, 20)
    encoder = Standardize(6, power).fit(train)
    x, y = (np.sign(v) * np.abs(v) ** power for v in (train.double().numpy(), test.double().numpy()))
    expected = (y - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    np.testing.assert_allclose(encoder(test), expected, atol=2e-4, rtol=1e-4)
    n = len(x)
    theirs = StandardScaler().fit(x).transform(y) * np.sqrt((n - 1) / n)  # it divides by n, ours by n - 1
    np.testing.assert_allclose(encoder(test), theirs, atol=2e-4, rtol=1e-4)


def test_the_training_rows_get_mean_0_and_deviation_1_and_others_the_same_map():
    train = rows(2)
    encoder = Standardize(6).fit(train)
    found = encoder(train)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(dim=0), torch.ones(6), atol=1e-5, rtol=0)
    assert torch.equal(encoder(train[:3]), found[:3])
    assert encoder(train + 5).mean(dim=0).min() > 1e-3


def test_before_fit_nothing_changes():
    x = rows(3)
    assert torch.equal(Standardize(6)(x), x)


@pytest.mark.parametrize("value", [0.0, 0.1, -7e4, 1e-30])
def test_a_constant_column_becomes_0_for_training_rows_and_new_ones(value):
    train = rows(4)
    train[:, 2] = value
    encoder = Standardize(6).fit(train)
    assert torch.equal(encoder(train)[:, 2], torch.zeros(50))
    new = train.clone()
    new[:, 2] += 1
    assert torch.equal(encoder(new)[:, 2], torch.zeros(50))
    assert encoder(train)[:, [0, 1, 3, 4, 5]].std(dim=0).min() > 0.99


def test_a_column_far_from_0_is_not_taken_for_a_constant():
    train = rows(5)
    train[:, 0] = 1000 + torch.arange(50) % 2
    assert Standardize(6).fit(train)(train)[:, 0].std().item() == pytest.approx(1.0, abs=1e-4)


def test_it_has_no_weights_and_its_numbers_are_saved_with_the_model():
    encoder = Standardize(6, 0.5).fit(rows(6))
    assert list(encoder.parameters()) == []
    assert encoder.state_dict().keys() == {"mean", "scale"}
    assert (encoder.in_dim, encoder.out_dim) == (6, 6)
    assert encoder.config == {"encoder": "Standardize", "dim": 6, "power": 0.5}
    again = Standardize(6, 0.5)
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(rows(7)), encoder(rows(7)))
    assert encoder.fit(rows(8)) is encoder


def test_integer_rows_are_read():
    counts = torch.arange(12).reshape(4, 3)
    torch.testing.assert_close(Standardize(3).fit(counts)(counts), Standardize(3).fit(counts.float())(counts.float()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Standardize(0), "dim must be at least 1"),
        (lambda: Standardize(3, 0.0), "power greater than 0; got 3 and 0.0"),
        (lambda: Standardize(3, -1.0), "power greater than 0"),
        (lambda: Standardize(3, float("nan")), "power greater than 0"),
        (lambda: Standardize(3)(torch.zeros(4, 2)), r"\(B, 3\), got \(4, 2\)"),
        (lambda: Standardize(3)(torch.zeros(3)), r"\(B, 3\), got \(3,\)"),
        (lambda: Standardize(3).fit(torch.zeros(1, 3)), "at least 2 rows, got 1"),
        (lambda: Standardize(3).fit(torch.tensor([[1.0, 2, 3], [1, float("nan"), 3]])), "not finite"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- rows of one length ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [4.0, 0.5])
def test_every_row_gets_the_same_length_and_keeps_its_direction(scale):
    x = rows(9, 8, 5)
    found = ScaledUnitNorm(scale)(x)
    expected = [[scale * v / math.hypot(*row) for v in row] for row in x.double().tolist()]
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-5)
    torch.testing.assert_close(ScaledUnitNorm(scale)(1000 * x), found)
    cosines = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=2)
    torch.testing.assert_close(found @ found.T, scale**2 * cosines, atol=1e-5, rtol=1e-5)


def test_its_gradients_equal_finite_differences_and_the_scale_learns():
    norm = ScaledUnitNorm(3.0).double()
    x = rows(10, 4, 3, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, s: torch.func.functional_call(norm, {"scale": s}, (x,)), (x, norm.scale))
    norm(x).sum().backward()
    assert norm.scale.grad.item() == pytest.approx((x.detach() / x.detach().norm(dim=1, keepdim=True)).sum().item())
    assert [name for name, _ in norm.named_parameters()] == ["scale"]
    assert norm.scale.shape == ()


def test_a_row_of_zeros_stays_and_has_a_finite_gradient():
    x = torch.zeros(2, 3, requires_grad=True)
    found = ScaledUnitNorm()(x)
    found.sum().backward()
    assert not found.any()
    assert x.grad.isfinite().all()


def test_it_is_built_again_and_keeps_the_width_it_gets():
    norm = ScaledUnitNorm(2.5)
    assert norm.config == {"encoder": "ScaledUnitNorm", "scale": 2.5}
    again = build_encoder(norm.config)
    assert again.scale.item() == 2.5
    with torch.no_grad():
        norm.scale.fill_(7.0)
    again.load_state_dict(norm.state_dict())
    assert torch.equal(again(rows(11)), norm(rows(11)))
    assert Sequence(Standardize(6), ScaledUnitNorm()).out_dim == 6
    assert Sequence(ScaledUnitNorm()).out_dim is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScaledUnitNorm(0.0), "scale must be a number > 0, got 0.0"),
        (lambda: ScaledUnitNorm(math.nan), "got nan"),
        (lambda: ScaledUnitNorm(math.inf), "got inf"),
        (lambda: ScaledUnitNorm()(torch.zeros(3)), r"\(B, d\), got \(3,\)"),
        (lambda: ScaledUnitNorm()(torch.zeros(3, 2, 2)), r"got \(3, 2, 2\)"),
    ],
)
def test_bad_scales_and_rows_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
