"""The Deep CCA loss against autograd through other square roots, finite differences, CCA, and where others give NaN."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commonspace.losses import correlation, correlation_loss
from commonspace.models import CCA

FORMS = ["trace", "frobenius"]


@pytest.fixture(autouse=True)
def forget_warnings():
    correlation._warn_of_small_batch.cache_clear()


def pairs(seed: int, m: int = 60, d1: int = 5, d2: int = 4, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated outputs with offsets and unlike scales."""
    rng = torch.Generator().manual_seed(seed)
    shared = torch.randn(m, 3, generator=rng, dtype=torch.float64)
    views = []
    for d in (d1, d2):
        x = shared @ torch.randn(3, d, generator=rng, dtype=torch.float64)
        x = x + torch.randn(m, d, generator=rng, dtype=torch.float64)
        scale = torch.rand(d, generator=rng, dtype=torch.float64) + 0.5
        views.append((x * scale + torch.randn(d, generator=rng, dtype=torch.float64)).to(dtype))
    return views[0], views[1]


def gradients(loss, a: torch.Tensor, b: torch.Tensor, **options) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    a, b = a.detach().clone().requires_grad_(), b.detach().clone().requires_grad_()
    value = loss(a, b, **options)
    value.backward()
    return value.detach(), a.grad, b.grad


def assert_close(ours, theirs, **tolerance) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def eigh_form(a, b, ridge=1e-3, form="trace", n_components=None):
    """As the paper writes it: symmetric inverse square roots, everything by autograd."""
    A, B = a - a.mean(dim=0), b - b.mean(dim=0)

    def inverse_root(x):
        w, V = torch.linalg.eigh(x.T @ x / (len(x) - 1) + ridge * torch.eye(x.shape[1], dtype=x.dtype))
        return V @ torch.diag(w**-0.5) @ V.T

    s = torch.linalg.svdvals(inverse_root(A) @ (A.T @ B / (len(A) - 1)) @ inverse_root(B))[:n_components]
    return -(s.sum() if form == "trace" else s.square().sum())


# ---- value and gradient ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "k"), [("trace", None), ("trace", 1), ("trace", 3), ("frobenius", None)])
@pytest.mark.parametrize("shape", [(60, 5, 4), (40, 3, 7), (30, 6, 6)])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_autograd_through_symmetric_square_roots(form, k, shape, seed):
    a, b = pairs(seed, *shape)
    for ridge in (0.0, 1e-3, 0.3):
        options = {"ridge": ridge, "form": form, "n_components": k}
        ours, theirs = (gradients(loss, a, b, **options) for loss in (correlation_loss, eigh_form))
        assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(2, 6), st.sampled_from(FORMS))
def test_equals_autograd_on_random_inputs(seed, d1, d2, form):
    a, b = pairs(seed, 25, d1, d2)
    ours, theirs = (gradients(loss, a, b, form=form) for loss in (correlation_loss, eigh_form))
    assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"n_components": 2}, {"form": "frobenius"}, {"ridge": 0.2}])
def test_gradient_equals_finite_differences(options):
    a, b = (x.requires_grad_() for x in pairs(3, 12, 4, 3))
    assert torch.autograd.gradcheck(lambda a, b: correlation_loss(a, b, **options), (a, b))


def test_gradient_is_scaled_by_what_comes_after_and_reaches_one_side_alone():
    a, b = pairs(0)
    _, grad_a, _ = gradients(correlation_loss, a, b)
    a.requires_grad_()
    (-2.5 * correlation_loss(a, b)).backward()
    torch.testing.assert_close(a.grad, -2.5 * grad_a)


@pytest.mark.parametrize("seed", [0, 1])
def test_without_a_ridge_it_is_the_total_correlation_of_linear_cca(seed):
    a, b = pairs(seed, 100, 6, 5)
    rho = CCA(n_components=5).fit(a, b).correlations_
    assert correlation_loss(a, b, ridge=0.0).item() == pytest.approx(-rho.sum(), abs=1e-9)
    assert correlation_loss(a, b, ridge=0.0, n_components=2).item() == pytest.approx(-rho[:2].sum(), abs=1e-9)
    assert correlation_loss(a, b, ridge=0.0, form="frobenius").item() == pytest.approx(-(rho**2).sum(), abs=1e-9)


def test_the_ridge_is_absolute():
    """One pair of outputs: corr = cov / sqrt((var + r)(var + r))."""
    a, b = pairs(5, 20, 1, 1)
    C = np.cov(a[:, 0], b[:, 0])
    expected = -abs(C[0, 1]) / np.sqrt((C[0, 0] + 0.7) * (C[1, 1] + 0.7))
    assert correlation_loss(a, b, ridge=0.7).item() == pytest.approx(expected, abs=1e-12)


def test_it_is_none_of_the_forms_that_pass_for_it():
    a, b = pairs(2)
    value = correlation_loss(a, b, ridge=0.0).item()
    rho = CCA(n_components=4).fit(a, b).correlations_
    assert abs(value + np.sqrt((rho**2).sum())) > 0.1  # sqrt(trace(T'T))
    assert abs(value - correlation_loss(a, b, ridge=0.0, form="frobenius").item()) > 0.1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_order_of_pairs_offsets_and_mixing_of_outputs_change_nothing(form, seed):
    a, b = pairs(seed)
    value, grad_a, grad_b = gradients(correlation_loss, a, b, form=form)
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(seed))
    permuted = gradients(correlation_loss, a[order], b[order], form=form)
    assert_close(permuted, (value, grad_a[order], grad_b[order]))
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    torch.testing.assert_close(correlation_loss(a @ rotation + 3.0, b - 7.0, form=form), value)
    torch.testing.assert_close(correlation_loss(b, a, form=form), value)
    assert abs(correlation_loss(a[order], b, form=form) - value) > 1e-3  # but the pairing counts


def test_a_step_down_the_gradient_correlates_more():
    a, b = pairs(1)
    value, grad_a, grad_b = gradients(correlation_loss, a, b)
    assert correlation_loss(a - 0.5 * grad_a, b - 0.5 * grad_b) < value - 1e-3


# ---- where inverse square roots by eigh give NaN ---------------------------------------------------------------------


def dead(a, b):
    """As behind a ReLU that never opens."""
    return torch.cat([a, torch.zeros_like(a[:, :1]).repeat(1, 8)], 1), torch.cat([torch.zeros_like(b), b], 1)


def constant(a, b):
    a, b = a.clone(), b.clone()
    a[:, :3], b[:, 1:3] = 0.37, -12.0
    return a, b


def equal_eigenvalues(a, b):
    """Columns of a Hadamard matrix: the covariance is a multiple of the identity, to the last bit."""
    H = torch.tensor([[1.0]], dtype=a.dtype)
    while len(H) < 64:
        H = torch.cat([torch.cat([H, H], 1), torch.cat([H, -H], 1)])
    return H[:, 1:6].clone(), H[:, [1, 2, 9, 10]].clone()


def zero(a, b):
    return torch.zeros_like(a), torch.zeros_like(b)


def identical(a, b):
    return a.clone(), a.clone()


def duplicated(a, b):
    return torch.cat([a, a[:, :2]], 1), torch.cat([b, b], 1)


def huge(a, b):
    """Rows in the span of two directions, with a variance of 1e6: the ridge is 1e-9 of it."""
    return 1e3 * a[:, :2] @ a[:2], 1e3 * b[:, :2] @ b[:2]


HARD = [dead, constant, equal_eigenvalues, zero, identical, duplicated, huge]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("seed", [0, 1])
def test_finite_and_in_range_where_other_forms_are_not(case, dtype, form, seed):
    a, b = case(*pairs(seed, 64, dtype=dtype))
    value, grad_a, grad_b = gradients(correlation_loss, a, b, form=form)
    assert torch.isfinite(grad_a).all()
    assert torch.isfinite(grad_b).all()
    assert -min(a.shape[1], b.shape[1]) - 1e-5 <= value.item() <= 0
    assert value.dtype == grad_a.dtype == grad_b.dtype == dtype
    if case is not huge:  # its float32 inputs are already rounded: another batch
        exact = gradients(correlation_loss, a.double(), b.double(), form=form)
        torch.testing.assert_close(value.double(), exact[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(grad_a.double(), exact[1], atol=1e-3 * exact[1].abs().max().item() + 1e-9, rtol=0)


@pytest.mark.parametrize("case", [dead, equal_eigenvalues])
def test_the_hard_cases_are_hard(case):
    a, b = case(*pairs(0, 64, dtype=torch.float32))
    assert any(not torch.isfinite(grad).all() for grad in gradients(eigh_form, a, b)[1:])


def test_constant_outputs_neither_count_nor_get_a_gradient():
    a, b = constant(*pairs(4))
    value, grad_a, grad_b = gradients(correlation_loss, a, b)
    torch.testing.assert_close(value, correlation_loss(a[:, 3:], b[:, [0, 3]]))
    assert grad_a[:, :3].abs().max() < 1e-12
    assert grad_b[:, 1:3].abs().max() < 1e-12
    assert grad_a[:, 3:].abs().max() > 1e-4


def test_where_the_trace_norm_has_a_kink_the_gradient_is_the_smallest():
    """Of 6 outputs 3 are dead, so 3 correlations are 0, and their directions in the living view are arbitrary."""
    a, b = pairs(6, 60, 6, 6)
    a[:, 3:] = 0.0
    _, grad_a, grad_b = gradients(correlation_loss, a, b)
    _, living_a, living_b = gradients(correlation_loss, a[:, :3], b)
    assert grad_a[:, 3:].abs().max() < 1e-12
    torch.testing.assert_close(grad_a[:, :3], living_a)
    torch.testing.assert_close(grad_b, living_b)


def test_identical_views_correlate_fully():
    a, _ = pairs(0)
    assert correlation_loss(a, a, ridge=0.0).item() == pytest.approx(-5.0, abs=1e-9)
    assert -5.0 < correlation_loss(a, a, ridge=0.1).item() < -4.0


def test_a_small_batch_is_warned_of_once_with_the_cure():
    a, b = pairs(0, 8, 16, 3)
    with pytest.warns(UserWarning, match=r"batch of 8 for 16 outputs.*batch_size of at least 64 .*narrower") as caught:
        value, grad_a, _ = gradients(correlation_loss, a, b)
    assert caught[0].filename == __file__
    assert value.item() == pytest.approx(-3.0, abs=0.1)
    assert torch.isfinite(grad_a).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        correlation_loss(a, b)
        correlation_loss(*pairs(0, 17, 16, 3))  # enough pairs


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", [(64, 5, 4), (200, 40, 30), (48, 40, 40)])
@pytest.mark.parametrize("form", FORMS)
def test_float32_is_as_good_as_its_inputs(seed, shape, form):
    a, b = pairs(seed, *shape, dtype=torch.float32)
    exact = gradients(correlation_loss, a.double(), b.double(), form=form)
    for ours, theirs in zip(gradients(correlation_loss, a, b, form=form), exact, strict=True):
        assert (ours.double() - theirs).norm() < 1e-3 * theirs.norm()


@pytest.mark.filterwarnings("ignore:batch of")
@pytest.mark.parametrize("form", FORMS)
def test_float32_is_left_for_float64_where_it_would_not_do(form):
    """Fewer pairs than outputs of variance some 100s: in float32 the value would be wrong in its third figure."""
    a, b = (10 * x for x in pairs(0, 64, 128, 128, dtype=torch.float32))
    exact = gradients(correlation_loss, a.double(), b.double(), form=form)
    for ours, theirs in zip(gradients(correlation_loss, a, b, form=form), exact, strict=True):
        assert (ours.double() - theirs).norm() < 1e-5 * theirs.norm()


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_and_autocast_are_left_for_float32(form):
    a, b = pairs(0, dtype=torch.bfloat16)
    expected = gradients(correlation_loss, a.float(), b.float(), form=form)
    value, grad_a, _ = gradients(correlation_loss, a, b, form=form)
    assert (value.dtype, grad_a.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(grad_a.float(), expected[1], atol=0, rtol=1e-2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = gradients(correlation_loss, a.float(), b.float(), form="trace")
    outside = gradients(correlation_loss, a.float(), b.float(), form="trace")
    assert_close(within, outside, atol=0, rtol=0)


def test_without_gradients_it_is_a_number():
    a, b = pairs(0)
    with torch.no_grad():
        value = correlation_loss(a.requires_grad_(), b)
    assert not value.requires_grad
    assert value.item() == correlation_loss(a, b).item()


# ---- what is refused ------------------------------------------------------------------------------------------------

A, B = pairs(0)
NAN = A.clone()
NAN[[7, 9], 2] = torch.nan
CONSTANT = torch.full((60, 3), 2.0, dtype=torch.float64)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((A[:, 0], B), {}, r"a must be floats of shape \(m, d\).*\(60,\)"),
        ((A, B.long()), {}, r"b must be floats .*int64"),
        ((A[:, :0], B), {}, "a must be floats"),
        ((A[:-1], B), {}, "a has 59 rows and b has 60"),
        ((A[:1], B[:1]), {}, "at least 2"),
        ((NAN, B), {}, r"a has NaN or infinite values in 2 row\(s\), the first is row 7"),
        ((A, B / 0), {}, "b has NaN or infinite values in 60"),
        ((A, B), {"ridge": -1e-3}, "ridge must be a number >= 0"),
        ((A, B), {"ridge": float("nan")}, "ridge must be a number >= 0"),
        ((A, B), {"form": "nuclear"}, "form must be 'trace' or 'frobenius', got 'nuclear'"),
        ((A, B), {"n_components": 5}, "n_components goes with form='trace' and is 1 to 4"),
        ((A, B), {"n_components": 0}, "n_components"),
        ((A, B), {"n_components": 2, "form": "frobenius"}, "n_components goes with form='trace'"),
        ((CONSTANT, B), {"ridge": 0.0}, "constant or collinear .* larger ridge"),
        ((torch.cat([A, A[:, :1]], 1), B), {"ridge": 0.0}, "constant or collinear"),
        ((1e8 * torch.cat([A, A[:, :1]], 1), B), {}, "constant or collinear"),
    ],
)
def test_bad_arguments_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        correlation_loss(*arguments, **options)


# ---- on a GPU -------------------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", [lambda a, b: (a, b), *HARD])
def test_a_gpu_gives_the_same(form, case):
    a, b = case(*pairs(0, 64))
    here, there = (gradients(correlation_loss, a.to(device), b.to(device), form=form) for device in ("cpu", "cuda"))
    assert all(x.device.type == "cuda" for x in there)
    assert_close([x.cpu() for x in there], here, atol=1e-6, rtol=1e-6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_autocast_on_a_gpu_leaves_it_alone():
    a, b = (x.cuda() for x in pairs(0, 200, 40, 30, dtype=torch.float32))
    with torch.autocast("cuda", dtype=torch.bfloat16):
        within = gradients(correlation_loss, a, b)
    assert_close(within, gradients(correlation_loss, a, b))
