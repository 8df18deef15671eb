"""build/results.md: the rows that the chapters published when they ran, and on what they ran."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

from tools import notebooks

MIME = "application/vnd.commonspace.results+json"


def harvest(nb) -> list[dict]:
    """Every published table of an executed notebook: {"caption": str, "columns": [names], "rows": [{column: value}]}.

    A notebook's file has its keys sorted, so the order of the columns has to be given.
    """
    outputs = [output for cell in notebooks.code_cells(nb) for output in cell.outputs]
    return [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]


def _entry(value) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")


def markdown_table(rows: list[dict], columns: list[str] | None = None) -> str:
    """Rows as a Markdown table, floats to 3 decimals; the columns in the order in which they first come by default."""
    columns = columns or list(dict.fromkeys(column for row in rows for column in row))
    body = [[_entry(row.get(column, "")) for column in columns] for row in rows]
    lines = [[_entry(column) for column in columns], ["---"] * len(columns), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def duration(seconds: float) -> str:
    """A time for people: 12.3 s, 3 min 12 s, 1 h 2 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def page(root: Path) -> str:
    """The results page from ``build/chapters`` and ``build/run_times.json``. No path of a machine in it."""
    times = json.loads((root / "build" / "run_times.json").read_text())
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy"))
    parts = [
        "# Results",
        "Written by `make run` from what the chapters published.",
        f"Python {platform.python_version()}, {versions}; {platform.system()} on {platform.machine()}, "
        "one thread a notebook, two notebooks at a time.",
    ]
    for path in notebooks.find(("chapters",), root=root):
        run = times.get(path.as_posix())
        if run is None or not (root / "build" / path).is_file():
            continue
        nb = notebooks.read(root / "build" / path)
        settings = ", ".join(f"{name} = {value!r}" for name, value in notebooks.parameters(nb).items())
        ending = "" if run["ok"] else " **It did not reach its end: what follows is not complete.**"
        parts += [
            f"## {notebooks.title(nb)}",
            f"`{path.as_posix()}`, run on {run['date']} in {duration(run['seconds'])} with {settings}.{ending}",
        ]
        for table in harvest(nb):
            parts += [f"**{table['caption']}**", markdown_table(table["rows"], table.get("columns"))]
    return "\n\n".join(parts) + "\n"
