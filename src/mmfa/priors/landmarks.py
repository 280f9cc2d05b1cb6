"""478 face landmarks: a differentiable port of MediaPipe's attention mesh, for photographs and for videos."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfa.errors import FaceError
from mmfa.priors.detector import Detection, FaceDetector, _as_tensor
from mmfa.priors.graph import WEIGHTS, GraphNet
from mmfa.priors.groups import (
    BROWS,
    EYES,
    FACE_OVAL,
    IRISES,
    LIPS,
    LOSS_GROUPS,
    LOSS_POINTS,
    NOSE,
    eye_opening,
    mouth_opening,
)
from mmfa.priors.roi import (
    from_roi,
    roi_from_detection,
    roi_from_landmarks,
    sampling_grid,
    to_grid,
    to_pixels,
)

__all__ = [
    "BROWS", "EYES", "FACE_OVAL", "IRISES", "LIPS", "LOSS_GROUPS", "LOSS_POINTS", "NOSE",
    "FaceLandmarker", "FaceTracker", "Landmarks", "TrackedFace", "detect_single", "eye_opening",
    "mouth_opening",
    "roi_from_detection", "roi_from_landmarks", "to_grid", "to_pixels",
]  # fmt: skip

MIN_SCORE = 0.5
_EYE_CONTOUR = 16  # the first points of each eye's refined set


@dataclass(frozen=True)
class Landmarks:
    """points (B, 478, 3) in grid coordinates (see `mmfa.priors.roi`); score (B,) in [0, 1]: a face?"""

    points: Tensor
    score: Tensor


@dataclass(frozen=True)
class TrackedFace:
    """The landmarks of one face in one frame: points (478, 3) in grid coordinates, on the CPU.

    `lost`: the face was not found in this frame, and the points are those of the last frame in which it was.
    """

    points: Tensor
    score: float
    lost: bool = False


class FaceLandmarker(nn.Module):
    """Frozen 478-point landmark network, differentiable with respect to the images."""

    lips: Tensor
    eye: Tensor
    other_eye: Tensor

    def __init__(self, path: Path = WEIGHTS / "face_mesh.safetensors") -> None:
        super().__init__()
        self.network = GraphNet(path)
        subsets = [node["subset"] for node in self.network.nodes if node["op"] == "landmark_frame"]
        for name, subset in zip(("lips", "eye", "other_eye"), subsets, strict=True):
            self.register_buffer(name, torch.tensor(subset), persistent=False)

    def forward(self, images: Tensor, roi: Tensor) -> Landmarks:
        """Images (B, 3, H, W) RGB in [0, 1], roi (B, 4) centre x, y, size, angle in pixels and radians."""
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}")
        if roi.shape != (len(images), 4):
            raise ValueError(f"roi must be ({len(images)}, 4), got {tuple(roi.shape)}")
        height, width = images.shape[-2:]
        roi = roi.to(images)
        size = self.network.input_shape[1]
        grid = sampling_grid(roi, height, width, size)
        crop = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        mesh, lips, eye, other_eye, iris, other_iris, flag = self.network(crop)
        count = len(images)
        points = self._assemble(mesh.reshape(count, 468, 3), lips, eye, other_eye, iris, other_iris) / size
        return Landmarks(to_grid(from_roi(points, roi), height, width), flag.reshape(count).sigmoid())

    def _assemble(self, mesh: Tensor, lips: Tensor, eye: Tensor, other_eye: Tensor, *irises: Tensor) -> Tensor:
        """Put the refined lips and eyes in place; append the irises at the mean depth of their eye."""
        xy, z = mesh[..., :2], mesh[..., 2]
        count = len(mesh)
        indices = (self.lips, self.eye, self.other_eye)
        for index, refined in zip(indices, (lips, eye, other_eye), strict=True):
            xy = xy.index_copy(1, index, refined.reshape(count, -1, 2))
        depths = [z[:, index[:_EYE_CONTOUR]].mean(1, keepdim=True).expand(count, 5) for index in indices[1:]]
        xy = torch.cat([xy, *(iris.reshape(count, 5, 2) for iris in irises)], 1)
        return torch.cat([xy, torch.cat([z, *depths], 1)[..., None]], -1)


class FaceTracker:
    """Landmarks of one face through the frames of one video, frame by frame.

    `face` is the index, by size, of the face to follow in the first frame that shows a face. From then on the
    region comes from the previous frame's landmarks, and after a loss from the detection nearest to them.
    `name` is what errors call the video.

    Attributes:
        faces: how many faces the first frame that shows one was found to have. boxes: theirs, (x0, y0, x1, y1) in pixels,
            largest first.
    """

    def __init__(
        self,
        face: int = 0,
        *,
        landmarker: FaceLandmarker | None = None,
        detector: FaceDetector | None = None,
        name: str = "the picture",
    ) -> None:
        self.face = face
        self.landmarker = landmarker or FaceLandmarker()
        self.detector = detector or FaceDetector()
        self.name = name
        self.faces = 0
        self.boxes: list[list[float]] = []
        self._last: TrackedFace | None = None
        self._roi: Tensor | None = None

    @torch.no_grad()
    def track(self, image: np.ndarray) -> TrackedFace | None:
        """The face in `image` (H, W, 3) uint8; None while no face has been seen yet.

        Raises `FaceError` when the first frame with faces has fewer than `face` + 1 of them.
        """
        picture = _as_tensor(image)
        tracked = None
        if self._roi is not None and self._last is not None and not self._last.lost:
            tracked = self._measure(picture, self._roi)
        if tracked is None:
            detection = self._detect(picture)
            if detection is not None:
                tracked = self._refine(picture, roi_from_detection(detection.box, detection.keypoints))
        if tracked is not None:
            self._roi = roi_from_landmarks(to_pixels(tracked.points, *picture.shape[-2:]))
            self._last = tracked
        elif self._last is not None:
            self._last = replace(self._last, score=0.0, lost=True)
        return self._last

    def _detect(self, picture: Tensor) -> Detection | None:
        if self._roi is None:
            found = self.detector.detect(picture, at_least=self.face + 1)
            if found and len(found) <= self.face:
                raise FaceError(
                    f"{self.name}: face {self.face} was asked for, but only {len(found)} found; faces count from 0, the largest."
                )
            self.faces, self.boxes = len(found), [detection.box.tolist() for detection in found]
            return found[self.face] if found else None
        centre = self._roi[:2]
        found = self.detector.detect(picture)
        return min(found, key=lambda d: float(((d.box[:2] + d.box[2:]) / 2 - centre).norm()), default=None)

    def _refine(self, picture: Tensor, roi: Tensor) -> TrackedFace | None:
        first = self._measure(picture, roi)
        if first is None:
            return None
        return self._measure(picture, roi_from_landmarks(to_pixels(first.points, *picture.shape[-2:])))

    def _measure(self, picture: Tensor, roi: Tensor) -> TrackedFace | None:
        device = self.landmarker.lips.device
        result = self.landmarker(picture[None].to(device), roi[None].to(device))
        score = float(result.score)
        return TrackedFace(result.points[0].cpu(), score) if score >= MIN_SCORE else None


def detect_single(
    image: np.ndarray,
    face: int = 0,
    *,
    landmarker: FaceLandmarker | None = None,
    detector: FaceDetector | None = None,
) -> TrackedFace:
    """Landmarks of the `face`-th largest face in a photograph (H, W, 3) uint8; `FaceError` if not there."""
    tracked = FaceTracker(face, landmarker=landmarker, detector=detector).track(image)
    if tracked is None:
        raise FaceError("no face found; use a sharper or closer picture in which the face looks at the camera")
    return tracked
