"""What opens in a face, in closed form: the mouth with the teeth behind its lips, and the eyes with the balls behind their lids.

No learned blend of keypoint flows gets these right: between lips or lids that nearly meet, things lie side by side that move in
different ways, on a pixel or two. Flows are backward sampling grids, from the driving position to the source's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import image_grid, polygon_distance, resize_grid
from .anchors import BROW_SIDES, IRISES, LIDS, LOWER_LIDS, MOUTH, SKULL, UPPER_LIDS
from .blocks import resize

_ABOVE = 0.7  # how far a lid reaches from its edge, of the way to the keypoints on the brow
_BELOW = 0.14  # how far from its edge the lower one does, in units of the canonical face
_BESIDE = 0.3  # how far beyond the corners, in widths of the eye
_IRIS = 0.2  # its radius, in widths of the eye


def blink(image_flow: Tensor, grid: Tensor, shifts: Tensor, *, driving: Tensor, jacobian: Tensor, scale: Tensor) -> Tensor:
    """The flow (B,H,W,2) with eyes that open and close, for a grid (H,W,2).

    shifts (B,K,2): where keypoints come from, less the jacobian (B,3,3) of their driving place (B,K,3). scale: (B,1), the driving
    one. Skin above and below an eye stretches like a blind from the edge of its lid to brow and cheek, where the given flow takes
    over again. Between the edges shows the ball, which turns with its iris and is fixed at the corners. The lid's edge is a line
    through its keypoints. Not the paper's.
    """
    points = grid.flatten(0, 1)
    turned = points @ jacobian[:, :2, :2].transpose(1, 2)
    flow = image_flow.flatten(1, 2)
    for upper, lower, iris, brow in zip(UPPER_LIDS, LOWER_LIDS, IRISES, BROW_SIDES, strict=True):
        lids = torch.tensor([upper, lower], device=driving.device)
        corner = driving[:, upper[0], None, :2]
        axis = driving[:, upper[-1], None, :2] - corner
        width = axis.norm(dim=2, keepdim=True).clamp_min(1e-4)
        along, down = _in_eye(points - corner, axis / width)  # (B,P), in units of the grid
        along = along / width[..., 0]
        knots, heights = _in_eye(driving[:, lids, :2].flatten(1, 2) - corner, axis / width)
        edge = torch.cat([heights[..., None], shifts[:, lids].flatten(1, 2)], 2).unflatten(1, (2, -1))  # (B,2,5,3)
        edge = _polyline(along, (knots / width[..., 0]).unflatten(1, (2, -1)), edge)  # (B,2,P,3)
        (top, bottom), (from_upper, from_lower) = edge[..., 0].unbind(1), edge[..., 1:].unbind(1)

        brows = _in_eye(driving[:, brow, :2] - corner, axis / width)[1].mean(1, keepdim=True)
        lifted = (heights[:, 1 : len(upper) - 1].mean(1, keepdim=True) - brows).clamp_min(_BELOW * scale)
        away = torch.maximum((top - down) / (_ABOVE * lifted), (down - bottom) / (_BELOW * scale))
        away = torch.maximum(away, torch.maximum(-along, along - 1) / _BESIDE)
        lid = torch.where((down < (top + bottom) / 2)[..., None], from_upper, from_lower)
        flow = torch.lerp(flow, turned + lid, (1 - away).clamp(0, 1)[..., None])

        ends = torch.lerp(shifts[:, None, upper[0]], shifts[:, None, upper[-1]], along.clamp(0, 1)[..., None])
        looks, _ = _in_eye(driving[:, iris, None, :2] - corner, axis / width)
        looks = looks / width[..., 0]
        ball = torch.minimum(along / (looks - _IRIS).clamp_min(0.05), (1 - along) / (1 - looks - _IRIS).clamp_min(0.05))
        ball = torch.lerp(ends, shifts[:, None, iris], ball.clamp(0, 1)[..., None])
        inside = (torch.minimum(down - top, bottom - down) * grid.shape[1]).sigmoid()  # soft over half a pixel of the flow
        inside = inside * ((along > 0) & (along < 1))
        flow = torch.lerp(flow, turned + ball, inside[..., None])
    return flow.reshape(-1, *grid.shape)


def _in_eye(reach: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """How far along a unit direction (B,1,2) and how far across it, down in the image, vectors (B,P,2) go: (B,P) each."""
    along = (reach * direction).sum(2)
    return along, reach[..., 1] * direction[..., 0] - reach[..., 0] * direction[..., 1]


def _polyline(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Values (B,L,n,c) at knots (B,L,n), left to right, interpolated linearly at x (B,P): (B,L,P,c); beyond an end, the end's."""
    step = knots.diff(dim=2).clamp_min(1e-3)
    share = ((x[:, None, :, None] - knots[:, :, None, :-1]) / step[:, :, None]).clamp(0, 1)  # (B,L,P,n-1)
    return values[:, :, :1] + share @ values.diff(dim=2)


def teeth_flow(grid: Tensor, offsets: Tensor, *, driving: Tensor, jacobian: Tensor) -> Tensor:
    """Where (B,H,W,2) places of a grid (H,W,2) come from if they belong to the upper jaw, as deep as the inner lips.

    The jaw moves as the skull does: by the nose's offsets among (B,K,3).
    """
    depth = driving[:, list(MOUTH), 2].mean(1, keepdim=True)
    shift = offsets[:, list(SKULL), :2].mean(1) + depth * jacobian[:, :2, 2]
    return (grid.flatten(0, 1) @ jacobian[:, :2, :2].transpose(1, 2) + shift[:, None]).reshape(-1, *grid.shape)


def speak(image_flow: Tensor, teeth: Tensor, *, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
    """`DenseFlow.image` and `.openings` (B,4,h/2,w/2) of the flows (B,h,w,2) of the face and of the upper jaw.

    No gradient for outlines: they say where, not which way to move.
    """
    height, width = image_flow.shape[1] // 2, image_flow.shape[2] // 2
    with torch.no_grad():
        flat = image_grid(height, width, device=image_flow.device)
        here = _distances(flat.expand(len(driving), -1, -1, -1), driving)
        inside = (resize(here[:, :1], (2 * height, 2 * width)) * 2 * width).sigmoid()  # soft over half a pixel of the flow
    image_flow = torch.lerp(image_flow, teeth, inside[:, 0, ..., None])
    with torch.no_grad():
        there = _distances(resize_grid(image_flow, height, width), source)
    return image_flow, torch.cat([here, there], 1)


def _distances(places: Tensor, keypoints: Tensor) -> Tensor:
    """Signed distances (B,2,h,w) of places (B,h,w,2) to the outlines of the mouth and of the nearer eye, positive inside."""
    points = places.flatten(1, 2)
    mouth, *eyes = (polygon_distance(points, keypoints[:, list(outline), :2]) for outline in (MOUTH, *LIDS))
    return torch.stack([mouth, torch.maximum(*eyes)], 1).reshape(-1, 2, *places.shape[1:3])
