"""Seconds to render on the CPU, on an idle machine and beside another busy program, with and without the passive wait policy.

    python -m benchmarks.busy [--frames 20] [--threads 2]

Each figure is of a process of its own, since OpenMP reads its policy when it starts: the packaged portrait turned by another
angle in each frame, timed after one frame. `spinning` is what OpenMP does unless told otherwise, `passive` what `import mmfa`
asks for, and `one thread` what `OMP_NUM_THREADS=1` gives. The other program is this one too: it renders without end, with OpenMP
as it is by default. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.options import ALWAYS, parser, run, save

POLICIES = ("spinning", "passive", "one thread")
_READ = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What OpenMP reads of the environment."""
ROOT = Path(__file__).parents[1]


def process(role: str, *, frames: int, threads: int, policy: str) -> subprocess.Popen[str]:
    """This script again, as `role`."""
    environment = {key: value for key, value in os.environ.items() if key not in _READ}
    environment["OMP_NUM_THREADS"] = "1" if policy == "one thread" else str(threads)
    words = [sys.executable, "-m", "benchmarks.busy", "--role", role, "--policy", policy, "--frames", str(frames)]
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def render(role: str, frames: int, policy: str) -> None:
    """Print the seconds that `frames` take; as `other`, say that it has begun, and go on until the process is ended."""
    import mmfa  # noqa: F401

    if policy == "spinning":  # as if the package had not asked for anything
        del os.environ["OMP_WAIT_POLICY"]
    from mmfa.animate import Animator
    from mmfa.demo import SOURCE, packaged
    from mmfa.edit import set_pose

    animator = Animator.from_pretrained("lite", device="cpu")
    own = animator.set_source(packaged(*SOURCE)).signal
    motions = [set_pose(own, yaw=float(number % 20 - 10)) for number in range(frames)]
    next(animator.render(motions[0]))
    if role == "other":
        print("begun", flush=True)
        while True:
            next(animator.render(motions[0]))
    start = time.perf_counter()
    for motion in motions:
        next(animator.render(motion))
    print(time.perf_counter() - start)


def measured(policy: str, *, busy: bool, frames: int, threads: int) -> float:
    other = process("other", frames=1, threads=threads, policy="spinning") if busy else None
    try:
        if other is not None:
            assert other.stdout is not None
            other.stdout.readline()
        return float(process("render", frames=frames, threads=threads, policy=policy).communicate()[0])
    finally:
        if other is not None:
            other.kill()
            other.communicate()


def main() -> None:
    made = parser(__doc__, *ALWAYS, frames={"default": 20}, threads={"default": 2, "help": "each program's"})
    made.add_argument("--role", choices=("render", "other"), help=argparse.SUPPRESS)
    made.add_argument("--policy", choices=POLICIES, help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.role:
        render(options.role, options.frames, options.policy)
        return
    print(f"{options.frames} frames, {options.threads} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    figures = {}
    print("| OpenMP | idle, s | beside a busy program, s |\n|---|---|---|")
    for policy in POLICIES:
        idle, busy = (measured(policy, busy=busy, frames=options.frames, threads=options.threads) for busy in (False, True))
        print(f"| {policy} | {idle:.1f} | {busy:.1f} |", flush=True)
        figures[policy] = {"idle": idle, "busy": busy}
    save(options.json, figures)


if __name__ == "__main__":
    run(main)
