"""Run a small converted network graph (`tools/convert_mediapipe.py`) in torch, differentiably.

A graph file is a safetensors file: float16 weights, and in its metadata a format version and the graph as
JSON. Nothing in it is executed; the list of operations is closed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mmfa.errors import ModelError

FORMAT = ("mmfa-graph", "1")
WEIGHTS = Path(__file__).parent / "weights"


class GraphNet(nn.Module):
    """A frozen network read from a graph file; weights are float32 buffers that stay out of ``state_dict``.

    ``forward(images)``: (B, *input_shape as C, H, W) -> list of output tensors, in the file's order:
    spatial maps flattened channels-last to (B, N), other tensors as they are, (B, N, C). Gradients reach
    the images.

    Raises `ModelError` for a missing or foreign file, ValueError for a wrong image shape.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if (metadata.get("format"), metadata.get("version")) != FORMAT:
                    raise ModelError(f"{path} is not a {' version '.join(FORMAT)} file")
                for name in file.keys():  # noqa: SIM118 (not a dict)
                    self.register_buffer(name, file.get_tensor(name).float(), persistent=False)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot read the network file {path}: {error}") from error
        graph = json.loads(metadata["graph"])
        height, width, channels = graph["input_shape"]
        self.input_shape = (channels, height, width)
        self.nodes: list[dict[str, Any]] = graph["nodes"]
        self._input: int = graph["input"]
        self._outputs: list[int] = graph["outputs"]
        for index, node in enumerate(self.nodes):
            if node["op"] not in _OPERATIONS:
                raise ModelError(f"{path} needs the unknown operation {node['op']!r}")
            if node["op"] == "landmark_frame":
                node["indices"] = f"subset{index}"
                self.register_buffer(node["indices"], torch.tensor(node["subset"]), persistent=False)
        last_use = {tensor: index for index, node in enumerate(self.nodes) for tensor in node["in"]}
        self._release: list[list[int]] = [
            [t for t in set(node["in"]) if last_use[t] == index and t not in self._outputs]
            for index, node in enumerate(self.nodes)
        ]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) of the file's shape -> its outputs, in its order; see the class."""
        if images.dim() != 4 or tuple(images.shape[1:]) != self.input_shape:
            raise ValueError(f"images must be (B, *{self.input_shape}), got {tuple(images.shape)}")
        values = {self._input: images.contiguous(memory_format=torch.channels_last)}  # a quarter faster on CPU
        for node, release in zip(self.nodes, self._release, strict=True):
            arguments = [values[index] for index in node["in"]]
            values[node["out"]] = _OPERATIONS[node["op"]](node, self._buffers, *arguments)
            for index in release:
                del values[index]
        return [_channels_last(values[index]).flatten(1) if values[index].dim() == 4 else values[index]
                for index in self._outputs]  # fmt: skip


Node = dict[str, Any]
Buffers = dict[str, Any]


def _conv(node: Node, buffers: Buffers, x: Tensor) -> Tensor:
    left, right, top, bottom = node["pad"]
    padding = (top, left)
    if (left, top) != (right, bottom):
        x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
    return F.conv2d(x, buffers[node["weight"]], buffers[node["bias"]], node["stride"], padding, 1, node["groups"])


def _prelu(node: Node, buffers: Buffers, x: Tensor) -> Tensor:
    return F.prelu(x, buffers[node["slope"]])


def _conv_transpose(node: Node, buffers: Buffers, x: Tensor) -> Tensor:
    return F.conv_transpose2d(x, buffers[node["weight"]], buffers[node["bias"]], node["stride"])


def _relu(_node: Node, _buffers: Buffers, x: Tensor) -> Tensor:
    return F.relu(x)


def _hard_swish(_node: Node, _buffers: Buffers, x: Tensor) -> Tensor:
    return F.hardswish(x)


def _sigmoid(_node: Node, _buffers: Buffers, x: Tensor) -> Tensor:
    return x.sigmoid()


def _mean(_node: Node, _buffers: Buffers, x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def _resize(node: Node, _buffers: Buffers, x: Tensor) -> Tensor:
    return F.interpolate(x, node["size"], mode="bilinear", align_corners=False)


def _max_pool(node: Node, _buffers: Buffers, x: Tensor) -> Tensor:
    return F.max_pool2d(x, node["kernel"], node["stride"])


def _pad_channels(node: Node, _buffers: Buffers, x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, 0, node["count"]))


def _add(_node: Node, _buffers: Buffers, x: Tensor, y: Tensor) -> Tensor:
    return x + y


def _multiply(_node: Node, _buffers: Buffers, x: Tensor, y: Tensor) -> Tensor:
    return x * y


def _scale(node: Node, buffers: Buffers, x: Tensor) -> Tensor:
    factor: Tensor = buffers[node["factor"]]
    return x * factor


def _concat(node: Node, _buffers: Buffers, *tensors: Tensor) -> Tensor:
    return torch.cat(tensors, node["axis"])


def _reshape(node: Node, _buffers: Buffers, x: Tensor) -> Tensor:
    y = (_channels_last(x) if x.dim() == 4 else x).reshape(x.shape[0], *node["shape"])
    return y.permute(0, 3, 1, 2) if y.dim() == 4 else y


def _landmark_frame(node: Node, buffers: Buffers, landmarks: Tensor) -> Tensor:
    """(B, 4, 4) map from pixels of an aligned sub-window to the frame of `landmarks` (B, N, 3).

    The window is the scaled bounding box of a subset of the landmarks in axes rotated so that the line
    between two of them is level; MediaPipe's Landmarks2TransformMatrix.
    """
    points = landmarks[..., :2]
    start, end = points[:, node["axis"][0]], points[:, node["axis"][1]]
    angle = node["angle"] - torch.atan2(end[:, 1] - start[:, 1], end[:, 0] - start[:, 0])
    cos, sin = angle.cos(), angle.sin()
    subset = points[:, buffers[node["indices"]]]
    x, y = subset[..., 0], subset[..., 1]
    level = torch.stack([cos[:, None] * x - sin[:, None] * y, sin[:, None] * x + cos[:, None] * y], -1)
    low, high = level.amin(1), level.amax(1)
    centre, extent = (low + high) / 2, high - low
    height, width = node["size"]
    scale_x, scale_y = node["scale"][0] * extent[:, 0] / width, node["scale"][1] * extent[:, 1] / height
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    xx, xy, yx, yy = cos * scale_x, sin * scale_y, -sin * scale_x, cos * scale_y
    shift_x = cos * centre[:, 0] + sin * centre[:, 1] - xx * width / 2 - xy * height / 2
    shift_y = -sin * centre[:, 0] + cos * centre[:, 1] - yx * width / 2 - yy * height / 2
    rows = [xx, xy, zero, shift_x, yx, yy, zero, shift_y, zero, zero, one, zero, zero, zero, zero, one]
    return torch.stack(rows, -1).reshape(-1, 4, 4)


def _sample_frame(node: Node, buffers: Buffers, features: Tensor, frame: Tensor) -> Tensor:
    """Sample `features` (B, C, H, W) bilinearly in the window of `frame`; zero where it leaves the map."""
    height, width = node["size"]
    rows, cols = features.shape[-2:]
    y = torch.arange(height, device=features.device, dtype=features.dtype) + 0.5
    x = torch.arange(width, device=features.device, dtype=features.dtype) + 0.5
    pixels = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1).reshape(1, -1, 2)
    at = _apply_frame(node, buffers, pixels.expand(len(features), -1, -1), frame) - 0.5
    at = at.reshape(-1, height, width, 2)
    limit = at.new_tensor([cols - 1, rows - 1])
    inside = ((at >= 0) & (at <= limit)).all(-1)[:, None]
    sampled = F.grid_sample(features, at / limit * 2 - 1, mode="bilinear", align_corners=True)
    return sampled * inside


def _apply_frame(_node: Node, _buffers: Buffers, points: Tensor, frame: Tensor) -> Tensor:
    return points @ frame[:, :2, :2].transpose(1, 2) + frame[:, None, :2, 3]


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "prelu": _prelu,
    "relu": _relu,
    "hard_swish": _hard_swish,
    "sigmoid": _sigmoid,
    "mean": _mean,
    "resize": _resize,
    "max_pool": _max_pool,
    "pad_channels": _pad_channels,
    "add": _add,
    "multiply": _multiply,
    "scale": _scale,
    "concat": _concat,
    "reshape": _reshape,
    "landmark_frame": _landmark_frame,
    "sample_frame": _sample_frame,
    "apply_frame": _apply_frame,
}
