"""The rules for notebooks: each holds for a good one, and each is broken by a notebook made to break it."""

import re

import nbformat
import pytest

from tools import notebook_rules as rules
from tools import notebooks


def cell(nb, number):
    return notebooks.code_cells(nb)[number - 1]


def picture(nb):
    return cell(nb, 3).outputs[0]


def raise_error(nb):
    cell(nb, 2).outputs.append(nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=["no"]))


def result(text):
    return nbformat.v4.new_output("execute_result", data={"text/plain": text}, execution_count=2)


# rule: ways to break it, each with the complaint it must bring
BREAKS = {
    "plain_python": [
        (lambda nb: cell(nb, 2).update(source="%matplotlib inline"), "not plain Python"),
        (lambda nb: cell(nb, 2).update(source="# nothing"), "no code"),
    ],
    "outputs_present": [
        (lambda nb: cell(nb, 2).update(outputs=[]), "print"),
        (lambda nb: cell(nb, 3).update(outputs=[]), "has no output"),
        (lambda nb: cell(nb, 5).update(outputs=[]), "has no output"),
        (lambda nb: cell(nb, 2).update(source="for i in [1]:\n    print(i)", outputs=[]), "has no output"),
        (lambda nb: cell(nb, 2).update(source="figures.show(fig, 'a')", outputs=[]), "has no output"),
        (lambda nb: cell(nb, 2).update(source="SEED", outputs=[]), "has no output"),
        (lambda nb: [c.update(outputs=[], source="x = 1") for c in notebooks.code_cells(nb)], "no cell has an output"),
    ],
    "no_errors": [
        (raise_error, "stopped with an error"),
        (lambda nb: cell(nb, 2).metadata.update(tags=["raises-exception"]), "tagged to raise"),
    ],
    "one_title": [
        (lambda nb: nb.cells[0].update(source="## The task"), "exactly one H1"),
        (lambda nb: nb.cells[4].update(source="# Again"), "exactly one H1"),
        (lambda nb: nb.cells[0].update(source="## Before\n\n# Title"), "exactly one H1"),
        (lambda nb: nb.cells[0].update(source="# Title\n\n### Deep"), "H3 below an H1"),
    ],
    "parameters_cell": [
        (lambda nb: cell(nb, 1).metadata.update(tags=[]), "here 0"),
        (lambda nb: cell(nb, 2).metadata.update(tags=["parameters"]), "here 2"),
        (lambda nb: cell(nb, 1).update(source='PROFILE = "lesson"\nSEED = 0'), "lacks DATA"),
        (lambda nb: cell(nb, 1).update(source='PROFILE = "lesson"\nDATA = "e"\nSEED = int(0)'), "SEED is derived"),
        (lambda nb: cell(nb, 1).update(source="import os"), "not of the form"),
    ],
    "alt_text": [
        (lambda nb: picture(nb).update(metadata={}), "no alt text"),
        (lambda nb: picture(nb).metadata["image/png"].update(alt=" "), "no alt text"),
        (lambda nb: picture(nb).data.update({"text/plain": "<Figure size 640x480 with 1 Axes>"}), "its sentence"),
        (lambda nb: picture(nb).data.pop("text/plain"), "its sentence"),
        (lambda nb: nb.cells[0].update(source="# T\n![](a.png)"), "without alt text"),
        (lambda nb: nb.cells[0].update(source='# T\n<img src="a.png">'), "without alt text"),
    ],
    "clean_metadata": [
        (lambda nb: nb.metadata.kernelspec.update(name="my-venv"), "python3"),
        (lambda nb: nb.metadata.kernelspec.update(display_name="my venv"), "python3"),
        (lambda nb: nb.metadata.pop("kernelspec"), "python3"),
        (lambda nb: nb.metadata.update(papermill={"duration": 3}), "metadata.papermill"),
        (lambda nb: nb.metadata.update(widgets={}), "metadata.widgets"),
        (lambda nb: nb.cells[0].metadata.update(papermill={}), "metadata.papermill"),
        (lambda nb: cell(nb, 2).metadata.update(execution={}), "metadata.execution"),
        (lambda nb: picture(nb).data.update({"application/vnd.jupyter.widget-view+json": {}}), "widget"),
    ],
    "counted": [
        (lambda nb: cell(nb, 2).update(execution_count=None), "make notebooks"),
        (lambda nb: [c.update(execution_count=c.execution_count + 1) for c in notebooks.code_cells(nb)], "from 1"),
    ],
    "file_size": [(lambda nb: picture(nb).data.update({"image/png": "A" * 500_001}), "at most 500,000")],
    "code_length": [(lambda nb: cell(nb, 2).update(source="x = 1\n" * 301), "lines of code")],
    "prose_length": [
        (lambda nb: nb.cells[0].update(source="# Title\n\nShort."), "words of prose"),
        (lambda nb: nb.cells[0].update(source=nb.cells[0].source * 4), "words of prose"),
    ],
    "run_time_stated": [(lambda nb: nb.cells[0].update(source="# Title"), "run time")],
    "no_machine_paths": [
        (lambda nb: cell(nb, 2).update(source='open("/home/ada/x.csv")'), "/home/ada"),
        (lambda nb: nb.cells[0].update(source="# T\nlook in /root/data"), "/root/data"),
        (lambda nb: cell(nb, 2).update(outputs=[result("PosixPath('/tmp/x')")]), "/tmp/x"),
        (lambda nb: cell(nb, 2).outputs[0].update(name="stderr", text="/work/a.py:3: UserWarning"), "/work/a.py"),
    ],
    "no_bare_repr": [
        (lambda nb: cell(nb, 2).update(outputs=[result("<torch.Generator object at 0x7f00a1b2>")]), "Generator"),
        (lambda nb: cell(nb, 2).update(outputs=[result("[<matplotlib.lines.Line2D at 0x7f00a1>]")]), "Line2D"),
        (lambda nb: cell(nb, 2).update(outputs=[result("<Axes: xlabel='n'>")]), "<Axes"),
        (lambda nb: cell(nb, 2).update(outputs=[result("<Figure size 640x480 with 1 Axes>")]), "<Figure"),
        (lambda nb: cell(nb, 2).update(outputs=[result("<function f at 0x7f00a1b2>")]), "function"),
    ],
    "timing_tagged": [(lambda nb: cell(nb, 6).metadata.update(tags=[]), "nbval-ignore-output")],
}


def complaints(rule, nb, tmp_path):
    path = tmp_path / "chapters" / "00_find_the_match.ipynb"
    notebooks.write(nb, path)
    return rule(notebooks.read(path), path)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_a_good_notebook_passes(rule, good, tmp_path):
    assert complaints(rule, good(), tmp_path) == []


def test_every_rule_has_a_notebook_that_breaks_it():
    assert BREAKS.keys() == {rule.__name__ for rule in rules.RULES}


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [pytest.param(name, *how, id=f"{name}-{i}") for name, ways in BREAKS.items() for i, how in enumerate(ways)],
)
def test_a_bad_notebook_is_found(name, change, complaint, good, tmp_path):
    nb = good()
    change(nb)
    found = complaints(getattr(rules, name), nb, tmp_path)
    assert any(complaint in line for line in found), found


def test_what_the_rules_leave_alone(good, tmp_path):
    """Cells that may print nothing, addresses that look like folders, headings inside code."""
    nb = good()
    nb.cells[0].source += "\n\nhttps://example.org/home/ada $COMMONSPACE_CACHE/tmp/x\n\n```\n# not a heading\n```\n"
    nb.cells.append(good.code("def show():\n    print(1)", 7))
    nb.cells.append(good.code("rows = []\nrows.append(1)", 8))
    nb.cells.append(good.code("if SEED > 3:\n    print('a large seed')", 9))
    for rule in rules.RULES:
        assert complaints(rule, nb, tmp_path) == []


def test_words_leave_out_hints_code_and_formulas():
    source = (
        "# Two words\n\n[a link](https://example.org/x/y) and `x + y` and $a_1 + b$.\n\n$$\nC = A B\n$$\n"
        "\\begin{align}\na &= b\n\\end{align}\n```python\nx = 1\n```\n"
        "<details><summary>Hint</summary>nearly all</details>\n"
    )
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source), nbformat.v4.new_code_cell("a = 1")])
    assert rules.count_words(nb) == 6  # Two words, a link, and, and


def test_comments_and_empty_lines_are_no_code(good, tmp_path):
    nb = good()
    used = sum(bool(line.strip()) for c in notebooks.code_cells(nb) for line in c.source.splitlines())
    cell(nb, 2).source += "\nx = 1" * (rules.MAX_CODE_LINES - used) + "\n\n# a comment" * 50
    assert complaints(rules.code_length, nb, tmp_path) == []
    cell(nb, 2).source += "\nx = 1"
    assert complaints(rules.code_length, nb, tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda nb: nb.cells[4].update(source=nb.cells[4].source.replace("<details>", "", 1)), "got 2"),
        (lambda nb: nb.cells.pop(4), "got 0"),
        (lambda nb: nb.cells.pop(6), "must call checks.ch00.whiten("),
        (lambda nb: nb.cells[6].update(source="checks.ch01.whiten(f)"), "must call checks.ch00.whiten("),
        (lambda nb: nb.cells[6].update(source="checks.ch00.rank(f)"), "must call checks.ch00.whiten("),
    ],
)
def test_hints_and_checks(change, complaint, good):
    nb = good()
    assert rules.hints_and_checks(nb, "00") == []
    change(nb)
    assert any(complaint in line for line in rules.hints_and_checks(nb, "00"))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("00_find-emoji", "SEEDS: 1", "SEEDS is no parameter"),
        ("00_find", "SEED: 1e-3", "is the string"),
        ("07_tirg-scenes", "SEED: 1", "no chapter 07_tirg"),
        ("00_find", "- SEED", "must map"),
        ("00_find", "", "must map"),
    ],
)
def test_yaml_keys(name, text, complaint, good, tmp_path):
    chapters = {"00_find": good()}
    right, wrong = tmp_path / "00_find-wikipedia.yaml", tmp_path / f"{name}.yaml"
    right.write_text("PROFILE: paper\nSEED: 3\n")
    assert rules.yaml_keys(right, chapters) == []
    wrong.write_text(text)
    assert any(re.search(complaint, line) for line in rules.yaml_keys(wrong, chapters))
