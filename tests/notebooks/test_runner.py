"""`make run` and `make notebooks` on small notebooks, with real kernels."""

import json
import os
import subprocess
import sys

import pytest

from tools import notebooks, run_notebooks
from tools.pins import read_pins
from tools.results_table import duration, harvest, markdown_table

SHOW_PINS = """import os
import sys

import torch

print(torch.get_num_threads(), {name: os.environ.get(name) for name in NAMES})
print(sys.prefix)
print(os.path.basename(os.getcwd()))"""
PUBLISH = """from IPython.display import display

rows = [{"data": "digits", "R@1": 0.12345}, {"data": "emoji", "n": 3}]
mime = "application/vnd.commonspace.results+json"
display({mime: {"caption": "Ranks", "columns": ["data", "R@1", "n"], "rows": rows}, "text/plain": "0.123"}, raw=True)"""


def run(course, *arguments):
    """The runner as `make run` calls it, from a shell without the pins."""
    env = {key: value for key, value in os.environ.items() if key not in read_pins()}
    command = [sys.executable, "-m", "tools.run_notebooks", *arguments]
    done = subprocess.run(command, cwd=course, env=env, capture_output=True, text=True, timeout=300)
    assert not done.stderr
    return done.returncode, done.stdout


def test_a_run_ends_with_executed_chapters_times_and_results(good, course):
    """A chapter that works and one that stops: the first is there in full, the second is shown and fails the run."""
    nb = good()
    nb.cells.append(good.code(f"NAMES = {sorted(read_pins())}\n{SHOW_PINS}", 7))
    nb.cells.append(good.code(PUBLISH, 8))
    notebooks.write(nb, course / "chapters" / "00_first.ipynb")
    bad = good()
    bad.cells.insert(4, good.code("def nested():\n    raise ValueError('the ridge is negative')\n\n\nnested()", None))
    notebooks.write(bad, course / "solutions" / "00_first.ipynb")
    sources = {path: path.read_bytes() for path in course.glob("*/*.ipynb")}

    code, said = run(course)
    assert code == 1
    assert "[2/2]" in said
    assert "the code cell [4]" in said
    assert "ValueError: the ridge is negative" in said
    assert "\x1b" not in said
    assert said.splitlines()[-1].startswith("1 of 2 notebooks failed: solutions/00_first.ipynb. Total time")
    assert {path: path.read_bytes() for path in course.glob("*/*.ipynb")} == sources

    executed = notebooks.read(course / "build" / "chapters" / "00_first.ipynb")
    threads, prefix, folder = notebooks.code_cells(executed)[6].outputs[0].text.splitlines()
    assert threads == f"1 { {name: read_pins()[name] for name in sorted(read_pins())} }"
    assert prefix == sys.prefix
    assert folder == "chapters"

    times = json.loads((course / "build" / "run_times.json").read_text())
    assert [times[f"{f}/00_first.ipynb"]["ok"] for f in ("chapters", "solutions")] == [True, False]
    assert 0 < times["chapters/00_first.ipynb"]["seconds"] < 120
    page = (course / "build" / "results.md").read_text()
    assert "## Find the match" in page
    assert "| data | R@1 | n |\n| --- | --- | --- |\n| digits | 0.123 |  |\n| emoji |  | 3 |" in page
    assert "SEED = 0" in page
    assert str(course) not in page


@pytest.mark.parametrize(
    ("seconds", "flags", "code", "line"),
    [
        (59, [], 0, "Done, total time"),
        (61, [], 0, "slower than the 60 s"),
        (181, [], 1, "    it took longer than 3 min 0 s"),
        (181, ["--limit", "200"], 0, "slower than the 60 s"),
        (301, ["--limit", "400"], 0, "the chapters took 10 min 2 s together; 10 min 0 s is what they may take"),
    ],
)
def test_the_time_budget(seconds, flags, code, line, good, course, monkeypatch, capsys):
    for name in ("chapters/00_first", "chapters/01_second", "solutions/00_first"):
        notebooks.write(good(), course / f"{name}.ipynb")
    monkeypatch.setattr(run_notebooks, "execute", lambda path, root: run_notebooks.Run(path, seconds))
    assert run_notebooks.main(flags, root=course) == code
    said = capsys.readouterr().out
    assert line in said
    assert ("slower" in said) == (seconds > 60 and not code)
    assert ("failed" in said.splitlines()[-1]) == bool(code)


@pytest.mark.parametrize(("asked", "stems"), [("00", ["00_a", "00_a"]), ("1", ["01_b"]), ("01_b", ["01_b"]), (None, 3)])
def test_one_chapter_and_its_solution_can_be_chosen(asked, stems, good, course, capsys):
    for name in ("chapters/00_a", "chapters/01_b", "solutions/00_a"):
        notebooks.write(good(), course / f"{name}.ipynb")
    found = [path.stem for path in notebooks.find(chapter=asked, root=course)]
    assert found == stems or len(found) == stems
    assert run_notebooks.main(["--chapter", "07"], root=course) == 2
    assert capsys.readouterr().out == "no notebook is called 07; there are: 00_a, 01_b\n"


def test_results_of_other_chapters_stay(good, course, monkeypatch):
    """A run of one chapter rewrites its own times and leaves the others'."""
    for name in ("00_a", "01_b"):
        notebooks.write(good(), course / "chapters" / f"{name}.ipynb")
        notebooks.write(good(), course / "build" / "chapters" / f"{name}.ipynb")
    monkeypatch.setattr(run_notebooks, "execute", lambda path, root: run_notebooks.Run(path, 3.0))
    run_notebooks.main([], root=course)
    monkeypatch.setattr(run_notebooks, "execute", lambda path, root: run_notebooks.Run(path, 4.0, "stopped"))
    assert run_notebooks.main(["--chapter", "01"], root=course) == 1
    times = json.loads((course / "build" / "run_times.json").read_text())
    assert [
        (times[f"chapters/{n}.ipynb"]["seconds"], times[f"chapters/{n}.ipynb"]["ok"]) for n in ("00_a", "01_b")
    ] == [
        (3.0, True),
        (4.0, False),
    ]
    page = (course / "build" / "results.md").read_text()
    assert page.count("## Find the match") == 2
    assert page.count("did not reach its end") == 1


def test_in_place_is_repeatable_and_leaves_nothing_of_papermill(good, course):
    nb = good()
    nb.cells.append(good.code("import sys\n\nprint('noise', file=sys.stderr)\nprint('out')", None))
    nb.metadata = {"kernelspec": {"name": "python3", "display_name": "my own"}, "widgets": {}}
    path = course / "chapters" / "00_first.ipynb"
    for cell in notebooks.code_cells(nb):
        cell.update(outputs=[], execution_count=None)
    notebooks.write(nb, path)

    runs = []
    for _ in range(2):
        code, said = run(course, "--in-place")
        assert code == 0, said
        assert "note: the code cell [7] of chapters/00_first.ipynb writes to stderr" in said
        runs.append(notebooks.read(path))
    first, second = runs
    assert dict(first.metadata) == {"kernelspec": notebooks.KERNELSPEC, "language_info": {"name": "python"}}
    assert "papermill" not in path.read_text()
    assert [c.execution_count for c in notebooks.code_cells(first)] == list(range(1, 8))
    assert notebooks.code_cells(first)[2].outputs[0].data["image/png"]
    assert [o.name for o in notebooks.code_cells(first)[6].outputs] == ["stdout", "stderr"]
    timed = [notebooks.code_cells(nb)[5].pop("outputs") for nb in runs]
    assert timed[0] != timed[1]
    assert first == second

    before = path.read_bytes()
    broken = notebooks.read(path)
    broken.cells[2].source = "1 / 0"
    notebooks.write(broken, path)
    after = path.read_bytes()
    assert before != after
    assert run(course, "--in-place")[0] == 1
    assert path.read_bytes() == after, "a notebook that fails keeps the outputs it had"


def test_a_kernel_that_dies_is_a_failure(good, course):
    nb = good()
    nb.cells.append(good.code("import os\n\nos._exit(3)", None))
    notebooks.write(nb, course / "chapters" / "00_first.ipynb")
    code, said = run(course)
    assert code == 1
    assert "Kernel died" in said


def test_pieces_of_a_stream_are_joined(good):
    out, err, picture = good.stream, lambda text: good.stream(text, "stderr"), good().cells[3].outputs[0]
    outputs = [err("w"), out("a"), err("x"), out("b"), picture, out("c"), out("d")]
    tidied = notebooks.tidy_outputs(outputs)
    assert [o.get("text") for o in tidied] == ["ab", "wx", None, "cd"]
    assert outputs[1].text == "a", "its input is left as it was"


def test_reading_gives_ids_by_position_and_writing_is_whole_or_nothing(good, tmp_path, monkeypatch):
    path = tmp_path / "a.ipynb"
    raw = json.loads(notebooks.nbformat.writes(good()))
    for cell in raw["cells"]:
        del cell["id"]
    path.write_text(json.dumps(raw))
    assert [cell.id for cell in notebooks.read(path).cells] == [f"cell-{i}" for i in range(8)]
    assert notebooks.read(path) == notebooks.read(path)
    assert notebooks.read(path).cells[3].source == good().cells[3].source

    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        notebooks.write(good(), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a, b = 1, 2", "line 1"),
        ("a = b = 1", "line 1"),
        ("x = 1\nfor i in x: pass", "line 2"),
        ("x = a", "x is derived"),
    ],
)
def test_literals_refuses_what_is_not_one(source, message):
    assert notebooks.literals('A = 1\nB = {"k": [1, -2.5]}  # why\nC = None') == {
        "A": 1,
        "B": {"k": [1, -2.5]},
        "C": None,
    }
    with pytest.raises(ValueError, match=message):
        notebooks.literals(source)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (192, "3 min 12 s"),
        (3720, "1 h 2 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_tables():
    rows = [{"data": "a|b", "R@1": 0.15}, {"R@1": 1.0, "n": 20, "ok": True}]
    assert markdown_table(rows).splitlines() == [
        "| data | R@1 | n | ok |",
        "| --- | --- | --- | --- |",
        "| a\\|b | 0.150 |  |  |",
        "|  | 1.000 | 20 | True |",
    ]
    assert harvest(notebooks.nbformat.v4.new_notebook()) == []
