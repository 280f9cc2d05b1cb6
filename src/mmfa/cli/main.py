"""``mmfa``: one program, a command for each thing it does; `mmfa COMMAND --help` says more."""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Sequence

from .. import __version__
from ..errors import MmfaError
from . import animate, edit, evaluate, prepare, train, vae


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for bad input (one sentence on stderr), 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options.run(options)
    except (MmfaError, FloatingPointError) as error:
        print(f"mmfa: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mmfa: interrupted; no unfinished file was left.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmfa", description="Animate a portrait photo from a driving video, and steer the motion."
    )
    parser.add_argument("--version", action="version", version=f"mmfa {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (animate, edit, vae, prepare, train, evaluate):
        module.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
