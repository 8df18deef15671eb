"""Composers taken over from captioning and from answering questions about pictures, with which TIRG is compared.

    ShowAndTell       psi = A h,  h the last state of an LSTM that reads phi_x, then the words
    ParameterHashing  psi = W_t x,  W_t[m, n] = sign(m, n) p[hash(m, n)],  p = A phi_t
    Relationship      psi = A mean over i, j of g(x_i, x_j, phi_t),  x_i the feature at place i of the last map
    FiLM              every layer's map: (1 + gamma_t) x + beta_t, a number of each for every channel
    MRN               psi = tanh(A_2 tanh(A_1 phi_x)) . tanh(B phi_t) + C phi_t

References: the comparison is N. Vo et al., "Composing text and image for image retrieval: an empirical odyssey", CVPR
2019. The ideas are those of O. Vinyals et al., "Show and tell", CVPR 2015; H. Noh et al., "Image question answering
using convolutional neural network with dynamic parameter prediction", CVPR 2016; A. Santoro et al., "A simple neural
network module for relational reasoning", NeurIPS 2017; E. Perez et al., "FiLM: visual reasoning with a general
conditioning layer", AAAI 2018; J.-H. Kim et al., "Multimodal residual learning for visual QA", NeurIPS 2016.

DEVIATIONS: TIRG's authors released none of the five. Of four the paper's first version (arXiv 1812.07119v1) has a
sentence or two, of which these are our readings; of MRN it has none.
- `ParameterHashing`: W_t is the layer behind the pooled map, in place of the linear layer that targets pass.
- `Relationship`: no coordinates go into g, as in the comparison; the map is averaged to ``cells`` x ``cells`` places.
- `FiLM`: behind each layer (a ResNet's four, a SmallConvNet's four), with 1 + gamma, so that it begins near a net left
  alone. Targets pass the net unchanged, and so the source's vector and the target's differ by the text alone.
- `MRN`: one block, as later re-implementations have it; with dropout 0.5 before each layer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from commonspace.models.composer import Composer


class ShowAndTell(Composer):
    """A caption generator read backwards: the image is the first word of the text. Reads the text encoder's words."""

    reads = "words"

    def __init__(self, image_dim: int, text_dim: int, dim: int):
        super().__init__(image_dim, text_dim, dim)
        self.first_word = nn.Linear(image_dim, text_dim)
        self.rnn = nn.LSTM(text_dim, dim, batch_first=True)
        self.head = nn.Linear(dim, dim)

    def forward(self, image: Tensor, text: tuple[Tensor, Tensor]) -> Tensor:
        """(B, image_dim), and (words (B, T, text_dim), which are words (B, T) bool) -> (B, dim)."""
        words, mask = text
        read = torch.cat([self.first_word(image)[:, None], words], dim=1)  # (B, 1 + T, text_dim)
        lengths = 1 + mask.sum(dim=1).cpu()  # on the CPU, where packing wants them
        _, (state, _) = self.rnn(pack_padded_sequence(read, lengths, batch_first=True, enforce_sorted=False))
        return self.head(state[0])


class ParameterHashing(Composer):
    """The text chooses the weights of the layer behind the image's pooled map.

    A matrix (dim, image_dim) would be too much for a text to name, so it names ``candidates`` numbers, and a fixed hash
    puts one of them, with a sign, at each place of the matrix. The hash is drawn from ``seed``, and saved.
    """

    reads = "map"

    def __init__(self, image_dim: int, text_dim: int, dim: int, candidates: int = 2048, seed: int = 0):
        super().__init__(image_dim, text_dim, dim, candidates=candidates, seed=seed)
        if candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {candidates}")
        self.candidates = nn.Linear(text_dim, candidates)
        rng = torch.Generator().manual_seed(seed)
        self.register_buffer("place", torch.randint(candidates, (dim, image_dim), generator=rng))
        self.register_buffer("sign", 2.0 * torch.randint(2, (dim, image_dim), generator=rng) - 1)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """(B, image_dim, h, w), (B, text_dim) -> (B, dim)."""
        pooled = image.mean(dim=(2, 3))  # (B, image_dim)
        matrix = self.sign * self.candidates(text)[:, self.place]  # (B, dim, image_dim)
        return (matrix @ pooled[:, :, None])[:, :, 0]


class Relationship(Composer):
    """Every pair of places of the last map is looked at together with the text, and the answers are averaged.

    g is a perceptron of two layers, ``dim`` wide. Its first layer is linear in (x_i, x_j, phi_t), so the three are
    multiplied apart and then added for all pairs: the pairs themselves are never written down.
    """

    reads = "map"

    def __init__(self, image_dim: int, text_dim: int, dim: int, cells: int = 4):
        super().__init__(image_dim, text_dim, dim, cells=cells)
        if cells < 1:
            raise ValueError(f"cells must be at least 1, got {cells}")
        self.cells = cells
        self.first, self.second = (nn.Linear(image_dim, dim, bias=False) for _ in range(2))
        self.text = nn.Linear(text_dim, dim)
        self.hidden, self.head = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """(B, image_dim, h, w), (B, text_dim) -> (B, dim)."""
        side = [min(self.cells, length) for length in image.shape[2:]]
        places = F.adaptive_avg_pool2d(image, side).flatten(2).transpose(1, 2)  # (B, p, image_dim)
        pairs = self.first(places)[:, :, None] + self.second(places)[:, None] + self.text(text)[:, None, None]
        return self.head(F.relu(self.hidden(F.relu(pairs))).mean(dim=(1, 2)))  # (B, p, p, dim) -> (B, dim)


class FiLM(Composer):
    """The text turns the channels of the image encoder's layers up and down while it looks at the source.

    ``channels``: how many each of the encoder's last layers has, `ImageEncoder.channels` for all of them; None, its
    last map alone. Raises ValueError in use for an encoder with others.
    """

    reads = "layers"

    def __init__(self, image_dim: int, text_dim: int, dim: int, channels: Sequence[int] | None = None):
        channels = [image_dim] if channels is None else [int(c) for c in channels]
        super().__init__(image_dim, text_dim, dim, channels=channels)
        if not channels or channels[-1] != image_dim:
            raise ValueError(f"the last of channels={channels} must be that of the last map, image_dim={image_dim}")
        self.channels = channels
        self.modulation = nn.Linear(text_dim, 2 * sum(channels))

    def forward(self, image: tuple[nn.Module, Tensor], text: Tensor) -> Tensor:
        """(image encoder, pictures (B, 3, h, w)), (B, text_dim) -> the map (B, image_dim, h', w')."""
        encoder, pictures = image
        if list(encoder.channels[-len(self.channels) :]) != self.channels:
            raise ValueError(
                f"FiLM was made for layers of {self.channels} channels; this encoder's: {encoder.channels}"
            )
        gamma, beta = (part.split(self.channels, dim=1) for part in self.modulation(text).chunk(2, dim=1))
        untouched = len(encoder.channels) - len(self.channels)

        def modulate(layer: int, features: Tensor) -> Tensor:
            if layer < untouched:
                return features
            g, b = (part[layer - untouched][:, :, None, None] for part in (gamma, beta))
            return (1 + g) * features + b

        return encoder(pictures, after_layer=modulate)


class MRN(Composer):
    """Multimodal residual network, one block: image and text multiplied, plus the text."""

    def __init__(self, image_dim: int, text_dim: int, dim: int, dropout: float = 0.5):
        super().__init__(image_dim, text_dim, dim, dropout=dropout)

        def layer(into: int) -> list[nn.Module]:
            return [nn.Dropout(dropout), nn.Linear(into, dim)]

        self.image = nn.Sequential(*layer(image_dim), nn.Tanh(), *layer(dim), nn.Tanh())
        self.text = nn.Sequential(*layer(text_dim), nn.Tanh())
        self.shortcut = nn.Sequential(*layer(text_dim))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """(B, image_dim), (B, text_dim) -> (B, dim)."""
        return self.image(image) * self.text(text) + self.shortcut(text)
