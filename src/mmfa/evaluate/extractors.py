"""What the frozen networks see in the faces of a clip, batch by batch.

Every frame is measured alone: detector, landmarks in the region of the detection, then twice landmarks in the region of the last
landmarks. Nothing is carried from frame to frame, as a tracker would, so the result depends on no order and on no batch size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ..errors import MediaError
from ..media.image import Array
from ..priors import face_features, identity
from ..priors.detector import FaceDetector
from ..priors.hub import hub_path
from ..priors.landmarks import MIN_SCORE, FaceLandmarker
from ..priors.pose import head_pose
from ..priors.roi import roi_from_detection, roi_from_landmarks, to_pixels

LANDMARK_PASSES = 3
"""On 36 frames moved by (2, 1) px the pose error due to the region was 0.61, 0.30 and 0.14 degrees after 1, 2 and 3 passes."""

REFERENCE_SIZE = 256
"""Landmarks are given in pixels of a frame of this side, whatever the frame's own."""


def missing_dlib() -> str | None:
    """Why csim and aed can't be measured here; None when they can."""
    return None if identity.available() else f"not installed: pip install {identity.PACKAGE}"


def missing_faceres() -> str | None:
    """Why csim_faceres can't be measured here; None when it can."""
    if face_features.available():
        return None
    return f"{hub_path(face_features.FILE)} is not there; tools/convert_faceres.py makes it."


@dataclass(frozen=True)
class FaceMeasures:
    """The largest face of each of T frames; where `found` is False, everything but `score` is NaN.

    points (T,478,3): pixels of the frame scaled to 256, x right, y down, z away from the viewer. score (T,) in [0,1], 0 where
    nothing was detected. rotation (T,3,3), scale (T,1), translation (T,3): head pose in grid units. identity (T,128): dlib,
    as it comes, not normalised. faceres (T,1024). An identity network that isn't there leaves (T,0).
    """

    points: Tensor
    score: Tensor
    found: Tensor
    rotation: Tensor
    scale: Tensor
    translation: Tensor
    identity: Tensor
    faceres: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: slice | Tensor) -> FaceMeasures:
        return FaceMeasures(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def concatenate(parts: list[FaceMeasures]) -> FaceMeasures:
        """The frames of several clips, one after the other."""
        names = [field.name for field in fields(FaceMeasures)]
        return FaceMeasures(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


class FaceMeasurer:
    """Measure faces in streams of square frames. Networks that are absent are skipped; `definitions.unavailable` names them.

    Without `faceres` the second identity network is left out even where its weights are.
    """

    def __init__(self, *, batch: int = 8, device: str = "cpu", faceres: bool = True) -> None:
        self.batch, self.device = batch, torch.device(device)
        self.detector = FaceDetector().to(self.device)
        self.landmarker = FaceLandmarker().to(self.device)
        self._identity = None if missing_dlib() else identity.IdentityNet().to(self.device)
        wanted = faceres and not missing_faceres()
        self._faceres = face_features.FaceFeatures().to(self.device) if wanted else None

    def measure(self, frames: Iterable[Array]) -> FaceMeasures:
        """All of `stream`, in one: about 12 kB a frame. Raises MediaError for no frames or unusable ones."""
        parts = list(self.stream(frames))
        if not parts:
            raise MediaError("There are no frames to measure.")
        return FaceMeasures.concatenate(parts)

    @torch.no_grad()
    def stream(self, frames: Iterable[Array]) -> Iterator[FaceMeasures]:
        """Frames (S,S,3) uint8, or an array (T,S,S,3), -> one part for each batch; no more than a batch is held."""
        for images in batches(frames, self.batch):
            yield self._measure(images)

    def _measure(self, images: Array) -> FaceMeasures:
        pictures = to_tensors(images, self.device)
        size, count = pictures.shape[-1], len(pictures)
        points, score, found = self._landmarks(images, pictures)
        pose = head_pose(points[found])
        pixels = to_pixels(points, size, size) * (REFERENCE_SIZE / size)

        def embed(network: identity.IdentityNet | face_features.FaceFeatures | None) -> Tensor:
            if network is None:
                return torch.zeros(count, 0)
            return _spread(network.embed(pictures[found], points[found]), found)

        return FaceMeasures(
            points=pixels.cpu(),
            score=score.cpu(),
            found=found.cpu(),
            rotation=_spread(pose.rotation, found),
            scale=_spread(pose.scale, found),
            translation=_spread(pose.translation, found),
            identity=embed(self._identity),
            faceres=embed(self._faceres),
        )

    def _landmarks(self, images: Array, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Landmarks (T,478,3) in grid coordinates, score (T,) and found (T,)."""
        count, size = len(pictures), pictures.shape[-1]
        roi = torch.full((count, 4), math.nan)
        for index, image in enumerate(images):
            detections = self.detector.detect(image)
            if detections:
                roi[index] = roi_from_detection(detections[0].box, detections[0].keypoints)
        roi = roi.to(self.device)
        points = torch.full((count, 478, 3), math.nan, device=self.device)
        score = torch.zeros(count, device=self.device)
        found = ~roi.isnan().any(1)
        for _ in range(LANDMARK_PASSES):
            if found.any():
                result = self.landmarker(pictures[found], roi[found])
                points[found], score[found] = result.points, result.score
            found = found & (score >= MIN_SCORE)
            points[~found] = math.nan
            roi = roi_from_landmarks(to_pixels(points, size, size))
        return points, score, found


class LandmarkMeasurer(FaceMeasurer):
    """A `FaceMeasurer` that leaves out the identity networks, which are most of its time."""

    def __init__(self, *, batch: int = 8, device: str = "cpu") -> None:
        super().__init__(batch=batch, device=device, faceres=False)
        self._identity = None


def batches(frames: Iterable[Array], size: int) -> Iterator[Array]:
    """Frames (S,S,3) uint8, all of one size -> arrays (B,S,S,3) of up to `size` frames. Raises MediaError for others."""
    iterator = iter(frames)
    shape: tuple[int, ...] | None = None
    start = 0
    while chunk := list(islice(iterator, size)):
        for index, frame in enumerate(chunk, start):
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape[0] != frame.shape[1]:
                raise MediaError(f"Frame {index} is {frame.shape} {frame.dtype}; square RGB frames of 8 bits are measured.")
            shape = shape or frame.shape
            if frame.shape != shape:
                raise MediaError(f"Frame {index} has {frame.shape[0]} pixels a side, the first frame {shape[0]}.")
        yield np.stack(chunk)
        start += len(chunk)


def to_tensors(images: Array, device: torch.device) -> Tensor:
    """Frames (B,S,S,3) uint8 -> (B,3,S,S) in [0,1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float().contiguous() / 255


def _spread(values: Tensor, found: Tensor) -> Tensor:
    """Rows of the found frames -> rows of all frames, NaN elsewhere, on the CPU."""
    result = torch.full((len(found), *values.shape[1:]), math.nan)
    result[found.cpu()] = values.cpu()
    return result
