"""The comparison on unseen classes: protocols against direct calls, intervals against scipy, pairs kept together."""

import json
import subprocess
import sys
from statistics import fmean

import pytest
import torch
from scipy import stats

from commonspace.data import ClassSplit, ExtendableSplit, PairedFeatures, extendable
from commonspace.metrics import chance_map, mean_average_precision
from commonspace.models import CCA, SemanticMatching
from commonspace.recipes import common_space
from commonspace.recipes import extendable as recipe

CLASSES = [f"kind {i}" for i in range(6)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path))
    return tmp_path


def pairs(n: int, seed: int, noise: float = 0.4) -> PairedFeatures:
    """Two views of what a class is like: 5 hidden numbers, seen through two fixed random matrices."""
    fixed = torch.Generator().manual_seed(99)
    kind, to_image, to_text = (torch.randn(shape, generator=fixed) for shape in [(6, 5), (5, 8), (5, 7)])
    rng = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % 6
    hidden = kind[label] + noise * torch.randn(n, 5, generator=rng)
    image = hidden @ to_image + 0.1 * torch.randn(n, 8, generator=rng)
    return PairedFeatures(image, hidden @ to_text + 0.1 * torch.randn(n, 7, generator=rng), label, CLASSES)


def split_of(seen: tuple[int, ...], seed: int = 0) -> ExtendableSplit:
    unseen = [name for i, name in enumerate(CLASSES) if i not in seen]
    split = ClassSplit([CLASSES[i] for i in seen], unseen)
    return extendable(pairs(180, seed), pairs(60, seed + 50), split, pairs(60, seed + 90))


class Tiny:
    """A `Source` of such pairs, which counts how often it is asked."""

    asked: list = []  # noqa: RUF012

    def __init__(self, data):
        Tiny.asked = [data]

    def splits(self, kind, n):
        return [((0, 1, 2), seed) for seed in range(n)] if kind == "fixed" else [((1, 3, 5), 0), ((0, 2, 4), 0)][:n]

    def split(self, split, seed=0):
        Tiny.asked.append((split, seed))
        return split_of(split, seed)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(recipe, "Source", Tiny)
    words = {name: torch.randn(16, generator=torch.Generator().manual_seed(i)) for i, name in enumerate(CLASSES)}

    def vectors(classes, permute=False, seed=0):
        found = torch.stack([words[name] for name in classes])
        return found.roll(1, dims=0) if permute else found

    monkeypatch.setattr(common_space, "class_embeddings", vectors)
    return Tiny


def test_evaluate_equals_direct_calls_on_each_gallery():
    made = split_of((0, 1, 2))
    model = CCA(4, 0.1).fit(made.train.image, made.train.text)
    found = recipe.evaluate(model, made)

    def by_loop(query, gallery, labels, items):
        """mAP and its mean over classes, from every query's own average precision."""
        cosine = torch.nn.functional.cosine_similarity(query[:, None], gallery[None], dim=2)
        single = [mean_average_precision(cosine[i : i + 1], (labels[i] == items)[None]) for i in range(len(query))]
        of_class = [fmean(s for s, c in zip(single, labels, strict=True) if c == k) for k in labels.unique()]
        return fmean(single), fmean(of_class)

    for name, asked, items in [
        ("seen", made.seen, made.seen),
        ("unseen", made.unseen, made.unseen),
        ("generalised", made.unseen, made.gallery),
    ]:
        ways = [
            by_loop(model.embed_image(asked.image), model.embed_text(items.text), asked.label, items.label),
            by_loop(model.embed_text(asked.text), model.embed_image(items.image), asked.label, items.label),
        ]
        assert found[f"{name}/mAP"] == pytest.approx(fmean(way[0] for way in ways), abs=1e-6)
        assert found[f"{name}/macro mAP"] == pytest.approx(fmean(way[1] for way in ways), abs=1e-6)
    assert found["generalised/mAP"] < found["unseen/mAP"], "seen items stand in the way"


def test_without_a_model_it_is_chance():
    made = split_of((1, 4, 5))
    found = recipe.evaluate(None, made)
    asked, items = made.unseen.label, made.gallery.label
    assert found["generalised/mAP"] == chance_map(asked, items)
    assert found["generalised/macro mAP"] == chance_map(asked, items, macro=True)
    rng = torch.Generator().manual_seed(0)
    same = asked[:, None] == items
    drawn = [mean_average_precision(torch.rand(same.shape, generator=rng), same) for _ in range(40)]
    assert found["generalised/mAP"] == pytest.approx(fmean(drawn), abs=0.01)


@pytest.mark.parametrize("n", [2, 3, 20])
def test_the_interval_is_students(n):
    values = torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64).tolist()
    mean, half = recipe.interval(values)
    low, high = stats.t.interval(0.95, n - 1, loc=fmean(values), scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    with pytest.raises(ValueError, match="at least 2 numbers, got 1"):
        recipe.interval(values[:1])


@pytest.mark.parametrize("method", ["CCA", "SCM"])
def test_cca_and_scm_take_the_ridge_that_is_best_on_seen_validation_pairs(method):
    made = split_of((0, 2, 4))
    model = recipe.fit(method, made)
    values = []
    for k in (6,):  # of 7 text columns; 7, 32 and 96 are too many
        for ridge in (1e-3, 1e-2, 1e-1, 1.0, 10.0):
            if method == "CCA":
                other = CCA(k, ridge, correlation_power=1).fit(made.train.image, made.train.text)
            else:
                other = SemanticMatching(k, C=1.0, regularization=ridge)
                other.fit(made.train.image, made.train.text, made.train.label)
            values.append(common_space.class_map(other, made.validation))
    assert common_space.class_map(model, made.validation) == pytest.approx(max(values))


def test_compare_pairs_up_methods_and_splits(tiny):
    config = recipe.Config(data="wikipedia", splits="random", n=2, methods=("chance", "CCA", "SAE"))
    found = recipe.compare(config)
    assert tiny.asked == ["wikipedia", ((1, 3, 5), 0), ((0, 2, 4), 0)], "each split is made once, for all methods"
    assert list(found) == ["chance", "CCA", "SAE"]
    for i, seen in enumerate([(1, 3, 5), (0, 2, 4)]):
        made = split_of(seen)
        assert found["chance"][i] == recipe.evaluate(None, made)
        assert found["CCA"][i] == pytest.approx(recipe.evaluate(recipe.fit("CCA", made), made))
        assert found["SAE"][i]["seen/mAP"] > found["chance"][i]["seen/mAP"] + 0.2
        assert found["SAE"][i]["unseen/mAP"] > found["chance"][i]["unseen/mAP"]


def test_variants_are_methods_with_overrides_and_the_seed_reaches_them(tiny):
    config = recipe.Config(data="wikipedia", n=2)
    few = {"epochs": 3, "hidden": (16,)}
    variants = {
        "MASLN": ("MASLN", few),
        "no label": ("MASLN", few | {"label_weight": 0.0}),
        "ACMR": ("ACMR", few | {"power": 1.0}),
        "chance": ("chance", {}),
    }
    found = recipe.compare(config, variants)
    assert list(found) == list(variants)
    assert tiny.asked[1:] == [((0, 1, 2), 0), ((0, 1, 2), 1)]
    made = split_of((0, 1, 2), 1)
    again = recipe.fit("MASLN", made, seed=1, data="wikipedia", **few)
    assert recipe.evaluate(again, made) == pytest.approx(found["MASLN"][1])
    assert found["no label"][1] != found["MASLN"][1]


def test_settings_of_a_data_set_are_used_and_can_be_overridden(tiny, monkeypatch):
    taken = []
    monkeypatch.setattr(recipe.masln, "fit", lambda train, config, validation: taken.append(config))
    recipe.fit("MASLN", split_of((0, 1, 2)), data="emoji")
    recipe.fit("MASLN", split_of((0, 1, 2)), data="emoji", lr=0.5, seed=3)
    settings = recipe.SETTINGS["MASLN", "emoji"]
    assert {name: getattr(taken[0], name) for name in settings} == settings
    assert (taken[1].lr, taken[1].seed, taken[1].batch_size) == (0.5, 3, settings["batch_size"])


def test_a_run_writes_means_intervals_and_differences_to_cca(tiny, cache):
    config = recipe.Config(data="wikipedia", n=3, methods=("chance", "CCA", "SAE"))
    report = recipe.run(config)
    assert report.path.is_relative_to(cache)
    assert json.loads(report.path.read_text())["metrics"] == report.metrics
    found = recipe.compare(config)
    ours, theirs = ([run["unseen/mAP"] for run in found[name]] for name in ("SAE", "CCA"))
    paired = [a - b for a, b in zip(ours, theirs, strict=True)]
    assert report.metrics["SAE/unseen/mAP"] == pytest.approx(fmean(ours))
    assert report.metrics["SAE/unseen/mAP ±"] == pytest.approx(recipe.interval(ours)[1])
    assert report.metrics["SAE - CCA/unseen/mAP"] == pytest.approx(fmean(paired))
    assert report.metrics["SAE - CCA/unseen/mAP ±"] == pytest.approx(recipe.interval(paired)[1])
    assert not any(name.startswith(("CCA - CCA", "chance - CCA")) for name in report.metrics)
    single = recipe.run(recipe.Config(data="wikipedia", n=1, methods=("chance", "CCA")))
    assert not any("±" in name for name in single.metrics), "one split has no interval"


def test_bad_input_says_what_is_there():
    with pytest.raises(ValueError, match=r"set up for wikipedia, emoji, fashion-products; got 'digits'"):
        recipe.Source("digits")
    with pytest.raises(ValueError, match=r"one of CCA, SCM, SAE, ACMR, MASLN; got 'PCA'"):
        recipe.fit("PCA", split_of((0, 1, 2)))


def test_an_unknown_method_is_refused_before_anything_is_loaded(tiny):
    tiny.asked = []
    with pytest.raises(ValueError, match=r"one of chance, CCA, SCM, SAE, ACMR, MASLN; got PCA"):
        recipe.compare(recipe.Config(methods=("CCA", "PCA")))
    with pytest.raises(ValueError, match="got LDA"):
        recipe.compare(recipe.Config(), {"mine": ("LDA", {})})
    assert tiny.asked == []


def test_the_command_ends_with_one_line_for_data_it_is_not_set_up_for(cache):
    command = [sys.executable, "-m", "commonspace.recipes.extendable", "--data", "digits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "set up for wikipedia" in done.stderr
    assert "Traceback" not in done.stderr


def test_on_real_emoji_every_part_is_of_its_classes_and_labels_help_on_unseen_ones():
    source = recipe.Source("emoji")
    with pytest.raises(ValueError, match="20 random splits are published, n=21"):
        source.splits("random", 21)
    assert len({split.unseen for split, _ in source.splits("random", 20)}) == 20
    ((split, seed),) = source.splits("fixed", 1)
    made = source.split(split, seed)
    assert made.train.classes == list(split.seen)
    assert made.gallery.classes == [*split.seen, *split.unseen]
    assert made.unseen.label.min() >= len(split.seen) > made.train.label.max()
    assert made.train.image.shape[1] == made.unseen.image.shape[1]
    chance, linear, sae = (
        recipe.evaluate(model, made) for model in (None, *(recipe.fit(m, made, data="emoji") for m in ("CCA", "SAE")))
    )
    assert sae["seen/mAP"] > linear["seen/mAP"] + 0.04
    assert sae["unseen/mAP"] > 1.5 * chance["unseen/mAP"]
    assert linear["unseen/mAP"] > 1.5 * chance["unseen/mAP"]
