"""The reward of self-critical training: python benchmarks/bench_reward.py

"reward": 60 written sentences (10 pictures, 6 of each) against the five references of each picture, as one step of
self-critical training asks; 2,000 pictures' references give the document frequencies. `CaptionReward` has prepared them
once; pycocoevalcap's scorer is given the document frequencies, but prepares the references at every call, those of a
picture six times. Every sentence must get the same reward.

"step": a whole step of `GXN.reward_losses` with such rewards: 10 pictures of 32 x 32, five sentences drawn for each and
a greedy one, forward, reward, backward and Adam. Its decoder is GXN's (a GRU of 1024) or that of a lesson (192). The
last column is the share of the step that the rewards are.
"""

import time
from collections.abc import Callable

import _bench
import numpy as np
import torch
from bench_captions import captions

from commonspace.data import Vocabulary
from commonspace.encoders import SmallConvNet
from commonspace.metrics import CaptionReward
from commonspace.metrics.reward import END
from commonspace.models import GXN, GXNLook, SentenceDecoder, sentence_encoders

PICTURES, EACH = 10, 6


def prepared(references, sentences, places) -> Callable[[], np.ndarray]:
    rewards = CaptionReward(references)
    return lambda: rewards.reward(sentences, places).numpy()


def by_pycocoevalcap(references, sentences, places) -> Callable[[], np.ndarray]:
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    closed = [[f"{caption} {END}" for caption in own] for own in references]
    corpus = CiderScorer()
    for own in closed:
        corpus += (own[0], own)
    corpus.compute_doc_freq()

    def score() -> np.ndarray:
        scorer = CiderScorer()
        for sentence, place in zip(sentences, places, strict=True):
            scorer += (f"{sentence} {END}", closed[place])
        scorer.crefs += corpus.crefs[len(sentences) :]  # it takes N from their number, and scores as many as there are
        scorer.document_frequency = corpus.document_frequency
        return np.array(scorer.compute_cider())

    return score


METHODS = {"commonspace": prepared, "pycocoevalcap": by_pycocoevalcap}


def data(n: int) -> tuple[list[list[str]], list[str], list[int]]:
    """References of n pictures; sentences near a reference of the first few, and for which picture each is."""
    written, references = captions(n)
    places = np.repeat(np.arange(PICTURES), EACH).tolist()
    rng = np.random.default_rng(1)
    sentences = []
    for place in places:
        words = np.array(written[place].split())
        other = rng.choice(written[int(rng.integers(n))].split(), len(words))
        sentences.append(" ".join(np.where(rng.random(len(words)) < 0.3, other, words)))
    return references, sentences, places


def compare(n: int, repeats: int) -> list[dict]:
    """Rows of the reward alone."""
    asked = data(n)
    contestants = {name: method(*asked) for name, method in METHODS.items()}
    found = {name: score() for name, score in contestants.items()}
    for i in range(len(asked[1])):
        _bench.same({name: scores[i] for name, scores in found.items()}, within=1e-9)
    rows = _bench.race(contestants, repeats)
    return [
        {"what": "reward of 60 sentences"} | row | {"mean reward": float(found[row["method"]].mean())} for row in rows
    ]


def step(n: int, width: int, repeats: int) -> dict:
    """The row of a whole step with a decoder of that width."""
    references, _, _ = data(n)
    rewards, spent = CaptionReward(references), [0.0]
    torch.manual_seed(0)
    vocabulary = Vocabulary.build([caption for own in references for caption in own], 5)
    net = SmallConvNet(16)
    look = GXNLook(net, *sentence_encoders(vocabulary, 64, 16))
    model = GXN(look, SentenceDecoder(vocabulary, 64, width // 4, width), rank=False)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    images = torch.randint(256, (PICTURES, 3, 32, 32), dtype=torch.uint8)
    texts = [references[i][0] for i in range(PICTURES)]

    def reward(sentences, rows, ended):
        start = time.perf_counter()
        found = rewards.reward(sentences, rows, ended)
        spent[0] += time.perf_counter() - start
        return found

    def whole() -> None:
        loss = model.reward_losses(images, texts, reward, samples=EACH - 1, max_length=17)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    (row,) = _bench.race({f"a step, GRU of {width}": whole}, repeats)
    start, spent[0] = time.perf_counter(), 0.0
    for _ in range(repeats):
        whole()
    return row | {"what": "step", "share of reward": spent[0] / (time.perf_counter() - start)}


def run(tiny: bool = False) -> list[dict]:
    n, repeats = (80, 3) if tiny else (2_000, 30)
    return compare(n, repeats) + [step(n, width, repeats) for width in ((16,) if tiny else (192, 1024))]


if __name__ == "__main__":
    title = "The reward of 60 sentences, and the share of it in a self-critical step"
    _bench.main("reward", title, run, peers=("pycocoevalcap",))
