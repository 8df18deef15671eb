"""The recipe composeae: its profiles, every paper's data set from files to a report, BERT, ablations, two processes."""

import ast
import importlib.util
import inspect
import json
import re
from dataclasses import asdict, fields, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from commonspace.data import ComposedQueries
from commonspace.encoders import Bert, Sequence
from commonspace.models import COMPOSERS, ComposeAE, ComposedRetrieval
from commonspace.recipes import compose, compose_data, composeae, tirg
from commonspace.recipes.config import BaseConfig
from commonspace.recipes.shell import main, parse

spec = importlib.util.spec_from_file_location("written", Path(__file__).parents[1] / "data" / "conftest.py")
written = importlib.util.module_from_spec(spec)
spec.loader.exec_module(written)

SCRIPT = Path(__file__).parent / "composeae_two_processes.py"
CAPTIONED = {
    "css": ("css", written.write_css),
    "mit-states": ("mit-states", written.write_mit_states),
    "fashion200k": ("fashion200k", written.write_fashion200k),
}
FASHION_IQ = [f"fashion-iq-{protocol}" for protocol in ("original", "original-excluded", "cosmo", "union")]
PAPERS = CAPTIONED | dict.fromkeys(FASHION_IQ, ("fashion-iq", written.write_fashion_iq))
SMALL = {"dim": 8, "width": 4, "word_dim": 6, "epochs": 2, "share": 2, "batch_size": 4, "device": "cpu"}
OF_FILES = SMALL | {"size": 16, "image": "small", "bert": "all-MiniLM-L6-v2", "epochs": 1, "batch_size": 8}
TERMS = ("symmetry", "image_recon", "text_recon")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """A folder for data, and one for what is kept."""
    monkeypatch.setenv("COMMONSPACE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="module")
def bert(alone, folder):
    """A small BERT of 12 numbers; there before two processes ask for it."""
    return alone.small_bert(folder / "bert")


@pytest.fixture(scope="module")
def queries(alone):
    return alone.queries()


def lesson(**overrides) -> composeae.Config:
    return composeae.Config.profile("lesson", **SMALL | overrides)


def rows(queries: ComposedQueries, n: int = 6) -> tuple:
    """A batch of queries for `ComposedRetrieval.losses`."""
    return queries.images[queries.source[:n]], queries.modification[:n], queries.images[queries.target[:n]]


def answers(model: ComposedRetrieval, queries: ComposedQueries) -> torch.Tensor:
    return model.embed_query(queries.images[queries.source], queries.modification)


# ---- the papers' data sets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "mode"),
    [(data, "modification") for data in sorted(PAPERS)] + [(data, "complete") for data in sorted(CAPTIONED)],
)
def test_it_runs_on_every_paper_s_data_set(data, mode, folders, monkeypatch):
    said, losses = set(), ComposedRetrieval.losses

    def note(self, source_images, modifications, *arguments, **rest):
        said.update(modifications)
        return losses(self, source_images, modifications, *arguments, **rest)

    monkeypatch.setattr(ComposedRetrieval, "losses", note)
    folder, write = PAPERS[data]
    write(folders / "data" / folder)
    report = composeae.run(composeae.Config.profile("paper", data=data, text_mode=mode, **OF_FILES))
    assert report.path.is_relative_to(folders / "cache" / "runs" / "composeae")
    content = json.loads(report.path.read_text())
    assert content["recipe"] == "composeae"
    assert (content["config"]["data"], content["config"]["text_mode"]) == (data, mode)
    model = ComposedRetrieval.load(report.path.parent / "model")
    assert isinstance(model.composer, ComposeAE)
    assert isinstance(model.text_encoder, Bert)
    assert model.composer.text_dim == 384
    assert model.settings["loss"] == ("soft_triplet" if data in ("css", "mit-states") else "batch_softmax")
    splits = compose_data.load(data, 0, 16, mode)
    assert composeae.evaluate(model, splits.test) == pytest.approx(report.metrics, abs=1e-5)
    assert 0 <= report.metrics["R@10"] <= 1
    assert said
    assert (data in CAPTIONED and said <= {*splits.train.captions}) == (mode == "complete")


def test_fashion_iq_has_no_captions_to_complete(folders, monkeypatch, capsys):
    written.write_fashion_iq(folders / "data" / "fashion-iq")
    config = composeae.Config.profile("paper", data="fashion-iq-original", text_mode="complete", **OF_FILES)
    with pytest.raises(ValueError, match=r"has no captions that say all of a picture.*keep their modifications"):
        composeae.run(config)
    monkeypatch.setattr("sys.argv", ["composeae", "--data", "fashion-iq-original", "--text-mode", "complete"])
    with pytest.raises(SystemExit) as left:
        main(composeae.Config, composeae.run)
    assert left.value.code == 2
    assert "has no captions" in capsys.readouterr().err


# ---- profiles and the shell -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [*PAPERS, "scenes", "scenes-3d", "scenes-joined", "fashion-products", "emoji-gender"])
@pytest.mark.parametrize("name", ["lesson", "paper"])
def test_the_profiles_are_those_of_tirg_with_composeae_and_bert(name, data):
    bert = {"bert": "bert-base-uncased", "bert_layer": -2} if name == "paper" else {"bert": "all-MiniLM-L6-v2"}
    config, theirs = (recipe.Config.profile(name, data=data) for recipe in (composeae, tirg))
    assert asdict(config) == asdict(theirs) | {"composer": "ComposeAE", "text": "bert"} | bert
    assert (config.finetune, config.text_dim) == (False, None)
    assert (config.text_mode, config.form, config.parts, config.space) == ("modification", "paper", "both", "complex")
    assert (config.symmetry_weight, config.image_recon_weight, config.text_recon_weight) == (0.01, 0.1, 0.1)
    assert (config.weights, config.batch_norm, config.detach_recon, config.dim) == ((1.0, 1.0), True, False, 512)


def test_which_bert_is_made(queries, bert, monkeypatch):
    made = []

    def note(name, **rest):
        made.append((name, rest))
        return Bert(bert, **rest)

    monkeypatch.setattr(compose, "Bert", note)
    config = composeae.Config.profile("paper", data="mit-states", pretrained=False, bert_layer=-2)
    model = composeae.build(queries, config)
    assert {name for name, _ in made} == {"bert-base-uncased"}
    assert ("bert-base-uncased", {"finetune": False, "layer": -2}) in made
    assert (model.composer.image_dim, model.composer.text_dim, model.composer.dim) == (512, 12, 512)


def usage(module) -> list[str]:
    """The arguments of every command in a recipe's docstring."""
    name = module.__name__.rsplit(".", 1)[1]
    return re.findall(rf"-m commonspace\.recipes\.{name} (.+)", module.__doc__)


@pytest.mark.parametrize("module", [compose, composeae])
def test_every_command_of_the_docstring_is_understood(module):
    commands = usage(module)
    assert len(commands) >= 3
    for command in commands:
        words = command.split()
        given = dict(zip(words[::2], words[1::2], strict=True))
        config = parse(module.Config, words)
        assert config.data == given["--data"] in compose_data.names()
        assert config.epochs == module.Config.profile(given["--profile"], data=config.data).epochs
        assert config.composer == given.get("--composer", module.Config.composer)
        assert config.text_mode == given.get("--text-mode", "modification")


def test_every_ablation_of_the_docstring_is_understood_and_built(queries, bert):
    lines = re.findall(r"^    (--.+?)(?:  .+)?$", composeae.__doc__, flags=re.M)
    asked = [one for line in lines for one in line.split(", ")]
    expected = {
        "--symmetry-weight 0": {"symmetry_weight": 0.0},
        "--space real --symmetry-weight 0": {"space": "real", "symmetry_weight": 0.0},
        "--parts rho": {"parts": "rho"},
        "--parts rho_conv": {"parts": "rho_conv"},
        "--form release": {"form": "release"},
    }
    assert asked == list(expected)
    assert "--weights 10 1" in composeae.__doc__
    expected |= {"--form release --weights 10 1": {"form": "release", "weights": (10.0, 1.0)}}
    for arguments, settings in expected.items():
        config = parse(composeae.Config, ["--profile", "paper", "--data", "scenes-3d", *arguments.split()])
        assert config == composeae.Config.profile("paper", data="scenes-3d", **settings)
        built = composeae.build(queries, replace(config, **SMALL, bert=bert, image="small")).composer.settings
        for name, value in settings.items():
            assert built[name] == (list(value) if name == "weights" else value)


def test_every_field_has_its_help(capsys):
    told = {}
    for kind in (BaseConfig, compose.Config, composeae.Config):
        body = ast.parse(inspect.cleandoc(inspect.getsource(kind))).body[0].body
        for line, after in pairwise(body):
            if isinstance(line, ast.AnnAssign) and isinstance(getattr(after, "value", None), ast.Constant):
                told[line.target.id] = " ".join(after.value.value.split())
    assert told.keys() == {f.name for f in fields(composeae.Config)}
    with pytest.raises(SystemExit):
        parse(composeae.Config, ["--help"])
    shown = re.sub(r"[^a-z]", "", capsys.readouterr().out)
    for name, text in told.items():
        assert re.sub(r"[^a-z]", "", text) in shown, name


# ---- the lesson -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["modification", "complete"])
def test_sentences_of_joined_edits_are_counted_by_their_edits(mode, bert, monkeypatch):
    scenes, few = compose_data._scenes, {"n": 24, "changes": 4, "held_out": 8}
    monkeypatch.setattr(compose_data, "_scenes", lambda *args, **rest: scenes(*args, **few, **rest))
    config = lesson(data="scenes-joined", text_mode=mode, bert=bert, batch_size=32)
    report = composeae.run(config)
    test = compose_data.load("scenes-joined").test
    asked = test if mode == "modification" else test.completed()
    model = ComposedRetrieval.load(report.path.parent / "model")
    sim = answers(model, asked) @ model.embed_image(test.images).T
    hits = {}
    for i, (scores, relevant) in enumerate(zip(sim, asked.relevant, strict=True)):
        first = max((j for j in range(len(scores)) if j != int(test.source[i])), key=lambda j: float(scores[j]))
        hits.setdefault(1 + test.modification[i].count(" and "), []).append(first in relevant)
    expected = {f"R@1 of {n} edit{'s' if n > 1 else ''}": sum(of) / len(of) for n, of in hits.items()}
    assert len(expected) == 4
    found = {name: value for name, value in report.metrics.items() if "edit" in name}
    assert found == pytest.approx(expected)
    assert list(found) == [f"R@1 of {n}" for n in ("1 edit", "2 edits", "3 edits", "4 edits")]
    whole = sum(value * len(hits[n]) for n, value in enumerate(found.values(), 1)) / len(test)
    assert report.metrics["R@1"] == pytest.approx(whole)
    assert {"kept", "changed", "mAP"} < report.metrics.keys()


# ---- what the composer is told --------------------------------------------------------------------------------------


def test_every_setting_of_composeae_reaches_it(queries, bert):
    changed = {
        "form": "release",
        "weights": (10.0, 1.0),
        "parts": "rho",
        "batch_norm": False,
        "symmetry_weight": 0.3,
        "image_recon_weight": 0.4,
        "text_recon_weight": 0.5,
        "detach_recon": True,
    }
    assert {*changed, "space"} == set(compose.OF_COMPOSERS["ComposeAE"])
    config = lesson(bert=bert, **changed)
    found = composeae.build(queries, config).composer.config
    assert {name: found[name] for name in changed} == changed | {"weights": [10.0, 1.0]}
    assert (found["image_dim"], found["text_dim"], found["dim"]) == (8, 12, 8)
    default = composeae.build(queries, lesson(bert=bert)).composer.config
    assert all(default[name] != found[name] for name in changed)


FULL = {"weights", "rotations", "rho", "rho_conv", "image_decoder", "text_decoder"}


@pytest.mark.parametrize(
    ("settings", "without", "terms"),
    [
        ({}, set(), TERMS),
        ({"symmetry_weight": 0.0}, set(), TERMS[1:]),
        ({"space": "real", "symmetry_weight": 0.0}, {"rotations"}, TERMS[1:]),
        ({"parts": "rho"}, {"rho_conv"}, TERMS),
        ({"parts": "rho_conv"}, {"rho"}, TERMS),
        ({"image_recon_weight": 0.0}, {"image_decoder"}, ("symmetry", "text_recon")),
        ({"text_recon_weight": 0.0}, {"text_decoder"}, ("symmetry", "image_recon")),
        ({"form": "release"}, set(), TERMS),
    ],
)
def test_an_ablation_takes_its_part_away(settings, without, terms, queries, bert):
    config = lesson(bert=bert, **settings)
    composer = (model := composeae.build(queries, config)).composer
    assert {name.split(".")[0] for name, _ in composer.named_parameters()} == FULL - without
    assert len(composer.rotations) == (0 if "space" in settings else 2 if config.form == "release" else 1)
    assert (composer.rho_conv is None) or composer.rho_conv.conv_first == (config.form == "release")
    found = model.losses(*rows(queries))
    assert found.keys() == {"base", "loss", "accuracy", "scale", *terms}
    weighed = sum(getattr(config, f"{term}_weight") * found[term] for term in terms)
    torch.testing.assert_close(found["loss"], found["base"] + weighed)


@pytest.mark.parametrize("term", TERMS)
def test_a_lambda_of_0_takes_its_term_away_and_nothing_else(term, queries, bert):
    whole = composeae.build(queries, config := lesson(bert=bert, **{f"{name}_weight": 0.5 for name in TERMS})).eval()
    less = composeae.build(queries, replace(config, **{f"{term}_weight": 0.0})).eval()
    assert not less.load_state_dict(whole.state_dict(), strict=False).missing_keys
    one, other = (model.losses(*rows(queries)) for model in (whole, less))
    assert one.keys() - other.keys() == {term}
    torch.testing.assert_close(other["loss"], one["loss"] - 0.5 * one[term])
    for name in other.keys() - {"loss"}:
        torch.testing.assert_close(other[name], one[name])


def test_real_space_has_no_symmetry_to_weigh(queries, bert):
    with pytest.raises(ValueError, match="space='real' has no rotation to turn back: give it symmetry_weight=0"):
        composeae.build(queries, lesson(bert=bert, space="real"))


def test_parts_of_the_other_composer_are_refused(queries, bert):
    for composer, parts in [("TIRG", "rho"), ("ComposeAE", "gate")]:
        with pytest.raises(ValueError, match=f"parts .*'both'.*; got .*'{parts}'"):
            composeae.build(queries, lesson(bert=bert, composer=composer, parts=parts))


# ---- BERT -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("composer", sorted(COMPOSERS.keys() - {"ShowAndTell"}))
def test_every_composer_of_vectors_reads_bert_s(composer, queries, bert):
    model = composeae.build(queries, lesson(bert=bert, composer=composer))
    assert isinstance(model.text_encoder, Sequence if composer == "TextOnly" else Bert)
    assert model.composer.text_dim == model.text_encoder.out_dim == (8 if composer == "TextOnly" else 12)
    found = model.losses(*rows(queries))
    found["loss"].backward()
    assert found["loss"].isfinite()
    assert answers(model, queries).shape == (18, 8)


def test_text_only_has_a_layer_behind_the_bert_that_learns(queries, bert):
    config = lesson(bert=bert, composer="TextOnly")
    before, after = composeae.build(queries, config), composeae.fit(queries, config)
    one, layer = after.text_encoder.parts
    assert isinstance(one, Bert)
    (weight, bias) = layer.parameters()
    assert weight.shape == (8, 12)
    assert not torch.equal(weight, next(before.text_encoder.parts[1].parameters()))
    texts = ["make it red", "make it blue"]
    torch.testing.assert_close(after.text_encoder(texts), Bert(bert)(texts) @ weight.T + bias)
    assert isinstance(composeae.build(queries, lesson(bert=bert, composer="TextOnly", dim=12)).text_encoder, Bert)


def test_show_and_tell_cannot_read_bert(queries, bert):
    with pytest.raises(ValueError, match=r"ShowAndTell reads a sentence word by word: .* LSTM or GRU .*; got Bert"):
        composeae.build(queries, lesson(bert=bert, composer="ShowAndTell"))
    assert composeae.build(queries, lesson(text="lstm", composer="ShowAndTell")).composer.text_dim == 6


@pytest.mark.parametrize(("text_dim", "kind"), [(5, Sequence), (12, Bert), (None, Bert)])
def test_text_dim_is_the_width_of_a_layer_behind_the_bert(text_dim, kind, queries, bert):
    model = composeae.build(queries, lesson(bert=bert, text_dim=text_dim))
    assert isinstance(model.text_encoder, kind)
    width = text_dim or 12
    assert model.text_encoder(["make it red"]).shape == (1, width)
    assert model.composer.text_decoder[-1].out_features == model.composer.text_dim == width


@pytest.mark.parametrize(("text", "text_dim"), [("gru", None), ("bag", None), ("lstm", 5), ("bag", 5)])
def test_other_texts_are_of_text_dim_or_dim(text, text_dim, queries):
    model = composeae.build(queries, lesson(text=text, text_dim=text_dim))
    assert model.text_encoder(["make it red"]).shape == (1, text_dim or 8)
    assert model.composer.text_dim == (text_dim or 8)


def test_which_layer_of_the_bert_counts(queries, bert):
    texts = ["make it red", "make it blue"]
    for layer in (-1, -2):
        encoder = composeae.build(queries, lesson(bert=bert, bert_layer=layer)).text_encoder
        assert torch.equal(encoder(texts), Bert(bert, layer=layer)(texts))
    assert not torch.allclose(encoder(texts), Bert(bert)(texts), atol=0.01)


def bert_weights(model: ComposedRetrieval) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.state_dict().items() if name.startswith("text_encoder") and ".bert." in name}


@pytest.mark.parametrize("text_dim", [None, 5])
def test_a_bert_that_is_trained_moves_with_the_body_s_learning_rate(text_dim, queries, bert):
    config = lesson(bert=bert, finetune=True, text_dim=text_dim, body_lr=0.1, lr=0.5)
    model = composeae.build(queries, config)
    of_bert = {id(p) for name, p in model.named_parameters() if name in bert_weights(model)}
    assert len(of_bert) == len(bert_weights(model)) > 20
    for optimizer in (compose.make_optimizer(model, replace(config, optimizer=kind)) for kind in ("adam", "sgd")):
        lr = [(id(p), group["lr"]) for group in optimizer.param_groups for p in group["params"]]
        assert len(lr) == len(dict(lr)) == len(list(model.parameters()))
        body = of_bert | {id(p) for p in model.image_encoder.parameters()}
        assert {one for one, rate in lr if rate == 0.05} == body
        assert {rate for one, rate in lr if one not in body} == {0.5}
        if text_dim:
            assert not body & {id(p) for p in model.text_encoder.parts[1].parameters()}
    before, after = bert_weights(model), bert_weights(composeae.fit(queries, replace(config, lr=1e-3)))
    assert before.keys() == after.keys()
    for name in before.keys() - {name for name in before if name.endswith("key.bias")}:  # which softmax cancels
        assert not torch.equal(before[name], after[name]), name
    texts = ["make it red", "make it blue"]
    encoder = model.text_encoder.parts[0] if text_dim else model.text_encoder
    torch.testing.assert_close(encoder.encode(texts), Bert(bert)(texts))


def test_a_frozen_bert_is_in_no_optimiser_and_no_state_dict(queries, bert):
    config = lesson(bert=bert)
    model = composeae.fit(queries, config)
    assert not list(model.text_encoder.parameters())
    assert not [name for name in model.state_dict() if name.startswith("text_encoder")]
    optimizer = compose.make_optimizer(model, config)
    counted = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(counted) == sorted(id(p) for p in model.parameters())
    texts = ["make it red", "make it blue"]
    assert torch.equal(model.text_encoder(texts), Bert(bert)(texts))


@pytest.mark.parametrize("settings", [{}, {"finetune": True}, {"text_dim": 5}, {"finetune": True, "text_dim": 5}])
def test_a_saved_model_answers_the_same(settings, queries, bert, tmp_path):
    model = composeae.fit(queries, lesson(bert=bert, **settings))
    model.save(tmp_path / "model")
    loaded = ComposedRetrieval.load(tmp_path / "model")
    assert torch.equal(answers(loaded, queries), answers(model, queries))
    assert torch.equal(loaded.embed_image(queries.images), model.embed_image(queries.images))
    assert bool(bert_weights(loaded)) == ("finetune" in settings)
    assert loaded.composer.config == model.composer.config


# ---- training -------------------------------------------------------------------------------------------------------


def test_the_loss_is_told_which_sources_may_be_the_answer(queries, monkeypatch):
    seen, losses = [], ComposedRetrieval.losses

    def note(self, source_images, modifications, target_images, **rest):
        seen.append((source_images[rest["source"]], modifications, target_images, rest["same_source"]))
        return losses(self, source_images, modifications, target_images, **rest)

    monkeypatch.setattr(ComposedRetrieval, "losses", note)
    composeae.fit(queries, lesson(text="gru", batch_size=12))
    assert len(seen) == 2
    shared = twins = reworded = 0
    for images, texts, targets, same_source in seen:
        expected = []
        for i, j in ((i, j) for i in range(12) for j in range(12)):
            start = bool((images[i] == images[j]).all())
            aim, said = bool((targets[i] == targets[j]).all()), texts[i] == texts[j]
            expected.append(start or (aim and said))
            shared, twins = shared + (start and not aim), twins + (aim and said and not start)
            reworded += aim and not said and not start
        assert same_source.flatten().tolist() == expected
    assert min(shared, twins, reworded) > 0


@pytest.mark.parametrize("settings", [{"form": "release", "loss": "soft_triplet"}, {"finetune": True}])
def test_a_stopped_run_goes_on_to_the_same_weights(settings, queries, bert, tmp_path, monkeypatch):
    """Stopped in the middle of the second epoch, by an error in place of a kill."""
    config = lesson(bert=bert, epochs=3, **settings)
    whole = composeae.fit(queries, config, output=tmp_path / "whole", checkpoint_every=1)
    left, losses = [6], ComposedRetrieval.losses

    def power(self, *arguments, **rest):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return losses(self, *arguments, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(ComposedRetrieval, "losses", power)
        with pytest.raises(KeyboardInterrupt):
            composeae.fit(queries, config, output=tmp_path / "stopped", checkpoint_every=1)
    resumed = composeae.fit(queries, config, output=tmp_path / "stopped", checkpoint_every=1)
    assert any(name.startswith("text_encoder") for name in whole.state_dict()) == config.finetune
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    with pytest.raises(ValueError, match="holds a run with other arguments"):
        composeae.fit(queries, replace(config, text_mode="complete"), output=tmp_path / "stopped")


@pytest.mark.parametrize("kind", ["paper", "release", "BERT", "BERT, trained"])
def test_two_processes_train_as_one(kind, alone, bert, both):
    expected = alone.trained(kind, bert)
    start = composeae.build(
        alone.queries(), lesson(**alone.KINDS[kind] | {"bert": bert, "dim": 8, "width": 4, "word_dim": 6})
    ).state_dict()
    moved = [name for name in start if start[name].is_floating_point() and not torch.equal(start[name], expected[name])]
    assert {"composer.weights", "unit.scale", "image_head.weight"} < set(moved)
    assert any(name.startswith("text_encoder") for name in moved) == (kind != "BERT")
    for found in both:
        assert found[kind].keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[kind][name], value, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"space": "real"}, "symmetry_weight=0"),
        ({"parts": "gate"}, "'rho_conv'"),
        ({"composer": "TIRG", "parts": "rho"}, "'residual'"),
        ({"weights": (1.0, 2.0, 3.0)}, "weights are two"),
    ],
)
def test_settings_that_no_composer_takes_are_refused_before_any_data_is_read(settings, message):
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=message):
        composeae.Config.profile("lesson", **settings)
    composeae.Config.profile("lesson")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("error", [OSError("no network"), ModuleNotFoundError("no package"), ValueError("no such")])
def test_the_shell_says_what_is_missing_without_a_traceback(monkeypatch, capsys, error):
    def failing(config):
        raise error

    monkeypatch.setattr("sys.argv", ["composeae"])
    with pytest.raises(SystemExit) as stopped:
        main(composeae.Config, failing)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"error: {error}\n"


# ---- the way back ---------------------------------------------------------------------------------------------------


def turning(seed: int = 0) -> tuple[ComposedRetrieval, ComposedQueries]:
    """An untrained model in training mode, and 40 queries over 9 pictures with few sentences, so that many agree."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (9, 3, 16, 16), generator=rng, dtype=torch.uint8)
    source = torch.randint(9, (40,), generator=rng)
    target = (source + torch.randint(1, 9, (40,), generator=rng)) % 9
    words = ["add red", "remove", "make it blue"]
    queries = ComposedQueries(images, source, [words[i] for i in torch.randint(3, (40,), generator=rng)], target)
    config = composeae.Config.profile("lesson", text="gru", dim=8, width=4, word_dim=6, seed=seed)
    return composeae.build(queries, config), queries


@pytest.mark.parametrize("conjugate", [True, False])
@pytest.mark.parametrize("other", [False, True])
def test_the_search_back_query_by_query(conjugate, other):
    hits = []
    for seed in range(3):
        model, queries = turning(seed)
        texts = queries.shuffled(seed).modification if other else queries.modification
        found = composeae.search_back(model, queries, texts if other else None, conjugate=conjugate)
        assert model.training
        model.eval()
        with torch.no_grad():
            phi = model.vector(model.read(queries.images))
            for i in range(len(queries)):
                turned = model.composer(phi[queries.target[i, None]], model.text_encoder([texts[i]]), conjugate)
                sim = torch.nn.functional.cosine_similarity(turned, phi)
                sim[queries.target[i]] = -2
                ways = [
                    int(queries.source[j])
                    for j in range(len(queries))
                    if queries.target[j] == queries.target[i] and queries.modification[j] == queries.modification[i]
                ]
                assert found[i] == (int(sim.argmax()) in ways)
        hits += found.tolist()
    assert 0 < sum(hits) < len(hits)


@pytest.mark.parametrize("settings", [{"composer": "TIRG"}, {"space": "real", "symmetry_weight": 0.0}])
def test_what_cannot_turn_does_not_search_back(settings):
    _, queries = turning()
    model = composeae.build(queries, composeae.Config.profile("lesson", text="gru", dim=8, width=4, **settings))
    with pytest.raises(ValueError, match="only a ComposeAE in complex space turns back"):
        composeae.search_back(model, queries)


def test_the_search_back_goes_through_many_queries_in_blocks():
    model, queries = turning()
    many = queries[torch.arange(len(queries)).repeat(15)]
    assert torch.equal(composeae.search_back(model, many), composeae.search_back(model, queries).repeat(15))
