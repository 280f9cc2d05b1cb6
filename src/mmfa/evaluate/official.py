"""Official weight files in the usual cache: found and checked, never downloaded."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from ..priors.hub import hub_path


def missing_official(file: str, sha256: str, *packages: str) -> str | None:
    """Why an official network can't be used, or None: `file` in torch.hub's cache, its hash's start, installed packages."""
    path = hub_path(file)
    absent = [package for package in packages if find_spec(package.replace("-", "_")) is None]
    if absent:
        return f"not installed: pip install {' '.join(absent)}"
    if not path.is_file():
        return f"{path} is not there; it is never downloaded."
    if not _sha256(path).startswith(sha256):
        return f"{path} is not the official file: its SHA-256 doesn't start with {sha256}."
    return None


@lru_cache(maxsize=4)
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
