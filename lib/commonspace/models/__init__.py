"""Models that bring images and texts into one space. One paper, one file."""

from commonspace.models.cca import CCA

__all__ = ["CCA"]
