"""How a whole person moves with the head: one smooth flow, the head's on the head, easing into the body's below and around it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import polygon_distance, warp
from ..portrait import Layer

_FACE = 1.95  # height of the canonical face, in its units
_CHIN, _NECK = -0.05, 0.7  # from where below the chin the body takes over, to where it has, in face heights
_NEAR, _FAR = 0.9, 1.7  # and from where around the face
_SLACK = 0.1  # how far a head goes before its body follows, in face heights
_BODY = 0.35  # share of the rest of its way that the body goes along
_WIDE = 3.0  # windows, to a side, of the map that corrects the head's share
_SWAY = 0.15  # and how far it goes at most, in face heights


def smooth_step(x: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high`, a smooth cubic between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def head_share(places: Tensor, outline: Tensor, unit: Tensor) -> Tensor:
    """How far places (B,P,2) move as the head does, in closed form: (B,P) in [0,1].

    outline (B,n,2): of the face. unit (B,1): of the canonical face, in the unit of the places. 1 on the head and its hair; below
    the chin and far around it falls to 0, smoothly, so that neck, hair and collar stretch instead of being cut.
    """
    height = _FACE * unit
    chin = outline[..., 1].amax(1, keepdim=True)
    outside = -polygon_distance(places, outline) / height
    below = (places[..., 1] - chin) / height
    return (1 - smooth_step(below, _CHIN, _NECK)) * (1 - smooth_step(outside, _NEAR, _FAR))


def body_shift(window: Tensor, source: Tensor, unit: Tensor) -> Tensor:
    """Where the body comes from (B,2), less where it is, for a head in a window (B,3) that was in the window `source` (B,3).

    It stands still while the head only nods and sways, and is drawn along by a head that goes away.
    """
    way, height = source[:, :2] - window[:, :2], _FACE * unit
    slack, length = _SLACK * height, way.norm(dim=1, keepdim=True).clamp_min(1e-6)
    more = (length - slack).clamp_min(0)
    way = _BODY * way / length * more * more / (more + slack)  # eases in
    return _SWAY * height * torch.tanh(way / (_SWAY * height))


def head_places(places: Tensor, flow: Tensor, jacobian: Tensor) -> Tensor:
    """Where places (B,P,2) of a window's grid come from by a flow (B,h,w,2) on it; (B,P,2), in the flow's own grid.

    Outside the window, by the flow at the window's edge and the jacobian (B,2,2), of the grids of both windows.
    """
    inner = places.clamp(-1, 1)
    there = warp(flow.permute(0, 3, 1, 2), inner[:, None])[:, :, 0].transpose(1, 2)
    return there + (places - inner) @ jacobian.transpose(1, 2)


def person_flow(places: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
    """Where places (B,P,2) of a person come from (B,P,2), and how far they move as the head does (B,P), by a layer's flow."""
    window, source = layer.window, layer.source
    local = (places - window[:, None, :2]) / window[:, None, 2:]
    learned = F.grid_sample(layer.follow, local[:, None] / _WIDE, padding_mode="zeros", align_corners=True)[:, 0, 0]
    share = (head_share(places, layer.outline, layer.unit) + learned).clamp(0, 1)
    head = head_places(local, layer.flow, layer.jacobian * (window[:, 2:] / source[:, 2:])[..., None])
    head = head * source[:, None, 2:] + source[:, None, :2]
    body = places + body_shift(window, source, layer.unit)[:, None]
    return torch.lerp(body, head, share[..., None]), share


def fade(places: Tensor, band: float) -> Tensor:
    """0 at the edge of a window's grid and outside, 1 from `band` inside: (...,) for places (...,2)."""
    return smooth_step(1 - places.abs().amax(-1), 0.0, band)


def mean_pool(image: Tensor, times: int) -> Tensor:
    """Halved so many times, with repeated edges."""
    for _ in range(times):
        odd = (0, image.shape[-1] % 2, 0, image.shape[-2] % 2)
        image = F.avg_pool2d(F.pad(image, odd, mode="replicate"), 2)
    return image
