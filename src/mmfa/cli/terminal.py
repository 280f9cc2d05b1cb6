"""Long work before the eyes of whoever sits at a terminal: progress bars, and what there is to say about it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

from tqdm import tqdm

from ..watch import Progress, Watch
from .process import complain


class TerminalWatch(Watch):
    """Draws a bar for each stage, and prints each note at once, unless `quiet`. Bars are drawn where a terminal can show them.

    word: turns a note into the sentence that is printed.
    """

    def __init__(self, *, quiet: bool, word: Callable[[str], str] = str) -> None:
        super().__init__(on_progress=None if quiet else self._draw)
        self.quiet, self.word = quiet, word
        self._bar: tqdm[NoReturn] | None = None
        self._stage = ""

    def __enter__(self) -> TerminalWatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def note(self, text: str) -> None:
        """Printed at once, unless `quiet`."""
        if not self.quiet:
            self._say(text)
        super().note(text)

    def warn(self, text: str) -> None:
        """Printed even when `quiet`."""
        self._say(text, before="mmfa: ")
        super().note(text)

    def _say(self, text: str, *, before: str = "") -> None:
        if text not in self.notes:
            self._close()
            complain(before + self.word(text))

    def _draw(self, progress: Progress) -> None:
        if self._bar is None or progress.stage != self._stage or progress.done == 0:
            self._close()
            self._bar = tqdm(desc=progress.stage, total=progress.total, unit="frame", disable=None)
            self._stage = progress.stage
        self._bar.update(progress.done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
