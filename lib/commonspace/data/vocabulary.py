"""From text to words, and from words to numbers."""

import re
from collections import Counter
from collections.abc import Iterable

# Letters and digits of any script, with apostrophes inside: "man's" and "t-shirt" are "man's", and "t" and "shirt".
TOKEN = r"[^\W_]+(?:['’][^\W_]+)*"
UNKNOWN = "<unk>"


def tokenise(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation.

    >>> tokenise("A man's dog, No. 3!")
    ['a', "man's", 'dog', 'no', '3']
    """
    return re.findall(TOKEN, text.lower())


class Vocabulary:
    """Words and their ids: 0 is every unknown word, and words[i] has the id i + 1.

    >>> vocabulary = Vocabulary.build(["a cat", "a dog", "a cat"], min_count=2)
    >>> vocabulary.words, vocabulary.encode("A big cat"), vocabulary.decode([2, 0])
    (['a', 'cat'], [1, 0, 2], ['cat', '<unk>'])
    """

    def __init__(self, words: Iterable[str]):
        self.words = list(words)
        self._id = {word: i for i, word in enumerate(self.words, start=1)}
        if len(self._id) < len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise ValueError(f"the words of a vocabulary must differ: {twice!r} comes more than once")
        for word in self.words:
            if tokenise(word) != [word]:
                raise ValueError(f"{word!r} is not one word in lower case, so no text would ever give it")

    @classmethod
    def build(cls, texts: Iterable[str], min_count: int = 1) -> "Vocabulary":
        """The words that come at least ``min_count`` times in the training texts, the most frequent first.

        Equally frequent words are in alphabetical order, so the order of the texts does not count.
        """
        if isinstance(texts, str):
            raise ValueError("build takes a list of texts; for one text: build([text])")
        counts = Counter(word for text in texts for word in tokenise(text))
        return cls(sorted((w for w in counts if counts[w] >= min_count), key=lambda word: (-counts[word], word)))

    def __len__(self) -> int:
        """How many ids there are: the words and the unknown."""
        return len(self.words) + 1

    def __contains__(self, word: str) -> bool:
        return word in self._id

    def encode(self, text: str) -> list[int]:
        """The id of each word of the text; an empty list for a text without words."""
        return [self._id.get(word, 0) for word in tokenise(text)]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The word of each id, ``<unk>`` for 0. Raises IndexError for an id that is no word's."""
        names = [UNKNOWN, *self.words]
        ids = [int(i) for i in ids]
        if any(not 0 <= i < len(names) for i in ids):
            raise IndexError(f"ids go from 0 to {len(names) - 1}, got {min(ids)} to {max(ids)}")
        return [names[i] for i in ids]

    def to_dict(self) -> dict:
        """What JSON can hold: the words, and the regular expression by which texts are cut into them."""
        return {"words": list(self.words), "pattern": TOKEN}

    @classmethod
    def from_dict(cls, saved: dict) -> "Vocabulary":
        """The vocabulary that ``to_dict`` gave. Raises ValueError if texts were cut into words in another way then."""
        if saved["pattern"] != TOKEN:
            raise ValueError(f"this vocabulary's words are cut by {saved['pattern']!r}, and here by {TOKEN!r}")
        return cls(saved["words"])
