"""Every loss: a value worked by hand, zero at its optimum, never negative, gradient only where it belongs."""

import math

import pytest
import torch
from torch import Tensor

from mmfa.geometry import Bend, euler_to_matrix, invert_affine, similarity, transform_points
from mmfa.nets.anchors import VERTICES
from mmfa.nets.discriminator import Judgement
from mmfa.priors.groups import BROWS, EYES, IRISES, LIPS
from mmfa.priors.pose import head_pose, template
from mmfa.train import losses


def backbone(image: Tensor) -> list[Tensor]:
    """Two taps of known magnitude, in place of the network."""
    return [1 * image, 2 * image[..., ::2, ::2]]


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(len(shape)))


def eyes_in_the_middle() -> Tensor:
    return torch.zeros(1, 478, 3)


def judged(logit: float, *features: float) -> Judgement:
    """A judgement of constant maps."""
    maps = tuple(torch.full((2, 3, 4 >> i, 4 >> i), value) for i, value in enumerate(features))
    return Judgement(maps, torch.full((2, 1, 2, 2), logit))


def turn() -> Tensor:
    """A turn of 90 degrees from x to y, to double size, then 0.5 to the right."""
    return similarity(torch.tensor([90.0]), torch.tensor([2.0]), torch.tensor([[0.5, 0.0]]))


def turned_back(points: Tensor) -> Tensor:
    return transform_points(points, invert_affine(turn()).expand(len(points), -1, -1))


def spread() -> Tensor:
    """Four points far apart, at the mean depth 0.33."""
    return torch.tensor([[[-1.0, -1, 0.33], [1, -1, 0.33], [-1, 1, 0.33], [1, 1, 0.33]]])


# name: (call with what differs, call at the optimum)
CASES = {
    "pixel": (
        lambda: losses.pixel_loss([random(2, 3, 4, 4), random(2, 3, 8, 8)], random(2, 3, 8, 8) * 0.5),
        lambda: losses.pixel_loss([torch.full((2, 3, 4, 4), 0.3), torch.full((2, 3, 8, 8), 0.3)], torch.full((2, 3, 8, 8), 0.3)),
    ),
    "share": (
        lambda: losses.share_loss(torch.full((2, 1, 8, 8), 0.5), torch.full((2, 4, 4, 4), -1.0)),
        lambda: losses.share_loss(torch.zeros(2, 1, 8, 8), torch.full((2, 4, 4, 4), -1.0)),
    ),
    "detail": (
        lambda: losses.detail_loss(random(2, 3, 9, 9), random(2, 3, 9, 9) * 0.5, torch.zeros(2, 478, 3)),
        lambda: losses.detail_loss(random(2, 3, 9, 9), random(2, 3, 9, 9), torch.zeros(2, 478, 3)),
    ),
    "perceptual": (
        lambda: losses.perceptual_loss(random(2, 3, 8, 8), random(2, 3, 8, 8) * 0.5, backbone),
        lambda: losses.perceptual_loss(random(2, 3, 8, 8), random(2, 3, 8, 8), backbone),
    ),
    "multi_scale_perceptual": (
        lambda: losses.multi_scale_perceptual_loss([random(2, 3, 32, 32)], random(2, 3, 32, 32) * 0.5, backbone),
        lambda: losses.multi_scale_perceptual_loss(
            [torch.full((2, 3, 16, 16), 0.3), torch.full((2, 3, 32, 32), 0.3)], torch.full((2, 3, 32, 32), 0.3), backbone
        ),
    ),
    "generator": (lambda: losses.generator_loss(judged(0.0)), lambda: losses.generator_loss(judged(1.0))),
    "discriminator": (
        lambda: losses.discriminator_loss(judged(0.0), judged(1.0)),
        lambda: losses.discriminator_loss(judged(1.0), judged(0.0)),
    ),
    "relative_generator": (
        lambda: losses.relative_generator_loss(judged(0.0), judged(0.5)),
        lambda: losses.relative_generator_loss(judged(0.0), judged(1.0)),
    ),
    "relative_discriminator": (
        lambda: losses.relative_discriminator_loss(judged(0.0), judged(0.5)),
        lambda: losses.relative_discriminator_loss(judged(1.0), judged(0.0)),
    ),
    "feature_matching": (
        lambda: losses.feature_matching_loss(judged(0.0, 0.5, 0.5), judged(0.0, 0.5, 0.4)),
        lambda: losses.feature_matching_loss(judged(0.0, 0.5, 0.5), judged(1.0, 0.5, 0.5)),
    ),
    "equivariance": (
        lambda: losses.equivariance_loss(random(1, 5, 3), random(1, 5, 3), turned_back),
        lambda: losses.equivariance_loss(random(1, 5, 3), transform_points(random(1, 5, 3), turn()), turned_back),
    ),
    "keypoint_prior": (
        lambda: losses.keypoint_prior_loss(random(2, 5, 3)),
        lambda: losses.keypoint_prior_loss(spread()),
    ),
    "landmark": (
        lambda: losses.landmark_loss(random(2, 478, 3), random(2, 478, 3) - 0.5, torch.ones(2)),
        lambda: losses.landmark_loss(random(2, 478, 3), random(2, 478, 3), torch.ones(2)),
    ),
    "rotation": (
        lambda: losses.rotation_loss(random(2, 478, 3), torch.eye(3).expand(2, 3, 3), torch.ones(2)),
        lambda: losses.rotation_loss(random(2, 478, 3), head_pose(random(2, 478, 3)).rotation, torch.ones(2)),
    ),
    "embedding": (
        lambda: losses.embedding_loss(random(2, 8), random(2, 8).flip(1)),
        lambda: losses.embedding_loss(random(2, 8), 3 * random(2, 8)),
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
    "size": (
        lambda: losses.size_loss(random(2, 5, 3), 2 * random(2, 5, 3), (0, 3)),
        lambda: losses.size_loss(random(2, 5, 3), random(2, 5, 3) + 0.3, (0, 3)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_zero_only_at_the_optimum(name) -> None:
    away, optimum = CASES[name]
    assert away().shape == () and float(away()) > 0.001
    assert 0 <= float(optimum()) < 1e-6


@pytest.mark.parametrize("name", CASES)
def test_autocast_around_it_changes_nothing(name) -> None:
    away, _ = CASES[name]
    with torch.autocast("cpu", torch.bfloat16):
        inside = away()
    assert inside.dtype == torch.float32 and float(inside) == float(away())


def test_bfloat16_from_a_network_is_compared_in_float32() -> None:
    """Differences of one bfloat16 step in six pixels of 4096: sums and means in bfloat16 would be coarser than that."""
    image = torch.full((1, 3, 64, 64), 0.5, dtype=torch.bfloat16)
    other = image.clone()
    other[..., :1, :6] += 1 / 256
    points, moved = torch.zeros(2, 478, 3).bfloat16(), torch.full((2, 478, 3), 1 / 256).bfloat16()
    values = {
        "pixel": (losses.pixel_loss([other], image), 6 / 4096 / 256),
        "detail": (
            losses.detail_loss(other, image, torch.full((1, 478, 3), -1.0).bfloat16()),
            sum(math.exp(-((2 * i / 63) ** 2) / 0.01) for i in range(6)) / 4096 / 256,
        ),
        "perceptual": (losses.perceptual_loss(other, image, lambda x: [x]), 6 / 4096 / 256 / 0.501),
        "generator": (losses.generator_loss(Judgement((), other)), 0.25 - 6 / 4096 * (0.25 - (0.5 - 1 / 256) ** 2)),
        "feature_matching": (
            losses.feature_matching_loss(Judgement((image,), image), Judgement((other,), other)),
            6 / 4096 / 256,
        ),
        "keypoint": (losses.keypoint_loss(points, moved, torch.ones(478)), 2.3 / 3 / 256),
        "identity": (losses.identity_loss(points, moved), 1 / 256),
        "deformation": (losses.deformation_loss(moved), 3 / 256),
        "landmark": (losses.landmark_loss(points, moved, torch.ones(2)), 7 / 256),
        # T^-1 of (e, e) is (e/2, 1/4 - e/2).
        "equivariance": (losses.equivariance_loss(points, moved, turned_back), 0.25 / 2),
        "keypoint_prior": (losses.keypoint_prior_loss(moved[:, :2]), 0.2 + 0.33 - 1 / 256),
        "ssl": (losses.ssl_loss(moved[..., 0], moved[..., 0]), 0),
    }
    for name, (value, expected) in values.items():
        assert value.dtype == torch.float32, name
        assert float(value) == pytest.approx(expected, rel=1e-5, abs=1e-7), name


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


def test_paint_in_open_mouths_and_eyes_costs_nothing() -> None:
    openings = torch.full((1, 4, 4, 4), -1.0)
    openings[:, 1, :2] = 0.1  # the upper half is in an open eye
    share = torch.zeros(1, 1, 8, 8)
    share[..., :4, :] = 1
    assert float(losses.share_loss(share, openings)) == 0
    assert float(losses.share_loss(torch.full_like(share, 0.4), openings)) == pytest.approx(0.2)


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


def test_size_loss_is_the_log_of_the_distances_ratio_of_one_pair() -> None:
    first = torch.tensor([[[0.0, 0.0, 0.0], [3.0, 4.0, 0.0], [9.0, 9.0, 9.0]]])
    second = torch.tensor([[[1.0, 1.0, 1.0], [1.0, 11.0, 1.0], [0.0, 0.0, 0.0]]])
    assert float(losses.size_loss(first, second, (0, 1))) == pytest.approx(math.log(2))
    assert float(losses.size_loss(second, first, (0, 1))) == pytest.approx(math.log(2))


def test_lips_lids_and_irises_weigh_three_times_in_the_anchoring() -> None:
    weights = losses.anchor_weights()
    assert [float(weights[VERTICES.index(vertex)]) for vertex in (13, 159, 468, 1, 10, 70)] == [3, 3, 3, 1, 1, 1]


def test_multi_scale_adds_outputs_and_octaves_up() -> None:
    seen: list[tuple[int, int]] = []

    def tap(image: Tensor) -> list[Tensor]:
        seen.append((image.shape[0], image.shape[-1]))
        return [image]

    images, target = [torch.full((2, 3, 32, 32), 1.5), torch.full((2, 3, 64, 64), 2.0)], torch.ones(2, 3, 64, 64)
    value = losses.multi_scale_perceptual_loss(images, target, tap)
    # The coarse output is 0.5 off; the fine one 1.0 at 64, 32 and 16 (8 is too small to look at).
    assert float(value) == pytest.approx((0.5 + 3 * 1.0) / 1.001)
    assert sorted(seen) == [(2, 16), (2, 16), (2, 32), (2, 64), (2, 64), (4, 32)]  # the target once per size


def test_multi_scale_octaves_see_what_a_checkerboard_hides() -> None:
    """The fine difference averages out further down: with more octaves it weighs less than a flat one."""
    target = torch.full((1, 3, 32, 32), 0.5)
    board = target + 0.1 * (torch.arange(32)[:, None] + torch.arange(32)).remainder(2).mul(2).sub(1)
    flat = target + 0.1
    for octaves, expected in ((0, 1.0), (1, 0.5)):
        fine, coarse = (
            losses.multi_scale_perceptual_loss([image], target, lambda x: [x], octaves=octaves) for image in (board, flat)
        )
        assert float(fine / coarse) == pytest.approx(expected, rel=1e-4)


def test_multi_scale_gradient_reaches_every_output_and_not_the_target() -> None:
    images = [random(1, 3, 16, 16).requires_grad_(), random(1, 3, 32, 32).requires_grad_()]
    target = (random(1, 3, 32, 32) / 2).requires_grad_()
    losses.multi_scale_perceptual_loss(images, target, backbone).backward()
    assert all(image.grad is not None and image.grad.abs().sum() > 0 for image in images)
    assert target.grad is None


def test_least_squares_gan_values() -> None:
    assert float(losses.generator_loss(judged(0.25))) == pytest.approx(0.75**2)
    assert float(losses.discriminator_loss(judged(0.5), judged(-2.0))) == pytest.approx(0.25 + 4)


def test_generator_and_discriminator_pull_the_fake_apart() -> None:
    fake = torch.zeros(1, 1, 2, 2, requires_grad=True)
    losses.generator_loss(Judgement((), fake)).backward()
    assert fake.grad is not None and (fake.grad < 0).all()  # a step down raises the logit
    fake = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
    losses.discriminator_loss(judged(1.0), Judgement((), fake)).backward()
    assert fake.grad is not None and (fake.grad > 0).all()


def test_relative_gan_compares_patch_with_patch_in_the_same_place() -> None:
    real, fake = torch.tensor([[[[2.0, 0.0]]]]), torch.tensor([[[[1.0, 0.5]]]])
    one, other = Judgement((), real.requires_grad_()), Judgement((), fake.requires_grad_())
    assert float(losses.relative_discriminator_loss(one, other)) == pytest.approx((0.0 + 1.5**2) / 2)
    loss = losses.relative_generator_loss(one, other)
    assert float(loss) == pytest.approx((2.0**2 + 0.5**2) / 2)
    loss.backward()
    assert real.grad is None and fake.grad is not None and (fake.grad < 0).all(), "a step down raises the fake's scores"


def test_feature_matching_adds_the_stages_up_and_leaves_the_real_alone() -> None:
    assert float(losses.feature_matching_loss(judged(0, 1.0, 2.0), judged(0, 0.5, 2.25))) == pytest.approx(0.75)
    real, fake = random(1, 2, 3, 3).requires_grad_(), (random(1, 2, 3, 3) / 2).requires_grad_()
    logits = torch.zeros(1, 1, 1, 1)
    losses.feature_matching_loss(Judgement((real,), logits), Judgement((fake,), logits)).backward()
    assert real.grad is None and fake.grad is not None and fake.grad.abs().sum() > 0


def test_feature_matching_wants_equally_many_stages() -> None:
    with pytest.raises(ValueError, match="shorter"):
        losses.feature_matching_loss(judged(0, 1.0, 1.0), judged(0, 1.0))


def test_equivariance_value() -> None:
    """(1, 0) goes to (0.5, 2) under `turn`; (0.5, 2.4) comes back to (1.2, 0)."""
    keypoints, transformed = torch.tensor([[[1.0, 0.0, 5.0]]]), torch.tensor([[[0.5, 2.4, -5.0]]])
    assert float(losses.equivariance_loss(keypoints, transformed, turned_back)) == pytest.approx(0.2 / 2, rel=1e-5)


def test_equivariance_knows_the_direction() -> None:
    keypoints = random(1, 5, 3)
    wrong = transform_points(keypoints, invert_affine(turn()))
    assert float(losses.equivariance_loss(keypoints, wrong, turned_back)) > 0.1


def test_equivariance_teaches_both_estimates_but_not_the_depth() -> None:
    keypoints, transformed = random(1, 5, 3).requires_grad_(), (random(1, 5, 3) / 2).requires_grad_()
    losses.equivariance_loss(keypoints, transformed, turned_back).backward()
    for points in (keypoints, transformed):
        assert points.grad is not None
        assert (points.grad[..., :2].abs().sum(-1) > 0).all() and (points.grad[..., 2] == 0).all()


def test_keypoints_that_do_not_look_at_the_picture_cost_equivariance() -> None:
    """Points that stay where they are, and arbitrary points that move with a rigid head of known pose: a similarity costs the
    second nothing, which is why T bends."""
    generator = torch.Generator().manual_seed(0)
    count = 500
    bend = Bend.of(torch.randn(count, Bend.NUMBERS, generator=generator))
    turns = similarity(
        40 * torch.rand(count, generator=generator) - 20,
        0.8 + 0.4 * torch.rand(count, generator=generator),
        0.3 * torch.rand(count, 2, generator=generator) - 0.15,
    )
    vertices, _ = template()
    face = (0.5 * vertices).expand(count, -1, -1)
    points = (2 * torch.rand(20, 3, generator=generator) - 1).expand(count, -1, -1)

    def placed(landmarks: Tensor) -> Tensor:
        pose = head_pose(landmarks)
        return pose.scale[:, :, None] * points @ pose.rotation.transpose(1, 2) + pose.translation[:, None]

    def back(moved: Tensor) -> Tensor:
        return transform_points(moved, invert_affine(turns))

    still = placed(face)
    assert float(losses.equivariance_loss(still, still, bend.back)) > 0.02
    assert float(losses.equivariance_loss(still, placed(bend.points(face)), bend.back)) > 0.01
    assert float(losses.equivariance_loss(still, placed(transform_points(face, turns)), back)) < 1e-6
    exact = bend.points(0.6 * still)
    assert float(losses.equivariance_loss(0.6 * still, exact, bend.back)) < 1e-4


def test_keypoint_prior_value() -> None:
    """Two points 0.1 apart, twice (0.1 - 0.01), a third far away; the mean depth is 0.03 off."""
    points = torch.tensor([[[0.0, 0, 0.3], [0.1, 0, 0.3], [0, 1, 0.3]]])
    assert float(losses.keypoint_prior_loss(points)) == pytest.approx(2 * 0.09 + 0.03)
    assert float(losses.keypoint_prior_loss(points, depth=None)) == pytest.approx(2 * 0.09)
    assert float(losses.keypoint_prior_loss(points, depth=0.3, distance=0.02)) == pytest.approx(2 * 0.01)


def test_keypoint_prior_pushes_near_points_apart_and_stays_finite_where_they_meet() -> None:
    points = torch.tensor([[[0.0, 0, 0], [0.1, 0, 0], [0.5, 0, 0], [0.5, 0, 0]]], requires_grad=True)
    losses.keypoint_prior_loss(points, depth=None).backward()
    assert points.grad is not None and points.grad.isfinite().all()
    assert points.grad[0, 0, 0] > 0 > points.grad[0, 1, 0]


@pytest.mark.parametrize(("group", "weight"), [(LIPS, 3.0), (EYES + IRISES, 3.0), (BROWS, 20 / 63)])
def test_landmark_weighs_the_groups(group: tuple[int, ...], weight: float) -> None:
    """All points of a group 0.2 to the right: the mean over x and y is 0.1. Brows are 20 of the 63 points of the rest."""
    wanted = torch.zeros(1, 478, 3)
    points = wanted.clone()
    points[:, list(group), 0] = 0.2
    points[..., 2] = 7  # the depth doesn't count
    assert float(losses.landmark_loss(points, wanted, torch.ones(1))) == pytest.approx(weight * 0.1)


def test_landmark_ignores_points_outside_the_145() -> None:
    points = torch.zeros(1, 478, 3)
    points[:, 50] = 1  # a cheek
    assert float(losses.landmark_loss(points, torch.zeros(1, 478, 3), torch.ones(1))) == 0


def test_landmark_gate_drops_one_image_and_leaves_the_other_as_it_was() -> None:
    points, wanted = random(2, 478, 2).requires_grad_(), torch.zeros(2, 478, 3)
    gated = losses.landmark_loss(points, wanted, torch.tensor([0.9, 0.1]))
    (gradient,) = torch.autograd.grad(gated, points)
    (open_gradient,) = torch.autograd.grad(losses.landmark_loss(points, wanted, torch.ones(2)), points)
    alone = losses.landmark_loss(points[:1], wanted[:1], torch.ones(1))
    assert float(gated.detach()) == pytest.approx(float(alone.detach()) / 2)
    assert (gradient[1] == 0).all() and torch.equal(gradient[0], open_gradient[0])


def test_landmark_without_any_face_is_exactly_zero_and_can_be_differentiated() -> None:
    points = random(2, 478, 3).requires_grad_()
    loss = losses.landmark_loss(points, torch.zeros(2, 478, 3), torch.full((2,), 0.49))
    loss.backward()
    assert float(loss.detach()) == 0 and points.grad is not None and (points.grad == 0).all()


def test_landmark_sends_no_gradient_to_wanted_and_score() -> None:
    points, wanted = random(1, 478, 3).requires_grad_(), (random(1, 478, 3) / 2).requires_grad_()
    score = torch.ones(1, requires_grad=True)
    losses.landmark_loss(points, wanted, score).backward()
    assert points.grad is not None and wanted.grad is None and score.grad is None


def turned(degrees: float) -> Tensor:
    """Landmarks (1,478,3) of the template's face, turned to the side; what carries no pose is left at 0."""
    face = torch.zeros(1, 478, 3)
    face[:, :468] = template()[0] @ euler_to_matrix(*torch.tensor([[0.0], [degrees], [0.0]])).transpose(1, 2)
    return face


def test_rotation_is_the_angle_and_knows_whose_face_is_lost() -> None:
    """Chordal distance over sqrt 2: 2 sin(10 / 2 degrees), whatever the size; an image without a face adds nothing."""
    wanted = torch.eye(3).expand(1, 3, 3)
    value = 2 * math.sin(math.radians(5))
    assert float(losses.rotation_loss(0.3 * turned(10), wanted, torch.ones(1))) == pytest.approx(value, rel=1e-4)
    faces, both = turned(10).repeat(2, 1, 1), wanted.expand(2, 3, 3)
    assert float(losses.rotation_loss(faces, both, torch.tensor([0.9, 0.1]))) == pytest.approx(value / 2, rel=1e-4)


def test_rotation_teaches_the_points_alone_and_turns_them_back() -> None:
    points, wanted, score = turned(10).requires_grad_(), torch.eye(3)[None].requires_grad_(), torch.ones(1, requires_grad=True)
    losses.rotation_loss(points, wanted, score).backward()
    assert points.grad is not None and wanted.grad is None and score.grad is None
    assert (points.grad[0, 468:] == 0).all(), "no pose in the irises"
    step = points.detach() - 0.01 * points.grad / points.grad.norm()
    assert float(losses.rotation_loss(step, torch.eye(3)[None], torch.ones(1))) < 2 * math.sin(math.radians(5)) - 1e-4


def test_rotation_is_finite_where_nothing_is_wrong() -> None:
    points = turned(0).requires_grad_()
    losses.rotation_loss(points, head_pose(points.detach()).rotation, torch.ones(1)).backward()
    assert points.grad is not None and bool(points.grad.isfinite().all())


def test_embedding_value_and_gradient() -> None:
    a = torch.tensor([[2.0, 0.0], [1.0, 0.0]], requires_grad=True)
    loss = losses.embedding_loss(a, torch.tensor([[1.0, 1.0], [-3.0, 0.0]]))
    assert float(loss.detach()) == pytest.approx((1 - math.sqrt(0.5) + 2) / 2)
    loss.backward()
    assert a.grad is not None and a.grad[0, 1] < 0  # a step down turns it towards the wanted direction
