"""What a written sentence earns: the reward of self-critical training, out of CIDEr-D and BLEU-4.

    r(c) = w_c CIDEr-D(c) + w_b BLEU-4(c)

An end token belongs to a sentence that has ended as a word does: it closes the references, it is counted in the
document frequencies, and it closes what was written, unless that was cut at the longest length. Without it nothing says
how a sentence should end: one that breaks off has lost no more than a word, and a writer that is paid so learns to
break off. Reported numbers are those without it.

S. J. Rennie, E. Marcheret, Y. Mroueh, J. Ross, V. Goel, "Self-critical sequence training for image captioning", CVPR
2017, whose appendix has the end token.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from commonspace.metrics.captions import sentence_bleu
from commonspace.metrics.cider import CiderD

END = "</s>"  # no word that a vocabulary may have, as it is no letters


class CaptionReward:
    """The reward of sentences, by the captions of the pictures that they were written for.

    ``references``: for each picture a list of its captions, as the writer should write them (of `SentenceDecoder`: in
    lower case and without punctuation, words with a blank between them). They are prepared here, once, and are the
    corpus of CIDEr-D's document frequencies: for a reward those of the training pictures. ``cider``, ``bleu``: w_c and
    w_b, 0 leaves the measure out. CIDEr-D is in [0, 10], BLEU in [0, 1]. ``end``: whether an end token counts. With
    ``end=False`` captions may also be lists of tokens, see `commonspace.metrics.captions`.

    Raises ValueError for other captions and for weights that are negative, not finite or both 0.

    >>> rewards = CaptionReward([["a red cat", "a cat"], ["two dogs"], ["a dog runs"]])
    >>> rewards.reward(["two dogs", "two dogs"], [1, 1], ended=[True, False]).round(decimals=1).tolist()
    [7.5, 4.2]
    """

    def __init__(self, references: Any, cider: float = 1.0, bleu: float = 0.0, end: bool = True):
        if not (min(cider, bleu) >= 0 and 0 < cider + bleu < math.inf):
            raise ValueError(f"cider and bleu must be weights >= 0, one of them above 0; got {cider!r} and {bleu!r}")
        self.cider, self.bleu, self.end = float(cider), float(bleu), end
        self._references = [_closed(own, [True] * len(own)) for own in references] if end else references
        self._scorer = CiderD(self._references)

    def reward(self, sentences: Sequence, places: Any, ended: Any = None) -> Tensor:
        """The reward of each of n sentences, (n,) float64 on the CPU.

        ``places``: (n,) integers, for which picture each was written. ``ended``: (n,) bool, whether it came to its end
        or was cut; None: all did. Nothing is remembered. Raises ValueError for places that are not there, for captions
        of another kind than the references, and for as many as do not fit.
        """
        places = torch.as_tensor(places).tolist()
        if len(places) != len(sentences) or not all(
            type(place) is int and 0 <= place < len(self._references) for place in places
        ):
            raise ValueError(
                f"places must say of each of the {len(sentences)} sentences which of the {len(self._references)} "
                f"pictures it is for, from 0 on; got {places!s:.80}"
            )
        if self.end:
            ended = [True] * len(sentences) if ended is None else torch.as_tensor(ended).tolist()
            sentences = _closed(sentences, ended)
        found = torch.zeros(len(sentences), dtype=torch.float64)
        if self.cider:
            found += self.cider * self._scorer.score(sentences, places)
        if self.bleu:
            found += self.bleu * sentence_bleu(sentences, [self._references[place] for place in places])
        return found


def _closed(sentences: Any, ended: list[bool]) -> list[str]:
    """Each sentence that has ended with the end token behind it."""
    if isinstance(sentences, str) or not all(isinstance(sentence, str) for sentence in sentences):
        raise ValueError(
            "with end=True sentences must be strings, in lists; lists of tokens: end=False, and what ends them in them"
        )
    if len(ended) != len(sentences):
        raise ValueError(f"there are {len(sentences)} sentences and ended says {len(ended)}: one of each")
    return [f"{sentence} {END}" if done else sentence for sentence, done in zip(sentences, ended, strict=True)]
