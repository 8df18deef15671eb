"""Small data sets, written in exactly their owners' layouts from a seed."""

import csv
import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ["art", "biology", "geography", "history", "literature", "media", "music", "royalty", "sport", "warfare"]


def jpeg(seed: int, size: tuple[int, int] = (60, 80)) -> bytes:
    """A photo of (width, height) in one colour of its own, with a quarter in the opposite one."""
    colour = np.random.default_rng(seed).integers(0, 256, 3)
    pixels = np.empty((size[1], size[0], 3), dtype=np.uint8)
    pixels[:] = colour
    pixels[: size[1] // 2, : size[0] // 2] = 255 - colour
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=95)
    return content.getvalue()


def write_wikipedia(folder: Path, seed: int = 0, rows: tuple[int, int] = (25, 14)) -> dict:
    """The owners' four files. Returns the features and 0-based labels."""
    from scipy.io import savemat

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for part, n in zip(("tr", "te"), rows, strict=True):
        made[f"I_{part}"] = rng.dirichlet(np.ones(128), n)
        made[f"T_{part}"] = rng.dirichlet(np.ones(10), n)
        made[f"label_{part}"] = rng.integers(0, 10, n)
        name = {"tr": "trainset", "te": "testset"}[part]
        lines = [
            f"{rng.bytes(8).hex()}-{i}\t{rng.bytes(8).hex()}\t{c + 1}" for i, c in enumerate(made[f"label_{part}"])
        ]
        (folder / f"{name}_txt_img_cat.list").write_text("\n".join(lines) + "\n")
    savemat(folder / "raw_features.mat", {k: v for k, v in made.items() if k[0] in "IT"})
    (folder / "categories.list").write_text("\n".join(CLASSES) + "\n")
    return made


def write_fashion(folder: Path, seed: int = 0, n: int = 60) -> list[list[str]]:
    """styles.csv as Kaggle writes it, in no order, and images/. Returns the rows, titles whole, by rising id.

    Every third row has the title of another, spelt differently; the row 2 has commas in its title; of the last two rows
    one has no photo and one no title.
    """
    rng = random.Random(seed)
    rows = []
    for i in rng.sample(range(1000, 60000), n):
        word = rng.choice(["Puma", "Nike", "Fila", "Asics", "Lee"])
        kind = rng.choice(["Tshirts", "Watches", "Shirts", "Belts"])
        title = f"{word} Men's {rng.choice(['Red', 'Blue', 'Black', 'White'])} {kind} {rng.randrange(10**6)}"
        rows.append([str(i), "Men", "Apparel", "Topwear", kind, "Red", "", "", "Casual", title])
    for i in range(3, n - 2, 3):
        rows[i][-1] = rows[i - 1][-1].upper().replace(" ", "  -  ")
    rows[2][-1] = "Lee, the Shirt, Blue"
    rows[3][-1] = "LEE the shirt blue!"
    rows[-1][-1] = " "
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for row in rows[: n - 2] + rows[-1:]:
        (folder / f"images/{row[0]}.jpg").write_bytes(jpeg(int(row[0])))
    with open(folder / "styles.csv", "w", newline="") as file:
        file.write("id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName\n")
        for row in rows:
            if "," in row[-1]:
                file.write(",".join(row) + "\n")  # Kaggle does not quote these
            else:
                csv.writer(file, lineterminator="\n").writerow(row)
    return sorted(rows, key=lambda row: int(row[0]))


def write_flickr(folder: Path, seed: int = 0, n: int = 12) -> dict[str, list[str]]:
    """Captions, lists (7 train, 3 dev, 2 test) and Flicker8k_Dataset/. Returns five captions a picture, in order.

    One more picture has captions, the first under ``.jpg.1``, and is in no list; it has no photo.
    """
    rng = random.Random(seed)
    names = [f"{rng.randrange(10**9)}_{rng.randbytes(5).hex()}.jpg" for _ in range(n + 1)]
    captions = {name: [f"A dog number {rng.randrange(10**6)} runs ." for _ in range(5)] for name in names}
    lines = [f"{name}#{k}\t{text}" for name in names for k, text in enumerate(captions[name])]
    lines[-5] = lines[-5].replace(".jpg#0", ".jpg.1#0")
    rng.shuffle(lines)
    (folder / "Flicker8k_Dataset").mkdir(parents=True, exist_ok=True)
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    for part, start, end in (("train", 0, 7), ("dev", 7, 10), ("test", 10, 12)):
        (folder / f"Flickr_8k.{part}Images.txt").write_text("\n".join(names[start:end]) + "\n")
    for i, name in enumerate(names[:n]):
        (folder / "Flicker8k_Dataset" / name).write_bytes(jpeg(100 * seed + i, (100, 75)))
    return captions


def zip_up(folder: Path, archive: Path, top: str = "") -> Path:
    """A zip of everything below a folder, under ``top``."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, top + path.relative_to(folder).as_posix())
    return archive


@pytest.fixture(params=[0, 1])
def seed(request) -> int:
    return request.param


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder that is searched for data, beside a cache of its own."""
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COMMONSPACE_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def made() -> dict:
    """The functions that write the small sets, and those that help with them."""
    return {
        "wikipedia": write_wikipedia,
        "fashion-products": write_fashion,
        "flickr8k": write_flickr,
        "jpeg": jpeg,
        "zip": zip_up,
    }


@pytest.fixture
def real(request, tmp_path, monkeypatch):
    """Skips where ``$COMMONSPACE_DATA`` lacks the set named by the test's argument; the cache is the test's own."""
    import os

    def need(dataset: str, file: str) -> None:
        folders = [Path(p) for p in os.environ.get("COMMONSPACE_DATA", "").split(os.pathsep) if p]
        if not any((folder / dataset / file).is_file() for folder in folders):
            pytest.skip(f"{dataset} is not in $COMMONSPACE_DATA")
        monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))

    return need
