"""ComposeAE: the target is the source rotated, in a complex space, by angles that the text chooses.

The image becomes a vector of complex numbers and the text an angle for each of them. The rotated vector goes back to
the space of images, where decoders must find image and text in it, and where turning the target back must find the
source. With z the source's feature, y the target's, q the text's, j the imaginary unit and (1) to (8) our numbers,

    gamma(q) in R^k   an MLP,        delta = exp(j gamma(q)),  |delta_i| = 1                       (1)
    eta(z)   in C^k   an MLP,        phi   = delta . eta(z)                                        (2)
    theta = a rho(phi) + b rho_conv(phi, z, q),   a and b learned;   rho: C^k -> R^d an MLP        (3)
    theta' = the same of y and q with conj(delta) = exp(-j gamma(q)) in place of delta             (4)

    L_BASE   theta_i finds y_i among the batch's targets: `losses.softmax`                         (5)
    L_SYM    theta'_i finds z_i among the batch's sources: the same loss                           (6)
    L_RI     = mean ||z - d_img(theta)||^2,   L_RT = mean ||q - d_txt(theta)||^2                   (7)
    loss     = L_BASE + lambda_sym L_SYM + lambda_ri L_RI + lambda_rt L_RT                         (8)

where . multiplies number by number. `ComposedRetrieval` computes (5) and adds the rest, `ComposeAE.auxiliary`.

Reference: M. U. Anwaar, E. Labintcev, M. Kleinsteuber, "Compositional learning of image-text query for image
retrieval", WACV 2021, section 3.

DEVIATIONS: where paper and released code differ, ``form="paper"`` is the default, ``form="release"`` the other, and the
flags named here choose one by one; `FORMS` lists what each form sets.
- ``eta_complex``: eta(z) is complex in the paper. The release's is real, and so Re phi = eta cos gamma and Im phi = eta
  sin gamma: the conjugate changes the sign of Im phi and nothing else.
- ``share_projection``: one gamma and one eta in the paper; in the release rho and rho_conv have each their own pair.
- ``order`` of rho_conv: "mlp_conv" is the paper's, two linear layers and then a convolution with 64 filters and
  adaptive max pooling. The paper does not say how they fit together: here the layers read Re phi, Im phi, z and q one
  behind the other, a relu follows each, their d numbers are the one channel of the convolution, and what comes of all
  filters, one behind the other, is pooled to d numbers (d/64 of each filter, where 64 divides d). "conv_mlp" is the
  release's: eta, gamma, z, Re phi, Im phi as channels, the convolution, pooling to 2d numbers, two linear layers. It
  never sees q itself, and in (4) its channel gamma keeps its sign.
- ``batch_norm`` before every MLP, with a relu behind it except in gamma and eta: the release has it, the paper does not
  mention it. It is on in both forms: without it (False) the paper's form reached an R@1 of 0.34 instead of 0.61 on
  validation queries of our scenes (1,000 x 16 queries, 5 epochs, dim 256, 3 trainings). ``dropout`` in eta, before its
  relu, is the release's too (0.5), and the paper's form has none.
- ``weights``, a and b at the start, and the lambdas: the paper gives none. The release has 10 and 1, two further
  numbers that nothing uses and that are not kept here, and lambdas of 0.01, 0.1 and 0.1, the defaults here. Those
  lambdas belong to ``recon="mean"``, the mean over elements too; "sum" is (7) as printed, d times as large.
- ``detach_recon``: the release does not detach z in (7), and the paper does not say; so z, which the decoder should
  meet, also goes to meet it. True detaches z and q. (There q is a constant, of a frozen BERT.)
- The ablations: ``symmetry_weight=0``; ``parts="rho"`` and "rho_conv"; and ``space="real"``, the concatenation in real
  space: [z, q] in place of phi, and of all that rho_conv reads. It has nothing to turn back: lambda_sym must be 0.
- L_SYM has no negatives among queries from the same source, which are right answers as well; the release takes them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commonspace.models.composer import Composer

FILTERS = 64
FORMS = {
    "paper": {"eta_complex": True, "share_projection": True, "order": "mlp_conv", "dropout": 0.0},
    "release": {"eta_complex": False, "share_projection": False, "order": "conv_mlp", "dropout": 0.5},
}
LAMBDAS = ("symmetry_weight", "image_recon_weight", "text_recon_weight")
CHOICES = {
    "form": ("paper", "release"),
    "order": ("mlp_conv", "conv_mlp"),
    "parts": ("both", "rho", "rho_conv"),
    "space": ("complex", "real"),
    "recon": ("mean", "sum"),
}


def perceptron(into: int, hidden: int, out: int, batch_norm: bool, opening_relu: bool = True, dropout: float = 0.0):
    """Two linear layers with a relu between them; with ``batch_norm``, a norm and ``opening_relu`` before them."""
    start = [nn.BatchNorm1d(into), *([nn.ReLU()] if opening_relu else [])] if batch_norm else []
    between = [*([nn.Dropout(dropout)] if dropout else []), nn.ReLU()]
    return nn.Sequential(*start, nn.Linear(into, hidden), *between, nn.Linear(hidden, out))


class Rotation(nn.Module):
    """Equations (1) and (2): `gamma`, `eta`, `delta`, and phi with all of what it is made of.

    k is ``dim``. ``eta_complex``: whether eta(z) is complex, else real.
    """

    def __init__(self, image_dim: int, text_dim: int, dim: int, eta_complex: bool, batch_norm: bool, dropout: float):
        super().__init__()
        self.eta_complex = eta_complex
        out = 2 * dim if eta_complex else dim
        self.of_image = perceptron(image_dim, dim, out, batch_norm, opening_relu=False, dropout=dropout)
        self.of_text = perceptron(text_dim, dim, dim, batch_norm, opening_relu=False)

    def gamma(self, text: Tensor) -> Tensor:
        """q (B, text_dim) -> the angles (B, k), in radians, any real numbers."""
        return _wide(self.of_text(text))

    def eta(self, image: Tensor) -> Tensor:
        """z (B, image_dim) -> (B, k), complex or real."""
        eta = _wide(self.of_image(image))
        return torch.complex(*eta.chunk(2, dim=1)) if self.eta_complex else eta

    def delta(self, text: Tensor, conjugate: bool = False) -> Tensor:
        """q (B, text_dim) -> exp(j gamma), with ``conjugate`` exp(-j gamma): (B, k) complex, of modulus 1."""
        return _turn(self.gamma(text), conjugate)

    def forward(self, image: Tensor, text: Tensor, conjugate: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """(B, image_dim), (B, text_dim) -> phi, complex, and eta and gamma: (B, k) each."""
        gamma, eta = self.gamma(text), self.eta(image)
        return _turn(gamma, conjugate) * eta, eta, gamma


class ConvMapping(nn.Module):
    """rho_conv: a convolution of ``FILTERS`` filters, adaptive max pooling, and two linear layers before or behind it.

    ``order``: see the module. "mlp_conv" takes (B, into), "conv_mlp" ``into`` channels (B, into, length), pooled to
    ``pooled`` numbers; both give (B, dim).
    """

    def __init__(self, into: int, dim: int, order: str, pooled: int, batch_norm: bool):
        super().__init__()
        self.conv_first = order == "conv_mlp"
        self.pooled = pooled if self.conv_first else dim
        self.conv = nn.Conv1d(into if self.conv_first else 1, FILTERS, 3, padding=1)
        self.layers = perceptron(pooled if self.conv_first else into, dim, dim, batch_norm)

    def forward(self, features: Tensor) -> Tensor:
        """(B, into), or (B, into, length) -> (B, dim)."""
        if not self.conv_first:
            features = F.relu(self.layers(features))[:, None]  # (B, 1, dim)
        maps = self.conv(features).flatten(1)  # (B, FILTERS * length), filter by filter
        pooled = F.adaptive_max_pool1d(maps, self.pooled)
        return self.layers(pooled) if self.conv_first else pooled


class ComposeAE(Composer):
    """Composition by rotation, with decoders, see the module.

    ``form`` sets ``eta_complex``, ``share_projection``, ``order`` and ``dropout`` where they are None. ``weights``: a
    and b at the start. ``parts``, ``space``: the ablations. ``symmetry_weight``, ``image_recon_weight`` and
    ``text_recon_weight``: lambda_sym, lambda_ri, lambda_rt; one of 0 takes its term away, and its decoder. ``recon``,
    ``detach_recon``: of the terms of reconstruction.

    image_dim must be dim, since sources and targets lie in one space; text_dim may be anything. k is dim as well.
    Raises ValueError for other values.

    >>> sum(p.numel() for p in ComposeAE(512, 768, 512, form="release").parameters())
    5460482
    """

    def __init__(
        self,
        image_dim: int,
        text_dim: int,
        dim: int,
        form: Literal["paper", "release"] = "paper",
        weights: Sequence[float] = (1.0, 1.0),
        parts: Literal["both", "rho", "rho_conv"] = "both",
        space: Literal["complex", "real"] = "complex",
        eta_complex: bool | None = None,
        share_projection: bool | None = None,
        order: Literal["mlp_conv", "conv_mlp"] | None = None,
        dropout: float | None = None,
        batch_norm: bool = True,
        symmetry_weight: float = 0.01,
        image_recon_weight: float = 0.1,
        text_recon_weight: float = 0.1,
        recon: Literal["mean", "sum"] = "mean",
        detach_recon: bool = False,
    ):
        given = {"eta_complex": eta_complex, "share_projection": share_projection, "order": order, "dropout": dropout}
        of = FORMS.get(form, {}) | {name: value for name, value in given.items() if value is not None}
        lambdas = dict(zip(LAMBDAS, map(float, (symmetry_weight, image_recon_weight, text_recon_weight)), strict=True))
        weights = [float(w) for w in weights]
        chosen = {"form": form, "weights": weights, "parts": parts, "space": space}
        settings = chosen | of | {"batch_norm": batch_norm} | lambdas | {"recon": recon, "detach_recon": detach_recon}
        super().__init__(image_dim, text_dim, dim, **settings)
        _check(settings)
        self._need_same("image_dim")
        self.settings = settings
        self.weights = nn.Parameter(torch.tensor(weights))
        norm, real, both = batch_norm, space == "real", image_dim + text_dim
        n_rotations = 0 if real else 1 if of["share_projection"] or parts != "both" else 2
        self.rotations = nn.ModuleList(
            Rotation(image_dim, text_dim, dim, of["eta_complex"], norm, of["dropout"]) for _ in range(n_rotations)
        )
        self.rho = self.rho_conv = self.image_decoder = self.text_decoder = None
        if parts != "rho_conv":
            self.rho = perceptron(both if real else 2 * dim, dim, dim, norm)
        if parts != "rho":
            if of["order"] == "mlp_conv":
                into = both if real else 2 * dim + both
            else:
                into = 1 if real else 5 + of["eta_complex"]
            self.rho_conv = ConvMapping(into, dim, of["order"], both if real else 2 * dim, norm)
        if image_recon_weight:
            self.image_decoder = perceptron(dim, dim, image_dim, norm)
        if text_recon_weight:
            self.text_decoder = perceptron(dim, text_dim, text_dim, norm)

    def forward(self, image: Tensor, text: Tensor, conjugate: bool = False) -> Tensor:
        """z (B, dim), q (B, text_dim) -> theta (B, dim); with ``conjugate`` theta', of a target that is turned back."""
        for name, rows, width in [("image", image, self.image_dim), ("text", text, self.text_dim)]:
            if rows.ndim != 2 or rows.shape[1] != width:
                raise ValueError(f"ComposeAE takes {name} rows (B, {width}); got {tuple(rows.shape)}")
        if self.settings["space"] == "real":
            if conjugate:
                raise ValueError("space='real' has no rotation, and so no conjugate")
            of_rho = of_conv = torch.cat([image, text], dim=1)  # (B, dim + text_dim)
            if self.settings["order"] == "conv_mlp":
                of_conv = of_conv[:, None]
        else:
            turned = [rotation(image, text, conjugate) for rotation in self.rotations]
            of_rho = torch.cat(_planes(turned[0][0]), dim=1)  # (B, 2 k)
            phi, eta, gamma = turned[-1]
            if self.settings["order"] == "conv_mlp":
                of_conv = torch.stack([*_planes(eta), gamma, image, *_planes(phi)], dim=1)  # (B, 5 or 6, k)
            else:
                of_conv = torch.cat([*_planes(phi), image, text], dim=1)
        a, b = self.weights
        theta = 0 if self.rho is None else a * self.rho(of_rho)
        return theta if self.rho_conv is None else theta + b * self.rho_conv(of_conv)

    def auxiliary(
        self, composed: Tensor, image: Tensor, text: Tensor, target: Tensor, find_sources: Callable[[Tensor], Tensor]
    ) -> dict[str, tuple[float, Tensor]]:
        """L_SYM, L_RI, L_RT as "symmetry", "image_recon", "text_recon", each with its lambda, unless that is 0."""
        weight = {name.removesuffix("_weight"): self.settings[name] for name in LAMBDAS}
        found = {}
        if weight["symmetry"]:
            found["symmetry"] = find_sources(self(target, text, conjugate=True))
        if self.image_decoder is not None:
            found["image_recon"] = self._recon(image, self.image_decoder(composed))
        if self.text_decoder is not None:
            found["text_recon"] = self._recon(text, self.text_decoder(composed))
        return {name: (weight[name], term) for name, term in found.items()}

    def _recon(self, wanted: Tensor, rebuilt: Tensor) -> Tensor:
        wanted = wanted.detach() if self.settings["detach_recon"] else wanted
        squares = (_wide(wanted) - _wide(rebuilt)).square()
        return squares.mean() if self.settings["recon"] == "mean" else squares.sum(dim=1).mean()


def _wide(rows: Tensor) -> Tensor:
    """float32 at least: there are no complex numbers of two bfloat16."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def _turn(gamma: Tensor, conjugate: bool) -> Tensor:
    return torch.polar(torch.ones_like(gamma), -gamma if conjugate else gamma)


def _planes(rows: Tensor) -> list[Tensor]:
    """Real and imaginary part of complex rows; real ones as they are."""
    return [rows.real, rows.imag] if rows.is_complex() else [rows]


def _check(settings: dict[str, Any]) -> None:
    """Raises ValueError for settings of `ComposeAE` that mean nothing."""
    for name, choices in CHOICES.items():
        if (value := settings.get(name)) not in choices:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")
    if len(settings["weights"]) != 2:
        raise ValueError(f"weights are two, of rho and of rho_conv at the start; got {settings['weights']}")
    if not 0 <= settings["dropout"] < 1:
        raise ValueError(f"dropout must be a probability in [0, 1); got {settings['dropout']!r}")
    for name in LAMBDAS:
        if not 0 <= settings[name] < math.inf:
            raise ValueError(f"{name} must be a number >= 0; got {settings[name]!r}")
    if settings["space"] == "real" and settings["symmetry_weight"]:
        raise ValueError("space='real' has no rotation to turn back: give it symmetry_weight=0")
