"""How good are painted pictures: how far two sets of them are apart, and how much the pictures of one set differ.

Heusel et al. (NIPS 2017) call the Frechet distance of Inception's features "FID". In the features of another network
it is another number, on another scale: name the network with it, and never call it FID.
"""

from typing import Any

import torch
from torch import Tensor

from commonspace.metrics.retrieval import as_tensor, check_finite, double, read_matrix


def frechet_distance(features_a: Any, features_b: Any) -> float:
    """The squared Frechet distance of two sets of features, rows of (n, d) and (m, d), as normal distributions; >= 0.

        |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)),    covariances C by n - 1 and m - 1

    (Dowson and Landau 1982). 0 where means and covariances are equal. In units of the features, squared; worked out in
    float64. With A^T A = C_a and B^T B = C_b the last trace is the sum of the singular values of A B^T. So no root of
    an eigenvalue that should be 0 is taken, and with fewer rows than columns it is as exact as with more.

    Few rows find too large a distance, by about d / n of the features' scale: two halves of one set are not at 0.
    Compare distances of sets of one size alone. Raises ValueError for other shapes, for sets of different widths, for
    fewer than two rows, and for values that are not finite.
    """
    given = {"features_a": features_a, "features_b": features_b}
    a, b = (double(read_matrix(rows, name, "(n, d)").detach()) for name, rows in given.items())
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"features_a {tuple(a.shape)} and features_b {tuple(b.shape)} must have equal widths: take the features of "
            "both from one network"
        )
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a covariance needs at least two rows; got {len(a)} of features_a, {len(b)} of features_b")
    b = b.to(a.device)
    root_a, root_b = _root(a), _root(b)
    apart = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    shared = torch.linalg.svdvals(root_a @ root_b.T).sum()
    return max(0.0, float(apart + root_a.square().sum() + root_b.square().sum() - 2 * shared))


def _root(rows: Tensor) -> Tensor:
    """(n, d) -> R (min(n, d), d) with R^T R the covariance."""
    centred = (rows - rows.mean(dim=0)) / (len(rows) - 1) ** 0.5
    return torch.linalg.qr(centred, mode="r").R if len(rows) > rows.shape[1] else centred


def pairwise_diversity(pictures: Any) -> float:
    """How much pictures differ: the mean over all pairs of the mean absolute difference of their pixels' values.

    ``pictures``: (n, ...), n >= 2, uint8 (counted in 255ths) or floats in [0, 1], of any shape. From 0, all are the
    same, to n / (n - 1) / 2 or less: half are black and half are white. Of pictures painted from one sentence it falls
    to 0 when the painter no longer heeds the noise, of pictures painted from many when it no longer heeds the sentence.

    No pair is formed: of the sorted values x_(1) .. x_(n) of a pixel, k (n - k) pairs stride the gap behind x_(k), so
    sum_(i<j) |x_i - x_j| = sum_k k (n - k) (x_(k+1) - x_(k)). Raises ValueError for one picture alone,
    another type or scale, and values that are not finite.
    """
    pictures = as_tensor(pictures, "pictures")
    if pictures.ndim < 2 or len(pictures) < 2 or pictures.numel() == 0:
        raise ValueError(f"pictures must be (n, ...), at least two; got {tuple(pictures.shape)}")
    if pictures.dtype != torch.uint8 and not pictures.is_floating_point():
        raise ValueError(f"pictures must be uint8 or floats in [0, 1]; got {pictures.dtype}")
    values = pictures.flatten(1)
    if pictures.is_floating_point():
        check_finite(values, "pictures")
        if values.min() < 0 or values.max() > 1:
            raise ValueError(
                f"floats must be in [0, 1]; got {float(values.min()):.3g} to {float(values.max()):.3g}. Bring [-1, 1] "
                "there by (pictures + 1) / 2"
            )
    n, scale = len(values), 255 if pictures.dtype == torch.uint8 else 1
    k = torch.arange(1, n, device=values.device)
    striding = (k * (n - k))[:, None]
    total = sum(
        float((double(some.sort(dim=0).values).diff(dim=0) * striding).sum())
        for some in values.split(max(1, 2**22 // n), dim=1)  # bounded memory
    )
    return total / (n * (n - 1) / 2) / values.shape[1] / scale
