"""Frames per second and processor time of each stage on this machine, for one 256 x 256 driving video on the CPU.

    python -m benchmarks.speed [--frames 100] [--threads 2] [--model lite] [--precision auto] [--before CHECKOUT]

The driving video is the packaged carphone clip, cropped to 256 x 256; the photo is the packaged portrait at 256 x 256. Stages are
timed one after the other in one run, then end to end. The best of three rounds counts, for either column. The processor time
of a frame, over all threads, says on a busy machine what the frames per second can't: with two idle cores a frame takes at
least half of it.

Then the photo as a whole, at 512 x 512 and enlarged to 1280 x 1280, under the same motion: rendered and composed. With --before,
a checkout of an older release is measured in turns with this one, round by round, in processes of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
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


PHOTOS = (512, 1280)
_WHOLE = """
import sys, time, numpy as np, torch
from itertools import islice
from PIL import Image
from mmfa.demo import DRIVING, SOURCE, packaged
from mmfa.media.image import read_image
from mmfa.media.video import VideoReader
from mmfa.session import Session
threads, side, count, model = (*map(int, sys.argv[1:4]), sys.argv[4])
torch.set_num_threads(threads)
session = Session.from_pretrained(model, device="cpu")
picture = np.array(Image.fromarray(read_image(packaged(*SOURCE))).resize((side, side), Image.Resampling.LANCZOS))
photo = session.photo(picture)
motion = session.relative(photo, session.track([frame.image for frame in islice(VideoReader(packaged(*DRIVING)), count)]).signal)
next(session.render(photo, motion[0]))
start, busy = time.perf_counter(), time.process_time()
frames = sum(1 for _ in session.render(photo, motion))
print((time.perf_counter() - start) / frames, (time.process_time() - busy) / frames)
"""


def whole_photos(options: Namespace) -> dict[str, dict[str, float]]:
    """Milliseconds a frame of whole photos, by release and side: the least of three rounds, releases in turns."""
    here = str(Path(__file__).resolve().parents[1] / "src")
    releases = {"now": here} | ({"before": str(Path(options.before) / "src")} if options.before else {})
    least: dict[str, dict[str, float]] = {}
    for _ in range(3):
        for side in PHOTOS:
            for release, source in releases.items():
                command = [
                    sys.executable,
                    "-c",
                    _WHOLE,
                    str(options.threads),
                    str(side),
                    str(min(options.frames, 40)),
                    options.model,
                ]
                done = subprocess.run(
                    command, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": source}
                )
                wall, processor = (1000 * float(value) for value in done.stdout.split())
                row = least.setdefault(f"{release} {side}", {"ms": wall, "processor_ms": processor})
                row["ms"], row["processor_ms"] = min(row["ms"], wall), min(row["processor_ms"], processor)
    return least


def main() -> None:
    made = parser(__doc__, "model", *ALWAYS, threads={"default": 2}, frames={"default": 100, "help": "120 at most"})
    made.add_argument("--precision", choices=get_args(Precision), default="auto", help="of the networks")
    made.add_argument("--before", metavar="CHECKOUT", help="an older release's repository, measured in turns")
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
    whole = whole_photos(options)
    for name, row in whole.items():
        print(f"{name:<12}{row['ms']:8.1f} ms{row['processor_ms']:8.1f} ms of processor time per frame, render and compose")
    small, large = (whole[f"now {side}"]["processor_ms"] for side in PHOTOS)
    print(f"{PHOTOS[1]} / {PHOTOS[0]}  {large / small:8.2f} x")
    save(options.json, figures | {"whole photos": whole})


if __name__ == "__main__":
    run(main)
