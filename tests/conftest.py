"""What tests of several processes share: a module names its SCRIPT, which runs alone and under torchrun."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch


@pytest.fixture(scope="module")
def alone(request):
    """The module's SCRIPT as a module: run in this process, it sees all rows."""
    spec = importlib.util.spec_from_file_location(request.module.SCRIPT.stem, request.module.SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the two processes write."""
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def both(request, folder):
    """What two processes under torchrun found: what each wrote to ``folder``, and that they had nothing to warn of."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*run, str(request.module.SCRIPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ | {"CI": "1"})
    assert done.returncode == 0, done.stderr[-4000:]
    told = [line for line in done.stderr.splitlines() if "Warning" in line and "find_unused_param" not in line]
    assert told == []
    return [torch.load(folder / f"{r}.pt", weights_only=True) for r in (0, 1)]
