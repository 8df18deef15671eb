"""Vectors of texts that a frozen encoder has read: kept on disk for every process, and in memory for this one."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np


class TextCache:
    """Text -> float32 vector of ``width`` numbers, in one SQLite file that several processes may use at once.

    A text is read from the file once; then it is in memory, as long as the vectors there take less than ``most_bytes``,
    beyond which the oldest are let go. A file that is damaged is removed and begun again: nothing in it cannot be
    computed. Raises OSError when the file can be neither read nor written.
    """

    def __init__(self, path: Path, width: int, most_bytes: int = 2**29):
        self.path, self.width = path, width
        self._most = max(1, most_bytes // (4 * width))
        self._memory: dict[str, np.ndarray] = {}

    def get(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Those of the texts that are known, with their vectors."""
        found = {text: self._memory[text] for text in texts if text in self._memory}
        if others := [text for text in texts if text not in found]:
            stored = self._with_file(lambda connection: _read(connection, others))
            fresh = {text: np.frombuffer(blob, "<f4") for text, blob in stored.items() if len(blob) == 4 * self.width}
            self._keep(fresh)
            found |= fresh
        return found

    def put(self, vectors: dict[str, np.ndarray]) -> None:
        """Keep these vectors (width,), in place of older ones."""
        rows = [(text, vector.astype("<f4").tobytes()) for text, vector in vectors.items()]
        self._with_file(lambda connection: connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows))
        self._keep(vectors)

    def _keep(self, vectors: dict[str, np.ndarray]) -> None:
        self._memory |= vectors
        while len(self._memory) > self._most:
            del self._memory[next(iter(self._memory))]

    def _with_file(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            try:
                return self._work(work)
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError:  # locked, full, not ours to write: it may well be whole
                    raise
                for file in (self.path, self.path.with_name(f"{self.path.name}-journal")):
                    file.unlink(missing_ok=True)
                return self._work(work)
        except (OSError, sqlite3.DatabaseError) as error:
            raise OSError(
                f"the vectors of texts cannot be kept in {self.path} ({error}). Set COMMONSPACE_CACHE to a folder that "
                "can be written to, or do without: cache=False"
            ) from error

    def _work(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS vectors (text TEXT PRIMARY KEY, vector BLOB NOT NULL)")
            return work(connection)


def _read(connection: sqlite3.Connection, texts: Sequence[str]) -> dict[str, bytes]:
    found = {}
    for start in range(0, len(texts), 500):
        some = texts[start : start + 500]
        found |= connection.execute(
            f"SELECT text, vector FROM vectors WHERE text IN ({','.join('?' * len(some))})", some
        ).fetchall()
    return found
