"""Small data sets, written in exactly their owners' layouts from a seed."""

import csv
import hashlib
import io
import itertools
import json
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import ClassVar

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
    rng, look = random.Random(seed), random.Random(seed + 1000)
    rows = []
    for i in rng.sample(range(1000, 60000), n):
        word = rng.choice(["Puma", "Nike", "Fila", "Asics", "Lee"])
        kind = rng.choice(["Tshirts", "Watches", "Shirts", "Belts"])
        title = f"{word} Men's {rng.choice(['Red', 'Blue', 'Black', 'White'])} {kind} {rng.randrange(10**6)}"
        gender, usage = look.choice(["Men", "Men", "Women", ""]), look.choice(["Casual", "Casual", "Sports"])
        colour = look.choice(["Red", "Blue", "Navy Blue", "Off White", "Multi", ""])
        rows.append([str(i), gender, "Apparel", "Topwear", kind, colour, "", "", usage, title])
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


def write_karpathy(folder: Path, dataset: str, seed: int = 0) -> list[dict]:
    """Karpathy's JSON file of "flickr30k" or "coco", and 15 photos in the owners' folders. Returns its entries."""
    rng = random.Random(seed)
    parts = ["train"] * 5 + ["restval"] * 3 + ["val"] * 4 + ["test"] * 3
    rng.shuffle(parts)
    entries = []
    for i, part in enumerate(parts):
        if dataset == "flickr30k":
            name, where, own = f"{rng.randrange(10**10)}.jpg", "flickr30k-images", {}
            part = part.replace("restval", "train")
        else:
            where = "train2014" if part == "train" else "val2014"
            number = rng.randrange(10**6)
            name, own = f"COCO_{where}_{number:012}.jpg", {"filepath": where, "cocoid": number}
        captions = [f" A dog, number {rng.randrange(10**6)}.\n" for _ in range(5 + (dataset == "coco" and i % 4 == 0))]
        ids = range(7 * i, 7 * i + len(captions))
        sentences = [
            {"raw": raw, "tokens": raw.lower().split(), "imgid": i, "sentid": k}
            for k, raw in zip(ids, captions, strict=True)
        ]
        entries.append({"filename": name, "imgid": i, "split": part, "sentids": [*ids], "sentences": sentences} | own)
        (folder / where).mkdir(parents=True, exist_ok=True)
        (folder / where / name).write_bytes(jpeg(100 * seed + i, (50, 40)))
    (folder / f"dataset_{dataset}.json").write_text(json.dumps({"images": entries, "dataset": dataset}))
    return entries


PASCAL = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]
NUS_WIDE = ["animal", "clouds", "flowers", "food", "grass", "person", "sky", "toy", "water", "window"]


def write_pascal(folder: Path, seed: int = 0, n: int = 10, layout: str = "page") -> dict[str, list[str]]:
    """n photos of each class, ``class/picture.jpg``, and their sentences. Returns these by photo, in their order.

    ``layout``: "page", the owners' index.html; "files", a text file a photo below sentence/, the photos below dataset/,
    as a known program copies the page. One photo is of two classes.
    """
    rng = random.Random(seed)
    sentences = {}
    photos = folder / ("dataset" if layout == "files" else "pascal-sentences")
    for c, name in enumerate(PASCAL):
        own = [f"2008_{rng.randrange(10**6):06}.jpg" for _ in range(n - (c < 2))] + ["2008_777777.jpg"] * (c < 2)
        (photos / name).mkdir(parents=True)
        for i, file in enumerate(own):
            sentences[f"{name}/{file}"] = [
                f"{word} {name} & number {rng.randrange(10**6)}." for word in ("A", "One", "Some", "The", "This")
            ]
            (photos / name / file).write_bytes(jpeg(100 * c + i if file != "2008_777777.jpg" else 9999, (40, 30)))
    if layout == "files":
        for key, own in sentences.items():
            path = folder / "sentence" / key.replace(".jpg", ".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(own) + "\n")
        return dict(sorted(sentences.items()))
    rows = []
    for key, own in sentences.items():
        cells = "".join(f"<tr><td> {text.replace('&', '&amp;')}\n</td></tr>" for text in own)
        rows.append(f'<tr><td><img src="{key}"></td><td><table>{cells}</table></td></tr>')
    head = "<html><head><title>Pascal Sentences</title></head><body><h1>1,000 images</h1><table>"
    (photos / "index.html").write_text(head + "\n".join(rows) + "</table></body></html>")
    return dict(sorted(sentences.items()))


def write_pascal_features(folder: Path, seed: int = 0, first: int = 1) -> dict[str, np.ndarray]:
    """The six .mat files of DSCMR, 40 train and 20 test rows; labels from ``first``. Returns what is in them."""
    from scipy.io import savemat

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for part, n in (("train", 40), ("test", 20)):
        made[f"{part}_img"] = rng.normal(size=(n, 12)).astype(np.float32)
        made[f"{part}_txt"] = rng.normal(size=(n, 5)).astype(np.float32)
        made[f"{part}_img_lab"] = first + rng.permutation(np.arange(n) % 20)[:, None].astype(np.uint8)
    for name, values in made.items():
        savemat(folder / f"{name}.mat", {name: values})
    return made


class Python2(pickle._Pickler):
    """Pickles as Python 2 and its numpy did: texts are strings of bytes, and so are an array's bytes."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        short = len(raw) < 256
        self.write((b"U" + bytes([len(raw)]) if short else b"T" + struct.pack("<i", len(raw))) + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def python2_npy(value: object) -> bytes:
    """What ``numpy.save`` of Python 2 writes of a dict."""
    content = io.BytesIO()
    array = np.empty((), dtype=object)
    array[()] = value
    np.lib.format.write_array_header_1_0(content, {"descr": "|O", "fortran_order": False, "shape": ()})
    Python2(content, protocol=2).dump(array)
    return content.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


CSS_SCENES = "css_toy_dataset_novel2_small.dup.npy"


def write_css(folder: Path, seed: int = 0, m: int = 24, labels: bool = True, python: int = 2) -> dict:
    """The authors' file of scenes, as Python 2 or 3 saves it, and images/. Returns what is in the file.

    Of the m pictures of a split some show one scene, their objects in another order. Some modifications lead back to
    the source: that of the last picture, whose scene is its own, has no other answer. Its scene is empty.
    """
    rng, data = random.Random(seed), {}
    (folder / "images").mkdir(parents=True)
    for split in ("train", "test"):
        scenes = []
        for _ in range(m // 2):
            places = rng.sample([(row / 3 + 1 / 6, column / 3 + 1 / 6) for row in range(3) for column in range(3)], 3)
            kinds = [(rng.choice(["red", "gray"]), rng.choice(["circle", "triangle"])) for _ in places]
            pairs = list(zip(kinds, places, strict=True))
            scenes.append([{"color": c, "shape": s, "size": "small", "pos": np.array(pos)} for (c, s), pos in pairs])
        shown = [*range(m // 2), *rng.choices(range(m // 2), k=m - 1 - m // 2)]
        rng.shuffle(shown)
        objects = [rng.sample(scenes[i], 3) for i in shown] + [[]]
        mods = []
        for i in range(m):
            source = rng.sample(range(m - 1), rng.randrange(1, 5))
            target = [rng.randrange(m) for _ in source]
            mods.append({"from": np.array(source), "to": target, "to_str": f"make red caf\xe9 {i} small"})
        mods[3] |= {"from": [5, 7], "to": np.array([5, 9])}
        mods[4] |= {"from": [m - 1], "to": [m - 1]}
        data[split] = {"mods": mods, "objects_img": objects}
        if labels:
            data[split]["labels"] = [np.int64(i) for i in shown] + [m]
        for i in range(m):
            (folder / f"images/css_{split}_{i:06d}.png").write_bytes(noise(1000 * seed + 100 * len(data) + i, (18, 12)))
    if python == 2:
        (folder / CSS_SCENES).write_bytes(python2_npy(data))
    else:
        np.save(folder / CSS_SCENES, data, allow_pickle=True)
    return data


def noise(seed: int, size: tuple[int, int]) -> bytes:
    """A png of (width, height) random pixels."""
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def write_mit_states(folder: Path, seed: int = 0) -> dict[str, list[str]]:
    """images/<adjective noun>/*.jpg and the owners' other files. Returns the usable photos by caption.

    Nouns of one to five adjectives, captions of one to four photos; two photos of one name in different folders.
    """
    rng, made = random.Random(seed), {}
    adjectives = ["ancient", "broken", "clean", "diced", "empty"]
    # The nouns in test are glass, tomato and wool; wool and zebra are there with one adjective alone.
    for noun, states in (("tomato", 4), ("dog", 5), ("wool", 1), ("car", 2), ("glass", 3), ("zebra", 1), ("sea", 3)):
        for adjective in rng.sample(adjectives, states):
            made[f"{adjective} {noun}"] = [f"{i}_{rng.randrange(10**6)}.jpg" for i in range(rng.randrange(1, 5))]
    for caption in rng.sample(sorted(made), 5):
        made[caption][0] = "same.jpg"
    rubbish = {"adj tomato": ["x.jpg"], "adj dog": ["y.jpg"], "single": ["z.jpg"], sorted(made)[0]: ["._same.jpg"]}
    for photos in (made, rubbish):
        for caption, names in photos.items():
            (folder / "images" / caption).mkdir(parents=True, exist_ok=True)
            for name in names:
                (folder / "images" / caption / name).write_bytes(jpeg(rng.randrange(10**6), (24, 18)))
    (folder / "adj_ants.csv").write_text("adj,ants\nbroken,whole\n")
    return made


def write_nus_wide(folder: Path, seed: int = 0, n: int = 14) -> dict[str, list[tuple[str, str, str]]]:
    """NUS-WIDE's own lists with 2 n photos of each class, and Flickr/, for SIZES = (6, 2, 1).

    n of the 2 n will do; the others have a second class, no class, no tags, or an id that was listed before. Returns
    (photo, tags, class) by part, in the lists' order.
    """
    rng = random.Random(seed)
    rows = []  # photo, words, classes
    for c, name in enumerate(NUS_WIDE):
        for i in range(2 * n):
            number = str(rng.randrange(10**8, 10**10))
            words = ["Café", name, "x\u2028y", f"tag{rng.randrange(10**6)}"]
            classes = [name]
            if i >= n:
                odd = i % 4
                classes = [[name, NUS_WIDE[c - 1]], [], [name], [name]][odd]
                words = [] if odd == 2 else words
                number = rows[-5][0].split("_")[-1].removesuffix(".jpg") if odd == 3 else number
            rows.append((f"{rng.choice(['actor', 'adobe', 'zebra'])}/{i:04}_{number}.jpg", words, classes))
    order = list(range(len(rows)))
    rng.shuffle(order)
    rows = [rows[i] for i in order]
    seen, good = set(), []
    for row in rows:
        number = row[0].split("_")[-1][:-4]
        if number not in seen and len(row[2]) == 1 and row[1]:
            good.append(row)
        seen.add(number)
    parts: dict[str, list] = {"train": [], "validation": [], "test": []}
    for name in NUS_WIDE:
        own = [row for row in good if row[2] == [name]]
        own.sort(key=lambda row: hashlib.sha256(row[0].split("_")[-1][:-4].encode()).digest())
        for part, start, end in (("train", 0, 6), ("validation", 6, 8), ("test", 8, 9)):
            parts[part] += [(photo, " ".join(" ".join(words).split()), name) for photo, words, _ in own[start:end]]
    place = {row[0]: i for i, row in enumerate(rows)}
    chosen = {photo for own in parts.values() for photo, _, _ in own}
    for sub in ("ImageList", "NUS_WID_Tags", "Groundtruth/AllLabels", "Groundtruth/TrainTestLabels"):
        (folder / sub).mkdir(parents=True)
    (folder / "ImageList/Imagelist.txt").write_text("".join(row[0].replace("/", "\\") + "\r\n" for row in rows))
    lines = [f"{row[0].split('_')[-1][:-4]:<20}{' '.join(row[1])} \n" for row in rows]
    (folder / "NUS_WID_Tags/All_Tags.txt").write_bytes("".join(lines).encode())
    (folder / "NUS_WID_Tags/AllTags1k.txt").write_text("0 1 " * 500)
    for name in [*NUS_WIDE, "zebra"]:
        text = "".join(f"{int(name in row[2])}\n" for row in rows)
        (folder / f"Groundtruth/AllLabels/Labels_{name}.txt").write_text(text)
        (folder / f"Groundtruth/TrainTestLabels/Labels_{name}_Train.txt").write_text(text[:20])
    for photo, i in place.items():
        path = folder / "Flickr" / photo
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(1000 * seed + i, (160, 120) if photo in chosen else (8, 8)))
    return {part: sorted(own, key=lambda row: place[row[0]]) for part, own in parts.items()}


def write_fashion200k(folder: Path, seed: int = 0) -> dict:
    """labels/, women/ and test_queries.txt. Returns the captions by place of "train" and "test", and the "queries".

    Captions are a colour, a kind of cloth and a noun, some twice; two of train share no word with another, two differ
    in their order alone, one holds a colour within a word. The last four queries: two words change; the target has the
    source's caption; the target is the source, which has a twin; the same without a twin.
    """
    rng = random.Random(seed)
    made: dict = {"train": {}, "test": {}}
    numbers = iter(rng.sample(range(10**7, 10**8), 400))
    for part, own in made.items():
        three = [f"{a} {b} {c}" for a in ("red", "blue", "gray") for b in ("lace", "v.neck") for c in ("dress", "top")]
        odd = ["red embroidered dress", "tea dress white", "white tea dress", "a&b sailor? suit", "100% wool*"]
        captions = rng.sample(three, 9) + odd[: 5 if part == "train" else 1]
        for caption in captions + rng.sample(captions[:9], 4):
            n = next(numbers)
            own[f"women/{caption.split()[-1].strip('?*')}s/{rng.choice(['mini', 'maxi'])}/{n}/{n}_0.jpeg"] = caption
        for noun in ("dress", "top"):
            lines = [
                f"{k}\t{rng.random()}\t {c}\n" for k, c in own.items() if (c.split()[-1] == "top") == (noun == "top")
            ]
            (folder / "labels").mkdir(parents=True, exist_ok=True)
            (folder / f"labels/{noun}_{part}_detect_all.txt").write_text("".join(lines))
    for i, place in enumerate([*made["train"], *made["test"]]):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(jpeg(1000 * seed + i, (30, 40)))
    test = made["test"]
    words = {place: set(caption.split()) for place, caption in test.items()}
    apart = {(a, b): len(words[a] - words[b]) for a, b in itertools.product(test, test)}
    twins = [(a, b) for a, b in apart if a != b and test[a] == test[b]]
    alone = [a for a in test if list(test.values()).count(test[a]) == 1]
    pairs = rng.sample([k for k in apart if apart[k] == 1], 8)
    two = next(k for k in apart if apart[k] == 2)
    made["queries"] = [*pairs, two, twins[0], (twins[0][0], twins[0][0]), (alone[0], alone[0])]
    (folder / "test_queries.txt").write_text("".join(f"{a} {b}\n" for a, b in made["queries"]))
    return made


def write_fashion_iq(folder: Path, seed: int = 0) -> dict:
    """captions/, image_splits/ and images/. Returns, by (category, part), the "lists" and the "queries".

    A picture of each part is on the lists of shirts and of tops. Of the tops' queries one has an empty caption, and one
    has two. Every other picture is a PNG.
    """
    rng = random.Random(seed)
    made: dict = {"lists": {}, "queries": {}}
    for part, n in (("train", 9), ("val", 6)):
        shared = f"B{rng.randrange(10**8):08}X"
        for category in ("dress", "shirt", "toptee"):
            names = [f"B{rng.randrange(10**8):08}{category[0].upper()}" for _ in range(n)]
            names += [shared] * (category != "dress")
            queries = []
            for i in range(n - 2):
                candidate, target = rng.sample(names, 2)
                said = [f"Is {rng.choice(['Redder', 'longer'])} {rng.randrange(100)}", f" has a sleeve {i}. "]
                queries.append({"target": target, "candidate": candidate, "captions": said})
            if category == "toptee":
                queries[1]["captions"][0] = ""
                queries[2]["captions"] = ["", " "]
            made["lists"][category, part], made["queries"][category, part] = names, queries
            for place, content in (
                (f"captions/cap.{category}.{part}.json", queries),
                (f"image_splits/split.{category}.{part}.json", names),
            ):
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).write_text(json.dumps(content, indent=4))
    (folder / "images").mkdir(exist_ok=True)
    for i, name in enumerate(sorted({name for names in made["lists"].values() for name in names})):
        content = jpeg(1000 * seed + i, (30, 40))
        if i % 2:
            opened = io.BytesIO()
            Image.open(io.BytesIO(content)).save(opened, "PNG")
            content = opened.getvalue()
        (folder / f"images/{name}.{'png' if i % 2 else 'jpg'}").write_bytes(content)
    return made


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
        "karpathy": write_karpathy,
        "pascal-sentences": write_pascal,
        "pascal-features": write_pascal_features,
        "css": write_css,
        "mit-states": write_mit_states,
        "nus-wide-10k": write_nus_wide,
        "fashion200k": write_fashion200k,
        "fashion-iq": write_fashion_iq,
        "jpeg": jpeg,
        "python2": python2_npy,
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
