"""The motion of a driving video: one face followed through its frames, in one crop, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from .errors import FaceError
from .faces import PixelFace, crop_box, face_input, reframe, whole_picture
from .media.crop import CropBox, face_crop_box, union_box
from .media.image import Array
from .motion import Motion
from .nets.mmfa import MMFA
from .priors.landmarks import FaceTracker

GLANCE = 240
"""Frames, at most, of the first look at a long clip."""


@dataclass(frozen=True)
class TrackedMotion:
    """The motion of a driving video. `held`: frames without a face, in which the last motion was held. `faces`: how many the
    first frame that shows one was found to have; 0 of a motion file.
    """

    motion: Motion
    held: int
    faces: int = 0


@dataclass(frozen=True)
class Framing:
    """The crop of a driving clip. `measured`: the crop in which its faces are measured. `frame`: the one in whose frame of
    reference its motion is, around the face all the time.
    """

    measured: CropBox
    frame: CropBox

    def reframed(self, motion: Motion) -> Motion:
        """A motion that was measured, in the frame of reference."""
        return reframe(motion, old=self.measured, new=self.frame)


class MotionTracker:
    """The motion of one face through the frames of one clip, as they come.

    Frames in which the face is lost hold the last motion; frames before it first appears take its first motion. `measured`: the
    crop in which faces are measured; by default that of the first one, or, without `crop`, the whole picture.

    Attributes:
        measured: the crop, None until a face was seen.
        held: frames without a face so far.
        faces: how many faces the first frame with one showed.
    """

    def __init__(
        self, tracker: FaceTracker, model: MMFA, *, device: torch.device, crop: bool, measured: CropBox | None = None
    ) -> None:
        self.tracker, self.model, self.device, self.crop = tracker, model, device, crop
        self.measured = measured
        self.held = 0
        self._last: Motion | None = None
        self._boxes = Rows()

    @property
    def faces(self) -> int:
        return self.tracker.faces

    @property
    def framing(self) -> Framing:
        """Measured as it was, in the frame of a crop around the face in all frames so far. Only once a face was seen.

        A model that sees pixels measures what its crop shows, so that it can have no other frame.
        """
        assert self.measured is not None
        fixed = not self.crop or self.model.needs_pixels
        return Framing(self.measured, self.measured if fixed else face_crop_box(union_box(self._boxes.rows().numpy())))

    @torch.no_grad()
    def __call__(self, image: Array) -> Motion | None:
        """The motions that the next frame (H,W,3) uint8 makes known, in the measured crop: one, with the first face one more for
        each frame before it; None while no face was seen.
        """
        tracked = self.tracker.track(image)
        if tracked is None or tracked.lost:
            self.held += 1
            return self._last
        face = PixelFace.of(tracked, image)
        if self.measured is None:
            self.measured = crop_box(face) if self.crop else whole_picture(image)
        pixels = image if self.model.needs_pixels else None
        seen = face_input(pixels, face, self.measured, size=self.model.params.size)
        motion = self.model.motion(seen.to(self.device)).to("cpu")
        self._boxes.append(torch.tensor([face.box], dtype=torch.float64))
        before, self._last = self.held if self._last is None else 0, motion
        return motion.expand(1 + before)

    def over(self, frames: Iterable[Array], *, name: str) -> Iterator[Motion]:
        """The motions of all frames, measured. Raises FaceError, with the `name` of the frames, when none shows a face."""
        for image in frames:
            motion = self(image)
            if motion is not None:
                yield motion
        if self._last is None:
            raise FaceError(f"No face found in {name}, in none of its {self.held} frames.")


class Rows:
    """Rows (B,...) put one after the other into an array that doubles when it is full."""

    def __init__(self) -> None:
        self._array: Tensor | None = None
        self._count = 0

    def append(self, rows: Tensor) -> None:
        count = self._count + len(rows)
        if self._array is None or count > len(self._array):
            larger = rows.new_empty(max(64, 2 * count), *rows.shape[1:])
            if self._array is not None:
                larger[: self._count] = self._array[: self._count]
            self._array = larger
        self._array[self._count : count] = rows
        self._count = count

    def rows(self) -> Tensor:
        """All rows so far (N,...), without copying."""
        return torch.zeros(0) if self._array is None else self._array[: self._count]


class MotionBuffer:
    """Motions one after the other: 4 bytes a number, 0.3 kB a frame of `lite`."""

    def __init__(self) -> None:
        self._fields = {field.name: Rows() for field in fields(Motion) if field.name != "fps"}

    def append(self, motion: Motion) -> None:
        for name, rows in self._fields.items():
            rows.append(getattr(motion, name))

    def motion(self) -> Motion:
        """All of it. Only once there is one."""
        tensors: dict[str, Any] = {name: rows.rows() for name, rows in self._fields.items()}
        return Motion(**tensors)


def motion_of_frames(frames: Iterable[Array], tracker: MotionTracker, *, fps: float | None, name: str) -> TrackedMotion:
    """The motion of a clip of frames (H,W,3) uint8, streamed, in one fixed crop: around the face all the time.

    Raises FaceError, with the `name` of the frames, when none shows a face.
    """
    buffer = MotionBuffer()
    for motion in tracker.over(frames, name=name):
        buffer.append(motion)
    return TrackedMotion(replace(tracker.framing.reframed(buffer.motion()), fps=fps), tracker.held, tracker.faces)
