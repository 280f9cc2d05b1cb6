"""What L_ldmk (eq. 9) asks of the colours inside a mouth that opens on a photo with closed lips.

    python -m research.landmark_colour DATA [--config lite-continue] [--model lite] [--people 8]

DATA is what the config trains on. Of each of the people whose mouths open widest, the frame with the most closed mouth is
driven by the one with the most open mouth. Inside the opened mouth the gradient of each loss on the output's pixels is
averaged, with the sign of descent: positive means that the loss wants more of that colour. L_ldmk is asked in colour and in
grey, as the trainer does; `mean |.|` is the mean size of the gradient over pixels and channels. Unit: 1e-6 per pixel, with the
config's weights.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.options import parse, parser, run
from mmfa.models.lite.model import cut
from mmfa.nets.dense_motion import FaceFlow
from mmfa.priors.landmarks import mouth_opening
from mmfa.train import losses
from mmfa.train.config import TrainConfig
from mmfa.train.data import Batch
from mmfa.train.objective import grey
from mmfa.train.scene import in_window
from mmfa.train.shipped import config_path
from mmfa.train.trainer import Trainer


def opening_pairs(trainer: Trainer, people: int) -> Batch:
    """Closed to open, of one clip of each of the people who open their mouths widest."""

    def reach(clip: object) -> float:
        gaps = mouth_opening(clip.mesh)  # type: ignore[attr-defined]
        return float(gaps.max() - gaps.min())

    widest = sorted((max(clips, key=reach) for clips in trainer.data.people.values()), key=reach)[-people:]
    pairs = trainer.data.draw(len(widest), torch.Generator().manual_seed(0))
    for index, clip in enumerate(widest):
        gaps = mouth_opening(clip.mesh)
        pairs[index] = dataclasses.replace(
            pairs[index],
            clip=clip,
            source=int(gaps.argmin()),
            driving=int(gaps.argmax()),
            flip=False,
            factor=torch.ones(3, 1, 1),
            offset=torch.zeros(1, 1, 1),
        )
    return trainer.data.batch(pairs)


def main() -> None:
    made = parser(__doc__, "data", "cache", "model", "threads")
    made.add_argument("--config", default="lite-continue", help="a config by name, or a file")
    made.add_argument("--people", type=int, default=8, help="how many people, those who open their mouths widest")
    options = parse(made)
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig.load(config_path(options.config))
        config = dataclasses.replace(
            config,
            data=str(options.data),
            cache=str(options.cache or ""),
            output=folder,
            init=options.model,
            threads=options.threads,
            tensorboard=False,
        )
        trainer = Trainer(config, quiet=True)
        batch = opening_pairs(trainer, options.people)
    objective, target = trainer.objective, batch.driving.image
    trainer.model.eval()
    with torch.no_grad():
        rendering = trainer.model(batch.source, batch.driving)
        assert isinstance(rendering.flow, FaceFlow) and rendering.layer is not None
        window = rendering.layer.window
        target, landmarks = cut(target, window, rendering.patch.shape[-1]), in_window(batch.landmarks, window)
        opening = F.interpolate(rendering.flow.openings, size=target.shape[-2:], mode="bilinear", align_corners=True)
        inside = ((opening[:, :1] > 0) & (opening[:, 2:3] < 0)).float()
    output = rendering.images[-1].requires_grad_(True)

    def landmark(look: Callable[[Tensor], Tensor]) -> Tensor:
        weights = (config.landmark_lips, config.landmark_eyes, config.landmark_rest)
        found = objective._detect(look(output), landmarks)
        wanted = objective._detect(look(target), landmarks).points
        return config.loss_landmark * losses.landmark_loss(found.points, wanted, found.score, weights=weights)

    rows = {
        "L_ldmk in colour": landmark(lambda image: image),
        "L_ldmk in grey": landmark(grey),
        "detail": config.loss_detail * losses.detail_loss(output, target, landmarks),
    }
    print(f"{len(batch)} people, {float(inside.sum((1, 2, 3)).mean()):.0f} pixels inside the opened mouth")
    print("| loss | red | green | blue | mean \\|.\\| |\n|---|---|---|---|---|")
    for name, value in rows.items():
        (gradient,) = torch.autograd.grad(value, output, retain_graph=True)
        colours = -1e6 * (gradient * inside).sum((0, 2, 3)) / inside.sum()
        size = 1e6 * float((gradient.abs() * inside).sum() / inside.sum() / 3)
        print(f"| {name} | " + " | ".join(f"{colour:.0f}" for colour in colours.tolist()) + f" | {size:.0f} |")


if __name__ == "__main__":
    run(main)
