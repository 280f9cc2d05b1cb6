"""What surrounds a face: hair, collar and what a moving head leaves behind. Metrics of the ring around the face oval.

Landmarks are in pixels of a frame scaled to 256, as everywhere here; where a face was missed they are NaN, and so is the metric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import polygon_distance
from ..priors.groups import FACE_OVAL
from .extractors import REFERENCE_SIZE
from .metrics import PSNR_CAP, laplacian, luma

REACH = 0.6
"""How far the ring goes outwards from the oval, in face heights: the distance of the oval's highest point from the chin."""
SLACK_PX = 3
"""By how many pixels of 256 an edge may lie beside the one that it is compared with."""
SHARPENED = 1.5
"""How many times as strong as the edges around it an edge may be and still be theirs."""
_TOP, _CHIN = 10, 152
_STEP = 4
"""Distances to the oval are worked out at every fourth pixel, and between them taken as even: they are, but at corners."""


@dataclass(frozen=True)
class Photo:
    """What a clip was generated from: a frame (3,H,W) in [0,1] and its landmarks (478,3), NaN without a face."""

    image: Tensor
    points: Tensor


def ring_of(points: Tensor, size: int) -> Tensor:
    """Landmarks (B,478,3) -> which pixels (B,size,size) of a frame are in the ring; none where a face was missed."""
    scale = size / REFERENCE_SIZE
    oval = points[:, list(FACE_OVAL), :2].float() * scale
    height = (points[:, _TOP, :2] - points[:, _CHIN, :2]).float().norm(dim=1) * scale
    count = math.ceil(size / _STEP)
    centres = (torch.arange(count, device=points.device) + 0.5) * _STEP
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), 2).flatten(0, 1)
    outside = -polygon_distance(grid.expand(len(points), -1, -1), oval).reshape(-1, count, count)
    fine = F.interpolate(outside[:, None], scale_factor=_STEP, mode="bilinear", align_corners=False)[:, 0, :size, :size]
    inside: Tensor = (fine > 0) & (fine <= REACH * height[:, None, None])
    return inside


def warped(photo: Photo, points: Tensor) -> Tensor:
    """The photo, moved, turned and scaled so that its landmarks are nearest to `points` (B,478,3): (B,3,H,W).

    The least squares similarity. What lies outside of the photo continues its border. NaN where a face was missed.
    """
    size = photo.image.shape[-1]
    own, wanted = photo.points[None, :, :2].double(), points[..., :2].double()
    own_middle, middle = own.mean(1, keepdim=True), wanted.mean(1, keepdim=True)
    a, b = wanted - middle, own - own_middle
    along = (a * b).sum((1, 2))
    across = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(1)
    # Sampling asks where a place of the frame is in the photo: the best similarity of the photo onto the frame, inverted.
    cos, sin = (part * b.square().sum((1, 2)) / (along.square() + across.square()) for part in (along, across))
    turn = torch.stack([cos, -sin, sin, cos], 1).reshape(-1, 2, 2)
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * (REFERENCE_SIZE / size)
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), 2).flatten(0, 1)
    places = (grid - middle) @ turn.mT + own_middle
    places = (2 * places / REFERENCE_SIZE - 1).float().reshape(-1, size, size, 2)
    moved = F.grid_sample(
        photo.image.expand(len(points), -1, -1, -1), places.nan_to_num(0.0), padding_mode="border", align_corners=False
    )
    return torch.where(places.isnan().any(3)[:, None], math.nan, moved)


def ring_psnr(generated: Tensor, driving: Tensor, ring: Tensor) -> Tensor:
    """Images (B,3,H,W) in [0,1], ring (B,H,W) -> dB (B,), at most 100; NaN without a ring."""
    error = _mean((generated - driving).square().mean(1), ring)
    return -10 * torch.log10(error.clamp_min(10 ** (-PSNR_CAP / 10)))


def ring_sharpness(generated: Tensor, driving: Tensor, ring: Tensor) -> Tensor:
    """Images (B,3,H,W) in [0,1], ring (B,H,W) -> ratio (B,); NaN without a ring or where the driving frame is flat in it."""
    inner = ring[:, 1:-1, 1:-1]
    own, reference = (_variance(laplacian(images)[:, 0], inner) for images in (generated, driving))
    return torch.where(reference > 0, own / reference, math.nan)


def ghost(generated: Tensor, driving: Tensor, ring: Tensor, photo: Tensor) -> Tensor:
    """Images (B,3,H,W) in [0,1], photo as `warped`, ring (B,H,W) -> grey levels of 255 per pixel (B,); NaN without a face."""
    slack = max(1, round(SLACK_PX * generated.shape[-1] / REFERENCE_SIZE))
    known = torch.maximum(_steepness(driving), _steepness(photo))
    for window in ((2 * slack + 1, 1), (1, 2 * slack + 1)):
        known = F.max_pool2d(known, window, stride=1, padding=(window[0] // 2, window[1] // 2))
    return 255 * _mean((_steepness(generated) - SHARPENED * known).clamp_min(0)[:, 0], ring)


def _steepness(images: Tensor) -> Tensor:
    """Length of the luma's gradient (B,1,H,W), by Sobel's filters, per pixel."""
    padded = F.pad(luma(images), (1, 1, 1, 1), mode="replicate")
    across, down = padded[..., 2:] - padded[..., :-2], padded[..., 2:, :] - padded[..., :-2, :]
    x = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    y = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return (x.square() + y.square()).sqrt() / 8


def _mean(values: Tensor, ring: Tensor) -> Tensor:
    """Of (B,H,W) over each ring, in float64; NaN without one."""
    return (values * ring).sum((1, 2), dtype=torch.float64) / ring.sum((1, 2))


def _variance(values: Tensor, ring: Tensor) -> Tensor:
    """Of (B,H,W) over each ring, unbiased, in float64."""
    apart = (values - _mean(values, ring).to(values)[:, None, None]) * ring
    return apart.square().sum((1, 2), dtype=torch.float64) / (ring.sum((1, 2)) - 1)
