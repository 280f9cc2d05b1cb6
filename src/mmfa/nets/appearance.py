"""Appearance extractor F: source image to a 3D feature volume (and, in `lite`, shallow 2D features for detail)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvBlock, DownBlock, PreActivationBlock, ResBlock


@dataclass(frozen=True, kw_only=True)
class SourceFeatures:
    """What is computed once per source photo.

    volume: (B,C,D,h,w). skips: 2D features, finest first, (B,c_i,S/2^i,S/2^i); empty in the paper's model.
    image: (B,3,S,S), the photo itself in [0,1]. shared: one photo stands for the whole batch, expanded without copying.
    """

    volume: Tensor
    skips: tuple[Tensor, ...]
    image: Tensor
    shared: bool = False

    def mapped(self, change: Callable[[Tensor], Tensor], *, shared: bool = False) -> Self:
        """The same with every tensor changed."""

        def new(value: Any) -> Any:
            if isinstance(value, SourceFeatures):
                return value.mapped(change, shared=shared)
            return tuple(map(change, value)) if isinstance(value, tuple) else change(value)

        values = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "shared"}
        return replace(self, **{name: new(value) for name, value in values.items()}, shared=shared)

    @cached_property
    def pictures(self) -> tuple[Tensor, ...]:
        """The photo at the size of each skip, (B,3,S/2^i,S/2^i), finest first."""
        levels = [self.image.contiguous(memory_format=torch.channels_last)]  # as the skips are in inference
        while len(levels) < len(self.skips):
            levels.append(F.avg_pool2d(levels[-1], 2))
        return tuple(levels)


@dataclass(frozen=True, kw_only=True)
class MirroredFeatures(SourceFeatures):
    """Besides, the same of the photo's mirror image: a second view of the face, which shows what a turned head hides.

    light (B,3,h,w): by what its colours are to be multiplied, in the photo's places: faces are lit from one side.
    """

    mirror: SourceFeatures
    light: Tensor


@dataclass(frozen=True)
class LiteAppearanceParams:
    """The volume has `volume_channels` channels on `depth` levels. widths: of the 2D features, finest first."""

    volume_channels: int = 12
    depth: int = 8
    widths: tuple[int, ...] = (16, 32, 64, 96)


class LiteAppearanceExtractor(nn.Module):
    """Image (B,3,S,S) to a volume (B,C,D,S/8,S/8), keeping the shallow features as skips for the generator."""

    def __init__(self, params: LiteAppearanceParams) -> None:
        super().__init__()
        self.params = params
        stages: list[nn.Module] = [ConvBlock(3, params.widths[0])]
        for inputs, outputs in zip(params.widths[:-1], params.widths[1:], strict=True):
            stages.append(ConvBlock(inputs, outputs, stride=2))
        self.stages = nn.ModuleList(stages)
        self.to_volume = nn.Sequential(
            ResBlock(params.widths[-1]), nn.Conv2d(params.widths[-1], params.volume_channels * params.depth, 1)
        )

    def forward(self, image: Tensor) -> SourceFeatures:
        """What is computed once of photos (B,3,S,S) in [0,1]."""
        skips, x = [], image
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        volume = self.to_volume(x).unflatten(1, (self.params.volume_channels, self.params.depth))
        return SourceFeatures(volume=volume, skips=tuple(skips[:-1]), image=image)


@dataclass(frozen=True)
class AppearanceParams:
    """The volume has `volume_channels` channels on `depth` levels. blocks: how many 3D blocks refine it."""

    volume_channels: int = 32
    depth: int = 16
    widths: tuple[int, ...] = (64, 128, 256)
    blocks: int = 6


class AppearanceExtractor(nn.Module):
    """The paper's F: image (B,3,S,S) to a volume (B,C,D,S/4,S/4) refined by 3D residual blocks; no 2D skips."""

    def __init__(self, params: AppearanceParams) -> None:
        super().__init__()
        self.params = params
        widths = params.widths
        self.encoder = nn.Sequential(
            ConvBlock(3, widths[0], kernel=7),
            *(DownBlock(a, b) for a, b in pairwise(widths)),
            nn.Conv2d(widths[-1], params.volume_channels * params.depth, 1),
        )
        self.refine = nn.Sequential(*(PreActivationBlock(params.volume_channels, dims=3) for _ in range(params.blocks)))

    def forward(self, image: Tensor) -> SourceFeatures:
        """What is computed once of photos (B,3,S,S) in [0,1]."""
        volume = self.encoder(image).unflatten(1, (self.params.volume_channels, self.params.depth))
        return SourceFeatures(volume=self.refine(volume), skips=(), image=image)
