"""MIT-States in its owners' layout, against loops over the folders that were written."""

import shutil
import time
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from commonspace.data import MITStates, MITStatesQueries
from commonspace.data.download import write_manifest
from commonspace.data.mit_states import TEST_NOUNS, caption_of
from commonspace.data.mit_states_queries import MITStatesDraws
from commonspace.metrics import kept_and_changed
from commonspace.recipes import compose_data

IN_TEST = ("glass", "tomato", "wool")


@pytest.fixture
def written(root, made, seed) -> dict[str, list[str]]:
    return made["mit-states"](root / "mit-states", seed)


def photos(written: dict[str, list[str]], test: bool) -> list[tuple[str, str]]:
    """(caption, file) of one side, by noun, adjective and name."""
    own = [(caption, name) for caption, names in written.items() for name in names]
    own = [(caption, name) for caption, name in own if (caption.split()[1] in IN_TEST) == test]
    return sorted(own, key=lambda photo: (photo[0].split()[1], photo[0].split()[0], photo[1]))


def content(queries: MITStatesQueries) -> list:
    return [queries.source.tolist(), queries.modification, queries.target.tolist(), queries.relevant]


def drawn(draws: MITStatesDraws, epochs: int, seed: int = 0) -> list[tuple[int, str, int]]:
    """(source, adjective, target) of every row of some epochs; right answers are checked on the way."""
    rows = []
    for epoch in range(epochs):
        queries = draws.draw(seed, epoch)
        for source, adjective, target, right in zip(*content(queries), strict=True):
            asked = f"{adjective} {draws.texts[source].split()[1]}"
            if epoch < 5:
                assert right == [i for i, caption in enumerate(draws.texts) if caption == asked and i != source]
            assert target in right
            rows.append((source, adjective, target))
    return rows


# ---- photos and test queries ----------------------------------------------------------------------------------------


def test_the_nouns_for_testing():
    assert len(set(TEST_NOUNS)) == len(TEST_NOUNS) == 49
    assert list(TEST_NOUNS) == sorted(TEST_NOUNS)
    assert {*IN_TEST, "armor", "lightning", "vacuum"} <= set(TEST_NOUNS)
    assert not {"dog", "car", "sea", "zebra"} & set(TEST_NOUNS)


@pytest.mark.parametrize(
    ("place", "caption"),
    [
        ("images/old car/a.jpg", "old car"),
        ("old car/a.JPG", "old car"),
        ("release_dataset/images/old car/a.b.jpg", "old car"),
        ("images/adj car/a.jpg", ""),
        ("images/car/a.jpg", ""),
        ("images/very old car/a.jpg", ""),
        ("images/old car/a.png", ""),
        ("__MACOSX/images/old car/._a.jpg", ""),
        ("images/old car/", ""),
        ("a.jpg", ""),
        ("", ""),
    ],
)
def test_the_caption_is_the_folders_name(place, caption):
    assert caption_of(place) == caption


def test_the_photos_of_each_side(root, written, capsys):
    data = MITStates(size=(18, 24))
    sides = {name: photos(written, name == "test") for name in ("train", "test")}
    assert capsys.readouterr().out == (
        f"MIT-States: {len(sides['train'])} train and {len(sides['test'])} test photos, 18x24, {len(data.test)} test "
        "queries, from $COMMONSPACE_DATA/mit-states\n"
    )
    assert data.train.texts == [caption for caption, _ in sides["train"]]
    assert data.test.captions == [caption for caption, _ in sides["test"]]
    for images, own in ((data.train.images, sides["train"]), (data.test.images, sides["test"])):
        pixels = [np.asarray(Image.open(root / "mit-states/images" / folder / name)) for folder, name in own]
        np.testing.assert_array_equal(images[:].permute(0, 2, 3, 1).numpy(), np.stack(pixels))
    square = np.asarray(ImageOps.fit(Image.fromarray(pixels[0]), (8, 8), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(MITStates(size=(8, 8)).test.images[0].permute(1, 2, 0).numpy(), square)


def test_test_queries_are_every_photo_with_every_other_adjective(written):
    test, own, want = MITStates(size=(4, 4)).test, photos(written, True), []
    for source, (caption, _) in enumerate(own):
        noun = caption.split()[1]
        for other in sorted({c for c, _ in own if c.split()[1] == noun and c != caption}):
            right = [i for i, (c, _) in enumerate(own) if c == other]
            want.append((source, other.split()[0], right[0], right))
    assert list(zip(*content(test), strict=True)) == want
    assert len({len(right) for *_, right in want}) > 1


def test_attributes_say_that_the_noun_stays_and_the_adjective_changes(written):
    test = MITStates(size=(4, 4)).test
    words = [caption.split() for caption in test.captions]
    for i, (adjective, noun) in enumerate(words):
        same = (test.attributes == test.attributes[i]).tolist()
        assert same == [[other[1] == noun, other[0] == adjective] for other in words]
    assert compose_data.kept_and_changed(test, test.target) == {"kept": 1.0, "changed": 1.0}
    assert compose_data.kept_and_changed(test, test.source) == {"kept": 1.0, "changed": 0.0}
    answer = torch.randint(len(words), (len(test),), generator=torch.Generator().manual_seed(0))
    shares = kept_and_changed(test.attributes, test.source, test.target, answer)
    pairs = list(zip(test.target.tolist(), answer.tolist(), strict=True))
    for name, place in (("kept", 1), ("changed", 0)):
        assert shares[name] == pytest.approx(np.mean([words[t][place] == words[a][place] for t, a in pairs]))


def test_a_cut_keeps_the_captions(written):
    test = MITStates(size=(4, 4)).test
    cut = test[[3, 1]]
    assert isinstance(cut, MITStatesQueries)
    assert cut.captions == test.captions
    assert torch.equal(cut.attributes, test.attributes)
    assert cut.modification == [test.modification[3], test.modification[1]]


def test_the_whole_caption_is_adjective_and_noun(written):
    data = MITStates(size=(4, 4))
    for queries, captions in ((data.test, data.test.captions), (data.train.draw(3, 1), data.train.texts)):
        completed = queries.completed()
        nouns = [captions[s].split()[1] for s in queries.source.tolist()]
        asked = [f"{word} {noun}" for word, noun in zip(queries.modification, nouns, strict=True)]
        assert content(completed) == [queries.source.tolist(), asked, queries.target.tolist(), queries.relevant]
        assert torch.equal(completed.attributes, queries.attributes)
    draws = data.train.completed()
    assert content(draws.draw(3, 1)) == content(completed)
    assert (len(draws), draws.texts) == (len(data.train), data.train.captions)
    assert draws.images is data.train.images


def test_a_zip_or_a_folder_of_the_users_own_serves_as_well(root, made, written, tmp_path):
    first = MITStates(size=(6, 6))
    pixels = first.test.images[:]
    shutil.move(root / "mit-states", tmp_path / "mine")
    folder = MITStates(tmp_path / "mine", size=(6, 6))
    assert content(folder.test) == content(first.test)
    made["zip"](tmp_path / "mine/images", root / "images.zip", "images/")
    (root / "mit-states").mkdir()
    (root / "images.zip").rename(root / "mit-states/images.zip")
    packed = MITStates(size=(6, 6))
    assert content(packed.test) == content(first.test)
    assert torch.equal(packed.test.images[:], pixels)
    assert content(packed.train.draw(0, 0)) == content(first.train.draw(0, 0))


# ---- draws ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", [False, True])
def test_pairs_ask_for_two_adjectives_of_one_photo(written, release):
    draws = MITStates(size=(4, 4), release=release).train
    states = Counter(caption.split()[1] for caption in set(draws.texts))
    able = [i for i, caption in enumerate(draws.texts) if states[caption.split()[1]] > 1]
    assert len(draws) == len(able) < len(draws.texts)
    both = 0
    for epoch in range(20):
        queries = draws.draw(7, epoch)
        source, asked = queries.source.tolist(), queries.modification
        assert len(queries) == len(able)
        assert len(set(source)) == (len(able) + 1) // 2
        assert set(source) <= set(able)
        for i in range(0, len(able) - 1, 2):
            assert source[i] == source[i + 1]
            forced = states[draws.texts[source[i]].split()[1]] == 2
            single = draws.texts.count(draws.texts[source[i]]) == 1
            both += asked[i] == asked[i + 1]
            assert (asked[i] == asked[i + 1]) == (forced and (single or not release))
    assert both > 0 or release


def test_a_draw_is_a_function_of_seed_and_epoch(written):
    draws = MITStates(size=(4, 4)).train
    first = content(draws.draw(1, 2))
    np.random.seed(5)  # noqa: NPY002 - the state that a draw must not depend on
    torch.manual_seed(5)
    assert content(draws.draw(1, 2)) == first
    assert content(draws.draw(1, 3)) != first
    assert content(draws.draw(2, 2)) != first


@pytest.mark.parametrize("release", [False, True])
@pytest.mark.parametrize("row", [0, 1])
def test_adjectives_and_photos_are_drawn_evenly(written, release, row):
    """Sources alike, then the adjectives one may ask for alike, then the photos of the caption alike."""
    draws = MITStates(size=(4, 4), release=release).train
    m, texts = len(draws.texts), draws.texts
    alone = {caption for caption in texts if texts.count(caption) == 1}
    want = {}
    for source in range(m):
        noun = texts[source].split()[1]
        captions = {c for c in texts if c.split()[1] == noun}
        allowed = captions if release and texts[source] not in alone else captions - {texts[source]}
        for caption in allowed if len(captions) > 1 else []:
            right = [i for i in range(m) if texts[i] == caption and i != source]
            want |= {(source, caption.split()[0], i): 1 / len(draws) / len(allowed) / len(right) for i in right}
    assert sum(want.values()) == pytest.approx(1)
    epochs = 1500
    half = (len(draws) + 1 - row) // 2
    counts = Counter(drawn_row for i, drawn_row in enumerate(drawn(draws, epochs, row)) if i % len(draws) % 2 == row)
    assert counts.keys() <= want.keys()
    total = epochs * half
    assert counts.total() == total
    error = [(counts[key] / total - share) / (share / total) ** 0.5 for key, share in want.items()]
    assert max(map(abs, error)) < 4.5
    own = sum(n for (source, adjective, _), n in counts.items() if texts[source].startswith(adjective + " "))
    assert (own > 0) == release


def test_the_photos_of_a_pair_are_drawn_apart():
    captions = [f"{adjective} sea" for adjective in "abc" for _ in range(2)]
    places = Counter()
    for epoch in range(1000):
        target = MITStatesDraws(range(6), captions).draw(0, epoch).target % 2
        places.update(zip(target[::2].tolist(), target[1::2].tolist(), strict=True))
    assert all(n == pytest.approx(750, abs=100) for n in places.values())
    assert len(places) == 4


def test_sources_of_two_epochs_differ(written):
    draws = MITStates(size=(4, 4)).train
    sources = [set(draws.draw(0, epoch).source.tolist()) for epoch in range(30)]
    assert sources[0] != sources[1]
    assert len(set().union(*sources)) == len(draws)


def test_the_papers_size_takes_no_time():
    """10,546 photos of 49 nouns with nine adjectives, 84,368 queries; and an epoch of 43,207 photos."""
    captions = [sorted(f"n{i % nouns:03} a{i * 7 % 9}" for i in range(m)) for nouns, m in ((49, 10_546), (196, 43_207))]
    test, train = ([" ".join(reversed(caption.split())) for caption in own] for own in captions)
    start = time.perf_counter()
    queries = MITStatesDraws(range(len(test)), test).queries()
    draws = MITStatesDraws(range(len(train)), train)
    assert len(draws.draw(0, 0)) == 43_207
    assert time.perf_counter() - start < 5
    assert len(queries) == 84_368
    assert sum(map(len, queries.relevant)) > 2_000_000
    assert len({id(right) for right in queries.relevant}) == 49 * 9  # one list a caption, and not one a query


# ---- what will not do -----------------------------------------------------------------------------------------------


def test_what_is_missing_names_the_command(root):
    with pytest.raises(FileNotFoundError, match=r"python data_scripts/get_mit_states\.py"):
        MITStates()


@pytest.mark.parametrize(("side", "test"), [("train", False), ("test", True)])
def test_a_side_without_photos_is_named(root, written, side, test):
    for caption in written:
        if (caption.split()[1] in IN_TEST) == test:
            shutil.rmtree(root / "mit-states/images" / caption)
    with pytest.raises(ValueError, match=rf"(?s)no photo of a {side} noun is here.*get_mit_states\.py"):
        MITStates()


def test_nouns_in_one_state_alone_are_refused():
    with pytest.raises(ValueError, match="none of 2 nouns is there with two adjectives"):
        MITStatesDraws(range(3), ["old car", "old car", "big sea"])


@pytest.mark.parametrize("captions", [["old car", "big car"], ["big sea", "old car"], ["car"], ["very old car"]])
def test_captions_in_another_order_are_refused(captions):
    with pytest.raises(ValueError, match='captions must be "adjective noun", sorted by noun'):
        MITStatesDraws(range(len(captions)), captions)


def test_a_damaged_zip_a_damaged_photo_and_a_bad_size_are_named(root, made, written):
    with pytest.raises(ValueError, match="size is"):
        MITStates(size=(0, 3))
    folder = root / "mit-states"
    made["zip"](folder / "images", folder / "images.zip", "images/")
    write_manifest(folder)
    MITStates()
    content = (folder / "images.zip").read_bytes()
    (folder / "images.zip").write_bytes(content[:-50])
    with pytest.raises(ValueError, match=r"images\.zip is altered"):
        MITStates()
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"images\.zip is damaged or cut short"):
        MITStates()
    (folder / "images.zip").unlink()
    caption, name = photos(written, True)[0]
    (folder / "images" / caption / name).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=rf"{caption}/{name} is missing or damaged"):
        MITStates().test.images[0]
