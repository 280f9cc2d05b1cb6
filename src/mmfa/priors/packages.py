"""Find weight files inside optional packages by path, without importing (running) the packages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mmfa.errors import ModelError


def find_package_file(module: str, file: str, requirement: str) -> Path:
    """Path of ``file`` (relative to the top-level package ``module``).

    Raises `ModelError` naming the pip requirement when the package or the file is missing.
    """
    spec = find_spec(module)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / file
        if path.is_file():
            return path
    raise ModelError(f"{module}/{file} not found; install it with: pip install {requirement}")
