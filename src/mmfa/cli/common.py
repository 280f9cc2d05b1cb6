"""What several commands share: options, and how they speak."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..animate import SourcePhoto


def add_model(parser: argparse.ArgumentParser) -> None:
    """``--model`` and ``--device``."""
    parser.add_argument("--model", default="lite", metavar="NAME|DIR", help="a shipped model or a folder; default: lite")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")


def add_common(parser: argparse.ArgumentParser) -> None:
    """``--face`` and ``--quiet``."""
    parser.add_argument("--face", type=index, default=0, metavar="N", help="which face, largest first; default: 0")
    parser.add_argument("--quiet", action="store_true", help="no progress bars and no report")


def index(text: str) -> int:
    """An argparse type: 0 or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def say(options: argparse.Namespace, text: str) -> None:
    """A line for the person at the terminal, unless ``--quiet``."""
    if not options.quiet:
        print(text, file=sys.stderr)


def say_which_face(options: argparse.Namespace, path: Path, photo: SourcePhoto) -> None:
    """Name the choice when a photo shows several faces."""
    if photo.faces > 1:
        say(options, f"{path} shows {photo.faces} faces; took number {options.face} by size (choose with --face).")
