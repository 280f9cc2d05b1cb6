"""What a driving video makes of a model: one face followed through its frames, in one crop, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .engine import Engine
from .errors import FaceError
from .faces import PixelFace, crop_box, face_input, reframe, whole_picture
from .media.crop import CropBox, face_crop_box, union_box
from .media.image import Array
from .portrait import Signal
from .priors.landmarks import FaceTracker

S = TypeVar("S", bound=Signal)
GLANCE = 240
"""Frames, at most, of the first look at a long clip."""


@dataclass(frozen=True)
class Tracked(Generic[S]):
    """What drives a clip. `held`: frames without a face, in which the last signal was held. `faces`: how many the first frame
    with one showed; 0: it comes from a file of motion.
    """

    signal: S
    held: int
    faces: int = 0


@dataclass(frozen=True)
class Framing:
    """The crop of a driving clip. `measured`: the crop in which its faces are measured. `frame`: the one in whose frame of
    reference its signal is, around the face all the time.
    """

    measured: CropBox
    frame: CropBox

    def reframed(self, signal: S) -> S:
        """A signal that was measured, in the frame of reference."""
        return reframe(signal, old=self.measured, new=self.frame)


class SignalTracker(Generic[S]):
    """What one face through the frames of one clip drives, as they come.

    Frames in which the face is lost hold the last signal; frames before it first appears take its first one. `measured`: the
    crop in which faces are measured; by default that of the first one, or, without `crop`, the whole picture.

    Attributes:
        measured: the crop, None until a face was seen.
        held: frames without a face so far.
    """

    def __init__(self, engine: Engine, faces: FaceTracker, *, crop: bool, measured: CropBox | None = None) -> None:
        self.engine, self.tracker, self.crop = engine, faces, crop
        self.measured = measured
        self.held = 0
        self._last: S | None = None
        self._boxes = Rows()

    @property
    def faces(self) -> int:
        """How many faces the first frame with one showed."""
        return self.tracker.faces

    @property
    def framing(self) -> Framing:
        """Measured as it was, and, where signals can be moved, in the frame of a crop around the face in all frames so far.

        Only once a face was seen.
        """
        assert self.measured is not None
        moves = self.crop and self.engine.card.reframes
        return Framing(self.measured, face_crop_box(union_box(self._boxes.rows().numpy())) if moves else self.measured)

    def __call__(self, image: Array) -> S | None:
        """The signals that the next frame (H,W,3) uint8 makes known, in the measured crop: one, with the first face one more for
        each frame before it; None while no face was seen.
        """
        tracked = self.tracker.track(image)
        if tracked is None or tracked.lost:
            self.held += 1
            return self._last
        face = PixelFace.of(tracked, image)
        if self.measured is None:
            self.measured = crop_box(face) if self.crop else whole_picture(image)
        card = self.engine.card
        signal: S = self.engine.signal(face_input(image if card.needs_pixels else None, face, self.measured, size=card.size))
        self._boxes.append(torch.tensor([face.box], dtype=torch.float64))
        before, self._last = self.held if self._last is None else 0, signal
        return signal.expand(1 + before)

    def over(self, frames: Iterable[Array], *, name: str) -> Iterator[S]:
        """The signals of all frames, measured. Raises FaceError, with the `name` of the frames, when none shows a face."""
        for image in frames:
            signal = self(image)
            if signal is not None:
                yield signal
        if self._last is None:
            raise FaceError(f"No face found in {name}, in none of its {self.held} frames.")


class Rows:
    """Rows (B,...) put one after the other into an array that doubles when it is full."""

    def __init__(self) -> None:
        self._array: Tensor | None = None
        self._count = 0

    def append(self, rows: Tensor) -> None:
        """Put rows (B,...) behind those that are there."""
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


class SignalBuffer(Generic[S]):
    """Signals one after the other: 4 bytes a number, 0.3 kB a frame of `lite`."""

    def __init__(self) -> None:
        self._first: S | None = None
        self._fields: dict[str, Rows] = {}

    def append(self, signal: S) -> None:
        """Put a signal, of one frame or several, behind those that are there."""
        if self._first is None:
            self._first = signal
            self._fields = {part.name: Rows() for part in fields(signal) if isinstance(getattr(signal, part.name), Tensor)}
        for name, rows in self._fields.items():
            rows.append(getattr(signal, name))

    def signal(self) -> S:
        """All of it. Only once there is one."""
        assert self._first is not None
        tensors: dict[str, Any] = {name: rows.rows() for name, rows in self._fields.items()}
        return replace(self._first, **tensors)


def track(tracker: SignalTracker[S], frames: Iterable[Array], *, fps: float | None, name: str) -> Tracked[S]:
    """What a clip of frames (H,W,3) uint8 drives, streamed, in one fixed crop: around the face all the time.

    Raises FaceError, with the `name` of the frames, when none shows a face.
    """
    buffer: SignalBuffer[S] = SignalBuffer()
    for signal in tracker.over(frames, name=name):
        buffer.append(signal)
    return Tracked(replace(tracker.framing.reframed(buffer.signal()), fps=fps), tracker.held, tracker.faces)
