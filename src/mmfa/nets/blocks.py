"""The few building blocks that several networks share."""

from __future__ import annotations

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


class ResBlock(nn.Module):
    """Two 3x3 convolutions with an identity skip: (B,C,H,W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


def mlp(sizes: tuple[int, ...], *, norm: bool = False) -> nn.Sequential:
    """Fully connected layers with (batch norm and) ReLU between them, none after the last."""
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        layers.append(nn.Linear(inputs, outputs))
        if index < len(sizes) - 2:
            layers += [nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)] if norm else [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def upsample(x: Tensor) -> Tensor:
    """Nearest-neighbour doubling of height and width."""
    return F.interpolate(x, scale_factor=2, mode="nearest")
