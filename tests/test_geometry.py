import pytest
import torch

from mmfa.geometry import (
    Bend,
    euler_to_matrix,
    geodesic_angle,
    image_grid,
    invert_affine,
    matrix_to_euler,
    polygon_distance,
    project_to_rotation,
    resize_grid,
    similarity,
    transform_image,
    transform_points,
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


def _similarities(count):
    generator = torch.Generator().manual_seed(0)
    angle, scale = 360 * torch.rand(count, generator=generator), 0.5 + torch.rand(count, generator=generator)
    return similarity(angle, scale, torch.rand(count, 2, generator=generator) - 0.5)


def test_similarity_turns_from_x_to_y_then_scales_then_shifts():
    transform = similarity(torch.tensor([90.0]), torch.tensor([2.0]), torch.tensor([[0.5, -0.25]]))
    moved = transform_points(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]), transform)
    torch.testing.assert_close(moved, torch.tensor([[[0.5, 1.75], [-1.5, -0.25], [0.5, -0.25]]]))


def test_similarity_turns_like_roll():
    angle = torch.tensor([25.0])
    turned = similarity(angle, torch.ones(1), torch.zeros(1, 2))[..., :2]
    torch.testing.assert_close(turned, euler_to_matrix(torch.zeros(1), torch.zeros(1), angle)[:, :2, :2])


def test_inverse_transform_brings_points_back_in_both_orders():
    transform, points = _similarities(20), torch.rand(20, 7, 3, generator=torch.Generator().manual_seed(1))
    inverse = invert_affine(transform)
    torch.testing.assert_close(transform_points(transform_points(points, transform), inverse), points)
    torch.testing.assert_close(transform_points(transform_points(points, inverse), transform), points)


def test_depth_scales_with_the_face_also_when_mirrored():
    mirrored = torch.tensor([[[-2.0, 0.0, 0.1], [0.0, 2.0, 0.3]]])
    moved = transform_points(torch.tensor([[[1.0, 1.0, 0.5]]]), mirrored)
    torch.testing.assert_close(moved, torch.tensor([[[-1.9, 2.3, 1.0]]]))


def test_points_are_moved_in_full_precision_under_autocast():
    transform, points = _similarities(4), torch.rand(4, 9, 3)
    with torch.autocast("cpu", torch.bfloat16):
        inside = transform_points(points, invert_affine(transform))
    assert torch.equal(inside, transform_points(points, invert_affine(transform)))


def test_transformed_image_shows_a_point_where_the_point_is_moved():
    """The direction: not its inverse, and with x and y not swapped."""
    transform, size = _similarities(6), 65
    place = torch.tensor([[[0.25, -0.125]]]).expand(6, 1, 2)
    grid = image_grid(size, size)
    image = torch.exp(-(grid - place[0]).square().sum(-1) / 0.005)[None, None].expand(6, 1, size, size)
    moved = transform_image(image, transform)
    weight = moved / moved.sum((2, 3), keepdim=True)
    centre = (weight[:, 0, ..., None] * grid).sum((1, 2))
    wanted = transform_points(place, transform)[:, 0]
    inside = wanted.abs().amax(1) < 0.7
    assert inside.sum() >= 3
    torch.testing.assert_close(centre[inside], wanted[inside], atol=2e-3, rtol=0)


def test_identity_transform_leaves_an_oblong_image_unchanged():
    image = torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    identity = similarity(torch.zeros(2), torch.ones(2), torch.zeros(2, 2))
    torch.testing.assert_close(transform_image(image, identity), image, atol=1e-5, rtol=0)


def test_transformed_image_repeats_the_border():
    image = torch.zeros(1, 1, 5, 5)
    image[..., 0] = 1  # the left column
    shifted = transform_image(image, similarity(torch.zeros(1), torch.ones(1), torch.tensor([[1.0, 0.0]])))
    torch.testing.assert_close(shifted[0, 0, 0], torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]))


def test_a_bend_moves_pictures_and_points_alike():
    bend, size = Bend.of(torch.randn(20, Bend.NUMBERS, generator=torch.Generator().manual_seed(3))), 65
    place = torch.tensor([[[0.25, -0.125]]]).expand(20, 1, 2)
    grid = image_grid(size, size)
    image = torch.exp(-(grid - place[0]).square().sum(-1) / 0.003)[None, None].expand(20, 1, size, size)
    weight = bend.image(image)
    weight = weight / weight.sum((2, 3), keepdim=True)
    centre = (weight[:, 0, ..., None] * grid).sum((1, 2))
    moved = bend.points(place)
    assert float((moved - place).abs().mean()) > 0.03
    torch.testing.assert_close(centre, moved[:, 0], atol=5e-3, rtol=0)
    torch.testing.assert_close(bend.back(moved), place, atol=1e-4, rtol=0)


def test_a_bend_of_nothing_changes_nothing():
    bend = Bend.of(torch.zeros(2, Bend.NUMBERS))
    image, points = torch.rand(2, 3, 9, 9), torch.rand(2, 5, 3)
    torch.testing.assert_close(bend.image(image), image, atol=1e-5, rtol=0)
    torch.testing.assert_close(bend.points(points), points)


SQUARE = torch.tensor([[[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]])


def test_distance_to_a_polygon_is_positive_inside_and_exact():
    points = torch.tensor([[[0.0, 0.0], [0.5, 0.0], [2.0, 0.0], [4.0, 5.0], [1.0, 0.3]]])
    wanted = torch.tensor([[1.0, 0.5, -1.0, -5.0, 0.0]])
    torch.testing.assert_close(polygon_distance(points, SQUARE), wanted)
    torch.testing.assert_close(polygon_distance(points, SQUARE.flip(1)), wanted, msg="either way round")


def test_distance_to_a_polygon_with_a_bay():
    bay = torch.tensor([[[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [-1.0, 1.0]]])
    inside = polygon_distance(torch.tensor([[[0.0, 0.5], [0.0, -0.5], [0.8, 0.6]]]), bay) > 0
    assert inside.tolist() == [[False, True, True]]


def test_a_shut_polygon_has_no_inside():
    line = torch.tensor([[[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]])
    assert float(polygon_distance(2 * torch.rand(1, 500, 2, generator=torch.Generator().manual_seed(0)) - 1, line).max()) <= 0
