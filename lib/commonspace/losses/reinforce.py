"""REINFORCE: learn from a number that has no gradient, such as how good a whole sentence is.

A writer p draws a sentence c, and gets the reward r(c). What is to grow is its expectation, J = sum_c p(c) r(c), whose
gradient is itself an expectation, and so a mean over drawn sentences estimates it:

    grad J = E [ (r(c) - b) grad log p(c) ],    log p(c) = sum_t log p(w_t | w_<t).

The baseline b may be any number that does not hang on c, as E [grad log p(c)] = 0: it leaves the mean and makes the
estimate vary less. Self-critical training takes the reward of the sentence that the writer would write, its greedy one,
or the mean reward of the other sentences that were drawn for the same picture (`leave_one_out`).

References: R. J. Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning",
Machine Learning 8, 1992. S. J. Rennie, E. Marcheret, Y. Mroueh, J. Ross, V. Goel, "Self-critical sequence training for
image captioning", CVPR 2017. The mix with cross-entropy: J. Gu, J. Cai, S. Joty, L. Niu, G. Wang, "Look, imagine and
match: improving textual-visual cross-modal retrieval with generative models", CVPR 2018.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor


def reinforce_loss(
    log_probs: Tensor,
    counts: Tensor,
    reward: Tensor,
    baseline: Tensor | float = 0.0,
    per: Literal["token", "sentence"] = "token",
    gather: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """A scalar whose gradient is that of minus the expected reward, estimated from N sentences that were drawn.

        - sum_(i, t) counts_it (reward_i - baseline_i) log_probs_it / (number of sentences, or of tokens that count)

    ``log_probs`` (N, T) of the tokens that were drawn, with a gradient; ``counts`` (N, T) bool: a sentence's words and
    its end, not what is behind (both from `SentenceDecoder.sample`). ``reward`` (N,), ``baseline`` (N,) or a number: no
    gradient comes back to them. ``per`` "sentence" is the estimate of the docstring above; "token", as self-critical
    training has it, divides by the tokens instead, a step as long whatever the sentences' length. The value itself says
    nothing of progress.

    With ``gather`` (`training.all_gather`) each process divides by the processes' mean number of sentences or tokens,
    so that the mean of their losses is the loss of all their sentences. Raises ValueError for shapes that do not fit,
    another ``per``, and rewards or baselines that are not finite.
    """
    if log_probs.ndim != 2 or counts.shape != log_probs.shape or counts.dtype != torch.bool or not counts.any():
        raise ValueError(
            "log_probs and counts must be (N, T), of each token drawn its log-probability and, bool, whether it "
            f"counts, one at least; got {tuple(log_probs.shape)} and {counts.dtype} {tuple(counts.shape)}"
        )
    if per not in ("token", "sentence"):
        raise ValueError(f"per must be 'token' or 'sentence', got {per!r}")
    reward, baseline = (torch.as_tensor(x, device=log_probs.device).detach() for x in (reward, baseline))
    if reward.shape != (len(log_probs),) or baseline.shape not in ((), reward.shape):
        raise ValueError(
            f"reward must be ({len(log_probs)},), one of each sentence, and baseline the same or one number; got "
            f"{tuple(reward.shape)} and {tuple(baseline.shape)}"
        )
    advantage = (reward - baseline).to(log_probs.dtype)
    if not advantage.isfinite().all():
        raise ValueError("reward and baseline must be finite numbers: nothing can be learned from NaN or infinity")
    n = counts.sum() if per == "token" else torch.tensor(len(counts), device=counts.device)
    n = n if gather is None else gather(n[None]).to(log_probs.dtype).mean()
    return -(log_probs * advantage[:, None]).masked_fill(~counts, 0).sum() / n


def leave_one_out(reward: Tensor, n: int) -> Tensor:
    """The mean reward of the other sentences of the same picture: rewards (B n,), those of a picture one behind the
    other, -> (B n,), a baseline that needs no sentence more.

    Raises ValueError for n < 2, where there is no other, and for a number of rewards that is no multiple of n.
    """
    if n < 2:
        raise ValueError(
            f"there are n={n} sentences of each picture, so no others to take the mean of: draw two or more, or take "
            "the greedy sentence for a baseline"
        )
    if reward.ndim != 1 or len(reward) % n or len(reward) == 0:
        raise ValueError(f"reward must be (B n,), n={n} of each picture; got {tuple(reward.shape)}")
    of_picture = reward.view(-1, n)
    return ((of_picture.sum(dim=1, keepdim=True) - of_picture) / (n - 1)).flatten()


def mixing_weight(progress: float, end: float = 0.9, ramp: float = 0.1) -> float:
    """gamma of GXN's mixed loss (1 - gamma) L_xe + gamma L_rl: from 0 to ``end`` over the first ``ramp`` of the stage.

    ``progress``: the share of the stage that is done, and ``ramp``, the share over which gamma rises, in [0, 1]; 0 is
    at once. ``end`` in [0, 1]. Raises ValueError outside. GXN tells no schedule: the ramp is ours.
    """
    for name, value in (("progress", progress), ("end", end), ("ramp", ramp)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value!r}")
    return end * min(1.0, progress / ramp) if ramp else end
