"""The training configuration: a YAML file whose unknown keys are errors."""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from ..documents import read_text
from ..errors import ConfigError, MediaError
from ..media.files import check_input
from ..motion import COMPOSITIONS
from .loss_table import LossWeights

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

_LARGEST_BYTES = 1_000_000
_DEEPEST = 10
_CHOICES = {
    "precision": ("float32", "bfloat16"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "composition": ("", *COMPOSITIONS),
    "discriminator": ("paper", "lite"),
    "gan": ("lsgan", "relative"),
}
_POSITIVE = (
    "candidates",
    "cache_limit",
    "fps",
    "steps",
    "batch",
    "accumulate",
    "learning_rate",
    "anchor_batch",
    "threads",
    "keep",
    "log_every",
    "save_every",
    "sample_every",
)
_LARGEST = {
    "seed": 2**32 - 1,
    "threads": 1024,
    "workers": 1024,
    "batch": 100_000,
    "anchor_batch": 100_000,
    "candidates": 1000,
    "pictures": 1_000_000,
}
_FRACTIONS = ("flip", "stills", "repose_share", "ema", "window", "final_rate", "decay_from", "transform_jitter", "turns", "tone")


RENAMED = {"judge_rate": "discriminator_rate"}
"""Keys of configs of 0.6.0 and before, which are still taken, and what they are called today."""
_RETIRED = {"transformed_driver": False, "loss_layers": None}
"""Keys that are gone, with the value at which they meant nothing; None: there is no such thing any more, whatever the value."""


@dataclass(frozen=True)
class TrainConfig(LossWeights):
    """Every key of a config file. The weights of losses, `loss_*`, are in `loss_table`."""

    # what
    data: str
    output: str
    model: str = "lite"
    composition: str = ""
    init: str = ""
    state: str = ""
    freeze: tuple[str, ...] = ()
    unfreeze_at: int = 0
    freeze_norms: bool = False
    # data
    cache: str = ""
    cached_side: int = 0
    cache_limit: float = 100.0
    fps: float = 8.4
    split: str = "train"
    candidates: int = 1
    steady: float = 0.0
    turns: float = 0.0
    flip: float = 0.0
    stills: float = 0.0
    colour_jitter: float = 0.2
    tone: float = 0.0
    transform_angle: float = 20.0
    transform_scale: float = 0.2
    transform_shift: float = 0.15
    equivariance_affine: float = 0.05
    equivariance_spline: float = 0.005
    equivariance_similar: bool = False
    transform_jitter: float = 0.0
    resident: bool = False
    workers: int = 0
    # the schedule
    steps: int = 20000
    minutes: float = 0.0
    batch: int = 8
    accumulate: int = 1
    learning_rate: float = 2e-4
    motion_rate: float = 0.3
    final_rate: float = 0.05
    decay_from: float = 0.7
    anchor_steps: int = 1500
    anchor_batch: int = 256
    anchor_again: bool = False
    # how losses look
    prior_depth: float = 0.33
    ssl_centred: bool = False
    perceptual: str = "efficientnet-lite0"
    face: str = "faceres"
    pyramid: bool = False
    window: float = 0.5
    discriminator: str = "lite"
    gan: str = "relative"
    discriminator_rate: float = 2.0
    gan_from: int = 0
    draw_from: int = 0
    landmark_lips: float = 3.0
    landmark_eyes: float = 3.0
    landmark_rest: float = 1.0
    repose_share: float = 0.25
    repose_pitch: float = 20.0
    repose_yaw: float = 30.0
    repose_roll: float = 20.0
    # the machine
    device: str = "auto"
    precision: str = "float32"
    threads: int = 2
    sync_batch_norm: bool = True
    seed: int = 0
    # what is kept
    ema: float = 0.999
    keep: int = 2
    log_every: int = 20
    save_every: int = 200
    sample_every: int = 500
    tensorboard: bool = True

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be more than 0, not {getattr(self, name)!r}.")
        for name in _FRACTIONS:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be between 0 and 1, not {getattr(self, name)!r}.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                wanted = " or ".join(choice for choice in choices if choice)
                raise ConfigError(f"{name} must be {wanted}, not {reprlib.repr(getattr(self, name))}.")
        for field in fields(LossWeights):
            if not vars(self)[field.name] >= 0:
                raise ConfigError(f"{field.name} must be 0 or more, not {vars(self)[field.name]!r}.")
        check_values(self)
        if self.batch % self.accumulate:
            raise ConfigError(f"batch ({self.batch}) must be a multiple of accumulate ({self.accumulate}).")

    @staticmethod
    def load(path: str | Path) -> TrainConfig:
        """Read a YAML file; relative folders are relative to the working directory. Raises ConfigError."""
        return load_config(TrainConfig, path, required=("data", "output"), migrate=_migrate)


def _retired(key: str, value: Any) -> bool:
    return key in _RETIRED and (_RETIRED[key] is None or value is _RETIRED[key])


def check_values(config: Any) -> None:
    """What holds of every key of a config. Raises ConfigError that names the key."""
    for name, value in vars(config).items():
        if isinstance(value, str):
            if not value and name in ("data", "output"):
                raise ConfigError(f"{name} must name a folder.")
        elif isinstance(value, (int, float)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be a number of 0 or more, not {value!r}.")
            if value > _LARGEST.get(name, math.inf):
                raise ConfigError(f"{name} must be at most {_LARGEST[name]}, not {value!r}.")


def _migrate(values: dict[Any, Any]) -> dict[Any, Any]:
    """The keys and values of an older config as today's. Raises ConfigError where a key is there under both its names."""
    values = {key: value for key, value in values.items() if not _retired(key, value)}
    for old, new in RENAMED.items():
        if old in values and new in values:
            raise ConfigError(f"{old} is the former name of {new}: give one of them.")
    return {RENAMED.get(key, key): value for key, value in values.items()}


def load_config(
    kind: type[Config],
    path: str | Path,
    *,
    required: tuple[str, ...],
    migrate: Callable[[dict[Any, Any]], dict[Any, Any]] = dict,
) -> Config:
    """A dataclass of str, int, float, bool and tuple[str, ...] fields from a YAML file, whose keys and values `migrate` changes.

    Raises ConfigError, naming the key; MediaError where there is no such file.
    """
    values = _read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys and values.")
    try:
        values = migrate(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    kinds = {field.name: str(field.type) for field in fields(kind)}
    for key, value in values.items():
        if key not in kinds:
            near = difflib.get_close_matches(str(key), kinds, n=1)
            raise ConfigError(f"{path}: unknown key {reprlib.repr(key)}" + (f"; did you mean {near[0]!r}?" if near else "."))
        if not _fits(value, kinds[key]):
            raise ConfigError(f"{path}: {key} must be of type {kinds[key]}, not {reprlib.repr(value)}.")
    missing = [name for name in required if name not in values]
    if missing:
        raise ConfigError(f"{path}: the key {missing[0]!r} is missing.")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


class _Loader(yaml.SafeLoader):
    """Plain values in lists and keys, few within one another; an alias of a whole list is refused, as bombs are made of them."""

    depth = 0

    def _next(self) -> Any:
        return self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML gives it no annotations

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self._next()
            if isinstance(self.anchors.get(event.anchor), yaml.CollectionNode):
                raise yaml.MarkedYAMLError(None, None, "aliases of lists and keys are not taken", event.start_mark)
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.MarkedYAMLError(None, None, f"nested more than {_DEEPEST} deep", self._next().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _read_yaml(path: str | Path) -> object:
    """The value of a YAML file. Raises ConfigError; MediaError where there is no such file."""
    try:
        text = read_text(check_input(path), limit=_LARGEST_BYTES)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file.") from error
    except MediaError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}.") from error
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: dates and numbers that are none
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from error


def _fits(value: object, kind: str) -> bool:
    if kind == "tuple[str, ...]":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    return isinstance(value, {"str": str, "int": int, "float": (int, float)}[kind])  # type: ignore[arg-type]
