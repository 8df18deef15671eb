"""VGG against torchvision's; the 140 million numbers are drawn once."""

from urllib.error import URLError

import pytest
import torch

from commonspace.encoders import VGG, build_encoder

MEAN, STD = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def on_meta(**options) -> VGG:
    """Without any numbers: for what its shapes and flags tell."""
    with torch.device("meta"):
        return VGG(**options)


def pictures(n: int, size: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8)


@pytest.fixture(scope="module")
def vgg() -> VGG:
    torch.manual_seed(0)
    return VGG("vgg16").eval()


def torchvisions(vgg: VGG):
    """torchvision's whole network with the same weights, which it shares, and a classifier of its own."""
    from torchvision.models import get_model

    with torch.device("meta"):
        theirs = get_model("vgg16", weights=None)
    classifier = {"classifier.6.weight": torch.zeros(1000, 4096), "classifier.6.bias": torch.zeros(1000)}
    assert theirs.state_dict().keys() == vgg.body.state_dict().keys() | classifier.keys()
    theirs.load_state_dict(vgg.body.state_dict() | classifier, assign=True)
    return theirs.eval()


@pytest.mark.parametrize("size", [32, 100, 224])
def test_it_is_torchvisions_behind_the_second_relu(vgg, size):
    theirs, seen = torchvisions(vgg), []
    theirs.classifier[4].register_forward_hook(lambda module, before, after: seen.append(after.clone()))
    images = pictures(2, size)
    with torch.inference_mode():
        theirs((images / 255 - MEAN) / STD)
        features = vgg(images)
        assert features.shape == (2, 4096)
        torch.testing.assert_close(features, seen[0])
        torch.testing.assert_close(vgg(images / 255), features)
    assert features.min() == 0
    assert 0.1 < (features > 0).float().mean() < 0.9


def test_its_layers_are_the_blocks_between_poolings(vgg):
    seen = []

    def halved(i, features):
        seen.append(tuple(features.shape[1:]))
        return features * (0.5 if i == 4 else 1)

    images = pictures(1, 64)
    with torch.inference_mode():
        features = vgg(images, halved)
        last = vgg.body.features((images / 255 - MEAN) / STD)
        torch.testing.assert_close(features, vgg.body.classifier(vgg.body.avgpool(0.5 * last).flatten(1)))
    assert seen == [(c, side, side) for c, side in zip(vgg.channels, (32, 16, 8, 4, 2), strict=True)]


def test_dropout_is_on_in_training_where_it_is_trainable(vgg):
    images = pictures(1, 32)
    with torch.inference_mode():
        expected = vgg(images)
        try:
            assert not torch.equal(vgg.train()(images), expected)
        finally:
            vgg.eval()
        assert torch.equal(vgg(images), expected)


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
@pytest.mark.parametrize("trainable", ["all", "none"])
def test_what_is_not_trainable_stays_in_evaluation(name, trainable):
    encoder = on_meta(name=name, trainable=trainable)
    dropouts = [part for part in encoder.modules() if isinstance(part, torch.nn.Dropout)]
    assert len(dropouts) == 2
    for mode in (True, False):
        encoder.train(mode)
        assert encoder.training == mode
        assert {part.training for part in dropouts} == {mode and trainable == "all"}
    assert {p.requires_grad for p in encoder.parameters()} == {trainable == "all"}
    convolutions = [part for part in encoder.modules() if isinstance(part, torch.nn.Conv2d)]
    assert len(convolutions) == int(name[3:]) - 3
    with torch.device("meta"):
        again = build_encoder(encoder.config)
    assert type(again) is VGG
    assert again.config == encoder.config == {"encoder": "VGG", "name": name, "trainable": trainable}
    assert again.state_dict().keys() == encoder.state_dict().keys()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VGG("vgg11"), "one of vgg16, vgg19; got 'vgg11'"),
        (lambda: VGG(trainable="last_block"), "'all' or 'none', got 'last_block'"),
        (lambda: VGG(feature_map=True), "has no feature_map; take a ResNet"),
        (lambda: VGG(weights="imagenet"), "weights of vgg19 are None, 'DEFAULT', 'IMAGENET1K_V1'; got 'imagenet'"),
        # torchvision has no numbers for their fully connected layers.
        (lambda: VGG("vgg16", "IMAGENET1K_FEATURES"), "'IMAGENET1K_V1'; got 'IMAGENET1K_FEATURES'"),
        (lambda: on_meta()(pictures(1, 31)), r"at least 32 x 32 pixels, got \(31, 31\)"),
        (lambda: on_meta()(torch.zeros(1, 1, 32, 32)), r"\(B, 3, h, w\)"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    with pytest.raises(OSError, match=r"no route.*vgg19-dcbb9e9d\.pth elsewhere.*checkpoints, or use weights=None"):
        on_meta(weights="DEFAULT")
