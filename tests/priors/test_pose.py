"""Head pose: recovery of known poses, proper rotations, and the inverse."""

import numpy as np
import pytest
import torch

from mmfa.priors.detector import FaceDetector
from mmfa.priors.landmarks import FaceLandmarker, detect_single
from mmfa.priors.pose import head_pose, normalise, template

VERTICES, WEIGHTS = template()


def _rotations(count: int) -> torch.Tensor:
    skew = torch.randn(count, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.7
    return torch.linalg.matrix_exp(skew - skew.transpose(1, 2))


def test_template() -> None:
    shape, weights = VERTICES, WEIGHTS
    assert shape.shape == (468, 3) and shape[:, :2].abs().max() == pytest.approx(1)
    assert (weights @ shape).abs().max() < 1e-6 and (weights > 0).sum() == 33
    assert shape[1, 2] == shape[:, 2].min() or shape[4, 2] == shape[:, 2].min()  # the nose is nearest
    assert shape[152, 1] > shape[10, 1] and shape[263, 0] > shape[33, 0]  # the chin is lowest


def test_known_pose_is_recovered() -> None:
    rotation, scale = _rotations(5), torch.linspace(0.3, 1.5, 5)[:, None]
    offset = torch.linspace(-0.5, 0.5, 15).reshape(5, 3)
    points = scale[:, None] * VERTICES @ rotation.transpose(1, 2) + offset[:, None]
    pose = head_pose(points)
    torch.testing.assert_close(pose.rotation, rotation, atol=1e-4, rtol=0)
    torch.testing.assert_close(pose.scale, scale, atol=1e-4, rtol=0)
    torch.testing.assert_close(pose.offset, offset, atol=1e-4, rtol=0)
    torch.testing.assert_close(pose.translation, offset * torch.tensor([1.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalise(points, pose), VERTICES.expand(5, -1, -1), atol=1e-4, rtol=0)


def test_an_open_jaw_and_raised_cheeks_do_not_change_the_pose() -> None:
    moved = VERTICES.clone()
    moved[[136, 365]] += torch.tensor([0.0, 0.2, 0.1])
    moved[[205, 425]] += torch.tensor([0.0, -0.1, -0.05])
    still, open_ = head_pose(VERTICES[None]), head_pose(moved[None])
    for name in ("rotation", "scale", "translation"):
        torch.testing.assert_close(getattr(open_, name), getattr(still, name), atol=1e-6, rtol=0)


def test_rotation_is_proper_even_for_a_mirrored_face() -> None:
    mirrored = VERTICES[None] * torch.tensor([-1.0, 1.0, 1.0])
    rotation = head_pose(mirrored).rotation
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(1))
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3)[None], atol=1e-5, rtol=0)


def test_frontal_face_has_identity_rotation() -> None:
    torch.testing.assert_close(head_pose(VERTICES[None]).rotation, torch.eye(3)[None], atol=1e-5, rtol=0)


def test_normalise_is_differentiable() -> None:
    points = VERTICES[None].clone().requires_grad_()
    pose = head_pose(points.detach())
    normalise(points, pose).square().sum().backward()
    assert points.grad is not None and points.grad.isfinite().all() and points.grad.abs().sum() > 0


def test_mirrored_photograph_has_mirrored_pose(landmarker: FaceLandmarker, detector: FaceDetector, astronaut: np.ndarray) -> None:
    crop = astronaut[:256, 96:352]
    original, mirrored = (
        head_pose(detect_single(image, landmarker=landmarker, detector=detector).points[None]).rotation[0]
        for image in (crop, np.ascontiguousarray(crop[:, ::-1]))
    )
    assert (original.diagonal() > 0.8).all()
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    assert (mirror @ original @ mirror - mirrored).abs().max() < 0.1


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="468"):
        head_pose(torch.zeros(1, 68, 3))
