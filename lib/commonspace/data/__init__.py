"""What a sample is, and where samples come from. One data set a file."""

from commonspace.data.emoji import Emoji, EmojiSamples
from commonspace.data.fashion_products import FashionProducts, FashionSamples
from commonspace.data.flickr8k import Flickr8k
from commonspace.data.pictures import Pictures
from commonspace.data.samples import PairedFeatures, PairedSamples
from commonspace.data.small import digits_halves, linnerud
from commonspace.data.vocabulary import Vocabulary
from commonspace.data.wikipedia import Wikipedia

__all__ = [
    "Emoji",
    "EmojiSamples",
    "FashionProducts",
    "FashionSamples",
    "Flickr8k",
    "PairedFeatures",
    "PairedSamples",
    "Pictures",
    "Vocabulary",
    "Wikipedia",
    "digits_halves",
    "linnerud",
]
