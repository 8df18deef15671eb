"""Composed retrieval on two processes has the gradients of the whole batch on one, for every loss."""

from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent / "composed_two_processes.py"


@pytest.mark.parametrize("loss", ["batch softmax", "soft triplet", "release"])
@pytest.mark.parametrize("composer", ["TIRG at the fc layer", "TIRG at the map", "Show and Tell", "ComposeAE"])
def test_gradients_of_two_processes_are_those_of_the_whole_batch(alone, both, composer, loss):
    expected = alone.gradients(composer, loss)
    for part in ("model.unit.scale", "model.image_encoder.body.0.weight", "model.text_encoder.embedding.weight"):
        assert expected[part].abs().max() > 1e-6, part
    for found in both:
        assert found[f"{composer}, {loss}"].keys() == expected.keys()
        for name, grad in expected.items():
            torch.testing.assert_close(found[f"{composer}, {loss}"][name], grad, rtol=0, atol=1e-9, msg=name)


def test_the_negatives_of_each_process_alone_are_another_loss(alone, both):
    expected = alone.gradients("TIRG at the fc layer", "batch softmax")["model.unit.scale"]
    assert (both[0]["not gathered"]["model.unit.scale"] - expected).abs() > 1e-4
