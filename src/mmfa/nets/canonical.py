"""Canonical keypoint detector L: the face's keypoints in a neutral pose and expression (section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import volume_grid
from .anchors import COUNT
from .blocks import DownBlock, UpBlock, mlp, start_small


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
        start_small(self.head)

    def forward(self, mesh: Tensor) -> Tensor:
        offset = self.head(8 * mesh.flatten(1)).unflatten(1, (-1, 3))
        return self.anchors + self.params.reach * offset


@dataclass(frozen=True)
class CanonicalParams:
    keypoints: int = 20
    depth: int = 16
    shrink: int = 4
    encoder: tuple[int, ...] = (64, 128, 256, 512, 1024)
    decoder: tuple[int, ...] = (512, 256, 128, 64, 32)
    temperature: float = 0.1


class CanonicalKeypointDetector(nn.Module):
    """The paper's L: image (B,3,S,S), shrunk first, to canonical keypoints (B,K,3) in [-1,1]^3.

    A 2D encoder, a 3D decoder and the expectation of each keypoint's 3D heatmap.
    """

    def __init__(self, params: CanonicalParams) -> None:
        super().__init__()
        self.params = params
        bottom = params.encoder[-1]
        self.encoder = nn.Sequential(
            *(DownBlock(a, b) for a, b in zip((3, *params.encoder[:-1]), params.encoder, strict=True)),
            nn.Conv2d(bottom, bottom * params.depth, 1),
        )
        self.decoder = nn.Sequential(
            *(UpBlock(a, b, dims=3) for a, b in zip((bottom, *params.decoder[:-1]), params.decoder, strict=True)),
            nn.Conv3d(params.decoder[-1], params.keypoints, 3, 1, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        size = (image.shape[-2] // self.params.shrink, image.shape[-1] // self.params.shrink)
        small = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
        volume = self.encoder(small).unflatten(1, (-1, self.params.depth))
        return soft_argmax(self.decoder(volume), temperature=self.params.temperature)


def soft_argmax(heatmaps: Tensor, *, temperature: float) -> Tensor:
    """Expected position (B,K,3) in [-1,1]^3 under the softmax of heatmap logits (B,K,D,H,W) / temperature."""
    depth, height, width = heatmaps.shape[2:]
    weights = (heatmaps.float() / temperature).flatten(2).softmax(2)
    grid = volume_grid(depth, height, width, device=heatmaps.device).flatten(0, 2)
    return weights @ grid
