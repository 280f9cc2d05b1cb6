"""One source file in, its usable clips or images with landmarks out, and a result file that says it is done."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import cached_property
from math import ceil
from pathlib import Path

import numpy as np
import torch
from av.error import FFmpegError
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from ..documents import read_json
from ..errors import MediaError, MmfaError
from ..geometry import matrix_to_euler
from ..media.crop import CropBox, crop, to_grid
from ..media.files import atomic_output
from ..media.image import Array, read_image, to_tensor, write_image
from ..media.video import Frame, VideoReader, VideoWriter
from ..priors.detector import FaceDetector
from ..priors.identity import IdentityNet
from ..priors.landmarks import FaceLandmarker
from ..priors.pose import head_pose
from .index import digest, kind_of, slug
from .rows import Kind, Measured
from .shots import Limits, Shot, ShotFinder, rejection, shot_crop

CLIPS, IMAGES, WORK = "clips", "images", "work"
# Longer shots are cut into pieces: clips are decoded from their start when frames are drawn.
_LONGEST_SECONDS = 20.0
# A source this little faster than the cap is taken as it is (25.05 fps).
_RATE_TOLERANCE = 0.05
# Stored landmarks may be off by this many pixels.
_PRECISION = 0.05
_IDENTITY_FRAMES = 5


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides how a source file is cut; one data set has one.

    size: side of the crops in pixels. fps: highest frame rate of a clip. min_face: smallest face width in pixels of the
    source. min_seconds: shortest clip. identity: whether identity embeddings are taken.
    """

    size: int
    fps: float
    min_face: float
    min_seconds: float
    identity: bool


@dataclass(frozen=True, kw_only=True)
class Piece(Measured):
    """A clip or image as its source gives it. identity: mean embedding (128,), or None."""

    identity: list[float] | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one source file.

    stamp: size in bytes and time of change of the source. seconds: its length. faces: shots found. rejected: how many for
    which reason. error: why it could not be read.
    """

    source: str
    stamp: list[int]
    seconds: float = 0.0
    faces: int = 0
    pieces: list[Piece] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A shot that is kept: frames `first` to `last`, and the landmarks (n,478,3) of the `shown` frames for the identity."""

    piece: Piece
    box: CropBox
    first: int
    last: int
    shown: list[int]
    points: Tensor


class Extractor:
    """Cuts source files into the data set `root`. Loads the networks when first needed."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root, self.settings = root, settings

    @cached_property
    def landmarker(self) -> FaceLandmarker:
        """Finds the landmarks of a face."""
        return FaceLandmarker()

    @cached_property
    def detector(self) -> FaceDetector:
        """Finds faces."""
        return FaceDetector()

    @cached_property
    def identity(self) -> IdentityNet:
        """Tells people apart; only where its weights are installed."""
        return IdentityNet()

    def done(self, path: Path, source: str) -> Result | None:
        """The result that an earlier run left for the file `path`, named `source`, if it still holds."""
        result = read_result(result_path(self.root, source))
        if result is None or not path.exists() or result.stamp != _stamp(path):
            return None
        files = [self.root / file for piece in result.pieces for file in (piece.file, piece.landmarks)]
        return result if all(file.exists() for file in files) else None

    def run(self, path: Path, source: str) -> Result:
        """Cut the file `path` and leave the result file.

        Raises:
            MediaError: the data set can't be written. A source that can't be read is a result, not an error.
        """
        if not path.exists():
            return Result(source=source, stamp=[], error=f"{path} does not exist any more.")
        stamp = _stamp(path)
        try:
            result = (self._image if kind_of(path) == "image" else self._video)(path, source, stamp)
        except MmfaError:
            raise
        except MemoryError:
            # Not the file's fault: no result file, so that the next run tries again.
            return Result(source=source, stamp=stamp, error=f"{path}: there was not enough memory for it; run again.")
        except (FFmpegError, RuntimeError, ValueError, ArithmeticError) as error:
            # One odd file must not stop the work on all others; it is named at the end.
            result = Result(source=source, stamp=stamp, error=f"{path}: {error}")
        with atomic_output(result_path(self.root, source)) as temporary:
            temporary.write_text(json.dumps(asdict(result)), encoding="utf-8")
        return result

    def _image(self, path: Path, source: str, stamp: list[int]) -> Result:
        try:
            image = read_image(path)
        except MediaError as error:
            return Result(source=source, stamp=stamp, error=str(error))
        finder = self._finder(longest=1)
        shots = finder.feed(image) + finder.finish()
        height, width = image.shape[:2]
        plans, rejected = self._choose(shots, source, width=width, height=height, fps=None, known=0)
        pieces = []
        for plan in plans:
            picture = crop(image, plan.box, size=self.settings.size)
            write_image(self.root / plan.piece.file, picture)
            pieces.append(self._with_identity(plan, [picture]))
        return Result(source=source, stamp=stamp, faces=len(shots), pieces=pieces, rejected=dict(rejected))

    def _video(self, path: Path, source: str, stamp: list[int]) -> Result:
        try:
            video = VideoReader(path)
        except MediaError as error:
            return Result(source=source, stamp=stamp, error=str(error))
        step = max(1, ceil(float(video.info.fps) / self.settings.fps - _RATE_TOLERANCE))
        fps = video.info.fps / step
        finder = self._finder(longest=round(_LONGEST_SECONDS * fps))
        rejected: Counter[str] = Counter()
        plans: list[_Plan] = []
        faces = count = 0

        def choose(shots: list[Shot]) -> None:
            nonlocal faces
            faces += len(shots)
            chosen, reasons = self._choose(
                shots, source, width=video.info.width, height=video.info.height, fps=fps, known=len(plans)
            )
            plans.extend(chosen)
            rejected.update(reasons)

        with video:
            for frame in _every(video, step):
                choose(finder.feed(frame.image))
                count += 1
            choose(finder.finish())
            pieces = self._write(_every(video, step), plans, fps=fps)
        return Result(source=source, stamp=stamp, seconds=count / float(fps), faces=faces, pieces=pieces, rejected=dict(rejected))

    def _finder(self, *, longest: int) -> ShotFinder:
        return ShotFinder(self.landmarker, self.detector, longest=longest)

    def _choose(
        self, shots: list[Shot], source: str, *, width: int, height: int, fps: Fraction | None, known: int
    ) -> tuple[list[_Plan], Counter[str]]:
        """Judge shots; write the landmarks of the usable ones, of which `known` came before, at once to free their memory."""
        limits = Limits(face=self.settings.min_face, seconds=self.settings.min_seconds if fps else 0.0)
        plans: list[_Plan] = []
        rejected: Counter[str] = Counter()
        for shot in shots:
            box = shot_crop(shot, width=width, height=height)
            reason = rejection(shot, box, fps=float(fps or 1), width=width, height=height, limits=limits)
            if reason is not None:
                rejected[reason] += 1
                continue
            plans.append(self._plan(shot, box, f"{source_key(source)}_{known + len(plans):03d}", source, fps=fps))
        return plans, rejected

    def _plan(self, shot: Shot, box: CropBox, name: str, source: str, *, fps: Fraction | None) -> _Plan:
        kind: Kind = "image" if fps is None else "clip"
        folder = IMAGES if kind == "image" else CLIPS
        count = len(shot.points)
        points = torch.from_numpy(_in_crop(shot.points, box, size=self.settings.size))
        pose = head_pose(points)
        pitch, yaw, _ = matrix_to_euler(pose.rotation)
        tensors = {
            "landmarks": _compact(points, size=self.settings.size),
            "score": torch.from_numpy(shot.score),
            "rotation": pose.rotation.contiguous(),
            "scale": pose.scale.contiguous(),
            "translation": pose.translation.contiguous(),
        }
        landmarks = f"{folder}/{name}.safetensors"
        with atomic_output(self.root / landmarks) as temporary:
            temporary.write_bytes(save(tensors))
        seconds = float(count / fps) if fps else 0.0
        start = float(shot.first / fps) if fps else 0.0
        piece = Piece(
            name=name,
            kind=kind,
            file=f"{folder}/{name}{'.png' if kind == 'image' else '.mp4'}",
            landmarks=landmarks,
            frames=count,
            fps=round(float(fps), 3) if fps else None,
            seconds=round(seconds, 3),
            source=source,
            start=round(start, 3),
            end=round(start + seconds, 3),
            face_width=round(shot.face_width, 1),
            yaw=[round(float(yaw.min()), 1), round(float(yaw.max()), 1)],
            pitch=[round(float(pitch.min()), 1), round(float(pitch.max()), 1)],
            sharpness=round(shot.sharpness, 3),
            score=round(float(shot.score.mean()), 3),
            identity=None,
        )
        shown = sorted({round(i * (count - 1) / (_IDENTITY_FRAMES - 1)) for i in range(_IDENTITY_FRAMES)})
        return _Plan(
            piece=piece, box=box, first=shot.first, last=shot.first + count - 1, shown=shown, points=points[shown].clone()
        )

    def _write(self, frames: Iterator[Frame], plans: list[_Plan], *, fps: Fraction) -> list[Piece]:
        """The second reading: crop and encode the kept shots, several at a time where they overlap."""
        size = self.settings.size
        waiting = sorted(plans, key=lambda plan: plan.first, reverse=True)
        pieces: dict[str, Piece] = {}
        with ExitStack() as stack:
            running: list[tuple[_Plan, ExitStack, VideoWriter, list[Array]]] = []
            for index, frame in enumerate(frames):
                while waiting and waiting[-1].first == index:
                    plan = waiting.pop()
                    own = stack.enter_context(ExitStack())
                    writer = own.enter_context(VideoWriter(self.root / plan.piece.file, fps=fps, size=(size, size)))
                    running.append((plan, own, writer, []))
                for plan, own, writer, shown in running:
                    picture = crop(frame.image, plan.box, size=size)
                    writer.write(picture)
                    if index - plan.first in plan.shown:
                        shown.append(picture)
                    if index == plan.last:
                        own.close()
                        pieces[plan.piece.name] = self._with_identity(plan, shown)
                running = [item for item in running if item[0].last > index]
                if not running and not waiting:
                    break
        if len(pieces) < len(plans):
            raise ValueError("a second reading gave fewer frames than the first.")
        return [pieces[plan.piece.name] for plan in plans]

    @torch.no_grad()
    def _with_identity(self, plan: _Plan, shown: list[Array]) -> Piece:
        if not self.settings.identity:
            return plan.piece
        embedding = self.identity.embed(torch.stack([to_tensor(picture) for picture in shown]), plan.points).mean(0)
        return Piece(**{**asdict(plan.piece), "identity": [round(value, 5) for value in embedding.tolist()]})


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _every(video: VideoReader, step: int) -> Iterator[Frame]:
    for index, frame in enumerate(video):
        if index % step == 0:
            yield frame


def _in_crop(points: NDArray[np.float32], box: CropBox, *, size: int) -> NDArray[np.float32]:
    """Landmarks (T,478,3) in pixels of the picture -> grid coordinates of the crop; the depth has the same unit."""
    depth = points[..., 2:] * (size / box.side) * 2 / (size - 1)
    return np.concatenate([to_grid(points[..., :2], box, size=size), depth], -1).astype(np.float32)


def _compact(points: Tensor, *, size: int) -> Tensor:
    """Landmarks in half precision where that is precise enough."""
    half = points.half()
    error = float((half.float() - points)[..., :2].abs().max()) * (size - 1) / 2
    return half if error < _PRECISION else points


def source_key(source: str) -> str:
    """The name that everything cut from a source begins with: readable, unique and safe."""
    return f"{slug(str(Path(source).with_suffix('')), limit=60)}-{digest(source)}"


def result_path(root: Path, source: str) -> Path:
    """Where the result of a source lies in the data set `root`."""
    return root / WORK / f"{source_key(source)}.json"


def read_result(path: Path) -> Result | None:
    """A result file, or None where there is none that can be read."""
    try:
        record = read_json(path)
        return Result(**{**record, "pieces": [Piece(**piece) for piece in record["pieces"]]})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
