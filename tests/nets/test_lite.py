"""`lite` as a whole: its window, the photo at rest, and the mirror image where the photo hides what is asked for."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmfa.geometry import euler_to_matrix, image_grid, warp
from mmfa.models.lite import tiny
from mmfa.models.lite.model import FaceSource, LiteMMFA, _framed, cut
from mmfa.motion import Motion
from mmfa.nets.anchors import BROWS, CHEEKS, COUNT, EYES, LIPS, NOSE, OUTLINE, TWINS, anchor_points
from mmfa.nets.appearance import MirroredFeatures
from mmfa.nets.dense_motion import FaceFlow, LiteDenseMotion
from mmfa.portrait import FaceInput, Layer

FLIP = torch.tensor([-1.0, 1.0, 1.0])
FIRST_CHEEK = len(LIPS + EYES + BROWS + NOSE + OUTLINE)
LEFT_CHEEK, RIGHT_CHEEK = (FIRST_CHEEK + CHEEKS.index(vertex) for vertex in (50, 280))


@pytest.fixture
def model(mean_mesh: Tensor) -> LiteMMFA:
    """Untrained, its keypoints anchored."""
    torch.manual_seed(0)
    model = LiteMMFA(tiny()).eval().requires_grad_(False)
    model.anchor(mean_mesh)
    return model


def face(mesh: Tensor, *, yaw: float = 0.0, at: tuple[float, float] = (0.02, -0.06), scale: float = 0.43) -> FaceInput:
    """A face (478,3) turned by `yaw` degrees, in a picture of noise."""
    torch.manual_seed(1)
    return FaceInput(
        image=torch.rand(1, 3, 64, 64),
        mesh=mesh[None],
        rotation=euler_to_matrix(*torch.tensor([[0.0], [yaw], [0.0]])),
        scale=torch.full((1, 1), scale),
        translation=torch.tensor([[*at, 0.0]]),
    )


def at_keypoint(maps: Tensor, rendering, index: int) -> float:
    """What maps (1,1,h,w) of a rendering's window say at one of its keypoints."""
    layer: Layer = rendering.layer
    place = (rendering.keypoints[:, index, :2] - layer.window[:, :2]) / layer.window[:, 2:]
    return float(warp(maps, place[:, None, None]))


def rendered(model: LiteMMFA, photo: FaceInput, driving: FaceInput):
    with torch.no_grad():
        return model.render(model.prepare(photo), model.motion(driving))


def flow_of(rendering) -> FaceFlow:
    assert isinstance(rendering.flow, FaceFlow)
    return rendering.flow


# -- the window ---------------------------------------------------------------------------------------------------------


def test_the_window_follows_the_head_and_grows_with_it(model: LiteMMFA, mean_mesh: Tensor) -> None:
    here, there = (
        model.window(model.motion(face(mean_mesh, at=at, scale=scale))) for at, scale in (((0, 0), 0.4), ((0.3, -0.2), 0.2))
    )
    torch.testing.assert_close(there[:, 2], here[:, 2] / 2)
    middle = here[:, :2] / 2  # of the face, seen from where the head turns
    torch.testing.assert_close(there[:, :2], middle + torch.tensor([[0.3, -0.2]]))
    assert float(here[0, 2]) == pytest.approx(1.3 * 0.4)


def test_what_is_drawn_does_not_depend_on_where_the_head_is(model: LiteMMFA, mean_mesh: Tensor) -> None:
    """One photo, one expression, two places and sizes: the same drawing in another window."""
    photo = face(mean_mesh)
    near, far = (
        rendered(model, photo, face(mean_mesh, yaw=10, at=at, scale=scale)) for at, scale in (((0, 0), 0.4), ((0.3, -0.2), 0.2))
    )
    assert near.layer is not None and far.layer is not None
    assert float((near.layer.window - far.layer.window).abs().min()) > 0.1
    for name in ("flow", "paint", "share", "tint"):
        torch.testing.assert_close(getattr(near.layer, name), getattr(far.layer, name), atol=1e-4, rtol=0)
    torch.testing.assert_close(far.layer.jacobian, 2 * near.layer.jacobian)


def test_a_view_cut_from_the_crop_is_what_the_model_cuts_itself(model: LiteMMFA, mean_mesh: Tensor) -> None:
    photo = face(mean_mesh)
    window = model.window(model.motion(photo))
    with torch.no_grad():
        given, own = model.prepare(photo, cut(photo.image, window, model.params.view)), model.prepare(photo)
    torch.testing.assert_close(given.features.image, own.features.image)
    torch.testing.assert_close(given.features.volume, own.features.volume)
    whole = cut(photo.image, torch.tensor([[0.0, 0.0, 1.0]]), 64)
    torch.testing.assert_close(whole, photo.image)


def test_a_photo_and_its_mirror_image_are_looked_at_once(model: LiteMMFA, mean_mesh: Tensor) -> None:
    calls: list[int] = []
    model.appearance.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    with torch.no_grad():
        source = model.prepare(face(mean_mesh))
        model.render(source, source.motion)
    assert calls == [2], "one pass, of two pictures; rendering looks at nothing again"
    assert isinstance(source.features, MirroredFeatures)
    torch.testing.assert_close(source.features.mirror.image, source.features.image.flip(-1))


# -- at rest ------------------------------------------------------------------------------------------------------------


def test_the_photos_own_motion_moves_nothing_and_draws_nothing(model: LiteMMFA, mean_mesh: Tensor) -> None:
    for yaw in (0.0, 25.0):
        rendering = rendered(model, face(mean_mesh, yaw=yaw), face(mean_mesh, yaw=yaw))
        flow, layer = flow_of(rendering), rendering.layer
        assert layer is not None
        torch.testing.assert_close(flow.image, image_grid(32, 32)[None], atol=1e-6, rtol=0)
        torch.testing.assert_close(layer.window, layer.source)
        torch.testing.assert_close(layer.jacobian, torch.eye(2)[None])
        assert not flow.inside.any() and not layer.share.any() and not layer.tint.any()
        assert flow.mirrored is not None and not flow.mirrored.any()


def test_a_symmetric_face_at_rest_is_its_own_mirror_image(model: LiteMMFA, mean_mesh: Tensor) -> None:
    keypoints = anchor_points(mean_mesh)
    symmetric = (keypoints + keypoints[list(TWINS)] * FLIP) / 2
    with torch.no_grad():
        source = model.prepare(face(mean_mesh, at=(0.0, 0.0)))
        assert isinstance(source, FaceSource)
        placed, _ = model.keypoints(symmetric[None], _framed(source.motion, source.window))
        source = replace(source, canonical=symmetric[None], keypoints=placed)
        flow = flow_of(model.render(source, source.motion))
    assert flow.mirror is not None
    torch.testing.assert_close(flow.mirror, image_grid(32, 32)[None], atol=5e-3, rtol=0)


# -- the mirror image ---------------------------------------------------------------------------------------------------


def test_twins_are_the_mean_faces_nearest_keypoints_in_the_mirror(mean_mesh: Tensor) -> None:
    keypoints = anchor_points(mean_mesh)
    nearest = torch.cdist(keypoints * FLIP, keypoints)
    assert nearest.argmin(1).tolist() == list(TWINS) and len(TWINS) == COUNT
    assert float(nearest.amin(1).max()) < 0.01, "faces are symmetric to a hundredth of half their width"


@pytest.mark.parametrize("yaw", [0.0, 25.0, -25.0])
def test_the_photo_alone_is_used_where_photo_and_driver_look_the_same_way(model: LiteMMFA, mean_mesh: Tensor, yaw: float) -> None:
    for more in (0.0, 4.0):
        flow = flow_of(rendered(model, face(mean_mesh, yaw=yaw), face(mean_mesh, yaw=yaw + more)))
        assert flow.mirrored is not None and not flow.mirrored.any()


@pytest.mark.parametrize("yaw", [25.0, -25.0])
def test_the_far_cheek_of_a_photo_that_looks_aside_comes_from_its_mirror_image(
    model: LiteMMFA, mean_mesh: Tensor, yaw: float
) -> None:
    rendering = rendered(model, face(mean_mesh, yaw=yaw), face(mean_mesh, yaw=-yaw))
    flow = flow_of(rendering)
    assert flow.mirrored is not None and flow.mirror is not None
    far, near = (LEFT_CHEEK, RIGHT_CHEEK) if yaw > 0 else (RIGHT_CHEEK, LEFT_CHEEK)
    assert at_keypoint(flow.mirrored, rendering, far) > 0.9
    assert at_keypoint(flow.mirrored, rendering, near) < 0.05
    # The mirror image looks where the driver does: nothing has to turn there.
    moved = (flow.mirror - image_grid(32, 32))[0]
    photo = (flow.image - image_grid(32, 32))[0]
    shown = flow.mirrored[0, 0] > 0.5
    assert float(moved[shown].norm(dim=1).mean()) < 0.25 * float(photo[shown].norm(dim=1).mean())


@pytest.mark.parametrize("driven", [25.0, 28.0, -25.0], ids=["at rest", "nothing hidden", "a cheek hidden"])
def test_sparing_the_mirror_image_gives_the_same_picture(model: LiteMMFA, mean_mesh: Tensor, driven: float) -> None:
    spare = copy.deepcopy(model)
    assert isinstance(spare.dense_motion, LiteDenseMotion)
    spare.dense_motion.sparing = True
    photo, driving = face(mean_mesh, yaw=25), face(mean_mesh, yaw=driven)
    wanted, found = rendered(model, photo, driving), rendered(spare, photo, driving)
    assert wanted.layer is not None and found.layer is not None
    assert wanted.layer.mirror is not None and (found.layer.mirror is None) == (driven > 0)
    for a, b in zip(found.images, wanted.images, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    for name in ("flow", "paint", "share", "tint", *(("mirror", "mirrored", "light") if driven < 0 else ())):
        torch.testing.assert_close(getattr(found.layer, name), getattr(wanted.layer, name), atol=1e-6, rtol=0)


# -- light --------------------------------------------------------------------------------------------------------------


def lit(model: LiteMMFA, mean_mesh: Tensor, picture: Tensor) -> Tensor:
    """The light (3,n,n) of a frontal face in a picture (3,64,64), its view."""
    source = model.prepare(face(mean_mesh, at=(0.0, 0.0)))
    assert isinstance(source, FaceSource)
    return model._light(picture[None], source.keypoints, _framed(source.motion, source.window))[0]


def test_a_symmetric_face_that_is_lit_evenly_needs_no_other_light(model: LiteMMFA, mean_mesh: Tensor) -> None:
    torch.testing.assert_close(lit(model, mean_mesh, torch.full((3, 64, 64), 0.6)), torch.ones(3, 24, 24))
    axis = torch.linspace(-1, 1, 64)
    oval = (0.3 + 0.4 * torch.exp(-2 * (axis[:, None] ** 2 + axis**2))).expand(3, -1, -1)
    torch.testing.assert_close(lit(model, mean_mesh, oval), torch.ones(3, 24, 24), atol=0.02, rtol=0)


def test_a_face_that_is_lit_from_the_left_lights_its_mirror_image_from_the_left(model: LiteMMFA, mean_mesh: Tensor) -> None:
    """Colours fall from 0.7 to 0.5: at the left the mirror image is too dark by their ratio, in the middle it is right."""
    picture = (0.6 - 0.1 * torch.linspace(-1, 1, 64)).expand(3, 64, 64).clone()
    picture[2] = 0.6  # blue light from everywhere
    light = lit(model, mean_mesh, picture)
    left, middle, right = (light[:2, 10:14, column].mean() for column in (7, slice(11, 13), 16))
    assert 1.05 < float(left) < 0.7 / 0.5 and 0.5 / 0.7 < float(right) < 0.95
    assert float(middle) == pytest.approx(1, abs=0.02) and float(left * right) == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(light[2], torch.ones(24, 24), atol=1e-3, rtol=0)
    assert float((light[:, 0] - 1).abs().max()) < 0.02, "beside the face as it is"


def test_light_is_believed_within_limits_and_is_finite_on_a_black_picture(model: LiteMMFA, mean_mesh: Tensor) -> None:
    half = torch.zeros(3, 64, 64)
    assert bool(lit(model, mean_mesh, half).isfinite().all())
    half[..., :32] = 1
    light = lit(model, mean_mesh, half)
    assert float(light.min()) == pytest.approx(0.6) and float(light.max()) == pytest.approx(1.6)


def test_motions_of_a_photo_stay_in_the_crops_grid(model: LiteMMFA, mean_mesh: Tensor) -> None:
    """Relative motion starts from them."""
    photo = face(mean_mesh, yaw=10)
    source = model.prepare(photo)
    own = model.motion(photo)
    assert isinstance(source.motion, Motion)
    torch.testing.assert_close(source.motion.translation, own.translation)
    torch.testing.assert_close(source.motion.scale, own.scale)
