"""The recipe gxn on two processes ends with the weights that the whole batch on one gives; with a painter, whose noise
and normalisation are each process's own, with the same weights on both."""

from pathlib import Path

import pytest
import torch

from commonspace.recipes import gxn

SCRIPT = Path(__file__).parent / "gxn_two_processes.py"


@pytest.mark.parametrize("kind", ["look+write", "look", "write", "not masked", "reward"])
def test_two_processes_train_as_one(kind, alone, both):
    expected = alone.trained(kind)
    config = gxn.Config.profile("lesson", image="features", dim=8, hidden_dim=8, word_dim=6, **alone.KINDS[kind])
    start = gxn.build(alone.captioned().captions, 5, config).double().state_dict()
    moved = {name for name in start if not torch.equal(start[name], expected[name])}
    assert any(name.startswith("decoder.output") for name in moved) == (kind != "look")
    assert any(name.startswith("look.text_encoders") for name in moved) == (kind not in ("write", "reward"))
    assert ("look.image_heads.0.weight" in moved) == (kind not in ("write", "reward"))
    for found in both:
        assert found[kind].keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[kind][name], value, rtol=0, atol=1e-8, msg=name)


def test_two_processes_that_keep_their_rows_to_themselves_train_otherwise(alone, both):
    expected, found = alone.trained("look+write"), both[0]["look+write, not gathered"]
    for name in ("look.image_heads.0.weight", "look.text_encoders.0.rnn.weight_hh_l0", "decoder.output.weight"):
        assert (found[name] - expected[name]).abs().max() > 1e-5, name
    expected, found = alone.trained("reward"), both[0]["reward, not gathered"]
    for name in ("look.image_heads.1.weight", "decoder.rnn.weight_hh_l0", "decoder.output.weight"):
        assert (found[name] - expected[name]).abs().max() > 1e-5, name


@pytest.mark.parametrize("paths", ["paint", "look+paint"])
def test_two_processes_play_one_game(paths, alone, both):
    """Weights are the same on both, and not those of one process; a batch's mean and variance need not be the same."""
    one = alone.painted(paths)
    found = [process[f"painted, {paths}"] for process in both]
    assert found[0].keys() == found[1].keys() == one.keys()
    for name in one:
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(found[0][name], found[1][name]), name
            assert found[0][name].isfinite().all()
    for name in ("painter.painter.start.0.weight", "painter.judge.head.0.weight", "painter.augmentation.linear.weight"):
        assert not torch.equal(found[0][name], one[name])
