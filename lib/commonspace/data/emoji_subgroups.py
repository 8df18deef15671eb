"""Extendable retrieval on emoji: the classes are Unicode's subgroups, and names do not give them away."""

import re
from dataclasses import replace

from commonspace.data.class_splits import ClassSplit, ExtendableSplit, extendable, fixed_class_split
from commonspace.data.emoji import Emoji, EmojiSamples
from commonspace.data.vocabulary import TOKEN

FLAGS = "Flags"
# A text of these alone says nothing: "face with tongue" without face and tongue is "with".
SMALL_WORDS = {
    "a",
    "an",
    "and",
    "at",
    "by",
    "for",
    "from",
    "in",
    "no",
    "of",
    "on",
    "or",
    "the",
    "to",
    "with",
    "without",
}


def _stem(word: str) -> str:
    """The word in lower case, without 's and without the plural ending: flowers, flower; berries, berry; boxes, box."""
    word = re.sub(r"['’]s?$", "", word.lower())
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word


def strip_class_words(text: str, class_name: str) -> str:
    """The text without the words of the class's name, singular or plural, in any case; "" when nothing is left.

    A text that shares no word with the class comes back as it is; else the words that stay are joined by one space. If
    only small words such as "with" stay, nothing is left.

    >>> strip_class_words("person: red hair", "person"), strip_class_words("Flowers", "plant-flower")
    ('red hair', '')
    """
    gone = {_stem(word) for word in re.findall(TOKEN, class_name)}
    words = re.findall(TOKEN, text)
    left = [word for word in words if _stem(word) not in gone]
    if len(left) == len(words):
        return text
    return " ".join(left) if any(word.lower() not in SMALL_WORDS for word in left) else ""


def without_class_words(samples: EmojiSamples) -> EmojiSamples:
    """The same with ``strip_class_words(name, subgroup)`` for each name.

    Where nothing is left of a name, the first CLDR keyword that has a word left, stripped alike, stands for it; an
    emoji without such a keyword is left out.
    """
    texts, rows = [], []
    for row, (name, subgroup) in enumerate(zip(samples.texts, samples.subgroup.tolist(), strict=True)):
        candidates = (strip_class_words(text, samples.subgroups[subgroup]) for text in (name, *samples.keywords[row]))
        if text := next(filter(None, candidates), ""):
            texts.append(text)
            rows.append(row)
    return replace(samples[rows], texts=texts)


def _by_subgroup(samples: EmojiSamples) -> EmojiSamples:
    return replace(samples, label=samples.subgroup, classes=samples.subgroups)


def extendable_emoji(
    emoji: Emoji | None = None, split: ClassSplit | None = None, seed: int = 0
) -> tuple[ExtendableSplit, EmojiSamples]:
    """Emoji by subgroup, seen and unseen, and the flags apart: 269 rows of three subgroups that no training has seen.

    ``split``: subgroups, by default ``fixed_class_split("emoji")``, those with 8 or more of the 1,870 emoji.
    Seen classes are divided by ``emoji.split("family", seed)``, so that no drawing has a variant on the other side. Of
    unseen classes all rows are tested, since none of them was trained on. Names are `without_class_words`.

    Raises ValueError for names that are not English (subgroups are), for a split that names a flags' subgroup, and as
    `extendable` does.
    """
    emoji = Emoji() if emoji is None else emoji
    split = fixed_class_split("emoji") if split is None else split
    if emoji.language.partition("_")[0] != "en":
        raise ValueError(f"subgroups have English names, emoji have {emoji.language!r} ones: load Emoji(language='en')")
    samples = without_class_words(emoji.samples)
    is_flag = samples.label == samples.classes.index(FLAGS)
    flags = _by_subgroup(samples[is_flag])
    apart = {flags.subgroups[i] for i in flags.subgroup.unique().tolist()}
    if mixed := sorted(apart & {*split.seen, *split.unseen}):
        raise ValueError(f"flags are a set apart; leave {', '.join(mixed)} out of the split")
    row = {character: i for i, character in enumerate(samples.characters)}
    train, validation, test = ([row[c] for c in part.characters if c in row] for part in emoji.split("family", seed))
    unseen = {samples.subgroups.index(name) for name in split.unseen if name in samples.subgroups}
    tested = set(test) | {i for i, subgroup in enumerate(samples.subgroup.tolist()) if subgroup in unseen}
    labelled = _by_subgroup(samples)
    made = extendable(labelled[train], labelled[sorted(tested)], split, labelled[validation])
    left_out = len(emoji.samples) - len(samples)
    print(
        f"Extendable emoji: {len(made.train):,} train and {len(made.seen):,} test pairs of {len(split.seen)} seen "
        f"subgroups, {len(made.unseen):,} of {len(split.unseen)} unseen ones, {len(flags):,} flags apart; {left_out} "
        "emoji left out, whose names and keywords are words of their subgroup alone"
    )
    return made, flags
