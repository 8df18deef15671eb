"""CIDEr-D beside pycocoevalcap's scorer: python benchmarks/bench_captions.py

5,000 captions with five references each, 6 to 20 words from 10,000 with the frequencies of Zipf's law; a caption takes
half its words from one of its references. The document frequencies are those of these references, as the peer has no
other. "references prepared" is what a reward costs while a captioner trains: the same references come again and again,
and the peer prepares them each time. Every caption's score must be the same.
"""

from collections.abc import Callable

import _bench
import numpy as np

from commonspace.metrics import CiderD

WORDS = 10_000


def captions(n: int, n_refs: int = 5, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """n captions and the references of each."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, WORDS + 1)
    lengths = np.clip(np.round(rng.normal(10.5, 2.4, (n, n_refs + 1))), 6, 20).astype(int)
    drawn = rng.choice(WORDS, (n, n_refs + 1, 20), p=share / share.sum())
    near = (np.arange(20) // 4 + rng.integers(2, size=(n, 1))) % 2 == 0  # runs of four words that are the reference's
    drawn[:, 0] = np.where(near, drawn[:, 1], drawn[:, 0])
    texts = [
        [" ".join(f"w{word}" for word in words[:length]) for words, length in zip(item, of, strict=True)]
        for item, of in zip(drawn, lengths, strict=True)
    ]
    return [own[0] for own in texts], [own[1:] for own in texts]


def prepared(hypotheses, references) -> Callable[[], np.ndarray]:
    scorer = CiderD(references)
    return lambda: scorer.score(hypotheses, range(len(hypotheses))).numpy()


def with_preparation(hypotheses, references) -> Callable[[], np.ndarray]:
    return lambda: CiderD(references).score(hypotheses, range(len(hypotheses))).numpy()


def by_pycocoevalcap(hypotheses, references) -> Callable[[], np.ndarray]:
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    def score() -> np.ndarray:
        scorer = CiderScorer(n=4, sigma=6.0)
        for hypothesis, own in zip(hypotheses, references, strict=True):
            scorer += (hypothesis, own)
        return scorer.compute_score()[1]

    return score


METHODS = {  # name: the function that takes the captions and returns what is timed
    "commonspace, references prepared": prepared,
    "commonspace": with_preparation,
    "pycocoevalcap": by_pycocoevalcap,
}


def compare(n: int, repeats: int) -> list[dict]:
    """Rows of the table for n captions."""
    data = captions(n)
    contestants = {name: method(*data) for name, method in METHODS.items()}
    found = {name: score() for name, score in contestants.items()}
    for i in range(n):
        _bench.same({name: scores[i] for name, scores in found.items()}, within=1e-9)
    rows = _bench.race(contestants, repeats)
    return [{"captions": n} | row | {"mean CIDEr-D": float(found[row["method"]].mean())} for row in rows]


def run(tiny: bool = False) -> list[dict]:
    return compare(*((80, 2) if tiny else (5_000, 5)))


if __name__ == "__main__":
    title = "CIDEr-D of n captions, five references each; ratios to ours with the references prepared once"
    _bench.main("captions", title, run, peers=("pycocoevalcap",))
