"""Encoders one behind the other, and encoders built again from what was saved of them."""

from typing import Any

import torch
from torch import nn

from commonspace.encoders.bert import Bert
from commonspace.encoders.image import ResNet, SmallConvNet
from commonspace.encoders.mlp import MLP
from commonspace.encoders.pooling import Cells
from commonspace.encoders.recurrent import GRU, LSTM
from commonspace.encoders.scale import ScaledUnitNorm, Standardize
from commonspace.encoders.text import BagOfWords
from commonspace.encoders.vgg import VGG


class Sequence(nn.Module):
    """Encoders one behind the other: the first takes the batch, each next one what the one before gave.

    >>> net = SmallConvNet(width=8)
    >>> Sequence(net, MLP([net.out_dim, 10])).out_dim
    10
    """

    def __init__(self, *parts: nn.Module):
        super().__init__()
        if not parts:
            raise ValueError("a Sequence needs at least one encoder")
        self.parts = nn.ModuleList(parts)
        widths = [part.out_dim for part in parts if part.out_dim is not None]  # a ScaledUnitNorm has none of its own
        self.out_dim = widths[-1] if widths else None
        self.config = {"encoder": "Sequence", "parts": [part.config for part in parts]}

    def forward(self, batch: Any) -> torch.Tensor:
        """Whatever the first encoder takes -> (B, out_dim)."""
        for part in self.parts:
            batch = part(batch)
        return batch


_ENCODERS = {
    kind.__name__: kind
    for kind in (GRU, LSTM, MLP, VGG, BagOfWords, Bert, Cells, ResNet, ScaledUnitNorm, SmallConvNet, Standardize)
}


def build_encoder(config: dict[str, Any]) -> nn.Module:
    """An encoder from the ``config`` of another: of the same make, its weights still random.

    >>> build_encoder(MLP([5, 3]).config).out_dim
    3
    """
    arguments = dict(config)
    kind = arguments.pop("encoder", None)
    if kind == "Sequence":
        return Sequence(*[build_encoder(part) for part in arguments["parts"]])
    if kind not in _ENCODERS:
        raise ValueError(f"config['encoder'] must be one of {', '.join([*_ENCODERS, 'Sequence'])}; got {kind!r}")
    return _ENCODERS[kind](**arguments)
