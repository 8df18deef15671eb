"""Gradient reversal, the modality loss and the gradient penalty against autograd, loops and closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from commonspace.encoders import MLP
from commonspace.losses import (
    gradient_penalty,
    modality_accuracy,
    modality_loss,
    reversal_strength,
    reverse_gradient,
)


def random(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---- reversal -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 7])
@pytest.mark.parametrize("shape", [(), (5,), (4, 3), (2, 3, 4, 1), (0, 3)])
def test_forward_it_is_the_identity_and_backward_minus_strength(shape, strength):
    x = random(*shape).requires_grad_()
    y = reverse_gradient(x, strength)
    assert torch.equal(y, x)
    (plain,) = torch.autograd.grad(x.sin().sum(), x)
    (reversed_,) = torch.autograd.grad(y.sin().sum(), x)
    assert torch.equal(reversed_, -strength * plain)


@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0])
def test_behind_a_network_the_layer_before_gets_the_reversed_gradient_and_the_layer_after_the_true_one(strength):
    torch.manual_seed(0)
    before, after, x = nn.Linear(4, 3), nn.Linear(3, 2), random(6, 4, dtype=torch.float32)
    for kind, between in [("plain", lambda h: h), ("reversed", lambda h: reverse_gradient(h, strength))]:
        loss = after(between(before(x).tanh())).square().sum()
        grads = torch.autograd.grad(loss, [*before.parameters(), *after.parameters()])
        if kind == "plain":
            expected = [-strength * g for g in grads[:2]] + list(grads[2:])
    for found, wanted in zip(grads, expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_reversed_twice_it_is_a_plain_function():
    """Two reversals of strengths a and 1 / a cancel, so finite differences can judge the composite."""
    x = random(5, 3).requires_grad_()

    def twice(x):
        return (reverse_gradient(reverse_gradient(x, 0.25).sin(), 4.0) ** 2).sum()

    assert torch.autograd.gradcheck(twice, (x,))
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):  # reversed once, its gradient is that of no function
        torch.autograd.gradcheck(lambda x: reverse_gradient(x).sin().sum(), (x,))


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf])
def test_bad_strengths_are_refused(strength):
    with pytest.raises(ValueError, match="strength must be a number >= 0, got"):
        reverse_gradient(torch.zeros(3), strength)


def test_the_schedule_rises_from_0_almost_to_1():
    assert reversal_strength(0) == 0
    assert reversal_strength(0.1) == pytest.approx(math.tanh(0.5), abs=1e-12)  # 2 / (1 + exp(-x)) - 1 = tanh(x / 2)
    assert reversal_strength(0.5) == pytest.approx(0.98661, abs=1e-5)
    assert reversal_strength(1) == pytest.approx(math.tanh(5), abs=1e-12)
    values = [reversal_strength(i / 50) for i in range(51)]
    assert values == sorted(values)
    for progress in (-0.01, 1.01, math.nan):
        with pytest.raises(ValueError, match="from 0 to 1"):
            reversal_strength(progress)


# ---- the modality loss ----------------------------------------------------------------------------------------------


def loss_by_loops(image, text, form: str) -> float:
    """Column 0 is text, column 1 image."""
    means = []
    for logits, right in [(image.tolist(), 1), (text.tolist(), 0)]:
        total = 0.0
        for row in logits:
            if form == "softmax":
                total -= math.log(math.exp(row[right]) / (math.exp(row[0]) + math.exp(row[1])))
            else:
                chance = [1 / (1 + math.exp(-z)) for z in row]
                total -= math.log(chance[right]) + math.log(1 - chance[1 - right])
        means.append(total / len(logits))
    return sum(means) / 2


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("n", "m"), [(6, 6), (9, 2), (1, 30)])
@pytest.mark.parametrize("seed", [0, 1])
def test_modality_loss_equals_loops_and_swapped_columns_do_not(seed, n, m, form):
    image, text = 2 * random(n, 2, seed=seed), 2 * random(m, 2, seed=seed + 10)
    expected = loss_by_loops(image, text, form)
    assert modality_loss(image, text, form).item() == pytest.approx(expected, abs=1e-12)
    assert abs(modality_loss(image.flip(1), text.flip(1), form).item() - expected) > 1e-3
    assert abs(modality_loss(text, image, form).item() - expected) > 1e-3


@pytest.mark.parametrize("seed", [0, 1])
def test_modality_loss_equals_torchs_own(seed):
    image, text = random(8, 2, seed=seed), random(8, 2, seed=seed + 10)
    logits, label = torch.cat([image, text]), torch.tensor([1] * 8 + [0] * 8)
    torch.testing.assert_close(modality_loss(image, text), F.cross_entropy(logits, label))
    one_hot = F.one_hot(label, 2).double()
    both = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum") / 16
    torch.testing.assert_close(modality_loss(image, text, "sigmoid"), both)


def test_modality_loss_weighs_unequal_numbers_alike():
    image, text = random(3, 2), random(12, 2, seed=1)
    torch.testing.assert_close(modality_loss(image, text), modality_loss(image.repeat(4, 1), text))
    plain = F.cross_entropy(torch.cat([image, text]), torch.tensor([1] * 3 + [0] * 12))
    assert abs(modality_loss(image, text) - plain) > 1e-3


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
def test_the_gradient_equals_finite_differences(form):
    image, text = random(4, 2).requires_grad_(), random(3, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: modality_loss(a, b, form), (image, text))


@pytest.mark.parametrize(("form", "cost"), [("softmax", math.log(2)), ("sigmoid", 2 * math.log(2))])
def test_what_a_classifier_pays(form, cost):
    ignorant, sure = torch.zeros(5, 2), torch.tensor([[-1000.0, 1000.0]]).repeat(5, 1)
    assert modality_loss(ignorant, ignorant, form).item() == pytest.approx(cost, abs=1e-6)
    assert modality_loss(sure, -sure, form).item() == 0
    wrong = modality_loss(-sure, sure, form)
    assert wrong.item() == pytest.approx(2000.0)  # finite


@pytest.mark.parametrize(
    ("image", "text", "form", "message"),
    [
        (torch.zeros(3, 1), torch.zeros(3, 2), "softmax", r"image_logits must have shape \(n, 2\).*got \(3, 1\)"),
        (torch.zeros(3, 2), torch.zeros(2), "softmax", r"text_logits must have shape .*got \(2,\)"),
        (torch.zeros(0, 2), torch.zeros(3, 2), "softmax", r"got \(0, 2\)"),
        (torch.zeros(3, 2), torch.zeros(3, 2), "tanh", "'softmax' or 'sigmoid', got 'tanh'"),
    ],
)
def test_bad_logits_are_refused(image, text, form, message):
    with pytest.raises(ValueError, match=message):
        modality_loss(image, text, form)


def test_accuracy_counts_each_modality_and_half_of_a_tie():
    image = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 0.5], [3.0, 3.0]], requires_grad=True)  # 2.5 of 4
    text = torch.tensor([[1.0, 0.0], [0.0, 0.0]])  # 1.5 of 2
    found = modality_accuracy(image, text)
    assert found.item() == pytest.approx((2.5 / 4 + 1.5 / 2) / 2)
    assert not found.requires_grad
    assert modality_accuracy(torch.zeros(7, 2), torch.zeros(3, 2)) == 0.5
    assert modality_accuracy(text[:1].flip(1), text[:1]) == 1
    always_image = torch.tensor([[0.0, 1.0]])
    assert modality_accuracy(always_image.repeat(9, 1), always_image) == 0.5  # not 0.9


# ---- the gradient penalty -------------------------------------------------------------------------------------------


def penalty_by_differences(classifier, *codes: torch.Tensor, step: float = 1e-6) -> float:
    total = 0.0
    for code in codes:
        for row in code:
            for j in range(len(row)):
                e = torch.zeros_like(row)
                e[j] = step
                with torch.no_grad():
                    up, down = classifier(torch.stack([row + e, row - e]))
                total += (((up[1] - up[0]) - (down[1] - down[0])) / (2 * step)).item() ** 2 / len(code)
    return total


@pytest.mark.parametrize("seed", [0, 1])
def test_the_penalty_equals_finite_differences(seed):
    torch.manual_seed(seed)
    classifier = MLP([4, 6, 2], "tanh").double()
    v, t = random(5, 4, seed=seed), random(3, 4, seed=seed + 10)
    expected = penalty_by_differences(classifier, v, t)
    assert gradient_penalty(classifier, v, t).item() == pytest.approx(expected, rel=1e-6)
    assert abs(gradient_penalty(classifier, v).item() - expected) > 1e-3


def test_of_a_linear_classifier_it_is_the_squared_length_of_the_difference_of_its_rows():
    classifier = nn.Linear(4, 2).double()
    slope = (classifier.weight[1] - classifier.weight[0]).square().sum()
    v, t = random(5, 4), random(9, 4, seed=1)
    torch.testing.assert_close(gradient_penalty(classifier, v), slope)
    found = gradient_penalty(classifier, v, t)
    torch.testing.assert_close(found, 2 * slope)
    (grad,) = torch.autograd.grad(found, classifier.weight)
    difference = (classifier.weight[1] - classifier.weight[0]).detach()
    torch.testing.assert_close(grad, 4 * torch.stack([-difference, difference]))


def test_its_gradient_in_the_classifiers_weights_equals_finite_differences():
    hidden, out = random(3, 5).requires_grad_(), random(5, 2, seed=1).requires_grad_()
    v, t = random(4, 3, seed=2), random(2, 3, seed=3)

    def penalty(hidden, out):
        return gradient_penalty(lambda code: torch.tanh(code @ hidden) @ out, v, t)

    assert torch.autograd.gradcheck(penalty, (hidden, out))


def test_it_trains_the_classifier_and_not_the_codes():
    torch.manual_seed(0)
    projector, classifier = nn.Linear(3, 4), MLP([4, 6, 2], "tanh")
    codes = [projector(random(5, 3, seed=seed, dtype=torch.float32)) for seed in (0, 1)]
    gradient_penalty(classifier, *codes).backward()
    assert projector.weight.grad is None
    for name, weight in classifier.named_parameters():
        if name != "layers.2.bias":  # moves the logits, not their slope
            assert weight.grad.abs().sum() > 0, name
    assert all(code.requires_grad and code.grad_fn is not None for code in codes)  # the caller's are untouched


def test_a_caller_without_gradients_gets_the_same_value():
    classifier = MLP([4, 6, 2])
    v = random(5, 4, dtype=torch.float32)
    with torch.no_grad():
        found = gradient_penalty(classifier, v, v)
    torch.testing.assert_close(found, gradient_penalty(classifier, v, v).detach())


def test_it_works_under_autocast():
    torch.manual_seed(0)
    classifier = MLP([8, 50, 2])
    v, t = random(40, 8, dtype=torch.float32), random(30, 8, seed=1, dtype=torch.float32)
    exact = gradient_penalty(classifier, v, t)
    wanted = torch.autograd.grad(exact, classifier.layers[0].weight)[0]
    with torch.autocast("cpu", torch.bfloat16):
        for codes in [(v, t), (v.bfloat16(), t.bfloat16())]:
            found = gradient_penalty(classifier, *codes)
            torch.testing.assert_close(found.float(), exact, rtol=0.02, atol=0)
            grad = torch.autograd.grad(found, classifier.layers[0].weight)[0]
            assert F.cosine_similarity(grad.flatten(), wanted.flatten(), dim=0) > 0.99
