"""The options that benchmarks and experiments share, each of one name and one meaning."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmfa.errors import MmfaError
from mmfa.media.files import atomic_output

_SHARED: dict[str, tuple[str, dict[str, Any]]] = {
    "data": (
        "data",
        {"type": Path, "metavar": "DATA", "help": "a data set, or a folder of square face-crop clips (docs/data.md)"},
    ),
    "cache": ("--cache", {"type": Path, "metavar": "DIR", "help": "what is read of the clips is kept here, as by mmfa train"}),
    "split": ("--split", {"default": "val", "help": "of the data set"}),
    "fps": ("--fps", {"type": float, "default": 8.4, "help": "frames a second that are read of a clip"}),
    "model": ("--model", {"default": "lite", "metavar": "MODEL", "help": "a shipped model by name, or a folder"}),
    "frames": ("--frames", {"type": int, "help": "how many frames are looked at"}),
    "seed": ("--seed", {"type": int, "default": 0, "help": "of everything random"}),
    "threads": ("--threads", {"type": int, "default": 1, "help": "of the processor"}),
    "json": ("--json", {"type": Path, "metavar": "FILE", "help": "also write the figures to a file"}),
    "quiet": ("--quiet", {"action": "store_true", "help": "no progress, the result alone"}),
}
ALWAYS = ("threads", "json", "quiet")
"""What every benchmark takes."""


def parser(doc: str | None, *names: str, **changes: dict[str, Any]) -> argparse.ArgumentParser:
    """A parser whose description is the script's docstring, with the shared options of these names.

    changes: what an option has otherwise here, as keywords of `add_argument`, by its name; a change of its help comes after the
    shared one.
    """
    made = argparse.ArgumentParser(description=doc, formatter_class=_Help)
    for name in dict.fromkeys((*names, *changes)):
        flag, settings = _SHARED[name]
        change = dict(changes.get(name, {}))
        if "help" in change:
            change["help"] = f"{settings['help']}; {change['help']}"
        made.add_argument(flag, **settings | change)
    return made


def parse(parser: argparse.ArgumentParser, words: list[str] | None = None) -> argparse.Namespace:
    """The options; torch then has the threads that are asked for."""
    options = parser.parse_args(words)
    if "threads" in options:
        import torch  # here, so that a script can choose first what OpenMP reads of the environment when torch loads it

        torch.set_num_threads(options.threads)
    return options


def save(path: Path | None, figures: object) -> None:
    """What was measured, for --json."""
    if path is not None:
        with atomic_output(path) as temporary:
            temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def run(main: Callable[[], None]) -> None:
    """A script's main; what a user can mend is one sentence and exit status 2, as it is of mmfa."""
    try:
        main()
    except MmfaError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The docstring as it is, and defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        said = action.help and action.default is not None and action.default is not False
        return super()._get_help_string(action) if said else action.help
