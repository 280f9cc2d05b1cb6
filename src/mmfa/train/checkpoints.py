"""Checkpoints: one safetensors file a step, whole or not at all, the newest few kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..media.files import atomic_output

FORMAT = "mmfa-checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and the step and the seconds of training at which they were."""

    tensors: dict[str, Tensor]
    step: int
    seconds: float

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names start with `prefix` and a dot, without it."""
        return {key[len(prefix) + 1 :]: value for key, value in self.tensors.items() if key.startswith(prefix + ".")}


def save(checkpoint: Checkpoint, folder: Path, *, keep: int) -> Path:
    """Write ``step_000123.safetensors``, then delete all but the newest `keep`. Raises MediaError when the disk is full."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{checkpoint.step:07d}.safetensors"
    write(checkpoint, path)
    for old in newest_first(folder)[keep:]:
        old.unlink(missing_ok=True)
    return path


def write(checkpoint: Checkpoint, path: Path) -> None:
    """One file, whole or not at all. Raises MediaError when the disk is full."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.tensors.items()}
    metadata = {"format": FORMAT, "step": str(checkpoint.step), "seconds": repr(checkpoint.seconds)}
    with atomic_output(path) as temporary:
        save_file(tensors, str(temporary), metadata=metadata)


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the one with the most steps first."""
    return sorted(folder.glob("step_*.safetensors"), reverse=True)


def read(path: Path) -> Checkpoint:
    """Raises ValueError with the reason when the file is damaged or no checkpoint."""
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise ValueError("not a training checkpoint")
        tensors = {_today(name): tensor for name, tensor in load_file(str(path)).items()}
        return Checkpoint(tensors, int(metadata["step"]), float(metadata["seconds"]))
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(str(error).splitlines()[0][:200]) from error


def _today(name: str) -> str:
    """What a tensor is called today: 0.6.0 and before spoke of a judge."""
    return name.replace("judge_optimizer.", "discriminator_optimizer.", 1) if name.startswith("judge_") else name


def lean(checkpoint: Checkpoint) -> Checkpoint:
    """What a run needs beside its averaged weights to go on, a seventh of a checkpoint: for a repository.

    The discriminator in fp16 and the optimisers' second moments in bf16. First moments are left out: at Adam's beta of 0.5
    they are new again within a few steps.
    """
    kept = {f"discriminator.{key}": value.half() for key, value in checkpoint.part("discriminator").items()}
    for name in ("optimizer", "discriminator_optimizer"):
        for key, value in checkpoint.part(name).items():
            if not key.endswith(".exp_avg"):
                kept[f"{name}.{key}"] = value.bfloat16() if key.endswith(".exp_avg_sq") else value
    return Checkpoint(kept, checkpoint.step, checkpoint.seconds)


def pack_optimizer(name: str, state: dict[str, Any]) -> dict[str, Tensor]:
    """The moments of an optimiser's `state_dict` as named tensors."""
    entries = state["state"].items()
    return {f"{name}.{index}.{key}": torch.as_tensor(value) for index, entry in entries for key, value in entry.items()}


def unpack_optimizer(tensors: dict[str, Tensor], state: dict[str, Any]) -> dict[str, Any]:
    """The inverse: `state` with the moments of `tensors` (names without the prefix); first moments that are missing are 0."""
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        moments.setdefault(int(index), {})[name] = value
    for entry in moments.values():
        entry.setdefault("exp_avg", torch.zeros_like(entry["exp_avg_sq"]))
    return {**state, "state": moments}
