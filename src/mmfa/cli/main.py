"""``mmfa``: one program, a command for each thing it does; `mmfa COMMAND --help` says more."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from .. import __version__
from ..errors import MmfaError
from . import animate, edit, evaluate, prepare, run, train, vae
from .common import guarded, in_options, perform, request_from
from .process import Ended, OutputError, complain, ended_by_signals, flush_output, working_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status.

    0; 1 when nobody reads the output; 2 for bad input, or output that can't be written (one sentence on stderr); 130 for
    Ctrl-C, 143 for SIGTERM, 129 for SIGHUP. Raises SystemExit for usage and ``--help``, as argparse does.
    """
    with working_streams():
        try:
            with ended_by_signals():
                try:
                    _run(arguments)
                finally:
                    flush_output()
        except (MmfaError, FloatingPointError) as error:
            complain(f"mmfa: {error}")
            return 2
        except KeyboardInterrupt as signal:
            if isinstance(signal, Ended):
                complain(f"mmfa: ended by {signal.name}; no unfinished file was left.")
                return signal.status
            complain("mmfa: interrupted; no unfinished file was left.")
            return 130
        except OutputError as error:
            if error.unread:
                return 1
            complain(f"mmfa: {error}")
            return 2
    return 0


def _run(arguments: Sequence[str] | None) -> None:
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if hasattr(options, "request"):
            perform(request_from(options), quiet=options.quiet, word=in_options(options.parser))
            return
        with guarded(options):
            options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmfa", description="Animate a portrait photo from a driving video, and steer the motion."
    )
    parser.add_argument("--version", action="version", version=f"mmfa {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (animate, edit, vae, run, prepare, train, evaluate):
        module.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
