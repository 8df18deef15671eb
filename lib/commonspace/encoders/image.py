"""Pictures to feature vectors."""

import numpy as np
import torch
from torch.nn import functional as F


class PixelFeatures:
    """What one can see without a network: shape as principal components of the pixels, and colour as a histogram.

    A picture becomes [its first ``n_components`` principal components at ``size`` x ``size``, its colour histogram]: of
    each colour channel 4 levels, so 64 bins, square-rooted so that small areas count. Each block is divided by its
    standard deviation over the training pictures (one number a block), the histogram then weighted by
    ``colour_weight``.

    >>> pictures = torch.randint(0, 256, (120, 3, 16, 16), dtype=torch.uint8)
    >>> PixelFeatures(n_components=20, size=8).fit(pictures).transform(pictures).shape
    torch.Size([120, 84])
    """

    levels = 4  # of a colour channel

    def __init__(self, n_components: int = 100, size: int = 32, colour_weight: float = 0.3):
        self.n_components, self.size, self.colour_weight = n_components, size, colour_weight
        self._pca = None

    def fit(self, images) -> "PixelFeatures":
        """Learn components and scales from uint8 pictures (n, 3, h, w), n > n_components."""
        from sklearn.decomposition import PCA

        images = _pictures(images)
        most = min(len(images), 3 * self.size**2) - 1
        if not 1 <= self.n_components <= most:
            raise ValueError(
                f"{len(images)} pictures at {self.size}x{self.size} have 1 to {most} components, "
                f"not {self.n_components}: give more pictures, or ask for fewer components"
            )
        # Exact as "full" to 1e-12 and a third of its time; random_state is only where its iteration starts.
        pixels = self._pixels(images)
        self._pca = PCA(self.n_components, svd_solver="arpack", random_state=0).fit(pixels)
        self._scales = [self._pca.transform(pixels).std(), self._histogram(images).std()]
        return self

    def transform(self, images) -> torch.Tensor:
        """uint8 pictures (n, 3, h, w) -> (n, n_components + 64) float32."""
        if self._pca is None:
            raise ValueError("fit PixelFeatures on the training pictures first")
        images = _pictures(images)
        shape = self._pca.transform(self._pixels(images)) / self._scales[0]
        colour = self.colour_weight * self._histogram(images) / self._scales[1]
        return torch.from_numpy(np.concatenate([shape, colour], axis=1)).float()

    def _pixels(self, images: torch.Tensor) -> np.ndarray:
        """(n, 3, h, w) -> (n, 3 * size * size) in [0, 1]."""
        pixels = images.double() / 255.0
        if pixels.shape[-2:] != (self.size, self.size):
            pixels = F.interpolate(pixels, size=(self.size, self.size), mode="bilinear", antialias=True)
        return pixels.flatten(1).numpy()

    def _histogram(self, images: torch.Tensor) -> np.ndarray:
        """(n, 3, h, w) -> (n, 64): the square root of the share of pixels in each bin."""
        level = (images.long() * self.levels) // 256  # (n, 3, h, w) in 0..3
        bins = (level[:, 0] * self.levels + level[:, 1]) * self.levels + level[:, 2]  # (n, h, w) in 0..63
        counts = F.one_hot(bins.flatten(1), self.levels**3).sum(dim=1)
        return (counts.double() / bins[0].numel()).sqrt().numpy()


def _pictures(images) -> torch.Tensor:
    images = torch.as_tensor(images).cpu()
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8 or len(images) == 0:
        raise ValueError(
            f"pictures must be uint8 of shape (n, 3, h, w), n >= 1; got {images.dtype} of {tuple(images.shape)}"
        )
    return images
