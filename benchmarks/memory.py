"""Memory of long driving videos: resident size while a video is tracked (`mmfa motion`) or animated, every so many frames.

    python benchmarks/memory.py [--frames 20000] [--work motion|animate] [--every 2000]

The driver is the packaged carphone clip, forth and back until it is long enough. Printed is the resident size after the first 500
frames, by when everything is loaded, and how much more it is later; the last line is the growth for each 1,000 frames.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from mmfa.animate import Animator
from mmfa.demo import DRIVING, SOURCE, packaged
from mmfa.media.image import Array, read_image
from mmfa.media.video import VideoReader, VideoWriter

WARM = 500


def resident() -> float:
    """Megabytes of this process that are in memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Watch:
    """Prints the resident size as frames go by."""

    def __init__(self, every: int) -> None:
        self.every, self.count = every, 0
        self.warm = self.last = 0.0

    def __call__(self) -> None:
        self.count += 1
        if self.count == WARM:
            self.warm = self.last = resident()
            print(f"{self.count:7d} frames: {self.warm:7.1f} MB", flush=True)
        elif self.count > WARM and self.count % self.every == 0:
            self.last = resident()
            print(f"{self.count:7d} frames: {self.last:7.1f} MB, {self.last - self.warm:+.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--work", choices=("motion", "animate"), default="motion")
    parser.add_argument("--every", type=int, default=2000)
    options = parser.parse_args()
    if options.frames <= WARM + options.every:
        parser.error(f"--frames must be more than {WARM + options.every}")
    animator = Animator.from_pretrained("lite", device="cpu")
    watch = Watch(options.every)
    with VideoReader(packaged(*DRIVING)) as reader:
        clip = [frame.image for frame in reader]
    frames = islice(cycle(clip + clip[::-1]), options.frames)
    if options.work == "motion":

        def watched() -> Iterator[Array]:
            for frame in frames:
                yield frame
                watch()

        animator.motion_of(watched())
    else:
        with tempfile.TemporaryDirectory() as folder:
            driving = Path(folder) / "driving.mp4"
            with VideoWriter(driving, fps=25, size=(clip[0].shape[1], clip[0].shape[0])) as writer:
                for frame in frames:
                    writer.write(frame)
            animator.set_source(read_image(packaged(*SOURCE))[:256, 100:356])
            animator.animate(driving, Path(folder) / "out.mp4", on_frame=lambda number, frame: watch())
    print(f"{options.work}: {(watch.last - watch.warm) / (options.frames - WARM) * 1000:+.2f} MB for each 1,000 frames")


if __name__ == "__main__":
    main()
