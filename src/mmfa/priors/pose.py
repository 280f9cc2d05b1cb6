"""Head pose by weighted Procrustes: the paper's frozen rotation, the first guess of scale and translation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mmfa.errors import ModelError

VERTICES = 468
_MOVED_BY_EXPRESSION = (136, 365, 205, 425)  # on the jaw and the cheeks


@dataclass(frozen=True)
class HeadPose:
    """``points ~ scale * R @ template + offset``, x right, y down, z away from the viewer, in grid units.

    rotation: (B,3,3), det +1, identity for a frontal face. scale: (B,1). translation: (B,3), the offset
    with z = 0 (the landmarks' depth has no origin). offset: (B,3), with the fitted z.
    """

    rotation: Tensor
    scale: Tensor
    translation: Tensor
    offset: Tensor


@lru_cache(maxsize=1)
def template() -> tuple[Tensor, Tensor]:
    """Canonical face (468,3) in [-1,1], weighted centroid at the origin; its weights (468,), sum 1."""
    with as_file(files("mmfa.priors") / "weights" / "face_geometry.safetensors") as path:
        try:
            tensors = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot read the face geometry {path}: {error}") from error
    weights = tensors["weights"] / tensors["weights"].sum()
    vertices = tensors["vertices"] - weights @ tensors["vertices"]
    return vertices / vertices[:, :2].abs().max(), weights


def head_pose(points: Tensor) -> HeadPose:
    """Pose of landmarks (B,N>=468,3) in grid coordinates; only the first 468 are used. Differentiable.

    Of MediaPipe's 33 weighted vertices the four on jaw and cheeks are left out: with them the head seems to grow by 5 %
    of the mouth's opening, a leak of the expression into the scale. The origin stays the centroid of all 33.
    """
    if points.dim() != 3 or points.shape[1] < VERTICES or points.shape[2] != 3:
        raise ValueError(f"points must be (B, N >= {VERTICES}, 3), got {tuple(points.shape)}")
    vertices, weights = (tensor.to(points) for tensor in rigid_template())
    points = points[:, :VERTICES]
    origin = weights @ vertices
    vertices = vertices - origin
    centre = torch.einsum("n,bni->bi", weights, points)
    covariance = torch.einsum("n,bni,nj->bij", weights, points - centre[:, None], vertices)
    u, singular, vh = torch.linalg.svd(covariance)
    sign = torch.det(u @ vh).sign()
    signs = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)
    rotation = (u * signs[:, None]) @ vh
    scale = (singular * signs).sum(1, keepdim=True) / torch.einsum("n,ni->", weights, vertices**2)
    offset = centre - scale * (rotation @ origin)
    return HeadPose(rotation, scale, offset * offset.new_tensor([1.0, 1.0, 0.0]), offset)


@lru_cache(maxsize=1)
def rigid_template() -> tuple[Tensor, Tensor]:
    """The template (468,3), and weights (468,), sum 1, of the vertices to which `head_pose` fits: none on jaw and cheeks."""
    vertices, weights = template()
    weights = weights.clone()
    weights[list(_MOVED_BY_EXPRESSION)] = 0
    return vertices, weights / weights.sum()


def normalise(points: Tensor, pose: HeadPose) -> Tensor:
    """Landmarks (B,N,3) in the template's frame: ``R^T (points - offset) / scale``."""
    if points.dim() != 3 or points.shape[-1] != 3 or len(points) != len(pose.scale):
        raise ValueError(f"points must be ({len(pose.scale)}, N, 3), got {tuple(points.shape)}")
    return (points - pose.offset[:, None]) @ pose.rotation / pose.scale[:, :, None]
