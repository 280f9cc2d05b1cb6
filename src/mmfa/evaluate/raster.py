"""A small rasteriser with a depth buffer: which triangle every sample of the picture shows, and where in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Hits:
    """The P samples that show a triangle.

    place: (P,), row * width + column. triangle: (P,). weights: (P,3), float32, barycentric.
    """

    place: Ints
    triangle: Ints
    weights: NDArray[np.float32]


def rasterise(points: Floats, triangles: Ints, *, size: int) -> Hits:
    """The nearest triangle at each of size x size samples.

    points: (V,3), x and y in samples (sample i is taken at i + 0.5), z away from the viewer. triangles: (M,3), drawn from
    either side.
    """
    corners = points[triangles]
    x, y, z = corners[..., 0], corners[..., 1], corners[..., 2]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    safe = np.where(np.abs(area) < 1e-9, np.inf, area)  # an edge-on triangle covers nothing
    # Barycentric weight i is a_i x + b_i y + c_i, and so is the depth.
    after, last = [1, 2, 0], [2, 0, 1]
    a = (y[:, after] - y[:, last]) / safe[:, None]
    b = (x[:, last] - x[:, after]) / safe[:, None]
    c = (x[:, after] * y[:, last] - x[:, last] * y[:, after]) / safe[:, None]
    top = np.ceil(y.min(1) - 0.5).clip(0, size).astype(np.int64)
    bottom = np.floor(y.max(1) - 0.5).clip(-1, size - 1).astype(np.int64)
    owner, row = _runs(top, np.where(np.isfinite(safe), bottom - top + 1, 0))
    # In one row, each weight is positive on one side of a crossing.
    constant = b[owner] * (row + 0.5)[:, None] + c[owner]
    slope = a[owner]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -constant / slope
    left = np.where(slope > 0, crossing, -np.inf).max(1)
    right = np.where(slope < 0, crossing, np.inf).min(1)
    flat = ((slope == 0) & (constant < 0)).any(1)
    first = np.ceil(left - 0.5).clip(0, size).astype(np.int64)
    final = (np.ceil(right - 0.5) - 1).clip(-1, size - 1).astype(np.int64)
    span, column = _runs(first, np.where(flat, 0, final - first + 1))
    triangle, place = owner[span], row[span] * size + column
    gradient = np.stack([(a * z).sum(1), (b * z).sum(1), (c * z).sum(1)], 1)
    intercept = gradient[owner, 1] * (row + 0.5) + gradient[owner, 2]
    depth = gradient[owner, 0][span] * (column + 0.5) + intercept[span]
    nearest = _nearest(place, depth, count=size * size)
    place, triangle, column = place[nearest], triangle[nearest], column[nearest]
    weights = a[triangle] * (column + 0.5)[:, None] + constant[span[nearest]]
    return Hits(place, triangle, weights.astype(np.float32))


def _runs(start: Ints, length: Ints) -> tuple[Ints, Ints]:
    """For every run its number, repeated `length` times, and the values start, start + 1 ... along it."""
    length = length.clip(0)
    number = np.repeat(np.arange(len(start)), length)
    offset = np.arange(len(number)) - np.repeat(np.cumsum(length) - length, length)
    return number, start[number] + offset


def _nearest(place: Ints, depth: Floats, *, count: int) -> Ints:
    """The fragment (index) of least depth at each place that has one; of equals the first."""
    buffer = np.full(count, np.inf)
    np.minimum.at(buffer, place, depth)
    winners = np.flatnonzero(depth == buffer[place])
    chosen = np.full(count, -1, np.int64)
    chosen[place[winners[::-1]]] = winners[::-1]
    return chosen[chosen >= 0]
