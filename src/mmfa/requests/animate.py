"""A photo moves as a video does; the motion of a video as a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from ..demo import DRIVING, SOURCE, next_step, packaged, write_sheet
from ..errors import ConfigError, MediaError
from ..media.files import Files, check_input, check_output
from ..relative import parse_modes
from ..session import Session
from ..smooth import DEFAULT_STRENGTH, MotionSmoother
from ..watch import Watch
from .base import PhotoRequest, PortraitRequest, Result, amplitude, check_video, model_files, note_driver


@dataclass(frozen=True, kw_only=True)
class _Driven(PhotoRequest):
    """What is common to all that animates by a driver: see `Session.animate`."""

    mode: str | None = None
    anchor: int | Literal["auto", "first"] = "auto"
    smooth: float = DEFAULT_STRENGTH
    lips: float = 1.0
    eyes: float = 1.0
    unclipped: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.anchor, int) and self.anchor < 0:
            raise ConfigError(f"{self.name}: anchor must be auto, first or a frame from 0, not {self.anchor}.")

    def check_driven(self, source: Path, driving: Path, output: Path, watch: Watch) -> None:
        if self.mode is not None:
            parse_modes(self.mode)
        MotionSmoother(self.smooth)
        amplitude(self.lips, self.eyes, watch)
        for path in (source, driving):
            check_input(path)
        check_video(output)

    def animate(self, given: Session | None, source: Path, driving: Path, output: Path, watch: Watch) -> Result:
        session = self.session(given)
        photo = self.open_photo(session, source, watch)
        report = session.animate(
            photo,
            driving,
            output,
            mode=self.mode,
            anchor=self.anchor,
            crop=self.crop,
            smoothing=self.smooth,
            amplitude=amplitude(self.lips, self.eyes, watch),
            unclipped=self.unclipped,
            watch=watch,
        )
        note_driver(watch, driving, report.driving_faces, held=report.held)
        return Result(outputs=(output,), summary=f"{report.output}: {report.frames} frames at {report.fps:g} fps.")


@dataclass(frozen=True, kw_only=True)
class AnimateRequest(_Driven):
    """A photo and a driving video, or a motion file, in; a video out, with the driving video's sound."""

    name: ClassVar[str] = "animate"
    source: Path
    driving: Path
    output: Path

    def files(self) -> Files:
        """Photo, driver and model; the video."""
        return Files([self.source, self.driving, *model_files(self.model)], [self.output])

    def check(self, watch: Watch) -> None:
        """Raise MmfaError for files and values that can't work."""
        self.check_driven(self.source, self.driving, self.output, watch)

    def work(self, session: Session | None, watch: Watch) -> Result:
        """Animate, see `Session.animate`."""
        return self.animate(session, self.source, self.driving, self.output, watch)


@dataclass(frozen=True, kw_only=True)
class MotionRequest(PortraitRequest):
    """A video in, its motion as a file out."""

    name: ClassVar[str] = "motion"
    video: Path
    output: Path

    def files(self) -> Files:
        """Video and model; the motion file."""
        return Files([self.video, *model_files(self.model)], [self.output])

    def check(self, watch: Watch) -> None:  # noqa: ARG002 - there is nothing to note yet
        """Raise MediaError for files that can't work."""
        check_input(self.video)
        if self.output.suffix.lower() != ".safetensors":
            raise MediaError(f"{self.output} has an unknown motion suffix; use .safetensors.")
        check_output(self.output)

    def work(self, session: Session | None, watch: Watch) -> Result:
        """Track, see `Session.track`."""
        session = self.session(session)
        session.engine.card.require("edit")
        tracked = session.track(self.video, face=self.face, crop=self.crop, watch=watch)
        tracked.signal.save(self.output)
        if tracked.faces > 1:
            watch.note(f"{self.video} shows {tracked.faces} faces; took number {self.face} by size (choose with `face`).")
        note_driver(watch, self.video, 1, held=tracked.held)
        return Result(outputs=(self.output,), summary=f"{self.output}: {len(tracked.signal)} frames.")


@dataclass(frozen=True, kw_only=True)
class DemoRequest(_Driven):
    """The packaged portrait by the packaged video, or one's own, in a folder: a video, and a sheet that shows it."""

    name: ClassVar[str] = "demo"
    answers: ClassVar[bool] = True
    output: Path = Path("demo")
    source: Path | None = None
    driving: Path | None = None

    @property
    def outputs(self) -> tuple[Path, Path]:
        """The video, and the sheet that shows it."""
        return self.output / "demo.mp4", self.output / "demo.png"

    def files(self) -> Files:
        """One's own photo and driver, and the model; see `outputs`."""
        reads = [path for path in (self.source, self.driving) if path is not None]
        return Files([*reads, *model_files(self.model)], self.outputs)

    def inputs(self) -> tuple[Path, Path]:
        """Photo and driver: one's own, or those of packages. Raises MediaError where those aren't installed."""
        return self.source or packaged(*SOURCE), self.driving or packaged(*DRIVING)

    def check(self, watch: Watch) -> None:
        """Raise MmfaError for files and values that can't work; the folder is made here."""
        for path in self.inputs():
            check_input(path)
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MediaError(f"The folder {self.output} cannot be made: {error.strerror}.") from error
        self.check_driven(*self.inputs(), self.outputs[0], watch)

    def work(self, session: Session | None, watch: Watch) -> Result:
        """Animate, and draw the sheet; the summary says where both are and what to do next."""
        source, driving = self.inputs()
        video, sheet = self.outputs
        done = self.animate(session, source, driving, video, watch)
        write_sheet(source, driving, video, sheet)
        watch.note(done.summary)
        return Result(outputs=self.outputs, summary=f"video: {video}\nsheet: {sheet}\n{next_step()}")
