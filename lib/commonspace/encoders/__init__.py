"""Pixels, tokens or features to features.

But for PixelFeatures, every encoder is a torch module that is called with a batch and gives (B, out_dim), with
``out_dim`` an attribute (None for ScaledUnitNorm, which keeps the width it gets). Its ``config`` is a dict that JSON
can hold and that `build_encoder` takes; what it learned is in its state dict. `extract_features` keeps on disk what a
frozen one makes of pictures, `features_of` finds it there.
"""

from commonspace.encoders.bert import Bert
from commonspace.encoders.build import Sequence, build_encoder
from commonspace.encoders.extract import extract_features, image_network
from commonspace.encoders.features import FeatureRows, features_of
from commonspace.encoders.image import PixelFeatures, ResNet, SmallConvNet
from commonspace.encoders.mlp import MLP
from commonspace.encoders.pooling import Cells
from commonspace.encoders.recurrent import GRU, LSTM
from commonspace.encoders.scale import ScaledUnitNorm, Standardize
from commonspace.encoders.text import BagOfWords
from commonspace.encoders.vgg import VGG

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "VGG",
    "BagOfWords",
    "Bert",
    "Cells",
    "FeatureRows",
    "PixelFeatures",
    "ResNet",
    "ScaledUnitNorm",
    "Sequence",
    "SmallConvNet",
    "Standardize",
    "build_encoder",
    "extract_features",
    "features_of",
    "image_network",
]
