"""The feature network against its layers written out."""

import pytest
import torch

from commonspace.encoders import MLP

FUNCTIONS = {
    "relu": lambda x: x.clamp_min(0),
    "gelu": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
    "tanh": torch.tanh,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
}


def rows(seed: int, n: int = 9, d: int = 6) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("final", [None, "tanh"])
@pytest.mark.parametrize("seed", [0, 1])
def test_layers_by_hand(activation, final, seed):
    torch.manual_seed(seed)
    net = MLP([6, 5, 4, 3], activation=activation, final_activation=final)
    W = [p.detach() for p in net.parameters()]
    f = FUNCTIONS[activation]
    x = rows(seed)
    expected = f(f(x @ W[0].T + W[1]) @ W[2].T + W[3]) @ W[4].T + W[5]
    expected = FUNCTIONS[final](expected) if final else expected
    torch.testing.assert_close(net(x).detach(), expected)
    assert (net.in_dim, net.out_dim) == (6, 3)


def test_batch_norm_comes_before_the_activation_and_not_last():
    torch.manual_seed(0)
    net = MLP([6, 50, 3], batch_norm=True)
    names = [type(layer).__name__ for layer in net.layers]
    assert names == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    hidden = net.layers[1](net.layers[0](100 * rows(0) + 7))
    torch.testing.assert_close(hidden.mean(dim=0), torch.zeros(50), atol=1e-5, rtol=0)
    alone = net.eval()(rows(0)[:1])
    torch.testing.assert_close(alone, net(rows(0))[:1])


def test_dropout_is_on_in_training_alone():
    net = MLP([6, 400, 3], dropout=0.5)
    dropped = net.layers[:3](rows(0))
    kept = net.eval().layers[:3](rows(0))
    positive = kept > 0
    share = (dropped[positive] > 0).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.06)
    torch.testing.assert_close(dropped[dropped > 0], 2 * kept[dropped > 0])
    assert torch.equal(net(rows(0)), net(rows(0)))


def test_one_layer_is_linear():
    net = MLP([6, 3], dropout=0.5, batch_norm=True)
    assert [type(layer).__name__ for layer in net.layers] == ["Linear"]


@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "dropout": 0.1, "final_activation": "tanh"}])
def test_a_gradient_reaches_every_parameter(options):
    torch.manual_seed(0)
    net = MLP([6, 8, 8, 3], activation="tanh", **options)
    net(rows(0)).pow(3).sum().backward()
    biases = {"layers.0.bias", "layers.4.bias"} if options else set()  # BatchNorm takes a bias before it away
    for name, p in net.named_parameters():
        assert p.grad is not None
        assert (p.grad.abs().max() > 1e-4) != (name in biases), name


def test_same_seed_same_network():
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(MLP([6, 4, 3])(rows(0)))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP([6]), "at least"),
        (lambda: MLP([6, 0, 3]), ">= 1"),
        (lambda: MLP([6, 3], activation="swish"), "one of relu, gelu, tanh, sigmoid; got 'swish'"),
        (lambda: MLP([6, 3], final_activation="softmax"), "got 'softmax'"),
        (lambda: MLP([6, 3], dropout=1.0), r"dropout must be a probability in \[0, 1\)"),
        (lambda: MLP([6, 3])(rows(0, d=5)), r"shape \(B, 6\), got \(9, 5\)"),
        (lambda: MLP([6, 3])(rows(0)[0]), r"shape \(B, 6\), got \(6,\)"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
