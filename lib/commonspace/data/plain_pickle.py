"""A pickled .npy file as plain Python, without running anything that the file asks for.

numpy saves what is no array of numbers as a pickle, and a pickle is a program: it may name any function and call it.
Here it may name numpy's arrays and numbers and Python's sets, and none of those is called either: small classes of ours
stand in for them and read the bytes themselves, since numpy's own reading trusts what a pickle says of memory.
"""

import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np


class _Dtype:
    """Stands in for numpy.dtype: of numbers, of strings, or of objects ("O"), with no fields."""

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        if not re.fullmatch(r"b1|i[1248]|u[1248]|f[248]|[SU][1-9]\d{0,5}|O[48]?", code):
            raise ValueError(f"an array of {code!r}: numbers, strings and objects alone are read")
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple) -> None:
        _, self.order, *inner = state[:5]
        if self.order not in tuple("<>=|") or any(part is not None for part in inner):
            raise ValueError("an array with fields: numbers, strings and objects alone are read")

    def values(self, raw: str | bytes, n: int) -> list:
        """The n numbers or strings in these bytes, which Python 2 called a string."""
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        kind = np.dtype(self.order + self.code)
        if len(raw) != n * kind.itemsize:
            raise ValueError(f"{n} values of {kind.itemsize} bytes in {len(raw)} bytes")
        return [v.decode("latin1") if isinstance(v, bytes) else v for v in np.frombuffer(raw, kind).tolist()]


class _Array(list):
    """Stands in for numpy.ndarray: nested lists; an array without axes is a list of its one value."""

    __slots__ = ()

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        n = math.prod(shape)
        values = raw if dtype.code[0] == "O" else dtype.values(raw, n)
        if not isinstance(values, list) or len(values) != n or min(shape, default=0) < 0:
            raise ValueError(f"an array of shape {shape} with {len(values)} values")
        nested = np.empty(n, dtype=object)
        for i, value in enumerate(values):
            nested[i] = value
        self[:] = nested.reshape(shape or 1, order="F" if fortran else "C").tolist()


class _Call:
    """A function's stand-in. It is a class, and has __setstate__, so that no pickle can write into it."""

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a function has no state")


class _Reconstruct(_Call):
    """Stands in for numpy's _reconstruct: an empty array, whose state comes next."""

    def __new__(cls, kind: Any, shape: tuple, code: Any):
        return _Array()


class _Scalar(_Call):
    """Stands in for numpy's scalar: one number or string."""

    def __new__(cls, dtype: _Dtype, raw: str | bytes):
        return dtype.values(raw, 1)[0]


class _Bytes(_Call):
    """Stands in for _codecs.encode and bytes, by which Python 3 writes bytes for Python 2."""

    def __new__(cls, text: str = "", encoding: str = "latin1"):
        return text.encode("latin1")


_KNOWN = {("numpy", "dtype"): _Dtype, ("numpy", "ndarray"): _Array}
_KNOWN |= {("_codecs", "encode"): _Bytes, ("__builtin__", "bytes"): _Bytes}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before and since numpy 2
    _KNOWN |= {(_core, "_reconstruct"): _Reconstruct, (_core, "scalar"): _Scalar}
for _builtins in ("__builtin__", "builtins"):  # Python 2 and 3
    _KNOWN |= {(_builtins, "set"): set, (_builtins, "frozenset"): frozenset}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in _KNOWN:
            raise ValueError(
                f"it asks for {module}.{name}, and was refused: only numpy's arrays and numbers are read from a "
                "pickle. Nothing was run; do not open this file by other means"
            )
        return _KNOWN[module, name]


def load_npy(path: Path) -> Any:
    """What ``np.save(path, value)`` saved of a Python value, in lists, dicts, tuples, sets, strings and numbers.

    Arrays come as nested lists, numpy's numbers as Python's, the strings of Python 2 as text (latin1). Raises
    ValueError for a file that is no such pickle or is damaged, and, naming it, for whatever else a pickle asks for.
    """
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            if shape != () or not dtype.hasobject:
                raise ValueError(f"it holds an array {shape} of {dtype}, a pickled value was expected")
            (value,) = _Unpickler(file, encoding="latin1").load()
        except Exception as error:  # a damaged pickle is answered with a dozen kinds of exception
            raise ValueError(f"{path.name} cannot be read: {error}") from None
    return value
