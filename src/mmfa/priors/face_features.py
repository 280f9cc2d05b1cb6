"""A second, independent identity embedding and face-perceptual space: FaceRes, MobileNet trained on VGGFace2.

It is for the losses, so that the identity metric (`mmfa.priors.identity`) stays a judge that was never trained against,
and it takes the role of VGG-Face where that can't be had. The 6.5 MB file is not part of the package: it is looked for
in torch hub's cache and made by ``tools/convert_faceres.py`` from the npm package ``@vladmandic/human`` (MIT).

The input is what the network was trained on, BGR from 0 to 255 minus ImageNet's mean; the npm package leaves out both.
On 40 people that raised the cosine of the same person (0.84 to 0.86) and lowered that of different ones (0.38 to 0.37).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mmfa.errors import ModelError
from mmfa.priors.hub import find_hub_file, hub_path
from mmfa.priors.lite0 import SameConv
from mmfa.priors.roi import ROI_SCALE, roi_from_landmarks, sampling_grid, to_pixels

FILE = "faceres.safetensors"
_ORIGIN = "tools/convert_faceres.py and the npm package @vladmandic/human@3.3.6"
CHIP_SIZE = 224
CHIP_SCALE = 1.2  # of the landmarks' box; between 1.0 and 1.5 people are told apart equally well


@dataclass(frozen=True)
class FaceResParams:
    """widths, strides: of the 13 separable blocks. taps: blocks whose output `FaceFeatures` returns."""

    widths: tuple[int, ...] = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    strides: tuple[int, ...] = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    stem: int = 32
    taps: tuple[int, ...] = (0, 2, 4, 10, 12)


class Separable(nn.Module):
    """Depthwise 3x3 and pointwise convolution, ReLU6 behind each. Batch norms are folded."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = SameConv(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise = SameConv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        return F.relu6(self.pointwise(F.relu6(self.depthwise(x))))


class FaceFeatures(nn.Module):
    """Frozen FaceRes, differentiable with respect to the images.

    `path`: the file written by ``tools/convert_faceres.py``, by default looked for in torch hub's cache. Raises
    `ModelError` when it is not there or is not what was expected.
    """

    TAP_CHANNELS = (64, 128, 256, 512, 1024)

    mean: Tensor

    def __init__(self, path: str | Path | None = None) -> None:
        super().__init__()
        self.params = params = FaceResParams()
        self.stem = SameConv(3, params.stem, 3, 2)
        inputs = (params.stem, *params.widths[:-1])
        self.blocks = nn.ModuleList(Separable(*block) for block in zip(inputs, params.widths, params.strides, strict=True))
        self.register_buffer("mean", torch.tensor([103.939, 116.779, 123.68])[:, None, None], persistent=False)
        self._load(Path(path) if path is not None else find_hub_file(FILE, origin=_ORIGIN))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) RGB in [0, 1] -> five taps: 64 channels at 1/2, 128 at 1/4, 256 at 1/8, 512 at 1/16, 1024 at 1/32.

        All values in [0, 6]; not normalised.
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}")
        x = F.relu6(self.stem(images.flip(1) * 255 - self.mean))
        taps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.params.taps:
                taps.append(x)
        return taps

    def embed(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] and landmarks (B, >= 468, >= 2) in grid coordinates -> (B, 1024), >= 0.

        Compare embeddings by their cosine.
        """
        return self.forward(self.align(images, landmarks))[-1].mean((2, 3))

    def align(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """Chips (B, 3, 224, 224): the upright square around the landmarks; no gradient to the landmarks."""
        if landmarks.dim() != 3 or landmarks.shape[0] != len(images) or landmarks.shape[1] < 468:
            raise ValueError(f"landmarks must be ({len(images)}, >= 468, >= 2), got {tuple(landmarks.shape)}")
        height, width = images.shape[-2:]
        roi = roi_from_landmarks(to_pixels(landmarks.detach().to(images), height, width))
        roi = torch.cat([roi[:, :2], roi[:, 2:3] * (CHIP_SCALE / ROI_SCALE), roi[:, 3:]], 1)
        grid = sampling_grid(roi, height, width, CHIP_SIZE)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _load(self, path: Path) -> None:
        try:
            tensors = {name: tensor.float() for name, tensor in load_file(str(path)).items()}
            for name in [name for name in tensors if name.endswith(".gain")]:
                tensors[name.replace(".gain", ".weight")] *= tensors.pop(name)[:, None, None, None]
            self.load_state_dict(tensors)
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{path} is not what tools/convert_faceres.py writes: {reason}") from error


def available() -> bool:
    """Whether the optional weight file lies in torch hub's cache."""
    return hub_path(FILE).is_file()
