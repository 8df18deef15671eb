"""Models that bring images and texts into one space. One paper, one file."""

from commonspace.models.acmr import ACMR
from commonspace.models.cca import CCA
from commonspace.models.composeae import ComposeAE
from commonspace.models.composed import ComposedRetrieval
from commonspace.models.composer import Composer
from commonspace.models.composers import COMPOSERS, AttributeAsOperator, Concat, ImageOnly, TextOnly
from commonspace.models.deep_cca import DeepCCA
from commonspace.models.gxn import GXN
from commonspace.models.gxn_look import LOOK_CONFIGURATIONS, GXNLook, sentence_encoders
from commonspace.models.gxn_paint import GXNPaint
from commonspace.models.kernel_cca import KernelCCA
from commonspace.models.masln import MASLN
from commonspace.models.semantic_autoencoder import CrossModalSAE, SemanticAutoencoder
from commonspace.models.semantic_matching import SemanticMatching
from commonspace.models.sentence_decoder import SentenceDecoder
from commonspace.models.tirg import TIRG
from commonspace.models.vqa_composers import MRN, FiLM, ParameterHashing, Relationship, ShowAndTell

__all__ = [
    "ACMR",
    "CCA",
    "COMPOSERS",
    "GXN",
    "LOOK_CONFIGURATIONS",
    "MASLN",
    "MRN",
    "TIRG",
    "AttributeAsOperator",
    "ComposeAE",
    "ComposedRetrieval",
    "Composer",
    "Concat",
    "CrossModalSAE",
    "DeepCCA",
    "FiLM",
    "GXNLook",
    "GXNPaint",
    "ImageOnly",
    "KernelCCA",
    "ParameterHashing",
    "Relationship",
    "SemanticAutoencoder",
    "SemanticMatching",
    "SentenceDecoder",
    "ShowAndTell",
    "TextOnly",
    "sentence_encoders",
]
