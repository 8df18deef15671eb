"""Chance: random scenes and random modifications of them.

Whatever is drawn is a hash of the seed and of counters (which scene, which attempt, ...). So it depends on no library's
generator, on no batch and on no number of workers, and row i of a stream is the same however many rows there are.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from commonspace.data.scene_edits import ADD, KIND, MAKE, done, matches, settled
from commonspace.data.scene_grammar import COLOURS, PLACES, attributes, scene_id


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): 64 bits in, 64 well-mixed bits out, one to one."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def chance(seed: int, *counters: Any) -> np.ndarray:
    """Random uint64, a function of the seed and the counters (whole numbers or arrays of them, broadcast) alone."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2 ** 64
        z = _mix(np.asarray(seed, dtype=np.uint64))
        for counter in counters:
            step = np.asarray(counter).astype(np.uint64) + np.uint64(1)
            z = _mix(z + np.uint64(0x9E3779B97F4A7C15) * step)
        return z


def below(k: int, seed: int, *counters: Any) -> Tensor:
    """Random int64 from 0 to k - 1."""
    return torch.from_numpy(
        ((chance(seed, *counters) >> np.uint64(32)) * np.uint64(k) >> np.uint64(32)).astype(np.int64)
    )


def draw_scenes(rows: Tensor, seed: int, stream: int, objects: tuple[int, int], codes: Tensor) -> Tensor:
    """(n,) row numbers -> (n, 9) uint8: as many objects as ``objects`` allows, in places and of ``codes`` at random."""
    rows = rows.numpy()[:, None]
    low, high = objects
    count = low + below(high - low + 1, seed, stream, rows, 0)
    order = torch.from_numpy(chance(seed, stream, rows, 1, np.arange(len(PLACES))).argsort(axis=1, kind="stable"))
    kinds = codes[below(len(codes), seed, stream, rows, 2, np.arange(len(PLACES)))]
    return torch.where(order.argsort(dim=1) < count, kinds, 0).to(torch.uint8)


def draw_different_scenes(
    count: int, seed: int, stream: int, objects: tuple[int, int], codes: Tensor, allowed: Callable[[Tensor], Tensor]
) -> Tensor:
    """(count, 9) uint8, each another scene, all of them ``allowed``: (k, 9) -> (k,) bool.

    Raises ValueError when there are not as many.
    """
    block = 2 * count + 64
    for _ in range(6):
        scenes = draw_scenes(torch.arange(block), seed, stream, objects, codes)
        first = np.unique(scene_id(scenes).numpy(), return_index=True)[1]
        rows = torch.from_numpy(np.sort(first[allowed(scenes).numpy()[first]])[:count])
        if len(rows) == count:
            return scenes[rows]
        block *= 4
    raise ValueError(
        f"there are not {count:,} more scenes with {objects[0]} to {objects[1]} objects, {len(rows):,} were found: "
        "ask for fewer scenes or more objects"
    )


def _draw_edit(source: Tensor, now: Tensor, seed: int, counters: tuple, codes: Tensor) -> tuple[Tensor, ...]:
    """One edit a row: (n, 7) int8, the scenes after it (n, 9), and whether it does what an edit may do, (n,) bool."""
    places = np.arange(len(PLACES))
    kind = below(3, seed, *counters, 0)
    added = codes[below(len(codes), seed, *counters, 1)].to(torch.uint8)
    # The object that the description is of: of those not touched yet, or a new one in a place that was always empty.
    free = torch.where((kind == ADD)[:, None], (source == 0) & (now == 0), (source > 0) & (now == source))
    noise = torch.from_numpy(
        (chance(seed, *(c[:, None] for c in counters), 2, places) >> np.uint64(1)).astype(np.int64)
    )
    place = torch.where(free, noise, -1).argmax(dim=1)
    ok = free.any(dim=1)
    here = now.gather(1, place[:, None])[:, 0]
    here = torch.where(kind == ADD, added, here).clamp(min=1)  # where nothing is free, some object: the row is none
    size, colour, shape = attributes(here).long().unbind(dim=1)
    said = 1 + below(15, seed, *counters, 3)  # one bit each for size, colour, shape and place
    told = torch.stack([size, colour, shape, place], dim=1)
    told = torch.where((said[:, None] >> torch.arange(4)) % 2 == 1, told, -1)
    by_size = below(2, seed, *counters, 4) == 1
    colours = (colour + 1 + below(len(COLOURS) - 1, seed, *counters, 5)) % len(COLOURS)
    new = torch.stack([torch.where(by_size, 1 - size, -1), torch.where(by_size, -1, colours)], dim=1)
    new = torch.where((kind == MAKE)[:, None], new, -1)
    edit = torch.cat([kind[:, None], told, new], dim=1)
    chosen = matches(now, edit)
    ok &= (kind == ADD) | ((chosen == matches(source, edit)) & ~(chosen & (now != source))).all(dim=1)
    edit = edit.to(torch.int8)
    put = now.scatter(1, place[:, None], added[:, None])
    return edit, torch.where((kind == ADD)[:, None], put, settled(now, edit[:, None])), ok


def draw_edits(
    source: Tensor, seed: int, counters: tuple[np.ndarray, ...], edits: tuple[int, int], codes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A modification a row: (n, e, 7) int8, the targets (n, 9) uint8, and which rows are one, (n,) bool.

    ``counters``: arrays (n,) that tell the rows apart. ``edits``: the fewest and the most that are joined. ``codes``:
    the objects that may be added. A row is none if an edit finds nothing to do, touches what another has touched or is
    not `done` in the target, or if nothing is left in the target.
    """
    low, high = edits
    count = low + below(high - low + 1, seed, *counters, high)
    now, valid, drawn = source, torch.ones(len(source), dtype=torch.bool), []
    for e in range(high):
        edit, after, ok = _draw_edit(source, now, seed, (*counters, np.full(len(source), e)), codes)
        joined = e < count
        now, valid = torch.where(joined[:, None], after, now), valid & (ok | ~joined)
        drawn.append(torch.where(joined[:, None], edit, -1))
    drawn = torch.stack(drawn, dim=1)
    for a, b in itertools.combinations(range(high), 2):
        valid &= (drawn[:, a] != drawn[:, b]).any(dim=1) | (drawn[:, b, KIND] < 0)
    return drawn, now, valid & done(source, now, drawn).all(dim=1) & (now > 0).any(dim=1)


def draw_modifications(
    source: Tensor,
    seed: int,
    stream: int,
    changes: int,
    edits: tuple[int, int],
    codes: Tensor,
    allowed: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """For each scene, (n, 9), ``changes`` modifications with different sentences and targets that are ``allowed``.

    (n, changes, e, 7) int8 and the targets (n, changes, 9) uint8. ``allowed``: (k, 9) scenes -> (k,) bool. Raises
    ValueError when a scene has not as many.
    """
    found = torch.empty((len(source), changes, edits[1], 7), dtype=torch.int8)
    targets = torch.empty((len(source), changes, 9), dtype=torch.uint8)
    waiting, tries = torch.arange(len(source)), 2 * changes
    while len(waiting):
        if tries > 64 * max(changes, 16):
            raise ValueError(
                f"a scene with {int((source[waiting[0]] > 0).sum())} objects has not {changes} different changes by "
                f"{edits[0]} to {edits[1]} edits: ask for fewer changes"
            )
        lacking = []
        for rows in waiting.split(max(1, 2**18 // tries)):
            n = len(rows)
            counters = (np.full(n * tries, stream), rows.numpy().repeat(tries), np.tile(np.arange(tries), n))
            edit, target, good = draw_edits(source[rows].repeat_interleave(tries, dim=0), seed, counters, edits, codes)
            good = (good & allowed(target)).view(n, tries)
            said = torch.from_numpy((chance(0, *edit.flatten(1).numpy().T) >> np.uint64(1)).astype(np.int64))
            good &= _first(scene_id(target).view(n, tries), good) & _first(said.view(n, tries), good)
            good &= good.cumsum(dim=1) <= changes
            full = good.sum(dim=1) == changes
            chosen = (good & full[:, None]).flatten()
            found[rows[full]] = edit[chosen].view(-1, *found.shape[1:])
            targets[rows[full]] = target[chosen].view(-1, *targets.shape[1:])
            lacking.append(rows[~full])
        waiting, tries = torch.cat(lacking), 2 * tries
    return found, targets


def _first(keys: Tensor, good: Tensor) -> Tensor:
    """Whether each of the good (n, k) keys, from 0, is the first of its kind in its row."""
    keys = torch.where(good, keys, -1 - torch.arange(keys.shape[1]))
    ordered, index = keys.sort(dim=1, stable=True)
    new = torch.ones_like(good)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return torch.empty_like(new).scatter_(1, index, new)
