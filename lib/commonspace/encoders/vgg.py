"""VGG, whose second fully connected layer was the feature of many papers on pictures and sentences."""

from itertools import pairwise

import torch
from torch import nn

from commonspace.encoders.image import IMAGENET_MEAN, IMAGENET_STD, ImageEncoder, torchvision_model

VGGS = ("vgg16", "vgg19")


class VGG(ImageEncoder):
    """torchvision's VGG up to "fc7", its second fully connected layer (K. Simonyan and A. Zisserman, ICLR 2015).

    ``name``: vgg16 or vgg19. The 4,096 numbers are those behind the layer's ReLU, so none is below 0. ``weights`` and
    the normalisation are as in `ResNet`; so are ``config`` and the keys of ``body``. ``trainable``: "all", which has
    dropout behind both fully connected layers in training, or "none", which never has. There is no ``feature_map``:
    the vector is not the mean over one. A picture has at least 32 x 32 pixels; the weights expect 224 x 224.
    """

    out_dim = 4096
    channels = (64, 128, 256, 512, 512)

    def __init__(
        self, name: str = "vgg19", weights: str | None = None, trainable: str = "all", feature_map: bool = False
    ):
        super().__init__(feature_map, IMAGENET_MEAN, IMAGENET_STD)
        if name not in VGGS:
            raise ValueError(f"name must be one of {', '.join(VGGS)}; got {name!r}")
        if trainable not in ("all", "none"):
            raise ValueError(f"trainable must be 'all' or 'none', got {trainable!r}")
        if feature_map:
            raise ValueError("VGG gives a vector, fc7, and has no feature_map; take a ResNet where a map is needed")
        self.config = {"encoder": "VGG", "name": name, "trainable": trainable}
        self.body = torchvision_model(name, weights)
        del self.body.classifier[6]  # of ImageNet's classes
        self._frozen = trainable == "none"
        self.body.requires_grad_(not self._frozen)
        self.train()

    def train(self, mode: bool = True) -> "VGG":
        """As any module's, but one that is not trainable stays in evaluation mode: without dropout."""
        super().train(mode)
        self.body.train(mode and not self._frozen)
        return self

    def layers(self) -> list[nn.Module]:
        net = self.body.features
        ends = [i + 1 for i, part in enumerate(net) if isinstance(part, nn.MaxPool2d)]
        return [net[start:end] for start, end in pairwise((0, *ends))]

    def vector(self, last_map: torch.Tensor) -> torch.Tensor:
        return self.body.classifier(self.body.avgpool(last_map).flatten(1))

    def _scaled(self, images: torch.Tensor) -> torch.Tensor:
        images = super()._scaled(images)
        if min(images.shape[2:]) < 32:
            raise ValueError(f"VGG needs pictures of at least 32 x 32 pixels, got {tuple(images.shape[2:])}")
        return images
