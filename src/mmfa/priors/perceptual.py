"""Perceptual spaces by name."""

from __future__ import annotations

import difflib

from torch import nn

from mmfa.errors import ConfigError
from mmfa.priors import face_features, vgg
from mmfa.priors.lite0 import EfficientNetLite0

BACKBONES = ("efficientnet-lite0", "vgg19", "vggface", "faceres")
"""Names that `backbone` knows."""


def backbone(name: str) -> nn.Module:
    """A frozen network that turns images (B, 3, H, W) RGB in [0, 1] into a list of feature maps.

    Cost of one forward pass at 256 x 256, in 10^9 multiply-adds:

    - ``efficientnet-lite0``, 0.23: ImageNet, by pip; for training on a CPU.
    - ``vgg19``, 23.7: ImageNet, the paper's; needs torchvision's ``vgg19-dcbb9e9d.pth``.
    - ``vggface``, 18.8: faces, the paper's, for the finest output only; needs ``vgg_face_dag.pth``.
    - ``faceres``, 0.74: faces, VGG-Face's stand-in; needs the file that ``tools/convert_faceres.py`` writes.

    Raises `ConfigError` for an unknown name, `ModelError` when the weights are missing or damaged.
    """
    if name == "efficientnet-lite0":
        return EfficientNetLite0()
    if name == "vgg19":
        return vgg.VGG(vgg.vgg19_params())
    if name == "vggface":
        return vgg.VGG(vgg.vggface_params())
    if name == "faceres":
        return face_features.FaceFeatures()
    near = difflib.get_close_matches(name, BACKBONES, 1, 0.3)
    hint = f"did you mean {near[0]!r}? Known are" if near else "known are"
    raise ConfigError(f"Unknown perceptual backbone {name!r}; {hint} {', '.join(BACKBONES)}.")
