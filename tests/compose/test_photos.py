"""Photos of unusual size and shape, through a session: at rest each is itself, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mmfa.animate import Animator
from mmfa.geometry import euler_to_matrix
from mmfa.media.image import Array, read_image

SHAPES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "40 pixels high": lambda photo: photo.crop((130, 10, 320, 210)).resize((38, 40), Image.Resampling.BOX),
    "odd": lambda photo: photo.crop((0, 0, 383, 257)),
    "very wide": lambda photo: Image.fromarray(np.pad(np.asarray(photo)[:260], ((0, 0), (700, 900), (0, 0)), "edge")),
    "very high": lambda photo: Image.fromarray(np.pad(np.asarray(photo)[:, 110:330], ((500, 600), (0, 0), (0, 0)), "edge")),
    "a face cut by the edge": lambda photo: photo.crop((190, 0, 512, 512)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_photo_of_any_shape_at_rest_is_itself_and_moves(animator: Animator, portrait, shape: str) -> None:
    image: Array = np.array(SHAPES[shape](Image.fromarray(read_image(portrait))))
    photo = animator.session.photo(image)
    still = next(animator.session.render(photo, photo.signal))
    assert np.array_equal(still, image)
    turned = replace(photo.signal, rotation=photo.signal.rotation @ euler_to_matrix(*torch.tensor([[4.0], [12.0], [0.0]])))
    moved = next(animator.session.render(photo, turned))
    changed = np.abs(moved.astype(int) - image).max(2) > 12
    assert moved.shape == image.shape and 0.002 < changed.mean() < 0.6
