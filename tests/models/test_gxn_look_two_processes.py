"""The embedding trained on two processes has the loss and the gradients of the whole batch on one."""

from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent / "gxn_look_two_processes.py"


@pytest.mark.parametrize("name", ["GXN", "order-embeddings", "VSE0", "VSE++"])
def test_gradients_of_two_processes_are_those_of_the_whole_batch(alone, both, name):
    expected = alone.gradients(name)
    for part in ("image_heads.0.weight", "text_encoders.0.embedding.weight"):
        assert expected[f"model.{part}"].abs().max() > 1e-6, part
    for found in both:
        assert found[name].keys() == expected.keys()
        for part, value in expected.items():
            torch.testing.assert_close(found[name][part], value, rtol=0, atol=1e-9, msg=part)


def test_the_negatives_of_each_process_alone_are_another_loss(alone, both):
    expected = alone.gradients("GXN")["model.image_heads.0.weight"]
    assert (both[0]["not gathered"]["model.image_heads.0.weight"] - expected).abs().max() > 1e-3
