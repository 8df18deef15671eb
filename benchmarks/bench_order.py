"""Order violations of all pairs, forward and backward: python benchmarks/bench_order.py

Ours beside two ways to write the formula down: all N x M x D differences in one tensor, squared and summed, as the
released code of VSE++ has it (which then takes a root), and one image at a time against all texts. float32, unit rows
without negative numbers; values and gradients are compared first. Memory is that of one run in a process of its own.
"""

from collections.abc import Callable

import _bench
import torch
from torch import Tensor
from torch.nn import functional as F

from commonspace.losses import order_similarity

# images, texts, numbers a row, with gradients, repeats of each method
SIZES = [(128, 128, 1024, True, 11), (1000, 1000, 1024, False, 3)]


def all_at_once(image: Tensor, text: Tensor) -> Tensor:
    return -(text[None] - image[:, None]).clamp(min=0).pow(2).sum(dim=2)


def image_by_image(image: Tensor, text: Tensor) -> Tensor:
    return -torch.stack([(text - v).clamp(min=0).pow(2).sum(dim=1) for v in image])


METHODS = {"commonspace": order_similarity, "all differences at once": all_at_once, "image by image": image_by_image}


def prepared(method: str, N: int, M: int, D: int, backward: bool) -> Callable[[], tuple[Tensor, ...]]:
    """A run of the method on fresh rows: the similarities and, if ``backward``, the gradients of both sides."""
    rng = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(n, D, generator=rng), dim=1).abs() for n in (N, M))
    upstream = torch.randn(N, M, generator=rng)

    def run() -> tuple[Tensor, ...]:
        if not backward:
            return (METHODS[method](image, text),)
        sides = [x.detach().requires_grad_() for x in (image, text)]
        sim = METHODS[method](*sides)
        sim.backward(upstream)
        return sim.detach(), *(x.grad for x in sides)

    return run


def compare(N: int, M: int, D: int, backward: bool, repeats: int, weighed: list[str]) -> list[dict]:
    """Rows of the table for one size; ``weighed``: the methods whose memory is measured."""
    size = {"N": N, "M": M, "D": D, "backward": backward}
    runs = {name: prepared(name, **size) for name in METHODS}
    ours = runs["commonspace"]()
    for name, run in runs.items():
        for expected, found in zip(ours, run(), strict=True):
            _bench.same({"commonspace": 0.0, name: ((found - expected).norm() / expected.norm()).item()}, within=1e-5)
    of = {"images": N, "texts": M, "numbers a row": D, "gradients": "yes" if backward else "no"}
    grown = {name: round(_bench.peak_memory("bench_order", "prepared", method=name, **size)[1]) for name in weighed}
    return [
        of
        | {"method": row["method"], "ms": 1e3 * row["seconds"], "repeats": row["repeats"], "ratio": row["ratio"]}
        | {"peak MiB": grown.get(row["method"], "")}
        for row in _bench.race(runs, repeats)
    ]


def run(tiny: bool = False) -> list[dict]:
    if tiny:
        return compare(8, 9, 16, True, 2, ["commonspace"])
    return [row for size in SIZES for row in compare(*size, [*METHODS])]


if __name__ == "__main__":
    _bench.main("order", "Order violations of all pairs of N images and M texts", run, peers=())
