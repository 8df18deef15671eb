"""Unicode's tables for the emoji: which there are, what they are called, which of them are variants of one another."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

NEWEST = (15, 0)  # entries of later versions are left out, whatever table a system ships


class Entry(NamedTuple):
    """One row of emoji-test.txt."""

    character: str
    group: str
    subgroup: str
    version: tuple[int, int]
    name: str  # English, as emoji-test.txt has it


_ROW = re.compile(r"(?P<points>[0-9A-F ]+);\s*fully-qualified\s*#\s*\S+\s+E(?P<version>\d+\.\d+)\s+(?P<name>.+)")
_TONE = re.compile("[\U0001f3fb-\U0001f3ff]")


def read_table(text: str) -> list[Entry]:
    """The fully-qualified emoji up to version 15.0, in the order of emoji-test.txt (UTS #51).

    Raises ValueError when the text has none.
    """
    entries, group, subgroup = [], "", ""
    for line in text.splitlines():
        if line.startswith("# group:"):
            group = line.removeprefix("# group:").strip()
        elif line.startswith("# subgroup:"):
            subgroup = line.removeprefix("# subgroup:").strip()
        elif row := _ROW.match(line):
            version = tuple(int(x) for x in row["version"].split("."))
            if version <= NEWEST:
                character = "".join(chr(int(point, 16)) for point in row["points"].split())
                entries.append(Entry(character, group, subgroup, version, row["name"].strip()))
    if not entries:
        raise ValueError("not an emoji-test.txt: it has no fully-qualified entry")
    return entries


def has_skin_tone(character: str) -> bool:
    """Whether the sequence holds a skin-tone modifier."""
    return _TONE.search(character) is not None


# ---- names and keywords in a language ------------------------------------------------------------------------------

# CLDR's parents that cutting the last part of the code does not give (LDML part 1, "Parent Locales").
_PARENTS = {"en_AU": "en_001", "en_GB": "en_001", "en_IN": "en_001", "es_MX": "es_419", "es_US": "es_419"}
_PARENTS |= {"sr_Cyrl": "sr", "hi_Latn": "en_IN", "nn": "no"}


def inheritance(language: str) -> list[str]:
    """The language and those it inherits from, nearest first: en_GB, en_001, en. A script has no parent: zh_Hant."""
    chain = [language]
    while True:
        cut, _, last = chain[-1].rpartition("_")
        parent = _PARENTS.get(chain[-1]) or (cut if len(last) != 4 else "")
        if not parent:
            return chain
        chain.append(parent)


def key(character: str) -> str:
    """How CLDR's annotations spell an emoji: without the variation selector U+FE0F."""
    return character.replace("\ufe0f", "")


def read_annotations(xml: bytes) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Names (CLDR's ``tts``) and keywords by `key`, from one annotations/<language>.xml."""
    names, keywords = {}, {}
    for item in ElementTree.fromstring(xml).iter("annotation"):
        text = (item.text or "").strip()
        if not text or text in ("↑↑↑", "∅∅∅"):  # inherited; none
            continue
        if item.get("type") == "tts":
            names[key(item.get("cp"))] = text
        else:
            keywords[key(item.get("cp"))] = [word.strip() for word in text.split("|") if word.strip()]
    return names, keywords


# ---- families: emoji that are variants of one another --------------------------------------------------------------

_PERSON, _CHILD, _OLDER, _CROWN, _PREGNANT, _DANCING = "\U0001f9d1\U0001f9d2\U0001f9d3\U0001fac5\U0001fac4\U0001f483"
_HOLDING_HANDS = f"{_PERSON}\u200d\U0001f91d\u200d{_PERSON}"
_SAME = str.maketrans(
    dict.fromkeys("\U0001f468\U0001f469", _PERSON)  # man, woman
    | dict.fromkeys("\U0001f466\U0001f467", _CHILD)  # boy, girl
    | dict.fromkeys("\U0001f474\U0001f475", _OLDER)  # old man, old woman
    | dict.fromkeys("\U0001f934\U0001f478", _CROWN)  # prince, princess
    | dict.fromkeys("\U0001f930\U0001fac3", _PREGNANT)  # pregnant woman, pregnant man
    | dict.fromkeys("\U0001f57a", _DANCING)  # man dancing
    | dict.fromkeys("\U0001f46b\U0001f46c\U0001f46d", _HOLDING_HANDS)  # woman and man, men, women holding hands
    | dict.fromkeys("\U0001f385\U0001f936", f"{_PERSON}\u200d\U0001f384")  # Santa Claus, Mrs. Claus: mx claus
)
_GENDER_OR_HAIR = re.compile("\u200d[\u2640\u2642\U0001f9b0-\U0001f9b3]")
_WHO = re.compile(r"\b(man|woman|men|women|person|people)(['’]s)?(?!\w)", re.IGNORECASE)


def plain_sequence(character: str) -> str:
    """The sequence without skin tone, gender, hair and U+FE0F; man and woman become person, boy and girl child."""
    return _GENDER_OR_HAIR.sub("", _TONE.sub("", key(character))).translate(_SAME)


def name_stem(name: str) -> str:
    """The English name without its variant (what follows the colon) and without man, woman, person.

    ``flag: X`` and ``keycap: X`` are no variants of one another and stay whole.
    """
    if name.startswith(("flag:", "keycap:")):
        return name
    return " ".join(_WHO.sub(" ", name.partition(":")[0]).split()).lower()


def families(entries: Sequence[Entry], pictures: Sequence[Hashable]) -> list[int]:
    """A family number for each entry: 0, 1, ... in order of first appearance.

    Two entries are of one family if they have the same picture, `plain_sequence` or `name_stem`, or are both of one
    family with a third.
    """
    parent = list(range(len(entries)))

    def head(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    rules: list[Callable[[int], Hashable]] = [
        lambda i: pictures[i],
        lambda i: plain_sequence(entries[i].character),
        lambda i: name_stem(entries[i].name),
    ]
    for rule in rules:
        first: dict[Hashable, int] = {}
        for i in range(len(entries)):
            parent[head(i)] = head(first.setdefault(rule(i), i))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(head(i), len(numbers)) for i in range(len(entries))]
