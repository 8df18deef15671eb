"""LSTM and GRU against loops over words by their equations, against company and padding, and there and back."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commonspace.data.vocabulary import Vocabulary
from commonspace.encoders import GRU, LSTM, build_encoder
from commonspace.training import load_model, save_model

KINDS = [LSTM, GRU]
POOLING = ["last", "mean", "max"]
TEXTS = ["a cat", "the cat sat on a mat, then on the other mat", "dog", "emu yak", "a dog and a zebra"]
WORDS = Vocabulary.build([TEXTS[0], TEXTS[1], "dog and a"])


def encoder(kind=LSTM, **options):
    torch.manual_seed(3)
    return kind(WORDS, **({"dim": 6, "out_dim": 5} | options)).eval()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def affine(weight, bias, x: list[float]) -> list[float]:
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(weight.tolist(), bias.tolist(), strict=True)
    ]


def by_loops(net, text: str) -> tuple[list[list[float]], list[float]]:
    """The state at each word of one text, forward (and backward), and the features: numbers, one word at a time."""
    words, dim, rnn = WORDS.encode(text), net.config["dim"], net.rnn
    if net.config["brackets"]:
        words = [len(WORDS) + 1, *words, len(WORDS) + 2]
    vectors = [net.embedding.weight[i].tolist() for i in words]
    ways = []
    for suffix in ("", "_reverse")[: 1 + net.config["bidirectional"]]:
        h, c, states = [0.0] * dim, [0.0] * dim, []
        for x in vectors[::-1] if suffix else vectors:
            a = affine(getattr(rnn, f"weight_ih_l0{suffix}"), getattr(rnn, f"bias_ih_l0{suffix}"), x)
            b = affine(getattr(rnn, f"weight_hh_l0{suffix}"), getattr(rnn, f"bias_hh_l0{suffix}"), h)
            at = [slice(k * dim, (k + 1) * dim) for k in range(4)]
            if isinstance(net, LSTM):  # gates in, forget, cell, out
                i, f, o = ([sigmoid(p + q) for p, q in zip(a[at[k]], b[at[k]], strict=True)] for k in (0, 1, 3))
                g = [math.tanh(p + q) for p, q in zip(a[at[2]], b[at[2]], strict=True)]
                c = [fi * ci + ii * gi for fi, ci, ii, gi in zip(f, c, i, g, strict=True)]
                h = [oi * math.tanh(ci) for oi, ci in zip(o, c, strict=True)]
            else:  # gates reset, update, new
                r, z = ([sigmoid(p + q) for p, q in zip(a[at[k]], b[at[k]], strict=True)] for k in (0, 1))
                n = [math.tanh(p + ri * q) for p, q, ri in zip(a[at[2]], b[at[2]], r, strict=True)]
                h = [(1 - zi) * ni + zi * hi for zi, ni, hi in zip(z, n, h, strict=True)]
            states.append(h)
        ways.append(states[::-1] if suffix else states)
    if net.config["directions"] == "mean":
        every = [[sum(pair) / 2 for pair in zip(*parts, strict=True)] for parts in zip(*ways, strict=True)]
    else:
        every = [[x for part in parts for x in part] for parts in zip(*ways, strict=True)]
    if net.pooling == "last" and net.config["directions"] == "mean":
        pooled = [(x + y) / 2 for x, y in zip(ways[0][-1], ways[1][0], strict=True)]
    elif net.pooling == "last":
        pooled = ways[0][-1] + (ways[1][0] if len(ways) > 1 else [])
    elif net.pooling == "mean":
        pooled = [sum(column) / len(every) for column in zip(*every, strict=True)]
    else:
        pooled = [max(column) for column in zip(*every, strict=True)]
    return every, affine(net.head[1].weight, net.head[1].bias, pooled)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", POOLING)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_equations_word_by_word(kind, pooling, bidirectional):
    net = encoder(kind, pooling=pooling, bidirectional=bidirectional).double()
    features = net(TEXTS)
    states, mask = net.states(TEXTS)
    assert features.shape == (5, 5)
    assert states.shape == (5, 11, 12 if bidirectional else 6)
    assert net.state_dim == states.shape[2]
    assert mask.sum(dim=1).tolist() == [2, 11, 1, 2, 5]
    assert not states[~mask].any()
    for i, text in enumerate(TEXTS):
        every, expected = by_loops(net, text)
        assert features[i].tolist() == pytest.approx(expected, abs=1e-12)
        assert states[i, mask[i]].tolist() == [pytest.approx(state, abs=1e-12) for state in every]


@pytest.mark.parametrize("pooling", POOLING)
@pytest.mark.parametrize("kind", KINDS)
def test_directions_averaged_words_of_their_own_width_and_brackets(kind, pooling):
    options = {"bidirectional": True, "directions": "mean", "word_dim": 4, "brackets": True}
    net = encoder(kind, pooling=pooling, **options).double()
    features = net(TEXTS)
    states, mask = net.states(TEXTS)
    assert states.shape == (5, 13, 6)
    assert net.state_dim == net.head[1].in_features == 6
    assert mask.sum(dim=1).tolist() == [4, 13, 3, 4, 7]
    assert net.embedding.weight.shape == (len(WORDS) + 3, 4)
    assert net.tokens(["dog"])[0].tolist() == [[net.padding + 1, *WORDS.encode("dog"), net.padding + 2]]
    for i, text in enumerate(TEXTS):
        every, expected = by_loops(net, text)
        assert features[i].tolist() == pytest.approx(expected, abs=1e-12)
        assert states[i, mask[i]].tolist() == [pytest.approx(state, abs=1e-12) for state in every]
    again = build_encoder(json.loads(json.dumps(net.config))).double()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(TEXTS), features)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", POOLING)
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_does_not_depend_on_its_company(kind, pooling, bidirectional):
    net = encoder(kind, pooling=pooling, bidirectional=bidirectional, dropout=0.0)
    for mode in (True, False):
        net.train(mode)
        together = net(TEXTS)
        alone = torch.cat([net([text]) for text in TEXTS])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
        torch.testing.assert_close(net(TEXTS[::-1]), together.flip(0), rtol=0, atol=1e-6)
        long = net([*TEXTS, "mat " * 200])[:-1]
        torch.testing.assert_close(long, together, rtol=0, atol=1e-6)
    assert (together[0] - together[1:]).abs().amax(dim=1).min() > 1e-3


SAID = st.lists(st.sampled_from(["cat", "dog", "mat", "zebra", "?"]), min_size=1, max_size=7).map(" ".join)


@settings(max_examples=25, deadline=None)
@given(st.lists(SAID, min_size=1, max_size=6), st.sampled_from(KINDS), st.sampled_from(POOLING))
def test_any_batch_gives_each_text_its_own_answer(texts, kind, pooling):
    net = encoder(kind, pooling=pooling, bidirectional=True)
    alone = torch.cat([net([text]) for text in texts])
    torch.testing.assert_close(net(texts), alone, rtol=0, atol=1e-6)


def test_the_last_column_is_another_answer():
    """What `out[:, -1]` of a padded batch gives: right for the longest text alone, and another in other company."""
    net = encoder()
    ids, mask = net.tokens(TEXTS)
    wrong = net.head(net.rnn(net.embedding(ids))[0][:, -1])
    right = net(TEXTS)
    torch.testing.assert_close(wrong[1], right[1], rtol=0, atol=1e-6)
    assert mask[1].all()
    assert (wrong - right)[[0, 2, 3, 4]].abs().amax(dim=1).min() > 1e-3


def test_gradients_do_not_depend_on_company_and_never_reach_the_filling():
    found = []
    for groups in ([TEXTS], [[text] for text in TEXTS]):
        net = encoder(dropout=0.0, pooling="max").double()
        for texts in groups:
            net(texts).square().sum().backward()
        found.append([p.grad for p in net.parameters()])
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)
    grad = net.embedding.weight.grad
    assert not grad[net.padding].any()
    assert grad[0].any()  # the unknown word learns


def test_unknown_words_and_texts_without_words():
    net = encoder()
    assert net.tokens(["a zebra, a Cat!", "???"])[0].tolist() == [
        WORDS.encode("a zebra a cat"),
        [0, *[net.padding] * 3],
    ]
    rows = net(["emu", "zebra", "?!", "🦓", "emu yak"])
    assert torch.equal(rows[:4], rows[:1].expand(4, -1))
    assert (rows[4] - rows[0]).abs().max() > 1e-3
    assert net.embedding.num_embeddings == len(WORDS) + 1
    assert net.padding == len(WORDS)
    nobody = LSTM(Vocabulary([]), dim=3, out_dim=2)
    assert nobody(["any word", "at all"]).shape == (2, 2)


def test_the_order_of_words_counts():
    net = encoder()
    one, other = net(["the dog sat on the cat", "the cat sat on the dog"])
    assert (one - other).abs().max() > 1e-3


def test_dropout_is_for_training_alone():
    net = encoder(dropout=0.5)
    assert torch.equal(net(TEXTS), net(TEXTS))
    net.train()
    assert not torch.equal(net(TEXTS), net(TEXTS))
    assert torch.equal(net.states(TEXTS)[0], net.states(TEXTS)[0])  # it stands behind the states


def test_as_many_parameters_as_the_paper_has():
    net = LSTM(WORDS)
    assert net.out_dim == 512
    assert sum(p.numel() for name, p in net.named_parameters() if "embedding" not in name) == 2_363_904
    assert net.embedding.weight.shape == (len(WORDS) + 1, 512)


@pytest.mark.parametrize("kind", KINDS)
def test_the_vocabulary_is_saved_with_the_weights(kind, tmp_path):
    net = encoder(kind, pooling="mean", bidirectional=True, dropout=0.3)
    save_model(net, tmp_path / "model", net.config)
    weights, config = load_model(tmp_path / "model")
    again = build_encoder(config)
    again.load_state_dict(weights)
    assert torch.equal(again.eval()(TEXTS), net(TEXTS))
    assert config == json.loads(json.dumps(net.config))
    assert config["vocabulary"]["words"] == WORDS.words
    # The same words in another order: the weights load, and mean other words.
    other = build_encoder(config | {"vocabulary": config["vocabulary"] | {"words": WORDS.words[::-1]}})
    other.load_state_dict(weights)
    assert (other.eval()(TEXTS[:1]) - net(TEXTS[:1])).abs().max() > 1e-3


def test_the_dict_of_a_vocabulary_serves_as_well():
    torch.manual_seed(0)
    one = LSTM(WORDS, dim=4).eval()
    torch.manual_seed(0)
    assert torch.equal(LSTM(WORDS.to_dict(), dim=4).eval()(TEXTS), one(TEXTS))


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_under_autocast_and_in_float64(kind):
    net = encoder(kind, bidirectional=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(TEXTS)
    torch.testing.assert_close(found.float(), net(TEXTS), atol=0.02, rtol=0.05)
    assert net.double()(TEXTS).dtype == torch.float64


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_it_gives_the_same(kind):
    net = encoder(kind, pooling="max", bidirectional=True)
    expected, (states, mask) = net(TEXTS), net.states(TEXTS)
    net.cuda()
    assert net(TEXTS).device.type == "cuda"
    torch.testing.assert_close(net(TEXTS).cpu(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(net.states(TEXTS)[0].cpu(), states, rtol=0, atol=1e-5)
    assert torch.equal(net.states(TEXTS)[1].cpu(), mask)


@pytest.mark.parametrize("method", ["forward", "states", "tokens"])
@pytest.mark.parametrize(
    ("texts", "message"),
    [("cat", "list of texts"), ([], "empty list"), (["a", " "], r"texts\[1\] is ' '"), ([3], "must be a string")],
)
def test_bad_texts_are_refused(method, texts, message):
    with pytest.raises(ValueError, match=message):
        getattr(encoder(), method)(texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "first"}, "'last', 'mean', 'max'; got 'first'"),
        ({"dim": 0}, "at least 1.* got 0, 5, 0 and 0.1"),
        ({"out_dim": 0}, "got 6, 0"),
        ({"word_dim": 0}, "got 6, 5, 0 and 0.1"),
        ({"directions": "sum", "bidirectional": True}, "'concat', 'mean'.*got 'sum' and True"),
        ({"directions": "mean"}, "'mean' needs bidirectional=True; got 'mean' and False"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\); got 6, 5, 6 and 1.0"),
        ({"dropout": math.nan}, "and nan"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        encoder(**options)
