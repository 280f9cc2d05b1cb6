"""The kind `lite`: landmark-fed, anchored keypoints, for a CPU. Beside it lie the weights that ship and their card."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...nets.appearance import LiteAppearanceParams
from ...nets.canonical import MeshCanonicalParams
from ...nets.dense_motion import FOLLOW_CELLS, LiteDenseMotionParams
from ...nets.generator import LiteGeneratorParams
from ...registry import Kind
from .model import KIND as NAME
from .model import LiteMMFA, LiteParams

_RETIRED = {"part_width"}
"""Parameters of models of mmfa 0.4 that mean nothing any more; such a model still loads."""


def lite() -> LiteParams:
    """The model that ships: 256 x 256, real time on a CPU."""
    return LiteParams(canonical=MeshCanonicalParams(directions=4))


def tiny() -> LiteParams:
    """64 x 64, for tests."""
    base = LiteParams()
    return replace(
        base,
        size=64,
        view=64,
        appearance=LiteAppearanceParams(volume_channels=4, depth=4, widths=(4, 8, 8, 16)),
        dense_motion=LiteDenseMotionParams(volume_channels=4, depth=4, widths=(8, 8, 16), fine_width=8),
        generator=LiteGeneratorParams(volume_channels=4, depth=4, width=16, stages=(8, 8, 4), skips=(4, 8, 8), blocks=1, hint=8),
    )


def migrate(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an older model as today's."""
    kept = {name: value for name, value in values.items() if name not in _RETIRED}
    return {name: migrate(value) if isinstance(value, dict) else value for name, value in kept.items()}


def migrate_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of a model of mmfa 0.6, which drew the whole head over a plate: what it didn't draw, it draws as little of."""
    if "dense_motion.follow.weight" not in tensors:
        return tensors
    changed = dict(tensors)
    changed["dense_motion.follow_change"] = torch.zeros(1, 1, FOLLOW_CELLS, FOLLOW_CELLS)
    for part in ("weight", "bias"):
        changed[f"dense_motion.fusion.{part}"] = torch.zeros_like(changed.pop(f"dense_motion.follow.{part}"))
        for name in [name for name in changed if name.startswith("generator.outputs.") and name.endswith(part)]:
            tint = changed[name].new_zeros(3, *changed[name].shape[1:])
            changed[name] = torch.cat([changed[name], tint])
    return changed


KIND = Kind(
    name=NAME,
    params=LiteParams,
    build=LiteMMFA,
    sizes={"lite": lite, "tiny": tiny},
    migrate=migrate,
    migrate_weights=migrate_weights,
)
