"""Reading maps by a table of corners: the same pictures as `warp`'s."""

import pytest
import torch

from mmfa.cost import blank_face
from mmfa.geometry import image_grid, warp
from mmfa.models.lite import tiny
from mmfa.models.mmfa import MMFA
from mmfa.nets.generator import LiteGenerator
from mmfa.nets.sampling import Sampler
from mmfa.registry import build


def _places(height: int, width: int) -> torch.Tensor:
    """A grid of random places, a fifth of them outside the map, some exactly on its corners."""
    grid = 2.4 * torch.rand(2, height, width, 2, generator=torch.Generator().manual_seed(0)) - 1.2
    grid.flatten(0, -2)[:4] = torch.tensor([-1.0, 1.0, 0.0, 5.0])[:, None]
    return grid


@pytest.mark.parametrize("shape", [(7, 9), (1, 6), (6, 1)], ids=str)
def test_reads_what_warp_reads(shape: tuple[int, int]) -> None:
    features, grid = torch.rand(2, 5, *shape), _places(8, 8)
    with torch.no_grad():
        sampler = Sampler(grid, "table")
        torch.testing.assert_close(sampler.read(features), warp(features, grid), atol=1e-6, rtol=0)
        factor = torch.rand(2, 1, 8, 8)
        torch.testing.assert_close(sampler.read(features, factor), factor * warp(features, grid), atol=1e-6, rtol=0)
        other = torch.rand(2, 3, *(2 * side for side in shape))
        torch.testing.assert_close(sampler.read(other), warp(other, grid), atol=1e-6, rtol=0)


def test_one_photo_under_many_grids_is_read_like_many_photos() -> None:
    photo, grid = torch.rand(1, 3, 7, 9), _places(8, 8)
    with torch.no_grad():
        read = Sampler(grid, "table", shared=True).read(photo.expand(2, -1, -1, -1))
        torch.testing.assert_close(read, warp(photo.repeat(2, 1, 1, 1), grid), atol=1e-6, rtol=0)


def test_gradients_reach_the_maps_the_places_and_the_factor() -> None:
    tensors = torch.rand(1, 3, 7, 9), 0.5 * image_grid(8, 8)[None], torch.rand(1, 1, 8, 8)
    features, grid, factor = (tensor.requires_grad_() for tensor in tensors)
    Sampler(grid, "grid_sample").read(features, factor).square().sum().backward()
    assert all(tensor.grad is not None and float(tensor.grad.abs().sum()) > 0 for tensor in (features, grid, factor))


def test_a_rendering_does_not_depend_on_how_places_are_read() -> None:
    torch.manual_seed(0)
    model = build(tiny()).eval()
    assert isinstance(model, MMFA) and isinstance(model.generator, LiteGenerator)
    assert model.generator.sampling == "grid_sample", "what is trained is what has gradients"
    face = blank_face(64, mesh_points=478)
    face.image.uniform_()
    source = model.prepare(face)
    moved = source.motion[torch.tensor([0])]
    moved.translation.add_(0.1)
    wanted = model.render(source, moved)
    model.generator.sampling = "table"
    with torch.no_grad():
        found = model.render(source, moved)
    for a, b in zip(found.images, wanted.images, strict=True):
        torch.testing.assert_close(a, b.detach(), atol=1e-5, rtol=0)
