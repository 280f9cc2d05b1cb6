"""Same-clip pairs from a folder of clips, through a cache of decoded frames and tracked landmarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ..errors import MediaError
from ..geometry import Bend, geodesic_angle, similarity, transform_points
from ..nets.anchors import EYES, LIPS, VERTICES
from ..portrait import FaceInput
from ..priors.landmarks import eye_opening, mouth_opening
from ..priors.pose import head_pose, normalise, template
from .cache import MEAN_MESH, CachedClip
from .stills import draw_move, move_head

_TURN = 3
HELD_FRAMES = 100_000
"""Landmarks of so many frames, 1.1 GB with the meshes, are held in memory; of larger data sets they are read pair by pair."""


@dataclass(frozen=True)
class Clip:
    """One tracked clip of T frames, or a still: T = 1.

    Frames (T,S,S,3) uint8 and landmarks stay on disk and are read as they are asked for, unless `frames` holds the ones, on
    whatever device, and `held` the others, as (T,478,3) in grid coordinates and (T,478,3) pose-normalised.
    """

    path: Path
    person: str
    length: int
    held: tuple[Tensor, Tensor] | None = None
    frames: Tensor | None = None

    @property
    def landmarks(self) -> Tensor:
        """All landmarks (T,478,3) in grid coordinates."""
        return self.points()

    @property
    def mesh(self) -> Tensor:
        """All pose-normalised landmarks (T,478,3)."""
        return self.meshes()

    def points(self, indices: Sequence[int] | None = None) -> Tensor:
        """Landmarks (n,478,3) in grid coordinates, of some frames or of all. Raises MediaError when the cache file is damaged."""
        if self.held is not None:
            return self.held[0] if indices is None else self.held[0][list(indices)]
        try:
            with safe_open(str(self.path), "pt") as file:
                rows = file.get_slice("landmarks")
                return rows[:] if indices is None else torch.stack([rows[i] for i in indices])
        except (SafetensorError, OSError) as error:
            raise MediaError(f"{self.path} cannot be read ({error}).") from error

    def meshes(self, indices: Sequence[int] | None = None) -> Tensor:
        """Pose-normalised landmarks (n,478,3), of some frames or of all. Raises MediaError when the cache file is damaged."""
        if self.held is not None:
            return self.held[1] if indices is None else self.held[1][list(indices)]
        points = self.points(indices)
        return normalise(points, head_pose(points))

    def images(self, indices: list[int], *, size: int) -> Tensor:
        """Frames (n,3,size,size) in [0,1]. Raises MediaError when the cache file is damaged."""
        try:
            if self.frames is not None:
                picked = self.frames[indices]
            else:
                with safe_open(str(self.path), "pt") as file:
                    frames = file.get_slice("frames")
                    picked = torch.stack([frames[i] for i in indices])
        except (SafetensorError, OSError) as error:
            raise MediaError(f"{self.path} cannot be read ({error}).") from error
        image = picked.permute(0, 3, 1, 2).float() / 255
        return image if image.shape[-1] == size else F.interpolate(image, size=(size, size), mode="area")


@dataclass(frozen=True)
class Augmentation:
    """The ranges of what is drawn per pair; see the keys of the same names in `TrainConfig`."""

    flip: float = 0.0
    stills: float = 0.0
    colour_jitter: float = 0.0
    tone: float = 0.0
    transform_angle: float = 20.0
    transform_scale: float = 0.2
    transform_shift: float = 0.15


@dataclass(frozen=True)
class Tone:
    """How a photo can differ from today's videos: ``low + (high - low) x^gamma`` per channel, after colours are taken away.

    colour: 1 keeps it, 0 is black and white. gamma: above 1 darker. low, high: (3,), what black and white become.
    """

    colour: float
    gamma: float
    low: Tensor
    high: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Images (n,3,S,S) in [0,1]."""
        luma = (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
        low, high = (end.to(images)[:, None, None] for end in (self.low, self.high))
        return (low + (high - low) * torch.lerp(luma, images, self.colour).clamp_min(1e-4) ** self.gamma).clamp(0, 1)

    @staticmethod
    def draw(generator: torch.Generator) -> Tone:
        """One of: black and white, an old print (toned and faded), dark, pale, or tinted."""
        kind, more = int(torch.randint(5, (1,), generator=generator)), torch.rand(8, generator=generator)
        grey = float(kind < 2) * (1 if kind == 0 else 0.7 + 0.3 * float(more[0]))
        low, high = torch.zeros(3), torch.ones(3)
        gamma = 0.8 + 0.5 * float(more[1])
        if kind == 1:
            low, high = 0.15 * more[2] + torch.tensor([0.08, 0.04, 0.0]) * more[3], 1 - torch.tensor([0.0, 0.08, 0.25]) * more[4]
        elif kind == 2:
            gamma, high = 1.4 + float(more[1]), high * (0.6 + 0.4 * more[2])
        elif kind == 3:
            low, high = low + 0.3 * more[2], high - 0.25 * more[3]
        elif kind == 4:
            high = 1 - 0.4 * more[2:5]
        return Tone(1 - grey, gamma, low, high)


@dataclass(frozen=True)
class Pair:
    """Everything random about one training pair.

    transform: (2,3), the in-plane similarity of I_d' (eq. 7, 15). factor (3,1,1) and offset (1,1,1) of the colours.
    corner: (2,) in [0,1], where the window lies in which the sharpness losses look.
    turn: (6,) in [-1,1], for the pose in which the face is rendered a second time: pitch, yaw, roll, scale, shift x and y.
    bend: (31,), normal numbers that make the `geometry.Bend` of eq. 15. tint: (4,) in [-1,1], factors and offset of the
    colours of transformed pictures. tone: what both pictures look like, see `Tone`.
    move: (2,3), the in-plane similarity of a still's head between source and driving; None for frames of a clip.
    """

    clip: Clip
    source: int
    driving: int
    flip: bool
    transform: Tensor
    factor: Tensor
    offset: Tensor
    corner: Tensor
    turn: Tensor
    bend: Tensor
    tint: Tensor
    tone: Tone | None = None
    move: Tensor | None = None

    def landmarks(self) -> Tensor:
        """(2,478,3) of source and driving, not mirrored yet."""
        points = self.clip.points([self.source, self.driving])
        return points if self.move is None else torch.cat([points[:1], transform_points(points[1:], self.move[None])])

    def images(self, *, size: int) -> Tensor:
        """(2,3,size,size) of source and driving, mirrored and with their colours. Raises MediaError for a damaged clip."""
        both = self.clip.images([self.source, self.driving], size=size)
        if self.move is not None:
            both[1] = move_head(both[1], self.clip.points([self.driving])[0].to(both), self.move.to(both))
        both = both.flip(-1) if self.flip else both
        both = (both * self.factor.to(both) + self.offset.to(both)).clamp(0, 1)
        return both if self.tone is None else self.tone(both)


@dataclass(frozen=True)
class Batch:
    """source and driving faces of one clip each; landmarks (B,478,3) of both and anchor targets (B,M,3), depth relative.

    canonical_points (B,M,3): the person's mean pose-normalised landmarks, what canonical keypoints are anchored to.
    known: (B,), whether that mean is one; a person of a single still has none. transform (B,2,3), corner (B,2), turn (B,6),
    bend (B,31) and tint (B,4): see `Pair`.
    """

    source: FaceInput
    driving: FaceInput
    source_landmarks: Tensor
    landmarks: Tensor
    source_points: Tensor
    driving_points: Tensor
    canonical_points: Tensor
    known: Tensor
    transform: Tensor
    corner: Tensor
    turn: Tensor
    bend: Tensor
    tint: Tensor

    def __len__(self) -> int:
        return len(self.landmarks)

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))

    def chunks(self, count: int) -> list[Batch]:
        """The batch in `count` equal parts."""
        size = len(self) // count
        cuts = [slice(i * size, (i + 1) * size) for i in range(count)]
        return [Batch(*(getattr(self, field.name)[cut] for field in fields(self))) for cut in cuts]


class ClipDataset:
    """Clips grouped by person, and stills. Persons are drawn evenly, then a clip, then two of its frames."""

    def __init__(
        self, files: list[CachedClip], *, size: int, resident: torch.device | str | None = None, held: int = HELD_FRAMES
    ) -> None:
        """With `resident` all frames are held, as uint8, on that device. Landmarks are held in memory, unless there are more
        than `held` frames of them. Damaged cache files are skipped and named.
        """
        self.size = size
        self.people: dict[str, list[Clip]] = {}
        self.stills: list[Clip] = []
        hold = resident is not None or sum(_length(cached) for cached in files) <= held
        totals: dict[str, Tensor] = {}
        for cached in tqdm(files, desc="loading frames", unit="clip", disable=None if resident else True):
            try:
                clip, mean = _open(cached, hold=hold, resident=resident)
            except (SafetensorError, OSError) as error:
                tqdm.write(f"skipped: {cached.path} cannot be read ({error}).")
                continue
            if clip.length == 1:
                self.stills.append(clip)
                continue
            self.people.setdefault(cached.person, []).append(clip)
            totals[cached.person] = totals.get(cached.person, 0) + clip.length * mean
        self.clips = [clip for clips in self.people.values() for clip in clips]
        self.shapes = {person: totals[person] / sum(clip.length for clip in clips) for person, clips in self.people.items()}
        if not self.clips:
            raise MediaError(
                "No clip of the training data could be read (pictures alone don't do); delete the cache to track them anew."
            )

    def mean_mesh(self) -> Tensor:
        """Mean pose-normalised mesh (478,3), persons counted evenly."""
        return torch.stack(list(self.shapes.values())).mean(0)

    def draw(
        self,
        count: int,
        generator: torch.Generator,
        *,
        candidates: int = 1,
        steady: float = 0.0,
        turns: float = 0.0,
        augmentation: Augmentation | None = None,
    ) -> list[Pair]:
        """Random pairs. Of several candidates, that driving frame is taken in which most moved: the head, the lips or the eyes.

        When it is the lips, the frame with the wider mouth drives, when it is the eyes, that with the narrower ones: what the
        photo does not show must be learnt more often. With `steady` what the whole head moves counts so many times against a
        frame drawn for lips or eyes: then they are most of what differs. turns: chance that the candidate drives whose head is
        turned farthest from the source's.
        """
        augmentation = augmentation or Augmentation()
        people = list(self.people.values())
        ranges = (augmentation.transform_angle, augmentation.transform_scale, augmentation.transform_shift)

        def index(limit: int) -> int:
            return int(torch.randint(limit, (1,), generator=generator))

        def symmetric(*shape: int) -> Tensor:
            return 2 * torch.rand(shape, generator=generator) - 1

        pairs = []
        for _ in range(count):
            # Asked first, so that without stills the same pairs are drawn as ever.
            still = bool(augmentation.stills and self.stills) and float(torch.rand(1, generator=generator)) < augmentation.stills
            clips = [self.stills[index(len(self.stills))]] if still else people[index(len(people))]
            clip = clips[index(len(clips))]
            source = index(clip.length)
            options = [index(clip.length) for _ in range(candidates)]
            part = index(3)  # the head, the lips, the eyes
            if turns and float(torch.rand(1, generator=generator)) < turns:
                part = _TURN
            source, driving = _chosen(clip, source, options, part, steady) if candidates > 1 else (source, options[0])
            angle = symmetric(1) * augmentation.transform_angle
            zoom = (symmetric(1) * augmentation.transform_scale).exp()
            pairs.append(
                Pair(
                    clip,
                    source,
                    driving,
                    flip=float(torch.rand(1, generator=generator)) < augmentation.flip,
                    transform=similarity(angle, zoom, symmetric(1, 2) * augmentation.transform_shift)[0],
                    factor=1 + 0.5 * augmentation.colour_jitter * symmetric(3, 1, 1),
                    offset=0.25 * augmentation.colour_jitter * symmetric(1, 1, 1),
                    corner=torch.rand(2, generator=generator),
                    turn=symmetric(6),
                    bend=torch.zeros(Bend.NUMBERS),
                    tint=torch.zeros(4),
                    move=draw_move(generator, *ranges) if still else None,
                )
            )
        # Drawn last, so that the same pairs are drawn as ever.
        bends = torch.randn(count, Bend.NUMBERS, generator=generator)
        tints = symmetric(count, 4)
        pairs = [replace(pair, bend=bend, tint=tint) for pair, bend, tint in zip(pairs, bends, tints, strict=True)]
        if not augmentation.tone:
            return pairs
        toned = torch.rand(count, generator=generator) < augmentation.tone
        return [
            replace(pair, tone=Tone.draw(generator)) if bool(chosen) else pair for pair, chosen in zip(pairs, toned, strict=True)
        ]

    def _shape(self, clip: Clip) -> Tensor:
        """The mean mesh (478,3) of a clip's person; of a person without clips the still's own."""
        return self.shapes[clip.person] if clip.person in self.shapes else clip.meshes([0])[0]

    def batch(self, pairs: list[Pair], *, images: bool = True) -> Batch:
        """The pairs' pictures and landmarks; without `images` the pictures are empty. Raises MediaError for a damaged clip."""
        points = torch.stack([pair.landmarks() for pair in pairs])
        flipped = torch.tensor([pair.flip for pair in pairs])
        points = torch.where(flipped[:, None, None, None], mirror(points), points)
        known = torch.tensor([pair.clip.person in self.shapes for pair in pairs])
        shapes = torch.stack([self._shape(pair.clip) for pair in pairs])
        shapes = torch.where(flipped[:, None, None], mirror(shapes), shapes)
        both = torch.stack([pair.images(size=self.size) for pair in pairs]) if images else torch.zeros(len(pairs), 2, 0)
        source, source_points = _face(both[:, 0], points[:, 0])
        driving, driving_points = _face(both[:, 1], points[:, 1])
        return Batch(
            source,
            driving,
            points[:, 0],
            points[:, 1],
            source_points,
            driving_points,
            shapes[:, list(VERTICES)],
            known,
            torch.stack([pair.transform for pair in pairs]),
            torch.stack([pair.corner for pair in pairs]),
            torch.stack([pair.turn for pair in pairs]),
            torch.stack([pair.bend for pair in pairs]),
            torch.stack([pair.tint for pair in pairs]),
        )


def _length(cached: CachedClip) -> int:
    """Frames of a clip; 0 where the file can't be read."""
    try:
        with safe_open(str(cached.path), "pt") as file:
            return int(file.get_slice("landmarks").get_shape()[0])
    except (SafetensorError, OSError):
        return 0


def _open(cached: CachedClip, *, hold: bool, resident: torch.device | str | None) -> tuple[Clip, Tensor]:
    """A clip, and its mean pose-normalised mesh (478,3)."""
    with safe_open(str(cached.path), "pt") as file:
        frames = None if resident is None else file.get_tensor("frames").to(resident)
        if not hold and MEAN_MESH in file.keys():  # noqa: SIM118  # no dict
            length = int(file.get_slice("landmarks").get_shape()[0])
            return Clip(cached.path, cached.person, length, frames=frames), file.get_tensor(MEAN_MESH)
        landmarks = file.get_tensor("landmarks")
    mesh = normalise(landmarks, head_pose(landmarks))
    held = (landmarks, mesh) if hold else None
    return Clip(cached.path, cached.person, len(landmarks), held, frames), mesh.mean(0)


def _chosen(clip: Clip, source: int, options: list[int], part: int, steady: float) -> tuple[int, int]:
    """Source and driving frame of a pair, as `ClipDataset.draw` says; part: 0 the head, 1 the lips, 2 the eyes, _TURN."""
    try:
        points, mesh = clip.points([source, *options]), clip.meshes([source, *options])
    except MediaError:
        return source, options[0]  # whoever reads the pictures will name the damage and draw another pair
    if part == _TURN:
        rotation = head_pose(points).rotation
        return source, options[int(geodesic_angle(rotation[:1].expand(len(options), 3, 3), rotation[1:]).argmax())]
    seen = (points, mesh[:, list(LIPS)], mesh[:, list(EYES)])[part]
    moved = [float((other - seen[0]).abs().mean()) for other in seen[1:]]
    if steady and part:
        moved = [own - steady * float((other - points[0]).abs().mean()) for own, other in zip(moved, points[1:], strict=True)]
    taken = moved.index(max(moved))
    if part:
        shown = mouth_opening(mesh) if part == 1 else -eye_opening(mesh)
        if float(shown[0]) > float(shown[1 + taken]):
            return options[taken], source
    return source, options[taken]


def even_frames(clips: list[Clip], count: int) -> list[tuple[Clip, list[int]]]:
    """At most `count` frames, evenly from all of the clips."""
    places = [(clip, index) for clip in clips for index in range(clip.length)]
    taken = torch.linspace(0, len(places) - 1, min(count, len(places))).round().long().tolist()
    frames = [(clip, [places[place][1] for place in taken if places[place][0] is clip]) for clip in clips]
    return [(clip, indices) for clip, indices in frames if indices]


def _face(image: Tensor, landmarks: Tensor) -> tuple[FaceInput, Tensor]:
    """What the networks take, and the landmarks (B,M,3) that anchor the keypoints, their depth relative to the head's."""
    pose = head_pose(landmarks)
    anchors = landmarks[:, list(VERTICES)].clone()
    anchors[..., 2] -= pose.offset[:, None, 2]
    return FaceInput(image, normalise(landmarks, pose), pose.rotation, pose.scale, pose.translation), anchors


def face_of(image: Tensor, landmarks: Tensor) -> FaceInput:
    """Face crops (B,3,S,S) and their landmarks (B,478,3) in grid coordinates, as the networks take them."""
    return _face(image, landmarks)[0]


def mirror(points: Tensor) -> Tensor:
    """Landmarks (...,478,3) of the mirrored picture: x changes its sign, left and right vertices change places."""
    return points[..., _mirror_order(), :] * points.new_tensor([-1.0, 1.0, 1.0])


@lru_cache(maxsize=1)
def _mirror_order() -> list[int]:
    vertices, _ = template()
    nearest = torch.cdist(vertices * vertices.new_tensor([-1.0, 1.0, 1.0]), vertices).argmin(1)
    # An iris is its centre, then four points, counter-clockwise from the image's right.
    return [*nearest.tolist(), 473, 476, 475, 474, 477, 468, 471, 470, 469, 472]


class StepBatches(Dataset[Batch]):
    """The batch of each training step, as this process's slice of what all processes draw.

    Everything random depends on the seed and the step alone: a resumed run, and a run on another number of processes,
    sees the same pairs. A clip that can't be read is replaced by another pair, counted in `skipped` and named once.
    """

    def __init__(
        self,
        data: ClipDataset,
        *,
        seed: int,
        steps: int,
        batch: int,
        candidates: int,
        augmentation: Augmentation,
        steady: float = 0.0,
        turns: float = 0.0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.data, self.seed, self.steps, self.count = data, seed, steps, batch
        self.candidates, self.steady, self.turns, self.augmentation = candidates, steady, turns, augmentation
        self.part = slice(rank * batch // world, (rank + 1) * batch // world)
        self.skipped: Counter[str] = Counter()

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        pairs = self._draw(self.count, generator)[self.part]
        for _ in range(100):
            try:
                return self.data.batch(pairs)
            except MediaError:
                pairs = self._without_damage(pairs, generator)
        raise MediaError("100 clips in a row could not be read; look at the messages above.")

    def _draw(self, count: int, generator: torch.Generator) -> list[Pair]:
        return self.data.draw(
            count, generator, candidates=self.candidates, steady=self.steady, turns=self.turns, augmentation=self.augmentation
        )

    def _without_damage(self, pairs: list[Pair], generator: torch.Generator) -> list[Pair]:
        good = []
        for pair in pairs:
            try:
                pair.clip.images([pair.source, pair.driving], size=self.data.size)
                pair.landmarks()
            except MediaError as error:
                if not self.skipped[str(pair.clip.path)]:
                    tqdm.write(f"skipped: {error}")
                self.skipped[str(pair.clip.path)] += 1
                good += self._draw(1, generator)
                continue
            good.append(pair)
        return good
