"""Relative motion: the change of a driving motion, put on the source's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .edit import ATTRIBUTES, Attribute, attribute_named
from .errors import ConfigError
from .geometry import euler_to_matrix, geodesic_angle, matrix_to_euler
from .motion import Motion

Mode = Literal["relative", "absolute"]
Modes = Mode | str | Mapping[Attribute, Mode]
"""One mode for all attributes, or words such as ``rotation=absolute,expression=relative``; what isn't named is relative."""
_FREE, _EASE = 35.0, 10.0  # degrees: what a photo can show of a turn, and how far a turn goes on beyond that


def relative_motion(source: Motion, driving: Motion, *, anchor: int | Motion, mode: Modes = "relative") -> Motion:
    """The source's motion, one, plus the change of the driving motion since its anchor, a frame of it or another motion in the
    same frame of reference; absolute attributes are the driving motion's own.

    ``R = R_d R_a^T R_s``, ``s = s_s s_d / s_a``, ``t = t_s + (t_d - t_a) s_s / s_a``, ``f = f_s + f_d - f_a``. The intensity is
    the driving motion's: it says how strong the outcome is.
    """
    start, modes = anchor if isinstance(anchor, Motion) else driving[anchor], parse_modes(mode)
    moved: dict[Attribute, Tensor] = {
        "rotation": driving.rotation @ start.rotation.transpose(1, 2) @ source.rotation,
        "scale": source.scale * driving.scale / start.scale,
        "translation": source.translation + (driving.translation - start.translation) * (source.scale / start.scale),
        "expression": source.expression + driving.expression - start.expression,
    }
    chosen: dict[str, Any] = {name: tensor for name, tensor in moved.items() if modes[name] == "relative"}
    return replace(driving, **chosen)


def limit_turn(motion: Motion, own: Motion) -> Motion:
    """The motion with heads that turn or nod no farther than a photo can show: yaw and pitch beyond 35 degrees ease towards 45.

    own: the photo's own motion, one; where it looks farther than 35 degrees itself, the limit begins there. Roll is free. Frames
    within the limits stay bit for bit.
    """
    pitch, yaw, roll = matrix_to_euler(motion.rotation)
    own_pitch, own_yaw, _ = matrix_to_euler(own.rotation)

    def eased(angle: Tensor, other: Tensor) -> Tensor:
        knee = other.abs().clamp_min(_FREE)
        beyond = (angle.abs() - knee).clamp_min(0)
        return angle.sign() * (angle.abs().minimum(knee) + _EASE * torch.tanh(beyond / _EASE))

    limited = euler_to_matrix(eased(pitch, own_pitch), eased(yaw, own_yaw), roll)
    far = (pitch.abs() > own_pitch.abs().clamp_min(_FREE)) | (yaw.abs() > own_yaw.abs().clamp_min(_FREE))
    return replace(motion, rotation=torch.where(far[:, None, None], limited.to(motion.rotation), motion.rotation))


def parse_modes(mode: Modes) -> dict[Attribute, Mode]:
    """The mode of every attribute. Raises ConfigError for an unknown attribute or mode, with the nearest suggested."""
    known: tuple[Mode, ...] = get_args(Mode)
    for one in known:
        if mode == one:
            return dict.fromkeys(ATTRIBUTES, one)
    pairs = [word.partition("=")[::2] for word in mode.split(",")] if isinstance(mode, str) else list(mode.items())
    modes: dict[Attribute, Mode] = dict.fromkeys(ATTRIBUTES, "relative")
    for name, wanted in pairs:
        if wanted not in known:
            raise ConfigError(f"The mode {mode!r} isn't understood: write relative, absolute, or such as rotation=absolute.")
        modes[attribute_named(name.strip())] = wanted
    return modes


def motion_distance(source: Motion, driving: Motion) -> Tensor:
    """How far each driving frame (T,) is from the source's pose (15 degrees count 1) and expression (one spread counts 1)."""
    angle = geodesic_angle(driving.rotation, source.rotation.expand_as(driving.rotation)) / 15
    spread = driving.expression.std(0, correction=0).norm().clamp_min(1e-6)
    distance: Tensor = angle + (driving.expression - source.expression).norm(dim=1) / spread
    return distance
