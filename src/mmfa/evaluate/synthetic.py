"""Drawn heads whose pose, scale, translation and expression are known: what real video cannot give.

A head is drawn from its seed; nothing is stored. Coordinates are those of `mmfa.geometry`: x right, y down, z away from the
viewer, the picture is [-1,1], and ``x = s R v + t`` takes a point v of the head to the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import ConfigError
from ..geometry import euler_to_matrix
from ..media.image import Array
from .figure import Style, build, normals, random_style
from .heads import Anatomy, Expression, random_anatomy
from .paint import Paint, random_paint
from .raster import rasterise

_OVERSAMPLING = 2
_BODY_TURN = 0.2
"""How much of the head's yaw the shoulders follow."""


@dataclass(frozen=True)
class Head:
    """One drawn identity."""

    anatomy: Anatomy
    style: Style
    paint: Paint

    @staticmethod
    def random(generator: np.random.Generator) -> Head:
        """Another identity at every call: shape, hair, colours, texture, light and background."""
        anatomy = random_anatomy(generator)
        style = random_style(generator)
        return Head(anatomy, style, random_paint(generator, iris_share=anatomy.iris_radius / anatomy.eye_radius))


@dataclass(frozen=True, kw_only=True)
class State:
    """How a head is held: yaw, pitch and roll in degrees, as in `euler_to_matrix`; scale, where 1 maps the head's unit to half
    of the picture's side; shift, (x, y) in grid units; and its expression.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale: float = 0.5
    shift: tuple[float, float] = (0.0, 0.08)
    expression: Expression = field(default_factory=Expression)


RANGES: dict[str, tuple[float, float]] = {
    "yaw": (-30, 30), "pitch": (-15, 15), "roll": (-20, 20), "scale": (0.42, 0.6), "shift_x": (-0.15, 0.15),
    "shift_y": (-0.05, 0.2), "jaw": (0, 1), "smile": (0, 1), "blink_left": (0, 1), "blink_right": (0, 1), "brow": (0, 1),
    "gaze_x": (-1, 1), "gaze_y": (-1, 1),
}  # fmt: skip
"""Every attribute that can be moved alone, and the range that random states and clips keep to."""
EXPRESSIONS = tuple(one.name for one in fields(Expression))
POSE = ("yaw", "pitch", "roll")


def moved(state: State, values: Mapping[str, float]) -> State:
    """`state` with some attributes set, by the names of `RANGES`; the others stay bit for bit.

    Raises ConfigError for an unknown name.
    """
    unknown = sorted(set(values) - set(RANGES))
    if unknown:
        raise ConfigError(f"A head has no attribute {unknown[0]!r}; choose from {', '.join(RANGES)}.")
    expression = replace(state.expression, **{name: value for name, value in values.items() if name in EXPRESSIONS})
    shift = (values.get("shift_x", state.shift[0]), values.get("shift_y", state.shift[1]))
    rest: dict[str, Any] = {name: value for name, value in values.items() if name in (*POSE, "scale")}
    return replace(state, shift=shift, expression=expression, **rest)


def random_state(generator: np.random.Generator, *, moving: Sequence[str] = tuple(RANGES), base: State | None = None) -> State:
    """The attributes `moving` drawn evenly from their ranges, the others those of `base`."""
    return moved(base or State(), {name: float(generator.uniform(*_range(name))) for name in moving})


def smooth_states(
    generator: np.random.Generator, frames: int, *, moving: Sequence[str] = tuple(RANGES), base: State | None = None
) -> list[State]:
    """The states of a clip: each attribute of `moving` swings smoothly through its range, the others are those of `base`."""
    time = np.arange(frames) / 25
    paths: dict[str, NDArray[np.float64]] = {}
    for name in moving:
        low, high = _range(name)
        rates, phases = generator.uniform(0.2, 0.9, 2), generator.uniform(0, 2 * np.pi, 2)
        swing = np.sin(2 * np.pi * time[:, None] * rates + phases).mean(1)
        paths[name] = (low + high) / 2 + (high - low) / 2 * swing
    return [moved(base or State(), {name: float(path[i]) for name, path in paths.items()}) for i in range(frames)]


def sweep(name: str, count: int, *, base: State | None = None) -> list[State]:
    """One attribute alone through its range in `count` even steps."""
    return [moved(base or State(), {name: float(value)}) for value in np.linspace(*_range(name), count)]


def _range(name: str) -> tuple[float, float]:
    if name not in RANGES:
        raise ConfigError(f"A head has no attribute {name!r}; choose from {', '.join(RANGES)}.")
    return RANGES[name]


@dataclass(frozen=True)
class Rendered:
    """A drawing and its truth.

    image: (S,S,3) uint8. landmarks: (478,3) in grid coordinates, the irises last, visible or not; canonical: (478,3), the same
    points in the head's frame: ``landmarks = scale * canonical @ rotation.T + translation``. rotation: (3,3).
    scale: positive. translation: (3,), its z is 0.
    """

    image: Array
    landmarks: Tensor
    canonical: Tensor
    rotation: Tensor
    scale: float
    translation: Tensor


def sequence(head: Head, states: Iterable[State], *, size: int = 256) -> Iterator[Rendered]:
    """A clip, drawn frame by frame; see `smooth_states` and `sweep`."""
    return (render(head, state, size) for state in states)


def render(head: Head, state: State, size: int = 256) -> Rendered:
    """Draw a head. Raises ConfigError for a size below 16, a scale that is not positive or values that are no numbers."""
    _check(state, size)
    rotation, body = _rotation(state.pitch, state.yaw, state.roll), _rotation(0.0, _BODY_TURN * state.yaw, 0.0)
    canonical = head.anatomy.express(state.expression)
    translation = np.array([*state.shift, 0.0])
    landmarks = state.scale * canonical @ rotation.T + translation
    mesh = build(head.anatomy, head.style, canonical, state.expression, rotation=rotation, body=body)
    samples = size * _OVERSAMPLING
    placed = state.scale * mesh.vertices + translation
    placed[:, :2] = ((placed[:, :2] + 1) / 2 * (size - 1) + 0.5) * _OVERSAMPLING
    hits = rasterise(placed, mesh.triangles, size=samples)
    attributes = np.concatenate([normals(mesh), mesh.uv, mesh.shade[:, None]], 1).astype(np.float32)
    mixed = np.zeros((len(hits.place), 6), np.float32)
    for corner in range(3):
        mixed += hits.weights[:, corner, None] * attributes[mesh.triangles[hits.triangle, corner]]
    normal = mixed[:, :3] / np.linalg.norm(mixed[:, :3], axis=1, keepdims=True).clip(1e-6)
    normal[:, 2] = -np.abs(normal[:, 2])  # what is seen faces the viewer
    colours = head.paint.shade(mesh.material[hits.triangle], mixed[:, 3:5], normal) * mixed[:, 5:]
    behind = Image.fromarray(head.paint.background).resize((samples, samples), Image.Resampling.BILINEAR)
    canvas = np.asarray(behind, np.float32).reshape(-1, 3).copy()
    canvas[hits.place] = colours
    square = canvas.reshape(samples, samples, 3)
    pooled = sum(square[i::_OVERSAMPLING, j::_OVERSAMPLING] for i in range(_OVERSAMPLING) for j in range(_OVERSAMPLING))
    image = (np.asarray(pooled) / _OVERSAMPLING**2).clip(0, 255).round().astype(np.uint8)
    tensors = (torch.from_numpy(array).float() for array in (landmarks, canonical, rotation, translation))
    points, own, turn, shift = tensors
    return Rendered(image, points, own, turn, state.scale, shift)


def _rotation(pitch: float, yaw: float, roll: float) -> NDArray[np.float64]:
    angles = (torch.tensor([angle], dtype=torch.float64) for angle in (pitch, yaw, roll))
    rotation: NDArray[np.float64] = euler_to_matrix(*angles)[0].numpy()
    return rotation


def _check(state: State, size: int) -> None:
    numbers = [state.yaw, state.pitch, state.roll, state.scale, *state.shift, *vars(state.expression).values()]
    if not np.isfinite(numbers).all() or state.scale <= 0:
        raise ConfigError(f"A head can't be drawn in {state}: numbers are needed, and a positive scale.")
    if size < 16:
        raise ConfigError(f"A head can't be drawn on {size} x {size} pixels; take 16 or more.")
