"""Pictures to feature vectors."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

RESNETS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048}  # name -> out_dim
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
        shares = np.empty((len(images), self.levels**3))
        for rows in torch.arange(len(images)).split(512):  # whole numbers of 8 bytes: all at once would take gigabytes
            level = (images[rows].long() * self.levels) // 256  # (b, 3, h, w) in 0..3
            bins = ((level[:, 0] * self.levels + level[:, 1]) * self.levels + level[:, 2]).flatten(1)  # in 0..63
            counts = torch.zeros(len(rows), self.levels**3).scatter_add_(1, bins, torch.ones(bins.shape))
            shares[rows] = (counts.double() / bins.shape[1]).sqrt()
        return shares


def _pictures(images) -> torch.Tensor:
    images = torch.as_tensor(images).cpu()
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8 or len(images) == 0:
        raise ValueError(
            f"pictures must be uint8 of shape (n, 3, h, w), n >= 1; got {images.dtype} of {tuple(images.shape)}"
        )
    return images


class ImageEncoder(nn.Module):
    """What the networks for pictures have in common: how pictures come in, and how a map becomes a vector.

    Call it with (B, 3, h, w), uint8, or floats in [0, 1]: both are brought to the scale the network works at. It gives
    (B, out_dim), the mean over the network's last map; with ``feature_map=True`` that map, (B, out_dim, h', w').
    A subclass sets ``out_dim`` and ``config``, ``channels``, how many the map behind each of its layers has, and has
    ``layers``.
    """

    out_dim: int
    channels: tuple[int, ...]

    def __init__(self, feature_map: bool, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.feature_map = feature_map
        self.register_buffer("_mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("_std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(
        self, images: torch.Tensor, after_layer: Callable[[int, torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """(B, 3, h, w) -> (B, out_dim), or (B, out_dim, h', w').

        ``after_layer(i, features)`` gives what goes on in place of the map behind layer i, (B, channels[i], h, w).
        Raises ValueError for another shape, type or scale.
        """
        features = (self._scaled(images) - self._mean) / self._std
        for i, layer in enumerate(self.layers()):
            features = layer(features)
            if after_layer is not None:
                features = after_layer(i, features)
        return features if self.feature_map else self.vector(features)

    def vector(self, last_map: torch.Tensor) -> torch.Tensor:
        """The last map, (B, channels[-1], h', w') -> (B, out_dim)."""
        return last_map.mean(dim=(2, 3))

    def layers(self) -> list[nn.Module]:
        """The network, one layer after the other."""
        raise NotImplementedError

    def _scaled(self, images: torch.Tensor) -> torch.Tensor:
        if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
            raise ValueError(f"pictures must have shape (B, 3, h, w), B >= 1; got {tuple(images.shape)}")
        if images.dtype == torch.uint8:
            return images.to(self._mean.dtype) / 255
        if not images.is_floating_point() or not (images.min() >= 0 and images.max() <= 1):  # NaN is neither
            raise ValueError(
                f"pictures must be uint8, or floats in [0, 1]; got {images.dtype} in [{images.min():g}, "
                f"{images.max():g}]. The encoder subtracts the mean itself"
            )
        return images


class SmallConvNet(ImageEncoder):
    """Four 3x3 convolutions, each with BatchNorm and ReLU, and a 2x2 max pooling after each of the first three.

    For pictures of 16 to 64 pixels a side: the map has an eighth of it. They have width / 2, width, 2 width and
    4 width channels, so each costs about the same; ``out_dim`` is 4 width. It trains on about 900 pictures of 48 x 48 a
    second on one CPU core.

    >>> SmallConvNet()(torch.zeros(5, 3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([5, 128])
    """

    def __init__(self, width: int = 32, feature_map: bool = False):
        super().__init__(feature_map, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        if width < 2 or width % 2:
            raise ValueError(f"width must be an even number >= 2, got {width!r}")
        self.config = {"encoder": "SmallConvNet", "width": width, "feature_map": feature_map}
        self.out_dim = 4 * width
        self.channels = (width // 2, width, 2 * width, 4 * width)
        layers = []
        for into, out in pairwise((3, *self.channels)):
            # No bias: BatchNorm would take it away.
            layers += [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] if out != self.out_dim else []
        self.body = nn.Sequential(*layers)

    def layers(self) -> list[nn.Module]:
        return [self.body[start : start + 4] for start in range(0, len(self.body), 4)]

    def _scaled(self, images: torch.Tensor) -> torch.Tensor:
        images = super()._scaled(images)
        if min(images.shape[2:]) < 8:
            raise ValueError(f"SmallConvNet needs pictures of at least 8 x 8 pixels, got {tuple(images.shape[2:])}")
        return images


class ResNet(ImageEncoder):
    """torchvision's ResNet without its classifier (K. He et al., Deep Residual Learning, CVPR 2016).

    ``name``: resnet18, 34, 50, 101 or 152. ``weights``: None for random ones, "DEFAULT" or a name of torchvision's such
    as "IMAGENET1K_V1", which are fetched once. ``trainable``: "all", "last_block" or "none"; what is not trainable also
    keeps its BatchNorm statistics in training. The normalisation is ImageNet's; the map has 1/32 of the picture's side.

    ``config`` leaves ``weights`` out: a saved encoder's weights are in its state dict. ``body`` has the keys of
    torchvision's own state dict, but for the classifier's.
    """

    def __init__(
        self,
        name: str = "resnet18",
        weights: str | None = None,
        trainable: str = "all",
        feature_map: bool = False,
    ):
        super().__init__(feature_map, IMAGENET_MEAN, IMAGENET_STD)
        if name not in RESNETS:
            raise ValueError(f"name must be one of {', '.join(RESNETS)}; got {name!r}")
        if trainable not in ("all", "last_block", "none"):
            raise ValueError(f"trainable must be 'all', 'last_block' or 'none', got {trainable!r}")
        self.config = {"encoder": "ResNet", "name": name, "trainable": trainable, "feature_map": feature_map}
        self.out_dim = RESNETS[name]
        self.channels = tuple(self.out_dim // part for part in (8, 4, 2, 1))
        self.body = torchvision_model(name, weights)
        del self.body.fc  # avgpool stays: it has nothing to learn
        parts = dict(self.body.named_children())
        self._frozen = {"all": [], "last_block": [p for p in parts if p != "layer4"], "none": list(parts)}[trainable]
        for part in self._frozen:
            parts[part].requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "ResNet":
        """As any module's, but what is not trainable stays in evaluation mode."""
        super().train(mode)
        for part in self._frozen:
            self.body.get_submodule(part).eval()
        return self

    def layers(self) -> list[nn.Module]:
        net = self.body
        return [
            nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1),
            net.layer2,
            net.layer3,
            net.layer4,
        ]


def torchvision_weights(name: str, weights: str | None) -> Any:
    """torchvision's entry for these weights, with ``name``, ``url`` and ``meta``; None for None. Raises ValueError.

    Of weights without a classifier only the convolutions were trained: they are not among those to choose from.
    """
    from torchvision.models import get_model_weights

    entries = get_model_weights(name)
    known = [w.name for w in entries if w.meta["categories"] is not None]
    if weights not in (None, "DEFAULT", *known):
        raise ValueError(f"weights of {name} are None, 'DEFAULT', {', '.join(map(repr, known))}; got {weights!r}")
    return None if weights is None else entries[weights]


def torchvision_model(name: str, weights: str | None) -> nn.Module:
    """torchvision's network of this name. Raises ValueError for unknown weights, OSError if they cannot be fetched."""
    from torchvision.models import get_model

    entry = torchvision_weights(name, weights)
    try:
        return get_model(name, weights=entry)
    except OSError as error:
        raise OSError(
            f"the weights of {name} could not be fetched ({error}). Get {entry.url} elsewhere and put it into "
            f"{torch.hub.get_dir()}/checkpoints, or use weights=None"
        ) from error
