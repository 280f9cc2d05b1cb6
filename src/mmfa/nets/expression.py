"""Expression encoder and decoder: f = E_exp(I), d = D_exp(f, x_c) (eq. 4, A.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import BottleneckTrunk, mlp, shrink, start_small


@dataclass(frozen=True)
class MeshExpressionEncoderParams:
    """features: how many numbers f has. hidden: widths of the layers before them."""

    features: int = 64
    mesh_points: int = 478
    hidden: tuple[int, ...] = (256, 128)


class MeshExpressionEncoder(nn.Module):
    """Pose-normalised mesh (B,P,3), as an offset from the mean mesh, to the expression feature f (B,N)."""

    def __init__(self, params: MeshExpressionEncoderParams) -> None:
        super().__init__()
        self.params = params
        self.head = mlp((params.mesh_points * 3, *params.hidden, params.features))

    def forward(self, mesh: Tensor) -> Tensor:
        """Features f (B,N) of meshes (B,P,3), less the mean mesh."""
        feature: Tensor = self.head(8 * mesh.flatten(1))
        return feature


@dataclass(frozen=True)
class ExpressionEncoderParams:
    """features: how many numbers f has. widths and blocks: of the trunk's stages. shrink: by how much the picture is reduced."""

    features: int = 64
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    blocks: tuple[int, ...] = (3, 3, 5, 2)
    shrink: int = 1
    grid: int = 1
    """The features are pooled to this many places along a side before they are read."""


class ExpressionEncoder(nn.Module):
    """The paper's E_exp: image (B,3,S,S) to the expression feature f (B,N) through a bottleneck trunk (A.1).

    Each number of f has mean 0 and variance 1 over faces (batch norm without weights). In the cosine of L_ssl what all faces
    have in common would hide what they differ in: two people's f had a cosine of 0.9.
    """

    def __init__(self, params: ExpressionEncoderParams) -> None:
        super().__init__()
        self.params = params
        self.trunk = BottleneckTrunk(params.widths, params.blocks)
        self.head = nn.Linear(params.widths[-1] * params.grid**2, params.features)
        self.norm = nn.BatchNorm1d(params.features, affine=False)

    def forward(self, image: Tensor) -> Tensor:
        """Features f (B,N) of faces (B,3,S,S) in [0,1]."""
        features = F.adaptive_avg_pool2d(self.trunk(shrink(image, self.params.shrink)), self.params.grid)
        feature: Tensor = self.norm(self.head(features.flatten(1)))
        return feature


@dataclass(frozen=True)
class ExpressionDecoderParams:
    """features: how many numbers f has. reach: of the deformation, in units of the canonical face."""

    features: int = 64
    keypoints: int = 20
    hidden: tuple[int, ...] = (256, 256)
    reach: float = 0.2


class ExpressionDecoder(nn.Module):
    """Expression feature (B,N) and canonical keypoints (B,K,3) to the deformation (B,K,3); fully connected (A.1)."""

    def __init__(self, params: ExpressionDecoderParams) -> None:
        super().__init__()
        self.params = params
        outputs = params.keypoints * 3
        self.layers = mlp((params.features + outputs, *params.hidden, outputs), norm=True)
        start_small(self.layers, std=1e-3)

    def forward(self, feature: Tensor, canonical: Tensor) -> Tensor:
        """Deformation d (B,K,3) of f (B,N) at canonical keypoints (B,K,3)."""
        x = torch.cat([feature, canonical.flatten(1)], 1)
        deformation: Tensor = self.params.reach * self.layers(x).unflatten(1, (-1, 3))
        return deformation
