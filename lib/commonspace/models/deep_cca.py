"""Deep CCA: two networks whose outputs correlate as much as possible, then one linear CCA on top.

Where CCA mixes the columns of each view by a matrix, Deep CCA sends each view through a network f, g and maximises, by
gradient, the total correlation of the outputs on a batch of m pairs: the trace norm of

    T = (S_11 + r I)^(-1/2) S_12 (S_22 + r I)^(-1/2),    loss = -||T||_*    (`losses.correlation_loss`).

Reference: G. Andrew, R. Arora, J. Bilmes, K. Livescu, "Deep canonical correlation analysis", ICML 2013. With decoders
it is DCCAE: W. Wang, R. Arora, K. Livescu, J. Bilmes, "On deep multi-view representation learning", ICML 2015. With
pixels and words, end to end: F. Yan, K. Mikolajczyk, "Deep correlation for matching images and text", CVPR 2015.

DEVIATIONS
- Trained on minibatches by Adam, not on the whole set by L-BFGS as in 2013.
- ``form="frobenius"`` maximises the sum of squared correlations instead, ||T||_F^2, which some code calls Deep CCA too.
- DCCAE's loss is correlation + ``reconstruction`` times the mean squared errors, the weight on the second term alone.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commonspace.encoders.build import build_encoder
from commonspace.losses import correlation_loss
from commonspace.models._embed import embed
from commonspace.models.cca import CCA
from commonspace.training.checkpoint import load_model, save_model


class DeepCCA(nn.Module):
    """Two encoders, and the linear CCA that is fitted to their outputs when training has ended.

    ``image_encoder`` and ``text_encoder`` are encoders of `commonspace.encoders` (whatever they take: feature rows,
    pictures, lists of texts), each giving (B, out_dim). ``n_components``: directions kept, at most the smaller out_dim.
    ``ridge``: r above, absolute. ``reconstruction``: weight of DCCAE's term, which needs feature rows as input and the
    two decoders.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        n_components: int = 10,
        ridge: float = 1e-3,
        form: Literal["trace", "frobenius"] = "trace",
        reconstruction: float = 0.0,
        image_decoder: nn.Module | None = None,
        text_decoder: nn.Module | None = None,
        linear_ridge: float = 1e-3,
        correlation_power: float = 1.0,
    ):
        super().__init__()
        widest = min(image_encoder.out_dim, text_encoder.out_dim)
        if not 1 <= n_components <= widest:
            raise ValueError(
                f"n_components={n_components}, but the encoders give {widest} numbers: ask for 1 to {widest}"
            )
        if reconstruction and (image_decoder is None or text_decoder is None):
            raise ValueError("reconstruction > 0 (DCCAE) needs image_decoder and text_decoder")
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.image_decoder, self.text_decoder = image_decoder, text_decoder
        self.n_components, self.ridge, self.form, self.reconstruction = n_components, ridge, form, reconstruction
        self.linear_ridge, self.correlation_power = linear_ridge, correlation_power
        for view, width in [("image", image_encoder.out_dim), ("text", text_encoder.out_dim)]:
            self.register_buffer(f"{view}_mean", torch.full((width,), torch.nan))
            self.register_buffer(f"{view}_weights", torch.zeros(width, n_components))
        self.register_buffer("correlations", torch.zeros(n_components))

    def forward(self, image: Any, text: Any) -> tuple[Tensor, Tensor]:
        """The outputs of both encoders on a batch of m pairs: (m, d1), (m, d2)."""
        return self.image_encoder(image), self.text_encoder(text)

    def losses(self, image: Any, text: Any, gather: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """Of one batch of m pairs: ``loss``, which is minimised, and the terms it is made of, all scalars.

        ``gather`` brings the outputs of all processes together (`training.all_gather`): a correlation is one of the
        whole batch, not a mean over its pairs.
        """
        a, b = self(image, text)
        whole = (a, b) if gather is None else (gather(a), gather(b))
        found = {"correlation": correlation_loss(*whole, ridge=self.ridge, form=self.form)}
        found["loss"] = found["correlation"]
        if self.reconstruction:
            found["reconstruction"] = F.mse_loss(self.image_decoder(a), image) + F.mse_loss(self.text_decoder(b), text)
            found["loss"] = found["loss"] + self.reconstruction * found["reconstruction"]
        return found

    def fit_linear(self, images: Any, texts: Any) -> Self:
        """The last step of training: linear CCA on the outputs of ALL training pairs, kept with the networks.

        The loss does not care by which invertible matrix the outputs are mixed, so without this step column i of one
        view need not go with column i of the other.
        """
        a, b = embed(self.image_encoder, images), embed(self.text_encoder, texts)
        linear = CCA(self.n_components, regularization=self.linear_ridge).fit(a, b)
        for buffer, value in [
            (self.image_mean, linear.x_mean_),
            (self.image_weights, linear.x_weights_),
            (self.text_mean, linear.y_mean_),
            (self.text_weights, linear.y_weights_),
            (self.correlations, linear.correlations_),
        ]:
            buffer.copy_(torch.from_numpy(value))
        return self

    def embed_image(self, images: Any) -> Tensor:
        """Images, in whatever form the encoder takes, -> (n, n_components) float32 on the CPU."""
        variates = self._variates(self.image_encoder, images, self.image_mean, self.image_weights)
        return variates * self.correlations.cpu() ** self.correlation_power

    def embed_text(self, texts: Any) -> Tensor:
        """Texts, in whatever form the encoder takes, -> (n, n_components) float32 on the CPU."""
        variates = self._variates(self.text_encoder, texts, self.text_mean, self.text_weights)
        return variates * self.correlations.cpu() ** self.correlation_power

    def score(self, images: Any, texts: Any) -> float:
        """Total correlation of the variates of these pairs, as `CCA.score`: in [-k, k]."""
        a = self._variates(self.image_encoder, images, self.image_mean, self.image_weights).double()
        b = self._variates(self.text_encoder, texts, self.text_mean, self.text_weights).double()
        a, b = a - a.mean(dim=0), b - b.mean(dim=0)
        return float(F.cosine_similarity(a, b, dim=0).sum())

    def _variates(self, encoder: nn.Module, items: Any, mean: Tensor, weights: Tensor) -> Tensor:
        if mean.isnan().any():
            raise ValueError("fit_linear has not been called: train the model first, its last step is a linear CCA")
        return (embed(encoder, items) - mean.cpu()) @ weights.cpu()

    def save(self, folder: str | Path) -> None:
        """Write ``weights.safetensors`` and ``config.json``, whole or not at all."""
        parts = {
            name: getattr(self, name) for name in ("image_encoder", "text_encoder", "image_decoder", "text_decoder")
        }
        numbers = ("n_components", "ridge", "form", "reconstruction", "linear_ridge", "correlation_power")
        config = {name: part.config for name, part in parts.items() if part is not None}
        save_model(self, folder, config | {name: getattr(self, name) for name in numbers})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The model that `save` wrote, in evaluation mode on the CPU."""
        weights, config = load_model(folder)
        parts = {name: build_encoder(value) if isinstance(value, dict) else value for name, value in config.items()}
        model = cls(**parts)
        model.load_state_dict(weights)
        return model.eval()


def feature_towers(
    image_dim: int, text_dim: int, hidden: Sequence[int], out_dim: int, decoders: bool = False, **mlp: Any
) -> dict[str, nn.Module]:
    """Encoders (and decoders) for feature rows: multi-layer perceptrons dim -> hidden... -> out_dim."""
    from commonspace.encoders.mlp import MLP

    towers = {
        "image_encoder": MLP([image_dim, *hidden, out_dim], **mlp),
        "text_encoder": MLP([text_dim, *hidden, out_dim], **mlp),
    }
    if decoders:
        towers["image_decoder"] = MLP([out_dim, *reversed(hidden), image_dim], **mlp)
        towers["text_decoder"] = MLP([out_dim, *reversed(hidden), text_dim], **mlp)
    return towers
