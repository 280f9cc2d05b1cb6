"""The background plate: no head in it, nothing else changed."""

from dataclasses import replace

import torch

from mmfa.nets.cost import blank_face
from mmfa.nets.mmfa import MMFA
from mmfa.nets.plate import background_plate
from mmfa.nets.sizes import build_model, tiny


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
    model = build_model(tiny()).eval()
    assert isinstance(model, MMFA)
    calls: list[int] = []
    model.appearance.register_forward_hook(lambda *_: calls.append(1))
    source = model.source(blank_face(64, mesh_points=478))
    assert source.features.plate is not None and source.features.plate.shape == (1, 3, 64, 64)
    assert [a.shape for a in source.features.plate_skips] == [a.shape for a in source.features.skips] and len(calls) == 2
    model.render(source, source.motion)
    assert len(calls) == 2, "rendering computes nothing of the source again"
    assert model.dense_motion.training is False


def test_in_training_the_mask_learns_from_the_photo_and_the_picture_is_the_same() -> None:
    torch.manual_seed(0)
    model = build_model(tiny())
    face = blank_face(64, mesh_points=478)
    generator = model.generator
    with torch.no_grad():
        source = model.eval().source(face)
        flow = model.dense_motion(
            source.features.volume,
            source=source.keypoints,
            driving=source.keypoints + 0.3,
            jacobian=torch.eye(3)[None],
            scale=source.motion.scale,
        )
    assert flow.background is not None
    cover = flow.background.clone().requires_grad_()
    features = replace(source.features, image=torch.rand(1, 3, 64, 64))
    shown = generator(features, replace(flow, background=cover))[-1]
    generator.training = True  # the flag alone: batch norms below stay as they are
    trained = generator(features, replace(flow, background=cover))[-1]
    torch.testing.assert_close(trained, shown)
    trained.sum().backward()
    assert cover.grad is not None and float(cover.grad.abs().sum()) > 0
