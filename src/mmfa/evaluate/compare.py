"""Two measured clips, frame by frame: the errors of the generated face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import MediaError
from . import metrics
from .extractors import FaceMeasures


@dataclass(frozen=True)
class FaceErrors:
    """Errors (T,) of the faces of one generated clip, named and in the units of `DEFINITIONS`; NaN where a face was missed.

    The identity metrics are empty (0,) where their network isn't there.
    """

    csim: Tensor
    csim_faceres: Tensor
    aed_l2: Tensor
    aed_sq: Tensor
    aed_mean_abs: Tensor
    apd_mesh: Tensor
    akd_l1_mesh68: Tensor
    akd_l2_mesh68: Tensor
    akd_l2_mesh478: Tensor
    akd_l2_lips40: Tensor
    mkr: Tensor
    rotation_error: Tensor
    gaze_error: Tensor
    jitter: Tensor
    jitter_excess: Tensor


def face_errors(generated: FaceMeasures, driving: FaceMeasures, *, source: FaceMeasures | None = None) -> FaceErrors:
    """Compare two clips of consecutive frames, frame by frame.

    Identity is compared with `source`, a measure of one frame, when given (cross-identity), else with the driving frame.
    Raises MediaError when the clips differ in length: frames are never dropped to make them fit.
    """
    if len(generated) != len(driving):
        raise MediaError(f"The generated clip has {len(generated)} frames, the driving clip {len(driving)}.")
    if source is not None and len(source) != 1:
        raise ValueError(f"the source must be one frame, got {len(source)}")
    reference = driving if source is None else source[torch.zeros(len(generated), dtype=torch.long)]
    dlib = (generated.identity, reference.identity)
    return FaceErrors(
        csim=_if_there(metrics.csim, *dlib),
        csim_faceres=_if_there(metrics.csim_faceres, generated.faceres, reference.faceres),
        aed_l2=_if_there(metrics.aed_l2, *dlib),
        aed_sq=_if_there(metrics.aed_sq, *dlib),
        aed_mean_abs=_if_there(metrics.aed_mean_abs, *dlib),
        apd_mesh=metrics.apd_mesh(generated.rotation, driving.rotation),
        akd_l1_mesh68=metrics.akd_l1_mesh68(generated.points, driving.points),
        akd_l2_mesh68=metrics.akd_l2_mesh68(generated.points, driving.points),
        akd_l2_mesh478=metrics.akd_l2_mesh478(generated.points, driving.points),
        akd_l2_lips40=metrics.akd_l2_lips40(generated.points, driving.points),
        mkr=metrics.mkr(generated.found, driving.found),
        rotation_error=metrics.rotation_error(generated.rotation, driving.rotation),
        gaze_error=metrics.gaze_error(generated.points, driving.points),
        jitter=metrics.jitter(generated.points),
        jitter_excess=metrics.jitter_excess(generated.points, driving.points),
    )


def _if_there(metric: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    return metric(a, b) if a.shape[1] else torch.zeros(0, dtype=torch.float64)
