"""The recipe gxn, small: it learns to find and to write, repeats, resumes, reports; what a batch holds; settings."""

import copy
import json
import math
import re
from collections import Counter
from dataclasses import replace
from itertools import groupby, permutations

import numpy as np
import pytest
import torch

from commonspace.data import PairedSamples
from commonspace.data.vocabulary import tokenise
from commonspace.encoders import Sequence, Standardize
from commonspace.metrics import CaptionReward
from commonspace.models import GXN, LOOK_CONFIGURATIONS, GXNLook
from commonspace.recipes import caption_data, compose_data, gxn, gxn_stages
from commonspace.recipes.caption_data import Captioned
from commonspace.recipes.caption_measures import likelihood, search, spoken, writing
from commonspace.recipes.report import find_report
from commonspace.recipes.shell import main, parse
from commonspace.training import batches

COLOURS = {"red": (220, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 220), "black": (0, 0, 0), "white": (255, 255, 255)}
PAIRS = list(permutations(COLOURS, 2))  # left and right


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path))
    return tmp_path


def blocks(seed: int, copies: int = 1) -> PairedSamples:
    """A block of one colour on the left and one of another on the right, 20 pairs, noisy; two captions each."""
    rng = np.random.default_rng(seed)
    images = np.full((20 * copies, 3, 16, 16), 120)
    for image, colours in zip(images, PAIRS * copies, strict=True):
        for side, colour in enumerate(colours):
            y, x = rng.integers(0, 4), 8 * side + rng.integers(0, 3)
            image[:, y : y + 12, x : x + 6] = np.array(COLOURS[colour])[:, None, None]
    images = (images * 0.9 + rng.integers(0, 25, images.shape)).astype(np.uint8)
    texts = [[f"{left.title()} beside {right}.", f"The right is {right}, {left} left!"] for left, right in PAIRS]
    return PairedSamples(images, texts * copies)


@pytest.fixture(scope="module")
def train():
    return Captioned.of(blocks(0, copies=3), same_text=True)


@pytest.fixture(scope="module")
def test():
    return Captioned.of(blocks(1))


def quick(profile: str = "lesson", **overrides) -> gxn.Config:
    small = {
        "epochs": 2, "dim": 16, "width": 8, "word_dim": 8, "hidden_dim": 24, "batch_size": 20, "lr": 5e-3, "beam": 1,
    }  # fmt: skip
    return gxn.Config.profile(profile, **small | {"image": "small", "min_count": 1, "device": "cpu"} | overrides)


def same_weights(one: GXN, other: GXN) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


# ---- it learns -------------------------------------------------------------------------------------------------------

ENOUGH = {
    "epochs": 36, "batch_size": 40, "lr": 2e-2, "dim": 32, "word_dim": 16, "hidden_dim": 48, "unit_features": False,
    "cells": 2,
}  # fmt: skip


def test_it_learns_to_find_and_to_write(train, test):
    """By chance the sum of R@1, 5, 10 both ways is about 1.5."""
    model = gxn.fit(train, quick(paths="look+write", **ENOUGH))
    found = gxn.evaluate(model, test, beam=3)
    assert found == search(model, test) | writing(model, test, 3)
    assert found["rsum"] > 5
    assert min(found["i2t/R@1"], found["t2i/R@1"]) > 0.8
    assert found["log p"] > found["other picture/log p"] + 0.7
    assert found["CIDEr-D"] > 2 * found["other picture/CIDEr-D"]
    right = 0
    for sentence, (left, other) in zip(model.write(test.images, 3), PAIRS, strict=True):
        said = [word for word in sentence.split() if word in COLOURS]
        right += said == ([left, other] if "beside" in sentence else [other, left])
    assert right > 12  # by chance 1


def test_from_the_captions_of_other_pictures_it_learns_only_how_to_speak(train, test):
    found = gxn.evaluate(gxn.fit(train, quick(paths="look+write", shuffle=True, **ENOUGH)), test)
    assert found["rsum"] < 2
    assert max(found["i2t/R@1"], found["t2i/R@1"]) < 0.2
    assert found["log p"] < found["other picture/log p"] + 0.2
    assert found["log p"] > math.log(1 / 6)  # far above a guess among all 12 tokens


@pytest.mark.parametrize("paths", ["look", "write"])
def test_one_path_alone_learns_its_own(train, test, paths):
    model = gxn.fit(train, quick(paths=paths, **ENOUGH))
    found = gxn.evaluate(model, test)
    if paths == "look":
        assert model.decoder is None
        assert found == search(model, test)
        assert found["rsum"] > 5
    else:
        assert found == writing(model, test)
        assert found["log p"] > found["other picture/log p"] + 0.7
        start = gxn.build(train.captions, None, quick(paths=paths, **ENOUGH))
        assert torch.equal(start.look.text_encoders[0].embedding.weight, model.look.text_encoders[0].embedding.weight)
        assert search(model, test)["rsum"] < 3  # the readers never learned


# ---- what an epoch has -----------------------------------------------------------------------------------------------

IMAGE_OF = torch.arange(7).repeat_interleave(torch.tensor([5, 1, 2, 5, 3, 1, 6]))


def test_every_caption_comes_once():
    rows = gxn_stages.epoch_rows(IMAGE_OF, quick(), 3)
    assert rows.tolist() == [[i] for i in range(23)]


@pytest.mark.parametrize("share", [2, 4, 5])
def test_captions_of_one_image_come_together(share):
    config = quick(share=share, seed=2)
    for epoch in (0, 1):
        rows = gxn_stages.epoch_rows(IMAGE_OF, config, epoch)
        assert torch.equal(rows, compose_data.groups(IMAGE_OF, share, 2, epoch))
        assert rows.shape == (23 // share, share)
        assert len({*rows.flatten().tolist()}) == rows.numel()
        alone = sum(len(IMAGE_OF[row].unique()) == 1 for row in rows)
        assert alone >= sum(count // share for count in IMAGE_OF.bincount().tolist())


def test_every_image_comes_once_with_one_of_its_captions():
    config, times = quick(sampling="image", seed=5), Counter()
    for epoch in range(1000):
        rows = gxn_stages.epoch_rows(IMAGE_OF, config, epoch)
        assert rows.shape == (7, 1)
        assert IMAGE_OF[rows[:, 0]].tolist() == list(range(7))
        times.update(rows[:, 0].tolist())
    for caption in range(23):
        share = 1 / int((IMAGE_OF == IMAGE_OF[caption]).sum())
        assert times[caption] == pytest.approx(1000 * share, abs=4 * math.sqrt(1000 * share * (1 - share)))
    one = gxn_stages.epoch_rows(IMAGE_OF, config, 3)
    assert torch.equal(one, gxn_stages.epoch_rows(IMAGE_OF, config, 3))
    assert not torch.equal(one, gxn_stages.epoch_rows(IMAGE_OF, config, 4))
    assert not torch.equal(one, gxn_stages.epoch_rows(IMAGE_OF, replace(config, seed=6), 3))


@pytest.mark.parametrize(
    "settings", [{}, {"share": 2}, {"sampling": "image"}, {"mask_same_image": False}, {"paths": "look+write"}], ids=str
)
def test_a_step_shows_pictures_with_captions_of_their_own(train, settings, monkeypatch):
    seen, losses = [], GXN.losses

    def note(self, images, texts, image_id, *rest):
        seen.append((images, texts, image_id))
        return losses(self, images, texts, image_id, *rest)

    monkeypatch.setattr(GXN, "losses", note)
    gxn.fit(train, quick(epochs=1, **settings))
    per_epoch = 60 if settings.get("sampling") == "image" else 120
    assert len(seen) == per_epoch // 20
    group = {image.numpy().tobytes(): int(g) for image, g in zip(train.images, train.group, strict=True)}
    own = {image.numpy().tobytes(): texts for image, texts in zip(train.images, train.by_image(), strict=True)}
    told = Counter()
    for images, texts, image_id in seen:
        assert len(images) == len(texts) == 20
        keys = [image.numpy().tobytes() for image in images]
        assert all(text in own[key] for key, text in zip(keys, texts, strict=True))
        if "mask_same_image" in settings:
            assert image_id is None
        else:
            assert image_id.tolist() == [group[key] for key in keys]
        told.update(zip(keys, texts, strict=True))
        if "share" in settings:
            assert all(one == other for one, other in zip(keys[::2], keys[1::2], strict=True))
    assert set(told.values()) == {1}
    assert len(told) == per_epoch


def test_where_an_image_comes_twice_its_captions_are_no_negatives(train, monkeypatch):
    """The first step of a run, whose weights are still the same: unmasked, the loss is that without ids."""
    seen, losses = {}, GXN.losses

    def note(self, images, texts, image_id, *rest):
        found = losses(self, images, texts, image_id, *rest)
        seen.setdefault("masked" if image_id is not None else "not", []).append(
            (found["loss"].item(), losses(self, images, texts, None, *rest)["loss"].item())
        )
        return found

    monkeypatch.setattr(GXN, "losses", note)
    for mask in (True, False):
        gxn.fit(train, quick(epochs=1, share=2, mask_same_image=mask, margin=0.3))
    (masked, whole), (same, again) = seen["masked"][0], seen["not"][0]
    assert same == again == whole
    assert masked < whole - 0.1


def test_all_negatives_first_and_then_the_hardest(train, monkeypatch):
    seen, losses = [], GXN.losses

    def note(self, *arguments):
        seen.append(arguments[4])
        return losses(self, *arguments)

    monkeypatch.setattr(GXN, "losses", note)
    model = gxn.fit(train, quick(epochs=3, mining="hardest", sum_epochs=2))
    assert seen == ["all"] * 12 + [None] * 6
    assert model.look.settings["mining"] == "hardest"


# ---- the control -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_shuffled_pictures_have_the_captions_of_others(seed):
    texts = [[f"picture {i} says {k}" for k in range(1 + i % 3)] for i in range(40)]
    captioned = Captioned.of(PairedSamples(torch.zeros(40, 3, 1, 1, dtype=torch.uint8), texts))
    captioned = replace(captioned, images=torch.arange(40), group=torch.arange(40) // 2)
    mixed = gxn.shuffled(captioned, seed)
    assert torch.equal(mixed.images, captioned.images)
    assert sorted(mixed.captions) == sorted(captioned.captions)
    other = [int(own[0].split()[1]) for own in mixed.by_image()]
    assert mixed.by_image() == [texts[i] for i in other]
    assert mixed.captions == [caption for own in mixed.by_image() for caption in own]
    assert sorted(other) == list(range(40))
    assert all(i != j for i, j in enumerate(other))
    assert mixed.group.tolist() == [j // 2 for j in other]
    assert gxn.shuffled(captioned, seed).captions == mixed.captions != gxn.shuffled(captioned, seed + 7).captions


@pytest.mark.parametrize("seed", [0, 1])
def test_a_shuffled_picture_s_own_captions_are_in_its_batch_by_chance_alone(seed):
    captioned = Captioned.of(PairedSamples(torch.zeros(400, 3, 1, 1, dtype=torch.uint8), [str(i) for i in range(400)]))
    mixed = gxn.shuffled(captioned, seed)
    for epoch in (0, 1):
        hits = 0
        for rows in batches(400, 40, seed, epoch):
            there = {mixed.captions[i] for i in rows.tolist()}
            hits += sum(str(i) in there for i in rows.tolist())
        assert hits < 90  # 39 are expected


# ---- stages ----------------------------------------------------------------------------------------------------------

STAGED = {"paths": "write", "reward_epochs": 2, "ramp": 0.5, "samples": 2}


@pytest.fixture(scope="module")
def half_taught(train, test):
    """After half of what it needs, and after a last stage: how good greedy sentences are."""
    found, enough = {}, ENOUGH | {"epochs": 12, "hidden_dim": 24}
    config = quick(paths="write", reward_epochs=10, reward_lr=0.2, ramp=0.1, baseline="others", **enough)
    rows = []
    gxn.fit(train, config, after=lambda stage, model: rows.append((stage, writing(model, test, 1))))
    found = dict(rows)
    assert list(found) == ["all", "reward"]
    return found


def test_reinforcement_makes_what_is_written_better_by_its_own_measure(half_taught):
    before, after = half_taught["all"], half_taught["reward"]
    assert after["CIDEr-D"] > before["CIDEr-D"] + 0.3
    assert after["other picture/CIDEr-D"] < 0.7 * after["CIDEr-D"]


def test_the_stages_a_configuration_has(train):
    def names(**settings):
        config = quick(**settings)
        model = gxn.build(train.captions, None, config)
        made = gxn_stages.stages(model, gxn_stages.Batches(train, config), config, None)
        return [(stage.name, stage.epochs) for stage in made]

    assert names() == [("all", 2)]
    assert names(**STAGED) == [("all", 2), ("reward", 2)]
    assert names(paths="look+write", look_epochs=3, reward_epochs=1, epochs=4) == [
        ("look", 3),
        ("all", 4),
        ("reward", 1),
    ]
    assert names(paths="look+write", look_epochs=1) == [("look", 1), ("all", 2)]


def test_a_later_stage_changes_nothing_of_the_one_before(train, test, tmp_path):
    """The stage "all" is the run without the last one, bit for bit; and so where the log is of a run of one stage."""
    one = gxn.fit(train, quick(paths="write"), test, output=tmp_path / "one")
    seen = {}

    def note(stage, model):
        seen[stage] = {name: value.clone() for name, value in model.state_dict().items()}

    gxn.fit(train, quick(**STAGED), test, note, tmp_path / "two")
    assert all(torch.equal(value, seen["all"][name]) for name, value in one.state_dict().items())
    assert not torch.equal(seen["reward"]["decoder.output.weight"], seen["all"]["decoder.output.weight"])
    assert {file.name for file in (tmp_path / "one").iterdir()} == {"log.csv", "state.pt"}
    assert {file.name for file in (tmp_path / "two").iterdir()} == {"all", "reward"}
    assert (tmp_path / "one/log.csv").read_text() == (tmp_path / "two/all/log.csv").read_text()
    columns = (tmp_path / "two/reward/log.csv").read_text().splitlines()[0].split(",")
    assert {"loss", "cross_entropy", "reinforce", "reward", "baseline", "validation"} < {*columns}


def test_first_the_embedding_alone(train):
    seen = {}

    def note(stage, model):
        seen[stage] = {name: value.clone() for name, value in model.state_dict().items()}

    config = quick(paths="look+write", look_epochs=1)
    gxn.fit(train, config, after=note)
    start = gxn.build(train.captions, None, config).state_dict()
    for name, value in start.items():
        assert torch.equal(value, seen["look"][name]) == name.startswith("decoder."), name
        assert name.endswith("num_batches_tracked") or not torch.equal(seen["all"][name], seen["look"][name]), name


def test_epochs_are_counted_through_all_stages(train, monkeypatch):
    """So a caption is drawn anew in each, and "hardest" begins when it is asked to."""
    seen, losses, look_losses = [], GXN.losses, GXNLook.losses

    def note(kind, inner):
        def of(self, images, texts, image_id, gather, mining):
            seen.append((kind, mining))
            return inner(self, images, texts, image_id, gather, mining)

        return of

    rows = []
    monkeypatch.setattr(GXN, "losses", note("all", losses))
    monkeypatch.setattr(GXNLook, "losses", note("look", look_losses))
    epoch_rows = gxn_stages.epoch_rows
    monkeypatch.setattr(
        gxn_stages, "epoch_rows", lambda of, config, epoch: rows.append(epoch) or epoch_rows(of, config, epoch)
    )
    config = quick(
        paths="look+write", look_epochs=2, epochs=2, reward_epochs=2, samples=1, mining="hardest", sum_epochs=3
    )
    gxn.fit(train, config)
    assert seen == [("look", "all")] * 12 + [("all", "all")] * 6 + [("all", None)] * 6
    assert [epoch for epoch, _ in groupby(rows)] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("share", [1, 2])
@pytest.mark.parametrize("processes", [1, 2])
def test_how_much_of_a_stage_is_done_is_told_by_the_rows(train, share, processes):
    config = quick(share=share, seed=3)
    seen = gxn_stages.Batches(train, config)
    assert (seen.n, seen.size) == (120 // share, 20 // share)
    for epoch in (0, 1, 2):
        for rank in range(processes):
            own = batches(seen.n, seen.size, 3, epoch, rank=rank, world_size=processes)
            assert [seen.done(ids, epoch, 3) for ids in own] == [(6 * epoch + step) / 18 for step in range(6)]


def test_the_last_stage_is_told_what_it_is_asked(train, monkeypatch):
    """gamma rises over the first half of twelve steps; rewards are those of the pictures' own captions."""
    seen, reward_losses, rates = [], GXN.reward_losses, []

    def note(self, images, texts, reward, gamma, samples, baseline, image_id, gather, mining, longest):
        own = {image.numpy().tobytes(): i for i, image in enumerate(train.images)}
        places = [own[image.numpy().tobytes()] for image in images]
        references = [[" ".join(tokenise(caption)) for caption in texts] for texts in train.by_image()]
        expected = CaptionReward(references, 0.5, 2.0)
        rows, ended = torch.arange(20), torch.arange(20) % 3 > 0
        said = [references[place][-1].removesuffix(" left") for place in places]
        assert torch.equal(reward(said, rows, ended), expected.reward(said, places, ended))
        assert torch.equal(
            reward(said[3:5], rows[3:5], ended[3:5]), expected.reward(said[3:5], places[3:5], ended[3:5])
        )
        assert image_id.tolist() == [train.group[place] for place in places]
        assert all(text in train.by_image()[place] for text, place in zip(texts, places, strict=True))
        seen.append((gamma, samples, baseline, longest))
        return reward_losses(self, images, texts, reward, gamma, samples, baseline, image_id, gather, mining, longest)

    monkeypatch.setattr(GXN, "reward_losses", note)
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self: rates.append([g["lr"] for g in self.param_groups]) or step(self)
    )
    settings = STAGED | {"gamma": 0.6, "baseline": "others", "samples": 3, "cider_weight": 0.5, "bleu_weight": 2.0}
    gxn.fit(train, quick(**settings, lr=0.01, reward_lr=0.3))
    assert [row[0] for row in seen] == pytest.approx([0.1 * min(k, 6) for k in range(12)])
    assert {row[1:] for row in seen} == {(3, "others", 60)}
    assert all(lr == pytest.approx([0.003, 0.003]) for lr in rates[12:])
    assert len(rates) == 24


def test_what_is_written_chooses_the_last_stage_s_epoch(train, test, monkeypatch):
    seen = []

    def note(model, some, *rest):
        seen.append((len(some), spoken(model, some, *rest)["CIDEr-D"]))
        return {"CIDEr-D": seen[-1][1]}

    monkeypatch.setattr(gxn_stages, "spoken", note)
    monkeypatch.setattr(gxn_stages, "WRITTEN", 15)
    model = gxn.fit(train, quick(**STAGED | {"reward_epochs": 5, "reward_lr": 3.0}), test)
    assert [n for n, _ in seen] == [15] * 5
    values = [value for _, value in seen]
    assert spoken(model, test.first(15))["CIDEr-D"] == pytest.approx(max(values))
    assert max(values) > min(values)


@pytest.fixture
def brief(monkeypatch):
    """Sentences of hardly taught decoders have no end: cut them early."""
    monkeypatch.setattr(gxn_stages, "LONGEST", 8)


class Killed(BaseException):
    """In place of a kill."""


@pytest.mark.parametrize("where", ["in the first", "in the last", "between"])
def test_a_run_stopped_in_or_between_its_stages_goes_on(train, test, tmp_path, monkeypatch, where, brief):
    config = quick(**STAGED | {"dropout": 0.3})
    whole = gxn.fit(train, config, test, output=tmp_path / "whole", checkpoint_every=1)
    left, told = {"in the first": [8, 99], "in the last": [99, 8], "between": [99, 99]}[where], []
    inner = {"losses": GXN.losses, "reward_losses": GXN.reward_losses}

    def power(i, name):
        def of(self, *arguments):
            left[i] -= 1
            if left[i] < 0:
                raise Killed
            told.append(name)
            return inner[name](self, *arguments)

        return of

    def after(stage, model):
        if where == "between":
            raise Killed

    with monkeypatch.context() as patch:
        for i, name in enumerate(inner):
            patch.setattr(GXN, name, power(i, name))
        with pytest.raises(Killed):
            gxn.fit(train, config, test, after, tmp_path / "stopped", checkpoint_every=1)
        left[:], told[:] = [99, 99], []
        resumed = gxn.fit(train, config, test, output=tmp_path / "stopped", checkpoint_every=1)
        expected = {"in the first": (4, 12), "in the last": (0, 4), "between": (0, 12)}[where]
        assert (told.count("losses"), told.count("reward_losses")) == expected
        told[:] = []
        again = gxn.fit(train, config, test, output=tmp_path / "stopped", checkpoint_every=1)
        assert told == []  # what is finished is not trained again
    assert same_weights(whole, resumed)
    assert same_weights(whole, again)
    for stage in ("all", "reward"):
        logs = [(tmp_path / run / stage / "log.csv").read_text() for run in ("whole", "stopped")]
        assert logs[0] == logs[1]


# ---- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"paths": "look+write", "dropout": 0.3}, {"sampling": "image"}], ids=str)
def test_the_same_seed_gives_the_same_model(train, settings):
    one, two = (gxn.fit(train, quick(**settings)) for _ in range(2))
    assert same_weights(one, two)
    other = gxn.fit(train, quick(seed=1, **settings))
    assert not torch.allclose(one.embed_image(train.images), other.embed_image(train.images), atol=0.01)


def test_every_setting_reaches_what_it_sets(train, brief):
    some = train.first(15)
    base = {"paths": "look+write", "epochs": 2, "batch_size": 10, "unit_features": True, "pre_norm": False}
    default = gxn.fit(some, quick(**base))
    for change in [
        {"grounded": False}, {"weight": 0.9}, {"similarity": "cosine"}, {"direction": "gxn"}, {"margin": 0.2},
        {"mining": "hardest"}, {"mask_same_image": False}, {"sampling": "image"}, {"share": 2}, {"absolute": False},
        {"unit_features": False}, {"dim": 12}, {"width": 6}, {"cells": 2}, {"word_dim": 6}, {"min_count": 14},
        {"write_weight": 0.1}, {"pre_norm": True}, {"hidden_dim": 20}, {"dropout": 0.5}, {"shuffle": True},
        {"batch_size": 8}, {"schedule": "constant"}, {"body_lr": 0.1}, {"clip": 0.01}, {"lr": 1e-3}, {"epochs": 3},
        {"precision": "bfloat16"}, {"start": "input"}, {"paths": "look"}, {"paths": "write"},
    ]:  # fmt: skip
        assert not same_weights(gxn.fit(some, quick(**base | change)), default), change
    staged = base | {"reward_epochs": 1, "samples": 2, "reward_lr": 0.5}
    default = gxn.fit(some, quick(**staged))
    for change in [
        {"look_epochs": 1}, {"reward_epochs": 2}, {"gamma": 0.5}, {"ramp": 1.0}, {"reward_lr": 0.1}, {"samples": 3},
        {"baseline": "others"}, {"cider_weight": 0.2}, {"bleu_weight": 5.0},
    ]:  # fmt: skip
        assert not same_weights(gxn.fit(some, quick(**staged | change)), default), change
    step = [quick(**base | {"schedule": "step", "decay_every": epochs}) for epochs in (1, 15)]
    assert not same_weights(*(gxn.fit(some, config) for config in step))
    first = [quick(**base | {"mining": "hardest", "sum_epochs": epochs}) for epochs in (0, 1)]
    assert not same_weights(*(gxn.fit(some, config) for config in first))
    cosine = [quick(**base | {"similarity": "cosine", "unit_images": unit}) for unit in (True, False)]
    assert not same_weights(*(gxn.fit(some, config) for config in cosine))


def test_what_is_built_is_what_is_asked_for(train):
    config = quick(
        paths="look+write", weight=0.3, similarity="cosine", margin=0.4, mining="hardest", absolute=True,
        unit_images=False, unit_features=True, write_weight=0.7, pre_norm=True, hidden_dim=20, dropout=0.2, dim=12,
        word_dim=6, cells=2, start="state",
    )  # fmt: skip
    model = gxn.build(train.captions, None, config)
    assert model.settings == {"write_weight": 0.7, "rank": True, "pre_norm": True, "paint_weight": 1.0}
    assert model.look.settings == {
        "similarity": "cosine", "direction": "order", "margin": 0.4, "mining": "hardest", "weight": 0.3,
        "absolute": True, "unit_features": True, "unit_images": False, "share_words": True,
    }  # fmt: skip
    of = model.decoder.config
    assert (of["image_dim"], of["word_dim"], of["hidden_dim"], of["dropout"], of["start"]) == (12, 6, 20, 0.2, "state")
    assert isinstance(model.look.image_encoder, Sequence)
    assert model.look.image_encoder.out_dim == 4 * 8 * 4  # four cells of 32 channels
    assert not gxn.build(train.captions, None, replace(config, paths="write")).settings["rank"]
    assert len(gxn.build(train.captions, None, replace(config, grounded=False)).look.text_encoders) == 1
    state = torch.get_rng_state()
    assert same_weights(gxn.build(train.captions, None, config), model)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_vocabulary_is_that_of_the_training_captions(train):
    words = {word for caption in train.captions for word in tokenise(caption)}
    model = gxn.build(train.captions, None, quick(paths="look+write"))
    for part in (*model.look.text_encoders, model.decoder):
        assert set(part.config["vocabulary"]["words"]) == words
    often = gxn.build(train.captions, None, quick(min_count=50)).look.text_encoders[0].config["vocabulary"]["words"]
    assert set(often) == {word for word in words if sum(tokenise(c).count(word) for c in train.captions) >= 50} < words
    other = replace(train, captions=[caption.replace("beside", "next to") for caption in train.captions])
    fitted = gxn.fit(train, quick(epochs=1), validation=other)
    assert set(fitted.look.text_encoders[0].config["vocabulary"]["words"]) == words
    with pytest.raises(ValueError, match="no word comes 1000 times in the 120 captions: lower min_count"):
        gxn.build(train.captions, None, quick(min_count=1000))


def test_rows_that_were_computed_before_stand_in_for_pictures(train, test):
    def rows(of: Captioned) -> Captioned:
        return replace(of, images=torch.nn.functional.avg_pool2d(of.images.float() / 255, 4).flatten(1))

    model = gxn.fit(rows(train), quick(image="features", **ENOUGH | {"cells": 1}))
    assert isinstance(model.look.image_encoder, Standardize)
    assert model.look.image_encoder.out_dim == 48
    assert search(model, rows(test))["rsum"] > 4
    with pytest.raises(ValueError, match="image='features' needs image_dim, the width of the rows"):
        gxn.build(train.captions, None, quick(image="features"))


@pytest.mark.parametrize(("cells", "out_dim"), [(1, 512), (2, 2048)])
def test_a_resnet_may_be_kept_as_it_is(train, cells, out_dim):
    config = quick(image="resnet18", cells=cells, body_lr=0.0)
    model = gxn.build(train.captions, None, config)
    assert model.look.image_encoder.out_dim == model.look.image_heads[0].in_features == out_dim
    assert not any(p.requires_grad for p in model.look.image_encoder.parameters())
    assert len(gxn_stages.make_optimizers(model, config)["model"].param_groups) == 1
    moved = gxn.build(train.captions, None, replace(config, body_lr=0.1))
    assert all(p.requires_grad for p in moved.look.image_encoder.parameters())
    assert moved.look.image_encoder(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, out_dim)


def test_the_image_encoder_has_a_learning_rate_of_its_own(train):
    config = quick(paths="look+write", body_lr=0.1, lr=0.5)
    model = gxn.build(train.captions, None, config)
    optimizer = gxn_stages.make_optimizers(model, config)["model"]
    assert type(optimizer) is torch.optim.Adam
    lr = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {lr[id(p)] for p in model.look.image_encoder.parameters()} == {0.05}
    assert {lr[id(p)] for part in (model.look.image_heads, model.decoder) for p in part.parameters()} == {0.5}
    assert len(lr) == len(list(model.parameters()))


@pytest.mark.parametrize("schedule", ["one_cycle", "step", "constant"])
def test_the_schedule_is_that_of_the_learning_rate(schedule):
    """Three epochs of ten steps, a tenth of the rate after two epochs."""
    config = quick(schedule=schedule, decay_every=2, epochs=3, lr=0.1)
    p = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.Adam([{"params": p[:1], "lr": 0.1}, {"params": p[1:], "lr": 0.01}])
    scheduler, rates = gxn.make_scheduler(optimizer, config, 10), []
    for _ in range(30):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    first, second = (torch.tensor(column) for column in zip(*rates, strict=True))
    torch.testing.assert_close(second, first / 10)
    if schedule == "one_cycle":
        assert first[0] < 0.01
        assert first.argmax() in (2, 3)  # a tenth of 31 steps
        assert first.max() == pytest.approx(0.1, rel=0.02)
        assert (first.diff()[3:] < 0).all()
        assert first[-1] < 0.001
    else:
        torch.testing.assert_close(first, torch.tensor([0.1] * 20 + [0.01 if schedule == "step" else 0.1] * 10))


@pytest.mark.parametrize("steps", range(12))
def test_short_runs_have_a_schedule_too(steps):
    optimizer = torch.optim.Adam([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1}])
    scheduler = gxn.make_scheduler(optimizer, quick(epochs=1, lr=0.1), steps)
    for _ in range(steps):
        assert 0 < optimizer.param_groups[0]["lr"] <= 0.1
        optimizer.step()
        scheduler.step()


def test_a_stopped_run_goes_on_to_the_same_weights(train, test, tmp_path, monkeypatch):
    """Stopped in the middle of the second epoch, by an error in place of a kill."""
    config = quick(epochs=3, paths="look+write", dropout=0.3, share=2, mining="hardest", sum_epochs=2)
    whole = gxn.fit(train, config, test, output=tmp_path / "whole", checkpoint_every=1)
    left, losses = [8], GXN.losses

    def power(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return losses(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(GXN, "losses", power)
        with pytest.raises(KeyboardInterrupt):
            gxn.fit(train, config, test, output=tmp_path / "stopped", checkpoint_every=1)
    resumed = gxn.fit(train, config, test, output=tmp_path / "stopped", checkpoint_every=1)
    assert same_weights(whole, resumed)
    assert (tmp_path / "whole/log.csv").read_text() == (tmp_path / "stopped/log.csv").read_text()
    with pytest.raises(ValueError, match="holds a run with other arguments"):
        gxn.fit(train, replace(config, margin=0.1), test, output=tmp_path / "stopped", checkpoint_every=1)


@pytest.mark.parametrize("paths", ["look", "write", "look+write"])
def test_validation_chooses_the_epoch(train, test, paths, monkeypatch):
    seen = []

    def noting(measure):
        def note(model, some, *rest):
            found = measure(model, some, *rest)
            seen.append((measure.__name__, len(some), found if isinstance(found, float) else found["rsum"]))
            return found

        return note

    for measure in (search, likelihood):
        monkeypatch.setattr(gxn_stages, measure.__name__, noting(measure))
    monkeypatch.setattr(gxn_stages, "JUDGED", 15)
    model = gxn.fit(train, quick(paths=paths, epochs=5, schedule="constant", lr=0.05), test)
    assert [row[:2] for row in seen] == [("likelihood" if paths == "write" else "search", 15)] * 5
    values, some = [row[2] for row in seen], test.first(15)
    now = likelihood(model, some) if paths == "write" else search(model, some)["rsum"]
    assert now == pytest.approx(max(values))
    assert max(values) > min(values)


@pytest.fixture
def data(monkeypatch):
    """The blocks as a data set of captioned pictures, with validation pictures or without."""

    def become(validation: bool = True) -> None:
        parts = blocks(0), blocks(1) if validation else None, blocks(2)
        monkeypatch.setitem(caption_data._LOADERS, "blocks", lambda seed, size, read: (parts, False))

    return become


def test_a_run_writes_its_report_and_its_model(data, cache):
    data()
    config = quick(data="blocks", paths="look+write", beam=2)
    report = gxn.run(config)
    written = json.loads(report.path.read_text())
    assert (written["recipe"], written["metrics"]) == ("gxn", report.metrics)
    assert (written["config"]["paths"], written["config"]["beam"]) == ("look+write", 2)
    assert report.path.is_relative_to(cache)
    test = caption_data.load("blocks").test
    loaded = GXN.load(report.path.parent / "model")
    losses = [report.metrics[f"{epoch} loss"] for epoch in ("first", "last")]
    found = gxn.evaluate(loaded, test, 2) | {"first loss": losses[0], "last loss": losses[1]}
    assert found == pytest.approx(report.metrics, abs=1e-5)
    assert {"i2t/R@1", "t2i/mAP", "rsum", "log p", "CIDEr-D", "BLEU-4", "other picture/log p"} < report.metrics.keys()
    assert gxn.run(config).metrics == report.metrics  # from its last checkpoint
    found = find_report("gxn", config)
    assert (found.metrics, found.path) == (report.metrics, report.path)
    assert find_report("gxn", replace(config, margin=0.1)) is None
    rows = (report.path.parent / "training/log.csv").read_text().splitlines()
    columns = rows[0].split(",")
    assert {"loss", "rank", "accuracy", "cross_entropy", "token_accuracy", "validation"} < set(columns)
    assert [float(row.split(",")[columns.index("loss")]) for row in rows[1:]] == losses
    assert losses[1] < losses[0]


def test_a_report_tells_of_before_the_last_stage_and_after(data, monkeypatch):
    data()
    config = quick(data="blocks", beam=2, **STAGED | {"paths": "look+write", "look_epochs": 1})
    kept = {}
    fit = gxn.fit

    def noting(captioned, config, validation, after, output):
        def both(stage, model):
            kept[stage] = copy.deepcopy(model)
            after(stage, model)

        return fit(captioned, config, validation, both, output)

    with monkeypatch.context() as patch:
        patch.setattr(gxn, "fit", noting)
        report = gxn.run(config)
    test = caption_data.load("blocks").test
    expected = {}
    for stage, before in (("all", "before/"), ("reward", "")):
        found = gxn.evaluate(kept[stage], test, 2)
        found |= {f"greedy/{name}": value for name, value in spoken(kept[stage], test, 1).items()}
        expected |= {before + name: value for name, value in found.items()}
    told = {f"{epoch} {what}" for epoch in ("first", "last") for what in ("loss", "reward")}
    assert report.metrics.keys() == expected.keys() | told
    assert {name: report.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert {"before/greedy/exact", "greedy/CIDEr-D", "before/rsum", "before/log p", "distinct"} < report.metrics.keys()
    assert same_weights(GXN.load(report.path.parent / "model"), kept["reward"])
    for stage, name in (("all", "loss"), ("reward", "reward")):
        lines = (report.path.parent / f"training/{stage}/log.csv").read_text().splitlines()
        values = [float(line.split(",")[lines[0].split(",").index(name)]) for line in lines[1:]]
        assert [report.metrics[f"{epoch} {name}"] for epoch in ("first", "last")] == values
    assert gxn.run(config).metrics == report.metrics
    assert not any("before/" in name or "greedy/" in name for name in gxn.run(quick(data="blocks")).metrics)


def test_without_validation_pictures_the_last_epoch_is_taken(data):
    data(validation=False)
    report, splits = gxn.run(quick(data="blocks")), caption_data.load("blocks")
    model = GXN.load(report.path.parent / "model")
    assert same_weights(model, gxn.fit(splits.train, quick(data="blocks")))
    assert search(model, splits.test).items() <= report.metrics.items()


# ---- settings --------------------------------------------------------------------------------------------------------


FOR_PAINTERS = ("scenes-one", "scenes-two", "scenes-three")


@pytest.mark.parametrize("data", [name for name in caption_data.names() if name not in FOR_PAINTERS])
@pytest.mark.parametrize("paths", ["look", "write", "look+write"])
def test_the_profiles(data, paths):
    state = torch.get_rng_state()
    lesson, paper = (gxn.Config.profile(name, data=data, paths=paths) for name in ("lesson", "paper"))
    assert torch.equal(torch.get_rng_state(), state)
    assert (lesson.image, lesson.dim, lesson.schedule) == ("small", 256, "one_cycle")
    assert lesson.epochs < paper.epochs
    drawn = data in ("scenes", "scenes-3d", "fashion-products")
    assert (paper.image, paper.features) == ("small" if drawn else "features", "resnet152")
    assert (paper.dim, paper.hidden_dim, paper.word_dim, paper.min_count) == (1024, 1024, 300, 5)
    assert (paper.epochs, paper.lr, paper.schedule, paper.decay_every, paper.batch_size) == (30, 2e-4, "step", 15, 128)
    assert (paper.clip, paper.margin, paper.weight, paper.similarity, paper.dropout) == (2.0, 0.05, 0.5, "order", 0.5)


@pytest.mark.parametrize("data", FOR_PAINTERS)
def test_the_profiles_of_painters(data):
    config = gxn.Config.profile("lesson", data=data)
    assert (config.paths, config.captions, config.wrong, config.paint_size) == ("paint", "first", "word", 32)
    pictures = 345 if data == "scenes-one" else 3000
    assert config.look_epochs > 0
    assert 2400 < config.epochs * (pictures // config.batch_size) < 3300
    paper = gxn.Config.profile("paper", data="scenes", paths="look+write+paint")
    widths = paper.paint_size, paper.condition_dim, paper.noise_dim, paper.painter_width, paper.judge_width
    assert widths == (64, 128, 100, 1024, 64)
    rates = paper.painter_lr, paper.judge_lr, paper.condition_lr
    assert (rates, paper.sigma, paper.kl_weight, paper.augment) == ((2e-4,) * 3, 1.0, 2.0, True)


def test_flags_of_the_shell():
    config = parse(gxn.Config, ["--paths", "look+write", "--no-grounded", "--no-mask-same-image", "--absolute", "True"])
    assert (config.paths, config.grounded, config.mask_same_image, config.absolute) == (
        "look+write",
        False,
        False,
        True,
    )
    assert config == gxn.Config.profile(paths="look+write", grounded=False, mask_same_image=False, absolute=True)
    config = parse(gxn.Config, ["--profile", "paper", "--data", "coco", "--sum-epochs", "2", "--mining", "hardest"])
    assert config == gxn.Config.profile("paper", data="coco", sum_epochs=2, mining="hardest")


def test_every_command_of_the_docstring_is_understood():
    commands = re.findall(r"-m commonspace\.recipes\.gxn (.+)", gxn.__doc__)
    assert len(commands) == 6
    for command in commands:
        words = command.split()
        given = dict(zip(words[::2], words[1::2], strict=True))
        config = parse(gxn.Config, words)
        assert config.data == given.pop("--data") in caption_data.names()
        assert config.epochs == gxn.Config.profile(given.pop("--profile"), data=config.data).epochs
        for flag, value in given.items():
            assert str(getattr(config, flag[2:].replace("-", "_"))) == value


@pytest.mark.parametrize("name", LOOK_CONFIGURATIONS)
def test_every_configuration_of_the_embedding_is_a_row_of_flags(name, train):
    flags = dict(re.findall(r"^    ([A-Za-z0-9+-]+) {2,}(--no-grounded.*)$", gxn.__doc__, flags=re.M))
    assert flags.keys() == LOOK_CONFIGURATIONS.keys() - {"GXN"}
    config = parse(gxn.Config, ["--profile", "paper", "--data", "scenes", *flags.get(name, "").split()])
    model = gxn.build(train.captions, None, replace(config, dim=12, word_dim=6, width=4, min_count=1))
    encoders = model.look.text_encoders
    assert len(encoders) == (2 if name == "GXN" else 1)
    expected = GXNLook(model.look.image_encoder, *encoders, **LOOK_CONFIGURATIONS[name])
    assert model.look.settings == expected.settings
    expected.image_heads.load_state_dict(model.look.image_heads.state_dict())
    batch = train.images[:20], train.captions[:40:2], train.group[:20]
    ours, theirs = model.losses(*batch), expected.losses(*batch)
    assert ours["loss"].item() == theirs["loss"].item()
    assert ours["accuracy"] == theirs["accuracy"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"share": 0}, "share=0 must divide batch_size=20"),
        ({"share": 3}, "share=3 must divide batch_size=20"),
        ({"share": 2, "sampling": "image"}, "be 1 with sampling 'image', where an image comes once"),
        ({"min_count": 0}, "min_count, decay_every, beam and cells must be at least 1"),
        ({"decay_every": 0}, "must be at least 1"),
        ({"beam": 0}, "must be at least 1"),
        ({"cells": 0}, "must be at least 1"),
        ({"sum_epochs": -1}, "sum_epochs at least 0"),
        ({"body_lr": -0.1}, r"body_lr must be at least 0 and clip above 0; got -0\.1 and 2\.0"),
        ({"clip": 0.0}, r"got 1\.0 and 0\.0"),
        ({"clip": math.nan}, "clip above 0"),
        ({"body_lr": 0.0}, "body_lr=0 is for a ResNet or VGG"),
        ({"cells": 2, "image": "features"}, "cells=2 needs an encoder with a map: image='small' or a ResNet"),
        ({"cells": 2, "image": "vgg19"}, "cells=2 needs an encoder with a map"),
        ({"unit_images": False}, "unit_images=False goes with similarity='cosine'"),
        ({"weight": 1.5}, r"weight must lie in \[0, 1\]"),
        ({"margin": -0.1}, "margin be a number >= 0"),
        ({"mining": "max"}, "mining must be one of 'all', 'hardest'"),
        ({"paths": "read"}, "paths must be one of 'look', 'write'"),
        ({"width": 3}, "width must be an even number"),
        ({"dim": 0}, "at least 1"),
        ({"word_dim": 0}, "at least 1"),
        ({"hidden_dim": 0, "paths": "write"}, "hidden_dim must be at least 1"),
        ({"dropout": 1.0, "paths": "write"}, r"dropout must be in \[0, 1\)"),
        ({"write_weight": 0.0, "paths": "write"}, "write_weight must be a number above 0"),
        ({"look_epochs": -1, "paths": "look+write"}, "look_epochs and reward_epochs must be at least 0"),
        ({"reward_epochs": -1, "paths": "write"}, "must be at least 0"),
        ({"look_epochs": 1}, "look_epochs=1 is for paths that look and do more, not 'look'"),
        ({"look_epochs": 1, "paths": "write"}, "not 'write'"),
        ({"reward_epochs": 1, "paths": "look+paint"}, "reward_epochs=1 needs a decoder"),
        ({"paths": "paint", "image": "features"}, "'paint' learn from pictures, and image='features' has rows: choose"),
        ({"wrong": "word", "data": "coco"}, "wrong='word' knows the words of scenes alone, not of 'coco'"),
        ({"paths": "paint", "paint_size": 16}, "paint_size=16: what is painted of scenes is read at 32, 64 or 128"),
        ({"paths": "paint", "paint_size": 256}, "paint_size=256: what is painted"),
        ({"paths": "paint", "paint_size": 40}, "size 40 cannot be painted: take 8, 16, 32"),
        ({"painter_lr": 0.0}, "painter_lr and judge_lr must be above 0, condition_lr and text_lr at least 0; got"),
        ({"judge_lr": math.nan}, "painter_lr and judge_lr must be above 0"),
        ({"condition_lr": -0.1}, "condition_lr and text_lr at least 0"),
        ({"text_lr": math.inf}, "condition_lr and text_lr at least 0"),
        ({"paint_weight": 0.0, "paths": "paint"}, "paint_weight must be a number above 0"),
        ({"condition_dim": 0, "paths": "paint"}, "condition_dim must be a whole number, at least 1"),
        ({"noise_dim": 0, "paths": "paint"}, "noise_dim must be"),
        ({"painter_width": 0, "paths": "paint"}, "painter_width must be"),
        ({"judge_width": 0, "paths": "paint"}, "judge_width must be"),
        ({"kl_weight": -1.0, "paths": "paint"}, "kl_weight must be a number >= 0"),
        ({"sigma": 0.0, "paths": "paint"}, "sigma must be a number above 0"),
        ({"smoothing": 0.5, "paths": "paint"}, "smoothing must lie"),
        ({"limit": 0.0, "paths": "paint"}, "limit in"),
        ({"penalty": -1.0, "paths": "paint"}, "penalty must be"),
        ({"instance_noise": math.nan, "paths": "paint"}, "instance_noise must be"),
        ({"wrong": "both"}, "wrong must be one of 'other', 'word'"),
        ({"captions": "last"}, "captions must be one of 'all', 'first'"),
        ({"reward_epochs": 1}, "reward_epochs=1 needs a decoder: paths='look\\+write' or 'write'"),
        ({"gamma": 1.1}, r"gamma and ramp must be in \[0, 1\] and reward_lr above 0; got 1.1, 0.1 and 0.1"),
        ({"gamma": math.nan}, "gamma and ramp must be"),
        ({"ramp": -0.1}, "got 0.9, -0.1 and 0.1"),
        ({"reward_lr": 0.0}, "reward_lr above 0"),
        ({"samples": 0}, "samples=0 must be at least 1, and 2 with baseline 'others'"),
        ({"samples": 1, "baseline": "others"}, "samples=1 must be at least 1, and 2"),
        ({"baseline": "mean"}, "baseline must be one of 'greedy', 'others'"),
        ({"cider_weight": -1.0}, "one of them above; got -1.0 and 0.0"),
        ({"cider_weight": 0.0}, "got 0.0 and 0.0"),
        ({"bleu_weight": math.inf}, "got 1.0 and inf"),
        ({"path": "look"}, "did you mean 'paths'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_any_data_is_read(overrides, message):
    with pytest.raises(ValueError, match=message):
        quick(**overrides)


def test_the_shell_says_what_is_wrong_without_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gxn", "--data", "scene"])
    with pytest.raises(SystemExit) as left:
        main(gxn.Config, gxn.run)
    assert left.value.code == 2
    assert "no data set of captioned pictures is called 'scene'" in capsys.readouterr().err


def test_a_batch_larger_than_the_data_is_refused(train):
    with pytest.raises(ValueError, match="20 rows make no batch of 40"):
        gxn.fit(train.first(10), quick(batch_size=40, schedule="step"))
