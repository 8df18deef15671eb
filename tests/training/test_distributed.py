"""Two gloo processes equal one with the doubled batch; the known wrong ways do not. One process needs none of it."""

from pathlib import Path

import pytest
import torch

from commonspace.training import all_gather, is_main, pick_device, rank, setup, train, world_size
from commonspace.training.distributed import average, gather_objects, wrap

SCRIPT = Path(__file__).parent / "two_processes.py"


def close(one, other):
    return all(torch.allclose(one[name], other[name], rtol=0, atol=1e-6) for name in one)


@pytest.mark.parametrize("kind", ["ours", "trace norm"])
def test_gradients_equal_those_of_the_doubled_batch(alone, both, kind):
    expected = alone.gradients(kind)
    assert {"image.0.weight", "text.weight", "temperature"} <= expected.keys()
    assert all(grad.abs().max() > 1e-3 for grad in expected.values() if grad.ndim != 1 or kind == "ours")
    for found in both:
        for name, grad in expected.items():
            torch.testing.assert_close(found[kind][name], grad, rtol=0, atol=1e-6, msg=name)


def test_plain_gather_has_another_direction(alone, both):
    expected, found = alone.gradients("ours")["image.0.weight"], both[0]["plain"]["image.0.weight"]
    assert torch.nn.functional.cosine_similarity(expected.flatten(), found.flatten(), dim=0) < 0.99


def test_the_own_slot_put_back_doubles_the_temperatures_gradient(alone, both):
    expected, found = alone.gradients("ours"), both[0]["reinserted"]
    torch.testing.assert_close(found["temperature"], 2 * expected["temperature"])
    assert not torch.allclose(found["image.0.weight"], expected["image.0.weight"], rtol=0, atol=1e-3)


def test_rows_of_unequal_processes_are_gathered(both):
    every = torch.cat([torch.arange(6.0).reshape(3, 2), torch.arange(10.0).reshape(5, 2) + 100])
    weights = torch.arange(16.0).reshape(8, 2) * 3  # of both losses, 1 and 2 times
    for found, rows in zip(both, (slice(0, 3), slice(3, 8)), strict=True):
        assert torch.equal(found["uneven"]["every"], every)
        assert torch.equal(found["uneven"]["grad"], weights[rows])
        assert found["uneven"]["labels"].tolist() == [0, 1, 2, 10, 11, 12, 13, 14]


def test_rows_of_different_shapes_are_refused_by_both(both):
    assert all("(2, 3), (2, 4)" in found["uneven"]["refused"] for found in both)


def test_training_on_two_equals_training_on_one(alone, both, tmp_path):
    expected = alone.trained(tmp_path / "one", "contrastive", validate=lambda module: 1.0)
    start = alone.everything()[0].state_dict()
    assert not close(start, expected["weights"])
    for found in both:
        assert close(expected["weights"], found["train"]["weights"])
        assert found["train"]["best"] == expected["best"] == 0
        for row, reference in zip(found["train"]["rows"], expected["rows"], strict=True):
            assert row["rows"] == reference["rows"] / 2
            assert row["loss"] == pytest.approx(reference["loss"], abs=1e-6)
    assert both[0]["train"]["rows"] == both[1]["train"]["rows"]


def test_two_optimisers_and_a_kept_batch_on_two_equal_one(alone, both):
    expected = alone.trained(None, "adversarial", drop_last=False, batch_size=10)
    for found in both:
        assert close(expected["weights"], found["kept"]["weights"])


def test_one_process_writes_the_files(both, folder):
    lines = (folder / "train" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "3", "6", "9"]
    assert sorted(path.name for path in (folder / "train").iterdir()) == ["log.csv", "state.pt"]


def test_each_process_draws_its_own_numbers_and_goes_on_with_them(both, folder, alone):
    assert both[0]["resumed"]["rows"] == both[0]["whole"]["rows"]
    for found in both:
        for name, weights in found["whole"]["weights"].items():
            assert torch.equal(weights, found["resumed"]["weights"][name])
            assert torch.equal(weights, both[0]["whole"]["weights"][name])
    draws = [row["draw"] for row in alone.trained(None, "dropout", log_every=1)["rows"]]
    assert draws != pytest.approx([row["draw"] for row in both[0]["whole"]["rows"]])  # the mean over two processes


def test_a_run_of_two_does_not_go_on_with_one(alone, both, folder):
    with pytest.raises(ValueError, match=r"processes: 2 then, 1 now"):
        alone.trained(folder / "whole", "dropout", log_every=1)


def test_facts(both):
    assert [found["facts"] for found in both] == [[0, 2, True, "cpu"], [1, 2, False, "cpu"]]


# ---- one process ----------------------------------------------------------------------------------------------------


def test_alone_nothing_is_needed():
    x, net = torch.randn(3, 2), torch.nn.Linear(2, 2)
    with setup("cpu") as device:
        assert device == torch.device("cpu")
        assert not torch.distributed.is_initialized()
    assert (rank(), world_size(), is_main()) == (0, 1, True)
    assert all_gather(x) is x
    assert wrap(net, device) is net
    assert average({"a": 0.1}, device) == {"a": 0.1}
    assert gather_objects("thing") == ["thing"]


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else pick_device("auto").type)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="'cuda' is not on this machine"):
            pick_device("cuda")


def test_the_order_of_devices(monkeypatch):
    for cuda, mps, picked in [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda here=cuda: here)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda here=mps: here)
        assert pick_device().type == picked


def test_a_process_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in [("LOCAL_RANK", "1"), ("WORLD_SIZE", "2")]:
        monkeypatch.setenv(name, value)
    assert pick_device() == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="there are 2"):
        pick_device()


def test_torchrun_without_setup_is_refused(monkeypatch):
    for name, value in [("LOCAL_RANK", "0"), ("WORLD_SIZE", "2")]:
        monkeypatch.setenv(name, value)
    net = torch.nn.Linear(2, 1)
    with pytest.raises(RuntimeError, match="with setup"):
        train(net, None, 4, optimizers=torch.optim.SGD(net.parameters()), epochs=1, batch_size=2, device="cpu")
