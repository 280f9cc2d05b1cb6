"""Folding batch norm into the convolution or linear layer before it: the same function, in eval mode, in less time."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

M = TypeVar("M", bound=nn.Module)


def fold_batch_norms(model: M) -> M:
    """A copy of `model` (in eval mode) in which every batch norm that directly follows a layer in a Sequential is folded."""
    folded = copy.deepcopy(model)
    for module in folded.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for index in range(len(module) - 1):
            layer, norm = module[index], module[index + 1]
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[index], module[index + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
            elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                module[index], module[index + 1] = fuse_linear_bn_eval(layer, norm), nn.Identity()
    return folded
