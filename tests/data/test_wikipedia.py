import numpy as np
import pytest
import torch

from commonspace.data.download import write_manifest
from commonspace.data.wikipedia import Wikipedia


def test_the_files_of_the_owners_are_read(root, made, seed, capsys):
    wrote = made["wikipedia"](root / "wikipedia", seed)
    data = Wikipedia()
    for part, pairs in (("tr", data.train), ("te", data.test)):
        np.testing.assert_allclose(pairs.image.numpy(), wrote[f"I_{part}"], atol=1e-7)
        np.testing.assert_allclose(pairs.text.numpy(), wrote[f"T_{part}"], atol=1e-7)
        assert pairs.label.tolist() == wrote[f"label_{part}"].tolist()
        assert (pairs.classes[0], pairs.classes[9], len(pairs.classes)) == ("art", "warfare", 10)
    assert capsys.readouterr().out == (
        "Wikipedia: 25 train and 14 test pairs, 10 classes, from $COMMONSPACE_DATA/wikipedia\n"
    )


def test_root_is_a_folder_with_the_set_or_the_set_itself(root, made, tmp_path):
    made["wikipedia"](tmp_path / "mine/wikipedia")
    assert len(Wikipedia(tmp_path / "mine").train) == len(Wikipedia(tmp_path / "mine/wikipedia").train) == 25


def test_what_is_missing_names_the_command(root):
    with pytest.raises(FileNotFoundError, match=r"python data_scripts/get_wikipedia\.py"):
        Wikipedia()


@pytest.mark.parametrize("name", ["categories.list", "trainset_txt_img_cat.list", "testset_txt_img_cat.list"])
def test_a_missing_file_is_named(root, made, name):
    made["wikipedia"](root / "wikipedia")
    (root / "wikipedia" / name).unlink()
    with pytest.raises(ValueError, match=rf"(?s)\$COMMONSPACE_DATA/wikipedia: {name} is missing.*get_wikipedia"):
        Wikipedia()


def spoil_features(path):
    path.write_bytes(path.read_bytes()[:2000])


def no_features(path):
    path.write_bytes(b"not a matrix")


def drop_a_line(path):
    path.write_text(path.read_text().split("\n", 1)[1])


def class_eleven(path):
    path.write_text(path.read_text().rsplit("\t", 1)[0] + "\t11\n")


def class_zero(path):
    path.write_text(path.read_text().rsplit("\t", 1)[0] + "\t0\n")


def a_word_too_few(path):
    path.write_text("a\t1\n" + path.read_text().split("\n", 1)[1])


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("raw_features.mat", spoil_features, r"raw_features\.mat is damaged"),
        ("raw_features.mat", no_features, r"raw_features\.mat is damaged"),
        ("testset_txt_img_cat.list", drop_a_line, "has 13 lines, raw_features.mat has 14 rows"),
        ("testset_txt_img_cat.list", class_eleven, "labels run from"),
        ("testset_txt_img_cat.list", class_zero, "labels run from -1"),
        ("trainset_txt_img_cat.list", a_word_too_few, "a line is text, picture and class number"),
    ],
)
def test_a_damaged_file_is_named_with_the_command(root, made, name, spoil, message):
    made["wikipedia"](root / "wikipedia")
    spoil(root / "wikipedia" / name)
    with pytest.raises(ValueError, match=rf"(?s){message}.*Mend it with\n  python data_scripts/get_wikipedia\.py"):
        Wikipedia()


def test_a_prepared_file_that_was_altered_is_named(root, made):
    made["wikipedia"](root / "wikipedia")
    write_manifest(root / "wikipedia")
    Wikipedia()
    text = (root / "wikipedia/testset_txt_img_cat.list").read_text()
    (root / "wikipedia/testset_txt_img_cat.list").write_text(text.replace("a", "b"))
    with pytest.raises(ValueError, match=r"testset_txt_img_cat\.list is altered"):
        Wikipedia()


@pytest.mark.realdata
def test_the_official_split(real):
    real("wikipedia", "raw_features.mat")
    data = Wikipedia()
    assert data.train.image.shape == (2173, 128)
    assert data.train.text.shape == (2173, 10)
    assert data.test.image.shape == (693, 128)
    assert data.test.text.shape == (693, 10)
    assert data.train.label.bincount().tolist() == [138, 272, 244, 248, 202, 178, 186, 144, 214, 347]
    assert data.test.label.bincount().tolist() == [34, 88, 96, 85, 65, 58, 51, 41, 71, 104]
    assert data.train.classes == (
        ["art", "biology", "geography", "history", "literature", "media", "music", "royalty", "sport", "warfare"]
    )
    for part in (data.train, data.test):
        for x in (part.image, part.text):
            torch.testing.assert_close(x.sum(1), torch.ones(len(x)), atol=1e-5, rtol=0)
