"""Motion without jitter: a one-euro filter that follows trends, so that it does not lag; streaming or a whole clip.

The one-euro filter (Casiez et al., CHI 2012) is a low-pass filter whose cutoff rises with speed. Ours differs in two
points. It carries a velocity and predicts the next frame with it, so that a steady movement is not delayed at all. And
its cutoff rises with *surprise*, the part of the prediction's error that lasts, measured against the part that changes
from frame to frame: the tracker's noise, which it thereby learns. So it has no units, and serves degrees, grid units and
the features of any model alike. It looks at no later frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import ConfigError
from .geometry import project_to_rotation
from .motion import DEFAULT_FPS, Motion, rotation_exp, rotation_log, same_features

DEFAULT_STRENGTH = 0.5


@dataclass(frozen=True)
class SmoothParams:
    """Constants of the filter at one strength.

    cutoff: Hz, of the low-pass while nothing happens. surprise: by how much the cutoff rises with surprise.
    lasting, memory: seconds over which the error's lasting part and the noise are averaged.
    expression: how many times higher the cutoff of the expression is: blinks are faster than heads.
    """

    cutoff: float
    surprise: float = 0.5
    lasting: float = 0.04
    memory: float = 1.0
    expression: float = 1.6

    @staticmethod
    def of(strength: float) -> SmoothParams:
        """Of a strength in (0,1]: 8 Hz just above 0, 3 Hz at 0.5, 1.1 Hz at 1."""
        return SmoothParams(cutoff=8.0 * (1.125 / 8.0) ** strength)


class MotionSmoother:
    """Smooth one clip as it comes, in parts of any length: what comes out is the same as for the whole clip at once.

    strength: 0 (nothing is changed) to 1 (strong). fps: frames per second. Raises ConfigError beyond those.
    """

    def __init__(self, strength: float = DEFAULT_STRENGTH, *, fps: float = DEFAULT_FPS) -> None:
        if not 0 <= strength <= 1:
            raise ConfigError(f"A smoothing strength lies between 0 (off) and 1 (strong), not {strength:g}.")
        if not 0 < fps <= 1000:
            raise ConfigError(f"A motion at {fps:g} frames per second can't be smoothed.")
        self._tracks: dict[str, _Track] | None = None
        if strength > 0:
            params = SmoothParams.of(strength)
            quick = replace(params, cutoff=params.cutoff * params.expression)
            self._tracks = {
                "rotation": _Track(params, fps, rotation=True),
                "scale": _Track(params, fps),
                "translation": _Track(params, fps),
                "expression": _Track(quick, fps),
            }
        self._last: Motion | None = None

    def __call__(self, motion: Motion) -> Motion:
        """The next B frames, smoothed. The intensity is set by hand, and stays. Raises ModelError for another model's."""
        if self._tracks is None or not len(motion):
            return motion
        if self._last is not None:
            same_features(self._last, motion)
        self._last = motion[-1]
        # The scale is smoothed as its logarithm: halving and doubling are alike.
        values = {"rotation": motion.rotation, "scale": motion.scale.log(), "translation": motion.translation}
        values["expression"] = motion.expression
        smoothed = {name: torch.cat([track(frame[None]) for frame in values[name]]) for name, track in self._tracks.items()}
        return replace(
            motion,
            rotation=smoothed["rotation"],
            scale=smoothed["scale"].exp(),
            translation=smoothed["translation"],
            expression=smoothed["expression"],
        )


def smooth(motion: Motion, strength: float = DEFAULT_STRENGTH) -> Motion:
    """A clip without its jitter, at its own frame rate (25 where it knows none); see `MotionSmoother`."""
    return MotionSmoother(strength, fps=motion.fps or DEFAULT_FPS)(motion)


@dataclass(frozen=True)
class Jitter:
    """How much a clip trembles: the deviation per frame of the white noise that would tremble as much.

    rotation: degrees. scale: per cent. translation: per cent of the crop's side. expression: units of the feature f.
    """

    rotation: float
    scale: float
    translation: float
    expression: float


def jitter(motion: Motion) -> Jitter:
    """Root mean square of the second difference in time over the square root of 6, the value for white noise of deviation 1.

    Each attribute counts as one vector. Real movement counts too, when it changes within a frame or two: compare a clip
    with itself. Raises ConfigError for a clip of less than three frames.
    """
    if len(motion) < 3:
        raise ConfigError(f"Jitter is measured on three frames or more, not on {len(motion)}.")

    def rms(second: Tensor) -> float:
        return math.sqrt(float(second.double().square().sum(1).mean()) / 6)

    turns = rotation_log(motion.rotation[1:].double() @ motion.rotation[:-1].double().transpose(1, 2))
    return Jitter(
        rotation=math.degrees(rms(turns.diff(dim=0))),
        scale=100 * rms(motion.scale.log().diff(n=2, dim=0)),
        translation=100 * rms(motion.translation.diff(n=2, dim=0)) / 2,
        expression=rms(motion.expression.diff(n=2, dim=0)),
    )


class _Track:
    """The filter of one attribute: a vector, or a rotation with rotation vectors as its differences."""

    def __init__(self, params: SmoothParams, rate: float, *, rotation: bool = False) -> None:
        self.params, self.step, self.rotation = params, 1 / rate, rotation
        self.value: Tensor | None = None
        # Critically damped at the resting gain; a surprise doesn't raise it, or a blink would swing past its mark.
        self.pull = (1 - math.sqrt(1 - self._share(params.cutoff))) ** 2

    def __call__(self, observed: Tensor) -> Tensor:
        """The smoothed value of the next frame, of the shape (1,...) of what was observed."""
        if self.value is None:
            self.value, self.frames, self.noise = observed, 0, 0.0
            zero = self._difference(observed, observed)
            self.velocity, self.error, self.lasting = zero, zero, zero
            return observed
        predicted = self._moved(self.value, self.velocity)
        error = self._difference(observed, predicted)
        gain = self._gain(error)
        value = self._moved(predicted, gain * error)
        # Products of thousands of rotations drift away from being one.
        self.value = project_to_rotation(value) if self.rotation else value
        self.velocity = self.velocity + self.pull * error
        return self.value

    def _gain(self, error: Tensor) -> float:
        share = 1 - math.exp(-self.step / self.params.lasting)
        self.lasting = self.lasting + share * (error - self.lasting)
        change = float((error - self.error).square().sum()) / 2
        self.error = error
        self.frames += 1
        memory = max(1 / self.frames, 1 - math.exp(-self.step / self.params.memory))
        self.noise += memory * (change - self.noise)
        # White noise of this power would leave so much in the lasting part.
        expected = self.noise * share / (2 - share)
        ratio = float(self.lasting.square().sum()) / max(expected, 1e-20)
        cutoff = self.params.cutoff * (1 + self.params.surprise * max(0.0, ratio - 1))
        return self._share(cutoff)

    def _share(self, cutoff: float) -> float:
        """What a low-pass with this cutoff, in Hz, takes of each new frame, in (0,1)."""
        return 1 / (1 + 1 / (2 * math.pi * cutoff * self.step))

    def _difference(self, later: Tensor, earlier: Tensor) -> Tensor:
        return rotation_log(later @ earlier.transpose(1, 2)) if self.rotation else later - earlier

    def _moved(self, value: Tensor, change: Tensor) -> Tensor:
        return rotation_exp(change) @ value if self.rotation else value + change
