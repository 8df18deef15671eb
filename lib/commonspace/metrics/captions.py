"""How close is a written caption to the references: BLEU. How captions are given, here and to CIDEr-D.

A caption is a string, split at its blanks, or a list of tokens: words or whole numbers. Nothing else is done to it: no
lower case, no punctuation taken off, and an end token counts as a word if it is there. Published numbers are those of
captions in lower case without punctuation. Fill-up behind a caption's end must be cut off first.

``hypotheses``  n captions
``references``  n lists, each of one or more captions; they may be of different sizes
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from commonspace.metrics.retrieval import positive_int

NOTHING, NO_GUESS = 1e-15, 1e-9  # what is added to what is counted, so that nothing is divided by 0


class Captions(NamedTuple):
    """Captions as one list: a list for each would be far slower to make."""

    tokens: list  # of all captions, one caption behind the other
    length: np.ndarray  # (captions,) int64, the tokens of each


def _listed(x: Any) -> bool:
    if isinstance(x, np.ndarray | Tensor):
        return x.ndim > 0
    return isinstance(x, Sequence) and not isinstance(x, str | bytes)


def _read(captions: Iterable, name: str, place: Callable[[int], str]) -> Captions:
    tokens, length, listed = [], [], []
    for i, caption in enumerate(captions):
        if isinstance(caption, str):
            own = caption.split()
        else:
            own = caption.tolist() if isinstance(caption, np.ndarray | Tensor) else caption
            if not _listed(own):
                raise ValueError(
                    f"{place(i)} must be a caption, that is a string or a list of tokens; got {caption!r:.80}"
                )
            listed += own
        tokens += own
        length.append(len(own))
    kinds = set(map(type, listed)) | ({str} if len(listed) < len(tokens) else set())
    words = all(issubclass(kind, str) for kind in kinds)
    if not words and not all(issubclass(kind, Integral) and kind is not bool for kind in kinds):
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(f"the tokens of {name} must be all strings or all whole numbers; got {found}")
    for word in set(listed) if words else ():
        if len(word.split()) != 1:
            raise ValueError(
                f"{name} has a list with the token {word!r}, which is not one word: give the whole caption as one "
                "string, or a list with a word an entry"
            )
    return Captions(tokens, np.array(length))


def read_hypotheses(hypotheses: Any) -> Captions:
    """n >= 1 captions. Raises ValueError for what is none (see the module)."""
    if not _listed(hypotheses) or len(hypotheses) == 0:
        raise ValueError(f"hypotheses must be a list of one or more captions; got {hypotheses!r:.80}")
    return _read(hypotheses, "hypotheses", "hypotheses[{}]".format)


def read_references(references: Any, name: str = "references") -> tuple[Captions, np.ndarray]:
    """All references, those of one list behind those of the other, and the size (n,) of each. Raises ValueError."""
    if not _listed(references) or len(references) == 0:
        raise ValueError(f"{name} must be a list of lists of captions, a list an image; got {references!r:.80}")
    for i, given in enumerate(references):
        if not _listed(given) or len(given) == 0:
            raise ValueError(
                f"{name}[{i}] must be a list of one or more captions; got {given!r:.80}: one reference is a list of one"
            )
    sizes = np.array([len(given) for given in references])
    places = [f"{name}[{i}]" for i in range(len(sizes))]
    return _read(chain.from_iterable(references), name, np.repeat(places, sizes).__getitem__), sizes


def check_fit(hypotheses: Captions, references: Captions, n_lists: int) -> None:
    """Raises ValueError for another number of lists than hypotheses, and for tokens of kinds that never match."""
    if len(hypotheses.length) != n_lists:
        raise ValueError(
            f"there are {len(hypotheses.length)} hypotheses and {n_lists} lists of references: each needs one of the "
            "other"
        )
    for token, other in zip(hypotheses.tokens[:1], references.tokens[:1], strict=False):
        if isinstance(token, str) != isinstance(other, str):
            raise ValueError(
                f"hypotheses hold tokens such as {token!r} and references such as {other!r}: words and numbers are "
                "never the same, so nothing would match"
            )


def _ngrams(caption: list, k: int) -> Counter:
    return Counter(zip(*(caption[j:] for j in range(k)), strict=False))


def _each(captions: Captions) -> Iterator[list]:
    tokens = iter(captions.tokens)
    return (list(islice(tokens, length)) for length in captions.length)


def _count(hypotheses: Any, references: Any, n: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of each item and k = 1..n: (correct, guessed) (items, 2, n); its length and its reference's (items, 2)."""
    n = positive_int(n, "n")
    hypotheses, (references, sizes) = read_hypotheses(hypotheses), read_references(references)
    check_fit(hypotheses, references, len(sizes))
    captions, others = _each(hypotheses), _each(references)
    grams, lengths = np.zeros((len(sizes), 2, n)), np.zeros((len(sizes), 2))
    for i, (caption, size) in enumerate(zip(captions, sizes, strict=True)):
        own = list(islice(others, size))
        lengths[i] = len(caption), min((abs(len(r) - len(caption)), len(r)) for r in own)[1]
        for k in range(1, n + 1):
            guessed, allowed = _ngrams(caption, k), Counter()
            for reference in own:
                allowed |= _ngrams(reference, k)  # of each n-gram the most that one reference has
            grams[i, :, k - 1] = (guessed & allowed).total(), guessed.total()
    return grams, lengths


def _scores(grams: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """BLEU-1..n (..., n) from what `_count` returns, of each item or summed over items."""
    precision = (grams[..., 0, :] + NOTHING) / (grams[..., 1, :] + NO_GUESS)
    mean = precision.cumprod(axis=-1) ** (1 / np.arange(1, grams.shape[-1] + 1))
    ratio = (lengths[..., :1] + NOTHING) / (lengths[..., 1:] + NO_GUESS)
    return mean * np.exp(np.minimum(0, 1 - 1 / ratio))


def bleu(hypotheses: Any, references: Any, n: int = 4) -> dict[int, float]:
    """BLEU-1 to BLEU-n of a set of captions, {k: score}, each in [0, 1], higher is better.

    With c_k the n-grams of k words that are correct, each as often as the one reference that has most of it, g_k those
    of the hypotheses, l the words of the hypotheses and r those of each one's reference closest in length (of two as
    close the shorter), all summed over the items first,

        BLEU-k = (product over j = 1..k of (c_j + 1e-15) / (g_j + 1e-9))^(1/k) * min(1, exp(1 - r/l)).

    The constants, also in l/r, are those of the coco-caption evaluation, which gives the same numbers. Raises
    ValueError for an n that is no positive integer, and for captions that the module does not describe.

    Papineni et al., BLEU: a Method for Automatic Evaluation of Machine Translation, ACL 2002.
    """
    grams, lengths = _count(hypotheses, references, n)
    found = _scores(grams.sum(axis=0), lengths.sum(axis=0))
    return {k: float(score) for k, score in enumerate(found, start=1)}


def sentence_bleu(hypotheses: Any, references: Any, n: int = 4) -> Tensor:
    """BLEU-n of each caption alone, (items,) float64 in [0, 1], by the formula of `bleu` without its sums.

    A caption without any correct n-gram of n words has a small score, not 0. The reference length is the closest one
    always; coco-caption's scorer, given a single item and no option, takes the mean length instead. Raises as `bleu`.
    """
    return torch.from_numpy(_scores(*_count(hypotheses, references, n))[:, -1].copy())
