"""Do the metrics answer what is known? Real frames, known perturbations, and what each metric says of them.

    python -m mmfa.evaluate.validation

prints the tables of docs/metrics.md, from pictures inside the packages of `mmfa[demo]`. The tests assert every row.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from ..demo import DRIVING, SOURCE, packaged
from ..faces import PixelFace, crop_box
from ..media.crop import CropBox, crop
from ..media.image import Array, read_image, to_tensor
from ..media.video import VideoReader
from ..priors.groups import FACE_OVAL
from ..priors.landmarks import detect_single
from .appearance import AppearanceMeasurer, Around, PairMeasures
from .bootstrap import Values, bootstrap
from .compare import face_errors
from .definitions import METRICS
from .extractors import REFERENCE_SIZE, FaceMeasurer, FaceMeasures
from .frechet import FeatureStatistics, frechet_distance
from .metrics import jitter
from .ring import Photo

MARGIN = 20  # pixels around a frame that shifts and turns bring into view


@dataclass(frozen=True)
class Check:
    """A metric's answer to a known change, and the range [low, high] in which it has to lie."""

    metric: str
    change: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the answer lies in its range."""
        return self.low <= self.value <= self.high


@dataclass(frozen=True)
class Order:
    """A metric's answers to changes that are known to be ever worse; `better` is the direction of improvement."""

    metric: str
    better: str
    changes: tuple[str, ...]
    values: tuple[float, ...]

    @property
    def passed(self) -> bool:
        """Whether each answer is worse than the one before."""
        return all(a < b if self.better == "lower" else a > b for a, b in pairwise(self.values))


@dataclass(frozen=True)
class Picture:
    """A face crop with a margin (256 + 2 MARGIN, same, 3) that can be shifted and turned without inventing a border."""

    wide: Array

    @classmethod
    def of(cls, image: Array, box: CropBox) -> Picture:
        """The content of `box`, with the margin around it."""
        size = REFERENCE_SIZE + 2 * MARGIN
        return cls(crop(image, CropBox(box.cx, box.cy, box.side * size / REFERENCE_SIZE), size=size))

    def frame(self, *, dx: int = 0, dy: int = 0, degrees: float = 0.0) -> Array:
        """The frame (256,256,3) with its content moved right and down by whole pixels and turned clockwise."""
        wide = self.wide if degrees == 0 else np.array(Image.fromarray(self.wide).rotate(-degrees, Image.Resampling.BICUBIC))
        top, left = MARGIN - dy, MARGIN - dx
        return wide[top : top + REFERENCE_SIZE, left : left + REFERENCE_SIZE]


def blurred(frame: Array, sigma: float) -> Array:
    """The frame (S,S,3) uint8 under a Gaussian blur, sigma in pixels."""
    return np.array(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(sigma)))


def noisy(frame: Array, sigma: float, *, seed: int = 0) -> Array:
    """The frame (S,S,3) uint8 with Gaussian noise, sigma in grey levels."""
    noise = np.random.default_rng(seed).normal(0, sigma, frame.shape)
    return (frame + noise).round().clip(0, 255).astype(np.uint8)


def sharpened(frame: Array) -> Array:
    """The frame (S,S,3) uint8 under an unsharp mask of one pixel, at 100 per cent."""
    return np.array(Image.fromarray(frame).filter(ImageFilter.UnsharpMask(1, 100, 0)))


def haloed(frame: Array, points: Tensor, *, grey: int = 128) -> Array:
    """The frame (256,256,3) uint8 with a grey arc of 3 pixels over the head; points: its landmarks (478,3)."""
    image = Image.fromarray(frame)
    oval = points[list(FACE_OVAL), :2].numpy()
    wide = oval.mean(0) + 1.5 * (oval - oval.mean(0))
    arc = [(float(x), float(y)) for x, y in (*wide[-9:], *wide[:9])]
    ImageDraw.Draw(image).line(arc, fill=(grey,) * 3, width=3)
    return np.array(image)


def portrait() -> Picture:
    """The packaged photo of a woman."""
    image = read_image(packaged(*SOURCE))
    return Picture.of(image, crop_box(PixelFace.of(detect_single(image), image)))


def talking(count: int = 120) -> list[Picture]:
    """The first frames of the packaged video of a talking man, in one fixed crop."""
    with VideoReader(packaged(*DRIVING)) as video:
        images = [frame.image for frame in islice(video, count)]
    box = crop_box(PixelFace.of(detect_single(images[0]), images[0]))
    return [Picture.of(image, box) for image in images]


def known_changes(faces: FaceMeasurer) -> Iterator[Check]:
    """Shifts, turns, shaking and missing faces of known size."""
    for who, pictures in (("photo", [portrait()]), ("video", talking(96)[::8])):
        still = faces.measure([picture.frame() for picture in pictures])

        def answer(change: Callable[[Picture], Array], pictures: list[Picture] = pictures) -> FaceMeasures:
            return faces.measure([change(picture) for picture in pictures])

        shifted = face_errors(answer(lambda picture: picture.frame(dx=2)), still)
        turned = face_errors(answer(lambda picture: picture.frame(degrees=5)), still)
        diagonal = face_errors(answer(lambda picture: picture.frame(dx=2, dy=2)), still)
        yield Check("akd_l2_mesh68", f"{who}, 2 px right", _mean(shifted["akd_l2_mesh68"]), 1.8, 2.2)
        yield Check("akd_l2_mesh478", f"{who}, 2 px right", _mean(shifted["akd_l2_mesh478"]), 1.8, 2.2)
        yield Check("akd_l1_mesh68", f"{who}, 2 px right: half, for y is counted too", _mean(shifted["akd_l1_mesh68"]), 0.9, 1.15)
        yield Check("akd_l1_mesh68", f"{who}, 2 px right and down", _mean(diagonal["akd_l1_mesh68"]), 1.8, 2.2)
        yield Check("rotation_error", f"{who}, 2 px right", _mean(shifted["rotation_error"]), 0.0, 0.5)
        yield Check("rotation_error", f"{who}, turned 5 degrees", _mean(turned["rotation_error"]), 4.3, 5.7)
        yield Check(
            "apd_mesh", f"{who}, turned 5 degrees: a third of it or more, in rad", _mean(turned["apd_mesh"]), 0.025, 0.042
        )
        yield Check("gaze_error", f"{who}, turned 5 degrees", _mean(turned["gaze_error"]), 0.0, 0.04)
        yield Check("csim", f"{who}, turned 5 degrees", _mean(turned["csim"]), 0.99, 1.0)
    shaking = faces.measure([portrait().frame(dx=(-1) ** index) for index in range(8)])
    yield Check("jitter", "photo shaken by 1 px to either side: second difference 4", _mean(jitter(shaking.points)), 3.6, 4.4)
    frames = [picture.frame() for picture in talking(8)]
    holes = face_errors(faces.measure([*frames[:6], *(np.full_like(frame, 127) for frame in frames[6:])]), faces.measure(frames))
    yield Check("mkr", "2 of 8 frames are grey", _mean(holes["mkr"]), 0.25, 0.25)


def known_surroundings(faces: FaceMeasurer, appearance: AppearanceMeasurer) -> Iterator[Check]:
    """Changes around the face: what was drawn there, what is only sharper, and what lies in the face alone."""
    frames = [picture.frame() for picture in talking(96)[::16]]
    points = faces.measure(frames).points
    around = Around(points, Photo(to_tensor(frames[0]), points[0]))

    def answer(images: list[Array]) -> dict[str, float]:
        (part,) = appearance.stream(images, frames, around=around)
        return {name: _mean(values) for name, values in part.values.items()}

    same, sharp = answer(frames), answer([sharpened(frame) for frame in frames])
    halo = answer([haloed(frame, face) for frame, face in zip(frames, points, strict=True)])
    darker = answer([(frame.clip(10) - 10).astype(np.uint8) for frame in frames])
    yield Check("ring_psnr", "video, 10 grey levels darker: 28.1 where nothing is black", darker["ring_psnr"], 28.0, 30.0)
    yield Check("ring_sharpness", "video, the same frames", same["ring_sharpness"], 1.0, 1.0)
    yield Check("ring_sharpness", "video, sharpened", sharp["ring_sharpness"], 1.5, 10.0)
    yield Check("ghost", "video, the same frames", same["ghost"], 0.0, 0.0)
    yield Check("ghost", "video, sharpened: no new edges", sharp["ghost"], 0.0, 0.02)
    yield Check("ghost", "video, a grey arc over the head", halo["ghost"], 0.2, 2.0)


def orders(faces: FaceMeasurer, appearance: AppearanceMeasurer) -> Iterator[Order]:
    """Blur, noise and another person: ever worse."""
    man, woman = [picture.frame() for picture in talking(96)[::16]], portrait().frame()
    truth = faces.measure(man)
    for change, levels in ((blurred, (1, 2, 4)), (noisy, (5, 10, 20))):
        sets = {"same": man} | {f"{change.__name__} {level}": [change(frame, level) for frame in man] for level in levels}
        pairs = [appearance.measure(images, man) for images in sets.values()]
        yield Order("psnr", "higher", tuple(sets), tuple(_mean(pair.values["psnr"]) for pair in pairs))
        yield Order("ssim", "higher", tuple(sets), tuple(_mean(pair.values["ssim"]) for pair in pairs))
        yield Order(
            appearance.perceptual_name,
            "lower",
            tuple(sets),
            tuple(_mean(pair.values[appearance.perceptual_name]) for pair in pairs),
        )
        yield Order(appearance.frechet_name, "lower", tuple(sets), tuple(_frechet(pair) for pair in pairs))
        if change is blurred:
            yield Order("sharpness", "higher", tuple(sets), tuple(_mean(pair.values["sharpness"]) for pair in pairs))
        sets["other person"] = [woman] * len(man)
        errors = [face_errors(faces.measure(images), truth) for images in sets.values()]
        for metric in ("csim", "csim_faceres", "aed_l2", "akd_l2_mesh68"):
            values = tuple(_mean(error[metric]) for error in errors)
            if not any(map(math.isnan, values)):
                yield Order(metric, METRICS[metric].definition.better, tuple(sets), values)


def frechet_by_count(features: Tensor, counts: tuple[int, ...], *, repeats: int = 8, seed: int = 0) -> dict[int, float]:
    """Mean distance of two sets of N draws of *one* Gaussian, fitted to `features` (M,D): all of it is due to N."""
    fitted = FeatureStatistics.of(features)
    values, vectors = torch.linalg.eigh(fitted.covariance)
    root = vectors * values.clamp_min(0).sqrt()
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> FeatureStatistics:
        noise = torch.randn(count, len(root), generator=generator, dtype=torch.float64)
        return FeatureStatistics.of(fitted.mean + noise @ root.T)

    return {count: sum(frechet_distance(draw(count), draw(count)) for _ in range(repeats)) / repeats for count in counts}


def coverage(*, clips: int = 24, frames: int = 20, trials: int = 200, by_clip: bool = True, seed: int = 0) -> float:
    """Share of trials in which the 95 % interval holds the true mean: clips differ (spread 1), their frames little (0.3)."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(clips), frames)
    hits = 0
    for trial in range(trials):
        values: Values = generator.normal(size=clips)[labels] + 0.3 * generator.normal(size=clips * frames)
        groups = labels if by_clip else np.arange(len(labels))
        interval = bootstrap(values, groups=groups, samples=300, seed=trial)
        hits += interval.low <= 0 <= interval.high
    return hits / trials


def costs(faces: FaceMeasurer, appearance: AppearanceMeasurer) -> dict[str, float]:
    """Milliseconds of processor time for each frame of 256 pixels, on the threads that torch uses now; pairs for two frames."""
    frames = [picture.frame() for picture in talking(32)]
    points = faces.measure(frames).points
    around = Around(points, Photo(to_tensor(frames[0]), points[0]))
    tasks: dict[str, Callable[[], object]] = {
        "faces of one frame": lambda: faces.measure(frames),
        "appearance of a pair": lambda: appearance.measure(frames, frames),
        "the same with its ring": lambda: list(appearance.stream(frames, frames, around=around)),
    }
    times = {}
    for name, task in tasks.items():
        runs = []
        for _ in range(4):
            start = time.process_time()
            task()
            runs.append(time.process_time() - start)
        times[name] = min(runs) / len(frames) * 1000
    return times


def main() -> None:
    """Print the tables of docs/metrics.md."""
    torch.set_num_threads(1)
    faces, appearance = FaceMeasurer(), AppearanceMeasurer()
    print("| metric | known change | measured | must lie in | |\n|---|---|---|---|---|")
    for check in (*known_changes(faces), *known_surroundings(faces, appearance)):
        verdict = "ok" if check.passed else "FAILED"
        print(f"| {check.metric} | {check.change} | {check.value:.3f} | {check.low:g} to {check.high:g} | {verdict} |")
    print("\n| metric | ever worse | |\n|---|---|---|")
    for order in orders(faces, appearance):
        steps = ", ".join(f"{name} {value:.4g}" for name, value in zip(order.changes, order.values, strict=True))
        print(f"| {order.metric} | {steps} | {'ok' if order.passed else 'FAILED'} |")
    features = torch.cat(list(appearance.features(picture.frame() for picture in talking())))
    print(f"\n| N of each set | {appearance.frechet_name} of a distribution to itself |\n|---|---|")
    for count, distance in frechet_by_count(features, (64, 128, 256, 512, 1024, 2048, 4096, 8192)).items():
        print(f"| {count} | {distance:.4f} |")
    by_clip, by_frame = coverage(trials=500), coverage(trials=500, by_clip=False)
    print(f"\n95 % interval, 24 clips: covers {by_clip:.1%} by clips, {by_frame:.1%} by frames")
    for name, milliseconds in costs(faces, appearance).items():
        print(f"{name}: {milliseconds:.1f} ms on one thread")


def _frechet(pair: PairMeasures) -> float:
    return frechet_distance(FeatureStatistics.of(pair.generated_features), FeatureStatistics.of(pair.driving_features))


def _mean(values: Tensor) -> float:
    return float(values.nanmean())


if __name__ == "__main__":
    main()
