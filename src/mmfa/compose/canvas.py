"""A photo that is ready to be composed: what is done once for it, and a finished frame for every layer that a model renders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..media.crop import CropBox, paste
from ..media.image import Array, to_uint8
from ..portrait import Layer, Rendered
from .backdrop import backdrop
from .person import body_shift, fade, mean_pool, person_flow

_CELLS = 24  # places along a window between which the person's flow is interpolated
_MOST = 160  # and along a photo, at most
_STRIP = 48  # rows that are composed together: what a processor has near
_BAND = 0.15  # how far inside its window the head's own flow takes over, in half windows
_STILL = 1 / 64  # pixels that nobody sees move
_RIGID = 1 / 256  # and that no sampling shows
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

    def __init__(self, image: Array, matte: NDArray[np.float32], box: CropBox, *, size: int) -> None:
        self.image = image
        photo = _planes(image)
        alpha = torch.from_numpy(np.ascontiguousarray(matte, dtype=np.float32))[None, None]
        self.backdrop = 255 * backdrop(photo, alpha)
        photo = 255 * photo
        person = torch.cat([photo - (1 - alpha) * self.backdrop, alpha], 1)
        self._margin = min(_BEYOND, *(side - 1 for side in image.shape[:2]))
        self._people = {0: _continued(person, self._margin)}  # halved so many times, as they are asked for
        self._mirror = _padded(photo.flip(-1), self._margin)
        self._nears: dict[int, Tensor] = {}
        self._covered = (self._people[0][:, 3:] > _SEEN).float()
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
        height, width = self.image.shape[:2]
        step = self._step(layer)
        nodes = _nodes(height, width, step)
        moved, share = person_flow(nodes.flatten(0, 1)[None], layer)
        changes = self._changes(layer, nodes, moved[0].view_as(nodes), step)
        shift = body_shift(layer.window, layer.source, layer.unit)
        alone = (moved[0].view_as(nodes) - nodes - shift).abs().amax(2) < _RIGID  # the body, that is
        told = torch.cat([_on_grid(moved[0] + self._margin, self._people[0].shape[-2:]), share[0, :, None]], 1)
        told = told.T.unflatten(1, nodes.shape[:2])  # (3,n,m): places in the padded person, and the head's share
        strip = max(1, _STRIP // step)
        for first in range(0, nodes.shape[0] - 1, strip):
            last = min(first + strip, nodes.shape[0] - 1)
            found = changes[first : last + 1].any(0).nonzero()
            if not len(found):
                continue
            left, right = int(found[0]), int(found[-1])
            rows, columns = (first * step, min(last * step, height)), (left * step, min(right * step, width))
            part = told[:, first : last + 1, left : right + 1]
            rigid = bool(alone[first : last + 1, left : right + 1].all())
            new = self._strip(layer, part, rows, columns, step=step, shift=shift, rigid=rigid)
            frame[rows[0] : rows[1], columns[0] : columns[1]] = new.numpy()
        return frame

    # -- inside -------------------------------------------------------------------------------------------------------

    def _pixels(self, layer: Layer) -> Layer:
        """The layer with places in pixels (pixel i at i); flows stay in their windows' grids."""
        squares = {
            name: torch.cat([square[:, :2] * self._scale + self._offset, square[:, 2:] * self._scale], 1)
            for name, square in (("window", layer.window), ("source", layer.source))
        }
        return replace(layer, **squares, outline=layer.outline * self._scale + self._offset, unit=layer.unit * self._scale)

    def _step(self, layer: Layer) -> int:
        """Pixels between the places at which the person's flow is worked out."""
        longer: int = max(self.image.shape[:2])
        return max(2, round(float(layer.window[0, 2]) * 2 / _CELLS), math.ceil(longer / _MOST))

    def _changes(self, layer: Layer, nodes: Tensor, moved: Tensor, step: int) -> Tensor:
        """Whether anything may change around nodes (n,m,2) that come from `moved`: (n,m).

        Where the person is, or comes to be, and moves; and in the window, if anything is drawn.
        """
        near, cell = self._near(step)
        there, here = (
            _read(near, _on_grid((places + self._margin + 0.5) / cell - 0.5, near.shape[-2:]))[0] > 0 for places in (moved, nodes)
        )
        changes = (there | here) & ((moved - nodes).abs().amax(2) > _STILL)
        if float(layer.share.max()) > _SEEN or float(layer.tint.abs().max()) > _SEEN or layer.mirror is not None:
            changes |= (nodes - layer.window[0, :2]).abs().amax(2) < float(layer.window[0, 2])
        around = F.max_pool2d(changes.float()[None, None], 3, 1, 1)[0, 0]
        return around > 0

    def _near(self, step: int) -> tuple[Tensor, int]:
        """Whether the person is within a step of a place, (1,1,h,w), in cells of so many pixels of the padded photo."""
        cell = max(1, step // 2)
        if step not in self._nears:
            self._nears[step] = F.max_pool2d(F.max_pool2d(self._covered, cell, ceil_mode=True), 7, 1, 3)
        return self._nears[step], cell

    def _strip(
        self,
        layer: Layer,
        told: Tensor,
        rows: tuple[int, int],
        columns: tuple[int, int],
        *,
        step: int,
        shift: Tensor,
        rigid: bool,
    ) -> Tensor:
        """Rows and columns of a frame, (h,w,3) uint8.

        told (3,n,m): at nodes, where the person comes from, and the head's share. shift (1,2): where the body comes from;
        rigid: whether all of the person in these rows does.
        """
        behind = self.backdrop[0, :, rows[0] : rows[1], columns[0] : columns[1]]
        if rigid and float(told[2].max()) < _STILL and float(shift.abs().max()) < self._margin - 3:
            person = self._shifted(shift[0], rows, columns)
            return _bytes(torch.addcmul(person[:3], 1 - person[3], behind))
        size = [(count - 1) * step + 1 for count in told.shape[1:]]
        grown = F.interpolate(told[None], size=size, mode="bilinear", align_corners=True)[0]
        grown = grown[:, : rows[1] - rows[0], : columns[1] - columns[0]]
        flow = grown[:2].permute(1, 2, 0)
        x, y, half = layer.window[0].tolist()
        top, bottom = max(rows[0], math.ceil(y - half)), min(rows[1], math.floor(y + half) + 1)
        left, right = max(columns[0], math.ceil(x - half)), min(columns[1], math.floor(x + half) + 1)
        inner = (slice(top - rows[0], bottom - rows[0]), slice(left - columns[0], right - columns[0]))
        windowed = top < bottom and left < right
        if windowed:
            here = _pixel_grid((top, bottom), (left, right))
            local = (here - layer.window[0, :2]) / half
            head = _read(layer.flow.permute(0, 3, 1, 2), local).permute(1, 2, 0) * layer.source[0, 2] + layer.source[0, :2]
            body = here + shift
            own = torch.lerp(body, head, grown[2][inner][..., None])
            own = _on_grid(own + self._margin, self._people[0].shape[-2:])
            flow[inner] = torch.lerp(flow[inner], own, fade(local, _BAND)[..., None])
        person = self._sample_person(flow, layer, grown[2])
        picture = torch.addcmul(person[:3], 1 - person[3], behind)
        if windowed:
            within = (slice(None), *inner)
            picture[within] = self._drawn(layer, picture[within], local, cover=person[3][inner])
        return _bytes(picture)

    def _shifted(self, shift: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
        """The person (4,h,w) from `shift` (2,) pixels away everywhere: as `_sample_person`, but cheaper."""
        whole = shift.floor()
        x, y = (int(value) + self._margin for value in whole.tolist())
        part = self._people[0][:, :, rows[0] + y - 1 : rows[1] + y + 2, columns[0] + x - 1 : columns[1] + x + 2]
        across, down = (_taps(value).tolist() for value in (shift - whole).tolist())
        height, width = rows[1] - rows[0], columns[1] - columns[0]
        lines = part[0, :, :, :width] * across[0]
        for index in (1, 2, 3):
            lines.add_(part[0, :, :, index : index + width], alpha=across[index])
        person: Tensor = lines[:, :height] * down[0]
        for index in (1, 2, 3):
            person.add_(lines[:, index : index + height], alpha=down[index])
        return person

    def _sample_person(self, flow: Tensor, layer: Layer, share: Tensor) -> Tensor:
        """The person (4,h,w), colours times matte and matte, at places (h,w,2) of its grid.

        Where the head shrinks it is smoothed first; share (h,w): how far that is the head.
        """
        people, grid = self._people, self._people[0].shape[-2:]
        person = _read(people[0], flow, mode="bicubic")
        level = max(0.0, math.log2(float(layer.source[0, 2] / layer.window[0, 2])))
        if level < _ALIASED or not bool(share.any()):
            return person
        below = math.floor(level)
        pixels = (flow + 1) * (torch.tensor([grid[1], grid[0]], dtype=torch.float32) - 1) / 2 + 0.5

        def halved(times: int) -> Tensor:
            if times not in people:  # two threads may make the same
                people[times] = mean_pool(people[0], times)
            return _read(people[times], _on_grid(pixels / 2**times - 0.5, people[times].shape[-2:]), mode="bicubic")

        smooth = torch.lerp(halved(below) if below else person, halved(below + 1), level - below)
        return torch.lerp(person, smooth, share)

    def _drawn(self, layer: Layer, picture: Tensor, local: Tensor, *, cover: Tensor) -> Tensor:
        """A picture (3,h,w) with the layer's drawing, at places (h,w,2) of its window.

        cover (h,w): how far the person is there.
        """
        if layer.mirror is not None and layer.mirrored is not None and layer.light is not None:
            there = _read(layer.mirror.permute(0, 3, 1, 2), local).permute(1, 2, 0)
            width = self.image.shape[1]
            centre = torch.stack([width - 1 - layer.source[0, 0], layer.source[0, 1]])
            pixels = there * layer.source[0, 2] + (centre + self._margin)
            other = _read(self._mirror, _on_grid(pixels, self._mirror.shape[-2:]), mode="bicubic") * _read(layer.light, local)
            picture = torch.lerp(picture, other, _read(layer.mirrored, local) * cover)
        drawn = (
            _read(torch.cat([255 * layer.paint * layer.share, layer.share, 255 * layer.tint], 1), local, mode="bicubic") * cover
        )
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


def _nodes(height: int, width: int, step: int) -> Tensor:
    """Places (n,m,2) a step apart over a photo, from the centre of its first pixel to beyond its last."""
    axes = [torch.arange(math.ceil(side / step) + 1, dtype=torch.float32) * step for side in (height, width)]
    grid = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([grid[1], grid[0]], 2)


def _padded(maps: Tensor, margin: int) -> Tensor:
    """Maps (1,C,H,W) with mirrored margins."""
    return F.pad(maps, (margin,) * 4, mode="reflect")


def _continued(person: Tensor, margin: int) -> Tensor:
    """A person (1,4,H,W) with margins in which what the photo's edge cuts goes on, hair as hair.

    They are mirrored, but for what would be a second person: outwards the matte never grows again.
    """
    padded = _padded(person, margin)
    matte = padded[:, 3:]
    kept = matte.clone()
    for axis in (-2, -1):
        low = kept.narrow(axis, 0, margin + 1)
        low.copy_(low.flip(axis).cummin(axis).values.flip(axis))
        high = kept.narrow(axis, kept.shape[axis] - margin - 1, margin + 1)
        high.copy_(high.cummin(axis).values)
    padded = padded * (kept / matte.clamp_min(1e-6))
    height, width = person.shape[-2:]
    padded[..., margin : margin + height, margin : margin + width] = person
    return padded


def _bytes(picture: Tensor) -> Tensor:
    """(h,w,3) uint8 of a picture (3,h,w), which is overwritten."""
    return picture.add_(0.5).clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)


def _taps(fraction: float) -> Tensor:
    """The four weights of torch's bicubic interpolation (a = -0.75) at a fraction of a pixel after the second."""
    distance = torch.tensor([1 + fraction, fraction, 1 - fraction, 2 - fraction])
    near = (1.25 * distance - 2.25) * distance * distance + 1
    far = -0.75 * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance <= 1, near, far)


def _on_grid(pixels: Tensor, size: Sequence[int]) -> Tensor:
    """Places (...,2) in pixels of maps of a size (height, width), in their grid."""
    return pixels * (2 / (torch.tensor([size[1], size[0]], dtype=torch.float32) - 1).clamp_min(1)) - 1


def _read(maps: Tensor, places: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Maps (1,C,h,w) at places (H,W,2) of their grid: (C,H,W)."""
    return F.grid_sample(maps, places[None], mode=mode, padding_mode="border", align_corners=True)[0]
