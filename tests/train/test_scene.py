"""What a model that draws in a window is trained on: its drawing over the moved person over the backdrop."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmfa.geometry import euler_to_matrix, image_grid
from mmfa.models.lite import tiny
from mmfa.models.lite.model import LiteMMFA, cut
from mmfa.portrait import FaceInput, Layer, Rendered
from mmfa.train.scene import Scene, in_window
from mmfa.weights import from_pretrained

UNIT = 0.3


def smooth_photo(size: int = 64) -> tuple[Tensor, Tensor]:
    """A picture of soft colours, and a person (1,1,S,S) with soft edges, to the lower edge."""
    torch.manual_seed(0)
    image = F.interpolate(torch.rand(1, 3, 6, 6), size=(size, size), mode="bilinear", align_corners=True)
    x, y = image_grid(size, size).unbind(-1)
    head = 0.55 - (x**2 + y**2).sqrt()
    matte = (25 * torch.maximum(head, torch.minimum(y - 0.3, 0.8 - x.abs()))).sigmoid()
    return image, matte[None, None]


def layer_of(shift: tuple[float, float] = (0.0, 0.0)) -> Layer:
    """A head that goes so far in the crop's grid; nothing is drawn."""
    angle = torch.linspace(0, 2 * math.pi, 13)[:-1]
    outline = torch.stack([0.75 * UNIT * angle.sin(), -UNIT * angle.cos()], 1) + torch.tensor(shift)
    return Layer(
        window=torch.tensor([[*shift, 1.3 * UNIT]]),
        source=torch.tensor([[0.0, 0.0, 1.3 * UNIT]]),
        flow=image_grid(32, 32)[None].clone(),
        jacobian=torch.eye(2)[None],
        outline=outline[None],
        unit=torch.tensor([[UNIT]]),
        follow=torch.zeros(1, 1, 17, 17),
        paint=torch.zeros(1, 3, 64, 64),
        share=torch.zeros(1, 1, 64, 64),
        tint=torch.zeros(1, 3, 64, 64),
    )


def rendered(layer: Layer) -> Rendered:
    return Rendered(patch=torch.zeros(len(layer), 3, 64, 64), layer=layer)


@pytest.fixture(scope="module")
def model() -> LiteMMFA:
    """Untrained, its keypoints on the mean face."""
    shipped = from_pretrained("lite")
    assert isinstance(shipped, LiteMMFA)
    torch.manual_seed(0)
    model = LiteMMFA(tiny()).eval()
    model.anchor(shipped.mean_mesh)
    return model


def test_person_and_backdrop_are_the_photo() -> None:
    image, matte = smooth_photo()
    scene = Scene.of(image, matte)
    torch.testing.assert_close(scene.person[:, :3] + (1 - scene.person[:, 3:]) * scene.backdrop, image)
    outside = F.max_pool2d((matte > 0.05).float(), 5, 1, 2) == 0
    assert torch.equal(scene.backdrop[outside.expand_as(image)], image[outside.expand_as(image)])
    assert not torch.allclose(scene.backdrop[..., 28:36, 28:36], image[..., 28:36, 28:36], atol=0.02)


@pytest.mark.parametrize("yaw", [0.0, 20.0])
def test_at_rest_it_gives_the_photos_window_back(model: LiteMMFA, yaw: float) -> None:
    image, matte = smooth_photo()
    turn = euler_to_matrix(*torch.tensor([[0.0], [yaw], [0.0]]))
    face = FaceInput(image, model.mean_mesh[None], turn, torch.full((1, 1), UNIT), torch.zeros(1, 3))
    with torch.no_grad():
        source = model.prepare(face)
        rendering = model.render(source, source.motion)
        drawn = Scene.of(image, matte).composed(rendering, rendering.images)
    assert [part.shape[-1] for part in drawn] == [16, 32, 64] and rendering.layer is not None
    wanted = cut(image, rendering.layer.window, 64)
    for part in drawn:
        small = F.interpolate(wanted, size=part.shape[-2:], mode="area")
        torch.testing.assert_close(part, small, atol=0.01, rtol=0)


def test_around_a_face_at_rest_is_the_photo_its_matte_and_where_the_face_is() -> None:
    image, matte = smooth_photo()
    around, cover, face = Scene.of(image, matte).around(rendered(layer_of()), 64)
    torch.testing.assert_close(around, image, atol=0.01, rtol=0)
    torch.testing.assert_close(cover, matte, atol=0.01, rtol=0)
    assert float(face[..., 30:34, 30:34].min()) > 0.99 and not face[..., :16, :].any() and not face[..., 50:, :].any()


def test_a_head_that_goes_aside_is_taken_along_and_the_backdrop_is_behind_it() -> None:
    image, matte = smooth_photo()
    scene, shift = Scene.of(image, matte), 16 / 63 * 2 / 2  # 8 pixels
    around, cover, face = scene.around(rendered(layer_of((shift, 0.0))), 64)
    torch.testing.assert_close(around[..., 26:38, 36:44], image[..., 26:38, 28:36], atol=0.02, rtol=0)
    torch.testing.assert_close(cover[..., 20:40, 20:60], matte[..., 20:40, 12:52], atol=0.05, rtol=0)
    assert float(face[..., 32, 40]) > 0.99
    left = matte[..., :32, :24] > 0.5  # where the head was, and is no more
    gone = left & (cover[..., :32, :24] < 0.05)
    rest, before = ((shown - scene.backdrop)[..., :32, :24][gone.expand(1, 3, -1, -1)].abs() for shown in (around, image))
    assert float(rest.mean()) < 0.03 and float(before.mean()) > 0.06
    assert bool(gone.any())


def test_the_models_own_picture_counts_in_the_face_and_on_the_person_alone() -> None:
    image, matte = smooth_photo()
    images = [torch.full((1, 3, size, size), 2.0) for size in (16, 32, 64)]
    *_, drawn = Scene.of(image, matte).composed(rendered(layer_of()), images)
    assert float(drawn[..., 28:36, 28:36].min()) > 1.9
    wanted = cut(image, layer_of().window, 64)
    for corner in (drawn[..., :4, :4] - wanted[..., :4, :4], drawn[..., :4, -4:] - wanted[..., :4, -4:]):
        assert float(corner.abs().max()) < 0.02
    nobody = Scene.of(image, torch.zeros_like(matte)).composed(rendered(layer_of()), images)[-1]
    torch.testing.assert_close(nobody, wanted, atol=1e-5, rtol=0)


def test_gradients_reach_the_heads_flow_what_follows_it_and_what_is_drawn() -> None:
    image, matte = smooth_photo()
    layer = layer_of((0.2, 0.0))
    layer = replace(layer, flow=layer.flow.requires_grad_(), follow=layer.follow.requires_grad_())
    images = [torch.rand(1, 3, size, size, requires_grad=True) for size in (16, 32, 64)]
    drawn = Scene.of(image, matte).composed(rendered(layer), images)
    torch.stack([part.square().sum() for part in drawn]).sum().backward()
    for grown in (layer.flow.grad, layer.follow.grad, *(picture.grad for picture in images)):
        assert grown is not None and bool(grown.isfinite().all()) and float(grown.abs().sum()) > 0
    finest = images[-1].grad
    assert finest is not None and float(finest[..., 24:40, 24:40].abs().min()) > 0 and not finest[..., :4, :4].any()


def test_a_batch_is_its_members(model: LiteMMFA) -> None:
    image, matte = smooth_photo()
    images = torch.cat([image, image.flip(-1)])
    turn = euler_to_matrix(torch.zeros(2), torch.tensor([0.0, 15.0]), torch.zeros(2))
    face = FaceInput(images, model.mean_mesh.expand(2, -1, -1), turn, torch.full((2, 1), UNIT), torch.zeros(2, 3))
    scene = Scene.of(images, torch.cat([matte, matte]))
    with torch.no_grad():
        source = model.prepare(face)
        together = model.render(source, source.motion[torch.tensor([1, 0])])
        drawn = scene.composed(together, together.images)[-1]
        for index in range(2):
            alone = model.render(source[index : index + 1], source.motion[1 - index])
            part = Scene(scene.person[index : index + 1], scene.backdrop[index : index + 1]).composed(alone, alone.images)[-1]
            torch.testing.assert_close(part[0], drawn[index], atol=1e-4, rtol=0)


def test_points_in_a_window_and_the_window_itself() -> None:
    window = torch.tensor([[0.2, -0.1, 0.5]])
    points = torch.tensor([[[0.2, -0.1, 0.3], [0.7, 0.4, 0.0], [-0.3, -0.6, -0.5]]])
    torch.testing.assert_close(in_window(points, window)[0], torch.tensor([[0.0, 0.0, 0.6], [1.0, 1.0, 0.0], [-1.0, -1.0, -1.0]]))
    torch.testing.assert_close(in_window(points[..., :2], window), in_window(points, window)[..., :2])
