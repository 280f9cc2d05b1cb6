"""Editing motion: rotation, scale, translation and expression, each taken from elsewhere or set by hand, each alone."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .errors import ConfigError, MediaError
from .geometry import euler_to_matrix, matrix_to_euler
from .motion import DEFAULT_FPS, LARGEST_INTENSITY, Motion, blend, same_features, smoothstep
from .priors.pose import template

Attribute = Literal["rotation", "scale", "translation", "expression"]
ATTRIBUTES: tuple[Attribute, ...] = get_args(Attribute)
Note = Callable[[str], None]
"""Takes one sentence for the person who asked."""
_Range = tuple[float, float]


class RangeWarning(UserWarning):
    """A value beyond what the model was trained on."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Lowest and highest value of everything that can be set by hand; by default what the models are trained on.

    yaw, pitch, roll: degrees. scale: factor. tx, ty: fractions of the crop's side. intensity, lips, eyes: factors on
    the deformation. direction: value of a named direction of `mmfa.expressions`.
    """

    yaw: _Range = (-35, 35)
    pitch: _Range = (-25, 25)
    roll: _Range = (-30, 30)
    scale: _Range = (0.6, 1.6)
    tx: _Range = (-0.25, 0.25)
    ty: _Range = (-0.25, 0.25)
    intensity: _Range = (0, 1.5)
    lips: _Range = (0, 1.5)
    eyes: _Range = (0, 1.5)
    direction: _Range = (-2, 2)


TRAINED = Limits()
POSSIBLE = Limits(
    yaw=(-89, 89),
    pitch=(-180, 180),
    roll=(-180, 180),
    scale=(0.05, 20),
    tx=(-4, 4),
    ty=(-4, 4),
    intensity=(0, LARGEST_INTENSITY),
    lips=(0, LARGEST_INTENSITY),
    eyes=(0, LARGEST_INTENSITY),
    direction=(-3, 3),
)
"""Beyond these a value is a mistake, clipped or not."""


def check_possible(name: str, value: float, *, kind: str | None = None) -> None:
    """Raise ConfigError for a value beyond `POSSIBLE`, or one that is no number. `kind`: its field there, if not `name`."""
    low, high = getattr(POSSIBLE, kind or name)
    if not low <= value <= high:
        raise ConfigError(f"A value of {value:g} for {name} makes no sense: it lies between {low:g} and {high:g}.")


def within_limits(
    name: str, value: float, *, kind: str | None = None, unclipped: bool = False, note: Note | None = None
) -> float:
    """The value of one slider, clipped to `TRAINED` with a note; `unclipped` notes it and keeps it.

    note: is given the sentence; by default it is a RangeWarning. Raises like `check_possible`.
    """
    check_possible(name, value, kind=kind)
    low, high = getattr(TRAINED, kind or name)
    clipped = min(max(value, low), high)
    if clipped != value:
        fate = "kept, expect tears" if unclipped else f"clipped to {clipped:g}"
        text = f"{name} {value:g} is beyond the {low:g} to {high:g} that the models are trained on: {fate}."
        if note is None:
            warnings.warn(text, RangeWarning, stacklevel=2)
        else:
            note(text)
    return value if unclipped else clipped


@dataclass(frozen=True, kw_only=True)
class Amplitude:
    """Factors on the deformation of the keypoints of the lips and of the eyes, lids and irises: 1 changes nothing.

    It goes to the rendering and not into `Motion`: which keypoints are lips is the model's affair, a motion knows none.
    """

    lips: float = 1.0
    eyes: float = 1.0

    def limited(self, *, unclipped: bool = False, note: Note | None = None) -> Amplitude:
        """See `within_limits`."""
        lips = within_limits("lips", self.lips, unclipped=unclipped, note=note)
        return Amplitude(lips=lips, eyes=within_limits("eyes", self.eyes, unclipped=unclipped, note=note))


@dataclass(frozen=True, kw_only=True)
class Span:
    """A time range of a clip in seconds, None for the clip's own start or end, eased over `ramp` seconds inside each border.

    A border that is the clip's own has no ramp.
    """

    start: float | None = None
    end: float | None = None
    ramp: float = 0.3

    def weights(self, count: int, *, fps: float) -> Tensor:
        """How much of an edit each frame (count,) gets: 0 outside, 1 inside, between them in the ramps.

        Raises MediaError for a range outside the clip or one that ends before it starts.
        """
        duration = count / fps
        start, end = self.start or 0.0, duration if self.end is None else self.end
        if not (0 <= start < duration and end <= duration + 0.5 / fps):
            raise MediaError(f"The time range {start:g} to {end:g} s is outside the motion, which lasts {duration:.2f} s.")
        if not start < end:
            raise MediaError(f"The time range {start:g} to {end:g} s ends before it starts.")
        time = torch.arange(count, dtype=torch.float64) / fps
        ramp = max(min(self.ramp, (end - start) / 2), 1e-9)
        weights = ((time >= start) & (time <= end)).double()
        if start > 0:
            weights *= smoothstep((time - start) / ramp)
        if end < duration:
            weights *= smoothstep((end - time) / ramp)
        return weights.float()


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What to set by hand; None leaves it as it is.

    yaw, pitch, roll: degrees, absolute, of `mmfa.geometry.euler_to_matrix`: positive turns the nose to the left of the
    picture, lowers it, turns the head clockwise. scale: factor on the motion's own.
    tx, ty: shift in fractions of the crop's side, to the right and down. expression: ``neutral``, or the expression of
    another motion (one, or as many as there are frames). offset: (1,N) or one for each frame, added to the expression feature,
    such as `ExpressionSpace.offset`. intensity: what the deformation is multiplied by.
    """

    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None
    scale: float | None = None
    tx: float | None = None
    ty: float | None = None
    expression: Motion | Literal["neutral"] | None = None
    offset: Tensor | None = None
    intensity: float | None = None

    def __post_init__(self) -> None:
        if self.expression == "neutral" and self.intensity is not None:
            raise ConfigError("A neutral expression has no intensity: set one of the two.")
        if self.expression == "neutral" and self.offset is not None:
            raise ConfigError("A neutral expression doesn't move, along a direction neither: set one of the two.")

    @property
    def uniform(self) -> bool:
        """Whether it is the same for every frame, so that frames can be edited as they come."""
        clip = isinstance(self.expression, Motion) and len(self.expression) > 1
        return not clip and (self.offset is None or len(self.offset) == 1)

    def limited(self, *, unclipped: bool = False, note: Note | None = None) -> Edit:
        """Every value within what the models are trained on; see `within_limits`."""
        names = ("yaw", "pitch", "roll", "scale", "tx", "ty", "intensity")
        values = {name: value for name in names if (value := getattr(self, name)) is not None}
        limited: dict[str, Any] = {
            name: within_limits(name, value, unclipped=unclipped, note=note) for name, value in values.items()
        }
        return replace(self, **limited)

    def apply(self, motion: Motion, *, span: Span | None = None) -> Motion:
        """The motion with this edit, in all frames or, eased at the borders, in a time range.

        Frames outside the range stay bit for bit. Raises MediaError for a range outside the clip, ModelError for the
        expression of another model.
        """
        edited = motion
        if isinstance(self.expression, Motion):
            edited = take(edited, self.expression, ["expression"])
        elif self.expression == "neutral":
            edited = neutralise(edited)
        if self.offset is not None:
            edited = replace(edited, expression=edited.expression + self.offset.to(edited.expression))
        if self.intensity is not None:
            edited = replace(edited, intensity=torch.full_like(edited.intensity, self.intensity))
        edited = set_pose(edited, yaw=self.yaw, pitch=self.pitch, roll=self.roll)
        if self.scale is not None:
            edited = replace(edited, scale=edited.scale * self.scale)
        if self.tx is not None or self.ty is not None:
            # The crop's side is 2 grid units.
            shift = edited.translation.new_tensor([self.tx or 0.0, self.ty or 0.0, 0.0])
            edited = replace(edited, translation=edited.translation + 2 * shift)
        return edited if span is None else blend(motion, edited, span.weights(len(motion), fps=motion.fps or DEFAULT_FPS))


def take(source: Motion, driving: Motion, attributes: Collection[Attribute]) -> Motion:
    """The source's motion with the named attributes of the driving motion; the intensity belongs to the expression.

    Either may be one motion, which then holds for all frames of the other. Raises ConfigError when the lengths don't
    fit, ModelError for motions of different models.
    """
    same_features(source, driving)
    count = max(len(source), len(driving))
    if min(len(source), len(driving)) not in (1, count):
        raise ConfigError(
            f"Motions of {len(source)} and {len(driving)} frames don't go together: one of them must be a single one."
        )
    base, other = (motion if len(motion) == count else motion.expand(count) for motion in (source, driving))
    names = [*attributes, "intensity"] if "expression" in attributes else attributes
    return replace(base, **{name: getattr(other, name) for name in names}, fps=driving.fps or source.fps)


def parse_attributes(text: str) -> list[Attribute]:
    """Attributes from words with commas between. Raises ConfigError, which suggests the nearest word."""
    return [attribute_named(word.strip()) for word in text.split(",") if word.strip()]


def attribute_named(word: str) -> Attribute:
    """The attribute of this name. Raises ConfigError, which suggests the nearest."""
    for attribute in ATTRIBUTES:
        if word == attribute:
            return attribute
    near = difflib.get_close_matches(word, ATTRIBUTES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(ATTRIBUTES)}."
    raise ConfigError(f"Unknown attribute {word!r}; {hint}")


def set_pose(motion: Motion, *, yaw: float | None = None, pitch: float | None = None, roll: float | None = None) -> Motion:
    """Set some of the head's angles, in degrees, in the convention of `mmfa.geometry`; the others stay."""
    wanted = (pitch, yaw, roll)
    if wanted == (None, None, None):
        return motion
    own = matrix_to_euler(motion.rotation)
    angles = (angle if set_ is None else torch.full_like(angle, set_) for angle, set_ in zip(own, wanted, strict=True))
    return replace(motion, rotation=euler_to_matrix(*angles))


def neutralise(motion: Motion) -> Motion:
    """Keep the pose and drop the expression: the deformation is 0."""
    return replace(motion, intensity=torch.zeros_like(motion.intensity))


def canonical_motion(motion: Motion) -> Motion:
    """One motion of the same model under which a source shows its canonical face (Fig. 7): R = I, d = 0.

    The paper's s = 1, t = 0 are those of the training crops: the face box fills half of the crop's side, its centre 4 % of
    the side below the crop's. In grid units: the scale at which the frontal template is 1 long, and the shift to there.
    """
    vertices, _ = template()
    low, high = vertices[:, :2].amin(0), vertices[:, :2].amax(0)
    scale = 1 / (high - low).max()
    centre = scale * (low + high) / 2
    return Motion(
        rotation=torch.eye(3)[None],
        scale=scale.reshape(1, 1),
        translation=torch.stack([-centre[0], 0.08 - centre[1], torch.tensor(0.0)])[None],
        expression=torch.zeros(1, motion.expression.shape[1]),
        intensity=torch.zeros(1, 1),
    )


# -- figures ------------------------------------------------------------------------------------------------------------

SWEEP = {"yaw": 25.0, "pitch": 15.0, "roll": 25.0}
"""How far, in degrees, turntables and grids turn to either side."""


def turntable(motion: Motion, *, seconds: float = 2.0, fps: float = DEFAULT_FPS) -> Motion:
    """A clip that turns one face by yaw, then pitch, then roll, there, over and back, `seconds` each (Figs. 12-14).

    `motion`: one motion; its other angles stay. Every turn starts and ends, at rest, in its pose.
    """
    count = max(2, round(seconds * fps))
    phase = smoothstep(torch.arange(count) / (count - 1))
    wave = torch.sin(2 * math.pi * phase).tolist()
    clips = [_swept(motion, name, [(share, math.copysign(reach, share)) for share in wave]) for name, reach in SWEEP.items()]
    return replace(Motion.concatenate(clips), fps=fps)


def attribute_grid(motion: Motion, *, columns: int = 7) -> list[Motion]:
    """Rows of `columns` motions, each moving one attribute of one motion alone (Fig. 11).

    Yaw, pitch and roll (see `SWEEP`), scale by 0.8 to 1.25, expression intensity 0 to 1.5.
    """
    steps = torch.linspace(-1, 1, columns).tolist()
    rows = [Motion.concatenate([set_pose(motion, **{name: step * reach}) for step in steps]) for name, reach in SWEEP.items()]
    scales = (Edit(scale=1.25**step) for step in steps)
    intensities = (Edit(intensity=0.75 * (step + 1)) for step in steps)
    return [*rows, *(Motion.concatenate([edit.apply(motion) for edit in edits]) for edits in (scales, intensities))]


def _swept(motion: Motion, name: str, steps: Iterable[tuple[float, float]]) -> Motion:
    """One motion per step (share, angle): the share, -1 to 1, of the way from its own angle to `angle` degrees."""
    own = {key: float(angle) for key, angle in zip(("pitch", "yaw", "roll"), matrix_to_euler(motion.rotation), strict=True)}[name]
    return Motion.concatenate([set_pose(motion, **{name: own + abs(share) * (angle - own)}) for share, angle in steps])
