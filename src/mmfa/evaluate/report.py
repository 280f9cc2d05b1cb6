"""The report of one evaluation: written as report.json, report.md and clips.csv, read again to be compared."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..documents import read_json
from ..errors import MediaError
from ..media.files import atomic_output, check_input
from .definitions import Definition
from .figures import ClipTable, Figure, rounded
from .protocol import Protocol

FORMAT = "mmfa-report"
VERSION = 1
PROTOCOL_NAMES: dict[str, str] = {"same": "Same-identity", "cross": "Cross-identity"}
TABLE_1: dict[str, tuple[tuple[str, ...], ...]] = {
    "same": (("lpips", "lpips_lite0"), ("csim",), ("psnr",), ("apd_mesh",), ("akd_l1_mesh68",), ("aed_mean_abs",),
             ("fid", "fd_lite0")),
    "cross": (("csim",), ("apd_mesh",), ("aed_mean_abs",), ("fid", "fd_lite0")),
}  # fmt: skip
"""The columns of the paper's Table 1 in its order, each the first of these metrics that was measured."""
DASH = "\N{EN DASH}"
"""Where a table has no number."""
_ARROWS = {"lower": "↓", "higher": "↑", "nearer": "→"}


@dataclass(frozen=True, kw_only=True)
class Report:
    """All of an evaluation that is not one clip's.

    subject: what was evaluated; kind: model, predictions or copy-source; sha256: of the weights, or of all predicted frames.
    listing_sha256: see `protocol.listing_hash`. missed_*: frames in which no face was found. unavailable: metrics that were not
    measured, with the reason. engine, device, precision: of what computed the frames; None when nothing did here, and in reports
    of mmfa 0.6 and before.
    """

    subject: str
    kind: str
    sha256: str | None
    data: str
    split: str
    listing_sha256: str
    protocol: Protocol
    stride: int
    seed: int
    clips: int
    persons: int
    frames: int
    missed_generated: int
    missed_driving: int
    figures: tuple[Figure, ...]
    unavailable: dict[str, str]
    remarks: tuple[str, ...]
    engine: str | None = None
    device: str | None = None
    precision: str | None = None
    mmfa: str = __version__

    def figure(self, name: str) -> Figure | None:
        """The figure of a metric; None where it was not measured."""
        return next((figure for figure in self.figures if figure.definition.name == name), None)

    @property
    def plain_figures(self) -> tuple[Figure, ...]:
        """All but the leakage figures."""
        return tuple(figure for figure in self.figures if figure.definition.better != "nearer")

    @property
    def leaks(self) -> tuple[Figure, ...]:
        """The leakage figures: what is the better the nearer it is to an ideal."""
        return tuple(figure for figure in self.figures if figure.definition.better == "nearer")

    def with_figures(self, extra: Sequence[Figure]) -> Report:
        """The report with figures that were measured elsewhere (such as leakage), after its own; each brings its definition.

        Raises ValueError for a name that is there already.
        """
        names = [figure.definition.name for figure in (*self.figures, *extra)]
        if len(names) != len(set(names)):
            raise ValueError(f"figures must have different names, got {names}")
        return replace(self, figures=(*self.figures, *extra))

    def save(self, path: Path) -> None:
        """Write report.json: the same bytes for the same report. NaN becomes null."""
        text = json.dumps({"format": FORMAT, "version": VERSION} | _plain(asdict(self)), indent=1, ensure_ascii=False)
        _write(path, text + "\n")

    @staticmethod
    def load(path: Path) -> Report:
        """Raises MediaError for a file that is no report, damaged, or of another version."""
        try:
            record = read_json(check_input(path))
            if record["format"] != FORMAT:
                raise ValueError(f"format {record['format']!r}")
            if record["version"] == VERSION:
                known = {field.name for field in fields(Report)}
                values = {key: value for key, value in record.items() if key in known}
                values["figures"] = tuple(_figure(item) for item in record["figures"])
                values["remarks"] = tuple(record["remarks"])
                return Report(**values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, MediaError):
                raise
            raise MediaError(f"{path} is no report of mmfa evaluate, or damaged ({str(error)[:200]}).") from error
        raise MediaError(f"{path} is a report of version {record['version']}, this program reads version {VERSION}.")


def markdown(report: Report) -> str:
    """report.md: the columns of the paper's Table 1, then every figure with its interval, definition and counts."""
    columns = [figure for figure in table_1(report) if figure]
    lines = [
        f"# {PROTOCOL_NAMES[report.protocol]} evaluation of {report.subject}",
        "",
        *facts(report),
        "",
        "## As the paper's Table 1",
        "",
        "| method | " + " | ".join(title(figure) for figure in columns) + " |",
        "|---|" + "---|" * len(columns),
        f"| {report.subject} | " + " | ".join(number(figure.value) for figure in columns) + " |",
        "",
        "The columns have the paper's order and this evaluation's own extractors: figures can't be compared with published ones.",
        "",
        "## All figures",
        "",
        "| metric | value | 95 % interval over clips | unit | compared with | frames | clips | missed |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {title(f)} | {number(f.value)} | {interval(f)} | {f.definition.unit} | {f.reference} | "
            f"{f.frames} | {f.clips} | {f.missed} |"
            for f in report.plain_figures
        ),
        *_leakage(report.leaks),
        "",
        "## Definitions",
        "",
        "| metric | definition | extractor | version | source |",
        "|---|---|---|---|---|",
        *(definition_row(figure) for figure in report.figures),
    ]
    if report.unavailable:
        lines += ["", "## Not available", "", *(f"- `{name}`: {reason}" for name, reason in report.unavailable.items())]
    return "\n".join(lines) + "\n"


def _leakage(leaks: Sequence[Figure]) -> list[str]:
    """The section of the leakage figures, if there are any."""
    if not leaks:
        return []
    return [
        "",
        "## Leakage",
        "",
        "What moves that was not asked to move, and whether what was asked is done. Better: nearer to the ideal.",
        "",
        "| figure | value | 95 % interval over persons | unit | mark | compared with | pictures | persons | missed |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {title(f)} | {number(f.value)} | {interval(f)} | {f.definition.unit} | {mark(f)} | {f.reference} | "
            f"{f.frames} | {f.clips} | {f.missed} |"
            for f in leaks
        ),
    ]


def mark(figure: Figure) -> str:
    """How near is good enough, and whether the figure is; a dash without a mark."""
    passed = figure.definition.passes(figure.value)
    return DASH if passed is None else f"±{figure.definition.mark:g}: {'met' if passed else 'missed'}"


def facts(report: Report) -> list[str]:
    """What was measured on what, as a Markdown list."""
    weights = f" ({'weights' if report.kind == 'model' else 'frames'} sha256 `{report.sha256}`)" if report.sha256 else ""
    renderer = f", {report.engine} on {report.device} in {report.precision}" if report.engine else ""
    return [
        f"- {report.kind} `{report.subject}`{weights}{renderer}, mmfa {report.mmfa}",
        f"- `{report.data}`, split {report.split}: {report.clips} clips of {report.persons} persons, {report.frames} frames "
        f"(stride {report.stride}), listing sha256 `{report.listing_sha256}`, seed {report.seed}",
        f"- no face found in {report.missed_generated} generated and {report.missed_driving} driving frames",
        *(f"- {remark}" for remark in report.remarks),
    ]


def table_1(report: Report) -> list[Figure | None]:
    """The report's figures for the columns of the paper's Table 1."""
    return [next(filter(None, map(report.figure, names)), None) for names in TABLE_1[report.protocol]]


def title(figure: Figure) -> str:
    """A column's name with the direction of improvement, or the ideal."""
    ideal = "" if figure.definition.ideal is None else f" {figure.definition.ideal:g}"
    return f"`{figure.definition.name}` {_ARROWS[figure.definition.better]}{ideal}"


def number(value: float) -> str:
    """Four significant digits; a dash for nothing."""
    if math.isnan(value):
        return DASH
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def interval(figure: Figure) -> str:
    """The interval in words; a dash where there is none."""
    return DASH if math.isnan(figure.low) else f"{number(figure.low)} to {number(figure.high)}"


def definition_row(figure: Figure) -> str:
    """One row of the table of definitions."""
    d = figure.definition
    text = d.definition.replace("|", "\\|")
    return f"| `{d.name}` | {text} | {d.extractor} | {figure.version or DASH} | {d.source} |"


def clips_csv(tables: Sequence[ClipTable]) -> str:
    """One line for each clip: its names, counts, and the mean over its frames of each metric that belongs to a frame."""
    metrics = list(tables[0].values)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["name", "source", "driving", "frames", "missed_generated", "missed_driving", *metrics])
    for table in tables:
        task = table.task
        counts = [task.frames, table.missed_generated, table.missed_driving]
        means = [table.mean(metric) for metric in metrics]
        texts = ["" if math.isnan(mean) else f"{rounded(mean):.6g}" for mean in means]
        writer.writerow([task.name, task.source.name, task.driving.name, *counts, *texts])
    return buffer.getvalue()


def write_report(folder: Path, report: Report, tables: Sequence[ClipTable]) -> None:
    """report.json, report.md and clips.csv."""
    report.save(folder / "report.json")
    _write(folder / "report.md", markdown(report))
    _write(folder / "clips.csv", clips_csv(tables))


def _write(path: Path, text: str) -> None:
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _figure(record: dict[str, Any]) -> Figure:
    numbers = {key: math.nan if record[key] is None else float(record[key]) for key in ("value", "low", "high")}
    return Figure(**record | numbers | {"definition": Definition(**record["definition"])})


def _plain(value: Any) -> Any:
    """What JSON can hold: NaN as null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
