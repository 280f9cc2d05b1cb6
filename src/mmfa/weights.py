"""Saving and loading models: ``config.json`` beside ``model.safetensors``, versioned; tensors and numbers alone."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from . import registry
from .documents import read_json
from .errors import MmfaError, ModelError
from .media.files import atomic_output
from .portrait import PortraitModel

VERSION = 1

_LARGEST_CONFIG = 1_000_000  # bytes
_SPARE = 10_000_000  # elements of what a network makes but doesn't store
_MAKERS = {torch.empty, torch.zeros, torch.ones, torch.eye, torch.rand, torch.randn}


def shipped() -> list[str]:
    """Names of the models whose weights come with the package."""
    folder = files("mmfa") / "models"
    return sorted(item.name for item in folder.iterdir() if (item / "model.safetensors").is_file())


def save_pretrained(model: PortraitModel[Any, Any], folder: str | Path, *, half: bool = True) -> None:
    """Write `model` to a folder; floating-point tensors as fp16 when `half`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    config = {"format": "mmfa-model", "version": VERSION, "kind": model.card.kind, "params": dataclasses.asdict(model.params)}
    with atomic_output(folder / "model.safetensors") as temporary:
        save_file(tensors, str(temporary), metadata={"format": "mmfa-model", "version": str(VERSION)})
    with atomic_output(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n")


def folder_of(name: str | Path) -> Path:
    """Where the model `name` lies, or would lie: a folder of that name, or else the package's own."""
    return Path(name) if Path(name).is_dir() else Path(str(files("mmfa") / "models" / str(name)))


def from_pretrained(name: str | Path, *, device: torch.device | str = "cpu") -> PortraitModel[Any, Any]:
    """The shipped model `name`, or the one in a folder written by `save_pretrained`, in eval mode and fp32.

    Raises ModelError when there is none, when it is damaged, or when it is of another version.
    """
    folder = folder_of(name)
    if not Path(name).is_dir() and str(name) not in shipped():
        known = ", ".join(shipped()) or "none"
        raise ModelError(f"Unknown model {str(name)!r}: neither a folder nor one of {known}.")
    try:
        config = read_json(folder / "config.json", limit=_LARGEST_CONFIG)
        if config.get("format") != "mmfa-model":
            raise ModelError(f"{folder} holds no mmfa model.")
        if config.get("version") != VERSION:
            raise ModelError(f"{folder} is of version {config.get('version')}; this mmfa reads version {VERSION}.")
        name = config.get("kind", "lite")
        if name not in registry.names():
            known = ", ".join(registry.names())
            raise ModelError(f"{folder} holds a model of the unknown kind {name!r}; known are {known}.")
        kind = registry.kind(name)
        with bounded_by(folder / "model.safetensors"):
            model = kind.build(kind.read_params(config["params"]))
        model.load_state_dict(kind.migrate_weights(read_tensors(folder / "model.safetensors")))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} holds no mmfa model: {error.filename or 'model.safetensors'} is missing.") from error
    except MmfaError:
        raise
    except (OSError, SafetensorError, RuntimeError, ArithmeticError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"The model in {folder} is damaged or does not fit this version ({reason}).") from error
    return model.eval().requires_grad_(False).to(device)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, floating-point ones as float32.

    Raises ValueError for a tensor that holds NaN or infinity, SafetensorError for a damaged file, FileNotFoundError.
    """
    tensors = {}
    for name, tensor in load_file(str(path)).items():
        tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
        if tensor.is_floating_point() and not bool(tensors[name].isfinite().all()):
            raise ValueError(f"its tensor {name} holds values that are not numbers")
    return tensors


@contextmanager
def bounded_by(path: Path) -> Iterator[None]:
    """Inside the block networks can be built that the weights in a file could fill, and no larger ones.

    A configuration may ask for a network of terabytes, or of ten million layers: it is refused before that is allocated.
    Raises ValueError for it, FileNotFoundError for a missing file.
    """
    with _Allowance(path.stat().st_size // 2 + _SPARE):
        yield


class _Allowance(TorchFunctionMode):
    """Counts the elements of new tensors; to build on the meta device first would tell as much, after importing sympy."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.left = elements

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _MAKERS:
            sizes = [size for arg in args for size in (arg if isinstance(arg, tuple | list) else [arg])]
            self.left -= 1 + math.prod(sizes * 2 if func is torch.eye else sizes)
            if self.left < 0:
                raise ValueError("its configuration asks for a larger network than its weights can fill")
        return func(*args, **(kwargs or {}))
