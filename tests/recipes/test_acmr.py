"""The recipe, small: it learns, repeats, resumes, reports; reversal takes the modality out; two processes equal one."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from commonspace.data import PairedFeatures, PairedSamples, digits_halves
from commonspace.recipes import acmr, common_space, datasets
from commonspace.recipes.shell import main, parse

SCRIPT = Path(__file__).parent / "acmr_two_processes.py"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path))
    return tmp_path


def quick(**overrides) -> acmr.Config:
    return acmr.Config.profile("lesson", **({"data": "digits", "epochs": 3, "hidden": (32,), "lr": 1e-3} | overrides))


@pytest.fixture(scope="module")
def digits():
    return digits_halves(1000, seed=0)


def offset_pairs(seed: int, n: int = 400) -> PairedFeatures:
    """Four classes; images and texts are unlike mixtures of what they share, far apart, with noise of their own."""
    fixed = torch.Generator().manual_seed(99)
    centres, mixes = 2 * torch.randn(4, 5, generator=fixed), torch.randn(2, 5, 10, generator=fixed)
    rng = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 4, (n,), generator=rng)
    hidden = centres[label] + 0.7 * torch.randn(n, 5, generator=rng)
    image, text = (hidden @ mix + 0.3 * torch.randn(n, 10, generator=rng) for mix in mixes)
    return PairedFeatures(image + 5, text - 5, label, ["a", "b", "c", "d"])


def test_it_learns_the_classes_and_of_shuffled_labels_it_learns_nothing(digits):
    train, test = digits
    config = quick(epochs=8, hidden=(64,), dim=8)
    found = acmr.evaluate(acmr.fit(train, config), test)
    assert found.keys() == {
        f"{way}/{name}" for way in ("i2t", "t2i") for name in ("R@1", "R@5", "R@10", "median_rank", "mAP")
    } | {"modality_probe"}
    assert found["i2t/mAP"] > 0.4  # chance is about 0.11
    assert found["t2i/mAP"] > 0.4
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    shuffled = acmr.fit(replace(train, label=train.label[order]), config)
    assert common_space.class_map(shuffled, test) < 0.25  # pairs stay pairs, so a little is left


def test_reversal_takes_the_modality_out_of_the_codes_and_the_released_graph_does_not():
    """A classifier trained afresh says so, which the projectors never played against; the classes stay."""
    train, test = offset_pairs(0), offset_pairs(1)
    settings = {"epochs": 20, "dim": 8, "dropout": 0.0, "triplet_weight": 0.0, "batch_size": 64}
    settings |= {"classifier_steps": 3, "projector_steps": 1, "adversarial_weight": 10.0, "gradient_penalty": 0.1}
    found = {}
    for name, change in [("on", {}), ("off", {"adversarial_weight": 0.0}), ("as released", {"as_released": True})]:
        found[name] = acmr.evaluate(acmr.fit(train, quick(**(settings | change))), test)
    assert found["on"]["modality_probe"] < 0.8
    assert found["off"]["modality_probe"] > 0.9
    assert found["as released"]["modality_probe"] > 0.9
    assert found["on"]["i2t/mAP"] > found["off"]["i2t/mAP"] - 0.06


@pytest.mark.parametrize("overrides", [{}, {"dropout": 0.0, "mining": "hardest"}, {"as_released": True}])
def test_the_same_seed_gives_the_same_model(overrides):
    train = offset_pairs(0)
    one, two = (acmr.fit(train, quick(**overrides)).embed_image(train.image) for _ in range(2))
    other = acmr.fit(train, quick(seed=1, **overrides)).embed_image(train.image)
    assert torch.equal(one, two)
    assert not torch.allclose(one, other, atol=0.01)


def test_every_setting_reaches_what_it_sets():
    train = offset_pairs(0)
    default = acmr.fit(train, quick(epochs=2)).embed_image(train.image)
    for change in [
        {"dropout": 0.4}, {"weight_decay": 0.3}, {"classifier_lr": 1e-2}, {"projector_steps": 2},
        {"classifier_steps": 1}, {"gradient_penalty": 2.0}, {"triplet_weight": 0.5}, {"label_weight": 0.5},
        {"adversarial_weight": 1.0}, {"margin": 2.0}, {"gamma": 0.5}, {"form": "relative"}, {"mining": "hardest"},
        {"same_modality": True}, {"as_released": True}, {"activation": "tanh"}, {"final_activation": "none"},
        {"precision": "bfloat16"}, {"lr": 2e-3}, {"batch_size": 50},
    ]:  # fmt: skip
        assert not torch.equal(acmr.fit(train, quick(epochs=2, **change)).embed_image(train.image), default), change
    model = acmr.build(replace(train, image=train.image.abs()), quick(dim=5, hidden=(7, 6), power=0.5))
    assert model.image_encoder.parts[1].config["sizes"] == [10, 7, 6, 5]
    assert model.text_encoder.parts[1].config["sizes"] == [10, 7, 6, 5]
    assert (model.image_encoder.parts[0].power, model.text_encoder.parts[0].power) == (0.5, 1.0)


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    """Stopped in the middle of the second epoch, by an error in place of a kill."""
    train, validation = offset_pairs(0)[:200], offset_pairs(1)[:100]
    config = quick(epochs=3)
    whole = acmr.fit(train, config, validation, output=tmp_path / "whole", checkpoint_every=1)

    class Power:
        """Goes out after four batches."""

        def __init__(self):
            self.left = 4 * (config.classifier_steps + config.projector_steps)

        def __call__(self, *arguments):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return of_the_pairs(*arguments)

    of_the_pairs = common_space.batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common_space, "batch", Power())
        with pytest.raises(KeyboardInterrupt):
            acmr.fit(train, config, validation, output=tmp_path / "stopped", checkpoint_every=1)
    resumed = acmr.fit(train, config, validation, output=tmp_path / "stopped", checkpoint_every=1)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    with pytest.raises(ValueError, match="holds a run with other arguments"):
        acmr.fit(train, quick(epochs=3, margin=0.5), validation, output=tmp_path / "stopped", checkpoint_every=1)


def test_validation_chooses_the_epoch_with_the_highest_class_map():
    train, validation = offset_pairs(0)[:120], offset_pairs(1)[:80]
    config = quick(epochs=5, lr=0.03, adversarial_weight=100.0)  # as it grows, such a weight drowns the labels
    model = acmr.fit(train, config, validation)
    seen, judge = [], common_space.class_map

    def note(module, pairs):
        seen.append(judge(module, pairs))
        return len(seen)  # chooses the last epoch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common_space, "class_map", note)
        last = acmr.fit(train, config, validation)
    assert len(seen) == 5
    assert max(seen) > seen[-1] + 0.05
    assert judge(model, validation) == pytest.approx(max(seen), abs=1e-6)
    assert judge(last, validation) == pytest.approx(seen[-1], abs=1e-6)


def test_a_run_writes_its_report_and_its_model_and_a_second_one_resumes(cache):
    config = quick(epochs=2)
    report = acmr.run(config)
    written = json.loads(report.path.read_text())
    assert written["recipe"] == "acmr"
    assert written["metrics"] == report.metrics
    assert written["config"]["epochs"] == 2
    assert {"command", "date", "torch", "machine", "seconds"} <= written["provenance"].keys()
    assert report.path.is_relative_to(cache)
    loaded = acmr.ACMR.load(report.path.parent / "model")
    test = datasets.load("digits").test
    assert acmr.evaluate(loaded, test) == pytest.approx(report.metrics, abs=1e-5)
    assert acmr.run(config).metrics == report.metrics
    assert acmr.run(quick(epochs=2, seed=1)).path != report.path


def test_several_labels_a_pair():
    together = torch.tensor([[True, False, False], [False, True, False], [False, False, True], [True, True, False]])
    several = [PairedFeatures(p.image, p.text, together[p.label], ["x", "y", "z"]) for p in map(offset_pairs, (0, 1))]
    several[0].label[:5] = False  # pairs without a label train nothing, and do no harm
    model = acmr.fit(several[0], quick(epochs=8), several[1])
    found = acmr.evaluate(model, several[1])
    untrained = acmr.evaluate(acmr.build(several[0], quick()), several[1])
    assert found["i2t/mAP"] > untrained["i2t/mAP"] + 0.15
    assert model.label_predictor.out_features == 3


def pictures_and_texts() -> PairedSamples:
    rng = torch.Generator().manual_seed(0)
    kind = torch.arange(64) % 4
    images = torch.randint(0, 40, (64, 3, 16, 16), dtype=torch.uint8, generator=rng) + (kind * 50)[:, None, None, None]
    texts = [f"{('black', 'grey', 'light', 'white')[k]} shirt {i}" for i, k in enumerate(kind)]
    return PairedSamples(images.to(torch.uint8), texts, kind, ["0", "1", "2", "3"])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_pictures_and_texts_train_end_to_end(precision):
    pairs = pictures_and_texts()
    config = quick(epochs=15, batch_size=32, dim=4, hidden=(8,), width=4, min_count=2, lr=1e-2, precision=precision)
    model = acmr.fit(pairs, config)
    found = acmr.evaluate(model, pairs)
    assert found["i2t/mAP"] > 0.6  # the four kinds are told apart; chance is about 0.27
    assert found["t2i/mAP"] > 0.6
    assert model.embed_text(["a white shirt"]).shape == (1, 4)


def test_pairs_without_labels_are_refused(digits):
    train, _ = digits
    bare = replace(train, label=None, classes=None)
    with pytest.raises(ValueError, match="ACMR learns from classes, but the training pairs have no label"):
        acmr.fit(bare, quick())
    with pytest.raises(ValueError, match="the validation pairs have no label"):
        acmr.fit(train, quick(), bare)


def test_the_shell_reads_profile_data_and_fields():
    arguments = ["--profile", "paper", "--data", "emoji", "--lr", "1e-4", "--hidden", "8", "4", "--mining", "hardest"]
    expected = acmr.Config.profile("paper", data="emoji", lr=1e-4, hidden=(8, 4), mining="hardest")
    assert parse(acmr.Config, arguments) == expected
    assert parse(acmr.Config, []) == acmr.Config.profile("lesson")
    for name in acmr.Config.profiles:
        size, _, data = name.partition("/")
        acmr.Config.profile(size, **({"data": data} if data else {}))
        assert not data or data in datasets.names()


def test_the_command_runs():
    command = [sys.executable, "-m", "commonspace.recipes.acmr", "--data", "digits", "--epochs", "1", "--hidden", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "modality_probe" in done.stdout
    assert "$COMMONSPACE_CACHE/runs/acmr/" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, ["--adversarial-weight", "the paper's k", "multiplies the schedule", "one of: lesson, paper"]),
        (["--data", "wikipedia"], 2, ["error:", "python data_scripts/get_wikipedia.py"]),
        (["--profile", "papper"], 2, ["error: no profile is called 'papper'", "did you mean 'paper'"]),
    ],
)
def test_the_shell_helps_and_says_what_is_wrong(monkeypatch, capsys, arguments, code, words):
    monkeypatch.delenv("COMMONSPACE_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["acmr", *arguments])
    with pytest.raises(SystemExit) as end:
        main(acmr.Config, acmr.run)
    assert end.value.code == code
    told = capsys.readouterr()
    shown = " ".join((told.err if code else told.out).replace("│", " ").split())
    assert all(word in shown for word in words), shown


# ---- two processes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["integers", "booleans", "hardest", "as released"])
def test_gradients_of_two_processes_are_those_of_the_whole_batch(alone, both, kind):
    expected = alone.gradients(kind)
    assert max(grad.abs().max() for grad in expected.values()) > 0.01
    for found in both:
        assert found[kind].keys() == expected.keys()
        for name, grad in expected.items():
            torch.testing.assert_close(found[kind][name], grad, rtol=1e-5, atol=2e-6, msg=name)


def test_triplets_of_each_process_alone_are_another_loss(alone, both):
    expected = alone.gradients("integers")
    name = "image_encoder.parts.1.layers.0.weight"
    assert (both[0]["not gathered"][name] - expected[name]).abs().max() > 1e-3


def test_two_processes_train_the_model_that_one_trains(alone, both):
    for several in (False, True):
        expected = alone.trained(several)
        start = alone.acmr.build(alone.pairs(several), alone.config()).state_dict()
        assert any((expected[name] - start[name]).abs().max() > 1e-3 for name in expected)
        for found in both:
            for name, weight in expected.items():
                torch.testing.assert_close(found["trained"][several][name], weight, rtol=0, atol=2e-5, msg=name)
    for name, weight in both[0]["bfloat16"].items():
        assert weight.isfinite().all(), name
        assert torch.equal(weight, both[1]["bfloat16"][name])
