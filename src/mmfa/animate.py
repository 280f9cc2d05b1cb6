"""For people at a prompt: a `Session` and a current photo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .device import Precision, pick_device
from .driving import Tracked
from .engine.torch import TorchEngine
from .media.image import Array
from .motion import Motion
from .portrait import PortraitModel, Signal
from .relative import Mode, Modes, motion_distance, parse_modes, relative_motion
from .session import RESOLUTION, Anchor, AnimateReport, Photo, Session
from .watch import Watch
from .weights import from_pretrained

__all__ = [
    "RESOLUTION", "Anchor", "AnimateReport", "Animator", "Mode", "Modes", "Photo", "Tracked",
    "motion_distance", "parse_modes", "pick_device", "relative_motion",
]  # fmt: skip


class Animator:
    """Animate one photo by many motions: `set_source` once, `render` as often as you like.

    >>> animator = Animator.from_pretrained("lite")
    >>> animator.set_source("me.jpg")
    >>> for frame in animator.render(animator.relative(animator.motion_of("talk.mp4").signal)): ...
    """

    def __init__(self, model: PortraitModel[Any, Any], *, device: str = "auto", precision: Precision = "auto") -> None:
        self.session = Session(TorchEngine(model, device=device, precision=precision))
        self.source: Photo | None = None

    @classmethod
    def from_pretrained(cls, name: str | Path = "lite", *, device: str = "auto", precision: Precision = "auto") -> Animator:
        """A shipped model by name, or one from a folder; `precision`: see `pick_precision`. Raises ModelError."""
        return cls(from_pretrained(name), device=device, precision=precision)

    def set_source(self, image: Array | str | Path, *, face: int = 0, crop: bool = True) -> Photo:
        """The photo to animate; see `Session.photo`."""
        self.source = self.session.photo(image, face=face, crop=crop)
        return self.source

    def motion_of(self, video: str | Path | Iterable[Array], **options: Any) -> Tracked[Any]:
        """See `Session.track`."""
        return self.session.track(video, **options)

    def relative(self, motion: Motion, *, anchor: Anchor = "auto", mode: Modes = "relative") -> Motion:
        """See `Session.relative`."""
        return self.session.relative(self.photo, motion, anchor=anchor, mode=mode)

    def render(self, signal: Signal, **options: Any) -> Iterator[Array]:
        """See `Session.render`."""
        return self.session.render(self.photo, signal, **options)

    def write(self, signal: Signal, output: str | Path, **options: Any) -> None:
        """See `Session.write`."""
        self.session.write(self.photo, signal, output, **options)

    def animate(self, driving: str | Path, output: str | Path, *, watch: Watch | None = None, **options: Any) -> AnimateReport:
        """See `Session.animate`."""
        return self.session.animate(self.photo, driving, output, watch=watch, **options)

    @property
    def photo(self) -> Photo:
        """The current photo. Raises ValueError before there is one."""
        if self.source is None:
            raise ValueError("No source photo yet: call set_source first.")
        return self.source
