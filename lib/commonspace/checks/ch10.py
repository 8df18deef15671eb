"""Checks of chapter 10, GXN writes: what the decoder reads, what it costs, the search for a likely sentence."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from commonspace.checks.ch08 import _InTwoSteps
from commonspace.checks.ch09 import _gradient, _one_number, _returned, _single, _slips
from commonspace.checks.exercise import FAILED, PASSED, Exercise, Mistake, Result

# ---- 1: teacher forcing ---------------------------------------------------------------------------------------------


def _sentences(rng: np.random.Generator) -> tuple:
    """Words 0 to 8, the end 9, and filling, which is the end once more; what is read first is 9 too, or 10."""
    lengths = rng.integers(1, 6, size=rng.integers(2, 5))
    ids = np.full((len(lengths), lengths.max() + 1), 9)
    for row, n in zip(ids, lengths, strict=True):
        row[:n] = rng.integers(0, 9, size=n)
    return torch.from_numpy(ids), int(rng.choice([9, 10]))


def _place_by_place(ids, start) -> np.ndarray:
    """At each place what stands one place before it."""
    return np.array([[row[t - 1] if t else start for t in range(len(row))] for row in ids.tolist()])


def _beside(*parts: Tensor | int) -> Tensor:
    """Columns side by side, a number standing for a column of it."""
    rows = next(len(part) for part in parts if isinstance(part, Tensor))
    return torch.cat([part if isinstance(part, Tensor) else torch.full((rows, 1), part) for part in parts], dim=1)


LONGER = (
    "start stands in front, and nothing has been cut off: T + 1 places. There are T words to be told, and each is told "
    "from what stands before it. The last one, after which nothing comes, is never read."
)
FORCING = (
    (
        "no shift",
        "the network reads at each place the very token it is to tell there. It copies: the loss falls to 0, and "
        "nothing is learned for the time when no true sentence is at hand. At place t it reads the token BEFORE it.",
        lambda ids, start: ids,
        lambda ids, start: _beside(start, ids[:, 1:]),
    ),
    (
        "shifted the wrong way",
        "you shift to the left: at each place the network reads the token AFTER the one it is to tell. It must read "
        "what comes before: everything moves one place to the right.",
        lambda ids, start: _beside(ids[:, 1:], start),
        lambda ids, start: _beside(start, ids[:, 2:], start),
        lambda ids, start: _beside(ids[:, 1:], ids[:, -1:]),
        lambda ids, start: ids.roll(-1, 1),
        lambda ids, start: ids[:, 1:],
    ),
    (
        "start forgotten",
        "the shift is right, but start does not stand at place 0. Before the first word the network has read nothing "
        "of the sentence, and what it reads then is start.",
        lambda ids, start: ids.roll(1, 1),
        lambda ids, start: ids.roll(1),
        lambda ids, start: torch.tensor([start, *ids.flatten().tolist()[:-1]]).view(ids.shape),
        lambda ids, start: _beside(ids[:, :1], ids[:, :-1]),
        lambda ids, start: _beside(0, ids[:, :-1]),
        lambda ids, start: _beside(-1, ids[:, :-1]),
        lambda ids, start: ids[:, :-1],
    ),
    ("last token not cut off", LONGER, lambda ids, start: _beside(start, ids)),
    (
        "start at the end",
        "start stands at the end. It is read first, before any word: it belongs to place 0.",
        lambda ids, start: _beside(ids[:, :-1], start),
        lambda ids, start: _beside(ids, start),
    ),
    (
        "sentences shifted, not places",
        "you shift from sentence to sentence, dim 0. A row is a sentence; its places lie along dim 1.",
        lambda ids, start: torch.cat([torch.full_like(ids[:1], start), ids[:-1]]),
        lambda ids, start: ids.roll(1, 0),
    ),
)


def _whole_numbers(answer: Callable, rng: np.random.Generator) -> Result:
    """An embedding takes no others."""
    found = answer(*_sentences(rng))
    if not found.is_floating_point() and found.dtype != torch.bool:
        return Result(PASSED, "")
    words = (
        f"the numbers are right, but they are {found.dtype}, and nn.Embedding takes ids, which are integers. Make the "
        "column of start with torch.full((len(ids), 1), start), or torch.full_like(ids[:, :1], start)."
    )
    return Result(FAILED, f"teacher_forcing is not right yet: {words}", "no integers")


_as_wide = partial(
    _returned,
    lambda ids, start: [(len(ids), ids.shape[1] + more) for more in (0, 1, -1)],
    "A token is read for each one that is to be told: as many places as ids has.",
)
_teacher_forcing = _InTwoSteps(
    name="teacher_forcing",
    inputs=_sentences,
    reference=_place_by_place,
    mistakes=tuple(Mistake(name, hint, slip) for name, hint, *slips in FORCING for slip in slips),
    well_done="At place t the network reads what stands before it, and nothing else.",
    always=((torch.tensor([[4, 2, 7, 9], [1, 9, 9, 9]]), 10), (torch.tensor([[9], [9]]), 10)),
    then=_whole_numbers,
)


def teacher_forcing(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(ids, start)``, what is read at each place (B, T)."""
    return _teacher_forcing(_as_wide(answer) if callable(answer) else answer, seed)


# ---- 2: masked cross-entropy ----------------------------------------------------------------------------------------


def _told(rng: np.random.Generator) -> tuple:
    """Logits of 7 tokens at each place of four sentences as above, of other lengths each; in the filling the end is
    likelier than elsewhere. Id 0 is the unknown word, a word like any other."""
    lengths = rng.permutation([1, 2, 3, int(rng.integers(4, 6))])
    T = lengths.max() + 1
    ids = np.full((4, T), 6)
    for row, n in zip(ids, lengths, strict=True):
        row[:n] = rng.integers(0, 6, size=n)
    ids[int(lengths.argmax()), 1] = 0
    logits = 2 * rng.normal(size=(4, T, 7))
    logits[:, :, 6] += 2 * (np.arange(T) > lengths[:, None])
    return torch.from_numpy(logits), torch.from_numpy(ids), torch.from_numpy(np.arange(T) <= lengths[:, None])


def _token_by_token(logits, ids, mask) -> float:
    """Each real token's -log p by a running sum of logarithms."""
    costs = []
    for scores, words, real in zip(logits.tolist(), ids.tolist(), mask.tolist(), strict=True):
        for place, word, counts in zip(scores, words, real, strict=True):
            if counts:
                costs.append(np.logaddexp.reduce(place) - place[word])
    return sum(costs) / len(costs)


def _cost(*, log="softmax", by="log_softmax", lift=0.0, target=0, places="real", over="places", sign=-1.0, of="nats"):
    """The cross-entropy with one slip. ``target``: by how many places logits and ids are apart."""

    def log_p(logits):
        if log == "logits":
            return logits
        if log == "probability":
            return logits.softmax(dim=2)
        if log == "twice":
            return logits.softmax(dim=2).log_softmax(dim=2)
        dim = {"over places": 1, "over sentences": 0}.get(log, 2)
        if by == "logarithm of the sum":
            return logits - logits.exp().sum(dim=dim, keepdim=True).log()
        if by == "log_softmax":
            return logits.log_softmax(dim=dim)
        p = logits.softmax(dim=dim) if by == "probability" else logits.exp() / logits.exp().sum(dim=dim, keepdim=True)
        return (p + lift).log()

    def answer(logits, ids, mask):
        if log == "reshaped":
            logits = logits.reshape(len(ids), -1, ids.shape[1]).transpose(1, 2)
        if log == "zeroed":
            logits = logits * mask[:, :, None]
        if target > 0:
            logits, ids, mask = logits[:, :-target], ids[:, target:], mask[:, target:]
        elif target < 0:
            logits, ids, mask = logits[:, -target:], ids[:, :target], mask[:, :target]
        last = mask & ~torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
        chosen = {
            "real": mask,
            "all": torch.ones_like(mask),
            "no end": mask & ~last,
            "no unknown": mask & (ids != 0),
            "no 0": ids != 0,
            "filling": ~mask,
        }[places]
        cost = sign * torch.where(chosen, log_p(logits).gather(2, ids[:, :, None])[:, :, 0], 0.0)
        if over == "sentences":
            return (cost.sum(dim=1) / chosen.sum(dim=1)).mean()
        n = {
            "places": chosen.sum(),
            "all places": mask.numel(),
            "words": (mask & ~last).sum(),
            "real": mask.sum(),
            "number of sentences": len(mask),
            "one": 1,
        }[over]
        mean = cost.sum() / n
        return mean.exp() if of == "perplexity" else mean

    return answer


COSTS = (
    (
        "filling averaged in",
        "the filling is in your mean. It makes the loss hang on how long the longest sentence of the batch is. Only "
        "places where mask is True count, above and below the line.",
        {"places": "all"},
        {"places": "all", "over": "real"},
    ),
    (
        "logits multiplied by mask",
        "you multiply logits by mask. Logits of 0 are not left out: every token is then equally likely, and the place "
        "costs log V. Leave the places out of the mean.",
        {"log": "zeroed", "places": "all"},
        {"log": "zeroed", "places": "all", "over": "real"},
    ),
    (
        "divided by B T",
        "your sum leaves the filling out, but you divide by all B T places: long sentences in the batch make the loss "
        "small. Divide by the number of places that count, mask.sum().",
        {"over": "all places"},
    ),
    (
        "end left out",
        "the end is not in your mean. mask is True at the end, too: a network that never learns to say it writes on "
        "and on. (The filling has the same id as the end, so ids cannot tell the two apart.)",
        {"places": "no end"},
        {"over": "words"},
        {"places": "no end", "over": "real"},
    ),
    (
        "mean of the sentences' means",
        "you take the mean of each sentence first, and then the mean over sentences: a word of a long sentence counts "
        "less. Asked for is one mean over all tokens of all sentences.",
        {"over": "sentences"},
    ),
    (
        "summed",
        "you return the sum, or divide it by the number of sentences alone. Divide by the number of places that count, "
        "mask.sum().",
        {"over": "one"},
        {"over": "number of sentences"},
    ),
    (
        "logits taken for log p",
        "logits are no log-probabilities yet: they are any numbers. log_softmax over the last axis makes them so.",
        {"log": "logits"},
    ),
    (
        "no logarithm",
        "you average probabilities. The cost is minus their LOGARITHM: log_softmax instead of softmax.",
        {"log": "probability"},
    ),
    (
        "softmax twice",
        "softmax is taken twice: F.cross_entropy expects the logits themselves, and takes log_softmax.",
        {"log": "twice"},
    ),
    (
        "softmax over the wrong axis",
        "your softmax does not run over tokens. At each place the network chooses among V tokens: the last axis.",
        {"log": "over places"},
        {"log": "over sentences"},
    ),
    (
        "reshaped, not transposed",
        "you reshape (B, T, V) to (B, V, T): that mixes places and tokens. Axes are exchanged by .transpose(1, 2); or "
        "keep the places that count alone, logits[mask].",
        {"log": "reshaped"},
    ),
    (
        "shifted once more",
        "you compare logits with the ids of another place. The shift is in what the network reads (exercise 1): "
        "logits[:, t] already tell ids[:, t].",
        {"target": 1},
        {"target": -1},
    ),
    (
        "0 taken for the filling",
        "you leave out the id 0. Here 0 is an unknown word, a word like others. mask says what counts.",
        {"places": "no unknown"},
        {"places": "no 0"},
    ),
    (
        "mask turned round",
        "you average over the filling alone. mask is True where a token counts.",
        {"places": "filling"},
    ),
    ("sign", "the sign is wrong: a loss is MINUS the logarithm of the probability.", {"sign": 1.0}),
    ("perplexity", "you return the perplexity, exp of what is asked for.", {"of": "perplexity"}),
    (
        "exp overflows",
        "it is right until logits are large: exp of a number above 88 is infinite in float32. log_softmax subtracts "
        "the maximum first.",
        {"by": "quotient"},
        {"by": "logarithm of the sum"},
    ),
    (
        "log of 0",
        "it is right until logits lie far apart: then a probability is too small for a number and becomes 0, and its "
        "logarithm infinite. Take log_softmax, which never makes the probability.",
        {"by": "probability"},
    ),
    (
        "lifted",
        "you add a small number to the probability before you take the logarithm. Then no token can cost more than the "
        "logarithm of that. log_softmax needs no such help.",
        *({"by": "probability", "lift": 10.0**-n} for n in range(5, 13)),
    ),
)


def _classes_told(answer: Callable) -> Callable:
    """Who gives F.cross_entropy the classes in the last axis is told where it looks for them."""

    def told(*arguments):
        try:
            return answer(*arguments)
        except (RuntimeError, ValueError) as error:
            if "target" not in str(error):
                raise
            where = "the V classes in dim 1: logits.transpose(1, 2); or rows of them alone: logits[mask] with ids[mask]"
            raise type(error)(f"{error}\nF.cross_entropy expects {where}") from error

    return told


def _sure_of(right: float, wrong: float) -> tuple:
    """Two sentences of which the network says one token with ``wrong`` and the others with ``right``, others with 0."""
    logits = torch.zeros(2, 3, 4)
    ids, mask = torch.tensor([[1, 2, 3], [0, 3, 3]]), torch.tensor([[True, True, True], [True, True, False]])
    logits.scatter_(2, ids[:, :, None], right)[0, 1, 2] = wrong
    return logits, ids, mask


_masked_cross_entropy = _InTwoSteps(
    name="masked_cross_entropy",
    inputs=_single(_told),
    reference=_token_by_token,
    mistakes=_slips(_cost, COSTS),
    well_done="Words and ends count, each as much as any other, and the filling does not; so says the gradient.",
    always=(_sure_of(150.0, 150.0), _sure_of(0.0, -200.0)),
    then=_gradient("masked_cross_entropy", _told, _token_by_token),
    tolerance=1e-5,  # of float32
)


def masked_cross_entropy(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(logits, ids, mask)``, one number, and its gradient."""
    return _masked_cross_entropy(_one_number(_classes_told(answer)) if callable(answer) else answer, seed)


# ---- 3: beam search -------------------------------------------------------------------------------------------------

MEMORY, PATIENCE = 3, 20_000  # tokens that the random languages remember; calls of step before it is said to be lost


def _step(language: Tensor) -> Callable:
    """What reads a token: row ``state`` of ``language`` (H, V) holds log p of the next one. V tokens and the start."""
    calls, V = 0, language.shape[1]

    def step(token, state):
        nonlocal calls
        calls += 1
        if calls > PATIENCE:
            raise RuntimeError(f"step was called {PATIENCE} times. Do your loops come to an end at max_length?")
        token = int(token)
        if not 0 <= token <= V:
            raise ValueError(f"step reads one token, a whole number; got {token}")
        if not isinstance(state, Tensor):
            raise TypeError(f"step takes the state you were given, or one it gave back; got a {type(state).__name__}")
        state = (state * (V + 1) + token) % len(language)  # in base V + 1: the last tokens that were read
        return language[state].clone(), state

    step.calls = lambda: calls
    return step


NOTHING = {"ids": [], "log p": -np.inf}


def _searched(answer: Callable, lost: bool = False) -> Callable:
    """What is found with ``language``, by name. ``lost``: NOTHING, where the answer is left without any beam."""

    def by_name(language, state, start, end, width, max_length):
        step = _step(language)
        try:
            found = answer(step, state.clone(), start, end, width, max_length)
        except (ValueError, IndexError, RuntimeError) as error:
            if lost and step.calls() and any(word in str(error) for word in ("empty", "list index out of range")):
                return NOTHING
            if "index k out of range" in str(error):
                raise RuntimeError(f"{error}\ntopk gives no more than there are: min(width, how many)") from error
            raise
        if found is None:
            return NOTHING if lost else None
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise ValueError("return two things, with a comma between them: the list of ids, and its log-probability")
        ids, log_p = [] if found[0] is None else found[0], found[1]
        if isinstance(log_p, (list, tuple)) or np.ndim(ids) == 0:
            raise ValueError("return the list of ids first, and then its log-probability, one number")
        return {"ids": [int(i) for i in ids], "log p": float(log_p)}

    return by_name


def _language(rng: np.random.Generator) -> tuple:
    """Words and the end, any of the ids. What comes next hangs on the last tokens and the picture, and is either clear
    or anybody's guess: so a good beginning may be followed by hesitation, and a bad one by certainty."""
    V = int(rng.integers(3, 6))
    rows, end = (V + 1) ** MEMORY, int(rng.integers(0, V))
    logits = rng.choice([0.2, 6.0], size=(rows, 1)) * rng.normal(size=(rows, V))
    logits[:, end] -= float(rng.integers(0, 2))
    log_p, state = torch.from_numpy(logits).log_softmax(dim=1), torch.tensor(rng.integers(0, rows))
    return log_p, state, V, end, int(rng.choice([1, 2, 2, 3])), int(rng.integers(3, 7))


def _read_anew(language, state, start, end, width, max_length) -> dict:
    """Without a state: each sentence is read from its beginning again, whenever its probability is asked for."""
    table, first = language.numpy(), int(state)

    def log_p(sentence):
        total, row = 0.0, first
        for read, said in zip((start, *sentence), sentence, strict=False):
            row = (row * (table.shape[1] + 1) + read) % len(table)
            total += float(table[row, said])
        return total

    alive, over = [()], []
    while alive:
        longer = sorted(((*said, token) for said in alive for token in range(table.shape[1])), key=log_p)[-width:]
        over += [said for said in longer if said[-1] == end or len(said) == max_length]
        alive = [said for said in longer if said[-1] != end and len(said) < max_length]
    best = max(over, key=log_p)
    return {"ids": list(best), "log p": log_p(best)}


AMONG = {"sum": sum, "last": lambda each: each[-1], "mean": np.mean, "least": lambda each: -sum(each)}


def _search(
    ended="aside", grow="all", keep="width", by="sum", at_last=None, states="own", read="last", more=0, stop=0, **late
):
    """The search with one slip. ``by`` and ``at_last``: what is compared as beams grow, and among those that ended."""

    def likeliest(beams, by=by):
        return sorted(beams, key=lambda beam: AMONG[by](beam[1]), reverse=True)

    def answer(step, state, start, end, width, max_length):
        over, beams, slots, begun = [], [([], [], state)], [state], width  # beams: ids, log p of each, state
        for _ in range(max_length + more):
            grown, after = [], []
            for slot, (ids, each, its) in enumerate(beams[:1] if grow == "best beam" else beams):
                if ended == "stays" and ids[-1:] == [end]:
                    grown.append((ids, each, its))
                    after.append(its)
                    continue
                given = {"own": its, "first": state, "slot": slots[min(slot, len(slots) - 1)], "shared": slots[-1]}
                token = end if read == "end" else start
                log_p, new = step(ids[-1] if ids and read != "start" else token, given[states])
                after.append(new)
                slots = [*slots, new] if states == "shared" else slots
                tokens = [int(log_p.argmax())] if grow == "best token" and ids else range(len(log_p))
                longer = [([*ids, i], [*each, float(log_p[i])], new) for i in tokens]
                grown += likeliest(longer)[:width] if keep == "of each" else longer
            slots, grown = after or slots, likeliest(grown)
            if ended == "all aside":
                over += [beam for beam in grown if beam[0][-1] == end]
                grown = [beam for beam in grown if beam[0][-1] != end]
            beams = grown[: {"width": width, "one": 1}.get(keep)]
            if ended not in ("grows", "stays"):
                just = [beam for beam in beams if beam[0][-1] == end and ended != "forgotten"]
                over, beams = over + just, [beam for beam in beams if beam[0][-1] != end]
                width -= len(just) if ended == "fewer" else 0
            if stop and len(over) >= (begun if stop == "width" else stop):
                break
        return chosen(over, beams, start, end, max_length, **late)

    def chosen(over, beams, start, end, longest, cut="compared", shown="all", value="sum"):
        among = {"forgotten": over, "second": over or beams, "first": beams or over}.get(cut, over + beams)
        found = likeliest(among, at_last or by)[:1]
        if not found:
            return None
        ids, each, _ = found[0]
        numbers = {"sum": sum(each), "p": np.exp(sum(each)), "cost": -sum(each), "mean": np.mean(each)}
        numbers |= {"last": each[-1], "without end": sum(each) - each[-1] * (ids[-1] == end)}
        if shown == "to the end" and end in ids:
            ids = ids[: ids.index(end) + 1]
        shown_as = {"without end": [i for i in ids if i != end], "with start": [start, *ids]}
        shown_as["filled"] = [*ids, *[end] * (longest - len(ids))]
        return shown_as.get(shown, ids), numbers[value]

    return answer


SEARCHES = (
    (
        "greedy",
        "whatever width is, you find what width 1 finds, or hardly more. Either you grow the best beam alone, or each "
        "by its likeliest token alone, or you begin with copies of ONE beam, which grow alike. Begin with one beam; of "
        "ALL beams grown by ALL tokens, keep the width likeliest.",
        {"keep": "one"},
        {"grow": "best beam"},
    ),
    (
        "one token for each beam",
        "after the first step you grow each beam by its likeliest token alone. Grow each by ALL tokens, and keep the "
        "width likeliest of all of them: several may come from one beam.",
        {"grow": "best token"},
    ),
    (
        "finished beams grow on",
        "your sentences go on after the end. What comes after it is no part of the sentence, and costs it "
        "probability. A beam whose last token is the end is set aside, and never grows.",
        {"ended": "grows"},
        {"ended": "grows", "shown": "to the end"},
    ),
    (
        "finished beams forgotten",
        "a beam that ends leaves, and is gone: you choose among those that are alive at max_length. Keep the finished "
        "ones in a list of their own, and choose among both.",
        {"ended": "forgotten"},
        {"cut": "first"},
    ),
    (
        "finished beams keep their places",
        "finished beams stay among the width and take places from those that grow; or are pushed out by them and "
        "lost. Set them aside in a list of their own: they leave the beams, and are compared at the end.",
        {"ended": "stays"},
    ),
    (
        "beams become fewer",
        "with each finished beam you keep one fewer. Of all that are grown, the width likeliest stay, at each step; "
        "from a few beams come many.",
        {"ended": "fewer"},
    ),
    (
        "every end set aside",
        "you set every beam aside that is grown by the end, however unlikely. Choose the width likeliest of all that "
        "are grown FIRST; those of them that have just ended are set aside. Else width 1 is not greedy.",
        {"ended": "all aside"},
    ),
    (
        "stops too early",
        "you stop as soon as one beam has ended, or as many as width. Another that ends later may be likelier: go on "
        "to max_length, or until no beam is left that is likelier than the best of the finished ones.",
        *({"stop": stop, "cut": cut} for stop in (1, "width") for cut in ("compared", "second")),
    ),
    (
        "step by step, not the sum",
        "you compare the log-probability of the last token alone. A beam is as likely as all its tokens together: the "
        "SUM of their log-probabilities.",
        {"by": "last"},
        {"by": "last", "at_last": "sum"},
        {"by": "last", "value": "last"},
        {"at_last": "last"},
    ),
    (
        "divided by the length",
        "you divide by the number of tokens. That is a way to favour long sentences; asked for is the likeliest: the "
        "sum as it is.",
        {"at_last": "mean"},
        {"at_last": "mean", "value": "mean"},
    ),
    (
        "one state for all beams",
        "your beams do not have a state of their own. What the network has read differs from beam to beam: keep with "
        "each beam the state that step gave back for IT, and hand a beam's state on to those grown from it.",
        {"states": "shared"},
        {"states": "slot"},
    ),
    (
        "always the first state",
        "you hand step the first state each time. Then the network remembers nothing but one token: hand it the state "
        "it gave back for the beam.",
        {"states": "first"},
    ),
    (
        "start read every time",
        "you let step read start each time. After the first step it reads the beam's last token.",
        {"read": "start"},
    ),
    ("another start", "the first token that step reads is start. Yours reads the end there.", {"read": "end"}),
    (
        "width ignored",
        "you keep more than width beams: that finds the likeliest sentence of all, at a price that grows with each "
        "token. After each step only the width likeliest stay, of ALL beams together.",
        {"keep": "all"},
        {"keep": "of each"},
    ),
    (
        "cut beams not compared",
        "you return one that has ended, even if one that was cut at max_length is likelier. Both are compared.",
        {"cut": "forgotten"},
        {"cut": "second"},
    ),
    ("the least likely", "you keep the least likely. log p is below 0: the likeliest is the largest.", {"by": "least"}),
    (
        "another length",
        "max_length counts all tokens, the end too: yours go one further, or stop one short of it.",
        {"more": 1},
        {"more": -1},
    ),
    (
        "start or end among the ids",
        "the ids are those that were written: without start, which was only read, and with the end, once, if it was "
        "reached.",
        {"shown": "without end"},
        {"shown": "with start"},
        {"shown": "filled"},
    ),
    (
        "another number",
        "the ids are right, the number beside them is not. Asked for is the sum of log p over all tokens, the end too: "
        "not its exp, not minus it, no mean, not the last one alone.",
        *({"value": value} for value in ("p", "cost", "mean", "last", "without end")),
    ),
)


@dataclass(frozen=True)
class _Search(Exercise):
    """A search goes wrong on few languages, so for each mistake one is drawn on which it does."""

    def _check(self, answer: Callable, rng: np.random.Generator) -> Result:
        telling = (self._telling(mistake.answer, rng) for mistake in self.mistakes)
        exercise, seed = replace(self, always=(*self.always, *telling)), int(rng.integers(2**62))
        result = super(_Search, exercise)._check(_searched(answer, lost=True), np.random.default_rng(seed))
        if result.status == FAILED and result.mistake is None:  # else NOTHING would be shown, and not the error
            result = super(_Search, exercise)._check(_searched(answer), np.random.default_rng(seed))
        return result

    def _telling(self, wrong: Callable, rng: np.random.Generator) -> tuple:
        while self._agree(wrong(*(drawn := self.inputs(rng))), self.reference(*drawn), drawn):
            pass
        return drawn


# Read 0, 1, 2 (the end) or 3 (start): what comes next. The likelier first word leads to the less likely sentence.
PATHS = torch.tensor(
    [[0.3, 0.2, 0.5], [0.06, 0.04, 0.9], [0.5, 0.3, 0.2], [0.6, 0.39, 0.01]], dtype=torch.float64
).log()
_beam_search = _Search(
    name="beam_search",
    inputs=_language,
    reference=_read_anew,
    mistakes=tuple(
        Mistake(name, hint, _searched(_search(**way), lost=True)) for name, hint, *ways in SEARCHES for way in ways
    ),
    well_done="Width 1 is greedy, a width of V^T misses nothing, and no sentence grows beyond its end.",
    always=(
        *((PATHS, torch.tensor(0), 3, 2, width, 3) for width in (2, 1)),
        (*_language(np.random.default_rng(2))[:4], 5**3, 3),  # as wide as there are sentences
    ),
)


def beam_search(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(step, state, start, end, width, max_length)``, the ids that are found and their log p."""
    return _beam_search(answer, seed)
