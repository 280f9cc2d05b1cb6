"""The configs that come with the package, by name, and single keys set over those of a config."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..media.files import check_input
from .config import RENAMED, Config

_ROOT = Path(str(files("mmfa"))) / "configs"
_VAE = "vae"


def names(*, vae: bool = False) -> list[str]:
    """Names of the configs of `mmfa train`, such as ``ablation/ssl``, or of those of `mmfa train-vae`."""
    root = _ROOT / _VAE if vae else _ROOT
    found = sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))
    return [name for name in found if vae or not name.startswith(f"{_VAE}/")]


def config_path(text: str, *, vae: bool = False) -> Path:
    """The file of a config by its name, or `text` itself where it is a path. Raises ConfigError for an unknown name."""
    known, command = names(vae=vae), "train-vae" if vae else "train"
    path = Path(text)
    if text in known:
        return (_ROOT / _VAE if vae else _ROOT) / f"{text}.yaml"
    if path.suffix.lower() not in (".yaml", ".yml") and not path.exists():
        near = difflib.get_close_matches(text, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"{text!r} is neither a file nor a config that comes with mmfa; {hint}`mmfa {command} --list` names those."
        )
    if not path.exists():
        meant = [name for name in known if path.with_suffix("").as_posix().endswith(name)]
        if meant:
            raise ConfigError(f"{text} does not exist; the config of that name comes with mmfa: mmfa {command} {meant[-1]}.")
    return path


def about(name: str, *, vae: bool = False) -> str:
    """What a config is for: the first sentence of its header."""
    first = config_path(name, vae=vae).read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("# ").partition(": mmfa")[0].rstrip(".:")


def listing(*, vae: bool = False) -> str:
    """All of them, a line each: the name and what it is for."""
    known = names(vae=vae)
    width = max(map(len, known)) + 2
    return "\n".join(f"{name:{width}}{about(name, vae=vae)}" for name in known)


def config_text(text: str, *, vae: bool = False) -> str:
    """A config as it is written. Raises MediaError for a file that can't be read, ConfigError for one that is no text."""
    path = check_input(config_path(text, vae=vae))
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file.") from error


def state_path(state: str) -> Path | None:
    """The file that the key `state` names: a path, or a shipped model whose state lies in a checkout of the repository.

    States are no part of the package. None for a model whose file isn't there.
    """
    if Path(state).suffix:
        return Path(state)
    inside = Path("configs") / "state" / f"{state}.safetensors"
    found = [root / inside for root in (Path(), _ROOT.parents[2]) if (root / inside).is_file()]
    return found[0] if found else None


def with_values(config: Config, words: Sequence[str]) -> Config:
    """A config dataclass with ``KEY=VALUE`` words set over its own values, as their types want them.

    A truth value is true or false, several names have commas between. Raises ConfigError that names the key.
    """
    kinds = {field.name: str(field.type) for field in dataclasses.fields(config)}
    values: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign:
            raise ConfigError(f"--set {word!r} isn't understood: write a key and a value, such as steps=200.")
        key = RENAMED.get(key, key)
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, n=1)
            raise ConfigError(f"--set: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "."))
        try:
            values[key] = _parse(text, kinds[key])
        except ValueError as error:
            raise ConfigError(f"--set: {key} must be of type {kinds[key]}, not {text!r}.") from error
    try:
        return dataclasses.replace(config, **values)
    except ConfigError as error:
        raise ConfigError(f"--set: {error}") from error


def _parse(text: str, kind: str) -> Any:
    """A value of a config's type from the command line. Raises ValueError."""
    if kind == "bool" and text not in ("true", "false"):
        raise ValueError(text)
    if kind == "bool":
        return text == "true"
    if kind == "tuple[str, ...]":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return {"int": int, "float": float, "str": str}[kind](text)
