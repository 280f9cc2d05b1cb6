"""``mmfa prepare``: a folder of videos and pictures to a data set, over several processes, resumable after a kill."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from tqdm import tqdm

from ..documents import read_json
from ..errors import ConfigError, FaceError, MediaError
from ..media.crop import CropBox, crop
from ..media.files import atomic_output
from ..media.image import Array, contact_sheet, read_image, write_image
from ..media.video import VideoReader
from ..priors import identity
from .extract import CLIPS, IMAGES, WORK, Extractor, Piece, Result, Settings
from .index import INDEX, kind_of, media_files, write_index
from .people import People, persons, splits
from .pool import run_all
from .rows import Row
from .shards import write_shards
from .shots import REASONS

SHEET = "sheet.png"
_SETTINGS = "settings.json"
_SHEET_TILES, _SHEET_COLUMNS, _TILE = 64, 8, 128
# Default width of the smallest face, as a share of the crop: it is then enlarged at most twice.
_SMALLEST_FACE = 0.25
_NAMED = 20
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.\w+")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `prepare` made, and what it left out.

    seconds: of the clips. source_seconds: of the videos looked at, and elapsed: time taken, both without those that an
    earlier run had done. told: how persons were told apart. unreadable: one sentence for each file. faceless: how many files
    show no face.
    """

    output: Path
    clips: int
    images: int
    seconds: float
    people: int
    val_people: int
    told: str
    rejected: dict[str, int]
    unreadable: list[str]
    faceless: int
    source_seconds: float
    elapsed: float

    def __str__(self) -> str:
        lines = [
            f"{self.output}: {self.clips} clips ({self.seconds / 60:.1f} minutes), {self.images} images, "
            f"{self.people} persons ({self.val_people} for validation).",
            f"{self.told[0].upper()}{self.told[1:]}.",
            *_rejections(self.rejected),
        ]
        if self.faceless:
            lines.append(f"{self.faceless} files show no face.")
        if self.unreadable:
            lines.append(f"{len(self.unreadable)} files could not be read:")
            lines += [f"  {sentence}" for sentence in self.unreadable[:_NAMED]]
            if len(self.unreadable) > _NAMED:
                lines.append(f"  and {len(self.unreadable) - _NAMED} more")
        if self.source_seconds:
            rate = self.source_seconds / max(self.elapsed, 1e-9)
            lines.append(f"{self.source_seconds:.0f} s of video in {self.elapsed:.0f} s ({rate:.2f} s per second).")
        return "\n".join(lines)


def prepare(
    videos: Path,
    output: Path,
    *,
    size: int = 256,
    fps: float = 25.0,
    min_face: float | None = None,
    min_seconds: float = 1.0,
    people: People = "auto",
    val: float = 0.1,
    seed: int = 0,
    workers: int = 1,
    shards: float | None = None,
    quiet: bool = False,
) -> Report:
    """Make the data set `output` from every video and picture below `videos` (or from this one file).

    Each finished source leaves a result file in `output/work`; run again, only what isn't done is done, and the index is
    the same as if there had been no interruption. `people`, `val`, `seed` and `shards` may change from run to run.

    Args:
        videos: a folder, looked through with what is below it, or one file.
        output: the folder of the data set.
        size: side of the crops in pixels.
        fps: faster videos are thinned by a whole factor to at most this.
        min_face: smallest face width in pixels of the source, a quarter of `size` by default.
        min_seconds: shortest clip.
        people: see `people.persons`.
        val: see `people.splits`.
        seed: see `people.splits`.
        workers: processes.
        shards: megabytes of a shard; without it none are written.
        quiet: no progress bar.

    Raises:
        MediaError: nothing to read, nothing readable, or the output can't be written. FaceError: no face, or none usable.
        ConfigError: an option out of range, or `output` was begun with other settings.
    """
    _check(size=size, fps=fps, min_face=min_face, min_seconds=min_seconds, val=val, workers=workers, shards=shards)
    if people == "identity" and not identity.available():
        raise ConfigError("Grouping by face needs the identity network: pip install 'mmfa[identity]'.")
    settings = Settings(
        size=size,
        fps=fps,
        min_face=_SMALLEST_FACE * size if min_face is None else min_face,
        min_seconds=min_seconds,
        identity=identity.available(),
    )
    root, files = _sources(videos, output)
    _begin(output, settings, root)
    started = perf_counter()
    results, fresh = _extract(output, root, files, settings, workers=workers, quiet=quiet)
    pieces = sorted((piece for result in results for piece in result.pieces), key=lambda piece: piece.name)
    if not pieces:
        raise _nothing_usable(videos, results)
    names, told = persons(pieces, people)
    split = splits(names, val=val, seed=seed)
    rows = [_row(piece, name, split[name]) for piece, name in zip(pieces, names, strict=True)]
    if shards is not None:
        rows = write_shards(output, rows, megabytes=shards)
    write_image(output / SHEET, _sheet(output, rows))
    write_index(output, rows, size=size)
    return Report(
        output=output,
        clips=sum(row.kind == "clip" for row in rows),
        images=sum(row.kind == "image" for row in rows),
        seconds=sum(row.seconds for row in rows),
        people=len(split),
        val_people=sum(value == "val" for value in split.values()),
        told=told,
        rejected=_rejected(results),
        unreadable=[result.error for result in results if result.error is not None],
        faceless=sum(result.error is None and result.faces == 0 for result in results),
        source_seconds=fresh,
        elapsed=perf_counter() - started,
    )


def _check(
    *, size: int, fps: float, min_face: float | None, min_seconds: float, val: float, workers: int, shards: float | None
) -> None:
    if size < 64 or size % 2:
        raise ConfigError(f"The size of the crops must be even and at least 64, got {size}.")
    if not 0 < fps <= 1000:
        raise ConfigError(f"The highest frame rate must lie in (0, 1000], got {fps:g}.")
    if min_face is not None and not min_face >= 0:
        raise ConfigError(f"The smallest face can't be {min_face:g} pixels wide.")
    if not min_seconds >= 0:
        raise ConfigError(f"The shortest clip can't be {min_seconds:g} s.")
    if not 0 <= val <= 1:
        raise ConfigError(f"The share of persons for validation must lie in [0, 1], got {val:g}.")
    if workers < 1:
        raise ConfigError(f"At least one worker is needed, got {workers}.")
    if shards is not None and not shards > 0:
        raise ConfigError(f"A shard needs a size above 0 MB, got {shards:g}.")


def _sources(videos: Path, output: Path) -> tuple[Path, list[Path]]:
    """The folder that the sources' names are relative to, and the sources; never what lies in `output`."""
    if videos.is_file():
        if kind_of(videos) is None:
            raise MediaError(f"{videos} is neither a video nor a picture by its suffix.")
        return videos.parent, [videos]
    if not videos.is_dir():
        raise MediaError(f"{videos} does not exist.")
    made = output.resolve()
    files = [path for path in media_files(videos) if not path.resolve().is_relative_to(made)]
    if not files:
        raise MediaError(f"{videos} contains no video and no picture.")
    return videos, files


def _begin(output: Path, settings: Settings, root: Path) -> None:
    """Make the folders, clear what a kill left, and see that an earlier run had the same settings.

    What `prepare` didn't make is not overwritten: in a folder without the results of an earlier run there is no index yet.
    """
    foreign = [name for name in (INDEX, SHEET) if (output / name).exists()]
    if foreign and not (output / WORK).is_dir():
        raise ConfigError(
            f"{output} holds {foreign[0]}, but no {WORK} folder of an earlier run of mmfa prepare; give another folder with -o."
        )
    try:
        for folder in (CLIPS, IMAGES, WORK):
            (output / folder).mkdir(parents=True, exist_ok=True)
            for path in (output / folder).iterdir():
                if _TEMPORARY.fullmatch(path.name):
                    path.unlink()
    except OSError as error:
        raise MediaError(f"The folder {output} cannot be made: {error.strerror}.") from error
    now = {**asdict(settings), "videos": str(root.resolve())}
    path = output / WORK / _SETTINGS
    try:
        before = read_json(path)
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict):
        before = now
    for key, value in now.items():
        if before.get(key) != value:
            raise ConfigError(f"{output} was begun with {key} {before.get(key)}, not {value}; give another folder with -o.")
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(now), encoding="utf-8")


def _extract(
    output: Path, root: Path, files: Sequence[Path], settings: Settings, *, workers: int, quiet: bool
) -> tuple[list[Result], float]:
    """The results of all sources, in their order, and the seconds of video that were not done before."""
    jobs = [(path, path.relative_to(root).as_posix()) for path in files]
    extractor = Extractor(output, settings)
    done = {source: result for path, source in jobs if (result := extractor.done(path, source)) is not None}
    left = [job for job in jobs if job[1] not in done]
    kept = sum(len(result.pieces) for result in done.values())
    rejected = sum(sum(result.rejected.values()) for result in done.values())
    fresh, started = 0.0, perf_counter()
    bar = tqdm(total=len(jobs), initial=len(done), desc="preparing", unit="file", disable=quiet or None)
    with bar:
        for result in run_all(extractor, left, workers=workers):
            done[result.source] = result
            fresh += result.seconds
            kept += len(result.pieces)
            rejected += sum(result.rejected.values())
            rate = fresh / (perf_counter() - started)
            bar.set_postfix_str(f"{kept} kept, {rejected} rejected, {rate:.2f} s of video/s")
            bar.update()
    return [done[source] for _, source in jobs], fresh


def _nothing_usable(videos: Path, results: Sequence[Result]) -> MediaError | FaceError:
    errors = [result.error for result in results if result.error is not None]
    if len(errors) == len(results):
        return MediaError(f"None of the {len(results)} files of {videos} can be read; the first: {errors[0]}")
    if not any(result.faces for result in results):
        return FaceError(f"No face was found in any of the {len(results) - len(errors)} readable files of {videos}.")
    reasons = ", ".join(f"{count} {reason}" for reason, count in _rejected(results).items())
    return FaceError(
        f"All faces found in {videos} were rejected ({reasons}); use larger and sharper pictures, "
        "or lower --min-face or --min-seconds."
    )


def _rejected(results: Sequence[Result]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for result in results:
        total.update(result.rejected)
    return {reason: total[reason] for reason in REASONS if total[reason]}


def _rejections(rejected: dict[str, int]) -> list[str]:
    if not rejected:
        return []
    table = [f"  {count:6d}  {reason:<10}  {REASONS[reason]}" for reason, count in rejected.items()]
    return [f"{sum(rejected.values())} shots were rejected:", *table]


def _row(piece: Piece, person: str, split: str) -> Row:
    known = {key: value for key, value in asdict(piece).items() if key != "identity"}
    return Row(**known, person=person, split=split)


def _sheet(output: Path, rows: Sequence[Row]) -> Array:
    """First frames of up to 64 clips and images, person by person, spread evenly over the data set."""
    ordered = sorted(rows, key=lambda row: (row.person, row.name))
    count = min(len(ordered), _SHEET_TILES)
    chosen = [ordered[i * len(ordered) // count] for i in range(count)]
    tiles = [_tile(output / row.file) for row in chosen]
    return contact_sheet([tiles[i : i + _SHEET_COLUMNS] for i in range(0, count, _SHEET_COLUMNS)])


def _tile(path: Path) -> Array:
    if kind_of(path) == "image":
        image = read_image(path)
    else:
        with VideoReader(path) as video:
            image = next(iter(video)).image
    side = image.shape[0]
    return crop(image, CropBox(side / 2, side / 2, side), size=_TILE)
