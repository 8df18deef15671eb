"""Four proofs of each check of chapter 07: stub, solution, wrong answers by name, a right answer made otherwise."""

from collections import Counter
from itertools import zip_longest

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from commonspace import metrics
from commonspace.checks import ch07
from commonspace.models import TIRG


@pytest.mark.parametrize("exercise", ["gate_and_residual", "at_the_map", "recall_at_k", "replaced_words"])
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch07, exercise)
    assert check(stub("07", exercise)).status == "not attempted"
    assert check(solution("07", exercise)).status == "passed"
    assert "Pass the function itself" in check(3).message


def opened(logits):
    return 1 / (1 + (-logits).exp())


def with_slip(slip, *, spread=lambda image, text: text, order=(0, 1), dim=1, stop=()):
    """A composer whose last line is ``slip(image, text, logits, residual, weights)``; ``stop``: what is detached."""

    def compose(image, text, gate, residual, weights):
        image, text, weights = (
            part.detach() if name in stop else part
            for name, part in [("image", image), ("text", text), ("weights", weights)]
        )
        spread_out = spread(image, text)
        parts = [image, spread_out]
        z = torch.cat([parts[i] for i in order], dim=dim)
        return slip(image, spread_out, gate(z), residual(z), weights)

    return compose


def right(x, t, g, r, w):
    return w[0] * opened(g) * x + w[1] * r


FORMULAS = [
    (lambda x, t, g, r, w: w[0] * opened(g.mul(x)) + w[1] * r, "sigmoid of the product", "logits alone"),
    (lambda x, t, g, r, w: w[0] * x * g + w[1] * r, "no sigmoid", "between 0 and 1"),
    (lambda x, t, g, r, w: w[0] * F.softmax(g, dim=1) * x + w[1] * r, "softmax", "opens each by itself"),
    (lambda x, t, g, r, w: w[0] * x * (g.exp() / g.exp().sum(-1, keepdim=True)) + w[1] * r, "softmax", "share 1"),
    (lambda x, t, g, r, w: w[0] * (g - g.logsumexp(0)).exp() * x + w[1] * r, "softmax", "shuts the others"),
    (
        lambda x, t, g, r, w: w[0] * (opened(g).sum(1) / g.shape[1]).unsqueeze(1) * x + w[1] * r,
        "gate averaged over the channels",
        "a gate of its own",
    ),
    (
        lambda x, t, g, r, w: right(x, t, g.mean(1)[:, None], r, w),
        "gate averaged over the channels",
        "over dimension 1",
    ),
    (
        lambda x, t, g, r, w: right(x, t, g, r, w) / right(x, t, g, r, w).square().sum(1, keepdim=True).sqrt(),
        "psi normalised",
        "length 1",
    ),
    (lambda x, t, g, r, w: right(x, t, g, r, w.flip(0)), "weights swapped", "other way round"),
    (lambda x, t, g, r, w: right(x, t, g, r, torch.ones(2)), "weights forgotten", "a weight of its own"),
    (lambda x, t, g, r, w: right(r, t, g, r, w), "residual through the gate", "where the image should stand"),
    (lambda x, t, g, r, w: right(r, t, g, x, w), "residual through the gate, image added", "changed places"),
    (lambda x, t, g, r, w: w[1] * opened(g) * r + w[0] * x, "residual through the gate, image added", "be dropped"),
    (lambda x, t, g, r, w: w[0] * x * opened(g) + w[1] * r * opened(g), "both through the gate", "gate the image"),
    (lambda x, t, g, r, w: w[0] * opened(g) * (x + w[1] * r), "both through the gate", "the new could not come in"),
    (lambda x, t, g, r, w: opened(g) * (x + r), "both through the gate", "sum of image and residual"),
    (lambda x, t, g, r, w: right(t, t, g, r, w), "text through the gate", "It is the image"),
    (lambda x, t, g, r, w: right(x, t, -g, r, w), "one minus the gate", "turned round"),
    (lambda x, t, g, r, w: right(x, t, r, g, w), "branches exchanged", "belongs to gate"),
    (lambda x, t, g, r, w: w[0] * x + w[1] * r, "image not gated", "let through whole"),
]


@pytest.mark.parametrize(("slip", "mistake", "words"), FORMULAS)
def test_wrong_formulas_get_their_hint_with_vectors_and_at_the_map(slip, mistake, words):
    for check, spread in [(ch07.gate_and_residual, lambda image, text: text), (ch07.at_the_map, everywhere)]:
        result = check(with_slip(slip, spread=spread))
        assert (result.status, result.mistake) == ("failed", mistake)
        assert words in result.message


@pytest.mark.parametrize(
    ("how", "mistake", "words"),
    [
        ({"order": (1, 0)}, "text before image", "shapes do not tell"),
        ({"stop": ("image", "text", "weights")}, "detached", "no gradient comes back"),
        ({"stop": ("weights",)}, "weights as plain numbers", "Both weights are learned"),
        ({"stop": ("image",)}, "image detached", "image encoder would not learn"),
        ({"stop": ("text",)}, "text detached", "never learn to read"),
    ],
)
def test_wrong_orders_and_lost_gradients_get_their_hint(how, mistake, words):
    result = ch07.gate_and_residual(with_slip(right, **how))
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


@pytest.mark.parametrize(
    ("slip", "mistake"),
    [
        (lambda x, t, g, r, w: right(x, t, g.detach(), r, w), "gate detached"),
        (lambda x, t, g, r, w: right(x, t, g.data, r, w), "gate detached"),
        (lambda x, t, g, r, w: right(x, t, g, r.detach(), w), "residual detached"),
    ],
)
def test_a_branch_without_gradient_gets_its_hint(slip, mistake):
    result = ch07.gate_and_residual(with_slip(slip))
    assert (result.status, result.mistake) == ("failed", mistake)
    assert "only the gradients differ" in result.message
    assert "psi" not in result.message
    assert ch07.at_the_map(with_slip(slip, spread=everywhere)).status == "passed", "there the numbers are all"


def test_of_a_wrong_psi_no_gradient_is_shown():
    result = ch07.gate_and_residual(lambda x, t, g, r, w: x + 17.0)
    assert (result.status, result.mistake) == ("failed", None)
    assert "psi: expected an array of shape (7, 3)" in result.message
    assert "got an array of shape (7, 3)" in result.message
    assert "gradient" not in result.message


def test_numbers_taken_out_of_tensors_are_recognised():
    def items(image, text, gate, residual, weights):
        return with_slip(right)(image, text, gate, residual, [w.item() for w in weights])

    def without_gradient(*given):
        with torch.no_grad():
            return with_slip(right)(*given)

    def as_numpy(*given):
        return with_slip(right)(*given).detach().numpy()

    result = ch07.gate_and_residual(items)
    assert result.mistake == "weights as plain numbers"
    assert "gradient of weights: expected" in result.message, "whose gradient is wrong is named"
    assert "psi" not in result.message, "what is right is not shown"
    assert ch07.gate_and_residual(without_gradient).mistake == "detached"
    assert ch07.gate_and_residual(as_numpy).mistake == "detached"


def everywhere(image, text):
    ones = torch.ones_like(image[:, :1])
    return text[:, :, None, None] * ones


def test_what_does_not_fit_is_answered_in_words():
    stacked, shorter = with_slip(right, dim=0), with_slip(lambda *a: right(*a).sum(dim=1))
    assert "along dimension 1" in ch07.gate_and_residual(stacked).message
    assert "in the shape of image" in ch07.gate_and_residual(shorter).message
    apart = ch07.gate_and_residual(lambda x, t, g, r, w: w[0] * g(x, t)).message
    assert "gate takes one tensor of shape (7, 6)" in apart
    assert "got (7, 3) and (7, 3)" in apart
    assert "residual takes one tensor of shape" in ch07.at_the_map(lambda x, t, g, r, w: r(x, t)).message
    assert "got nothing" in ch07.at_the_map(lambda x, t, g, r, w: g()).message
    assert "got a list" in ch07.gate_and_residual(lambda x, t, g, r, w: w[0] * g([x, t])).message
    assert "in the shape of image" in ch07.gate_and_residual(lambda *a: 0.5).message
    for check in (ch07.gate_and_residual, ch07.at_the_map):
        assert "returned None" in check(lambda *a: None).message
    for dim in (0, 2, 3):
        assert "along dimension 1" in ch07.at_the_map(with_slip(right, spread=everywhere, dim=dim)).message
    pooled = with_slip(lambda *a: right(*a).mean(dim=(2, 3)), spread=everywhere)
    assert "in the shape of image" in ch07.at_the_map(pooled).message


@pytest.mark.parametrize(
    "spread",
    [
        lambda image, text: text,
        lambda image, text: text[:, :, None],
        lambda image, text: text[:, :, None, None],
        lambda image, text: text.expand(*text.shape, *image.shape[2:]),
        lambda image, text: text.expand(-1, -1, *image.shape[2:]),
    ],
)
def test_a_text_without_its_axes_is_answered_in_words(spread):
    for order in [(0, 1), (1, 0)]:
        for seed in range(3):
            result = ch07.at_the_map(with_slip(right, spread=spread, order=order), seed)
            assert result.status == "failed"
            assert "the text needs two more axes, expanded to h and w" in result.message


@pytest.mark.parametrize(
    "swapped",
    [
        lambda image, text: text[:, :, None, None].expand(-1, -1, image.shape[3], image.shape[2]),
        lambda image, text: text.view(*text.shape, 1, 1).repeat(1, 1, *image.mT.shape[2:]),
    ],
)
def test_height_and_width_swapped_stop_the_check(swapped):
    result = ch07.at_the_map(with_slip(right, spread=swapped))
    assert result.status == "failed"
    assert "Sizes of tensors must match" in result.message
    assert "two more axes" not in result.message, "it has them"

    def turned(image, text, gate, residual, weights):
        return with_slip(right, spread=everywhere)(image.mT, text, gate, residual, weights).mT

    assert "gate takes one tensor of shape" in ch07.at_the_map(turned).message


def test_a_map_changed_in_place_is_refused():
    def in_place(image, text, gate, residual, weights):
        z = torch.cat([image, everywhere(image, text)], dim=1)
        return image.mul_(torch.sigmoid(gate(z)) * weights[0]).add_(residual(z) * weights[1])

    assert "in place" in ch07.at_the_map(in_place).message
    assert "in-place" in ch07.gate_and_residual(lambda x, *rest: x.mul_(2.0)).message


def index(sizes, axis):
    """The index along ``axis`` at every place of an array of these sizes."""
    return np.indices(sizes)[axis]


def by_numbers(pick):
    """A map of the text whose number at (i, j, y, x) is text[pick(i, j, y, x, sizes)]."""

    def spread(image, text):
        sizes = (*text.shape, *image.shape[2:])
        i, j = pick(*(index(sizes, axis) for axis in range(4)), sizes)
        return text[torch.as_tensor(i), torch.as_tensor(j)]

    return spread


def lonely(y, x):
    def spread(image, text):
        out = torch.zeros(*text.shape, *image.shape[2:], dtype=text.dtype)
        out[:, :, y(image.shape[2]), x(image.shape[3])] = text
        return out

    return spread


def flat(i, j, y, x, sizes):
    """Where a number stands in the row of its query, and in the whole batch."""
    _, k, h, w = sizes
    in_row = (j * h + y) * w + x
    return in_row, i * k * h * w + in_row


@pytest.mark.parametrize(
    ("spread", "mistake", "words"),
    [
        (
            lambda image, text: text.repeat(1, image[0, 0].numel()).view(*text.shape, *image.shape[2:]),
            "numbers of the text mixed",
            "A view keeps the order",
        ),
        (
            lambda image, text: (
                text[:, None, None].expand(-1, *image.shape[2:], -1).reshape(*text.shape, *image.shape[2:])
            ),
            "numbers of the text mixed",
            "Add two axes",
        ),
        (by_numbers(lambda i, j, y, x, s: (i, flat(i, j, y, x, s)[0] % s[1])), "numbers of the text mixed", "in turn"),
        (
            by_numbers(lambda i, j, y, x, s: (flat(i, j, y, x, s)[1] // s[1] % s[0], flat(i, j, y, x, s)[1] % s[1])),
            "texts of the batch mixed",
            "maps of other queries",
        ),
        (
            lambda image, text: (
                text[:, None, :, None]
                .expand(-1, image.shape[2], -1, image.shape[3])
                .reshape(*text.shape, *image.shape[2:])
            ),
            "text laid along the rows",
            "the rows differ",
        ),
        (
            by_numbers(lambda i, j, y, x, s: (i, (j * s[3] + x) % s[1])),
            "text laid along the columns",
            "the columns differ",
        ),
        (lonely(lambda h: 0, lambda w: 0), "text at one place", "would never hear"),
        (lonely(lambda h: h // 2, lambda w: w // 2), "text at one place", "zeros elsewhere"),
        (lambda image, text: everywhere(image, text.mean(0).expand_as(text)), "mean text of the batch", "Each has"),
        (lambda image, text: everywhere(image, text[[0] * len(text)]), "first text of the batch", "Each has its own"),
        (lambda image, text: everywhere(image, 0 * text), "no text", "zeros everywhere"),
    ],
)
def test_wrong_maps_of_the_text_get_their_hint(spread, mistake, words):
    for seed in range(3):
        result = ch07.at_the_map(with_slip(right, spread=spread), seed)
        assert (result.status, result.mistake) == ("failed", mistake)
        assert words in result.message


def test_a_pooled_image_gets_its_hint():
    def pool(image):
        return F.adaptive_avg_pool2d(image, 1).expand_as(image)

    def first(image, *rest):
        return with_slip(right, spread=everywhere)(pool(image), *rest)

    def for_the_branches(image, text, gate, residual, weights):
        z = torch.cat([pool(image), everywhere(image, text)], dim=1)
        return right(image, text, gate(z), residual(z), weights)

    def text_first(image, text, gate, residual, weights):
        return with_slip(right, spread=everywhere, order=(1, 0))(image, text, gate, residual, weights)

    for answer, mistake, words in [
        (first, "pooled first", "the pool comes after"),
        (for_the_branches, "branches read the pooled image", "what stands where"),
        (text_first, "text before image", "shapes do not tell"),
    ]:
        result = ch07.at_the_map(answer)
        assert (result.status, result.mistake) == ("failed", mistake)
        assert words in result.message


@pytest.mark.parametrize(
    "average",
    [
        lambda x, t, g, r, w: w[0] * opened(g).mean(-1, True).mean(-2, True) * x + w[1] * r,
        lambda x, t, g, r, w: right(x, t, F.adaptive_avg_pool2d(g, 1), r, w),
    ],
)
def test_a_gate_averaged_over_the_places_gets_its_hint(average):
    result = ch07.at_the_map(with_slip(average, spread=everywhere))
    assert (result.status, result.mistake) == ("failed", "gate averaged over the places")
    assert "let through everywhere" in result.message


class Held(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, both):
        return self.function(both)


def by_the_library(image, text, gate, residual, weights):
    """The library's TIRG with the layers and the weights that were given."""
    at = "conv" if image.ndim == 4 else "fc"
    model = TIRG(image.shape[1], text.shape[1], image.shape[1], at=at)
    model.gate, model.residual = Held(gate), Held(residual)
    del model.weights
    model.weights = weights
    return model(image, text)


def test_gate_and_residual_made_otherwise_pass():
    def number_by_number(image, text, gate, residual, weights):
        z = torch.stack([torch.cat(pair) for pair in zip(image, text, strict=True)])
        terms = torch.stack([image / (1 + torch.exp(-gate(z))), residual(z)])
        return torch.einsum("w,wbd->bd", weights, terms)

    def place_by_place(image, text, gate, residual, weights):
        z = torch.empty(len(image), image.shape[1] + text.shape[1], *image.shape[2:], dtype=image.dtype)
        z[:, : image.shape[1]] = image
        for y in range(image.shape[2]):
            for x in range(image.shape[3]):
                z[:, image.shape[1] :, y, x] = text
        return (torch.stack([torch.sigmoid(gate(z)) * image, residual(z)], dim=-1) @ weights).numpy()

    assert ch07.gate_and_residual(with_slip(right)).status == "passed"
    assert ch07.gate_and_residual(number_by_number).status == "passed"
    assert ch07.gate_and_residual(by_the_library).status == "passed"
    assert ch07.at_the_map(with_slip(right, spread=everywhere)).status == "passed"
    assert ch07.at_the_map(place_by_place).status == "passed"
    assert ch07.at_the_map(by_the_library).status == "passed"


def by_ranks(
    sim, source, asked, captions, k, *, leaves="own", source_is="no answer", of="asked", up=False, more=0, count="hits"
):
    """Query by query, place by place, with a switch for each slip."""
    found = []
    for i, (own, wanted) in enumerate(zip(source.tolist(), asked.tolist(), strict=True)):
        out = {"own": {own}, "all": set(source.tolist()), "nobody": set()}[leaves]
        wanted = captions[own] if of == "source" else wanted
        answers = {j for j in range(len(captions)) if (j if of == "picture" else captions[j]) == wanted}
        if source_is == "refused":
            answers -= {own}
        order = sorted(set(range(len(captions))) - out, key=lambda j: sim[i, j] if up else -sim[i, j])
        places = [j in answers for j in order[: k + more]]
        if source_is == "a hit":
            places.append(own in answers)
        right_ones = len(answers - {own})
        found.append(
            {
                "hits": any(places),
                "share": sum(places) / k,
                "all": sum(places) / max(len(answers), 1),
                "left": sum(places) / max(right_ones, 1),
                "sum": sum(places),
                "answerable": any(places) if right_ones else np.nan,
            }[count]
        )
    return np.nanmean(found)


def masked(sim, source, asked, captions, k, value, sign=-1):
    sim = sim.copy()
    np.put_along_axis(sim, source[:, None], value, axis=1)
    top = np.argsort(sign * sim)[:, :k]
    return (captions[top] == asked[:, None]).any(axis=1).mean()


def all_masked(sim, source, asked, captions, k, own=False):
    best = (-np.where(np.isin(np.arange(sim.shape[1]), source), -np.inf, sim)).argsort()[:, :k]
    return ((captions[best] == asked[:, None]) & (own | (best != source[:, None]))).any(axis=1).mean()


def at_first_match(sim, source, asked, captions, k):
    targets = [captions.tolist().index(wanted) for wanted in asked]
    order = [[j for j in np.argsort(-row).tolist() if j != own] for row, own in zip(sim, source, strict=True)]
    return np.mean([target in row[:k] for target, row in zip(targets, order, strict=True)])


def deleted(sim, source, asked, captions, k):
    rest = sim[np.arange(sim.shape[1]) != source[:, None]].reshape(len(sim), -1)
    return np.mean([wanted in captions[np.argsort(-row)[:k]] for row, wanted in zip(rest, asked, strict=True)])


def first_dropped(sim, source, asked, captions, k):
    top = np.argsort(sim)[:, ::-1][:, 1 : k + 1]
    return np.mean([wanted in captions[row] for row, wanted in zip(top, asked, strict=True)])


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda *a: masked(*a, -np.inf), "source, put last, counts", "when k reaches the last place"),
        (lambda *a: by_ranks(*a, leaves="nobody"), "source in its own gallery", "takes a place"),
        (lambda *a: by_ranks(*a, leaves="nobody", source_is="refused"), "source takes a place", "before you take"),
        (lambda *a: by_ranks(*a, leaves="all"), "sources of all queries dropped", "its own source only"),
        (all_masked, "sources of all queries dropped", "ALL queries"),
        (lambda *a: all_masked(*a, own=True), "sources of all queries dropped", "the source of one"),
        (lambda *a: by_ranks(*a, source_is="a hit"), "source counted as a hit", "the query is a miss"),
        (lambda *a: by_ranks(*a, count="answerable"), "queries without an answer skipped", "They are misses"),
        (lambda *a: masked(*a, 0.0), "masked by zero", "minus infinity"),
        (first_dropped, "first place taken for the source", "look for its id"),
        (deleted, "ids shifted", "one too low"),
        (lambda *a: by_ranks(*a, up=True), "sorted upwards", "Higher is closer"),
        (lambda *a: by_ranks(*a, up=True, leaves="nobody"), "sorted upwards", "LOWEST"),
        (lambda *a: masked(*a, -np.inf, sign=1), "sorted upwards", "LOWEST"),
        (lambda *a: by_ranks(*a, count="share"), "precision", "that is precision"),
        (lambda *a: by_ranks(*a, count="all"), "divided by the right pictures", "information retrieval"),
        (lambda *a: by_ranks(*a, count="left"), "divided by the right pictures", "yes or no"),
        (lambda *a: by_ranks(*a, count="sum"), "counts hits, not queries", "one hit at most"),
        (lambda *a: len(a[0]) * by_ranks(*a), "a count", "their fraction"),
        (lambda *a: 100 * by_ranks(*a), "percent", "0 to 1"),
        (lambda *a: 100 * masked(*a, -np.inf), "percent", "the factor 100"),
        (at_first_match, "first match only", "Any that has"),
        (lambda *a: by_ranks(*a[:-1], 1), "first place only", "R@1"),
        (lambda *a: by_ranks(*a, of="source"), "caption of the source", "the asked one"),
        (lambda *a: by_ranks(*a, of="picture"), "caption taken for a picture", "ids of captions"),
        (lambda *a: by_ranks(*a, more=1), "one too many", "k are enough"),
    ],
)
def test_wrong_recalls_get_their_hint(answer, mistake, words):
    for seed in range(3):
        result = ch07.recall_at_k(answer, seed)
        assert (result.status, result.mistake) == ("failed", mistake)
        assert words in result.message
        assert result.message.startswith("recall_by_caption is not right yet"), "the learner's function is named"


def test_fresh_searches_reach_the_last_place():
    """Not only the fixed one: where the first query's source alone has what is asked, k = m makes the difference."""
    differs = {}
    for seed in range(60):
        given = ch07.recall_at_k.inputs(np.random.default_rng(seed))
        captions, source, asked, k, m = given[3], given[1][0], given[2][0], given[4], given[0].shape[1]
        assert np.flatnonzero(captions == asked).tolist() == [source]
        differs.setdefault(m - k, set()).add(masked(*given, -np.inf) != by_ranks(*given))
    assert differs[0] == {True}
    assert all(differs[others] == {False} for others in differs.keys() - {0})
    assert 1 in differs


def test_recalls_made_otherwise_pass_and_scores_stay_as_they_were():
    def in_torch(sim, source, asked, captions, k):
        scores = torch.tensor(sim).scatter(1, torch.tensor(source)[:, None], -torch.inf)
        top = scores.topk(k, dim=1).indices
        hit = (torch.tensor(captions)[top] == torch.tensor(asked)[:, None]) & scores.gather(1, top).isfinite()
        return hit.any(dim=1).float().mean()

    def by_the_library(sim, source, asked, captions, k):
        relevant = [np.flatnonzero(captions == wanted) for wanted in asked]
        return metrics.recall_at_k(sim, relevant, ks=(k,), exclude=source, no_relevant="miss")[k]

    def in_place(sim, source, asked, captions, k):
        sim[np.arange(len(sim)), source] = -np.inf
        return in_torch(sim, source, asked, captions, k)

    assert ch07.recall_at_k(by_ranks).status == "passed"
    assert ch07.recall_at_k(in_torch).status == "passed"
    assert ch07.recall_at_k(by_the_library).status == "passed"
    assert "changes its arguments in place" in ch07.recall_at_k(in_place).message


def by_zip(source, target, *, zipped=zip_longest, most=1, take=0, fallback=False, swapped=False):
    """Word by word with a switch for each slip."""
    s, t = (caption.split() for caption in ((target, source) if swapped else (source, target)))
    apart = [(a, b) for a, b in zipped(s, t) if a != b]
    if not apart and fallback:
        apart = [(s[-1], t[-1])]
    if not 0 < len(apart) <= most or any(word is None for pair in apart for word in pair):
        return None
    return "replace {} with {}".format(*apart[take])


def by_sets(source, target, *, same_length=True):
    s, t = source.split(), target.split()
    gone, new = set(s) - set(t), set(t) - set(s)
    if len(gone) != 1 or len(new) != 1 or (same_length and len(s) != len(t)):
        return None
    return f"replace {gone.pop()} with {new.pop()}"


def by_lists(source, target):
    s, t = source.split(), target.split()
    pairs = [(a, b) for a in s if a not in t for b in t if b not in s]
    return "replace {} with {}".format(*pairs[0]) if len(pairs) == 1 else None


def by_counts(source, target):
    apart = Counter(target.split())
    apart.subtract(source.split())
    gone = [word for word, n in apart.items() if n < 0]
    new = [word for word, n in apart.items() if n > 0]
    return f"replace {gone[0]} with {new[0]}" if [apart[w] for w in gone + new] == [-1, 1] else None


def by_leftovers(source, target, *, other=str.split):
    """Two loops that stop at the first word the other caption has not, or run to their end."""
    for s in source.split():
        if s not in other(target):
            break
    for t in target.split():
        if t not in other(source):
            break
    return f"replace {s} with {t}"


def sought_in_the_text(source, target):
    gone = [word for word in source.split() if word not in target]
    new = [word for word in target.split() if word not in source]
    if len(gone) == 1 and len(new) == 1 and source.count(" ") == target.count(" "):
        return f"replace {gone[0]} with {new[0]}"
    return None


def cut_out(source, target, *, fits, same=False):
    found = [(s, t) for s in source.split() for t in target.split() if fits(s, t) and (same or s != t)]
    return f"replace {found[0][0]} with {found[0][1]}" if found else None


def put_in(source, target):
    return cut_out(source, target, fits=lambda s, t: source.replace(s, t) == target)


def parents(source, target):
    return cut_out(source, target, fits=lambda s, t: source.replace(s, "") == target.replace(t, ""), same=True)


def short(source, target):
    return by_zip(source, target, zipped=lambda s, t: zip(s, t, strict=False))


def reworded(source, target, form):
    sentence = by_zip(source, target)
    return sentence and form.format(*sentence.split()[1::2])


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda s, t: None, "always None", "end in a return"),
        (lambda s, t: by_zip(s, t) or "", "empty string", "Return None"),
        (lambda s, t: reworded(s, t, "change {} with {}"), "sentence in other words", "exactly 'replace X with Y'"),
        (lambda s, t: reworded(s, t, "Replace '{}' by '{}'."), "sentence in other words", "the right words"),
        (lambda s, t: by_zip(t, s), "X and Y swapped", "changed places"),
        (lambda s, t: by_zip(s, t, swapped=True), "X and Y swapped", "WITH the target's"),
        (short, "lengths ignored", "zip stops"),
        (lambda s, t: by_zip(s, t, fallback=True), "last word of equal captions", "return None"),
        (lambda s, t: by_zip(s, t, most=9), "first difference only", "look at all places"),
        (lambda s, t: by_zip(s, t, most=9, take=-1), "last difference only", "forget the others"),
        (by_sets, "sets of words", "neither the order"),
        (lambda s, t: by_sets(s, t, same_length=False), "sets of words", "twice"),
        (by_lists, "sets of words", "place by place"),
        (by_counts, "words counted", "Where it stands is lost"),
        (by_leftovers, "first word the other has not", "every pair gets a sentence"),
        (lambda s, t: by_leftovers(s, t, other=str), "first word the other has not", "the last word"),
        (sought_in_the_text, "words sought in the text", "layeRED"),
        (put_in, "cut out of the text", "Split both captions"),
        (parents, "cut out of the text", "str.replace"),
    ],
)
def test_wrong_sentences_get_their_hint(answer, mistake, words):
    for seed in range(3):
        result = ch07.replaced_words(answer, seed)
        assert (result.status, result.mistake) == ("failed", mistake)
        assert words in result.message


def test_sentences_made_otherwise_pass_and_only_sentences():
    def by_prefix(source, target):
        s, t = source.split(" "), target.split(" ")
        if len(s) != len(t) or s == t:
            return None
        i = next(place for place in range(len(s)) if s[place] != t[place])
        return " ".join(("replace", s[i], "with", t[i])) if s[i + 1 :] == t[i + 1 :] else None

    assert ch07.replaced_words(by_zip).status == "passed"
    assert ch07.replaced_words(by_prefix).status == "passed"
    for form in ("replace it with {1}", "replace {0}", "change {1} with {0}"):
        result = ch07.replaced_words(lambda s, t, form=form: reworded(s, t, form))
        assert (result.status, result.mistake) == ("failed", None), "these are not the right words"
    for other, shown in [("", "''"), (False, "'False, no string'"), (np.nan, "'nan, no string'")]:
        result = ch07.replaced_words(lambda s, t, other=other: by_zip(s, t) or other)
        assert result.status == "failed"
        assert f"expected None\n     got {shown}" in result.message
