"""Four proofs of each check of chapter 11: stub, solution, wrong answers by name, a right answer made otherwise."""

from collections import Counter, defaultdict
from itertools import chain

import numpy as np
import pytest
import torch

from commonspace.checks import ch11

EXERCISES = ("surrogate", "document_frequencies", "others_mean", "greedy_baseline")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_stub_is_not_attempted_and_the_solution_passes(exercise, stub, solution):
    check = getattr(ch11, exercise)
    assert check(stub("11", exercise)).status == "not attempted"
    assert check(solution("11", exercise)).status == "passed"
    assert "Pass the function itself" in check(3).message


def failed_as(check, answer, mistake, words):
    for seed in range(3):
        result = check(answer, seed)
        assert (result.status, result.mistake) == ("failed", mistake), result.message
        assert words in result.message


def passes(check, answer):
    for seed in range(3):
        result = check(answer, seed)
        assert result.status == "passed", result.message


# ---- 1: the surrogate -----------------------------------------------------------------------------------------------


def weighed(log_p, r, b):
    """-(r - b) log p at each place, (N, T)."""
    return -(r - b).detach()[:, None] * log_p


def without_end(counts):
    return torch.arange(counts.shape[1]) < counts.sum(1, keepdim=True) - 1


def last(counts):
    return counts & ~without_end(counts)


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda x, c, r, b: -weighed(x, r, b)[c].mean(), "sign", "An optimiser makes a loss SMALL"),
        (lambda x, c, r, b: weighed(x, b, r)[c].mean(), "sign", "become less likely"),
        (lambda x, c, r, b: weighed(x, r, b).mean(), "places behind the end counted", "above and below the line"),
        (lambda x, c, r, b: weighed(x, r, b).sum() / c.sum(), "places behind the end counted", "Nothing was drawn"),
        (lambda x, c, r, b: (weighed(x, r, b) * c).mean(), "divided by N T", "counts.sum()"),
        (lambda x, c, r, b: weighed(x, r, b)[without_end(c)].mean(), "end left out", "when to stop"),
        (
            lambda x, c, r, b: (weighed(x, r, b) * without_end(c)).sum() / c.sum(),
            "end left out",
            "take it as it is",
        ),
        (lambda x, c, r, b: weighed(x, r, b)[last(c)].mean(), "only the last place", "ALL its tokens"),
        (lambda x, c, r, b: weighed(x, r, b)[~c].mean(), "mask turned round", "behind the end"),
        (lambda x, c, r, b: weighed(x, r, 0 * b)[c].mean(), "baseline ignored", "varies more than it need"),
        (lambda x, c, r, b: weighed(x, r, -b)[c].mean(), "baseline added", "BETTER than expected"),
        (lambda x, c, r, b: -x[c].mean(), "reward ignored", "whatever it earned"),
        (lambda x, c, r, b: weighed(x, b, 0 * b)[c].mean(), "reward ignored", "reward - baseline"),
        (lambda x, c, r, b: weighed(x, r, b.mean())[c].mean(), "another baseline", "Each sentence has its own"),
        (lambda x, c, r, b: weighed(x, r, r.mean())[c].mean(), "another baseline", "one mean of the batch"),
        (
            lambda x, c, r, b: weighed(x, ((r - b) - (r - b).mean()) / (r - b).std(), 0)[c].mean(),
            "standardised",
            "as it is",
        ),
        (lambda x, c, r, b: weighed(x, torch.relu(r - b), 0)[c].mean(), "only what was better", "LESS likely"),
        (
            lambda x, c, r, b: ((weighed(x, r, b) * c).sum(1) / c.sum(1)).mean(),
            "mean of the sentences' means",
            "counts less",
        ),
        (
            lambda x, c, r, b: -((r - b) * (x * c).sum(1)).mean(),
            "divided by the sentences",
            "its steps grow with the length",
        ),
        (lambda x, c, r, b: (weighed(x, r, b) * c).sum(), "not divided", "you return the sum"),
        (lambda x, c, r, b: weighed(x.exp(), r, b)[c].mean(), "probabilities", "the gradient of the LOGARITHM"),
        (lambda x, c, r, b: (x * (r - b)[:, None] * c).mean(), "sign; divided by N T", "And then: your sum leaves out"),
        (lambda x, c, r, b: -(x * r[:, None]).mean(), "places behind the end counted; baseline ignored", "And then"),
    ],
)  # fmt: skip
def test_wrong_surrogates_get_their_hint(answer, mistake, words):
    failed_as(ch11.surrogate, answer, mistake, words)


def detached_too_late(x, c, r, b):
    return -((r - b)[:, None] * x.detach())[c].mean() + 0 * x.sum()


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda x, c, r, b: -((r - b)[:, None] * x)[c].mean(), "advantage not detached", "reward and baseline"),
        (lambda x, c, r, b: -((r.detach() - b)[:, None] * x)[c].mean(), "advantage not detached", "into baseline."),
        (lambda x, c, r, b: -((r - b.detach())[:, None] * x)[c].mean(), "advantage not detached", "into reward."),
        (lambda x, c, r, b: weighed(x.detach(), r, b)[c].mean(), "no gradient", "mere number"),
        (lambda x, c, r, b: weighed(x, r, b)[c].mean().item(), "no gradient", ".item()"),
        (lambda x, c, r, b: -np.mean(((r - b)[:, None] * x)[c].numpy()), "no gradient", "Compute with torch"),
        (detached_too_late, "log_probs detached; advantage not detached", "detach reward - baseline alone"),
        (
            lambda x, c, r, b: (weighed(x.detach(), r, b) + weighed(x, r, b))[c].mean() / 2,
            "log_probs detached",
            "They are what is trained",
        ),
    ],
)  # fmt: skip
def test_a_gradient_that_flows_astray_gets_its_hint(answer, mistake, words):
    failed_as(ch11.surrogate, answer, mistake, words)


def place_by_place(log_probs, counts, reward, baseline):
    total, n = 0.0, 0
    with torch.no_grad():
        advantage = reward - baseline
    for i in range(len(log_probs)):
        for t in range(log_probs.shape[1]):
            if counts[i, t]:
                total = total + advantage[i] * log_probs[i, t]
                n += 1
    return -total / n


@pytest.mark.parametrize(
    "answer",
    [
        place_by_place,
        lambda x, c, r, b: weighed(x, r, b)[c].mean(),
        lambda x, c, r, b: (weighed(x, r, b) * c).sum() / c.float().sum(),
        lambda x, c, r, b: torch.einsum("nt,nt,n->", x, c.float(), (b - r).detach()) / c.sum(),
        lambda x, c, r, b: -(x * (r.data - b.data).unsqueeze(1)).masked_select(c).mean(),
        lambda x, c, r, b: [-(x.masked_fill(~c, 0).sum(1) @ (r - b).detach()) / c.sum()],
        lambda x, c, r, b: torch.where(c, weighed(x, r, b), torch.nan).nanmean(),
        lambda x, c, r, b: -torch.tensor((r - b).tolist()).repeat_interleave(c.sum(1)).dot(x[c]) / c.sum(),
    ],
)
def test_surrogates_made_otherwise_pass(answer):
    passes(ch11.surrogate, answer)


def test_the_gradient_is_that_of_the_expected_reward():
    """One token out of three is drawn: summed over all draws, weighed by p, the surrogate's gradient is exact."""
    logits = torch.tensor([0.3, -1.0, 0.5], requires_grad=True)
    earned, log_p = torch.tensor([1.0, 4.0, -2.0]), logits.log_softmax(0)
    expected = torch.autograd.grad((log_p.exp() * earned).sum(), logits, retain_graph=True)[0]
    counts, baseline, total = torch.ones(2, 1, dtype=torch.bool), torch.tensor([0.7, 0.7]), torch.zeros(3)
    for token, p in enumerate(log_p.exp().tolist()):
        drawn = log_p[token].expand(2, 1), counts, earned[token].expand(2), baseline  # the same sentence twice
        loss = ch11._surrogate_with()(*drawn)
        total -= p * torch.autograd.grad(loss, logits, retain_graph=True)[0]
    torch.testing.assert_close(total, expected)


def test_who_forgets_the_axis_of_the_advantage_is_told():
    message = ch11.surrogate(lambda x, c, r, b: -((r - b) * x)[c].mean()).message
    assert "must match the size" in message
    assert "reward[:, None] is (N, 1)" in message
    assert "reward[:, None]" not in ch11.surrogate(lambda x, c, r, b: x @ torch.ones(77)).message


# ---- 2: document frequencies ----------------------------------------------------------------------------------------


def ngrams(words, n, low=1):
    return [tuple(words[i : i + k]) for k in range(low, n + 1) for i in range(len(words) - k + 1)]


def by_captions(corpus, n):
    return Counter(ngram for captions in corpus for words in captions for ngram in set(ngrams(words, n)))


def by_occurrences(corpus, n):
    return Counter(ngram for captions in corpus for words in captions for ngram in ngrams(words, n))


def of_images(make):
    """The right table, if an image's n-grams are ``make(captions, n)``."""
    return lambda corpus, n: dict(Counter(ngram for captions in corpus for ngram in set(make(captions, n))))


def listed(captions, n, **settings):
    return [ngram for words in captions for ngram in ngrams(words, n, **settings)]


def the_right_table(corpus, n):
    return of_images(listed)(corpus, n)


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (by_captions, "captions counted", "do not make dogs common"),
        (by_occurrences, "occurrences counted", "how often an n-gram is said"),
        (of_images(lambda c, n: [g for g in listed(c, n) if len(g) == n]), "only one n", "of one length alone"),
        (of_images(lambda c, n: listed(c, 1)), "only one n", "1, 2, ... and n"),
        (of_images(lambda c, n: listed(c, n - 1)), "a length left out", "range(1, n + 1)"),
        (of_images(lambda c, n: listed(c, n, low=2)), "a length left out", "single words are n-grams"),
        (of_images(lambda c, n: ngrams([*chain(*c)], n)), "across captions", "nobody wrote"),
        (
            of_images(lambda c, n: [g for w in c for k in range(1, n + 1) for g in ngrams(w, k, low=k)[:-1]]),
            "the last n-gram missing",
            "m - k + 1",
        ),
        (of_images(lambda c, n: listed(c[:1], n)), "first caption only", "if ANY of an image's captions"),
        (of_images(lambda c, n: [tuple(sorted(g)) for g in listed(c, n)]), "order lost", "are two n-grams"),
        (
            lambda corpus, n: {g: df / len(corpus) for g, df in the_right_table(corpus, n).items()},
            "share or logarithm",
            "the plain number",
        ),
        (
            lambda corpus, n: {g: np.log(len(corpus) / df) for g, df in the_right_table(corpus, n).items()},
            "share or logarithm",
            "which idf is made from",
        ),
        (
            lambda corpus, n: Counter(g for captions in corpus for w in captions for g in {*ngrams(w, n, low=n)}),
            "captions counted; only one n",
            "And then: your table has",
        ),
    ],
)  # fmt: skip
def test_wrong_tables_get_their_hint(answer, mistake, words):
    failed_as(ch11.document_frequencies, answer, mistake, words)


def growing(corpus, n):
    found = defaultdict(int)
    for captions in corpus:
        for ngram in {ngram for words in captions for ngram in ngrams(words, n)}:
            found[ngram] += 1
    return found


def test_a_table_that_grows_as_it_is_read_gets_its_hint():
    failed_as(ch11.document_frequencies, growing, "reading writes", "the table grew as it was read")
    passes(ch11.document_frequencies, lambda corpus, n: dict(growing(corpus, n)))


def by_its_own_list(corpus, n):
    every = sorted({ngram for captions in corpus for ngram in listed(captions, n)})
    return {g: sum(g in listed(captions, n) for captions in corpus) for g in every}


def with_cut_tails(corpus, n):
    """Slices beyond a caption's end are shorter n-grams, which it has anyway."""
    found = Counter()
    for captions in corpus:
        found.update({tuple(w[i : i + k]) for w in captions for i in range(len(w)) for k in range(1, n + 1)})
    return found


@pytest.mark.parametrize(
    "answer",
    [
        the_right_table,
        by_its_own_list,
        with_cut_tails,
        lambda corpus, n: {g: np.int64(df) for g, df in the_right_table(corpus, n).items()},
        lambda corpus, n: {g: torch.tensor(float(df)) for g, df in the_right_table(corpus, n).items()},
    ],
)
def test_tables_made_otherwise_pass(answer):
    passes(ch11.document_frequencies, answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda corpus, n: [3], "return one dict: of each n-gram the number of images. Got a list"),
        (lambda corpus, n: {" ".join(g): 1 for g in ngrams(["a", "b"], n)}, "a single word too: ('cube',)"),
        (lambda corpus, n: {"a": 1}, "Got 'a'"),
        (lambda corpus, n: {(1, 2): 1}, "tuple of words"),
        (
            lambda corpus, n: Counter(w[i : i + n] for c in corpus for w in c for i in range(3)),
            "tuple(words[i : i + k])",
        ),
        (lambda corpus, n: None, "returned None"),
        (lambda corpus, n: {}, "('a',): expected 3, got 'no entry'"),
        (lambda corpus, n: the_right_table(corpus, n) | {(): 2}, "(): expected no entry, got 2"),
        (lambda corpus, n: the_right_table(corpus, n) | {("zoo",): 0}, "('zoo',): expected no entry, got 0"),
    ],
)
def test_what_is_no_table_is_told_in_words(answer, words):
    result = ch11.document_frequencies(answer)
    assert (result.status, result.mistake) == ("failed", None)
    assert words in result.message


def test_of_many_wrong_entries_three_are_shown():
    message = ch11.document_frequencies(lambda corpus, n: {}).message
    assert message.count("expected") == 3
    assert "more n-grams differ" in message


# ---- 3: the others' mean --------------------------------------------------------------------------------------------


def of_rows(make):
    """Of the rewards (B, n) made (B, n), and flattened."""
    return lambda r, n: make(r.view(-1, n), n).flatten()


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (lambda r, n: r.view(-1, n).mean(1).repeat_interleave(n), "own reward included", "compared with itself"),
        (of_rows(lambda x, n: x.mean(1, keepdim=True).expand(-1, n)), "own reward included", "(n - 1) / n"),
        (of_rows(lambda x, n: (x.sum(1, keepdim=True) - x) / n), "divided by n", "There are n - 1 others"),
        (of_rows(lambda x, n: x.sum(1, keepdim=True) - x), "not divided", "the sum of the others"),
        (
            lambda r, n: ((r.view(n, -1).sum(0) - r.view(n, -1)) / (n - 1)).flatten(),
            "every B-th sentence",
            "stand one behind the other",
        ),
        (lambda r, n: (r.sum() - r) / (len(r) - 1), "the whole batch", "the SAME picture's"),
        (of_rows(lambda x, n: x.roll(1, 1)), "one of the others", "shaky"),
        (of_rows(lambda x, n: x - (x.sum(1, keepdim=True) - x) / (n - 1)), "the advantage", "subtracted it already"),
        (
            lambda r, n: (r.view(n, -1).mean(0).repeat(n)),
            "own reward included; every B-th sentence",
            "And then: you take every B-th",
        ),
    ],
)  # fmt: skip
def test_wrong_means_get_their_hint(answer, mistake, words):
    failed_as(ch11.others_mean, answer, mistake, words)


def by_a_mask(reward, n):
    picture = torch.arange(len(reward)) // n
    others = (picture[:, None] == picture) & ~torch.eye(len(reward), dtype=torch.bool)
    return (others.float() @ reward) / others.sum(dim=1)


@pytest.mark.parametrize(
    "answer",
    [
        by_a_mask,
        of_rows(lambda x, n: (x.sum(1, keepdim=True) - x) / (n - 1)),
        of_rows(lambda x, n: sum(x.roll(k, 1) for k in range(1, n)) / (n - 1)),
        of_rows(lambda x, n: x + (x.mean(1, keepdim=True) - x) * n / (n - 1)),
        lambda r, n: [np.mean([*r[i - i % n : i], *r[i + 1 : i - i % n + n]]) for i in range(len(r))],
    ],
)
def test_means_made_otherwise_pass(answer):
    passes(ch11.others_mean, answer)


# ---- 4: the greedy baseline -----------------------------------------------------------------------------------------


def written(
    decoder, vectors, reward, max_length, *, mode=False, back=True, graph=False, pick=torch.argmax, frozen=False,
    once=False,
):  # fmt: skip
    """Column after column; what is set otherwise goes wrong."""
    was = decoder.training
    if mode is not None:
        decoder.train(mode)
    decoder.requires_grad_(not frozen)
    with torch.set_grad_enabled(graph):
        ids = torch.full((len(vectors), max_length), decoder.end)
        if once:
            ids = decoder(vectors, ids).argmax(dim=2)
        for t in range(0 if once else max_length):
            ids = ids.clone()
            ids[:, t] = pick(decoder(vectors, ids)[:, t], dim=1)
        earned = reward(decoder.sentences(ids))
    decoder.train({True: was, False: decoder.training, None: True}[back])
    return earned


def set_otherwise(**settings):
    return lambda *given: written(*given, **settings)


def multinomial(logits, dim):
    return torch.multinomial(logits.softmax(dim), 1)[:, 0]


def with_start(decoder, vectors, reward, max_length):
    """A start in front, which this network does not expect: the word just before is not read."""
    ids = torch.full((len(vectors), 1), decoder.end)
    was = decoder.training
    decoder.eval()
    with torch.no_grad():
        for _ in range(max_length):
            ids = torch.cat([ids, decoder(vectors, ids)[:, -1].argmax(dim=1, keepdim=True)], dim=1)
    decoder.train(was)
    return reward(decoder.sentences(ids[:, 1:]))


def grown(decoder, vectors, reward, max_length):
    was, said = decoder.training, None
    decoder.eval()
    with torch.no_grad():
        ids = torch.zeros((len(vectors), 0), dtype=torch.long)
        for _ in range(max_length):
            said = decoder(vectors, ids)[:, -1:].argmax(dim=2)
            ids = torch.hstack([ids, said])
        earned = reward(decoder.sentences(ids))
    decoder.train(was)
    return earned


def another_length(more):
    return lambda decoder, vectors, reward, T: written(decoder, vectors, reward, T + more)


@pytest.mark.parametrize(
    ("answer", "mistake", "words"),
    [
        (set_otherwise(mode=None), "dropout on", "a network with holes"),
        (set_otherwise(mode=True), "dropout on", "the baseline is too low"),
        (set_otherwise(back=False), "left in evaluation mode", "nobody notices"),
        (set_otherwise(back=None), "put into training mode", "put back THAT"),
        (set_otherwise(graph=True), "a graph built", "Nobody will follow it back"),
        (set_otherwise(graph=True, mode=None), "dropout on; a graph built", "And then: a graph"),
        (set_otherwise(pick=multinomial), "drawn", "they differ from call to call"),
        (lambda d, v, reward, T: reward(d.sample(v, T, unknown=True)[0]), "drawn; a graph built", "argmax"),
        (set_otherwise(frozen=True), "left frozen", "does not learn any more"),
        (set_otherwise(once=True), "own words not read", "from place to place"),
        (grown, "a column short", "comes twice"),
        (with_start, "one place late", "no start stands in it"),
        (lambda d, v, reward, T: reward(d.greedy(v, T)), "unknown words left out", "unknown=True"),
        (lambda d, v, reward, T: reward(d.beam(v, 5, T, unknown=True)[0]), "searched", "the greedy one"),
        (set_otherwise(pick=torch.argmin), "the least likely", "The largest logit"),
        (another_length(1), "another length", "one further"),
        (another_length(-1), "another length", "one short"),
        (lambda *given: written(*given).mean().repeat(len(given[1])), "mean of the batch", "its own baseline"),
        (lambda *given: -written(*given), "sign", "as it is"),
        (
            lambda *given: -written(*given, back=False, graph=True),
            "a graph built; left in evaluation mode",
            "And then: the network was in training",
        ),
    ],
)  # fmt: skip
def test_wrong_baselines_get_their_hint(answer, mistake, words):
    failed_as(ch11.greedy_baseline, answer, mistake, words)


def dropout_alone(decoder, vectors, reward, max_length):
    """Only the dropout is switched off, and only the words that are there are shown to the network."""
    was = decoder.dropout.training
    decoder.dropout.eval()
    said = torch.empty((len(vectors), 0), dtype=torch.long)
    with torch.inference_mode():
        for _ in range(max_length):
            shown = torch.cat([said, torch.zeros_like(said[:, :0].new_zeros(len(vectors), 1))], dim=1)
            said = torch.cat([said, decoder(vectors, shown)[:, -1:].argmax(dim=2)], dim=1)
    decoder.dropout.train(was)
    return reward(decoder.sentences(said)).tolist()


@torch.no_grad()
def one_by_one(decoder, vectors, reward, max_length):
    modes = {module: module.training for module in decoder.modules()}
    decoder.eval()
    ids = []
    for vector in vectors:
        row = []
        while len(row) < max_length and decoder.end not in row:
            logits = decoder(vector[None], torch.tensor([[*row, decoder.end]]))
            row.append(logits[0, -1].argmax().item())
        ids.append(row + [decoder.end] * (max_length - len(row)))
    for module, mode in modes.items():
        module.training = mode
    return reward(decoder.sentences(torch.tensor(ids)))


@pytest.mark.parametrize(
    "answer",
    [written, dropout_alone, one_by_one, lambda d, v, reward, T: reward(d.greedy(v, T, unknown=True))],
)
def test_baselines_made_otherwise_pass(answer):
    passes(ch11.greedy_baseline, answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda d, v, reward, T: reward(torch.zeros(3)), "decoder.sentences makes them of ids"),
        (lambda d, v, reward, T: reward("a cube"), "a list of sentences"),
        (lambda d, v, reward, T: reward([]), "One reward for each picture"),
        (lambda d, v, reward, T: d(v), "stopped with TypeError"),
        (lambda d, v, reward, T: None, "returned None"),
        (lambda d, v, reward, T: torch.zeros(len(v)), "pictures, max_length = "),
    ],
)
def test_what_is_no_baseline_is_told_in_words(answer, words):
    result = ch11.greedy_baseline(answer)
    assert (result.status, result.mistake) == ("failed", None)
    assert words in result.message


def test_the_reference_is_the_librarys_and_sentences_differ_in_length():
    lengths = set()
    for number, _, vectors, worth, max_length in ch11._greedy_baseline.always:
        said = ch11._Network(number).greedy(vectors, max_length, unknown=True)
        lengths |= {len(sentence.split()) < max_length for sentence in said}
        expected = ch11._worth_of(said, worth)
        assert torch.equal(ch11._word_by_word(number, True, vectors, worth, max_length), expected)
    assert lengths == {True, False}


# ---- all four -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda *given: "three", "return one tensor of numbers; got a str"),
        (lambda *given: {"loss": 1}, "return one tensor of numbers; got a dict"),
        (lambda *given: [], "the shape must be"),
        (lambda *given: torch.ones(2, 2, 2), "the shape must be"),
        (lambda only: only, "stopped with TypeError"),
        (lambda *given: None, "returned None"),
    ],
)
def test_what_is_no_answer_is_told_in_words(answer, words):
    for exercise in ("surrogate", "others_mean"):
        result = getattr(ch11, exercise)(answer)
        assert (result.status, result.mistake) == ("failed", None)
        assert words in result.message


def test_no_numbers_and_arguments_changed_in_place_are_refused():
    assert ch11.surrogate(lambda x, c, r, b: x.sum() * torch.nan).status == "failed"
    assert ch11.others_mean(lambda r, n: r * torch.nan).status == "failed"
    assert "changes its arguments in place" in ch11.others_mean(lambda r, n: r.add_(1)).message


def test_a_check_leaves_chance_as_it_was():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    ch11.greedy_baseline(set_otherwise(pick=multinomial), 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("exercise", EXERCISES[:3])
def test_inputs_tell_every_known_mistake_from_the_right_answer_and_from_the_others(exercise):
    check = getattr(ch11, f"_{exercise}")
    for mistake in check.mistakes:
        if ";" not in mistake.name:
            for seed in range(3):
                assert check(mistake.answer, seed).mistake == mistake.name


def test_networks_tell_every_known_baseline_from_the_right_one_and_from_the_others():
    for name, _, *ways in ch11.WRITTEN:
        for way in ways:

            def kept(decoder, *rest, way=way):
                was = decoder.training
                found = way(decoder, *rest)
                decoder.train(was)
                return found

            assert ch11.greedy_baseline(kept, 0).mistake == name
