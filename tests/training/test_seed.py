"""Which rows a step sees, and the state of the random generators."""

import io
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from commonspace.training import batches, epoch_order, seed_everything, seeded
from commonspace.training.seed import count_batches, rng_state, set_rng_state


def draw() -> list[float]:
    return [random.random(), float(np.random.normal()), *torch.rand(3).tolist()]  # noqa: NPY002


@given(n=st.integers(1, 300), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 10**6))
def test_an_epoch_is_a_permutation_and_a_function_of_its_arguments(n, seed, epoch):
    torch.manual_seed(epoch)  # of no consequence
    order = epoch_order(n, seed, epoch)
    assert order.dtype == torch.int64
    assert order.sort().values.tolist() == list(range(n))
    assert torch.equal(order, epoch_order(n, seed, epoch))
    assert epoch_order(n, seed, epoch, shuffle=False).tolist() == list(range(n))


def test_seeds_and_epochs_give_other_orders():
    orders = [tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(10) for epoch in range(10)]
    assert len(set(orders)) == 100


def test_the_order_stays_what_it_is():  # a change of it would change every number that is on record
    assert epoch_order(8, 0, 0).tolist() == np.random.default_rng([0, 0]).permutation(8).tolist()
    assert epoch_order(8, 0, 1).tolist() == np.random.default_rng([0, 1]).permutation(8).tolist()


@given(
    n=st.integers(1, 99),
    per_rank=st.integers(1, 6),
    world=st.integers(1, 5),
    seed=st.integers(0, 9),
    drop=st.booleans(),
)
def test_the_ranks_share_the_batches_of_one(n, per_rank, world, seed, drop):
    size = per_rank * world
    last = n % size
    if (drop and n < size) or (not drop and 0 < last < world):
        with pytest.raises(ValueError, match="drop_last"):
            batches(n, size, seed, 3, drop, 0, world)
        return
    whole = batches(n, size, seed, 3, drop)
    assert torch.equal(torch.cat(whole), epoch_order(n, seed, 3)[: n - last if drop else n])
    assert [len(batch) for batch in whole] == [size] * (n // size) + [last] * (not drop and last > 0)
    assert len(whole) == count_batches(n, size, drop, world)
    parts = [batches(n, size, seed, 3, drop, rank, world) for rank in range(world)]
    for i, batch in enumerate(whole):
        slices = [part[i] for part in parts]
        assert torch.equal(torch.cat(slices), batch)
        lengths = [len(rows) for rows in slices]
        assert min(lengths) >= 1
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 6, 0, 0), "5 rows make no batch of 6"),
        ((0, 6, 0, 0), "at least 1"),
        ((5, 0, 0, 0), "at least 1"),
        ((20, 5, 0, 0, True, 0, 2), "5 is no multiple of 2 processes"),
        ((9, 4, 0, 0, False, 0, 2), "the last batch has 1 row"),
        ((9, 4, -1, 0), "seed must be"),
        ((9, 4, 2**32, 0), "seed must be"),
        ((9, 4, True, 0), "seed must be"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        batches(*arguments)


def test_seeding_repeats_all_generators_and_ranks_differ():
    drawn = []
    for seed, rank in [(4, 0), (4, 0), (5, 0), (4, 1), (4, 2)]:
        with seeded(seed, rank):
            drawn.append(draw())
    assert drawn[0] == drawn[1]
    for other in drawn[2:]:
        assert all(a != b for a, b in zip(drawn[0], other, strict=True))
    with pytest.raises(ValueError, match="seed must be"):
        seed_everything(-1)


def test_the_block_leaves_the_callers_generators_alone():
    seed_everything(7)
    expected = [draw(), draw()]
    seed_everything(7)
    first = draw()
    with pytest.raises(TypeError), seeded(1):
        draw().append()
    assert [first, draw()] == expected


@pytest.mark.parametrize("seed", [0, 1])
def test_the_state_survives_a_file(seed):
    with seeded(seed):
        draw()
        np.random.normal()  # noqa: NPY002 - it keeps a second number for later
        file = io.BytesIO()
        torch.save(rng_state(), file)
        expected = draw()
        draw()
        file.seek(0)
        set_rng_state(torch.load(file, weights_only=True))
        assert draw() == expected


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_state_holds_the_gpus():
    with seeded(0):
        state = rng_state()
        expected = torch.rand(4, device="cuda")
        torch.rand(9, device="cuda")
        set_rng_state(state)
        assert torch.equal(torch.rand(4, device="cuda"), expected)
