"""Standardised columns against scikit-learn and numpy."""

import numpy as np
import pytest
import torch

from commonspace.encoders import Standardize


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
