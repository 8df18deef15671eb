"""The world of the solid scenes: how big things are, where camera and lamp stand, and which pixels a place can touch.

Places are 1 apart: x to the right, y away from the camera, z up; the table is z = 0, the middle of the grid (0, 0, 0).
"""

import functools
import itertools

import numpy as np
import torch
from torch import Tensor

from commonspace.data.scene_chance import chance
from commonspace.data.scene_grammar import scene_id

RADIUS = (0.2, 0.35)  # of a small and of a big solid; spheres and cylinders are twice as high
CUBE = 0.77  # half the side of a cube, in radii: however it turns, it keeps to its place
TURN = 0.268  # tan(15 degrees): a cube turns by up to 30 degrees
MAX_SHIFT = 64 / 512  # how far a solid may be off its place, along x and along y
EYE, TARGET, SWAY = (0.0, -3.8, 4.6), (0.0, 0.04, 0.1), 0.2  # the camera moves by up to SWAY along each axis
FIELD = 0.33  # half the picture's side at distance 1 from the camera
LAMP, LAMP_SIDE = (-4.4, -2.4, 7.0), 2.8  # a square, level lamp: its centre and its side
SHADE_REACH = 2.4  # in radii from a solid's centre: how far it keeps light of the sky from what is around it

Vector = tuple[Tensor, Tensor, Tensor]


def dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def unit(a: Vector) -> Vector:
    length = dot(a, a).sqrt()
    return a[0] / length, a[1] / length, a[2] / length


def axes(eye: Vector) -> tuple[Vector, Vector, Vector]:
    """Unit vectors forward, to the right and up of a camera at ``eye`` that looks at TARGET."""
    f = unit((TARGET[0] - eye[0], TARGET[1] - eye[1], TARGET[2] - eye[2]))
    r = unit((f[1], -f[0], torch.zeros_like(f[0])))
    return f, r, (r[1] * f[2] - r[2] * f[1], r[2] * f[0] - r[0] * f[2], r[0] * f[1] - r[1] * f[0])


def sway(scenes: Tensor, seed: int) -> tuple[Vector, Tensor, Tensor]:
    """What differs from scene to scene, functions of scene and seed: the eye, cosine and sine of the cubes' turns.

    ``scenes``: (n, 9) codes on the CPU. The eye is three (n,) tensors, the turns are (n, 9); float32.
    """
    number = scene_id(scenes).numpy()[:, None]
    bits = (chance(seed, number, 1, np.arange(12)) >> np.uint64(40)).astype(np.float32)
    random = torch.from_numpy(bits) * 2.0**-23 - 1  # from -1 to 1
    q = random[:, 3:] * TURN  # the tangent of half the angle
    eye = tuple(EYE[i] + SWAY * random[:, i] for i in range(3))
    return eye, (1 - q * q) / (1 + q * q), 2 * q / (1 + q * q)


def position(place: int, shift: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of what stands at a place, ``shift`` (n, 2) in 512ths to the near side and to the right."""
    return (place % 3 - 1) + shift[:, 1] / 512, (1 - place // 3) - shift[:, 0] / 512


def _window(points: list[tuple[float, float, float]], size: int) -> tuple[slice, slice]:
    """The rows and columns of the pixels within which the points are seen, wherever the camera has moved to."""
    moved = torch.tensor(list(itertools.product((-SWAY, 0.0, SWAY), repeat=3)), dtype=torch.float64)
    eye = tuple((torch.tensor(EYE, dtype=torch.float64) + moved).T)
    forward, right, up = axes(eye)
    seen = tuple(p[:, None] - e for p, e in zip(torch.tensor(points, dtype=torch.float64).T, eye, strict=True))
    across, upward = (dot(seen, axis) / dot(seen, forward) / FIELD for axis in (right, up))
    first = [max(int((1 + float(low)) / 2 * size) - 1, 0) for low in ((-upward).min(), across.min())]
    last = [min(int((1 + float(high)) / 2 * size) + 2, size) for high in ((-upward).max(), across.max())]
    return slice(first[0], last[0]), slice(first[1], last[1])


@functools.cache
def windows(place: int, size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where in a picture a solid of this place can be seen; and where it, its shadow and its shade can be."""
    x, y, high = place % 3 - 1, 1 - place // 3, 2 * RADIUS[1]
    near, far = RADIUS[1] + MAX_SHIFT, SHADE_REACH * RADIUS[1] + MAX_SHIFT
    box = list(itertools.product((x - near, x + near), (y - near, y + near), (0.0, high)))
    shade = list(itertools.product((x - far, x + far), (y - far, y + far), (0.0, high)))
    ends = [(LAMP[0] + a, LAMP[1] + b) for a, b in itertools.product((-LAMP_SIDE / 2, LAMP_SIDE / 2), repeat=2)]
    t = LAMP[2] / (LAMP[2] - high)  # from the lamp through the top of the box down to the table
    shadow = [(lx + t * (bx - lx), ly + t * (by - ly), 0.0) for lx, ly in ends for bx, by, bz in box if bz == high]
    return _window(box, size), _window(box + shade + shadow, size)
