"""From a sentence's vector to a picture: a conditional generative adversarial network.

A painter draws a picture from a sentence's vector and noise; a judge is shown a picture and a sentence, and says
whether the picture is real AND the sentence is its own. With t the vector of a sentence, i its real picture, t' the
vector of another picture's sentence, z and eps noise from N(0, 1),

    mu, log sigma^2 = W t + b,     t_c = mu + sigma eps,     i^ = G(z, t_c)              conditioning augmentation
    D maximises  E log D(i, t) + beta_f E log(1 - D(i^, t)) + beta_w E log(1 - D(i, t'))       real, fake, wrong
    G minimises  - E log D(i^, t) + beta_s KL(N(mu, sigma^2) || N(0, 1))

Wrong pairs are real pictures: without them the judge need not read, and the painter need not either. Sentences are few
and far apart; t_c fills the room between them, and the KL keeps it filled.

References: J. Gu, J. Cai, S. Joty, L. Niu, G. Wang, "Look, imagine and match: improving textual-visual cross-modal
retrieval with generative models", CVPR 2018. S. Reed et al., "Generative adversarial text to image synthesis", ICML
2016 (the judge that reads). H. Zhang et al., "StackGAN: text to photo-realistic image synthesis with stacked generative
adversarial networks", ICCV 2017 (the augmentation; the networks are those of its first stage).

DEVIATIONS
- GXN prints E log(1 - D(i^, t)) for G to minimise, which is flat where the judge is sure: ``saturating=True``. The
  default is what the codes of Reed et al. and of StackGAN minimise.
- Where gradients may go is not said. Here the judge's step reaches the judge alone. In the painter's step the sentence
  that D reads has no gradient: what made t is reached by mu and sigma alone, through the picture and the KL, and cannot
  please D by moving the sentence. D reads mu.
- The KL is the mean over sentences AND coordinates, as in StackGAN's code; a textbook's is ``condition_dim`` times it.
- StackGAN's code has a ReLU behind W t + b, so that no mu and no log sigma^2 is below 0. Here there is none.
- ``augment=False``: t_c = mu and no KL, so that G reads [z, W t + b]: GXN's plain [t, z].
- Logits and softplus in place of the sigmoid and its logarithm.
- ``norm="batch"``, in D and G, is StackGAN's: real and fake pictures are normalised apart, each by its batch. With
  several processes each normalises its own part.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from commonspace.losses import judge_loss, painter_loss
from commonspace.models.painting import Judge, Painter, halvings


class ConditionAugmentation(nn.Module):
    """t -> a normal distribution over ``dim`` numbers, from which t_c is drawn. All sigma begin near ``sigma``."""

    def __init__(self, in_dim: int, dim: int = 128, sigma: float = 1.0):
        super().__init__()
        self.linear = nn.Linear(in_dim, 2 * dim)
        self.dim = dim
        with torch.no_grad():
            self.linear.weight[dim:] *= 0.1
            self.linear.bias[dim:] = 2 * math.log(sigma)

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(B, in_dim) -> mu and log sigma^2, (B, dim) each; under autocast in float32, as the KL wants them."""
        both = self.linear(t)
        return both.to(torch.promote_types(both.dtype, torch.float32)).chunk(2, dim=1)

    @torch.no_grad()
    def whiten(self, t: Tensor, ridge: float = 1e-5) -> None:
        """Begin with mu of mean 0, variance 1 and no correlation over these vectors (n, in_dim): the KL's own wish.

        A ranking keeps of a sentence what tells pictures of a batch apart, and the rest in a hundredth of the variance;
        so begun, mu has it all at the same size. ``ridge``: directions with less than this share of the largest
        variance stay small. Where there are fewer directions than ``dim``, the last mu are 0.

        Raises ValueError for fewer than two vectors, for other widths, if one is not finite, or if all are the same.
        """
        if t.ndim != 2 or len(t) < 2 or t.shape[1] != self.linear.in_features or not t.isfinite().all():
            raise ValueError(
                f"whitening takes two or more finite vectors (n, {self.linear.in_features}); got shape "
                f"{tuple(t.shape)}, {int((~t.isfinite()).sum())} numbers not finite"
            )
        x = t.detach().cpu().double()
        mean = x.mean(dim=0)
        _, s, v = torch.linalg.svd(x - mean, full_matrices=False)
        if not s[0] > 1e-8 * x.norm():
            raise ValueError("all vectors of sentences are the same: whiten with those of different sentences")
        scale = (len(x) / (s.square() + ridge * s[0].square())).sqrt()[: self.dim]
        weight = torch.zeros((self.dim, x.shape[1]), dtype=torch.float64)
        weight[: len(scale)] = scale[:, None] * v[: self.dim]
        self.linear.weight[: self.dim] = weight.to(self.linear.weight)
        self.linear.bias[: self.dim] = -(weight @ mean).to(self.linear.bias)

    @staticmethod
    def draw(mu: Tensor, log_variance: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """t_c = mu + sigma eps, (B, dim), with a gradient to both. ``generator``: on their device."""
        eps = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
        return mu + (log_variance / 2).exp() * eps


def normal_kl(mu: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) >= 0 [nats], the mean over all rows and coordinates: (B, d), (B, d) -> a scalar."""
    return (mu.square() + log_variance.exp() - 1 - log_variance).mean() / 2


class GXNPaint(nn.Module):
    """The painter, the judge and the augmentation between a sentence's vector and both.

    ``text_dim``: width of t. ``size``: of the pictures that are painted, see `painting.halvings`. ``condition_dim``,
    ``noise_dim``, ``painter_width``, ``judge_width``: numbers in t_c and z, channels of the painter's first and the
    judge's first map; the defaults are StackGAN's. ``kl_weight``, ``fake_weight``, ``wrong_weight``: beta_s, beta_f,
    beta_w >= 0. ``augment``, ``saturating``, ``norm``: see DEVIATIONS.

    Against a game that does not come to rest, all off: ``smoothing`` s, the judge is to say 1 - s of real pairs (T.
    Salimans et al., 2016); ``instance_noise``, standard deviation of noise on every picture the judge sees (C. K.
    Sonderby et al., 2017); ``penalty``, weight of the squared slope of D at real pictures (L. Mescheder et al., 2018;
    by ``norm="batch"`` a picture's slope has a part of its neighbours' logits in it, so take "none");
    ``spread``, see `painting.Judge` (T. Karras et al., 2018); ``limit``, the judge gets no gradient from a batch of
    which it gets a larger share right than this (Adam still moves it a little, by what it remembers).

    Raises ValueError for settings outside their range.
    """

    def __init__(
        self,
        text_dim: int,
        size: int | tuple[int, int] = 64,
        condition_dim: int = 128,
        noise_dim: int = 100,
        painter_width: int = 1024,
        judge_width: int = 64,
        kl_weight: float = 2.0,
        fake_weight: float = 0.5,
        wrong_weight: float = 0.5,
        sigma: float = 1.0,
        augment: bool = True,
        saturating: bool = False,
        norm: Literal["batch", "none"] = "batch",
        smoothing: float = 0.0,
        instance_noise: float = 0.0,
        penalty: float = 0.0,
        spread: bool = False,
        limit: float = 1.0,
    ):
        super().__init__()
        size = tuple(size) if isinstance(size, list) else size  # as a file has it
        given = dict(locals())
        self.config = {name: value for name, value in given.items() if name not in ("self", "__class__")}
        _check(self.config)
        self.augmentation = ConditionAugmentation(text_dim, condition_dim, sigma)
        self.painter = Painter(condition_dim, noise_dim, painter_width, size)
        self.judge = Judge(condition_dim, judge_width, size, norm, spread)
        self.size = size if isinstance(size, tuple) else (size, size)

    # ---- training: two players ----

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The weights of each player: ``judge``, and ``painter``, with the augmentation."""
        return {
            "judge": list(self.judge.parameters()),
            "painter": [*self.painter.parameters(), *self.augmentation.parameters()],
        }

    def judge_losses(self, images: Tensor, t: Tensor, wrong_t: Tensor) -> dict[str, Tensor]:
        """Of B real pictures, their sentences' vectors (B, text_dim) and those of sentences that are of other pictures,
        scalars: ``loss``, which reaches the judge alone; ``real``, ``fake`` and ``wrong``, how likely D holds these
        pairs to be real and matching, mean in [0, 1]; ``accuracy``, the share it gets right; ``slope`` with a penalty.

        ``images``: as `prepared` takes them. Raises ValueError for other shapes, and for one pair alone in training
        mode, in which the painter normalises by the batch.
        """
        real = self.prepared(images)
        self._check_vectors(t, len(real))
        self._check_vectors(wrong_t, len(real))
        with torch.no_grad():
            (mu, log_variance), wrong = self.augmentation(t), self.augmentation(wrong_t)[0]
            fake = self._noisy(self._painted(mu, log_variance))
        real = self._noisy(real)
        if self.config["penalty"]:
            real = real.requires_grad_()
        seen = self.judge.look(real)
        logits = {
            "real": self.judge.compare(seen, mu),
            "fake": self.judge(fake, mu),
            "wrong": self.judge.compare(seen, wrong),
        }
        weights = self.config["fake_weight"], self.config["wrong_weight"]
        loss = judge_loss(*logits.values(), *weights, self.config["smoothing"])
        right = torch.cat([logits["real"] > 0, logits["fake"] < 0, logits["wrong"] < 0]).float().mean()
        told = {"accuracy": right}
        if self.config["penalty"]:
            (slope,) = torch.autograd.grad(logits["real"].sum(), real, create_graph=True)
            told["slope"] = slope.square().flatten(1).sum(dim=1).mean()
            loss = loss + self.config["penalty"] * told["slope"]
        if self.config["limit"] < 1:
            loss = loss * (right <= self.config["limit"])
        return {"loss": loss} | {name: x.detach().sigmoid().mean() for name, x in logits.items()} | told

    def painter_losses(self, t: Tensor) -> dict[str, Tensor]:
        """Of B sentences' vectors (B, text_dim), scalars: ``loss`` = ``game`` + beta_s ``kl``.

        The loss has a gradient to the judge's weights as well: do not step them with it. Raises ValueError as
        `judge_losses` does.
        """
        self._check_vectors(t)
        mu, log_variance = self.augmentation(t)
        logits = self.judge(self._noisy(self._painted(mu, log_variance)), mu.detach())
        game = painter_loss(logits, self.config["saturating"])
        if not self.config["augment"]:
            return {"loss": game, "game": game.detach()}
        kl = normal_kl(mu, log_variance)
        return {"loss": game + self.config["kl_weight"] * kl, "game": game.detach(), "kl": kl.detach()}

    def _painted(self, mu: Tensor, log_variance: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if self.painter.training and len(mu) < 2:
            raise ValueError("a painter in training normalises by its batch: it takes two sentences or more, got one")
        condition = self.augmentation.draw(mu, log_variance, generator) if self.config["augment"] else mu
        z = torch.randn((len(mu), self.config["noise_dim"]), generator=generator, device=mu.device, dtype=mu.dtype)
        return self.painter(z, condition)

    def _noisy(self, pictures: Tensor) -> Tensor:
        std = self.config["instance_noise"]
        return pictures + std * torch.randn_like(pictures) if std else pictures

    # ---- use ----

    def prepared(self, images: Any) -> Tensor:
        """uint8 pictures (B, 3, h, w) -> (B, 3, *size) in [-1, 1] where the weights are, smoothly resized if need be.

        Raises ValueError for anything else, and for no picture at all.
        """
        of_bytes = isinstance(images, Tensor) and images.dtype == torch.uint8
        if not of_bytes or images.ndim != 4 or images.shape[1] != 3 or not len(images):
            raise ValueError(f"pictures must be uint8 (B, 3, height, width), B at least 1; got {_told(images)}")
        x = images.to(self.augmentation.linear.weight) / 127.5 - 1
        if tuple(x.shape[2:]) != self.size:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        return x

    @torch.no_grad()
    def paint(self, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Vectors of n sentences (n, text_dim) -> a picture each, uint8 (n, 3, height, width) on the CPU.

        Two of one sentence differ in z and eps. ``generator``: on the CPU or the model's device; the same one at the
        same state paints the same, and is in another state behind. Painted in evaluation mode, so that a picture does
        not hang on its neighbours. Raises ValueError for other shapes and for vectors that are not finite.
        """
        self._check_vectors(t)
        if rows := (~t.isfinite()).any(dim=1).nonzero().flatten().tolist():
            raise ValueError(f"vectors of sentences must be finite to be painted; rows {rows[:8]} are not")
        was, weight = self.training, self.augmentation.linear.weight
        device = weight.device
        if generator is None or generator.device != device:
            own = torch.Generator(device)
            generator = own.manual_seed(_seed(generator))
        self.eval()
        try:
            painted = [
                self._painted(*self.augmentation(rows.to(weight)), generator).add(1).mul(127.5).round().byte().cpu()
                for rows in t.split(256)
            ]
        finally:
            self.train(was)
        return torch.cat(painted)

    def _check_vectors(self, t: Any, n: int | None = None) -> None:
        dim = self.config["text_dim"]
        of_floats = isinstance(t, Tensor) and t.is_floating_point()
        if not of_floats or t.ndim != 2 or t.shape[1] != dim or len(t) != (n or len(t)) or not len(t):
            raise ValueError(f"vectors of sentences must be ({n or 'B'}, {dim}) floats; got {_told(t)}")


def _told(x: Any) -> str:
    return f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


def _seed(generator: torch.Generator | None) -> int:
    return int(torch.randint(2**62, (1,), generator=generator, device=None if generator is None else generator.device))


def _check(config: dict[str, Any]) -> None:
    halvings(config["size"])
    for name in ("text_dim", "condition_dim", "noise_dim", "painter_width", "judge_width"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise ValueError(f"{name} must be a whole number, at least 1; got {config[name]!r}")
    for name in ("kl_weight", "fake_weight", "wrong_weight", "instance_noise", "penalty"):
        if not 0 <= config[name] < float("inf"):
            raise ValueError(f"{name} must be a number >= 0; got {config[name]!r}")
    if not 0 < config["sigma"] < float("inf"):
        raise ValueError(f"sigma must be a number above 0; got {config['sigma']!r}")
    if not 0 <= config["smoothing"] < 0.5 or not 0 < config["limit"] <= 1:
        raise ValueError(
            f"smoothing must lie in [0, 0.5) and limit in (0, 1]; got {config['smoothing']!r} and {config['limit']!r}"
        )
    if config["norm"] not in ("batch", "none"):
        raise ValueError(f"norm must be 'batch' or 'none', got {config['norm']!r}")
