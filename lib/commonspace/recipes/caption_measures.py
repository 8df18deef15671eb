"""How well pictures and captions find each other, and how well captions are written: measures of `models.GXN`."""

import math

import torch
from torch import Tensor

from commonspace.data.vocabulary import tokenise
from commonspace.metrics import CiderD, bleu, evaluate_folds
from commonspace.metrics import evaluate as evaluate_embeddings
from commonspace.models import GXN
from commonspace.recipes.caption_data import Captioned

FOLDED = 5000  # so many test pictures are looked at in five folds of 1,000 as well


def search(model: GXN, test: Captioned) -> dict[str, float]:
    """R@1, R@5, R@10, median rank and mAP both ways, "i2t/R@1" and so on, and "rsum", the sum of all R@K.

    The best of a picture's captions counts. Of 5,000 pictures also "1K/i2t/R@1" and so on: means over five folds.
    """
    image, text = model.embed_image(test.images), model.embed_text(test.captions)
    of_text = test.group[test.image_of]
    found = {}
    for way, query, gallery, labels, measure in (
        ("i2t", image, text, (test.group, of_text), model.similarity),
        ("t2i", text, image, (of_text, test.group), lambda text, image: model.similarity(image, text).T),
    ):
        of_way = evaluate_embeddings(
            query, gallery, query_labels=labels[0], gallery_labels=labels[1], similarity=measure
        )
        found |= {f"{way}/{name}": value for name, value in of_way.items()}
    found["rsum"] = sum(value for name, value in found.items() if "/R@" in name)
    if len(test) == FOLDED:
        folds = evaluate_folds(image, text, test.image_of, similarity=model.similarity)
        found |= {f"1K/{name}": value for name, value in folds.items()}
    return found


def likelihood(model: GXN, test: Captioned, images: Tensor | None = None) -> float:
    """Mean of log p(token | those before, picture) over all tokens and ends of the captions [nats].

    ``images``: (m,) the picture that each caption is read with, if not its own. Raises ValueError without a decoder.
    """
    if model.decoder is None:
        raise ValueError("this model has no decoder to say how likely a caption is: train one with paths='look+write'")
    grounded = model.grounded_image(test.images)
    here = model.decoder.output.weight.device
    rows = grounded[test.image_of if images is None else images].to(here)
    return -math.log(model.decoder.perplexity(rows, test.captions))


def writing(model: GXN, test: Captioned, beam: int = 5, max_length: int = 60) -> dict[str, float]:
    """How well captions are written: "log p", of a token of the true captions (`likelihood`); "CIDEr-D" and "BLEU-1"
    to "BLEU-4" of what is written. The same of captions beside, and written for, the next picture (`following`):
    "other picture/...".

    Captions are compared in lower case and without punctuation, as `data.vocabulary.tokenise` cuts them. Document
    frequencies are those of the test captions. Raises ValueError for a single picture and without a decoder.
    """
    next_one = following(test.group)
    written = model.write(test.images, beam, max_length)
    references = [[" ".join(tokenise(caption)) for caption in own] for own in test.by_image()]
    cider = CiderD(references)
    found = {}
    for name, sentences, images in (
        ("", written, None),
        ("other picture/", [written[i] for i in next_one.tolist()], next_one[test.image_of]),
    ):
        found[name + "log p"] = likelihood(model, test, images)
        found[name + "CIDEr-D"] = float(cider.score(sentences, references).mean())
        found |= {f"{name}BLEU-{n}": value for n, value in bleu(sentences, references).items()}
    return found


def following(group: Tensor) -> Tensor:
    """Of each picture the next one of another group, behind the last the first: groups (n,) -> ids (n,)."""
    n = len(group)
    other = (torch.arange(n) + 1) % n
    for _ in range(n):
        same = group[other] == group
        if not same.any():
            break
        other[same] = (other[same] + 1) % n
    return other
