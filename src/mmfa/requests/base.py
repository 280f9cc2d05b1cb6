"""What every request is: typed values with defaults, the files it reads and writes, and one way to carry it out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from .. import typed
from ..edit import Amplitude
from ..errors import ConfigError, MediaError
from ..media.files import Files, check_output, replacing
from ..media.image import IMAGE_SUFFIXES, SMALLEST_SIDE, Array, write_image
from ..media.video import VIDEO_SUFFIXES
from ..provenance import SYNTHETIC
from ..session import RESOLUTION, Photo, Session
from ..watch import Watch
from ..weights import folder_of

Device = Literal["auto", "cpu", "cuda", "mps"]
_LARGEST_SIDE = 8192
SMALLEST_PICTURE = 16_000
"""Bytes on the disk: with less there is no use in drawing one, and none in a video."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a request gave. outputs: the files it wrote. summary: one sentence. notes: what else there is to say, one each."""

    outputs: tuple[Path, ...] = ()
    summary: str = ""
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Request(ABC):
    """One piece of work: what a command line, JSON or a program asks for.

    clobber: replace an older output; else refuse to, before the work. An input is never overwritten.
    Sentences, of errors and notes, name fields in backticks; the command line puts its options there.
    """

    name: ClassVar[str]
    answers: ClassVar[bool] = False
    """Whether its summary is what was asked for, and not a word about it."""
    clobber: bool = True

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """From plain values. Raises ConfigError for a key that is unknown or missing, and for a value that means nothing."""
        return typed.read(cls, values, what=cls.name)

    @abstractmethod
    def files(self) -> Files:
        """What it reads and writes."""

    @abstractmethod
    def check(self, watch: Watch) -> None:
        """Raise MmfaError, before any network is loaded, for what can't work."""

    @abstractmethod
    def work(self, session: Session | None, watch: Watch) -> Result:
        """Do it. `session`: a loaded model to use, in place of the one that is named."""

    def run(self, session: Session | None = None, watch: Watch | None = None) -> Result:
        """Check, and do it. Raises MmfaError with one sentence; then nothing was written. Raises Cancelled."""
        watch, about = watch or Watch(), self.files()
        with replacing(about.writes, inputs=about.reads, clobber=self.clobber, tell=watch.note):
            self.check(watch)
            result = self.work(session, watch)
        return Result(outputs=result.outputs, summary=result.summary, notes=tuple(watch.notes))


@dataclass(frozen=True, kw_only=True)
class PortraitRequest(Request):
    """A request about a face.

    model: a shipped one, or a folder. face: which one of the photo, largest first. crop: False where pictures already are face
    crops.
    """

    model: str = "lite"
    device: Device = "auto"
    face: int = 0
    crop: bool = True

    def __post_init__(self) -> None:
        if self.face < 0:
            raise ConfigError(f"{self.name}: face must be 0 or more, not {self.face}.")

    def session(self, given: Session | None) -> Session:
        """The model that is named, loaded, unless one is given. Raises ModelError."""
        return given or Session.from_pretrained(self.model, device=self.device)


@dataclass(frozen=True, kw_only=True)
class PhotoRequest(PortraitRequest):
    """A request that shows a photo. resolution: pixels of its longer side, at most; the output has the photo's size."""

    resolution: int = RESOLUTION

    def __post_init__(self) -> None:
        super().__post_init__()
        if not SMALLEST_SIDE <= self.resolution <= _LARGEST_SIDE:
            raise ConfigError(f"{self.name}: resolution must be {SMALLEST_SIDE} to {_LARGEST_SIDE}, not {self.resolution}.")

    def open_photo(self, session: Session, path: Path, watch: Watch) -> Photo:
        """A photo that is ready; several faces in it are worth a note, and so is that it was reduced."""
        photo = session.photo(path, face=self.face, crop=self.crop, resolution=self.resolution)
        if photo.faces > 1:
            watch.note(f"{path} shows {photo.faces} faces; took number {self.face} by size (choose with `face`).")
        height, width = photo.image.shape[:2]
        if photo.full_size != (width, height):
            full = f"{photo.full_size[0]} x {photo.full_size[1]}"
            watch.note(f"{path} has {full} pixels; it was reduced to {width} x {height} (`resolution`).")
        if photo.remark:
            watch.note(f"{path}: the person is cut out by the face alone, because {photo.remark}.")
        return photo


def note_driver(watch: Watch, path: str | Path, faces: int, *, held: int = 0) -> None:
    """Several faces where a driver begins, whose face is always the largest, and frames that showed none."""
    if faces > 1:
        watch.note(f"{path} shows {faces} faces where it begins; the motion is the largest one's (`face` is the photo's).")
    if held:
        watch.note(f"{path}: {held} frames showed no face: the last motion was held there.")


def amplitude(lips: float, eyes: float, watch: Watch, *, unclipped: bool = False) -> Amplitude | None:
    """Factors within what the models are trained on; None where both are 1."""
    wanted = Amplitude(lips=lips, eyes=eyes).limited(unclipped=unclipped, note=watch.warn)
    return None if wanted == Amplitude() else wanted


def is_video(output: Path) -> bool:
    """Whether an output is a video, by its suffix."""
    return output.suffix.lower() in VIDEO_SUFFIXES


def check_video(output: Path) -> None:
    """Raise MediaError before the work when no video can be written at `output`."""
    if not is_video(output):
        raise MediaError(f"{output} has an unknown video suffix; use one of {', '.join(VIDEO_SUFFIXES)}.")
    check_output(output, least=SMALLEST_PICTURE)


def check_picture_or_video(output: Path) -> None:
    """Raise MediaError before the work when neither a picture nor a video can be written at `output`."""
    if not is_video(output) and output.suffix.lower() not in IMAGE_SUFFIXES:
        raise MediaError(f"{output} has an unknown suffix; use .png or .jpg for a picture, .mp4 for a video.")
    check_output(output, least=SMALLEST_PICTURE)


def write_picture(output: Path, image: Array) -> Result:
    """Write a picture that is marked as synthetic."""
    write_image(output, image, note=SYNTHETIC)
    return Result(outputs=(output,), summary=f"{output}: {image.shape[1]} x {image.shape[0]} pixels.")


def model_files(name: str | Path) -> list[Path]:
    """What the model `name` is read from, and the networks that find a face: as far as they are there."""
    own = Path(str(files("mmfa") / "priors" / "weights"))
    return [path for folder in (folder_of(name), own) if folder.is_dir() for path in sorted(folder.iterdir())]


def named_files(*words: str | Path | None) -> list[Path]:
    """The files that words name, with or without ``@SECONDS``."""
    found = []
    for word in words:
        if word is not None:
            path, at, _ = str(word).rpartition("@")
            found += [Path(word), *([Path(path)] if at and path else [])]
    return found
