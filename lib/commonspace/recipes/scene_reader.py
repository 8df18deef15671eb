"""Is what was asked for in a painted picture? A network that learnt from real pictures of scenes reads it.

    reader = fit(size=32)                                       # some seconds
    scores = attribute_scores(reader, painted, test.scenes)     # {"colour": ..., "chance/colour": ..., ...}

A scene is read place by place: a small network, one for all nine, sees the part of the picture in which an object of
the place can be, and says whether there is one, and its size, colour and shape. It learns from pictures with objects a
little off their places, blurred and with noise, so that it also reads what is not painted to the pixel. What it reads
in pictures that are of no scene is not defined: look at painted pictures, not at the scores alone.
"""

import math
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commonspace.data.scene_camera import windows
from commonspace.data.scene_chance import draw_different_scenes
from commonspace.data.scene_grammar import ATTRIBUTES, CODES, COLOURS, PLACES, SHAPES, SIZES, attributes, code, scene_id
from commonspace.data.scene_pictures import MAX_JITTER, ScenePictures, check_scenes
from commonspace.training import batches, pick_device, seeded
from commonspace.training.checkpoint import load_model, save_model

KINDS = {"filled": 2, "size": len(SIZES), "colour": len(COLOURS), "shape": len(SHAPES)}  # what is read -> how many
PART = {2: 12, 3: 24}  # side in pixels to which a place's part of the picture is brought
BLUR, TINT, NOISE = 1.0, 0.15, 0.15  # the most that `worn` does
HELD_BACK, BATCH = 500, 32  # scenes
AT_ONCE = 2**13  # places read together
STREAM = 100  # of `scene_chance`: these scenes are drawn apart from those of `data.Scenes`


class SceneReader(nn.Module):
    """Reads scenes from pictures of ``size`` x ``size``; ``dimensions``: 2 for flat scenes, 3 for solids.

    ``width``: channels of the first convolution. ``real``: what `attribute_scores` found on real pictures that `fit`
    kept back, {} before.

    >>> reader = SceneReader(size=32)
    >>> reader.read(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([2, 9])
    """

    def __init__(self, size: int, dimensions: int = 2, width: int = 16, real: dict[str, float] | None = None):
        super().__init__()
        ScenePictures(torch.zeros((0, 9), dtype=torch.uint8), size, dimensions)  # raises ValueError
        self.config = {"size": size, "dimensions": dimensions, "width": width, "real": dict(real or {})}
        if dimensions == 3:
            self.parts = [windows(place, size)[0] for place in range(len(PLACES))]
        else:
            third = [round(size * i / 3) for i in range(4)]
            self.parts = [(slice(*third[r : r + 2]), slice(*third[c : c + 2])) for r in range(3) for c in range(3)]
        last = 2 * width * (PART[dimensions] // 4) ** 2
        self.network = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(last, 4 * width, bias=False), nn.BatchNorm1d(4 * width), nn.ReLU(),
            nn.Linear(4 * width, sum(KINDS.values())),
        )  # fmt: skip

    @property
    def real(self) -> dict[str, float]:
        """What `fit` measured on real pictures, as `scene_scores` names it."""
        return self.config["real"]

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """(b, 3, size, size) uint8 -> logits by name: "filled" (b, 9, 2), "size", "colour" and "shape" (b, 9, k)."""
        return self._logits(self._cut(pictures.float() / 255))

    def losses(self, pictures: Tensor, scenes: Tensor, wear: bool = False) -> dict[str, Tensor]:
        """Cross-entropies of (b, 3, size, size) uint8 pictures of known scenes (b, 9), and their sum, "loss" [nats].

        Of size, colour and shape: means over the objects. ``wear``: of `worn` pictures.
        """
        pictures = pictures.float() / 255
        logits = self._logits(self._cut(worn(pictures) if wear else pictures))
        filled = scenes > 0
        found = {"filled": F.cross_entropy(logits["filled"].flatten(0, 1), filled.long().flatten())}
        kinds = attributes(scenes.cpu()).to(scenes.device).long()[filled]  # (objects, 3)
        for name, kind in zip(("size", "colour", "shape"), kinds.unbind(dim=1), strict=True):
            found[name] = F.cross_entropy(logits[name][filled], kind)
        return {"loss": sum(found.values()), **found}

    @torch.no_grad()
    def read(self, pictures: Any) -> Tensor:
        """(n, 3, size, size) uint8 -> (n, 9) uint8 on the CPU: the likeliest codes, 0 for an empty place."""
        pictures = self._check(pictures)
        was, here = self.training, next(self.parameters()).device
        self.eval()
        codes = []
        for some in pictures.split(AT_ONCE // len(PLACES)):
            said = {name: logits.argmax(dim=-1) for name, logits in self(some.to(here)).items()}
            codes.append((code(said["size"], said["colour"], said["shape"]) * said["filled"]).cpu())
        self.train(was)
        return torch.cat(codes).to(torch.uint8)

    def save(self, folder: str | Path) -> None:
        """Write ``weights.safetensors`` and ``config.json``, whole or not at all."""
        save_model(self, folder, self.config)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The reader that `save` wrote, in evaluation mode on the CPU."""
        weights, config = load_model(folder)
        model = cls(**config)
        model.load_state_dict(weights)
        return model.eval()

    def _cut(self, pictures: Tensor) -> Tensor:
        """(b, 3, size, size) in [0, 1] -> the nine places' parts (b, 9, 3, p, p), p of PART, from 0 for white to 1."""
        pictures, side = 1 - pictures, PART[self.config["dimensions"]]
        parts = [pictures[:, :, rows, columns] for rows, columns in self.parts]
        parts = [F.interpolate(part, (side, side), mode="bilinear", antialias=True) for part in parts]
        return torch.stack(parts, dim=1)

    def _logits(self, parts: Tensor) -> dict[str, Tensor]:
        logits = self.network(parts.flatten(0, 1)).unflatten(0, parts.shape[:2])
        return dict(zip(KINDS, logits.split(list(KINDS.values()), dim=-1), strict=True))

    def _check(self, pictures: Any) -> Tensor:
        pictures, size = torch.as_tensor(pictures), self.config["size"]
        if pictures.dtype != torch.uint8 or pictures.shape[1:] != (3, size, size) or len(pictures) == 0:
            raise ValueError(
                f"this reader learnt from uint8 pictures (n, 3, {size}, {size}); got {pictures.dtype} of "
                f"{tuple(pictures.shape)}. Bring floats in [-1, 1] there by ((x + 1) * 127.5).round().byte()"
            )
        return pictures


def worn(pictures: Tensor) -> Tensor:
    """Pictures (b, 3, h, w) in [0, 1] as a painter might get them wrong: blurred, off in colour, uneven; in [0, 1].

    Each picture draws how much of it, from none to the most: the share BLUR of an average over 3 x 3 pixels; the share
    TINT of one random colour; the standard deviation NOISE of the pixels.
    """

    def drawn(most: float, channels: int = 1) -> Tensor:
        return most * torch.rand(len(pictures), channels, 1, 1, device=pictures.device)

    smooth = F.avg_pool2d(pictures, 3, stride=1, padding=1, count_include_pad=False)
    pictures = torch.lerp(pictures, smooth, drawn(BLUR))
    pictures = torch.lerp(pictures, drawn(1.0, 3), drawn(TINT))
    return (pictures + drawn(NOISE) * torch.randn_like(pictures)).clamp(0, 1)


def fit(
    size: int = 32,
    dimensions: int = 2,
    objects: tuple[int, int] = (1, 9),
    n: int = 3000,
    epochs: int = 4,
    seed: int = 0,
    device: str = "auto",
) -> SceneReader:
    """A reader that learnt from ``n`` drawn scenes of (fewest, most) ``objects``; on the CPU, in evaluation mode.

    Its ``real`` has its scores on HELD_BACK scenes more, none of them among the ``n``: what it misreads in pictures in
    which everything is right. The same arguments give the same reader, on one kind of device and in however many
    processes. Raises ValueError for what is out of range and when there are not as many different scenes.
    """
    low, high = objects
    if not 1 <= low <= high <= len(PLACES) or n < BATCH or epochs < 1:
        raise ValueError(
            f"objects is (fewest, most) from 1 to {len(PLACES)}, n is at least {BATCH} and epochs at least 1; got "
            f"objects={objects!r}, n={n!r}, epochs={epochs!r}"
        )
    ScenePictures(torch.zeros((0, 9), dtype=torch.uint8), size, dimensions, seed)  # raises ValueError
    codes = torch.arange(1, CODES + 1)
    scenes = draw_different_scenes(n + HELD_BACK, seed, STREAM, objects, codes, lambda some: some[:, 0] >= 0)
    pictures = ScenePictures(scenes, size, dimensions, seed, MAX_JITTER).drawn()
    with seeded(seed):
        reader = SceneReader(size, dimensions).to(pick_device(device)).train()
        here = next(reader.parameters()).device
        optimizer = torch.optim.Adam(reader.parameters())
        steps = epochs * (n // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps, pct_start=0.2)
        for epoch in range(epochs):
            for ids in batches(n, BATCH, seed, epoch):
                optimizer.zero_grad()
                reader.losses(pictures[ids].to(here), scenes[ids].to(here), wear=True)["loss"].backward()
                optimizer.step()
                schedule.step()
    reader.eval()
    reader.config["real"] = attribute_scores(reader, pictures[n:], scenes[n:])
    return reader.cpu()


def attribute_scores(reader: SceneReader, painted: Any, scenes: Any) -> dict[str, float]:
    """`scene_scores` of what the reader sees in ``painted``, (n, 3, size, size) uint8; ``scenes`` (n, 9): asked for."""
    return scene_scores(reader.read(painted), scenes)


def scene_scores(read: Any, asked: Any) -> dict[str, float]:
    """How much of the scenes that were asked for was read in the pictures; both (n, 9) codes. From 0 to 1.

    - "place": of the objects asked for, at whose place there is something;
    - "size", "colour", "shape": of the same objects, at whose place that is right; where nothing is, it is wrong;
    - "object": of the same objects, at whose place all three are right;
    - "nothing else": of the places where nothing was asked for, which are empty; NaN when there is no such place;
    - "scene": of the pictures, in which all nine places are as asked for.

    Under "chance/place" and so on the same, every picture judged by what was asked for of each of the n - 1 others:
    what these pictures reach when they heed nothing of their own. It is exact: no permutation is drawn.

    Raises ValueError for other shapes and codes, for fewer than two scenes and when no object was asked for.
    """
    read, asked = check_scenes(read).long(), check_scenes(asked).long()
    if read.shape != asked.shape or len(read) < 2 or not asked.any():
        raise ValueError(
            "read and asked are the codes of as many scenes, two or more, with an object asked for; got "
            f"{tuple(read.shape)} read and {tuple(asked.shape)} asked for, with {int((asked > 0).sum())} objects"
        )
    n = len(read)
    # How often each code was read, and asked for, at each place: (9, CODES + 1).
    was_read, was_asked = (F.one_hot(some, CODES + 1).sum(dim=0).double() for some in (read, asked))
    found: dict[str, float] = {}
    for name, right in RIGHT.items():
        total = int((asked == 0).sum() if name == "nothing else" else (asked > 0).sum())
        hits = int(right[read, asked].sum())
        pairs = float(((was_read @ right.double()) * was_asked).sum())  # hits of every picture with every scene
        found[name], found[f"chance/{name}"] = _shares(hits, pairs, total, n)
    numbers, which = torch.cat([scene_id(read), scene_id(asked)]).unique(return_inverse=True)
    count_read, count_asked = (some.bincount(minlength=len(numbers)) for some in which.split(n))
    hits = int((read == asked).all(dim=1).sum())
    found["scene"], found["chance/scene"] = _shares(hits, float((count_read * count_asked).sum()), n, n)
    return found


def _shares(hits: int, pairs: float, total: int, n: int) -> tuple[float, float]:
    return (hits / total, (pairs - hits) / ((n - 1) * total)) if total else (math.nan, math.nan)


def _right() -> dict[str, Tensor]:
    """By name what is right: (CODES + 1, CODES + 1) bool, of a code that was read and one that was asked for."""
    read, asked = torch.arange(CODES + 1)[:, None], torch.arange(CODES + 1)[None, :]
    alike = ATTRIBUTES[:, None] == ATTRIBUTES  # an empty place has no attribute: it is like another alone
    return {
        "place": (read > 0) & (asked > 0),
        "nothing else": (read == 0) & (asked == 0),
        **{name: alike[..., i] & (asked > 0) for i, name in enumerate(("size", "colour", "shape"))},
        "object": (read == asked) & (asked > 0),
    }


RIGHT = _right()
