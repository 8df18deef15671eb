"""Features of pictures: computed once by `commonspace.encoders.extract`, kept on disk, read by training.

The features of a data set's part are one file, ``<part>.npy``, with (n, d) float32 in the order of its pictures; beside
it ``<part>.json``, the manifest, says which pictures and which network they are of. Both are in
``$COMMONSPACE_CACHE/features/<data>-<network>-<1crop or 10crop>/``. The rows are what the network gave, not normalised.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from commonspace.data import files

COMMAND = "python data_scripts/extract_features.py"
OTHERS = {  # what a digest in a manifest stands for
    "names_sha256": "the pictures are others, or in another order",
    "encoder_sha256": "the encoder has other weights",
}


def features_folder(data: str, network: str, weights: str | None = "DEFAULT", crops: int = 1) -> Path:
    """Where the features of a data set are. Weights other than "DEFAULT" are in the name, None as "random"."""
    own = [] if weights == "DEFAULT" else [weights or "random"]
    return files.cache_dir() / "features" / "-".join([data, network, *own, f"{crops}crop"])


def command(data: str, network: str, weights: str | None = "DEFAULT", crops: int = 1) -> str:
    """The command that makes them."""
    own = "" if weights == "DEFAULT" else f" --weights {weights or 'none'}"
    return f"{COMMAND} --data {data} --network {network}{own}" + (f" --crops {crops}" if crops != 1 else "")


def names_of(images: Any) -> list[str]:
    """File names, without folders, of `commonspace.data.Pictures`; a list of names is taken as it is."""
    return [PurePosixPath(place).name for place in getattr(images, "places", images)]


def about_pictures(images: Any) -> dict[str, Any]:
    """What a manifest says of the pictures: how many, and the SHA-256 of their names in their order."""
    names = names_of(images)
    return {"pictures": len(names), "names_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest()}


def manifest_of(path: Path) -> Path:
    """The manifest's path, beside the features'."""
    return path.with_suffix(".json")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the features at ``path``, {} where there is none. Raises ValueError for a damaged one."""
    try:
        manifest = json.loads(manifest_of(path).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise ValueError(f"{files.shown(manifest_of(path))} is damaged. {anew(path)}")
    return manifest


def anew(path: Path) -> str:
    """What to do about features that will not do."""
    return f"To make the features anew, delete {files.shown(path.parent / path.stem)}.* and run {COMMAND} again"


def check_manifest(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of the features at ``path``. Raises ValueError when it says anything other than what is wanted."""
    manifest = read_manifest(path)
    if others := [key for key, value in wanted.items() if manifest.get(key) != value]:
        said = [OTHERS.get(key, f"{key} is {manifest.get(key)!r}, not {wanted[key]!r}") for key in others]
        raise ValueError(f"{files.shown(path)} is of other pictures or settings: {'; '.join(said)}. {anew(path)}")
    return manifest


class FeatureRows:
    """Rows of features in an .npy file, read when asked for: ``rows[ids]`` is (b, d) float32, ``ids`` a tensor or list.

    A slice and a boolean mask work as well, and one id gives (d,). ``shape`` is (n, d). They stand where pictures do:
    ``PairedSamples(images=rows, texts=texts)``. The file is mapped, not read, and each process that gets the rows
    pickled maps it anew. ``path``: any .npy file with (n, d) float32.

    Raises FileNotFoundError that names the ``command`` which makes the file, ValueError for a damaged one.
    """

    def __init__(self, path: str | os.PathLike, command: str = COMMAND):
        self.path = Path(path)
        self._mapped: np.ndarray | None = None
        if not self.path.is_file():
            raise FileNotFoundError(
                f"these features are not on this machine. Make them with\n  {command}\nLooked for\n  "
                f"{files.shown(self.path)}"
            )
        try:
            rows = self._rows()
            whole = rows.offset + rows.nbytes == self.path.stat().st_size
        except (ValueError, EOFError) as error:  # numpy's words for what is no .npy file, or cut short
            raise ValueError(f"{files.shown(self.path)} is damaged or cut short ({error}). {anew(self.path)}") from None
        if rows.ndim != 2 or rows.dtype != np.float32 or not whole:
            raise ValueError(
                f"{files.shown(self.path)} must hold float32 of shape (n, d) and nothing else; got {rows.dtype} of "
                f"shape {rows.shape}{'' if whole else ' and more'}. {anew(self.path)}"
            )
        self.shape: tuple[int, int] = rows.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> torch.Tensor:
        ids = torch.arange(len(self))[index].numpy()
        return torch.from_numpy(np.take(self._rows(), ids, axis=0))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": None}

    def _rows(self) -> np.ndarray:
        if self._mapped is None:
            self._mapped = np.load(self.path, mmap_mode="r")
        return self._mapped


def features_of(
    data: str,
    network: str,
    parts: Mapping[str, Sequence[str] | Any],
    crops: int = 1,
    weights: str | None = "DEFAULT",
) -> dict[str, FeatureRows]:
    """The features of a data set's parts, by their names: row i of a part is of its picture i.

    ``parts``: by the part's name its `commonspace.data.Pictures`, of any size, or the pictures' file names.
    ``network``, ``crops`` (1 or 10) and ``weights`` are those the features were made with.

    Raises FileNotFoundError that names the command when a part has none; ValueError when they are of other pictures or
    another setting, are damaged, or when two parts are of networks with different weights.
    """
    folder, make = features_folder(data, network, weights, crops), command(data, network, weights, crops)
    rows, networks = {}, {}
    for part, images in parts.items():
        rows[part] = FeatureRows(folder / f"{part}.npy", f"{make} --parts {part}")
        wanted = {"data": data, "part": part, "network": network, "weights": weights, "crops": crops}
        manifest = check_manifest(rows[part].path, wanted | about_pictures(images))
        if len(rows[part]) != manifest["pictures"]:
            raise ValueError(
                f"{files.shown(rows[part].path)} has {len(rows[part]):,} rows for {manifest['pictures']:,} pictures. "
                f"{anew(rows[part].path)}"
            )
        networks[part] = manifest["encoder_sha256"]
    if len(set(networks.values())) > 1:
        raise ValueError(
            f"{files.shown(folder)}: {', '.join(networks)} were not made with the same weights of {network}; "
            f"torchvision may have changed its default. Delete that folder and run\n  {make}"
        )
    return rows
