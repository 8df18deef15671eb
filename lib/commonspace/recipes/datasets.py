"""The data sets a recipe can be run on, by name: training, validation and test pairs."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from commonspace.data import PairedFeatures, PairedSamples, digits_halves

Pairs = PairedFeatures | PairedSamples


@dataclass(frozen=True)
class Splits:
    """``validation`` may be None: the last epoch is then taken.

    ``relevant``: (n_test, n_test) bool where more than the paired item is right (identical titles), else None."""

    train: Pairs
    validation: Pairs | None
    test: Pairs
    relevant: torch.Tensor | None = None


def names() -> list[str]:
    """The data sets there are."""
    return sorted(_LOADERS)


def load(name: str, seed: int = 0) -> Splits:
    """The data set ``name``; ``seed`` draws what its owners left open. Raises ValueError for an unknown name."""
    if name not in _LOADERS:
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no data set is called {name!r}; there are {', '.join(names())}{hint}")
    return _LOADERS[name](seed)


def views(pairs: Pairs) -> tuple:
    """(images, texts) of either container."""
    return (pairs.image, pairs.text) if isinstance(pairs, PairedFeatures) else (pairs.images, pairs.texts)


def as_features(splits: Splits, n_components: int = 128) -> Splits:
    """Pictures and texts as feature rows, for models that read only these; feature rows are left as they are.

    See `feature_reader`, which is fitted to the training pairs.
    """
    if isinstance(splits.train, PairedFeatures):
        return splits
    read = feature_reader(splits.train, n_components)
    parts = (None if pairs is None else read(pairs) for pairs in (splits.train, splits.validation, splits.test))
    return Splits(*parts, splits.relevant)


def feature_reader(train: PairedSamples, n_components: int = 128) -> Callable[[PairedSamples], PairedFeatures]:
    """A function from pictures and texts to feature rows, fitted to training pairs.

    A picture becomes its principal components at 24x24 and a colour histogram, a text the leading singular components
    of its TF-IDF vector: ``n_components`` of each.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    from commonspace.encoders import PixelFeatures

    sample = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:5000]
    pixels = PixelFeatures(n_components, size=24).fit(train.images[sample])
    tfidf = TfidfVectorizer(min_df=2).fit(train.texts)
    words = TruncatedSVD(n_components, random_state=0).fit(tfidf.transform(train.texts))

    def read(pairs: PairedSamples) -> PairedFeatures:
        blocks = [torch.arange(i, min(i + 2000, len(pairs))) for i in range(0, len(pairs), 2000)]
        image = torch.cat([pixels.transform(pairs.images[block]) for block in blocks])
        text = torch.from_numpy(words.transform(tfidf.transform(pairs.texts))).float()
        return PairedFeatures(image, text, pairs.label, pairs.classes)

    return read


def held_out(train: Pairs, share: float, seed: int) -> tuple[Pairs, Pairs]:
    """The training pairs without a random ``share`` of them, and that share: for validation."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    cut = round(share * len(train))
    return train[order[cut:]], train[order[:cut]]


def _digits(seed: int) -> Splits:
    """1,300 training pairs, none for validation, and 497 test pairs."""
    train, test = digits_halves(1300, seed)
    return Splits(train, None, test)


def _emoji(seed: int) -> Splits:
    """Pixel features and sentence vectors of the 1,870 emoji, family split."""
    from commonspace.data import Emoji
    from commonspace.encoders import Bert, PixelFeatures

    parts = Emoji().split("family", seed)
    pixels, words = PixelFeatures().fit(parts[0].images), Bert()
    return Splits(
        *(PairedFeatures(pixels.transform(p.images), words.encode(p.texts), p.label, p.classes) for p in parts)
    )


def _wikipedia(seed: int) -> Splits:
    """The official 693 test pairs; 10 % of the 2,173 training pairs, drawn by the seed, for validation."""
    from commonspace.data import Wikipedia

    wikipedia = Wikipedia()
    return Splits(*held_out(wikipedia.train, 0.1, seed), wikipedia.test)


def _fashion_products(seed: int) -> Splits:
    """Photos and titles, split by title; the test gallery is the pool of 1,000, identical titles all relevant."""
    from commonspace.data import FashionProducts

    products = FashionProducts()
    train, validation, _ = products.split()
    pool, relevant = products.pool()
    return Splits(train, validation, pool, relevant)


def _pascal_sentences(seed: int) -> Splits:
    """800, 100 and 100 photos; the five sentences of each are one text."""
    from commonspace.data import PascalSentences

    data = PascalSentences()
    parts = (data.train, data.validation, data.test)
    return Splits(*(replace(part, texts=[" ".join(sentences) for sentences in part.texts]) for part in parts))


def _pascal_features(seed: int) -> Splits:
    """DSCMR's features: 100 test pairs; 10 % of the 800 training pairs, drawn by the seed, for validation."""
    from commonspace.data import PascalFeatures

    data = PascalFeatures()
    return Splits(*held_out(data.train, 0.1, seed), data.test)


def _nus_wide_10k(seed: int) -> Splits:
    """8,000, 1,000 and 1,000 photos and their tags."""
    from commonspace.data import NusWide10k

    data = NusWide10k()
    return Splits(data.train, data.validation, data.test)


_LOADERS: dict[str, Callable[[int], Splits]] = {
    "digits": _digits,
    "emoji": _emoji,
    "wikipedia": _wikipedia,
    "fashion-products": _fashion_products,
    "pascal-sentences": _pascal_sentences,
    "pascal-features": _pascal_features,
    "nus-wide-10k": _nus_wide_10k,
}
