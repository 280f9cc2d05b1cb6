"""Named directions: how much each moves its own measure, and how little the others.

    python benchmarks/directions.py DATA --cache CACHE [--model lite] [--split val] [--strength 1] [--render 60]

DATA and CACHE as for `mmfa train-vae`. Frames of the split are drawn, people evenly; f is moved by `strength` along each
direction (-1 and 1 for a two-sided look). Rows are directions, columns measures (`mmfa.expressions.measures`).

keypoints  mean change of the measure on the model's keypoints x_c + D_exp(f, x_c), over the standard deviation of the measure
           within a person in the data, on such keypoints
rendered   with --render N: the same on landmarks detected in N rendered frames, in the pose-normalised frame, against the
           rendering of the unmoved f, over the standard deviation on the data's own landmarks
own/other  the own change over the largest other, in the mean as printed; the mark is 3
abs        the same with the mean of absolute changes, frame by frame, in place of means: stricter
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from mmfa.expressions import NAMES, ExpressionSpace, keypoint_measures, measures
from mmfa.media.image import to_uint8
from mmfa.nets.mmfa import MMFA
from mmfa.priors.landmarks import FaceLandmarker, FaceTracker
from mmfa.priors.pose import head_pose, normalise
from mmfa.train.data import Clip, ClipDataset, face_of, prepare
from mmfa.train.directions import weighted_spread, within_person
from mmfa.train.vae import VAEConfig, read_expressions
from mmfa.weights import from_pretrained


def table(title: str, changes: Tensor) -> dict[str, dict[str, float]]:
    """Print the matrix of changes (frames,7,7), and return it."""
    mean, size = changes.mean(0), changes.abs().mean(0)
    print(f"\n{title}, {len(changes)} frames\n| | " + " | ".join(NAMES) + " | own/other | abs |\n|" + "---|" * (len(NAMES) + 3))
    rows = {}
    for i, name in enumerate(NAMES):
        ratios = [float(x[i, i].abs() / x[i].abs().index_fill(0, torch.tensor([i]), 0).max()) for x in (mean, size)]
        rows[name] = dict(zip((*NAMES, "own/other", "abs"), [*mean[i].tolist(), *ratios], strict=True))
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in mean[i]) + f" | {ratios[0]:.1f} | {ratios[1]:.1f} |")
    return rows


def on_keypoints(model: MMFA, steps: Tensor, feature: Tensor, canonical: Tensor) -> Tensor:
    """Changes (frames,7,7) on keypoints of features (frames,N) by steps (7,N)."""

    def measured(f: Tensor) -> Tensor:
        return keypoint_measures(canonical + model.expression_decoder(f, canonical)).stack()

    return torch.stack([measured(feature + step) for step in steps], 1) - measured(feature)[:, None]


def on_pictures(model: MMFA, steps: Tensor, clip: Clip, index: int, landmarker: FaceLandmarker) -> Tensor | None:
    """Changes (7,7) on landmarks detected in renderings of one frame; None where a face is lost."""
    source = model.source(face_of(clip.images([index], size=model.params.size), clip.landmarks[[index]]))
    features = source.motion.expression + torch.cat([torch.zeros_like(steps[:1]), steps])
    driving = replace(source.motion.expand(len(features)), expression=features)
    found = []
    for image in to_uint8(model.render(source.expand(len(features)), driving).images[-1]):
        face = FaceTracker(landmarker=landmarker).track(image)
        if face is None:
            return None
        found.append(face.points)
    points = torch.stack(found)
    values = measures(normalise(points, head_pose(points))).stack()
    return values[1:] - values[0]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--split", default="val")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--render", type=int, default=0, metavar="N")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = from_pretrained(options.model)
    steps = options.strength * ExpressionSpace.load(options.model, model=model).directions
    files = prepare(options.data, options.cache, fps=VAEConfig.fps, split=options.split)
    clips = ClipDataset(files, size=model.params.size)
    data = read_expressions(model, clips)
    generator = torch.Generator().manual_seed(0)
    index = torch.multinomial(data.weight, options.frames, replacement=True, generator=generator)
    seen = keypoint_measures(data.canonical + model.expression_decoder(data.feature, data.canonical)).stack()
    spread = weighted_spread(within_person(seen, data.person), data.weight)
    rows = {"keypoints": table("keypoints", on_keypoints(model, steps, data.feature[index], data.canonical[index]) / spread)}
    if options.render:
        ordered = [clip for person in clips.people.values() for clip in person]
        mesh = torch.cat([clip.mesh for clip in ordered])
        spread = weighted_spread(within_person(measures(mesh).stack(), data.person), data.weight)
        where = [(clip, i) for clip in ordered for i in range(len(clip.mesh))]
        landmarker = FaceLandmarker()
        changes = [on_pictures(model, steps, *where[i], landmarker) for i in tqdm(index[: options.render].tolist())]
        kept = [change for change in changes if change is not None]
        if len(kept) < len(changes):
            print(f"\n{len(changes) - len(kept)} frames lost their face when rendered")
        rows["rendered"] = table("rendered", torch.stack(kept) / spread)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
