"""Reading, tidying and writing notebooks: what the runner, the stubs and the tests share."""

import ast
import json
import os
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("chapters", "solutions")
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}


def find(folders: tuple[str, ...] = FOLDERS, chapter: str | None = None, root: Path = ROOT) -> list[Path]:
    """The notebooks of the folders in order, relative to ``root``.

    ``chapter``: only that number ("01") or name ("01_cca"). Raises ValueError when none is there.
    """
    every = [path.relative_to(root) for folder in folders for path in sorted((root / folder).glob("*.ipynb"))]
    wanted = [p for p in every if not chapter or chapter == p.stem or chapter.zfill(2) == p.stem.split("_")[0]]
    if not wanted:
        there = ", ".join(sorted({p.stem for p in every})) or "none"
        asked = f"no notebook is called {chapter}" if chapter else f"no notebook in {', '.join(folders)}"
        raise ValueError(f"{asked}; there are: {there}")
    return wanted


def read(path: Path) -> NotebookNode:
    """A notebook as nbformat 4. A cell without an id gets one by its position, not by chance."""
    nb = nbformat.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    if nb.nbformat != 4:
        raise ValueError(f"{path} has nbformat {nb.nbformat}; 4 is needed: open and save it in JupyterLab")
    nb.nbformat_minor = max(5, nb.nbformat_minor)
    for number, cell in enumerate(nb.cells):
        cell.setdefault("id", f"cell-{number}")
        for block in [cell, *cell.get("outputs", [])]:
            for key in ("source", "text"):
                if isinstance(block.get(key), list):
                    block[key] = "".join(block[key])
        for output in cell.get("outputs", []):
            for mime, value in output.get("data", {}).items():
                if isinstance(value, list) and not mime.endswith("json"):
                    output["data"][mime] = "".join(value)
    nbformat.validate(nb)
    return nb


def write_text(path: Path, text: str) -> None:
    """Write all of it or nothing: to a neighbouring file, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write(nb: NotebookNode, path: Path) -> None:
    """Write a notebook as JupyterLab would (keys sorted, one space of indentation), whole or not at all."""
    write_text(path, nbformat.writes(nb).rstrip("\n") + "\n")


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def headings(nb: NotebookNode) -> list[tuple[int, str]]:
    """(level, text) of the Markdown headings in order, code blocks left out."""
    found = []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            source = re.sub(r"^(```|~~~).*?^\1", "", cell.source, flags=re.M | re.S)
            found += [(len(m[1]), m[2].strip()) for m in re.finditer(r"^ {0,3}(#{1,6})[ \t]+(.+)$", source, flags=re.M)]
    return found


def title(nb: NotebookNode) -> str:
    return next((text for level, text in headings(nb) if level == 1), "untitled")


def literals(source: str) -> dict:
    """Names and values of a cell that only assigns literals. Raises ValueError for anything else in it."""
    values = {}
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if not isinstance(target, ast.Name):
            raise ValueError(f"line {node.lineno} is not of the form NAME = literal")
        try:
            values[target.id] = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(f"{target.id} is derived; only literals stand in a parameters cell") from None
    return values


def parameters(nb: NotebookNode) -> dict:
    """The parameters a notebook ran with: its `parameters` cell, then what papermill injected behind it."""
    values = {}
    for tag in ("parameters", "injected-parameters"):
        for cell in code_cells(nb):
            if tag in tags(cell):
                values |= literals(cell.source)
    return values


def tidy_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Neighbouring pieces of one stream joined, stdout before stderr: where they are cut and mixed is chance."""
    tidied: list[NotebookNode] = []
    run: dict[str, NotebookNode] = {}
    for output in outputs:
        if output.output_type != "stream":
            tidied += [run[name] for name in sorted(run, reverse=True)] + [output]
            run = {}
        elif output.name in run:
            run[output.name].text += output.text
        else:
            run[output.name] = nbformat.from_dict(dict(output))
    return tidied + [run[name] for name in sorted(run, reverse=True)]


def with_outputs(source: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """``source`` with the outputs of its executed copy and nothing else of it: no timing, no papermill metadata."""
    ours, theirs = code_cells(source), code_cells(executed)
    if [cell.source for cell in ours] != [cell.source for cell in theirs]:
        raise ValueError("the executed notebook has other code cells than its source: run it again")
    for cell, ran in zip(ours, theirs, strict=True):
        cell.outputs = tidy_outputs(ran.outputs)
        cell.execution_count = ran.execution_count
    for cell in source.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    source.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": {"name": "python"}})
    return source
