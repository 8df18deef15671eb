"""`make evidence` on a small course: the record holds what is needed to repeat it, and the README its tables."""

import json

import pytest

from tools import evidence, notebooks

PUBLISH = """from IPython.display import display

rows = [{"data": "digits", "R@1": 0.12345, "seeds": SEEDS}]
mime = "application/vnd.commonspace.results+json"
display({mime: {"caption": "Ranks", "columns": ["data", "R@1", "seeds"], "rows": rows}, "text/plain": "x"}, raw=True)"""


@pytest.fixture
def full(good, course):
    nb = good()
    nb.cells = [nb.cells[0], nb.cells[1], good.code(PUBLISH, 2)]
    nb.cells[1].source += "\nSEEDS = 3"
    notebooks.write(nb, course / "chapters" / "00_find.ipynb")
    (course / "chapters" / "full").mkdir()
    (course / "chapters" / "full" / "00_find-digits.yaml").write_text("PROFILE: paper\nSEEDS: 20\n")
    (course / "README.md").write_text(f"before\n{evidence.BEGIN}\nold\n{evidence.END}\nafter\n")
    return course


def test_a_full_run_is_recorded_and_the_readme_shows_it(full):
    (full / "results").mkdir()
    (full / "results" / "bench_speed.json").write_text("{}")  # a benchmark's record is no chapter's
    assert evidence.main([], root=full) == 0
    found = json.loads((full / "results" / "00_find-digits.json").read_text())
    assert found["parameters"]["SEEDS"] == 20
    assert found["parameters"]["PROFILE"] == "paper"
    assert found["tables"][0]["rows"] == [{"data": "digits", "R@1": 0.12345, "seeds": 20}]
    assert found["command"] == (
        "papermill chapters/00_find.ipynb build/full/00_find-digits.ipynb --cwd chapters -k python3 "
        "-f chapters/full/00_find-digits.yaml"
    )
    assert {"date", "commit", "python", "packages", "machine", "seconds"} <= found["provenance"].keys()
    assert str(full) not in json.dumps(found)
    readme = (full / "README.md").read_text()
    assert "| digits | 0.123 | 20 |" in readme
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "old" not in readme


def test_a_run_that_stops_leaves_the_older_record_and_fails(full, capsys):
    record = full / "results" / "00_find-digits.json"
    evidence.main([], root=full)
    before = record.read_text()
    (full / "chapters" / "full" / "00_find-digits.yaml").write_text("SEEDS: 1 / 0 is text, but not a number\n")
    nb = notebooks.read(full / "chapters" / "00_find.ipynb")
    nb.cells[2].source += "\nint(SEEDS)"
    notebooks.write(nb, full / "chapters" / "00_find.ipynb")
    assert evidence.main([], root=full) == 1
    assert "invalid literal for int" in capsys.readouterr().out
    assert record.read_text() == before


def test_only_the_chapter_that_is_asked_for_is_run(full):
    assert evidence.settings_files("0", full) == evidence.settings_files(None, full)
    assert evidence.settings_files("07", full) == []


def test_what_needs_a_gpu_is_run_where_there_is_one(full, monkeypatch):
    (full / "chapters" / "full" / "gpu").mkdir()
    (full / "chapters" / "full" / "gpu" / "00_find-large.yaml").write_text("SEEDS: 1\n")
    for there in (False, True):
        monkeypatch.setattr(evidence, "has_gpu", lambda there=there: there)
        names = [path.stem for path in evidence.settings_files(None, full)]
        assert names == ["00_find-digits"] + ["00_find-large"] * there


def test_a_readme_without_its_marks_is_left_alone(full):
    (full / "README.md").write_text("no marks")
    with pytest.raises(ValueError, match="each once"):
        evidence.update_readme(full)
    assert (full / "README.md").read_text() == "no marks"
