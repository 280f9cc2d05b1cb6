"""From the measures of all clips to figures: a value, its interval over clips, and how many frames are in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..geometry import geodesic_angle
from .bootstrap import Interval, Values, bootstrap, correlation
from .cache import version_of
from .compare import face_errors
from .definitions import (
    METRICS,
    OF_FACES,
    OF_NETWORKS,
    OF_PIXELS,
    OF_RING,
    TURNED,
    Definition,
    Metric,
    meaningless,
    of_frames,
    unavailable,
)
from .extractors import FaceMeasures
from .frechet import FeatureStatistics
from .measure import Generated
from .protocol import Protocol, Task

_FRECHET_DRAWS = 200
_LARGEST_RESAMPLED = 512
_COLUMNS = (OF_FACES, OF_PIXELS, OF_NETWORKS, OF_RING)
"""The order of the metrics of one frame in clips.csv."""


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
    Those on turned frames are (N,), of those frames. followed: rows (T,2) of each correlation. features, references: (T,D) of
    both sides of the Frechet distance. missed_*: frames without a face.
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
        return sum(min(METRICS[metric].ends, len(span)) for span in spans)


@dataclass
class FrechetDraws:
    """A Frechet distance of rows (N,2D), generated and reference features side by side, remembering what it said."""

    metric: Metric
    values: list[float] = field(default_factory=list)

    def __call__(self, rows: Values) -> float:
        """The distance of both halves; NaN for fewer than two rows."""
        generated, reference = torch.chunk(torch.from_numpy(rows), 2, dim=1)
        if len(rows) < 2:
            return math.nan
        self.values.append(self.metric.compute(FeatureStatistics.of(generated), FeatureStatistics.of(reference)))
        return self.values[-1]


def metrics_of_frames(protocol: Protocol, *, second: bool) -> list[str]:
    """The metrics of one frame that a report of this protocol has here, by which clips can be ranked.

    second: with the second identity network.
    """
    absent = set(unavailable()) | (set() if second else {"csim_faceres"})
    names = [metric.name for needs in _COLUMNS for metric in of_frames(*needs)]
    if "lpips" not in absent:
        absent.add("lpips_lite0")  # a stand-in
    return [name for name in names if name not in absent and not meaningless(name, protocol=protocol)]


def clip_table(
    task: Task,
    generated: Generated,
    driving: FaceMeasures,
    *,
    burst_points: Tensor,
    source: FaceMeasures,
    source_features: Tensor | None,
) -> ClipTable:
    """The frame-by-frame figures of one task. driving: the frames that are measured; burst_points: of the driving clip, as
    `Generated.burst_points`; source: of one frame; source_features: across identities only.
    """
    values = face_errors(generated.faces, driving, source=source if task.protocol == "cross" else None)
    if generated.pairs is not None:
        values |= generated.pairs.values
        references = generated.pairs.driving_features
    else:
        assert source_features is not None
        references = source_features.expand(len(generated.features), -1)
    if task.stride > 1:
        values |= _in_bursts(task.bursts, generated, burst_points)

    def kept(name: str) -> bool:
        # Empty: a network that isn't there, but for a clip too short for a burst.
        there = name in values and (len(values[name]) > 0 or METRICS[name].ends > 0)
        return there and not meaningless(name, protocol=task.protocol)

    values = {metric.name: values[metric.name] for needs in _COLUMNS for metric in of_frames(*needs) if kept(metric.name)}
    if task.protocol == "same":
        values |= _on_turned_frames(values, driving, source)
    return ClipTable(
        task=task,
        values=values,
        followed={
            metric.name: metric.compute(getattr(generated.faces, metric.needs), getattr(driving, metric.needs))
            for metric in METRICS.values()
            if metric.statistic == "correlation" and metric.needs is not None
        },
        features=generated.features,
        references=references,
        missed_generated=int((~generated.faces.found).sum()),
        missed_driving=int((~driving.found).sum()),
    )


def figures_of(tables: Sequence[ClipTable], *, protocol: Protocol, frechet: str, seed: int) -> list[Figure]:
    """Every figure that has a meaning in the protocol and could be measured, in the order of `METRICS`."""
    groups = np.concatenate([np.full(table.task.frames, number) for number, table in enumerate(tables)])
    figures = []
    for name, metric in METRICS.items():
        if name == frechet:
            interval = _frechet(metric, tables, groups, seed=seed)
        elif metric.statistic == "correlation":
            rows = torch.cat([table.followed[name] for table in tables]).numpy()
            interval = bootstrap(rows, groups=groups, statistic=correlation, seed=seed)
        elif name in tables[0].values:
            parts = [table.values[name].double().numpy() for table in tables]
            if metric.turned and not any(map(len, parts)):
                continue
            labels = np.concatenate([np.full(len(part), number) for number, part in enumerate(parts)])
            interval = bootstrap(np.concatenate(parts), groups=labels, seed=seed)
        else:
            continue
        missed = interval.missed - sum(table.ends(name) for table in tables)
        figures.append(figure_of(metric.definition, interval, reference=metric.references[protocol], missed=missed))
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


def _on_turned_frames(values: dict[str, Tensor], driving: FaceMeasures, source: FaceMeasures) -> dict[str, Tensor]:
    """The metrics on turned frames alone, (N,) of each that is among `values` (T,). Driving frames without a face don't turn."""
    turn = geodesic_angle(driving.rotation.double(), source.rotation.double().expand_as(driving.rotation))
    return {metric.name: values[metric.turned][turn >= TURNED] for metric in METRICS.values() if metric.turned in values}


def _frechet(metric: Metric, tables: Iterable[ClipTable], groups: Values, *, seed: int) -> Interval:
    """The interval is moved so that the mean of the draws is the value: a set that holds clips twice is less varied than the
    whole, which makes each draw larger. Features too many to resample have no interval.
    """
    rows = torch.cat([torch.cat([table.features, table.references], 1) for table in tables]).double().numpy()
    draws = FrechetDraws(metric)
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
    for mine, theirs in zip(*(torch.split(side, lengths) for side in (generated.burst_points, driving)), strict=True):
        jitters.append(METRICS["jitter"].compute(mine))
        excesses.append(METRICS["jitter_excess"].compute(mine, theirs))
    return {"flicker": generated.burst_flicker, "jitter": torch.cat(jitters), "jitter_excess": torch.cat(excesses)}
