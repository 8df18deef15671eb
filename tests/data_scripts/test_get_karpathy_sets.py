"""The scripts for Flickr30k and COCO, on small sets in their owners' layouts."""

import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from commonspace.data.download import problems
from commonspace.data.karpathy import Coco, Flickr30k

DOWNLOADS = {
    "flickr30k": ["caption_datasets.zip", "flickr30k-images.tar.gz"],
    "coco": ["caption_datasets.zip", "train2014.zip", "val2014.zip"],
}
LOADERS = {"flickr30k": Flickr30k, "coco": Coco}


@dataclass
class Small:
    """One small set: its script, a folder in the owners' layout, the same as they publish it, and where it prepares."""

    name: str
    script: ModuleType
    folder: Path
    published: Path
    home: Path

    @property
    def archive(self) -> Path:
        """An archive with photos."""
        return self.published / DOWNLOADS[self.name][1]


@pytest.fixture(params=list(DOWNLOADS))
def small(request, small_sets, load_script, tmp_path, monkeypatch) -> Small:
    name = request.param
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COMMONSPACE_DATA", raising=False)
    script = load_script(name)
    monkeypatch.setattr(script, "NEEDED_MB", 1)
    folder, published = tmp_path / "given", tmp_path / "published"
    small_sets.write_karpathy(folder, name)
    published.mkdir()
    with zipfile.ZipFile(published / "caption_datasets.zip", "w") as archive:
        archive.write(folder / f"dataset_{name}.json", f"caption_datasets/dataset_{name}.json")
        archive.writestr("caption_datasets/dataset_flickr8k.json", "{}")
    for top in [path for path in folder.iterdir() if path.is_dir()]:
        if name == "flickr30k":
            with tarfile.open(published / f"{top.name}.tar.gz", "w:gz") as archive:
                archive.add(top, top.name)
        else:
            small_sets.zip_up(top, published / f"{top.name}.zip", f"{top.name}/")
            with zipfile.ZipFile(published / f"{top.name}.zip", "a") as archive:
                archive.writestr(f"{top.name}/COCO_{top.name}_000000000000.jpg", b"not in Karpathy's parts")
    return Small(name, script, folder, published, tmp_path / "cache")


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def one_line(small: Small, capsys) -> str:
    """The error output, which is one line."""
    err = capsys.readouterr().err
    assert err.startswith(small.script.__name__ + ": ")
    assert err.count("\n") == 1
    return err


def test_it_prepares_and_a_second_run_does_nothing(small, capsys):
    photos = {path.name: path.read_bytes() for path in small.folder.rglob("*.jpg")}
    assert small.script.main(["--from", str(small.published)]) == 0
    out = capsys.readouterr().out
    assert out.index("  size ") < out.index("  source ") < out.index("  terms ") < out.index("In $COMMONSPACE_CACHE")
    parts = {"flickr30k": {"train": 8, "val": 4, "test": 3}, "coco": {"train": 5, "restval": 3, "val": 4, "test": 3}}
    rows = [f"photos of {part} here".ljust(30) + f"{n} of {n}" for part, n in parts[small.name].items()]
    captions = {"flickr30k": 75, "coco": 79}[small.name]
    for row in ("photos with captions          15", f"captions                      {captions}", *rows):
        assert f"  {row}\n" in out
    assert ("restval" in out) == (small.name == "coco")
    prepared = small.home / small.name
    assert [path.name for path in small.home.iterdir()] == [small.name]
    assert {path.name for path in prepared.iterdir()} == {f"dataset_{small.name}.json", "images.zip", "manifest.json"}
    with zipfile.ZipFile(prepared / "images.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"images/{name}": content for name, content in photos.items()
        }
    captions = f"dataset_{small.name}.json"
    assert (prepared / captions).read_bytes() == (small.folder / captions).read_bytes()
    before = {path: path.stat().st_mtime_ns for path in small.home.rglob("*")}
    assert small.script.main([]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in small.home.rglob("*")} == before
    assert len(LOADERS[small.name](small.home, size=(8, 8)).train) == 8


def test_it_prepares_the_same_from_whatever_holds_it(small, small_sets, tmp_path):
    assert small.script.main(["--from", str(small.published)]) == 0
    expected = tree(small.home / small.name)
    small_sets.zip_up(small.folder, tmp_path / "all.zip", "deep/")
    half = tmp_path / "half"  # the captions unpacked, the photos not
    shutil.copytree(small.published, half)
    (half / "caption_datasets.zip").unlink()
    shutil.copy(small.folder / f"dataset_{small.name}.json", half)
    for i, given in enumerate([small.folder, tmp_path / "all.zip", half, small.home / small.name]):
        assert small.script.main(["--from", str(given), "--root", str(tmp_path / f"root{i}")]) == 0
        assert tree(tmp_path / f"root{i}" / small.name) == expected


def test_part_of_the_photos_will_do_and_none_will_not(small, tmp_path, capsys):
    photos = sorted(small.folder.rglob("*.jpg"))
    for path in photos[2:]:
        path.unlink()
    assert small.script.main(["--from", str(small.folder)]) == 0
    with zipfile.ZipFile(small.home / small.name / "images.zip") as archive:
        assert archive.namelist() == sorted(f"images/{path.name}" for path in photos[:2])
    for path in photos[:2]:
        path.unlink()
    capsys.readouterr()
    assert small.script.main(["--from", str(small.folder), "--root", str(tmp_path / "other")]) == 1
    assert "none of the 15 photos that have captions was found" in one_line(small, capsys)
    assert not (tmp_path / "other" / small.name).exists()
    (small.folder / f"dataset_{small.name}.json").unlink()
    assert small.script.main(["--from", str(small.folder), "--root", str(tmp_path / "other")]) == 1
    assert f"lacks dataset_{small.name}.json" in one_line(small, capsys)


def test_it_downloads_and_goes_on_after_a_break(small, serve, capsys):
    mirror = serve(small.published)
    mirror.cut = (small.archive.name, 900)
    assert small.script.main(["--mirror", mirror.url]) == 1
    assert "broke off after 900 of" in one_line(small, capsys)
    assert not (small.home / small.name).exists()
    mirror.cut = ("", 0)
    mirror.asked.clear()
    assert small.script.main(["--mirror", mirror.url + "/"]) == 0
    assert mirror.asked == [f"{small.archive.name}bytes=900-", *DOWNLOADS[small.name][2:]]
    assert problems(small.home / small.name) == []
    assert list((small.home / "downloads").iterdir()) == []


def test_a_missing_file_on_the_server_is_named(small, serve, capsys):
    mirror = serve(small.published)
    mirror.gone = small.archive.name
    assert small.script.main(["--mirror", mirror.url]) == 1
    assert f"{small.archive.name}: the server answered 404" in one_line(small, capsys)
    assert not (small.home / small.name).exists()


@pytest.mark.parametrize("how", ["cut", "flipped", "photo"])
def test_a_damaged_archive_is_named_and_nothing_is_left(small, capsys, how):
    content = bytearray(small.archive.read_bytes())
    if how == "cut":
        content = content[:-1000]
    elif how == "flipped":
        content[len(content) // (2 if small.name == "coco" else len(content))] ^= 255
    else:
        name = next(path for path in small.folder.rglob("*.jpg") if path.parent.name in small.archive.name)
        small.archive.unlink()
        (small.published / name.name).write_bytes(name.read_bytes()[:-400])
    if how != "photo":
        small.archive.write_bytes(content)
    assert small.script.main(["--from", str(small.published)]) == 1
    err = one_line(small, capsys)
    assert "damaged" in err
    assert (small.archive.name if how != "photo" else name.name) in err
    assert not (small.home / small.name).exists()
    assert list(small.home.iterdir()) == []


def test_a_hostile_tar_is_refused(small_sets, load_script, tmp_path, monkeypatch, capsys):
    script = load_script("flickr30k")
    monkeypatch.setattr(script, "NEEDED_MB", 1)
    (name, *_) = [entry["filename"] for entry in small_sets.write_karpathy(tmp_path / "given", "flickr30k")]
    with tarfile.open(tmp_path / "given/flickr30k-images.tar", "w") as archive:
        archive.add(tmp_path / "given/flickr30k-images" / name, f"../{name}")
    assert script.main(["--from", str(tmp_path / "given"), "--root", str(tmp_path / "home")]) == 1
    assert "flickr30k-images.tar is refused" in capsys.readouterr().err
    assert list((tmp_path / "home").iterdir()) == []


def test_verify_names_an_altered_file_and_the_next_run_mends_it(small, capsys):
    assert small.script.main(["--from", str(small.published)]) == 0
    good = tree(small.home)
    assert small.script.main(["--verify"]) == 0
    path = small.home / small.name / "images.zip"
    path.write_bytes(path.read_bytes()[:-1])
    assert small.script.main(["--verify"]) == 1
    assert "images.zip is altered" in capsys.readouterr().out
    assert small.script.main(["--from", str(small.published)]) == 0
    assert tree(small.home) == good


def test_the_photos_on_request_are_told(load_script, tmp_path, monkeypatch, capsys):
    script = load_script("flickr30k")
    monkeypatch.setattr(script, "NEEDED_MB", 1)
    assert script.main(["--root", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "shannon.cs.illinois.edu/DenotationGraph/" in err
    assert "python data_scripts/get_flickr30k.py --from FOLDER" in err
    assert err.count("\n") == 1
