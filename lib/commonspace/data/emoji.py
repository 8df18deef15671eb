"""Emoji: drawings of Noto Color Emoji and their names in Unicode's CLDR, in some 100 languages.

3,655 emoji of Unicode 15.0 in 9 groups and 99 subgroups, 1,870 without the skin tones. The font is under the SIL Open
Font License 1.1, the tables and names under the Unicode License. ``python data_scripts/get_emoji.py`` prepares them.
"""

import difflib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from commonspace.data import files
from commonspace.data.composed import ComposedQueries
from commonspace.data.download import new_file, problems, read_manifest
from commonspace.data.emoji_split import divide
from commonspace.data.emoji_tables import families, has_skin_tone, inheritance, key, read_annotations, read_table
from commonspace.data.samples import PairedSamples, per_row

COMMAND = "python data_scripts/get_emoji.py"


@dataclass(frozen=True, eq=False)
class EmojiSamples(PairedSamples):
    """Emoji pictures and their names; ``label`` is the group, 0..8, ``classes`` the groups' names.

    ``images``: (n, 3, size, size) uint8, over white. ``texts``: n names. ``subgroup``: (n,) int64 into ``subgroups``.
    ``characters``: the emoji themselves. ``keywords``: n lists of words. ``family``: (n,) int64, the same for variants
    of one drawing (skin tone, gender, hair), see `emoji_tables.families`.
    """

    subgroup: torch.Tensor | None = per_row(default=None)
    subgroups: list[str] | None = None
    characters: list[str] | None = per_row(default=None)
    keywords: list[list[str]] | None = per_row(default=None)
    family: torch.Tensor | None = per_row(default=None)


class Emoji:
    """The emoji data set: ``Emoji(size=32).split("family")`` gives train, validation and test `EmojiSamples`.

    ``size``: side of the pictures in pixels, 8 to 136 (the drawings' own). ``language``: a CLDR code such as "en",
    "zh" or "pt_PT"; a name that CLDR lacks is the English one of emoji-test.txt. ``root``: a folder to look in instead
    of ``$COMMONSPACE_DATA`` and the cache. ``samples`` holds all rows, in Unicode's order.

    Raises FileNotFoundError that names the command when the data is missing, ValueError for damaged data, for a size
    out of range and for an unknown language.
    """

    def __init__(self, size: int = 32, language: str = "en", skin_tones: bool = False, root: str | Path | None = None):
        if not isinstance(size, int) or isinstance(size, bool) or not 8 <= size <= 136:
            raise ValueError(f"size is the side of the pictures in pixels, a whole number from 8 to 136; got {size!r}")
        folder = files.find("emoji", "glyphs.npz", COMMAND, root).parent
        if found := problems(folder):
            raise ValueError(f"{files.shown(folder)}: {'; '.join(found)}. Mend it with\n  {COMMAND}")
        entries = read_table((folder / "emoji-test.txt").read_text(encoding="utf-8"))
        names, words = _names(folder / "annotations.zip", language)
        with np.load(folder / "glyphs.npz") as glyphs:
            family = families(entries, glyphs["picture"].tolist())
        rows = [i for i, entry in enumerate(entries) if skin_tones or not has_skin_tone(entry.character)]
        groups = list(dict.fromkeys(entry.group for entry in entries))
        subgroups = list(dict.fromkeys(entry.subgroup for entry in entries))
        entries = [entries[i] for i in rows]
        self.language = language
        self._arguments = {"size": size, "language": language, "skin_tones": skin_tones, "root": root}
        self.samples = EmojiSamples(
            images=_pixels(folder, size)[rows],
            texts=[names.get(key(entry.character), entry.name) for entry in entries],
            label=torch.tensor([groups.index(entry.group) for entry in entries]),
            classes=groups,
            subgroup=torch.tensor([subgroups.index(entry.subgroup) for entry in entries]),
            subgroups=subgroups,
            characters=[entry.character for entry in entries],
            keywords=[words.get(key(entry.character), []) for entry in entries],
            family=torch.tensor([family[i] for i in rows]).unique(return_inverse=True)[1],
        )
        lacking = sum(key(entry.character) not in names for entry in entries)
        note = f" ({lacking:,} that CLDR lacks from emoji-test.txt)" if lacking else ""
        print(f"Emoji: {len(self):,} pictures, {size}x{size}, names in {language}{note}, from {files.shown(folder)}")

    def __len__(self) -> int:
        return len(self.samples)

    def split(self, kind: str = "family", seed: int = 0) -> tuple[EmojiSamples, EmojiSamples, EmojiSamples]:
        """Train, validation and test: 1,120, 280 and 470 of the 1,870 (60, 15 and 25 %), in a shuffled order.

        "random" draws rows, so that a man walking may be in train and a woman walking in test. "family" draws whole
        families: variants of one drawing are never on two sides, and a family that would be more than a twentieth of
        validation or test goes to train. The same seed draws the same rows on every machine.
        """
        if kind not in ("family", "random"):
            raise ValueError(f'a split is by "family" or "random"; got {kind!r}')
        units: dict[int, list[int]] = {}
        for row in range(len(self)):
            units.setdefault(int(self.samples.family[row]) if kind == "family" else row, []).append(row)
        train, validation, test = divide(list(units.values()), self.samples.characters, seed)
        return self.samples[train], self.samples[validation], self.samples[test]

    def queries(self, attribute: str, seed: int = 0) -> tuple[ComposedQueries, ComposedQueries, ComposedQueries]:
        """Train, validation and test `EmojiQueries`: each changes the "skin_tone", the "gender" or the "hair".

        A source, a sentence ("with dark skin", "as a woman", "give them curls"; one of several wordings, drawn by the
        seed) and a target that differs from the source in that attribute alone: every pair there is. All 3,655 emoji
        take part, also where ``skin_tones`` is False. No family has drawings on two sides; but hair changes in one
        family only, there a side has persons of its own, each of one gender and skin tone.

        The gallery is every drawing of the side, once: those that queries ask for, and all other emoji besides, about
        a quarter for test. Emoji with the same drawing are one picture, so any of them is a right answer.
        Raises ValueError for another attribute, and for a set so small that a side has no query.
        """
        from commonspace.data.emoji_queries import emoji_queries

        whole = self if self._arguments["skin_tones"] else Emoji(**self._arguments | {"skin_tones": True})
        train, validation, test = emoji_queries(whole.samples, attribute, seed)
        return train, validation, test


def _names(archive: Path, language: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Names and keywords in a language and, where it has none, in those it inherits from."""
    with zipfile.ZipFile(archive) as annotations:
        stored = set(annotations.namelist())
        languages = sorted(name[12:-4] for name in stored if name.startswith("annotations/") and "root" not in name)
        if language not in languages:
            near = difflib.get_close_matches(str(language).replace("-", "_"), languages, n=4, cutoff=0.5)
            raise ValueError(
                f"no emoji names in language {language!r}; "
                + (f"near it: {', '.join(near)}; " if near else "")
                + f"there are {len(languages)} CLDR codes, such as ar, de, en, en_GB, es, fr, hi, ja, ru, zh, zh_Hant"
            )
        names, words = {}, {}
        for code in reversed(inheritance(language)):
            for name in (f"annotationsDerived/{code}.xml", f"annotations/{code}.xml"):
                if name in stored:
                    own_names, own_words = read_annotations(annotations.read(name))
                    names |= own_names
                    words |= own_words
    return names, words


def _pixels(folder: Path, size: int) -> np.ndarray:
    """All drawings on a white square, resized: (3655, 3, size, size) uint8. Kept in the cache after the first time."""
    digest = read_manifest(folder)["files"]["glyphs.npz"]["sha256"]
    kept = files.cache_dir() / "emoji-pixels" / f"{digest[:16]}-{size}.npy"
    try:
        return np.load(kept)
    except (OSError, ValueError, EOFError):  # not there yet, or damaged
        pass
    from PIL import Image

    with np.load(folder / "glyphs.npz") as glyphs:
        drawings = glyphs["pixels"]  # (n, 128, 136, 3)
    _, height, width, _ = drawings.shape
    pixels = np.empty((len(drawings), size, size, 3), dtype=np.uint8)
    for i, drawing in enumerate(drawings):
        square = Image.new("RGB", (width, width), "white")
        square.paste(Image.fromarray(drawing), (0, (width - height) // 2))
        pixels[i] = square.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    try:
        with new_file(kept) as file:
            np.save(file, pixels)
    except OSError:  # a full disk or a cache that cannot be written costs a second at the next start, no more
        pass
    return pixels
