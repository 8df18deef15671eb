"""Ranks, R@K, median rank and mAP of a score matrix ``sim`` (n_query, n_gallery), higher is closer.

Everything here comes from one number. Take a query's relevant items, best score first, and for the i-th of them count
the NON-relevant items that score at least as high, c_i. Then rank = c_1, the i-th relevant item stands at position
i + c_i, and the precision there is i / (i + c_i).

"At least" is the tie rule: among equal scores the non-relevant items come first, so a model that gives every pair the
same score finds nothing. Excluded items (the query itself, a source image) are in no way counted.
What may be given, as numpy arrays, torch tensors (any device) or nested lists:

``relevant``  (n_query,) integer ids into the gallery, (n_query, n_gallery) bool, or per query a list of ids
``exclude``   the same three forms; a list may be empty
``no_relevant``  what to do with a query that has no relevant item left: "raise" a ValueError, "skip" the query, or
    count it as a "miss" (rank n_gallery, no hit for any K, average precision 0)
"""

import contextlib
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

NO_RELEVANT = ("raise", "skip", "miss")


def as_tensor(x: Any, name: str) -> Tensor:
    """``x`` as a tensor; lists of Python numbers keep double precision. Raises ValueError if it cannot be read."""
    if isinstance(x, Tensor):
        return x.detach()
    try:
        array = np.require(x, requirements="W")  # torch shares the memory, and wants it writable, with steps forward
        return torch.as_tensor(array.copy() if min(array.strides, default=0) < 0 else array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be an array of numbers; {type(x).__name__} cannot be read: {error}") from error


def double(x: Tensor) -> Tensor:
    """``x`` in float64; MPS has none, so from there on the CPU."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def check_finite(x: Tensor, name: str) -> None:
    """Raises ValueError that names the first row with a NaN or an infinite value."""
    if not torch.stack(torch.aminmax(x)).isfinite().all():
        bad = (~x.isfinite()).any(dim=1).nonzero()[:, 0]
        raise ValueError(f"{name} has NaN or infinite values in {len(bad)} row(s), the first is row {int(bad[0])}")


def read_matrix(x: Any, name: str, axes: str) -> Tensor:
    """A finite matrix in float32 or float64: half precision goes to float32, integers to float64. Raises ValueError."""
    x = as_tensor(x, name)
    if x.ndim != 2 or x.numel() == 0:
        raise ValueError(f"{name} must have shape {axes}, at least one row and one column; got {tuple(x.shape)}")
    if x.dtype == torch.bool or x.is_complex():
        raise ValueError(f"{name} must hold real numbers; got {x.dtype} (are two arguments swapped?)")
    if x.element_size() < 4 or not x.is_floating_point():
        x = x.float() if x.is_floating_point() else double(x)
    check_finite(x, name)
    return x


def check_choice(value: Any, name: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError that lists ``choices`` when ``value`` is none of them."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def positive_int(value: Any, name: str) -> int:
    """``value`` as an int >= 1. Raises ValueError."""
    with contextlib.suppress(TypeError):  # not an integer
        if not isinstance(value, bool) and operator.index(value) >= 1:
            return operator.index(value)
    raise ValueError(f"{name} must be a positive integer; got {value!r}")


def positive_ints(ks: Any) -> list[int]:
    """``ks`` as a list of ints >= 1; one int will do. Raises ValueError."""
    if not (ks := list(ks) if isinstance(ks, Iterable) else [ks]):
        raise ValueError("ks is empty; give at least one positive integer, such as ks=(1, 5, 10)")
    return [positive_int(k, "every k in ks") for k in ks]


class Items:
    """Per query a set of gallery items, from any form above; ``items[rows]`` is a block of them, (b, n_gallery) bool.

    Raises ValueError when the number of queries does not match, or an id is negative or not in the gallery.
    """

    def __init__(self, given: Any, name: str, n_query: int, n_gallery: int, device: torch.device):
        self.name, self.n_query, self.n_gallery, self.device = name, n_query, n_gallery, device
        if isinstance(given, Tensor) and given.dtype != torch.bool:
            given = given.cpu().numpy() if given.ndim == 1 and not given.is_floating_point() else given.tolist()
        if not isinstance(given, Tensor):
            with contextlib.suppress(TypeError, ValueError, RuntimeError):  # lists of different lengths stay lists
                given = np.asarray(given)
        shape = tuple(given.shape) if hasattr(given, "shape") else (len(given),)
        if shape[:1] != (n_query,):
            raise ValueError(f"{name} must have one entry a query, {n_query} in all; got shape {shape} of {given!r}")
        self.mask = None
        if len(shape) == 2 and given.dtype in (torch.bool, np.bool_):
            if shape[1] != n_gallery:
                raise ValueError(f"{name} has shape {shape}; the scores have {(n_query, n_gallery)}")
            self.mask = as_tensor(given, name)
        else:
            self._read_ids(given)

    def _read_ids(self, given: Any) -> None:
        if isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype.kind in "iu":
            lengths, ids = np.ones(len(given), int), given.astype(np.int64)
        else:
            entries = [self._entry(entry, query) for query, entry in enumerate(given)]
            lengths, ids = np.array([len(entry) for entry in entries]), np.concatenate(entries)
        if len(ids) and (lengths == self.n_gallery).all() and self.n_gallery > 2 and ids.min() >= 0 and ids.max() <= 1:
            raise ValueError(f"{self.name} looks like a matrix of 0 and 1, but integers are ids: make it boolean")
        queries = np.repeat(np.arange(self.n_query), lengths)
        outside = np.flatnonzero((ids < 0) | (ids >= self.n_gallery))
        if len(outside):
            raise ValueError(
                f"{self.name} gives query {queries[outside[0]]} the id {ids[outside[0]]}; ids are positions in the "
                f"gallery, 0 to {self.n_gallery - 1}; a query without any takes an empty list"
            )
        self.starts = [0, *np.cumsum(lengths).tolist()]
        self.queries, self.ids = torch.as_tensor(queries).to(self.device), torch.as_tensor(ids).to(self.device)

    def _entry(self, entry: Any, query: int) -> np.ndarray:
        if isinstance(entry, (Tensor, set, frozenset)):
            entry = entry.tolist() if isinstance(entry, Tensor) else list(entry)
        with contextlib.suppress(ValueError):  # a list of unequal lists
            ids = np.atleast_1d(np.asarray(entry))
            if ids.ndim == 1 and (ids.dtype.kind in "iu" or not len(ids)):
                return ids.astype(np.int64)
        raise ValueError(
            f"{self.name} must be ({self.n_query},) integer ids into the gallery, a boolean array of shape "
            f"{(self.n_query, self.n_gallery)}, or per query a list of ids; query {query} has {entry!r}"
        )

    def __getitem__(self, rows: slice) -> Tensor:
        if self.mask is not None:
            return self.mask[rows].to(self.device)
        block = torch.zeros(rows.stop - rows.start, self.n_gallery, dtype=torch.bool, device=self.device)
        part = slice(self.starts[rows.start], self.starts[rows.stop])
        block[self.queries[part] - rows.start, self.ids[part]] = True
        return block


def row_blocks(n_query: int, n_gallery: int, at_most: int | None = None) -> Iterator[slice]:
    """Slices over the queries, so that about four million scores are worked on at a time: quick, and bounded memory."""
    step = min(max(64, 2**22 // n_gallery), at_most or n_query)
    for start in range(0, n_query, step):
        yield slice(start, min(start + step, n_query))


def by_blocks(blocks: Iterable[slice], n_query: int, compute: Callable[[slice], tuple[Tensor, ...]]) -> list[Tensor]:
    """The columns (n_query,) that ``compute`` returns block by block, written in place.

    Small results kept apart would lie between freed large blocks: no new one would fit, and memory grow after all.
    """
    whole: list[Tensor] = []
    for rows in blocks:
        parts = compute(rows)
        whole = whole or [part.new_empty(n_query) for part in parts]
        for column, part in zip(whole, parts, strict=True):
            column[rows] = part
    return whole


def places(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns (m,) int64 of what is True in ``mask`` (b, n) bool, row by row."""
    if mask.device.type != "cpu":
        return mask.nonzero(as_tuple=True)
    row, column = np.divmod(np.flatnonzero(mask.numpy()), mask.shape[1])  # several times faster than torch's
    return torch.from_numpy(row), torch.from_numpy(column)


def count_above(scores: Tensor, relevant: Tensor, excluded: Tensor | None, best_only: bool) -> tuple[Tensor, Tensor]:
    """c_i of the module's docstring: per relevant item, best first, how many non-relevant items score at least as high.

    ``scores`` (b, n) finite, ``relevant`` and ``excluded`` (b, n) bool. Returns c (b, r) int64 and the number of
    relevant items (b,) int64. r is the largest of these (with ``best_only``: 1); a row with fewer is filled up with n,
    so that a query without relevant items has rank n.
    """
    if excluded is not None:
        relevant = relevant & ~excluded
    query, item = places(relevant)
    n_relevant = query.bincount(minlength=len(scores))
    place = torch.arange(len(query), device=scores.device) - (n_relevant.cumsum(0) - n_relevant)[query]
    levels = scores.new_full((len(scores), max(1, int(n_relevant.max()))), -torch.inf)
    levels[query, place] = scores[query, item]
    levels = levels.amax(dim=1, keepdim=True) if best_only else levels.sort(dim=1, descending=True).values  # (b, r)
    others = scores.clone(memory_format=torch.contiguous_format)
    for row, column in [(query, item)] if excluded is None else [(query, item), places(excluded)]:
        others[row, column] = -torch.inf  # a few places of each row: quicker than a mask over all of it
    if levels.shape[1] <= 8:  # a few passes cost less than a sort, and int32 sums of booleans less than int64
        counts = [(others >= level[:, None]).sum(dim=1, dtype=torch.int32) for level in levels.unbind(1)]
        return torch.stack(counts, dim=1).long(), n_relevant
    if others.device.type == "cpu":
        others.numpy().sort(axis=1)  # several times faster than torch's, which carries the indices along
    else:
        others = others.sort(dim=1).values
    return others.shape[1] - torch.searchsorted(others, levels), n_relevant


def average_precision(counts: Tensor, n_relevant: Tensor, k: int | None = None, normalise: str = "total") -> Tensor:
    """AP of each query, (b,) float64, from what ``count_above`` returns; 0 where nothing is relevant."""
    counts, n_relevant = double(counts), double(n_relevant)
    i = torch.arange(1, counts.shape[1] + 1, dtype=torch.float64, device=counts.device)
    position = i + counts  # (b, r)
    hit = (i <= n_relevant[:, None]) & (position <= (k or torch.inf))
    z = {"total": n_relevant, "min": n_relevant.clamp(max=k or torch.inf), "hits": hit.sum(dim=1)}[normalise]
    return (i / position * hit).sum(dim=1) / z.clamp(min=1)


def answerable(n_relevant: Tensor, no_relevant: str) -> Tensor:
    """(n_query,) bool: which queries count under ``no_relevant``. Raises ValueError for "raise", or if none is left."""
    found = n_relevant > 0
    empty = int((~found).sum())
    if empty and no_relevant == "raise":
        first = int((~found).nonzero()[0, 0])
        raise ValueError(
            f"{empty} of {len(found)} queries have no relevant item left in the gallery, the first is query {first}: "
            'correct that, or choose no_relevant="skip" to leave them out, "miss" to count them as never found'
        )
    if empty == len(found) and no_relevant == "skip":
        raise ValueError('no query has a relevant item left in the gallery: no_relevant="skip" leaves no query at all')
    return torch.ones_like(found) if no_relevant == "miss" else found


def recall_of_ranks(rank: Tensor, n_gallery: int, ks: list[int]) -> dict[int, float]:
    """R@K from 0-based ranks. A rank of n_gallery means never found, and is no hit however large K is."""
    return {k: int((rank < min(k, n_gallery)).sum()) / len(rank) for k in ks}


def median_of_ranks(rank: Tensor) -> int:
    """Floor of the median of 0-based ranks, plus one: 1 is best."""
    rank = rank.sort().values
    return int(rank[(len(rank) - 1) // 2] + rank[len(rank) // 2]) // 2 + 1


def _per_query(
    sim: Any, relevant: Any, exclude: Any, no_relevant: str, best_only: bool, value: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """``value(*count_above(...))`` of every query that counts."""
    check_choice(no_relevant, "no_relevant", NO_RELEVANT)
    sim = read_matrix(sim, "sim", "(n_query, n_gallery)")
    relevant = Items(relevant, "relevant", *sim.shape, sim.device)
    exclude = None if exclude is None else Items(exclude, "exclude", *sim.shape, sim.device)

    def compute(rows: slice) -> tuple[Tensor, Tensor]:
        left_out = None if exclude is None else exclude[rows]
        counts, n_relevant = count_above(sim[rows], relevant[rows], left_out, best_only)
        return value(counts, n_relevant), n_relevant

    values, n_relevant = by_blocks(row_blocks(*sim.shape), len(sim), compute)
    return values[answerable(n_relevant, no_relevant).to(values.device)]


def ranks(sim: Any, relevant: Any, exclude: Any = None, no_relevant: str = "raise") -> Tensor:
    """0-based rank of each query's best relevant item, (n_query,) int64 on the device of ``sim``; 0 is best.

    rank = number of non-relevant, non-excluded items that score at least as high as the best relevant one. With several
    relevant items (five captions of an image) the best one counts. "skip" returns the remaining queries only.

    Raises ValueError for scores that are not a finite matrix, ids out of range, shapes that do not match, an unknown
    ``no_relevant``, and for queries without a relevant item (see the module).
    """
    return _per_query(sim, relevant, exclude, no_relevant, True, lambda counts, _: counts[:, 0])


def recall_at_k(
    sim: Any, relevant: Any, ks: int | Iterable[int] = (1, 5, 10), exclude: Any = None, no_relevant: str = "raise"
) -> dict[int, float]:
    """R@K, {k: fraction of queries in [0, 1] with a relevant item among the first k}, that is mean(rank < k).

    This is the R@K of image-text retrieval: one hit suffices, however many items are relevant. ``ks`` may be one int; a
    k larger than the gallery is allowed. Raises ValueError as ``ranks`` does, and for a k that is no positive integer.
    """
    ks = positive_ints(ks)
    sim = as_tensor(sim, "sim")
    return recall_of_ranks(ranks(sim, relevant, exclude, no_relevant), sim.shape[1], ks)


def median_rank(sim: Any, relevant: Any, exclude: Any = None, no_relevant: str = "raise") -> int:
    """Median rank, floor(median of 0-based ranks) + 1: an int, 1 is best. Raises ValueError as ``ranks`` does."""
    return median_of_ranks(ranks(sim, relevant, exclude, no_relevant))


def mean_average_precision(
    sim: Any,
    relevant: Any,
    k: int | None = None,
    normalise: str = "total",
    exclude: Any = None,
    no_relevant: str = "raise",
) -> float:
    """mAP in [0, 1]: the mean over queries of AP = sum over relevant items at positions j <= k of P(j), divided by Z.

    P(j) is the fraction of the first j items that is relevant. ``k=None`` is mAP@all. ``normalise`` chooses Z, with R
    the number of relevant items that are not excluded; the three differ only when k cuts the ranking:

    "total"  Z = R: what lies behind k is lost
    "min"    Z = min(k, R): a perfect first k gives 1
    "hits"   Z = relevant items among the first k: one early hit is enough for 1, chance depends on k; no hit gives 0

    Raises ValueError as ``ranks`` does, for a k that is no positive integer and for an unknown ``normalise``.
    """
    check_choice(normalise, "normalise", ("total", "min", "hits"))
    k = None if k is None else positive_int(k, "k")
    ap = _per_query(sim, relevant, exclude, no_relevant, False, lambda c, n: average_precision(c, n, k, normalise))
    return float(ap.mean())
