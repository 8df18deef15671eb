"""Both ways with several captions an image, whole and in folds, against loops over sorted lists."""

import numpy as np
import pytest
import torch

from commonspace.metrics import evaluate_both_ways, evaluate_folds


def cosine(image, text):
    return (image / np.linalg.norm(image, axis=1)[:, None]) @ (text / np.linalg.norm(text, axis=1)[:, None]).T


def order(image, text):
    return -(np.maximum(text[None] - image[:, None], 0) ** 2).sum(axis=2)


def order_in_torch(image, text):
    return -(text[None] - image[:, None]).clamp(min=0).pow(2).sum(dim=2)


def by_loops(sim, image_of, ks=(1, 5, 10)) -> dict[str, float]:
    """R@K and median rank both ways from a matrix (images, texts), by sorting; wrong answers first among equals."""
    places = {"i2t": [], "t2i": []}
    for i, row in enumerate(sim):
        found = sorted(range(len(row)), key=lambda c: (-row[c], image_of[c] == i))
        places["i2t"].append(min(found.index(c) for c in range(len(row)) if image_of[c] == i))
    for c, column in enumerate(sim.T):
        found = sorted(range(len(column)), key=lambda i: (-column[i], image_of[c] == i))
        places["t2i"].append(found.index(image_of[c]))
    result = {f"{way}/R@{k}": sum(p < k for p in found) / len(found) for way, found in places.items() for k in ks}
    result["rsum"] = sum(result.values())
    return result | {f"{way}/median_rank": int(np.median(found)) + 1 for way, found in places.items()}


def without_map(found):
    return {name: value for name, value in found.items() if not name.endswith("mAP")}


def mean_of(results):
    return {name: sum(result[name] for result in results) / len(results) for name in results[0]}


@pytest.fixture(params=range(3))
def rng(request):
    return np.random.default_rng(request.param)


def pairs(rng, n=12, captions=5, noise=0.8):
    image = rng.random((n, 6))
    return image, np.repeat(image, captions, axis=0) + noise * rng.normal(size=(n * captions, 6))


@pytest.mark.parametrize(("similarity", "expected"), [("cosine", cosine), (order_in_torch, order)])
def test_both_ways_equal_sorting(rng, similarity, expected):
    image, text = pairs(rng)
    image_of = np.repeat(np.arange(12), 5)
    found = evaluate_both_ways(image, text, similarity=similarity)
    assert without_map(found) == pytest.approx(by_loops(expected(image, text), image_of))
    assert len({found["i2t/R@1"], found["i2t/R@5"], found["i2t/R@10"]}) == 3
    shuffled = rng.permutation(60)
    again = evaluate_both_ways(image, text[shuffled], image_of[shuffled], similarity=similarity)
    assert again == pytest.approx(found)
    if similarity != "cosine":
        back = evaluate_both_ways(image, text, similarity=lambda v, t: similarity(t, v).T)
        assert abs(back["rsum"] - found["rsum"]) > 1e-3


def test_not_every_image_needs_as_many_captions(rng):
    image, text = pairs(rng, 9, 3)
    image_of = np.concatenate([np.arange(9), rng.integers(0, 9, 18)])
    found = evaluate_both_ways(image, text, image_of, ks=(1, 2), similarity="dot")
    assert without_map(found) == pytest.approx(by_loops(image @ text.T, image_of, (1, 2)))


@pytest.mark.parametrize("folds", [1, 2, 4])
@pytest.mark.parametrize("ordered", [True, False])
def test_folds_are_the_mean_of_their_parts(rng, folds, ordered):
    image, text = pairs(rng, 12, 5, 1.5)
    image_of = np.repeat(np.arange(12), 5)
    if not ordered:
        mixed = rng.permutation(60)
        image_of, text = image_of[mixed], text[mixed]
    size, parts = 12 // folds, []
    for first in range(0, 12, size):
        mine = [c for c in range(60) if first <= image_of[c] < first + size]
        sim = cosine(image[first : first + size], text[mine])
        parts.append(by_loops(sim, [image_of[c] - first for c in mine]))
    found = evaluate_folds(image, text, None if ordered else image_of, folds=folds)
    assert without_map(found) == pytest.approx(mean_of(parts))
    if folds == 1:
        assert found == evaluate_both_ways(image, text, image_of)
    else:
        assert found["t2i/R@1"] > evaluate_both_ways(image, text, image_of)["t2i/R@1"]


def test_a_model_that_says_nothing_finds_nothing():
    image, text = torch.ones(10, 4), torch.ones(50, 4)
    for similarity in ("cosine", order_in_torch):
        for found in (
            evaluate_both_ways(image, text, similarity=similarity),
            evaluate_folds(image, text, folds=2, similarity=similarity),
        ):
            assert found["i2t/R@1"] == found["t2i/R@1"] == 0
    assert found["t2i/R@5"] == 1  # in a fold of five, five attempts are all there are
    assert evaluate_both_ways(image, text)["i2t/median_rank"] == 46  # behind the 45 captions of others


A, T = np.eye(4), np.repeat(np.eye(4), 2, axis=0)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((A, T[:7]), {}, "7 texts of 4 images: not as many of each"),
        ((A, A[:0]), {}, "4 images and 0 texts"),
        ((A, T, [0, 1, 2, 3]), {}, r"image_of must be 8 integers, 0 to 3.* got torch.int64 \(4,\)"),
        ((A, T, [0, 0, 1, 1, 2, 2, 3, 4]), {}, "0 to 3, the image of each text"),
        ((A, T, [0, 0, 1, 1, 2, 2, 3, -1]), {}, "0 to 3, the image of each text"),
        ((A, T, [0.0] * 8), {}, "integers, .* got torch.float64"),
        ((A, T, [0, 0, 1, 1, 2, 2, 2, 2]), {}, "1 of 4 images have no caption"),
        ((A, T), {"similarity": "order"}, "similarity must be one of"),
        ((A, T), {"ks": 0}, "positive integer"),
    ],
)
def test_bad_input_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_both_ways(*arguments, **options)
    with pytest.raises(ValueError, match=message):
        evaluate_folds(*arguments, folds=1, **options)


@pytest.mark.parametrize(
    ("folds", "message"), [(3, "4 images cannot be cut into 3 folds"), (0, "folds must be a posi")]
)
def test_folds_must_divide_the_images(folds, message):
    with pytest.raises(ValueError, match=message):
        evaluate_folds(A, T, folds=folds)
