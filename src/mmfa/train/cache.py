"""A cache of decoded frames and tracked landmarks, one file a clip."""

from __future__ import annotations

import multiprocessing
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..dataset.index import Entry, entries
from ..errors import MediaError, MmfaError
from ..media.files import atomic_output
from ..media.image import read_image
from ..media.video import VideoReader
from ..priors.landmarks import FaceTracker


@dataclass(frozen=True)
class CachedClip:
    """A cache file and whose face it shows."""

    path: Path
    person: str


def prepare(
    data: Path,
    cache: Path,
    *,
    fps: float,
    split: str = "train",
    stills: bool = False,
    side: int = 0,
    workers: int = 0,
    quiet: bool = False,
) -> list[CachedClip]:
    """Decode every clip of a data set (see `dataset.index.entries`) once, tracking faces where `mmfa prepare` didn't; with
    `stills` its pictures too. With `side` frames that are larger are shrunk to that many pixels, after tracking.

    What is cached already is kept, so it can be interrupted. With `workers` that many processes share the work.
    Returns the cache files of the split. Clips that cannot be read or show no face are skipped, counted and named.
    """
    found = entries(data, split=split, kind=None if stills else "clip")
    if not found:
        raise MediaError(f"{data} has no clip in the split {split!r}.")
    cache.mkdir(parents=True, exist_ok=True)
    ending = f"@{side}.safetensors" if side else ".safetensors"
    targets = [cache / f"{split}__{entry.name}{ending}" for entry in found]
    jobs = [(entry, target, fps, side) for entry, target in zip(found, targets, strict=True) if not target.exists()]
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=torch.set_num_threads, initargs=(1,)) if workers > 1 else nullcontext() as pool:
        results = pool.imap_unordered(_cache, jobs) if pool else map(_cache, jobs)
        problems = [text for text in tqdm(results, "tracking faces", len(jobs), unit="clip", disable=quiet or None) if text]
    for problem in problems:
        tqdm.write(f"skipped: {problem}")
    if problems:
        tqdm.write(f"{len(problems)} of {len(found)} clips were skipped.")
    done = [CachedClip(target, entry.person) for entry, target in zip(found, targets, strict=True) if target.exists()]
    if not done:
        raise MediaError(f"No clip below {data} could be used.")
    return done


def _cache(job: tuple[Entry, Path, float, int]) -> str | None:
    """Decode and track one clip into its cache file; what is wrong with the clip, or None."""
    entry, target, fps, side = job
    try:
        frames, points = _read(entry, fps=fps)
        if entry.kind == "image" and not frames:
            raise MediaError(f"{entry.path} shows no face.")
        if entry.kind == "clip" and len(frames) < 4:
            raise MediaError(f"{entry.path} shows a face in fewer than 4 of the frames looked at.")
        if frames[0].shape[0] != frames[0].shape[1]:
            raise MediaError(f"{entry.path} is not square: training clips are face crops, as `mmfa prepare` makes them.")
        with atomic_output(target) as temporary:
            save_file(
                {"frames": shrink(torch.stack(frames), side or frames[0].shape[0]), "landmarks": torch.stack(points)},
                str(temporary),
            )
    except MmfaError as error:
        return str(error)
    return None


def shrink(frames: Tensor, side: int) -> Tensor:
    """Square frames (T,S,S,3) uint8 at (T,side,side,3), area-reduced; smaller ones stay."""
    if frames.shape[1] <= side:
        return frames
    reduced = [F.interpolate(frame.permute(2, 0, 1)[None].float(), size=(side, side), mode="area")[0] for frame in frames]
    return torch.stack([frame.round().to(torch.uint8).permute(1, 2, 0) for frame in reduced]).contiguous()


def _read(entry: Entry, *, fps: float) -> tuple[list[Tensor], list[Tensor]]:
    """About `fps` frames a second that show a face, and their landmarks."""
    frames, points = [], []
    known = _prepared_landmarks(entry)
    tracker = FaceTracker() if known is None else None
    if entry.kind == "image":
        picture = read_image(entry.path)
        if tracker is not None:
            face = tracker.track(picture)
            known = None if face is None else face.points[None]
        return ([], []) if known is None else ([torch.from_numpy(picture)], [known[0]])
    with VideoReader(entry.path) as video:
        step = max(1, round(float(video.info.fps) / fps))
        for index, frame in enumerate(video):
            if index % step:
                continue
            if tracker is not None:
                face = tracker.track(frame.image)
                landmarks = None if face is None or face.lost else face.points
            else:
                assert known is not None
                landmarks = known[index] if index < len(known) else None
            if landmarks is not None:
                frames.append(torch.from_numpy(frame.image.copy()))
                points.append(landmarks)
    return frames, points


def _prepared_landmarks(entry: Entry) -> Tensor | None:
    """Landmarks (T,478,3) that `mmfa prepare` stored beside the clip, if it did."""
    if entry.landmarks is None:
        return None
    try:
        with safe_open(str(entry.landmarks), "pt") as file:
            return file.get_tensor("landmarks").float()
    except (SafetensorError, OSError) as error:
        raise MediaError(f"{entry.landmarks} cannot be read ({error}).") from error
