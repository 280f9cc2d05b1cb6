import pytest
import torch

from mmfa.geometry import euler_to_matrix, image_grid, polygon_distance, volume_grid, warp
from mmfa.models.lite import tiny
from mmfa.models.paper import tiny_paper
from mmfa.nets.anchors import BROW_SIDES, CHEEKS, COUNT, FINE, IRISES, LOWER_LIDS, MOUTH, OVAL, TWINS, UPPER_LIDS, VERTICES
from mmfa.nets.dense_motion import DenseMotion, FaceFlow, LiteDenseMotion, View


def _network(kind):
    torch.manual_seed(0)
    if kind == "paper":
        return DenseMotion(tiny_paper().dense_motion).eval()
    network = LiteDenseMotion(tiny().dense_motion).eval()
    torch.nn.init.zeros_(network.fine_shift.weight)  # the one part of the flow that no keypoint causes
    return network


def _flow(network, *, source, driving, jacobian=None, changed=1.0, hidden=0.0, mirror=None):
    """A volume and its flow. changed and hidden: of all keypoints, or (B,K). mirror: keypoints there, if not the photo's."""
    torch.manual_seed(1)
    volume = torch.randn(len(source), network.params.volume_channels, 4, 16, 16)
    turn = torch.eye(3).expand(len(source), 3, 3) if jacobian is None else jacobian
    scale = torch.ones(len(source), 1)
    with torch.no_grad():
        if isinstance(network, DenseMotion):
            return volume, network(volume, source=source, driving=driving, jacobian=turn, scale=scale)
        flow = network(
            volume,
            photo=View(keypoints=source, jacobian=turn),
            mirror=View(keypoints=source if mirror is None else mirror, jacobian=turn),
            driving=driving,
            scale=scale,
            changed=torch.as_tensor(changed).expand(driving.shape[:2]),
            hidden=torch.as_tensor(hidden).expand(driving.shape[:2]),
        )
    return volume, flow


@pytest.mark.parametrize("kind", ["lite", "paper"])
def test_identity_motion_leaves_the_features_unchanged(kind):
    network = _network(kind)
    keypoints = 2 * torch.rand(2, network.params.keypoints, 3) - 1
    volume, flow = _flow(network, source=keypoints, driving=keypoints)
    torch.testing.assert_close(flow.volume, volume_grid(4, 16, 16).expand(2, -1, -1, -1, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(warp(volume, flow.volume), volume, atol=1e-4, rtol=0)
    if isinstance(flow, FaceFlow):
        assert flow.mirror is not None and flow.mirror_volume is not None
        for picture, features in ((flow.image, flow.volume), (flow.mirror, flow.mirror_volume)):
            torch.testing.assert_close(picture, image_grid(64, 64).expand(2, -1, -1, -1), atol=1e-5, rtol=0)
            torch.testing.assert_close(features, volume_grid(4, 16, 16).expand(2, -1, -1, -1, -1), atol=1e-5, rtol=0)


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
    assert isinstance(flow, FaceFlow) == (kind == "lite")
    if isinstance(flow, FaceFlow):
        assert flow.image.shape == (2, 64, 64, 2) and flow.skip_occlusion.shape == (2, 3, 32, 32)
        assert flow.openings.shape == (2, 4, 32, 32)
        assert flow.follow.shape[:2] == (2, 1) and not flow.follow[..., 0].any() and not flow.follow[..., -1, :].any()
        for share in (flow.inside, flow.mirrored, flow.skip_occlusion):
            assert share is not None and float(share.min()) >= 0 and float(share.max()) <= 1 + 1e-5


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


# -- where the generator may draw, and where it sees the mirror image ------------------------------------------------------


def test_the_generator_may_draw_in_the_face_that_changed_and_a_little_around_it():
    network = _network("lite")
    driving = 0.7 * _head(0.1)
    _, flow = _flow(network, source=0.7 * _head(), driving=driving)
    inside, grid = flow.inside[0, 0], image_grid(64, 64).flatten(0, 1)
    face = polygon_distance(grid[None], driving[:, list(OVAL), :2]).unflatten(1, (64, 64))[0]
    torch.testing.assert_close(inside[face > 0], torch.ones(int((face > 0).sum())), atol=1e-4, rtol=0)
    assert not inside[face < -0.25].any() and bool((face < -0.25).any()), "no hair, no body"
    assert 0.4 < float(inside[(face < -0.12) & (face > -0.13)].mean()) < 0.6, "soft between"


def test_nothing_is_drawn_where_nothing_changed():
    network = _network("lite")
    _, flow = _flow(network, source=_head(), driving=_head(), changed=0.0)
    assert not flow.inside.any()
    mouth = torch.zeros(1, COUNT)
    mouth[:, list(MOUTH)] = 1
    network.log_width.data.fill_(-2.3)
    _, flow = _flow(network, source=_head(), driving=_head(), changed=mouth)
    inside = flow.inside[0, 0]
    row, column = round((0.4 + 1) / 2 * 63), 32
    assert float(inside[row, column]) > 0.5 and float(inside[28:36, 20:44].max()) < 0.05, "the mouth and not the eyes"


def test_the_mirror_image_shows_where_the_photo_hides_what_is_asked_for_and_only_in_the_face():
    network = _network("lite")
    _, flow = _flow(network, source=_head(), driving=_head(), hidden=0.0)
    assert not flow.mirrored.any()
    left = (_head()[..., 0] < 0).float()
    network.log_width.data.fill_(-2.3)
    _, flow = _flow(network, source=_head(), driving=_head(), hidden=left)
    shown = flow.mirrored[0, 0]
    assert float(shown[32, 14:20].min()) > 0.9 and float(shown[32, 45:50].max()) < 0.1
    beyond = flow.inside[0, 0] == 0
    assert bool(beyond.any()) and not shown[beyond].any()


def test_the_mirror_image_is_taken_from_where_its_keypoints_are():
    """Keypoints there lie 0.1 to the right of the photo's: so do the places from which it is taken."""
    network, shift = _network("lite"), torch.tensor([0.1, 0.0, 0.0])
    _, flow = _flow(network, source=_head(), driving=_head(), mirror=_head() + shift, hidden=1.0)
    grid = image_grid(64, 64)
    face = (grid[..., 0].abs() < 0.6) & (grid[..., 1].abs() < 0.6)
    torch.testing.assert_close(flow.mirror[0][face], grid[face] + shift[:2], atol=1e-3, rtol=0)
    torch.testing.assert_close(flow.image[0], grid, atol=1e-5, rtol=0)


@pytest.mark.parametrize("hidden", [False, True], ids=["nothing hidden", "a cheek hidden"])
def test_leaving_the_mirror_image_out_where_nothing_of_it_shows_changes_nothing(hidden):
    network = _network("lite")
    told = (_head()[..., 0] < 0).float() * float(hidden)
    places = {"source": _head(), "driving": _head(0.1), "mirror": _head() + 0.05, "hidden": told}
    _, whole = _flow(network, **places)
    network.sparing = True
    _, spared = _flow(network, **places)
    parts = ("mirror", "mirror_volume", "mirrored")
    assert all((getattr(spared, name) is None) != hidden for name in parts) and whole.mirror is not None
    for name in ("volume", "image", "occlusion", "inside", "skip_occlusion", "hint", "openings", *(parts if hidden else ())):
        assert torch.equal(getattr(spared, name), getattr(whole, name)), name


def test_twins_take_each_others_place():
    assert sorted(TWINS) == list(range(COUNT)) and [TWINS[twin] for twin in TWINS] == list(range(COUNT))
    assert set(TWINS[: len(MOUTH) + 12]) == set(range(20)) and max(TWINS[:FINE]) < FINE, "lips and lids stay lips and lids"
    assert {TWINS[index] for index in MOUTH} == set(MOUTH) and {TWINS[index] for index in OVAL} == set(OVAL)
    assert {VERTICES[TWINS[VERTICES.index(cheek)]] for cheek in CHEEKS} == set(CHEEKS)


def test_the_prior_alone_moves_places_as_the_untrained_network_does():
    network, shift = _network("lite"), torch.tensor([0.05, -0.1, 0.0])
    for layer in (network.fine_masks, network.masks):
        torch.nn.init.zeros_(layer.weight)
    source, driving = _head(), _head() + shift
    _, flow = _flow(network, source=source, driving=driving)
    grid = image_grid(64, 64)
    view = View(keypoints=source, jacobian=torch.eye(3)[None])
    with torch.no_grad():
        rough = network.rough(grid.flatten(0, 1), view=view, driving=driving, scale=torch.ones(1, 1)).unflatten(1, (64, 64))
    torch.testing.assert_close(rough, grid[None] - shift[:2], atol=1e-4, rtol=0)
    torch.testing.assert_close(flow.image, rough, atol=1e-3, rtol=0)


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
