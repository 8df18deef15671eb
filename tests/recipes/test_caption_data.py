"""Captioned pictures for the recipe: which caption is of which picture, which pictures are alike, and every name."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

from commonspace import data
from commonspace.data import FashionProducts, PairedSamples, scene_grammar
from commonspace.data.pictures import Pictures
from commonspace.recipes import caption_data
from commonspace.recipes.caption_data import Captioned, CaptionSplits

spec = importlib.util.spec_from_file_location("written", Path(__file__).parents[1] / "data" / "conftest.py")
written = importlib.util.module_from_spec(spec)
spec.loader.exec_module(written)

PIXELS = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SEVERAL = [["a cat", "one cat", "A cat!"], ["a dog"], ["a cat", "two dogs"], ["a mat", "a mat"]]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A folder for data, beside one for what is kept."""
    monkeypatch.setenv("COMMONSPACE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


# ---- pictures and their captions -------------------------------------------------------------------------------------


def test_one_string_is_one_caption():
    texts = ["a cat", "a dog", "a cat", "a mat"]
    captioned = Captioned.of(PairedSamples(PIXELS, texts))
    assert captioned.captions == texts
    assert captioned.image_of.tolist() == captioned.group.tolist() == [0, 1, 2, 3]
    assert captioned.by_image() == [[text] for text in texts]
    assert len(captioned) == 4
    assert torch.equal(captioned.images, PIXELS)


def test_several_captions_stand_picture_by_picture():
    captioned = Captioned.of(PairedSamples(PIXELS, SEVERAL))
    assert captioned.captions == ["a cat", "one cat", "A cat!", "a dog", "a cat", "two dogs", "a mat", "a mat"]
    assert captioned.image_of.tolist() == [0, 0, 0, 1, 2, 2, 3, 3]
    assert captioned.image_of.dtype == captioned.group.dtype == torch.int64
    assert captioned.group.tolist() == [0, 1, 2, 3]
    assert captioned.by_image() == SEVERAL
    mixed = Captioned.of(PairedSamples(PIXELS, ["a cat", ("a dog", "two dogs"), ["a mat"], "a mat"]))
    assert mixed.by_image() == [["a cat"], ["a dog", "two dogs"], ["a mat"], ["a mat"]]


def test_pictures_of_the_same_text_are_one_group_if_that_is_asked_for():
    titles = PairedSamples(PIXELS, ["Nike Men's T-Shirt", "Nike  men S t shirt!", "Nike Shirt", "nike men's t-shirt 2"])
    assert Captioned.of(titles, same_text=True).group.tolist() == [0, 0, 1, 2]
    assert Captioned.of(titles).group.tolist() == [0, 1, 2, 3]
    whole = PairedSamples(PIXELS, [["a cat", "sits"], ["a cat", "runs"], ["A cat.", "Sits."], ["a cat"]])
    assert Captioned.of(whole, same_text=True).group.tolist() == [0, 1, 0, 2]  # all of the texts, not one of them


def test_the_first_pictures_keep_their_captions():
    captioned = Captioned.of(PairedSamples(PIXELS, SEVERAL), same_text=True)
    part = captioned.first(3)
    assert part.by_image() == SEVERAL[:3]
    assert part.captions == captioned.captions[:6]
    assert (len(part), part.group.tolist()) == (3, [0, 1, 2])
    assert torch.equal(part.images, PIXELS[:3])
    for n in (4, 5, 1000):
        assert captioned.first(n).by_image() == SEVERAL
        assert len(captioned.first(n).images) == 4


def test_the_first_caption_of_each_picture_alone():
    captioned = Captioned.of(PairedSamples(PIXELS, SEVERAL))
    first = captioned.first_captions()
    assert first.captions == [own[0] for own in SEVERAL]
    assert first.image_of.tolist() == [0, 1, 2, 3]
    assert first.by_image() == [own[:1] for own in SEVERAL]
    assert first.images is captioned.images
    assert torch.equal(first.group, captioned.group)
    assert first.first_captions().captions == first.captions
    assert captioned.first(2).first_captions().captions == ["a cat", "a dog"]


def test_of_scenes_the_first_caption_says_everything():
    pairs = data.Scenes(20, 32).captioned()[0]
    captioned = Captioned.of(pairs)
    assert torch.equal(captioned.scenes, pairs.scenes)
    first = captioned.first_captions()
    assert torch.equal(first.scenes, pairs.scenes)
    for scene, own, caption in zip(pairs.scenes, captioned.by_image(), first.captions, strict=True):
        assert caption == max(own, key=len) == scene_grammar.captions(scene)[0]
    assert torch.equal(captioned.first(7).scenes, pairs.scenes[:7])
    assert torch.equal(captioned.first(7).first_captions().scenes, pairs.scenes[:7])
    assert Captioned.of(PairedSamples(PIXELS, SEVERAL)).scenes is None
    assert Captioned.of(PairedSamples(PIXELS, SEVERAL)).first(2).scenes is None


def test_photos_stay_in_their_files(folders):
    written.write_flickr(folders / "flickr8k")
    train = caption_data.load("flickr8k", size=20).train
    part = train.first(2)
    assert isinstance(part.images, Pictures)
    assert len(part.images) == len(part) == 2
    assert torch.equal(part.images[torch.tensor([1, 0])], train.images[torch.tensor([1, 0])])
    assert part.by_image() == train.by_image()[:2]


# ---- the data sets ---------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no data set of captioned pictures is called 'scene'; .*; did you mean 'sce"):
        caption_data.load("scene")
    with pytest.raises(
        ValueError, match=r"there are coco, .*, flickr8k-dev, scenes, scenes-3d, scenes-one, scenes-three, scenes-two$"
    ):
        caption_data.load("xyz")
    assert caption_data.names() == [
        "coco", "fashion-products", "flickr30k", "flickr8k", "flickr8k-dev", "scenes", "scenes-3d", "scenes-one",
        "scenes-three", "scenes-two",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "made"),
    [
        ("scenes", {"seed": 3}, {"n": 3000, "size": 32, "seed": 3}),
        ("scenes", {"size": 48}, {"n": 3000, "size": 48, "seed": 0}),
        ("scenes-3d", {"seed": 3}, {"n": 3000, "size": 64, "seed": 3, "dimensions": 3}),
        ("scenes-3d", {"size": 48}, {"n": 3000, "size": 48, "seed": 0, "dimensions": 3}),
        ("scenes-one", {"seed": 3}, {"n": 345, "size": 32, "seed": 3, "objects": (1, 1)}),
        ("scenes-two", {}, {"n": 3000, "size": 32, "seed": 0, "objects": (2, 2)}),
        ("scenes-three", {"size": 64}, {"n": 3000, "size": 64, "seed": 0, "objects": (3, 3)}),
    ],
)
def test_scenes_are_these(name, given, made, monkeypatch):
    seen = []

    class Few(data.Scenes):
        def __init__(self, **arguments):
            seen.append(arguments)
            super().__init__(**arguments | {"n": 8, "size": 32})

    monkeypatch.setattr(data, "Scenes", Few)
    splits = caption_data.load(name, **given)
    assert seen == [made]
    assert [len(part) for part in vars(splits).values()] == [8, 1, 1]
    for part, pairs in zip(vars(splits).values(), Few(**made).captioned(), strict=True):
        assert torch.equal(part.images, pairs.images)
        assert part.by_image() == pairs.texts
        assert part.image_of.tolist() == [i for i in range(len(pairs)) for _ in range(5)]
        assert part.group.tolist() == list(range(len(pairs)))
        assert torch.equal(part.scenes, pairs.scenes)


@pytest.mark.parametrize("seed", range(5))
def test_of_one_object_there_are_scenes_enough(seed):
    """432 in all: 345 to train on and 43 each for validation and test, none of them twice."""
    splits = caption_data.load("scenes-one", seed)
    assert [len(part) for part in vars(splits).values()] == [345, 43, 43]
    every = torch.cat([part.scenes for part in vars(splits).values()])
    assert len(every.unique(dim=0)) == 431
    assert ((every > 0).sum(dim=1) == 1).all()


@pytest.mark.parametrize(("name", "objects"), [("scenes-two", 2), ("scenes-three", 3)])
def test_of_more_objects_so_many_are_in_each(name, objects, monkeypatch):
    scenes = data.Scenes
    monkeypatch.setattr(data, "Scenes", lambda **arguments: scenes(**arguments | {"n": 50}))
    for part in vars(caption_data.load(name)).values():
        assert ((part.scenes > 0).sum(dim=1) == objects).all()
        assert all(own[0].count(" at ") == objects for own in part.by_image())


def test_scenes_are_of_3000_to_train_on():
    splits = caption_data.load("scenes")
    assert [len(part) for part in vars(splits).values()] == [3000, 375, 375]
    assert len(splits.train.captions) == 15_000
    assert splits.train.images.shape == (3000, 3, 32, 32)


@pytest.mark.parametrize(
    ("name", "write", "counts"),
    [
        ("flickr8k", written.write_flickr, [7, 3, 2]),
        ("flickr30k", lambda folder: written.write_karpathy(folder, "flickr30k"), [8, 4, 3]),
        ("coco", lambda folder: written.write_karpathy(folder, "coco"), [8, 4, 3]),
    ],
)
def test_photos_have_the_captions_of_their_files(name, write, counts, folders):
    write(folders / name)
    photos = {"flickr8k": data.Flickr8k, "flickr30k": data.Flickr30k, "coco": data.Coco}[name](size=(40, 40))
    splits = caption_data.load(name, size=40)
    assert [len(part) for part in vars(splits).values()] == counts
    for part, pairs in zip(vars(splits).values(), (photos.train, photos.validation, photos.test), strict=True):
        assert part.by_image() == pairs.texts
        assert all(len(own) == 5 for own in pairs.texts)
        assert part.group.tolist() == list(range(len(pairs)))
        ids = torch.arange(len(pairs))
        assert torch.equal(part.images[ids], pairs.images[ids])
    assert splits.train.images[torch.tensor([0])].shape == (1, 3, 40, 40)
    assert caption_data.load(name).train.images.size == (224, 224)


def without_pictures(folder: Path, *parts: str) -> None:
    for part in parts:
        for name in (folder / f"Flickr_8k.{part}Images.txt").read_text().split():
            (folder / "Flicker8k_Dataset" / name).unlink()


def test_flickr8k_may_be_tested_on_its_validation_pictures(folders):
    written.write_flickr(folders / "flickr8k")
    without_pictures(folders / "flickr8k", "test")
    photos = data.Flickr8k(size=(20, 20))
    splits = caption_data.load("flickr8k-dev", size=20)
    assert splits.validation is None  # so the last epoch is taken, and none is chosen by what it is tested with
    assert splits.train.by_image() == photos.train.texts
    assert splits.test.by_image() == photos.validation.texts
    assert splits.test.images.places == photos.validation.images.places


@pytest.mark.parametrize(
    ("name", "gone", "message"),
    [
        (
            "flickr8k",
            "test",
            "no test picture of flickr8k is here: .*, or take flickr8k-dev, which is tested on the val",
        ),
        ("flickr8k", "dev", "no validation picture of flickr8k is here: get the whole data set"),
        ("flickr8k", "train", "no training picture of flickr8k is here"),
        ("flickr8k-dev", "dev", "no test picture of flickr8k-dev is here: get the whole data set$"),
    ],
)
def test_a_part_without_a_picture_is_told_before_anything_is_trained(folders, name, gone, message):
    written.write_flickr(folders / "flickr8k")
    without_pictures(folders / "flickr8k", gone)
    with pytest.raises(ValueError, match=message):
        caption_data.load(name, size=20)


@pytest.mark.parametrize("name", ["scenes", "scenes-3d", "scenes-one", "scenes-two", "scenes-three"])
def test_scenes_have_no_features(name):
    with pytest.raises(ValueError, match=f"{name} draws its pictures itself, .*image="):
        caption_data.load(name, features="resnet152")


@pytest.mark.parametrize("name", ["flickr8k", "flickr8k-dev", "flickr30k", "coco", "fashion-products"])
def test_what_is_missing_names_the_command(name, folders):
    script = name.removesuffix("-dev").replace("-", "_")
    with pytest.raises(FileNotFoundError, match=rf"python data_scripts/get_{script}\.py"):
        caption_data.load(name)


def words(title: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\W_]+", title.lower()))


def check_articles(splits: CaptionSplits, products: FashionProducts, n: int) -> None:
    """Titles are captions, the gallery is the pool, and articles of one title are of one group."""
    train, validation, test = products.split()
    assert splits.train.captions == train.texts
    assert splits.validation.captions == validation.texts
    assert splits.test.captions == test.texts[:n]
    for part in (splits.train, splits.validation, splits.test):
        assert part.image_of.tolist() == list(range(len(part)))
    for part in (splits.validation, splits.test):
        groups = {}
        for text, group in zip(part.captions, part.group.tolist(), strict=True):
            groups.setdefault(words(text), set()).add(group)
        assert all(len(own) == 1 for own in groups.values())
        assert len(set.union(*groups.values())) == len(groups)
    assert torch.equal(splits.test.group[:, None] == splits.test.group, products.pool(n)[1])
    assert len(splits.train.group.unique()) == len({words(text) for text in train.texts})
    for a, b in [("train", "validation"), ("train", "test"), ("validation", "test")]:
        one, other = ({words(text) for text in getattr(splits, part).captions} for part in (a, b))
        assert not one & other


def test_articles_of_one_title_are_of_one_group(folders, monkeypatch):
    written.write_fashion(folders / "fashion-products", n=150)
    products = FashionProducts(size=(16, 12))
    asked, pool, n = [], FashionProducts.pool, len(products.split()[2]) - 1

    def small(self, *arguments):
        asked.append(arguments)
        return pool(self, n)

    with monkeypatch.context() as patch:
        patch.setattr(FashionProducts, "pool", small)
        splits = caption_data.load("fashion-products", size=16)
    assert asked == [()]  # the 1,000 of the pool's own default
    check_articles(splits, products, n)
    assert splits.train.images.shape[1:] == (3, 16, 12)
    assert len(splits.test.group.unique()) < n  # there are twins, so that the test can fail


@pytest.mark.realdata
def test_the_real_articles(monkeypatch, tmp_path):
    need("fashion-products", "styles.csv", monkeypatch, tmp_path)
    blank = torch.zeros((1, 3, 1, 1), dtype=torch.uint8)  # 24,136 photos need not be decoded for this
    monkeypatch.setattr(Pictures, "kept", lambda self, name: blank.expand(len(self), 3, *self.size))
    splits = caption_data.load("fashion-products", size=4)
    assert [len(part) for part in vars(splits).values()] == [19_007, 2_511, 1_000]
    check_articles(splits, FashionProducts(size=(4, 3)), 1000)
    of_title = splits.test.group.bincount()
    assert float((of_title * of_title).sum() / 1000) == pytest.approx(1.8, abs=0.05)


@pytest.mark.realdata
def test_the_real_photos(monkeypatch, tmp_path):
    need("flickr8k", "Flickr8k.token.txt", monkeypatch, tmp_path)
    splits = caption_data.load("flickr8k-dev", size=32)
    assert (len(splits.train), len(splits.test)) in [(753, 113), (6000, 1000)]
    assert len(splits.train.captions) == 5 * len(splits.train)
    assert splits.test.images[torch.tensor([0, 7])].shape == (2, 3, 32, 32)


def need(dataset: str, file: str, monkeypatch, tmp_path) -> None:
    """Skip where ``$COMMONSPACE_DATA`` lacks the set; the cache is the test's own."""
    import os

    folders = [Path(path) for path in os.environ.get("COMMONSPACE_DATA", "").split(os.pathsep) if path]
    if not any((folder / dataset / file).is_file() for folder in folders):
        pytest.skip(f"{dataset} is not in $COMMONSPACE_DATA")
    monkeypatch.setenv("COMMONSPACE_CACHE", str(tmp_path / "cache"))
