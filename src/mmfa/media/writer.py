"""Frames out, as an H.264 file with sound that appears whole or not at all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from mmfa.errors import MediaError
from mmfa.media.container import open_input
from mmfa.media.files import atomic_output, check_input, disk_fault, replacing
from mmfa.media.image import Array
from mmfa.media.sound import packet_seconds, sound_packets

# Sound that each container takes as it is; anything else is encoded to AAC. None: everything.
_COPIED_AUDIO: dict[str, set[str] | None] = {
    ".mp4": {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"},
    ".mov": {"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le"},
    ".mkv": None,
}
_CONTAINER_OPTIONS = {".mp4": {"movflags": "+faststart"}, ".mov": {"movflags": "+faststart"}, ".mkv": {}}
VIDEO_SUFFIXES = tuple(_CONTAINER_OPTIONS)
"""Suffixes of the videos that can be written."""


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
        MediaError: unknown suffix, unwritable place, full disk, unreadable sound, no frame written; a path that is `audio_from`.
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
            raise MediaError(f"{self.path} has an unknown video suffix; use one of {', '.join(_CONTAINER_OPTIONS)}.")
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
            if self.audio_from is not None:
                resources.enter_context(replacing([self.path], inputs=[self.audio_from]))
            temporary = resources.enter_context(atomic_output(self.path))
            with self._errors():
                self._output = resources.enter_context(_closing(av.open(str(temporary), "w", options=_CONTAINER_OPTIONS[suffix])))
                if self.note is not None:
                    self._output.metadata["comment"] = self.note
                self._video = self._add_video()
                self._audio: Iterator[Packet[AudioStream]] = iter(())
                if self.audio_from is not None:
                    source = resources.enter_context(open_input(self.audio_from))
                    self._audio = sound_packets(source, self._output, copied=_COPIED_AUDIO[suffix])
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
            raise ValueError(f"Expected a frame ({height}, {width}, 3) uint8, got {image.shape} {image.dtype}.")
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
        stream: VideoStream = self._output.add_stream("libx264", rate=self.fps, options={"crf": str(self.quality)})
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
        while self._next_audio is not None and packet_seconds(self._next_audio) < until:
            self._output.mux(self._next_audio)
            self._next_audio = next(self._audio, None)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FFmpegError as error:
            if disk_fault(error) is not None:
                raise  # atomic_output has the sentence for it
            raise MediaError(f"{self.path} cannot be written: {error.strerror}.") from error


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
