"""A kind of model of the tests' own: as small as the contract lets a model be, and none of this package's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmfa.portrait import Card, FaceInput, PortraitModel, Rendered, Signal
from mmfa.registry import Kind, registered
from mmfa.weights import save_pretrained


@dataclass(frozen=True)
class ToyParams:
    size: int = 48


@dataclass(frozen=True, kw_only=True)
class Light(Signal):
    """level: (B,1), how bright a driving face is, in [0,1]."""

    level: Tensor


class Toy(PortraitModel[Light, Tensor]):
    """Shows the photo as brightly as the driving face is lit. What it prepares is the photo's crop."""

    def __init__(self, params: ToyParams) -> None:
        super().__init__()
        self.params = params
        self.strength = nn.Parameter(torch.tensor(0.5))

    @property
    def card(self) -> Card:
        return Card(kind="toy", size=self.params.size)

    def signal(self, face: FaceInput) -> Light:
        return Light(level=face.image.mean((1, 2, 3))[:, None])

    def prepare(self, face: FaceInput, view: Tensor | None = None) -> Tensor:
        assert view is None, "it has no window"
        return face.image

    def render(self, prepared: Tensor, signal: Light, *, gain: Tensor | None = None) -> Rendered:
        own = prepared.mean((1, 2, 3))[:, None]
        change = 1 + self.strength * (signal.level - own)
        return Rendered(patch=(prepared * change[:, :, None, None]).clamp(0, 1))


@pytest.fixture(scope="session")
def toy_kind() -> Iterator[Kind]:
    with registered(Kind(name="toy", params=ToyParams, build=Toy, sizes={"toy": ToyParams})) as kind:
        yield kind


@pytest.fixture(scope="session")
def toy(toy_kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a toy model, saved as any other."""
    folder = tmp_path_factory.mktemp("models") / "toy"
    save_pretrained(toy_kind.build(ToyParams()), folder)
    return folder
