"""Lets torchvision be imported where its compiled operators do not load.

torchvision's wheel is compiled against one build of torch. Beside another build (PyPI's torchvision and a CPU-only
torch are the common case) its extension ``_C`` cannot load, and then ``import torchvision``, and with it the models of
transformers, stop with "operator torchvision::nms does not exist": torchvision describes two operators that nobody has
defined. `guard` defines these two, so that torchvision's models, transforms and data sets work. What it cannot give
back is the operators themselves: object detection (``nms``, ``roi_align`` and their like) and ``torchvision.io`` stay
unavailable, and calling ``nms`` says so. Read pictures with Pillow.
"""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library = None  # the stand-ins live as long as this object


def _installed_folder() -> Path | None:
    """The folder of the installed torchvision, found without importing it; None where there is none."""
    spec = importlib.util.find_spec("torchvision")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _extension_loads(folder: Path) -> bool:
    """Whether the compiled operators in torchvision's ``folder`` load into this process, tried as torchvision does."""
    import torch

    finder = importlib.machinery.FileFinder(
        str(folder), (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    )
    spec = finder.find_spec("_C")
    if spec is None:
        return False
    if os.name == "nt":  # there a library finds its neighbours only in folders that were named
        os.add_dll_directory(str(folder))
    try:
        torch.ops.load_library(spec.origin)
    except OSError:
        return False
    return True


def _unavailable(*_args: object) -> None:
    raise NotImplementedError(
        "nms is a compiled operator of torchvision, and torchvision's compiled operators do not load beside this build "
        "of torch; install the torchvision that was built for it (`commonspace doctor` names the command)"
    )


def _define_stand_ins():
    import torch

    # A fragment, not a definition of the whole name space: it can add what is missing when someone else began one.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SIGNATURE)
            library.impl(name, _unavailable, "CompositeExplicitAutograd")
    return library


def guard() -> bool:
    """Define torchvision's operators ``nms`` and ``qnms`` where torchvision is installed and its own do not load.

    Call it before the first import of torchvision. Calling it again changes nothing. Returns whether the stand-ins of
    this module are in place. Where torchvision is absent or whole, or torch itself does not load, nothing is defined.
    """
    global _library
    if _library is None and "torchvision" not in sys.modules:
        try:
            import torch  # noqa: F401
        except (ImportError, OSError):  # `commonspace doctor` must still start, to say so
            return False
        folder = _installed_folder()
        if folder is not None and not _extension_loads(folder):
            _library = _define_stand_ins()
    return _library is not None
