"""The measuring networks, loaded once; faces are measured on the pictures inside the demo's packages."""

import pytest
import torch

from mmfa.evaluate.appearance import AppearanceMeasurer
from mmfa.evaluate.extractors import FaceMeasurer
from mmfa.evaluate.validation import talking
from mmfa.media.image import Array


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def faces() -> FaceMeasurer:
    return FaceMeasurer()


@pytest.fixture(scope="session")
def appearance() -> AppearanceMeasurer:
    return AppearanceMeasurer()


@pytest.fixture(scope="session")
def frames() -> list[Array]:
    """Seven frames (256,256,3) of the talking man."""
    return [picture.frame() for picture in talking(56)[::8]]
