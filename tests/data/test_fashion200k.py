"""Fashion200k: which captions make a query, by both rules, against loops; the draw; the files in the owners' layout."""

import io
import json
import os
import random
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commonspace.data import DrawnQueries
from commonspace.data.download import write_manifest
from commonspace.data.fashion200k import Fashion200k
from commonspace.data.fashion200k_captions import CaptionPairs, first_difference, one_word_apart, parents
from commonspace.data.fashion200k_queries import Fashion200kTraining, listed_queries


class Unseen:
    """So many pictures that nobody looks at."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n


def drawn_captions(seed: int, n: int = 60) -> list[str]:
    """Short captions of few words, some within others, some twice in a caption; some captions twice."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(["a", "ab", "red", "bored", "top"], k=rng.randrange(1, 5))) for _ in range(n)]


def swaps(source: str, target: str) -> set[tuple[str, str]]:
    """By trying every place: what can be taken out of the one and put into the other."""
    s, t = source.split(), target.split()
    return {
        (s[i], t[j])
        for i in range(len(s))
        for j in range(len(t))
        if s[:i] + s[i + 1 :] == t[:j] + t[j + 1 :] and s[i] != t[j]
    }


def without(caption: str, word: str) -> str:
    """The release's parent."""
    return "".join(caption.split(word)).replace("  ", " ").strip()


def cleaned(caption: str) -> str:
    return "".join(
        {".": "dotmark", "?": "questionmark", "&": "andmark", "*": "starmark"}.get(c, c) for c in caption.strip()
    )


# ---- pairs of captions ----------------------------------------------------------------------------------------------


def test_one_word_apart_agrees_with_trying_every_place(seed):
    captions = drawn_captions(seed)
    kinds = Counter()
    for source in captions:
        for target in captions:
            words = one_word_apart(source, target)
            assert (words in swaps(source, target)) if words else not swaps(source, target)
            kinds[words is None] += 1
            if words:
                before, after = Counter(source.split()), Counter(target.split())
                assert (before - after, after - before) == (Counter([words[0]]), Counter([words[1]]))
    assert min(kinds.values()) > 100


@pytest.mark.parametrize("release", [False, True])
def test_the_captions_that_can_agree_with_loops(seed, release):
    captions = sorted({*drawn_captions(seed, 25)})

    def partners(source: str) -> set[str]:
        if not release:
            return {target for target in captions if swaps(source, target)}
        own = {without(source, word) for word in source.split()}
        return {t for t in captions if t != source and own & {without(t, word) for word in t.split()}}

    pairs = CaptionPairs(captions, release)
    assert pairs.can.tolist() == [bool(partners(caption)) for caption in captions]
    able = np.flatnonzero(pairs.can)
    asked = np.repeat(able, 300)
    source, target = pairs.draw(asked, np.random.default_rng(seed).random((2, len(asked))))
    assert (pairs.caption[source] == asked).all()
    found: dict[str, set[str]] = {}
    for s, t in zip(source.tolist(), target.tolist(), strict=True):
        before, after = captions[pairs.caption[s]], captions[pairs.caption[t]]
        found.setdefault(before, set()).add(after)
        words = pairs.words(s, t)
        assert words == first_difference(before, after) if release else words in swaps(before, after)
    assert found == {captions[i]: partners(captions[i]) for i in able.tolist()}  # every partner is drawn, and none else


@pytest.mark.parametrize("release", [False, True])
def test_the_draw_has_the_chances_of_the_releases_attempts(seed, release):
    """A parent, each as likely, then a child of it, until that is another: here with the attempts, and counted."""
    captions = sorted({*drawn_captions(seed, 25)})
    pairs, rng = CaptionPairs(captions, release), random.Random(seed)
    children: dict[str, dict[str, str]] = {}
    for caption in captions:
        for parent, word in parents(caption, release).items():
            children.setdefault(parent, {})[caption] = word
    found = [len(set().union(*(children[parent] for parent in parents(c, release)))) for c in captions]
    source = int(np.argmax(found))
    own = parents(captions[source], release)
    wanted, n = Counter(), 20_000
    # Parents without a partner are no attempt's end, so that whether they are tried makes no difference.
    while wanted.total() < n:
        parent = rng.choice(list(own))
        child = rng.choice(list(children[parent]))
        if child != captions[source] and (release or children[parent][child] != own[parent]):
            wanted[child] += 1
    chance = np.random.default_rng(seed).random((2, n))
    drawn = Counter(captions[pairs.caption[t]] for t in pairs.draw(np.full(n, source), chance)[1].tolist())
    assert drawn.keys() == wanted.keys()
    assert len(drawn) > 2
    for child in wanted:  # five standard deviations of a difference of two counts
        assert abs(drawn[child] - wanted[child]) < 5 * (2 * wanted[child]) ** 0.5


def test_the_release_cuts_words_out_of_words():
    captions = ["red embroidered dress", "blue embroidered dress", "tea dress white", "white tea dress"]
    assert CaptionPairs(captions).can.tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="of 2 captions no two differ in one word"):
        CaptionPairs(captions[2:])
    assert CaptionPairs(captions, release=True).can.tolist() == [False, False, True, True]
    assert one_word_apart(captions[2], captions[3]) is None
    assert first_difference(captions[2], captions[3]) == ("white", "dress")  # the last words: nothing was replaced


@pytest.mark.parametrize("captions", [[], [""], ["red"], ["red dress", "green top with pockets"]])
def test_captions_without_a_pair_are_refused(captions):
    for release in (False, True):
        with pytest.raises(ValueError, match=f"of {len(captions)} captions no two differ in one word"):
            CaptionPairs(captions, release)


# ---- training queries -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", [False, True])
def test_every_query_asks_for_another_caption_of_a_pair(seed, release):
    captions = drawn_captions(seed, 80)
    training = Fashion200kTraining(Unseen(80), captions, release)
    assert isinstance(training, DrawnQueries)
    assert (len(training), training.texts) == (80, captions)
    queries = training.draw(seed, 3)
    assert len(queries) == 80
    for i, (s, t) in enumerate(zip(queries.source.tolist(), queries.target.tolist(), strict=True)):
        assert training.can[s]
        assert s == i or not training.can[i]
        assert captions[s] != captions[t]
        assert queries.relevant[i] == [row for row in range(80) if captions[row] == captions[t]]
        words = {first_difference(captions[s], captions[t])} if release else swaps(captions[s], captions[t])
        assert queries.modification[i] in {f"replace {x} with {y}" for x, y in words}
    assert queries.captions == captions


def test_an_epoch_is_a_function_of_seed_and_epoch(seed):
    training = Fashion200kTraining(Unseen(60), drawn_captions(seed))
    first = training.draw(0, 0)
    again = Fashion200kTraining(Unseen(60), drawn_captions(seed)).draw(0, 0)
    assert torch.equal(first.source, again.source)
    assert torch.equal(first.target, again.target)
    assert first.modification == again.modification
    for other in (training.draw(0, 1), training.draw(1, 0)):
        assert not torch.equal(first.target, other.target)


def test_every_picture_of_a_caption_is_drawn():
    captions = ["red dress", *["blue dress"] * 5, "a b c"]
    training = Fashion200kTraining(Unseen(7), captions)
    targets, sources = Counter(), Counter()
    for epoch in range(300):
        queries = training.draw(0, epoch)
        targets[int(queries.target[0])] += 1
        sources[int(queries.source[6])] += 1  # in place of the picture that nothing can be asked of
    assert targets.keys() == {1, 2, 3, 4, 5}
    assert sources.keys() == {0, 1, 2, 3, 4, 5}
    assert min(*targets.values(), *sources.values()) > 20


@pytest.mark.parametrize(("text", "pattern"), [("release", "replace {} with {}"), ("paper", "{1}")])
def test_the_sentence_has_two_forms_and_the_whole_caption_is_a_third(text, pattern):
    captions = ["red dress", "blue dress"]
    training = Fashion200kTraining(Unseen(2), captions, text=text)
    assert training.draw(0, 0).modification == [pattern.format("red", "blue"), pattern.format("blue", "red")]
    assert training.completed().draw(0, 0).modification == ["blue dress", "red dress"]


@pytest.mark.parametrize("release", [False, True])
def test_completed_queries_have_the_targets_caption_and_the_same_answers(root, made, seed, release):
    made["fashion200k"](root / "fashion200k", seed)
    data = Fashion200k(size=(8, 8), release=release)
    for queries, completed in (
        (data.test, data.test.completed()),
        (data.train.draw(seed, 2), data.train.completed().draw(seed, 2)),
    ):
        assert completed.modification == [queries.captions[t] for t in queries.target.tolist()]
        assert torch.equal(completed.source, queries.source)
        assert torch.equal(completed.target, queries.target)
        assert completed.relevant == queries.relevant
    assert data.train.completed().texts == data.train.captions == data.train.texts


def test_the_papers_size_takes_seconds():
    """Measured: 1 s to find the pairs of 53,099 captions, 0.3 s for an epoch; the bounds leave room."""
    rng = random.Random(0)
    words = [
        [f"{kind}{i}" for i in range(n)] for kind, n in (("colour", 15), ("cloth", 300), ("cut", 200), ("noun", 30))
    ]
    distinct: set[str] = set()
    while len(distinct) < 53_099:
        distinct.add(" ".join(rng.choice(own) for own in words))
    captions = [*distinct, *rng.choices(sorted(distinct), k=172_049 - 53_099)]
    start = time.process_time()
    training = Fashion200kTraining(Unseen(len(captions)), captions)
    found = time.process_time()
    queries = training.draw(0, 0)
    assert found - start < 10
    assert time.process_time() - found < 5
    assert len(queries) == 172_049
    assert training.can.mean() > 0.5


# ---- the files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["women", "images/women", "images.zip"])
def test_the_owners_files_are_read(root, made, seed, kind, capsys):
    folder = root / "fashion200k"
    wrote = made["fashion200k"](folder, seed)
    photos = {place: (folder / place).read_bytes() for part in ("train", "test") for place in wrote[part]}
    if kind == "images.zip":
        made["zip"](folder / "women", folder / kind, "images/women/")
    (folder / "images").mkdir()
    (folder / "women").rename(
        folder / ("images/women" if kind == "images/women" else "gone" if "." in kind else "women")
    )
    data = Fashion200k(size=(40, 30))
    out = capsys.readouterr().out
    assert (
        "Fashion200k: 18 of 18 train, 14 of 14 test pictures are here, 40x30, from $COMMONSPACE_DATA/fashion200k\n"
        in out
    )
    assert "  train: 14 captions, " in out
    assert (
        "test: 11 of 12 queries (0 without their pictures, 1 whose only answer is the source; 3 change more th" in out
    )
    for images, captions, part in (
        (data.train.images, data.train.texts, "train"),
        (data.test.images, data.test.captions, "test"),
    ):
        order = [k for noun in (False, True) for k, c in wrote[part].items() if c.endswith("top") == noun]
        assert captions == [cleaned(wrote[part][k]) for k in order]
        expected = np.stack([np.asarray(Image.open(io.BytesIO(photos[k]))) for k in order])
        np.testing.assert_array_equal(images[torch.arange(len(order))].permute(0, 2, 3, 1).numpy(), expected)
    assert data.train.draw(0, 0)[:3].images[[0]].shape == (1, 3, 40, 30)


@pytest.mark.parametrize("release", [False, True])
def test_the_listed_queries(root, made, seed, release):
    wrote = made["fashion200k"](root / "fashion200k", seed)
    test = wrote["test"]
    data = Fashion200k(size=(8, 8), release=release)
    place = [k for noun in (False, True) for k, c in test.items() if c.endswith("top") == noun]
    assert data.left_out == 1
    assert len(data.test) == len(wrote["queries"]) - 1
    for i, (source, target) in enumerate(wrote["queries"][:-1]):
        asked = cleaned(test[target])
        right = {k for k in place if test[k] == test[target] and k != source}
        assert place[data.test.source[i]] == source
        assert {place[row] for row in data.test.relevant[i]} == right
        assert place[data.test.target[i]] == (target if target != source else min(right))
        words = swaps(cleaned(test[source]), asked)
        if i < 8:
            assert len(words) == 1
        if release or not words:
            words = {first_difference(cleaned(test[source]), asked)}
        assert data.test.modification[i] in {f"replace {x} with {y}" for x, y in words}


def test_a_listed_query_says_what_changed_where_the_release_does_not():
    captions, pairs = ["black black top", "black red top"], [(0, 1)]
    assert listed_queries(Unseen(2), captions, pairs).modification == ["replace black with red"]
    assert listed_queries(Unseen(2), captions, pairs, release=True).modification == ["replace top with red"]
    assert listed_queries(Unseen(2), captions, pairs).completed().modification == ["black red top"]


def test_pictures_that_are_not_there_are_left_out(root, made, seed, capsys):
    folder = root / "fashion200k"
    wrote = made["fashion200k"](folder, seed)
    gone = [wrote["queries"][0][0], next(iter(wrote["train"]))]
    for place in gone:
        (folder / place).unlink()
    data = Fashion200k(size=(8, 8))
    out = capsys.readouterr().out
    lost = sum(gone[0] in pair for pair in wrote["queries"])
    assert "17 of 18 train, 13 of 14 test" in out
    assert f" of 12 queries ({lost} without their pictures" in out
    assert len(data.test) + data.left_out == 12 - lost
    assert len(data.train) == len(data.train.images) == 17
    assert all(cleaned(wrote["test"][gone[0]]) != c or data.test.captions.count(c) == 1 for c in data.test.captions)


def test_what_is_missing_names_the_command(root):
    with pytest.raises(FileNotFoundError, match=r"python data_scripts/get_fashion200k\.py"):
        Fashion200k()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "labels/dress_train_detect_all.txt",
            "women/a.jpeg\t0.5",
            r"dress_train_detect_all\.txt line 1 must be women/",
        ),
        ("labels/top_test_detect_all.txt", "men/a.jpeg\t0.5\ta top", r"top_test_detect_all\.txt line 1 must be women/"),
        ("test_queries.txt", "women/a.jpeg women/b.jpeg", r"test_queries\.txt line 1 must be two places of test pic"),
        ("test_queries.txt", "one", r"test_queries\.txt line 1 must be two places"),
        ("images.zip", "no zip", r"images\.zip is damaged"),
    ],
)
def test_damaged_files_are_named(root, made, file, content, message):
    made["fashion200k"](root / "fashion200k")
    (root / "fashion200k" / file).write_text(content)
    with pytest.raises(ValueError, match=rf"(?s){message}.*Mend it with\n  python data_scripts/get_fashion200k\.py"):
        Fashion200k()


def test_what_a_folder_lacks_is_named(root, made):
    folder = root / "fashion200k"
    made["fashion200k"](folder)
    (folder / "women").rename(folder / "men")
    with pytest.raises(ValueError, match="no train picture of labels/ is in women/"):
        Fashion200k()
    for path in (folder / "labels").glob("*_test_*"):
        path.unlink()
    with pytest.raises(ValueError, match="labels has no file with 'test' in its name"):
        Fashion200k()


def test_a_prepared_file_that_was_altered_is_named(root, made):
    made["fashion200k"](root / "fashion200k")
    write_manifest(root / "fashion200k")
    Fashion200k()
    path = root / "fashion200k/labels/dress_train_detect_all.txt"
    path.write_text(path.read_text().replace("dress\n", "skirt\n", 1))
    with pytest.raises(ValueError, match=r"dress_train_detect_all\.txt is altered"):
        Fashion200k()


def test_an_unknown_text_is_refused(root):
    with pytest.raises(ValueError, match="text must be one of 'release', 'paper'; got 'complete'"):
        Fashion200k(text="complete")


@pytest.mark.realdata
def test_real_captions(made, tmp_path, capsys):
    """5,000 real captions in the owners' layout, with one picture for all."""
    folders = [Path(p) for p in os.environ.get("COMMONSPACE_DATA", "").split(os.pathsep) if p]
    files = [folder / "fashion200k/fashion200k_manifest_5000.json" for folder in folders]
    if not any(file.is_file() for file in files):
        pytest.skip("the 5,000 captions of fashion200k are not in $COMMONSPACE_DATA")
    items = json.loads(next(file for file in files if file.is_file()).read_bytes())["items"]
    folder, photo = tmp_path / "fashion200k", made["jpeg"](0)
    (folder / "labels").mkdir(parents=True)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for item in items:
            with open(folder / f"labels/{item['category']}_{item['split']}_detect_all.txt", "a") as file:
                file.write(f"{item['id']}\t1.0\t{item['title']}\n")
            archive.writestr(item["id"], photo)
    test = {item["id"]: cleaned(item["title"]) for item in items if item["split"] == "test"}
    pairs = [(a, b) for a in test for b in test if one_word_apart(test[a], test[b])][:50]
    (folder / "test_queries.txt").write_text("".join(f"{a} {b}\n" for a, b in pairs))
    wrong = {}
    for release in (False, True):
        data = Fashion200k(tmp_path, size=(8, 8), release=release)
        assert "4,267 of 4,267 train, 733 of 733 test" in capsys.readouterr().out
        assert (len(data.test), data.left_out) == (50, 0)
        queries, texts = data.train.draw(0, 0), data.train.texts
        asked = zip(queries.source.tolist(), queries.target.tolist(), strict=True)
        wrong[release] = sum(not swaps(texts[s], texts[t]) for s, t in asked)
    assert wrong[False] == 0
    assert 0 < wrong[True] < 50
