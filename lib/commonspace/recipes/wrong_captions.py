"""Sentences that are not of a picture, for a judge who shall learn to read: another picture's, or nearly its own."""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from commonspace.data.scene_grammar import COLOURS, PLACES, SHAPES, SIZES
from commonspace.recipes.caption_data import Captioned

HOW = ("other", "word")
KINDS = (SIZES, COLOURS, SHAPES, tuple(f"{shape}s" for shape in SHAPES), PLACES)  # a word can stand for its kind
_KIND = {word: kind for kind in KINDS for word in kind}
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)?")


class WrongCaptions:
    """``wrong(pictures, captions, ids, epoch)``: for each of B pictures with a caption a sentence that is not of it.

    ``how``: "other", a caption of a picture of another group, and none of the own ones: two pictures may have one in
    common ("a cube"). "word": the caption itself with one word changed to another of its kind (a size, colour, shape or
    place of a scene), "a big red cube" -> "a big blue cube". ``ids``: the rows that the pairs are of, as many pairs of
    each. A pair's is drawn from (seed, epoch, its row) alone: whoever else is in the batch, on however many processes,
    and after a stop as well, it is the same.

    Raises ValueError where no wrong caption is found, and by "word" for a caption without a word of a scene.
    """

    def __init__(self, captioned: Captioned, how: Literal["other", "word"] = "other", seed: int = 0):
        if how not in HOW:
            raise ValueError(f"how must be one of {HOW}, got {how!r}")
        self.captioned, self.how, self.seed = captioned, how, seed
        self._own = [set(own) for own in captioned.by_image()]

    def __call__(self, pictures: Tensor, captions: Sequence[str], ids: Tensor, epoch: int) -> list[str]:
        each = len(captions) // len(ids)
        wrong = []
        for k, (picture, caption) in enumerate(zip(pictures.tolist(), captions, strict=True)):
            rng = np.random.default_rng([self.seed, epoch, int(ids[k // each]), k % each, 3])
            wrong.append(one_word_away(caption, rng) if self.how == "word" else self._other(picture, rng))
        return wrong

    def _other(self, picture: int, rng: np.random.Generator) -> str:
        captioned = self.captioned
        for _ in range(1000):
            drawn = int(rng.integers(len(captioned.captions)))
            apart = captioned.group[captioned.image_of[drawn]] != captioned.group[picture]
            if apart and captioned.captions[drawn] not in self._own[picture]:
                return captioned.captions[drawn]
        raise ValueError(f"no caption is wrong for picture {picture}: nearly all pictures have the same captions")


def one_word_away(caption: str, rng: np.random.Generator) -> str:
    """The caption of a scene with one word, drawn by ``rng``, changed to another of its kind.

    Raises ValueError for a caption without a size, colour, shape or place.
    """
    places = [found for found in _WORD.finditer(caption) if found[0] in _KIND]
    if not places:
        raise ValueError(f"{caption!r} has no size, colour, shape or place of a scene: take wrong='other'")
    place = places[rng.integers(len(places))]
    others = [word for word in _KIND[place[0]] if word != place[0]]
    return caption[: place.start()] + others[rng.integers(len(others))] + caption[place.end() :]
