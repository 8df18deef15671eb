"""Fashion200k: pictures of dresses, jackets, trousers, skirts and tops with a caption each, and "replace X with Y".

X. Han et al., Automatic Spatially-aware Fashion Concept Discovery, ICCV 2017; as queries, N. Vo et al., Composing Text
and Image for Image Retrieval (TIRG), CVPR 2019. The owners give the pictures for research; the *cropped* ones, of
women.tar.gz, are meant. ``python data_scripts/get_fashion200k.py`` prepares it. A picture is a right answer where its
caption is the target's, letter by letter; the source is never one.

DEVIATIONS
- The paper tests on ten random sets of 3,167 queries. Here, as in its released code and ever since, on the list of
  test_queries.txt.
- The paper's text is the one word that differs, the released code's is "replace X with Y": ``text`` chooses.
- Which captions make a query: the paper's one word by default, the released code's by ``release=True``; see
  `fashion200k_captions`.
"""

import os
from collections.abc import Container
from pathlib import Path

from commonspace.data import files
from commonspace.data.download import mendable
from commonspace.data.fashion200k_captions import TEXTS, cleaned, one_word_apart
from commonspace.data.fashion200k_queries import Fashion200kTraining, listed_queries
from commonspace.data.pictures import Pictures, check_size, names_in_zip

COMMAND = "python data_scripts/get_fashion200k.py"
QUERIES = "test_queries.txt"


def read_labels(folder: Path, part: str) -> dict[str, str]:
    """Caption by picture of the files labels/*.txt with ``part`` ("train", "test") in their name, in that order.

    A line is the picture's place, a tab, the score of a detector, a tab, the caption. Of a picture with two lines the
    last counts. Raises ValueError that names the line which will not do.
    """
    captions: dict[str, str] = {}
    paths = sorted(path for path in (folder / "labels").glob("*.txt") if part in path.name)
    for path in paths:
        for n, line in enumerate(path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n"), 1):
            columns = line.split("\t")
            if len(columns) != 3 or not columns[0].startswith("women/"):
                raise ValueError(
                    f"{path.name} line {n} must be women/.., a score, a caption, with tabs; got {line[:60]!r}"
                )
            captions[columns[0]] = cleaned(columns[2])
    if not captions:
        raise ValueError(f"labels has no file with {part!r} in its name, such as dress_{part}_detect_all.txt")
    return captions


def read_queries(path: Path, known: Container[str]) -> list[tuple[str, str]]:
    """Places of source and target, a line each with a space between. Raises ValueError for a place not ``known``."""
    pairs = []
    for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        source, _, target = line.strip().partition(" ")
        if source not in known or target not in known:
            raise ValueError(f"{path.name} line {n} must be two places of test pictures; got {line[:120]!r}")
        pairs.append((source, target))
    return pairs


def places_in(folder: Path) -> tuple[Path, dict[str, str]]:
    """Where the pictures are, images.zip or the folder, and the place in there of each ``women/..``."""
    archive = folder / "images.zip"
    if archive.is_file():
        names = names_in_zip(archive)
    else:
        tops = [top for top in (folder / "women", folder / "images" / "women") if top.is_dir()]
        found = ((Path(at).relative_to(folder), here) for top in tops for at, _, here in os.walk(top))
        names = [(at / name).as_posix() for at, here in found for name in here]
    where = archive if archive.is_file() else folder
    return where, {name[name.find("women/") :]: name for name in names if "women/" in name}


class Fashion200k:
    """``Fashion200k().train``: `Fashion200kTraining`, queries drawn every epoch from 172,049 pictures; ``.test``:
    `Fashion200kQueries`, 33,480 over 29,789 pictures.

    ``images``: `Pictures` of ``size`` = (height, width) pixels, decoded when asked for. ``text``: "release", "replace X
    with Y"; "paper", "Y". ComposeAE's is the target's caption: ``train.completed()`` and ``test.completed()``.
    ``release``: pairs of captions by the released code's rules. ``root``: a folder to look in instead of
    ``$COMMONSPACE_DATA`` and the cache.

    Pictures that are not there are left out, and test queries that need one. So is a test query whose only right answer
    is its own source: the papers count it as a miss. Numbers of all are printed; ``left_out`` is that of the last kind,
    so that R@k as the papers have it is R@k * len(test) / (len(test) + left_out).

    Raises FileNotFoundError that names the command when the data is missing, ValueError for damaged data, a bad size or
    an unknown text.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        size: tuple[int, int] = (128, 128),
        release: bool = False,
        text: str = "release",
    ):
        size = check_size(size)
        if text not in TEXTS:
            raise ValueError(f"text must be one of {', '.join(map(repr, TEXTS))}; got {text!r}")
        folder = files.find("fashion200k", QUERIES, COMMAND, root).parent
        with mendable(folder, COMMAND, by_size=("images.zip",)):
            labels = {part: read_labels(folder, part) for part in ("train", "test")}
            listed = read_queries(folder / QUERIES, labels["test"])
            where, places = places_in(folder)
            here = {part: [name for name in labels[part] if name in places] for part in labels}
            counts = [f"{len(here[part]):,} of {len(labels[part]):,} {part}" for part in labels]
            print(
                f"Fashion200k: {', '.join(counts)} pictures are here, {size[0]}x{size[1]}, from {files.shown(folder)}"
            )
            if not here["train"]:
                raise ValueError("no train picture of labels/ is in women/, images/women/ or images.zip")
            images = {part: Pictures(where, [places[name] for name in here[part]], size) for part in here}
            captions = {part: [labels[part][name] for name in here[part]] for part in here}
            self.train = Fashion200kTraining(images["train"], captions["train"], release, text)
        row = {name: i for i, name in enumerate(here["test"])}
        pairs = [(row[source], row[target]) for source, target in listed if source in row and target in row]
        self.test = listed_queries(images["test"], captions["test"], pairs, release, text)
        self.left_out = len(pairs) - len(self.test)
        asked = zip(self.test.source.tolist(), self.test.target.tolist(), strict=True)
        more = sum(one_word_apart(captions["test"][s], captions["test"][t]) is None for s, t in asked)
        print(
            f"  train: {len(self.train.pairs.captions):,} captions, {int(self.train.can.sum()):,} pictures can be a "
            f"source; test: {len(self.test):,} of {len(listed):,} queries ({len(listed) - len(pairs):,} without their "
            f"pictures, {self.left_out:,} whose only answer is the source; {more:,} change more than one word)"
        )
