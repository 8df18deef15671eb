"""Common Space: cross-modal retrieval, from CCA to generative matching, in PyTorch.

Sub-packages: ``data`` (what a sample is), ``encoders`` (pixels and words to features), ``losses``, ``models`` (one
paper, one file), ``metrics`` (ranks, recall, mAP), ``training`` (the loop, checkpoints, several processes), ``recipes``
(one experiment a file), ``checks`` (the course's exercises), ``figures`` (a plot and its sentence).
"""

from commonspace._torchvision_guard import guard as _guard

__version__ = "0.1.0"

_guard()
