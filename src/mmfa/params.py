"""The parameters of networks, dataclasses of numbers, from plain values: only such as a network can have."""

from __future__ import annotations

import dataclasses
import reprlib
import types
import typing
from typing import Any, Literal

_LARGEST = 1 << 24
_MOST_LAYERS = 64
_RANGES = {"size": (16, 2048), "blocks": (0, _MOST_LAYERS), "shrink": (1, 64), "grid": (1, 64), "kernel": (1, 15)}
"""What isn't seen in the shapes of the weights, or is made one by one before they can be compared."""


def read_params(kind: type, values: dict[str, Any]) -> Any:
    """Rebuild a params dataclass from the dict of `dataclasses.asdict`. Raises ValueError or KeyError, naming the key."""
    hints = typing.get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        hint = hints[key]
        if dataclasses.is_dataclass(hint) and not isinstance(hint, types.GenericAlias):
            arguments[key] = read_params(typing.cast(type, hint), value)
            continue
        if not _fits(key, value, hint):
            raise ValueError(f"{key} can't be {reprlib.repr(value)}")
        arguments[key] = tuple(value) if isinstance(value, list) else value
    return kind(**arguments)


def _fits(key: str, value: object, hint: Any) -> bool:
    """Whether a value is of the type of its field, and of a size that a network can have."""
    if typing.get_origin(hint) is tuple:
        numbers = isinstance(value, list) and len(value) <= _MOST_LAYERS
        return numbers and all(_fits(key, item, typing.get_args(hint)[0]) for item in typing.cast(list[object], value))
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if hint is bool:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int if hint is int else int | float):
        return False
    low, high = _RANGES.get(key, (0, _LARGEST)) if hint is int else (-_LARGEST, _LARGEST)
    return low <= value <= high
