import hashlib
import shutil
from collections import Counter

import pytest
import torch

from commonspace.data.download import write_manifest
from commonspace.data.fashion_products import FashionProducts, normalised, side
from commonspace.data.pictures import Pictures


def words(title: str) -> str:
    """Letter by letter, as a check on the regular expression."""
    return " ".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Nike Men's  T-Shirt", "nike men s t shirt"),
        (" __A_b (2) ", "a b 2"),
        ("Café 10%", "café 10"),
        ("...", ""),
    ],
)
def test_titles_are_normalised(title, expected):
    assert normalised(title) == expected == words(title)


def test_the_side_is_the_last_decimal_of_the_hash(seed):
    for i in range(50):
        title = f"Shirt, {seed} {i}"
        digest = hashlib.sha256(f"shirt {seed} {i}".encode()).digest()
        assert side(title) == int(str(int.from_bytes(digest, "big"))[-1])
        assert side(title) == side(f"SHIRT - {seed} {i}!")


def test_articles_are_read(root, made, seed, capsys):
    rows = made["fashion-products"](root / "fashion-products", seed)
    data = FashionProducts(size=(16, 12))
    kept = [row for row in rows if row[-1].strip() and (root / f"fashion-products/images/{row[0]}.jpg").exists()]
    samples = data.samples
    assert len(data) == len(samples) == len(kept) == len(rows) - 2
    assert samples.ids.tolist() == [int(row[0]) for row in kept]
    assert samples.texts == [row[-1] for row in kept]
    assert "Lee, the Shirt, Blue" in samples.texts
    assert samples.classes == sorted({row[4] for row in kept})
    assert [samples.classes[i] for i in samples.label] == [row[4] for row in kept]
    for column, values in enumerate((samples.gender, samples.master_category, samples.sub_category), 1):
        assert values == [row[column] for row in kept]
    assert samples.base_colour == [row[5] for row in kept]
    assert samples.usage == [row[8] for row in kept]
    assert samples.images.shape == (len(kept), 3, 16, 12)
    for i in (0, len(kept) - 1):  # the lower right corner of a small photo is one colour, its own
        from PIL import Image

        photo = Image.open(root / f"fashion-products/images/{kept[i][0]}.jpg")
        assert (samples.images[i, :, 12, 9] - torch.tensor(photo.getpixel((50, 70)))).abs().max() <= 2
    out = capsys.readouterr().out
    assert "58 photos, 16x12, 4 kinds of article, from $COMMONSPACE_DATA/fashion-products" in out
    assert "left out: 1 without a photo, 1 without a title" in out


def test_no_title_is_on_two_sides(root, made, seed):
    made["fashion-products"](root / "fashion-products", seed)
    data = FashionProducts(size=(4, 3))
    parts = data.split()
    assert sorted(i for part in parts for i in part.ids.tolist()) == data.samples.ids.tolist()
    titles = [{words(title) for title in part.texts} for part in parts]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not titles[a] & titles[b]
    for digits, part in zip((range(2, 10), [1], [0]), titles, strict=True):
        assert all(int(hashlib.sha256(title.encode()).hexdigest(), 16) % 10 in digits for title in part)
    row = parts[0].ids.tolist().index(int(parts[0].ids[3]))
    where = data.samples.ids.tolist().index(int(parts[0].ids[3]))
    assert (parts[0].images[row] == data.samples.images[where]).all()


def test_the_pool_is_the_smallest_test_ids(root, made, seed):
    made["fashion-products"](root / "fashion-products", seed, n=150)
    data = FashionProducts(size=(4, 3))
    test = data.split()[2]
    n = len(test) - 1
    pool, relevant = data.pool(n)
    assert pool.ids.tolist() == sorted(test.ids.tolist())[:n]
    assert relevant.dtype == torch.bool
    same = [[words(a) == words(b) for b in pool.texts] for a in pool.texts]
    assert relevant.tolist() == same
    assert n < relevant.sum()  # there are pairs in it, so that the test can fail
    for wrong in (0, len(test) + 1):
        with pytest.raises(ValueError, match=f"a pool has 1 to {len(test)} articles"):
            data.pool(wrong)


def test_zipped_photos_are_the_same(root, made, tmp_path):
    made["fashion-products"](root / "fashion-products")
    plain = FashionProducts(size=(8, 6)).samples
    made["fashion-products"](tmp_path / "mine/fashion-products")
    made["zip"](tmp_path / "mine/fashion-products/images", tmp_path / "mine/fashion-products/images.zip", "images/")
    shutil.rmtree(tmp_path / "mine/fashion-products/images")
    zipped = FashionProducts(tmp_path / "mine", size=(8, 6)).samples
    assert (plain.images == zipped.images).all()
    assert plain.texts == zipped.texts


def test_what_is_missing_names_the_command(root):
    with pytest.raises(FileNotFoundError, match=r"python data_scripts/get_fashion_products\.py"):
        FashionProducts()


def test_no_photo_at_all_is_named(root, made):
    made["fashion-products"](root / "fashion-products")
    shutil.rmtree(root / "fashion-products/images")
    with pytest.raises(ValueError, match=r"(?s)no article of styles\.csv has a photo.*get_fashion_products"):
        FashionProducts()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: lines[1:], "the first line must be id,gender"),
        (lambda lines: [], "the first line must be id,gender"),
        (lambda lines: [*lines[:5], lines[5][:12]], "line 6: a row has 10 columns"),
        (lambda lines: [*lines, lines[3]], "line 62: a row has 10 columns and an id of its own"),
        (lambda lines: [*lines, "x" + lines[3]], "line 62"),
    ],
)
def test_a_damaged_table_is_named(root, made, spoil, message):
    made["fashion-products"](root / "fashion-products")
    path = root / "fashion-products/styles.csv"
    path.write_text("\n".join(spoil(path.read_text().splitlines())))
    with pytest.raises(ValueError, match=rf"(?s)styles\.csv.*{message}.*Mend it with"):
        FashionProducts()


def test_a_prepared_file_that_was_altered_is_named(root, made):
    made["fashion-products"](root / "fashion-products")
    write_manifest(root / "fashion-products")
    FashionProducts(size=(4, 3))
    path = root / "fashion-products/styles.csv"
    path.write_text(path.read_text().replace("Red", "Bed"))
    with pytest.raises(ValueError, match=r"styles\.csv is altered"):
        FashionProducts(size=(4, 3))


@pytest.mark.realdata
def test_the_split_and_pool_of_the_real_photos(real, monkeypatch):
    real("fashion-products", "styles.csv")
    some = {}

    def kept(pictures, name):  # all of them take ten seconds, and their decoding is tested above
        some["pixels"] = pictures[torch.arange(0, len(pictures), 500)]
        return torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(len(pictures), -1, -1, -1)

    monkeypatch.setattr(Pictures, "kept", kept)
    data = FashionProducts()
    if len(data) != 24_136:
        pytest.skip(f"another collection of {len(data):,} photos: the numbers are those of 24,136")
    train, validation, test = data.split()
    assert (len(train), len(validation), len(test)) == (19_007, 2_511, 2_618)
    titles = Counter(words(title) for title in data.samples.texts)
    assert len(titles) == 18_301
    assert 0.3 < sum(n for n in titles.values() if n > 1) / len(data) < 0.4  # "a third of the rows share a title"
    pool, relevant = data.pool()
    assert pool.ids.tolist() == sorted(test.ids.tolist())[:1000]
    assert relevant.shape == (1000, 1000)
    assert relevant.sum() == 1844  # 1.8 a query
    assert relevant.diagonal().all()
    assert some["pixels"].shape == (49, 3, 64, 48)
    assert (some["pixels"].float().std(dim=(1, 2, 3)) > 10).all()  # photos, not one colour
