"""The reference engine: torch, on any device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..device import Precision, pick_device, pick_precision
from ..nets.fold import for_inference
from ..nets.sampling import Sampling
from ..portrait import Card, FaceInput, PortraitModel, Rendered, Signal


class TorchEngine:
    """A model, folded for inference, on a device of torch's.

    model: what runs, in eval mode. device: see `pick_device`. precision: see `pick_precision`; keypoints and signals are float32.
    """

    name = "torch"

    def __init__(self, model: PortraitModel[Any, Any], *, device: str = "auto", precision: Precision = "auto") -> None:
        self.device = pick_device(device)
        self.dtype = pick_precision(precision, self.device)
        # A table is the faster way to read places on a CPU; other devices have their own.
        sampling: Sampling = "table" if self.device.type == "cpu" else "grid_sample"
        self.model = for_inference(model.eval().requires_grad_(False), sampling=sampling).to(self.device)
        self.batch = 1 if self.device.type == "cpu" else 4  # the caches of a CPU hold no more

    @property
    def card(self) -> Card:
        """What the model is and can do."""
        return self.model.card

    @property
    def precision(self) -> str:
        """What it computes in: float32 or bfloat16."""
        return str(self.dtype).removeprefix("torch.")

    @torch.no_grad()
    def signal(self, face: FaceInput) -> Any:
        """What drives a frame, for each face of the batch; on the CPU."""
        return self.model.signal(face.to(self.device)).to("cpu")

    def window(self, signal: Signal) -> Tensor | None:
        """`PortraitModel.window`, on the CPU."""
        return self.model.window(signal)

    @torch.no_grad()
    def prepare(self, face: FaceInput, view: Tensor | None = None) -> Any:
        """All that one photo needs, once; on the engine's device."""
        face = face.to(self.device)
        return self.model.prepare(face) if view is None else self.model.prepare(face, view.to(self.device))

    @torch.no_grad()
    def render(self, prepared: Any, signal: Signal, *, gain: Tensor | None = None) -> Rendered:
        """One prepared photo under B signals, float32 on the CPU."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            rendered = self.model.render(prepared, signal.to(self.device), gain=gain)
        layer = rendered.layer
        return Rendered(patch=rendered.patch.float().cpu(), layer=None if layer is None else layer.to("cpu"))

    def gain(self, *, lips: float, eyes: float) -> Tensor | None:
        """Factors for `render`, on the engine's device; None where both are 1. Raises ModelError for a model that can't."""
        return self.model.gain(lips=lips, eyes=eyes)
