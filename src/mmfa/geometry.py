"""Frames of reference, grids and warps: the one place where their conventions live.

Coordinates are x right, y down, z away from the viewer. A *grid* coordinate of -1 is the centre of the first
pixel and +1 the centre of the last one (``align_corners=True`` and inclusive grids, everywhere).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_CONTROL = 5  # control points of a `Bend` along a side


def euler_to_matrix(pitch: Tensor, yaw: Tensor, roll: Tensor) -> Tensor:
    """Rotation ``Rx(pitch) @ Ry(yaw) @ Rz(roll)`` on column vectors.

    Args: angles in degrees, each of shape (B,). Returns (B,3,3), orthonormal with determinant +1.
    """
    p, y, r = (torch.deg2rad(a) for a in (pitch, yaw, roll))
    zero, one = torch.zeros_like(p), torch.ones_like(p)

    def stack(*rows: Tensor) -> Tensor:
        return torch.stack(rows, -1).reshape(-1, 3, 3)

    rx = stack(one, zero, zero, zero, p.cos(), -p.sin(), zero, p.sin(), p.cos())
    ry = stack(y.cos(), zero, y.sin(), zero, one, zero, -y.sin(), zero, y.cos())
    rz = stack(r.cos(), -r.sin(), zero, r.sin(), r.cos(), zero, zero, zero, one)
    return rx @ ry @ rz


def matrix_to_euler(rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pitch, yaw and roll in degrees, each (B,), of rotations (B,3,3); inverts `euler_to_matrix` for |yaw| < 90."""
    yaw = torch.asin(rotation[:, 0, 2].clamp(-1, 1))
    pitch = torch.atan2(-rotation[:, 1, 2], rotation[:, 2, 2])
    roll = torch.atan2(-rotation[:, 0, 1], rotation[:, 0, 0])
    return torch.rad2deg(pitch), torch.rad2deg(yaw), torch.rad2deg(roll)


def geodesic_angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle in degrees (B,) of the rotation between two rotations (B,3,3)."""
    trace = torch.einsum("bij,bij->b", a, b)
    return torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))


def project_to_rotation(matrix: Tensor) -> Tensor:
    """The rotation (B,3,3) nearest to each matrix (B,3,3) in the Frobenius norm; for averaging and smoothing."""
    u, _, vh = torch.linalg.svd(matrix)
    sign = torch.det(u @ vh).sign()
    diagonal = torch.diag_embed(torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1))
    nearest: Tensor = u @ diagonal @ vh
    return nearest


def image_grid(height: int, width: int, *, device: torch.device | None = None) -> Tensor:
    """Identity sampling grid (H,W,2) with (x, y) in [-1,1]."""
    y = torch.linspace(-1, 1, height, device=device)
    x = torch.linspace(-1, 1, width, device=device)
    gy, gx = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([gx, gy], -1)


def volume_grid(depth: int, height: int, width: int, *, device: torch.device | None = None) -> Tensor:
    """Identity sampling grid (D,H,W,3) with (x, y, z) in [-1,1]."""
    z = torch.linspace(-1, 1, depth, device=device)
    y = torch.linspace(-1, 1, height, device=device)
    x = torch.linspace(-1, 1, width, device=device)
    gz, gy, gx = torch.meshgrid(z, y, x, indexing="ij")
    return torch.stack([gx, gy, gz], -1)


def warp(features: Tensor, grid: Tensor) -> Tensor:
    """Sample (B,C,H,W) by (B,H',W',2), or (B,C,D,H,W) by (B,D',H',W',3); the border is repeated outside [-1,1].

    Sampled in the grid's precision: positions in bfloat16 would be half a pixel off. The grid is made contiguous first:
    permuted grids are sampled wrongly on Apple's MPS (pytorch #171602).
    """
    return F.grid_sample(features.to(grid.dtype), grid.contiguous(), mode="bilinear", padding_mode="border", align_corners=True)


def resize_grid(grid: Tensor, height: int, width: int) -> Tensor:
    """Resample a flow (B,H,W,2) to (B,height,width,2) bilinearly; the identity stays the identity."""
    if grid.shape[1:3] == (height, width):
        return grid
    resized = F.interpolate(grid.permute(0, 3, 1, 2), size=(height, width), mode="bilinear", align_corners=True)
    return resized.permute(0, 2, 3, 1)


def polygon_distance(points: Tensor, polygon: Tensor) -> Tensor:
    """Signed distance of points (B,P,2) to the outline of a polygon (B,n,2), n corners in order: (B,P), positive inside."""
    start, end = polygon[:, :, None], polygon.roll(-1, 1)[:, :, None]  # (B,n,1,2)
    edge, reach = end - start, points[:, None] - start
    along = (reach * edge).sum(-1) / edge.square().sum(-1).clamp_min(1e-12)
    nearest = (reach - along.clamp(0, 1)[..., None] * edge).square().sum(-1).amin(1).sqrt()
    x, y = points[:, None].unbind(-1)
    between = (start[..., 1] > y) != (end[..., 1] > y)
    height = torch.where(edge[..., 1] == 0, torch.ones_like(edge[..., 1]), edge[..., 1])
    crossed = between & (x < start[..., 0] + edge[..., 0] * (y - start[..., 1]) / height)
    return torch.where(crossed.sum(1) % 2 == 1, nearest, -nearest)


def similarity(angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """In-plane transforms (B,2,3): ``x' = scale * Rot(angle) x + shift``, in grid units.

    Args: angle (B,) in degrees, from the x axis towards the y axis (the roll of `euler_to_matrix`); scale (B,),
    positive; shift (B,2). On an image that isn't square the units of x and y differ, and the turn shears.
    """
    turn = torch.deg2rad(angle)
    cos, sin = scale * turn.cos(), scale * turn.sin()
    return torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], -1).reshape(-1, 2, 3)


def invert_affine(transform: Tensor) -> Tensor:
    """The inverses (B,2,3) of affine in-plane transforms (B,2,3)."""
    inverse = torch.linalg.inv(transform[..., :2])
    return torch.cat([inverse, -_times(inverse, transform[..., 2])[..., None]], -1)


def transform_points(points: Tensor, transform: Tensor) -> Tensor:
    """Points (B,N,2 or 3) moved by affine in-plane transforms (B,2,3); z, if any, grows like the square root of the area."""
    linear = transform[:, None, :, :2]
    xy = _times(linear, points[..., :2]) + transform[:, None, :, 2]
    area = linear[..., 0, 0] * linear[..., 1, 1] - linear[..., 0, 1] * linear[..., 1, 0]
    return torch.cat([xy, points[..., 2:] * area.abs().sqrt()[..., None]], -1)


def transform_image(image: Tensor, transform: Tensor) -> Tensor:
    """Image (B,C,H,W) in which what was at x lies at `transform` (B,2,3) of x; the border is repeated outside."""
    count, _, height, width = image.shape
    grid = image_grid(height, width, device=image.device).reshape(1, -1, 2).expand(count, -1, -1)
    return warp(image, transform_points(grid, invert_affine(transform)).reshape(count, height, width, 2))


@dataclass(frozen=True)
class Bend:
    """The First Order Motion Model's random transform T of a picture: affine, plus a thin-plate spline on 5 x 5 points.

    Known by its inverse, which is all that a picture needs: ``T^-1(x) = A x + sum_i w_i U(|x - c_i|_1)``, U(r) = r^2 log r,
    the same along x and y, as in their code. No turn, size and shift of a rigid head undoes it. affine: (B,2,3), A.
    spline: (B,25), w.
    """

    affine: Tensor
    spline: Tensor

    NUMBERS = 6 + _CONTROL**2
    """How many numbers make one."""

    @staticmethod
    def of(noise: Tensor, *, affine: float = 0.05, spline: float = 0.005) -> Bend:
        """From standard normal numbers (B,NUMBERS), and the standard deviations of the affine part and the spline."""
        plain = torch.eye(2, 3, dtype=noise.dtype, device=noise.device)
        linear = plain + affine * noise[:, :6].unflatten(1, (2, 3))
        return Bend(linear, spline * noise[:, 6:])

    def back(self, points: Tensor) -> Tensor:
        """T^-1: where points (B,N,2) of the transformed picture are in the original; (B,N,2)."""
        control = image_grid(_CONTROL, _CONTROL, device=points.device).flatten(0, 1)
        distance = (points[:, :, None] - control).abs().sum(-1)
        spline = (distance.square() * (distance + 1e-6).log()) @ self.spline[..., None]
        return _times(self.affine[:, None, :, :2], points) + self.affine[:, None, :, 2] + spline

    def points(self, points: Tensor) -> Tensor:
        """T of points (B,N,2 or 3), by a few rounds of a fixed-point iteration: about 1e-4 off; where a strong T folds, there is
        no answer. z, if any, grows like the square root of the area.
        """
        place, inverse = points[..., :2], torch.linalg.inv(self.affine[:, None, :, :2])
        for _ in range(5):
            place = place + _times(inverse, points[..., :2] - self.back(place))
        area = torch.linalg.det(self.affine[..., :2]).abs().sqrt()
        return torch.cat([place, points[..., 2:] / area[:, None, None]], -1)

    def image(self, image: Tensor) -> Tensor:
        """T of an image (B,C,H,W), mirrored at its border."""
        count, _, height, width = image.shape
        grid = image_grid(height, width, device=image.device).reshape(1, -1, 2).expand(count, -1, -1)
        places = self.back(grid).reshape(count, height, width, 2)
        return F.grid_sample(image.to(places.dtype), places, mode="bilinear", padding_mode="reflection", align_corners=True)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrix (...,2,2) times vector (...,2), without `matmul`: autocast would round positions to bfloat16."""
    return (matrix * vector[..., None, :]).sum(-1)
