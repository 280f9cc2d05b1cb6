"""A real face: scikit-image's public-domain astronaut, and MediaPipe's own results on it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmfa.priors.detector import FaceDetector
from mmfa.priors.landmarks import FaceLandmarker


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """(512, 512, 3) uint8."""
    data = pytest.importorskip("skimage.data")
    return np.array(Image.open(Path(data.__file__).parent / "astronaut.png").convert("RGB"))


@pytest.fixture(scope="session")
def reference() -> dict:
    """Written by tools/reference_landmarks.py."""
    return json.loads((Path(__file__).parent / "reference_astronaut.json").read_text())


@pytest.fixture(scope="session")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="session")
def landmarker() -> FaceLandmarker:
    return FaceLandmarker()


@pytest.fixture(scope="session")
def picture(astronaut: np.ndarray) -> torch.Tensor:
    """(1, 3, 512, 512) in [0, 1]."""
    return torch.from_numpy(astronaut).permute(2, 0, 1)[None] / 255
