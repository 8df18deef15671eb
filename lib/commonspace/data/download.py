"""Bricks of the data scripts: fetch, unpack, write and verify, each of them wholly or not at all."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from commonspace.data.files import shown

MANIFEST = "manifest.json"


class DataError(RuntimeError):
    """A data set cannot be fetched, unpacked or trusted; the message says why and what to do."""


def sha256(path: str | os.PathLike) -> str:
    """The file's SHA-256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(path: Path) -> Path:
    """A new hidden name in the same folder, so that renaming it to ``path`` never crosses a file system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}-{secrets.token_hex(6)}")


@contextlib.contextmanager
def new_file(path: str | os.PathLike, wait: bool = True) -> Iterator[BinaryIO]:
    """Write a file under a temporary name; it takes its place, whole and on disk, when the block ends without error.

    After an error nothing is left of it, and what was at ``path`` before is still there. ``wait=False`` does not wait
    until it is on the disk: for many small files, after which the caller waits once.
    """
    path = Path(path)
    part = _beside(path)
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            if wait:
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Fill a folder under a temporary name; it replaces ``path`` when the block ends without error.

    After an error the old folder is still there. When two processes make the same folder, the first one's stays.
    """
    path = Path(path)
    part = _beside(path)
    old = part.with_name(part.name + "-old")
    replaces = path.exists()
    part.mkdir()
    try:
        yield part
        if replaces:
            with contextlib.suppress(FileNotFoundError):  # another process is replacing it as well
                os.rename(path, old)
        try:
            os.rename(part, path)
        except OSError:
            if old.exists() and not path.exists():
                os.rename(old, path)
            if replaces or not path.is_dir():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_manifest(folder: str | os.PathLike, **facts: Any) -> None:
    """Write ``manifest.json``: the facts, and size and SHA-256 of every file below the folder. Write it last."""
    folder = Path(folder)
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }
    with new_file(folder / MANIFEST) as file:
        file.write(json.dumps({**facts, "files": files}, indent=1, ensure_ascii=False).encode())


def read_manifest(folder: str | os.PathLike) -> dict:
    """The manifest of a prepared folder. Raises DataError when it is missing, or is not one."""
    try:
        manifest = json.loads((Path(folder) / MANIFEST).read_bytes())
        manifest["files"].items()
    except FileNotFoundError:
        raise DataError(f"{MANIFEST} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{MANIFEST} is damaged") from None
    return manifest


def problems(folder: str | os.PathLike, by_size: Collection[str] = ()) -> list[str]:
    """What differs from the manifest, one line a file: ``x is missing``, ``x is altered: ...``; else empty.

    Of the files ``by_size`` only the size is compared, where reading them all would make a loader slow.
    """
    try:
        files = read_manifest(folder)["files"]
    except DataError as error:
        return [str(error)]
    found = []
    for name, facts in files.items():
        path = Path(folder) / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != facts["bytes"]:
            found.append(f"{name} is altered: {path.stat().st_size:,} bytes, {facts['bytes']:,} were written")
        elif name not in by_size and sha256(path) != facts["sha256"]:
            found.append(f"{name} is altered: its size is right, its SHA-256 is not")
    return found


@contextlib.contextmanager
def mendable(folder: str | os.PathLike, command: str, by_size: Collection[str] = ()) -> Iterator[None]:
    """Around a loader's reading of a folder: a ValueError in the block names the folder and the command that mends it.

    The folder is compared with its manifest first, if it has one: files put there by hand have none.
    """
    try:
        found = problems(folder, by_size) if (Path(folder) / MANIFEST).exists() else []
        if found:
            raise ValueError("; ".join(found))
        yield
    except ValueError as error:
        raise ValueError(f"{shown(folder)}: {error}. Mend it with\n  {command}") from None


def _continue_download(url: str, part: Path) -> None:
    """Fetch what is missing of ``part``. Raises requests' exceptions, or EOFError when the connection broke off."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=(15, 60)) as response:
        content_range = response.headers.get("Content-Range", "")
        if response.status_code == 416 and content_range == f"bytes */{have}":
            return  # an earlier run fetched the last byte and was stopped before the renaming
        if response.status_code == 416 or (
            response.status_code == 206 and not content_range.startswith(f"bytes {have}-")
        ):
            part.unlink()
            raise EOFError("the server does not continue where the last run stopped; run again to start afresh")
        response.raise_for_status()
        resumed = response.status_code == 206
        length = response.headers.get("Content-Length")
        response.raw.enforce_content_length = False  # else the bytes before a break would be dropped; we compare below
        with open(part, "ab" if resumed else "wb") as file:
            try:
                for chunk in response.iter_content(1 << 14):
                    file.write(chunk)
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, requests.Timeout):
                pass  # the length below tells
            size = file.tell()
    if length is not None and size != (have if resumed else 0) + int(length):
        raise EOFError(f"broke off after {size:,} of {(have if resumed else 0) + int(length):,} bytes")


def fetch(url: str, path: str | os.PathLike, sha256: str | None = None) -> Path:
    """Download to ``path``, once; a broken download continues, now and in the next run. Returns ``path``.

    ``path`` appears when the file is whole and, if ``sha256`` is given, right. Bytes fetched so far wait in
    ``path.part``. Raises DataError: no connection, an answer like 404, a connection that keeps breaking, a wrong
    SHA-256 (the file is thrown away), a full disk.
    """
    import pooch
    import requests

    path = Path(path)
    part = path.with_name(path.name + ".part")

    def downloader(url: str, output_file: str, _pooch: Any) -> None:
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                _continue_download(url, part)
                os.replace(part, output_file)
                return
            except EOFError:
                if not part.exists() or part.stat().st_size <= before:  # no progress: do not try for ever
                    raise

    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(url, sha256 and f"sha256:{sha256}", fname=path.name, path=path.parent, downloader=downloader)
    except requests.HTTPError as error:
        raise DataError(f"{url}: the server answered {error.response.status_code}") from None
    except requests.Timeout:
        raise DataError(f"{url}: no answer in time") from None
    except requests.RequestException as error:
        raise DataError(f"{url}: no connection ({type(error).__name__})") from None
    except EOFError as error:
        raise DataError(f"{url}: {error}; what has come is kept, run again to continue") from None
    except ValueError as error:  # pooch's word for a wrong hash
        raise DataError(f"{url}: not the file expected, thrown away. {error}") from None
    except OSError as error:
        raise DataError(f"{path.name} cannot be written: {error.strerror}") from None
    return path


def _refuse(archive: Path, name: str, why: str) -> None:
    raise DataError(f"{archive.name} is refused: {name!r} {why}. Nothing was unpacked")


def extract(
    archive: str | os.PathLike, folder: str | os.PathLike, limit: int = 4 << 30, names: Collection[str] | None = None
) -> None:
    """Unpack a zip or tar archive below ``folder``; with ``names``, the files of these names alone.

    The whole archive is refused, before anything is written, if one entry is not a plain file or folder, would land
    outside, or the files together exceed ``limit`` bytes. Raises DataError, also for a damaged archive.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with contextlib.ExitStack() as stack:
            if tarfile.is_tarfile(archive):
                tar = stack.enter_context(tarfile.open(archive))
                entries = [(m.name, m.size, m.isdir(), m.isfile() or m.isdir(), m) for m in tar]
                opened = tar.extractfile
            elif zipfile.is_zipfile(archive):
                file = stack.enter_context(zipfile.ZipFile(archive))
                plain = (0, stat.S_IFREG, stat.S_IFDIR)
                entries = [
                    (i.filename, i.file_size, i.is_dir(), stat.S_IFMT(i.external_attr >> 16) in plain, i)
                    for i in file.infolist()
                ]
                opened = file.open
            else:
                raise DataError(f"{archive.name} is neither a zip nor a tar archive, or it is damaged")
            for name, _, _, is_plain, _ in entries:
                if not is_plain:
                    _refuse(archive, name, "is a link or a device")
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name.split("/")[0]:
                    _refuse(archive, name, "would land outside the folder")
            if names is not None:
                entries = [entry for entry in entries if not entry[2] and PurePosixPath(entry[0]).name in names]
            total = sum(size for _, size, _, _, _ in entries)
            if total > limit:
                raise DataError(f"{archive.name} is refused: it unpacks to {total:,} bytes, {limit:,} are allowed")
            for name, _, is_dir, _, entry in entries:
                target = folder / name
                if is_dir:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                with opened(entry) as source, new_file(target, wait=False) as file:
                    shutil.copyfileobj(source, file)
            if hasattr(os, "sync"):  # not on Windows
                os.sync()
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{archive.name} is damaged: {error}") from None
