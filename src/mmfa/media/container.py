"""Opening media files with libav, and what reader and writer both ask of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from mmfa.errors import MediaError


@contextmanager
def open_input(path: Path) -> Iterator[InputContainer]:
    """A media file, closed at the end of the block. Raises MediaError when it can't be read."""
    try:
        # Absolute, so that a colon in the name is not read as a protocol; and a file may not make us
        # fetch another one from the network.
        container = av.open(str(path.resolve()), metadata_errors="replace", options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{path} is not a video or sound file that can be read, or is damaged.") from error
    with container:
        yield container


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
