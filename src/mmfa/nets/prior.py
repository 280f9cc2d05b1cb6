"""The distance prior on the masks of `lite`'s dense motion: log-Gaussians around the keypoints, as one matrix product."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .anchors import GROUPS

_BACKGROUND_LOGIT = -8.0
_DEPTH_COUNTS = 0.3


def add_prior(logits: Tensor, points: Tensor, keypoints: Tensor, *, width: Tensor, part_width: Tensor | None = None) -> Tensor:
    """Logits (B,K+1,P) plus the log-Gaussian of each point (P,n) around each keypoint (B,K,n), n = 2 or 3; depth counts less.

    The first mask is the background's, whose logit is constant. width: (B,K), of each keypoint. With `part_width` (B,1) an
    eye reaches as far as its keypoints' width, but inside it the nearest keypoint wins sharply: the upper lid of a
    closed eye still is not the lower one, although both keypoints lie within a pixel.

    Every logit is linear in 1, p, |p|^2 and the least distance to either eye's keypoints: one product of K+1 rows of
    coefficients with these few features of the points, instead of many passes over K+1 maps.
    """
    metric = points.new_tensor([1.0, 1.0, _DEPTH_COUNTS][: points.shape[1]]).sqrt()
    place, centre = points * metric, keypoints * metric
    features = torch.stack([torch.ones_like(place[:, 0]), *place.unbind(1), place.square().sum(1)]).expand(len(centre), -1, -1)
    reach = 1 / (2 * width[..., None] ** 2)
    rows = -reach * _squared_distance(centre)
    if part_width is not None:
        rows = F.pad(rows, (0, len(GROUPS)))
        for number, group in enumerate(map(list, GROUPS)):
            # Relative to the eye's middle the numbers are small: differences of nearly equal distances keep their digits.
            middle = centre[:, group].mean(1, keepdim=True)
            beyond = _squared_distance(centre[:, group]) - _squared_distance(middle)
            features = torch.cat([features, (beyond @ features[:, : beyond.shape[2]]).amin(1, keepdim=True)], 1)
            sharp, wide = 1 / (2 * part_width[..., None] ** 2), reach[:, group]
            nearest = F.one_hot(torch.tensor(number), len(GROUPS)).to(rows) * (sharp - wide)
            rows[:, group] = torch.cat([-sharp * beyond - wide * _squared_distance(middle), nearest], 2)
    background = F.pad(torch.full_like(rows[:, :1, :1], _BACKGROUND_LOGIT), (0, rows.shape[2] - 1))
    return torch.baddbmm(logits, torch.cat([background, rows], 1), features)


def _squared_distance(centre: Tensor) -> Tensor:
    """Coefficients (B,K,n+2) of the squared distance to centres (B,K,n) in 1, p and |p|^2."""
    return torch.cat([centre.square().sum(2, keepdim=True), -2 * centre, torch.ones_like(centre[..., :1])], 2)
