"""Discriminator: real or generated, patch by patch; its features also serve the feature matching loss (section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


@dataclass(frozen=True)
class Judgement:
    """features: one map (B,c_i,h_i,w_i) per stage, finest first. logits: (B,1,h,w), unbounded (least-squares GAN)."""

    features: tuple[Tensor, ...]
    logits: Tensor


@dataclass(frozen=True)
class DiscriminatorParams:
    """widths: of the stages. kernel: side of their convolutions."""

    widths: tuple[int, ...] = (64, 128, 256, 512)
    kernel: int = 4


class Discriminator(nn.Module):
    """Spectral-norm convolution, instance norm (not on the first), leaky ReLU and average pooling, stage by stage.

    Takes images (B,3,S,S) with S >= 46; the last stage is not pooled.
    """

    def __init__(self, params: DiscriminatorParams) -> None:
        super().__init__()
        self.params = params
        widths = (3, *params.widths)
        self.stages = nn.ModuleList()
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            norm = nn.InstanceNorm2d(outputs, affine=True) if index > 0 else nn.Identity()
            self.stages.append(nn.Sequential(spectral_norm(nn.Conv2d(inputs, outputs, params.kernel)), norm))
        self.logits = spectral_norm(nn.Conv2d(widths[-1], 1, 1))

    def forward(self, image: Tensor) -> Judgement:
        """What it says of images (B,3,S,S) in [0,1]."""
        features, x = [], image
        for index, stage in enumerate(self.stages):
            x = F.leaky_relu(stage(x), 0.2)
            if index < len(self.stages) - 1:
                x = F.avg_pool2d(x, 2)
            features.append(x)
        return Judgement(tuple(features), self.logits(x))


@dataclass(frozen=True)
class LiteDiscriminatorParams:
    """smoothing: pixels over which a mean is taken; what it leaves is fine detail. emphasis: by how much that is multiplied."""

    widths: tuple[int, ...] = (32, 64, 128, 128)
    smoothing: int = 5
    emphasis: float = 4.0


class LiteDiscriminator(nn.Module):
    """Strided convolutions on the image beside its own fine detail, without normalisation: sharpness is what it is there for.

    Takes images (B,3,S,S) with S >= 16. Instance norm would take away how strong fine structure is, which is all that
    tells a slightly blurred window from a sharp one; and it costs a tenth of the paper's.
    """

    def __init__(self, params: LiteDiscriminatorParams) -> None:
        super().__init__()
        self.params = params
        widths = (6, *params.widths)
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.logits = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, image: Tensor) -> Judgement:
        """What it says of images (B,3,S,S) in [0,1]."""
        size = self.params.smoothing
        fine = image - F.avg_pool2d(image, size, 1, size // 2, count_include_pad=False)
        features, x = [], torch.cat([2 * image - 1, self.params.emphasis * fine], 1)
        for stage in self.stages:
            x = F.leaky_relu(stage(x), 0.2)
            features.append(x)
        return Judgement(tuple(features), self.logits(x))
