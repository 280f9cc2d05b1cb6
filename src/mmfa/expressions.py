"""Expressions as a space: encode, interpolate, sample, wander, and steer along named directions (section 3.5)."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from .documents import read_json
from .edit import Note, check_possible, within_limits
from .errors import ConfigError, ModelError
from .media.files import atomic_output
from .motion import Motion, same_features
from .nets.anchors import VERTICES
from .nets.vae import ExpressionVAE, VAEParams
from .params import read_params
from .portrait import PortraitModel
from .weights import bounded_by, folder_of, from_pretrained, read_tensors

VERSION = 1
LARGEST_TEMPERATURE = 2.0
_DECODED = 4096
"""Codes that are decoded together."""


# -- measures -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What named directions move, (B,) each: lengths over the distance of the outer eye corners, left and right the image's.

    jaw_open: height of the gap between the inner lips.
    smile: width of the mouth, less how far below the nostrils its corners are.
    blink_left, blink_right: minus the mean height of the gap between the lids.
    brow_raise: mean height of the brows above the eye corners.
    gaze_x, gaze_y: how far right, how far down the irises are from the middle of the eye corners, mean of both eyes.

    On a model's keypoints they are exact. On landmarks of pictures the corners of the eyes go along with irises that move alone
    (`research/iris.py`), so that a gaze reads short, and one that goes down as raised brows.
    """

    jaw_open: Tensor
    smile: Tensor
    blink_left: Tensor
    blink_right: Tensor
    brow_raise: Tensor
    gaze_x: Tensor
    gaze_y: Tensor

    def stack(self) -> Tensor:
        """(B,7), in the order of `NAMES`."""
        return torch.stack([getattr(self, name) for name in NAMES], 1)


NAMES = tuple(field.name for field in fields(Measures))


def measures(mesh: Tensor) -> Measures:
    """Measures of pose-normalised landmarks (B,478,3), x right, y down. Only vertices that carry a keypoint are used."""

    def middle(*vertices: int) -> Tensor:
        return mesh[:, list(vertices), :2].mean(1)

    unit = (middle(33) - middle(263)).norm(dim=1)
    corners, brows = middle(33, 133, 263, 362), middle(70, 105, 107, 300, 334, 336)
    gaze = middle(468, 473) - corners
    lengths = {
        "jaw_open": (middle(14) - middle(13))[:, 1],
        "smile": (middle(291) - middle(61))[:, 0] + (middle(98, 327) - middle(61, 291))[:, 1],
        "blink_left": (middle(160, 159, 158) - middle(144, 145, 153))[:, 1],
        "blink_right": (middle(387, 386, 385) - middle(373, 374, 380))[:, 1],
        "brow_raise": (corners - brows)[:, 1],
        "gaze_x": gaze[:, 0],
        "gaze_y": gaze[:, 1],
    }
    return Measures(**{name: length / unit for name, length in lengths.items()})


def keypoint_measures(keypoints: Tensor) -> Measures:
    """Measures of anchored keypoints (B,K,3) in the canonical frame, x_c + d: keypoint k sits on mesh vertex VERTICES[k]."""
    mesh = keypoints.new_full((len(keypoints), 478, 3), math.nan)
    mesh = mesh.index_copy(1, torch.tensor(VERTICES, device=mesh.device), keypoints[:, : len(VERTICES)])
    return measures(mesh)


# -- the space ----------------------------------------------------------------------------------------------------------


class ExpressionSpace:
    """The expression features f (B,N) of one model, as codes z (B,C) of its VAE.

    >>> space = ExpressionSpace.load("lite")
    >>> between = space.interpolate(torch.cat([first.expression, second.expression]), steps=25)
    >>> smiling = space.set(motion.expression, {"smile": 0.8})
    """

    def __init__(self, vae: ExpressionVAE, directions: Tensor, *, owner: str) -> None:
        """directions: (2,7,N), what a value of 1 adds to f and what one of -1 takes from it, in the order of `NAMES`; or (7,N).

        owner: `fingerprint` of the model.
        """
        self.vae, self.owner = vae.eval().requires_grad_(False), owner
        self.directions = directions if directions.dim() == 3 else directions.expand(2, -1, -1)

    @classmethod
    def of(cls, model: PortraitModel[Any, Any], vae: ExpressionVAE, directions: Tensor) -> ExpressionSpace:
        """A VAE and directions that were learned from the expressions of `model`."""
        return cls(vae, directions, owner=fingerprint(model))

    @classmethod
    def load(cls, name: str | Path = "lite", *, model: PortraitModel[Any, Any] | None = None) -> ExpressionSpace:
        """The VAE beside the weights of a shipped model or of one in a folder; `model`: the same, if it is loaded already.

        Raises ModelError when there is none, when it is damaged, and when it was trained for other weights of the model.
        """
        owner = fingerprint(from_pretrained(name) if model is None else model)
        folder = folder_of(name)
        try:
            config = read_json(folder / "vae.json")
            if config["format"] != "mmfa-vae" or config["version"] != VERSION:
                raise ModelError(f"{folder / 'vae.json'} is not an expression VAE of version {VERSION}; train it anew.")
            if config["owner"] != owner:
                raise ModelError(
                    f"The expression VAE in {folder} belongs to other weights of the model; train it anew with mmfa train-vae."
                )
            if tuple(config["directions"]) != NAMES:
                raise ModelError(f"The named directions in {folder} are not this version's; train them anew with mmfa train-vae.")
            with bounded_by(folder / "vae.safetensors"):
                vae = ExpressionVAE(read_params(VAEParams, config["params"]))
            tensors = read_tensors(folder / "vae.safetensors")
            directions = tensors.pop("directions")
            if directions.dim() not in (2, 3) or directions.shape[-2:] != (len(NAMES), vae.params.features):
                raise ValueError(f"its tensor directions has the shape {list(directions.shape)}")
            vae.load_state_dict(tensors)
        except FileNotFoundError as error:
            missing = error.filename or "vae.safetensors"
            raise ModelError(f"The model {str(name)!r} has no expression VAE: {missing} is missing.") from error
        except ModelError:
            raise
        except (OSError, SafetensorError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"The expression VAE in {folder} is damaged ({reason}).") from error
        return cls(vae, directions, owner=owner)

    def save(self, folder: str | Path) -> None:
        """Write ``vae.safetensors`` and ``vae.json`` into the model's folder, each all or nothing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in self.vae.state_dict().items()}
        config: dict[str, Any] = {"format": "mmfa-vae", "version": VERSION, "owner": self.owner, "directions": NAMES}
        config["params"] = dataclasses.asdict(self.vae.params)
        with atomic_output(folder / "vae.safetensors") as temporary:
            save_file({**tensors, "directions": self.directions.contiguous()}, str(temporary))
        with atomic_output(folder / "vae.json") as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n")

    @torch.no_grad()
    def encode(self, feature: Tensor) -> Tensor:
        """The most likely codes (B,C) of features (B,N): the posterior means."""
        return self.vae.encode(feature).mean

    @torch.no_grad()
    def decode(self, code: Tensor) -> Tensor:
        """Features (B,N) of codes (B,C)."""
        return self.vae.decode(code)

    def interpolate(self, waypoints: Tensor, steps: int) -> Tensor:
        """Features ((W-1) steps + 1, N) through waypoints (W,N), `steps` from each to the next, which are met exactly.

        Codes are interpolated linearly, and so is the little that the VAE loses of each waypoint. Raises ConfigError for
        fewer than 2 waypoints or less than 1 step.
        """
        if len(waypoints) < 2 or steps < 1:
            raise ConfigError(f"An interpolation needs 2 waypoints and 1 step, not {len(waypoints)} and {steps}.")
        codes = self.encode(waypoints)
        lost = waypoints - self.decode(codes)
        place = torch.arange((len(waypoints) - 1) * steps + 1)
        before = (place // steps).clamp(max=len(waypoints) - 2)
        share = (place / steps - before)[:, None]
        decoded = self.decode(torch.lerp(codes[before], codes[before + 1], share))
        path = decoded + torch.lerp(lost[before], lost[before + 1], share)
        path[::steps] = waypoints
        return path

    def sample(self, count: int, generator: torch.Generator, *, temperature: float = 1.0) -> Tensor:
        """Features (count,N) of codes ``z ~ temperature N(0,I)``. Raises ConfigError for a temperature outside (0,2]."""
        code = torch.randn(count, self.vae.params.code, generator=generator)
        return self.decode(_checked(temperature) * code)

    def walk(
        self, frames: int, *, fps: float, generator: torch.Generator, temperature: float = 1.0, seconds: float = 1.5
    ) -> Tensor:
        """Features (frames,N) that wander smoothly and end where they began, so that the clip loops without a seam.

        The codes are a periodic Gaussian process: every frame on its own is a sample of N(0,I), and codes `seconds` apart
        correlate by exp(-2). Raises ConfigError for less than 2 frames, or a temperature outside (0,2].
        """
        if frames < 2 or not fps > 0:
            raise ConfigError(f"A walk of {frames} frames at {fps:g} frames per second has no length.")
        # The spectrum of a squared-exponential kernel at the harmonics of the loop; their powers sum to 1.
        harmonics = torch.arange(frames // 2 + 1)
        power = torch.exp(-0.5 * (math.pi * seconds * fps * harmonics / frames) ** 2)
        power[1:] *= 2
        amplitude = (power / power.sum()).sqrt()[:, None]
        cosine, sine = torch.randn(2, len(harmonics), self.vae.params.code, generator=generator)
        # By Fourier transform: memory grows with the frames and not with their square.
        share = torch.full_like(amplitude, frames / 2)
        share[0] = frames
        if frames % 2 == 0:
            share[-1] = frames
        code = torch.fft.irfft(torch.complex(share * amplitude * cosine, -share * amplitude * sine), n=frames, dim=0)
        return torch.cat([self.decode(part) for part in (_checked(temperature) * code).split(_DECODED)])

    def offset(self, values: Mapping[str, float]) -> Tensor:
        """What (1,N) values of named directions (`NAMES`) add to a feature.

        1 moves the measure by what 5 % of the data's frames exceed of their person's mean; -1 the other way. Raises
        ConfigError for an unknown name, which suggests the nearest, or a value beyond ``POSSIBLE.direction`` of `mmfa.edit`.
        """
        offset = torch.zeros_like(self.directions[0, :1])
        for name, value in values.items():
            check_possible(_known(name), value, kind="direction")
            offset = offset + value * self.directions[int(value < 0), NAMES.index(name)]
        return offset

    def set(self, feature: Tensor, values: Mapping[str, float]) -> Tensor:
        """Features (B,N) moved along named directions; see `offset`."""
        return feature + self.offset(values).to(feature)


def limited_directions(values: Mapping[str, float], *, unclipped: bool = False, note: Note | None = None) -> dict[str, float]:
    """Values of named directions within what the data hold; see `mmfa.edit.within_limits`.

    Raises ConfigError for an unknown name, which suggests the nearest, and for a value that makes no sense.
    """
    return {
        name: within_limits(_known(name), value, kind="direction", unclipped=unclipped, note=note)
        for name, value in values.items()
    }


def interpolate_motions(space: ExpressionSpace, waypoints: Sequence[Motion], *, steps: int, pose: Motion) -> Motion:
    """A clip ((W-1) steps + 1) through the expressions of waypoints, one motion each, all in the pose of `pose`.

    A waypoint of intensity 0 is neutral, whatever its f: on the way to it the neighbour's expression fades, and from it the
    next one's grows. Raises ModelError for motions of different models, ConfigError like `ExpressionSpace.interpolate`.
    """
    if len(waypoints) < 2 or steps < 1:
        raise ConfigError(f"An interpolation needs 2 waypoints and 1 step, not {len(waypoints)} and {steps}.")
    clips = [_segment(space, first, second, steps) for first, second in pairwise(waypoints)]
    clips.append(waypoints[-1])
    path = Motion.concatenate(clips)
    same_features(path, pose)
    held = pose.expand(len(path))
    return replace(path, rotation=held.rotation, scale=held.scale, translation=held.translation)


def _segment(space: ExpressionSpace, first: Motion, second: Motion, steps: int) -> Motion:
    """From `first`, included, to `second`, excluded."""
    same_features(first, second)
    start, end = first.expression, second.expression
    start, end = (end if not first.intensity.any() else start), (start if not second.intensity.any() else end)
    share = torch.arange(steps)[:, None] / steps
    return replace(
        first.expand(steps),
        expression=space.interpolate(torch.cat([start, end]), steps)[:-1],
        intensity=torch.lerp(first.intensity, second.intensity, share),
    )


def fingerprint(model: PortraitModel[Any, Any]) -> str:
    """SHA-256 of the weights of E_exp and of the mesh it subtracts: what gives the numbers of f their meaning."""
    tensors = model.fingerprint()
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _known(name: str) -> str:
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(NAMES)}."
        raise ConfigError(f"Unknown direction {name!r}; {hint}")
    return name


def _checked(temperature: float) -> float:
    if not 0 < temperature <= LARGEST_TEMPERATURE:
        raise ConfigError(f"A temperature lies above 0 and up to {LARGEST_TEMPERATURE:g}, not {temperature:g}.")
    return temperature
