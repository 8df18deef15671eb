"""TIRG: the composed query is the image itself, let through by a gate, plus what the text adds to it.

Both features go into a gate and a residual. The gate decides how much of each number of the image's feature stays; the
residual is what is new. So the query lives in the space of images, and "change nothing" is within reach:

    psi    = w_g f_gate(phi_x, phi_t) + w_r f_res(phi_x, phi_t)          (1)
    f_gate = sigmoid(W_g2 * relu(W_g1 * [phi_x, phi_t])) . phi_x         (2)
    f_res  = W_r2 * relu(W_r1 * [phi_x, phi_t])                          (3)

where . multiplies number by number, * is a linear layer on vectors ("fc"), or a 3x3 convolution on the image encoder's
last map with phi_t at every place of it ("conv"), and w_g, w_r are two learned numbers.

Reference: N. Vo, L. Jiang, C. Sun, K. Murphy, L.-J. Li, L. Fei-Fei, J. Hays, "Composing text and image for image
retrieval: an empirical odyssey", CVPR 2019, equations 1 to 3.

DEVIATIONS: where the paper and its released code differ, ``form="paper"`` is the default, ``form="release"`` the other.
- Normalisation: the paper says "with batch normalisation" and not where; here it stands between the first layer and its
  relu. The release normalises the concatenated input instead.
- At the fc layer the release's gate is one linear layer, not two, and a relu stands before each branch's first layer;
  before a first convolution there is none.
- ``weights``: w_g and w_r at the start. The paper names none; the release has 1 and 10, and two further numbers that
  nothing uses and that are not kept here.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from commonspace.models.composer import Composer


class TIRG(Composer):
    """Text-image residual gating, see the module.

    ``at``: "fc" takes vectors, and image_dim must be dim; "conv" takes the last map and gives a map of its shape.
    ``weights``: w_g and w_r at the start. ``parts``: "both", or "gate" or "residual" alone, the paper's ablation.
    Raises ValueError for other values.

    >>> sum(p.numel() for p in TIRG(512, 512, 512, form="release").parameters())
    2103298
    """

    def __init__(
        self,
        image_dim: int,
        text_dim: int,
        dim: int,
        at: Literal["fc", "conv"] = "fc",
        weights: Sequence[float] = (1.0, 1.0),
        form: Literal["paper", "release"] = "paper",
        parts: Literal["both", "gate", "residual"] = "both",
    ):
        weights = [float(w) for w in weights]
        super().__init__(image_dim, text_dim, dim, at=at, weights=weights, form=form, parts=parts)
        if at not in ("fc", "conv") or form not in ("paper", "release") or parts not in ("both", "gate", "residual"):
            raise ValueError(
                "at is 'fc' or 'conv', form 'paper' or 'release', parts 'both', 'gate' or 'residual'; "
                f"got {at!r}, {form!r}, {parts!r}"
            )
        if len(weights) != 2:
            raise ValueError(f"weights are two, of the gate and of the residual at the start; got {weights}")
        if at == "fc":
            self._need_same("image_dim")
        self.weights = nn.Parameter(torch.tensor(weights))
        one_layer = at == "fc" and form == "release"
        self.gate = None if parts == "residual" else self._branch(at, form, hidden=not one_layer)
        self.residual = None if parts == "gate" else self._branch(at, form)

    @classmethod
    def reading(cls, **settings: Any) -> str:
        return "map" if settings.get("at") == "conv" else "vectors"

    def _branch(self, at: str, form: str, hidden: bool = True) -> nn.Sequential:
        """From [phi_x, phi_t] to as many numbers as phi_x has, at every place of a map."""
        both = self.image_dim + self.text_dim

        def layer(out: int) -> nn.Module:
            return nn.Linear(both, out) if at == "fc" else nn.Conv2d(both, out, 3, padding=1)

        norm = nn.BatchNorm1d(both) if at == "fc" else nn.BatchNorm2d(both)
        if form == "paper":
            return nn.Sequential(layer(both), norm, nn.ReLU(), layer(self.image_dim))
        start = [norm, nn.ReLU()] if at == "fc" else [norm]
        return nn.Sequential(*start, *([layer(both), nn.ReLU()] if hidden else []), layer(self.image_dim))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """(B, dim) or, at "conv", (B, image_dim, h, w), and (B, text_dim) -> the shape of ``image``."""
        if image.ndim == 4:
            text = text[:, :, None, None].expand(-1, -1, *image.shape[2:])  # the same text at every place
        both = torch.cat([image, text], dim=1)
        w_gate, w_residual = self.weights
        gated = 0 if self.gate is None else w_gate * torch.sigmoid(self.gate(both)) * image
        return gated if self.residual is None else gated + w_residual * self.residual(both)
