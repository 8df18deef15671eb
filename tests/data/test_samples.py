"""The containers: indexing gives back the same rows of every field, and rows that do not match are refused."""

import numpy as np
import pytest
import torch

from commonspace.data import PairedFeatures, PairedSamples, digits_halves, linnerud


def features(n: int = 10) -> PairedFeatures:
    rows = torch.arange(n, dtype=torch.float32)[:, None]
    return PairedFeatures(rows.repeat(1, 3), 10 * rows.repeat(1, 2), torch.arange(n) % 3, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (slice(2, 5), [2, 3, 4]),
        (slice(None, None, -3), [9, 6, 3, 0]),
        ([7, 0, 7], [7, 0, 7]),
        ([-1, -10], [9, 0]),
        (np.array([3, 1]), [3, 1]),
        (torch.tensor([5]), [5]),
        (torch.arange(10) > 7, [8, 9]),
        ([True] + [False] * 9, [0]),
        ([], []),
    ],
)
def test_every_field_is_cut_to_the_same_rows(index, rows):
    cut = features()[index]
    assert isinstance(cut, PairedFeatures)
    assert cut.image[:, 0].tolist() == rows
    assert cut.text[:, 0].tolist() == [10 * r for r in rows]
    assert cut.label.tolist() == [r % 3 for r in rows]
    assert cut.classes == ["a", "b", "c"]


def test_samples_cut_lists_and_tensors_alike():
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 2, 2)
    cut = PairedSamples(images, ["zero", "one", "two", ["three", "drei"]])[[3, 1]]
    assert cut.texts == [["three", "drei"], "one"]
    assert cut.images[:, 0, 0, 0].tolist() == [3, 1]
    assert len(cut) == 2
    assert cut.label is None


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([10], "ids run from 10 to 10, but there are 10 rows"),
        ([-11], "there are 10 rows"),
        (torch.ones(9, dtype=torch.bool), "mask has 9 entries for 10 rows"),
        ([0.5], "slice, by integer ids or by a boolean mask"),
        (3, r"data\[\[3\]\]"),
    ],
)
def test_bad_indices_are_refused(index, message):
    with pytest.raises(IndexError, match=message):
        features()[index]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": torch.zeros(9, 2)}, "image has 10 rows, text has 9"),
        ({"label": torch.zeros(11, dtype=torch.long)}, "image has 10 rows, label has 11"),
        ({"label": torch.full((10,), 3)}, "labels run from 3 to 3, but there are 3 class names"),
        ({"label": torch.zeros(10)}, "label must be integers"),
        ({"label": torch.zeros(10, 2, dtype=torch.bool)}, "label has 2 columns for 3 class names"),
        ({"image": torch.zeros(10)}, r"image must have shape \(n, d\)"),
        ({"image": torch.tensor([[float("nan")]] * 10)}, "image has NaN or infinite values in 10 row"),
    ],
)
def test_features_that_do_not_fit_are_refused(change, message):
    good = features()
    fields = {"image": good.image, "text": good.text, "label": good.label, "classes": good.classes}
    with pytest.raises(ValueError, match=message):
        PairedFeatures(**(fields | change))


def test_several_labels_a_row_are_booleans():
    several = torch.tensor([[True, False], [True, True]])
    assert PairedFeatures(torch.zeros(2, 1), torch.zeros(2, 1), several, ["x", "y"])[[1]].label.tolist() == [
        [True, True]
    ]


@pytest.mark.parametrize("texts", [["a", ""], ["a", "  "], ["a", []], ["a", ["b", ""]], ["a", 3], ["a", None]])
def test_a_text_without_a_word_is_refused(texts):
    with pytest.raises(ValueError, match="texts"):
        PairedSamples(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), texts)


def test_features_stand_where_pictures_do():
    rows = torch.randn(4, 6)
    cut = PairedSamples(rows, ["zero", "one", "two", "three"])[[3, 1]]
    assert torch.equal(cut.images, rows[[3, 1]])
    assert cut.texts == ["three", "one"]


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 4, 4, 3, dtype=torch.uint8),
        torch.zeros(2, 3, 4, 4),
        torch.zeros(2, 6, dtype=torch.int64),
        torch.zeros(2),
    ],
)
def test_pictures_must_be_uint8_and_channels_first(images):
    with pytest.raises(ValueError, match=r"images must be uint8 of shape \(n, 3, h, w\)"):
        PairedSamples(images, ["a", "b"])


@pytest.mark.parametrize("seed", [0, 5])
def test_digits_halves_are_the_two_halves_and_the_parts_share_nothing(seed):
    from sklearn.datasets import load_digits

    train, test = digits_halves(1000, seed)
    assert (len(train), len(test)) == (1000, 797)
    pictures = {
        (tuple(p.ravel() / 16), int(t)) for p, t in zip(load_digits().images, load_digits().target, strict=True)
    }
    joined = torch.cat([train.image.view(-1, 8, 4), train.text.view(-1, 8, 4)], dim=2)
    assert all((tuple(d.ravel().tolist()), int(t)) in pictures for d, t in zip(joined, train.label, strict=True))
    as_rows = [{tuple(row) for row in torch.cat([part.image, part.text], dim=1).tolist()} for part in (train, test)]
    assert len(as_rows[0] | as_rows[1]) == 1797
    again, other = digits_halves(1000, seed)[0], digits_halves(1000, seed + 1)[0]
    assert torch.equal(train.image, again.image)
    assert not torch.equal(train.image, other.image)


@pytest.mark.parametrize("n_train", [0, 1797, -3])
def test_digits_need_a_pair_on_both_sides(n_train):
    with pytest.raises(ValueError, match="1 to 1796"):
        digits_halves(n_train)


def test_linnerud_has_exercises_first():
    men = linnerud()
    assert men.image.shape == men.text.shape == (20, 3)
    assert men.image[0].tolist() == [5, 162, 60]
    assert men.text[0].tolist() == [191, 36, 50]
