"""Sentences that are not of a picture, for a judge who shall learn to read: another picture's, or nearly its own."""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from commonspace.data.scene_grammar import COLOURS, PLACES, SHAPES, SIZES
from commonspace.recipes.caption_data import Captioned

HOW = ("other", "word")
KINDS = (SIZES, COLOURS, SHAPES, PLACES)  # words of one kind can stand for each other
_KIND = {word: kind for kind in KINDS for word in kind}
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)?")


class WrongCaptions:
    """``wrong(pictures, captions, ids, epoch)``: for each of B pictures with a caption a sentence that is not of it.

    ``how``: "other", a caption of a picture of another group, and none of the own ones: two pictures may have one in
    common ("a cube"). "word": the caption itself with one word changed to another of its kind (a size, colour, shape or
    place of a scene), "a big red cube" -> "a big blue cube". Drawn from (seed, epoch, first of ``ids``) alone, so that
    a run that goes on after a stop draws the same.

    Raises ValueError where no wrong caption is found, and by "word" for a caption without a word of a scene.
    """

    def __init__(self, captioned: Captioned, how: Literal["other", "word"] = "other", seed: int = 0):
        if how not in HOW:
            raise ValueError(f"how must be one of {HOW}, got {how!r}")
        self.captioned, self.how, self.seed = captioned, how, seed
        self._own = [set(own) for own in captioned.by_image()]

    def __call__(self, pictures: Tensor, captions: Sequence[str], ids: Tensor, epoch: int) -> list[str]:
        rng = np.random.default_rng([self.seed, epoch, int(ids[0]), 3])
        if self.how == "word":
            return [one_word_away(caption, rng) for caption in captions]
        return [self._other(picture, rng) for picture in pictures.tolist()]

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
