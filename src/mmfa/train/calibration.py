"""Named directions as pictures show them: what a direction moves besides, between keypoints and picture, is taken out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import ConfigError
from ..expressions import NAMES, keypoint_measures, measures
from ..media.image import to_uint8
from ..models.mmfa import MMFA
from ..priors.detector import FaceDetector
from ..priors.landmarks import FaceLandmarker, FaceTracker
from ..priors.pose import head_pose, normalise
from .data import Clip, ClipDataset, face_of
from .directions import BOTH_WAYS, weighted_spread, within_person


def calibrate(model: MMFA, directions: Tensor, clips: ClipDataset, *, count: int, seed: int = 0, quiet: bool = False) -> Tensor:
    """Directions (7,N) mixed so that each moves the other measures least, on keypoints and in pictures; see `mixed`.

    Returns (2,7,N): forwards and, mixed on their own, backwards. A brow that rises with the gaze's way up and with its way down
    is in no single direction. `count` frames are rendered, people evenly. Raises ConfigError when no face is found in any, or
    when a direction doesn't move its own measure in pictures: then the model can't be steered yet, and `pictures: 0` leaves the
    directions as they are.
    """
    steps = torch.cat([directions, -directions[BOTH_WAYS]])
    in_pictures = _there_and_back(picture_effects(model, steps, clips, count=count, seed=seed, quiet=quiet))
    on_keypoints = _there_and_back(keypoint_effects(model, steps, clips, count=20 * count, seed=seed))
    weakest = torch.minimum(*(effect.diag() for effect in in_pictures))
    weak = [name for name, own in zip(NAMES, weakest, strict=True) if not own > 0.05]
    if weak:
        raise ConfigError(f"In pictures of this model {', '.join(weak)} doesn't move; train it longer, or set pictures: 0.")
    return torch.stack([mixed(directions, *effects) for effects in zip(in_pictures, on_keypoints, strict=True)])


def mixed(directions: Tensor, *effects: Tensor) -> Tensor:
    """Each direction (7,N) with as much of the others as leaves the least of the others' effects.

    effects: matrices (7,7), the change of each measure (columns) by each direction (rows). Least squares over all matrices,
    in units of the own effect of each; the share of the direction itself stays 1, its own effect nearly so.
    """
    count = len(directions)
    mix = torch.eye(count)
    for own in range(count):
        table = torch.cat([effect / effect[own, own] for effect in effects], 1)
        wrong = table[:, [column for column in range(table.shape[1]) if column % count != own]]
        others = [row for row in range(count) if row != own]
        mix[own, others] = torch.linalg.lstsq(wrong[others].T, -wrong[own, :, None]).solution[:, 0]
    return mix @ directions


@torch.no_grad()
def keypoint_effects(model: MMFA, steps: Tensor, clips: ClipDataset, *, count: int, seed: int = 0) -> Tensor:
    """Changes (count,S,7) of the measures on keypoints x_c + D_exp(f, x_c) by steps (S,N) of f, on frames of people drawn evenly.

    Unit: the standard deviation of the measure within a person, on such keypoints.
    """

    def measured(canonical: Tensor, f: Tensor) -> Tensor:
        return keypoint_measures(canonical + model.expression_decoder(f, canonical)).stack()

    face = face_of(torch.zeros(len(frames_of(clips)), 0), torch.cat([clip.landmarks for clip in clips.clips]))
    feature, canonical = model.motion(face).expression, model.canonical(face)
    person, weight = people_of(clips)
    spread = weighted_spread(within_person(measured(canonical, feature), person), weight)
    drawn = torch.tensor(drawn_frames(clips, count, seed))
    feature, canonical = feature[drawn], canonical[drawn]
    before = measured(canonical, feature)
    return torch.stack([measured(canonical, feature + step) - before for step in steps], 1) / spread


@torch.no_grad()
def picture_effects(model: MMFA, steps: Tensor, clips: ClipDataset, *, count: int, seed: int = 0, quiet: bool = False) -> Tensor:
    """Changes (n,S,7) of the measures on landmarks detected in renderings, pose-normalised, by steps (S,N) of f.

    Frames drawn like `keypoint_effects`, each against the rendering of its own f; n < count where a face was lost. Unit: the
    standard deviation of the measure within a person, on the landmarks of the data. Raises ConfigError when n is 0.
    """
    person, weight = people_of(clips)
    mesh = torch.cat([clip.mesh for clip in clips.clips])
    spread = weighted_spread(within_person(measures(mesh).stack(), person), weight)
    frames, landmarker, detector = frames_of(clips), FaceLandmarker(), FaceDetector()
    found = []
    for index in tqdm(drawn_frames(clips, count, seed), desc="directions in pictures", unit="frame", disable=quiet or None):
        change = _in_pictures(model, steps, *frames[index], tracker=lambda: FaceTracker(landmarker=landmarker, detector=detector))
        found += [] if change is None else [change / spread]
    if not found:
        raise ConfigError("No face is found in any picture that the model renders; train it longer, or set pictures: 0.")
    return torch.stack(found)


def people_of(clips: ClipDataset) -> tuple[Tensor, Tensor]:
    """Of every frame, clip by clip: whose it is (T,), counted from 0, and its weight (T,), sum 1, the same for every person."""
    lengths = torch.tensor([sum(clip.length for clip in own) for own in clips.people.values()])
    person = torch.arange(len(lengths)).repeat_interleave(lengths)
    return person, (1 / (lengths * len(lengths)))[person]


def frames_of(clips: ClipDataset) -> list[tuple[Clip, int]]:
    """All frames, clip by clip."""
    return [(clip, index) for clip in clips.clips for index in range(clip.length)]


def drawn_frames(clips: ClipDataset, count: int, seed: int) -> list[int]:
    """Indices into `frames_of`, people evenly; the first of them are the same for every count."""
    weight = people_of(clips)[1].double().cumsum(0)
    places = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.searchsorted(weight, places).clamp(max=len(weight) - 1).tolist()


def _in_pictures(model: MMFA, steps: Tensor, clip: Clip, index: int, *, tracker: Callable[[], FaceTracker]) -> Tensor | None:
    """Changes (S,7) in renderings of one frame; None where a face is lost."""
    source = model.prepare(face_of(clip.images([index], size=model.params.size), clip.points([index])))
    features = source.motion.expression + torch.cat([torch.zeros_like(steps[:1]), steps])
    driving = replace(source.motion.expand(len(features)), expression=features)
    points = []
    for image in to_uint8(model.render(source.expand(len(features)), driving).images[-1]):
        face = tracker().track(image)
        if face is None:
            return None
        points.append(face.points)
    mesh = torch.stack(points)
    values = measures(normalise(mesh, head_pose(mesh))).stack()
    return values[1:] - values[0]


def _there_and_back(effects: Tensor) -> tuple[Tensor, Tensor]:
    """Mean effects (7,7) of the directions, and of those walked backwards with the sign turned, from all (n,7 + ways back,7).

    What isn't meant to be walked backwards gets the effects of the way there.
    """
    there, back = effects.mean(0).split([len(NAMES), len(BOTH_WAYS)])
    return there, there.index_copy(0, torch.tensor(BOTH_WAYS), -back)
