"""What the recipes share: encoders for a kind of data, and the measures of both directions."""

import numpy as np
import pytest
import torch

from commonspace.data import PairedFeatures, PairedSamples
from commonspace.encoders import MLP, BagOfWords, SmallConvNet, Standardize
from commonspace.metrics import evaluate as evaluate_embeddings
from commonspace.recipes import common_space


def features(seed: int = 0, n: int = 40) -> PairedFeatures:
    rng = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % 4
    rows = 2 * torch.rand(4, 9, generator=rng)[label] + torch.rand(n, 9, generator=rng)
    return PairedFeatures(rows[:, :5], 7 * rows[:, 5:], label, ["a", "b", "c", "d"])


def samples() -> PairedSamples:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8, generator=rng)
    texts = [f"a {('red', 'blue')[i % 2]} {('shirt', 'shoe', 'hat')[i % 3]} once{i}" for i in range(20)]
    return PairedSamples(images, texts, torch.arange(20) % 2)


class Identity:
    """A model whose codes are the features."""

    def embed_image(self, images):
        return images[:, :4]

    def embed_text(self, texts):
        return texts


# ---- projectors -----------------------------------------------------------------------------------------------------


def test_feature_rows_are_standardised_and_go_through_a_perceptron():
    pairs = features()
    image, text = common_space.projectors(pairs, (8, 6), 3, power=0.5, dropout=0.2, final_activation="tanh")
    for encoder, rows, power in [(image, pairs.image, 0.5), (text, pairs.text, 1.0)]:
        scale, perceptron = encoder.parts
        assert isinstance(scale, Standardize)
        assert isinstance(perceptron, MLP)
        assert scale.power == power
        standard = scale(rows)
        torch.testing.assert_close(standard.mean(dim=0), torch.zeros(rows.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(standard.std(dim=0), torch.ones(rows.shape[1]), atol=1e-5, rtol=0)
        assert perceptron.config["sizes"] == [rows.shape[1], 8, 6, 3]
        assert (perceptron.config["dropout"], perceptron.config["final_activation"]) == (0.2, "tanh")
        assert encoder(rows).shape == (40, 3)
    assert image.out_dim == text.out_dim == 3
    linear, _ = common_space.projectors(pairs, (), 2)
    assert linear.parts[1].config["sizes"] == [5, 2]


def test_pictures_and_texts_get_a_network_and_words():
    pairs = samples()
    image, text = common_space.projectors(pairs, (8,), 3, width=4, min_count=3)
    assert isinstance(image.parts[0], SmallConvNet)
    assert isinstance(text.parts[0], BagOfWords)
    assert set(text.parts[0].config["vocabulary"]["words"]) == {"a", "red", "blue", "shirt", "shoe", "hat"}
    assert text.parts[0].config["weighting"] == "tfidf"
    assert image.parts[0].config["width"] == 4
    assert image(pairs.images).shape == text(pairs.texts).shape == (20, 3)


# ---- batches and labels ---------------------------------------------------------------------------------------------


def test_a_batch_is_the_chosen_pairs():
    ids = torch.tensor([3, 0, 19])
    pairs = features()
    image, text, label = common_space.batch(pairs, ids)
    assert torch.equal(image, pairs.image[ids])
    assert torch.equal(text, pairs.text[ids])
    assert label.tolist() == [3, 0, 3]
    pixels, words, label = common_space.batch(samples(), ids)
    assert torch.equal(pixels, samples().images[ids])
    assert words == [samples().texts[i] for i in (3, 0, 19)]
    assert label.tolist() == [1, 0, 1]
    bare = PairedFeatures(pairs.image, pairs.text)
    assert common_space.batch(bare, ids)[2] is None


def test_labels_are_asked_for():
    pairs = features()
    assert common_space.need_labels(pairs, "training", "This model") is pairs.label
    with pytest.raises(ValueError, match="This model learns from classes, but the training pairs have no label"):
        common_space.need_labels(PairedFeatures(pairs.image, pairs.text), "training", "This model")


def test_the_number_of_classes():
    x = torch.zeros(3, 2)
    assert common_space.n_classes(PairedFeatures(x, x, [0, 1, 0], ["a", "b", "never seen"])) == 3
    assert common_space.n_classes(PairedFeatures(x, x, [0, 4, 1])) == 5
    assert common_space.n_classes(PairedFeatures(x, x, torch.zeros(3, 7, dtype=torch.bool))) == 7


# ---- measures -------------------------------------------------------------------------------------------------------


def test_both_directions_are_measured_each_with_its_own_relevant_items():
    pairs = features(1)
    relevant = torch.rand(40, 40, generator=torch.Generator().manual_seed(1)) < 0.1
    relevant |= torch.eye(40, dtype=torch.bool)
    v, t = pairs.image[:, :4], pairs.text
    labels = {"query_labels": pairs.label, "gallery_labels": pairs.label}
    for given, i2t, t2i in [(None, torch.arange(40), torch.arange(40)), (relevant, relevant, relevant.T)]:
        found = common_space.evaluate(Identity(), pairs, given)
        for way, query, gallery, right in [("i2t", v, t, i2t), ("t2i", t, v, t2i)]:
            expected = evaluate_embeddings(query, gallery, relevant=right, **labels)
            assert {name: found[f"{way}/{name}"] for name in expected} == expected
        assert len(found) == 10
    assert not torch.equal(relevant, relevant.T)
    wrong = evaluate_embeddings(t, v, relevant=relevant, **labels)
    assert {name: found[f"t2i/{name}"] for name in wrong} != wrong


def test_without_labels_the_map_is_of_the_pairs():
    pairs = features(2)
    found = common_space.evaluate(Identity(), PairedFeatures(pairs.image, pairs.text))
    assert found["i2t/mAP"] == evaluate_embeddings(pairs.image[:, :4], pairs.text)["mAP"]
    assert found["i2t/mAP"] < common_space.evaluate(Identity(), pairs)["i2t/mAP"]


def test_class_map_is_the_mean_of_both_directions_by_loops():
    pairs = features(3)
    v, t = (torch.nn.functional.normalize(x.double(), dim=1) for x in (pairs.image[:, :4], pairs.text))
    per_query = []
    for query, gallery in [(v, t), (t, v)]:
        for i, scores in enumerate((query @ gallery.T).tolist()):
            hits = [pairs.label[j] == pairs.label[i] for j in np.argsort([-s for s in scores])]
            precisions = [sum(hits[: k + 1]) / (k + 1) for k in range(40) if hits[k]]
            per_query.append(sum(precisions) / len(precisions))
    assert common_space.class_map(Identity(), pairs) == pytest.approx(float(np.mean(per_query)), abs=1e-6)


def test_class_map_passes_over_pairs_without_a_label():
    pairs = features(4)
    several = torch.nn.functional.one_hot(pairs.label).bool()
    several[:10] = False
    labelled = PairedFeatures(pairs.image, pairs.text, several)
    assert 0 < common_space.class_map(Identity(), labelled) < 1


# ---- class embeddings -----------------------------------------------------------------------------------------------

NAMES = ["cat", "dog", "guitar", "sports_car", "truck"]


def test_class_embeddings_are_centred_sentence_vectors_that_know_what_is_alike():
    vectors = common_space.class_embeddings(NAMES)
    assert vectors.shape == (5, 384)
    torch.testing.assert_close(vectors.mean(dim=0), torch.zeros(384), atol=1e-5, rtol=0)
    assert vectors.square().mean().item() == pytest.approx(1.0, abs=1e-5)
    cosine = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=2)
    cosine.fill_diagonal_(-1)
    assert cosine.argmax(dim=1).tolist()[:2] == [1, 0]
    assert cosine[3].argmax() == 4
    assert torch.equal(vectors, common_space.class_embeddings([name.replace("_", " ") for name in NAMES]))


@pytest.mark.parametrize("seed", range(6))
def test_permuted_every_class_has_the_vector_of_another(seed):
    plain, mixed = common_space.class_embeddings(NAMES), common_space.class_embeddings(NAMES, permute=True, seed=seed)
    owner = [[i for i in range(5) if torch.equal(row, plain[i])] for row in mixed]
    assert sorted(owner) == [[0], [1], [2], [3], [4]]
    assert all(i not in own for i, own in enumerate(owner))
    assert torch.equal(mixed, common_space.class_embeddings(NAMES, permute=True, seed=seed))


@pytest.mark.parametrize("classes", [None, [], ["cat"]])
def test_class_embeddings_need_names(classes):
    with pytest.raises(ValueError, match="need the names of at least 2 classes"):
        common_space.class_embeddings(classes)
