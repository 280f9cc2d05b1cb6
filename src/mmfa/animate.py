"""The pipeline: photo and driving video in, animated video out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal, TypeVar

import torch
from tqdm import tqdm

from .device import Precision, pick_device, pick_precision
from .driving import GLANCE, Framing, MotionBuffer, MotionTracker, TrackedMotion, motion_of_frames
from .edit import Amplitude, Edit, Span
from .errors import FaceError, MediaError, ModelError
from .faces import PixelFace, crop_box, face_input, reframe, whole_picture
from .media.crop import CropBox, paste
from .media.files import check_input
from .media.image import Array, Photo, read_image, read_photo, to_uint8
from .media.video import VideoReader, VideoWriter
from .motion import DEFAULT_FPS, Motion
from .nets.fold import for_inference
from .nets.mmfa import MMFA, FaceInput, Source
from .priors.detector import FaceDetector
from .priors.landmarks import FaceLandmarker, FaceTracker
from .provenance import SYNTHETIC
from .relative import Mode, Modes, motion_distance, parse_modes, relative_motion
from .smooth import DEFAULT_STRENGTH, MotionSmoother, smooth
from .weights import from_pretrained

__all__ = [
    "LONGEST_SIDE", "Anchor", "AnimateReport", "Animator", "Mode", "Modes", "SourcePhoto", "TrackedMotion",
    "motion_distance", "parse_modes", "pick_device", "relative_motion",
]  # fmt: skip

T = TypeVar("T")
Anchor = int | Literal["auto", "first"]
LONGEST_SIDE = 1280
"""Photos are reduced to this, in pixels, before they are animated: the output video has the photo's size."""
ROOM = 0.15
"""How far the photo's crop may move towards where the head goes, and by how much it may grow, as fractions of its side."""
_HEAD = 0.88
"""What a head with hair and the soft edge of the crop take of the crop's side."""


@dataclass(frozen=True)
class SourcePhoto:
    """A photo that is ready to be animated. `faces`: how many were found in it. `landmarks`: None if it is used whole.
    `full_size`: (width, height) of the picture before it was reduced to `image`."""

    image: Array
    box: CropBox
    faces: int
    face: Source
    full_size: tuple[int, int]
    landmarks: PixelFace | None = None


@dataclass(frozen=True)
class _Glance:
    """What a first look at a long clip shows: the crop for all of it, the faces' motion there and the numbers of their frames."""

    framing: Framing
    motion: Motion
    indices: tuple[int, ...]


@dataclass(frozen=True)
class AnimateReport:
    """What `Animator.animate` did. `anchor`: the driving frame that relative motion starts from (None: absolute).

    faces, driving_faces: how many were found in the photo, and in the driver's first frame that shows one (0: a motion file).
    """

    output: Path
    frames: int
    fps: float
    held: int
    anchor: int | None
    faces: int
    driving_faces: int = 0


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
        if isinstance(image, str | Path):
            photo = read_photo(image, max_pixels=LONGEST_SIDE**2)
        else:
            photo = Photo(image, (image.shape[1], image.shape[0]))
        picture = photo.image
        shown = str(image) if isinstance(image, str | Path) else "the source picture"
        landmarks, box, faces = self._one_face(picture, shown, face=face, crop=crop)
        self.source = SourcePhoto(
            image=picture,
            box=box,
            faces=faces,
            face=self.model.source(self._input(picture, landmarks, box)),
            full_size=photo.full_size,
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
        return self._tracked_photo(picture, shown, face=face, crop=crop).motion

    @torch.no_grad()
    def _tracked_photo(self, picture: Array, shown: str, *, face: int, crop: bool) -> TrackedMotion:
        landmarks, box, faces = self._one_face(picture, shown, face=face, crop=crop)
        return TrackedMotion(self.model.motion(self._input(picture, landmarks, box)).to("cpu"), 0, faces)

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
            return self._tracked_photo(picture, str(path), face=face, crop=crop)
        return self.motion_of(path, face=face, crop=crop)

    def motion_at(self, path: str | Path, seconds: float, *, face: int = 0, crop: bool = True) -> Motion:
        """The motion, one, at a time of a video or of a motion file.

        Raises MediaError for a time outside it, FaceError when that frame shows no face.
        """
        return self.tracked_at(path, seconds, face=face, crop=crop).motion

    def tracked_at(self, path: str | Path, seconds: float, *, face: int = 0, crop: bool = True) -> TrackedMotion:
        """`motion_at`, and how many faces the frame showed."""
        path = check_input(path)
        if path.suffix.lower() == ".safetensors":
            clip = Motion.load(path)
            index = round(seconds * (clip.fps or DEFAULT_FPS))
            if 0 <= index < len(clip):
                return TrackedMotion(clip[index], 0)
        else:
            with VideoReader(path) as video:
                index = round(seconds * float(video.info.fps))
                frame = next(islice(video, index, None), None) if index >= 0 else None
            if frame is not None:
                return self._tracked_photo(frame.image, f"{path} at {seconds:g} s", face=face, crop=crop)
        raise MediaError(f"{path} has no frame at {seconds:g} s.")

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
        name = str(video) if isinstance(video, str | Path) else "the driving frames"
        shown = self._progress(frames, "motion", total)
        return motion_of_frames(shown, self._tracker(face, crop=crop, name=name), fps=fps, name=name)

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
        yield from self._drawn(photo, self._batches([motion], batch), paste_back=paste_back, amplitude=amplitude)

    def _batches(self, motions: Iterable[Motion], batch: int | None) -> Iterator[Motion]:
        batch = batch or (1 if self.device.type == "cpu" else 4)
        for motion in motions:
            yield from (motion[start : start + batch] for start in range(0, len(motion), batch))

    @torch.no_grad()
    def _drawn(
        self, photo: SourcePhoto, motions: Iterable[Motion], *, paste_back: bool, amplitude: Amplitude | None
    ) -> Iterator[Array]:
        """Frames of `photo`, which has the motions' crop; those of one motion are rendered together."""
        gain = None if amplitude is None else amplitude.gain(self.model)
        source = photo.face
        for part in motions:
            if len(part) != len(source.canonical):
                source = photo.face.expand(len(part))
            with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
                images = self.model.render(source, part.to(self.device), gain=gain).images[-1]
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
        frames = self.render(motion, batch=batch, room=True, amplitude=amplitude)
        self._write(frames, output, fps=motion.fps or DEFAULT_FPS, total=len(motion), sound=sound, on_frame=on_frame)

    def _write(
        self,
        frames: Iterable[Array],
        output: str | Path,
        *,
        fps: float,
        total: int | None,
        sound: Path | None,
        on_frame: Callable[[int, Array], None] | None,
    ) -> int:
        """Write frames of the photo's size; how many there were."""
        height, width = self._source().image.shape[:2]
        with VideoWriter(output, fps=fps, size=(width, height), audio_from=sound, note=SYNTHETIC) as writer:
            for number, frame in enumerate(self._progress(frames, "render", total)):
                writer.write(frame)
                if on_frame is not None:
                    on_frame(number, frame)
        return writer.frame_count

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
        glance: int = GLANCE,
    ) -> AnimateReport:
        """Animate the source by a video or a motion file, into a video with the driving video's sound; all or nothing.

        smoothing: 0 (off) to 1, of the driving motion (`mmfa.smooth`). edit: what to set by hand after that, in the time
        range `span`. amplitude: factors on the movement of lips and eyes.
        glance: a video of more frames is rendered while it is tracked, so that the first frame comes soon and memory stays flat.
        Its crop, the room that its head needs and the automatic anchor come from a first look at so many frames, spread over
        all of it. A shorter one, or one with an `edit`, is tracked whole first.
        """
        source, modes = self._source(), parse_modes(mode)
        is_motion = Path(driving).suffix.lower() == ".safetensors"
        if not is_motion and edit is None and (VideoReader(driving).info.frame_count or 0) > glance:
            return self._animate_streaming(
                VideoReader(driving),
                output,
                modes=modes,
                anchor=anchor,
                crop=crop,
                batch=batch,
                smoothing=smoothing,
                amplitude=amplitude,
                on_frame=on_frame,
                most=glance,
            )
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
        fps = motion.fps or DEFAULT_FPS
        return AnimateReport(Path(output), len(motion), fps, tracked.held, index, source.faces, tracked.faces)

    def _animate_streaming(
        self,
        reader: VideoReader,
        output: str | Path,
        *,
        modes: Modes,
        anchor: Anchor,
        crop: bool,
        batch: int | None,
        smoothing: float,
        amplitude: Amplitude | None,
        on_frame: Callable[[int, Array], None] | None,
        most: int,
    ) -> AnimateReport:
        """`animate` for a long video: tracked, smoothed and rendered frame by frame."""
        photo, fps, name = self._source(), float(reader.info.fps), str(reader.path)
        seen = self._glance(reader, most, crop=crop)
        tracker = self._tracker(crop=crop, name=name, measured=seen.framing.measured)
        smoother = MotionSmoother(smoothing, fps=fps)
        tracked = tracker.over((frame.image for frame in reader), name=name)
        motions: Iterator[Motion] = (smoother(seen.framing.reframed(motion)) for motion in tracked)
        index, wanted = None, seen.motion
        if "relative" in parse_modes(modes).values():
            first = next(motions)
            motions = chain([first], motions)
            index, start = self._long_anchor(reader, seen, first[0], anchor, crop=crop)
            own = photo.face.motion.to("cpu")
            motions = (relative_motion(own, motion, anchor=start, mode=modes) for motion in motions)
            wanted = relative_motion(own, seen.motion, anchor=start, mode=modes)
        roomy = self._roomy(wanted)
        motions = (reframe(motion, old=photo.box, new=roomy.box) for motion in motions)
        frames = self._drawn(roomy, self._batches(motions, batch), paste_back=True, amplitude=amplitude)
        total = reader.info.frame_count
        count = self._write(frames, output, fps=fps, total=total, sound=reader.path, on_frame=on_frame)
        return AnimateReport(Path(output), count, fps, tracker.held, index, photo.faces, tracker.faces)

    def _glance(self, reader: VideoReader, most: int, *, crop: bool) -> _Glance:
        """A first look at `most` frames of a video. Raises FaceError when none of them shows a face."""
        tracker, buffer, indices = self._tracker(crop=crop, name=str(reader.path)), MotionBuffer(), []
        for frame in self._progress(reader.glance(most), "look", None):
            held = tracker.held
            motion = tracker(frame.image)
            if motion is not None and tracker.held == held:
                buffer.append(motion[-1])
                indices.append(round(frame.time * float(reader.info.fps)))
        if not indices:
            raise FaceError(f"No face found in {reader.path}, in none of {tracker.held} frames spread over it.")
        return _Glance(tracker.framing, tracker.framing.reframed(buffer.motion()), tuple(indices))

    def _long_anchor(
        self, reader: VideoReader, seen: _Glance, first: Motion, anchor: Anchor, *, crop: bool
    ) -> tuple[int, Motion]:
        """Number and motion of the frame that relative motion starts from: the closest of those seen, or the one asked for.

        Raises MediaError for a frame that is not there, FaceError when it shows no face.
        """
        if anchor == "first" or anchor == 0:
            return 0, first
        if anchor == "auto":
            closest = self.anchor_index(seen.motion)
            return seen.indices[closest], seen.motion[closest]
        frame = next(islice(reader, anchor, None), None)
        if frame is None:
            raise MediaError(f"The anchor frame {anchor} is outside the driving video of {reader.info.frame_count} frames.")
        motion = self._tracker(crop=crop, name=str(reader.path), measured=seen.framing.measured)(frame.image)
        if motion is None:
            raise FaceError(f"The anchor frame {anchor} of {reader.path} shows no face; choose another one.")
        return anchor, seen.framing.reframed(motion)

    def _room_for(self, motion: Motion) -> tuple[SourcePhoto, Motion]:
        """Photo and motion in the crop of `_roomy`."""
        old, photo = self._source(), self._roomy(motion)
        return photo, reframe(motion, old=old.box, new=photo.box)

    @torch.no_grad()
    def _roomy(self, motion: Motion) -> SourcePhoto:
        """The photo in a crop that is centred on all places of the head, the photo's own too, and as large as they need.

        Only if the photo's crop would cut a head. In the picture nothing moves. Neither way nor growth are more than `ROOM`.
        """
        photo = self._source()
        places = torch.cat([photo.face.motion.translation.to(motion.translation), motion.translation])[:, :2] / 2
        low, high = places.amin(0), places.amax(0)  # fractions of the side
        if photo.landmarks is None or float(torch.maximum(high - places[0], places[0] - low).max()) < (1 - _HEAD) / 2:
            return photo
        way = ((low + high) / 2 - places[0]).clamp(-ROOM, ROOM) * photo.box.side
        growth = min(max(float((high - low).max()) + _HEAD - 1, 0.0), ROOM)
        box = CropBox(photo.box.cx + float(way[0]), photo.box.cy + float(way[1]), photo.box.side * (1 + growth))
        return replace(photo, box=box, face=self.model.source(self._input(photo.image, photo.landmarks, box)))

    def _tracker(self, face: int = 0, *, crop: bool, name: str, measured: CropBox | None = None) -> MotionTracker:
        faces = FaceTracker(face, landmarker=self._landmarker, detector=self._detector, name=name)
        return MotionTracker(faces, self.model, device=self.device, crop=crop, measured=measured)

    def _one_face(self, picture: Array, shown: str, *, face: int, crop: bool) -> tuple[PixelFace, CropBox, int]:
        """One face of a picture, its crop, and how many faces there are."""
        tracker = FaceTracker(face, landmarker=self._landmarker, detector=self._detector, name=shown)
        tracked = tracker.track(picture)
        if tracked is None:
            raise FaceError(f"No face found in {shown}; take a sharper or closer one that looks at the camera.")
        landmarks = PixelFace.of(tracked, picture)
        return landmarks, crop_box(landmarks) if crop else whole_picture(picture), tracker.faces

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

    def _progress(self, items: Iterable[T], name: str, total: int | None) -> Iterable[T]:
        return tqdm(items, desc=name, total=total, unit="frame", disable=self.quiet or None)
