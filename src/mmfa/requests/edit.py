"""Motion attributes moved one by one, and canonical faces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from ..edit import (
    ATTRIBUTES,
    Amplitude,
    Attribute,
    Edit,
    Span,
    attribute_grid,
    canonical_motion,
    parse_attributes,
    take,
    turntable,
)
from ..errors import ConfigError, MediaError
from ..expressions import limited_directions
from ..media.crop import crop
from ..media.files import Files, check_input
from ..media.image import contact_sheet
from ..media.video import VideoReader
from ..motion import Motion
from ..relative import parse_modes
from ..session import Photo, Session, is_motion_file
from ..smooth import DEFAULT_STRENGTH, MotionSmoother, smooth
from ..watch import Watch
from .base import (
    PhotoRequest,
    Result,
    amplitude,
    check_picture_or_video,
    is_video,
    model_files,
    named_files,
    note_driver,
    write_picture,
)
from .words import expression_space, single_motion

SLIDERS = ("yaw", "pitch", "roll", "scale", "tx", "ty", "intensity")


@dataclass(frozen=True, kw_only=True)
class EditRequest(PhotoRequest):
    """Head and expression of a photo, moved by hand or by a driver, each alone; a picture out, or a video for a clip.

    driving: photo, video or motion file to take from, and `take` which attributes of it. mode: relative motion of a clip. The
    sliders: see `mmfa.edit.Edit`. expression: ``neutral``, a photo, a motion file, ``VIDEO@SECONDS`` or ``code:NUMBERS``.
    set: values of named directions. start, end: seconds of a clip in which the values hold, eased at both ends. turntable:
    sweeps by yaw, pitch and roll, as a video or a grid. unclipped: keep values beyond what the models are trained on.
    """

    name: ClassVar[str] = "edit"
    source: Path
    output: Path
    driving: Path | None = None
    take: str | None = None
    mode: str = "absolute"
    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None
    scale: float | None = None
    tx: float | None = None
    ty: float | None = None
    intensity: float | None = None
    expression: str | None = None
    set: Mapping[str, float] = field(default_factory=dict)
    start: float | None = None
    end: float | None = None
    turntable: bool = False
    unclipped: bool = False
    smooth: float = DEFAULT_STRENGTH
    lips: float = 1.0
    eyes: float = 1.0

    def files(self) -> Files:
        """Photo, driver, file of the expression, and model; the picture or video."""
        reads = named_files(self.source, self.driving, self.expression)
        return Files([*reads, *model_files(self.model)], [self.output])

    def check(self, watch: Watch) -> None:
        """Raise MmfaError for values that mean nothing or don't fit together, and for files that can't work."""
        limited_directions(self.set, unclipped=self.unclipped, note=watch.warn)
        parse_attributes(self.take or "")
        MotionSmoother(self.smooth)
        if self.driving is None and (self.take is not None or self.mode != "absolute"):
            raise ConfigError("`take` and `mode` say what to take from a driver; name it with `driving`.")
        relative = "relative" in parse_modes(self.mode).values()
        check_input(self.source)
        check_picture_or_video(self.output)
        clip = self.is_clip()
        if not clip and relative:
            raise ConfigError(f"{self.driving} is one picture, and relative motion needs a clip; leave out `mode`.")
        if not clip and (self.start, self.end) != (None, None):
            raise ConfigError("Values hold in a time range of a clip, not of a picture; name a driving video with `driving`.")
        if clip and self.turntable:
            raise ConfigError("A turntable shows one pose; take an expression with `expression` VIDEO@SECONDS, not a clip.")
        if not self.turntable and clip != is_video(self.output):
            kind = "a video: name one, such as OUT.mp4" if clip else "a picture: name one, such as OUT.png"
            raise MediaError(f"{self.output}: what comes out is {kind}.")
        if not self.changes():
            raise ConfigError(
                "Nothing to change: name a driver with `driving`, set `yaw`, `pitch`, `roll`, `scale`, `tx`, `ty`, `intensity`, "
                "`expression`, `set`, `lips` or `eyes`, or ask for a `turntable`."
            )
        if self.expression == "neutral" and self.intensity is not None:
            raise ConfigError("A neutral expression has no intensity: leave out `expression` or `intensity`.")
        if self.expression == "neutral" and self.set:
            raise ConfigError("A neutral expression doesn't move along a direction: leave out `expression` or `set`.")
        amplitude(self.lips, self.eyes, watch, unclipped=self.unclipped)
        self.sliders(watch)

    def changes(self) -> bool:
        """Whether anything is asked for that makes the picture another than the photo."""
        given = [self.driving, self.expression, *(getattr(self, name) for name in SLIDERS)]
        return bool(self.set or self.turntable or self.lips != 1 or self.eyes != 1 or any(value is not None for value in given))

    def is_clip(self) -> bool:
        """Whether the driver is a video or a motion of several frames, not a picture or a single motion. Raises MediaError."""
        if self.driving is None:
            return False
        path = check_input(self.driving)
        if is_motion_file(path):
            return len(Motion.load(path)) > 1
        try:
            VideoReader(path)
        except MediaError:
            return False
        return True

    def sliders(self, watch: Watch) -> Edit:
        """What is set by number, within limits; the expression is read later, when there is a model."""
        values: dict[str, Any] = {name: getattr(self, name) for name in SLIDERS}
        return Edit(**values).limited(unclipped=self.unclipped, note=watch.warn)

    def work(self, session: Session | None, watch: Watch) -> Result:
        """Edit the motion and render it: a video, a picture, or a turntable as either."""
        session = self.session(session)
        session.engine.card.require("edit")
        photo = self.open_photo(session, self.source, watch)
        gain = amplitude(self.lips, self.eyes, watch, unclipped=self.unclipped)
        edit = self.edit(session, photo, watch)
        if self.is_clip():
            return self.clip(session, photo, edit, gain, watch)
        motion = edit.apply(self.still(session, photo, watch))
        if is_video(self.output):
            motion = turntable(motion)
            session.write(photo, motion, self.output, amplitude=gain, watch=watch)
            return Result(outputs=(self.output,), summary=f"{self.output}: {len(motion)} frames.")
        if not self.turntable:
            return write_picture(self.output, next(session.render(photo, motion, amplitude=gain)))
        rows = [list(session.render(photo, row, paste_back=False, amplitude=gain)) for row in attribute_grid(motion)]
        return write_picture(self.output, contact_sheet(rows))

    def clip(self, session: Session, photo: Photo, edit: Edit, gain: Amplitude | None, watch: Watch) -> Result:
        """A video: the photo's own motion with what is taken of a clip, edited."""
        assert self.driving is not None
        report = session.animate(
            photo,
            self.driving,
            self.output,
            mode=self.mode,
            crop=self.crop,
            smoothing=self.smooth,
            attributes=self.attributes,
            edit=edit,
            span=None if (self.start, self.end) == (None, None) else Span(start=self.start, end=self.end),
            amplitude=gain,
            unclipped=self.unclipped,
            watch=watch,
        )
        note_driver(watch, self.driving, report.driving_faces, held=report.held)
        return Result(outputs=(self.output,), summary=f"{self.output}: {report.frames} frames.")

    def still(self, session: Session, photo: Photo, watch: Watch) -> Motion:
        """The photo's own motion, with what is taken of a picture or a single motion."""
        own: Motion = photo.signal
        if self.driving is None:
            return own
        tracked = session.track_any(self.driving, crop=self.crop, watch=watch)
        note_driver(watch, self.driving, tracked.faces)
        return take(own, smooth(tracked.signal, self.smooth), self.attributes)

    def edit(self, session: Session, photo: Photo, watch: Watch) -> Edit:
        """What is set by hand, of the pose and of the expression."""
        values = limited_directions(self.set, unclipped=self.unclipped, note=watch.warn)
        offset = expression_space(session, self.model).offset(values) if values else None
        expression: Any = self.expression
        if expression not in (None, "neutral"):
            expression = single_motion(session, photo, expression, watch, model=self.model, crop=self.crop, what="`expression`")
        return replace(self.sliders(watch), expression=expression, offset=offset)

    @property
    def attributes(self) -> list[Attribute]:
        """Which attributes are taken of the driver: those named by `take`, or all."""
        return parse_attributes(self.take or ",".join(ATTRIBUTES))


@dataclass(frozen=True, kw_only=True)
class CanonicalRequest(PhotoRequest):
    """Photos above their canonical faces: frontal, centred, neutral; a sheet."""

    name: ClassVar[str] = "canonical"
    sources: tuple[Path, ...]
    output: Path

    def files(self) -> Files:
        """Photos and model; the sheet."""
        return Files([*self.sources, *model_files(self.model)], [self.output])

    def check(self, watch: Watch) -> None:  # noqa: ARG002 - there is nothing to note yet
        """Raise MmfaError for files that can't work."""
        if not self.sources:
            raise ConfigError("canonical: name a photo or more.")
        for path in self.sources:
            check_input(path)
        check_picture_or_video(self.output)
        if is_video(self.output):
            raise MediaError(f"{self.output}: canonical faces are a picture; name one, such as .png.")

    def work(self, session: Session | None, watch: Watch) -> Result:
        """Render each photo's canonical face, under the photo's crop."""
        session = self.session(session)
        session.engine.card.require("edit")
        photos, faces = [], []
        for path in watch.over(self.sources, "photos", len(self.sources)):
            photo = self.open_photo(session, path, watch)
            photos.append(crop(photo.image, photo.box, size=session.engine.card.size))
            faces.append(next(session.render(photo, canonical_motion(photo.signal), paste_back=False)))
        return write_picture(self.output, contact_sheet([photos, faces]))
