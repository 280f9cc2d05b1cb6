"""Square face crops: where they lie, cutting them out and putting them back.

Image coordinates are pixels, x right and y down; pixel i covers [i, i + 1], so its centre is i + 0.5.
Grid coordinates are those of the networks: the centre of crop pixel i is 2 i / (size - 1) - 1 in [-1, 1].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from mmfa.media.image import Array, check_image

Box = tuple[float, float, float, float]

# Framing of the VoxCeleb crops of the First Order Motion Model: the face box fills half of the crop and
# sits a little low, to leave room for the hair.
_CROP_PER_FACE = 2.0
_SHIFT_UP = 0.04
# A crop this many times larger than the picture is a mistake, and would take its square in memory.
_LARGEST_RATIO = 8.0
# Source pixels that bicubic resampling reaches beyond an output pixel, per unit of shrinking.
_SUPPORT = 2


@dataclass(frozen=True)
class CropBox:
    """A square in image pixels: centre (cx, cy) and side. It may lie partly outside the image."""

    cx: float
    cy: float
    side: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.cx, self.cy, self.side))) or self.side <= 0:
            raise ValueError(f"A crop box needs finite numbers and a positive side, got {self}.")

    @property
    def edges(self) -> Box:
        """(x0, y0, x1, y1) in pixels."""
        half = self.side / 2
        return self.cx - half, self.cy - half, self.cx + half, self.cy + half


def face_crop_box(face_box: Box) -> CropBox:
    """Frame a face box (x0, y0, x1, y1), in pixels, as the training data does.

    The longer side of the face box is half of the crop's side; the crop's centre is the centre of the
    face box moved up by 4 % of the crop's side.

    Raises:
        ValueError: the face box is empty or not finite.
    """
    x0, y0, x1, y1 = face_box
    if not (x1 > x0 and y1 > y0):
        raise ValueError(f"A face box needs x1 > x0 and y1 > y0, got {face_box}.")
    side = _CROP_PER_FACE * max(x1 - x0, y1 - y0)
    return CropBox(cx=(x0 + x1) / 2, cy=(y0 + y1) / 2 - _SHIFT_UP * side, side=side)


def union_box(boxes: Sequence[Box] | NDArray[np.floating]) -> Box:
    """Return one box around nearly all `boxes` (N, 4): 5th percentile of the mins, 95th of the maxes.

    A few wrong detections in a long video do not blow it up.

    Raises:
        ValueError: no box, or not four numbers each.
    """
    array = np.asarray(boxes, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 4 or len(array) == 0:
        raise ValueError(f"Expected boxes (N, 4) with N >= 1, got {array.shape}.")
    x0, y0 = np.percentile(array[:, :2], 5, axis=0)
    x1, y1 = np.percentile(array[:, 2:], 95, axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def crop(image: Array, box: CropBox, *, size: int) -> Array:
    """Cut `box` out of an (H, W, 3) uint8 image as (size, size, 3), antialiased, edges replicated outside.

    Raises:
        ValueError: wrong image, size < 1, or a box over 8 times the image's longer side.
    """
    check_image(image)
    if size < 1:
        raise ValueError(f"The size of a crop must be at least 1, got {size}.")
    if box.side > _LARGEST_RATIO * max(image.shape[:2]):
        raise ValueError(f"The {box} is far larger than the image {image.shape}.")
    return _resample(image, box.edges, width=size, height=size)


def paste(image: Array, patch: Array, box: CropBox, *, feather: float = 0.08) -> Array:
    """Return a copy of `image` (H, W, 3) uint8 with `patch` (size, size, 3) put back where `box` lies.

    The patch fades in smoothly from weight 0 at the border of the box to 1 at `feather` (a fraction of the
    side, 0 for a hard edge) inside it. Where the box reaches over the edge of the image, the rest is ignored.

    Raises:
        ValueError: wrong image, patch not square, or feather outside [0, 0.5].
    """
    check_image(image)
    check_image(patch)
    size = patch.shape[0]
    if patch.shape[1] != size:
        raise ValueError(f"Expected a patch (size, size, 3), got {patch.shape}.")
    if not 0 <= feather <= 0.5:
        raise ValueError(f"feather must lie in [0, 0.5], got {feather}.")
    x0, y0, x1, y1 = box.edges
    left, right = max(0, math.floor(x0)), min(image.shape[1], math.ceil(x1))
    top, bottom = max(0, math.floor(y0)), min(image.shape[0], math.ceil(y1))
    result = image.copy()
    if left >= right or top >= bottom:
        return result
    scale = size / box.side
    region = ((left - x0) * scale, (top - y0) * scale, (right - x0) * scale, (bottom - y0) * scale)
    new = _resample(patch, region, width=right - left, height=bottom - top).astype(np.float32)
    across = _fade((np.arange(left, right) + 0.5 - x0) / box.side, feather)
    down = _fade((np.arange(top, bottom) + 0.5 - y0) / box.side, feather)
    weight = (down[:, None] * across[None, :])[..., None]
    old = result[top:bottom, left:right].astype(np.float32)
    blended = old + weight * (new - old)
    result[top:bottom, left:right] = blended.round().clip(0, 255).astype(np.uint8)
    return result


def to_grid(points: ArrayLike, box: CropBox, *, size: int) -> NDArray[np.float64]:
    """Map image points (..., 2) as (x, y) in pixels to the grid of a crop of `size` pixels."""
    x0, y0, _, _ = box.edges
    pixels = (np.asarray(points, dtype=np.float64) - np.array([x0, y0])) * (size / box.side)
    grid_points: NDArray[np.float64] = (pixels - 0.5) * 2 / (size - 1) - 1
    return grid_points


def _resample(image: Array, region: Box, *, width: int, height: int) -> Array:
    """Resample `region` (x0, y0, x1, y1 in pixels) to (height, width, 3), antialiased, edges replicated."""
    x0, y0, x1, y1 = region
    margin_x = math.ceil(_SUPPORT * max(1.0, (x1 - x0) / width)) + 1
    margin_y = math.ceil(_SUPPORT * max(1.0, (y1 - y0) / height)) + 1
    left, right = math.floor(x0) - margin_x, math.ceil(x1) + margin_x
    top, bottom = math.floor(y0) - margin_y, math.ceil(y1) + margin_y
    columns = np.arange(left, right).clip(0, image.shape[1] - 1)
    rows = np.arange(top, bottom).clip(0, image.shape[0] - 1)
    if (x1 - x0, y1 - y0) == (width, height) and x0 == math.floor(x0) and y0 == math.floor(y0):
        exact: Array = image[np.ix_(rows[margin_y:-margin_y], columns[margin_x:-margin_x])]
        return exact
    picture = Image.fromarray(image[np.ix_(rows, columns)])
    resized = picture.resize(
        (width, height),
        Image.Resampling.BICUBIC,
        box=(x0 - left, y0 - top, x1 - left, y1 - top),
        reducing_gap=3.0,
    )
    return np.array(resized)


def _fade(t: NDArray[np.float64], feather: float) -> NDArray[np.float32]:
    """Smoothstep weight at position `t` along the box (0 and 1 are its borders)."""
    inside = np.minimum(t, 1 - t)
    if feather == 0:
        return (inside >= 0).astype(np.float32)
    ramp = (inside / feather).clip(0, 1)
    weight: NDArray[np.float64] = ramp * ramp * (3 - 2 * ramp)
    return weight.astype(np.float32)
