"""pyproject.toml, constraints.txt and environment.yml say the same.

Run as a script, ``python tests/test_consistency.py > constraints.txt``, it prints the pins: every package of the
running environment that ``pip install -e .[course,bert,bench,dev]`` brings along.
"""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
EXTRAS = ("course", "bert", "bench", "dev")
IN_ENVIRONMENT = ("jupyter", "torch", "torchvision", "transformers", "matplotlib", "papermill", "nbval")
# What belongs to one machine's GPU: pinned, it would be forced on every other.
OF_CUDA = re.compile(r"^(nvidia-|cuda-|triton|pytorch-triton)")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

HEADER = """\
# What CI ran: every package that the command below installs, with its version. Linux, Python {python}; without the
# packages of CUDA, which belong to a machine. Regenerate, once the environment holds the versions that are wanted:
#   python tests/test_consistency.py > constraints.txt
# Use:   pip install -e ".[course,bert,bench,dev]" -c constraints.txt
"""


def direct() -> dict[str, Requirement]:
    """Every requirement of pyproject.toml, extras included, by canonical name; one package has one range."""
    found: dict[str, Requirement] = {}
    lines = PROJECT["dependencies"] + [line for extra in EXTRAS for line in PROJECT["optional-dependencies"][extra]]
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        assert found.get(name, requirement) == requirement, f"{name} has two ranges in pyproject.toml"
        found[name] = requirement
    return found


def closure() -> dict[str, str]:
    """Name -> installed version of all that the direct requirements need, here, directly or not."""
    pins: dict[str, str] = {}
    waiting = list(direct().values())
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen or OF_CUDA.match(name):
            continue
        seen.add((name, frozenset(requirement.extras)))
        distribution = metadata.distribution(name)
        pins[name] = Version(distribution.version).public  # without a local label such as +cpu
        for needed in map(Requirement, distribution.requires or []):
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)):
                waiting.append(needed)
    return dict(sorted(pins.items()))


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def pinned(name: str) -> str:
    (pin,) = [pin for pin in pins() if canonicalize_name(pin.name) == name]
    return str(pin.specifier).removeprefix("==")


# ---- constraints.txt ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(direct()))
def test_each_direct_dependency_has_one_pin_in_its_range(name):
    assert direct()[name].specifier.contains(pinned(name))


def test_constraints_are_exact_public_versions_in_order():
    names = [canonicalize_name(pin.name) for pin in pins()]
    assert names == sorted(set(names))
    for pin in pins():
        (one,) = pin.specifier
        assert one.operator == "=="
        assert Version(one.version).local is None
        assert "*" not in one.version
        assert not pin.extras


def test_nothing_of_cuda_is_pinned():
    assert [pin.name for pin in pins() if OF_CUDA.match(canonicalize_name(pin.name))] == []
    assert all(OF_CUDA.match(name) for name in ("nvidia-cublas-cu12", "triton", "cuda-bindings"))


def test_the_project_itself_is_not_pinned():
    assert "commonspace" not in {canonicalize_name(pin.name) for pin in pins()}


def test_torch_and_torchvision_are_of_one_release():
    torch, torchvision = Version(pinned("torch")), Version(pinned("torchvision"))
    assert (torch.major, torch.minor + 15) == (2, torchvision.minor)  # 2.13 and 0.28
    assert torchvision.major == 0
    oldest = {name: next(iter(direct()[name].specifier)).version for name in ("torch", "torchvision")}
    assert Version(oldest["torch"]).minor + 15 == Version(oldest["torchvision"]).minor


def test_the_header_names_the_command_that_writes_the_file():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "python tests/test_consistency.py > constraints.txt" in text
    assert f".[{','.join(EXTRAS)}]" in text


def test_closure_holds_the_direct_ones_and_what_they_need():
    found = closure()
    needed = {
        "filelock",
        "ipykernel",
        "sentence-transformers",
        "threadpoolctl",
    }  # of torch, nbval, MiniLM, scikit-learn
    assert direct().keys() | needed <= found.keys()
    assert "commonspace" not in found
    assert "pip" not in found


# ---- environment.yml ------------------------------------------------------------------------------------------------


def environment() -> dict:
    import yaml

    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def pip_section() -> list[str]:
    (section,) = [entry["pip"] for entry in environment()["dependencies"] if isinstance(entry, dict)]
    return section


def test_environment_is_python_and_pip_and_our_package():
    conda = [entry for entry in environment()["dependencies"] if isinstance(entry, str)]
    assert environment()["name"] == PROJECT["name"]
    assert [entry.split()[0].split(">")[0] for entry in conda] == ["python", "pip"]
    (python,) = [entry for entry in conda if entry.startswith("python")]
    specifier = Requirement(python.replace(" ", "")).specifier
    assert [minor for minor in range(8, 20) if specifier.contains(f"3.{minor}.1")] == [11, 12, 13]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains("3.11.0")
    assert not Requirement(f"python{PROJECT['requires-python']}").specifier.contains("3.10.9")
    assert "-c constraints.txt" in pip_section()
    assert f"-e .[{','.join(EXTRAS)}]" in pip_section()


def test_environment_repeats_pyprojects_ranges():
    listed = [Requirement(line) for line in pip_section() if not line.startswith("-")]
    assert sorted(requirement.name for requirement in listed) == sorted(IN_ENVIRONMENT)
    for requirement in listed:
        assert requirement == direct()[canonicalize_name(requirement.name)]


# ---- one name, one version ------------------------------------------------------------------------------------------


def test_the_version_is_said_once():
    import yaml

    import commonspace

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert commonspace.__version__ == PROJECT["version"] == citation["version"]


def test_licence_and_authors_agree():
    import yaml

    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert licence.startswith("MIT License\n")
    assert "Permission is hereby granted, free of charge" in licence
    assert PROJECT["license"] == citation["license"] == "MIT"
    (author,) = PROJECT["authors"]
    assert author["name"] in licence
    assert citation["authors"] == [{"name": author["name"]}]


if __name__ == "__main__":
    import platform

    python = ".".join(platform.python_version_tuple()[:2])
    print(HEADER.format(python=python) + "\n".join(f"{name}=={version}" for name, version in closure().items()))
