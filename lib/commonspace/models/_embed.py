"""All the outputs of an encoder, block by block."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def embed(encoder: nn.Module, items: Any, batch_size: int = 512, call: Callable[[Any], Tensor] | None = None) -> Tensor:
    """Items, in whatever form the encoder takes, -> (n, out_dim) float32 on the CPU.

    In evaluation mode; the encoder's mode is put back. ``call``: what of it is called, if not itself. Raises ValueError
    where there are no items.
    """
    if len(items) == 0:
        raise ValueError("there is nothing to embed: the number of items is 0")
    was_training = encoder.training
    encoder.eval()
    first = next(encoder.parameters(), next(encoder.buffers(), None))
    device = torch.device("cpu") if first is None else first.device
    outputs, call = [], call or encoder
    try:
        for start in range(0, len(items), batch_size):
            batch = items[start : start + batch_size]
            outputs.append(call(batch.to(device) if isinstance(batch, Tensor) else batch).float().cpu())
    finally:
        encoder.train(was_training)
    return torch.cat(outputs)
