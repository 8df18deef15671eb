"""Composed queries for the recipe: which share a batch, which answers are right, what answers keep and change."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commonspace.data import ComposedQueries, DrawnQueries, Scenes
from commonspace.data.emoji_queries import EmojiQueries
from commonspace.data.fashion_queries import FashionQueries
from commonspace.recipes import compose_data


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_groups_hold_each_row_once_and_share_a_source_where_they_can(size):
    counts = [5, 1, 8, 2, 3, 0, 7]
    source = torch.repeat_interleave(torch.arange(7), torch.tensor(counts))
    source = source[torch.randperm(len(source), generator=torch.Generator().manual_seed(0))]
    rows = compose_data.groups(source, size, seed=3, epoch=1)
    assert rows.shape == (26 // size, size)
    assert len(set(rows.flatten().tolist())) == rows.numel()
    shared = sum(len(set(source[group].tolist())) == 1 for group in rows)
    assert shared >= sum(count // size for count in counts)
    assert torch.equal(rows, compose_data.groups(source, size, seed=3, epoch=1))
    assert not torch.equal(rows, compose_data.groups(source, size, seed=3, epoch=2))
    assert not torch.equal(rows, compose_data.groups(source, size, seed=4, epoch=1))


def test_who_shares_a_group_is_drawn_afresh():
    source = torch.zeros(16, dtype=torch.long)
    met = [{tuple(sorted(pair)) for pair in compose_data.groups(source, 2, 0, epoch).tolist()} for epoch in range(30)]
    assert len(set.union(*met)) > 80  # of the 120 pairs there are
    assert max(sum(pair in one for one in met) for pair in met[0]) < 10


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_same_answer_is_that_of_loops(seed):
    rng = np.random.default_rng(seed)
    relevant = [rng.choice(30, size=rng.integers(1, 6), replace=False).tolist() for _ in range(12)]
    target = torch.tensor([one[0] for one in relevant])
    found = compose_data.same_answer(relevant, target)
    assert found.tolist() == [[t in one for t in target.tolist()] for one in relevant]
    assert found.diagonal().all()


ids = st.integers(0, 4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ids, ids, st.sampled_from(["red", "blue", "in red"])), min_size=1, max_size=12))
def test_same_source_is_that_of_loops(rows):
    source, target, texts = (list(column) for column in zip(*rows, strict=True))
    found = compose_data.same_source(torch.tensor(source), torch.tensor(target), texts)
    assert found.dtype == torch.bool
    assert found.tolist() == [
        [s == own or (t, text) == (wanted, said) for s, t, text in rows] for own, wanted, said in rows
    ]


def test_same_source_by_hand():
    source, target = torch.tensor([7, 7, 8, 9]), torch.tensor([1, 2, 1, 1])
    found = compose_data.same_source(source, target, ["in red", "in blue", "in red", "as red"])
    assert found.int().tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("source", "target", "texts"),
    [((3,), (2,), ["a"] * 3), ((3,), (3,), ["a"] * 2), ((3, 1), (3, 1), ["a"] * 3), ((), (), [])],
)
def test_same_source_refuses_lengths_that_differ(source, target, texts):
    with pytest.raises(ValueError, match=r"ids of shape \(B,\), and texts B strings; got"):
        compose_data.same_source(torch.ones(source).long(), torch.ones(target).long(), texts)


# ---- kept and changed -----------------------------------------------------------------------------------------------


def test_scenes_say_themselves_what_an_answer_keeps_and_changes():
    test = Scenes(20, size=32, seed=1).queries()[2]
    assert compose_data.kept_and_changed(test, test.target) == {"kept": 1, "changed": 1}
    assert compose_data.kept_and_changed(test, test.source) == {"kept": 1, "changed": 0}
    other = (test.target + 20) % len(test.images)
    found = compose_data.kept_and_changed(test, other)
    assert found == pytest.approx({name: float(np.nanmean(getattr(test, name)(other))) for name in found}, abs=1e-6)
    assert found.keys() == {"kept", "changed"}
    assert found["kept"] < 0.6


PIXELS = np.zeros((4, 3, 8, 8), dtype=np.uint8)


def test_articles_have_gender_kind_usage_and_colour():
    articles = FashionQueries(
        PIXELS, [0], ["in red"], [1], asked=["Red"], ids=torch.arange(4), gender=["Men", "Men", "Women", "Men"],
        kind=["Shirt", "Shirt", "Shirt", "Shoe"], usage=["", "", "Casual", ""],
        base_colour=["Blue", "Red", "Red", "Blue"],
    )  # fmt: skip
    assert articles.attributes.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 1, 1], [0, 1, 0, 0]]
    found = [compose_data.kept_and_changed(articles, torch.tensor([i])) for i in (1, 2, 3)]
    assert found == [
        {"kept": 1, "changed": 1},
        {"kept": pytest.approx(1 / 3), "changed": 1},
        {"kept": pytest.approx(2 / 3), "changed": 0},
    ]


def test_the_types_are_those_of_the_sources():
    articles = FashionQueries(
        PIXELS, [3, 0, 1, 3], ["in red"] * 4, [0, 1, 2, 2], asked=["Red"] * 4, kind=["Shirt", "Shirt", "Shirt", "Shoe"]
    )
    assert compose_data.types(articles).tolist() == [0, 1, 1, 0]
    assert compose_data.types(ComposedQueries(PIXELS, [0], ["in red"], [1])) is None


def test_emoji_have_a_subject_a_skin_tone_a_gender_and_hair():
    waving, runner, woman, dog = "\U0001f44b\U0001f3ff", "\U0001f3c3", "\U0001f3c3\u200d\u2640\ufe0f", "\U0001f415"
    emoji = EmojiQueries(PIXELS, [1], ["as a woman"], [2], asked=["woman"], characters=[waving, runner, woman, dog])
    numbers = emoji.attributes
    subject, tone, gender, hair = numbers.T.tolist()
    assert subject[1] == subject[2]
    assert len(set(subject)) == 3
    assert tone == [0, 1, 1, 1]
    assert gender == [0, 0, 1, 0]
    assert hair == [0, 0, 0, 0]
    assert compose_data.kept_and_changed(emoji, emoji.target) == {"kept": 1, "changed": 1}
    assert compose_data.kept_and_changed(emoji, emoji.source) == {"kept": 1, "changed": 0}


def test_of_pictures_without_attributes_nothing_is_said():
    plain = ComposedQueries(PIXELS, [0], ["in red"], [1])
    assert compose_data.kept_and_changed(plain, torch.tensor([1])) == {}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_by_length_is_that_of_loops(seed):
    queries = Scenes(20, size=32, seed=seed, edits=(1, 4), changes=6, held_out=12).queries()[2]
    rng = np.random.default_rng(seed)
    answer = [rng.choice(row) if rng.random() < 0.4 else rng.integers(len(queries.images)) for row in queries.relevant]
    hits = {}
    for sentence, one, right in zip(queries.modification, answer, queries.relevant, strict=True):
        hits.setdefault(sentence.count(" and ") + 1, []).append(one in right)
    names = ["R@1 of 1 edit", "R@1 of 2 edits", "R@1 of 3 edits", "R@1 of 4 edits"]
    found = compose_data.by_length(queries, torch.tensor(answer))
    assert list(found) == names
    assert list(found.values()) == pytest.approx([np.mean(hits[n]) for n in (1, 2, 3, 4)])
    assert len({*found.values()}) > 1
    short = torch.tensor([sentence.count(" and ") != 1 for sentence in queries.modification])
    less = compose_data.by_length(queries[short], torch.tensor(answer)[short])
    assert less == {name: value for name, value in found.items() if name != names[1]}


def test_of_sentences_with_one_edit_there_are_no_lengths():
    joined = Scenes(20, size=32, seed=1, edits=2, changes=2).queries()[2]
    assert compose_data.by_length(joined, joined.target) == {"R@1 of 2 edits": 1}
    assert compose_data.by_length(joined, joined.source) == {"R@1 of 2 edits": 0}
    single = Scenes(20, size=32, seed=1, changes=2).queries()[2]
    assert compose_data.by_length(single, single.target) == {}
    assert compose_data.by_length(ComposedQueries(PIXELS, [0], ["in red and blue"], [1]), torch.tensor([1])) == {}


# ---- the data sets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "made", "asked"),
    [
        ("scenes", {"n": 1000, "size": 32, "novel": True, "seed": 3}, ()),
        ("scenes-3d", {"n": 1000, "size": 64, "novel": True, "seed": 3, "dimensions": 3}, ()),
        ("scenes-joined", {"n": 1000, "size": 32, "novel": True, "seed": 3, "edits": (1, 4)}, ()),
        (
            "scenes-crowded",
            {"n": 1000, "size": 32, "novel": True, "seed": 3, "edits": (1, 2), "objects": (5, 8), "jitter": 0.1},
            (),
        ),
        ("emoji-skin-tone", {"size": 32}, ("skin_tone", 3)),
        ("emoji-gender", {"size": 32}, ("gender", 3)),
        ("emoji-hair", {"size": 32}, ("hair", 3)),
        ("fashion-products", {"size": (64, 48)}, (3,)),
    ],
)
def test_a_name_stands_for_these_queries(name, made, asked, monkeypatch):
    seen = []

    class Fake:
        def __init__(self, **arguments):
            seen.append(arguments)

        def queries(self, *arguments):
            seen.append(arguments)
            return "train", "validation", "test"

    for kind in ("Scenes", "Emoji", "FashionProducts"):
        monkeypatch.setattr(f"commonspace.data.{kind}", Fake)
    assert compose_data.load(name, seed=3) == compose_data.QuerySplits("train", "validation", "test")
    assert seen == [made, asked]
    compose_data.load(name, size=96)
    assert seen[2]["size"] == ((96, 72) if name == "fashion-products" else 96)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'scenes'"):
        compose_data.load("scene")
    with pytest.raises(ValueError, match=r"there are css, emoji-gender, emoji-hair, .*, scenes-joined$"):
        compose_data.load("xyz")


# ---- what a query says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Told(ComposedQueries):
    captions: list[str] | None = field(default=None, metadata={"of_images": True})


class Again(DrawnQueries):
    """The same queries in every epoch."""

    def __init__(self, queries: ComposedQueries):
        self.queries, self.images, self.captions = queries, queries.images, queries.captions
        self.texts = queries.modification

    def __len__(self) -> int:
        return len(self.queries)

    def draw(self, seed: int, epoch: int) -> ComposedQueries:
        return self.queries


def told(*captions: str) -> Told:
    """Two queries from picture 0, with answers 1, 2 and 3 both."""
    return Told(PIXELS, [0, 0], ["more", "less"], [1, 2], [[1, 2, 3], [1, 2, 3]], captions=["source", *captions])


FIRST, SECOND, THIRD = ("red", "blue", "red"), ("big", "big", "small"), ("a", "b", "c")
RIGHT = {FIRST: [[1, 3], [2]], SECOND: [[1, 2], [1, 2]], THIRD: [[1], [2]]}


@pytest.fixture
def loader(monkeypatch):
    def become(*parts):
        monkeypatch.setitem(compose_data._LOADERS, "scenes", lambda seed, size: compose_data.QuerySplits(*parts))

    return become


def agree(queries: ComposedQueries, captions: tuple[str, ...]) -> None:
    assert queries.modification == [*captions[:2]]
    assert queries.relevant == RIGHT[captions]


def test_in_complete_mode_every_part_says_all_of_the_target(loader):
    loader(told(*FIRST), told(*SECOND), told(*THIRD))
    splits = compose_data.load("scenes", text_mode="complete")
    for queries, captions in zip((splits.train, splits.validation, splits.test), (FIRST, SECOND, THIRD), strict=True):
        agree(queries, captions)
    for splits in (compose_data.load("scenes"), compose_data.load("scenes", text_mode="modification")):
        for queries in (splits.train, splits.validation, splits.test):
            assert queries.modification == ["more", "less"]
            assert queries.relevant == [[1, 2, 3], [1, 2, 3]]


def test_drawn_queries_no_validation_and_several_tests_are_completed_too(loader):
    loader(Again(told(*FIRST)), None, {"second": told(*SECOND), "third": told(*THIRD)})
    splits = compose_data.load("scenes", text_mode="complete")
    assert isinstance(splits.train, DrawnQueries)
    assert splits.train.texts == ["source", *FIRST]
    agree(splits.train.draw(0, 0), FIRST)
    assert splits.validation is None
    assert list(splits.test) == ["second", "third"]
    agree(splits.test["second"], SECOND)
    agree(splits.test["third"], THIRD)


@pytest.mark.parametrize("part", range(3))
def test_pictures_without_captions_are_said_to_have_none(loader, part):
    parts = [told(*FIRST), told(*SECOND), told(*THIRD)]
    parts[part] = ComposedQueries(PIXELS, [0], ["more"], [1])
    loader(*parts)
    assert compose_data.load("scenes").train is parts[0]
    with pytest.raises(ValueError, match="ComposedQueries has no captions"):
        compose_data.load("scenes", text_mode="complete")


@pytest.mark.parametrize("mode", ["completed", "", None, True])
def test_another_text_mode_is_refused(mode):
    with pytest.raises(ValueError, match=f"text_mode must be one of 'modification', 'complete'; got {mode!r}"):
        compose_data.load("scenes", text_mode=mode)


def test_scenes_said_whole_have_one_answer(monkeypatch):
    small = Scenes(20, size=32, seed=1, changes=4).queries()
    monkeypatch.setattr(Scenes, "queries", lambda self: small)
    splits = compose_data.load("scenes", text_mode="complete")
    for queries, told in zip((splits.train, splits.validation, splits.test), small, strict=True):
        assert queries.modification == [told.captions[t] for t in told.target.tolist()]
        assert queries.relevant == told.target[:, None].tolist()
        assert compose_data.kept_and_changed(queries, queries.target) == {"kept": 1, "changed": 1}
