"""One evaluation, from a data set to the files of its report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import MediaError
from .cache import Cache
from .definitions import DEFINITIONS, unavailable
from .figures import ClipTable, clip_table, figures_of
from .frechet import missing_fid
from .measure import DrivingJob, GeneratedJob, Job, SourceJob, load_faces, load_features, load_generated, measure_all
from .page import RANKED_BY, ranking, write_page
from .protocol import Protocol, listing_hash, meaningless, tasks_of, write_pairs
from .report import Report, write_report
from .subjects import Subject

_OFF = {"csim_faceres": "Off: its weights don't come with the package, and a loss may train on that network; csim is the judge."}


@dataclass(frozen=True)
class Outcome:
    """report: as it was written. measured: clips that were measured now; the others were in the cache."""

    report: Report
    measured: int


def evaluate(
    data: Path,
    output: Path,
    *,
    subject: Subject,
    protocol: Protocol = "same",
    split: str = "val",
    stride: int = 1,
    seed: int = 0,
    pairs: Path | None = None,
    rank: str | None = None,
    cache: Path | None = None,
    workers: int = 1,
    quiet: bool = False,
) -> Outcome:
    """Measure `subject` on a data set and write report.json, report.md, clips.csv, index.html (and pairs.csv) to `output`.

    `cache` is by default the folder ``.cache`` beside `output`. `rank`: the metric by which clips are the worst and the best.
    Raises MmfaError, with nothing written to `output`, for a data set, pairs or predictions that can't be evaluated.
    """
    folder = Cache(cache if cache is not None else output.parent / ".cache")
    tasks = tasks_of(data, protocol=protocol, split=split, stride=stride, seed=seed, pairs=pairs)
    subject.check(tasks)
    for place in (output, folder.root):
        _make(place)
    generated = [GeneratedJob(subject, task) for task in tasks]
    real: list[Job] = [DrivingJob(task.driving, stride) for task in tasks]
    if protocol == "cross":
        real += [SourceJob(task.source) for task in tasks]
    measured = measure_all([*real, *generated], folder, workers=workers, quiet=quiet)
    tables = [_table(job, folder) for job in generated]
    report = _report(subject, tables, data=data, protocol=protocol, split=split, stride=stride, seed=seed)
    metric = rank or next(name for name in (RANKED_BY[protocol], *tables[0].values) if name in tables[0].values)
    ranking(tables, metric)  # an unknown metric is refused before anything is written
    write_report(output, report, tables)
    if protocol == "cross":
        write_pairs(output / "pairs.csv", tasks)
    jobs = {job.task.name: job for job in generated}
    write_page(
        output / "index.html",
        report,
        tables,
        metric=metric,
        sheet=lambda table: load_generated(jobs[table.task.name], folder).sheet,
    )
    return Outcome(report, measured)


def _table(job: GeneratedJob, cache: Cache) -> ClipTable:
    """Only what is summed up of a clip is kept; its measures are read from the cache and let go."""
    task = job.task
    driving = load_faces(DrivingJob(task.driving, task.stride), cache)[task.start // task.stride :]
    generated = load_generated(job, cache)
    if task.protocol == "same":
        return clip_table(task, generated, driving, source=None, source_features=None)
    source = SourceJob(task.source)
    return clip_table(task, generated, driving, source=load_faces(source, cache), source_features=load_features(source, cache))


def _report(
    subject: Subject, tables: Sequence[ClipTable], *, data: Path, protocol: Protocol, split: str, stride: int, seed: int
) -> Report:
    tasks = [table.task for table in tables]
    frechet = "fd_lite0" if missing_fid() else "fid"
    figures = figures_of(tables, protocol=protocol, frechet=frechet, seed=seed)
    return Report(
        subject=subject.name,
        kind=subject.kind,
        sha256=subject.sha256(tasks),
        data=data.resolve().name,
        split=split,
        listing_sha256=listing_hash(tasks),
        protocol=protocol,
        stride=stride,
        seed=seed,
        clips=len(tasks),
        persons=len({task.driving.person for task in tasks}),
        frames=sum(task.frames for task in tasks),
        missed_generated=sum(table.missed_generated for table in tables),
        missed_driving=sum(table.missed_driving for table in tables),
        figures=tuple(figures),
        unavailable=_unavailable(protocol, stride),
        remarks=tuple(subject.remarks(tasks)),
    )


def _unavailable(protocol: Protocol, stride: int) -> dict[str, str]:
    """The metrics that are left out, by name, each with the reason."""
    reasons = {name: meaningless(name, protocol=protocol, stride=stride) for name in DEFINITIONS}
    return _OFF | unavailable() | {name: reason for name, reason in reasons.items() if reason}


def _make(folder: Path) -> None:
    """Make a folder that can be written. Raises MediaError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{folder} can't be made a folder ({error.strerror}).") from error
    if not os.access(folder, os.W_OK):
        raise MediaError(f"{folder} isn't writable.")
