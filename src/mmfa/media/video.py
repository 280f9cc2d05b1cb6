"""Videos, one frame at a time: a reader that copes with what phones record, and an atomic H.264 writer.

A frame is an (H, W, 3) uint8 array, RGB, upright. Memory does not grow with the length of a video.
"""

from __future__ import annotations

import errno
import math
import os
import weakref
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from mmfa.errors import MediaError
from mmfa.media.files import atomic_output, check_input
from mmfa.media.image import Array

_DEFAULT_RATE = Fraction(25)
_HIGHEST_RATE = 240
# A frame this far (in frame periods) from its place on the constant grid makes a repeat or a drop.
# Over a half, so that the jitter of real recordings does not.
_TOLERANCE = 0.75
# AVI stamps every frame late by the frames that the decoder holds back; a first frame later than that
# many periods really is late, since what was before it could not be decoded.
_REORDERING = 3
# Longer holes come from broken timestamps (files joined carelessly) and are not filled with repeats.
_LONGEST_HOLE_SECONDS = 60.0
# What libav also opens as "video": pictures, text drawn as a terminal, lists of other files.
_NOT_VIDEO = {"image2", "tty", "hls", "dash", "concat", "sdp"}
_HD_ROWS = 720
_UNSPECIFIED = 2

# Sound that each container takes as it is; anything else is encoded to AAC. None: everything.
_COPIED_AUDIO: dict[str, set[str] | None] = {
    ".mp4": {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"},
    ".mov": {"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le"},
    ".mkv": None,
}
_CONTAINER_OPTIONS = {".mp4": {"movflags": "+faststart"}, ".mov": {"movflags": "+faststart"}, ".mkv": {}}
VIDEO_SUFFIXES = tuple(_CONTAINER_OPTIONS)
"""Suffixes of the videos that can be written."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself.

    Attributes:
        width, height: size in pixels of the upright frames.
        fps: average frames per second.
        frame_count: estimate, None if unknown.
        duration: seconds, None if unknown.
        has_audio: there is a sound stream.
        rotation: degrees counter-clockwise (0, 90, 180, 270) by which stored frames are turned to be upright.
    """

    width: int
    height: int
    fps: Fraction
    frame_count: int | None
    duration: float | None
    has_audio: bool
    rotation: int


@dataclass(frozen=True)
class Frame:
    """One upright frame: (H, W, 3) uint8 RGB, and its time in seconds from the start of the video."""

    image: Array
    time: float


class VideoReader:
    """Iterate over the frames of a video file; every iteration starts anew.

    With `constant_rate`, frame n belongs to time n / info.fps: frames of a variable-rate video are repeated
    or dropped by their timestamps, so that written at `info.fps` they stay in step with the sound. Frames of
    a constant-rate video come out exactly once each. Without it every decoded frame has its own time.

    Attributes:
        info: properties of the video, see `VideoInfo`.
        skipped: packets of the current or last iteration that could not be decoded.

    Raises:
        MediaError: the file is missing, not a video, without video stream, or no frame of it decodes.
    """

    def __init__(self, path: str | os.PathLike[str], *, constant_rate: bool = True) -> None:
        self.path = check_input(path)
        self.constant_rate = constant_rate
        self.skipped = 0
        self._iterations: weakref.WeakSet[Generator[Frame]] = weakref.WeakSet()
        with self._open() as (container, stream):
            first = next(self._decode(container, stream), None)
            if first is None:
                raise MediaError(f"{self.path} is damaged: no frame of it can be decoded.")
            self._stored_size = (first.width, first.height)
            self.info = _describe(container, stream, first)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        frames = self._frames()
        self._iterations.add(frames)
        return frames

    def close(self) -> None:
        """End every running iteration and close its file."""
        for frames in list(self._iterations):
            frames.close()

    def _frames(self) -> Generator[Frame]:
        with self._open() as (container, stream):
            timed = self._timed(self._decode(container, stream), stream)
            if self.constant_rate:
                yield from self._at_constant_rate(timed)
            else:
                for frame, time, _ in timed:
                    yield Frame(image=self._upright(frame), time=time)

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        with _open_input(self.path) as container:
            stream = _video_stream(container)
            if container.format.name in _NOT_VIDEO or container.format.name.endswith("_pipe"):
                raise MediaError(f"{self.path} is not a video.")
            if stream is None:
                raise MediaError(f"{self.path} has no video in it.")
            if stream.codec_context is None:
                raise MediaError(f"{self.path} uses a video codec that cannot be read.")
            stream.thread_type = "AUTO"
            yield container, stream

    def _decode(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        self.skipped = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:  # the file breaks off
                self.skipped += 1
                packet = None
            try:
                frames = stream.decode(packet)
            except FFmpegError:
                self.skipped += 1
                frames = []
            yield from frames
            # demux() ends with an empty packet that flushes the decoder.
            if packet is None or packet.size == 0 and packet.dts is None:
                return

    def _timed(
        self, frames: Iterator[VideoFrame], stream: VideoStream
    ) -> Iterator[tuple[VideoFrame, float, float]]:
        """Add time from the start of the video and duration, in seconds; missing stamps are filled in."""
        start = _start_seconds(stream)
        period = float(1 / self.info.fps)
        previous = -period
        first = True
        for frame in frames:
            stamped = frame.pts is not None and frame.time_base is not None
            if stamped and (start is None or first and abs(frame.time - start) <= _REORDERING * period):
                start = frame.time
            first = False
            time = frame.time - start if stamped and start is not None else previous + period
            previous = time
            duration = float(frame.duration * frame.time_base) if frame.time_base is not None else 0.0
            yield frame, time, duration or period

    def _at_constant_rate(self, timed: Iterator[tuple[VideoFrame, float, float]]) -> Iterator[Frame]:
        rate = float(self.info.fps)
        count = 0
        offset = 0.0  # seconds cut out at holes
        image: Array | None = None
        end = 0.0

        def emit(image: Array) -> Frame:
            nonlocal count
            count += 1
            return Frame(image=image, time=(count - 1) / rate)

        for frame, time, duration in timed:
            time -= offset
            late = time - count / rate
            if late > _LONGEST_HOLE_SECONDS or late < -max(1.0, 3 / rate):
                offset += late
                time = count / rate
            end = time + duration
            place = time * rate
            new = self._upright(frame)
            if place < count - _TOLERANCE:
                image = new  # too early to be shown, but the one to hold if a pause follows
                continue
            if place > count + _TOLERANCE:
                # The picture before stays up until the new one is due; the first one has none before it.
                held = new if image is None else image
                while count < round(place):
                    yield emit(held.copy())
            image = new
            yield emit(image)
        if image is not None and end - count / rate < _LONGEST_HOLE_SECONDS:
            while count + _TOLERANCE < end * rate:
                yield emit(image.copy())

    def _upright(self, frame: VideoFrame) -> Array:
        width, height = self._stored_size
        # Untagged HD is BT.709 by convention, but libav would take it for BT.601.
        untagged_hd = frame.colorspace == _UNSPECIFIED and height >= _HD_ROWS
        rgb = frame.reformat(
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=Colorspace.ITU709 if untagged_hd else None,
        ).to_ndarray()
        return np.ascontiguousarray(np.rot90(rgb, self.info.rotation // 90), dtype=np.uint8)


class VideoWriter:
    """Write frames to an H.264 file (.mp4, .mov, .mkv) that appears only when the with-block ends cleanly.

    The sound of `audio_from` is copied as it is where the container allows and encoded to AAC where not, and
    cut to the length of the written video; it starts together with the video of `audio_from`. An odd width or
    height is padded to even by repeating the last column or row.

    Args:
        path: the file to write; an older one is replaced at the end and untouched on failure.
        fps: frames per second.
        size: (width, height) of the frames in pixels.
        audio_from: file whose sound is taken, if it has any.
        quality: CRF of x264: 0 lossless, 18 visually so, 51 worst.
        note: the comment in the file's metadata.

    Raises:
        MediaError: unknown suffix, unwritable place, full disk, unreadable sound, or no frame written.
        ValueError: fps or size out of range, or a frame of the wrong shape.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fps: Fraction | float,
        size: tuple[int, int],
        audio_from: Path | None = None,
        quality: int = 18,
        note: str | None = None,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in _CONTAINER_OPTIONS:
            raise MediaError(
                f"{self.path} has an unknown video suffix; use one of {', '.join(_CONTAINER_OPTIONS)}."
            )
        if not (math.isfinite(fps) and 0 < fps <= 1000):
            raise ValueError(f"fps must lie in (0, 1000], got {fps}.")
        if min(size) < 2:
            raise ValueError(f"A video must be at least 2 x 2 pixels, got {size}.")
        self.fps = Fraction(fps).limit_denominator(100_000)
        self.size = size
        self.audio_from = None if audio_from is None else check_input(audio_from)
        self.quality = quality
        self.note = note
        self.frame_count = 0
        self._resources: ExitStack | None = None

    def __enter__(self) -> VideoWriter:
        suffix = self.path.suffix.lower()
        with ExitStack() as resources:
            temporary = resources.enter_context(atomic_output(self.path))
            with self._errors():
                self._output = resources.enter_context(
                    _closing(av.open(str(temporary), "w", options=_CONTAINER_OPTIONS[suffix]))
                )
                if self.note is not None:
                    self._output.metadata["comment"] = self.note
                self._video = self._add_video()
                self._audio: Iterator[Packet[AudioStream]] = iter(())
                if self.audio_from is not None:
                    source = resources.enter_context(_open_input(self.audio_from))
                    self._audio = _audio_packets(source, self._output, copied=_COPIED_AUDIO[suffix])
                self._next_audio = next(self._audio, None)
                self._output.start_encoding()
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        resources, self._resources = self._resources, None
        if resources is None:
            return
        if error is not None:
            resources.__exit__(kind, error, trace)
            return
        with self._errors(), resources:
            if self.frame_count == 0:
                raise MediaError(f"{self.path} was not written: there is no frame to write.")
            self._output.mux(self._video.encode(None))
            self._mux_audio()

    def write(self, image: Array) -> None:
        """Append one frame (H, W, 3) uint8 RGB of the size given at the start."""
        if self._resources is None:
            raise ValueError("VideoWriter.write() works only inside its with-block.")
        width, height = self.size
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise ValueError(
                f"Expected a frame ({height}, {width}, 3) uint8, got {image.shape} {image.dtype}."
            )
        if width % 2 or height % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts = self.frame_count
        frame.time_base = 1 / self.fps
        with self._errors():
            self._output.mux(self._video.encode(frame))
            self.frame_count += 1
            self._mux_audio()

    def _add_video(self) -> VideoStream:
        width, height = self.size
        stream: VideoStream = self._output.add_stream(
            "libx264", rate=self.fps, options={"crf": str(self.quality)}
        )
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / self.fps
        stream.color_range = ColorRange.MPEG
        stream.colorspace = Colorspace.ITU709
        stream.color_primaries = ColorPrimaries.BT709
        stream.color_trc = ColorTrc.BT709
        return stream

    def _mux_audio(self) -> None:
        """Pass on the sound up to the end of the frames written so far."""
        until = self.frame_count / self.fps
        while self._next_audio is not None and _packet_seconds(self._next_audio) < until:
            self._output.mux(self._next_audio)
            self._next_audio = next(self._audio, None)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FFmpegError as error:
            if error.errno == errno.ENOSPC:
                raise  # atomic_output has the sentence for it
            raise MediaError(f"{self.path} cannot be written: {error.strerror}.") from error


@contextmanager
def _open_input(path: Path) -> Iterator[InputContainer]:
    try:
        # Absolute, so that a colon in the name is not read as a protocol; and a file may not make us
        # fetch another one from the network.
        container = av.open(
            str(path.resolve()), metadata_errors="replace", options={"protocol_whitelist": "file"}
        )
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{path} is not a video or sound file that can be read, or is damaged.") from error
    with container:
        yield container


@contextmanager
def _closing(output: OutputContainer) -> Iterator[OutputContainer]:
    """Close `output`; an error on closing counts only if nothing went wrong before."""
    try:
        yield output
    except BaseException:
        with suppress(FFmpegError):
            output.close()
        raise
    output.close()


def _video_stream(container: InputContainer) -> VideoStream | None:
    """The first moving video stream; the cover picture of a sound file is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def _start_seconds(stream: VideoStream | AudioStream) -> float | None:
    if stream.start_time is None or stream.time_base is None:
        return None
    return float(stream.start_time * stream.time_base)


def _describe(container: InputContainer, stream: VideoStream, first: VideoFrame) -> VideoInfo:
    rate = stream.average_rate or stream.guessed_rate
    fps = rate if rate is not None and 0 < rate <= _HIGHEST_RATE else _DEFAULT_RATE
    duration: float | None = None
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration = container.duration / av.time_base
    frame_count = stream.frames or (None if duration is None else round(duration * fps))
    rotation = round(first.rotation / 90) * 90 % 360
    width, height = first.width, first.height
    if rotation in (90, 270):
        width, height = height, width
    return VideoInfo(
        width=width,
        height=height,
        fps=fps,
        frame_count=frame_count,
        duration=duration,
        has_audio=len(container.streams.audio) > 0,
        rotation=rotation,
    )


def _packet_seconds(packet: Packet[AudioStream]) -> Fraction:
    if packet.pts is None or packet.time_base is None:
        return Fraction(0)
    return packet.pts * packet.time_base


def _audio_packets(
    source: InputContainer, output: OutputContainer, *, copied: set[str] | None
) -> Iterator[Packet[AudioStream]]:
    """Add a sound stream to `output` at once, and return its packets, timed from the start of the video."""
    if not source.streams.audio:
        return iter(())
    stream = source.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError(f"{source.name} has sound in a codec that cannot be read.")
    video = _video_stream(source)
    start = _start_seconds(stream if video is None else video) or 0.0
    if copied is None or stream.codec_context.codec.canonical_name in copied:
        return _copied(source, stream, output.add_stream_from_template(stream), start=start)
    rate = stream.rate if stream.rate in (44100, 48000) else 48000
    layout = "mono" if stream.channels == 1 else "stereo"
    encoder: AudioStream = output.add_stream("aac", rate=rate, layout=layout)
    encoder.bit_rate = 96_000 * encoder.channels
    return _encoded(source, stream, encoder, start=start)


def _copied(
    source: InputContainer, stream: AudioStream, target: AudioStream, *, start: float
) -> Iterator[Packet[AudioStream]]:
    previous: int | None = None
    for packet in _readable(source, stream):
        # The last, empty packet has no time; one going back in time (a damaged file) would be refused.
        if packet.pts is None or packet.dts is None or packet.time_base is None:
            continue
        if previous is not None and packet.dts <= previous:
            continue
        previous = packet.dts
        shift = round(start / packet.time_base)
        # One packet before the start is kept: the decoder needs it to begin cleanly.
        if packet.pts + 2 * (packet.duration or 0) < shift:
            continue
        packet.pts -= shift
        packet.dts -= shift
        packet.stream = target
        yield packet


def _encoded(
    source: InputContainer, stream: AudioStream, encoder: AudioStream, *, start: float
) -> Iterator[Packet[AudioStream]]:
    resampler = AudioResampler(
        format="fltp", layout=encoder.layout, rate=encoder.rate, frame_size=encoder.codec_context.frame_size
    )
    for packet in _readable(source, stream):
        with suppress(FFmpegError):  # a damaged packet leaves a hole in the sound
            for frame in stream.decode(packet):
                if frame.pts is None or frame.time_base is None:
                    continue
                frame.pts -= round(start / frame.time_base)
                if frame.pts + frame.samples / frame.sample_rate / frame.time_base <= 0:
                    continue
                for piece in resampler.resample(frame):
                    yield from encoder.encode(piece)
    for piece in resampler.resample(None):
        yield from encoder.encode(piece)
    yield from encoder.encode(None)


def _readable(source: InputContainer, stream: AudioStream) -> Iterator[Packet[AudioStream]]:
    """Packets up to the end of the file or to where it breaks off."""
    with suppress(FFmpegError):
        yield from source.demux(stream)
