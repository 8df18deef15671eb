"""Texts to feature vectors."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn


class BagOfWords(nn.Module):
    """Each text as a vector with one number for every word of a vocabulary.

    ``vocabulary``: a `data.Vocabulary`, or the dict it gives: {"words": [...], "pattern": the regular expression of a
    token}. Words outside it are passed over. ``weighting``: "count", "binary" (1 where the word occurs), or "tfidf":

        x_w = count_w * (ln((1 + n) / (1 + df_w)) + 1),  then each row to length 1,

    where of the n texts given to ``fit`` df_w have the word w. A text without known words is a row of zeros.

    >>> encoder = BagOfWords({"words": ["a", "cat"], "pattern": "[a-z]+"})
    >>> encoder(["A cat, a dog"])
    tensor([[2., 1.]])
    """

    def __init__(self, vocabulary, weighting: str = "count"):
        super().__init__()
        if weighting not in ("count", "binary", "tfidf"):
            raise ValueError(f"weighting must be 'count', 'binary' or 'tfidf', got {weighting!r}")
        vocabulary = vocabulary if isinstance(vocabulary, dict) else vocabulary.to_dict()
        self.config = {"encoder": "BagOfWords", "vocabulary": vocabulary, "weighting": weighting}
        self.weighting, self.out_dim = weighting, len(vocabulary["words"])
        self._column = {word: i for i, word in enumerate(vocabulary["words"])}
        self._pattern = re.compile(vocabulary["pattern"])
        # NaN until fit: a state dict then tells whether it was.
        self.register_buffer("idf", torch.full((self.out_dim,), torch.nan if weighting == "tfidf" else 1.0))

    def fit(self, texts: Sequence[str]) -> "BagOfWords":
        """Learn from the training texts how rare each word is. Only "tfidf" needs it, and only "tfidf" changes."""
        _check_texts(texts)
        if self.weighting == "tfidf":
            df = torch.zeros_like(self.idf)
            for text in texts:
                df[list(self._counts(text))] += 1
            self.idf.copy_(torch.log((1 + len(texts)) / (1 + df)) + 1)
        return self

    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """B texts -> (B, out_dim), on the module's device. Raises ValueError for no texts or an empty text."""
        _check_texts(texts)
        if self.out_dim and self.idf[0].isnan():
            raise ValueError("fit BagOfWords on the training texts first: weighting='tfidf' needs their counts")
        counts = np.zeros((len(texts), self.out_dim), dtype=np.float32)
        for row, text in zip(counts, texts, strict=True):
            for column, count in self._counts(text).items():
                row[column] = 1 if self.weighting == "binary" else count
        features = torch.from_numpy(counts).to(self.idf) * self.idf
        return nn.functional.normalize(features, dim=1) if self.weighting == "tfidf" else features

    def _counts(self, text: str) -> Counter[int]:
        """Column -> how often the text has its word."""
        tokens = self._pattern.findall(text.lower())
        return Counter(self._column[token] for token in tokens if token in self._column)


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise ValueError("an encoder takes a list of texts; for one text: [text]")
    if len(texts) == 0:
        raise ValueError("got an empty list of texts: give it at least one")
    for i, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"texts[{i}] is {text!r}: every text must be a string with a word in it")
