"""Rows on disk, TensorBoard where there is one, and a bar where someone looks."""

import csv
import sys
import types

import pytest

from commonspace.training import History
from commonspace.training import log as logs


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_and_new_columns(tmp_path):
    rows = []
    with logs.Log(tmp_path / "deep", rows) as log:
        log.add({"step": 1, "epoch": 0, "loss": 0.1 + 0.2})
        log.add({"step": 2, "epoch": 0, "loss": 1e-30, "a,b": -1.0})
        log.add({"step": 3, "epoch": 1, "a,b": 2.0})
    found = read(tmp_path / "deep" / "log.csv")
    assert list(found[0]) == ["step", "epoch", "loss", "a,b"]
    assert float(found[0]["loss"]) == 0.1 + 0.2  # every digit
    assert [row["a,b"] for row in found] == ["", "-1.0", "2.0"]
    assert [row["loss"] for row in found][2] == ""
    assert rows[1] == {"step": 2, "epoch": 0, "loss": 1e-30, "a,b": -1.0}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["log.csv"]


def test_each_row_is_there_at_once(tmp_path):
    log = logs.Log(tmp_path, [])
    for step in (1, 2, 3):
        log.add({"step": step, "epoch": 0, "loss": 0.5})
        assert len(read(tmp_path / "log.csv")) == step


def test_what_came_after_the_checkpoint_is_cut(tmp_path):
    first = [{"step": 1, "epoch": 0, "loss": 0.5}]
    log = logs.Log(tmp_path, [])
    for row in [*first, {"step": 2, "epoch": 0, "loss": 0.25, "late": 1.0}]:
        log.add(row)
    log = logs.Log(tmp_path, list(first))
    assert read(tmp_path / "log.csv") == [{"step": "1", "epoch": "0", "loss": "0.5"}]
    log.add({"step": 2, "epoch": 0, "loss": 0.75})
    assert [row["loss"] for row in read(tmp_path / "log.csv")] == ["0.5", "0.75"]


def test_without_a_folder_rows_are_kept_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = []
    with logs.Log(None, rows) as log:
        log.add({"step": 1, "epoch": 0})
    assert rows == [{"step": 1, "epoch": 0}]
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_is_told_if_it_is_there(tmp_path, monkeypatch):
    said = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            said.append(("open", folder, purge_step))

        def add_scalar(self, name, value, step):
            said.append((name, value, step))

        def close(self):
            said.append("close")

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with logs.Log(tmp_path, [{"step": 4, "epoch": 0, "loss": 1.0}]) as log:
        log.add({"step": 6, "epoch": 1, "loss": 0.5})
    assert said == [("open", str(tmp_path), 5), ("loss", 0.5, 6), "close"]


def test_a_missing_tensorboard_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # import raises ImportError
    with logs.Log(tmp_path, []) as log:
        log.add({"step": 1, "epoch": 0, "loss": 1.0})
    assert log.board is None


def test_columns_of_a_history():
    history = History(rows=[{"step": 1, "loss": 2.0}, {"step": 2}, {"step": 3, "loss": 1.0}])
    assert history.column("loss") == [2.0, 1.0]
    with pytest.raises(KeyError, match=r"no row has 'los'; there are \['loss', 'step'\]"):
        history.column("los")


@pytest.mark.parametrize(
    ("tty", "environment", "wanted"),
    [
        (True, {}, True),
        (False, {}, False),
        (False, {"JPY_SESSION_NAME": "a.ipynb"}, True),
        (True, {"CI": "true"}, False),
        (True, {"PAPERMILL_OUTPUT_PATH": "x"}, False),
        (False, {"JPY_SESSION_NAME": "a.ipynb", "CI": "1"}, False),
    ],
)
def test_a_bar_is_there_when_someone_looks(monkeypatch, tty, environment, wanted):
    for name in ("CI", "JPY_SESSION_NAME", "PAPERMILL_OUTPUT_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: tty, raising=False)
    assert logs.bar_wanted() is wanted
    monkeypatch.setattr(logs, "tqdm", lambda **arguments: arguments)
    assert logs.progress_bar(9, 3, True) == {"total": 9, "initial": 3, "unit": "step", "disable": not wanted}
    assert logs.progress_bar(9, 3, False)["disable"] is True
