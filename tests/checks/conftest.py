"""What the four proofs of a check need: an exercise's stub out of its chapter, its answer out of the solutions."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from commonspace.losses import modality_loss, reverse_gradient
from commonspace.models import CCA

# What the notebooks have imported when an exercise cell runs.
KNOWN = {"np": np, "torch": torch, "F": F, "CCA": CCA, "LogisticRegression": LogisticRegression} | {
    "modality_loss": modality_loss,
    "reverse_gradient": reverse_gradient,
}

ROOT = Path(__file__).resolve().parents[2]


def function_of(notebook: Path, exercise: str):
    """The function that the cell of ``exercise`` defines."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.metadata.get("exercise") == exercise:
            namespace = dict(KNOWN)
            exec(cell.source, namespace)
            (name,) = namespace.keys() - KNOWN.keys() - {"__builtins__"}  # an exercise cell defines one function
            return namespace[name]
    raise LookupError(f"{notebook.name} has no exercise {exercise}")


@pytest.fixture
def stub():
    return lambda chapter, exercise: function_of(next((ROOT / "chapters").glob(f"{chapter}_*.ipynb")), exercise)


@pytest.fixture
def solution():
    return lambda chapter, exercise: function_of(next((ROOT / "solutions").glob(f"{chapter}_*.ipynb")), exercise)
