"""Regions of interest and the two coordinate systems of landmarks.

Pixel coordinates are continuous: the centre of pixel i is at i + 0.5; z is in pixels too, away from the
viewer. Grid coordinates are those of ``grid_sample(align_corners=True)``: the centres of the first and the
last pixel are at -1 and 1, x right, y down, z scaled like x. A region of interest is (centre x, centre y,
size, angle): a square in pixels, turned by `angle` radians from the x axis towards the y axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROI_SCALE = 1.5


def to_grid(pixels: Tensor, height: int, width: int) -> Tensor:
    """Pixel -> grid coordinates, points (..., 2 or 3). On a non-square image x and y have different units."""
    size = pixels.new_tensor([width, height])
    xy = (pixels[..., :2] - 0.5) * 2 / (size - 1) - 1
    return torch.cat([xy, pixels[..., 2:] * 2 / (width - 1)], -1)


def to_pixels(grid: Tensor, height: int, width: int) -> Tensor:
    """Grid -> pixel coordinates, points (..., 2 or 3); the inverse of `to_grid`."""
    size = grid.new_tensor([width, height])
    xy = (grid[..., :2] + 1) * (size - 1) / 2 + 0.5
    return torch.cat([xy, grid[..., 2:] * (width - 1) / 2], -1)


def roi_from_detection(box: Tensor, keypoints: Tensor) -> Tensor:
    """Box (..., 4) as x0, y0, x1, y1 and keypoints (..., 6, 2), the eyes first, in pixels -> ROI (..., 4)."""
    return _roi(box[..., :2], box[..., 2:], keypoints[..., 0, :], keypoints[..., 1, :])


def roi_from_landmarks(pixels: Tensor) -> Tensor:
    """Landmarks (..., 468 or 478, 2 or 3) in pixels -> ROI (..., 4): box x 1.5, square, eye-line angle."""
    xy = pixels[..., :468, :2]
    return _roi(xy.amin(-2), xy.amax(-2), xy[..., 33, :], xy[..., 263, :])


def sampling_grid(roi: Tensor, height: int, width: int, size: int) -> Tensor:
    """ROI (B, 4) -> grid (B, size, size, 2) for ``grid_sample(align_corners=False)``.

    Pixel indices, not pixel centres, are mapped, as in MediaPipe's OpenCV crop, for which its network was
    trained.
    """
    steps = torch.arange(size, device=roi.device, dtype=roi.dtype) / size
    square = torch.stack([steps.expand(size, size), steps[:, None].expand(size, size)], -1)
    pixels = from_roi(square.reshape(1, -1, 2), roi).reshape(-1, size, size, 2) + 0.5
    return pixels / pixels.new_tensor([width, height]) * 2 - 1


def from_roi(points: Tensor, roi: Tensor) -> Tensor:
    """Points (B, N, 2 or 3) in units of the ROI, (0, 0) its first corner, -> pixel coordinates."""
    centre, size, angle = roi[:, None, :2], roi[:, None, 2:3], roi[:, None, 3]
    x, y = (points[..., 0] - 0.5), (points[..., 1] - 0.5)
    cos, sin = angle.cos(), angle.sin()
    xy = centre + size * torch.stack([cos * x - sin * y, sin * x + cos * y], -1)
    return torch.cat([xy, points[..., 2:] * size], -1) if points.shape[-1] == 3 else xy


def _roi(low: Tensor, high: Tensor, eye: Tensor, other_eye: Tensor) -> Tensor:
    size = (high - low).amax(-1, keepdim=True) * ROI_SCALE
    line = other_eye - eye
    angle = torch.atan2(line[..., 1:], line[..., :1])
    return torch.cat([(low + high) / 2, size, angle], -1)
