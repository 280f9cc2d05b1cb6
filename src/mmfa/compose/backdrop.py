"""The backdrop: the photo with the person filled in, for places that the person has left."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SURE = 0.02  # a matte below this is background
_MARGIN = 1 / 150  # of the photo's longer side: how far around the person colours are still mixed with the person's
_SAMPLES = 4096


def backdrop(image: Tensor, matte: Tensor) -> Tensor:
    """The image (B,3,H,W) in [0,1] without what the matte (B,1,H,W) in [0,1] covers: the same where it covers nothing.

    The fill is the average of what is known, coarse to fine: smooth, and never a second person; it gets the grain that the rest
    of the backdrop has. If the matte leaves nothing, the backdrop is the photo's mean colour.
    """
    reach = 2 * round(_MARGIN * max(image.shape[-2:])) + 1
    hole = F.max_pool2d((matte > _SURE).to(image.dtype), reach, 1, reach // 2)
    known = 1 - hole
    filled = fill(image, known)
    grain = _grain(image, known)
    if float(grain.max()) > 0:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(image.shape[-2:], generator=generator).to(image)
        filled = filled + grain[:, None, None, None] * noise
    return torch.where(hole > 0, filled.clamp(0, 1), image)


def fill(image: Tensor, known: Tensor) -> Tensor:
    """The image (B,3,H,W) with what is not `known` (B,1,H,W) in [0,1] filled from around it, smoothly."""
    levels = [(image * known, known)]
    while min(levels[-1][1].shape[-2:]) > 2:
        colour, weight = levels[-1]
        odd = (0, colour.shape[-1] % 2, 0, colour.shape[-2] % 2)
        levels.append((F.avg_pool2d(F.pad(colour, odd), 2), F.avg_pool2d(F.pad(weight, odd), 2)))
    colour, weight = (level.mean((2, 3), keepdim=True) for level in levels[-1])
    mean = image.mean((2, 3), keepdim=True)
    filled = torch.where(weight > 1e-4, colour / weight.clamp_min(1e-4), mean).expand_as(levels[-1][0])
    for colour, weight in reversed(levels):
        coarse = F.interpolate(filled, scale_factor=2, mode="bilinear", align_corners=False)
        coarse = coarse[..., : weight.shape[-2], : weight.shape[-1]] if filled.shape != colour.shape else filled
        sure = (4 * weight).clamp(0, 1)  # a quarter of a cell known is enough: what is near counts more than what is far
        filled = sure * colour / weight.clamp_min(1e-4) + (1 - sure) * coarse
    return filled


def _grain(image: Tensor, known: Tensor) -> Tensor:
    """The standard deviation (B,) of the photo's noise: of pixels against their neighbours, the calm half of the known ones."""
    grey = image.mean(1, keepdim=True)
    fine = (grey - F.avg_pool2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), 3, 1)).abs()
    inner = -F.max_pool2d(-known, 3, 1, 1) > 0
    found = []
    for item, mask in zip(fine, inner, strict=True):
        values = item[mask]
        step = max(1, len(values) // _SAMPLES)
        found.append(values[::step].median() if len(values) else values.new_tensor(0.0))
    sigma: Tensor = (
        torch.stack(found) * 1.48 * (9 / 8) ** 0.5
    )  # of the median of |x| to sigma, and for the mean having a ninth of x
    return sigma
