"""A photo that is ready to be composed: what is done once for it, and a finished frame for every layer that a model renders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..media.crop import CropBox, paste
from ..media.image import Array, to_uint8
from ..portrait import Layer, Rendered
from .person import body_shift, fade, mean_pool, person_flow
from .plate import backdrop

_CELLS = 24  # places along a window between which the person's flow is interpolated
_MOST = 160  # and along a photo, at most
_BAND = 0.15  # how far inside its window the head's own flow takes over, in half windows
_STILL = 1 / 64  # pixels that nobody sees move
_SEEN = 1 / 255
_BEYOND = 96  # pixels of the mirrored margin
_ALIASED = 0.15  # halvings of the photo from which shrinking has to be smoothed


class Canvas(Protocol):
    """Turns what a model rendered of a photo into a frame of the photo's size."""

    def frame(self, rendered: Rendered, index: int) -> Array:
        """(H,W,3) uint8 of one frame of the batch."""


class Pasted:
    """For models that draw a whole crop: it is put back, with soft edges."""

    def __init__(self, image: Array, box: CropBox) -> None:
        self.image, self.box = image, box

    def frame(self, rendered: Rendered, index: int) -> Array:
        """See `Canvas`."""
        (patch,) = to_uint8(rendered.patch[index : index + 1])
        return paste(self.image, patch, self.box)


class PersonCanvas:
    """For models that say how the photo moves (`portrait.Layer`): the whole person moves, at the photo's own resolution.

    image (H,W,3) uint8. matte (H,W) float32 in [0,1]: how far each pixel is the person. box and size: the crop that the layers'
    grid stands for, and its side in pixels of that grid.

    With a photo I, its matte a and its backdrop b, the person alone is I - (1 - a) b; moved and laid over the backdrop it is a
    frame, and unmoved the photo, whatever matte and backdrop are.
    """

    def __init__(self, image: Array, matte: Array, box: CropBox, *, size: int) -> None:
        self.image = image
        photo = _planes(image)
        alpha = torch.from_numpy(np.ascontiguousarray(matte, dtype=np.float32))[None, None]
        self.plate = backdrop(photo, alpha)
        person = torch.cat([photo - (1 - alpha) * self.plate, alpha], 1)
        self._margin = min(_BEYOND, *(side - 1 for side in image.shape[:2]))
        self._people = [_padded(person, self._margin)]
        self._mirror = _padded(photo.flip(-1), self._margin)
        covered = np.nonzero(matte > _SEEN)
        self._reach = tuple((int(axis.min()), int(axis.max()) + 1) for axis in covered) if len(covered[0]) else ((0, 0), (0, 0))
        # From the crop's grid to pixels, whose centres are at halves: x = scale g + offset, here less that half.
        self._scale = box.side * (size - 1) / size / 2
        self._offset = torch.tensor([box.cx, box.cy], dtype=torch.float32) - 0.5

    def frame(self, rendered: Rendered, index: int) -> Array:
        """See `Canvas`."""
        assert rendered.layer is not None
        return self.compose(rendered.layer[index])

    @torch.no_grad()
    def compose(self, layer: Layer) -> Array:
        """(H,W,3) uint8 of a layer of one frame. Nothing but what changes is computed; the rest is the photo."""
        layer = self._pixels(layer)
        frame = self.image.copy()
        rows, columns = self._region(layer)
        if rows[0] >= rows[1] or columns[0] >= columns[1]:
            return frame
        coarse = _nodes(rows, columns, step=float(layer.window[0, 2]) * 2 / _CELLS)
        moved, share = self._flow(layer, coarse.flatten(0, 1)[None])
        grid = self._people[0].shape[-2:]
        flow = _grown(_on_grid(moved + self._margin, grid).view(1, *coarse.shape), rows, columns)
        inner = self._window(layer, rows, columns)
        if inner is not None:
            (top, bottom), (left, right), local, fine = inner
            here = _pixel_grid((rows[0] + top, rows[0] + bottom), (columns[0] + left, columns[0] + right))
            body = here + body_shift(layer.window, layer.source, layer.unit)
            spread = torch.tensor([columns[1] - columns[0], rows[1] - rows[0]], dtype=torch.float32) - 1
            at = (here - torch.tensor([columns[0], rows[0]], dtype=torch.float32)) * (2 / spread.clamp_min(1)) - 1
            near = _read(share.view(1, 1, *coarse.shape[:2]), at)[0, ..., None]
            part, own = flow[top:bottom, left:right], _on_grid(torch.lerp(body, fine, near) + self._margin, grid)
            part.lerp_(own, fade(local, _BAND)[..., None])
        person = self._sample_person(flow, layer)
        plate = self.plate[0, :, rows[0] : rows[1], columns[0] : columns[1]]
        picture = torch.addcmul(person[:3] + plate, person[3], plate, value=-1)
        if inner is not None:
            part = picture[:, top:bottom, left:right]
            part.copy_(self._drawn(layer, part, local, cover=person[3, top:bottom, left:right]))
        new = picture.mul_(255).add_(0.5).clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)
        frame[rows[0] : rows[1], columns[0] : columns[1]] = new.numpy()
        return frame

    # -- inside -------------------------------------------------------------------------------------------------------

    def _pixels(self, layer: Layer) -> Layer:
        """The layer with places in pixels (pixel i at i); flows stay in their windows' grids."""
        changed = {}
        for name in ("window", "source"):
            square = getattr(layer, name)
            changed[name] = torch.cat([square[:, :2] * self._scale + self._offset, square[:, 2:] * self._scale], 1)
        changed |= {"outline": layer.outline * self._scale + self._offset, "unit": layer.unit * self._scale}
        names = ("flow", "jacobian", "paint", "share", "tint", "mirror", "mirrored", "light")
        return Layer(**changed, **{name: getattr(layer, name) for name in names})

    def _flow(self, layer: Layer, places: Tensor) -> tuple[Tensor, Tensor]:
        return person_flow(
            places,
            flow=layer.flow,
            window=layer.window,
            source=layer.source,
            jacobian=layer.jacobian,
            outline=layer.outline,
            unit=layer.unit,
        )

    def _region(self, layer: Layer) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns in which anything can change: where the person is or comes to be, if it moves at all there."""
        height, width = self.image.shape[:2]
        nodes = _nodes((0, height), (0, width), step=float(layer.window[0, 2]) * 2 / _CELLS)
        moved, _ = self._flow(layer, nodes.flatten(0, 1)[None])
        moved = moved[0].view_as(nodes)
        far = (moved - nodes).abs().amax(2) > _STILL
        # Where it comes from, is there anything of the person?
        slack = 0.1 * float(layer.window[0, 2]) + 2
        (y0, y1), (x0, x1) = self._reach
        person = (moved[..., 0] > x0 - slack) & (moved[..., 0] < x1 + slack) & (moved[..., 1] > y0 - slack) & (moved[..., 1] < y1 + slack)
        own = (nodes[..., 0] > x0 - slack) & (nodes[..., 0] < x1 + slack) & (nodes[..., 1] > y0 - slack) & (nodes[..., 1] < y1 + slack)
        changes = far & (person | own)
        if float(layer.share.max()) > _SEEN or float(layer.tint.abs().max()) > _SEEN:
            half = float(layer.window[0, 2])
            changes |= (nodes - layer.window[0, :2]).abs().amax(2) < half + float(nodes[min(1, len(nodes) - 1), 0, 1] + 1)
        found = changes.nonzero()
        if not len(found):
            return (0, 0), (0, 0)
        low, high = (found.amin(0) - 1).clamp_min(0), found.amax(0) + 1
        ys, xs = nodes[:, 0, 1], nodes[0, :, 0]

        def span(axis: Tensor, first: Tensor, last: Tensor, end: int) -> tuple[int, int]:
            return math.floor(float(axis[int(first)])), min(end, math.ceil(float(axis[min(int(last), len(axis) - 1)])) + 1)

        return span(ys, low[0], high[0], height), span(xs, low[1], high[1], width)

    def _window(
        self, layer: Layer, rows: tuple[int, int], columns: tuple[int, int]
    ) -> tuple[tuple[int, int], tuple[int, int], Tensor, Tensor] | None:
        """Rows and columns of the window within a region, its places (h,w,2) in the window's grid, and where they come from."""
        x, y, half = layer.window[0].tolist()
        top, bottom = max(rows[0], math.ceil(y - half)), min(rows[1], math.floor(y + half) + 1)
        left, right = max(columns[0], math.ceil(x - half)), min(columns[1], math.floor(x + half) + 1)
        if top >= bottom or left >= right:
            return None
        local = (_pixel_grid((top, bottom), (left, right)) - layer.window[0, :2]) / half
        flow = _read(layer.flow.permute(0, 3, 1, 2), local).permute(1, 2, 0)
        fine = flow * layer.source[0, 2] + layer.source[0, :2]
        return (top - rows[0], bottom - rows[0]), (left - columns[0], right - columns[0]), local, fine

    def _sample_person(self, flow: Tensor, layer: Layer) -> Tensor:
        """The person (4,h,w), colours times matte and matte, at places (h,w,2) of its grid; smoothed first where it shrinks."""
        level = max(0.0, math.log2(float(layer.source[0, 2] / layer.window[0, 2])))
        if level < _ALIASED:
            return _read(self._people[0], flow, mode="bicubic")
        below, people, grid = math.floor(level), self._people, self._people[0].shape[-2:]
        while len(people) < below + 2:
            people.append(mean_pool(people[0], len(people)))
        pixels = (flow + 1) * (torch.tensor([grid[1], grid[0]], dtype=torch.float32) - 1) / 2 + 0.5
        fine, coarse = (
            _read(people[index], _on_grid(pixels / 2**index - 0.5, people[index].shape[-2:]), mode="bicubic")
            for index in (below, below + 1)
        )
        return torch.lerp(fine, coarse, level - below)

    def _drawn(self, layer: Layer, picture: Tensor, local: Tensor, *, cover: Tensor) -> Tensor:
        """A picture (3,h,w) with the layer's drawing, at places (h,w,2) of its window; cover (h,w): how far the person is there."""
        if layer.mirror is not None and layer.mirrored is not None and layer.light is not None:
            there = _read(layer.mirror.permute(0, 3, 1, 2), local).permute(1, 2, 0)
            width = self.image.shape[1]
            centre = torch.stack([width - 1 - layer.source[0, 0], layer.source[0, 1]])
            pixels = there * layer.source[0, 2] + (centre + self._margin)
            other = _read(self._mirror, _on_grid(pixels, self._mirror.shape[-2:]), mode="bicubic") * _read(layer.light, local)
            picture = torch.lerp(picture, other, _read(layer.mirrored, local) * cover)
        drawn = _read(torch.cat([layer.paint * layer.share, layer.share, layer.tint], 1), local, mode="bicubic") * cover
        share = drawn[3].clamp(0, 1)
        return (1 - share) * (picture + drawn[4:]) + drawn[:3]


def _planes(image: Array) -> Tensor:
    """(1,3,H,W) in [0,1] of (H,W,3) uint8."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255


def _pixel_grid(rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """(h,w,2) as (x, y)."""
    y, x = torch.arange(*rows, dtype=torch.float32), torch.arange(*columns, dtype=torch.float32)
    grid = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid[1], grid[0]], 2)


def _nodes(rows: tuple[int, int], columns: tuple[int, int], *, step: float) -> Tensor:
    """Places (n,m,2) over a region, corners on the centres of its corner pixels, about a step apart."""
    axes = []
    for start, end in (rows, columns):
        count = min(_MOST, max(2, math.ceil((end - 1 - start) / step) + 1))
        axes.append(torch.linspace(start, max(start, end - 1), count))
    grid = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([grid[1], grid[0]], 2)


def _padded(maps: Tensor, margin: int) -> Tensor:
    """Maps (1,C,H,W) with mirrored margins: beyond the edge of the photo hair goes on as hair."""
    return F.pad(maps, (margin,) * 4, mode="reflect")


def _grown(coarse: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Values (1,n,m,c) at the nodes of a region, at its pixels: (h,w,c)."""
    size = (rows[1] - rows[0], columns[1] - columns[0])
    return F.interpolate(coarse.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=True)[0].permute(1, 2, 0)


def _on_grid(pixels: Tensor, size: Sequence[int]) -> Tensor:
    """Places (...,2) in pixels of maps of a size (height, width), in their grid."""
    return pixels * (2 / (torch.tensor([size[1], size[0]], dtype=torch.float32) - 1).clamp_min(1)) - 1


def _read(maps: Tensor, places: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Maps (1,C,h,w) at places (H,W,2) of their grid: (C,H,W)."""
    return F.grid_sample(maps, places[None], mode=mode, padding_mode="border", align_corners=True)[0]
