"""A guided filter: the edges of a coarse mask are laid along those of a picture.

He, Sun, Tang: Guided Image Filtering, PAMI 2013, with a colour guide; its coefficients are computed at a reduced size, as in
He, Sun: Fast Guided Filter, 2015.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

EPSILON = 5e-4  # in squared intensities: what counts as an edge
HAZE = 0.15  # what the filter spreads, taken off at both ends
STRIP = 256  # rows that are refined together: bounds the memory


def refine(image: NDArray[np.uint8], mask: NDArray[np.float32], sure: NDArray[np.bool_], *, radius: int) -> NDArray[np.float32]:
    """A mask at a picture's own size, its edge along the picture's.

    Args:
        image: (H, W, 3) uint8.
        mask: (rows, cols) in [0, 1], of the whole picture, no larger than it.
        sure: (rows, cols), where the result is 1 whatever the picture shows.
        radius: of the filter, in pixels of the mask.

    Returns: (H, W) float32 in [0, 1].
    """
    height, width = image.shape[:2]
    radius = min(max(radius, 1), max(mask.shape))
    coarser = max(1, radius // 3)  # local means need no more than some pixels a side
    rows, cols = (-(-size // coarser) for size in mask.shape)
    both = torch.from_numpy(np.stack([mask, sure.astype(np.float32)]))
    level, inside = F.interpolate(both[None], (rows, cols), mode="area")[0]
    small = Image.fromarray(image).resize((cols, rows), Image.Resampling.BOX)
    guide = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255
    slope, offset = _guided(guide, level, max(1, radius // coarser))
    fields = torch.cat([slope, offset[None], inside[None]])
    alpha = np.empty((height, width), np.float32)
    for top in range(0, height, STRIP):
        part = torch.from_numpy(image[top : top + STRIP].astype(np.float32)).permute(2, 0, 1) / 255
        at = ((torch.arange(top, top + part.shape[1]) + 0.5) * rows / height - 0.5).clamp(0, rows - 1)
        low = at.long().clamp(max=max(rows - 2, 0))
        between = torch.lerp(fields[:, low], fields[:, (low + 1).clamp(max=rows - 1)], (at - low)[:, None])
        local = F.interpolate(between[None], (part.shape[1], width), mode="bilinear", align_corners=False)[0]
        value = ((local[:3] * part).sum(0) + local[3] - HAZE) / (1 - 2 * HAZE)
        alpha[top : top + STRIP] = torch.maximum(value.clamp(0, 1), local[4]).numpy()
    return alpha


def _guided(guide: Tensor, mask: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Slopes (3, H, W) and offsets (H, W) of the local linear maps from the colours of `guide` (3, H, W) to `mask` (H, W)."""
    fields = torch.cat([guide, mask[None], guide * mask])
    means = box_mean(fields, radius)
    colour, level = means[:3], means[3]
    with_mask = means[4:] - colour * level
    pairs = box_mean((guide[:, None] * guide[None]).flatten(0, 1), radius).reshape(3, 3, *mask.shape)
    spread = pairs - colour[:, None] * colour[None] + EPSILON * torch.eye(3)[..., None, None]
    a, b, c = spread
    adjugate = torch.stack([torch.linalg.cross(b, c, dim=0), torch.linalg.cross(c, a, dim=0), torch.linalg.cross(a, b, dim=0)])
    determinant = (a * adjugate[0]).sum(0)
    slope = (adjugate * with_mask).sum(1) / determinant
    offset = level - (slope * colour).sum(0)
    smooth = box_mean(torch.cat([slope, offset[None]]), radius)
    return smooth[:3], smooth[3]


def box_mean(fields: Tensor, radius: int) -> Tensor:
    """Means (C, H, W) over squares of 2 `radius` + 1, cut at the edges."""
    for axis in (-2, -1):
        size = fields.shape[axis]
        total = fields.clone()
        for step in range(1, min(radius, size - 1) + 1):  # for small radii faster than pooling
            kept = size - step
            total.narrow(axis, step, kept).add_(fields.narrow(axis, 0, kept))
            total.narrow(axis, 0, kept).add_(fields.narrow(axis, step, kept))
        at = torch.arange(size)
        count = at.clamp(max=radius) + at.flip(0).clamp(max=radius) + 1
        fields = total / (count[:, None] if axis == -2 else count)
    return fields
