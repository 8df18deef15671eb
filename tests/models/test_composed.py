"""Composed retrieval: what goes where, its losses, embedding in batches, saving, and what it refuses."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from commonspace.data import Vocabulary
from commonspace.encoders import GRU, MLP, BagOfWords, Sequence, SmallConvNet
from commonspace.losses import batch_softmax_loss, soft_triplet_loss
from commonspace.models import (
    COMPOSERS,
    TIRG,
    AttributeAsOperator,
    ComposedRetrieval,
    Composer,
    Concat,
    FiLM,
    ImageOnly,
    ParameterHashing,
    Relationship,
    ShowAndTell,
    TextOnly,
)

TEXTS = ["make the cube red", "add a small sphere", "remove it", "make the cube blue", "red and small"]


def pictures(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def some(n: int) -> list[str]:
    return [TEXTS[i % len(TEXTS)] for i in range(n)]


def make(composer: Composer | None = None, seed: int = 0, **arguments) -> ComposedRetrieval:
    torch.manual_seed(seed)
    image = SmallConvNet(width=4, feature_map=True)
    text = GRU(Vocabulary.build(TEXTS), dim=6, out_dim=8)
    return ComposedRetrieval(image, text, composer or Concat(8, 8, 8), **({"grid": 2} | arguments))


def spread(composer: Composer) -> Composer:
    for p in composer.parameters():
        nn.init.normal_(p, std=0.5)
    return composer


class OfMap(Composer):
    """Shifts the map's channels by the text; what comes out is a map."""

    reads = "map"

    def __init__(self, image_dim, text_dim, dim):
        super().__init__(image_dim, text_dim, dim)
        self.shift = nn.Linear(text_dim, image_dim)

    def forward(self, image, text):
        assert image.shape[1:] == (16, 2, 2)
        return image + self.shift(text)[:, :, None, None]


class Relation(OfMap):
    """The same, but what comes out is a vector."""

    def __init__(self, image_dim, text_dim, dim):
        super().__init__(image_dim, text_dim, dim)
        self.last = nn.Linear(image_dim, dim)

    def forward(self, image, text):
        return self.last(super().forward(image, text).amax(dim=(2, 3)))


class OfLayers(OfMap):
    """Runs the encoder itself, on pictures whose first layer's output the text shifts."""

    reads = "layers"

    def forward(self, image, text):
        encoder, images = image
        assert images.dtype == torch.uint8
        shift = nn.functional.pad(self.shift(text), (0, 0))[:, :2, None, None]
        handle = encoder.body[0].register_forward_hook(lambda module, given, out: out + shift)
        try:
            return encoder(images)
        finally:
            handle.remove()


class OfWords(Composer):
    """The sum of the words' vectors moves the image's."""

    reads = "words"

    def __init__(self, image_dim, text_dim, dim):
        super().__init__(image_dim, text_dim, dim)
        self.move = nn.Linear(text_dim, dim)

    def forward(self, image, text):
        vectors, mask = text
        assert vectors.shape[:2] == mask.shape
        return image + (self.move(vectors) * mask[:, :, None]).sum(dim=1)


SEAMS = {
    "Concat": lambda: spread(Concat(8, 8, 8)),
    "operator": lambda: spread(AttributeAsOperator(8, 8, 8, rank=2)),
    "table": lambda: spread(AttributeAsOperator(8, 8, 8, texts=TEXTS)),
    "map to map": lambda: spread(OfMap(16, 8, 8)),
    "map to vector": lambda: spread(Relation(16, 8, 8)),
    "layers": lambda: spread(OfLayers(16, 8, 8)),
    "words": lambda: spread(OfWords(8, 6, 8)),
    "TIRG fc": lambda: TIRG(8, 8, 8),
    "TIRG conv": lambda: TIRG(16, 8, 8, at="conv"),
    "ShowAndTell": lambda: spread(ShowAndTell(8, 6, 8)),
    "FiLM": lambda: FiLM(16, 8, 8, channels=(2, 4, 8, 16)),
    "ParameterHashing": lambda: ParameterHashing(16, 8, 8, candidates=50),
    "Relationship": lambda: Relationship(16, 8, 8),
}


def fitting(name: str, **settings) -> Composer:
    """A composer whose widths fit `make`'s encoders."""
    reads = COMPOSERS[name].reading(**settings)
    image_dim, text_dim = 16 if reads in ("map", "layers") else 8, 6 if reads == "words" else 8
    return COMPOSERS[name](image_dim, text_dim, 8, **settings)


# ---- what goes where ------------------------------------------------------------------------------------------------


def test_a_picture_is_its_averaged_map_through_a_linear_layer():
    images = pictures(5)
    for grid in (1, 2):
        model = make(grid=grid).eval()
        maps = model.image_encoder(images)  # (5, 16, 2, 2)
        cells = maps.mean(dim=(2, 3)) if grid == 1 else maps.flatten(1)
        expected = cells @ model.image_head.weight.T + model.image_head.bias
        torch.testing.assert_close(model.vector(model.read(images)), expected)
        torch.testing.assert_close(model.embed_image(images), F.normalize(expected.detach(), dim=1))


def test_a_grid_keeps_where_things_are():
    images = pictures(3)
    turned = images.flip(3)
    model = make(grid=1).eval()
    for p in model.image_encoder.parameters():  # the same for a picture and its mirror image
        if p.ndim == 4:
            p.data = (p.data + p.data.flip(3)) / 2
    torch.testing.assert_close(model.embed_image(images), model.embed_image(turned), atol=1e-5, rtol=0)
    finer = make(grid=2).eval()
    finer.image_encoder.load_state_dict(model.image_encoder.state_dict())
    assert (finer.embed_image(images) - finer.embed_image(turned)).abs().max() > 0.01


def test_image_only_and_text_only_are_one_side():
    images, texts = pictures(5), some(5)
    model = make(ImageOnly(8, 8, 8))
    assert torch.equal(model.embed_query(images, texts), model.embed_image(images))
    model = make(TextOnly(8, 8, 8))
    expected = F.normalize(model.eval().text_encoder(texts), dim=1)
    torch.testing.assert_close(model.embed_query(images, texts), expected.detach())


@pytest.mark.parametrize("name", SEAMS)
def test_a_query_depends_on_both_sides_and_a_picture_on_no_text(name):
    model = make(SEAMS[name]()).eval()
    images, texts = pictures(4), TEXTS[:4]
    query = model.embed_query(images, texts)
    assert (model.embed_query(images, TEXTS[1:]) - query).abs().amax(dim=1).min() > 1e-4
    assert (model.embed_query(pictures(4, seed=1), texts) - query).abs().amax(dim=1).min() > 3e-6
    assert query.shape == (4, 8)
    torch.testing.assert_close(query.norm(dim=1), torch.ones(4))


def test_a_composer_may_return_a_map_or_a_vector():
    model = make(SEAMS["map to map"]()).eval()
    images, texts = pictures(4), TEXTS[:4]
    maps = model.image_encoder(images)
    composed = model.image_head(model.composer(maps, model.text_encoder(texts)).flatten(1))
    torch.testing.assert_close(model.compose(maps, texts), composed)
    model = make(SEAMS["map to vector"]()).eval()
    composed = model.composer(maps, model.text_encoder(texts))
    torch.testing.assert_close(model.compose(maps, texts), composed)


def test_words_are_the_vectors_of_each_text_and_no_filling():
    model = make(SEAMS["words"]()).eval()
    images = pictures(2)
    together = model.embed_query(images, ["remove it", "make the cube red"])
    alone = model.embed_query(images[:1], ["remove it"])
    torch.testing.assert_close(together[:1], alone)


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_is_that_of_scaled_unit_vectors(seed):
    model = make(seed=seed, scale=3.0, composer=Concat(8, 8, 8, dropout=0.0))
    model.text_encoder.head[0].p = 0.0
    source, target = pictures(6, seed), pictures(6, seed + 10)
    found = model.losses(source, some(6), target)
    maps = model.image_encoder(torch.cat([source, target]))
    x, y = model.image_head(maps.flatten(1)).split(6)
    psi = model.composer(x, model.text_encoder(some(6)))
    logits = 9 * F.cosine_similarity(psi[:, None], y[None], dim=2)
    torch.testing.assert_close(found["loss"], F.cross_entropy(logits, torch.arange(6)), atol=1e-4, rtol=1e-4)
    assert found["accuracy"] == (logits.argmax(dim=1) == torch.arange(6)).float().mean()
    assert found["scale"] == 3
    assert not found["scale"].requires_grad


def test_the_soft_triplet_in_both_forms():
    source, target = pictures(4, 1), pictures(4, 2)
    seen = {}
    for form in ("paper", "release"):
        model = make(loss="soft_triplet", form=form).eval()
        torch.manual_seed(3)
        seen[form] = model.losses(source, some(4), target)["loss"]
        psi = 4 * model.embed_query(source, some(4))
        phi = 4 * model.embed_image(target)
        if form == "release":
            torch.manual_seed(3)
            dice = torch.Generator().manual_seed(int(torch.randint(2**31, (1,))))
            expected = soft_triplet_loss(psi, phi, "release", generator=dice)
        else:
            expected = soft_triplet_loss(psi, phi)
            assert abs(expected - batch_softmax_loss(psi, phi)) > 0.01
        torch.testing.assert_close(seen[form].detach(), expected, atol=1e-4, rtol=1e-4)
    assert abs(seen["paper"] - seen["release"]) > 0.01


def test_the_releases_negatives_are_drawn_anew_and_repeat_with_the_seed():
    model = make(loss="soft_triplet", form="release").eval()
    arguments = pictures(8, 1), some(8), pictures(8, 2)

    def losses(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return [float(model.losses(*arguments)["loss"].detach()) for _ in range(3)]

    assert losses(0) == losses(0)
    assert len(set(losses(0) + losses(1))) == 6


def test_a_shared_source_is_encoded_once_and_counts_for_each_query():
    model = make().eval()
    images, target = pictures(2, 1), pictures(4, 2)
    source = torch.tensor([1, 0, 1, 1])
    shared = model.losses(images, some(4), target, source=source)
    each = model.losses(images[source], some(4), target)
    torch.testing.assert_close(shared["loss"], each["loss"])
    seen = []
    model.image_encoder.register_forward_hook(lambda module, given, out: seen.append(len(out)))
    model.losses(images, some(4), target, source=source)
    assert seen == [6]


def test_other_right_answers_are_no_negatives():
    model = make().eval()
    images, target = pictures(3, 1), pictures(3, 2)
    target[2] = target[1]
    same = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 1, 1]]).bool()
    psi, phi = 4 * model.embed_query(images, some(3)), 4 * model.embed_image(target)
    logits = (psi @ phi.T).masked_fill(same & ~torch.eye(3).bool(), -torch.inf)
    expected = F.cross_entropy(logits, torch.arange(3))
    found = model.losses(images, some(3), target, same=same)["loss"].detach()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert abs(found - model.losses(images, some(3), target)["loss"]) > 0.1


def test_gathered_vectors_are_what_the_loss_sees():
    model = make().eval()
    images, target = pictures(3, 1), pictures(3, 2)
    twice = model.losses(images, some(3), target, gather=lambda rows: torch.cat([rows, 2 * rows.flip(1)]))
    psi, phi = (4 * x for x in (model.embed_query(images, some(3)), model.embed_image(target)))
    psi, phi = (torch.cat([x, 2 * x.flip(1)]) for x in (psi, phi))
    torch.testing.assert_close(twice["loss"].detach(), batch_softmax_loss(psi, phi), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("loss", ["batch_softmax", "soft_triplet"])
@pytest.mark.parametrize("name", [name for name in SEAMS if name not in ("table", "words", "ShowAndTell")])
def test_gradients_reach_every_part(name, loss):
    model = make(SEAMS[name](), loss=loss)
    model.losses(pictures(6, 1), some(6), pictures(6, 2))["loss"].backward()
    # A map's channel that BatchNorm and ReLU keep at 0 has none; every tensor of weights has some.
    for where, p in model.named_parameters():
        assert p.grad is not None, where
        assert torch.isfinite(p.grad).all(), where
        assert p.grad.abs().sum() > 0, where


def test_what_a_composer_does_not_read_gets_no_gradient():
    for composer, idle in [(ImageOnly(8, 8, 8), "text_encoder"), (SEAMS["table"](), "text_encoder")]:
        model = make(composer)
        model.losses(pictures(6, 1), some(6), pictures(6, 2))["loss"].backward()
        reached = {where.split(".")[0] for where, p in model.named_parameters() if p.grad is not None}
        assert idle not in reached
        assert {"image_encoder", "image_head", "unit"} <= reached


# ---- use ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEAMS)
def test_batches_equal_one_by_one_and_all_at_once(name):
    model = make(SEAMS[name]()).train()
    n, m = 530, 520  # more than a block
    images, texts = pictures(m), some(n)
    source = torch.randint(0, m, (n,), generator=torch.Generator().manual_seed(1))
    query, gallery = model.embed_all(images, source, texts)
    torch.testing.assert_close(gallery, model.embed_image(images))
    torch.testing.assert_close(query, model.embed_query(images[source], texts))
    for i in (0, 511, 512, n - 1):
        torch.testing.assert_close(query[i : i + 1], model.embed_query(images[source[i : i + 1]], texts[i : i + 1]))
    assert model.training
    assert model.image_encoder.training


def test_all_at_once_reads_each_picture_once():
    model = make(SEAMS["map to map"]())
    seen = []
    model.image_encoder.register_forward_hook(lambda module, given, out: seen.append(len(out)))
    model.embed_all(pictures(520), torch.tensor([3, 3, 519, 0, 3]), some(5))
    assert sum(seen) == 520
    query, gallery = model.embed_all(pictures(520), torch.tensor([3, 0]), TEXTS[:2])  # no source in the second block
    torch.testing.assert_close(query, model.embed_query(pictures(520)[[3, 0]], TEXTS[:2]))
    assert len(gallery) == 520


@pytest.mark.parametrize("name", sorted(COMPOSERS))
def test_a_saved_model_answers_the_same(name, tmp_path):
    model = make(fitting(name), scale=2.5, loss="soft_triplet", form="release")
    model.losses(pictures(6, 1), some(6), pictures(6, 2))["loss"].backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    model.save(tmp_path / "model")
    loaded = ComposedRetrieval.load(tmp_path / "model")
    images, texts = pictures(7), some(7)
    assert torch.equal(loaded.embed_query(images, texts), model.embed_query(images, texts))
    assert torch.equal(loaded.embed_image(images), model.embed_image(images))
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"weights.safetensors", "config.json"}
    assert loaded.settings == model.settings
    assert loaded.unit.scale == model.unit.scale != 2.5
    assert not loaded.training


def test_a_saved_table_keeps_its_texts(tmp_path):
    model = make(SEAMS["table"]())
    model.save(tmp_path / "model")
    loaded = ComposedRetrieval.load(tmp_path / "model")
    assert torch.equal(loaded.embed_query(pictures(5), TEXTS), model.embed_query(pictures(5), TEXTS))


def test_feature_rows_serve_as_well():
    torch.manual_seed(0)
    words = BagOfWords(Vocabulary.build(TEXTS))
    text = Sequence(words, MLP([words.out_dim, 3]))
    model = ComposedRetrieval(MLP([9, 5, 6]), text, Concat(4, 3, 4))
    rows = torch.randn(6, 9)
    model.losses(rows, some(6), rows.flip(0))["loss"].backward()
    assert model.embed_all(rows, torch.tensor([0, 5]), TEXTS[:2])[0].shape == (2, 4)


# ---- what it refuses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"composer": Concat(8, 7, 8)}, "Concat takes texts of 7 numbers, but gets 8: put an MLP"),
        ({"composer": Concat(7, 8, 8)}, "Concat takes images of 7 numbers, but gets 8"),
        ({"composer": OfMap(8, 8, 8)}, "OfMap takes images of 8 numbers, but gets 16"),
        ({"composer": OfWords(8, 8, 8)}, "OfWords takes texts of 8 numbers, but gets 6"),
        ({"grid": 0}, "grid must be at least 1"),
        ({"loss": "triplet"}, "loss is 'batch_softmax' or 'soft_triplet'"),
        ({"form": "code"}, "form 'paper' or 'release'; got 'batch_softmax', 'code'"),
        ({"scale": 0.0}, "scale must be a number > 0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_a_map_is_asked_of_an_encoder_that_has_one():
    text = GRU(Vocabulary.build(TEXTS), dim=6, out_dim=8)
    for composer, grid in [(Concat(8, 8, 8), 2), (OfMap(16, 8, 8), 1)]:
        with pytest.raises(ValueError, match="needs an image encoder made with feature_map=True"):
            ComposedRetrieval(SmallConvNet(width=4), text, composer, grid=grid)
    ComposedRetrieval(SmallConvNet(width=4), text, Concat(8, 8, 8))


def test_a_composer_that_reads_something_unknown_is_refused():
    composer = Concat(8, 8, 8)
    composer.reads = "minds"
    with pytest.raises(ValueError, match="reads one of vectors, map, layers, words, texts; Concat 'minds'"):
        make(composer)


@pytest.mark.parametrize("name", ["words", "ShowAndTell"])
def test_a_composer_of_words_is_refused_an_encoder_of_whole_sentences(name):
    words = BagOfWords(Vocabulary.build(TEXTS))
    composer = SEAMS[name]()
    for text in (words, Sequence(words, MLP([words.out_dim, 6])), MLP([5, 6])):
        message = (
            f"{type(composer).__name__} reads a sentence word by word: it needs an LSTM or GRU as text encoder; got "
        )
        with pytest.raises(ValueError, match=message + type(text).__name__):
            ComposedRetrieval(SmallConvNet(width=4, feature_map=True), text, composer)


def test_queries_must_be_whole():
    model = make()
    with pytest.raises(ValueError, match="3 source pictures for 2 texts"):
        model.embed_query(pictures(3), TEXTS[:2])
    with pytest.raises(ValueError, match="nothing to embed"):
        model.embed_image(pictures(0))
    with pytest.raises(ValueError, match="string with a word in it"):
        model.embed_query(pictures(1), [" "])
