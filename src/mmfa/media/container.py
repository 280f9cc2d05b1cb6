"""Opening media files with libav, and what reader and writer both ask of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from mmfa.errors import MediaError

# What libav also opens as "video": pictures, text drawn as a terminal, lists of other files.
_NOT_VIDEO = {"image2", "image2pipe", "tty", "hls", "dash", "concat", "sdp"}
_LARGEST_PIXELS = 140_000_000
"""16384 x 8192 and a little: a frame of more is a broken header, and would take gigabytes."""


@contextmanager
def open_input(path: Path) -> Iterator[InputContainer]:
    """A video or sound file, closed at the end of the block.

    Pictures and lists of other files are not tried, and nothing but files is opened, whatever the file says. Raises MediaError
    when it can't be read.
    """
    try:
        # Absolute, so that a colon in the name is not read as a protocol.
        container = av.open(
            str(path.resolve()),
            metadata_errors="replace",
            options={"protocol_whitelist": "file", "format_whitelist": _formats()},
        )
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{path} is not a video or sound file that can be read, or is damaged.") from error
    with container:
        yield container


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A video file and its first moving video stream; every video of the package is opened here.

    Raises MediaError for a file that is none, has no video, one in an unknown codec, or frames of over 140 megapixels.
    """
    with open_input(path) as container:
        stream = video_stream(container)
        if stream is None:
            raise MediaError(f"{path} has no video in it.")
        if stream.codec_context is None:
            raise MediaError(f"{path} uses a video codec that cannot be read.")
        if stream.codec_context.width * stream.codec_context.height > _LARGEST_PIXELS:
            raise MediaError(
                f"{path} is too large: {stream.codec_context.width} x {stream.codec_context.height} pixels a frame, "
                f"the limit is {_LARGEST_PIXELS // 1_000_000} megapixels."
            )
        # A frame in the middle may claim another size than the file's header does.
        stream.codec_context.options = {"max_pixels": str(_LARGEST_PIXELS)}
        yield container, stream


@lru_cache(maxsize=1)
def _formats() -> str:
    return ",".join(sorted(name for name in av.formats_available if name not in _NOT_VIDEO and not name.endswith("_pipe")))


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first moving video stream; the cover picture of a sound file is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def start_seconds(stream: VideoStream | AudioStream) -> float | None:
    """The time of the first frame or sample, None if the file doesn't say."""
    if stream.start_time is None or stream.time_base is None:
        return None
    return float(stream.start_time * stream.time_base)
