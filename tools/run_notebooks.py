"""Execute the chapters and solutions with papermill, two at a time, into build/.

    python -m tools.run_notebooks                 all of them                         (make run)
    python -m tools.run_notebooks --chapter 01    one chapter and its solution        (make run CHAPTER=01)
    python -m tools.run_notebooks --in-place      and keep the outputs for the commit (make notebooks)

Each is run by the command a person would type, papermill chapters/NN.ipynb build/chapters/NN.ipynb --cwd chapters
-k python3 --no-progress-bar, under the pins of tools/pins.env. A notebook that fails is shown and the others go on.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tools import notebooks
from tools.pins import read_pins
from tools.results_table import duration, page

AT_ONCE = 2
BUDGET = 60  # seconds that a chapter may take on a quiet core
BUDGET_TOGETHER = 600
GIVE_UP = 3600
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass
class Run:
    """How one notebook ran: its path from the root, seconds, and what a person needs to see if it failed."""

    path: Path
    seconds: float
    problem: str = ""


def execute(path: Path, root: Path) -> Run:
    """Run ``path`` into ``build/<path>``; what papermill and the kernel said goes to ``build/<path>.log``."""
    out, log = root / "build" / path, root / "build" / path.with_suffix(".log")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)  # an older run's must not be taken for this one's
    command = [sys.executable, "-m", "papermill", str(path), str(out), "--cwd", str(path.parent)]
    command += ["-k", "python3", "--no-progress-bar"]
    start = time.perf_counter()
    with log.open("w") as said:
        try:
            code = subprocess.run(
                command,
                cwd=root,
                env=os.environ | read_pins(),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=GIVE_UP,
            ).returncode
        except subprocess.TimeoutExpired:
            code = 1
            said.write(f"\nstopped after {duration(GIVE_UP)}")
    return Run(path, time.perf_counter() - start, failure(out, log) if code else "")


def failure(executed: Path, log: Path, lines: int = 15) -> str:
    """The cell that stopped a run and the end of its traceback; the end of the log when no cell is to blame."""
    nb = notebooks.read(executed) if executed.is_file() else None
    for cell in notebooks.code_cells(nb) if nb else []:
        for output in cell.outputs:
            if output.output_type == "error":
                traceback = ANSI.sub("", "\n".join(output.traceback)).splitlines()
                shown = [*cell.source.splitlines()[:8], *["..."] * (cell.source.count("\n") >= 8)]
                head = f"the code cell [{cell.execution_count}] which begins with"
                return "\n    ".join([head, *shown, "stopped:", *traceback[-lines:]])
    return "\n".join(["no cell is to blame; the log ends with", *log.read_text().splitlines()[-lines:]])


def keep_outputs(path: Path, root: Path) -> list[str]:
    """Put the outputs of ``build/<path>`` into the notebook itself; says which cells wrote to stderr."""
    nb = notebooks.with_outputs(notebooks.read(root / path), notebooks.read(root / "build" / path))
    notebooks.write(nb, root / path)
    cells = [(cell.execution_count, output) for cell in notebooks.code_cells(nb) for output in cell.outputs]
    return [f"note: the code cell [{n}] of {path} writes to stderr" for n, out in cells if out.get("name") == "stderr"]


def record(runs: list[Run], root: Path) -> None:
    """Write build/run_times.json (older entries of other notebooks stay) and build/results.md."""
    file = root / "build" / "run_times.json"
    times = json.loads(file.read_text()) if file.is_file() else {}
    today = datetime.date.today().isoformat()
    for run in runs:
        times[run.path.as_posix()] = {"seconds": round(run.seconds, 1), "ok": not run.problem, "date": today}
    notebooks.write_text(file, json.dumps(times, indent=1, sort_keys=True) + "\n")
    notebooks.write_text(root / "build" / "results.md", page(root))


def say(line: str) -> None:
    print(line, flush=True)


def main(arguments: list[str] | None = None, root: Path = notebooks.ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chapter", help="a number (01) or a name (01_cca); all by default")
    parser.add_argument("--in-place", action="store_true", help="put the outputs into the notebooks themselves")
    parser.add_argument("--limit", type=float, default=3 * BUDGET, help="seconds beyond which a notebook has failed")
    parser.add_argument("--since", type=float, help="when the whole command began, in seconds since 1970")
    args = parser.parse_args(arguments)
    start = args.since or time.time()
    try:
        paths = notebooks.find(chapter=args.chapter, root=root)
    except ValueError as error:
        say(str(error))
        return 2

    say(f"{len(paths)} notebooks, {AT_ONCE} at a time")
    runs = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in as_completed([pool.submit(execute, path, root) for path in paths]):
            run = done.result()
            runs.append(run)
            if not run.problem and run.seconds > args.limit:
                run.problem = f"it took longer than {duration(args.limit)}; on a slow machine: make run LIMIT=..."
            state = "FAILED" if run.problem else "ok"
            say(f"[{len(runs)}/{len(paths)}] {run.path.as_posix():<40} {state:<6} {duration(run.seconds)}")
            if run.problem:
                say("    " + run.problem.replace("\n", "\n    "))
            elif run.seconds > BUDGET:
                say(f"    slower than the {BUDGET} s that a chapter may take on a quiet core")
            if args.in_place and not run.problem:
                for note in keep_outputs(run.path, root):
                    say(f"    {note}")
    together = sum(run.seconds for run in runs if run.path.parts[0] == "chapters")
    if together > BUDGET_TOGETHER:
        say(f"the chapters took {duration(together)} together; {duration(BUDGET_TOGETHER)} is what they may take")
    record(runs, root)

    total = duration(time.time() - start)
    failed = sorted(run.path.as_posix() for run in runs if run.problem)
    if failed:
        say(f"{len(failed)} of {len(runs)} notebooks failed: {', '.join(failed)}. Total time {total}. Logs: build/")
        return 1
    numbers = "Open build/results.md for the numbers and build/chapters/ for the executed chapters."
    say(f"Done, total time {total}. {'The notebooks hold their new outputs.' if args.in_place else numbers}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
