"""Write the tables of docs/requests.md: the fields of every request, from the dataclasses and the help of the command line.

python tools/request_tables.py
"""

from __future__ import annotations

import argparse
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from mmfa.cli.main import _parser
from mmfa.media.files import atomic_output
from mmfa.requests import REQUESTS, Request

PAGE = Path(__file__).parents[1] / "docs" / "requests.md"
BEGIN = "<!-- written by tools/request_tables.py: begin -->\n"
END = "<!-- written by tools/request_tables.py: end -->\n"
_WORDS = {Path: "path", str: "text", float: "number", int: "whole number", bool: "true or false", type(None): "null"}
_RANGE = {"start": "at", "end": "at"}
"""Fields that share an option."""


def markdown() -> str:
    """A heading, a sentence and a table for each request."""
    parsers = dict(_parsers())
    return "\n".join(_section(name, kind, parsers) for name, kind in REQUESTS.items())


def page(text: str) -> str:
    """The page with the tables as they are now. Raises ValueError for a page without a place for them."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError("the page has no place for the tables")
    return before + BEGIN + "\n" + markdown() + "\n" + END + after


def _section(name: str, kind: type[Request], parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    hints = typing.get_type_hints(kind)
    rows = [_row(field, hints[field.name], name, parsers) for field in _ordered(kind)]
    sentence = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    head = ["| field | type | default | option of the command line | what it says |", "|---|---|---|---|---|"]
    return "\n".join([f"### {name}", "", sentence, "", *head, *rows, ""])


def _ordered(kind: type[Request]) -> list[Field[Any]]:
    """What must be given comes first, then a request's own fields, then those of all."""
    shared = {field.name for base in kind.__mro__[1:] if hasattr(base, "__dataclass_fields__") for field in fields(base)}
    return sorted(fields(kind), key=lambda field: (_default(field) is not MISSING, field.name in shared))


def _row(field: Field[Any], hint: Any, name: str, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    action = _action(parsers[name], field.name)
    said = action or next((found for other in parsers.values() if (found := _action(other, field.name))), None)
    meaning = (said.help or "") if said else ""
    if isinstance(said, argparse._StoreFalseAction):
        meaning = f"false: {meaning}"
    option = "" if action is None else f"`{action.option_strings[-1]}`" if action.option_strings else f"`{action.metavar}`"
    default = _default(field)
    value = "must be given" if default is MISSING else f"`{json.dumps(default, default=_plain)}`"
    return f"| `{field.name}` | {_type(hint)} | {value} | {option} | {meaning} |".replace("  |", " |")


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _plain(value: object) -> object:
    return value.as_posix() if isinstance(value, Path) else list(typing.cast(tuple[object, ...], value))


def _type(hint: Any) -> str:
    """A type as people who write JSON call it."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_type, inside))
    if origin is typing.Literal:
        return " or ".join(f"`{json.dumps(value)}`" for value in inside)
    if origin is tuple:
        return f"list of {_type(inside[0])}s"
    if origin is not None and issubclass(origin, Mapping):
        return f"object, {_type(inside[0])} to {_type(inside[1])}"
    return _WORDS[hint]


def _parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parser of each command that is a request, by the request's name."""
    for group in _parser()._actions:
        if isinstance(group, argparse._SubParsersAction):
            for parser in group.choices.values():
                if "request" in parser._defaults:
                    yield parser._defaults["request"], parser


def _action(parser: argparse.ArgumentParser, name: str) -> argparse.Action | None:
    """The option that a field comes from."""
    return next((action for action in parser._actions if action.dest == _RANGE.get(name, name)), None)


if __name__ == "__main__":
    written = page(PAGE.read_text(encoding="utf-8"))
    with atomic_output(PAGE) as temporary:
        temporary.write_text(written, encoding="utf-8")
