"""REINFORCE against the exact gradient of the expected reward, by every sentence that a small decoder can write."""

import itertools
import math
import statistics

import pytest
import torch

from commonspace.losses import leave_one_out, mixing_weight, reinforce_loss
from commonspace.models import SentenceDecoder

TINY = {"words": ["a", "b"], "pattern": "[a-z]+"}  # and the end: three tokens that are drawn
LENGTH = 2
A, B, END = 1, 2, 3  # 0 is the unknown word, which is not written
EVERY = [[END], *([word, last] for word in (A, B) for last in (A, B, END))]  # the end alone, ..., two words and a cut
REWARD = torch.tensor([0.3, 2.0, -1.0, 0.7, 3.0, 1.1, 0.2], dtype=torch.float64)  # of each of them


def decoder(seed: int) -> SentenceDecoder:
    torch.manual_seed(seed)
    net = SentenceDecoder(TINY, image_dim=4, word_dim=3, hidden_dim=5, start="state", dropout=0.4).double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(3)
    return net


def picture(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_probs_of_every_sentence(net: SentenceDecoder, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(7, 2) log-probability of each token, 0 behind the end, and (7, 2) bool which are there."""
    ids = torch.tensor([[*row, END][:LENGTH] for row in EVERY])
    logits = net(image.expand(len(ids), -1), ids)
    log_p = logits[:, :, 1:].log_softmax(dim=2).gather(2, ids[:, :, None] - 1)[:, :, 0]
    counts = torch.tensor([[True, len(row) == 2] for row in EVERY])
    return log_p.masked_fill(~counts, 0), counts


def gradient(net: SentenceDecoder, value: torch.Tensor) -> torch.Tensor:
    """Of all weights, as one row; 0 for a weight that the value does not hang on."""
    of = torch.autograd.grad(value, list(net.parameters()), retain_graph=True, allow_unused=True)
    return torch.cat(
        [(p.new_zeros(p.shape) if g is None else g).flatten() for g, p in zip(of, net.parameters(), strict=True)]
    )


def exactly(net: SentenceDecoder, image: torch.Tensor) -> torch.Tensor:
    """The gradient of the expected reward, which is a sum over seven sentences."""
    p = log_probs_of_every_sentence(net, image)[0].sum(dim=1).exp()
    assert float(p.detach().sum()) == pytest.approx(1, abs=1e-12)
    return gradient(net, (p * REWARD).sum())


def of_each_sentence(net: SentenceDecoder, image: torch.Tensor, baseline: float) -> tuple[torch.Tensor, torch.Tensor]:
    """p (7,), and what each sentence, drawn alone, gives for a gradient (7, weights)."""
    log_probs, counts = log_probs_of_every_sentence(net, image)
    rows = [
        gradient(net, reinforce_loss(log_probs[i : i + 1], counts[i : i + 1], REWARD[i : i + 1], baseline, "sentence"))
        for i in range(len(EVERY))
    ]
    return log_probs.sum(dim=1).exp().detach(), torch.stack(rows)


# ---- the gradient is that of the expected reward ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("baseline", [0.0, 1.3, -4.0])
def test_every_sentence_with_its_probability_for_a_weight_gives_the_exact_gradient(seed, baseline):
    net, image = decoder(seed), picture(seed)
    log_probs, counts = log_probs_of_every_sentence(net, image)
    p = log_probs.sum(dim=1).exp().detach()
    expected = exactly(net, image)
    assert expected.abs().max() > 0.1
    loss = reinforce_loss(log_probs, counts, p * REWARD, p * baseline, "sentence") * len(EVERY)
    torch.testing.assert_close(gradient(net, loss), -expected, rtol=0, atol=1e-12)
    without_end = torch.tensor([[row[0] != END, len(row) == 2 and row[1] != END] for row in EVERY])
    wrong = reinforce_loss(log_probs, without_end, p * REWARD, p * baseline, "sentence") * len(EVERY)
    assert (gradient(net, wrong) + expected).abs().max() > 0.02  # without the end's step it is another gradient


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("baseline", [0.0, 1.0])
def test_drawn_sentences_give_it_within_the_error_of_drawing(seed, baseline):
    net, image, n = decoder(seed), picture(seed), 40_000
    expected = -exactly(net, image)
    p, each = of_each_sentence(net, image, baseline)
    error = ((p[:, None] * (each - expected) ** 2).sum(dim=0) / n).sqrt()
    draw = torch.Generator().manual_seed(seed)
    sentences, log_probs, counts = net.sample(image, LENGTH, generator=draw, n=n)
    said = {"": 0, "a a": 1, "a b": 2, "a": 3, "b a": 4, "b b": 5, "b": 6}
    reward = REWARD[[said[sentence] for sentence in sentences]]
    found = gradient(net, reinforce_loss(log_probs, counts, reward, baseline, "sentence"))
    assert ((found - expected).abs() <= 5 * error + 1e-12).all()
    assert error.max() < 0.1 * expected.abs().max()
    others = gradient(net, reinforce_loss(log_probs, counts, reward, leave_one_out(reward, n), "sentence"))
    assert ((others - expected).abs() <= 5 * error.max()).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_baseline_leaves_the_mean_and_makes_the_estimate_vary_less(seed):
    net, image = decoder(seed), picture(seed)
    spread = {}
    p = of_each_sentence(net, image, 0.0)[0]
    mean_reward = float(p @ REWARD)
    for baseline in (0.0, mean_reward, 10.0):
        _, each = of_each_sentence(net, image, baseline)
        torch.testing.assert_close(p @ each, -exactly(net, image), rtol=0, atol=1e-12)
        spread[baseline] = float((p[:, None] * (each - p @ each) ** 2).sum())
    assert spread[mean_reward] < 0.9 * spread[0.0]
    assert spread[10.0] > 3 * spread[0.0]  # any number leaves the mean; not any helps


def test_following_it_makes_the_expected_reward_grow():
    net, image = decoder(0), picture()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    draw, means = torch.Generator().manual_seed(0), []
    for _ in range(60):
        means.append(float((log_probs_of_every_sentence(net, image)[0].sum(dim=1).exp() * REWARD).sum().detach()))
        sentences, log_probs, counts = net.sample(image, LENGTH, generator=draw, n=20)
        said = {"": 0, "a a": 1, "a b": 2, "a": 3, "b a": 4, "b b": 5, "b": 6}
        reward = REWARD[[said[sentence] for sentence in sentences]]
        optimiser.zero_grad()
        reinforce_loss(log_probs, counts, reward, leave_one_out(reward, 20), "sentence").backward()
        optimiser.step()
    assert means[-1] > means[0] + 0.5
    assert statistics.fmean(means[40:]) > statistics.fmean(means[:20])


# ---- the loss by loops -----------------------------------------------------------------------------------------------


def drawn(seed: int, n: int = 7, t: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    log_probs = -torch.rand(n, t, generator=rng, dtype=torch.float64)
    counts = torch.arange(t) < torch.randint(1, t + 1, (n, 1), generator=rng)
    return log_probs, counts, *torch.randn(2, n, generator=rng, dtype=torch.float64)


def by_loops(log_probs, counts, reward, baseline, per) -> float:
    total = tokens = 0.0
    for i in range(len(reward)):
        for t in range(log_probs.shape[1]):
            if counts[i, t]:
                total += float(log_probs[i, t]) * (float(reward[i]) - float(baseline[i]))
                tokens += 1
    return -total / (tokens if per == "token" else len(reward))


@pytest.mark.parametrize("per", ["token", "sentence"])
@pytest.mark.parametrize("seed", range(4))
def test_the_value_is_that_of_loops(seed, per):
    log_probs, counts, reward, baseline = drawn(seed)
    expected = by_loops(log_probs, counts, reward, baseline, per)
    assert reinforce_loss(log_probs, counts, reward, baseline, per).item() == pytest.approx(expected, abs=1e-12)
    number = by_loops(log_probs, counts, reward, torch.full((7,), 0.4), per)
    assert reinforce_loss(log_probs, counts, reward, 0.4, per).item() == pytest.approx(number, abs=1e-9)
    if per == "token":
        assert reinforce_loss(log_probs, counts, reward, baseline).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("behind", [0.0, 5.0, -math.inf, math.nan])
def test_what_stands_behind_the_end_never_counts(behind):
    log_probs, counts, reward, baseline = drawn(3)
    expected = reinforce_loss(log_probs, counts, reward, baseline)
    filled = log_probs.masked_fill(~counts, behind).requires_grad_()
    loss = reinforce_loss(filled, counts, reward, baseline)
    assert loss.item() == expected.item()
    loss.backward()
    assert torch.equal(filled.grad != 0, counts)
    torch.testing.assert_close(filled.grad, -(counts * (reward - baseline)[:, None]) / counts.sum())


def test_of_a_drawn_sentence_the_end_counts_and_nothing_behind_it():
    net = decoder(0)
    sentences, log_probs, counts = net.sample(picture(), 4, generator=torch.Generator().manual_seed(1), n=60)
    log_probs = log_probs.detach().requires_grad_()
    reinforce_loss(log_probs, counts, torch.ones(60)).backward()
    lengths = [len(sentence.split()) for sentence in sentences]
    assert {0, 1, 4} <= {*lengths}  # 4 words and no end: cut
    taught = (log_probs.grad != 0).sum(dim=1).tolist()
    assert taught == [min(length + 1, counts.shape[1]) for length in lengths]


def test_no_gradient_comes_back_to_the_reward_and_the_baseline():
    log_probs, counts, reward, baseline = (x.requires_grad_() if x.is_floating_point() else x for x in drawn(0))
    reinforce_loss(log_probs, counts, reward, baseline).backward()
    assert log_probs.grad is not None
    assert reward.grad is None
    assert baseline.grad is None


@pytest.mark.parametrize("per", ["token", "sentence"])
def test_the_mean_of_the_processes_losses_is_that_of_all_sentences(per):
    log_probs, counts, reward, baseline = drawn(5, n=8)
    whole = reinforce_loss(log_probs, counts, reward, baseline, per).item()
    halves = [slice(0, 3), slice(3, 8)]
    numbers = torch.tensor([float(counts[rows].sum()) if per == "token" else len(reward[rows]) for rows in halves])
    found = [
        reinforce_loss(log_probs[rows], counts[rows], reward[rows], baseline[rows], per, lambda n: numbers).item()
        for rows in halves
    ]
    assert statistics.fmean(found) == pytest.approx(whole, abs=1e-12)
    alone = [reinforce_loss(log_probs[r], counts[r], reward[r], baseline[r], per).item() for r in halves]
    assert statistics.fmean(alone) != pytest.approx(whole, abs=1e-3)


def test_rewards_of_another_precision_and_under_autocast():
    log_probs, counts, reward, baseline = drawn(1)
    exact = reinforce_loss(log_probs, counts, reward, baseline)
    rough = reinforce_loss(log_probs.float(), counts, reward, baseline)
    assert (exact.dtype, rough.dtype) == (torch.float64, torch.float32)
    assert rough.item() == pytest.approx(exact.item(), abs=1e-5)


# ---- baselines and the schedule --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pictures", "n"), [(1, 2), (3, 2), (4, 5), (2, 20)])
def test_the_others_mean_by_loops(pictures, n):
    reward = torch.randn(pictures * n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    found = leave_one_out(reward, n)
    for picture, k in itertools.product(range(pictures), range(n)):
        others = [float(reward[picture * n + j]) for j in range(n) if j != k]
        assert float(found[picture * n + k]) == pytest.approx(statistics.fmean(others), abs=1e-12)
    assert found.mean().item() == pytest.approx(reward.mean().item(), abs=1e-12)


def test_gamma_rises_and_stays():
    found = [round(mixing_weight(step / 20), 12) for step in range(21)]
    assert found == [0.0, 0.45] + [0.9] * 19
    assert [mixing_weight(x, 0.5, 1.0) for x in (0, 0.5, 1)] == [0, 0.25, 0.5]
    assert [mixing_weight(x, ramp=0.0) for x in (0, 0.3, 1)] == [0.9] * 3
    assert [mixing_weight(x, end=0.0) for x in (0, 0.3, 1)] == [0] * 3
    assert mixing_weight(0.99, end=1.0) == 1


# ---- bad input -------------------------------------------------------------------------------------------------------

LOG_P, COUNTS, R, _ = drawn(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: reinforce_loss(LOG_P[0], COUNTS[0], R), r"must be \(N, T\).*one at least; got \(5,\)"),
        (lambda: reinforce_loss(LOG_P, COUNTS[:, :4], R), r"got \(7, 5\) and torch.bool \(7, 4\)"),
        (lambda: reinforce_loss(LOG_P, COUNTS.long(), R), "torch.int64"),
        (lambda: reinforce_loss(LOG_P, torch.zeros_like(COUNTS), R), "one at least"),
        (lambda: reinforce_loss(LOG_P, COUNTS, R[:6]), r"reward must be \(7,\), one of each sentence.*got \(6,\)"),
        (lambda: reinforce_loss(LOG_P, COUNTS, R[:, None]), r"got \(7, 1\)"),
        (lambda: reinforce_loss(LOG_P, COUNTS, R, R[:1]), r"baseline the same or one number; got \(7,\) and \(1,\)"),
        (lambda: reinforce_loss(LOG_P, COUNTS, R / 0), "must be finite numbers"),
        (lambda: reinforce_loss(LOG_P, COUNTS, R, math.nan), "must be finite numbers"),
        (lambda: reinforce_loss(LOG_P, COUNTS, R, per="word"), "per must be 'token' or 'sentence', got 'word'"),
        (lambda: leave_one_out(R, 1), "n=1 sentences of each picture, so no others.*draw two or more, or take"),
        (lambda: leave_one_out(R, 2), r"reward must be \(B n,\), n=2 of each picture; got \(7,\)"),
        (lambda: leave_one_out(R[:6].view(3, 2), 2), r"got \(3, 2\)"),
        (lambda: leave_one_out(R[:0], 2), r"got \(0,\)"),
        (lambda: mixing_weight(1.1), r"progress must be in \[0, 1\], got 1.1"),
        (lambda: mixing_weight(-0.1), "progress must be"),
        (lambda: mixing_weight(0.5, 1.5), r"end must be in \[0, 1\], got 1.5"),
        (lambda: mixing_weight(0.5, ramp=2.0), r"ramp must be in \[0, 1\], got 2.0"),
        (lambda: mixing_weight(math.nan), "progress must be"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_probabilities_of_the_toy_are_the_decoder_s():
    """So that nothing above hangs on a mistake in it."""
    net, image = decoder(1), picture(1)
    log_probs, _ = log_probs_of_every_sentence(net, image)
    texts = [" ".join("ab"[i - 1] for i in row if i != END) for row in EVERY]
    for i, (row, text) in enumerate(zip(EVERY, texts, strict=True)):
        if row[-1] == END:
            expected = net.log_likelihood(image, [text], unknown=False)
            torch.testing.assert_close(log_probs[i].sum()[None].detach(), expected.double(), atol=1e-6, rtol=0)
