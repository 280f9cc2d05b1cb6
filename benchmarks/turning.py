"""Do heads turn as far as asked? Asked of a network that no loss has seen: the face detector's six points.

    python -m benchmarks.turning DATA --cache CACHE [--model lite ...] [--split val] [--every 4]

The sliders of `benchmarks/leakage.py` are measured by the landmark network that `loss_landmark`, `loss_repose` and
`loss_rotation` train against. The detector is another network, on another crop, and none of the losses asks it. Its points say
how far the tip of the nose lies beside the middle of the eyes, over the distance of the eyes (yaw), and how far below it, over
the way from there to the mouth (pitch). Real frames say how much of that there is in a degree.

real   slope of the detector's figure against the head's yaw or pitch (landmarks) over real frames within 30 degrees, each
       person's mean removed: 1 / degree
MODEL  the same slope over renderings of each person's most frontal frame at asked yaws of up to 25 and pitches of up to 15
       degrees, over that of real frames; 1 is as in real frames. 95 % interval: bootstrap over people, real and rendered alike
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from benchmarks.options import ALWAYS, parse, parser, run, save
from mmfa.errors import FaceError
from mmfa.evaluate.trials import SLIDERS
from mmfa.geometry import euler_to_matrix, matrix_to_euler
from mmfa.media.image import Array, to_uint8
from mmfa.portrait import FaceInput, PortraitModel
from mmfa.priors.detector import FaceDetector
from mmfa.priors.pose import head_pose
from mmfa.train.cache import prepare
from mmfa.train.data import ClipDataset, face_of
from mmfa.weights import from_pretrained

AXES = ("pitch", "yaw")
LARGEST = 30.0
Sums = NDArray[np.float64]
"""(2,2): for pitch and yaw the sum of products with the angle, and of squares of the angle, of one person's frames."""


def figures(detector: FaceDetector, picture: Array) -> tuple[float, float] | None:
    """How far the nose is below and beside the eyes, in the head's own axes; None where no face is found."""
    found = detector.detect(picture)
    if not found:
        return None
    left, right, nose, mouth = found[0].keypoints[:4].double()
    across = (right - left) / (right - left).norm()
    down = torch.stack([-across[1], across[0]])
    middle = (left + right) / 2
    beside = float((nose - middle) @ across / (right - left).norm())
    below = float((nose - middle) @ down / ((mouth - middle) @ down))
    return below, beside


def sums(angles: Sequence[float] | Array, seen: Sequence[float] | Array) -> list[float]:
    """Of one person: sum of (angle - mean) * (seen - mean), and of the squares of the former."""
    a, s = (np.array(values) - np.mean(values) for values in (angles, seen))
    return [float(a @ s), float(a @ a)]


def slope(people: list[Sums], axis: int) -> float:
    """Pooled over people."""
    products, squares = np.sum([person[axis] for person in people], 0)
    return float(products / squares)


def real(detector: FaceDetector, pictures: Array, angles: Tensor) -> Sums | None:
    """Of real frames; None where too few show the face."""
    rows = [(*pair, *found) for pair, image in zip(angles.tolist(), pictures, strict=True) if (found := figures(detector, image))]
    table = np.array([row for row in rows if max(abs(row[0]), abs(row[1])) < LARGEST])
    return np.array([sums(table[:, axis], table[:, 2 + axis]) for axis in range(2)]) if len(table) > 4 else None


def rendered(model: PortraitModel[Any, Any], face: FaceInput, detector: FaceDetector) -> Sums | None:
    """Of renderings of one face at the asked angles; None where a face is lost."""
    source, own, rows = model.prepare(face), model.signal(face), []
    for axis, name in enumerate(AXES):
        asked = torch.tensor([0.0, *SLIDERS[name]])
        still = torch.zeros_like(asked)
        turns = euler_to_matrix(*((asked, still) if name == "pitch" else (still, asked)), still)
        motion = own.expand(len(asked))
        motion = replace(motion, rotation=turns @ motion.rotation)
        images = to_uint8(model.render(source, motion).patch)
        found = [figures(detector, image) for image in images]
        if any(one is None for one in found):
            return None
        rows.append(sums(asked.tolist(), [one[axis] for one in found if one]))
    return np.array(rows)


def usable(found: dict[str, dict[str, Sums | None]]) -> list[dict[str, Sums]]:
    """Of the people, what was found of those of whom nothing is missing."""
    rows = ({key: value for key, value in row.items() if value is not None} for row in found.values())
    return [kept for kept, row in zip(rows, found.values(), strict=True) if len(kept) == len(row)]


@torch.no_grad()
def main() -> None:
    made = parser(
        __doc__,
        *("data", "split", "fps", "seed", *ALWAYS),
        cache={"required": True},
        model={"nargs": "+", "default": ["lite"]},
    )
    made.add_argument("--every", type=int, default=4, help="of the real frames, every how manieth is looked at")
    options = parse(made)
    models = {name: from_pretrained(name) for name in options.model}
    size = next(iter(models.values())).card.size
    files = prepare(options.data, options.cache, fps=options.fps, split=options.split, quiet=options.quiet)
    people = ClipDataset(files, size=size).people
    detector = FaceDetector()
    found: dict[str, dict[str, Sums | None]] = {}
    for name, clips in tqdm(people.items(), unit="person", disable=options.quiet):
        frames = [(clip, index) for clip in clips for index in range(0, len(clip.landmarks), options.every)]
        pictures = np.stack([to_uint8(clip.images([index], size=size))[0] for clip, index in frames])
        landmarks = torch.stack([clip.landmarks[index] for clip, index in frames])
        seen = torch.stack(matrix_to_euler(head_pose(landmarks).rotation)[:2], 1)
        clip, index = frames[int(seen.abs().sum(1).argmin())]
        face = face_of(clip.images([index], size=size), clip.landmarks[[index]])
        found[name] = {"real": real(detector, pictures, seen)}
        found[name] |= {model: rendered(network, face, detector) for model, network in models.items()}
    used = usable(found)
    if not used:
        raise FaceError(
            f"{options.data}: none of the {len(people)} people can be measured, because the detector must find a face in more "
            "than four frames within 30 degrees and in every rendering; take other or longer clips, or a smaller --every."
        )
    print(f"{len(used)} of {len(people)} people; in the others a face was not found\n")
    print("| | real | " + " | ".join(models) + " |\n|" + "---|" * (2 + len(models)))
    generator = np.random.default_rng(options.seed)
    draws = [generator.integers(len(used), size=len(used)) for _ in range(2000)]
    report: dict[str, dict[str, object]] = {}
    for axis, name in enumerate(AXES):

        def figure(model: str, rows: list[int], axis: int = axis) -> float:
            return slope([used[i][model] for i in rows], axis)

        everybody = list(range(len(used)))
        cells = [f"{figure('real', everybody):.5f}"]
        report[name] = {"real": figure("real", everybody)}
        for model in models:
            ratios = [figure(model, list(rows)) / figure("real", list(rows)) for rows in draws]
            low, high = np.percentile(ratios, [2.5, 97.5])
            ratio = figure(model, everybody) / figure("real", everybody)
            cells.append(f"{ratio:.2f} [{low:.2f}, {high:.2f}]")
            report[name][model] = {"ratio": ratio, "low": float(low), "high": float(high)}
        print(f"| {name} | " + " | ".join(cells) + " |")
    save(options.json, report)


if __name__ == "__main__":
    run(main)
