"""Seeing a run: a log of numbers, TensorBoard scalars, and sheets of samples."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tensorboardX import SummaryWriter
from torch import Tensor

from ..documents import parse_json
from ..media.files import atomic_output
from ..media.image import Array, contact_sheet, to_uint8, write_image
from ..models.lite.model import cut
from ..models.mmfa import MMFA
from ..motion import Motion
from .data import Batch
from .scene import in_window

_COLOURS = torch.tensor([[1.0, 0.2, 0.2], [0.2, 1.0, 0.3], [0.3, 0.5, 1.0], [1.0, 0.9, 0.2]])


class Board:
    """Writes ``log.jsonl``, TensorBoard event files below ``board/`` and ``sample_000500.png`` into a folder."""

    def __init__(self, folder: Path, *, tensorboard: bool) -> None:
        self.folder = folder
        self._log = folder / "log.jsonl"
        self._writer = SummaryWriter(str(folder / "board")) if tensorboard else None

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write a line of the log, and the scalars for TensorBoard."""
        record = {"step": step, **{name: round(value, 5) for name, value in values.items()}}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: a resumed run will log it again."""
        if not self._log.exists():
            return
        lines = [line for line in self._log.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
        with atomic_output(self._log) as temporary:
            temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def sheet(self, step: int, model: MMFA, batch: Batch) -> None:
        """Write the sheet of `draw_samples`."""
        sheet = draw_samples(model, batch)
        write_image(self.folder / f"sample_{step:06d}.png", sheet)
        if self._writer:
            self._writer.add_image("samples", sheet, step, dataformats="HWC")

    def close(self) -> None:
        """Write what TensorBoard's writer still holds."""
        if self._writer:
            self._writer.close()


def _step(line: str) -> int:
    try:
        return int(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 62  # a line cut off by a kill


@torch.no_grad()
def draw_samples(model: MMFA, batch: Batch) -> Array:
    """One column a pair; rows: source, driving, output, output with keypoints, canonical face, and cross-identity:
    the next pair's source under this one's driving motion. Model in eval mode.
    """
    source, driving = model.prepare(batch.source), model.motion(batch.driving)
    rendering = model.render(source, driving)
    output = rendering.images[-1]
    turned = torch.arange(1, len(batch) + 1) % len(batch)
    other = model.prepare(batch.source[turned])
    crossed = model.render(other, driving).images[-1]
    window = model.window(driving)
    rows = [
        source.features.image,
        batch.driving.image if window is None else cut(batch.driving.image, window, output.shape[-1]),
        output,
        draw_keypoints(output, rendering.keypoints if window is None else in_window(rendering.keypoints, window)),
        model.render(source, canonical_motion(source.motion, keep_size=not model.card.needs_pixels)).images[-1],
        crossed,
    ]
    return contact_sheet([list(to_uint8(row.cpu())) for row in rows])


def canonical_motion(motion: Motion, *, keep_size: bool) -> Motion:
    """R = I, s = 1, t = 0 and no deformation (Fig. 7), or at the motion's own scale: the face keeps its size in the crop."""
    return Motion(
        rotation=torch.eye(3, device=motion.rotation.device).expand_as(motion.rotation),
        scale=motion.scale if keep_size else torch.ones_like(motion.scale),
        translation=torch.zeros_like(motion.translation),
        expression=motion.expression,
        intensity=torch.zeros_like(motion.scale),
    )


def draw_keypoints(images: Tensor, keypoints: Tensor) -> Tensor:
    """Images (B,3,S,S) with a dot on every keypoint (B,K,>=2), coloured by turns."""
    images = images.clone()
    size = images.shape[-1]
    places = ((keypoints[..., :2] + 1) / 2 * (size - 1)).round().long().clamp(0, size - 2)
    for picture, points in zip(images, places.tolist(), strict=True):
        for index, (x, y) in enumerate(points):
            picture[:, y : y + 2, x : x + 2] = _COLOURS[index % len(_COLOURS)].to(images)[:, None, None]
    return images
