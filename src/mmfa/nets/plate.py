"""The background plate: what may be behind the head, for places that the head has left."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .blocks import smooth_step


def background_plate(image: Tensor, background: Tensor) -> Tensor:
    """The image (B,3,S,S) with the head filled from around it.

    background (B,1,h,w) in [0,1]: the dense motion's mask of the source at rest; what isn't background is the head with its
    hair. The fill is the average of what is known, coarse to fine: smooth, and never a second head.
    """
    size = (image.shape[-2], image.shape[-1])
    head = F.interpolate(1 - background, size=size, mode="bilinear", align_corners=True)
    reach = 2 * (size[0] // 56) + 1  # masks are soft at the border, and hair is softer
    known = 1 - smooth_step(F.max_pool2d(head, reach, 1, reach // 2), 0.1, 0.4)
    levels = [(image * known, known)]
    while min(levels[-1][1].shape[-2:]) > 2:
        colour, weight = levels[-1]
        levels.append((F.avg_pool2d(colour, 2), F.avg_pool2d(weight, 2)))
    colour, weight = (level.mean((2, 3), keepdim=True) for level in levels[-1])
    filled = (colour / weight.clamp_min(1e-4)).expand_as(levels[-1][0])
    for colour, weight in reversed(levels):
        size = (weight.shape[-2], weight.shape[-1])
        coarse = F.interpolate(filled, size=size, mode="bilinear", align_corners=False)
        sure = (4 * weight).clamp(0, 1)  # a quarter of a cell known is enough: what is near counts more than what is far
        filled = sure * colour / weight.clamp_min(1e-4) + (1 - sure) * coarse
    return filled
