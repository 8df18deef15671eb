"""From a picture's vector to a sentence: a recurrent network writes it word by word.

Each word is drawn given the picture and the words before it, until the network says that the sentence ends. With v the
picture's vector, w_1 .. w_n the words, w_(n+1) the end and w_0 the beginning,

    h_0 = f(W v, 0)  or  tanh(W v),    h_t = f(w_(t-1), h_(t-1)),    p(w_t | w_<t, v) = softmax(U h_t + b)
    L_xe = - sum_t log p(w_t | w_<t, v),  over the words AND the end, divided by their number          cross-entropy

f is a GRU or an LSTM of one layer. In training the words before are those of the true sentence (teacher forcing); when
the network writes by itself they are its own: `greedy`, `sample` or `beam`.

References: O. Vinyals, A. Toshev, S. Bengio, D. Erhan, "Show and tell: a neural image caption generator", CVPR 2015
(the picture as the first input). J. Gu, J. Cai, S. Joty, L. Niu, G. Wang, "Look, imagine and match: improving
textual-visual cross-modal retrieval with generative models", CVPR 2018 (a GRU of 1024; L_xe).

DEVIATIONS
- How the picture enters is not said for GXN. ``start="input"`` is Show and tell's way, the default; "state" the other.
- ``label_smoothing`` = e > 0: L_xe with a target of 1 - e for the right token and e / (V - 1) for each other one.
- Begin and end share one id: the one is only ever read, the other only ever written.
- Words outside the vocabulary are learned as one unknown word. It is not written unless ``unknown=True``; the others
  then share its probability, step by step, in proportion to their own.
"""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from commonspace.models._writing import State, Step, Writer
from commonspace.training.checkpoint import load_model, save_model

UNKNOWN = "<unk>"
CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}
STARTS = ("input", "state")


class SentenceDecoder(Writer):
    """A recurrent network that writes a sentence for a vector of a picture.

    ``vocabulary``: a `data.Vocabulary`, or the dict it gives. Ids: 0 every unknown word, i + 1 the word i, and
    ``end``, one more, for the end, the beginning and the filling. ``image_dim``, ``word_dim``, ``hidden_dim``: widths
    of a picture's vector, of a word's and of the network's state. ``start``: "input", the picture is read before the
    first word, or "state", the network starts in a state made of it (an LSTM's cell at 0). ``dropout``: of the state,
    before the linear layer to the V = end + 1 logits. ``label_smoothing``: see DEVIATIONS.

    ``max_length`` counts tokens, the end among them: a sentence of ``max_length`` words was cut, one of fewer has
    ended. Whatever writes, or measures likelihood, does so without dropout, whatever the model's mode.

    >>> decoder = SentenceDecoder({"words": ["a", "cat"], "pattern": "[a-z]+"}, image_dim=4, hidden_dim=8)
    >>> ids, mask = decoder.tokens(["A cat, a dog", "cat"])
    >>> ids.tolist(), decoder(torch.ones(2, 4), ids).shape, decoder.sentences(ids)
    ([[1, 2, 1, 0, 3], [2, 3, 3, 3, 3]], torch.Size([2, 5, 4]), ['a cat a <unk>', 'cat'])
    """

    def __init__(
        self,
        vocabulary,
        image_dim: int,
        word_dim: int = 300,
        hidden_dim: int = 1024,
        cell: Literal["gru", "lstm"] = "gru",
        start: Literal["input", "state"] = "input",
        dropout: float = 0.5,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        vocabulary = vocabulary if isinstance(vocabulary, dict) else vocabulary.to_dict()
        self.config = {
            "vocabulary": vocabulary,
            "image_dim": image_dim,
            "word_dim": word_dim,
            "hidden_dim": hidden_dim,
            "cell": cell,
            "start": start,
            "dropout": dropout,
            "label_smoothing": label_smoothing,
        }
        _check(self.config)
        self._words = [UNKNOWN, *vocabulary["words"]]
        self._id = {word: i for i, word in enumerate(vocabulary["words"], start=1)}
        self._pattern = re.compile(vocabulary["pattern"])
        self.end, self.image_dim = len(self._words), image_dim
        self.embedding = nn.Embedding(self.end + 1, word_dim)
        self.image = nn.Linear(image_dim, word_dim if start == "input" else hidden_dim)
        self.rnn = CELLS[cell](word_dim, hidden_dim, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_dim, self.end + 1)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)  # else the words drown a picture of length 1
        for layer in (self.image, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    # ---- between texts and ids ----

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """B texts -> ids of their words, then the end (B, T) int64, and which are real and no filling (B, T) bool.

        T is the number of words of the longest, and 1. A text without words is the end alone.
        """
        cut = (self._pattern.findall(text.lower()) for text in texts)
        rows = [torch.tensor([*(self._id.get(word, 0) for word in words), self.end]) for words in cut]
        lengths = torch.tensor([len(row) for row in rows])
        ids = pad_sequence(rows, batch_first=True, padding_value=self.end)
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        return ids.to(self.output.weight.device), mask.to(self.output.weight.device)

    def sentences(self, ids: Tensor) -> list[str]:
        """Ids (B, T) -> B sentences: the words before the first end, with a space between them."""
        rows = (row[: row.index(self.end)] if self.end in row else row for row in ids.tolist())
        return [" ".join(self._words[i] for i in row) for row in rows]

    # ---- teacher forcing ----

    def forward(self, image: Tensor, ids: Tensor) -> Tensor:
        """Pictures (B, image_dim), true ids (B, T) from `tokens` -> logits (B, T, V) of the token at each place.

        Place t is told from the picture and ids[:, :t] alone, so what stands in the filling never matters.
        """
        return self._logits(self._states(image, ids))

    def losses(
        self, image: Tensor, texts: Sequence[str], gather: Callable[[Tensor], Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Of B pictures (B, image_dim) and a sentence for each: scalars, means over all B sentences' tokens and ends.

        ``loss``: L_xe [nats], smoothed if asked for; ``accuracy``: the share of tokens that were the likeliest. With
        ``gather`` (`training.all_gather`) each process divides by the processes' mean number of tokens, so that the
        mean of their losses is the loss of all their sentences.

        Raises ValueError for a text without words, or pictures that do not fit.
        """
        self._check_pairs(image, texts)
        ids, mask = self.tokens(texts)
        if (empty := mask.sum(dim=1) == 1).any():
            i = int(empty.nonzero()[0])
            raise ValueError(f"texts[{i}] is {texts[i]!r}: a sentence to learn needs a word")
        logits, target = self._logits(self._states(image, ids)[mask]), ids[mask]  # (N, V), (N,)
        count = mask.sum()
        count = count if gather is None else gather(count[None]).to(logits.dtype).mean()
        # torch gives the right token a share of what it spreads; here all of it goes to the others.
        spread = self.config["label_smoothing"] * (self.end + 1) / self.end
        loss = F.cross_entropy(logits, target, reduction="sum", label_smoothing=spread) / count
        return {"loss": loss, "accuracy": (logits.detach().argmax(dim=1) == target).sum() / count}

    def log_likelihood(self, image: Tensor, texts: Sequence[str], unknown: bool = True) -> Tensor:
        """log p(sentence and end | picture) of n pictures (n, image_dim) and n texts: (n,) <= 0 [nats], on the CPU.

        A text may be empty. ``unknown=False``: of the sentences that are written without unknown words, as `greedy`,
        `sample` and `beam` do; -inf for a text that has one. No gradient.
        """
        self._check_pairs(image, texts)

        def of(rows: slice) -> Tensor:
            ids, mask = self.tokens(texts[rows])
            log_p = self._log_p(self._states(image[rows], ids), unknown).gather(2, ids[:, :, None])[:, :, 0]
            return log_p.masked_fill(~mask, 0).sum(dim=1).cpu()

        return torch.cat(self._blocks(of, image))

    def perplexity(self, image: Tensor, texts: Sequence[str]) -> float:
        """exp of the mean of -log p over all tokens and ends: 1 is certainty, V what guessing gives."""
        tokens = sum(len(self._pattern.findall(text.lower())) + 1 for text in texts)
        return math.exp(-float(self.log_likelihood(image, texts).double().sum()) / tokens)

    # ---- the network, all places at once or one after the other ----

    def _start(self, image: Tensor) -> State:
        """Before the first word; what the network says to the picture itself is dropped."""
        if self.config["start"] == "input":
            return _as_tuple(self.rnn(self.image(image)[:, None])[1])
        h = torch.tanh(self.image(image))[None]
        return (h,) if self.config["cell"] == "gru" else (h, torch.zeros_like(h))

    def _run(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Ids (B, T) that are read, the state before them -> the state at each (B, T, hidden_dim), and the last."""
        states, last = self.rnn(self.embedding(ids), state[0] if len(state) == 1 else state)
        return states, _as_tuple(last)

    def _states(self, image: Tensor, ids: Tensor) -> Tensor:
        """(B, T, hidden_dim): at place t the beginning and ids[:, :t] have been read."""
        self._check_image(image, len(ids))
        return self._run(F.pad(ids[:, :-1], (1, 0), value=self.end), self._start(image))[0]

    def _step(self, unknown: bool, temperature: float = 1.0) -> Step:
        def step(token: Tensor, state: State) -> tuple[Tensor, State]:
            states, state = self._run(token[:, None], state)
            return self._log_p(states[:, 0], unknown, temperature), state

        return step

    def _log_p(self, states: Tensor, unknown: bool, temperature: float = 1.0) -> Tensor:
        """(..., hidden_dim) -> the log-probabilities of the next token (..., V)."""
        logits = self._logits(states)
        if not unknown:
            logits = F.pad(logits[..., 1:], (1, 0), value=-torch.inf)
        return F.log_softmax(logits / temperature, dim=-1)

    def _logits(self, states: Tensor) -> Tensor:
        return self.output(self.dropout(states))

    def _check_pairs(self, image: Tensor, texts: Sequence[str]) -> None:
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError("texts must be a list of strings, one for each picture; for one text: [text]")
        self._check_image(image, len(texts))

    def save(self, folder: str | Path) -> None:
        """Write ``weights.safetensors`` and ``config.json``, whole or not at all."""
        save_model(self, folder, self.config)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The decoder that `save` wrote, in evaluation mode on the CPU."""
        weights, config = load_model(folder)
        model = cls(**config)
        model.load_state_dict(weights)
        return model.eval()


def _as_tuple(state: Tensor | State) -> State:
    """h of a GRU, or h and c of an LSTM, each (1, B, hidden_dim), in a tuple."""
    return state if isinstance(state, tuple) else (state,)


def _check(config: dict) -> None:
    if not config["vocabulary"]["words"]:
        raise ValueError("the vocabulary has no words: build it from the training sentences")
    if min(config[name] for name in ("image_dim", "word_dim", "hidden_dim")) < 1:
        raise ValueError(
            "image_dim, word_dim and hidden_dim must be at least 1; got "
            f"{config['image_dim']}, {config['word_dim']} and {config['hidden_dim']}"
        )
    for name, known in [("cell", CELLS), ("start", STARTS)]:
        if config[name] not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {config[name]!r}")
    for name, bound in [("dropout", 1), ("label_smoothing", 0.5)]:
        if not 0 <= config[name] < bound:
            raise ValueError(f"{name} must be in [0, {bound}), got {config[name]!r}")
