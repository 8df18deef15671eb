"""ACMR: where each term's gradient goes, the terms against loops, the demo's graph, saving, and what is refused."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from commonspace.data.vocabulary import Vocabulary
from commonspace.encoders import MLP, BagOfWords, Sequence, SmallConvNet, Standardize
from commonspace.losses import gradient_penalty, intermodal_triplet_loss, modality_accuracy, modality_loss
from commonspace.models import ACMR
from commonspace.models.acmr import released_triplet_loss

GROUPS = ("image_encoder", "text_encoder", "label_predictor", "modality_classifier")
PROJECTORS = {"image_encoder", "text_encoder"}


def batch(seed: int, n: int = 12, several: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """7 image and 5 text features >= 0 of n pairs; 3 classes, or several labels a pair."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.rand(n, 3, generator=rng) < 0.4 if several else torch.arange(n) % 3
    if several:
        label[0], label[1] = torch.tensor([False] * 3), torch.tensor([True, False, True])
    return torch.rand(n, 7, generator=rng), 2 * torch.rand(n, 5, generator=rng), label


def small(seed: int = 0, dropout: float = 0.0, **settings) -> ACMR:
    torch.manual_seed(seed)
    image, text, _ = batch(100, 50)
    image_encoder = Sequence(
        Standardize(7, power=0.5).fit(image), MLP([7, 8, 4], dropout=dropout, final_activation="tanh")
    )
    text_encoder = Sequence(
        Standardize(5).fit(text), MLP([5, 6, 4], activation="tanh", dropout=dropout, final_activation="tanh")
    )
    return ACMR(image_encoder, text_encoder, 3, **settings)


def reached(model: ACMR, term: torch.Tensor) -> dict[str, str]:
    """Of each group: "all" its weights, "some" or "none" have a gradient of ``term`` that is not 0."""
    weights = {name: list(getattr(model, name).parameters()) for name in GROUPS}
    flat = [w for group in weights.values() for w in group]
    for w in flat:
        w.grad = None
    term.backward(retain_graph=True)
    found = {}
    for name, group in weights.items():
        live = [w.grad is not None and bool((w.grad != 0).any()) for w in group]
        found[name] = "all" if all(live) else "some" if any(live) else "none"
    return found


def gradients(term: torch.Tensor, weights) -> torch.Tensor:
    grads = torch.autograd.grad(term, list(weights), retain_graph=True, allow_unused=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for g, w in zip(grads, weights, strict=True)])


# ---- where the gradients go -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("same_modality", [False, True])
@pytest.mark.parametrize("mining", ["all", "hardest"])
@pytest.mark.parametrize("form", ["absolute", "relative"])
def test_each_term_of_the_projectors_step_reaches_whom_it_should_and_nobody_else(form, mining, same_modality, several):
    model = small(1, form=form, mining=mining, same_modality=same_modality)
    found = model.losses(*batch(1, several=several))
    assert found.keys() == {"loss", "label", "triplet", "modality"}
    for term, whom in [
        ("label", PROJECTORS | {"label_predictor"}),
        ("triplet", PROJECTORS),
        ("modality", PROJECTORS | {"modality_classifier"}),
        ("loss", set(GROUPS)),
    ]:
        expected = {name: "all" if name in whom else "none" for name in GROUPS}
        assert reached(model, found[term]) == expected, term


def test_each_term_of_the_classifiers_step_reaches_the_classifier_alone():
    model = small(2)
    found = model.modality_losses(*batch(2)[:2])
    assert found.keys() == {"loss", "modality", "slope", "accuracy"}
    nobody = dict.fromkeys(GROUPS, "none")
    for term in ("modality", "loss"):
        assert reached(model, found[term]) == nobody | {"modality_classifier": "all"}, term
    # The biases of ReLU layers move logits and switch units, but not the slope.
    assert reached(model, found["slope"]) == nobody | {"modality_classifier": "some"}
    assert not found["accuracy"].requires_grad


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0, 10.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_projectors_get_the_reversed_gradient_of_the_modality_loss_and_the_classifier_the_true_one(seed, strength):
    model = small(seed)
    image, text, label = batch(seed)
    found = model.losses(image, text, label, strength)
    straight = modality_loss(*(model.modality_classifier(code) for code in model(image, text)))
    assert torch.equal(found["modality"], straight)
    for name in PROJECTORS:
        weights = list(getattr(model, name).parameters())
        true = gradients(straight, weights)
        assert true.abs().max() > 1e-4
        torch.testing.assert_close(gradients(found["modality"], weights), -strength * true)
        # In the loss as a whole it is the third of three parts.
        rest = gradients(found["triplet"] + found["label"], weights)
        torch.testing.assert_close(gradients(found["loss"], weights), rest - strength * true)
    weights = list(model.modality_classifier.parameters())
    torch.testing.assert_close(gradients(found["modality"], weights), gradients(straight, weights))


def test_a_projectors_step_along_the_modality_term_makes_the_classifier_err_and_the_classifiers_step_mends_it():
    model = small(3)
    image, text, label = batch(3, 60)
    players = model.players()

    def step(player, term, lr):
        optimizer = torch.optim.SGD(players[player], lr)
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        return model.modality_losses(image, text)["modality"].item()

    start = model.modality_losses(image, text)["modality"].item()
    learned = step("classifier", model.modality_losses(image, text)["loss"], 0.3)
    assert learned < start
    assert step("projector", model.losses(image, text, label)["modality"], 0.3) > learned


@pytest.mark.parametrize("as_released", [False, True])
def test_the_players_share_out_the_trainable_weights(as_released):
    model = small(as_released=as_released)
    players = model.players()
    assert players.keys() == {"projector", "classifier"}
    ids = [id(w) for weights in players.values() for w in weights]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(w) for w in model.parameters() if w.requires_grad}
    assert {id(w) for w in players["classifier"]} == {id(w) for w in model.modality_classifier.parameters()}
    theirs = {id(w) for w in model.label_predictor.parameters()}
    assert theirs.isdisjoint(ids) if as_released else theirs <= {id(w) for w in players["projector"]}


# ---- the terms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_is_the_weighted_sum_of_its_terms(seed, several):
    settings = {"margin": 0.7, "gamma": 0.2, "form": "absolute", "mining": "hardest", "same_modality": True}
    model = small(seed, triplet_weight=0.3, label_weight=2.0, **settings)
    image, text, label = batch(seed, several=several)
    found = model.losses(image, text, label, strength=0.5)
    v, t = model(image, text)
    torch.testing.assert_close(found["triplet"], intermodal_triplet_loss(v, t, label, **settings))
    torch.testing.assert_close(found["label"], model.label_loss(v, label) + model.label_loss(t, label))
    torch.testing.assert_close(found["loss"], 0.3 * found["triplet"] + 2.0 * found["label"] + found["modality"])


def test_the_classifiers_loss_is_its_cross_entropy_and_the_weighted_slope():
    model = small(4, gradient_penalty=0.7)
    image, text, _ = batch(4)
    codes = [code.detach() for code in model(image, text)]
    logits = [model.modality_classifier(code) for code in codes]
    found = model.modality_losses(image, text)
    torch.testing.assert_close(found["modality"], modality_loss(*logits))
    torch.testing.assert_close(found["accuracy"], modality_accuracy(*logits))
    torch.testing.assert_close(found["slope"], gradient_penalty(model.modality_classifier, *codes))
    torch.testing.assert_close(found["loss"], found["modality"] + 0.7 * found["slope"])
    plain = small(4, gradient_penalty=0.0).modality_losses(image, text)
    assert plain.keys() == {"loss", "modality", "accuracy"}
    torch.testing.assert_close(plain["loss"], found["modality"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_label_loss_by_loops(seed):
    model = small(seed)
    code = torch.randn(12, 4, generator=torch.Generator().manual_seed(seed))
    _, _, several = batch(seed, several=True)
    logits = model.label_predictor(code).tolist()
    total, counted = 0.0, 0
    for row, mine in zip(logits, several.tolist(), strict=True):
        own = [c for c in range(3) if mine[c]]
        counted += bool(own)
        for c in own:
            total -= (row[c] - math.log(sum(math.exp(x) for x in row))) / len(own)
    assert counted < 12
    assert model.label_loss(code, several).item() == pytest.approx(total / counted, abs=1e-6)
    single = torch.arange(12) % 3
    expected = F.cross_entropy(model.label_predictor(code), single)
    torch.testing.assert_close(model.label_loss(code, single), expected)
    torch.testing.assert_close(model.label_loss(code, F.one_hot(single, 3).bool()), expected)
    assert model.label_loss(code, torch.zeros(12, 3, dtype=torch.bool)).item() == 0


def test_the_triplets_are_those_of_the_gathered_batch():
    model = small(5)
    for several in (False, True):
        image, text, label = batch(5, several=several)
        other_image, other_text, other_label = batch(6, several=several)
        other_v, other_t = model(other_image, other_text)
        own_v, own_t = model(image, text)
        calls = []

        def gather(x, others=(other_v, other_t, other_label), calls=calls):
            calls.append(x)
            return torch.cat([x, others[len(calls) - 1]])

        found = model.losses(image, text, label, gather=gather)
        assert torch.equal(calls[0], own_v)
        assert torch.equal(calls[1], own_t)
        assert torch.equal(calls[2], label)
        whole = [torch.cat(parts) for parts in ((own_v, other_v), (own_t, other_t), (label, other_label))]
        torch.testing.assert_close(found["triplet"], intermodal_triplet_loss(*whole))
        alone = model.losses(image, text, label)
        torch.testing.assert_close(found["label"], alone["label"])
        torch.testing.assert_close(found["modality"], alone["modality"])
        assert abs(found["triplet"] - alone["triplet"]) > 1e-4


def test_as_released_the_hinge_is_that_of_the_gathered_batch():
    model = small(5, as_released=True, margin=500.0)
    rows = batch(5)
    found = model.losses(*rows, gather=lambda x: torch.cat([x, x.flip(0)]))
    image, text, label = (torch.cat([x, x.flip(0)]) for x in rows)
    torch.testing.assert_close(found["triplet"], model.losses(image, text, label)["triplet"])


# ---- as released ----------------------------------------------------------------------------------------------------


def released_by_loops(v, t, image, text, label, margin: float, alpha: float = 5.0) -> float:
    total = 0.0
    for code, across, rows in [(v, t, image), (t, v, text)]:
        pull = push = 0.0
        for i in range(len(code)):
            others = []
            for k in range(len(code)):
                same = label[i] == label[k] if label.ndim == 1 else (label[i] & label[k]).any()
                if not same:
                    others.append((float(F.cosine_similarity(rows[i], rows[k], dim=0)), k))
            _, k = max(others)
            pull += float(((code[i] - across[i]) ** 2).sum()) / 2
            push += float(((code[i] - across[k]) ** 2).sum()) / 2
        total += max(0.0, margin + alpha * pull - push)
    return total


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("margin", [0.1, 500.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_released_triplets_by_loops(seed, margin, several):
    image, text, label = batch(seed, several=several)
    rng = torch.Generator().manual_seed(seed)
    v = torch.randn(12, 4, generator=rng)
    for t in (torch.randn(12, 4, generator=rng), v + 0.01 * torch.randn(12, 4, generator=rng)):
        expected = released_by_loops(v, t, image, text, label, margin)
        found = released_triplet_loss(v, t, image, text, label, margin)
        assert found.item() == pytest.approx(expected, rel=1e-4)
    assert margin == 500.0 or found.item() == 0  # the last codes are closer to each other than to any negative


def test_as_released_the_modality_loss_reaches_no_projector_and_the_label_predictor_stays():
    model = small(7, as_released=True, margin=500.0)
    image, text, label = batch(7)
    found = model.losses(image, text, label, strength=10.0)
    assert found.keys() == {"loss", "label", "triplet"}
    torch.testing.assert_close(found["triplet"], released_triplet_loss(*model(image, text), image, text, label, 500.0))
    torch.testing.assert_close(found["loss"], found["triplet"] + found["label"])
    nobody = dict.fromkeys(GROUPS, "none")
    for term in ("label", "triplet", "loss"):
        assert reached(model, found[term]) == nobody | dict.fromkeys(PROJECTORS, "all"), term
    judged = model.modality_losses(image, text)
    assert judged.keys() == {"loss", "modality", "accuracy"}
    assert reached(model, judged["loss"]) == nobody | {"modality_classifier": "all"}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for player, loss in [("projector", found["loss"]), ("classifier", judged["loss"])]:
        optimizer = torch.optim.Adam(model.players()[player], weight_decay=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == PROJECTORS | {"modality_classifier"}


def test_as_released_the_classifier_is_linear():
    model = small(8, as_released=True)
    layers = list(model.modality_classifier)
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(4, 20), (20, 10), (10, 2)]
    assert all(isinstance(layer, nn.Linear) for layer in layers)
    a, b = torch.randn(2, 3, 4)
    middle = model.modality_classifier((a + b) / 2)
    torch.testing.assert_close(middle, (model.modality_classifier(a) + model.modality_classifier(b)) / 2)
    game = small(8).modality_classifier
    assert [w.shape for w in game.parameters()] == [(50, 4), (50,), (2, 50), (2,)]
    assert (game((a + b) / 2) - (game(a) + game(b)) / 2).abs().max() > 1e-3


def test_as_released_refuses_what_it_cannot_compare():
    model = small(as_released=True)
    image, text, _ = batch(0)
    with pytest.raises(ValueError, match="an item of another class for every item"):
        model.losses(image, text, torch.zeros(12, dtype=torch.long))
    images, texts, pixels = pictures_and_words(as_released=True)
    for gather in (None, lambda x: x):
        with pytest.raises(ValueError, match="needs feature rows on both sides"):
            pixels.losses(images, texts, torch.arange(40) % 3, gather=gather)


# ---- embedding and saving -------------------------------------------------------------------------------------------


def pictures_and_words(**settings) -> tuple[torch.Tensor, list[str], ACMR]:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=rng)
    texts = [f"a {('red', 'blue', 'green')[i % 3]} {('shirt', 'shoe')[i % 2]} number {i % 5}" for i in range(40)]
    torch.manual_seed(0)
    net = SmallConvNet(width=4)
    words = BagOfWords(Vocabulary.build(texts), weighting="tfidf").fit(texts)
    projectors = Sequence(net, MLP([net.out_dim, 4])), Sequence(words, MLP([words.out_dim, 6, 4]))
    return images, texts, ACMR(*projectors, 3, **settings)


def rows_and_model(**settings) -> tuple[torch.Tensor, torch.Tensor, ACMR]:
    image, text, _ = batch(9, 1100)
    return image, text, small(9, dropout=0.5, **settings)


@pytest.mark.parametrize("make", [rows_and_model, pictures_and_words])
def test_codes_are_the_projectors_outputs_in_eval_mode_and_the_mode_is_put_back(make):
    images, texts, model = make()
    model.train()
    v, t = model.embed_image(images), model.embed_text(texts)
    assert (v.shape, t.shape) == ((len(images), 4), (len(texts), 4))
    assert v.dtype == t.dtype == torch.float32
    assert not v.requires_grad
    assert model.training
    assert model.image_encoder.training
    assert torch.equal(model.embed_image(images), v)
    with torch.no_grad():
        expected = model.eval()(images, texts)
    torch.testing.assert_close((v, t), expected)
    model.embed_text(texts[:2])
    assert not model.text_encoder.training


def test_the_mode_is_put_back_when_the_items_are_refused():
    model = small().train()
    with pytest.raises(ValueError, match=r"\(B, 7\), got \(3, 6\)"):
        model.embed_image(torch.zeros(3, 6))
    assert model.image_encoder.training
    with pytest.raises(ValueError, match="nothing to embed"):
        model.embed_image(torch.zeros(0, 7))


def test_pixels_and_words_train_end_to_end():
    images, texts, model = pictures_and_words()
    model.losses(images, texts, torch.arange(40) % 3)["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.embed_text(["a red shoe", "unknown"]).shape == (2, 4)


SETTINGS = {"margin": 0.3, "mining": "hardest", "label_weight": 3.0, "gradient_penalty": 0.0}


@pytest.mark.parametrize("settings", [{}, SETTINGS, {"as_released": True}])
@pytest.mark.parametrize("make", [rows_and_model, pictures_and_words])
def test_a_saved_model_is_the_same_model(make, settings, tmp_path):
    images, texts, model = make(**settings)
    model.losses(images[:40], texts[:40], torch.arange(40) % 3) if not settings.get("as_released") else None
    model.save(tmp_path / "model")
    loaded = ACMR.load(tmp_path / "model")
    assert not loaded.training
    assert loaded.settings == model.settings
    assert torch.equal(loaded.embed_image(images), model.embed_image(images))
    assert torch.equal(loaded.embed_text(texts), model.embed_text(texts))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"weights.safetensors", "config.json"}
    expected = model.eval().modality_losses(images, texts)
    for name, value in loaded.modality_losses(images, texts).items():
        torch.testing.assert_close(value, expected[name])
    frozen = [p.requires_grad for p in loaded.parameters()]
    assert frozen == [p.requires_grad for p in model.parameters()]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ACMR(MLP([7, 4]), MLP([5, 3]), 3), "the encoders give 4 and 3 numbers"),
        (lambda: ACMR(MLP([7, 4]), MLP([5, 4]), 1), "n_classes=1: label prediction needs at least 2"),
        (lambda: small().losses(*batch(0)[:2], torch.full((12,), 3)), r"labels run from 3 to 3; .* in 0 .. 2"),
        (lambda: small().losses(*batch(0)[:2], torch.full((12,), -1)), "labels run from -1"),
        (lambda: small().losses(*batch(0)[:2], torch.ones(12, 2).bool()), r"booleans \(B, 3\) .*got torch.bool .*2\)"),
        (lambda: small().losses(*batch(0)[:2], torch.ones(12, 3)), r"got torch.float32 of shape \(12, 3\)"),
        (lambda: small().losses(*batch(0)[:2], torch.arange(11) % 3), "11 labels for 12 codes"),
        (lambda: small().losses(*batch(0), strength=-1.0), "strength must be a number >= 0"),
        (lambda: small(form="squared").losses(*batch(0)), "got 'squared'"),
        (lambda: small(margin=-1.0).losses(*batch(0)), "margin and gamma must be >= 0"),
    ],
)
def test_it_refuses_what_cannot_work(make, message):
    with pytest.raises(ValueError, match=message):
        make()
