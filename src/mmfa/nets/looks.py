"""What a face looks like, for the canonical keypoints: the first layers of a landmark network, frozen, and where they look."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SIZE = 192  # of the square that the network was trained on, in pixels
_REACH = 1.0  # half a side of the square, in units of the face: brows to chin, and little of what is behind
_CELLS = 3
_STAGES = ((16, 16), (32, 32, 32), (64, 64, 64), (128, 128, 128), (128, 128, 128))
_READ = 3  # the last stages are read
LOOKS = _CELLS**2 * sum(stage[-1] for stage in _STAGES[-_READ:])
"""Numbers that say what a face looks like."""


class LookEncoder(nn.Module):
    """Pictures (B,3,S,S) in [0,1] of faces whose pose is known to (B, LOOKS), the means of feature maps over 3 x 3 cells.

    The layers are those of MediaPipe's face mesh before it looks for points. Never trained here: its weights come with a model's,
    or from `mmfa.train.looks`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _STAGES[0][0], 3, 2)
        self.bend = nn.PReLU(_STAGES[0][0])
        stages, inputs = [], _STAGES[0][0]
        for number, widths in enumerate(_STAGES):
            blocks = []
            for index, width in enumerate(widths):
                blocks.append(_Block(inputs, width, stride=2 if number and index == 0 else 1))
                inputs = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.requires_grad_(False)

    def forward(self, image: Tensor, *, rotation: Tensor, scale: Tensor, translation: Tensor) -> Tensor:
        """The pose is that of `FaceInput`; the head is looked at upright, whatever its roll."""
        x = upright(image.float(), rotation=rotation, scale=scale, translation=translation)
        x = self.bend(self.stem(F.pad(x, (0, 1, 0, 1))))
        read = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number >= len(self.stages) - _READ:
                read.append(F.adaptive_avg_pool2d(x, _CELLS).flatten(1))
        return torch.cat(read, 1)


class _Block(nn.Module):
    """A separable convolution beside what goes past it, PReLU behind both. Wider outputs get zeros from what goes past."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.stride, self.more = stride, outputs - inputs
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1 if stride == 1 else 0, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)
        self.bend = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        past = F.max_pool2d(x, 2) if self.stride == 2 else x
        y = self.pointwise(self.depthwise(F.pad(x, (0, 1, 0, 1)) if self.stride == 2 else x))
        seen: Tensor = self.bend(F.pad(past, (0, 0, 0, 0, 0, self.more)) + y)
        return seen


def upright(image: Tensor, *, rotation: Tensor, scale: Tensor, translation: Tensor) -> Tensor:
    """The square (B,3,192,192) around a head in a picture (B,3,S,S), turned so that its roll is 0; the border is repeated."""
    turn = F.normalize(rotation[:, :2, 0], dim=1)  # the head's x axis in the picture
    axes = torch.stack([turn, torch.stack([-turn[:, 1], turn[:, 0]], 1)], 2) * (_REACH * scale[..., None])
    steps = (torch.arange(_SIZE, device=image.device, dtype=image.dtype) + 0.5) * (2 / _SIZE) - 1
    cells = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), 2).flatten(0, 1)
    places = cells @ axes.transpose(1, 2) + translation[:, None, :2]
    return F.grid_sample(image, places.unflatten(1, (_SIZE, _SIZE)), mode="bilinear", padding_mode="border", align_corners=True)
