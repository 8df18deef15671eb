"""CSS in its authors' layout, against loops over what was written into the file."""

import io
import random
import time
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from PIL import Image

from commonspace.data import CSS, ComposedQueries
from commonspace.data.css import SCENES, read_scenes
from commonspace.data.css_queries import CSSDraws, CSSQueries, Split, caption
from commonspace.data.download import write_manifest
from commonspace.metrics import recall_at_k


@pytest.fixture
def written(root, made, seed) -> dict:
    return made["css"](root / "css", seed)


def same_scene(own: dict, i: int, j: int) -> bool:
    a, b = ([(x["color"], x["shape"], x["size"], *x["pos"]) for x in own["objects_img"][k]] for k in (i, j))
    return sorted(a) == sorted(b)


def expected(own: dict) -> tuple[list[tuple], int]:
    """(source, sentence, target, right answers) of each query, and how many have no answer."""
    queries, missed = [], 0
    for mod in own["mods"]:
        for source, target in zip(list(mod["from"]), list(mod["to"]), strict=True):
            right = [i for i in range(len(own["objects_img"])) if same_scene(own, i, target) and i != source]
            if right:
                queries.append((source, mod["to_str"], target, right))
            else:
                missed += 1
    return queries, missed


def content(queries: ComposedQueries) -> list[tuple]:
    return list(
        zip(queries.source.tolist(), queries.modification, queries.target.tolist(), queries.relevant, strict=True)
    )


# ---- what is in the file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("python", [2, 3])
@pytest.mark.parametrize("labels", [True, False])
def test_queries_and_right_answers_are_those_of_the_file(root, made, seed, labels, python, capsys):
    written = made["css"](root / "css", seed, labels=labels, python=python)
    data = CSS()
    train, test = (expected(written[name]) for name in ("train", "test"))
    assert capsys.readouterr().out == (
        f"CSS: 24 of 24 train, 24 of 24 test pictures are here, 12x18, {len(test[0])} test queries and {test[1]} "
        "without an answer but their source, from $COMMONSPACE_DATA/css\n"
    )
    assert (data.train.unanswerable, data.unanswerable) == (train[1], test[1])
    assert min(train[1], test[1]) > 0
    for queries, (known, _) in ((data.train.queries, train), (data.test, test)):
        assert len(queries) == len(known)
        for got, want in zip(content(queries), known, strict=True):
            assert (got[0], got[1], got[3]) == (want[0], want[1], want[3])
            assert got[2] == (want[2] if want[2] != want[0] else want[3][0])
        assert max(len(right) for *_, right in known) > 1
    assert any(source == target for source, _, target, _ in test[0])
    assert data.train.texts == [mod["to_str"] for mod in written["train"]["mods"]]
    assert len(data.train) == len(data.train.images) == 24


def test_pictures_are_the_authors_at_their_own_size_or_another(root, written):
    data, small = CSS(), CSS(size=(6, 9))
    for name, queries, scaled in (("train", data.train, small.train), ("test", data.test, small.test)):
        files = [root / f"css/images/css_{name}_{i:06d}.png" for i in range(24)]
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(path.read_bytes()))) for path in files])
        np.testing.assert_array_equal(queries.images[:].permute(0, 2, 3, 1).numpy(), pixels)
        assert scaled.images[:2].shape == (2, 3, 6, 9)


def test_pictures_in_a_zip_are_the_same(root, made, written):
    pixels = CSS().test.images[:]
    made["zip"](root / "css/images", root / "css/images.zip", "images/")
    (root / "css/images").rename(root / "elsewhere")
    assert torch.equal(CSS().test.images[:], pixels)


def test_the_papers_count_follows_from_the_queries_that_are_left_out(root, written):
    """A query without an answer is a miss: by loops over all of them, and by the formula of `CSSDraws`."""
    data = CSS()
    known, missed = expected(written["test"])
    sim = torch.randn(len(known), 24, generator=torch.Generator().manual_seed(0))
    hits = 0
    for row, (source, _, _, right) in zip(sim.clone(), known, strict=True):
        row[source] = -torch.inf
        hits += int(row.argmax()) in right
    ours = recall_at_k(sim, data.test.relevant, 1, exclude=data.test.source)[1]
    assert ours * len(known) / (len(known) + data.unanswerable) == pytest.approx(hits / (len(known) + missed))
    assert hits > 0


def test_pictures_that_are_not_there_are_left_out(root, made, seed, capsys):
    written = made["css"](root / "css", seed)["test"]
    gone = random.Random(seed).sample(range(24), 6)
    for i in gone:
        (root / f"css/images/css_test_{i:06d}.png").unlink()
    data = CSS()
    assert "24 of 24 train, 18 of 24 test pictures are here" in capsys.readouterr().out
    here = [i for i in range(24) if i not in gone]
    want = []
    for source, sentence, target, right in expected(written)[0]:
        left = [i for i in right if i in here]
        if source in here and left:
            want.append((source, sentence, left, target if target in left else left[0]))
    got = [(here[s], text, [here[i] for i in right], here[t]) for s, text, t, right in content(data.test)]
    assert got == want
    assert len(data.test.images) == 18


# ---- draws ----------------------------------------------------------------------------------------------------------


def numbers(draws: CSSDraws, queries: ComposedQueries) -> list[int]:
    """Which of ``draws.queries`` each query is."""
    place = {(s, text, t): i for i, (s, text, t, _) in enumerate(content(draws.queries))}
    found = [place[s, text, t] for s, text, t, _ in content(queries)]
    assert [right for *_, right in content(queries)] == [draws.queries.relevant[i] for i in found]
    return found


@pytest.fixture
def draws(root, made, seed) -> CSSDraws:
    """With one picture less there is an odd number of them."""
    made["css"](root / "css", seed)
    (root / "css/images/css_train_000002.png").unlink()
    return CSS().train


def test_pairs_share_the_source_and_not_the_modification(draws):
    assert len(draws) == 23
    lonely = {s for s, n in Counter(draws.queries.source.tolist()).items() if n == 1}
    fresh = 0
    for epoch in range(20):
        queries = draws.draw(3, epoch)
        assert len(queries) == 23
        change = draws.change[numbers(draws, queries)]
        for i in range(0, 22, 2):
            if int(queries.source[i]) in lonely:
                fresh += int(queries.source[i]) != int(queries.source[i + 1])
            else:
                assert queries.source[i] == queries.source[i + 1]
                assert change[i] != change[i + 1]
    assert fresh > 0 or not lonely


def test_a_draw_is_a_function_of_seed_and_epoch(draws):
    first = content(draws.draw(1, 2))
    np.random.seed(5)  # noqa: NPY002 - the state that a draw must not depend on
    torch.manual_seed(5)
    assert content(draws.draw(1, 2)) == first
    assert content(draws.draw(1, 3)) != first
    assert content(draws.draw(2, 2)) != first


def test_draws_are_as_likely_as_the_authors(draws):
    """First any modification, then any of its sources; second any other modification of the source."""
    change, source = draws.change, draws.queries.source.numpy()
    n, of_change, of_source = len(change), defaultdict(list), defaultdict(list)
    for row in range(n):
        of_change[change[row]].append(row)
        of_source[source[row]].append(row)
    first = np.array([1 / len(of_change) / len(of_change[change[row]]) for row in range(n)])
    second = np.zeros(n)
    for row in range(n):
        others = [other for other in of_source[source[row]] if change[other] != change[row]]
        for other in others:
            second[other] += first[row] / len(others)
        if not others:
            second += first[row] * first
    assert first.sum() == pytest.approx(1)
    assert second.sum() == pytest.approx(1)
    counts = np.zeros((2, n))
    for epoch in range(1000):
        rows = numbers(draws, draws.draw(0, epoch))
        for which in (0, 1):
            np.add.at(counts[which], rows[which::2], 1)
    for got, share in zip(counts, (first, second), strict=True):
        error = (got / got.sum() - share) / np.sqrt(share.clip(min=1e-9) / got.sum())
        assert np.abs(error[share > 0]).max() < 4.5
        assert got[share == 0].sum() == 0


def test_several_targets_of_one_source_by_one_modification_are_not_a_pair():
    """Both rows of a pair would say the same of the same picture."""
    split = Split([("a", [0, 0, 0], [1, 2, 3]), ("b", [0, 0], [2, 3]), ("c", [1], [2])], list("wxyz"))
    draws = CSSDraws(split, range(4), [0, 1, 2, 3])
    texts = Counter()
    for epoch in range(100):
        queries = draws.draw(0, epoch)
        texts.update((*queries.modification[i : i + 2], int(queries.source[i]) == 0) for i in (0, 2))
    assert {key[:2] for key in texts if key[2]} == {("a", "b"), ("b", "a")}
    assert {key[:2] for key in texts if not key[2]} == {("c", "a"), ("c", "b"), ("c", "c")}


def test_the_papers_size_takes_no_time():
    rng = random.Random(0)
    m, n = 19_000, 16_000
    changes = [(f"make it {i}", [rng.randrange(1000)], [rng.randrange(m)]) for i in range(n)]
    start = time.perf_counter()
    draws = CSSDraws(Split(changes, [str(rng.randrange(15_000)) for _ in range(m)]), range(m), list(range(m)))
    assert len(draws.draw(0, 0)) == m
    assert time.perf_counter() - start < 5


# ---- the whole caption as the text ----------------------------------------------------------------------------------


def said(objects: list[dict]) -> str:
    """By looking into each place of the grid."""
    words = []
    for row, high in enumerate(("top", "middle", "bottom")):
        for column, wide in enumerate(("left", "center", "right")):
            for one in objects:
                if [round(x * 6) for x in one["pos"]] == [2 * row + 1, 2 * column + 1]:
                    words.append(f"{one['size']} {one['color']} {one['shape']} at {high}-{wide}")
    return " and ".join(words) or "nothing"


@pytest.mark.parametrize("labels", [True, False])
def test_completed_queries_say_the_targets_objects(root, made, seed, labels):
    written = made["css"](root / "css", seed, labels=labels)
    for gone in (f"train_{1:06d}", f"test_{2:06d}"):
        (root / f"css/images/css_{gone}.png").unlink()
    data = CSS()
    for queries, name, gone in ((data.train.draw(seed, 0), "train", 1), (data.test, "test", 2)):
        captions = [said(own) for i, own in enumerate(written[name]["objects_img"]) if i != gone]
        completed = queries.completed()
        assert isinstance(completed, CSSQueries)
        assert queries.captions == captions
        assert completed.modification == [captions[t] for t in queries.target.tolist()]
        assert completed.relevant == queries.relevant  # who shows the same objects has the same caption
        assert "nothing" in captions
    draws = data.train.completed()
    assert content(draws.draw(seed, 0)) == content(data.train.draw(seed, 0).completed())
    assert draws.texts == data.train.captions


def test_an_object_is_in_one_of_nine_places():
    one = {"size": "small", "color": "red", "shape": "cube"}
    for pos, place in (((0, 0), "top-left"), ((0.3, 0.4), "top-center"), ((1, 1), "bottom-right")):
        assert caption([one | {"pos": np.array(pos)}]) == f"small red cube at {place}"
    for pos in ((-0.1, 0), (0, 1.1), (float("nan"), 0), (0.5,), (0, 0, 0)):
        with pytest.raises(ValueError, match=r"not within the scene|unpack"):
            caption([one | {"pos": pos}])


@pytest.mark.parametrize(
    "spoil", [lambda one: one.pop("size"), lambda one: one.update(pos=(7, 7)), lambda one: one.update(pos=None)]
)
def test_a_file_that_does_not_say_its_objects_has_queries_but_no_captions(root, made, spoil):
    data = made["css"](root / "css")
    spoil(data["test"]["objects_img"][0][0])
    np.save(root / "css" / SCENES, data, allow_pickle=True)
    css = CSS()
    assert len(css.test) > 0
    with pytest.raises(ValueError, match="CSSQueries has no captions"):
        css.test.completed()
    assert len(css.train.completed().texts) == 24


# ---- what will not do -----------------------------------------------------------------------------------------------


def test_what_is_missing_names_the_command(root):
    with pytest.raises(FileNotFoundError, match=r"python data_scripts/get_css\.py"):
        CSS()


SPOILED = [
    (lambda d: d.pop("test"), r"test is not laid out as expected \(KeyError"),
    (lambda d: d["train"].pop("mods"), r"train is not laid out as expected \(KeyError\('mods'\)"),
    (lambda d: d["train"].update(mods=3), "train is not laid out as expected"),
    (lambda d: d["train"].update(mods=[[1]]), "train is not laid out as expected"),
    (lambda d: d["train"]["mods"][0].pop("to_str"), "train is not laid out as expected"),
    (lambda d: d["train"]["mods"][1].update(to_str=" "), "modification 1 of train is ' ', a sentence was expected"),
    (lambda d: d["test"]["mods"][2].update(to_str=7), "modification 2 of test is 7, a sentence was expected"),
    (lambda d: d["test"]["mods"][2].update(to=[]), "modification 2 of test must lead from pictures to as many"),
    (lambda d: d["test"]["mods"][2].update({"from": [24], "to": [0]}), "modification 2 .* as many, of 0 to 23"),
    (lambda d: d["test"]["mods"][2].update({"from": [0], "to": [-1]}), "modification 2 .* as many, of 0 to 23"),
    (lambda d: d["test"]["mods"][2].update({"from": [0.0], "to": [1]}), "modification 2 .* as many, of 0 to 23"),
    (lambda d: d["test"]["labels"].pop(), "test has 23 labels for 24 pictures"),
    (lambda d: (d["test"].pop("labels"), d["test"]["objects_img"][0][0].pop("color")), "test is not laid out"),
    (lambda d: d["train"].update(mods=[]), "none of 0 modifications has an answer among 24 pictures"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILED)
def test_a_file_laid_out_otherwise_is_named(root, made, spoil, message):
    data = made["css"](root / "css")
    spoil(data)
    np.save(root / "css" / SCENES, data, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"(?s)\$COMMONSPACE_DATA/css: .*{message}.*Mend it with\n  python data_scr"):
        CSS()


def test_nothing_in_the_file_is_run(root, made, tmp_path):
    class Asks:
        def __reduce__(self):
            return eval, (f"open({str(tmp_path / 'mark')!r}, 'w')",)

    data = made["css"](root / "css")
    data["train"]["mods"][0]["to_str"] = Asks()
    np.save(root / "css" / SCENES, data, allow_pickle=True)
    for read in (CSS, lambda: read_scenes(root / "css" / SCENES)):
        with pytest.raises(ValueError, match=r"asks for builtins\.eval, and was refused"):
            read()
    assert not (tmp_path / "mark").exists()


def test_pictures_missing_altogether_or_damaged_are_named(root, written):
    with pytest.raises(ValueError, match="size is"):
        CSS(size=0)
    path = root / "css/images/css_train_000000.png"
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"css_train_000000\.png is damaged"):
        CSS()
    for path in (root / "css/images").glob("css_test_*"):
        path.unlink()
    with pytest.raises(ValueError, match="none of the 24 test pictures is here"):
        CSS(size=(4, 4))


def test_a_prepared_file_that_was_altered_is_named(root, written):
    write_manifest(root / "css")
    CSS()
    path = root / "css" / SCENES
    path.write_bytes(path.read_bytes().replace(b"make", b"fake", 1))
    with pytest.raises(ValueError, match=r"dup\.npy is altered"):
        CSS()
