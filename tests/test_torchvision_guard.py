"""The torchvision guard, in processes of its own: operators, once defined, stay for the life of a process."""

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

LIB = Path(__file__).parents[1] / "lib"
needs_torchvision = pytest.mark.skipif(not importlib.util.find_spec("torchvision"), reason="torchvision is absent")

# Stands for an environment without one package: the path finder that cannot see it.
WITHOUT = """
    import sys
    from importlib.machinery import PathFinder

    class Finder(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            return None if name.split(".")[0] == {package!r} else super().find_spec(name, path, target)

    sys.meta_path = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
"""
STATE = """
    import commonspace, torch
    from commonspace._torchvision_guard import guard
    assert "torchvision" not in sys.modules
    print(guard(), hasattr(torch.ops.torchvision, "nms"), hasattr(torch.ops.torchvision, "qnms"))
"""


def run(*code: str, path: Path | None = None) -> subprocess.CompletedProcess:
    """Run pieces of code in one fresh interpreter, warnings as errors, with ``path`` before everything installed."""
    program = "import sys\n" + "".join(textwrap.dedent(piece) for piece in code)
    folders = [str(folder) for folder in (path, LIB) if folder is not None]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def answer(*code: str, path: Path | None = None) -> str:
    """What the code printed, when it ran without an error and without a word on stderr."""
    process = run(*code, path=path)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return process.stdout.strip()


def fake_torchvision(folder: Path) -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('the guard must not import torchvision')\n")
    return package


@needs_torchvision
def test_guard_decides_as_this_installation_needs():
    plain = run("import torchvision")
    if plain.returncode == 0:  # its own operators load, and the guard leaves them alone
        assert answer(STATE) == "False True True"
    else:
        assert "torchvision::nms does not exist" in plain.stderr
        assert answer(STATE) == "True True True"


@needs_torchvision
def test_with_the_guard_everything_imports_and_runs_without_a_warning():
    said = answer("""
        import commonspace, torch
        from importlib.util import find_spec
        from torchvision import datasets, models
        from torchvision.transforms import v2
        from transformers import BertConfig, BertModel

        picture = v2.Resize((16, 16), antialias=True)(torch.rand(3, 20, 24))
        print(models.resnet18(weights=None).eval()(v2.functional.normalize(picture, [0.5], [0.5])[None]).shape)
        print(len(datasets.FakeData(size=3)))
        small = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
        print(BertModel(small).eval()(torch.tensor([[1, 2, 3]])).last_hidden_state.shape)
        if find_spec("torchmetrics"):
            import torchmetrics
    """)
    assert said.splitlines() == ["torch.Size([1, 1000])", "3", "torch.Size([1, 3, 8])"]


def test_calling_a_stand_in_says_what_to_do():
    said = answer(
        WITHOUT.format(package="torchvision"),
        """
        import torch
        from commonspace import _torchvision_guard
        keep = _torchvision_guard._define_stand_ins()
        for operator in (torch.ops.torchvision.nms, torch.ops.torchvision.qnms):
            try:
                operator(torch.rand(3, 4), torch.rand(3), 0.5)
            except NotImplementedError as error:
                print(error)
        """,
    )
    lines = said.splitlines()
    assert len(lines) == 2
    assert all("commonspace doctor" in line and "torchvision" in line for line in lines)


def test_torchvision_absent_nothing_is_defined():
    assert answer(WITHOUT.format(package="torchvision"), STATE) == "False False False"


def test_torch_absent_the_package_still_imports():
    assert answer(WITHOUT.format(package="torch"), "import commonspace; print(commonspace.__version__)") != ""


def test_extension_that_cannot_load_gets_stand_ins(tmp_path):
    (fake_torchvision(tmp_path) / "_C.so").write_bytes(b"not a library")
    assert answer(STATE, path=tmp_path) == "True True True"


def test_extension_missing_gets_stand_ins(tmp_path):
    fake_torchvision(tmp_path)
    assert answer(STATE, path=tmp_path) == "True True True"


def test_extension_that_loads_is_left_alone(tmp_path):
    library = importlib.util.find_spec("markupsafe._speedups")  # any small library that loads serves
    if library is None:
        pytest.skip("no compiled module at hand that could play torchvision's")
    shutil.copy(library.origin, fake_torchvision(tmp_path) / ("_C" + Path(library.origin).suffix))
    assert answer(STATE, path=tmp_path) == "False False False"


def test_folder_that_is_no_package_counts_as_absent(tmp_path):
    (tmp_path / "torchvision").mkdir()
    hidden = WITHOUT.format(package="torchvision").replace(
        "return None if", f"return super().find_spec(name, [{str(tmp_path)!r}]) if"
    )
    assert answer(hidden, STATE) == "False False False"


def test_another_guard_that_came_first_is_completed(tmp_path):
    fake_torchvision(tmp_path)
    first = """
        import torch
        first = torch.library.Library("torchvision", "DEF")
        first.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    """
    assert answer(first, STATE, path=tmp_path) == "True True True"


def test_calling_twice_keeps_the_first_library():
    code = """
        from commonspace import _torchvision_guard as module
        library = module._library
        first, second = module.guard(), module.guard()
        print(first == second, module._library is library)
    """
    assert answer(code) == "True True"
