"""The index of a data set, and the reader of three layouts: prepared, listed in an `index.json`, a bare folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..documents import read_json, read_json_lines
from ..errors import MediaError
from ..media.files import atomic_output
from .rows import Kind, Row, parse_row

FORMAT = "mmfa-dataset"
VERSION = 1
INDEX = "index.jsonl"
LISTED = "index.json"
VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One clip or image of a data set.

    landmarks: safetensors file with landmarks (T,478,3) in grid coordinates of the picture (float16 or float32), score (T,),
    rotation (T,3,3), scale (T,1) and translation (T,3); None where they were not prepared. name: unique in the data set and
    safe as a file name.
    """

    path: Path
    person: str
    split: str
    kind: Kind
    landmarks: Path | None
    name: str


def entries(root: Path, *, split: str | None = None, kind: str | None = "clip") -> list[Entry]:
    """Clips, images (or both: kind None) of the data set `root`, of one split or of all, sorted by file.

    `root` is a prepared data set (`index.jsonl`), a folder with an `index.json` (lists `clips` and `images` of objects with
    person, split and file), or a bare folder ``PERSON/NAME.mp4`` or ``PERSON/VIDEO/NAME.mp4``, where everything belongs to the
    split "train" and a file at the top is a person by itself. Files of a prepared data set that are only in its shards are
    unpacked to their place.

    Returns an empty list when other splits have entries of this kind and the one asked for has none.

    Raises:
        MediaError: the folder is missing or holds nothing of this kind; its index is damaged, of another version, or names
            a file that isn't there.
    """
    if not root.is_dir():
        raise MediaError(f"{root} is not a folder with a data set.")
    if (root / INDEX).exists():
        found = _prepared(root, split=split, kind=kind)
    elif (root / LISTED).exists():
        found = _listed(root)
    else:
        found = _bare(root)
    found = [entry for entry in found if kind in (None, entry.kind)]
    if not found:
        raise MediaError(f"{root} contains no {kind or 'clip or image'}; make a data set with: mmfa prepare VIDEOS -o DATASET")
    found = sorted((entry for entry in found if split in (None, entry.split)), key=lambda entry: entry.path)
    for entry in found:
        if not entry.path.is_file():
            raise MediaError(f"{entry.path} is named in the index of {root} but missing.")
    return found


def write_index(root: Path, rows: Sequence[Row], *, size: int) -> None:
    """Write `index.jsonl`: a header line, then one line per clip or image."""
    header = {"format": FORMAT, "version": VERSION, "size": size, "rows": len(rows)}
    lines = [json.dumps(header), *(json.dumps(asdict(row), ensure_ascii=False) for row in rows)]
    with atomic_output(root / INDEX) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_index(root: Path) -> list[Row]:
    """The rows of a prepared data set. Raises MediaError: damaged, cut off, or of another version."""
    path = root / INDEX
    try:
        header, *records = read_json_lines(path)
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']!r}")
        if header["version"] == VERSION:
            rows = [parse_row(record) for record in records]
            if len(rows) != header["rows"]:
                raise ValueError(f"{len(rows)} rows of {header['rows']}")
            return rows
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MediaError(f"{path} is no index of a data set, or damaged ({str(error)[:200]}); run mmfa prepare again.") from error
    raise MediaError(
        f"{path} has version {header['version']} of the index, this program reads version {VERSION}; run mmfa prepare again."
    )


def slug(text: str, *, limit: int = 80) -> str:
    """`text` as a part of a file name: letters of ASCII, digits, ``_`` and ``-``, no dot."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:limit] or "x"


def digest(text: str) -> str:
    """A short name for `text`: eight hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def is_bare(root: Path) -> bool:
    """Whether a folder has no index of either kind: its clips are in no split but the one that all have."""
    return not (root / INDEX).exists() and not (root / LISTED).exists()


def media_files(root: Path) -> list[Path]:
    """Videos and pictures below `root`, sorted; hidden files and what lies in hidden folders are left out.

    Linked folders are followed. Each folder is read once, whichever ways lead to it, so that a link back to where it comes from
    ends and nothing counts twice; a folder that also lies below `root` without a link keeps that name.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    starts = [root]
    while starts:
        for folder, names, files in os.walk(starts.pop(0)):
            place = Path(folder)
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                names.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            names[:] = sorted(name for name in names if not name.startswith("."))
            # os.walk leaves linked folders out: they come when all others have been read.
            starts += [place / name for name in names if (place / name).is_symlink()]
            found += [place / name for name in files if not name.startswith(".")]
    return sorted(path for path in found if kind_of(path) and path.is_file())


def kind_of(path: Path) -> Kind | None:
    """Whether the suffix is a video's or a picture's."""
    suffix = path.suffix.lower()
    return "clip" if suffix in VIDEO_SUFFIXES else "image" if suffix in IMAGE_SUFFIXES else None


def _prepared(root: Path, *, split: str | None, kind: str | None) -> list[Entry]:
    rows = read_index(root)
    wanted = [row for row in rows if split in (None, row.split) and kind in (None, row.kind)]
    packed = [row for row in wanted if row.shard and not ((root / row.file).exists() and (root / row.landmarks).exists())]
    if packed:
        from .shards import unpack

        unpack(root, packed)
    for row in wanted:
        if not (root / row.landmarks).is_file():
            raise MediaError(f"{root / row.landmarks} is named in the index of {root} but missing.")
    return [
        Entry(
            path=root / row.file,
            person=row.person,
            split=row.split,
            kind=row.kind,
            landmarks=root / row.landmarks,
            name=row.name,
        )
        for row in rows
    ]


def _listed(root: Path) -> list[Entry]:
    path = root / LISTED
    kinds: tuple[tuple[str, Kind], ...] = (("clips", "clip"), ("images", "image"))
    try:
        index = read_json(path)
        listed = [(item["file"], item["person"], item["split"], kind) for key, kind in kinds for item in index.get(key, [])]
        if strange := next((word for item in listed for word in item if not isinstance(word, str)), None):
            raise ValueError(f"not a text: {strange!r}")
        names = _names(file for file, *_ in listed)
        return [
            Entry(path=root / file, person=person, split=split, kind=kind, landmarks=None, name=names[file])
            for file, person, split, kind in listed
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MediaError(f"{path} is no list of clips with file, person and split ({repr(error)[:200]}).") from error


def _bare(root: Path) -> list[Entry]:
    found = []
    names = _names(path.relative_to(root).as_posix() for path in media_files(root))
    for file, name in names.items():
        path = root / file
        kind = kind_of(path)
        assert kind is not None
        person = path.stem if path.parent == root else path.relative_to(root).parts[0]
        found.append(Entry(path=path, person=person, split="train", kind=kind, landmarks=None, name=name))
    return found


def _names(files: Iterable[str]) -> dict[str, str]:
    """A unique safe name for each relative path; those that would be equal (in any case) get their hash."""
    plain = {file: "__".join(slug(part) for part in Path(file).with_suffix("").parts) for file in files}
    count: dict[str, int] = {}
    for name in plain.values():
        count[name.casefold()] = count.get(name.casefold(), 0) + 1
    return {file: name if count[name.casefold()] == 1 else f"{name}-{digest(file)}" for file, name in plain.items()}
