"""Intervals for what is measured on frames: whole clips are resampled, because frames of one clip are alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value and its bootstrap interval; low and high are NaN when there are fewer than two groups.

    count, missed: rows with a value, and rows with NaN, which are left out.
    """

    value: float
    low: float
    high: float
    groups: int
    count: int
    missed: int = 0


def frame_mean(values: Values) -> float:
    """Mean over frames; frames with NaN (missed faces, ends of clips) don't count. NaN when none is left."""
    finite = values[~np.isnan(values)]
    return float(finite.mean()) if len(finite) else math.nan


def correlation(pairs: Values) -> float:
    """Pearson correlation through the origin of rows (N,2) of `metrics.centred`; NaN when nothing varies."""
    a, b = pairs[~np.isnan(pairs).any(1)].T
    spread = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / spread if spread > 1e-12 else math.nan


def bootstrap(
    values: ArrayLike,
    *,
    groups: ArrayLike,
    statistic: Callable[[Values], float] = frame_mean,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The percentile interval of `statistic` over rows (N,) or (N,D), resampling the `groups` (N,) they belong to.

    `groups` are clips; two people in many clips each are resampled by person if the person is given. The same seed gives the
    same interval. Efron and Tibshirani 1993, chapter 13. Raises ValueError for no rows or differing lengths.
    """
    rows, labels = np.asarray(values, dtype=np.float64), np.asarray(groups)
    if not len(rows) or labels.shape != rows.shape[:1]:
        raise ValueError(f"need at least one row and one group for each, got {rows.shape} and {labels.shape}")
    usable = ~np.isnan(rows.reshape(len(rows), -1)).any(1)
    missed = int((~usable).sum())
    rows, labels = rows[usable], labels[usable]
    value = statistic(rows)
    parts = [rows[labels == name] for name in np.unique(labels)]
    if len(parts) < 2:
        return Interval(value, math.nan, math.nan, len(parts), len(rows), missed)
    generator: Any = np.random.default_rng(seed)
    draws = generator.integers(len(parts), size=(samples, len(parts)))
    repeated = np.array([statistic(np.concatenate([parts[i] for i in draw])) for draw in draws])
    if np.isnan(repeated).all():
        return Interval(value, math.nan, math.nan, len(parts), len(rows), missed)
    low, high = np.nanpercentile(repeated, [50 * (1 - level), 50 * (1 + level)])
    return Interval(value, float(low), float(high), len(parts), len(rows), missed)
