"""From a map to a vector that still knows where things are."""

from torch import Tensor, nn
from torch.nn import functional as F


class Cells(nn.Module):
    """(B, channels, h, w) -> (B, channels * cells^2): the means over cells x cells parts of a map, channel by channel.

    One cell is the mean over all of it, which does not say where anything was. Behind an encoder of pictures with
    ``feature_map=True``. Parts overlap where h or w is no multiple of ``cells``.

    >>> Cells(2, 2)(torch.arange(8.0).view(1, 2, 2, 2)).tolist()
    [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]
    """

    def __init__(self, channels: int, cells: int):
        super().__init__()
        if channels < 1 or cells < 1:
            raise ValueError(f"channels and cells must be at least 1; got {channels!r} and {cells!r}")
        self.channels, self.cells = channels, cells
        self.out_dim = channels * cells**2
        self.config = {"encoder": "Cells", "channels": channels, "cells": cells}

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, h, w) -> (B, out_dim). Raises ValueError for another shape or a map of fewer cells."""
        if features.ndim != 4 or features.shape[1] != self.channels or min(features.shape[2:]) < self.cells:
            raise ValueError(
                f"a map must have shape (B, {self.channels}, h, w), h and w at least {self.cells}; got "
                f"{tuple(features.shape)}: ask the encoder for feature_map=True, or give larger pictures or "
                "fewer cells"
            )
        return F.adaptive_avg_pool2d(features, self.cells).flatten(1)
