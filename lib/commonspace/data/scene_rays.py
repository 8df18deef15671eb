"""Scenes in space: cubes, spheres and cylinders on a table, seen from above; by casting rays at their equations.

Sixteen rays a pixel meet every solid in closed form. Each that ends somewhere sends another to its own point of a
square lamp, and the mean of the sixteen makes soft edges and soft shadows. The rest of the light is the sky's: less of
it from below, and less close to another solid. The camera and the cubes' turns differ a little from scene to scene.

Only sums, products, quotients and roots of float32, one tensor operation each, in a fixed order, and no library's sine:
so a picture does not depend on the batch in which it is drawn. A solid is asked for only in the window of the picture
where it, its shadow and its shade can be.
"""

import torch
from torch import Tensor

from commonspace.data.scene_camera import FIELD, LAMP, LAMP_SIDE, SHADE_REACH, Vector, axes, dot, unit, windows
from commonspace.data.scene_solids import Group, groups_of, outward, span

FINE = 4  # rays along each side of a pixel
LAMP_POWER, SKY, BOUNCE = 58.0, 0.36, 0.2  # light of the lamp at distance 1; from above; from the table
GLOSS, SHADE = 0.35, 0.85  # how bright a highlight is; how much of the sky's light a solid takes where it touches
TABLE = (0.64, 0.64, 0.63)  # what the table reflects; the solids reflect the squares of RGB / 255


def draw_solid(scenes: Tensor, size: int = 64, seed: int = 0, shift: Tensor | None = None) -> Tensor:
    """(n, 9) codes -> (n, 3, size, size) uint8 pictures, on the scenes' device.

    ``shift``: (n, 9, 2) whole numbers, how far a solid is off its place, to the near side and to the right, in 512ths
    of the distance between places, at most 64. ``seed``: of the camera and the cubes' turns. Memory: about 1.5 kB a
    pixel, so draw large or many pictures in several batches.
    """
    device = scenes.device
    shift = torch.zeros((len(scenes), 9, 2)) if shift is None else shift.cpu()
    eye, groups = groups_of(scenes.cpu(), seed, shift, device)
    forward, right, up = axes(eye)
    # Rays are (n, 16, size, size), ray k of every pixel at the same place in it.
    k = torch.arange(FINE**2, device=device)
    pixel = torch.arange(size, device=device, dtype=torch.float32)
    across = ((pixel + ((k % FINE) + 0.5)[:, None] / FINE) * (2 / size) - 1)[:, None, :] * FIELD
    upward = (1 - (pixel + ((k // FINE) + 0.5)[:, None] / FINE) * (2 / size))[:, :, None] * FIELD
    ray = tuple(f + across * r + upward * u for f, r, u in zip(forward, right, up, strict=True))
    # Before there is a solid, every ray ends on the table.
    depth = -eye[2] / ray[2]
    who = torch.zeros_like(depth)  # 0: the table, else 1 + the solid's place
    normal = tuple(torch.full_like(depth, v) for v in (0.0, 0.0, 1.0))
    colour = tuple(torch.full_like(depth, v) for v in TABLE)
    for group in groups:
        _meet(group, eye, ray, (depth, who, *normal, *colour))
    point = tuple(e + depth * r for e, r in zip(eye, ray, strict=True))
    # The sixteen ask points of the lamp that differ in x, each from each, and in y: edges of shadows have 16 steps.
    turned = FINE * (k % FINE) + k // FINE
    u, v = (((order + 0.5) / FINE**2 - 0.5)[:, None, None] * LAMP_SIDE for order in (k, turned))
    to_lamp = (LAMP[0] + u - point[0], LAMP[1] + v - point[1], LAMP[2] - point[2])
    lit, sky = torch.ones_like(depth), torch.ones_like(depth)
    for group in groups:
        _darken(group, point, normal, to_lamp, who, lit, sky)
    far = dot(to_lamp, to_lamp)
    slope = dot(normal, to_lamp).clamp(min=0) / far.sqrt()
    level = (SKY + BOUNCE) / 2 + (SKY - BOUNCE) / 2 * normal[2]
    light = slope / far * lit * LAMP_POWER + level * sky
    gloss = torch.zeros_like(depth)
    for group in groups:
        _shine(group, ray, normal, to_lamp, who, lit, gloss)
    out = []
    for reflects in colour:
        value = (reflects * light + gloss).clamp(max=1)
        total = value[:, 0]
        for one in value.unbind(dim=1)[1:]:
            total = total + one
        out.append(((total / FINE**2).sqrt() * 255).round().to(torch.uint8))
    return torch.stack(out, dim=1)


def _cut(group: Group, window: tuple[slice, slice], *values: Tensor) -> list[Tensor]:
    """The window of the group's pictures."""
    return [value[:, :, window[0], window[1]].index_select(0, group.rows) for value in values]


def _paste(group: Group, window: tuple[slice, slice], value: Tensor, new: Tensor) -> None:
    value[:, :, window[0], window[1]].index_copy_(0, group.rows, new)


def _meet(group: Group, eye: Vector, ray: Vector, buffers: tuple[Tensor, ...]) -> None:
    """Where the solid is nearer than what a ray has met so far, it is what the ray meets."""
    window, _ = windows(group.place, buffers[0].shape[-1])
    origin, beam = group.local(tuple(e.index_select(0, group.rows) for e in eye), tuple(_cut(group, window, *ray)))
    enter, leave = span(group.shape, origin, beam, group.radius)
    old = _cut(group, window, *buffers)
    nearer = (enter < leave) & (enter < old[0])
    at = tuple(o + enter * b for o, b in zip(origin, beam, strict=True))
    place = torch.full_like(group.x, group.place + 1)
    for buffer, was, new in zip(buffers, old, (enter, place, *outward(group, at), *group.colour), strict=True):
        _paste(group, window, buffer, torch.where(nearer, new, was))


def _darken(
    group: Group, point: Vector, normal: Vector, to_lamp: Vector, who: Tensor, lit: Tensor, sky: Tensor
) -> None:
    """The solid's shadow: no light of the lamp through it. Its shade: less of the sky's light close to it."""
    _, window = windows(group.place, who.shape[-1])
    cut = _cut(group, window, *point, *normal, *to_lamp, who, lit, sky)
    point, normal, to_lamp, (who_here, lit_here, sky_here) = cut[:3], cut[3:6], cut[6:9], cut[9:]
    origin, beam = group.local(point, to_lamp)
    enter, leave = span(group.shape, origin, beam, group.radius)
    other = who_here != group.place + 1  # a side of a solid that looks at the lamp is in no shadow of its own
    blocked = (enter < leave) & (leave > 0) & other
    _paste(group, window, lit, lit_here * (~blocked).float())
    toward = (group.x - point[0], group.y - point[1], group.high - point[2])
    far = dot(toward, toward)
    reach = group.radius * SHADE_REACH
    near = (1 - far / (reach * reach)).clamp(min=0)
    shade = near * near * (dot(normal, toward).clamp(min=0) / far.sqrt()) * SHADE
    _paste(group, window, sky, sky_here * (1 - shade))


def _shine(group: Group, ray: Vector, normal: Vector, to_lamp: Vector, who: Tensor, lit: Tensor, gloss: Tensor) -> None:
    """The lamp's highlight on the solid: the 32nd power of the cosine to the halfway vector (Blinn 1977)."""
    window, _ = windows(group.place, who.shape[-1])
    cut = _cut(group, window, *ray, *normal, *to_lamp, who, lit, gloss)
    normal, (who_here, lit_here, gloss_here) = cut[3:6], cut[9:]
    view, lamp = unit(tuple(cut[:3])), unit(tuple(cut[6:9]))
    power = dot(normal, unit(tuple(b - a for a, b in zip(view, lamp, strict=True)))).clamp(min=0)
    for _ in range(5):
        power = power * power
    seen = (who_here == group.place + 1) & (dot(normal, lamp) > 0)
    _paste(group, window, gloss, gloss_here + power * lit_here * seen.float() * GLOSS)
