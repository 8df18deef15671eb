"""Texts to features, word by word: recurrent networks over learned word vectors.

A text is cut into words, each word becomes a learned vector, the network reads them in turn, and what it holds after
the last REAL word (or the mean, or the maximum, over the words) goes through dropout and one linear layer. Texts of a
batch differ in length. They are packed, so that what fills up the shorter ones is never read: the answer for a text is
the same alone and in any company.

Source of the default sizes: N. Vo et al., "Composing text and image for image retrieval", CVPR 2019, and its released
code, which fills up with the id of unknown words; here the filling has an id of its own.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from commonspace.encoders.text import _check_texts

POOLING = ("last", "mean", "max")
DIRECTIONS = ("concat", "mean")


class Recurrent(nn.Module):
    """What `LSTM` and `GRU` share.

    ``vocabulary``: a `data.Vocabulary`, or the dict it gives. Ids: 0 every unknown word, i + 1 the word i, and one more
    for the filling; a text without any word (only punctuation) reads as one unknown word. ``dim``: of a state of either
    direction, and of a word vector unless ``word_dim`` says otherwise. ``dropout``: before the linear layer to
    ``out_dim``. ``pooling``: "last" (the state after a text's last word; of the backward direction, after its first),
    "mean" or "max" over its words. ``directions``: how the two make one state, one behind the other ("concat") or
    their "mean". ``brackets``: two ids more, one read before the first word and one after the last.
    """

    network: type[nn.LSTM] | type[nn.GRU]

    def __init__(
        self,
        vocabulary,
        dim: int = 512,
        out_dim: int = 512,
        dropout: float = 0.1,
        pooling: str = "last",
        bidirectional: bool = False,
        word_dim: int | None = None,
        directions: str = "concat",
        brackets: bool = False,
    ):
        super().__init__()
        if pooling not in POOLING:
            raise ValueError(f"pooling must be one of {', '.join(map(repr, POOLING))}; got {pooling!r}")
        word_dim = dim if word_dim is None else word_dim
        if min(dim, out_dim, word_dim) < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"dim, out_dim and word_dim must be at least 1, dropout in [0, 1); got {dim}, {out_dim}, {word_dim} "
                f"and {dropout!r}"
            )
        if directions not in DIRECTIONS or (directions == "mean" and not bidirectional):
            raise ValueError(
                f"directions must be one of {DIRECTIONS}, and 'mean' needs bidirectional=True; got {directions!r} and "
                f"{bidirectional}"
            )
        vocabulary = vocabulary if isinstance(vocabulary, dict) else vocabulary.to_dict()
        self.config = {
            "encoder": type(self).__name__,
            "vocabulary": vocabulary,
            "dim": dim,
            "out_dim": out_dim,
            "dropout": dropout,
            "pooling": pooling,
            "bidirectional": bidirectional,
            "word_dim": word_dim,
            "directions": directions,
            "brackets": brackets,
        }
        self.pooling, self.out_dim, self.directions = pooling, out_dim, directions
        self.state_dim = 2 * dim if bidirectional and directions == "concat" else dim
        self._id = {word: i for i, word in enumerate(vocabulary["words"], start=1)}
        self._pattern = re.compile(vocabulary["pattern"])
        self.padding = len(self._id) + 1
        self.brackets = (self.padding + 1, self.padding + 2) if brackets else None  # the ids of start and end
        self.embedding = nn.Embedding(self.padding + (3 if brackets else 1), word_dim, padding_idx=self.padding)
        self.rnn = self.network(word_dim, dim, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.state_dim, out_dim))

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """B texts -> the ids of their words (B, T) int64, and which of them are words and no filling, (B, T) bool.

        T is the number of words of the longest, and 2 more with ``brackets``, which count as words. Raises
        ValueError for no texts or an empty text.
        """
        ids = self._ids(texts).to(self.embedding.weight.device)
        return ids, ids != self.padding

    def states(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """B texts -> the network's state at each word, (B, T, state_dim) with 0 in the filling, and `tokens`' mask."""
        states, mask, _ = self._read(texts)
        return states, mask

    def forward(self, texts: Sequence[str]) -> Tensor:
        """B texts -> (B, out_dim), on the module's device. Raises ValueError for no texts or an empty text."""
        states, mask, last = self._read(texts)
        if self.pooling == "mean":
            last = states.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        elif self.pooling == "max":
            last = states.masked_fill(~mask[:, :, None], -torch.inf).amax(dim=1)
        return self.head(last)

    def _ids(self, texts: Sequence[str]) -> Tensor:
        """(B, T) on the CPU."""
        _check_texts(texts)
        cut = (self._pattern.findall(text.lower()) for text in texts)
        start, end = ([i] for i in self.brackets) if self.brackets else ([], [])
        rows = [torch.tensor(start + ([self._id.get(word, 0) for word in words] or [0]) + end) for words in cut]
        return pad_sequence(rows, batch_first=True, padding_value=self.padding)

    def _read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """States (B, T, state_dim), mask (B, T), and each text's last state (B, state_dim)."""
        ids = self._ids(texts)
        mask = ids != self.padding
        lengths = mask.sum(dim=1)  # on the CPU, where packing wants them
        ids, mask = (x.to(self.embedding.weight.device) for x in (ids, mask))
        packed = pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
        states, last = self.rnn(packed)
        last = last[0] if isinstance(last, tuple) else last  # (directions, B, dim); an LSTM gives its cells as well
        states = pad_packed_sequence(states, batch_first=True)[0]
        if self.directions == "mean":
            return states.unflatten(2, (2, -1)).mean(dim=2), mask, last.mean(dim=0)
        return states, mask, torch.cat(last.unbind(), dim=1)


class LSTM(Recurrent):
    """S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997; one layer. See `Recurrent`.

    >>> LSTM({"words": ["a", "cat"], "pattern": "[a-z]+"}, dim=8, out_dim=5)(["A cat, a dog", "cat"]).shape
    torch.Size([2, 5])
    """

    network = nn.LSTM


class GRU(Recurrent):
    """K. Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014; one layer. See `Recurrent`.

    >>> states, mask = GRU({"words": ["a", "cat"], "pattern": "[a-z]+"}, dim=8).states(["A cat, a dog", "cat"])
    >>> states.shape, mask.sum(dim=1)
    (torch.Size([2, 4, 8]), tensor([4, 1]))
    """

    network = nn.GRU
