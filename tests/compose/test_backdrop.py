"""The backdrop: nobody in it, nothing else changed, and no seam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmfa.compose.backdrop import backdrop, fill

Make = Callable[..., Any]


def photo_and_matte(sitter: Any) -> tuple[Tensor, Tensor]:
    image = torch.from_numpy(sitter.image.copy()).permute(2, 0, 1)[None].float() / 255
    return image, torch.from_numpy(sitter.matte)[None, None]


def test_the_person_is_gone_and_the_rest_is_the_photo(make: Make) -> None:
    image, matte = photo_and_matte(make(300, 260))
    behind = backdrop(image, matte)
    assert float((behind[:, 0] - behind[:, 1]).abs().max()) < 0.02, "no magenta, also where the matte is soft"
    far = torch.nn.functional.max_pool2d(matte, 9, 1, 4) == 0
    assert torch.equal(behind[:, :, far[0, 0]], image[:, :, far[0, 0]])
    near = torch.nn.functional.max_pool2d(matte, 3, 1, 1) > 0
    assert not torch.equal(behind[:, :, near[0, 0]], image[:, :, near[0, 0]])


def test_there_is_no_seam(make: Make) -> None:
    """Along the hole's edge the fill is as bright, and has as much grain, as the wall."""
    image, matte = photo_and_matte(make(300, 260))
    behind = backdrop(image, matte)[0, 1]
    hole = matte[0, 0] > 0
    rim = (torch.nn.functional.max_pool2d(matte, 21, 1, 10)[0, 0] > 0) & ~hole
    inner = torch.nn.functional.max_pool2d(-matte, 21, 1, 10)[0, 0] < 0
    inner = hole & ~inner
    assert abs(float(behind[rim].mean() - behind[inner].mean())) < 2 / 255
    assert float(behind[hole].std()) == pytest.approx(float(behind[rim].std()), rel=0.4)
    assert float(behind[hole].std()) > 2 / 255


def test_a_wall_without_grain_is_filled_without(make: Make) -> None:
    image, matte = photo_and_matte(make())
    ramp = torch.linspace(0.2, 0.8, image.shape[-1]).expand_as(image)
    behind = backdrop(torch.lerp(ramp, torch.ones_like(ramp), matte), matte)
    assert float((behind - ramp).abs().max()) < 0.12 and float(behind.max()) < 0.85, "as the wall, and no white"
    rows = behind[0, 0, 150]
    assert float(rows[60:90].mean()) < float(rows[110:140].mean()), "darker to the left, as the wall"


def test_without_a_person_it_is_the_photo_and_without_a_wall_the_mean_colour(make: Make) -> None:
    image, matte = photo_and_matte(make(97, 61))
    assert torch.equal(backdrop(image, torch.zeros_like(matte)), image)
    alone = backdrop(image, torch.ones_like(matte))
    torch.testing.assert_close(alone, image.mean((2, 3), keepdim=True).expand_as(image), atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 40), (33, 34), (257, 383)], ids=str)
def test_photos_of_any_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    image, matte = torch.rand(1, 3, *size), torch.zeros(1, 1, *size)
    matte[..., size[0] // 4 : size[0] // 2 + 1, size[1] // 4 : size[1] // 2 + 1] = 1
    behind = backdrop(image, matte)
    assert behind.shape == image.shape and bool(behind.isfinite().all())
    assert float(behind.min()) >= 0 and float(behind.max()) <= 1


def test_a_batch_is_its_members(make: Make) -> None:
    one, other = (photo_and_matte(make(150, 130, centre=centre)) for centre in ((60, 60), (75, 50)))
    image, known = torch.cat([one[0], other[0]]), 1 - torch.cat([one[1], other[1]])
    for index in range(2):
        torch.testing.assert_close(fill(image, known)[index], fill(image[index : index + 1], known[index : index + 1])[0])


def test_a_fill_keeps_what_is_known_and_takes_the_nearest_of_it() -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[..., 32:] = 1
    known = torch.ones(1, 1, 64, 64)
    known[..., 8:24, 4:20] = 0
    known[..., 8:24, 44:60] = 0
    filled = fill(torch.where(known > 0, image, torch.full_like(image, 0.5)), known)
    torch.testing.assert_close(filled[known.expand_as(filled) > 0], image[known.expand_as(image) > 0])
    assert float(filled[..., 8:24, 4:20].max()) < 0.2 and float(filled[..., 8:24, 44:60].min()) > 0.8


def test_the_same_photo_has_the_same_backdrop(make: Make) -> None:
    image, matte = photo_and_matte(make())
    state = torch.random.get_rng_state()
    assert torch.equal(backdrop(image, matte), backdrop(image, matte))
    assert torch.equal(torch.random.get_rng_state(), state), "and nobody else's random numbers are drawn"
    assert np.isfinite(float(image.sum()))
