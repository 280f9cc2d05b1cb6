"""Two measured clips, frame by frame: the errors of the generated face."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import MediaError
from .definitions import NOTHING, OF_FACES, SOURCE, Metric, of_frames
from .extractors import FaceMeasures


def face_errors(generated: FaceMeasures, driving: FaceMeasures, *, source: FaceMeasures | None = None) -> dict[str, Tensor]:
    """Compare two clips of T consecutive frames, frame by frame: values (T,) by metric, in the units of `METRICS`.

    NaN where a face was missed; the identity metrics are empty (0,) where their network isn't there. Identity is compared with
    `source`, a measure of one frame, when given (cross-identity), else with the driving frame.
    Raises MediaError when the clips differ in length: frames are never dropped to make them fit.
    """
    if len(generated) != len(driving):
        raise MediaError(f"The generated clip has {len(generated)} frames, the driving clip {len(driving)}.")
    if source is not None and len(source) != 1:
        raise ValueError(f"the source must be one frame, got {len(source)}")
    repeated = driving if source is None else source[torch.zeros(len(generated), dtype=torch.long)]
    return {
        metric.name: _values(metric, generated, repeated if metric.references.get("cross") == SOURCE else driving)
        for metric in of_frames(*OF_FACES)
    }


def _values(metric: Metric, generated: FaceMeasures, reference: FaceMeasures) -> Tensor:
    """Of one metric (T,), or (0,) without its network."""
    assert metric.needs is not None
    own, other = getattr(generated, metric.needs), getattr(reference, metric.needs)
    if own.dim() > 1 and not own.shape[1]:
        return torch.zeros(0, dtype=torch.float64)
    values: Tensor = metric.compute(own) if metric.references["same"] == NOTHING else metric.compute(own, other)
    return values
