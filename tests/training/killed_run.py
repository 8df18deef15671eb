"""Runs that are killed: ``python killed_run.py scenarios.json``. test_resume.py starts it and compares what is left.

A scenario is an output folder, arguments of ``train`` and a list of moments; for each, a child process trains in that
folder and is killed with SIGKILL at the moment, or trains to the end and writes down what it has.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from commonspace.training import checkpoint, loop, seeded, train

N = 30


class Net(nn.Module):
    """Dropout, batch statistics, and two parts with an optimiser each."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4))
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.body(x))


def fit(output: Path, on_step=lambda: None, **arguments) -> dict:
    """One run; all that it leaves behind, but the files."""
    with seeded(3):
        net, x = Net(), torch.randn(N, 4)
    y = x.prod(dim=1, keepdim=True)

    def step(module, ids, epoch, name):
        on_step()
        shift = random.random() + float(np.random.normal())  # noqa: NPY002 - all three generators take part
        loss = ((module(x[ids] + 0.1 * shift) - y[ids]) ** 2).mean()
        return {"loss": loss, "shift": shift} | ({"late": epoch} if epoch else {})  # a column that comes later

    optimizers = {
        "body": torch.optim.Adam(net.body.parameters(), lr=0.02),
        "head": torch.optim.SGD(net.head.parameters(), lr=0.02, momentum=0.9),
    }
    schedulers = {"body": torch.optim.lr_scheduler.OneCycleLR(optimizers["body"], 0.05, total_steps=40)}
    arguments = {"epochs": 3, "batch_size": 7, "order": ("body", "body", "head"), "log_every": 3, **arguments}
    history = train(
        net, step, N, optimizers=optimizers, schedulers=schedulers, device="cpu", output=output, clip=1.0,
        validate=lambda module: -float((module(x) - y).abs().mean()), **arguments,
    )  # fmt: skip
    return {"weights": net.state_dict(), "rows": history.rows, "best": (history.best_epoch, history.best_value)}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at(count: int, act) -> callable:
    """A function that acts when it is called for the ``count``-th time."""
    calls = iter(range(1, 10**9))
    return lambda *_: act() if next(calls) == count else None


def child(output: Path, moment: str, arguments: dict) -> None:
    kind, _, count = moment.partition(":")
    on_step = lambda: None  # noqa: E731
    if kind == "step":
        on_step = at(int(count), kill)
    elif kind == "half":  # the file is half written
        save, due = torch.save, at(int(count), lambda: True)

        def torn(state, path):
            save(state, path)
            if due():
                os.truncate(path, os.path.getsize(path) // 2)
                kill()

        torch.save = torn
    elif kind == "renamed":  # the state is on disk, nothing after it was done
        write, due = checkpoint.save_state, at(int(count), lambda: True)

        def then_killed(path, state):
            write(path, state)
            if due():
                kill()

        loop.checkpoint.save_state = then_killed
    elif kind == "replace":  # before a file takes its name: the log's or the state's
        replace, due = os.replace, at(int(count), kill)
        os.replace = lambda old, new: (due(), replace(old, new))
    result = fit(output, on_step, **arguments)
    if kind == "end":
        torch.save(result, output / "result.pt")


def main(scenarios: list[dict]) -> None:
    torch.optim.Adam([torch.zeros(1, requires_grad=True)]).step()  # imports more of torch, once for all children
    for scenario in scenarios:
        for moment in scenario["moments"]:
            sys.stdout.flush()
            if (pid := os.fork()) == 0:
                code = 1
                try:
                    child(Path(scenario["output"]), moment, scenario["arguments"])
                    code = 0
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            status = os.waitpid(pid, 0)[1]
            expected = 0 if moment == "end" else -signal.SIGKILL
            if os.waitstatus_to_exitcode(status) != expected:
                raise SystemExit(f"{scenario['output']} {moment}: ended with {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
