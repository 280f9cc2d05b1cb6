"""Reading several feature maps at the same places."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import warp

Sampling = Literal["grid_sample", "table"]
"""How places are read: by torch's own `grid_sample`, or, in a fraction of its time on a CPU and without gradients to the places,
as sums of the rows of a table."""


class Sampler:
    """`geometry.warp` by one grid (B,H,W,2), of as many feature maps as you like.

    ``table``: the places are worked out once per size of map, and `embedding_bag` sums the corners, the same sums as
    `grid_sample`'s, all channels of a corner being read together. shared: maps are one photo's, expanded for the whole batch.
    """

    def __init__(self, grid: Tensor, sampling: Sampling, *, shared: bool = False) -> None:
        self.grid, self.sampling, self.shared = grid, sampling, shared
        self._corners: dict[torch.Size, tuple[Tensor, Tensor]] = {}

    def read(self, features: Tensor, factor: Tensor | None = None) -> Tensor:
        """Features (B,C,h,w) at the grid's places, (B,C,H,W), times `factor` (B,1,H,W) if given."""
        if self.sampling == "grid_sample":
            read = warp(features, self.grid)
            return read if factor is None else factor * read
        batch, channels = features.shape[:2]
        size = features.shape[2:]
        if size not in self._corners:
            self._corners[size] = _corners(self.grid, size)
        index, weight = self._corners[size]
        if batch > 1 and not self.shared:
            first = torch.arange(batch, dtype=index.dtype) * size.numel()
            index = (index.unflatten(0, (batch, -1)) + first[:, None, None]).flatten(0, 1)
        else:
            features = features[:1]
        if factor is not None:
            weight = weight * factor.reshape(-1, 1)
        table = features.permute(0, 2, 3, 1).reshape(-1, channels).to(self.grid.dtype)
        starts = torch.arange(0, index.numel(), 4, dtype=index.dtype)
        read = F.embedding_bag(index.flatten(), table, starts, mode="sum", per_sample_weights=weight.flatten())
        return read.reshape(*self.grid.shape[:-1], channels).permute(0, 3, 1, 2)


def _corners(grid: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
    """For every place of a grid, the four nearest pixels of a map of `size`, as rows of its table, and their shares.

    Returns both (places,4). Places outside the map are moved to its border.
    """
    height, width = size
    x = ((grid[..., 0].flatten() + 1) * ((width - 1) / 2)).clamp(0, width - 1)
    y = ((grid[..., 1].flatten() + 1) * ((height - 1) / 2)).clamp(0, height - 1)
    left, top = x.floor().clamp(max=max(0, width - 2)), y.floor().clamp(max=max(0, height - 2))
    right, bottom = x - left, y - top
    row, across, down = (top * width + left).to(torch.int32), min(1, width - 1), min(1, height - 1) * width
    rows = [row, row + across, row + down, row + (down + across)]
    shares = [(1 - right) * (1 - bottom), right * (1 - bottom), (1 - right) * bottom, right * bottom]
    return torch.stack(rows, 1), torch.stack(shares, 1)
