"""Who drives whom: the two protocols of the paper, its section on experiments.

Same-identity: the first frame of a clip is the source, the rest of the clip drives it. Cross-identity: the first frame of one
person's clip, or an image, is driven by another person's clip; the pairs come from a file or are drawn by seed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from av.error import FFmpegError

from ..dataset.index import Entry, digest, entries, is_bare
from ..dataset.rows import Kind
from ..documents import read_text
from ..errors import ConfigError, MediaError
from ..media.container import open_input, video_stream
from ..media.files import atomic_output
from ..media.image import Array, read_image
from ..media.video import VideoReader
from .bursts import bursts

Protocol = Literal["same", "cross"]
HEADER = ["source", "driving"]
ALL = "all"
"""The split that takes all of them."""

_LONGEST_NAME = 200
_FRAME_A_PACKET = {"h264", "hevc", "vp9", "ffv1", "mjpeg", "png"}
"""Codecs whose frames can be counted by their packets: none holds two shown frames, none only a hidden one."""


@dataclass(frozen=True)
class Clip:
    """A clip (or an image: one frame) of a data set that was looked through. size: side in pixels; sha256: of the file."""

    name: str
    person: str
    path: Path
    kind: Kind
    frames: int
    size: int
    sha256: str

    def read(self) -> Iterator[Array]:
        """The frames (S,S,3) uint8; each decoded frame exactly once, whatever its time."""
        if self.kind == "image":
            yield read_image(self.path)
            return
        with VideoReader(self.path, constant_rate=False) as video:
            for frame in video:
                yield frame.image


@dataclass(frozen=True)
class Task:
    """One generated clip: the first frame of `source` is driven by every `stride`-th frame of `driving` from `start` on, and,
    with a stride, by the `bursts` on which the temporal metrics are measured.
    """

    name: str
    source: Clip
    driving: Clip
    protocol: Protocol
    stride: int

    @property
    def start(self) -> int:
        """Of itself a frame is no test: same-identity begins with the second one that is looked at."""
        return self.stride if self.protocol == "same" else 0

    @property
    def frames(self) -> int:
        """How many frames are measured."""
        return len(self.measured)

    @property
    def measured(self) -> range:
        """Which frames of the driving clip are measured, by all metrics but the temporal ones."""
        return range(self.start, self.driving.frames, self.stride)

    @property
    def bursts(self) -> list[range]:
        """Which frames the temporal metrics are measured on; none without a stride, when all frames are consecutive anyway."""
        return bursts(self.driving.frames) if self.stride > 1 else []

    @property
    def generated(self) -> list[int]:
        """Which frames are generated: what is measured, and the bursts."""
        return sorted({*self.measured, *(index for burst in self.bursts for index in burst)})

    def expected(self) -> str:
        """The line of ``--list``: name, frames and size of the clip that is to be generated."""
        return f"{self.name}\t{self.driving.frames}\t{self.driving.size}x{self.driving.size}"


def look(entry: Entry) -> Clip:
    """Count, measure and hash a clip or image; nothing but a clip's first frame is decoded.

    Raises MediaError when it can't be read or isn't square.
    """
    if entry.kind == "image":
        image = read_image(entry.path)
        count, (height, width) = 1, image.shape[:2]
    else:
        info = VideoReader(entry.path).info
        count, height, width = _count(entry.path), info.height, info.width
    if height != width:
        raise MediaError(
            f"{entry.path} is {width} x {height}; square face crops are evaluated: make them with: mmfa prepare VIDEOS -o DATASET"
        )
    with entry.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Clip(entry.name, entry.person, entry.path, entry.kind, count, width, sha256)


def split_of(data: Path, split: str | None) -> str:
    """The split that is measured: the one asked for; else "val" of a data set with an index, and all of a bare folder."""
    return split or (ALL if is_bare(data) else "val")


def tasks_of(
    data: Path, *, protocol: Protocol, split: str | None, stride: int = 1, seed: int = 0, pairs: Path | None = None
) -> list[Task]:
    """The clips to generate for a data set, sorted by name, so that nothing depends on the order of a listing.

    split: see `split_of`; `ALL` takes every split.

    Raises MediaError for a data set, clip or file of pairs that can't be used, ConfigError for options that don't fit it.
    """
    if stride < 1:
        raise ConfigError(f"The stride is {stride}; every how many-th frame is measured must be 1 or more.")
    if pairs and protocol == "same":
        raise ConfigError("Pairs belong to cross-identity: add --protocol cross, or leave out --pairs.")
    every = entries(data, kind=None)
    split = split_of(data, split)
    found = {entry.name: entry for entry in every if split in (ALL, entry.split)}
    clips = [entry for entry in found.values() if entry.kind == "clip"]
    if not clips:
        there = ", ".join(sorted({entry.split for entry in every if entry.kind == "clip"})) or "none"
        raise MediaError(f"{data} has no clip in the split {split!r}; splits with clips: {there}.")
    if protocol == "same":
        named = [(entry.name, entry.name) for entry in clips]
    else:
        named = read_pairs(pairs, sources=list(found), drivers=[e.name for e in clips]) if pairs else draw_pairs(clips, seed=seed)
    looked = {name: look(found[name]) for name in dict.fromkeys(name for pair in named for name in pair)}
    tasks = [
        Task(driver if protocol == "same" else _joined(source, driver), looked[source], looked[driver], protocol, stride)
        for source, driver in named
    ]
    for task in tasks:
        if not task.frames:
            raise ConfigError(
                f"{task.driving.path} has {task.driving.frames} frames: --stride {stride} leaves none; take a smaller one."
            )
    return sorted(tasks, key=lambda task: task.name)


def draw_pairs(clips: Sequence[Entry], *, seed: int) -> list[tuple[str, str]]:
    """For each driving clip a source clip of another person: (source, driving), the same for the same names and seed.

    Raises MediaError when there is only one person.
    """
    ordered = sorted(clips, key=lambda clip: clip.name)
    generator = random.Random(seed)
    pairs = []
    for driving in ordered:
        others = [clip.name for clip in ordered if clip.person != driving.person]
        if not others:
            raise MediaError(f"All clips are of one person ({driving.person}); cross-identity needs two.")
        pairs.append((generator.choice(others), driving.name))
    return pairs


def read_pairs(path: Path, *, sources: Sequence[str], drivers: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of a CSV file with the columns source and driving: names of clips, or of an image as the source.

    Raises MediaError: no such file, another layout, a name that isn't there (with its line), a pair that comes twice.
    """
    try:
        rows = list(csv.reader(read_text(path).splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        raise MediaError(f"{path} can't be read as a file of pairs ({error}).") from error
    if not rows or rows[0] != HEADER:
        raise MediaError(f"{path} doesn't begin with the line {','.join(HEADER)}; each further line is one pair of names.")
    found: list[tuple[str, str]] = []
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != 2:
            raise MediaError(f"{path}, line {number}: {','.join(row)!r} is no pair; write SOURCE,DRIVING.")
        pair = (row[0].strip(), row[1].strip())
        for name, known, what in zip(pair, (sources, drivers), ("source", "driving clip"), strict=True):
            if name not in known:
                raise MediaError(
                    f"{path}, line {number}: there is no {what} {name!r}; mmfa evaluate --list DATA names the clips."
                )
        if pair in found:
            raise MediaError(f"{path}, line {number}: the pair {pair[0]},{pair[1]} comes twice.")
        found.append(pair)
    if not found:
        raise MediaError(f"{path} lists no pair.")
    return found


def write_pairs(path: Path, tasks: Sequence[Task]) -> None:
    """The pairs of `tasks`, as `read_pairs` takes them."""
    lines = [",".join(HEADER), *(f"{task.source.name},{task.driving.name}" for task in tasks)]
    with atomic_output(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def listing_hash(tasks: Sequence[Task]) -> str:
    """SHA-256 of what is generated from what: name and file hash of both sides of every task, in any order."""
    rows = sorted([task.name, task.source.sha256, task.driving.sha256] for task in tasks)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _count(path: Path) -> int:
    """How many frames a video holds, without decoding them where its codec allows that; `reading.Reading` sees if it is so."""
    with open_input(path) as container:
        stream = video_stream(container)
        if stream is not None and stream.codec_context.name in _FRAME_A_PACKET:
            count = 0
            with suppress(FFmpegError):  # the file breaks off
                for packet in container.demux(stream):
                    count += packet.size > 0 and not packet.is_discard
            return count
    with VideoReader(path, constant_rate=False) as video:
        return sum(1 for _ in video)


def _joined(source: str, driving: str) -> str:
    """The name of a pair, safe as a file name."""
    name = f"{source}--{driving}"
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}-{digest(name)}"
