"""Batch norm whose statistics are those of all processes, on the CPU, where torch's own is not available."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _over_processes(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]  # torch gives it no annotations
    return total


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the batches of all processes, so that N processes learn as one with an N times larger batch."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """input: (B,C,...), as many samples in every process."""
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        x = input.float()
        axes, shape = [0, *range(2, x.dim())], [1, -1] + [1] * (x.dim() - 2)
        total = x.numel() // x.shape[1] * dist.get_world_size()  # every process has the same number of samples
        mean = _over_processes(x.sum(axes)) / total
        centred = x - mean.view(shape)
        variance = _over_processes(centred.square().sum(axes)) / total
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
            momentum = self.momentum if self.momentum is not None else 0.1
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * total / max(1, total - 1), momentum)
            self.num_batches_tracked += 1
        y = centred * (variance + self.eps).rsqrt().view(shape)
        return (y * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)


def synchronise_batch_norms(module: nn.Module, *, cuda: bool) -> nn.Module:
    """Make every batch norm of `module` work over all processes; torch's own on CUDA. Weights and names stay."""
    if cuda:
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for child in module.modules():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            child.__class__ = SyncBatchNorm  # type: ignore[assignment]  # same state, another forward
    return module
