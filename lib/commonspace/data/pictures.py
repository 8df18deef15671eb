"""Pictures that stay in their files until they are asked for: in a folder, or in one file ``images.zip``."""

import hashlib
import io
import os
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from commonspace.data import files
from commonspace.data.download import new_file

FOLDERS = ("images", "Images", "Flicker8k_Dataset")  # the owners' own names
FILTERS = ("lanczos", "bilinear")
_opening = threading.Lock()


def listing(folder: str | os.PathLike) -> tuple[Path, dict[str, str]]:
    """Where a data set's pictures are, and the place in there of each picture by file name.

    That is ``images.zip``, or a folder ``images`` (also under the owners' names), below ``folder``; without either, no
    picture. Raises ValueError for a damaged zip.
    """
    folder = Path(folder)
    archive = folder / "images.zip"
    if archive.is_file():
        return archive, {name.rsplit("/", 1)[-1]: name for name in names_in_zip(archive) if name[-1] != "/"}
    for name in FOLDERS:
        if (folder / name).is_dir():
            return folder / name, {path.name: path.name for path in (folder / name).iterdir() if path.is_file()}
    return archive, {}


def names_in_zip(archive: Path) -> list[str]:
    """The places in a zip. Raises ValueError for a damaged one."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{files.shown(archive)} is damaged or cut short ({error})") from None


def check_size(size: Any) -> tuple[int, int]:
    """``size`` as (height, width). Raises ValueError unless these are two whole numbers from 1 to 1024 [pixels]."""
    try:
        height, width = size
        if not all(isinstance(s, int) and not isinstance(s, bool) and 1 <= s <= 1024 for s in (height, width)):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"size is (height, width) of the pictures, 1 to 1024 pixels; got {size!r}") from None
    return height, width


def kept_pixels(kept: Path, make: Callable[[], torch.Tensor], said: str) -> torch.Tensor:
    """The pixels in the file ``kept``, mapped; else what ``make`` gives, and from then on kept there.

    ``said`` is printed before they are made.
    """
    try:
        # "c": mapped, not read; what is changed in memory never reaches the file.
        return torch.from_numpy(np.load(kept, mmap_mode="c"))
    except (OSError, ValueError, EOFError):  # not there yet, or damaged
        pass
    print(said, flush=True)
    pixels = make()
    try:
        with new_file(kept) as file:
            np.save(file, pixels.numpy())
    except OSError:  # a full disk or a cache that cannot be written costs this time at the next start, no more
        pass
    return pixels


class Pictures:
    """Pictures decoded when asked for: ``pictures[ids]`` is (b, 3, h, w) uint8, RGB, with ``ids`` a tensor or list.

    One id gives (3, h, w); a slice and a boolean mask work as well. Each picture is scaled so that it fills ``size`` =
    (h, w), and what stands out is cut off on both sides alike. ``where``, ``places``: from `listing`, one place a
    picture. ``filter``: Pillow's for scaling, "lanczos" or "bilinear". Can be pickled and read from several threads and
    processes. Raises ValueError for a damaged picture.
    """

    def __init__(self, where: str | os.PathLike, places: list[str], size: tuple[int, int], filter: str = "lanczos"):
        if filter not in FILTERS:
            raise ValueError(f"filter must be one of {', '.join(FILTERS)}; got {filter!r}")
        self.where, self.places, self.size, self.filter = Path(where), list(places), check_size(size), filter
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> torch.Tensor:
        ids = torch.arange(len(self))[index]
        if ids.ndim == 0:
            return self._decode(int(ids))
        out = torch.empty((len(ids), 3, *self.size), dtype=torch.uint8)
        for row, i in enumerate(ids.tolist()):
            out[row] = self._decode(i)
        return out

    def subset(self, rows: Any) -> "Pictures":
        """The same with these rows only, still in their files."""
        return Pictures(self.where, [self.places[int(i)] for i in rows], self.size, self.filter)

    def scaled(self, size: tuple[int, int], filter: str = "lanczos") -> "Pictures":
        """The same at another size, still in their files."""
        return Pictures(self.where, self.places, size, filter)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_opened": None}  # another process opens the zip by itself

    def _zip(self) -> zipfile.ZipFile:
        with _opening:
            # A forked process shares the place in an open file with its parent: each would move the other's.
            if self._opened is None or self._opened[0] != os.getpid():
                self._opened = os.getpid(), zipfile.ZipFile(self.where)
            return self._opened[1]

    def _decode(self, i: int) -> torch.Tensor:
        from PIL import Image, ImageOps

        place, (height, width) = self.places[i], self.size
        try:
            data = (self.where / place).read_bytes() if self.where.is_dir() else self._zip().read(place)
            with Image.open(io.BytesIO(data)) as image:
                by = Image.Resampling[self.filter.upper()]
                fitted = ImageOps.fit(image.convert("RGB"), (width, height), by)
        except (OSError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"{files.shown(self.where)}: the picture {place} is missing or damaged ({error}); prepare it again"
            ) from None
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)

    def kept(self, name: str) -> torch.Tensor:
        """All pictures, decoded once into the cache folder ``name`` and mapped from there: (n, 3, h, w) uint8."""
        by = "" if self.filter == "lanczos" else f"-{self.filter}"
        kept = files.cache_dir() / name / f"{self._digest()}-{self.size[0]}x{self.size[1]}{by}.npy"
        return kept_pixels(kept, lambda: self[:], f"  decoding {len(self):,} pictures, this once")

    def _digest(self) -> str:
        """Of the pictures' names and contents; for a folder, of their sizes and times instead."""
        if self.where.is_dir():
            stats = (os.stat(self.where / place) for place in self.places)
            known = [(place, s.st_size, s.st_mtime_ns) for place, s in zip(self.places, stats, strict=True)]
        else:
            known = [(place, self._zip().getinfo(place).CRC) for place in self.places]
        return hashlib.sha256(repr(known).encode()).hexdigest()[:16]
