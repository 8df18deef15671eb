"""The container of composed queries: cutting chooses queries and leaves the pictures; what does not fit is refused."""

import random
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commonspace.data import ComposedQueries, DrawnQueries
from commonspace.data.composed import numbered


@dataclass(frozen=True, eq=False)
class Named(ComposedQueries):
    """Queries with fields of their own."""

    asked: list[str] | None = None
    weight: torch.Tensor | None = None
    names: list[str] | None = field(default=None, metadata={"of_images": True})


@dataclass(frozen=True, eq=False)
class Told(Named):
    """Whose pictures have captions."""

    captions: list[str] | None = field(default=None, metadata={"of_images": True})


class Shuffled(DrawnQueries):
    """Epoch e has the queries from place e on."""

    texts = ("make it new",)

    def __init__(self, queries: ComposedQueries):
        self.queries, self.images, self.captions = queries, queries.images, queries.captions

    def __len__(self) -> int:
        return 5

    def draw(self, seed: int, epoch: int) -> ComposedQueries:
        return self.queries[epoch : epoch + 5]


def pictures(m: int) -> torch.Tensor:
    return torch.arange(m, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 2, 2)


def drawn(seed: int, n: int = 12, m: int = 9) -> dict:
    """The arguments of n queries over m pictures."""
    rng = random.Random(seed)
    source, target, relevant = [], [], []
    for _ in range(n):
        s, *others = rng.sample(range(m), m)
        right = others[: rng.randrange(1, m)]
        source.append(s)
        target.append(rng.choice(right))
        relevant.append(right)
    return {
        "images": pictures(m),
        "source": source,
        "modification": [f"make it {i}" for i in range(n)],
        "target": target,
        "relevant": relevant,
    }


@pytest.fixture(params=[0, 1, 2])
def seed(request) -> int:
    return request.param


# ---- what it holds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [list, np.array, torch.tensor, tuple, lambda x: np.array(x, dtype=np.int32)])
def test_ids_come_in_as_lists_arrays_or_tensors(read, seed):
    made = drawn(seed)
    queries = ComposedQueries(**made | {"source": read(made["source"]), "target": read(made["target"])})
    assert queries.source.dtype == queries.target.dtype == torch.int64
    assert queries.source.tolist() == made["source"]
    assert queries.target.tolist() == made["target"]
    assert queries.relevant == made["relevant"]
    assert len(queries) == 12


@pytest.mark.parametrize("read", [tuple, np.array, torch.tensor])
def test_right_answers_become_lists_of_numbers(read, seed):
    made = drawn(seed)
    queries = ComposedQueries(**made | {"relevant": [read(ids) for ids in made["relevant"]]})
    assert queries.relevant == made["relevant"]
    assert all(type(i) is int for ids in queries.relevant for i in ids)


def test_the_target_alone_is_right_by_default(seed):
    made = drawn(seed)
    del made["relevant"]
    assert ComposedQueries(**made).relevant == [[i] for i in made["target"]]


def test_pictures_may_be_decoded_lazily(seed):
    class Lazy:
        def __len__(self):
            return 9

        def __getitem__(self, ids):
            return pictures(9)[ids]

    queries = ComposedQueries(**drawn(seed) | {"images": Lazy()})
    assert torch.equal(queries[[3]].images[queries.source], pictures(9)[queries.source])
    with pytest.raises(ValueError, match="but there are 9 images"):
        ComposedQueries(**drawn(seed, m=30) | {"images": Lazy()})


# ---- cutting --------------------------------------------------------------------------------------------------------

CUTS = [
    (slice(2, 5), [2, 3, 4]),
    (slice(None, None, -5), [11, 6, 1]),
    ([7, 0, 7], [7, 0, 7]),
    ([-1, -12], [11, 0]),
    (np.array([3, 1]), [3, 1]),
    (torch.tensor([5]), [5]),
    (torch.arange(12) > 9, [10, 11]),
    ([True] + [False] * 11, [0]),
    ([], []),
    (slice(4, 4), []),
]


@pytest.mark.parametrize(("index", "rows"), CUTS)
def test_a_cut_chooses_queries_and_keeps_every_picture(index, rows, seed):
    made = drawn(seed)
    cut = ComposedQueries(**made)[index]
    assert len(cut) == len(rows)
    assert torch.equal(cut.images, made["images"])
    assert cut.modification == [f"make it {i}" for i in rows]
    assert cut.source.tolist() == [made["source"][i] for i in rows]
    assert cut.target.tolist() == [made["target"][i] for i in rows]
    assert cut.relevant == [made["relevant"][i] for i in rows]


@pytest.mark.parametrize(("index", "rows"), CUTS)
def test_a_subclass_says_which_fields_are_the_pictures(index, rows):
    names = [f"picture {i}" for i in range(9)]
    weight = torch.arange(24.0).view(12, 2)
    cut = Named(**drawn(0), asked=[f"value {i}" for i in range(12)], weight=weight, names=names)[index]
    assert isinstance(cut, Named)
    assert cut.asked == [f"value {i}" for i in rows]
    assert torch.equal(cut.weight, weight[rows])
    assert cut.names == names


def test_a_subclass_may_leave_its_fields_out():
    cut = Named(**drawn(0))[:3]
    assert (cut.asked, cut.weight, cut.names, len(cut)) == (None, None, None, 3)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([12], "ids run from 12 to 12, but there are 12 rows"),
        ([-13], "there are 12 rows"),
        (torch.ones(11, dtype=torch.bool), "mask has 11 entries for 12 rows"),
        ([0.5], "slice, by integer ids or by a boolean mask"),
        (3, r"data\[\[3\]\]"),
    ],
)
def test_bad_indices_are_refused(index, message):
    with pytest.raises(IndexError, match=message):
        ComposedQueries(**drawn(0))[index]


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["source", "target"])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0.0] * 12, r"whole numbers of shape \(n,\), rows of images; got torch.float64 \(12,\)"),
        ([True] * 12, r"whole numbers.*got torch.bool"),
        ([1j] * 12, "whole numbers.*got torch.complex128"),
        ([[0]] * 12, r"whole numbers.*got torch.int64 \(12, 1\)"),
        (["a"] * 12, "whole numbers"),
        ([[0], [0, 1]] * 6, "be whole numbers"),
        (3, r"whole numbers.*got torch.int64 \(\)"),
        ([9] + [0] * 11, "from 0 to 9, but there are 9 images"),
        ([-1] + [0] * 11, "from -1 to 0, but there are 9 images"),
    ],
)
def test_ids_that_are_no_rows_of_images_are_refused(name, ids, message):
    with pytest.raises(ValueError, match=f"^{name} .*{message}"):
        ComposedQueries(**drawn(0) | {name: ids})


@pytest.mark.parametrize("name", ["modification", "target", "relevant"])
def test_lengths_that_differ_are_refused(name):
    made = drawn(0)
    with pytest.raises(ValueError, match=f"source has 12 entries, {name} has 11: one each a query"):
        ComposedQueries(**made | {name: made[name][:11]})


@pytest.mark.parametrize(
    ("name", "message"),
    [("asked", "source has 12 entries, asked has 9"), ("names", "images has 9 entries, names has 12")],
)
def test_lengths_of_a_subclass_are_checked_too(name, message):
    with pytest.raises(ValueError, match=message):
        Named(**drawn(0), **{name: ["x"] * (9 if name == "asked" else 12)})


@pytest.mark.parametrize("text", ["", "  \n", None, 3, ["make it red"]])
def test_a_sentence_without_a_word_is_refused(text):
    made = drawn(0)
    made["modification"][7] = text
    with pytest.raises(ValueError, match=r"modification\[7\] is .*a string with a word in it"):
        ComposedQueries(**made)


@pytest.mark.parametrize("images", [torch.zeros(9, 2, 2, 3, dtype=torch.uint8), torch.zeros(9, 3, 2, 2)])
def test_pictures_must_be_uint8_and_channels_first(images):
    with pytest.raises(ValueError, match=r"images must be uint8 of shape \(n, 3, h, w\)"):
        ComposedQueries(**drawn(0) | {"images": images})


@pytest.mark.parametrize("query", [0, 5, 11])
def test_a_wrong_list_of_right_answers_names_its_query(query, seed):
    made = drawn(seed)
    source, target = made["source"][query], made["target"][query]
    other = next(i for i in range(9) if i not in (source, target))
    for ids, message in [
        ([other], f"query {query}: target {target} is not among its right answers .{other}."),
        ([], f"query {query}: target {target} is not among its right answers"),
        ([target, source], f"query {query}: source {source} is among its right answers"),
        ([target, 9], r"relevant runs from \d to 9, but there are 9 images"),
        ([target, -1], "relevant runs from -1 to"),
        ([target, 0.5], "relevant must be whole numbers"),
    ]:
        relevant = [*made["relevant"][:query], ids, *made["relevant"][query + 1 :]]
        with pytest.raises(ValueError, match=message):
            ComposedQueries(**made | {"relevant": relevant})


def test_the_check_agrees_with_a_loop():
    """Random lists, most of them wrong somewhere: refused exactly where a loop over the queries refuses them."""
    rng = random.Random(5)
    outcomes = []
    for _ in range(300):
        n, m = rng.randrange(1, 4), 5
        source = [rng.randrange(m) for _ in range(n)]
        target = [rng.randrange(m) for _ in range(n)]
        relevant = [[rng.randrange(m) for _ in range(rng.randrange(4))] for _ in range(n)]
        right = all(t in r and s not in r for s, t, r in zip(source, target, relevant, strict=True))
        try:
            ComposedQueries(pictures(m), source, ["x"] * n, target, relevant)
            outcomes.append((right, True))
        except ValueError:
            outcomes.append((right, False))
    assert all(expected == accepted for expected, accepted in outcomes)
    assert 10 < sum(accepted for _, accepted in outcomes) < 290


def test_the_source_is_no_answer_to_itself():
    with pytest.raises(ValueError, match="query 1: source 2 is among its right answers"):
        ComposedQueries(pictures(4), [0, 2], ["x", "y"], [1, 2])


def test_eighty_thousand_queries_are_checked_in_well_under_a_second():
    """MIT-States has 82,732 with 26.7 right answers each. Measured 0.25 s; the bound leaves room for a busy machine."""
    n, m = 82_732, 10_546
    generator = np.random.default_rng(0)
    source = generator.integers(0, m, n)
    target = (source + 1) % m
    relevant = [list(range(t, t + 27)) if t < m - 27 else [t] for t in target.tolist()]
    relevant = [[t for t in ids if t != s] for s, ids in zip(source.tolist(), relevant, strict=True)]
    images = torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(m, -1, -1, -1)
    start = time.process_time()
    queries = ComposedQueries(images, source, ["make it new"] * n, target, relevant)
    assert time.process_time() - start < 1.5
    assert len(queries) == n


# ---- attributes as numbers ------------------------------------------------------------------------------------------


def test_numbers_are_equal_exactly_where_values_are(seed):
    rng = random.Random(seed)
    columns = [[rng.choice(["a", "b", "", None, 3]) for _ in range(20)] for _ in range(3)]
    numbers = numbered(*columns)
    assert numbers.shape == (20, 3)
    assert numbers.dtype == torch.int64
    for k, column in enumerate(columns):
        assert [[a == b for a in column] for b in column] == (numbers[:, k, None] == numbers[None, :, k]).T.tolist()
        assert sorted(set(numbers[:, k].tolist())) == list(range(len(set(column))))


# ---- the whole caption as the text ----------------------------------------------------------------------------------


def told(seed: int, **rest) -> Told:
    """Queries whose right answers have captions of their own, three in all."""
    words = random.Random(100 + seed).choices(["red cube", "blue cube", "red ball"], k=9)
    return Told(**drawn(seed) | {"captions": words} | rest)


def content(queries: ComposedQueries) -> list:
    return [queries.source.tolist(), queries.modification, queries.target.tolist(), queries.relevant]


def by_loop(queries: ComposedQueries) -> list:
    said, right = [], []
    for target, relevant in zip(queries.target.tolist(), queries.relevant, strict=True):
        said.append(queries.captions[target])
        right.append([i for i in relevant if queries.captions[i] == queries.captions[target]])
    return [queries.source.tolist(), said, queries.target.tolist(), right]


def test_completed_queries_are_those_of_a_loop(seed):
    queries = told(seed, asked=[f"value {i}" for i in range(12)])
    before = content(queries)
    completed = queries.completed()
    assert content(completed) == by_loop(queries)
    assert completed.relevant != queries.relevant  # some answers go
    assert max(map(len, completed.relevant)) > 1  # and some stay besides the target
    assert isinstance(completed, Told)
    assert completed.images is queries.images
    assert (completed.asked, completed.captions) == (queries.asked, queries.captions)
    assert content(queries) == before


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.sampled_from(["a", "A", "b c", "c b", "ab"]), min_size=9, max_size=9))
def test_completing_is_done_once_and_can_come_before_or_after_a_cut(seed, captions):
    queries = Told(**drawn(seed), captions=captions)
    completed = queries.completed()
    assert content(completed) == by_loop(queries)
    assert content(completed.completed()) == content(completed)
    rows = random.Random(seed).sample(range(12), 4)
    assert content(queries[rows].completed()) == content(completed[rows])
    assert content(queries[[]].completed()) == [[], [], [], []]


def test_where_captions_differ_the_target_alone_is_right(seed):
    completed = told(seed, captions=[f"picture {i}" for i in range(9)]).completed()
    assert completed.relevant == completed.target[:, None].tolist()
    same = told(seed, captions=["a picture"] * 9).completed()
    assert same.relevant == told(seed).relevant


def test_captions_may_be_read_from_the_pictures_when_asked_for(seed):
    class Lazy(Named):
        @property
        def captions(self) -> list[str]:
            return [name.upper() for name in self.names]

    queries = Lazy(**drawn(seed), names=[f"colour {i % 2}" for i in range(9)])
    assert content(queries.completed()) == by_loop(queries)
    assert queries.completed().modification[0] == f"COLOUR {queries.target[0] % 2}"


@pytest.mark.parametrize("kind", [ComposedQueries, Named, Told])
def test_without_captions_nothing_is_completed(kind):
    for queries in (kind(**drawn(0)), kind(**drawn(0))[:3]):
        with pytest.raises(ValueError, match=f"{kind.__name__} has no captions .*keep their modifications, or take"):
            queries.completed()
    with pytest.raises(ValueError, match="Shuffled has no captions"):
        Shuffled(kind(**drawn(0))).completed()


def test_every_target_needs_a_caption_and_other_pictures_do_not(seed):
    queries = told(seed)
    target = int(queries.target[3])
    rows = [i for i in range(12) if int(queries.target[i]) != target]
    captions = ["" if i == target else caption for i, caption in enumerate(queries.captions)]
    queries = told(seed, captions=captions)
    first = queries.target.tolist().index(target)
    with pytest.raises(ValueError, match=f"query {first}: its target, picture {target}, has no caption; leave such"):
        queries.completed()
    assert content(queries[rows].completed()) == by_loop(queries[rows])


def test_drawn_queries_are_completed_epoch_by_epoch(seed):
    drawing = Shuffled(told(seed))
    completed = drawing.completed()
    assert isinstance(completed, DrawnQueries)
    assert completed.images is drawing.images
    assert completed.texts == drawing.captions
    assert len(completed) == 5
    for epoch in (0, 3):
        assert content(completed.draw(seed, epoch)) == by_loop(drawing.draw(seed, epoch))


@pytest.mark.parametrize("kinds", [1, 2])
def test_eighty_thousand_queries_are_completed_in_about_a_second(kinds):
    """As many as MIT-States', two million answers; ``kinds`` captions in each list. Measured 0.15 and 0.4 s."""
    n, m = 82_732, 10_546
    target = np.random.default_rng(0).integers(0, m - 30, n)
    relevant = [list(range(t, t + 27)) for t in target.tolist()]
    images = torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(m, -1, -1, -1)
    captions = [f"state {i % kinds}" for i in range(m)]
    queries = Told(images, np.full(n, m - 1), ["new"] * n, target, relevant, captions=captions)
    start = time.process_time()
    completed = queries.completed()
    assert time.process_time() - start < 3
    assert {len(rows) for rows in completed.relevant} == {27 if kinds == 1 else 14}


def test_shuffled_queries_keep_all_but_the_order_of_the_sentences():
    rng = np.random.default_rng(0)
    source, target = np.arange(30), np.arange(30) + 30
    texts = [f"sentence {i}" for i in rng.permutation(30)]
    queries = ComposedQueries(torch.zeros(60, 3, 2, 2, dtype=torch.uint8), source, texts, target)
    mixed = queries.shuffled(1)
    assert sorted(mixed.modification) == sorted(texts)
    assert sum(a == b for a, b in zip(mixed.modification, texts, strict=True)) < 6
    assert torch.equal(mixed.source, queries.source)
    assert mixed.relevant == queries.relevant
    assert queries.modification == texts
    assert queries.shuffled(1).modification == mixed.modification != queries.shuffled(2).modification
