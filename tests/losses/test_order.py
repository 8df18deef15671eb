"""The order similarity against loops, against all differences at once, in both directions, and in bounded memory."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from commonspace.losses import hinge_loss, order_similarity
from commonspace.losses.order import DIRECTIONS


def rows(n: int, d: int, seed: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_loops(image, text, direction="order") -> list[list[float]]:
    found = []
    for v in image.tolist():
        found.append([])
        for t in text.tolist():
            above = [x - y if direction == "order" else y - x for x, y in zip(t, v, strict=True)]
            found[-1].append(-sum(max(0.0, x) ** 2 for x in above))
    return found


def at_once(image, text, direction="order"):
    """All N x M x D differences in one tensor, as one writes the formula down."""
    above = text[None] - image[:, None]
    return -(above if direction == "order" else -above).clamp(min=0).pow(2).sum(dim=2)


SHAPES = [(5, 7, 6), (1, 4, 3), (6, 1, 3), (3, 3, 1), (9, 8, 40)]


@pytest.mark.parametrize("block", [None, 1, 5, 13, 64, 2**19])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("N", "M", "D"), SHAPES)
def test_equals_loops_over_pairs_and_coordinates(N, M, D, direction, block):
    image, text = rows(N, D, 1), rows(M, D, 2)
    found = order_similarity(image, text, direction, block)
    assert found.shape == (N, M)
    assert found.tolist() == [pytest.approx(row, rel=1e-12, abs=1e-12) for row in by_loops(image, text, direction)]
    single = order_similarity(image.float(), text.float(), direction, block)
    torch.testing.assert_close(single, found.float(), rtol=1e-5, atol=1e-5)
    wrong = torch.tensor(by_loops(image, text, "gxn" if direction == "order" else "order"))
    assert (wrong - found).abs().max() > 0.1


@pytest.mark.parametrize("block", [None, 1, 5, 13, 64])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("N", "M", "D"), SHAPES)
def test_gradients_equal_those_of_all_differences_at_once(N, M, D, direction, block):
    upstream = rows(N, M, 3)
    found = []
    for similarity in (lambda v, t: order_similarity(v, t, direction, block), lambda v, t: at_once(v, t, direction)):
        image, text = rows(N, D, 1).requires_grad_(), rows(M, D, 2).requires_grad_()
        similarity(image, text).backward(upstream)
        found.append((image.grad, text.grad))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    assert min(grad.abs().max() for grad in found[0]) > 1e-3


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gradients_equal_finite_differences(direction):
    image, text = rows(4, 6, 4).requires_grad_(), rows(3, 6, 5).requires_grad_()
    for block in (None, 7):
        assert torch.autograd.gradcheck(lambda v, t, b=block: order_similarity(v, t, direction, b), (image, text))
    pairs = rows(4, 6, 6).requires_grad_()
    for mining in ("all", "hardest"):
        assert torch.autograd.gradcheck(
            lambda v, t, m=mining: hinge_loss(order_similarity(v, t, direction), 0.05, m, symmetric=True),
            (image, pairs),
        )


def test_only_one_side_may_need_a_gradient():
    image, text = rows(4, 6, 4).requires_grad_(), rows(3, 6, 5)
    order_similarity(image, text).sum().backward()
    expected = image.grad.clone()
    image.grad = None
    at_once(image, text).sum().backward()
    torch.testing.assert_close(image.grad, expected)
    assert text.grad is None


NUMBERS = st.integers(0, 2**31).map(lambda seed: (seed, 1 + seed % 5, 1 + seed // 5 % 4, 1 + seed // 20 % 9))


@settings(max_examples=60, deadline=None)
@given(NUMBERS)
def test_the_two_directions_add_up_to_the_distance(numbers):
    seed, N, M, D = numbers
    image, text = rows(N, D, seed), rows(M, D, seed + 1)
    both = order_similarity(image, text) + order_similarity(image, text, "gxn")
    torch.testing.assert_close(-both, torch.cdist(image, text).square(), rtol=1e-9, atol=1e-9)
    assert torch.equal(order_similarity(image, text, "gxn"), order_similarity(text, image).T)
    image, text = (torch.nn.functional.normalize(x, dim=1).abs() for x in (image, text))
    both = order_similarity(image, text) + order_similarity(image, text, "gxn")
    torch.testing.assert_close(-both, 2 - 2 * image @ text.T, rtol=1e-12, atol=1e-12)


def test_a_text_below_the_image_everywhere_costs_nothing():
    image = torch.tensor([[0.8, 0.6]])
    text = torch.tensor([[0.8, 0.6], [0.5, 0.1], [0.0, 0.0], [0.9, 0.0]])
    assert order_similarity(image, text).tolist() == [pytest.approx([0, 0, 0, -0.01], abs=1e-7)]
    assert order_similarity(image, text, "gxn").tolist() == [pytest.approx([0, -0.34, -1.0, -0.36], abs=1e-6)]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_ties_and_zero_rows_have_finite_gradients(direction):
    """The root of the violation gives NaN where a pair is dominated and has a tie; the square does not."""
    image = torch.tensor([[0.8, 0.6], [0.0, 0.0], [0.8, 0.2]], requires_grad=True)
    text = torch.tensor([[0.8, 0.2], [0.8, 0.6], [0.0, 0.0]], requires_grad=True)
    order_similarity(image, text, direction).sum().backward()
    assert image.grad.isfinite().all()
    assert text.grad.isfinite().all()
    same = torch.tensor([[0.8, 0.6], [0.0, 0.0]])
    image, text = same.clone().requires_grad_(), same.clone().requires_grad_()
    order_similarity(image, text, direction).diagonal().sum().backward()
    assert not image.grad.any()
    assert not text.grad.any()


def test_a_value_that_is_not_finite_stays_visible():
    image = torch.tensor([[math.nan, 1.0], [0.0, 1.0]])
    assert order_similarity(image, torch.ones(3, 2)).isnan().tolist() == [[True] * 3, [False] * 3]


def test_half_precision_is_compared_in_float32_and_empty_sides_stay_empty():
    image, text = rows(4, 6, 4).bfloat16(), rows(3, 6, 5).bfloat16()
    found = order_similarity(image, text)
    assert found.dtype == torch.float32
    assert torch.equal(found, order_similarity(image.float(), text.float()))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(order_similarity(image, text), found)
    assert order_similarity(image.float(), text).dtype == torch.float32
    assert order_similarity(image.double(), text).dtype == torch.float64
    assert order_similarity(image[:0], text).shape == (0, 3)
    assert order_similarity(image, text[:0]).shape == (4, 0)


class Largest(TorchDispatchMode):
    """Notes the bytes of memory behind the largest tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor):
                self.bytes = max(self.bytes, x.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize(("N", "M", "D"), [(300, 500, 1024), (2, 3, 300_000), (1500, 900, 3), (1, 2000, 400)])
def test_no_temporary_is_larger_than_half_of_8_mib(N, M, D):
    """Two are held at a time: the differences, and sums of them in the backward pass. Results do not count."""
    image, text = rows(N, D, 1).requires_grad_(), rows(M, D, 2).requires_grad_()
    result = 8 * max(N * M, N * D, M * D)
    for block in (None, 2**19):
        with Largest() as seen:
            order_similarity(image, text, block=block).sum().backward()
        assert 8 * min(N * M * D, 2**18) <= seen.bytes <= max(result, 2**22)
    if N * M * D < 2 * 10**7:
        with Largest() as seen:
            at_once(image, text).sum().backward()
        assert seen.bytes == 8 * N * M * D


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_on_a_gpu_it_gives_the_same():
    found = []
    for device in ("cpu", "cuda"):
        image, text = (rows(n, 1024, n).to(device).requires_grad_() for n in (60, 90))
        sim = order_similarity(image, text)
        sim.square().sum().backward()
        found.append([x.cpu() for x in (sim, image.grad, text.grad)])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


A = torch.zeros(4, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((A[0], A), r"image_emb \(3,\) and text_emb \(4, 3\) must be \(N, D\) and \(M, D\)"),
        ((A, A[:, :2]), r"\(4, 3\) and text_emb \(4, 2\)"),
        ((A[:, :0], A[:, :0]), "D >= 1"),
        ((A, A, "image"), "'order', 'gxn'.*got 'image'"),
        ((A, A, "order", 0), r"1 to 2\*\*19; got 0"),
        ((A, A, "order", 2**19 + 1), "got 524289"),
        ((A, A, "order", 3.5), "got 3.5"),
        ((A, A, "order", True), "got True"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        order_similarity(*arguments)
