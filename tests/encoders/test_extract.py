"""Extracted features against torchvision's transforms; runs that are stopped, damaged or meant for something else."""

import errno
import functools
import io
import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commonspace.data import Flickr8k, Pictures
from commonspace.encoders import SmallConvNet, extract_features, image_network
from commonspace.encoders.extract import NETWORKS, crop_views, is_made
from commonspace.encoders.features import about_pictures

# Their shorter side scaled to 32, the longer one has an even number of pixels: torchvision rounds nothing.
SIZES = [
    (64, 64),
    (48, 32),
    (32, 48),
    (96, 64),
    (64, 96),
    (80, 64),
    (96, 144),
    (200, 160),
    (32, 32),
    (160, 80),
    (40, 32),
]
N = len(SIZES)
SMALL = {"resize": 32, "crop": 24, "batch_size": 4}  # 3 blocks: 4, 4 and 3 pictures


def photo(seed: int, size: tuple[int, int]) -> bytes:
    """A smooth picture in many colours, (width, height)."""
    colours = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(params=[0, 1])
def pictures(request, tmp_path) -> Pictures:
    """Eleven pictures in a folder; their own size is not the one that they are encoded at."""
    where = tmp_path / "images"
    where.mkdir()
    for i, size in enumerate(SIZES):
        (where / f"{i}.png").write_bytes(photo(100 * request.param + i, size))
    return Pictures(where, [f"{i}.png" for i in range(N)], (8, 10))


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "features" / "train.npy"


class Tiny(torch.nn.Module):
    """A network of five numbers, always the same, that looks at every pixel; it counts what it has seen.

    ``before``: called with the number of the call, before the network looks.
    """

    out_dim = 5

    def __init__(self, before=lambda call: None, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(torch.randn(3 * 24 * 24, self.out_dim, generator=generator))
        self.dropout = torch.nn.Dropout(0.5)
        self.before, self.calls, self.seen = before, 0, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.before(self.calls)
        self.calls, self.seen = self.calls + 1, self.seen + len(images)
        return self.dropout(images.flatten(1).float() / 255) @ self.weight


def stop_at(call: int, now: int) -> None:
    if now == call:
        raise RuntimeError("stopped")


def stopped(pictures, path, call: int, **options) -> None:
    """A run whose encoder fails at its call of that number."""
    with pytest.raises(RuntimeError, match="stopped"):
        extract_features(pictures, Tiny(functools.partial(stop_at, call)), path, **SMALL | options)


def tree(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


@pytest.fixture
def whole(pictures, tmp_path) -> dict[str, bytes]:
    """The two files of a run in one go, elsewhere."""
    path = tmp_path / "in one go" / "train.npy"
    extract_features(pictures, Tiny(), path, **SMALL)
    assert sorted(tree(path)) == ["train.json", "train.npy"]
    return tree(path)


# ---- what the rows are ----------------------------------------------------------------------------------------------


def torchvisions(crops: int, resize: int, crop: int):
    """(crops, 3, crop, crop) uint8 of a Pillow image."""
    from torchvision import transforms as T

    one = T.Compose([T.Resize(resize), T.CenterCrop(crop), T.PILToTensor(), lambda x: x[None]])
    stack = T.Lambda(lambda views: torch.stack([T.PILToTensor()(view) for view in views]))
    return one if crops == 1 else T.Compose([T.Resize(resize), T.CenterCrop(resize), T.TenCrop(crop), stack])


@pytest.mark.parametrize("crops", [1, 10])
@pytest.mark.parametrize("workers", [1, 3])
def test_rows_are_those_of_torchvisions_transforms(pictures, path, crops, workers):
    encoder = Tiny()
    rows = extract_features(pictures, encoder, path, crops=crops, workers=workers, **SMALL)
    assert rows.shape == (N, 5)
    views_of = torchvisions(crops, 32, 24)
    with torch.inference_mode():
        for i in range(N):
            views = views_of(Image.open(pictures.where / f"{i}.png"))
            assert views.shape == (crops, 3, 24, 24)
            shifted, expected = encoder(views.roll(1, dims=3)).mean(dim=0), encoder(views).mean(dim=0)
            assert (rows[i] - shifted).abs().max() > 0.2  # by one pixel
            torch.testing.assert_close(rows[i], expected)


def test_crops_by_hand():
    image = torch.arange(2 * 3 * 6 * 8).reshape(2, 3, 6, 8)
    (one,) = crop_views(image, 4, 1)
    assert torch.equal(one, image[:, :, 1:5, 2:6])
    ten = crop_views(image, 4, 10)
    corners = [image[:, :, :4, :4], image[:, :, :4, 4:], image[:, :, 2:, :4], image[:, :, 2:, 4:]]
    for i, view in enumerate([*corners, one]):
        assert torch.equal(ten[i], view)
        assert torch.equal(ten[i + 5], view[..., [3, 2, 1, 0]])
    assert len(ten) == 10


@pytest.mark.realdata
@pytest.mark.parametrize(("crops", "n"), [(1, 12), (10, 4)])
def test_real_photos_and_torchvisions_transforms(path, crops, n):
    try:
        photos = Flickr8k().validation.images
    except FileNotFoundError:
        pytest.skip("flickr8k is not in $COMMONSPACE_DATA")
    originals = [Image.open(io.BytesIO(photos._zip().read(place))).convert("RGB") for place in photos.places[:60]]
    square = [i for i, original in enumerate(originals) if original.width == original.height]
    some = [*square[:2], *(i for i in range(n) if i not in square)][:n]
    encoder = image_network("resnet18", None)
    rows = extract_features(photos.subset(some), encoder, path, crops=crops, batch_size=n)[:]
    with torch.inference_mode():
        views = torch.stack([torchvisions(crops, 256, 224)(originals[i]) for i in some])
        expected = torch.stack([encoder(view) for view in views.unbind(1)]).mean(dim=0)
    torch.testing.assert_close(rows[:2], expected[:2])
    mean = expected.mean(dim=0)
    assert torch.cosine_similarity(rows - mean, expected - mean).min() > 0.95  # torchvision rounds to whole pixels


def test_networks_by_name_are_frozen_and_the_same_every_time():
    assert NETWORKS["resnet152"] == 2048
    assert NETWORKS["vgg19"] == 4096
    before = torch.get_rng_state()
    one, two = image_network("resnet18", None), image_network("resnet18", None)
    assert torch.equal(torch.get_rng_state(), before)
    assert one.out_dim == NETWORKS["resnet18"]
    assert not any(part.training for part in one.modules())
    assert not any(p.requires_grad for p in one.parameters())
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    with pytest.raises(ValueError, match=r"one of resnet18, .*, vgg19; got 'vgg11'"):
        image_network("vgg11")


def test_the_manifest_says_what_the_rows_are_of(pictures, path):
    facts = {"data": "photos", "part": "train", "weights": None}
    extract_features(pictures, Tiny(), path, facts=facts, crops=10, **SMALL)
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest.items() >= {**facts, "crops": 10, "resize": 32, "crop": 24, "width": 5, "pictures": N}.items()
    assert manifest.items() >= about_pictures([f"{i}.png" for i in range(N)]).items()
    assert is_made(path, facts)


def test_a_part_without_pictures_has_no_rows(pictures, path):
    assert extract_features(pictures.subset([]), Tiny(), path, **SMALL).shape == (0, 5)


# ---- made once, and gone on with ------------------------------------------------------------------------------------


def test_what_is_there_is_not_made_again(pictures, path):
    first = extract_features(pictures, Tiny(), path, **SMALL)[:]
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()}
    encoder = Tiny()
    assert torch.equal(extract_features(pictures, encoder, path, **SMALL)[:], first)
    assert encoder.seen == 0
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()} == before


@pytest.mark.parametrize("tail", [0, 1, 20, 33])  # bytes of the next block that were written as well
@pytest.mark.parametrize("call", [0, 1, 2])
def test_a_stopped_run_goes_on_where_it_was(pictures, path, whole, call, tail):
    stopped(pictures, path, call)
    part = path.with_name("train.npy.part")
    part.write_bytes(part.read_bytes() + b"\x7f" * tail)
    assert not path.exists()
    encoder = Tiny()
    extract_features(pictures, encoder, path, **SMALL)
    assert encoder.seen == N - 4 * call
    assert tree(path) == whole


def test_a_run_stopped_behind_the_last_block_has_nothing_left_to_do(pictures, path, whole, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("commonspace.encoders.extract._sha256", killed)
        with pytest.raises(KeyboardInterrupt):
            extract_features(pictures, Tiny(), path, **SMALL)
    assert not path.exists()
    encoder = Tiny()
    extract_features(pictures, encoder, path, **SMALL)
    assert encoder.seen == 0
    assert tree(path) == whole


def test_a_run_may_go_on_with_another_batch_size(pictures, path):
    stopped(pictures, path, 2)  # 8 pictures are done; of blocks of 3 that is 2 whole ones
    encoder = Tiny()
    rows = extract_features(pictures, encoder, path, **SMALL | {"batch_size": 3})
    assert encoder.seen == N - 6
    expected = extract_features(pictures, Tiny(), path.with_name("other.npy"), **SMALL)
    torch.testing.assert_close(rows[:], expected[:])


def test_the_file_appears_when_all_is_done(pictures, path):
    there = []
    extract_features(pictures, Tiny(lambda call: there.append(path.exists())), path, **SMALL)
    assert there == [False] * 3
    assert path.exists()


def test_an_unfinished_file_without_a_manifest_is_not_trusted(pictures, path, whole):
    stopped(pictures, path, 2)
    path.with_suffix(".json").unlink()
    part = path.with_name("train.npy.part")
    part.write_bytes(part.read_bytes()[:-4] + b"\x7f" * 4)
    extract_features(pictures, Tiny(), path, **SMALL)
    assert tree(path) == whole


# ---- two at once ----------------------------------------------------------------------------------------------------


def test_a_second_run_at_once_is_refused(pictures, path, whole):
    told = []

    def again(call):
        with pytest.raises(OSError, match=r"train\.npy cannot be made: another process is making it") as error:
            extract_features(pictures, Tiny(), path, **SMALL)
        told.append(error)

    extract_features(pictures, Tiny(again), path, **SMALL)
    assert len(told) == 3
    assert tree(path) == whole


def _hang_at(call: int, reached, now: int) -> None:
    if now == call:
        reached.set()
        signal.pause()


def _run(pictures, path, call, reached) -> None:
    extract_features(pictures, Tiny(functools.partial(_hang_at, call, reached)), path, **SMALL)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of newer Pythons, where threads run
def test_a_process_that_is_killed_makes_way(pictures, path, whole):
    context = multiprocessing.get_context("fork")
    reached = context.Event()
    child = context.Process(target=_run, args=(pictures, path, 2, reached))
    child.start()
    try:
        assert reached.wait(60)
        with pytest.raises(OSError, match="another process is making it"):
            extract_features(pictures, Tiny(), path, **SMALL)
    finally:
        child.kill()
        child.join()
    encoder = Tiny()
    extract_features(pictures, encoder, path, **SMALL)
    assert encoder.seen == N - 8
    assert tree(path) == whole


def test_what_another_process_has_made_meanwhile_is_taken(pictures, path, whole, monkeypatch):
    import commonspace.encoders.extract as module

    alone = module._alone

    def after_the_other(path):
        monkeypatch.setattr(module, "_alone", alone)
        extract_features(pictures, Tiny(), path, **SMALL)
        return alone(path)

    monkeypatch.setattr(module, "_alone", after_the_other)
    encoder = Tiny()
    extract_features(pictures, encoder, path, **SMALL)
    assert encoder.seen == 0
    assert tree(path) == whole


# ---- something else is there ----------------------------------------------------------------------------------------

OTHERS = {
    "pictures": (lambda p: (p.subset([0, 2, 1, *range(3, N)]), Tiny(), {}), "the pictures are others, or in another"),
    "fewer": (lambda p: (p.subset(range(9)), Tiny(), {}), "pictures is 11, not 9"),
    "weights": (lambda p: (p, Tiny(seed=1), {}), "the encoder has other weights"),
    "crops": (lambda p: (p, Tiny(), {"crops": 10}), "crops is 1, not 10"),
    "resize": (lambda p: (p, Tiny(), {"resize": 30}), "resize is 32, not 30"),
    "facts": (lambda p: (p, Tiny(), {"facts": {"network": "resnet18"}}), "network is None, not 'resnet18'"),
}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("other", OTHERS)
def test_features_of_something_else_are_left_alone(pictures, path, other, finished):
    if finished:
        extract_features(pictures, Tiny(), path, **SMALL)
    else:
        stopped(pictures, path, 2)
    before = tree(path)
    make, message = OTHERS[other]
    images, encoder, options = make(pictures)
    with pytest.raises(ValueError, match=message) as error:
        extract_features(images, encoder, path, **SMALL | options)
    assert f"delete {path.parent / 'train'}.* and run python data_scripts/extract_features.py again" in str(error.value)
    assert tree(path) == before
    for file in path.parent.glob("train.*"):  # as it says
        file.unlink()
    assert len(extract_features(images, encoder, path, **SMALL | options)) == len(images)


def test_a_file_without_a_manifest_is_left_alone(pictures, path):
    path.parent.mkdir()
    path.write_bytes(b"somebody's own")
    with pytest.raises(ValueError, match=r"train\.npy has no manifest"):
        extract_features(pictures, Tiny(), path, **SMALL)
    assert tree(path) == {"train.npy": b"somebody's own"}


# ---- damage, and a full disk ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "longer"])
def test_a_damaged_file_is_made_anew(pictures, path, whole, how, capsys):
    extract_features(pictures, Tiny(), path, **SMALL)
    content = bytearray(path.read_bytes())
    content[150] ^= 1
    made = {"cut": content[:-7], "flipped": content, "empty": b"", "longer": whole["train.npy"] + b"\0"}
    path.write_bytes(made[how])
    extract_features(pictures, Tiny(), path, **SMALL)
    assert "train.npy is altered or cut short; it is made anew" in capsys.readouterr().out
    assert tree(path) == whole


@pytest.mark.parametrize("kept", [0, 5, 127])
def test_an_unfinished_file_with_a_damaged_header_is_begun_again(pictures, path, whole, kept):
    stopped(pictures, path, 2)
    part = path.with_name("train.npy.part")
    part.write_bytes(part.read_bytes()[:kept] + b"x" * (300 if kept else 0))
    extract_features(pictures, Tiny(), path, **SMALL)
    assert tree(path) == whole


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("bad", [0, 6, N - 1])
def test_a_damaged_picture_is_named_and_what_was_done_is_kept(pictures, path, whole, bad, workers):
    file = pictures.where / f"{bad}.png"
    good = file.read_bytes()
    file.write_bytes(good[:60])
    with pytest.raises(ValueError, match=rf"the picture {bad}\.png is missing or damaged"):
        extract_features(pictures, Tiny(), path, workers=workers, **SMALL)
    assert not path.exists()
    file.write_bytes(good)
    encoder = Tiny()
    extract_features(pictures, encoder, path, **SMALL)
    assert encoder.seen == N - bad // 4 * 4
    assert tree(path) == whole


def test_a_full_disk_is_told_and_what_was_done_is_kept(pictures, path, whole):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = len(whole["train.npy"])
    assert size == 128 + 20 * N
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 + 20 * 6, limits[1]))  # the second block has 4 pictures: 2 fit
    try:
        with pytest.raises(OSError, match=r"train\.npy cannot be written \(File too large\). What was done is kept"):
            extract_features(pictures, Tiny(), path, **SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not path.exists()
    encoder = Tiny()
    extract_features(pictures, encoder, path, **SMALL)
    assert encoder.seen == N - 4
    assert tree(path) == whole


def test_too_little_room_is_told_before_the_work(pictures, path, monkeypatch):
    encoder = Tiny()
    stopped(pictures, path, 1)
    usage = type("Usage", (), {"free": 20 * (N - 4) - 1})
    monkeypatch.setattr("commonspace.encoders.extract.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match=r"train\.npy cannot be written \(0 MB are needed, 0 are free\)"):
        extract_features(pictures, encoder, path, **SMALL)
    assert encoder.seen == 0
    usage.free += 1
    extract_features(pictures, encoder, path, **SMALL)
    assert encoder.seen == N - 4


def test_a_disk_that_fails_at_the_end_is_told(pictures, path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("commonspace.encoders.extract.os.fsync", full)
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\)"):
        extract_features(pictures, Tiny(), path, **SMALL)
    assert not path.exists()


# ---- bad arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crops": 5}, "crops must be 1 or 10, got 5"),
        ({"crop": 33}, "crop must be from 1 to resize.*got crop=33, resize=32"),
        ({"crop": 0}, "crop=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"workers": 0}, "workers=0"),
        ({"resize": 2000}, r"size is \(height, width\).*1 to 1024"),
    ],
)
def test_bad_arguments_are_refused(pictures, path, options, message):
    with pytest.raises(ValueError, match=message):
        extract_features(pictures, Tiny(), path, **SMALL | options)
    assert not path.parent.exists()


def test_pictures_in_memory_are_refused(path):
    with pytest.raises(ValueError, match=r"must be commonspace\.data\.Pictures, still in their files; got Tensor"):
        extract_features(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), Tiny(), path, **SMALL)


def test_features_that_are_not_finite_are_refused(pictures, path):
    class Broken(Tiny):
        def forward(self, images):
            rows = super().forward(images)
            return rows.masked_fill((torch.arange(len(rows)) == 2)[:, None] & (self.calls == 2), float("nan"))

    with pytest.raises(ValueError, match=r"the features of 6\.png are not finite"):
        extract_features(pictures, Broken(), path, **SMALL)


def test_an_encoder_of_another_width_is_refused(pictures, path):
    encoder = Tiny()
    encoder.out_dim = 6
    with pytest.raises(ValueError, match=r"\(b, 6\), its out_dim; of 4 pictures it gave \(4, 5\)"):
        extract_features(pictures, encoder, path, **SMALL)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_same_rows(pictures, path):
    torch.manual_seed(0)
    encoder = SmallConvNet(width=4)
    expected = extract_features(pictures, encoder, path, crops=10, **SMALL)[:]
    found = extract_features(pictures, encoder, path.with_name("gpu.npy"), crops=10, device="cuda", **SMALL)[:]
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)
