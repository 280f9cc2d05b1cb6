"""The detector: agreement with MediaPipe, and faces that are large, small, several or absent."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmfa.priors.detector import FaceDetector


def _overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    common = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod()
    return float(common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common))


def _face(astronaut: np.ndarray, size: int) -> np.ndarray:
    return np.array(Image.fromarray(astronaut[:256, 96:352]).resize((size, size), Image.Resampling.LANCZOS))


def test_agrees_with_mediapipe(detector: FaceDetector, astronaut: np.ndarray, reference: dict) -> None:
    found = detector.detect(astronaut)
    assert len(found) == 1
    assert _overlap(found[0].box, torch.tensor(reference["box"])) > 0.9
    assert abs(found[0].score - reference["score"]) < 0.02
    assert found[0].keypoints.shape == (6, 2)


def test_nothing_found_in_grey_or_noise(detector: FaceDetector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert detector.detect(noise) == []
    assert detector.detect(np.full((200, 200, 3), 128, np.uint8)) == []


def test_face_that_fills_the_image(detector: FaceDetector, astronaut: np.ndarray) -> None:
    assert len(detector.detect(astronaut[78:183, 170:275])) == 1


def test_small_face_in_a_large_frame(detector: FaceDetector, astronaut: np.ndarray) -> None:
    frame = np.full((1080, 1920, 3), 90, np.uint8)
    frame[700:956, 1500:1756] = _face(astronaut, 256)
    found = detector.detect(frame)
    assert len(found) == 1
    assert _overlap(found[0].box, torch.tensor([1581.0, 780.0, 1676.0, 875.0])) > 0.6


def test_largest_first(detector: FaceDetector, astronaut: np.ndarray) -> None:
    frame = np.full((400, 800, 3), 90, np.uint8)
    frame[:200, :200] = _face(astronaut, 200)
    frame[:400, 400:] = _face(astronaut, 400)
    found = detector.detect(frame, at_least=2)
    assert len(found) == 2
    assert found[0].area > found[1].area and found[0].box[0] > 400 > found[1].box[0]


def test_wrong_array_is_refused(detector: FaceDetector) -> None:
    with pytest.raises(ValueError, match="uint8"):
        detector.detect(np.zeros((8, 8), np.uint8))
