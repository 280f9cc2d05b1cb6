"""What a model that draws in a window (`portrait.Layer`) is trained on: its drawing over the moved person over the backdrop,
beside the driving frame's own window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compose.backdrop import fill
from ..compose.person import person_flow
from ..geometry import image_grid, polygon_distance, warp
from ..nets.blocks import resize, smooth_step
from ..portrait import Layer, Rendered

_FACE = (-0.3, -0.05)  # from where around the face, in its units, the model's own photo counts, with all that it draws


@dataclass(frozen=True)
class Scene:
    """Photos apart: person (B,4,S,S), colours without the backdrop's share, and matte; backdrop (B,3,S,S)."""

    person: Tensor
    backdrop: Tensor

    @staticmethod
    def of(image: Tensor, matte: Tensor) -> Scene:
        """Of photos (B,3,S,S) with mattes (B,1,S,S)."""
        hole = F.max_pool2d((matte > 0.05).to(image), 5, 1, 2)
        behind = torch.where(hole > 0, fill(image, 1 - hole), image)
        return Scene(torch.cat([image - (1 - matte) * behind, matte], 1), behind)

    def composed(self, rendered: Rendered, images: Sequence[Tensor]) -> list[Tensor]:
        """The model's images (B,3,s,s) in their windows, coarsest first, with the person and the backdrop around the face."""
        layer = _layer(rendered)
        finest = images[-1].shape[-1]
        grid = image_grid(finest // 4, finest // 4, device=layer.window.device).flatten(0, 1)
        places = (layer.window[:, None, :2] + layer.window[:, 2, None, None] * grid).float()
        around, cover, face = self._around(places, layer, finest)
        own = face * cover
        done = []
        for image in images:
            size = image.shape[-1]
            near, share = (
                part if size == finest else F.interpolate(part, size=(size, size), mode="area") for part in (around, own)
            )
            done.append(torch.lerp(near, image, share))
        return done

    def around(self, rendered: Rendered, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """The crop (B,3,size,size) as the moved person over the backdrop, its matte and where the face is (B,1,size,size)."""
        layer = _layer(rendered)
        grid = image_grid(size // 4, size // 4, device=layer.window.device).flatten(0, 1)
        return self._around(grid.expand(len(layer), -1, -1), layer, size)

    def _around(self, places: Tensor, layer: Layer, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of a square whose quarter of the pixels are at places (B,n*n,2) of the crop's grid."""
        cells = size // 4
        moved, _ = person_flow(places, layer)
        face = (
            smooth_step(polygon_distance(places, layer.outline) / layer.unit, *_FACE)
            .unflatten(1, (cells, cells))[:, None]
            .detach()
        )
        maps = torch.cat([moved.transpose(1, 2), places.transpose(1, 2)], 1).unflatten(2, (cells, cells))
        flow, here = resize(maps, (size, size)).permute(0, 2, 3, 1).split(2, 3)
        person = warp(self.person, flow)
        return person[:, :3] + (1 - person[:, 3:]) * warp(self.backdrop, here), person[:, 3:], resize(face, (size, size))


def _layer(rendered: Rendered) -> Layer:
    assert rendered.layer is not None
    return rendered.layer


def in_window(points: Tensor, window: Tensor) -> Tensor:
    """Points (B,N,2 or 3) of the crop's grid in that of windows (B,3)."""
    shift = F.pad(window[:, :2], (0, points.shape[-1] - 2))
    return (points - shift[:, None]) / window[:, None, 2:]
