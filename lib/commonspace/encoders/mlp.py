"""Feature vectors to feature vectors."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class MLP(nn.Module):
    """Fully connected layers: sizes (in, hidden, ..., out), (B, in) -> (B, out).

    Between layers, in this order: BatchNorm if ``batch_norm``, ``activation``, dropout with probability ``dropout``.
    After the last layer comes ``final_activation`` alone, or nothing. Activations: relu, gelu, tanh, sigmoid.

    >>> MLP([784, 1024, 1024, 10], activation="sigmoid")(torch.zeros(2, 784)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        final_activation: str | None = None,
    ):
        super().__init__()
        sizes = [int(size) for size in sizes]
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must be at least (in, out), each >= 1; got {sizes}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be a probability in [0, 1), got {dropout!r}")
        for name in [activation, *([final_activation] if final_activation is not None else [])]:
            if name not in ACTIVATIONS:
                raise ValueError(f"an activation must be one of {', '.join(ACTIVATIONS)}; got {name!r}")
        self.config = {
            "encoder": "MLP",
            "sizes": sizes,
            "activation": activation,
            "dropout": dropout,
            "batch_norm": batch_norm,
            "final_activation": final_activation,
        }
        self.in_dim, self.out_dim = sizes[0], sizes[-1]
        layers = []
        for into, out in pairwise(sizes[:-1]):
            layers.append(nn.Linear(into, out))
            layers += [nn.BatchNorm1d(out)] if batch_norm else []
            layers.append(ACTIVATIONS[activation]())
            layers += [nn.Dropout(dropout)] if dropout else []
        layers.append(nn.Linear(sizes[-2], sizes[-1]))
        layers += [ACTIVATIONS[final_activation]()] if final_activation is not None else []
        self.layers = nn.Sequential(*layers)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, in_dim) -> (B, out_dim). Raises ValueError for another shape."""
        if features.ndim != 2 or features.shape[1] != self.in_dim:
            raise ValueError(f"features must have shape (B, {self.in_dim}), got {tuple(features.shape)}")
        return self.layers(features)
