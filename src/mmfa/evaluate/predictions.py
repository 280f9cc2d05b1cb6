"""Clips that any model has generated: a folder with ``NAME/000001.png ...`` or ``NAME.mp4`` for each task.

Each clip has one frame for each frame of its driving clip, in order, of the driving clip's size: frame 000001 belongs to the
driving clip's first frame, whatever the stride of the measuring. Names, counts and sizes: ``mmfa evaluate --list DATA``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..dataset.index import IMAGE_SUFFIXES, VIDEO_SUFFIXES, kind_of
from ..errors import MediaError
from ..media.container import open_video
from ..media.image import Array, open_picture, read_image
from ..media.video import VideoReader
from .protocol import Task

LOSSLESS_CODECS = {"ffv1", "png", "apng", "rawvideo", "qtrle", "huffyuv", "ffvhuff", "utvideo", "magicyuv"}
"""Codecs that keep every value; with RGB pixels, nothing at all is lost."""
_LOSSY_PICTURES = {".jpg", ".jpeg", ".webp"}
_SHOWN = 3


@dataclass(frozen=True)
class Predictions:
    """A checked folder of generated clips; see the module's text for its layout."""

    root: Path
    kind: str = "predictions"
    renderer: None = None

    @property
    def name(self) -> str:
        """The folder's own."""
        return self.root.resolve().name

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises MediaError unless the folder holds exactly what `tasks` ask for. Videos are counted as they are read."""
        if not self.root.is_dir():
            raise MediaError(f"{self.root} is not a folder with generated clips.")
        wanted = {task.name for task in tasks}
        there: dict[str, list[str]] = {}
        for path in sorted(self.root.iterdir()):
            if path.name.startswith(".") or not (path.is_dir() or kind_of(path) == "clip"):
                continue
            there.setdefault(path.name if path.is_dir() else path.stem, []).append(path.name)
        if missing := sorted(wanted - there.keys()):
            raise MediaError(f"{self.root} lacks {_some(missing, 'clip')}; mmfa evaluate --list DATA names what is expected.")
        if extra := sorted(there.keys() - wanted):
            raise MediaError(f"{self.root} holds {_some(extra, 'clip')} that nothing asks for: misnamed, or of another split?")
        for name, files in there.items():
            if len(files) > 1:
                raise MediaError(f"{self.root} holds the clip {name} more than once: {', '.join(files)}.")
        for task in tasks:
            place = self._place(task)
            if place.is_dir():
                for picture in _numbered(place, task.driving.frames):
                    _check_picture(picture, task)
            else:
                info = VideoReader(place).info
                _check_size(place, (info.width, info.height), task)

    def key(self, task: Task) -> list[str]:
        """What tells these frames from any others: the hash of their files."""
        place = self._place(task)
        files = _numbered(place, task.driving.frames) if place.is_dir() else [place]
        sha256 = hashlib.sha256()
        for file in files:
            with file.open("rb") as stream:
                sha256.update(hashlib.file_digest(stream, "sha256").digest())
        return ["predictions", sha256.hexdigest()]

    def sha256(self, tasks: Sequence[Task]) -> str:
        """Of all the frames."""
        return hashlib.sha256("".join(self.key(task)[1] for task in tasks).encode()).hexdigest()

    def frames(self, task: Task, source: Array | None = None, driving: Iterable[Array] = ()) -> Iterator[Array]:  # noqa: ARG002
        """The frames (S,S,3) uint8 of `task.generated`. Raises MediaError for a video of another length than its driving clip."""
        place = self._place(task)
        wanted = task.generated
        if place.is_dir():
            pictures = _numbered(place, task.driving.frames)
            for index in wanted:
                yield read_image(pictures[index])
            return
        count, among = 0, set(wanted)
        with VideoReader(place, constant_rate=False) as video:
            for frame in video:
                if count in among:
                    yield frame.image
                count += 1
        if count != task.driving.frames:
            raise MediaError(f"{place} has {count} frames, its driving clip {task.driving.name} {task.driving.frames}.")

    def remarks(self, tasks: Sequence[Task]) -> list[str]:
        """What a reader of the figures has to know: frames that were encoded with loss."""
        lossy = [task.name for task in tasks if _lossy(self._place(task), task.driving.frames)]
        if not lossy:
            return []
        return [
            f"{len(lossy)} of {len(tasks)} predicted clips were encoded with loss (or by a codec that doesn't say): the codec's "
            "blur and shifts are in every figure. Give PNG frames for figures that can be compared."
        ]

    def _place(self, task: Task) -> Path:
        folder = self.root / task.name
        if folder.is_dir():
            return folder
        return next(self.root / f"{task.name}{s}" for s in sorted(VIDEO_SUFFIXES) if (self.root / f"{task.name}{s}").is_file())


def _numbered(folder: Path, count: int) -> list[Path]:
    """The pictures 000001 ... of a folder. Raises MediaError unless they are exactly `count`, without a gap or anything else."""
    found = {path.stem: path for path in sorted(folder.iterdir()) if not path.name.startswith(".")}
    wanted = [f"{number:06d}" for number in range(1, count + 1)]
    if missing := [name for name in wanted if name not in found]:
        raise MediaError(f"{folder} lacks {_some(missing, 'frame')} of {count}, which are 000001.png to {count:06d}.png.")
    strange = [path.name for stem, path in found.items() if stem not in set(wanted) or path.suffix.lower() not in IMAGE_SUFFIXES]
    if strange:
        raise MediaError(f"{folder} holds {_some(strange, 'file')} too many; wanted are 000001.png to {count:06d}.png alone.")
    return [found[name] for name in wanted]


def _check_picture(path: Path, task: Task) -> None:
    """Size and, where the format has such things, values that are not numbers."""
    with open_picture(path) as picture:
        _check_size(path, picture.size, task)
        if picture.mode == "F" and not np.isfinite(np.asarray(picture)).all():
            raise MediaError(f"{path} contains values that are not numbers.")


def _check_size(path: Path, size: tuple[int, int], task: Task) -> None:
    side = task.driving.size
    if size != (side, side):
        raise MediaError(f"{path} is {size[0]} x {size[1]}, its driving clip {side} x {side}; figures need the same size.")


def _lossy(place: Path, count: int) -> bool:
    if place.is_dir():
        return any(path.suffix.lower() in _LOSSY_PICTURES for path in _numbered(place, count))
    with open_video(place) as (_, stream):
        codec = stream.codec_context
        return codec.name not in LOSSLESS_CODECS or codec.format is None or not codec.format.is_rgb


def _some(names: list[str], what: str) -> str:
    """``the clip a`` or ``3 clips (a, b, ...)``."""
    if len(names) == 1:
        return f"the {what} {names[0]}"
    return f"{len(names)} {what}s ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
