"""The same model, in eval mode, in a form that runs in less time: for inference only."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

from .blocks import UpConvBlock
from .dense_motion import LiteDenseMotion
from .generator import LiteGenerator
from .sampling import Sampling

M = TypeVar("M", bound=nn.Module)


def fold_batch_norms(model: M) -> M:
    """A copy of `model` (in eval mode) in which every batch norm that directly follows a layer in a Sequential is folded."""
    folded = copy.deepcopy(model)
    for module in folded.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for index in range(len(module) - 1):
            layer, norm = module[index], module[index + 1]
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[index], module[index + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
            elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                module[index], module[index + 1] = fuse_linear_bn_eval(layer, norm), nn.Identity()
    return folded


def for_inference(model: M, *, sampling: Sampling, sparing: bool = True) -> M:
    """A copy of `model` (in eval mode) with folded batch norms, convolutions of doubled maps taken before the doubling, and
    maps that keep the channels of a pixel together, in which convolutions and `nets.sampling` are fastest on a CPU. A copy
    of such a copy is one. sampling: how its generator reads the photo. sparing: whether it skips what a frame doesn't need.
    """
    folded = fold_batch_norms(model)
    for module in list(folded.modules()):
        if isinstance(module, LiteGenerator):
            layers = (SquareConv(layer) if isinstance(layer, nn.Conv2d) else layer for layer in module.outputs)
            module.outputs = nn.ModuleList(layers)
            module.sampling = sampling
        if isinstance(module, LiteDenseMotion):
            module.sparing = sparing
        for name, child in module.named_children():
            if isinstance(child, UpConvBlock):
                setattr(module, name, PhaseConvBlock(child))
            elif isinstance(child, nn.Conv2d) and child.kernel_size == child.stride == (1, 1):
                setattr(module, name, PointwiseConv(child))
    for module in folded.modules():
        if isinstance(module, nn.Conv2d | PhaseConvBlock | SquareConv):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return folded


class PointwiseConv(nn.Module):
    """A 1x1 convolution as a matrix product that leaves the channels of a pixel together; torch's own may part them."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.data)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.data)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B,in,H,W)."""
        pixels = x.permute(0, 2, 3, 1)
        out = nn.functional.linear(pixels.reshape(-1, x.shape[1]), self.weight.flatten(1), self.bias)
        return out.reshape(*pixels.shape[:3], -1).permute(0, 3, 1, 2)


class PhaseConvBlock(nn.Module):
    """What a folded `UpConvBlock` does, with 4 products for 9: (B,in,H,W) to (B,out,2H,2W).

    On a doubled map a 3x3 kernel sees only 2x2 different pixels, with some of its weights summed: other sums for
    each of the four pixels that came from one.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, block: UpConvBlock) -> None:
        super().__init__()
        layer = block[0]
        assert isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer.bias is not None
        # For the first and the second of two doubled pixels: which kernel rows see the earlier and the later pixel.
        sums = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
        weight = torch.einsum("oiyx,apy,bqx->aboipq", layer.weight.data, sums, sums)
        self.register_buffer("weight", weight.flatten(0, 2))
        self.register_buffer("bias", layer.bias.data.repeat(4))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B,in,H,W)."""
        (batch, _, height, width), channels = x.shape, len(self.bias) // 4
        phases = nn.functional.conv2d(x, self.weight, self.bias, padding=1).relu_()
        phases = phases.permute(0, 2, 3, 1).unflatten(3, (2, 2, channels))
        out = phases.new_empty(batch, height, 2, width, 2, channels)
        for row in (0, 1):
            for column in (0, 1):
                out[:, :, row, :, column] = phases[:, row : row + height, column : column + width, row, column]
        doubled: Tensor = out.reshape(batch, 2 * height, 2 * width, channels)
        return doubled.permute(0, 3, 1, 2)


class SquareConv(nn.Module):
    """A 3x3 convolution to few channels, in squares of 2x2 pixels: each register of the processor then holds a square, where
    it would hold one pixel's few channels and be mostly empty. Height and width are even.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        assert layer.kernel_size == (3, 3) and layer.stride == layer.padding == (1, 1)
        pad = nn.functional.pad
        squares = [pad(layer.weight.data, (column, 1 - column, row, 1 - row)) for row in (0, 1) for column in (0, 1)]
        self.register_buffer("weight", torch.cat(squares))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.data.repeat(4))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B,in,H,W), H and W even."""
        squares = nn.functional.conv2d(x, self.weight, self.bias, stride=2, padding=1).permute(0, 2, 3, 1)
        pixels: Tensor = squares.unflatten(3, (2, 2, -1)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return pixels.permute(0, 3, 1, 2)
