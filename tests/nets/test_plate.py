"""The background plate: no head in it, nothing else changed."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from mmfa.cost import blank_face
from mmfa.geometry import image_grid, resize_grid
from mmfa.models.lite import tiny
from mmfa.models.mmfa import MMFA
from mmfa.nets.appearance import LayeredFeatures
from mmfa.nets.generator import judge_layers
from mmfa.nets.plate import background_plate
from mmfa.registry import build
from mmfa.train.losses import layer_loss


def scene(size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """A grey wall, darker to the right, with a white disc on it; the mask (1 on the wall) at half the size."""
    axis = torch.linspace(-1, 1, size)
    wall = (0.6 - 0.1 * axis).expand(size, size)
    disc = ((axis[:, None] ** 2 + axis**2) < 0.25).float()
    image = (wall * (1 - disc) + disc).expand(1, 3, size, size)
    return image, 1 - torch.nn.functional.avg_pool2d(disc[None, None], 2)


def test_the_head_is_filled_from_around_it_and_the_rest_stays() -> None:
    image, background = scene()
    plate = background_plate(image, background)
    assert torch.equal(plate[..., :10, :], image[..., :10, :]) and torch.equal(plate[..., :10], image[..., :10])
    assert float(plate.max()) < 0.72 and float(plate.min()) > 0.48, "wall everywhere, no white is left"
    assert float(plate[..., 28:36, 20:26].mean()) > float(plate[..., 28:36, 38:44].mean()), "darker to the right, as the wall"


def test_without_a_head_the_plate_is_the_picture_and_without_a_wall_it_is_finite() -> None:
    image, background = scene()
    torch.testing.assert_close(background_plate(image, torch.ones_like(background)), image)
    assert bool(background_plate(image, torch.zeros_like(background)).isfinite().all())


def test_every_source_has_a_plate_and_its_features_once() -> None:
    torch.manual_seed(0)
    model = build(tiny()).eval()
    assert isinstance(model, MMFA)
    calls: list[int] = []
    model.appearance.register_forward_hook(lambda *_: calls.append(1))
    source = model.prepare(blank_face(64, mesh_points=478))
    assert isinstance(source.features, LayeredFeatures) and source.features.plate.shape == (1, 3, 64, 64)
    assert [a.shape for a in source.features.plate_skips] == [a.shape for a in source.features.skips] and len(calls) == 2
    model.render(source, source.motion)
    assert len(calls) == 2, "rendering computes nothing of the source again"
    assert model.dense_motion.training is False


def test_the_mask_learns_from_the_photo_alone_what_stands_still_behind_a_head_that_moves() -> None:
    torch.manual_seed(0)
    model = build(tiny()).eval()
    assert isinstance(model, MMFA)
    with torch.no_grad():
        source = model.prepare(blank_face(64, mesh_points=478))
        flow = model.dense_motion(
            source.features.volume,
            source=source.keypoints,
            driving=source.keypoints,
            jacobian=torch.eye(3)[None],
            scale=source.motion.scale,
        )
    assert flow.background is not None and flow.image is not None
    cover = torch.full_like(flow.background, 0.5).requires_grad_()
    still = image_grid(32, 32)[None]
    flow = replace(flow, background=cover, image=still + 0.2, plate=still)
    photo = F.interpolate(torch.rand(1, 3, 16, 16), size=(64, 64), mode="bilinear")
    assert isinstance(source.features, LayeredFeatures)
    features = replace(source.features, image=photo, plate=torch.zeros(1, 3, 64, 64))
    reached = torch.autograd.grad(model.generator(features, flow)[-1].sum(), cover, allow_unused=True)
    assert [gradient is None for gradient in reached] == [True], "what is painted hides what the mask does"
    target = photo.clone()
    moved = F.grid_sample(photo, resize_grid(still + 0.2, 64, 64), padding_mode="border", align_corners=True)
    target[..., :32] = moved[..., :32]  # in the left half everything moved with the head
    layer_loss(judge_layers(features, flow), target, cover).backward()
    assert cover.grad is not None
    left, right = cover.grad[0, 0, :, 2:14], cover.grad[0, 0, :, 18:-2]
    assert float((right < 0).float().mean()) > 0.95, "background, where the photo at rest is right"
    assert float((left > 0).float().mean()) > 0.95, "the head, where the photo moved with it is"


def test_where_both_layers_explain_a_place_alike_it_is_background() -> None:
    cover = torch.full((1, 1, 8, 8), 0.5, requires_grad=True)
    layer_loss(torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 16, 16), 0.5), cover).backward()
    assert cover.grad is not None and bool((cover.grad < 0).all())
