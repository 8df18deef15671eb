"""Chapter 00's optional cell runs a CLIP model: here a tiny one with random weights, saved to a folder."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import commonspace  # noqa: F401  its guard lets transformers import torchvision

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tiny_clip(tmp_path):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    letters = [chr(c) for c in range(33, 127)]
    vocabulary = [*letters, *[f"{letter}</w>" for letter in letters], "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": len(vocabulary) - 2, "eos_token_id": len(vocabulary) - 1, "pad_token_id": 1}
    config = CLIPConfig(
        text_config={**small, **ends, "vocab_size": len(vocabulary), "max_position_embeddings": 77},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    folder = tmp_path / "clip"
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def test_the_optional_cell_runs_a_named_model(tiny_clip, tmp_path):
    nb = nbformat.read(ROOT / "chapters" / "00_find_the_match.ipynb", as_version=4)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    (optional,) = [cell.source for cell in code if "if PRETRAINED:" in cell.source]
    script = "\n".join(
        [
            "import torch",
            "from commonspace.data import Emoji",
            "from commonspace.metrics import evaluate",
            f"PRETRAINED = {str(tiny_clip)!r}",
            "test = Emoji().split()[2][:20]",
            optional,
        ]
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "R@1 0." in done.stdout
    assert "median rank" in done.stdout
