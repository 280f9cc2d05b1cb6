"""What varies in a person's canonical keypoints from frame to frame, and how far a mean of several frames gets.

    python -m research.canonical DATA --cache CACHE [--model lite] [--split val]

DATA is a folder of face-crop clips; CACHE keeps their tracked landmarks, as `mmfa train` does. No picture is rendered. Rows: the
landmarks at the keypoints' vertices, pose-normalised, as the mesh gives them; the model's x_c of the same frames by the mesh
alone; and, for a model that looks at pictures, by both. All frames that the cache holds are counted, where
`benchmarks/leakage.py` takes 24 of each person.

consistency   `mmfa.evaluate.leakage.canonical_consistency`: spread within a person over the spread of the people's means
expression    share of the variance within people that is linear in the seven measures of `mmfa.expressions`
pose          share that is linear in pitch, yaw, roll, their squares and products
both          share that is linear in all of these
shape         share of the variance between people's mean landmarks that x_c of a single frame gets right, people evenly
of N          the consistency of the mean of N random frames of a person, over means of disjoint frames
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.options import parse, parser, run
from mmfa.evaluate.leakage import canonical_consistency, canonical_rows
from mmfa.expressions import measures
from mmfa.geometry import matrix_to_euler
from mmfa.models.mmfa import MMFA
from mmfa.nets.anchors import VERTICES
from mmfa.priors.pose import head_pose
from mmfa.train.cache import prepare
from mmfa.train.data import Clip, ClipDataset, face_of
from mmfa.weights import from_pretrained

COUNTS = (2, 4, 8)


def explained(points: list[Tensor], causes: list[Tensor]) -> float:
    """Share of the variance within people of points (T,K,3) that is linear in causes (T,C); one of each per person."""
    effect = torch.cat([(p - p.mean(0)).flatten(1) for p in points]).double()
    cause = torch.cat([c - c.mean(0) for c in causes]).double()
    cause = cause / cause.std(0)
    left = effect - cause @ (torch.linalg.pinv(cause) @ effect)
    return 1 - float(left.square().sum() / effect.square().sum())


def shape(points: list[Tensor], landmarks: list[Tensor]) -> float:
    """1 less the mean squared distance of points (T,K,3) to their person's mean landmarks (M <= K), over the means' variance."""
    means = torch.stack([frames.mean(0) for frames in landmarks])
    wrong = [(own[:, : means.shape[1]] - mean).square().sum((1, 2)).mean() for own, mean in zip(points, means, strict=True)]
    return 1 - float(torch.stack(wrong).mean() / (means - means.mean(0)).square().sum((1, 2)).mean())


def seen(model: MMFA, clip: Clip) -> Tensor:
    """x_c (T,K,3) of the frames of a clip, pictures included."""
    parts = torch.arange(len(clip.landmarks)).split(16)
    faces = (face_of(clip.images(part.tolist(), size=model.card.size), clip.landmarks[part]) for part in parts)
    return torch.cat([model.canonical(face) for face in faces])


def averaged(points: list[Tensor], count: int) -> list[Tensor]:
    """For each person the means of disjoint groups of `count` random frames."""
    generator = torch.Generator().manual_seed(0)
    mixed = [p[torch.randperm(len(p), generator=generator)] for p in points]
    return [p[: len(p) // count * count].unflatten(0, (-1, count)).mean(1) for p in mixed]


@torch.no_grad()
def main() -> None:
    options = parse(parser(__doc__, "data", "model", "split", "fps", "threads", cache={"required": True}))
    model = from_pretrained(options.model)
    assert isinstance(model, MMFA)
    people = ClipDataset(prepare(options.data, options.cache, fps=options.fps, split=options.split), size=256).people
    landmarks = [torch.cat([clip.landmarks for clip in clips]) for clips in people.values()]
    mesh = [torch.cat([clip.mesh for clip in clips]) for clips in people.values()]
    angles = [torch.stack(matrix_to_euler(head_pose(points).rotation), 1) for points in landmarks]
    expression = [measures(points).stack() for points in mesh]
    pose = [torch.cat([a, torch.stack([a[:, i] * a[:, j] for i in range(3) for j in range(i + 1)], 1)], 1) for a in angles]
    both = [torch.cat(pair, 1) for pair in zip(expression, pose, strict=True)]
    rows = {
        "landmarks": [points[:, list(VERTICES)] for points in mesh],
        f"x_c of {options.model}, mesh": [model.canonical(face_of(torch.zeros(len(points), 0), points)) for points in landmarks],
    }
    if getattr(model.canonical_detector, "looks", None) is not None:
        rows[f"x_c of {options.model}"] = [torch.cat([seen(model, clip) for clip in clips]) for clips in people.values()]
    print(f"{len(mesh)} people, {sum(map(len, mesh))} frames\n")
    print("| | consistency | shape | expression | pose | both | " + " | ".join(f"of {n}" for n in COUNTS) + " |\n|" + "---|" * 9)
    for name, points in rows.items():
        values = [canonical_consistency(canonical_rows(points).numpy()), shape(points, rows["landmarks"])]
        values += [explained(points, causes) for causes in (expression, pose, both)]
        values += [canonical_consistency(canonical_rows(averaged(points, count)).numpy()) for count in COUNTS]
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")


if __name__ == "__main__":
    run(main)
