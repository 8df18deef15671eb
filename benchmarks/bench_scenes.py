"""Scenes drawn, pictures a second: python benchmarks/bench_scenes.py

The flat pictures beside Pillow's ImageDraw, one shape after the other. Its polygons take in pixels on their edges that
ours leave out: of all values at most one in fifty may differ. The solids beside a ray-caster of the same formulas in
numpy and double precision, which goes through the sixteen rays of a pixel and through the solids one by one and asks
each for the whole picture: of all values at most one in a thousand may differ by more than one.
"""

import _bench
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from commonspace.data import ScenePictures
from commonspace.data import scene_camera as camera
from commonspace.data import scene_rays as rays
from commonspace.data.scene_chance import draw_scenes
from commonspace.data.scene_grammar import CODES, attributes
from commonspace.data.scene_pixels import RGB

SIZE = 64
OURS, PILLOW, NUMPY = "commonspace", "Pillow, shape by shape", "numpy, ray by ray and solid by solid"


def by_pillow(scenes: Tensor) -> np.ndarray:
    """(n, 64, 64, 3) uint8."""
    pictures = np.empty((len(scenes), SIZE, SIZE, 3), dtype=np.uint8)
    for i, objects in enumerate(attributes(scenes).tolist()):
        image = Image.new("RGB", (SIZE, SIZE), "white")
        draw = ImageDraw.Draw(image)
        for place, (big, colour, shape) in enumerate(objects):
            if big < 0:
                continue
            half = (4, 8)[big]
            # Pillow counts pixels from their centres, and takes in both ends.
            x, y = ((2 * k + 1) * SIZE / 6 - 0.5 for k in (place % 3, place // 3))
            left, right, top, bottom = x - half, x + half, y - half, y + half
            if shape == 0:
                inside = [int(np.ceil(left)), int(np.ceil(top)), int(np.floor(right)), int(np.floor(bottom))]
                draw.rectangle(inside, fill=RGB[colour])
            elif shape == 1:
                draw.polygon([(x, top), (right, y), (x, bottom), (left, y)], fill=RGB[colour])
            else:
                draw.polygon([(x, top), (right, bottom), (left, bottom)], fill=RGB[colour])
        pictures[i] = image
    return pictures


# ---- the ray-caster in numpy ---------------------------------------------------------------------------------------


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def spans(shape: int, radius: float, origin: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave a solid around 0."""
    if shape == 0:
        half = radius * camera.CUBE
        ends = np.stack([(-half - origin) / ray, (half - origin) / ray])
        return ends.min(axis=0).max(axis=-1), ends.max(axis=0).min(axis=-1)
    axes = 2 if shape == 2 else 3
    o, d = origin[..., :axes], ray[..., :axes]
    a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - radius**2
    with np.errstate(invalid="ignore"):
        root = np.sqrt(b * b - a * c)
    enter, leave = (-b - root) / a, (-b + root) / a
    if shape == 2:
        ends = np.stack([(-radius - origin[..., 2]) / ray[..., 2], (radius - origin[..., 2]) / ray[..., 2]])
        enter, leave = np.maximum(enter, ends.min(axis=0)), np.minimum(leave, ends.max(axis=0))
    return enter, leave


def normals(shape: int, radius: float, at: np.ndarray) -> np.ndarray:
    if shape == 1:
        return at / radius
    if shape == 2:
        flat = at[..., 2] > radius * 0.9999
        side = np.stack([at[..., 0], at[..., 1], 0 * at[..., 0]], axis=-1) / radius
        return np.where(flat[..., None], [0.0, 0.0, 1.0], side)
    axis = np.abs(at).argmax(axis=-1)[..., None] == np.arange(3)
    return axis * np.sign(at)


def by_numpy(scenes: Tensor, seed: int = 0) -> np.ndarray:
    """(n, 64, 64, 3) uint8."""
    eyes, cosine, sine = camera.sway(scenes, seed)
    eyes = torch.stack(eyes, dim=1).double().numpy()
    pictures = np.empty((len(scenes), SIZE, SIZE, 3), dtype=np.uint8)
    for i, objects in enumerate(attributes(scenes).tolist()):
        solids = []
        for place, (big, colour, shape) in enumerate(objects):
            if big >= 0:
                radius, c, s = camera.RADIUS[big], float(cosine[i, place]), float(sine[i, place])
                turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) if shape == 0 else np.eye(3)
                centre = np.array([place % 3 - 1, 1 - place // 3, radius * (camera.CUBE if shape == 0 else 1)])
                solids.append((shape, radius, centre, turn, (np.array(RGB[colour]) / 255) ** 2))
        pictures[i] = np.round(np.sqrt(sum(one_ray(eyes[i], solids, k) for k in range(16)) / 16) * 255)
    return pictures


def one_ray(eye: np.ndarray, solids: list, k: int) -> np.ndarray:
    """What ray k of each pixel sees, (64, 64, 3)."""
    forward = unit(np.array(camera.TARGET) - eye)
    right = unit(np.cross(forward, [0, 0, 1]))
    pixel = np.arange(SIZE)
    across = ((pixel + (k % 4 + 0.5) / 4) * 2 / SIZE - 1)[None, :, None] * camera.FIELD
    upward = (1 - (pixel + (k // 4 + 0.5) / 4) * 2 / SIZE)[:, None, None] * camera.FIELD
    ray = forward + across * right + upward * np.cross(right, forward)
    depth = -eye[2] / ray[..., 2]
    normal, colour = np.broadcast_to([0.0, 0.0, 1.0], ray.shape), np.broadcast_to(rays.TABLE, ray.shape)
    who = np.full(depth.shape, -1)
    for number, (shape, radius, centre, turn, reflects) in enumerate(solids):
        origin, beam = (eye - centre) @ turn.T, ray @ turn.T
        enter, leave = spans(shape, radius, origin, beam)
        nearer = (enter < leave) & (enter < depth)
        turned = normals(shape, radius, origin + enter[..., None] * beam) @ turn
        normal = np.where(nearer[..., None], turned, normal)
        colour = np.where(nearer[..., None], reflects, colour)
        depth, who = np.where(nearer, enter, depth), np.where(nearer, number, who)
    point = eye + depth[..., None] * ray
    u, v = ((order + 0.5) / 16 - 0.5 for order in (k, 4 * (k % 4) + k // 4))
    to_lamp = np.array(camera.LAMP) + camera.LAMP_SIDE * np.array([u, v, 0]) - point
    lit, sky = np.ones(depth.shape), np.ones(depth.shape)
    for number, (shape, radius, centre, turn, _) in enumerate(solids):
        enter, leave = spans(shape, radius, (point - centre) @ turn.T, to_lamp @ turn.T)
        lit *= ~((enter < leave) & (leave > 0) & (who != number))
        toward = centre - point
        far = np.linalg.norm(toward, axis=-1)
        near = np.maximum(0, 1 - (far / (camera.SHADE_REACH * radius)) ** 2)
        sky *= 1 - rays.SHADE * near**2 * np.maximum(0, (normal * toward).sum(-1) / far)
    slope = np.maximum(0, (normal * unit(to_lamp)).sum(-1))
    level = rays.SKY * (1 + normal[..., 2]) / 2 + rays.BOUNCE * (1 - normal[..., 2]) / 2
    light = rays.LAMP_POWER * slope / (to_lamp**2).sum(-1) * lit + level * sky
    shine = np.maximum(0, (normal * unit(unit(to_lamp) - unit(ray))).sum(-1)) ** 32
    gloss = rays.GLOSS * shine * lit * (who >= 0) * (slope > 0)
    return np.minimum(1, colour * light[..., None] + gloss[..., None])


# ---- both ----------------------------------------------------------------------------------------------------------


def ours(scenes: Tensor, dimensions: int) -> np.ndarray:
    return ScenePictures(scenes, SIZE, dimensions)[:].permute(0, 2, 3, 1).numpy()


def agreement(first: np.ndarray, second: np.ndarray, within: int) -> float:
    """The part of the values that differ by no more than ``within``."""
    return float((np.abs(first.astype(int) - second) <= within).mean())


PEERS = {  # dimensions: pictures of ours and of the peer, its name and function, how near, and which part may differ
    2: (512, 512, PILLOW, by_pillow, 0, 0.02),
    3: (32, 4, NUMPY, by_numpy, 1, 0.001),
}


def compare(dimensions: int, tiny: bool) -> list[dict]:
    n_ours, n_theirs, name, draw, within, apart = PEERS[dimensions]
    if tiny:
        n_ours, n_theirs = 4, 2
    scenes = draw_scenes(torch.arange(n_ours), 0, 0, (2, 5), torch.arange(1, CODES + 1))
    few = scenes[:n_theirs]
    _bench.same({OURS: 1.0, name: agreement(ours(few, dimensions), draw(few), within)}, within=apart)
    rows = _bench.race({OURS: lambda: ours(scenes, dimensions), name: lambda: draw(few)}, repeats=3)
    speeds = [count / row["seconds"] for count, row in zip((n_ours, n_theirs), rows, strict=True)]
    return [
        {"pictures": f"{dimensions}-D, {SIZE} x {SIZE}", "method": row["method"]}
        | {"pictures a second": speed, "repeats": row["repeats"], "times slower": speeds[0] / speed}
        for row, speed in zip(rows, speeds, strict=True)
    ]


def run(tiny: bool = False) -> list[dict]:
    return [row for dimensions in PEERS for row in compare(dimensions, tiny)]


if __name__ == "__main__":
    _bench.main("scenes", "Scenes drawn, pictures a second", run, peers=("pillow",))
