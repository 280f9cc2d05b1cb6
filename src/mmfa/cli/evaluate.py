"""``mmfa evaluate`` and ``mmfa compare``: measure a model on a data set, and put reports side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..evaluate.bursts import STRIDE
from ..media.files import Files
from .common import Commands, add_command, add_output, data_files, say
from .process import tell

if TYPE_CHECKING:
    from ..evaluate.subjects import Subject


def add_parser(commands: Commands) -> None:
    """Add the commands ``evaluate`` and ``compare``."""
    evaluate = add_command(
        commands,
        "evaluate",
        "measure a model, or clips that any model generated, on a data set",
        examples="""
            data/mine -o reports/lite
            data/mine -o reports/theirs --predictions FRAMES
        """,
    )
    evaluate.add_argument("data", type=Path, metavar="DATA", help="a prepared data set, or a folder of square face clips")
    add_output(evaluate, "REPORT_FOLDER", "the folder where the report goes", required=False)
    evaluate.add_argument("--list", action="store_true", help="print name, frames and size of the clips to generate, and stop")
    what = evaluate.add_mutually_exclusive_group()
    what.add_argument("--model", default="lite", metavar="NAME|DIR", help="a shipped model or a folder; default: lite")
    what.add_argument("--predictions", type=Path, metavar="DIR", help="clips of any model: DIR/NAME/000001.png … or DIR/NAME.mp4")
    what.add_argument("--copy-source", action="store_true", help="every output is the source: what doing nothing scores")
    evaluate.add_argument("--protocol", choices=("same", "cross"), default="same", help="default: same identity")
    evaluate.add_argument("--pairs", type=Path, metavar="FILE.csv", help="columns source,driving; default: drawn by seed")
    evaluate.add_argument("--seed", type=int, default=0, help="of the pairs and of the intervals; default: 0")
    evaluate.add_argument("--split", help="default: val; all of a folder without an index, as --split all takes of any")
    evaluate.add_argument("--stride", type=int, default=STRIDE, metavar="N", help=f"measure every N-th frame; default: {STRIDE}")
    evaluate.add_argument("--leakage", action="store_true", help="also what moves that was not asked to move (models only)")
    evaluate.add_argument(
        "--second-identity", action="store_true", help="also csim_faceres; tools/convert_faceres.py makes its weights"
    )
    evaluate.add_argument("--rank", metavar="METRIC", help="what makes a clip the worst or the best on the page")
    evaluate.add_argument("--cache", type=Path, metavar="DIR", help="measures that are kept; default: .cache beside the report")
    evaluate.add_argument("--workers", type=int, default=1, metavar="N", help="processes; default: 1")
    evaluate.add_argument("--quiet", action="store_true", help="no progress bar and no report on the terminal")
    evaluate.set_defaults(run=_evaluate, files=_evaluate_files)

    compare = add_command(
        commands,
        "compare",
        "reports of mmfa evaluate in one table, if they are comparable",
        examples="""
            reports/lite/report.json reports/theirs/report.json
            reports/lite/report.json reports/theirs/report.json -o table.md
        """,
    )
    compare.add_argument("reports", type=Path, nargs="+", metavar="REPORT.json")
    add_output(compare, "TABLE.md", "a text file; default: the terminal", required=False)
    compare.add_argument("--quiet", action="store_true", help="no word about what was replaced")
    compare.set_defaults(run=_compare, files=lambda o: Files(o.reports, [] if o.output is None else [o.output]))


def _evaluate_files(options: argparse.Namespace) -> Files:
    from ..evaluate.run import FILES
    from ..requests.base import model_files

    reads = [*data_files(options.data), *([options.pairs] if options.pairs else []), *model_files(options.model)]
    return Files(reads, [options.output / name for name in FILES] if options.output is not None else [])


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    """What says which clips are meant."""
    return {name: getattr(options, name) for name in ("protocol", "split", "stride", "seed", "pairs")}


def _subject(options: argparse.Namespace) -> Subject:
    """What is measured."""
    from ..evaluate.predictions import Predictions
    from ..evaluate.subjects import CopySource, Model

    if options.predictions is not None:
        return Predictions(options.predictions)
    return CopySource() if options.copy_source else Model(options.model)


def _evaluate(options: argparse.Namespace) -> None:
    from ..evaluate.report import markdown
    from ..evaluate.run import evaluate

    if options.list:
        return _list(options)
    if options.output is None:
        raise ConfigError("Where should the report go? Add -o REPORT_FOLDER (or --list to see the clips).")
    given = {name: getattr(options, name) for name in ("rank", "leakage", "second_identity", "cache", "workers", "quiet")}
    outcome = evaluate(options.data, options.output, subject=_subject(options), **_chosen(options), **given)
    if not options.quiet:
        tell(markdown(outcome.report).partition("\n## Definitions")[0])
    say(options, f"{options.output}: report.json, report.md, clips.csv, index.html.")


def _list(options: argparse.Namespace) -> None:
    from ..evaluate.protocol import tasks_of

    for task in tasks_of(options.data, **_chosen(options) | {"stride": 1}):
        tell(task.expected())


def _compare(options: argparse.Namespace) -> None:
    from ..evaluate.report import Report
    from ..evaluate.tables import compare
    from ..media.files import atomic_output

    if len(options.reports) < 2:
        raise ConfigError("One report has nothing to be compared with; name two or more.")
    reports = [Report.load(path) for path in options.reports]
    subjects, paths = [report.subject for report in reports], [str(path) for path in options.reports]
    table = compare(reports, names=subjects if len(set(subjects)) == len(subjects) else paths)
    if options.output is None:
        return tell(table.removesuffix("\n"))
    with atomic_output(options.output) as temporary:
        temporary.write_text(table, encoding="utf-8")
