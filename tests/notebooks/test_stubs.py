"""Stubs are cut from the solutions."""

import nbformat
import pytest

from tools import notebooks, stubs

SOLUTION = '''def whiten(x):
    """Rows of x, whitened."""
    # solution: begin
    x = x - x.mean(0)

    return x
    # solution: end'''
STUB = '''def whiten(x):
    """Rows of x, whitened."""
    raise NotImplementedError("your turn")'''


def test_cut_keeps_all_but_the_answer():
    assert stubs.cut(SOLUTION) == STUB
    two = (
        SOLUTION
        + "\n\n\nclass A:\n    def f(self):\n        # solution: begin\n        return 1\n        # solution: end\n\nA"
    )
    assert (
        stubs.cut(two) == STUB + '\n\n\nclass A:\n    def f(self):\n        raise NotImplementedError("your turn")\n\nA'
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f():\n    return 1", "needs its answer"),
        ("def f():\n    # solution: begin\n    return 1", "needs its answer"),
        ("def f():\n    return 1\n    # solution: end", "without"),
        ("def f():\n    # solution: begin\n    # solution: begin\n    # solution: end", "second"),
        ("# solution: begin\nx = 1\n# solution: end", "outside a function"),
    ],
)
def test_wrong_marks_are_refused(source, message):
    with pytest.raises(ValueError, match=message):
        stubs.cut(source)


def pair(good):
    chapter, solution = good(), good()
    solution.cells[5].source = SOLUTION
    return chapter, solution


def test_update_writes_the_stub_and_drops_its_outputs_only(good):
    chapter, solution = pair(good)
    assert stubs.update(chapter, solution) == []
    assert chapter == good()
    chapter.cells[5].source = "def whiten(x):\n    return x"
    chapter.cells[5].outputs = [good.stream("old")]
    assert stubs.update(chapter, solution) == ["whiten"]
    assert (chapter.cells[5].source, chapter.cells[5].outputs, chapter.cells[5].execution_count) == (STUB, [], None)
    chapter.cells[5] = good().cells[5]
    assert chapter == good()


@pytest.mark.parametrize("side", [0, 1])
def test_an_exercise_on_one_side_only_is_refused(side, good):
    both = pair(good)
    extra = good.code("def rank(x):\n    # solution: begin\n    # solution: end", 7, tags=["exercise"], exercise="rank")
    both[side].cells.append(extra)
    with pytest.raises(ValueError, match="rank"):
        stubs.update(*both)


@pytest.mark.parametrize("metadata", [{"tags": ["exercise"]}, {"exercise": "whiten"}])
def test_tag_and_name_go_together(metadata):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1", metadata=metadata)])
    with pytest.raises(ValueError, match="needs both"):
        stubs.exercises(nb)


def test_a_name_comes_once(good):
    nb = good()
    nb.cells.append(nb.cells[5])
    with pytest.raises(ValueError, match="two cells are exercise whiten"):
        stubs.exercises(nb)


def test_the_command_mends_what_it_can_and_fails_for_the_rest(good, course, capsys):
    chapter, solution = pair(good)
    chapter.cells[5].source = "def whiten(x): ..."
    for number in ("00_a", "01_b"):
        notebooks.write(chapter, course / "chapters" / f"{number}.ipynb")
        notebooks.write(solution, course / "solutions" / f"{number}.ipynb")
    assert stubs.main(course) == 0
    assert notebooks.read(course / "chapters" / "01_b.ipynb").cells[5].source == STUB

    (course / "chapters" / "00_a.ipynb").unlink()
    chapter.cells[5].source = "def whiten(x): ..."
    notebooks.write(chapter, course / "chapters" / "01_b.ipynb")
    assert stubs.main(course) == 1
    assert "00_a.ipynb" in capsys.readouterr().out
    assert notebooks.read(course / "chapters" / "01_b.ipynb").cells[5].source == STUB
