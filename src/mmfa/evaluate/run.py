"""One evaluation, from a data set to the files of its report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import ConfigError, MediaError, ModelError
from .bursts import STRIDE
from .cache import Cache
from .definitions import METRICS, TURNED, meaningless, unavailable
from .extractors import missing_faceres
from .figures import ClipTable, clip_table, figures_of, metrics_of_frames
from .folder import check_folder, whole_folder
from .frechet import missing_fid
from .leakage import leakage_figures
from .measure import (
    DrivingJob,
    GeneratedJob,
    Job,
    SourceJob,
    load_burst_points,
    load_faces,
    load_features,
    load_generated,
    measure_all,
)
from .page import RANKED_BY, write_page
from .protocol import Protocol, Task, listing_hash, split_of, tasks_of, write_pairs
from .report import Report, write_report
from .sitters import LeakageJob, jobs_of, load_trials
from .subjects import Model, Subject
from .trials import Trials

FILES = ("report.json", "report.md", "clips.csv", "index.html", "pairs.csv")
_OFF = {"csim_faceres": "Off without --second-identity: its weights don't come with the package."}


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
    split: str | None = None,
    stride: int = STRIDE,
    seed: int = 0,
    pairs: Path | None = None,
    rank: str | None = None,
    leakage: bool = False,
    second_identity: bool = False,
    cache: Path | None = None,
    workers: int = 1,
    quiet: bool = False,
) -> Outcome:
    """Measure `subject` on a data set and write report.json, report.md, clips.csv, index.html (and pairs.csv) to `output`.

    The folder appears whole, when all is measured, in place of an older report. `split`: see `protocol.split_of`. `cache` is by
    default the folder ``.cache`` beside `output`. `rank`: the metric by which clips are the worst and the best. `leakage`: also
    what a model moves that it was not asked to move (`mmfa.evaluate.leakage`), on the driving clips' persons. `second_identity`:
    also csim_faceres; its weights don't come with the package.
    Raises MmfaError, with nothing written to `output`, for a data set, pairs or predictions that can't be evaluated.
    """
    folder = Cache(cache if cache is not None else output.parent / ".cache")
    _check(workers=workers, seed=seed, rank=rank, protocol=protocol, second=second_identity)
    if folder.root.resolve().is_relative_to(output.resolve()):
        raise ConfigError(f"The kept measures would lie in the report's own folder, {output}, which is replaced whole: --cache.")
    check_folder(output, files=FILES, mark="report.json")
    split = split_of(data, split)
    tasks = tasks_of(data, protocol=protocol, split=split, stride=stride, seed=seed, pairs=pairs)
    subject.check(tasks)
    trials = _leakage_jobs(subject, tasks) if leakage else []
    if second_identity and (reason := missing_faceres()):
        raise ModelError(f"The second identity network can't be used: {reason} Or leave out --second-identity.")
    _make(folder.root)
    generated = [GeneratedJob(subject, task, second_identity) for task in tasks]
    real: list[Job] = [DrivingJob(task.driving, stride, second_identity) for task in tasks]
    if protocol == "cross":
        real += [SourceJob(task.source, second_identity) for task in tasks]
    # Real clips come first: what is generated is also compared with where their faces are.
    measured = measure_all([*real, *generated, *trials], folder, workers=workers, quiet=quiet)
    tables = [_table(job, folder) for job in generated]
    report = _report(subject, tables, data=data, protocol=protocol, split=split, stride=stride, seed=seed)
    if trials:
        report = _with_leakage(report, load_trials(trials, folder))
    metric = rank or next(name for name in (RANKED_BY[protocol], *tables[0].values) if name in tables[0].values)
    jobs = {job.task.name: job for job in generated}
    with whole_folder(output) as place:
        write_report(place, report, tables)
        if protocol == "cross":
            write_pairs(place / "pairs.csv", tasks)
        write_page(
            place / "index.html",
            report,
            tables,
            metric=metric,
            sheet=lambda table: load_generated(jobs[table.task.name], folder).sheet,
        )
    return Outcome(report, measured)


def _check(*, workers: int, seed: int, rank: str | None, protocol: Protocol, second: bool) -> None:
    """Raise ConfigError for options that can't be meant."""
    if workers < 1:
        raise ConfigError(f"The number of workers must be 1 or more, got {workers}.")
    if seed < 0:
        raise ConfigError(f"The seed must be 0 or more, got {seed}.")
    known = metrics_of_frames(protocol, second=second)
    if rank is not None and rank not in known:
        raise ConfigError(f"Clips can't be ranked by {rank!r}; choose from {', '.join(known)}.")


def _table(job: GeneratedJob, cache: Cache) -> ClipTable:
    """Only what is summed up of a clip is kept; its measures are read from the cache and let go."""
    task = job.task
    real = DrivingJob(task.driving, task.stride, job.second)
    faces = load_faces(real, cache)
    source = SourceJob(task.source, job.second) if task.protocol == "cross" else None
    return clip_table(
        task,
        load_generated(job, cache),
        faces[task.start // task.stride :],
        burst_points=load_burst_points(real, cache),
        source=faces[:1] if source is None else load_faces(source, cache),
        source_features=None if source is None else load_features(source, cache),
    )


def _leakage_jobs(subject: Subject, tasks: Sequence[Task]) -> list[LeakageJob]:
    if not isinstance(subject, Model):
        raise ConfigError(
            f"Leakage is measured by setting a model's motion by hand; {subject.name} ({subject.kind}) has only frames: leave "
            "out --leakage."
        )
    return jobs_of(subject, {task.driving.name: task.driving for task in tasks}.values())


def _with_leakage(report: Report, trials: Trials) -> Report:
    said = (
        f"Leakage: {trials.frames} pictures of {len(trials.rendered)} persons, each driven by the next one; no face found in "
        f"{trials.lost}. What the measuring alone gives: docs/leakage.md."
    )
    return replace(report.with_figures(leakage_figures(trials, seed=report.seed)), remarks=(*report.remarks, said))


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
        unavailable=_unavailable(protocol, {figure.definition.name for figure in figures}),
        remarks=tuple(subject.remarks(tasks)),
        **({} if subject.renderer is None else asdict(subject.renderer)),
    )


def _unavailable(protocol: Protocol, measured: set[str]) -> dict[str, str]:
    """The metrics that were not `measured`, by name, each with the reason."""
    reasons = {name: meaningless(name, protocol=protocol) for name in METRICS}
    # What nobody asked for is off, whether it could be measured here or not: a report says the same on every machine.
    every = unavailable() | _OFF | {name: reason for name, reason in reasons.items() if reason}
    for name, metric in METRICS.items():
        if metric.turned in measured:
            every.setdefault(name, f"No frame shows the head turned by {TURNED:g} degrees or more from the photo.")
    return {name: reason for name, reason in every.items() if name not in measured}


def _make(folder: Path) -> None:
    """Make a folder that can be written. Raises MediaError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{folder} can't be made a folder ({error.strerror}).") from error
    if not os.access(folder, os.W_OK):
        raise MediaError(f"{folder} isn't writable.")
