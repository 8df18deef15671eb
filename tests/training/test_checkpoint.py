"""Files that are whole or not there; damage is told by the file's name."""

import errno
import json
import os

import pytest
import torch
from torch import nn

from commonspace.training import checkpoint, load_model, load_state, save_model, save_state

CONFIG = {"dim": 3, "rate": 0.1, "words": ["a", "ü"], "deep": {"none": None, "yes": True, "pair": (1, 2)}}


class Tied(nn.Module):
    """One weight under two names, one that is a view of a larger tensor, one with its rows across memory."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
        self.two.weight = self.one.weight
        self.across = nn.Parameter(torch.randn(4, 5, generator=generator).T)
        self.register_buffer("part", torch.arange(10 + seed)[2:5])
        self.low = nn.Parameter(torch.randn(2, generator=generator).to(torch.bfloat16))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_model_comes_back(tmp_path, seed):
    model = Tied(seed)
    folder = save_model(model, tmp_path / "deep" / "model", CONFIG)
    weights, config = load_model(folder)
    assert config == CONFIG | {"deep": CONFIG["deep"] | {"pair": [1, 2]}}
    assert weights.keys() == model.state_dict().keys()
    other = Tied(seed + 1)
    other.part = other.part.clone()
    other.load_state_dict(weights)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
        assert other.state_dict()[name].dtype == value.dtype
    assert other.one.weight is other.two.weight
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "weights.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_safetensors_itself_would_refuse():  # else the copies are for nothing
    from safetensors.torch import save

    with pytest.raises((RuntimeError, ValueError)):
        save(dict(Tied().state_dict()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"words": {1: "a"}}, r"config\['words'\] has the key 1"),
        ({"dims": [torch.ones(1)]}, r"config\['dims'\]\[0\] is a Tensor"),
        ({"at": {1, 2}}, r"config\['at'\] is a set"),
    ],
)
def test_a_config_that_json_would_change_is_refused(tmp_path, config, message):
    with pytest.raises(TypeError, match=message):
        save_model(nn.Linear(1, 1), tmp_path / "model", config)
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_is_no_tensor_is_refused(tmp_path):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

    with pytest.raises(TypeError, match="_extra_state of Extra is a dict"):
        save_model(Extra(1, 1), tmp_path / "model", {})


def test_other_files_are_not_lost(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        save_model(nn.Linear(1, 1), tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


class Stop(Exception):
    pass


def calls_until_done(monkeypatch, name: str, work) -> int:
    """How often ``work`` calls ``os.<name>``."""
    real, count = getattr(os, name), []
    with monkeypatch.context() as patch:
        patch.setattr(os, name, lambda *a, **k: (count.append(1), real(*a, **k))[1])
        work()
    return len(count)


@pytest.mark.parametrize("name", ["rename", "fsync"])
@pytest.mark.parametrize("older", [False, True])
def test_a_model_is_the_old_or_the_new_wherever_the_writing_stops(tmp_path, monkeypatch, name, older):
    """Before and after every rename and flush; then it can be saved again."""
    old, new = nn.Linear(2, 2), nn.Linear(2, 2)

    def prepare(folder):
        if older:
            save_model(old, folder, {"age": "old"})

    prepare(tmp_path / "count")
    total = calls_until_done(monkeypatch, name, lambda: save_model(new, tmp_path / "count", {}))
    assert total == {"rename": 1 + older, "fsync": 4}[name]
    seen = set()
    for stop in range(total):
        for after in (False, True):
            folder = tmp_path / f"{stop}{after}" / "model"
            prepare(folder)
            real, calls = getattr(os, name), iter(range(99))

            def stopping(*arguments, real=real, calls=calls, stop=stop, after=after):
                due = next(calls) == stop
                if due and not after:
                    raise Stop
                real(*arguments)
                if due:
                    raise Stop

            with monkeypatch.context() as patch:
                patch.setattr(os, name, stopping)
                with pytest.raises(Stop):
                    save_model(new, folder, {"age": "new"})
            try:
                weights, config = load_model(folder)
            except FileNotFoundError:
                assert not older
                seen.add("none")
            else:
                assert torch.equal(weights["weight"], {"old": old, "new": new}[config["age"]].weight)
                seen.add(config["age"])
            save_model(new, folder, {"age": "newer"})
            assert load_model(folder)[1] == {"age": "newer"}
            assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert seen == {"old" if older else "none", "new"}


def test_the_old_model_outlives_two_stops(tmp_path, monkeypatch):
    """Stopped between the two renames, saved again and stopped before the new one has its name."""
    folder = save_model(nn.Linear(2, 2), tmp_path / "model", {"age": "old"})
    real = os.rename

    def stop_before_the_new(source, target):
        if str(source).endswith(".new"):
            raise Stop
        real(source, target)

    monkeypatch.setattr(os, "rename", stop_before_the_new)
    for _ in range(2):
        with pytest.raises(Stop):
            save_model(nn.Linear(2, 2), folder, {"age": "new"})
        assert load_model(folder)[1] == {"age": "old"}


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json"])
def test_a_missing_file_is_named(tmp_path, name):
    folder = save_model(nn.Linear(1, 1), tmp_path / "model", {})
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"model is no saved model: {name} is missing"):
        load_model(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no saved model"):
        load_model(tmp_path / "nowhere")


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json"])
@pytest.mark.parametrize("how", ["cut", "empty", "flip", "foreign"])
def test_a_damaged_model_is_named(tmp_path, name, how):
    path = save_model(nn.Linear(5, 5), tmp_path / "model", {"a": 1}) / name
    if how == "flip":
        flip(path, -9 if name.startswith("w") else 0)
    else:
        path.write_bytes({"cut": path.read_bytes()[:-7], "empty": b"", "foreign": b'{"dim": 3}'}[how])
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        load_model(path.parent)


def test_weights_that_agree_with_their_sum_and_are_none(tmp_path):
    folder = save_model(nn.Linear(1, 1), tmp_path / "model", {})
    (folder / "weights.safetensors").write_bytes(b"nonsense")
    content = json.loads((folder / "config.json").read_text())
    import hashlib

    content["weights_sha256"] = hashlib.sha256(b"nonsense").hexdigest()
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
        load_model(folder)


# ---- the state of a run ---------------------------------------------------------------------------------------------


def test_a_state_comes_back(tmp_path):
    state = {"x": torch.randn(3, 2), "n": [1, 2.5, None, ("a", True)], "inner": {"": {0: torch.arange(3)}}}
    save_state(tmp_path / "deep" / "state.pt", state)
    found = load_state(tmp_path / "deep" / "state.pt")
    assert torch.equal(found["x"], state["x"])
    assert found["n"] == state["n"]
    assert torch.equal(found["inner"][""][0], torch.arange(3))


@pytest.mark.parametrize("how", ["cut", "empty", "flip", "foreign"])
def test_a_damaged_state_is_named(tmp_path, how):
    path = tmp_path / "state.pt"
    save_state(path, {"x": torch.zeros(1000)})
    content = path.read_bytes()
    if how == "flip":  # amid the zeros: nothing but a checksum can tell
        flip(path, content.index(bytes(3000)) + 1500)
    else:
        path.write_bytes({"cut": content[:-100], "empty": b"", "foreign": b"a page of text"}[how])
    with pytest.raises(ValueError, match=r"state\.pt is damaged"):
        load_state(path)


def test_a_state_with_code_in_it_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"x": Evil()}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt is damaged"):
        load_state(tmp_path / "state.pt")
    assert not (tmp_path / "ran").exists()


def test_a_missing_state_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"state\.pt is missing"):
        load_state(tmp_path / "state.pt")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_after_an_error_the_old_state_stays(tmp_path, monkeypatch, error):
    path = tmp_path / "state.pt"
    save_state(path, {"age": "old"})

    def full(state, part):
        part.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(type(error)):
        save_state(path, {"age": "new"})
    assert load_state(path) == {"age": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
