"""A run killed at any moment and started again ends like one that was not: weights, history and log, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked")

SCRIPT = Path(__file__).parent / "killed_run.py"
WHOLE = ["end"]
# The step function is called 3 times a step, 12 times an epoch, 36 times in all.
MOMENTS = [
    *([f"step:{k}", "end"] for k in (1, 4, 12, 13, 18, 26, 36)),
    *([f"half:{k}", "end"] for k in (1, 2, 3)),
    *([f"renamed:{k}", "end"] for k in (1, 2, 3)),
    *([f"replace:{k}", "end"] for k in (1, 2, 3, 4, 5)),
    ["step:20", "step:3", "half:1", "step:14", "end"],
    ["end", "end"],  # a run that is over says the same again
]  # fmt: skip
SETTINGS = [{}, {"checkpoint_every": 1}, {"checkpoint_every": 3}, {"drop_last": False, "seed": 5}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder ``<setting>/<moments>`` for every pair, all made by one process, since importing torch takes longest."""
    folder = tmp_path_factory.mktemp("killed")
    scenarios = [
        {"output": str(folder / str(i) / "-".join(moments)), "moments": moments, "arguments": arguments}
        for i, arguments in enumerate(SETTINGS)
        for moments in [WHOLE, *(MOMENTS if i < 1 else MOMENTS[i::3])]
    ]
    scenarios.append({"output": str(folder / "longer"), "moments": ["end"], "arguments": {"epochs": 2}})
    scenarios.append({"output": str(folder / "longer"), "moments": ["step:6", "end"], "arguments": {"epochs": 3}})
    (folder / "scenarios.json").write_text(json.dumps(scenarios))
    process = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), str(folder / "scenarios.json")],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return folder


def same(run: Path, whole: Path) -> None:
    left, right = (torch.load(path / "result.pt", weights_only=True) for path in (run, whole))
    assert left["weights"].keys() == right["weights"].keys()
    for name in left["weights"]:
        assert torch.equal(left["weights"][name], right["weights"][name]), name
    assert left["rows"] == right["rows"]
    assert left["best"] == right["best"]
    assert (run / "log.csv").read_bytes() == (whole / "log.csv").read_bytes()
    assert sorted(path.name for path in run.iterdir()) == ["log.csv", "result.pt", "state.pt"]


@pytest.mark.parametrize(
    ("setting", "moments"),
    [(i, moments) for i in range(len(SETTINGS)) for moments in (MOMENTS if i < 1 else MOMENTS[i::3])],
    ids=lambda x: "-".join(x) if isinstance(x, list) else str(SETTINGS[x]),
)
def test_a_killed_run_ends_as_a_whole_one(folder, setting, moments):
    same(folder / str(setting) / "-".join(moments), folder / str(setting) / "end")


def test_a_finished_run_goes_on_to_more_epochs(folder):
    same(folder / "longer", folder / "0" / "end")


def test_the_log_has_every_row_once_and_the_late_column(folder):
    lines = (folder / "0" / "end" / "log.csv").read_text().splitlines()
    assert lines[0].split(",")[:2] == ["step", "epoch"]
    assert {"body/loss", "head/loss", "head/late", "validation"} <= set(lines[0].split(","))
    assert [line.split(",")[:2] for line in lines[1:]] == [
        [str(step), str((step - 1) // 4)] for step in (3, 4, 6, 8, 9, 12)
    ]


def test_the_settings_do_differ(folder):
    runs = [torch.load(folder / str(i) / "end" / "result.pt", weights_only=True) for i in (0, 3)]
    assert not torch.equal(runs[0]["weights"]["head.weight"], runs[1]["weights"]["head.weight"])
