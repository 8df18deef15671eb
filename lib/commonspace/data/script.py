"""The frame of a data script: its options, the order of its steps, and one clear line when something fails."""

import argparse
import errno
import io
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonspace.data import files
from commonspace.data.download import DataError, extract, fetch, new_file, problems


def unpacked(path: Path, work: Path, names: Collection[str] | None = None) -> Path:
    """``path`` if it is a folder, or a folder below ``work`` that an archive is unpacked into. Raises DataError.

    ``names``: unpack the files of these names alone.
    """
    if not path.exists():
        raise DataError(f"--from {path}: there is no such folder or archive")
    if path.is_dir():
        return path
    target = Path(tempfile.mkdtemp(prefix="unpacked-", dir=work))
    print(f"  unpacking {path.name}", flush=True)
    extract(path, target, names=names)
    return target


def opened(path: Path, work: Path, inside: tuple[str, ...]) -> list[Path]:
    """The folder or unpacked archive, and what the archives named ``inside`` it unpack to. Raises DataError."""
    folders = [unpacked(path, work)]
    for archive in sorted(path for name in inside for path in folders[0].rglob(name)):
        folders.append(unpacked(archive, work))
    return folders


@dataclass(frozen=True)
class Source:
    """What the step ``gather`` has to work with: the options ``given`` (--from) and ``mirror``, and two folders.

    ``keep``: downloads wait here, also for the next run. ``work``: a new folder that is gone at the end.
    """

    given: Path | None
    mirror: str | None
    keep: Path
    work: Path

    def download(self, url: str, sha256: str | None = None) -> Path:
        """Fetch ``url``, or the file of that name from the mirror, for which the name is enough. Raises DataError."""
        name = url.rpartition("/")[2]
        url = f"{self.mirror.rstrip('/')}/{name}" if self.mirror else url
        print(f"  fetching {url}", flush=True)
        return fetch(url, self.keep / name, sha256)


@dataclass(frozen=True)
class Script:
    """A data script: ``Script(...).main(argv)`` is its command line.

    ``dataset``: the folder's name. ``description``, ``by_hand``: head and end of --help. ``about``: size, source and
    terms, printed first. ``needed_mb``: space while preparing. ``gather(source)`` fetches what ``prepare(gathered,
    folder, work)`` checks and writes, all or nothing; ``statistics(folder)`` gives (what, value) rows to compare.
    """

    dataset: str
    description: str
    by_hand: str
    about: str
    needed_mb: int
    gather: Callable[[Source], Any]
    prepare: Callable[[Any, Path, Path], None]
    statistics: Callable[[Path], list[tuple[str, str]]]

    def table(self, folder: Path) -> str:
        """The statistics in two columns."""
        return "\n".join(f"  {what:<30}{value}" for what, value in self.statistics(folder))

    def run(self, options: argparse.Namespace) -> int:
        """Prepare or verify; returns the exit code. Raises DataError, OSError."""
        home = options.root if options.root is not None else files.cache_dir()
        folder = home / self.dataset
        found = problems(folder) if folder.exists() else ["nothing is prepared"]
        if options.verify:
            print(f"{files.shown(folder)}: {'; '.join(found) or 'all files are as they were written'}")
            return 1 if found else 0
        print(self.about, flush=True)
        if not found:
            print(f"Already in {files.shown(folder)}; nothing to do.\n{self.table(folder)}")
            return 0
        if folder.exists():
            print(f"{files.shown(folder)} is made anew: {'; '.join(found)}")
        home.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(home).free) < self.needed_mb * 1_000_000:
            raise DataError(
                f"{files.shown(home)} has {free / 1e6:.0f} MB free, {self.needed_mb} are needed while preparing"
            )
        keep = home / "downloads" / self.dataset
        with tempfile.TemporaryDirectory(prefix=f".{self.dataset}-", dir=home) as work:
            gathered = self.gather(Source(options.source, options.mirror, keep, Path(work)))
            try:
                self.prepare(gathered, folder, Path(work))
            except (DataError, ValueError):
                shutil.rmtree(keep, ignore_errors=True)  # found wanting; after a full disk they wait for the next run
                raise
        shutil.rmtree(keep, ignore_errors=True)
        print(f"In {files.shown(folder)}:\n{self.table(folder)}")
        return 0

    def main(self, argv: list[str] | None = None) -> int:
        """The command line; returns the exit code."""
        name = f"get_{self.dataset.replace('-', '_')}"
        parser = argparse.ArgumentParser(
            prog=f"{name}.py",
            description=self.description,
            epilog=self.by_hand,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        home = f"$COMMONSPACE_CACHE/{self.dataset}"
        parser.add_argument("--root", type=Path, help=f"prepare in ROOT/{self.dataset} (default: {home})")
        parser.add_argument("--from", dest="source", type=Path, help="a local folder or archive that holds the sources")
        parser.add_argument("--mirror", metavar="URL", help="fetch the same files from this address instead")
        parser.add_argument(
            "--verify", action="store_true", help="check the prepared files; exit code 1 if one is altered"
        )
        try:
            return self.run(parser.parse_args(argv))
        except (DataError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
        except OSError as error:
            hint = f"; free {self.needed_mb} MB and run again" if error.errno == errno.ENOSPC else ""
            print(f"{name}: {error.strerror or error}; nothing was left half-written{hint}", file=sys.stderr)
        return 1


def below(folders: list[Path], name: str) -> Path:
    """The file of that name, anywhere below the folders, the shallowest first. Raises DataError when there is none."""
    found = [path for folder in folders for path in folder.rglob(name) if path.is_file()]
    if not found:
        raise DataError(f"what was given lacks {name} (sources: --help); put it there and run again")
    return min(found, key=lambda path: (len(path.parts), path))


def pictures_below(folders: list[Path]) -> dict[str, Path]:
    """Every .jpg below the folders by its file name; of several with one name the first."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.jpg")):
            if not path.name.startswith("._"):  # "._": what macOS adds to a zip
                found.setdefault(path.name, path)
    return found


def zip_pictures(pictures: dict[str, Path], archive: Path) -> None:
    """Pack pictures, unchanged, as ``images/<name>`` into a zip; each is decoded first. Raises DataError, OSError."""
    from PIL import Image

    print(f"  checking and packing {len(pictures):,} pictures", flush=True)
    with new_file(archive) as file, zipfile.ZipFile(file, "w") as packed:
        for name, path in sorted(pictures.items()):
            data = path.read_bytes()
            try:
                with Image.open(io.BytesIO(data)) as image:
                    image.load()
            except (OSError, ValueError, SyntaxError) as error:  # Pillow's words for what is no picture, or cut short
                raise DataError(f"the picture {name} is damaged ({error}); fetch it again, or delete it") from None
            packed.writestr(zipfile.ZipInfo(f"images/{name}"), data)


def facts_size(manifest: dict) -> tuple[str, str]:
    """The last row of every script's statistics: the size of the prepared files."""
    return "size", f"{sum(facts['bytes'] for facts in manifest['files'].values()) / 1e6:.1f} MB"
