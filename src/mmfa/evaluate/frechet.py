"""Frechet distance between two sets of features, from statistics that are gathered batch by batch."""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor, nn

from ..errors import MediaError
from .official import missing_official

_FILE, _SHA256 = "pt_inception-2015-12-05-6726825d.pth", "6726825d"


def missing_fid() -> str | None:
    """Why the official FID can't be measured here; None when it can."""
    return missing_official(_FILE, _SHA256, "pytorch-fid", "torchvision")


def official_inception() -> nn.Module:
    """The FID's own network, [0,1] images in, [(B,2048,1,1)] out; only to be called when `missing_fid` is None."""
    network: nn.Module = import_module("pytorch_fid.inception").InceptionV3([3])
    return network.eval().requires_grad_(False)


class FeatureStatistics:
    """Count, mean and covariance of features (N,D), in float64; what is added in parts equals what is added at once."""

    def __init__(self, dimensions: int) -> None:
        self.count = 0
        self._sum = torch.zeros(dimensions, dtype=torch.float64)
        self._products = torch.zeros(dimensions, dimensions, dtype=torch.float64)

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:
        """The statistics of features (N,D)."""
        return cls(features.shape[1]).add(features)

    def add(self, features: Tensor) -> FeatureStatistics:
        """Add features (N,D). Raises ValueError for another shape or values that are not finite."""
        if features.dim() != 2 or features.shape[1] != len(self._sum) or not features.isfinite().all():
            raise ValueError(f"features must be finite and (N, {len(self._sum)}), got {tuple(features.shape)}")
        values = features.detach().cpu().double()
        self.count += len(values)
        self._sum += values.sum(0)
        self._products += values.T @ values
        return self

    @property
    def mean(self) -> Tensor:
        """Of each dimension, (D,)."""
        return self._sum / self.count

    @property
    def covariance(self) -> Tensor:
        """(D,D), divided by N - 1. Raises MediaError for fewer than two frames."""
        if self.count < 2:
            raise MediaError(f"A Frechet distance needs at least 2 frames on each side, got {self.count}.")
        return (self._products - self.count * torch.outer(self.mean, self.mean)) / (self.count - 1)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """``|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))``: Heusel et al. 2017, eq. 6.

    The trace of the root is taken from the symmetric ``S_a^(1/2) S_b S_a^(1/2)``, which has the same eigenvalues and stays
    real for singular covariances (N <= D). The distance falls with N even between sets of one distribution.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp_min(0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * shared
    return max(0.0, float(distance))
