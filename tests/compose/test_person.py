"""The flow of a whole person: the head's on the head, the body's below, smooth between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mmfa.compose.person import body_shift, fade, head_places, head_share, mean_pool, person_flow
from mmfa.geometry import image_grid

Make = Callable[..., Any]
UNIT = torch.tensor([[0.4]])
HEIGHT = 1.95 * 0.4


def outline(x: float = 0.0, y: float = 0.0) -> Tensor:
    """Of a face of that unit: its chin is 0.4 below its middle."""
    angle = torch.linspace(0, 2 * torch.pi, 25)[:-1]
    return torch.stack([x + 0.3 * angle.sin(), y - 0.4 * angle.cos()], 1)[None]


def shares(*places: tuple[float, float]) -> list[float]:
    return head_share(torch.tensor([places]), outline(), UNIT)[0].tolist()


def test_head_and_hair_move_as_the_head_and_the_body_does_not() -> None:
    assert shares((0.0, 0.0), (0.29, 0.0), (0.0, -0.4 - 0.5 * HEIGHT), (0.3 + 0.5 * HEIGHT, 0.0)) == [1, 1, 1, 1]
    assert shares((0.0, 0.4 + 0.9 * HEIGHT), (0.0, 5.0), (0.0, -0.4 - 1.8 * HEIGHT), (50.0, 0.0)) == [0, 0, 0, 0]


def test_below_the_chin_the_share_falls_smoothly() -> None:
    column = torch.stack([torch.zeros(400), torch.linspace(0, 1.5, 400)], 1)[None]
    share = head_share(column, outline(), UNIT)[0]
    assert bool((share.diff() <= 1e-6).all()) and float(share[0]) == 1 and float(share[-1]) == 0
    assert float(share.diff().abs().max()) < 0.012, "of 1: no step anywhere"


@pytest.mark.parametrize("way", [(0.05 * HEIGHT, 0.0), (-0.06 * HEIGHT, 0.07 * HEIGHT)], ids=str)
def test_a_body_stands_still_while_its_head_only_sways(way: tuple[float, float]) -> None:
    here, there = torch.tensor([[0.1, 0.2, 0.5]]), torch.tensor([[0.1 + way[0], 0.2 + way[1], 0.5]])
    assert body_shift(there, here, UNIT).tolist() == [[0.0, 0.0]]


def test_a_body_is_drawn_along_by_a_head_that_goes_away_and_never_far() -> None:
    here = torch.tensor([[0.0, 0.0, 0.5]])
    ways = torch.tensor([0.0, 0.1, 0.2, 0.5, 1.0, 3.0, 1e4]) * HEIGHT
    there = torch.stack([ways, torch.zeros(7), torch.full((7,), 0.5)], 1)
    shift = body_shift(there, here.expand(7, 3), UNIT.expand(7, 1))
    assert not shift[:, 1].any()
    moved = -shift[:, 0]  # from where it comes
    assert bool((moved.diff() >= 0).all()) and bool((moved <= 0.35 * ways + 1e-6).all())
    assert float(moved[3]) > 0.02 * HEIGHT and float(moved[-1]) == pytest.approx(0.15 * HEIGHT)


def test_places_outside_the_window_move_by_the_jacobian() -> None:
    """Of a flow that turns and shrinks, and is affine, the window is no limit."""
    turn = torch.tensor([[0.8, 0.3], [-0.3, 0.8]])
    flow = (image_grid(9, 9) @ turn.T + torch.tensor([0.1, -0.2]))[None]
    places = 4 * torch.rand(1, 50, 2) - 2
    torch.testing.assert_close(head_places(places, flow, turn[None]), places @ turn.T + torch.tensor([0.1, -0.2]))


@pytest.mark.parametrize("zoom", [1.0, 0.5, 2.0])
def test_a_head_goes_from_its_window_to_the_photos(make: Make, zoom: float) -> None:
    """Near the face, in the window and outside, places come from where the move says."""
    sitter = make()
    layer = sitter.layer((20.0, -10.0), zoom=zoom)
    centre, unit = layer.window[0, :2], float(layer.unit)
    places = centre + unit * torch.tensor([[[0.0, 0.0], [0.7, 0.5], [-1.2, -1.3], [0.0, -1.9], [1.9, 0.0]]])
    found, share = person_flow(places, layer)
    assert share.tolist() == [[1.0] * 5]
    torch.testing.assert_close(found, (places - centre) / zoom, atol=1e-5, rtol=0)


def test_at_rest_nothing_moves_anywhere(make: Make) -> None:
    places = 20 * torch.rand(1, 500, 2) - 10
    found, share = person_flow(places, make().layer())
    torch.testing.assert_close(found, places, atol=1e-5, rtol=0)
    assert float(share.min()) >= 0 and float(share.max()) <= 1


def test_what_follows_the_head_can_be_learned(make: Make) -> None:
    """The map is added to the share, on a square of three windows, and ends there; a gradient reaches it."""
    layer = make().layer((10.0, 0.0))
    place, unit = layer.window[0, :2], float(layer.unit)
    chest = (place + torch.tensor([0.0, 3.2 * unit]))[None, None]
    assert float(person_flow(chest, layer)[1]) == 0
    inner = torch.nn.functional.pad(torch.ones(1, 1, 15, 15), (1, 1, 1, 1))
    ones = replace(layer, follow=inner.requires_grad_())
    share = person_flow(chest, ones)[1]
    share.sum().backward()
    assert float(share.detach()) == 1 and ones.follow.grad is not None
    half = replace(layer, follow=torch.full((1, 1, 17, 17), 0.5))
    assert float(person_flow(chest, half)[1]) == pytest.approx(0.5)
    beyond = (place + torch.tensor([0.0, 4.2 * unit]))[None, None]
    assert float(person_flow(beyond, ones)[1].detach()) == 0
    less = replace(layer, follow=torch.full((1, 1, 17, 17), -2.0))
    assert float(person_flow(place[None, None], less)[1]) == 0, "never outside 0 to 1"


def test_a_fade_is_0_at_the_edge_and_1_inside() -> None:
    found = fade(torch.tensor([[0.0, 0.0], [0.84, 0.1], [1.0, 0.3], [0.2, -1.0], [7.0, 0.0]]), 0.15)
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (1, 1), (1, 5)], ids=str)
def test_halving_keeps_the_mean_of_even_maps_and_takes_odd_ones(size: tuple[int, int]) -> None:
    image = torch.rand(1, 2, *size)
    assert torch.equal(mean_pool(image, 0), image)
    once, thrice = mean_pool(image, 1), mean_pool(image, 3)
    assert once.shape[-2:] == tuple((side + 1) // 2 for side in size) and bool(thrice.isfinite().all())
    if size == (8, 8):
        torch.testing.assert_close(thrice, image.mean((2, 3), keepdim=True))
