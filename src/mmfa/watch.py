"""Who watches long work: is told of every step, may end it, and collects what there is to say about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from .errors import Cancelled

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """stage: what is being done, such as ``motion`` or ``render``. done: how many frames of it. total: of how many, if known."""

    stage: str
    done: int
    total: int | None


@dataclass
class Watch:
    """One piece of work as seen by whoever asked for it; one Watch for each.

    on_progress: called at the start of a stage, after each of its frames, in the thread that works. cancelled: asked before each
    frame. notes: sentences for the person who asked, in order, each once.
    """

    on_progress: Callable[[Progress], None] | None = None
    cancelled: Callable[[], bool] | None = None
    notes: list[str] = field(default_factory=list)

    def over(self, items: Iterable[T], stage: str, total: int | None = None) -> Iterator[T]:
        """The items, one after the other. Raises Cancelled where the work is no longer wanted."""
        self._tell(stage, 0, total)
        for count, item in enumerate(items, 1):
            if self.cancelled is not None and self.cancelled():
                raise Cancelled("Cancelled; no unfinished file was left.")
            yield item
            self._tell(stage, count, total)

    def note(self, text: str) -> None:
        """Something worth knowing, once."""
        if text not in self.notes:
            self.notes.append(text)

    def warn(self, text: str) -> None:
        """A note that something was done otherwise than asked for."""
        self.note(text)

    def _tell(self, stage: str, done: int, total: int | None) -> None:
        if self.on_progress is not None:
            self.on_progress(Progress(stage, done, total))
