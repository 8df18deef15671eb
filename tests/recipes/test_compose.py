"""The recipe, small: it learns what one side alone cannot, repeats, resumes, reports; batches share sources."""

import itertools
import json
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pytest
import torch

from commonspace.data import ComposedQueries, DrawnQueries
from commonspace.encoders import SmallConvNet
from commonspace.metrics import first_answers, kept_and_changed
from commonspace.models import COMPOSERS, ComposedRetrieval
from commonspace.recipes import compose, compose_data
from commonspace.recipes.report import find_report
from commonspace.recipes.shell import main, parse

COLOURS = {"red": (220, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 220), "black": (0, 0, 0)}
NAMES = list(COLOURS)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path))
    return tmp_path


@dataclass(frozen=True, eq=False)
class Blocks(ComposedQueries):
    """With what the measures of kept and changed need."""

    attributes: torch.Tensor | None = field(default=None, metadata={"of_images": True})


def blocks(seed: int) -> Blocks:
    """A coloured block in one of four corners on one of four grounds, noisy: each asked for in every other colour."""
    rng = np.random.default_rng(seed)
    attributes = list(itertools.product(range(4), range(4), range(4)))  # ground, corner, colour
    images = np.empty((64, 3, 16, 16), dtype=np.uint8)
    for image, (ground, corner, colour) in zip(images, attributes, strict=True):
        image[:] = 120 + 35 * ground
        y, x = 8 * (corner // 2) + 1, 8 * (corner % 2) + 1
        image[:, y : y + 6, x : x + 6] = np.array(COLOURS[NAMES[colour]])[:, None, None]
    images += rng.integers(0, 20, images.shape, dtype=np.uint8)
    rows = [
        (i, f"make it {NAMES[c]}", attributes.index((ground, corner, c)))
        for i, (ground, corner, colour) in enumerate(attributes)
        for c in range(4)
        if c != colour
    ]
    source, modification, target = (list(column) for column in zip(*rows, strict=True))
    return Blocks(images, source, modification, target, attributes=torch.tensor(attributes))


def quick(**overrides) -> compose.Config:
    small = {"epochs": 2, "dim": 16, "width": 8, "word_dim": 8, "rank": 4, "batch_size": 48, "share": 3, "lr": 3e-3}
    return compose.Config.profile("lesson", **(small | overrides))


@pytest.fixture(scope="module")
def train():
    return blocks(0)


@pytest.fixture(scope="module")
def test():
    return blocks(1)


# ---- it learns ------------------------------------------------------------------------------------------------------


def test_it_finds_what_neither_side_alone_can_find(train, test):
    found = {}
    for composer, epochs in [("ImageOnly", 5), ("TextOnly", 8), ("Concat", 25), ("AttributeAsOperator", 15)]:
        found[composer] = compose.evaluate(compose.fit(train, quick(composer=composer, epochs=epochs)), test)
    measures = {"R@1", "R@5", "R@10", "R@50", "median_rank", "mAP", "kept", "changed"}
    assert all(one.keys() == measures for one in found.values())
    best = {name: one["R@1"] for name, one in found.items()}
    assert best["Concat"] > 0.6
    assert best["AttributeAsOperator"] > 0.6
    assert best["ImageOnly"] < 0.45  # at best one of the three other colours
    assert best["TextOnly"] < 0.2
    assert found["ImageOnly"]["kept"] > found["TextOnly"]["kept"] + 0.2
    assert found["TextOnly"]["changed"] > found["ImageOnly"]["changed"] + 0.4
    assert found["Concat"]["changed"] > 0.8


def test_it_learns_nothing_from_shuffled_sentences(train, test):
    order = np.random.default_rng(0).permutation(len(train))
    mixed = Blocks(train.images, train.source, [train.modification[i] for i in order], train.target)
    assert compose.evaluate(compose.fit(mixed, quick(epochs=25)), test)["R@1"] < 0.45


def test_evaluation_is_over_all_pictures_but_the_source(train, test):
    model = compose.fit(train, quick(epochs=4))
    found = compose.evaluate(model, test)
    query = model.embed_query(test.images[test.source], test.modification)
    sim = query @ model.embed_image(test.images).T
    hits, answers = [], []
    for scores, source, relevant in zip(sim, test.source.tolist(), test.relevant, strict=True):
        order = [i for i in scores.argsort(descending=True).tolist() if i != source]
        hits.append([bool(set(order[:k]) & set(relevant)) for k in (1, 5, 10)])
        answers.append(order[0])
    assert [found[f"R@{k}"] for k in (1, 5, 10)] == pytest.approx(np.mean(hits, axis=0).tolist())
    assert kept_and_changed(test.attributes, test.source, test.target, answers) == {
        name: found[name] for name in ("kept", "changed")
    }
    assert answers == first_answers(query, model.embed_image(test.images), exclude=test.source).tolist()


# ---- batches --------------------------------------------------------------------------------------------------------


def test_a_step_shows_the_model_whole_groups_and_twins_are_no_negatives(train, monkeypatch):
    seen = []
    losses = ComposedRetrieval.losses

    def note(self, source_images, modifications, target_images, **rest):
        seen.append((source_images, modifications, target_images, rest))
        return losses(self, source_images, modifications, target_images, **rest)

    monkeypatch.setattr(ComposedRetrieval, "losses", note)
    compose.fit(train, quick(epochs=1))
    assert len(seen) == len(train) // 48
    asked = {
        (train.images[s].numpy().tobytes(), m, train.images[t].numpy().tobytes())
        for s, m, t in zip(train.source, train.modification, train.target, strict=True)
    }
    for images, texts, targets, rest in seen:
        source = rest["source"]
        assert len(images) == len(source.unique()) <= 48 // 3
        for i, (text, target) in enumerate(zip(texts, targets, strict=True)):
            assert (images[source[i]].numpy().tobytes(), text, target.numpy().tobytes()) in asked
        twins = [[bool((a == b).all()) for b in targets] for a in targets]
        assert rest["same"].tolist() == twins
        assert rest["same"].sum() > len(texts)


# ---- runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [{}, {"loss": "soft_triplet", "form": "release", "optimizer": "sgd"}])
def test_the_same_seed_gives_the_same_model(train, overrides):
    one, two = (compose.fit(train, quick(**overrides)).embed_image(train.images) for _ in range(2))
    other = compose.fit(train, quick(seed=1, **overrides)).embed_image(train.images)
    assert torch.equal(one, two)
    assert not torch.allclose(one, other, atol=0.01)


def test_every_setting_reaches_what_it_sets(train):
    rows = train[:96]
    default = compose.fit(rows, quick()).embed_query(rows.images[rows.source], rows.modification)
    for change in [
        {"composer": "AttributeAsOperator"}, {"dim": 12}, {"width": 6}, {"grid": 2}, {"text": "lstm"}, {"text": "bag"},
        {"word_dim": 6}, {"text_dim": 6}, {"scale": 2.0}, {"loss": "soft_triplet"}, {"share": 1}, {"batch_size": 24},
        {"lr": 1e-3},
        {"optimizer": "sgd"}, {"schedule": "constant"}, {"body_lr": 0.1}, {"weight_decay": 0.3}, {"epochs": 3},
        {"precision": "bfloat16"}, {"dropout": 0.4},
    ]:  # fmt: skip
        found = compose.fit(rows, quick(**change)).embed_query(rows.images[rows.source], rows.modification)
        assert found.shape != default.shape or not torch.equal(found, default), change
    one, two = (quick(loss="soft_triplet", form=form) for form in ("paper", "release"))
    assert not torch.equal(*(compose.fit(rows, config).embed_image(rows.images) for config in (one, two)))
    step = [quick(schedule="step", decay_every=steps, epochs=3) for steps in (1, 100)]
    assert not torch.equal(*(compose.fit(rows, config).embed_image(rows.images) for config in step))
    assert compose.build(rows, quick(composer="AttributeAsOperator", rank=3)).composer.config["rank"] == 3
    assert compose.build(rows, quick(composer="Relationship", cells=2)).composer.cells == 2
    assert compose.build(rows, quick(image="resnet18")).image_encoder.config["name"] == "resnet18"


@pytest.mark.parametrize("composer", sorted(COMPOSERS))
@pytest.mark.parametrize("image", ["small", "resnet18"])
def test_every_composer_gets_what_it_reads(train, composer, image):
    config = quick(composer=composer, image=image, dim=12, word_dim=10)
    model = compose.build(train[:8], config)
    found = model.losses(torch.from_numpy(np.asarray(train.images[:4])), train.modification[:4], train.images[4:8])
    found["loss"].backward()
    assert found["loss"].isfinite()
    assert model.composer.config["composer"] == composer
    if composer == "FiLM":
        assert model.composer.channels == list(model.image_encoder.channels)


def test_tirg_s_settings_reach_it(train):
    given = {"at": "conv", "weights": (1.0, 10.0), "form": "release", "parts": "gate"}
    model = compose.build(train, quick(composer="TIRG", **given))
    assert {name: model.composer.config[name] for name in given} == given | {"weights": [1.0, 10.0]}
    assert model.settings["form"] == "release"


class Drawn(DrawnQueries):
    """Half of the queries, others in every epoch."""

    def __init__(self, queries):
        self.queries, self.images, self.texts, self.asked = queries, queries.images, queries.modification, []

    def __len__(self):
        return len(self.queries) // 2

    def draw(self, seed, epoch):
        self.asked.append((seed, epoch))
        rows = torch.randperm(len(self.queries), generator=torch.Generator().manual_seed(100 * seed + epoch))
        return self.queries[rows[: len(self)]]


def test_drawn_queries_are_drawn_once_an_epoch(train, test):
    drawn = Drawn(train)
    model = compose.fit(drawn, quick(seed=3, epochs=30, composer="TIRG"))
    assert drawn.asked == [(3, epoch) for epoch in range(30)]
    assert set(model.text_encoder.config["vocabulary"]["words"]) == {"make", "it", *COLOURS}
    assert compose.evaluate(model, test)["R@1"] > 0.6


def test_types_of_sources_count_alike(train, test):
    model = compose.fit(train, quick(epochs=1))
    kind = ["often"] * 60 + ["seldom"] * 4
    typed = replace(Typed(**{f.name: getattr(test, f.name) for f in fields(test)}), kind=kind)
    found = compose.evaluate(model, typed)
    seldom = torch.tensor([kind[i] == "seldom" for i in test.source.tolist()])
    parts = [compose.evaluate(model, test[rows]) for rows in (seldom, ~seldom)]
    for measure in ("R@1", "R@5", "R@10", "mAP"):
        assert found[f"macro {measure}"] == pytest.approx((parts[0][measure] + parts[1][measure]) / 2)
    assert not any(name.startswith("macro") for name in parts[0])


@dataclass(frozen=True, eq=False)
class Typed(Blocks):
    kind: list | None = field(default=None, metadata={"of_images": True})
    exclude_source = True


@dataclass(frozen=True, eq=False)
class WithSource(Blocks):
    exclude_source = False


def test_several_galleries_are_averaged(train, test):
    model = compose.fit(train, quick(epochs=1))
    found = compose.evaluate(model, {"odd": test[1::2], "even": test[:100:2]})
    for name, part in [("odd", test[1::2]), ("even", test[:100:2])]:
        assert (
            compose.evaluate(model, part).items()
            <= {m.removeprefix(f"{name}/"): value for m, value in found.items() if m.startswith(f"{name}/")}.items()
        )
    assert found["R@10"] == pytest.approx((found["odd/R@10"] + found["even/R@10"]) / 2)
    assert found["odd/R@10"] != found["even/R@10"]


def test_a_protocol_may_leave_the_source_in_its_gallery(train, test):
    model = compose.fit(train, quick(composer="ImageOnly", epochs=1))
    assert compose.evaluate(model, test)["R@1"] > 0
    left_in = WithSource(**{f.name: getattr(test, f.name) for f in fields(test)})
    found = compose.evaluate(model, left_in)
    assert found["R@1"] == 0  # the source itself is the nearest
    assert found["changed"] == 0


def test_the_image_encoder_has_a_learning_rate_of_its_own(train):
    model = compose.build(train, quick())
    for name, kind in [("sgd", torch.optim.SGD), ("adam", torch.optim.AdamW)]:
        optimizer = compose.make_optimizer(model, quick(optimizer=name, body_lr=0.1, lr=0.5, weight_decay=0.2))
        assert type(optimizer) is kind
        lr = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert {lr[id(p)] for p in model.image_encoder.parameters()} == {0.05}
        assert {lr[id(p)] for p in model.image_head.parameters()} == {0.5}
        assert len(lr) == len(list(model.parameters()))
        assert {group["weight_decay"] for group in optimizer.param_groups} == {0.2}


@pytest.mark.parametrize("steps", range(1, 13))
def test_short_runs_have_a_schedule_too(steps):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], 0.1)
    scheduler = compose.make_scheduler(optimizer, quick(schedule="one_cycle"), steps)
    for _ in range(steps):
        assert 0 < optimizer.param_groups[0]["lr"] <= 0.1
        optimizer.step()
        scheduler.step()


def test_a_stopped_run_goes_on_to_the_same_weights(train, test, tmp_path, monkeypatch):
    """Stopped in the middle of the second epoch, by an error in place of a kill."""
    config = quick(epochs=3, loss="soft_triplet", form="release")
    whole = compose.fit(train, config, test, output=tmp_path / "whole", checkpoint_every=1)
    left, losses = [8], ComposedRetrieval.losses

    def power(self, *arguments, **rest):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return losses(self, *arguments, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(ComposedRetrieval, "losses", power)
        with pytest.raises(KeyboardInterrupt):
            compose.fit(train, config, test, output=tmp_path / "stopped", checkpoint_every=1)
    resumed = compose.fit(train, config, test, output=tmp_path / "stopped", checkpoint_every=1)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    with pytest.raises(ValueError, match="holds a run with other arguments"):
        compose.fit(train, quick(epochs=3, share=1), test, output=tmp_path / "stopped", checkpoint_every=1)


def test_validation_chooses_the_epoch(train, test, monkeypatch):
    seen, evaluate = [], compose.evaluate

    def note(model, queries):
        found = evaluate(model, queries)
        seen.append(found["R@1"] + found["R@5"] + found["R@10"])
        return found

    monkeypatch.setattr(compose, "evaluate", note)
    model = compose.fit(train, quick(epochs=6, schedule="constant", lr=0.1), test)
    assert len(seen) == 6
    found = evaluate(model, test)
    assert found["R@1"] + found["R@5"] + found["R@10"] == max(seen) > min(seen)


def test_a_run_writes_its_report_and_its_model(train, test, cache, monkeypatch):
    splits = compose_data.QuerySplits(train, test, test)
    monkeypatch.setitem(compose_data._LOADERS, "blocks", lambda seed, size: splits)
    report = compose.run(quick(data="blocks", epochs=2))
    written = json.loads(report.path.read_text())
    assert written["recipe"] == "compose"
    assert written["metrics"] == report.metrics
    assert written["config"]["composer"] == "Concat"
    assert report.path.is_relative_to(cache)
    loaded = ComposedRetrieval.load(report.path.parent / "model")
    assert compose.evaluate(loaded, test) == pytest.approx(report.metrics, abs=1e-5)
    assert compose.run(quick(data="blocks", epochs=2)).metrics == report.metrics
    assert find_report("compose", quick(data="blocks", epochs=2, seed=1)) is None
    assert compose.run(quick(data="blocks", epochs=2, seed=1)).path != report.path
    found = find_report("compose", quick(data="blocks", epochs=2))
    assert (found.metrics, found.path) == (report.metrics, report.path)
    report.path.write_text("{")
    assert find_report("compose", quick(data="blocks", epochs=2)) is None


# ---- settings -------------------------------------------------------------------------------------------------------


def test_the_shell_and_the_profiles(monkeypatch, capsys):
    config = parse(compose.Config, ["--profile", "paper", "--data", "scenes", "--composer", "TextOnly", "--lr", "0.02"])
    assert (config.loss, config.optimizer, config.image, config.grid) == ("soft_triplet", "sgd", "resnet18", 1)
    assert (config.composer, config.lr, config.dim, config.batch_size) == ("TextOnly", 0.02, 512, 32)
    monkeypatch.setattr("sys.argv", ["compose", "--data", "scene"])
    with pytest.raises(SystemExit):
        main(compose.Config, compose.run)
    assert "no data set of composed queries is called 'scene'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"composer": "Sum"}, "composer must be one of ImageOnly, TextOnly, Concat"),
        ({"batch_size": 50, "share": 4}, "batch_size=50 must be a multiple of share=4"),
        ({"decay_every": 0}, "decay_every is a number of steps, at least 1; got 0"),
        ({"share": 0}, "must be a multiple of share=0, which is >= 1"),
        ({"text": "words"}, "text must be one of"),
        ({"composr": "Concat"}, "did you mean 'composer'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        quick(**overrides)


def test_the_vocabulary_is_that_of_the_training_sentences(train):
    model = compose.build(train, quick())
    assert set(model.text_encoder.config["vocabulary"]["words"]) == {"make", "it", *COLOURS}
    assert isinstance(model.image_encoder, SmallConvNet)
