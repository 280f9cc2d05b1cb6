"""Every loss: a value worked by hand, zero at its optimum, never negative."""

import math

import pytest
import torch
from torch import Tensor

from mmfa.train import losses


def backbone(image: Tensor) -> list[Tensor]:
    """Two taps of known magnitude, in place of the network."""
    return [1 * image, 2 * image[..., ::2, ::2]]


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(len(shape)))


def eyes_in_the_middle() -> Tensor:
    return torch.zeros(1, 478, 3)


# name: (call with what differs, call at the optimum)
CASES = {
    "pixel": (
        lambda: losses.pixel_loss([random(2, 3, 4, 4), random(2, 3, 8, 8)], random(2, 3, 8, 8) * 0.5),
        lambda: losses.pixel_loss([torch.full((2, 3, 4, 4), 0.3), torch.full((2, 3, 8, 8), 0.3)], torch.full((2, 3, 8, 8), 0.3)),
    ),
    "detail": (
        lambda: losses.detail_loss(random(2, 3, 9, 9), random(2, 3, 9, 9) * 0.5, torch.zeros(2, 478, 3)),
        lambda: losses.detail_loss(random(2, 3, 9, 9), random(2, 3, 9, 9), torch.zeros(2, 478, 3)),
    ),
    "perceptual": (
        lambda: losses.perceptual_loss(random(2, 3, 8, 8), random(2, 3, 8, 8) * 0.5, backbone),
        lambda: losses.perceptual_loss(random(2, 3, 8, 8), random(2, 3, 8, 8), backbone),
    ),
    "keypoint": (
        lambda: losses.keypoint_loss(random(2, 5, 3), random(2, 4, 3) - 0.5, torch.ones(4)),
        lambda: losses.keypoint_loss(random(2, 5, 3), random(2, 5, 3)[:, :4], torch.ones(4)),
    ),
    "identity": (
        lambda: losses.identity_loss(random(2, 5, 3), random(2, 5, 3) - 0.5),
        lambda: losses.identity_loss(random(2, 5, 3), random(2, 5, 3)),
    ),
    "ssl": (lambda: losses.ssl_loss(random(2, 8), -random(2, 8)), lambda: losses.ssl_loss(random(2, 8), 3 * random(2, 8))),
    "deformation": (
        lambda: losses.deformation_loss(random(2, 5, 3) - 0.5),
        lambda: losses.deformation_loss(torch.zeros(2, 5, 3)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_zero_only_at_the_optimum(name) -> None:
    away, optimum = CASES[name]
    assert away().shape == () and float(away()) > 0.001
    assert abs(float(optimum())) < 1e-6


def test_every_loss_is_tested() -> None:
    assert {name.removesuffix("_loss") for name in vars(losses) if name.endswith("_loss")} == set(CASES)


def test_pixel_adds_the_resolutions_up() -> None:
    target = torch.full((1, 3, 8, 8), 0.5)
    coarse, fine = torch.full((1, 3, 4, 4), 0.75), torch.full((1, 3, 8, 8), 0.4)
    assert float(losses.pixel_loss([coarse, fine], target)) == pytest.approx(0.35)


def test_pixel_compares_with_the_area_mean() -> None:
    target = torch.zeros(1, 3, 4, 4)
    target[..., 0, 0] = 1
    coarse = torch.zeros(1, 3, 2, 2)
    coarse[..., 0, 0] = 0.25
    assert float(losses.pixel_loss([coarse], target)) == 0


def test_detail_counts_where_the_landmarks_are() -> None:
    target, points = torch.zeros(1, 3, 9, 9), eyes_in_the_middle()
    middle, corner = target.clone(), target.clone()
    middle[..., 4, 4] = 1
    corner[..., 0, 0] = 1
    assert float(losses.detail_loss(middle, target, points)) == pytest.approx(1 / 81)
    assert float(losses.detail_loss(corner, target, points)) == pytest.approx(0, abs=1e-12)
    beside = target.clone()
    beside[..., 4, 5] = 1  # one pixel, 0.25 grid units, to the right
    assert float(losses.detail_loss(beside, target, points)) == pytest.approx(math.exp(-(0.25**2) / 0.01) / 81)


def test_detail_x_is_right_and_y_is_down() -> None:
    points = eyes_in_the_middle() + torch.tensor([1.0, -1.0, 0.0])
    image = torch.zeros(1, 3, 9, 9)
    image[..., 0, 8] = 1
    assert float(losses.detail_loss(image, torch.zeros_like(image), points)) == pytest.approx(1 / 81)


def test_perceptual_normalises_each_tap() -> None:
    image, target = torch.full((1, 3, 4, 4), 1.5), torch.ones(1, 3, 4, 4)
    assert float(losses.perceptual_loss(image, target, backbone)) == pytest.approx(0.5 / 1.001 + 1.0 / 2.001)


def test_perceptual_sends_no_gradient_to_the_target() -> None:
    image, target = random(1, 3, 4, 4).requires_grad_(), (random(1, 3, 4, 4) / 2).requires_grad_()
    losses.perceptual_loss(image, target, backbone).backward()
    assert image.grad is not None and target.grad is None


def test_keypoint_weighs_depth_and_points() -> None:
    keypoints, landmarks = torch.ones(1, 3, 3), torch.zeros(1, 2, 3)
    weights = torch.tensor([3.0, 1.0])
    assert float(losses.keypoint_loss(keypoints, landmarks, weights)) == pytest.approx((3 + 1) * 2.3 / 6)


def test_identity_value() -> None:
    assert float(losses.identity_loss(torch.full((2, 4, 3), 0.25), torch.full((2, 4, 3), -0.25))) == pytest.approx(0.5)


def test_ssl_is_one_for_unrelated_and_two_for_opposite() -> None:
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    assert float(losses.ssl_loss(x, y)) == pytest.approx(1)
    assert float(losses.ssl_loss(x, -x)) == pytest.approx(2)


def test_deformation_is_the_l1_norm() -> None:
    assert float(losses.deformation_loss(torch.tensor([[[1.0, -2.0, 3.0], [0.0, 0.0, 0.0]]]))) == pytest.approx(3)
