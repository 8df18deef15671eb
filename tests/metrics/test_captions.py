"""BLEU against loops and the coco-caption scorer, and how captions may be given."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commonspace.metrics import bleu, sentence_bleu

many = settings(max_examples=60, deadline=None)


@st.composite
def caption_sets(draw):
    """Captions of few different words, so that n-grams repeat and match, and one to four references of each."""
    caption = st.lists(st.integers(0, draw(st.integers(0, 4))), max_size=9)
    item = st.tuples(caption, st.lists(caption, min_size=1, max_size=4))
    items = draw(st.lists(item, min_size=1, max_size=5))
    return [hypothesis for hypothesis, _ in items], [references for _, references in items]


def occurrences(caption, gram) -> int:
    return sum(tuple(caption[i : i + len(gram)]) == gram for i in range(len(caption) - len(gram) + 1))


def counts_by_loops(hypothesis, references, k) -> tuple[int, int]:
    grams = [tuple(hypothesis[i : i + k]) for i in range(len(hypothesis) - k + 1)]
    correct = 0
    for gram in set(grams):
        correct += min(grams.count(gram), max(occurrences(reference, gram) for reference in references))
    return correct, len(grams)


def closest(hypothesis, references) -> int:
    best = len(references[0])
    for reference in references[1:]:
        far, nearer = abs(best - len(hypothesis)), abs(len(reference) - len(hypothesis))
        if nearer < far or (nearer == far and len(reference) < best):
            best = len(reference)
    return best


def bleu_by_loops(hypotheses, references, n) -> float:
    words = sum(len(hypothesis) for hypothesis in hypotheses)
    asked = sum(closest(h, r) for h, r in zip(hypotheses, references, strict=True))
    product = 1.0
    for k in range(1, n + 1):
        pairs = [counts_by_loops(h, r, k) for h, r in zip(hypotheses, references, strict=True)]
        product *= (sum(c for c, _ in pairs) + 1e-15) / (sum(g for _, g in pairs) + 1e-9)
    ratio = (words + 1e-15) / (asked + 1e-9)
    return product ** (1 / n) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1)


def joined(captions) -> list[str]:
    return [" ".join(map(str, caption)) for caption in captions]


@many
@given(caption_sets(), st.integers(1, 5))
def test_bleu_equals_the_loops(data, n):
    hypotheses, references = data
    found = bleu(hypotheses, references, n=n)
    assert list(found) == list(range(1, n + 1))
    for k in found:
        assert found[k] == pytest.approx(bleu_by_loops(hypotheses, references, k), abs=1e-12)
    alone = sentence_bleu(hypotheses, references, n=n)
    assert alone.dtype == torch.float64
    expected = [bleu_by_loops([h], [r], n) for h, r in zip(hypotheses, references, strict=True)]
    np.testing.assert_allclose(alone, expected, atol=1e-12)


@many
@given(caption_sets(), st.integers(1, 4))
def test_bleu_equals_pycocoevalcaps(data, n):
    scorer = pytest.importorskip("pycocoevalcap.bleu.bleu_scorer").BleuScorer(n=n)
    hypotheses, references = joined(data[0]), [joined(own) for own in data[1]]
    for pair in zip(hypotheses, references, strict=True):
        scorer += pair
    whole, each = scorer.compute_score(option="closest")
    assert list(bleu(hypotheses, references, n=n).values()) == pytest.approx(whole, abs=1e-9)
    np.testing.assert_allclose(sentence_bleu(hypotheses, references, n=n), each[-1], atol=1e-9)


def test_a_single_item_too_takes_the_closest_reference():
    scorer = pytest.importorskip("pycocoevalcap.bleu.bleu_scorer").BleuScorer(n=4)
    caption, references = "a b c d e", ["a b c d e", "a b c d e f g h i j k l m"]
    assert sentence_bleu([caption], [references]).item() == pytest.approx(1)
    scorer += (caption, references)
    assert scorer.compute_score()[1][3] == pytest.approx([math.exp(1 - 9 / 5)])  # theirs: the mean length


def test_strings_words_and_numbers_score_the_same():
    rng = np.random.default_rng(5)
    hypotheses = [rng.integers(0, 5, rng.integers(1, 9)).tolist() for _ in range(20)]
    references = [[rng.integers(0, 5, rng.integers(1, 9)).tolist() for _ in range(3)] for _ in range(20)]
    expected = bleu(hypotheses, references)
    assert 0.05 < expected[2] < 0.95
    words = [[str(token) for token in caption] for caption in hypotheses]
    texts = [joined(own) for own in references]
    assert bleu(words, texts) == bleu(joined(hypotheses), texts) == expected
    tensors = [torch.tensor(caption) for caption in hypotheses]
    arrays = [[np.array(caption) for caption in own] for own in references]
    assert bleu(tensors, arrays) == bleu([tuple(np.int32(caption)) for caption in hypotheses], references) == expected


def test_a_caption_that_is_a_reference_scores_1():
    found = bleu(["a b c d", "e f g h i"], [["x", "a b c d"], ["e f g h i"]])
    assert found == pytest.approx({1: 1, 2: 1, 3: 1, 4: 1})
    assert sentence_bleu(["a b c d", "x y"], [["a b c d"], ["u v"]])[0] == pytest.approx(1)


def test_no_match_is_small_and_not_0():
    found = sentence_bleu(["a b c d e", "a b c d e"], [["a b x c d"], ["v w x y z"]])
    assert 0 < found[1] < found[0] < 1e-3


GOOD = ["a cat"]
BAD = [
    ("a cat", [["a cat"]], "hypotheses must be a list of one or more captions; got 'a cat'"),
    ([], [], "hypotheses must be a list of one or more"),
    ({0: "a"}, [["a"]], "hypotheses must be a list"),
    ([None], [["a"]], r"hypotheses\[0\] must be a caption, .* got None"),
    (["a", 3], [["a"], ["b"]], r"hypotheses\[1\] must be a caption, .* got 3"),
    ([["a cat"]], [["a cat"]], "the token 'a cat', which is not one word"),
    ([["a", ""]], [["a cat"]], "the token '', which is not one word"),
    ([["a", 3]], [["a"]], "hypotheses must be all strings or all whole numbers; got int, str"),
    (["a", [3]], [["a"], ["a"]], "hypotheses must be all strings or all whole numbers; got int, str"),
    ([[1.0, 2.0]], [[[1]]], "got float"),
    ([[True]], [[[1]]], "got bool"),
    ([torch.tensor([0.5])], [[[1]]], "got float"),
    ([torch.tensor([[1]])], [[[1]]], "got list"),
    ([torch.tensor(1)], [[[1]]], r"hypotheses\[0\] must be a caption"),
    (GOOD, ["a cat"], r"references\[0\] must be a list of one or more captions; got 'a cat': one reference is a list"),
    (GOOD, [[]], r"references\[0\] must be a list of one or more captions; got \[\]"),
    (GOOD, [None], r"references\[0\] must be a list"),
    (GOOD, [], "references must be a list of lists of captions"),
    (GOOD, "a cat", "references must be a list of lists of captions"),
    (GOOD, [["a", None]], r"references\[0\] must be a caption, .* got None"),
    (GOOD, [["a"], ["b"]], "there are 1 hypotheses and 2 lists of references"),
    ([[1, 2]], [["a cat"]], "tokens such as 1 and references such as 'a'"),
]


@pytest.mark.parametrize(("hypotheses", "references", "message"), BAD)
@pytest.mark.parametrize("score", [bleu, sentence_bleu])
def test_bad_captions_are_named(score, hypotheses, references, message):
    with pytest.raises(ValueError, match=message):
        score(hypotheses, references)


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "4", None])
def test_n_is_a_positive_integer(n):
    for score in (bleu, sentence_bleu):
        with pytest.raises(ValueError, match="n must be a positive integer"):
            score(["a"], [["a"]], n=n)
