"""Randomness: which rows a step sees is a function of (seed, epoch, index); the rest is seeded, kept and put back."""

import contextlib
import operator
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python's, numpy's and torch's global generators (all devices); each rank draws numbers of its own.

    ``seed`` in [0, 2**32). Raises ValueError when it is not.
    """
    seed = _seed(seed)
    if rank:
        seed = int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - code that draws from the global generator is what this is for
    torch.manual_seed(seed)


def rng_state() -> dict:
    """The state of Python's, numpy's and torch's global generators, in types that ``weights_only=True`` loads."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def set_rng_state(state: dict) -> None:
    """Put back what ``rng_state`` gave; a device that is not here, or was not there, is passed over."""
    name, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    for index, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, index)
    if state["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


@contextlib.contextmanager
def seeded(seed: int, rank: int = 0) -> Iterator[None]:
    """``with seeded(0):`` the block draws from fresh generators; afterwards the caller's own go on as if it had not."""
    before = rng_state()
    try:
        seed_everything(seed, rank)
        yield
    finally:
        set_rng_state(before)


def epoch_order(n: int, seed: int, epoch: int, shuffle: bool = True) -> Tensor:
    """The ids 0 .. n - 1 in the order of one epoch, (n,) int64: a function of the arguments alone."""
    return torch.from_numpy(np.random.default_rng([_seed(seed), epoch]).permutation(n)) if shuffle else torch.arange(n)


def batches(
    n: int, batch_size: int, seed: int, epoch: int, drop_last: bool = True, rank: int = 0, world_size: int = 1
) -> list[Tensor]:
    """The ids of each batch of an epoch, (b,) int64; with several ranks, this rank's own slice of each batch.

    The global batches do not depend on ``world_size``: the slices of all ranks, in their order, are the batch of one
    process. A last batch that is not full is dropped, or kept (``drop_last=False``) in slices that differ by one row
    at most.

    Raises ValueError when there is no batch, when ``batch_size`` is no multiple of ``world_size``, or when the last
    batch that is kept has fewer rows than there are ranks.
    """
    size = count_batches(n, batch_size, drop_last, world_size) * batch_size
    order = epoch_order(n, seed, epoch)[:size]
    return [batch.tensor_split(world_size)[rank] for batch in order.split(batch_size)]


def count_batches(n: int, batch_size: int, drop_last: bool = True, world_size: int = 1) -> int:
    """How many batches an epoch of ``n`` rows has. Raises ValueError as ``batches`` does."""
    if n < 1 or batch_size < 1:
        raise ValueError(f"n and batch_size must be at least 1; got n={n}, batch_size={batch_size}")
    if batch_size % world_size:
        raise ValueError(f"batch_size counts all processes: {batch_size} is no multiple of {world_size} processes")
    full, last = divmod(n, batch_size)
    if drop_last and not full:
        raise ValueError(f"{n} rows make no batch of {batch_size}: take batch_size <= {n}, or drop_last=False")
    if not drop_last and 0 < last < world_size:
        raise ValueError(
            f"the last batch has {last} row(s), too few for {world_size} processes: another batch_size, or drop_last"
        )
    return full if drop_last or not last else full + 1


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not 0 <= operator.index(seed) < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 2**32 - 1; got {seed!r}")
    return operator.index(seed)
