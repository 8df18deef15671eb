"""The decoder against loops, and what it writes against every sentence there is of a tiny vocabulary."""

import itertools
import math

import pytest
import torch
from scipy.stats import chisquare
from torch import nn
from torch.nn import functional as F

from commonspace.data.vocabulary import Vocabulary
from commonspace.models import SentenceDecoder, _writing
from commonspace.models._writing import beam_search, write

KINDS = list(itertools.product(["gru", "lstm"], ["input", "state"]))
TEXTS = ["A man rides a horse.", "Two dogs run on the wet sand by the sea", "red!", "a zebra and a man"]
WORDS = Vocabulary.build([*TEXTS[:3], "and"])
TINY = {"words": ["a", "b"], "pattern": "[a-z]+"}


def pictures(n: int = 4, dim: int = 6, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def decoder(vocabulary=WORDS, seed: int = 0, sharp: float = 1.0, **options) -> SentenceDecoder:
    """In evaluation mode; ``sharp`` > 1 makes its probabilities differ, and hang on the words before."""
    torch.manual_seed(seed)
    options = {"image_dim": 6, "word_dim": 5, "hidden_dim": 8} | options
    net = SentenceDecoder(vocabulary, **options).eval()
    with torch.no_grad():
        net.embedding.weight.mul_(10 * sharp)
        net.image.weight.mul_(10 * sharp)
        net.output.weight.mul_(sharp)
        net.output.bias.normal_()
    return net


def by_steps(net: SentenceDecoder, v: torch.Tensor, ids: list) -> torch.Tensor:
    """The logits at each place of N sentences (N, T) of one picture: (N, T, V), by a cell, token after token."""
    lstm, ids = net.config["cell"] == "lstm", torch.as_tensor(ids)
    cell = (nn.LSTMCell if lstm else nn.GRUCell)(net.config["word_dim"], net.config["hidden_dim"])
    weights = {name: getattr(net.rnn, f"{name}_l0") for name, _ in cell.named_parameters()}

    def read(x, state):
        state = torch.func.functional_call(cell, weights, (x, state if lstm else state[0]))
        return state if lstm else (state,)

    image = (net.image.weight @ v + net.image.bias).expand(len(ids), -1)
    zero = torch.zeros(len(ids), net.config["hidden_dim"], dtype=v.dtype)
    state = read(image, (zero, zero)) if net.config["start"] == "input" else (torch.tanh(image), zero)
    rows, token = [], torch.full((len(ids),), net.end)
    for t in range(ids.shape[1]):
        state = read(net.embedding.weight[token], state)
        rows.append(state[0] @ net.output.weight.T + net.output.bias)
        token = ids[:, t]
    return torch.stack(rows, dim=1)


def known(logits: torch.Tensor) -> torch.Tensor:
    """Without the unknown word."""
    return torch.cat([torch.full_like(logits[..., :1], -torch.inf), logits[..., 1:]], dim=-1)


def every_sentence(net: SentenceDecoder, v: torch.Tensor, max_length: int, unknown: bool) -> dict[tuple, torch.Tensor]:
    """Ids of each sentence of at most ``max_length`` tokens, those that were cut without an end -> log p."""
    rows = list(itertools.product(range(0 if unknown else 1, net.end), repeat=max_length))
    logits = by_steps(net, v, rows)
    log_p = (logits if unknown else known(logits)).log_softmax(dim=2)
    found = {}
    for ids, own in zip(rows, log_p, strict=True):
        words = own[range(max_length), list(ids)].cumsum(dim=0)
        found[ids] = words[-1]
        for n in range(max_length):
            found[(*ids[:n], net.end)] = own[n, net.end] + (words[n - 1] if n else 0)
    return found


def numbers(found: dict[tuple, torch.Tensor]) -> dict[tuple, float]:
    return {ids: float(p.detach()) for ids, p in found.items()}


# ---- teacher forcing and the loss -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "start"), KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_all_places_at_once_are_one_after_the_other(cell, start, seed):
    net = decoder(seed=seed, cell=cell, start=start).double()
    v = pictures(seed=seed).double()
    ids, mask = net.tokens(TEXTS)
    assert mask.sum(dim=1).tolist() == [6, 11, 2, 6]
    assert ids[2].tolist() == [WORDS.encode("red")[0], *[net.end] * 10]
    assert ids[3, 1] == 0  # the zebra
    logits = net(v, ids)
    assert logits.shape == (4, 11, len(WORDS) + 1)
    for i in range(4):
        own = ids[i, mask[i]].tolist()
        torch.testing.assert_close(logits[i, mask[i]], by_steps(net, v[i], [own])[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_is_a_mean_over_all_words_and_ends(smoothing, seed):
    net = decoder(seed=seed, label_smoothing=smoothing).double()
    v = pictures(seed=seed).double()
    total, hits, count, log_p = 0.0, 0, 0, []
    for i, text in enumerate(TEXTS):
        ids = [*WORDS.encode(text), net.end]
        log_p.append(0.0)
        for row, token in zip(by_steps(net, v[i], [ids])[0].tolist(), ids, strict=True):
            log_sum = math.log(sum(math.exp(x) for x in row))
            share = [1 - smoothing if k == token else smoothing / net.end for k in range(net.end + 1)]
            total -= sum(s * (x - log_sum) for s, x in zip(share, row, strict=True))
            hits += max(range(len(row)), key=row.__getitem__) == token
            count += 1
            log_p[i] += row[token] - log_sum
    found = net.losses(v, TEXTS)
    assert float(found["loss"].detach()) == pytest.approx(total / count, abs=1e-12)
    assert float(found["accuracy"]) == pytest.approx(hits / count)
    assert net.log_likelihood(v, TEXTS).tolist() == pytest.approx(log_p, abs=1e-12)
    assert net.perplexity(v, TEXTS) == pytest.approx(math.exp(-sum(log_p) / count))
    assert count == 25  # 21 words and 4 ends


@pytest.mark.parametrize(("cell", "start"), KINDS)
def test_a_sentence_does_not_hang_on_its_company(cell, start):
    net = decoder(cell=cell, start=start)
    v = pictures()
    together = net.log_likelihood(v, TEXTS)
    alone = torch.cat([net.log_likelihood(v[i : i + 1], [text]) for i, text in enumerate(TEXTS)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(net.log_likelihood(v.flip(0), TEXTS[::-1]), together.flip(0), rtol=0, atol=1e-5)
    long = net.log_likelihood(torch.cat([v, v[:1]]), [*TEXTS, "man " * 60])
    torch.testing.assert_close(long[:-1], together, rtol=0, atol=1e-5)
    ids, mask = net.tokens(TEXTS)
    spoilt = ids.where(mask, torch.randint(0, net.end, ids.shape))
    assert torch.equal(net(v, spoilt)[mask], net(v, ids)[mask])
    counts = mask.sum(dim=1)
    shares = torch.stack([net.losses(v[i : i + 1], [t])["loss"] for i, t in enumerate(TEXTS)])
    torch.testing.assert_close(net.losses(v, TEXTS)["loss"], (shares * counts).sum() / counts.sum())


@pytest.mark.parametrize(("cell", "start"), KINDS)
def test_a_place_knows_the_tokens_before_it_and_no_other(cell, start):
    net = decoder(cell=cell, start=start)
    v = pictures(1)
    ids, _ = net.tokens(TEXTS[1:2])
    before = net(v, ids)
    for t in range(ids.shape[1] - 1):
        changed = ids.clone()
        changed[0, t] = (ids[0, t] + 1) % net.end
        after = net(v, changed)
        assert torch.equal(after[:, : t + 1], before[:, : t + 1])
        assert (after[:, t + 1] - before[:, t + 1]).abs().max() > 1e-4


class Unshifted(SentenceDecoder):
    """Reads the very token that it is to tell."""

    def _states(self, image, ids):
        return self._run(ids, self._start(image))[0]


@pytest.mark.parametrize("kind", [SentenceDecoder, Unshifted])
def test_words_that_cannot_be_told_are_not_told(kind):
    """Of words drawn at random no decoder can say more than their entropy, unless it sees them."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)
    net = kind({"words": list("abcdefgh"), "pattern": "[a-z]+"}, 6, word_dim=8, hidden_dim=16, dropout=0.0)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-2)
    v = torch.zeros(16, 6)
    losses = []
    for _ in range(80):
        drawn = torch.randint(1, 9, (16, 5), generator=rng)
        loss = net.losses(v, net.sentences(drawn))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    entropy = 5 * math.log(8) / 6  # the end after five words is certain
    last = sum(losses[-20:]) / 20
    if kind is Unshifted:
        assert last < 0.5
    else:
        assert 0.97 * entropy < last < 1.1 * entropy


def test_the_losses_of_processes_have_the_mean_of_all_their_sentences():
    net = decoder().double()
    v = pictures().double()
    counts = torch.tensor([17, 8])  # tokens and ends of the first two texts, and of the others
    parts = [net.losses(v[rows], TEXTS[rows], lambda _: counts) for rows in (slice(0, 2), slice(2, 4))]
    whole = net.losses(v, TEXTS)
    for name in ("loss", "accuracy"):
        torch.testing.assert_close(
            (parts[0][name] + parts[1][name]) / 2, whole[name], check_dtype=False, rtol=1e-6, atol=0
        )


@pytest.mark.parametrize(("cell", "start"), KINDS)
def test_gradients_are_right_and_reach_every_weight(cell, start):
    net = decoder(cell=cell, start=start, label_smoothing=0.1).double()
    v = pictures().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: net.losses(v, TEXTS)["loss"], v)
    assert torch.autograd.gradcheck(lambda v: net.sample(v, 4, generator=torch.Generator().manual_seed(0))[1], v)
    net.losses(v, TEXTS)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


# ---- what it writes, on a vocabulary of two words and the unknown ---------------------------------------------------

LENGTH = 4


def tiny(seed: int, cell: str = "gru", start: str = "input") -> tuple[SentenceDecoder, torch.Tensor]:
    return decoder(TINY, seed, sharp=3.0, cell=cell, start=start).double(), pictures(3, seed=seed).double()


def written(net: SentenceDecoder, ids: tuple) -> str:
    return net.sentences(torch.tensor([ids]))[0]


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize(("cell", "start"), KINDS)
def test_all_sentences_together_are_certain(cell, start, unknown):
    net, v = tiny(0, cell, start)
    for row in v:
        found = numbers(every_sentence(net, row, LENGTH, unknown))
        whole = [math.exp(p) for ids, p in found.items() if ids[-1] == net.end]
        assert sum(whole) < 1
        assert sum(math.exp(p) for p in found.values()) == pytest.approx(1, abs=1e-12)
        ended = {written(net, ids): p for ids, p in found.items() if ids[-1] == net.end}
        said = net.log_likelihood(row.expand(len(ended), -1), list(ended), unknown)
        assert said.tolist() == pytest.approx(list(ended.values()), abs=1e-12)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("penalty", [None, 0.0, 0.7, 3.0])
@pytest.mark.parametrize("seed", range(6))
def test_a_beam_wide_enough_finds_the_best_sentence_of_all(seed, penalty, unknown):
    net, v = tiny(seed, *KINDS[seed % 4])
    texts, log_p = net.beam(v, width=3**LENGTH, max_length=LENGTH, length_penalty=penalty, unknown=unknown)
    for i, row in enumerate(v):
        found = numbers(every_sentence(net, row, LENGTH, unknown))
        best = max(found, key=lambda ids: found[ids] / ((5 + len(ids)) / 6) ** (penalty or 0))
        assert texts[i] == written(net, best)
        assert float(log_p[i]) == pytest.approx(found[best], abs=1e-12)
        if not penalty:
            (greedy,) = net.greedy(row[None], LENGTH, unknown)
            assert float(log_p[i]) >= {written(net, ids): p for ids, p in found.items()}[greedy] - 1e-12


def test_the_seeds_above_have_what_they_are_to_tell_apart():
    """Sentences that greedy misses, that a penalty changes, that are cut and that end."""
    missed, changed, cut, ended = 0, 0, 0, 0
    for seed in range(6):
        net, v = tiny(seed, *KINDS[seed % 4])
        best = net.beam(v, 3**LENGTH, LENGTH)[0]
        missed += sum(a != b for a, b in zip(best, net.greedy(v, LENGTH), strict=True))
        changed += sum(a != b for a, b in zip(best, net.beam(v, 3**LENGTH, LENGTH, 3.0)[0], strict=True))
        cut += sum(len(text.split()) == LENGTH for text in best)
        ended += sum(0 < len(text.split()) < LENGTH for text in best)
    assert min(missed, changed, cut, ended) > 0


@pytest.mark.parametrize("unknown", [False, True])
def test_a_beam_of_one_is_greedy(unknown):
    lengths = set()
    for seed in range(6):
        net, v = decoder(seed=seed, sharp=3.0), pictures(30, seed=seed)
        with torch.no_grad():
            net.output.bias[net.end] += 2
        texts, log_p = net.beam(v, width=1, max_length=7, unknown=unknown)
        assert texts == net.greedy(v, 7, unknown)
        ended = [i for i, text in enumerate(texts) if len(text.split()) < 7]
        expected = net.log_likelihood(v[ended], [texts[i] for i in ended], unknown)
        torch.testing.assert_close(log_p[ended], expected, rtol=0, atol=1e-4)
        lengths |= {len(text.split()) for text in texts}
    assert len(lengths) > 4


def test_greedy_takes_the_likeliest_token_each_time():
    net, v = decoder(sharp=3.0).double(), pictures(10).double()
    texts = net.greedy(v, 6)
    for row, text in zip(v, texts, strict=True):
        ids = []
        while len(ids) < 6 and net.end not in ids:
            ids.append(int(known(by_steps(net, row, [[*ids, 0]]))[0, -1].argmax()))
        assert text == written(net, tuple(ids))


def test_each_picture_has_its_own_sentence(monkeypatch):
    net, v = decoder(sharp=3.0), pictures(9)
    beams, log_p = net.beam(v, 3, 6)
    greedy = net.greedy(v, 6)
    assert len(set(beams)) > 4
    likely = net.log_likelihood(v, greedy)
    for size in (1, 4):
        monkeypatch.setattr(_writing, "BLOCK", size)
        monkeypatch.setattr(_writing.Writer._blocks, "__defaults__", (size,))
        again, p = net.beam(v, 3, 6)
        assert again == beams
        torch.testing.assert_close(p, log_p, rtol=0, atol=1e-5)
        assert net.greedy(v, 6) == greedy
        torch.testing.assert_close(net.log_likelihood(v, greedy), likely, rtol=0, atol=1e-5)
    assert net.beam(v.flip(0), 3, 6)[0] == beams[::-1]


def test_no_word_follows_itself_when_it_must_not():
    seen = 0
    for seed in range(6):
        net, v = tiny(seed)
        free, _ = net.beam(v, 3**LENGTH, LENGTH)
        texts, log_p = net.beam(v, 3**LENGTH, LENGTH, no_repeat=True)
        for i, row in enumerate(v):
            found = numbers(every_sentence(net, row, LENGTH, unknown=False))
            allowed = {ids: p for ids, p in found.items() if all(a != b for a, b in itertools.pairwise(ids))}
            best = max(allowed, key=allowed.get)
            assert texts[i] == written(net, best)
            assert float(log_p[i]) == pytest.approx(allowed[best], abs=1e-12)
        seen += sum(a != b for a, b in zip(free, texts, strict=True))
    assert seen > 0


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_unknown_word_is_written_by_flag_alone(cell):
    net, v = decoder(cell=cell), pictures(20)
    with torch.no_grad():
        net.output.bias[0] += 20
    rng = torch.Generator().manual_seed(0)
    for texts in (net.greedy(v), net.beam(v)[0], net.sample(v, generator=rng)[0]):
        assert not any("<unk>" in text for text in texts)
    for texts in (net.greedy(v, unknown=True), net.beam(v, unknown=True)[0], net.sample(v, unknown=True)[0]):
        assert all("<unk>" in text for text in texts)
    assert net.log_likelihood(v[:2], ["a zebra", "a man"], unknown=False).isinf().tolist() == [True, False]


# ---- beams that finished, by a step that tempts them to grow --------------------------------------------------------


def test_a_finished_beam_does_not_grow():
    """Whoever read the end is told that anything may follow with e^10: growing would pay."""
    first = torch.tensor([0.5, 0.3, 0.2]).log()  # tokens 0, 1 and the end

    def step(token, state):
        reads = state[0][0, :, 0]
        tempted = (token == 2) & (reads > 0)
        log_p = first.expand(len(token), 3).masked_fill(tempted[:, None], 10.0)
        return log_p, (state[0] + 1,)

    for width in (1, 2, 3, 9):
        for start in (1, 2):
            ids, log_p = beam_search(step, (torch.zeros(1, start, 1),), end=2, width=width, max_length=3)
            best = [2, 2, 2] if width == 3 or width == 9 else [0, 0, 0]
            assert ids.tolist() == [best] * start
            torch.testing.assert_close(log_p, torch.full((start,), math.log(0.2 if best[0] == 2 else 0.125)))


def test_a_beam_that_finished_early_wins_when_it_is_likelier_than_all_that_grew():
    table = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]]).log()  # by the token that is read

    def step(token, state):
        return torch.where((state[0][0] == 0).expand(-1, 3), torch.tensor([0.55, 0.4, 0.05]).log(), table[token]), (
            state[0] + 1,
        )

    ids, log_p = beam_search(step, (torch.zeros(1, 1, 1),), end=2, width=2, max_length=4)
    assert ids.tolist() == [[0, 1, 2, 2]]  # .55 * .8 * .8, above .4 * .8, which finished a step before
    assert float(log_p) == pytest.approx(math.log(0.352))
    ids, _ = beam_search(step, (torch.zeros(1, 1, 1),), end=2, width=2, max_length=2)
    assert ids.tolist() == [[0, 1]]  # .44, cut


def test_what_was_written_is_filled_with_ends():
    said = iter([[0, 2], [2, 0], [1, 1]])
    log_p = torch.tensor([0.5, 0.3, 0.2]).log()
    ids, log_probs, counts = write(
        lambda token, state: (log_p.expand(2, 3), state),
        (torch.zeros(1, 2, 1),),
        2,
        5,
        lambda _: torch.tensor(next(said)),
    )
    assert ids.tolist() == [[0, 2], [2, 2]]
    assert counts.tolist() == [[True, True], [True, False]]
    assert log_probs.exp().tolist() == [pytest.approx([0.5, 0.2]), pytest.approx([0.2, 1.0])]


# ---- sampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "unknown"), [(1.0, False), (1.0, True), (2.5, False)])
@pytest.mark.parametrize("seed", [0, 1])
def test_sentences_are_drawn_as_often_as_they_are_probable(seed, temperature, unknown):
    net, v = tiny(seed)
    if temperature != 1:  # logits / temperature, by the weights alone
        with torch.no_grad():
            cooled, _ = tiny(seed)
            cooled.output.weight.div_(temperature)
            cooled.output.bias.div_(temperature)
    n, length = 3000, 3
    rng = torch.Generator().manual_seed(seed)
    texts, log_probs, counts = net.sample(v, length, temperature, rng, n, unknown)
    assert len(texts) == len(log_probs) == len(counts) == 3 * n
    for i, row in enumerate(v):
        found = numbers(every_sentence(net if temperature == 1 else cooled, row, length, unknown))
        names = {written(net, ids): p for ids, p in found.items()}
        own = texts[i * n : (i + 1) * n]
        assert set(own) <= names.keys()
        expected = {name: n * math.exp(p) for name, p in names.items()}
        often = [name for name in expected if expected[name] >= 5]
        seen, due = [own.count(name) for name in often], [expected[name] for name in often]
        seen, due = [*seen, n - sum(seen)], [*due, n - sum(due)]
        if due[-1] < 5:  # the rare ones together
            seen, due = [*seen[:-2], sum(seen[-2:])], [*due[:-2], sum(due[-2:])]
        assert chisquare(seen, due).pvalue > 1e-3
        for k in range(50):
            assert float(log_probs[i * n + k].sum().detach()) == pytest.approx(names[own[k]], abs=1e-10)


@pytest.mark.parametrize(("cell", "start"), KINDS)
def test_what_was_drawn_has_its_own_log_probability_and_gradient(cell, start):
    net, v = decoder(sharp=2.0, cell=cell, start=start).double(), pictures(6).double()
    texts, log_probs, counts = net.sample(v, 8, generator=torch.Generator().manual_seed(3), n=4)
    lengths = torch.tensor([len(text.split()) for text in texts])
    ended = lengths < 8
    assert 0 < ended.sum() < 24
    assert torch.equal(counts.sum(dim=1), lengths + ended)
    assert torch.equal(counts, torch.arange(counts.shape[1]) < counts.sum(dim=1)[:, None])
    assert not log_probs[~counts].any()
    own = v.repeat_interleave(4, dim=0)[ended]
    said = [text for text, whole in zip(texts, ended.tolist(), strict=True) if whole]
    torch.testing.assert_close(
        log_probs.sum(dim=1)[ended].detach(), net.log_likelihood(own, said, unknown=False), rtol=0, atol=1e-10
    )
    ids, mask = net.tokens(said)
    forced = known(net(own, ids)).log_softmax(dim=2).gather(2, ids[:, :, None])[:, :, 0][mask].sum()
    for a, b in zip(
        torch.autograd.grad(log_probs[ended].sum(), net.parameters()),
        torch.autograd.grad(forced, net.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_rewarded_samples_have_the_gradient_of_the_expected_reward():
    """Of every sentence there is, p times its reward; and of those drawn, log p times their rewards, in the mean."""
    net, v = tiny(2)
    v, n, length = v[:1], 6000, 3
    weight = net.output.bias

    def reward(text: str) -> float:
        return 1.0 * text.count("a") - 0.5 * text.count("b")

    found = every_sentence(net, v[0], length, unknown=False)
    expected = sum(p.exp() * reward(written(net, ids)) for ids, p in found.items())
    exact = torch.autograd.grad(expected, weight)[0]
    texts, log_probs, _ = net.sample(v, length, generator=torch.Generator().manual_seed(0), n=n)
    rewards = torch.tensor([reward(text) for text in texts])
    assert exact.abs().max() > 0.3
    for baseline in (0.0, float(rewards.mean())):
        drawn = torch.autograd.grad(((rewards - baseline) * log_probs.sum(dim=1)).mean(), weight, retain_graph=True)[0]
        torch.testing.assert_close(drawn, exact, rtol=0, atol=0.04)


def test_a_low_temperature_is_greedy_and_a_seed_repeats_itself():
    net, v = decoder(sharp=2.0), pictures(8)
    assert net.sample(v, 6, temperature=1e-4)[0] == net.greedy(v, 6)
    draws = [net.sample(v, 6, generator=torch.Generator().manual_seed(s), n=3) for s in (1, 1, 2)]
    assert draws[0][0] == draws[1][0] != draws[2][0]
    assert torch.equal(draws[0][1], draws[1][1])


def test_modes_and_gradients_are_as_they_were():
    net, v = decoder(dropout=0.5), pictures()
    calm = net.greedy(v), net.beam(v), net.log_likelihood(v, TEXTS), net.sample(v, generator=torch.Generator())[1]
    for training in (True, False):
        net.train(training)
        assert net.greedy(v) == calm[0]
        assert net.beam(v)[0] == calm[1][0]
        assert torch.equal(net.log_likelihood(v, TEXTS), calm[2])
        assert torch.equal(net.sample(v, generator=torch.Generator())[1], calm[3])
        assert {m.training for m in net.modules()} == {training}
        seeds = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
        dropped = [net.sample(v, generator=seed, dropout=True)[1] for seed in seeds]
        assert dropped[0].shape != dropped[1].shape or not torch.allclose(dropped[0], dropped[1])
    assert not calm[1][1].requires_grad
    assert not calm[2].requires_grad
    assert calm[3].requires_grad
    net.train()
    net.dropout.eval()
    with pytest.raises(TypeError):
        net.sample(v, generator="no generator")
    assert net.training
    assert net.rnn.training
    assert not net.dropout.training


# ---- training, and there and back -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "start"), KINDS)
def test_four_pictures_are_learned_word_for_word(cell, start, tmp_path):
    torch.manual_seed(0)
    texts = ["a man rides a horse", "a man rides a red horse", "two dogs", "the sea the sea the sea"]
    net = SentenceDecoder(Vocabulary.build(texts), 6, word_dim=16, hidden_dim=32, cell=cell, start=start, dropout=0.2)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-2)
    v = pictures()
    for _ in range(80):
        loss = net.losses(v, texts)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert net.perplexity(v, texts) < 1.2
    assert net.perplexity(v.roll(1, 0), texts) > 2  # it looks at the picture
    assert net.greedy(v) == texts
    found, log_p = net.beam(v)
    assert found == texts
    torch.testing.assert_close(log_p, net.log_likelihood(v, texts, unknown=False), rtol=0, atol=1e-5)
    net.save(tmp_path / "model")
    loaded = SentenceDecoder.load(tmp_path / "model")
    assert not loaded.training
    assert loaded.greedy(v) == texts
    assert torch.equal(loaded.log_likelihood(v, texts), net.log_likelihood(v, texts))
    assert loaded.config == net.config
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"weights.safetensors", "config.json"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(("cell", "start"), KINDS)
def test_a_gpu_gives_the_same(cell, start):
    net, v = decoder(sharp=2.0, cell=cell, start=start), pictures(8)
    texts = net.greedy(v, 7)
    beams, log_p = net.beam(v, 3, 7)
    likely = net.log_likelihood(v[:4], TEXTS)
    net, there = net.cuda().eval(), v.cuda()
    assert net.greedy(there, 7) == texts
    assert net.beam(there, 3, 7)[0] == beams
    torch.testing.assert_close(net.beam(there, 3, 7)[1], log_p, rtol=0, atol=1e-3)
    torch.testing.assert_close(net.log_likelihood(there[:4], TEXTS), likely, rtol=0, atol=1e-3)
    drawn, log_probs, _ = net.sample(there, 7, generator=torch.Generator("cuda").manual_seed(0), n=2)
    assert len(drawn) == 16
    log_probs.sum().backward()  # in evaluation mode
    net.train().losses(there[:4], TEXTS)["loss"].backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


# ---- what it refuses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": Vocabulary([])}, "the vocabulary has no words: build it from the training sentences"),
        ({"image_dim": 0}, "must be at least 1; got 0, 5 and 8"),
        ({"hidden_dim": -1}, "must be at least 1; got 6, 5 and -1"),
        ({"cell": "rnn"}, "cell must be one of 'gru', 'lstm'; got 'rnn'"),
        ({"start": "first"}, "start must be one of 'input', 'state'; got 'first'"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"label_smoothing": 0.5}, r"label_smoothing must be in \[0, 0.5\), got 0.5"),
        ({"label_smoothing": math.nan}, "label_smoothing must be"),
    ],
)
def test_a_decoder_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SentenceDecoder(**({"vocabulary": WORDS, "image_dim": 6, "word_dim": 5, "hidden_dim": 8} | change))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, v: net.losses(v[:, :5], TEXTS), r"vectors \(B, 6\); got torch.float32 of shape \(4, 5\)"),
        (lambda net, v: net.greedy(v[0]), r"got torch.float32 of shape \(6,\)"),
        (lambda net, v: net.beam(v.long()), "must be floating-point vectors.*torch.int64"),
        (lambda net, v: net.losses(v, TEXTS[:3]), "there are 4 pictures for 3 texts"),
        (lambda net, v: net(v[:3], net.tokens(TEXTS)[0]), "there are 3 pictures for 4 texts"),
        (lambda net, v: net.log_likelihood(v[:1], "a man"), r"for one text: \[text\]"),
        (lambda net, v: net.losses(v, [*TEXTS[:3], None]), "texts must be a list of strings"),
        (lambda net, v: net.losses(v, [*TEXTS[:3], "?!"]), r"texts\[3\] is '\?!': a sentence to learn needs a word"),
        (lambda net, v: net.losses(v[:0], []), "at least one"),
        (lambda net, v: net.greedy(v[:0]), "at least one"),
        (lambda net, v: net.sample(v / 0), "NaN or infinite"),
        (lambda net, v: net.greedy(v, max_length=0), "max_length must be at least 1 token, got 0"),
        (lambda net, v: net.beam(v, max_length=-3), "max_length must be at least 1 token, got -3"),
        (lambda net, v: net.sample(v, max_length=0), "max_length must be"),
        (lambda net, v: net.beam(v, width=0), "width must be at least 1.*got 0"),
        (lambda net, v: net.beam(v, length_penalty=-1.0), "length_penalty None or >= 0; got 5 and -1.0"),
        (lambda net, v: net.sample(v, temperature=0.0), "temperature must be a number above 0.*got 0.0 and 1"),
        (lambda net, v: net.sample(v, temperature=math.nan), "temperature must be"),
        (lambda net, v: net.sample(v, n=0), "n at least 1; got 1.0 and 0"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(decoder(), pictures())
