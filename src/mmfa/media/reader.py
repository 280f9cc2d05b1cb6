"""Videos in, one upright RGB frame at a time, coping with what phones record."""

from __future__ import annotations

import os
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation
from av.video.stream import VideoStream

from mmfa.errors import MediaError
from mmfa.media.container import open_video, start_seconds
from mmfa.media.files import check_input
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
# Fewer key frames than these say little of what a long video shows.
_FEW_KEY_FRAMES = 24
LONGEST_SIDE = 4096
"""Larger frames are reduced to this, in pixels, before they become RGB: all that is called 4k stays as it is."""
_LARGE_PIXELS = 3840 * 2160
# Each thread holds a frame of its own: 50 MB or more where frames are larger than `_LARGE_PIXELS`.
_LARGE_THREADS = 2
_HD_ROWS = 720
_UNSPECIFIED = 2


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself.

    Attributes:
        width, height: size in pixels of the upright frames as they are read; see `VideoReader`.
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

    Frames of over 4096 pixels a side are reduced to that as they become RGB: searching an 8k frame for faces takes gigabytes.
    All others come as they are stored.

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
            self._stored_size = _fitted(first.width, first.height)
            self._is_hd = first.height >= _HD_ROWS
            self.info = _describe(container, stream, first, self._stored_size)

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

    def glance(self, most: int) -> Iterator[Frame]:
        """At most `most` frames, spread over the whole video, with their times: a first look at a long one.

        They are key frames, which are decoded without what lies between them; where there are too few of those, every n-th frame.
        """
        with self._open() as (container, stream):
            keys = self._count_key_frames(container, stream)
        if keys < min(most, _FEW_KEY_FRAMES):
            count = self.info.frame_count or 0
            yield from islice(self, 0, None, max(1, -(-count // most)))
            return
        with self._open() as (container, stream):
            stream.codec_context.skip_frame = "NONKEY"
            for frame, time, _ in islice(self._timed(self._decode(container, stream), stream), 0, None, -(-keys // most)):
                yield Frame(image=self._upright(frame), time=time)

    def _count_key_frames(self, container: InputContainer, stream: VideoStream) -> int:
        count = 0
        with suppress(FFmpegError):  # the file breaks off
            for packet in container.demux(stream):
                count += packet.is_keyframe and packet.size > 0
        return count

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
        with open_video(self.path) as (container, stream):
            stream.thread_type = "AUTO"
            if stream.codec_context.width * stream.codec_context.height > _LARGE_PIXELS:
                stream.codec_context.thread_count = min(_LARGE_THREADS, os.cpu_count() or 1)
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
            if packet is None or (packet.size == 0 and packet.dts is None):
                return

    def _timed(self, frames: Iterator[VideoFrame], stream: VideoStream) -> Iterator[tuple[VideoFrame, float, float]]:
        """Add time from the start of the video and duration, in seconds; missing stamps are filled in."""
        start = start_seconds(stream)
        period = float(1 / self.info.fps)
        previous = -period
        first = True
        for frame in frames:
            stamped = frame.pts is not None and frame.time_base is not None
            if stamped and (start is None or (first and abs(frame.time - start) <= _REORDERING * period)):
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
        untagged_hd = frame.colorspace == _UNSPECIFIED and self._is_hd
        rgb = frame.reformat(
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=Colorspace.ITU709 if untagged_hd else None,
            interpolation=Interpolation.AREA if max(frame.width, frame.height) > LONGEST_SIDE else None,
        ).to_ndarray()
        return np.ascontiguousarray(np.rot90(rgb, self.info.rotation // 90), dtype=np.uint8)


def _fitted(width: int, height: int) -> tuple[int, int]:
    """The size to read frames at: their own, or `LONGEST_SIDE` on the longer side."""
    shrink = max(1.0, max(width, height) / LONGEST_SIDE)
    return max(1, round(width / shrink)), max(1, round(height / shrink))


def _describe(container: InputContainer, stream: VideoStream, first: VideoFrame, size: tuple[int, int]) -> VideoInfo:
    rate = stream.average_rate or stream.guessed_rate
    fps = rate if rate is not None and 0 < rate <= _HIGHEST_RATE else _DEFAULT_RATE
    duration: float | None = None
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration = container.duration / av.time_base
    frame_count = stream.frames or (None if duration is None else round(duration * fps))
    rotation = round(first.rotation / 90) * 90 % 360
    width, height = size
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
