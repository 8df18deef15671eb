"""Every chapter and solution as committed keeps to the rules of tools/notebook_rules.py, tested in test_rules.py."""

import json

import pytest

from tools import notebook_rules as rules
from tools import notebooks, stubs

ROOT = notebooks.ROOT
PATHS = [path for folder in notebooks.FOLDERS for path in sorted((ROOT / folder).glob("*.ipynb"))]
CHAPTERS = [path for path in PATHS if path.parent.name == "chapters"]


def name(path):
    return f"{path.parent.name}/{path.stem}"


def test_every_chapter_has_its_solutions():
    assert CHAPTERS, "no chapter in chapters/"
    solutions = [path.name for path in PATHS if path.parent.name == "solutions"]
    assert [path.name for path in CHAPTERS] == solutions


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", PATHS, ids=name)
def test_rule(path, rule):
    complaints = rule(notebooks.read(path), path)
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_every_cell_has_its_own_id(path):
    ids = [cell.get("id") for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    assert None not in ids
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_stubs_are_the_cut_solutions(path):
    chapter, solution = notebooks.read(path), notebooks.read(ROOT / "solutions" / path.name)
    assert stubs.exercises(chapter), "a chapter has 3 to 5 exercises"
    assert stubs.update(chapter, solution) == [], "make stubs; make notebooks"


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_hints_and_checks_stand_around_each_exercise(path):
    complaints = rules.hints_and_checks(notebooks.read(path), path.stem[:2])
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("file", sorted((ROOT / "chapters" / "full").rglob("*.yaml")), ids=lambda file: file.stem)
def test_yaml_parameters_exist(file):
    complaints = rules.yaml_keys(file, {path.stem: notebooks.read(path) for path in CHAPTERS})
    assert not complaints, "\n".join(complaints)
