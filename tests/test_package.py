"""The house rules of lib/commonspace: which way imports point, what stays light, and names that are explained."""

import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

LIB = Path(__file__).parents[1] / "lib"

# What each part of the package may import of commonspace besides itself. "." is commonspace/__init__.py.
ALLOWED = {
    "losses": (),
    "metrics": (),
    "encoders": ("data.files",),  # for the cache folder alone
    "data": (),
    "search": (),
    "figures": (),
    "models": ("encoders", "losses", "training.checkpoint"),
    "training": (),
    "recipes": (".", "data", "encoders", "figures", "losses", "metrics", "models", "search", "training"),
    "checks": (".", "data", "encoders", "figures", "losses", "metrics", "models", "recipes", "search", "training"),
    ".": ("_torchvision_guard",),
    "_torchvision_guard": (),
    "__main__": (".", "doctor"),
    "doctor": ("_torchvision_guard", "data.files", "data.download"),
}
OUTSIDE = {"chapters", "solutions", "tests", "tools", "data_scripts", "benchmarks", "conftest"}
# Where a heavy or optional package may be imported at all, and where even as the module loads.
ANYWHERE_IN = {
    "transformers": ("encoders/bert.py", "doctor.py"),
    "huggingface_hub": ("encoders/bert.py",),
    "tokenizers": ("encoders/bert.py",),
    "torchvision": ("encoders/image.py", "doctor.py"),
    "faiss": ("search/ann.py",),
    "gradio": (),
    "matplotlib": ("figures.py",),
    "sklearn": (
        "models/*.py",
        "encoders/image.py",
        "data/*.py",
        "checks/*.py",
        "recipes/datasets.py",
        "metrics/probe.py",
    ),
}
AT_MODULE_LEVEL_IN = {"matplotlib": ("figures.py",), "sklearn": ("models/*.py",)}
LIGHT_WITHOUT = ("transformers", "torchvision", "matplotlib", "sklearn")


# ---- reading imports ------------------------------------------------------------------------------------------------


def imports(file: Path, root: Path) -> list[tuple[str, bool, int]]:
    """(dotted name, whether it runs as the module loads, line) of every import in a file below ``root``/commonspace.

    ``from a import b`` gives a.b, which may be a module or a name in a. An import spelled as a call counts as well.
    """
    package = list(file.relative_to(root).parent.parts)
    found = []

    def add(name: str, node: ast.AST, loads: bool) -> None:
        found.append((name, loads, node.lineno))

    def visit(node: ast.AST, loads: bool) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, node, loads)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, node.module] if node.module else base
            for alias in node.names:
                add(".".join([*base, alias.name]), node, loads)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            for called in (argument for argument in node.args[:1] if isinstance(argument, ast.Constant)):
                add(str(called.value), node, loads)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, loads and not inside)

    visit(ast.parse(file.read_text(encoding="utf-8")), True)
    return found


def within(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(allowed + ".")


def violations(root: Path) -> list[str]:
    """Every import below ``root``/commonspace that breaks a rule, as ``file:line name``."""
    package = root / "commonspace"
    bad = []
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package).as_posix()
        part = "." if place == "__init__.py" else place.split("/")[0].removesuffix(".py")
        for name, loads, line in imports(file, root):
            top, _, inner = name.partition(".")
            if top == "commonspace":
                # A name that commonspace/__init__.py itself defines, and commonspace alone, are ".".
                known = inner.split(".")[0] in ALLOWED or (package / inner.split(".")[0]).exists()
                target = inner if inner and known else "."
                wrong = part not in ALLOWED or not any(within(target, a) for a in (part, *ALLOWED[part]))
            elif top in OUTSIDE:
                wrong = True
            elif top in ANYWHERE_IN:
                homes = ANYWHERE_IN[top] if not loads else AT_MODULE_LEVEL_IN.get(top, ())
                wrong = not any(fnmatch(place, home) for home in homes)
            else:
                wrong = False
            if wrong:
                bad.append(f"{place}:{line} {name}")
    return bad


# ---- the direction of imports ---------------------------------------------------------------------------------------


def test_imports_point_one_way():
    assert violations(LIB) == []


PLANTED = [
    ("metrics/retrieval.py", "from commonspace.data import PairedFeatures", "commonspace.data.PairedFeatures"),
    ("metrics/retrieval.py", "def f():\n    import commonspace.models.cca", "commonspace.models.cca"),
    ("metrics/retrieval.py", "from ..data.files import find", "commonspace.data.files.find"),
    ("losses/ranking.py", "from .. import metrics", "commonspace.metrics"),
    ("losses/ranking.py", "import commonspace", "commonspace"),
    ("losses/ranking.py", "from commonspace import __version__", "commonspace.__version__"),
    ("search/exact.py", "class A:\n    from commonspace import losses", "commonspace.losses"),
    ("data/digits.py", "if True:\n    from commonspace.encoders.bert import Bert", "commonspace.encoders.bert.Bert"),
    ("encoders/text.py", "from commonspace.data import files", None),
    ("encoders/text.py", "from commonspace.data.files import cache_dir", None),
    ("encoders/text.py", "from commonspace.data import samples", "commonspace.data.samples"),
    ("encoders/text.py", "from commonspace.data.filesystem import x", "commonspace.data.filesystem.x"),
    ("models/acmr.py", "from commonspace.training import checkpoint", None),
    ("models/acmr.py", "from commonspace.training.checkpoint import save", None),
    ("models/acmr.py", "from commonspace.training import loop", "commonspace.training.loop"),
    ("models/acmr.py", "from commonspace.metrics import evaluate", "commonspace.metrics.evaluate"),
    ("models/gxn/look.py", "from ..cca import CCA", None),
    ("models/gxn/look.py", "from ...checks import ch01", "commonspace.checks.ch01"),
    ("training/loop.py", "from commonspace.models import CCA", "commonspace.models.CCA"),
    ("training/loop.py", "from . import seed", None),
    ("recipes/acmr.py", "from commonspace import __version__, data, models, training", None),
    ("recipes/acmr.py", "from commonspace import checks", "commonspace.checks"),
    ("checks/ch01.py", "from commonspace.models import CCA", None),
    ("checks/ch01.py", "from solutions import ch01", "solutions.ch01"),
    ("checks/ch01.py", "import importlib\nimportlib.import_module('solutions.ch01')", "solutions.ch01"),
    ("recipes/acmr.py", "def f():\n    from tests import helpers", "tests.helpers"),
    ("recipes/acmr.py", "import tools.pins", "tools.pins"),
    ("data/emoji.py", "import data_scripts.get_emoji", "data_scripts.get_emoji"),
    ("data/emoji.py", "__import__('chapters')", "chapters"),
    ("novelty/new.py", "from commonspace.data import files", "commonspace.data.files"),  # a part without a rule
    ("__init__.py", "from commonspace import data", "commonspace.data"),
    ("encoders/bert.py", "import transformers", "transformers"),
    ("encoders/bert.py", "class A:\n    from transformers import BertModel", "transformers.BertModel"),
    ("encoders/bert.py", "def f():\n    from transformers import BertModel", None),
    ("encoders/image.py", "async def f():\n    import torchvision.models", None),
    ("models/cca.py", "def f():\n    import torchvision.models", "torchvision.models"),
    ("models/cca.py", "from sklearn.base import BaseEstimator", None),
    ("encoders/image.py", "from sklearn.decomposition import PCA", "sklearn.decomposition.PCA"),
    ("metrics/retrieval.py", "def f():\n    import sklearn", "sklearn"),
    ("figures.py", "from matplotlib import pyplot", None),
    ("checks/ch01.py", "def f():\n    import matplotlib", "matplotlib"),
    ("search/ann.py", "try:\n    import faiss\nexcept ImportError:\n    pass", "faiss"),
    ("search/ann.py", "def f():\n    import faiss", None),
    ("recipes/demo.py", "def f():\n    import gradio", "gradio"),
    ("data/samples.py", "import numpy\nimport torch\nfrom pathlib import Path", None),
]


@pytest.mark.parametrize(("place", "code", "found"), PLANTED)
def test_a_planted_import_is_judged(tmp_path, place, code, found):
    file = tmp_path / "commonspace" / place
    for folder in ("data", "metrics", "checks"):
        (tmp_path / "commonspace" / folder).mkdir(parents=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'"""A module."""\n{code}\n', encoding="utf-8")
    names = [line.split()[1] for line in violations(tmp_path)]
    assert names == ([] if found is None else [found])


def test_every_part_has_a_rule():
    names = {module.name for module in pkgutil.iter_modules([str(LIB / "commonspace")])}
    assert {"data", "metrics", "doctor"} <= names
    assert names <= ALLOWED.keys()


# ---- light, and explained -------------------------------------------------------------------------------------------


def test_imports_stay_light():
    program = "\n".join(
        f"import {module}; print({module!r}, [name for name in {LIGHT_WITHOUT} if name in sys.modules])"
        for module in ("commonspace", "commonspace.data", "commonspace.metrics")
    )
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys\n{program}\nassert 'torch' in sys.modules"],
        env=os.environ | {"PYTHONPATH": str(LIB)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == ["commonspace []", "commonspace.data []", "commonspace.metrics []"]


def undocumented(module) -> list[str]:
    """Public names that do not exist or have no docstring of their own (a dataclass writes one by itself)."""
    bad = [] if (module.__doc__ or "").strip() else [module.__name__]
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name, None)
        doc = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
        explained = bool(doc) and not doc.startswith(f"{name}(")
        if isinstance(thing, type):
            explained = explained and thing.__doc__ != thing.__base__.__doc__
        elif not callable(thing) and not inspect.ismodule(thing):
            explained = thing is not None  # a constant: a number's own docstring says nothing
        if not explained:
            bad.append(f"{module.__name__}.{name}")
    return bad


SUBPACKAGES = sorted(p.name for p in pkgutil.iter_modules([str(LIB / "commonspace")], "commonspace.") if p.ispkg)


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_public_names_are_explained(name):
    module = importlib.import_module(name)
    assert undocumented(module) == []
    assert len(set(getattr(module, "__all__", ()))) == len(getattr(module, "__all__", ()))


@pytest.mark.parametrize("name", sorted({"data", "encoders", "losses", "metrics", "models", "training"}))
def test_the_libraries_face_is_listed(name):
    assert importlib.import_module(f"commonspace.{name}").__all__


def test_an_unexplained_name_is_found():
    import dataclasses
    import types

    @dataclasses.dataclass
    class Silent:
        x: int

    class Child(Exception):
        pass

    def explained():
        """It says something."""

    def silent():
        pass

    module = types.ModuleType("m", "A module.")
    names = {"Silent": Silent, "Child": Child, "explained": explained, "silent": silent, "NUMBER": 3}
    vars(module).update(names, __all__=[*names, "missing"])
    assert undocumented(module) == ["m.Silent", "m.Child", "m.silent", "m.missing"]
    assert undocumented(types.ModuleType("n")) == ["n"]
