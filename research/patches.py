"""What named directions of brows and gaze move in pictures, seen without a landmark network: by where patches of skin go.

    python -m research.patches DATA --cache CACHE [--model lite] [--split val] [--strength 1] [--frames 60]

DATA and CACHE as for `mmfa train-vae`. The frames of `benchmarks/directions.py --render`. Each is rendered with its own f and
with f moved along a direction, pose and all else the same, so a patch of skin is the same pixels somewhere else. Patches around
brows, irises and eye corners, 9 to 13 pixels of 256 wide, are found in the other rendering to a fraction of a pixel (Lucas and
Kanade: least squares on grey values, 8 steps). Why: a landmark network moves the corners of eyes whose irises alone have moved
(`research/iris.py`).

brow_raise, gaze_x, gaze_y   change of the measure (`mmfa.expressions`) by the shifts of its patches, along the line through the
                             outer eye corners and across it; unit: the measure's standard deviation within a person, on the
                             data's landmarks
own/other                    the own change over the larger of the other two, in the mean
eye corners, across          how far down the corners of the eyes move, in per cent of the distance between the outer ones
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.options import parse, parser, run
from mmfa.expressions import NAMES, ExpressionSpace, measures
from mmfa.models.mmfa import MMFA
from mmfa.train.calibration import drawn_frames, frames_of, people_of
from mmfa.train.data import Clip, ClipDataset, face_of
from mmfa.train.directions import weighted_spread, within_person
from mmfa.train.vae import VAEConfig, tracked_clips
from mmfa.weights import from_pretrained

DIRECTIONS = ("brow_raise", "gaze_x", "gaze_y")
PATCHES = {(468, 473): 5, (33, 133, 362, 263): 4, (70, 105, 107, 300, 334, 336): 6}
"""Vertices, and half the width of the patches around them, in pixels: irises, eye corners, brows."""


def found(before: Tensor, after: Tensor, centre: Tensor, radius: int, *, steps: int = 8) -> Tensor:
    """How far (2,), in pixels, the patch of a grey picture (S,S) around `centre` (2,), in pixels, has gone in another (S,S)."""
    reach = torch.arange(-radius, radius + 1.0)
    offsets = torch.stack(torch.meshgrid(reach, reach, indexing="xy"), -1)
    weight = torch.exp(-offsets.square().sum(2) / (2 * (radius / 1.6) ** 2)).reshape(-1, 1)

    def patch(picture: Tensor, dx: float, dy: float) -> Tensor:
        places = (offsets + centre + shift + torch.tensor([dx, dy])) / ((len(picture) - 1) / 2) - 1
        return F.grid_sample(picture[None, None], places[None], align_corners=True)[0, 0]

    shift = torch.zeros(2)
    wanted = patch(before, 0, 0)
    for _ in range(steps):
        slope = [patch(after, 0.5, 0) - patch(after, -0.5, 0), patch(after, 0, 0.5) - patch(after, 0, -0.5)]
        jacobian = torch.stack(slope, 2).reshape(-1, 2)
        error = (wanted - patch(after, 0, 0)).reshape(-1, 1)
        squares = jacobian.T @ (weight * jacobian) + 1e-3 * torch.eye(2)
        shift = (shift + torch.linalg.solve(squares, jacobian.T @ (weight * error))[:, 0]).clamp(-6, 6)
    return shift


def changes(model: MMFA, steps: Tensor, clip: Clip, index: int) -> tuple[Tensor, Tensor]:
    """Of one frame, by each step (S,N) of f: the three measures (S,3), and the way of the eye corners across (S,)."""
    size = model.card.size
    source = model.prepare(face_of(clip.images([index], size=size), clip.landmarks[[index]]))
    features = source.motion.expression + torch.cat([torch.zeros_like(steps[:1]), steps])
    driving = replace(source.motion.expand(len(features)), expression=features)
    before, *others = 255 * model.render(source.expand(len(features)), driving).images[-1].mean(1)
    pixels = (clip.landmarks[index][:, :2] + 1) * ((size - 1) / 2)
    axis = pixels[263] - pixels[33]
    unit = axis.norm()
    frame = torch.stack([axis, torch.stack([-axis[1], axis[0]])]) / unit.square()  # along and across, over the distance
    rows = []
    for after in others:
        ways = [
            torch.stack([found(before, after, pixels[vertex], radius) for vertex in group]).mean(0)
            for group, radius in PATCHES.items()
        ]
        iris, corner, brow = torch.stack(ways) @ frame.T
        rows.append(torch.stack([(corner - brow)[1], *(iris - corner), corner[1]]))
    return torch.stack(rows).split([3, 1], 1)


@torch.no_grad()
def main() -> None:
    made = parser(__doc__, "data", "model", "split", "seed", "threads", cache={"required": True}, frames={"default": 60})
    made.add_argument("--strength", type=float, default=1.0, help="how far f is moved along a direction")
    options = parse(made)
    model = from_pretrained(options.model)
    assert isinstance(model, MMFA)
    space = ExpressionSpace.load(options.model, model=model)
    steps = torch.cat([space.offset({name: options.strength}) for name in DIRECTIONS])
    config = VAEConfig(data=str(options.data), cache=str(options.cache), output=".", model=options.model)
    clips: ClipDataset = tracked_clips(model, config, split=options.split)
    person, weight = people_of(clips)
    seen = measures(torch.cat([clip.mesh for clip in clips.clips])).stack()
    spread = weighted_spread(within_person(seen, person), weight)[[NAMES.index(name) for name in DIRECTIONS]]
    frames = frames_of(clips)
    each = [changes(model, steps, *frames[index]) for index in drawn_frames(clips, options.frames, options.seed)]
    moved, corners = torch.stack([row for row, _ in each]) / spread, torch.stack([row for _, row in each])
    print(f"{len(moved)} frames\n\n| | " + " | ".join(DIRECTIONS) + " | own/other | eye corners, across |\n|" + "---|" * 6)
    for i, name in enumerate(DIRECTIONS):
        mean = moved[:, i].mean(0)
        ratio = mean[i].abs() / mean.abs().index_fill(0, torch.tensor([i]), 0).max()
        values = " | ".join(f"{value:.2f}" for value in mean)
        print(f"| {name} | {values} | {ratio:.1f} | {100 * corners[:, i].mean():.2f} % |")


if __name__ == "__main__":
    run(main)
