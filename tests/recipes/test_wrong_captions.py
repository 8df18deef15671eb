"""Sentences that are not of a picture: never its own, drawn by seed, epoch and row alone; one word of a scene away."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from commonspace.data import PairedSamples, Scenes
from commonspace.data.scene_grammar import COLOURS, PLACES, SHAPES, SIZES
from commonspace.recipes.caption_data import Captioned
from commonspace.recipes.wrong_captions import WrongCaptions, one_word_away

CAPTIONS = [["a cube", f"picture {i}"] if i % 3 else ["a cube", f"picture {i}", f"it is {i}"] for i in range(24)]
GROUPED = replace(
    Captioned.of(PairedSamples(torch.zeros(24, 3, 1, 1, dtype=torch.uint8), CAPTIONS)), group=torch.arange(24) // 3
)
ROWS = torch.arange(len(GROUPED.captions))


def wrong(rows: torch.Tensor = ROWS, epoch: int = 0, seed: int = 0, captioned: Captioned = GROUPED, how="other"):
    captions = [captioned.captions[i] for i in rows.tolist()]
    return WrongCaptions(captioned, how, seed)(captioned.image_of[rows], captions, rows, epoch)


@pytest.fixture(scope="module", params=[1, 3])
def scenes(request):
    return Captioned.of(Scenes(120, 32, objects=(request.param, request.param)).captioned()[0])


# ---- of another picture ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_of_another_group_and_none_of_the_own_captions(seed):
    seen = Counter()
    for epoch in range(40):
        for picture, sentence in zip(GROUPED.image_of.tolist(), wrong(epoch=epoch, seed=seed), strict=True):
            assert sentence in GROUPED.captions
            assert sentence not in CAPTIONS[picture]  # so never "a cube", which is of all
            assert int(sentence.split()[-1]) // 3 != picture // 3
            seen[sentence] += 1
    assert seen.keys() == {caption for caption in GROUPED.captions if caption != "a cube"}
    assert max(seen.values()) < 2 * min(seen.values())


def test_captions_of_scenes_that_others_have_too_are_not_wrong(scenes):
    rows = torch.arange(len(scenes.captions))
    own = scenes.by_image()
    for picture, sentence in zip(scenes.image_of.tolist(), wrong(rows, captioned=scenes), strict=True):
        assert sentence not in own[picture]
    assert len({*scenes.captions}) < len(scenes.captions)


def test_it_is_drawn_by_seed_epoch_and_row_alone():
    whole = wrong()
    assert wrong() == whole
    assert wrong(epoch=1) != whole
    assert wrong(seed=1) != whole
    order = torch.randperm(len(ROWS), generator=torch.Generator().manual_seed(0))
    assert wrong(order) == [whole[i] for i in order.tolist()]
    halves = [wrong(part) for part in ROWS.tensor_split(2)]  # as two processes see them
    assert halves[0] + halves[1] == whole
    assert len({*whole}) > len(whole) // 3


def test_pairs_of_one_row_have_each_their_own():
    """Captions of a picture that share a batch: twelve rows of two."""
    captioned = Captioned.of(
        PairedSamples(torch.zeros(24, 3, 1, 1, dtype=torch.uint8), [[f"a {i}", f"b {i}"] for i in range(24)])
    )
    call = WrongCaptions(captioned)
    ids = torch.arange(12)
    pictures = ids.repeat_interleave(2)
    captions = [f"{letter} {i}" for i in range(12) for letter in "ab"]
    found = call(pictures, captions, ids, 0)
    assert len(found) == 24
    assert found == [
        s for i in range(12) for s in call(pictures[2 * i : 2 * i + 2], captions[2 * i : 2 * i + 2], ids[i : i + 1], 0)
    ]
    assert sum(one != other for one, other in zip(found[::2], found[1::2], strict=True)) > 6


@pytest.mark.parametrize(
    "captioned",
    [
        replace(GROUPED, group=torch.zeros(24).long()),
        Captioned.of(PairedSamples(torch.zeros(24, 3, 1, 1, dtype=torch.uint8), ["a cube"] * 24)),
        GROUPED.first(1),
    ],
)
def test_where_no_caption_is_wrong_it_says_so(captioned):
    with pytest.raises(ValueError, match="no caption is wrong for picture 0: nearly all pictures have the same"):
        wrong(torch.arange(2), captioned=captioned)


def test_another_way_is_refused():
    with pytest.raises(ValueError, match=r"how must be one of \('other', 'word'\), got 'both'"):
        WrongCaptions(GROUPED, "both")


# ---- one word of a scene ---------------------------------------------------------------------------------------------

KINDS = [set(SIZES), set(COLOURS), set(SHAPES), {shape + "s" for shape in SHAPES}, set(PLACES)]


def changed(before: str, after: str) -> tuple[str, str]:
    """The one word that differs; all else, commas too, is as it was."""
    one, other = (re.split(r"([ ,]+)", sentence) for sentence in (before, after))
    assert len(one) == len(other)
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
    assert len(pairs) == 1, (before, after)
    return pairs[0]


def test_exactly_one_word_is_changed_to_another_of_its_kind(scenes):
    rows = torch.arange(len(scenes.captions))
    own, kinds = scenes.by_image(), Counter()
    for epoch in (0, 1):
        found = wrong(rows, epoch, captioned=scenes, how="word")
        for picture, before, after in zip(scenes.image_of.tolist(), scenes.captions, found, strict=True):
            word, other = changed(before, after)
            (kind,) = [i for i, words in enumerate(KINDS) if word in words]
            assert other in KINDS[kind]
            assert after not in own[picture]
            kinds[kind] += 1
    of_many = any("cubes" in caption for caption in scenes.captions)
    assert set(kinds) == ({0, 1, 2, 3, 4} if of_many else {0, 1, 2, 4})


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("two cubes", {"two spheres", "two cylinders"}),
        ("a red object", {f"a {colour} object" for colour in COLOURS if colour != "red"}),
        ("x at top-left, y", {f"x at {place}, y" for place in PLACES if place != "top-left"}),
        (
            "a cube and two spheres",
            {f"a {shape} and two spheres" for shape in SHAPES if shape != "cube"}
            | {f"a cube and two {shape}s" for shape in SHAPES if shape != "sphere"},
        ),
        ("small", {"big"}),
    ],
)
def test_every_word_and_every_other_of_its_kind_comes(caption, expected):
    assert {one_word_away(caption, np.random.default_rng(seed)) for seed in range(200)} == expected


def test_every_place_of_a_sentence_comes_alike():
    caption = "a big red cube at top-left, a small red cube at top-center and a big red cube at bottom-right"
    times = Counter()
    for seed in range(1200):
        after = one_word_away(caption, np.random.default_rng(seed))
        one, other = caption.replace(",", "").split(), after.replace(",", "").split()
        times.update(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    assert len(times) == 12
    assert 60 < min(times.values()) <= max(times.values()) < 145  # 100 are expected of each


@pytest.mark.parametrize("caption", ["a dog on a mat", "", "bigger", "the left", "three objects"])
def test_a_caption_without_a_word_of_a_scene_is_refused(caption):
    with pytest.raises(ValueError, match="has no size, colour, shape or place of a scene: take wrong='other'"):
        one_word_away(caption, np.random.default_rng(0))


def test_by_word_it_is_drawn_by_row_too(scenes):
    rows = torch.arange(60)
    whole = wrong(rows, captioned=scenes, how="word")
    assert wrong(rows.flip(0), captioned=scenes, how="word") == whole[::-1]
    assert wrong(rows, 1, captioned=scenes, how="word") != whole
