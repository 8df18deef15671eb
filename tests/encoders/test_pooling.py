"""Parts of a map against loops; behind an encoder of pictures, there and back."""

import json
import math

import pytest
import torch

from commonspace.encoders import Cells, Sequence, SmallConvNet, build_encoder


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(features: torch.Tensor, cells: int) -> list[list[float]]:
    """Part i of n places cut into ``cells``: from floor(i n / cells) to ceil((i + 1) n / cells)."""
    B, channels, h, w = features.shape
    x, rows = features.tolist(), []
    for b in range(B):
        row = []
        for c in range(channels):
            for i in range(cells):
                for j in range(cells):
                    top, bottom = math.floor(i * h / cells), math.ceil((i + 1) * h / cells)
                    left, right = math.floor(j * w / cells), math.ceil((j + 1) * w / cells)
                    part = [x[b][c][y][z] for y in range(top, bottom) for z in range(left, right)]
                    row.append(sum(part) / len(part))
        rows.append(row)
    return rows


@pytest.mark.parametrize(("h", "w", "cells"), [(4, 4, 2), (6, 9, 3), (5, 7, 2), (7, 4, 4), (3, 3, 3), (5, 2, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_parts_are_those_of_loops(h, w, cells, seed):
    features = maps(3, 5, h, w, seed=seed)
    pool = Cells(5, cells)
    found = pool(features)
    assert found.shape == (3, pool.out_dim) == (3, 5 * cells**2)
    assert found.tolist() == [pytest.approx(row, abs=1e-12) for row in by_loops(features, cells)]


def test_one_cell_is_the_mean_and_more_say_where():
    features = maps(2, 3, 4, 4)
    torch.testing.assert_close(Cells(3, 1)(features), features.mean(dim=(2, 3)))
    turned = features.flip(3)
    torch.testing.assert_close(Cells(3, 1)(turned), Cells(3, 1)(features))
    assert (Cells(3, 2)(turned) - Cells(3, 2)(features)).abs().max() > 0.1


def test_gradients_reach_the_map():
    features = maps(2, 3, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(Cells(3, 2), features)


@pytest.mark.parametrize("cells", [1, 2, 3])
def test_behind_an_encoder_there_and_back(cells):
    torch.manual_seed(0)
    images = torch.randint(256, (4, 3, 24, 32), dtype=torch.uint8)
    net = SmallConvNet(width=4, feature_map=True)
    encoder = Sequence(net, Cells(net.out_dim, cells))
    encoder(images)  # BatchNorm's statistics are no longer the initial ones
    encoder.eval()
    found = encoder(images)
    assert found.shape == (4, encoder.out_dim) == (4, 16 * cells**2)
    assert found.tolist() == [pytest.approx(row, abs=1e-6) for row in by_loops(net(images), cells)]
    again = build_encoder(json.loads(json.dumps(encoder.config)))
    assert again.config == encoder.config
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.eval()(images), found)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cells(0, 2), "at least 1; got 0 and 2"),
        (lambda: Cells(4, 0), "at least 1; got 4 and 0"),
        (lambda: Cells(4, 2)(maps(3, 4)), r"\(B, 4, h, w\), h and w at least 2; got \(3, 4\): .*feature_map=True"),
        (lambda: Cells(4, 2)(maps(3, 5, 4, 4)), r"got \(3, 5, 4, 4\)"),
        (lambda: Cells(4, 3)(maps(3, 4, 8, 2)), r"at least 3; got \(3, 4, 8, 2\): .*larger pictures or fewer cells"),
    ],
)
def test_what_is_no_such_map_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
