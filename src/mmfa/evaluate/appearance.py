"""What is measured on whole frames: pixels, perceptual distance and the features of the Frechet distance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from ..errors import MediaError
from ..media.image import Array
from ..priors.lite0 import EfficientNetLite0
from .definitions import METRICS, OF_PIXELS, OF_RING, of_frames
from .extractors import batches, to_tensors
from .frechet import missing_fid, official_inception
from .lpips import missing_lpips, official_lpips
from .ring import Photo, ring_of, warped


@dataclass(frozen=True)
class PairMeasures:
    """Two aligned clips of T frames. values: (T,) of each metric, named and in the units of `METRICS`; flicker is NaN at the
    first frame. Features (T,D) of both sides belong to `AppearanceMeasurer.frechet_name`.
    """

    values: dict[str, Tensor]
    generated_features: Tensor
    driving_features: Tensor

    def __len__(self) -> int:
        return len(self.generated_features)

    @staticmethod
    def concatenate(parts: list[PairMeasures]) -> PairMeasures:
        """The clips one after the other."""
        return PairMeasures(
            values={name: torch.cat([part.values[name] for part in parts]) for name in parts[0].values},
            generated_features=torch.cat([part.generated_features for part in parts]),
            driving_features=torch.cat([part.driving_features for part in parts]),
        )


@dataclass(frozen=True)
class Around:
    """What the metrics of the ring need besides the frames. points: landmarks (T,478,3) of the driving frames; photo: what they
    drive.
    """

    points: Tensor
    photo: Photo

    def __getitem__(self, frames: slice) -> Around:
        return Around(self.points[frames], self.photo)


class AppearanceMeasurer:
    """Measure whole frames: the official LPIPS and FID networks where they are, EfficientNet-Lite0 under its own names else.

    Raises ModelError when a stand-in is needed and its package isn't installed.
    """

    def __init__(self, *, batch: int = 8, device: str = "cpu") -> None:
        self.batch, self.device = batch, torch.device(device)
        self._lpips = None if missing_lpips() else official_lpips().to(self.device)
        self._inception = None if missing_fid() else official_inception().to(self.device)
        self.perceptual_name = "lpips" if self._lpips else "lpips_lite0"
        self.frechet_name = "fid" if self._inception else "fd_lite0"
        self.dimensions = 2048 if self._inception else EfficientNetLite0.TAP_CHANNELS[-1]
        # Channels last: the distances of lpips_lite0 run along the channels, and cost 1 ms a pair instead of 8.
        needed = not (self._lpips and self._inception)
        self._lite0 = EfficientNetLite0().to(self.device).to(memory_format=torch.channels_last) if needed else None  # type: ignore[call-overload]

    def measure(self, generated: Iterable[Array], driving: Iterable[Array]) -> PairMeasures:
        """All of `stream`, in one: under 2 kB a frame with the stand-ins. Raises MediaError for no frames or unusable ones."""
        parts = list(self.stream(generated, driving))
        if not parts:
            raise MediaError("There are no frames to measure.")
        return PairMeasures.concatenate(parts)

    @torch.no_grad()
    def stream(
        self, generated: Iterable[Array], driving: Iterable[Array], *, around: Around | None = None
    ) -> Iterator[PairMeasures]:
        """Consecutive frames (S,S,3) uint8 of both -> one part for each batch; no more than a batch of each is held.

        around: also the metrics of the ring. Raises MediaError when the clips differ in length or size.
        """
        before: tuple[Tensor, Tensor] | None = None
        done = 0
        for a, b in zip_longest(batches(generated, self.batch), batches(driving, self.batch)):
            if a is None or b is None or len(a) != len(b):
                shorter = "generated" if a is None or (b is not None and len(a) < len(b)) else "driving"
                ends = done + min(0 if x is None else len(x) for x in (a, b))
                raise MediaError(f"The {shorter} clip ends after {ends} frames, the other goes on; frames can't be dropped.")
            if a.shape != b.shape:
                raise MediaError(f"Generated frames have {a.shape[1]} pixels a side, driving frames {b.shape[1]}.")
            images = to_tensors(a, self.device), to_tensors(b, self.device)
            yield self._measure(*images, before, None if around is None else around[done : done + len(a)])
            before, done = (images[0][-1:], images[1][-1:]), done + len(a)

    @torch.no_grad()
    def features(self, frames: Iterable[Array]) -> Iterator[Tensor]:
        """Features (B,D) for `frechet_name`, batch by batch, of frames that have no counterpart."""
        for images in batches(frames, self.batch):
            yield torch.cat([self._features(image, self._taps(image)) for image in self._parts(to_tensors(images, self.device))])

    def _measure(
        self, generated: Tensor, driving: Tensor, before: tuple[Tensor, Tensor] | None, around: Around | None
    ) -> PairMeasures:
        perceptual = METRICS[self.perceptual_name]
        distances, features_a, features_b = [], [], []
        for a, b in zip(self._parts(generated), self._parts(driving), strict=True):
            taps_a, taps_b = self._taps(a), self._taps(b)
            distances.append(perceptual.compute(*((self._lpips, a, b) if self._lpips else (taps_a, taps_b))))
            features_a.append(self._features(a, taps_a))
            features_b.append(self._features(b, taps_b))
        values = _of_pixels(generated, driving, before) | {perceptual.name: torch.cat(distances)}
        if around is not None:
            values |= _of_ring(generated, driving, around)
        return PairMeasures(
            values={name: row.cpu() for name, row in values.items()},
            generated_features=torch.cat(features_a),
            driving_features=torch.cat(features_b),
        )

    def _parts(self, images: Tensor) -> tuple[Tensor, ...]:
        # On a CPU one image at a time is twice as fast as a batch: the wide early maps stay in the cache.
        return torch.split(images, 1 if self.device.type == "cpu" else self.batch)

    def _taps(self, images: Tensor) -> list[Tensor]:
        return self._lite0(images.contiguous(memory_format=torch.channels_last)) if self._lite0 else []

    def _features(self, images: Tensor, taps: list[Tensor]) -> Tensor:
        pooled = self._inception(images)[0] if self._inception else taps[-1]
        return pooled.mean((2, 3)).cpu()


def _of_pixels(generated: Tensor, driving: Tensor, before: tuple[Tensor, Tensor] | None) -> dict[str, Tensor]:
    """The metrics (B,) of images (B,3,H,W) as they are; before: those that came just before them, (1,3,H,W) each."""
    sides = (generated, driving)
    with_before = sides if before is None else (torch.cat([before[0], generated]), torch.cat([before[1], driving]))
    values: dict[str, Tensor] = {}
    for metric in of_frames(*OF_PIXELS):
        if metric.needs == "images":
            parts = zip(*(torch.split(side, 1) for side in sides), strict=True)
            values[metric.name] = torch.cat([metric.compute(a, b) for a, b in parts])
        else:
            values[metric.name] = metric.compute(*with_before)[-len(generated) :]
    return values


def _of_ring(generated: Tensor, driving: Tensor, around: Around) -> dict[str, Tensor]:
    """The metrics (B,) of the ring around the face, of images (B,3,S,S)."""
    points = around.points.to(generated.device)
    ring = ring_of(points, generated.shape[-1])
    photo = warped(around.photo, points)
    return {
        metric.name: metric.compute(generated, driving, ring, *([photo] if metric.needs == "ring and photo" else []))
        for metric in of_frames(*OF_RING)
    }
