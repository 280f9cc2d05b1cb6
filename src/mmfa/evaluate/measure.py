"""Measures of clips, kept in the cache and shared out to processes: the only place of the evaluation that runs networks."""

from __future__ import annotations

import io
import multiprocessing
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..dataset.pool import die_with_parent
from ..errors import FaceError, MediaError, MmfaError
from ..media.crop import CropBox, crop
from ..media.image import Array, contact_sheet
from .appearance import AppearanceMeasurer, Around, PairMeasures
from .bursts import bursts
from .cache import Cache, key_of, measuring_state
from .definitions import METRICS
from .extractors import FaceMeasurer, FaceMeasures, LandmarkMeasurer, to_tensors
from .protocol import Clip, Task
from .reading import Reading
from .ring import Photo

if TYPE_CHECKING:  # what measures doesn't depend on what animates
    from .subjects import Subject

MOMENTS = 4
"""Frames of each clip that are kept to look at."""
_TILE = 192


@dataclass(frozen=True)
class Generated:
    """A generated clip of T frames. pairs: None across identities. features (T,D): for the Frechet distance. sheet: a JPEG
    file of the source, driving frames and, below them, the generated ones. burst_points (N,478,3), burst_flicker (N,): of the
    N frames of `Task.bursts`, as `FaceMeasures.points` and the metric flicker; no flicker (0,) across identities.
    """

    faces: FaceMeasures
    pairs: PairMeasures | None
    features: Tensor
    sheet: bytes
    burst_points: Tensor
    burst_flicker: Tensor


@dataclass(frozen=True)
class SourceJob:
    """The face and the features of a source image. second: also by the second identity network."""

    clip: Clip
    second: bool = False
    length = 1
    wanted = (0,)

    @cached_property
    def key(self) -> str:
        """All that the measures depend on, as one name."""
        return key_of("source", self.clip.sha256, self.second, *measuring_state())

    def run(self, reading: Reading | None, cache: Cache) -> dict[str, Tensor]:  # noqa: ARG002
        """The face and the features of the first frame. Raises FaceError without a face."""
        assert reading is not None
        frame = next(reading.at([0]))
        faces = _faces(self.second).measure([frame])
        if not faces.found.all():
            raise FaceError(
                f"No face found in the first frame of {self.clip.path}, which is a source; leave it out of the pairs."
            )
        return _flat("faces", faces) | {"features": next(_appearance().features([frame]))}


@dataclass(frozen=True)
class DrivingJob:
    """The faces of a real clip, its first frame included, and the landmarks of the frames of its bursts."""

    clip: Clip
    stride: int
    second: bool = False

    @property
    def length(self) -> int:
        """In frames."""
        return self.clip.frames // self.stride

    @property
    def wanted(self) -> Sequence[int]:
        """The frames that are measured, the bursts first."""
        return [*self._among, *range(0, self.clip.frames, self.stride)]

    @property
    def _among(self) -> list[int]:
        """The frames of the bursts."""
        return [index for burst in (bursts(self.clip.frames) if self.stride > 1 else []) for index in burst]

    @cached_property
    def key(self) -> str:
        """All that the measures depend on, as one name."""
        return key_of("driving", self.clip.sha256, self.stride, self.second, *measuring_state())

    def run(self, reading: Reading | None, cache: Cache) -> dict[str, Tensor]:  # noqa: ARG002
        """The faces of every measured frame, and landmarks of the bursts. Raises FaceError where no frame shows a face."""
        assert reading is not None
        faces = _faces(self.second).measure(reading.at(range(0, self.clip.frames, self.stride)))
        if not faces.found.any():
            raise FaceError(f"No face found in {self.clip.path}, in none of {len(faces)} frames; leave it out of the data set.")
        return _flat("faces", faces) | {"burst_points": _burst_points(list(reading.at(self._among)))}


@dataclass(frozen=True)
class GeneratedJob:
    """What a subject generates for a task, frame by frame as it is generated."""

    subject: Subject
    task: Task
    second: bool = False

    @property
    def clip(self) -> Clip:
        """The driving clip."""
        return self.task.driving

    @property
    def length(self) -> int:
        """In frames; to generate one costs about as much as to measure two."""
        return 3 * self.task.frames

    @property
    def wanted(self) -> Sequence[int]:
        """The photo, what is shown, the bursts, what is measured, and the rest."""
        # At last every frame: the driving clip was looked at before, and all are animated by.
        return [0, *self._moments, *self._among, *self.task.measured, *range(self.clip.frames)]

    @property
    def _moments(self) -> list[int]:
        """The frames to look at."""
        places = np.linspace(0, self.task.frames - 1, min(MOMENTS, self.task.frames)).round().astype(int).tolist()
        return [self.task.measured[place] for place in places]

    @property
    def _among(self) -> list[int]:
        """The frames of the bursts."""
        return [index for burst in self.task.bursts for index in burst]

    @cached_property
    def key(self) -> str:
        """All that the measures depend on, as one name."""
        task = self.task
        hashes = [task.source.sha256, task.driving.sha256, task.protocol, task.stride, self.second]
        return key_of("generated", *self.subject.key(task), *hashes, *measuring_state())

    def run(self, reading: Reading | None, cache: Cache) -> dict[str, Tensor]:
        """Generate the clip and measure it, frame by frame. Raises MmfaError with the name of the task."""
        assert reading is not None
        task = self.task
        size = task.driving.size
        source = next(reading.at([0]) if task.source == task.driving else task.source.read())
        shown: list[Array] = []
        burst: list[Array] = []
        made = self.subject.frames(task, source, reading.every())
        frames = (frame if frame.shape[0] == size else _resized(frame, size) for frame in made)
        numbered = _keep(zip(task.generated, frames, strict=True), set(self._moments), shown)
        numbered = _keep(numbered, set(self._among), burst)
        # Both sides go on batch by batch together, so that tee holds no more than a batch.
        for_faces, for_pixels = tee(frame for index, frame in numbered if index in task.measured)
        faces: list[FaceMeasures] = []
        pairs: list[PairMeasures] = []
        features: list[Tensor] = []
        try:
            if task.protocol == "same":
                for face, pair in zip(
                    _faces(self.second).stream(for_faces),
                    _appearance().stream(for_pixels, reading.at(task.measured), around=self._around(source, reading, cache)),
                    strict=True,
                ):
                    faces.append(face)
                    pairs.append(pair)
                    features.append(pair.generated_features)
            else:
                for face, feature in zip(_faces(self.second).stream(for_faces), _appearance().features(for_pixels), strict=True):
                    faces.append(face)
                    features.append(feature)
        except MmfaError as error:
            raise type(error)(str(error) if task.name in str(error) else f"{task.name}: {error}") from error
        blank = np.full((_TILE, _TILE, 3), 255, np.uint8)
        rows = [[source, *reading.at(self._moments)], [blank, *shown]]
        real = list(reading.at(self._among)) if pairs else []
        return {
            **_flat("faces", FaceMeasures.concatenate(faces)),
            **(_flat_pairs(PairMeasures.concatenate(pairs)) if pairs else {}),
            "features": torch.cat(features),
            "sheet": _jpeg(contact_sheet([[_resized(image, _TILE) for image in row] for row in rows])),
            "burst_points": _burst_points(burst),
            "burst_flicker": _burst_flicker(burst, real, task.bursts) if pairs else torch.zeros(0),
        }

    def _around(self, source: Array, reading: Reading, cache: Cache) -> Around:
        """What the metrics of the ring need of the driving clip, whose first frame is the photo."""
        job = DrivingJob(self.task.driving, self.task.stride, self.second)
        if not cache.has(job.key):
            cache.save(job.key, job.run(reading, cache))
        points = load_faces(job, cache).points
        photo = Photo(to_tensors(source[None], torch.device("cpu"))[0], points[0])
        return Around(points[self.task.start // self.task.stride :], photo)


class Job(Protocol):
    """Something to measure. length: how long it takes, in frames, to share out the longest first.

    clip: the one that it reads, so that jobs of one clip are done together; None when it reads others. wanted: numbers of the
    frames that are asked for again after a first look at all, the most important first.
    """

    @property
    def clip(self) -> Clip | None:
        """The clip that it reads."""

    @property
    def wanted(self) -> Sequence[int]:
        """Numbers of the frames to keep."""

    @property
    def key(self) -> str:
        """All that the measures depend on, as one name."""

    @property
    def length(self) -> int:
        """How long it takes, in frames."""

    def run(self, reading: Reading | None, cache: Cache) -> dict[str, Tensor]:
        """What is kept. `reading` is of `clip`; `cache` holds what else is measured."""


def measure_all(jobs: Iterable[Job], cache: Cache, *, workers: int, quiet: bool = False) -> int:
    """Bring every job's measures into the cache; those that are there are not taken again. Returns how many were measured.

    Jobs of one clip are done together, in the order given, and decode it once. With `workers` > 1 that many processes of one
    thread share the clips. What is done is kept when one fails. Raises MmfaError for clips that can't be measured.
    """
    todo = [job for key, job in {job.key: job for job in jobs}.items() if not cache.has(key)]
    groups = _by_clip(todo)
    done = _in_processes(groups, cache, workers) if workers > 1 and len(groups) > 1 else _here(groups, cache)
    with tqdm(total=len(todo), desc="measuring", unit="clip", disable=quiet or None) as bar:
        for count in done:
            bar.update(count)
    return len(todo)


def load_faces(job: SourceJob | DrivingJob, cache: Cache) -> FaceMeasures:
    """The faces of a job that was measured."""
    return FaceMeasures(**_part("faces", FaceMeasures, cache.load(job.key)))


def load_burst_points(job: DrivingJob, cache: Cache) -> Tensor:
    """The landmarks (N,478,3) of the bursts of a real clip that was measured."""
    return cache.load(job.key)["burst_points"]


def load_features(job: SourceJob, cache: Cache) -> Tensor:
    """The features (1,D) of a source that was measured."""
    return cache.load(job.key)["features"]


def load_generated(job: GeneratedJob, cache: Cache) -> Generated:
    """A generated clip that was measured."""
    tensors = cache.load(job.key)
    pairs = _pairs(tensors) if "driving_features" in tensors else None
    faces = FaceMeasures(**_part("faces", FaceMeasures, tensors))
    rest = {name: tensors[name] for name in ("features", "burst_points", "burst_flicker")}
    return Generated(faces=faces, pairs=pairs, sheet=tensors["sheet"].numpy().tobytes(), **rest)


def _by_clip(jobs: Iterable[Job]) -> list[list[Job]]:
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.clip or job.key, []).append(job)
    return list(groups.values())


def _here(groups: Sequence[Sequence[Job]], cache: Cache) -> Iterator[int]:
    # As in the processes: one thread, so that the figures are the same to the last bit.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for jobs in groups:
            yield from _run(jobs, cache)
    finally:
        torch.set_num_threads(threads)


def _in_processes(groups: Sequence[Sequence[Job]], cache: Cache, workers: int) -> Iterator[int]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(groups)), mp_context=context, initializer=_start_worker)
    try:
        # The longest first, so that no process is left with one at the end.
        ordered = sorted(groups, key=lambda jobs: sum(job.length for job in jobs), reverse=True)
        yield from pool.map(_work, ordered, [cache.root] * len(groups))
    except BrokenProcessPool as error:
        raise MediaError(
            "A process was ended from outside, perhaps for want of memory; run again with fewer --workers: what is done is kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every process: end without a trace
    threading.Thread(target=die_with_parent, daemon=True).start()


def _work(jobs: Sequence[Job], root: Path) -> int:
    return sum(_run(jobs, Cache(root)))


def _run(jobs: Sequence[Job], cache: Cache) -> Iterator[int]:
    """Do jobs of one clip; gives 1 after each."""
    clip = jobs[0].clip
    reading = None if clip is None else Reading(clip, [index for job in jobs for index in job.wanted])
    for job in jobs:
        cache.save(job.key, job.run(reading, cache))
        yield 1


@lru_cache(maxsize=1)
def _faces(second: bool) -> FaceMeasurer:
    return FaceMeasurer(faceres=second)


@lru_cache(maxsize=1)
def _landmarks() -> LandmarkMeasurer:
    return LandmarkMeasurer()


@lru_cache(maxsize=1)
def _appearance() -> AppearanceMeasurer:
    return AppearanceMeasurer()


def _keep(frames: Iterable[tuple[int, Array]], wanted: set[int], into: list[Array]) -> Iterator[tuple[int, Array]]:
    """Pass numbered frames on, keeping those whose number is wanted."""
    for index, frame in frames:
        if index in wanted:
            into.append(frame)
        yield index, frame


def _burst_points(frames: list[Array]) -> Tensor:
    """Landmarks (N,478,3) of the frames of all bursts."""
    return _landmarks().measure(frames).points if frames else torch.zeros(0, 478, 3)


def _burst_flicker(generated: list[Array], driving: list[Array], spans: list[range]) -> Tensor:
    """Flicker (N,) of all bursts, NaN at the first frame of each."""
    cpu, parts, start = torch.device("cpu"), [], 0
    for span in spans:
        a, b = (to_tensors(np.stack(side[start : start + len(span)]), cpu) for side in (generated, driving))
        parts.append(METRICS["flicker"].compute(a, b))
        start += len(span)
    return torch.cat(parts) if parts else torch.zeros(0)


def _resized(image: Array, size: int) -> Array:
    """A square picture at another size."""
    side = image.shape[0]
    return crop(image, CropBox(side / 2, side / 2, side), size=size)


def _jpeg(image: Array) -> Tensor:
    """A JPEG file as a tensor of bytes, which the cache can hold."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=88)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _flat_pairs(pairs: PairMeasures) -> dict[str, Tensor]:
    """Without the features of generated frames, which are kept of all."""
    return {f"pairs.{name}": row for name, row in pairs.values.items()} | {"driving_features": pairs.driving_features}


def _pairs(tensors: dict[str, Tensor]) -> PairMeasures:
    values = {name.removeprefix("pairs."): row for name, row in tensors.items() if name.startswith("pairs.")}
    return PairMeasures(values, tensors["features"], tensors["driving_features"])


def _flat(prefix: str, measures: FaceMeasures) -> dict[str, Tensor]:
    return {f"{prefix}.{field.name}": getattr(measures, field.name) for field in fields(measures)}


def _part(prefix: str, kind: type, tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {field.name: tensors[f"{prefix}.{field.name}"] for field in fields(kind)}
