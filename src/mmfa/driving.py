"""The motion of a driving video: one face followed through its frames, in one crop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from .errors import FaceError
from .faces import PixelFace, crop_box, face_input, reframe, whole_picture
from .media.crop import CropBox, face_crop_box, union_box
from .media.image import Array
from .motion import Motion
from .nets.mmfa import MMFA
from .priors.landmarks import FaceTracker


@dataclass(frozen=True)
class TrackedMotion:
    """The motion of a driving video. `held`: frames without a face, in which the last motion was held."""

    motion: Motion
    held: int


@torch.no_grad()
def motion_of_frames(
    frames: Iterable[Array], tracker: FaceTracker, model: MMFA, *, device: torch.device, crop: bool, fps: float | None, name: str
) -> TrackedMotion:
    """The motion of frames (H,W,3) uint8, streamed, in one fixed crop: around the face all the time, or the whole picture.

    Frames in which the face is lost hold the last motion; frames before it first appears take its first motion.
    Raises FaceError, with the `name` of the frames, when none shows a face.
    """
    motions: list[Motion] = []
    boxes: list[tuple[float, float, float, float]] = []
    first: CropBox | None = None
    missing = held = 0
    for image in frames:
        tracked = tracker.track(image)
        if tracked is None:
            missing += 1
            continue
        if tracked.lost:
            held += 1
            motions.append(motions[-1])
            continue
        face = PixelFace.of(tracked, image)
        if first is None:
            first = crop_box(face) if crop else whole_picture(image)
        pixels = image if model.needs_pixels else None
        motions.append(model.motion(face_input(pixels, face, first, size=model.params.size).to(device)).to("cpu"))
        boxes.append(face.box)
    if first is None:
        raise FaceError(f"No face found in {name}, in none of its {missing} frames.")
    motion = Motion.concatenate([motions[0]] * missing + motions)
    if crop and not model.needs_pixels:
        box = face_crop_box(union_box(boxes))
        scale, translation = reframe(motion.scale, motion.translation, old=first, new=box)
        motion = replace(motion, scale=scale, translation=translation)
    return TrackedMotion(replace(motion, fps=fps), held + missing)
