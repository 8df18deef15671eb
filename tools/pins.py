"""One thread and one set of numerical kernels, so that two runs print the same on different machines."""

import os
import platform
from pathlib import Path

FOLDER = Path(__file__).parent


def parse(text: str) -> dict[str, str]:
    """The KEY=VALUE lines of a pins file; empty lines and lines that begin with # are passed over."""
    pins = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"line {number} of the pins must be KEY=VALUE; got {line!r}")
        pins[key] = value
    return pins


def read_pins(machine: str | None = None) -> dict[str, str]:
    """The pins for ``machine`` (what ``uname -m`` says; this one by default): the general ones, then its own if any."""
    pins = parse((FOLDER / "pins.env").read_text())
    own = FOLDER / f"pins.{machine or platform.machine()}.env"
    if own.is_file():
        pins |= parse(own.read_text())
    return pins


def set_pins() -> None:
    """Put the pins into this process's environment. It must come before numpy and torch load."""
    os.environ.update(read_pins())
