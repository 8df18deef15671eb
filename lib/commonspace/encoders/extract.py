"""Features of all pictures of a part, computed once: block by block, each on disk before the next begins.

The protocol of papers on pictures and sentences: the shorter side of a picture is scaled to 256 pixels; a frozen
network sees the central 224 x 224 ("1crop"), or ten crops of that size whose vectors are averaged ("10crop").

The ten are those of A. Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012:
the central 256 x 256 square is cut out first (section 2); of that the four corners and the centre, and their mirror
images (section 4.1). Its centre is the centre of the whole picture.

DEVIATIONS
- torchvision's TenCrop takes the corners of the whole picture, not of the square: of a wide one, they lie further out.
- torchvision's Resize and CenterCrop round sides and offsets to whole pixels. `commonspace.data.Pictures` does not, and
  a crop may be shifted by less than a pixel.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from commonspace.data import files
from commonspace.encoders.features import (
    FeatureRows,
    about_pictures,
    anew,
    check_manifest,
    manifest_of,
    names_of,
    read_manifest,
)
from commonspace.encoders.image import RESNETS, ImageEncoder, ResNet
from commonspace.encoders.vgg import VGG, VGGS

NETWORKS = RESNETS | dict.fromkeys(VGGS, VGG.out_dim)  # name -> out_dim


def image_network(name: str, weights: str | None = "DEFAULT") -> ImageEncoder:
    """One of ``NETWORKS``, frozen. Without weights they are random, but the same every time. Raises ValueError."""
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}; got {name!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return (ResNet if name in RESNETS else VGG)(name, weights, trainable="none").eval()


def crop_views(pictures: torch.Tensor, crop: int, crops: int) -> list[torch.Tensor]:
    """Of (b, 3, h, w) the central (b, 3, crop, crop), or ten of these: corners, centre, and their mirror images."""
    low, right = (side - crop for side in pictures.shape[2:])
    middle = (low // 2, right // 2)
    places = [middle] if crops == 1 else [(0, 0), (0, right), (low, 0), (low, right), middle]
    views = [pictures[:, :, top : top + crop, left : left + crop] for top, left in places]
    return views if crops == 1 else views + [view.flip(-1) for view in views]


def extract_features(
    images: Any,
    encoder: nn.Module,
    path: str | os.PathLike,
    *,
    crops: int = 1,
    resize: int = 256,
    crop: int = 224,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    workers: int = 1,
    progress: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> FeatureRows:
    """The features of all pictures, in their order, at ``path`` (an .npy file); made now, or there already.

    ``images``: `commonspace.data.Pictures`, of any size: they are decoded anew at ``resize`` x ``resize`` [pixels], by
    ``workers`` threads, one block ahead of the encoder. ``encoder``: (b, 3, crop, crop) uint8 -> (b, out_dim); it is
    put into evaluation mode and on ``device``. ``crops``: 1 or 10. ``progress``: show a bar. ``facts``: what else the
    manifest says, strings and numbers by name.

    A run that was stopped goes on behind its last whole block of ``batch_size`` pictures; on a CPU, with the same
    ``batch_size``, the file is then the same, byte for byte, as that of a run in one go. ``path`` appears when all
    is done. A file there that is cut short or altered is made anew.

    Raises ValueError for a bad argument, a damaged picture, features that are not finite, and when there are features
    of other pictures, another encoder or other settings at ``path``; OSError for a full disk, or when another process
    makes the same file. What was done before is kept.
    """
    path = Path(path)
    if not hasattr(images, "scaled"):
        raise ValueError(f"images must be commonspace.data.Pictures, still in their files; got {type(images).__name__}")
    if crops not in (1, 10):
        raise ValueError(f"crops must be 1 or 10, got {crops!r}")
    if not 1 <= crop <= resize or batch_size < 1 or workers < 1:
        raise ValueError(
            "crop must be from 1 to resize, batch_size and workers 1 or more; "
            f"got crop={crop}, resize={resize}, batch_size={batch_size}, workers={workers}"
        )
    images, encoder = images.scaled((resize, resize), "bilinear"), encoder.eval().to(device)
    settings = {"crops": crops, "resize": resize, "crop": crop, "width": encoder.out_dim}
    wanted = {**(facts or {}), **settings, **about_pictures(images), "encoder_sha256": _state_sha256(encoder)}
    if not is_made(path, wanted):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if not is_made(path, wanted):  # another process may have made it meanwhile
                _make(path, wanted, _Blocks(images, encoder, crops, crop, batch_size, device, workers), progress)
    return FeatureRows(path)


def is_made(path: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether there are features at ``path``, whole and unaltered. Raises ValueError for others than are wanted.

    ``wanted``: what the manifest must say, or some of it.
    """
    if read_manifest(path):
        manifest = check_manifest(path, wanted)
        return path.exists() and _sha256(path) == manifest.get("sha256")
    if path.exists():
        raise ValueError(f"{files.shown(path)} has no manifest, it is not known what it is of. {anew(path)}")
    return False


@dataclass(frozen=True)
class _Blocks:
    """Pictures to rows of features, a block at a time."""

    images: Any
    encoder: nn.Module
    crops: int
    crop: int
    batch_size: int
    device: str | torch.device
    workers: int

    def rows(self, start: int) -> Iterator[np.ndarray]:
        """(b, out_dim) float32 of one block after the other, from picture ``start``. Raises ValueError."""
        for pictures in self._decoded(start):
            with torch.inference_mode():
                views = [self.encoder(v.to(self.device)).float() for v in crop_views(pictures, self.crop, self.crops)]
                rows = torch.stack(views).mean(dim=0).cpu()
            if rows.shape != (len(pictures), self.encoder.out_dim):
                raise ValueError(
                    f"the encoder must give (b, {self.encoder.out_dim}), its out_dim; of {len(pictures)} pictures it "
                    f"gave {tuple(rows.shape)}"
                )
            if not (good := torch.isfinite(rows).all(dim=1)).all():
                name = names_of(self.images)[start + int((~good).nonzero()[0])]
                raise ValueError(f"the features of {name} are not finite: are the encoder's weights in order?")
            yield rows.numpy()
            start += len(pictures)

    def _decoded(self, start: int) -> Iterator[torch.Tensor]:
        """(b, 3, resize, resize) uint8 of one block after the other; while one is worked on, the next is decoded."""
        n, waiting = len(self.images), []
        with ThreadPoolExecutor(self.workers) as pool:
            for first in range(start, n, self.batch_size):
                block = range(first, min(first + self.batch_size, n))
                waiting.append([pool.submit(self.images.__getitem__, i) for i in block])
                if len(waiting) == 2:
                    yield torch.stack([picture.result() for picture in waiting.pop(0)])
            for block in waiting:
                yield torch.stack([picture.result() for picture in block])


def _make(path: Path, wanted: Mapping[str, Any], blocks: _Blocks, progress: bool) -> None:
    """The file and its manifest, which is there first, so that it is known what an unfinished file is of."""
    part = path.with_name(f"{path.name}.part")
    if path.exists():
        print(f"{files.shown(path)} is altered or cut short; it is made anew", flush=True)
        path.unlink()
    if not read_manifest(path):
        part.unlink(missing_ok=True)
    try:
        _write_manifest(path, wanted)
        _write_rows(part, blocks, path.stem if progress else None)
        _write_manifest(path, wanted | {"sha256": _sha256(part)})
        os.replace(part, path)
    except OSError as error:
        raise OSError(
            f"{files.shown(path)} cannot be written ({error.strerror or error}). What was done is kept: make room and "
            "run again to go on"
        ) from error


def _write_rows(part: Path, blocks: _Blocks, bar: str | None) -> None:
    """Write what is missing of the unfinished file; ``bar``: what stands before a bar. Raises OSError."""
    n, width = len(blocks.images), blocks.encoder.out_dim
    row, header = 4 * width, io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (n, width)})
    header = header.getvalue()
    with open(part, "r+b" if part.exists() else "w+b") as file:
        done = 0
        if file.read(len(header)) == header:
            there = (part.stat().st_size - len(header)) // row
            done = n if there >= n else there // blocks.batch_size * blocks.batch_size
        if (free := shutil.disk_usage(part.parent).free) < (n - done) * row:
            raise OSError(f"{(n - done) * row / 1e6:.0f} MB are needed, {free / 1e6:.0f} are free")
        file.seek(0)
        file.write(header)
        file.seek(done * row, io.SEEK_CUR)
        file.truncate()
        with tqdm(total=n, initial=done, unit="picture", desc=bar, disable=bar is None) as shown:
            for rows in blocks.rows(done):
                file.write(rows.astype("<f4").tobytes())
                file.flush()
                shown.update(len(rows))
        os.fsync(file.fileno())


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Only one process is inside; one that is killed is out. Raises OSError in the second.

    SQLite's lock on a file of its own, because that works on every system.
    """
    lock = path.with_name(f"{path.name}.lock")
    with contextlib.closing(sqlite3.connect(lock, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA journal_mode = OFF")  # nothing is written, which a full disk would not allow
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            why = "another process is making it; wait for that one" if busy else str(error)
            raise OSError(f"{files.shown(path)} cannot be made: {why}") from None
        yield
    with contextlib.suppress(OSError):
        lock.unlink()  # all is in its place: whoever has opened it, or makes another, will find that


def _write_manifest(path: Path, facts: Mapping[str, Any]) -> None:
    new = manifest_of(path).with_name(f"{path.stem}.json.part")
    new.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    os.replace(new, manifest_of(path))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state_sha256(encoder: nn.Module) -> str:
    """Of all weights and buffers, with their names: two encoders of one digest give the same features."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
