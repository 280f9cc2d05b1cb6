"""Requests: everything that can be asked for, as typed values. Command line, JSON and programs build them; each runs by itself.

>>> from mmfa.requests import AnimateRequest
>>> AnimateRequest.of({"source": "me.jpg", "driving": "talk.mp4", "output": "out.mp4"}).run().summary
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..documents import read_json
from ..errors import ConfigError, MmfaError
from ..media.files import Files, check_input
from .animate import AnimateRequest, DemoRequest, MotionRequest
from .base import Request, Result
from .edit import CanonicalRequest, EditRequest
from .expressions import InterpolateRequest, SampleRequest

__all__ = [
    "REQUESTS",
    "AnimateRequest",
    "CanonicalRequest",
    "DemoRequest",
    "EditRequest",
    "Files",
    "InterpolateRequest",
    "MotionRequest",
    "Request",
    "Result",
    "SampleRequest",
    "read_request",
    "request_of",
]  # fmt: skip

_ALL: tuple[type[Request], ...] = (
    AnimateRequest, MotionRequest, DemoRequest, EditRequest, CanonicalRequest, InterpolateRequest, SampleRequest,
)  # fmt: skip
_LARGEST = 1_000_000
"""Bytes of a request."""
REQUESTS = {kind.name: kind for kind in _ALL}
"""Every request by name."""


def read_request(path: Path) -> Request:
    """A request from a JSON file. Raises MediaError for a file that can't be read, ConfigError for one that asks for nothing."""
    try:
        values = read_json(check_input(path), limit=_LARGEST)
    except ValueError as error:
        if isinstance(error, MmfaError):
            raise
        raise ConfigError(f"{path} is no JSON that can be read ({error}).") from error
    return request_of(values, what=str(path))


def request_of(values: Any, *, what: str = "the request") -> Request:
    """A request from plain values: its name under ``request``, its fields beside it. Raises ConfigError."""
    if not isinstance(values, dict):
        raise ConfigError(f"{what} holds no keys and values.")
    rest = dict(values)
    name = rest.pop("request", None)
    if not isinstance(name, str) or name not in REQUESTS:
        raise ConfigError(f"{what} must name one of {', '.join(REQUESTS)} under 'request'.")
    return REQUESTS[name].of(rest)
