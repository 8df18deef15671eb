"""Checks of chapter 06, compose a query: several right answers, kept and changed, the operator, queries by caption."""

from collections.abc import Callable

import numpy as np

from commonspace.checks.exercise import Exercise, Mistake, Result


def _gallery(rng: np.random.Generator) -> tuple:
    """Scores of twelve pictures with ties among them, three right answers, and a source that mostly scores highest."""
    source, *relevant = rng.permutation(12)[:4].tolist()
    scores = rng.integers(0, 8, size=12) / 10
    scores[source] = 0.9 if rng.random() < 0.8 else 0.0
    return scores, relevant, source


def _rank_by_a_loop(scores, relevant, source) -> int:
    """Walk over the gallery and count who stands before the best right answer."""
    best = max(scores[i] for i in relevant)
    return sum(1 for i in range(len(scores)) if i != source and i not in relevant and scores[i] >= best)


def _rank(*, pick=np.max, among="others", source_out=True, ties=True, first=0) -> Callable:
    """A rank with one slip: ``pick`` of the right answers' scores, ``among`` whom it is counted."""

    def answer(scores, relevant, source):
        out = np.zeros(len(scores), dtype=bool)
        out[relevant if among == "others" else relevant[:1]] = True
        out[source] |= source_out
        mark = pick(scores[relevant])
        above = scores >= mark if ties else scores > mark
        return int((above & ~out).sum()) + first

    return answer


def _first(scores):
    return scores[0]


def _place(*, kind: str = "stable", turned: bool = False) -> Callable:
    """Where the first right answer stands in a sorted gallery: of equal scores the sort decides who comes first."""

    def answer(scores, relevant, source):
        order = scores.argsort(kind=kind)[::-1] if turned else (-scores).argsort(kind=kind)
        return int(np.isin(order[order != source], relevant).argmax())

    return answer


def _ties(source: float) -> tuple[tuple, tuple]:
    """A right answer and a wrong one with the same score, the wrong one behind it and before it."""
    behind, before = np.array([0.1, 0.5, source, 0.7, 0.5]), np.array([0.5, 0.7, source, 0.5, 0.1])
    return (behind, [0, 1], 2), (before, [3, 4], 2)


rank = Exercise(
    name="rank",
    inputs=_gallery,
    reference=_rank_by_a_loop,
    always=(*_ties(0.9), *_ties(0.0)),
    mistakes=(
        Mistake(
            "counts one of them only",
            "you look for relevant[0] alone, and the other right answers stand in its way. Any of them answers the "
            "query: the best one counts, and right answers never count against each other.",
            _rank(pick=_first, among="itself"),
        ),
        Mistake(
            "counts one of them only, others left out",
            "the other right answers do not stand in the way of relevant[0], but they do not count as found either. "
            "The best of them counts.",
            _rank(pick=_first),
        ),
        Mistake(
            "counts one of them only, source included",
            "you look for relevant[0] alone, where any right answer will do; and the source, which is in the gallery "
            "too, is counted as a wrong answer. It is left out.",
            _rank(pick=_first, among="itself", source_out=False),
        ),
        Mistake(
            "the last of them",
            "you wait until ALL right answers are found. One is enough: take the highest of their scores.",
            _rank(pick=np.min),
        ),
        Mistake(
            "source not excluded",
            "the source itself stands above the right answers. Whoever asks has it already: it is left out of this "
            "query's gallery.",
            _rank(source_out=False),
        ),
        Mistake(
            "ties for the query",
            "you count strictly higher scores only. A tie counts against the query (chapter 00): at least as high.",
            _rank(ties=False),
        ),
        *(
            Mistake(
                "ties by position",
                "you sort the gallery, and of equal scores the sort puts first what stands first (or last) in it: that "
                "is luck. A tie counts against the query (chapter 00). Do not sort: count the wrong answers that score "
                "at least as high as the best right one.",
                _place(kind=kind, turned=turned),
            )
            for kind in ("stable", "quicksort")
            for turned in (False, True)
        ),
        Mistake(
            "counts from 1",
            "you count from 1. Rank 0 is the best there is: no wrong answer above it.",
            _rank(first=1),
        ),
    ),
    well_done="Any right answer will do, and the source is not counted.",
)


def _answered(rng: np.random.Generator) -> tuple:
    """Pictures with attributes; queries that change one to three of four; scores that favour the source."""
    attributes = rng.integers(0, 3, size=(30, 4))
    source, target = np.array([], dtype=int), np.array([], dtype=int)
    while len(source) < 16:  # more than 15 entries are shown by their shape
        s, t = rng.choice(30, size=2, replace=False)
        if 0 < (attributes[s] != attributes[t]).sum() < 4:
            source, target = np.append(source, s), np.append(target, t)
    sim = rng.normal(size=(16, 30))
    sim[np.arange(16), source] += 9.0
    return attributes, source, target, sim


def _one_by_one(attributes, source, target, sim) -> tuple[float, float]:
    """Query by query, attribute by attribute."""
    kept, changed = [], []
    for s, t, scores in zip(source, target, sim, strict=True):
        answer = max((i for i in range(len(scores)) if i != s), key=lambda i: scores[i])
        stays, moves = [], []
        for of_source, of_target, of_answer in zip(attributes[s], attributes[t], attributes[answer], strict=True):
            (stays if of_source == of_target else moves).append(of_answer == of_target)
        kept.append(sum(stays) / len(stays))
        changed.append(sum(moves) / len(moves))
    return sum(kept) / len(kept), sum(changed) / len(changed)


def _shares(*, out="source", changed="asked", kept="stays", pooled=False, swapped=False) -> Callable:
    """Kept and changed with one slip."""

    def answer(attributes, source, target, sim):
        sim = sim.copy()
        if out == "source":
            sim[np.arange(len(sim)), source] = -np.inf
        elif out == "all":  # every query's source out of every gallery
            sim[:, source] = -np.inf
        s, t, a = attributes[source], attributes[target], attributes[sim.argmax(axis=1)]
        stays, right = s == t, a == t
        all_of_them = np.ones_like(stays)
        pairs = {
            "kept": {"stays": (right, stays), "all": (a == s, all_of_them)}[kept],
            "changed": {
                "asked": (right, ~stays),
                "all": (right, all_of_them),
                "different": (a != s, ~stays),
                "anything": (a != s, all_of_them),
                "yes or no": (right.all(axis=1, keepdims=True) & all_of_them, ~stays),
            }[changed],
        }
        found = []
        for hit, counted in pairs.values():
            hits, counts = (hit & counted).sum(axis=1), counted.sum(axis=1)
            found.append(hits.sum() / counts.sum() if pooled else (hits / counts).mean())
        return tuple(found[::-1] if swapped else found)

    return answer


kept_and_changed = Exercise(
    name="kept_and_changed",
    inputs=_answered,
    reference=_one_by_one,
    mistakes=(
        Mistake(
            "source not excluded",
            "your first answer is the source itself, which keeps everything and changes nothing. Leave each query's "
            "source out of its gallery before you take the highest score.",
            _shares(out="nothing"),
        ),
        Mistake(
            "sources of all queries excluded",
            "you leave the sources of ALL queries out of every gallery. A query loses its own source only: the source "
            "of one may be the right answer to another.",
            _shares(out="all"),
        ),
        Mistake(
            "unchanged attributes counted as changed",
            "your changed counts every attribute in which the answer agrees with the target, those that were to stay "
            "as well. Then who changes nothing scores high. Count the attributes alone that differ between source and "
            "target.",
            _shares(changed="all"),
        ),
        Mistake(
            "changed into anything",
            "you count an attribute as changed if the answer differs from the SOURCE in it. Asked for is the target's "
            "value: red made blue is no answer to 'make it green'.",
            _shares(changed="different"),
        ),
        Mistake(
            "every difference is a change",
            "your changed is the share of all attributes in which answer and source differ. Count those alone that "
            "differ between source and target, and there the answer must have the target's value.",
            _shares(changed="anything"),
        ),
        Mistake(
            "all or nothing",
            "your changed is 1 only where the answer agrees with the target in everything. That is the share of exact "
            "answers; changed looks at the asked attributes, one by one.",
            _shares(changed="yes or no"),
        ),
        Mistake(
            "kept over all attributes",
            "your kept counts the attributes that were to change too: the perfect answer would not have 1. Count those "
            "in which source and target agree.",
            _shares(kept="all"),
        ),
        Mistake(
            "pooled",
            "you divide all hits by all attributes. Take the share of each query first, then the mean over queries.",
            _shares(pooled=True),
        ),
        Mistake("swapped", "you return (changed, kept). Asked for is kept first.", _shares(swapped=True)),
    ),
    well_done="Two numbers that no single trick can raise together.",
    compare_as=lambda answer, *arguments: tuple(answer),
)


def _parts(rng: np.random.Generator) -> tuple:
    """Vectors of six images and texts of their own; U and V for rank 2."""
    return rng.normal(size=(6, 5)), rng.normal(size=(6, 3)), rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, 2))


def _matrices(image, text, U, V) -> np.ndarray:
    """A matrix for every text, entry by entry."""
    (n, d), (k, _, r) = image.shape, U.shape
    composed = np.zeros((n, d))
    for i in range(n):
        u, v = (sum(text[i, j] * W[j] for j in range(k)) for W in (U, V))  # (d, r)
        for a in range(d):
            for b in range(d):
                composed[i, a] += (float(a == b) + sum(u[a, c] * v[b, c] for c in range(r))) * image[i, b]
    return composed


def _operator(*, text_of=lambda text: text, transposed=False, identity=True, add=True, both="uv", mix="product"):
    """The operator with one slip."""

    def answer(image, text, U, V):
        text = text_of(text)
        u, v = (np.einsum("nk,kdr->ndr", text, {"u": U, "v": V}[which]) for which in both)
        if mix == "sum":  # of the texts of a batch
            T = np.einsum("ndr,ner->de", u, v)[None].repeat(len(image), axis=0)
        else:
            T = u @ v.transpose(0, 2, 1)
        T = T.transpose(0, 2, 1) if transposed else T
        moved = np.einsum("nde,ne->nd", T, image) if add else 0.0
        return moved + image if identity else moved

    return answer


operator = Exercise(
    name="operator",
    inputs=_parts,
    reference=_matrices,
    mistakes=(
        Mistake(
            "one matrix for the whole batch: the first text's",
            "every image is moved by the matrix of the FIRST text. Each query has a text of its own, so U and V must "
            "keep the batch's axis: (B, d, r).",
            _operator(text_of=lambda text: text[:1].repeat(len(text), axis=0)),
        ),
        Mistake(
            "one matrix for the whole batch: the mean text's",
            "every image is moved by the same matrix, that of the mean text. Each query has a text of its own, so U "
            "and V must keep the batch's axis: (B, d, r).",
            _operator(text_of=lambda text: text.mean(axis=0, keepdims=True).repeat(len(text), axis=0)),
        ),
        Mistake(
            "one matrix for the whole batch: the summed texts'",
            "you sum the texts of the batch before you make U and V, so every image is moved by the same matrix. Sum "
            "over the k numbers of ONE text: the batch's letter must stand in einsum's output, 'bk,kdr->bdr'.",
            _operator(text_of=lambda text: text.sum(axis=0, keepdims=True).repeat(len(text), axis=0)),
        ),
        Mistake(
            "one matrix for the whole batch: summed",
            "your product of U and V sums over the batch as well, so all images are moved by one matrix. In einsum the "
            "batch's letter must stand in the output too: 'bdr,ber->bde'.",
            _operator(mix="sum"),
        ),
        Mistake(
            "transposed",
            "you apply I + V U', the transpose. A batch of rows times a matrix, image @ T, is T' times each: write "
            "T @ image[:, :, None], or let V meet the image first.",
            _operator(transposed=True),
        ),
        Mistake(
            "identity forgotten",
            "the image itself is missing: you return U V' phi. Without I an untrained operator sends every image to 0, "
            "with it it leaves them as they are.",
            _operator(identity=False),
        ),
        Mistake(
            "transposed, identity forgotten",
            "the image itself is missing, and U and V have changed places: V must meet the image first, then U, and "
            "what comes out is added to the image.",
            _operator(identity=False, transposed=True),
        ),
        Mistake("U twice", "you use U twice: T is I + U U'. The second factor is V(t)'.", _operator(both="uu")),
        Mistake("V twice", "you use V twice: T is I + V V'. The first factor is U(t).", _operator(both="vv")),
        Mistake("nothing moved", "you return the image as it came: that is image only.", _operator(add=False)),
    ),
    well_done="Every text a matrix of its own; that r numbers a query are enough, no d x d matrix, is the gain.",
)


def _things(rng: np.random.Generator) -> tuple:
    """A noun and an adjective for each of twelve pictures; one noun has one adjective alone."""
    noun = np.concatenate([[0, 0, 1], rng.integers(0, 3, size=9)])
    adjective = np.concatenate([[0, 1, 2], rng.integers(0, 4, size=9)])
    adjective[noun == 1] = 2
    order = rng.permutation(12)
    return noun[order], adjective[order]


def _by_captions(noun, adjective) -> dict:
    """Every picture against every caption there is."""
    captions = list(zip(noun.tolist(), adjective.tolist(), strict=True))
    queries = {}
    for source, (thing, own) in enumerate(captions):
        for other, asked in sorted(set(captions)):
            if other == thing and asked != own:
                queries[source, asked] = [i for i, caption in enumerate(captions) if caption == (thing, asked)]
    return queries


def _asked(
    *, own=False, me="as it comes", any_noun=False, everything=False, one=False, same_noun=False, empty=True
) -> Callable:
    """Queries by caption with one slip."""

    def answer(noun, adjective):
        queries = {}
        for s, (thing, has) in enumerate(zip(noun, adjective, strict=True)):
            for asked in np.unique(adjective if everything else adjective[noun == thing]).tolist():
                if asked == has and not own:
                    continue
                hit = np.ones(len(noun), dtype=bool) if any_noun else noun == thing
                hit = hit if same_noun else hit & (adjective == asked)
                rows = np.flatnonzero(hit).tolist()
                rows = {"as it comes": rows, "in": sorted({*rows, s}), "out": [i for i in rows if i != s]}[me]
                if rows or empty:
                    queries[s, asked] = rows[:1] if one else rows
        return queries

    return answer


_queries = Exercise(
    name="queries_by_caption",
    inputs=_things,
    reference=_by_captions,
    mistakes=(
        Mistake(
            "own adjective asked",
            "you ask pictures for the adjective they have already. A source is asked for every OTHER adjective of its "
            "noun.",
            _asked(own=True),
        ),
        *(
            Mistake(
                "own adjective asked, source left out",
                "you ask pictures for the adjective they have already, and leave their own id out of the answers. Such "
                "a query asks for no change. It is the ADJECTIVE that is left out: a source is asked for every other.",
                _asked(own=True, me="out", empty=empty),
            )
            for empty in (True, False)
        ),
        Mistake(
            "any noun will do",
            "your right answers have the adjective that was asked for, whatever they show: an old dog answers 'old' to "
            "a new car. The noun must stay.",
            _asked(any_noun=True),
        ),
        Mistake(
            "the adjective does not matter",
            "your right answers are all pictures of the noun. They must have the adjective that was asked for.",
            _asked(same_noun=True),
        ),
        Mistake(
            "queries without an answer",
            "you ask every source for every adjective there is. Where no picture shows the noun so, the query has no "
            "answer: ask for the adjectives that occur with its noun.",
            _asked(everything=True),
        ),
        Mistake(
            "one right answer",
            "you keep one right answer a query. Every picture with the noun and the adjective asked for is right.",
            _asked(one=True),
        ),
        Mistake(
            "source among the answers",
            "the source stands among its own right answers. It has another adjective, so it is none.",
            _asked(me="in"),
        ),
    ),
    well_done="Two columns of a table, and a data set of composed queries.",
)


def _plain(found: object) -> object:
    """Numbers of any make as Python's, the ids in rising order; what is no dict of ids stays as it came."""
    if not isinstance(found, dict):
        return found
    try:
        return {(int(s), int(a)): sorted(int(i) for i in ids) for (s, a), ids in found.items()}
    except (TypeError, ValueError):
        return "not {(source, adjective): ids}"


def queries_by_caption(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(noun, adjective)``, a dict (source, adjective) -> ids, in whatever order and kind of number."""
    plain = (lambda *arguments: _plain(answer(*arguments))) if callable(answer) else answer
    return _queries(plain, seed)
