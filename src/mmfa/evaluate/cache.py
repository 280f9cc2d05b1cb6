"""Measures that are kept, by what they depend on: the content of the files, the networks and the code that measures.

A key holds no path and no date. Whatever changes a measure changes its key; a report's layout, or which figures are taken from
the measures, does not.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..media.files import atomic_output
from ..priors import identity, perceptual
from ..priors.graph import WEIGHTS
from .frechet import missing_fid
from .lpips import missing_lpips

_MEASURING = (
    *(f"evaluate/{name}.py" for name in ("measure", "bursts", "extractors", "appearance", "metrics", "lpips", "frechet")),
    "geometry.py",
    "priors",
    "media",
)
_ANIMATING = ("nets", "priors", "media", "animate.py", "motion.py", "faces.py", "geometry.py", "weights.py")
_LEAKING = ("edit.py", "evaluate/trials.py", "evaluate/sitters.py")


class Cache:
    """A folder of safetensors files, each named by its key. Damaged files count as absent."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        return self.root / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        """Whether the file is there and whole."""
        try:
            with safe_open(str(self.path(key)), "pt"):
                return True
        except (OSError, SafetensorError):
            return False

    def load(self, key: str) -> dict[str, Tensor]:
        """The tensors of a key that `has` found."""
        with safe_open(str(self.path(key)), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}

    def save(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Keep tensors. Raises MediaError for an unwritable place."""
        with atomic_output(self.path(key)) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(temporary))


def key_of(*parts: object) -> str:
    """One name for all that a measure depends on; parts are what JSON can hold."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def measuring_state() -> list[str]:
    """What the measures depend on besides the frames: the measuring code, weights and versions."""
    return [_code(_MEASURING), json.dumps(extractor_versions(), sort_keys=True), torch.__version__]


def animating_state() -> list[str]:
    """What our models' frames depend on besides the weights: the code that animates."""
    return [_code(_ANIMATING), torch.__version__]


def leaking_state() -> list[str]:
    """What the trials of the leakage figures depend on besides the code that animates and measures."""
    return [_code(_LEAKING)]


@lru_cache(maxsize=1)
def extractor_versions() -> dict[str, str]:
    """The version of each network that measures, by the word that its `Definition.extractor` begins with."""
    mesh = hashlib.sha256()
    for name in ("face_detector", "face_mesh", "face_geometry"):
        mesh.update((WEIGHTS / f"{name}.safetensors").read_bytes())
    official = {"AlexNet": (missing_lpips(), "lpips"), "Inception": (missing_fid(), "pytorch-fid")}
    return {
        "478-point": f"sha256 {mesh.hexdigest()[:16]}",
        "face detector": f"sha256 {mesh.hexdigest()[:16]}",
        "dlib": identity.PACKAGE,
        "EfficientNet-Lite0": perceptual.PACKAGE,
        **{word: f"{package}=={_installed(package)}" for word, (missing, package) in official.items() if missing is None},
    }


def version_of(extractor: str) -> str | None:
    """The version of a `Definition.extractor`; None for pixels and for what isn't there."""
    return next((known for word, known in extractor_versions().items() if extractor.startswith(word)), None)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"


@lru_cache(maxsize=8)
def _code(names: tuple[str, ...]) -> str:
    root = Path(str(files("mmfa")))
    sha256 = hashlib.sha256()
    for name in names:
        for path in sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name]:
            sha256.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return sha256.hexdigest()
