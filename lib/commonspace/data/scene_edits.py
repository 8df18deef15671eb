"""What a modification is: one to four joined edits of a scene, each adds, removes or changes objects; and its sentence.

An edit is seven whole numbers (`KIND` .. `NEW_COLOUR`), -1 for what its sentence leaves unsaid. Its description, such
as "small red object at top-left", says one to four of size, colour, shape and place. *add* puts one object that fits
it into the scene and draws at random what is unsaid; *remove* takes away every object that fits; *make* gives every
object that fits a new size or a new colour (the three kinds of TIRG's CSS).

The edits of a modification touch different objects, so that their order does not count, and all of them can be seen
to be done in the target.
"""

import itertools

import torch
from torch import Tensor

from commonspace.data.scene_grammar import COLOURS, PLACES, SIZES, attributes, code, scene_id, thing

KIND, SIZE, COLOUR, SHAPE, PLACE, NEW_SIZE, NEW_COLOUR = range(7)
ADD, REMOVE, MAKE = range(3)
MAX_EDITS = 4


def phrase(edit: list[int]) -> str:
    """The words of one edit, such as "add red cube", "remove object from top-left", "make yellow sphere small"."""
    kind, size, colour, shape, place, new_size, new_colour = edit
    words = [("add", "remove", "make")[kind], thing(size, colour, shape)]
    if place >= 0:
        words += [("to", "from", "at")[kind], PLACES[place]]
    if kind == MAKE:
        words.append(SIZES[new_size] if new_size >= 0 else COLOURS[new_colour])
    return " ".join(words)


def sentence(edits: Tensor) -> str:
    """The sentence of one modification, (e, 7); a row of kind -1 is no edit."""
    return " and ".join(phrase(edit) for edit in edits.tolist() if edit[KIND] >= 0)


def matches(scenes: Tensor, edits: Tensor, renewed: bool = False) -> Tensor:
    """Where the objects are that fit the edits' descriptions: (n, 9) codes, (n, 7) -> (n, 9) bool.

    ``renewed``: that fit them with the new size or colour instead.
    """
    said = edits[:, SIZE : SHAPE + 1]
    if renewed:
        new = edits[:, [NEW_SIZE, NEW_COLOUR]]
        said = torch.cat([torch.where(new >= 0, new, said[:, :2]), said[:, 2:]], dim=1)
    fits = ((said[:, None] < 0) | (attributes(scenes) == said[:, None])).all(dim=2)
    place = edits[:, PLACE, None]
    return fits & (scenes > 0) & ((place < 0) | (place == torch.arange(len(PLACES))))


def done(source: Tensor, answer: Tensor, edits: Tensor) -> Tensor:
    """Whether what the edits ask of ``source`` can be seen in ``answer``: (n, 9), (n, 9), (n, e, 7) -> (n, e) bool.

    add: more objects fit the description than in the source. remove: no object fits it. make: more objects than in the
    source are as the described ones should become, and none is as they were. What else the answer holds, does not
    count. A row of kind -1 is done.
    """
    seen = []
    for edit in edits.unbind(dim=1):
        old, new = matches(answer, edit), matches(answer, edit, renewed=True)
        more = new.sum(dim=1) > matches(source, edit, renewed=True).sum(dim=1)
        gone = ~old.any(dim=1)
        changed = more & ~(old & ~new).any(dim=1)
        kind = edit[:, KIND]
        seen.append(torch.where(kind == ADD, more, torch.where(kind == REMOVE, gone, changed | (kind < 0))))
    return torch.stack(seen, dim=1)


def settled(scenes: Tensor, edits: Tensor) -> Tensor:
    """The scenes after the edits that leave nothing to chance, remove and make: (n, 9), (n, e, 7) -> (n, 9) uint8."""
    for edit in edits.unbind(dim=1):
        kind, new = edit[:, KIND, None], edit[:, [NEW_SIZE, NEW_COLOUR], None].long()
        size, colour, shape = attributes(scenes).long().unbind(dim=2)
        size, colour = (torch.where(n >= 0, n, was) for n, was in zip(new.unbind(dim=1), (size, colour), strict=True))
        made = torch.where(kind == MAKE, code(size, colour, shape), 0).to(torch.uint8)
        scenes = torch.where(matches(scenes, edit) & (kind > ADD), made, scenes)
    return scenes


def possible(source: Tensor, target: Tensor, edits: Tensor) -> Tensor:
    """Whether the edits may turn ``source`` into ``target``, with luck where they leave something unsaid.

    (n, 9), (n, 9), (n, e, 7) -> (n,) bool. Each edit that adds must have an object of its own that was not there: by
    Hall's theorem they all have, if any k of them have k objects to choose from. And in the target there must be
    nothing left to remove or to make.
    """
    return _led_to(source, settled(source, edits), target, edits)


def _led_to(source: Tensor, before: Tensor, target: Tensor, edits: Tensor) -> Tensor:
    new = (target != before) & (before == 0) & (source == 0)
    adds = edits[:, :, KIND] == ADD
    fits = torch.stack([matches(target, edit) for edit in edits.unbind(dim=1)], dim=1) & adds[:, :, None] & new[:, None]
    good = (target != before).sum(dim=1) == adds.sum(dim=1)
    for k in range(1, edits.shape[1] + 1):
        for some in itertools.combinations(range(edits.shape[1]), k):
            good &= fits[:, some].any(dim=1).sum(dim=1) >= adds[:, some].sum(dim=1)
    rows = good.nonzero()[:, 0]
    good[rows] = (settled(target[rows], edits[rows]) == target[rows]).all(dim=1)
    return good


def right_answers(scenes: Tensor, source: Tensor, edits: Tensor) -> list[list[int]]:
    """The rows of ``scenes``, (m, 9), to which the edits may lead: n lists in rising order. ``source`` (n, 9).

    A right answer without the objects that were added is the `settled` source: it is looked up by that.
    """
    before, adds = settled(source, edits), (edits[:, :, KIND] == ADD).sum(dim=1)
    key = scene_id(before)
    found: list[list[int]] = [[] for _ in range(len(source))]
    for count in adds.unique().tolist():
        places = torch.tensor(list(itertools.combinations(range(len(PLACES)), count)), dtype=torch.long)
        left = scenes[:, None].repeat(1, len(places), 1)  # (m, ways, 9): in each way some objects are taken out
        taken = left.gather(2, places.expand(len(scenes), -1, -1))
        left.scatter_(2, places.expand(len(scenes), -1, -1), 0)
        picture, way = (taken > 0).all(dim=2).nonzero(as_tuple=True)
        known, order = scene_id(left[picture, way]).sort(stable=True)
        queries = (adds == count).nonzero()[:, 0]
        low = torch.searchsorted(known, key[queries])
        high = torch.searchsorted(known, key[queries], right=True)
        asking = queries.repeat_interleave(high - low)
        place = torch.arange(len(asking)) - ((high - low).cumsum(0) - high).repeat_interleave(high - low)
        answer = picture[order[place]]
        good = _led_to(source[asking], before[asking], scenes[answer], edits[asking])
        for i, row in zip(asking[good].tolist(), answer[good].tolist(), strict=True):
            found[i].append(row)
    return [sorted(set(rows)) for rows in found]
