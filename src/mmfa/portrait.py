"""The contract between models and everything else: what a model takes, what drives it, what it gives back, what it can do.

Data flows one way: a face crop becomes a prepared photo, once, or a signal, for every driving frame; a model renders the one
under the other. Whoever animates, edits, measures or serves models knows them by this module alone; `mmfa.registry` finds them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from torch import Tensor, nn

from .errors import ModelError

Per = Literal["source photo", "driving frame", "both"]
Ability = Literal["edit", "expressions", "amplitude", "keypoints", "anchored"]
_REFUSALS: dict[Ability, str] = {
    "edit": "can't be edited: what drives it has no rotation, scale, translation and expression apart",
    "expressions": "has no expression space: it knows no expression feature",
    "amplitude": "has free keypoints: it has no lips or eyes to scale apart; leave both factors at 1",
    "keypoints": "has no keypoints",
    "anchored": "has free keypoints: none of them lies on a landmark",
}


@dataclass(frozen=True)
class Card:
    """What a model is and can do.

    kind: its name in `mmfa.registry`. size: side of the square crop that it takes and renders, in pixels.
    abilities: ``edit``, its signal is a `Motion`, whose attributes can be set and taken from elsewhere, relative motion included;
        ``expressions``, that motion has an expression feature for which there can be an expression VAE; ``amplitude``, lips and
        eyes can be scaled apart; ``keypoints``, it is a `KeypointModel`; ``anchored``, its keypoints lie on mesh vertices.
    needs_pixels: its signal can't be read from landmarks alone.
    view: side of the square that it draws, in pixels, if that is its `PortraitModel.window`; else 0.
    """

    kind: str
    size: int
    abilities: frozenset[Ability] = frozenset()
    needs_pixels: bool = True
    view: int = 0

    def supports(self, ability: Ability) -> bool:
        """Whether the model can do this."""
        return ability in self.abilities

    @property
    def reframes(self) -> bool:
        """Whether its signal can be moved to another crop: only a motion that doesn't hang on what the crop shows."""
        return "edit" in self.abilities and not self.needs_pixels

    def require(self, ability: Ability) -> None:
        """Raise ModelError, in one sentence, for what the model can't do."""
        if ability not in self.abilities:
            raise ModelError(f"A model of the kind {self.kind!r} {_REFUSALS[ability]}.")


@dataclass(frozen=True)
class FaceInput:
    """One batch of face crops with what the frozen priors say of them.

    image: (B,3,S,S) in [0,1]; (B,3,0,0) where nobody needs it. mesh: (B,478,3), pose-normalised landmarks in the template's
    frame.
    rotation (B,3,3), scale (B,1), translation (B,3): the landmark pose (`mmfa.priors.pose`).
    """

    image: Tensor
    mesh: Tensor
    rotation: Tensor
    scale: Tensor
    translation: Tensor

    def to(self, device: torch.device | str) -> FaceInput:
        """The same on a device."""
        return FaceInput(*(getattr(self, part.name).to(device) for part in fields(self)))

    def __getitem__(self, index: slice | Tensor) -> FaceInput:
        """Some faces of the batch."""
        return FaceInput(*(getattr(self, part.name)[index] for part in fields(self)))

    @staticmethod
    def concatenate(faces: Sequence[FaceInput]) -> FaceInput:
        """Faces of one size, one after the other."""
        return FaceInput(*(torch.cat([getattr(face, part.name) for face in faces]) for part in fields(FaceInput)))


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What drives B frames: a dataclass of tensors (B,...) and, where they are a clip, their frame rate `fps`."""

    fps: float | None = None

    def _tensors(self) -> dict[str, Tensor]:
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in self._tensors().items()}
        return replace(self, **changed)

    def __len__(self) -> int:
        return len(next(iter(self._tensors().values())))

    def __getitem__(self, index: int | slice | Tensor) -> Self:
        """One frame (kept as a batch of one), a slice or an index tensor."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"frame {index} of {len(self)}")
            index = slice(index, index + 1 or None)
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Self:
        """The same on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def expand(self, count: int) -> Self:
        """A batch of one, repeated `count` times."""
        return self._map(lambda tensor: tensor.expand(count, *tensor.shape[1:]))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Signals one after the other; the frame rate is the first one's."""
        if not parts:
            raise ValueError("Nothing to concatenate: the list of signals is empty.")
        tensors: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in parts[0]._tensors()}
        return replace(parts[0], **tensors)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What moves in B frames, for whoever composes them at the photo's own resolution (`mmfa.compose`).

    Places are in the grid of the signal's crop, [-1,1]. x is the photo, moved by `flow`; over it comes the model's drawing,
    ``lerp(x + tint, paint, share)``, and where the mirror image of the photo shows more than the photo, x is that.

    window (B,3): centre (x, y) and half a side of the square in the driving position that everything else covers, corners on
    corners. source (B,3): the square of the photo that the flows' [-1,1] stands for.
    flow (B,h,w,2): where a place of the window comes from in `source`. jacobian (B,2,2): how places come to lie outside the
    window, driving to source, per unit of the crop's grid.
    outline (B,n,2): of the face, in the driving position. unit (B,1): of the canonical face, in the crop's grid.
    follow (B,1,n,n): by how much more than in the closed form of `compose.person` what is around the face moves as the head does,
    on a square three windows wide; 0 at its edge.
    paint (B,3,S,S), share (B,1,S,S), tint (B,3,S,S): the drawing.
    mirror (B,h,w,2): as `flow`, into the mirror image of `source`. mirrored (B,1,h,w) in [0,1]: how far that is x.
    light (B,3,n,n): by what its colours are multiplied. All three are None where nothing of it shows.
    """

    window: Tensor
    source: Tensor
    flow: Tensor
    jacobian: Tensor
    outline: Tensor
    unit: Tensor
    follow: Tensor
    paint: Tensor
    share: Tensor
    tint: Tensor
    mirror: Tensor | None = None
    mirrored: Tensor | None = None
    light: Tensor | None = None

    def _map(self, change: Callable[[Tensor], Tensor]) -> Layer:
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        changed: dict[str, Any] = {name: None if value is None else change(value) for name, value in values.items()}
        return Layer(**changed)

    def to(self, device: torch.device | str) -> Layer:
        """In single precision."""
        return self._map(lambda tensor: tensor.to(device).float())

    def __len__(self) -> int:
        return len(self.window)

    def __getitem__(self, index: int) -> Layer:
        """One frame, kept as a batch of one."""
        return self._map(lambda tensor: tensor[index : index + 1])


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """patch: (B,3,S,S) in [0,1], the rendered crop; in its `layer`'s window, or, without one, at the place of the photo's."""

    patch: Tensor
    layer: Layer | None = None


S = TypeVar("S", bound=Signal)
P = TypeVar("P")


class PortraitModel(nn.Module, ABC, Generic[S, P]):
    """A model that animates portraits. It knows no files, no priors and no training; a subclass knows its own networks.

    P, the prepared photo, is whatever the model wants to compute once for each photo; nobody else looks into it.
    """

    params: Any
    """A dataclass of numbers, from which the registry builds an equal model."""
    runs_per: ClassVar[Mapping[str, Per]] = {}
    """What each of its networks runs for, by attribute."""

    @property
    @abstractmethod
    def card(self) -> Card:
        """What it is and can do."""

    @abstractmethod
    def signal(self, face: FaceInput) -> S:
        """What drives one frame for each face of the batch."""

    def window(self, signal: S) -> Tensor | None:  # noqa: ARG002  # for those that override it
        """Where the model draws under B signals: centre (x, y) and half a side (B,3) of a square, in the grid of the crop.

        None for a model that draws that crop.
        """
        return None

    @abstractmethod
    def prepare(self, face: FaceInput, view: Tensor | None = None) -> P:
        """All that a photo needs, once; for a batch of B photos.

        view (B,3,v,v) in [0,1]: the photo cut at the `window` of its own signal, sharper than what `face` shows of it.
        """

    @abstractmethod
    def render(self, prepared: P, signal: S, *, gain: Tensor | None = None) -> Rendered:
        """The prepared photo under B signals; prepared is of one photo, or of B. `gain`: see `gain`."""

    def gain(self, *, lips: float, eyes: float) -> Tensor | None:
        """What `render` takes to scale the movement of lips and eyes apart; None where both are 1.

        Raises ModelError for a model that can't.
        """
        if lips == eyes == 1:
            return None
        self.card.require("amplitude")
        raise NotImplementedError(f"{type(self).__name__} says that it can scale lips and eyes, but doesn't.")

    def fingerprint(self) -> dict[str, Tensor]:
        """The weights that give the numbers of its expression feature their meaning, by name; for the ability ``expressions``."""
        self.card.require("expressions")
        raise NotImplementedError(f"{type(self).__name__} says that it has expressions, but not which weights they hang on.")


class KeypointModel(PortraitModel[S, P]):
    """A model with keypoints, for those who measure them (ability ``keypoints``)."""

    @abstractmethod
    def canonical(self, face: FaceInput) -> Tensor:
        """Canonical keypoints x_c (B,K,3)."""

    @abstractmethod
    def keypoints(self, canonical: Tensor, signal: S, *, gain: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keypoints in the image and the deformation, both (B,K,3), of canonical keypoints under a signal."""


AnyKeypointModel = KeypointModel[Any, Any]
