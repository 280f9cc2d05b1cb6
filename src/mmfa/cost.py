"""What a model costs: parameters, and multiply-accumulates (MACs) of convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from .portrait import FaceInput, Per, PortraitModel
from .priors.landmarks import FaceLandmarker
from .registry import build


@dataclass(frozen=True)
class NetworkCost:
    """One network: its parameters, the MACs of one run at batch 1, and what it runs for."""

    name: str
    parameters: int
    macs: int
    per: Per


def cost(model: PortraitModel[Any, Any], *, landmarker: FaceLandmarker | None = None) -> list[NetworkCost]:
    """Costs of the frozen landmark mesh and of every network of `model`, in the order in which they run.

    Counted on a twin whose tensors hold no data, so `model` is not run. Sampling and element-wise work is not counted.
    """
    costs = [_landmark_cost(landmarker or FaceLandmarker())]
    with FakeTensorMode(), torch.no_grad():
        twin = build(model.params).eval()
        macs = dict.fromkeys(model.runs_per, 0)
        with FlopCounterMode(display=False) as counter:
            for name in model.runs_per:
                _record(getattr(twin, name), name, counter, macs)
            face = blank_face(model.card.size, mesh_points=len(getattr(twin, "mean_mesh", ())) or 478)
            twin.render(twin.prepare(face), twin.signal(face))
    for name, per in model.runs_per.items():
        parameters = sum(parameter.numel() for parameter in getattr(model, name).parameters())
        costs.append(NetworkCost(name, parameters, macs[name], per))
    return costs


def total_per_driving_frame(costs: Iterable[NetworkCost]) -> int:
    """MACs of one driving frame: everything but what runs once per source photo."""
    return sum(entry.macs for entry in costs if entry.per != "source photo")


def format_table(costs: list[NetworkCost]) -> str:
    """A plain-text table with a line of totals, for people."""
    rows = [("network", "parameters", "GMAC", "runs once per")]
    rows += [(c.name, f"{c.parameters / 1e6:.3f} M", f"{c.macs / 1e9:.3f}", c.per) for c in costs]
    parameters = sum(c.parameters for c in costs) / 1e6
    rows.append(("total", f"{parameters:.3f} M", f"{total_per_driving_frame(costs) / 1e9:.3f}", "driving frame"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in rows]
    return "\n".join(lines)


def _record(network: nn.Module, name: str, counter: FlopCounterMode, macs: dict[str, int]) -> None:
    """Keep the MACs of `network`'s latest run in ``macs[name]``."""
    started = 0

    def before(*_: object) -> None:
        nonlocal started
        started = counter.get_total_flops()

    def after(*_: object) -> None:
        macs[name] = (counter.get_total_flops() - started) // 2

    network.register_forward_pre_hook(before)
    network.register_forward_hook(after)


def _landmark_cost(landmarker: FaceLandmarker) -> NetworkCost:
    size = landmarker.network.input_shape[1]
    device = landmarker.lips.device
    roi = torch.tensor([[size / 2, size / 2, size, 0.0]], device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        landmarker(torch.zeros(1, 3, size, size, device=device), roi)
    weights: list[Tensor] = [buffer for buffer in landmarker.buffers() if buffer.is_floating_point()]
    return NetworkCost("landmarks (frozen)", sum(w.numel() for w in weights), counter.get_total_flops() // 2, "both")


def blank_face(size: int, *, mesh_points: int) -> FaceInput:
    """One black crop of side `size` with the landmarks of nobody, for a model to be run on once."""
    return FaceInput(
        image=torch.zeros(1, 3, size, size),
        mesh=torch.zeros(1, mesh_points, 3),
        rotation=torch.eye(3)[None],
        scale=torch.ones(1, 1),
        translation=torch.zeros(1, 3),
    )
