"""The landmark port against MediaPipe's own output, its gradient, its gate, the groups and the tracker."""

import numpy as np
import pytest
import torch

from mmfa.errors import FaceError, ModelError
from mmfa.priors import groups
from mmfa.priors.detector import FaceDetector
from mmfa.priors.graph import WEIGHTS, GraphNet
from mmfa.priors.landmarks import (
    FaceLandmarker,
    FaceTracker,
    detect_single,
    roi_from_landmarks,
    to_grid,
    to_pixels,
)


def _roi(reference: dict) -> torch.Tensor:
    return roi_from_landmarks(torch.tensor(reference["first"]))[None]


def test_matches_mediapipe_at_the_same_region(landmarker: FaceLandmarker, picture: torch.Tensor, reference: dict) -> None:
    result = landmarker(picture, _roi(reference))
    ours, theirs = to_pixels(result.points[0], 512, 512), torch.tensor(reference["second"])
    eyes = (theirs[33] - theirs[263])[:2].norm()
    deviation = (ours - theirs)[:, :2].norm(dim=-1) / eyes
    assert deviation.mean() < 0.005 and deviation.max() < 0.02
    assert ((ours - theirs)[:, 2].abs() / eyes).mean() < 0.005
    assert result.score > 0.99


def test_photograph_end_to_end(
    landmarker: FaceLandmarker, detector: FaceDetector, astronaut: np.ndarray, reference: dict
) -> None:
    face = detect_single(astronaut, landmarker=landmarker, detector=detector)
    theirs = torch.tensor(reference["second"])
    ours = to_pixels(face.points, 512, 512)
    eyes = (theirs[33] - theirs[263])[:2].norm()
    assert (ours - theirs)[:, :2].norm(dim=-1).mean() / eyes < 0.03
    assert face.score > 0.99 and not face.lost
    with pytest.raises(FaceError, match="only 1 found"):
        detect_single(astronaut, face=1, landmarker=landmarker, detector=detector)
    with pytest.raises(FaceError, match="no face"):
        detect_single(np.zeros((64, 64, 3), np.uint8), landmarker=landmarker, detector=detector)


def test_gradient_reaches_the_image(landmarker: FaceLandmarker, picture: torch.Tensor, reference: dict) -> None:
    images = picture.clone().requires_grad_()
    landmarker(images, _roi(reference)).points.square().mean().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.abs().sum() > 0


def test_batch_is_singles(landmarker: FaceLandmarker, picture: torch.Tensor, reference: dict) -> None:
    images = torch.cat([picture, picture.flip(3)])
    roi = _roi(reference).repeat(2, 1)
    roi[1, 0], roi[1, 3] = 512 - roi[1, 0], -roi[1, 3]
    both = landmarker(images, roi)
    for index in range(2):
        one = landmarker(images[index : index + 1], roi[index : index + 1])
        torch.testing.assert_close(both.points[index : index + 1], one.points, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(both.score[index : index + 1], one.score, atol=1e-5, rtol=1e-4)


def test_no_face_no_score(landmarker: FaceLandmarker) -> None:
    noise = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    images = torch.cat([noise, torch.full_like(noise, 0.5)])
    roi = torch.tensor([96.0, 96.0, 192.0, 0.0]).repeat(2, 1)
    assert (landmarker(images, roi).score < 0.1).all()


def test_coordinates_round_trip() -> None:
    pixels = torch.rand(7, 3) * 100
    torch.testing.assert_close(to_pixels(to_grid(pixels, 80, 120), 80, 120), pixels, atol=1e-4, rtol=1e-5)
    corners = to_grid(torch.tensor([[0.5, 0.5, 0.0], [119.5, 79.5, 0.0]]), 80, 120)
    torch.testing.assert_close(corners[:, :2], torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))


def test_groups() -> None:
    named = (groups.FACE_OVAL, groups.LIPS, groups.EYES, groups.BROWS, groups.IRISES, groups.NOSE)
    assert [len(g) for g in named] == [36, 40, 32, 20, 10, 7]
    assert len(groups.LOSS_POINTS) == len(set(groups.LOSS_POINTS)) == 145
    assert [len(g) for g in groups.LOSS_GROUPS] == [40, 42, 63]


def test_openings_ignore_size_and_position() -> None:
    points = torch.rand(2, 478, 3)
    moved = points * 3 + 1
    for measure in (groups.mouth_opening, groups.eye_opening):
        assert measure(points).shape == (2,)
        torch.testing.assert_close(measure(moved), measure(points), atol=1e-4, rtol=1e-4)


def test_tracker_follows_a_moving_face(landmarker: FaceLandmarker, detector: FaceDetector, astronaut: np.ndarray) -> None:
    tracker = FaceTracker(landmarker=landmarker, detector=detector)
    blank = np.full((256, 256, 3), 128, np.uint8)
    assert tracker.track(blank) is None
    noses = []
    for shift in range(0, 50, 10):
        face = tracker.track(astronaut[:256, 80 + shift : 336 + shift])
        assert face is not None and face.score > 0.9 and not face.lost
        noses.append(float(to_pixels(face.points, 256, 256)[1, 0]) + shift)
        seen = face.points
    assert max(noses) - min(noses) < 1.0
    lost = tracker.track(blank)
    assert lost is not None and lost.lost and torch.equal(lost.points, seen)
    again = tracker.track(astronaut[:256, 80:336])
    assert again is not None and not again.lost


def test_tracker_keeps_the_chosen_face(landmarker: FaceLandmarker, detector: FaceDetector, astronaut: np.ndarray) -> None:
    frame = np.full((400, 800, 3), 90, np.uint8)
    frame[:256, :256] = astronaut[:256, 96:352]
    frame[:, 400:] = np.kron(astronaut[50:250:1, 125:325], np.ones((2, 2, 1), np.uint8))
    tracker = FaceTracker(face=1, landmarker=landmarker, detector=detector)
    for _ in range(3):
        face = tracker.track(frame)
        assert face is not None and to_pixels(face.points, 400, 800)[1, 0] < 256
    lost = tracker.track(np.full_like(frame, 128))
    assert lost is not None and lost.lost
    face = tracker.track(frame)
    assert face is not None and not face.lost and to_pixels(face.points, 400, 800)[1, 0] < 256


def test_foreign_file_is_refused(tmp_path) -> None:
    with pytest.raises(ModelError, match="mmfa-graph"):
        GraphNet(WEIGHTS / "face_geometry.safetensors")
    with pytest.raises(ModelError, match="absent"):
        GraphNet(tmp_path / "absent.safetensors")


def test_weights_stay_out_of_checkpoints(landmarker: FaceLandmarker, detector: FaceDetector) -> None:
    assert not landmarker.state_dict() and not detector.state_dict() and not list(landmarker.parameters())
