"""The game's two losses against loops over probabilities, against binary cross-entropy, and by their slopes."""

import math

import pytest
import torch
from torch.nn import functional as F

from commonspace.losses import judge_loss, painter_loss


def random(n: int, seed: int, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slope(loss, logits: torch.Tensor) -> torch.Tensor:
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits), logits)[0]


# ---- the judge -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.45])
@pytest.mark.parametrize(("fake_weight", "wrong_weight"), [(0.5, 0.5), (1.0, 0.0), (0.0, 2.0), (0.3, 0.7)])
def test_the_judge_s_loss_is_that_of_its_probabilities(fake_weight, wrong_weight, smoothing, seed):
    real, fake, wrong = random(7, seed), random(5, seed + 10), random(9, seed + 20)
    found = judge_loss(real, fake, wrong, fake_weight, wrong_weight, smoothing)
    expected = 0.0
    for logit in real.tolist():
        d = float(torch.sigmoid(torch.tensor(logit, dtype=torch.float64)))
        expected -= ((1 - smoothing) * math.log(d) + smoothing * math.log(1 - d)) / 7
    for weight, logits in ((fake_weight, fake), (wrong_weight, wrong)):
        for d in torch.sigmoid(logits):
            expected -= weight * float(torch.log(1 - d)) / len(logits)
    assert found.item() == pytest.approx(expected, abs=1e-12)
    entropy = F.binary_cross_entropy_with_logits
    parts = entropy(real, torch.full_like(real, 1 - smoothing))
    parts = parts + fake_weight * entropy(fake, torch.zeros_like(fake))
    parts = parts + wrong_weight * entropy(wrong, torch.zeros_like(wrong))
    assert found.item() == pytest.approx(parts.item(), abs=1e-12)
    assert (found.shape, found.dtype) == ((), torch.float64)


def test_the_defaults_weigh_painted_and_wrong_pairs_as_much_as_real_ones():
    real, fake, wrong = random(7, 0), random(7, 1), random(7, 2)
    assert judge_loss(real, fake, wrong) == judge_loss(real, fake, wrong, 0.5, 0.5, 0.0)
    undecided = torch.zeros(3)
    assert judge_loss(undecided, undecided, undecided).item() == pytest.approx(2 * math.log(2))


def test_smoothing_is_of_one_side():
    """Of real pairs it asks 1 - s, and the slope is 0 there; painted and wrong ones are pushed as before."""
    real, fake, wrong = random(4, 0), random(4, 1), random(4, 2)
    for at, loss in (
        ("fake", lambda s: lambda x: judge_loss(real, x, wrong, smoothing=s)),
        ("wrong", lambda s: lambda x: judge_loss(real, fake, x, smoothing=s)),
    ):
        logits = fake if at == "fake" else wrong
        assert torch.equal(slope(loss(0.0), logits), slope(loss(0.2), logits))
        torch.testing.assert_close(slope(loss(0.2), logits), 0.5 * logits.sigmoid() / 4)
    of_real = slope(lambda x: judge_loss(x, fake, wrong, smoothing=0.2), real)
    torch.testing.assert_close(of_real, (real.sigmoid() - 0.8) / 4)
    best = torch.tensor([math.log(0.8 / 0.2)], dtype=torch.float64)
    assert abs(slope(lambda x: judge_loss(x, fake, wrong, smoothing=0.2), best)) < 1e-15


def test_each_term_pushes_its_own_logits_and_the_mean_is_over_them():
    real, fake, wrong = (x.requires_grad_() for x in (random(4, 0), random(6, 1), random(8, 2)))
    judge_loss(real, fake, wrong, 0.3, 0.7).backward()
    torch.testing.assert_close(real.grad, (real.detach().sigmoid() - 1) / 4)
    torch.testing.assert_close(fake.grad, 0.3 * fake.detach().sigmoid() / 6)
    torch.testing.assert_close(wrong.grad, 0.7 * wrong.detach().sigmoid() / 8)
    assert (real.grad < 0).all()
    assert min(fake.grad.min(), wrong.grad.min()) > 0


# ---- the painter -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_painter_s_loss_is_that_of_its_probabilities(seed):
    fake = random(8, seed)
    expected = -sum(float(torch.log(torch.sigmoid(x))) for x in fake) / 8
    assert painter_loss(fake).item() == pytest.approx(expected, abs=1e-12)
    assert painter_loss(fake).item() == pytest.approx(
        F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake)).item(), abs=1e-12
    )
    printed = sum(float(torch.log(1 - torch.sigmoid(x))) for x in fake) / 8
    assert painter_loss(fake, saturating=True).item() == pytest.approx(printed, abs=1e-12)
    assert painter_loss(fake).item() > 0 > painter_loss(fake, saturating=True).item()


def test_both_forms_push_up_and_only_one_of_them_where_the_judge_is_sure():
    """With D = sigmoid(logit) the slopes are D - 1 and - D."""
    fake = torch.linspace(-30, 30, 13, dtype=torch.float64)
    d = fake.sigmoid()
    plain = 13 * slope(painter_loss, fake)
    printed = 13 * slope(lambda x: painter_loss(x, saturating=True), fake)
    torch.testing.assert_close(plain, d - 1)
    torch.testing.assert_close(printed, -d)
    assert max(plain.max(), printed.max()) < 0
    assert plain[0] == pytest.approx(-1)
    assert abs(printed[0]) < 1e-12


# ---- both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits_are_finite_and_so_are_their_slopes(dtype):
    """log(sigmoid(-1000)) is minus infinity; the loss is 1000."""
    huge = torch.tensor([-1e4, 1e4], dtype=dtype)
    for loss, value in (
        (lambda x: judge_loss(x, x, x), 1e4),
        (lambda x: judge_loss(x, x, x, smoothing=0.1), 1e4),
        (painter_loss, 5e3),
        (lambda x: painter_loss(x, saturating=True), -5e3),
    ):
        assert loss(huge).item() == pytest.approx(value)
        assert slope(loss, huge).isfinite().all()
    assert torch.sigmoid(huge[:1]).log().isinf()


ONE = torch.ones(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: judge_loss(torch.ones(3, 1), ONE, ONE), r"real must be logits \(n,\).* got shape \(3, 1\)"),
        (lambda: judge_loss(ONE, torch.ones(0), ONE), r"fake must be logits .*at least one; got shape \(0,\)"),
        (lambda: judge_loss(ONE, ONE, torch.tensor(1.0)), r"wrong must be logits .* got shape \(\)"),
        (lambda: judge_loss(ONE, ONE, ONE, -0.1), r"fake_weight must be a number in \[0, inf\); got -0.1"),
        (lambda: judge_loss(ONE, ONE, ONE, math.nan), "fake_weight must be .* got nan"),
        (lambda: judge_loss(ONE, ONE, ONE, 0.5, math.inf), "wrong_weight must be .* got inf"),
        (lambda: judge_loss(ONE, ONE, ONE, smoothing=0.5), r"smoothing must be a number in \[0, 0.5\); got 0.5"),
        (lambda: judge_loss(ONE, ONE, ONE, smoothing=-0.1), "smoothing must be .* got -0.1"),
        (lambda: painter_loss(torch.ones(2, 2)), r"fake must be logits .* got shape \(2, 2\)"),
        (lambda: painter_loss(torch.ones(0)), "at least one"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
