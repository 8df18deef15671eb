"""What the recipes of common-space models share: encoders for a kind of data, and the measures of both directions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from commonspace.data import PairedSamples
from commonspace.encoders import MLP, BagOfWords, SmallConvNet, Standardize
from commonspace.encoders import Sequence as Chain
from commonspace.metrics import evaluate as evaluate_embeddings
from commonspace.recipes.datasets import Pairs, views


def projectors(
    pairs: Pairs,
    hidden: Sequence[int],
    dim: int,
    *,
    width: int = 32,
    min_count: int = 5,
    power: float = 1.0,
    **mlp: Any,
) -> tuple[nn.Module, nn.Module]:
    """Untrained encoders of images and texts into codes (B, dim); sizes, scales and words are read off the pairs.

    Feature rows are standardised (`Standardize`, ``power`` of the image rows) and go through a perceptron with the
    ``hidden`` layers. Pictures go through a small convolutional network of ``width`` channels, texts through TF-IDF of
    the words that stand in ``min_count`` of them, and then each through such a perceptron. ``mlp``: of the perceptrons.
    """
    images, texts = views(pairs)
    if isinstance(pairs, PairedSamples):
        from commonspace.data import Vocabulary

        picture = SmallConvNet(width=width)
        words = BagOfWords(Vocabulary.build(texts, min_count), weighting="tfidf").fit(texts)
        bottoms = [picture, words]
    else:
        bottoms = [
            Standardize(images.shape[1], power).fit(images),
            Standardize(texts.shape[1]).fit(texts),
        ]
    image, text = (Chain(bottom, MLP([bottom.out_dim, *hidden, dim], **mlp)) for bottom in bottoms)
    return image, text


def batch(pairs: Pairs, ids: Tensor) -> tuple[Any, Any, Tensor | None]:
    """Images, texts and labels of the pairs ``ids``, what is a tensor on the device of ``ids``."""
    chosen = pairs[ids.cpu()]
    parts = (*views(chosen), chosen.label)
    return tuple(part.to(ids.device) if isinstance(part, Tensor) else part for part in parts)


def need_labels(pairs: Pairs, name: str, who: str) -> Tensor:
    """The labels of the pairs. Raises ValueError where they have none."""
    if pairs.label is None:
        raise ValueError(f"{who} learns from classes, but the {name} pairs have no label")
    return pairs.label


def n_classes(pairs: Pairs) -> int:
    """How many classes the labels of the pairs may name."""
    if pairs.classes is not None:
        return len(pairs.classes)
    return pairs.label.shape[1] if pairs.label.ndim == 2 else int(pairs.label.max()) + 1


def evaluate(model: Any, test: Pairs, relevant: Tensor | None = None) -> dict[str, float]:
    """Per direction R@1, R@5, R@10 and median rank (row i belongs to row i, or ``relevant``), and mAP of items with the
    same label where there are labels. ``model`` has embed_image and embed_text; the measure is the cosine."""
    images, texts = views(test)
    v, t = model.embed_image(images), model.embed_text(texts)
    right = torch.arange(len(test)) if relevant is None else relevant
    found = {}
    for way, query, gallery, of in [("i2t", v, t, right), ("t2i", t, v, right if relevant is None else relevant.T)]:
        metrics = evaluate_embeddings(query, gallery, relevant=of, query_labels=test.label, gallery_labels=test.label)
        found |= {f"{way}/{name}": value for name, value in metrics.items()}
    return found


def class_map(model: Any, pairs: Pairs) -> float:
    """mAP of items with the same label, mean of both directions, by cosine: what an epoch is chosen by."""
    images, texts = views(pairs)
    v, t = model.embed_image(images), model.embed_text(texts)
    labels = {"query_labels": pairs.label, "gallery_labels": pairs.label, "no_relevant": "skip"}
    return sum(evaluate_embeddings(a, b, **labels)["mAP"] for a, b in [(v, t), (t, v)]) / 2


def class_embeddings(classes: Sequence[str] | None, permute: bool = False, seed: int = 0) -> Tensor:
    """Class names -> (c, 384) sentence vectors of MiniLM, less their mean and scaled to a mean square of 1.

    ``permute``: every class gets the vector of another one, drawn by ``seed``: a control that keeps the numbers and
    takes the meaning. Raises ValueError where there are no names, and for a single one.
    """
    from commonspace.encoders import Bert

    if classes is None or len(classes) < 2:
        raise ValueError(f"class embeddings need the names of at least 2 classes, got {classes!r}: or give the vectors")
    vectors = Bert().encode([name.replace("_", " ") for name in classes])
    vectors = vectors - vectors.mean(dim=0)
    vectors = vectors / vectors.square().mean().sqrt()
    if permute:
        order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))
        vectors[order] = vectors[order.roll(1)]  # the right side is a copy
    return vectors
