"""What users call a single motion: a photo, a motion file, a frame of a video, a code of the expression VAE."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import ConfigError, MediaError
from ..expressions import ExpressionSpace
from ..media.files import check_input
from ..media.video import VideoReader
from ..motion import Motion
from ..session import Photo, Session, is_motion_file
from ..watch import Watch
from .base import note_driver

CODE = "code:"
_LARGEST_CODE = 10.0
"""Codes are drawn from N(0, I): beyond this one is a mistake."""


def expression_space(session: Session, model: str) -> ExpressionSpace:
    """The expression VAE beside the weights. Raises ModelError for a model that has none."""
    session.engine.card.require("expressions")
    return ExpressionSpace.load(model)


def single_motion(session: Session, photo: Photo, text: str, watch: Watch, *, model: str, crop: bool, what: str) -> Motion:
    """The one motion that a photo, a motion file or ``VIDEO@SECONDS`` shows, or the photo's with the expression of a code.

    Raises ConfigError for words that mean nothing, with `what` they say, and MediaError for files.
    """
    session.engine.card.require("edit")
    if text.startswith(CODE):
        return _of_code(photo, text, expression_space(session, model))
    path, at, moment = text.rpartition("@")
    if at and not Path(text).exists():
        tracked = session.track_at(path, seconds(moment, what=what), crop=crop)
    else:
        _refuse_clip(text, _video_frames(text))  # before it is tracked
        tracked = session.track_any(text, crop=crop, watch=watch)
        _refuse_clip(text, len(tracked.signal))
    note_driver(watch, text, tracked.faces)
    motion: Motion = tracked.signal
    return motion


def _video_frames(path: str) -> int:
    """How many frames a file says that it has, if it is a video; else 0. Raises MediaError for a file that isn't there."""
    if not is_motion_file(check_input(path)):
        with contextlib.suppress(MediaError), VideoReader(path) as video:
            return video.info.frame_count or 0
    return 0


def _refuse_clip(text: str, frames: int) -> None:
    if frames > 1:
        raise ConfigError(f"{text} has {frames} frames; say which one, as {text}@SECONDS.")


def _of_code(photo: Photo, text: str, space: ExpressionSpace) -> Motion:
    """Numbers with commas between; those left out are 0."""
    width = space.vae.params.code
    try:
        numbers = [float(word) for word in text.removeprefix(CODE).split(",")]
    except ValueError as error:
        raise ConfigError(f"{text!r} is no code: write {CODE} and up to {width} numbers, such as {CODE}0.5,-1.2.") from error
    if len(numbers) > width or not all(abs(number) <= _LARGEST_CODE for number in numbers):
        raise ConfigError(f"A code has up to {width} numbers between {-_LARGEST_CODE:g} and {_LARGEST_CODE:g}, unlike {text}.")
    own: Motion = photo.signal
    code = torch.zeros(1, width).index_copy(1, torch.arange(len(numbers)), torch.tensor([numbers]))
    return replace(own, expression=space.decode(code), intensity=torch.ones_like(own.intensity))


def seconds(text: str, *, what: str) -> float:
    """A finite number of seconds, or ConfigError, which begins with `what`."""
    with contextlib.suppress(ValueError):
        if math.isfinite(float(text)):
            return float(text)
    raise ConfigError(f"{what}: {text!r} is no number of seconds.")
