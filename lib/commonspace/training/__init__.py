"""Training: the loop, seeds, checkpoints, logs and several processes. It knows no model and no data set."""

from commonspace.training.checkpoint import load_model, load_state, save_model, save_state
from commonspace.training.distributed import all_gather, is_main, pick_device, rank, setup, world_size
from commonspace.training.log import History
from commonspace.training.loop import train
from commonspace.training.seed import batches, epoch_order, seed_everything, seeded

__all__ = [
    "History",
    "all_gather",
    "batches",
    "epoch_order",
    "is_main",
    "load_model",
    "load_state",
    "pick_device",
    "rank",
    "save_model",
    "save_state",
    "seed_everything",
    "seeded",
    "setup",
    "train",
    "world_size",
]
