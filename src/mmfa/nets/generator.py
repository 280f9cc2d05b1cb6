"""Multi-scale generator G: warped features to images at S/4, S/2 and S (A.1, Fig. 2c)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..geometry import warp
from .appearance import LayeredFeatures, SourceFeatures
from .blocks import ConvBlock, PreActivationBlock, ResBlock, UpBlock, resize, smooth_step, stack_maps, upsample
from .dense_motion import DenseFlow, LayeredFlow
from .sampling import Sampler, Sampling

_TOUCH = 0.1  # how far colours around the face may leave the photo's, of their range
_DEPTHS = (0.015, 0.055)  # from lips that speak to the inside of a wide mouth
_SHADE = (0.55, 0.75, 0.75)  # how much of red, green and blue the dark takes there; our choice, by eye


@dataclass(frozen=True)
class LiteGeneratorParams:
    """width and blocks: at the bottom. stages: widths from there up. skips: channels of the shallow features, finest first.
    hint: those of the dense motion's features.
    """

    volume_channels: int = 12
    depth: int = 8
    width: int = 96
    stages: tuple[int, ...] = (64, 32, 16)
    skips: tuple[int, ...] = (16, 32, 64)
    blocks: int = 2
    hint: int = 48


class LiteGenerator(nn.Module):
    """Warped volume (B,C,D,S/8,S/8) and warped shallow features to images at S/4, S/2, S; each in [0,1].

    At every resolution the image is a learned blend of the warped photo, which carries skin and hair, and of generated
    colour, which fills what the photo never showed (teeth, lids, disocclusions). Where the driving mouth or eye is open and
    the photo's is not, the photo is kept less from the start, whatever the blend would like: stretched lips are no teeth, and a
    colour that is never shown is never learned. Beside and above the head the photo's background is all there is: a generated
    colour could only be a rim of hair that might have been there. Hair is the photo's too, and only touched up. Deep inside an
    open mouth what is painted is in the dark: the mean of teeth, tongue and gap, which is what little training paints, is a grey.
    """

    def __init__(self, params: LiteGeneratorParams) -> None:
        super().__init__()
        self.params = params
        self.bottom = nn.Sequential(
            ConvBlock(params.volume_channels * params.depth, params.width),
            *(ResBlock(params.width) for _ in range(params.blocks)),
        )
        ups, merges, outputs = [], [], []
        channels = params.width
        for stage, skip in zip(params.stages, reversed(params.skips), strict=True):
            ups.append(nn.Conv2d(channels, stage, 1))
            merges.append(ConvBlock(stage + skip, stage))
            output = nn.Conv2d(stage, 4, 3, 1, 1)
            nn.init.constant_(output.bias[3], 2.0)  # type: ignore[index]
            outputs.append(output)
            channels = stage + 4
        self.hint = nn.Conv2d(params.hint, params.stages[0], 1)
        nn.init.zeros_(self.hint.weight)
        nn.init.zeros_(self.hint.bias)  # type: ignore[arg-type]
        self.ups, self.merges, self.outputs = nn.ModuleList(ups), nn.ModuleList(merges), nn.ModuleList(outputs)
        self.openings = nn.ModuleList(nn.Conv2d(4, stage, 3, 1, 1, bias=False) for stage in params.stages)
        for opening in self.openings:
            nn.init.zeros_(opening.weight)  # type: ignore[arg-type]
        self.sampling: Sampling = "grid_sample"
        self.fresh = nn.Parameter(torch.tensor([4.0, -1.0]))  # mouth, eyes: logits of the share that is not the photo's

    def forward(self, features: LayeredFeatures, flow: LayeredFlow) -> tuple[Tensor, ...]:
        """Returns images, coarsest first: ((B,3,S/4,S/4), (B,3,S/2,S/2), (B,3,S,S))."""
        x = self.bottom(warp(features.volume, flow.volume).flatten(1, 2) * flow.occlusion)
        # How far the plate covers the head is taught by `judge_layers` alone.
        layers = torch.cat([flow.image.permute(0, 3, 1, 2), flow.plate.permute(0, 3, 1, 2), flow.background.detach()], 1)
        images: list[Tensor] = []
        for index, (up, merge, output) in enumerate(zip(self.ups, self.merges, self.outputs, strict=True)):
            level = len(self.ups) - 1 - index
            size = (features.skips[level].shape[-2], features.skips[level].shape[-1])
            x = upsample(up(x))
            if index == 0:  # a mouth that opens on a photo with closed lips: only the motion says so
                x = x + self.hint(flow.hint)
            openings = (resize(flow.openings, size) * (size[0] / 2)).sigmoid()  # soft over a pixel of this level
            x = x + self.openings[index](openings)
            fresh = (openings[:, :2] - openings[:, 2:]).clamp_min(0) * self.fresh.sigmoid()[:, None, None]
            occlusion = resize(flow.skip_occlusion[:, level, None], size)
            skip, photo = self._layers(features, resize(layers, size), occlusion, level=level)
            x = merge(stack_maps(x, skip.to(x.dtype)))
            y = output(x).float()
            keep = y[:, 3:].sigmoid() * (1 - fresh.sum(1, keepdim=True)).clamp_min(0)
            keep = torch.lerp(keep, torch.ones_like(keep), resize(flow.backdrop, size))
            painted = _in_mouth(y[:, :3].sigmoid(), resize(flow.openings[:, :1], size))
            images.append(torch.lerp(_touched_up(photo, painted, resize(flow.around, size)), photo, keep))
            if level:
                x = stack_maps(x, images[-1], keep)
        return tuple(images)

    def _layers(self, features: LayeredFeatures, layers: Tensor, occlusion: Tensor, *, level: int) -> tuple[Tensor, Tensor]:
        """The skip features (B,c,h,w), times `occlusion` (B,1,h,w), and the picture (B,3,h,w) of a level, head on plate.

        layers (B,5,h,w): the flow of the head, that of the plate, and how far the plate covers the head.
        """
        grid, behind = (flow.permute(0, 2, 3, 1) for flow in (layers[:, :2], layers[:, 2:4]))
        head, plate = (Sampler(way, self.sampling, shared=features.shared) for way in (grid, behind))
        cover = layers[:, 4:]
        near, far = (1 - cover) * occlusion, cover * occlusion
        skip = plate.read(features.plate_skips[level], far) + head.read(features.skips[level], near)
        photo, backdrop = features.pictures[level]
        picture = plate.read(backdrop, cover) + head.read(photo, 1 - cover)
        return skip, picture


def judge_layers(features: LayeredFeatures, flow: LayeredFlow) -> Tensor:
    """The photo itself on both layers, (B,3,S/2,S/2), by which the mask between them learns what is background.

    The gradient goes to the mask alone. Not the plate: it is blurred where the head was, so that the head's layer would win
    everywhere, and the plate would blur ever more. Nor the output, in which painted colours hide what the mask does.
    """
    with torch.no_grad():
        photo = features.pictures[1][0]
        head, plate = warp(photo, flow.image), warp(photo, flow.plate)
    return torch.lerp(head, plate, flow.background)


def _in_mouth(painted: Tensor, depth: Tensor) -> Tensor:
    """Colours (B,3,h,w) painted at a depth (B,1,h,w) within the lips, in grid units.

    Nothing in there is bluer than red, and far inside it is dark.
    """
    warm = torch.minimum(painted, painted[:, :1])
    painted = torch.lerp(painted, warm, smooth_step(depth, 0.0, _DEPTHS[0]))
    return painted * (1 - smooth_step(depth, *_DEPTHS) * depth.new_tensor(_SHADE)[:, None, None])


def _touched_up(photo: Tensor, painted: Tensor, around: Tensor) -> Tensor:
    """Painted colours (B,3,h,w); where `around` (B,1,h,w) is 1, the photo's (B,3,h,w), changed by at most _TOUCH."""
    limited = photo + _TOUCH * torch.tanh((painted - photo) / _TOUCH)
    return torch.lerp(painted, limited, around)


@dataclass(frozen=True)
class GeneratorParams:
    """stages: widths, coarsest first. blocks: residual blocks of each."""

    volume_channels: int = 32
    depth: int = 16
    stages: tuple[int, ...] = (256, 128, 64)
    blocks: tuple[int, ...] = (1, 1, 1)


class MultiScaleGenerator(nn.Module):
    """The paper's G: warped volume (B,C,D,S/4,S/4) to images at S/4, S/2, S; each in [0,1].

    At every resolution: residual block(s), convolution to an image, both concatenated into an up-block (A.1).
    """

    def __init__(self, params: GeneratorParams) -> None:
        super().__init__()
        self.params = params
        width = params.stages[0]
        self.bottom = nn.Sequential(ConvBlock(params.volume_channels * params.depth, width), nn.Conv2d(width, width, 1))
        self.residuals = nn.ModuleList(
            nn.Sequential(*(PreActivationBlock(stage) for _ in range(count)))
            for stage, count in zip(params.stages, params.blocks, strict=True)
        )
        self.outputs = nn.ModuleList(nn.Conv2d(stage, 3, 7, 1, 3) for stage in params.stages)
        self.ups = nn.ModuleList(UpBlock(a + 3, b) for a, b in zip(params.stages[:-1], params.stages[1:], strict=True))

    def forward(self, features: SourceFeatures, flow: DenseFlow) -> tuple[Tensor, ...]:
        """Returns images, coarsest first: ((B,3,S/4,S/4), (B,3,S/2,S/2), (B,3,S,S))."""
        x = self.bottom(warp(features.volume, flow.volume).flatten(1, 2)) * flow.occlusion
        images: list[Tensor] = []
        for index, (residual, output) in enumerate(zip(self.residuals, self.outputs, strict=True)):
            if index > 0:
                x = self.ups[index - 1](torch.cat([x, images[-1]], 1))
            x = residual(x)
            images.append(output(x).float().sigmoid())
        return tuple(images)
