"""What every benchmark shares: repeats that take turns, results compared before any time counts, one record.

A benchmark compares ways to compute the same thing. Each is a function without arguments; `race` calls them in turns,
so that what slows the machine down for a while slows all of them, and gives the median of each and its ratio to the
first, which is ours. Memory is measured in a process of its own (`peak_memory`), the only one whose peak is known to be
its own.
"""

import argparse
import importlib
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools.pins import set_pins  # noqa: E402

set_pins()  # before numpy and torch load

from tools.evidence import provenance  # noqa: E402
from tools.notebooks import write_text  # noqa: E402
from tools.results_table import duration, markdown_table  # noqa: E402


def race(contestants: dict[str, Callable], repeats: dict[str, int] | int = 5) -> list[dict]:
    """One row a contestant: {"method", "seconds" (median), "repeats", "ratio" to the first}.

    ``repeats``: how often each runs, or {name: times} where some are too slow for several. All but those that run once
    have a first run that does not count: it pays for what is loaded and planned once.
    """
    times = {name: [] for name in contestants}
    wanted = repeats if isinstance(repeats, dict) else dict.fromkeys(contestants, repeats)
    for name, run in contestants.items():
        if wanted[name] > 1:
            run()
    for turn in range(max(wanted.values())):
        for name, run in contestants.items():
            if turn < wanted[name]:
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(found) for name, found in times.items()}
    ours = next(iter(medians.values()))
    return [
        {"method": name, "seconds": medians[name], "repeats": wanted[name], "ratio": medians[name] / ours}
        for name in contestants
    ]


def same(found: dict[str, float], within: float) -> None:
    """Raises AssertionError that names both when a result differs from the first by more than ``within``."""
    (first, expected), *others = found.items()
    for name, value in others:
        if not abs(value - expected) <= within:
            raise AssertionError(f"{first} gives {expected:.6f}, but {name} gives {value:.6f}: nothing to compare")


def _peak() -> int:
    """The most memory this program has held, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: ru_maxrss would begin with what the parent process held
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def _report_memory(module: str, function: str, arguments: dict, pipe) -> None:
    run = getattr(importlib.import_module(module), function)(**arguments)
    before, start = _peak(), time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    pipe.send((seconds, _peak() - before))


def peak_memory(module: str, function: str, **arguments) -> tuple[float, float]:
    """(seconds, MiB by which the peak of memory rose) of one run in a fresh process.

    ``module.function(**arguments)`` makes the inputs and returns the function that is measured.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_report_memory, args=(module, function, arguments, theirs))
    process.start()
    theirs.close()
    try:
        seconds, grown = ours.recv()
    except EOFError:
        raise RuntimeError(f"{module}.{function}({arguments}) ended before it could report") from None
    finally:
        process.join()
    return seconds, grown / 2**20


def main(what: str, title: str, run: Callable[..., list[dict]], peers: tuple[str, ...], root: Path = ROOT) -> None:
    """Run a benchmark from the command line: print its table and write results/bench_<what>.json.

    ``run(tiny)`` gives the rows. With --tiny it runs at a small size, to see that it works, and records nothing.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--tiny", action="store_true", help="a small size, to see that it works; records nothing")
    tiny = parser.parse_args().tiny
    start = time.perf_counter()
    rows = run(tiny=tiny)
    seconds = round(time.perf_counter() - start, 1)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    print(f"\n{title}\n\n{markdown_table(rows, columns)}\n\n{duration(seconds)}.", flush=True)
    if tiny:
        return
    made = provenance(root) | {"seconds": seconds}
    made["packages"] |= {name: version(name) for name in peers}
    record = {
        "title": title,
        "command": f"make bench WHAT={what}",
        "tables": [{"caption": title, "columns": columns, "rows": rows}],
        "provenance": made,
    }
    write_text(root / "results" / f"bench_{what}.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"Recorded in results/bench_{what}.json")
