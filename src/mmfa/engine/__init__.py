"""Engines: a model on a device. Whoever animates speaks to `Engine`; which one computes is chosen when a session is made."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from ..portrait import Card, FaceInput, Rendered, Signal


class Engine(Protocol):
    """A model that is ready to run. It owns device, precision, graph and threads, and keeps no state between calls.

    name: such as ``torch``. batch: frames that are best rendered together.
    """

    name: str
    batch: int

    @property
    def precision(self) -> str:
        """What it computes in."""

    @property
    def card(self) -> Card:
        """What the model is and can do."""

    def signal(self, face: FaceInput) -> Any:
        """What drives a frame, for each face of the batch; on the CPU."""

    def window(self, signal: Signal) -> Tensor | None:
        """`PortraitModel.window`, on the CPU."""

    def prepare(self, face: FaceInput, view: Tensor | None = None) -> Any:
        """All that one photo needs, once; see `PortraitModel.prepare`."""

    def render(self, prepared: Any, signal: Signal, *, gain: Tensor | None = None) -> Rendered:
        """One prepared photo under B signals, float32 on the CPU."""

    def gain(self, *, lips: float, eyes: float) -> Tensor | None:
        """What `render` takes to scale lips and eyes apart. Raises ModelError for a model that can't."""
