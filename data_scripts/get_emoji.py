"""Prepare the emoji: drawings of Noto Color Emoji with Unicode's names in every language of CLDR.

    python data_scripts/get_emoji.py                  from this system, else by https, else (Debian, root) by apt-get
    python data_scripts/get_emoji.py --from FOLDER    from files fetched by hand: a folder, or a zip or tar archive
    python data_scripts/get_emoji.py --verify         check what was prepared

It draws each emoji once, at the size of the font's bitmaps, and takes about 15 seconds. Run twice, it does nothing.
"""

import io
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

from commonspace.data.download import (
    DataError,
    extract,
    new_file,
    new_folder,
    read_manifest,
    sha256,
    write_manifest,
)
from commonspace.data.emoji_tables import Entry, families, has_skin_tone, key, read_annotations, read_table
from commonspace.data.script import Script, Source, facts_size, unpacked

ABOUT = """\
Emoji: 3,655 drawings and their names in about 140 languages and regions
  size     download at most 50 MB; prepared 22 MB
  font     Noto Color Emoji 2.042, googlefonts/noto-emoji; SIL Open Font License 1.1
  table    emoji-test.txt 15.0, unicode.org; Unicode License
  names    CLDR 41 annotations, unicode.org; Unicode License"""

TABLE_SHA256 = "8445f23ac8388e096be19d0262e14fceff856ff52093f2356dc89485f1a853db"  # Debian 12's is unicode.org's
NAMES_SHA256 = "170a989b9aff71fd06b9f7bbd70aa3b4a3d228e15fa734692d4fc80206e536e1"  # annotations/en.xml of CLDR 41
# URL, and the SHA-256 where we know it. The font's owners publish none, and Debian builds its own from the same
# sources; nor is there one for CLDR's archive. Both are checked by content: every drawing, every name.
DOWNLOADS = {
    "font": ("https://raw.githubusercontent.com/googlefonts/noto-emoji/v2.042/fonts/NotoColorEmoji.ttf", None),
    "table": ("https://www.unicode.org/Public/emoji/15.0/emoji-test.txt", TABLE_SHA256),
    "names": ("https://unicode.org/Public/cldr/41/cldr-common-41.0.zip", None),
}
SYSTEM = {
    "font": ["/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf", "/usr/share/fonts/noto/NotoColorEmoji.ttf"],
    "table": ["/usr/share/unicode/emoji/emoji-test.txt"],
    "names": ["/usr/share/unicode/cldr/common"],
}
PACKAGES = {"font": "fonts-noto-color-emoji", "table": "unicode-data", "names": "unicode-cldr-core"}
WHAT = {"font": "NotoColorEmoji.ttf", "table": "emoji-test.txt", "names": "CLDR's annotations"}
N_EMOJI = 3655
PIXELS, HEIGHT, WIDTH = 109, 128, 136  # the font's only bitmap size, and its bitmaps
NEEDED_MB = 300


# ---- where the three sources are -----------------------------------------------------------------------------------


def font_facts(path: Path) -> tuple[str, int]:
    """Revision and number of glyphs, from the font's ``head`` and ``maxp`` tables (OpenType 1.9)."""
    data = path.read_bytes()
    (n_tables,) = struct.unpack_from(">4xH", data)
    at = {data[i : i + 4]: struct.unpack_from(">8xI", data, i)[0] for i in range(12, 12 + 16 * n_tables, 16)}
    (revision,) = struct.unpack_from(">4xI", data, at[b"head"])
    (n_glyphs,) = struct.unpack_from(">4xH", data, at[b"maxp"])
    return f"{revision / 65536:.3f}", n_glyphs


def bitmap_font(path: Path):
    """The font for Pillow. Opened here, since Pillow quietly takes a system font of the same name for a broken file."""
    from PIL import ImageFont

    return ImageFont.truetype(io.BytesIO(path.read_bytes()), PIXELS, layout_engine=ImageFont.Layout.RAQM)


def fits(what: str, path: Path) -> bool:
    """Whether a file can serve: a font with bitmaps of 109 pixels, a table, a folder of annotations."""
    if what == "names":
        return all((path / kind / "en.xml").is_file() for kind in ("annotations", "annotationsDerived"))
    if what == "table":
        return path.is_file()
    try:
        return path.is_file() and bitmap_font(path).getbbox("\U0001f600")[2:] == (WIDTH, HEIGHT)
    except (OSError, ValueError):  # a newer build of vector drawings, or no font at all
        return False


def on_system() -> dict[str, Path]:
    """Those of font, table and names that this system has."""
    places = {what: [Path(path) for path in paths] for what, paths in SYSTEM.items()}
    if SYSTEM["font"] and shutil.which("fc-list"):
        listed = subprocess.run(["fc-list", ":family=Noto Color Emoji", "file"], capture_output=True, text=True)
        places["font"] += [Path(line.strip(": ")) for line in listed.stdout.splitlines()]
    found = {what: next((path for path in paths if fits(what, path)), None) for what, paths in places.items()}
    return {what: path for what, path in found.items() if path is not None}


def below(folder: Path, work: Path) -> dict[str, Path]:
    """Those of font, table and names found anywhere below a folder; CLDR's own archive is unpacked into ``work``."""
    patterns = {"font": "NotoColorEmoji*.ttf", "table": "emoji-test.txt", "names": "annotations"}
    found = {}
    for what, pattern in patterns.items():
        for path in sorted(folder.rglob(pattern)):
            path = path.parent if what == "names" else path
            if fits(what, path):
                found[what] = path
    archives = [path for pattern in ("cldr-common*.zip", "core.zip") for path in sorted(folder.rglob(pattern))]
    if "names" not in found and archives:
        extract(archives[0], work / "cldr")
        if "names" in (unpacked := below(work / "cldr", work)):
            found["names"] = unpacked["names"]
    return found


def downloaded(missing: list[str], source: Source) -> dict[str, Path]:
    """Fetch what is missing; what does not serve is thrown away again. Raises DataError."""
    paths = {what: source.download(*DOWNLOADS[what]) for what in missing}
    try:
        found = below(source.keep, source.work)
    except DataError:
        shutil.rmtree(source.keep)
        raise
    for what in missing:
        if what not in found:
            paths[what].unlink()
    return {what: path for what, path in found.items() if what in missing}


def can_install() -> bool:
    """Whether this is a Debian-like system and we may install packages."""
    return shutil.which("apt-get") is not None and hasattr(os, "geteuid") and os.geteuid() == 0


def install(packages: list[str]) -> None:
    """apt-get install. Raises DataError."""
    print(f"  installing {' '.join(packages)}", flush=True)
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", *command], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdout=subprocess.DEVNULL
        )
    if done.returncode:
        raise DataError(f"apt-get install {' '.join(packages)} failed")


def remedy(missing: list[str]) -> str:
    """The command that helps when no source did."""
    by_hand = "fetch them by hand into a folder (URLs: --help), then: python data_scripts/get_emoji.py --from FOLDER"
    if shutil.which("apt-get"):
        return f"sudo apt-get install {' '.join(PACKAGES[what] for what in missing)}; or {by_hand}"
    return by_hand


def gather(source: Source) -> dict[str, Path]:
    """The font, the table and the folder of names. Raises DataError that names the command which helps."""
    need_raqm()
    if source.given is not None:
        found = below(unpacked(source.given, source.work), source.work)
        if lacking := [WHAT[what] for what in SYSTEM if what not in found]:
            raise DataError(
                f"--from {source.given} lacks {' and '.join(lacking)} (sources: --help); put it there and run again"
            )
        return found
    found = on_system()
    for path in found.values():
        print(f"  on this system: {path}")
    missing = [what for what in SYSTEM if what not in found]
    if not missing:
        return found
    reason = ""
    try:
        found |= downloaded(missing, source)
    except DataError as error:
        reason = str(error)
    missing = [what for what in SYSTEM if what not in found]
    if missing and can_install():
        print(f"  {reason}")
        install([PACKAGES[what] for what in missing])
        found |= on_system()
        missing = [what for what in SYSTEM if what not in found]
    if missing:
        reason = reason or "what was fetched does not serve"
        raise DataError(f"no {' and '.join(WHAT[what] for what in missing)}: {reason}. Do: {remedy(missing)}")
    return found


# ---- prepare -------------------------------------------------------------------------------------------------------


def has_raqm() -> bool:
    """Whether Pillow can lay out joined sequences; asked in a new process, since Pillow looks only once."""
    ask = "import sys; from PIL import features; sys.exit(not features.check('raqm'))"
    return subprocess.run([sys.executable, "-c", ask]).returncode == 0


def need_raqm() -> None:
    """Pillow's wheels carry raqm but load FriBiDi from the system. Raises DataError where it is missing."""
    if not has_raqm() and can_install():
        install(["libfribidi0"])
    if not has_raqm():
        mend = "sudo apt-get install libfribidi0" if shutil.which("apt-get") else "install the FriBiDi library"
        raise DataError(f"Pillow has no raqm layout, which joined emoji need. Do: {mend}")


def draw(entries: list[Entry], font_path: Path):
    """The glyph of each entry over white: (n, 128, 136, 3) uint8. Raises DataError when the font lacks one."""
    import numpy as np
    from PIL import Image, ImageDraw

    font = bitmap_font(font_path)
    one = font.getlength("\U0001f600")
    pixels = np.empty((len(entries), HEIGHT, WIDTH, 3), dtype=np.uint8)
    lacking = []
    for i, entry in enumerate(entries):
        image = Image.new("RGB", (WIDTH, HEIGHT), "white")
        ImageDraw.Draw(image).text((0, 0), entry.character, font=font, embedded_color=True, anchor="lt")
        pixels[i] = image
        # A sequence that the font does not know comes as several glyphs side by side; an unknown character is blank.
        if font.getlength(entry.character) != one or (pixels[i] == 255).all():
            lacking.append(entry.name)
    if lacking:
        raise DataError(
            f"the font lacks {len(lacking)} of {len(entries)} emoji, the first is {lacking[0]!r}. Do: "
            "take NotoColorEmoji.ttf 2.042 or later, and run again with --from FOLDER"
        )
    return pixels


def prepare(sources: dict[str, Path], folder: Path, work: Path) -> None:
    """Check the sources, draw, and write the folder, all or nothing. Raises DataError."""
    import numpy as np

    entries = read_table(sources["table"].read_text(encoding="utf-8"))
    if len(entries) != N_EMOJI:
        raise DataError(f"emoji-test.txt has {len(entries):,} emoji up to version 15.0, {N_EMOJI:,} were expected")
    xml = {
        f"{kind}/{path.name}": path
        for kind in ("annotations", "annotationsDerived")
        for path in sorted((sources["names"] / kind).glob("*.xml"))
    }
    named = {}
    for kind in ("annotations", "annotationsDerived"):
        named |= read_annotations(xml[f"{kind}/en.xml"].read_bytes())[0]
    lacking = sum(key(entry.character) not in named for entry in entries)
    if lacking > 0.02 * len(entries):
        raise DataError(f"CLDR's English annotations lack {lacking:,} of {len(entries):,} emoji, some 31 were expected")

    print(f"  drawing {len(entries):,} emoji", flush=True)
    pixels = draw(entries, sources["font"])
    first: dict[bytes, int] = {}
    picture = np.array([first.setdefault(drawing.tobytes(), i) for i, drawing in enumerate(pixels)])
    revision, n_glyphs = font_facts(sources["font"])
    with new_folder(folder) as new:
        with new_file(new / "emoji-test.txt") as file:
            file.write(sources["table"].read_bytes())
        with new_file(new / "annotations.zip") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, path in xml.items():
                archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
        with new_file(new / "glyphs.npz") as file:
            np.savez_compressed(file, pixels=pixels, picture=picture)
        write_manifest(
            new,
            dataset="emoji",
            font={"revision": revision, "glyphs": n_glyphs, "sha256": sha256(sources["font"])},
            table_is_15_0=sha256(sources["table"]) == TABLE_SHA256,
            names_are_cldr_41=sha256(xml["annotations/en.xml"]) == NAMES_SHA256,
            english_names_lacking=lacking,
        )


# ---- what a reader can compare -------------------------------------------------------------------------------------


def statistics(folder: Path) -> list[tuple[str, str]]:
    """Numbers of the prepared data; the expected ones are at the end of this file."""
    import numpy as np

    manifest = read_manifest(folder)
    entries = read_table((folder / "emoji-test.txt").read_text(encoding="utf-8"))
    with np.load(folder / "glyphs.npz") as glyphs:
        picture = glyphs["picture"].tolist()
    with zipfile.ZipFile(folder / "annotations.zip") as archive:
        languages = sum(name.startswith("annotations/") and "root" not in name for name in archive.namelist())
    plain = [i for i, entry in enumerate(entries) if not has_skin_tone(entry.character)]
    family = families(entries, picture)
    sizes = Counter(family[i] for i in plain)
    known = {True: "the known file", False: "another version than we checked with"}
    return [
        ("emoji", f"{len(entries):,}"),
        ("without skin tones", f"{len(plain):,}"),
        ("groups, subgroups", f"{len({e.group for e in entries})}, {len({e.subgroup for e in entries})}"),
        ("different drawings", f"{len(set(picture)):,}"),
        ("families without skin tones", f"{len(sizes):,}, the largest of {max(sizes.values())}"),
        ("languages and regions", f"{languages}"),
        ("without an English CLDR name", f"{manifest['english_names_lacking']}"),
        ("font", f"revision {manifest['font']['revision']}, {manifest['font']['glyphs']:,} glyphs"),
        ("table", known[manifest["table_is_15_0"]]),
        ("English names", known[manifest["names_are_cldr_41"]]),
        facts_size(manifest),
    ]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    urls = "sources by hand, all three into one folder:\n  " + "\n  ".join(url for url, _ in DOWNLOADS.values())
    return Script("emoji", __doc__, urls, ABOUT, NEEDED_MB, gather, prepare, statistics).main(argv)


if __name__ == "__main__":
    sys.exit(main())

# Expected, with Debian 12's font (2.042-0+deb12u1), unicode-data 15.0 and unicode-cldr-core 41:
#   emoji                         3,655
#   without skin tones            1,870
#   groups, subgroups             9, 99
#   different drawings            3,641
#   families without skin tones   1,658, the largest of 26
#   languages and regions         146
#   without an English CLDR name  31
#   font                          revision 2.042, 3,968 glyphs
#   table                         the known file
#   English names                 the known file
#   size                          22.2 MB
