"""The flat pictures, pixel by pixel against exact fractions, and read back."""

from fractions import Fraction

import pytest
import torch

from commonspace.data.scene_chance import below, draw_scenes
from commonspace.data.scene_grammar import CODES, COLOURS, SHAPES, SIZES, attributes
from commonspace.data.scene_pixels import RGB, draw_flat

ALL = torch.arange(1, CODES + 1)
WHITE = (255, 255, 255)
PAPER = {
    "gray": (87, 87, 87), "red": (244, 35, 35), "blue": (42, 75, 215), "green": (29, 205, 20),
    "brown": (129, 74, 25), "purple": (129, 38, 192), "cyan": (41, 208, 208), "yellow": (255, 238, 51),
}  # fmt: skip


def pixel(scene, shift, size: int, row: int, column: int) -> tuple[int, int, int]:
    """The colour at the centre of a pixel, on a canvas of 64 x 64: composition of the paper, one object at a time."""
    y, x = (Fraction(2 * i + 1, 2) * 64 / size for i in (row, column))
    for place, (big, colour, shape) in enumerate(attributes(scene).tolist()):
        if big < 0:
            continue
        half = {"small": 4, "big": 8}[SIZES[big]]
        down = y - (Fraction(2 * (place // 3) + 1, 6) * 64 + Fraction(int(shift[place, 0]) * 64, 1536))
        right = x - (Fraction(2 * (place % 3) + 1, 6) * 64 + Fraction(int(shift[place, 1]) * 64, 1536))
        inside = {
            "cube": abs(down) <= half and abs(right) <= half,
            "sphere": abs(down) + abs(right) <= half,
            "cylinder": abs(down) <= half and 2 * abs(right) <= half + down,
        }
        if inside[SHAPES[shape]]:
            return PAPER[COLOURS[colour]]
    return WHITE


@pytest.mark.parametrize("size", [32, 48, 64, 75])
@pytest.mark.parametrize("most", [0, 64])
def test_every_pixel_is_that_of_exact_fractions(seed, size, most):
    scenes = draw_scenes(torch.arange(1), seed, size, (6, 9), ALL)
    shift = below(2 * most + 1, seed, torch.arange(18)).view(1, 9, 2) - most
    pictures = draw_flat(scenes, size, shift)
    assert pictures.shape == (1, 3, size, size)
    assert pictures.dtype == torch.uint8
    for picture, scene, moved in zip(pictures, scenes, shift, strict=True):
        for row in range(size):
            for column in range(size):
                assert tuple(picture[:, row, column].tolist()) == pixel(scene, moved, size, row, column)
    if not most:
        assert torch.equal(draw_flat(scenes, size), pictures)


def test_the_scene_can_be_read_from_its_picture(seed):
    size = 64
    scenes = draw_scenes(torch.arange(200), seed, 0, (1, 9), ALL)
    pictures = draw_flat(scenes, size).long()
    colour = (pictures[:, 0] * 256 + pictures[:, 1]) * 256 + pictures[:, 2]
    known = torch.tensor([(r * 256 + g) * 256 + b for r, g, b in (*PAPER.values(), WHITE)])
    third = [0, 21, 43, 64]
    for place in range(9):
        row, column = divmod(place, 3)
        cell = colour[:, third[row] : third[row + 1], third[column] : third[column + 1]]
        area = (cell != known[-1]).sum(dim=(1, 2))
        kinds = attributes(scenes[:, place])
        assert torch.equal(area > 0, scenes[:, place] > 0)
        # (2h)^2 for a square, half of that for a diamond and a triangle, but for the pixels on their edges.
        square = kinds[:, 2] == 0
        big = torch.where(square, area > 128, area > 64)
        assert torch.equal(big[area > 0], kinds[area > 0, 0] == 1)
        assert set(area[square].tolist()) <= {64, 256}
        middle = colour[:, (third[row] + third[row + 1]) // 2, (third[column] + third[column + 1]) // 2]
        named = (middle[:, None] == known).long().argmax(dim=1)
        assert torch.equal(named[area > 0], kinds[area > 0, 1].long())


def test_colours_are_the_papers():
    assert dict(zip(COLOURS, RGB, strict=True)) == PAPER


def test_a_picture_does_not_depend_on_its_batch(seed):
    scenes = draw_scenes(torch.arange(30), seed, 0, (0, 9), ALL)
    together = draw_flat(scenes, 64)
    for batch in (1, 7):
        assert torch.equal(torch.cat([draw_flat(some, 64) for some in scenes.split(batch)]), together)
    assert draw_flat(scenes[:0], 64).shape == (0, 3, 64, 64)


@pytest.mark.cuda
def test_the_gpu_draws_the_same_bytes(seed):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    scenes = draw_scenes(torch.arange(30), seed, 0, (0, 9), ALL)
    assert torch.equal(draw_flat(scenes.cuda(), 100).cpu(), draw_flat(scenes, 100))
