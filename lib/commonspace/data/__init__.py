"""What a sample is, and where samples come from. One data set a file."""

from commonspace.data.emoji import Emoji, EmojiSamples
from commonspace.data.samples import PairedFeatures, PairedSamples
from commonspace.data.small import digits_halves, linnerud

__all__ = ["Emoji", "EmojiSamples", "PairedFeatures", "PairedSamples", "digits_halves", "linnerud"]
