"""From the measures of all clips to figures: a value, its interval over clips, and how many frames are in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from . import metrics
from .bootstrap import Interval, Values, bootstrap, correlation
from .cache import version_of
from .compare import FaceErrors, face_errors
from .definitions import DEFINITIONS, Definition, unavailable
from .extractors import FaceMeasures
from .frechet import FeatureStatistics, frechet_distance
from .lpips import missing_lpips
from .measure import Generated
from .protocol import Protocol, Task, meaningless, reference_of

FOLLOWED = ("yaw_r", "mouth_r", "eye_r")
"""Correlations: of the whole set, from what is measured on each side of every frame."""
_OF_PAIRS = ("psnr", "ssim", "flicker", "sharpness")
_FRECHET_DRAWS = 200
_LARGEST_RESAMPLED = 512
_ENDS = {"flicker": 1, "jitter": 2, "jitter_excess": 2}


@dataclass(frozen=True)
class Figure:
    """One line of a report.

    reference: what the generated frames are compared with. version: of the extractor, None for pixels. low, high: the 95 %
    interval over clips, NaN where there is none. frames: with a value; missed: without one, because no face was found (the first
    and last frames that a temporal metric can't have don't count). clips: with at least one frame that has a value. Of a leakage
    figure the interval is over persons, and `clips` counts them.
    """

    definition: Definition
    reference: str
    version: str | None
    value: float
    low: float
    high: float
    frames: int
    clips: int
    missed: int


@dataclass(frozen=True)
class ClipTable:
    """The frames of one task. values: (T,) of each metric of one frame; with a stride, the temporal ones are (N,), of its bursts.
    followed: rows (T,2) of each of `FOLLOWED`. features, references: (T,D) of both sides of the Frechet
    distance. missed_*: frames without a face.
    """

    task: Task
    values: dict[str, Tensor]
    followed: dict[str, Tensor]
    features: Tensor
    references: Tensor
    missed_generated: int
    missed_driving: int

    def mean(self, metric: str) -> float:
        """Over the frames of the clip that have a value; NaN when none has."""
        return float(self.values[metric].nanmean())

    def ends(self, metric: str) -> int:
        """How many of its rows can have no value, because consecutive frames begin or end there."""
        spans = self.task.bursts or [self.task.measured]
        return sum(min(_ENDS.get(metric, 0), len(span)) for span in spans)


@dataclass
class FrechetDraws:
    """The Frechet distance of rows (N,2D), generated and reference features side by side, remembering what it said."""

    values: list[float] = field(default_factory=list)

    def __call__(self, rows: Values) -> float:
        generated, reference = torch.from_numpy(rows).chunk(2, dim=1)
        if len(rows) < 2:
            return math.nan
        self.values.append(frechet_distance(FeatureStatistics.of(generated), FeatureStatistics.of(reference)))
        return self.values[-1]


def metrics_of_frames(protocol: Protocol, *, second: bool) -> list[str]:
    """The metrics of one frame that a report of this protocol has here, by which clips can be ranked.

    second: with the second identity network.
    """
    names = [item.name for item in fields(FaceErrors)] + ([*_OF_PAIRS, _perceptual()] if protocol == "same" else [])
    absent = set(unavailable()) | (set() if second else {"csim_faceres"})
    return [name for name in names if name not in absent and not meaningless(name, protocol=protocol)]


def clip_table(
    task: Task,
    generated: Generated,
    driving: FaceMeasures,
    *,
    burst_points: Tensor,
    source: FaceMeasures | None,
    source_features: Tensor | None,
) -> ClipTable:
    """The frame-by-frame figures of one task. driving: the frames that are measured; burst_points: of the driving clip, as
    `Generated.burst_points`; source: across identities only.
    """
    errors = face_errors(generated.faces, driving, source=source)
    values = {item.name: getattr(errors, item.name) for item in fields(errors)}
    if generated.pairs is not None:
        pairs = generated.pairs
        values |= {name: getattr(pairs, name) for name in _OF_PAIRS} | {_perceptual(): pairs.perceptual}
        references = pairs.driving_features
    else:
        assert source_features is not None
        references = source_features.expand(len(generated.features), -1)
    if task.stride > 1:
        values |= _in_bursts(task.bursts, generated, burst_points)

    def kept(name: str, row: Tensor) -> bool:
        # Empty: a network that isn't there, but for a clip too short for a burst.
        return (len(row) > 0 or name in _ENDS) and not meaningless(name, protocol=task.protocol)

    return ClipTable(
        task=task,
        values={name: row for name, row in values.items() if kept(name, row)},
        followed={
            "yaw_r": metrics.yaw_r(generated.faces.rotation, driving.rotation),
            "mouth_r": metrics.mouth_r(generated.faces.points, driving.points),
            "eye_r": metrics.eye_r(generated.faces.points, driving.points),
        },
        features=generated.features,
        references=references,
        missed_generated=int((~generated.faces.found).sum()),
        missed_driving=int((~driving.found).sum()),
    )


def figures_of(tables: Sequence[ClipTable], *, protocol: Protocol, frechet: str, seed: int) -> list[Figure]:
    """Every figure that has a meaning in the protocol and could be measured, in the order of `DEFINITIONS`."""
    groups = np.concatenate([np.full(table.task.frames, number) for number, table in enumerate(tables)])
    figures = []
    for name, definition in DEFINITIONS.items():
        if name == frechet:
            interval = _frechet(tables, groups, seed=seed)
        elif name in FOLLOWED:
            rows = torch.cat([table.followed[name] for table in tables]).numpy()
            interval = bootstrap(rows, groups=groups, statistic=correlation, seed=seed)
        elif name in tables[0].values:
            parts = [table.values[name].double().numpy() for table in tables]
            labels = np.concatenate([np.full(len(part), number) for number, part in enumerate(parts)])
            interval = bootstrap(np.concatenate(parts), groups=labels, seed=seed)
        else:
            continue
        missed = interval.missed - sum(table.ends(name) for table in tables)
        figures.append(figure_of(definition, interval, reference=reference_of(protocol, name), missed=missed))
    return figures


def rounded(value: float) -> float:
    """Six significant digits: what lies below differs between machines."""
    return float(f"{value:.6g}")


def figure_of(definition: Definition, interval: Interval, *, reference: str, missed: int) -> Figure:
    """One line of a report."""
    return Figure(
        definition=definition,
        reference=reference,
        version=version_of(definition.extractor),
        value=rounded(interval.value),
        low=rounded(interval.low),
        high=rounded(interval.high),
        frames=interval.count,
        clips=interval.groups,
        missed=missed,
    )


def _perceptual() -> str:
    return "lpips_lite0" if missing_lpips() else "lpips"


def _frechet(tables: Iterable[ClipTable], groups: Values, *, seed: int) -> Interval:
    """The interval is moved so that the mean of the draws is the value: a set that holds clips twice is less varied than the
    whole, which makes each draw larger. Features too many to resample have no interval.
    """
    rows = torch.cat([torch.cat([table.features, table.references], 1) for table in tables]).double().numpy()
    draws = FrechetDraws()
    if rows.shape[1] > 2 * _LARGEST_RESAMPLED:
        return Interval(draws(rows), math.nan, math.nan, len(np.unique(groups)), len(rows))
    plain = bootstrap(rows, groups=groups, statistic=draws, samples=_FRECHET_DRAWS, seed=seed)
    if len(draws.values) < 2:
        return plain
    shift = plain.value - float(np.mean(draws.values[1:]))
    return Interval(plain.value, max(0.0, plain.low + shift), plain.high + shift, plain.groups, plain.count)


def _in_bursts(spans: Sequence[range], generated: Generated, driving: Tensor) -> dict[str, Tensor]:
    """The temporal metrics (N,) of consecutive frames, burst by burst."""
    lengths = [len(span) for span in spans]
    jitters, excesses = [torch.zeros(0)], [torch.zeros(0)]
    for mine, theirs in zip(generated.burst_points.split(lengths), driving.split(lengths), strict=True):
        jitters.append(metrics.jitter(mine))
        excesses.append(metrics.jitter_excess(mine, theirs))
    return {"flicker": generated.burst_flicker, "jitter": torch.cat(jitters), "jitter_excess": torch.cat(excesses)}
