"""FashionIQ: the protocols, each with its gallery, sentences and rule for the source; the owners' files."""

import inspect
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commonspace.data import ComposedQueries, DrawnQueries, FashionIQ
from commonspace.data.download import write_manifest
from commonspace.data.fashion_iq_files import read_captions, read_list
from commonspace.data.fashion_iq_queries import FORMS, PROTOCOLS, FashionIQQueries, Triplet, joined
from commonspace.metrics import evaluate

CATEGORIES = ("dress", "shirt", "toptee")
SIZE = (40, 30)


def spoken(entry: dict) -> list[str]:
    return [caption.strip() for caption in entry["captions"] if caption.strip()]


def asked(wrote: dict, category: str, part: str) -> list[dict]:
    """The entries that have a word."""
    return [entry for entry in wrote["queries"][category, part] if spoken(entry)]


@pytest.fixture
def loaded(root, made, seed):
    """What was written, and the loader."""
    return made["fashion-iq"](root / "fashion-iq", seed), FashionIQ(size=SIZE)


# ---- protocols ------------------------------------------------------------------------------------------------------

SENTENCES = {
    "original": [lambda category, a, b: f"{a} and {b}"],
    "original-excluded": [lambda category, a, b: f"{a} and {b}"],
    "cosmo": [lambda category, a, b: f"{a} and {b}", lambda category, a, b: f"{b} and {a}"],
    "union": [lambda category, a, b: f"{category} {a} and it {b}".lower()],
}


@pytest.mark.parametrize("protocol", SENTENCES)
def test_a_protocol_has_its_galleries_and_sentences(loaded, protocol):
    wrote, data = loaded
    found = data.evaluations(protocol=protocol)
    galleries = {"union": CATEGORIES} if protocol == "union" else {name: [name] for name in CATEGORIES}
    assert list(found) == list(galleries)
    for name, categories in galleries.items():
        queries = found[name]
        assert isinstance(queries, ComposedQueries)
        assert queries.protocol == protocol
        assert queries.exclude_source is (protocol == "original-excluded")
        pictures = [picture for category in categories for picture in wrote["lists"][category, "val"]]
        assert queries.names == list(dict.fromkeys(pictures))
        assert len(queries.images) == len(queries.names) == (19 if protocol == "union" else len(pictures))
        rows = iter(range(len(queries)))
        for category in categories:
            for entry in asked(wrote, category, "val"):
                for sentence in SENTENCES[protocol]:
                    i = next(rows)
                    assert queries.names[queries.source[i]] == entry["candidate"]
                    assert queries.names[queries.target[i]] == entry["target"]
                    assert queries.relevant[i] == [int(queries.target[i])]
                    assert queries.category[i] == category
                    if len(spoken(entry)) == 2:
                        assert queries.modification[i] == sentence(category, *spoken(entry))
        assert list(rows) == []


def test_a_cut_keeps_its_protocol(loaded):
    queries = loaded[1].evaluations(protocol="union")["union"]
    of_shirts = queries[[category == "shirt" for category in queries.category]]
    assert of_shirts.category == ["shirt"] * len(of_shirts)
    assert 0 < len(of_shirts) < len(queries)
    assert (of_shirts.protocol, of_shirts.exclude_source) == ("union", False)
    assert of_shirts.names == queries.names


def test_the_source_in_the_gallery_makes_the_difference(loaded):
    """Queries that are their own source's picture, nearest to it and next to the target: right only without it."""
    found = {}
    for protocol in ("original", "original-excluded"):
        queries = loaded[1].evaluations(protocol=protocol)["dress"]
        gallery = torch.eye(len(queries.images))
        query = gallery[queries.source] + 0.5 * gallery[queries.target]
        exclude = queries.source if queries.exclude_source else None
        found[protocol] = evaluate(query, gallery, relevant=queries.relevant, exclude=exclude)
    assert (found["original"]["R@1"], found["original"]["R@5"]) == (0, 1)
    assert found["original-excluded"]["R@1"] == 1


def test_the_protocol_must_be_named(loaded):
    data = loaded[1]
    assert inspect.signature(data.evaluations).parameters["protocol"].kind is inspect.Parameter.KEYWORD_ONLY
    with pytest.raises(TypeError, match="protocol"):
        data.evaluations()
    known = "'original', 'original-excluded', 'cosmo', 'union'"
    with pytest.raises(ValueError, match=f"protocol must be one of {known}; got 'val-split'"):
        data.evaluations(protocol="val-split")
    assert {name: kind.protocol for name, kind in PROTOCOLS.items()} == {name: name for name in PROTOCOLS}


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_caption_leaves_the_other_alone(form):
    for captions in (("", "Is Red "), (" Is Red", " ")):
        expected = "shirt is red" if form == "release" else "Is Red"
        assert joined(Triplet("shirt", "A", "B", captions), form) == expected


# ---- training -------------------------------------------------------------------------------------------------------


def test_training_draws_the_order_of_the_captions(loaded):
    wrote, data = loaded
    training = data.training()
    assert isinstance(training, DrawnQueries)
    entries = [entry for category in CATEGORIES for entry in asked(wrote, category, "train")]
    assert len(training) == len(entries) == 20 == len(training.texts)
    orders = np.zeros((40, len(entries)))
    for epoch in range(40):
        queries = training.draw(5, epoch)
        for i, entry in enumerate(entries):
            said = spoken(entry)
            assert queries.modification[i] in (" and ".join(said), " and ".join(said[::-1]))
            orders[epoch, i] = queries.modification[i] != " and ".join(said)
            assert queries.names[queries.source[i]] == entry["candidate"]
            assert queries.names[queries.target[i]] == entry["target"]
    both = np.array([len(spoken(entry)) == 2 for entry in entries])
    assert both.sum() == 19
    assert ((orders.mean(0)[both] > 0.15) & (orders.mean(0)[both] < 0.85)).all()
    assert 0.4 < orders[:, both].mean() < 0.6
    assert (
        training.draw(5, 7).modification == training.draw(5, 7).modification == data.training().draw(5, 7).modification
    )
    assert training.draw(5, 7).modification != training.draw(6, 7).modification


@pytest.mark.parametrize("form", FORMS)
def test_training_in_one_form_for_all(loaded, form):
    wrote, data = loaded
    queries = data.training(form)
    assert isinstance(queries, FashionIQQueries)
    triplets = [
        Triplet(category, entry["candidate"], entry["target"], tuple(entry["captions"]))
        for category in CATEGORIES
        for entry in asked(wrote, category, "train")
    ]
    assert queries.modification == [joined(triplet, form) for triplet in triplets]
    assert len(queries.images) == 28  # ten, ten and ten less one on two lists, less one that dresses lack


def test_an_unknown_form_or_category_is_refused(loaded):
    with pytest.raises(ValueError, match="form must be one of 'both', 'and', 'reversed', 'release'; got 'all'"):
        loaded[1].training("all")
    for categories in ([], ["dress", "trousers"]):
        with pytest.raises(ValueError, match="categories are some of 'dress', 'shirt', 'toptee'; got"):
            FashionIQ(categories=categories)


def test_one_category_alone(loaded, capsys):
    wrote = loaded[0]
    data = FashionIQ(size=SIZE, categories=["shirt"])
    assert list(data.evaluations(protocol="original")) == ["shirt"]
    assert data.evaluations(protocol="union")["union"].names == wrote["lists"]["shirt", "val"]
    assert set(data.training("and").category) == {"shirt"}
    assert "dress" not in capsys.readouterr().out.split("shirt", 1)[1]


# ---- the files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["images", "images.zip"])
def test_the_owners_files_are_read(root, made, seed, kind, capsys):
    folder = root / "fashion-iq"
    wrote = made["fashion-iq"](folder, seed)
    photos = {path.stem: path.read_bytes() for path in (folder / "images").iterdir()}
    if kind == "images.zip":
        made["zip"](folder / "images", folder / kind, "images/")
        (folder / "images").rename(folder / "elsewhere")
    data = FashionIQ(size=SIZE)
    assert capsys.readouterr().out == (
        "FashionIQ: pictures 40x30, from $COMMONSPACE_DATA/fashion-iq\n"
        "  dress train: 9 of 9 pictures are here; 7 of 7 queries\n"
        "  dress val: 6 of 6 pictures are here; 4 of 4 queries\n"
        "  shirt train: 10 of 10 pictures are here; 7 of 7 queries\n"
        "  shirt val: 7 of 7 pictures are here; 4 of 4 queries\n"
        "  toptee train: 10 of 10 pictures are here; 6 of 7 queries\n"
        "  toptee val: 7 of 7 pictures are here; 3 of 4 queries\n"
    )
    assert data.missing == {"train": [], "val": []}
    queries = data.evaluations(protocol="original")["toptee"]
    expected = [np.asarray(Image.open(io.BytesIO(photos[name]))) for name in wrote["lists"]["toptee", "val"]]
    found = queries.images[torch.arange(7)].permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(found, np.stack(expected))


def test_pictures_that_are_not_there_are_left_out(root, made, seed, capsys):
    folder = root / "fashion-iq"
    wrote = made["fashion-iq"](folder, seed)
    gone = [wrote["queries"]["dress", "val"][0]["target"], wrote["lists"]["shirt", "train"][-1]]
    for path in (folder / "images").iterdir():
        if path.stem in gone:
            path.unlink()
    data = FashionIQ(size=SIZE)
    assert data.missing == {"train": [gone[1]], "val": [gone[0]]}
    queries = data.evaluations(protocol="original")["dress"]
    kept = [e for e in wrote["queries"]["dress", "val"] if gone[0] not in (e["candidate"], e["target"])]
    assert queries.names == [name for name in wrote["lists"]["dress", "val"] if name != gone[0]]
    assert [queries.names[row] for row in queries.target] == [entry["target"] for entry in kept]
    out = capsys.readouterr().out
    assert f"  dress val: 5 of 6 pictures are here; {len(kept)} of 4 queries\n" in out
    assert "  shirt train: 9 of 10 pictures" in out
    assert "  toptee train: 9 of 10 pictures" in out
    for path in (folder / "images").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="no picture of the lists is in images/"):
        FashionIQ()


def test_relative_captions_cannot_be_completed(loaded):
    data = loaded[1]
    with pytest.raises(ValueError, match=r"FashionIQTraining has no captions .*so its queries cannot be completed"):
        data.training().completed()
    for protocol in PROTOCOLS:
        for queries in data.evaluations(protocol=protocol).values():
            with pytest.raises(ValueError, match=f"{type(queries).__name__} has no captions .*keep their modificat"):
                queries.completed()


def test_what_is_missing_names_the_command(root):
    with pytest.raises(FileNotFoundError, match=r"python data_scripts/get_fashion_iq\.py"):
        FashionIQ()


LISTED = "image_splits/split.dress.val.json"
CAPTIONS = "captions/cap.dress.val.json"


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        (LISTED, lambda text: text[:-9], r"split\.dress\.val\.json is damaged \("),
        (LISTED, lambda text: "{}", r"split\.dress\.val\.json must hold a list that is not empty"),
        (
            LISTED,
            lambda text: json.dumps(["../evil"]),
            r"entry 0: a picture's name is letters and digits; got '\.\./evil'",
        ),
        (LISTED, lambda text: json.dumps([3]), "entry 0: a picture's name is letters and digits; got '3'"),
        (LISTED, lambda text: json.dumps([*json.loads(text), json.loads(text)[0]]), "has a picture twice"),
        (LISTED, lambda text: '["B1"]', r"cap\.dress\.val\.json, entry 0: the picture 'B.*' is not in the list"),
        (CAPTIONS, lambda text: "[]", "must hold a list that is not empty"),
        (CAPTIONS, lambda text: text.replace("candidate", "source"), "entry 0 must have candidate, target and two cap"),
        (CAPTIONS, lambda text: json.dumps([e | {"captions": ["one"]} for e in json.loads(text)]), "two captions; got"),
        (CAPTIONS, lambda text: json.dumps([e | {"captions": "ab"} for e in json.loads(text)]), "two captions; got"),
    ],
)
def test_damaged_files_are_named(root, made, file, spoil, message):
    made["fashion-iq"](root / "fashion-iq")
    path = root / "fashion-iq" / file
    path.write_text(spoil(path.read_text()))
    with pytest.raises(ValueError, match=rf"(?s){message}.*Mend it with\n  python data_scripts/get_fashion_iq\.py"):
        FashionIQ()


def test_a_missing_or_altered_file_is_named(root, made):
    folder = root / "fashion-iq"
    made["fashion-iq"](folder)
    write_manifest(folder)
    FashionIQ()
    path = folder / CAPTIONS
    path.write_text(path.read_text().replace("sleeve", "collar"))
    with pytest.raises(ValueError, match=r"cap\.dress\.val\.json is altered"):
        FashionIQ()
    (folder / "manifest.json").unlink()
    path.unlink()
    with pytest.raises(ValueError, match=r"cap\.dress\.val\.json is missing"):
        FashionIQ()


@pytest.mark.realdata
def test_the_real_training_files():
    folders = [Path(p) / "fashion-iq" for p in os.environ.get("COMMONSPACE_DATA", "").split(os.pathsep) if p]
    files = {path.name: path for folder in folders for path in folder.rglob("*.train.json")}
    if not files:
        pytest.skip("fashion-iq is not in $COMMONSPACE_DATA")
    lists, counts, empty = {}, {}, {}
    for category in CATEGORIES:
        lists[category] = read_list(files[f"split.{category}.train.json"])
        triplets = read_captions(files[f"cap.{category}.train.json"], category, {*lists[category]})
        counts[category] = len(lists[category]), len(triplets)
        empty[category] = sum(not all(caption.strip() for caption in triplet.captions) for triplet in triplets)
        for form in FORMS:
            sentences = [joined(triplet, form) for triplet in triplets]
            assert all(text == text.strip() and text not in ("", category) for text in sentences)
    assert counts == {"dress": (11452, 5985), "shirt": (19036, 5988), "toptee": (16121, 6027)}
    assert empty == {"dress": 0, "shirt": 0, "toptee": 12}
    assert len({*lists["shirt"]} & {*lists["toptee"]}) == 1180
    assert len({name for own in lists.values() for name in own}) == 45429
