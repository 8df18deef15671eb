"""Composed queries on FashionProducts, against loops over the shop's table."""

import hashlib
import re
from collections import Counter, defaultdict

import pytest
import torch
from torch.nn.functional import one_hot

from commonspace.data import FashionProducts, FashionQueries, near_colour
from commonspace.data.fashion_queries import FRAMES, NEAR_COLOURS, WORDS, fashion_queries
from commonspace.data.pictures import Pictures
from commonspace.metrics import evaluate

KEPT = ("gender", "kind", "usage")


@pytest.fixture
def data(root, made, seed) -> FashionProducts:
    made["fashion-products"](root / "fashion-products", seed, n=240)
    return FashionProducts(size=(8, 6))


@pytest.fixture
def table(data, root) -> dict[int, list[str]]:
    """The rows of styles.csv by id, cut at the commas; the title is the last, with what stands before it."""
    lines = (root / "fashion-products/styles.csv").read_text().splitlines()[1:]
    return {int(line.split(",")[0]): line.replace('"', "").split(",", 9) for line in lines}


def what(row: list[str]) -> tuple[str, str, str]:
    return row[1], row[4], row[8]


def known(row: list[str]) -> bool:
    return all([*what(row), row[5]])


def content(queries: FashionQueries) -> list:
    return [queries.source.tolist(), queries.modification, queries.target.tolist(), queries.relevant, queries.asked]


# ---- right answers, by loops ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_source", [1, 3])
def test_right_is_what_the_table_says_and_nothing_else(data, table, per_source):
    asked_of_all = Counter()
    for part, side in zip(data.queries(per_source=per_source), data.split(), strict=True):
        ids = part.ids.tolist()
        assert ids == side.ids.tolist()
        assert torch.equal(part.images, side.images)
        for i in range(len(part)):
            source = table[ids[part.source[i]]]
            right = [
                place
                for place, one in enumerate(ids)
                if what(table[one]) == what(source) and table[one][5] == part.asked[i] and known(table[one])
            ]
            assert sorted(part.relevant[i]) == right
            assert int(part.target[i]) in right
            assert part.asked[i] not in ("", source[5])
            assert int(part.source[i]) not in right
        asked_of_all.update(len(part.relevant[i]) for i in range(len(part)))
    assert max(asked_of_all) > 1  # several answers, so that the test can fail
    assert len(asked_of_all) > 2


@pytest.mark.parametrize("per_source", [1, 2, 50])
def test_every_source_that_can_ask_asks_as_often_as_it_can(data, table, per_source):
    for part in data.queries(per_source=per_source):
        ids = part.ids.tolist()
        colours = defaultdict(set)
        for one in ids:
            if known(table[one]):
                colours[what(table[one])].add(table[one][5])
        expected = {
            place: min(per_source, len(colours[what(table[one])]) - 1)
            for place, one in enumerate(ids)
            if known(table[one])
        }
        assert Counter(part.source.tolist()) == Counter({place: n for place, n in expected.items() if n})
        pairs = list(zip(part.source.tolist(), part.asked, strict=True))
        assert len(pairs) == len(set(pairs))


def test_attributes_of_the_pictures_are_the_tables(data, table):
    for part in data.queries():
        rows = [table[one] for one in part.ids.tolist()]
        assert [part.gender, part.kind, part.usage, part.base_colour] == [
            [row[k] for row in rows] for k in (1, 4, 8, 5)
        ]
        differ = part.attributes[part.source] != part.attributes[part.target]
        assert differ.tolist() == [[False, False, False, True]] * len(part)


def test_no_title_is_on_two_sides(data, table):
    parts = data.queries()
    titles = []
    for part in parts:
        own = [table[one][9].lower() for one in part.ids.tolist()]
        titles.append({" ".join("".join(c if c.isalnum() else " " for c in title).split()) for title in own})
    assert sum(len(part.ids) for part in parts) == len(data)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not titles[a] & titles[b]
    for digits, part in zip((set(range(2, 10)), {1}, {0}), titles, strict=True):
        assert {int(hashlib.sha256(title.encode()).hexdigest(), 16) % 10 for title in part} <= digits


# ---- sentences and draws --------------------------------------------------------------------------------------------


def test_sentences_name_the_colour_asked_for(data):
    used = Counter()
    words = {"many colours": "Multi"} | {c.lower(): c for c in ("Red", "Blue", "Navy Blue", "Off White")}
    for part in data.queries(per_source=4):
        for text, asked in zip(part.modification, part.asked, strict=True):
            named = [words[w] for w in words if re.search(rf"(?<!navy )\b{w}\b", text)]
            assert named == [asked]
            spoken = next(w for w in words if words[w] == asked)
            used[text.replace(spoken, "{}")] += 1
    assert set(used) == set(FRAMES)
    assert min(used.values()) > 0.5 * sum(used.values()) / len(FRAMES)


def test_the_same_seed_draws_the_same_and_another_seed_other_queries(data):
    for part, again, other in zip(data.queries(3), data.queries(3), data.queries(4), strict=True):
        assert content(part) == content(again)
        assert content(part) != content(other)
        assert sorted(part.source.tolist()) == sorted(other.source.tolist())


def test_a_draw_depends_on_the_article_and_its_colours_alone(data):
    """Articles of other kinds come and go: what is asked of these stays."""
    side = data.split()[0]
    kept = [i for i, label in enumerate(side.label.tolist()) if label == 0]
    some, whole = fashion_queries(side[kept]), fashion_queries(side)
    asked = {int(whole.ids[s]): a for s, a in zip(whole.source.tolist(), whole.modification, strict=True)}
    assert len(some) > 5
    assert all(asked[int(some.ids[s])] == a for s, a in zip(some.source.tolist(), some.modification, strict=True))


def test_colours_and_targets_are_drawn_evenly(data):
    counts, places = Counter(), Counter()
    part = data.split()[0]
    for seed in range(40):
        made = fashion_queries(part, seed)
        counts.update(made.asked)
        places.update(
            right.index(t) / len(right) < 0.5
            for right, t in zip(made.relevant, made.target.tolist(), strict=True)
            if len(right) % 2 == 0
        )
    assert set(counts) == {"Red", "Blue", "Navy Blue", "Off White", "Multi"}
    assert max(counts.values()) / min(counts.values()) < 1.5
    assert places[True] / places.total() == pytest.approx(0.5, abs=0.05)


def test_a_cut_keeps_the_pictures_and_their_attributes(data):
    part = data.queries()[0]
    cut = part[[2, 0]]
    assert isinstance(cut, FashionQueries)
    assert cut.asked == [part.asked[2], part.asked[0]]
    assert cut.base_colour == part.base_colour
    assert torch.equal(cut.attributes, part.attributes)


# ---- colours that are nearly the same -------------------------------------------------------------------------------


def test_near_colours_are_pairs_of_one_group():
    assert near_colour("Blue", "Navy Blue")
    assert near_colour("Navy Blue", "Teal")
    assert not near_colour("Blue", "Blue")
    assert not near_colour("Red", "Blue")
    colours = sorted({colour for group in NEAR_COLOURS for colour in group})
    for a in colours:
        near = {b for b in colours if near_colour(a, b)}
        assert near == {b for group in NEAR_COLOURS if a in group for b in group} - {a}
        assert all(near_colour(b, a) for b in near)
        assert near
    assert not any(near_colour("Multi", colour) for colour in colours)


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_source", [0, -1, 1.0, True, None, "2"])
def test_a_number_of_queries_below_one_is_refused(data, per_source):
    with pytest.raises(ValueError, match="per_source is how many colours are asked of a source, 1 or more; got"):
        data.queries(per_source=per_source)


def test_articles_without_another_colour_are_refused(data):
    side = data.split()[0]
    for rows in ([0], [i for i, colour in enumerate(side.base_colour) if colour in ("Red", "")]):
        with pytest.raises(
            ValueError, match=f"no article of these {len(rows)} has another of its gender, kind and usage"
        ):
            fashion_queries(side[rows])


# ---- the shop's own articles ----------------------------------------------------------------------------------------


@pytest.fixture
def shop(real, monkeypatch) -> FashionProducts:
    """The real table; of the photos, whose decoding takes ten seconds, only the number."""
    real("fashion-products", "styles.csv")
    blank = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    monkeypatch.setattr(Pictures, "kept", lambda pictures, name: blank.expand(len(pictures), -1, -1, -1))
    data = FashionProducts()
    if len(data) != 24_136:
        pytest.skip(f"another collection of {len(data):,} photos: the numbers are those of 24,136")
    return data


@pytest.mark.realdata
def test_the_queries_of_the_real_articles(shop):
    parts = shop.queries()
    assert [len(part) for part in parts] == [17_609, 2_251, 2_370]
    assert [len(part.images) for part in parts] == [19_007, 2_511, 2_618]
    test = parts[2]
    right = torch.tensor([len(ids) for ids in test.relevant], dtype=torch.float)
    assert (right.mean().item(), right.median().item()) == (pytest.approx(5.14, abs=0.01), 2)
    colours = {colour for part in parts for colour in part.base_colour} - {""}
    assert set(WORDS) < colours
    assert {colour for group in NEAR_COLOURS for colour in group} <= colours
    assert colours - {colour for group in NEAR_COLOURS for colour in group} == {"Multi"}


@pytest.mark.realdata
def test_knowing_the_colour_alone_finds_some(shop):
    """An oracle that knows each picture's label of the colour and draws among them; measured R@10 0.43, R@1 0.08."""
    test = shop.queries()[2]
    colours = sorted(set(test.base_colour))
    generator = torch.Generator().manual_seed(0)

    def embedded(names: list[str]) -> torch.Tensor:
        places = torch.tensor([colours.index(name) for name in names])
        drawn = torch.randn(len(names), 16, generator=generator)
        return torch.cat([100 * one_hot(places, len(colours)), drawn], dim=1)

    scores = evaluate(
        embedded(test.asked),
        embedded(test.base_colour),
        relevant=test.relevant,
        exclude=test.source,
        similarity="dot",
    )
    assert 0.38 < scores["R@10"] < 0.48
    assert 0.06 < scores["R@1"] < 0.11


# ---- the whole caption as the text ----------------------------------------------------------------------------------


def test_a_caption_says_all_that_makes_an_answer_right(data, table):
    without = 0
    for part in data.queries():
        rows = [table[one] for one in part.ids.tolist()]
        for caption, row in zip(part.captions, rows, strict=True):
            colour = "many colours" if row[5] == "Multi" else row[5].lower()
            said = f"{row[1].lower()} {colour} {row[4].lower()}, {row[8].lower()}"
            assert caption == (said if known(row) else "")
        completed = part.completed()
        assert isinstance(completed, FashionQueries)
        for i, target in enumerate(part.target.tolist()):
            alike = [j for j, row in enumerate(rows) if (*what(row), row[5]) == (*what(rows[target]), rows[target][5])]
            assert completed.modification[i] == part.captions[target]
            assert sorted(completed.relevant[i]) == sorted(part.relevant[i]) == alike
        without += part.captions.count("")
    assert without > 0


def test_articles_without_labels_have_no_captions():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    labels = {name: ["x", "y"] for name in (*KEPT, "base_colour")}
    assert FashionQueries(images, [0], ["in red"], [1], **labels).completed().modification == ["y y y, y"]
    for name in labels:
        with pytest.raises(ValueError, match="FashionQueries has no captions"):
            FashionQueries(images, [0], ["in red"], [1], **labels | {name: None}).completed()
