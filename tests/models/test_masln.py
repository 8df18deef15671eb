"""MASLN: each term against its definition and where its gradient goes, the ablations, saving, and what it refuses."""

import pytest
import torch
from torch.nn import functional as F

from commonspace.encoders import MLP, Sequence, SmallConvNet, Standardize
from commonspace.losses import modality_loss
from commonspace.models import MASLN
from commonspace.models.masln import decoders

TERMS = ("correlation", "reconstruction", "label", "modality")
GROUPS = (
    "image_encoder",
    "text_encoder",
    "image_decoder",
    "text_decoder",
    "label_predictor",
    "modality_classifier",
)


def batch(seed: int, n: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % 3
    centres = 2 * torch.randn(3, 12, generator=rng)
    rows = centres[label] + torch.randn(n, 12, generator=rng)
    return 3 * rows[:, :7] + 1, rows[:, 7:], label


def small(seed: int = 0, **settings) -> MASLN:
    """A model of 7 image and 5 text features, 3 classes with embeddings of 4 numbers, codes of 6."""
    torch.manual_seed(seed)
    image, _, _ = batch(seed, 60)
    image_encoder = Sequence(Standardize(7).fit(image), MLP([7, 8, 6], final_activation="tanh"))
    text_encoder = MLP([5, 8, 6], final_activation="tanh")
    parts = decoders(image_encoder, text_encoder, 4)
    return MASLN(image_encoder, text_encoder, torch.randn(3, 4), **parts, **settings)


def only(term: str, **settings) -> dict[str, float]:
    """The settings under which ``term`` alone counts."""
    return {f"{name}_weight": float(name == term) for name in TERMS} | settings


# ---- the terms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_terms_by_their_definitions(seed):
    image, text, label = batch(seed)
    model = small(seed)
    found = model.losses(image, text, label)
    v, t = model(image, text)
    z = (image - model.image_encoder.parts[0].mean) * model.image_encoder.parts[0].scale
    correlation = reconstruction = named = 0.0
    for i in range(12):
        correlation += ((v[i] - t[i]) ** 2).sum() / 12
        for code in (v[i], t[i]):
            known = torch.cat([code, model.class_embeddings[label[i]]])[None]
            reconstruction += ((model.image_decoder(known)[0] - z[i]) ** 2).sum() / 12
            reconstruction += ((model.text_decoder(known)[0] - text[i]) ** 2).sum() / 12
            logits = model.label_predictor(code)
            named -= (logits[label[i]] - torch.log(logits.exp().sum())) / 12
    judged = modality_loss(model.modality_classifier(v), model.modality_classifier(t), form="sigmoid")
    expected = {"correlation": correlation, "reconstruction": reconstruction, "label": named, "modality": judged}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
    torch.testing.assert_close(found["loss"], correlation + reconstruction + named + judged)


def test_the_loss_weighs_its_terms():
    image, text, label = batch(1)
    weights = {"correlation_weight": 0.5, "reconstruction_weight": 0.01, "label_weight": 3.0, "modality_weight": 0.2}
    found = small(1, **weights).losses(image, text, label)
    plain = small(1).losses(image, text, label)
    expected = sum(weights[f"{name}_weight"] * plain[name] for name in TERMS)
    torch.testing.assert_close(found["loss"], expected)


REACHES = {
    "correlation": {"image_encoder", "text_encoder"},
    "reconstruction": {"image_encoder", "text_encoder", "image_decoder", "text_decoder"},
    "label": {"image_encoder", "text_encoder", "label_predictor"},
    "modality": {"image_encoder", "text_encoder", "modality_classifier"},
}


def reached(model: MASLN) -> set[str]:
    """The groups of which every weight has a gradient that is not zero. Fails where only some have."""
    groups = set()
    for name in GROUPS:
        touched = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in getattr(model, name).parameters()]
        assert all(touched) or not any(touched), name
        groups |= {name} if all(touched) else set()
    return groups


@pytest.mark.parametrize("term", TERMS)
def test_each_term_reaches_its_groups_and_no_other(term):
    image, text, label = batch(2)
    # The modality alone is no model, so its term is taken out of the whole.
    model = small(2) if term == "modality" else small(2, **only(term))
    model.losses(image, text, label)[term].backward()
    assert reached(model) == REACHES[term]


def test_the_groups_are_all_there_is():
    model = small()
    grouped = {id(p) for name in GROUPS for p in getattr(model, name).parameters()}
    assert grouped == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_encoders_get_the_reversed_gradient_and_the_classifier_the_true_one(strength):
    image, text, label = batch(3)
    model = small(3)
    model.losses(image, text, label, strength)["modality"].backward()
    reversed_ = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    v, t = model(image, text)
    modality_loss(model.modality_classifier(v), model.modality_classifier(t), form="sigmoid").backward()
    for name, p in model.named_parameters():
        if p.grad is not None:
            sign = 1.0 if name.startswith("modality_classifier") else -strength
            torch.testing.assert_close(reversed_[name], sign * p.grad, msg=name)


def test_the_classifiers_step_reaches_the_classifier_alone():
    image, text, _ = batch(4)
    model = small(4)
    found = model.modality_losses(image, text)
    found["loss"].backward()
    assert reached(model) == {"modality_classifier"}
    assert 0 <= found["accuracy"] <= 1
    torch.testing.assert_close(found["loss"], found["modality"] + 0.1 * found["slope"])
    plain = small(4, gradient_penalty=0.0).modality_losses(image, text)
    assert plain.keys() == {"loss", "modality", "accuracy"}
    torch.testing.assert_close(plain["loss"], found["modality"])


def test_the_players_share_the_weights_without_overlap():
    model = small(5)
    players = model.players()
    ids = {name: {id(p) for p in weights} for name, weights in players.items()}
    assert ids["classifier"] == {id(p) for p in model.modality_classifier.parameters()}
    assert not ids["projector"] & ids["classifier"]
    assert ids["projector"] | ids["classifier"] == {id(p) for p in model.parameters()}


# ---- ablations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", TERMS)
def test_a_weight_of_zero_takes_its_term_away_and_no_other(term):
    image, text, label = batch(6)
    whole = small(6).losses(image, text, label)
    model = small(6, **{f"{term}_weight": 0.0})
    found = model.losses(image, text, label)
    assert found.keys() == {"loss", *TERMS} - {term}
    torch.testing.assert_close(found["loss"], whole["loss"] - whole[term])
    found["loss"].backward()
    others = [REACHES[name] for name in TERMS if name != term]
    assert reached(model) == set.union(*others)


def test_the_cross_terms_alone_leave_out_what_a_code_rebuilds_of_its_own_side():
    image, text, label = batch(7)
    model = small(7, **only("reconstruction", rebuild="cross"))
    v, t = model(image, text)
    expected = (model.image_encoder.parts[0](image) - model.decode(t, label)[0]).square().sum() / 12
    expected = expected + (text - model.decode(v, label)[1]).square().sum() / 12
    torch.testing.assert_close(model.losses(image, text, label)["reconstruction"], expected)


def test_permuted_class_embeddings_change_the_reconstruction_alone():
    image, text, label = batch(8)
    model = small(8)
    found = model.losses(image, text, label)
    model.class_embeddings.copy_(model.class_embeddings[[1, 2, 0]])
    permuted = model.losses(image, text, label)
    for name in ("correlation", "label", "modality"):
        assert torch.equal(found[name], permuted[name])
    assert not torch.allclose(found["reconstruction"], permuted["reconstruction"])


def test_the_semantic_head_scores_a_class_by_its_embedding():
    image, text, label = batch(9)
    model = small(9, head="embeddings")
    v, t = model(image, text)
    S = model.class_embeddings
    logits = [torch.stack([model.label_predictor(code) @ s / 2 for s in S], dim=1) for code in (v, t)]  # sqrt(4)
    expected = sum(F.cross_entropy(one, label) for one in logits)
    torch.testing.assert_close(model.losses(image, text, label)["label"], expected)
    before = model.losses(image, text, label)["label"]
    S.copy_(S[[1, 2, 0]])
    assert not torch.allclose(before, model.losses(image, text, label)["label"])


# ---- use ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"rebuild": "cross"}, {"head": "embeddings"}])
def test_a_few_rounds_of_the_game_lower_every_term_that_is_minimised(settings):
    image, text, label = batch(10, n=60)
    model = small(10, **settings)
    players = model.players()
    optimizers = {name: torch.optim.Adam(weights, lr=1e-2) for name, weights in players.items()}

    def play(player: str) -> dict[str, float]:
        model.zero_grad()
        found = model.modality_losses(image, text) if player == "classifier" else model.losses(image, text, label, 0.5)
        found["loss"].backward()
        optimizers[player].step()
        return {name: value.item() for name, value in found.items()}

    first = play("projector")
    for _ in range(60):
        last = play("projector")
        play("classifier")
    for name in ("correlation", "reconstruction", "label"):
        assert last[name] < 0.7 * first[name], name


def test_embeddings_are_codes_and_need_no_class():
    image, text, _ = batch(11)
    model = small(11).train()
    v, t = (x.detach() for x in model(image, text))
    torch.testing.assert_close(model.embed_image(image), v)
    torch.testing.assert_close(model.embed_text(text), t)
    assert model.training
    assert model.embed_text(text).dtype == torch.float32


@pytest.mark.parametrize(
    "settings",
    [{}, {"rebuild": "cross", "label_weight": 0.25}, {"head": "embeddings", "reconstruction_weight": 0.0}],
)
def test_a_saved_model_is_the_same(settings, tmp_path):
    image, text, label = batch(12)
    model = small(12, **settings)
    model.save(tmp_path / "model")
    loaded = MASLN.load(tmp_path / "model")
    assert torch.equal(loaded.embed_image(image), model.embed_image(image))
    assert torch.equal(loaded.embed_text(text), model.embed_text(text))
    assert torch.equal(loaded.class_embeddings, model.class_embeddings)
    found, expected = loaded.losses(image, text, label), model.losses(image, text, label)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"weights.safetensors", "config.json"}
    assert not loaded.training


def test_pictures_train_without_reconstruction_and_are_refused_with_it(tmp_path):
    pictures = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    _, text, label = batch(13, n=6)
    net = SmallConvNet(width=4)
    towers = Sequence(net, MLP([net.out_dim, 6])), MLP([5, 6])
    model = MASLN(*towers, torch.eye(3), reconstruction_weight=0.0)
    assert model.losses(pictures, text, label)["loss"].isfinite()
    model.save(tmp_path / "model")
    assert MASLN.load(tmp_path / "model").embed_image(pictures).shape == (6, 6)
    with pytest.raises(ValueError, match="reconstruction needs feature rows"):
        MASLN(*towers, torch.eye(3), MLP([9, 7]), MLP([9, 5])).losses(pictures, text, label)


# ---- what it refuses ------------------------------------------------------------------------------------------------


def test_parts_that_do_not_fit_are_refused():
    image, text, S = MLP([7, 6]), MLP([5, 6]), torch.eye(3)
    fit = {"image_decoder": MLP([9, 7]), "text_decoder": MLP([9, 5])}
    for arguments, settings, message in [
        ((image, MLP([5, 4]), S), fit, "the encoders give 6 and 4 numbers"),
        ((image, text, S), {}, "reconstruction needs image_decoder: give one, or set reconstruction_weight=0"),
        ((image, text, S), fit | {"text_decoder": MLP([6, 5])}, "text_decoder takes 6 numbers.*embedding are 9"),
        ((image, text, S[0]), fit, r"class_embeddings must be finite numbers \(c, e\)"),
        ((image, text, S[:1]), fit, "at least 2 classes"),
        ((image, text, S * torch.nan), fit, "class_embeddings must be finite"),
        ((image, text, S), fit | {"label_weight": -1.0}, "label_weight must be a number >= 0, got -1.0"),
        ((image, text, S), fit | {"modality_weight": float("nan")}, "modality_weight must be a number >= 0, got nan"),
        ((image, text, S), fit | {"rebuild": "none"}, "rebuild must be one of 'four', 'cross'; got 'none'"),
        ((image, text, S), fit | {"head": "softmax"}, "head must be one of 'classes', 'embeddings'; got 'softmax'"),
        ((image, text, S), fit | only("modality"), "must be above 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            MASLN(*arguments, **settings)


def test_batches_that_do_not_fit_are_refused():
    image, text, label = batch(14)
    model = small(14)
    for wrong, message in [
        (label + 1, "labels run from 1 to 3, but class_embeddings has 3 rows"),
        (label - 1, "labels run from -1 to 1"),
        (label.float(), r"label must be integers of shape \(B,\).*float32"),
        (F.one_hot(label).bool(), "one class a pair; got torch.bool"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.losses(image, text, wrong)
    with pytest.raises(ValueError, match="strength must be a number >= 0"):
        model.losses(image, text, label, -1.0)
