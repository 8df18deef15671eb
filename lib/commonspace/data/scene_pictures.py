"""Pictures of scenes that are drawn when they are asked for."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from commonspace.data import files, scene_camera, scene_chance, scene_grammar, scene_pixels, scene_rays, scene_solids
from commonspace.data.pictures import kept_pixels
from commonspace.data.scene_chance import below
from commonspace.data.scene_grammar import CODES, scene_id

MAX_JITTER = 0.125
# Pixels drawn together: few enough for a CPU's cache, enough to fill a GPU. Solids take 1.5 kB for each.
AT_ONCE = {(2, "cpu"): 2**20, (3, "cpu"): 2**15, (2, "cuda"): 2**24, (3, "cuda"): 2**22}


def check_scenes(scenes: Any) -> Tensor:
    """(n, 9) uint8 on the CPU. Raises ValueError for another shape, for numbers that are not whole or not 0 .. 48."""
    scenes = torch.as_tensor(np.asarray(scenes.cpu() if isinstance(scenes, Tensor) else scenes))
    if scenes.ndim != 2 or scenes.shape[1] != 9 or scenes.is_floating_point() or scenes.dtype == torch.bool:
        raise ValueError(f"scenes are whole numbers of shape (n, 9); got {scenes.dtype} of shape {tuple(scenes.shape)}")
    if scenes.numel() and not 0 <= int(scenes.min()) <= int(scenes.max()) <= CODES:
        raise ValueError(f"codes of objects go from 0 to {CODES}; got {int(scenes.min())} to {int(scenes.max())}")
    return scenes.to(torch.uint8)


class ScenePictures:
    """``pictures[ids]`` is (b, 3, size, size) uint8, RGB, on the CPU, with ``ids`` a tensor or list.

    One id gives (3, size, size); a slice and a boolean mask work as well. ``scenes``: (n, 9) codes, see
    `scene_grammar`. ``dimensions``: 2 for `scene_pixels.draw_flat`, 3 for `scene_rays.draw_solid`. ``jitter``: how far
    an object may be off its place, 0 to 0.125 of the distance between two places. ``device``: where it is drawn.

    A picture is a function of its scene, ``size``, ``dimensions``, ``seed`` and ``jitter``: not of its number, nor of
    what else is drawn with it. Raises ValueError for what is out of range; ``size`` goes from 32 to 224.
    """

    def __init__(
        self,
        scenes: Any,
        size: int = 64,
        dimensions: int = 2,
        seed: int = 0,
        jitter: float = 0.0,
        device: str | torch.device = "cpu",
    ):
        if not isinstance(size, int) or isinstance(size, bool) or not 32 <= size <= 224:
            raise ValueError(f"size is the side of the pictures in pixels, a whole number from 32 to 224; got {size!r}")
        if dimensions not in (2, 3) or isinstance(dimensions, bool):
            raise ValueError(f"dimensions must be 2 (flat shapes) or 3 (solids on a table); got {dimensions!r}")
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an integer from 0 to 2**32 - 1; got {seed!r}")
        if not 0 <= jitter <= MAX_JITTER:
            raise ValueError(f"jitter goes from 0 to {MAX_JITTER} of the distance between two places; got {jitter!r}")
        self.scenes, self.size, self.dimensions = check_scenes(scenes), size, dimensions
        self.seed, self.jitter, self.device = seed, jitter, torch.device(device)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: Any) -> Tensor:
        ids = torch.arange(len(self))[index]
        if ids.ndim == 0:
            return self._draw(self.scenes[ids][None])[0]
        step = max(1, AT_ONCE.get((self.dimensions, self.device.type), 2**15) // self.size**2)
        if len(ids) <= step:
            return self._draw(self.scenes[ids])
        out = torch.empty((len(ids), 3, self.size, self.size), dtype=torch.uint8)
        for start in range(0, len(ids), step):
            out[start : start + step] = self._draw(self.scenes[ids[start : start + step]])
        return out

    def _draw(self, scenes: Tensor) -> Tensor:
        most, shift = round(self.jitter * 512), None
        if most:  # places are 512 apart, in a flat picture's 1536ths as well: the same numbers serve both
            number = scene_id(scenes).numpy()[:, None]
            shift = (below(2 * most + 1, self.seed, number, 0, np.arange(18)) - most).reshape(-1, 9, 2)
        there = scenes.to(self.device)
        if self.dimensions == 2:
            return scene_pixels.draw_flat(there, self.size, shift).cpu()
        return scene_rays.draw_solid(there, self.size, self.seed, shift).cpu()

    def drawn(self) -> Tensor:
        """All of them, (n, 3, size, size) uint8. Solids are kept in the cache folder ``scenes-pixels`` from then on."""
        if self.dimensions == 2:
            return self[:]
        kept = files.cache_dir() / "scenes-pixels" / f"{self._digest()}.npy"
        return kept_pixels(kept, lambda: self[:], f"  drawing {len(self):,} pictures, this once")

    def _digest(self) -> str:
        """Of all that the pictures depend on, the code that draws them included."""
        known = hashlib.sha256(repr((self.size, self.dimensions, self.seed, self.jitter)).encode())
        for module in (scene_camera, scene_chance, scene_grammar, scene_pixels, scene_rays, scene_solids):
            known.update(Path(module.__file__).read_bytes())
        known.update(self.scenes.numpy().tobytes())
        return known.hexdigest()[:16]
