"""Lines of a data set's index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import NoneType
from typing import Literal

Kind = Literal["clip", "image"]
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, NoneType),
    "Kind": (str,),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, NoneType),
    "list[float]": (list,),
}
"""What each type of a row's fields is in JSON."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is known of one clip or image from its source alone.

    file, landmarks: relative to the data set. fps is None and seconds is 0 for an image. source: the file it was cut from,
    relative to the folder of sources, and the range there in seconds. face_width: median, in pixels of the source. yaw, pitch:
    smallest and largest, in degrees. sharpness: see `shots.sharpness`. score: mean of the landmark network's face flag.
    """

    name: str
    kind: Kind
    file: str
    landmarks: str
    frames: int
    fps: float | None
    seconds: float
    source: str
    start: float
    end: float
    face_width: float
    yaw: list[float]
    pitch: list[float]
    sharpness: float
    score: float


@dataclass(frozen=True, kw_only=True)
class Row(Measured):
    """One line of the index. shard: the tar that also holds the files, relative to the data set, or None."""

    person: str
    split: str
    shard: str | None = None


def parse_row(record: Mapping[str, object]) -> Row:
    """A row from its JSON object; keys that are not known are left out.

    Raises ValueError when a value is of another type than its field, TypeError when one is missing.
    """
    known = {field.name: _TYPES[str(field.type)] for field in fields(Row)}
    values = {key: value for key, value in record.items() if key in known}
    for key, value in values.items():
        if not isinstance(value, known[key]):
            raise ValueError(f"{key} can't be {value!r}")
    return Row(**values)  # type: ignore[arg-type]
