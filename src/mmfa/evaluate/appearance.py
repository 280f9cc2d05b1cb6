"""What is measured on whole frames: pixels, perceptual distance and the features of the Frechet distance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import zip_longest

import torch
from torch import Tensor

from ..errors import MediaError
from ..media.image import Array
from ..priors.lite0 import EfficientNetLite0
from . import metrics
from .extractors import batches, to_tensors
from .frechet import missing_fid, official_inception
from .lpips import lpips, lpips_lite0, missing_lpips, official_lpips


@dataclass(frozen=True)
class PairMeasures:
    """Two aligned clips of T frames. psnr, ssim, perceptual, flicker and sharpness (T,), named and in the units of
    `DEFINITIONS`; `perceptual` is the metric `AppearanceMeasurer.perceptual_name`. flicker is NaN at the first frame.
    Features (T,D) of both sides belong to `AppearanceMeasurer.frechet_name`.
    """

    psnr: Tensor
    ssim: Tensor
    perceptual: Tensor
    flicker: Tensor
    sharpness: Tensor
    generated_features: Tensor
    driving_features: Tensor

    def __len__(self) -> int:
        return len(self.psnr)

    @staticmethod
    def concatenate(parts: list[PairMeasures]) -> PairMeasures:
        names = [field.name for field in fields(PairMeasures)]
        return PairMeasures(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


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
    def stream(self, generated: Iterable[Array], driving: Iterable[Array]) -> Iterator[PairMeasures]:
        """Consecutive frames (S,S,3) uint8 of both -> one part for each batch; no more than a batch of each is held.

        Raises MediaError when the clips differ in length or size.
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
            yield self._measure(*images, before)
            before, done = (images[0][-1:], images[1][-1:]), done + len(a)

    @torch.no_grad()
    def features(self, frames: Iterable[Array]) -> Iterator[Tensor]:
        """Features (B,D) for `frechet_name`, batch by batch, of frames that have no counterpart."""
        for images in batches(frames, self.batch):
            yield torch.cat([self._features(image, self._taps(image)) for image in self._parts(to_tensors(images, self.device))])

    def _measure(self, generated: Tensor, driving: Tensor, before: tuple[Tensor, Tensor] | None) -> PairMeasures:
        if before is None:
            flicker = metrics.flicker(generated, driving)
        else:
            flicker = metrics.flicker(torch.cat([before[0], generated]), torch.cat([before[1], driving]))[1:]
        distances, features_a, features_b = [], [], []
        for a, b in zip(self._parts(generated), self._parts(driving), strict=True):
            taps_a, taps_b = self._taps(a), self._taps(b)
            distances.append(lpips(self._lpips, a, b) if self._lpips else lpips_lite0(taps_a, taps_b))
            features_a.append(self._features(a, taps_a))
            features_b.append(self._features(b, taps_b))
        return PairMeasures(
            psnr=metrics.psnr(generated, driving).cpu(),
            ssim=torch.cat([metrics.ssim(a, b) for a, b in zip(generated.split(4), driving.split(4), strict=True)]).cpu(),
            perceptual=torch.cat(distances).cpu(),
            flicker=flicker.cpu(),
            sharpness=metrics.sharpness(generated, driving).cpu(),
            generated_features=torch.cat(features_a),
            driving_features=torch.cat(features_b),
        )

    def _parts(self, images: Tensor) -> tuple[Tensor, ...]:
        # On a CPU one image at a time is twice as fast as a batch: the wide early maps stay in the cache.
        return images.split(1 if self.device.type == "cpu" else self.batch)

    def _taps(self, images: Tensor) -> list[Tensor]:
        return self._lite0(images.contiguous(memory_format=torch.channels_last)) if self._lite0 else []

    def _features(self, images: Tensor, taps: list[Tensor]) -> Tensor:
        pooled = self._inception(images)[0] if self._inception else taps[-1]
        return pooled.mean((2, 3)).cpu()
