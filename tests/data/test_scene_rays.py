"""The pictures of solids against a ray-caster in plain Python and double precision, and as pictures."""

import math

import numpy as np
import pytest
import torch

from commonspace.data import scene_camera, scene_rays
from commonspace.data.scene_camera import CUBE, EYE, FIELD, LAMP, LAMP_SIDE, RADIUS, SHADE_REACH, SWAY, TARGET, sway
from commonspace.data.scene_chance import below, draw_scenes
from commonspace.data.scene_grammar import CODES, COLOURS, SHAPES, SIZES, attributes, code
from commonspace.data.scene_pixels import RGB
from commonspace.data.scene_rays import BOUNCE, FINE, GLOSS, LAMP_POWER, SHADE, SKY, TABLE, draw_solid
from commonspace.data.scene_solids import span

ALL = torch.arange(1, CODES + 1)


def kind(size: str, colour: str, shape: str) -> int:
    return int(code(SIZES.index(size), COLOURS.index(colour), SHAPES.index(shape)))


def scene(**objects: tuple[str, str, str]) -> torch.Tensor:
    """A scene from p0=("big", "red", "cube"), ..."""
    codes = torch.zeros((1, 9), dtype=torch.uint8)
    for place, words in objects.items():
        codes[0, int(place[1:])] = kind(*words)
    return codes


# ---- one pixel, ray by ray -----------------------------------------------------------------------------------------


def unit(v):
    return np.asarray(v, dtype=float) / math.sqrt(float(np.dot(v, v)))


class Solid:
    """A solid of one scene; asks each ray by formulas of its own, with no window and no batch."""

    def __init__(self, place, numbers, shift, turn):
        big, colour, self.shape = numbers
        self.radius = RADIUS[big]
        self.half = self.radius * (CUBE if self.shape == 0 else 1)
        row, column = divmod(place, 3)
        self.centre = np.array([column - 1 + shift[1] / 512, 1 - row - shift[0] / 512, self.half])
        c, s = turn
        self.axes = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])  # rows: the sides' directions
        self.colour = [(v / 255) ** 2 for v in RGB[colour]]

    def hits(self, origin, ray):
        """The (t, normal) at which the ray enters and leaves, or None."""
        o, d = np.asarray(origin) - self.centre, np.asarray(ray)
        found = []
        if self.shape == 1:
            roots = np.roots([d @ d, 2 * o @ d, o @ o - self.radius**2])
            if abs(roots[0].imag) > 0:
                return None
            found = [(t, unit(o + t * d)) for t in roots.real]
        elif self.shape == 0:
            for axis in self.axes:
                for side in (-1, 1):
                    t = (side * self.half - o @ axis) / (d @ axis)
                    if max(abs(self.axes @ (o + t * d))) <= self.half * (1 + 1e-9):
                        found.append((t, side * axis))
        else:
            roots = np.roots([d[:2] @ d[:2], 2 * o[:2] @ d[:2], o[:2] @ o[:2] - self.radius**2])
            if abs(roots[0].imag) == 0:
                sides = [(t, o + t * d) for t in roots.real]
                found += [(t, unit([p[0], p[1], 0])) for t, p in sides if abs(p[2]) <= self.radius]
            for side in (-1, 1):
                t = (side * self.radius - o[2]) / d[2]
                p = o + t * d
                if p[:2] @ p[:2] <= self.radius**2:
                    found.append((t, np.array([0, 0, side])))
        return (min(found, key=lambda h: h[0]), max(found, key=lambda h: h[0])) if len(found) >= 2 else None


def light_at(solids, eye, forward, right, up, across, upward, k) -> np.ndarray:
    """What ray k sees: three channels, 0 to 1, before the root."""
    ray = forward + across * FIELD * right + upward * FIELD * up
    t, normal, colour, hit = -eye[2] / ray[2], np.array([0, 0, 1.0]), TABLE, None
    for solid in solids:
        met = solid.hits(eye, ray)
        if met and met[0][0] < t:
            (t, normal), colour, hit = met[0], solid.colour, solid
    point = eye + t * ray
    lamp = np.array([LAMP[0] + LAMP_SIDE * ((k + 0.5) / 16 - 0.5),
                     LAMP[1] + LAMP_SIDE * ((4 * (k % 4) + k // 4 + 0.5) / 16 - 0.5), LAMP[2]])  # fmt: skip
    to_lamp = lamp - point
    lit, sky = 1.0, 1.0
    for solid in solids:
        met = solid.hits(point, to_lamp)
        if solid is not hit and met and met[1][0] > 0:
            lit = 0.0
        toward = solid.centre - point
        far = math.sqrt(toward @ toward)
        near = max(0, 1 - (far / (SHADE_REACH * solid.radius)) ** 2)
        sky *= 1 - SHADE * near**2 * max(0, normal @ toward / far)
    slope = max(0, normal @ unit(to_lamp))
    ambient = SKY * (1 + normal[2]) / 2 + BOUNCE * (1 - normal[2]) / 2
    light = LAMP_POWER * slope / (to_lamp @ to_lamp) * lit + ambient * sky
    gloss = 0.0
    if hit is not None and slope > 0:
        gloss = GLOSS * lit * max(0, normal @ unit(unit(to_lamp) - unit(ray))) ** 32
    return np.minimum(1, np.array(colour) * light + gloss)


def one_pixel(codes, size, row, column, seed, shift) -> np.ndarray:
    (ex, ey, ez), cosine, sine = sway(codes[None], seed)
    eye = np.array([float(ex), float(ey), float(ez)])
    forward = unit(np.array(TARGET) - eye)
    right = unit(np.cross(forward, [0, 0, 1]))
    up = np.cross(right, forward)
    solids = [
        Solid(place, numbers, shift[place].tolist(), (float(cosine[0, place]), float(sine[0, place])))
        for place, numbers in enumerate(attributes(codes).tolist())
        if numbers[0] >= 0
    ]
    total = np.zeros(3)
    for k in range(FINE**2):
        across = (column + (k % FINE + 0.5) / FINE) * 2 / size - 1
        upward = 1 - (row + (k // FINE + 0.5) / FINE) * 2 / size
        total += light_at(solids, eye, forward, right, up, across, upward, k)
    return np.sqrt(total / FINE**2) * 255


@pytest.mark.parametrize(("size", "most"), [(32, 0), (64, 64)])
def test_pixels_are_those_of_plain_python(seed, size, most):
    codes = draw_scenes(torch.arange(3), seed, 9, (4, 8), ALL)
    shift = below(2 * most + 1, seed, torch.arange(54)).view(3, 9, 2) - most
    pictures = draw_solid(codes, size, seed, shift).double().numpy()
    rng = np.random.default_rng(seed)
    wrong = 0
    for i in range(3):
        # Half of the pixels where something is: where the picture differs from that of an empty table.
        bare = draw_solid(torch.zeros_like(codes[i : i + 1]), size, seed).double().numpy()[0]
        busy = np.argwhere(abs(pictures[i] - bare).max(axis=0) > 8)
        pixels = [*busy[rng.integers(0, len(busy), 20)], *rng.integers(0, size, (20, 2))]
        for row, column in pixels:
            expected = one_pixel(codes[i], size, row, column, seed, shift[i])
            # A ray that grazes an edge may go by it in the other precision: one of the sixteen, seldom.
            wrong += abs(expected - pictures[i, :, row, column]).max() > 0.51
    assert wrong <= 2


def test_spans_are_those_of_the_equations():
    def through(shape, origin, ray):
        """Where the ray enters and leaves a solid of radius 0.5; a component of 1e-9 stands for 0, which divides."""
        o, d = (tuple(torch.tensor([float(v or 1e-9)]) for v in vector) for vector in (origin, ray))
        enter, leave = span(shape, o, d, torch.tensor([0.5]))
        return (float(enter), float(leave)) if bool(enter < leave) else None

    chord = math.sqrt(0.5**2 - 0.3**2)
    for shape, top, side in ((0, 0.5 * CUBE, 0.5 * CUBE), (1, 0.5, chord), (2, 0.5, chord)):
        assert through(shape, (0, 0, 3), (0, 0, -1)) == pytest.approx((3 - top, 3 + top), abs=1e-5)
        assert through(shape, (0, 0, 3), (0, 0, -2)) == pytest.approx(((3 - top) / 2, (3 + top) / 2), abs=1e-5)
        assert through(shape, (-3, 0.3, 0), (1, 0, 0)) == pytest.approx((3 - side, 3 + side), abs=1e-5)
        assert through(shape, (-3, 0.6, 0), (1, 0, 0)) is None
        assert through(shape, (-3, 0, 0.6), (1, 0, 0)) is None


# ---- as pictures ---------------------------------------------------------------------------------------------------


def test_a_picture_does_not_depend_on_its_batch(seed):
    codes = draw_scenes(torch.arange(12), seed, 0, (0, 9), ALL)
    together = draw_solid(codes, 64, seed)
    assert together.shape == (12, 3, 64, 64)
    assert together.dtype == torch.uint8
    for batch in (1, 5):
        assert torch.equal(torch.cat([draw_solid(some, 64, seed) for some in codes.split(batch)]), together)


@pytest.mark.parametrize("size", [32, 90])
def test_windows_leave_nothing_out(seed, size, monkeypatch):
    """Objects as far off their places as may be; a fifth of the picture is less than all of it."""
    alone = 48 * torch.eye(9, dtype=torch.uint8)  # a big cylinder and its shadow, on the far right of its place
    codes = torch.cat([draw_scenes(torch.arange(10), seed, 0, (1, 9), ALL), torch.full((1, 9), 48).byte(), alone])
    shift = 64 * (2 * below(2, seed, torch.arange(20 * 18)).view(20, 9, 2) - 1)
    shift[11:] = torch.tensor([-64, 64])
    cut = draw_solid(codes, size, seed, shift)
    whole = (slice(0, size), slice(0, size))
    seen = [scene_camera.windows(place, size)[0] for place in range(9)]
    assert np.mean([(h.stop - h.start) * (w.stop - w.start) for h, w in seen]) < 0.2 * size**2
    monkeypatch.setattr(scene_rays, "windows", lambda place, size: (whole, whole))
    assert torch.equal(draw_solid(codes, size, seed, shift), cut)


def projected(point, eye) -> tuple[float, float]:
    """(row, column) as parts of the picture's side."""
    forward = unit(np.array(TARGET) - eye)
    right = unit(np.cross(forward, [0, 0, 1]))
    seen = np.array(point) - eye
    depth = seen @ forward * FIELD
    return (1 - seen @ np.cross(right, forward) / depth) / 2, (1 + seen @ right / depth) / 2


def test_colour_and_size_can_be_read_from_the_picture(seed):
    codes = torch.zeros((144, 9), dtype=torch.uint8)
    place = below(9, seed, torch.arange(144))
    codes[torch.arange(144), place] = (torch.arange(144) % 48 + 1).byte()
    pictures = draw_solid(codes, 64, seed).double().numpy()
    eyes = torch.stack(sway(codes, seed)[0], dim=1).double().numpy()
    hue = unit_rows(np.array(RGB, dtype=float) ** 2)
    for i in range(144):
        big, colour, shape = attributes(codes[i, place[i]]).tolist()
        high = RADIUS[big] * (CUBE if shape == 0 else 1)
        row, column = projected((place[i] % 3 - 1, 1 - place[i] // 3, high), eyes[i])
        seen = pictures[i, :, int(row * 64), int(column * 64)]
        assert (unit_rows((seen**2)[None]) @ hue.T).argmax() == colour or colour == 0
        assert colour or np.ptp(seen) < 6  # gray
        area = (np.ptp(pictures[i], axis=0) > 40).sum()  # neither the table nor a shadow has a colour
        assert not colour or (area > 75) == bool(big), (area, COLOURS[colour], SHAPES[shape])


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_near_hides_far_and_shadows_fall_away_from_the_lamp():
    alone = draw_solid(scene(p4=("big", "red", "cube")), 96, 0)[0].double()
    bare = draw_solid(scene(), 96, 0)[0].double()
    darker = (bare - alone).min(dim=0).values  # where all three channels are darker: shadow, not red
    shadow = (darker > 25).nonzero().double()
    red = (alone[0] - alone[1] > 60).nonzero().double()
    assert len(shadow) > 40
    assert shadow[:, 1].mean() > red[:, 1].mean() + 5  # the lamp is on the left
    steps = darker[darker > 2].unique()
    assert len(steps) > 12  # soft: many shades between light and shadow
    both = draw_solid(scene(p4=("big", "red", "cylinder"), p1=("small", "blue", "cube")), 96, 0)[0].long()
    behind = draw_solid(scene(p1=("small", "blue", "cube")), 96, 0)[0].long()
    blue = [(p[2] - p[0] > 60).sum() for p in (both, behind)]
    assert 0 < blue[0] < blue[1]


def test_camera_and_turns_depend_on_scene_and_seed_alone():
    codes = scene(p0=("big", "red", "cube"), p8=("small", "cyan", "cube")).repeat(2, 1)
    first, again = draw_solid(codes, 48, 0)
    assert torch.equal(first, again)
    assert not torch.equal(draw_solid(codes[:1], 48, 1)[0], first)
    many = draw_scenes(torch.arange(3000), 0, 0, (1, 9), ALL)
    eye, cosine, sine = sway(many, 3)
    for i in range(3):
        assert (eye[i] - EYE[i]).abs().max() <= SWAY + 1e-6
        assert eye[i].std() == pytest.approx(SWAY / math.sqrt(3), rel=0.05)
    torch.testing.assert_close(cosine**2 + sine**2, torch.ones_like(cosine))
    degrees = torch.rad2deg(torch.atan2(sine, cosine))
    assert 29 < degrees.max() < 30.01
    assert -30.01 < degrees.min() < -29


@pytest.mark.cuda
def test_the_gpu_draws_the_same_picture(seed):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    codes = draw_scenes(torch.arange(30), seed, 0, (0, 9), ALL)
    differ = (draw_solid(codes.cuda(), 100, seed).cpu().int() - draw_solid(codes, 100, seed).int()).abs()
    assert differ.max() <= 1
    assert (differ > 0).double().mean() < 1e-3
