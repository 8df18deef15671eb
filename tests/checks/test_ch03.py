"""Four proofs of each check of chapter 03: stub, solution, wrong answers by name, a right answer made otherwise."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_score
from torch.nn import functional as F

from commonspace.checks import ch03
from commonspace.losses import intermodal_triplet_loss


@pytest.mark.parametrize("exercise", ["gradient_reversal", "intermodal_loss", "who_learns", "fresh_probe"])
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch03, exercise)
    assert check(stub("03", exercise)).status == "not attempted"
    assert check(solution("03", exercise)).status == "passed"
    assert "Pass the function itself" in check(3).message


def entropy(image_logits, text_logits):
    """The modality loss by one cross-entropy over all codes; as many of both."""
    logits = torch.cat([image_logits, text_logits])
    return F.cross_entropy(logits, torch.tensor([1] * len(image_logits) + [0] * len(text_logits)))


def turned(code, strength):
    """Reversal without a class of its own: the value of the code, the gradient of -strength times it."""
    return (1 + strength) * code.detach() - strength * code


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda v, t, d, s: -s * entropy(d(v), d(t)), "loss negated", "trained to fail too"),
        (lambda v, t, d, s: entropy(turned(d(v), s), turned(d(t), s)), "loss negated", "behind the classifier"),
        (lambda v, t, d, s: -entropy(d(v), d(t)), "loss negated, strength ignored", "trained to fail too"),
        (lambda v, t, d, s: entropy(d(v.detach()), d(t.detach())), "detached", "no gradient reaches the projectors"),
        (lambda v, t, d, s: entropy(d(turned(v.detach(), s)), d(turned(t.detach(), s))), "detached", "no gradient"),
        (lambda v, t, d, s: entropy(d(v), d(t)), "nothing reversed", "help the classifier"),
        (lambda v, t, d, s: entropy(d(turned(v, -s)), d(turned(t, -s))), "scaled, not turned", "not turned round"),
        (lambda v, t, d, s: entropy(d(turned(v, 1)), d(turned(t, 1))), "strength ignored", "strength 1"),
        (lambda v, t, d, s: s * entropy(d(turned(v, 1)), d(turned(t, 1))), "strength on the classifier", "in front"),
        (lambda v, t, d, s: entropy(d(-s * v), d(-s * t)), "forward negated", "R(x) = x"),
        (lambda v, t, d, s: entropy(d(turned(v, s)), d(t)), "images only", "text code is not"),
        (lambda v, t, d, s: -entropy(d(turned(v, s)), d(turned(t, s))), "reversed twice", "One turn is enough"),
        (
            lambda v, t, d, s: entropy(d(v.detach()), d(t.detach())) - s * entropy(d(v), d(t)),
            "a second loss that reaches the classifier",
            "1 - strength",
        ),
    ],
)
def test_wrong_reversals_get_their_hint(answer, mistake, words):
    result = ch03.gradient_reversal(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message
    assert "gradient of the" in result.message, "whose gradient is wrong is named"


def test_reversal_without_a_layer_passes():
    """The true loss on detached codes trains the classifier; what is subtracted trains the projectors alone."""

    def two_terms(v, t, classifier, strength):
        for_the_classifier = entropy(classifier(v.detach()), classifier(t.detach()))
        return for_the_classifier - strength * (entropy(classifier(v), classifier(t)) - for_the_classifier)

    assert ch03.gradient_reversal(lambda v, t, d, s: entropy(d(turned(v, s)), d(turned(t, s)))).status == "passed"
    assert ch03.gradient_reversal(two_terms).status == "passed"


def test_what_is_no_loss_is_answered_in_words():
    assert "tensor without dimensions" in ch03.gradient_reversal(lambda v, t, d, s: d(v)).message
    assert "tensor without dimensions" in ch03.gradient_reversal(lambda v, t, d, s: 0.7).message
    assert "returned None" in ch03.gradient_reversal(lambda v, t, d, s: None).message


def by_masks(
    v, t, label, margin, gamma, *, form="absolute", power=1, ways=2, inside=False, positive="label", mean="anchor"
):
    """L_imi from the whole distance matrix, and a switch for each slip."""
    same = label[:, None] == label[None]
    own = np.eye(len(label), dtype=bool)
    near_is, far_is = {"label": (same, ~same), "others": (same, ~own), "own": (own, ~same), "pair": (own, ~own)}[
        positive
    ]
    total = 0.0
    for anchor, across in [(v, t), (t, v)][:ways]:
        near = np.linalg.norm(anchor[:, None] - across[None], axis=2) ** power
        far = np.linalg.norm(anchor[:, None] - anchor[None], axis=2) ** power if inside else near
        if form == "absolute":
            values = near[:, :, None] + gamma * np.maximum(0, margin - far)[:, None, :]
        else:
            values = np.maximum(0, margin + near[:, :, None] - far[:, None, :])
        triples = near_is[:, :, None] & far_is[:, None, :]
        sums = (values * triples).sum(axis=(1, 2))
        counts = triples.sum(axis=(1, 2))
        total += {"anchor": (sums / counts).mean(), "all": sums.sum() / counts.sum(), "sum": sums.sum()}[mean]
    return total


@pytest.mark.parametrize(
    ("slip", "mistake", "words"),
    [
        ({"form": "relative"}, "relative hinge", "stands outside"),
        ({"positive": "others"}, "a negative that shares the label", "never a negative"),
        ({"positive": "own"}, "own partner only", "same label"),
        ({"positive": "pair"}, "own partner against all others", "decided by the label"),
        ({"power": 2}, "squared distances", "distance itself"),
        ({"ways": 1}, "one direction", "anchors too"),
        ({"inside": True}, "same modality", "across"),
        ({"mean": "sum"}, "summed", "then over anchors"),
        ({"mean": "all"}, "one mean over all triples", "each anchor's triples first"),
        ({"gamma": 1.0}, "gamma ignored", "multiplies the hinge"),
    ],
)
def test_wrong_triplets_get_their_hint(slip, mistake, words):
    result = ch03.intermodal_loss(lambda v, t, y, margin, gamma: by_masks(v, t, y, margin, **({"gamma": gamma} | slip)))
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_triplets_by_masks_and_by_the_library_pass():
    def library(v, t, label, margin, gamma):
        return intermodal_triplet_loss(*map(torch.from_numpy, (v, t, label)), margin, gamma)

    assert ch03.intermodal_loss(by_masks).status == "passed"
    assert ch03.intermodal_loss(library).status == "passed"


def by_backward(terms, groups, *, clear=True, look=lambda weights: weights, reached=lambda g: g.abs().sum() > 0):
    """Backward on each term in turn, then a look at .grad."""
    found = {}
    for term, loss in terms.items():
        if clear:
            for weights in groups.values():
                for weight in weights:
                    weight.grad = None
        loss.backward(retain_graph=True)
        found[term] = {
            name
            for name, weights in groups.items()
            if any(weight.grad is not None and reached(weight.grad) for weight in look(weights))
        }
    return found


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda a, b: by_backward(a, b, clear=False), "gradients pile up", "ADDS"),
        (
            lambda a, b: {term: [n for n, w in b.items() if any(x.requires_grad for x in w)] for term in a},
            "requires_grad is not a gradient",
            "may be trained",
        ),
        (lambda a, b: by_backward(a, b, reached=lambda g: True), "zeros counted", "learns from zeros"),
        (lambda a, b: by_backward(a, b, look=lambda weights: weights[:1]), "first weight only", "any of its weights"),
    ],
)
def test_wrong_readings_of_a_graph_get_their_hint(answer, mistake, words):
    result = ch03.who_learns(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_reading_by_backward_and_by_all_gradients_at_once_passes():
    def other_road(terms, groups):
        found = {}
        for term, loss in terms.items():
            flat = [(name, w) for name, weights in groups.items() for w in weights if w.requires_grad]
            vector = torch.autograd.grad(
                loss, [w for _, w in flat], retain_graph=True, allow_unused=True, materialize_grads=True
            )
            found[term] = tuple({name for (name, _), g in zip(flat, vector, strict=True) if torch.norm(g) > 1e-12})
        return found

    assert ch03.who_learns(by_backward).status == "passed"
    assert ch03.who_learns(other_road).status == "passed"
    assert ch03.who_learns(lambda terms, groups: ["label"]).status == "failed"


def fitted(train_v, train_t, v, t):
    X, y = np.concatenate([train_v, train_t]), np.r_[np.ones(len(train_v)), np.zeros(len(train_t))]
    judge = LogisticRegression().fit(X, y)
    return (judge.predict(v).sum() + (1 - judge.predict(t)).sum()) / (len(v) + len(t))


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda v, t, h, a: np.r_[v @ a > 0, t @ a <= 0].mean(), "asks the adversary", "proves nothing"),
        (lambda v, t, h, a: fitted(v, t, v, t), "trains and tests on the same codes", "test on the other"),
        (
            lambda v, t, h, a: np.mean([fitted(v[i], t[i], v[i], t[i]) for i in (h, ~h)]),
            "each half on itself",
            "has not seen",
        ),
        (
            lambda v, t, h, a: np.mean([fitted(v[i], t[~i], v[~i], t[i]) for i in (h, ~h)]),
            "pairs torn apart",
            "Split pairs",
        ),
        (lambda v, t, h, a: fitted(v[h], t[h], v[~h], t[~h]), "one way only", "other way round"),
        (
            lambda v, t, h, a: 1 - np.mean([fitted(v[i], t[i], v[~i], t[~i]) for i in (h, ~h)]),
            "the error",
            "right ones",
        ),
    ],
)
def test_wrong_probes_get_their_hint(answer, mistake, words):
    result = ch03.fresh_probe(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_a_probe_by_cross_validation_passes():
    def answer(image, text, first, adversary):
        folds = PredefinedSplit(np.r_[first, first].astype(int))
        X, y = np.r_[image, text], np.repeat([1, 0], len(image))
        return cross_val_score(LogisticRegression(), X, y, cv=folds).mean()

    assert ch03.fresh_probe(answer).status == "passed"
