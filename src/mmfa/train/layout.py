"""How weights lie in memory."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def channels_last(*networks: nn.Module) -> None:
    """Lay the weights of 2D convolutions out as GPUs multiply them fastest, channels innermost, in place; values stay.

    `Module.to(memory_format=...)` would do the same to weights of rank 5, those of 3D convolutions, and torch has no such
    layout for them.
    """
    for network in networks:
        for parameter in network.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def as_weights_lie(optimizer: torch.optim.Optimizer) -> None:
    """Lay an optimiser's moments out as their weights, in place: those of a checkpoint are contiguous, and a mixture is slow."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(value)
