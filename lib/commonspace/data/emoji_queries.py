"""Composed queries on emoji: a drawing, a sentence such as "make the skin tone dark", and the drawing changed so.

All 3,655 emoji take part. Two are source and target where Unicode's sequences differ in the one attribute and agree in
all else: the activity, the other two attributes, the number of people.
"""

import hashlib
import re
from dataclasses import dataclass, field

import torch

from commonspace.data.composed import ComposedQueries, numbered
from commonspace.data.emoji import EmojiSamples
from commonspace.data.emoji_split import divide
from commonspace.data.emoji_tables import key, plain_sequence

TONE_NAMES = ("light", "medium-light", "medium", "medium-dark", "dark")
TONES = dict(zip("\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff", TONE_NAMES, strict=True))
HAIR = {"\U0001f9b0": "red", "\U0001f9b1": "curly", "\U0001f9b2": "bald", "\U0001f9b3": "white", "\U0001f471": "blond"}
HEADS = "\U0001f471", "\U0001f9d1"  # plain sequences of a person's head, the first with blond hair
# Women and men by one character: the sign, the grown-up, the child, the old, with a crown, pregnant, dancing, Claus.
WOMEN = re.compile("[\u2640\U0001f469\U0001f467\U0001f475\U0001f478\U0001f930\U0001f483\U0001f936]")
MEN = re.compile("[\u2642\U0001f468\U0001f466\U0001f474\U0001f934\U0001fac3\U0001f57a\U0001f385]")
# What they are called where "a man" would be wrong, by the first character of the plain sequence.
PEOPLE = {
    "\U0001f9d2": {"woman": "a girl", "man": "a boy", "person": "a child"},
    "\U0001f9d3": {"woman": "an old woman", "man": "an old man", "person": "an old person"},
    "\U0001f46f": {"woman": "women", "man": "men", "person": "people"},  # with bunny ears
    "\U0001f93c": {"woman": "women", "man": "men", "person": "people"},  # wrestling
}
# {} is the value asked for: a tone, a noun, hair. Every sentence of the grammar is a frame with a value in it.
FRAMES = {
    "skin_tone": ("make the skin tone {}", "change the skin tone to {}", "with {} skin", "the same with {} skin"),
    "gender": ("as {}", "make it {}", "the same as {}", "show {} instead"),
    "hair": ("with {}", "the same with {}", "now with {}", "give them {}"),
}
HAIR_PHRASES = {"curly": ("curly hair", "curls"), "bald": ("a bald head", "no hair")}  # others: "red hair"


@dataclass(frozen=True, eq=False)
class EmojiQueries(ComposedQueries):
    """Composed queries whose pictures are emoji.

    ``asked``: n values, what each sentence asks for: a skin tone ("light" to "dark"), "woman", "man" or "person", or
    hair ("blond", "red", "curly", "white", "bald"). ``characters``: m emoji, one a picture; where several emoji have
    the same drawing, the first of them. ``captions``: their m names in CLDR, "woman walking: dark skin tone".
    """

    asked: list[str] | None = None
    characters: list[str] | None = field(default=None, metadata={"of_images": True})
    captions: list[str] | None = field(default=None, metadata={"of_images": True})

    @property
    def attributes(self) -> torch.Tensor:
        """What, skin tone, gender and hair of the pictures, (m, 4) int64: equal numbers where they agree."""
        kinds = [plain_sequence(c).replace(*HEADS) for c in self.characters]
        return numbered(kinds, *([of(c) for c in self.characters] for of in (tone_of, gender_of, hair_of)))


def tone_of(character: str) -> str | None:
    """The skin tone, "" for the yellow drawing; None where people of several tones are drawn.

    >>> tone_of("\U0001f44b\U0001f3ff"), tone_of("\U0001f44b")
    ('dark', '')
    """
    tones = {TONES[c] for c in character if c in TONES} or {""}
    return tones.pop() if len(tones) == 1 else None


def gender_of(character: str) -> str:
    """ "woman", "man", or "person" where the sequence names neither or both."""
    woman, man = WOMEN.search(character), MEN.search(character)
    return "person" if bool(woman) == bool(man) else "woman" if woman else "man"


def hair_of(character: str) -> str:
    """ "red", "curly", "bald", "white", "blond", or "" where the sequence does not name it."""
    return next((HAIR[c] for c in character if c in HAIR), "")


def _frame(character: str, subgroup: str, attribute: str) -> tuple | None:
    """What stays when the attribute changes: emoji of one frame are answers to one another's queries. None: no part."""
    tone, gender, hair = tone_of(character), gender_of(character), hair_of(character)
    if tone is None:
        return None
    if attribute == "skin_tone":
        return ("".join(c for c in key(character) if c not in TONES),)
    if attribute == "gender":  # of couples and families, each person would have one
        return None if subgroup == "family" else (plain_sequence(character), tone, hair)
    return (tone, gender) if plain_sequence(character) in HEADS else None


def _phrases(attribute: str, value: str, plain: str) -> tuple[str, ...]:
    """The words for a value, of the emoji with this plain sequence."""
    if attribute == "hair":
        return HAIR_PHRASES.get(value, (f"{value} hair",))
    return (PEOPLE.get(plain[0], {}).get(value, f"a {value}"),) if attribute == "gender" else (value,)


def emoji_queries(samples: EmojiSamples, attribute: str, seed: int = 0) -> tuple[EmojiQueries, ...]:
    """Train, validation and test queries on one attribute; see `Emoji.queries`, which loads the emoji with skin tones.

    Raises ValueError for another attribute than "skin_tone", "gender" and "hair", and when a side has no query.
    """
    if attribute not in FRAMES:
        raise ValueError(f"queries change {', '.join(map(repr, FRAMES))}; got {attribute!r}")
    value_of = {"skin_tone": tone_of, "gender": gender_of, "hair": hair_of}[attribute]
    frames: dict[tuple, dict[str, int]] = {}  # what stays -> value -> row
    for row, character in enumerate(samples.characters):
        if frame := _frame(character, samples.subgroups[samples.subgroup[row]], attribute):
            frames.setdefault(frame, {}).setdefault(value_of(character), row)
    frames = {frame: rows for frame, rows in frames.items() if len(rows) > 1}
    asked = {row for rows in frames.values() for row in rows.values()}
    # Whole families go to a side; hair is of one family, so there a person goes: of one gender and one skin tone.
    divided = set(samples.family[sorted(asked)].tolist()) if attribute == "hair" else set()
    units: dict[tuple, list[int]] = {}
    for row, (character, family) in enumerate(zip(samples.characters, samples.family.tolist(), strict=True)):
        person = (tone_of(character), gender_of(character)) if family in divided else ()
        units.setdefault((family, *person), []).append(row)
    with_queries = [rows for rows in units.values() if not asked.isdisjoint(rows)]
    others = [rows for rows in units.values() if asked.isdisjoint(rows)]
    sides = zip(divide(with_queries, samples.characters, seed), divide(others, samples.characters, seed), strict=True)
    return tuple(_of_side(samples, sorted(a + b), frames, attribute, seed) for a, b in sides)


def _of_side(samples: EmojiSamples, rows: list[int], frames: dict, attribute: str, seed: int) -> EmojiQueries:
    """The queries between a side's emoji, in an order drawn by the seed; its distinct drawings are the gallery."""
    first: dict[bytes, int] = {}  # a drawing -> its place in the gallery
    shown = {row: first.setdefault(samples.images[row].numpy().tobytes(), len(first)) for row in rows}
    pictures = {place: row for row, place in reversed(shown.items())}
    gallery = [pictures[place] for place in range(len(pictures))]
    found = []
    for values in frames.values():
        for source in (row for row in values.values() if row in shown):
            plain = plain_sequence(samples.characters[source])
            for value, target in values.items():
                if value and shown[source] != shown[target]:  # a drawing may ignore the tone
                    pair = f"{seed} {samples.characters[source]} {samples.characters[target]}"
                    order = draw = int.from_bytes(hashlib.sha256(pair.encode()).digest(), "big")
                    draw, place = divmod(draw, len(FRAMES[attribute]))
                    phrases = _phrases(attribute, value, plain)
                    sentence = FRAMES[attribute][place].format(phrases[draw % len(phrases)])
                    found.append((order, shown[source], sentence, shown[target], value))
    if not found:
        raise ValueError(f"a side has no two emoji that differ in {attribute!r} alone: {len(samples)} are too few")
    _, source, modification, target, asked = (list(column) for column in zip(*sorted(found), strict=True))
    names = {"characters": samples.characters, "captions": samples.texts}
    names = {name: [values[row] for row in gallery] for name, values in names.items()}
    return EmojiQueries(samples.images[gallery], source, modification, target, asked=asked, **names)
