"""Pixel features against a plain eigendecomposition and a loop over pixels; networks against torchvision."""

from urllib.error import URLError

import numpy as np
import pytest
import torch

from commonspace.encoders import PixelFeatures, ResNet, SmallConvNet


def pictures(seed: int, n: int = 60, size: int = 12) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    smooth = torch.rand(n, 3, 3, 3, generator=rng)
    return (torch.nn.functional.interpolate(smooth, size, mode="bilinear") * 255).to(torch.uint8)


@pytest.mark.parametrize("seed", [0, 1])
def test_shape_part_is_the_principal_components_of_the_pixels(seed):
    train, new = pictures(seed), pictures(seed + 100, n=9)
    features = PixelFeatures(n_components=10, size=12).fit(train).transform(new).double().numpy()
    rows, rows_new = (p.flatten(1).double().numpy() / 255 for p in (train, new))
    _, V = np.linalg.eigh(np.cov(rows, rowvar=False))
    V = V[:, ::-1][:, :10]
    scores, scores_new = (rows - rows.mean(axis=0)) @ V, (rows_new - rows.mean(axis=0)) @ V
    np.testing.assert_allclose(np.abs(features[:, :10]), np.abs(scores_new / scores.std()), atol=1e-5)


def test_colour_part_is_the_square_root_of_a_histogram():
    train, new = pictures(0), pictures(7, n=3)
    encoder = PixelFeatures(n_components=5, size=12, colour_weight=0.5).fit(train)
    colour = encoder.transform(new)[:, 5:].double().numpy()
    roots = []
    for part in (train, new):
        counts = np.zeros((len(part), 4, 4, 4))
        for i, picture in enumerate(part.numpy()):
            for red, green, blue in picture.reshape(3, -1).T:
                counts[i, red // 64, green // 64, blue // 64] += 1
        roots.append(np.sqrt(counts.reshape(len(part), 64) / 144))
    np.testing.assert_allclose(colour, 0.5 * roots[1] / roots[0].std(), atol=1e-5)


def test_nothing_is_learned_from_new_pictures():
    encoder = PixelFeatures(n_components=8, size=12).fit(pictures(0))
    new = pictures(1, n=10)
    torch.testing.assert_close(encoder.transform(new)[:1], encoder.transform(new[:1]))


def test_pictures_of_another_size_are_resized():
    encoder = PixelFeatures(n_components=4, size=6).fit(pictures(0, size=24))
    assert encoder.transform(pictures(1, n=2, size=12)).shape == (2, 68)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(5, 3, 8, 8), "uint8"),
        (torch.zeros(5, 8, 8, 3, dtype=torch.uint8), r"\(n, 3, h, w\)"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), "n >= 1"),
        (pictures(0, n=10), "10 pictures at 12x12 have 1 to 9 components, not 100"),
    ],
)
def test_bad_pictures_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        PixelFeatures(size=12).fit(images)


def test_transform_before_fit_is_refused():
    with pytest.raises(ValueError, match="fit PixelFeatures"):
        PixelFeatures().transform(pictures(0))


# ---- networks -------------------------------------------------------------------------------------------------------

ENCODERS = [
    lambda **options: SmallConvNet(width=8, **options),
    lambda **options: ResNet("resnet18", **options),
]
encoders = pytest.mark.parametrize("make", ENCODERS, ids=["SmallConvNet", "ResNet"])


@encoders
def test_uint8_is_floats_in_0_to_1(make):
    images = pictures(0, n=4, size=32)
    encoder = make().eval()
    features = encoder(images)
    assert features.shape == (4, encoder.out_dim)
    torch.testing.assert_close(encoder(images / 255), features)
    assert (encoder(images.flip(1)) - features).abs().max() > 1e-4  # colours count


@encoders
def test_the_vector_is_the_mean_of_the_map(make):
    torch.manual_seed(0)
    vectors = make().eval()
    maps = make(feature_map=True).eval()
    maps.load_state_dict(vectors.state_dict())
    images = pictures(1, n=3, size=64)
    there = maps(images)
    side = 8 if isinstance(maps, SmallConvNet) else 2
    assert there.shape == (3, maps.out_dim, side, side)
    torch.testing.assert_close(there.mean(dim=(2, 3)), vectors(images))


@encoders
def test_same_seed_same_network(make):
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(make().eval()(pictures(0, n=2, size=32)))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@encoders
def test_a_gradient_reaches_every_parameter(make):
    encoder = make()
    encoder(pictures(0, n=6, size=64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in encoder.parameters())


@encoders
def test_batch_norm_looks_at_the_batch_in_training_alone(make):
    encoder = make()
    images = pictures(0, n=6, size=64)
    assert (encoder(images)[:2] - encoder(images[:2])).abs().max() > 1e-4
    encoder.eval()
    torch.testing.assert_close(encoder(images)[:2], encoder(images[:2]), atol=1e-5, rtol=1e-5)


@encoders
def test_there_is_no_head(make):
    encoder = make()
    names = encoder.state_dict().keys()
    assert not any("fc" in name or "_mean" == name or "_std" == name for name in names)
    assert max(tensor.ndim for tensor in encoder.state_dict().values()) == 4
    assert not any(isinstance(part, torch.nn.Linear) for part in encoder.modules())


@encoders
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), r"shape \(B, 3, h, w\).*\(2, 1, 32, 32\)"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), "shape"),
        (torch.zeros(0, 3, 32, 32, dtype=torch.uint8), "B >= 1"),
        (torch.full((2, 3, 32, 32), 255.0), r"floats in \[0, 1\]; got torch.float32 in \[255, 255\]"),
        (torch.full((2, 3, 32, 32), -0.5), r"floats in \[0, 1\]"),
        (torch.full((2, 3, 32, 32), torch.nan), r"floats in \[0, 1\]"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.int64), "uint8, or floats"),
    ],
)
def test_other_pictures_are_refused(make, images, message):
    with pytest.raises(ValueError, match=message):
        make()(images)


def test_small_conv_net_by_hand():
    """Its first two layers in eval mode, written out."""
    torch.manual_seed(3)
    encoder = SmallConvNet(width=4)
    encoder(pictures(5, n=8, size=16))  # gives BatchNorm statistics of its own
    encoder.eval()
    images = pictures(6, n=2, size=16)
    x = images.double() / 255 * 2 - 1
    for conv, norm in [(encoder.body[0], encoder.body[1]), (encoder.body[4], encoder.body[5])]:
        x = torch.nn.functional.conv2d(x, conv.weight.double(), padding=1)
        mean, var = norm.running_mean.double()[:, None, None], norm.running_var.double()[:, None, None]
        x = ((x - mean) / (var + 1e-5).sqrt()).clamp_min(0)
        x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(4, 5))
    torch.testing.assert_close(encoder.body[:8]((images / 255 - 0.5) / 0.5).double(), x, atol=1e-5, rtol=1e-5)
    channels = [part.out_channels for part in encoder.body if isinstance(part, torch.nn.Conv2d)]
    assert channels == [2, 4, 8, 16]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_is_torchvisions(name):
    from torchvision.models import get_model

    torch.manual_seed(1)
    theirs = get_model(name, weights=None).eval()
    ours = ResNet(name).eval()
    left = ours.body.load_state_dict(theirs.state_dict(), strict=False)
    assert left.missing_keys == []
    assert left.unexpected_keys == ["fc.weight", "fc.bias"]
    images = pictures(2, n=2, size=40)
    theirs.fc = torch.nn.Identity()
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = theirs((images / 255 - mean) / std)
    assert expected.shape == (2, ours.out_dim)
    torch.testing.assert_close(ours(images), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("trainable", "learning"), [("none", set()), ("last_block", {"layer4"})])
def test_what_is_not_trainable_stays_as_it_is(trainable, learning):
    encoder = ResNet("resnet18", trainable=trainable)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    images = pictures(0, n=4, size=64)
    encoder.train()
    assert encoder(images).requires_grad == bool(learning)
    assert {name.split(".")[1] for name, p in encoder.named_parameters() if p.requires_grad} == learning
    changed = {n.split(".")[1] for n, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[n])}
    assert changed == learning  # BatchNorm's statistics
    encoder.eval()
    assert not any(part.training for part in encoder.modules())


def test_resnet_weights_by_name(monkeypatch, tmp_path):
    from torchvision.models import get_model

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(2)
    theirs = get_model("resnet18", weights=None)
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(theirs.state_dict(), checkpoints / "resnet18-f37072fd.pth")
    for weights in ("DEFAULT", "IMAGENET1K_V1"):
        encoder = ResNet("resnet18", weights=weights)
        assert torch.equal(encoder.body.conv1.weight, theirs.conv1.weight)
    assert "weights" not in encoder.config  # built again, it fetches nothing


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    with pytest.raises(OSError, match=r"no route.*resnet18-f37072fd\.pth elsewhere.*checkpoints, or use weights=None"):
        ResNet("resnet18", weights="DEFAULT")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SmallConvNet(width=5), "even number"),
        (lambda: SmallConvNet(width=0), "even number"),
        (lambda: SmallConvNet()(torch.zeros(1, 3, 7, 32, dtype=torch.uint8)), "at least 8 x 8"),
        (lambda: ResNet("resnet19"), "one of resnet18, .*'resnet19'"),
        (lambda: ResNet(trainable="some"), "'all', 'last_block' or 'none'"),
        (lambda: ResNet(weights="imagenet"), "'DEFAULT', 'IMAGENET1K_V1'; got 'imagenet'"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@encoders
def test_networks_run_on_a_gpu(make):
    encoder, images = make().eval(), pictures(0, n=4, size=32)
    expected = encoder(images)
    torch.testing.assert_close(encoder.cuda()(images.cuda()).cpu(), expected, atol=1e-2, rtol=1e-2)
