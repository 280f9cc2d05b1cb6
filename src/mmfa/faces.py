"""From pictures and tracked landmarks to what the networks take: the crop, and `FaceInput` in its frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from .errors import MediaError
from .media.crop import CropBox, crop, face_crop_box
from .media.image import Array, to_tensor
from .motion import Motion
from .portrait import FaceInput, Signal
from .priors.landmarks import TrackedFace
from .priors.pose import head_pose, normalise
from .priors.roi import to_pixels

S = TypeVar("S", bound=Signal)


@dataclass(frozen=True)
class PixelFace:
    """Landmarks (478,3) of one face in pixels of its picture; the depth has the same unit."""

    points: Tensor

    @staticmethod
    def of(face: TrackedFace, image: Array) -> PixelFace:
        """A tracked face, whose landmarks are in grid coordinates, in pixels of `image` (H,W,3)."""
        return PixelFace(to_pixels(face.points, image.shape[0], image.shape[1]))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The face box (x0, y0, x1, y1) in pixels."""
        low, high = self.points[:468, :2].amin(0).tolist(), self.points[:468, :2].amax(0).tolist()
        return low[0], low[1], high[0], high[1]


def whole_picture(image: Array) -> CropBox:
    """The largest centred square of a picture: what is used in place of a crop. Raises MediaError for panoramas."""
    height, width = image.shape[:2]
    if max(height, width) > 4 * min(height, width):
        raise MediaError(f"A picture of {width} x {height} pixels is too long to be used whole; let the face be cropped.")
    return CropBox(width / 2, height / 2, min(height, width))


def crop_box(face: PixelFace) -> CropBox:
    """The crop of one face in the framing of the training data."""
    return face_crop_box(face.box)


def face_input(image: Array | None, face: PixelFace, box: CropBox, *, size: int) -> FaceInput:
    """One face, as a batch of one, in the frame of the crop `box` rendered at `size`; without `image` it has no pixels."""
    zoom = size / box.side
    low = torch.tensor([box.edges[0], box.edges[1]], dtype=torch.float32)
    xy = ((face.points[:, :2] - low) * zoom - 0.5) * 2 / (size - 1) - 1
    points = torch.cat([xy, face.points[:, 2:] * zoom * 2 / (size - 1)], 1)[None]
    pose = head_pose(points)
    picture = torch.zeros(1, 3, 0, 0) if image is None else to_tensor(crop(image, box, size=size))[None]
    return FaceInput(picture, normalise(points, pose), pose.rotation, pose.scale, pose.translation)


def reframe(signal: S, *, old: CropBox, new: CropBox) -> S:
    """A signal in the frame of the crop `old`, in that of the crop `new`: in the picture it is the same.

    Only a motion can be moved. Raises ValueError for another signal, unless both crops are one.
    """
    if old == new:
        return signal
    if not isinstance(signal, Motion):
        raise ValueError(f"{type(signal).__name__} can't be moved to another crop: it doesn't know where the face is.")
    zoom = old.side / new.side
    shift = np.array([old.cx - new.cx, old.cy - new.cy]) * 2 / new.side
    moved = signal.translation * zoom + torch.tensor([shift[0], shift[1], 0.0], dtype=signal.translation.dtype)
    return replace(signal, scale=signal.scale * zoom, translation=moved)


def window_box(window: Tensor, box: CropBox, *, size: int, pixels: int) -> CropBox:
    """A model's window (1,3) in the grid of the crop `box` of `size` pixels, as the crop whose corner pixels, of so many, are on
    its corners.
    """
    x, y, half = window[0].tolist()
    unit = box.side * (size - 1) / size / 2  # pixels of the picture per unit of the grid
    return CropBox(box.cx + x * unit, box.cy + y * unit, 2 * half * unit * pixels / (pixels - 1))
