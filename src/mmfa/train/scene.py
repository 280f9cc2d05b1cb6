"""What a model that draws in a window (`portrait.Layer`) is trained on: its drawing over the moved person over the backdrop,
beside the driving frame's own window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compose.person import person_flow
from ..compose.plate import fill
from ..geometry import image_grid, polygon_distance, warp
from ..nets.blocks import resize, smooth_step
from ..portrait import Layer, Rendered

_FACE = (-0.3, -0.05)  # from where around the face, in its units, the model's own photo counts, with all that it draws


@dataclass(frozen=True)
class Scene:
    """Photos apart: person (B,4,S,S), colours without the backdrop's share, and matte; plate (B,3,S,S)."""

    person: Tensor
    plate: Tensor

    @staticmethod
    def of(image: Tensor, matte: Tensor) -> Scene:
        """Of photos (B,3,S,S) with mattes (B,1,S,S)."""
        hole = F.max_pool2d((matte > 0.05).to(image), 5, 1, 2)
        plate = torch.where(hole > 0, fill(image, 1 - hole), image)
        return Scene(torch.cat([image - (1 - matte) * plate, matte], 1), plate)

    def composed(self, rendered: Rendered, images: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The model's images (B,3,s,s) in their windows, coarsest first, with the person and the backdrop around the face; and
        the moved matte (B,1,s,s) of the finest.
        """
        layer = rendered.layer
        assert layer is not None
        finest = images[-1].shape[-1]
        grid = image_grid(finest, finest, device=layer.window.device)
        flow, face = _moved(layer, finest // 4)
        person = warp(self.person, resize(flow.permute(0, 3, 1, 2), (finest, finest)).permute(0, 2, 3, 1))
        places = layer.window[:, None, None, :2] + layer.window[:, 2, None, None, None] * grid
        around = person[:, :3] + (1 - person[:, 3:]) * warp(self.plate, places)
        own = resize(face, (finest, finest)) * person[:, 3:]
        done = []
        for image in images:
            size = image.shape[-1]
            near, share = (
                part if size == finest else F.interpolate(part, size=(size, size), mode="area") for part in (around, own)
            )
            done.append(torch.lerp(near, image, share))
        return done, person[:, 3:]


def _moved(layer: Layer, cells: int) -> tuple[Tensor, Tensor]:
    """Where places (B,n,n,2) of the window come from in the crop's grid, and how far they are of the face (B,1,n,n)."""
    grid = image_grid(cells, cells, device=layer.window.device)
    places = (layer.window[:, None, :2] + layer.window[:, 2, None, None] * grid.flatten(0, 1)).float()
    moved, _ = person_flow(
        places,
        flow=layer.flow,
        window=layer.window,
        source=layer.source,
        jacobian=layer.jacobian,
        outline=layer.outline,
        unit=layer.unit,
    )
    face = smooth_step(polygon_distance(places, layer.outline) / layer.unit, *_FACE)
    return moved.unflatten(1, (cells, cells)), face.unflatten(1, (cells, cells))[:, None].detach()


def in_window(points: Tensor, window: Tensor) -> Tensor:
    """Points (B,N,2 or 3) of the crop's grid in that of windows (B,3)."""
    shift = F.pad(window[:, :2], (0, points.shape[-1] - 2))
    return (points - shift[:, None]) / window[:, None, 2:]
