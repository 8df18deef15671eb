"""Reconstruction across modalities: from the code of either side of a pair, both sides are rebuilt.

Of a pair (v, t), with v^I, t^I rebuilt from the image's code and v^T, t^T from the text's,

    L_I = ||v - v^I||^2 + ||t - t^I||^2,    L_T = ||v - v^T||^2 + ||t - t^T||^2,    L_rec = L_I + L_T.

The cross terms ||t - t^I||^2 and ||v - v^T||^2 put into each code what the other side needs; the other two keep what is
its own.

Source: X. Xu et al., "Modal-adversarial semantic learning network for extendable cross-modal retrieval", ICMR 2018.
"""

from torch import Tensor

TERMS = ("four", "cross")


def reconstruction_loss(
    image: Tensor,
    text: Tensor,
    from_image: tuple[Tensor, Tensor],
    from_text: tuple[Tensor, Tensor],
    terms: str = "four",
) -> Tensor:
    """L_rec, summed over features, mean over the pairs of a batch: a scalar >= 0.

    ``image`` (B, p) and ``text`` (B, q) are what is to be rebuilt; ``from_image`` and ``from_text``, each (image rows
    (B, p), text rows (B, q)), what was rebuilt from the image's code and from the text's. ``terms="cross"``: only text
    from image and image from text. Raises ValueError for other terms and for shapes that differ.
    """
    if terms not in TERMS:
        raise ValueError(f"terms must be one of {', '.join(map(repr, TERMS))}; got {terms!r}")
    pairs = {
        "image from image": (image, from_image[0]),
        "text from image": (text, from_image[1]),
        "image from text": (image, from_text[0]),
        "text from text": (text, from_text[1]),
    }
    if terms == "cross":
        pairs = {name: pairs[name] for name in ("text from image", "image from text")}
    for name, (wanted, rebuilt) in pairs.items():
        if wanted.ndim != 2 or wanted.shape != rebuilt.shape:
            raise ValueError(f"{name}: {tuple(rebuilt.shape)} was rebuilt of rows {tuple(wanted.shape)}, (B, d) each")
    return sum((wanted - rebuilt).square().sum(dim=1).mean() for wanted, rebuilt in pairs.values())
