"""GXN's painter and judge: the augmentation against closed forms and Monte Carlo, who learns from which loss, what
each flag changes, and painting."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from commonspace.losses import judge_loss, painter_loss
from commonspace.models import GXNPaint
from commonspace.models.gxn_paint import ConditionAugmentation, normal_kl

DIM, B = 6, 7


def random(*shape: int, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pictures(n: int = B, size: tuple[int, int] = (8, 8), seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (n, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


T, WRONG, IMAGES = random(B, DIM), random(B, DIM, seed=1), pictures()


def paint(seed: int = 0, loud: float = 4.0, **options) -> GXNPaint:
    """In training mode, in float64; weights are large, so that all that is read matters."""
    torch.manual_seed(seed)
    small = {"size": 8, "condition_dim": 5, "noise_dim": 3, "painter_width": 8, "judge_width": 4}
    model = GXNPaint(DIM, **small | options).double()
    with torch.no_grad():
        for net in (model.painter, model.judge):
            for p in net.parameters():
                p.mul_(loud if p.ndim > 1 else 1)
    return model


def judged(model: GXNPaint, seed: int = 5, images=IMAGES, t=T, wrong=WRONG) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return model.judge_losses(images, t.double(), wrong.double())


def painted(model: GXNPaint, seed: int = 5, t=T) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return model.painter_losses(t.double())


def values(found: dict) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in found.items()}


def touched(model: torch.nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def part(model: torch.nn.Module, *parts: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(parts)}


# ---- the augmentation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_kl_is_that_of_normal_distributions_and_of_drawing(seed):
    mu, log_variance = random(4, 3, seed=seed, dtype=torch.float64), random(4, 3, seed=seed + 9, dtype=torch.float64)
    found = normal_kl(mu, log_variance).item()
    sigma = (log_variance / 2).exp()
    one, other = Normal(mu, sigma), Normal(torch.zeros_like(mu), torch.ones_like(mu))
    assert found == pytest.approx(kl_divergence(one, other).mean().item(), abs=1e-12)
    terms = [
        (m * m + math.exp(v) - 1 - v) / 2
        for m, v in zip(mu.flatten().tolist(), log_variance.flatten().tolist(), strict=True)
    ]
    assert found == pytest.approx(sum(terms) / 12, abs=1e-12)
    torch.manual_seed(seed)
    x = one.sample((20_000,))
    ratios = (one.log_prob(x) - other.log_prob(x)).mean(dim=(1, 2))
    error = ratios.std().item() / math.sqrt(len(ratios))
    assert ratios.mean().item() == pytest.approx(found, abs=4 * error)
    assert error < 0.02 * found


def test_the_kl_is_a_mean_over_sentences_and_coordinates():
    """A textbook's, summed over coordinates, is ``dim`` times it; 0 for N(0, 1) alone."""
    mu, log_variance = random(4, 3, dtype=torch.float64), random(4, 3, seed=1, dtype=torch.float64)
    textbook = torch.stack([normal_kl(m, v) * 3 for m, v in zip(mu, log_variance, strict=True)])
    assert normal_kl(mu, log_variance).item() == pytest.approx(textbook.mean().item() / 3, abs=1e-12)
    assert normal_kl(torch.zeros(4, 3), torch.zeros(4, 3)) == 0
    for m, v in ((0.1, 0.0), (0.0, 0.1), (0.0, -0.1)):
        assert normal_kl(torch.full((2, 2), m), torch.full((2, 2), v)) > 0
    mu, log_variance = mu.requires_grad_(), log_variance.requires_grad_()
    normal_kl(mu, log_variance).backward()
    torch.testing.assert_close(mu.grad, mu.detach() / 12)
    torch.testing.assert_close(log_variance.grad, (log_variance.detach().exp() - 1) / 24)


def test_what_is_drawn_has_its_mean_and_its_variance():
    mu = torch.tensor([[-1.0, 0.0, 3.0]], dtype=torch.float64)
    log_variance = torch.tensor([[-2.0, 0.0, 1.5]], dtype=torch.float64)
    n = 40_000
    rng = torch.Generator().manual_seed(0)
    drawn = ConditionAugmentation.draw(mu.expand(n, 3), log_variance.expand(n, 3), rng)
    sigma = (log_variance / 2).exp()[0]
    assert ((drawn.mean(dim=0) - mu[0]).abs() < 4 * sigma / math.sqrt(n)).all()
    assert ((drawn.std(dim=0) - sigma).abs() < 4 * sigma / math.sqrt(2 * n)).all()
    apart = torch.corrcoef(drawn.T) - torch.eye(3)
    assert apart.abs().max() < 4 / math.sqrt(n)


def test_what_is_drawn_has_a_gradient_to_both():
    mu = random(4, 3, dtype=torch.float64).requires_grad_()
    log_variance = random(4, 3, seed=1, dtype=torch.float64).requires_grad_()
    weight = random(4, 3, seed=2, dtype=torch.float64)
    drawn = ConditionAugmentation.draw(mu, log_variance, torch.Generator().manual_seed(3))
    eps = torch.randn((4, 3), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(drawn, mu + eps * torch.sqrt(log_variance.exp()))
    (weight * drawn).sum().backward()
    torch.testing.assert_close(mu.grad, weight)
    torch.testing.assert_close(log_variance.grad, weight * eps * (log_variance.detach() / 2).exp() / 2)


def test_a_layer_gives_both_and_all_sigma_begin_near_one():
    torch.manual_seed(0)
    for sigma in (1.0, 0.2):
        augmentation = ConditionAugmentation(DIM, 5, sigma)
        mu, log_variance = augmentation(T)
        weight, bias = augmentation.linear.weight, augmentation.linear.bias
        torch.testing.assert_close(mu, T @ weight[:5].T + bias[:5])
        torch.testing.assert_close(log_variance, T @ weight[5:].T + bias[5:])
        assert ((log_variance / 2).exp() / sigma - 1).abs().max() < 0.15


def test_under_autocast_mu_and_sigma_are_float32():
    augmentation = ConditionAugmentation(DIM, 5)
    with torch.autocast("cpu", torch.bfloat16):
        mu, log_variance = augmentation(T)
    assert mu.dtype == log_variance.dtype == torch.float32
    assert augmentation.double()(T.double())[0].dtype == torch.float64


# ---- whitening -------------------------------------------------------------------------------------------------------


def lopsided(n: int, seed: int = 0) -> torch.Tensor:
    """Vectors near one another, much spread in one direction and little in others."""
    scales = torch.tensor([1.0, 0.3, 0.1, 0.1, 0.05, 0.03], dtype=torch.float64)
    mix = torch.linalg.qr(random(DIM, DIM, seed=seed + 1, dtype=torch.float64)).Q
    return random(n, DIM, seed=seed, dtype=torch.float64) * scales @ mix + 5 * random(1, DIM, seed=seed + 2).double()


@pytest.mark.parametrize("dim", [4, 6])
@pytest.mark.parametrize("seed", [0, 1])
def test_whitened_mu_have_mean_0_variance_1_and_no_correlation(dim, seed):
    augmentation, t = ConditionAugmentation(DIM, dim).double(), lopsided(50, seed)
    before = augmentation(t)[1]
    augmentation.whiten(t, ridge=0.0)
    mu, after = augmentation(t)
    torch.testing.assert_close(mu.mean(dim=0), torch.zeros(dim).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(mu.T @ mu / 50, torch.eye(dim).double(), rtol=0, atol=1e-9)
    assert torch.equal(before, after)  # sigma stays as it is
    assert augmentation.linear.weight.requires_grad


def test_the_ridge_keeps_small_directions_small():
    """A direction with the share r of the largest variance gets the variance r / (r + ridge)."""
    augmentation, t = ConditionAugmentation(DIM, DIM).double(), lopsided(200)
    x = t - t.mean(dim=0)
    share = torch.linalg.svdvals(x).square()
    share = share / share[0]
    augmentation.whiten(t, ridge=0.01)
    mu, _ = augmentation(t)
    torch.testing.assert_close(mu.T @ mu / 200, torch.diag(share / (share + 0.01)), rtol=0, atol=1e-9)
    assert mu.var(dim=0)[-1] < 0.5 < 0.95 < mu.var(dim=0)[0]
    augmentation.whiten(t)
    assert augmentation(t)[0].var(dim=0, correction=0).min() > 0.98


def test_where_there_are_fewer_directions_the_last_mu_are_0():
    augmentation, few = ConditionAugmentation(DIM, 5).double(), lopsided(4)
    augmentation.whiten(few)
    mu, _ = augmentation(few)
    torch.testing.assert_close(mu.T @ mu / 4, torch.diag(torch.tensor([1, 1, 1, 0, 0.0]).double()), rtol=0, atol=0.01)
    wide = ConditionAugmentation(DIM, 9).double()
    wide.whiten(lopsided(50))
    assert not wide.linear.weight[6:9].any()
    assert not wide.linear.bias[6:9].any()
    assert wide.linear.weight[9:].any()


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (torch.ones(5, DIM), "all vectors of sentences are the same"),
        (random(1, DIM).expand(4, DIM), "all vectors of sentences are the same"),
        (torch.zeros(5, DIM), "all vectors of sentences are the same"),
        (random(1, DIM), r"two or more finite vectors \(n, 6\); got shape \(1, 6\)"),
        (random(DIM), r"got shape \(6,\)"),
        (random(5, DIM + 1), r"got shape \(5, 7\)"),
        (random(5, DIM).index_fill(0, torch.tensor([2]), math.nan), r"got shape \(5, 6\), 6 numbers not finite"),
    ],
)
def test_vectors_that_cannot_be_whitened_are_refused(t, message):
    augmentation = ConditionAugmentation(DIM, 4)
    before = augmentation.linear.weight.clone()
    with pytest.raises(ValueError, match=message):
        augmentation.whiten(t)
    assert torch.equal(augmentation.linear.weight, before)


# ---- the judge's step ------------------------------------------------------------------------------------------------


def pairs_of(model: GXNPaint, seed: int = 5, t=T) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """By hand, what `judged` sees: real pictures, painted ones, conditions."""
    torch.manual_seed(seed)
    mu, log_variance = model.augmentation(t.double())
    condition = mu
    if model.config["augment"]:
        condition = mu + (log_variance / 2).exp() * torch.randn(mu.shape, dtype=mu.dtype)
    fake = model.painter(torch.randn((len(t), model.config["noise_dim"]), dtype=mu.dtype), condition)
    return IMAGES.double() / 127.5 - 1, fake, mu


def test_the_judge_is_shown_real_painted_and_wrong_pairs():
    for options in ({}, {"norm": "none"}, {"augment": False}, {"fake_weight": 0.2, "wrong_weight": 0.9}):
        model = paint(**options)
        found = values(judged(model))
        real, fake, mu = pairs_of(model)
        wrong = model.augmentation(WRONG.double())[0]
        logits = [model.judge(*pair) for pair in ((real, mu), (fake, mu), (real, wrong))]
        weights = options.get("fake_weight", 0.5), options.get("wrong_weight", 0.5)
        assert found["loss"] == pytest.approx(judge_loss(*logits, *weights).item(), abs=1e-12)
        for name, x in zip(("real", "fake", "wrong"), logits, strict=True):
            assert found[name] == pytest.approx(x.sigmoid().mean().item(), abs=1e-12)
        right = [(x > 0) == (i == 0) for i, x in enumerate(logits)]
        assert found["accuracy"] == pytest.approx(torch.cat(right).double().mean().item(), abs=1e-6)
        assert found.keys() == {"loss", "real", "fake", "wrong", "accuracy"}
        assert len({round(found[name], 6) for name in ("real", "fake", "wrong")}) == 3


@pytest.mark.parametrize(
    "options", [{}, {"penalty": 1.0, "norm": "none"}, {"spread": True, "instance_noise": 0.1}], ids=str
)
def test_the_judge_s_step_reaches_the_judge_alone(options):
    model, t, wrong = paint(**options), T.double().requires_grad_(), WRONG.double().requires_grad_()
    model.judge_losses(IMAGES, t, wrong)["loss"].backward()
    assert t.grad is wrong.grad is None
    assert all(p.grad is None for p in model.players()["painter"])
    assert touched(model) == part(model, "judge.")


def test_the_players_are_all_and_none_is_both():
    model = paint()
    players = model.players()
    assert {*players} == {"judge", "painter"}
    ids = [id(p) for weights in players.values() for p in weights]
    assert len({*ids}) == len(ids) == len(list(model.parameters()))
    assert {id(p) for p in players["judge"]} == {id(p) for p in model.judge.parameters()}


# ---- the painter's step ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("saturating", [False, True])
@pytest.mark.parametrize("kl_weight", [0.0, 2.0])
def test_the_painter_s_loss_is_the_game_and_the_kl(saturating, kl_weight):
    model = paint(saturating=saturating, kl_weight=kl_weight)
    found = values(painted(model))
    _, fake, mu = pairs_of(model)
    game = painter_loss(model.judge(fake, mu), saturating).item()
    kl = normal_kl(*model.augmentation(T.double())).item()
    assert found == pytest.approx({"loss": game + kl_weight * kl, "game": game, "kl": kl}, abs=1e-12)
    assert kl > 0.01
    assert (game < 0) == saturating


def test_the_sentence_is_reached_by_mu_and_sigma_alone_and_not_by_what_the_judge_reads():
    """Against a reference whose judge reads a copy of mu; one that reads mu itself gives another gradient."""
    model = paint(kl_weight=0.3)
    weights = [*model.augmentation.parameters(), *model.painter.parameters()]

    def reference(detach: bool) -> list[torch.Tensor]:
        t = T.double().requires_grad_()
        _, fake, mu = pairs_of(model, t=t)
        read = torch.tensor(mu.tolist(), dtype=torch.float64) if detach else mu
        loss = F.softplus(-model.judge(fake, read)).mean() + 0.3 * normal_kl(*model.augmentation(t))
        return list(torch.autograd.grad(loss, [t, *weights]))

    t = T.double().requires_grad_()
    torch.manual_seed(5)
    found = torch.autograd.grad(model.painter_losses(t)["loss"], [t, *weights])
    cut, through = reference(True), reference(False)
    for ours, expected in zip(found, cut, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    assert (found[0] - through[0]).abs().max() > 0.01 * found[0].abs().max()
    assert (found[1] - through[1]).abs().max() > 0.01 * found[1].abs().max()


def test_the_painter_s_step_reaches_painter_augmentation_and_sentence():
    model, t = paint(), T.double().requires_grad_()
    torch.manual_seed(5)
    model.painter_losses(t)["loss"].backward()
    assert t.grad.any()
    assert part(model, "painter.", "augmentation.") <= touched(model)


def test_without_augmentation_there_is_no_kl_and_sigma_learns_nothing():
    model = paint(augment=False)
    found = painted(model)
    assert found.keys() == {"loss", "game"}
    found["loss"].backward()
    assert model.augmentation.linear.weight.grad[:5].any()
    assert not model.augmentation.linear.weight.grad[5:].any()
    assert not model.augmentation.linear.bias.grad[5:].any()
    with torch.no_grad():
        model.augmentation.linear.bias[5:] += 3
    assert values(painted(model)) == values(found)
    with torch.no_grad():
        model.augmentation.linear.bias[:5] += 3
    assert values(painted(model)) != values(found)


# ---- flags -----------------------------------------------------------------------------------------------------------


def test_off_the_flags_change_nothing_and_draw_nothing():
    plain = paint()
    expected = values(judged(plain)), values(painted(plain)), torch.rand(1).item()
    off = {"smoothing": 0.0, "instance_noise": 0.0, "penalty": 0.0, "spread": False, "limit": 1.0}
    model = paint(**off)
    assert (values(judged(model)), values(painted(model)), torch.rand(1).item()) == expected


def test_smoothing_is_of_the_judge_s_real_pairs_alone():
    plain, smooth = paint(), paint(smoothing=0.2)
    one, two = values(judged(plain)), values(judged(smooth))
    real, _, mu = pairs_of(plain)
    logits = plain.judge(real, mu)
    assert two["loss"] - one["loss"] == pytest.approx(0.2 * logits.mean().item(), abs=1e-12)
    assert abs(two["loss"] - one["loss"]) > 1e-4
    assert {name: x for name, x in one.items() if name != "loss"} == {n: x for n, x in two.items() if n != "loss"}
    assert values(painted(plain)) == values(painted(smooth))


def test_instance_noise_is_on_every_picture_that_the_judge_sees(monkeypatch):
    model, seen = paint(instance_noise=0.3, norm="none"), []
    handed_out = [m.paint(T, torch.Generator().manual_seed(0)) for m in (model, paint(norm="none"))]
    assert torch.equal(*handed_out)
    looked = model.judge.look
    monkeypatch.setattr(model.judge, "look", lambda x: seen.append(x.detach()) or looked(x))
    judged(model)
    painted(model)
    real, fake, _ = pairs_of(model)
    assert len(seen) == 3
    for noisy, clean in zip(seen, (real, fake, fake), strict=True):
        noise = noisy - clean.detach()
        assert noise.std().item() == pytest.approx(0.3, rel=0.1)
        assert abs(noise.mean().item()) < 0.03
    assert not torch.equal(seen[0] - real, seen[1] - fake)


def test_the_penalty_is_the_squared_slope_at_real_pictures():
    plain, model = paint(norm="none"), paint(norm="none", penalty=0.7)
    found = values(judged(model))
    slopes = []
    for picture, t in zip(IMAGES.double() / 127.5 - 1, T.double(), strict=True):
        x = picture[None].requires_grad_()
        (grad,) = torch.autograd.grad(model.judge(x, model.augmentation(t[None])[0]).sum(), x)
        slopes.append(sum(g * g for g in grad.flatten().tolist()))
    assert found["slope"] == pytest.approx(sum(slopes) / B, rel=1e-9)
    assert found["slope"] > 1e-3
    before = values(judged(plain))
    assert found["loss"] == pytest.approx(before["loss"] + 0.7 * found["slope"], abs=1e-12)
    assert values(painted(plain)) == values(painted(model))
    judged(model)["loss"].backward()
    judged(plain)["loss"].backward()
    # Of the last convolution's weights the slope's gradient is known by finite differences.
    p, at = model.judge.head[-1].weight, (0, 0, 1, 1)
    difference = p.grad[at].item() - plain.judge.head[-1].weight.grad[at].item()
    slope = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            p[at] += step
        slope.append(values(judged(model))["slope"])
        with torch.no_grad():
            p[at] -= step
    assert difference == pytest.approx(0.7 * (slope[0] - slope[1]) / 2e-5, rel=1e-4)
    assert abs(difference) > 1e-6


def test_the_spread_is_the_judge_s_alone():
    model = paint(spread=True)
    assert model.judge.spread
    assert (
        sum(p.numel() for p in model.judge.parameters()) == sum(p.numel() for p in paint().judge.parameters()) + 9 * 4
    )
    assert {name: p.shape for name, p in model.painter.named_parameters()} == {
        name: p.shape for name, p in paint().painter.named_parameters()
    }


def test_beyond_its_limit_the_judge_has_no_gradient():
    told = values(judged(paint()))
    assert 0 < told["accuracy"] < 1
    for limit, held in ((told["accuracy"] + 1e-3, False), (told["accuracy"] - 1e-3, True)):
        model = paint(limit=limit)
        found = judged(model)
        found["loss"].backward()
        assert (touched(model) == set()) == held
        assert {name: x for name, x in values(found).items() if name != "loss"} == {
            name: x for name, x in told.items() if name != "loss"
        }
        assert found["loss"].item() == (0 if held else told["loss"])
        assert values(painted(model)) == values(painted(paint()))


# ---- pictures in and out ---------------------------------------------------------------------------------------------


def test_real_pictures_are_brought_to_the_size_and_to_minus_1_and_1():
    model = paint().float()
    x = model.prepared(IMAGES)
    assert x.dtype == torch.float32
    torch.testing.assert_close(
        x, torch.tensor([[b / 127.5 - 1 for b in row] for row in IMAGES.flatten(1).tolist()]).view_as(x)
    )
    black_and_white = torch.stack([torch.zeros(3, 8, 8), torch.full((3, 8, 8), 255)]).byte()
    assert model.prepared(black_and_white).flatten(1).aminmax(dim=1).min.tolist() == [-1, 1]
    big = pictures(3, (32, 24))
    wide = paint(size=(8, 6)).float().prepared(big)
    assert wide.shape == (3, 3, 8, 6)
    assert wide.abs().max() <= 1
    torch.testing.assert_close(wide.mean(dim=(2, 3)), (big.float() / 127.5 - 1).mean(dim=(2, 3)), rtol=0, atol=0.05)
    assert torch.equal(model.prepared(big[:1, :, :8, :8]), model.prepared(big[:, :, :8, :8])[:1])


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128, (64, 48), [16, 12]], ids=str)
def test_pictures_are_bytes_of_their_size(size):
    model = paint(size=size, painter_width=8, judge_width=1, loud=16.0).float()
    found = model.paint(T[:2])
    height, width = (size, size) if isinstance(size, int) else size
    assert (found.dtype, found.shape, found.device.type) == (torch.uint8, (2, 3, height, width), "cpu")
    assert found.float().std() > 1
    assert model.judge_losses(pictures(2, (height, width)), T[:2], WRONG[:2])["loss"].isfinite()
    assert model.size == (height, width)


def test_what_is_painted_is_what_the_painter_gives():
    model = paint(loud=12.0).float().eval()
    found = model.paint(T, torch.Generator().manual_seed(3))
    rng = torch.Generator().manual_seed(3)
    mu, log_variance = model.augmentation(T)
    condition = mu + (log_variance / 2).exp() * torch.randn(B, 5, generator=rng)
    shown = model.painter(torch.randn(B, 3, generator=rng), condition).detach()
    expected = [math.floor((x + 1) * 127.5 + 0.5) for x in shown.flatten().double().tolist()]
    assert (found.flatten().int() - torch.tensor(expected)).abs().max() <= 1
    assert (found.flatten().int() == torch.tensor(expected)).float().mean() > 0.99
    assert shown.amin() < -0.2 < 0.2 < shown.amax()


def test_a_generator_at_the_same_state_paints_the_same_and_then_others():
    model = paint().float()
    one, two = (torch.Generator().manual_seed(3) for _ in range(2))
    first = model.paint(T, one)
    assert torch.equal(first, model.paint(T, two))
    second = model.paint(T, one)
    assert not torch.equal(first, second)
    assert torch.equal(second, model.paint(T, two))
    assert not torch.equal(first, model.paint(T, torch.Generator().manual_seed(4)))
    torch.manual_seed(0)
    free = [model.paint(T), model.paint(T)]
    assert not torch.equal(*free)
    torch.manual_seed(0)
    assert torch.equal(model.paint(T), free[0])
    same = model.paint(T[:1].expand(4, DIM), torch.Generator().manual_seed(0))
    assert len({tuple(picture.flatten().tolist()) for picture in same}) == 4


def test_a_picture_does_not_hang_on_its_neighbours():
    """With the same noise, in training mode too: the batch's statistics have no say."""
    model = paint().float().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    here = model.paint(T, torch.Generator().manual_seed(0))
    others = torch.cat([T[:3], 50 * WRONG[3:]])
    there = model.paint(others, torch.Generator().manual_seed(0))
    assert torch.equal(here[:3], there[:3])
    assert not torch.equal(here[3:], there[3:])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    alone = model.paint(T[:1], torch.Generator().manual_seed(1))
    assert alone.shape == (1, 3, 8, 8)


def test_many_are_painted_in_parts():
    model = paint().float()
    many = T.repeat(80, 1)
    found = model.paint(many, torch.Generator().manual_seed(0))
    assert found.shape == (560, 3, 8, 8)
    rng = torch.Generator().manual_seed(0)
    assert torch.equal(found, torch.cat([model.paint(rows, rng) for rows in many.split(256)]))
    assert len({tuple(picture.flatten().tolist()) for picture in found}) > 550


def test_painting_puts_the_mode_back_and_leaves_no_gradient(monkeypatch):
    model = paint().float()
    for mode in (True, False):
        model.train(mode)
        assert not model.paint(T).requires_grad
        assert {module.training for module in model.modules()} == {mode}
    model.train()
    monkeypatch.setattr(model, "_painted", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.paint(T)
    assert all(module.training for module in model.modules())


def test_a_model_in_float64_paints_float32_vectors_too():
    model = paint()
    assert torch.equal(
        model.paint(T, torch.Generator().manual_seed(0)), model.paint(T.double(), torch.Generator().manual_seed(0))
    )


def test_it_runs_under_autocast():
    model = paint().float()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.judge_losses(IMAGES, T, WRONG), model.painter_losses(T)
    for losses in found:
        assert {x.dtype for x in losses.values()} == {torch.float32}
        losses["loss"].backward()
        assert losses["loss"].isfinite()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.paint(T).shape == (B, 3, 8, 8)


# ---- it learns -------------------------------------------------------------------------------------------------------


def play(steps: int, judge_steps: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sentences, a dark and a light picture: mean brightness of what is painted from each, in [-1, 1]."""
    torch.manual_seed(0)
    t = torch.eye(2).repeat(8, 1)
    shade = torch.tensor([40, 215]).repeat(8)[:, None, None, None]
    images = (shade + torch.randint(-20, 20, (16, 3, 8, 8))).byte()
    model = GXNPaint(2, 8, condition_dim=4, noise_dim=4, painter_width=16, judge_width=8, sigma=0.2, kl_weight=0.02)
    model.augmentation.whiten(t)
    players = {
        name: torch.optim.Adam(weights, lr, (0.5, 0.999))
        for (name, weights), lr in zip(model.players().items(), (1e-3, 4e-3), strict=True)
    }
    for _ in range(steps):
        for name in players if judge_steps else ["painter"]:
            model.zero_grad()
            found = model.judge_losses(images, t, t.roll(1, 0)) if name == "judge" else model.painter_losses(t)
            found["loss"].backward()
            players[name].step()
    painted = model.paint(torch.eye(2).repeat(16, 1), torch.Generator().manual_seed(0)).float() / 127.5 - 1
    return painted[::2].mean(), painted[1::2].mean()


def test_two_players_teach_the_painter_to_heed_the_sentence():
    """Dark is -0.69 and light 0.69; against a judge that never learns nothing of the kind comes about."""
    dark, light = play(150)
    assert dark < -0.35
    assert light > 0.35
    dark, light = play(150, judge_steps=False)
    assert abs(light - dark) < 0.35


# ---- settings --------------------------------------------------------------------------------------------------------


def test_the_defaults_are_stackgan_s():
    with torch.device("meta"):
        model = GXNPaint(1024)
    count = {
        name: sum(p.numel() for p in getattr(model, name).parameters()) for name in ("painter", "judge", "augmentation")
    }
    assert count == {"painter": 10_038_851, "judge": 5_715_777, "augmentation": 1024 * 256 + 256}
    assert model.config == {
        "text_dim": 1024, "size": 64, "condition_dim": 128, "noise_dim": 100, "painter_width": 1024,
        "judge_width": 64, "kl_weight": 2.0, "fake_weight": 0.5, "wrong_weight": 0.5, "sigma": 1.0, "augment": True,
        "saturating": False, "norm": "batch", "smoothing": 0.0, "instance_noise": 0.0, "penalty": 0.0,
        "spread": False, "limit": 1.0,
    }  # fmt: skip


def test_the_config_builds_the_same():
    model = paint(size=[16, 12], spread=True, norm="none")
    again = GXNPaint(**model.config)
    assert again.config == model.config
    assert model.config["size"] == (16, 12)
    assert [p.shape for p in again.parameters()] == [p.shape for p in model.parameters()]


BAD = {
    "size": [(12, "size 12 cannot be painted"), ("64", "size '64' cannot be painted"), ((64, 40), r"\(64, 40\)")],
    "condition_dim": [(0, "condition_dim must be a whole number, at least 1; got 0")],
    "noise_dim": [(-1, "noise_dim must be"), (2.0, "noise_dim must be a whole number.*got 2.0")],
    "painter_width": [(0, "painter_width must be")],
    "judge_width": [(0, "judge_width must be")],
    "kl_weight": [(-0.1, "kl_weight must be a number >= 0; got -0.1"), (math.nan, "got nan"), (math.inf, "got inf")],
    "fake_weight": [(-1, "fake_weight must be")],
    "wrong_weight": [(-1, "wrong_weight must be")],
    "instance_noise": [(-0.1, "instance_noise must be")],
    "penalty": [(-0.1, "penalty must be")],
    "sigma": [(0, "sigma must be a number above 0; got 0"), (-1.0, "sigma"), (math.nan, "sigma"), (math.inf, "sigma")],
    "smoothing": [
        (0.5, r"smoothing must lie in \[0, 0.5\) and limit in \(0, 1\]; got 0.5 and 1.0"),
        (-0.1, "smoothing"),
    ],
    "limit": [(0.0, "limit in .* got 0.0 and 0.0"), (1.1, "limit"), (math.nan, "limit")],
    "norm": [("layer", "norm must be 'batch' or 'none', got 'layer'")],
}


@pytest.mark.parametrize(("name", "value", "message"), [(name, *case) for name, cases in BAD.items() for case in cases])
def test_settings_out_of_range_are_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        paint(**{name: value})


NAN = T.index_fill(0, torch.tensor([2, 4]), math.nan)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.paint(T[:, :5]), r"must be \(B, 6\) floats; got torch.float32 \(7, 5\)"),
        (lambda m: m.paint(T[0]), r"got torch.float32 \(6,\)"),
        (lambda m: m.paint(T[:0]), r"got torch.float32 \(0, 6\)"),
        (lambda m: m.paint(T.long()), "got torch.int64"),
        (lambda m: m.paint(T.tolist()), "got list"),
        (lambda m: m.paint(NAN), r"must be finite to be painted; rows \[2, 4\] are not"),
        (lambda m: m.paint(T / 0), r"must be finite to be painted"),
        (lambda m: m.painter_losses(T[:, :5]), r"must be \(B, 6\) floats"),
        (lambda m: m.painter_losses(T[:0]), "floats; got"),
        (lambda m: m.painter_losses(T[:1]), "two sentences or more, got one"),
        (lambda m: m.judge_losses(IMAGES[:1], T[:1], T[:1]), "two sentences or more, got one"),
        (lambda m: m.judge_losses(IMAGES, T[:3], WRONG), r"must be \(7, 6\) floats; got torch.float32 \(3, 6\)"),
        (lambda m: m.judge_losses(IMAGES, T, WRONG[:3]), r"must be \(7, 6\) floats; got torch.float32 \(3, 6\)"),
        (lambda m: m.judge_losses(IMAGES, T, WRONG[:, :2]), r"\(7, 2\)"),
        (
            lambda m: m.judge_losses(IMAGES / 255, T, WRONG),
            r"pictures must be uint8 \(B, 3, .*; got torch.float32 \(7, 3",
        ),
        (lambda m: m.judge_losses(IMAGES[:, :1], T, WRONG), r"got torch.uint8 \(7, 1, 8, 8\)"),
        (lambda m: m.judge_losses(IMAGES[0], T, WRONG), r"got torch.uint8 \(3, 8, 8\)"),
        (lambda m: m.judge_losses(IMAGES[:0], T[:0], T[:0]), r"B at least 1; got torch.uint8 \(0, 3, 8, 8\)"),
        (lambda m: m.prepared(IMAGES.numpy()), "got ndarray"),
    ],
)
def test_bad_input_is_refused(call, message):
    model = paint().float()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        call(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_vectors_that_are_not_finite_make_losses_that_say_so():
    """In training nothing is checked number by number: the loop stops at a loss that is not finite."""
    model = paint().float()
    assert model.painter_losses(NAN)["loss"].isnan()
    assert model.judge_losses(IMAGES, NAN, WRONG)["loss"].isnan()
