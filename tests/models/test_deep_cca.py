"""Deep CCA: its losses against their definitions, its final linear CCA, saving, and what it refuses."""

import numpy as np
import pytest
import torch

from commonspace.data.vocabulary import Vocabulary
from commonspace.encoders import MLP, BagOfWords, Sequence, SmallConvNet
from commonspace.losses import correlation_loss
from commonspace.models import CCA, DeepCCA
from commonspace.models.deep_cca import feature_towers


def pairs(seed: int, n: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, 3, generator=rng)
    mix = torch.randn(3, 12, generator=rng)
    return hidden @ mix[:, :7] + 0.3 * torch.randn(n, 7, generator=rng), (hidden @ mix[:, 7:]).sin()


def small(seed: int = 0, **arguments) -> DeepCCA:
    torch.manual_seed(seed)
    return DeepCCA(**feature_towers(7, 5, (8,), 4, decoders="reconstruction" in arguments), n_components=3, **arguments)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("form", ["trace", "frobenius"])
def test_the_loss_is_the_correlation_loss_of_both_outputs(seed, form):
    x, y = pairs(seed)
    model = small(seed, form=form, ridge=0.01)
    expected = correlation_loss(model.image_encoder(x), model.text_encoder(y), ridge=0.01, form=form)
    found = model.losses(x, y)
    torch.testing.assert_close(found["loss"], expected)
    assert found.keys() == {"loss", "correlation"}


def test_dccae_adds_the_weighted_reconstruction_of_both_views():
    x, y = pairs(2)
    model = small(2, reconstruction=0.5)
    a, b = model(x, y)
    errors = ((model.image_decoder(a) - x) ** 2).mean() + ((model.text_decoder(b) - y) ** 2).mean()
    found = model.losses(x, y)
    torch.testing.assert_close(found["reconstruction"], errors)
    torch.testing.assert_close(found["loss"], correlation_loss(a, b, ridge=model.ridge) + 0.5 * errors)
    found["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_gathered_outputs_are_what_the_loss_sees():
    x, y = pairs(3)
    model = small(3)
    twice = model.losses(x, y, gather=lambda outputs: torch.cat([outputs, 2 * outputs]))
    a, b = model(x, y)
    expected = correlation_loss(torch.cat([a, 2 * a]), torch.cat([b, 2 * b]), ridge=model.ridge)
    torch.testing.assert_close(twice["loss"], expected)


def test_embeddings_are_those_of_a_linear_cca_on_the_training_outputs():
    x, y = pairs(4, n=200)
    model = small(4).fit_linear(x[:150], y[:150])
    with torch.no_grad():
        a, b = model.eval()(x, y)
    linear = CCA(3, regularization=1e-3, correlation_power=1).fit(a[:150], b[:150])
    torch.testing.assert_close(model.embed_image(x[150:]), linear.embed_image(a[150:]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.embed_text(y[150:]), linear.embed_text(b[150:]), atol=1e-4, rtol=1e-4)
    assert model.score(x[150:], y[150:]) == pytest.approx(linear.score(a[150:], b[150:]), abs=1e-4)


def test_embedding_is_in_eval_mode_in_batches_and_puts_the_mode_back():
    x, y = pairs(5, n=1100)
    torch.manual_seed(5)
    model = DeepCCA(**feature_towers(7, 5, (8,), 4, dropout=0.5), n_components=2).fit_linear(x, y).train()
    once, again = model.embed_image(x), model.embed_image(x)
    assert torch.equal(once, again)
    torch.testing.assert_close(once[:3], model.embed_image(x[:3]))
    assert model.image_encoder.training


def pictures_and_words() -> tuple[torch.Tensor, list[str], DeepCCA]:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=rng)
    texts = [f"a {('red', 'blue', 'green')[i % 3]} {('shirt', 'shoe')[i % 2]} number {i % 5}" for i in range(40)]
    torch.manual_seed(0)
    net = SmallConvNet(width=4)
    words = BagOfWords(Vocabulary.build(texts), weighting="tfidf").fit(texts)
    towers = Sequence(net, MLP([net.out_dim, 4])), Sequence(words, MLP([words.out_dim, 6, 4]))
    return images, texts, DeepCCA(*towers, n_components=2)


def test_pixels_and_words_train_end_to_end():
    images, texts, model = pictures_and_words()
    model.losses(images, texts)["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.image_encoder.parts[0].state_dict().keys()
    assert model.fit_linear(images, texts).embed_text(["a red shoe", "unknown"]).shape == (2, 2)


@pytest.mark.parametrize("make", [lambda: (*pairs(6), small(6, reconstruction=0.1)), pictures_and_words])
def test_a_saved_model_embeds_the_same(make, tmp_path):
    images, texts, model = make()
    model.fit_linear(images, texts).save(tmp_path / "model")
    loaded = DeepCCA.load(tmp_path / "model")
    assert torch.equal(loaded.embed_image(images), model.embed_image(images))
    assert torch.equal(loaded.embed_text(texts), model.embed_text(texts))
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"weights.safetensors", "config.json"}
    assert not loaded.training


def test_it_refuses_what_cannot_work():
    towers = feature_towers(7, 5, (8,), 4)
    with pytest.raises(ValueError, match="n_components=5, but the encoders give 4 numbers: ask for 1 to 4"):
        DeepCCA(**towers, n_components=5)
    with pytest.raises(ValueError, match="needs image_decoder and text_decoder"):
        DeepCCA(**towers, n_components=2, reconstruction=0.1)
    with pytest.raises(ValueError, match="fit_linear has not been called"):
        DeepCCA(**towers, n_components=2).embed_image(torch.zeros(3, 7))


def test_dead_outputs_do_not_stop_the_linear_cca():
    x, y = pairs(7)
    model = small(7)
    with torch.no_grad():
        model.image_encoder.layers[-1].weight[0] = 0
    assert np.isfinite(model.fit_linear(x, y).score(x, y))
