"""Writing sentences token after token, with any network that tells the probabilities of the next one.

``step(tokens, state)`` reads a token of each row (B,), and gives the log-probabilities of the next one (B, V) and the
new state. ``end``, one of the V tokens, is written last; it is also what is read first.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 512  # sentences written side by side

State = tuple[Tensor, ...]  # rows in dimension 1: (1, B, ...)
Step = Callable[[Tensor, State], tuple[Tensor, State]]


def pick(state: State, rows: Tensor) -> State:
    """The state of these rows."""
    return tuple(part[:, rows] for part in state)


def write(
    step: Step, state: State, end: int, max_length: int, choose: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """One sequence for each of n starts; ``choose`` says which tokens (n,) by log-probabilities (n, V).

    Returns, all (n, T), T <= ``max_length`` the tokens of the longest: ids, with ``end`` behind the end; the
    log-probability of each, with a gradient if the step has one, and 0 behind the end; which places count: the first,
    and each whose token before is not the end.
    """
    token = torch.full((state[0].shape[1],), end, device=state[0].device)
    going, steps = torch.ones_like(token, dtype=torch.bool), []
    for _ in range(max_length):
        log_p, state = step(token, state)
        token = choose(log_p.detach()).where(going, end)
        steps.append((token, log_p.gather(1, token[:, None])[:, 0].where(going, 0), going))
        going = going & (token != end)
        if not going.any():
            break
    ids, log_probs, counts = (torch.stack(column, dim=1) for column in zip(*steps, strict=True))
    return ids, log_probs, counts


def beam_search(
    step: Step,
    state: State,
    end: int,
    width: int,
    max_length: int,
    length_penalty: float = 0.0,
    no_repeat: bool = False,
) -> tuple[Tensor, Tensor]:
    """The likeliest sequence that is found for each of n starts, with ``width`` beams for each.

    Of a start's beams, each grown by each token, the ``width`` likeliest stay. One that grew by ``end`` is finished: it
    is compared with the best so far and leaves the beams. At ``max_length`` tokens all are finished. Compared are
    log p / ((5 + T) / 6)^a, a = ``length_penalty`` >= 0 and T the number of tokens. Among equals the first stays.
    ``no_repeat``: no token follows itself.

    Returns ids (n, max_length) with ``end`` behind the end, and log p (n,).
    """
    n, device = state[0].shape[1], state[0].device
    first = torch.arange(n, device=device)[:, None] * width  # the row of each start's first beam
    scale = [((5 + t) / 6) ** length_penalty for t in range(max_length + 1)]
    state = pick(state, torch.arange(n, device=device).repeat_interleave(width))
    token = torch.full((n * width,), end, device=device)
    ids = torch.empty((n, width, 0), dtype=torch.long, device=device)
    log_p = state[0].new_full((n, width), -torch.inf)
    log_p[:, 0] = 0  # a start's beams begin alike: only one of them counts
    best_ids = torch.full((n, max_length), end, device=device)
    best = best_log_p = log_p.new_full((n,), -torch.inf)
    for t in range(1, max_length + 1):
        grown, state = step(token, state)
        if no_repeat and t > 1:
            grown = grown.scatter(1, token[:, None], -torch.inf)
        n_tokens = grown.shape[1]
        log_p, at = (log_p[:, :, None] + grown.view(n, width, n_tokens)).flatten(1).topk(width)
        parent, token = at // n_tokens, at % n_tokens  # (n, width)
        ids = torch.cat([ids.gather(1, parent[:, :, None].expand(-1, -1, t - 1)), token[:, :, None]], dim=2)

        finished = (token == end) | (t == max_length)
        value, which = (log_p / scale[t]).masked_fill(~finished, -torch.inf).max(dim=1)
        better = value > best
        best = torch.where(better, value, best)
        best_log_p = torch.where(better, log_p.gather(1, which[:, None])[:, 0], best_log_p)
        best_ids[better, :t] = ids[better, which[better]]

        log_p = log_p.masked_fill(finished, -torch.inf)
        # log p falls as a beam grows, so this is the most that a beam can still come to.
        if (best >= log_p.amax(dim=1) / scale[max_length]).all():
            break
        state, token = pick(state, (first + parent).flatten()), token.flatten()
    return best_ids, best_log_p


class Writer(nn.Module):
    """A network that writes sentences for pictures. What a subclass has is named here."""

    end: int
    image_dim: int
    rnn: nn.Module
    dropout: nn.Dropout
    sentences: Callable[[Tensor], list[str]]  # what ids (B, T) say
    _start: Callable[[Tensor], State]  # before the first word of pictures (B, image_dim)
    _step: Callable[..., Step]  # (unknown, temperature): a step as above

    def greedy(self, image: Tensor, max_length: int = 30, unknown: bool = False) -> list[str]:
        """A sentence for each picture (n, image_dim), at each place the likeliest token. No gradient."""
        self._check_writing(image, max_length)

        def of(rows: slice) -> list[str]:
            start = self._start(image[rows])
            ids, _, _ = write(self._step(unknown), start, self.end, max_length, lambda log_p: log_p.argmax(dim=1))
            return self.sentences(ids)

        return list(chain(*self._blocks(of, image)))

    def sample(
        self,
        image: Tensor,
        max_length: int = 30,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        n: int = 1,
        unknown: bool = False,
        dropout: bool = False,
    ) -> tuple[list[str], Tensor, Tensor]:
        """Draw ``n`` sentences for each of B pictures: B n of them, those of one picture one behind the other.

        Returns the sentences; the log-probability of each token that was drawn (B n, T), with a gradient, T the tokens
        of the longest; and which places count (B n, T) bool: the first, and each whose token before is not the end.
        Elsewhere the log-probability is 0.

        ``temperature`` > 0 divides the logits. ``generator``: on the model's device. ``dropout=True``: draw with it, as
        self-critical training does. The log-probabilities are those of the distribution that was drawn from.
        """
        self._check_writing(image, max_length)
        if not 0 < temperature < math.inf or n < 1:
            raise ValueError(f"temperature must be a number above 0, and n at least 1; got {temperature!r} and {n!r}")

        def draw(log_p: Tensor) -> Tensor:
            return torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]

        with self._dropping(dropout):
            start = pick(self._start(image), torch.arange(len(image), device=image.device).repeat_interleave(n))
            ids, log_probs, counts = write(self._step(unknown, temperature), start, self.end, max_length, draw)
        return self.sentences(ids), log_probs, counts

    def beam(
        self,
        image: Tensor,
        width: int = 5,
        max_length: int = 30,
        length_penalty: float | None = None,
        no_repeat: bool = False,
        unknown: bool = False,
    ) -> tuple[list[str], Tensor]:
        """A likely sentence for each picture (n, image_dim), and its log-probability (n,) on the CPU. No gradient.

        At each step the ``width`` likeliest continuations of all beams are kept. One that ends is finished: it is
        remembered, leaves the beams and never grows. Of the finished ones and, at ``max_length``, of those cut there,
        the likeliest is returned. ``length_penalty`` = a >= 0 compares log p / ((5 + T) / 6)^a, T the tokens, instead
        (Y. Wu et al., "Google's neural machine translation system", 2016, equation 14): above 0, long sentences gain.
        ``no_repeat``: no word follows itself. The log-probability is without either.
        """
        self._check_writing(image, max_length)
        a = 0.0 if length_penalty is None else length_penalty
        if width < 1 or not 0 <= a < math.inf:
            raise ValueError(f"width must be at least 1, and length_penalty None or >= 0; got {width!r} and {a!r}")

        def of(rows: slice) -> tuple[list[str], Tensor]:
            start = self._start(image[rows])
            ids, log_p = beam_search(self._step(unknown), start, self.end, width, max_length, a, no_repeat)
            return self.sentences(ids), log_p.cpu()

        sentences, log_p = zip(*self._blocks(of, image, max(1, BLOCK // width)), strict=True)
        return list(chain(*sentences)), torch.cat(log_p)

    @torch.no_grad()
    def _blocks(self, of: Callable[[slice], Any], image: Tensor, size: int = BLOCK) -> list:
        """``of`` the rows of each block, without dropout."""
        with self._dropping(False):
            return [of(slice(start, start + size)) for start in range(0, len(image), size)]

    @contextlib.contextmanager
    def _dropping(self, dropout: bool) -> Iterator[None]:
        """With or without dropout, whatever the mode, which is put back."""
        was = self.rnn.training, self.dropout.training
        self.rnn.training, self.dropout.training = True, dropout  # in evaluation mode cuDNN has no gradient to give
        try:
            yield
        finally:
            self.rnn.training, self.dropout.training = was

    def _check_image(self, image: Tensor, n: int) -> None:
        if image.ndim != 2 or image.shape[1] != self.image_dim or not image.is_floating_point():
            raise ValueError(
                f"pictures must be floating-point vectors (B, {self.image_dim}); "
                f"got {image.dtype} of shape {tuple(image.shape)}"
            )
        if len(image) != n or n == 0:
            raise ValueError(f"there are {len(image)} pictures for {n} texts: give one text for each, and at least one")

    def _check_writing(self, image: Tensor, max_length: int) -> None:
        self._check_image(image, len(image))
        if not image.isfinite().all():
            raise ValueError("a picture's vector has NaN or infinite numbers: nothing can be written for it")
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1 token, got {max_length!r}")
