"""Checks of chapter 09, GXN's look: order violation, hardest negatives, ranks among several captions an image."""

from collections.abc import Callable
from functools import partial
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from commonspace.checks.ch05 import _Loss, _real
from commonspace.checks.ch08 import _InTwoSteps
from commonspace.checks.exercise import FAILED, PASSED, Exercise, Mistake, Result


def _tensor(value) -> Tensor:
    """What was returned, with its gradient: a tensor, an array, or a list of either or of numbers."""
    if isinstance(value, (list, tuple)) and value:
        return torch.stack([_tensor(part) for part in value])
    return torch.as_tensor(value)


def _returned(shapes: Callable[..., tuple], advice: str, answer: Callable) -> Callable:
    """What ``answer`` returns, as a tensor. ``shapes`` of the arguments: the right one, and those that have a hint."""

    def checked(*arguments):
        value = answer(*arguments)
        if value is None:
            return None
        try:
            found = _tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"return one tensor of numbers; got a {type(value).__name__}: {error}") from error
        if found.is_complex() or found.layout != torch.strided:
            raise ValueError(f"return an ordinary tensor of real numbers; got {found.dtype}, {found.layout}")
        wanted, *known = (tuple(shape) for shape in shapes(*arguments))
        if wanted == () and found.numel() == 1:
            found = found.reshape(())
        if found.shape not in (wanted, *known):
            raise ValueError(f"the shape must be {wanted}; got {tuple(found.shape)}. {advice}")
        return found

    return checked


def _in_a_row(*checks: Callable) -> Callable:
    """One check after the other, until one is not passed."""

    def then(answer: Callable, rng: np.random.Generator) -> Result:
        for check in checks:
            result = check(answer, rng)
            if result.status != PASSED:
                break
        return result

    return then


def _gradient(name: str, inputs: Callable, reference: Callable) -> Callable:
    """Chapter 05's look at the gradient, of an answer that is summed. It is given float32, as by the first look."""
    look = _Loss(name=name, inputs=inputs, reference=reference, mistakes=(), well_done="", tolerance=1e-5)

    def check(answer: Callable, rng: np.random.Generator) -> Result:
        return look._check(lambda *given: answer(*(a.float() if _real(a) else a for a in given)).sum(), rng)

    return check


def _elsewhere(exercise: Exercise, mistake: str, hint: str) -> Callable:
    """A further look at other sizes, which one hint answers whatever is wrong there."""

    def check(answer: Callable, rng: np.random.Generator) -> Result:
        result = exercise._check(answer, rng)
        if result.status == PASSED:
            return result
        return Result(FAILED, f"{exercise.name} is not right yet: {hint}\n{result.message}", mistake)

    return check


def _single(inputs: Callable) -> Callable:
    """In float32, as a network's numbers are."""
    return lambda rng: tuple(a.float() if _real(a) else a for a in inputs(rng))


def _slips(make: Callable, slips: tuple[tuple, ...]) -> tuple[Mistake, ...]:
    """Of (name, hint, one or more ways to make it, each a dict of settings): each alone, then any two of them."""
    mistakes = [Mistake(name, hint, make(**way)) for name, hint, *ways in slips for way in ways]
    for (one, its_hint, *its_ways), (other, hint, *ways) in combinations(slips, 2):
        for mine, another in ((mine, another) for mine in its_ways for another in ways):
            if not mine.keys() & another.keys():
                both = make(**mine, **another)
                mistakes.append(Mistake(f"{one}; {other}", f"{its_hint}\nAnd then: {hint}", both))
    return tuple(mistakes)


# ---- 1: order violation ---------------------------------------------------------------------------------------------


def _rows(n_images: int, n_texts: int) -> Callable:
    """No two coordinates closer than 0.005, so that no difference for the gradient steps over a tie."""

    def draw(rng: np.random.Generator) -> tuple:
        D = int(rng.integers(6, 9))
        v, t = (np.round(rng.uniform(0, 1.5, size=(n, D)), 2) for n in (n_images, n_texts))
        return torch.from_numpy(v), torch.from_numpy(t + 0.005)

    return draw


def _coordinate_by_coordinate(image_emb, text_emb) -> np.ndarray:
    """Each text against each image, and only what it has more."""
    e = np.zeros((len(image_emb), len(text_emb)))
    for i, image in enumerate(image_emb.tolist()):
        for j, text in enumerate(text_emb.tolist()):
            e[i, j] = sum((t - v) ** 2 for t, v in zip(text, image, strict=True) if t > v)
    return e


# Name, hint, ways to make it, of the differences x = t - v in its last axis.
VIOLATIONS = (
    (
        "v and t swapped",
        "v and t are swapped: yours is e(v, t), what the IMAGE has more than the text. That is how GXN prints it. A "
        "text may well say less than the image shows: asked for is max(0, t - v), what the text has more.",
        lambda x: (-x).clamp(min=0).square().sum(-1),
    ),
    (
        "root",
        "you take the root. Asked for is the square without it: where a text says nothing more than the image shows, "
        "the root is taken of 0. Its slope there is infinite, and the gradient easily becomes NaN.",
        *(lambda x, by=by: (x.clamp(min=0).square().sum(-1) + by).sqrt() for by in (0.0, 1e-10, 1e-8, 1e-6)),
    ),
    (
        "sum before the max",
        "you sum over d first and cut off at 0 afterwards. Then what the image has more in one coordinate pays for "
        "what the text has more in another. Each coordinate for itself: max first, then the square, then the sum.",
        lambda x: x.sum(-1).clamp(min=0).square(),
        lambda x: x.sum(-1).clamp(min=0),
        lambda x: x.sum(-1).square(),
    ),
    (
        "no max",
        "the max with 0 is missing: yours is the distance of the two, the same for (t, v) and (v, t). What the image "
        "has more must cost nothing. max(0, .) makes 0 of it; squares and abs make it positive.",
        lambda x: x.square().sum(-1),
        lambda x: x.abs().sum(-1),
        lambda x: x.square().sum(-1).sqrt(),
    ),
    (
        "square in the wrong place",
        "the square is missing, or is taken of the sum: each max(0, t_d - v_d) is squared, and then they are summed.",
        lambda x: x.clamp(min=0).sum(-1),
        lambda x: x.clamp(min=0).sum(-1).square(),
    ),
    ("mean", "you take the mean over d. Asked for is the sum.", lambda x: x.clamp(min=0).square().mean(-1)),
    (
        "largest coordinate",
        "you take the largest coordinate alone. The max of the formula is between 0 and ONE difference, for each d; "
        "then they are summed over d.",
        lambda x: x.clamp(min=0).square().amax(-1),
        lambda x: x.clamp(min=0).amax(-1),
    ),
    (
        "sign",
        "you return the similarity s = -e. Asked for is the violation e itself, 0 or more.",
        lambda x: -x.clamp(min=0).square().sum(-1),
    ),
)
ELEMENTWISE = (
    "you compare row i with row i alone. Asked for are ALL pairs, (N, M): image i with every text j. An axis of length "
    "1 in each makes them: image_emb[:, None] is (N, 1, D), text_emb[None] is (1, M, D)."
)
TRANSPOSED = "rows and columns are exchanged. Images are rows and texts are columns: e[i, j] is of image i and text j."


def _violations() -> tuple[Mistake, ...]:
    def of(differences: Callable, e: Callable) -> Callable:
        return lambda image_emb, text_emb: e(differences(image_emb, text_emb))

    def all_pairs(v, t):
        return t[None] - v[:, None]

    right = ("", "", lambda x: x.clamp(min=0).square().sum(-1))
    mistakes = [Mistake(name, hint, of(all_pairs, e)) for name, hint, *made in VIOLATIONS for e in made]
    for name, hint, differences in (
        ("rows and columns exchanged", TRANSPOSED, lambda v, t: all_pairs(v, t).transpose(0, 1)),
        ("no all pairs", ELEMENTWISE, lambda v, t: t - v),
    ):
        for other, its_hint, *made in (right, *VIOLATIONS):
            both = f"{hint}\nAnd then: {its_hint}" if other else hint
            mistakes += [Mistake(f"{name}; {other}" if other else name, both, of(differences, e)) for e in made]
    return tuple(mistakes)


def _at_ties(answer: Callable, rng: np.random.Generator) -> Result:
    """The gradient where an image has as much as the text, or more, in every coordinate: 0, and not NaN."""
    v, t = (torch.tensor(row, requires_grad=True) for row in ([[0.75, 0.5]], [[0.75, 0.25]]))
    if all((slope.abs() < 1e-5).all() for slope in torch.autograd.grad(answer(v, t).sum(), (v, t))):
        return Result(PASSED, "")
    return Result(
        FAILED,
        "order_violation is not right yet: the value is right, but its gradient is not 0 for the image (0.75, 0.5) and "
        "the text (0.75, 0.25). The text says nothing more than the image shows: e = 0, and nothing is to be learned. "
        "A root of 0 on the way has an infinite slope, and squaring it again makes NaN of that. Do without the root.",
        "root, squared again",
    )


_violation = partial(
    _returned,
    lambda v, t: [(len(v), len(t)), *([(len(v),)] if len(v) == len(t) else [])],
    "One number for each pair of an image (row) and a text (column): sum over the coordinates, the last axis.",
)
_other_numbers = Exercise(
    name="order_violation",
    inputs=_single(lambda rng: _rows(*rng.permutation(5)[:2] + 1)(rng)),
    reference=_coordinate_by_coordinate,
    mistakes=(),
    well_done="",
    tolerance=1e-5,
)
_order_violation = _InTwoSteps(
    name="order_violation",
    inputs=_single(lambda rng: _rows(*[int(rng.integers(2, 5))] * 2)(rng)),
    reference=_coordinate_by_coordinate,
    mistakes=_violations(),
    well_done="So is the gradient, and where a text says no more than the image it is 0.",
    then=_in_a_row(
        _elsewhere(
            _other_numbers,
            "N taken for M",
            "it is right for as many texts as images, not for other numbers of them: is N taken for M somewhere?",
        ),
        _gradient(
            "order_violation, summed over all pairs,",
            lambda rng: _rows(2, 3)(rng),
            lambda image_emb, text_emb: _coordinate_by_coordinate(image_emb, text_emb).sum(),
        ),
        _at_ties,
    ),
    tolerance=1e-5,  # of float32
)


def order_violation(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(image_emb, text_emb)``, e(t, v) of all pairs (N, M), and its gradient, at ties as well."""
    return _order_violation(_violation(answer) if callable(answer) else answer, seed)


# ---- 2: hardest negatives -------------------------------------------------------------------------------------------


def _batch(rng: np.random.Generator, below: float | None = None) -> tuple:
    """Seven pairs of 3 to 5 images, all similarities below 0 in most trials. Numbers lie on a grid, and sums with the
    margin between its points: no difference for the gradient steps over a tie or a hinge."""
    image = rng.permutation(np.concatenate([[0, 1, 2, 0], rng.integers(0, 5, size=3)]))
    same = image[:, None] == image[None]
    grid = rng.permutation(49).reshape(7, 7) * 0.05 + float(rng.choice([0.5, 1.0])) * same
    sim = torch.from_numpy(grid - (below or float(rng.choice([1.5, 5.0, 50.0]))))
    return sim, torch.from_numpy(rng.permutation(40)[image]), float(rng.choice([0.33, 0.98]))


def _pair_by_pair(sim, image_id, margin) -> float:
    """Of each pair the best wrong caption and the best wrong image, each with a hinge of its own."""
    sim, ids, cost = sim.tolist(), image_id.tolist(), 0.0
    for i, mine in enumerate(ids):
        captions = [sim[i][j] for j, other in enumerate(ids) if other != mine]
        images = [sim[j][i] for j, other in enumerate(ids) if other != mine]
        cost += sum(max(0.0, margin + max(wrong) - sim[i][i]) for wrong in (captions, images))
    return cost / len(ids)


def _hardest(*, mask="same", fill=-torch.inf, pick="max", own="diagonal", ways="sum", divisor="n", hinge="each", m=1.0):
    """The loss with one slip."""

    def one_way(sim, same, margin):
        off = torch.eye(len(sim), dtype=torch.bool) if mask == "diagonal" else torch.zeros_like(same)
        right = same if mask == "same" else off
        positive = sim.masked_fill(~same, -torch.inf).amax(dim=1) if own == "best" else sim.diagonal()
        if pick in ("sum", "mean"):
            cost = (margin + sim - positive[:, None]).clamp(min=0).masked_fill(right, 0).sum(dim=1)
            return cost / (~right).sum(dim=1) if pick == "mean" else cost
        scores = sim.masked_fill(right, torch.inf if pick == "min" else fill)
        wrong = {"max": lambda: scores.amax(dim=1), "min": lambda: scores.amin(dim=1), "one": scores.max}[pick]()
        cost = m * margin + wrong - positive
        return cost.clamp(min=0) if hinge == "each" else cost

    def answer(sim, image_id, margin):
        same = image_id[:, None] == image_id[None]
        both = torch.stack([one_way(sim, same, margin), one_way(sim.T, same, margin)])  # (2, N)
        cost = {"sum": both.sum(0), "max": both.amax(0), "rows": both[0], "columns": both[1]}[ways]
        loss = cost.sum() / {"n": len(sim), "2n": 2 * len(sim), "n/2": len(sim) / 2, "1": 1}[divisor]
        return loss.clamp(min=0) if hinge == "sum" else loss

    return answer


HARDEST = (
    (
        "diagonal only",
        "you leave out the diagonal only. Another caption of the same image is a RIGHT answer, and mostly the nearest "
        "one: your loss pushes it away. Leave out every pair with the same image_id.",
        {"mask": "diagonal"},
    ),
    (
        "nothing masked",
        "you leave nothing out of the maximum. The pair itself is there, and costs the margin however good the model "
        "is. Leave out every pair with the same image_id.",
        {"mask": "nothing"},
    ),
    (
        "masked by a number that wins",
        "you put 0, or another fixed number, in the places of right answers. Order similarities are all below 0: that "
        "number then wins the maximum. Minus infinity never wins.",
        *({"fill": number} for number in (0.0, -1.0, -2.0, -10.0)),
    ),
    (
        "infinity times zero",
        "you make it no number: infinity times 0 is NaN. Do not multiply; put minus infinity in the places of right "
        "answers with sim.masked_fill(same, -torch.inf), or torch.where.",
        {"fill": torch.nan},
    ),
    (
        "all negatives",
        "you take the hinges of all wrong answers together. Asked for is the hardest alone, the one with the highest "
        "similarity.",
        {"pick": "sum"},
        {"pick": "mean"},
    ),
    (
        "one direction only",
        "you look in one direction only (or twice in the same). There are two: along rows an image has its hardest "
        "wrong caption, along columns (rows of sim.T) a caption has its hardest wrong image. Add both.",
        {"ways": "rows"},
        {"ways": "columns"},
        {"ways": "rows", "divisor": "n/2"},
        {"ways": "columns", "divisor": "n/2"},
    ),
    (
        "larger of the two",
        "you take the larger of the two hinges. Asked for is their sum: both directions are to be learned.",
        {"ways": "max"},
    ),
    (
        "divided by 2N",
        "yours is half of it: you take the mean over both directions, too. Divide by N, the number of pairs, alone.",
        {"divisor": "2n"},
    ),
    ("not divided", "you sum over pairs. Asked for is the mean over the N pairs.", {"divisor": "1"}),
    (
        "the easiest",
        "you take the LOWEST similarity, the easiest wrong answer. Higher is closer: the hardest has the highest.",
        {"pick": "min"},
    ),
    (
        "one for the whole batch",
        "you take ONE maximum over the whole matrix. Each row has a hardest wrong caption of its own, each column a "
        "hardest wrong image: the maximum along one dim.",
        {"pick": "one"},
    ),
    (
        "best own caption",
        "you compare with the best caption of the same image. The pair's own is sim[i, i].",
        {"own": "best"},
    ),
    (
        "hinge in the wrong place",
        "the max with 0 is missing, or is taken of the sum: then pairs that keep the margin with room to spare pay for "
        "those that do not. Each direction of each pair has a hinge of its own.",
        {"hinge": "none"},
        {"hinge": "sum"},
    ),
    (
        "margin not added",
        "the margin is subtracted, or missing. It is a demand on top: the own answer must lead BY the margin.",
        {"m": -1.0},
        {"m": 0.0},
    ),
)
TWINS = torch.tensor([[0.9, 0.2, 0.8], [0.1, 0.7, 0.3], [0.85, 0.4, 0.6]])  # pairs 0 and 2 are of one image
_one_number = partial(_returned, lambda *arguments: [()], "A loss is one number.")
_hardest_negative_loss = _InTwoSteps(
    name="hardest_negative_loss",
    inputs=_single(_batch),
    reference=_pair_by_pair,
    mistakes=_slips(_hardest, HARDEST),
    well_done="Captions of the same image are spared, in both directions, and the gradient agrees.",
    always=((TWINS, torch.tensor([7, 2, 7]), 0.25), _single(partial(_batch, below=50.0))(np.random.default_rng(0))),
    then=_gradient("hardest_negative_loss", _batch, _pair_by_pair),
    tolerance=1e-5,  # of float32
)


def hardest_negative_loss(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(sim, image_id, margin)``, one number, and its gradient."""
    return _hardest_negative_loss(_one_number(answer) if callable(answer) else answer, seed)


# ---- 3: ranks among several captions --------------------------------------------------------------------------------


def _gallery(rng: np.random.Generator) -> tuple:
    """3 to 5 images with five captions each; scores from 0 to 7, so that there are many ties, and own ones more."""
    n, k = int(rng.integers(3, 6)), 5
    own = np.repeat(np.eye(n), k, axis=1)
    return torch.tensor(rng.integers(0, 7, size=(n, n * k)) + own, dtype=torch.float32), k


def _of_other_size(rng: np.random.Generator) -> tuple:
    n, k = int(rng.integers(3, 6)), int(rng.choice([1, 2, 3]))
    return torch.tensor(rng.integers(0, 7, size=(n, n * k)), dtype=torch.float32), k


def _image_by_image(sim, captions_per_image) -> np.ndarray:
    """Of every image the wrong captions that reach the best of its own, counted one by one."""
    ranks = []
    for i, scores in enumerate(sim.tolist()):
        own = range(i * captions_per_image, (i + 1) * captions_per_image)
        best = max(scores[j] for j in own)
        ranks.append(sum(score >= best for j, score in enumerate(scores) if j not in own))
    return np.array(ranks)


def _rank(*, of="best", ties="against", others="wrong", first=0, blocks="blocks", per="caption", up=False):
    """The ranks with one slip. ``of``: which number of an image's own five; ``per``: what is counted."""

    def answer(sim, captions_per_image):
        n, k = len(sim), captions_per_image
        sim = -sim if up else sim
        column = torch.arange(sim.shape[1])
        image = column // k if blocks == "blocks" else column % n  # of every caption
        own = image[None] == torch.arange(n)[:, None]
        mine = torch.stack([row[chosen] for row, chosen in zip(sim, own, strict=True)])  # (n, k)
        counted = torch.ones_like(own) if others == "all" else ~own
        if per == "image":
            sim = torch.stack([sim[:, image == j].amax(dim=1) for j in range(n)], dim=1)
            counted = torch.ones(n, n, dtype=torch.bool) if others == "all" else ~torch.eye(n, dtype=torch.bool)

        def rank_of(score):  # (n,)
            above = {"against": sim >= score[:, None], "for": sim > score[:, None]}
            above["half"] = (above["against"].double() + above["for"].double()) / 2
            return (above[ties] * counted).sum(dim=1) - int(others == "all" and ties == "against")

        if of == "mean":
            return torch.stack([rank_of(score) for score in mine.T]).double().mean(dim=0) + first
        score = {
            "best": lambda: mine.amax(dim=1),
            "first": lambda: mine[:, 0],
            "last": lambda: mine[:, -1],
            "worst": lambda: mine.amin(dim=1),
            "mean score": lambda: mine.mean(dim=1),
            "diagonal": sim.diagonal,
        }[of]()
        return rank_of(score) + first

    return answer


ORDERS = (  # as they may come out: which of two equal scores stands first is each one's own affair
    lambda sim: sim.argsort(dim=1, descending=True, stable=True),
    lambda sim: sim.argsort(dim=1, stable=True).flip(1),
    lambda sim: sim.argsort(dim=1, descending=True),
    lambda sim: (-sim).argsort(dim=1),
    lambda sim: sim.argsort(dim=1).flip(1),
    lambda sim: torch.from_numpy(np.argsort(-sim.numpy(), axis=1)),
    lambda sim: torch.from_numpy(np.argsort(sim.numpy(), axis=1)).flip(1),
)


def _sorted(order: Callable, *, of="best", first=0):
    """Places in a sorted row."""

    def answer(sim, captions_per_image):
        place = order(sim).argsort(dim=1)  # (n, n k) of every caption
        n, k = len(sim), captions_per_image
        own = torch.stack([place[i, i * k : (i + 1) * k] for i in range(n)])
        return (own.amin(dim=1) if of == "best" else own[:, 0]) + first

    return answer


def _images_of_captions(*, best=False, ties="against", first=0):
    """The other direction: every caption's image among all images."""

    def answer(sim, captions_per_image):
        own = sim.T.gather(1, torch.arange(sim.shape[1])[:, None] // captions_per_image)  # (n k, 1)
        above = (sim.T >= own).sum(dim=1) - 1 if ties == "against" else (sim.T > own).sum(dim=1)
        return (above.view(len(sim), -1).amin(dim=1) if best else above) + first

    return answer


RANKS = (
    (
        "first caption",
        "you take the first (or last) of an image's own captions. Each of them is a right answer, and the image has "
        "found one as soon as it finds the BEST: the largest score of its block.",
        {"of": "first"},
        {"of": "last"},
    ),
    (
        "worst caption",
        "you take the worst of an image's own captions. One right answer suffices: take the best.",
        {"of": "worst"},
    ),
    (
        "mean of the captions",
        "you take a mean over an image's own captions. One right answer suffices: take the best.",
        {"of": "mean"},
        {"of": "mean score"},
    ),
    (
        "one caption an image",
        "you take caption i for image i, the diagonal. Image i has the captions 5 i to 5 i + 4.",
        {"of": "diagonal"},
    ),
    (
        "ties for the query",
        "you count strictly greater scores only. A wrong caption with the same score must count too: else a model "
        "that says the same about everything has rank 0 everywhere.",
        {"ties": "for"},
    ),
    ("ties by half", "you count a tie by half. Here it counts in full against the query.", {"ties": "half"}),
    (
        "own captions counted",
        "you count the image's own captions, too, all but one. They never score more than the best of them, but as "
        "much: then they stand in its way. Only captions of OTHER images count.",
        {"others": "all"},
    ),
    ("1-based", "you begin at 1. Ranks here begin at 0: nothing ahead is rank 0.", {"first": 1}),
    (
        "every n-th column",
        "you take every n-th column for an image's own. Captions come in blocks: 0 to 4 are of image 0, 5 to 9 of "
        "image 1, so caption j is of image j // 5.",
        {"blocks": "strided"},
    ),
    (
        "images counted",
        "you count the other IMAGES with a caption that is ahead. The gallery is made of captions: each counts.",
        {"per": "image"},
    ),
    (
        "lower is closer",
        "you count the captions with a LOWER score. Similarities: higher is closer.",
        {"up": True},
    ),
)
SORTED = (
    "you look up the place in a sorted row. Equal scores stand there in some order, here with a right caption ahead of "
    "wrong ones. Do not sort: count the wrong captions whose score is at least the best own one's."
)
OTHER_WAY = (
    "yours is the other direction: captions look for their image, along columns. Asked for is an image's rank among "
    "captions, along its row: (n_image,)."
)
CROWDED = torch.tensor(  # image 0: two best own ones, tied with a wrong one; image 1: the first is not the best
    [[0.2, 0.9, 0.1, 0.9, 0.3, 0.9, 0.95, 0.5, 0.15, 0.1], [0.8, 0.6, 0.9, 0.1, 0.0, 0.7, 0.1, 0.8, 0.2, 0.3]]
)
_each_image = partial(
    _returned, lambda sim, k: [(len(sim),), (sim.shape[1],)], "One number for each image, each row of sim."
)
_other_sizes = _elsewhere(
    Exercise("caption_ranks", _of_other_size, _image_by_image, (), well_done=""),
    "always five",
    "it is right for five captions an image, not for another number of them: is there a 5 in your function?",
)
_caption_ranks = _InTwoSteps(
    name="caption_ranks",
    inputs=_gallery,
    reference=_image_by_image,
    mistakes=(
        *_slips(_rank, RANKS),
        *(
            Mistake("sorted", SORTED, _sorted(order, of=of, first=first))
            for order in ORDERS
            for of in ("best", "first")
            for first in (0, 1)
        ),
        *(
            Mistake("captions look for images", OTHER_WAY, _images_of_captions(best=best, ties=ties, first=first))
            for best in (False, True)
            for ties in ("against", "for")
            for first in (0, 1)
        ),
    ),
    well_done="The best of an image's own captions counts, and a tie counts against it.",
    always=((CROWDED, 5),),
    then=_other_sizes,
)


def caption_ranks(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(sim, captions_per_image)``, the 0-based rank of each image's best caption."""
    return _caption_ranks(_each_image(answer) if callable(answer) else answer, seed)
