"""Dense motion M: sparse keypoint motions to one backward flow and occlusion maps (eq. 1, 2)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..geometry import image_grid, polygon_distance, volume_grid, warp
from .anchors import COUNT, INNER_EYES, OVAL
from .blocks import ConvBlock, DownBlock, ResBlock, UpBlock, UpConvBlock, joint_convolution, resize, smooth_step
from .openings import blink, speak, teeth_flow
from .prior import add_prior

FOLLOW_CELLS = 15
"""Of the map of what moves with the head, to a side."""
_MARGIN = 0.25
"""How far around the face the generator may draw, in units of the canonical face."""


@dataclass(frozen=True, kw_only=True)
class DenseFlow:
    """Backward sampling grids (driving position to source position) and occlusion maps in [0,1].

    volume: (B,D,h,w,3). occlusion: (B,1,h,w).
    """

    volume: Tensor
    occlusion: Tensor


@dataclass(frozen=True, kw_only=True)
class FaceFlow(DenseFlow):
    """The flow of `lite`, of the photo and of its mirror image, and what the generator has to know of it.

    image: (B,4h,4w,2), the head's; inside the driving mouth that of the upper jaw, whose teeth no lip stretches, and at the eyes
    that of lids and eyeballs (`openings`).
    mirror, mirror_volume: as `image` and `volume`, into the mirror image of the photo.
    mirrored: (B,1,4h,4w) in [0,1], how far the mirror image takes the photo's place: where the driving face shows what the photo
    hides and the mirror image shows. 0 where nothing turns. All three are None where nothing of it shows
    (`LiteDenseMotion.sparing`).
    follow: (B,1,n,n), as in `portrait.Layer`.
    inside: (B,1,4h,4w) in [0,1], the face and its near surroundings, times whether it changed there at all: where the generator
    may draw. 0 everywhere if the driving keypoints are the photo's.
    skip_occlusion: (B,n,2h,2w), one channel per skip.
    hint: (B,c,2h,2w), features that know how keypoints moved, for the generator.
    openings: (B,4,2h,2w), signed distances to outlines, positive inside: of the mouth and the eyes in the driving position,
    and of those of the source, at the places from which the picture is taken.
    """

    image: Tensor
    mirror: Tensor | None
    mirror_volume: Tensor | None
    mirrored: Tensor | None
    follow: Tensor
    inside: Tensor
    skip_occlusion: Tensor
    hint: Tensor
    openings: Tensor


@dataclass(frozen=True, kw_only=True)
class View:
    """A picture of a head as the dense motion sees it. keypoints (B,K,3) in it; jacobian (B,3,3) from the driving position to it
    (`motion.jacobian`).
    """

    keypoints: Tensor
    jacobian: Tensor


@dataclass(frozen=True, kw_only=True)
class PaperFlow(DenseFlow):
    """The flow of the paper's model. photo: (B,h,w,2), by which no feature is taken: the same masks on the picture, each
    keypoint's motion at its own depth.
    """

    photo: Tensor


@dataclass(frozen=True)
class LiteDenseMotionParams:
    """compressed: channels of the volume that the masks see. widths: of the hourglass; fine_width: at twice its size. skips: how
    many maps of shallow features there are. heatmap_variance: of the bumps that show keypoints to it, in squared grid units.
    """

    keypoints: int = COUNT
    volume_channels: int = 12
    compressed: int = 4
    widths: tuple[int, int, int] = (64, 96, 128)
    fine_width: int = 48
    skips: int = 3
    depth: int = 8
    heatmap_variance: float = 0.006


class LiteDenseMotion(nn.Module):
    """A 2D hourglass in place of the paper's 3D one, with a learned distance prior on the masks.

    Each mask logit starts as a Gaussian around its driving keypoint, of a width of its own, so that the first flow
    already moves lips apart. Masks at h decide the volume's flow. The flow of shallow features has masks whose logits are
    learned at 2h and whose prior is exact at 4h. Lids and eyeballs follow their keypoints in closed form (`openings`): an eye
    is only a few pixels high.
    """

    log_width: Tensor

    def __init__(self, params: LiteDenseMotionParams) -> None:
        super().__init__()
        self.params = params
        self.follow_change = nn.Parameter(torch.zeros(1, 1, FOLLOW_CELLS, FOLLOW_CELLS))
        self.sparing = False
        """Whether the mirror image is left out where nothing of it shows: a branch that depends on numbers, for inference."""
        count, (a, b, c) = params.keypoints + 1, params.widths
        self.compress = nn.Conv3d(params.volume_channels, params.compressed, 1)
        self.log_width = nn.Parameter(torch.full((params.keypoints,), -1.6))
        self.down = nn.ModuleList(
            [ConvBlock(count * (params.compressed + 1), a), ConvBlock(a, b, stride=2), ConvBlock(b, c, stride=2)]
        )
        self.middle = ResBlock(c)
        self.up = nn.ModuleList([UpConvBlock(c, b), UpConvBlock(2 * b, a), ConvBlock(2 * a, a)])
        self.masks = nn.Conv2d(a, count * params.depth, 1)
        self.occlusion = nn.Conv2d(a, 1, 3, 1, 1)
        self.fine = UpConvBlock(a, params.fine_width)
        self.fine_masks = nn.Conv2d(params.fine_width, count, 3, 1, 1)
        self.fine_shift = nn.Conv2d(params.fine_width, 2, 3, 1, 1)
        self.fusion = nn.Conv2d(params.fine_width, 1, 3, 1, 1)
        self.skip_occlusion = nn.Conv2d(params.fine_width, params.skips, 3, 1, 1)
        for layer in (self.masks, self.fine_masks, self.fine_shift, self.fusion):
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for layer in (self.occlusion, self.skip_occlusion):
            nn.init.constant_(layer.bias, 2.0)  # type: ignore[arg-type]

    def forward(
        self, volume: Tensor, *, photo: View, mirror: View, driving: Tensor, scale: Tensor, changed: Tensor, hidden: Tensor
    ) -> FaceFlow:
        """Volume (B,C,D,h,w) of the photo; driving keypoints (B,K,3) and scale (B,1).

        changed (B,K) in [0,1]: whether a keypoint moves other than the whole picture does. hidden (B,K) in [0,1]: whether the
        driving face shows what is around it, the photo doesn't, and its mirror image does.
        """
        depth, height, width = volume.shape[2:]
        rows, columns = 4 * height, 4 * width
        grid, flat = volume_grid(depth, height, width, device=volume.device), image_grid(rows, columns, device=volume.device)
        # Positions need more digits than bfloat16 has.
        with torch.autocast(volume.device.type, enabled=False):
            alone = self.sparing and not bool((hidden > 0).any())
            views = [
                (view, view.keypoints - driving @ view.jacobian.transpose(1, 2)) for view in (photo, mirror)[: 1 if alone else 2]
            ]
            places = grid.flatten(0, 2).T
            moved = [view.jacobian @ places for view, _ in views]  # (B,3,D*h*w) each
            reach = self.log_width.exp() * scale
        y = self._hourglass(volume, moved[0], views[0][1], source=photo.keypoints, driving=driving)
        z = self.fine(y)
        count = driving.shape[1] + 1
        masks = self.masks(y).float().reshape(len(y), count, -1)
        layers = (self.fine_masks, self.fine_shift, self.fusion, self.skip_occlusion)
        fine = joint_convolution(z, *layers).float().contiguous()
        learned = resize(fine[:, : count + 3], (rows, columns))
        with torch.autocast(volume.device.type, enabled=False):
            masks = add_prior(masks, places.T, driving, width=reach).softmax(1)
            still = masks[:, :1]
            volumes = [
                (turned + still * (places - turned) + offsets.transpose(1, 2) @ masks[:, 1:])
                .unflatten(2, (depth, height, width))
                .permute(0, 2, 3, 4, 1)
                for turned, (_, offsets) in zip(moved, views, strict=True)
            ]
            logits, points = learned[:, :count].flatten(2), flat.flatten(0, 1)
            masks = add_prior(logits, points, driving[..., :2], width=reach, absent=INNER_EYES).softmax(1)
            # Each point is moved at its own depth.
            shifts = [offsets[..., :2] + driving[..., 2:] * view.jacobian[:, None, :2, 2] for view, offsets in views]
            told = torch.cat([torch.stack([changed, hidden], 2), *shifts], 2)
            carried = (told.transpose(1, 2) @ masks[:, 1:]) / (1 - masks[:, :1]).clamp_min(1e-6)  # (B,4 or 6,4h*4w)
            flows = [
                (view.jacobian[:, :2, :2] @ points.T + part).unflatten(2, (rows, columns)).permute(0, 2, 3, 1)
                for (view, _), part in zip(views, carried[:, 2:].split(2, 1), strict=True)
            ]
            moves, unseen = carried[:, :2].unflatten(2, (rows, columns)).split(1, 1)
            flows[0] = flows[0] + (moves * 0.05 * torch.tanh(learned[:, count : count + 2])).permute(0, 2, 3, 1)
            seen = []
            for flow, shift, (view, offsets) in zip(flows, shifts, views, strict=True):
                turn = view.jacobian
                flow = blink(flow, flat, shift, driving=driving, jacobian=turn, scale=scale)
                teeth = teeth_flow(flat, offsets, driving=driving, jacobian=turn)
                seen.append(speak(flow, teeth, source=view.keypoints, driving=driving))
            image_flow, openings = seen[0]
            face = _inside(driving, scale=scale, size=(rows, columns))
            # What the mirror image shows of hair, ears and clothes is another's: they stay the photo's.
            mirrored = (face * unseen * (1 + torch.tanh(learned[:, count + 2 : count + 3]))).clamp(0, 1)
        return FaceFlow(
            volume=volumes[0],
            image=image_flow,
            mirror=None if alone else seen[1][0],
            mirror_volume=None if alone else volumes[1],
            mirrored=None if alone else mirrored,
            inside=face * moves,
            follow=nn.functional.pad(self.follow_change, (1, 1, 1, 1)).expand(len(driving), -1, -1, -1),
            occlusion=self.occlusion(y).float().sigmoid(),
            skip_occlusion=fine[:, count + 3 :].sigmoid(),
            hint=z,
            openings=openings,
        )

    def rough(self, places: Tensor, *, view: View, driving: Tensor, scale: Tensor) -> Tensor:
        """Where places (P,2) of the driving position come from in a view, (B,P,2), by the keypoints' prior alone."""
        with torch.autocast(driving.device.type, enabled=False):
            offsets = view.keypoints - driving @ view.jacobian.transpose(1, 2)
            shifts = offsets[..., :2] + driving[..., 2:] * view.jacobian[:, None, :2, 2]
            blank = driving.new_zeros(len(driving), driving.shape[1] + 1, len(places))
            masks = add_prior(blank, places, driving[..., :2], width=self.log_width.exp() * scale, absent=INNER_EYES).softmax(1)
            carried = masks[:, 1:].transpose(1, 2) @ shifts / (1 - masks[:, 0, :, None]).clamp_min(1e-6)
            return places @ view.jacobian[:, :2, :2].transpose(1, 2) + carried

    def _hourglass(self, volume: Tensor, moved: Tensor, offsets: Tensor, *, source: Tensor, driving: Tensor) -> Tensor:
        """Features (B,a,h,w) of how each keypoint would move the middle slice of the volume, and of where keypoints were."""
        depth, height, width = volume.shape[2:]
        size, middle = height * width, depth // 2
        grid = volume_grid(depth, height, width, device=volume.device)[middle].flatten(0, 1).T  # (3,h*w)
        slices = moved[:, None, :, middle * size : (middle + 1) * size] + offsets[..., None]
        slices = torch.cat([grid.expand(len(volume), 1, -1, -1), slices], 1)  # (B,K+1,3,h*w)
        places = slices.transpose(2, 3).unflatten(2, (height, width))
        warped = warp(self.compress(volume), places).flatten(1, 2)
        flat, variance = image_grid(height, width, device=volume.device), self.params.heatmap_variance
        heat = _heatmaps(flat, driving, variance) - _heatmaps(flat, source, variance)
        x0 = self.down[0](torch.cat([warped, torch.zeros_like(heat[:, :1]), heat], 1))
        x1 = self.down[1](x0)
        x2 = self.middle(self.down[2](x1))
        y = self.up[1](torch.cat([self.up[0](x2), x1], 1))
        features: Tensor = self.up[2](torch.cat([y, x0], 1))
        return features


@torch.no_grad()
def _inside(driving: Tensor, *, scale: Tensor, size: tuple[int, int]) -> Tensor:
    """Whether a place is in the face or near it (B,1,*size), of keypoints (B,K,3): 1 in its outline, 0 from `_MARGIN` outside."""
    grid = image_grid(*size, device=driving.device)
    face = polygon_distance(grid.flatten(0, 1).expand(len(driving), -1, -1), driving[:, list(OVAL), :2]).unflatten(1, size)
    inside: Tensor = smooth_step(face / scale[..., None], -_MARGIN, 0.0)[:, None]
    return inside


def _heatmaps(grid: Tensor, keypoints: Tensor, variance: float) -> Tensor:
    """Gaussian bumps (B,K,h,w) around the 2D projection of keypoints (B,K,3) on a grid (h,w,2)."""
    x = torch.exp(-((grid[0, :, 0] - keypoints[..., :1]) ** 2) / (2 * variance))
    y = torch.exp(-((grid[:, 0, 1] - keypoints[..., 1:2]) ** 2) / (2 * variance))
    return y[..., :, None] * x[..., None, :]


@dataclass(frozen=True)
class DenseMotionParams:
    """compressed: channels of the volume that the masks see. widths: of the hourglass, down; narrowest: its last one up. kernel:
    of the layers that give masks and occlusion. heatmap_variance: of the bumps that show keypoints, in squared grid units.
    """

    keypoints: int = 20
    volume_channels: int = 32
    compressed: int = 4
    depth: int = 16
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    narrowest: int = 32
    heatmap_variance: float = 0.01
    kernel: int = 7
    prior: bool = False
    """Whether mask logits start as Gaussians around the driving keypoints, as in `lite`, so that each moves its surroundings
    from the first step on."""


class DenseMotion(nn.Module):
    """The paper's M: a 3D hourglass weighs K keypoint flows and the identity (eq. 1, 2); one occlusion map."""

    def __init__(self, params: DenseMotionParams) -> None:
        super().__init__()
        self.params = params
        count = params.keypoints + 1
        inputs = count * (params.compressed + 1)
        self.compress = nn.Conv3d(params.volume_channels, params.compressed, 1)
        widths = (inputs, *params.widths)
        self.down = nn.ModuleList([DownBlock(a, b, dims=3) for a, b in pairwise(widths)])
        ups, channels = [], widths[-1]
        for width, skip in zip((*widths[-2:0:-1], params.narrowest), widths[-2::-1], strict=True):
            ups.append(UpBlock(channels, width, dims=3))
            channels = width + skip
        self.up = nn.ModuleList(ups)
        self.masks = nn.Conv3d(channels, count, params.kernel, 1, params.kernel // 2)
        self.occlusion = nn.Conv2d(channels * params.depth, 1, params.kernel, 1, params.kernel // 2)
        self.log_width = None
        if params.prior:
            self.log_width = nn.Parameter(torch.full((params.keypoints,), -1.6))
            nn.init.normal_(self.masks.weight, std=1e-3)
            nn.init.zeros_(self.masks.bias)  # type: ignore[arg-type]
            nn.init.constant_(self.occlusion.bias, 2.0)  # type: ignore[arg-type]

    def forward(self, volume: Tensor, *, source: Tensor, driving: Tensor, jacobian: Tensor, scale: Tensor) -> PaperFlow:
        """As `LiteDenseMotion.forward`. Only the masks' prior uses `scale`."""
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
            masks = self.masks(x.float())
            if self.log_width is not None:
                places, reach = grid.flatten(0, 2), self.log_width.exp() * scale
                masks = add_prior(masks.flatten(2), places, driving.float(), width=reach).unflatten(2, masks.shape[2:])
            masks = masks.softmax(1)
            # The same masks on the picture: each keypoint's motion at its own depth.
            share = masks.mean(2).flatten(2)  # (B,K+1,h*w)
            flat, plane = image_grid(height, width, device=volume.device).flatten(0, 1), jacobian.float()[:, :2]
            shifts = offsets[..., :2] + driving[..., 2:] * plane[:, None, :, 2]
            turned = flat @ plane[..., :2].transpose(1, 2)
            photo_flow = torch.lerp(turned, flat.expand_as(turned), share[:, 0, :, None]) + share[:, 1:].transpose(1, 2) @ shifts
        return PaperFlow(
            volume=(masks[..., None] * flows).sum(1),
            photo=photo_flow.unflatten(1, (height, width)),
            occlusion=self.occlusion(x.flatten(1, 2)).float().sigmoid(),
        )


def _volume_heatmaps(grid: Tensor, keypoints: Tensor, variance: float) -> Tensor:
    """Gaussian bumps (B,K,D,h,w) around keypoints (B,K,3) on a grid (D,h,w,3)."""
    z = torch.exp(-((grid[:, 0, 0, 2] - keypoints[..., 2:]) ** 2) / (2 * variance))
    return z[..., :, None, None] * _heatmaps(grid[0, ..., :2], keypoints, variance)[..., None, :, :]
