"""How well pictures and captions find each other, and how well captions are written: measures of `models.GXN`."""

import math

import torch
from torch import Tensor

from commonspace.data.vocabulary import tokenise
from commonspace.encoders import PixelFeatures
from commonspace.metrics import CiderD, bleu, evaluate_folds, frechet_distance, pairwise_diversity
from commonspace.metrics import evaluate as evaluate_embeddings
from commonspace.models import GXN
from commonspace.recipes import scene_reader
from commonspace.recipes.caption_data import Captioned

LONGEST = 60  # tokens of a sentence that is written, the end among them
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


def plain(captioned: Captioned) -> list[list[str]]:
    """The captions of each picture as a decoder writes them: in lower case and without punctuation."""
    return [[" ".join(tokenise(caption)) for caption in own] for own in captioned.by_image()]


def spoken(model: GXN, test: Captioned, beam: int = 1, max_length: int = LONGEST) -> dict[str, float]:
    """How good what is written is: "CIDEr-D", "BLEU-1" to "BLEU-4" and "exact", the share of sentences that are one of
    the picture's captions, word by word; the same of what is written for the next picture (`following`): "other
    picture/...". "distinct": how many different sentences there are, a picture; "length": words a sentence.

    ``beam``: 1 is greedy. Captions are compared as `plain` has them. Document frequencies are those of the test
    captions. Raises ValueError for a single picture and without a decoder.
    """
    written, references = model.write(test.images, beam, max_length), plain(test)
    cider, found = CiderD(references), {}
    for name, sentences in (("", written), ("other picture/", [written[i] for i in following(test.group).tolist()])):
        found[name + "CIDEr-D"] = float(cider.score(sentences, references).mean())
        found |= {f"{name}BLEU-{n}": value for n, value in bleu(sentences, references).items()}
        hits = [sentence in own for sentence, own in zip(sentences, references, strict=True)]
        found[name + "exact"] = sum(hits) / len(hits)
    words = sum(len(sentence.split()) for sentence in written)
    return found | {"distinct": len(set(written)) / len(written), "length": words / len(written)}


def writing(model: GXN, test: Captioned, beam: int = 5, max_length: int = LONGEST) -> dict[str, float]:
    """How well captions are written: "log p", of a token of the true captions (`likelihood`), "other picture/log p", of
    the same captions, read with the next picture, and all that `spoken` says."""
    others = following(test.group)[test.image_of]
    found = {"log p": likelihood(model, test), "other picture/log p": likelihood(model, test, others)}
    return found | spoken(model, test, beam, max_length)


def painting(model: GXN, test: Captioned, dimensions: int = 2, seed: int = 0) -> dict[str, float]:
    """How good what is painted is, from the first caption of each test picture.

    Of scenes, flat ones or solids by ``dimensions``: "painted/colour" and so on, shares of what was asked for that a
    reader of real scenes finds there (`scene_reader.scene_scores`); "painted/chance/colour", of another sentence's
    picture; "real/colour", in the real pictures. Of all pictures: "painted/Frechet distance" from the real ones in
    `encoders.PixelFeatures` (pixels and colours; no FID, which is in Inception's features), "real/Frechet distance" of
    one half of the real ones from the other; "painted/diversity" and "real/diversity", how far two pictures lie apart
    (mean absolute difference of pixels in [0, 1]), and "painted/diversity of a sentence", of eight from one sentence.

    ``seed``: of the noise. Raises ValueError without a painter, and for fewer than four pictures.
    """
    if len(test) < 4:
        raise ValueError(f"there are {len(test)} test pictures; painted ones are compared with four or more")
    first, draw = test.first_captions(), torch.Generator().manual_seed(seed)
    painted = model.paint(first.captions, draw)
    real = torch.cat([as_painted(model, test.images[ids]) for ids in torch.arange(len(test)).split(256)])
    found: dict[str, float] = {}
    if test.scenes is not None:
        reader = scene_reader.fit(painted.shape[2], dimensions)
        for name, pictures in (("painted/", painted), ("real/", real)):
            scores = scene_reader.attribute_scores(reader, pictures, test.scenes)
            found |= {name + key: value for key, value in scores.items() if name == "painted/" or "chance" not in key}
    features = PixelFeatures(min(32, len(test) // 2), size=16).fit(real)
    of_real = features.transform(real)
    found["painted/Frechet distance"] = frechet_distance(features.transform(painted), of_real)
    found["real/Frechet distance"] = frechet_distance(of_real[::2], of_real[1::2])
    found |= {"painted/diversity": pairwise_diversity(painted), "real/diversity": pairwise_diversity(real)}
    some = first.captions[:8]
    again = model.paint([caption for caption in some for _ in range(8)], draw).unflatten(0, (len(some), 8))
    return found | {"painted/diversity of a sentence": sum(map(pairwise_diversity, again)) / len(some)}


def as_painted(model: GXN, images: Tensor) -> Tensor:
    """Real uint8 pictures (n, 3, h, w) at the size of those that ``model`` paints."""
    return model.painter.prepared(images).add(1).mul(127.5).round().byte().cpu()


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
