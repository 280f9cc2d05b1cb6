"""Several reports in one table: only what was measured alike stands side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..documents import read_json
from ..errors import ConfigError, MediaError
from .figures import Figure
from .report import DASH, PROTOCOL_NAMES, TABLE_1, Report, definition_row, interval, number, title

PUBLISHED = "published.json"
LAYOUT = "tables.json"
_SAME = ("protocol", "split", "stride", "seed", "listing_sha256")
_WORDS = {"listing_sha256": "data (the listing's hash)"}
_FIRST = ("copy", "lite")


@dataclass(frozen=True)
class Table:
    """One table of a protocol: rows are shown names by the labels of stored reports, in their order. note: what the rows have
    in common, such as the budget of a training; heading: empty for the only table.
    """

    heading: str
    note: str
    rows: dict[str, str]


def check_fair(reports: Sequence[Report], *, names: Sequence[str]) -> None:
    """Raises ConfigError, with the reason, when figures of the reports can't be compared: they were measured on other data, by
    another protocol, stride or seed, or by another definition or extractor.
    """
    first, name = reports[0], names[0]
    for other, other_name in zip(reports[1:], names[1:], strict=True):
        for field in _SAME:
            a, b = getattr(first, field), getattr(other, field)
            if a != b:
                what = _WORDS.get(field, field)
                raise ConfigError(
                    f"{name} and {other_name} can't be compared: their {what} differs, {_short(a)} and {_short(b)}."
                )
        for figure in first.figures:
            same = other.figure(figure.definition.name)
            if same and (reason := _difference(figure, same)):
                raise ConfigError(f"{name} and {other_name} can't be compared: {figure.definition.name} differs in its {reason}.")


def compare(reports: Sequence[Report], *, names: Sequence[str]) -> str:
    """One Markdown table: metrics down, reports across, the best of each row in bold. Raises like `check_fair`."""
    check_fair(reports, names=names)
    metrics: dict[str, Figure] = {f.definition.name: f for report in reports for f in report.figures}
    lines = [
        f"{PROTOCOL_NAMES[reports[0].protocol]}, {reports[0].clips} clips, {reports[0].frames} frames; brackets: 95 % intervals.",
        "",
        "| metric | unit | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(reports),
    ]
    for name, any_figure in metrics.items():
        figures = [report.figure(name) for report in reports]
        cells = _cells(figures)
        lines.append(f"| {title(any_figure)} | {any_figure.definition.unit} | " + " | ".join(cells) + " |")
    remarks = [f"- {name}: {remark}" for name, report in zip(names, reports, strict=True) for remark in report.remarks]
    return "\n".join([*lines, "", *remarks]).rstrip() + "\n"


def results_page(folder: Path, *, place: str = "results", pages: str = "") -> str:
    """docs/results.md from the reports stored as ``LABEL-PROTOCOL.json`` in `folder`, its tables.json and its
    published.json, if it has one. place: what the page calls the folder; pages: how links to the other pages begin.

    tables.json says which reports share a table, in which order and under which names; a row without a report is left out.
    Without it all reports of a protocol share one. Raises MediaError for a file that can't be read, a name without a protocol or
    a report in no table, ConfigError for reports that can't stand in one table.
    """
    stored = {path.stem: Report.load(path) for path in sorted(folder.glob("*.json")) if path.name not in (PUBLISHED, LAYOUT)}
    if not stored:
        raise MediaError(f"{folder} holds no report; mmfa evaluate makes them.")
    lines = [
        "# Results",
        "",
        f"Made by `python tools/results.py` from the reports in `{place}/`; no number here was typed. In brackets: the 95 %",
        f"interval over clips. What the metrics mean: [metrics]({pages}metrics.md). How to measure: "
        f"[evaluation]({pages}evaluation.md).",
    ]
    definitions: dict[str, Figure] = {}
    for protocol, heading in PROTOCOL_NAMES.items():
        chosen = {_label(stem, protocol): report for stem, report in stored.items() if report.protocol == protocol}
        if not chosen:
            continue
        lines += ["", f"## {heading}"]
        for table in _layout(folder / LAYOUT, chosen):
            rows = {shown: chosen[label] for label, shown in table.rows.items() if label in chosen}
            if not rows:
                continue
            lines += ["", *([f"### {table.heading}", ""] if table.heading else []), *([table.note, ""] if table.note else [])]
            lines += _section(rows)
            definitions |= {f.definition.name: f for report in rows.values() for f in report.figures}
    if (folder / PUBLISHED).exists():
        lines += ["", *_published(folder / PUBLISHED)]
    lines += ["", "## Definitions", ""]
    lines += ["| metric | definition | extractor | version | source |", "|---|---|---|---|---|"]
    lines += [definition_row(figure) for figure in definitions.values()]
    first = next(iter(stored.values()))
    lines += ["", "## Not available", "", *(f"- `{name}`: {reason}" for name, reason in first.unavailable.items())]
    return "\n".join(lines) + "\n"


def _section(rows: dict[str, Report]) -> list[str]:
    """The tables of one protocol: the columns of Table 1, and everything else."""
    reports = list(rows.values())
    check_fair(reports, names=list(rows))
    first = reports[0]
    wanted = [name for names in TABLE_1[first.protocol] for name in names]
    metrics: dict[str, Figure] = {f.definition.name: f for report in reports for f in report.figures}
    columns = [name for name in wanted if name in metrics]
    leaks = [f.definition.name for report in reports for f in report.leaks]
    rest = [name for name in metrics if name not in columns and name not in leaks]
    lines = [
        f"Private data set, split {first.split}: {first.clips} clips of {first.persons} persons, {first.frames} frames (every "
        f"{_ordinal(first.stride)} frame), seed {first.seed}, listing sha256 `{first.listing_sha256[:16]}`.",
        "",
        "The paper's columns, by the extractors that are at hand:",
        "",
        *_table(rows, columns, metrics),
        "",
        "Everything else:",
        "",
        *_transposed(rows, rest, metrics),
        "",
    ]
    if leaks:
        lines += ["Leakage, the better the nearer to the ideal; in brackets the interval over persons:", ""]
        lines += [*_transposed(rows, list(dict.fromkeys(leaks)), metrics), ""]
    for label, report in rows.items():
        weights = f", weights sha256 `{report.sha256[:16]}`" if report.sha256 else ""
        lines.append(
            f"- {label}: {report.kind}{weights}, mmfa {report.mmfa}; no face found in {report.missed_generated} generated and "
            f"{report.missed_driving} driving frames. {' '.join(report.remarks)}".rstrip()
        )
    return lines


def _layout(path: Path, chosen: Mapping[str, Report]) -> list[Table]:
    """The tables of one protocol's reports."""
    if not path.exists():
        ordered = sorted(chosen, key=lambda label: (_place(label), label))
        return [Table("", "", {label: label for label in ordered})]
    try:
        listed = read_json(path)
        tables = [Table(item["heading"], item["note"], dict(item["rows"])) for item in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MediaError(f"{path} is no list of tables with heading, note and rows ({error!r}).") from error
    if lost := sorted(chosen.keys() - {label for table in tables for label in table.rows}):
        raise MediaError(f"{path} puts {', '.join(lost)} into no table; add a row.")
    return tables


def _table(rows: dict[str, Report], names: list[str], metrics: dict[str, Figure]) -> list[str]:
    columns = [_cells([report.figure(name) for report in rows.values()]) for name in names]
    return [
        "| method | " + " | ".join(title(metrics[name]) for name in names) + " |",
        "|---|" + "---|" * len(names),
        *(f"| {label} | " + " | ".join(column[i] for column in columns) + " |" for i, label in enumerate(rows)),
    ]


def _transposed(rows: dict[str, Report], names: list[str], metrics: dict[str, Figure]) -> list[str]:
    return [
        "| metric | unit | " + " | ".join(rows) + " |",
        "|---|---|" + "---|" * len(rows),
        *(
            f"| {title(metrics[name])} | {metrics[name].definition.unit} | "
            + " | ".join(_cells([report.figure(name) for report in rows.values()]))
            + " |"
            for name in names
        ),
    ]


def _published(path: Path) -> list[str]:
    """The rows of papers, apart from ours: other data, other extractors."""
    try:
        record: dict[str, Any] = read_json(path)
        columns = [f"{name} {arrow}" for name, arrow in record["columns"]]
        lines = [
            f"## Published figures ({record['source']})",
            "",
            f"**{record['mark']}** {record['note']}",
            "",
            "| method | " + " | ".join(columns) + " |",
            "|---|" + "---|" * len(columns),
        ]
        for row in record["rows"]:
            if len(row["values"]) != len(columns):
                raise ValueError(f"{row['method']} has {len(row['values'])} values for {len(columns)} columns")
            lines.append(f"| {row['method']} | " + " | ".join(value or DASH for value in row["values"]) + " |")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MediaError(f"{path} is no file of published figures ({error}).") from error
    return lines


def _cells(figures: Sequence[Figure | None]) -> list[str]:
    """Values with their intervals, the best one in bold."""
    ranks = [f.definition.badness(f.value) for f in figures if f and not math.isnan(f.value)]
    best = min(ranks) if len(figures) > 1 and ranks else None
    cells = []
    for figure in figures:
        if figure is None or math.isnan(figure.value):
            cells.append(DASH)
            continue
        text = f"**{number(figure.value)}**" if figure.definition.badness(figure.value) == best else number(figure.value)
        cells.append(text if math.isnan(figure.low) else f"{text} ({interval(figure)})")
    return cells


def _difference(a: Figure, b: Figure) -> str | None:
    for what, one, other in (
        ("definition", a.definition.definition, b.definition.definition),
        ("unit", a.definition.unit, b.definition.unit),
        ("extractor", a.definition.extractor, b.definition.extractor),
        ("extractor's version", a.version, b.version),
        ("reference", a.reference, b.reference),
    ):
        if one != other:
            return f"{what}, {one!r} and {other!r}"
    return None


def _label(stem: str, protocol: str) -> str:
    if not stem.endswith(f"-{protocol}"):
        raise MediaError(f"{stem}.json is a report of the protocol {protocol}; name it LABEL-{protocol}.json.")
    return stem.removesuffix(f"-{protocol}")


def _place(label: str) -> int:
    """Copying first, then the shipped model, then the rest by name."""
    return next((place for place, start in enumerate(_FIRST) if label.startswith(start)), len(_FIRST))


def _ordinal(stride: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(stride % 10, "th") if stride % 100 not in (11, 12, 13) else "th"
    return "" if stride == 1 else f"{stride}{ending}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:12]}..."
