"""The training configuration: a YAML file whose unknown keys are errors."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from ..errors import ConfigError
from ..media.files import check_input

_PRECISIONS = ("float32", "bfloat16")
_POSITIVE = {
    "candidates",
    "fps",
    "steps",
    "batch",
    "learning_rate",
    "anchor_batch",
    "threads",
    "log_every",
    "save_every",
    "sample_every",
}


@dataclass(frozen=True)
class TrainConfig:
    """Every key of a config file. Weights of losses are named `loss_*`; 0 switches a loss off."""

    data: str
    output: str
    model: str = "lite"
    init: str = ""
    cache: str = ""
    fps: float = 8.4
    steps: int = 20000
    batch: int = 8
    learning_rate: float = 2e-4
    motion_rate: float = 0.3
    final_rate: float = 0.05
    decay_from: float = 0.7
    anchor_steps: int = 1500
    anchor_batch: int = 256
    loss_pixel: float = 5.0
    loss_detail: float = 15.0
    loss_perceptual: float = 1.0
    loss_keypoint: float = 10.0
    loss_keypoint_final: float = 1.0
    loss_identity: float = 2.0
    loss_deformation: float = 0.5
    loss_ssl: float = 0.2
    candidates: int = 1
    colour_jitter: float = 0.2
    ema: float = 0.999
    precision: str = "float32"
    threads: int = 2
    seed: int = 0
    log_every: int = 20
    save_every: int = 200
    sample_every: int = 500

    @staticmethod
    def load(path: str | Path) -> TrainConfig:
        """Read a YAML file; relative folders are relative to the working directory. Raises ConfigError."""
        try:
            values = yaml.safe_load(check_input(path).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not a text file.") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path} holds no keys and values.")
        kinds = {field.name: field.type for field in fields(TrainConfig)}
        for key, value in values.items():
            if key not in kinds:
                near = difflib.get_close_matches(str(key), kinds, n=1)
                raise ConfigError(f"{path}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "."))
            wanted = {"str": (str,), "int": (int,), "float": (int, float)}[str(kinds[key])]
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise ConfigError(f"{path}: {key} must be of type {kinds[key]}, not {value!r}.")
        missing = [name for name in ("data", "output") if name not in values]
        if missing:
            raise ConfigError(f"{path}: the key {missing[0]!r} is missing.")
        for name in _POSITIVE & values.keys():
            if not values[name] > 0:
                raise ConfigError(f"{path}: {name} must be more than 0, not {values[name]!r}.")
        if values.get("precision", "float32") not in _PRECISIONS:
            raise ConfigError(f"{path}: precision must be {' or '.join(_PRECISIONS)}, not {values['precision']!r}.")
        return TrainConfig(**values)
