"""The emoji data set on the real, prepared files (``python data_scripts/get_emoji.py``)."""

import functools
import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from commonspace.data import PairedSamples, emoji_tables, files
from commonspace.data import emoji as emoji_module
from commonspace.data.download import write_manifest
from commonspace.data.emoji import Emoji
from commonspace.data.emoji_tables import Entry, families, inheritance, read_annotations, read_table

N_SMALL = 40
TONES = {chr(point) for point in range(0x1F3FB, 0x1F400)}


@pytest.fixture(scope="module")
def plain() -> Emoji:
    return Emoji()


@pytest.fixture(scope="module")
def toned() -> Emoji:
    return Emoji(skin_tones=True)


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """A root with the first emoji and their drawings, and with a cache of its own."""
    folder = files.find("emoji", "glyphs.npz", emoji_module.COMMAND).parent
    (tmp_path / "emoji").mkdir()
    lines = (folder / "emoji-test.txt").read_text(encoding="utf-8").splitlines()
    lines = lines[: [i for i, line in enumerate(lines) if "; fully-qualified" in line][N_SMALL - 1] + 1]
    (tmp_path / "emoji/emoji-test.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "emoji/annotations.zip").write_bytes((folder / "annotations.zip").read_bytes())
    np.savez(tmp_path / "emoji/glyphs.npz", pixels=first_drawings(folder), picture=np.arange(N_SMALL))
    write_manifest(tmp_path / "emoji")
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path))
    monkeypatch.delenv("COMMONSPACE_DATA", raising=False)
    return tmp_path


@functools.cache
def first_drawings(folder: Path) -> np.ndarray:
    with np.load(folder / "glyphs.npz") as glyphs:
        return glyphs["pixels"][:N_SMALL].copy()


# ---- the whole set -------------------------------------------------------------------------------------------------


def test_the_numbers_of_unicode_15(plain, toned):
    assert (len(plain), len(toned)) == (1870, 3655)
    for samples in (plain.samples, toned.samples):
        assert isinstance(samples, PairedSamples)
        assert len(samples.classes) == 9
        assert len(samples.subgroups) == 99
        assert samples.label.unique().tolist() == list(range(9))
        assert samples.subgroup.unique().tolist() == list(range(99))
        assert len(set(samples.characters)) == len(samples)
        assert all(text.strip() for text in samples.texts)
    assert "Component" not in plain.samples.classes
    assert not any(TONES & set(character) for character in plain.samples.characters)
    assert sum(bool(TONES & set(character)) for character in toned.samples.characters) == 3655 - 1870


def test_a_row_is_one_emoji_throughout(toned):
    samples = toned.samples
    row = samples.characters.index("\U0001f436")
    assert samples.texts[row] == "dog face"
    assert samples.classes[samples.label[row]] == "Animals & Nature"
    assert samples.subgroups[samples.subgroup[row]] == "animal-mammal"
    assert {"dog", "pet"} <= set(samples.keywords[row])
    red, green, blue = (samples.images[samples.characters.index(c)].float().mean((1, 2)) for c in "🔴🟢🔵")
    assert [int(colour.argmax()) for colour in (red, green, blue)] == [0, 1, 2]
    one = samples[[row]]
    assert (one.characters, one.texts, len(one.subgroups)) == ([samples.characters[row]], ["dog face"], 99)
    assert torch.equal(one.images[0], samples.images[row])
    assert int(one.family) == int(samples.family[row])


def test_names_agree_with_unicodes_character_names_where_both_speak(plain):
    """CLDR's name and the Unicode character's own share a word in most cases; a shifted table would not."""
    shared = [
        bool(set(re.findall("[a-z]+", text.lower())) & set(unicodedata.name(character[0], "").lower().split()))
        for character, text in zip(plain.samples.characters, plain.samples.texts, strict=True)
        if unicodedata.name(character[0], "")
    ]
    assert len(shared) > 1500
    assert np.mean(shared) > 0.7
    flags = {c: t for c, t in zip(plain.samples.characters, plain.samples.texts, strict=True) if t.startswith("flag: ")}
    assert len(flags) == 261
    assert flags["\U0001f1e9\U0001f1ea"] == "flag: Germany"


def test_pictures_are_drawings_over_white(toned):
    images = toned.samples.images
    assert images.shape == (3655, 3, 32, 32)
    assert images.dtype == torch.uint8
    flat = images.flatten(1)
    assert int((flat.float().std(1) < 2).sum()) == 0  # none blank
    corners = images[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners > 200).float().mean() > 0.95  # flags and boxed signs reach into a corner
    assert len(np.unique(flat.numpy(), axis=0)) == 3641  # 14 are drawn exactly like another
    assert images[:, :, 0].float().mean() > 240  # centred: the glyph is 136x128, so the first and last rows are white
    assert images[:, :, -1].float().mean() > 240


@pytest.mark.parametrize("size", [8, 31, 136])
def test_sizes(size, small):
    """Every size against the mean over blocks of the drawing itself, on its white square."""
    images = Emoji(size=size, root=small).samples.images.float()
    with np.load(small / "emoji/glyphs.npz") as glyphs:
        drawings = torch.from_numpy(glyphs["pixels"]).permute(0, 3, 1, 2).float()
    square = torch.nn.functional.pad(drawings, (0, 0, 4, 4), value=255.0)
    assert images.shape == (N_SMALL, 3, size, size)
    if size == 136:
        assert torch.equal(images, square)
    expected = torch.nn.functional.adaptive_avg_pool2d(square, size)
    assert (images - expected).abs().mean() < 10
    assert all((images[i] - expected).abs().mean((1, 2, 3)).argmin() == i for i in range(0, N_SMALL, 9))


@pytest.mark.parametrize("size", [0, 7, 137, 32.0, "32", True, None])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(ValueError, match="from 8 to 136; got"):
        Emoji(size=size)


# ---- languages -----------------------------------------------------------------------------------------------------


def test_names_in_chinese(plain):
    chinese = Emoji(language="zh").samples
    assert chinese.characters == plain.samples.characters
    assert torch.equal(chinese.images, plain.samples.images)
    has_han = [bool(re.search("[\u4e00-\u9fff]", text)) for text in chinese.texts]
    assert np.mean(has_han) > 0.97
    assert chinese.texts[chinese.characters.index("\U0001f436")] == "狗脸"
    assert chinese.texts[chinese.characters.index("\U0001f1e9\U0001f1ea")] == "旗: 德国"


def test_what_cldr_lacks_has_the_name_of_the_table(capsys):
    samples = Emoji(skin_tones=True).samples
    assert "(31 that CLDR lacks from emoji-test.txt)" in capsys.readouterr().out
    assert samples.texts[samples.characters.index("\U0001fae8")] == "shaking face"  # Emoji 15.0
    assert samples.keywords[samples.characters.index("\U0001fae8")] == []


def test_a_region_inherits_from_its_language():
    assert inheritance("en_GB") == ["en_GB", "en_001", "en"]
    assert inheritance("es_MX") == ["es_MX", "es_419", "es"]
    assert inheritance("pt_PT") == ["pt_PT", "pt"]
    assert inheritance("zh_Hant_HK") == ["zh_Hant_HK", "zh_Hant"]
    assert inheritance("sr_Latn") == ["sr_Latn"]
    english, british = Emoji().samples, Emoji(language="en_GB").samples
    differ = [(a, b) for a, b in zip(english.texts, british.texts, strict=True) if a != b]
    assert 10 < len(differ) < 100
    assert ("motorized wheelchair", "powered wheelchair") in differ


@pytest.mark.parametrize(
    ("language", "near"), [("zh-Hant", "zh_Hant"), ("en_UK", "en_AU"), ("english", None), ("root", None), (3, None)]
)
def test_an_unknown_language_names_its_neighbours(language, near):
    with pytest.raises(ValueError, match="no emoji names in language") as error:
        Emoji(language=language)
    assert "zh_Hant" in str(error.value)
    assert near is None or f"near it: {near}" in str(error.value) or near in str(error.value).split("there are")[0]


# ---- splits --------------------------------------------------------------------------------------------------------


def parts_of(data: Emoji, kind: str, seed: int = 0) -> list[list[str]]:
    return [part.characters for part in data.split(kind, seed=seed)]


@pytest.mark.parametrize("kind", ["family", "random"])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_split_has_every_row_once_and_the_agreed_sizes(plain, toned, kind, seed):
    parts = parts_of(plain, kind, seed)
    assert [len(part) for part in parts] == [1120, 280, 470]
    assert sorted(itertools.chain(*parts)) == sorted(plain.samples.characters)
    parts = parts_of(toned, kind, seed)
    assert [len(part) / 3655 for part in parts] == pytest.approx([1120 / 1870, 280 / 1870, 470 / 1870], abs=2e-4)
    assert sorted(itertools.chain(*parts)) == sorted(toned.samples.characters)


@pytest.mark.parametrize("kind", ["family", "random"])
def test_the_same_seed_gives_the_same_rows_and_another_seed_others(plain, kind):
    assert parts_of(plain, kind, 3) == parts_of(Emoji(language="zh"), kind, 3)
    test, other = set(parts_of(plain, kind, 3)[2]), set(parts_of(plain, kind, 4)[2])
    assert 0.1 < len(test & other) / 470 < 0.45  # chance: 0.25
    rows = [plain.samples.characters.index(c) for c in parts_of(plain, kind, 3)[0]]
    assert np.corrcoef(rows, np.arange(len(rows)))[0, 1] == pytest.approx(0, abs=0.15)  # shuffled


def test_the_rows_of_seed_0_are_the_same_on_every_machine(plain):
    """Recorded: results in the course and in the README stand on these rows."""
    for kind in ("family", "random"):
        assert "".join(parts_of(plain, kind)[2][:5]) == "\u2195\ufe0f\U0001f250\U0001f3c3\U0001f4d6\U0001f642"


def test_every_group_is_in_every_part(plain):
    for kind, seed in itertools.product(("family", "random"), range(3)):
        for part in plain.split(kind, seed=seed):
            shares = torch.bincount(part.label, minlength=9) / len(part)
            whole = torch.bincount(plain.samples.label, minlength=9) / len(plain)
            assert (shares - whole).abs().max() < 0.1
            assert shares.min() > 0
        _, validation, test = plain.split("family", seed=seed)
        for part in (validation, test):
            assert part.family.bincount().max() <= len(part) / 20


@pytest.mark.parametrize("kind", ["families", None, "", 0])
def test_an_unknown_split_is_refused(plain, kind):
    with pytest.raises(ValueError, match='"family" or "random"; got'):
        plain.split(kind)


def siblings(data: Emoji) -> set[frozenset[str]]:
    """Groups that must stay together, found without `families`: by swapping words, by code points, by pixels."""
    by_name = dict(zip(data.samples.texts, data.samples.characters, strict=True))
    groups = []
    for name, character in by_name.items():
        for other in ("man", "person"):
            swapped = re.sub(r"\bwoman\b", other, name)
            if swapped != name and swapped in by_name:
                groups.append((character, by_name[swapped]))
        for word in ("man ", "woman "):  # "man detective", "detective"
            if name.startswith(word) and name.removeprefix(word) in by_name:
                groups.append((character, by_name[name.removeprefix(word)]))
        variant = re.match(r"(?!flag|keycap)(.+?): .*", name)  # "kiss: woman, man", "waving hand: dark skin tone"
        if variant and variant[1] in by_name:
            groups.append((character, by_name[variant[1]]))
    by_parts, by_pixels = defaultdict(list), defaultdict(list)
    variants = TONES | set("\u200d\ufe0f♀♂🦰🦱🦲🦳")
    for character, image in zip(data.samples.characters, data.samples.images.numpy(), strict=True):
        parts = tuple("P" if c in "👨👩🧑" else "C" if c in "👦👧🧒" else c for c in character if c not in variants)
        if parts:  # the male and the female sign have none left
            by_parts[parts].append(character)
        by_pixels[image.tobytes()].append(character)
    groups += [tuple(group) for kept in (by_parts, by_pixels) for group in kept.values() if len(group) > 1]
    return {frozenset(group) for group in groups}


def torn(data: Emoji, kind: str, seed: int) -> list[frozenset[str]]:
    side = {c: i for i, part in enumerate(parts_of(data, kind, seed)) for c in part}
    return [group for group in siblings(data) if len({side[c] for c in group}) > 1]


@pytest.mark.parametrize("seed", range(4))
def test_no_siblings_on_two_sides_of_a_family_split(plain, seed):
    assert len(siblings(plain)) > 100
    assert torn(plain, "family", seed) == []
    assert len(torn(plain, "random", seed)) > 50  # the check can fail


def test_no_skin_tones_on_two_sides_of_a_family_split(toned):
    assert len(siblings(toned)) > 400
    assert torn(toned, "family", 0) == []
    assert len(torn(toned, "random", 0)) > 300


def test_families_are_variants_and_nothing_more(plain):
    family = dict(zip(plain.samples.texts, plain.samples.family.tolist(), strict=True))
    sizes = Counter(family.values())
    assert len(sizes) == 1658
    assert max(sizes.values()) == 26  # "family", and "family: man, woman, boy" and so on
    assert set(family.values()) == set(range(len(sizes)))
    for pattern in ("keycap: .*", ".* o’clock", ".* arrow", ".*moon.*", ".* heart", "cat .*", "man’s .*|woman’s .*"):
        members = [name for name in family if re.fullmatch(pattern, name) and not name.startswith("couple")]
        assert len(members) > 2
        assert len({family[name] for name in members}) == len(members), pattern
    for a, b in [
        ("prince", "princess"),
        ("Santa Claus", "mx claus"),
        ("men’s room", "women’s room"),
        ("old man", "older person"),
        ("merman", "mermaid"),
        ("kiss", "kiss: woman, man"),
        ("women holding hands", "woman and man holding hands"),
        ("flag: Norway", "flag: Svalbard & Jan Mayen"),
    ]:
        assert family[a] == family[b]
    assert family["flag: Norway"] != family["flag: Sweden"]
    assert family["kiss"] != family["kiss mark"]
    assert family["person walking"] != family["person running"]


# ---- tables --------------------------------------------------------------------------------------------------------

TABLE = """\
# group: Smileys & Emotion
# subgroup: face-smiling
1F600          ; fully-qualified     # 😀 E1.0 grinning face
1FAE8          ; fully-qualified     # 🫨 E15.0 shaking face
1F642 200D 2194 FE0F ; fully-qualified # 🙂‍↔️ E15.1 head shaking horizontally
1F642 200D 2194 ; minimally-qualified # 🙂‍↔ E15.1 head shaking horizontally
263A           ; unqualified         # ☺ E0.6 smiling face
1FAE9          ; fully-qualified     # 🫩 E16.0 face with bags under eyes
# group: Component
# subgroup: skin-tone
1F3FB          ; component           # 🏻 E1.0 light skin tone
# group: Symbols
# subgroup: keycap
0023 FE0F 20E3 ; fully-qualified     # #️⃣ E0.6 keycap: #
"""


def test_entries_of_newer_tables_are_left_out():
    entries = read_table(TABLE)
    assert [entry.name for entry in entries] == ["grinning face", "shaking face", "keycap: #"]
    assert entries[2] == Entry("#\ufe0f\u20e3", "Symbols", "keycap", (0, 6), "keycap: #")
    with pytest.raises(ValueError, match=r"not an emoji-test\.txt"):
        read_table("# group: nothing\n")


def test_annotations_without_markers_of_inheritance():
    xml = """<ldml><annotations>
      <annotation cp="❤">heart | red </annotation><annotation cp="❤" type="tts">red heart</annotation>
      <annotation cp="🐶" type="tts">↑↑↑</annotation><annotation cp="🐱" type="tts">∅∅∅</annotation>
      <annotation cp="🐭" type="tts"/></annotations></ldml>"""
    assert read_annotations(xml.encode()) == ({"❤": "red heart"}, {"❤": ["heart", "red"]})
    assert emoji_tables.key("❤\ufe0f") == "❤"


def test_families_join_through_a_third():
    def entry(character, name):
        return Entry(character, "g", "s", (1, 0), name)

    entries = [entry("a", "x: one"), entry("b", "y"), entry("c", "x: two"), entry("d", "z")]
    assert families(entries, [0, 1, 2, 3]) == [0, 1, 0, 2]
    assert families(entries, [0, 1, 1, 3]) == [0, 0, 0, 1]  # b is drawn like c, and c is called like a


# ---- files ---------------------------------------------------------------------------------------------------------


def test_missing_data_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python data_scripts/get_emoji\.py"):
        Emoji(root=tmp_path)


@pytest.mark.parametrize("name", ["annotations.zip", "emoji-test.txt", "glyphs.npz"])
def test_an_altered_file_is_named(small, name):
    path = small / "emoji" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s){name} is altered.*python data_scripts/get_emoji\.py"):
        Emoji(root=small)


def test_where_the_files_are_is_printed_without_the_machines_path(small, capsys):
    Emoji()
    out = capsys.readouterr().out
    assert out.endswith("from $COMMONSPACE_CACHE/emoji\n")
    assert out.count("\n") == 1
    assert sorted(path.name for path in small.iterdir()) == ["emoji", "emoji-pixels"]


def test_resized_pictures_are_kept_and_a_damaged_copy_is_made_anew(small):
    with ThreadPoolExecutor(4) as pool:  # four at once
        first, *others = pool.map(lambda _: emoji_module._pixels(small / "emoji", 10), range(4))
    assert all(np.array_equal(first, other) for other in others)
    (kept,) = (small / "emoji-pixels").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    assert np.array_equal(emoji_module._pixels(small / "emoji", 10), first)
    assert np.array_equal(np.load(kept), first)


def test_resized_pictures_are_of_the_drawings_at_hand(small):
    """Another font's drawings in the same place must not meet the pictures kept from the first."""
    first = emoji_module._pixels(small / "emoji", 10)
    with np.load(small / "emoji/glyphs.npz") as glyphs:
        pixels, picture = glyphs["pixels"], glyphs["picture"]
    np.savez(small / "emoji/glyphs.npz", pixels=255 - pixels, picture=picture)
    write_manifest(small / "emoji")
    other = emoji_module._pixels(small / "emoji", 10)
    assert np.abs(first.astype(int) - other).mean() > 50


def test_a_cache_that_cannot_be_written_is_no_obstacle(small, monkeypatch):
    (small / "file").write_text("no folder")
    monkeypatch.setenv("COMMONSPACE_CACHE", str(small / "file"))
    assert len(Emoji(size=8, root=small)) == N_SMALL
