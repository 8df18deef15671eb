"""Four proofs of each check of chapter 04: stub, solution, wrong answers by name, a right answer made otherwise."""

import numpy as np
import pytest
import torch
from scipy.linalg import solve_sylvester

from commonspace.checks import ch04
from commonspace.data import ClassSplit, PairedFeatures, extendable
from commonspace.losses import modality_loss, reconstruction_loss, reverse_gradient
from commonspace.models.semantic_autoencoder import semantic_map


@pytest.mark.parametrize("exercise", ["extendable_split", "semantic_map", "four_terms", "adversary_gradients"])
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch04, exercise)
    assert check(stub("04", exercise)).status == "not attempted"
    assert check(solution("04", exercise)).status == "passed"


def splits(*, by_pairs=False, validation=True, renumber="by seen", everywhere=False, whole_gallery=True):
    """The split by masks, and a switch for each slip."""

    def answer(label, train, validation_rows, test, seen):
        known = np.isin(label, seen)
        rows = train if by_pairs else train[known[train]]
        order = {"by seen": list(seen), "sorted": sorted(seen), "not": list(range(6))}["not" if by_pairs else renumber]
        unseen = np.flatnonzero(~known) if everywhere else test[~known[test]]
        return {
            "train": rows,
            "train_label": np.array([order.index(c) for c in label[rows]]),
            "validation": validation_rows[known[validation_rows]] if validation and not by_pairs else validation_rows,
            "seen": test[known[test]],
            "unseen": unseen,
            "gallery": test if whole_gallery else unseen,
        }

    return answer


@pytest.mark.parametrize(
    ("slip", "mistake", "words"),
    [
        ({"by_pairs": True}, "split by pairs", "split the classes, not the pairs"),
        ({"validation": False}, "validation holds unseen classes", "validation rows hold unseen"),
        ({"renumber": "not"}, "labels not numbered anew", "0 to len(seen) - 1"),
        ({"renumber": "sorted"}, "numbered by the old numbers' order", "seen[j]"),
        ({"everywhere": True}, "unseen from every part", "test alone"),
        ({"whole_gallery": False}, "gallery without the seen", "all of test"),
    ],
)
def test_wrong_splits_get_their_hint(slip, mistake, words):
    result = ch04.extendable_split(splits(**slip))
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_a_nameless_wrong_split_is_told_which_part_differs():
    def answer(*arguments):
        made = splits()(*arguments)
        return made | {"gallery": np.concatenate([made["seen"], made["unseen"]])}

    message = ch04.extendable_split(answer).message
    assert "gallery: expected" in message
    assert "train: expected" not in message


def test_masks_and_the_librarys_split_pass():
    def by_the_library(label, train, validation, test, seen):
        names = [f"class {c}" for c in range(6)]
        row = torch.arange(len(label), dtype=torch.float32)[:, None]
        pairs = PairedFeatures(row, row, torch.tensor(label), names)
        split = ClassSplit([names[c] for c in seen], [n for c, n in enumerate(names) if c not in seen])
        made = extendable(pairs[train.tolist()], pairs[test.tolist()], split, pairs[validation.tolist()])
        parts = ("train", "validation", "seen", "unseen", "gallery")
        rows = {name: getattr(made, name).image[:, 0].numpy() for name in parts}
        return rows | {"train_label": made.train.label.numpy()}

    assert ch04.extendable_split(splits()).status == "passed"
    assert ch04.extendable_split(by_the_library).status == "passed"


def by_eigen(X, S, lam, *, other_way=False, power=1):
    """Formula (4), and a switch for each slip."""
    a, U = np.linalg.eigh(S.T @ S)
    b, V = np.linalg.eigh(X.T @ X)
    if other_way:
        U, V = U.T, V.T
    inside = (1 + lam) * (U.T @ S.T @ X @ V) / np.add.outer(a, lam**power * b)
    return U @ inside @ V.T


def sae(*, gram="X", factor=True):
    """The equation by scipy's solver, and a switch for each slip."""

    def answer(X, S, lam):
        on_s, on_x = lam ** (gram in ("S", "both")), lam ** (gram in ("X", "both"))
        return solve_sylvester(on_s * S.T @ S, on_x * X.T @ X, (1 + lam if factor else 1) * S.T @ X)

    return answer


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (sae(gram="S"), "lambda on the wrong Gram matrix", "a_i + lambda b_j"),
        (sae(gram="both"), "lambda on both", "weight 1"),
        (sae(factor=False), "1 + lambda forgotten", "but for a factor"),
        (lambda X, S, lam: sae()(X, S, lam).T, "transposed", "(k, d)"),
        (lambda X, S, lam: by_eigen(X, S, lam, other_way=True), "U and V the wrong way round", "as columns"),
        (lambda X, S, lam: by_eigen(X, S, lam, power=2), "lambda twice", "in them already"),
        (lambda X, S, lam: (np.linalg.inv(X.T @ X) @ X.T @ S).T, "least squares alone", "decoding is left out"),
    ],
)
def test_wrong_autoencoders_get_their_hint(answer, mistake, words):
    result = ch04.semantic_map(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_scipys_solver_and_the_librarys_map_pass():
    assert ch04.semantic_map(sae()).status == "passed"
    assert ch04.semantic_map(by_eigen).status == "passed"
    assert ch04.semantic_map(semantic_map).status == "passed"


def four(*, terms="four", power=1.0, of=np.mean, features=np.sum, rows=lambda label: label, weight=1.0, first="code"):
    """Plain matrix products, and a switch for each slip."""

    def answer(v, t, code_v, code_t, label, embeddings, decode_v, decode_t):
        s = embeddings[rows(label)]
        total = 0.0
        for side, code in [("v", code_v), ("t", code_t)]:
            for target, wanted, decode in [("v", v, decode_v), ("t", t, decode_t)]:
                if terms == "four" or (terms == "cross") == (side != target):
                    known = np.hstack([code, s] if first == "code" else [s, code])
                    error = features((wanted - known @ decode) ** 2, axis=1)
                    total += weight * of(error**power)
        return total

    return answer


@pytest.mark.parametrize(
    ("slip", "mistake", "words"),
    [
        ({"terms": "cross"}, "cross terms only", "BOTH rows"),
        ({"terms": "own"}, "own terms only", "never meet"),
        ({"rows": lambda label: np.arange(len(label))}, "the row's number for the label's", "row i of the table"),
        ({"rows": lambda label: np.roll(label, -1)}, "the other pair's embedding", "next pair's class"),
        ({"features": np.mean}, "mean over features", "mean is over pairs"),
        ({"of": np.sum}, "sum over pairs", "size of the batch"),
        ({"power": 0.5}, "norms, not squares", "their squares"),
        ({"weight": 0.25}, "mean of the four", "their sum"),
        ({"first": "embedding"}, "embedding before code", "[code, embedding]"),
    ],
)
def test_wrong_reconstructions_get_their_hint(slip, mistake, words):
    result = ch04.four_terms(four(**slip))
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_products_and_the_librarys_loss_pass():
    def by_the_library(v, t, code_v, code_t, label, embeddings, decode_v, decode_t):
        given = (v, t, code_v, code_t, embeddings[label], decode_v, decode_t)
        v, t, code_v, code_t, s, decode_v, decode_t = map(torch.tensor, given)
        rebuilt = [(known @ decode_v, known @ decode_t) for known in (torch.cat([c, s], 1) for c in (code_v, code_t))]
        return reconstruction_loss(v, t, *rebuilt)

    assert ch04.four_terms(four()).status == "passed"
    assert ch04.four_terms(by_the_library).status == "passed"


def game(classifier=lambda s: 1, encoder=lambda s: -s, over=lambda n: 2 * n, targets=(1, 0)):
    """The gradients by hand, each player's times a factor."""

    def answer(code_v, code_t, w, strength):
        too_much = [1 / (1 + np.exp(-c @ w)) - is_image for c, is_image in zip((code_v, code_t), targets, strict=True)]
        n = over(len(code_v))
        of_w = (code_v.T @ too_much[0] + code_t.T @ too_much[1]) / n
        return classifier(strength) * of_w, *(encoder(strength) * np.outer(e, w) / n for e in too_much)

    return answer


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (game(encoder=lambda s: s), "the reversal forgotten", "MINUS strength"),
        (game(encoder=lambda s: 1), "no reversal and no strength", "the same gradient"),
        (game(lambda s: -1, lambda s: s), "the cross-entropy's own minus forgotten", "whom it should fool"),
        (game(lambda s: -1), "the loss negated for both", "tries to be wrong"),
        (game(lambda s: s), "strength at the classifier", "belongs to the reversal"),
        (game(encoder=lambda s: -1), "strength forgotten", "not multiplied by strength"),
        (game(over=lambda n: 1), "sum for mean", "mean over all 2n"),
        (game(over=lambda n: n), "mean over n, not 2n", "all 2n codes"),
        (game(targets=(0, 1)), "targets exchanged", "1 for image codes"),
    ],
)
def test_wrong_signs_get_their_hint(answer, mistake, words):
    result = ch04.adversary_gradients(answer)
    assert (result.status, result.mistake) == ("failed", mistake)
    assert words in result.message


def test_signs_by_hand_and_by_a_reversal_layer_pass():
    def by_reversal(code_v, code_t, w, strength):
        a, b, w = (torch.tensor(x, requires_grad=True) for x in (code_v, code_t, w))
        right = [reverse_gradient(c, strength) @ w for c in (a, b)]
        # column 1 stands for image, column 0 for text: the logistic loss is softmax's where column 0 is 0
        loss = modality_loss(*(torch.stack([torch.zeros_like(x), x], dim=1) for x in right))
        return torch.autograd.grad(loss, (w, a, b))

    assert ch04.adversary_gradients(game()).status == "passed"
    assert ch04.adversary_gradients(by_reversal).status == "passed"
