"""The four terms against loops over pairs and features."""

import pytest
import torch

from commonspace.losses import reconstruction_loss


def rows(seed: int, n: int = 6, p: int = 5, q: int = 3) -> tuple:
    rng = torch.Generator().manual_seed(seed)
    image, text = torch.randn(n, p, generator=rng), torch.randn(n, q, generator=rng)
    from_image = torch.randn(n, p, generator=rng), torch.randn(n, q, generator=rng)
    return image, text, from_image, (torch.randn(n, p, generator=rng), torch.randn(n, q, generator=rng))


def by_loops(wanted: torch.Tensor, rebuilt: torch.Tensor) -> float:
    pairs = zip(wanted.tolist(), rebuilt.tolist(), strict=True)
    return sum(sum((x - y) ** 2 for x, y in zip(*pair, strict=True)) for pair in pairs) / len(wanted)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_four_terms_by_loops(seed):
    image, text, (vi, ti), (vt, tt) = rows(seed)
    expected = by_loops(image, vi) + by_loops(text, ti) + by_loops(image, vt) + by_loops(text, tt)
    assert reconstruction_loss(image, text, (vi, ti), (vt, tt)).item() == pytest.approx(expected, rel=1e-5)
    crossed = by_loops(text, ti) + by_loops(image, vt)
    assert reconstruction_loss(image, text, (vi, ti), (vt, tt), "cross").item() == pytest.approx(crossed, rel=1e-5)
    assert abs(crossed - expected) > 0.1


@pytest.mark.parametrize(("terms", "reached"), [("four", [0, 1, 2, 3]), ("cross", [1, 2])])
def test_each_term_reaches_what_it_judges(terms, reached):
    image, text, from_image, from_text = rows(3)
    rebuilt = [x.requires_grad_() for x in (*from_image, *from_text)]
    reconstruction_loss(image, text, from_image, from_text, terms).backward()
    assert [i for i, x in enumerate(rebuilt) if x.grad is not None] == reached
    gradient = 2 * (rebuilt[1] - text).detach() / len(text)  # of ||t - t^I||^2
    torch.testing.assert_close(rebuilt[1].grad, gradient)


def test_what_is_rebuilt_exactly_costs_nothing():
    image, text, *_ = rows(4)
    assert reconstruction_loss(image, text, (image, text), (image, text)) == 0


def test_bad_input_is_refused_with_the_reason():
    image, text, from_image, from_text = rows(5)
    with pytest.raises(ValueError, match="terms must be one of 'four', 'cross'; got 'none'"):
        reconstruction_loss(image, text, from_image, from_text, "none")
    with pytest.raises(ValueError, match=r"image from image: \(6, 3\) was rebuilt of rows \(6, 5\)"):
        reconstruction_loss(image, text, from_image[::-1], from_text)
    with pytest.raises(ValueError, match=r"text from text: \(6, 1\) was rebuilt"):
        reconstruction_loss(image, text, from_image, (from_text[0], from_text[1][:, :1]))
