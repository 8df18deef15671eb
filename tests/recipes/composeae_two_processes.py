"""What test_composeae.py starts under torchrun: ``composeae_two_processes.py folder`` writes one file a process."""

import os
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from commonspace.data import ComposedQueries
from commonspace.models import ComposedRetrieval
from commonspace.recipes import compose, composeae
from commonspace.training import rank, setup

KINDS = {
    "paper": {"text": "gru"},
    "release": {"text": "gru", "form": "release", "loss": "soft_triplet"},
    "BERT": {},
    "BERT, trained": {"finetune": True, "body_lr": 0.1},
}
WORDS = ["red", "blue"]


def queries() -> ComposedQueries:
    """Two sources lead to each target by one sentence and a third by another; most sources have two targets."""
    rng = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=rng)
    rows = [
        (4 * ground + c, f"{'turn' if c == 3 else 'make'} it {WORDS[t]}", 4 * ground + t)
        for ground in range(3)
        for t in (0, 1)
        for c in range(4)
        if c != t
    ]
    source, modification, target = (list(column) for column in zip(*rows, strict=True))
    return ComposedQueries(images, source, modification, target)


def small_bert(folder: Path) -> str:
    """The path of a BertModel of two layers and 12 numbers, with random weights, that reads words letter by letter."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    if not folder.exists():
        letters = "abcdefghijklmnopqrstuvwxyz0123456789:."
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters)]
        size = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = BertModel(BertConfig(vocab_size=len(words), initializer_range=0.2, **size))
        model.save_pretrained(folder)
        BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    return str(folder)


class Still(ComposedRetrieval):
    """Trains in evaluation mode: batch norm has statistics of its own, which are else those of a process's rows."""

    def train(self, mode: bool = True) -> "Still":
        return super().train(False)


def trained(kind: str, bert: str) -> dict[str, Tensor]:
    """The weights after three epochs, in which all of three terms count."""
    small = {"epochs": 3, "batch_size": 12, "share": 2, "dim": 8, "width": 4, "word_dim": 6, "optimizer": "sgd"}
    weights = {"symmetry_weight": 1.0, "image_recon_weight": 1.0, "text_recon_weight": 1.0}
    config = composeae.Config.profile("lesson", bert=bert, lr=0.05, device="cpu", **small | weights | KINDS[kind])
    with patch.object(compose, "ComposedRetrieval", Still):
        return composeae.fit(queries(), config).state_dict()


def main(folder: Path) -> None:
    os.environ["COMMONSPACE_CACHE"] = str(folder / "cache")
    with setup("cpu"):
        torch.save({kind: trained(kind, str(folder / "bert")) for kind in KINDS}, folder / f"{rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
