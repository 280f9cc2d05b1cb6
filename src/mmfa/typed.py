"""Dataclasses from plain values, as JSON and YAML have them: every key known, every value of its type, or one clear sentence."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from .errors import ConfigError

T = TypeVar("T")


def read(kind: type[T], values: Mapping[str, Any], *, what: str) -> T:
    """An instance of a dataclass of words, numbers, paths, choices, and tuples and mappings of them. Lists serve as tuples.

    Raises ConfigError, which begins with `what`, for a key that is unknown (the nearest is suggested) or missing, and for a value
    of another type; and whatever the dataclass itself raises.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{what} holds no keys and values.")
    hints, known = typing.get_type_hints(kind), {field.name: field for field in fields(kind) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}."
            raise ConfigError(f"{what}: unknown key {key!r}{hint}")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{what}: {name!r} is missing.")
    return kind(**{key: convert(hints[key], value, what=f"{what}: {key}") for key, value in values.items()})


def convert(hint: Any, value: Any, *, what: str) -> Any:
    """A plain value as the type that a hint names. Raises ConfigError, which begins with `what`."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inside:
            return None
        options = [one for one in inside if one is not type(None)]
        for one in options:
            try:
                return convert(one, value, what=what)
            except ConfigError as error:
                reason = error
        if len(options) == 1:
            raise reason
        raise ConfigError(f"{what} is none of {', '.join(map(_name, options))}.")
    if origin is typing.Literal:
        if any(value == one and type(value) is type(one) for one in inside):
            return value
        raise ConfigError(f"{what} must be {' or '.join(map(str, inside))}, not {_short(value)}.")
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(convert(inside[0], item, what=what) for item in value)
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {convert(inside[0], key, what=what): convert(inside[1], item, what=what) for key, item in value.items()}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise ConfigError(f"{what} must be of type {_name(hint)}, not {_short(value)}.")


def _name(hint: Any) -> str:
    if hint is Path:
        return "path"
    return getattr(hint, "__name__", None) or str(hint)


def _short(value: Any) -> str:
    """A value as a message can show it, however large it is."""
    text = str(value) if isinstance(value, int | float | str) else type(value).__name__
    return repr(text[:40])
