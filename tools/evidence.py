"""Run the chapters at full size and record what they found: python -m tools.evidence (make evidence).

Every chapters/full/NN_slug-data.yaml holds the parameters of one run. Its results go to results/NN_slug-data.json with
all that is needed to repeat it; from these files come the tables in README.md, between its two results marks. Those in
chapters/full/gpu/ take days on a processor, and are run where there is a GPU.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from tools import notebooks
from tools.pins import read_pins
from tools.results_table import duration, harvest, markdown_table
from tools.run_notebooks import failure

BEGIN, END = "<!-- results: begin (make evidence writes this part) -->", "<!-- results: end -->"


def settings_files(chapter: str | None, root: Path) -> list[Path]:
    """The parameter files, relative to ``root``; with ``chapter`` ("01") only those of that chapter."""
    full = root / "chapters" / "full"
    files = [*full.glob("*.yaml"), *(full.glob("gpu/*.yaml") if has_gpu() else [])]
    found = sorted((path.relative_to(root) for path in files), key=lambda path: path.name)
    return [path for path in found if not chapter or path.name.startswith(f"{chapter.zfill(2)}_")]


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def run(settings: Path, root: Path) -> dict:
    """Execute the chapter of a parameter file and return its record. Raises RuntimeError where a cell stopped it."""
    chapter = Path("chapters") / f"{settings.stem.split('-')[0]}.ipynb"
    out, log = root / "build" / "full" / f"{settings.stem}.ipynb", root / "build" / "full" / f"{settings.stem}.log"
    out.parent.mkdir(parents=True, exist_ok=True)
    arguments = [str(chapter), str(out.relative_to(root)), "--cwd", "chapters", "-k", "python3", "-f", str(settings)]
    start = time.perf_counter()
    with log.open("w") as said:
        command = [sys.executable, "-m", "papermill", *arguments, "--no-progress-bar"]
        code = subprocess.run(command, cwd=root, env=os.environ | read_pins(), stdout=said, stderr=said).returncode
    if code:
        raise RuntimeError(failure(out, log))
    nb = notebooks.read(out)
    return {
        "title": notebooks.title(nb),
        "command": " ".join(["papermill", *arguments]),
        "parameters": notebooks.parameters(nb),
        "tables": harvest(nb),
        "provenance": provenance(root) | {"seconds": round(time.perf_counter() - start, 1)},
    }


def device() -> str:
    import torch

    return torch.cuda.get_device_name() if has_gpu() else "CPU, one thread"


def provenance(root: Path) -> dict:
    """On what a run was made: the commit, the versions, the machine."""
    git = ["git", "-C", str(root)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "lib", "chapters"], capture_output=True, text=True).stdout
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit + (" with changes" if changed.strip() else ""),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "numpy", "scipy", "scikit-learn", "transformers")},
        "machine": f"{platform.system()} {platform.machine()}, {device()}",
    }


def tables(root: Path) -> str:
    """The tables of every record as Markdown, each with what it was run on."""
    parts, shown = [], set()
    for file in sorted((root / "results").glob("*.json")):
        if file.name.startswith("bench_"):  # of `make bench`: times, no results of a chapter
            continue
        found = json.loads(file.read_text(encoding="utf-8"))
        made = found["provenance"]
        for table in found["tables"]:
            if (found["title"], table["caption"]) in shown:  # what a chapter runs on whatever data
                continue
            shown.add((found["title"], table["caption"]))
            parts += [f"**{found['title']}.** {table['caption']}:", markdown_table(table["rows"], table["columns"])]
        parts.append(
            f"`results/{file.name}`, {made['date']}, {made['machine']}, {duration(made['seconds'])}, "
            f"torch {made['packages']['torch']}: `{found['command']}`"
        )
    return "\n\n".join(parts)


def update_readme(root: Path) -> None:
    """Write the tables between the marks of README.md. Raises ValueError when a mark is missing."""
    file = root / "README.md"
    text = file.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md needs the lines {BEGIN!r} and {END!r}, each once")
    before, rest = text.split(BEGIN)
    notebooks.write_text(file, f"{before}{BEGIN}\n\n{tables(root)}\n\n{END}{rest.split(END)[1]}")


def main(arguments: list[str] | None = None, root: Path = notebooks.ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chapter", help="a number (01); all by default")
    parser.add_argument("--tables-only", action="store_true", help="run nothing; write README's tables from results/")
    args = parser.parse_args(arguments)
    failed = False
    for settings in [] if args.tables_only else settings_files(args.chapter, root):
        print(f"{settings} ...", flush=True)
        try:
            found = run(settings, root)
        except RuntimeError as error:
            if "FileNotFoundError" in str(error) and "Get it with" in str(error):
                print("    not run: its data is not on this machine\n" + str(error).split("FileNotFoundError:")[-1])
                continue
            print(f"    FAILED: {error}")
            failed = True
            continue
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
        notebooks.write_text(root / "results" / f"{settings.stem}.json", text)
        print(f"    {duration(found['provenance']['seconds'])}, results/{settings.stem}.json", flush=True)
    update_readme(root)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
