"""A folder of small videos with everything that `prepare` has to tell apart, and the data set made of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mmfa.dataset.prepare import Report, prepare
from mmfa.media.image import Array, read_image

Options = dict[str, Any]


def resized(image: Array, width: int, height: int) -> Array:
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="session")
def options() -> Options:
    """Settings in which the small videos are large enough."""
    return {"size": 128, "min_seconds": 0.4, "quiet": True}


@pytest.fixture(scope="session")
def zoom(portrait: Path) -> list[Array]:
    """20 frames of 176 x 144 that zoom slowly into the portrait's face."""
    photo = read_image(portrait)
    frames = []
    for i in range(20):
        width = 330 - 2 * i
        part = photo[: width * 144 // 176, 225 - width // 2 : 225 + width // 2]
        frames.append(resized(part, 176, 144))
    return frames


@pytest.fixture(scope="session")
def sources(
    carphone_frames: list[Array],
    zoom: list[Array],
    portrait: Path,
    clip_writer: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Videos and a picture: usable ones, and one for each way to be left out."""
    root = tmp_path_factory.mktemp("sources")
    man = carphone_frames

    def clip(name: str, frames: list[Array], *, fps: int = 25) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        clip_writer(root / name, frames, fps=fps, sound=False)

    clip("cut.mp4", man[:15] + zoom + man[60:75])
    clip("deep/er/fast.mp4", man[20:50], fps=50)
    clip("both.mp4", [np.concatenate([a, b], 1) for a, b in zip(man[:12], zoom[:12], strict=True)])
    clip("blurred.mp4", [np.array(Image.fromarray(a).filter(ImageFilter.GaussianBlur(3))) for a in man[:12]])
    clip("tiny.mp4", [np.pad(resized(a, 88, 72), ((36, 36), (44, 44), (0, 0)), constant_values=90) for a in man[:12]])
    clip("brief.mp4", man[:5])
    clip("empty.mp4", [np.full((144, 176, 3), 90, np.uint8)] * 5)
    (root / "corrupt.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    (root / ".hidden.mp4").write_bytes(b"not looked at")
    (root / "notes.txt").write_text("not looked at")
    Image.open(portrait).convert("RGB").save(root / "photo.jpg", quality=95)
    return root


@pytest.fixture(scope="session")
def made(sources: Path, options: Options, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """The data set, persons told apart by file, and the report."""
    root = tmp_path_factory.mktemp("made") / "dataset"
    return root, prepare(sources, root, people="video", val=0.3, shards=0.05, **options)
