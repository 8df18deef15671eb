"""What can still be read from codes, by something fresh: the modality by a classifier, any vector by a linear map.

Both are trained on some codes and tested on others. An adversary that is fooled proves nothing: it may be weak, or the
projectors may have run ahead of it. So a classifier that the projectors never played against is trained on codes of
pairs they never saw.
"""

import warnings
from typing import Any

import torch

from commonspace.metrics.retrieval import read_matrix

KINDS = ("mlp", "linear")


def modality_probe(image_emb: Any, text_emb: Any, kind: str = "mlp", seed: int = 0) -> float:
    """How often, in [0, 1], a fresh classifier tells image codes (n, d) from text codes (n, d); 0.5 is chance.

    Row i of both is one pair. The pairs are cut into two halves: the classifier is trained on one and tested on the
    other, then the other way round; the mean is returned. Both codes of a pair are always on the same side. ``kind``:
    "mlp", one hidden layer of 50 as the modality classifier of ACMR has, or "linear", logistic regression. Columns are
    standardised by the training half.

    Raises ValueError for shapes that do not match, values that are not finite, fewer than 20 pairs, an unknown kind.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    image = read_matrix(image_emb, "image_emb", "(n, d)").detach().cpu().double()
    text = read_matrix(text_emb, "text_emb", "(n, d)").detach().cpu().double()
    if image.shape != text.shape:
        raise ValueError(
            f"image_emb {tuple(image.shape)} and text_emb {tuple(text.shape)} must be rows of one pair each"
        )
    if len(image) < 20:
        raise ValueError(f"{len(image)} pairs are too few to train a probe on and test it: give at least 20")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    order = torch.randperm(len(image), generator=torch.Generator().manual_seed(seed))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    shares = []
    for train, test in [halves, halves[::-1]]:
        if kind == "mlp":
            judge = MLPClassifier((50,), alpha=1e-2, max_iter=300, early_stopping=False, random_state=seed)
        else:
            judge = LogisticRegression(max_iter=2000)
        judge = make_pipeline(StandardScaler(), judge)
        labels = [[1] * len(rows) + [0] * len(rows) for rows in (train, test)]
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # where there is nothing to tell, it never comes to rest
            judge.fit(torch.cat([image[train], text[train]]).numpy(), labels[0])
        shares.append(judge.score(torch.cat([image[test], text[test]]).numpy(), labels[1]))
    return sum(shares) / 2


def linear_probe(codes: Any, wanted: Any, test_codes: Any, test_wanted: Any, ridge: float = 0.01) -> float:
    """The share of the variance of ``test_wanted`` that a linear map of ``test_codes``, fitted on others, explains.

    ``codes`` (n, d), ``wanted`` (n, k): rows to fit on; the other two, (m, d) and (m, k), to test on. With X the codes
    standardised by the rows to fit on, and Y what is wanted less its mean there,

        W = argmin ||X W - Y||^2 / n + ridge ||W||^2,      1 - ||Y_test - X_test W||^2 / ||Y_test - mean(Y_test)||^2.

    1: all of it can be read linearly; 0: no more than its mean; below 0: worse than that. What it does not find may be
    there in another form. Raises ValueError for rows that do not match, values that are not finite, fewer than two
    rows, a ridge that is not positive, and for ``test_wanted`` without variance.
    """
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score
    from sklearn.preprocessing import StandardScaler

    given = {"codes": codes, "wanted": wanted, "test_codes": test_codes, "test_wanted": test_wanted}
    X, Y, X_test, Y_test = (
        read_matrix(rows, name, "(n, d)").detach().cpu().double().numpy() for name, rows in given.items()
    )
    if len(X) != len(Y) or len(X_test) != len(Y_test) or X.shape[1] != X_test.shape[1] or Y.shape[1] != Y_test.shape[1]:
        shapes = ", ".join(f"{name} {rows.shape}" for name, rows in zip(given, (X, Y, X_test, Y_test), strict=True))
        raise ValueError(f"codes and wanted must have equal rows, and the test rows equal widths; got {shapes}")
    if min(len(X), len(X_test)) < 2:
        raise ValueError(f"a probe needs at least two rows to fit and two to test; got {len(X)} and {len(X_test)}")
    if not ridge > 0:
        raise ValueError(f"ridge must be greater than 0, got {ridge}")
    if not Y_test.std(axis=0).any():
        raise ValueError("test_wanted is the same in every row: there is no variance to explain")
    scale = StandardScaler().fit(X)
    guess = Ridge(ridge * len(X)).fit(scale.transform(X), Y).predict(scale.transform(X_test))
    return float(r2_score(Y_test, guess, multioutput="variance_weighted"))
