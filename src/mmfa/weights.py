"""Saving and loading models: ``config.json`` beside ``model.safetensors``, versioned; tensors and numbers alone."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .errors import MmfaError, ModelError
from .media.files import atomic_output
from .nets.mmfa import MMFA, LiteParams
from .nets.paper import PaperParams
from .nets.sizes import build_model, lite, paper, tiny, tiny_paper

VERSION = 1
SIZES: dict[str, Callable[[], LiteParams | PaperParams]] = {
    "paper": paper,
    "lite": lite,
    "tiny": tiny,
    "tiny-paper": tiny_paper,
}
"""Sizes that can be built by name."""
_KINDS: dict[str, type[LiteParams] | type[PaperParams]] = {"lite": LiteParams, "paper": PaperParams}

_RETIRED = {"part_width"}
"""Parameters of models of mmfa 0.4 that mean nothing any more; such a model still loads."""


def build(name: str) -> MMFA:
    """An untrained model of a named size. Raises ModelError for an unknown name."""
    if name not in SIZES:
        raise ModelError(f"Unknown model size {name!r}; choose from {', '.join(SIZES)}.")
    return build_model(SIZES[name]())


def shipped() -> list[str]:
    """Names of the models whose weights come with the package."""
    folder = files("mmfa") / "models"
    return sorted(item.name for item in folder.iterdir() if item.is_dir()) if folder.is_dir() else []


def save_pretrained(model: MMFA, folder: str | Path, *, half: bool = True) -> None:
    """Write `model` to a folder; floating-point tensors as fp16 when `half`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    kind = next(name for name, params in _KINDS.items() if isinstance(model.params, params))
    config = {"format": "mmfa-model", "version": VERSION, "kind": kind, "params": dataclasses.asdict(model.params)}
    with atomic_output(folder / "model.safetensors") as temporary:
        save_file(tensors, str(temporary), metadata={"format": "mmfa-model", "version": str(VERSION)})
    with atomic_output(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n")


def folder_of(name: str | Path) -> Path:
    """Where the model `name` lies, or would lie: a folder of that name, or else the package's own."""
    return Path(name) if Path(name).is_dir() else Path(str(files("mmfa") / "models" / str(name)))


def from_pretrained(name: str | Path, *, device: torch.device | str = "cpu") -> MMFA:
    """The shipped model `name`, or the one in a folder written by `save_pretrained`, in eval mode and fp32.

    Raises ModelError when there is none, when it is damaged, or when it is of another version.
    """
    folder = folder_of(name)
    if not Path(name).is_dir() and str(name) not in shipped():
        known = ", ".join(shipped()) or "none"
        raise ModelError(f"Unknown model {str(name)!r}: neither a folder nor one of {known}.")
    try:
        config = json.loads((folder / "config.json").read_text())
        if config.get("format") != "mmfa-model":
            raise ModelError(f"{folder} holds no mmfa model.")
        if config.get("version") != VERSION:
            raise ModelError(f"{folder} is of version {config.get('version')}; this mmfa reads version {VERSION}.")
        kind = config.get("kind", "lite")
        if kind not in _KINDS:
            raise ModelError(f"{folder} holds a model of the unknown kind {kind!r}; known are {', '.join(_KINDS)}.")
        model = build_model(_read_params(_KINDS[kind], config["params"]))
        tensors = load_file(str(folder / "model.safetensors"))
        model.load_state_dict({key: x.float() if x.is_floating_point() else x for key, x in tensors.items()})
    except FileNotFoundError as error:
        raise ModelError(f"{folder} holds no mmfa model: {error.filename or 'model.safetensors'} is missing.") from error
    except MmfaError:
        raise
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ModelError(f"The model in {folder} is damaged or does not fit this version ({reason}).") from error
    return model.eval().requires_grad_(False).to(device)


def _read_params(kind: type, values: dict[str, Any]) -> Any:
    """Rebuild a params dataclass from the dict of `dataclasses.asdict`."""
    hints = typing.get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key in _RETIRED:
            continue
        hint = hints[key]
        if dataclasses.is_dataclass(hint) and not isinstance(hint, types.GenericAlias):
            arguments[key] = _read_params(typing.cast(type, hint), value)
        else:
            arguments[key] = tuple(value) if isinstance(value, list) else value
    return kind(**arguments)
