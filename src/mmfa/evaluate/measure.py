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
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..dataset.pool import die_with_parent
from ..errors import FaceError, MediaError, MmfaError
from ..media.crop import CropBox, crop
from ..media.image import Array, contact_sheet
from .appearance import AppearanceMeasurer, PairMeasures
from .cache import Cache, key_of, measuring_state
from .extractors import FaceMeasurer, FaceMeasures
from .protocol import Clip, Task
from .subjects import Subject

MOMENTS = 4
"""Frames of each clip that are kept to look at."""
_TILE = 192


@dataclass(frozen=True)
class Generated:
    """A generated clip of T frames. pairs: None across identities. features (T,D): for the Frechet distance. sheet: a JPEG
    file of the source, driving frames and, below them, the generated ones."""

    faces: FaceMeasures
    pairs: PairMeasures | None
    features: Tensor
    sheet: bytes


@dataclass(frozen=True)
class SourceJob:
    """The face and the features of a source image."""

    clip: Clip

    @cached_property
    def key(self) -> str:
        return key_of("source", self.clip.sha256, *measuring_state())

    def run(self) -> dict[str, Tensor]:
        frame = next(self.clip.read())
        faces = _faces().measure([frame])
        if not faces.found.all():
            raise FaceError(
                f"No face found in the first frame of {self.clip.path}, which is a source; leave it out of the pairs."
            )
        return _flat("faces", faces) | {"features": next(_appearance().features([frame]))}


@dataclass(frozen=True)
class DrivingJob:
    """The faces of a real clip, its first frame included."""

    clip: Clip
    stride: int

    @cached_property
    def key(self) -> str:
        return key_of("driving", self.clip.sha256, self.stride, *measuring_state())

    def run(self) -> dict[str, Tensor]:
        faces = _faces().measure(self.clip.read(stride=self.stride))
        if not faces.found.any():
            raise FaceError(f"No face found in {self.clip.path}, in none of {len(faces)} frames; leave it out of the data set.")
        return _flat("faces", faces)


@dataclass(frozen=True)
class GeneratedJob:
    """What a subject generates for a task, frame by frame as it is generated."""

    subject: Subject
    task: Task

    @cached_property
    def key(self) -> str:
        task = self.task
        hashes = [task.source.sha256, task.driving.sha256, task.protocol, task.stride]
        return key_of("generated", *self.subject.key(task), *hashes, *measuring_state())

    def run(self) -> dict[str, Tensor]:
        task = self.task
        wanted = set(np.linspace(0, task.frames - 1, min(MOMENTS, task.frames)).round().astype(int).tolist())
        kept: tuple[list[Array], list[Array]] = ([], [])
        size = task.driving.size
        frames = (frame if frame.shape[0] == size else _resized(frame, size) for frame in self.subject.frames(task))
        # Both sides go on batch by batch together, so that tee holds no more than a batch.
        for_faces, for_pixels = tee(_keep(frames, wanted, kept[0]))
        driving = _keep(task.driving_frames(), wanted, kept[1])
        faces: list[FaceMeasures] = []
        pairs: list[PairMeasures] = []
        features: list[Tensor] = []
        try:
            if task.protocol == "same":
                for face, pair in zip(_faces().stream(for_faces), _appearance().stream(for_pixels, driving), strict=True):
                    faces.append(face)
                    pairs.append(pair)
                    features.append(pair.generated_features)
            else:
                for face, feature in zip(_faces().stream(for_faces), _appearance().features(for_pixels), strict=True):
                    faces.append(face)
                    features.append(feature)
                for _ in driving:
                    pass
        except MmfaError as error:
            raise type(error)(str(error) if task.name in str(error) else f"{task.name}: {error}") from error
        blank = np.full((_TILE, _TILE, 3), 255, np.uint8)
        rows = [[next(task.source.read()), *kept[1]], [blank, *kept[0]]]
        sheet = _jpeg(contact_sheet([[_resized(image, _TILE) for image in row] for row in rows]))
        measures = _flat("faces", FaceMeasures.concatenate(faces)) | {"features": torch.cat(features), "sheet": sheet}
        return measures | (_flat("pairs", PairMeasures.concatenate(pairs)) if pairs else {})


Job = SourceJob | DrivingJob | GeneratedJob


def measure_all(jobs: Iterable[Job], cache: Cache, *, workers: int, quiet: bool = False) -> int:
    """Bring every job's measures into the cache; those that are there are not taken again. Returns how many were measured.

    With `workers` > 1 that many processes of one thread share the jobs. What is done is kept when one fails.
    Raises MmfaError for clips that can't be measured.
    """
    todo = [job for job in {job.key: job for job in jobs}.values() if not cache.has(job.key)]
    done = _in_processes(todo, cache, workers) if workers > 1 and len(todo) > 1 else _here(todo, cache)
    with tqdm(total=len(todo), desc="measuring", unit="clip", disable=quiet or None) as bar:
        for _ in done:
            bar.update()
    return len(todo)


def load_faces(job: SourceJob | DrivingJob, cache: Cache) -> FaceMeasures:
    """The faces of a job that was measured."""
    return FaceMeasures(**_part("faces", FaceMeasures, cache.load(job.key)))


def load_features(job: SourceJob, cache: Cache) -> Tensor:
    """The features (1,D) of a source that was measured."""
    return cache.load(job.key)["features"]


def load_generated(job: GeneratedJob, cache: Cache) -> Generated:
    """A generated clip that was measured."""
    tensors = cache.load(job.key)
    pairs = PairMeasures(**_part("pairs", PairMeasures, tensors)) if "pairs.psnr" in tensors else None
    faces = FaceMeasures(**_part("faces", FaceMeasures, tensors))
    return Generated(faces, pairs, tensors["features"], tensors["sheet"].numpy().tobytes())


def _here(jobs: Sequence[Job], cache: Cache) -> Iterator[None]:
    # As in the processes: one thread, so that the figures are the same to the last bit.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for job in jobs:
            cache.save(job.key, job.run())
            yield
    finally:
        torch.set_num_threads(threads)


def _in_processes(jobs: Sequence[Job], cache: Cache, workers: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=_start_worker)
    try:
        # The longest first, so that no process is left with one at the end.
        yield from pool.map(_work, sorted(jobs, key=_length, reverse=True), [cache.root] * len(jobs))
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


def _work(job: Job, root: Path) -> None:
    Cache(root).save(job.key, job.run())


def _length(job: Job) -> int:
    match job:
        case GeneratedJob():
            return 3 * job.task.frames
        case DrivingJob():
            return job.clip.frames // job.stride
    return 1


@lru_cache(maxsize=1)
def _faces() -> FaceMeasurer:
    # The second identity network's weights don't come with the package: with it reports would differ by machine.
    return FaceMeasurer(faceres=False)


@lru_cache(maxsize=1)
def _appearance() -> AppearanceMeasurer:
    return AppearanceMeasurer()


def _keep(frames: Iterable[Array], wanted: set[int], into: list[Array]) -> Iterator[Array]:
    """Pass frames on, keeping those whose number is wanted."""
    for index, frame in enumerate(frames):
        if index in wanted:
            into.append(frame)
        yield frame


def _resized(image: Array, size: int) -> Array:
    """A square picture at another size."""
    side = image.shape[0]
    return crop(image, CropBox(side / 2, side / 2, side), size=size)


def _jpeg(image: Array) -> Tensor:
    """A JPEG file as a tensor of bytes, which the cache can hold."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=88)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _flat(prefix: str, measures: FaceMeasures | PairMeasures) -> dict[str, Tensor]:
    return {f"{prefix}.{field.name}": getattr(measures, field.name) for field in fields(measures)}


def _part(prefix: str, kind: type, tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {field.name: tensors[f"{prefix}.{field.name}"] for field in fields(kind)}
