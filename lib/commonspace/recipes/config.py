"""What a recipe is told: one frozen dataclass, checked when it is made, the same from Python, shell and YAML."""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self


@dataclass(frozen=True)
class BaseConfig:
    """The fields every recipe has. A recipe adds its own, and says in `profiles` what its sizes are.

    A field of another type than declared, an unknown name or an unknown profile raises ValueError; for a mistyped name
    it gives the nearest.
    """

    seed: int = 0
    """of weights, batches and everything else that is drawn"""
    device: str = "auto"
    """auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps"""
    epochs: int = 60
    """passes over the training pairs"""
    batch_size: int = 64
    """pairs a step, over all processes"""
    lr: float = 1e-3
    """learning rate"""
    data: str = "digits"
    """data set, one of `commonspace.recipes.datasets.names()`"""
    output: str | None = None
    """folder of the run; by default one below the cache, named by this configuration"""

    profiles: ClassVar[dict[str, dict[str, Any]]] = {"lesson": {}, "paper": {}}

    @classmethod
    def profile(cls, name: str = "lesson", **overrides: Any) -> Self:
        """The configuration of a named size, ``overrides`` in place of its values: `Config.profile("paper", lr=1e-4)`.

        A profile's values for one data set stand under ``"<name>/<data>"``.
        """
        known = [key for key in cls.profiles if "/" not in key]
        if name not in known:
            raise ValueError(f"no profile is called {name!r}; there are {', '.join(known)}{_nearest(name, known)}")
        names = {field.name for field in dataclasses.fields(cls)}
        for key in overrides:
            if key not in names:
                raise ValueError(f"{cls.__qualname__} has no field {key!r}{_nearest(key, names)}")
        data = overrides.get("data", cls.profiles[name].get("data", cls.data))
        return cls(**(cls.profiles[name] | cls.profiles.get(f"{name}/{data}", {}) | overrides))

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _as_declared(field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.lr <= 0:
            raise ValueError(f"lr must be greater than 0, got {self.lr}")


def _nearest(name: str, known) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; the fields are {', '.join(sorted(known))}"


def _as_declared(name: str, value: Any, declared: Any) -> Any:
    """``value`` if it is of the declared type (an int may stand for a float, a list for a tuple), else ValueError."""
    origin = typing.get_origin(declared)
    if origin is Literal:
        if value not in typing.get_args(declared):
            raise ValueError(f"{name} must be one of {', '.join(map(repr, typing.get_args(declared)))}; got {value!r}")
        return value
    if origin in (types.UnionType, typing.Union):
        for one in typing.get_args(declared):
            if one is type(None) and value is None:
                return None
            if one is not type(None) and value is not None:
                return _as_declared(name, value, one)
    if origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(_as_declared(f"{name}[{i}]", v, typing.get_args(declared)[0]) for i, v in enumerate(value))
    elif declared is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, declared) and not (declared is int and isinstance(value, bool)):
        return value
    kind = getattr(declared, "__name__", str(declared))
    hint = " (YAML reads 1e-3 as a text: write 1.0e-3)" if isinstance(value, str) and declared in (float, int) else ""
    raise ValueError(f"{name} must be {kind}, got {value!r}{hint}")
