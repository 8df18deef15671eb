"""What a scene is: a grid of 3 x 3 places, in each an object or nothing; and the words for it.

An object has a size, a colour and a shape, 48 kinds in all. A scene is 9 bytes, one a place from top-left in reading
order: 0 for an empty place, else the object's code 1 .. 48. So a million scenes are 9 MB, and what is asked of them is
asked of all at once. Colour-Shape-Size, the CSS of TIRG (Vo et al. 2019), is such a world of scenes.
"""

import itertools
from collections import Counter
from typing import Any

import torch
from torch import Tensor

SIZES = ("small", "big")
COLOURS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
SHAPES = ("cube", "sphere", "cylinder")  # the same words for the plane's square, diamond and triangle
PLACES = tuple(f"{row}-{column}" for row in ("top", "middle", "bottom") for column in ("left", "center", "right"))
CODES = len(SIZES) * len(COLOURS) * len(SHAPES)

# The attributes (size, colour, shape) of each code; an empty place, code 0, has none: -1.
ATTRIBUTES = torch.tensor(
    [(-1, -1, -1), *itertools.product(range(len(SIZES)), range(len(COLOURS)), range(len(SHAPES)))], dtype=torch.int8
)
# As in CLEVR's CoGenT: a cube has one half of the colours, a cylinder the other, a sphere any. The rest is novel.
_HALVES = {"cube": ("gray", "blue", "brown", "yellow"), "cylinder": ("red", "green", "purple", "cyan")}
NOVEL = torch.tensor(
    [False] + [COLOURS[c] not in _HALVES.get(SHAPES[s], COLOURS) for _, c, s in ATTRIBUTES[1:].tolist()]
)


def code(size: Any, colour: Any, shape: Any) -> Any:
    """The code of an object from its attributes' numbers: whole numbers or tensors of them."""
    return 1 + (size * len(COLOURS) + colour) * len(SHAPES) + shape


def attributes(scenes: Tensor) -> Tensor:
    """(..., 9) codes -> (..., 9, 3) int8: the numbers of size, colour and shape; -1 where the place is empty."""
    return ATTRIBUTES[scenes.long()]


def scene_id(scenes: Tensor) -> Tensor:
    """(..., 9) codes -> (...) int64: another number for another scene, below 49 ** 9."""
    number = torch.zeros(scenes.shape[:-1], dtype=torch.int64)
    for place in range(len(PLACES)):
        number = number * (CODES + 1) + scenes[..., place].long()
    return number


# ---- words ---------------------------------------------------------------------------------------------------------


def thing(size: int, colour: int, shape: int) -> str:
    """Such as "big red cube"; an attribute of number -1 stays unsaid: "red object"."""
    said = [words[i] for words, i in ((SIZES, size), (COLOURS, colour)) if i >= 0]
    return " ".join([*said, SHAPES[shape] if shape >= 0 else "object"])


def _listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def captions(scene: Tensor) -> list[str]:
    """Five captions of one scene, (9,) codes, from all there is to say to the least, its objects in reading order.

    Size, colour, shape and place; without the sizes; without the places; colour and shape alone; how many of each
    shape. Raises ValueError for an empty scene.
    """
    objects = [(place, *ATTRIBUTES[kind].tolist()) for place, kind in enumerate(scene.tolist()) if kind]
    if not objects:
        raise ValueError("an empty scene has no caption: a caption names the objects")
    counts = Counter(shape for *_, shape in objects)
    numbers = ("a", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return [
        _listed([f"a {thing(size, colour, shape)} at {PLACES[place]}" for place, size, colour, shape in objects]),
        _listed([f"a {thing(-1, colour, shape)} at {PLACES[place]}" for place, _, colour, shape in objects]),
        _listed([f"a {thing(size, colour, shape)}" for _, size, colour, shape in objects]),
        _listed([f"a {thing(-1, colour, shape)}" for _, _, colour, shape in objects]),
        _listed([f"{numbers[n - 1]} {SHAPES[shape]}{'s' * (n > 1)}" for shape, n in sorted(counts.items())]),
    ]
