"""Motion: what moves a face, apart from whose face it is (section 3.2 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import ConfigError, MediaError, ModelError
from .media.files import atomic_output, check_input
from .portrait import Signal

Composition = Literal["mmfa", "liveportrait", "face-vid2vid"]
COMPOSITIONS: tuple[Composition, ...] = get_args(Composition)
FORMAT = "mmfa-motion"
VERSION = 2
LOWEST_FPS, HIGHEST_FPS = 0.1, 1000.0
"""Frame rates that a clip can have: a picture in ten seconds to the fastest cameras."""
DEFAULT_FPS = 25.0
"""Of clips that know no frame rate of their own."""
LARGEST_INTENSITY = 10.0
"""A motion file with a stronger expression is a mistake, not a wish."""
_SINCE = {"rotation": 1, "scale": 1, "translation": 1, "expression": 1, "intensity": 2}
"""The version of the format that each field came with."""
_FIELDS = tuple(_SINCE)
_LARGEST = {"scale": 100.0, "translation": 100.0, "expression": 1e4, "intensity": LARGEST_INTENSITY}


@dataclass(frozen=True, kw_only=True)
class Motion(Signal):
    """A batch (or, over time, a clip) of B motions in the frame of the face crop.

    rotation: (B,3,3), canonical to camera, orthonormal, det +1.
    scale: (B,1), positive; 1 maps the canonical face's unit to half of the crop's side.
    translation: (B,3) in grid units (the crop is [-1,1]); z is unused under orthographic projection.
    expression: (B,N), the latent feature f of eq. 4.
    intensity: (B,1), the factor on the deformation: ``d = intensity * D_exp(f, x_c)``. 0 is the canonical, neutral
        expression (Fig. 7), 1, the default, the expression as it was seen.
    fps: frames per second, where the batch is a clip.
    """

    rotation: Tensor
    scale: Tensor
    translation: Tensor
    expression: Tensor
    intensity: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.intensity is None:
            object.__setattr__(self, "intensity", torch.ones_like(self.scale))
        batch = len(self.rotation) if self.rotation.ndim else 0
        wanted = {"rotation": (batch, 3, 3), "scale": (batch, 1), "translation": (batch, 3), "intensity": (batch, 1)}
        for name, shape in wanted.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"Motion.{name} has shape {tuple(getattr(self, name).shape)}, expected {shape}.")
        if self.expression.ndim != 2 or self.expression.shape[0] != batch:
            raise ValueError(f"Motion.expression has shape {tuple(self.expression.shape)}, expected ({batch}, N).")

    def save(self, path: str | Path) -> None:
        """Write a versioned safetensors file, all or nothing."""
        tensors = {name: getattr(self, name).detach().float().cpu().contiguous().clone() for name in _FIELDS}
        metadata = {"format": FORMAT, "version": str(VERSION)}
        if self.fps is not None:
            metadata["fps"] = repr(float(self.fps))
        with atomic_output(path) as temporary:
            save_file(tensors, str(temporary), metadata=metadata)

    @staticmethod
    def load(path: str | Path) -> Motion:
        """Read a file written by `save`, also one of version 1 (its intensity is 1).

        Raises MediaError for any other file, another version, or values that no motion has.
        """
        path = check_input(path)
        try:
            with safe_open(str(path), "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise MediaError(f"{path} is a safetensors file but not an mmfa motion.")
                version = metadata.get("version")
                if version not in {str(number) for number in range(1, VERSION + 1)}:
                    raise MediaError(f"{path} is a motion of version {version}, this mmfa reads versions 1 to {VERSION}.")
                names = [name for name, since in _SINCE.items() if since <= int(version)]
                tensors = {name: file.get_tensor(name).float() for name in names}
        except (SafetensorError, OSError) as error:
            raise MediaError(f"{path} is not a motion file, or it is damaged ({error}).") from error
        fps = metadata.get("fps")
        if fps is not None and not _is_rate(fps):
            raise MediaError(f"{path} names {fps[:40]!r} frames per second; they must be {LOWEST_FPS:g} to {HIGHEST_FPS:g}.")
        try:
            motion = Motion(**tensors, fps=None if fps is None else float(fps))
        except ValueError as error:
            raise MediaError(f"{path}: {error}") from error
        fault = _fault(motion)
        if fault:
            raise MediaError(f"{path} contains {fault}.")
        return motion


def _is_rate(text: str) -> bool:
    try:
        return LOWEST_FPS <= float(text) <= HIGHEST_FPS
    except ValueError:
        return False


def _fault(motion: Motion) -> str | None:
    """What is wrong with the values of a motion, in words."""
    if not all(bool(getattr(motion, name).isfinite().all()) for name in _FIELDS):
        return "values that are not numbers"
    if not bool((motion.scale > 0).all()):
        return "a scale that is not positive"
    if not bool((motion.intensity >= 0).all()):
        return "an intensity below 0"
    for name, largest in _LARGEST.items():
        found = getattr(motion, name).abs().amax() if len(motion) else 0.0
        if found > largest:
            return f"a value of {float(found):g} in its {name}, beyond {largest:g}"
    product = motion.rotation @ motion.rotation.transpose(1, 2)
    if not bool(((product - torch.eye(3)).abs() < 1e-2).all()) or not bool((torch.linalg.det(motion.rotation) > 0).all()):
        return "a rotation that is none"
    return None


def same_features(first: Motion, second: Motion) -> None:
    """Raise ModelError unless both motions have expression features of one width, as motions of one model do."""
    one, other = first.expression.shape[1], second.expression.shape[1]
    if one != other:
        raise ModelError(f"One motion has {one} expression features, the other {other}: they come from different models.")


def compose(canonical: Tensor, deformation: Tensor, motion: Motion, *, mode: Composition = "mmfa") -> Tensor:
    """Keypoints (B,K,3) in the image from canonical keypoints (B,K,3) and their deformation (B,K,3).

    mmfa: ``s R (x_c + d) + t`` (eq. 5). liveportrait: ``s (R x_c + d) + t``. face-vid2vid: ``R x_c + t + d`` (eq. 3).
    """
    scale, translation = motion.scale[:, :, None], motion.translation[:, None]

    def rotate(points: Tensor) -> Tensor:
        return points @ motion.rotation.transpose(1, 2)

    match mode:
        case "mmfa":
            return scale * rotate(canonical + deformation) + translation
        case "liveportrait":
            return scale * (rotate(canonical) + deformation) + translation
        case "face-vid2vid":
            return rotate(canonical) + translation + deformation
    raise ValueError(f"Unknown composition {mode!r}; choose from {', '.join(COMPOSITIONS)}.")


def jacobian(source: Motion, driving: Motion, *, mode: Composition = "mmfa") -> Tensor:
    """Backward Jacobian (B,3,3) of every keypoint's local motion, driving to source: ``(s_s R_s)(s_d R_d)^-1``."""
    rotation = source.rotation @ driving.rotation.transpose(1, 2)
    if mode == "face-vid2vid":
        return rotation
    return rotation * (source.scale / driving.scale)[:, :, None]


# -- between motions ----------------------------------------------------------------------------------------------------


def rotation_log(rotation: Tensor) -> Tensor:
    """Rotation vectors (B,3), axis times angle in radians, of rotations (B,3,3); inverts `rotation_exp` below pi."""
    skew = torch.stack([rotation[:, i, j] - rotation[:, j, i] for i, j in ((2, 1), (0, 2), (1, 0))], 1) / 2
    sine = skew.norm(dim=1, keepdim=True)
    cosine = (rotation.diagonal(dim1=1, dim2=2).sum(1, keepdim=True) - 1) / 2
    angle = torch.atan2(sine, cosine)
    # Near half a turn the skew part vanishes, and the axis is the symmetric part's longest column.
    symmetric = (rotation + rotation.transpose(1, 2)) / 2 - cosine[..., None] * torch.eye(3).to(rotation)
    longest = symmetric.diagonal(dim1=1, dim2=2).argmax(1)
    column = symmetric[torch.arange(len(rotation)), :, longest]
    sign = torch.where((column * skew).sum(1, keepdim=True) < 0, -1.0, 1.0)
    half_turn = angle * sign * column / column.norm(dim=1, keepdim=True).clamp_min(1e-12)
    ordinary = skew * torch.where(sine > 1e-6, angle / sine.clamp_min(1e-6), 1.0)
    return torch.where(cosine < -0.99, half_turn, ordinary)


def rotation_exp(vector: Tensor) -> Tensor:
    """Rotations (B,3,3) of rotation vectors (B,3), axis times angle in radians."""
    # In float64: single precision would be off by 1e-5 near half a turn.
    x, y, z = vector.double().unbind(1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    rotation: Tensor = torch.linalg.matrix_exp(skew)
    return rotation.to(vector)


def blend(first: Motion, second: Motion, weight: Tensor | float) -> Motion:
    """From `first` at weight 0 to `second` at weight 1, both bit for bit: the rotation on SO(3) along the shortest turn, the
    scale geometrically, the rest linearly. Motions (B) or one of them (1), weight a number or (B,) in [0,1].

    Raises ModelError for motions of different models.
    """
    same_features(first, second)
    count = max(len(first), len(second))
    first, second = (motion if len(motion) == count else motion.expand(count) for motion in (first, second))
    share = torch.as_tensor(weight).to(first.scale).expand(count)[:, None]
    turn = rotation_log(second.rotation @ first.rotation.transpose(1, 2))
    mixed = {
        "rotation": rotation_exp(share * turn) @ first.rotation,
        "scale": first.scale * (second.scale / first.scale) ** share,
        **{
            name: torch.lerp(getattr(first, name), getattr(second, name), share)
            for name in ("translation", "expression", "intensity")
        },
    }
    for name, tensor in mixed.items():
        w = share.reshape(-1, *[1] * (tensor.ndim - 1))
        mixed[name] = torch.where(w == 0, getattr(first, name), torch.where(w == 1, getattr(second, name), tensor))
    return Motion(**mixed, fps=first.fps or second.fps)


def smoothstep(t: Tensor) -> Tensor:
    """``3 t^2 - 2 t^3`` for t clamped to [0,1]: an ease without a jolt at either end."""
    t = t.clamp(0, 1)
    return t * t * (3 - 2 * t)


def stretch(motion: Motion, *, frames: int | None = None, fps: float | None = None) -> Motion:
    """Resample a clip in time: to `frames` frames at its own rate (slower or faster), or to another rate `fps`.

    With `fps` the duration stays, and the clip must know its own rate. Between frames it blends (see `blend`).
    Raises ConfigError unless exactly one of the two is given, and for an empty clip or result.
    """
    if (frames is None) == (fps is None):
        raise ConfigError("Stretch to a number of frames or to a frame rate: give one of the two.")
    if fps is not None:
        if motion.fps is None or not 0 < fps <= 1000:
            raise ConfigError(f"A motion at {motion.fps} frames per second can't be brought to {fps}.")
        frames = max(1, round(len(motion) * fps / motion.fps))
        place = (torch.arange(frames, dtype=torch.float64) * motion.fps / fps).clamp(max=len(motion) - 1)
    else:
        assert frames is not None
        place = torch.linspace(0, max(0, len(motion) - 1), max(0, frames), dtype=torch.float64)
    if not len(motion) or frames < 1:
        raise ConfigError(f"A motion of {len(motion)} frames can't be stretched to {frames}.")
    before = place.floor().long()
    after = (before + 1).clamp(max=len(motion) - 1)
    return replace(blend(motion[before], motion[after], (place - before).float()), fps=fps or motion.fps)


def crossfade(first: Motion, second: Motion, *, frames: int = 8) -> Motion:
    """`first`, then `second`, the last `frames` of one eased into the first `frames` of the other.

    The length is the sum less `frames`. `second` is brought to the frame rate of `first` where both are known.
    Raises ConfigError when a clip is shorter than `frames`, ModelError for motions of different models.
    """
    same_features(first, second)
    if first.fps and second.fps and first.fps != second.fps:
        second = stretch(second, fps=first.fps)
    if not 0 <= frames <= min(len(first), len(second)):
        raise ConfigError(f"A crossfade of {frames} frames doesn't fit clips of {len(first)} and {len(second)} frames.")
    if frames == 0:
        return Motion.concatenate([first, second])
    cut = len(first) - frames
    return Motion.concatenate([first[:cut], _eased(first[cut:], second[:frames]), second[frames:]])


def loop(motion: Motion, *, crossfade: int | None = None) -> Motion:
    """A clip that can be repeated without a jump: there and back (2B - 2 frames), or with `crossfade` frames of its
    end eased into its beginning (B - crossfade frames), so that time never runs backwards.

    Raises ConfigError for a crossfade of less than one frame or more than half of the clip.
    """
    if crossfade is None:
        return motion[torch.tensor([*range(len(motion)), *range(len(motion) - 2, 0, -1)])]
    if not 0 < crossfade <= len(motion) // 2:
        raise ConfigError(f"A clip of {len(motion)} frames can't be looped with a crossfade of {crossfade}.")
    cut = len(motion) - crossfade
    return Motion.concatenate([_eased(motion[cut:], motion[:crossfade]), motion[crossfade:cut]])


def _eased(first: Motion, second: Motion) -> Motion:
    """Two clips of one length, from the first to the second."""
    count = len(first)
    return blend(first, second, smoothstep(torch.arange(1, count + 1) / (count + 1)))
