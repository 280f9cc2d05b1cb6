"""Text and JSON that others wrote: read within limits of size and depth, so that a hostile file is an error and no crash."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .media.files import check_input

LARGEST_BYTES = 256_000_000
"""Of one document: an index of a million clips has about as many."""
LARGEST_LINE_BYTES = 1_000_000
"""Of one document in a file with one a line."""
DEEPEST = 64
"""Lists and objects within one another; ours have up to 6."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON document. Raises ValueError: not JSON, not UTF-8, nested too deeply."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [part for part in level if isinstance(part, dict | list)]
        if not level:
            return value
        level = [item for part in level for item in (part.values() if isinstance(part, dict) else part)]
    raise ValueError(_TOO_DEEP)


def read_json(path: str | os.PathLike[str], *, limit: int = LARGEST_BYTES) -> Any:
    """The value of a JSON file of up to `limit` bytes. Raises like `parse_json` and `read_text`."""
    return parse_json(read_text(path, limit=limit))


def read_text(path: str | os.PathLike[str], *, limit: int = LARGEST_BYTES) -> str:
    """A file of up to `limit` bytes of UTF-8. Raises ValueError for more or other bytes, OSError, MediaError: no regular file."""
    with _regular(path).open("rb") as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise ValueError(f"more than {limit:,} bytes")
    return text.decode("utf-8")


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The values of a file with a JSON document on each line, one after the other. Raises like `read_json`."""
    with _regular(path).open("rb") as file:
        while line := file.readline(LARGEST_LINE_BYTES + 1):
            if len(line) > LARGEST_LINE_BYTES:
                raise ValueError(f"a line of more than {LARGEST_LINE_BYTES:,} bytes")
            yield parse_json(line.decode("utf-8"))


_TOO_DEEP = f"nested more than {DEEPEST} deep"


def _regular(path: str | os.PathLike[str]) -> Path:
    """A missing file stays FileNotFoundError, which says which one; a device or a pipe would never end."""
    path = Path(path)
    if path.exists() and not path.is_file():
        check_input(path)
    return path
