"""Named directions: what to add to f so that one measure of the face moves and the others stay, learned from data."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError
from ..expressions import NAMES, keypoint_measures
from ..models.mmfa import MMFA

STEPS, BATCH, RIDGE = 300, 96, 0.002
BOTH_WAYS = [NAMES.index(name) for name in ("smile", "brow_raise", "gaze_x", "gaze_y")]
"""Directions that are also meant to be walked backwards; a mouth or an eye that is closed can't close."""


def fit_directions(
    model: MMFA, feature: Tensor, canonical: Tensor, person: Tensor, weight: Tensor, *, seed: int = 0, steps: int = STEPS
) -> Tensor:
    """Directions (7,N), scaled so that 1 is the 95th percentile of a measure's deviation from its person's mean.

    Measures are taken on the model's own keypoints, x_c + D_exp(f, x_c), of features (T,N) and canonical keypoints (T,K,3)
    with weights (T,). Start: the mean Jacobian J of the measures and the covariance S within persons give the most likely
    changes of f that move one measure alone, ``S J^T (J S J^T)^-1``. Then least squares on the true effects, by Adam:
    own measure as asked, others still, over frames and strengths, with a ridge in the metric of S. Raises ConfigError when
    a measure doesn't move in the data.
    """
    decoder = model.expression_decoder

    def measured(f: Tensor, x_c: Tensor) -> Tensor:
        return keypoint_measures(x_c + decoder(f, x_c)).stack()

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        seen = torch.cat([measured(f, x_c) for f, x_c in zip(feature.split(4096), canonical.split(4096), strict=True)])
    deviation = within_person(seen, person)
    spread, reach = weighted_spread(deviation, weight), weighted_quantile(deviation, weight, 0.95)
    if not bool((spread > 1e-7).all()) or not bool((reach > 1e-7).all()):
        still = ", ".join(name for name, moves in zip(NAMES, (spread > 1e-7) & (reach > 1e-7), strict=True) if not moves)
        raise ConfigError(f"No direction can be learned: {still} never changes in the data as this model decodes it.")
    offset = within_person(feature, person)
    covariance = offset.T @ (weight[:, None] * offset)
    covariance += 1e-4 * covariance.diag().mean() * torch.eye(len(covariance))
    root = torch.linalg.cholesky(covariance)
    target = torch.diag(reach / spread)
    walked = torch.zeros(len(NAMES), dtype=torch.bool).index_fill(0, torch.tensor(BOTH_WAYS), True)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        index = torch.multinomial(weight, count, replacement=True, generator=generator)
        return feature[index], canonical[index]

    start = _mean_jacobian(measured, *draw(1000))
    alone = covariance @ start.T @ torch.linalg.pinv(start @ covariance @ start.T)
    change = torch.linalg.solve_triangular(root, alone * reach, upper=False).T.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([change], 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        f, x_c = draw(BATCH)
        strength = 0.3 + 0.7 * torch.rand(BATCH, len(NAMES), 1, generator=generator)
        backwards = (torch.rand(BATCH, len(NAMES), generator=generator) < 0.5) & walked
        strength = torch.where(backwards[..., None], -strength, strength)
        moved = (f[:, None] + strength * (change @ root.T)).flatten(0, 1)
        effect = measured(moved, x_c.repeat_interleave(len(NAMES), 0)).unflatten(0, (BATCH, len(NAMES)))
        error = (effect - measured(f, x_c)[:, None]) / spread / strength - target
        loss = error.square().mean(0).sum() + RIDGE * change.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    learned: Tensor = (change @ root.T).detach()
    return learned


def within_person(values: Tensor, person: Tensor) -> Tensor:
    """Values (T,M) less the mean over their person's frames, person (T,) counted from 0."""
    total = values.new_zeros(int(person.max()) + 1, values.shape[1]).index_add_(0, person, values)
    return values - (total / torch.bincount(person)[:, None])[person]


def weighted_spread(values: Tensor, weight: Tensor) -> Tensor:
    """Root mean square (M,) of values (T,M) under weights (T,) of sum 1."""
    return (weight @ values.square()).sqrt()


def weighted_quantile(values: Tensor, weight: Tensor, share: float) -> Tensor:
    """The smallest values (M,) that at least `share` of the weight (T,) of values (T,M) does not exceed."""
    ordered, order = values.sort(0)
    return ordered.gather(0, (weight[order].cumsum(0) < share).sum(0, keepdim=True).clamp(max=len(values) - 1))[0]


def _mean_jacobian(measured, feature: Tensor, canonical: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """Mean derivative (7,N) of the measures by f, over frames."""
    feature = feature.clone().requires_grad_(True)
    totals = measured(feature, canonical).sum(0)
    rows = [torch.autograd.grad(total, feature, retain_graph=True)[0].mean(0) for total in totals]
    return torch.stack(rows)
