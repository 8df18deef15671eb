"""N-grams as numbers: captions become arrays that are counted, searched and compared all at once."""

from typing import NamedTuple

import numpy as np

from commonspace.metrics.captions import Captions

SHIFT = 31  # the key of an n-gram: the number of all its words but the last, and SHIFT bits lower that of its last word
LAST = np.iinfo(np.int64).max  # no key: ends each ascending list of keys, so that a search always finds a place in it


def ranges(start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """``count[i]`` numbers from ``start[i]`` on, for one i behind the other."""
    return np.arange(count.sum()) + np.repeat(start - np.cumsum(count) + count, count)


class Bags(NamedTuple):
    """The n-grams of captions, each n-gram of a caption once: five times (m,) int64, by image, then by number."""

    image: np.ndarray
    number: np.ndarray  # of the n-gram: two are equal if and only if they have one number
    order: np.ndarray  # its words, less one
    caption: np.ndarray
    count: np.ndarray  # how often the caption has it
    size: int  # the numbers are below it


class NGrams:
    """Numbers for n-grams of 1 to ``n`` words.

    Those of the captions kept first have the numbers 0 to ``size`` - 1. All others get numbers behind these, anew in
    each call: nothing is remembered of them.
    """

    def __init__(self, n: int):
        self.n, self.size, self.words = n, 0, {}
        self.tables = [(0, np.array([LAST]))] * (n - 1)  # of two words and more: the first's number, all keys

    def bags(self, captions: Captions, sizes: np.ndarray, keep: bool = False) -> Bags:
        """The bags of captions, of which ``sizes`` (images,) belong to one image after the other."""
        caption, order, number, size = self._numbered(captions, keep)
        image, first = np.repeat(np.arange(len(sizes)), sizes), np.cumsum(sizes) - sizes
        shape = len(sizes), size, self.n, int(sizes.max())
        of = image[caption]
        key, count = np.unique(
            np.ravel_multi_index((of, number, order, caption - first[of]), shape), return_counts=True
        )
        of, number, order, place = np.unravel_index(key, shape)
        return Bags(of, number, order, first[of] + place, count, size)

    def _numbered(self, captions: Captions, keep: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Wherever an n-gram stands in a caption: the caption, the order, the number, (m,) each; numbers are below the
        int."""
        tokens, length = captions
        new = [token for token in dict.fromkeys(tokens) if token not in self.words]
        size = self.size + len(new)
        words = self.words | dict(zip(new, range(self.size, size), strict=True)) if new else self.words
        word = np.fromiter(map(words.__getitem__, tokens), np.int64, len(tokens))
        behind = np.repeat(np.cumsum(length), length) - np.arange(len(word)) - 1  # words of its caption after each word
        number, tables = word.copy(), []  # of the n-gram that begins at each word, with ever more words
        places, numbers = [np.arange(len(word))], [word]
        for order, (first, table) in enumerate(self.tables, start=1):
            at = np.flatnonzero(behind >= order)
            key = number[at] << SHIFT | word[at + order]
            place = np.searchsorted(table, key)
            known = table[place] == key
            others, inverse = np.unique(key[~known], return_inverse=True)
            number[at[known]], number[at[~known]] = first + place[known], size + inverse
            tables.append((size, np.append(others, LAST)))
            size += len(others)
            places.append(at)
            numbers.append(number[at])
        if keep:
            self.words, self.tables, self.size = words, tables, size
        caption = np.repeat(np.arange(len(length)), length)[np.concatenate(places)]
        return caption, np.repeat(np.arange(self.n), [len(at) for at in places]), np.concatenate(numbers), size
