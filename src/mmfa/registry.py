"""Kinds of models, by name: this package's, others' (entry points ``mmfa.models``), and those registered at run time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from torch import Tensor

from .errors import ModelError
from .params import read_params
from .portrait import PortraitModel

ENTRY_POINTS = "mmfa.models"
"""The group in which a package names its kinds: ``NAME = "module:KIND"``."""
_OWN = {"lite": "mmfa.models.lite", "paper": "mmfa.models.paper"}
_REGISTERED: dict[str, Kind] = {}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of model.

    params: the dataclass of numbers that describes one; nested dataclasses, numbers, words, and tuples of them.
    build: an untrained model of such params. sizes: params by name, for people. migrate: the parameters of an older model, as
    they were saved, as today's; migrate_weights: its tensors, by name, as today's.
    """

    name: str
    params: type
    build: Callable[[Any], PortraitModel[Any, Any]]
    sizes: Mapping[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)
    migrate: Callable[[dict[str, Any]], dict[str, Any]] = lambda values: values
    migrate_weights: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda tensors: tensors

    def read_params(self, values: dict[str, Any]) -> Any:
        """Params from the dict of `dataclasses.asdict`. Raises ValueError, TypeError or KeyError for one that doesn't fit."""
        return read_params(self.params, self.migrate(values))


def names() -> list[str]:
    """Of all kinds that can be had here."""
    return sorted({*_OWN, *_REGISTERED, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def kind(name: str) -> Kind:
    """The kind of this name. Raises ModelError when there is none, or when its package can't be loaded."""
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name in _OWN:
        return _checked(import_module(_OWN[name]).KIND, name)
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            return _checked(point.load(), name)
        except Exception as error:  # whatever another package raises when it is loaded
            raise ModelError(f"The kind {name!r} of {point.value} can't be loaded: {error}.") from error
    raise ModelError(f"There is no kind of model {name!r}; known are {', '.join(names())}.")


def register(kind: Kind) -> None:
    """Make a kind known in this process; it takes the place of another one of its name."""
    _REGISTERED[kind.name] = kind


@contextmanager
def registered(kind: Kind) -> Iterator[Kind]:
    """A kind that is known for a while."""
    before = _REGISTERED.get(kind.name)
    register(kind)
    try:
        yield kind
    finally:
        del _REGISTERED[kind.name]
        if before is not None:
            register(before)


def kind_of(model: PortraitModel[Any, Any]) -> Kind:
    """The kind that a model says it is of."""
    return kind(model.card.kind)


def sizes() -> dict[str, Kind]:
    """The kind of every named size."""
    return {size: found for name in names() for found in [kind(name)] for size in found.sizes}


def params_of(size: str) -> Any:
    """The params of a named size. Raises ModelError for an unknown name."""
    known = sizes()
    if size not in known:
        raise ModelError(f"Unknown model size {size!r}; choose from {', '.join(known)}.")
    return known[size].sizes[size]()


def build(what: Any) -> PortraitModel[Any, Any]:
    """An untrained model of a named size, or of params. Raises ModelError for a name or params that no kind has."""
    params = params_of(what) if isinstance(what, str) else what
    for found in map(kind, names()):
        if isinstance(params, found.params):
            return found.build(params)
    raise ModelError(f"No kind of model has {type(params).__name__}.")


def _checked(found: Any, name: str) -> Kind:
    if not isinstance(found, Kind) or found.name != name:
        raise ModelError(f"What is registered as the kind {name!r} is no such kind.")
    return found
