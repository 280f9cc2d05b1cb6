"""Does the pose prior mistake an open mouth for a larger head? With and without the vertices on jaw and cheeks.

    python -m research.pose DATA --cache CACHE [--split val]

DATA is a folder of face-crop clips; CACHE keeps their tracked landmarks, as `mmfa train` does.

scale per mouth   slope of the fitted log scale on the mouth's opening, pitch and yaw held, each clip's mean removed
jitter            mean absolute second difference from frame to frame of pitch, yaw, roll (degrees) and scale (%)
"""

from __future__ import annotations

from unittest import mock

import torch
from torch import Tensor

from benchmarks.options import parse, parser, run
from mmfa.geometry import matrix_to_euler
from mmfa.priors import pose
from mmfa.priors.landmarks import mouth_opening
from mmfa.train.cache import prepare
from mmfa.train.data import ClipDataset


def measure(clips: list[Tensor]) -> tuple[float, Tensor]:
    """Slope, and jitter (4,), of the landmarks (T,478,3) of clips."""
    gram, moment, jitters = torch.zeros(3, 3), torch.zeros(3), []
    for points in clips:
        fitted = pose.head_pose(points)
        pitch, yaw, roll = matrix_to_euler(fitted.rotation)
        size = fitted.scale[:, 0].log()
        causes = torch.stack([mouth_opening(pose.normalise(points, fitted)), pitch, yaw], 1)
        causes, effect = causes - causes.mean(0), size - size.mean()
        gram, moment = gram + causes.T @ causes, moment + causes.T @ effect
        moved = torch.stack([pitch, yaw, roll, 100 * size], 1)
        jitters.append((moved[2:] - 2 * moved[1:-1] + moved[:-2]).abs().mean(0))
    return float(torch.linalg.solve(gram, moment)[0]), torch.stack(jitters).mean(0)


def main() -> None:
    options = parse(parser(__doc__, "data", "split", "threads", cache={"required": True}, fps={"default": 25.0}))
    files = prepare(options.data, options.cache, fps=options.fps, split=options.split)
    clips = [clip.landmarks for clip in ClipDataset(files, size=256).clips]
    print("| vertices | scale per mouth | jitter pitch | yaw | roll | scale |\n|---|---|---|---|---|---|")
    rigid = pose.rigid_template()
    for name, weights in (("all 33 of MediaPipe", pose.template()), ("without jaw and cheeks (mmfa)", rigid)):
        with mock.patch.object(pose, "rigid_template", return_value=weights):
            slope, jitter = measure(clips)
        print(f"| {name} | {slope:.4f} | " + " | ".join(f"{value:.3f}" for value in jitter) + " |")


if __name__ == "__main__":
    run(main)
