"""Where a run computes: one device, or one process a device under ``torchrun``, each with its slice of every batch.

In-batch losses see the GLOBAL batch: ``all_gather`` the embeddings of all processes and let gradients flow back to the
process each row came from. DDP averages the gradients of W processes, and the backward pass of ``all_gather`` sums
over them, so no loss needs a factor of its own:

- losses with one term a row: every process takes the mean over ITS OWN rows, against the gathered ones;
- losses of the whole batch (CCA): every process computes the same loss on the gathered rows.

Two ways that look right are not. torch.distributed.all_gather alone cuts the gradient at the other processes' rows.
Putting the own slice back into what it returned (times W, to make up for DDP's mean) leaves out how the own rows act
on the other processes' losses, and multiplies the gradient of whatever is not gathered (a temperature).
"""

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.parallel import DistributedDataParallel


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """``"auto"``: cuda, mps, cpu, the first that is here; under torchrun each process takes a GPU of its own.

    Raises ValueError when the device asked for is not on this machine.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    picked = torch.device(next(name for name in here if here[name]) if device == "auto" else device)
    if not here.get(picked.type, True):
        raise ValueError(
            f"device {device!r} is not on this machine; take one of {[d for d in here if here[d]]} or 'auto'"
        )
    if picked.type == "cuda" and picked.index is None and _started() > 1:
        index, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if index >= count:
            raise ValueError(f"process {index} of this machine has no GPU: there are {count}; start {count} processes")
        return torch.device("cuda", index)
    return picked


@contextlib.contextmanager
def setup(device: str | torch.device = "auto") -> Iterator[torch.device]:
    """``with setup() as device:`` joins the processes that torchrun started, and leaves them at the end.

    nccl between GPUs, gloo otherwise. Without torchrun, or with one process, it does nothing but pick the device.
    """
    picked = pick_device(device)
    if _started() == 1 or dist.is_initialized():
        yield picked
        return
    if picked.type == "cuda":
        torch.cuda.set_device(picked)
    dist.init_process_group("nccl" if picked.type == "cuda" else "gloo")
    try:
        yield picked
        dist.barrier()  # a process that leaves while another still speaks to it may bring that one down
    finally:
        dist.destroy_process_group()


def _started() -> int:
    """How many processes torchrun started."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1


def rank() -> int:
    """This process's number, 0 .. world_size() - 1."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together. Raises RuntimeError under torchrun outside of ``with setup():``."""
    if _started() > 1 and not dist.is_initialized():
        raise RuntimeError("torchrun started several processes, which must join first: train inside `with setup():`")
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and shows progress."""
    return rank() == 0


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = x.new_zeros(max(sizes), *x.shape[1:])  # the collective wants equal shapes
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)  # every process's loss depends on every row
        return grad.split(ctx.sizes)[rank()], None


def all_gather(x: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks, (sum of n, ...) from (n, ...); differentiable.

    ``n`` may differ between processes, the rest of the shape may not: ValueError on every process. Alone: ``x`` itself.
    """
    if world_size() == 1:
        return x
    if not 1 <= x.ndim <= 8:
        raise ValueError(f"all_gather takes tensors of 1 to 8 dimensions, rows first; got shape {tuple(x.shape)}")
    shape = torch.tensor([*x.shape] + [-1] * (8 - x.ndim), device=x.device)
    shapes = [torch.empty_like(shape) for _ in range(world_size())]
    dist.all_gather(shapes, shape)
    rows = [[size for size in other.tolist() if size >= 0] for other in shapes]
    if any(other[1:] != rows[0][1:] for other in rows):
        raise ValueError(f"the processes gather rows of different shapes: {[tuple(other) for other in rows]}")
    return _AllGather.apply(x, [other[0] for other in rows])


def average(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Each number's mean over all processes; all must name the same ones."""
    if world_size() == 1:
        return values
    numbers = torch.tensor([values[name] for name in sorted(values)], device=device)
    dist.all_reduce(numbers)
    return dict(zip(sorted(values), (numbers / world_size()).tolist(), strict=True))


def gather_objects(thing: object) -> list:
    """``thing`` of every process, in the order of their ranks, on every process."""
    things = [thing] * world_size()
    if world_size() > 1:
        dist.all_gather_object(things, thing)
    return things


def wrap(module: nn.Module, device: torch.device) -> nn.Module:
    """The module in DistributedDataParallel where there are several processes; alone, the module itself."""
    if world_size() == 1:
        return module
    ids = [device.index] if device.type == "cuda" else None
    # One optimiser's step may leave the weights of the others unused.
    return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=True)
