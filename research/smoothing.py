"""What smoothing takes away: jitter, and how much of the mouth's movement and how late, in rendered pictures.

    python -m research.smoothing [--source me.jpg] [--driving talk.mp4] [--strength 0.5] [--model lite]

By default the packaged portrait and driver. Rows: no smoothing, and the strength asked for.

rotation, scale, translation, expression   `mmfa.smooth.jitter` of the driving motion: degrees, %, % of the side, units of f
mouth    range of the mouth's opening in the rendered video, in eye distances (`mmfa.priors.landmarks.mouth_opening`)
later    by how many frames that curve lags behind the one without smoothing: the shift of the least squared difference, by a
         parabola through it
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.options import parse, parser, run
from mmfa.animate import Animator
from mmfa.demo import DRIVING, SOURCE, packaged
from mmfa.motion import Motion
from mmfa.priors.landmarks import FaceTracker, mouth_opening
from mmfa.priors.pose import head_pose, normalise
from mmfa.smooth import DEFAULT_STRENGTH, jitter, smooth

REACH = 4


def mouth_of(animator: Animator, motion: Motion) -> Tensor:
    """The mouth's opening (T,) in renderings of a clip; a face that is lost is as it was."""
    tracker, points = FaceTracker(), []
    for image in animator.render(animator.relative(motion, anchor="first"), paste_back=False):
        face = tracker.track(image)
        assert face is not None
        points.append(face.points)
    mesh = torch.stack(points)
    return mouth_opening(normalise(mesh, head_pose(mesh)))


def lag(late: Tensor, early: Tensor) -> float:
    """By how many frames `late` (T,) follows `early` (T,)."""
    inner = slice(REACH, len(early) - REACH)
    fit = -torch.stack([(late.roll(-shift) - early)[inner].square().mean() for shift in range(-REACH, REACH + 1)])
    best = int(fit[1:-1].argmax()) + 1
    left, peak, right = fit[best - 1 : best + 2].tolist()
    return best - REACH + (left - right) / (2 * (left - 2 * peak + right))


def main() -> None:
    made = parser(__doc__, "model", "threads")
    made.add_argument("--source", type=Path, help="a photo; the demo's unless given")
    made.add_argument("--driving", type=Path, help="a video; the demo's unless given")
    made.add_argument("--strength", type=float, default=DEFAULT_STRENGTH, help="of smoothing, 0 to 1")
    options = parse(made)
    animator = Animator.from_pretrained(options.model, device="cpu")
    animator.set_source(options.source or packaged(*SOURCE))
    motion = animator.motion_of(options.driving or packaged(*DRIVING)).signal
    plain = mouth_of(animator, motion)
    print("| strength | rotation | scale | translation | expression | mouth | later |\n|" + "---|" * 7)
    for strength in (0.0, options.strength):
        clip = smooth(motion, strength)
        found, mouth = jitter(clip), plain if strength == 0 else mouth_of(animator, clip)
        values = (found.rotation, found.scale, found.translation, found.expression, float(mouth.max() - mouth.min()))
        print(f"| {strength:g} | " + " | ".join(f"{value:.3f}" for value in values) + f" | {lag(mouth, plain):.2f} |")


if __name__ == "__main__":
    run(main)
