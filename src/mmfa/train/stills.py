"""Pictures without motion as training pairs: the same picture twice, its head moved a little in the plane."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import image_grid, invert_affine, similarity, transform_points, warp
from ..motion import smoothstep

_INNER, _OUTER = 1.5, 2.4
"""Radii in halves of the face box: the head moves as a whole inside of the one and nothing outside of the other.

The corners of the box lie at 1.41, and in the crops of the First Order Motion Model 2 is the picture's edge."""
SHARE = 0.3
"""Part of the ranges of the in-plane transforms of eq. 7 and 15: with more of them the rim around the head would fold."""


def draw_move(generator: torch.Generator, angle: float, scale: float, shift: float) -> Tensor:
    """An in-plane similarity (2,3): at most SHARE of `angle` in degrees, of the log `scale` and of `shift` in grid units."""
    turn, zoom, *way = SHARE * (2 * torch.rand(4, generator=generator) - 1)
    return similarity(turn[None] * angle, (zoom * scale).exp()[None], torch.stack(way)[None] * shift)[0]


def move_head(image: Tensor, landmarks: Tensor, move: Tensor) -> Tensor:
    """The picture (3,S,S) with its head moved by a similarity (2,3), the picture's edge staying where it is.

    Landmarks (478,3) in grid coordinates move exactly by `transform_points`. Between head and edge the picture stretches
    smoothly: a background that turned with the head would teach that backgrounds do.
    """
    size = image.shape[-1]
    grid = image_grid(size, size, device=image.device).reshape(1, -1, 2)
    face = transform_points(landmarks[None, :, :2], move[None])[0]
    low, high = face.amin(0), face.amax(0)
    radius = (grid - (low + high) / 2).norm(dim=-1) / ((high - low).amax() / 2)
    still = smoothstep((radius - _INNER) / (_OUTER - _INNER))[..., None]
    moved = transform_points(grid, invert_affine(move[None]))
    return warp(image[None], torch.lerp(moved, grid, still).reshape(1, size, size, 2))[0]
