"""The model that composes the networks (Fig. 2a), whatever feeds them: the base of the kinds `lite` and `paper`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..motion import Motion, compose, jacobian
from ..nets.appearance import SourceFeatures
from ..nets.dense_motion import DenseFlow
from ..portrait import FaceInput, KeypointModel, Per, Rendered


@dataclass(frozen=True)
class Reading:
    """Canonical keypoints (B,K,3) and motion of B faces."""

    canonical: Tensor
    motion: Motion

    def __getitem__(self, index: slice) -> Reading:
        """Some of them."""
        return Reading(self.canonical[index], self.motion[index])


@dataclass(frozen=True)
class Source:
    """Everything that is computed once per source photo, batch of B."""

    features: SourceFeatures
    canonical: Tensor
    motion: Motion
    keypoints: Tensor

    def expand(self, count: int) -> Source:
        """The one source, repeated as a batch without copying."""
        features = self.features.mapped(lambda tensor: tensor.expand(count, *tensor.shape[1:]), shared=True)
        return self._with(features, lambda tensor: tensor.expand(count, *tensor.shape[1:]), self.motion.expand(count))

    def __getitem__(self, index: slice | Tensor) -> Source:
        """Some sources of the batch."""
        return self._with(self.features.mapped(lambda tensor: tensor[index]), lambda tensor: tensor[index], self.motion[index])

    def _with(self, features: SourceFeatures, change: Callable[[Tensor], Tensor], motion: Motion) -> Source:
        return Source(features, change(self.canonical), motion, change(self.keypoints))


@dataclass(frozen=True)
class Moved:
    """Driving keypoints and deformation (B,K,3), and the dense flow to them."""

    keypoints: Tensor
    deformation: Tensor
    flow: DenseFlow


@dataclass(frozen=True, kw_only=True)
class Rendering(Rendered):
    """images: coarsest first, the last is the patch. The rest is what the losses need."""

    images: tuple[Tensor, ...]
    keypoints: Tensor
    deformation: Tensor
    flow: DenseFlow


class MMFA(KeypointModel[Motion, Source]):
    """MMFA: explicit canonical keypoints, ``s R (x_c + d) + t``, d from (f, x_c), a warped 3D volume.

    A kind brings the networks, and says how x_c (`canonical`), s, t and f (`motion`) and the photo's features (`features`) are
    read.
    """

    runs_per: ClassVar[Mapping[str, Per]] = {
        "appearance": "source photo",
        "canonical_detector": "source photo",
        "affine": "both",
        "expression_encoder": "both",
        "expression_decoder": "both",
        "dense_motion": "driving frame",
        "generator": "driving frame",
    }
    appearance: nn.Module
    canonical_detector: nn.Module
    affine: nn.Module
    expression_encoder: nn.Module
    expression_decoder: nn.Module
    dense_motion: nn.Module
    generator: nn.Module

    def __init__(self, params: Any) -> None:
        super().__init__()
        self.params = params

    def motion_networks(self) -> list[nn.Module]:
        """The networks between the frozen priors and the keypoints."""
        return [self.canonical_detector, self.affine, self.expression_encoder, self.expression_decoder]

    @abstractmethod
    def canonical(self, face: FaceInput) -> Tensor:
        """Canonical keypoints x_c (B,K,3)."""

    @abstractmethod
    def motion(self, face: FaceInput) -> Motion:
        """Motion (R, s, t, f) of each face."""

    @abstractmethod
    def features(self, image: Tensor, keypoints: Tensor, motion: Motion) -> SourceFeatures:
        """The features of a photo (B,3,S,S) with keypoints (B,K,3)."""

    def signal(self, face: FaceInput) -> Motion:
        """What drives a frame is its motion."""
        return self.motion(face)

    def keypoints(self, canonical: Tensor, signal: Motion, *, gain: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keypoints in the image and the deformation, both (B,K,3), of canonical keypoints under a motion (eq. 5).

        The deformation is multiplied by the motion's intensity, and each keypoint's by `gain` (K,1) if given.
        """
        with full_precision(canonical):
            deformation = signal.intensity[:, :, None] * self.expression_decoder(signal.expression, canonical)
            if gain is not None:
                deformation = gain * deformation
            placed = compose(canonical, deformation, signal, mode=self.params.composition)
        return placed, deformation

    def read(self, face: FaceInput) -> Reading:
        """What the motion networks see in faces."""
        return Reading(self.canonical(face), self.motion(face))

    def prepare(
        self,
        face: FaceInput,
        view: Tensor | None = None,  # noqa: ARG002  # for kinds that draw in a window
        *,
        reading: Reading | None = None,
    ) -> Source:
        """All that a source photo needs, once. reading: what `read` says of it, if that is known already."""
        reading = reading or self.read(face)
        canonical, motion = reading.canonical, reading.motion
        keypoints, _ = self.keypoints(canonical, motion)
        return Source(self.features(face.image, keypoints, motion), canonical, motion, keypoints)

    def move(self, source: Source, signal: Motion, *, gain: Tensor | None = None) -> Moved:
        """Where everything of the source goes under the driving motion; both of the same batch size. `gain`: see `keypoints`."""
        keypoints, deformation = self.keypoints(source.canonical, signal, gain=gain)
        with full_precision(keypoints):
            local = jacobian(source.motion, signal, mode=self.params.composition)
        flow = self.dense_motion(
            source.features.volume,
            source=source.keypoints,
            driving=keypoints,
            jacobian=local,
            scale=signal.scale,
        )
        return Moved(keypoints, deformation, flow)

    def render(self, prepared: Source, signal: Motion, *, gain: Tensor | None = None) -> Rendering:
        """The source under the driving motion: `move`, drawn. `gain`: see `keypoints`."""
        source = prepared if len(prepared.canonical) == len(signal) else prepared.expand(len(signal))
        moved = self.move(source, signal, gain=gain)
        images = self.generator(source.features, moved.flow)
        return Rendering(
            patch=images[-1], images=images, keypoints=moved.keypoints, deformation=moved.deformation, flow=moved.flow
        )

    def forward(self, source: FaceInput, driving: FaceInput) -> Rendering:
        """Reenactment as training does it: B sources, each under the motion of its driving face."""
        return self.render(self.prepare(source), self.motion(driving))

    def fingerprint(self) -> dict[str, Tensor]:
        """The weights of E_exp."""
        return {f"encoder.{name}": tensor for name, tensor in self.expression_encoder.state_dict().items()}


def full_precision(tensor: Tensor) -> torch.autocast:
    """Keypoints are positions: three digits of bfloat16 would make them tremble, so autocast stops before them."""
    return torch.autocast(tensor.device.type, enabled=False)
