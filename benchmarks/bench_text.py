"""A frozen BERT's vectors for an epoch of sentences, kept and not kept: python benchmarks/bench_text.py

The sentences of 16,000 queries on scenes, of one to four joined edits, in batches of 128, as training asks for them.
Ours with all vectors in memory, as from the second epoch on; with all of them in the file, as in the first epoch of
another process; and with nothing kept. Beside them sentence-transformers' encode of the same batches with the same
weights. What keeps nothing is timed on a part of the epoch, scaled: a sentence costs it as much every time. The vectors
of that part are compared first.
"""

from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from unittest.mock import patch

import _bench
import torch
from torch import Tensor
from torch.nn.functional import normalize

from commonspace.data import Scenes
from commonspace.encoders import Bert

BATCH = 128


def theirs() -> Callable[[Sequence[str]], Tensor]:
    from sentence_transformers import SentenceTransformer  # behind commonspace, whose guard lets it import torchvision

    model = SentenceTransformer(str(Bert(cache=False).folder), device="cpu")
    return lambda texts: model.encode(texts, batch_size=BATCH, convert_to_tensor=True, show_progress_bar=False)


METHODS = {  # what makes the encoder, whether each epoch makes another one, and whether it runs on all sentences
    "commonspace, in memory": (lambda: Bert().encode, False, True),
    "commonspace, in the file": (lambda: Bert().encode, True, True),
    "commonspace, not kept": (lambda: Bert(cache=False).encode, False, False),
    "sentence-transformers": (theirs, False, False),
}


def epoch(encode: Callable[[Sequence[str]], Tensor], texts: list[str]) -> Tensor:
    """All vectors, (n, 384), of unit length; sentence-transformers gives no others."""
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    return normalize(torch.cat([encode(batch) for batch in batches]), dim=1)


def compare(texts: list[str], part: int, repeats: int) -> list[dict]:
    Bert().encode(texts)  # fills the file
    first = {name: make() for name, (make, *_) in METHODS.items()}
    found = {name: epoch(encode, texts[:part]) for name, encode in first.items()}
    ours = next(iter(found.values()))
    _bench.same({name: (rows - ours).norm(dim=1).max().item() for name, rows in found.items()}, within=1e-4)
    runs, timed = {}, {}
    for name, (make, anew, whole) in METHODS.items():
        timed[name] = len(texts) if whole else part
        runs[name] = lambda name=name, make=make, anew=anew: epoch(
            make() if anew else first[name], texts[: timed[name]]
        )
    rows = _bench.race(runs, repeats)
    for row in rows:
        row["seconds"] *= len(texts) / timed[row["method"]]
        row["ratio"] = row["seconds"] / rows[0]["seconds"]
    sizes = {"sentences": len(texts), "distinct": len(set(texts))}
    return [sizes | row | {"timed on": timed[row["method"]]} for row in rows]


def run(tiny: bool = False) -> list[dict]:
    texts = Scenes(8 if tiny else 1000, edits=(1, 4), size=32, novel=True).queries()[0].modification
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory() as folder, patch.dict("os.environ", COMMONSPACE_CACHE=folder):
        return compare([texts[i] for i in order.tolist()], *((32, 2) if tiny else (10 * BATCH, 3)))


if __name__ == "__main__":
    title = (
        "An epoch of sentences through a frozen BERT (MiniLM), in batches of 128; what keeps nothing is timed on a part"
    )
    _bench.main("text", title, run, peers=("sentence-transformers",))
