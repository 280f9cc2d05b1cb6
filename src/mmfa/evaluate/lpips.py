"""Perceptual distances: the official LPIPS where its weights are, and a stand-in with its own name."""

from __future__ import annotations

from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .official import missing_official

_FILE, _SHA256 = "alexnet-owt-7be5be79.pth", "7be5be79"


def missing_lpips() -> str | None:
    """Why the official LPIPS can't be measured here; None when it can."""
    return missing_official(_FILE, _SHA256, "lpips", "torchvision")


def official_lpips() -> nn.Module:
    """Zhang et al.'s own network; only to be called when `missing_lpips` is None."""
    network: nn.Module = import_module("lpips").LPIPS(net="alex", verbose=False)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def lpips(network: nn.Module, generated: Tensor, driving: Tensor) -> Tensor:
    """Images (B,3,H,W) in [0,1] through `official_lpips` -> (B,)."""
    distances: Tensor = network(generated, driving, normalize=True)
    return distances.flatten().double()


def lpips_lite0(generated: list[Tensor], driving: list[Tensor]) -> Tensor:
    """Taps of `EfficientNetLite0`, each (B,C,H,W) -> (B,) in [0,4]."""
    layers = []
    for a, b in zip(generated, driving, strict=True):
        difference = F.normalize(a, dim=1, eps=1e-10) - F.normalize(b, dim=1, eps=1e-10)
        layers.append(difference.square().sum(1).mean((1, 2), dtype=torch.float64))
    return torch.stack(layers).mean(0)
