"""A sitter of one colour before a noisy grey wall, and layers that move such a sitter as a model would."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmfa.compose import PersonCanvas
from mmfa.geometry import image_grid
from mmfa.media.crop import CropBox
from mmfa.media.image import Array
from mmfa.portrait import Layer

SIZE = 256  # of the crop's grid, in pixels
MAGENTA = (220, 10, 200)


@dataclass(frozen=True)
class Sitter:
    """A photo, its matte, and a crop around a head in it; `face` is half a canonical face's height in pixels."""

    image: Array
    matte: NDArray[np.float32]
    box: CropBox
    face: float

    @property
    def scale(self) -> float:
        """Pixels to a unit of the crop's grid."""
        return self.box.side * (SIZE - 1) / SIZE / 2

    def canvas(self) -> PersonCanvas:
        return PersonCanvas(self.image, self.matte, self.box, size=SIZE)

    def layer(self, shift: tuple[float, float] = (0.0, 0.0), *, zoom: float = 1.0, **changed: Any) -> Layer:
        """The head moved by so many pixels and grown by `zoom` about its middle; nothing is drawn, unless `changed` says so."""
        unit = self.face / self.scale
        place = [shift[0] / self.scale, shift[1] / self.scale]
        angle = torch.linspace(0, 2 * math.pi, 13)[:-1]
        outline = torch.stack([0.75 * angle.sin(), -angle.cos()], 1) * unit * zoom + torch.tensor(place)
        values: dict[str, Any] = {
            "window": torch.tensor([[*place, 1.3 * unit * zoom]]),
            "source": torch.tensor([[0.0, 0.0, 1.3 * unit]]),
            "flow": image_grid(16, 16)[None].clone(),
            "jacobian": torch.eye(2)[None] / zoom,
            "outline": outline[None],
            "unit": torch.tensor([[unit * zoom]]),
            "follow": torch.zeros(1, 1, 17, 17),
            "paint": torch.zeros(1, 3, 48, 48),
            "share": torch.zeros(1, 1, 48, 48),
            "tint": torch.zeros(1, 3, 48, 48),
        }
        return Layer(**(values | changed))


def make_sitter(
    height: int = 220,
    width: int = 200,
    *,
    centre: tuple[float, float] | None = None,
    face: float | None = None,
    colour: Array | tuple[int, int, int] = MAGENTA,
) -> Sitter:
    """A head over shoulders in one colour, or in the pixels of a picture, with soft edges before a wall with grain."""
    x, y = centre or (width / 2, 0.4 * height)
    face = face or 0.16 * min(height, width)
    rows, columns = np.mgrid[:height, :width] + 0.5
    head = 1.45 * face - np.hypot((columns - x) / 0.85, rows - y)
    body = np.minimum(rows - y - 1.1 * face, 2.2 * face - np.abs(columns - x))
    neck = np.minimum(np.minimum(rows - y, 0.5 * face - np.abs(columns - x)), y + 2 * face - rows)
    matte = np.clip(np.maximum(np.maximum(head, body), neck) + 0.5, 0, 1).astype(np.float32)
    wall = 150 + 4 * np.random.default_rng(0).standard_normal((height, width, 1))
    picture = wall * (1 - matte[..., None]) + np.asarray(colour) * matte[..., None]
    image = np.clip(picture, 0, 255).round().astype(np.uint8)
    return Sitter(image, matte, CropBox(x, y, 4 * face), face)


@pytest.fixture
def sitter() -> Sitter:
    return make_sitter()


@pytest.fixture
def make() -> Callable[..., Sitter]:
    """`make_sitter`, for tests that make their own."""
    return make_sitter


@pytest.fixture
def all_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is composed, also what is known to stay as it is."""

    def all_of_it(self: PersonCanvas, layer: Layer, nodes: Tensor, moved: Tensor, step: int) -> Tensor:
        return torch.ones(nodes.shape[:2], dtype=torch.bool)

    monkeypatch.setattr(PersonCanvas, "_changes", all_of_it)
