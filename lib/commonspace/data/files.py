"""Where data lies: a search path that is only read, and one folder that the project writes to.

``$COMMONSPACE_DATA`` is a search path of read-only folders (separated as in ``$PATH``). What the project writes goes to
``$COMMONSPACE_CACHE`` alone, ``~/.cache/commonspace`` by default.
"""

import os
from pathlib import Path


def cache_dir() -> Path:
    """The one folder the project writes to: ``$COMMONSPACE_CACHE``, or ``~/.cache/commonspace``."""
    return Path(os.environ.get("COMMONSPACE_CACHE") or "~/.cache/commonspace").expanduser()


def search_path(root: str | os.PathLike | None = None) -> list[Path]:
    """Folders to look for data sets in: ``root`` alone if given, else ``$COMMONSPACE_DATA`` and the cache."""
    if root is not None:
        return [Path(root).expanduser()]
    given = [Path(p).expanduser() for p in os.environ.get("COMMONSPACE_DATA", "").split(os.pathsep) if p]
    return [*given, cache_dir()]


def find(dataset: str, file: str, command: str, root: str | os.PathLike | None = None) -> Path:
    """The first ``<folder>/<dataset>/<file>`` on the search path (with ``root``, also ``root/<file>`` itself).

    Raises FileNotFoundError that names the folders looked in and ``command``, which gets the data.
    """
    looked = []
    for folder in search_path(root):
        for candidate in [folder / dataset / file] + ([folder / file] if root is not None else []):
            if candidate.is_file():
                return candidate
            looked.append(candidate)
    places = "\n  ".join(shown(p) for p in looked)
    raise FileNotFoundError(f"{dataset} is not on this machine. Get it with\n  {command}\nLooked for\n  {places}")


def shown(path: str | os.PathLike) -> str:
    """A path for people and notebooks: ``$COMMONSPACE_CACHE/..``, ``$COMMONSPACE_DATA/..``, relative or ``~/..``."""
    path = Path(path).expanduser().absolute()
    given = [(folder, "$COMMONSPACE_DATA") for folder in search_path()[:-1]]
    for folder, name in [(cache_dir(), "$COMMONSPACE_CACHE"), *given, (Path.cwd(), ""), (Path.home(), "~")]:
        if path.is_relative_to(folder.absolute()):
            return str(Path(name) / path.relative_to(folder.absolute()))
    return str(path)
