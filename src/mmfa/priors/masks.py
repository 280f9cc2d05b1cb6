"""Small operations on masks, (H, W) bool: reaching, growing, closing, filling, polygons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Mask = NDArray[np.bool_]


def polygon(points: NDArray[np.float64], rows: int, cols: int) -> Mask:
    """The pixels (rows, cols) inside a polygon (n, 2)."""
    canvas = Image.new("L", (cols, rows))
    limit = 4.0 * (rows + cols)
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in np.clip(points - 0.5, -limit, limit)], fill=1)
    return np.array(canvas, bool)


def connected(mask: Mask, seed: Mask) -> Mask:
    """The parts of `mask` that `seed` touches; neighbours share a side."""
    reached = mask & seed
    count = 0
    while (now := int(reached.sum())) != count:
        count = now
        for turned in (False, True):
            field, hit = (mask.T, reached.T) if turned else (mask, reached)
            first = np.ones_like(field)
            first[:, 1:] = field[:, 1:] != field[:, :-1]
            run = first.ravel().cumsum().reshape(field.shape)  # numbers of the runs of equal values in each row
            touched = np.zeros(int(run[-1, -1]) + 1, bool)
            touched[run[hit]] = True
            hit = touched[run]
            reached = hit.T if turned else hit
    return reached


def grown(mask: Mask, by: int) -> Mask:
    """Grown by `by` pixels to each side and corner, or shrunk where negative; the photo's edges don't shrink it."""
    if by < 0:
        return ~grown(~mask, -by)
    by = min(by, max(mask.shape))
    for axis in (0, 1):
        count = np.pad(mask, [(by + 1, by) if a == axis else (0, 0) for a in (0, 1)]).cumsum(axis, dtype=np.int32)
        size = mask.shape[axis]
        mask = count.take(range(2 * by + 1, 2 * by + 1 + size), axis) > count.take(range(size), axis)
    return mask


def closed(mask: Mask, by: int) -> Mask:
    """Gaps of up to twice `by` pixels are closed. Beyond the photo's edges everything goes on as it is there."""
    by = min(max(by, 1), max(mask.shape))
    padded = np.pad(mask, by, mode="edge")
    return grown(grown(padded, by), -by)[by:-by, by:-by]


def holes(mask: Mask, most: int) -> Mask:
    """What `mask` encloses, in holes of up to `most` pixels in all."""
    rim = np.ones_like(mask)
    rim[1:-1, 1:-1] = False
    found = ~mask & ~connected(~mask, rim)
    return found if found.sum() <= most else np.zeros_like(mask)
