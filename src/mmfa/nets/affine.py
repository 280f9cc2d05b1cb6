"""Affine estimator: scale s and translation t of the face (section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..geometry import image_grid
from .blocks import BottleneckTrunk, mlp, shrink, start_small


@dataclass(frozen=True)
class MeshAffineParams:
    """reach: how far s and t may leave the pose's, as a share of s and in grid units."""

    mesh_points: int = 478
    hidden: tuple[int, ...] = (64,)
    reach: float = 0.02


class MeshAffineEstimator(nn.Module):
    """Refines the landmark pose's s (B,1) and t (B,3) by what the pose-normalised mesh (B,P,3) says.

    ``s = s_pose exp(reach tanh a)``, ``t_xy = t_pose + reach tanh b``, t_z = 0. The reach is a few percent so that the
    refinement cannot become a channel for the expression; it starts at zero.
    """

    def __init__(self, params: MeshAffineParams) -> None:
        super().__init__()
        self.params = params
        self.head = mlp((params.mesh_points * 3, *params.hidden, 3))
        start_small(self.head)

    def forward(self, mesh: Tensor, scale: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
        """Scale s (B,1) and translation t (B,3), from the mesh (B,P,3) and those of the landmark pose."""
        change = self.params.reach * torch.tanh(self.head(8 * mesh.flatten(1)))
        shift = torch.cat([change[:, 1:], torch.zeros_like(change[:, :1])], 1)
        return scale * change[:, :1].exp(), translation * translation.new_tensor([1.0, 1.0, 0.0]) + shift


@dataclass(frozen=True)
class AffineParams:
    """widths and blocks: of the trunk's stages. shrink: by how much the picture is reduced before it is looked at."""

    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    blocks: tuple[int, ...] = (3, 3, 5, 2)
    shrink: int = 1
    heatmap: bool = False
    """Whether t is the centre of a heat map over the features, and so follows them from the start; else read from their mean."""


class AffineEstimator(nn.Module):
    """The paper's estimator: image (B,3,S,S) to s (B,1) and t (B,3).

    ``s = exp(a)``, t_z = 0: depth is unused under orthographic projection. The heads start at s = 1, t = 0.
    """

    def __init__(self, params: AffineParams) -> None:
        super().__init__()
        self.params = params
        self.trunk = BottleneckTrunk(params.widths, params.blocks)
        self.head = nn.Linear(params.widths[-1], 1 if params.heatmap else 3)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.heat = nn.Conv2d(params.widths[-1], 1, 1) if params.heatmap else None
        if self.heat is not None:
            nn.init.zeros_(self.heat.weight)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Scale s (B,1) and translation t (B,3) of faces (B,3,S,S) in [0,1]."""
        features = self.trunk(shrink(image, self.params.shrink))
        change = self.head(features.mean((2, 3)))
        if self.heat is not None:
            weights = self.heat(features).float().flatten(2).softmax(2)
            place = weights @ image_grid(*features.shape[-2:], device=image.device).flatten(0, 1)
            change = torch.cat([change, place[:, 0]], 1)
        return change[:, :1].exp(), torch.cat([change[:, 1:], torch.zeros_like(change[:, :1])], 1)
