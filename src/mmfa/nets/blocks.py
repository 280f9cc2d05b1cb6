"""The few building blocks that several networks share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvBlock(nn.Sequential):
    """3x3 convolution, batch norm, ReLU: (B,in,H,W) to (B,out,H/stride,W/stride)."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1, kernel: int = 3) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )


class UpConvBlock(ConvBlock):
    """Nearest doubling of height and width, then a `ConvBlock`: (B,in,H,W) to (B,out,2H,2W)."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (B,in,H,W)."""
        doubled: Tensor = super().forward(upsample(x))  # type: ignore[no-untyped-call]  # torch's Sequential has no annotations
        return doubled


class ResBlock(nn.Module):
    """Two 3x3 convolutions with an identity skip: (B,C,H,W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B,C,H,W)."""
        return F.relu(x + self.second(self.first(x)))


def mlp(sizes: tuple[int, ...], *, norm: bool = False) -> nn.Sequential:
    """Fully connected layers with (batch norm and) ReLU between them, none after the last."""
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(inputs, outputs))
        if index < len(sizes) - 2:
            layers += [nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)] if norm else [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def start_small(layers: nn.Sequential, *, std: float = 0.0) -> None:
    """Start the last linear layer of an `mlp` at zero, or at weights of a small standard deviation."""
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    if std:
        nn.init.normal_(last.weight, std=std)
    else:
        nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def upsample(x: Tensor) -> Tensor:
    """Nearest-neighbour doubling of height and width."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample maps (B,C,H,W) to `size` (height, width) bilinearly, corners on corners."""
    if (x.shape[-2], x.shape[-1]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def shrink(image: Tensor, factor: int) -> Tensor:
    """An image (B,C,H,W) at a whole fraction of its size, smoothed first."""
    if factor == 1:
        return image
    size = (image.shape[-2] // factor, image.shape[-1] // factor)
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)


def stack_maps(*maps: Tensor) -> Tensor:
    """Maps (B,C_i,H,W) stacked along their channels, in the memory layout of the first; `torch.cat` may take another."""
    if maps[0].is_contiguous():
        return torch.cat(maps, 1)
    return torch.cat([x.permute(0, 2, 3, 1) for x in maps], 3).permute(0, 3, 1, 2)


def joint_convolution(x: Tensor, *layers: nn.Conv2d) -> Tensor:
    """The outputs of several same-shaped convolutions of one input, stacked along the channels: one pass, full registers."""
    weight = torch.cat([layer.weight for layer in layers])
    bias = torch.cat([layer.bias for layer in layers if layer.bias is not None])
    return F.conv2d(x, weight, bias, layers[0].stride, layers[0].padding)


def smooth_step(x: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high`, a smooth cubic between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class DownBlock(nn.Sequential):
    """3x3(x3) convolution, batch norm, ReLU and average pooling that halves height and width; a depth axis stays."""

    def __init__(self, channels_in: int, channels_out: int, *, dims: int = 2) -> None:
        super().__init__(
            _CONV[dims](channels_in, channels_out, 3, 1, 1, bias=False),
            _NORM[dims](channels_out),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2) if dims == 2 else nn.AvgPool3d((1, 2, 2)),
        )


class UpBlock(nn.Sequential):
    """Nearest doubling of height and width (a depth axis stays), 3x3(x3) convolution, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, *, dims: int = 2) -> None:
        super().__init__(
            nn.Upsample(scale_factor=(2.0, 2.0) if dims == 2 else (1.0, 2.0, 2.0), mode="nearest"),
            _CONV[dims](channels_in, channels_out, 3, 1, 1, bias=False),
            _NORM[dims](channels_out),
            nn.ReLU(inplace=True),
        )


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU, 3x3(x3) convolution, twice, with an identity skip: (B,C,[D,]H,W) to the same."""

    def __init__(self, channels: int, *, dims: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [_NORM[dims](channels), nn.ReLU(inplace=True), _CONV[dims](channels, channels, 3, 1, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B,C,H,W), or (B,C,D,H,W) with `dims` 3."""
        changed: Tensor = x + self.layers(x)
        return changed


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions through C/4 channels, with a skip: (B,C,H,W) to (B,C,H/stride,W/stride)."""

    def __init__(self, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        inner = channels // 4
        self.layers = nn.Sequential(
            ConvBlock(channels, inner, kernel=1),
            ConvBlock(inner, inner, stride=stride),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.skip: nn.Module = nn.Identity()
        if stride > 1:
            self.skip = nn.Sequential(nn.Conv2d(channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B,C,H,W)."""
        return F.relu(self.skip(x) + self.layers(x))


class BottleneckTrunk(nn.Sequential):
    """Face-vid2vid's pose and expression trunk: (B,3,S,S) to features (B,widths[-1],h,w), h = S / 2^(1 + stages)."""

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        stem = widths[0] // 4
        layers: list[nn.Module] = [ConvBlock(3, stem, stride=2, kernel=7), nn.MaxPool2d(3, 2, 1)]
        channels = stem
        for index, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            layers.append(ConvBlock(channels, width, kernel=1))
            if index > 0:
                layers.append(Bottleneck(width, stride=2))
            layers += [Bottleneck(width) for _ in range(count)]
            channels = width
        super().__init__(*layers)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """A network in eval mode for a while; afterwards each of its layers is in the mode in which it was."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
