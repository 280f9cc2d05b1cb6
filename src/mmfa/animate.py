"""The pipeline: photo and driving video in, animated video out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from .errors import FaceError, MediaError, ModelError
from .faces import PixelFace, crop_box, face_input, reframe, whole_picture
from .geometry import geodesic_angle
from .media.crop import CropBox, face_crop_box, paste, union_box
from .media.image import Array, read_image, to_uint8
from .media.video import VideoReader, VideoWriter
from .motion import Motion
from .nets.fold import fold_batch_norms
from .nets.mmfa import MMFA, Source
from .priors.detector import FaceDetector
from .priors.landmarks import FaceLandmarker, FaceTracker
from .weights import from_pretrained

Mode = Literal["relative", "absolute"]
DEFAULT_FPS = 25.0
LONGEST_SIDE = 1280
"""Photos are reduced to this, in pixels, before they are animated: the output video has the photo's size."""


@dataclass(frozen=True)
class SourcePhoto:
    """A photo that is ready to be animated. `faces`: how many were found in it."""

    image: Array
    box: CropBox
    faces: int
    face: Source


@dataclass(frozen=True)
class TrackedMotion:
    """The motion of a driving video. `held`: frames without a face, in which the last motion was held."""

    motion: Motion
    held: int


@dataclass(frozen=True)
class AnimateReport:
    """What `Animator.animate` did. `anchor`: the driving frame that relative motion starts from (None: absolute)."""

    output: Path
    frames: int
    fps: float
    held: int
    anchor: int | None
    faces: int


class Animator:
    """Animate one photo by many motions: `set_source` once, `render` as often as you like.

    >>> animator = Animator.from_pretrained("lite")
    >>> animator.set_source("me.jpg")
    >>> for frame in animator.render(animator.relative(animator.motion_of("talk.mp4").motion)): ...
    """

    def __init__(self, model: MMFA, *, device: str = "auto", quiet: bool = True) -> None:
        self.device = pick_device(device)
        self.model = fold_batch_norms(model.eval().requires_grad_(False)).to(self.device)
        self.size = model.params.size
        self.quiet = quiet
        self._landmarker, self._detector = FaceLandmarker(), FaceDetector()
        self.source: SourcePhoto | None = None

    @classmethod
    def from_pretrained(cls, name: str | Path = "lite", *, device: str = "auto", quiet: bool = True) -> Animator:
        """A shipped model by name, or one from a folder. Raises ModelError."""
        return cls(from_pretrained(name), device=device, quiet=quiet)

    @torch.no_grad()
    def set_source(self, image: Array | str | Path, *, face: int = 0, crop: bool = True) -> SourcePhoto:
        """Prepare the photo to animate: (H,W,3) uint8 or a file. `face` counts from the largest, 0.

        Raises MediaError for a file that is no usable image, FaceError when the face is not there.
        """
        picture = read_image(image, max_pixels=LONGEST_SIDE**2) if isinstance(image, str | Path) else image
        found = self._detector.detect(picture)
        tracked = FaceTracker(face, landmarker=self._landmarker, detector=self._detector).track(picture)
        if tracked is None:
            shown = image if isinstance(image, str | Path) else "the source picture"
            raise FaceError(f"No face found in {shown}; take a sharper or closer one that looks at the camera.")
        pixel_face = PixelFace.of(tracked, picture)
        box = crop_box(pixel_face) if crop else whole_picture(picture)
        source = self.model.source(face_input(picture, pixel_face, box, size=self.size).to(self.device))
        self.source = SourcePhoto(image=picture, box=box, faces=max(1, len(found)), face=source)
        return self.source

    @torch.no_grad()
    def motion_of(
        self, video: str | Path | Iterable[Array], *, face: int = 0, crop: bool = True, fps: float | None = None
    ) -> TrackedMotion:
        """The motion of a driving video (a file, or frames (H,W,3) uint8), in one fixed crop, streamed.

        Frames in which the face is lost hold the last motion; frames before it first appears take its first motion.
        Raises MediaError for a file that is no video, FaceError when no frame shows a face.
        """
        if isinstance(video, str | Path):
            reader = VideoReader(video)
            frames: Iterable[Array] = (frame.image for frame in reader)
            fps, total = float(reader.info.fps), reader.info.frame_count
        else:
            frames, total = video, None
        tracker = FaceTracker(face, landmarker=self._landmarker, detector=self._detector)
        motions: list[Motion] = []
        boxes: list[tuple[float, float, float, float]] = []
        first: CropBox | None = None
        missing = held = 0
        for image in self._progress(frames, "motion", total):
            tracked = tracker.track(image)
            if tracked is None:
                missing += 1
                continue
            if tracked.lost:
                held += 1
                motions.append(motions[-1])
                continue
            pixel_face = PixelFace.of(tracked, image)
            if first is None:
                first = crop_box(pixel_face) if crop else whole_picture(image)
            pixels = image if self.model.needs_pixels else None
            motions.append(self.model.motion(face_input(pixels, pixel_face, first, size=self.size).to(self.device)).to("cpu"))
            boxes.append(pixel_face.box)
        if first is None:
            shown = video if isinstance(video, str | Path) else "the driving frames"
            raise FaceError(f"No face found in {shown}, in none of its {missing} frames.")
        motion = Motion.concatenate([motions[0]] * missing + motions)
        if crop and not self.model.needs_pixels:
            box = face_crop_box(union_box(boxes))
            scale, translation = reframe(motion.scale, motion.translation, old=first, new=box)
            motion = replace(motion, scale=scale, translation=translation)
        return TrackedMotion(replace(motion, fps=fps), held + missing)

    def relative(self, motion: Motion, *, anchor: int | Literal["auto", "first"] = "auto") -> Motion:
        """The source's own motion plus the change of `motion` since its anchor frame.

        ``R = R_d R_a^T R_s``, ``s = s_s s_d / s_a``, ``t = t_s + (t_d - t_a) s_s / s_a``, ``f = f_s + f_d - f_a``.
        """
        index = self.anchor_index(motion, anchor)
        return relative_motion(self._source().face.motion.to("cpu"), motion, anchor=index)

    def anchor_index(self, motion: Motion, anchor: int | Literal["auto", "first"] = "auto") -> int:
        """The frame that relative motion starts from; by default the one closest to the source's pose and expression.

        Raises MediaError for a frame that is not there, ModelError for another model's motion.
        """
        self._check(motion)
        if anchor == "first":
            return 0
        if anchor == "auto":
            own = self._source().face.motion.to("cpu")
            return int(motion_distance(own, motion).argmin())
        if not 0 <= anchor < len(motion):
            raise MediaError(f"The anchor frame {anchor} is outside the driving video of {len(motion)} frames.")
        return anchor

    @torch.no_grad()
    def render(self, motion: Motion, *, batch: int = 4, paste_back: bool = True) -> Iterator[Array]:
        """Frames (H,W,3) uint8 of the source under `motion`; the bare crop (S,S,3) without `paste_back`.

        Raises ModelError when the motion comes from a model with another expression feature.
        """
        source = self._source()
        self._check(motion)
        for start in range(0, len(motion), batch):
            part = motion[start : start + batch].to(self.device)
            images = self.model.render(source.face.expand(len(part)), part).images[-1]
            for patch in to_uint8(images.float().cpu()):
                yield paste(source.image, patch, source.box) if paste_back else patch

    def animate(
        self,
        driving: str | Path,
        output: str | Path,
        *,
        mode: Mode = "relative",
        anchor: int | Literal["auto", "first"] = "auto",
        crop: bool = True,
        batch: int = 4,
        on_frame: Callable[[int, Array], None] | None = None,
    ) -> AnimateReport:
        """Animate the source by a video or a motion file, into a video with the driving video's sound; all or nothing."""
        source = self._source()
        is_motion = Path(driving).suffix.lower() == ".safetensors"
        tracked = TrackedMotion(Motion.load(driving), 0) if is_motion else self.motion_of(driving, crop=crop)
        motion = tracked.motion
        index = None if mode == "absolute" else self.anchor_index(motion, anchor)
        if index is not None:
            motion = self.relative(motion, anchor=index)
        fps = motion.fps or DEFAULT_FPS
        height, width = source.image.shape[:2]
        sound = None if is_motion else Path(driving)
        with VideoWriter(output, fps=fps, size=(width, height), audio_from=sound) as writer:
            for number, frame in enumerate(self._progress(self.render(motion, batch=batch), "render", len(motion))):
                writer.write(frame)
                if on_frame is not None:
                    on_frame(number, frame)
        return AnimateReport(Path(output), len(motion), fps, tracked.held, index, source.faces)

    def _check(self, motion: Motion) -> None:
        width, own = motion.expression.shape[1], self._source().face.motion.expression.shape[1]
        if width != own:
            raise ModelError(f"The motion has {width} expression features, this model {own}: it is another model's.")
        if not len(motion):
            raise MediaError("The motion has no frames.")

    def _source(self) -> SourcePhoto:
        if self.source is None:
            raise ValueError("No source photo yet: call set_source first.")
        return self.source

    def _progress(self, items: Iterable[Array], name: str, total: int | None) -> Iterable[Array]:
        return tqdm(items, desc=name, total=total, unit="frame", disable=self.quiet or None)


def relative_motion(source: Motion, driving: Motion, *, anchor: int) -> Motion:
    """See `Animator.relative`; source is a batch of one."""
    start = driving[anchor]
    return Motion(
        rotation=driving.rotation @ start.rotation.transpose(1, 2) @ source.rotation,
        scale=source.scale * driving.scale / start.scale,
        translation=source.translation + (driving.translation - start.translation) * (source.scale / start.scale),
        expression=source.expression + driving.expression - start.expression,
        fps=driving.fps,
    )


def motion_distance(source: Motion, driving: Motion) -> Tensor:
    """How far each driving frame (T,) is from the source's pose (15 degrees count 1) and expression (one spread counts 1)."""
    angle = geodesic_angle(driving.rotation, source.rotation.expand_as(driving.rotation)) / 15
    spread = driving.expression.std(0, correction=0).norm().clamp_min(1e-6)
    return angle + (driving.expression - source.expression).norm(dim=1) / spread


def pick_device(name: str) -> torch.device:
    """auto: cuda, else mps, else cpu. Raises ModelError for a device this machine lacks."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "mps" if available["mps"] else "cpu")
    if not available.get(name, False):
        raise ModelError(f"The device {name!r} is not there; choose from {', '.join(n for n, ok in available.items() if ok)}.")
    return torch.device(name)
