"""nbval as `make test` sets it up: what it must notice, and what it must pass over."""

import os
import platform
import re
import subprocess
import sys

import pytest
import torch

from tools import notebooks, run_tests
from tools.pins import parse, read_pins

FIGURE = """from IPython.display import display

display({"image/png": PNG, "text/plain": f"a bar {HEIGHT} high"}, raw=True, metadata={"image/png": {"alt": "a"}})"""
CELLS = {
    "number": "print(f'R@1 {0.1534:.3f}')",
    "figure": 'PNG, HEIGHT = "iVBORw0KGgoAAAAA", 0.5\n' + FIGURE,
    "stderr": "import os\nimport sys\n\nprint(os.getpid(), file=sys.stderr)\nprint('shapes (2, 3)')",
    "time": "import time\n\nprint(f'fitted in {time.process_time():.3f} s')",
    "cache": "print('$COMMONSPACE_CACHE/emoji/a-1.npz')",
    "ignored": "print(time.time())",
    "results": "t = {'caption': 'c', 'rows': [{'x': 0.5}]}\n"
    "display({'application/vnd.commonspace.results+json': t, 'text/plain': '0.5'}, raw=True)",
    "pins": f"import torch\n\nprint(torch.get_num_threads(), [os.environ.get(k) for k in {sorted(read_pins())}])",
}


def nbval(course, *paths):
    """nbval with the flags of `make test`, from a shell without the pins; passed, failed and the cells that failed."""
    env = {key: value for key, value in os.environ.items() if key not in read_pins() and "PYTEST" not in key}
    command = [*run_tests.PYTEST, *run_tests.NBVAL, "-p", "no:cacheprovider", *paths]
    done = subprocess.run(command, cwd=course, env=env, capture_output=True, text=True, timeout=300)
    counts = [int((re.search(rf"(\d+) {word}", done.stdout) or [0, 0])[1]) for word in ("passed", "failed", "error")]
    return counts, set(re.findall(r"^FAILED .*?(\d+_\w+\.ipynb::Cell \d+)", done.stdout, flags=re.M)), done.stdout


@pytest.fixture
def executed(course, good):
    """A notebook of `CELLS`, run for its outputs."""
    nb = good()
    nb.cells = [good.code(source, i + 1) for i, source in enumerate(CELLS.values())]
    nb.cells[list(CELLS).index("ignored")].metadata.tags = ["nbval-ignore-output"]
    path = course / "chapters" / "00_first.ipynb"
    notebooks.write(nb, path)
    command = [sys.executable, "-m", "tools.run_notebooks", "--in-place"]
    done = subprocess.run(command, cwd=course, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def test_what_is_noticed_and_what_is_passed_over(executed, course):
    """One notebook as committed, one with harmless differences, and one in which every compared output is wrong."""
    same, wrong = notebooks.read(executed), notebooks.read(executed)
    where = {name: i for i, name in enumerate(CELLS)}

    same.cells[where["figure"]].outputs[0].data["image/png"] = "iVBORw0KGgoBBBBB"
    same.cells[where["stderr"]].outputs = same.cells[where["stderr"]].outputs[:1]  # the noise was another machine's
    assert same.cells[where["stderr"]].outputs[0].name == "stdout"
    same.cells[where["time"]].outputs[0].text = "fitted in 2 min 12 s\n"
    same.cells[where["cache"]].outputs[0].text = "~/elsewhere/b.npz\n"
    same.cells[where["results"]].outputs[0].data["application/vnd.commonspace.results+json"]["rows"] = [{"x": 0.51}]
    notebooks.write(same, course / "chapters" / "01_same.ipynb")

    wrong.cells[where["number"]].outputs[0].text = "R@1 0.154\n"
    wrong.cells[where["figure"]].outputs[0].data["text/plain"] = "a bar 0.6 high"
    wrong.cells[where["stderr"]].outputs[0].text = "shapes (3, 2)\n"
    wrong.cells[where["time"]].outputs[0].text = "scored in 1.2 s\n"
    wrong.cells[where["cache"]].outputs[0].text = "elsewhere\n"
    wrong.cells[where["ignored"]].outputs = []
    wrong.cells[where["results"]].outputs[0].data["text/plain"] = "0.6"
    wrong.cells[where["pins"]].outputs[0].text = "8 []\n"
    notebooks.write(wrong, course / "solutions" / "02_wrong.ipynb")

    (passed, failed, errors), cells, said = nbval(course, "chapters", "solutions")
    expected = {f"02_wrong.ipynb::Cell {i}" for name, i in where.items() if name != "ignored"}
    assert cells == expected, said
    assert (passed, failed, errors) == (3 * len(CELLS) - len(expected), len(expected), 0), said
    # the kernels of the runner and of nbval had the same pins, or the last cell would have failed
    pins = notebooks.code_cells(notebooks.read(executed))[where["pins"]].outputs[0].text
    assert pins == f"1 {[read_pins()[key] for key in sorted(read_pins())]}\n"


def test_the_tests_themselves_are_pinned():
    assert torch.get_num_threads() == 1
    assert {key: os.environ.get(key) for key in read_pins()} == read_pins()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the AVX2 pins are for x86-64")
def test_the_processor_pins_are_heard():
    """numpy takes the names without a warning, and all of them leave AVX2 and nothing beyond."""
    code = (
        "import numpy as np, torch\n"
        "features = np.show_config('dicts')['SIMD Extensions']['found']\n"
        "print(torch.backends.cpu.get_cpu_capability(), [f for f in features if f in ('X86_V4', 'AVX512_ICL')])"
    )
    env = os.environ | read_pins("x86_64")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("AVX2 []\n", "")


def test_other_processors_get_no_x86_pins():
    assert read_pins("arm64") == parse((notebooks.ROOT / "tools" / "pins.env").read_text())
    assert not [key for key, value in read_pins("arm64").items() if "AVX" in value or "Haswell" in value]


@pytest.mark.parametrize("line", ["OMP_NUM_THREADS", "export A=1", "=1", "A B=1"])
def test_a_line_of_the_pins_is_key_and_value(line):
    assert parse("# a comment\n\nA=x y\n") == {"A": "x y"}
    with pytest.raises(ValueError, match="line 2"):
        parse("A=1\n" + line)


def test_make_exports_the_same_pins(course):
    """The Makefile reads the files by itself: both readings agree."""
    with (course / "Makefile").open("a") as makefile:
        makefile.write("\nshow-pins:\n\t@env\n")
    done = subprocess.run(
        ["make", "-s", "show-pins"], cwd=course, env={"PATH": os.environ["PATH"]}, capture_output=True
    )
    shown = dict(line.split("=", 1) for line in done.stdout.decode().splitlines() if "=" in line)
    assert {key: shown.get(key) for key in read_pins()} == read_pins()
