"""Memory of long driving videos: resident size while a video is tracked (`mmfa motion`) or animated, every so many frames.

    python -m benchmarks.memory [--frames 20000] [--work motion|animate] [--every 2000]

The driver is the packaged carphone clip, forth and back until it is long enough. Printed is the resident size after the first 500
frames, by when everything is loaded, and how much more it is later; the last line is the growth for each 1,000 frames.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from benchmarks.options import ALWAYS, parse, parser, run, save
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

    def __init__(self, every: int, *, quiet: bool) -> None:
        self.every, self.quiet, self.count = every, quiet, 0
        self.warm = self.last = 0.0

    def __call__(self, *_: object) -> None:
        """One frame more."""
        self.count += 1
        if self.count == WARM:
            self.warm = self.last = resident()
            self._say(f"{self.count:7d} frames: {self.warm:7.1f} MB")
        elif self.count > WARM and self.count % self.every == 0:
            self.last = resident()
            self._say(f"{self.count:7d} frames: {self.last:7.1f} MB, {self.last - self.warm:+.1f}")

    def _say(self, line: str) -> None:
        if not self.quiet:
            print(line, flush=True)


def main() -> None:
    made = parser(__doc__, "model", *ALWAYS, frames={"default": 20_000})
    made.add_argument("--work", choices=("motion", "animate"), default="motion", help="tracking alone, or all of it")
    made.add_argument("--every", type=int, default=2000, help="after how many frames a line is printed")
    options = parse(made)
    if options.frames <= WARM + options.every:
        made.error(f"--frames must be more than {WARM + options.every}")
    animator = Animator.from_pretrained(options.model, device="cpu")
    watch = Watch(options.every, quiet=options.quiet)
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
            animator.animate(driving, Path(folder) / "out.mp4", on_frame=watch)
    growth = (watch.last - watch.warm) / (options.frames - WARM) * 1000
    print(f"{options.work}: {growth:+.2f} MB for each 1,000 frames")
    save(options.json, {"work": options.work, "frames": options.frames, "warm_mb": watch.warm, "growth_mb_per_1000": growth})


if __name__ == "__main__":
    run(main)
