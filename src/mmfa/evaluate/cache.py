"""Measures that are kept, by what they depend on: the content of the files, the networks and the code that measures.

A key holds no path and no date. Whatever changes a measure changes its key; a report's layout, or which figures are taken from
the measures, does not.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..media.files import atomic_output
from ..priors import face_features, identity, lite0
from ..priors.graph import WEIGHTS
from ..priors.hub import hub_path
from .dependencies import fingerprint, installed
from .frechet import missing_fid
from .lpips import missing_lpips


class Cache:
    """A folder of safetensors files, each named by its key. Damaged files count as absent."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where the measures of a key lie, or would."""
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
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def save(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Keep tensors. Raises MediaError for an unwritable place."""
        with atomic_output(self.path(key)) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(temporary))


def key_of(*parts: object) -> str:
    """One name for all that a measure depends on; parts are what JSON can hold."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def measuring_state() -> list[str]:
    """What the measures depend on besides the frames: the code that measures and what it runs on, weights and versions."""
    return [fingerprint("mmfa.evaluate.measure"), json.dumps(extractor_versions(), sort_keys=True)]


def animating_state(kind: str) -> str:
    """What a model's frames depend on besides the weights and what computes: the code that animates and what it runs on.

    kind: the module of the model's kind.
    """
    return fingerprint("mmfa.evaluate.subjects", also=(kind,))


def leaking_state(kind: str) -> str:
    """What the trials of the leakage figures depend on besides the model: the code that poses, animates and measures."""
    return fingerprint("mmfa.evaluate.sitters", also=(kind,))


def extractor_versions() -> dict[str, str]:
    """The version of each network that measures here, by the word that its `Definition.extractor` begins with."""
    mesh = _sha256(*(WEIGHTS / f"{name}.safetensors" for name in ("face_detector", "face_mesh", "face_geometry")))
    optional: dict[str, tuple[object, str]] = {
        "dlib": (identity.available(), identity.PACKAGE),
        "EfficientNet-Lite0": (lite0.available(), lite0.PACKAGE),
        "AlexNet": (missing_lpips() is None, f"lpips=={installed('lpips')}"),
        "Inception": (missing_fid() is None, f"pytorch-fid=={installed('pytorch-fid')}"),
    }
    faceres = hub_path(face_features.FILE)
    return {
        "478-point": mesh,
        "face detector": mesh,
        **{word: text for word, (there, text) in optional.items() if there},
        **({"faceres": _sha256(faceres)} if face_features.available() else {}),
    }


def version_of(extractor: str) -> str | None:
    """The version of a `Definition.extractor`; None for pixels and for what isn't there."""
    return next((known for word, known in extractor_versions().items() if extractor.startswith(word)), None)


@lru_cache(maxsize=8)
def _sha256(*paths: Path) -> str:
    sha256 = hashlib.sha256()
    for path in paths:
        sha256.update(path.read_bytes())
    return f"sha256 {sha256.hexdigest()[:16]}"
