"""GXN's embedding against loops over its formulas; its two branches, its configurations, there and back."""

import math
import random
from itertools import combinations

import pytest
import torch

from commonspace.data import Vocabulary
from commonspace.encoders import GRU, MLP, BagOfWords, Sequence, SmallConvNet, Standardize
from commonspace.losses import hinge_loss, order_similarity
from commonspace.metrics import evaluate, evaluate_both_ways
from commonspace.models import LOOK_CONFIGURATIONS, GXNLook, sentence_encoders
from commonspace.models.gxn_look import unit_rows

TEXTS = ["a cat", "the cat sat on a mat", "dog", "a dog and a mat", "the dog sat", "on the mat, a cat", "mat"]
WORDS = Vocabulary.build(TEXTS)
B = len(TEXTS)
IMAGES = torch.randn(B, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
SAME_IMAGE = torch.tensor([0, 1, 2, 0, 4, 5, 2])


def look(seed: int = 3, grounded: bool = True, **options) -> GXNLook:
    torch.manual_seed(seed)
    texts = sentence_encoders(WORDS, dim=6, word_dim=4, grounded=grounded)
    return GXNLook(Standardize(9), *texts, **options).double()


def configured(name: str, **options) -> GXNLook:
    return look(grounded=name == "GXN", **(LOOK_CONFIGURATIONS[name] | options))


# ---- by loops, from the weights on -----------------------------------------------------------------------------------


def norm(x: list[float]) -> list[float]:
    length = math.sqrt(sum(y * y for y in x))
    return [y / length for y in x]


def affine(layer, x: list[float]) -> list[float]:
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [sum(w * y for w, y in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def vectors_by_loops(model: GXNLook) -> tuple[list, list]:
    """[head][item] -> a vector, of images and of texts; the states of the networks are checked with the encoders."""
    of = model.settings
    images, texts = [], []
    for head, encoder in zip(model.image_heads, model.text_encoders, strict=True):
        rows = [affine(head, norm(x) if of["unit_features"] else x) for x in IMAGES.tolist()]
        images.append([norm(x) if of["unit_images"] else x for x in rows])
        rows = []
        for text in TEXTS:
            ids = [encoder.padding + 1, *WORDS.encode(text), encoder.padding + 2]
            states = encoder.rnn(encoder.embedding(torch.tensor([ids])))[0][0].tolist()
            last = states[-1]
            if encoder.rnn.bidirectional:
                last = [(x + y) / 2 for x, y in zip(states[-1][:6], states[0][6:], strict=True)]
            rows.append(norm(affine(encoder.head[1], last)))
        texts.append(rows)
    if of["absolute"]:
        images, texts = ([[[abs(x) for x in row] for row in rows] for rows in side] for side in (images, texts))
    return images, texts


def similarity_by_loops(model: GXNLook) -> list[list[float]]:
    """s*, (B, B): images are rows."""
    of = model.settings
    weights = [of["weight"], 1 - of["weight"]] if model.grounded else [1.0]

    def s(v, t):
        if of["similarity"] == "cosine":
            return sum(x * y for x, y in zip(v, t, strict=True))
        above = [(y - x if of["direction"] == "order" else x - y) for x, y in zip(v, t, strict=True)]
        return -sum(max(0.0, x) ** 2 for x in above)

    images, texts = vectors_by_loops(model)
    return [
        [sum(w * s(v[i], t[j]) for w, v, t in zip(weights, images, texts, strict=True)) for j in range(B)]
        for i in range(B)
    ]


def loss_by_loops(sim, margin, mining, image_id=None) -> float:
    total = 0.0
    for i in range(B):
        others = [j for j in range(B) if j != i and (image_id is None or image_id[i] != image_id[j])]
        captions = [max(0.0, margin - sim[i][i] + sim[i][j]) for j in others]
        images = [max(0.0, margin - sim[i][i] + sim[j][i]) for j in others]
        total += sum(captions) + sum(images) if mining == "all" else max(captions) + max(images)
    return total / B


OPTIONS = [
    *LOOK_CONFIGURATIONS.values(),
    {"direction": "gxn", "weight": 0.3},
    {"weight": 0.8, "mining": "hardest", "margin": 0.1},
    {"similarity": "cosine", "weight": 0.25, "margin": 0.3},
    {"absolute": False, "unit_features": False},
    {"similarity": "cosine", "absolute": True, "unit_images": False},
]


@pytest.mark.parametrize("grounded", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_losses_equal_loops_over_the_formulas(options, grounded):
    model = look(grounded=grounded, **options)
    sim = similarity_by_loops(model)
    v, t = model.joined(model.image_vectors(IMAGES)), model.joined(model.text_vectors(TEXTS))
    assert v.shape == t.shape == (B, 12 if grounded else 6)
    assert model.similarity(v, t).tolist() == [pytest.approx(row, abs=1e-12) for row in sim]
    margin, mining = model.settings["margin"], model.settings["mining"]
    for image_id in (None, SAME_IMAGE):
        found = model.losses(IMAGES, TEXTS, image_id=image_id)
        ids = None if image_id is None else image_id.tolist()
        expected = loss_by_loops(sim, margin, mining, ids)
        assert found["loss"].item() == pytest.approx(expected, abs=1e-12)
        other = next(m for m in ("all", "hardest") if m != mining)
        switched = model.losses(IMAGES, TEXTS, image_id=image_id, mining=other)["loss"].item()
        assert switched == pytest.approx(loss_by_loops(sim, margin, other, ids), abs=1e-12)
        ids = ids or list(range(B))
        hits = [ids[max(range(B), key=lambda j: sim[i][j])] == ids[i] for i in range(B)]
        hits += [ids[max(range(B), key=lambda j: sim[j][i])] == ids[i] for i in range(B)]
        assert found["accuracy"].item() == pytest.approx(sum(hits) / (2 * B))
    assert abs(loss_by_loops(sim, 0.3, "all", SAME_IMAGE.tolist()) - loss_by_loops(sim, 0.3, "all")) > 1e-2


@pytest.mark.parametrize("similarity", ["order", "cosine"])
def test_weights_of_1_and_0_leave_one_branch(similarity):
    model = look(similarity=similarity)
    v, t = model.image_vectors(IMAGES), model.text_vectors(TEXTS)

    def s(a, b):
        return order_similarity(a, b) if similarity == "order" else a @ b.T

    for weight, head in ((1.0, 0), (0.0, 1)):
        model.settings["weight"] = weight
        found = model.similarity(model.joined(v), model.joined(t))
        torch.testing.assert_close(found, s(v[:, head], t[:, head]))
        assert (found - s(v[:, 1 - head], t[:, 1 - head])).abs().max() > 1e-2
        model.zero_grad()
        model.losses(IMAGES, TEXTS)["loss"].backward()
        assert model.image_heads[head].weight.grad.abs().max() > 1e-4
        assert not model.image_heads[1 - head].weight.grad.any()
        assert not model.text_encoders[1 - head].rnn.weight_hh_l0.grad.any()


def test_vectors_have_length_1_and_the_joined_ones_too():
    for model in (look(), look(similarity="cosine", weight=0.3)):
        for x in (model.image_vectors(IMAGES), model.text_vectors(TEXTS)):
            assert x.shape == (B, 2, 6)
            torch.testing.assert_close(x.norm(dim=2), torch.ones(B, 2).double())
            torch.testing.assert_close(model.joined(x).norm(dim=1), torch.ones(B).double())
            assert (x >= 0).all() == (model.settings["similarity"] == "order")
    lengths = configured("VSE0").image_vectors(IMAGES).norm(dim=2)
    assert lengths.max() - lengths.min() > 0.1


@pytest.mark.parametrize("name", LOOK_CONFIGURATIONS)
def test_a_model_that_says_nothing_pays_the_margin(name):
    model = configured(name)
    with torch.no_grad():
        for head in model.image_heads:
            head.weight.zero_()
            head.bias.fill_(0.4)
        for encoder in model.text_encoders:
            encoder.head[1].weight.zero_()
            encoder.head[1].bias.fill_(0.4)
    margin = model.settings["margin"]
    assert model.losses(IMAGES, TEXTS, mining="all")["loss"].item() == pytest.approx(2 * margin * (B - 1))
    found = model.losses(IMAGES, TEXTS, mining="hardest")
    assert found["loss"].item() == pytest.approx(2 * margin)
    assert found["accuracy"] <= 2 / B


@pytest.mark.parametrize("similarity", ["order", "cosine"])
def test_rows_of_zeros_stay_and_do_no_harm(similarity):
    """Of an image without features the length is 0, and 1 / 0 is no gradient."""
    rows = unit_rows(torch.tensor([[0.0, 0], [3, 4], [1e-9, 0]]))
    torch.testing.assert_close(rows, torch.tensor([[0.0, 0], [0.6, 0.8], [0, 0]]))
    assert unit_rows(torch.tensor([[math.nan, 1.0]])).isnan().all()
    model = look(similarity=similarity)
    images = IMAGES.clone()
    images[2] = 0
    model.losses(images, TEXTS)["loss"].backward()
    largest = max(p.grad.abs().max() for p in model.parameters())
    assert largest.isfinite()
    assert largest < 100
    assert not model.image_vectors(images)[2].any()


@pytest.mark.parametrize("options", [{}, {"similarity": "cosine", "mining": "hardest"}], ids=str)
def test_gradients_equal_finite_differences(options):
    model = look(**options, margin=0.2)
    model.forward = lambda images: model.losses(images, TEXTS[:4], image_id=SAME_IMAGE[:4])["loss"]

    def loss(images, weight):
        return torch.func.functional_call(model, {"image_heads.0.weight": weight}, (images,))

    weight = model.image_heads[0].weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, (IMAGES[:4].clone().requires_grad_(), weight))


# ---- its parts -------------------------------------------------------------------------------------------------------


def test_one_table_of_words_for_both():
    model = look()
    high, low = model.text_encoders
    assert high.embedding is low.embedding
    assert sum(p is high.embedding.weight for p in model.parameters()) == 1
    grads = []
    for head in (0, 1):
        model.zero_grad()
        model.text_vectors(TEXTS)[:, head].square().cumsum(dim=1).sum().backward()
        grads.append(high.embedding.weight.grad.clone())
        assert grads[-1].any()
        assert not grads[-1][high.padding].any()
    model.zero_grad()
    model.text_vectors(TEXTS).square().cumsum(dim=2).sum().backward()
    torch.testing.assert_close(high.embedding.weight.grad, grads[0] + grads[1])
    apart = look(share_words=False)
    assert apart.text_encoders[0].embedding.weight is not apart.text_encoders[1].embedding.weight


def test_the_sentence_encoders_are_of_the_published_sizes():
    high, low = sentence_encoders(WORDS)
    (alone,) = sentence_encoders(WORDS, grounded=False)
    assert high.rnn.bidirectional
    assert not low.rnn.bidirectional
    for encoder in (high, low, alone):
        assert encoder.out_dim == encoder.rnn.hidden_size == 1024
        assert encoder.embedding.embedding_dim == 300
        assert 0.09 < encoder.embedding.weight.abs().max() <= 0.1
        assert not encoder.embedding.weight[encoder.padding].any()
        assert not encoder.head[1].bias.any()
        bound = math.sqrt(6 / 2048)
        assert 0.99 * bound < encoder.head[1].weight.abs().max() <= bound


def test_any_encoders_do():
    torch.manual_seed(0)
    pictures = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    words = BagOfWords(WORDS)
    texts = [Sequence(words, MLP([words.out_dim, 5])), GRU(WORDS, dim=7, out_dim=5)]
    model = GXNLook(SmallConvNet(width=4), *texts, share_words=False)
    v, t = model.embed_image(pictures), model.embed_text(TEXTS[:4])
    assert v.shape == t.shape == (4, 10)
    model.losses(pictures, TEXTS[:4])["loss"].backward()
    assert model.image_encoder.body[0].weight.grad.abs().max() > 0


def test_it_runs_under_autocast():
    model = look().float()
    with torch.autocast("cpu", torch.bfloat16):
        found = model.losses(IMAGES.float(), TEXTS)["loss"]
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(model.losses(IMAGES.float(), TEXTS)["loss"].item(), abs=0.05)


# ---- use -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOOK_CONFIGURATIONS)
def test_there_and_back(name, tmp_path):
    model = configured(name, weight=0.3).float()
    images = IMAGES.float()
    model.train()
    v, t = model.embed_image(images), model.embed_text(TEXTS)
    assert model.training
    assert v.dtype == t.dtype == torch.float32
    assert not v.requires_grad
    torch.testing.assert_close(v, model.joined(model.image_vectors(images)).detach())
    torch.testing.assert_close(t, model.joined(model.text_vectors(TEXTS)).detach())
    model.save(tmp_path / "look")
    again = GXNLook.load(tmp_path / "look")
    assert not again.training
    assert again.settings == model.settings
    assert torch.equal(again.embed_image(images), v)
    assert torch.equal(again.embed_text(TEXTS), t)
    assert torch.equal(again.losses(images, TEXTS)["loss"], model.eval().losses(images, TEXTS)["loss"])
    if again.grounded:
        assert again.text_encoders[0].embedding is again.text_encoders[1].embedding


@pytest.mark.parametrize("name", LOOK_CONFIGURATIONS)
def test_evaluate_ranks_by_the_weighted_similarity(name):
    model = configured(name, weight=0.7)
    sim = torch.tensor(similarity_by_loops(model))
    v, t = (model.joined(x).detach() for x in (model.image_vectors(IMAGES), model.text_vectors(TEXTS)))
    found = evaluate(v, t, similarity=model.similarity)
    order = sim.argsort(dim=1, descending=True)
    places = (order == torch.arange(B)[:, None]).nonzero()[:, 1]
    for k in (1, 5):
        assert found[f"R@{k}"] == pytest.approx((places < k).double().mean().item())
    if name == "VSE++":
        assert found == evaluate(v, t)  # of two vectors of length 1 the joined one has length 1


COMBINATIONS = list(combinations(["cat", "dog", "red", "blue", "small", "house", "tree", "car"], 3))


@pytest.mark.parametrize("name", ["GXN", "VSE++"])
def test_it_learns_and_with_wrong_pairs_it_does_not(name):
    """New combinations of things seen before, 16 held out of 56: by chance the sum of R@1, 5, 10 both ways is 2.

    20 epochs with all negatives, then 5 with those of the configuration.
    """
    things = random.Random(0).sample(COMBINATIONS, len(COMBINATIONS))
    words = Vocabulary.build([" ".join(names) for names in things])
    draw = torch.Generator().manual_seed(0)
    seen = torch.zeros(len(things), 9)
    for row, names in zip(seen, things, strict=True):
        row[[words.encode(name)[0] for name in names]] = 1.0
    images = (seen + 0.05 * torch.randn(seen.shape, generator=draw)) @ torch.randn(9, 16, generator=draw)
    texts = ["a " + " and a ".join(random.Random(i).sample(names, 3)) for i, names in enumerate(things)]
    rsum = {}
    for wrong in (False, True):
        torch.manual_seed(0)
        encoders = sentence_encoders(words, dim=64, word_dim=16, grounded=name == "GXN")
        model = GXNLook(Standardize(16), *encoders, **LOOK_CONFIGURATIONS[name])
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        partner = torch.randperm(40, generator=draw) if wrong else torch.arange(40)
        for epoch in range(25):
            for rows in torch.randperm(40, generator=draw).split(20):
                batch = images[rows], [texts[i] for i in partner[rows].tolist()]
                found = model.losses(*batch, image_id=rows, mining="all" if epoch < 20 else None)
                optimiser.zero_grad()
                found["loss"].backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
                optimiser.step()
        v, t = model.embed_image(images[40:]), model.embed_text(texts[40:])
        rsum[wrong] = evaluate_both_ways(v, t, similarity=model.similarity)["rsum"]
    assert rsum[False] > 4
    assert rsum[True] < 3


# ---- bad input -------------------------------------------------------------------------------------------------------


def gru(**options) -> GRU:
    return GRU(WORDS, **({"dim": 4, "out_dim": 5} | options))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GXNLook(Standardize(9), gru(), gru(out_dim=6)), r"give \[5, 6\] numbers"),
        (lambda: GXNLook(SmallConvNet(4, feature_map=True), gru()), "no feature map"),
        (lambda: GXNLook(Standardize(9), gru(), gru(word_dim=3)), "same vocabulary, word_dim and brackets"),
        (lambda: GXNLook(Standardize(9), gru(), gru(brackets=True)), "share_words=False"),
        (lambda: GXNLook(Standardize(9), gru(), MLP([3, 5])), "two LSTM or GRU encoders"),
        (lambda: look(similarity="dot"), "similarity must be one of .* got 'dot'"),
        (lambda: look(direction="text"), "direction must be one of"),
        (lambda: look(mining="max"), "mining must be one of"),
        (lambda: look(weight=1.1), "weight must lie in .* got 1.1 and 0.05"),
        (lambda: look(margin=-0.1), "got 0.5 and -0.1"),
        (lambda: look(margin=math.inf), "and inf"),
        (lambda: look(unit_images=False), "unit_images=False goes with similarity='cosine'"),
        (lambda: look().losses(IMAGES, TEXTS[:3]), "7 images, 3 texts, image_id none"),
        (lambda: look().losses(IMAGES, TEXTS, SAME_IMAGE[:3]), r"7 images, 7 texts, image_id \(3,\)"),
        (lambda: look().losses(IMAGES, TEXTS, mining="sum"), "mining is one of"),
        (lambda: look().losses(IMAGES[:1], TEXTS[:1]), "at least 2"),
        (lambda: look().embed_image(IMAGES[:0]), "nothing to embed"),
        (lambda: look().embed_text([]), "nothing to embed"),
        (lambda: look().embed_text("a cat"), "list of texts"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_loss_is_the_hinge_loss_of_the_similarities():
    model = look()
    v, t = model.joined(model.image_vectors(IMAGES)), model.joined(model.text_vectors(TEXTS))
    expected = hinge_loss(order_similarity(v, t), 0.05, symmetric=True)
    torch.testing.assert_close(model.losses(IMAGES, TEXTS)["loss"], expected)
