"""Images with several captions each, both ways, in one gallery or in folds: the protocols of MS COCO and Flickr.

An image looks for captions and is judged by the best of its own; a caption looks for its image. "5K" is all 5,000 test
images against their 25,000 captions. "1K" cuts the same images into five folds of 1,000 in their order, each with its
own captions, and takes the mean of the five: galleries are five times smaller, and so all numbers are higher.

Source: A. Karpathy, L. Fei-Fei, "Deep visual-semantic alignments for generating image descriptions", CVPR 2015 (the
split of COCO); F. Faghri et al., "VSE++", BMVC 2018 (the mean over folds).
"""

from collections.abc import Iterable
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from commonspace.metrics.evaluate import Similarity, evaluate
from commonspace.metrics.retrieval import as_tensor, positive_int


def evaluate_both_ways(
    image_emb: Any,
    text_emb: Any,
    image_of: Any = None,
    *,
    similarity: Similarity = "cosine",
    ks: int | Iterable[int] = (1, 5, 10),
    block: int = 1024,
) -> dict[str, float]:
    """image_emb (n, d), text_emb (m, d) -> {"i2t/R@1", ..., "i2t/median_rank", "i2t/mAP", "t2i/R@1", ..., "rsum"}.

    ``image_of``: (m,) integers, the image that each caption describes; None: m / n captions of each, image by image.
    Several right captions: the best one's rank counts for R@K and the median rank. "rsum", the sum of all R@K of both
    ways, is what VSE++ chooses its epoch by. ``similarity``: a name as in `evaluate`, or a function (images, texts) ->
    (b, c), which is given images first whichever way is asked.

    Raises ValueError where an image has no caption or ``image_of`` does not fit, and as `evaluate` does.
    """
    n, m = len(image_emb), len(text_emb)
    image_of = _image_of(image_of, n, m)
    captions = [[] for _ in range(n)]
    for caption, image in enumerate(image_of.tolist()):
        captions[image].append(caption)
    back = (lambda text, image: similarity(image, text).T) if callable(similarity) else similarity
    ks = list(ks) if isinstance(ks, Iterable) else [ks]
    found = {}
    for way, query, gallery, relevant, measure in (
        ("i2t", image_emb, text_emb, captions, similarity),
        ("t2i", text_emb, image_emb, image_of, back),
    ):
        of_way = evaluate(query, gallery, relevant=relevant, similarity=measure, ks=ks, block=block)
        found |= {f"{way}/{name}": value for name, value in of_way.items()}
    return found | {"rsum": sum(value for name, value in found.items() if "/R@" in name)}


def evaluate_folds(
    image_emb: Any, text_emb: Any, image_of: Any = None, *, folds: int = 5, **options: Any
) -> dict[str, float]:
    """The mean over ``folds`` of what `evaluate_both_ways` gives of each: n / folds images in their order, with theirs.

    The median rank too is the mean of the folds' medians. ``options``: as there. Raises ValueError where n cannot be
    divided into as many folds, and as `evaluate_both_ways` does.
    """
    folds = positive_int(folds, "folds")
    image_emb, text_emb = as_tensor(image_emb, "image_emb"), as_tensor(text_emb, "text_emb")
    n = len(image_emb)
    if n % folds:
        raise ValueError(f"{n} images cannot be cut into {folds} folds of one size: leave {n % folds} out")
    image_of = _image_of(image_of, n, len(text_emb))
    found = []
    for first in range(0, n, n // folds):
        mine = ((image_of >= first) & (image_of < first + n // folds)).nonzero()[:, 0]
        images, texts = image_emb[first : first + n // folds], text_emb[mine.to(text_emb.device)]
        found.append(evaluate_both_ways(images, texts, image_of[mine] - first, **options))
    return {name: fmean(fold[name] for fold in found) for name in found[0]}


def _image_of(image_of: Any, n: int, m: int) -> Tensor:
    """(m,) int64 on the CPU."""
    if not n or not m:
        raise ValueError(f"there are {n} images and {m} texts: there must be some of both")
    if image_of is None:
        if m % n:
            raise ValueError(f"{m} texts of {n} images: not as many of each, so say by image_of which image each is of")
        return torch.arange(n).repeat_interleave(m // n)
    image_of = as_tensor(image_of, "image_of").cpu()
    whole = not (image_of.is_floating_point() or image_of.is_complex() or image_of.dtype == torch.bool)
    if image_of.shape != (m,) or not whole or int(image_of.min()) < 0 or int(image_of.max()) >= n:
        raise ValueError(
            f"image_of must be {m} integers, 0 to {n - 1}, the image of each text; got {image_of.dtype} "
            f"{tuple(image_of.shape)}: {image_of.flatten()[:5].tolist()}"
        )
    missing = n - len(image_of.unique())
    if missing:
        raise ValueError(f"{missing} of {n} images have no caption: leave them out, nothing could be found for them")
    return image_of.long()
