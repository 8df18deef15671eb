"""The script that computes features, on small sets in their owners' layouts, with torchvision's smallest ResNet."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pytest
import torch

from commonspace.data import Coco, FashionProducts, Flickr8k, Flickr30k
from commonspace.encoders import ResNet, features_of

SCRIPT = Path(__file__).parents[2] / "data_scripts" / "extract_features.py"
PARTS = ("train", "validation", "test")
RANDOM = ["--network", "resnet18", "--weights", "none", "--device", "cpu"]


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("extract_features", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder that is searched for data, beside a cache and a folder of torch's of its own."""
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COMMONSPACE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "data"


@pytest.fixture
def features(tmp_path) -> Path:
    return tmp_path / "cache" / "features"


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.relative_to(folder).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*.*")}


def test_it_computes_and_a_second_run_does_nothing(script, small_sets, root, features, capsys, monkeypatch):
    small_sets.write_flickr(root / "flickr8k")
    assert script.main(["--data", "flickr8k", *RANDOM]) == 0
    out = capsys.readouterr().out
    assert "  photos   7 train, 3 validation, 2 test; 1 crop of each\n  size     0.0 MB\n  weights  none" in out
    assert "In $COMMONSPACE_CACHE/features/flickr8k-resnet18-random-1crop:\n  train       7 rows of 512, mean" in out
    data = Flickr8k()
    images = {part: getattr(data, part).images for part in PARTS}
    found = features_of("flickr8k", "resnet18", images, weights=None)
    encoder = script.image_network("resnet18", None)
    with torch.inference_mode():
        for part, n in zip(PARTS, (7, 3, 2), strict=True):
            pictures = images[part].scaled((256, 256), "bilinear")[:]
            expected = encoder(pictures[:, :, 16:240, 16:240])
            assert found[part].shape == (n, 512)
            torch.testing.assert_close(found[part][:], expected)
            norm = f"mean norm {expected.norm(dim=1).mean():.4f}, {(expected == 0).float().mean():.1%} zeros"
            assert f"  {part:<12}{n} rows of 512, {norm}\n" in out
    folder = features / "flickr8k-resnet18-random-1crop"
    assert {path.name for path in folder.iterdir()} == {f"{part}.{kind}" for part in PARTS for kind in ("npy", "json")}
    before = tree(features)
    capsys.readouterr()
    monkeypatch.setattr(script, "image_network", None)  # it is not even built
    assert script.main(["--data", "flickr8k", *RANDOM]) == 0
    assert "Already in $COMMONSPACE_CACHE/features/flickr8k-resnet18-random-1crop; nothing to do.\n  train " in (
        capsys.readouterr().out
    )
    assert tree(features) == before


def test_a_damaged_photo_stops_it_and_the_next_run_goes_on(script, small_sets, root, features, capsys, monkeypatch):
    small_sets.write_flickr(root / "flickr8k")
    photos = Flickr8k().train.images
    bad = photos.where / photos.places[5]
    good = bad.read_bytes()
    bad.write_bytes(good[:300])
    command = ["--data", "flickr8k", *RANDOM, "--parts", "validation", "train", "--batch-size", "2"]
    assert script.main(command) == 1
    err = capsys.readouterr().err
    assert err.startswith("extract_features: ")
    assert f"the picture {bad.name} is missing or damaged" in err
    folder = features / "flickr8k-resnet18-random-1crop"
    assert (folder / "train.npy.part").stat().st_size == 128 + 4 * 512 * 4
    assert not (folder / "train.npy").exists()
    bad.write_bytes(good)
    seen = []
    forward = ResNet.forward
    monkeypatch.setattr(ResNet, "forward", lambda self, images: seen.append(len(images)) or forward(self, images))
    assert script.main(command) == 0
    assert sum(seen) == 7 - 4 + 3
    assert {path.name for path in folder.iterdir()} == {f"{p}.{k}" for p in PARTS[:2] for k in ("npy", "json")}


def test_pictures_that_came_later_are_told(script, small_sets, root, capsys):
    small_sets.write_flickr(root / "flickr8k")
    photos = Flickr8k().test.images
    late = photos.where / photos.places[1]
    content = late.read_bytes()
    late.unlink()
    command = ["--data", "flickr8k", *RANDOM, "--parts", "test"]
    assert script.main(command) == 0
    late.write_bytes(content)
    capsys.readouterr()
    assert script.main(command) == 1
    err = capsys.readouterr().err
    assert "pictures is 1, not 2; the pictures are others" in err
    assert "delete $COMMONSPACE_CACHE/features/flickr8k-resnet18-random-1crop/test.* and run" in err


@pytest.mark.parametrize("name", ["flickr30k", "coco", "fashion-products"])
def test_the_other_sets(script, small_sets, root, tmp_path, name, monkeypatch):
    if name == "fashion-products":
        small_sets.write_fashion(tmp_path / "elsewhere" / name)
        parts = dict(zip(PARTS, FashionProducts(tmp_path / "elsewhere").split(), strict=True))
        names = {part: [f"{i}.jpg" for i in samples.ids.tolist()] for part, samples in parts.items()}
    else:
        small_sets.write_karpathy(tmp_path / "elsewhere" / name, name)
        data = {"flickr30k": Flickr30k, "coco": Coco}[name](tmp_path / "elsewhere")
        names = {part: getattr(data, part).images for part in PARTS}
    # In place of a network: a few of the pixels.
    encoder = torch.nn.Flatten()
    encoder.forward = lambda images: images[:, :, 100:104, 100].flatten(1).float()
    encoder.out_dim = 12
    monkeypatch.setattr(script, "image_network", lambda network, weights: encoder)
    assert script.main(["--data", name, *RANDOM, "--root", str(tmp_path / "elsewhere"), "--workers", "2"]) == 0
    found = features_of(name, "resnet18", names, weights=None)
    assert {part: len(rows) for part, rows in found.items()} == {part: len(names[part]) for part in PARTS}
    assert sum(map(len, found.values())) == {"flickr30k": 15, "coco": 15, "fashion-products": 58}[name]
    if name == "fashion-products":  # each row is of the article of that id
        where = tmp_path / "elsewhere" / name / "images"
        for part in PARTS:
            pictures = script.Pictures(where, names[part], (256, 256), "bilinear")[:]
            np.testing.assert_array_equal(found[part][:].numpy(), encoder(pictures[:, :, 16:240, 16:240]).numpy())


def test_ten_crops_have_a_folder_of_their_own(script, small_sets, root, features, capsys):
    small_sets.write_flickr(root / "flickr8k")
    for crops in ("1", "10"):
        assert script.main(["--data", "flickr8k", *RANDOM, "--parts", "test", "--crops", crops]) == 0
    assert "10 crops of each" in capsys.readouterr().out
    rows = [np.load(features / f"flickr8k-resnet18-random-{crops}crop" / "test.npy") for crops in (1, 10)]
    assert rows[0].shape == rows[1].shape == (2, 512)
    assert np.abs(rows[0] - rows[1]).max() > 1e-3


def test_pretrained_weights(script, small_sets, root, features, tmp_path, capsys):
    small_sets.write_flickr(root / "flickr8k")
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.manual_seed(5)
    network = ResNet("resnet18").eval()
    state = network.body.state_dict() | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save(state, checkpoints / "resnet18-f37072fd.pth")
    command = ["--data", "flickr8k", "--network", "resnet18", "--device", "cpu", "--parts", "test"]
    assert script.main(command) == 0
    out = capsys.readouterr().out
    source = "resnet18 IMAGENET1K_V1, 45 MB, from https://download.pytorch.org/models/resnet18-f37072fd.pth\n"
    assert out.index(f"  weights  {source}  terms    torchvision") < out.index("In $COMMONSPACE_CACHE")
    images = Flickr8k().test.images
    rows = features_of("flickr8k", "resnet18", {"test": images})["test"]
    with torch.inference_mode():
        expected = network(images.scaled((256, 256), "bilinear")[:][:, :, 16:240, 16:240])
    torch.testing.assert_close(rows[:], expected)
    manifest = json.loads((features / "flickr8k-resnet18-1crop" / "test.json").read_text())
    assert (manifest["weights"], manifest["weights_file"]) == ("DEFAULT", "resnet18-f37072fd.pth")
    (checkpoints / "resnet18-f37072fd.pth").unlink()
    assert script.main(command) == 0  # nothing is left to fetch them for


def test_weights_that_cannot_be_fetched(script, small_sets, root, features, capsys, monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setattr("torch.hub.urlopen", offline)
    small_sets.write_flickr(root / "flickr8k")
    assert script.main(["--data", "flickr8k", "--network", "resnet152"]) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("extract_features: the weights of resnet152 could not be fetched (<urlopen error no route>)")
    assert "resnet152-f82ba261.pth elsewhere and put it into" in err
    assert not features.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--network", "resnet18", "--weights", "imagenet"],
            "weights of resnet18 are None, 'DEFAULT', 'IMAGENET1K_V1'",
        ),
        ([*RANDOM, "--batch-size", "0"], "batch_size=0"),
        ([*RANDOM, "--device", "mps"], "device 'mps' is not on this machine"),
    ],
)
def test_bad_options_are_told(script, small_sets, root, features, capsys, arguments, message):
    if "mps" in arguments and torch.backends.mps.is_available():
        pytest.skip("there is an mps device here")
    small_sets.write_flickr(root / "flickr8k")
    assert script.main(["--data", "flickr8k", *arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith("extract_features: ")
    assert message in err
    assert not features.exists()


def test_photos_that_are_missing_are_told(script, root, capsys):
    assert script.main(["--data", "coco", *RANDOM]) == 1
    assert "Get it with\n  python data_scripts/get_coco.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--data", "imagenet", *RANDOM], ["--data", "coco", "--network", "vgg11"], ["--parts", "dev"]]
)
def test_unknown_names_are_refused(script, arguments, capsys):
    with pytest.raises(SystemExit):
        script.main(["--data", "coco", "--network", "vgg19", *arguments])
    assert "invalid choice" in capsys.readouterr().err
