"""``mmfa run``: a request as a JSON file, such as another program writes."""

from __future__ import annotations

import argparse
from pathlib import Path

from .common import Commands, add_command, perform


def add_parser(commands: Commands) -> None:
    """Register ``run``."""
    run = add_command(
        commands,
        "run",
        "carry out a request that is written in a JSON file (docs/requests.md)",
        examples="""
            request.json
        """,
    )
    run.add_argument("file", type=Path, metavar="REQUEST.json", help='such as {"request": "animate", "source": "me.jpg", ...}')
    run.add_argument("--quiet", action="store_true", help="no progress bars and no report")
    run.set_defaults(run=_request)


def _request(options: argparse.Namespace) -> None:
    from ..requests import read_request

    perform(read_request(options.file), quiet=options.quiet)
