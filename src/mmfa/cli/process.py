"""What a program owes the terminal and the system it runs in: streams that always work, and signals that end it cleanly."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TextIO

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


class Ended(KeyboardInterrupt):
    """A signal other than Ctrl-C's asked the program to end; it unwinds like Ctrl-C. `status`: the exit status for it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.name, self.status = signal.Signals(number).name, 128 + number


class OutputError(Exception):
    """Standard output takes nothing more. `unread`: for nobody reads it any more, which is no fault."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output cannot be written: {(error.strerror or str(error)).lower()}.")
        self.unread = isinstance(error, BrokenPipeError)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise `Ended` where SIGTERM, SIGHUP or Ctrl-Break would end the process on the spot, with its files half written.

    What is ignored stays so (`nohup`). Only the main thread can do this; in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    taken = [number for number, handler in before.items() if handler is signal.SIG_DFL]

    def end(number: int, _frame: FrameType | None) -> None:
        for again in taken:  # a second one must not break off what the first has begun
            signal.signal(again, signal.SIG_IGN)
        if os.name == "posix":  # Ctrl-C reaches the worker processes, and this must too
            for child in multiprocessing.active_children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid or 0, signal.SIGINT)
        raise Ended(number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


@contextlib.contextmanager
def working_streams() -> Iterator[None]:
    """Make standard output and error streams that take any text: letters that the terminal lacks become escapes.

    A closed standard error swallows what it is told. A closed standard output refuses it, so that `flush_output` tells.
    """
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    errors = [getattr(stream, "errors", None) for stream in before]
    sys.stdout, sys.stderr = (_stream(stream, number) for number, stream in enumerate(before, start=1))
    try:
        yield
    finally:
        for stream, handler in zip(before, errors, strict=True):
            if isinstance(stream, io.TextIOWrapper) and not stream.closed:
                with contextlib.suppress(OSError):
                    stream.reconfigure(errors=handler)
        sys.stdout, sys.stderr = before


def _open_closed_descriptors() -> None:
    """Open something in place of a closed descriptor 0, 1 or 2: else the next file gets its number, and the program's words."""
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            place = os.open(os.devnull, flags)
            if place == number:
                os.set_inheritable(place, True)
            else:
                os.dup2(place, number)
                os.close(place)


def _stream(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:
        return open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    # In UTF-8 the names of files that are no UTF-8 pass as they are with "surrogateescape", as Python sets it in the C locale.
    if isinstance(stream, io.TextIOWrapper) and (
        stream.errors == "strict" or (stream.errors == "surrogateescape" and stream.encoding.lower() != "utf-8")
    ):
        stream.reconfigure(errors="backslashreplace")
    return stream


def complain(text: str) -> None:
    """A line on standard error, if it takes one: that it can't be told is no reason for not doing the work."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """A line on standard output: what was asked for, and not a word about it. Raises OutputError where it can't be written."""
    with _output():
        print(text)


def flush_output() -> None:
    """Write out what standard output holds. Raises OutputError where it can't."""
    with _output():
        sys.stdout.flush()


@contextlib.contextmanager
def _output() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # From now on it swallows everything: Python tries once more at its end, and would print a trace.
        with contextlib.suppress(OSError, ValueError):
            place = os.open(os.devnull, os.O_WRONLY)
            os.dup2(place, sys.stdout.fileno())
            os.close(place)
        raise OutputError(error) from error
