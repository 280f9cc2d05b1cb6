"""Multi-scale generator G: warped features to images at S/4, S/2 and S (A.1, Fig. 2c)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..geometry import resize_grid, warp
from .appearance import MirroredFeatures, SourceFeatures
from .blocks import ConvBlock, PreActivationBlock, ResBlock, UpBlock, resize, smooth_step, stack_maps, upsample
from .dense_motion import DenseFlow, FaceFlow
from .sampling import Sampler, Sampling

_TINT = 0.3  # how far a tint may take colours from the photo's, of their range
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


@dataclass(frozen=True)
class Drawing:
    """What the generator draws over a warped photo x: ``lerp(x + tint, paint, share)``, at any resolution.

    images: with the photo warped at the crop's own resolution, coarsest first: (B,3,S/4,S/4), (B,3,S/2,S/2), (B,3,S,S), in
    [0,1]. paint (B,3,S,S) in [0,1], share (B,1,S,S) in [0,1]: what the photo doesn't show (teeth, lids, a turned cheek), and
    where. tint (B,3,S,S): what is added elsewhere, which leaves the photo's texture alone. light (B,3,h,w): what multiplies the
    mirror image.
    """

    images: tuple[Tensor, ...]
    paint: Tensor
    share: Tensor
    tint: Tensor
    light: Tensor | None


class LiteGenerator(nn.Module):
    """Warped volume (B,C,D,S/8,S/8) and warped shallow features to what is drawn over the photo: a `Drawing`.

    At every resolution the image is a learned blend of the warped photo, which carries skin and hair and may be tinted, and of
    generated colour, which fills what the photo never showed (teeth, lids, disocclusions). Nothing is drawn but inside the face,
    and nothing where nothing changed. Where the driving mouth or eye is open and the photo's is not, the photo is kept less from
    the start, whatever the blend would like: stretched lips are no teeth, and a colour that is never shown is never learned.
    Deep inside an open mouth what is painted is in the dark: the mean of teeth, tongue and gap, which is what little training
    paints, is a grey.
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
            output = nn.Conv2d(stage, 7, 3, 1, 1)  # paint, whether to keep the photo, tint
            nn.init.constant_(output.bias[3], 2.0)  # type: ignore[index]
            nn.init.zeros_(output.weight[4:])
            nn.init.zeros_(output.bias[4:])  # type: ignore[index]
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

    def forward(self, features: MirroredFeatures, flow: FaceFlow) -> Drawing:
        """What is drawn of photos under flows."""
        volume, light = warp(features.volume, flow.volume), None
        views = [flow.image.permute(0, 3, 1, 2)]
        if flow.mirror is not None and flow.mirror_volume is not None and flow.mirrored is not None:
            near = resize(flow.mirrored, (volume.shape[-2], volume.shape[-1]))[:, :, None]
            volume = torch.lerp(volume, warp(features.mirror.volume, flow.mirror_volume), near)
            light = warp(features.light, resize_grid(flow.image, *features.light.shape[-2:]))
            views += [flow.mirror.permute(0, 3, 1, 2), flow.mirrored]
        places = torch.cat(views, 1)
        x = self.bottom(volume.flatten(1, 2) * flow.occlusion)
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
            skip, photo = self._views(features, resize(places, size), occlusion, light, level=level)
            x = merge(stack_maps(x, skip.to(x.dtype)))
            y = output(x).float()
            inside = resize(flow.inside, size)
            share = inside * (1 - y[:, 3:4].sigmoid() * (1 - fresh.sum(1, keepdim=True)).clamp_min(0))
            tint = inside * _TINT * torch.tanh(y[:, 4:])
            painted = _in_mouth(y[:, :3].sigmoid(), resize(flow.openings[:, :1], size))
            images.append(torch.lerp(photo + tint, painted, share).clamp(0, 1))
            if level:
                x = stack_maps(x, images[-1], 1 - share)
        return Drawing(tuple(images), painted, share, tint, light)

    def _views(
        self, features: MirroredFeatures, places: Tensor, occlusion: Tensor, light: Tensor | None, *, level: int
    ) -> tuple[Tensor, Tensor]:
        """The skip features (B,c,h,w), times `occlusion` (B,1,h,w), and the picture (B,3,h,w) of a level, of both views.

        places (B,5,h,w): the flow into the photo, that into its mirror image, and the latter's share. light (B,3,n,n): its light.
        Without a light (B,2,h,w): the photo alone.
        """
        photo = Sampler(places[:, :2].permute(0, 2, 3, 1), self.sampling, shared=features.shared)
        if light is None:
            return photo.read(features.skips[level], occlusion), photo.read(features.pictures[level])
        mirror, share = Sampler(places[:, 2:4].permute(0, 2, 3, 1), self.sampling, shared=features.shared), places[:, 4:]
        near, far = (1 - share) * occlusion, share * occlusion
        skip = mirror.read(features.mirror.skips[level], far) + photo.read(features.skips[level], near)
        light = resize(light, (places.shape[-2], places.shape[-1]))
        picture = light * mirror.read(features.mirror.pictures[level], share) + photo.read(features.pictures[level], 1 - share)
        return skip, picture


def _in_mouth(painted: Tensor, depth: Tensor) -> Tensor:
    """Colours (B,3,h,w) painted at a depth (B,1,h,w) within the lips, in grid units.

    Nothing in there is bluer than red, and far inside it is dark.
    """
    warm = torch.minimum(painted, painted[:, :1])
    painted = torch.lerp(painted, warm, smooth_step(depth, 0.0, _DEPTHS[0]))
    return painted * (1 - smooth_step(depth, *_DEPTHS) * depth.new_tensor(_SHADE)[:, None, None])


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
