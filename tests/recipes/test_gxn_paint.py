"""The recipe gxn with a painter, small: it learns to paint what is said, what its two players see, stages, settings."""

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from commonspace.data import PairedSamples, Scenes
from commonspace.models import GXN, GXNLook
from commonspace.recipes import caption_data, gxn, gxn_stages
from commonspace.recipes.caption_data import Captioned
from commonspace.recipes.caption_measures import painting, search

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (230, 230, 230)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path))


def plain(copies: int, seed: int = 0, size: int = 8) -> PairedSamples:
    """Pictures of one colour, noisy; two captions each, which say it."""
    rng = np.random.default_rng(seed)
    images = np.array([*COLOURS.values()] * copies)[:, :, None, None]
    images = np.clip(images + rng.integers(-20, 20, (len(images), 3, size, size)), 0, 255).astype(np.uint8)
    return PairedSamples(images, [[f"all is {colour} here", colour] for colour in COLOURS] * copies)


@pytest.fixture(scope="module")
def train():
    return Captioned.of(plain(6), same_text=True)


@pytest.fixture(scope="module")
def test():
    return Captioned.of(plain(2, seed=1))


def quick(**overrides) -> gxn.Config:
    small = {
        "paths": "paint", "data": "plain", "epochs": 2, "dim": 8, "width": 4, "word_dim": 6, "hidden_dim": 8,
        "batch_size": 12, "lr": 5e-3, "beam": 1, "paint_size": 8, "condition_dim": 4, "noise_dim": 3,
        "painter_width": 8, "judge_width": 4, "device": "cpu",
    }  # fmt: skip
    return gxn.Config.profile("lesson", **small | overrides)


def same_weights(one: GXN, other: GXN) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


# ---- it learns -------------------------------------------------------------------------------------------------------

ENOUGH = {
    "epochs": 24, "batch_size": 16, "condition_dim": 8, "painter_width": 16, "judge_width": 8, "painter_lr": 4e-3,
    "judge_lr": 2e-3,
}  # fmt: skip


def right_colours(model: GXN) -> float:
    """The share of pictures whose mean colour is nearest to the one that was said; by chance a quarter."""
    said = [f"all is {colour} here" for colour in COLOURS] * 8
    mean = model.paint(said, torch.Generator().manual_seed(0)).float().mean(dim=(2, 3))
    nearest = torch.cdist(mean, torch.tensor([*COLOURS.values()]).float()).argmin(dim=1)
    return (nearest == torch.arange(4).repeat(8)).float().mean().item()


@pytest.mark.parametrize(("judge_lr", "learns"), [(2e-3, True), (1e-9, False)])
def test_it_learns_to_paint_what_is_said(train, judge_lr, learns):
    """But not before a judge that never learns."""
    right = right_colours(gxn.fit(train, quick(**ENOUGH | {"text_lr": 0.0, "judge_lr": judge_lr})))
    assert right > 0.8 if learns else right < 0.6


def test_it_learns_to_find_and_to_paint(train, test):
    model = gxn.fit(train, quick(paths="look+paint", **ENOUGH | {"text_lr": 0.1}))
    assert right_colours(model) > 0.6
    assert search(model, test)["rsum"] > 3


# ---- what the players see --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{}, {"share": 2}, {"sampling": "image"}, {"captions": "first"}, {"wrong": "word"}], ids=str
)
def test_the_judge_comes_first_and_both_see_the_same_pairs(train, settings, monkeypatch):
    seen, losses, judge_losses = [], GXN.losses, GXN.judge_losses

    def judged(self, images, texts, wrong):
        seen.append(("judge", images, texts, wrong))
        return judge_losses(self, images, texts, wrong)

    def note(self, images, texts, *rest):
        seen.append(("model", images, texts, None))
        return losses(self, images, texts, *rest)

    monkeypatch.setattr(GXN, "losses", note)
    monkeypatch.setattr(GXN, "judge_losses", judged)
    data, wanted = train, {}
    if "wrong" in settings:
        data = Captioned.of(Scenes(24, 32).captioned()[0]).first(24)
        wanted = {"data": "scenes", "paint_size": 32}
    gxn.fit(data, quick(epochs=2, **settings | wanted))
    assert [row[0] for row in seen] == ["judge", "model"] * (len(seen) // 2)
    own = {image.numpy().tobytes(): texts for image, texts in zip(data.images, data.by_image(), strict=True)}
    told, wrongs = Counter(), []
    for (_, images, texts, wrong), (_, again, same, _) in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(images, again)
        assert texts == same
        assert len(wrong) == len(texts) == 12
        for image, text, other in zip(images, texts, wrong, strict=True):
            captions = own[image.numpy().tobytes()]
            assert text in captions
            assert other not in captions
            if "wrong" in settings:
                assert len(other.split()) == len(text.split())
                assert sum(a != b for a, b in zip(other.split(), text.split(), strict=True)) == 1
            told[text] += 1
        wrongs.append(tuple(wrong))
    if settings.get("captions") == "first":
        assert all(text.startswith("all is") for text in told)
    assert len({*wrongs}) == len(wrongs)


def test_wrong_captions_are_the_same_on_however_many_processes(train):
    config = quick(seed=3)
    batches = gxn_stages.Batches(train, config)
    ids = torch.randperm(batches.n, generator=torch.Generator().manual_seed(0))[:12]
    whole = batches.with_wrong(ids, 1)[2]
    assert [wrong for part in ids.tensor_split(3) for wrong in batches.with_wrong(part, 1)[2]] == whole
    assert gxn_stages.Batches(train, quick()).with_wrong(ids, 1)[2] != whole


@pytest.mark.parametrize("whiten", [True, False])
def test_the_condition_begins_whitened_behind_the_stage_look(train, whiten, monkeypatch):
    seen, kept, judge_losses = [], {}, GXN.judge_losses

    def note(self, images, texts, wrong):
        if not seen:
            mu, _ = self.painter.augmentation(self.grounded_text(train.captions))
            seen.append((mu.T @ mu / len(mu), mu.mean(dim=0)))
        return judge_losses(self, images, texts, wrong)

    monkeypatch.setattr(GXN, "judge_losses", note)
    config = quick(paths="look+paint", look_epochs=2, epochs=1, whiten=whiten)
    gxn.fit(
        train, config, after=lambda stage, model: kept.update({stage: model.painter.augmentation.linear.weight.clone()})
    )
    (moment, mean), start = seen[0], gxn.build(train.captions, None, config).painter.augmentation.linear.weight
    assert torch.equal(kept["look"], start)
    rank = min(4, len(train.group.unique()) * 2 - 1)
    if whiten:
        assert mean.abs().max() < 1e-3
        torch.testing.assert_close(moment.diagonal()[:rank], torch.ones(rank), rtol=0, atol=0.05)
        assert (moment - torch.diag(moment.diagonal())).abs().max() < 1e-2
    else:
        assert (moment - torch.eye(4)).abs().max() > 0.1


def test_many_captions_are_whitened_by_some_of_them(train, monkeypatch):
    seen, grounded = [], GXN.grounded_text
    monkeypatch.setattr(GXN, "grounded_text", lambda self, texts: seen.append(texts) or grounded(self, texts))
    monkeypatch.setattr(gxn_stages, "WHITENED", 20)
    gxn.fit(train, quick(epochs=1))
    assert seen == [train.captions[::3]]


# ---- stages and optimisers -------------------------------------------------------------------------------------------


def test_the_look_alone_comes_first_and_leaves_the_painter(train):
    seen = {}

    def note(stage, model):
        seen[stage] = {name: value.clone() for name, value in model.state_dict().items()}

    config = quick(paths="look+write+paint", look_epochs=1, reward_epochs=1, samples=2, epochs=1)
    gxn.fit(train, config, after=note)
    assert [*seen] == ["look", "all", "reward"]
    start = gxn.build(train.captions, None, config).state_dict()
    for name, value in start.items():
        assert torch.equal(value, seen["look"][name]) == name.startswith(("painter.", "decoder.")), name
    for stage, before in (("all", "look"), ("reward", "all")):
        for name in start:
            if not name.endswith("num_batches_tracked"):
                assert not torch.equal(seen[stage][name], seen[before][name]), (stage, name)


@pytest.mark.parametrize("text_lr", [1.0, 0.0])
def test_a_painter_alone_teaches_the_reader_of_grounded_vectors(train, text_lr):
    config = quick(text_lr=text_lr)
    start, model = gxn.build(train.captions, None, config).state_dict(), gxn.fit(train, config)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, start[name])}
    readers = {name for name in start if name.startswith("look.text_encoders.")}
    grounded = {name for name in readers if name.startswith("look.text_encoders.1.")}
    shared = {"look.text_encoders.0.embedding.weight"} & readers
    assert moved & readers == (grounded | shared if text_lr else set())
    assert {name for name in start if name.startswith("painter.")} <= moved
    assert not any(name.startswith("look.image") for name in moved)


def test_every_part_has_its_learning_rate(train):
    config = quick(
        paths="look+write+paint", lr=0.5, painter_lr=0.02, judge_lr=0.03, condition_lr=0.04, text_lr=0.1, body_lr=0.2,
        reward_epochs=1, look_epochs=1, reward_lr=0.5, schedule="constant",
    )  # fmt: skip
    model = gxn.build(train.captions, None, config)
    names = {id(p): name for name, p in model.named_parameters()}
    made = {
        stage.name: stage.optimizers
        for stage in gxn_stages.stages(model, gxn_stages.Batches(train, config), config, None)
    }
    assert isinstance(made["look"], torch.optim.Adam)
    rates = {
        "look.image_encoder.": 0.1, "look.image_heads.": 0.5, "look.text_encoders.": 0.05, "decoder.": 0.5,
        "painter.painter.": 0.02, "painter.augmentation.": 0.04,
    }  # fmt: skip
    for stage, times in (("all", 1.0), ("reward", 0.5)):
        assert [*made[stage]] == ["judge", "model"]
        judge, rest = made[stage].values()
        assert {names[id(p)] for g in judge.param_groups for p in g["params"]} == {
            n for n in names.values() if "judge" in n
        }
        assert [(g["lr"], g["betas"]) for g in judge.param_groups] == [(pytest.approx(0.03 * times), (0.5, 0.999))]
        told = set()
        for group in rest.param_groups:
            for p in group["params"]:
                name = names[id(p)]
                (start,) = [start for start in rates if name.startswith(start)]
                assert group["lr"] == pytest.approx(rates[start] * times), name
                assert group["betas"] == ((0.5, 0.999) if name.startswith("painter.") else (0.9, 0.999))
                assert name not in told
                told.add(name)
        assert told == {name for name in names.values() if "judge" not in name}
    of_look = {names[id(p)]: g["lr"] for g in made["look"].param_groups for p in g["params"]}
    assert of_look["look.text_encoders.1.rnn.weight_hh_l0"] == 0.5  # text_lr is for where there is a game
    assert not any("judge" in name for name in of_look)


class Killed(BaseException):
    """In place of a kill."""


WHERE = {
    "look": (GXNLook, "losses", 5),
    "all, at the judge": (GXN, "judge_losses", 4),
    "all, between the players": (GXN, "losses", 4),
    "reward": (GXN, "reward_losses", 3),
    "between look and all": "look",
    "between all and reward": "all",
}
STAGED = {
    "paths": "look+write+paint", "look_epochs": 2, "epochs": 2, "reward_epochs": 2, "samples": 2, "dropout": 0.3,
    "instance_noise": 0.1, "batch_size": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(train, test, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return gxn.fit(train, quick(**STAGED), test, output=folder, checkpoint_every=1), folder


@pytest.mark.parametrize("where", WHERE)
def test_a_run_stopped_anywhere_goes_on_to_the_same_weights(train, test, tmp_path, monkeypatch, whole, where):
    config = quick(**STAGED)

    def after(stage, model):
        if stage == WHERE[where]:
            raise Killed

    with monkeypatch.context() as patch:
        if not isinstance(WHERE[where], str):
            kind, name, left = WHERE[where]
            calls, inner = iter(range(99)), getattr(kind, name)

            def power(self, *arguments):
                if next(calls) == left:
                    raise Killed
                return inner(self, *arguments)

            patch.setattr(kind, name, power)
        with pytest.raises(Killed):
            gxn.fit(train, config, test, after, tmp_path, checkpoint_every=1)
    resumed = gxn.fit(train, config, test, output=tmp_path, checkpoint_every=1)
    assert same_weights(whole[0], resumed)
    for stage in ("look", "all", "reward"):
        assert (tmp_path / stage / "log.csv").read_text() == (whole[1] / stage / "log.csv").read_text()


def test_the_log_tells_of_both_players(whole):
    columns = (whole[1] / "all" / "log.csv").read_text().splitlines()[0].split(",")
    judge = {f"judge/{name}" for name in ("loss", "real", "fake", "wrong", "accuracy")}
    model = {f"model/{name}" for name in ("loss", "rank", "accuracy", "game", "kl", "cross_entropy", "token_accuracy")}
    assert {*columns} == {"step", "epoch", "validation"} | judge | model
    columns = (whole[1] / "reward" / "log.csv").read_text().splitlines()[0].split(",")
    assert judge | model | {"model/reward", "model/reinforce"} < {*columns}
    assert "loss" in (whole[1] / "look" / "log.csv").read_text().splitlines()[0].split(",")


def test_validation_chooses_where_there_is_something_to_find(train, test, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(gxn_stages, "search", lambda model, some: seen.append(len(some)) or search(model, some))
    gxn.fit(train, quick(epochs=1), test, output=tmp_path / "paint")
    assert seen == []
    assert "validation" not in (tmp_path / "paint/log.csv").read_text()
    gxn.fit(train, quick(epochs=2, paths="look+paint"), test)
    assert seen == [8, 8]


# ---- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{"paths": "paint", "look_epochs": 1}, STAGED | {"epochs": 1, "look_epochs": 0}], ids=str
)
def test_a_run_reports_what_is_painted(settings, monkeypatch):
    parts = plain(6), plain(2, 1), plain(2, 2)
    monkeypatch.setitem(caption_data._LOADERS, "plain", lambda seed, size, read: (parts, False))
    config = quick(**settings)
    report = gxn.run(config)
    assert json.loads(report.path.read_text())["metrics"] == report.metrics
    model, test = GXN.load(report.path.parent / "model"), caption_data.load("plain").test
    painted = painting(model, test)
    assert {"painted/Frechet distance", "painted/diversity of a sentence", "real/diversity"} < painted.keys()
    assert {name: report.metrics[name] for name in painted} == pytest.approx(painted, abs=1e-6)
    told = {"first loss", "last loss"}
    if config.paths == "paint":
        assert report.metrics.keys() == painted.keys() | told
    else:
        assert {"rsum", "log p", "before/rsum", "before/painted/diversity", "first reward"} < report.metrics.keys()
    rows = [line.split(",") for line in (report.path.parent / "training/all/log.csv").read_text().splitlines()]
    losses = [float(row[rows[0].index("model/loss")]) for row in rows[1:]]
    assert [report.metrics["first loss"], report.metrics["last loss"]] == [losses[0], losses[-1]]
    assert gxn.run(config).metrics == report.metrics


@pytest.mark.parametrize("settings", [{}, {"paths": "look+write+paint", "instance_noise": 0.1}], ids=str)
def test_the_same_seed_gives_the_same_model(train, settings):
    one, two = (gxn.fit(train, quick(epochs=1, **settings)) for _ in range(2))
    assert same_weights(one, two)
    assert not same_weights(one, gxn.fit(train, quick(epochs=1, seed=1, **settings)))


# ---- settings --------------------------------------------------------------------------------------------------------


def test_every_setting_reaches_what_it_sets(train):
    base = {"paths": "look+paint", "epochs": 1}
    default = gxn.fit(train, quick(**base))
    for change in [
        {"paths": "paint"}, {"paths": "look+write+paint"}, {"captions": "first"}, {"paint_weight": 0.1},
        {"paint_size": 16}, {"condition_dim": 5}, {"noise_dim": 4}, {"painter_width": 16}, {"judge_width": 5},
        {"painter_lr": 1e-3}, {"judge_lr": 1e-3}, {"condition_lr": 1e-2}, {"text_lr": 0.5}, {"whiten": False},
        {"sigma": 0.5}, {"augment": False}, {"kl_weight": 1.0}, {"fake_weight": 0.1}, {"wrong_weight": 0.1},
        {"saturating": True}, {"norm": "none"}, {"smoothing": 0.1}, {"instance_noise": 0.1}, {"penalty": 1.0},
        {"spread": True}, {"limit": 0.1}, {"look_epochs": 1}, {"schedule": "constant"}, {"precision": "bfloat16"},
        {"pre_norm": False}, {"grounded": False},
    ]:  # fmt: skip
        assert not same_weights(gxn.fit(train, quick(**base | change)), default), change
    scenes = Captioned.of(Scenes(24, 32).captioned()[0]).first(6)
    of_scenes = {"data": "scenes", "paint_size": 32, "epochs": 1, "batch_size": 8}
    assert not same_weights(*(gxn.fit(scenes, quick(wrong=wrong, **of_scenes)) for wrong in ("other", "word")))


def test_what_is_built_is_what_is_asked_for(train):
    config = quick(
        paths="paint", paint_size=16, condition_dim=6, noise_dim=7, painter_width=32, judge_width=5, kl_weight=0.3,
        fake_weight=0.4, wrong_weight=0.6, sigma=0.7, augment=False, saturating=True, norm="none", smoothing=0.1,
        instance_noise=0.2, penalty=0.9, spread=True, limit=0.8, paint_weight=0.25,
    )  # fmt: skip
    model = gxn.build(train.captions, None, config)
    assert model.painter.config == {
        "text_dim": 8, "size": 16, "condition_dim": 6, "noise_dim": 7, "painter_width": 32, "judge_width": 5,
        "kl_weight": 0.3, "fake_weight": 0.4, "wrong_weight": 0.6, "sigma": 0.7, "augment": False, "saturating": True,
        "norm": "none", "smoothing": 0.1, "instance_noise": 0.2, "penalty": 0.9, "spread": True, "limit": 0.8,
    }  # fmt: skip
    assert {*gxn.OF_THE_PAINTER} == model.painter.config.keys() - {"text_dim", "size"}
    assert (model.settings["paint_weight"], model.settings["rank"], model.decoder) == (0.25, False, None)
    assert gxn.build(train.captions, None, replace(config, paths="look+paint")).settings["rank"]
    assert gxn.build(train.captions, None, replace(config, paths="look")).painter is None
    assert gxn.build(train.captions, None, replace(config, paths="look+write+paint")).decoder is not None
    assert math.isclose(model.painter.augmentation.linear.bias[6:].mean().item(), 2 * math.log(0.7), rel_tol=1e-5)


def test_captions_without_words_of_scenes_are_refused(train):
    with pytest.raises(ValueError, match=r"'.*' has no size, colour, shape or place of a scene: take wrong='other'"):
        gxn.fit(
            replace(train, captions=["a dog"] * len(train.captions)),
            quick(data="scenes", paint_size=32, wrong="word", whiten=False),
        )


def test_a_batch_of_one_is_refused(train):
    with pytest.raises(ValueError, match="two sentences or more, got one"):
        gxn.fit(train, quick(batch_size=1))
