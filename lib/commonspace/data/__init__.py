"""What a sample is, and where samples come from. One data set a file."""

from commonspace.data.class_splits import (
    ClassSplit,
    ExtendableSplit,
    extendable,
    fixed_class_split,
    random_class_splits,
)
from commonspace.data.composed import ComposedQueries, DrawnQueries
from commonspace.data.css import CSS
from commonspace.data.emoji import Emoji, EmojiSamples
from commonspace.data.emoji_queries import EmojiQueries
from commonspace.data.emoji_subgroups import extendable_emoji, strip_class_words
from commonspace.data.fashion200k import Fashion200k
from commonspace.data.fashion_iq import FashionIQ
from commonspace.data.fashion_products import FashionProducts, FashionSamples
from commonspace.data.fashion_queries import FashionQueries, near_colour
from commonspace.data.flickr8k import Flickr8k
from commonspace.data.karpathy import Coco, Flickr30k
from commonspace.data.mit_states import MITStates
from commonspace.data.mit_states_queries import MITStatesQueries
from commonspace.data.nus_wide_10k import NusWide10k
from commonspace.data.pascal_sentences import PascalFeatures, PascalSentences
from commonspace.data.pictures import Pictures
from commonspace.data.samples import PairedFeatures, PairedSamples
from commonspace.data.scene_pictures import ScenePictures
from commonspace.data.scenes import SceneQueries, Scenes, SceneSamples
from commonspace.data.small import digits_halves, linnerud
from commonspace.data.vocabulary import Vocabulary
from commonspace.data.wikipedia import Wikipedia

__all__ = [
    "CSS",
    "ClassSplit",
    "Coco",
    "ComposedQueries",
    "DrawnQueries",
    "Emoji",
    "EmojiQueries",
    "EmojiSamples",
    "ExtendableSplit",
    "Fashion200k",
    "FashionIQ",
    "FashionProducts",
    "FashionQueries",
    "FashionSamples",
    "Flickr8k",
    "Flickr30k",
    "MITStates",
    "MITStatesQueries",
    "NusWide10k",
    "PairedFeatures",
    "PairedSamples",
    "PascalFeatures",
    "PascalSentences",
    "Pictures",
    "ScenePictures",
    "SceneQueries",
    "SceneSamples",
    "Scenes",
    "Vocabulary",
    "Wikipedia",
    "digits_halves",
    "extendable",
    "extendable_emoji",
    "fixed_class_split",
    "linnerud",
    "near_colour",
    "random_class_splits",
    "strip_class_words",
]
