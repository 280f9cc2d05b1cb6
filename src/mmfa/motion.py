"""Motion: what moves a face, apart from whose face it is (section 3.2 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import MediaError
from .media.files import atomic_output, check_input

Composition = Literal["mmfa", "liveportrait", "face-vid2vid"]
COMPOSITIONS: tuple[Composition, ...] = get_args(Composition)
FORMAT = "mmfa-motion"
VERSION = 1
_FIELDS = ("rotation", "scale", "translation", "expression")


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A batch (or, over time, a clip) of B motions in the frame of the face crop.

    rotation: (B,3,3), canonical to camera, orthonormal, det +1.
    scale: (B,1), positive; 1 maps the canonical face's unit to half of the crop's side.
    translation: (B,3) in grid units (the crop is [-1,1]); z is unused under orthographic projection.
    expression: (B,N), the latent feature f of eq. 4.
    fps: frames per second, where the batch is a clip.
    """

    rotation: Tensor
    scale: Tensor
    translation: Tensor
    expression: Tensor
    fps: float | None = None

    def __post_init__(self) -> None:
        batch = self.rotation.shape[0]
        wanted = {"rotation": (batch, 3, 3), "scale": (batch, 1), "translation": (batch, 3)}
        for name, shape in wanted.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"Motion.{name} has shape {tuple(getattr(self, name).shape)}, expected {shape}.")
        if self.expression.ndim != 2 or self.expression.shape[0] != batch:
            raise ValueError(f"Motion.expression has shape {tuple(self.expression.shape)}, expected ({batch}, N).")

    def __len__(self) -> int:
        return self.rotation.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> Motion:
        """One motion (kept as a batch of one), a slice or an index tensor."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"motion {index} of {len(self)}")
            index = slice(index, index + 1 or None)
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Motion:
        return self._map(lambda tensor: tensor.to(device))

    def expand(self, count: int) -> Motion:
        """A batch of one, repeated `count` times."""
        return self._map(lambda tensor: tensor.expand(count, *tensor.shape[1:]))

    def _map(self, change) -> Motion:  # type: ignore[no-untyped-def]
        return Motion(**{name: change(getattr(self, name)) for name in _FIELDS}, fps=self.fps)

    @staticmethod
    def concatenate(motions: Sequence[Motion]) -> Motion:
        """Motions one after the other; the frame rate is the first one's."""
        if not motions:
            raise ValueError("Nothing to concatenate: the list of motions is empty.")
        return Motion(
            **{name: torch.cat([getattr(motion, name) for motion in motions]) for name in _FIELDS}, fps=motions[0].fps
        )

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
        """Read a file written by `save`. Raises MediaError for any other file, another version, or NaNs."""
        path = check_input(path)
        try:
            with safe_open(str(path), "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise MediaError(f"{path} is a safetensors file but not an mmfa motion.")
                if metadata.get("version") != str(VERSION):
                    raise MediaError(
                        f"{path} is a motion of version {metadata.get('version')}, this mmfa reads version {VERSION}."
                    )
                tensors = {name: file.get_tensor(name) for name in _FIELDS}
        except (SafetensorError, OSError) as error:
            raise MediaError(f"{path} is not a motion file, or it is damaged ({error}).") from error
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise MediaError(f"{path} contains values that are not numbers.")
        if not bool((tensors["scale"] > 0).all()):
            raise MediaError(f"{path} contains a scale that is not positive.")
        fps = metadata.get("fps")
        if fps is not None and not _is_rate(fps):
            raise MediaError(f"{path} names {fps!r} frames per second.")
        try:
            return Motion(**tensors, fps=None if fps is None else float(fps))
        except ValueError as error:
            raise MediaError(f"{path}: {error}") from error


def _is_rate(text: str) -> bool:
    try:
        return 0 < float(text) <= 1000
    except ValueError:
        return False


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
