import pytest
import torch

from mmfa.geometry import euler_to_matrix, image_grid, volume_grid, warp
from mmfa.models.lite import tiny
from mmfa.models.paper import tiny_paper
from mmfa.nets.anchors import BROW_SIDES, COUNT, IRISES, LOWER_LIDS, MOUTH, OVAL, UPPER_LIDS
from mmfa.nets.dense_motion import DenseMotion, LayeredFlow, LiteDenseMotion


def _network(kind):
    torch.manual_seed(0)
    if kind == "paper":
        return DenseMotion(tiny_paper().dense_motion).eval()
    network = LiteDenseMotion(tiny().dense_motion).eval()
    torch.nn.init.zeros_(network.fine_shift.weight)  # the one part of the flow that no keypoint causes
    return network


def _flow(network, *, source, driving, jacobian=None):
    torch.manual_seed(1)
    volume = torch.randn(len(source), network.params.volume_channels, 4, 16, 16)
    identity = torch.eye(3).expand(len(source), 3, 3)
    with torch.no_grad():
        flow = network(
            volume,
            source=source,
            driving=driving,
            jacobian=identity if jacobian is None else jacobian,
            scale=torch.ones(len(source), 1),
        )
    return volume, flow


@pytest.mark.parametrize("kind", ["lite", "paper"])
def test_identity_motion_leaves_the_features_unchanged(kind):
    network = _network(kind)
    keypoints = 2 * torch.rand(2, network.params.keypoints, 3) - 1
    volume, flow = _flow(network, source=keypoints, driving=keypoints)
    torch.testing.assert_close(flow.volume, volume_grid(4, 16, 16).expand(2, -1, -1, -1, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(warp(volume, flow.volume), volume, atol=1e-4, rtol=0)
    if isinstance(flow, LayeredFlow):
        torch.testing.assert_close(flow.image, image_grid(64, 64).expand(2, -1, -1, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["lite", "paper"])
def test_flow_points_from_driving_back_to_source(kind):
    """With every keypoint shifted alike, the flow lies between the identity and that shift, backwards."""
    network = _network(kind)
    source = torch.rand(1, network.params.keypoints, 3) - 0.5
    shift = torch.tensor([0.3, 0.0, 0.0])
    _, flow = _flow(network, source=source, driving=source + shift)
    moved = (flow.volume - volume_grid(4, 16, 16)) / -0.3
    assert float(moved[..., 0].min()) >= -1e-4 and float(moved[..., 0].max()) <= 1 + 1e-4
    assert float(moved[..., 0].max()) > 0.5
    assert float(moved[..., 1:].abs().max()) < 1e-4


@pytest.mark.parametrize("kind", ["lite", "paper"])
def test_shapes_and_ranges(kind):
    network = _network(kind)
    source = torch.rand(2, network.params.keypoints, 3)
    _, flow = _flow(network, source=source, driving=source.flip(0))
    assert flow.volume.shape == (2, 4, 16, 16, 3)
    assert flow.occlusion.shape == (2, 1, 16, 16)
    assert float(flow.occlusion.min()) >= 0 and float(flow.occlusion.max()) <= 1
    assert isinstance(flow, LayeredFlow) == (kind == "lite")


def _mouth(gap):
    """Keypoints of which those of the inner lips form a mouth, `gap` high, in the middle of the picture."""
    keypoints = torch.full((1, COUNT, 3), 0.9)
    angle = torch.linspace(torch.pi, -torch.pi, len(MOUTH) + 1)[:-1]
    ring = torch.stack([0.3 * angle.cos(), -gap / 2 * angle.sin(), torch.zeros(len(MOUTH))], 1)
    keypoints[:, list(MOUTH)] = ring
    return keypoints


def test_openings_are_where_the_driving_mouth_is_open_and_what_the_photo_has_there():
    network = _network("lite")
    _, flow = _flow(network, source=_mouth(0.02), driving=_mouth(0.4))
    driving, source = flow.openings[0, 0], flow.openings[0, 2]
    middle = driving.shape[-1] // 2
    assert float(driving[middle, middle]) > 0.1 and float(driving[0].max()) < -0.5
    assert float(source.max()) < 0.02, "the photo's mouth is shut, wherever it is taken from"
    _, flow = _flow(network, source=_mouth(0.4), driving=_mouth(0.4))
    torch.testing.assert_close(flow.openings[:, :2], flow.openings[:, 2:], atol=1e-4, rtol=0)


def test_teeth_move_with_the_skull_however_far_the_lips_part():
    """A photo with a smile, a driver with the mouth wide open, the head still: no place in the mouth is stretched."""
    network = _network("lite")
    _, flow = _flow(network, source=_mouth(0.15), driving=_mouth(0.5))
    grid = image_grid(64, 64)
    inside = (grid[..., 0].abs() < 0.08) & (grid[..., 1].abs() < 0.13)
    torch.testing.assert_close(flow.image[0][inside], grid[inside], atol=1e-3, rtol=0)
    middle, row = 16, 16 + 2  # below the photo's own opening
    assert float(flow.openings[0, 0, row, middle]) > 0.05 > 0 > float(flow.openings[0, 2, row, middle])
    moved = _mouth(0.5) + torch.tensor([0.1, 0.0, 0.0])
    _, flow = _flow(network, source=_mouth(0.15), driving=moved)
    inside = ((grid[..., 0] - 0.1).abs() < 0.08) & (grid[..., 1].abs() < 0.13)
    torch.testing.assert_close(flow.image[0][inside], grid[inside] - torch.tensor([0.1, 0.0]), atol=1e-3, rtol=0)


def _head(gap=0.2, *, look=0.0):
    """Keypoints of a face in the middle of the picture: eyes 0.3 wide and `gap` high, irises moved by `look` to the right."""
    keypoints = torch.zeros(1, COUNT, 3)
    angle = torch.linspace(-torch.pi / 2, 3 * torch.pi / 2, len(OVAL) + 1)[:-1]
    keypoints[0, list(OVAL), :2] = torch.stack([0.7 * angle.cos(), 0.8 * angle.sin()], 1)
    keypoints[0, list(MOUTH), 1] = 0.4
    for eye, (upper, lower, iris, brow) in enumerate(zip(UPPER_LIDS, LOWER_LIDS, IRISES, BROW_SIDES, strict=True)):
        middle = 0.6 * eye - 0.3
        for lid, height in ((upper, -gap / 2), (lower, gap / 2)):
            keypoints[0, list(lid), 0] = middle + torch.linspace(-0.15, 0.15, 5)
            keypoints[0, list(lid[1:-1]), 1] = height
        keypoints[0, iris, 0] = middle + look
        keypoints[0, list(brow), 0] = middle + torch.linspace(-0.15, 0.15, 3)
        keypoints[0, list(brow), 1] = -0.35
    return keypoints


def _rows(flow, x):
    """Where (64,) the column of a flow (1,64,64,2) at x takes its rows from."""
    return flow[0, :, round((x + 1) / 2 * 63), 1]


def test_a_lid_that_closes_covers_the_eye_with_skin():
    """No place outside the shut eyes shows what was between the lids, and the skin keeps its order."""
    network = _network("lite")
    source, shut = _head(0.2), _head(0.0)
    _, flow = _flow(network, source=source, driving=shut)
    grid = image_grid(64, 64)[:, 0, 1]
    for middle in (-0.3, 0.3):
        rows = _rows(flow.image, middle)
        above = (grid < -0.03) & (grid > -0.2)
        assert float(rows[above].max()) < -0.1 + 0.02, "from above the photo's upper lid"
        assert float(rows[(grid > 0.03) & (grid < 0.2)].min()) > 0.1 - 0.02, "from below its lower lid"
        assert bool((rows[(grid > -0.3) & (grid < 0.3)].diff() > 0).all())


def test_an_eye_that_opens_shows_more_of_the_ball_and_moves_none_of_it():
    network = _network("lite")
    _, flow = _flow(network, source=_head(0.1), driving=_head(0.2))
    grid = image_grid(64, 64)
    inside = ((grid[..., 0].abs() - 0.3).abs() < 0.08) & (grid[..., 1].abs() < 0.06)
    torch.testing.assert_close(flow.image[0][inside], grid[inside], atol=1e-2, rtol=0)


def test_the_ball_turns_with_its_iris_and_is_fixed_at_the_corners():
    network = _network("lite")
    _, flow = _flow(network, source=_head(), driving=_head(look=0.05))
    row = flow.image[0, 32, :, 0] - image_grid(64, 64)[32, :, 0]
    for middle in (-0.3, 0.3):
        places = [round((middle + x + 1) / 2 * 63) for x in (0.05, -0.14, 0.15)]
        assert abs(float(row[places[0]]) + 0.05) < 2e-3
        assert all(abs(float(row[place])) < 0.015 for place in places[1:])


def test_the_skin_of_an_eye_turned_on_its_side_stretches_the_same_way():
    """In-plane the flow turns with the head."""
    network = _network("lite")
    turn = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    network.log_width.data.fill_(-2.0)
    _, upright = _flow(network, source=_head(0.2), driving=_head(0.04))
    _, turned = _flow(network, source=_head(0.2) @ turn, driving=_head(0.04) @ turn)
    grid = image_grid(64, 64)
    eyes = ((grid[..., 0].abs() - 0.3).abs() < 0.1) & (grid[..., 1].abs() < 0.1)
    moved = (upright.image[0] - grid)[eyes] @ turn[:2, :2]
    where = grid[eyes] @ turn[:2, :2]
    found = torch.nn.functional.grid_sample(
        (turned.image[0] - grid).permute(2, 0, 1)[None], where[None, None], align_corners=True
    )
    torch.testing.assert_close(found[0, :, 0].T, moved, atol=5e-3, rtol=0)


def test_hair_is_around_the_face_and_no_body_is():
    network = _network("lite")
    _, flow = _flow(network, source=_head(), driving=_head())
    around = flow.around[0, 0]
    assert float(around[0, 16]) > 0.95 and float(around[16, 0]) > 0.95, "above and beside"
    assert float(around[16, 16]) < 1e-3, "the face"
    assert float(around[-2:].max()) < 0.3, "below the chin"


def test_the_backdrop_is_beside_and_above_the_head_and_not_below():
    network = _network("lite")
    torch.manual_seed(2)
    head = 0.4 * torch.rand(1, COUNT, 3) - 0.2
    _, flow = _flow(network, source=head, driving=head)
    rows = flow.backdrop[0, 0]
    assert float(rows[:4, :4].min()) > 0.99, "a corner above"
    assert float(rows[32, 32]) == 0, "the head"
    assert float(rows[60:, :4].max()) < 0.01 < 0.99 < float(flow.background[0, 0, 60:, :4].min()), "a body"


def test_what_is_below_the_head_follows_it_a_little_and_what_is_above_stands_still():
    network = _network("lite")
    torch.nn.init.zeros_(network.follow.weight)
    source = 0.4 * torch.rand(1, COUNT, 3) - 0.2
    _, flow = _flow(network, source=source, driving=source + torch.tensor([0.2, 0.0, 0.0]))
    share = (flow.plate - image_grid(64, 64))[0] / -0.2
    assert float(share[..., 1].abs().max()) < 1e-4
    assert float(share[-4:, :, 0].min()) > 0.2 and float(share[-4:, :, 0].max()) < 0.35
    assert float(share[:16, :, 0].abs().max()) < 0.01
    network.follow.bias.data.fill_(2.0)
    _, flow = _flow(network, source=source, driving=source + torch.tensor([0.2, 0.0, 0.0]))
    assert float(((flow.plate - image_grid(64, 64))[0, -4:, :, 0] / -0.2).min()) > 0.99, "a body that moves as the head does"


def test_the_papers_flow_on_the_picture_is_the_volumes_where_both_have_the_keypoints_depth():
    """A turn about the viewing axis, a zoom and a shift: keypoints of any depth move alike, and so do picture and volume."""
    network = _network("paper")
    source = torch.rand(2, network.params.keypoints, 3) - 0.5
    still, shift = _flow(network, source=source, driving=source)[1], torch.tensor([0.2, -0.1, 0.0])
    torch.testing.assert_close(still.photo, image_grid(16, 16).expand(2, -1, -1, -1), atol=1e-5, rtol=0)
    turn = euler_to_matrix(torch.zeros(1), torch.zeros(1), torch.tensor([30.0])).expand(2, 3, 3)
    _, flow = _flow(network, source=source, driving=(source - shift) @ turn, jacobian=turn)
    torch.testing.assert_close(flow.photo, flow.volume[..., :2].mean(1), atol=1e-5, rtol=0)
    assert float((flow.photo - image_grid(16, 16)).abs().mean()) > 0.05
