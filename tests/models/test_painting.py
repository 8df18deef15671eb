"""The painter's and the judge's networks: sizes by shape and by a count of weights, and what each output hangs on."""

import pytest
import torch

from commonspace.models.painting import Judge, Painter, halvings


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SIZES = {8: (1, (4, 4)), 16: (2, (4, 4)), 32: (3, (4, 4)), 64: (4, (4, 4)), 128: (5, (4, 4)), 256: (6, (4, 4))}
OBLONG = {(64, 48): (4, (4, 3)), (48, 64): (4, (3, 4)), (8, 2): (1, (4, 1)), (16, 32): (3, (2, 4))}


@pytest.mark.parametrize("size", [*SIZES, *OBLONG])
def test_a_size_is_halved_down_to_four_cells(size):
    expected = SIZES.get(size) or OBLONG[size]
    assert halvings(size) == expected
    height, width = (size, size) if isinstance(size, int) else size
    assert halvings([height, width]) == expected
    n, (rows, columns) = expected
    assert (rows * 2**n, columns * 2**n, max(rows, columns)) == (height, width, 4)


@pytest.mark.parametrize(
    "size",
    [
        4,
        0,
        -64,
        12,
        48,
        63,
        100,
        64.0,
        "64",
        None,
        (64, 40),
        (64, 0),
        (64, -16),
        (48, 48),
        (64,),
        (64, 48, 3),
        (64.0, 48),
    ],
    ids=str,
)
def test_another_size_is_refused(size):
    with pytest.raises(ValueError, match=r"cannot be painted: take 8, 16, 32, 64, 128 or 256 pixels"):
        halvings(size)


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128, (64, 48), (16, 32)], ids=str)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_pictures_have_their_size_and_pairs_a_logit(size, norm):
    height, width = (size, size) if isinstance(size, int) else size
    painter, judge = Painter(5, 3, 8, size), Judge(5, 2, size, norm, spread=norm == "none")
    painted = painter(random(2, 3), random(2, 5))
    assert painted.shape == (2, 3, height, width)
    assert painted.abs().max() <= 1
    n, base = halvings(size)
    assert judge.look(painted).shape == (2, (2 << n - 1) + (norm == "none"), *base)
    assert judge(painted, random(2, 5)).shape == (2,)


def weights(*parts: tuple[int, ...]) -> int:
    total = 0
    for part in parts:
        product = 1
        for x in part:
            product *= x
        total += product
    return total


def test_stackgan_s_widths_have_so_many_weights():
    """Layer by layer: a linear layer and convolutions without bias before a normalisation, which has two a channel."""
    painter, judge = Painter(128, 100, 1024, 64), Judge(128, 64, 64)
    cells = 1024 * 4 * 4
    expected = weights((100 + 128, cells), (2, cells))
    for before, behind in ((1024, 512), (512, 256), (256, 128), (128, 64)):
        expected += weights((before, behind, 3, 3), (2, behind))
    expected += weights((64, 3, 3, 3), (3,))
    assert sum(p.numel() for p in painter.parameters()) == expected == 10_038_851
    expected = weights((3, 64, 4, 4), (64,))
    for before, behind in ((64, 128), (128, 256), (256, 512)):
        expected += weights((before, behind, 4, 4), (2, behind))
    expected += weights((512 + 128, 512, 3, 3), (2, 512), (512, 1, 4, 4), (1,))
    assert sum(p.numel() for p in judge.parameters()) == expected == 5_715_777


def test_channels_halve_and_double():
    painter = Painter(5, 3, 32, 64)
    convolutions = [layer for layer in painter.paint if isinstance(layer, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(32, 16), (16, 8), (8, 8), (8, 8), (8, 3)]
    judge = Judge(5, 4, 64)
    convolutions = [layer for layer in (*judge.trunk, *judge.head) if isinstance(layer, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [
        (3, 4), (4, 8), (8, 16), (16, 32), (32 + 5, 32), (32, 1),
    ]  # fmt: skip
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in judge.modules()) == 4  # none behind the first
    bare = Judge(5, 4, 64, norm="none")
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in bare.modules())
    assert all(layer.bias is not None for layer in bare.modules() if isinstance(layer, torch.nn.Conv2d))


def test_weights_begin_small():
    torch.manual_seed(0)
    for net in (Painter(128, 100, 128, 32), Judge(32, 32, 32)):
        for layer in net.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.2)
                assert abs(layer.weight.mean()) < 0.002
                assert layer.bias is None or not layer.bias.any()
            elif isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                assert abs(layer.weight.mean() - 1) < 0.02
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.5)
                assert not layer.bias.any()


def test_a_picture_hangs_on_noise_and_condition_and_not_on_its_neighbours():
    torch.manual_seed(0)
    painter = Painter(5, 3, 16, 16).eval()
    z, c = random(4, 3), random(4, 5, seed=1)
    painted = painter(z, c)
    for i in range(4):
        torch.testing.assert_close(painter(z[i : i + 1], c[i : i + 1]), painted[i : i + 1], rtol=0, atol=1e-6)
    assert (painter(z.roll(1, 0), c) - painted).abs().amax(dim=(1, 2, 3)).min() > 1e-6
    assert (painter(z, c.roll(1, 0)) - painted).abs().amax(dim=(1, 2, 3)).min() > 1e-6
    painter.train()
    assert (painter(z, c)[:2] - painter(z[:2], c[:2])).abs().max() > 1e-3  # by its batch


def test_a_logit_hangs_on_picture_and_sentence_and_a_look_may_be_kept():
    torch.manual_seed(0)
    judge = Judge(5, 4, (16, 12)).eval()
    with torch.no_grad():
        for p in judge.parameters():
            p.mul_(3)
    pictures, c = random(4, 3, 16, 12).tanh(), random(4, 5, seed=1)
    seen, logits = judge.look(pictures), judge(pictures, c)
    assert torch.equal(judge.compare(seen, c), logits)
    assert torch.equal(judge.compare(seen, c.roll(1, 0)), judge(pictures, c.roll(1, 0)))
    assert (judge(pictures, c.roll(1, 0)) - logits).abs().min() > 1e-6
    assert (judge(pictures.roll(1, 0), c) - logits).abs().min() > 1e-6
    for i in range(4):
        torch.testing.assert_close(judge(pictures[i : i + 1], c[i : i + 1]), logits[i : i + 1])


def test_the_spread_is_a_channel_more_that_says_how_much_pictures_differ():
    torch.manual_seed(0)
    judge = Judge(5, 4, 16, norm="none", spread=True)
    pictures = random(6, 3, 16, 16).tanh()
    seen, plain = judge.look(pictures), judge.trunk(pictures)
    assert torch.equal(seen[:, :-1], plain)
    values = plain.detach().double()
    means = [values[:, c, y, x].std(correction=0) for c in range(8) for y in range(4) for x in range(4)]
    spread = seen[:, -1].detach()
    torch.testing.assert_close(spread, torch.full_like(spread, float(torch.stack(means).mean())), rtol=1e-3, atol=1e-4)
    same = judge.look(pictures[:1].expand(6, -1, -1, -1))
    assert same[0, -1].max() < 0.01 * spread.max() + 1e-4
    same.sum().backward()
    assert all(p.grad.isfinite().all() for p in judge.trunk.parameters())
    assert judge(pictures, random(6, 5)).shape == (6,)
