"""Checks of chapter 04, classes never seen: the split, the semantic autoencoder, four terms, the adversary's signs."""

import numpy as np
import torch
from torch.nn import functional as F

from commonspace.checks.exercise import Exercise, Mistake


def _pairs(rng: np.random.Generator) -> tuple:
    """6 classes of 8 to 12 pairs, a split by pairs that has every class on every side, and 3 or 4 seen classes."""
    label = rng.permutation(np.repeat(np.arange(6), rng.integers(8, 13, size=6)))
    train, validation, test = [], [], []
    for c in range(6):
        rows = rng.permutation(np.flatnonzero(label == c))
        train, validation, test = [*train, *rows[:4]], [*validation, *rows[4:6]], [*test, *rows[6:]]
    seen = rng.permutation(6)[: rng.integers(3, 5)]
    if (np.diff(seen) > 0).all():
        seen = seen[::-1].copy()  # never in ascending order: the order of `seen` numbers the classes
    return label, *(np.array(sorted(rows)) for rows in (train, validation, test)), seen


def _split(label, train, validation, test, seen) -> dict:
    """Row by row, with sets."""
    known = {int(c): number for number, c in enumerate(seen)}

    def rows(part, wanted):
        return np.array([int(i) for i in part if (int(label[i]) in known) == wanted])

    return {
        "train": rows(train, True),
        "train_label": np.array([known[int(label[i])] for i in train if int(label[i]) in known]),
        "validation": rows(validation, True),
        "seen": rows(test, True),
        "unseen": rows(test, False),
        "gallery": np.asarray(test),
    }


def _pairs_split(label, train, validation, test, seen) -> dict:
    """The split of the pairs as it was: training and validation have every class."""
    made = _split(label, train, validation, test, seen)
    return made | {"train": train, "train_label": label[train], "validation": validation}


extendable_split = Exercise(
    name="extendable_split",
    inputs=_pairs,
    reference=_split,
    mistakes=(
        Mistake(
            "split by pairs",
            "training and validation still hold pairs of the unseen classes. One training pair of a class, and the "
            "class is seen: split the classes, not the pairs.",
            _pairs_split,
        ),
        Mistake(
            "validation holds unseen classes",
            "the validation rows hold unseen classes. What is chosen on them would be chosen for the classes you test "
            "on: keep the seen ones alone.",
            lambda *a: _split(*a) | {"validation": a[2]},
        ),
        Mistake(
            "labels not numbered anew",
            "the training labels keep their old numbers. A softmax over the seen classes needs 0 to len(seen) - 1.",
            lambda *a: (made := _split(*a)) | {"train_label": a[0][made["train"]]},
        ),
        Mistake(
            "numbered by the old numbers' order",
            "the training labels are 0 to len(seen) - 1, but in ascending order of the old numbers. Class seen[j] "
            "gets the number j: row j of the class embeddings is its embedding.",
            lambda *a: (made := _split(*a)) | {"train_label": np.unique(a[0][made["train"]], return_inverse=True)[1]},
        ),
        Mistake(
            "unseen from every part",
            "the unseen rows include training and validation pairs. Nobody trained on them, but the query set would "
            "then not be the data set's own test pairs: take them from test alone.",
            lambda *a: _split(*a) | {"unseen": np.flatnonzero(~np.isin(a[0], a[4]))},
        ),
        Mistake(
            "gallery without the seen",
            "the gallery of the generalised protocol holds unseen pairs alone. Its point is that seen ones are in the "
            "way: all of test.",
            lambda *a: (made := _split(*a)) | {"gallery": made["unseen"]},
        ),
    ),
    well_done="No unseen class has a pair in training or validation.",
)


def _rows_and_meanings(rng: np.random.Generator) -> tuple:
    k = 4
    S = rng.normal(size=(5, k))[rng.integers(0, 5, size=30)]
    X = S @ rng.normal(size=(k, 6)) + rng.normal(size=(30, 6))
    return X, S, float(rng.choice([0.2, 3.0]))


def _by_kronecker(X, S, lam) -> np.ndarray:
    """Equation (2) as one linear system of k d unknowns."""
    k, d = S.shape[1], X.shape[1]
    A = np.kron(S.T @ S, np.eye(d)) + np.kron(np.eye(k), lam * X.T @ X)
    return np.linalg.solve(A, ((1 + lam) * S.T @ X).ravel()).reshape(k, d)


def _eigen_slip(wrong_gram=False, forgotten=False, both=False, turned=False, twice=False):
    def answer(X, S, lam):
        a, U = np.linalg.eigh(S.T @ S)
        b, V = np.linalg.eigh(X.T @ X)
        sums = lam * a[:, None] + b if wrong_gram else a[:, None] + lam * b
        if both:
            sums = lam * (a[:, None] + b)
        if twice:  # eigenvalues of lambda X'X, times lambda once more
            sums = a[:, None] + lam**2 * b
        U, V = (U.T, V.T) if turned else (U, V)
        return U @ ((1 if forgotten else 1 + lam) * (U.T @ S.T @ X @ V) / sums) @ V.T

    return answer


semantic_map = Exercise(
    name="semantic_map",
    inputs=_rows_and_meanings,
    reference=_by_kronecker,
    mistakes=(
        Mistake(
            "lambda on the wrong Gram matrix",
            "lambda multiplies the eigenvalues of S'S. In the equation it stands at X'X: divide by a_i + lambda b_j.",
            _eigen_slip(wrong_gram=True),
        ),
        Mistake(
            "lambda on both",
            "lambda multiplies both Gram matrices. S'S comes from decoding, which has weight 1: a_i + lambda b_j.",
            _eigen_slip(both=True),
        ),
        Mistake(
            "lambda twice",
            "lambda counts twice: b are the eigenvalues of X'X, or of lambda X'X, but then lambda is in them already.",
            _eigen_slip(twice=True),
        ),
        Mistake(
            "U and V the wrong way round",
            "U and V stand the wrong way round. eigh gives eigenvectors as columns, A = U diag(a) U', so the right "
            "side is turned into the bases by U' (...) V and back by U (...) V'.",
            _eigen_slip(turned=True),
        ),
        Mistake(
            "1 + lambda forgotten",
            "your W is right but for a factor: the right side is (1 + lambda) S'X, once from each term.",
            _eigen_slip(forgotten=True),
        ),
        Mistake(
            "transposed",
            "your W is transposed. It takes a row x (d) to s (k) as W x, so its shape is (k, d).",
            lambda X, S, lam: _by_kronecker(X, S, lam).T,
        ),
        Mistake(
            "least squares alone",
            "your W predicts S from X and does nothing else: decoding is left out. It is where lambda is infinite.",
            lambda X, S, lam: np.linalg.lstsq(X, S, rcond=None)[0].T,
        ),
    ),
    well_done="Two eigendecompositions solve what a Sylvester solver needs Schur's for.",
)


def _codes_and_decoders(rng: np.random.Generator) -> tuple:
    n, p, q, d, e, c = 5, 7, 4, 3, 2, 6
    label = rng.permutation(c)[:n]
    if (label == np.arange(n)).all():
        label = label[::-1].copy()
    shapes = [(n, p), (n, q), (n, d), (n, d)]
    v, t, code_v, code_t = (rng.normal(size=shape) for shape in shapes)
    return v, t, code_v, code_t, label, *(rng.normal(size=shape) for shape in [(c, e), (d + e, p), (d + e, q)])


def _squares(v, t, code_v, code_t, label, embeddings, decode_v, decode_t) -> dict:
    """Squared distances (n,) of the four terms, in torch and row by row; (target, code) -> values."""
    found = {}
    for target, rows, decoder in [("v", v, decode_v), ("t", t, decode_t)]:
        for name, code in [("v", code_v), ("t", code_t)]:
            found[target, name] = np.array(
                [
                    float(
                        F.mse_loss(
                            torch.tensor(np.r_[code[i], embeddings[label[i]]] @ decoder),
                            torch.tensor(rows[i]),
                            reduction="sum",
                        )
                    )
                    for i in range(len(rows))
                ]
            )
    return found


def _rebuilt(v, t, code_v, code_t, label, embeddings, decode_v, decode_t) -> float:
    return float(sum(s.mean() for s in _squares(v, t, code_v, code_t, label, embeddings, decode_v, decode_t).values()))


def _embedding_first(v, t, code_v, code_t, label, embeddings, decode_v, decode_t) -> float:
    known = [np.hstack([embeddings[label], code]) for code in (code_v, code_t)]
    return float(
        sum(((rows - k @ D) ** 2).sum(axis=1).mean() for k in known for rows, D in [(v, decode_v), (t, decode_t)])
    )


def _some(keep):
    return lambda *a: float(sum(s.mean() for name, s in _squares(*a).items() if keep(*name)))


def _with_label(change):
    return lambda *a: _rebuilt(*a[:4], change(a[4]), *a[5:])


four_terms = Exercise(
    name="four_terms",
    inputs=_codes_and_decoders,
    reference=_rebuilt,
    mistakes=(
        Mistake(
            "cross terms only",
            "you rebuild text from the image's code and image from the text's. L_rec has four terms: from either code "
            "BOTH rows of the pair.",
            _some(lambda target, code: target != code),
        ),
        Mistake(
            "own terms only",
            "you rebuild each row from its own code: two autoencoders that never meet. Add image from the text's code "
            "and text from the image's.",
            _some(lambda target, code: target == code),
        ),
        Mistake(
            "the row's number for the label's",
            "the decoders get the embedding of another pair's class: row i of the table is class i, and pair i is of "
            "class label[i].",
            _with_label(lambda label: np.arange(len(label))),
        ),
        Mistake(
            "the other pair's embedding",
            "the decoders get the embedding of the next pair's class. Pair i is of class label[i].",
            _with_label(lambda label: np.roll(label, -1)),
        ),
        Mistake(
            "mean over features",
            "you take the mean over features. A squared norm is their sum; the mean is over pairs alone.",
            lambda *a: float(
                sum(s.mean() / a[0 if name[0] == "v" else 1].shape[1] for name, s in _squares(*a).items())
            ),
        ),
        Mistake(
            "sum over pairs",
            "you sum over the pairs of the batch. Take the mean, so that the weight of the term does not hang on the "
            "size of the batch.",
            lambda *a: _rebuilt(*a) * len(a[0]),
        ),
        Mistake(
            "mean of the four",
            "you take the mean of the four terms. L_rec is their sum.",
            lambda *a: _rebuilt(*a) / 4,
        ),
        Mistake(
            "embedding before code",
            "your decoders read [embedding, code]. Their first d rows belong to the code: [code, embedding].",
            _embedding_first,
        ),
        Mistake(
            "norms, not squares",
            "you add norms. The equation has their squares.",
            lambda *a: float(sum(np.sqrt(s).mean() for s in _squares(*a).values())),
        ),
    ),
    well_done="Four terms, each with the embedding of its own pair's class.",
)


def _codes_and_classifier(rng: np.random.Generator) -> tuple:
    return rng.normal(size=(5, 3)) + 0.5, rng.normal(size=(5, 3)), rng.normal(size=3), float(rng.choice([0.3, 2.0]))


def _by_autograd(code_v, code_t, w, strength) -> tuple:
    a, b, weights = (torch.tensor(x, requires_grad=True) for x in (code_v, code_t, w))
    logits = torch.cat([a @ weights, b @ weights])
    is_image = torch.cat([torch.ones(len(a)), torch.zeros(len(b))]).double()
    of_w, of_a, of_b = torch.autograd.grad(F.binary_cross_entropy_with_logits(logits, is_image), (weights, a, b))
    return of_w.numpy(), -strength * of_a.numpy(), -strength * of_b.numpy()


def _signed(classifier, encoder):
    """The right answer, the classifier's part and the encoders' part each times a factor that may hang on strength."""

    def answer(code_v, code_t, w, strength):
        of_w, of_a, of_b = _by_autograd(code_v, code_t, w, strength)
        return classifier(strength) * of_w, encoder(strength) * of_a, encoder(strength) * of_b

    return answer


def _exchanged(code_v, code_t, w, strength) -> tuple:
    of_w, of_t, of_v = _by_autograd(code_t, code_v, w, strength)
    return of_w, of_v, of_t


adversary_gradients = Exercise(
    name="adversary_gradients",
    inputs=_codes_and_classifier,
    reference=_by_autograd,
    mistakes=(
        Mistake(
            "the reversal forgotten",
            "the classifier learns, but the codes go where it finds them easily: encoders and classifier minimise the "
            "same loss. Theirs is MINUS strength times the gradient.",
            _signed(lambda s: 1, lambda s: -1),
        ),
        Mistake(
            "no reversal and no strength",
            "encoders and classifier receive the same gradient: the codes go where the classifier finds them easily. "
            "Theirs is MINUS strength times the gradient.",
            _signed(lambda s: 1, lambda s: -1 / s),
        ),
        Mistake(
            "the cross-entropy's own minus forgotten",
            "your cross-entropy lacks its minus sign, so both signs are turned: the classifier is trained to fail, "
            "and the codes help whom it should fool.",
            _signed(lambda s: -1, lambda s: -1),
        ),
        Mistake(
            "the loss negated for both",
            "you turn the sign of the whole loss. Then the classifier is trained to fail as well, and who is "
            "misled by a judge that tries to be wrong?",
            _signed(lambda s: -1, lambda s: 1),
        ),
        Mistake(
            "strength at the classifier",
            "strength multiplies the classifier's gradient too. It belongs to the reversal, which lies between codes "
            "and classifier.",
            _signed(lambda s: s, lambda s: 1),
        ),
        Mistake(
            "strength forgotten",
            "the signs are right, but the reversed gradient is not multiplied by strength.",
            _signed(lambda s: 1, lambda s: 1 / s),
        ),
        Mistake(
            "mean over n, not 2n",
            "the signs are right, but you divide by n. L_adv is the mean over all 2n codes.",
            lambda a, b, w, s: tuple(2 * x for x in _by_autograd(a, b, w, s)),
        ),
        Mistake(
            "targets exchanged",
            "your targets are exchanged: p is the probability of 'image', so z is 1 for image codes and 0 for texts.",
            _exchanged,
        ),
        Mistake(
            "sum for mean",
            "the signs are right, but you sum over the codes. L_adv is the mean over all 2n of them.",
            lambda a, b, w, s: tuple(2 * len(a) * x for x in _by_autograd(a, b, w, s)),
        ),
    ),
    well_done="The classifier descends, the encoders climb the same loss.",
)
