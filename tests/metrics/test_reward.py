"""The reward against pycocoevalcap's scorer with an explicit end token, against loops, and what the end token does."""

import math
import pickle

import numpy as np
import pytest
import torch

from commonspace.metrics import CaptionReward, CiderD, sentence_bleu
from commonspace.metrics.reward import END

WORDS = [f"w{i}" for i in range(12)]


def sentence(rng: np.random.Generator, least: int = 0) -> str:
    return " ".join(rng.choice(WORDS, rng.integers(least, 9)))


def problem(seed: int, pictures: int = 9, n: int = 4) -> tuple[list[list[str]], list[str], list[int], list[bool]]:
    """References; n sentences for each picture, most near one of them; the picture of each; which have ended."""
    rng = np.random.default_rng(seed)
    references = [[sentence(rng, 1) for _ in range(rng.integers(1, 6))] for _ in range(pictures)]
    places = np.repeat(np.arange(pictures), n).tolist()
    sentences = []
    for place in places:
        near = rng.choice(references[place]).split()
        words = [word if rng.random() < 0.7 else str(rng.choice([*WORDS, "new"])) for word in near]
        sentences.append(" ".join(words) if rng.random() < 0.9 else sentence(rng))
    return references, sentences, places, (rng.random(len(places)) < 0.7).tolist()


def by_pycocoevalcap(references, sentences, places, ended) -> np.ndarray:
    """Document frequencies are those of what is scored, so all pictures are scored at a time, a sentence of each."""
    scorers = pytest.importorskip("pycocoevalcap.cider.cider_scorer")
    closed = [[f"{caption} END" for caption in own] for own in references]
    found, n = np.zeros(len(sentences)), len(sentences) // len(references)
    for k in range(n):
        scorer = scorers.CiderScorer(n=4, sigma=6.0)
        for i in range(k, len(sentences), n):
            scorer += (sentences[i] + " END" * ended[i], closed[places[i]])
        found[k::n] = scorer.compute_score()[1]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_it_is_cider_d_with_an_end_token(seed):
    references, sentences, places, ended = problem(seed)
    found = CaptionReward(references).reward(sentences, places, ended)
    expected = by_pycocoevalcap(references, sentences, places, ended)
    assert (found.dtype, found.shape, found.device.type) == (torch.float64, (36,), "cpu")
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-9)
    assert expected.max() > 1
    whole = CaptionReward(references).reward(sentences, places)
    np.testing.assert_allclose(
        whole.numpy(), by_pycocoevalcap(references, sentences, places, [True] * 36), rtol=0, atol=1e-9
    )
    assert (whole - found).abs().max() > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_places_come_in_any_order_and_as_often_as_they_like(seed):
    references, sentences, places, ended = problem(seed)
    rewards = CaptionReward(references)
    found = rewards.reward(sentences, places, ended)
    some = np.random.default_rng(seed).integers(0, len(sentences), 20).tolist()
    again = rewards.reward([sentences[i] for i in some], torch.tensor(places)[some], torch.tensor(ended)[some])
    torch.testing.assert_close(again, found[some], rtol=0, atol=1e-12)
    (alone,) = rewards.reward(sentences[3:4], np.array(places[3:4]), np.array(ended[3:4]))
    assert alone.item() == pytest.approx(found[3].item(), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_it_weighs_cider_d_and_bleu(seed):
    references, sentences, places, ended = problem(seed)
    closed = [[f"{caption} {END}" for caption in own] for own in references]
    written = [text + f" {END}" * end for text, end in zip(sentences, ended, strict=True)]
    cider = CiderD(closed).score(written, places)
    bleu = sentence_bleu(written, [closed[place] for place in places])
    for of_cider, of_bleu in [(1.0, 0.0), (0.0, 1.0), (0.5, 3.0), (2, 1)]:
        found = CaptionReward(references, of_cider, of_bleu).reward(sentences, places, ended)
        torch.testing.assert_close(found, of_cider * cider + of_bleu * bleu, rtol=0, atol=1e-12)
    assert bleu.max() > 0.3


def test_without_end_it_is_what_is_reported():
    references, sentences, places, ended = problem(1)
    found = CaptionReward(references, end=False).reward(sentences, places)
    assert torch.equal(CaptionReward(references, end=False).reward(sentences, places, ended), found)
    torch.testing.assert_close(found, CiderD(references).score(sentences, places), rtol=0, atol=0)
    ids = [[[int(word[1:]) for word in caption.split()] for caption in own] for own in references]
    numbers = [[int(word[1:]) if word != "new" else 99 for word in text.split()] for text in sentences]
    torch.testing.assert_close(CaptionReward(ids, end=False).reward(numbers, places), found, rtol=0, atol=1e-12)
    assert (CaptionReward(references).reward(sentences, places) - found).abs().max() > 0.1


def test_breaking_off_costs_more_where_the_end_counts():
    """A sentence without its last words, which the writer claims to have ended or was cut in."""
    references = [["a red cat on the mat", "a cat on a mat"], ["two dogs run"], ["the sun is red"], ["a mat and a dog"]]
    rewards, plain = CaptionReward(references), CaptionReward(references, end=False)
    whole, part = rewards.reward(["a red cat on the mat", "a red cat on the"], [0, 0], [True, False]).tolist()
    claimed = rewards.reward(["a red cat on the"], [0]).item()
    reported = plain.reward(["a red cat on the mat", "a red cat on the"], [0, 0]).tolist()
    assert part != pytest.approx(claimed, abs=0.1)
    assert whole - part > reported[0] - reported[1] + 0.3
    # To end where no reference ends is no better than to be cut there: the end is a word that does not match.
    assert claimed < part + 0.5 < whole


def test_nothing_is_remembered():
    references, sentences, places, ended = problem(2)
    rewards = CaptionReward(references, bleu=1.0)
    before, first = pickle.dumps(rewards), rewards.reward(sentences, places, ended)
    for k in range(50):
        rewards.reward([f"{text} unseen{k} words{k}" for text in sentences], places, ended)
    assert pickle.dumps(rewards) == before
    assert torch.equal(rewards.reward(sentences, places, ended), first)


def test_an_empty_sentence_has_a_reward():
    found = CaptionReward([["a cat"], ["two dogs"], ["the sun"]], bleu=1.0).reward(
        ["", "", "a cat"], [0, 0, 0], [True, False, True]
    )
    assert found.isfinite().all()
    assert found[2] > found[0] >= found[1]


REFERENCES = [["a cat", "the cat"], ["two dogs"]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CaptionReward(REFERENCES, cider=-1.0), "weights >= 0, one of them above 0; got -1.0 and 0.0"),
        (lambda: CaptionReward(REFERENCES, 0.0, 0.0), "one of them above 0; got 0.0 and 0.0"),
        (lambda: CaptionReward(REFERENCES, 1.0, math.inf), "got 1.0 and inf"),
        (lambda: CaptionReward(REFERENCES, math.nan), "got nan"),
        (lambda: CaptionReward(REFERENCES[:1]), "two or more images"),
        (lambda: CaptionReward(["a cat", "two dogs"]), "sentences must be strings, in lists"),
        (lambda: CaptionReward([[["a", "cat"]], [["dogs"]]]), "lists of tokens: end=False, and what ends them in them"),
        (lambda: CaptionReward([[], ["two dogs"]]), r"reference_corpus\[0\] must be a list of one or more"),
        (lambda: CaptionReward(REFERENCES).reward(["a cat"], [2]), "which of the 2 pictures it is for, from 0 on; got"),
        (lambda: CaptionReward(REFERENCES).reward(["a cat"], [-1]), "from 0 on"),
        (lambda: CaptionReward(REFERENCES, 0.0, 1.0).reward(["a cat"], [-1]), "from 0 on"),
        (lambda: CaptionReward(REFERENCES).reward(["a cat"], [0.0]), "from 0 on"),
        (lambda: CaptionReward(REFERENCES).reward(["a cat"], [True]), "from 0 on"),
        (lambda: CaptionReward(REFERENCES).reward(["a cat", "cat"], [0]), "of each of the 2 sentences"),
        (lambda: CaptionReward(REFERENCES).reward(["a cat"], [0], [True, False]), "1 sentences and ended says 2"),
        (lambda: CaptionReward(REFERENCES).reward("a cat", [0] * 5), "sentences must be strings, in lists"),
        (lambda: CaptionReward(REFERENCES).reward([["a", "cat"]], [0]), "sentences must be strings"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
