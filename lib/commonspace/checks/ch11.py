"""Checks of chapter 11, GXN and reward: REINFORCE's loss, document frequencies, two baselines."""

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from commonspace.checks.ch05 import NO_GRADIENT
from commonspace.checks.ch08 import _InTwoSteps
from commonspace.checks.ch09 import _one_number, _returned, _single, _slips
from commonspace.checks.exercise import FAILED, NOT_ATTEMPTED, PASSED, Exercise, Mistake, Result, _brief
from commonspace.models import SentenceDecoder


def _advised(advice: tuple[tuple[str, str], ...], answer: Callable) -> Callable:
    """``answer``, whose errors that say the first of a pair are told the second as well."""

    def told(*arguments):
        try:
            return answer(*arguments)
        except (RuntimeError, ValueError, TypeError) as error:
            for words, more in advice:
                if words in str(error):
                    raise type(error)(f"{error}\n{more}") from error
            raise

    return told


# ---- 1: the surrogate -----------------------------------------------------------------------------------------------


def _drawn(rng: np.random.Generator) -> tuple:
    """Four sentences, of other lengths each, and more places than sentences; behind the end any numbers."""
    lengths = rng.permutation([1, 2, 3, int(rng.integers(5, 7))])  # the end among them
    T = lengths.max()
    log_probs = -np.round(rng.uniform(0.1, 3, size=(4, T)), 2)
    reward, baseline = np.round(rng.normal(1.0, 1.0, size=(2, 4)), 2)
    counts = np.arange(T) < lengths[:, None]
    return torch.from_numpy(log_probs), torch.from_numpy(counts), torch.from_numpy(reward), torch.from_numpy(baseline)


def _place_by_place(log_probs, counts, reward, baseline) -> float:
    """Each token that counts, weighed by how much better than expected its sentence was."""
    total, n = 0.0, 0
    for i, places in enumerate(counts.tolist()):
        for t, real in enumerate(places):
            if real:
                total -= (float(reward[i]) - float(baseline[i])) * float(log_probs[i, t])
                n += 1
    return total / n


def _surrogate_with(*, sign=-1.0, places="real", over="places", gain="difference", of="log p"):
    """The surrogate with one slip. ``gain``: by what the log-probabilities are weighed."""

    def answer(log_probs, counts, reward, baseline):
        last = counts & ~torch.cat([counts[:, 1:], torch.zeros_like(counts[:, :1])], dim=1)
        chosen = {
            "real": counts,
            "all": torch.ones_like(counts),
            "no end": counts & ~last,
            "filling": ~counts,
            "last": last,
        }[places]
        r, b = reward, baseline
        advantage = {
            "difference": r - b,
            "reward": r,
            "sum": r + b,
            "baseline": b,
            "none": torch.ones_like(r),
            "less the mean": r - b.mean(),
            "less its mean": r - r.mean(),
            "standard": (r - b - (r - b).mean()) / (r - b).std(),
            "standard, biased": (r - b - (r - b).mean()) / (r - b).std(unbiased=False),
            "positive": (r - b).clamp(min=0),
        }[gain]
        if gain == "mean":
            advantage = torch.full_like(r, float((r - b).mean()))
        terms = sign * advantage[:, None] * (log_probs.exp() if of == "p" else log_probs)
        cost = torch.where(chosen, terms, 0.0)
        if over == "sentences":
            return (cost.sum(dim=1) / chosen.sum(dim=1)).mean()
        n = {
            "places": chosen.sum(),
            "real": counts.sum(),
            "all places": counts.numel(),
            "number of sentences": len(counts),
            "one": 1,
        }[over]
        return cost.sum() / n

    return answer


SURROGATES = (
    (
        "sign",
        "the sign is wrong. An optimiser makes a loss SMALL: without the minus, or with baseline - reward, sentences "
        "that earned more than expected become less likely.",
        {"sign": 1.0},
    ),
    (
        "places behind the end counted",
        "what is behind the end is in your sum, or in your mean. Nothing was drawn there, and log_probs may be any "
        "numbers. Only places where counts is True count, above and below the line.",
        {"places": "all"},
        {"places": "all", "over": "real"},
    ),
    (
        "divided by N T",
        "your sum leaves out what is behind the end, but you divide by all N T places: one long sentence makes the "
        "step of all others small. Divide by the number of places that count, counts.sum().",
        {"over": "all places"},
    ),
    (
        "end left out",
        "the end's step is not in it. To stop was drawn like any word, and it is a part of what earned the reward: "
        "without it the writer never learns when to stop. counts is True at the end; take it as it is.",
        {"places": "no end"},
        {"places": "no end", "over": "real"},
    ),
    (
        "only the last place",
        "you weigh the last place alone. The reward comes when the sentence is done, but it was earned by ALL its "
        "tokens: each of them is made likelier by it.",
        {"places": "last"},
        {"places": "last", "over": "real"},
    ),
    (
        "mask turned round",
        "you sum over what is behind the end. counts is True where a place counts.",
        {"places": "filling"},
    ),
    (
        "baseline ignored",
        "the baseline is not in it. Then each sentence that earned anything is made likelier, the bad ones too, and "
        "the estimate varies more than it need. Weigh by reward - baseline.",
        {"gain": "reward"},
    ),
    (
        "baseline added",
        "the baseline is added. Asked for is by how much a sentence was BETTER than expected: reward - baseline.",
        {"gain": "sum"},
    ),
    (
        "reward ignored",
        "the rewards are not in it: what was drawn is made likelier, whatever it earned. Weigh the log-probabilities "
        "of a sentence by its reward - baseline.",
        {"gain": "none"},
        {"gain": "baseline"},
    ),
    (
        "another baseline",
        "you subtract one mean of the batch from all rewards. Each sentence has its own baseline: baseline[i].",
        {"gain": "less the mean"},
        {"gain": "less its mean"},
    ),
    (
        "standardised",
        "you bring the advantages to mean 0 and deviation 1. Some do so; it changes the estimate, and is not asked for "
        "here: reward - baseline as it is.",
        {"gain": "standard"},
        {"gain": "standard, biased"},
    ),
    (
        "only what was better",
        "you cut the advantage off at 0. A sentence that was worse than expected must become LESS likely: that is half "
        "of what there is to learn.",
        {"gain": "positive"},
    ),
    (
        "mean of the sentences' means",
        "you take the mean of each sentence first, and then the mean over sentences: a word of a long sentence counts "
        "less. Asked for is one mean over all places that count.",
        {"over": "sentences"},
    ),
    (
        "divided by the sentences",
        "you divide by the number of sentences. That estimate is used as well, and its steps grow with the length; "
        "asked for here is the mean over all places that count, counts.sum().",
        {"over": "number of sentences"},
    ),
    ("not divided", "you return the sum. Divide by the number of places that count, counts.sum().", {"over": "one"}),
    (
        "probabilities",
        "you take exp of the log-probabilities. The gradient of the expected reward has the gradient of the LOGARITHM "
        "in it: a rare token that was drawn must weigh as much as if it were drawn often.",
        {"of": "p"},
    ),
)
CUT_OFF = {
    "advantage not detached": "the value is right, but a gradient flows back into {}. It is a fact here, no knob: who "
    "lets it flow trains whatever made that number to make the loss small. A learned baseline, for one, would rise and "
    "rise, fastest for the unlikeliest sentences. .detach() the difference reward - baseline.",
    "log_probs detached": "the value is right, but its gradient with respect to log_probs is not. They are what is "
    "trained: leave them as they are, and detach reward - baseline alone.",
}


def _where_it_flows(answer: Callable, rng: np.random.Generator) -> Result:
    """The gradient reaches log_probs, as it should, and neither the rewards nor the baselines."""
    log_probs, counts, reward, baseline = (a.requires_grad_(a.is_floating_point()) for a in _single(_drawn)(rng))
    try:
        value = answer(log_probs, counts, reward, baseline)
    except (RuntimeError, TypeError):  # numpy takes no tensor that has a gradient
        value = torch.zeros(())
    if not value.requires_grad:
        return Result(FAILED, f"surrogate is not right yet: the value is right, but {NO_GRADIENT}", "no gradient")
    leaves = (log_probs, reward, baseline)
    learned, *facts = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    expected = torch.where(counts, (baseline - reward).detach()[:, None], 0.0) / counts.sum()
    flows = [name for name, slope in zip(("reward", "baseline"), facts, strict=True) if slope.any()]
    mistakes = [] if torch.allclose(learned, expected, atol=1e-6) else ["log_probs detached"]
    mistakes += ["advantage not detached"] if flows else []
    if not mistakes:
        return Result(PASSED, "")
    hints = "\nAnd then: ".join(CUT_OFF[name].format(" and ".join(flows)) for name in mistakes)
    return Result(FAILED, f"surrogate is not right yet: {hints}", "; ".join(mistakes))


AXES = (
    (
        "must match the size",
        "reward and baseline are (N,), log_probs is (N, T). reward[:, None] is (N, 1): one number for all places of a "
        "sentence.",
    ),
)
_surrogate = _InTwoSteps(
    name="surrogate",
    inputs=_single(_drawn),
    reference=_place_by_place,
    mistakes=_slips(_surrogate_with, SURROGATES),
    well_done="Words and ends are weighed by how much better than expected their sentence was, and the gradient flows "
    "back into them alone.",
    always=(
        (  # two sentences, "a b end" and "end": the one better than expected, the other worse
            torch.tensor([[-0.5, -1.0, -2.0], [-1.5, -9.0, -7.0]]),
            torch.tensor([[True, True, True], [True, False, False]]),
            torch.tensor([3.0, 1.0]),
            torch.tensor([2.0, 2.0]),
        ),
    ),
    then=_where_it_flows,
    tolerance=1e-5,  # of float32
)


def surrogate(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(log_probs, counts, reward, baseline)``, one number, and where its gradient flows."""
    return _surrogate(_one_number(_advised(AXES, answer)) if callable(answer) else answer, seed)


# ---- 2: document frequencies ----------------------------------------------------------------------------------------

WORDS = ("a", "red", "cube", "on")


def _corpus(rng: np.random.Generator) -> tuple:
    """Two to four images of one to three captions; few words, so that captions share n-grams and repeat them."""

    def captions():
        return tuple(tuple(rng.choice(WORDS, size=rng.integers(0, 6)).tolist()) for _ in range(rng.integers(1, 4)))

    return tuple(captions() for _ in range(rng.integers(2, 5))), int(rng.integers(1, 5))


def _ngram_by_ngram(corpus, n) -> dict:
    """Every n-gram there is, looked for in the captions of each image."""

    def stands_in(ngram, words):
        return any(words[i : i + len(ngram)] == ngram for i in range(len(words)))

    every = {words[i:j] for captions in corpus for words in captions for j in range(len(words) + 1) for i in range(j)}
    return {
        ngram: sum(any(stands_in(ngram, words) for words in captions) for captions in corpus)
        for ngram in every
        if len(ngram) <= n
    }


def _counted(
    *, once="image", lengths="up to n", joined=False, of=None, short=0, order=True, to=lambda df, n_images: df
):
    """The table with one slip. ``once``: in what an n-gram counts once; ``of``: how many captions are read."""

    def answer(corpus, n):
        table = Counter()
        for captions in corpus:
            read = [[word for words in captions for word in words]] if joined else [*captions][:of]
            sizes = {"up to n": range(1, n + 1), "n": [n], "1": [1], "below n": range(1, n), "from 2": range(2, n + 1)}
            told = [
                [tuple(words[i : i + k]) for k in sizes[lengths] for i in range(len(words) - k + 1 - short)]
                for words in read
            ]
            told = told if order else [[tuple(sorted(ngram)) for ngram in ngrams] for ngrams in told]
            if once == "image":
                told = [set().union(*told)]
            elif once == "caption":
                told = [set(ngrams) for ngrams in told]
            for ngrams in told:
                table.update(ngrams)
        return {ngram: to(df, len(corpus)) for ngram, df in table.items()}

    return answer


TABLES = (
    (
        "captions counted",
        "you count the CAPTIONS with an n-gram. An image counts once, however many of its captions have it: five "
        "people who say 'dog' of one picture do not make dogs common. Collect an image's n-grams in a set.",
        {"once": "caption"},
    ),
    (
        "occurrences counted",
        "you count how often an n-gram is said. An image counts once, however often its captions say it: collect its "
        "n-grams in a set first.",
        {"once": "never"},
    ),
    (
        "only one n",
        "your table has n-grams of one length alone. Asked for are all lengths: 1, 2, ... and n, in one table.",
        {"lengths": "n"},
        {"lengths": "1"},
    ),
    (
        "a length left out",
        "a length is missing. range(1, n) ends before n, and single words are n-grams as well: range(1, n + 1).",
        {"lengths": "below n"},
        {"lengths": "from 2"},
    ),
    (
        "across captions",
        "you join an image's captions to one text. The last word of one and the first of the next then make n-grams "
        "that nobody wrote. Go through the captions one by one.",
        {"joined": True},
    ),
    (
        "the last n-gram missing",
        "the last n-gram of each caption is missing. Of m words there are m - k + 1 n-grams of k words: "
        "range(len(words) - k + 1).",
        {"short": 1},
    ),
    (
        "first caption only",
        "you read the first caption of each image alone. An n-gram counts if ANY of an image's captions has it.",
        {"of": 1},
    ),
    (
        "order lost",
        "in your n-grams the words have lost their order. ('red', 'cube') and ('cube', 'red') are two n-grams.",
        {"order": False},
    ),
    (
        "share or logarithm",
        "you go on to a share, or to idf. Asked for is the plain number of images, which idf is made from.",
        {"to": lambda df, n_images: df / n_images},
        {"to": lambda df, n_images: math.log(n_images / df)},
        {"to": lambda df, n_images: math.log(n_images) - math.log(max(1, df))},
    ),
)


class _Table(_InTwoSteps):
    """An exercise whose answer is a table: of what differs a few entries are shown."""

    def _came(self, expected: Any, got: Any, arguments: tuple) -> str:
        missing = "no entry"
        both = {ngram: (expected.get(ngram, missing), got.get(ngram, missing)) for ngram in {**expected, **got}}
        wrong = sorted((ngram for ngram, (e, g) in both.items() if e != g), key=lambda ngram: (len(ngram), ngram))
        lines = [f"{ngram}: expected {both[ngram][0]}, got {_brief(both[ngram][1])}" for ngram in wrong[:3]]
        more = [f"and {len(wrong) - 3} more n-grams differ"] if len(wrong) > 3 else []
        return "\n".join([*lines, *more, self._shown(arguments)])


def _as_table(answer: Callable) -> Callable:
    """The table that ``answer`` makes of lists, as a dict of numbers."""

    def made(corpus, n):
        table = answer([[list(words) for words in captions] for captions in corpus], n)
        if table is None:
            return None
        if not isinstance(table, Mapping):
            raise ValueError(f"return one dict: of each n-gram the number of images. Got a {type(table).__name__}")
        for ngram in table:
            if not isinstance(ngram, tuple) or not all(isinstance(word, str) for word in ngram):
                raise ValueError(f"an n-gram is a tuple of words, a single word too: ('cube',). Got {ngram!r}")
        return {ngram: df if isinstance(df, int) else float(df) for ngram, df in table.items()}

    return made


READ = (
    "the numbers are right, but the table grew as it was read: I asked for {}, which is in no caption, by "
    "table[...], and it was in the table afterwards. Rewards ask for new n-grams at each step, so it would grow "
    "without end, and soon hold more nothing than captions. Return a dict or a Counter: dict(table)."
)


def _only_read(answer: Callable, rng: np.random.Generator) -> Result:
    """A table does not grow when it is asked for what it does not have."""
    corpus, n = _corpus(rng)
    table, unseen = answer([[list(words) for words in captions] for captions in corpus], n), ("nobody", "wrote", "this")
    with contextlib.suppress(KeyError):
        table[unseen]
    if unseen not in table:
        return Result(PASSED, "")
    return Result(FAILED, f"document_frequencies is not right yet: {READ.format(unseen)}", "reading writes")


TWICE = ((("a", "dog", "a", "dog"), ("a", "dog"), ()), (("a", "cat"), ("dog",)), (("a",),))
UNHASHABLE = (
    ("unhashable", "A list cannot stand in a set or in a dict. Make a tuple of it: tuple(words[i : i + k])."),
)


def document_frequencies(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(corpus, n)``, of each n-gram in how many images it is, and that reading leaves it as it is."""
    if not callable(answer):
        return _document_frequencies(answer, seed)
    given = _advised(UNHASHABLE, answer)
    exercise = replace(_document_frequencies, then=lambda _, rng: _only_read(given, rng))  # as it is returned, no copy
    return exercise(_as_table(given), seed)


_document_frequencies = _Table(
    name="document_frequencies",
    inputs=_corpus,
    reference=_ngram_by_ngram,
    mistakes=_slips(_counted, TABLES),
    well_done="Images are counted, for each length, and reading the table leaves it as it is.",
    always=((TWICE, 2), (TWICE, 1)),
)


# ---- 3: the others' mean --------------------------------------------------------------------------------------------


def _earned(rng: np.random.Generator) -> tuple:
    """Rewards of two to four pictures with two to four sentences each."""
    B, n = (int(size) for size in rng.integers(2, 5, size=2))
    return torch.from_numpy(np.round(rng.uniform(0, 10, size=B * n), 2)), n


def _one_left_out(reward, n) -> np.ndarray:
    """Of each sentence the rewards of its picture's others, listed."""
    found = []
    for i in range(len(reward)):
        first = i - i % n
        others = [float(reward[j]) for j in range(first, first + n) if j != i]
        found.append(sum(others) / len(others))
    return np.array(found)


def _mean_of(*, others="left out", by="n - 1", rows="blocks", what="baseline"):
    """The baseline with one slip. ``others``: whose rewards are meant; ``by``: what the sum is divided by."""

    def answer(reward, n):
        reward = reward.double()
        x = reward.view(n, -1).T if rows == "strided" else reward.view(-1, n)  # (B, n)
        total, alone = x.sum(dim=1, keepdim=True), torch.zeros_like(x)
        if others == "batch":
            sums, m = alone + x.sum() - x, x.numel()
        elif others == "other pictures":
            sums, m = alone + x.sum() - total, x.numel() - n + 1
        else:
            sums = {"left out": total - x, "all": alone + total, "next": x.roll(1, 1), "previous": x.roll(-1, 1)}[
                others
            ]
            m = {"left out": n, "all": n + 1}.get(others, 2)
        mean = sums / {"n - 1": m - 1, "n": m, "one": 1, "n - 2": m - 2}[by]
        mean = {"baseline": mean, "advantage": x - mean, "minus": mean - x}[what]
        return (mean.T if rows == "strided" else mean).flatten()

    return answer


BASELINES = (
    (
        "own reward included",
        "the sentence's own reward is in its mean. Then it is compared with itself, in part: each advantage is only "
        "(n - 1) / n of what it should be. Take the mean of the OTHER n - 1.",
        {"others": "all"},
    ),
    (
        "divided by n",
        "the sum is that of the others, but you divide by n. There are n - 1 others.",
        {"by": "n"},
    ),
    ("not divided", "you return the sum of the others. Asked for is their mean: divide by n - 1.", {"by": "one"}),
    (
        "every B-th sentence",
        "you take every B-th sentence for those of one picture. The n sentences of a picture stand one behind the "
        "other: reward.view(-1, n) has a picture in each row.",
        {"rows": "strided"},
    ),
    (
        "the whole batch",
        "you take the mean over other pictures' sentences, too. Some pictures are easier to describe than others: what "
        "is to be expected is what the SAME picture's other sentences earned.",
        {"others": "batch"},
        {"others": "other pictures"},
    ),
    (
        "one of the others",
        "you take one other sentence alone. That is a baseline, but a shaky one: take the mean of all n - 1 others.",
        {"others": "next"},
        {"others": "previous"},
    ),
    (
        "the advantage",
        "you have subtracted it already. Asked for is the baseline itself; the surrogate subtracts it.",
        {"what": "advantage"},
        {"what": "minus"},
    ),
)
_each_sentence = partial(
    _returned,
    lambda reward, n: [(len(reward),)],
    "One baseline for each sentence, in the order of reward: .flatten() makes (B n,) of (B, n).",
)
_others_mean = Exercise(
    name="others_mean",
    inputs=_single(_earned),
    reference=_one_left_out,
    mistakes=_slips(_mean_of, BASELINES),
    well_done="No sentence is compared with itself, nor with those of another picture.",
    always=((torch.tensor([1.0, 2.0, 6.0, 0.0, 0.0, 9.0]), 3), (torch.tensor([1.0, 2.0, 4.0, 8.0, 5.0, 3.0]), 2)),
    tolerance=1e-5,  # of float32
)


def others_mean(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(reward, n)``, the mean reward of the other sentences of the same picture (B n,)."""
    return _others_mean(_each_sentence(answer) if callable(answer) else answer, seed)


# ---- 4: the greedy baseline -----------------------------------------------------------------------------------------

VOCABULARY = {"words": ["a", "red", "cube", "on"], "pattern": "[a-z]+"}


class _Network(SentenceDecoder):
    """A decoder that keeps account: each time it is asked, whether it drops out and whether a graph is built."""

    def __init__(self, number: int):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            super().__init__(VOCABULARY, image_dim=4, word_dim=6, hidden_dim=8)
            for parameter in self.parameters():
                torch.nn.init.normal_(parameter)
        self.asked = []

    def _logits(self, states: Tensor) -> Tensor:
        logits = super()._logits(states)
        self.asked.append((self.dropout.training and self.dropout.p > 0, logits.requires_grad))
        return logits

    def facts(self, training: bool) -> list[str]:
        """What was done wrongly to a network that was in this mode."""
        dropped, graph = (any(column) for column in zip(*self.asked, strict=True)) if self.asked else (False, False)
        mode = {module.training for module in self.modules()} == {training}
        wrong = {
            "dropout on": dropped,
            "a graph built": graph,
            "left in evaluation mode": training and not mode,
            "put into training mode": not training and not mode,
            "left frozen": not all(parameter.requires_grad for parameter in self.parameters()),
        }
        return [fact for fact, is_so in wrong.items() if is_so]


def _networks(rng: np.random.Generator) -> tuple:
    """The number of a network, whether it is in training, pictures, what a word earns, a length."""
    vectors = torch.tensor(rng.normal(size=(rng.integers(2, 5), 4)), dtype=torch.float32)
    worth = torch.from_numpy(np.round(rng.uniform(-1, 2, size=5), 2))
    return int(rng.integers(10**6)), bool(rng.integers(2)), vectors, worth, int(rng.integers(3, 7))


def _worth_of(sentences: list[str], worth: Tensor) -> Tensor:
    """Each word earns what it is worth, less the later it comes."""
    worth = dict(zip(("<unk>", *VOCABULARY["words"]), worth.tolist(), strict=True))
    return torch.tensor(
        [sum(worth[word] / (t + 1) for t, word in enumerate(sentence.split())) for sentence in sentences],
        dtype=torch.float64,
    )


def _word_by_word(network, training, vectors, worth, max_length) -> Tensor:
    """Each picture by itself, with the decoder's own step, which reads one token after the other."""
    decoder, said = _Network(network).eval(), []
    with torch.no_grad():
        for vector in vectors:
            step, state, ids = decoder._step(unknown=True), decoder._start(vector[None]), []
            while len(ids) < max_length and ids[-1:] != [decoder.end]:
                log_p, state = step(torch.tensor(ids[-1:] or [decoder.end]), state)
                ids.append(int(log_p.argmax()))
            said += decoder.sentences(torch.tensor([ids]))
    return _worth_of(said, worth)


def _written_by(answer: Callable, seen: list | None = None) -> Callable:
    """What ``answer`` returns for a network of that number. What it did wrongly on the way is noted in ``seen``."""

    def write(network, training, vectors, worth, max_length):
        heard, given, drawn = [], vectors.clone().requires_grad_(), [1] if seen is None else [1, 2]

        def reward(sentences):
            if not isinstance(sentences, (list, tuple)) or not all(isinstance(one, str) for one in sentences):
                raise ValueError("reward takes a list of sentences, strings: decoder.sentences makes them of ids")
            heard.append(list(sentences))
            return _worth_of(sentences, worth)

        for chance in drawn:
            decoder = _Network(network).train(training)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(chance)
                value = answer(decoder, given, reward, max_length)
            if value is None:
                return None
            if seen is not None:
                seen.extend(decoder.facts(training))
        if seen is not None and "dropout on" not in seen and heard[: len(heard) // 2] != heard[len(heard) // 2 :]:
            seen.append("drawn")
        return value

    return _returned(
        lambda network, training, vectors, *rest: [(len(vectors),)], "One reward for each picture, (B,).", write
    )


FACTS = {
    "dropout on": "your network writes with dropout. What it says then is said by a network with holes, another one at "
    "each call, and mostly worse: the baseline is too low, and whatever is drawn looks good. .eval() before it writes.",
    "drawn": "your sentences are drawn: they differ from call to call. The self-critical baseline is what the network "
    "would say anyway, at each place the likeliest token: argmax.",
    "a graph built": "a graph for a gradient is built as your network writes. Nobody will follow it back: it costs "
    "memory and time, and a baseline must be a fact. Write inside torch.no_grad().",
    "left in evaluation mode": "the network was in training, and you leave it in evaluation mode: from here on it "
    "learns without dropout, and nobody notices. Put back the mode in which it was.",
    "put into training mode": "the network was in evaluation mode, or parts of it, and you leave it in training mode: "
    "who only wanted to look at a reward gets dropout from then on. Remember decoder.training, and put back THAT.",
    "left frozen": "you leave the network's weights without requires_grad: it does not learn any more. torch.no_grad() "
    "needs no clearing up.",
}


@dataclass(frozen=True)
class _Baseline(Exercise):
    """What is done on the way is judged before the numbers, which may hang on it."""

    def _check(self, answer: Callable, rng: np.random.Generator) -> Result:
        seen = []
        result = super()._check(_written_by(answer, seen), rng)
        wrong = [fact for fact in FACTS if fact in seen]
        if not wrong or result.status == NOT_ATTEMPTED:
            return result
        hints = "\nAnd then: ".join(FACTS[fact] for fact in wrong)
        return Result(FAILED, f"{self.name} is not right yet: {hints}", "; ".join(wrong))

    def _shown(self, arguments: tuple) -> str:
        _, training, vectors, _, max_length = arguments
        mode = "training" if training else "evaluation"
        return f"     for {len(vectors)} pictures, max_length = {max_length}, a network in {mode} mode"


def _greedily(*, read="own", pick="argmax", more=0, of=lambda earned: earned):
    """Written with one slip. ``read``: what the network reads at each place."""

    def answer(decoder, vectors, reward, max_length):
        with torch.no_grad():
            decoder.eval()
            T = max_length + more
            ids = torch.full((len(vectors), T), decoder.end)
            if read == "nothing":
                ids = decoder(vectors, ids).argmax(dim=2)
            for t in range(T if read != "nothing" else 0):
                before = torch.cat([torch.full_like(ids[:, :1], decoder.end), ids[:, :-1]], dim=1)
                logits = decoder(vectors, before if read == "one late" else ids)[:, t]
                ids[:, t] = logits.argmin(dim=1) if pick == "argmin" else logits.argmax(dim=1)
            return of(reward(decoder.sentences(ids)))

    return answer


def _grown(decoder, vectors, reward, max_length):
    """``ids`` grow by a column a step, and the logits of the last column are read: those of the word that is there."""
    with torch.no_grad():
        decoder.eval()
        ids = torch.full((len(vectors), 0), decoder.end)
        for _ in range(max_length):
            ids = torch.cat([ids, decoder(vectors, ids)[:, -1].argmax(dim=1, keepdim=True)], dim=1)
        return reward(decoder.sentences(ids))


WRITTEN = (
    (
        "a column short",
        "your first word comes twice, and all others a place late. T ids give the logits of T places, each from the "
        "ids before it: for place t a column t must stand in ids already, with anything in it.",
        _grown,
    ),
    (
        "own words not read",
        "your network never reads what it has written itself: all places are told at once, or each from ends alone. "
        "Go from place to place: ask, write the token into ids, and ask again.",
        _greedily(read="nothing"),
    ),
    (
        "one place late",
        "at each place the network has not read the word just before it. Logits at place t have seen the ids BEFORE "
        "place t: column 0 of ids is the first word, and no start stands in it.",
        _greedily(read="one late"),
    ),
    (
        "unknown words left out",
        "where an unknown word is likeliest you write another one. Here it may stand, as in the sentences that the "
        "network would be compared with: decoder.greedy has unknown=True for it.",
        lambda decoder, vectors, reward, T: reward(decoder.greedy(vectors, T)),
    ),
    (
        "searched",
        "you search with beams for the likeliest sentence. Asked for is the greedy one: at each place the likeliest "
        "token.",
        *(
            lambda decoder, vectors, reward, T, width=width, unknown=unknown: reward(
                decoder.beam(vectors, width, T, unknown=unknown)[0]
            )
            for width in (2, 3, 5)
            for unknown in (True, False)
        ),
    ),
    (
        "the least likely",
        "you take the least likely token. The largest logit is the likeliest.",
        _greedily(pick="argmin"),
    ),
    (
        "another length",
        "max_length counts all tokens: yours go one further, or stop one short of it.",
        _greedily(more=1),
        _greedily(more=-1),
    ),
    (
        "mean of the batch",
        "you return one mean for all pictures. Each picture has its own baseline: some are easier to describe.",
        _greedily(of=lambda earned: earned.mean().expand(len(earned))),
    ),
    (
        "sign",
        "the sign is wrong: asked for is what the sentences earn, as it is.",
        _greedily(of=lambda earned: -earned),
    ),
)
_greedy_baseline = _Baseline(
    name="greedy_baseline",
    inputs=_networks,
    reference=_word_by_word,
    mistakes=tuple(Mistake(name, hint, _written_by(slip)) for name, hint, *slips in WRITTEN for slip in slips),
    well_done="It is what the whole network would say, it costs no graph, and training goes on as if nothing had been.",
    always=tuple((i, i < 20, *_networks(np.random.default_rng(i))[2:]) for i in (2, 12, 27, 28)),  # both modes
    tolerance=1e-5,  # of float32
)


def greedy_baseline(answer: Callable, seed: int | None = None) -> Result:
    """Check ``answer(decoder, vectors, reward, max_length)``: what greedy sentences earn, and what is left behind."""
    return _greedy_baseline(answer, seed)
