"""Shared by all tests: a home and caches of their own, real pictures, and the shipped model loaded once."""

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

# An empty home and empty caches, before anything that looks there is imported: no test finds what an earlier run left, and
# none leaves anything. Programs that tests start inherit them.
_HOME = Path(tempfile.mkdtemp(prefix="mmfa-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for _name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TORCH_HOME", "HF_HOME", "TMPDIR"):
    os.environ[_name] = str(_HOME / _name.lower())
    Path(os.environ[_name]).mkdir()
tempfile.tempdir = None  # found anew, in TMPDIR
# What started the suite may ignore signals, as nohup and a shell's background jobs do, and programs that tests start would, too.
with contextlib.suppress(ValueError):  # not the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

import av  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from mmfa.animate import Animator  # noqa: E402
from mmfa.demo import DRIVING, SOURCE, packaged  # noqa: E402
from mmfa.media.image import Array  # noqa: E402
from mmfa.media.video import VideoReader  # noqa: E402
from mmfa.priors import face_features  # noqa: E402
from mmfa.priors.hub import hub_path  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def portrait() -> Path:
    """A photo of one person, 512 x 512."""
    return packaged(*SOURCE)


@pytest.fixture(scope="session")
def carphone() -> Path:
    """A talking man who turns his head: 120 frames of 176 x 144, without sound."""
    return packaged(*DRIVING)


@pytest.fixture(scope="session")
def carphone_frames(carphone: Path) -> list[Array]:
    with VideoReader(carphone) as video:
        return [frame.image for frame in video]


@pytest.fixture(scope="session")
def short_driving(carphone_frames: list[Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 12 frames of carphone at 25 fps, with a sine as AAC sound: long enough for what is cut off, taken or counted."""
    path = tmp_path_factory.mktemp("driving") / "short.mp4"
    write_clip(path, carphone_frames[:12], fps=25, sound=True)
    return path


@pytest.fixture(scope="session")
def animator() -> Animator:
    return Animator.from_pretrained("lite", device="cpu")


def write_clip(path: Path, frames: list[Array], *, fps: int, sound: bool) -> None:
    """Encode with PyAV alone, so that the package's own writer isn't what makes the input."""
    with av.open(str(path), "w") as output:
        if frames:
            video = output.add_stream("libx264", rate=fps, options={"crf": "12", "g": "4"})
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = "yuv420p"
        if sound:
            audio = output.add_stream("aac", rate=44100, layout="mono")
            seconds = len(frames) / fps or 1.0
            wave = np.sin(np.arange(int(44100 * seconds)) * (2 * np.pi * 440 / 44100)).astype(np.float32) / 4
        for image in frames:
            output.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        if frames:
            output.mux(video.encode(None))
        if sound:
            for start in range(0, len(wave), 1024):
                block = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts = 44100, start
                output.mux(audio.encode(block))
            output.mux(audio.encode(None))


@pytest.fixture(scope="session")
def clip_writer():
    """`write_clip`, for tests that make their own videos."""
    return write_clip


@pytest.fixture(scope="session")
def faceres_weights() -> dict[str, torch.Tensor]:
    """Random weights, of a size that keeps activations alive, in the layout that tools/convert_faceres.py writes."""
    params, generator = face_features.FaceResParams(), torch.Generator().manual_seed(0)

    def layer(name: str, outputs: int, inputs: int, kernel: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
        weight = torch.randn(outputs, inputs, kernel, kernel, generator=generator) * scale * (2 / (inputs * kernel**2)) ** 0.5
        return {f"{name}.weight": weight, f"{name}.bias": torch.full((outputs,), 0.1)}

    tensors, inputs = layer("stem", params.stem, 3, 3, 1 / 80), params.stem  # its input is 0..255
    for index, width in enumerate(params.widths):
        tensors |= layer(f"blocks.{index}.depthwise", inputs, 1, 3) | layer(f"blocks.{index}.pointwise", width, inputs, 1)
        inputs = width
    return tensors


@pytest.fixture
def faceres(faceres_weights: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for FaceRes, whose real weights don't come with the package, in a torch hub cache of the test's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    path = hub_path(face_features.FILE)
    path.parent.mkdir(parents=True)
    save_file(faceres_weights, str(path))
    return path
