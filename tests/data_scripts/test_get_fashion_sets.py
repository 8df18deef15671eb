"""The scripts for Fashion200k and FashionIQ, on small sets in their owners' layouts."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from commonspace.data.download import problems
from commonspace.data.fashion200k import Fashion200k
from commonspace.data.fashion_iq import FashionIQ

CATEGORIES = ("dress", "shirt", "toptee")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Where the scripts prepare."""
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COMMONSPACE_DATA", raising=False)
    return tmp_path / "cache"


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def last_line(script, capsys) -> str:
    """The error output, which is one line of the script's."""
    err = capsys.readouterr().err
    assert err.startswith(script.__name__ + ": ")
    assert err.count("\n") == 1
    return err


def tar_up(folder: Path, archive: Path, top: str) -> None:
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, top)


# ---- Fashion200k ----------------------------------------------------------------------------------------------------


@pytest.fixture
def fashion200k(load_script, home, monkeypatch, serve, tmp_path):
    """The script; its list of test queries is on a server that has none."""
    script = load_script("fashion200k")
    (tmp_path / "empty").mkdir()
    server = serve(tmp_path / "empty")
    server.gone = "test_queries.txt"
    monkeypatch.setattr(script, "LIST", f"{server.url}/test_queries.txt")
    return script


def publish(small_sets, folder: Path, published: Path) -> Path:
    """The archives one is given, and the list of queries."""
    published.mkdir()
    tar_up(folder / "women", published / "women.tar.gz", "women")
    small_sets.zip_up(folder / "labels", published / "labels.zip", "labels/")
    shutil.copy(folder / "test_queries.txt", published)
    return published


def test_fashion200k_is_prepared_whatever_is_unpacked(small_sets, fashion200k, home, tmp_path, capsys):
    wrote = small_sets.write_fashion200k(tmp_path / "given")
    (tmp_path / "given/labels/._top_test_detect_all.txt").write_text("macOS")
    photos = {
        f"images/{place}": (tmp_path / "given" / place).read_bytes() for p in ("train", "test") for place in wrote[p]
    }
    assert fashion200k.main(["--from", str(tmp_path / "given")]) == 0
    out = capsys.readouterr().out
    assert out.index("  size ") < out.index("  source ") < out.index("  terms ") < out.index("In $COMMONSPACE_CACHE")
    for row in (
        "train pictures here           18 of 18",
        "test pictures here            14 of 14",
        "train captions                14",
        "test queries                  12",
    ):
        assert f"  {row}\n" in out
    made = tree(home / "fashion200k")
    assert {name for name in made if "/" not in name} == {"images.zip", "manifest.json", "test_queries.txt"}
    assert {name for name in made if "/" in name} == {
        f"labels/{noun}_{part}_detect_all.txt" for noun in ("dress", "top") for part in ("train", "test")
    }
    with zipfile.ZipFile(home / "fashion200k/images.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == photos
    for name in ("test_queries.txt", "labels/dress_train_detect_all.txt"):
        assert made[name] == (tmp_path / "given" / name).read_bytes()
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    assert fashion200k.main([]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before
    assert len(Fashion200k(home, size=(8, 8)).test) == 11

    published = publish(small_sets, tmp_path / "given", tmp_path / "published")
    small_sets.zip_up(published, tmp_path / "all.zip")
    for i, given in enumerate([published, tmp_path / "all.zip", home / "fashion200k"]):
        assert fashion200k.main(["--from", str(given), "--root", str(tmp_path / f"root{i}")]) == 0
        assert tree(tmp_path / f"root{i}/fashion200k") == made


def test_fashion200k_from_a_mirror(small_sets, fashion200k, home, serve, tmp_path, capsys):
    small_sets.write_fashion200k(tmp_path / "given")
    mirror = serve(publish(small_sets, tmp_path / "given", tmp_path / "published"))
    mirror.cut = ("women.tar.gz", 900)
    assert fashion200k.main(["--mirror", mirror.url]) == 1
    assert "broke off after 900 of" in last_line(fashion200k, capsys)
    mirror.cut = ("", 0)
    assert fashion200k.main(["--mirror", mirror.url]) == 0
    assert mirror.asked[-1] == "women.tar.gzbytes=900-"
    assert list((home / "downloads").iterdir()) == []
    assert problems(home / "fashion200k") == []


def test_fashion200k_fetches_the_test_queries(small_sets, fashion200k, serve, tmp_path, monkeypatch, capsys, home):
    small_sets.write_fashion200k(tmp_path / "given")
    (tmp_path / "server").mkdir()
    (tmp_path / "given/test_queries.txt").rename(tmp_path / "server/test_queries.txt")
    assert fashion200k.main(["--from", str(tmp_path / "given")]) == 1
    assert "lacks test_queries.txt" in last_line(fashion200k, capsys)
    assert tree(home) == {}
    monkeypatch.setattr(fashion200k, "LIST", f"{serve(tmp_path / 'server').url}/test_queries.txt")
    assert fashion200k.main(["--from", str(tmp_path / "given")]) == 0
    assert "test queries                  12" in capsys.readouterr().out


def test_fashion200k_tells_the_step_by_hand(fashion200k, capsys):
    assert fashion200k.main([]) == 1
    err = last_line(fashion200k, capsys)
    assert "github.com/xthan/fashion-200k" in err
    assert "python data_scripts/get_fashion200k.py --from FOLDER" in err


def rewrite(path: Path, change) -> None:
    path.write_text(change(path.read_text()))


FASHION200K = [
    (lambda f: shutil.rmtree(f / "women"), "0 of the 32 pictures were found"),
    (lambda f: [p.unlink() for p in sorted(f.rglob("*.jpeg"))[:2]], "30 of the 32 pictures were found, nearly all"),
    (lambda f: min(f.rglob("*.jpeg")).write_bytes(b"no picture"), "is damaged (cannot identify image file"),
    (lambda f: [p.unlink() for p in f.rglob("*_test_*.txt")], "labels has no file with 'test' in its name"),
    (lambda f: rewrite(f / "labels/top_train_detect_all.txt", lambda t: t.replace("\t", " ")), "line 1 must be women/"),
    (lambda f: rewrite(f / "test_queries.txt", lambda t: t[:-20]), "line 12 must be two places of test pictures"),
]


@pytest.mark.parametrize(("change", "message"), FASHION200K)
def test_a_fashion200k_that_will_not_do_is_named(small_sets, fashion200k, home, tmp_path, capsys, change, message):
    small_sets.write_fashion200k(tmp_path / "given")
    change(tmp_path / "given")
    assert fashion200k.main(["--from", str(tmp_path / "given")]) == 1
    assert message in last_line(fashion200k, capsys)
    assert tree(home) == {}


def test_a_hostile_archive_is_refused(small_sets, fashion200k, home, tmp_path, capsys):
    small_sets.write_fashion200k(tmp_path / "given")
    published = publish(small_sets, tmp_path / "given", tmp_path / "published")
    with tarfile.open(published / "women.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("../../evil.jpeg")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    assert fashion200k.main(["--from", str(published)]) == 1
    assert "is refused" in last_line(fashion200k, capsys)
    assert not list(tmp_path.rglob("*evil*"))
    assert fashion200k.main(["--from", str(tmp_path / "nowhere")]) == 1
    assert "there is no such folder or archive" in last_line(fashion200k, capsys)


# ---- FashionIQ ------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(small_sets, load_script, home, serve, tmp_path):
    """The script, what was written, and a server that has the owners' files and the pictures."""
    script = load_script("fashion_iq")
    given = tmp_path / "given"
    wrote = small_sets.write_fashion_iq(given)
    published = tmp_path / "published"
    shutil.copytree(given / "images", published)
    for path in given.rglob("*.json"):
        shutil.copy(path, published)
    server = serve(published)
    for category in CATEGORIES:
        names = {name for (of, _), own in wrote["lists"].items() if of == category for name in own}
        lines = [f"{name} \t{server.url}/{next(published.glob(name + '.*')).name}\n" for name in sorted(names)]
        (published / f"asin2url.{category}.txt").write_text("".join(lines) + "B00NOTLISTED\thttp://127.0.0.1:1/a.jpg\n")
    return script, wrote, server, published


def test_fashion_iq_is_fetched(shop, home, tmp_path, capsys):
    script, _, server, published = shop
    assert script.main(["--mirror", server.url]) == 0
    out = capsys.readouterr().out
    for row in (
        "train dress: pictures here    9 of 9",
        "train shirt: queries          7",
        "val toptee: pictures here     7 of 7",
        "val toptee: queries           4",
    ):
        assert f"  {row}\n" in out
    folder = home / "fashion-iq"
    with zipfile.ZipFile(folder / "images.zip") as archive:
        packed = {name.removeprefix("images/"): archive.read(name) for name in archive.namelist()}
    assert packed == {p.name: p.read_bytes() for p in published.iterdir() if p.suffix in (".jpg", ".png")}
    for path in (tmp_path / "given").rglob("*.json"):
        assert (folder / path.relative_to(tmp_path / "given")).read_bytes() == path.read_bytes()
    assert (folder / "missing.txt").read_text() == ""
    asked = len(server.asked)
    assert script.main(["--mirror", server.url]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert len(server.asked) == asked
    assert script.main(["--verify"]) == 0
    assert FashionIQ(home).missing == {"train": [], "val": []}


def test_pictures_that_are_gone_are_listed(shop, home, tmp_path, small_sets, capsys):
    """A 404, what is no picture, and what shops send instead of one; the exit code says so, on every run."""
    script, _, server, published = shop
    pictures = sorted(path for path in published.iterdir() if path.suffix == ".jpg")
    server.gone = pictures[0].name
    pictures[1].write_bytes(b"<html>gone</html>")
    pictures[2].write_bytes(small_sets.jpeg(0, (1, 1)))
    gone = {path.stem for path in pictures[:3]}
    assert script.main(["--mirror", server.url]) == 3
    err = last_line(script, capsys)
    assert "3 pictures are missing, such as B" in err
    assert "$COMMONSPACE_CACHE/fashion-iq/missing.txt" in err
    assert set((home / "fashion-iq/missing.txt").read_text().split()) == gone
    missing = FashionIQ(home).missing
    assert {*missing["train"], *missing["val"]} == gone
    for options in ([], ["--verify"]):
        capsys.readouterr()
        assert script.main(options) == 3
        assert "3 pictures are missing" in last_line(script, capsys)

    both = tmp_path / "both"  # as the message says
    shutil.copytree(home / "fashion-iq", both)
    shutil.copytree(tmp_path / "given/images", both / "found")
    shutil.rmtree(home / "fashion-iq")
    assert script.main(["--from", str(both)]) == 0
    assert (home / "fashion-iq/missing.txt").read_text() == ""


def test_fashion_iq_from_a_folder_and_from_what_was_prepared(shop, home, tmp_path, small_sets, capsys):
    script = shop[0]
    assert script.main(["--from", str(tmp_path / "given")]) == 0
    made = tree(home / "fashion-iq")
    small_sets.zip_up(tmp_path / "given", tmp_path / "all.zip", "deep/")
    for i, given in enumerate([tmp_path / "all.zip", home / "fashion-iq"]):
        assert script.main(["--from", str(given), "--root", str(tmp_path / f"root{i}")]) == 0
        assert tree(tmp_path / f"root{i}/fashion-iq") == made
    path = home / "fashion-iq/captions/cap.dress.val.json"
    path.write_text("altered")
    assert script.main(["--verify"]) == 1
    assert "captions/cap.dress.val.json is altered" in capsys.readouterr().out


def test_a_run_without_a_network_keeps_what_came(shop, home, monkeypatch, capsys):
    script, wrote, server, published = shop
    monkeypatch.setattr(script, "SILENT", 5)
    monkeypatch.setattr(script, "AT_ONCE", 1)
    addresses = {path: path.read_text() for path in published.glob("asin2url.*.txt")}
    for path, text in addresses.items():  # a port where nobody listens
        path.write_text(text if "dress" in path.name else text.replace(server.url, "http://127.0.0.1:1"))
    assert script.main(["--mirror", server.url]) == 1
    err = last_line(script, capsys)
    assert "5 pictures in a row did not come, the last: http://127.0.0.1:1/B" in err
    assert "Run again to continue" in err
    assert not (home / "fashion-iq").exists()
    for path in home.rglob("asin2url.*.txt"):  # they wait with the pictures that came
        path.write_text(addresses[published / path.name])
    server.asked.clear()
    assert script.main(["--mirror", server.url]) == 0
    asked = {Path(name).stem for name in server.asked}
    for (category, _), names in wrote["lists"].items():
        assert asked.isdisjoint(names) if category == "dress" else asked.issuperset(names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: shutil.rmtree(f / "images"), "none of the 47 pictures of the lists was found"),
        (lambda f: (f / "captions/cap.shirt.val.json").unlink(), "lacks cap.shirt.val.json"),
        (lambda f: (f / "captions/cap.shirt.val.json").write_text("[1"), "cap.shirt.val.json is damaged ("),
        (lambda f: (f / "image_splits/split.dress.train.json").write_text('["B1"]'), "is not in the list of its part"),
    ],
)
def test_a_fashion_iq_that_will_not_do_is_named(shop, home, tmp_path, capsys, change, message):
    script = shop[0]
    change(tmp_path / "given")
    assert script.main(["--from", str(tmp_path / "given")]) == 1
    assert message in last_line(script, capsys)
    assert tree(home) == {}


def test_a_damaged_list_is_fetched_anew(shop, home, capsys):
    script, _, server, published = shop
    path = published / "split.shirt.val.json"
    good = path.read_bytes()
    path.write_bytes(good[:-30])
    assert script.main(["--mirror", server.url]) == 1
    assert "split.shirt.val.json is damaged" in last_line(script, capsys)
    path.write_bytes(good)
    assert script.main(["--mirror", server.url]) == 0


@pytest.mark.parametrize("name", ["fashion200k", "fashion-iq"])
def test_help_tells_the_sources(load_script, name, capsys):
    with pytest.raises(SystemExit, match="0"):
        load_script(name.replace("-", "_")).main(["--help"])
    out = capsys.readouterr().out
    for word in ("by hand", "--from", "--verify", "--mirror", f"$COMMONSPACE_CACHE/{name}"):
        assert word in out
