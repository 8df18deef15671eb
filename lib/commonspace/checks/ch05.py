"""Checks of chapter 05, distances and encoders: batch softmax, soft triplet, hardest negative, last state."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from commonspace.checks.exercise import FAILED, PASSED, Exercise, Mistake, Result

NAIVE = ("quotient", "logarithm")  # ways to use exp itself, which go wrong on large scores, each in its own way


def _computed_in_any_way(name: str, hint: str, make: Callable, **slip) -> tuple[Mistake, ...]:
    """A mistake made with functions that keep within range, and with exp itself."""
    return tuple(Mistake(name, hint, make(**slip, naive=way)) for way in (None, *NAIVE))


NO_GRADIENT = (
    "it is a mere number. No gradient leads from it to the arguments, so nothing can be trained with it. Compute with "
    "torch alone and return the tensor itself, without .item(), float(), .detach(), .numpy() or torch.no_grad()."
)
DETACHED = (
    "its gradient is not. A part of it was detached on the way (.detach(), .data, .item(), torch.no_grad()): for the "
    "gradient that part is a constant, and what it says is not learned."
)


@dataclass(frozen=True)
class _Loss(Exercise):
    """An exercise whose answer is trained with: where its values are right, its gradient is looked at as well."""

    def _check(self, answer: Callable, rng: np.random.Generator) -> Result:
        result = super()._check(answer, rng)
        if result.status != PASSED:
            return result
        for arguments in (self.inputs(rng) for _ in range(3)):
            given = [a.clone().requires_grad_() if _real(a) else a for a in arguments]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # float() of such a tensor warns, and advises to detach it
                    value = answer(*given)
            except (RuntimeError, TypeError):  # numpy takes no tensor that has a gradient
                value = None
            if not isinstance(value, Tensor) or not value.requires_grad:
                return self._trained_wrong(NO_GRADIENT, "no gradient")
            try:
                got = torch.autograd.grad(value, [a for a in given if _real(a)], materialize_grads=True)
            except RuntimeError as error:
                return self._trained_wrong(f"its gradient cannot be computed: {error}", "no gradient to be computed")
            expected = _slopes(self.reference, arguments)
            if not all(np.allclose(g, e, rtol=1e-5, atol=1e-6) for g, e in zip(got, expected, strict=True)):
                came = self._came(tuple(expected), tuple(got), arguments)
                return self._trained_wrong(f"{DETACHED}\nOf the gradient:\n{came}", "part of it detached")
        return result

    def _trained_wrong(self, hint: str, mistake: str) -> Result:
        return Result(FAILED, f"{self.name} is not right yet: the value is right, but {hint}", mistake)


def _real(argument: object) -> bool:
    return isinstance(argument, Tensor) and argument.is_floating_point()


def _slopes(loss: Callable, arguments: tuple, step: float = 1e-5) -> list[np.ndarray]:
    """How fast ``loss`` changes with each entry of each tensor of real numbers, by differences."""
    found = []
    for place, argument in enumerate(arguments):
        if _real(argument):
            slope = np.zeros(argument.shape)
            for entry in np.ndindex(*argument.shape):
                sides = []
                for h in (step, -step):
                    moved = argument.clone()
                    moved[entry] += h
                    sides.append(loss(*arguments[:place], moved, *arguments[place + 1 :]))
                slope[entry] = (sides[0] - sides[1]) / (2 * step)
            found.append(slope)
    return found


def _batch(rng: np.random.Generator) -> tuple:
    query, target = rng.normal(size=(2, rng.integers(3, 7), 4))
    return torch.from_numpy(query), torch.from_numpy(target), float(rng.choice([0.25, 0.5, 2.0]))


def _large(*rest: float) -> tuple:
    """Three pairs whose dot products go beyond 1,000, of either sign, and are not highest for the own target."""
    query = torch.tensor([[40.0, 0.0], [-40.0, 20.0], [10.0, -50.0]], dtype=torch.float64)
    return query, torch.tensor([[30.0, 5.0], [35.0, -20.0], [20.0, 25.0]], dtype=torch.float64), *rest


def _choice_by_choice(query, target, temperature) -> float:
    """Each query's probability of its own target in turn, by a running sum of logarithms."""
    total = 0.0
    for i in range(len(query)):
        scores = [sum(float(a) * float(b) for a, b in zip(query[i], row, strict=True)) / temperature for row in target]
        total += np.logaddexp.reduce(scores) - scores[i]
    return total / len(query)


def _softmax(
    *, logits=lambda S, t: S / t, below="row", swapped=False, mean=True, sign=1.0, unit=False, ways=1, naive=None
):
    """The batch softmax with one slip."""

    def one_way(S):
        own = S.diagonal()
        if below == "own":  # the note's denominator: the own target in every term
            terms = own[:, None].expand_as(S)
        elif below == "others":
            terms = S[~torch.eye(len(S), dtype=torch.bool)].view(len(S), len(S) - 1)
        else:
            terms = S.flatten()[None].expand(len(S), -1) if below == "matrix" else S
        if naive == "quotient":
            cost = -torch.log(own.exp() / terms.exp().sum(dim=1))
        else:
            cost = (terms.exp().sum(dim=1).log() if naive else torch.logsumexp(terms, dim=1)) - own
        return cost.mean() if mean else cost.sum()

    def answer(query, target, temperature):
        if unit:
            query, target = F.normalize(query), F.normalize(target)
        S = logits(query @ target.T, temperature)
        ways_taken = [S.T if swapped else S, S.T][:ways]
        return sign * sum(one_way(T) for T in ways_taken) / ways

    return answer


batch_softmax = _Loss(
    name="batch_softmax",
    inputs=_batch,
    reference=_choice_by_choice,
    always=(_large(0.5),),
    mistakes=(
        *_computed_in_any_way(
            "exp overflows",
            "it is right until scores are large. exp of a number above 709 is infinite (in float32 above 88), and "
            "infinite over infinite is no number. Use F.cross_entropy or torch.logsumexp, which subtract the maximum.",
            _softmax,
        )[1:],
        *_computed_in_any_way(
            "temperature multiplied",
            "you multiply by temperature. Similarities are divided by it: a low temperature makes the choice sharp.",
            _softmax,
            logits=lambda S, t: S * t,
        ),
        *_computed_in_any_way(
            "temperature ignored", "temperature does nothing in your loss.", _softmax, logits=lambda S, t: S
        ),
        *_computed_in_any_way(
            "constant denominator",
            "your denominator has the own target in every term, as the note prints it. Then each quotient is 1 / B "
            "and the loss log B, whatever the model: it teaches nothing. Term j belongs to target j.",
            _softmax,
            below="own",
        ),
        *_computed_in_any_way(
            "targets choose",
            "your softmax runs over the queries: targets choose their query. Asked for is the other direction, each "
            "row of query @ target.T one choice among targets.",
            _softmax,
            swapped=True,
        ),
        *_computed_in_any_way(
            "both directions",
            "you take the mean of both directions. Here only queries choose among targets.",
            _softmax,
            ways=2,
        ),
        *_computed_in_any_way(
            "summed", "you sum over queries. Asked for is the mean over queries.", _softmax, mean=False
        ),
        *_computed_in_any_way(
            "own target left out",
            "your denominator leaves the own target out. It is one of the candidates: without it the loss can fall "
            "below 0.",
            _softmax,
            below="others",
        ),
        *_computed_in_any_way(
            "one softmax over the matrix",
            "your denominator sums over the whole matrix. Every query makes a choice of its own: sum over its row.",
            _softmax,
            below="matrix",
        ),
        *_computed_in_any_way(
            "sign", "the sign is wrong: a loss is MINUS the logarithm of the probability.", _softmax, sign=-1.0
        ),
        *_computed_in_any_way(
            "cosines",
            "you normalise the rows. The similarity here is the dot product of the rows as they come: their length is "
            "somebody else's choice.",
            _softmax,
            unit=True,
        ),
    ),
    well_done="It agrees with one choice after the other, also where exp would overflow, and so does its gradient.",
)


def _pairs(rng: np.random.Generator) -> tuple:
    return _batch(rng)[:2]


def _duel_by_duel(query, target) -> float:
    """Every query against every target that is not its own."""
    B = len(query)
    duels = [(i, j) for i in range(B) for j in range(B) if i != j]
    return float(np.mean([np.logaddexp(0.0, float(query[i] @ (target[j] - target[i]))) for i, j in duels]))


def _duels(
    *, diagonal=False, divisor="pairs", sign=1.0, anchors="queries", cost="soft", next_only=False, l2=False, naive=None
):
    """The soft triplet with one slip."""

    def answer(query, target):
        B = len(query)
        S = -(query[:, None] - target[None]).square().sum(dim=2) if l2 else query @ target.T
        own = S.diagonal()
        own = own[:, None] if anchors == "queries" else own[None]
        gap = sign * (S - own)
        if cost == "hinge":
            values = (1 + gap).clamp(min=0)
        elif naive == "quotient":
            values = -torch.log((sign * own).exp() / ((sign * own).exp() + (sign * S).exp()))
        else:
            values = torch.log(1 + gap.exp()) if naive else F.softplus(gap)
        chosen = torch.ones_like(S, dtype=torch.bool) if diagonal else ~torch.eye(B, dtype=torch.bool)
        if next_only:
            chosen = torch.eye(B, dtype=torch.bool).roll(1, dims=1)
        n = {"pairs": B * (B - 1), "square": B * B, "queries": B, "one": 1}[divisor]
        return torch.where(chosen, values, 0.0).sum() / n

    return answer


soft_triplet = _Loss(
    name="soft_triplet",
    inputs=_pairs,
    reference=_duel_by_duel,
    always=(_large(),),
    mistakes=(
        *_computed_in_any_way(
            "exp overflows",
            "it is right until scores are large: exp of a number above 709 is infinite. F.softplus(x) is "
            "log(1 + exp(x)) without that.",
            _duels,
        )[1:],
        *_computed_in_any_way(
            "diagonal included",
            "the diagonal is in your mean: each query against its own target, which costs log 2 and teaches nothing. "
            "B (B - 1) pairs count.",
            _duels,
            diagonal=True,
            divisor="square",
        ),
        *_computed_in_any_way(
            "diagonal summed",
            "you divide by B (B - 1), but the diagonal is in your sum: each query against its own target adds log 2.",
            _duels,
            diagonal=True,
        ),
        *_computed_in_any_way(
            "divided by B squared",
            "you leave the diagonal out of the sum, but divide by B * B. There are B (B - 1) pairs.",
            _duels,
            divisor="square",
        ),
        *_computed_in_any_way(
            "sign",
            "the difference has the wrong sign: the loss must fall when the own target comes nearer. It is the wrong "
            "one's similarity MINUS the own one's.",
            _duels,
            sign=-1.0,
        ),
        *_computed_in_any_way(
            "one wrong target",
            "you take one wrong target a query, the next in the batch. M = B - 1: each of the others in turn.",
            _duels,
            next_only=True,
            divisor="queries",
        ),
        *_computed_in_any_way(
            "summed over wrong targets",
            "you sum over the wrong targets of a query. The mean is over all B (B - 1) pairs.",
            _duels,
            divisor="queries",
        ),
        *_computed_in_any_way("summed", "you sum over all pairs. Asked for is their mean.", _duels, divisor="one"),
        *_computed_in_any_way(
            "targets as anchors",
            "you subtract the diagonal from columns, s_ij - s_jj: targets choose among queries. Row i belongs to query "
            "i: subtract s_ii from row i.",
            _duels,
            anchors="targets",
        ),
        Mistake(
            "hinge",
            "yours is a hinge, max(0, 1 + ...), which lets go. The soft triplet is log(1 + exp(...)).",
            _duels(cost="hinge"),
        ),
        *_computed_in_any_way(
            "squared distances",
            "you compare squared distances, as the released code does. Here the similarity is the dot product.",
            _duels,
            l2=True,
        ),
    ),
    well_done="Value and gradient agree with every duel fought in turn.",
)


def _with_twins(rng: np.random.Generator) -> tuple:
    """Similarities, all negative in half of the trials, in which twins stand out; 3 to 5 kinds among 7 pairs."""
    kind = np.concatenate([[0, 1, 2, 0], rng.integers(0, 5, size=3)])
    same = kind[:, None] == kind[None]
    sim = rng.normal(size=(7, 7)) + 2.0 * same - float(rng.choice([0.0, 10.0]))
    return torch.from_numpy(sim), torch.from_numpy(same), float(rng.choice([0.3, 1.0]))


def _query_by_query(sim, same, margin) -> float:
    costs = []
    for i in range(len(sim)):
        hardest = max(float(sim[i, j]) for j in range(len(sim)) if not same[i, j])
        costs.append(max(0.0, margin + hardest - float(sim[i, i])))
    return float(np.mean(costs))


def _hardest(*, wrong="not same", fill="-inf", pick="max", own="diagonal", hinge="each", margin_sign=1.0, dim=1):
    """The hinge on the hardest negative with one slip."""

    def answer(sim, same, margin):
        right = torch.eye(len(sim), dtype=torch.bool) if wrong == "off the diagonal" else same
        scores = sim * ~right if fill == "zero" else sim.masked_fill(right, -torch.inf)
        positive = sim.masked_fill(~same, -torch.inf).amax(dim=1) if own == "best" else sim.diagonal()
        if pick == "sum":
            cost = (margin + scores - positive[:, None]).clamp(min=0).sum(dim=1)
        elif pick == "min":
            cost = margin + sim.masked_fill(right, torch.inf).amin(dim=1) - positive
        else:
            cost = margin_sign * margin + scores.amax(dim=dim) - positive
        cost = (cost.clamp(min=0) if hinge == "each" else cost).mean()
        return cost.clamp(min=0) if hinge == "mean" else cost

    return answer


def _mostly_kept() -> tuple:
    """Three queries of which one lacks a little of the margin and two keep it with much to spare."""
    sim = torch.tensor([[2.0, 1.9, 0.0], [-1.0, 3.0, 0.0], [0.0, -1.0, 4.0]], dtype=torch.float64)
    return sim, torch.eye(3, dtype=torch.bool), 0.3


hardest_hinge = _Loss(
    name="hardest_hinge",
    inputs=_with_twins,
    reference=_query_by_query,
    always=(_mostly_kept(),),
    mistakes=(
        Mistake(
            "diagonal only",
            "you mask the diagonal only. A twin of the own target is a right answer too, and mostly the nearest: your "
            "loss pushes it away. Mask all of same.",
            _hardest(wrong="off the diagonal"),
        ),
        Mistake(
            "masked by zero",
            "you put 0 in the places of right answers. Where all similarities of wrong ones are negative, that 0 wins "
            "the maximum. Put minus infinity there.",
            _hardest(fill="zero"),
        ),
        Mistake(
            "diagonal only, masked by zero",
            "you put 0 on the diagonal. A twin is a right answer too, so mask all of same; and 0 wins a maximum where "
            "similarities are negative, so use minus infinity.",
            _hardest(wrong="off the diagonal", fill="zero"),
        ),
        Mistake(
            "all wrong targets",
            "you sum the hinges of all wrong targets. Asked for is the hardest alone, the one with the highest "
            "similarity.",
            _hardest(pick="sum"),
        ),
        Mistake(
            "the easiest",
            "you take the LOWEST similarity, the easiest wrong target. Higher is closer: the hardest has the highest.",
            _hardest(pick="min"),
        ),
        Mistake(
            "best right answer",
            "you compare with the best right answer. The formula has s_ii, the query's own target.",
            _hardest(own="best"),
        ),
        Mistake(
            "no hinge",
            "your cost becomes negative where the margin is kept with room to spare, and pays for other queries' "
            "mistakes. Cut it off at 0.",
            _hardest(hinge="none"),
        ),
        Mistake(
            "hinge after the mean",
            "you take the mean first and cut it off at 0 afterwards. Then queries that keep the margin with room to "
            "spare pay for those that do not. Each query has a hinge of its own: cut off first, then the mean.",
            _hardest(hinge="mean"),
        ),
        Mistake(
            "margin subtracted",
            "you subtract the margin. It is a demand on top: the own target must lead BY the margin.",
            _hardest(margin_sign=-1.0),
        ),
        Mistake(
            "columns",
            "you take the maximum of each column: for a target the hardest query. Rows are queries.",
            _hardest(dim=0),
        ),
    ),
    well_done="Twins are spared, and no zero slips in where similarities are negative.",
)


def _padded(rng: np.random.Generator) -> tuple:
    """Five texts of 1 to 6 words, unknown ones among them, one of them last; one or two columns more than words."""
    length = rng.permutation([1, 2, 3, 4, int(rng.integers(4, 7))])
    padding = int(rng.integers(1, 9))  # in the midst of the words' ids, so that no order of ids gives it away
    ids = np.full((5, length.max() + rng.integers(1, 3)), padding)
    for row, n in zip(ids, length, strict=True):
        row[:n] = rng.choice([i for i in range(10) if i != padding], size=n)
    ids[int(length.argmax()), length.max() - 1] = 0
    return torch.from_numpy(rng.normal(size=(*ids.shape, 3))), torch.from_numpy(ids), padding


def _reading_on(states, ids, padding) -> np.ndarray:
    """Word after word of each text, until the filling begins."""
    found = []
    for row, said in zip(ids.tolist(), states.numpy(), strict=True):
        for word, state in zip(row, said, strict=True):
            if word == padding:
                break
            last = state
        found.append(last)
    return np.stack(found)


def _column(choose: Callable[[Tensor, int], Tensor]) -> Callable:
    """The states in the columns that ``choose(ids, padding)`` names, (B,)."""
    return lambda states, ids, padding: states[torch.arange(len(ids)), choose(ids, padding)]


def _averaged(states, ids, padding):
    word = (ids != padding)[:, :, None]
    return (states * word).sum(dim=1) / word.sum(dim=1)


last_state = Exercise(
    name="last_state",
    inputs=_padded,
    reference=_reading_on,
    mistakes=(
        Mistake(
            "last column",
            "you take the last column. For a shorter text that is the filling, and its vector then depends on the "
            "longest text of the batch. Count the words of each text.",
            lambda states, ids, padding: states[:, -1],
        ),
        Mistake(
            "length of the longest",
            "you take the column of the longest text's last word for every text. Each has a length of its own.",
            _column(lambda ids, padding: (ids != padding).sum(dim=1).max().expand(len(ids)) - 1),
        ),
        Mistake(
            "all columns of all texts",
            "states[:, last] takes the columns of ALL texts' last words from EVERY text, (B, B, d). Give an index for "
            "the rows too: states[torch.arange(len(ids)), last] takes from row i the column last[i] alone.",
            lambda states, ids, padding: states[:, (ids != padding).sum(dim=1) - 1],
        ),
        Mistake(
            "length of the first",
            "you take one column for all, that of the FIRST text's last word. Each text has a length of its own.",
            _column(lambda ids, padding: (ids[:1] != padding).sum(dim=1).expand(len(ids)) - 1),
        ),
        Mistake(
            "unknown words not counted",
            "you do not count the id 0. An unknown word is a word: the network has read it. Only padding is filling.",
            _column(lambda ids, padding: ((ids != padding) & (ids != 0)).sum(dim=1) - 1),
        ),
        Mistake(
            "0 taken for the filling",
            "you count what is not 0. Here 0 is an unknown word, and the filling has an id of its own, padding.",
            _column(lambda ids, padding: (ids != 0).sum(dim=1) - 1),
        ),
        Mistake(
            "one too far",
            "you are one column too far: the third word stands in column 2. Subtract 1 from the number of words.",
            _column(lambda ids, padding: (ids != padding).sum(dim=1)),
        ),
        Mistake(
            "one too early",
            "you are one column too early: the last of n words stands in column n - 1.",
            _column(lambda ids, padding: (ids != padding).sum(dim=1) - 2),
        ),
        Mistake(
            "first column",
            "you take the first column: the network has read one word there.",
            lambda states, ids, padding: states[:, 0],
        ),
        Mistake(
            "mean over the words",
            "you take the mean over the words. That is a fair way to pool, but asked for is the last state.",
            _averaged,
        ),
    ),
    well_done="A text has the same vector alone and in any company.",
)
