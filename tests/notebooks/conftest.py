"""A notebook that keeps to every rule, and a small course in a folder of its own to run the tools in."""

import shutil
from pathlib import Path

import nbformat
import pytest

from tools import notebooks

PROSE = "The rank of the right text tells how far down the list a reader must look. " * 110
STUB = 'def whiten(x):\n    """Rows of x, whitened."""\n    raise NotImplementedError("your turn")'
HINTS = "## Exercise\n" + "<details><summary>Hint</summary>Think.</details>\n" * 3
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
SHOW = f"""from IPython.display import display

sentence = f"Two bars, the first {{1 / 3:.2f}} high."
data = {{"image/png": "{PICTURE}", "text/plain": sentence}}
display(data, raw=True, metadata={{"image/png": {{"alt": sentence}}}})"""


def _code(source, number, *outputs, **metadata):
    cell = nbformat.v4.new_code_cell(source, execution_count=number, id=f"code-{number}", metadata=metadata)
    cell.outputs = list(outputs)
    return cell


def _text(source, name):
    return nbformat.v4.new_markdown_cell(source, id=name)


def _stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


@pytest.fixture
def good():
    """A chapter as it is committed, and the helpers to build others: good(), good.code, good.text, good.stream."""

    def build():
        sentence = "Two bars, the first 0.33 high."
        data = {"image/png": PICTURE, "text/plain": sentence}
        picture = nbformat.v4.new_output("display_data", data=data, metadata={"image/png": {"alt": sentence}})
        return nbformat.v4.new_notebook(
            metadata={"kernelspec": notebooks.KERNELSPEC, "language_info": {"name": "python"}},
            cells=[
                _text("# Find the match\n\nMeasured run time 12 s.\n\n## The task\n\n" + PROSE, "head"),
                _code('PROFILE = "lesson"\nDATA = "emoji"\nSEED = 0', 1, tags=["parameters"]),
                _code("print(SEED + 1)", 2, _stream("1\n")),
                _code(SHOW, 3, picture),
                _text(HINTS, "hints"),
                _code(STUB, 4, tags=["exercise"], exercise="whiten"),
                _code(
                    "class checks:\n    class ch00:\n        whiten = print\n\n\nchecks.ch00.whiten(1)",
                    5,
                    _stream("1\n"),
                ),
                _code("import time\n\nprint(time.time())", 6, _stream("1.5\n"), tags=["nbval-ignore-output"]),
            ],
        )

    build.code, build.text, build.stream = _code, _text, _stream
    return build


@pytest.fixture
def course(tmp_path):
    """A folder with this project's tools and settings and empty chapters/ and solutions/."""
    for name in ("tools", "conftest.py", "pyproject.toml", "tests/nbval_sanitize.cfg", "Makefile"):
        source, target = notebooks.ROOT / name, tmp_path / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for folder in notebooks.FOLDERS:
        (tmp_path / folder).mkdir()
    return Path(tmp_path)
