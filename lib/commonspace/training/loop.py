"""The training loop: a module, a step that gives a loss, and optimisers go in, trained weights come out.

A run that is killed and started again with the same arguments goes on from its last checkpoint and ends with the same
weights and the same log as one that was never stopped: bit for bit on a CPU. Which rows a step sees depends on (seed,
epoch, index) alone; weights, optimisers, schedulers and random generators are in the checkpoint. Whatever else must
survive belongs into the module, as a persistent buffer.
"""

import copy
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from commonspace.training import checkpoint, distributed, log
from commonspace.training import seed as seeds

PRECISIONS = ("float32", "bfloat16")


class _Step(nn.Module):
    """The step as the forward of a module: only around a forward does DDP gather what it averages."""

    def __init__(self, module: nn.Module, step: Callable[..., Mapping[str, Tensor | float]]):
        super().__init__()
        self.module, self.step = module, step

    def forward(self, *arguments: Any) -> dict[str, Tensor | float]:
        terms = self.step(self.module, *arguments)
        if not isinstance(terms, Mapping) or "loss" not in terms:
            got = list(terms) if isinstance(terms, Mapping) else type(terms).__name__
            raise ValueError(f"step must return a dict of named scalars, 'loss' among them; got {got}")
        if long := [key for key, x in terms.items() if torch.as_tensor(x).numel() != 1]:
            raise ValueError(f"step must return scalars; {long} hold more than one number")
        loss = terms["loss"]
        if not isinstance(loss, Tensor) or not loss.requires_grad:
            raise ValueError(f"step's 'loss' must be one number with a gradient; got {loss!r}")
        # The other terms are only told; left in the graph, they would make DDP wait for gradients that never come.
        return {key: x.detach() if isinstance(x, Tensor) and key != "loss" else x for key, x in terms.items()}


@dataclasses.dataclass
class _Run:
    """All that a run is at one moment, and so all that a checkpoint holds."""

    module: nn.Module
    optimizers: dict[str, Optimizer]
    schedulers: dict[str, LRScheduler]
    fingerprint: dict[str, str]
    history: log.History = dataclasses.field(default_factory=log.History)
    best: dict | None = None  # weights
    sums: dict[str, list[float]] = dataclasses.field(default_factory=dict)  # since the last row: [total, count]
    done: int = 0  # steps

    def descend(self, name: str, loss: Tensor, clip: float | None) -> float:
        """One step of one optimiser. Returns the norm of the gradient; unless that is finite, no weight has changed."""
        loss.backward()
        optimizer = self.optimizers[name]
        weights = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not weights:
            raise ValueError(f"the loss depends on none of the weights of its optimiser {name!r}")
        norm = nn.utils.get_total_norm([p.grad for p in weights])
        if math.isfinite(norm):
            if clip is not None:
                nn.utils.clip_grads_with_norm_(weights, clip, norm)
            optimizer.step()
        return float(norm)

    def judge(self, validate: Callable[[nn.Module], float], epoch: int) -> float:
        """The value of this epoch's weights, which are kept if they are the best so far."""
        self.module.eval()
        with torch.no_grad():
            value = float(validate(self.module)) if distributed.is_main() else None
        self.module.train()
        value = distributed.gather_objects(value)[0]
        if math.isnan(value):
            raise ValueError(f"validate returned NaN after epoch {epoch}; it must return a number, higher is better")
        if self.history.best_value is None or value > self.history.best_value:
            self.history.best_epoch, self.history.best_value = epoch, value
            self.best = copy.deepcopy(self.module.state_dict())
        return value

    def means(self, device: torch.device) -> dict[str, float]:
        """The mean of every scalar since the last row, over all processes."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return distributed.average(means, device)

    def save(self, file: Path) -> None:
        """Write everything to ``file``; every process must call it."""
        state = {name: getattr(self, name) for name in ("fingerprint", "done", "sums", "best")}
        state |= {"history": dataclasses.asdict(self.history), "rngs": distributed.gather_objects(seeds.rng_state())}
        state |= {"module": self.module.state_dict()}
        for kind in ("optimizers", "schedulers"):
            state[kind] = {name: thing.state_dict() for name, thing in getattr(self, kind).items()}
        if distributed.is_main():
            checkpoint.save_state(file, state)
        distributed.gather_objects(None)  # nobody goes on, perhaps to read it, before the file is there

    def load(self, file: Path, total: int) -> None:
        """Become what ``save`` wrote. Raises ValueError when that is another run, or further than ``total`` steps."""
        state = checkpoint.load_state(file) if file.exists() else None
        if len(set(distributed.gather_objects(state and state["done"]))) > 1:
            raise ValueError(f"the processes see different files at {file}: output must be a folder that all share")
        if state is None:
            return
        then, now = state["fingerprint"], self.fingerprint
        names = [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
        wrong = [f"{name}: {then.get(name, 'none')} then, {now.get(name, 'none')} now" for name in names]
        if state["done"] > total:
            wrong.append(f"epochs: {state['done']} steps are done, {total} are asked for")
        if wrong:
            shown = "\n  ".join(wrong[:8] + [f"and {len(wrong) - 8} more"] * (len(wrong) > 8))
            raise ValueError(
                f"{file.parent} holds a run with other arguments:\n  {shown}\n"
                "Give it those, name another output, or overwrite the run with resume=False"
            )
        for kind in ("optimizers", "schedulers"):
            for name, thing in getattr(self, kind).items():
                thing.load_state_dict(state[kind][name])
        self.module.load_state_dict(state["module"])
        self.done, self.sums, self.best = state["done"], state["sums"], state["best"]
        self.history = log.History(**state["history"])
        seeds.set_rng_state(state["rngs"][distributed.rank()])


def train(
    module: nn.Module,
    step: Callable[..., Mapping[str, Tensor | float]],
    n: int,
    *,
    optimizers: Optimizer | Mapping[str, Optimizer],
    epochs: int,
    batch_size: int,
    order: Iterable[str] | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    precision: str = "float32",
    compile: bool = False,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    validate: Callable[[nn.Module], float] | None = None,
    checkpoint_every: int | None = None,
    schedulers: LRScheduler | Mapping[str, LRScheduler] | None = None,
    clip: float | None = None,
    drop_last: bool = True,
    log_every: int | None = None,
    config: Mapping[str, Any] | None = None,
) -> log.History:
    """Train ``module`` in place on batches of ids from 0 to n - 1; what was logged is returned.

    - ``step(module, ids, epoch)`` returns named scalars: "loss" is minimised, all are logged. ``ids`` (b,) int64 lie on
      the device; ``epoch`` counts from 0. With several processes it sees its own slice of the batch (``distributed``).
    - ``optimizers`` by name: ``step(module, ids, epoch, name)`` is called for every name in ``order`` (each once, if
      not given; ``("projector",) * 5 + ("classifier",)`` steps one of them five times), always on the same ids and
      from gradients of zero; its scalars are logged as ``name/loss``.
    - ``schedulers``, by name like the optimisers: stepped after every step, not after every epoch.
    - ``clip``: the largest norm of the gradient of one optimiser's weights.
    - ``validate(module)``: after every epoch, in eval mode, on the main process; higher is better. The weights of the
      best epoch (the first among equals) are put back at the end. Without it the last ones stay. Never the test set.
    - ``output``: the folder of ``log.csv`` and ``state.pt``, which is written every ``checkpoint_every`` steps, by
      default after every epoch. With ``resume`` a run found there goes on (to more ``epochs``, if asked) provided that
      it had the same arguments and the same ``config``: whatever else makes the run what it is, such as weights of
      losses. Without ``resume`` it is overwritten.
    - ``log_every``: a row every so many steps, besides the one after every epoch.
    - ``precision`` "bfloat16": the step runs under autocast. ``compile``: torch.compile of the module's forward, but
      not of other methods that the step calls.

    The module ends in eval mode; the caller's global random generators are as they were.

    Raises ValueError for arguments that do not fit together and for an output of another run; FloatingPointError,
    before any weight has changed, when a loss or its gradient is not finite.
    """
    # Set up.
    named = isinstance(optimizers, Mapping)
    optimizers = dict(optimizers) if named else {"": optimizers}
    schedulers = dict(schedulers) if isinstance(schedulers, Mapping) else {"": schedulers} if schedulers else {}
    order = list(optimizers) if order is None else list(order)
    _check(module, optimizers, schedulers, order, epochs, precision, checkpoint_every, log_every)
    rank, processes, main = distributed.rank(), distributed.world_size(), distributed.is_main()
    steps = seeds.count_batches(n, batch_size, drop_last, processes)  # in an epoch
    device = distributed.pick_device(device)
    settings = {
        "n": n, "batch_size": batch_size, "order": order, "seed": seed, "drop_last": drop_last, "clip": clip,
        "precision": precision, "compile": compile, "log_every": log_every, "validate": validate is not None,
        "device": device.type, "processes": processes, "config": dict(config or {}),
    }  # fmt: skip
    run = _Run(module, optimizers, schedulers, _fingerprint(module, optimizers, schedulers, settings))
    file = None if output is None else Path(output) / "state.pt"
    module.to(device).train()

    with seeds.seeded(seed, rank):
        if file and resume:
            run.load(file, epochs * steps)
        elif file and main:
            file.unlink(missing_ok=True)  # or a kill before the first checkpoint would go on with the old run
        stepper = distributed.wrap(_Step(torch.compile(module) if compile else module, step), device)
        logged = log.Log(file.parent if file and main else None, run.history.rows)
        bar = log.progress_bar(epochs * steps, run.done, main)

        # Fit.
        with bar, logged:
            for epoch in range(run.done // steps, epochs):
                for ids in seeds.batches(n, batch_size, seed, epoch, drop_last, rank, processes)[run.done % steps :]:
                    for name in order:
                        module.zero_grad(set_to_none=True)  # nothing is left of another optimiser's loss
                        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                            terms = stepper(ids.to(device), epoch, *([name] if named else []))
                        values = {key: float(torch.as_tensor(x).detach()) for key, x in terms.items()}
                        if not math.isfinite(values["loss"]):
                            wrong = {key: x for key, x in values.items() if not math.isfinite(x)}
                            raise FloatingPointError(
                                f"the loss is not finite: {wrong} at {_where(run, epoch, name, ids)}"
                            )
                        if not math.isfinite(norm := run.descend(name, terms["loss"], clip)):
                            where = _where(run, epoch, name, ids)
                            raise FloatingPointError(f"the gradient is not finite: its norm is {norm} at {where}")
                        for key, x in values.items():
                            total = run.sums.setdefault(f"{name}/{key}" if named else key, [0.0, 0])
                            total[:] = total[0] + x, total[1] + 1
                    for scheduler in schedulers.values():
                        scheduler.step()
                    run.done += 1
                    bar.update()

                    epoch_ends = run.done % steps == 0
                    judged = {"validation": run.judge(validate, epoch)} if epoch_ends and validate else {}
                    if epoch_ends or (log_every and run.done % log_every == 0):
                        logged.add({"step": run.done, "epoch": epoch} | run.means(device) | judged)
                    due = run.done % checkpoint_every == 0 if checkpoint_every else epoch_ends
                    if file and (due or run.done == epochs * steps):
                        run.save(file)

    # Leave the weights that were chosen.
    if run.best is not None:
        module.load_state_dict(run.best)
    module.zero_grad(set_to_none=True)
    module.eval()
    return run.history


def _where(run: _Run, epoch: int, name: str, ids: Tensor) -> str:
    return f"step {run.done + 1}, epoch {epoch}, {name or 'loss'}, ids {ids.tolist()}"


def _check(module, optimizers, schedulers, order, epochs, precision, *every) -> None:
    """Raises ValueError for arguments of ``train`` that do not fit together."""
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1; got {epochs}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}; got {precision!r}")
    if any(steps is not None and steps < 1 for steps in every):
        raise ValueError(f"checkpoint_every and log_every count steps, at least 1; got {every[0]} and {every[1]}")
    if not optimizers or set(order) != set(optimizers):
        raise ValueError(f"order must name every optimiser and nothing else: {list(optimizers)}; got {order}")
    if unknown := schedulers.keys() - optimizers.keys():
        raise ValueError(f"schedulers has {sorted(unknown)}; the optimisers are {list(optimizers)}")
    known = {id(p) for p in module.parameters()}
    for name, optimizer in optimizers.items():
        if any(id(p) not in known for group in optimizer.param_groups for p in group["params"]):
            raise ValueError(f"optimiser {name!r} has weights that are not in the module, so would not be saved")


def _fingerprint(module, optimizers, schedulers, settings) -> dict[str, str]:
    """What makes a run what it is, name by name, before its first step."""

    def text(value: Any) -> str:
        try:
            return json.dumps(value.tolist() if isinstance(value, Tensor) else value)
        except TypeError:  # its repr may hold an address, which the next process has not
            return type(value).__name__

    facts = {name: text(value) for name, value in settings.items() if name != "config"}
    facts |= {f"config[{name!r}]": text(value) for name, value in settings["config"].items()}
    facts |= {f"shape of {name}": text(tuple(x.shape)) for name, x in module.named_parameters()}
    for kind, things in [("optimizer", optimizers), ("scheduler", schedulers)]:
        for name, thing in things.items():
            where = f"{kind} {name}".strip()
            facts[where] = text(type(thing).__name__)
            for i, part in enumerate(thing.param_groups if kind == "optimizer" else [thing.state_dict()]):
                facts |= {f"{where}[{i}].{key}": text(value) for key, value in part.items() if key != "params"}
    return facts
