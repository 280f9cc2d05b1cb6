"""A loaded model with all it needs to animate photos: nothing in it changes, so photos and threads may share it.

>>> session = Session.from_pretrained("lite")
>>> photo = session.photo("me.jpg")
>>> for frame in session.stream(photo, frames): ...
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from .compose import Canvas, Pasted, PersonCanvas
from .device import Precision
from .driving import GLANCE, Framing, SignalBuffer, SignalTracker, Tracked, track
from .edit import ATTRIBUTES, Amplitude, Attribute, Edit, Span, take
from .engine import Engine
from .engine.torch import TorchEngine
from .errors import FaceError, MediaError, ModelError
from .faces import PixelFace, crop_box, face_input, whole_picture, window_box
from .media.crop import CropBox
from .media.crop import crop as crop_out
from .media.files import check_input
from .media.image import Array, Picture, read_picture, to_tensor, to_uint8
from .media.video import VideoReader, VideoWriter
from .motion import DEFAULT_FPS, Motion
from .portrait import FaceInput, Signal
from .priors.detector import FaceDetector
from .priors.landmarks import FaceLandmarker, FaceTracker
from .priors.matte import PersonMatte
from .provenance import SYNTHETIC
from .relative import Modes, limit_turn, motion_distance, parse_modes, relative_motion
from .smooth import DEFAULT_STRENGTH, MotionSmoother, smooth
from .watch import Watch
from .weights import from_pretrained

Anchor = int | Literal["auto", "first"]
RESOLUTION = 1920
"""Photos whose longer side has more pixels are reduced before they are animated: the output has the photo's size."""


@dataclass(frozen=True)
class Priors:
    """The frozen networks that find faces, and the person around one; they keep no state."""

    detector: FaceDetector
    landmarker: FaceLandmarker
    matte: PersonMatte

    @staticmethod
    def shipped() -> Priors:
        """Those that come with the package."""
        return Priors(FaceDetector(), FaceLandmarker(), PersonMatte())


@dataclass(frozen=True)
class Photo:
    """A photo that is ready to be animated; a value, which nothing changes.

    image: (H,W,3) uint8. box: its face's crop. prepared: what the engine computed of the crop. signal: what the photo itself
    shows, one. canvas: what composes its frames. faces: how many were found in it. full_size: (width, height) of the picture
    before it was reduced to `image`. remark: why its person could not be told from the background, if so; half a sentence.
    """

    image: Array
    box: CropBox
    prepared: Any
    signal: Any
    canvas: Canvas
    faces: int
    full_size: tuple[int, int]
    remark: str = ""


@dataclass(frozen=True)
class AnimateReport:
    """What `Session.animate` did. `anchor`: the driving frame that relative motion starts from (None: absolute).

    faces, driving_faces: how many were found in the photo, and in the driver's first frame that shows one (0: a motion file).
    """

    output: Path
    frames: int
    fps: float
    held: int
    anchor: int | None
    faces: int
    driving_faces: int = 0


@dataclass(frozen=True)
class _Glance:
    """What a first look at a long clip shows: the crop for all of it, the faces' signal there and the numbers of their frames."""

    framing: Framing
    signal: Any
    indices: tuple[int, ...]


class Session:
    """An engine, and the priors that find faces for it. Methods may be called from several threads at once."""

    def __init__(self, engine: Engine, priors: Priors | None = None) -> None:
        self.engine = engine
        self.priors = priors or Priors.shipped()

    @classmethod
    def from_pretrained(cls, name: str | Path = "lite", *, device: str = "auto", precision: Precision = "auto") -> Session:
        """A shipped model by name, or one from a folder, on torch; `precision`: see `pick_precision`. Raises ModelError."""
        return cls(TorchEngine(from_pretrained(name), device=device, precision=precision))

    # -- pictures and videos in -----------------------------------------------------------------------------------------

    def photo(self, image: Array | str | Path, *, face: int = 0, crop: bool = True, resolution: int = RESOLUTION) -> Photo:
        """Prepare the photo to animate: (H,W,3) uint8 or a file. `face` counts from the largest, 0.

        resolution: pixels of its longer side, at most; a larger file is reduced, an array is taken as it is.
        Raises MediaError for a file that is no usable image, FaceError when the face is not there.
        """
        if isinstance(image, str | Path):
            picture, shown = read_picture(image, max_side=resolution), str(image)
        else:
            picture, shown = Picture(image, (image.shape[1], image.shape[0])), "the source picture"
        landmarks, box, faces = self._one_face(picture.image, shown, face=face, crop=crop)
        seen = self._input(picture.image, landmarks, box)
        signal = self.engine.signal(seen)
        canvas, remark = self._canvas(picture.image, landmarks, box, signal, faces)
        return Photo(
            image=picture.image,
            box=box,
            prepared=self.engine.prepare(seen, self._view(picture.image, box, signal)),
            signal=signal,
            canvas=canvas,
            faces=len(faces),
            full_size=picture.full_size,
            remark=remark,
        )

    def track_photo(
        self, image: Array | str | Path, *, face: int = 0, crop: bool = True, name: str | None = None
    ) -> Tracked[Any]:
        """What a face in a picture, (H,W,3) uint8 or a file, drives, one; `name` is what errors call an array.

        Raises like `photo`.
        """
        picture = read_picture(image, max_side=RESOLUTION).image if isinstance(image, str | Path) else image
        shown = str(image) if isinstance(image, str | Path) else name or "the driving picture"
        landmarks, box, faces = self._one_face(picture, shown, face=face, crop=crop)
        return Tracked(self.engine.signal(self._input(picture, landmarks, box)), 0, len(faces))

    def track(
        self,
        video: str | Path | Iterable[Array],
        *,
        face: int = 0,
        crop: bool = True,
        fps: float | None = None,
        watch: Watch | None = None,
    ) -> Tracked[Any]:
        """What a driving video (a file, or frames (H,W,3) uint8) drives, in one fixed crop, streamed.

        Frames in which the face is lost hold the last signal; frames before it first appears take its first one.
        Raises MediaError for a file that is no video, FaceError when no frame shows a face.
        """
        if isinstance(video, str | Path):
            reader = VideoReader(video)
            frames: Iterable[Array] = (frame.image for frame in reader)
            fps, total = float(reader.info.fps), reader.info.frame_count
        else:
            frames, total = video, None
        name = str(video) if isinstance(video, str | Path) else "the driving frames"
        watched = (watch or Watch()).over(frames, "motion", total)
        return track(self._tracker(face, crop=crop, name=name), watched, fps=fps, name=name)

    def track_any(self, path: str | Path, *, face: int = 0, crop: bool = True, watch: Watch | None = None) -> Tracked[Any]:
        """What a motion file, a video or a picture drives, whichever the file is.

        Raises MediaError for a file that is none of them, FaceError when it shows no face.
        """
        path = check_input(path)
        if is_motion_file(path):
            return Tracked(self.load(path), 0)
        try:
            VideoReader(path)
        except MediaError:
            try:
                picture = read_picture(path, max_side=RESOLUTION).image
            except MediaError as error:
                raise MediaError(f"{path} is neither a motion file, nor a video, nor a picture that can be read.") from error
            return self.track_photo(picture, face=face, crop=crop, name=str(path))
        return self.track(path, face=face, crop=crop, watch=watch)

    def track_at(self, path: str | Path, seconds: float, *, face: int = 0, crop: bool = True) -> Tracked[Any]:
        """What the frame at a time of a video or of a motion file drives, one.

        Raises MediaError for a time outside it, FaceError when that frame shows no face.
        """
        path = check_input(path)
        if is_motion_file(path):
            clip = self.load(path)
            index = round(seconds * (clip.fps or DEFAULT_FPS))
            if 0 <= index < len(clip):
                return Tracked(clip[index], 0)
        else:
            with VideoReader(path) as video:
                index = round(seconds * float(video.info.fps))
                frame = next(islice(video, index, None), None) if index >= 0 else None
            if frame is not None:
                return self.track_photo(frame.image, face=face, crop=crop, name=f"{path} at {seconds:g} s")
        raise MediaError(f"{path} has no frame at {seconds:g} s.")

    def load(self, path: str | Path) -> Motion:
        """A motion file. Raises MediaError for another file, ModelError for a model that no motion drives."""
        self.engine.card.require("edit")
        return Motion.load(path)

    # -- motion ---------------------------------------------------------------------------------------------------------

    def relative(self, photo: Photo, motion: Motion, *, anchor: Anchor = "auto", mode: Modes = "relative") -> Motion:
        """The photo's own motion plus the change of `motion` since its anchor frame; see `relative_motion`.

        Raises ModelError for a model whose signal is no motion.
        """
        index = self.anchor_index(photo, motion, anchor)
        return relative_motion(photo.signal, motion, anchor=index, mode=mode)

    def anchor_index(self, photo: Photo, motion: Motion, anchor: Anchor = "auto") -> int:
        """The frame that relative motion starts from; by default the one closest to the photo's pose and expression.

        Raises MediaError for a frame that is not there, ModelError for another model's motion.
        """
        self.engine.card.require("edit")
        self._check(photo, motion)
        if anchor == "first":
            return 0
        if anchor == "auto":
            return int(motion_distance(photo.signal, motion).argmin())
        if not 0 <= anchor < len(motion):
            raise MediaError(f"The anchor frame {anchor} is outside the driving video of {len(motion)} frames.")
        return anchor

    # -- pictures and videos out ----------------------------------------------------------------------------------------

    def render(
        self,
        photo: Photo,
        signal: Signal,
        *,
        batch: int | None = None,
        paste_back: bool = True,
        amplitude: Amplitude | None = None,
    ) -> Iterator[Array]:
        """Frames (H,W,3) uint8 of the photo under a signal; the bare crop (S,S,3) without `paste_back`.

        batch: frames rendered together; by default what is best for the engine.
        Raises ModelError when the signal comes from a model with another expression feature, or when the model has no
        lips and eyes for the `amplitude`.
        """
        self._check(photo, signal)
        yield from self._drawn(photo, self._batches([signal], batch), paste_back=paste_back, amplitude=amplitude)

    def stream(
        self,
        photo: Photo,
        frames: Iterable[Array],
        *,
        fps: float = DEFAULT_FPS,
        mode: Modes | None = None,
        crop: bool = True,
        face: int = 0,
        smoothing: float = DEFAULT_STRENGTH,
        amplitude: Amplitude | None = None,
        unclipped: bool = False,
    ) -> Iterator[Array]:
        """Frames (H,W,3) uint8 of the photo for driving frames (H,W,3) uint8 as they come: a frame for a frame, without delay.

        Nothing of the driver is known in advance: relative motion, the default, starts from the first frame that shows a face,
        and the driver's crop is that frame's. Driving frames before it give the photo. unclipped: see `animate`. Raises
        ModelError for a mode that the model can't do.
        """
        modes = self.modes(mode)
        gain = self._gain(amplitude)
        tracker = self._tracker(face, crop=crop, name="the driving frames")
        smoother = MotionSmoother(smoothing, fps=fps) if self.engine.card.supports("edit") else None
        start: Any = None
        for image in frames:
            signal = tracker(image)
            if signal is None:
                yield photo.image.copy()
                continue
            signal = signal[-1]
            signal = signal if smoother is None else smoother(signal)
            start = signal if start is None else start
            if "relative" in modes.values():
                signal = relative_motion(photo.signal, signal, anchor=start, mode=modes)
            if isinstance(signal, Motion) and not unclipped:
                signal = limit_turn(signal, photo.signal)
            yield photo.canvas.frame(self.engine.render(photo.prepared, signal, gain=gain), 0)

    def write(
        self,
        photo: Photo,
        signal: Signal,
        output: str | Path,
        *,
        sound: Path | None = None,
        amplitude: Amplitude | None = None,
        batch: int | None = None,
        on_frame: Callable[[int, Array], None] | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Render a signal into a video at its frame rate, with the sound of the file `sound`; all or nothing."""
        frames = self.render(photo, signal, batch=batch, amplitude=amplitude)
        watched = (watch or Watch()).over(frames, "render", len(signal))
        self._write(photo, watched, output, fps=signal.fps or DEFAULT_FPS, sound=sound, on_frame=on_frame)

    def animate(
        self,
        photo: Photo,
        driving: str | Path,
        output: str | Path,
        *,
        mode: Modes | None = None,
        anchor: Anchor = "auto",
        crop: bool = True,
        batch: int | None = None,
        smoothing: float = DEFAULT_STRENGTH,
        attributes: Collection[Attribute] = ATTRIBUTES,
        edit: Edit | None = None,
        span: Span | None = None,
        amplitude: Amplitude | None = None,
        unclipped: bool = False,
        on_frame: Callable[[int, Array], None] | None = None,
        glance: int = GLANCE,
        watch: Watch | None = None,
    ) -> AnimateReport:
        """Animate the photo by a video or a motion file, into a video with the driving video's sound; all or nothing.

        mode: by default relative, and absolute for a model that knows no other. smoothing: 0 (off) to 1, of the driving motion
        (`mmfa.smooth`). attributes: what to take of it; the others stay the photo's. edit: what to set by hand after that, in the
        time range `span`. amplitude: factors on the movement of lips and eyes. unclipped: turn as far as the driver does, too,
        where the photo can't show it (`relative.limit_turn`).
        glance: a video of more frames is rendered while it is tracked, so that the first frame comes soon and memory stays flat.
        Its crop and the automatic anchor come from a first look at so many frames, spread over all of it. A shorter one, or one
        with a `span` or an `edit` that differs from frame to frame, is tracked whole first.
        """
        watch, modes, card = watch or Watch(), self.modes(mode), self.engine.card
        from_file = is_motion_file(driving)
        change = partial(self._edited, photo, attributes=attributes, edit=edit, span=span, unclipped=unclipped)
        framewise = not from_file and span is None and (edit is None or edit.uniform)
        if framewise and ((reader := VideoReader(driving)).info.frame_count or 0) > glance:
            return self._animate_streaming(
                photo,
                reader,
                output,
                modes=modes,
                anchor=anchor,
                crop=crop,
                batch=batch,
                smoothing=smoothing,
                change=change,
                amplitude=amplitude,
                on_frame=on_frame,
                most=glance,
                watch=watch,
            )
        tracked = Tracked(self.load(driving), 0) if from_file else self.track(driving, crop=crop, watch=watch)
        signal, index = tracked.signal, None
        self._check(photo, signal)
        if card.supports("edit"):
            signal = smooth(signal, smoothing)
            if "relative" in modes.values():
                index = self.anchor_index(photo, signal, anchor)
                signal = self.relative(photo, signal, anchor=index, mode=modes)
        signal = change(signal)
        sound = None if from_file else Path(driving)
        self.write(photo, signal, output, sound=sound, amplitude=amplitude, batch=batch, on_frame=on_frame, watch=watch)
        fps = signal.fps or DEFAULT_FPS
        return AnimateReport(Path(output), len(signal), fps, tracked.held, index, photo.faces, tracked.faces)

    def modes(self, mode: Modes | None) -> dict[Any, Any]:
        """The mode of every attribute; by default relative where the model's signal is a motion, absolute elsewhere.

        Raises ConfigError for words that mean nothing, ModelError for relative motion of a model that knows none.
        """
        able = self.engine.card.supports("edit")
        modes = parse_modes(("relative" if able else "absolute") if mode is None else mode)
        if "relative" in modes.values():
            self.engine.card.require("edit")
        return modes

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _animate_streaming(
        self,
        photo: Photo,
        reader: VideoReader,
        output: str | Path,
        *,
        modes: Modes,
        anchor: Anchor,
        crop: bool,
        batch: int | None,
        smoothing: float,
        change: Callable[[Any], Any],
        amplitude: Amplitude | None,
        on_frame: Callable[[int, Array], None] | None,
        most: int,
        watch: Watch,
    ) -> AnimateReport:
        """`animate` for a long video: tracked, smoothed, changed and rendered frame by frame."""
        fps, name, total = float(reader.info.fps), str(reader.path), reader.info.frame_count
        seen = self._glance(reader, most, crop=crop, watch=watch)
        tracker = self._tracker(crop=crop, measured=seen.framing.measured, name=name)
        tracked = tracker.over((frame.image for frame in reader), name=name)
        signals: Iterator[Any] = (seen.framing.reframed(signal) for signal in tracked)
        if self.engine.card.supports("edit"):
            signals = map(MotionSmoother(smoothing, fps=fps), signals)
        index, wanted = None, seen.signal
        if "relative" in parse_modes(modes).values():
            first = next(signals)
            signals = chain([first], signals)
            index, start = self._long_anchor(photo, reader, seen, first[0], anchor, crop=crop)
            signals = (relative_motion(photo.signal, signal, anchor=start, mode=modes) for signal in signals)
            wanted = relative_motion(photo.signal, seen.signal, anchor=start, mode=modes)
        self._check(photo, wanted)
        frames = self._drawn(photo, self._batches(map(change, signals), batch), paste_back=True, amplitude=amplitude)
        watched = watch.over(frames, "render", total)
        count = self._write(photo, watched, output, fps=fps, sound=reader.path, on_frame=on_frame)
        return AnimateReport(Path(output), count, fps, tracker.held, index, photo.faces, tracker.faces)

    def _edited(
        self,
        photo: Photo,
        signal: Any,
        *,
        attributes: Collection[Attribute],
        edit: Edit | None,
        span: Span | None,
        unclipped: bool,
    ) -> Any:
        """The photo's own signal with `attributes` of another one, turned no farther than the photo can show unless `unclipped`,
        and that edited. Raises ModelError where it is no motion.
        """
        if not set(ATTRIBUTES) <= set(attributes):
            self.engine.card.require("edit")
            signal = take(photo.signal, signal, attributes)
        if isinstance(signal, Motion) and not unclipped:
            signal = limit_turn(signal, photo.signal)
        if edit is not None:
            self.engine.card.require("edit")
            signal = edit.apply(signal, span=span)
        return signal

    def _glance(self, reader: VideoReader, most: int, *, crop: bool, watch: Watch) -> _Glance:
        """A first look at `most` frames of a video. Raises FaceError when none of them shows a face."""
        tracker, buffer, indices = self._tracker(crop=crop, name=str(reader.path)), SignalBuffer[Any](), []
        for frame in watch.over(reader.glance(most), "look", None):
            held = tracker.held
            signal = tracker(frame.image)
            if signal is not None and tracker.held == held:
                buffer.append(signal[-1])
                indices.append(round(frame.time * float(reader.info.fps)))
        if not indices:
            raise FaceError(f"No face found in {reader.path}, in none of {tracker.held} frames spread over it.")
        return _Glance(tracker.framing, tracker.framing.reframed(buffer.signal()), tuple(indices))

    def _long_anchor(
        self, photo: Photo, reader: VideoReader, seen: _Glance, first: Motion, anchor: Anchor, *, crop: bool
    ) -> tuple[int, Motion]:
        """Number and motion of the frame that relative motion starts from: the closest of those seen, or the one asked for.

        Raises MediaError for a frame that is not there, FaceError when it shows no face.
        """
        if anchor == "first" or anchor == 0:
            return 0, first
        if anchor == "auto":
            closest = self.anchor_index(photo, seen.signal)
            return seen.indices[closest], seen.signal[closest]
        frame = next(islice(reader, anchor, None), None)
        if frame is None:
            raise MediaError(f"The anchor frame {anchor} is outside the driving video of {reader.info.frame_count} frames.")
        motion = self._tracker(crop=crop, measured=seen.framing.measured, name=str(reader.path))(frame.image)
        if motion is None:
            raise FaceError(f"The anchor frame {anchor} of {reader.path} shows no face; choose another one.")
        return anchor, seen.framing.reframed(motion)

    def _batches(self, signals: Iterable[Signal], batch: int | None) -> Iterator[Signal]:
        size = batch or self.engine.batch
        for signal in signals:
            yield from (signal[start : start + size] for start in range(0, len(signal), size))

    def _gain(self, amplitude: Amplitude | None) -> Tensor | None:
        return None if amplitude is None else self.engine.gain(lips=amplitude.lips, eyes=amplitude.eyes)

    def _drawn(
        self, photo: Photo, signals: Iterable[Signal], *, paste_back: bool, amplitude: Amplitude | None
    ) -> Iterator[Array]:
        """Frames of `photo`; those of one signal are rendered together."""
        gain, size = self._gain(amplitude), self.engine.card.size
        for part in signals:
            rendered = self.engine.render(photo.prepared, part, gain=gain)
            if rendered.layer is None and not paste_back:
                yield from to_uint8(rendered.patch)
                continue
            for index in range(len(part)):
                frame = photo.canvas.frame(rendered, index)
                yield frame if paste_back else crop_out(frame, photo.box, size=size)

    def _write(
        self,
        photo: Photo,
        frames: Iterable[Array],
        output: str | Path,
        *,
        fps: float,
        sound: Path | None,
        on_frame: Callable[[int, Array], None] | None,
    ) -> int:
        """Write frames of the photo's size; how many there were."""
        height, width = photo.image.shape[:2]
        with VideoWriter(output, fps=fps, size=(width, height), audio_from=sound, note=SYNTHETIC) as writer:
            for number, frame in enumerate(frames):
                writer.write(frame)
                if on_frame is not None:
                    on_frame(number, frame)
        return writer.frame_count

    def _view(self, picture: Array, box: CropBox, signal: Any) -> Tensor | None:
        """The square of a picture in which the model draws the face, in as many pixels as it has there."""
        window = self.engine.window(signal)
        if window is None:
            return None
        square = window_box(window, box, size=self.engine.card.size, pixels=self.engine.card.view)
        return to_tensor(crop_out(picture, square, size=self.engine.card.view))[None]

    def _canvas(
        self, picture: Array, landmarks: PixelFace, box: CropBox, signal: Any, faces: list[list[float]]
    ) -> tuple[Canvas, str]:
        """What composes a photo's frames, and the photo's remark."""
        if self.engine.window(signal) is None:
            return Pasted(picture, box), ""
        matte = self.priors.matte.matte(picture, landmarks.points, others=faces)
        return PersonCanvas(picture, matte.alpha, box, size=self.engine.card.size), matte.reason

    def _tracker(self, face: int = 0, *, crop: bool, name: str, measured: CropBox | None = None) -> SignalTracker[Any]:
        return SignalTracker(self.engine, self._faces(face, name), crop=crop, measured=measured)

    def _faces(self, face: int, name: str) -> FaceTracker:
        return FaceTracker(face, landmarker=self.priors.landmarker, detector=self.priors.detector, name=name)

    def _one_face(self, picture: Array, shown: str, *, face: int, crop: bool) -> tuple[PixelFace, CropBox, list[list[float]]]:
        """One face of a picture, its crop, and the boxes of all faces that were found."""
        tracker = self._faces(face, shown)
        tracked = tracker.track(picture)
        if tracked is None:
            raise FaceError(f"No face found in {shown}; take a sharper or closer one that looks at the camera.")
        landmarks = PixelFace.of(tracked, picture)
        return landmarks, crop_box(landmarks) if crop else whole_picture(picture), tracker.boxes

    def _input(self, picture: Array, landmarks: PixelFace, box: CropBox) -> FaceInput:
        return face_input(picture, landmarks, box, size=self.engine.card.size)

    def _check(self, photo: Photo, signal: Signal) -> None:
        if not isinstance(signal, type(photo.signal)):
            raise ModelError(f"This model is driven by {type(photo.signal).__name__}, not by {type(signal).__name__}.")
        if isinstance(signal, Motion):
            width, own = signal.expression.shape[1], photo.signal.expression.shape[1]
            if width != own:
                raise ModelError(f"The motion has {width} expression features, this model {own}: it is another model's.")
        if not len(signal):
            raise MediaError("The motion has no frames.")


def is_motion_file(path: str | Path) -> bool:
    """By its suffix."""
    return Path(path).suffix.lower() == ".safetensors"
