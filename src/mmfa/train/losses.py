"""Losses: pure functions, one each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_DETAIL_POINTS = (13, 14, 61, 291, 78, 308, 159, 145, 386, 374, 468, 473)


def pixel_loss(images: Sequence[Tensor], target: Tensor) -> Tensor:
    """Sum over output resolutions of the mean absolute difference to the target (B,3,S,S), area-reduced."""
    return torch.stack(
        [(image - F.interpolate(target, size=image.shape[-2:], mode="area")).abs().mean() for image in images]
    ).sum()


def detail_loss(image: Tensor, target: Tensor, points: Tensor, *, variance: float = 0.005) -> Tensor:
    """Mean absolute difference weighted by Gaussians around mouth and eyes of the target's landmarks (B,478,>=2)."""
    axis = torch.linspace(-1, 1, image.shape[-1], device=image.device)
    centres = points[:, list(_DETAIL_POINTS)]
    x = torch.exp(-((axis - centres[..., :1]) ** 2) / (2 * variance))
    y = torch.exp(-((axis - centres[..., 1:2]) ** 2) / (2 * variance))
    weight = torch.zeros(len(image), image.shape[-2], image.shape[-1], device=image.device)
    for k in range(centres.shape[1]):
        weight = torch.maximum(weight, y[:, k, :, None] * x[:, k, None, :])
    return ((image - target).abs() * weight[:, None]).mean()


def perceptual_loss(image: Tensor, target: Tensor, backbone: Callable[[Tensor], Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of feature maps, each tap normalised by the target's mean magnitude (eq. 6)."""
    with torch.no_grad():
        wanted = backbone(target)
    losses = [
        (a.float() - b.float()).abs().mean() / (b.float().abs().mean() + 1e-3)
        for a, b in zip(backbone(image), wanted, strict=True)
    ]
    return torch.stack(losses).sum()


def keypoint_loss(keypoints: Tensor, landmarks: Tensor, weights: Tensor, *, depth: float = 0.3) -> Tensor:
    """Anchoring: weighted L1 of the first M keypoints (B,K>=M,3) to landmarks (B,M,3); weights (M,)."""
    difference = (keypoints[:, : landmarks.shape[1]] - landmarks).abs()
    return (difference * difference.new_tensor([1.0, 1.0, depth]) * weights[:, None]).mean()


def identity_loss(canonical_source: Tensor, canonical_driving: Tensor) -> Tensor:
    """Eq. 8: canonical keypoints (B,K,3) of two frames of one person agree."""
    return (canonical_source - canonical_driving).abs().mean()


def ssl_loss(expression: Tensor, expression_augmented: Tensor) -> Tensor:
    """Eq. 7: one minus the cosine of the expression features (B,N) of a face and of its augmented copy."""
    return (1 - F.cosine_similarity(expression, expression_augmented)).mean()


def deformation_loss(deformation: Tensor) -> Tensor:
    """Mean over keypoints of the L1 norm of the deformation (B,K,3)."""
    return deformation.abs().sum(-1).mean()
