"""The person in a photo: MediaPipe's selfie segmentation network, cured around the face and refined to the photo's pixels.

Done once per photo. The network looks at the whole photo and, where the face is small in it, at windows around the face. Of what
it calls a person the part that hangs together with the face is kept, the skull and the neck are always in it, and a guided
filter lays its edge along the photo's hair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor, nn

from mmfa.priors.graph import WEIGHTS, GraphNet
from mmfa.priors.groups import FACE_OVAL
from mmfa.priors.guided import box_mean, refine
from mmfa.priors.masks import Mask, closed, connected, grown, holes, polygon

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
Field = NDArray[np.float32]
Points = NDArray[np.float64]

INPUT_SIZE = 256
ELONGATED = 1.75  # longer by shorter side of a window; beyond it, being squeezed into a square harms the network
REACHES = (10.0, 4.0)  # sides of the windows around the face, in face heights
MOST_STRIPS = 5  # windows along an elongated photo, those nearest to the face
FEATHER = 0.12  # of a window's side, over which it eases into what wider windows saw
BRIGHTENED = 0.6  # exponent of the second look: dark hair before a dark wall
WORK_SIDE = 640  # longer side of the grid that masks are worked on, in pixels
WORK_FACE, MOST_WORK = 96, 768  # small faces get a finer grid, up to this side
SURE = 0.5  # what the network must say on average inside the face oval
RADIUS = 0.045  # of the guided filter, in face heights


@dataclass(frozen=True)
class Matte:
    """alpha (H, W) float32 in [0, 1]: how much of each pixel is the person. useful: whether the network saw the person.

    If it didn't, `alpha` is drawn from the landmarks alone, and `reason` says why in a few words.
    """

    alpha: Field
    useful: bool
    reason: str = ""


@dataclass(frozen=True)
class _Head:
    """Where a head is, in the pixels of some grid: outline (36, 2), middle, between the ears, chin (2,), up (2,), a unit vector,
    and height from chin to hairline.
    """

    outline: Points
    middle: Points
    ears: Points
    chin: Points
    up: Points
    height: float

    @staticmethod
    def of(points: Points) -> _Head:
        """Landmarks (478, 2 or 3) in pixels. The height is measured in space: nodding doesn't shorten it."""
        outline = points[list(FACE_OVAL), :2]
        line = points[10] - points[152]
        up = line[:2] if np.linalg.norm(line[:2]) > 1e-6 else np.array([0.0, -1.0])
        height = max(float(np.linalg.norm(line)), float(np.ptp(outline, axis=0).max()), 1e-3)
        middle = (outline.min(0) + outline.max(0)) / 2
        ears = (points[234, :2] + points[454, :2]) / 2
        return _Head(outline, middle, ears, points[152, :2], up / np.linalg.norm(up), height)

    def scaled(self, by: Points) -> _Head:
        """In a grid that is `by` (2,) times as fine; both factors are all but equal."""
        outline, middle, ears, chin = (part * by for part in (self.outline, self.middle, self.ears, self.chin))
        return _Head(outline, middle, ears, chin, self.up, self.height * math.sqrt(by.prod()))

    @property
    def down(self) -> Points:
        """Where the body is: halfway between the head's axis and the vertical, or along the axis of a lying head."""
        half = np.array([0.0, 1.0]) - self.up
        length = float(np.linalg.norm(half))
        return half / length if length > 1 else -self.up


class PersonMatte(nn.Module):
    """Frozen person segmentation; ``matte(image, landmarks)`` cuts one person out of a photo."""

    def __init__(self, path: Path = WEIGHTS / "selfie_segmentation.safetensors") -> None:
        super().__init__()
        self.network = GraphNet(path)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, 256, 256) RGB in [0, 1] -> person masks (B, 256, 256) in [0, 1], as the network says."""
        mask: Tensor = self.network(images)[0]
        return mask.reshape(-1, INPUT_SIZE, INPUT_SIZE)

    @torch.no_grad()
    def matte(
        self, image: NDArray[np.uint8], landmarks: Any, *, head: ArrayLike | None = None, others: Sequence[Sequence[float]] = ()
    ) -> Matte:
        """Cut the person with these landmarks out of a photo.

        Args:
            image: (H, W, 3) uint8. Time and memory grow with its size; up to 1920 pixels a side both are small.
            landmarks: (478, 2 or 3), an array or a tensor, in pixels of the photo.
            head: (H, W) in [0, 1], what is known to be the person besides, such as a hat that the network drops.
            others: boxes (x0, y0, x1, y1) of other faces in the photo; people who touch are parted halfway.

        Raises:
            ValueError: arguments of other shapes, or landmarks that aren't finite.
        """
        image = _checked(image)
        height, width = image.shape[:2]
        face = _Head.of(_landmarks(landmarks))
        rows, cols = _work_size(height, width, face.height)
        to_work = np.array([cols / width, rows / height])
        drawn = face.scaled(to_work)
        known = None if head is None else _reduced(head, height, width, rows, cols)
        parted = [_box(other) * np.tile(to_work, 2) for other in others]
        raw = self._seen(image, face, rows, cols)
        oval = polygon(drawn.outline, rows, cols)
        sure = _skull(drawn, rows, cols) | oval
        reason = _fault(raw, oval, sure)
        if reason:
            person = _drawn(drawn, rows, cols)
        else:
            person = _person(raw if known is None else np.maximum(raw, known), sure, drawn, parted)
        radius = max(1, round(RADIUS * drawn.height))
        alpha = refine(image, person, grown(oval, -max(1, radius // 3)), radius=radius)
        return Matte(alpha, not reason, reason)

    def _seen(self, image: NDArray[np.uint8], face: _Head, rows: int, cols: int) -> Field:
        """What the network says (rows, cols): of the whole photo, and then of ever closer windows around the face."""
        height, width = image.shape[:2]
        scale_x, scale_y = cols / width, rows / height
        windows = _windows(height, width, face)
        picture = Image.fromarray(image)
        resized = [picture.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR, box=window) for window in windows]
        views = np.stack([np.asarray(view) for view in resized])
        masks = self._looked(torch.from_numpy(views).permute(0, 3, 1, 2).float() / 255)
        seen, known = np.zeros((rows, cols), np.float32), np.zeros((rows, cols), np.float32)
        for window, mask in zip(windows, masks, strict=True):
            x0, x1 = round(window[0] * scale_x), max(round(window[2] * scale_x), round(window[0] * scale_x) + 1)
            y0, y1 = round(window[1] * scale_y), max(round(window[3] * scale_y), round(window[1] * scale_y) + 1)
            part = F.interpolate(mask[None, None], (y1 - y0, x1 - x0), mode="bilinear", antialias=True)[0, 0].numpy()
            weight = np.outer(_ease(y0, y1, rows), _ease(x0, x1, cols)).astype(np.float32)
            area = np.s_[y0:y1, x0:x1]
            weight = np.maximum(weight, 1 - known[area])  # nothing wider to ease into
            seen[area] += weight * (part - seen[area])
            known[area] = 1
        return seen

    def _looked(self, views: Tensor) -> Tensor:
        """The mean of three looks at each view: as it is, mirrored and brightened."""
        device = next(self.network.buffers()).device
        masks = []
        for view in views[:, None].to(device):
            plain, mirrored, bright = self(torch.cat([view, view.flip(3), view.clamp_min(1e-4) ** BRIGHTENED]))
            masks.append((plain + mirrored.flip(1) + bright) / 3)
        return torch.stack(masks).cpu()


# -- what the network looks at -------------------------------------------------------------------------------------------


def _windows(height: int, width: int, face: _Head) -> list[Box]:
    """Windows in pixels, from the widest: the whole photo (strips of an elongated one), then around the face."""
    x, y = np.clip(face.middle, 0, [width, height])
    longer, shorter = max(height, width), min(height, width)
    whole = [(0.0, 0.0, float(width), float(height))]
    windows = whole if longer <= ELONGATED * shorter else _strips(height, width, x, y)
    size = longer
    for reach in REACHES:
        side = reach * face.height
        low, high = y - 0.42 * side, y + 0.58 * side  # shoulders are worth more than air
        window = (max(x - side / 2, 0.0), max(low, 0.0), min(x + side / 2, width), min(high, height))
        extent = max(window[2] - window[0], window[3] - window[1])
        if extent < 0.75 * size and min(window[2] - window[0], window[3] - window[1]) >= 1:
            windows.append(window)
            size = extent
    return windows


def _strips(height: int, width: int, x: float, y: float) -> list[Box]:
    """Overlapping windows along an elongated photo, the one with the face last."""
    upright = height > width
    longer, shorter, at = (height, width, y) if upright else (width, height, x)
    side = min(1.5 * shorter, longer)
    middle = min(max(at - side / 2, 0.0), longer - side)
    starts = {
        min(max(middle + 0.75 * side * step, 0.0), longer - side) for step in range(-(MOST_STRIPS // 2), MOST_STRIPS // 2 + 1)
    }
    ordered = sorted(starts, key=lambda start: -abs(start - middle))
    return [(0.0, s, float(width), s + side) if upright else (s, 0.0, s + side, float(height)) for s in ordered]


def _ease(start: int, end: int, size: int) -> Field:
    """Weights (end - start,): 1, falling to 0 at the ends that aren't the photo's."""
    length = end - start
    at = (np.arange(length) + 0.5) / max(FEATHER * length, 1)
    weight = np.ones(length)
    if start > 0:
        weight = np.minimum(weight, at)
    if end < size:
        weight = np.minimum(weight, at[::-1])
    return weight.astype(np.float32)


# -- cures ---------------------------------------------------------------------------------------------------------------


def _fault(raw: Field, oval: Mask, sure: Mask) -> str:
    """Why the network's mask can't be used; empty if it can."""
    if not oval.any():
        return "the face lies outside the photo"
    if sure.mean() > 0.9:
        return ""  # the head fills the photo: nothing to ask the network
    if float(raw[oval].mean()) < SURE:
        return "no person was found where the face is"
    area, beside = int(oval.sum()), raw[~sure] > 0.5
    if beside.size > 2 * area and beside.sum() < 0.1 * area:
        return "hardly more than a face was found"
    if beside.size > 20 * area and beside.mean() > 0.98:
        return "the whole photo was taken for a person"
    return ""


def _person(raw: Field, sure: Mask, head: _Head, others: list[Points]) -> Field:
    """The sitter (rows, cols) in [0, 1]: what hangs together with the head; the rest of `raw` goes."""
    raw = _to_the_edges(raw)
    near, hat = _about_the_head(head, *raw.shape)
    raw = np.clip(raw + 0.2 * hat, 0, 1)  # caps and dark hair are what the network drops most
    raw[sure] = 1
    if others:
        raw = np.where(sure | _ours(raw.shape, head, others), raw, 0)
    mask = raw > 0.5
    thin = max(1, round(0.06 * head.height))
    core = connected(grown(mask, -thin) | sure, sure)
    kept = connected(mask & grown(core, 3 * thin), sure)
    filled = kept | (closed(kept, 2 * thin) & (hat > 0)) | (holes(kept, round(0.15 * head.height**2)) & near)
    raw[filled & ~kept] = 1
    edge = grown(filled, 2 * thin)  # the soft edge of the kept part
    return np.where(edge, np.clip((raw - 0.3) / 0.4, 0, 1), 0).astype(np.float32)


def _to_the_edges(raw: Field) -> Field:
    """The network is unsure at the photo's edges; what goes on beyond them goes on to them."""
    out = raw.copy()
    for axis in (0, 1):
        view = np.moveaxis(out, axis, 0)
        rim = min(max(1, round(0.015 * len(view))), len(view) - 1)
        view[:rim] = np.maximum(view[:rim], view[rim])
        view[len(view) - rim :] = np.maximum(view[len(view) - rim :], view[len(view) - 1 - rim])
    return out


def _skull(head: _Head, rows: int, cols: int) -> Mask:
    """What is head and neck under any hat: a disc over the ears and a bar below the chin."""
    y, x = np.mgrid[:rows, :cols] + 0.5
    centre = head.ears + 0.28 * head.height * head.up
    skull = np.hypot(x - centre[0], y - centre[1]) < 0.36 * head.height
    start, end = head.chin - 0.1 * head.height * head.down, head.chin + 0.3 * head.height * head.down
    along = np.clip(((x - start[0]) * (end - start)[0] + (y - start[1]) * (end - start)[1]) / (0.4 * head.height) ** 2, 0, 1)
    neck = np.hypot(x - start[0] - along * (end - start)[0], y - start[1] - along * (end - start)[1]) < 0.15 * head.height
    found: Mask = skull | neck
    return found


def _ours(shape: tuple[int, ...], head: _Head, others: list[Points]) -> Mask:
    """What is nearer to this body than to another's; a body is a line down from the face, measured in its own size."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5

    def distance(middle: ArrayLike, down: ArrayLike, height: float) -> Points:
        cx, cy = np.asarray(middle)
        dx, dy = np.asarray(down)
        along = np.clip((x - cx) * dx + (y - cy) * dy, 0, 6 * height)
        far: Points = np.hypot(x - cx - along * dx, y - cy - along * dy) / height
        return far

    own = distance(head.middle, head.down, head.height)
    near = np.ones(shape, bool)
    for x0, y0, x1, y1 in others:
        if x0 <= head.middle[0] <= x1 and y0 <= head.middle[1] <= y1:
            continue  # it is this face
        near &= own < distance(((x0 + x1) / 2, (y0 + y1) / 2), (0.0, 1.0), max(x1 - x0, y1 - y0, 1e-3))
    return near


def _about_the_head(head: _Head, rows: int, cols: int) -> tuple[Mask, Field]:
    """Pixels within a face height of the ears' middle, and which may be a hat's, in [0, 1]: near the skull, over the brows."""
    y, x = np.mgrid[:rows, :cols] + 0.5
    x, y = x - head.ears[0], y - head.ears[1]
    above = (x * head.up[0] + y * head.up[1]) / head.height
    aside = (x * head.up[1] - y * head.up[0]) / head.height
    hat = np.clip((0.85 - np.hypot(aside, above - 0.28)) / 0.2, 0, 1) * np.clip((above - 0.15) / 0.1, 0, 1)
    return np.hypot(aside, above) < 1, hat.astype(np.float32)


# -- without the network -------------------------------------------------------------------------------------------------


def _drawn(head: _Head, rows: int, cols: int) -> Field:
    """Head, neck and shoulders (rows, cols) as the landmarks alone place them, the shoulders down to the photo's edge."""
    up, down, size = head.up, head.down, head.height
    aside = np.array([down[1], -down[0]])
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)[:, None]
    centre = head.middle * 0.5 + head.ears * 0.5 + 0.14 * size * up
    across = np.array([up[1], -up[0]])
    outline = centre + 0.78 * size * np.sin(turn) * up + 0.56 * size * np.cos(turn) * across
    far = 2.0 * (rows + cols) / size
    sides = [(-0.3, 0.3), (0.25, 0.32), (0.6, 0.8), (0.95, 1.2), (2.5, 1.45), (far, 1.45)]
    body = [head.chin + size * (along * down + wide * aside) for along, wide in sides]
    body += [head.chin + size * (along * down - wide * aside) for along, wide in reversed(sides)]
    shape = polygon(outline, rows, cols) | polygon(np.stack(body), rows, cols)
    soft = torch.from_numpy(shape).float()[None]
    radius = min(max(1, round(0.05 * size)), max(rows, cols))
    drawn: Field = box_mean(box_mean(soft, radius), radius)[0].numpy()
    return drawn


# -- helpers -------------------------------------------------------------------------------------------------------------


def _checked(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    return np.ascontiguousarray(image)


def _landmarks(landmarks: Any) -> Points:
    points = np.asarray(landmarks.detach().cpu() if isinstance(landmarks, Tensor) else landmarks, np.float64)
    if points.ndim != 2 or points.shape[0] < 468 or points.shape[1] not in (2, 3):
        raise ValueError(f"landmarks must be (478, 2 or 3), got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("landmarks must be finite")
    return points


def _work_size(height: int, width: int, face: float) -> tuple[int, int]:
    """Rows and columns of the grid that masks are worked on: never more than the photo has."""
    longer = max(height, width)
    scale = min(1.0, max(WORK_SIDE / longer, min(WORK_FACE / face, MOST_WORK / longer)))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _box(values: Sequence[float]) -> Points:
    box = np.asarray(values, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise ValueError(f"others must be boxes of four finite numbers, got {values!r}")
    return box


def _reduced(field: ArrayLike, height: int, width: int, rows: int, cols: int) -> Field:
    """What the caller knows, on the grid (rows, cols)."""
    values = np.nan_to_num(np.asarray(field, np.float32))
    if values.shape != (height, width):
        raise ValueError(f"head must be ({height}, {width}) like the image, got {values.shape}")
    small = F.interpolate(torch.from_numpy(values)[None, None], (rows, cols), mode="area")[0, 0]
    known: Field = small.clamp(0, 1).numpy()
    return known
