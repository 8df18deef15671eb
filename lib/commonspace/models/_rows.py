"""What the models that are not networks ask of the rows they are given, in one place."""

import numpy as np
import torch


def as_rows(values, name: str, columns: int | None = None) -> np.ndarray:
    """``values`` as a finite float64 array of shape (n, d), or a ValueError that says what is wrong with it."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy() if values.dtype == torch.bfloat16 else values.detach().cpu()
    try:
        rows = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers of shape (n, d): {error}") from None
    if rows.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d), one row a sample; got {rows.shape}. One feature: x[:, None]")
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        raise ValueError(f"{name} is empty: its shape is {rows.shape}")
    if columns is not None and rows.shape[1] != columns:
        raise ValueError(f"{name} has {rows.shape[1]} columns, but the model was fitted with {columns}")
    with np.errstate(all="ignore"):
        total = rows.sum()  # finite only if all are, and it asks for no memory
    if not np.isfinite(total) and not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        raise ValueError(f"{name} has NaN or infinite values in {len(bad)} row(s), the first is row {bad[0]}")
    return rows


def as_pairs(X, Y, columns=(None, None), names=("X", "Y")) -> tuple[np.ndarray, np.ndarray]:
    """Both views through ``as_rows``, with as many rows as each other and at least 2; or a ValueError."""
    X, Y = (as_rows(V, name, d) for V, name, d in zip((X, Y), names, columns, strict=True))
    if len(X) != len(Y):
        raise ValueError(
            f"{names[0]} has {len(X)} rows and {names[1]} has {len(Y)}; row i of both must describe the same pair"
        )
    if len(X) < 2:
        raise ValueError("a correlation needs at least 2 pairs, got 1")
    return X, Y


def as_labels(label, n: int) -> np.ndarray:
    """``label`` as integers (n,), one class a row and at least two classes; or a ValueError."""
    label = label.detach().cpu().numpy() if isinstance(label, torch.Tensor) else np.asarray(label)
    if label.ndim != 1 or label.dtype.kind not in "iu":
        raise ValueError(
            f"label must be integers of shape (n,), one class a pair; got {label.dtype} of shape {label.shape}"
        )
    if len(label) != n:
        raise ValueError(f"label has {len(label)} entries for {n} pairs")
    if (label == label[0]).all():
        raise ValueError(f"every label is {label[0]}: there are no classes to tell apart")
    return label


def whole_number(value, name: str, least: int) -> None:
    """Raises ValueError unless ``value`` is an integer >= ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")


def number(value, name: str, above_zero: bool = False) -> None:
    """Raises ValueError unless ``value`` is a finite number >= 0; > 0 where ``above_zero``."""
    real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and np.isfinite(value)
    if not real or value < 0 or (above_zero and value == 0):
        raise ValueError(f"{name} must be a number {'>' if above_zero else '>='} 0, got {value!r}")


def paired_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation of column i of ``a`` with column i of ``b``: (n, k), (n, k) -> (k,), each in [-1, 1].

    A column without variance correlates with nothing: 0.
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.divide((a * b).sum(axis=0), norms, out=np.zeros_like(norms), where=norms > 0)
