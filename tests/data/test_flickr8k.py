import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from commonspace.data.download import write_manifest
from commonspace.data.flickr8k import Flickr8k, read_captions

LISTS = {"train": "train", "validation": "dev", "test": "test"}


def names_of(folder, part) -> list[str]:
    return (folder / f"Flickr_8k.{LISTS[part]}Images.txt").read_text().split()


@pytest.mark.parametrize("kind", ["Flicker8k_Dataset", "images", "images.zip"])
def test_the_official_parts_are_read(root, made, seed, kind, capsys):
    folder = root / "flickr8k"
    captions = made["flickr8k"](folder, seed)
    photos = {path.name: path.read_bytes() for path in (folder / "Flicker8k_Dataset").iterdir()}
    if kind == "images.zip":
        made["zip"](folder / "Flicker8k_Dataset", folder / kind)
        shutil.rmtree(folder / "Flicker8k_Dataset")
    else:
        (folder / "Flicker8k_Dataset").rename(folder / kind)
    data = Flickr8k(size=(75, 100))
    assert capsys.readouterr().out == (
        "Flickr8k: 7 of 7 train, 3 of 3 dev, 2 of 2 test pictures are here, 75x100, 5 captions each, "
        "from $COMMONSPACE_DATA/flickr8k\n"
    )
    for part in LISTS:
        samples, names = getattr(data, part), names_of(folder, part)
        assert samples.texts == [captions[name] for name in names]
        assert len(samples) == len(samples.images) == len(names)
        expected = np.stack([np.asarray(Image.open(io.BytesIO(photos[name]))) for name in names])
        np.testing.assert_array_equal(samples.images[torch.arange(len(names))].permute(0, 2, 3, 1).numpy(), expected)
    cut = data.train[[4, 1]]
    assert cut.texts == [data.train.texts[4], data.train.texts[1]]
    assert (cut.images[[1]] == data.train.images[[1]]).all()


def test_pictures_that_are_not_there_are_left_out(root, made, seed, capsys):
    folder = root / "flickr8k"
    captions = made["flickr8k"](folder, seed)
    train, test = names_of(folder, "train"), names_of(folder, "test")
    for name in (train[2], *test):
        (folder / "Flicker8k_Dataset" / name).unlink()
    data = Flickr8k(size=(8, 8))
    assert "6 of 7 train, 3 of 3 dev, 0 of 2 test" in capsys.readouterr().out
    assert data.train.texts == [captions[name] for name in train if name != train[2]]
    assert (len(data.train.images), len(data.test), len(data.test.images)) == (6, 0, 0)


def test_the_odd_name_is_the_same_picture(root, made, seed):
    folder = root / "flickr8k"
    captions = made["flickr8k"](folder, seed)
    assert ".jpg.1#0" in (folder / "Flickr8k.token.txt").read_text()
    assert read_captions(folder / "Flickr8k.token.txt") == captions


def test_what_is_missing_names_the_command(root):
    with pytest.raises(FileNotFoundError, match=r"python data_scripts/get_flickr8k\.py"):
        Flickr8k()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: [*lines, "1.jpg 0 A dog"], "line 66 must be picture.jpg#number, a tab, the caption"),
        (lambda lines: [*lines, "1.jpg#0\t "], "line 66 must be"),
        (lambda lines: [*lines, "1.jpg#0\tA dog ."], "1.jpg has 1 captions, 5 were expected"),
        (lambda lines: lines[:-1], "has 4 captions, 5 were expected"),
        (lambda lines: [], "Flickr_8k.trainImages.txt: 7 pictures have no captions"),
    ],
)
def test_damaged_captions_are_named(root, made, spoil, message):
    made["flickr8k"](root / "flickr8k")
    path = root / "flickr8k/Flickr8k.token.txt"
    path.write_text("\n".join(spoil(path.read_text().splitlines())))
    with pytest.raises(ValueError, match=rf"(?s){message}.*Mend it with\n  python data_scripts/get_flickr8k\.py"):
        Flickr8k()


def test_a_missing_list_is_named(root, made):
    made["flickr8k"](root / "flickr8k")
    (root / "flickr8k/Flickr_8k.devImages.txt").unlink()
    with pytest.raises(ValueError, match=r"Flickr_8k\.devImages\.txt is missing"):
        Flickr8k()


def test_a_prepared_file_that_was_altered_is_named(root, made):
    made["flickr8k"](root / "flickr8k")
    write_manifest(root / "flickr8k")
    Flickr8k()
    path = root / "flickr8k/Flickr8k.token.txt"
    path.write_text(path.read_text().replace("dog", "cat"))
    with pytest.raises(ValueError, match=r"Flickr8k\.token\.txt is altered"):
        Flickr8k()


@pytest.mark.realdata
def test_the_real_captions_and_pictures(real):
    real("flickr8k", "Flickr8k.token.txt")
    data = Flickr8k(size=(32, 32))
    if len(data.train) == 753:  # the part with 875 pictures
        assert (len(data.validation), len(data.test)) == (113, 0)
    else:
        assert (len(data.train), len(data.validation), len(data.test)) == (6000, 1000, 1000)
    assert data.train.images[torch.arange(5)].shape == (5, 3, 32, 32)
    assert {len(captions) for captions in data.train.texts} == {5}
    index = next(i for i, c in enumerate(data.train.texts) if c[0].startswith("A little old lady sitting"))
    assert data.train.texts[index][3] == "A woman sits in a subway station ."
