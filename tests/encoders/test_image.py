"""Pixel features against a plain eigendecomposition and a loop over pixels."""

import numpy as np
import pytest
import torch

from commonspace.encoders import PixelFeatures


def pictures(seed: int, n: int = 60, size: int = 12) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    smooth = torch.rand(n, 3, 3, 3, generator=rng)
    return (torch.nn.functional.interpolate(smooth, size, mode="bilinear") * 255).to(torch.uint8)


@pytest.mark.parametrize("seed", [0, 1])
def test_shape_part_is_the_principal_components_of_the_pixels(seed):
    train, new = pictures(seed), pictures(seed + 100, n=9)
    features = PixelFeatures(n_components=10, size=12).fit(train).transform(new).double().numpy()
    rows, rows_new = (p.flatten(1).double().numpy() / 255 for p in (train, new))
    _, V = np.linalg.eigh(np.cov(rows, rowvar=False))
    V = V[:, ::-1][:, :10]
    scores, scores_new = (rows - rows.mean(axis=0)) @ V, (rows_new - rows.mean(axis=0)) @ V
    np.testing.assert_allclose(np.abs(features[:, :10]), np.abs(scores_new / scores.std()), atol=1e-5)


def test_colour_part_is_the_square_root_of_a_histogram():
    train, new = pictures(0), pictures(7, n=3)
    encoder = PixelFeatures(n_components=5, size=12, colour_weight=0.5).fit(train)
    colour = encoder.transform(new)[:, 5:].double().numpy()
    roots = []
    for part in (train, new):
        counts = np.zeros((len(part), 4, 4, 4))
        for i, picture in enumerate(part.numpy()):
            for red, green, blue in picture.reshape(3, -1).T:
                counts[i, red // 64, green // 64, blue // 64] += 1
        roots.append(np.sqrt(counts.reshape(len(part), 64) / 144))
    np.testing.assert_allclose(colour, 0.5 * roots[1] / roots[0].std(), atol=1e-5)


def test_nothing_is_learned_from_new_pictures():
    encoder = PixelFeatures(n_components=8, size=12).fit(pictures(0))
    new = pictures(1, n=10)
    torch.testing.assert_close(encoder.transform(new)[:1], encoder.transform(new[:1]))


def test_pictures_of_another_size_are_resized():
    encoder = PixelFeatures(n_components=4, size=6).fit(pictures(0, size=24))
    assert encoder.transform(pictures(1, n=2, size=12)).shape == (2, 68)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(5, 3, 8, 8), "uint8"),
        (torch.zeros(5, 8, 8, 3, dtype=torch.uint8), r"\(n, 3, h, w\)"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), "n >= 1"),
        (pictures(0, n=10), "10 pictures at 12x12 have 1 to 9 components, not 100"),
    ],
)
def test_bad_pictures_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        PixelFeatures(size=12).fit(images)


def test_transform_before_fit_is_refused():
    with pytest.raises(ValueError, match="fit PixelFeatures"):
        PixelFeatures().transform(pictures(0))
