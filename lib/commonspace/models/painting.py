"""The two networks of a game about pictures: one paints from a sentence's vector, one judges picture and sentence.

Those of StackGAN's first stage (H. Zhang et al., "StackGAN: text to photo-realistic image synthesis with stacked
generative adversarial networks", ICCV 2017), which go back to A. Radford et al., "Unsupervised representation learning
with deep convolutional generative adversarial networks", ICLR 2016. Of any size that halves down to 4 cells a side;
weights begin normal with a standard deviation of 0.02.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Painter(nn.Module):
    """G: (z, t_c) -> pictures (B, 3, height, width) in [-1, 1].

    A linear layer to a map of ``width`` channels and, of square pictures, 4 x 4 cells; then n times: twice the size by
    repeating cells, a 3 x 3 convolution to half the channels (at least 8). ``size``: side, or (height, width), see
    `halvings`.
    """

    def __init__(self, condition_dim: int, noise_dim: int = 100, width: int = 1024, size: int | tuple[int, int] = 64):
        super().__init__()
        n, self.base = halvings(size)
        channels = [max(8, width >> i) for i in range(n + 1)]
        self.noise_dim, self.width = noise_dim, channels[0]
        cells = channels[0] * self.base[0] * self.base[1]
        self.start = nn.Sequential(nn.Linear(noise_dim + condition_dim, cells, bias=False), nn.BatchNorm1d(cells))
        layers: list[nn.Module] = []
        for before, behind in pairwise(channels):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, behind, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(behind), nn.ReLU()]
        self.paint = nn.Sequential(*layers, nn.Conv2d(channels[-1], 3, 3, padding=1), nn.Tanh())
        self.apply(_as_stackgan)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """(B, noise_dim), (B, condition_dim) -> (B, 3, height, width)."""
        cells = F.relu(self.start(torch.cat([z, condition], dim=1)))
        return self.paint(cells.view(-1, self.width, *self.base))


class Judge(nn.Module):
    """D: (picture, sentence) -> a logit: above 0 for a real picture with its own sentence.

    Convolutions that halve the picture and double the ``width`` channels of the first one, down to `look`'s map; the
    sentence, the same at every cell, joins them in `compare`. ``spread``: one more channel, how much the pictures of
    the batch differ, so that a painter of always the same picture is found out.
    """

    def __init__(
        self,
        condition_dim: int,
        width: int = 64,
        size: int | tuple[int, int] = 64,
        norm: Literal["batch", "none"] = "batch",
        spread: bool = False,
    ):
        super().__init__()
        n, base = halvings(size)
        channels = [3, *(width << i for i in range(n))]
        layers: list[nn.Module] = []
        for before, behind in pairwise(channels):
            normed = norm == "batch" and before != 3
            layers += [nn.Conv2d(before, behind, 4, 2, 1, bias=not normed), *[nn.BatchNorm2d(behind)] * normed]
            layers += [nn.LeakyReLU(0.2)]
        self.trunk, self.spread, last = nn.Sequential(*layers), spread, channels[-1]
        joined = nn.Conv2d(last + condition_dim + spread, last, 3, padding=1, bias=norm == "none")
        self.head = nn.Sequential(
            joined, *[nn.BatchNorm2d(last)] * (norm == "batch"), nn.LeakyReLU(0.2), nn.Conv2d(last, 1, base)
        )
        self.apply(_as_stackgan)

    def look(self, pictures: Tensor) -> Tensor:
        """(B, 3, height, width) in [-1, 1] -> a map, which may be compared with several sentences."""
        seen = self.trunk(pictures)
        if self.spread:
            std = (seen.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
            seen = torch.cat([seen, std.expand(len(seen), 1, *seen.shape[2:])], dim=1)
        return seen

    def compare(self, seen: Tensor, condition: Tensor) -> Tensor:
        """What `look` gave of B pictures, (B, condition_dim) -> logits (B,)."""
        everywhere = condition[:, :, None, None].expand(-1, -1, *seen.shape[2:])
        logits = self.head(torch.cat([seen, everywhere], dim=1)).flatten()
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def forward(self, pictures: Tensor, condition: Tensor) -> Tensor:
        """(B, 3, height, width), (B, condition_dim) -> logits (B,)."""
        return self.compare(self.look(pictures), condition)


def halvings(size: int | Sequence[int]) -> tuple[int, tuple[int, int]]:
    """How often a picture of this size, a side or (height, width), is halved until its longer side is 4, and the height
    and width that are left: 64 -> (4, (4, 4)), (64, 48) -> (4, (4, 3)).

    Raises ValueError unless the longer side is 4 * 2^n, n >= 1, and the shorter one can be halved as often.
    """
    sides = [size, size] if isinstance(size, int) else list(size) if isinstance(size, Sequence) else []
    longer = max(sides) if len(sides) == 2 and all(isinstance(side, int) for side in sides) else 0
    n = longer.bit_length() - 3
    if n < 1 or longer != 4 << n or any(side < 1 or side % (1 << n) for side in sides):
        raise ValueError(f"size {size!r} cannot be painted: take 8, 16, 32, 64, 128 or 256 pixels, or such as (64, 48)")
    return n, (sides[0] >> n, sides[1] >> n)


def _as_stackgan(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.normal_(layer.weight, 0.0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
