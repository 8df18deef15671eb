"""Scenes: objects of a colour, a shape and a size on a grid of 3 x 3, drawn here; and sentences that change them.

After the Colour-Shape-Size set of TIRG (Vo et al. 2019): "add red cube", "make yellow sphere small". What a scene is
and how one is described stands in `scene_grammar`, what a modification is in `scene_edits`, how scenes are drawn in
`scene_pixels` (flat) and `scene_rays` (solids). The same arguments give the same data set, byte for byte.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from commonspace.data.composed import ComposedQueries
from commonspace.data.samples import PairedSamples, per_row
from commonspace.data.scene_chance import draw_different_scenes, draw_modifications
from commonspace.data.scene_edits import MAX_EDITS, done, right_answers, sentence
from commonspace.data.scene_grammar import CODES, NOVEL, attributes, captions, scene_id
from commonspace.data.scene_pictures import ScenePictures, check_scenes

IN_MEMORY = 2**30  # bytes of pictures; a larger split's pictures are drawn when they are asked for
SPLITS = TRAIN, VALIDATION, TEST = range(3)


@dataclass(frozen=True, eq=False)
class SceneSamples(PairedSamples):
    """Pictures of scenes and five captions of each, from all there is to say to the least (`scene_grammar.captions`).

    ``scenes``: (n, 9) uint8, the objects' codes.
    """

    scenes: Tensor | None = per_row(default=None)


@dataclass(frozen=True, eq=False)
class SceneQueries(ComposedQueries):
    """Queries over pictures of scenes, each scene there once.

    ``target`` is the scene that was drawn, the paper's only right answer. "Add red cube" leaves open where:
    ``relevant`` has every picture that the sentence may lead to. ``scenes``: (m, 9) uint8, the codes of the objects in
    each picture (`scene_grammar.attributes` gives their size, colour and shape). ``edits``: (n, e, 7) int8, what each
    sentence says, see `scene_edits`. Queries of one source differ in sentence and target, so the others' targets are
    the hardest negatives: ``source == source[i]`` finds them.
    """

    scenes: Tensor | None = field(default=None, metadata={"of_images": True})
    edits: Tensor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scenes is None or self.edits is None:
            raise ValueError("SceneQueries holds the codes of its scenes, (m, 9), and the edits, (n, e, 7)")
        object.__setattr__(self, "scenes", check_scenes(self.scenes))

    @property
    def attributes(self) -> Tensor:
        """(m, 27) int8: the numbers of size, colour and shape at each of the nine places; -1 where it is empty."""
        return attributes(self.scenes).flatten(1)

    def changed(self, answers: Any) -> Tensor:
        """The part of the edits that can be seen to be done in the answer (`scene_edits.done`), (n,) from 0 to 1.

        ``answers``: (n,) ids of pictures, one a query. The source itself has 0, the target 1.
        """
        seen = done(self.scenes[self.source], self._answers(answers), self.edits)
        asked = self.edits[:, :, 0] >= 0
        return (seen & asked).sum(dim=1) / asked.sum(dim=1)

    def kept(self, answers: Any) -> Tensor:
        """Of the source's objects that are in the target as they were, the part that the answer has in their places.

        ``answers``: as in `changed`. (n,) from 0 to 1, NaN where nothing was to be kept. Source and target have 1.
        """
        source, target = self.scenes[self.source], self.scenes[self.target]
        same = (source == target) & (source > 0)
        return (same & (self._answers(answers) == source)).sum(dim=1) / same.sum(dim=1)

    @cached_property
    def captions(self) -> list[str]:
        """Of each picture the first of `scene_grammar.captions`: size, colour, shape and place of every object."""
        return [captions(scene)[0] for scene in self.scenes]

    def _answers(self, answers: Any) -> Tensor:
        answers = torch.as_tensor(answers)
        if answers.shape != self.source.shape or answers.is_floating_point() or answers.dtype == torch.bool:
            raise ValueError(f"answers are ids of pictures, ({len(self)},), one a query; got {tuple(answers.shape)}")
        return self.scenes[answers]


class Scenes:
    """The data set: ``Scenes(n).queries()`` and ``Scenes(n).captioned()`` give train, validation and test.

    ``n``: scenes to train on, each the source of ``changes`` queries. ``held_out``: as many scenes for test (default
    n // 8); validation has n // 8. ``edits``: how many are joined in a sentence, 1 to 4, or (fewest, most).
    ``objects``: (fewest, most) in a source, 1 to 9. ``size``, ``dimensions``, ``jitter``, ``device``: of
    `ScenePictures`; they change the pictures alone, so picture i of a flat and of a solid set is of the same scene, and
    flat sources can ask for solid targets. ``seed``: another one is another data set. Splits of up to 1 GiB of pictures
    are drawn at once (16,500 flat ones of 64 pixels: 200 MB), larger ones when they are asked for.

    No scene is in two of the three. ``novel=True``: in train and validation cubes are gray, blue, brown or yellow and
    cylinders red, green, purple or cyan; every test scene has a cube or cylinder of a colour that they never had there
    (as in CLEVR's CoGenT). Raises ValueError for a bad argument and when there are not as many different scenes.
    """

    def __init__(
        self,
        n: int = 1000,
        size: int = 64,
        dimensions: int = 2,
        edits: int | tuple[int, int] = 1,
        seed: int = 0,
        novel: bool = False,
        changes: int = 16,
        objects: tuple[int, int] = (2, 5),
        jitter: float = 0.0,
        held_out: int | None = None,
        device: str | torch.device = "cpu",
    ):
        self.edits = _range((edits, edits) if isinstance(edits, int) else edits, "edits", MAX_EDITS)
        self.objects = _range(objects, "objects", 9)
        held_out = max(1, n // 8) if held_out is None and isinstance(n, int) else held_out
        for name, value in (("n", n), ("changes", changes), ("held_out", held_out)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number, at least 1; got {value!r}")
        self.seed, self.novel, self.changes = seed, bool(novel), changes
        self._pictures = {"size": size, "dimensions": dimensions, "seed": seed, "jitter": jitter, "device": device}
        ScenePictures(torch.zeros((0, 9), dtype=torch.uint8), **self._pictures)  # raises ValueError
        self.sources: list[Tensor] = []
        taken = torch.empty(0, dtype=torch.int64)
        for split, count in zip(SPLITS, (n, max(1, n // 8), held_out), strict=True):
            self.sources.append(draw_different_scenes(count, seed, split, self.objects, *self._rules(split, taken)))
            taken = torch.cat([taken, scene_id(self.sources[-1])])

    @classmethod
    def paper(cls, size: int = 64, dimensions: int = 3, seed: int = 0, **rest: Any) -> Self:
        """The size of the paper's set: 1,000 scenes and 16,000 queries to train on, as many to test, novel pairs."""
        return cls(1000, size, dimensions, seed=seed, **{"novel": True, "held_out": 1000} | rest)

    def queries(self) -> tuple[SceneQueries, SceneQueries, SceneQueries]:
        """Train, validation and test. The first pictures are the sources, query i is of source i // changes."""
        taken = torch.cat([scene_id(sources) for sources in self.sources])
        parts = []
        for split in SPLITS:
            source = self.sources[split]
            edits, target = (
                drawn.flatten(0, 1)
                for drawn in draw_modifications(
                    source, self.seed, len(SPLITS) + split, self.changes, self.edits, *self._rules(split, taken)
                )
            )
            ids = scene_id(torch.cat([source, target]))
            taken = torch.cat([taken, ids])
            # Each scene once, in order of first appearance.
            unique, first = np.unique(ids.numpy(), return_index=True)
            order = first.argsort()
            row = np.empty(len(order), dtype=np.int64)
            row[order] = np.arange(len(order))
            rows = torch.from_numpy(row[np.searchsorted(unique, ids.numpy())])
            scenes = torch.cat([source, target])[torch.from_numpy(first[order])]
            asking = torch.arange(len(source)).repeat_interleave(self.changes)
            parts.append(
                SceneQueries(
                    images=self._images(scenes),
                    source=asking,
                    relevant=right_answers(scenes, source[asking], edits),
                    modification=[sentence(edit) for edit in edits],
                    target=rows[len(source) :],
                    scenes=scenes,
                    edits=edits,
                )
            )
        self._tell("queries", parts)
        return tuple(parts)

    def captioned(self) -> tuple[SceneSamples, SceneSamples, SceneSamples]:
        """Train, validation and test: the sources of `queries`, five captions each."""
        parts = [
            SceneSamples(self._images(scenes), [captions(scene) for scene in scenes], scenes=scenes)
            for scenes in self.sources
        ]
        self._tell("captioned scenes", parts)
        return tuple(parts)

    def _images(self, scenes: Tensor) -> Any:
        pictures = ScenePictures(scenes, **self._pictures)
        return pictures.drawn() if len(scenes) * 3 * pictures.size**2 <= IN_MEMORY else pictures

    def _tell(self, what: str, parts: list) -> None:
        count = [f"{len(part):,}" for part in parts]
        images = [f"{len(part.images):,}" for part in parts]
        size, dimensions = self._pictures["size"], self._pictures["dimensions"]
        print(
            f"Scenes: {' + '.join(count)} {what} over {' + '.join(images)} pictures, {size}x{size}, {dimensions}-D "
            f"(train + validation + test), made here from seed {self.seed}"
        )

    def _rules(self, split: int, taken: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The objects there are in a split; and which scenes it may have, none of those ``taken``."""
        codes = torch.arange(1, CODES + 1)
        if self.novel and split != TEST:
            codes = codes[~NOVEL[1:]]

        def allowed(scenes: Tensor) -> Tensor:
            new = ~torch.isin(scene_id(scenes), taken)
            return new & (NOVEL[scenes.long()].any(dim=1) == (split == TEST)) if self.novel else new

        return codes, allowed


def _range(given: Any, name: str, most: int) -> tuple[int, int]:
    try:
        low, high = given
        if not all(isinstance(v, int) and not isinstance(v, bool) for v in (low, high)) or not 1 <= low <= high <= most:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"{name} is (fewest, most), whole numbers from 1 to {most}; got {given!r}") from None
    return low, high
