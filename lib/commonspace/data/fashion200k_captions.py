"""Which captions of Fashion200k make a query: those that differ in one word. "black lace dress" and "red lace dress".

After N. Vo et al., Composing Text and Image for Image Retrieval (TIRG), CVPR 2019, and its released code. A
caption without one of its words is a *parent*; captions with a common parent are its *children*; a query leads from a
child to another.

DEVIATIONS of the released code from the paper, by ``release=True``:
- The word is cut out of the caption's letters wherever they stand, not out of its words: "red embroidered dress"
  without "red" is "embroide dress". So captions become siblings that differ in more than one word, or in their order
  alone, and true siblings are lost. Default: one word is taken out, at one place.
- What changed is found anew, by the first word of each caption that the other lacks, or its last word where the other
  lacks none (`first_difference`). Default: the word that was taken out.
"""

from collections.abc import Sequence

import numpy as np

from commonspace.data.composed import numbered

MARKS = {".": "dotmark", "?": "questionmark", "&": "andmark", "*": "starmark"}
TEXTS = ("release", "paper")


def cleaned(caption: str) -> str:
    """The caption as the release compares it: four marks are spelt out, within words too.

    >>> cleaned(" v.neck top & skirt ")
    'vdotmarkneck top andmark skirt'
    """
    caption = caption.strip()
    for mark, word in MARKS.items():
        caption = caption.replace(mark, word)
    return caption


def parents(caption: str, release: bool = False) -> dict[str, str]:
    """The caption without one word, and the word, for each of its words.

    >>> parents("red dress"), parents("red embroidered dress", release=True)["embroide dress"]
    ({'dress': 'red', 'red': 'dress'}, 'red')
    """
    words = caption.split()
    if release:
        return {caption.replace(word, "").replace("  ", " ").strip(): word for word in words}
    return {" ".join(words[:i] + words[i + 1 :]): word for i, word in enumerate(words)}


def one_word_apart(source: str, target: str) -> tuple[str, str] | None:
    """The word to take out of the source and the one to put into it; None where that makes no target.

    >>> one_word_apart("red dress", "red skirt"), one_word_apart("red dress", "dress red")
    (('dress', 'skirt'), None)
    """
    before, after = parents(source), parents(target)
    shared = (parent for parent in before if parent in after and before[parent] != after[parent])
    return next(((before[parent], after[parent]) for parent in shared), None)


def first_difference(source: str, target: str) -> tuple[str, str]:
    """The release's rule for what changed; wrong, and silent, where a caption has no word that the other lacks.

    >>> first_difference("red lace dress", "red dress")
    ('lace', 'dress')
    """
    before, after = source.split(), target.split()
    return (
        next((word for word in before if word not in after), (before or [""])[-1]),
        next((word for word in after if word not in before), (after or [""])[-1]),
    )


def sentence(words: tuple[str, str], text: str) -> str:
    """The modification: "replace X with Y" ("release") or "Y" ("paper")."""
    return {"release": f"replace {words[0]} with {words[1]}", "paper": words[1]}[text]


def _runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of sorted values, 0 or more: where the run of equal ones begins that an entry is in, and how long it is."""
    first = np.flatnonzero(np.diff(values, prepend=-1))
    length = np.diff(np.r_[first, len(values)])
    return np.repeat(first, length), np.repeat(length, length)


class CaptionPairs:
    """The pairs of captions a query can lead between, and how they are drawn.

    ``captions``: C captions, each once. ``can``: (C,) bool, whether a query can start there. Kept as *links*, a caption
    and a parent of it: ``caption``, (links,) int64; ``word``, the word between the two. Raises ValueError when no
    caption has a partner. 53,000 captions take a second.
    """

    def __init__(self, captions: Sequence[str], release: bool = False):
        self.captions, self.release = list(captions), release
        found = [(p, w, i) for i, text in enumerate(self.captions) for p, w in parents(text, release).items()]
        columns = [list(column) for column in zip(*found, strict=True)] or [[], [], []]
        family, word = numbered(*columns[:2]).numpy().T
        of = np.array(columns[2], dtype=np.int64)
        # Siblings one behind the other; among them those by the same word, which are no partners, together.
        order = np.lexsort((of if release else word, family))
        family, word, self.caption = family[order], word[order], of[order]
        self.word = [columns[1][i] for i in order.tolist()]
        self._family, self._size = _runs(family)
        self._block, self._same = _runs(np.arange(len(of)) if release else family * (len(of) + 1) + word)
        weight = (self._size - self._same) / self._size
        links = np.flatnonzero(weight)
        self._by_caption = links[np.argsort(self.caption[links], kind="stable")]
        counts = np.bincount(self.caption[links], minlength=len(self.captions))
        self.can = counts > 0
        if not self.can.any():
            raise ValueError(f"of {len(self.captions):,} captions no two differ in one word: nothing can be asked for")
        self._last = counts.cumsum()
        self._first = self._last - counts
        self._chance = np.r_[0.0, weight[self._by_caption].cumsum()]

    def draw(self, caption: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Links of source and target for n captions that ``can``, by ``chance``, (2, n) numbers in [0, 1).

        As in the release: a parent, each as likely, and one of its children, until that is another caption (by default,
        one by another word). Here without the attempts: a parent counts by its share of partners.
        """
        first, last = self._first[caption], self._last[caption]
        low, high = self._chance[first], self._chance[last]
        place = np.searchsorted(self._chance, low + chance[0] * (high - low), side="right") - 1
        link = self._by_caption[place.clip(first, last - 1)]
        partner = (chance[1] * (self._size - self._same)[link]).astype(np.int64)
        step = self._block[link] + self._same[link] - self._family[link] + partner
        return link, self._family[link] + step % self._size[link]

    def words(self, source: int, target: int) -> tuple[str, str]:
        """What is replaced by what between two links."""
        if self.release:
            return first_difference(self.captions[self.caption[source]], self.captions[self.caption[target]])
        return self.word[source], self.word[target]
