import pytest
import torch

from mmfa.geometry import (
    euler_to_matrix,
    geodesic_angle,
    image_grid,
    matrix_to_euler,
    project_to_rotation,
    resize_grid,
    volume_grid,
    warp,
)


def _rotation(angles):
    return euler_to_matrix(*(torch.tensor([angle], dtype=torch.float64) for angle in angles))


def test_euler_angles_give_rotations_and_come_back():
    torch.manual_seed(0)
    limits = torch.tensor([[179.0], [89.0], [179.0]], dtype=torch.float64)
    angles = (2 * torch.rand(3, 500, dtype=torch.float64) - 1) * limits
    rotation = euler_to_matrix(*angles)
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).double().expand(500, 3, 3))
    torch.testing.assert_close(torch.det(rotation), torch.ones(500, dtype=torch.float64))
    torch.testing.assert_close(torch.stack(matrix_to_euler(rotation)), angles, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("angles", "point", "moved"),
    [
        ((90, 0, 0), (0, 1, 0), (0, 0, 1)),  # pitch carries y (down) to z (away)
        ((0, 90, 0), (0, 0, 1), (1, 0, 0)),  # yaw carries z to x (right)
        ((0, 0, 90), (1, 0, 0), (0, 1, 0)),  # roll carries x to y
    ],
)
def test_each_angle_turns_about_its_axis(angles, point, moved):
    turned = _rotation(angles)[0] @ torch.tensor(point, dtype=torch.float64)
    torch.testing.assert_close(turned, torch.tensor(moved, dtype=torch.float64), atol=1e-12, rtol=0)


def test_order_is_pitch_after_yaw_after_roll():
    together = _rotation((20, 30, 40))
    torch.testing.assert_close(together, _rotation((20, 0, 0)) @ _rotation((0, 30, 0)) @ _rotation((0, 0, 40)))


def test_geodesic_angle_measures_the_turn():
    a, b = _rotation((10, 20, 30)), _rotation((10, 20, 30)) @ _rotation((0, 25, 0))
    assert float(geodesic_angle(a, b)) == pytest.approx(25)
    assert float(geodesic_angle(a, a)) == pytest.approx(0, abs=1e-4)


def test_projection_gives_the_nearest_rotation_never_a_reflection():
    rotation = _rotation((10, -20, 30))
    torch.testing.assert_close(project_to_rotation(1.7 * rotation), rotation)
    mirrored = rotation @ torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close(torch.det(project_to_rotation(mirrored)), torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(9, 14), (4, 9, 14), (16, 32, 32)])
def test_identity_grid_leaves_white_noise_unchanged(shape):
    torch.manual_seed(0)
    features = torch.randn(2, 3, *shape)
    grid = (image_grid if len(shape) == 2 else volume_grid)(*shape)
    warped = warp(features, grid.expand(2, *grid.shape))
    assert float((warped - features).norm() / features.norm()) < 1e-5


def test_grid_axes_are_x_then_y_then_z():
    grid = volume_grid(2, 3, 4)
    assert grid[1, 0, 0].tolist() == [-1, -1, 1]
    assert grid[0, 2, 0].tolist() == [-1, 1, -1]
    assert grid[0, 0, 3].tolist() == [1, -1, -1]


@pytest.mark.parametrize("dims", [2, 3])
def test_permuted_grid_samples_like_a_contiguous_one(dims):
    torch.manual_seed(0)
    shape = (6, 7, 8)[:dims]
    features = torch.randn(2, 3, *shape)
    permuted = (2 * torch.rand(2, dims, *shape) - 1).movedim(1, -1)
    assert not permuted.is_contiguous()
    copied = permuted.clone(memory_format=torch.contiguous_format)
    torch.testing.assert_close(warp(features, permuted), warp(features, copied))


def test_resized_identity_stays_the_identity():
    resized = resize_grid(image_grid(8, 10)[None], 16, 21)
    torch.testing.assert_close(resized, image_grid(16, 21)[None], atol=1e-6, rtol=0)
