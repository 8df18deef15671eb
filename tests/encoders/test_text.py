"""Bags of words against scikit-learn and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from commonspace.data.vocabulary import Vocabulary, tokenise
from commonspace.encoders import BagOfWords

TEXTS = ["grinning face", "a much longer text about cats, dogs and other animals that live in houses", "flag: Chad"]
WORDS = st.text("abcçß語 '-.3X", max_size=12)
CORPUS = st.lists(WORDS.filter(str.strip), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(CORPUS, CORPUS, st.integers(1, 2))
def test_bag_of_words_equals_scikit_learn(train, new, min_count):
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

    vocabulary = Vocabulary.build(train, min_count)
    assume(vocabulary.words)
    given = {"tokenizer": tokenise, "token_pattern": None, "vocabulary": vocabulary.words}
    peers = {
        "count": CountVectorizer(**given),
        "binary": CountVectorizer(binary=True, **given),
        "tfidf": TfidfVectorizer(**given),
    }
    for weighting, peer in peers.items():
        encoder = BagOfWords(vocabulary, weighting).fit(train)
        peer.fit(train)
        for texts in (train, new):
            expected = torch.from_numpy(peer.transform(texts).toarray()).float()
            torch.testing.assert_close(encoder(texts), expected, atol=1e-6, rtol=1e-6)


def test_tfidf_by_hand():
    encoder = BagOfWords(Vocabulary(["cat", "dog", "yak"]), "tfidf").fit(["cat dog", "Cat", "cat cat"])
    common, once, never = 1.0, np.log(4 / 2) + 1, np.log(4 / 1) + 1
    rows = encoder(["cat cat dog", "yak?", "emu"])
    first = np.array([2 * common, once, 0]) / np.hypot(2 * common, once)
    np.testing.assert_allclose(rows.numpy(), [first, [0, 0, 1], [0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(encoder.idf.numpy(), [common, once, never], rtol=1e-6)


def test_tfidf_is_fitted_or_loaded_before_use():
    vocabulary = Vocabulary.build(TEXTS)
    encoder = BagOfWords(vocabulary, "tfidf")
    with pytest.raises(ValueError, match="fit BagOfWords"):
        encoder(TEXTS)
    fitted = BagOfWords(vocabulary, "tfidf").fit(TEXTS)
    encoder.load_state_dict(fitted.state_dict())
    assert torch.equal(encoder(TEXTS), fitted(TEXTS))


def test_a_bag_of_words_follows_its_module():
    encoder = BagOfWords(Vocabulary(["cat"])).double()
    assert encoder(["cat cat"]).dtype == torch.float64
    assert encoder.out_dim == 1


@pytest.mark.parametrize("method", ["fit", "forward"])
@pytest.mark.parametrize(
    ("texts", "message"),
    [("cat", "list of texts"), ([], "empty list"), (["a", ""], r"texts\[1\] is ''"), ([3], "must be a string")],
)
def test_bag_of_words_refuses_bad_texts(method, texts, message):
    with pytest.raises(ValueError, match=message):
        getattr(BagOfWords(Vocabulary(["cat"])), method)(texts)


def test_bag_of_words_refuses_an_unknown_weighting():
    with pytest.raises(ValueError, match="'count', 'binary' or 'tfidf', got 'bm25'"):
        BagOfWords(Vocabulary(["cat"]), "bm25")
