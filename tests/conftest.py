"""Shared by the end-to-end, command-line and trainer tests: real pictures, and the shipped model loaded once."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from mmfa.animate import Animator
from mmfa.demo import DRIVING, SOURCE, packaged
from mmfa.media.image import Array
from mmfa.media.video import VideoReader

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def portrait() -> Path:
    """A photo of one person, 512 x 512."""
    return packaged(*SOURCE)


@pytest.fixture(scope="session")
def carphone() -> Path:
    """A talking man who turns his head: 120 frames of 176 x 144, without sound."""
    return packaged(*DRIVING)


@pytest.fixture(scope="session")
def carphone_frames(carphone: Path) -> list[Array]:
    with VideoReader(carphone) as video:
        return [frame.image for frame in video]


@pytest.fixture(scope="session")
def short_driving(carphone_frames: list[Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 24 frames of carphone at 25 fps, with a sine as AAC sound."""
    path = tmp_path_factory.mktemp("driving") / "short.mp4"
    write_clip(path, carphone_frames[:24], fps=25, sound=True)
    return path


@pytest.fixture(scope="session")
def animator() -> Animator:
    return Animator.from_pretrained("lite", device="cpu")


def write_clip(path: Path, frames: list[Array], *, fps: int, sound: bool) -> None:
    """Encode with PyAV alone, so that the package's own writer isn't what makes the input."""
    with av.open(str(path), "w") as output:
        if frames:
            video = output.add_stream("libx264", rate=fps, options={"crf": "12", "g": "4"})
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = "yuv420p"
        if sound:
            audio = output.add_stream("aac", rate=44100, layout="mono")
            seconds = len(frames) / fps or 1.0
            wave = np.sin(np.arange(int(44100 * seconds)) * (2 * np.pi * 440 / 44100)).astype(np.float32) / 4
        for image in frames:
            output.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        if frames:
            output.mux(video.encode(None))
        if sound:
            for start in range(0, len(wave), 1024):
                block = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts = 44100, start
                output.mux(audio.encode(block))
            output.mux(audio.encode(None))


@pytest.fixture(scope="session")
def clip_writer():  # noqa: ANN201
    """`write_clip`, for tests that make their own videos."""
    return write_clip
