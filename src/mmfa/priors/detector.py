"""Find faces: MediaPipe's short-range detector, plus a search for faces too large or too small for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfa.priors.graph import WEIGHTS, GraphNet

INPUT_SIZE = 128
MIN_SCORE = 0.5
MIN_TILE_SCORE = 0.7  # tiles show the detector many things at the scale of a face that are none
SAME_FACE_IOU = 0.3
MARGIN = 0.25  # padding, of the longer side, for faces that fill the image
TILES = (0.6, 0.4, 0.25)  # tile sides, of the longer side, for faces that are small in it
TILE_STEP = 0.75  # at most, of a tile
ELONGATED = 3.0  # longer by shorter side: in a window of the whole image, a face of its full height is 40 pixels
STRIP_TILES = (1.0, 1.0 + 2 * MARGIN, 0.6, 0.4)  # tile sides, of the shorter side, for elongated images
MOST_TILES = 160  # of one scale; a longer strip isn't searched at that scale

Window = tuple[float, float, float]  # a square: centre x, centre y, side, in pixels


@dataclass(frozen=True)
class Detection:
    """One face: score in [0, 1]; box (4,) x0, y0, x1, y1 and keypoints (6, 2) in continuous image pixels.

    Keypoints: the two eyes (image left first), nose tip, mouth, the two ears.
    """

    score: float
    box: Tensor
    keypoints: Tensor

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return float((self.box[2:] - self.box[:2]).prod())


class FaceDetector(nn.Module):
    """Frozen face detector; ``detect(image)`` -> detections, the largest first; [] without a face."""

    centres: Tensor

    def __init__(self, path: Path = WEIGHTS / "face_detector.safetensors") -> None:
        super().__init__()
        self.network = GraphNet(path)
        self.register_buffer("centres", _cell_centres(), persistent=False)

    @torch.no_grad()
    def detect(self, image: np.ndarray | Tensor, *, at_least: int = 1) -> list[Detection]:
        """Faces in `image`, an (H, W, 3) uint8 array or a (3, H, W) tensor in [0, 1].

        The whole image is searched, then, while there are fewer than `at_least` faces, the image with a
        margin and overlapping tiles of it. Of an elongated image (a panorama) the tiles have its shorter side,
        then that with a margin, then less, and the whole is not looked at: all it shows is too small there.
        """
        picture = _as_tensor(image).to(self.centres)
        height, width = picture.shape[-2:]
        longer, shorter = max(height, width), min(height, width)
        if longer <= ELONGATED * shorter:
            whole = (width / 2, height / 2, float(longer))
            with_margin = (width / 2, height / 2, longer * (1 + 2 * MARGIN))
            searches = [([whole], MIN_SCORE), ([with_margin], MIN_SCORE)]
            searches += [(_tiles(height, width, part * longer), MIN_TILE_SCORE) for part in TILES]
        else:
            strips = [(_tiles(height, width, part * shorter), MIN_TILE_SCORE) for part in STRIP_TILES]
            searches = [strip for strip in strips if len(strip[0]) <= MOST_TILES]
        candidates = torch.zeros(0, 17)
        found: list[Detection] = []
        for windows, threshold in searches:
            candidates = torch.cat([candidates, self._candidates(picture, windows, threshold)])
            found = _merge(candidates)
            if len(found) >= at_least:
                break
        return sorted(found, key=lambda detection: detection.area, reverse=True)

    def _candidates(self, picture: Tensor, windows: list[Window], threshold: float) -> Tensor:
        """Candidates (N, 17): score, box, keypoints in image pixels, from square windows."""
        crops = torch.cat([_crop(picture, *window) for window in windows])
        raw, logits = self.network(crops * 2 - 1)
        scores = logits.squeeze(-1).clamp(-100, 100).sigmoid()
        points = raw.reshape(len(windows), -1, 8, 2) / INPUT_SIZE
        centre, extent = points[:, :, :1] + self.centres[:, None], points[:, :, 1:2]
        unit = torch.cat([centre - extent / 2, centre + extent / 2, points[:, :, 2:] + self.centres[:, None]], 2)
        frame = unit.new_tensor(windows)[:, None, None]
        pixels = (unit - 0.5) * frame[..., 2:] + frame[..., :2]
        return torch.cat([scores[..., None], pixels.flatten(2)], -1)[scores > threshold].cpu()


def _merge(candidates: Tensor) -> list[Detection]:
    """Weighted non-maximum suppression: overlapping candidates are averaged by their scores."""
    remaining = candidates[candidates[:, 0].argsort(descending=True)]
    found = []
    while len(remaining):
        boxes = remaining[:, 1:5]
        overlap = torch.minimum(boxes[0, 2:], boxes[:, 2:]) - torch.maximum(boxes[0, :2], boxes[:, :2])
        common, areas = overlap.clamp(min=0).prod(1), (boxes[:, 2:] - boxes[:, :2]).prod(1)
        same = common / (areas + areas[0] - common) > SAME_FACE_IOU
        same[0] = True
        weights = remaining[same, :1]
        mean = (remaining[same, 1:] * weights).sum(0) / weights.sum()
        found.append(Detection(float(remaining[0, 0]), mean[:4], mean[4:].reshape(6, 2)))
        remaining = remaining[~same]
    return found


def _crop(picture: Tensor, centre_x: float, centre_y: float, side: float) -> Tensor:
    """The square window (1, 3, 128, 128) of `picture` (3, H, W); black outside the image."""
    height, width = picture.shape[-2:]
    left, top, size = round(centre_x - side / 2), round(centre_y - side / 2), round(side)
    window = F.pad(picture, (-left, left + size - width, -top, top + size - height))
    shrinks = size > 2 * INPUT_SIZE
    target = (INPUT_SIZE, INPUT_SIZE)
    return F.interpolate(window[None], target, mode="bilinear", align_corners=False, antialias=shrinks)


def _tiles(height: int, width: int, side: float) -> list[Window]:
    def centres(length: int) -> list[float]:
        if length <= side:
            return [length / 2]
        count = math.ceil((length - side) / (side * TILE_STEP)) + 1
        return [side / 2 + (length - side) * i / (count - 1) for i in range(count)]

    return [(x, y, side) for y in centres(height) for x in centres(width)]


def _cell_centres() -> Tensor:
    """Where (896, 2), in [0, 1], the detector looks for a face: two per cell of 16x16 and six per cell of 8x8, at its centre."""
    centres = []
    for cells, count in ((16, 2), (8, 6)):
        steps = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        centres.append(torch.stack([x, y], -1).reshape(-1, 2).repeat_interleave(count, 0))
    return torch.cat(centres)


def _as_tensor(image: np.ndarray | Tensor) -> Tensor:
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1) / 255
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"image must be (3, H, W), got {tuple(image.shape)}")
    return image
