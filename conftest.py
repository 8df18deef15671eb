"""What every pytest run here needs before anything else: the pins, the tools, and nbval's missing option."""

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tools.pins import set_pins

set_pins()
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ImportWarning)  # all that a numpy does which knows a pinned feature by another name
    import numpy  # noqa: F401

# stderr: nbval 0.11 has no option to pass over it. The results' raw floats: text/plain beside them has them rounded.
NOT_COMPARED = ("stderr", "application/vnd.commonspace.results+json")


def pytest_collectstart(collector):
    """nbval compares the text of every output; pictures it leaves out by itself."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare = (*collector.skip_compare, *NOT_COMPARED)
