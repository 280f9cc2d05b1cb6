"""The distance prior on the masks of `lite`'s dense motion: log-Gaussians around the keypoints, as one matrix product."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_BACKGROUND_LOGIT = -8.0
_ABSENT_LOGIT = -40.0
_DEPTH_COUNTS = 0.3


def add_prior(logits: Tensor, points: Tensor, keypoints: Tensor, *, width: Tensor, absent: Sequence[int] = ()) -> Tensor:
    """Logits (B,K+1,P) plus the log-Gaussian of each point (P,n) around each keypoint (B,K,n), n = 2 or 3; depth counts less.

    The first mask is the background's, whose logit is constant. width: (B,K), of each keypoint. Keypoints that are `absent`
    get no mask worth the name.

    Every logit is linear in 1, p and |p|^2: one product of K+1 rows of coefficients with these few features of the points,
    instead of many passes over K+1 maps.
    """
    metric = points.new_tensor([1.0, 1.0, _DEPTH_COUNTS][: points.shape[1]]).sqrt()
    place, centre = points * metric, keypoints * metric
    features = torch.stack([torch.ones_like(place[:, 0]), *place.unbind(1), place.square().sum(1)])
    squared = torch.cat([centre.square().sum(2, keepdim=True), -2 * centre, torch.ones_like(centre[..., :1])], 2)
    rows = -squared / (2 * width[..., None] ** 2)
    flat = F.pad(torch.ones_like(rows[:, :1, :1]), (0, rows.shape[2] - 1))
    if absent:
        rows = rows.index_copy(1, torch.tensor(absent, device=rows.device), _ABSENT_LOGIT * flat.expand(-1, len(absent), -1))
    return torch.baddbmm(logits, torch.cat([_BACKGROUND_LOGIT * flat, rows], 1), features.expand(len(rows), -1, -1))
