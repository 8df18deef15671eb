"""The recipe on real digits, small: it learns, repeats, resumes, reports; and its shell says what is wrong."""

import json
import subprocess
import sys

import pytest
import torch

from commonspace.data import PairedFeatures, PairedSamples, digits_halves
from commonspace.models import CCA
from commonspace.recipes import datasets, deep_cca
from commonspace.recipes.shell import parse


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path))
    return tmp_path


def quick(**overrides) -> deep_cca.Config:
    return deep_cca.Config.profile("lesson", **({"epochs": 6, "hidden": (64,), "n_components": 5} | overrides))


@pytest.fixture(scope="module")
def digits():
    return digits_halves(1000, seed=0)


def test_it_beats_linear_cca_on_new_pairs_and_shuffled_pairs_do_not(digits):
    train, test = digits
    config = quick(epochs=30, hidden=(256,))
    deep = deep_cca.evaluate(deep_cca.fit(train, config), test)
    linear = CCA(5, regularization=0.05, correlation_power=1).fit(train.image, train.text)
    assert deep["total_correlation"] > linear.score(test.image, test.text) + 0.5
    shuffled = PairedFeatures(train.image, train.text[torch.randperm(1000, generator=torch.Generator().manual_seed(0))])
    assert deep_cca.evaluate(deep_cca.fit(shuffled, config), test)["total_correlation"] < 1.0
    assert {"i2t/R@1", "t2i/R@10", "i2t/median_rank", "t2i/mAP", "total_correlation"} <= deep.keys()


@pytest.mark.parametrize("overrides", [{}, {"form": "frobenius"}, {"reconstruction": 0.01}, {"dropout": 0.2}])
def test_the_same_seed_gives_the_same_model(digits, overrides):
    train, test = digits
    one, two = (deep_cca.fit(train, quick(epochs=2, **overrides)).embed_image(test.image) for _ in range(2))
    other = deep_cca.fit(train, quick(epochs=2, seed=1, **overrides)).embed_image(test.image)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_validation_chooses_the_epoch_and_the_test_pairs_play_no_part(digits):
    train, _ = digits
    part, validation = train[:800], train[800:]
    model = deep_cca.fit(part, quick(epochs=4), validation)
    totals = []
    for epochs in (1, 2, 3, 4):
        totals.append(deep_cca.fit(part, quick(epochs=epochs)).score(validation.image, validation.text))
    assert model.score(validation.image, validation.text) == pytest.approx(max(totals), abs=1e-5)


def test_a_run_writes_its_report_and_its_model_and_a_second_one_resumes(cache):
    report = deep_cca.run(quick(epochs=2, data="digits"))
    written = json.loads(report.path.read_text())
    assert written["metrics"] == report.metrics
    assert written["config"]["epochs"] == 2
    assert {"command", "date", "torch", "machine", "seconds"} <= written["provenance"].keys()
    assert report.path.is_relative_to(cache)
    loaded = deep_cca.DeepCCA.load(report.path.parent / "model")
    test = datasets.load("digits").test
    assert loaded.score(test.image, test.text) == pytest.approx(report.metrics["total_correlation"], abs=1e-5)
    assert deep_cca.run(quick(epochs=2, data="digits")).metrics == report.metrics
    assert deep_cca.run(quick(epochs=2, data="digits", seed=1)).path != report.path


def test_pictures_and_texts_train_end_to_end():
    rng = torch.Generator().manual_seed(0)
    kind = torch.arange(64) % 4
    images = torch.randint(0, 40, (64, 3, 16, 16), dtype=torch.uint8, generator=rng) + (kind * 50)[:, None, None, None]
    texts = [f"{('black', 'grey', 'light', 'white')[k]} shirt {i}" for i, k in enumerate(kind)]
    pairs = PairedSamples(images.to(torch.uint8), texts, kind, ["0", "1", "2", "3"])
    config = quick(epochs=5, batch_size=32, n_components=2, hidden=(8,), width=4, min_count=2)
    found = deep_cca.evaluate(deep_cca.fit(pairs, config), pairs)
    assert found["total_correlation"] > 1.5
    assert found["i2t/mAP"] > 0.5  # the four kinds are told apart; chance is about 0.27
    with pytest.raises(ValueError, match="reconstruction needs feature rows"):
        deep_cca.fit(pairs, quick(reconstruction=0.1))


def test_features_of_pictures_and_texts_feed_the_linear_baseline():
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 24, 24), dtype=torch.uint8, generator=rng)
    texts = [f"word{i % 7} thing{i % 5} item{i % 3}" for i in range(60)]
    parts = [PairedSamples(images[a:b], texts[a:b]) for a, b in [(0, 40), (40, 60)]]
    features = datasets.as_features(datasets.Splits(parts[0], None, parts[1]), n_components=8)
    assert features.train.image.shape == (40, 8 + 64)
    assert features.test.text.shape == (20, 8)
    assert features.validation is None
    ready = datasets.load("digits")
    assert datasets.as_features(ready) is ready


def test_an_unknown_data_set_names_the_nearest():
    with pytest.raises(ValueError, match=r"no data set is called 'wikipdia'.*did you mean 'wikipedia'"):
        datasets.load("wikipdia")


def test_the_shell_reads_profile_data_and_fields():
    config = parse(deep_cca.Config, ["--profile", "paper", "--data", "wikipedia", "--lr", "1e-4", "--hidden", "8", "4"])
    assert config == deep_cca.Config.profile("paper", data="wikipedia", lr=1e-4, hidden=(8, 4))
    assert parse(deep_cca.Config, []) == deep_cca.Config.profile("lesson")


def test_the_command_runs_and_bad_settings_end_with_one_line(monkeypatch):
    monkeypatch.delenv("COMMONSPACE_DATA", raising=False)

    def shell(*arguments):
        command = [sys.executable, "-m", "commonspace.recipes.deep_cca", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = shell("--epochs", "1", "--hidden", "8")
    assert done.returncode == 0, done.stderr
    assert "total_correlation" in done.stdout
    assert "$COMMONSPACE_CACHE/runs/deep_cca/" in done.stdout
    for arguments, words in [
        (
            ["--profile", "papper"],
            "error: no profile is called 'papper'; there are lesson, paper; did you mean 'paper'",
        ),
        (["--data", "wikipedia"], "python data_scripts/get_wikipedia.py"),
    ]:
        wrong = shell(*arguments)
        assert wrong.returncode == 2
        assert words in wrong.stderr
        assert "Traceback" not in wrong.stderr


def test_two_processes_end_like_one(cache, tmp_path):
    """The same command under torchrun: the loss sees the whole batch, so the runs differ by rounding alone."""
    fields = ["--epochs", "2", "--hidden", "16", "--n-components", "3", "--device", "cpu"]
    numbers = []
    for name, launch in [("one", ["-m"]), ("two", ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"])]:
        command = [sys.executable, *launch, "commonspace.recipes.deep_cca", *fields, "--output", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("written to") == 1
        numbers.append(json.loads((tmp_path / name / "report.json").read_text())["metrics"]["total_correlation"])
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-3)
