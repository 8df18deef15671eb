"""Words and ids: by hand, against scikit-learn's counts, and there and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonspace.data.vocabulary import Vocabulary, tokenise

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man's dog, No. 3!", ["a", "man's", "dog", "no", "3"]),
        ("T-Shirt_XL (blue)", ["t", "shirt", "xl", "blue"]),
        ("'quoted' o’clock rock'n'roll", ["quoted", "o’clock", "rock'n'roll"]),
        ("Straße, ÉCOLE; 猫", ["straße", "école", "猫"]),
        ("  \n?!", []),
        ("", []),
    ],
)
def test_words_of_a_text(text, words):
    assert tokenise(text) == words


def test_built_by_hand():
    vocabulary = Vocabulary.build(["b a", "a C", "c. A", "d"], min_count=2)
    assert vocabulary.words == ["a", "c"]
    assert len(vocabulary) == 3
    assert vocabulary.encode("C a b zzz") == [2, 1, 0, 0]
    assert vocabulary.encode("?") == []
    assert vocabulary.decode([1, 0, 2]) == ["a", "<unk>", "c"]
    assert "a" in vocabulary
    assert "b" not in vocabulary
    assert "<unk>" not in vocabulary


@given(st.lists(TEXT, max_size=6), st.integers(1, 3))
def test_the_words_are_those_that_come_often_enough(texts, min_count):
    vocabulary = Vocabulary.build(texts, min_count)
    said = [word for text in texts for word in tokenise(text)]
    assert set(vocabulary.words) == {word for word in said if said.count(word) >= min_count}
    counts = [said.count(word) for word in vocabulary.words]
    assert counts == sorted(counts, reverse=True)
    assert Vocabulary.build(texts[::-1], min_count).words == vocabulary.words


@given(st.lists(TEXT, max_size=6))
def test_there_and_back(texts):
    vocabulary = Vocabulary.build(texts)
    again = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict())))
    assert again.words == vocabulary.words
    for text in texts:
        ids = again.encode(text)
        assert 0 not in ids
        assert again.decode(ids) == tokenise(text)


def test_a_saved_vocabulary_does_not_change_with_the_copy():
    vocabulary = Vocabulary(["a"])
    vocabulary.to_dict()["words"].append("b")
    assert vocabulary.words == ["a"]


def test_an_id_without_a_word_is_refused():
    vocabulary = Vocabulary(["a"])
    for ids in ([2], [-1]):
        with pytest.raises(IndexError, match="ids go from 0 to 1"):
            vocabulary.decode(ids)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vocabulary(["a", "b", "a"]), "'a' comes more than once"),
        (lambda: Vocabulary(["Cat"]), "'Cat' is not one word in lower case"),
        (lambda: Vocabulary(["two words"]), "'two words' is not one word"),
        (lambda: Vocabulary(["<unk>"]), "'<unk>' is not one word"),
        (lambda: Vocabulary.build("a cat"), "list of texts"),
        (lambda: Vocabulary.from_dict({"words": ["a"], "pattern": r"\w+"}), "cut by"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
