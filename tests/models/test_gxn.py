"""GXN: the losses of one image encoder, each as its own model has it; who learns from which; what a sentence that is
drawn earns; painter and judge; there and back."""

import json
import math
import statistics

import pytest
import torch
from torch.nn import functional as F

from commonspace.data import Vocabulary
from commonspace.encoders import MLP, SmallConvNet, Standardize
from commonspace.losses import leave_one_out, reinforce_loss
from commonspace.models import GXN, GXNLook, GXNPaint, SentenceDecoder, sentence_encoders
from commonspace.models.gxn_paint import normal_kl

TEXTS = ["a cat", "the cat sat on a mat", "dog", "a dog and a mat", "the dog sat", "on the mat, a cat", "mat"]
WORDS = Vocabulary.build(TEXTS)
B = len(TEXTS)
IMAGES = torch.randn(B, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
SAME_IMAGE = torch.tensor([0, 1, 2, 0, 4, 5, 2])
TERMS = {"loss", "rank", "accuracy", "cross_entropy", "token_accuracy"}


def look(grounded: bool = True, dim: int = 6, image: torch.nn.Module | None = None, **options) -> GXNLook:
    texts = sentence_encoders(WORDS, dim=dim, word_dim=4, grounded=grounded)
    return GXNLook(image or MLP([9, 7], final_activation="tanh"), *texts, **options)


def gxn(seed: int = 3, write: bool = True, grounded: bool = True, of_look: dict | None = None, **options) -> GXN:
    """In evaluation mode; the decoder's weights are large, so that what it reads matters."""
    torch.manual_seed(seed)
    decoder = SentenceDecoder(WORDS, 6, word_dim=5, hidden_dim=8, dropout=0.3) if write else None
    model = GXN(look(grounded, **(of_look or {})), decoder, **options).double().eval()
    with torch.no_grad():
        for p in decoder.parameters() if write else ():
            p.mul_(4)
    return model


def values(found: dict) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in found.items()}


# ---- the losses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_id", [None, SAME_IMAGE], ids=["no ids", "ids"])
@pytest.mark.parametrize("mining", [None, "hardest"])
@pytest.mark.parametrize(
    ("grounded", "of_look"),
    [
        (True, {}),
        (False, {}),
        (True, {"similarity": "cosine", "margin": 0.3, "mining": "hardest", "weight": 0.2}),
        (False, {"similarity": "cosine", "margin": 0.3, "unit_images": False}),
    ],
)
def test_the_loss_is_the_sum_of_what_both_parts_say_alone(grounded, of_look, mining, image_id):
    model = gxn(grounded=grounded, of_look=of_look, write_weight=0.7)
    found = model.losses(IMAGES, TEXTS, image_id, mining=mining)
    ranked = model.look.losses(IMAGES, TEXTS, image_id, mining=mining)
    written = model.decoder.losses(model.look.image_vectors(IMAGES)[:, 1 if grounded else 0], TEXTS)
    assert found.keys() == TERMS
    assert (found["rank"].item(), found["accuracy"].item()) == (ranked["loss"].item(), ranked["accuracy"].item())
    assert found["cross_entropy"].item() == written["loss"].item()
    assert found["token_accuracy"].item() == written["accuracy"].item()
    assert found["loss"].item() == pytest.approx(ranked["loss"].item() + 0.7 * written["loss"].item(), abs=1e-12)
    assert min(found["rank"], found["cross_entropy"]) > 0.01


def unit(rows: list) -> list:
    return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows]


def test_the_cross_entropy_is_that_of_the_likelihood_of_the_grounded_vectors():
    model = gxn()
    weight, bias = model.look.image_heads[1].weight.tolist(), model.look.image_heads[1].bias.tolist()
    raw = [
        [sum(w * f for w, f in zip(row, features, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        for features in unit(model.look.image_encoder(IMAGES).tolist())
    ]
    grounded = torch.tensor(unit(raw), dtype=torch.float64).abs()
    torch.testing.assert_close(model.look.image_vectors(IMAGES)[:, 1].detach(), grounded)
    tokens = sum(len(WORDS.encode(text)) + 1 for text in TEXTS)
    log_p = sum(float(model.decoder.log_likelihood(grounded[i : i + 1], [text])) for i, text in enumerate(TEXTS))
    assert model.losses(IMAGES, TEXTS)["cross_entropy"].item() == pytest.approx(-log_p / tokens, abs=1e-12)


def test_one_loss_may_be_left_out():
    both = values(gxn(write_weight=0.5).losses(IMAGES, TEXTS))
    written = values(gxn(write_weight=0.5, rank=False).losses(IMAGES, TEXTS))
    assert written == {
        "loss": 0.5 * both["cross_entropy"],
        "cross_entropy": both["cross_entropy"],
        "token_accuracy": both["token_accuracy"],
    }
    model = gxn()
    ranked = values(GXN(model.look).losses(IMAGES, TEXTS, SAME_IMAGE))
    assert ranked["loss"] == ranked["rank"] == model.look.losses(IMAGES, TEXTS, SAME_IMAGE)["loss"].item()
    assert ranked.keys() == {"loss", "rank", "accuracy"}


def test_pre_norm_reads_the_linear_head():
    model, raw = gxn(), gxn(pre_norm=True)
    head = model.look.image_heads[1]
    features = model.look.image_encoder(IMAGES)
    expected = features / features.norm(dim=1, keepdim=True) @ head.weight.T + head.bias
    assert (expected < 0).any()
    torch.testing.assert_close(raw.grounded_image(IMAGES), expected.detach().float())
    assert raw.losses(IMAGES, TEXTS)["cross_entropy"].item() == pytest.approx(
        raw.decoder.losses(expected, TEXTS)["loss"].item(), abs=1e-12
    )
    assert raw.losses(IMAGES, TEXTS)["rank"].item() == model.losses(IMAGES, TEXTS)["rank"].item()
    assert abs(raw.losses(IMAGES, TEXTS)["loss"].item() - model.losses(IMAGES, TEXTS)["loss"].item()) > 0.01
    assert torch.equal(raw.embed_image(IMAGES), model.embed_image(IMAGES))


def test_the_processes_rows_are_gathered_for_both_losses():
    """Another process has the same rows: what is summed doubles, and so does the number of tokens."""
    model, seen = gxn(), []

    def gather(rows):
        seen.append(tuple(rows.shape))
        return torch.cat([rows, rows])

    found = model.losses(IMAGES, TEXTS, SAME_IMAGE, gather)
    assert seen == [(B, 12), (B, 12), (B,), (1,)]
    twice = model.losses(IMAGES.repeat(2, 1), TEXTS * 2, SAME_IMAGE.repeat(2))
    for name in ("loss", "rank", "cross_entropy"):
        assert found[name].item() == pytest.approx(twice[name].item(), abs=1e-12)


# ---- who learns from what --------------------------------------------------------------------------------------------


def touched(model: GXN, term: str) -> set[str]:
    """The parts of which some weight gets a gradient from this term."""
    model.zero_grad()
    model.losses(IMAGES, TEXTS)[term].backward()
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize("grounded", [True, False])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_writing_teaches_the_picture_s_last_head_and_no_reader(grounded, pre_norm):
    model = gxn(grounded=grounded, pre_norm=pre_norm)
    every = {name for name, _ in model.named_parameters()}
    of_encoder = {name for name in every if name.startswith("look.image_encoder.")}
    heads = {name for name in every if name.startswith("look.image_heads.")}
    readers = {name for name in every if name.startswith("look.text_encoders.")}
    writer = {name for name in every if name.startswith("decoder.")}
    assert len(heads) == (4 if grounded else 2)
    last = {f"look.image_heads.{1 if grounded else 0}.{kind}" for kind in ("weight", "bias")}
    assert touched(model, "cross_entropy") == of_encoder | last | writer
    assert touched(model, "rank") == of_encoder | heads | readers
    assert touched(model, "loss") == every == of_encoder | heads | readers | writer


def test_without_ranking_the_readers_stay_as_they_are():
    model = gxn(rank=False)
    model.losses(IMAGES, TEXTS)["loss"].backward()
    learning = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None}
    assert "text_encoders" not in learning
    assert {"image_encoder", "rnn"} < learning


def test_it_runs_under_autocast():
    model = gxn().float()
    with torch.autocast("cpu", torch.bfloat16):
        found = model.losses(IMAGES.float(), TEXTS)
    exact = model.losses(IMAGES.float(), TEXTS)
    for name in ("loss", "rank", "cross_entropy"):
        assert found[name].dtype == torch.float32
        assert found[name].item() == pytest.approx(exact[name].item(), abs=0.05)


def test_both_at_once_learn_to_find_and_to_write():
    """Eight pictures, each of one thing: with right pairs both losses fall to nearly nothing."""
    torch.manual_seed(0)
    texts = ["a cat", "a dog", "a mat", "the cat sat", "the dog sat", "on a mat", "a cat and a dog", "the mat"]
    images = torch.randn(8, 9)
    model = GXN(look(dim=16), SentenceDecoder(WORDS, 16, 8, 16, dropout=0.0))
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-2)
    start = values(model.losses(images, texts))
    for _ in range(80):
        optimiser.zero_grad()
        found = model.losses(images, texts)
        found["loss"].backward()
        optimiser.step()
    assert found["rank"] < 0.05 * start["rank"]
    assert found["cross_entropy"] < 0.1 < 1.5 < start["cross_entropy"]
    assert model.write(images) == model.write(images, 5) == texts
    assert model.similarity(model.embed_image(images), model.embed_text(texts)).argmax(dim=1).tolist() == list(range(8))


# ---- reinforcement ---------------------------------------------------------------------------------------------------


class Rewards:
    """Notes what it is asked, and answers by the words: so many for a cat, less for a long sentence."""

    def __init__(self):
        self.calls = []

    def __call__(self, sentences, rows, ended):
        assert (rows.shape, ended.shape) == ((len(sentences),),) * 2
        assert (rows.dtype, ended.dtype) == (torch.int64, torch.bool)
        reward = [
            2.0 * s.split().count("cat") - 0.1 * len(s.split()) + 0.3 * i for s, i in zip(sentences, rows, strict=True)
        ]
        self.calls.append((list(sentences), rows.tolist(), ended.tolist(), reward))
        return torch.tensor(reward)


def rewarded(model: GXN, seed: int = 5, reward=None, **options) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return model.reward_losses(IMAGES, TEXTS, reward or Rewards(), **{"max_length": 12} | options)


def sampled(model: GXN, n: int, seed: int = 5, max_length: int = 12, dropout: bool = False):
    """What `rewarded` draws, drawn again."""
    torch.manual_seed(seed)
    return model.decoder.sample(model.look.image_vectors(IMAGES)[:, 1], max_length, n=n, dropout=dropout)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("of_look", [{}, {"similarity": "cosine", "mining": "hardest"}], ids=str)
def test_the_mixed_loss_is_of_both_parts(gamma, of_look):
    model = gxn(write_weight=0.7, of_look=of_look)
    found = values(rewarded(model, gamma=gamma, image_id=SAME_IMAGE))
    plain = values(model.losses(IMAGES, TEXTS, SAME_IMAGE))
    assert found.keys() == TERMS | {"reinforce", "reward", "baseline"}
    assert {name: found[name] for name in TERMS - {"loss"}} == {name: plain[name] for name in TERMS - {"loss"}}
    mixed = (1 - gamma) * found["cross_entropy"] + gamma * found["reinforce"]
    assert found["loss"] == pytest.approx(found["rank"] + 0.7 * mixed, abs=1e-12)
    assert abs(found["reinforce"] - found["cross_entropy"]) > 0.1
    if gamma == 0:
        assert found["loss"] == plain["loss"]
    alone = values(rewarded(gxn(write_weight=0.7, rank=False, of_look=of_look), gamma=gamma))
    assert alone["loss"] == pytest.approx(0.7 * mixed, abs=1e-12)
    assert "rank" not in alone


@pytest.mark.parametrize("per", ["token", "sentence"])
@pytest.mark.parametrize(("baseline", "samples"), [("greedy", 1), ("greedy", 3), ("others", 2), ("others", 5)])
def test_what_is_drawn_is_weighed_by_what_it_earns_beyond_the_baseline(baseline, samples, per):
    model, rewards = gxn(), Rewards()
    found = rewarded(model, reward=rewards, samples=samples, baseline=baseline, per=per)
    sentences, log_probs, counts = sampled(model, samples)
    drawn, *greedy = rewards.calls
    ended = [len(sentence.split()) < 12 for sentence in sentences]
    assert drawn[:3] == (sentences, [i for i in range(B) for _ in range(samples)], ended)
    assert {*ended} == {True, False} or samples == 1
    own = torch.tensor(drawn[3])
    if baseline == "others":
        assert greedy == []
        other = leave_one_out(own, samples)
    else:
        ((written, rows, all_ended, earned),) = greedy
        assert (written, rows) == (model.write(IMAGES, max_length=12), list(range(B)))
        assert all_ended == [len(sentence.split()) < 12 for sentence in written]
        other = torch.tensor(earned).repeat_interleave(samples)
    expected = reinforce_loss(log_probs, counts, own, other, per).item()
    assert found["reinforce"].item() == pytest.approx(expected, abs=1e-9)
    assert abs(expected) > 1e-3
    assert found["reward"].item() == pytest.approx(statistics.fmean(drawn[3]), abs=1e-6)
    assert found["baseline"].item() == pytest.approx(other.mean().item(), abs=1e-6)


def test_the_defaults_are_those_of_self_critical_training():
    one = values(rewarded(gxn()))
    assert one == values(rewarded(gxn(), gamma=0.9, samples=5, baseline="greedy", per="token", mining=None))


def test_sentences_are_drawn_with_dropout_and_the_greedy_one_is_that_of_use():
    """In training mode: dropout for what is drawn; for the greedy sentence neither that nor the batch's statistics."""
    torch.manual_seed(1)
    net = MLP([9, 8, 7], batch_norm=True, dropout=0.3)
    model, rewards = gxn(of_look={"image": net}), Rewards()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rewarded(model, reward=rewards)
    assert all(module.training for module in model.modules())
    assert rewards.calls[1][0] == model.eval().write(IMAGES, max_length=12)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    of_norm = {f"look.image_encoder.layers.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert changed == of_norm
    assert model.look.image_encoder.layers[1].num_batches_tracked == 1

    model, seen = gxn(), []
    sample = model.decoder.sample
    model.decoder.sample = lambda *arguments, **options: (
        seen.append(options["dropout"]) or sample(*arguments, **options)
    )
    in_evaluation = rewarded(model)
    assert not any(module.training for module in model.modules())
    in_training = rewarded(model.train())
    assert seen == [False, True]
    assert in_evaluation["baseline"].item() == in_training["baseline"].item()
    sentences, _, _ = sampled(model.eval(), 5)
    own = Rewards()(sentences, torch.arange(B).repeat_interleave(5), torch.ones(5 * B).bool())
    assert in_evaluation["reward"].item() == own.mean().item() != in_training["reward"].item()


@pytest.mark.parametrize("baseline", ["greedy", "others"])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_reinforcement_teaches_whom_writing_teaches(baseline, pre_norm):
    model = gxn(pre_norm=pre_norm)
    rewarded(model, baseline=baseline)["reinforce"].backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert learning == touched(model, "cross_entropy")


def test_a_reward_with_a_gradient_gives_none():
    weight = torch.tensor(1.5, requires_grad=True)
    found = rewarded(gxn(), reward=lambda sentences, rows, ended: weight * torch.ones(len(sentences)).cumsum(dim=0))
    found["loss"].backward()
    assert weight.grad is None
    assert not found["reinforce"].isnan()


def test_the_processes_tokens_are_gathered_for_reinforcement_too():
    """Another process drew 30 tokens more."""
    model = gxn(rank=False)
    alone = values(rewarded(model))
    tokens = int(sampled(model, 5)[2].sum())
    found = values(rewarded(model, gather=lambda rows: torch.cat([rows, rows + 30])))
    assert found["reinforce"] == pytest.approx(alone["reinforce"] * tokens / (tokens + 15), abs=1e-9)
    assert found["reward"] == alone["reward"]


@pytest.mark.parametrize("baseline", ["greedy", "others"])
def test_what_earns_more_is_written_more_often(baseline):
    """gamma = 1: no caption is shown, and sentences change by what they earn, for a cat, for a dog, for being short."""
    torch.manual_seed(0)
    model = GXN(look(dim=16), SentenceDecoder(WORDS, 16, 8, 16, dropout=0.0), rank=False)
    optimiser, images, means = torch.optim.Adam(model.parameters(), lr=2e-2), IMAGES.float(), []

    def reward(sentences, rows, ended):
        wanted = ["dog" if i % 2 else "cat" for i in rows.tolist()]
        return torch.tensor(
            [float(w in s.split()) - 0.2 * len(s.split()) for w, s in zip(wanted, sentences, strict=True)]
        )

    for _ in range(120):
        optimiser.zero_grad()
        found = model.reward_losses(images, TEXTS, reward, 1.0, 8, baseline, max_length=5)
        found["loss"].backward()
        optimiser.step()
        means.append(found["reward"].item())
    assert statistics.fmean(means[:5]) < 0.2 < 0.7 < statistics.fmean(means[-5:])
    written = model.write(images, max_length=5)
    assert sum(sentence == ("dog" if i % 2 else "cat") for i, sentence in enumerate(written)) >= 6


def test_reinforcement_runs_under_autocast():
    model = gxn().float()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.reward_losses(IMAGES.float(), TEXTS, Rewards(), max_length=6)
    assert found["loss"].dtype == torch.float32
    assert found["loss"].isfinite()
    found["loss"].backward()


# ---- a painter and its judge -----------------------------------------------------------------------------------------

PICTURES = torch.randint(256, (B, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
WRONG = [*TEXTS[2:], *TEXTS[:2]]


def painter(dim: int = 6, loud: float = 4.0, **options) -> GXNPaint:
    """Its weights are large, so that what is read matters."""
    small = {"size": 8, "condition_dim": 5, "noise_dim": 3, "painter_width": 8, "judge_width": 4}
    model = GXNPaint(dim, **small | options)
    with torch.no_grad():
        for net in (model.painter, model.judge):
            for p in net.parameters():
                p.mul_(loud if p.ndim > 1 else 1)
    return model


def artist(of_painter: dict | None = None, **options) -> GXN:
    """Reads pictures; in evaluation mode, so that each is normalised alone."""
    of_gxn = {"write": False, "of_look": {"image": SmallConvNet(4)}} | options
    others = {name: of_gxn.pop(name) for name in ("rank", "paint_weight") if name in options}
    model = gxn(**of_gxn)
    torch.manual_seed(8)
    return (
        GXN(model.look, model.decoder, painter=painter(**of_painter or {}), **model.settings | others).double().eval()
    )


def at_play(model: GXN, seed: int = 5) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return model.losses(PICTURES, TEXTS)


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("rank", [True, False])
@pytest.mark.parametrize("augment", [True, False])
def test_the_painter_s_loss_joins_the_others(write, rank, augment):
    model = artist({"augment": augment, "kl_weight": 0.3}, write=write, rank=rank, paint_weight=0.6, write_weight=0.7)
    found = values(at_play(model))
    t = model.look.text_vectors(TEXTS)[:, 1]
    torch.manual_seed(5)
    of_painter = values(model.painter.painter_losses(t))
    expected = 0.6 * of_painter["loss"]
    names = {"loss", *of_painter}
    if rank:
        ranked = values(model.look.losses(PICTURES, TEXTS))
        expected += ranked["loss"]
        assert (found["rank"], found["accuracy"]) == (ranked["loss"], ranked["accuracy"])
        names |= {"rank", "accuracy"}
    if write:
        written = values(model.decoder.losses(model.look.image_vectors(PICTURES)[:, 1], TEXTS))
        expected += 0.7 * written["loss"]
        assert found["cross_entropy"] == written["loss"]
        names |= {"cross_entropy", "token_accuracy"}
    assert found.keys() == names
    assert {name: found[name] for name in of_painter if name != "loss"} == {
        name: value for name, value in of_painter.items() if name != "loss"
    }
    assert ("kl" in found) == augment
    assert found["loss"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("grounded", [True, False])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_the_painter_reads_the_sentence_s_last_vector(grounded, pre_norm):
    model = artist(grounded=grounded, pre_norm=pre_norm, rank=False)
    heads = model.look.text_heads_of(TEXTS)
    assert heads.shape == (B, 2 if grounded else 1, 6)
    assert torch.equal(model.look.place_texts(heads), model.look.text_vectors(TEXTS))
    last = model.look.text_encoders[-1](TEXTS).detach()
    expected = last if pre_norm else (last / last.norm(dim=1, keepdim=True)).abs()
    found = model.grounded_text(TEXTS)
    assert (found.dtype, found.shape, found.requires_grad) == (torch.float32, (B, 6), False)
    torch.testing.assert_close(found, expected.float())
    ours = values(at_play(model))
    torch.manual_seed(5)
    assert ours == pytest.approx(values(model.painter.painter_losses(expected)), abs=1e-12)
    rng = [torch.Generator().manual_seed(0) for _ in range(2)]
    assert torch.equal(model.paint(TEXTS, rng[0]), model.painter.paint(found, rng[1]))


def test_a_painter_alone_looks_at_no_picture(monkeypatch):
    model = artist(rank=False)
    monkeypatch.setattr(model.look.image_encoder, "forward", lambda _: pytest.fail("it looked"))
    assert at_play(model).keys() == {"loss", "game", "kl"}
    assert model.judge_losses(PICTURES, TEXTS, WRONG).keys() == {"loss", "real", "fake", "wrong", "accuracy"}


def of(model: GXN, *starts: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(starts)}


@pytest.mark.parametrize("grounded", [True, False])
def test_painting_teaches_the_last_reader_and_no_other(grounded):
    """The word vectors that both readers share are the last one's as well."""
    model = artist(grounded=grounded, rank=False)
    at_play(model)["loss"].backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    last = of(model, f"look.text_encoders.{int(grounded)}.") | of(model, "look.text_encoders.0.embedding")
    players = of(model, "painter.painter.", "painter.augmentation.", "painter.judge.")
    assert of(model, "painter.") == players
    assert learning == last | players
    if grounded:
        own = of(model, "look.text_encoders.0.") - of(model, "look.text_encoders.0.embedding")
        assert len(own) > 4
        assert all(p.grad is None or not p.grad.any() for name, p in model.named_parameters() if name in own)


def test_the_judge_s_step_leaves_all_others_without_gradient():
    for write, rank in ((True, True), (False, False)):
        model = artist(write=write, rank=rank)
        torch.manual_seed(5)
        model.judge_losses(PICTURES, TEXTS, WRONG)["loss"].backward()
        assert {name for name, p in model.named_parameters() if p.grad is not None} == of(model, "painter.judge.")


def test_the_judge_is_told_of_both_sentences():
    model = artist()
    torch.manual_seed(5)
    found = values(model.judge_losses(PICTURES, TEXTS, WRONG))
    vectors = [model.look.text_vectors(texts)[:, 1] for texts in (TEXTS, WRONG)]
    torch.manual_seed(5)
    assert found == pytest.approx(values(model.painter.judge_losses(PICTURES, *vectors)), abs=1e-12)
    torch.manual_seed(5)
    assert found != values(model.painter.judge_losses(PICTURES, *vectors[::-1]))


def test_the_reader_is_reached_by_mu_and_sigma_alone():
    """Against a reference whose judge reads a copy of mu; where it reads mu itself, the reader has another gradient."""
    model = artist({"kl_weight": 0.3}, rank=False)
    readers = [p for name, p in model.named_parameters() if name.startswith("look.text_encoders.1.rnn")]

    def reference(detach: bool) -> list[torch.Tensor]:
        paint = model.painter
        mu, log_variance = paint.augmentation(model.look.text_vectors(TEXTS)[:, 1])
        torch.manual_seed(5)
        condition = mu + (log_variance / 2).exp() * torch.randn(B, 5, dtype=torch.float64)
        fake = paint.painter(torch.randn(B, 3, dtype=torch.float64), condition)
        read = torch.tensor(mu.tolist(), dtype=torch.float64) if detach else mu
        game = F.softplus(-paint.judge(fake, read)).mean()
        return list(torch.autograd.grad(game + 0.3 * normal_kl(mu, log_variance), readers))

    found, cut, through = torch.autograd.grad(at_play(model)["loss"], readers), reference(True), reference(False)
    assert len(readers) == 4
    for ours, expected, other in zip(found, cut, through, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-13)
        assert (ours - other).abs().max() > 0.01 * ours.abs().max()


def test_the_players_are_the_judge_and_all_others():
    for write in (True, False):
        model = artist(write=write)
        players, names = model.players(), {id(p): name for name, p in model.named_parameters()}
        assert {names[id(p)] for p in players["judge"]} == of(model, "painter.judge.")
        assert {names[id(p)] for p in players["model"]} == {*names.values()} - of(model, "painter.judge.")
        assert sum(len(weights) for weights in players.values()) == len(names)
    alone = gxn()
    assert alone.players()["judge"] == []
    assert len(alone.players()["model"]) == len(list(alone.parameters()))


def test_the_painter_s_loss_is_the_same_beside_reinforcement():
    model = artist(write=True, write_weight=0.7, paint_weight=0.6)
    for gamma in (0.0, 1.0):
        torch.manual_seed(5)
        found = values(model.reward_losses(PICTURES, TEXTS, Rewards(), gamma, max_length=12))
        plain = values(at_play(model))
        assert [found[name] for name in ("game", "kl", "rank")] == [plain[name] for name in ("game", "kl", "rank")]
        mixed = found["reinforce"] if gamma else found["cross_entropy"]
        painted = 0.6 * (found["game"] + 2.0 * found["kl"])
        assert found["loss"] == pytest.approx(found["rank"] + painted + 0.7 * mixed, abs=1e-12)


def test_a_picture_for_each_sentence():
    model = artist(rank=False).float()
    first = model.paint(TEXTS, torch.Generator().manual_seed(0))
    assert (first.dtype, first.shape) == (torch.uint8, (B, 3, 8, 8))
    rng = torch.Generator().manual_seed(0)
    assert torch.equal(model.paint(TEXTS, rng), first)
    assert not torch.equal(model.paint(TEXTS, rng), first)
    others = model.paint([*TEXTS[:3], *["a mat"] * 4], torch.Generator().manual_seed(0))
    assert torch.equal(others[:3], first[:3])
    assert not torch.equal(others[3:6], first[3:6])
    for mode in (True, False):
        model.train(mode)
        assert torch.equal(model.paint(TEXTS, torch.Generator().manual_seed(0)), first)
        assert {module.training for module in model.modules()} == {mode}


PAINTERS = {
    "paint": {"rank": False, "paint_weight": 0.4},
    "look+paint": {"of_painter": {"size": (16, 12), "augment": False, "kl_weight": 0.1}},
    "look+write+paint": {"write": True, "write_weight": 0.3, "pre_norm": True, "of_painter": {"spread": True}},
    "write+paint, h alone": {
        "write": True, "rank": False, "grounded": False,
        "of_painter": {
            "norm": "none", "saturating": True, "smoothing": 0.1, "instance_noise": 0.2, "penalty": 1.0, "limit": 0.9,
            "sigma": 0.3,
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", PAINTERS)
def test_a_painter_there_and_back(kind, tmp_path):
    model = artist(**PAINTERS[kind]).float().train()
    torch.manual_seed(0)
    model.losses(PICTURES, TEXTS)  # so that what normalises has seen a batch
    model.save(tmp_path / "gxn")
    again = GXN.load(tmp_path / "gxn")
    assert not any(module.training for module in again.modules())
    assert (again.settings, again.painter.config) == (model.settings, model.painter.config)
    assert again.painter.size == model.painter.size
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    rng = [torch.Generator().manual_seed(0) for _ in range(2)]
    assert torch.equal(again.paint(TEXTS, rng[0]), model.paint(TEXTS, rng[1]))
    model.eval()
    assert values(at_play(again)) == values(at_play(model))
    judged = []
    for one in (model, again):
        torch.manual_seed(1)
        judged.append(values(one.judge_losses(PICTURES, TEXTS, WRONG)))
    assert judged[0] == judged[1]


@pytest.mark.parametrize("kind", ["look", "look+write"])
def test_a_folder_from_before_there_was_a_painter_is_read(kind, tmp_path):
    model = gxn(**KINDS[kind]).float()
    model.save(tmp_path / "gxn")
    file = tmp_path / "gxn" / "config.json"
    written = json.loads(file.read_text())
    assert written["config"].pop("painter", 1) is None
    assert written["config"].pop("paint_weight") == 1
    file.write_text(json.dumps(written))
    again = GXN.load(tmp_path / "gxn")
    assert again.painter is None
    assert again.settings == model.settings
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


# ---- use -------------------------------------------------------------------------------------------------------------


def test_search_is_that_of_the_embedding_and_keeps_the_mode():
    model = gxn(of_look={"weight": 0.3})
    v, t = model.embed_image(IMAGES), model.embed_text(TEXTS)
    assert torch.equal(v, model.look.embed_image(IMAGES))
    assert torch.equal(t, model.look.embed_text(TEXTS))
    assert torch.equal(model.similarity(v, t), model.look.similarity(v, t))
    assert v.shape == t.shape == (B, 12)
    for mode in (True, False):
        model.train(mode)
        assert torch.equal(model.embed_image(IMAGES), v)
        model.embed_text(TEXTS), model.grounded_image(IMAGES), model.float().write(IMAGES.float())
        assert all(module.training == mode for module in model.modules())
        model.double()


@pytest.mark.parametrize("grounded", [True, False])
def test_what_is_grounded_is_the_last_vector(grounded):
    model = gxn(grounded=grounded)
    found = model.grounded_image(IMAGES)
    assert (found.dtype, found.shape, found.requires_grad) == (torch.float32, (B, 6), False)
    assert torch.equal(found, model.look.image_vectors(IMAGES)[:, 1 if grounded else 0].detach().float())
    many = model.grounded_image(IMAGES.repeat(100, 1))
    torch.testing.assert_close(many, found.repeat(100, 1))


def test_greedy_is_a_beam_of_one_and_wider_beams_are_the_decoder_s():
    model = gxn().float()
    images = IMAGES.float()
    vectors = model.grounded_image(images)
    greedy = model.write(images, max_length=9)
    assert greedy == model.decoder.greedy(vectors, 9) == model.decoder.beam(vectors, 1, 9)[0]
    assert greedy == model.write(images, 1, 9, length_penalty=0.0)
    assert len(set(greedy)) > 1  # the picture has a say
    wide = model.write(images, 4, 9)
    assert wide == model.decoder.beam(vectors, 4, 9)[0] != greedy
    options = {"no_repeat": True, "length_penalty": 1.0}
    assert model.write(images, 4, 9, **options) == model.decoder.beam(vectors, 4, 9, **options)[0]
    model.train()
    assert model.write(images, max_length=9) == greedy  # without dropout


KINDS = {
    "look+write": {"write_weight": 0.3, "pre_norm": True},
    "look": {"write": False},
    "write": {"rank": False},
    "h alone": {"grounded": False, "of_look": {"similarity": "cosine", "unit_images": False, "margin": 0.2}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind, tmp_path):
    model = gxn(**KINDS[kind]).float().train()
    images = IMAGES.float()
    model.save(tmp_path / "gxn")
    again = GXN.load(tmp_path / "gxn")
    assert not any(module.training for module in again.modules())
    assert again.settings == model.settings
    assert again.look.config == model.look.config
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert torch.equal(again.embed_image(images), model.embed_image(images))
    assert torch.equal(again.embed_text(TEXTS), model.embed_text(TEXTS))
    assert values(again.losses(images, TEXTS)) == values(model.eval().losses(images, TEXTS))
    if kind == "look":
        assert again.decoder is model.decoder is None
    else:
        assert again.decoder.config == model.decoder.config
        assert again.write(images) == model.write(images)
        assert again.write(images, 3) == model.write(images, 3)


# ---- bad input -------------------------------------------------------------------------------------------------------


def decoder(dim: int = 6) -> SentenceDecoder:
    return SentenceDecoder(WORDS, dim, 5, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GXN(look(), decoder(5)), "the decoder reads 5 numbers of a picture, look gives 6: set both"),
        (lambda: GXN(look(), decoder(), 0.0), "write_weight must be a number above 0, got 0.0; decoder=None"),
        (lambda: GXN(look(), decoder(), -1.0), "above 0, got -1.0"),
        (lambda: GXN(look(), decoder(), math.inf), "above 0, got inf"),
        (lambda: GXN(look(), decoder(), math.nan), "above 0, got nan"),
        (lambda: GXN(look(), rank=False), "rank=False there is nothing to learn"),
        (lambda: GXN(look()).write(IMAGES), "has no decoder, so it cannot write: train one with paths='look\\+write'"),
        (lambda: gxn().write(IMAGES, 0), "width must be at least 1"),
        (lambda: gxn().float().write(IMAGES.float(), max_length=0), "max_length must be at least 1 token"),
        (lambda: gxn().losses(IMAGES, TEXTS[:3]), "7 images, 3 texts, image_id none"),
        (lambda: gxn(rank=False).losses(IMAGES, TEXTS[:3]), "7 images, 3 texts"),
        (lambda: gxn().losses(IMAGES, TEXTS, SAME_IMAGE[:3]), r"7 images, 7 texts, image_id \(3,\)"),
        (lambda: gxn().losses(IMAGES, TEXTS, mining="sum"), "mining is one of"),
        (lambda: rewarded(gxn(), gamma=1.1), r"gamma must be in \[0, 1\] and baseline one of .*; got 1.1 and 'greedy'"),
        (lambda: rewarded(gxn(), gamma=-0.1), "got -0.1"),
        (lambda: rewarded(gxn(), baseline="mean"), "got 0.9 and 'mean'"),
        (
            lambda: rewarded(gxn(), baseline="others", samples=1),
            "samples=1 leaves no others: draw two or more, or take",
        ),
        (lambda: rewarded(gxn(), samples=0), "n at least 1"),
        (lambda: rewarded(gxn(), max_length=0), "max_length must be at least 1 token"),
        (lambda: rewarded(GXN(look()).double()), "has no decoder, so it cannot write"),
        (lambda: rewarded(gxn(), reward=lambda *_: torch.ones(3)), r"reward must be \(35,\), one of each sentence"),
        (lambda: rewarded(gxn(), reward=lambda s, *_: torch.ones(len(s)) / 0), "must be finite"),
        (lambda: gxn().losses(IMAGES, [*TEXTS[:-1], "..."]), r"texts\[6\] is '...': a sentence to learn needs a word"),
        (lambda: gxn().grounded_image(IMAGES[:0]), "nothing to embed"),
        (
            lambda: GXN(look(), painter=painter(5)),
            "the painter reads 5 numbers of a sentence, look gives 6: set text_dim",
        ),
        (
            lambda: GXN(look(), painter=painter(), paint_weight=0.0),
            "paint_weight must be a number above 0, got 0.0; paint",
        ),
        (lambda: GXN(look(), painter=painter(), paint_weight=math.nan), "above 0, got nan; painter=None is without"),
        (lambda: gxn().paint(TEXTS), "has no painter: train one with paths='paint' or 'look\\+paint'"),
        (lambda: gxn().judge_losses(PICTURES, TEXTS, WRONG), "has no painter"),
        (lambda: artist().paint([]), "nothing to embed"),
        (lambda: artist().judge_losses(PICTURES, TEXTS[:3], WRONG), r"must be \(7, 6\) floats; got .* \(3, 6\)"),
        (lambda: artist().judge_losses(PICTURES / 255, TEXTS, WRONG), "pictures must be uint8"),
        (lambda: artist(rank=False).losses(PICTURES, TEXTS[:3]), "7 images, 3 texts"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_embedding_says_its_steps_one_by_one():
    """`image_heads_of`, then `place`, are `image_vectors`; `rank_losses` of vectors is `losses` of what they are of."""
    for options in ({}, {"absolute": False}, {"similarity": "cosine", "unit_images": False}, {"unit_features": False}):
        model = gxn(of_look=options).look
        heads = model.image_heads_of(IMAGES)
        assert heads.shape == (B, 2, 6)
        assert torch.equal(model.place(heads), model.image_vectors(IMAGES))
        vectors = model.place(heads), model.text_vectors(TEXTS)
        for mining in (None, "hardest"):
            one = values(model.rank_losses(*vectors, SAME_IMAGE, mining=mining))
            assert one == values(model.losses(IMAGES, TEXTS, SAME_IMAGE, mining=mining))
        built = GXNLook.from_config(model.config)
        assert built.config == model.config
        assert built.settings == model.settings
        assert [p.shape for p in built.parameters()] == [p.shape for p in model.parameters()]
        assert not torch.equal(built.image_heads[0].weight, model.image_heads[0].weight.float())


def test_a_model_without_an_encoder_of_its_own_reads_rows():
    torch.manual_seed(0)
    model = GXN(look(image=Standardize(9)), decoder())
    rows = IMAGES.float()
    model.losses(rows, TEXTS)["loss"].backward()
    assert model.embed_image(rows).shape == (B, 12)
    assert len(model.write(rows)) == B
