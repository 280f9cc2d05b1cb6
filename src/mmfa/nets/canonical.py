"""Canonical keypoint detector L: the face's keypoints in a neutral pose and expression (section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..geometry import volume_grid
from .anchors import COUNT
from .blocks import DownBlock, UpBlock, mlp, shrink, start_small
from .looks import LOOKS, LookEncoder

_STRETCH = 8.0  # offsets from the mean mesh are about 0.1


@dataclass(frozen=True)
class MeshCanonicalParams:
    """hidden: widths of the head. reach: of its outputs, in units of the canonical face."""

    keypoints: int = COUNT
    mesh_points: int = 478
    hidden: tuple[int, ...] = (256, 128)
    reach: float = 0.2
    directions: int = 0
    """How many directions of the shape the picture corrects; with 0 it isn't looked at."""


class MeshCanonicalDetector(nn.Module):
    """Pose-normalised mesh (B,P,3), as an offset from the mean mesh, to canonical keypoints (B,K,3) in [-1,1]^3.

    The head starts at zero: at first every face has the anchors, a choice of vertices of the mean mesh. A frame's mesh has the
    expression in it, and says less of the person's shape for that; with `directions` the numbers that `looks` reads from a
    picture correct it, linearly and along few directions (`mmfa.train.looks` fits them).
    """

    anchors: Tensor
    looks: LookEncoder | None

    def __init__(self, params: MeshCanonicalParams) -> None:
        super().__init__()
        self.params = params
        self.register_buffer("anchors", torch.zeros(params.keypoints, 3))
        self.head = mlp((params.mesh_points * 3, *params.hidden, params.keypoints * 3))
        start_small(self.head)
        self.looks = None
        if params.directions:
            self.looks = LookEncoder()
            self.correct = nn.Linear(params.mesh_points * 3 + LOOKS, params.directions)
            self.write = nn.Linear(params.directions, params.keypoints * 3, bias=False)
            nn.init.zeros_(self.write.weight)
            self.correct.requires_grad_(False)
            self.write.requires_grad_(False)

    def forward(self, mesh: Tensor, image: Tensor | None = None, **pose: Tensor) -> Tensor:
        """image: (B,3,S,S) in [0,1], or None to go by the mesh alone. pose: rotation, scale, translation, as in `FaceInput`."""
        offset = self.params.reach * self.head(_STRETCH * mesh.flatten(1))
        if self.looks is not None and image is not None:
            seen = torch.cat([mesh.flatten(1), self.looks(image, **pose)], 1)
            offset = offset + self.write(self.correct(seen))
        keypoints: Tensor = self.anchors + offset.unflatten(1, (-1, 3))
        return keypoints

    @torch.no_grad()
    def set_linear(self, read: Tensor, bias: Tensor, write: Tensor, centre: Tensor) -> None:
        """Make the head exactly ``x_c = centre + write^T (read^T offset + bias)``, in the same weights.

        read (3P,k), bias (k,), write (k,K,3), centre (K,3). A unit passes what is positive, its twin what is negative, so
        every hidden layer must have 2k units: ValueError otherwise.
        """
        layers = [layer for layer in self.head if isinstance(layer, nn.Linear)]
        count = read.shape[1]
        if 2 * count > min(self.params.hidden):
            raise ValueError(f"{count} directions need {2 * count} hidden units, there are {min(self.params.hidden)}")
        for layer in layers:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        layers[0].weight[: 2 * count] = torch.cat([read.T, -read.T]) / _STRETCH
        layers[0].bias[: 2 * count] = torch.cat([bias, -bias])
        for layer in layers[1:-1]:
            layer.weight.fill_diagonal_(1.0)
            layer.weight[2 * count :] = 0
        outputs = write.flatten(1).T / self.params.reach
        layers[-1].weight[:, : 2 * count] = torch.cat([outputs, -outputs], 1)
        layers[-1].bias.copy_(((centre - self.anchors) / self.params.reach).flatten())


@dataclass(frozen=True)
class CanonicalParams:
    """depth: of the 3D heat maps. temperature: of their softmax. shrink: by how much the picture is reduced first."""

    keypoints: int = 20
    depth: int = 16
    shrink: int = 4
    encoder: tuple[int, ...] = (64, 128, 256, 512, 1024)
    decoder: tuple[int, ...] = (512, 256, 128, 64, 32)
    temperature: float = 0.1
    centred: bool = False
    """Whether their centroid is moved to the origin (the paper's assumption 1); else t has to make up for it."""


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
        """Canonical keypoints (B,K,3) of faces (B,3,S,S) in [0,1]."""
        volume = self.encoder(shrink(image, self.params.shrink)).unflatten(1, (-1, self.params.depth))
        keypoints = soft_argmax(self.decoder(volume), temperature=self.params.temperature)
        return keypoints - keypoints.mean(1, keepdim=True) if self.params.centred else keypoints


def soft_argmax(heatmaps: Tensor, *, temperature: float) -> Tensor:
    """Expected position (B,K,3) in [-1,1]^3 under the softmax of heatmap logits (B,K,D,H,W) / temperature."""
    depth, height, width = heatmaps.shape[2:]
    weights = (heatmaps.float() / temperature).flatten(2).softmax(2)
    grid = volume_grid(depth, height, width, device=heatmaps.device).flatten(0, 2)
    return weights @ grid
