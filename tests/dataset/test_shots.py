"""Shots of one face: where they end, how they are framed, and what is measured of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mmfa.dataset.shots import Limits, Shot, ShotFinder, rejection, sharpness, shot_crop
from mmfa.media.crop import face_crop_box
from mmfa.media.image import Array
from mmfa.priors.detector import FaceDetector
from mmfa.priors.landmarks import FaceLandmarker

LIMITS = Limits(face=20, seconds=0.2)


@pytest.fixture(scope="module")
def networks() -> tuple[FaceLandmarker, FaceDetector]:
    return FaceLandmarker(), FaceDetector()


def found(networks: tuple[FaceLandmarker, FaceDetector], frames: Sequence[Array], *, longest: int = 500) -> list[Shot]:
    finder = ShotFinder(*networks, longest=longest)
    return [shot for frame in frames for shot in finder.feed(frame)] + finder.finish()


def on_canvas(face: Array, x: int, y: int, *, width: int, height: int) -> Array:
    canvas = np.full((height, width, 3), 90, np.uint8)
    canvas[y : y + face.shape[0], x : x + face.shape[1]] = face
    return canvas


def synthetic(boxes: Sequence[tuple[float, float, float, float]], **changes: Any) -> Shot:
    """A shot whose landmarks fill the given face boxes."""
    steps = np.linspace(0, 1, 478, dtype=np.float32)[:468]
    points = np.zeros((len(boxes), 478, 3), np.float32)
    for frame, (x0, y0, x1, y1) in zip(points, boxes, strict=True):
        frame[:468, 0], frame[:468, 1] = x0 + (x1 - x0) * steps / steps[-1], y0 + (y1 - y0) * steps / steps[-1]
    values: dict[str, Any] = {"first": 0, "score": np.ones(len(boxes), np.float32), "sharpness": 1.0, "ended": "end"}
    return Shot(points=points, others=[np.zeros((0, 2), np.float32)] * len(boxes), **{**values, **changes})


def test_a_lost_face_ends_the_shot_and_the_next_sight_of_it_starts_one(networks, carphone_frames) -> None:
    hidden = [frame.copy() for frame in carphone_frames[8:14]]
    for frame in hidden:
        frame[30:110, 50:130] = 90
    shots = found(networks, carphone_frames[:8] + hidden + carphone_frames[14:30])
    assert (shots[0].first, len(shots[0].points), shots[0].ended) == (0, 8, "lost")
    assert shots[1].ended == "end" and 14 <= shots[1].first <= 20
    assert shots[1].first + len(shots[1].points) == 30


def test_a_jump_of_the_face_before_the_same_wall_ends_the_shot(networks, carphone_frames) -> None:
    face = carphone_frames[0]
    frames = [on_canvas(face, x, 10, width=320, height=170) for x in [60] * 6 + [78] * 6]
    assert [(shot.first, len(shot.points), shot.ended) for shot in found(networks, frames)] == [(0, 6, "jump"), (6, 6, "end")]


def test_a_wandering_face_is_cut_into_shots_that_one_crop_can_hold(networks, carphone_frames) -> None:
    face = carphone_frames[0]
    frames = [on_canvas(face, 5 * i, 10, width=350, height=170) for i in range(30)]
    shots = found(networks, frames)
    assert len(shots) > 3 and sum(len(shot.points) for shot in shots) == 30
    assert {shot.ended for shot in shots[:-1]} == {"moved"}
    for shot in shots:
        low, high = shot.boxes.min(0), shot.boxes.max(0)
        assert (high[2:] - low[:2]).max() <= 1.55 * float((shot.boxes[:, 2:] - shot.boxes[:, :2]).max(1).mean())


def test_a_long_shot_is_cut_into_pieces_that_follow_each_other(networks, carphone_frames) -> None:
    shots = found(networks, carphone_frames[:25], longest=10)
    assert [(shot.first, len(shot.points), shot.ended) for shot in shots] == [(0, 10, "long"), (10, 10, "long"), (20, 5, "end")]


def test_the_crop_is_the_frame_of_the_training_data_where_there_is_room() -> None:
    boxes = [(400, 300, 500, 420), (410, 300, 510, 420)]
    box = shot_crop(synthetic(boxes), width=1280, height=720)
    assert box == face_crop_box(tuple(np.percentile(boxes, 5, axis=0)[:2]) + tuple(np.percentile(boxes, 95, axis=0)[2:]))


def test_a_face_that_fills_the_picture_keeps_the_crop_inside() -> None:
    box = shot_crop(synthetic([(45, 45, 195, 205)] * 4), width=256, height=256)
    x0, y0, x1, y1 = box.edges
    assert x0 >= -1e-3 and y0 >= -1e-3 and x1 <= 256 + 1e-3 and y1 <= 256 + 1e-3
    assert 1.5 <= box.side / 160 < 2


@pytest.mark.parametrize(
    ("boxes", "changes", "reason"),
    [
        ([(100, 100, 150, 160)] * 10, {}, None),
        ([(100, 100, 150, 160)] * 4, {}, "short"),
        ([(100, 100, 150, 160)] * 4, {"ended": "moved"}, "moved"),
        ([(100, 100, 118, 160)] * 10, {}, "small"),
        ([(0, 100, 50, 160)] * 10, {}, "off-centre"),
        ([(100, 100, 150, 160)] * 10, {"sharpness": 0.05}, "blurred"),
        ([(100, 100, 150, 160)] * 10, {"others": [np.array([[90.0, 130.0]], np.float32)] * 10}, "crowded"),
        ([(100, 100, 150, 160)] * 10, {"others": [np.array([[250.0, 130.0]], np.float32)] * 10}, None),
    ],
)
def test_each_reason(boxes: list, changes: dict, reason: str | None) -> None:
    shot = synthetic(boxes)
    shot = Shot(**{**vars(shot), **changes})
    box = shot_crop(shot, width=320, height=240)
    assert rejection(shot, box, fps=25, width=320, height=240, limits=LIMITS) == reason


def test_sharpness_falls_with_blur_and_does_not_know_contrast(carphone_frames: list[Array]) -> None:
    face, box = carphone_frames[0], (64.0, 39.0, 112.0, 98.0)
    blurred = [sharpness(np.array(Image.fromarray(face).filter(ImageFilter.GaussianBlur(r))), box) for r in (0, 1, 2)]
    assert blurred == sorted(blurred, reverse=True) and blurred[0] > 3 * blurred[2]
    pale = (face.astype(np.float32) * 0.5 + 60).round().astype(np.uint8)
    assert sharpness(pale, box) == pytest.approx(blurred[0], rel=0.05)
