"""Shards: a data set as plain tar files in WebDataset's convention, for data that outgrow one disk.

A shard `SPLIT-000000.tar` holds samples one after the other, each as the members `KEY.mp4` (or `.png`),
`KEY.safetensors` and `KEY.json`, the sample's line of the index. Readable by WebDataset and by any tar program.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from ..documents import parse_json
from ..errors import ConfigError, MediaError
from ..media.files import atomic_output, check_input
from .rows import Row, parse_row

SHARDS = "shards"
LARGEST_MEMBER = 1 << 30
"""Bytes: a sample is held in memory."""


@dataclass(frozen=True)
class Sample:
    """One sample of a shard: its index line, the bytes of the video or picture, and those of the landmarks file."""

    row: Row
    media: bytes
    landmarks: bytes


def write_shards(root: Path, rows: Sequence[Row], *, megabytes: float) -> list[Row]:
    """Pack the files of `rows` into `root/shards`, a new tar after `megabytes` each; returns the rows with their shard.

    Within a split the order is that of a hash of the name, so that neighbours show different persons. Older shards are
    replaced.

    Raises:
        ConfigError: megabytes isn't positive. MediaError: the disk is full or not writable.
    """
    if not megabytes > 0:
        raise ConfigError(f"A shard needs a size above 0 MB, got {megabytes}.")
    (root / SHARDS).mkdir(exist_ok=True)
    placed: dict[str, str] = {}
    for split in sorted({row.split for row in rows}):
        mixed = sorted((row for row in rows if row.split == split), key=lambda row: hashlib.sha256(row.name.encode()).digest())
        for number, part in enumerate(_parts(root, mixed, limit=megabytes * 1e6)):
            shard = f"{SHARDS}/{split}-{number:06d}.tar"
            _pack(root, shard, part)
            placed.update((row.name, shard) for row in part)
    for old in (root / SHARDS).glob("*.tar"):
        if f"{SHARDS}/{old.name}" not in placed.values():
            old.unlink()
    return [replace(row, shard=placed[row.name]) for row in rows]


def read_shard(path: Path) -> Iterator[Sample]:
    """The samples of one shard, in order, reading it as a stream.

    Raises MediaError when it is damaged, and before it reads a member that says it is sparse, or larger than the shard or 1 GiB.
    """
    files: dict[str, bytes] = {}
    key = ""
    try:
        largest = min(LARGEST_MEMBER, check_input(path).stat().st_size)
        with tarfile.open(path, "r|") as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is None:
                    continue
                if member.issparse() or member.size > largest:
                    raise ValueError(f"its member {member.name} claims {member.size:,} bytes")
                name = PurePosixPath(member.name)
                if str(name.with_suffix("")) != key:  # what has no index line isn't collected
                    key, files = str(name.with_suffix("")), {}
                files[name.suffix] = content.read()
                # The index line comes last.
                if name.suffix == ".json":
                    record = parse_row(parse_json(files[".json"]))
                    yield Sample(record, files[PurePosixPath(record.file).suffix], files[".safetensors"])
                    files = {}
    except MediaError:
        raise
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MediaError(f"{path} is no shard of a data set, or damaged ({str(error)[:200]}).") from error


def unpack(root: Path, rows: Sequence[Row]) -> None:
    """Put the files of `rows` from their shards to where the index has them.

    Raises:
        MediaError: a shard is missing or damaged, lacks a file, or a file would lie outside `root`.
    """
    wanted: dict[str, set[str]] = {}
    for row in rows:
        wanted.setdefault(row.shard or "", set()).add(row.name)
        for file in (row.file, row.landmarks):
            if not (root / file).resolve().is_relative_to(root.resolve()):
                raise MediaError(f"The index of {root} names {file}, which lies outside of it.")
            (root / file).parent.mkdir(parents=True, exist_ok=True)
    for shard, names in wanted.items():
        places = {row.name: row for row in rows if row.shard == shard}
        for sample in read_shard(root / shard):
            if sample.row.name in names:
                place = places[sample.row.name]
                _put(root / place.landmarks, sample.landmarks)
                _put(root / place.file, sample.media)
                names.remove(sample.row.name)
        if names:
            raise MediaError(f"{root / shard} lacks {min(names)}, which the index of {root} says is in it.")


def _parts(root: Path, rows: Sequence[Row], *, limit: float) -> Iterator[list[Row]]:
    part: list[Row] = []
    size = 0
    for row in rows:
        added = (root / row.file).stat().st_size + (root / row.landmarks).stat().st_size
        if part and size + added > limit:
            yield part
            part, size = [], 0
        part.append(row)
        size += added
    if part:
        yield part


def _pack(root: Path, shard: str, rows: Sequence[Row]) -> None:
    with atomic_output(root / shard) as temporary, tarfile.open(temporary, "w") as tar:
        for row in rows:
            line = json.dumps(asdict(replace(row, shard=shard)), ensure_ascii=False).encode()
            _add(tar, f"{row.name}{PurePosixPath(row.file).suffix}", (root / row.file).read_bytes())
            _add(tar, f"{row.name}.safetensors", (root / row.landmarks).read_bytes())
            _add(tar, f"{row.name}.json", line)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    # No time and no owner: the same data give the same bytes.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _put(path: Path, content: bytes) -> None:
    with atomic_output(path) as temporary:
        temporary.write_bytes(content)
