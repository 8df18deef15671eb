import re
from collections import Counter
from dataclasses import replace

import pytest
import torch

from commonspace.data import ClassSplit, Emoji, EmojiSamples, extendable_emoji, fixed_class_split, strip_class_words
from commonspace.data.emoji_subgroups import without_class_words


@pytest.mark.parametrize(
    ("text", "class_name", "left"),
    [
        ("person: red hair", "person", "red hair"),
        ("Grinning FACE", "face-smiling", "Grinning"),
        ("two hearts", "heart", "two"),
        ("heart", "hearts", ""),
        ("Flowers", "plant-flower", ""),
        ("person’s hand", "hand-single-finger", "person’s"),
        ("woman's hat", "woman", "hat"),
        ("cherry pie and berries", "food-berry", "cherry pie and"),
        ("boxes of books", "box", "of books"),
        ("sun behind cloud", "sky & weather", "sun behind cloud"),
        ("T-shirt: 3rd", "clothing", "T-shirt: 3rd"),  # shares no word: as it is
        ("face with tongue", "face-tongue", ""),  # only small words stay
        ("cats and dogs", "dog", "cats and"),
        ("facepalm", "face-hand", "facepalm"),  # a part of a word is no word
        ("bus", "transport-bus", ""),
        ("bu", "bus", "bu"),
        ("glass", "glasses", ""),
        ("", "heart", ""),
    ],
)
def test_words_of_the_class_are_stripped(text, class_name, left):
    assert strip_class_words(text, class_name) == left


def words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", text.lower()))


@pytest.fixture(scope="module")
def emoji() -> Emoji:
    return Emoji(size=8)


@pytest.fixture(scope="module")
def made(emoji):
    return extendable_emoji(emoji)


def test_no_name_gives_its_subgroup_away(emoji):
    before, after = emoji.samples, without_class_words(emoji.samples)
    shared = [
        bool(words(text) & words(before.subgroups[s]))
        for text, s in zip(before.texts, before.subgroup.tolist(), strict=True)
    ]
    assert sum(shared) == 587
    for text, subgroup in zip(after.texts, after.subgroup.tolist(), strict=True):
        assert not words(text) & words(after.subgroups[subgroup]), text
        assert words(text)
    assert len(before) - len(after) == 7
    text = dict(zip(before.characters, before.texts, strict=True))
    new = dict(zip(after.characters, after.texts, strict=True))
    assert new["\U0001f41b"] == "insect"  # "bug" in animal-bug: a keyword stands for it
    assert "\U0001f426" not in new  # "bird" in animal-bird has no other keyword
    for (character, name), changed in zip(text.items(), shared, strict=True):
        if character in new and not changed and new[character] != name:
            assert words(name) - words(new[character])  # a plural such as "hearts" went


def test_keywords_are_stripped_as_well():
    samples = EmojiSamples(
        images=torch.zeros(3, 3, 8, 8, dtype=torch.uint8),
        texts=["dog", "dog", "poodle dog"],
        subgroup=torch.tensor([0, 0, 0]),
        subgroups=["animal-dog"],
        characters=["a", "b", "c"],
        keywords=[["dogs", "animal", "dog with hat", "pet"], ["dog", "with animals"], []],
    )
    left = without_class_words(samples)
    assert (left.texts, left.characters) == (["with hat", "poodle"], ["a", "c"])


def subgroups_of(samples) -> Counter:
    return Counter(samples.subgroups[s] for s in samples.subgroup.tolist())


def test_subgroups_are_the_classes(emoji, made):
    split, _ = made
    halves = fixed_class_split("emoji")
    for part in (split.train, split.validation, split.seen, split.unseen, split.gallery):
        names = [part.classes[label] for label in part.label.tolist()]
        assert names == [part.subgroups[s] for s in part.subgroup.tolist()]
    assert set(subgroups_of(split.train)) == set(split.train.classes) == set(halves.seen)
    assert set(subgroups_of(split.unseen)) == set(halves.unseen)
    assert split.gallery.classes == [*halves.seen, *halves.unseen]
    whole = subgroups_of(without_class_words(emoji.samples))
    assert all(count == whole[name] for name, count in subgroups_of(split.unseen).items())
    for name in halves.seen:
        parts = (split.train, split.validation, split.seen)
        assert sum(subgroups_of(part)[name] for part in parts) == whole[name]
    assert sorted(split.gallery.characters) == sorted(split.seen.characters + split.unseen.characters)


def test_no_family_is_on_two_sides(emoji):
    for seed in (0, 1):
        split, _ = extendable_emoji(emoji, seed=seed)
        trained = set(split.train.family.tolist()) | set(split.validation.family.tolist())
        assert not trained & set(split.gallery.family.tolist())
        assert not set(split.train.family.tolist()) & set(split.validation.family.tolist())


def test_flags_are_apart(emoji, made):
    split, flags = made
    assert subgroups_of(flags) == {"flag": 8, "country-flag": 258, "subdivision-flag": 3}
    assert [flags.classes[label] for label in flags.label.tolist()] == [
        flags.subgroups[s] for s in flags.subgroup.tolist()
    ]
    assert not any("flag" in words(text) for text in flags.texts)
    assert not set(flags.characters) & {*split.train.characters, *split.gallery.characters}
    assert "Germany" in flags.texts


def test_another_split_and_seed(emoji, made):
    halves = ClassSplit(("heart", "clothing"), ("animal-mammal",))
    split, _ = extendable_emoji(emoji, halves)
    assert set(subgroups_of(split.gallery)) == {"heart", "clothing", "animal-mammal"}
    assert len(split.unseen) == 66
    assert extendable_emoji(emoji, seed=1)[0].train.characters != made[0].train.characters
    assert extendable_emoji(emoji)[0].train.characters == made[0].train.characters


def test_what_is_left_out_is_said(emoji, capsys):
    split, _ = extendable_emoji(emoji)
    assert capsys.readouterr().out == (
        f"Extendable emoji: {len(split.train):,} train and {len(split.seen)} test pairs of 34 seen subgroups, "
        f"{len(split.unseen)} of 33 unseen ones, 269 flags apart; 7 emoji left out, whose names and keywords are words "
        "of their subgroup alone\n"
    )


def test_what_will_not_do_is_named(emoji):
    with pytest.raises(ValueError, match="emoji have 'de' ones"):
        extendable_emoji(Emoji(size=8, language="de"))
    with pytest.raises(ValueError, match="flags are a set apart; leave country-flag out"):
        extendable_emoji(emoji, ClassSplit(("heart",), ("country-flag",)))
    with pytest.raises(ValueError, match="has no class 'hart'; did you mean 'heart'"):
        extendable_emoji(emoji, ClassSplit(("hart",), ("clothing",)))
    with pytest.raises(ValueError, match="split the classes, not the pairs"):
        replace(extendable_emoji(emoji)[0], train=extendable_emoji(emoji)[0].gallery)
