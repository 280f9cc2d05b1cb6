"""Frames per second and processor time of each stage on this machine, for one 256 x 256 driving video on the CPU.

    python -m benchmarks.speed [--frames 100] [--threads 2] [--model lite] [--precision auto]

The driving video is the packaged carphone clip, cropped to 256 x 256; the photo is the packaged portrait at 256 x 256. Stages are
timed one after the other in one run, then end to end. The best of three rounds counts, for either column. The processor time
of a frame, over all threads, says on a busy machine what the frames per second can't: with two idle cores a frame takes at
least half of it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from benchmarks.options import ALWAYS, parse, parser, run, save
from mmfa.animate import Animator
from mmfa.cost import cost, total_per_driving_frame
from mmfa.demo import DRIVING, SOURCE, packaged
from mmfa.device import Precision
from mmfa.faces import PixelFace, crop_box
from mmfa.media.crop import crop
from mmfa.media.image import Array, read_image
from mmfa.media.video import VideoReader, VideoWriter
from mmfa.priors.landmarks import FaceTracker
from mmfa.registry import build


def timed(work: Callable[[], object], rounds: int = 3) -> tuple[float, float]:
    """Seconds on the wall clock, and seconds of processor time of this process, each the least of some rounds."""
    wall, processor = float("inf"), float("inf")
    for _ in range(rounds):
        start, busy = time.perf_counter(), time.process_time()
        work()
        wall, processor = min(wall, time.perf_counter() - start), min(processor, time.process_time() - busy)
    return wall, processor


def write(path: Path, frames: list[Array], fps: float) -> None:
    with VideoWriter(path, fps=fps, size=(256, 256)) as writer:
        for frame in frames:
            writer.write(frame)


def main() -> None:
    made = parser(__doc__, "model", *ALWAYS, threads={"default": 2}, frames={"default": 100, "help": "120 at most"})
    made.add_argument("--precision", choices=get_args(Precision), default="auto", help="of the networks")
    options = parse(made)
    load = f"from mmfa.animate import Animator; Animator.from_pretrained({options.model!r}, device='cpu')"
    command = [sys.executable, "-c", load]
    start_up, _ = timed(lambda: subprocess.run(command, check=True))

    with tempfile.TemporaryDirectory() as folder:
        driving, out = Path(folder) / "driving.mp4", Path(folder) / "out.mp4"
        with VideoReader(packaged(*DRIVING)) as reader:
            frames = [frame.image for frame in reader][: options.frames]
        tracked = FaceTracker().track(frames[0])
        assert tracked is not None
        box = crop_box(PixelFace.of(tracked, frames[0]))
        write(driving, [crop(frame, box, size=256) for frame in frames], 25)
        photo = read_image(packaged(*SOURCE))
        tracked = FaceTracker().track(photo)
        assert tracked is not None
        photo = crop(photo, crop_box(PixelFace.of(tracked, photo)), size=256)

        animator = Animator.from_pretrained(options.model, device="cpu", precision=options.precision)
        animator.set_source(photo)
        decoded = [frame.image for frame in VideoReader(driving)]
        motion = animator.relative(animator.motion_of(decoded).signal)
        rendered = list(animator.render(motion))
        count = len(decoded)
        stages: dict[str, Callable[[], object]] = {
            "decode": lambda: [None for _ in VideoReader(driving)],
            "motion": lambda: animator.motion_of(decoded),
            "render": lambda: [None for _ in animator.render(motion)],
            "encode": lambda: write(out, rendered, 25),
            "end to end": lambda: animator.animate(driving, out),
        }
        print(f"{options.model}, {options.threads} threads, {count} frames, {animator.session.engine.precision}")
        figures: dict[str, object] = {"start-up": start_up}
        for name, work in stages.items():
            wall, processor = timed(work)
            print(f"{name:<12}{count / wall:8.1f} fps{1000 * processor / count:8.1f} ms of processor time per frame")
            figures[name] = {"fps": count / wall, "processor_ms": 1000 * processor / count}
    print(f"{'start-up':<12}{start_up:8.2f} s (import and load)")
    if options.model == "lite":
        print(f"{'cost':<12}{total_per_driving_frame(cost(build('lite'))) / 1e9:8.2f} GMAC per driving frame")
    save(options.json, figures)


if __name__ == "__main__":
    run(main)
