import io
import itertools

import numpy as np
import pytest
from PIL import Image

from commonspace.data import nus_wide_10k
from commonspace.data.download import write_manifest
from commonspace.data.nus_wide_10k import CLASSES, PARTS, NusWide10k, read_owners, select
from commonspace.recipes import datasets

SIZES = (6, 2, 1)


def owners(folder):
    labels = [folder / f"Groundtruth/AllLabels/Labels_{name}.txt" for name in CLASSES]
    return folder / "ImageList/Imagelist.txt", folder / "NUS_WID_Tags/All_Tags.txt", labels


@pytest.fixture
def prepared(root, made, tmp_path):
    """``prepared(seed)``: the set as the script leaves it; returns the parts and the photos by key."""

    def prepare(seed: int = 0):
        parts = made["nus-wide-10k"](tmp_path / "given", seed)
        folder = root / "nus-wide-10k"
        (folder / "images").mkdir(parents=True)
        lines = ["\t".join([part, name, photo, tags]) for part in PARTS for photo, tags, name in parts[part]]
        (folder / "pairs.tsv").write_text("\n".join(lines) + "\n")
        photos = {}
        for photo, _, _ in itertools.chain(*parts.values()):
            photos[photo] = (tmp_path / "given/Flickr" / photo).read_bytes()
            (folder / "images" / photo.split("/")[1]).write_bytes(photos[photo])
        return parts, photos

    return prepare


def test_the_rule_chooses_photos_of_one_class_with_tags(made, seed, tmp_path):
    parts = made["nus-wide-10k"](tmp_path, seed)
    pairs = select(*read_owners(*owners(tmp_path)), SIZES)
    for part in PARTS:
        assert [(p.photo, p.tags, p.label) for p in pairs if p.part == part] == parts[part]
        counts = [sum(p.label == name for p in pairs if p.part == part) for name in CLASSES]
        assert counts == [SIZES[PARTS.index(part)]] * 10


def test_the_papers_sizes():
    assert [10 * size for size in nus_wide_10k.SIZES] == [8000, 1000, 1000]


def test_a_class_with_too_few_photos_is_named(made, tmp_path):
    made["nus-wide-10k"](tmp_path)
    with pytest.raises(ValueError, match=r"animal has 1\d photos of this one class and with tags, 1,000 needed"):
        select(*read_owners(*owners(tmp_path)))


def cut(path, n: int = 1) -> None:
    path.write_bytes(path.read_bytes().split(b"\n", n)[n])


def swap(path) -> None:
    first, second, rest = path.read_bytes().split(b"\n", 2)
    path.write_bytes(b"\n".join([second, first, rest]))


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        (0, cut, r"All_Tags\.txt has 280 lines, Imagelist\.txt has 279"),
        (1, swap, r"line 1 of Imagelist\.txt is .*, of All_Tags\.txt .*: the id must agree"),
        (2, cut, r"Labels_toy\.txt must have 280 lines of 0 or 1; it has 279"),
        (2, lambda p: p.write_text(p.read_text().replace("1", "-1130179", 1)), r"Labels_toy\.txt must have 280 lines"),
    ],
)
def test_lists_that_do_not_agree_are_named(made, tmp_path, file, spoil, message):
    made["nus-wide-10k"](tmp_path)
    paths = owners(tmp_path)
    spoil(paths[file] if file < 2 else paths[2][CLASSES.index("toy")])
    with pytest.raises(ValueError, match=message):
        read_owners(*paths)


def test_the_parts_hold_photos_tags_and_classes(prepared, seed, capsys):
    parts, photos = prepared(seed)
    data = NusWide10k(size=(120, 160))
    assert capsys.readouterr().out == (
        "NUS-WIDE-10k: 60 of 60 train, 20 of 20 validation, 10 of 10 test photos are here, 120x160, 10 classes, from "
        "$COMMONSPACE_DATA/nus-wide-10k\n"
    )
    for part in PARTS:
        samples = getattr(data, part)
        assert samples.texts == [tags for _, tags, _ in parts[part]]
        assert [samples.classes[label] for label in samples.label.tolist()] == [name for _, _, name in parts[part]]
        expected = np.stack([np.asarray(Image.open(io.BytesIO(photos[photo]))) for photo, _, _ in parts[part]])
        np.testing.assert_array_equal(samples.images[:].permute(0, 2, 3, 1).numpy(), expected)
    splits = datasets.load("nus-wide-10k")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (60, 20, 10)
    assert splits.train.texts == data.train.texts


def test_photos_that_are_not_there_are_left_out(root, prepared, capsys):
    parts, _ = prepared()
    gone = parts["test"][4]
    (root / "nus-wide-10k/images" / gone[0].split("/")[1]).unlink()
    data = NusWide10k(size=(8, 8))
    assert "20 of 20 validation, 9 of 10 test" in capsys.readouterr().out
    assert data.test.texts == [tags for photo, tags, _ in parts["test"] if photo != gone[0]]
    assert len(data.test.images) == len(data.test.label) == 9


def test_what_is_missing_names_the_command(root):
    with pytest.raises(FileNotFoundError, match=r"python data_scripts/get_nus_wide_10k\.py"):
        NusWide10k()


@pytest.mark.parametrize("line", ["dev\tsky\ta/1_2.jpg\tx", "test\tsea\ta/1_2.jpg\tx", "test\tsky\ta/1_2.jpg\t ", "x"])
def test_damaged_pairs_are_named(root, line):
    (root / "nus-wide-10k").mkdir()
    (root / "nus-wide-10k/pairs.tsv").write_text(line)
    with pytest.raises(
        ValueError, match=r"(?s)line 1 must be part, class, photo and tags.*Mend it with\n  python data"
    ):
        NusWide10k()


def test_a_prepared_file_that_was_altered_is_named(root, prepared):
    prepared()
    write_manifest(root / "nus-wide-10k")
    NusWide10k()
    path = root / "nus-wide-10k/pairs.tsv"
    path.write_text(path.read_text().replace("Café", "Cafe", 1))
    with pytest.raises(ValueError, match=r"pairs\.tsv is altered"):
        NusWide10k()
