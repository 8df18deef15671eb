import hashlib
import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from commonspace.data.download import write_manifest
from commonspace.data.pascal_sentences import CLASSES, PascalFeatures, PascalSentences, divide
from commonspace.recipes import datasets


@pytest.fixture
def prepared(root, made, tmp_path):
    """``prepared(seed)``: the set as the script leaves it; returns the sentences and the photos by key."""

    def prepare(seed: int = 0):
        sentences = made["pascal-sentences"](tmp_path / "given", seed)
        folder = root / "pascal-sentences"
        (folder / "images").mkdir(parents=True)
        lines = [f"{key}\t{line}\n" for key, own in sentences.items() for line in own]
        (folder / "sentences.tsv").write_text("".join(lines))
        photos = {f"{p.parent.name}/{p.name}": p.read_bytes() for p in (tmp_path / "given").rglob("*.jpg")}
        for key, content in photos.items():
            (folder / "images" / key.replace("/", "_")).write_bytes(content)
        return sentences, photos

    return prepare


def keys_of(samples, sentences) -> list[str]:
    by_text = {tuple(own): key for key, own in sentences.items()}
    return [by_text[tuple(own)] for own in samples.texts]


def test_the_parts_hold_photos_sentences_and_classes(prepared, seed, capsys):
    sentences, photos = prepared(seed)
    data = PascalSentences(size=(30, 40))
    assert capsys.readouterr().out == (
        "Pascal Sentences: 160 of 160 train, 20 of 20 validation, 20 of 20 test pictures are here, 30x40, 20 classes, "
        "from $COMMONSPACE_DATA/pascal-sentences\n"
    )
    parts = {part: keys_of(getattr(data, part), sentences) for part in ("train", "validation", "test")}
    assert sorted(itertools.chain(*parts.values())) == sorted(sentences)
    for part, keys in parts.items():
        samples = getattr(data, part)
        assert keys == sorted(keys)
        assert [samples.classes[label] for label in samples.label.tolist()] == [key.split("/")[0] for key in keys]
        expected = np.stack([np.asarray(Image.open(io.BytesIO(photos[key]))) for key in keys])
        np.testing.assert_array_equal(samples.images[:].permute(0, 2, 3, 1).numpy(), expected)
        assert samples.label.bincount().tolist() == [len(keys) // 20] * 20
    for name in CLASSES:  # the rule: nothing of train ranks before anything of validation, or that before test
        rank = {key: hashlib.sha256(key.encode()).hexdigest() for key in sentences if key.startswith(f"{name}/")}
        order = [[rank[key] for key in parts[part] if key in rank] for part in ("test", "validation", "train")]
        assert max(order[0]) < min(order[1])
        assert max(order[1]) < min(order[2])


def test_the_papers_sizes():
    pictures = [f"{name}/2008_{i:06}.jpg" for name in CLASSES for i in range(50)]
    parts = divide(pictures)
    assert {part: len(names) for part, names in parts.items()} == {"train": 800, "validation": 100, "test": 100}
    assert divide(pictures[::-1]) == parts
    assert sorted(itertools.chain(*parts.values())) == sorted(pictures)


def test_photos_that_are_not_there_are_left_out(root, prepared, capsys):
    sentences, _ = prepared()
    test = keys_of(PascalSentences(size=(8, 8)).test, sentences)
    (root / "pascal-sentences/images" / test[3].replace("/", "_")).unlink()
    capsys.readouterr()
    data = PascalSentences(size=(8, 8))
    assert "20 of 20 validation, 19 of 20 test" in capsys.readouterr().out
    assert keys_of(data.test, sentences) == [key for key in test if key != test[3]]
    assert len(data.test.images) == len(data.test.label) == 19


def test_what_is_missing_names_the_command(root):
    for loader in (PascalSentences, PascalFeatures):
        with pytest.raises(FileNotFoundError, match=r"python data_scripts/get_pascal_sentences\.py"):
            loader()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("unicorn/2008_1.jpg\tA unicorn.", "line 1 must be class/picture.jpg"),
        ("cat/2008_1.png\tA cat.", "line 1 must be"),
        ("cat/2008_1.jpg\t ", "line 1 must be"),
        ("cat/2008_1.jpg A cat.", "line 1 must be"),
        ("", r"sentences\.tsv is empty"),
    ],
)
def test_damaged_sentences_are_named(root, line, message):
    (root / "pascal-sentences").mkdir()
    (root / "pascal-sentences/sentences.tsv").write_text(line)
    with pytest.raises(ValueError, match=rf"(?s){message}.*Mend it with\n  python data_scripts/get_pascal_sentences"):
        PascalSentences()


def test_a_prepared_file_that_was_altered_is_named(root, prepared):
    prepared()
    write_manifest(root / "pascal-sentences")
    PascalSentences()
    path = root / "pascal-sentences/sentences.tsv"
    path.write_text(path.read_text().replace("A cat", "B cat", 1))
    with pytest.raises(ValueError, match=r"sentences\.tsv is altered"):
        PascalSentences()


@pytest.mark.parametrize("first", [0, 1])
def test_the_authors_features_are_read(root, made, seed, first, capsys):
    wrote = made["pascal-features"](root / "pascal-sentences", seed, first)
    data = PascalFeatures()
    assert "40 train, 20 test pairs, from $COMMONSPACE_DATA/pascal-sentences" in capsys.readouterr().out
    for part in ("train", "test"):
        pairs = getattr(data, part)
        np.testing.assert_array_equal(pairs.image.numpy(), wrote[f"{part}_img"])
        np.testing.assert_array_equal(pairs.text.numpy(), wrote[f"{part}_txt"])
        assert pairs.label.tolist() == (wrote[f"{part}_img_lab"][:, 0].astype(int) - first).tolist()
        assert (pairs.classes[0], len(pairs.classes)) == ("class 0", 20)


def test_damaged_features_are_named(root, made):
    from scipy.io import savemat

    folder = root / "pascal-sentences"
    made["pascal-features"](folder)
    good = (folder / "test_txt.mat").read_bytes()
    for content in (good[:300], b"no matrix"):
        (folder / "test_txt.mat").write_bytes(content)
        with pytest.raises(ValueError, match=r"(?s)test_txt\.mat is damaged or another file.*Mend it with"):
            PascalFeatures()
    (folder / "test_txt.mat").unlink()
    with pytest.raises(ValueError, match=r"test_txt\.mat is missing"):
        PascalFeatures()
    (folder / "test_txt.mat").write_bytes(good)
    for labels in ([2, 3], [1, 21], [0, 20], [-1, 3]):
        savemat(folder / "train_img_lab.mat", {"train_img_lab": np.resize(labels, (40, 1))})
        savemat(folder / "test_img_lab.mat", {"test_img_lab": np.resize(labels, (20, 1))})
        with pytest.raises(ValueError, match="labels must run from 0 or 1 over 20 classes"):
            PascalFeatures()
    savemat(folder / "test_img_lab.mat", {"test_img_lab": np.ones((19, 1))})
    savemat(folder / "train_img_lab.mat", {"train_img_lab": np.ones((40, 1))})
    with pytest.raises(ValueError, match="image has 20 rows, label has 19"):
        PascalFeatures()


def test_the_recipes_load_both(root, prepared, made):
    prepared()
    splits = datasets.load("pascal-sentences")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (160, 20, 20)
    assert all(isinstance(text, str) and text.count(".") == 5 for text in splits.train.texts)
    features = datasets.as_features(splits, n_components=4)
    assert features.train.image.shape[0] == len(features.train.text) == 160
    made["pascal-features"](root / "pascal-sentences")
    splits = datasets.load("pascal-features", seed=3)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (36, 4, 20)
    rows = torch.cat([splits.train.image, splits.validation.image])
    assert len(rows.unique(dim=0)) == 40
