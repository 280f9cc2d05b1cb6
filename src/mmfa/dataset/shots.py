"""Faces through a video: several at once, cut into continuous shots of one face each, and which of them are usable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..media.crop import Box, CropBox, crop, face_crop_box, union_box
from ..media.image import Array, to_tensor
from ..priors.detector import FaceDetector
from ..priors.landmarks import MIN_SCORE, FaceLandmarker
from ..priors.roi import roi_from_detection, roi_from_landmarks, to_pixels

Points = NDArray[np.float32]
End = Literal["cut", "lost", "jump", "moved", "long", "end"]

REASONS = {
    "short": "the face is there too briefly",
    "moved": "the face moves too far for one crop",
    "small": "the face is too small",
    "off-centre": "the crop reaches out of the picture",
    "blurred": "the face is blurred",
    "crowded": "another face is in the crop",
}

# Frames between searches for new faces: 0.4 s at 25 fps.
_DETECT_EVERY = 10
# Share of the pixels that change their colour bin between two frames. Talking heads stay below 0.1.
_CUT = 0.35
# Overlap of the face with itself one frame before: a quarter of its width away, or a zoom by 1.3, is a jump cut.
_SAME_FACE_IOU = 0.6
_DUPLICATE_IOU = 0.4
# The way of the face in a shot: longer side of the box around all positions, in longer sides of the face.
_FURTHEST = 1.5
# A region of interest turned by 45 degrees reaches 0.71 of its side from its centre.
_REACH = 0.75
# To stay inside the picture the crop may shrink to this many sides of the face, and of the box around all its positions,
# and shift by this share of its own side.
_LEAST_PER_FACE, _LEAST_PER_WAY, _SHIFT = 1.5, 1.15, 0.1
_SHARP_SIZE = 128
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a shot must fulfil.

    face: median width of the face in pixels of the source, at least. seconds: its length, at least. sharpness: see the
    function of this name, at least. outside: share of the crop's area that may lie out of the picture. crowded: share of the
    frames in which another face's centre may lie in the crop.
    """

    face: float
    seconds: float
    sharpness: float = 0.085
    outside: float = 0.15
    crowded: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One face through consecutive frames, the first of them number `first`.

    points (T,478,3) in pixels of the source; score (T,); sharpness: median; others: for each frame the centres (n,2) of the
    other faces; ended: why it ended.
    """

    first: int
    points: Points
    score: NDArray[np.float32]
    sharpness: float
    others: list[NDArray[np.float32]]
    ended: End

    @property
    def boxes(self) -> NDArray[np.float32]:
        """Face boxes (T,4) as x0, y0, x1, y1."""
        xy = self.points[:, :468, :2]
        return np.concatenate([xy.min(1), xy.max(1)], 1)

    @property
    def face_width(self) -> float:
        """Median over its frames, in pixels."""
        boxes = self.boxes
        return float(np.median(boxes[:, 2] - boxes[:, 0]))


@dataclass
class _Track:
    first: int
    box: Box
    points: list[Points] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    others: list[NDArray[np.float32]] = field(default_factory=list)
    reached: Box = (np.inf, np.inf, -np.inf, -np.inf)

    def add(self, points: Points, score: float) -> None:
        self.points.append(points)
        self.score.append(score)
        self.box = _box(points)
        self.reached = _around(self.reached, self.box)

    def shot(self, ended: End) -> Shot:
        return Shot(
            first=self.first,
            points=np.stack(self.points),
            score=np.array(self.score, dtype=np.float32),
            sharpness=float(np.median(self.sharpness)),
            others=self.others,
            ended=ended,
        )


class ShotFinder:
    """Feed the frames of one video in order; finished shots come out. Memory is bounded by `longest` frames a face."""

    def __init__(self, landmarker: FaceLandmarker, detector: FaceDetector, *, longest: int) -> None:
        self.landmarker, self.detector, self.longest = landmarker, detector, longest
        self._tracks: list[_Track] = []
        self._index = 0
        self._next_search = 0
        self._colours: NDArray[np.float64] | None = None

    def feed(self, image: Array) -> list[Shot]:
        """The next frame (H,W,3) uint8; returns the shots that ended before it."""
        done: list[Shot] = []
        colours = _colours(image)
        if self._colours is not None and np.abs(colours - self._colours).sum() / 2 > _CUT:
            done += self._close("cut")
        self._colours = colours
        done += self._follow(image)
        if done or self._index >= self._next_search:
            self._search(image)
            self._next_search = self._index + _DETECT_EVERY
        self._look_around(image)
        self._index += 1
        return done

    def finish(self) -> list[Shot]:
        """The shots that last to the end of the video."""
        return self._close("end")

    def _close(self, ended: End) -> list[Shot]:
        shots = [track.shot(ended) for track in self._tracks]
        self._tracks = []
        return shots

    def _follow(self, image: Array) -> list[Shot]:
        done: list[Shot] = []
        kept: list[_Track] = []
        for track in self._tracks:
            found = self._measure(image, roi_from_landmarks(torch.from_numpy(track.points[-1])))
            box = None if found is None else _box(found[0])
            if found is None or box is None or any(_iou(box, other.box) > _DUPLICATE_IOU for other in kept):
                done.append(track.shot("lost"))
            elif _iou(box, track.box) < _SAME_FACE_IOU:
                done.append(track.shot("jump"))
            else:
                ended = self._outgrown(track, box)
                if ended is not None:
                    done.append(track.shot(ended))
                    track = _Track(self._index, box)
                track.add(*found)
                kept.append(track)
        self._tracks = kept
        return done

    def _outgrown(self, track: _Track, box: Box) -> End | None:
        """Why the track has to end before the face at `box`, if it has."""
        if len(track.points) >= self.longest:
            return "long"
        sides = [_longer(_box(points)) for points in track.points[:: max(1, len(track.points) // 16)]]
        return "moved" if _longer(_around(track.reached, box)) > _FURTHEST * float(np.median(sides)) else None

    def _search(self, image: Array) -> None:
        for detection in self.detector.detect(image, at_least=0 if self._tracks else 1):
            found = self._measure(image, roi_from_detection(detection.box, detection.keypoints))
            # The region of a detection is rough: the landmarks are measured again in their own.
            found = found and self._measure(image, roi_from_landmarks(torch.from_numpy(found[0])))
            if not found:
                continue
            box = _box(found[0])
            if all(_iou(box, track.box) <= _DUPLICATE_IOU for track in self._tracks):
                track = _Track(self._index, box)
                track.add(*found)
                self._tracks.append(track)

    def _look_around(self, image: Array) -> None:
        """Note what else a frame says about each face: its sharpness, now and then, and where the others are."""
        centres = np.array([_centre(track.box) for track in self._tracks], dtype=np.float32).reshape(-1, 2)
        for number, track in enumerate(self._tracks):
            track.others.append(np.delete(centres, number, 0))
            if (len(track.points) - 1) % _DETECT_EVERY == 0:
                track.sharpness.append(sharpness(image, track.box))

    @torch.no_grad()
    def _measure(self, image: Array, roi: torch.Tensor) -> tuple[Points, float] | None:
        """Landmarks (478,3) in pixels and their score, looking only at the window that the region needs."""
        height, width = image.shape[:2]
        x, y, reach = float(roi[0]), float(roi[1]), float(roi[2]) * _REACH + 2
        x0, y0 = max(0, int(x - reach)), max(0, int(y - reach))
        x1, y1 = min(width, int(x + reach) + 1), min(height, int(y + reach) + 1)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return None
        corner = torch.tensor([x0, y0, 0.0, 0.0])
        result = self.landmarker(to_tensor(image[y0:y1, x0:x1])[None], (roi - corner)[None])
        points = to_pixels(result.points[0], y1 - y0, x1 - x0) + corner[:3]
        score = float(result.score)
        return (points.numpy(), score) if score >= MIN_SCORE else None


def sharpness(image: Array, face_box: Box) -> float:
    """Deviation of the Laplacian over deviation of the brightness, of the face scaled to 128 pixels.

    Independent of contrast. Of 448 clips 99.8 % are above the limit of 0.085; blurred by 2 pixels at this scale (4 of a face
    of 256) 95 % of them are below it (`research/people.py`).
    """
    (cx, cy), side = _centre(face_box), _longer(face_box)
    grey = crop(image, CropBox(cx, cy, side), size=_SHARP_SIZE).astype(np.float32) @ _GREY
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((4 * grey[1:-1, 1:-1] - around).std() / max(float(grey.std()), 1.0))


def shot_crop(shot: Shot, *, width: int, height: int) -> CropBox:
    """The fixed crop of a shot in a picture of this size: the framing of `face_crop_box` around all positions.

    Near an edge it shrinks and shifts a little to stay inside the picture, as far as the face keeps its room.
    """
    boxes = shot.boxes
    way = union_box(boxes)
    box = face_crop_box(way)
    face = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
    least = max(_LEAST_PER_FACE * face, _LEAST_PER_WAY * _longer(way))
    side = min(box.side, max(least, min(width, height)))

    def inside(centre: float, length: int) -> float:
        low, high = sorted((side / 2, length - side / 2))
        return float(np.clip(np.clip(centre, low, high), centre - _SHIFT * side, centre + _SHIFT * side))

    return CropBox(inside(box.cx, width), inside(box.cy, height), side)


def rejection(shot: Shot, box: CropBox, *, fps: float, width: int, height: int, limits: Limits) -> str | None:
    """The first of `REASONS` why the shot with the crop `box` can't be used; None for a usable one."""
    if len(shot.points) / fps < limits.seconds:
        return "moved" if shot.ended == "moved" else "short"
    if shot.face_width < limits.face:
        return "small"
    x0, y0, x1, y1 = box.edges
    seen = max(0.0, min(x1, width) - max(x0, 0)) * max(0.0, min(y1, height) - max(y0, 0))
    if 1 - seen / box.side**2 > limits.outside:
        return "off-centre"
    if shot.sharpness < limits.sharpness:
        return "blurred"
    intruded = sum(bool(((c > (x0, y0)) & (c < (x1, y1))).all(1).any()) for c in shot.others)
    return "crowded" if intruded > limits.crowded * len(shot.others) else None


def _colours(image: Array) -> NDArray[np.float64]:
    """Histogram (512,) of the colours, 8 bins a channel, sum 1."""
    step = max(1, max(image.shape[:2]) // 128)
    bins = image[::step, ::step].astype(np.int64) >> 5
    counts = np.bincount((bins[..., 0] * 64 + bins[..., 1] * 8 + bins[..., 2]).ravel(), minlength=512)
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def _box(points: Points) -> Box:
    low, high = points[:468, :2].min(0), points[:468, :2].max(0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _around(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _longer(box: Box) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def _iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)
