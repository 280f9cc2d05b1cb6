"""The detector: agreement with MediaPipe, and faces that are large, small, several or absent."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmfa.priors.detector import FaceDetector, Window


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


@pytest.mark.parametrize("upright", [True, False])
def test_small_faces_in_a_panorama(detector: FaceDetector, astronaut: np.ndarray, upright: bool) -> None:
    frame = np.full((500, 6000, 3), (100, 120, 140), np.uint8)
    frame[60:460, 5000:5400] = _face(astronaut, 400)
    frame[200:440, 700:940] = _face(astronaut, 240)
    wanted = [torch.tensor([5124.0, 183.0, 5273.0, 332.0]), torch.tensor([774.0, 274.0, 864.0, 363.0])]
    if not upright:  # a tower: the faces below one another
        parts = [np.full((2300, 500, 3), 100, np.uint8) for _ in range(2)]
        parts[0][500:900, 60:460], parts[1][700:940, 200:440] = _face(astronaut, 400), _face(astronaut, 240)
        frame = np.concatenate(parts)
        wanted = [torch.tensor([184.0, 623.0, 333.0, 772.0]), torch.tensor([274.0, 3074.0, 363.0, 3163.0])]
    found = detector.detect(frame, at_least=2)
    assert [_overlap(one.box, box) > 0.5 for one, box in zip(found, wanted, strict=True)] == [True, True]


def test_many_faces_in_a_row_are_all_found_at_once(detector: FaceDetector, astronaut: np.ndarray) -> None:
    frame = np.full((360, 1500, 3), 100, np.uint8)
    for number, side in enumerate((300, 280, 260, 240, 220)):
        frame[20 : 20 + side, number * 300 : number * 300 + side] = _face(astronaut, side)
    assert len(detector.detect(frame)) == 5


def _searched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Window], float]]:
    """The windows that the detector searches from now on, those of one look together, and their threshold."""
    seen: list[tuple[list[Window], float]] = []
    search = FaceDetector._candidates

    def looked(self: FaceDetector, picture: torch.Tensor, windows: list[Window], threshold: float) -> torch.Tensor:
        seen.append((windows, threshold))
        return search(self, picture, windows, threshold)

    monkeypatch.setattr(FaceDetector, "_candidates", looked)
    return seen


def test_an_ordinary_photo_is_looked_at_once(
    detector: FaceDetector, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _searched(monkeypatch)
    detector.detect(astronaut)
    assert seen == [([(256.0, 256.0, 512.0)], 0.5)]


@pytest.mark.parametrize(("height", "width"), [(16, 16_000), (300, 4000), (200, 601)])
def test_nothing_found_in_an_elongated_picture_of_noise(
    detector: FaceDetector, monkeypatch: pytest.MonkeyPatch, height: int, width: int
) -> None:
    seen = _searched(monkeypatch)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert detector.detect(noise) == []
    assert max((len(windows) for windows, _ in seen), default=0) <= 160
