"""CIDEr-D: how close is a written caption to the references, where rare n-grams count more than common ones.

With tf_c(g) how often the n-gram g stands in the caption c, N images in the corpus, and df(g) of them with g in one of
their references at least,

    idf(g)   = ln N - ln max(1, df(g)),    c_k = the vector of tf_c(g) idf(g) over all g of k words,
    sim_k    = sum_g min(h_k(g), r_k(g)) r_k(g) / (|h_k| |r_k|) * exp(-(l_h - l_r)^2 / (2 sigma^2)),
    CIDEr-D  = 10 * mean over k = 1..n and over the references r of sim_k(h, r).

sim_k is 0 where a norm is 0. The lengths l are in words; in bigrams, as some count them, they differ as much.
Vedantam et al., CIDEr: Consensus-based Image Description Evaluation, CVPR 2015; in the form of the
coco-caption evaluation, which gives the same numbers.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from commonspace.metrics._ngrams import LAST, Bags, NGrams, ranges
from commonspace.metrics.captions import Captions, check_fit, read_hypotheses, read_references
from commonspace.metrics.retrieval import positive_int


class References(NamedTuple):
    """Captions prepared to be compared with, those of an image one behind the other."""

    bags: Bags
    first: np.ndarray  # (images + 1,) the first caption of each image
    length: np.ndarray  # (captions,) in words
    norm: np.ndarray  # (captions, n)
    key: np.ndarray  # image * bags.size + number of each n-gram of an image, ascending, then LAST
    start: np.ndarray  # where in the bags it begins, then their end


def _keys(bags: Bags) -> tuple[np.ndarray, np.ndarray]:
    """image * bags.size + number of each n-gram of an image, ascending, and where in the bags it begins."""
    key = bags.image * bags.size + bags.number
    begins = np.flatnonzero(np.diff(key, prepend=-1))
    return key[begins], begins


class CiderD:
    """CIDEr-D with the document frequencies of a corpus, which scoring never changes.

    ``reference_corpus``: for each of two or more images a list of reference captions, in the forms of
    `commonspace.metrics.captions`; for a reward those of the training set. They are prepared here, once. ``n``: the
    words of the longest n-grams; ``sigma`` > 0: the width, in words, of what other lengths lose.

    Raises ValueError for other captions, and for a corpus of one image: idf = ln 1 = 0, and every score would be 0.

    >>> scorer = CiderD([["a red cat", "a cat"], ["a dog runs"], ["two dogs"]], n=2)
    >>> [round(score, 3) for score in scorer.score(["a dog runs", "two cats"], [1, 2]).tolist()]
    [10.0, 2.5]
    """

    def __init__(self, reference_corpus: Any, n: int = 4, sigma: float = 6.0):
        if not isinstance(sigma, Real) or not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be a number above 0; got {sigma!r}")
        self.n, self.sigma = positive_int(n, "n"), float(sigma)
        captions, sizes = read_references(reference_corpus, "reference_corpus")
        if len(sizes) == 1:
            raise ValueError(
                "reference_corpus must have the references of two or more images, such as all of the training set: "
                "with one image idf = ln 1 = 0, and every score would be 0"
            )
        self._example = Captions(captions.tokens[:1], captions.length[:1])
        self._ngrams = NGrams(self.n)
        bags = self._ngrams.bags(captions, sizes, keep=True)
        df = np.bincount(bags.number[_keys(bags)[1]], minlength=bags.size + 1)
        self._idf = math.log(len(sizes)) - np.log(np.maximum(df, 1))  # its last entry is that of all other n-grams
        self._corpus = self._prepared(bags, captions, sizes)

    def score(self, hypotheses: Any, references: Any) -> Tensor:
        """CIDEr-D of each hypothesis, (items,) float64 in [0, 10]: 10 for one that is its only reference.

        ``hypotheses``: n captions. ``references``: n lists of captions, or (n,) integers, places in the corpus. Those
        are prepared already: so rewards, where the same references come again and again, cost least. A set's score is
        the mean.

        Raises ValueError for other captions, another number of references than of hypotheses, places that are not in
        the corpus, and words where the corpus has numbers or the reverse.
        """
        captions, image = read_hypotheses(hypotheses), self._places(references)
        words, n = captions.length, len(captions.length)
        sizes, refs = np.ones(n, int), self._corpus
        if image is not None:
            check_fit(captions, self._example, len(image))
            bags = self._ngrams.bags(captions, sizes)
        else:
            others, theirs = read_references(references)
            check_fit(captions, others, len(theirs))
            captions = Captions(captions.tokens + others.tokens, np.append(captions.length, others.length))
            sizes, image = np.append(sizes, theirs), np.arange(n, 2 * n)
            check_fit(captions, self._example, len(captions.length))
            bags = self._ngrams.bags(captions, sizes)
            refs = self._prepared(bags, captions, sizes)
        return torch.from_numpy(self._compared(bags, words, refs, image))

    def _places(self, references: Any) -> np.ndarray | None:
        """``references`` as places in the corpus, or None if they are no integers. Raises ValueError."""
        places = references.tolist() if isinstance(references, np.ndarray | Tensor) else references
        kinds = set(map(type, places)) if isinstance(places, Sequence) else set()
        if not kinds or not all(issubclass(kind, Integral) and kind is not bool for kind in kinds):
            return None
        n_images = len(self._corpus.first) - 1
        if outside := [place for place in places if not 0 <= place < n_images]:
            raise ValueError(f"references has the place {outside[0]}; the corpus has {n_images} images, from 0 on")
        return np.array(places)

    def _idf_of(self, bags: Bags) -> np.ndarray:
        return self._idf[np.minimum(bags.number, len(self._idf) - 1)]

    def _norms(self, bags: Bags, n: int) -> np.ndarray:
        """|c_k| of the first n captions, (n, self.n)."""
        squares = (bags.count * self._idf_of(bags)) ** 2
        sums = np.bincount(bags.caption * self.n + bags.order, squares, minlength=n * self.n)
        return np.sqrt(sums[: n * self.n]).reshape(n, self.n)

    def _prepared(self, bags: Bags, captions: Captions, sizes: np.ndarray) -> References:
        key, start = _keys(bags)
        first, norm = np.append(0, np.cumsum(sizes)), self._norms(bags, len(captions.length))
        return References(bags, first, captions.length, norm, np.append(key, LAST), np.append(start, len(bags.number)))

    def _compared(self, bags: Bags, words: np.ndarray, refs: References, image: np.ndarray) -> np.ndarray:
        """The scores (n,) of the first n captions of ``bags``, each against the references of its ``image`` (n,)."""
        n = len(image)
        n_refs = refs.first[image + 1] - refs.first[image]
        begin = np.cumsum(n_refs) - n_refs  # of each hypothesis' pairs with a reference
        hypothesis, reference = np.repeat(np.arange(n), n_refs), ranges(refs.first[image], n_refs)  # (pairs,)

        # Each n-gram of a hypothesis that its image has as well, once for each reference with it: here and there.
        own = np.flatnonzero((bags.caption < n) & (bags.number < refs.bags.size))
        key = image[bags.caption[own]] * refs.bags.size + bags.number[own]
        place = np.searchsorted(refs.key, key)
        known = refs.key[place] == key
        own, place = own[known], place[known]
        n_with = refs.start[place + 1] - refs.start[place]
        here, there = np.repeat(own, n_with), ranges(refs.start[place], n_with)

        count, caption = refs.bags.count[there], bags.caption[here]
        product = np.minimum(bags.count[here], count) * count * self._idf_of(bags)[here] ** 2
        pair = begin[caption] + refs.bags.caption[there] - refs.first[image[caption]]
        sim = np.bincount(pair * self.n + bags.order[here], product, minlength=len(reference) * self.n)
        sim = sim.reshape(len(reference), self.n)
        norms = self._norms(bags, n)[hypothesis] * refs.norm[reference]
        sim = np.divide(sim, norms, out=np.zeros(sim.shape), where=norms > 0).mean(axis=1)
        delta = words[hypothesis] - refs.length[reference]
        return 10 * np.add.reduceat(sim * np.exp(-(delta**2) / (2 * self.sigma**2)), begin) / n_refs
