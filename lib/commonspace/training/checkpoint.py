"""Files that are whole or not there: a model's folder (weights.safetensors, config.json), and the state of a run.

What is written goes to a temporary name, is flushed to the disk and then renamed, so that a process killed at any
moment leaves the file that was there before, or the new one.
"""

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

WEIGHTS, CONFIG = "weights.safetensors", "config.json"
CHECKSUM = "weights_sha256"


# ---- the model ------------------------------------------------------------------------------------------------------


def save_model(module: nn.Module, folder: str | os.PathLike, config: dict) -> Path:
    """Write the weights and ``config`` (what builds the module again, vocabulary included) into ``folder``.

    An older model there stays until the new one is complete. Tensors that share memory are written once each, so
    nothing depends on how they lay in memory.

    Raises TypeError when ``config`` is more than JSON holds (numbers, text, lists, mappings with text as keys), and
    FileExistsError when ``folder`` has files of something else, which replacing it would lose.
    """
    folder = Path(folder)
    text = _to_json(config)
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in _tensors(module)
    }
    others = {path.name for path in folder.iterdir()} - {WEIGHTS, CONFIG} if folder.exists() else set()
    if others:
        raise FileExistsError(f"{folder} holds {min(others)} beside a model: save the model into a folder of its own")
    weights = save(tensors)
    text = _to_json({CHECKSUM: hashlib.sha256(weights).hexdigest(), "config": json.loads(text)})

    new, old = _beside(folder, "new"), _beside(folder, "old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for name, content in [(WEIGHTS, weights), (CONFIG, text.encode())]:
        (new / name).write_bytes(content)
        _flush(new / name)
    _flush(new)
    if folder.exists():  # else ``old`` may be all there is, after a kill between the two renames
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
    os.rename(new, folder)
    _flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def load_model(folder: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """The state dict (on the CPU) and the config that ``save_model`` wrote.

    Raises FileNotFoundError that names what is missing, ValueError that names the file that is damaged.
    """
    folder = Path(folder)
    if not folder.exists() and _beside(folder, "old").exists():  # killed between the two renames of save_model
        folder = _beside(folder, "old")
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no saved model: {name} is missing. Save the model again")
    try:
        content = json.loads((folder / CONFIG).read_bytes())
        config, checksum = content["config"], content[CHECKSUM]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG} is damaged ({error!r}). Save the model again") from None
    weights = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != checksum:
        raise ValueError(f"{folder / WEIGHTS} is damaged: its SHA-256 is not that of {CONFIG}. Save the model again")
    try:
        return load(weights), config
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged ({error}). Save the model again") from None


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name} of {type(module).__name__} is a {type(value).__name__}; a model file holds tensors"
            )
        yield name, value


def _to_json(config: dict) -> str:
    def check(value: Any, where: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise TypeError(f"{where} has the key {key!r}; JSON would turn it into text")
                check(inner, f"{where}[{key!r}]")
        elif isinstance(value, list | tuple):
            for i, inner in enumerate(value):
                check(inner, f"{where}[{i}]")
        elif not isinstance(value, str | int | float | None):
            raise TypeError(f"{where} is a {type(value).__name__}; JSON holds numbers, text, lists and mappings")

    check(config, "config")
    return json.dumps(config, indent=1, ensure_ascii=False)


# ---- the state of a run ---------------------------------------------------------------------------------------------


def save_state(path: str | os.PathLike, state: dict) -> None:
    """Write tensors, numbers, text, lists, tuples and dicts of them into one file, in place of an older one."""
    with _new_file(Path(path)) as part:
        torch.save(state, part)


def load_state(path: str | os.PathLike) -> dict:
    """What ``save_state`` wrote, on the CPU; read with ``weights_only=True``, so no code of the file's is run.

    Raises FileNotFoundError, or ValueError that names the file when it is damaged.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load passes over the checksums
            wrong = archive.testzip()
        if wrong is not None:
            raise ValueError(f"the checksum of {wrong} does not agree")
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: there is no run to continue") from None
    except OSError:
        raise
    except Exception as error:  # whatever zipfile, pickle and torch make of damaged bytes
        raise ValueError(f"{path} is damaged ({error}). Remove it to train afresh") from error


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; it takes its place, on disk, when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path, "new")
    try:
        yield part
        _flush(part)
        os.replace(part, path)
        _flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _beside(path: Path, kind: str) -> Path:
    """A hidden name in the same folder; always the same one, so that what a killed process left is written over."""
    path = path.absolute()
    return path.with_name(f".{path.name}.{kind}")


def _flush(path: Path) -> None:
    with contextlib.suppress(PermissionError):  # Windows opens no folder
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
