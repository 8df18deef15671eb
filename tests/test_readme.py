"""The README's promises: its commands exist, its example runs from a wheel, its tables are generated."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import commonspace
from commonspace.data import fixed_class_split
from tools import evidence

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A new environment outside the clone with our wheel in it, and what the wheel needs from this one by a path."""
    folder = tmp_path_factory.mktemp("outside")
    source = folder / "source"  # a copy, because building leaves files in the source tree
    shutil.copytree(
        ROOT / "lib" / "commonspace", source / "lib" / "commonspace", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", folder, source], check=True)
    (wheel,) = folder.glob("commonspace-*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", site, wheel], check=True)
    # A plain path in a .pth file brings the packages, but not the editable install, whose own .pth is not read.
    Path(site, "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder, python


def run_outside(outside, *arguments) -> str:
    folder, python = outside
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run([python, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_runs_from_a_wheel_and_prints_what_the_readme_says(outside):
    example = re.search(r"```python\n(.*?)```", README, re.S)[1]
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    expected = re.search(r"and prints\n\n```\n(.*?)```", README, re.S)[1]
    assert run_outside(outside, "-c", example) == expected


def test_the_wheel_holds_the_package_and_nothing_of_the_clone(outside):
    where = run_outside(outside, "-c", "import commonspace; print(commonspace.__file__)").strip()
    assert Path(where).is_relative_to(outside[0] / "env")
    assert run_outside(outside, "-m", "commonspace", "--version").strip() == f"commonspace {commonspace.__version__}"


def test_the_wheel_holds_the_published_class_splits(outside):
    names = sorted(path.stem for path in (ROOT / "lib/commonspace/data/lists").glob("*.json"))
    assert len(names) >= 5
    code = f"from commonspace.data import fixed_class_split as s; print([len(s(name).seen) for name in {names}])"
    assert run_outside(outside, "-c", code).strip() == str([len(fixed_class_split(name).seen) for name in names])


def test_every_make_target_named_in_readme_and_contributing_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    named = set(re.findall(r"\bmake ([a-z]+)\b", README + (ROOT / "CONTRIBUTING.md").read_text())) - {"for"}
    assert {"run", "test", "lab", "doctor"} <= named
    assert named <= targets


def test_every_file_the_readme_links_exists_and_the_map_names_every_chapter():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert {f"chapters/{path.name}" for path in (ROOT / "chapters").glob("*.ipynb")} <= set(links)


def test_the_tables_are_those_of_the_records():
    between = README.split(evidence.BEGIN)[1].split(evidence.END)[0]
    assert between.strip() == evidence.tables(ROOT)
    assert "| emoji" in between
