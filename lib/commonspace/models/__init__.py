"""Models that bring images and texts into one space. One paper, one file."""

from commonspace.models.acmr import ACMR
from commonspace.models.cca import CCA
from commonspace.models.composed import ComposedRetrieval
from commonspace.models.composers import COMPOSERS, AttributeAsOperator, Composer, Concat, ImageOnly, TextOnly
from commonspace.models.deep_cca import DeepCCA
from commonspace.models.kernel_cca import KernelCCA
from commonspace.models.masln import MASLN
from commonspace.models.semantic_autoencoder import CrossModalSAE, SemanticAutoencoder
from commonspace.models.semantic_matching import SemanticMatching

__all__ = [
    "ACMR",
    "CCA",
    "COMPOSERS",
    "MASLN",
    "AttributeAsOperator",
    "ComposedRetrieval",
    "Composer",
    "Concat",
    "CrossModalSAE",
    "DeepCCA",
    "ImageOnly",
    "KernelCCA",
    "SemanticAutoencoder",
    "SemanticMatching",
    "TextOnly",
]
