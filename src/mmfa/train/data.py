"""Same-clip pairs from a folder of clips, through a cache of decoded frames and tracked landmarks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..errors import MediaError, MmfaError
from ..media.files import atomic_output
from ..media.video import VideoReader
from ..nets.anchors import VERTICES
from ..nets.mmfa import FaceInput
from ..priors.landmarks import FaceTracker
from ..priors.pose import HeadPose, head_pose, normalise

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi"}


@dataclass(frozen=True)
class Clip:
    """One tracked clip. landmarks (T,478,3) in grid coordinates; the frames (T,S,S,3) uint8 stay on disk."""

    path: Path
    person: str
    landmarks: Tensor
    mesh: Tensor
    pose: HeadPose

    def images(self, indices: list[int]) -> Tensor:
        """Frames (n,3,S,S) in [0,1]."""
        with safe_open(str(self.path), "pt") as file:
            frames = file.get_slice("frames")
            picked = torch.stack([frames[i] for i in indices])
        return picked.permute(0, 3, 1, 2).float() / 255

    def face(self, indices: list[int], *, size: int) -> FaceInput:
        image = self.images(indices)
        if image.shape[-1] != size:
            image = torch.nn.functional.interpolate(image, size=(size, size), mode="area")
        return FaceInput(
            image, self.mesh[indices], self.pose.rotation[indices], self.pose.scale[indices], self.pose.translation[indices]
        )

    def targets(self, indices: list[int]) -> Tensor:
        """Landmarks (n,M,3) that anchor the keypoints, their depth relative to the head's (t_z is 0)."""
        points = self.landmarks[indices][:, list(VERTICES)].clone()
        points[..., 2] -= self.pose.offset[indices][:, None, 2]
        return points


def prepare(data: Path, cache: Path, *, fps: float, split: str = "train") -> list[Path]:
    """Decode and track every clip below `data` once; what is cached already is kept, so it can be interrupted.

    Layout: ``data/PERSON/NAME.mp4`` (or ``data/clips/PERSON/NAME.mp4`` with an ``index.json`` that names splits).
    Returns the cache files of the split. Clips that cannot be read or show no face are skipped and named.
    """
    entries = _list_clips(data, split)
    if not entries:
        raise MediaError(f"{data} contains no video of the split {split!r}.")
    cache.mkdir(parents=True, exist_ok=True)
    done: list[Path] = []
    for path, person in tqdm(entries, desc="tracking faces", unit="clip", disable=None):
        target = cache / f"{split}__{person}__{path.stem}.safetensors"
        if not target.exists():
            try:
                _track(path, target, fps=fps)
            except MmfaError as error:
                tqdm.write(f"skipped: {error}")
                continue
        done.append(target)
    if not done:
        raise MediaError(f"No clip below {data} could be used.")
    return done


def _list_clips(data: Path, split: str) -> list[tuple[Path, str]]:
    index = data / "index.json"
    if index.exists():
        try:
            clips = json.loads(index.read_text(encoding="utf-8"))["clips"]
            return [(data / clip["file"], clip["person"]) for clip in clips if clip["split"] == split]
        except (ValueError, KeyError, TypeError) as error:
            raise MediaError(f"{index} is no list of clips with file, person and split ({error!r}).") from error
    paths = sorted(path for path in data.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    return [(path, path.parent.name if path.parent != data else path.stem) for path in paths]


def _track(path: Path, target: Path, *, fps: float) -> None:
    frames, points, scores = [], [], []
    tracker = FaceTracker()
    with VideoReader(path) as video:
        step = max(1, round(float(video.info.fps) / fps))
        for index, frame in enumerate(video):
            if index % step or (face := tracker.track(frame.image)) is None or face.lost:
                continue
            frames.append(torch.from_numpy(frame.image.copy()))
            points.append(face.points)
            scores.append(torch.tensor(face.score))
    if len(frames) < 4:
        raise MediaError(f"{path} shows a face in fewer than 4 of the frames looked at.")
    if frames[0].shape[0] != frames[0].shape[1]:
        raise MediaError(f"{path} is not square: training clips are face crops.")
    tensors = {"frames": torch.stack(frames), "landmarks": torch.stack(points), "score": torch.stack(scores)}
    with atomic_output(target) as temporary:
        save_file(tensors, str(temporary))


class ClipDataset:
    """Clips grouped by person. Persons are drawn evenly, then a clip, then two of its frames."""

    def __init__(self, files: list[Path], *, size: int) -> None:
        self.size = size
        self.people: dict[str, list[Clip]] = {}
        for file in files:
            with safe_open(str(file), "pt") as tensors:
                landmarks = tensors.get_tensor("landmarks")
            pose = head_pose(landmarks)
            person = file.name.split("__")[1]
            clip = Clip(file, person, landmarks, normalise(landmarks, pose), pose)
            self.people.setdefault(person, []).append(clip)
        self.clips = [clip for clips in self.people.values() for clip in clips]

    def mean_mesh(self) -> Tensor:
        """Mean pose-normalised mesh (478,3), persons counted evenly."""
        means = [torch.cat([clip.mesh for clip in clips]).mean(0) for clips in self.people.values()]
        return torch.stack(means).mean(0)

    def pairs(self, count: int, generator: torch.Generator, *, candidates: int = 1) -> list[tuple[Clip, int, int]]:
        """Clip, source frame and driving frame; of several candidates the driving frame that moved most is taken."""
        people = list(self.people.values())

        def draw(limit: int) -> int:
            return int(torch.randint(limit, (1,), generator=generator))

        chosen = []
        for _ in range(count):
            clips = people[draw(len(people))]
            clip = clips[draw(len(clips))]
            source = draw(len(clip.mesh))
            options = [draw(len(clip.mesh)) for _ in range(candidates)]
            moved = [float((clip.landmarks[option] - clip.landmarks[source]).abs().mean()) for option in options]
            chosen.append((clip, source, options[moved.index(max(moved))]))
        return chosen

    def batch(self, pairs: list[tuple[Clip, int, int]], *, images: bool = True) -> Batch:
        sources, drivings = [], []
        source_points, driving_points, landmarks = [], [], []
        for clip, i, j in pairs:
            faces = clip.face([i, j], size=self.size) if images else _without_image(clip, [i, j])
            sources.append(_pick(faces, 0))
            drivings.append(_pick(faces, 1))
            targets = clip.targets([i, j])
            source_points.append(targets[0])
            driving_points.append(targets[1])
            landmarks.append(clip.landmarks[j])
        return Batch(
            _stack(sources),
            _stack(drivings),
            torch.stack(source_points),
            torch.stack(driving_points),
            torch.stack(landmarks),
        )


@dataclass(frozen=True)
class Batch:
    """source and driving faces of one clip each; anchor landmarks (B,M,3) of both; all landmarks (B,478,3) of driving."""

    source: FaceInput
    driving: FaceInput
    source_points: Tensor
    driving_points: Tensor
    landmarks: Tensor


def _pick(face: FaceInput, index: int) -> FaceInput:
    return FaceInput(*(getattr(face, name)[index] for name in _FACE_FIELDS))


def _stack(faces: list[FaceInput]) -> FaceInput:
    return FaceInput(*(torch.stack([getattr(face, name) for face in faces]) for name in _FACE_FIELDS))


def _without_image(clip: Clip, indices: list[int]) -> FaceInput:
    empty = torch.zeros(len(indices), 0)
    return FaceInput(
        empty, clip.mesh[indices], clip.pose.rotation[indices], clip.pose.scale[indices], clip.pose.translation[indices]
    )


_FACE_FIELDS = ("image", "mesh", "rotation", "scale", "translation")
