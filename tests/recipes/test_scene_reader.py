"""The judge of painted pictures is judged: on real pictures, spoilt ones, ones with one mistake, and by loops."""

import math

import pytest
import torch

from commonspace.data.scene_chance import draw_different_scenes, draw_scenes
from commonspace.data.scene_grammar import CODES, PLACES, attributes, code
from commonspace.data.scene_pictures import MAX_JITTER, ScenePictures
from commonspace.recipes import scene_reader
from commonspace.recipes.scene_reader import KINDS, SceneReader, attribute_scores, fit, scene_scores, worn

ALL = torch.arange(1, CODES + 1)
OF_OBJECTS = ("place", "size", "colour", "shape", "object")
NAMES = (*OF_OBJECTS, "nothing else", "scene")


def some_scenes(n: int, seed: int, objects: tuple[int, int] = (1, 3)) -> torch.Tensor:
    return draw_different_scenes(n, seed, 7, objects, ALL, lambda scenes: scenes[:, 0] >= 0)


def of(scenes: torch.Tensor, size: int = 32, **rest) -> torch.Tensor:
    return ScenePictures(scenes, size, **rest)[:]


@pytest.fixture(scope="module")
def reader() -> SceneReader:
    return fit(size=32, n=1500)


@pytest.fixture(scope="module")
def scenes() -> torch.Tensor:
    return some_scenes(400, seed=1)


@pytest.fixture(scope="module")
def pictures(scenes) -> torch.Tensor:
    return of(scenes)


def other(scenes: torch.Tensor, which: int, seed: int = 0) -> torch.Tensor:
    """The scenes with another size (0), colour (1) or shape (2) of the first object of each."""
    place = (scenes > 0).int().argmax(dim=1)
    rows = torch.arange(len(scenes))
    kinds = attributes(scenes)[rows, place].long()
    count = (2, 8, 3)[which]
    step = torch.randint(1, count, (len(scenes),), generator=torch.Generator().manual_seed(seed))
    kinds[:, which] = (kinds[:, which] + step) % count
    changed = scenes.clone()
    changed[rows, place] = code(*kinds.unbind(dim=1)).to(torch.uint8)
    return changed


# ---- the scores, from codes ------------------------------------------------------------------------------------------


def by_loops(read: list[list[int]], asked: list[list[int]], pairs: list[tuple[int, int]]) -> dict[str, float]:
    hits, counts = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)

    def note(name: str, right: bool) -> None:
        hits[name] += right
        counts[name] += 1

    for i, j in pairs:
        for r, a in zip(read[i], asked[j], strict=True):
            if not a:
                note("nothing else", not r)
                continue
            # 1 + (size * 8 + colour) * 3 + shape
            mine, wanted = ([(c - 1) // 24, (c - 1) // 3 % 8, (c - 1) % 3] if c else [None] * 3 for c in (r, a))
            note("place", r > 0)
            for name, m, w in zip(("size", "colour", "shape"), mine, wanted, strict=True):
                note(name, m == w)
            note("object", r == a)
        note("scene", read[i] == asked[j])
    return {name: hits[name] / counts[name] for name in NAMES}


@pytest.mark.parametrize("seed", range(6))
def test_scores_and_chance_are_those_of_loops(seed):
    rng = torch.Generator().manual_seed(seed)
    n = (2, 3, 7, 20, 40, 60)[seed]
    asked = draw_scenes(torch.arange(n), seed, 3, (1, 1) if seed == 4 else (0, 6), ALL[:: 6 if seed == 4 else 1])
    asked[0, 4] = 9
    read = torch.where(torch.rand(n, 9, generator=rng) < 0.7, asked, asked.flip(0))
    near = torch.where(torch.rand(n, generator=rng) < 0.5, 0, 1)[:, None]  # and half of them wrong in some object
    read = torch.where((near == 1) & (read > 0), (read + 2).clamp(max=CODES), read)
    found = scene_scores(read, asked)
    own = by_loops(read.tolist(), asked.tolist(), [(i, i) for i in range(n)])
    others = by_loops(read.tolist(), asked.tolist(), [(i, j) for i in range(n) for j in range(n) if i != j])
    expected = own | {f"chance/{name}": value for name, value in others.items()}
    assert found == pytest.approx(expected, abs=1e-12)


def test_few_different_scenes_are_right_by_chance_as_often_as_they_come():
    asked = torch.zeros(6, 9, dtype=torch.uint8)
    asked[:, 0] = torch.tensor([5, 5, 5, 7, 7, 9])
    found = scene_scores(asked, asked)
    assert found["scene"] == found["object"] == 1
    assert found["chance/scene"] == found["chance/object"] == pytest.approx((3 * 2 + 2 * 1) / (6 * 5))
    assert found["chance/place"] == found["chance/nothing else"] == 1


def test_where_every_place_is_asked_for_nothing_else_is_undefined():
    asked = some_scenes(5, 0, (9, 9))
    found = scene_scores(asked, asked)
    assert math.isnan(found["nothing else"])
    assert math.isnan(found["chance/nothing else"])
    assert all(found[name] == 1 for name in OF_OBJECTS)


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_chance_of_unrelated_scenes_is_the_product_of_the_guesses(objects):
    """An object is in k of 9 places; there is one of 2 sizes, 8 colours and 3 shapes."""
    asked = draw_scenes(torch.arange(4000), 5, 1, (objects, objects), ALL)
    found = scene_scores(draw_scenes(torch.arange(4000), 5, 2, (objects, objects), ALL), asked)
    place = objects / 9
    expected = {"place": place, "size": place / 2, "colour": place / 8, "shape": place / 3, "object": place / 48}
    expected["nothing else"] = 1 - place
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=4 * (value / 4000) ** 0.5)  # four standard errors and more
        assert found[f"chance/{name}"] == pytest.approx(value, rel=0.06)
    assert found["scene"] < 0.01


@pytest.mark.parametrize(
    ("read", "asked", "message"),
    [
        (torch.ones(3, 9, dtype=torch.int64), torch.ones(2, 9, dtype=torch.int64), r"\(3, 9\) read and \(2, 9\) asked"),
        (torch.ones(1, 9, dtype=torch.int64), torch.ones(1, 9, dtype=torch.int64), "two or more"),
        (torch.ones(3, 9, dtype=torch.int64), torch.zeros(3, 9, dtype=torch.int64), "with 0 objects"),
        (torch.ones(3, 9), torch.ones(3, 9, dtype=torch.int64), "whole numbers of shape"),
        (torch.full((3, 9), 49), torch.ones(3, 9, dtype=torch.int64), "from 0 to 48; got 49"),
        (torch.ones(3, 8, dtype=torch.int64), torch.ones(3, 9, dtype=torch.int64), r"\(n, 9\)"),
    ],
)
def test_bad_codes_are_named(read, asked, message):
    with pytest.raises(ValueError, match=message):
        scene_scores(read, asked)


# ---- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objects", [(1, 1), (1, 3), (1, 5), (9, 9)])
def test_it_reads_real_pictures(reader, objects):
    scenes = some_scenes(300, 5, objects)
    found = attribute_scores(reader, of(scenes), scenes)
    assert min(found[name] for name in OF_OBJECTS) >= 0.995
    assert found["scene"] >= 0.99
    shifted = attribute_scores(reader, of(scenes, jitter=MAX_JITTER), scenes)
    assert min(shifted[name] for name in OF_OBJECTS) >= 0.98


def test_it_knows_the_pictures_it_was_not_shown(reader):
    assert reader.real.keys() == scene_scores(torch.ones(2, 9).long(), torch.ones(2, 9).long()).keys()
    assert min(reader.real[name] for name in OF_OBJECTS) >= 0.98
    assert reader.real["chance/colour"] < 0.1


def test_a_mistake_lowers_the_score_of_what_is_wrong_and_no_other(reader, scenes, pictures):
    full = attribute_scores(reader, pictures, scenes)
    lost = len(scenes) / int((scenes > 0).sum())  # one object of each scene
    for which, name in enumerate(("size", "colour", "shape")):
        found = attribute_scores(reader, of(other(scenes, which)), scenes)
        for kept in {"place", "nothing else", "size", "colour", "shape"} - {name}:
            assert found[kept] == pytest.approx(full[kept], abs=0.005)
        assert found[name] == pytest.approx(full[name] - lost, abs=0.005)
        assert found["object"] == pytest.approx(full["object"] - lost, abs=0.005)
        assert found["scene"] < 0.01


def test_an_object_too_many_and_an_object_elsewhere(reader, scenes, pictures):
    rows, free = torch.arange(len(scenes)), (scenes == 0).int().argmax(dim=1)
    more = scenes.clone()
    more[rows, free] = 20
    found = attribute_scores(reader, of(more), scenes)
    assert min(found[name] for name in OF_OBJECTS) >= 0.995
    assert found["nothing else"] == pytest.approx(1 - len(scenes) / int((scenes == 0).sum()), abs=0.005)
    assert found["scene"] < 0.01
    first = (scenes > 0).int().argmax(dim=1)
    moved = scenes.clone()
    moved[rows, free], moved[rows, first] = scenes[rows, first], 0
    found = attribute_scores(reader, of(moved), scenes)
    lost = len(scenes) / int((scenes > 0).sum())
    assert all(found[name] == pytest.approx(1 - lost, abs=0.005) for name in OF_OBJECTS)


def test_pictures_of_other_scenes_are_at_chance(reader, scenes, pictures):
    full = attribute_scores(reader, pictures, scenes)
    order = torch.randperm(len(scenes), generator=torch.Generator().manual_seed(0))
    found = attribute_scores(reader, pictures[order], scenes)
    for name in ("place", "size", "colour", "shape", "object", "scene"):
        assert found[name] == pytest.approx(full[f"chance/{name}"], abs=0.05)
        assert full[name] > 2 * full[f"chance/{name}"]
    every = [attribute_scores(reader, pictures.roll(k, 0), scenes)["colour"] for k in range(1, 400, 40)]
    assert sum(every) / len(every) == pytest.approx(full["chance/colour"], abs=0.015)


def test_blank_pictures_have_nothing_and_noise_is_no_scene(reader, scenes, pictures):
    blank = attribute_scores(reader, torch.full_like(pictures, 255), scenes)
    assert all(blank[name] == 0 for name in (*OF_OBJECTS, "scene"))
    assert blank["nothing else"] == blank["chance/nothing else"] == 1
    noise = torch.randint(0, 256, pictures.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = attribute_scores(reader, noise, scenes)
    assert max(found["object"], found["scene"]) < 0.15
    assert found["colour"] < 0.4
    mean = pictures.float().mean(dim=0).round().byte().expand_as(pictures)  # what a painter who heeds nothing paints
    found = attribute_scores(reader, mean, scenes)
    assert found["colour"] < 0.3


def test_worn_pictures_are_read_nearly_as_well(reader, scenes, pictures):
    torch.manual_seed(0)
    spoilt = (worn(pictures.float() / 255) * 255).round().byte()
    found = attribute_scores(reader, spoilt, scenes)
    assert min(found[name] for name in ("place", "nothing else", "size", "colour")) >= 0.98
    assert found["shape"] >= 0.96


# ---- how it is made --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "dimensions"), [(32, 2), (33, 2), (64, 2), (128, 2), (32, 3), (64, 3)])
def test_a_place_s_part_holds_its_object(size, dimensions):
    """Whatever stands in one place alone changes no pixel outside its part but for its shadow, and flat none at all."""
    reader = SceneReader(size, dimensions)
    for place in range(9):
        scene = torch.zeros(2, 9, dtype=torch.uint8)
        scene[:, place] = torch.tensor([code(1, 1, 0), code(1, 1, 2)])  # big, red, cube and cylinder
        drawn = of(scene, size, dimensions=dimensions, jitter=MAX_JITTER).int()
        red = drawn[:, 0] - drawn[:, 1:].amax(dim=1) > 60
        rows, columns = reader.parts[place]
        assert red[:, rows, columns].sum() == red.sum() > 0
        if dimensions == 2:
            assert (drawn < 255).any(dim=1)[:, rows, columns].sum() == (drawn < 255).any(dim=1).sum()


def test_a_flat_place_is_read_from_its_part_alone(reader, scenes, pictures):
    before = reader(pictures[:50])
    changed = pictures[:50].clone()
    rows, columns = reader.parts[4]
    changed[:, :, rows, columns] = 255 - changed[:, :, rows, columns]
    after = reader(changed)
    away = torch.arange(9) != 4
    for name, count in KINDS.items():
        assert before[name].shape == (50, 9, count)
        assert torch.allclose(before[name][:, away], after[name][:, away], atol=1e-5)
        assert (before[name][:, 4] - after[name][:, 4]).abs().max() > 0.1


def test_losses_are_those_of_its_logits(reader, scenes, pictures):
    x, y = pictures[:12], scenes[:12]
    reader.eval()
    logits, kinds = {name: values.detach() for name, values in reader(x).items()}, attributes(y)
    expected = {name: [] for name in KINDS}
    for i in range(12):
        for place in range(9):
            there = int(y[i, place] > 0)
            expected["filled"].append(-logits["filled"][i, place].log_softmax(0)[there])
            for k, name in enumerate(("size", "colour", "shape")):
                if there:
                    expected[name].append(-logits[name][i, place].log_softmax(0)[int(kinds[i, place, k])])
    means = {name: float(torch.stack(values).mean()) for name, values in expected.items()}
    found = {name: float(value.detach()) for name, value in reader.losses(x, y).items()}
    assert found == pytest.approx(means | {"loss": sum(means.values())}, rel=1e-4, abs=1e-6)
    assert float(reader.losses(x, other(y, 1))["colour"].detach()) > found["colour"] + 1


def test_wear_is_blur_tint_and_noise(monkeypatch):
    x = torch.rand(40, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    spoilt = worn(x)
    assert 0 <= spoilt.min() < spoilt.max() <= 1
    away = (spoilt - x).abs().mean(dim=(1, 2, 3))
    assert away.min() < 0.5 * away.max()  # each picture draws its own
    for name in ("BLUR", "TINT", "NOISE"):
        monkeypatch.setattr(scene_reader, name, 0.0)
    assert torch.equal(worn(x), x)
    monkeypatch.setattr(scene_reader, "BLUR", 1.0)
    blurred = worn(x)
    smooth = torch.stack([x[..., r : r + 3, c : c + 3].mean(dim=(2, 3)) for r in range(7) for c in range(7)], dim=2)
    share = (blurred - x)[..., 1:-1, 1:-1].flatten(2) / (smooth - x[..., 1:-1, 1:-1].flatten(2))
    share = share.flatten(1)
    assert torch.allclose(share.median(dim=1).values, share[:, 0], atol=1e-3)
    assert 0 <= share[:, 0].min() < 0.2 < 0.8 < share[:, 0].max() <= 1 + 1e-3
    monkeypatch.setattr(scene_reader, "BLUR", 0.0)
    monkeypatch.setattr(scene_reader, "TINT", 0.5)
    flat = worn(torch.zeros(200, 3, 4, 4))
    assert torch.equal(flat, flat[..., :1, :1].expand_as(flat))
    assert 0.4 < flat.max() <= 0.5
    assert (flat[:, 0] != flat[:, 1]).any()
    monkeypatch.setattr(scene_reader, "TINT", 0.0)
    monkeypatch.setattr(scene_reader, "NOISE", 0.2)
    assert 0.15 < (worn(torch.full((200, 3, 16, 16), 0.5)) - 0.5).std(dim=(1, 2, 3)).max() < 0.21


def test_the_same_seed_gives_the_same_reader_and_learns_from_its_own_scenes_alone(monkeypatch):
    shown = []
    learn = SceneReader.losses

    def note(self, pictures, scenes, wear=False):
        assert wear
        shown.append(scenes)
        return learn(self, pictures, scenes, wear)

    monkeypatch.setattr(SceneReader, "losses", note)
    monkeypatch.setattr(scene_reader, "HELD_BACK", 40)
    before = torch.get_rng_state()
    one, two, three = (fit(n=70, epochs=2, objects=(2, 4), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert not one.training
    same = [torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)]
    assert all(same)
    assert one.real == two.real
    assert not torch.equal(one.network[0].weight, three.network[0].weight)
    drawn = draw_different_scenes(110, 3, scene_reader.STREAM, (2, 4), ALL, lambda scenes: scenes[:, 0] >= 0)
    learnt = {tuple(row) for batch in shown[:4] for row in batch.tolist()}
    assert len(shown) == 12
    assert learnt <= {tuple(row) for row in drawn[:70].tolist()}
    kept = of(drawn[70:], seed=3, jitter=MAX_JITTER)
    assert one.real == attribute_scores(one, kept, drawn[70:])


def test_it_is_saved_and_loaded(reader, pictures, tmp_path):
    reader.save(tmp_path / "reader")
    loaded = SceneReader.load(tmp_path / "reader")
    assert loaded.config == reader.config
    assert loaded.real == reader.real
    assert torch.equal(loaded.read(pictures), reader.read(pictures))
    assert not loaded.training
    (tmp_path / "reader" / "weights.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="damaged"):
        SceneReader.load(tmp_path / "reader")


def test_what_is_read_does_not_depend_on_the_batch(reader, pictures, monkeypatch):
    together = reader.read(pictures)
    assert together.dtype == torch.uint8
    assert together.shape == (len(pictures), len(PLACES))
    monkeypatch.setattr(scene_reader, "AT_ONCE", 63)
    reader.train()
    assert torch.equal(reader.read(pictures.numpy()), together)
    assert reader.training  # as it was
    reader.eval()
    assert torch.equal(reader.read(pictures[7:8]), together[7:8])


def test_it_reads_solids(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path))
    monkeypatch.setattr(scene_reader, "HELD_BACK", 60)
    reader = fit(size=32, dimensions=3, objects=(1, 4), n=450, epochs=10)
    assert min(reader.real[name] for name in ("place", "nothing else")) > 0.98
    assert min(reader.real[name] for name in ("size", "colour")) > 0.9
    assert reader.real["shape"] > 0.5  # so few show little of it: a third is chance


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 20}, "from 32 to 224; got 20"),
        ({"dimensions": 4}, "dimensions must be 2"),
        ({"objects": (0, 3)}, r"objects is \(fewest, most\) from 1 to 9.* got objects=\(0, 3\)"),
        ({"objects": (3, 2)}, r"got objects=\(3, 2\)"),
        ({"objects": (3, 10)}, r"got objects=\(3, 10\)"),
        ({"n": 31}, "n is at least 32 .* n=31"),
        ({"epochs": 0}, "epochs at least 1; .* epochs=0"),
        ({"objects": (1, 1)}, "not 3,500 more scenes with 1 to 1 objects"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_of_fit_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit(**arguments)


@pytest.mark.parametrize(
    "pictures",
    [
        torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        torch.zeros(2, 3, 32, 32),
        torch.zeros(3, 32, 32, dtype=torch.uint8),
        torch.zeros(0, 3, 32, 32, dtype=torch.uint8),
    ],
)
def test_bad_pictures_are_named(pictures):
    with pytest.raises(ValueError, match=r"uint8 pictures \(n, 3, 32, 32\); got .*\* 127.5"):
        SceneReader(32).read(pictures)


def test_floats_become_bytes_as_the_message_says(pictures):
    floats = pictures.float() / 127.5 - 1
    assert torch.equal(((floats + 1) * 127.5).round().byte(), pictures)
