"""What the shipped weights say a face is like on average."""

import pytest
from torch import Tensor

from mmfa.models.lite.model import LiteMMFA
from mmfa.weights import from_pretrained


@pytest.fixture(scope="session")
def mean_mesh() -> Tensor:
    """(478,3), pose-normalised."""
    model = from_pretrained("lite")
    assert isinstance(model, LiteMMFA)
    return model.mean_mesh
