"""Pickled .npy files: read as numpy itself reads them, and nothing that they ask for is run."""

import contextlib
import gc
import io
import pickle
import random
import warnings

import numpy as np
import pytest

from commonspace.data import plain_pickle
from commonspace.data.plain_pickle import load_npy


def plain(value):
    """numpy's arrays and numbers as lists and Python's."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist()) if value.shape else [plain(value.item())]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, dict):
        return {key: plain(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(own) for own in value)
    return value.decode("latin1") if isinstance(value, bytes) else value


def drawn(seed: int, depth: int = 3):
    """A random value of lists, dicts, tuples, texts, numbers, numpy's numbers and arrays of every order and axes."""
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    kinds = ["i1", "<i8", ">i4", "u2", "f2", "<f8", ">f4", "bool", "U7", ">U3", "S5"]
    if depth and rng.random() < 0.8:
        inner = [drawn(rng.randrange(10**9), depth - 1) for _ in range(rng.randrange(1, 5))]
        return rng.choice([inner, tuple(inner), {f"k\xe9y{i}": value for i, value in enumerate(inner)}])
    values = numbers.integers(0, 100, rng.choice([(), (1,), (3,), (2, 3), (2, 1, 2), (0,), (2, 0)]))
    array = values.astype(rng.choice(kinds))
    objects = np.empty(2, dtype=object)
    objects[:] = [[1, "a"], None]
    choices = [array, np.asfortranarray(array), objects, 3, -1.5, 10**30, "text", "é" * 300, True, None]
    return rng.choice([*choices, np.float32(0.1), np.int64(-7), np.str_("word"), np.bool_(False)])


@pytest.mark.parametrize("seed", range(40))
def test_values_are_those_that_numpy_reads(made, tmp_path, seed):
    value = {"drawn": drawn(seed), "more": drawn(seed + 1000)}
    path = tmp_path / "a.npy"
    for content in (made["python2"](value), saved(value)):
        path.write_bytes(content)
        expected = np.load(path, allow_pickle=True, encoding="latin1")[()]
        assert load_npy(path) == plain(expected)
        assert repr(load_npy(path)) == repr(plain(expected))  # types as well


def saved(value, protocol: int | None = None) -> bytes:
    """What numpy.save writes, or the same in another protocol of pickle."""
    content = io.BytesIO()
    if protocol is None:
        np.save(content, value, allow_pickle=True)
    else:
        array = np.empty((), dtype=object)
        array[()] = value
        np.lib.format.write_array_header_1_0(content, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(array, content, protocol=protocol)
    return content.getvalue()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_every_protocol_that_numpy_has_written_is_read(tmp_path, protocol):
    value = {"a": np.arange(6).reshape(2, 3), "b": np.float64(0.1), "c": {1, 2}, "d": frozenset("x"), "e": np.zeros(0)}
    path = tmp_path / "a.npy"
    path.write_bytes(saved(value, protocol))
    assert load_npy(path) == {"a": [[0, 1, 2], [3, 4, 5]], "b": 0.1, "c": {1, 2}, "d": frozenset("x"), "e": []}


def test_one_list_that_stands_in_two_places_stays_one(tmp_path):
    shared = [1]
    path = tmp_path / "a.npy"
    path.write_bytes(saved({"a": shared, "b": shared}))
    value = load_npy(path)
    assert value["a"] is value["b"]


# ---- hostile files --------------------------------------------------------------------------------------------------


def header(pickled: bytes) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|O", "fortran_order": False, "shape": ()})
    return content.getvalue() + pickled


def call(name: str, *arguments: str, opcode: str = "GLOBAL") -> bytes:
    """A pickle of [name(*arguments)]; name is "module function"."""
    module, function = name.split()
    texts = b"".join(b"V" + text.encode() + b"\n" for text in arguments)
    if opcode == "INST":
        return b"\x80\x02](" + texts + f"i{module}\n{function}\n".encode() + b"a."
    known = f"c{module}\n{function}\n".encode()
    if opcode == "STACK_GLOBAL":
        known = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, function)) + b"\x93"
    return b"\x80\x04]" + known + b"(" + texts + (b"t\x81a." if opcode == "NEWOBJ" else b"tRa.")


CALLS = [
    ("posix system", "touch {}"),
    ("os system", "touch {}"),
    ("__builtin__ eval", "open({!r}, 'w')"),
    ("builtins eval", "open({!r}, 'w')"),
    ("builtins exec", "open({!r}, 'w')"),
    ("builtins open", "{}", "w"),
    ("__builtin__ file", "{}", "w"),
    ("builtins getattr", "x", "upper"),
    ("builtins __import__", "os"),
    ("subprocess Popen", "touch {}"),
    ("functools partial", "x"),
    ("copy_reg _reconstructor", "x"),
    ("numpy load", "{}"),
    ("numpy fromfile", "{}"),
    ("numpy memmap", "{}", "u1", "w+"),
    ("numpy ones", "9"),
    ("numpy.core.multiarray fromfile", "{}"),
    ("numpy._core.multiarray frombuffer", "x"),
    ("numpy.testing._private.utils runstring", "open({!r}, 'w')", ""),
    ("numpy dtype.type", "x"),
    ("builtins set.add", "x"),
    ("collections OrderedDict",),
    ("commonspace.data.plain_pickle load_npy", "{}"),
]


@pytest.mark.parametrize("opcode", ["GLOBAL", "STACK_GLOBAL", "INST", "NEWOBJ"])
@pytest.mark.parametrize("asked", CALLS, ids=lambda asked: asked[0])
def test_whatever_else_is_asked_for_is_refused_by_name_and_not_run(tmp_path, asked, opcode):
    mark, path = tmp_path / "mark", tmp_path / "a.npy"
    name, *arguments = asked
    path.write_bytes(header(call(name, *(text.format(str(mark)) for text in arguments), opcode=opcode)))
    with pytest.raises(ValueError, match=r"a\.npy cannot be read: it asks for ") as caught:
        load_npy(path)
    assert f"asks for {name.replace(' ', '.')}, and was refused" in str(caught.value)
    assert not mark.exists()


def test_these_files_would_run_otherwise(tmp_path):
    for i, asked in enumerate(CALLS[1:6]):
        if asked[0].startswith("__"):
            continue
        mark = tmp_path / str(i)
        (tmp_path / "a.npy").write_bytes(header(call(asked[0], *(text.format(str(mark)) for text in asked[1:]))))
        with contextlib.suppress(ValueError), warnings.catch_warnings(action="ignore"):  # no array, and files left open
            np.load(tmp_path / "a.npy", allow_pickle=True)
            gc.collect()
        assert mark.exists()


def test_no_reference_outside_the_file_is_followed(tmp_path):
    (tmp_path / "a.npy").write_bytes(header(b"\x80\x02]X\x01\x00\x00\x00xQa."))
    with pytest.raises(ValueError, match="persistent"):
        load_npy(tmp_path / "a.npy")


STATE = b"}X\x01\x00\x00\x00xK\x01s"  # {"x": 1}


@pytest.mark.parametrize("state", [STATE, b"N" + STATE + b"\x86"])
@pytest.mark.parametrize(
    "name",
    [
        b"numpy.core.multiarray\nscalar",
        b"numpy.core.multiarray\n_reconstruct",
        b"numpy\ndtype",
        b"numpy\nndarray",
        b"_codecs\nencode",
        b"builtins\nset",
    ],
)
def test_no_pickle_writes_into_a_stand_in(tmp_path, name, state):
    path = tmp_path / "a.npy"
    path.write_bytes(header(b"\x80\x02c" + name + b"\n" + state + b"b\x85."))
    before = {known: dict(vars(kind)) for known, kind in plain_pickle._KNOWN.items()}
    with pytest.raises(ValueError, match="cannot be read"):
        load_npy(path)
    assert {known: dict(vars(kind)) for known, kind in plain_pickle._KNOWN.items()} == before


class Array:
    """Pickles as an array with a state of its own."""

    def __init__(self, shape, code, raw, order="<", fields=None):
        dtype = Dtype(code, order, fields)
        self.state = (1, shape, dtype, False, raw)

    def __reduce__(self):
        return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b"b"), self.state


class Dtype:
    """Pickles as a dtype with a state of its own."""

    def __init__(self, code, order, fields):
        self.code, self.state = code, (3, order, None, ("f",) if fields else None, fields, -1, -1, 0)

    def __reduce__(self):
        return np.dtype, (self.code, False, True), self.state


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (Array((2,), "i8", b"\0" * 8), "2 values of 8 bytes in 8 bytes"),
        (Array((10**12,), "i1", b"\0"), "1000000000000 values of 1 bytes in 1 bytes"),
        (Array((-1, -2), "i1", b"\0\0"), r"an array of shape \(-1, -2\) with 2 values"),
        (Array((1,), "O8", b"\0" * 8), r"an array of shape \(1,\) with 8 values"),  # no memory taken for an object
        (Array((2,), "O8", [1]), r"an array of shape \(2,\) with 1 values"),
        (Array((1,), "V8", b"\0" * 8), "an array of 'V8': numbers, strings and objects alone"),
        (Array((1,), "i8", b"\0" * 8, fields={"f": (np.dtype("O"), 0)}), "an array with fields"),
        (Array((1,), "i8", b"\0" * 8, order="x"), "an array with fields: numbers, strings and objects alone"),
        (np.zeros(2, dtype=[("f", object)]), "an array of 'V8'"),
        (np.zeros(2, dtype="M8[s]"), "an array of 'M8'"),
        (np.zeros(2, dtype=complex), "an array of 'c16'"),
    ],
)
def test_an_array_that_lies_about_its_memory_is_refused(tmp_path, array, message):
    path = tmp_path / "a.npy"
    path.write_bytes(saved({"a": array}, 4))
    with pytest.raises(ValueError, match=message):
        load_npy(path)


@pytest.mark.parametrize(
    "content", [b"", b"x" * 50, header(b""), header(b"\x80\x02."), header(b"I1\n."), header(b"]a")]
)
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npy cannot be read"):
        load_npy(path)


@pytest.mark.parametrize("cut", [1, 0.3, 0.6, 0.9, -1])
def test_a_file_cut_short_is_named(tmp_path, cut):
    whole = saved({"a": list(range(100)), "b": np.arange(50)})
    path = tmp_path / "a.npy"
    path.write_bytes(whole[: int(cut * len(whole)) if isinstance(cut, float) else cut])
    with pytest.raises(ValueError, match=r"a\.npy cannot be read"):
        load_npy(path)


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.array([{}, {}], dtype=object)])
def test_a_file_of_numbers_or_of_several_values_is_named(tmp_path, array):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match="a pickled value was expected"):
        load_npy(tmp_path / "a.npy")
