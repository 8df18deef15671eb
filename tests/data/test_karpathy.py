import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from commonspace.data import Coco, Flickr30k
from commonspace.data.download import write_manifest

SETS = {"flickr30k": Flickr30k, "coco": Coco}
PARTS = {"train": {"train", "restval"}, "validation": {"val"}, "test": {"test"}}


@pytest.mark.parametrize("kind", ["owners", "images", "images.zip"])
@pytest.mark.parametrize("name", SETS)
def test_karpathys_parts_are_read(root, made, seed, name, kind, capsys):
    folder = root / name
    entries = made["karpathy"](folder, name, seed)
    photos = {path.name: path.read_bytes() for path in folder.rglob("*.jpg")}
    if kind != "owners":
        for path in list(folder.rglob("*.jpg")):
            (folder / "images").mkdir(exist_ok=True)
            path.rename(folder / "images" / path.name)
    if kind == "images.zip":
        made["zip"](folder / "images", folder / kind, "images/")
        shutil.rmtree(folder / "images")
    data = SETS[name](size=(40, 50))
    assert capsys.readouterr().out == (
        f"{SETS[name].title}: 8 of 8 train, 4 of 4 validation, 3 of 3 test photos are here, 40x50, "
        f"from $COMMONSPACE_DATA/{name}\n"
    )
    for part, own in PARTS.items():
        samples, mine = getattr(data, part), [entry for entry in entries if entry["split"] in own]
        assert samples.texts == [[s["raw"].strip() for s in entry["sentences"][:5]] for entry in mine]
        expected = [np.asarray(Image.open(io.BytesIO(photos[entry["filename"]]))) for entry in mine]
        found = samples.images[torch.arange(len(mine))].permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(found, np.stack(expected))
    cut = data.train[[4, 1]]
    assert cut.texts == [data.train.texts[4], data.train.texts[1]]


def test_restval_is_in_train_by_flag(root, made, seed, capsys):
    entries = made["karpathy"](root / "coco", "coco", seed)
    assert {entry["split"] for entry in entries} == {"train", "restval", "val", "test"}
    small, whole = Coco(size=(8, 8), restval=False), Coco(size=(8, 8))
    assert (len(small.train), len(whole.train)) == (5, 8)
    assert [t for t in whole.train.texts if t in small.train.texts] == small.train.texts
    assert small.test.texts == whole.test.texts
    assert "5 of 5 train" in capsys.readouterr().out


def test_as_many_captions_as_are_asked_for(root, made):
    entries = made["karpathy"](root / "coco", "coco")
    test = [[s["raw"].strip() for s in e["sentences"]] for e in entries if e["split"] == "test"]
    everything = Coco(size=(8, 8), n_captions=None)
    assert everything.test.texts == test
    assert 6 in {len(texts) for texts in everything.train.texts}
    assert Coco(size=(8, 8), n_captions=1).test.texts == [texts[:1] for texts in test]
    for wrong in (0, 6):
        with pytest.raises(ValueError, match=f"n_captions must be from 1 to 5, or None for all; got {wrong}"):
            Coco(n_captions=wrong)


@pytest.mark.parametrize("name", SETS)
def test_photos_that_are_not_there_are_left_out(root, made, name, capsys):
    entries = made["karpathy"](root / name, name)
    gone = [entry["filename"] for entry in entries if entry["split"] in ("val", "test")][1:]
    for path in (root / name).rglob("*.jpg"):
        if path.name in gone:
            path.unlink()
    data = SETS[name](size=(8, 8))
    assert len(data.train) == 8
    assert len(data.validation) + len(data.test) == 1
    assert len(data.validation.images) == len(data.validation)
    assert "8 of 8 train" in capsys.readouterr().out


@pytest.mark.parametrize("name", SETS)
def test_what_is_missing_names_the_command(root, name):
    with pytest.raises(FileNotFoundError, match=rf"python data_scripts/get_{name}\.py"):
        SETS[name]()


def spoilt(entries: list, **change) -> list:
    return [*entries[:2], entries[2] | change, *entries[3:]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda e: e, "is damaged, or not in Karpathy's layout"),
        (lambda e: {"images": []}, "has no photos, or one of them twice"),
        (lambda e: {"images": [*e, e[0]]}, "has no photos, or one of them twice"),
        (lambda e: {"images": spoilt(e, split="validation")}, r"entry 2 must have split \(train, restval, val, test\)"),
        (lambda e: {"images": spoilt(e, filename=None)}, "entry 2 must have split"),
        (lambda e: {"images": [*e[:2], "a photo"]}, "entry 2 must have split.*'a photo'"),
        (lambda e: {"images": spoilt(e, filename="../a.jpg")}, r"entry 2: filename must be without folders"),
        (lambda e: {"images": spoilt(e, sentences=e[2]["sentences"][:4])}, "must have 5 captions or more"),
        (lambda e: {"images": spoilt(e, sentences=[*e[2]["sentences"], {"raw": " "}])}, "none of them empty"),
        (lambda e: {"images": spoilt(e, sentences=[*e[2]["sentences"], "A dog."])}, "must have 5 captions or more"),
    ],
)
@pytest.mark.parametrize("name", SETS)
def test_damaged_captions_are_named(root, made, name, spoil, message):
    path = root / name / f"dataset_{name}.json"
    path.write_text(json.dumps(spoil(made["karpathy"](root / name, name))))
    with pytest.raises(
        ValueError, match=rf"(?s){path.name}.*{message}.*Mend it with\n  python data_scripts/get_{name}"
    ):
        SETS[name]()


def test_a_file_cut_short_and_one_altered_are_named(root, made):
    made["karpathy"](root / "coco", "coco")
    path = root / "coco/dataset_coco.json"
    write_manifest(root / "coco")
    Coco()
    text = path.read_text()
    path.write_text(text.replace("dog", "cat"))
    with pytest.raises(ValueError, match=r"dataset_coco\.json is altered"):
        Coco()
    (root / "coco/manifest.json").unlink()
    path.write_text(text[:-100])
    with pytest.raises(ValueError, match=r"dataset_coco\.json is damaged"):
        Coco()
