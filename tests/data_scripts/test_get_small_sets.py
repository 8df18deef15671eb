"""The scripts for all sets but emoji, on small sets in their owners' layouts."""

import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from commonspace.data.css import CSS
from commonspace.data.download import problems
from commonspace.data.fashion_products import FashionProducts
from commonspace.data.flickr8k import Flickr8k
from commonspace.data.mit_states import MITStates
from commonspace.data.nus_wide_10k import NusWide10k
from commonspace.data.pascal_sentences import PascalFeatures, PascalSentences
from commonspace.data.wikipedia import Wikipedia

SETS = ["wikipedia", "fashion-products", "flickr8k", "pascal-sentences", "nus-wide-10k", "css", "mit-states"]
ROWS = (25, 14)  # of the small Wikipedia
SMALLER = {  # what a script expects otherwise
    "wikipedia": {"ROWS": ROWS},
    "nus-wide-10k": {"SIZES": (6, 2, 1)},
    "mit-states": {"PHOTOS": 46},
}
DOWNLOADS = {
    "wikipedia": ["wikipedia_dataset.zip"],
    "fashion-products": ["archive.zip"],
    "flickr8k": ["Flickr8k_text.zip", "Flickr8k_Dataset.zip"],
    "pascal-sentences": ["pascal-sentences.zip"],
    "nus-wide-10k": ["ImageList.zip", "NUS_WID_Tags.zip", "Groundtruth.zip", "Flickr.zip"],
    "css": ["CSS.zip"],
    "mit-states": ["release_dataset.zip"],
}
PREPARED = {
    "wikipedia": {"categories.list", "raw_features.mat", "testset_txt_img_cat.list", "trainset_txt_img_cat.list"},
    "fashion-products": {"images.zip", "styles.csv"},
    "flickr8k": {"images.zip", "Flickr8k.token.txt"} | {f"Flickr_8k.{p}Images.txt" for p in ("train", "dev", "test")},
    "pascal-sentences": {"images.zip", "sentences.tsv"},
    "nus-wide-10k": {"images.zip", "pairs.tsv"},
    "css": {"images.zip", "css_toy_dataset_novel2_small.dup.npy"},
    "mit-states": {"images.zip"},
}
CONVERTED = {"sentences.tsv", "pairs.tsv", "images.zip"}  # the other files are the owners', byte for byte
EXPECTED = {
    "wikipedia": ["train, test pairs             25, 14", "features                      another version than we"],
    "fashion-products": [
        "articles                      60",
        "without a photo               1",
        "without a title               1",
    ],
    "flickr8k": [
        "photos with captions          13",
        "captions                      65",
        "photos here                   12",
        "photos of dev here            3 of 3",
    ],
    "pascal-sentences": [
        "photos with sentences         200",
        "photos here                   200",
        "with five sentences           200",
        "classes                       20, 10 photos or more each",
        "train, validation, test       160, 20, 20",
    ],
    "nus-wide-10k": [
        "pairs                         90",
        "photos here                   90",
        "train, validation, test       60, 20, 10",
        "classes                       10, 9 pairs or more each",
        "tags a pair                   5.0",
    ],
    "css": [
        "train: pictures here          24 of 24",
        "train: different scenes       13",
        "train: modifications          24",
        "test: queries                 60",
        "test: without an answer       2",
    ],
    "mit-states": [
        "photos                        46",
        "train, test photos            26, 20",
        "train, test nouns             4, 3",
        "adjectives                    5",
        "test queries                  46",
        "right answers a query         2.7",
    ],
}


@dataclass
class Small:
    """One small set: its script, a folder in the owners' layout, the same as they publish it, and where it prepares."""

    name: str
    script: object
    folder: Path
    published: Path
    home: Path

    @property
    def archive(self) -> Path:
        """The published archive that breaks first."""
        return self.published / DOWNLOADS[self.name][-1]

    @property
    def given(self) -> Path:
        """What one would pass with --from after fetching by hand."""
        return self.published if len(DOWNLOADS[self.name]) > 1 else self.archive

    def load(self):
        loaders = {
            "wikipedia": Wikipedia,
            "fashion-products": FashionProducts,
            "flickr8k": Flickr8k,
            "pascal-sentences": PascalSentences,
            "nus-wide-10k": NusWide10k,
            "css": CSS,
            "mit-states": MITStates,
        }
        return loaders[self.name](self.home)


@pytest.fixture(params=SETS)
def small(request, small_sets, load_script, tmp_path, monkeypatch) -> Small:
    name = request.param
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COMMONSPACE_DATA", raising=False)
    script = load_script(name.replace("-", "_"))
    folder, published = tmp_path / "given", tmp_path / "published"
    published.mkdir()
    archives = [published / archive for archive in DOWNLOADS[name]]
    for constant, value in SMALLER.get(name, {}).items():
        monkeypatch.setattr(script, constant, value)
    if name == "wikipedia":
        small_sets.write_wikipedia(folder, rows=ROWS)
        (folder / "images").mkdir()
        (folder / "images/a.jpg").write_bytes(small_sets.jpeg(0))
        small_sets.zip_up(folder, archives[0], "wikipedia_dataset/")
    elif name == "fashion-products":
        small_sets.write_fashion(folder)
        small_sets.zip_up(folder, archives[0], "deep/")
    elif name == "pascal-sentences":
        small_sets.write_pascal(folder)
        small_sets.zip_up(folder, archives[0])
    elif name == "nus-wide-10k":
        small_sets.write_nus_wide(folder)
        for archive, below in zip(archives, ("ImageList", "NUS_WID_Tags", "Groundtruth", "Flickr"), strict=True):
            small_sets.zip_up(folder / below, archive, f"{below}/")
    elif name == "css":
        small_sets.write_css(folder)
        small_sets.zip_up(folder, archives[0], "CSSDataset/")
    elif name == "mit-states":
        small_sets.write_mit_states(folder)
        small_sets.zip_up(folder, archives[0], "release_dataset/")
    else:
        small_sets.write_flickr(folder)
        photos = folder / "Flicker8k_Dataset"
        small_sets.zip_up(photos, archives[1], "Flicker8k_Dataset/")
        with zipfile.ZipFile(archives[1], "a") as archive:  # as in the published one
            archive.writestr(f"__MACOSX/Flicker8k_Dataset/._{next(photos.iterdir()).name}", b"no picture")
        with zipfile.ZipFile(archives[0], "w") as archive:
            for path in folder.glob("*.txt"):
                archive.write(path, path.name)
    return Small(name, script, folder, published, tmp_path / "cache")


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def one_line(small: Small, capsys) -> str:
    """The error output, which is one line."""
    err = capsys.readouterr().err
    assert err.startswith(small.script.__name__ + ": ")
    assert err.count("\n") == 1
    return err


# ---- what they make ------------------------------------------------------------------------------------------------


def test_it_prepares_and_a_second_run_does_nothing(small, capsys):
    assert small.script.main(["--from", str(small.given)]) == 0
    out = capsys.readouterr().out
    assert out.index("  size ") < out.index("  source ") < out.index("  terms ") < out.index("In $COMMONSPACE_CACHE")
    for row in EXPECTED[small.name]:
        assert f"  {row}" in out
    assert [path.name for path in small.home.iterdir()] == [small.name]
    assert {path.name for path in (small.home / small.name).iterdir()} == PREPARED[small.name] | {"manifest.json"}
    before = {path: path.stat().st_mtime_ns for path in small.home.rglob("*")}
    assert small.script.main([]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in small.home.rglob("*")} == before
    small.load()


def test_the_files_are_the_owners(small):
    assert small.script.main(["--from", str(small.given)]) == 0
    for name in PREPARED[small.name] - CONVERTED:
        assert (small.home / small.name / name).read_bytes() == (small.folder / name).read_bytes()
    if small.name != "wikipedia":
        photos = {photo_name(small, path): path.read_bytes() for path in small.folder.rglob("*.[jp][pn]g")}
        if small.name == "nus-wide-10k":  # the chosen ones alone
            tsv = (small.home / small.name / "pairs.tsv").read_text(encoding="utf-8")
            photos = {name: content for name, content in photos.items() if f"/{name}\t" in tsv}
            assert len(photos) == 90
        if small.name == "mit-states":  # those in a known state, in their folders
            rubbish = [name for name in photos if re.match(r"adj |single/|.*/\._", name)]
            assert len(rubbish) == 4
            photos = {name: content for name, content in photos.items() if name not in rubbish}
        with zipfile.ZipFile(small.home / small.name / "images.zip") as archive:
            packed = {name.removeprefix("images/"): archive.read(name) for name in archive.namelist()}
        assert packed == photos


def photo_name(small: Small, path: Path) -> str:
    joined = {"pascal-sentences": "_", "mit-states": "/"}.get(small.name)
    return path.name if joined is None else f"{path.parent.name}{joined}{path.name}"


def test_it_prepares_from_a_folder(small):
    assert small.script.main(["--from", str(small.folder)]) == 0
    from_folder = tree(small.home / small.name)
    shutil.rmtree(small.home / small.name)
    assert small.script.main(["--from", str(small.given)]) == 0
    assert tree(small.home / small.name) == from_folder


def test_what_was_prepared_serves_again(small, tmp_path):
    assert small.script.main(["--from", str(small.given)]) == 0
    assert small.script.main(["--from", str(small.home / small.name), "--root", str(tmp_path / "mine")]) == 0
    assert tree(tmp_path / "mine" / small.name) == tree(small.home / small.name)


def test_verify_names_an_altered_file_and_the_next_run_mends_it(small, capsys):
    assert small.script.main(["--verify"]) == 1
    assert "nothing is prepared" in capsys.readouterr().out
    assert small.script.main(["--from", str(small.given)]) == 0
    good = tree(small.home)
    assert small.script.main(["--verify"]) == 0
    for name in PREPARED[small.name]:
        path = small.home / small.name / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        capsys.readouterr()
        assert small.script.main(["--verify"]) == 1
        assert f"{name} is altered" in capsys.readouterr().out
        assert small.script.main(["--from", str(small.given)]) == 0
        assert tree(small.home) == good


# ---- downloads -----------------------------------------------------------------------------------------------------


def test_it_downloads(small, serve):
    mirror = serve(small.published)
    assert small.script.main(["--mirror", mirror.url + "/"]) == 0
    assert mirror.asked == DOWNLOADS[small.name]
    assert sorted(path.name for path in small.home.iterdir()) == sorted(["downloads", small.name])
    assert list((small.home / "downloads").iterdir()) == []


def test_a_broken_download_continues_in_the_next_run(small, serve, capsys):
    mirror = serve(small.published)
    mirror.cut = (small.archive.name, 900)
    assert small.script.main(["--mirror", mirror.url]) == 1
    assert "broke off after 900 of" in one_line(small, capsys)
    assert not (small.home / small.name).exists()
    mirror.cut = ("", 0)
    mirror.asked.clear()
    assert small.script.main(["--mirror", mirror.url]) == 0
    assert mirror.asked == [f"{small.archive.name}bytes=900-"]  # and what was whole is not fetched again


def test_a_missing_file_on_the_server_is_named(small, serve, capsys):
    mirror = serve(small.published)
    mirror.gone = small.archive.name
    assert small.script.main(["--mirror", mirror.url]) == 1
    assert f"{small.archive.name}: the server answered 404" in one_line(small, capsys)
    assert not (small.home / small.name).exists()


def test_a_truncated_download_is_not_kept(small, serve, capsys, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(small.published, broken)
    (broken / small.archive.name).write_bytes(small.archive.read_bytes()[:-1000])
    assert small.script.main(["--mirror", serve(broken).url]) == 1
    err = one_line(small, capsys)
    assert small.archive.name in err
    assert "damaged" in err
    assert not (small.home / small.name).exists()
    assert small.script.main(["--mirror", serve(small.published).url]) == 0


@pytest.mark.parametrize(
    ("name", "address", "given"),
    [
        ("fashion_products", "kaggle.com/datasets/paramaggarwal/fashion-product-images-small", "archive.zip"),
        ("pascal_sentences", "vision.cs.uiuc.edu/pascal-sentences/", "FOLDER"),
        ("nus_wide_10k", "lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html", "FOLDER"),
    ],
)
def test_a_step_by_hand_is_told(load_script, tmp_path, capsys, name, address, given):
    script = load_script(name)
    assert script.main(["--root", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert address in err
    assert f"python data_scripts/get_{name}.py --from {given}" in err
    assert err.count("\n") == 1


def test_pascal_sentences_are_the_same_from_page_and_from_files(small_sets, load_script, tmp_path):
    script, made = load_script("pascal_sentences"), []
    for layout in ("page", "files"):
        sentences = small_sets.write_pascal(tmp_path / layout, 3, layout=layout)
        assert script.main(["--from", str(tmp_path / layout), "--root", str(tmp_path / f"root {layout}")]) == 0
        folder = tmp_path / f"root {layout}/pascal-sentences"
        made.append(tree(folder))
        lines = [f"{key}\t{line}" for key, own in sentences.items() for line in own]
        assert (folder / "sentences.tsv").read_text().splitlines() == lines
    assert made[0] == made[1]


def test_a_copy_whose_text_files_lack_the_dot_is_read(small_sets, load_script, tmp_path):
    small_sets.write_pascal(tmp_path / "given", layout="files")
    for path in (tmp_path / "given/sentence").rglob("*.txt"):
        path.rename(path.with_name(path.name.replace(".txt", "txt")))
    assert load_script("pascal_sentences").main(["--from", str(tmp_path / "given"), "--root", str(tmp_path)]) == 0
    assert len(PascalSentences(tmp_path).test) == 20


def test_pascal_features_are_taken_alone_and_beside_the_photos(small_sets, load_script, tmp_path, capsys):
    script = load_script("pascal_sentences")
    small_sets.write_pascal_features(tmp_path / "given/features")
    names = {path.name for path in (tmp_path / "given/features").iterdir()}
    for root, more in (("alone", set()), ("both", {"images.zip", "sentences.tsv"})):
        assert script.main(["--from", str(tmp_path / "given"), "--root", str(tmp_path / root)]) == 0
        out = capsys.readouterr().out
        assert "  features: train, test         40, 20" in out
        assert "  image, text dimensions        12, 5" in out
        folder = tmp_path / root / "pascal-sentences"
        assert {path.name for path in folder.iterdir()} == names | more | {"manifest.json"}
        for name in names:
            assert (folder / name).read_bytes() == (tmp_path / "given/features" / name).read_bytes()
        assert len(PascalFeatures(tmp_path / root).train) == 40
        if not more:
            small_sets.write_pascal(tmp_path / "given")


def test_nus_wide_is_the_same_whatever_is_unpacked(small_sets, load_script, tmp_path):
    """And the choice is that of the rule."""
    script, given = load_script("nus_wide_10k"), tmp_path / "given"
    script.SIZES = SMALLER["nus-wide-10k"]["SIZES"]
    parts = small_sets.write_nus_wide(given, 5)
    assert script.main(["--from", str(given), "--root", str(tmp_path / "a")]) == 0
    small_sets.zip_up(given / "Groundtruth", given / "Groundtruth.zip", "Groundtruth/")
    shutil.rmtree(given / "Groundtruth")
    assert script.main(["--from", str(given), "--root", str(tmp_path / "b")]) == 0
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    lines = (tmp_path / "a/nus-wide-10k/pairs.tsv").read_text(encoding="utf-8").split("\n")[:-1]
    for part, own in parts.items():
        assert [line for line in lines if line.startswith(part)] == [f"{part}\t{c}\t{p}\t{t}" for p, t, c in own]


@pytest.mark.parametrize("name", SETS)
def test_help_tells_the_sources(load_script, name, capsys):
    with pytest.raises(SystemExit, match="0"):
        load_script(name.replace("-", "_")).main(["--help"])
    out = capsys.readouterr().out
    for word in ("by hand", "--from", "--verify", "--mirror"):
        assert word in out
    assert f"$COMMONSPACE_CACHE/{name}" in "".join(out.split())  # a long line is broken, after a hyphen too


# ---- sources that will not do --------------------------------------------------------------------------------------


def altered(small: Small, tmp_path: Path, change) -> Path:
    """A copy of the owners' folder after ``change(copy)``."""
    copy = tmp_path / "altered"
    shutil.copytree(small.folder, copy)
    change(copy)
    return copy


def photo(folder: Path) -> Path:
    return sorted(folder.rglob("*.jpg"))[3]


def cut_line(path: Path) -> None:
    path.write_text(path.read_text().split("\n", 1)[1])


def drop_sentences(folder: Path) -> None:
    page = next(folder.rglob("index.html"))
    page.write_text(re.sub(r"<td><table>.*?</table></td>", "", page.read_text(), count=1, flags=re.DOTALL))


def scenes(folder: Path) -> Path:
    return folder / "css_toy_dataset_novel2_small.dup.npy"


def hostile(path: Path) -> bytes:
    """The same with a call in it, of which the first text of the file is the argument."""
    return path.read_bytes().replace(b"U\x04mods", b"cposix\nsystem\n(U\x04exittR", 1)


def large_photo(folder: Path) -> Path:
    return max(folder.rglob("*.jpg"), key=lambda path: path.stat().st_size)


CHANGES = [
    ("wikipedia", lambda f: (f / "raw_features.mat").unlink(), "lacks raw_features.mat"),
    ("wikipedia", lambda f: (f / "raw_features.mat").write_bytes(b"x"), "raw_features.mat is damaged"),
    ("wikipedia", lambda f: cut_line(f / "trainset_txt_img_cat.list"), "has 24 lines, raw_features.mat has 25 rows"),
    ("fashion-products", lambda f: (f / "styles.csv").unlink(), "lacks styles.csv"),
    ("fashion-products", lambda f: cut_line(f / "styles.csv"), "the first line must be id,gender"),
    ("fashion-products", lambda f: shutil.rmtree(f / "images"), "0 of 60 articles have a photo"),
    ("fashion-products", lambda f: [photo(f).unlink() for _ in range(3)], "56 of 60 articles have a photo"),
    (
        "fashion-products",
        lambda f: photo(f).write_bytes(photo(f).read_bytes()[:500]),
        "jpg is damaged (",
    ),
    ("flickr8k", lambda f: (f / "Flickr_8k.devImages.txt").unlink(), "lacks Flickr_8k.devImages.txt"),
    ("flickr8k", lambda f: cut_line(f / "Flickr8k.token.txt"), "has 4 captions, 5 were expected"),
    ("flickr8k", lambda f: shutil.rmtree(f / "Flicker8k_Dataset"), "none of the 13 photos that have captions"),
    ("flickr8k", lambda f: photo(f).write_bytes(b"no picture"), "is damaged (cannot identify image file"),
    ("pascal-sentences", lambda f: next(f.rglob("index.html")).unlink(), "neither index.html, nor sentence files"),
    (
        "pascal-sentences",
        lambda f: [photo(f).unlink() for _ in range(11)],
        "11 of 200 photos are missing, such as aero",
    ),
    ("pascal-sentences", lambda f: photo(f).write_bytes(b"no picture"), "is damaged (cannot identify image file"),
    ("pascal-sentences", lambda f: drop_sentences(f), "1 photos have no sentence, the first is aeroplane/2008_"),
    ("nus-wide-10k", lambda f: (f / "NUS_WID_Tags/All_Tags.txt").unlink(), "lacks All_Tags.txt"),
    ("nus-wide-10k", lambda f: cut_line(f / "NUS_WID_Tags/All_Tags.txt"), "All_Tags.txt has 279 lines"),
    ("nus-wide-10k", lambda f: shutil.rmtree(f / "Flickr"), "0 of the 90 photos were found"),
    ("nus-wide-10k", lambda f: large_photo(f).write_bytes(b"no picture"), "is damaged (cannot identify image file"),
    ("css", lambda f: scenes(f).unlink(), "lacks css_toy_dataset_novel2_small.dup.npy"),
    ("css", lambda f: scenes(f).write_bytes(scenes(f).read_bytes()[:-9]), "dup.npy cannot be read"),
    ("css", lambda f: scenes(f).write_bytes(hostile(scenes(f))), "asks for posix.system, and was refused"),
    ("css", lambda f: shutil.rmtree(f / "images"), "48 of 48 pictures are missing, such as css_train_000000.png"),
    ("css", lambda f: [p.unlink() for p in f.rglob("*_00000[567].png")], "6 of 48 pictures are missing, such as"),
    ("css", lambda f: (f / "images/css_test_000009.png").write_bytes(b"x"), "css_test_000009.png is damaged ("),
    (
        "mit-states",
        lambda f: shutil.rmtree(f / "images"),
        "0 photos in folders of an adjective and a noun were found, 46 exp",
    ),
    ("mit-states", lambda f: photo(f).write_bytes(b"no picture"), "is damaged (cannot identify image file"),
]


@pytest.mark.parametrize(("small", "change", "message"), CHANGES, indirect=["small"])
def test_a_source_that_will_not_do_is_named(small, change, message, tmp_path, capsys):
    assert small.script.main(["--from", str(altered(small, tmp_path, change))]) == 1
    assert message in one_line(small, capsys)
    assert tree(small.home) == {}


def test_wikipedia_of_another_size_is_refused(small_sets, load_script, tmp_path, capsys):
    small_sets.write_wikipedia(tmp_path / "given")
    script = load_script("wikipedia")
    assert script.main(["--from", str(tmp_path / "given"), "--root", str(tmp_path / "root")]) == 1
    assert "25 train and 14 test pairs came, 2,173 and 693 were expected" in capsys.readouterr().err
    assert tree(tmp_path / "root") == {}


@pytest.mark.parametrize("bad", ["../../evil.txt", "/tmp/commonspace-evil.txt", "link"])
def test_a_hostile_archive_is_refused(small, tmp_path, capsys, bad):
    with zipfile.ZipFile(small.archive, "a") as file:
        if bad == "link":
            info = zipfile.ZipInfo("link")
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(info, "/etc")
        else:
            file.writestr(bad, "evil")
    assert small.script.main(["--from", str(small.given)]) == 1
    err = one_line(small, capsys)
    assert "is refused" in err
    assert tree(small.home) == {}
    assert not list(tmp_path.rglob("*evil*"))


def test_a_byte_altered_in_an_archive_is_found(small, capsys):
    content = bytearray(small.archive.read_bytes())
    with zipfile.ZipFile(small.archive) as archive:
        largest = max(
            (i for i in archive.infolist() if "images/a.jpg" not in i.filename), key=lambda i: i.compress_size
        )
    content[largest.header_offset + 30 + len(largest.filename) + largest.compress_size // 2] ^= 1
    small.archive.write_bytes(content)
    assert small.script.main(["--from", str(small.given)]) == 1
    assert f"{small.archive.name} is damaged" in one_line(small, capsys)
    assert tree(small.home) == {}


def test_a_source_that_does_not_exist_is_named(small, capsys, tmp_path):
    assert small.script.main(["--from", str(tmp_path / "nowhere")]) == 1
    assert "there is no such folder or archive" in one_line(small, capsys)


# ---- full disk -----------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_good_copy(small):
    """A limit on the size of files stands for the full disk."""
    assert small.script.main(["--from", str(small.given)]) == 0
    damaged = small.home / small.name / min(PREPARED[small.name])
    damaged.write_bytes(b"altered, so that it is made anew")
    before = tree(small.home)
    code = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location(sys.argv[1], sys.argv[2]);"
        "m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m);"
        f"vars(m).update({SMALLER.get(small.name, {})});"
        "sys.exit(m.main(sys.argv[3:]))"
    )
    name = small.script.__name__
    done = subprocess.run(
        [sys.executable, "-c", code, name, small.script.__file__, "--from", str(small.folder)],
        env={**os.environ, "COMMONSPACE_CACHE": str(small.home)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000)),  # bytes
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == f"{name}: File too large; nothing was left half-written\n"
    assert tree(small.home) == before


def test_after_a_full_disk_the_download_waits(small, serve, capsys, monkeypatch):
    mirror = serve(small.published)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(small.script, "write_manifest", full)
        assert small.script.main(["--mirror", mirror.url]) == 1
        assert f"nothing was left half-written; free {small.script.NEEDED_MB} MB" in one_line(small, capsys)
    assert not (small.home / small.name).exists()
    mirror.asked.clear()
    assert small.script.main(["--mirror", mirror.url]) == 0
    assert mirror.asked == []
    monkeypatch.setattr(small.script, "NEEDED_MB", 10**12)
    shutil.rmtree(small.home / small.name)
    assert small.script.main(["--mirror", mirror.url]) == 1
    assert "MB free, 1000000000000 are needed" in one_line(small, capsys)


# ---- the real files ------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "file", "rows"),
    [
        (
            "wikipedia",
            "raw_features.mat",
            ["train, test of warfare        347, 104", "features                      the known file"],
        ),
        (
            "flickr8k",
            "Flickr8k.token.txt",
            ["captions                      40,460", "photos with captions          8,092"],
        ),
    ],
)
def test_the_real_files_are_prepared(load_script, tmp_path, name, file, rows, capsys):
    folders = [Path(p) / name for p in os.environ.get("COMMONSPACE_DATA", "").split(os.pathsep) if p]
    given = next((folder for folder in folders if (folder / file).is_file()), None)
    if given is None:
        pytest.skip(f"{name} is not in $COMMONSPACE_DATA")
    if sum(path.stat().st_size for path in given.iterdir()) > 100e6:
        pytest.skip(f"{name} is there in full: preparing it takes minutes")
    assert load_script(name).main(["--root", str(tmp_path), "--from", str(given)]) == 0
    out = capsys.readouterr().out
    for row in rows:
        assert f"  {row}" in out
    assert problems(tmp_path / name) == []
