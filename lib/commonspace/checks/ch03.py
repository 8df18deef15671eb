"""Checks of chapter 03, ACMR: gradient reversal, the note's triplets, who learns from what, a fresh probe."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from commonspace.checks.exercise import Exercise, Mistake, Result
from commonspace.losses import modality_loss, reverse_gradient

PLAYERS = ("gradient of the classifier", "gradient of the image projector", "gradient of the text projector")


def _game(rng: np.random.Generator) -> tuple:
    """Pictures, texts, a projector of each, a classifier, a strength that is not 1."""
    shapes = [(6, 4), (6, 3), (4, 2), (3, 2), (2, 2)]
    return *(rng.normal(size=shape) for shape in shapes), float(rng.choice([0.2, 0.5, 2.0, 3.0]))


def _gradients(term: Callable) -> Callable:
    """``term(image_code, text_code, classifier, strength)`` -> the gradients that a backward pass through it brings."""

    def play(images, texts, W_image, W_text, W_classifier, strength):
        weights = [torch.tensor(W, requires_grad=True) for W in (W_classifier, W_image, W_text)]
        classifier, image, text = weights
        codes = torch.from_numpy(images) @ image, torch.from_numpy(texts) @ text
        loss = term(*codes, lambda code: torch.tanh(code) @ classifier, strength)
        if loss is None:
            return None
        if not isinstance(loss, Tensor) or loss.ndim:
            raise ValueError("return the loss itself, a tensor without dimensions: the check calls backward")
        if not loss.requires_grad:
            return {player: np.zeros(weight.shape) for player, weight in zip(PLAYERS, weights, strict=True)}
        found = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        return dict(zip(PLAYERS, (gradient.numpy() for gradient in found), strict=True))

    return play


def _by_hand(images, texts, W_image, W_text, W_classifier, strength) -> dict:
    """The chain rule in numpy, without autograd."""
    to_classifier, to_projectors = 0, []
    for rows, W, column in [(images, W_image, 1), (texts, W_text, 0)]:
        hidden = np.tanh(rows @ W)
        logits = hidden @ W_classifier
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        slope = (e / e.sum(axis=1, keepdims=True) - np.eye(2)[column]) / (2 * len(rows))  # d loss / d logits
        to_classifier = to_classifier + hidden.T @ slope
        to_projectors.append(-strength * rows.T @ (slope @ W_classifier.T * (1 - hidden**2)))
    return dict(zip(PLAYERS, (to_classifier, *to_projectors), strict=True))


def _through(change: Callable, weigh: Callable = lambda strength: 1.0) -> Callable:
    """The modality loss on codes that ``change(code, strength)`` has touched, times ``weigh(strength)``."""

    def term(v, t, classifier, strength):
        return weigh(strength) * modality_loss(classifier(change(v, strength)), classifier(change(t, strength)))

    return _gradients(term)


_gradient_reversal = Exercise(
    name="gradient_reversal",
    inputs=_game,
    reference=_by_hand,
    mistakes=(
        Mistake(
            "loss negated",
            "your minus sign stands on the loss, or behind the classifier. Then the classifier climbs its own loss: it "
            "is trained to fail too, and who fools a judge that wants to be fooled has shown nothing. The turn belongs "
            "between code and classifier.",
            _through(lambda code, strength: code, lambda strength: -strength),
        ),
        Mistake(
            "loss negated, strength ignored",
            "your minus sign stands on the loss, so the classifier is trained to fail too; and strength does nothing. "
            "The turn belongs between code and classifier.",
            _through(lambda code, strength: code, lambda strength: -1.0),
        ),
        Mistake(
            "detached",
            "the classifier learns, but no gradient reaches the projectors: somewhere the codes are detached. Nobody "
            "is then being fooled.",
            _through(lambda code, strength: code.detach()),
        ),
        Mistake(
            "nothing reversed",
            "the projectors get the true gradient: they help the classifier to tell the modalities apart.",
            _through(lambda code, strength: code),
        ),
        Mistake(
            "scaled, not turned",
            "the projectors' gradient is multiplied by strength, but not turned round: they help the classifier.",
            _through(lambda code, strength: code.detach() + strength * (code - code.detach())),
        ),
        Mistake(
            "strength ignored",
            "the gradient is turned, but always with strength 1.",
            _through(lambda code, strength: reverse_gradient(code)),
        ),
        Mistake(
            "strength on the classifier",
            "the projectors get what they should, but the classifier's own gradient is multiplied by strength too. "
            "Strength belongs into the reversal, not in front of the loss.",
            _through(lambda code, strength: reverse_gradient(code), lambda strength: strength),
        ),
        Mistake(
            "forward negated",
            "the classifier is shown -strength times the code. Forward, the reversal must change nothing: R(x) = x; "
            "only the gradient is turned.",
            _through(lambda code, strength: -strength * code),
        ),
        Mistake(
            "reversed twice",
            "the codes are reversed and the loss is negated as well: the two turns cancel for the projectors, and the "
            "classifier is trained to fail. One turn is enough, between code and classifier.",
            _through(reverse_gradient, lambda strength: -1.0),
        ),
        Mistake(
            "a second loss that reaches the classifier",
            "you add -strength times the loss, through the classifier's weights too: the classifier gets 1 - strength "
            "of its gradient. What is turned round must reach the codes alone.",
            _gradients(lambda v, t, d, s: modality_loss(d(v.detach()), d(t.detach())) - s * modality_loss(d(v), d(t))),
        ),
        Mistake(
            "images only",
            "the gradient of the image code is turned, that of the text code is not: the text projector helps the "
            "classifier.",
            _gradients(lambda v, t, judge, s: modality_loss(judge(reverse_gradient(v, s)), judge(t))),
        ),
    ),
    well_done="One backward pass trains the classifier to tell and both projectors to fool it.",
)


def gradient_reversal(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(image_code, text_code, classifier, strength)`` by the gradients that its loss brings."""
    return _gradient_reversal(_gradients(answer) if callable(answer) else answer, seed)


def _codes(rng: np.random.Generator) -> tuple:
    label = np.concatenate([[0, 1, 2], rng.integers(0, 3, size=5)])
    rng.shuffle(label)
    v, t = rng.normal(size=(2, 8, 3))
    return v, t, label, float(rng.choice([1.5, 2.5])), float(rng.choice([0.5, 2.0]))


def _by_loops(image_code, text_code, label, margin, gamma) -> float:
    """Every triple (i, j, k) in turn, and the mean of each anchor."""
    total = 0.0
    for anchor, across in [(image_code, text_code), (text_code, image_code)]:
        for i in range(len(label)):
            terms = []
            for j in range(len(label)):
                for k in range(len(label)):
                    if label[j] == label[i] != label[k]:
                        near, far = (np.sqrt(((anchor[i] - across[m]) ** 2).sum()) for m in (j, k))
                        terms.append(near + gamma * max(0.0, margin - far))
            total += np.mean(terms) / len(label)
    return float(total)


def _triplets(
    *, square=False, relative=False, own=False, others=False, ways=2, same=False, mean=True, gamma=True, pooled=False
):
    """L_imi with one slip."""

    def answer(v, t, label, margin, weight):
        total = 0.0
        for anchor, across in [(v, t), (t, v)][:ways]:
            d = np.sqrt(((anchor[:, None] - across[None]) ** 2).sum(axis=2))
            inside = np.sqrt(((anchor[:, None] - anchor[None]) ** 2).sum(axis=2))
            d, inside = (d**2, inside**2) if square else (d, inside)
            values, n_triples = 0.0, 0
            for i in range(len(label)):
                alike = label == label[i]
                near = d[i, [i]] if own else d[i, alike]
                far = d[i, np.arange(len(label)) != i] if others else d[i, ~alike]
                far = inside[i, ~alike] if same else far
                pairs = near[:, None] - far[None] if relative else near[:, None] + 0 * far[None]
                hinge = margin + pairs if relative else margin - far[None] + 0 * pairs
                value = hinge.clip(0) if relative else pairs + (weight if gamma else 1.0) * hinge.clip(0)
                values += value.sum() if pooled or not mean else value.mean()
                n_triples += value.size
            total += values / (n_triples if pooled else len(label) if mean else 1)
        return float(total)

    return answer


intermodal_loss = Exercise(
    name="intermodal_loss",
    inputs=_codes,
    reference=_by_loops,
    mistakes=(
        Mistake(
            "relative hinge",
            "yours is the usual triplet loss, max(0, margin + near - far). Here the hinge holds the negative alone, "
            "max(0, margin - far), and the distance of the positive stands outside of it.",
            _triplets(relative=True),
        ),
        Mistake(
            "a negative that shares the label",
            "you push away everything but the anchor's own partner. An item of the same class is a positive, never a "
            "negative.",
            _triplets(others=True),
        ),
        Mistake(
            "own partner only",
            "your only positive is the anchor's own partner. Every item of the other modality with the same label is.",
            _triplets(own=True),
        ),
        Mistake(
            "own partner against all others",
            "your positive is the anchor's own partner, your negatives are all others, of its class too. Positive and "
            "negative are decided by the label.",
            _triplets(own=True, others=True),
        ),
        Mistake(
            "squared distances",
            "you take squared distances. l2 is the distance itself, in whose units the margin is.",
            _triplets(square=True),
        ),
        Mistake(
            "one direction",
            "you take images as anchors only. L_imi is the sum of both directions: texts are anchors too.",
            _triplets(ways=1),
        ),
        Mistake(
            "same modality",
            "your negatives are of the anchor's own modality. In the formula they are across: texts for an image.",
            _triplets(same=True),
        ),
        Mistake(
            "summed",
            "you sum over all triples. Asked for is the mean over the triples of each anchor, then over anchors.",
            _triplets(mean=False),
        ),
        Mistake(
            "one mean over all triples",
            "you take one mean over all triples of a direction, so that anchors of classes with more triples count "
            "more. Take the mean of each anchor's triples first, then over anchors.",
            _triplets(pooled=True),
        ),
        Mistake(
            "gamma ignored",
            "gamma does nothing in your loss. It multiplies the hinge.",
            _triplets(gamma=False),
        ),
    ),
    well_done="It agrees with a loop over every triple, which knows no shortcut.",
)

GROUPS = ("image projector", "text projector", "label predictor", "modality classifier")
WIRINGS = ("as written", "as released", "at the start", "first layer frozen")


def _wired(wiring: str, seed: int) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
    """The terms and weights of a small game: as the paper writes it, as the demo was released, at strength 0, or with
    the first layer of the text projector frozen."""
    draw = torch.Generator().manual_seed(seed)
    sizes = {"image projector": [(5, 4), (4, 3)], "text projector": [(6, 4), (4, 3)]}
    sizes |= {"label predictor": [(3, 2)], "modality classifier": [(3, 2)]}
    groups = {name: [torch.randn(size, generator=draw) for size in sizes[name]] for name in GROUPS}
    for name in GROUPS:
        for number, weight in enumerate(groups[name]):
            frozen = wiring == "as released" and name == "label predictor"
            frozen |= wiring == "first layer frozen" and name == "text projector" and number == 0
            weight.requires_grad_(not frozen)
    rows = {name: torch.randn(8, size, generator=draw) for name, size in [("v", 5), ("t", 6)]}
    v, t = (
        torch.tanh(torch.tanh(rows[key] @ groups[name][0]) @ groups[name][1])
        for key, name in [("v", "image projector"), ("t", "text projector")]
    )
    label, strength = torch.arange(8) % 2, 0.0 if wiring == "at the start" else 2.0
    hidden = [code.detach() if wiring == "as released" else reverse_gradient(code, strength) for code in (v, t)]
    terms = {
        "label": sum(torch.nn.functional.cross_entropy(code @ groups["label predictor"][0], label) for code in (v, t)),
        "triplet": (v - t).square().sum(),
        "modality": modality_loss(*(code @ groups["modality classifier"][0] for code in hidden)),
    }
    return terms, groups


def _told(answer: Callable) -> Callable:
    """``answer(terms, groups)`` on such a game, its lists of names as one text a term."""

    def ask(wiring, seed):
        terms, groups = _wired(wiring, seed)
        found = answer(terms, groups)
        if not isinstance(found, dict):
            return found
        return {term: ", ".join(sorted(names)) for term, names in found.items()}

    return ask


def _by_wiring(wiring: str, seed: int) -> dict[str, str]:
    """What follows from how the game is wired, without a gradient."""
    projectors = ["image projector", "text projector"]
    found = {
        "label": projectors if wiring == "as released" else ["label predictor", *projectors],
        "triplet": projectors,
        "modality": ["modality classifier"],
    }
    if wiring in ("as written", "first layer frozen"):
        found["modality"] = ["modality classifier", *projectors]
    return {term: ", ".join(sorted(names)) for term, names in found.items()}


def _listing(receives: Callable) -> Callable:
    """Lists by ``receives(loss, weights)``."""
    return lambda terms, groups: {
        term: [name for name, weights in groups.items() if receives(loss, weights)] for term, loss in terms.items()
    }


def _arrives(loss: Tensor, weights: list[Tensor]) -> list[Tensor | None]:
    wanted = [weight for weight in weights if weight.requires_grad]
    if not wanted:
        return []
    return list(torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True))


def _piling_up(terms, groups):
    found = {}
    for term, loss in terms.items():
        loss.backward(retain_graph=True)
        found[term] = [
            name
            for name, weights in groups.items()
            if any(weight.grad is not None and bool(weight.grad.any()) for weight in weights)
        ]
    return found


_who_learns = Exercise(
    name="who_learns",
    inputs=lambda rng: (str(rng.choice(WIRINGS)), int(rng.integers(1000))),
    reference=_by_wiring,
    always=tuple((wiring, 0) for wiring in WIRINGS),
    trials=4,
    mistakes=(
        Mistake(
            "gradients pile up",
            "backward ADDS to .grad: your later terms show what earlier ones left behind. Clear the gradients before "
            "each term, or use torch.autograd.grad.",
            _told(_piling_up),
        ),
        Mistake(
            "requires_grad is not a gradient",
            "you list every group that may be trained. That a weight requires a gradient does not mean that this term "
            "sends one: the released demo fails at just this point.",
            _told(_listing(lambda loss, weights: any(weight.requires_grad for weight in weights))),
        ),
        Mistake(
            "zeros counted",
            "you count gradients that are there but zero everywhere. At strength 0 the reversal sends zeros back, and "
            "nobody learns from zeros.",
            _told(_listing(lambda loss, weights: any(g is not None for g in _arrives(loss, weights)))),
        ),
        Mistake(
            "first weight only",
            "you look at the first weight of each group alone. A group learns if any of its weights does; here the "
            "first one is frozen.",
            _told(
                _listing(
                    lambda loss, weights: any(g is not None and bool(g.any()) for g in _arrives(loss, weights[:1]))
                )
            ),
        ),
    ),
    well_done="Run it on any released code before you believe its paper.",
)


def who_learns(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(terms, groups)`` on small games that are wired in four ways."""
    return _who_learns(_told(answer) if callable(answer) else answer, seed)


def _held_out(rng: np.random.Generator) -> tuple:
    """Codes of 80 pairs that share content and lean apart by modality; one half; an adversary gone astray."""
    content = rng.normal(size=(80, 4))
    lean = rng.normal(size=4)
    lean /= np.linalg.norm(lean)
    image, text = (
        content + sign * 0.6 * lean + 0.7 * rng.normal(size=(80, 4)) + rng.normal(scale=0.1, size=4) for sign in (1, -1)
    )
    return image, text, rng.permutation(80) < 40, rng.normal(size=4)


def _share(train: tuple, test: tuple) -> float:
    """Fitted on (images, texts), the share it gets right on others: logistic regression as it comes."""
    from sklearn.linear_model import LogisticRegression

    of = [np.repeat([1, 0], [len(images), len(texts)]) for images, texts in (train, test)]
    return float(LogisticRegression().fit(np.vstack(train), of[0]).score(np.vstack(test), of[1]))


def _both_ways(image, text, first, adversary) -> float:
    halves = [(image[side], text[side]) for side in (first, ~first)]
    return (_share(*halves) + _share(*halves[::-1])) / 2


def _torn_pairs(image, text, first, adversary) -> float:
    sides = [(image[first], text[~first]), (image[~first], text[first])]
    return (_share(*sides) + _share(*sides[::-1])) / 2


fresh_probe = Exercise(
    name="fresh_probe",
    inputs=_held_out,
    reference=_both_ways,
    tolerance=0.003,  # relative and absolute: below 1 code of 160, so none may be judged otherwise
    mistakes=(
        Mistake(
            "asks the adversary",
            "you ask the adversary of the game. The projectors were trained against this very classifier: that it is "
            "fooled proves nothing. Fit a new one.",
            lambda v, t, first, a: float(((v @ a > 0).mean() + (t @ a <= 0).mean()) / 2),
        ),
        Mistake(
            "trains and tests on the same codes",
            "you test on the codes the probe was fitted to. Fit it on one half and test on the other.",
            lambda v, t, first, a: _share((v, t), (v, t)),
        ),
        Mistake(
            "each half on itself",
            "each half is fitted and tested on itself. Test on the half that the probe has not seen.",
            lambda v, t, first, a: sum(_share((v[s], t[s]), (v[s], t[s])) for s in (first, ~first)) / 2,
        ),
        Mistake(
            "pairs torn apart",
            "the picture of a pair is on one side and its text on the other. What they have in common then stands on "
            "both sides, with opposite answers, and misleads the probe. Split pairs, not codes.",
            _torn_pairs,
        ),
        Mistake(
            "one way only",
            "you fit on the first half and test on the second. Do it the other way round too, and take the mean: every "
            "code is then judged once.",
            lambda v, t, first, a: _share((v[first], t[first]), (v[~first], t[~first])),
        ),
        Mistake(
            "the error",
            "you return the share of wrong answers. Asked for is the share of right ones.",
            lambda v, t, first, a: 1 - _both_ways(v, t, first, a),
        ),
    ),
    well_done="A judge that nobody trained against, on codes that nobody trained on.",
)
