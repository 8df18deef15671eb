"""Every test, part by part, with the total time at the end: python -m tools.run_tests (make test).

All parts are run, whatever fails before them; the exit code is 1 if any did. Two tests or notebooks at a time.
"""

import argparse
import subprocess
import sys
import time

from tools.notebooks import ROOT, find
from tools.results_table import duration

PYTEST = [sys.executable, "-m", "pytest", "-q", "-n", "2"]
NBVAL = [
    "--nbval",
    "--dist",
    "loadfile",
    "--nbval-sanitize-with",
    "tests/nbval_sanitize.cfg",
    "--nbval-cell-timeout",
    "600",
]
RUFF = [sys.executable, "-m", "ruff"]


def parts(chapter: str | None) -> list[tuple[str, list[str]]]:
    """(heading, command), in order."""
    compared = [path.as_posix() for path in find(chapter=chapter)]
    return [
        ("style", [*RUFF, "check", "."]),
        ("format", [*RUFF, "format", "--check", "."]),
        ("the library and the tools", [*PYTEST, "tests", "--ignore", "tests/notebooks"]),
        ("the notebooks as files, and what runs them", [*PYTEST, "tests/notebooks"]),
        ("the notebooks run anew and compared with their committed outputs", [*PYTEST, *NBVAL, *compared]),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chapter", help="compare the outputs of this chapter alone: a number or a name")
    parser.add_argument("--since", type=float, help="when the whole command began, in seconds since 1970")
    args = parser.parse_args(arguments)
    start = args.since or time.time()
    failed = []
    for heading, command in parts(args.chapter):
        print(f"\n== {heading} ==", flush=True)
        began = time.perf_counter()
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(heading)
        print(f"({duration(time.perf_counter() - began)})", flush=True)
    ending = f"FAILED: {'; '.join(failed)}" if failed else "All passed"
    print(f"\n{ending}. Total time {duration(time.time() - start)}.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
