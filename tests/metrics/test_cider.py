"""CIDEr-D against loops written from its formula and against pycocoevalcap's scorer."""

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commonspace.metrics import CiderD

many = settings(max_examples=60, deadline=None)
ABOVE_0 = st.floats(0.5, 20)


@st.composite
def problems(draw):
    """A corpus of references, captions, and references of each: words that the corpus may not have, empty captions."""
    n_words = draw(st.integers(1, 6))
    caption = st.lists(st.integers(0, n_words), max_size=8)
    lists = st.lists(st.lists(st.integers(0, n_words - 1), max_size=8), min_size=1, max_size=4)
    corpus = draw(st.lists(lists, min_size=2, max_size=6))
    hypotheses = draw(st.lists(caption, min_size=1, max_size=6))
    others = [draw(st.lists(caption, min_size=1, max_size=4)) for _ in hypotheses]
    places = [draw(st.integers(0, len(corpus) - 1)) for _ in hypotheses]
    return corpus, hypotheses, others, places


def grams(caption, k) -> list[tuple]:
    return [tuple(caption[i : i + k]) for i in range(len(caption) - k + 1)]


def by_loops(corpus, hypothesis, references, n=4, sigma=6.0) -> float:
    def idf(gram):
        df = sum(any(gram in grams(reference, len(gram)) for reference in own) for own in corpus)
        return math.log(len(corpus)) - math.log(max(1, df))

    def vector(caption, k):
        return {gram: grams(caption, k).count(gram) * idf(gram) for gram in grams(caption, k)}

    def norm(vector):
        return math.sqrt(sum(value**2 for value in vector.values()))

    total = 0.0
    for k in range(1, n + 1):
        h = vector(hypothesis, k)
        for reference in references:
            r = vector(reference, k)
            delta = max(0, len(hypothesis) - 1) - max(0, len(reference) - 1)  # counted in bigrams
            if norm(h) and norm(r):
                product = sum(min(h[gram], r[gram]) * r[gram] for gram in h if gram in r)
                total += product / (norm(h) * norm(r)) * math.exp(-(delta**2) / (2 * sigma**2))
    return 10 * total / (n * len(references))


def by_pycocoevalcap(hypotheses, references, sigma=6.0) -> np.ndarray:
    """Its document frequencies are those of ``references``, of which one at least must have a word; n is 4 always."""
    scorer = pytest.importorskip("pycocoevalcap.cider.cider_scorer").CiderScorer(n=4, sigma=sigma)
    for hypothesis, own in zip(hypotheses, references, strict=True):
        scorer += (text(hypothesis), [text(reference) for reference in own])
    return scorer.compute_score()[1]


def text(caption) -> str:
    return " ".join(map(str, caption))


def captions(seed: int, n: int = 30, n_words: int = 12) -> tuple[list, list]:
    """n captions and references, one to five of each, of integer tokens with the frequencies of Zipf's law."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, n_words + 1)

    def draw():
        return rng.choice(n_words, rng.integers(1, 12), p=share / share.sum()).tolist()

    return [draw() for _ in range(n)], [[draw() for _ in range(rng.integers(1, 6))] for _ in range(n)]


@many
@given(problems(), st.integers(1, 5), ABOVE_0)
def test_equals_the_loops(problem, n, sigma):
    corpus, hypotheses, others, places = problem
    scorer = CiderD(corpus, n=n, sigma=sigma)
    for given_references, own in ((others, others), (places, [corpus[place] for place in places])):
        found = scorer.score(hypotheses, given_references)
        assert found.dtype == torch.float64
        expected = [by_loops(corpus, h, r, n, sigma) for h, r in zip(hypotheses, own, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0)


@many
@given(problems(), ABOVE_0)
def test_equals_pycocoevalcaps(problem, sigma):
    corpus, hypotheses, _, _ = problem
    corpus = [*corpus, [[0, 1]]]
    hypotheses = (hypotheses * len(corpus))[: len(corpus)]
    expected = by_pycocoevalcap(hypotheses, corpus, sigma)
    found = CiderD(corpus, sigma=sigma).score(hypotheses, range(len(corpus)))
    np.testing.assert_allclose(found, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_longer_sets_equal_pycocoevalcaps(seed):
    hypotheses, references = captions(seed, n=200, n_words=60)
    expected = by_pycocoevalcap(hypotheses, references)
    assert expected.std() > 0.1
    scorer = CiderD(references)
    np.testing.assert_allclose(scorer.score(hypotheses, range(200)), expected, atol=1e-9, rtol=0)
    np.testing.assert_allclose(scorer.score(hypotheses, references), expected, atol=1e-9, rtol=0)


def test_places_in_any_order_and_form():
    hypotheses, references = captions(3)
    scorer = CiderD(references)
    places = np.random.default_rng(3).integers(0, 30, 70)
    many_hypotheses = [hypotheses[i % 30] for i in range(70)]
    expected = scorer.score(many_hypotheses, [references[i] for i in places])
    assert len(expected.unique()) > 20
    for form in (places, torch.tensor(places), places.tolist(), tuple(places.astype(np.int32))):
        assert torch.equal(scorer.score(many_hypotheses, form), expected)
    one_by_one = [scorer.score([h], [place]).item() for h, place in zip(many_hypotheses, places, strict=True)]
    np.testing.assert_allclose(one_by_one, expected, atol=1e-12)


def test_scoring_changes_nothing():
    hypotheses, references = captions(4)
    scorer = CiderD(references)
    before = pickle.dumps(scorer)
    first = scorer.score(hypotheses, range(30))
    strange = [[100 + token for token in caption] for caption in hypotheses]
    for _ in range(3):
        scorer.score(strange, range(30))
        scorer.score(strange, [[caption, caption] for caption in strange])
    assert pickle.dumps(scorer) == before
    assert torch.equal(scorer.score(hypotheses, range(30)), first)
    again = pickle.loads(before)
    assert torch.equal(again.score(hypotheses, references), scorer.score(hypotheses, references))


def test_the_callers_lists_stay_as_they_are():
    hypotheses, references = captions(5)
    kept = pickle.dumps((hypotheses, references))
    CiderD(references).score(hypotheses, references)
    assert pickle.dumps((hypotheses, references)) == kept


def test_the_order_of_references_does_not_count():
    hypotheses, references = captions(6)
    turned = [own[::-1] for own in references]
    expected = CiderD(references).score(hypotheses, references)
    np.testing.assert_allclose(CiderD(turned).score(hypotheses, range(30)), expected, atol=1e-12)
    np.testing.assert_allclose(CiderD(references[::-1]).score(hypotheses, turned), expected, atol=1e-12)


def test_document_frequencies_are_those_of_the_corpus_alone():
    scorer = CiderD([["a b"], ["a c"], ["a d"]], n=1)
    # "a" is in every image, so it weighs nothing; "b" and the unknown "z" weigh ln 3, whatever else is scored.
    found = scorer.score(["a b", "a z", "z b", "a a"], [["b"], ["z"], ["b"], ["a"]])
    penalty = math.exp(-1 / 72)
    np.testing.assert_allclose(found, [10 * penalty, 10 * penalty, 10 * penalty / math.sqrt(2), 0], atol=1e-12)


def test_an_image_counts_once_however_many_of_its_references_have_the_word():
    many_times = CiderD([["cat", "cat", "cat cat"], ["dog"], ["cow"]], n=1)
    once = CiderD([["cat"], ["dog"], ["cow"]], n=1)
    pair = ["cat dog cow"], [["cat dog", "cow"]]
    np.testing.assert_allclose(many_times.score(*pair), once.score(*pair), atol=1e-12)


def test_its_only_reference_scores_10():
    references = [["a cat sleeps on the red mat"], ["two dogs run after a ball"]]
    scorer = CiderD(references)
    np.testing.assert_allclose(scorer.score([own[0] for own in references], [0, 1]), [10, 10], atol=1e-12)
    np.testing.assert_allclose(scorer.score([references[0][0]], [1]).item(), 0, atol=1e-12)
    # Three words have no n-gram of four, and a word that every image has weighs nothing.
    np.testing.assert_allclose(scorer.score(["two dogs run", "a"], [["two dogs run"], ["a"]]), [7.5, 0], atol=1e-12)


def test_repeating_a_word_earns_nothing():
    scorer = CiderD([["a red cat"], ["a dog"], ["a cow"]])
    plain, repeated = scorer.score(["a red cat", "a red cat cat cat cat"], [0, 0])
    assert repeated < 0.6 * plain


def test_the_end_token_counts_as_a_word():
    references = [[[1, 2, 3, 0]], [[4, 5, 0]], [[6, 0]]]
    scorer = CiderD(references)
    complete, cut = scorer.score([[1, 2, 3, 0], [1, 2, 3]], [0, 0])
    assert complete == pytest.approx(10)
    assert cut < 9
    without = CiderD([[reference[:-1] for reference in own] for own in references])
    assert without.score([[1, 2, 3]], [0]).item() == pytest.approx(7.5)


def test_empty_and_one_word_captions():
    references = [["cat", ""], ["dog", "two dogs"], [""]]
    hypotheses = ["", "dog", "cat"]
    expected = by_pycocoevalcap([h.split() for h in hypotheses], [[r.split() for r in own] for own in references])
    found = CiderD(references).score(hypotheses, range(3))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found[0] == found[2] == 0
    assert found[1] > 1
    assert CiderD([[""], [[]]]).score(["a b", ""], [0, 1]).tolist() == [0, 0]


def test_strings_words_and_numbers_score_the_same():
    hypotheses, references = captions(7)
    expected = CiderD(references).score(hypotheses, range(30))
    texts = [[text(reference) for reference in own] for own in references]
    words = [list(map(str, caption)) for caption in hypotheses]
    assert torch.equal(CiderD(texts).score(words, range(30)), expected)
    tensors = [torch.tensor(caption) for caption in hypotheses]
    assert torch.equal(CiderD(references).score(tensors, references), expected)


BAD = [
    (["a cat"], [["a"], ["b"]], "there are 1 hypotheses and 2 lists"),
    (["a cat"], [0, 1], "there are 1 hypotheses and 2 lists"),
    (["a cat"], [2], "references has the place 2; the corpus has 2 images, from 0 on"),
    (["a cat"], [-1], "references has the place -1"),
    (["a cat"], [0.0], r"references\[0\] must be a list"),
    (["a cat"], [True], r"references\[0\] must be a list"),
    (["a cat"], torch.tensor([0.0]), r"references\[0\] must be a list"),
    (["a cat"], torch.tensor(0), "references must be a list of lists"),
    (["a cat"], 0, "references must be a list of lists"),
    (["a cat"], ["a cat"], r"references\[0\] must be a list of one or more captions; got 'a cat'"),
    (["a cat"], [[]], r"references\[0\] must be a list of one or more"),
    ([[1, 2]], [0], "tokens such as 1 and references such as 'a'"),
    ([[1, 2]], [[[1, 2]]], "tokens such as 1 and references such as 'a'"),
    (["", "a"], [[""], [[1]]], "tokens such as 'a' and references such as 1"),
    ("a cat", [0], "hypotheses must be a list of one or more"),
    ([], [], "hypotheses must be a list of one or more"),
]


@pytest.mark.parametrize(("hypotheses", "references", "message"), BAD)
def test_bad_captions_are_named(hypotheses, references, message):
    with pytest.raises(ValueError, match=message):
        CiderD([["a cat"], ["a dog"]]).score(hypotheses, references)


@pytest.mark.parametrize(
    ("corpus", "options", "message"),
    [
        ([["a cat", "cats"]], {}, "two or more images, .* idf = ln 1 = 0"),
        ([], {}, "reference_corpus must be a list of lists of captions"),
        ("a cat", {}, "reference_corpus must be a list of lists of captions"),
        (["a cat", "a dog"], {}, r"reference_corpus\[0\] must be a list of one or more captions; got 'a cat'"),
        ([["a"], []], {}, r"reference_corpus\[1\] must be a list of one or more captions"),
        ([["a"], [[1]]], {}, "reference_corpus must be all strings or all whole numbers; got int, str"),
        ([["a"], ["b"]], {"n": 0}, "n must be a positive integer"),
        ([["a"], ["b"]], {"sigma": 0}, "sigma must be a number above 0; got 0"),
        ([["a"], ["b"]], {"sigma": math.nan}, "sigma must be a number above 0"),
        ([["a"], ["b"]], {"sigma": "6"}, "sigma must be a number above 0; got '6'"),
    ],
)
def test_a_bad_corpus_is_named(corpus, options, message):
    with pytest.raises(ValueError, match=message):
        CiderD(corpus, **options)
