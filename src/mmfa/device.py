"""Where a model runs, and with how many digits."""

from __future__ import annotations

from typing import Literal

import torch

from .errors import ModelError

Precision = Literal["auto", "float32", "bfloat16"]


def pick_device(name: str) -> torch.device:
    """auto: cuda, else mps, else cpu. Raises ModelError for a device this machine lacks."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "mps" if available["mps"] else "cpu")
    if not available.get(name, False):
        raise ModelError(f"The device {name!r} is not there; choose from {', '.join(n for n, ok in available.items() if ok)}.")
    return torch.device(name)


def pick_precision(name: Precision, device: torch.device) -> torch.dtype:
    """What the generator and the dense motion compute in; keypoints, flows and sampling are float32 always.

    auto: bfloat16 on a CPU that multiplies it (AVX512-BF16 or AMX), else float32.
    """
    fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if name == "bfloat16" or (name == "auto" and fast) else torch.float32
