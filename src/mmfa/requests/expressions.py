"""Expressions mixed and made up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch

from ..edit import neutralise
from ..errors import ConfigError
from ..expressions import interpolate_motions, limited_directions
from ..media.files import Files, check_input
from ..media.image import contact_sheet
from ..motion import DEFAULT_FPS, Motion
from ..session import Photo, Session
from ..watch import Watch
from .base import PhotoRequest, Result, check_picture_or_video, is_video, model_files, named_files, write_picture
from .words import expression_space, single_motion

_LARGEST_SHEET = 400


@dataclass(frozen=True, kw_only=True)
class _Expressions(PhotoRequest):
    """set: values of named directions. unclipped: keep values beyond what the models are trained on."""

    source: Path
    output: Path
    set: Mapping[str, float] = field(default_factory=dict)
    unclipped: bool = False

    def values(self, watch: Watch) -> dict[str, float]:
        return limited_directions(self.set, unclipped=self.unclipped, note=watch.warn)

    def ways(self) -> tuple[str, ...]:
        """Words that may name files."""
        return ()

    def files(self) -> Files:
        return Files([*named_files(self.source, *self.ways()), *model_files(self.model)], [self.output])

    def check(self, watch: Watch) -> None:
        self.values(watch)
        self.check_values()
        check_input(self.source)
        check_picture_or_video(self.output)

    def check_values(self) -> None:
        """Raise ConfigError for values that mean nothing."""

    def write(self, session: Session, photo: Photo, motion: Motion, rows: list[range], watch: Watch) -> Result:
        """A video of the motion, or a sheet of its frames in `rows`."""
        if is_video(self.output):
            session.write(photo, motion, self.output, watch=watch)
            return Result(outputs=(self.output,), summary=f"{self.output}: {len(motion)} frames.")
        faces = list(watch.over(session.render(photo, motion, paste_back=False), "render", len(motion)))
        return write_picture(self.output, contact_sheet([[faces[i] for i in row] for row in rows]))


@dataclass(frozen=True, kw_only=True)
class InterpolateRequest(_Expressions):
    """From one expression to another, on the way the expressions between; a sheet, one row from waypoint to waypoint, or a video.

    first, via, last: ``neutral``, ``source``, a photo, a motion file, ``VIDEO@SECONDS`` or ``code:NUMBERS``. steps: frames from
    waypoint to waypoint. pose: the source's, or the first or last waypoint's. `set` moves the last one.
    """

    name: ClassVar[str] = "interpolate"
    first: str
    last: str
    via: tuple[str, ...] = ()
    steps: int | None = None
    pose: Literal["keep", "A", "B"] = "keep"

    def ways(self) -> tuple[str, ...]:
        """All waypoints, from first to last."""
        return (self.first, *self.via, self.last)

    @property
    def count(self) -> int:
        """Frames from waypoint to waypoint: `steps`, or by default what suits the output."""
        return (25 if is_video(self.output) else 6) if self.steps is None else self.steps

    def check_values(self) -> None:
        """Raise ConfigError for steps out of range, and for a neutral end that is to move."""
        pictures = self.count * (len(self.ways()) - 1)
        if not 1 <= self.count <= 10_000:
            raise ConfigError(f"`steps` lies between 1 and 10000, not {self.count}.")
        if not is_video(self.output) and pictures > _LARGEST_SHEET:
            raise ConfigError(f"A sheet of {pictures} pictures is too large; write a video, or take fewer `steps`.")
        if self.set and self.last == "neutral":
            raise ConfigError(
                "A neutral expression doesn't move along a direction: leave out `set`, or end elsewhere than neutral."
            )

    def work(self, session: Session | None, watch: Watch) -> Result:
        """Interpolate between the waypoints' expressions, in the pose that is asked for."""
        session = self.session(session)
        space = expression_space(session, self.model)
        photo = self.open_photo(session, self.source, watch)
        waypoints = [self.waypoint(session, photo, text, watch) for text in self.ways()]
        pose = {"keep": photo.signal, "A": waypoints[0], "B": waypoints[-1]}[self.pose]
        waypoints[-1] = replace(waypoints[-1], expression=space.set(waypoints[-1].expression, self.values(watch)))
        path = replace(interpolate_motions(space, waypoints, steps=self.count, pose=pose), fps=DEFAULT_FPS)
        starts = range(0, len(path) - 1, self.count)
        return self.write(session, photo, path, [range(start, start + self.count + 1) for start in starts], watch)

    def waypoint(self, session: Session, photo: Photo, text: str, watch: Watch) -> Motion:
        """One motion by what the user calls it."""
        own: Motion = photo.signal
        if text in ("source", "neutral"):
            return own if text == "source" else neutralise(own)
        return single_motion(session, photo, text, watch, model=self.model, crop=self.crop, what=text)


@dataclass(frozen=True, kw_only=True)
class SampleRequest(_Expressions):
    """Expressions that nobody made, drawn from the expression VAE: a sheet of `n`, or a video of `seconds` that is a loop."""

    name: ClassVar[str] = "sample"
    n: int | None = None
    seconds: float | None = None
    seed: int = 0
    temperature: float = 1.0

    def check_values(self) -> None:
        """Raise ConfigError for numbers out of range, and for those that the kind of output has no use for."""
        if is_video(self.output) and self.n is not None:
            raise ConfigError("`n` counts the faces of a picture; a video has `seconds`.")
        if not is_video(self.output) and self.seconds is not None:
            raise ConfigError("`seconds` is the length of a video; a picture has `n`.")
        if self.n is not None and not 1 <= self.n <= _LARGEST_SHEET:
            raise ConfigError(f"`n` lies between 1 and {_LARGEST_SHEET}, not {self.n}.")
        if self.seconds is not None and not 0.2 <= self.seconds <= 3600:
            raise ConfigError(f"`seconds` lies between 0.2 and 3600, not {self.seconds:g}.")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"`seed` is a number from 0, not {self.seed}.")

    def work(self, session: Session | None, watch: Watch) -> Result:
        """Draw expressions, each of them alone or as a walk, in the photo's pose."""
        session = self.session(session)
        space = expression_space(session, self.model)
        photo = self.open_photo(session, self.source, watch)
        generator = torch.Generator().manual_seed(self.seed)
        if is_video(self.output):
            frames = round((6.0 if self.seconds is None else self.seconds) * DEFAULT_FPS)
            drawn = space.walk(frames, fps=DEFAULT_FPS, generator=generator, temperature=self.temperature)
        else:
            drawn = space.sample(9 if self.n is None else self.n, generator, temperature=self.temperature)
        expression = space.set(drawn, self.values(watch))
        motion = replace(photo.signal.expand(len(drawn)), expression=expression, fps=DEFAULT_FPS)
        columns = math.ceil(math.sqrt(len(drawn)))
        rows = [range(i, min(i + columns, len(drawn))) for i in range(0, len(drawn), columns)]
        return self.write(session, photo, motion, rows, watch)
