"""What a model moves that it was not asked to move: leakage between pose, size and expression, with its floor.

The figures are taken of trials (`mmfa.evaluate.trials`): of a model's pictures, of its keypoints alone, and, as the floor, of
pictures whose truth is known. Their definitions and marks are in `LEAKS`: a value is the better the nearer it is to the ideal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..geometry import geodesic_angle, matrix_to_euler
from .bootstrap import Interval, Values, bootstrap, frame_mean
from .definitions import MESH, Definition
from .figures import Figure, figure_of
from .metrics import centred
from .trials import ASKED, EYE_CORNERS, SLIDERS, STEPS, Faces, Trial, Trials

_FITTED = f"{MESH} and weighted Procrustes"
_ANCHORED = "the model's canonical keypoints"
_REFERENCES = {
    "slider_slope": "what was asked",
    "slider_error": "what was asked",
    "size_breathing": "driving frames",
    "mouth_gain": "driving frames",
    "canonical_consistency": "other persons",
    "interp_smoothness": "nothing",
}
_OWN_MOTION = "the source under its own motion"


def _leak(name: str, text: str, unit: str, extractor: str, *, ideal: float = 0.0, mark: float | None = None) -> Definition:
    return Definition(name, text, unit, "nearer", extractor, "own definition", ideal, mark)


LEAKS: dict[str, Definition] = {
    leak.name: leak
    for leak in (
        _leak(
            "scale_leak",
            "change of the inter-ocular distance (3D, outer eye corners) when the expression alone is taken from a driver",
            "%", MESH, mark=2.0,
        ),
        _leak(
            "scale_leak_slope",
            "slope of that change's logarithm against the driver's mouth opening, each person's mean removed",
            "1 / eye distance", MESH, mark=0.02,
        ),
        _leak(
            "pose_leak",
            "angle between the head's rotations with a driver's expression and with the source's own, all else equal",
            "degrees", _FITTED, mark=2.0,
        ),
        _leak(
            "exp_leak",
            "mean distance of 478 landmarks in the pose-normalised frame to those under the own motion, pose alone edited",
            "% of inter-ocular", _FITTED, mark=2.5,
        ),
        _leak(
            "slider_slope",
            "slope of measured against asked yaw, pitch, roll, log scale, shift x and y, each person's mean removed",
            "1", _FITTED, ideal=1.0, mark=0.1,
        ),
        _leak(
            "slider_error",
            "root mean square of measured minus asked, systematic offsets included",
            "degrees, %, % of the side", _FITTED,
        ),
        _leak(
            "canonical_consistency",
            "spread of x_c over a person's frames over the spread of the people's means, both root mean squares",
            "1", _ANCHORED, mark=0.25,
        ),
        _leak(
            "interp_smoothness",
            f"length of the path of 478 landmarks over its chord, the expression blended from shut to open in {STEPS} steps",
            "1", MESH, ideal=1.0,
        ),
        _leak(
            "size_breathing",
            "slope of the output's log inter-ocular distance against the driver's mouth, all driven, less the driver's own slope",
            "1 / eye distance", MESH,
        ),
        _leak(
            "mouth_gain",
            "slope of the output's against the driver's mouth opening, expression alone: nothing leaks from what does not move",
            "1", MESH, ideal=1.0,
        ),
    )
}  # fmt: skip


_UNITS = {"yaw": "degrees", "pitch": "degrees", "roll": "degrees", "scale": "%", "tx": "% of the side", "ty": "% of the side"}


def leak(name: str) -> Definition:
    """The definition of a figure of `figures`; "slider_slope yaw" has that of `slider_slope` with its own name and unit."""
    base, _, slider = name.partition(" ")
    if not slider:
        return LEAKS[base]
    unit = _UNITS[slider] if base == "slider_error" else LEAKS[base].unit
    return replace(LEAKS[base], name=name, definition=f"{LEAKS[base].definition}; {slider} alone", unit=unit)


def scale_leak(output: Faces, reference: Faces) -> Tensor:
    """Per cent (T,), not signed. reference: one face, or T."""
    return 100 * (output.eyes / reference.eyes - 1).abs()


def pose_leak(output: Faces, reference: Faces) -> Tensor:
    """Degrees (T,). reference: one face, or T."""
    return geodesic_angle(output.rotation, reference.rotation.expand_as(output.rotation))


def exp_leak(output: Faces, reference: Faces) -> Tensor:
    """Per cent of the reference's inter-ocular distance (T,). reference: one face, or T. Vertices without a point don't count."""
    unit = (reference.shape[:, EYE_CORNERS[0]] - reference.shape[:, EYE_CORNERS[1]]).norm(dim=1)
    shares: Tensor = 100 * (output.shape - reference.shape).norm(dim=2).nanmean(1) / unit
    return shares


def interp_smoothness(path: Faces) -> float:
    """Path over chord, 1 for a straight way at any speed; NaN with a missed face or when nothing moves."""
    points = path.points[:, ~path.points.isnan().all(0).any(1), :2].flatten(1)
    chord = float((points[-1] - points[0]).norm())
    return float(points.diff(dim=0).norm(dim=1).sum()) / chord if chord > 1e-9 else math.nan


def canonical_rows(canonical: Sequence[Tensor]) -> Tensor:
    """x_c (T,K,3) of each of P people -> (P, 1 + 3K): mean squared distance to the own mean, then the mean."""
    means = [frames.double().mean(0).flatten() for frames in canonical]
    within = [frames.double().var(0).sum() for frames in canonical]
    return torch.cat([torch.stack(within)[:, None], torch.stack(means)], 1)


def canonical_consistency(rows: Values) -> float:
    """Ratio of spreads from `canonical_rows`; NaN for less than two people."""
    if len(rows) < 2:
        return math.nan
    between = rows[:, 1:].var(0, ddof=1).sum()
    return math.sqrt(rows[:, 0].mean() / between) if between > 0 else math.nan


def slope(pairs: Values) -> float:
    """Slope through the origin of the second column on the first; NaN when that doesn't vary."""
    pairs = pairs[~np.isnan(pairs).any(1)]
    power = float((pairs[:, 0] ** 2).sum())
    return float((pairs[:, 0] * pairs[:, 1]).sum()) / power if power > 1e-12 else math.nan


def slider_rows(output: Faces, reference: Faces) -> Tensor:
    """Asked and measured (N,2) of one source under `ASKED`: degrees; logarithm of the factor; fractions of the crop's side.

    Angles are absolute, scale and shift are relative to the reference, one face.
    """
    pitch, yaw, roll = matrix_to_euler(output.rotation)
    shift = (output.centre - reference.centre) / 2
    seen = {"pitch": pitch, "yaw": yaw, "roll": roll, "tx": shift[:, 0], "ty": shift[:, 1]}
    seen["scale"] = (output.scale / reference.scale).log()
    rows = [[math.log(value) if name == "scale" else value, float(seen[name][i])] for i, (name, value) in enumerate(ASKED)]
    return torch.tensor(rows, dtype=torch.float64)


def leakage_figures(trials: Trials, *, seed: int) -> list[Figure]:
    """Every one of `figures`, of the model's pictures, and the consistency of its canonical keypoints, as lines of a report."""
    found = figures(trials.rendered, seed=seed) | {"canonical_consistency": consistency(trials.canonical, seed=seed)}
    return [
        figure_of(leak(name), interval, reference=_REFERENCES.get(name.partition(" ")[0], _OWN_MOTION), missed=interval.missed)
        for name, interval in found.items()
    ]


def figures(trials: Sequence[Trial], *, samples: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Every figure of trials, by its name in `LEAKS`, those of one slider as ``slider_slope yaw``; intervals over people.

    `slider_error` of scale and shift is in per cent. What could not be measured is NaN. samples: of the bootstrap.
    """

    def over(rows: Callable[[Trial], Tensor], statistic: Callable[[Values], float] = frame_mean) -> Interval:
        values = [rows(trial).double() for trial in trials]
        groups = [trial.name for trial, part in zip(trials, values, strict=True) for _ in part]
        return bootstrap(torch.cat(values).numpy(), groups=groups, statistic=statistic, samples=samples, seed=seed)

    def against(x: Tensor, *ys: Tensor) -> Tensor:
        """(T, 1 + len(ys)), each column without its mean, NaN where any is missing."""
        missing = torch.stack([x, *ys]).isnan().any(0)
        columns = [centred(x.masked_fill(missing, math.nan), y.masked_fill(missing, math.nan)) for y in ys]
        return torch.cat([columns[0][:, :1], *(column[:, 1:] for column in columns)], 1)

    found = {
        "scale_leak": over(lambda t: scale_leak(t.expression, t.reference)),
        "scale_leak_slope": over(lambda t: against(t.driving.mouth, (t.expression.eyes / t.reference.eyes).log()), slope),
        "pose_leak": over(lambda t: pose_leak(t.expression, t.reference)),
        "exp_leak": over(lambda t: exp_leak(t.pose, t.reference)),
        "interp_smoothness": over(lambda t: torch.tensor([interp_smoothness(t.path)])),
        "size_breathing": over(
            lambda t: against(t.driving.mouth, t.full.eyes.log(), t.driving.eyes.log()),
            lambda rows: slope(rows[:, :2]) - slope(rows[:, ::2]),
        ),
        "mouth_gain": over(lambda t: against(t.driving.mouth, t.expression.mouth), slope),
    }
    names = [name for name, _ in ASKED]
    for name in SLIDERS:
        which = torch.tensor([other == name for other in names])
        unit = 1.0 if name in ("yaw", "pitch", "roll") else 100.0

        def rows(trial: Trial, which: Tensor = which) -> Tensor:
            return slider_rows(trial.pose, trial.reference)[which]

        def wrong(trial: Trial, rows: Callable[[Trial], Tensor] = rows, unit: float = unit) -> Tensor:
            return rows(trial).diff(dim=1)[:, 0] * unit

        found[f"exp_leak {name}"] = over(lambda t, which=which: exp_leak(t.pose, t.reference)[which])  # type: ignore[misc]
        found[f"slider_slope {name}"] = over(lambda t, rows=rows: against(*rows(t).unbind(1)), slope)  # type: ignore[misc]
        found[f"slider_error {name}"] = over(wrong, _root_mean_square)
    return found


def consistency(canonical: Sequence[Tensor], *, seed: int = 0) -> Interval:
    """`canonical_consistency` of the x_c (T,K,3) of each of several people."""
    rows = canonical_rows(canonical).numpy()
    return bootstrap(rows, groups=np.arange(len(rows)), statistic=canonical_consistency, seed=seed)


def _root_mean_square(values: Values) -> float:
    return math.sqrt(frame_mean(values**2))
