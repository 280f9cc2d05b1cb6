"""What a training step costs: samples per second, its parts, and whether data keep up. Both models in one run.

    python -m benchmarks.training DATA [--configs lite-256 paper-256] [--steps 6] [--batch 2]

DATA is a folder of face-crop clips. Per config, after one step that is not counted:

data       seconds to read, crop and pair a batch
forward    seconds of the model alone, source and driving to images
losses     seconds of every loss that the config switches on, with the frozen networks they ask
backward   seconds of the model's gradients
update     seconds of the rest of a step: the discriminator's turn, optimisers, EMA
samples/s  pairs a second over whole steps, data included
fed        samples/s with data over samples/s on one batch that stays in memory: 1 when data keep up
memory     peak resident memory of the process on a CPU (of the device on a GPU), GB

A perceptual backbone whose official file is not here is replaced by efficientnet-lite0, and the table says so.
"""

from __future__ import annotations

import dataclasses
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.options import ALWAYS, parse, parser, run, save
from mmfa.errors import ModelError
from mmfa.priors.perceptual import backbone
from mmfa.train.config import TrainConfig
from mmfa.train.shipped import config_path
from mmfa.train.trainer import Trainer


class Clock:
    """Seconds spent in named parts, waiting for the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside as `name`."""
        self._wait()
        started = time.perf_counter()
        yield
        self._wait()
        self.seconds[name] += time.perf_counter() - started

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def with_available_backbones(config: TrainConfig) -> tuple[TrainConfig, list[str]]:
    replaced = []
    for key, weight in (("perceptual", "loss_perceptual"), ("face", "loss_face")):
        name = getattr(config, key)
        if not getattr(config, weight):
            continue
        try:
            backbone(name)
        except ModelError:
            at_hand: dict[str, Any] = {key: "efficientnet-lite0"}
            config = dataclasses.replace(config, **at_hand)
            replaced.append(name)
    return config, replaced


def measure(config: TrainConfig, *, steps: int) -> dict[str, float]:
    trainer = Trainer(config, quiet=True)
    device = trainer.device
    discriminator = trainer.discriminator if config.loss_gan else None
    feed = trainer._batches(config.steps)
    fixed = next(feed).to(device)
    trainer.model.train()
    trainer._train_step(fixed)
    clock = Clock(device)
    for _ in range(steps):
        with clock.part("data"):
            batch = next(feed).to(device)
        with clock.part("forward"), trainer._autocast():
            trainer.model(batch.source, batch.driving)
        with clock.part("objective"), trainer._autocast():
            outcome = trainer.objective(batch, discriminator)
        with clock.part("backward"):
            trainer._total(outcome.losses).backward()
        with clock.part("step"):
            trainer._train_step(batch)
        with clock.part("fixed"):
            trainer._train_step(fixed)
    spent = {name: value / steps for name, value in clock.seconds.items()}
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0
    return {
        "batch": config.batch,
        "data": spent["data"],
        "forward": spent["forward"],
        "losses": spent["objective"] - spent["forward"],
        "backward": spent["backward"],
        "update": spent["step"] - spent["objective"] - spent["backward"],
        "samples/s": config.batch / (spent["data"] + spent["step"]),
        "fed": spent["fixed"] / (spent["data"] + spent["step"]),
        "memory": peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main() -> None:
    made = parser(__doc__, "data", "cache", "seed", *ALWAYS, threads={"default": 2})
    made.add_argument("--configs", nargs="+", default=["lite-256", "paper-256"], help="configs by name, or files")
    made.add_argument("--steps", type=int, default=6, help="training steps that are timed")
    made.add_argument("--batch", type=int, default=2, help="pairs a step")
    options = parse(made)
    rows = {}
    for name in options.configs:
        with tempfile.TemporaryDirectory() as folder:
            config = dataclasses.replace(
                TrainConfig.load(config_path(name)),
                data=str(options.data),
                output=folder,
                cache=str(options.cache or ""),
                seed=options.seed,
                batch=options.batch,
                accumulate=1,
                workers=0,
                anchor_steps=0,
                gan_from=0,
                threads=options.threads,
                tensorboard=False,
            )
            config, replaced = with_available_backbones(config)
            rows[Path(name).stem] = measure(config, steps=options.steps)
            if replaced:
                print(f"{name}: {', '.join(replaced)} not found here, efficientnet-lite0 in its place")
    header = list(next(iter(rows.values())))
    print("| config | " + " | ".join(header) + " |\n|" + "---|" * (len(header) + 1))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[key]:.3g}" for key in header) + " |")
    save(options.json, rows)


if __name__ == "__main__":
    run(main)
