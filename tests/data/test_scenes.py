"""The data set: its splits, its novel pairs, its sentences, and the same bytes each time."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from commonspace.data import SceneQueries, Scenes, scene_pictures, scenes
from commonspace.data.scene_chance import draw_scenes
from commonspace.data.scene_edits import sentence
from commonspace.data.scene_grammar import CODES, NOVEL, captions, scene_id
from commonspace.data.scene_pictures import ScenePictures
from commonspace.data.scene_pixels import draw_flat
from commonspace.data.scene_rays import draw_solid
from commonspace.data.vocabulary import Vocabulary, tokenise

SMALL = {"n": 24, "size": 32, "changes": 6}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def parts():
    return Scenes(**SMALL).queries()


# ---- queries -------------------------------------------------------------------------------------------------------


def test_sizes_of_the_default_set(capsys):
    train, validation, test = Scenes(size=32).queries()
    assert [len(part) for part in (train, validation, test)] == [16000, 2000, 2000]
    assert train.images.shape[1:] == (3, 32, 32)
    assert len(train.images) > 16000
    said = capsys.readouterr().out
    assert "16,000 + 2,000 + 2,000 queries" in said
    assert f"{len(train.images):,} + {len(validation.images):,} + {len(test.images):,} pictures" in said
    words = set(Vocabulary.build(train.modification).words)
    assert len(words) == 26
    assert {word for text in test.modification for word in tokenise(text)} == words


def test_queries_fit_their_pictures(parts):
    for part in parts:
        assert isinstance(part, SceneQueries)
        assert torch.equal(part.images, draw_flat(part.scenes, 32))
        assert len(scene_id(part.scenes).unique()) == len(part.scenes) == len(part.images)
        assert part.modification == [sentence(edit) for edit in part.edits]
        assert part.source.tolist() == [i // 6 for i in range(len(part))]
        for i, (source, target, relevant) in enumerate(zip(part.source, part.target, part.relevant, strict=True)):
            assert int(target) in relevant, i
            assert int(source) not in relevant, i
        for source in part.source.unique():
            of_source = (part.source == source).nonzero()[:, 0].tolist()
            assert len({part.modification[i] for i in of_source}) == 6
            assert len(part.target[of_source].unique()) == 6


def test_sentences_that_leave_something_open_have_several_answers():
    part = Scenes(200, size=32).queries()[0]
    several = [i for i, relevant in enumerate(part.relevant) if len(relevant) > 1]
    assert len(several) > 0.05 * len(part)
    assert all(part.modification[i].startswith("add") for i in several)
    answers = torch.tensor([next(row for row in part.relevant[i] if row != part.target[i]) for i in several])
    assert part[several].changed(answers).min() == 1
    assert part[several].kept(answers).min() == 1


def test_no_picture_is_in_two_parts():
    # Of one object there are 432 scenes: many a change of one of them is another one.
    parts = Scenes(60, size=32, changes=10, objects=(1, 1), held_out=60).queries()
    assert len(parts[0].scenes) < 60 * 11
    ids = torch.cat([scene_id(part.scenes) for part in parts])
    assert len(ids.unique()) == len(ids)


def test_a_whole_caption_leaves_the_target_alone(parts):
    several = 0
    for part in parts:
        completed = part.completed()
        assert isinstance(completed, SceneQueries)
        assert completed.modification == [captions(scene)[0] for scene in part.scenes[part.target]]
        assert len(set(part.captions)) == len(part.images)
        assert completed.relevant == part.target[:, None].tolist()
        assert torch.equal(completed.edits, part.edits)
        assert (completed.changed(completed.target) == 1).all()
        assert completed[[5, 2]].modification == [completed.modification[i] for i in (5, 2)]
        several += sum(len(relevant) > 1 for relevant in part.relevant)
    assert several > 0


def test_kept_and_changed_by_loops(parts):
    part = parts[0]
    rng = np.random.default_rng(0)
    answers = torch.from_numpy(rng.integers(0, len(part.images), len(part)))
    kept = part.kept(answers)
    for i in range(len(part)):
        source, target, answer = (part.scenes[row[i]].tolist() for row in (part.source, part.target, answers))
        still = [place for place in range(9) if source[place] and source[place] == target[place]]
        if still:
            assert float(kept[i]) == pytest.approx(sum(answer[p] == source[p] for p in still) / len(still))
        else:
            assert kept[i].isnan()
    for ids, changed in ((part.source, 0), (part.target, 1)):
        assert part.kept(ids).nanmean() == 1
        assert (part.changed(ids) == changed).all()
    with pytest.raises(ValueError, match="answers are ids of pictures"):
        part.kept(answers[:5])


def test_changed_counts_the_joined_edits():
    part = Scenes(20, size=32, edits=(2, 2), changes=4).queries()[0]
    halves = part.changed(part.target.roll(1))
    assert set(halves.tolist()) <= {0.0, 0.5, 1.0}
    assert 0.5 in halves


def test_indexing_keeps_the_pictures(parts):
    part = parts[0]
    some = part[[5, 2]]
    assert isinstance(some, SceneQueries)
    assert torch.equal(some.scenes, part.scenes)
    assert some.images is part.images
    assert torch.equal(some.edits, part.edits[[5, 2]])
    assert some.attributes.shape == (len(part.images), 27)


@pytest.mark.parametrize(("edits", "words"), [(1, (3.5, 5.5)), (2, (8, 12)), (4, (18, 24))])
def test_length_of_the_sentences(edits, words):
    part = Scenes(**SMALL | {"edits": edits}).queries()[0]
    mean = np.mean([len(text.split()) for text in part.modification])
    assert words[0] < mean < words[1]
    assert all(text.count(" and ") == edits - 1 for text in part.modification)


def test_joined_edits_of_several_lengths():
    part = Scenes(**SMALL | {"edits": (1, 4)}).queries()[0]
    joined = {text.count(" and ") + 1 for text in part.modification}
    assert joined == {1, 2, 3, 4}
    assert part.edits.shape[1:] == (4, 7)


# ---- novel pairs ---------------------------------------------------------------------------------------------------


def test_novel_pairs_are_in_every_test_scene_and_nowhere_else(seed):
    made = Scenes(**SMALL, seed=seed, novel=True)
    for of in (made.queries(), made.captioned()):
        novel = [NOVEL[part.scenes.long()].any(dim=1) for part in of]
        assert not novel[0].any()
        assert not novel[1].any()
        assert novel[2].all()
    words = {text for part in made.queries()[:2] for text in part.modification}
    for colour in ("red", "green", "purple", "cyan"):
        assert not any(f"{colour} cube" in text for text in words)


def test_without_novel_all_parts_have_all_pairs():
    train, _, test = Scenes(400, size=32, held_out=400).captioned()
    for part in (train, test):
        assert set(part.scenes[part.scenes > 0].tolist()) == set(range(1, CODES + 1))


def test_the_papers_size():
    made = Scenes.paper(size=32, dimensions=2, changes=2)
    assert [len(sources) for sources in made.sources] == [1000, 125, 1000]
    assert made.novel
    assert Scenes.paper(dimensions=2).changes == 16


# ---- captions ------------------------------------------------------------------------------------------------------


def test_captioned_scenes():
    made = Scenes(**SMALL, objects=(1, 3))
    train, validation, test = made.captioned()
    assert [len(part) for part in (train, validation, test)] == [24, 3, 3]
    assert train.texts == [captions(scene) for scene in train.scenes]
    assert torch.equal(train.images, draw_flat(train.scenes, 32))
    assert torch.equal(train[[4, 1]].scenes, train.scenes[[4, 1]])
    assert torch.equal(made.queries()[0].scenes[:24], train.scenes)


# ---- the same bytes ------------------------------------------------------------------------------------------------

PROGRAM = """
import hashlib
from commonspace.data import Scenes
for dimensions in (2, 3):
    digest = hashlib.sha256()
    for part in Scenes(6, 32, dimensions, edits=(1, 2), seed=3, changes=3, jitter=0.1).queries():
        for values in (part.images, part.scenes, part.source, part.target, part.edits):
            digest.update(values.numpy().tobytes())
        digest.update(repr((part.modification, part.relevant)).encode())
    print(digest.hexdigest())
"""


def test_two_processes_make_the_same_bytes(tmp_path):
    said = []
    for threads in ("1", "2"):
        environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "COMMONSPACE_CACHE": str(tmp_path / threads),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append([line for line in done.stdout.splitlines() if len(line) == 64])
    assert said[0] == said[1]
    assert len(set(said[0])) == 2


def test_dimensions_change_the_pictures_alone():
    solid = Scenes(**SMALL | {"n": 8, "dimensions": 3}).queries()[0]
    flat = Scenes(**SMALL | {"n": 8}).queries()[0]
    assert torch.equal(solid.scenes, flat.scenes)
    assert (solid.modification, solid.relevant) == (flat.modification, flat.relevant)
    assert torch.equal(solid.images, draw_solid(solid.scenes, 32, 0))


def test_another_seed_is_another_set():
    first, other = (Scenes(**SMALL, seed=seed).queries()[0] for seed in (0, 1))
    assert not set(scene_id(first.scenes).tolist()) & set(scene_id(other.scenes).tolist())
    assert first.modification != other.modification


def test_more_scenes_begin_with_the_same():
    few, many = Scenes(**SMALL), Scenes(**SMALL | {"n": 100})
    assert torch.equal(few.sources[0], many.sources[0][:24])


# ---- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [2, 3])
def test_pictures_are_functions_of_their_scene(seed, dimensions):
    codes = draw_scenes(torch.arange(20), seed, 0, (1, 9), torch.arange(1, CODES + 1))
    pictures = ScenePictures(codes, 32, dimensions, seed, jitter=0.125)
    every = pictures[:]
    assert every.shape == (20, 3, 32, 32)
    assert torch.equal(pictures[torch.tensor([7, 3, 7])], every[[7, 3, 7]])
    assert torch.equal(pictures[4], every[4])
    assert torch.equal(pictures[-1], every[-1])
    assert torch.equal(pictures[codes[:, 0] > 20], every[codes[:, 0] > 20])
    assert torch.equal(ScenePictures(codes.flip(0), 32, dimensions, seed, 0.125)[:].flip(0), every)
    assert torch.equal(pickle.loads(pickle.dumps(pictures))[2:4], every[2:4])
    loader = torch.utils.data.DataLoader(pictures, batch_size=6, num_workers=2)
    assert torch.equal(torch.cat(list(loader)), every)
    still = ScenePictures(codes, 32, dimensions, seed)[:]
    assert torch.equal(still, draw_flat(codes, 32) if dimensions == 2 else draw_solid(codes, 32, seed))
    assert not torch.equal(still, every)


def test_solids_are_drawn_once(tmp_path, monkeypatch, capsys):
    codes = draw_scenes(torch.arange(5), 0, 0, (1, 9), torch.arange(1, CODES + 1))
    first = ScenePictures(codes, 32, 3).drawn()
    assert "drawing 5 pictures" in capsys.readouterr().out
    (kept,) = (tmp_path / "cache" / "scenes-pixels").iterdir()

    def never(*_):
        raise AssertionError("drawn again")

    with monkeypatch.context() as patch:
        patch.setattr(ScenePictures, "_draw", never)
        again = ScenePictures(codes, 32, 3).drawn()
        assert torch.equal(again, first)
        for other in ({"size": 33}, {"seed": 1}, {"jitter": 0.1}, {"scenes": codes[1:]}):
            with pytest.raises(AssertionError, match="drawn again"):
                ScenePictures(**{"scenes": codes, "size": 32, "dimensions": 3} | other).drawn()
    again[0] = 0  # in memory alone
    kept.write_bytes(kept.read_bytes()[:1000])
    assert torch.equal(ScenePictures(codes, 32, 3).drawn(), first)
    monkeypatch.setattr(scene_pictures.scene_rays, "__file__", scene_pictures.scene_pixels.__file__)
    ScenePictures(codes, 32, 3).drawn()  # other code draws them: not those that were kept
    assert len(list(kept.parent.iterdir())) == 2


def test_many_pictures_are_drawn_when_asked_for(parts, monkeypatch):
    monkeypatch.setattr(scenes, "IN_MEMORY", 10**5)
    lazy = Scenes(**SMALL).queries()
    assert [isinstance(part.images, ScenePictures) for part in lazy] == [True, False, False]
    assert torch.equal(lazy[0].images[:], parts[0].images)
    assert lazy[0].relevant == parts[0].relevant
    assert isinstance(lazy[0][:3].images, ScenePictures)


# ---- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be a whole number, at least 1; got 0"),
        ({"n": 2.5}, "n must be a whole number"),
        ({"n": True}, "n must be a whole number"),
        ({"changes": 0}, "changes must be a whole number"),
        ({"held_out": -1}, "held_out must be a whole number"),
        ({"size": 31}, "from 32 to 224; got 31"),
        ({"size": 64.0}, "from 32 to 224"),
        ({"dimensions": 4}, "dimensions must be 2"),
        ({"edits": 5}, r"edits is \(fewest, most\), whole numbers from 1 to 4"),
        ({"edits": (2, 1)}, r"edits is \(fewest, most\)"),
        ({"edits": "two"}, r"edits is \(fewest, most\)"),
        ({"objects": (0, 3)}, r"objects is \(fewest, most\), whole numbers from 1 to 9"),
        ({"objects": (3, 10)}, r"objects is \(fewest, most\)"),
        ({"objects": 4}, r"objects is \(fewest, most\)"),
        ({"jitter": 0.2}, "jitter goes from 0 to 0.125"),
        ({"seed": -1}, "seed must be an integer"),
        ({"n": 400, "objects": (1, 1)}, "1 to 1 objects, .* were found: ask for fewer scenes or more objects"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Scenes(**arguments)


def test_too_many_changes_are_refused():
    with pytest.raises(ValueError, match="has not 3000 different changes by 1 to 1 edits: ask for fewer changes"):
        Scenes(1, size=32, changes=3000, objects=(1, 1)).queries()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros((2, 8), dtype=torch.uint8), r"shape \(n, 9\)"),
        (torch.zeros((2, 9)), "whole numbers"),
        (torch.full((2, 9), 49), "from 0 to 48; got 49 to 49"),
        (torch.full((2, 9), -1), "from 0 to 48"),
    ],
)
def test_bad_scenes_are_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        ScenePictures(codes)


def test_queries_need_their_scenes(parts):
    part = parts[0]
    with pytest.raises(ValueError, match="holds the codes of its scenes"):
        SceneQueries(part.images, part.source, part.modification, part.target, part.relevant)
    with pytest.raises(ValueError, match="images has"):
        SceneQueries(
            part.images, part.source, part.modification, part.target, part.relevant, part.scenes[1:], part.edits
        )
