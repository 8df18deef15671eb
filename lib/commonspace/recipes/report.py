"""What a recipe found, with all that is needed to repeat it, as one JSON file."""

import dataclasses
import datetime
import hashlib
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from commonspace.data import files
from commonspace.data.download import new_file
from commonspace.recipes.config import BaseConfig


@dataclass(frozen=True)
class Report:
    """``metrics``: name -> number. ``config``: the run's configuration. ``provenance``: commit, versions, machine,
    seconds. ``path``: where it is written."""

    metrics: dict[str, float]
    config: dict[str, Any]
    provenance: dict[str, Any]
    path: Path

    def __str__(self) -> str:
        numbers = "\n".join(f"  {name:<24}{value:.3f}" for name, value in self.metrics.items())
        return f"{numbers}\nwritten to {files.shown(self.path)}"


def run_folder(recipe: str, config: BaseConfig) -> Path:
    """The folder of a run: ``config.output``, or one below the cache that another configuration does not share."""
    if config.output is not None:
        return Path(config.output).expanduser()
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in ("output", "device")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
    return files.cache_dir() / "runs" / recipe / f"{config.data}-seed{config.seed}-{digest}"


def find_report(recipe: str, config: BaseConfig) -> Report | None:
    """The report of a run of this configuration that was finished before, or None."""
    path = run_folder(recipe, config) / "report.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Report(found["metrics"], found["config"], found["provenance"], path)
    except (OSError, ValueError, KeyError):
        return None


def write_report(
    recipe: str, config: BaseConfig, metrics: dict[str, float], seconds: float, write: bool = True
) -> Report:
    """Write ``report.json`` into the run's folder, whole or not at all; of several processes one writes."""
    path = run_folder(recipe, config) / "report.json"
    report = Report(metrics, dataclasses.asdict(config), provenance(recipe) | {"seconds": round(seconds, 1)}, path)
    if not write:
        return report
    with new_file(path) as file:
        content = {"recipe": recipe, "metrics": metrics, "config": report.config, "provenance": report.provenance}
        file.write(json.dumps(content, indent=1, default=str).encode())
    return report


def mean_and_spread(
    runs: Mapping[str, Sequence[Mapping[str, float]]], metrics: Sequence[str], of: str = "query"
) -> list[dict[str, Any]]:
    """Rows of a table: for each name of ``runs``, in column ``of``, the means over its runs of those ``metrics`` that
    they have; where there are several runs, in column "± metric" the standard deviation (n - 1) as well.

    >>> mean_and_spread({"a": [{"R@1": 0.25}, {"R@1": 0.75}]}, ["R@1", "R@5"])
    [{'query': 'a', 'R@1': 0.5, '± R@1': 0.3535533905932738}]
    """
    rows = []
    for name, several in runs.items():
        row: dict[str, Any] = {of: name}
        for metric in [m for m in metrics if m in several[0]]:
            values = [run[metric] for run in several]
            row[metric] = statistics.fmean(values)
            if len(values) > 1:
                row[f"± {metric}"] = statistics.stdev(values)
        rows.append(row)
    return rows


def provenance(recipe: str) -> dict[str, Any]:
    """On what a run was made: command, commit where the package stands in a clone, versions, machine."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit, changed = None, ""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "command": " ".join(["python -m", f"commonspace.recipes.{recipe}", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "commit": commit and commit + (" with changes" if changed else ""),
        "commonspace": metadata.version("commonspace"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.system()} {platform.machine()}, {gpu or 'CPU'}, {torch.get_num_threads()} thread(s)",
    }
