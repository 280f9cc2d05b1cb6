"""Affine estimator: scale s and translation t of the face (section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .blocks import BottleneckTrunk, mlp, start_small


@dataclass(frozen=True)
class MeshAffineParams:
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
        change = self.params.reach * torch.tanh(self.head(8 * mesh.flatten(1)))
        shift = torch.cat([change[:, 1:], torch.zeros_like(change[:, :1])], 1)
        return scale * change[:, :1].exp(), translation * translation.new_tensor([1.0, 1.0, 0.0]) + shift


@dataclass(frozen=True)
class AffineParams:
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    blocks: tuple[int, ...] = (3, 3, 5, 2)


class AffineEstimator(nn.Module):
    """The paper's estimator: image (B,3,S,S) to s (B,1) and t (B,3).

    ``s = exp(a)``, t_z = 0: depth is unused under orthographic projection. The head starts at s = 1, t = 0.
    """

    def __init__(self, params: AffineParams) -> None:
        super().__init__()
        self.params = params
        self.trunk = BottleneckTrunk(params.widths, params.blocks)
        self.head = nn.Linear(params.widths[-1], 3)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        change = self.head(self.trunk(image))
        return change[:, :1].exp(), torch.cat([change[:, 1:], torch.zeros_like(change[:, :1])], 1)
