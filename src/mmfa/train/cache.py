"""A cache of decoded frames and tracked landmarks, one file a clip."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..dataset.index import Entry, entries
from ..documents import read_json
from ..errors import ConfigError, MediaError, MmfaError
from ..media.files import atomic_output
from ..media.image import read_image
from ..media.video import VideoReader
from ..priors.landmarks import FaceTracker
from ..priors.pose import head_pose, normalise

MEAN_MESH = "mean_mesh"
"""The tensor (478,3) of a cache file that is the mean of its pose-normalised landmarks; caches of 0.6.0 and before lack it."""
_RATES = ("fps", "video_fps")
"""Metadata of a cache file: frames a second that were asked for, and those of the clip. Caches of 0.6.0 and before lack them."""
_LOOKED_AT = 200  # clips from which the size of the cache is told
_LANDMARKS = 478 * 3 * 4  # bytes a frame


@dataclass(frozen=True)
class CachedClip:
    """A cache file and whose face it shows."""

    path: Path
    person: str


Job = tuple[Entry, Path, float, int]
"""A clip, its cache file, frames a second, and the side at which frames are kept; 0: as they are."""


def prepare(
    data: Path,
    cache: Path,
    *,
    fps: float,
    split: str = "train",
    stills: bool = False,
    side: int = 0,
    workers: int = 0,
    limit: float = math.inf,
    quiet: bool = False,
) -> list[CachedClip]:
    """Decode every clip of a data set (see `dataset.index.entries`) once, tracking faces where `mmfa prepare` didn't; with
    `stills` its pictures too. With `side` frames that are larger are shrunk to that many pixels, after tracking.

    What is cached already is kept, so it can be interrupted. With `workers` that many processes share the work. Of several
    processes that ask for the same cache one does the work and the others wait, for as long as it takes.
    Returns the cache files of the split. Clips that cannot be read or show no face are skipped, counted and named.
    Raises ConfigError before the work when the cache would be larger than `limit` GB, or than the disk has room for.
    """
    found = entries(data, split=split, kind=None if stills else "clip")
    if not found:
        raise MediaError(f"{data} has no clip in the split {split!r}.")
    ending = f"@{side}.safetensors" if side else ".safetensors"
    targets = [cache / f"{split}__{entry.name}{ending}" for entry in found]
    with made(cache), _alone(cache, quiet=quiet):
        missing = [(entry, target, fps, side) for entry, target in zip(found, targets, strict=True) if not target.exists()]
        noted = {target: _noted(entry, target, fps) for entry, target, *_ in missing}
        problems = [reason for reason in noted.values() if reason]
        jobs = [job for job in missing if not noted[job[1]]]
        _tell_other_rates([target for target in targets if target.exists()], cache, fps=fps)
        if jobs:
            _check_room(jobs, cache, done=[target for target in targets if target.exists()], limit=limit, quiet=quiet)
        context = multiprocessing.get_context("spawn")
        with context.Pool(workers, initializer=torch.set_num_threads, initargs=(1,)) if workers > 1 else nullcontext() as pool:
            results = pool.imap_unordered(_cache, jobs) if pool else map(_cache, jobs)
            bar = tqdm(results, "tracking faces", len(jobs), unit="clip", disable=quiet or None)
            problems += [text for text in bar if text]
        for problem in problems:
            tqdm.write(f"skipped: {problem}")
        if problems:
            tqdm.write(f"{len(problems)} of {len(found)} clips were skipped.")
        done = [CachedClip(target, entry.person) for entry, target in zip(found, targets, strict=True) if target.exists()]
        if not done:
            raise MediaError(f"No clip below {data} could be used.")
    return done


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Make a folder for the block; it goes again, if nothing lies in it, when the block fails. Raises ConfigError."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in new:
                path.rmdir()
        raise


@contextmanager
def _alone(cache: Path, *, quiet: bool) -> Iterator[None]:
    """One process at a time, of all that fill this cache; the next one is let in when the first is done, or dead.

    Where the file system knows no locks all work at once, which costs time and nothing else: files appear whole.
    """
    path = cache / ".lock"
    try:
        file = path.open("a")
    except OSError:  # a cache that can be read alone will do, if it is whole
        yield
        return
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not quiet:
                    tqdm.write(f"another process fills {cache}; waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:
                pass
        try:
            yield
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _check_room(jobs: list[Job], cache: Path, *, done: list[Path], limit: float, quiet: bool) -> None:
    """Say how large the cache will be. Raises ConfigError when that is beyond the limit or the disk, or can't be written."""
    if not os.access(cache, os.W_OK):
        raise ConfigError(f"The folder {cache} is not writable; set cache to another one.")
    seen = jobs[:: max(1, len(jobs) // _LOOKED_AT)]
    new = sum(_bytes(entry, fps, side) for entry, _, fps, side in seen) * len(jobs) / len(seen) / 1e9
    whole, free = new + sum(path.stat().st_size for path in done) / 1e9, shutil.disk_usage(cache).free / 1e9
    if whole > limit:
        raise ConfigError(
            f"Decoded frames would take about {whole:.3g} GB in {cache}, more than cache_limit, {limit:g} GB; "
            "raise cache_limit, or lower fps."
        )
    if new > free:
        raise ConfigError(
            f"Decoded frames would take about {new:.3g} GB more in {cache}, where {free:.3g} GB are free; "
            "set cache to a folder on a larger disk, or lower fps."
        )
    if not quiet:
        tqdm.write(f"{len(jobs)} clips to decode: about {new:.3g} GB in {cache}, where {free:.3g} GB are free.")


def _bytes(entry: Entry, fps: float, side: int) -> float:
    """About how much a clip or picture takes in the cache; 0 where the file doesn't say or can't be read."""
    try:
        if entry.kind == "image":
            height, width, channels = read_image(entry.path).shape
            return float(_kept(height, side) * _kept(width, side) * channels + _LANDMARKS)
        with VideoReader(entry.path) as video:
            info = video.info
        count = (info.frame_count or 0) / _every(info.fps, fps)
        return float(count * (_kept(info.width, side) * _kept(info.height, side) * 3 + _LANDMARKS))
    except MmfaError:
        return 0.0


def _kept(pixels: int, side: int) -> int:
    return min(pixels, side) if side else pixels


def _noted(entry: Entry, target: Path, fps: float) -> str | None:
    """Why a clip was found to be of no use earlier, if it hasn't changed since."""
    note = _note(target)
    with suppress(OSError, ValueError, KeyError, TypeError):
        if note.stat().st_mtime >= entry.path.stat().st_mtime:
            content = read_json(note)
            if content["fps"] == fps:
                return f"{content['reason']} (so says {note}; delete it to look again)"
    return None


def _note(target: Path) -> Path:
    return target.with_suffix(".useless.json")


def _cache(job: Job) -> str | None:
    """Decode and track one clip into its cache file; what is wrong with the clip, or None.

    What shows no usable face is noted, so that neither the next run nor the next process tracks it again.
    """
    entry, target, fps, side = job
    try:
        frames, points, rate = _read(entry, fps=fps)
        useless = _useless(entry, frames)
        if useless:
            with atomic_output(_note(target)) as temporary:
                temporary.write_text(json.dumps({"fps": fps, "reason": useless}), encoding="utf-8")
            return useless
        landmarks = torch.stack(points)
        mean = normalise(landmarks, head_pose(landmarks)).mean(0)
        with atomic_output(target) as temporary:
            shown = shrink(torch.stack(frames), side or frames[0].shape[0])
            rates = dict(zip(_RATES, (str(fps), str(rate)), strict=True)) if rate else None
            save_file({"frames": shown, "landmarks": landmarks, MEAN_MESH: mean}, str(temporary), metadata=rates)
    except MmfaError as error:
        return str(error)
    return None


def shrink(frames: Tensor, side: int) -> Tensor:
    """Square frames (T,S,S,3) uint8 at (T,side,side,3), area-reduced; smaller ones stay."""
    if frames.shape[1] <= side:
        return frames
    reduced = [F.interpolate(frame.permute(2, 0, 1)[None].float(), size=(side, side), mode="area")[0] for frame in frames]
    return torch.stack([frame.round().to(torch.uint8).permute(1, 2, 0) for frame in reduced]).contiguous()


def _useless(entry: Entry, frames: list[Tensor]) -> str | None:
    """Why frames with faces are too few or of the wrong shape to train on."""
    if entry.kind == "image" and not frames:
        return f"{entry.path} shows no face."
    if entry.kind == "clip" and len(frames) < 4:
        return f"{entry.path} shows a face in fewer than 4 of the frames looked at."
    if frames[0].shape[0] != frames[0].shape[1]:
        return f"{entry.path} is not square: training clips are face crops, as `mmfa prepare` makes them."
    return None


def _every(video_fps: float | Fraction, fps: float) -> int:
    """Of how many frames of a clip one is taken, for about `fps` a second."""
    return max(1, round(float(video_fps) / fps))


def _tell_other_rates(targets: list[Path], cache: Path, *, fps: float) -> None:
    """Say in a sentence that clips were decoded for another frame rate, with other frames than `fps` would take."""
    other = [asked for asked, own in map(_rates, targets) if asked and own and _every(own, asked) != _every(own, fps)]
    if other:
        tqdm.write(
            f"{len(other)} of {len(targets)} clips in {cache} were decoded at {other[0]:g} frames a second, not at fps: {fps:g}; "
            "they are used as they are: set cache to another folder for others."
        )


def _rates(target: Path) -> tuple[float, float]:
    """Frames a second that were asked for, and those of the clip, by its cache file; zeros where it doesn't say."""
    try:
        with safe_open(str(target), "pt") as file:
            metadata = file.metadata() or {}
        asked, own = (float(metadata.get(name, 0)) for name in _RATES)
    except (SafetensorError, OSError, ValueError):
        return 0.0, 0.0
    return asked, own


def _read(entry: Entry, *, fps: float) -> tuple[list[Tensor], list[Tensor], float]:
    """About `fps` frames a second that show a face, their landmarks, and the clip's own frame rate; 0 of a picture."""
    frames, points = [], []
    known = _prepared_landmarks(entry)
    tracker = FaceTracker() if known is None else None
    if entry.kind == "image":
        picture = read_image(entry.path)
        if tracker is not None:
            face = tracker.track(picture)
            known = None if face is None else face.points[None]
        return ([], [], 0.0) if known is None else ([torch.from_numpy(picture)], [known[0]], 0.0)
    with VideoReader(entry.path) as video:
        step = _every(video.info.fps, fps)
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
    return frames, points, float(video.info.fps)


def _prepared_landmarks(entry: Entry) -> Tensor | None:
    """Landmarks (T,478,3) that `mmfa prepare` stored beside the clip, if it did."""
    if entry.landmarks is None:
        return None
    try:
        with safe_open(str(entry.landmarks), "pt") as file:
            landmarks: Tensor = file.get_tensor("landmarks")
            return landmarks.float()
    except (SafetensorError, OSError) as error:
        raise MediaError(f"{entry.landmarks} cannot be read ({error}).") from error
