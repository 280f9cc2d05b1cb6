"""``mmfa prepare``: a folder of videos in, a data set out."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..media.files import Files
from .common import Commands, add_command, add_output, data_files, filled, say


def add_parser(commands: Commands) -> None:
    """Add the command ``prepare``."""
    parser = add_command(
        commands,
        "prepare",
        "make a data set of face clips from a folder of videos and pictures",
        examples="""
            VIDEOS -o data/mine
            VIDEOS -o data/mine --people folder --workers 4
        """,
    )
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="a folder, searched to its depth, or one file")
    add_output(parser, "DATASET", "the data set's folder, continued if it exists")
    parser.add_argument("--size", type=int, choices=(256, 512), default=256, help="side of the clips; default: 256")
    parser.add_argument("--fps", type=float, default=25.0, help="faster videos are thinned to at most this; default: 25")
    parser.add_argument("--min-face", type=float, metavar="PX", help="smallest face width in the source; default: size / 4")
    parser.add_argument("--min-seconds", type=float, default=1.0, metavar="S", help="shortest clip; default: 1")
    parser.add_argument(
        "--people",
        choices=("auto", "folder", "identity", "video"),
        default="auto",
        help="what tells persons apart: the first folder, the face, or the file; auto: the folder where there is one",
    )
    parser.add_argument("--val", type=float, default=0.1, metavar="SHARE", help="persons for validation; default: 0.1")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of persons for validation")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes; default: 1")
    parser.add_argument("--shards", type=float, metavar="MB", help="also write WebDataset shards of this size")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no report")
    parser.set_defaults(run=_prepare, files=_files)


def _files(options: argparse.Namespace) -> Files:
    from ..dataset.prepare import SHEET

    made = [*data_files(options.output), options.output / SHEET]
    return Files([options.videos], [*filled(options.output), *made], continues=True)


def _prepare(options: argparse.Namespace) -> None:
    from ..dataset.prepare import prepare

    names = ("size", "fps", "min_face", "min_seconds", "people", "val", "seed", "workers", "shards", "quiet")
    report = prepare(options.videos, options.output, **{name: getattr(options, name) for name in names})
    say(options, str(report))
