"""The benchmarks run at a tiny size, compare equal results before they give times, and record only full runs.

How fast anything is, is no test: it depends on the machine. `make bench` says it.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("bench_*.py"))


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture
def bench():
    return importlib.import_module("_bench")


def records() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (ROOT / "results").glob("bench_*.json")}


def test_there_are_benchmarks():
    assert {"bench_cca", "bench_kernel_cca", "bench_metrics"} <= set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_tiny_run_prints_its_table_and_records_nothing(name):
    before = records()
    command = [sys.executable, f"benchmarks/{name}.py", "--tiny"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    header, _, *rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert "| method |" in header
    assert len(rows) >= 2
    assert records() == before


SPOILED = [
    # What a benchmark compares with, replaced by something that finds other numbers.
    ("bench_acmr", "triplets", lambda v, t, label: (v - t).square().mean()),
    (
        "bench_captions",
        "METHODS",
        {"ours": lambda h, r: lambda: np.zeros(len(h)), "other": lambda h, r: lambda: np.eye(len(h))[-1]},
    ),
    (
        "bench_reward",
        "METHODS",
        {"ours": lambda r, s, p: lambda: np.zeros(len(s)), "other": lambda r, s, p: lambda: np.eye(len(s))[-1]},
    ),
    (
        "bench_cca",
        "ZooCCA",
        lambda n_components: importlib.import_module("cca_zoo.linear").RidgeCCA(n_components, shrinkage=0.5),
    ),
    ("bench_kernel_cca", "KAPPA", None),
    ("bench_losses", "LOSSES", {"x": {"commonspace": lambda q, t: (q * t).sum(), "loop": lambda q, t: (q * t).mean()}}),
    ("bench_metrics", "METHODS", {"commonspace": lambda *data: 0.3, "other": lambda *data: 0.4}),
    (
        "bench_composeae",
        "METHODS",
        {"rotation": {"complex tensors": lambda r, eta, gamma: eta, "other": lambda r, eta, gamma: 2 * eta}},
    ),
    (
        "bench_order",
        "METHODS",
        {"commonspace": lambda v, t: v @ t.T, "other": lambda v, t: v @ t.T + 0.01 * v.sum(dim=1, keepdim=True)},
    ),
    ("bench_compose", "METHODS", {"commonspace": lambda **data: {"R@1": 0.3}, "other": lambda **data: {"R@1": 0.4}}),
    (
        "bench_scenes",
        "PEERS",
        {2: (4, 2, "other", lambda scenes: np.zeros((len(scenes), 64, 64, 3), np.uint8), 0, 0.02)},
    ),
    (
        "bench_text",
        "METHODS",
        {
            name: (lambda x=x: lambda t: torch.tensor([[1.0, x]] * len(t)), False, True)
            for name, x in (("a", 0), ("b", 1))
        },
    ),
    ("bench_sae", "METHODS", {"commonspace": lambda X, S: S.T @ X, "scipy": lambda X, S: 2 * S.T @ X}),
]


@pytest.mark.parametrize(("name", "what", "instead"), SPOILED, ids=[name for name, *_ in SPOILED])
def test_results_that_differ_are_not_timed_against_each_other(monkeypatch, name, what, instead):
    module = importlib.import_module(name)
    if name == "bench_kernel_cca":
        theirs = module.KCCA
        what, instead = "KCCA", lambda k, shrinkage, **rest: theirs(k, shrinkage=min(0.9, 50 * shrinkage), **rest)
    monkeypatch.setattr(module, what, instead)
    with pytest.raises(AssertionError, match="nothing to compare"):
        module.run(tiny=True)


def test_a_race_takes_turns_and_relates_medians_to_the_first(bench, monkeypatch):
    clock, calls = [0.0], []

    def runner(name, *seconds):
        left = list(seconds)

        def run():
            calls.append(name)
            clock[0] += left.pop(0)

        return run

    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock[0])
    contestants = {"ours": runner("ours", 50, 1, 9, 2), "peer": runner("peer", 50, 6, 8, 90), "slow": runner("slow", 7)}
    rows = bench.race(contestants, {"ours": 3, "peer": 3, "slow": 1})
    assert calls == ["ours", "peer", "ours", "peer", "slow", "ours", "peer", "ours", "peer"]
    assert [row["seconds"] for row in rows] == [2, 8, 7]
    assert [row["ratio"] for row in rows] == [1, 4, 3.5]
    assert [row["repeats"] for row in rows] == [3, 3, 1]


def test_same_asks_every_one(bench):
    bench.same({"a": 1.0, "b": 1.001, "c": 0.999}, within=0.01)
    for value in (1.02, float("nan")):
        with pytest.raises(AssertionError, match="c gives"):
            bench.same({"a": 1.0, "b": 1.0, "c": value}, within=0.01)


def test_the_peak_of_memory_is_that_of_the_run(bench):
    few, many = (bench.peak_memory("_held", "hold", mib=mib)[1] for mib in (1, 300))
    assert few < 100
    assert 290 < many < 400
    with pytest.raises(RuntimeError, match="ended before it could report"):
        bench.peak_memory("_held", "end")


@pytest.fixture(autouse=True)
def _held(tmp_path, monkeypatch):
    """A module for the fresh process: one function that takes memory, one that ends the process."""
    (tmp_path / "_held.py").write_text(
        "import os\n\n\ndef hold(mib):\n    return lambda: bytearray(b'x') * (mib * 2**20)\n\n\n"
        "def end():\n    os._exit(3)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("tiny", [True, False])
def test_a_record_holds_the_table_and_what_it_was_made_on(bench, tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.setattr(sys, "argv", ["bench_x.py", *(["--tiny"] if tiny else [])])
    (tmp_path / "results").mkdir()
    rows = [{"n": 5, "method": "ours", "seconds": 0.25, "ratio": 1.0}]
    bench.main("x", "A title", lambda tiny: rows, peers=("cca-zoo",), root=tmp_path)
    assert "| 5 | ours | 0.250 | 1.000 |" in capsys.readouterr().out
    files = list((tmp_path / "results").iterdir())
    if tiny:
        assert files == []
        return
    (file,) = files
    found = json.loads(file.read_text())
    assert file.name == "bench_x.json"
    assert found["tables"][0]["rows"] == rows
    assert found["command"] == "make bench WHAT=x"
    assert {"date", "commit", "python", "packages", "machine", "seconds"} <= found["provenance"].keys()
    assert {"torch", "numpy", "cca-zoo"} <= found["provenance"]["packages"].keys()
