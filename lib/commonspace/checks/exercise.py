"""How a check works: fresh random inputs, an independent reference, and a hint for each mistake that is known.

A learner's function is run on inputs drawn anew at every call and compared with a reference. Where it differs, it is
compared with the known mistakes too: a mistake is itself a function, and who makes it gets the same numbers.
"""

import copy
import inspect
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

NOT_ATTEMPTED, PASSED, FAILED = "not attempted", "passed", "failed"


@dataclass(frozen=True)
class Result:
    """What a check found. ``mistake`` names the known mistake that was recognised, if one was."""

    status: str  # "not attempted", "passed" or "failed"
    message: str
    mistake: str | None = None

    def _ipython_display_(self) -> None:
        """Nothing: the check has printed its message already."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer one makes easily: its name, the hint for it, and a function that makes it."""

    name: str
    hint: str
    answer: Callable


@dataclass(frozen=True)
class Exercise:
    """One exercise: call it with a learner's function, and it prints what it found.

    ``inputs(rng)`` draws the arguments of one trial. ``compare_as(answer, *arguments)`` turns an answer into what must
    agree, where several answers are right (signs of singular vectors, for instance).
    """

    name: str
    inputs: Callable[[np.random.Generator], tuple]
    reference: Callable
    mistakes: tuple[Mistake, ...]
    well_done: str  # what the learner has now shown
    compare_as: Callable = lambda answer, *arguments: answer
    always: tuple[tuple, ...] = ()  # arguments tried at every call before the random ones: edges that chance may miss
    trials: int = 8
    tolerance: float = 1e-6

    def __call__(self, answer: Callable, seed: int | None = None) -> Result:
        """Check ``answer`` on random inputs (drawn from ``seed``, new ones at every call by default)."""
        if not callable(answer):
            result = Result(FAILED, f"Pass the function itself, {self.name}, not the result of calling it.")
        else:
            result = self._check(answer, np.random.default_rng(secrets.randbits(64) if seed is None else seed))
        print(result.message)
        return result

    def _check(self, answer: Callable, rng: np.random.Generator) -> Result:
        trials = [*self.always, *(self.inputs(rng) for _ in range(self.trials))]
        got = []
        for arguments in trials:
            given = copy.deepcopy(arguments)
            try:
                with np.errstate(all="ignore"):  # a division by zero is answered below, in words
                    value = answer(*given)
            except NotImplementedError:
                return Result(NOT_ATTEMPTED, f"{self.name}: not attempted yet. Replace the raise line, then run again.")
            except Exception as error:
                return Result(
                    FAILED, f"{self.name} stopped with {type(error).__name__}: {error}\n{self._shown(arguments)}"
                )
            if value is None:
                return Result(FAILED, f"{self.name} returned None. Does every path end in a return?")
            if not _same(given, arguments, 0.0):
                return Result(FAILED, f"{self.name} changes its arguments in place. Work on copies of them.")
            got.append(value)
        expected = [self.reference(*arguments) for arguments in trials]
        wrong = [not self._agree(g, e, a) for g, e, a in zip(got, expected, trials, strict=True)]
        if not any(wrong):
            return Result(PASSED, f"{self.name}: right on {self.trials} fresh random inputs. {self.well_done}")
        first = wrong.index(True)
        came = self._came(expected[first], got[first], trials[first])
        for mistake in self.mistakes:
            with np.errstate(all="ignore"):
                made = all(
                    self._agree(g, mistake.answer(*copy.deepcopy(a)), a) for g, a in zip(got, trials, strict=True)
                )
            if made:
                return Result(FAILED, f"{self.name} is not right yet: {mistake.hint}\n{came}", mistake.name)
        return Result(FAILED, f"{self.name} is not right yet ({sum(wrong)} of {len(trials)} inputs).\n{came}")

    def _came(self, expected: Any, got: Any, arguments: tuple) -> str:
        """What was expected and what came; of dicts with the right keys, only the entries that differ."""
        if isinstance(expected, dict) and isinstance(got, dict) and expected.keys() == got.keys():
            lines = [
                f"{key}: expected {_brief(value)}\n     got {_brief(got[key])}"
                for key, value in expected.items()
                if not self._agree({key: got[key]}, {key: value}, arguments)
            ]
            came = "\n".join(lines)
        else:
            came = f"expected {_brief(expected)}\n     got {_brief(got)}"
        return f"{came}\n{self._shown(arguments)}"

    def _shown(self, arguments: tuple) -> str:
        names = inspect.signature(self.reference).parameters
        return "     for " + ", ".join(f"{name} = {_brief(a)}" for name, a in zip(names, arguments, strict=True))

    def _agree(self, got: Any, expected: Any, arguments: tuple) -> bool:
        try:
            return _same(self.compare_as(got, *arguments), self.compare_as(expected, *arguments), self.tolerance)
        except (TypeError, ValueError, IndexError, AttributeError):  # of another shape or type than was asked for
            return False


def _same(a: Any, b: Any, tolerance: float) -> bool:
    """Whether two answers agree: numbers and arrays to ``tolerance``, containers entry by entry."""
    if isinstance(a, dict) or isinstance(b, dict):
        both = isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys()
        return both and all(_same(a[key], b[key], tolerance) for key in a)
    if isinstance(a, tuple) or isinstance(b, tuple):
        both = isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)) and len(a) == len(b)
        return both and all(_same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, str) or isinstance(b, str):
        return isinstance(a, str) and isinstance(b, str) and a == b
    a, b = _array(a), _array(b)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True))


def _numpy(value: Any) -> np.ndarray:
    return value.numpy(force=True) if isinstance(value, torch.Tensor) else np.asarray(value)


def _array(value: Any) -> np.ndarray:
    """As floats, or as complex numbers if it has some."""
    value = _numpy(value)
    return value.astype(complex if np.iscomplexobj(value) else float)


def _brief(value: Any) -> str:
    """An answer in a line or a few: numbers in full, large arrays by shape and first entries."""
    if isinstance(value, tuple):
        return "(" + ", ".join(_brief(v) for v in value) + ")"
    if isinstance(value, (np.ndarray, torch.Tensor)):
        array = _array(value)
        if array.size > 15:
            return f"an array of shape {array.shape}, beginning {np.array2string(array.ravel()[:3], precision=3)}"
        return np.array2string(_numpy(value), precision=3, suppress_small=np.iscomplexobj(array))
    if isinstance(value, float):
        return f"{value:.4f}"
    return repr(value)
