"""The pipeline: photo and driving video in, animated video out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from .device import Precision, pick_device, pick_precision
from .driving import TrackedMotion, motion_of_frames
from .edit import Amplitude, Edit, Span
from .errors import FaceError, MediaError, ModelError
from .faces import PixelFace, crop_box, face_input, reframe, whole_picture
from .media.crop import CropBox, paste
from .media.files import check_input
from .media.image import Array, read_image, to_uint8
from .media.video import VideoReader, VideoWriter
from .motion import DEFAULT_FPS, Motion
from .nets.fold import for_inference
from .nets.mmfa import MMFA, FaceInput, Source
from .priors.detector import FaceDetector
from .priors.landmarks import FaceLandmarker, FaceTracker
from .provenance import SYNTHETIC
from .relative import Mode, Modes, motion_distance, parse_modes, relative_motion
from .smooth import DEFAULT_STRENGTH, smooth
from .weights import from_pretrained

__all__ = [
    "LONGEST_SIDE", "Anchor", "AnimateReport", "Animator", "Mode", "Modes", "SourcePhoto", "TrackedMotion",
    "motion_distance", "parse_modes", "pick_device", "relative_motion",
]  # fmt: skip

Anchor = int | Literal["auto", "first"]
LONGEST_SIDE = 1280
"""Photos are reduced to this, in pixels, before they are animated: the output video has the photo's size."""
ROOM = 0.15
"""How far the photo's crop may move towards where the head goes, and by how much it may grow, as fractions of its side."""
_HEAD = 0.88
"""What a head with hair and the soft edge of the crop take of the crop's side."""


@dataclass(frozen=True)
class SourcePhoto:
    """A photo that is ready to be animated. `faces`: how many were found in it. `landmarks`: None if it is used whole."""

    image: Array
    box: CropBox
    faces: int
    face: Source
    landmarks: PixelFace | None = None


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

    def __init__(self, model: MMFA, *, device: str = "auto", precision: Precision = "auto", quiet: bool = True) -> None:
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.model = for_inference(model.eval().requires_grad_(False)).to(self.device)
        self.size = model.params.size
        self.quiet = quiet
        self._landmarker, self._detector = FaceLandmarker(), FaceDetector()
        self.source: SourcePhoto | None = None

    @classmethod
    def from_pretrained(
        cls, name: str | Path = "lite", *, device: str = "auto", precision: Precision = "auto", quiet: bool = True
    ) -> Animator:
        """A shipped model by name, or one from a folder; `precision`: see `pick_precision`. Raises ModelError."""
        return cls(from_pretrained(name), device=device, precision=precision, quiet=quiet)

    @torch.no_grad()
    def set_source(self, image: Array | str | Path, *, face: int = 0, crop: bool = True) -> SourcePhoto:
        """Prepare the photo to animate: (H,W,3) uint8 or a file. `face` counts from the largest, 0.

        Raises MediaError for a file that is no usable image, FaceError when the face is not there.
        """
        picture = read_image(image, max_pixels=LONGEST_SIDE**2) if isinstance(image, str | Path) else image
        found = self._detector.detect(picture)
        shown = str(image) if isinstance(image, str | Path) else "the source picture"
        landmarks, box = self._one_face(picture, shown, face=face, crop=crop)
        self.source = SourcePhoto(
            image=picture,
            box=box,
            faces=max(1, len(found)),
            face=self.model.source(self._input(picture, landmarks, box)),
            landmarks=landmarks if crop else None,
        )
        return self.source

    @torch.no_grad()
    def motion_of_photo(self, image: Array | str | Path, *, face: int = 0, crop: bool = True, name: str | None = None) -> Motion:
        """The motion, one, of a face in a picture, (H,W,3) uint8 or a file; `name` is what errors call an array.

        Raises like `set_source`.
        """
        picture = read_image(image, max_pixels=LONGEST_SIDE**2) if isinstance(image, str | Path) else image
        shown = str(image) if isinstance(image, str | Path) else name or "the driving picture"
        return self.model.motion(self._input(picture, *self._one_face(picture, shown, face=face, crop=crop))).to("cpu")

    def motion_from(self, path: str | Path, *, face: int = 0, crop: bool = True) -> TrackedMotion:
        """The motion of a motion file, a video or a picture, whichever the file is.

        Raises MediaError for a file that is none of them, FaceError when it shows no face.
        """
        path = check_input(path)
        if path.suffix.lower() == ".safetensors":
            return TrackedMotion(Motion.load(path), 0)
        try:
            VideoReader(path)
        except MediaError:
            try:
                picture = read_image(path, max_pixels=LONGEST_SIDE**2)
            except MediaError as error:
                raise MediaError(f"{path} is neither a motion file, nor a video, nor a picture that can be read.") from error
            return TrackedMotion(self.motion_of_photo(picture, face=face, crop=crop, name=str(path)), 0)
        return self.motion_of(path, face=face, crop=crop)

    def motion_at(self, path: str | Path, seconds: float, *, face: int = 0, crop: bool = True) -> Motion:
        """The motion, one, at a time of a video or of a motion file.

        Raises MediaError for a time outside it, FaceError when that frame shows no face.
        """
        path = check_input(path)
        if path.suffix.lower() == ".safetensors":
            clip = Motion.load(path)
            index = round(seconds * (clip.fps or DEFAULT_FPS))
            if 0 <= index < len(clip):
                return clip[index]
        else:
            with VideoReader(path) as video:
                index = round(seconds * float(video.info.fps))
                frame = next(islice(video, index, None), None) if index >= 0 else None
            if frame is not None:
                return self.motion_of_photo(frame.image, face=face, crop=crop, name=f"{path} at {seconds:g} s")
        raise MediaError(f"{path} has no frame at {seconds:g} s.")

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
        name = str(video) if isinstance(video, str | Path) else "the driving frames"
        shown = self._progress(frames, "motion", total)
        return motion_of_frames(shown, tracker, self.model, device=self.device, crop=crop, fps=fps, name=name)

    def relative(self, motion: Motion, *, anchor: Anchor = "auto", mode: Modes = "relative") -> Motion:
        """The source's own motion plus the change of `motion` since its anchor frame; see `relative_motion`."""
        index = self.anchor_index(motion, anchor)
        return relative_motion(self._source().face.motion.to("cpu"), motion, anchor=index, mode=mode)

    def anchor_index(self, motion: Motion, anchor: Anchor = "auto") -> int:
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
    def render(
        self,
        motion: Motion,
        *,
        batch: int | None = None,
        paste_back: bool = True,
        room: bool = False,
        amplitude: Amplitude | None = None,
    ) -> Iterator[Array]:
        """Frames (H,W,3) uint8 of the source under `motion`; the bare crop (S,S,3) without `paste_back`.

        room: where a head goes so far that the edge of the photo's crop would cut it, crop the photo anew, between the places
        of the head. batch: frames rendered together; by default 1 on a CPU, whose caches hold no more, else 4.
        Raises ModelError when the motion comes from a model with another expression feature, or when the model has no
        lips and eyes for the `amplitude`.
        """
        self._check(motion)
        photo, motion = self._room_for(motion) if room and paste_back else (self._source(), motion)
        gain = None if amplitude is None else amplitude.gain(self.model)
        batch = batch or (1 if self.device.type == "cpu" else 4)
        source = photo.face.expand(batch)
        for start in range(0, len(motion), batch):
            part = motion[start : start + batch].to(self.device)
            if len(part) < batch:
                source = photo.face.expand(len(part))
            with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
                images = self.model.render(source, part, gain=gain).images[-1]
            for patch in to_uint8(images.float().cpu()):
                yield paste(photo.image, patch, photo.box) if paste_back else patch

    def write(
        self,
        motion: Motion,
        output: str | Path,
        *,
        sound: Path | None = None,
        amplitude: Amplitude | None = None,
        batch: int | None = None,
        on_frame: Callable[[int, Array], None] | None = None,
    ) -> None:
        """Render `motion` into a video at its frame rate, with the sound of the file `sound`; all or nothing.

        With `room` for a head that goes far; see `render`.
        """
        source = self._source()
        height, width = source.image.shape[:2]
        fps = motion.fps or DEFAULT_FPS
        with VideoWriter(output, fps=fps, size=(width, height), audio_from=sound, note=SYNTHETIC) as writer:
            frames = self.render(motion, batch=batch, room=True, amplitude=amplitude)
            for number, frame in enumerate(self._progress(frames, "render", len(motion))):
                writer.write(frame)
                if on_frame is not None:
                    on_frame(number, frame)

    def animate(
        self,
        driving: str | Path,
        output: str | Path,
        *,
        mode: Modes = "relative",
        anchor: Anchor = "auto",
        crop: bool = True,
        batch: int | None = None,
        smoothing: float = DEFAULT_STRENGTH,
        edit: Edit | None = None,
        span: Span | None = None,
        amplitude: Amplitude | None = None,
        on_frame: Callable[[int, Array], None] | None = None,
    ) -> AnimateReport:
        """Animate the source by a video or a motion file, into a video with the driving video's sound; all or nothing.

        smoothing: 0 (off) to 1, of the driving motion (`mmfa.smooth`). edit: what to set by hand after that, in the time
        range `span`. amplitude: factors on the movement of lips and eyes.
        """
        source, modes = self._source(), parse_modes(mode)
        is_motion = Path(driving).suffix.lower() == ".safetensors"
        tracked = TrackedMotion(Motion.load(driving), 0) if is_motion else self.motion_of(driving, crop=crop)
        self._check(tracked.motion)
        motion = smooth(tracked.motion, smoothing)
        index = self.anchor_index(motion, anchor) if "relative" in modes.values() else None
        if index is not None:
            motion = self.relative(motion, anchor=index, mode=modes)
        if edit is not None:
            motion = edit.apply(motion, span=span)
        sound = None if is_motion else Path(driving)
        self.write(motion, output, sound=sound, amplitude=amplitude, batch=batch, on_frame=on_frame)
        return AnimateReport(Path(output), len(motion), motion.fps or DEFAULT_FPS, tracked.held, index, source.faces)

    def _room_for(self, motion: Motion) -> tuple[SourcePhoto, Motion]:
        """Photo and motion in a crop that is centred on all places of the head, the photo's own too, and as large as they need.

        Only if the photo's crop would cut a head. In the picture nothing moves. Neither way nor growth are more than `ROOM`.
        """
        photo = self._source()
        places = torch.cat([photo.face.motion.translation.to(motion.translation), motion.translation])[:, :2] / 2
        low, high = places.amin(0), places.amax(0)  # fractions of the side
        if photo.landmarks is None or float(torch.maximum(high - places[0], places[0] - low).max()) < (1 - _HEAD) / 2:
            return photo, motion
        way = ((low + high) / 2 - places[0]).clamp(-ROOM, ROOM) * photo.box.side
        growth = min(max(float((high - low).max()) + _HEAD - 1, 0.0), ROOM)
        box = CropBox(photo.box.cx + float(way[0]), photo.box.cy + float(way[1]), photo.box.side * (1 + growth))
        scale, translation = reframe(motion.scale, motion.translation, old=photo.box, new=box)
        face = self.model.source(self._input(photo.image, photo.landmarks, box))
        return replace(photo, box=box, face=face), replace(motion, scale=scale, translation=translation)

    def _one_face(self, picture: Array, shown: str, *, face: int, crop: bool) -> tuple[PixelFace, CropBox]:
        """One face of a picture, and its crop."""
        tracked = FaceTracker(face, landmarker=self._landmarker, detector=self._detector).track(picture)
        if tracked is None:
            raise FaceError(f"No face found in {shown}; take a sharper or closer one that looks at the camera.")
        landmarks = PixelFace.of(tracked, picture)
        return landmarks, crop_box(landmarks) if crop else whole_picture(picture)

    def _input(self, picture: Array, landmarks: PixelFace, box: CropBox) -> FaceInput:
        return face_input(picture, landmarks, box, size=self.size).to(self.device)

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
