"""The HTML page of a report: its figures, and the worst and best clips to look at. One file that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from ..media.files import atomic_output
from .definitions import METRICS
from .figures import ClipTable, Figure
from .report import PROTOCOL_NAMES, Report, facts, interval, mark, number

SHOWN = 3
"""Clips on each side, worst and best."""
RANKED_BY = {"same": "akd_l2_mesh478", "cross": "csim"}
"""The metric that sorts the clips unless another is chosen."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .15rem .7rem; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left } figure { margin: 1.5rem 0 } img { max-width: 100% }
code { font-size: 90%; overflow-wrap: anywhere }
"""


def ranking(tables: Sequence[ClipTable], metric: str) -> tuple[list[ClipTable], list[ClipTable]]:
    """The worst and the best clips, the most extreme first; no clip is in both. A clip without a value is among the worst."""
    sign = 1 if METRICS[metric].definition.better == "higher" else -1

    def quality(table: ClipTable) -> tuple[float, str]:
        mean = table.mean(metric)
        return (-math.inf if math.isnan(mean) else sign * mean), table.task.name

    order = sorted(tables, key=quality)
    worst = order[: min(SHOWN, math.ceil(len(order) / 2))]
    return worst, order[len(worst) :][::-1][:SHOWN]


def write_page(
    path: Path, report: Report, tables: Sequence[ClipTable], *, metric: str, sheet: Callable[[ClipTable], bytes]
) -> None:
    """Write the page. `sheet` gives the JPEG file of a clip: source and driving frames above, the generated frames below."""
    worst, best = ranking(tables, metric)
    heading = f"{PROTOCOL_NAMES[report.protocol]} evaluation of {report.subject}"
    lines = "".join(f"<li>{escape(fact.removeprefix('- ').replace('`', ''))}</li>" for fact in facts(report))
    clips = "".join(
        f"<h2>{name} by <code>{metric}</code></h2>" + "".join(_clip(table, metric, sheet(table)) for table in chosen)
        for name, chosen in (("Worst", worst), ("Best", best))
        if chosen
    )
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(heading)}</title>"
        f"<style>{_STYLE}</style></head>"
        f"<body><h1>{escape(heading)}</h1><ul>{lines}</ul>{clips}{_figures('All figures', report.plain_figures, 'clips')}"
        f"{_figures('Leakage', report.leaks, 'persons') if report.leaks else ''}</body></html>\n"
    )
    with atomic_output(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _figures(heading: str, figures: Sequence[Figure], over: str) -> str:
    """A heading and a table, one line for each figure."""
    rows = "".join(
        f"<tr><td><code title='{escape(f.definition.definition, quote=True)}'>{escape(f.definition.name)}</code></td>"
        f"<td>{number(f.value)}</td><td>{interval(f)}</td><td>{escape(f.definition.unit)}</td>"
        f"<td>{_aim(f)}</td><td>{f.frames}</td><td>{f.missed}</td></tr>"
        for f in figures
    )
    columns = ("metric", "value", f"95 % interval over {over}", "unit", "better", "frames", "missed")
    return f"<h2>{heading}</h2><table><tr>{''.join(f'<th>{name}</th>' for name in columns)}</tr>{rows}</table>"


def _aim(figure: Figure) -> str:
    definition = figure.definition
    if definition.ideal is None:
        return definition.better
    return f"{definition.ideal:g}" if definition.mark is None else f"{definition.ideal:g} {mark(figure)}"


def _clip(table: ClipTable, metric: str, jpeg: bytes) -> str:
    name, task = escape(table.task.name), table.task
    caption = (
        f"{name}: {number(table.mean(metric))}. Above: the source, then frames of {escape(task.driving.name)}; below: what was "
        f"generated. {task.frames} frames, {table.missed_generated} without a face."
    )
    image = base64.b64encode(jpeg).decode()
    return f"<figure><img alt='{name}' src='data:image/jpeg;base64,{image}'><figcaption>{caption}</figcaption></figure>"
