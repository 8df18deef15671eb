"""Splits by class. Run as a script, with $COMMONSPACE_DATA set, it writes the published lists anew."""

import hashlib
import itertools
import json
import math
from collections import Counter
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from commonspace.data import Emoji, FashionProducts, PairedFeatures, PairedSamples
from commonspace.data.class_splits import (
    ClassSplit,
    ExtendableSplit,
    extendable,
    fixed_class_split,
    random_class_splits,
)
from commonspace.data.nus_wide_10k import CLASSES as NUS_WIDE
from commonspace.data.pascal_sentences import CLASSES as PASCAL

LISTS = Path(__file__).parents[2] / "lib/commonspace/data/lists"
WIKIPEDIA = ["art", "biology", "geography", "history", "literature", "media", "music", "royalty", "sport", "warfare"]
RULE = (
    "seen, unseen: the classes are ranked by the SHA-256 of their name (UTF-8), and the first half, rounded down, is "
    "unseen. random: likewise with the SHA-256 of '0 <draw> <name>', draw = 0, 1, ..., draws that came before left "
    "out, the unseen half listed. No result had a part in either. classes: "
)
ELIGIBLE = {
    "wikipedia": "all ten.",
    "emoji": "the subgroups with at least 8 of the 1,870 emoji (Unicode 15.0, no skin tones), without the group Flags.",
    "fashion-products": "the article types with at least 50 train and 10 test pairs among the 24,136 articles that the "
    "course's numbers were measured on, by the title's hash.",
    "pascal-sentences": "all twenty.",
    "nus-wide-10k": "all ten.",
}


def half(classes, prefix="") -> set:
    """The unseen half, by the rule in words: as many as half, each before every one that is not."""
    key = {name: int(hashlib.sha256((prefix + name).encode()).hexdigest(), 16) for name in classes}
    return {name for name in classes if sum(key[other] < key[name] for other in classes) < len(classes) // 2}


def content(name: str, classes: list[str]) -> dict:
    """What a published file must hold."""
    unseen, draws = half(classes), []
    for draw in itertools.count():
        if len(draws) == 20:
            break
        if (drawn := sorted(half(classes, f"0 {draw} "))) not in draws:
            draws.append(drawn)
    return {
        "dataset": name,
        "rule": RULE + ELIGIBLE[name],
        "seen": sorted(set(classes) - unseen),
        "unseen": sorted(unseen),
        "random": draws,
    }


def emoji_classes() -> list[str]:
    samples = Emoji().samples
    counts = Counter(zip(samples.label.tolist(), samples.subgroup.tolist(), strict=True))
    flags = samples.classes.index("Flags")
    return [samples.subgroups[s] for (group, s), count in counts.items() if count >= 8 and group != flags]


def fashion_classes() -> list[str]:
    train, _, test = FashionProducts().split()
    many = [part.label.bincount(minlength=len(part.classes)) for part in (train, test)]
    return [name for i, name in enumerate(train.classes) if many[0][i] >= 50 and many[1][i] >= 10]


FIXED = {"wikipedia": WIKIPEDIA, "pascal-sentences": list(PASCAL), "nus-wide-10k": list(NUS_WIDE)}
NAMES = [*FIXED, "emoji", "fashion-products"]


def published(name: str) -> dict:
    return json.loads((resources.files("commonspace.data") / "lists" / f"{name}.json").read_text(encoding="utf-8"))


# ---- the published lists --------------------------------------------------------------------------------------------


def test_the_list_of_subgroups_is_that_of_the_data():
    split = fixed_class_split("emoji")
    assert sorted(emoji_classes()) == sorted(split.seen + split.unseen)
    assert (len(split.seen), len(split.unseen)) == (34, 33)
    assert not {"flag", "country-flag", "subdivision-flag", "hotel"} & {*split.seen, *split.unseen}


@pytest.mark.parametrize("name", NAMES)
def test_a_published_list_follows_its_rule(name):
    listed = published(name)
    classes = FIXED.get(name) or listed["seen"] + listed["unseen"]
    assert listed == content(name, classes)
    split = fixed_class_split(name)
    assert split == ClassSplit(tuple(listed["seen"]), tuple(listed["unseen"]))
    assert len(split.unseen) == len(classes) // 2
    splits = random_class_splits(split.seen + split.unseen)
    assert [list(s.unseen) for s in splits] == listed["random"]
    assert all({*s.seen, *s.unseen} == set(classes) for s in splits)


def test_there_is_no_other_list():
    assert sorted(path.name for path in LISTS.iterdir()) == sorted(f"{name}.json" for name in NAMES)


@pytest.mark.realdata
def test_the_list_of_article_types_is_that_of_the_data(real):
    real("fashion-products", "styles.csv")
    split = fixed_class_split("fashion-products")
    if len(products := FashionProducts()) != 24136:
        pytest.skip(f"the list was made from 24,136 articles, here are {len(products):,}")
    assert sorted(fashion_classes()) == sorted(split.seen + split.unseen)


@pytest.mark.parametrize(("name", "nearest"), [("fashion", "fashion-products"), ("wikipedea", "wikipedia")])
def test_an_unknown_name_gives_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=rf"no class split is published for '{name}'.*did you mean '{nearest}'\?"):
        fixed_class_split(name)
    with pytest.raises(ValueError, match="there are emoji, fashion-products, nus-wide-10k"):
        fixed_class_split("../../secret")


# ---- splits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "unseen", "message"),
    [
        (["a", "b"], ["b"], "seen or unseen, not both: b"),
        (["a", "a"], ["b"], "a class may come once"),
        ([], ["b"], "seen must be class names, one at least"),
        (["a"], [], "unseen must be class names, one at least"),
        ("ab", ["c"], "seen must be class names"),
        ([0, 1], ["c"], "seen must be class names"),
    ],
)
def test_a_split_that_is_none_is_refused(seen, unseen, message):
    with pytest.raises(ValueError, match=message):
        ClassSplit(seen, unseen)


@pytest.mark.parametrize("n_classes", [2, 5, 9, 30])
def test_random_splits_hang_on_names_and_seed_alone(n_classes):
    names = [f"class {i}" for i in range(n_classes)]
    n = min(20, math.comb(n_classes, n_classes // 2))
    splits = random_class_splits(names, n)
    assert len(set(splits)) == n
    assert random_class_splits(names[::-1], n) == splits
    assert random_class_splits(names, 1) == splits[:1]
    for split in splits:
        assert len(split.unseen) == n_classes // 2
        assert sorted(split.seen + split.unseen) == sorted(names)
    if n == 20:
        assert random_class_splits(names, n, seed=1) != splits


def test_each_class_is_unseen_about_half_the_time():
    splits = random_class_splits([str(i) for i in range(40)], 400)
    counts = Counter(name for split in splits for name in split.unseen)
    assert min(counts.values()) > 150
    assert max(counts.values()) < 250  # 200 +- 10, five standard deviations


@pytest.mark.parametrize(
    ("classes", "n", "message"),
    [
        (["a"], 1, "at least 2 different names"),
        (["a", "a", "b"], 1, "at least 2 different names"),
        ("abcdef", 1, "at least 2 different names"),
        (["a", "b", "c", "d"], 7, "4 classes have 6 different halves"),
        (["a", "b"], 0, "n must be 1 to that, got 0"),
    ],
)
def test_splits_that_there_are_not_are_refused(classes, n, message):
    with pytest.raises(ValueError, match=message):
        random_class_splits(classes, n)


# ---- extendable -----------------------------------------------------------------------------------------------------

CLASSES = ["d", "a", "c", "b", "rest"]
SPLIT = ClassSplit(("a", "b"), ("c", "d"))


def features(seed: int, n: int) -> PairedFeatures:
    """The image is the number of the row."""
    rng = np.random.default_rng(seed)
    label = np.concatenate([np.arange(5), rng.integers(0, 5, n - 5)])
    return PairedFeatures(np.arange(n)[:, None], rng.normal(size=(n, 2)), rng.permutation(label), CLASSES)


def samples(seed: int, n: int) -> PairedSamples:
    pairs = features(seed, n)
    images = torch.zeros(n, 3, 1, 1, dtype=torch.uint8) + torch.arange(n, dtype=torch.uint8)[:, None, None, None]
    return PairedSamples(images, [f"text {i}" for i in range(n)], pairs.label, CLASSES)


def rows(pairs) -> list[int]:
    return (pairs.image[:, 0] if isinstance(pairs, PairedFeatures) else pairs.images[:, 0, 0, 0]).long().tolist()


def rows_of(pairs, names) -> list[int]:
    return [i for i, label in enumerate(pairs.label.tolist()) if CLASSES[label] in names]


@pytest.mark.parametrize("make", [features, samples])
@pytest.mark.parametrize("seed", range(4))
def test_every_part_has_the_pairs_of_its_classes(make, seed):
    train, test, validation = make(seed, 60), make(seed + 10, 40), make(seed + 20, 20)
    made = extendable(train, test, SPLIT, validation)
    assert rows(made.train) == rows_of(train, "ab")
    assert rows(made.validation) == rows_of(validation, "ab")
    assert rows(made.seen) == rows_of(test, "ab")
    assert rows(made.unseen) == rows_of(test, "cd")
    assert rows(made.gallery) == rows_of(test, "abcd")
    assert made.train.classes == made.validation.classes == ["a", "b"]
    assert made.seen.classes == made.unseen.classes == made.gallery.classes == ["a", "b", "c", "d"]
    for part, whole in ((made.train, train), (made.seen, test), (made.unseen, test), (made.gallery, test)):
        assert type(part) is type(whole)
        before = [CLASSES[label] for label in whole.label[rows(part)].tolist()]
        assert [part.classes[label] for label in part.label.tolist()] == before
    assert extendable(train, test, SPLIT).validation is None


def test_what_else_the_samples_hold_stays_with_them():
    train, test = samples(0, 60), samples(1, 40)
    made = extendable(train, test, SPLIT)
    assert made.gallery.texts == [f"text {i}" for i in rows(made.gallery)]


def test_a_split_of_the_pairs_is_caught():
    """The mistake that this task invites: the same classes on both sides."""
    pairs = features(0, 100)
    pairs = replace(pairs, label=pairs.label % 2, classes=["a", "b"])
    with pytest.raises(ValueError, match="unseen classes have pairs in train: a, b; split the classes, not the pairs"):
        ExtendableSplit(train=pairs[:50], seen=pairs[50:70], unseen=pairs[70:], gallery=pairs[50:])


def test_parts_that_do_not_fit_are_caught():
    made = extendable(features(0, 60), features(1, 40), SPLIT, features(2, 20))
    with pytest.raises(ValueError, match="unseen classes have pairs in validation: c, d"):
        replace(made, validation=made.unseen)
    with pytest.raises(ValueError, match="unseen classes have pairs in seen: c, d"):
        replace(made, seen=made.gallery)
    with pytest.raises(ValueError, match="seen has classes that train lacks: b; they are not seen"):
        replace(made, train=made.train[made.train.label == 0])
    with pytest.raises(ValueError, match="gallery must be the"):
        replace(made, gallery=made.unseen)


def test_pairs_that_will_not_do_are_named():
    train, test = features(0, 60), features(1, 40)
    several = replace(train, label=torch.eye(5, dtype=torch.bool)[train.label])
    with pytest.raises(ValueError, match=r"train has several labels a pair, \(60, 5\) bool"):
        extendable(several, test, SPLIT)
    with pytest.raises(ValueError, match="test needs label and classes"):
        extendable(train, replace(test, label=None), SPLIT)
    with pytest.raises(ValueError, match="validation needs label and classes"):
        extendable(train, test, SPLIT, replace(test, classes=None))
    with pytest.raises(ValueError, match="train has no class 'rset'; did you mean 'rest'"):
        extendable(train, test, ClassSplit(("a", "rset"), ("c",)))
    with pytest.raises(ValueError, match="train has no pair of b; leave the class out"):
        extendable(train[train.label != CLASSES.index("b")], test[test.label != CLASSES.index("b")], SPLIT)
    with pytest.raises(ValueError, match="test has no pair of c; leave the class out"):
        extendable(train, test[test.label != CLASSES.index("c")], SPLIT)


def test_a_seen_class_may_be_missing_from_the_test_pairs():
    train, test = features(0, 60), features(1, 40)
    made = extendable(train, test[test.label != CLASSES.index("b")], SPLIT)
    assert made.seen.label.unique().tolist() == [0]


if __name__ == "__main__":
    for name, classes in {**FIXED, "emoji": emoji_classes(), "fashion-products": fashion_classes()}.items():
        made = {k: json.dumps(v, ensure_ascii=False) for k, v in content(name, classes).items()}
        made["random"] = made["random"].replace("[[", "[\n  [").replace("], [", "],\n  [").replace("]]", "]\n ]")
        text = ",\n".join(f' "{key}": {value}' for key, value in made.items())
        (LISTS / f"{name}.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
