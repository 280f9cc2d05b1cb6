"""Does the pose prior mistake an open mouth for a larger head? With and without the vertices on jaw and cheeks.

    python benchmarks/pose.py DATA --cache CACHE [--split val]

DATA is a folder of face-crop clips; CACHE keeps their tracked landmarks, as `mmfa train` does.

scale per mouth   slope of the fitted log scale on the mouth's opening, pitch and yaw held, each clip's mean removed
jitter            mean absolute second difference from frame to frame of pitch, yaw, roll (degrees) and scale (%)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--fps", type=float, default=25.0)
    options = parser.parse_args()
    files = prepare(options.data, options.cache, fps=options.fps, split=options.split)
    clips = [clip.landmarks for clip in ClipDataset(files, size=256).clips]
    print("| vertices | scale per mouth | jitter pitch | yaw | roll | scale |\n|---|---|---|---|---|---|")
    rigid = pose.rigid_template()
    for name, weights in (("all 33 of MediaPipe", pose.template()), ("without jaw and cheeks (mmfa)", rigid)):
        pose.rigid_template = lambda weights=weights: weights  # type: ignore[assignment]
        slope, jitter = measure(clips)
        print(f"| {name} | {slope:.4f} | " + " | ".join(f"{value:.3f}" for value in jitter) + " |")


if __name__ == "__main__":
    main()
