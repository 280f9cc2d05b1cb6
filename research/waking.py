"""What wakes free keypoints: short runs of `small` without the generator, each with one thing changed.

    python -m research.waking DATA --cache CACHE --work FOLDER [--steps 150] [--only NAME ...]

DATA is a folder of face-crop clips, of which the split `train` is learnt and looked at again: twenty will do. The recipe is
`small-64` before its step `draw_from`. Columns: see benchmarks/keypoints.py. Runs that are done are read.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.keypoints import measure
from benchmarks.options import parse, parser, run
from mmfa.models.paper import KIND, small
from mmfa.models.paper.model import PaperParams
from mmfa.registry import registered
from mmfa.train.config import TrainConfig
from mmfa.train.shipped import config_path
from mmfa.train.trainer import Trainer

COLUMNS = ("explained", "scale_r", "x_r", "y_r", "equivariance", "warped", "copy")


def variants() -> dict[str, tuple[PaperParams, dict[str, Any]]]:
    base = small()
    return {
        "recipe": (base, {}),
        "without loss_warp": (base, {"loss_warp": 0.0}),
        "without L_E": (base, {"loss_equivariance": 0.0}),
        "L_E by the bend alone": (base, {"equivariance_similar": False}),
        "masks from nothing": (replace(base, dense_motion=replace(base.dense_motion, prior=False)), {}),
        "t from pooled features": (replace(base, affine=replace(base.affine, heatmap=False)), {}),
        "x_c not centred": (replace(base, canonical=replace(base.canonical, centred=False)), {}),
        "rate 0.0002": (base, {"learning_rate": 0.0002}),
    }


def _same(params: PaperParams) -> PaperParams:
    return params


def main() -> None:
    made = parser(__doc__, "data", "seed", "threads", cache={"required": True})
    made.add_argument("--work", type=Path, required=True, metavar="DIR", help="a folder for the runs")
    made.add_argument("--steps", type=int, default=150, help="training steps of each run")
    made.add_argument("--only", nargs="+", choices=list(variants()), default=list(variants()), metavar="NAME", help="these runs")
    options = parse(made)
    print(f"{'':24}" + "".join(f"{name:>13}" for name in COLUMNS), flush=True)
    for name in options.only:
        params, changes = variants()[name]
        config = TrainConfig.load(config_path("small-64"))
        config = replace(
            config,
            data=str(options.data),
            cache=str(options.cache),
            output=str(options.work / name.replace(" ", "-")),
            draw_from=10**9,
            sample_every=10**9,
            save_every=options.steps,
            ema=0.98,
            tensorboard=False,
            seed=options.seed,
            threads=options.threads,
            **changes,
        )
        with registered(replace(KIND, sizes={"small": partial(_same, params)})):
            trainer = Trainer(config, quiet=True)
        trainer.run(until=options.steps)
        clips = trainer.data.clips
        with torch.no_grad():
            figures = measure(trainer.ema.eval(), clips, [clip.person for clip in clips], frames=16)
        print(f"{name:24}" + "".join(f"{figures[column]:13.3f}" for column in COLUMNS), flush=True)


if __name__ == "__main__":
    run(main)
