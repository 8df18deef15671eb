"""The solids of a scene, each by its equation: where a ray meets it, and which way its surface looks there."""

from typing import NamedTuple

import torch
from torch import Tensor

from commonspace.data.scene_camera import CUBE, RADIUS, Vector, dot, position, sway
from commonspace.data.scene_grammar import attributes
from commonspace.data.scene_pixels import RGB


class Group(NamedTuple):
    """The solids of one shape at one place, in m of the pictures."""

    place: int
    shape: int
    rows: Tensor  # (m,) pictures
    x: Tensor  # (m, 1, 1, 1), as all that follow
    y: Tensor
    radius: Tensor
    cosine: Tensor
    sine: Tensor
    colour: Vector

    @property
    def high(self) -> Tensor:
        """How high its centre is, so that it stands on the table."""
        return self.radius if self.shape else self.radius * CUBE

    def local(self, point: Vector, ray: Vector) -> tuple[Vector, Vector]:
        """The same from the solid's centre; for a cube, along its sides."""
        point = (point[0] - self.x, point[1] - self.y, point[2] - self.high)
        if self.shape:
            return point, ray
        return tuple((v[0] * self.cosine + v[1] * self.sine, v[1] * self.cosine - v[0] * self.sine, v[2])
                     for v in (point, ray))  # fmt: skip


def span(shape: int, origin: Vector, ray: Vector, radius: Tensor) -> tuple[Tensor, Tensor]:
    """The t at which origin + t * ray enters and leaves a solid around (0, 0, 0); a miss unless enter < leave."""
    (x, y, z), (dx, dy, dz) = origin, ray
    if shape == 0:  # a cube: the part of the ray that is between all three pairs of sides
        half = radius * CUBE
        pairs = [((-half - o) / d, (half - o) / d) for o, d in ((x, dx), (y, dy), (z, dz))]
    else:  # |origin + t ray|^2 = radius^2, for a cylinder in x and y alone
        flat = shape == 2
        a = dx * dx + dy * dy if flat else dot(ray, ray)
        b = x * dx + y * dy if flat else dot(origin, ray)
        c = (x * x + y * y if flat else dot(origin, origin)) - radius * radius
        root = (b * b - a * c).sqrt()  # not a number for a miss: then no comparison holds
        pairs = [((-b - root) / a, (root - b) / a)]
        if flat:
            pairs.append(((-radius - z) / dz, (radius - z) / dz))
    enter, leave = torch.minimum(*pairs[0]), torch.maximum(*pairs[0])
    for pair in pairs[1:]:
        enter, leave = torch.maximum(enter, torch.minimum(*pair)), torch.minimum(leave, torch.maximum(*pair))
    return enter, leave


def outward(group: Group, at: Vector) -> Vector:
    """The unit normal of the solid at points of its surface, seen from its centre."""
    x, y, z = at
    if group.shape == 1:
        return x / group.radius, y / group.radius, z / group.radius
    if group.shape == 2:
        side = (z < group.radius * 0.9999).float()
        return x / group.radius * side, y / group.radius * side, 1 - side
    half = 0.9999 * group.high
    on_z = (z > half).float()  # no ray ends on a bottom
    on_x = ((x > half).float() - (x < -half).float()) * (1 - on_z)
    on_y = (1 - on_z - on_x.abs()) * (1 - 2 * (y < 0).float())
    return on_x * group.cosine - on_y * group.sine, on_x * group.sine + on_y * group.cosine, on_z


def groups_of(scenes: Tensor, seed: int, shift: Tensor, device: torch.device) -> tuple[Vector, list[Group]]:
    """The camera's places, each (n, 1, 1, 1), and all solids."""

    def four(values: Tensor) -> Tensor:
        return values.to(device, torch.float32)[:, None, None, None]

    eye, cosine, sine = sway(scenes, seed)
    kinds, groups = attributes(scenes).long(), []
    reflects = torch.tensor(RGB).div(255).square()
    for place in range(9):
        for shape in range(3):
            rows = (kinds[:, place, 2] == shape).nonzero()[:, 0]
            if len(rows):
                x, y = position(place, shift[rows, place])
                size, colour = kinds[rows, place, 0], reflects[kinds[rows, place, 1]]
                numbers = [x, y, torch.tensor(RADIUS)[size], cosine[rows, place], sine[rows, place]]
                colours = tuple(four(c) for c in colour.unbind(dim=1))
                groups.append(Group(place, shape, rows.to(device), *(four(v) for v in numbers), colours))
    return tuple(four(e) for e in eye), groups
