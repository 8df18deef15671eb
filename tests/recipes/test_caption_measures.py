"""What a model finds, writes and paints, measured by loops and by the metrics called by hand."""

import statistics
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from commonspace.data import PairedSamples, Scenes, Vocabulary
from commonspace.data.vocabulary import tokenise
from commonspace.encoders import PixelFeatures, Standardize
from commonspace.losses import order_similarity
from commonspace.metrics import CiderD, bleu, evaluate_both_ways, evaluate_folds, frechet_distance, pairwise_diversity
from commonspace.models import GXN, GXNLook, GXNPaint, SentenceDecoder, sentence_encoders
from commonspace.recipes import scene_reader
from commonspace.recipes.caption_data import Captioned
from commonspace.recipes.caption_measures import (
    LONGEST,
    as_painted,
    following,
    likelihood,
    painting,
    plain,
    search,
    spoken,
    writing,
)

WORDS = ["a", "cat", "dog", "mat", "red", "blue", "runs", "sits", "on", "the", "big", "small"]


class Embedded:
    """Embeddings that are there already; images and captions are rows of them."""

    def __init__(self, image: torch.Tensor, text: torch.Tensor, similarity=order_similarity):
        self.image, self.text, self.similarity = image, text, similarity

    def embed_image(self, images: torch.Tensor) -> torch.Tensor:
        return self.image[images]

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        return self.text[[int(text) for text in texts]]


def embedded(counts: list[int], seed: int = 0, noise: float = 0.2, **rest) -> tuple[Embedded, Captioned]:
    """So many captions of each picture, somewhere near it."""
    rng = torch.Generator().manual_seed(seed)
    image_of = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    image = F.normalize(torch.rand(len(counts), 6, generator=rng))
    text = F.normalize((image[image_of] + noise * torch.randn(len(image_of), 6, generator=rng)).abs())
    ids = torch.arange(len(counts))
    captioned = Captioned(ids, [str(i) for i in range(len(text))], image_of, rest.pop("group", ids))
    return Embedded(image, text, **rest), captioned


# ---- search ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", [order_similarity, lambda v, t: v @ t.T])
@pytest.mark.parametrize("counts", [[5] * 12, [1] * 30, [1, 3, 2, 1, 4, 1, 1, 2, 6, 1, 1, 1]])
@pytest.mark.parametrize("seed", [0, 1])
def test_where_no_texts_are_alike_it_is_evaluate_both_ways(similarity, counts, seed):
    model, test = embedded(counts, seed, similarity=similarity)
    expected = evaluate_both_ways(model.image, model.text, test.image_of, similarity=similarity)
    assert search(model, test) == expected
    assert 2 < expected["rsum"] < 6


def by_loops(model: Embedded, test: Captioned) -> dict[str, float]:
    """Ties count against the query."""
    sim = model.similarity(model.image, model.text).tolist()
    group = test.group.tolist()
    of_text = [group[i] for i in test.image_of.tolist()]
    found = {}
    for way, scores, mine, theirs in [
        ("i2t", sim, group, of_text),
        ("t2i", list(zip(*sim, strict=True)), of_text, group),
    ]:
        ranks, precisions = [], []
        for row, own in zip(scores, mine, strict=True):
            right = [other == own for other in theirs]
            order = sorted(range(len(row)), key=lambda j: (-row[j], right[j]))
            places = [place for place, j in enumerate(order) if right[j]]
            ranks.append(places[0])
            precisions.append(statistics.fmean((n + 1) / (place + 1) for n, place in enumerate(places)))
        found |= {f"{way}/R@{k}": statistics.fmean(rank < k for rank in ranks) for k in (1, 5, 10)}
        found |= {f"{way}/median_rank": int(statistics.median(ranks)) + 1, f"{way}/mAP": statistics.fmean(precisions)}
    return found | {"rsum": sum(value for name, value in found.items() if "R@" in name)}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("ties", [False, True])
def test_pictures_of_one_group_are_right_for_each_other_s_captions(seed, ties):
    group = torch.tensor([0, 1, 0, 2, 3, 1, 0, 4, 5, 6, 7, 5, 8, 9])
    model, test = embedded([1, 2, 1, 3, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1], seed, group=group)
    if ties:
        model.image, model.text = model.image.mul(3).round(), model.text.mul(3).round()
    expected = by_loops(model, test)
    assert search(model, test) == pytest.approx(expected)
    alone = search(model, Captioned(test.images, test.captions, test.image_of, torch.arange(14)))
    assert alone["rsum"] <= expected["rsum"]
    assert alone["t2i/mAP"] != pytest.approx(expected["t2i/mAP"])


def test_a_model_that_says_nothing_finds_nothing():
    model, test = embedded([5] * 40)
    model.image, model.text = torch.ones(40, 3), torch.ones(200, 3)
    found = search(model, test)
    assert found["rsum"] == 0
    assert (found["i2t/median_rank"], found["t2i/median_rank"]) == (196, 40)


def test_of_5000_pictures_there_are_folds_of_1000():
    """Each fold is a gallery a fifth as large, and so everything is easier."""
    model, test = embedded([2, 1] * 2500, noise=0.04, similarity=lambda v, t: -torch.cdist(v, t))
    found = search(model, test)
    folds = evaluate_folds(model.image, model.text, test.image_of, similarity=model.similarity)
    assert {name.removeprefix("1K/"): value for name, value in found.items() if name.startswith("1K/")} == folds
    assert "1K/rsum" in found
    assert found["1K/i2t/R@1"] > found["i2t/R@1"] + 0.03
    assert found["1K/t2i/R@1"] > found["t2i/R@1"] + 0.03
    whole = evaluate_both_ways(model.image, model.text, test.image_of, similarity=model.similarity)
    assert {name: value for name, value in found.items() if not name.startswith("1K/")} == whole
    fewer = test.first(4999)
    assert not any(name.startswith("1K/") for name in search(model, fewer))


# ---- writing ---------------------------------------------------------------------------------------------------------


def writer(seed: int = 0, n: int = 9, group: torch.Tensor | None = None, **options) -> tuple[GXN, Captioned]:
    """An untrained model with large weights, and pictures with one to three captions, some words of them unknown."""
    torch.manual_seed(seed)
    vocabulary = Vocabulary(WORDS[:-1])
    look = GXNLook(Standardize(4), *sentence_encoders(vocabulary, 5, 4))
    decoder = SentenceDecoder(vocabulary, 5, 6, 8, dropout=0.4)
    with torch.no_grad():
        for p in decoder.parameters():
            p.mul_(4)
        decoder.output.bias[decoder.end] -= 3  # or many sentences would have no word
    draw = torch.Generator().manual_seed(seed)

    def sentence() -> str:
        length = int(torch.randint(1, 7, (), generator=draw))
        return " ".join(WORDS[i] for i in torch.randint(len(WORDS), (length,), generator=draw)).capitalize() + "!"

    texts = [[sentence() for _ in range(1 + i % 3)] for i in range(n)]
    pairs = PairedSamples(torch.zeros(n, 3, 1, 1, dtype=torch.uint8), texts)
    test = Captioned.of(pairs)
    rows = torch.randn(n, 4, generator=draw)
    return GXN(look, decoder, **options), Captioned(
        rows, test.captions, test.image_of, test.group if group is None else group
    )


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_likelihood_is_that_of_every_token_and_end(seed, pre_norm):
    model, test = writer(seed, pre_norm=pre_norm)
    vectors = model.grounded_image(test.images)
    for images in (None, torch.arange(len(test.captions)) % 9):
        total, tokens = 0.0, 0
        for i, caption in enumerate(test.captions):
            own = test.image_of[i] if images is None else images[i]
            total += float(model.decoder.log_likelihood(vectors[own][None], [caption]))
            tokens += len(tokenise(caption)) + 1
        assert likelihood(model, test, images) == pytest.approx(total / tokens, abs=1e-6)
    assert likelihood(model, test) != pytest.approx(likelihood(model, test, images), abs=0.01)


def test_a_decoder_that_knows_nothing_guesses_among_all_words():
    model, test = writer()
    with torch.no_grad():
        model.decoder.output.weight.zero_(), model.decoder.output.bias.zero_()
    assert likelihood(model, test) == pytest.approx(-torch.tensor(13.0).log().item())  # 11 words, unknown, end


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("beam", [1, 3])
def test_what_is_written_is_measured_by_hand(seed, beam):
    model, test = writer(seed)
    found = writing(model, test, beam, max_length=8)
    own = [[" ".join(tokenise(caption)) for caption in texts] for texts in test.by_image()]
    assert own[0][0] == test.captions[0].lower().strip("!")
    assert plain(test) == own
    written = model.write(test.images, beam, 8)
    names = ["CIDEr-D", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "exact"]
    both = {"log p", *names}
    assert found.keys() == both | {f"other picture/{name}" for name in both} | {"distinct", "length"}
    assert found["log p"] == likelihood(model, test)
    assert found["CIDEr-D"] == pytest.approx(float(CiderD(own).score(written, own).mean()))
    assert [found[f"BLEU-{n}"] for n in (1, 2, 3, 4)] == list(bleu(written, own).values())
    assert found["BLEU-1"] > 0.05
    moved = written[1:] + written[:1]
    assert moved != written
    assert found["other picture/CIDEr-D"] == pytest.approx(float(CiderD(own).score(moved, own).mean()))
    assert [found[f"other picture/BLEU-{n}"] for n in (1, 2, 3, 4)] == list(bleu(moved, own).values())
    assert found["other picture/log p"] == likelihood(model, test, (test.image_of + 1) % 9)
    assert found["other picture/log p"] != found["log p"]
    assert any(found[f"other picture/{name}"] != found[name] for name in names)
    assert found["distinct"] == len({*written}) / 9
    assert found["length"] == statistics.fmean(len(sentence.split()) for sentence in written)
    alone = {name: value for name, value in found.items() if not name.endswith("log p")}
    assert spoken(model, test, beam, max_length=8) == alone


def saying(sentences: list[str]) -> tuple[GXN, Captioned]:
    """A model that writes these; and a test set."""
    model, test = writer()
    model.write = lambda images, beam, max_length: sentences
    return model, test


def test_sentences_of_the_right_picture_score_most():
    """A model that writes the first caption of each picture; of the next one it is another sentence."""
    said = [own[0] for own in plain(writer()[1])]
    found = writing(*saying(said))
    assert found["BLEU-1"] == pytest.approx(1, abs=1e-6)
    assert found["CIDEr-D"] > 2 * found["other picture/CIDEr-D"]
    assert (found["exact"], found["other picture/exact"]) == (1, 0)


def test_a_sentence_is_exact_if_it_is_one_of_the_picture_s_captions_word_by_word():
    own = plain(writer()[1])
    assert [len(texts) for texts in own] == [1, 2, 3] * 3
    said = [own[0][0], own[1][1], own[2][2], own[3][0] + " cat", own[5][0], own[4][0], "", own[7][1].upper(), own[0][0]]
    found = spoken(*saying(said))
    assert found["exact"] == 3 / 9
    assert found["other picture/exact"] == 1 / 9  # picture 4 gets what is written for 5
    assert found["distinct"] == 8 / 9
    assert found["length"] == pytest.approx(sum(len(sentence.split()) for sentence in said) / 9)


def test_sentences_are_written_greedily_and_to_the_longest():
    model, test = writer()
    with torch.no_grad():
        model.decoder.output.bias[model.decoder.end] = -50  # it never ends
    assert spoken(model, test)["length"] == LONGEST == writing(model, test, 1)["length"]
    assert spoken(model, test) == spoken(model, test, 1, LONGEST)


def test_the_other_picture_is_of_another_group():
    assert following(torch.arange(4)).tolist() == [1, 2, 3, 0]
    assert following(torch.tensor([0, 0, 1, 1, 1, 2, 0])).tolist() == [2, 2, 5, 5, 5, 6, 2]
    rng = torch.Generator().manual_seed(0)
    for n_groups in (2, 3, 9):
        group = torch.cat([torch.arange(n_groups), torch.randint(n_groups, (40,), generator=rng)])
        found = following(group).tolist()
        for i, other in enumerate(found):
            between = [(i + k) % len(group) for k in range(1, (other - i) % len(group))]
            assert group[other] != group[i]
            assert all(group[j] == group[i] for j in between)
    assert len(following(torch.zeros(3).long())) == 3  # there is no other: whatever it says, it ends
    group = torch.tensor([0, 0, 1, 2, 2, 3, 4, 0, 0])
    model, test = writer(group=group)
    other = following(group)
    assert writing(model, test, 1)["other picture/log p"] == likelihood(model, test, other[test.image_of])


def test_without_a_decoder_nothing_is_written():
    model, test = writer()
    model = GXN(model.look)
    for measure in (likelihood, writing):
        with pytest.raises(ValueError, match=r"has no decoder.*paths='look\+write'"):
            measure(model, test)
    with pytest.raises(ValueError, match="two or more images"):
        writing(*writer(n=1))


def test_neither_measure_changes_the_mode():
    model, test = writer()
    for mode in (True, False):
        model.train(mode)
        search(model, test), likelihood(model, test), writing(model, test)
        assert {module.training for module in model.modules()} == {mode}
    assert SimpleNamespace(**search(model, test)).rsum >= 0


# ---- painting --------------------------------------------------------------------------------------------------------


class Painting:
    """A model that paints for a caption what ``of`` has for it; notes what it is asked."""

    def __init__(self, of: dict[str, torch.Tensor], size: int = 32):
        self.of, self.asked = of, []
        with torch.device("meta"):
            empty = GXNPaint(4, size, 2, 2, 8, 2)
        empty.augmentation.to_empty(device="cpu")
        self.painter = empty

    def paint(self, captions: list[str], generator: torch.Generator) -> torch.Tensor:
        self.asked.append((captions, generator.get_state()))
        torch.rand(1, generator=generator)
        return torch.stack([self.of[caption] for caption in captions])


@pytest.fixture(scope="module")
def one_object():
    return Captioned.of(Scenes(160, 32, objects=(1, 1)).captioned()[0])


@pytest.fixture(scope="module")
def reader():
    """One that has learnt from fewer scenes than the measure's own."""
    return scene_reader.fit(32, objects=(1, 2), n=1500, epochs=3)


@pytest.fixture
def measured(reader, monkeypatch):
    """What `painting` says, and for which size and dimensions it asked for a reader."""
    asked = []
    monkeypatch.setattr(scene_reader, "fit", lambda *arguments: asked.append(arguments) or reader)
    return asked


OF_OBJECTS = ("place", "size", "colour", "shape", "object")


def test_a_painter_of_the_real_pictures_is_as_good_as_they_are(one_object, measured):
    first = one_object.first_captions()
    found = painting(Painting(dict(zip(first.captions, one_object.images, strict=True))), one_object)
    assert measured == [(32, 2)]
    for name in (*OF_OBJECTS, "scene", "nothing else"):
        assert found[f"painted/{name}"] == found[f"real/{name}"] > 0.97
    for name in OF_OBJECTS:
        assert found[f"painted/chance/{name}"] < 0.7
    assert not any(name.startswith("real/chance") for name in found)
    assert found["painted/Frechet distance"] < 1e-6 < found["real/Frechet distance"]
    assert found["painted/diversity"] == found["real/diversity"] > 0.01
    assert found["painted/diversity of a sentence"] == 0


def test_a_painter_that_does_not_heed_the_sentence_is_at_chance(one_object, measured):
    first = one_object.first_captions()
    other = one_object.images.roll(1, 0)
    found = painting(Painting(dict(zip(first.captions, other, strict=True))), one_object, 3)
    assert measured == [(32, 3)]
    for name in OF_OBJECTS:
        assert found[f"painted/{name}"] == pytest.approx(found[f"painted/chance/{name}"], abs=0.12)
        assert found[f"painted/{name}"] < found[f"real/{name}"] - 0.3
    assert found["painted/Frechet distance"] < 1e-6  # the pictures are real, so this measure does not see it
    gray = torch.full_like(one_object.images, 128)
    found = painting(Painting(dict(zip(first.captions, gray, strict=True))), one_object)
    assert found["painted/diversity"] == 0
    assert found["painted/Frechet distance"] > 10 * found["real/Frechet distance"]


def test_other_pictures_are_measured_without_a_reader(measured):
    torch.manual_seed(0)
    images = torch.randint(256, (20, 3, 10, 12), dtype=torch.uint8)
    test = Captioned.of(PairedSamples(images, [[f"the {i}", f"a {i}"] for i in range(20)]))
    drawn = {f"the {i}": torch.randint(256, (3, 8, 8), dtype=torch.uint8) for i in range(20)}
    model = Painting(drawn, 8)
    found = painting(model, test, seed=7)
    assert measured == []
    (asked, state), (again, later) = model.asked
    assert asked == [f"the {i}" for i in range(20)]
    assert again == [f"the {i}" for i in range(8) for _ in range(8)]
    assert torch.equal(state, torch.Generator().manual_seed(7).get_state())
    assert not torch.equal(state, later)
    real = F.interpolate(images.float() / 127.5 - 1, (8, 8), mode="bilinear", antialias=True)
    real = ((real + 1) * 127.5).round().byte()
    assert torch.equal(as_painted(model, images), real)
    features = PixelFeatures(10, size=16).fit(real)
    painted = torch.stack([*drawn.values()])
    of_real = features.transform(real)
    assert found == pytest.approx(
        {
            "painted/Frechet distance": frechet_distance(features.transform(painted), of_real),
            "real/Frechet distance": frechet_distance(of_real[::2], of_real[1::2]),
            "painted/diversity": pairwise_diversity(painted),
            "real/diversity": pairwise_diversity(real),
            "painted/diversity of a sentence": 0.0,
        }
    )


def test_real_pictures_of_the_size_stay_as_they_are(one_object):
    model = Painting({})
    assert torch.equal(as_painted(model, one_object.images), one_object.images)
    assert as_painted(model, torch.zeros(2, 3, 40, 30, dtype=torch.uint8)).shape == (2, 3, 32, 32)


def test_many_real_pictures_are_prepared_in_parts(monkeypatch):
    images = torch.randint(256, (600, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    test = Captioned.of(PairedSamples(images, [str(i) for i in range(600)]))
    model, seen = Painting(dict(zip(test.captions, images, strict=True)), 8), []
    prepared = model.painter.prepared
    monkeypatch.setattr(model.painter, "prepared", lambda some: seen.append(len(some)) or prepared(some))
    assert painting(model, test)["painted/Frechet distance"] < 1e-6
    assert seen == [256, 256, 88]


def artist() -> tuple[GXN, Captioned]:
    model, test = writer()
    torch.manual_seed(0)
    painter = GXNPaint(5, 8, condition_dim=4, noise_dim=3, painter_width=8, judge_width=2, sigma=3.0)
    with torch.no_grad():
        for p in painter.painter.parameters():
            p.mul_(8 if p.ndim > 1 else 1)
    images = torch.randint(256, (9, 3, 8, 8), dtype=torch.uint8)
    return GXN(model.look, None, painter=painter, rank=False), Captioned(
        images, test.captions, test.image_of, test.group
    )


def test_a_model_is_measured_by_what_it_paints():
    model, test = artist()
    found = painting(model, test, seed=3)
    assert found == painting(model, test, seed=3) != painting(model, test, seed=4)
    rng = torch.Generator().manual_seed(3)
    first = [own[0] for own in test.by_image()]
    assert found["painted/diversity"] == pairwise_diversity(model.paint(first, rng))
    several = [pairwise_diversity(p) for p in model.paint([c for c in first[:8] for _ in range(8)], rng).split(8)]
    assert found["painted/diversity of a sentence"] == pytest.approx(statistics.fmean(several))
    assert min(several) > 0
    for mode in (True, False):
        model.train(mode)
        painting(model, test)
        assert {module.training for module in model.modules()} == {mode}
    with pytest.raises(ValueError, match="there are 3 test pictures; painted ones are compared with four or more"):
        painting(model, test.first(3))
    with pytest.raises(ValueError, match="has no painter: train one with paths='paint'"):
        painting(writer()[0], test)
