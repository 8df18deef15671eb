"""The emoji data script, on a small table (one emoji in sixty) so that preparing takes half a second."""

import functools
import importlib.util
import io
import os
import resource
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commonspace.data.download import DataError, problems
from commonspace.data.emoji_tables import read_table

SCRIPT = Path(__file__).parents[2] / "data_scripts" / "get_emoji.py"
CLDR = "cldr-common-41.0.zip"
N_SMALL = 61


def load_script():
    spec = importlib.util.spec_from_file_location("get_emoji", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def system() -> dict[str, Path]:
    found = load_script().on_system()
    if len(found) < 3:
        pytest.skip(
            "font or Unicode tables are not installed: apt-get install fonts-noto-color-emoji unicode-data "
            "unicode-cldr-core"
        )
    return found


@pytest.fixture(scope="module")
def sources(system, tmp_path_factory) -> Path:
    """A folder as one would fill it by hand: font, a small table, CLDR's archive with three languages."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "NotoColorEmoji.ttf").write_bytes(system["font"].read_bytes())
    lines = system["table"].read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if "; fully-qualified" in line][::60]
    kept = set(rows) | {line for line in lines if line.startswith("# ")}
    newer = "1F600 200D 1F600 ; fully-qualified # x E15.1 newer than the font"
    (folder / "emoji-test.txt").write_text("\n".join([*(line for line in lines if line in kept), newer]), "utf-8")
    with zipfile.ZipFile(folder / CLDR, "w", zipfile.ZIP_DEFLATED) as archive:
        for kind in ("annotations", "annotationsDerived"):
            for language in ("en", "de", "zh"):
                archive.write(system["names"] / kind / f"{language}.xml", f"common/{kind}/{language}.xml")
    return folder


@pytest.fixture(scope="module")
def names(sources, tmp_path_factory) -> Path:
    """The annotations unpacked, as a system has them."""
    folder = tmp_path_factory.mktemp("system")
    with zipfile.ZipFile(sources / CLDR) as archive:
        archive.extractall(folder)
    return folder / "common"


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script for the small table, on a machine that has nothing and cannot install; it prepares in tmp_path."""
    module = load_script()
    monkeypatch.setattr(module, "N_EMOJI", N_SMALL)
    monkeypatch.setattr(module, "SYSTEM", {what: [] for what in module.SYSTEM})
    monkeypatch.setattr(module, "can_install", lambda: False)
    monkeypatch.setattr(module, "has_raqm", lambda: True)
    monkeypatch.setitem(module.DOWNLOADS, "table", (module.DOWNLOADS["table"][0], None))
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
    return module


@pytest.fixture
def home(tmp_path) -> Path:
    """Where the script prepares."""
    return tmp_path / "cache"


class Mirror(SimpleHTTPRequestHandler):
    """Serves the sources; the file named in ``cut`` breaks off after that many bytes, the one in ``gone`` is a 404."""

    cut: tuple[str, int] = ("", 0)
    gone = ""
    asked: list[str]

    def do_GET(self):
        name = self.path.lstrip("/")
        self.asked.append(name + (self.headers.get("Range") or ""))
        if name == self.gone:
            self.send_error(404)
            return
        body = (Path(self.directory) / name).read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = self.cut[1] if name == self.cut[0] else len(body)
        self.wfile.write(body[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(sources):
    handler = type("Handler", (Mirror,), {"asked": []})
    http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(sources)))
    handler.url = f"http://127.0.0.1:{http.server_port}/"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield handler
    http.shutdown()
    thread.join()
    http.server_close()


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def one_line(capsys) -> str:
    """The error output, which is one line."""
    err = capsys.readouterr().err
    assert err.startswith("get_emoji: ")
    assert err.count("\n") == 1
    return err


# ---- what it makes -------------------------------------------------------------------------------------------------


def test_it_prepares_from_a_folder_and_a_second_run_does_nothing(script, sources, home, capsys):
    assert script.main(["--from", str(sources)]) == 0
    out = capsys.readouterr().out
    assert out.index("SIL Open Font License") < out.index("  drawing")  # size, source and terms come first
    assert out.index("Unicode License") < out.index("  drawing")
    assert f"emoji                         {N_SMALL}\n" in out
    assert "languages and regions         3\n" in out
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    assert sorted(path.name for path in before if path.is_file()) == [
        "annotations.zip",
        "emoji-test.txt",
        "glyphs.npz",
        "manifest.json",
    ]
    assert script.main([]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_the_drawings_are_the_glyphs(script, sources, home):
    assert script.main(["--from", str(sources)]) == 0
    entries = read_table((home / "emoji/emoji-test.txt").read_text(encoding="utf-8"))
    assert any("\u200d" in entry.character for entry in entries)
    with np.load(home / "emoji/glyphs.npz") as glyphs:
        pixels, picture = glyphs["pixels"], glyphs["picture"]
    assert pixels.shape == (N_SMALL, 128, 136, 3)
    assert pixels.dtype == np.uint8
    assert picture.tolist() == [next(j for j in range(i + 1) if (pixels[j] == pixels[i]).all()) for i in range(N_SMALL)]

    ttlib = pytest.importorskip("fontTools.ttLib", reason="the font's own bitmaps are read with fontTools")
    with ttlib.TTFont(sources / "NotoColorEmoji.ttf") as font:
        names, strike = font.getBestCmap(), font["CBDT"].strikeData[0]
        single = [i for i in range(N_SMALL) if len(entries[i].character) == 1]
        assert len(single) > 20
        for i in single:
            png = Image.open(io.BytesIO(strike[names[ord(entries[i].character)]].imageData)).convert("RGBA")
            expected = Image.alpha_composite(Image.new("RGBA", png.size, "white"), png).convert("RGB")
            assert np.abs(np.asarray(expected).astype(int) - pixels[i]).max() <= 2  # of 255: rounding of the alpha


def test_verify_names_an_altered_file_and_the_next_run_mends_it(script, sources, home, capsys):
    assert script.main(["--verify"]) == 1
    assert "nothing is prepared" in capsys.readouterr().out
    assert script.main(["--from", str(sources)]) == 0
    assert script.main(["--verify"]) == 0
    with open(home / "emoji/annotations.zip", "r+b") as file:
        file.seek(1000)
        file.write(b"x")
    capsys.readouterr()
    assert script.main(["--verify"]) == 1
    assert "annotations.zip is altered" in capsys.readouterr().out
    assert script.main(["--from", str(sources)]) == 0
    assert "made anew: annotations.zip is altered" in capsys.readouterr().out
    assert script.main(["--verify"]) == 0


def test_root_is_where_it_prepares(script, sources, home, tmp_path):
    assert script.main(["--from", str(sources), "--root", str(tmp_path / "mine")]) == 0
    assert problems(tmp_path / "mine/emoji") == []
    assert not home.exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_it_prepares_from_an_archive(script, sources, home, tmp_path, suffix):
    archive = tmp_path / f"all{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sources.iterdir():
                file.write(path, f"deep/{path.name}")
    else:
        with tarfile.open(archive, "w:gz", compresslevel=1) as file:
            file.add(sources, "deep")
    assert script.main(["--from", str(archive)]) == 0
    assert sorted(path.name for path in home.iterdir()) == ["emoji"]  # nothing of the unpacking is left


# ---- system, download, install -------------------------------------------------------------------------------------


def test_the_system_comes_first(script, system, sources, names, monkeypatch, capsys):
    table = [str(sources / "nowhere"), str(sources / "emoji-test.txt")]
    places = {"font": [str(system["font"])], "table": table, "names": [str(names)]}
    monkeypatch.setattr(script, "SYSTEM", places)
    assert script.main(["--mirror", "http://127.0.0.1:1/"]) == 0
    assert "fetching" not in capsys.readouterr().out


def test_what_the_system_lacks_is_downloaded(script, names, mirror, home, monkeypatch):
    monkeypatch.setitem(script.SYSTEM, "names", [str(names)])
    assert script.main(["--mirror", mirror.url]) == 0
    assert mirror.asked == ["NotoColorEmoji.ttf", "emoji-test.txt"]
    assert sorted(path.name for path in home.iterdir()) == ["downloads", "emoji"]
    assert list((home / "downloads").iterdir()) == []


def test_a_broken_download_continues_in_the_next_run(script, mirror, home, capsys):
    mirror.cut = ("NotoColorEmoji.ttf", 2_000_000)
    assert script.main(["--mirror", mirror.url]) == 1
    assert "broke off after 2,000,000 of" in one_line(capsys)
    assert not (home / "emoji").exists()
    mirror.cut = ("", 0)
    mirror.asked.clear()
    assert script.main(["--mirror", mirror.url]) == 0
    assert mirror.asked == ["NotoColorEmoji.ttfbytes=2000000-", "emoji-test.txt", CLDR]


def test_a_missing_file_on_the_server_names_the_way_out(script, mirror, home, capsys, monkeypatch):
    mirror.gone = CLDR
    monkeypatch.setattr(script.shutil, "which", lambda name: None)
    assert script.main(["--mirror", mirror.url]) == 1
    err = one_line(capsys)
    assert f"{CLDR}: the server answered 404" in err
    assert "--from FOLDER" in err
    assert "apt-get" not in err
    assert not (home / "emoji").exists()


def test_a_debian_user_is_told_the_packages(script, mirror, capsys, monkeypatch):
    mirror.gone = "NotoColorEmoji.ttf"
    monkeypatch.setattr(script.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "apt-get" else None)
    assert script.main(["--mirror", mirror.url]) == 1
    assert "sudo apt-get install fonts-noto-color-emoji unicode-data unicode-cldr-core" in one_line(capsys)


def test_a_wrong_hash_is_refused(script, mirror, home, capsys, monkeypatch):
    monkeypatch.setitem(script.DOWNLOADS, "table", (script.DOWNLOADS["table"][0], script.TABLE_SHA256))
    assert script.main(["--mirror", mirror.url]) == 1  # the small table is not unicode.org's
    assert "emoji-test.txt: not the file expected, thrown away" in one_line(capsys)
    assert not (home / "downloads/emoji/emoji-test.txt").exists()


@pytest.mark.parametrize(("name", "size"), [(CLDR, 5000), ("NotoColorEmoji.ttf", 0)])
def test_a_download_that_does_not_serve_is_not_kept(script, mirror, sources, tmp_path, capsys, name, size):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in sources.iterdir():
        (broken / path.name).write_bytes(path.read_bytes()[:size] if path.name == name else path.read_bytes())
    http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(mirror, directory=str(broken)))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        assert script.main(["--mirror", f"http://127.0.0.1:{http.server_port}"]) == 1
        assert name in one_line(capsys)
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
    assert script.main(["--mirror", mirror.url]) == 0


def test_root_on_debian_installs_the_packages(script, system, sources, names, monkeypatch):
    installed = []

    def install(packages):
        installed.extend(packages)
        monkeypatch.setattr(
            script,
            "SYSTEM",
            {
                "font": [system["font"]],
                "table": [sources / "emoji-test.txt"],
                "names": [names],
            },
        )

    monkeypatch.setattr(script, "can_install", lambda: True)
    monkeypatch.setattr(script, "install", install)
    assert script.main(["--mirror", "http://127.0.0.1:1"]) == 0
    assert installed == ["fonts-noto-color-emoji", "unicode-data", "unicode-cldr-core"]


def test_pillow_without_raqm_names_the_package(script, sources, monkeypatch, capsys):
    monkeypatch.setattr(script, "has_raqm", lambda: False)
    monkeypatch.setattr(script.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert script.main(["--from", str(sources)]) == 1
    assert "sudo apt-get install libfribidi0" in one_line(capsys)


# ---- sources that will not do --------------------------------------------------------------------------------------


def spoilt(sources: Path, tmp_path: Path, name: str, content: bytes | None) -> Path:
    """A copy of the sources in which one file is another, or missing."""
    folder = tmp_path / "spoilt"
    folder.mkdir()
    for path in sources.iterdir():
        if path.name != name:
            (folder / path.name).symlink_to(path)
        elif content is not None:
            (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("NotoColorEmoji.ttf", None, "lacks NotoColorEmoji.ttf"),
        ("NotoColorEmoji.ttf", b"no font", "lacks NotoColorEmoji.ttf"),
        ("emoji-test.txt", b"# nothing", "not an emoji-test.txt"),
        ("emoji-test.txt", b"1F600 ; fully-qualified # x E1.0 grinning face", "has 1 emoji up to version 15.0, 61"),
        (CLDR, None, "lacks CLDR's annotations"),
        (CLDR, b"PK no zip", f"{CLDR} is neither a zip nor a tar archive"),
    ],
)
def test_a_source_that_will_not_do_is_named(script, sources, home, tmp_path, capsys, name, content, message):
    assert script.main(["--from", str(spoilt(sources, tmp_path, name, content))]) == 1
    assert message in one_line(capsys)
    assert tree(home) == {}


def test_names_of_another_subject_are_refused(script, sources, tmp_path, capsys):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for kind in ("annotations", "annotationsDerived"):
            archive.writestr(f"common/{kind}/en.xml", '<ldml><annotation cp="x" type="tts">x</annotation></ldml>')
    assert script.main(["--from", str(spoilt(sources, tmp_path, CLDR, content.getvalue()))]) == 1
    assert "annotations lack 61 of 61 emoji" in one_line(capsys)


def test_a_font_without_a_sequence_is_refused(script, sources):
    entries = read_table(
        "# group: g\n# subgroup: s\n"
        "1F436 200D 1F600 ; fully-qualified # x E15.0 dog with a face\n"
        "1F600 ; fully-qualified # x E1.0 grinning face\n"
        "10FFFD ; fully-qualified # x E15.0 blank"
    )
    with pytest.raises(DataError, match="the font lacks 2 of 3 emoji, the first is 'dog with a face'"):
        script.draw(entries, sources / "NotoColorEmoji.ttf")
    assert script.draw(entries[1:2], sources / "NotoColorEmoji.ttf").shape == (1, 128, 136, 3)


@pytest.mark.parametrize("bad", ["../../evil.txt", "/tmp/commonspace-evil.txt"])
def test_a_hostile_archive_is_refused(script, sources, home, tmp_path, capsys, bad):
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sources.iterdir():
            file.write(path, path.name)
        file.writestr(bad, "evil")
    assert script.main(["--from", str(archive)]) == 1
    assert "would land outside" in one_line(capsys)
    assert tree(home) == {}
    assert not list(tmp_path.rglob("*evil*"))


def test_a_source_that_does_not_exist_is_named(script, capsys, tmp_path):
    assert script.main(["--from", str(tmp_path / "nowhere")]) == 1
    assert "there is no such folder or archive" in one_line(capsys)


# ---- full disk, two at once ----------------------------------------------------------------------------------------


def small_run(*arguments: str) -> list[str]:
    """The real script in a process of its own, for the small table."""
    code = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('get_emoji', sys.argv[1]);"
        f"m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m); m.N_EMOJI = {N_SMALL};"
        "sys.exit(m.main(sys.argv[2:]))"
    )
    return [sys.executable, "-c", code, str(SCRIPT), *arguments]


def test_a_full_disk_leaves_the_good_copy(script, sources, home):
    """A limit on the size of files stands for the full disk: the drawings' file cannot be written to its end."""
    assert script.main(["--from", str(sources)]) == 0
    (home / "emoji/emoji-test.txt").write_text("altered, so that it is made anew")
    before = tree(home)
    done = subprocess.run(
        small_run("--from", str(sources)),
        env={**os.environ, "COMMONSPACE_CACHE": str(home)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),  # bytes
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "get_emoji: File too large; nothing was left half-written\n"
    assert tree(home) == before


def test_no_space_left_says_how_much_is_needed(script, sources, home, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", full)
        assert script.main(["--from", str(sources)]) == 1
        assert "No space left on device; nothing was left half-written; free 300 MB" in one_line(capsys)
    assert tree(home) == {}
    monkeypatch.setattr(script, "NEEDED_MB", 10**12)
    assert script.main(["--from", str(sources)]) == 1
    assert "MB free, 1000000000000 are needed" in one_line(capsys)


def test_two_processes_at_once(sources, home):
    env = {**os.environ, "COMMONSPACE_CACHE": str(home)}
    runs = [subprocess.Popen(small_run("--from", str(sources)), env=env, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(60) for run in runs] == [0, 0]
    assert problems(home / "emoji") == []
    assert [path.name for path in home.iterdir()] == ["emoji"]
