"""Rows of features in a file against the array that was written, and the manifest that says what they are of."""

import json
import multiprocessing
import pickle
import re

import numpy as np
import pytest
import torch

from commonspace.data import PairedSamples, Pictures
from commonspace.encoders import FeatureRows, features_of
from commonspace.encoders.features import about_pictures, command, features_folder

N, WIDTH = 11, 6


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=[0, 1])
def array(request) -> np.ndarray:
    return np.random.default_rng(request.param).normal(size=(N, WIDTH)).astype(np.float32)


@pytest.fixture
def path(tmp_path, array):
    np.save(tmp_path / "rows.npy", array)
    return tmp_path / "rows.npy"


INDICES = {
    "tensor": torch.tensor([4, 0, 4, -1]),
    "list": [2, 9],
    "array": np.array([5, 1]),
    "slice": slice(3, 7),
    "strided": slice(None, None, 4),
    "all": slice(None),
    "mask": torch.arange(N) % 3 == 1,
    "none": torch.zeros(0, dtype=torch.long),
    "one": 3,
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_rows_are_those_of_the_array(path, array, index):
    rows = FeatureRows(path)
    assert (len(rows), rows.shape) == (N, (N, WIDTH))
    found = rows[index]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.from_numpy(array)[index], rtol=0, atol=0)


@pytest.mark.parametrize("index", [N, [0, N], torch.tensor([-N - 1]), torch.ones(N + 1, dtype=torch.bool)])
def test_rows_beyond_the_last_are_refused(path, index):
    with pytest.raises(IndexError):
        FeatureRows(path)[index]


def test_what_is_done_to_rows_does_not_reach_the_file(path, array):
    rows = FeatureRows(path)
    for index in ([1, 2], slice(0, 3), 4):
        rows[index].zero_()
    np.testing.assert_array_equal(np.load(path), array)
    torch.testing.assert_close(rows[:], torch.from_numpy(array))


def _sum(rows: FeatureRows) -> float:
    return float(rows[:].sum())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of newer Pythons, where threads run
def test_a_pickle_is_a_path_and_another_process_reads_it(path, array):
    rows = FeatureRows(path)
    whole = rows[:]
    assert len(pickle.dumps(rows)) < 500
    assert torch.equal(pickle.loads(pickle.dumps(rows))[:], whole)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_sum, (rows,)) == float(whole.sum())


def test_they_stand_where_pictures_do(path, array):
    samples = PairedSamples(images=FeatureRows(path), texts=[[f"text {i}"] for i in range(N)])
    assert len(samples) == N
    torch.testing.assert_close(samples.images[torch.tensor([7, 2])], torch.from_numpy(array[[7, 2]]))
    cut = samples[2:5]
    torch.testing.assert_close(cut.images, torch.from_numpy(array[2:5]))
    assert cut.texts == [["text 2"], ["text 3"], ["text 4"]]
    with pytest.raises(ValueError, match="images has 11 rows, texts has 3"):
        PairedSamples(images=FeatureRows(path), texts=["a", "b", "c"])


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python data_scripts/extract_features\.py\nLooked for\n  .*gone\.npy"):
        FeatureRows(tmp_path / "gone.npy")
    with pytest.raises(FileNotFoundError, match=r"Make them with\n  do this\n"):
        FeatureRows(tmp_path, "do this")  # a folder is no file


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", "rows.npy is damaged or cut short"),
        ("header", "rows.npy is damaged or cut short"),
        ("empty", "rows.npy is damaged or cut short"),
        ("longer", r"float32 of shape \(n, d\) and nothing else; got float32 of shape \(11, 6\) and more"),
        ("float64", r"float32 of shape \(n, d\).*got float64"),
        ("flat", r"float32 of shape \(n, d\).*got float32 of shape \(66,\)"),
    ],
)
def test_a_damaged_file_is_refused(path, array, how, message):
    content = path.read_bytes()
    if how in ("float64", "flat"):
        np.save(path, array.astype(np.float64) if how == "float64" else array.ravel())
    else:
        made = {"cut": content[:-1], "header": b"x" + content[1:], "empty": b"", "longer": content + b"\0"}
        path.write_bytes(made[how])
    with pytest.raises(ValueError, match=message) as error:
        FeatureRows(path)
    assert re.search(r"delete .*/rows\.\* and run python data_scripts/extract_features\.py again", str(error.value))


# ---- features of a data set -----------------------------------------------------------------------------------------

NAMES = {"train": [f"{i}.jpg" for i in range(N)], "test": ["a.jpg", "b.jpg"]}


def write(setting: dict, names: dict[str, list[str]] = NAMES, **facts) -> dict[str, np.ndarray]:
    """Features as `extract_features` leaves them."""
    folder, written = features_folder(**setting), {}
    folder.mkdir(parents=True)
    for part, own in names.items():
        written[part] = np.random.default_rng(len(own)).normal(size=(len(own), WIDTH)).astype(np.float32)
        np.save(folder / f"{part}.npy", written[part])
        own_facts = setting | {"part": part, "encoder_sha256": "e"} | about_pictures(own) | facts
        (folder / f"{part}.json").write_text(json.dumps(own_facts))
    return written


SETTINGS = {
    "flickr8k-resnet18-1crop": {"data": "flickr8k", "network": "resnet18", "weights": "DEFAULT", "crops": 1},
    "coco-vgg19-random-10crop": {"data": "coco", "network": "vgg19", "weights": None, "crops": 10},
    "coco-resnet152-IMAGENET1K_V1-1crop": {
        "data": "coco",
        "network": "resnet152",
        "weights": "IMAGENET1K_V1",
        "crops": 1,
    },
}
FLICKR = SETTINGS["flickr8k-resnet18-1crop"]


@pytest.mark.parametrize("name", SETTINGS)
def test_features_are_found_by_name_and_setting(cache, name):
    setting = SETTINGS[name]
    assert features_folder(**setting) == cache / "features" / name
    written = write(setting)
    pictures = {part: Pictures("x.zip", [f"deep/images/{own}" for own in NAMES[part]], (8, 8)) for part in NAMES}
    for parts in (NAMES, pictures):
        found = features_of(parts=parts, **setting)
        assert list(found) == ["train", "test"]
        for part, rows in found.items():
            np.testing.assert_array_equal(rows[:].numpy(), written[part])
    assert list(features_of(parts={"test": NAMES["test"]}, **setting)) == ["test"]


COMMANDS = {
    "flickr8k-resnet18-1crop": "--data flickr8k --network resnet18",
    "coco-vgg19-random-10crop": "--data coco --network vgg19 --weights none --crops 10",
    "coco-resnet152-IMAGENET1K_V1-1crop": "--data coco --network resnet152 --weights IMAGENET1K_V1",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_missing_features_name_the_command(name):
    expected = f"python data_scripts/extract_features.py {COMMANDS[name]}"
    assert command(**SETTINGS[name]) == expected
    with pytest.raises(FileNotFoundError, match=re.escape(f"{expected} --parts train\n")):
        features_of(parts=NAMES, **SETTINGS[name])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": NAMES["train"][::-1]}, "settings: the pictures are others, or in another order"),
        ({"train": [*NAMES["train"][1:], "new.jpg"]}, "the pictures are others"),
        ({"train": NAMES["train"][:-1]}, "pictures is 11, not 10; the pictures are others"),
    ],
)
def test_features_of_other_pictures_are_refused(parts, message):
    write(FLICKR)
    with pytest.raises(ValueError, match=message) as error:
        features_of(parts=parts, **FLICKR)
    assert "delete $COMMONSPACE_CACHE/features/flickr8k-resnet18-1crop/train.* and run" in str(error.value)


@pytest.mark.parametrize("fact", [{"crops": 10}, {"weights": None}, {"network": "resnet34"}, {"data": "coco"}])
def test_features_of_another_setting_are_refused(fact):
    write(FLICKR, **fact)
    ((key, value),) = fact.items()
    with pytest.raises(ValueError, match=f"{key} is {value!r}, not {FLICKR[key]!r}"):
        features_of(parts=NAMES, **FLICKR)


def test_parts_of_different_networks_are_refused():
    write(FLICKR)
    manifest = features_folder(**FLICKR) / "test.json"
    manifest.write_text(manifest.read_text().replace('"e"', '"f"'))
    with pytest.raises(ValueError, match="train, test were not made with the same weights of resnet18") as error:
        features_of(parts=NAMES, **FLICKR)
    assert "Delete that folder and run\n  python data_scripts/extract_features.py --data flickr8k" in str(error.value)
    assert features_of(parts={"test": NAMES["test"]}, **FLICKR)["test"].shape == (2, WIDTH)


def test_a_manifest_that_does_not_fit_is_refused():
    write(FLICKR)
    folder = features_folder(**FLICKR)
    np.save(folder / "test.npy", np.zeros((3, WIDTH), dtype=np.float32))
    with pytest.raises(ValueError, match=r"test\.npy has 3 rows for 2 pictures"):
        features_of(parts=NAMES, **FLICKR)
    for content in (b"", b"{", b"[]", b"\xff"):
        (folder / "test.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"test\.json is damaged"):
            features_of(parts=NAMES, **FLICKR)
    (folder / "test.json").unlink()
    with pytest.raises(ValueError, match="data is None, not 'flickr8k'"):
        features_of(parts=NAMES, **FLICKR)
