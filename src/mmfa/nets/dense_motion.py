"""Dense motion M: sparse keypoint motions to one backward flow and occlusion maps (eq. 1, 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import image_grid, polygon_distance, resize_grid, volume_grid, warp
from .anchors import COUNT, GROUPS, LIDS, MOUTH
from .blocks import ConvBlock, DownBlock, ResBlock, UpBlock, smooth_step, upsample

_BACKGROUND_LOGIT = -8.0


@dataclass(frozen=True)
class DenseFlow:
    """Backward sampling grids (driving position to source position) and occlusion maps in [0,1].

    volume: (B,D,h,w,3). The rest is None in the paper's model, which has no 2D skips.
    image: (B,4h,4w,2), of the head's layer. plate: (B,4h,4w,2), of the background's, nearly the identity.
    background: (B,1,4h,4w) in [0,1], how far the background's layer covers the head's.
    occlusion: (B,1,h,w). skip_occlusion: (B,n,2h,2w), one channel per skip.
    hint: (B,c,2h,2w), features that know how keypoints moved, for the generator.
    openings: (B,4,2h,2w), signed distances to outlines, positive inside: of the mouth and the eyes in the driving position,
    and of those of the source, at the places from which the head's layer is taken.
    """

    volume: Tensor
    image: Tensor | None
    occlusion: Tensor
    skip_occlusion: Tensor | None
    hint: Tensor | None
    plate: Tensor | None = None
    background: Tensor | None = None
    openings: Tensor | None = None


@dataclass(frozen=True)
class LiteDenseMotionParams:
    keypoints: int = COUNT
    volume_channels: int = 12
    compressed: int = 4
    widths: tuple[int, int, int] = (64, 96, 128)
    fine_width: int = 48
    skips: int = 3
    depth: int = 8
    heatmap_variance: float = 0.006
    part_width: float = 0.025


class LiteDenseMotion(nn.Module):
    """A 2D hourglass in place of the paper's 3D one, with a learned distance prior on the masks.

    Each mask logit starts as a Gaussian around its driving keypoint, of a width of its own, so that the first flow
    already moves lips and lids apart. Masks at h decide the volume's flow. The flow of shallow features has masks whose
    logits are learned at 2h and whose prior is exact at 4h: an eye is only a few pixels high.
    """

    log_width: Tensor

    def __init__(self, params: LiteDenseMotionParams) -> None:
        super().__init__()
        self.params = params
        count, (a, b, c) = params.keypoints + 1, params.widths
        self.compress = nn.Conv3d(params.volume_channels, params.compressed, 1)
        self.log_width = nn.Parameter(torch.full((params.keypoints,), -1.6))
        self.down = nn.ModuleList(
            [ConvBlock(count * (params.compressed + 1), a), ConvBlock(a, b, stride=2), ConvBlock(b, c, stride=2)]
        )
        self.middle = ResBlock(c)
        self.up = nn.ModuleList([ConvBlock(c, b), ConvBlock(2 * b, a), ConvBlock(2 * a, a)])
        self.masks = nn.Conv2d(a, count * params.depth, 1)
        self.occlusion = nn.Conv2d(a, 1, 3, 1, 1)
        self.fine = ConvBlock(a, params.fine_width)
        self.fine_masks = nn.Conv2d(params.fine_width, count, 3, 1, 1)
        self.fine_shift = nn.Conv2d(params.fine_width, 2, 3, 1, 1)
        self.skip_occlusion = nn.Conv2d(params.fine_width, params.skips, 3, 1, 1)
        for layer in (self.masks, self.fine_masks, self.fine_shift):
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for layer in (self.occlusion, self.skip_occlusion):
            nn.init.constant_(layer.bias, 2.0)  # type: ignore[arg-type]

    def forward(self, volume: Tensor, *, source: Tensor, driving: Tensor, jacobian: Tensor, scale: Tensor) -> DenseFlow:
        """volume (B,C,D,h,w); keypoints (B,K,3); jacobian (B,3,3) from `motion.jacobian`; driving scale (B,1)."""
        params = self.params
        batch, _, depth, height, width = volume.shape
        exact = torch.autocast(volume.device.type, enabled=False)  # positions need more digits than bfloat16 has
        grid = volume_grid(depth, height, width, device=volume.device)
        with exact:
            offsets = source - driving @ jacobian.transpose(1, 2)  # x_s - J x_d, per keypoint
            moved = torch.einsum("bij,dhwj->bdhwi", jacobian, grid)

        middle = depth // 2
        slices = moved[:, middle, None] + offsets[:, :, None, None]  # (B,K,h,w,3)
        slices = torch.cat([grid[middle].expand(batch, 1, -1, -1, -1), slices], 1)
        warped = warp(self.compress(volume), slices)  # (B,c,K+1,h,w)
        flat = image_grid(height, width, device=volume.device)
        heat = _heatmaps(flat, driving, params.heatmap_variance) - _heatmaps(flat, source, params.heatmap_variance)
        heat = torch.cat([torch.zeros_like(heat[:, :1]), heat], 1)
        x0 = self.down[0](torch.cat([warped.flatten(1, 2), heat], 1))
        x1 = self.down[1](x0)
        x2 = self.middle(self.down[2](x1))
        y = self.up[0](upsample(x2))
        y = self.up[1](upsample(torch.cat([y, x1], 1)))
        y = self.up[2](torch.cat([y, x0], 1))

        logits = self.masks(y).float().reshape(batch, params.keypoints + 1, -1)
        with exact:
            masks = (logits + self._prior(grid.flatten(0, 2), driving, scale)).softmax(1)
            masks = masks.unflatten(2, (depth, height, width))
            background = masks[:, 0, ..., None]
            volume_flow = background * grid + (1 - background) * moved
            volume_flow = volume_flow + torch.einsum("bkdhw,bki->bdhwi", masks[:, 1:], offsets)

        z = self.fine(upsample(y))
        rows, columns = 4 * height, 4 * width
        flat = image_grid(rows, columns, device=volume.device)
        learned = F.interpolate(
            torch.cat([self.fine_masks(z), self.fine_shift(z)], 1).float(), (rows, columns), mode="bilinear", align_corners=True
        )
        logits, shift = learned[:, :-2].flatten(2), learned[:, -2:].permute(0, 2, 3, 1)
        with exact:
            fine = (logits + self._prior(flat.flatten(0, 1), driving[..., :2], scale, parts=True)).softmax(1)
            background = fine[:, 0, :, None]
            head = fine[:, 1:] / (1 - fine[:, :1]).clamp_min(1e-6)
            shifts = offsets[..., :2] + driving[..., 2:] * jacobian[:, None, :2, 2]  # each point at its own depth
            moved2d = (flat @ jacobian[:, None, :2, :2].transpose(2, 3)).flatten(1, 2)
            image_flow = moved2d + head.transpose(1, 2) @ shifts
        residual = 0.05 * torch.tanh(shift)
        image_flow = image_flow.unflatten(1, (rows, columns)) + residual
        with exact, torch.no_grad():
            here = image_grid(2 * height, 2 * width, device=volume.device)
            there = resize_grid(image_flow, 2 * height, 2 * width)
            openings = torch.cat([_openings(here.expand_as(there), driving), _openings(there, source)], 1)
        return DenseFlow(
            volume=volume_flow,
            image=image_flow,
            occlusion=self.occlusion(y).float().sigmoid(),
            skip_occlusion=self.skip_occlusion(z).float().sigmoid(),
            hint=z,
            plate=flat + residual,
            background=smooth_step(background.transpose(1, 2).unflatten(2, (rows, columns)), 0.3, 0.7),
            openings=openings,
        )

    def _prior(self, points: Tensor, keypoints: Tensor, scale: Tensor, *, parts: bool = False) -> Tensor:
        """Log-Gaussian logits (B,K+1,P) of points (P,2|3) around keypoints (B,K,2|3); depth counts less.

        With `parts`, an eye reaches as far as its keypoints' width, but inside it the nearest keypoint wins
        sharply: the upper lid of a closed eye still is not the lower one, although both keypoints lie within a pixel.
        """
        weight = points.new_tensor([1.0, 1.0, 0.3][: points.shape[1]]).sqrt()
        p, k = points * weight, keypoints * weight
        distance = (p**2).sum(-1) + (k**2).sum(-1, keepdim=True) - 2 * k @ p.T
        width = (self.log_width.exp() * scale)[..., None]
        logits = -distance / (2 * width**2)
        if parts:
            sharp = 2 * (self.params.part_width * scale)[..., None] ** 2
            pieces = list(logits.unbind(1))
            for group in map(list, GROUPS):
                inside = distance[:, group]
                nearest = inside.amin(1, keepdim=True)
                voronoi = (nearest - inside) / sharp - nearest / (2 * width[:, group] ** 2)
                for index, piece in zip(group, voronoi.unbind(1), strict=True):
                    pieces[index] = piece
            logits = torch.stack(pieces, 1)
        return torch.cat([torch.full_like(logits[:, :1], _BACKGROUND_LOGIT), logits], 1)


def _openings(places: Tensor, keypoints: Tensor) -> Tensor:
    """Signed distances (B,2,h,w) of places (B,h,w,2) to the outlines of the mouth and of the nearer eye."""
    size, points, outlines = places.shape[1:3], places.flatten(1, 2), keypoints[..., :2]
    mouth = polygon_distance(points, outlines[:, list(MOUTH)])
    eyes = torch.maximum(*(polygon_distance(points, outlines[:, list(lids)]) for lids in LIDS))
    return torch.stack([mouth, eyes], 1).unflatten(2, size)


def _heatmaps(grid: Tensor, keypoints: Tensor, variance: float) -> Tensor:
    """Gaussian bumps (B,K,h,w) around the 2D projection of keypoints (B,K,3) on a grid (h,w,2)."""
    x = torch.exp(-((grid[0, :, 0] - keypoints[..., :1]) ** 2) / (2 * variance))
    y = torch.exp(-((grid[:, 0, 1] - keypoints[..., 1:2]) ** 2) / (2 * variance))
    return y[..., :, None] * x[..., None, :]


@dataclass(frozen=True)
class DenseMotionParams:
    keypoints: int = 20
    volume_channels: int = 32
    compressed: int = 4
    depth: int = 16
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    narrowest: int = 32
    heatmap_variance: float = 0.01


class DenseMotion(nn.Module):
    """The paper's M: a 3D hourglass weighs K keypoint flows and the identity (eq. 1, 2); one occlusion map."""

    def __init__(self, params: DenseMotionParams) -> None:
        super().__init__()
        self.params = params
        count = params.keypoints + 1
        inputs = count * (params.compressed + 1)
        self.compress = nn.Conv3d(params.volume_channels, params.compressed, 1)
        widths = (inputs, *params.widths)
        self.down = nn.ModuleList([DownBlock(a, b, dims=3) for a, b in zip(widths[:-1], widths[1:], strict=True)])
        ups, channels = [], widths[-1]
        for width, skip in zip((*widths[-2:0:-1], params.narrowest), widths[-2::-1], strict=True):
            ups.append(UpBlock(channels, width, dims=3))
            channels = width + skip
        self.up = nn.ModuleList(ups)
        self.masks = nn.Conv3d(channels, count, 7, 1, 3)
        self.occlusion = nn.Conv2d(channels * params.depth, 1, 7, 1, 3)

    def forward(self, volume: Tensor, *, source: Tensor, driving: Tensor, jacobian: Tensor, scale: Tensor) -> DenseFlow:
        """As `LiteDenseMotion.forward`; `scale` is not used, the mask network sees the keypoints alone."""
        params = self.params
        batch, _, depth, height, width = volume.shape
        grid = volume_grid(depth, height, width, device=volume.device)
        with torch.autocast(volume.device.type, enabled=False):  # positions need more than bfloat16's three digits
            offsets = source - driving @ jacobian.float().transpose(1, 2)  # x_s - J x_d, per keypoint
            moved = torch.einsum("bij,dhwj->bdhwi", jacobian.float(), grid)
        flows = moved[:, None] + offsets[:, :, None, None, None]
        flows = torch.cat([grid.expand(batch, 1, -1, -1, -1, -1), flows], 1)  # (B,K+1,D,h,w,3)

        small = self.compress(volume)
        warped = torch.stack([warp(small, flow) for flow in flows.unbind(1)], 1)
        heat = _volume_heatmaps(grid, driving, params.heatmap_variance)
        heat = heat - _volume_heatmaps(grid, source, params.heatmap_variance)
        heat = torch.cat([torch.zeros_like(heat[:, :1]), heat], 1)
        levels = [torch.cat([warped.to(heat.dtype), heat[:, :, None]], 2).flatten(1, 2)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.up:
            x = torch.cat([up(x), levels.pop()], 1)
        # In bfloat16, oneDNN's backward pass of some 7x7x7 convolutions corrupts the heap (torch 2.13).
        with torch.autocast(volume.device.type, enabled=False):
            masks = self.masks(x.float()).softmax(1)
        return DenseFlow(
            volume=(masks[..., None] * flows).sum(1),
            image=None,
            occlusion=self.occlusion(x.flatten(1, 2)).float().sigmoid(),
            skip_occlusion=None, hint=None,
        )


def _volume_heatmaps(grid: Tensor, keypoints: Tensor, variance: float) -> Tensor:
    """Gaussian bumps (B,K,D,h,w) around keypoints (B,K,3) on a grid (D,h,w,3)."""
    z = torch.exp(-((grid[:, 0, 0, 2] - keypoints[..., 2:]) ** 2) / (2 * variance))
    return z[..., :, None, None] * _heatmaps(grid[0, ..., :2], keypoints, variance)[..., None, :, :]
