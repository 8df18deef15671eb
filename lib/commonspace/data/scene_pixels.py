"""Scenes drawn flat: coloured squares, diamonds and triangles on white, as the 2-D pictures of TIRG's CSS.

On 64 pixels the centre of an object is at (row, column) = its place * 64 and its half size is 4 or 8; other sizes are
the same picture scaled. A cube is a filled square, a sphere a diamond, a cylinder a triangle with its apex up. A pixel
is the object's where its centre is in it; nothing is smoothed. All is counted in whole numbers, so that a picture does
not depend on the batch in which it is drawn, nor on the device.
"""

import torch
from torch import Tensor

from commonspace.data.scene_grammar import attributes

# Of COLOURS: gray, red, blue, green, brown, purple, cyan, yellow.
RGB = ((87, 87, 87), (244, 35, 35), (42, 75, 215), (29, 205, 20))
RGB += ((129, 74, 25), (129, 38, 192), (41, 208, 208), (255, 238, 51))
SIDE = 1536  # the picture's side, divided so that the centres of places and the half sizes are whole
HALF = (96, 192)  # half sizes of a small and of a big object: 4 and 8 of 64 pixels
MAX_SHIFT = 64  # a big object further off its place's centre would leave its third of the picture


def draw_flat(scenes: Tensor, size: int = 64, shift: Tensor | None = None) -> Tensor:
    """(n, 9) codes -> (n, 3, size, size) uint8 pictures, on the scenes' device.

    ``shift``: (n, 9, 2) whole numbers, how far an object is off its place's centre, down and to the right, in 1536ths
    of the picture's side, at most 64.
    """
    device = scenes.device
    number = {"dtype": torch.int32, "device": device}
    kinds = attributes(scenes.cpu()).to(device).long()
    if shift is None:
        shift = torch.zeros((len(scenes), 9, 2), **number)
    # Lengths are counted in 2 * SIDE * size parts of the picture: then the pixels' centres are whole as well.
    halves = torch.tensor([*HALF, 0], **number)[kinds[..., 0]] * (2 * size)
    off_white = 255 - torch.tensor([*RGB, (255, 255, 255)], dtype=torch.uint8, device=device)[kinds[..., 1]]
    pixel = (2 * torch.arange(size, **number) + 1) * SIDE
    third = [round(size * i / 3) for i in range(4)]  # the pixels of a third of the picture, where a place's object is
    pictures = torch.empty((len(scenes), 3, size, size), dtype=torch.uint8, device=device)
    for place in range(9):
        row, column = divmod(place, 3)
        rows, columns = slice(*third[row : row + 2]), slice(*third[column : column + 2])
        centre = (torch.tensor([row, column], **number) * (SIDE // 3) + SIDE // 6 + shift[:, place]) * (2 * size)
        down = pixel[rows] - centre[:, 0, None]  # (n, rows)
        aside = (pixel[columns] - centre[:, 1, None]).abs()  # (n, columns)
        half, shape = halves[:, place, None], kinds[:, place, 2, None]
        # How far to each side of its centre the object goes in a row of pixels, doubled; below 0 for not at all.
        diamond = 2 * (half - down.abs())
        reach = torch.where(shape == 1, diamond, torch.where(shape == 0, 2 * half, down + half))
        reach = torch.where((diamond < 0) | (shape < 0), -1, reach)
        inside = (2 * aside)[:, None, :] <= reach[:, :, None]  # (n, rows, columns)
        # A product, since torch.where is thirty times slower on bytes.
        pictures[:, :, rows, columns] = 255 - inside[:, None].byte() * off_white[:, place, :, None, None]
    return pictures
