"""What every committed notebook keeps to. A rule takes (notebook, path) and returns its complaints.

tests/notebooks applies them to every chapter and solution, and shows for each rule a notebook that breaks it.
"""

import ast
import re
from itertools import pairwise
from pathlib import Path

import yaml
from nbformat import NotebookNode

from tools.notebooks import code_cells, headings, literals, parameters, tags

MAX_BYTES, MAX_CODE_LINES, MIN_WORDS, MAX_WORDS = 500_000, 300, 1_500, 3_500
MACHINE_PATH = re.compile(r"(?<![\w.$}~-])/(?:home|root|tmp|work|var|Users)/[\w.-]*")
REPR = re.compile(r"<[\w.]+(?: object)? at 0x[0-9a-f]+>|<(?:matplotlib|function |Figure size|Axes:)[^>]*>")
TIMING = re.compile(r"\b(?:perf_counter|process_time|time\.time|timeit)\b")
RUN_TIME = re.compile(r"run(?:ning)? time[^\n]{0,60}?\d+(?:\.\d+)?\s*(?:s|seconds?|min|minutes?)\b", re.I)


def where(cell: NotebookNode) -> str:
    first = cell.source.strip().splitlines()[0] if cell.source.strip() else "(empty)"
    return f"cell {cell.id} ({first[:50]})"


def output_text(output: NotebookNode) -> str:
    """Everything in an output that is read as text; pictures left out."""
    data = output.get("data", {})
    parts = [value for mime, value in data.items() if not mime.startswith("image/")]
    parts += [output.get("text", ""), output.get("metadata", {}), output.get("traceback", "")]
    return "\n".join(str(part) for part in parts)


def plain_python(nb: NotebookNode, path: Path) -> list[str]:
    """Code cells are Python: not empty, no magics."""
    wrong = []
    for cell in code_cells(nb):
        try:
            if not ast.parse(cell.source).body:
                wrong.append(f"{where(cell)} has no code")
        except SyntaxError as error:
            wrong.append(f"{where(cell)} is not plain Python: {error}")
    return wrong


def _prints(node: ast.AST) -> bool:
    """Whether this statement surely shows something: print, display, figures.* or checks.* outside functions."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.If, ast.Try)):
        return False
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name in ("print", "display") or re.match(r"(figures\.(show|results)|checks\.\w+\.\w+)$", name):
            return True
    return any(_prints(child) for child in ast.iter_child_nodes(node))


def outputs_present(nb: NotebookNode, path: Path) -> list[str]:
    """A cell that shows something was committed with it: nbval compares nothing in a notebook without outputs."""
    wrong = []
    for cell in code_cells(nb):
        body = ast.parse(cell.source).body
        value = isinstance(body[-1], ast.Expr) and not isinstance(body[-1].value, (ast.Call, ast.Constant))
        if (value or any(_prints(node) for node in body)) and not cell.outputs:
            wrong.append(f"{where(cell)} shows something, but has no output: make notebooks")
    if not any(cell.outputs for cell in code_cells(nb)):
        wrong.append("no cell has an output: make notebooks")
    return wrong


def no_errors(nb: NotebookNode, path: Path) -> list[str]:
    """No cell raises, not even on purpose: papermill would stop there."""
    wrong = [where(c) + " stopped with an error" for c in code_cells(nb) for o in c.outputs if o.output_type == "error"]
    return wrong + [where(c) + " is tagged to raise" for c in nb.cells if "raises-exception" in tags(c)]


def one_title(nb: NotebookNode, path: Path) -> list[str]:
    """One H1, first, and no level left out on the way down."""
    found = headings(nb)
    levels = [level for level, _ in found]
    good = levels[:1] == [1] and levels.count(1) == 1
    wrong = [] if good else [f"exactly one H1, and first; heading levels: {levels}"]
    for (above, _), (level, text) in pairwise(found):
        if level > above + 1:
            wrong.append(f"'{text}' is an H{level} below an H{above}: a level is left out")
    return wrong


def parameters_cell(nb: NotebookNode, path: Path) -> list[str]:
    """One cell tagged `parameters`, of literals alone, with PROFILE, DATA and SEED."""
    cells = [cell for cell in code_cells(nb) if "parameters" in tags(cell)]
    if len(cells) != 1:
        return [f"one cell is tagged 'parameters'; here {len(cells)}"]
    try:
        missing = {"PROFILE", "DATA", "SEED"} - literals(cells[0].source).keys()
    except ValueError as error:
        return [f"the parameters cell: {error}"]
    return [f"the parameters cell lacks {', '.join(sorted(missing))}"] if missing else []


def alt_text(nb: NotebookNode, path: Path) -> list[str]:
    """Every picture says in words what it shows: figures.show(fig, alt) does it."""
    wrong = []
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            for mime in output.get("data", {}):
                if mime.startswith("image/"):
                    text = output.data.get("text/plain", "").strip()
                    if not text or text.startswith("<"):
                        wrong.append(f"{where(cell)}: a picture's text/plain must be its sentence, not {text!r}")
                    if not output.metadata.get(mime, {}).get("alt", "").strip():
                        wrong.append(f"{where(cell)}: a picture has no alt text in metadata['{mime}']")
        if cell.cell_type == "markdown":
            bare = re.findall(r"!\[\s*\]\(", cell.source)
            bare += [tag for tag in re.findall(r"<img\b[^>]*>", cell.source) if not re.search(r"\balt=\"[^\"]+\"", tag)]
            wrong += [f"{where(cell)}: a picture without alt text"] * bool(bare)
    return wrong


def clean_metadata(nb: NotebookNode, path: Path) -> list[str]:
    """Kernel python3; nothing of papermill, of timing or of widgets."""
    kernel = nb.metadata.get("kernelspec", {})
    wrong = []
    if (kernel.get("name"), kernel.get("display_name")) != ("python3", "Python 3"):
        wrong.append(f"the kernel must be python3, shown as 'Python 3'; got {dict(kernel)}")
    wrong += [f"metadata.{key}" for key in ("papermill", "widgets") if key in nb.metadata]
    wrong += [f"{where(c)}: metadata.{k}" for c in nb.cells for k in ("papermill", "execution") if k in c.metadata]
    for cell in code_cells(nb):
        for output in cell.outputs:
            if any("widget" in mime for mime in output.get("data", {})):
                wrong.append(f"{where(cell)}: a widget, which shows nothing in a committed notebook")
    return wrong


def counted(nb: NotebookNode, path: Path) -> list[str]:
    """Execution counts 1, 2, ..., n."""
    counts = [cell.execution_count for cell in code_cells(nb)]
    good = counts == list(range(1, len(counts) + 1))
    return [] if good else [f"execution counts must run from 1 to {len(counts)}; got {counts}: make notebooks"]


def file_size(nb: NotebookNode, path: Path) -> list[str]:
    """At most 500 kB with its outputs."""
    size = path.stat().st_size
    return [f"{size:,} bytes; at most {MAX_BYTES:,}"] if size > MAX_BYTES else []


def code_length(nb: NotebookNode, path: Path) -> list[str]:
    """At most 300 lines of code; empty lines and lines of comment alone do not count."""
    lines = [line.strip() for cell in code_cells(nb) for line in cell.source.splitlines()]
    count = sum(bool(line) and not line.startswith("#") for line in lines)
    return [f"{count} lines of code; at most {MAX_CODE_LINES}"] if count > MAX_CODE_LINES else []


def count_words(nb: NotebookNode) -> int:
    """Words of the Markdown cells: no folded hints, code, formulas, tags or addresses."""
    text = "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    for pattern in (
        r"(?s)<details.*?</details>",
        r"(?ms)^(```|~~~).*?^\1",
        r"(?s)\$\$.*?\$\$",
        r"(?s)\\begin\{(\w+\*?)\}.*?\\end\{\1\}",
        r"`[^`\n]*`",
        r"\$[^$\n]+\$",
        r"<[^>\n]+>",
        r"\]\([^)]*\)",
        r"https?://\S+",
    ):
        text = re.sub(pattern, " ", text)
    return len(re.findall(r"\w[\w'’.-]*", text))


def prose_length(nb: NotebookNode, path: Path) -> list[str]:
    """Chapters have 1,500 to 3,500 words (`count_words`); a solution may be shorter."""
    words = count_words(nb)
    if path.parent.name != "chapters" or MIN_WORDS <= words <= MAX_WORDS:
        return []
    return [f"{words:,} words of prose; {MIN_WORDS:,} to {MAX_WORDS:,}"]


def run_time_stated(nb: NotebookNode, path: Path) -> list[str]:
    """A chapter's head says how long it ran, "run time 20 s"; the runner holds it to the budget."""
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    stated = path.parent.name != "chapters" or RUN_TIME.search(text)
    return [] if stated else ["no measured run time in the text ('run time 20 s')"]


def no_machine_paths(nb: NotebookNode, path: Path) -> list[str]:
    """No folder of one machine in sources or outputs."""
    wrong = []
    for cell in nb.cells:
        for text in [cell.source, *map(output_text, cell.get("outputs", []))]:
            wrong += [f"{where(cell)}: {found}" for found in MACHINE_PATH.findall(text)]
    return wrong


def no_bare_repr(nb: NotebookNode, path: Path) -> list[str]:
    """No output such as <Axes: > or <... object at 0x...>, which tells a reader nothing and changes each run."""
    texts = [(cell, output_text(output)) for cell in code_cells(nb) for output in cell.outputs]
    return [f"{where(cell)} ends with {found}" for cell, text in texts for found in REPR.findall(text)]


def timing_tagged(nb: NotebookNode, path: Path) -> list[str]:
    """A cell that measures time and shows it carries nbval-ignore-output."""
    return [
        f"{where(cell)} measures time: tag it nbval-ignore-output"
        for cell in code_cells(nb)
        if TIMING.search(cell.source) and cell.outputs and "nbval-ignore-output" not in tags(cell)
    ]


RULES = [
    plain_python,
    outputs_present,
    no_errors,
    one_title,
    parameters_cell,
    alt_text,
    clean_metadata,
    counted,
    file_size,
    code_length,
    prose_length,
    run_time_stated,
    no_machine_paths,
    no_bare_repr,
    timing_tagged,
]


def hints_and_checks(chapter: NotebookNode, number: str) -> list[str]:
    """Around each exercise of a chapter: three folded hints in the Markdown before it, its check right behind it."""
    wrong = []
    cells = [None, *chapter.cells, None]
    for before, cell, after in zip(cells, cells[1:], cells[2:], strict=False):
        if cell is None or "exercise" not in tags(cell):
            continue
        name = cell.metadata.get("exercise")
        hints = before.source.count("<details") if before is not None and before.cell_type == "markdown" else 0
        if hints != 3:
            wrong.append(f"exercise {name}: three folded hints (<details>) in the cell before it; got {hints}")
        call = f"checks.ch{number}.{name}("
        if after is None or after.cell_type != "code" or call not in after.source:
            wrong.append(f"exercise {name}: the cell behind it must call {call}...)")
    return wrong


def yaml_keys(file: Path, chapters: dict[str, NotebookNode]) -> list[str]:
    """``chapters/full/NN_slug-data.yaml`` sets parameters of NN_slug alone, and no number as a string (YAML's 1e-3)."""
    name = file.stem.split("-")[0]
    if name not in chapters:
        return [f"{file.name}: there is no chapter {name}"]
    known, given = parameters(chapters[name]), yaml.safe_load(file.read_text())
    if not isinstance(given, dict):
        return [f"{file.name} must map parameters to values"]
    wrong = [f"{file.name}: {key} is no parameter of {name}" for key in given if key not in known]
    for key, value in given.items():
        if isinstance(value, str) and isinstance(known.get(key), (int, float)):
            wrong.append(f"{file.name}: {key} is the string {value!r} (write 1.0e-3, not 1e-3)")
    return wrong
