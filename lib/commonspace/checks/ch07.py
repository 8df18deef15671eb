"""Checks of chapter 07, TIRG: gate and residual, the same at the map, recall without the source, replaced words."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from commonspace.checks.exercise import Exercise, Mistake, Result


def _branch(name: str, layer: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Callable:
    """What a learner is handed as gate or residual; it takes ``shape`` alone, and says so."""

    def branch(*given):
        came = [tuple(both.shape) if isinstance(both, Tensor) else f"a {type(both).__name__}" for both in given]
        if came != [shape]:
            raise ValueError(
                f"{name} takes one tensor of shape {shape}, image and text put together along dimension 1; got "
                + (" and ".join(map(str, came)) or "nothing")
            )
        return torch.tanh(layer(*given))

    return branch


def _composed(psi: object, image: Tensor) -> Tensor:
    psi = torch.as_tensor(psi)
    if psi.shape != image.shape:
        raise ValueError(f"return psi in the shape of image, {tuple(image.shape)}; got {tuple(psi.shape)}")
    return psi


def _side_by_side(image, text):
    return torch.cat([image, text], dim=1)


def _paper(x, t, g, r, a, b):
    """Equation 1 from image x, text t, the gate's logits g, the residual r, the weights a and b."""
    return a * torch.sigmoid(g) * x + b * r


def _compose(mix: Callable = _paper, both: Callable = _side_by_side) -> Callable:
    """Gate and residual with one slip, in the formula or in what the branches read."""

    def answer(image, text, gate, residual, weights):
        z = both(image, text)
        return mix(image, text, gate(z), residual(z), *weights)

    return answer


def _vectors(rng: np.random.Generator) -> tuple:
    """Seven queries, text as wide as the image: what is put together wrongly then goes on, and can be told apart."""
    image, text = rng.normal(size=(2, 7, 3))
    return image, text, *rng.normal(size=(2, 6, 3)), rng.uniform(0.3, 3.0, size=2)


def _gradients(compose: Callable) -> Callable:
    """psi, and the gradients of its sum."""

    def answer(image, text, W_gate, W_residual, weights):
        image, text, weights = parts = [torch.tensor(part, requires_grad=True) for part in (image, text, weights)]
        shape = (len(image), len(W_gate))
        gate, residual = (
            _branch(name, lambda both, W=W: both @ torch.from_numpy(W), shape)
            for name, W in [("gate", W_gate), ("residual", W_residual)]
        )
        psi = compose(image, text, gate, residual, weights)
        if psi is None:
            return None
        psi = _composed(psi, image)
        slopes = [torch.zeros_like(part) for part in parts]
        if psi.requires_grad:
            slopes = torch.autograd.grad(psi.sum(), parts, allow_unused=True, materialize_grads=True)
        names = [f"gradient of {part}" for part in ("image", "text", "weights")]
        return {"psi": psi.detach()} | dict(zip(names, slopes, strict=True))

    return answer


def _by_hand(image, text, W_gate, W_residual, weights) -> dict:
    """Equation 1 and the chain rule in numpy."""
    d = image.shape[1]
    g, r = (np.tanh(image @ W[:d] + text @ W[d:]) for W in (W_gate, W_residual))
    opening = 1 / (1 + np.exp(-g))
    of_g = weights[0] * image * opening * (1 - opening) * (1 - g**2)  # before the gate's tanh
    of_r = weights[1] * (1 - r**2)
    return {
        "psi": weights[0] * opening * image + weights[1] * r,
        "gradient of image": weights[0] * opening + of_g @ W_gate[:d].T + of_r @ W_residual[:d].T,
        "gradient of text": of_g @ W_gate[d:].T + of_r @ W_residual[d:].T,
        "gradient of weights": np.array([(opening * image).sum(), r.sum()]),
    }


# Slips in the formula, made with vectors as well as at the map: name, hint, one or more formulas with the slip.
FORMULAS = (
    (
        "sigmoid of the product",
        "you take the sigmoid of logits times image. The gate is the sigmoid of the logits alone, and it multiplies "
        "the image afterwards: a number of the image may be negative, and large.",
        lambda x, t, g, r, a, b: a * torch.sigmoid(g * x) + b * r,
    ),
    (
        "no sigmoid",
        "the gate's logits multiply the image as they are. A gate is open or shut: the sigmoid brings it between 0 "
        "and 1.",
        lambda x, t, g, r, a, b: a * g * x + b * r,
    ),
    (
        "softmax",
        "your gate is a softmax: its numbers share 1 among them, and opening one shuts the others. A sigmoid opens "
        "each by itself.",
        *(lambda x, t, g, r, a, b, dim=dim: a * torch.softmax(g, dim) * x + b * r for dim in (0, 1, -1)),
    ),
    (
        "gate averaged over the channels",
        "your gate is averaged over dimension 1: all numbers of an image get the same. Each has a gate of its own.",
        lambda x, t, g, r, a, b: a * torch.sigmoid(g).mean(dim=1, keepdim=True) * x + b * r,
        lambda x, t, g, r, a, b: a * torch.sigmoid(g.mean(dim=1, keepdim=True)) * x + b * r,
    ),
    (
        "psi normalised",
        "you bring psi to length 1. Equation 1 ends with the sum: return it as it is.",
        lambda *parts: F.normalize(_paper(*parts), dim=1),
    ),
    (
        "weights swapped",
        "weights[0] belongs to the gated image, weights[1] to the residual. You have them the other way round.",
        lambda x, t, g, r, a, b: b * torch.sigmoid(g) * x + a * r,
    ),
    (
        "weights forgotten",
        "you add the gated image and the residual with weight 1 each. Each has a weight of its own in weights.",
        lambda x, t, g, r, a, b: torch.sigmoid(g) * x + r,
    ),
    (
        "residual through the gate",
        "your gate multiplies the residual, where the image should stand. The gate says what of the image stays; what "
        "is new comes on top, ungated.",
        lambda x, t, g, r, a, b: a * torch.sigmoid(g) * r + b * r,
    ),
    (
        "residual through the gate, image added",
        "image and residual have changed places: your gate multiplies the residual, and the image is added as it is. "
        "Then nothing of the image can ever be dropped.",
        lambda x, t, g, r, a, b: a * x + b * torch.sigmoid(g) * r,
        lambda x, t, g, r, a, b: a * torch.sigmoid(g) * r + b * x,
    ),
    (
        "both through the gate",
        "your gate multiplies the sum of image and residual. Where it is shut, the new could not come in either: gate "
        "the image alone.",
        lambda x, t, g, r, a, b: torch.sigmoid(g) * (a * x + b * r),
        lambda x, t, g, r, a, b: a * torch.sigmoid(g) * (x + b * r),
        lambda x, t, g, r, a, b: torch.sigmoid(g) * (x + r),
    ),
    (
        "text through the gate",
        "your gate multiplies the text. It is the image that is let through; the text works through gate and residual.",
        lambda x, t, g, r, a, b: a * torch.sigmoid(g) * t + b * r,
    ),
    (
        "one minus the gate",
        "your gate is turned round: 1 - sigmoid is open where it should be shut.",
        lambda x, t, g, r, a, b: a * (1 - torch.sigmoid(g)) * x + b * r,
    ),
    (
        "branches exchanged",
        "gate and residual have changed places: the sigmoid belongs to gate.",
        lambda x, t, g, r, a, b: a * torch.sigmoid(r) * x + b * g,
    ),
    (
        "image not gated",
        "the image is let through whole. It is multiplied by the sigmoid of the gate, number by number.",
        lambda x, t, g, r, a, b: a * x + b * r,
    ),
)
TEXT_FIRST = (
    "text before image",
    "you put the text first: [text, image]. The layers were built for [image, text], and shapes do not tell.",
)


class _PsiFirst(Exercise):
    """Gradients are shown only where psi is right: of a wrong psi they say nothing new."""

    def _came(self, expected: dict, got: dict, arguments: tuple) -> str:
        if not self._agree(got["psi"], expected["psi"], arguments):
            expected, got = {"psi": expected["psi"]}, {"psi": got["psi"]}
        return super()._came(expected, got, arguments)


_gate_and_residual = _PsiFirst(
    name="gate_and_residual",
    inputs=_vectors,
    reference=_by_hand,
    mistakes=(
        *(Mistake(name, hint, _gradients(_compose(mix))) for name, hint, *mixes in FORMULAS for mix in mixes),
        Mistake(*TEXT_FIRST, _gradients(_compose(both=lambda image, text: torch.cat([text, image], dim=1)))),
        Mistake(
            "detached",
            "the numbers are right, but no gradient comes back: nothing would be learned. Stay with tensors: no "
            "detach(), no .data, no numpy, no torch.no_grad().",
            _gradients(lambda *a: _compose()(*a).detach()),
        ),
        *(
            Mistake(
                f"{name} detached",
                f"the numbers are right, only the gradients differ: none goes through {name}, and its layers would "
                f"never learn. Leave {name}(...) attached.",
                _gradients(_compose(mix)),
            )
            for name, mix in (
                ("gate", lambda x, t, g, *rest: _paper(x, t, g.detach(), *rest)),
                ("residual", lambda x, t, g, r, *weights: _paper(x, t, g, r.detach(), *weights)),
            )
        ),
        Mistake(
            "weights as plain numbers",
            "the numbers are right, but weights gets no gradient: .item(), float() and tolist() cut it off. weights[0] "
            "is a tensor, multiply by that. Both weights are learned.",
            _gradients(lambda *a: _compose()(*a[:-1], a[-1].detach())),
        ),
        Mistake(
            "image detached",
            "the numbers are right, but image gets no gradient: the image encoder would not learn from queries.",
            _gradients(lambda image, *a: _compose()(image.detach(), *a)),
        ),
        Mistake(
            "text detached",
            "the numbers are right, but text gets no gradient: the text encoder would never learn to read.",
            _gradients(lambda image, text, *a: _compose()(image, text.detach(), *a)),
        ),
    ),
    well_done="The image is let through, the rest is added, and the gradient finds its way to all of them.",
)


def gate_and_residual(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(image, text, gate, residual, weights)`` and the gradients of the sum of what it returns."""
    return _gate_and_residual(_gradients(answer) if callable(answer) else answer, seed)


def _maps(rng: np.random.Generator) -> tuple:
    """Maps with as many channels as the text has numbers; else no two sizes are the same."""
    B, k, h, w = rng.permutation([2, 3, 4, 5]).tolist()
    parts = rng.normal(size=(B, k, h, w)), rng.normal(size=(B, k)), *rng.normal(size=(2, k, 2 * k, 3, 3)) / 2
    return *(torch.from_numpy(part) for part in parts), torch.from_numpy(rng.uniform(0.3, 3.0, size=2))


def _convolved(compose: Callable) -> Callable:
    """psi with gate and residual that look at a place and its neighbours."""

    def answer(image, text, K_gate, K_residual, weights):
        B, _, h, w = image.shape
        gate, residual = (
            _branch(name, lambda both, K=K: F.conv2d(both, K, padding=1), (B, K.shape[1], h, w))
            for name, K in [("gate", K_gate), ("residual", K_residual)]
        )
        try:
            psi = compose(image, text, gate, residual, weights)
        except RuntimeError as error:  # no size of the inputs is 1
            if re.search(r"same number of dimensions|[sS]ize 1\b|expanded size", str(error)):
                said = "the text needs two more axes, expanded to h and w: (B, k, h, w)"
                raise ValueError(f"{said}. torch says: {error}") from error
            raise
        return None if psi is None else _composed(psi, image)

    return answer


def _place_by_place(image, text, K_gate, K_residual, weights) -> np.ndarray:
    """Every place and its neighbours in turn; beyond the edge there is neither image nor text."""
    image, text, K_gate, K_residual, weights = (x.numpy() for x in (image, text, K_gate, K_residual, weights))
    B, _, h, w = image.shape
    psi = np.zeros_like(image)
    for i, y, x in np.ndindex(B, h, w):
        g, r = 0.0, 0.0
        for v in range(max(y - 1, 0), min(y + 2, h)):
            for u in range(max(x - 1, 0), min(x + 2, w)):
                there = np.concatenate([image[i, :, v, u], text[i]])
                g = g + K_gate[:, :, v - y + 1, u - x + 1] @ there
                r = r + K_residual[:, :, v - y + 1, u - x + 1] @ there
        psi[i, :, y, x] = weights[0] * image[i, :, y, x] / (1 + np.exp(-np.tanh(g))) + weights[1] * np.tanh(r)
    return psi


def _tiled(tile: Callable) -> Callable:
    """The paper's formula on a text that ``tile(text, h, w)`` has brought to (B, k, h, w)."""
    return _compose(both=lambda image, text: _side_by_side(image, tile(text, *image.shape[2:])))


def _everywhere(text, h, w):
    return text[:, :, None, None].expand(-1, -1, h, w)


def _at(place: Callable) -> Callable:
    """The text at one place, zeros elsewhere."""

    def tile(text, h, w):
        y, x = place(h, w)
        return F.pad(text[:, :, None, None], (x, w - 1 - x, y, h - 1 - y))

    return tile


def _pooled(x):
    return x.mean(dim=(2, 3), keepdim=True)


def _with_text_everywhere(mix: Callable = _paper, look: Callable = lambda image: image, text_first=False) -> Callable:
    def both(image, text):
        parts = [look(image).expand_as(image), _everywhere(text, *image.shape[2:])]
        return torch.cat(parts[::-1] if text_first else parts, dim=1)

    return _compose(lambda x, t, *rest: mix(x, t[:, :, None, None], *rest), both)


_at_the_map = Exercise(
    name="at_the_map",
    inputs=_maps,
    reference=_place_by_place,
    mistakes=(
        Mistake(
            "numbers of the text mixed",
            "you repeat the whole text and view the row as a map. A view keeps the order of the numbers: a channel "
            "then holds all of the text in turn, not one number of it everywhere. Add two axes, then expand.",
            _convolved(_tiled(lambda text, h, w: text.repeat(1, h * w).view(*text.shape, h, w))),
        ),
        Mistake(
            "texts of the batch mixed",
            "you repeat the batch, h w times over, and view that as maps: the numbers of one text come to stand in "
            "the maps of other queries. Add two axes, then expand.",
            _convolved(_tiled(lambda text, h, w: text.repeat(h * w, 1).view(*text.shape, h, w))),
        ),
        Mistake(
            "text laid along the rows",
            "in your map of the text the rows differ: its numbers run along h. They belong along the channels: number "
            "j fills channel j, the same in all rows.",
            _convolved(
                _tiled(lambda text, h, w: text.repeat(1, h).repeat_interleave(w, dim=1).view(*text.shape, h, w))
            ),
        ),
        Mistake(
            "text laid along the columns",
            "in your map of the text the columns differ: its numbers run along w. They belong along the channels: "
            "number j fills channel j, the same in all columns.",
            _convolved(_tiled(lambda text, h, w: text.repeat(1, w).view(len(text), -1, 1, w).expand(-1, -1, h, -1))),
        ),
        *(
            Mistake(
                "text at one place",
                "the text stands at one place of the map, with zeros elsewhere. A convolution sees a place and its "
                "neighbours: all others would never hear of the text.",
                _convolved(_tiled(_at(place))),
            )
            for place in (lambda h, w: (0, 0), lambda h, w: (h // 2, w // 2))
        ),
        Mistake(
            "mean text of the batch",
            "all queries of the batch get the same text, their mean. Each has its own.",
            _convolved(_tiled(lambda text, h, w: _everywhere(text.mean(dim=0).expand_as(text), h, w))),
        ),
        Mistake(
            "first text of the batch",
            "all queries of the batch get the text of the first. Each has its own.",
            _convolved(_tiled(lambda text, h, w: _everywhere(text[:1].expand_as(text), h, w))),
        ),
        Mistake(
            "no text",
            "your map of the text is empty: zeros everywhere.",
            _convolved(_tiled(lambda text, h, w: _everywhere(torch.zeros_like(text), h, w))),
        ),
        Mistake(
            "pooled first",
            "you take the mean of the image over all places before you compose. Where something stands is lost then; "
            "the pool comes after.",
            _convolved(_with_text_everywhere(lambda x, *rest: _paper(_pooled(x), *rest), look=_pooled)),
        ),
        Mistake(
            "branches read the pooled image",
            "gate and residual read the mean of the image over all places: they cannot see what stands where. Give "
            "them the map.",
            _convolved(_with_text_everywhere(look=_pooled)),
        ),
        *(
            Mistake(
                "gate averaged over the places",
                "your gate is averaged over h and w: the same is let through everywhere. Each place has a gate of its "
                "own; what the text changes stands at some places only.",
                _convolved(_with_text_everywhere(mix)),
            )
            for mix in (
                lambda x, t, g, r, a, b: a * _pooled(torch.sigmoid(g)) * x + b * r,
                lambda x, t, g, r, a, b: a * torch.sigmoid(_pooled(g)) * x + b * r,
            )
        ),
        *(
            Mistake(name, hint, _convolved(_with_text_everywhere(mix)))
            for name, hint, *mixes in FORMULAS
            for mix in mixes
        ),
        Mistake(*TEXT_FIRST, _convolved(_with_text_everywhere(text_first=True))),
    ),
    well_done="Every place knows the whole text, and decides for itself.",
)


def at_the_map(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(image, text, gate, residual, weights)`` on maps."""
    return _at_the_map(_convolved(answer) if callable(answer) else answer, seed)


def _searches(rng: np.random.Generator) -> tuple:
    """Twelve queries against sixteen pictures of six captions; scores all below 0 in half of the trials.

    The first asks for what its source alone has; the second for what its source has, and others as well. k is small,
    or reaches the last place, or the one before.
    """
    captions = rng.permutation([5, *range(5), *range(5), *rng.integers(0, 5, size=5)])
    source, asked = rng.integers(0, 16, size=12), rng.integers(0, 5, size=12)
    source[0], asked[0] = captions.argmax(), 5
    source[1] = np.flatnonzero(captions == asked[1])[0]
    sim = rng.normal(size=(12, 16)) - float(rng.choice([0.0, 10.0]))
    sim[np.arange(12), source] += 2.0
    return sim, source, asked, captions, int(rng.choice([1, 2, 3, 4, 15, 16]))


def _search_by_search(sim, source, asked, captions, k) -> float:
    hits = 0
    for scores, own, wanted in zip(sim, source, asked, strict=True):
        others = sorted((j for j in range(len(scores)) if j != own), key=lambda j: -scores[j])
        hits += any(captions[j] == wanted for j in others[:k])
    return hits / len(sim)


def _recall(
    *, out="own", fill=-np.inf, upwards=False, places=lambda k: slice(k), right="asked", total="any", refuse=True
) -> Callable:
    """Recall at k with one slip; ``refuse``: the source is no hit wherever it stands."""

    def answer(sim, source, asked, captions, k):
        rows = np.arange(len(sim))
        sim = sim.copy()
        if out == "own":
            sim[rows, source] = fill
        elif out in ("all", "gone"):
            sim[:, source] = -np.inf
        top = np.argsort(sim if upwards else -sim, axis=1)[:, places(k)]
        if out == "shifted":  # deleted, not masked: behind it all ids are one too low
            rest = np.stack([np.delete(scores, own) for scores, own in zip(sim, source, strict=True)])
            top = np.argsort(-rest, axis=1)[:, :k]
        wanted = captions[source] if right == "source" else asked
        there = captions[None] == asked[:, None]
        picture = {"id": asked, "first": there.argmax(axis=1)}.get(right)
        hit = captions[top] == wanted[:, None] if picture is None else top == picture[:, None]
        if out == "gone":  # not even at the last places
            hit = hit & ~np.isin(top, source)
        elif refuse and out != "shifted":
            hit = hit & (top != source[:, None])
        left = there & (np.arange(len(captions)) != source[:, None])
        return float(
            {
                "any": lambda: hit.any(axis=1).mean(),
                "skip": lambda: hit.any(axis=1)[left.any(axis=1)].mean(),
                "own": lambda: (hit.any(axis=1) | there[rows, source]).mean(),
                "k": lambda: (hit.sum(axis=1) / k).mean(),
                "there": lambda: (hit.sum(axis=1) / there.sum(axis=1)).mean(),
                "left": lambda: (hit.sum(axis=1) / left.sum(axis=1).clip(1)).mean(),
                "hits": lambda: hit.sum(axis=1).mean(),
                "queries": lambda: hit.any(axis=1).sum(),
                "percent": lambda: 100 * hit.any(axis=1).mean(),
            }[total]()
        )

    return answer


# What is counted wrongly, whether or not the source, put last, is refused: name, hint, one or more ways.
RECALLS = (
    (
        "sources of all queries dropped",
        "you drop the sources of ALL queries from every gallery. A query loses its own source only: the source of one "
        "may be the right answer to another.",
        {"out": "all"},
        {"out": "gone"},
    ),
    (
        "source counted as a hit",
        "a query whose source has the asked caption is a hit with you, whatever else is found. The source is no "
        "answer: if it is the only right picture, the query is a miss.",
        {"total": "own"},
    ),
    (
        "queries without an answer skipped",
        "you leave out queries whose only right picture is their source. They are misses, and count in the mean.",
        {"total": "skip"},
    ),
    (
        "masked by zero",
        "you set the source's score to 0. Where all scores are negative, 0 is the best of all: use minus infinity.",
        {"fill": 0.0},
    ),
    (
        "first place taken for the source",
        "you drop the first place, as if the source always stood there. It mostly does, not always: look for its id.",
        {"out": "nobody", "places": lambda k: slice(1, k + 1)},
    ),
    (
        "ids shifted",
        "you delete the source from the scores, but not from captions: behind it every id is one too low. Set its "
        "score to minus infinity instead.",
        {"out": "shifted"},
    ),
    (
        "sorted upwards",
        "you take the k LOWEST scores: argsort sorts upwards. Higher is closer: sort -sim.",
        {"upwards": True},
        {"upwards": True, "fill": np.inf},
        {"upwards": True, "out": "nobody"},
    ),
    (
        "precision",
        "you divide the right pictures among the first k by k: that is precision. R@k asks of a query, yes or no: is "
        "any right picture among them?",
        {"total": "k"},
    ),
    (
        "divided by the right pictures",
        "you divide by the number of right pictures: that is recall as in information retrieval. R@k asks of a query, "
        "yes or no: is any right picture among the first k?",
        {"total": "there"},
        {"total": "left"},
    ),
    (
        "counts hits, not queries",
        "several right pictures of one query count several times. A query is found or not: one hit at most.",
        {"total": "hits"},
    ),
    ("a count", "you return how many queries are hits. Asked for is their fraction.", {"total": "queries"}),
    ("percent", "you return percent. Asked for is a fraction, 0 to 1: leave out the factor 100.", {"total": "percent"}),
    ("first match only", "you seek one picture. Any that has the asked caption is right.", {"right": "first"}),
    ("first place only", "you look at the best alone, which is R@1: look at k.", {"places": lambda k: slice(1)}),
    (
        "caption of the source",
        "you look for pictures with the SOURCE's caption. Right are those with the asked one.",
        {"right": "source"},
    ),
    ("caption taken for a picture", "asked holds ids of captions, not of pictures. Look them up.", {"right": "id"}),
    ("one too many", "you look at k + 1: without the source, k are enough.", {"places": lambda k: slice(k + 1)}),
)

_sim = np.array([[-1.0, -2.0, -3.0, -4.0, -5.0], [-5.0, -4.0, -1.0, -2.0, -3.0]])

recall_at_k = Exercise(
    name="recall_by_caption",
    inputs=_searches,
    reference=_search_by_search,
    always=(
        # scores below 0; two right pictures among the first two; a right one just behind a wrong one
        (_sim, np.array([0, 3]), np.array([1, 3]), np.array([0, 1, 1, 2, 3]), 2),
        # the first source alone has what is asked, and k reaches the last place, or the one before
        *((_sim, np.array([0, 3]), np.array([0, 1]), np.array([0, 1, 1, 2, 3]), k) for k in (5, 4)),
    ),
    mistakes=(
        Mistake(
            "source, put last, counts",
            "the source, put last, still counts when k reaches the last place. Minus infinity does not take it out of "
            "the list: it is no hit, wherever it stands.",
            _recall(refuse=False),
        ),
        Mistake(
            "source in its own gallery",
            "the source stays in its query's gallery: it takes a place among the first k, and where it has the asked "
            "caption itself it counts as found. Leave each query's own source out.",
            _recall(out="nobody", refuse=False),
        ),
        Mistake(
            "source takes a place",
            "the source does not count as a hit, but it takes one of the k places. Leave it out before you take the k "
            "best.",
            _recall(out="nobody"),
        ),
        *(
            Mistake(name, hint, _recall(refuse=refuse, **how))
            for name, hint, *ways in RECALLS
            for how in ways
            for refuse in (True, False)
        ),
    ),
    well_done="Whoever asks is out of the way, and nobody else.",
)

# Some of them stand inside others: red in layered, lace in necklace, top in stop.
WORDS = ("red", "blue", "white", "layered", "lace", "necklace", "top", "stop", "long", "belong", "silk", "dress", "hem")


def _two_captions(rng: np.random.Generator) -> tuple[str, str]:
    """Two captions of 3 to 5 words, one apart or not."""
    source = rng.choice(WORDS, size=rng.integers(3, 6), replace=False).tolist()
    new = rng.choice([word for word in WORDS if word not in source], size=2, replace=False).tolist()
    i, j = rng.choice(len(source), size=2, replace=False).tolist()
    target = source.copy()
    kind = str(rng.choice(["one", "one", "two", "none", "longer", "longer and one", "turned", "moved", "repeated"]))
    if kind in ("one", "two", "longer and one", "moved"):
        target[i] = new[0]
    if kind == "two":
        target[j] = new[1]
    elif kind == "turned":
        target[i], target[j] = target[j], target[i]
    elif kind == "moved":
        target = target[1:] + target[:1]
    elif kind == "repeated":  # the word that goes stays elsewhere, or the one that comes was there
        target[i] = source[j]
    elif kind.startswith("longer"):
        target.append(new[1])
    pair = " ".join(source), " ".join(target)
    return pair[::-1] if rng.random() < 0.5 else pair


def _told(answer: Callable) -> Callable:
    """The sentence in a dict, where None is an answer like others."""

    def said(source, target):
        sentence = answer(source, target)
        return {"sentence": sentence if sentence is None or isinstance(sentence, str) else f"{sentence!r}, no string"}

    return said


def _by_cutting(source, target) -> str | None:
    """The words before some place are the same, those behind it too, the captions are not."""
    s, t = source.split(), target.split()
    if len(s) == len(t) and s != t:
        for i in range(len(s)):
            if s[:i] + s[i + 1 :] == t[:i] + t[i + 1 :]:
                return f"replace {s[i]} with {t[i]}"
    return None


def _sentence(pairs: list, *, many=False, pick=0) -> str | None:
    """The sentence of the only pair of words, or of one of ``many``."""
    return f"replace {pairs[pick][0]} with {pairs[pick][1]}" if len(pairs) == 1 or (many and pairs) else None


def _at_places(*, lengths=True, same=False, turned=False, **choice) -> Callable:
    """Word against word with one slip; ``same``: equal captions get their last word."""

    def answer(source, target):
        s, t = (target.split(), source.split()) if turned else (source.split(), target.split())
        if lengths and len(s) != len(t):
            return None
        pairs = [(x, y) for x, y in zip(s, t, strict=False) if x != y]
        return _sentence(pairs or [(s[-1], t[-1])] if same else pairs, **choice)

    return answer


def _by_words(*, inside="words", lengths=True, once=True, last=False) -> Callable:
    """Words of one caption that the other has not, each ``once`` or as often as it stands there; ``last``: the first
    of them, and the last word if there is none."""

    def answer(source, target):
        s, t = source.split(), target.split()
        if inside == "counts":
            gone, new = (list((Counter(a) - Counter(b)).elements()) for a, b in ((s, t), (t, s)))
        else:
            gone = [word for word in s if word not in (target if inside == "text" else t)]
            new = [word for word in t if word not in (source if inside == "text" else s)]
            gone, new = (list(dict.fromkeys(words)) if once else words for words in (gone, new))
        if last:
            return _sentence([((gone or s[-1:])[0], (new or t[-1:])[0])])
        fits = len(gone) == len(new) == 1 and (not lengths or len(s) == len(t))
        return _sentence([(gone[0], new[0])]) if fits else None

    return answer


def _in_the_text(fits: Callable, same: bool = False) -> Callable:
    """The first two words that make the captions fit when the text is searched for them."""

    def answer(source, target):
        for x in source.split():
            for y in target.split():
                if (same or x != y) and fits(source, target, x, y):
                    return f"replace {x} with {y}"
        return None

    return answer


def _mistakes(name: str, hint: str, *answers: Callable) -> tuple[Mistake, ...]:
    """One mistake made in several ways."""
    return tuple(Mistake(name, hint, _told(answer)) for answer in answers)


_replaced_words = Exercise(
    name="replaced_words",
    inputs=_two_captions,
    reference=_told(_by_cutting),
    trials=20,
    always=(
        ("red layered dress", "blue layered dress"),
        ("red layered dress", "blue lace dress"),
        ("long silk dress", "long silk dress"),
        ("long silk dress", "long lace dress top"),
        ("long silk dress", "long silk dress top"),
        ("red silk top", "silk blue top"),
        ("red silk top", "top silk red"),
        ("red silk red top", "red silk blue top"),
        ("red silk blue top", "red silk red top"),
        ("red silk red top", "blue silk blue top"),
    ),
    mistakes=(
        *_mistakes(
            "always None",
            "you return None for every pair. Does the path with the sentence end in a return?",
            lambda source, target: None,
        ),
        *_mistakes(
            "empty string",
            "where no sentence fits you return '', a string like others. Return None.",
            lambda source, target: _by_cutting(source, target) or "",
        ),
        *_mistakes(
            "X and Y swapped",
            "X and Y have changed places: the source's word is replaced WITH the target's.",
            _at_places(turned=True),
        ),
        *_mistakes(
            "lengths ignored",
            "zip stops at the end of the shorter caption: a caption with a word more passes. Compare the numbers of "
            "words first.",
            _at_places(lengths=False),
        ),
        *_mistakes(
            "last word of equal captions",
            "two equal captions get a sentence, made of their last words: nothing was found, and the loop's last words "
            "were left over. Where nothing differs, return None.",
            _at_places(same=True),
            _at_places(same=True, lengths=False),
        ),
        *_mistakes(
            "first difference only",
            "you stop at the first difference. Two captions that differ at two places are not one word apart: look at "
            "all places.",
            _at_places(many=True),
            _at_places(many=True, lengths=False),
        ),
        *_mistakes(
            "last difference only",
            "you keep the last difference and forget the others. Two captions that differ at two places are not one "
            "word apart.",
            _at_places(many=True, pick=-1),
            _at_places(many=True, pick=-1, lengths=False),
        ),
        *_mistakes(
            "sets of words",
            "you ask which words the other caption has not. So the captions are sets, which know neither the order of "
            "words nor that one stands there twice: 'red silk red top' to 'red silk blue top' is lost. Compare place "
            "by place.",
            *(_by_words(lengths=lengths, once=once) for lengths in (True, False) for once in (True, False)),
        ),
        *_mistakes(
            "words counted",
            "you compare how often each word occurs. Where it stands is lost: captions with the same words in another "
            "order differ at several places. Compare place by place.",
            _by_words(inside="counts"),
            _by_words(inside="counts", lengths=False),
        ),
        *_mistakes(
            "first word the other has not",
            "you take the first word of each caption that the other has not, and the last word where there is none. So "
            "every pair gets a sentence. Compare place by place, and count the places.",
            _by_words(last=True),
            _by_words(last=True, inside="text"),
        ),
        *_mistakes(
            "words sought in the text",
            "you seek a word in the caption's text, and 'red' in 'blue layered dress' is True: it stands in layeRED. "
            "Split both captions into words.",
            *(
                _by_words(inside="text", lengths=lengths, once=once)
                for lengths in (True, False)
                for once in (True, False)
            ),
        ),
        *_mistakes(
            "cut out of the text",
            "you change the caption's text with str.replace, which changes every occurrence, also inside other words: "
            "'red layered dress' without 'red' is ' laye dress'. Split both captions into words.",
            *(
                _in_the_text(fits, same)
                for same in (False, True)
                for fits in (
                    lambda source, target, x, y: source.replace(x, "") == target.replace(y, ""),
                    lambda source, target, x, y: source.replace(x, y) == target,
                )
            ),
        ),
    ),
    well_done="One word, at one place, or no sentence at all.",
)


def _in_other_words(answer: Callable) -> Callable:
    """The learner's own sentence where it names the right words in turn, else the right answer."""

    def said(source, target):
        expected, sentence = _by_cutting(source, target), answer(source, target)
        if expected is None or not isinstance(sentence, str):
            return expected
        _, x, _, y = expected.split()
        return sentence if re.search(rf"\b{x}\b.*\b{y}\b", sentence, re.DOTALL | re.IGNORECASE) else expected

    return said


def replaced_words(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(source, target)``, a sentence or None."""
    if not callable(answer):
        return _replaced_words(answer, seed)
    hint = (
        "you find the right words, but your sentence is another. Write exactly 'replace X with Y', nothing around it."
    )
    in_other_words = _mistakes("sentence in other words", hint, _in_other_words(answer))
    return replace(_replaced_words, mistakes=_replaced_words.mistakes + in_other_words)(_told(answer), seed)
