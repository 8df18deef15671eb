"""The recipe tirg: its profiles, and every composer and every paper's data set from files to a report."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from commonspace.models import COMPOSERS, TIRG, ComposedRetrieval
from commonspace.recipes import compose_data, tirg
from commonspace.recipes.shell import parse

spec = importlib.util.spec_from_file_location("written", Path(__file__).parents[1] / "data" / "conftest.py")
written = importlib.util.module_from_spec(spec)
spec.loader.exec_module(written)

PAPERS = {
    "css": ("css", written.write_css),
    "mit-states": ("mit-states", written.write_mit_states),
    "fashion200k": ("fashion200k", written.write_fashion200k),
} | {
    f"fashion-iq-{protocol}": ("fashion-iq", written.write_fashion_iq)
    for protocol in ("original", "original-excluded", "cosmo", "union")
}
SMALL = {"size": 16, "dim": 8, "width": 4, "word_dim": 6, "epochs": 2, "share": 2, "batch_size": 4, "image": "small"}
SMALL |= {"device": "cpu"}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """A folder for data, and one for what is kept."""
    monkeypatch.setenv("COMMONSPACE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("data", sorted(PAPERS))
def test_it_runs_on_every_paper_s_data_set(data, folders):
    folder, write = PAPERS[data]
    write(folders / "data" / folder)
    config = tirg.Config.profile("paper", data=data, **SMALL | {"at": "conv"})
    report = tirg.run(config)
    assert report.path.is_relative_to(folders / "cache" / "runs" / "tirg")
    content = json.loads(report.path.read_text())
    assert content["config"]["data"] == data
    assert 0 <= report.metrics["R@10"] <= 1
    if data == "fashion-iq-original":
        parts = [report.metrics[f"{category}/R@10"] for category in ("dress", "shirt", "toptee")]
        assert report.metrics["R@10"] == pytest.approx(sum(parts) / 3)
    model = ComposedRetrieval.load(report.path.parent / "model")
    assert isinstance(model.composer, TIRG)
    assert model.settings["loss"] == ("soft_triplet" if data in ("css", "mit-states") else "batch_softmax")
    found = tirg.evaluate(model, compose_data.load(data, 0, 16).test)
    assert found == pytest.approx(report.metrics, abs=1e-5)


@pytest.mark.parametrize("composer", sorted(COMPOSERS))
@pytest.mark.parametrize("loss", ["batch_softmax", "soft_triplet"])
def test_every_composer_runs_with_both_losses(composer, loss, folders):
    written.write_mit_states(folders / "data" / "mit-states")
    config = tirg.Config.profile("lesson", data="mit-states", composer=composer, loss=loss, **SMALL)
    splits = compose_data.load("mit-states", 0, 16)
    model = tirg.fit(splits.train, config)
    before = tirg.build(splits.train, config)
    moved = {
        n: not torch.equal(p, q)
        for (n, p), (_, q) in zip(model.named_parameters(), before.named_parameters(), strict=True)
    }
    assert any(moved.values())
    assert moved["unit.scale"]
    assert 0 <= tirg.evaluate(model, splits.test)["R@1"] <= 1


def test_the_profiles_are_the_paper_s():
    paper = {data: tirg.Config.profile("paper", data=data) for data in (*PAPERS, "scenes-3d")}
    for data, config in paper.items():
        assert (config.image, config.text, config.dim, config.word_dim) == ("resnet18", "lstm", 512, 512)
        assert (config.optimizer, config.lr, config.batch_size, config.share) == ("sgd", 0.01, 32, 2)
        assert config.composer == "TIRG"
        assert config.weights == (1.0, 1.0)
        assert config.pretrained == (data != "scenes-3d")
        assert config.body_lr == (1.0 if data in ("css", "scenes-3d") else 0.1)
        assert config.loss == ("soft_triplet" if data in ("css", "scenes-3d", "mit-states") else "batch_softmax")
        assert config.weight_decay == (5e-5 if data == "mit-states" else 1e-6)
        assert config.schedule == ("constant" if data in ("css", "scenes-3d") else "step")
    assert paper["css"].size is None
    assert paper["mit-states"].size == 224
    config = parse(tirg.Config, ["--profile", "paper", "--data", "css", "--at", "conv", "--weights", "1", "10"])
    assert (config.at, config.weights, config.form) == ("conv", (1.0, 10.0), "paper")


def test_what_is_missing_names_its_command():
    for data, (folder, _) in PAPERS.items():
        with pytest.raises(FileNotFoundError, match=f"get_{folder.replace('-', '_')}.py"):
            compose_data.load(data)
