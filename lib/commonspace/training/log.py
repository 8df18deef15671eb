"""What a run tells: rows of named scalars (CSV always, TensorBoard where installed) and a progress bar."""

import contextlib
import csv
import dataclasses
import os
import sys
from pathlib import Path

from tqdm.auto import tqdm

Row = dict[str, float | int]


@dataclasses.dataclass
class History:
    """What a run logged.

    ``rows``: one dict a logged step, with ``step`` (steps done so far, the first row's is >= 1), ``epoch`` (from 0) and
    the mean of every scalar since the row before. ``best_epoch`` and ``best_value``: of ``validate``, else None.
    """

    rows: list[Row] = dataclasses.field(default_factory=list)
    best_epoch: int | None = None
    best_value: float | None = None

    def column(self, name: str) -> list[float]:
        """One scalar's values, from the rows that have it. Raises KeyError that lists the names there are."""
        if not (values := [row[name] for row in self.rows if name in row]):
            raise KeyError(f"no row has {name!r}; there are {sorted({key for row in self.rows for key in row})}")
        return values


class Log:
    """Appends to ``rows``, and writes them to ``folder/log.csv`` and, if installed, to TensorBoard.

    ``rows`` that are there already are those of a run that goes on: the files begin with them, what followed is cut.
    Without a folder nothing is written.
    """

    def __init__(self, folder: Path | None, rows: list[Row]):
        self.folder, self.rows, self.board = folder, rows, None
        self.columns: list[str] = []
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._rewrite()
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder), purge_step=rows[-1]["step"] + 1 if rows else 0)

    def add(self, row: Row) -> None:
        """One more row. A scalar that is new becomes one more column."""
        self.rows.append(row)
        if self.folder is None:
            return
        if row.keys() <= set(self.columns):
            with open(self.folder / "log.csv", "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)
        else:
            self._rewrite()
        if self.board is not None:
            for name in row.keys() - {"step", "epoch"}:
                self.board.add_scalar(name, row[name], row["step"])

    def _rewrite(self) -> None:
        self.columns = list(dict.fromkeys(["step", "epoch", *(name for row in self.rows for name in row)]))
        part = self.folder / ".log.csv.new"
        with open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(part, self.folder / "log.csv")

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: object) -> None:
        if self.board is not None:
            self.board.close()


def bar_wanted() -> bool:
    """Whether someone is looking: a terminal, or a live Jupyter session; not under CI, papermill or nbval."""
    if os.environ.get("CI") or any(name.startswith("PAPERMILL") for name in os.environ):
        return False
    return sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ  # Jupyter's server sets it, papermill does not


def progress_bar(total: int, done: int, main: bool) -> tqdm:
    """A bar over the steps of a run; it shows nothing where nobody looks, and on all processes but the main one."""
    return tqdm(total=total, initial=done, unit="step", disable=not (main and bar_wanted()))
