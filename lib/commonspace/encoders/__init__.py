"""Pixels or tokens to features."""

from commonspace.encoders.image import PixelFeatures
from commonspace.encoders.text import Bert

__all__ = ["Bert", "PixelFeatures"]
