"""Canonical keypoint detector L: the face's keypoints in a neutral pose and expression (section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .anchors import COUNT
from .blocks import mlp


@dataclass(frozen=True)
class MeshCanonicalParams:
    keypoints: int = COUNT
    mesh_points: int = 478
    hidden: tuple[int, ...] = (256, 128)
    reach: float = 0.2


class MeshCanonicalDetector(nn.Module):
    """Pose-normalised mesh (B,P,3), as an offset from the mean mesh, to canonical keypoints (B,K,3) in [-1,1]^3.

    The head starts at zero: at first every face has the anchors, a choice of vertices of the mean mesh.
    """

    anchors: Tensor

    def __init__(self, params: MeshCanonicalParams) -> None:
        super().__init__()
        self.params = params
        self.register_buffer("anchors", torch.zeros(params.keypoints, 3))
        self.head = mlp((params.mesh_points * 3, *params.hidden, params.keypoints * 3))
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)

    def forward(self, mesh: Tensor) -> Tensor:
        offset = self.head(8 * mesh.flatten(1)).unflatten(1, (-1, 3))
        return self.anchors + self.params.reach * offset
